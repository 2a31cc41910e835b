"""The typed admin commands: what is sent, and what becomes of the answer."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from recorder import Recorder
from soft_controller import OK, SoftController

from pynvme_user import (
    AdminOpcode,
    CommandSpecificStatus,
    Controller,
    FeatureId,
    GenericStatus,
    NotSupportedError,
    NvmeError,
    NvmeStatusError,
    Status,
)
from pynvme_user.driver.maintenance import Activation
from pynvme_user.spec.admin import SanitizeAction, SecureErase, SelfTestCode
from pynvme_user.spec.commands import NSID_ALL, SQE, CommandSetId
from pynvme_user.spec.feature_data import Timestamp
from pynvme_user.spec.feature_dwords import TemperatureThresholdCdw11
from pynvme_user.spec.features import FeatureSelect
from pynvme_user.spec.identify_controller import (
    CMIC,
    CTRATT,
    LPA,
    OACS,
    SANICAP,
    IdentifyController,
)
from pynvme_user.spec.identify_lists import ControllerList
from pynvme_user.spec.logs import (
    CDSTC,
    CDSTO,
    SSTAT,
    AnaLog,
    ErrorLogEntry,
    LockdownScope,
    LogId,
    SanitizeLog,
    SanitizeOperationStatus,
    SelfTestLog,
    SmartLog,
    TelemetryHostHeader,
)
from pynvme_user.spec.management import (
    CapacityOperation,
    CommitAction,
    LbaStatusListHeader,
    LockdownInterface,
    NamespaceCreate,
    VirtualizationAction,
    VirtualizationResource,
)

ALL_OACS = OACS((1 << 11) - 1)


@pytest.fixture
def recorder(soft: SoftController) -> Recorder:
    soft.fields = {
        "oacs": ALL_OACS,
        "sanicap": SANICAP(7),
        "cntlid": 5,
        "kas": 1,
        "lpa": LPA(0x7F),
        "ctratt": CTRATT.build(fcm=1),
        "cmic": CMIC.build(anars=1),
        "elpe": 3,
    }
    return Recorder(soft)


@pytest.fixture
def ctrl(recorder: Recorder, ctrl: Controller) -> Controller:
    recorder.take()
    return ctrl


def dwords(sqe: SQE) -> tuple[int, ...]:
    return sqe.nsid, sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15


#: A call; opcode, nsid and dwords 10 to 15 of what it sends.
CALLS: dict[str, tuple[Callable[[Controller], object], tuple[int, ...]]] = {
    "format": (
        lambda c: c.format(
            1, 17, extended=True, protection=2, protection_first=True, erase=SecureErase.USER_DATA
        ),
        (AdminOpcode.FORMAT_NVM, 1, 1 << 12 | 1 << 9 | 1 << 8 | 2 << 5 | 1 << 4 | 1),
    ),
    "sanitize": (
        lambda c: c.sanitize(
            SanitizeAction.OVERWRITE,
            passes=16,
            pattern=0xA5A5A5A5,
            invert=True,
            unrestricted=True,
            no_deallocate=True,
        ),
        (AdminOpcode.SANITIZE, 0, 1 << 9 | 1 << 8 | 1 << 3 | 3, 0xA5A5A5A5),
    ),
    "self_test": (
        lambda c: c.self_test(SelfTestCode.EXTENDED, 1, parameter=9),
        (AdminOpcode.DEVICE_SELF_TEST, 1, 2, 0, 0, 0, 0, 9),
    ),
    "delete_namespace": (
        lambda c: c.delete_namespace(NSID_ALL),
        (AdminOpcode.NAMESPACE_MANAGEMENT, NSID_ALL, 1),
    ),
    "virtualization": (
        lambda c: c.virtualization_management(
            7, VirtualizationAction.SECONDARY_ASSIGN, resource=VirtualizationResource.VI, count=3
        ),
        (AdminOpcode.VIRTUALIZATION_MANAGEMENT, 0, 7 << 16 | 1 << 8 | 8, 3),
    ),
    "capacity": (
        lambda c: c.capacity_management(CapacityOperation.CREATE_NVM_SET, 2, capacity=5 << 32 | 6),
        (AdminOpcode.CAPACITY_MANAGEMENT, 0, 2 << 16 | 3, 6, 5),
    ),
    "lockdown": (
        lambda c: c.lockdown(
            0x80, LockdownScope.FEATURES, interface=LockdownInterface.OUT_OF_BAND, uuid_index=4
        ),
        (AdminOpcode.LOCKDOWN, 0, 0x80 << 8 | 2 << 5 | 1 << 4 | 2, 0, 0, 0, 4),
    ),
    "keep_alive": (lambda c: c.keep_alive(), (AdminOpcode.KEEP_ALIVE, 0)),
    "commit": (
        lambda c: c.firmware_commit(2, CommitAction.REPLACE, boot_partition=1),
        (AdminOpcode.FIRMWARE_COMMIT, 0, 1 << 31 | 2),
    ),
    "directive_send": (
        lambda c: c.directive_send(1, 2, nsid=1, specific=3, cdw12=4),
        (AdminOpcode.DIRECTIVE_SEND, 1, 0, 3 << 16 | 1 << 8 | 2, 4),
    ),
    "directive_receive": (
        lambda c: c.directive_receive(1, 3, 0, cdw12=8),
        (AdminOpcode.DIRECTIVE_RECEIVE, NSID_ALL, 0, 1 << 8 | 3, 8),
    ),
    "management_send": (
        lambda c: c.management_send(6, message=0x0884, dwords=(1, 2)),
        (AdminOpcode.NVME_MI_SEND, 0, 0x0884, 6, 1, 2),
    ),
    "get_feature": (
        lambda c: c.feature(
            FeatureId.TEMPERATURE_THRESHOLD,
            select=FeatureSelect.SAVED,
            nsid=1,
            cdw11=TemperatureThresholdCdw11.build(tmpsel=2),
            uuid_index=3,
        ),
        (AdminOpcode.GET_FEATURES, 1, 2 << 8 | 4, 2 << 16, 0, 0, 3),
    ),
    "set_feature": (
        lambda c: c.set_feature(0xC5, 1, save=True, nsid=2, cdw12=3, cdw13=4, cdw15=6),
        (AdminOpcode.SET_FEATURES, 2, 1 << 31 | 0xC5, 1, 3, 4, 0, 6),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_sent(name: str, ctrl: Controller, recorder: Recorder) -> None:
    call, (opcode, *expected) = CALLS[name]
    call(ctrl)
    command = recorder.only()
    assert command.opc == opcode
    assert dwords(command) == (*expected, *[0] * (7 - len(expected)))


UNSUPPORTED: dict[str, Callable[..., object]] = {
    "Format Nvm": lambda c, **k: c.format(1, **k),
    "Sanitize": lambda c, **k: c.sanitize(SanitizeAction.CRYPTO_ERASE, **k),
    "Device Self Test": lambda c, **k: c.self_test(**k),
    "Firmware Commit": lambda c, **k: c.firmware_commit(**k),
    "Firmware Download": lambda c, **k: c.firmware_download(bytes(4), **k),
    "Namespace Management": lambda c, **k: c.delete_namespace(1, **k),
    "Namespace Attachment": lambda c, **k: c.attach_namespace(1, **k),
    "Security Send": lambda c, **k: c.security_send(1, b"", **k),
    "Security Receive": lambda c, **k: c.security_receive(1, 512, **k),
    "Directive Send": lambda c, **k: c.directive_send(0, 1, **k),
    "Directive Receive": lambda c, **k: c.directive_receive(0, 1, **k),
    "Virtualization Management": lambda c, **k: c.virtualization_management(1, 9, **k),
    "Lockdown": lambda c, **k: c.lockdown(1, **k),
    "Get Lba Status": lambda c, **k: c.lba_status(1, **k),
    "Nvme Mi Send": lambda c, **k: c.management_send(1, **k),
    "Nvme Mi Receive": lambda c, **k: c.management_receive(1, **k),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_the_controller_does_not_have_is_not_sent(
    name: str, ctrl: Controller, recorder: Recorder
) -> None:
    recorder.soft.fields |= {"oacs": 0, "sanicap": 0}
    ctrl.reset()
    recorder.take()
    with pytest.raises(NotSupportedError, match=f"soft does not support {name}: "):
        UNSUPPORTED[name](ctrl)
    assert recorder.take() == []
    UNSUPPORTED[name](ctrl, force=True)
    assert recorder.take()


# --- data --------------------------------------------------------------------------------------


def test_a_namespace_is_created_and_attached(ctrl: Controller, recorder: Recorder) -> None:
    recorder.length = lambda _: 4096
    recorder.dw0 = 7
    nsid = ctrl.create_namespace(
        1 << 33,
        18,
        capacity=5,
        shared=True,
        protection=1,
        csi=CommandSetId.ZONED,
        ana_group=2,
        nvm_set=3,
        endurance_group=4,
        placement_handles=[6, 1],
    )
    assert nsid == 7
    command = recorder.only()
    assert dwords(command)[:3] == (0, 0, 2 << 24)
    page = NamespaceCreate.from_bytes(recorder.data.pop())
    assert (page.nsze, page.ncap, page.flbas, page.dps) == (1 << 33, 5, 1 << 5 | 2, 1)
    assert (page.nmic, page.anagrpid, page.nvmsetid, page.endgid) == (1, 2, 3, 4)
    assert (page.nphndls, page.phndl[:3]) == (2, (6, 1, 0))
    ctrl.attach_namespace(7)
    assert dwords(recorder.only())[:2] == (7, 0)
    assert ControllerList.from_bytes(recorder.data.pop()).entries == (5,)
    ctrl.detach_namespace(7, [1, 9])
    assert dwords(recorder.only())[:2] == (7, 1)
    assert ControllerList.from_bytes(recorder.data.pop()).entries == (1, 9)


def test_firmware(ctrl: Controller, recorder: Recorder) -> None:
    recorder.length = lambda sqe: 4 * (sqe.cdw10 + 1) if sqe.opc == 0x11 else 0
    image = bytes(range(256)) * 36
    told: list[tuple[int, int]] = []
    assert ctrl.firmware_update(image, 3, progress=lambda *n: told.append(n)) is (
        Activation.CONTROLLER_RESET
    )
    *moved, commit = recorder.take()
    assert [(c.cdw10, c.cdw11) for c in moved] == [(1023, 0), (1023, 1024), (255, 2048)]
    assert b"".join(recorder.data) == image
    assert told == [(4096, 9216), (8192, 9216), (9216, 9216)]
    assert commit.cdw10 == 1 << 3 | 3
    with pytest.raises(ValueError, match="by multiples of 4 bytes, not 5 from 0 on"):
        ctrl.firmware_download(bytes(5))
    recorder.status = Status.of(CommandSpecificStatus.FIRMWARE_NEEDS_SUBSYSTEM_RESET)
    assert ctrl.firmware_commit(1) is Activation.SUBSYSTEM_RESET
    recorder.status = OK
    assert ctrl.firmware_commit(1, CommitAction.REPLACE_AND_ACTIVATE_NOW) is Activation.NOTHING
    recorder.status = Status.of(CommandSpecificStatus.INVALID_FIRMWARE_IMAGE)
    with pytest.raises(NvmeStatusError, match="Invalid Firmware Image"):
        ctrl.firmware_commit(1)


def test_firmware_by_the_granularity_of_the_controller(
    ctrl: Controller, recorder: Recorder
) -> None:
    recorder.soft.fields["fwug"] = 2
    ctrl.reset()
    recorder.take()
    ctrl.firmware_download(bytes(3 * 4096), offset=4096)
    assert [(c.cdw10, c.cdw11) for c in recorder.take()] == [(2047, 1024), (1023, 3072)]


def test_security(ctrl: Controller, recorder: Recorder) -> None:
    recorder.length = lambda sqe: sqe.cdw11
    ctrl.security_send(0xEA, b"abcd", specific=0x1234, nvme_specific=5, nsid=1)
    command = recorder.only()
    assert dwords(command)[:3] == (1, 0xEA123405, 4)
    assert recorder.data == [b"abcd"]
    recorder.answers[AdminOpcode.SECURITY_RECEIVE] = b"answer"
    assert ctrl.security_receive(1, 512, specific=7) == b"answer".ljust(512, b"\0")
    assert dwords(recorder.only())[:3] == (0, 1 << 24 | 7 << 8, 512)


def test_directives_and_management_with_data(ctrl: Controller, recorder: Recorder) -> None:
    recorder.length = lambda _: 8
    recorder.dw0 = 9
    assert ctrl.directive_send(0, 1, b"12345678") == 9
    assert (recorder.only().cdw10, recorder.data.pop()) == (1, b"12345678")
    assert ctrl.management_send(1, b"abcdefgh") == 9
    assert recorder.data.pop() == b"abcdefgh"
    recorder.answers = {AdminOpcode.DIRECTIVE_RECEIVE: b"x", AdminOpcode.NVME_MI_RECEIVE: b"y"}
    assert ctrl.directive_receive(0, 1, 8) == (9, b"x".ljust(8, b"\0"))
    assert ctrl.management_receive(0, 8) == (9, b"y".ljust(8, b"\0"))


def test_lba_status(ctrl: Controller, recorder: Recorder) -> None:
    recorder.answers[AdminOpcode.GET_LBA_STATUS] = bytes(LbaStatusListHeader.build(nlsd=0, cmpc=2))
    found = ctrl.lba_status(1, 1 << 32, 8, length=64)
    assert (found.header.cmpc, len(found)) == (2, 0)
    assert dwords(recorder.only())[:5] == (1, 0, 1, 15, 0x11 << 24 | 8)


# --- features ----------------------------------------------------------------------------------


def test_features(ctrl: Controller, recorder: Recorder) -> None:
    recorder.dw0 = 0x157
    value = ctrl.feature(FeatureId.TEMPERATURE_THRESHOLD)
    assert isinstance(value.value, TemperatureThresholdCdw11)
    assert (value.value.tmpth, value.data) == (0x157, None)
    recorder.take()
    recorder.answers[AdminOpcode.GET_FEATURES] = bytes(Timestamp.build(tstmp=1234))
    value = ctrl.feature(FeatureId.TIMESTAMP)
    assert value.data == Timestamp.build(tstmp=1234)
    raw = ctrl.feature(0xC0, length=8)
    assert (raw.value, raw.data) == (0x157, bytes(value.data))
    recorder.take()
    recorder.answers.clear()
    assert ctrl.feature(FeatureId.TIMESTAMP, select=FeatureSelect.SUPPORTED).data is None
    recorder.length = lambda _: 8
    ctrl.set_feature(FeatureId.TIMESTAMP, data=Timestamp.build(tstmp=5))
    assert recorder.data == [bytes(Timestamp.build(tstmp=5))]
    with pytest.raises(ValueError, match="sets the number of queues"):
        ctrl.set_feature(FeatureId.NUMBER_OF_QUEUES, 1)


# --- log pages ---------------------------------------------------------------------------------


def test_a_log_page_in_pieces(ctrl: Controller, recorder: Recorder) -> None:
    recorder.soft.log_page = bytes(4096)
    assert len(ctrl.log_page(0xC1, 10000, offset=4, nsid=3, lsp=5, lsi=6, csi=2)) == 10000
    found = [(c.cdw10, c.cdw11, c.cdw12, c.cdw14, c.nsid) for c in recorder.take()]
    kept = 1 << 15 | 5 << 8 | 0xC1
    assert found == [
        (1023 << 16 | kept, 6 << 16, 4, 2 << 24, 3),
        (1023 << 16 | kept, 6 << 16, 4100, 2 << 24, 3),
        (451 << 16 | kept & ~(1 << 15), 6 << 16, 8196, 2 << 24, 3),
    ]
    ctrl.log_page(0xC1, 512, retain_event=True, index_offset=True, offset=3, uuid_index=1)
    command = recorder.only()
    assert (command.cdw10 >> 15 & 1, command.cdw12, command.cdw14) == (1, 3, 1 << 23 | 1)
    for length, offset in ((0, 0), (5, 0), (8, 2), (8, -4)):
        with pytest.raises(ValueError, match="by multiples of 4 bytes"):
            ctrl.log_page(2, length, offset=offset)
    with pytest.raises(ValueError, match="one command reads all: up to 4096"):
        ctrl.log_page(2, 8192, index_offset=True)
    with pytest.raises(ValueError, match="chunk is a multiple of 4 bytes, not 6"):
        ctrl.log_page(2, 8, chunk=6)


def test_a_controller_without_offsets(ctrl: Controller, recorder: Recorder) -> None:
    recorder.soft.fields["lpa"] = LPA(0)
    ctrl.reset()
    recorder.take()
    ctrl.log_page(0xC1, 16384)
    assert recorder.only().cdw10 >> 16 == 4095
    for length, offset in ((16388, 0), (4, 4)):
        with pytest.raises(NvmeError, match="from their beginning alone, up to 16384 bytes"):
            ctrl.log_page(2, length, offset=offset)


def test_pages_are_decoded(ctrl: Controller, recorder: Recorder) -> None:
    recorder.soft.log_page = bytes(SmartLog.build(ctemp=300, tsen=[1] * 8))
    assert ctrl.smart().ctemp == 300
    assert dwords(recorder.only())[:2] == (NSID_ALL, 127 << 16 | 2)
    assert ctrl.log(SmartLog, nsid=1).tsen == (1,) * 8
    assert recorder.only().nsid == 1
    errors = [ErrorLogEntry.build(ecnt=n, lba=n) for n in (3, 2, 0, 0)]
    recorder.soft.log_page = b"".join(map(bytes, errors))
    assert ctrl.errors() == errors[:2]


def test_a_page_is_read_as_far_as_its_header_says(ctrl: Controller, recorder: Recorder) -> None:
    groups = [(n, list(range(1, 300))) for n in range(1, 9)]
    raw = bytearray(16)
    raw[8] = len(groups)
    for number, nsids in groups:
        raw += number.to_bytes(4, "little") + len(nsids).to_bytes(4, "little") + bytes(24)
        raw += b"".join(nsid.to_bytes(4, "little") for nsid in nsids)
    whole = bytes(raw)

    def admin(sqe: SQE) -> Status:
        recorder.soft.log_page = whole[sqe.cdw12 :]
        return recorder.admin(sqe)

    recorder.soft.admin = admin
    page = ctrl.log(AnaLog)
    assert bytes(page) == whole
    assert not page.incomplete
    assert [len(group) for group in page] == [299] * 8


def test_pages_that_the_controller_does_not_have(ctrl: Controller, recorder: Recorder) -> None:
    recorder.soft.fields["sanicap"] = 0
    ctrl.reset()
    recorder.take()
    with pytest.raises(NotSupportedError, match="soft has no log page 81h: "):
        ctrl.log(SanitizeLog)
    assert recorder.take() == []
    recorder.soft.log_page = bytes(512)
    assert ctrl.log(SanitizeLog, force=True) == SanitizeLog.build()


def test_progress(ctrl: Controller, recorder: Recorder) -> None:
    pages: list[Any] = [
        SanitizeLog.build(sprog=n << 14, sstat=SSTAT.build(sos=SanitizeOperationStatus.SANITIZING))
        for n in (0, 2)
    ]
    pages.append(SanitizeLog.build(sstat=SSTAT.build(sos=SanitizeOperationStatus.SANITIZED)))
    pages.append(SanitizeLog.build(sstat=SSTAT.build(sos=SanitizeOperationStatus.FAILED)))
    pages.append(SelfTestLog.build(cdsto=CDSTO(1), cdstc=CDSTC(25)))
    pages.append(SelfTestLog.build())

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.GET_LOG_PAGE:
            recorder.soft.log_page = bytes(pages.pop(0))
        return OK

    recorder.soft.admin = admin
    assert list(ctrl.sanitize_progress(0.001)) == [0, 0.5, 1]
    with pytest.raises(NvmeError, match="the sanitize operation failed: begin it again"):
        list(ctrl.sanitize_progress(0.001))
    assert list(ctrl.self_test_progress(0.001)) == [0.25, 1]
    with pytest.raises(ValueError, match="1 to 16 passes, not 17"):
        ctrl.sanitize(SanitizeAction.OVERWRITE, passes=17)


def test_telemetry(ctrl: Controller, recorder: Recorder) -> None:
    whole = bytes(TelemetryHostHeader.build(lid=7, da1lb=1, da2lb=4000)) + bytes(range(250)) * 8200
    whole = whole[: 4001 * 512]

    def admin(sqe: SQE) -> Status:
        recorder.soft.log_page = whole[sqe.cdw12 :]
        return recorder.admin(sqe)

    recorder.soft.admin = admin
    file = io.BytesIO()
    told: list[tuple[int, int]] = []
    assert ctrl.telemetry(file, progress=lambda *n: told.append(n)) == len(whole)
    assert file.getvalue() == whole
    assert told[0] == (512, len(whole))
    assert told[-1] == (len(whole), len(whole))
    first, *others = recorder.take()
    assert first.cdw10 & 0xFFFF == 1 << 15 | 1 << 8 | LogId.TELEMETRY_HOST
    assert {c.cdw10 & 0xFFFF for c in others} == {1 << 15 | LogId.TELEMETRY_HOST}
    file = io.BytesIO()
    assert ctrl.telemetry(file, area=1, controller_initiated=True) == 1024
    *_, last = recorder.take()
    assert last.cdw10 & 0xFFFF == LogId.TELEMETRY_CONTROLLER  # lets the next be announced
    with pytest.raises(ValueError, match="data areas 1 to 4, not 5"):
        ctrl.telemetry(io.BytesIO(), area=5)


def test_an_error_of_a_typed_command(ctrl: Controller, recorder: Recorder) -> None:
    recorder.status = Status.of(GenericStatus.INVALID_FIELD)
    with pytest.raises(NvmeStatusError, match=r"Format Nvm .* Invalid Field in Command"):
        ctrl.format(1)
    assert isinstance(ctrl.identify, IdentifyController)
