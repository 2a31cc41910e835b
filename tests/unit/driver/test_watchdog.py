"""Deadlines and health are looked at by time, whatever else completes; and the clock is held
against CLOCK_MONOTONIC before a command is aborted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from generator_rig import endless
from ring_rig import Rig
from soft_controller import OK, SoftController

from pynvme_user import Controller, ControllerFatalError, NvmeStatusError, NvmeTimeoutError
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.native import ClockWatch, ffi, lib
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.registers import CC, CSTS
from pynvme_user.spec.status import Status
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.loop import Workload

#: An LBA whose command is kept for ever, beside others that complete.
KEPT = 777
TIMEOUT = 0.5


@pytest.fixture
def ctrl(soft: SoftController, impatient: None) -> Iterator[Controller]:
    with Controller(PcieTransport(soft), ready_timeout=2) as ctrl:
        ctrl.namespaces[1].read(0, 1)  # identified, and a queue pair made, with time for it
        ctrl.timeout = TIMEOUT
        yield ctrl


def keep_one(sqe: SQE) -> Status | None:
    return None if sqe.cdw10 == KEPT else OK


# --- a command that never ends, beside others that do ---------------------------------------------


def test_poll_beside_others(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_one
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    with ctrl.queue_pair(4) as qp:
        slow = qp.submit_read(ns, KEPT, 1, buffer)
        start = time.monotonic()
        done, others = {}, 0
        while slow not in done:
            assert time.monotonic() - start < 60
            qp.submit_read(ns, 0, 1, buffer)
            done = {end.cid: end for end in qp.wait()}
            others += len(done)
    assert others > 10
    assert done[slow].timed_out
    assert time.monotonic() - start >= TIMEOUT
    assert "abort" in soft.log


@pytest.mark.parametrize("aborts", [True, False])
def test_a_vector(soft: SoftController, ctrl: Controller, aborts: bool) -> None:
    """Found before the vector's end: the thousands of I/Os behind it would take far longer."""
    soft.abort_answer = aborts
    stop = threading.Event()
    soft.io = lambda sqe: None if sqe.cdw10 == KEPT else OK
    lbas = np.zeros(1_000_000, np.uint64)
    lbas[5] = KEPT
    with ctrl.queue_pair(8) as qp:
        timer = threading.Timer(60, stop.set)
        timer.start()
        threading.Thread(target=end_vector, args=(qp, soft, stop), daemon=True).start()
        result = qp.read_many(ctrl.namespaces[1], lbas, 1, ctrl.alloc(8 * 512), recycle=True)
        found = not stop.is_set()
        timer.cancel()
        stop.set()
    assert found, "not before the vector was stopped"
    assert "abort" in soft.log
    assert result.status[5]
    assert result.timed_out


def end_vector(qp: object, soft: SoftController, stop: threading.Event) -> None:
    """Stop the vector once the overdue command had its end, so that the test has one, too."""
    while not stop.is_set() and (soft.kept or "abort" not in soft.log):
        time.sleep(0.01)
    loop = qp._loop  # type: ignore[attr-defined]
    if loop is not None:
        loop.stop()


def test_a_workload(soft: SoftController, ctrl: Controller) -> None:
    soft.io = lambda sqe: None if not soft.log.count("abort") and sqe.cdw10 == KEPT else OK
    memory = ctrl.alloc(8 * 512)
    work = Workload(
        endless(),
        commands={0: bytes(SQE.build(opc=NvmOpcode.READ, nsid=1))},
        buffer=memory,
        queue_depth=8,
        block_shift=9,
    )
    geometry = ctrl.namespaces[1].current()
    start = time.monotonic()
    with ctrl.queue_pair(8) as qp:
        while "abort" not in soft.log:
            assert time.monotonic() - start < 60
            qp.run_loop(work, 50_000_000, geometry=geometry, owner=memory)
        work.stop()
        while not qp.run_loop(work, 50_000_000, geometry=geometry, owner=memory):
            pass
    assert work.completed > 100
    assert len(work.errors) == 1


# --- the controller's health ----------------------------------------------------------------------


def test_a_fatal_error_under_load(soft: SoftController, ctrl: Controller) -> None:
    """CSTS.CFS is seen though completions still come."""
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    soft.io = keep_one
    with ctrl.queue_pair(4) as qp:
        qp.submit_read(ns, KEPT, 1, buffer)
        soft._csts = soft._csts.replace(cfs=1)
        start = time.monotonic()

        def load() -> None:
            while time.monotonic() - start < 60:
                qp.submit_read(ns, 0, 1, buffer)
                qp.wait()

        with pytest.raises(ControllerFatalError, match="CFS"):
            load()
        assert ctrl.resets == 1
        assert all(end.status == HOST_ABORTED for end in qp.drain())


@pytest.mark.parametrize("register", ["CC.EN", "CSTS.RDY"])
def test_disabled_by_somebody_else(soft: SoftController, ctrl: Controller, register: str) -> None:
    """Not the timeout of the command is waited for: the next look finds it."""
    ctrl.timeout = 1000.0
    ns = ctrl.namespaces[1]
    if register == "CC.EN":
        ctrl.registers.write(ctrl.registers.read(CC).replace(en=0))
    else:
        soft._csts = CSTS.build(rdy=0)
        soft.io = lambda _: None
    start = time.monotonic()
    with pytest.raises(ControllerFatalError, match="disabled by somebody else"):
        ns.read(0, 1)
    assert time.monotonic() - start < 100
    assert ctrl.resets == 1
    soft.io = lambda _: OK
    ns.read(0, 1)


# --- time going back and ahead --------------------------------------------------------------------


class Clock:
    """Takes the place of the processor's counter: nanoseconds, ``shift`` of them wrong."""

    def __init__(self) -> None:
        self.shift = 10**15  # far from 0, wherever it goes
        self._read = ffi.callback("uint64_t(void)", self._now)

    def _now(self) -> int:
        return time.monotonic_ns() + self.shift

    @contextmanager
    def used(self) -> Iterator[None]:
        lib.nvme_tick_rate()
        clock = lib.nvme_clock
        before = clock.read, clock.ns_per_tick, clock.ticks_per_ns, clock.rate
        clock.read, clock.ns_per_tick, clock.ticks_per_ns = self._read, 1 << 32, 1 << 32
        clock.rate = 1_000_000_000
        try:
            yield
        finally:
            clock.read, clock.ns_per_tick, clock.ticks_per_ns, clock.rate = before


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with clock.used():
        yield clock


SECOND = 1_000_000_000


@pytest.mark.parametrize("step", [-SECOND, -3600 * SECOND])
def test_no_latency_is_negative(clock: Clock, step: int) -> None:
    rig = Rig()
    cid = rig.submit()
    rig.ring.ring_doorbell()
    clock.shift += step
    assert rig.ring.oldest() == (cid, 0.0)
    rig.complete(cid)
    assert rig.ring.poll()["latency_ns"].tolist() == [0]
    rig.submit()
    rig.ring.ring_doorbell()
    clock.shift += step
    assert rig.ring.abort_all(0x371)["latency_ns"].tolist() == [0]


@pytest.mark.parametrize("step", [-SECOND, -3600 * SECOND, 3600 * SECOND])
def test_a_wait_has_its_end(clock: Clock, step: int) -> None:
    rig = Rig()
    rig.submit()
    rig.ring.ring_doorbell()
    timer = threading.Timer(0.05, lambda: setattr(clock, "shift", clock.shift + step))
    timer.start()
    start = time.monotonic()
    assert len(rig.ring.wait(200_000_000)) == 0
    assert time.monotonic() - start < 60
    timer.join()


def test_the_watch(clock: Clock) -> None:
    watch = ClockWatch()
    assert not watch.stepped()
    for step in (-SECOND, SECOND, 3600 * SECOND):
        clock.shift += step
        assert watch.stepped()
        assert not watch.stepped()
    clock.shift += 1_000_000  # a thread that lost its CPU between two readings is no step
    assert not watch.stepped()


@pytest.mark.parametrize("step", [-SECOND, 3600 * SECOND])
def test_no_healthy_command_is_aborted(
    clock: Clock, soft: SoftController, impatient: None, step: int
) -> None:
    """The counter steps while a read is under way that takes a third of the timeout."""
    with Controller(PcieTransport(soft), timeout=30) as ctrl:
        ns = ctrl.namespaces[1]
        soft.io = lambda _: None
        with ctrl.queue_pair(2) as qp:
            cid = qp.submit_read(ns, 0, 1, ctrl.alloc(512))
            qp.ring()
            clock.shift += step
            assert qp.wait(0.3) == []
            queue, sqe = soft.kept.pop()
            soft.complete(queue, sqe, OK)
            (done,) = qp.wait()
        assert done.cid == cid
        assert done.status.ok
        assert done.latency_ns < 60 * SECOND
        assert "abort" not in soft.log
        assert ctrl.resets == 0


def test_one_that_is_overdue_is_aborted_all_the_same(
    clock: Clock, soft: SoftController, ctrl: Controller
) -> None:
    soft.io = lambda _: None
    timer = threading.Timer(0.1, lambda: setattr(clock, "shift", clock.shift - 3600 * SECOND))
    timer.start()
    with pytest.raises((NvmeTimeoutError, NvmeStatusError)):
        ctrl.namespaces[1].read(0, 1)
    timer.join()
    assert "abort" in soft.log
