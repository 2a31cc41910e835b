"""What takes its time or outlasts a command: firmware, Device Self-test, Sanitize."""

from __future__ import annotations

import time
from collections.abc import Callable

from pynvme_user.spec.admin import (
    DeviceSelfTestCdw10,
    SanitizeAction,
    SanitizeCdw10,
    SelfTestCode,
)
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, IoCommandEvent, NoticeEvent
from pynvme_user.spec.feature_dwords import AsyncEventConfigCdw11, WriteProtectionState
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.logs import (
    DSTS,
    SSI,
    SSTAT,
    VDINFO,
    FirmwareCommitEvent,
    LogId,
    PersistentEventType,
    SanitizeCompletionEvent,
    SanitizeOperationStatus,
    SanitizeStartEvent,
    SanitizeState,
    SelfTestOutcome,
    SelfTestResult,
)
from pynvme_user.spec.management import (
    CommitAction,
    FirmwareCommitCdw10,
    FirmwareDownloadCdw10,
    FirmwareDownloadCdw11,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.features import value_of
from pynvme_user.testing.model.state import (
    FIRMWARE_SLOTS,
    Controller,
    Operation,
    Refused,
    Subsystem,
    receive,
    require,
)

S = CommandSpecificStatus
#: An image that is one begins with this; its revision follows, eight characters.
FIRMWARE_MAGIC = b"soft"
_GRANULARITY = 4096  # FWUG


def begin(ctrl: Controller, length: float, finish: Callable[[], None]) -> Operation:
    """Begin what takes that many seconds, and have its end seen."""
    ctrl.subsystem.wake(ctrl, length)
    return Operation(time.monotonic(), length, finish)


# --- firmware -------------------------------------------------------------------------------------


def download(ctrl: Controller, command: Command) -> None:
    """Execute Firmware Image Download (Base 2.1, 5.1.9)."""
    length = (FirmwareDownloadCdw10(command.sqe.cdw10).numd + 1) * 4
    offset = FirmwareDownloadCdw11(command.sqe.cdw11).ofst * 4
    # The last piece of an image may be shorter than the granularity.
    require(length <= ctrl.max_transfer and offset % _GRANULARITY == 0)
    firmware = ctrl.subsystem.firmware
    overlap = any(offset < end and start < offset + length for start, end in firmware.ranges)
    require(not overlap, S.OVERLAPPING_RANGE)
    data = receive(command, length)
    end = offset + length
    firmware.image.extend(bytes(max(0, end - len(firmware.image))))
    firmware.image[offset:end] = data
    firmware.ranges.append((offset, end))


def commit(ctrl: Controller, command: Command) -> None:
    """Execute Firmware Commit (Base 2.1, 5.1.8)."""
    cdw10 = FirmwareCommitCdw10(command.sqe.cdw10)
    firmware = ctrl.subsystem.firmware
    slot = cdw10.fs or next(
        (n for n in range(2, FIRMWARE_SLOTS + 1) if n not in firmware.slots), FIRMWARE_SLOTS
    )
    require(slot <= FIRMWARE_SLOTS, S.INVALID_FIRMWARE_SLOT)
    before = firmware.slots[firmware.active]
    replaces = cdw10.ca in (
        CommitAction.REPLACE,
        CommitAction.REPLACE_AND_ACTIVATE_AT_RESET,
        CommitAction.REPLACE_AND_ACTIVATE_NOW,
    )
    require(replaces or cdw10.ca == CommitAction.ACTIVATE_AT_RESET)
    if firmware.ranges and replaces:
        require(slot != 1, S.INVALID_FIRMWARE_SLOT)  # which is read-only
        image, whole = bytes(firmware.image), _is_whole(firmware.ranges)
        firmware.image, firmware.ranges = bytearray(), []
        require(whole and image.startswith(FIRMWARE_MAGIC), S.INVALID_FIRMWARE_IMAGE)
        firmware.slots[slot] = image[4:12].decode("latin-1").rstrip("\0 ")
    else:
        # REPLACE_AND_ACTIVATE_NOW of what a slot has already is allowed.
        require(cdw10.ca != CommitAction.REPLACE, S.INVALID_FIRMWARE_IMAGE)
        require(slot in firmware.slots, S.INVALID_FIRMWARE_SLOT)
    event = FirmwareCommitEvent.build(ofr=before, nfr=firmware.slots[slot], fca=cdw10.ca, fslt=slot)
    ctrl.subsystem.record(PersistentEventType.FIRMWARE_COMMIT, bytes(event), ctrl.cntlid)
    if cdw10.ca == CommitAction.REPLACE_AND_ACTIVATE_NOW:
        firmware.active, firmware.following = slot, 0
        config = AsyncEventConfigCdw11(value_of(ctrl, FeatureId.ASYNC_EVENT_CONFIG)[0])
        if config.fan:
            ctrl.report(
                AsyncEventType.NOTICE,
                NoticeEvent.FIRMWARE_ACTIVATION_STARTING,
                LogId.FIRMWARE_SLOT,
            )
    elif cdw10.ca != CommitAction.REPLACE:
        firmware.following = slot


def _is_whole(ranges: list[tuple[int, int]]) -> bool:
    at = 0
    for start, end in sorted(ranges):
        if start != at:
            return False
        at = end
    return True


def activate(subsystem: Subsystem) -> None:
    """Make the firmware active that waits for a reset."""
    firmware = subsystem.firmware
    firmware.image, firmware.ranges = bytearray(), []
    if firmware.following:
        firmware.active, firmware.following = firmware.following, 0


# --- Device Self-test -----------------------------------------------------------------------------


def self_test(ctrl: Controller, command: Command) -> None:
    """Execute Device Self-test (Base 2.1, 5.1.5)."""
    code, nsid = DeviceSelfTestCdw10(command.sqe.cdw10).stc, command.sqe.nsid
    if nsid not in (0, NSID_ALL):
        ctrl.namespace(nsid)
    if code == SelfTestCode.ABORT:
        if ctrl.self_test is not None:
            end_self_test(ctrl, SelfTestOutcome.ABORTED_BY_COMMAND)
        return
    require(code in (SelfTestCode.SHORT, SelfTestCode.EXTENDED))
    require(ctrl.self_test is None, S.SELF_TEST_IN_PROGRESS)
    times = ctrl.subsystem.times
    is_short = code == SelfTestCode.SHORT
    seconds = times.short_self_test if is_short else times.extended_self_test
    operation = begin(ctrl, seconds, lambda: end_self_test(ctrl, SelfTestOutcome.NO_ERROR))
    ctrl.self_test = operation, code, nsid


def end_self_test(ctrl: Controller, outcome: SelfTestOutcome) -> None:
    """End the self-test that runs; a failed one names the first unreadable block."""
    assert ctrl.self_test is not None
    _, code, nsid = ctrl.self_test
    ctrl.self_test = None
    fields: dict[str, object] = {}
    if outcome == SelfTestOutcome.NO_ERROR and nsid:
        for ns in ctrl.addressed(nsid):
            if ns.uncorrectable:
                outcome = SelfTestOutcome.SEGMENT_FAILED
                valid = VDINFO.build(nsidv=1, flbav=1)
                fields = {"flba": min(ns.uncorrectable), "segnum": 1, "vdinfo": valid}
                nsid = ns.nsid
    result = SelfTestResult.build(dsts=DSTS.build(dstr=outcome, dstc=code), nsid=nsid, **fields)
    ctrl.self_tests.appendleft(result)


# --- Sanitize -------------------------------------------------------------------------------------

#: What is still executed while a sanitize operation runs or has failed (Base 2.1, figure 644).
DURING_SANITIZE = {
    AdminOpcode.GET_LOG_PAGE,
    AdminOpcode.IDENTIFY,
    AdminOpcode.SET_FEATURES,
    AdminOpcode.GET_FEATURES,
    AdminOpcode.ASYNC_EVENT_REQUEST,
    AdminOpcode.KEEP_ALIVE,
}
_TIMES = ("eto", "etbe", "etce", "etond", "etbend", "etcend", "etpvds")


def sanitize(ctrl: Controller, command: Command) -> None:
    """Execute Sanitize (Base 2.1, 5.1.22): begin the operation."""
    sqe = command.sqe
    cdw10 = SanitizeCdw10(sqe.cdw10)
    subsystem = ctrl.subsystem
    require(subsystem.sanitizing is None, GenericStatus.SANITIZE_IN_PROGRESS)
    require(subsystem.firmware.following == 0, S.FIRMWARE_NEEDS_CONTROLLER_RESET)
    if cdw10.sanact == SanitizeAction.EXIT_FAILURE_MODE:
        if subsystem.sanitize_failed:
            require(
                subsystem.sanitize_log.ssi.fails == SanitizeState.UNRESTRICTED_PROCESSING,
                GenericStatus.SANITIZE_FAILED,
            )
            subsystem.sanitize_failed = False
        return
    actions = (
        SanitizeAction.BLOCK_ERASE,
        SanitizeAction.OVERWRITE,
        SanitizeAction.CRYPTO_ERASE,
    )
    require(cdw10.sanact in actions and not cdw10.emvs)
    # In restricted failure mode the way out is another restricted operation.
    restricted = subsystem.sanitize_failed and (
        subsystem.sanitize_log.ssi.fails == SanitizeState.RESTRICTED_PROCESSING
    )
    require(not (restricted and cdw10.ause), GenericStatus.SANITIZE_FAILED)
    for ns in subsystem.namespaces.values():
        require(ns.protection == WriteProtectionState.NONE, GenericStatus.NAMESPACE_WRITE_PROTECTED)
    if ctrl.self_test is not None:
        end_self_test(ctrl, SelfTestOutcome.ABORTED_BY_SANITIZE)
    start = SanitizeStartEvent.build(scdw10=sqe.cdw10, scdw11=sqe.cdw11)
    subsystem.record(PersistentEventType.SANITIZE_START, bytes(start), ctrl.cntlid)
    state = (
        SanitizeState.UNRESTRICTED_PROCESSING if cdw10.ause else SanitizeState.RESTRICTED_PROCESSING
    )
    subsystem.sanitize_failed = False
    subsystem.sanitize_log = subsystem.sanitize_log.replace(
        scdw10=sqe.cdw10,
        sprog=0,
        sstat=SSTAT.build(sos=SanitizeOperationStatus.SANITIZING),
        ssi=SSI.build(sans=state),
        **dict.fromkeys(_TIMES, 0xFFFFFFFF),
    )
    subsystem.sanitizing = begin(
        ctrl, subsystem.times.sanitize, lambda: _end_sanitize(ctrl, cdw10, sqe.cdw11)
    )


def _end_sanitize(ctrl: Controller, cdw10: SanitizeCdw10, pattern: int) -> None:
    subsystem = ctrl.subsystem
    subsystem.sanitizing = None
    log = subsystem.sanitize_log
    if subsystem.fail_next_sanitize:
        subsystem.fail_next_sanitize = False
        subsystem.sanitize_failed = True
        failure = (
            SanitizeState.UNRESTRICTED_FAILURE if cdw10.ause else SanitizeState.RESTRICTED_FAILURE
        )
        sstat = SSTAT.build(sos=SanitizeOperationStatus.FAILED)
        ssi = SSI.build(sans=failure, fails=log.ssi.sans)
    else:
        for ns in subsystem.namespaces.values():
            ns.erase()
            if cdw10.sanact == SanitizeAction.OVERWRITE:
                passes = cdw10.owpass or 16
                inverted = cdw10.oipbp and passes % 2 == 0
                value = pattern ^ 0xFFFFFFFF * inverted
                whole = value.to_bytes(4, "little") * (len(ns.media) // 4)
                ns.media[: len(whole)] = whole
        passes = (cdw10.owpass or 16) if cdw10.sanact == SanitizeAction.OVERWRITE else 0
        sstat = SSTAT.build(sos=SanitizeOperationStatus.SANITIZED, opc=passes, gde=1)
        ssi = SSI.build(sans=SanitizeState.IDLE)
    subsystem.sanitize_log = log.replace(sprog=0xFFFF, sstat=sstat, ssi=ssi)
    done = SanitizeCompletionEvent.build(sprog=0xFFFF, sstat=sstat)
    subsystem.record(PersistentEventType.SANITIZE_COMPLETION, bytes(done), ctrl.cntlid)
    event = AsyncEventResult.build(
        aet=AsyncEventType.IO_COMMAND_SPECIFIC,
        aei=IoCommandEvent.SANITIZE_COMPLETED,
        lid=LogId.SANITIZE,
    )
    subsystem.notify(event, lambda other: True)


# --- what has ended -------------------------------------------------------------------------------


def finish(ctrl: Controller) -> None:
    """End what has come to its end."""
    running = [ctrl.subsystem.sanitizing, ctrl.self_test and ctrl.self_test[0]]
    for operation in running:
        if operation is not None and operation.progress >= 1:
            operation.finish()


def check_sanitize(ctrl: Controller, command: Command) -> None:
    """End a command that a sanitize operation forbids."""
    subsystem = ctrl.subsystem
    is_admin = command.qid == 0
    if is_admin and command.sqe.opc in DURING_SANITIZE:
        return
    if subsystem.sanitizing is not None:
        if not (is_admin and command.sqe.opc == AdminOpcode.SANITIZE):
            raise Refused(GenericStatus.SANITIZE_IN_PROGRESS)
    elif subsystem.sanitize_failed and not (is_admin and command.sqe.opc == AdminOpcode.SANITIZE):
        raise Refused(GenericStatus.SANITIZE_FAILED)
