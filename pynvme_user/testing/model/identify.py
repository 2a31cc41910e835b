"""Identify: what the controllers and namespaces of the model are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pynvme_user.spec.admin import Cns, IdentifyCdw10, IdentifyCdw11, IdentifyCdw14
from pynvme_user.spec.commands import NSID_ALL, SQE, CommandSetId
from pynvme_user.spec.feature_dwords import WriteProtectionState
from pynvme_user.spec.identify import (
    DLFEAT,
    DPC,
    FLBAS,
    MC,
    NMIC,
    NSATTR,
    NSTAT,
    RESCAP,
    IdentifierType,
    IdentifyNamespace,
    IdentifyNamespaceIndependent,
    LbaFormat,
)
from pynvme_user.spec.identify_controller import (
    ANACAP,
    APSTA,
    CMIC,
    CTRATT,
    FNA,
    FRMW,
    FUSES,
    HCTMA,
    LPA,
    NVMSR,
    NWPC,
    OACS,
    OAES,
    OCFS,
    ONCS,
    RPMBS,
    SANICAP,
    SGLS,
    VWC,
    ControllerType,
    EntrySizes,
    FlushBehavior,
    IdentifyController,
    PowerFlags,
    PowerState,
    SglSupport,
)
from pynvme_user.spec.identify_lists import (
    CRT,
    IOCSV,
    SCS,
    ControllerList,
    DomainAttributes,
    DomainList,
    EnduranceGroupList,
    GranularityAttributes,
    IoCommandSetCombination,
    IoCommandSets,
    NamespaceDescriptor,
    NamespaceDescriptorList,
    NamespaceGranularity,
    NamespaceGranularityList,
    NamespaceList,
    NvmSetAttributes,
    NvmSetList,
    PrimaryControllerCapabilities,
    SecondaryController,
    SecondaryControllerList,
    UuidList,
)
from pynvme_user.spec.identify_nvm import (
    PIC,
    ExtendedLbaFormat,
    IdentifyControllerNvm,
    IdentifyNamespaceNvm,
)
from pynvme_user.spec.identify_zns import IdentifyControllerZns
from pynvme_user.spec.registers import VS
from pynvme_user.spec.status import GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model import rpmb, zones
from pynvme_user.testing.model.features import POWER_STATES
from pynvme_user.testing.model.state import (
    CRITICAL_TEMPERATURE,
    ERROR_ENTRIES,
    EVENT_REQUESTS,
    FIRMWARE_SLOTS,
    MOST_NAMESPACES,
    NVM_SET,
    SERIAL,
    SUBSYSTEM_NAME,
    WARNING_TEMPERATURE,
    Controller,
    Namespace,
    require,
    send,
)

PAGE = 4096
#: What Copy carries: blocks of a range, blocks of all, ranges.
MSSRL, MCL, MSRC = 1024, 4096, 128
FLEXIBLE_RESOURCES = 8
_FORMATS = 64
_VERSION = VS.build(mjr=2)

Builder = Callable[[Controller, SQE], bytes]


def controller_page(ctrl: Controller) -> IdentifyController:
    """Return Identify Controller, which tells of all that is modelled."""
    subsystem = ctrl.subsystem
    several = len(subsystem.controllers) > 1
    states = [
        PowerState.build(mp=500 - 100 * n, flags=PowerFlags.build(nops=n == POWER_STATES - 1))
        for n in range(POWER_STATES)
    ]
    return IdentifyController.build(
        sn=SERIAL,
        mn="memory",
        fr=subsystem.firmware.slots[subsystem.firmware.active],
        cmic=CMIC.build(mctrs=several, anars=1),
        mdts=ctrl.mdts,
        cntlid=ctrl.cntlid,
        ver=_VERSION,
        oaes=OAES.build(nan=1, fan=1, anacn=1, lsian=1, zdcn=1),
        ctratt=CTRATT.build(
            hids=1, nsets=1, rrlvls=1, egs=1, plm=1, ng=1, vcm=1, deg=1, dnvms=1, elbas=1, fdps=1
        ),
        rrls=1 << 4 | 1 << 15,
        cntrltype=ControllerType.IO,
        nvmsr=NVMSR.build(nvmesd=1),
        oacs=OACS.build(
            ssrs=1, fnvms=1, fwds=1, nms=1, dsts=1, dirs=1, nsrs=1, vms=1, glss=1, cfls=1
        ),
        acl=3,
        aerl=EVENT_REQUESTS - 1,
        frmw=FRMW.build(ffsro=1, nofs=FIRMWARE_SLOTS, fawr=1),
        lpa=LPA.build(smarts=1, cses=1, lpeds=1, ts=1, pes=1, mlps=1),
        elpe=ERROR_ENTRIES - 1,
        npss=POWER_STATES - 1,
        apsta=APSTA.build(aps=1),
        wctemp=WARNING_TEMPERATURE,
        cctemp=CRITICAL_TEMPERATURE,
        tnvmcap=len(subsystem.memory),
        unvmcap=subsystem.unallocated,
        rpmbs=RPMBS.build(nrpmbu=1, totsz=rpmb.SIZE // (128 << 10) - 1, accsz=rpmb.ACCESS - 1),
        edstt=1,
        fwug=1,
        kas=10,
        hctma=HCTMA.build(hctms=1),
        mntmt=300,
        mxtmt=350,
        sanicap=SANICAP.build(ces=1, bes=1, ows=1, nodmmas=1),
        nsetidmax=16,
        endgidmax=16,
        anatt=1,
        anacap=ANACAP.build(raos=1),
        anagrpmax=1,
        nanagrpid=1,
        pels=16,
        megcap=len(subsystem.memory),
        sqes=EntrySizes.build(min=6, max=6),
        cqes=EntrySizes.build(min=4, max=4),
        nn=MOST_NAMESPACES,
        mnan=MOST_NAMESPACES,
        oncs=ONCS.build(
            nvmcmps=1,
            nvmwusv=1,
            nvmdsmsv=1,
            nvmwzsv=1,
            ssfs=1,
            reservs=1,
            tss=1,
            nvmvfys=1,
            nvmcpys=1,
        ),
        fuses=FUSES.build(fcws=1),
        fna=FNA.build(cryes=1),
        vwc=VWC.build(vwcp=1, fb=FlushBehavior.SUPPORTED),
        nwpc=NWPC.build(nwwps=1, wpupcs=1, pwps=1),
        acwu=0xFFFF,
        ocfs=OCFS.build(cdf0s=1, cdf1s=1, cdf2s=1, cdf3s=1),
        sgls=SGLS.build(sgls=SglSupport.DWORD_ALIGNED),
        subnqn=SUBSYSTEM_NAME,
        psds=[*states, *[PowerState.build()] * (32 - POWER_STATES)],
    )


def _lbafs(ctrl: Controller) -> list[LbaFormat]:
    there = [form.lbaf for form in ctrl.subsystem.formats]
    return there + [LbaFormat.build()] * (_FORMATS - len(there))


def _common(ctrl: Controller) -> IdentifyNamespace:
    """Return what is so of all namespaces."""
    return IdentifyNamespace.build(
        nlbaf=len(ctrl.subsystem.formats) - 1,
        mc=MC.build(mtelbas=1, mptrs=1),
        dpc=DPC.build(pit1s=1, pit2s=1, pit3s=1, piifb=1, piilb=1),
        dlfeat=DLFEAT.build(drb=1, wzds=1),
        lbafs=_lbafs(ctrl),
        mssrl=MSSRL,
        mcl=MCL,
        msrc=MSRC - 1,
    )


def _rescap() -> RESCAP:
    return RESCAP.build(ptpls=1, wes=1, eas=1, weros=1, earos=1, wears=1, eaars=1, iekey=1)


def _nvm_set(ns: Namespace) -> int:
    """Return the NVM Set, which there is none of with data placement."""
    return 0 if ns.handles else NVM_SET


def namespace_page(ctrl: Controller, ns: Namespace) -> IdentifyNamespace:
    """Return Identify Namespace."""
    size = len(ns.media)
    return _common(ctrl).replace(
        nsze=ns.blocks,
        ncap=ns.blocks,
        nuse=ns.blocks,
        flbas=FLBAS.build(fidxl=ns.index & 0xF, fidxu=ns.index >> 4, mtelba=ns.extended),
        dps=ns.dps,
        nmic=NMIC.build(shrns=ns.shared),
        rescap=_rescap(),
        nvmcap=size,
        anagrpid=1,
        nsattr=NSATTR.build(cwp=ns.protection != WriteProtectionState.NONE),
        nvmsetid=_nvm_set(ns),
        endgid=ns.group,
        nguid=ns.uuid.bytes,
    )


def _namespace(ctrl: Controller, sqe: SQE) -> bytes:
    if sqe.nsid == NSID_ALL:
        return bytes(_common(ctrl))
    require(0 < sqe.nsid <= MOST_NAMESPACES, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    ns = ctrl.subsystem.namespaces.get(sqe.nsid)
    if ns is None or not ctrl.is_attached(ns):
        return bytes(PAGE)  # of an inactive namespace: zeroes
    return bytes(namespace_page(ctrl, ns))


def _allocated(ctrl: Controller, sqe: SQE) -> Namespace | None:
    require(0 < sqe.nsid <= MOST_NAMESPACES, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    return ctrl.subsystem.namespaces.get(sqe.nsid)


def _allocated_namespace(ctrl: Controller, sqe: SQE) -> bytes:
    ns = _allocated(ctrl, sqe)
    return bytes(PAGE) if ns is None else bytes(namespace_page(ctrl, ns))


def _independent(ns: Namespace) -> bytes:
    return bytes(
        IdentifyNamespaceIndependent.build(
            nmic=NMIC.build(shrns=ns.shared),
            rescap=_rescap(),
            anagrpid=1,
            nsattr=NSATTR.build(cwp=ns.protection != WriteProtectionState.NONE),
            nvmsetid=_nvm_set(ns),
            endgid=ns.group,
            nstat=NSTAT.build(nrdy=1),
        )
    )


def _independent_namespace(ctrl: Controller, sqe: SQE) -> bytes:
    return _independent(ctrl.namespace(sqe.nsid))


def _independent_allocated(ctrl: Controller, sqe: SQE) -> bytes:
    ns = _allocated(ctrl, sqe)
    return bytes(PAGE) if ns is None else _independent(ns)


def _csi_page(ctrl: Controller, sqe: SQE, ns: Namespace | None) -> bytes:
    csi = _csi(sqe)
    if csi == CommandSetId.NVM:
        there = [ExtendedLbaFormat.build(elbaf=form.elbaf) for form in ctrl.subsystem.formats]
        none = [ExtendedLbaFormat.build()] * (_FORMATS - len(there))
        return bytes(IdentifyNamespaceNvm.build(pic=PIC.build(stcrs=1), elbafs=there + none))
    require(ns is not None and ns.zones is not None)
    assert ns is not None
    return zones.identify(ns, _FORMATS)


def _csi_namespace(ctrl: Controller, sqe: SQE) -> bytes:
    ns = None if sqe.nsid == NSID_ALL else ctrl.namespace(sqe.nsid)
    return _csi_page(ctrl, sqe, ns)


def _csi_allocated_namespace(ctrl: Controller, sqe: SQE) -> bytes:
    return _csi_page(ctrl, sqe, _allocated(ctrl, sqe))


def _csi_controller(ctrl: Controller, sqe: SQE) -> bytes:
    if _csi(sqe) == CommandSetId.NVM:
        return bytes(IdentifyControllerNvm.build(vsl=7, wzsl=7, wusl=7, ver=VS.build(mjr=1)))
    return bytes(IdentifyControllerZns.build())


def _csi(sqe: SQE) -> int:
    csi = IdentifyCdw11(sqe.cdw11).csi
    require(csi in (CommandSetId.NVM, CommandSetId.ZONED))
    return csi


def _format_page(ctrl: Controller, sqe: SQE) -> bytes:
    require(IdentifyCdw11(sqe.cdw11).cnssid < len(ctrl.subsystem.formats))
    return bytes(_common(ctrl))


def _csi_format_page(ctrl: Controller, sqe: SQE) -> bytes:
    require(IdentifyCdw11(sqe.cdw11).cnssid < len(ctrl.subsystem.formats))
    return _csi_page(ctrl, sqe, None)


def _list(sqe: SQE, found: Iterable[Namespace]) -> bytes:
    require(sqe.nsid < 0xFFFFFFFE, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    return bytes(NamespaceList.build(sorted(ns.nsid for ns in found if ns.nsid > sqe.nsid)))


def _active(ctrl: Controller, sqe: SQE) -> bytes:
    return _list(sqe, ctrl.addressed(NSID_ALL))


def _csi_active(ctrl: Controller, sqe: SQE) -> bytes:
    csi = _csi(sqe)
    return _list(sqe, (ns for ns in ctrl.addressed(NSID_ALL) if _csi_of(ns) == csi))


def _allocated_list(ctrl: Controller, sqe: SQE) -> bytes:
    return _list(sqe, ctrl.subsystem.namespaces.values())


def _csi_allocated_list(ctrl: Controller, sqe: SQE) -> bytes:
    csi = _csi(sqe)
    return _list(sqe, (ns for ns in ctrl.subsystem.namespaces.values() if _csi_of(ns) == csi))


def _csi_of(ns: Namespace) -> CommandSetId:
    return CommandSetId.NVM if ns.zones is None else CommandSetId.ZONED


def _descriptors(ctrl: Controller, sqe: SQE) -> bytes:
    ns = ctrl.namespace(sqe.nsid)
    given = {
        IdentifierType.NGUID: ns.uuid.bytes,
        IdentifierType.UUID: ns.uuid.bytes,
        IdentifierType.CSI: bytes([_csi_of(ns)]),
    }
    return bytes(
        NamespaceDescriptorList.build(
            NamespaceDescriptor.build(raw, nidt=kind, nidl=len(raw)) for kind, raw in given.items()
        )
    )


def _controllers(ids: Iterable[int], sqe: SQE) -> bytes:
    first = IdentifyCdw10(sqe.cdw10).cntid
    found = sorted(cntlid for cntlid in ids if cntlid >= first)
    return bytes(ControllerList.build(found, numids=len(found)))


def _namespace_controllers(ctrl: Controller, sqe: SQE) -> bytes:
    ns = _allocated(ctrl, sqe)
    return _controllers(ns.controllers if ns else (), sqe)


def _all_controllers(ctrl: Controller, sqe: SQE) -> bytes:
    return _controllers(ctrl.subsystem.controllers, sqe)


def _nvm_sets(ctrl: Controller, sqe: SQE) -> bytes:
    first = IdentifyCdw11(sqe.cdw11).cnssid
    entries = [
        NvmSetAttributes.build(nsetid=nsetid, endgid=group, tnvmsetcap=len(ctrl.subsystem.memory))
        for nsetid, group in sorted(ctrl.subsystem.nvm_sets.items())
        if nsetid >= first
    ]
    return bytes(NvmSetList.build(entries, numids=len(entries)))


def _endurance_groups(ctrl: Controller, sqe: SQE) -> bytes:
    first = IdentifyCdw11(sqe.cdw11).cnssid
    found = sorted(group for group in ctrl.subsystem.endurance_groups if group >= first)
    return bytes(EnduranceGroupList.build(found, negids=len(found)))


def _domains(ctrl: Controller, sqe: SQE) -> bytes:
    subsystem = ctrl.subsystem
    domain = DomainAttributes.build(
        domid=1, tdc=len(subsystem.memory), udc=subsystem.unallocated, megdc=len(subsystem.memory)
    )
    entries = [domain] if IdentifyCdw11(sqe.cdw11).cnssid <= 1 else []
    return bytes(DomainList.build(entries, ndent=len(entries)))


def _granularities(ctrl: Controller, sqe: SQE) -> bytes:
    entries = [
        NamespaceGranularity.build(nszegran=1 << form.shift, ncapgran=1 << form.shift)
        for form in ctrl.subsystem.formats
    ]
    attributes = GranularityAttributes.build(gdv=1)
    return bytes(NamespaceGranularityList.build(entries, nga=attributes, nod=len(entries) - 1))


def _command_sets(ctrl: Controller, sqe: SQE) -> bytes:
    both = IoCommandSetCombination.build(iocsc=IOCSV.build(nvmcs=1, zncs=1))
    return bytes(IoCommandSets.build([both]))


def _primary(ctrl: Controller, sqe: SQE) -> bytes:
    subsystem = ctrl.subsystem
    vq, vi = (sum(each[kind] for each in subsystem.secondary.values()) for kind in (1, 2))
    return bytes(
        PrimaryControllerCapabilities.build(
            cntlid=ctrl.cntlid,
            crt=CRT.build(vqrs=1, virs=1),
            vqfrt=FLEXIBLE_RESOURCES,
            vqrfa=vq,
            vqrfap=subsystem.primary_flexible[0],
            vqprt=ctrl.queues,
            vqfrsm=FLEXIBLE_RESOURCES,
            vqgran=1,
            vifrt=FLEXIBLE_RESOURCES,
            virfa=vi,
            virfap=subsystem.primary_flexible[1],
            viprt=ctrl.queues,
            vifrsm=FLEXIBLE_RESOURCES,
            vigran=1,
        )
    )


def _secondary(ctrl: Controller, sqe: SQE) -> bytes:
    first = IdentifyCdw10(sqe.cdw10).cntid
    entries = [
        SecondaryController.build(
            scid=scid, pcid=ctrl.cntlid, scs=SCS.build(onl=online), vfn=at + 1, nvq=nvq, nvi=nvi
        )
        for at, (scid, (online, nvq, nvi)) in enumerate(sorted(ctrl.subsystem.secondary.items()))
        if scid >= first
    ]
    return bytes(SecondaryControllerList.build(entries, numids=len(entries)))


_BUILDERS: dict[int, Builder] = {
    Cns.NAMESPACE: _namespace,
    Cns.CONTROLLER: lambda ctrl, sqe: bytes(controller_page(ctrl)),
    Cns.ACTIVE_NAMESPACES: _active,
    Cns.NAMESPACE_DESCRIPTORS: _descriptors,
    Cns.NVM_SETS: _nvm_sets,
    Cns.CSI_NAMESPACE: _csi_namespace,
    Cns.CSI_CONTROLLER: _csi_controller,
    Cns.CSI_ACTIVE_NAMESPACES: _csi_active,
    Cns.INDEPENDENT_NAMESPACE: _independent_namespace,
    Cns.NAMESPACE_FORMAT: _format_page,
    Cns.CSI_NAMESPACE_FORMAT: _csi_format_page,
    Cns.ALLOCATED_NAMESPACES: _allocated_list,
    Cns.ALLOCATED_NAMESPACE: _allocated_namespace,
    Cns.NAMESPACE_CONTROLLERS: _namespace_controllers,
    Cns.CONTROLLERS: _all_controllers,
    Cns.PRIMARY_CONTROLLER_CAPABILITIES: _primary,
    Cns.SECONDARY_CONTROLLERS: _secondary,
    Cns.NAMESPACE_GRANULARITIES: _granularities,
    Cns.UUIDS: lambda ctrl, sqe: bytes(UuidList.build()),
    Cns.DOMAINS: _domains,
    Cns.ENDURANCE_GROUPS: _endurance_groups,
    Cns.CSI_ALLOCATED_NAMESPACES: _csi_allocated_list,
    Cns.CSI_ALLOCATED_NAMESPACE: _csi_allocated_namespace,
    Cns.IO_COMMAND_SETS: _command_sets,
    Cns.INDEPENDENT_ALLOCATED_NAMESPACE: _independent_allocated,
}
_WITH_CSI = {
    Cns.CSI_NAMESPACE,
    Cns.CSI_CONTROLLER,
    Cns.CSI_ACTIVE_NAMESPACES,
    Cns.CSI_NAMESPACE_FORMAT,
    Cns.NAMESPACE_FORMAT,
    Cns.CSI_ALLOCATED_NAMESPACES,
    Cns.CSI_ALLOCATED_NAMESPACE,
}


def identify(ctrl: Controller, command: Command) -> None:
    """Execute Identify (Base 2.1, 5.1.13)."""
    sqe = command.sqe
    cns = IdentifyCdw10(sqe.cdw10).cns
    build = _BUILDERS.get(cns)
    require(build and not IdentifyCdw14(sqe.cdw14).uidx)
    require(cns in _WITH_CSI or not IdentifyCdw11(sqe.cdw11).csi)
    assert build is not None
    send(command, build(ctrl, sqe).ljust(PAGE, b"\0"))
