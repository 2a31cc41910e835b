"""The controller's way out of what goes wrong, on a device that can be told to do it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import (
    Controller,
    ControllerFatalError,
    DeviceRemovedError,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.registers import CC, CSTS
from pynvme_user.spec.status import CommandSpecificStatus, Status
from pynvme_user.transport.pcie import PcieTransport

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def ctrl(soft: SoftController) -> Iterator[Controller]:
    with Controller(PcieTransport(soft), timeout=0.3) as ctrl:
        yield ctrl


def usable(ctrl: Controller) -> None:
    ctrl.timeout = 30.0  # a busy machine is no reason to give up
    ctrl.namespaces[1].write(0, bytes(512))
    ctrl.namespaces[1].flush()
    with ctrl.queue_pair(3) as qp:
        for _ in range(9):
            qp.submit_flush(ctrl.namespaces[1])
            assert [done.status for done in qp.drain()] == [OK]


# --- coming up ----------------------------------------------------------------------------------


def test_it_works_at_all(soft: SoftController, ctrl: Controller) -> None:
    usable(ctrl)
    assert soft.log == ["enable"]
    ctrl.close()
    assert soft.log == ["enable", "shutdown", "disable", "closed"]


@pytest.mark.parametrize("state", ["enabled", "starting", "failed", "shut down"])
def test_a_controller_in_any_state(soft: SoftController, state: str) -> None:
    """What the last user left is quiesced first: disabled, and its queues forgotten."""
    soft.becomes_ready = state != "starting"
    soft.fatal_when_enabled = state == "failed"
    soft.enable_by_somebody(CC.build(en=1, shn=1 if state == "shut down" else 0))
    soft.becomes_ready, soft.fatal_when_enabled = True, False
    soft.log.clear()
    # EN may not be cleared before RDY is set: it is waited for, and does not come.
    stopped = "bus reset" if state == "starting" else "disable"
    with Controller(PcieTransport(soft), ready_timeout=0.3) as ctrl:
        assert soft.log == [stopped, "enable"]
        usable(ctrl)


def test_fatal_when_enabled(soft: SoftController) -> None:
    soft.fatal_when_enabled = True
    with pytest.raises(ControllerFatalError, match=r"CSTS.CFS\) when it was enabled"):
        Controller(PcieTransport(soft))
    assert soft.log == ["enable", "disable", "closed"]


def test_gone_from_the_beginning(soft: SoftController) -> None:
    soft.gone = True
    with pytest.raises(DeviceRemovedError, match="its registers read all ones"):
        Controller(PcieTransport(soft))
    assert soft.log == ["closed"]


def test_pages_that_are_too_large() -> None:
    soft = SoftController(mpsmin=4)
    with pytest.raises(NvmeError, match="smallest memory page is 65536 bytes"):
        Controller(PcieTransport(soft))
    assert soft.log == ["closed"]


@pytest.mark.parametrize("dstrd", [0, 1, 4])
def test_doorbell_strides(dstrd: int) -> None:
    with Controller(PcieTransport(SoftController(dstrd=dstrd))) as ctrl:
        usable(ctrl)


@pytest.mark.parametrize(("queues", "pairs"), [((3, 5), 3), ((5, 2), 2), ((1, 1), 1)])
def test_the_lesser_of_the_queues_granted(queues: tuple[int, int], pairs: int) -> None:
    with Controller(PcieTransport(SoftController(queues=queues))) as ctrl:
        assert ctrl.max_queue_pairs == pairs
        for _ in range(pairs):
            ctrl.queue_pair(2)
        with pytest.raises(QueueFullError, match=f"grants {pairs} I/O queue pairs"):
            ctrl.queue_pair(2)


# --- timeout, Abort, reset ----------------------------------------------------------------------


def test_aborted(soft: SoftController, ctrl: Controller) -> None:
    """The controller aborted the command: it ends as timed out, and there is no reset."""
    soft.io = keep_reads
    with pytest.raises(NvmeTimeoutError, match="was aborted"):
        ctrl.namespaces[1].read(0, 1)
    assert soft.log == ["enable", "abort"]
    assert ctrl.resets == 0
    usable(ctrl)


@pytest.mark.parametrize("answer", [False, None], ids=["not aborted", "no answer"])
def test_not_aborted(soft: SoftController, ctrl: Controller, answer: bool | None) -> None:
    soft.io = keep_reads
    soft.abort_answer = answer
    with pytest.raises(NvmeTimeoutError, match="was given up"):
        ctrl.namespaces[1].read(0, 1)
    assert soft.log == ["enable", "abort", "disable", "enable"]
    assert ctrl.resets == 1
    usable(ctrl)


def interrupted(ctrl: Controller) -> None:
    """An admin command that is not answered, and ctrl-C after a while."""
    main = threading.main_thread().ident
    assert main is not None
    ctrl_c = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ctrl.admin(opcode=0xC0, timeout=30.0)
    ctrl_c.join()


def test_an_interrupted_admin_command_ends_before_the_next_begins(
    soft: SoftController, ctrl: Controller
) -> None:
    """Whether its queue is there is known to a deletion only then."""
    order: list[str] = []
    kept: list[SQE] = []

    def admin(sqe: SQE) -> Status | None:
        order.append(f"{sqe.opc:#x}")
        if sqe.opc == 0xC0:
            kept.append(sqe)
            return None
        return OK

    def answer() -> None:
        order.append("answered")
        soft.complete(soft._queues[0], kept[0], OK)

    soft.admin = admin
    interrupted(ctrl)
    timer = threading.Timer(0.05, answer)
    timer.start()
    ctrl.admin(opcode=0xC1)
    timer.join()
    assert order == ["0xc0", "answered", "0xc1"]
    assert ctrl.resets == 0


def test_an_interrupted_admin_command_that_never_ends(
    soft: SoftController, ctrl: Controller
) -> None:
    """The next one has its own time, after a reset."""
    soft.admin = lambda sqe: None if sqe.opc == 0xC0 else OK
    interrupted(ctrl)
    ctrl.admin(opcode=0xC1)
    assert ctrl.resets == 1
    usable(ctrl)


@pytest.mark.parametrize("answer", [True, False])
def test_what_abort_returns(soft: SoftController, ctrl: Controller, answer: bool) -> None:
    """Bit 0 of dword 0 set means not aborted."""
    soft.io = keep_reads
    soft.abort_answer = answer
    with ctrl.queue_pair(4) as qp:
        cid = qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
        qp.ring()
        while not soft.kept:
            time.sleep(0.001)
        assert ctrl.abort(qp.qid, cid) is answer
        assert len(qp.poll()) == answer


def test_no_outcome_before_dma_has_stopped(soft: SoftController, ctrl: Controller) -> None:
    """When CC.EN is cleared nothing has an outcome yet, and every buffer is still held."""
    soft.io = keep_reads
    ns = ctrl.namespaces[1]
    with ctrl.queue_pair(4) as first, ctrl.queue_pair(4) as second:
        for qp in (first, second):
            for n in range(3):
                qp.submit_read(ns, n, 1, ctrl.alloc(512))
            qp.ring()
        seen: list[tuple[int, int]] = []

        def look() -> None:
            for qp in (first, second):
                assert sum(buffer is not None for buffer in qp._buffers) == 3
                seen.append((qp.outstanding, len(qp.unclaimed)))

        soft.on_disable = look
        ctrl.reset()
        soft.on_disable = lambda: None
        assert seen == [(3, 0), (3, 0)]
        for qp in (first, second):
            assert [(d.cid, d.status) for d in qp.drain()] == [(n, HOST_ABORTED) for n in range(3)]
            assert qp.drain() == []
    usable(ctrl)


def test_the_bus_resets_what_does_not_obey(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    soft.becomes_disabled = False
    with ctrl.queue_pair(4) as qp:
        qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
        qp.ring()
        ctrl.reset()
        assert soft.log == ["enable", "disable", "bus reset", "enable"]
        assert [done.status for done in qp.drain()] == [HOST_ABORTED]
    usable(ctrl)


def test_a_reset_that_fails(soft: SoftController, ctrl: Controller) -> None:
    """The controller says why, and can only be closed."""
    soft.becomes_ready = False
    with pytest.raises(ControllerFatalError, match=r"the reset failed: .* did not become ready"):
        ctrl.reset()
    for call in (lambda: ctrl.queue_pair(1), lambda: ctrl.admin(6), ctrl.reset):
        with pytest.raises(ControllerFatalError, match="failed and can only be closed"):
            call()
    ctrl.close()
    assert soft.log[-1] == "closed"


def test_dma_that_cannot_be_stopped(soft: SoftController, ctrl: Controller) -> None:
    """No outcome is made up for a command whose buffer may still be written to."""
    soft.io = keep_reads
    qp = ctrl.queue_pair(4)
    qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    qp.ring()
    soft.becomes_disabled = False
    stop_dma, soft.stop_dma = soft.stop_dma, lambda: None  # type: ignore[method-assign]
    with pytest.raises(ControllerFatalError, match="did not become disabled"):
        ctrl.reset()
    assert qp.outstanding == 1
    assert qp._buffers[0] is not None
    for call in (qp.poll, qp.drain):
        with pytest.raises(ControllerFatalError, match="can only be closed"):
            call()
    soft.stop_dma = stop_dma  # type: ignore[method-assign]


# --- queues that are not made, or not deleted ---------------------------------------------------


def at_first(opcode: int, status: Status | None) -> Callable[[SQE], Status | None]:
    """Give the first admin command of this kind the status; None keeps it for ever."""
    left = [status]
    return lambda sqe: left.pop() if left and sqe.opc == opcode else OK


@pytest.mark.parametrize("opcode", [AdminOpcode.CREATE_IO_CQ, AdminOpcode.CREATE_IO_SQ])
@pytest.mark.parametrize(("refused", "aborted"), [(True, True), (False, True), (False, False)])
def test_queues_that_are_not_made(
    soft: SoftController, ctrl: Controller, opcode: AdminOpcode, refused: bool, aborted: bool
) -> None:
    """Nothing of them stays behind: their id can be used."""
    soft.abort_answer = aborted
    status = Status.of(CommandSpecificStatus.INVALID_QUEUE_SIZE)
    soft.admin = at_first(opcode, status if refused else None)
    with pytest.raises(NvmeStatusError if refused else NvmeTimeoutError):
        ctrl.queue_pair(4)
    assert ctrl.resets == (not refused and not aborted)
    with ctrl.queue_pair(4) as qp:
        assert qp.qid == 1
    usable(ctrl)


@pytest.mark.parametrize("opcode", [AdminOpcode.DELETE_IO_SQ, AdminOpcode.DELETE_IO_CQ])
@pytest.mark.parametrize("aborted", [True, False])
def test_queues_that_are_not_deleted(
    soft: SoftController, ctrl: Controller, opcode: AdminOpcode, aborted: bool
) -> None:
    """The reset ends them, and does not make them again; the other pair's it does.

    Where the deletion is aborted, they are deleted before the next pair is made.
    """
    soft.abort_answer = aborted
    with ctrl.queue_pair(4) as kept:
        qp = ctrl.queue_pair(4)
        soft.admin = at_first(opcode, None)
        with pytest.raises(NvmeTimeoutError, match="Delete Io"):
            qp.close()
        assert ctrl.resets == (not aborted)
        if not aborted:
            assert set(soft._queues) == {0, kept.qid}
        with ctrl.queue_pair(4) as again:
            assert again.qid == qp.qid
            assert set(soft._queues) == {0, kept.qid, qp.qid}
        kept.submit_flush(ctrl.namespaces[1])
        assert [done.status for done in kept.drain()] == [OK]
    usable(ctrl)


# --- a fatal error, a removal -------------------------------------------------------------------


def test_a_fatal_error(soft: SoftController, ctrl: Controller) -> None:
    """CSTS.CFS: seen while waiting, reset, and everything outstanding has its end."""
    soft.io = keep_reads
    with ctrl.queue_pair(4) as qp:
        for n in range(2):
            qp.submit_read(ctrl.namespaces[1], n, 1, ctrl.alloc(512))
        qp.ring()
        soft.fail()
        with pytest.raises(ControllerFatalError, match=r"fatal error \(CSTS.CFS\) and was reset"):
            qp.wait()
        assert ctrl.resets == 1
        assert [done.status for done in qp.drain()] == [HOST_ABORTED] * 2
    usable(ctrl)


def test_a_fatal_error_under_a_vector(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    ns = ctrl.namespaces[1]
    with ctrl.queue_pair(4) as qp:
        soft.fail()
        with pytest.raises(ControllerFatalError):
            qp.read_many(ns, range(9), 1, ctrl.alloc(9 * 512))
        assert qp.outstanding == 0
        assert qp.drain() == []
    usable(ctrl)


def test_a_fatal_error_under_a_call(soft: SoftController, ctrl: Controller) -> None:
    """The same for one command that is waited for in C; the next call does not get its end."""
    soft.io = keep_reads
    buffer = ctrl.alloc(512)
    threading.Timer(0.05, soft.fail).start()
    with pytest.raises(ControllerFatalError, match=r"fatal error \(CSTS.CFS\) and was reset"):
        ctrl.namespaces[1].read_into(0, buffer)
    assert ctrl.resets == 1
    soft.io = lambda sqe: Status(0x281) if sqe.cdw10 == 7 else OK
    with pytest.raises(NvmeError, match="LBA 7"):
        ctrl.namespaces[1].read_into(7, buffer)
    usable(ctrl)


def test_a_fatal_error_under_an_admin_command(soft: SoftController, ctrl: Controller) -> None:
    """The next admin command does not get the end of this one, whose CID it has."""
    soft.fail()
    with pytest.raises(ControllerFatalError):
        ctrl.identify_page(1)
    assert ctrl.identify_page(1) == bytes(ctrl.identify)
    usable(ctrl)


@pytest.mark.parametrize("how", ["call", "transfer", "wait", "poll", "vector", "admin"])
def test_registers_of_all_ones(soft: SoftController, ctrl: Controller, how: str) -> None:
    """The device is gone, for everything outstanding, soon; and closing does not wait for it."""
    soft.io = keep_reads
    ns = ctrl.namespaces[1]
    qp = ctrl.queue_pair(4)
    buffer = ctrl.alloc(4 * 512)
    if how in ("wait", "poll"):
        qp.submit_read(ns, 0, 4, buffer)
        qp.ring()
    soft.gone = True

    def poll() -> None:
        while not qp.poll():
            pass

    calls = {
        "call": lambda: ns.read(0, 1),
        "transfer": lambda: ns.read_into(0, buffer),
        "wait": qp.wait,
        "poll": poll,
        "vector": lambda: qp.read_many(ns, range(4), 1, buffer),
        "admin": lambda: ctrl.admin(6, cdw10=1, buffer=bytearray(4096)),
    }
    start = time.monotonic()
    with pytest.raises(DeviceRemovedError, match="gone"):
        calls[how]()
    assert time.monotonic() - start < 15  # a command would have had 30 seconds
    assert ctrl.removed
    for name, call in calls.items():
        if name == "wait" and not qp.outstanding:
            assert qp.wait() == []
            continue
        with pytest.raises(DeviceRemovedError, match="is gone: open the device again"):
            call()
    start = time.monotonic()
    ctrl.close()
    assert time.monotonic() - start < 5  # a shutdown would have had 10
    assert soft.log == ["enable", "closed"]
    buffer[:] = 1


def test_one_register_of_all_ones_is_a_value(soft: SoftController, ctrl: Controller) -> None:
    """Only VS, which never reads all ones, tells a removal."""
    soft.forced[0x24] = 0xFFFF_FFFF
    assert int(ctrl.registers.aqa) == 0xFFFF_FFFF
    assert not ctrl.removed
    assert ctrl.registers.read(CSTS).rdy


# --- what reaches the device --------------------------------------------------------------------


def test_the_dwords_of_each_command(soft: SoftController, ctrl: Controller) -> None:
    """Opcode, CDW10 to 12 as the NVM Command Set has them: NLB, FUA (bit 30), DEAC (bit 25)."""
    seen: list[tuple[int, int, int, int, int]] = []

    def look(sqe: SQE) -> Status:
        seen.append((sqe.opc, sqe.nsid, sqe.cdw11 << 32 | sqe.cdw10, sqe.cdw12, sqe.cdw13))
        return OK

    soft.io = look
    ns = ctrl.namespaces[1]
    long, data = bytes(20 << 10), bytes(1024)  # MDTS is 16 KiB
    for fua in (False, True):
        bit = fua << 30
        ns.read(5, 2, fua=fua)
        ns.write(5, data, fua=fua)
        ns.compare(5, data, fua=fua)
        ns.write_zeroes(5, 2, fua=fua)
        ns.write_zeroes(5, 2, deallocate=True, fua=fua)
        assert seen == [
            *((opcode, 1, 5, 1 | bit, 0) for opcode in (2, 1, 5, 8)),
            (8, 1, 5, 1 | 1 << 25 | bit, 0),
        ]
        seen.clear()
        ns.write(5, long, fua=fua)
        assert sorted(seen) == [(1, 1, 5, 31 | bit, 0), (1, 1, 37, 7 | bit, 0)]
        seen.clear()
        with ctrl.queue_pair(4) as qp:
            qp.submit_read(ns, 7, 1, ctrl.alloc(512), fua=fua)
            qp.submit_write(ns, 7, 1, ctrl.alloc(512), fua=fua)
            qp.submit_compare(ns, 7, 1, ctrl.alloc(512), fua=fua)
            qp.submit_write_zeroes(ns, 7, 1, fua=fua)
            qp.drain()
            qp.read_many(ns, [7], 1, ctrl.alloc(512), fua=fua).check()
            qp.write_many(ns, [7], 1, ctrl.alloc(512), fua=fua).check()
        assert seen == [(opcode, 1, 7, bit, 0) for opcode in (2, 1, 5, 8, 2, 1)]
        seen.clear()
    ns.flush()
    ns.deallocate([(3, 4), (9, 1)])
    assert seen == [(0, 1, 0, 0, 0), (9, 1, 4 << 32 | 1, 0, 0)]
