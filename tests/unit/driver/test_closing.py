"""close() while other threads are in calls: each has a status or ClosedError, and no ring is torn.

``CLOSING_ROUNDS=1000`` closes so many times under 64 threads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from pool_rig import answer_kept
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import (
    ClosedError,
    Controller,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.driver.completion import Completion
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.testing import Outcome
from pynvme_user.transport.pcie import PcieTransport

THREADS = 64
ROUNDS = int(os.environ.get("CLOSING_ROUNDS", "3"))


@contextmanager
def running(work: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run work in a thread; give what it raised, once it has ended."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- 64 threads -----------------------------------------------------------------------------------


class Rest:
    """What is left of a controller for the test to look at."""

    def __init__(self, ctrl: Controller) -> None:
        self.rings = {id(ctrl._admin): ctrl._admin._ring}

        def made(pair: QueuePair) -> QueuePair:
            self.rings[id(pair)] = pair._ring
            return pair

        make = ctrl._queue_pairs.open
        ctrl._queue_pairs.open = lambda *args, **named: made(make(*args, **named))  # type: ignore[method-assign]

    def check(self) -> None:
        for ring in self.rings.values():
            ring.check()


def works(ctrl: Controller, n: int) -> Callable[[], int]:
    """One of the ways to use a controller; returns how many outcomes it saw."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(4096)

    def fast() -> int:
        ns.read_into(n, buffer[:512])
        return 1

    def bounced() -> int:
        ns.write(n, bytes(1024))
        return 1

    def split() -> int:
        ns.read_into(0, ctrl.alloc(64 << 10))
        return 1

    def flush() -> int:
        ns.flush()
        return 1

    def admin() -> int:
        ctrl.admin(AdminOpcode.IDENTIFY, cdw10=1, buffer=bytearray(4096))
        return 1

    def alloc() -> int:
        ctrl.alloc(5000)[:] = 7
        return 1

    def on_a_pair(depth: int = 5) -> int:
        try:
            pair = ctrl.queue_pair(depth)
        except QueueFullError:
            return 0
        seen = 0
        try:
            with pair:
                for lba in range(depth):
                    pair.submit_read(ns, lba, 1, buffer[:512])
                while seen < depth:
                    done = pair.wait()
                    assert done
                    seen += len(done)
                pair.read_many(ns, np.arange(40), 1, buffer, recycle=True).check()
        finally:
            if seen:
                assert seen == depth
        return seen

    return (fast, bounced, split, flush, fast, admin, alloc, on_a_pair)[n % 8]


def test_under_64_threads() -> None:
    ends: Counter[str] = Counter()
    for _ in range(ROUNDS):
        ctrl = Controller(PcieTransport(SoftController(queues=(6, 6))))
        rest = Rest(ctrl)
        wrong: list[object] = []
        begun = [0] * THREADS
        jobs = [works(ctrl, n) for n in range(THREADS)]

        def work(
            n: int,
            jobs: list[Callable[[], int]] = jobs,
            begun: list[int] = begun,
            wrong: list[object] = wrong,
        ) -> None:
            while True:
                try:
                    jobs[n]()
                    begun[n] += 1
                except ClosedError as error:
                    ends["unknown" if "outcome unknown" in str(error) else "closed"] += 1
                    return
                except BaseException as error:
                    wrong.append((n % 8, repr(error)))
                    return

        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        until(lambda begun=begun, wrong=wrong: sum(begun) > THREADS // 4 or wrong)
        ctrl.close()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        assert not wrong, wrong[:3]
        rest.check()
        assert all(ring.outstanding == 0 for ring in rest.rings.values())
    assert sum(ends.values()) == ROUNDS * THREADS
    print(ends)


# --- one call -------------------------------------------------------------------------------------


def blocked(ctrl: Controller) -> dict[str, Callable[[], object]]:
    """Calls that wait for a read which the device keeps, by their way to it."""
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
    pair = ctrl.queue_pair(3)

    def submitted(wait: Callable[[], list[Completion]]) -> int:
        pair.submit_read(ns, 0, 1, buffer[:512])
        (done,) = wait()
        return int(done.status)

    return {
        "transfer": lambda: ns.read_into(0, buffer),
        "bounced": lambda: ns.read(0, 1),
        "io": lambda: ctrl.io(NvmOpcode.READ, nsid=1, buffer=buffer[:512]),
        "wait": lambda: submitted(pair.wait),
        "drain": lambda: submitted(pair.drain),
    }


@pytest.mark.parametrize("close", ["controller", "pair"])
@pytest.mark.parametrize("how", ["transfer", "bounced", "io", "wait", "drain"])
def test_a_call_under_way_ends_with_its_status(
    soft: SoftController, ctrl: Controller, how: str, close: str
) -> None:
    soft.io = keep_reads
    call = blocked(ctrl)[how]
    seen: list[object] = []

    def work() -> None:
        try:
            seen.append(call())
        except NvmeStatusError as error:
            seen.append(int(error.status))

    with running(work) as raised:
        until(lambda: soft.kept)
        pairs = [pair for pair in ctrl._queue_pairs if pair.outstanding]
        closing = ctrl if close == "controller" else pairs[0]
        with running(closing.close) as raised_by_close:
            until(lambda: pairs[0].closed)
            time.sleep(0.25)  # beyond what C waits at once
            answer_kept(soft, Status(0x281))
    assert (raised, raised_by_close) == ([], [])
    assert seen == [0x281]
    assert pairs[0].outstanding == 0
    pairs[0]._ring.check()


@pytest.mark.parametrize("how", ["transfer", "io", "wait", "drain"])
def test_closed_between_two_looks_of_a_call(
    soft: SoftController, ctrl: Controller, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome that close() found is the call's all the same."""
    soft.io = keep_reads
    call = blocked(ctrl)[how]
    check_health = RawQueuePair._check_health
    looks: list[RawQueuePair] = []

    def late(pair: RawQueuePair, *, waited: bool) -> None:
        if pair.qid and pair.outstanding and not looks:
            looks.append(pair)
            closing = threading.Thread(target=pair.close)
            closing.start()
            until(lambda: pair.closed)
            answer_kept(soft, Status(0x281))
            closing.join()
        check_health(pair, waited=waited)

    monkeypatch.setattr(RawQueuePair, "_check_health", late)
    try:
        outcome = call()
    except NvmeStatusError as error:
        outcome = int(error.status)
    assert outcome == 0x281
    assert looks


def test_a_vector_is_cut_short(soft: SoftController, ctrl: Controller) -> None:
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
    pair = ctrl.queue_pair(4)
    lbas = np.zeros(1_000_000, np.uint64)
    with running(lambda: pair.read_many(ns, lbas, 1, buffer, recycle=True)) as raised:
        until(lambda: pair.outstanding)
        ctrl.close()
    (error,) = raised
    assert isinstance(error, ClosedError)
    assert "outcome unknown" in str(error)
    assert pair.outstanding == 0


def test_a_device_that_never_answers(soft: SoftController, ctrl: Controller) -> None:
    """The call has the status that the reset gives its command; close() waits for no more."""
    soft.io = keep_reads
    soft.abort_answer = False
    ctrl.timeout = 0.3
    with running(blocked(ctrl)["transfer"]) as raised:
        until(lambda: soft.kept)
        ctrl.close()
    (error,) = raised
    assert isinstance(error, (NvmeStatusError, NvmeTimeoutError))
    assert ctrl.resets == 1


def test_an_interrupted_close_says_that_the_outcome_is_unknown(
    soft: SoftController, ctrl: Controller
) -> None:
    """Nor does the deletion of its queue end the command."""
    seen: list[SQE] = []
    soft.io = lambda sqe: seen.append(sqe) or Outcome.LOSE
    pair = ctrl.queue_pair(3)
    pair.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    main = threading.main_thread().ident
    assert main is not None
    with running(pair.drain) as raised:
        until(lambda: seen)
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            pair.close()
        timer.join()
    (error,) = raised
    assert isinstance(error, ClosedError)
    assert "outcome unknown" in str(error)
    with pytest.raises(ClosedError, match="the queue pair is closed"):
        pair.poll()


def test_who_waits_for_a_queue_pair(ctrl: Controller) -> None:
    pairs = [ctrl.queue_pair(1) for _ in range(4)]
    with running(ctrl.namespaces[1].flush) as raised:
        until(lambda: ctrl.pool._line)
        ctrl.close()
    (error,) = raised
    assert isinstance(error, ClosedError)
    assert all(pair.closed for pair in pairs)


def test_two_threads_close(soft: SoftController, ctrl: Controller) -> None:
    """Neither returns before the end."""
    soft.io = keep_reads
    call = blocked(ctrl)["transfer"]
    ends: list[bool] = []

    def close() -> None:
        ctrl.close()
        ends.append(soft.log[-1] == "closed")

    with running(call):
        until(lambda: soft.kept)
        with running(close), running(close):
            until(lambda: ctrl.closed)
            time.sleep(0.1)
            assert not ends
            answer_kept(soft, OK)
    assert ends == [True, True]


# --- a queue pair in two threads ------------------------------------------------------------------


def test_a_queue_pair_in_two_threads(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    ns, pair, buffer = ctrl.namespaces[1], ctrl.queue_pair(3), ctrl.alloc(512)
    pair.submit_read(ns, 0, 1, buffer)
    with running(pair.drain) as raised:
        until(lambda: pair._inside)
        for call in (
            pair.poll,
            pair.wait,
            pair.drain,
            pair.ring,
            lambda: pair.submit_flush(ns),
            lambda: pair.submit_read(ns, 0, 1, buffer),
        ):
            until(lambda: pair._inside)
            with pytest.raises(NvmeError, match="a queue pair belongs to one thread"):
                call()
        answer_kept(soft, OK)
    assert raised == []
    pair.poll()  # one after the other they may


# --- queues of the user's own ---------------------------------------------------------------------


@pytest.mark.parametrize("both", [True, False])
def test_queues_that_the_user_made_stay(soft: SoftController, ctrl: Controller, both: bool) -> None:
    """queue_pair() with their id fails, says why, and deletes what it made, and that alone."""
    memory = ctrl.alloc(4096)
    cq = 1 if both else 2
    ctrl.admin(AdminOpcode.CREATE_IO_CQ, cdw10=cq | 7 << 16, cdw11=1, buffer=memory)
    ctrl.admin(AdminOpcode.CREATE_IO_SQ, cdw10=1 | 7 << 16, cdw11=1 | cq << 16, buffer=memory)
    mine = soft.queues
    for _ in range(2):
        with pytest.raises(NvmeError, match="queue id 1 is taken by a queue that queue_pair"):
            ctrl.queue_pair()
        assert soft.queues == mine
    for opcode, qid in ((AdminOpcode.DELETE_IO_SQ, 1), (AdminOpcode.DELETE_IO_CQ, cq)):
        ctrl.admin(opcode, cdw10=qid)
    with ctrl.queue_pair() as pair:
        assert pair.qid == 1
