"""One command that is waited for, on a queue pair: its way around the loops in C."""

from __future__ import annotations

import threading
import time

import pytest
from pool_rig import answer_kept, mapped, read, transfer, usable
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import (
    ClosedError,
    Controller,
    ControllerFatalError,
    DmaError,
)
from pynvme_user.driver.completion import HOST_ABORTED, TIMED_OUT
from pynvme_user.driver.waiter import Waiter
from pynvme_user.ring import transfer_run
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.status import Status


def test_the_status_comes_through(soft: SoftController, ctrl: Controller) -> None:
    statuses = [0x002, 0x281, 0x7FFF, 0x7800, 0]
    with ctrl.queue_pair(3) as pair:
        soft.io = lambda sqe: Status(statuses[sqe.cdw10])
        assert [read(ctrl, pair, lba) for lba in range(5)] == statuses
        assert pair.outstanding == 0
        assert pair.waiter.pinned == ()


def test_what_was_left_is_waited_for_first(soft: SoftController, ctrl: Controller) -> None:
    order: list[int] = []

    def look(sqe: SQE) -> Status:
        order.append(sqe.cdw10)
        return Status(0x281 if sqe.cdw10 == 5 else 0)

    soft.io = look
    with ctrl.queue_pair(3) as pair:
        for lba in (5, 6):
            pair.submit_read(ctrl.namespaces[1], lba, 1, ctrl.alloc(512))
        assert read(ctrl, pair, 7) == 0
        assert order == [5, 6, 7]
        assert pair.outstanding == 0


def test_one_that_takes_longer_than_a_slice(soft: SoftController, ctrl: Controller) -> None:
    """C gives up; the command is found by the wait that follows, with its own status."""
    soft.io = keep_reads
    with ctrl.queue_pair(3) as pair:
        timer = threading.Timer(0.35, answer_kept, (soft, Status(0x285)))
        timer.start()
        assert read(ctrl, pair) == 0x285
        timer.join()
        soft.io = lambda _: OK
        assert read(ctrl, pair) == 0


def test_one_that_never_ends(soft: SoftController, ctrl: Controller) -> None:
    ctrl.timeout = 0.2
    soft.io = keep_reads
    soft.abort_answer = False
    with ctrl.queue_pair(3) as pair:
        assert read(ctrl, pair) == HOST_ABORTED | TIMED_OUT
        assert ctrl.resets == 1
        soft.io = lambda _: OK
        ctrl.timeout = 30.0
        assert read(ctrl, pair) == 0


def test_a_completion_of_nothing_resets(soft: SoftController, ctrl: Controller) -> None:
    """What the reset ended does not answer for the next call."""
    with ctrl.queue_pair(3) as pair:

        def wrong(sqe: SQE) -> None:
            soft.complete(soft._queues[pair.qid], sqe.replace(cid=2), OK)

        soft.io = wrong
        with pytest.raises(ControllerFatalError, match="not outstanding"):
            read(ctrl, pair)
        assert ctrl.resets == 1
        # So slow that its end is found by the wait that follows C's.
        soft.io = keep_reads
        threading.Timer(0.25, answer_kept, (soft, Status(0x281))).start()
        assert read(ctrl, pair) == 0x281
    soft.io = lambda _: OK
    usable(ctrl)


def test_misaligned_and_too_long(soft: SoftController, ctrl: Controller) -> None:
    with ctrl.queue_pair(3) as pair:
        with pytest.raises(DmaError, match="multiple of 4"):
            transfer(ctrl, pair, 0, mapped(ctrl, 512, offset=2))
        with pytest.raises(DmaError, match="larger than"):
            transfer(ctrl, pair, 0, mapped(ctrl, 64 << 10))
        assert pair.outstanding == 0
        assert read(ctrl, pair) == 0


def test_closed(ctrl: Controller) -> None:
    pair = ctrl.queue_pair(3)
    pair.close()
    with pytest.raises(ClosedError, match="queue pair is closed"):
        read(ctrl, pair)


# --- reset beside transfers -----------------------------------------------------------------------


def test_resets_from_another_thread(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outcome is lost or exchanged, and no transfer is in C while the rings are begun anew."""
    in_c = 0
    wrong: list[object] = []
    outcomes: list[int] = []
    stop = threading.Event()
    pair = ctrl.queue_pair(3)
    soft.io = lambda sqe: Status(0x200 | sqe.cdw10 & 0x7F)
    restart = pair.restart

    def watched(transfer: object) -> int:
        nonlocal in_c
        in_c += 1
        try:
            time.sleep(0)  # let go of the GIL before C, where the handshake has to hold, too
            return transfer_run(transfer)
        finally:
            in_c -= 1

    def restart_watched(*args: object) -> None:
        for _ in range(20):
            if in_c:
                wrong.append("a transfer was in C during the restart")
            time.sleep(0)
        restart(*args)  # type: ignore[arg-type]

    pair.restart = restart_watched  # type: ignore[method-assign]
    monkeypatch.setattr("pynvme_user.driver.pool.transfer_run", watched)

    def work() -> None:
        lba = 0
        while not stop.is_set():
            lba += 1
            try:
                status = read(ctrl, pair, lba)
            except BaseException as error:
                wrong.append(error)
                return
            outcomes.append(status)
            if status not in (0x200 | lba & 0x7F, HOST_ABORTED):
                wrong.append((lba, status))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(60):
        seen = len(outcomes)
        ctrl.reset()
        while len(outcomes) < seen + 2 and thread.is_alive():
            time.sleep(0.0005)
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert not wrong
    assert ctrl.resets == 60
    assert len(outcomes) > 60
    assert pair.outstanding == 0
    pair.close()


def test_stopped_waits_for_c(soft: SoftController, ctrl: Controller) -> None:
    """Whoever holds the queue pair still has it for himself, and later transfers wait."""
    soft.io = keep_reads
    with ctrl.queue_pair(3) as pair:
        thread = threading.Thread(target=read, args=(ctrl, pair))
        thread.start()
        while not soft.kept:
            time.sleep(0.001)
        assert pair.waiter.busy
        with pair.stopped():
            assert not pair.waiter.busy
            for _ in range(20):
                time.sleep(0.01)
                assert not pair.waiter.busy
            assert pair.outstanding == 1
        answer_kept(soft, OK)
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert pair.outstanding == 0


def test_a_transfer_that_comes_while_it_is_stopped(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.cdw10) or OK
    with ctrl.queue_pair(3) as pair:
        with pair.stopped():
            thread = threading.Thread(target=read, args=(ctrl, pair, 9))
            thread.start()
            time.sleep(0.1)
            assert seen == []
            assert pair.outstanding == 0
        thread.join(timeout=60)
        assert seen == [9]


def test_each_side_says_first_and_looks_then(ctrl: Controller) -> None:
    """The order of the handshake: either of the two sees the other, whoever is the quicker."""
    log: list[str] = []

    class Watched(Waiter):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            if name in ("ready", "busy"):
                log.append(f"look {name}")
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: object) -> None:
            if name in ("ready", "busy"):
                log.append(f"{name} {value}")
            super().__setattr__(name, value)

    with ctrl.queue_pair(3) as pair:
        assert read(ctrl, pair) == 0
        pair.waiter.__class__ = Watched
        assert read(ctrl, pair) == 0
        assert log == ["busy True", "look ready", "busy False"]
        log.clear()
        with pair.stopped():
            assert log == ["ready False", "look busy"]
        pair.waiter.__class__ = Waiter
