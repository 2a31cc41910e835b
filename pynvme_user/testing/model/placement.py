"""Flexible Data Placement (Base 2.1, 8.1.10): its features, log pages and I/O commands."""

from __future__ import annotations

from collections.abc import Sequence

from pynvme_user.spec.admin import GetLogPageCdw11
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.fdp import (
    ManagementReceive,
    ManagementReceiveCdw10,
    ManagementSend,
    ManagementSendCdw10,
    PlacementIdList,
    ReclaimUnitHandleDescriptor,
    ReclaimUnitHandleStatus,
)
from pynvme_user.spec.feature_data import FdpEventAttributes, SupportedFdpEvent
from pynvme_user.spec.feature_dwords import (
    FdpEventsCdw11,
    FdpEventsCdw12,
    FlexibleDataPlacementCdw11,
    FlexibleDataPlacementCdw12,
)
from pynvme_user.spec.features import FeatureSelect, GetFeaturesCdw10
from pynvme_user.spec.logs import (
    FDPA,
    FDPEF,
    SEF,
    EventTimestamp,
    FdpConfiguration,
    FdpConfigurationHeader,
    FdpConfigurationsHeader,
    FdpConfigurationsLog,
    FdpEvent,
    FdpEventsLog,
    FdpEventsLsp,
    FdpEventType,
    FdpStatisticsLog,
    MediaReallocated,
    ReclaimUnitHandle,
    ReclaimUnitHandleAttributes,
    ReclaimUnitHandleType,
    ReclaimUnitHandleUsage,
    ReclaimUnitHandleUsageLog,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.reclaim import MOST_HANDLES, Placement
from pynvme_user.testing.model.state import (
    MOST_NAMESPACES,
    Controller,
    Namespace,
    Subsystem,
    receive,
    require,
    send,
)

G = GenericStatus
_FULL = FdpEventType.RECLAIM_UNIT_NOT_FULLY_WRITTEN


def _enabled(ctrl: Controller, group: int) -> Placement:
    """Return an endurance group's data placement, which has to be enabled."""
    placement = ctrl.subsystem.placement(group)
    require(placement.enabled, G.FDP_DISABLED)
    return placement


# --- namespaces -----------------------------------------------------------------------------------


def choose(
    subsystem: Subsystem, group: int, index: int, count: int, wanted: Sequence[int]
) -> tuple[int, ...]:
    """Return the reclaim unit handles of a namespace to be created, by placement handle.

    Where the host wants none there is one, which such namespaces share (NVM Command Set 1.1,
    4.1.6).
    """
    placement = subsystem.placement(group)
    if not placement.enabled:
        return ()
    most = placement.configuration.handles
    users = [ns for ns in subsystem.namespaces.values() if ns.group == group]
    own = {ruhid for ns in users if not ns.handles_wanted for ruhid in ns.handles}
    if count:
        require(count <= min(most, MOST_HANDLES), G.INVALID_PLACEMENT_HANDLE_LIST)
        chosen = tuple(wanted[:count])
        valid = len(set(chosen)) == count and max(chosen) < most and not own & set(chosen)
        require(valid, G.INVALID_PLACEMENT_HANDLE_LIST)
    else:
        taken = {ruhid for ns in users for ruhid in ns.handles}
        free = [ruhid for ruhid in range(most) if ruhid not in taken]
        chosen = (*own, *free)[:1]
        require(chosen, G.INVALID_PLACEMENT_HANDLE_LIST)
    sharing = [ns for ns in users if set(ns.handles) & set(chosen)]
    require(all(ns.index == index for ns in sharing), CommandSpecificStatus.INVALID_FORMAT)
    return chosen


def assign(subsystem: Subsystem, ns: Namespace, handles: tuple[int, ...], *, wanted: bool) -> None:
    """Give a namespace its reclaim unit handles; those that nobody used begin anew."""
    others = [other for other in subsystem.namespaces.values() if other is not ns]
    used = {ruhid for other in others if other.group == ns.group for ruhid in other.handles}
    for ruhid in set(handles) - used:
        subsystem.placement(ns.group).begin(ruhid)
    ns.handles, ns.handles_wanted = handles, wanted


def check_format(subsystem: Subsystem, spaces: Sequence[Namespace], index: int) -> None:
    """End a Format NVM after which namespaces that share a handle would differ."""
    for ns in spaces:
        for other in subsystem.namespaces.values():
            if other not in spaces and other.group == ns.group and other.index != index:
                apart = not set(other.handles) & set(ns.handles)
                require(apart, CommandSpecificStatus.INVALID_FORMAT)


# --- writes ---------------------------------------------------------------------------------------


def wrote(ctrl: Controller, ns: Namespace, pid: int | None, blocks: int) -> None:
    """Place blocks that were written: by a placement identifier, or None."""
    placement = ctrl.subsystem.placement(ns.group)
    group, handle = placement.configuration.split(pid or 0)
    if not _exists(placement, ns, group, handle):
        group = handle = 0
        _record(ctrl, ns, FdpEventType.INVALID_PLACEMENT_IDENTIFIER, 0, 0, pid or 0)
    placement.write(ns.handles[handle], group, blocks << ns.format.shift)
    length = blocks * (ns.block_size + ns.format.metadata)
    placement.host_bytes += length
    placement.media_bytes += length


def reallocate(ctrl: Controller, ns: Namespace, lba: int, blocks: int) -> None:
    """Move blocks to another reclaim unit, as garbage collection does: by placement handle 0."""
    placement = ctrl.subsystem.placement(ns.group)
    placement.media_bytes += blocks * (ns.block_size + ns.format.metadata)
    told = MediaReallocated.build(sef=SEF.build(lbav=1), nlbam=min(blocks, 0xFFFF), lba=lba)
    _record(ctrl, ns, FdpEventType.MEDIA_REALLOCATED, 0, 0, etsp=bytes(told))


def _exists(placement: Placement, ns: Namespace, group: int, handle: int) -> bool:
    return group < placement.configuration.groups and handle < len(ns.handles)


def _record(
    ctrl: Controller,
    ns: Namespace,
    kind: FdpEventType,
    group: int,
    handle: int,
    pid: int | None = None,
    etsp: bytes = bytes(16),
) -> None:
    """Record an event, where the handle has it enabled."""
    placement, ruhid = ctrl.subsystem.placement(ns.group), ns.handles[handle]
    if kind not in placement.handles[ruhid].events:
        return
    event = FdpEvent.build(
        etyp=kind,
        fdpef=FDPEF.build(piv=1, nsidv=1, lv=1),
        pid=placement.configuration.join(group, handle) if pid is None else pid,
        etmsp=EventTimestamp.build(ts=ctrl.milliseconds() & (1 << 48) - 1),
        nsid=ns.nsid,
        etsp=etsp,
        rgid=group,
        ruhid=ruhid,
    )
    of_host = kind < FdpEventType.MEDIA_REALLOCATED
    (placement.host_events if of_host else placement.own_events).append(bytes(event))


# --- I/O Management -------------------------------------------------------------------------------


def management_receive(ctrl: Controller, command: Command) -> None:
    """Execute I/O Management Receive (Base 2.1, 7.3)."""
    sqe = command.sqe
    operation = ManagementReceiveCdw10(sqe.cdw10).mo
    ns, length = ctrl.namespace(sqe.nsid), (sqe.cdw11 + 1) * 4
    if operation == ManagementReceive.NO_ACTION:
        return
    require(operation == ManagementReceive.RECLAIM_UNIT_HANDLE_STATUS)
    placement = _enabled(ctrl, ns.group)
    require(length <= ctrl.max_transfer)
    found = [
        ReclaimUnitHandleDescriptor.build(
            pid=placement.configuration.join(group, handle),
            ruhid=ruhid,
            ruamw=placement.handles[ruhid].left[group] >> ns.format.shift,
        )
        for handle, ruhid in enumerate(ns.handles)
        for group in range(placement.configuration.groups)
    ]
    page = bytes(ReclaimUnitHandleStatus.build(found, nruhsd=len(found)))
    send(command, page[:length].ljust(length, b"\0"))


def management_send(ctrl: Controller, command: Command) -> None:
    """Execute I/O Management Send (Base 2.1, 7.4): all of its identifiers, or none."""
    sqe = command.sqe
    cdw10 = ManagementSendCdw10(sqe.cdw10)
    ns = ctrl.namespace(sqe.nsid)
    if cdw10.mo == ManagementSend.NO_ACTION:
        return
    require(cdw10.mo == ManagementSend.RECLAIM_UNIT_HANDLE_UPDATE)
    placement = _enabled(ctrl, ns.group)
    count, configuration = cdw10.mos + 1, placement.configuration
    require(count <= _most_ids(placement))
    named = PlacementIdList.from_bytes(receive(command, 2 * count))
    places = [configuration.split(pid) for pid in named]
    require(all(_exists(placement, ns, *place) for place in places))
    for group, handle in places:
        if placement.replace(ns.handles[handle], group):
            _record(ctrl, ns, _FULL, group, handle)


def _most_ids(placement: Placement) -> int:
    return placement.configuration.handles * placement.configuration.groups


# --- log pages ------------------------------------------------------------------------------------


def _of_log(ctrl: Controller, sqe: SQE) -> Placement:
    return _enabled(ctrl, GetLogPageCdw11(sqe.cdw11).lsi)


def configurations(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    """Return the FDP configurations, enabled or not: one."""
    placement = ctrl.subsystem.placement(GetLogPageCdw11(sqe.cdw11).lsi)
    own = placement.configuration
    handle = ReclaimUnitHandle.build(ruht=ReclaimUnitHandleType.INITIALLY_ISOLATED)
    size = FdpConfigurationHeader.size + own.handles * ReclaimUnitHandle.size
    size = -(-size // 8) * 8
    descriptor = FdpConfiguration.build(
        [handle] * own.handles,
        dsze=size,
        fdpa=FDPA.build(rgif=own.rgif, fdpcv=1),
        nrg=own.groups,
        nruh=own.handles,
        maxpids=_most_ids(placement) - 1,
        nnss=MOST_NAMESPACES,
        runs=own.unit,
    )
    whole = FdpConfigurationsHeader.size + size
    page = bytes(FdpConfigurationsLog.build([descriptor], numfdpc=0, sze=whole))
    return page.ljust(whole, b"\0")


def usage(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    """Return who uses the reclaim unit handles."""
    placement = _of_log(ctrl, sqe)
    group = GetLogPageCdw11(sqe.cdw11).lsi
    users = {
        ruhid: ReclaimUnitHandleAttributes.HOST_SPECIFIED
        if ns.handles_wanted
        else ReclaimUnitHandleAttributes.CONTROLLER_SPECIFIED
        for ns in ctrl.subsystem.namespaces.values()
        if ns.group == group
        for ruhid in ns.handles
    }
    unused = ReclaimUnitHandleAttributes.UNUSED
    found = [
        ReclaimUnitHandleUsage.build(ruha=users.get(ruhid, unused))
        for ruhid in range(placement.configuration.handles)
    ]
    return bytes(ReclaimUnitHandleUsageLog.build(found, nruh=len(found)))


def statistics(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    """Return what was written since data placement was enabled."""
    placement = _of_log(ctrl, sqe)
    return bytes(FdpStatisticsLog.build(hbmw=placement.host_bytes, mbmw=placement.media_bytes))


def events(ctrl: Controller, sqe: SQE, lsp: int) -> bytes:
    """Return the events of the host or of the controller."""
    placement = _of_log(ctrl, sqe)
    kept = placement.host_events if FdpEventsLsp(lsp).fdpet else placement.own_events
    page = FdpEventsLog.build([FdpEvent.from_bytes(raw) for raw in kept], numfdpe=len(kept))
    return bytes(page).ljust(4096, b"\0")


# --- features -------------------------------------------------------------------------------------


def get_enabled(ctrl: Controller, sqe: SQE, dword: int, data: bytes) -> tuple[int, bytes]:
    """Get Flexible Data Placement (feature 1Dh); the current value is the saved one."""
    placement = ctrl.subsystem.placement(FlexibleDataPlacementCdw11(sqe.cdw11).endgid)
    is_default = GetFeaturesCdw10(sqe.cdw10).sel == FeatureSelect.DEFAULT
    enabled = placement.enabled and not is_default
    return FlexibleDataPlacementCdw12.build(fdpe=enabled), b""


def set_enabled(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    """Set it, which only an endurance group without namespaces allows."""
    group = FlexibleDataPlacementCdw11(sqe.cdw11).endgid
    wanted = FlexibleDataPlacementCdw12(sqe.cdw12)
    placement = ctrl.subsystem.placement(group)
    require(not wanted.fdpcidx)  # the only configuration is the first
    if bool(wanted.fdpe) == placement.enabled:
        return
    there = any(ns.group == group for ns in ctrl.subsystem.namespaces.values())
    require(not there, G.COMMAND_SEQUENCE_ERROR)
    placement.enable(bool(wanted.fdpe))


def _enabled_events(ctrl: Controller, sqe: SQE, nsid: int) -> set[int]:
    ns = ctrl.namespace(nsid)
    placement, handle = _enabled(ctrl, ns.group), FdpEventsCdw11(sqe.cdw11).phndl
    require(handle < len(ns.handles))
    return placement.handles[ns.handles[handle]].events


def get_events(ctrl: Controller, sqe: SQE, dword: int, data: bytes) -> tuple[int, bytes]:
    """Get Flexible Data Placement Events (feature 1Eh): which there are, which are enabled."""
    enabled = _enabled_events(ctrl, sqe, sqe.nsid)
    is_default = GetFeaturesCdw10(sqe.cdw10).sel == FeatureSelect.DEFAULT
    listed = [
        SupportedFdpEvent.build(
            fdpet=kind,
            fdpeta=FdpEventAttributes.build(fdpee=kind in enabled and not is_default),
        )
        for kind in FdpEventType
    ]
    return len(listed), b"".join(map(bytes, listed[: FdpEventsCdw11(sqe.cdw11).noet]))


def set_events(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    """Set them of one placement handle's reclaim unit handle."""
    enabled = _enabled_events(ctrl, sqe, nsid)
    require(set(data) <= {int(kind) for kind in FdpEventType})
    if FdpEventsCdw12(sqe.cdw12).fdpee:
        enabled.update(data)
    else:
        enabled.difference_update(data)
