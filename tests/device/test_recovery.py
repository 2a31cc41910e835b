"""Resets, commands that never end, and completions that nothing asked for.

Every command gets exactly one outcome, none before DMA to its buffer has stopped, and the
controller is usable afterwards.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from workload import Model, pattern

import pynvme_user as nvme
from pynvme_user import (
    Controller,
    ControllerFatalError,
    Namespace,
    NvmeStatusError,
    NvmeTimeoutError,
    QueuePair,
)
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.registers import CSTS

#: Namespace 1 answers after so many seconds, namespace 2 at once.
SLOW = "qemu:?driver=null-co&driver.latency-ns={:.0f}&size=1G&ns2.size=64M"


def usable(ctrl: Controller, ns: Namespace) -> None:
    """Fail unless old and new queue pairs carry data."""
    ctrl.timeout = 30.0  # a busy machine is no reason to give up
    data = pattern(int(time.monotonic() * 1000), 2 * ns.block_size).tobytes()
    ns.write(3, data)
    assert ns.read(3, 2) == data
    with ctrl.queue_pair(3) as qp:
        buffer = ctrl.alloc(2 * ns.block_size)
        for _ in range(5):
            qp.submit_read(ns, 3, 2, buffer)
            (done,) = qp.drain()
            assert done.status.ok
            assert bytes(buffer) == data
            buffer.fill(0)


# --- reset, on any device -----------------------------------------------------------------------


def test_reset_with_nothing_outstanding(controller: Controller, ns: Namespace) -> None:
    model = Model(ns, 1 << 20)
    for n in range(3):
        resets = controller.resets
        controller.reset()
        assert controller.resets == resets + 1
        assert controller.registers.read(CSTS).rdy
        model.check()
        usable(controller, ns)
        assert n >= 0


def test_reset_under_load(controller: Controller, ns: Namespace) -> None:
    """Announced or not: each command on each queue pair has one outcome, then all works."""
    model = Model(ns, 1 << 20)
    with controller.queue_pair(16) as first, controller.queue_pair(3) as second:
        for _ in range(3):
            cids: dict[QueuePair, set[int]] = {first: set(), second: set()}
            for qp, count in ((first, 16), (second, 2)):
                for n in range(count):
                    if n == 10:
                        qp.ring()
                    buffer = controller.alloc(ns.block_size)
                    cids[qp].add(qp.submit_read(ns, model.first + n, 1, buffer))
                if qp is second:
                    qp.ring()
            controller.reset()
            for qp, expected in cids.items():
                done = qp.drain()
                assert sorted(c.cid for c in done) == sorted(expected)
                assert {c.status for c in done} <= {HOST_ABORTED, 0}
                assert qp.outstanding == 0
                assert qp.poll() == []
            for qp in cids:
                buffer = controller.alloc(20 * ns.block_size)
                lbas = model.first + np.arange(20)
                qp.read_many(ns, lbas, 1, buffer).check()
                assert np.array_equal(buffer, model.part(model.first, 20))
    model.check()


def test_reset_in_the_middle_of_other_threads(controller: Controller, ns: Namespace) -> None:
    """Calls that were under way succeed or say that they were given up; none gets wrong data."""
    model = Model(ns, 1 << 20)
    stop = threading.Event()
    wrong: list[BaseException] = []
    given_up = [0, 0]

    def work(index: int) -> None:
        buffer = controller.alloc(len(model.data))
        while not stop.is_set():
            try:
                ns.read_into(model.first, buffer)
                assert np.array_equal(buffer, model.data)
            except BaseException as error:
                if isinstance(error, NvmeStatusError) and error.status == HOST_ABORTED:
                    given_up[index] += 1
                    continue
                wrong.append(error)
                return

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        time.sleep(0.02)
        controller.reset()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    model.check()
    usable(controller, ns)


# --- commands that never end --------------------------------------------------------------------


def test_an_admin_command_that_never_ends(controller: Controller, ns: Namespace) -> None:
    """Asynchronous Event Request waits for an event; here for none.

    Its abort ends it, or, on QEMU, which aborts nothing, a reset.
    """
    resets = controller.resets
    start = time.monotonic()
    with pytest.raises(NvmeTimeoutError, match="Async Event Request") as error:
        controller.admin(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=0.1)
    assert 0.1 <= time.monotonic() - start < 10
    aborted = "was aborted, having taken longer" in str(error.value)
    assert aborted or "was given up" in str(error.value)
    assert controller.resets == resets + (not aborted)
    usable(controller, ns)


@pytest.fixture
def slow(qemu: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    """A controller whose first namespace takes longer than a command may."""
    monkeypatch.setattr("pynvme_user.driver.device.Device.abort_seconds", 0.1)
    with nvme.open(SLOW.format(2.5e9)) as ctrl:
        ctrl.timeout = 0.5
        yield ctrl


def test_a_call_times_out(slow: Controller) -> None:
    start = time.monotonic()
    for count, length in enumerate((512, 4 << 20), 1):
        slow.timeout = 0.5
        with pytest.raises(NvmeTimeoutError, match=r"Read of .* was given up.*can be tried again"):
            slow.namespaces[1].read_into(0, bytearray(length))
        assert slow.resets == count
        usable(slow, slow.namespaces[2])
    assert time.monotonic() - start < 20


def test_commands_time_out(slow: Controller) -> None:
    """Their buffers stay theirs until then, and are free afterwards."""
    ns = slow.namespaces[1]
    with slow.queue_pair(4) as qp, slow.queue_pair(4) as other:
        iovas = set()
        for n in range(4):
            buffer = slow.alloc(4096)
            iovas.add(buffer.iova)
            qp.submit_write(ns, n * 8, 8, buffer)
        quick = slow.alloc(512)
        other.submit_read(slow.namespaces[2], 0, 1, quick)
        del buffer
        done: list[nvme.Completion] = []
        while not done:
            free = [slow.alloc(4096) for _ in range(8)]
            assert slow.resets or iovas.isdisjoint(buffer.iova for buffer in free)
            done = qp.wait(timeout=0.05)
        del free
        done += qp.drain()
        assert slow.resets == 1
        assert sorted(c.cid for c in done) == [0, 1, 2, 3]
        assert {c.status for c in done} == {HOST_ABORTED}
        assert all(0.5e9 < c.latency_ns < 20e9 for c in done)
        again = [slow.alloc(4096) for _ in range(8)]
        assert iovas <= {buffer.iova for buffer in again}
        # The reset took the other queue pair's command, too, with one outcome of its own.
        (done_there,) = other.drain()
        assert done_there.status in (HOST_ABORTED, 0)
    usable(slow, slow.namespaces[2])


def test_a_vector_times_out(slow: Controller) -> None:
    buffer = slow.alloc(10 * 512)
    with slow.queue_pair(4) as qp:
        result = qp.read_many(slow.namespaces[1], range(10), 1, buffer)
        assert result.status.tolist() == [int(HOST_ABORTED)] * 10
        with pytest.raises(NvmeTimeoutError, match="I/O 0 was given up"):
            result.check()
        assert slow.resets == 1
        assert qp.outstanding == 0
        assert not qp.read_many(slow.namespaces[2], range(10), 1, buffer).status.any()
    usable(slow, slow.namespaces[2])


def test_late_but_in_time_for_the_reset(qemu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ended before its time was up: by itself, a success, or aborted.

    QEMU 7.2 aborts nothing, QEMU 10.0 does. To Abort both answer that nothing was aborted.
    """
    with nvme.open(SLOW.format(0.5e9)) as ctrl:
        aborted: list[bool] = []
        commands = ctrl._commands
        abort = commands.abort
        monkeypatch.setattr(commands, "abort", lambda *where: aborted.append(abort(*where)))
        ctrl.pool.release(ctrl.pool.acquire())  # a queue pair, while there is time for it
        ctrl.timeout = 0.2
        data = said = None
        try:
            data = ctrl.namespaces[1].read(0, 1)
        except NvmeTimeoutError as error:
            said = str(error)
        assert aborted == [False]
        assert data == bytes(512) if said is None else "was aborted, having taken longer" in said
        assert ctrl.resets == 0
        usable(ctrl, ctrl.namespaces[2])


# --- completions of nothing ---------------------------------------------------------------------


def forge(pair: QueuePair, cid: int, sqid: int) -> None:
    """Put a completion where the controller's next one belongs."""
    state = pair._ring._qp
    entry = pair.queue.cq.view(np.uint16).reshape(-1, 8)[state.cq_head]
    entry[4:] = 0, sqid, cid, state.expected >> 48


@pytest.mark.parametrize(("cid", "sqid"), [(999, None), (3, None), (0, 77)])
def test_a_completion_of_nothing(qemu: None, cid: int, sqid: int | None) -> None:
    with nvme.open(SLOW.format(1e9)) as ctrl, ctrl.queue_pair(4) as qp:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(512)
        running = qp.submit_read(ns, 0, 1, buffer)
        qp.ring()
        forge(qp, cid, qp.qid if sqid is None else sqid)
        with pytest.raises(ControllerFatalError, match="not outstanding"):
            qp.wait()
        assert ctrl.resets == 1
        assert [(c.cid, c.status) for c in qp.drain()] == [(running, HOST_ABORTED)]
        (done,) = (qp.submit_read(ns, 0, 1, buffer), qp.drain())[1]
        assert done.status.ok
        usable(ctrl, ctrl.namespaces[2])


def test_a_completion_of_nothing_under_a_vector(qemu: None) -> None:
    with nvme.open(SLOW.format(1e9)) as ctrl, ctrl.queue_pair(4) as qp:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(100 * 512)
        forge(qp, 999, qp.qid)
        with pytest.raises(ControllerFatalError):
            qp.read_many(ns, range(100), 1, buffer)
        assert ctrl.resets == 1
        assert qp.outstanding == 0
        assert qp.drain() == []
        qp.read_many(ns, range(4), 1, buffer).check()
        usable(ctrl, ctrl.namespaces[2])


def test_what_a_failed_call_left_is_not_the_next_ones(qemu: None) -> None:
    """The pooled queue pair goes on with the next call, not with the outcome of the last."""
    with nvme.open(SLOW.format(1e9)) as ctrl:
        ns = ctrl.namespaces[1]
        ns.read(0, 1)
        with ctrl.pool.acquired() as pair:
            forge(pair, 999, pair.qid)
        with pytest.raises(ControllerFatalError):
            ns.read(0, 1)
        assert ns.read(0, 1) == bytes(512)
        ns.flush()
        usable(ctrl, ctrl.namespaces[2])


# --- ctrl-C -------------------------------------------------------------------------------------


def interrupt_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    return timer


def test_interrupted_vector(qemu: None) -> None:
    """Drained, so that the buffer is the user's again; what was not submitted stays undone."""
    with nvme.open(SLOW.format(0.02e9)) as ctrl, ctrl.queue_pair(4) as qp:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(4096 * 512)
        start = time.monotonic()

        def interrupt() -> None:
            while not qp._ring.completed:
                time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            qp.read_many(ns, range(4096), 1, buffer)
        thread.join()
        assert time.monotonic() - start < 15  # of the 20 s that it would take
        assert qp.outstanding == 0
        assert 0 < qp._ring.completed < 4096
        assert qp._loop_owner is None
        qp.read_many(ns, range(4), 1, buffer).check()
        usable(ctrl, ctrl.namespaces[2])


@pytest.mark.parametrize("length", [512, 64 << 20], ids=["one command", "many"])
def test_interrupted_call(qemu: None, length: int) -> None:
    with nvme.open(SLOW.format(1e9)) as ctrl:
        ns = ctrl.namespaces[1]
        timer = interrupt_after(0.1)
        with pytest.raises(KeyboardInterrupt):
            ns.read_into(0, bytearray(length))
        timer.join()
        with ctrl.pool.acquired() as pair:
            assert pair.outstanding == 0
        assert ctrl.resets == 0
        assert ns.read(0, 1) == bytes(512)
        usable(ctrl, ctrl.namespaces[2])


def test_interrupted_twice(qemu: None) -> None:
    """A second ctrl-C while the first drains: still nothing answers for another call."""
    with nvme.open(SLOW.format(1.5e9)) as ctrl:
        ns = ctrl.namespaces[1]
        timers = [interrupt_after(0.1), interrupt_after(0.4)]
        with pytest.raises(KeyboardInterrupt):
            ns.read(0, 1)
        # On a busy machine the second may come only now.
        with contextlib.suppress(KeyboardInterrupt):
            timers[1].join()
        for timer in timers:
            timer.join()
        ns.flush()
        assert ns.read(5, 1) == bytes(512)
        usable(ctrl, ctrl.namespaces[2])
