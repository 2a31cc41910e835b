"""An overdue command is cancelled, where the controller has Cancel; else aborted, as ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pynvme_user as nvme
from pynvme_user import AdminOpcode, Controller, NvmOpcode
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.spec.cancel import CancelAction, CancelCdw10, CancelCdw11, CancelResult
from pynvme_user.spec.commands import NSID_ALL, SQE
from pynvme_user.spec.logs import CommandEffectsLog, LogId
from pynvme_user.spec.status import GenericStatus
from pynvme_user.testing import Command, Outcome, SoftDevice, faults
from pynvme_user.testing.faults import Rule

#: Of a command, in seconds, once nothing is outstanding that is to end by itself.
SHORT = 0.05
READ = SQE.build(opc=NvmOpcode.READ, nsid=1)
KEPT = 7


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reset because a busy machine is slow to cancel."""
    monkeypatch.setattr("pynvme_user.driver.device.Device.abort_seconds", 60.0)


@pytest.fixture
def device() -> SoftDevice:
    """It executes a command while its doorbell is rung: none but what is kept is ever overdue."""
    return SoftDevice("?size=1M&commands=all&inline=1")


@pytest.fixture
def ctrl(device: SoftDevice) -> Iterator[Controller]:
    with nvme.open(device, timeout=SHORT) as ctrl:
        yield ctrl


def watched(device: SoftDevice, opcode: int, *, admin: bool = False) -> Rule:
    """Count commands of an opcode, which are executed as they are."""
    return device.order(faults.answer(lambda _: Outcome.EXECUTE), opc=opcode, admin=admin)


def kept_read(qp: QueuePair, memory: object) -> int:
    return qp.submit(READ.replace(cdw10=KEPT), memory)


def test_cancel_in_place_of_abort(device: SoftDevice, ctrl: Controller) -> None:
    sent: list[SQE] = []

    def see(command: Command) -> Outcome:
        sent.append(command.sqe)
        return Outcome.EXECUTE

    memory = ctrl.alloc(4096)
    with (
        ctrl.queue_pair(8) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ, lbas=range(KEPT, KEPT + 1)),
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
        device.order(faults.answer(see), opc=NvmOpcode.CANCEL),
    ):
        cid = kept_read(qp, memory[:512])
        other = qp.submit(READ, memory[512:1024])
        done = {one.cid: one for one in qp.drain()}
        assert done.keys() == {cid, other}, "a Cancel is no command of the caller's"
        assert done[other].status.ok
        assert done[cid].status.code() == GenericStatus.ABORTED_BY_REQUEST
        assert done[cid].timed_out
        assert qp.outstanding == 0
        (cancel,) = sent
        assert cancel.nsid == NSID_ALL
        assert cancel.cdw10 == CancelCdw10.build(sqid=qp.qid, cid=cid)
        assert cancel.cdw11 == CancelCdw11.build(acode=CancelAction.SINGLE)
        assert aborts.seen == 0
        # And once more: nothing of the last one is left.
        kept_read(qp, memory[:512])
        (again,) = qp.drain()
        assert again.status.code() == GenericStatus.ABORTED_BY_REQUEST
        assert (aborts.seen, len(sent)) == (0, 2)


def test_a_call_that_waits(device: SoftDevice, ctrl: Controller) -> None:
    """The blocking call's buffer is the device's until the cancelled command has its end."""
    ns = ctrl.namespaces[1]
    assert bytes(ns.read(0, 1)) == bytes(512)
    with (
        device.order(faults.keep(), opc=NvmOpcode.READ, times=1),
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
        watched(device, NvmOpcode.CANCEL) as cancels,
    ):
        with pytest.raises(nvme.NvmeTimeoutError):
            ns.read(KEPT, 1)
        assert (cancels.seen, aborts.seen) == (1, 0)
        assert bytes(ns.read(KEPT, 1)) == bytes(512)


def test_the_buffer_stays_the_devices(device: SoftDevice, ctrl: Controller) -> None:
    """A Cancel that ends before what it cancels frees nothing."""

    def deferred(command: Command) -> int:
        command.dw0 = CancelResult.build(ceda=1)
        return 0

    memory = ctrl.alloc(4096)
    with (
        ctrl.queue_pair(8) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ),
        device.order(faults.answer(deferred), opc=NvmOpcode.CANCEL) as cancels,
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
    ):
        cid = kept_read(qp, memory[:512])
        while not cancels.acted or qp.outstanding > 1:
            assert qp.wait(0.05) == []
        held = qp._buffers[cid & qp.index_mask]
        assert held is not None
        assert aborts.seen == 0
        device.release(GenericStatus.ABORTED_BY_REQUEST)
        (done,) = qp.drain()
        assert done.timed_out
        assert qp._buffers[cid & qp.index_mask] is None


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "in vain"])
def test_what_is_not_cancelled_is_aborted(
    device: SoftDevice, ctrl: Controller, refused: bool
) -> None:
    status = GenericStatus.INVALID_FIELD if refused else 0
    memory = ctrl.alloc(4096)
    with (
        ctrl.queue_pair(8) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ),
        device.order(faults.answer(lambda _: status), opc=NvmOpcode.CANCEL) as cancels,
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
    ):
        cid = kept_read(qp, memory[:512])
        while not aborts.seen:
            assert qp.wait(0.05) == []
        device.release(GenericStatus.ABORTED_BY_REQUEST)
        (done,) = qp.drain()
        assert (done.cid, done.timed_out) == (cid, True)
        assert (cancels.seen, aborts.seen) == (1, 1)


def test_a_full_queue(device: SoftDevice, ctrl: Controller) -> None:
    """There is no place for a Cancel."""
    memory = ctrl.alloc(4096)
    with (
        ctrl.queue_pair(2) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ),
        watched(device, NvmOpcode.CANCEL) as cancels,
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
    ):
        for part in range(2):
            qp.submit(READ, memory[part * 512 :][:512])
        while not aborts.seen:
            qp.wait(0.05)
        assert cancels.seen == 0
        device.release()
        qp.drain()


def test_a_vector(device: SoftDevice, ctrl: Controller) -> None:
    """A loop in C has the queue for itself: Abort, as ever."""
    memory = ctrl.alloc(8 * 512)
    with (
        ctrl.queue_pair(8) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ, lbas=range(KEPT, KEPT + 1)),
        watched(device, NvmOpcode.CANCEL) as cancels,
        device.order(
            faults.answer(lambda _: Outcome.EXECUTE), opc=AdminOpcode.ABORT, admin=True
        ) as aborts,
    ):
        result = qp.read_many(ctrl.namespaces[1], range(8), 1, memory)
        assert result.timed_out
        assert cancels.seen == 0
        assert aborts.seen == 1


def test_a_reset_takes_a_cancel_with_it(
    device: SoftDevice, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not end, as what it was to cancel: neither is left, and one is told."""
    monkeypatch.setattr("pynvme_user.driver.device.Device.abort_seconds", 0.2)
    memory = ctrl.alloc(4096)
    with ctrl.queue_pair(8) as qp:
        with (
            device.order(faults.keep(), opc=NvmOpcode.READ),
            device.order(faults.keep(), opc=NvmOpcode.CANCEL) as cancels,
        ):
            cid = kept_read(qp, memory[:512])
            (done,) = qp.drain()
            assert cancels.seen == 1
        assert done.cid == cid
        assert done.status == HOST_ABORTED
        qp.submit(READ, memory[:512])
        (after,) = qp.drain()
        assert after.status.ok


@pytest.mark.parametrize("why", ["plain", "not listed", "log refused", "no log", "old"])
def test_a_controller_without_cancel(why: str) -> None:
    device = SoftDevice("?inline=1" if why == "plain" else "?commands=all&inline=1")
    aborts = watched(device, AdminOpcode.ABORT, admin=True)
    if why == "not listed":
        device.set_log(LogId.COMMAND_EFFECTS, bytes(CommandEffectsLog.build()))
    elif why == "log refused":
        refuse = faults.answer(
            lambda command: (
                GenericStatus.INVALID_FIELD
                if command.sqe.cdw10 & 0xFF == LogId.COMMAND_EFFECTS
                else Outcome.EXECUTE
            )
        )
        device.order(refuse, opc=AdminOpcode.GET_LOG_PAGE, admin=True)
    with nvme.open(device, timeout=SHORT) as ctrl:
        if why in ("no log", "old"):
            lacks = {"lpa": 0} if why == "no log" else {"ver": 0x0001_0400}
            ctrl._device.identify = ctrl.identify.replace(**lacks)
            ctrl._device.cancels = ctrl._commands.has_cancel()
        with (
            ctrl.queue_pair(8) as qp,
            device.order(faults.keep(), opc=NvmOpcode.READ),
            watched(device, NvmOpcode.CANCEL) as cancels,
        ):
            cid = kept_read(qp, ctrl.alloc(512))
            (done,) = qp.drain()
            assert (done.cid, done.timed_out) == (cid, True)
            assert (cancels.seen, aborts.seen) == (0, 1)


def test_batches(device: SoftDevice, ctrl: Controller) -> None:
    """A Cancel has no tag, and is in nobody's way."""
    ns, memory = ctrl.namespaces[1], ctrl.alloc(4096)
    with (
        ctrl.queue_pair(8) as qp,
        device.order(faults.keep(), opc=NvmOpcode.READ, lbas=range(KEPT, KEPT + 1)),
        watched(device, AdminOpcode.ABORT, admin=True) as aborts,
        watched(device, NvmOpcode.CANCEL) as cancels,
    ):
        for turn in (1, 2):
            assert qp.submit_many(ns, NvmOpcode.READ, [KEPT, 0], 1, memory, tags=[5, 6]) == 2
            ended: dict[int, int] = {}
            late = False
            while len((done := qp.reap(None)).tags):
                ended |= dict(zip(done.tags.tolist(), done.status.tolist(), strict=True))
                late |= done.timed_out
            assert ended == {5: GenericStatus.ABORTED_BY_REQUEST, 6: 0}
            assert late
            assert (cancels.seen, aborts.seen, qp.outstanding) == (turn, 0, 0)
        qp.submit(READ, memory[:512])
        assert [one.status.ok for one in qp.drain()] == [True]
