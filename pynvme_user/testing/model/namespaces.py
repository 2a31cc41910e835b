"""Namespace Management and Attachment, Format NVM, Capacity Management."""

from __future__ import annotations

from collections.abc import Iterable

from pynvme_user.spec.admin import FormatCdw10, SecureErase
from pynvme_user.spec.commands import NSID_ALL, CommandSetId
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, NoticeEvent
from pynvme_user.spec.feature_dwords import AsyncEventConfigCdw11, WriteProtectionState
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify import DPS
from pynvme_user.spec.identify_lists import ControllerList
from pynvme_user.spec.identify_nvm import GuardFormat
from pynvme_user.spec.logs import (
    ChangeNamespaceEvent,
    FormatCompletionEvent,
    FormatStartEvent,
    LogId,
    PersistentEventType,
)
from pynvme_user.spec.management import (
    CapacityManagementCdw10,
    CapacityOperation,
    NamespaceAttachmentCdw10,
    NamespaceAttachmentSelect,
    NamespaceCreate,
    NamespaceManagementCdw10,
    NamespaceManagementCdw11,
    NamespaceManagementSelect,
)
from pynvme_user.spec.protection import PROTECTION_INFO, ProtectionType
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model import placement
from pynvme_user.testing.model.features import value_of
from pynvme_user.testing.model.state import (
    ENDURANCE_GROUP,
    MOST_NAMESPACES,
    NVM_SET,
    Controller,
    Format,
    Namespace,
    Refused,
    receive,
    require,
)
from pynvme_user.testing.model.zones import Zones

S = CommandSpecificStatus


def changed(ctrl: Controller, ns: Namespace, cntlids: Iterable[int], *, here: bool = False) -> None:
    """Tell controllers that a namespace of theirs changed; the one that did it only if ``here``."""
    event = AsyncEventResult.build(
        aet=AsyncEventType.NOTICE,
        aei=NoticeEvent.ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED,
        lid=LogId.CHANGED_NAMESPACES,
    )
    told = {cntlid for cntlid in cntlids if here or cntlid != ctrl.cntlid}
    for other in ctrl.subsystem.controllers.values():
        other.changed_allocated.add(ns.nsid)
        if other.cntlid in told:
            other.changed.add(ns.nsid)
    ctrl.subsystem.notify(
        event,
        lambda other: (
            other.cntlid in told
            and bool(AsyncEventConfigCdw11(value_of(other, FeatureId.ASYNC_EVENT_CONFIG)[0]).nan)
        ),
    )


# --- Namespace Management -------------------------------------------------------------------------


def manage(ctrl: Controller, command: Command) -> None:
    """Execute Namespace Management (Base 2.1, 5.1.21)."""
    match NamespaceManagementCdw10(command.sqe.cdw10).sel:
        case NamespaceManagementSelect.CREATE:
            _create(ctrl, command)
        case NamespaceManagementSelect.DELETE:
            _delete(ctrl, command.sqe.nsid)
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)


def _create(ctrl: Controller, command: Command) -> None:
    require(command.sqe.nsid == 0)
    csi = NamespaceManagementCdw11(command.sqe.cdw11).csi
    require(csi == CommandSetId.NVM, S.IOCS_NOT_SUPPORTED)
    page = NamespaceCreate.from_bytes(receive(command, NamespaceCreate.size))
    index = page.flbas.fidxl | page.flbas.fidxu << 4
    require(index < len(ctrl.subsystem.formats), S.INVALID_FORMAT)
    require(page.nsze == page.ncap, S.THIN_PROVISIONING_NOT_SUPPORTED)
    require(page.anagrpid <= 1, S.ANA_GROUP_ID_INVALID)
    require(page.nvmsetid in (0, *ctrl.subsystem.nvm_sets))
    require(page.endgid in (0, *ctrl.subsystem.endurance_groups))
    form = ctrl.subsystem.formats[index]
    _check_protection(form, page.dps)
    group = page.endgid or ENDURANCE_GROUP
    # An endurance group with data placement has no NVM Sets.
    require(not (page.nvmsetid and ctrl.subsystem.placement(group).enabled))
    handles = placement.choose(ctrl.subsystem, group, index, page.nphndls, page.phndl)
    ns = ctrl.subsystem.create(page.nsze, index)
    ns.group = group
    placement.assign(ctrl.subsystem, ns, handles, wanted=page.nphndls > 0)
    ns.set_format(form, index, extended=bool(page.flbas.mtelba), dps=page.dps)
    ns.shared = bool(page.nmic.shrns)
    command.dw0 = ns.nsid
    _record_change(ctrl, NamespaceManagementSelect.CREATE, ns)


def _delete(ctrl: Controller, nsid: int) -> None:
    if nsid == NSID_ALL:
        gone = list(ctrl.subsystem.namespaces.values())
    else:
        require(0 < nsid <= MOST_NAMESPACES, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
        require(nsid in ctrl.subsystem.namespaces)
        gone = [ctrl.subsystem.namespaces[nsid]]
    for ns in gone:
        require(ns.protection == WriteProtectionState.NONE, GenericStatus.NAMESPACE_WRITE_PROTECTED)
    for ns in gone:
        ns.erase()
        del ctrl.subsystem.namespaces[ns.nsid]
        changed(ctrl, ns, ns.controllers)
        _record_change(ctrl, NamespaceManagementSelect.DELETE, ns)


def _record_change(ctrl: Controller, select: NamespaceManagementSelect, ns: Namespace) -> None:
    event = ChangeNamespaceEvent.build(
        nmcdw10=NamespaceManagementCdw10.build(sel=select),
        nsze=ns.blocks,
        ncap=ns.blocks,
        nsid=ns.nsid,
    )
    ctrl.subsystem.record(PersistentEventType.CHANGE_NAMESPACE, bytes(event), ctrl.cntlid)


def attach(ctrl: Controller, command: Command) -> None:
    """Execute Namespace Attachment (Base 2.1, 5.1.20)."""
    sel, nsid = NamespaceAttachmentCdw10(command.sqe.cdw10).sel, command.sqe.nsid
    require(0 < nsid <= MOST_NAMESPACES, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    require(nsid in ctrl.subsystem.namespaces)
    ns = ctrl.subsystem.namespaces[nsid]
    given = ControllerList.from_bytes(receive(command, 4096))
    ids = list(given)
    valid = ids and not given.incomplete and ids == sorted(set(ids))
    require(valid and set(ids) <= set(ctrl.subsystem.controllers), S.CONTROLLER_LIST_INVALID)
    match sel:
        case NamespaceAttachmentSelect.ATTACH:
            require(not ns.controllers & set(ids), S.NAMESPACE_ALREADY_ATTACHED)
            alone = ns.shared or len(ns.controllers | set(ids)) == 1
            require(alone, S.NAMESPACE_IS_PRIVATE)
            ns.controllers |= set(ids)
        case NamespaceAttachmentSelect.DETACH:
            require(set(ids) <= ns.controllers, S.NAMESPACE_NOT_ATTACHED)
            ns.controllers -= set(ids)
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)
    changed(ctrl, ns, ids, here=True)


# --- Format NVM -----------------------------------------------------------------------------------


def _check_protection(form: Format, dps: DPS) -> None:
    """End a command that wants protection information that the format has no room for."""
    if dps.pit:
        size = PROTECTION_INFO[GuardFormat(form.guard)].size
        require(dps.pit <= ProtectionType.TYPE3 and form.metadata >= size, S.INVALID_FORMAT)


def format_nvm(ctrl: Controller, command: Command) -> None:
    """Execute Format NVM (Base 2.1, 5.1.10): it takes no time."""
    sqe = command.sqe
    cdw10 = FormatCdw10(sqe.cdw10)
    index = cdw10.lbafl | cdw10.lbafu << 4
    require(index < len(ctrl.subsystem.formats), S.INVALID_FORMAT)
    require(cdw10.ses <= SecureErase.CRYPTOGRAPHIC)
    form = ctrl.subsystem.formats[index]
    dps = DPS.build(pit=cdw10.pi, pip=cdw10.pil)
    _check_protection(form, dps)
    spaces = ctrl.addressed(sqe.nsid)
    for ns in spaces:
        require(ns.protection == WriteProtectionState.NONE, GenericStatus.NAMESPACE_WRITE_PROTECTED)
    placement.check_format(ctrl.subsystem, spaces, index)
    start = FormatStartEvent.build(nsid=sqe.nsid, fcdw10=sqe.cdw10)
    ctrl.subsystem.record(PersistentEventType.FORMAT_NVM_START, bytes(start), ctrl.cntlid)
    for ns in spaces:
        zone_bytes = 0 if ns.zones is None else ns.zones.size << ns.format.shift
        ns.set_format(form, index, extended=bool(cdw10.mset) and form.metadata > 0, dps=dps)
        ns.streams.clear()
        if zone_bytes:
            ns.zones = Zones(ns.blocks, zone_bytes >> form.shift)
        changed(ctrl, ns, ns.controllers)
    done = FormatCompletionEvent.build(nsid=sqe.nsid)
    ctrl.subsystem.record(PersistentEventType.FORMAT_NVM_COMPLETION, bytes(done), ctrl.cntlid)


# --- Capacity Management --------------------------------------------------------------------------


def capacity(ctrl: Controller, command: Command) -> None:
    """Execute Capacity Management (Base 2.1, 5.1.3): Endurance Groups and NVM Sets by name."""
    sqe = command.sqe
    cdw10 = CapacityManagementCdw10(sqe.cdw10)
    size = sqe.cdw12 << 32 | sqe.cdw11
    subsystem = ctrl.subsystem
    groups, sets = subsystem.endurance_groups, subsystem.nvm_sets
    match cdw10.oper:
        case CapacityOperation.CREATE_ENDURANCE_GROUP:
            require(0 < size <= len(subsystem.memory), S.INSUFFICIENT_CAPACITY)
            command.dw0 = made = _free(groups)
            groups[made] = size
        case CapacityOperation.DELETE_ENDURANCE_GROUP:
            require(cdw10.elid in groups and cdw10.elid != ENDURANCE_GROUP)
            del groups[cdw10.elid]
            subsystem.forget_placement(cdw10.elid)
            for nsetid in [each for each, group in sets.items() if group == cdw10.elid]:
                del sets[nsetid]
        case CapacityOperation.CREATE_NVM_SET:
            require(cdw10.elid in groups)
            require(0 < size <= groups[cdw10.elid], S.INSUFFICIENT_CAPACITY)
            command.dw0 = made = _free(sets)
            sets[made] = cdw10.elid
        case CapacityOperation.DELETE_NVM_SET:
            require(cdw10.elid in sets and cdw10.elid != NVM_SET)
            del sets[cdw10.elid]
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)


def _free(taken: Iterable[int]) -> int:
    number = next((n for n in range(1, 17) if n not in set(taken)), 0)
    require(number, S.IDENTIFIER_UNAVAILABLE)
    return number
