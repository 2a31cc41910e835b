"""What the software controller does wrong when it is told to, and what the driver makes of it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.errors import (
    ControllerFatalError,
    DeviceRemovedError,
    NvmeStatusError,
    NvmeTimeoutError,
)
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.spec.status import GenericStatus, MediaStatus, Status
from pynvme_user.testing import Command, Outcome, SoftDevice, faults

READ, WRITE = NvmOpcode.READ, NvmOpcode.WRITE


@pytest.fixture(params=["", "&inline=1"], ids=["thread", "inline"])
def device(request: pytest.FixtureRequest, impatient: None) -> SoftDevice:
    return SoftDevice(f"?size=1M{request.param}")


@pytest.fixture
def ctrl(device: SoftDevice) -> Iterator[Controller]:
    with nvme.open(device, timeout=1, ready_timeout=1) as ctrl:
        yield ctrl


@pytest.fixture
def ns(ctrl: Controller) -> Namespace:
    return ctrl.namespaces[1]


@pytest.fixture
def qp(ctrl: Controller) -> Iterator[QueuePair]:
    with ctrl.queue_pair(4) as qp:
        yield qp


def usable(ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    ns.write(0, b"u" * 512)
    assert ns.read(0, 1) == b"u" * 512


# --- which commands -------------------------------------------------------------------------------


def test_the_nth_and_each_so_many_th(device: SoftDevice, ns: Namespace) -> None:
    fault = faults.status(MediaStatus.UNRECOVERED_READ_ERROR)
    with device.order(fault, opc=READ, nth=3, every=2, times=2) as rule:
        failed = {}
        for turn in range(1, 11):
            ns.write(0, bytes(512))
            try:
                ns.read(0, 1)
            except NvmeStatusError as error:
                failed[turn] = error.status
        assert failed == dict.fromkeys((3, 5), Status.of(MediaStatus.UNRECOVERED_READ_ERROR))
        assert (rule.seen, rule.acted) == (10, 2)
    assert device.counts().planted == 2
    ns.read(0, 1)


def test_which_blocks(device: SoftDevice, ns: Namespace) -> None:
    device.order(faults.status(0x281), lbas=range(10, 12))
    ns.flush()
    for lba, blocks, fails in ((0, 10, False), (12, 1, False), (8, 3, True), (11, 9, True)):
        if fails:
            with pytest.raises(NvmeStatusError):
                ns.read(lba, blocks)
        else:
            ns.read(lba, blocks)


def test_which_queue(device: SoftDevice, ctrl: Controller, ns: Namespace, qp: QueuePair) -> None:
    device.order(faults.status(GenericStatus.INTERNAL_ERROR), qid=qp.qid)
    ns.flush()
    qp.submit_flush(ns)
    (done,) = qp.drain()
    assert done.status.code() == GenericStatus.INTERNAL_ERROR


def test_admin_commands(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    rule = device.order(
        faults.status(GenericStatus.INVALID_FIELD), admin=True, opc=AdminOpcode.IDENTIFY
    )
    with pytest.raises(NvmeStatusError, match="Invalid Field"):
        ctrl.identify_page(Cns.CONTROLLER)
    ns.read(0, 1)
    rule.remove()
    rule.remove()
    ctrl.identify_page(Cns.CONTROLLER)
    with pytest.raises(KeyError):
        _ = rule.seen


def test_the_first_rule_acts(device: SoftDevice, ns: Namespace) -> None:
    first = device.order(faults.status(0x281), opc=READ, times=1)
    second = device.order(faults.status(0x282), opc=READ)
    for expected in (0x281, 0x282):
        with pytest.raises(NvmeStatusError) as error:
            ns.read(0, 1)
        assert error.value.status == expected
    assert (first.seen, second.seen) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (faults.none(), {"nth": 0}),
        (faults.none(), {"every": 0}),
        (faults.none(), {"delay": -1}),
        (faults.none(), {"lbas": range(0, 8, 2)}),
        (faults.none(), {"lbas": range(8, 8)}),
        (faults.torn_write(0), {}),
        (faults.read_flip(), {"admin": True}),
        (faults.read_flip(), {"delay": 1.0}),
        (faults.lost_write(), {"qid": 1}),
    ],
)
def test_what_no_rule_can_be(
    device: SoftDevice, fault: faults.Fault, options: dict[str, object]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        device.order(fault, **options)  # type: ignore[arg-type]
    device.close()


def test_no_more_rules_than_there_is_room_for(device: SoftDevice) -> None:
    rules = [device.order(faults.none()) for _ in range(64)]
    with pytest.raises(ValueError, match="up to 64"):
        device.order(faults.none())
    rules[10].remove()
    device.order(faults.none())
    device.close()


# --- time -----------------------------------------------------------------------------------------


def test_a_delay(device: SoftDevice, ns: Namespace) -> None:
    with device.order(faults.none(), opc=READ, delay=0.05, times=1):
        started = time.monotonic()
        ns.read(0, 1)
        assert time.monotonic() - started >= 0.05
        took = []
        for _ in range(10):
            started = time.monotonic()
            ns.read(0, 1)
            took.append(time.monotonic() - started)
        assert min(took) < 0.05


def test_a_status_after_a_delay(device: SoftDevice, ns: Namespace) -> None:
    device.order(faults.status(0x281), opc=READ, delay=0.05)
    started = time.monotonic()
    with pytest.raises(NvmeStatusError):
        ns.read(0, 1)
    assert time.monotonic() - started >= 0.05


# --- commands that do not end ---------------------------------------------------------------------


def test_what_is_kept_is_aborted(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    device.order(faults.keep(), opc=READ, times=1)
    with pytest.raises(NvmeTimeoutError):
        ns.read(0, 1)
    assert (ctrl.resets, device.kept) == (0, [])
    usable(ctrl)


def test_what_is_kept_is_released(
    device: SoftDevice, ctrl: Controller, ns: Namespace, qp: QueuePair
) -> None:
    device.order(faults.keep(), opc=READ)
    buffer = ctrl.alloc(1536)
    for lba in range(3):
        qp.submit_read(ns, lba, 1, buffer[:512])
    qp.ring()
    until(lambda: len(device.kept) == 3)
    assert device.release(GenericStatus.INTERNAL_ERROR) == 3
    done = qp.drain()
    assert [one.status.code() for one in done] == [GenericStatus.INTERNAL_ERROR] * 3
    assert (device.kept, device.release()) == ([], 0)


def test_what_is_kept_is_ended_one_by_one(
    device: SoftDevice, ctrl: Controller, ns: Namespace, qp: QueuePair
) -> None:
    device.order(faults.keep(), opc=READ)
    cids = [qp.submit_read(ns, lba, 1, ctrl.alloc(512)) for lba in range(3)]
    qp.ring()
    until(lambda: len(device.kept) == 3)
    assert [(qid, sqe.cid, sqe.cdw10) for qid, sqe in device.kept] == [
        (qp.qid, cid, lba) for lba, cid in enumerate(cids)
    ]
    with pytest.raises(KeyError, match="no command 9999"):
        device.end(qp.qid, 9999)
    for cid in reversed(cids):
        device.end(qp.qid, cid, 0x281)
        (done,) = qp.wait()
        assert (done.cid, done.status) == (cid, 0x281)
    assert qp.qid in device.queues[0] & device.queues[1]


def test_a_completion_of_nobodys(device: SoftDevice, ctrl: Controller, qp: QueuePair) -> None:
    with pytest.raises(KeyError, match="queue 99"):
        device.post(99, 1)
    device.post(qp.qid, 3)
    with pytest.raises(ControllerFatalError):
        qp.poll()
    assert ctrl.resets == 1
    usable(ctrl)


def test_what_is_lost_costs_a_reset(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    device.order(faults.lose(), opc=READ, times=1)
    with pytest.raises(NvmeTimeoutError):
        ns.read(0, 1)
    assert ctrl.resets == 1
    usable(ctrl)


def test_an_abort_without_an_answer(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    device.order(faults.keep(), opc=READ, times=1)
    device.order(faults.lose(), admin=True, opc=AdminOpcode.ABORT)
    with pytest.raises(NvmeTimeoutError):
        ns.read(0, 1)
    assert ctrl.resets == 1
    usable(ctrl)


def test_a_queue_that_is_deleted_ends_what_it_keeps(
    device: SoftDevice, ctrl: Controller, ns: Namespace
) -> None:
    device.order(faults.keep(), opc=READ)
    qp = ctrl.queue_pair(4)
    cids = [qp.submit_read(ns, lba, 1, ctrl.alloc(512)) for lba in range(2)]
    qp.ring()
    until(lambda: len(device.kept) == 2)
    ctrl.admin(AdminOpcode.DELETE_IO_SQ, cdw10=qp.qid)
    done = {one.cid: one.status.code() for one in qp.poll()}
    assert done == dict.fromkeys(cids, GenericStatus.ABORTED_SQ_DELETION)
    ctrl.reset()


def test_an_event(device: SoftDevice, ctrl: Controller) -> None:
    assert not device.send_event(0x010002)
    raised: list[int] = []

    def wait() -> None:
        raised.append(ctrl.admin(AdminOpcode.ASYNC_EVENT_REQUEST).result)

    ctrl.timeout = 5
    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: device.send_event(0x010002))
    waiter.join()
    assert raised == [0x010002]
    assert device.kept == []


def until(condition: object) -> None:
    deadline = time.monotonic() + 10
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- completions that are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        faults.twice(),
        faults.wrong_cid(),
        faults.wrong_cid(0x8000),
        faults.wrong_sqid(),
        faults.wrong_phase(),
    ],
)
def test_a_wrong_completion_is_found(
    device: SoftDevice, ctrl: Controller, ns: Namespace, qp: QueuePair, fault: faults.Fault
) -> None:
    buffer = ctrl.alloc(512)
    device.order(fault, opc=READ, qid=qp.qid, nth=2, times=1)

    def reads() -> None:
        for _ in range(4):
            qp.submit_read(ns, 0, 1, buffer)
            for done in qp.drain():
                if done.timed_out:
                    raise NvmeTimeoutError("it was")

    with pytest.raises((ControllerFatalError, NvmeTimeoutError)):
        reads()
    assert ctrl.resets == 1
    usable(ctrl)


# --- the controller as a whole --------------------------------------------------------------------


def test_a_fatal_error(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    device.order(faults.fatal(), opc=WRITE, nth=2, times=1)
    ns.write(0, bytes(512))
    with pytest.raises(ControllerFatalError, match=r"CSTS\.CFS"):
        ns.write(0, bytes(512))
    assert ctrl.resets == 1
    usable(ctrl)
    device.fail()
    with pytest.raises(ControllerFatalError):
        ns.read(0, 1)
    usable(ctrl)


def test_a_device_that_goes_away(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    device.order(faults.gone(), opc=READ, nth=2)
    ns.read(0, 1)
    with pytest.raises(DeviceRemovedError):
        ns.read(0, 1)
    with pytest.raises(DeviceRemovedError):
        ns.write(0, bytes(512))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("never_ready", NvmeTimeoutError),
        ("fatal_when_enabled", ControllerFatalError),
        ("gone", DeviceRemovedError),
    ],
)
def test_a_controller_that_does_not_start(
    device: SoftDevice, how: str, error: type[Exception]
) -> None:
    device.misbehave(**{how: True})
    with pytest.raises(error):
        nvme.open(device, ready_timeout=0.3)


def test_a_controller_that_only_the_bus_disables(device: SoftDevice) -> None:
    with nvme.open(device, ready_timeout=0.3) as ctrl:
        device.misbehave(never_disabled=True)
        ctrl.reset()
        assert ctrl.resets == 1
        usable(ctrl)


def test_a_shutdown_that_does_not_end(device: SoftDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    ctrl = nvme.open(device, ready_timeout=0.3)
    ctrl._shutdown_seconds = 0.3
    device.misbehave(never_shut_down=True)
    with pytest.warns(nvme.ControllerWarning, match="shut down"):
        ctrl.close()


def test_pages_of_identify(device: SoftDevice) -> None:
    page = IdentifyController.build(nn=1, mn="another", sn="77", mdts=1)
    device.set_identify(Cns.CONTROLLER, bytes(page))
    with pytest.raises(ValueError, match="4096 bytes"):
        device.set_identify(Cns.CONTROLLER, b"")
    with nvme.open(device) as ctrl:
        assert (ctrl.identify.mn, ctrl.identify.sn, ctrl.max_transfer) == ("another", "77", 8192)


# --- data -----------------------------------------------------------------------------------------

OLD, NEW = bytes(range(256)) * 8, bytes(reversed(range(256))) * 8


def test_faults_of_data(device: SoftDevice, ns: Namespace) -> None:
    def one(fault: faults.Fault, opc: NvmOpcode) -> bytes:
        """Four blocks that held the old data are written with the new."""
        ns.write(0, OLD * 8)
        assert ns.read(0, 4) == OLD
        with device.order(fault, opc=opc) as rule:
            ns.write(0, NEW)
            found = ns.read(0, 4)
            assert rule.acted == 1
        return bytes(found)

    assert one(faults.read_flip(9), READ) == NEW[:1] + bytes([NEW[1] ^ 2]) + NEW[2:]
    assert ns.read(0, 4) == NEW
    assert one(faults.write_flip(8), WRITE) == NEW[:1] + bytes([NEW[1] ^ 1]) + NEW[2:]
    assert one(faults.torn_write(3), WRITE) == NEW[:1536] + OLD[1536:]
    assert one(faults.lost_write(), WRITE) == OLD
    assert one(faults.misdirected_write(4), WRITE) == OLD
    assert ns.read(4, 4) == NEW
    with device.order(faults.kept_trim()):
        ns.deallocate([(0, 4)])
        assert ns.read(0, 4) == OLD
    ns.deallocate([(0, 4)])
    assert not any(ns.read(0, 4))


def test_stale_data(device: SoftDevice, ns: Namespace) -> None:
    device.order(faults.stale_read())
    ns.write(0, OLD)
    ns.write(0, NEW)
    assert ns.read(0, 4) == NEW
    assert ns.read(0, 4) == OLD


# --- answers in Python ----------------------------------------------------------------------------


def test_a_function_that_answers(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    seen: list[tuple[int, int, bytes]] = []

    def ask(command: Command) -> Status | GenericStatus | Outcome:
        lba = command.sqe.cdw10
        assert device.kept == []  # it may look
        assert command.qid in device.queues[0]
        if command.sqe.opc == WRITE:
            seen.append((command.qid, lba, command.data(512)))
            return Outcome.EXECUTE
        if lba == 1:
            assert command.fill(b"made up".ljust(512, b"."))
            return Status(0)
        return GenericStatus.LBA_OUT_OF_RANGE if lba == 2 else Outcome.EXECUTE

    device.order(faults.answer(ask))
    ns.write(5, b"w" * 512)
    assert [(lba, data) for _, lba, data in seen] == [(5, b"w" * 512)]
    assert seen[0][0] > 0
    assert ns.read(5, 1) == b"w" * 512
    with pytest.raises(NvmeStatusError, match="LBA Out of Range"):
        ns.read(2, 1)


def test_data_that_is_made_up(device: SoftDevice, ns: Namespace) -> None:
    def ask(command: Command) -> Status:
        command.dw0 = 7
        return command.fill(bytes([command.sqe.cdw10]) * 512 * (command.sqe.cdw12 + 1))

    device.order(faults.answer(ask), opc=READ)
    assert ns.read(3, 20) == b"\3" * 512 * 20


def test_a_function_that_completes_another(
    device: SoftDevice, ctrl: Controller, ns: Namespace
) -> None:
    def ask(command: Command) -> Status:
        command.post(command.sqe.cid ^ 1)
        return Status(0)

    device.order(faults.answer(ask), opc=READ, times=1)
    with pytest.raises(ControllerFatalError):
        ns.read(0, 1)
    usable(ctrl)


@pytest.mark.parametrize(
    ("outcome", "error", "resets"),
    [
        (Outcome.KEEP, NvmeTimeoutError, 0),
        (Outcome.LOSE, NvmeTimeoutError, 1),
        (Outcome.FATAL, ControllerFatalError, 1),
        (Outcome.GONE, DeviceRemovedError, 0),
    ],
)
def test_outcomes(
    device: SoftDevice,
    ctrl: Controller,
    ns: Namespace,
    outcome: Outcome,
    error: type[Exception],
    resets: int,
) -> None:
    device.order(faults.answer(lambda _: outcome), opc=READ, times=1)
    with pytest.raises(error):
        ns.read(0, 1)
    assert ctrl.resets == resets
    if outcome is not Outcome.GONE:
        usable(ctrl)


def test_a_function_that_raises(
    device: SoftDevice, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_value))

    def ask(command: Command) -> Status:
        raise RuntimeError("mine")

    device.order(faults.answer(ask), opc=READ, times=1)
    with pytest.raises(NvmeStatusError, match="Internal Error"):
        ns.read(0, 1)
    ns.read(0, 1)
    assert [str(error) for error in told] == ["mine"]


def test_a_function_that_calls_its_device(
    device: SoftDevice, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_value))
    for call in (device.fail, device.release, device.close, device.reset):

        def ask(command: Command, call: object = call) -> Status:
            assert callable(call)
            call()
            return Status(0)

        with device.order(faults.answer(ask), opc=READ), pytest.raises(NvmeStatusError):
            ns.read(0, 1)
    assert len(told) == 4
    assert all("calls nothing of its device" in str(error) for error in told)
    ns.read(0, 1)


def test_a_bad_data_pointer_is_told(
    device: SoftDevice, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_value))
    filled: list[Status] = []

    def ask(command: Command) -> Status:
        filled.append(command.fill(bytes(512)))
        command.data(512)
        return Status(0)

    device.order(faults.answer(ask), opc=0x99)
    with pytest.raises(NvmeStatusError, match="Internal Error"):
        ctrl.io(0x99, nsid=1)
    assert not filled[0].ok
    assert "Data Transfer Error" in str(told[0])


def test_rules_come_and_go_under_load(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    """No lock of one side is waited for by the other, which has the GIL or the controller."""
    buffer = ctrl.alloc(512 * 64)
    stop = threading.Event()
    errors: list[BaseException] = []
    calls = 0

    def ask(command: Command) -> Outcome:
        nonlocal calls
        calls += 1
        return Outcome.EXECUTE

    def load() -> None:
        try:
            with ctrl.queue_pair(8) as qp:
                while not stop.is_set():
                    qp.read_many(ns, np.arange(64), 1, buffer).check()
        except BaseException as error:
            errors.append(error)

    ctrl.timeout = 20
    worker = threading.Thread(target=load)
    worker.start()
    ended = time.monotonic() + 1
    while time.monotonic() < ended or not calls:
        with device.order(faults.answer(ask), opc=READ, every=5):
            _ = ctrl.registers.csts.rdy
            ctrl.alloc(1 << 20)
            gc.collect()
        assert time.monotonic() < ended + 20
    stop.set()
    worker.join()
    assert not errors
