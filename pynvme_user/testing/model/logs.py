"""Get Log Page: every page that there is, made when it is read, or set by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pynvme_user.spec.admin import GetLogPageCdw10, GetLogPageCdw11, GetLogPageCdw14
from pynvme_user.spec.commands import NSID_ALL, SQE, CommandSetId
from pynvme_user.spec.features import FEATURES, FeatureId
from pynvme_user.spec.logs import (
    AFI,
    ANASA,
    CDSTC,
    CDSTO,
    CFILA,
    DSTS,
    LOG_PAGES,
    TELEMETRY_BLOCK,
    AnaGroup,
    AnaLog,
    AnaLsp,
    AnaState,
    BootPartitionHeader,
    CommandEffects,
    CommandEffectsLog,
    CriticalWarning,
    EnduranceGroupLog,
    ErrorLogEntry,
    EventTimestamp,
    FeatureEffects,
    FeatureEffectsLog,
    FirmwareSlotLog,
    LbaStatusLog,
    LbaStatusNamespace,
    LbaStatusRange,
    LidSupported,
    LockdownContents,
    LockdownLog,
    LockdownLsp,
    LogId,
    LogPage,
    MiCommandEffects,
    MiCommandEffectsLog,
    PersistentEvent,
    PersistentEventAction,
    PersistentEventHeader,
    PersistentEventLogHeader,
    PersistentEventLsp,
    ReservationNotificationLog,
    Scope,
    SelfTestLog,
    SelfTestOutcome,
    SelfTestResult,
    SmartLog,
    SupportedLogPages,
    TelemetryControllerHeader,
    TelemetryHostHeader,
    TelemetryHostLsp,
    TelemetryScope,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command, Outcome
from pynvme_user.testing.model import placement
from pynvme_user.testing.model.effects import (
    ADMIN_EFFECTS,
    LOCKABLE,
    MANAGEMENT_COMMANDS,
    NVM_EFFECTS,
    SUPPORTED,
    ZONED_EFFECTS,
)
from pynvme_user.testing.model.state import (
    ENDURANCE_GROUP,
    ERROR_ENTRIES,
    SERIAL,
    SUBSYSTEM_NAME,
    WARNING_TEMPERATURE,
    Controller,
    require,
    send,
)

#: Of these the controller in C has pages of its own.
_VENDOR = 0xC0

Builder = Callable[[Controller, SQE, int], bytes]


def _smart(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    log = ctrl.core.log()
    warning = CriticalWarning.build(
        temperature=ctrl.temperature >= WARNING_TEMPERATURE, read_only=_is_read_only(ctrl)
    )
    page = SmartLog.build(
        cw=warning,
        ctemp=ctrl.temperature,
        avsp=100,
        avspt=10,
        hrc=int(log.reads),
        hwc=int(log.writes),
        pwrc=1,
        neile=ctrl.error_count,
        tsen=(ctrl.temperature, *[0] * 7),
    )
    return bytes(page)


def _is_read_only(ctrl: Controller) -> bool:
    return ctrl.subsystem.sanitize_failed


def _errors(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    return b"".join(map(bytes, ctrl.errors)).ljust(ERROR_ENTRIES * ErrorLogEntry.size, b"\0")


def _firmware(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    firmware = ctrl.subsystem.firmware
    names = {f"frs{slot}": name for slot, name in firmware.slots.items()}
    afi = AFI.build(cafs=firmware.active, nafs=firmware.following)
    return bytes(FirmwareSlotLog.build(afi=afi, **names))


def _ids(ids: Iterable[int]) -> bytes:
    found = sorted(ids)
    if len(found) > 1024:
        found = [NSID_ALL]
    return b"".join(nsid.to_bytes(4, "little") for nsid in found).ljust(4096, b"\0")


def _changed(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    return _ids(ctrl.changed)


def _changed_allocated(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    return _ids(ctrl.changed_allocated)


def _self_tests(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    running = ctrl.self_test
    unused = SelfTestResult.build(dsts=DSTS.build(dstr=SelfTestOutcome.NOT_USED))
    results = [*ctrl.self_tests, *[unused] * (20 - len(ctrl.self_tests))]
    return bytes(
        SelfTestLog.build(
            cdsto=CDSTO.build(cdstos=running[1] if running else 0),
            cdstc=CDSTC.build(cdstcs=int(100 * running[0].progress) if running else 0),
            results=results,
        )
    )


def _telemetry_data(data: bytes) -> tuple[bytes, int]:
    blocks = -(-len(data) // TELEMETRY_BLOCK)
    return data.ljust(blocks * TELEMETRY_BLOCK, b"\0"), blocks


def _telemetry_host(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    if TelemetryHostLsp(lsp).cthid:
        ctrl.telemetry_number = (ctrl.telemetry_number + 1) & 0xFF
        state = f"capture {ctrl.telemetry_number}: {ctrl.counted()}\n"
        ctrl.telemetry = state.encode() * 64
    data, blocks = _telemetry_data(ctrl.telemetry)
    own = ctrl.own_telemetry
    header = TelemetryHostHeader.build(
        lid=LogId.TELEMETRY_HOST,
        da1lb=blocks // 2,
        da2lb=blocks,
        da3lb=blocks,
        ths=TelemetryScope.CONTROLLER,
        thdgn=ctrl.telemetry_number,
        tcda=own is not None,
        tcdgn=own[0] if own else 0,
    )
    return bytes(header) + data


def _telemetry_controller(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    number, made = ctrl.own_telemetry or (0, b"")
    data, blocks = _telemetry_data(made)
    header = TelemetryControllerHeader.build(
        lid=LogId.TELEMETRY_CONTROLLER,
        da1lb=blocks,
        da2lb=blocks,
        da3lb=blocks,
        tcs=TelemetryScope.CONTROLLER,
        tcda=ctrl.own_telemetry is not None,
        tcdgn=number,
    )
    return bytes(header) + data


def _endurance_group(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    group = GetLogPageCdw11(sqe.cdw11).lsi
    subsystem = ctrl.subsystem
    return bytes(
        EnduranceGroupLog.build(
            avsp=100,
            avspt=10,
            tegcap=subsystem.endurance_groups[group],
            uegcap=subsystem.unallocated if group == ENDURANCE_GROUP else 0,
        )
    )


def _ana(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    ids = [] if AnaLsp(lsp).rgo else [ns.nsid for ns in ctrl.addressed(NSID_ALL)]
    group = AnaGroup.build(ids, agid=1, nnv=len(ids), anasa=ANASA.build(anas=AnaState.OPTIMIZED))
    return bytes(AnaLog.build([group], nagd=1))


def _timestamp(ctrl: Controller) -> EventTimestamp:
    return EventTimestamp.build(ts=ctrl.milliseconds() & (1 << 48) - 1)


def _persistent_events(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    action = PersistentEventLsp(lsp).act
    exists = ctrl.event_context is not None
    if action == PersistentEventAction.RELEASE_CONTEXT:
        ctrl.event_context = None
        return b""
    if action == PersistentEventAction.READ:
        require(exists, GenericStatus.COMMAND_SEQUENCE_ERROR)
    else:
        require(not exists, GenericStatus.COMMAND_SEQUENCE_ERROR)
        ctrl.event_context = _event_page(ctrl)
    assert ctrl.event_context is not None
    if action == PersistentEventAction.ESTABLISH_CONTEXT_AND_READ_HEADER:
        return ctrl.event_context[: PersistentEventLogHeader.size]
    return ctrl.event_context


def _event_page(ctrl: Controller) -> bytes:
    header_rest = PersistentEventHeader.size - 3
    events = [
        PersistentEvent.build(data, et=kind, etr=1, ehl=header_rest, cntlid=cntlid, el=len(data))
        for kind, data, cntlid in ctrl.subsystem.events
    ]
    whole = b"".join(map(bytes, events))
    supported = sum(1 << kind for kind in {kind for kind, _, _ in ctrl.subsystem.events})
    header = PersistentEventLogHeader.build(
        lid=LogId.PERSISTENT_EVENT,
        tnev=len(events),
        tll=PersistentEventLogHeader.size + len(whole),
        lrev=3,
        lhl=PersistentEventLogHeader.size - 20,
        tstmp=_timestamp(ctrl),
        pwrcc=1,
        sn=SERIAL,
        mn="memory",
        subnqn=SUBSYSTEM_NAME,
        seb=supported.to_bytes(32, "little"),
    )
    return bytes(header) + whole


def _lba_status(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    elements, total = [], 0
    for ns in ctrl.addressed(NSID_ALL):
        if ns.uncorrectable:
            total += len(ns.uncorrectable)
            ranges = [
                LbaStatusRange.build(rslba=lba, rnlb=blocks - 1)
                for lba, blocks in runs(ns.uncorrectable)
            ]
            elements.append(
                LbaStatusNamespace.build(ranges, neid=ns.nsid, nlrd=len(ranges), ratype=0x11)
            )
    fields = {"nlslne": len(elements), "estulb": total, "lsgc": 1}
    length = len(bytes(LbaStatusLog.build(elements, **fields)))
    return bytes(LbaStatusLog.build(elements, lslplen=length, **fields))


def runs(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Return block numbers as (first, how many) of what lies together."""
    found: list[tuple[int, int]] = []
    for lba in sorted(blocks):
        if found and found[-1][0] + found[-1][1] == lba:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((lba, 1))
    return found


def _supported(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    there = set(_BUILDERS) | set(ctrl.pages) | {LogId.SANITIZE}
    return bytes(
        SupportedLogPages.build(lids=[LidSupported.build(lsupp=lid in there) for lid in range(256)])
    )


def _feature_effects(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    def effect(fid: int) -> FeatureEffects:
        feature = FEATURES[FeatureId(fid)] if fid in SUPPORTED else None
        if feature is None:
            return FeatureEffects()
        own = bool(feature.per_namespace)
        return FeatureEffects.build(
            fsupp=1,
            nscpe=own,
            cscpe=not own,
            ncc=fid == FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG,
        )

    return bytes(FeatureEffectsLog.build(fis=[effect(fid) for fid in range(256)]))


def _command_effects(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    def entries(table: dict[int, CommandEffects]) -> list[CommandEffects]:
        return [table.get(opcode, CommandEffects()) for opcode in range(256)]

    csi = GetLogPageCdw14(sqe.cdw14).csi
    require(csi in (CommandSetId.NVM, CommandSetId.ZONED))
    io = NVM_EFFECTS if csi == CommandSetId.NVM else ZONED_EFFECTS
    return bytes(CommandEffectsLog.build(acs=entries(ADMIN_EFFECTS), iocs=entries(io)))


def _management_effects(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    supported = [
        MiCommandEffects.build(csupp=opcode in MANAGEMENT_COMMANDS, nsscpe=1)
        for opcode in range(256)
    ]
    return bytes(MiCommandEffectsLog.build(mics=supported))


def _lockdown(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    asked = LockdownLsp(lsp)
    require(asked.scp in LOCKABLE)
    prohibited = ctrl.subsystem.prohibited
    match asked.cntts:
        case LockdownContents.CAN_BE_PROHIBITED:
            found = set(LOCKABLE[asked.scp])
        case LockdownContents.PROHIBITED_ON_THE_ADMIN_QUEUE:
            found = {ofi for scope, ofi in prohibited[False] if scope == asked.scp}
        case LockdownContents.PROHIBITED_OUT_OF_BAND:
            found = {ofi for scope, ofi in prohibited[True] if scope == asked.scp}
        case _:
            require(False)
    cfila = CFILA.build(ss=asked.scp, cs=asked.cntts)
    return bytes(LockdownLog.build(sorted(found), cfila=cfila, lngth=len(found)))


def _notification(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    if not ctrl.notifications:
        return bytes(ReservationNotificationLog.build())
    number, kind, nsid = ctrl.notifications[0]
    return bytes(
        ReservationNotificationLog.build(
            lpc=number, rnlpt=kind, nalp=len(ctrl.notifications) - 1, nsid=nsid
        )
    )


def _sanitize(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    log, running = ctrl.subsystem.sanitize_log, ctrl.subsystem.sanitizing
    if running is not None:
        log = log.replace(sprog=min(0xFFFE, int(0x10000 * running.progress)))
    return bytes(log)


def _blank(lid: LogId) -> Builder:
    def build(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
        page = LOG_PAGES[lid].structure.build()
        return bytes(page)

    return build


def _boot_partition(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    return bytes(BootPartitionHeader.build(lid=LogId.BOOT_PARTITION))


_BUILDERS: dict[int, Builder] = {
    LogId.SUPPORTED_LOG_PAGES: _supported,
    LogId.ERROR: _errors,
    LogId.SMART: _smart,
    LogId.FIRMWARE_SLOT: _firmware,
    LogId.CHANGED_NAMESPACES: _changed,
    LogId.COMMAND_EFFECTS: _command_effects,
    LogId.SELF_TEST: _self_tests,
    LogId.TELEMETRY_HOST: _telemetry_host,
    LogId.TELEMETRY_CONTROLLER: _telemetry_controller,
    LogId.ENDURANCE_GROUP: _endurance_group,
    LogId.ANA: _ana,
    LogId.PERSISTENT_EVENT: _persistent_events,
    LogId.LBA_STATUS: _lba_status,
    LogId.FEATURE_EFFECTS: _feature_effects,
    LogId.MI_COMMAND_EFFECTS: _management_effects,
    LogId.LOCKDOWN: _lockdown,
    LogId.BOOT_PARTITION: _boot_partition,
    LogId.CHANGED_ALLOCATED_NAMESPACES: _changed_allocated,
    LogId.RESERVATION_NOTIFICATION: _notification,
    LogId.SANITIZE: _sanitize,
    LogId.FDP_CONFIGURATIONS: placement.configurations,
    LogId.RECLAIM_UNIT_HANDLE_USAGE: placement.usage,
    LogId.FDP_STATISTICS: placement.statistics,
    LogId.FDP_EVENTS: placement.events,
    **{
        lid: _blank(lid)
        for lid in (
            LogId.PREDICTABLE_LATENCY,
            LogId.PREDICTABLE_LATENCY_AGGREGATE,
            LogId.ENDURANCE_GROUP_AGGREGATE,
            LogId.ROTATIONAL_MEDIA,
            LogId.CHANGED_ZONES,
        )
    },
}


def _check_scope(ctrl: Controller, sqe: SQE, page: LogPage) -> None:
    """End a command that names a namespace or an element that the page is not of."""
    lsi = GetLogPageCdw11(sqe.cdw11).lsi
    match page.scope:
        case Scope.NAMESPACE:
            ctrl.namespace(sqe.nsid)
        case Scope.CONTROLLER_OR_NAMESPACE:
            if sqe.nsid not in (0, NSID_ALL):
                ctrl.namespace(sqe.nsid)
        case Scope.ENDURANCE_GROUP:
            require(lsi in ctrl.subsystem.endurance_groups)
        case Scope.NVM_SET:
            require(lsi in ctrl.subsystem.nvm_sets)
        case _:
            require(sqe.nsid in (0, NSID_ALL))


def get_log_page(ctrl: Controller, command: Command) -> Outcome | None:
    """Execute Get Log Page (Base 2.1, 5.1.12)."""
    sqe = command.sqe
    cdw10, cdw11 = GetLogPageCdw10(sqe.cdw10), GetLogPageCdw11(sqe.cdw11)
    cdw14 = GetLogPageCdw14(sqe.cdw14)
    lid = cdw10.lid
    page, build = ctrl.pages.get(lid), _BUILDERS.get(lid)
    if page is None and build is None:
        require(lid >= _VENDOR, CommandSpecificStatus.INVALID_LOG_PAGE)
        return Outcome.EXECUTE
    length = ((cdw11.numdu << 16 | cdw10.numdl) + 1) * 4
    offset = sqe.cdw13 << 32 | sqe.cdw12
    # No page has an index offset, and there are no UUIDs.
    require(not (cdw14.ot or cdw14.uidx or offset % 4) and length <= ctrl.max_transfer)
    if lid < _VENDOR:
        _check_scope(ctrl, sqe, LOG_PAGES[LogId(lid)])
    if page is None:
        assert build is not None
        page = build(ctrl, sqe, cdw10.lsp)
    require(offset <= len(page))
    send(command, page[offset : offset + length].ljust(length, b"\0"))
    if not cdw10.rae:
        ctrl.seen(lid)
    return None
