"""Security, virtualization, lockdown, NVMe-MI, Get LBA Status, Keep Alive."""

from __future__ import annotations

import numpy as np

from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.features import SetFeaturesCdw10
from pynvme_user.spec.logs import LbaStatusAction, LockdownScope
from pynvme_user.spec.management import (
    GetLbaStatusCdw13,
    LbaStatusCompletion,
    LbaStatusDescriptor,
    LbaStatusList,
    LbaStatusListHeader,
    LockdownCdw10,
    LockdownCdw14,
    LockdownInterface,
    ManagementInterfaceCdw10,
    ManagementInterfaceCdw11,
    ManagementMessageType,
    VirtualizationAction,
    VirtualizationManagementCdw10,
    VirtualizationManagementCdw11,
)
from pynvme_user.spec.security import (
    RPMB_SPSP,
    RpmbFrameHeader,
    SecurityCdw10,
    SecurityProtocol,
    SecurityReceiveCdw11,
    SecuritySendCdw11,
    SupportedProtocols,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.effects import LOCKABLE, MANAGEMENT_COMMANDS
from pynvme_user.testing.model.identify import FLEXIBLE_RESOURCES
from pynvme_user.testing.model.logs import runs
from pynvme_user.testing.model.state import Controller, Refused, receive, require, send

S = CommandSpecificStatus
#: Security protocols; what is sent by the second is returned by it.
PROTOCOLS = (SecurityProtocol.INFORMATION, SecurityProtocol.TCG_1, SecurityProtocol.NVME)
_NVME_MI = 4  # the message type


def keep_alive(ctrl: Controller, command: Command) -> None:
    """Execute Keep Alive: nothing runs out."""


# --- security -------------------------------------------------------------------------------------


def security_send(ctrl: Controller, command: Command) -> None:
    """Execute Security Send (Base 2.1, 5.1.24): what came is kept for Security Receive."""
    sqe = command.sqe
    cdw10, length = SecurityCdw10(sqe.cdw10), SecuritySendCdw11(sqe.cdw11).tl
    require(cdw10.secp in PROTOCOLS[1:] and length <= ctrl.max_transfer)
    if _is_rpmb(cdw10):
        require(length >= RpmbFrameHeader.size)
        frame = receive(command, length)
        target = RpmbFrameHeader.from_bytes(frame).target
        require(cdw10.nssf == target == 0)
        ctrl.rpmb.take(frame)
        return
    ctrl.security[cdw10.secp << 16 | cdw10.spsp] = receive(command, length)


def security_receive(ctrl: Controller, command: Command) -> None:
    """Execute Security Receive (Base 2.1, 5.1.23)."""
    sqe = command.sqe
    cdw10, length = SecurityCdw10(sqe.cdw10), SecurityReceiveCdw11(sqe.cdw11).al
    require(cdw10.secp in PROTOCOLS and length <= ctrl.max_transfer)
    if cdw10.secp == SecurityProtocol.INFORMATION:
        require(cdw10.spsp == 0)
        data = bytes(SupportedProtocols.build(PROTOCOLS, length=len(PROTOCOLS)))
    elif _is_rpmb(cdw10):
        require(cdw10.nssf == 0)
        data = ctrl.rpmb.answer
    else:
        data = ctrl.security.get(cdw10.secp << 16 | cdw10.spsp, b"")
    send(command, data[:length].ljust(length, b"\0"))


def _is_rpmb(cdw10: SecurityCdw10) -> bool:
    return cdw10.secp == SecurityProtocol.NVME and cdw10.spsp == RPMB_SPSP


# --- virtualization -------------------------------------------------------------------------------


def virtualization(ctrl: Controller, command: Command) -> None:
    """Execute Virtualization Management (Base 2.1, 5.2.6)."""
    cdw10 = VirtualizationManagementCdw10(command.sqe.cdw10)
    number = VirtualizationManagementCdw11(command.sqe.cdw11).nr
    subsystem = ctrl.subsystem
    secondary = subsystem.secondary.get(cdw10.cntlid)
    require(cdw10.rt <= 1, S.INVALID_RESOURCE_ID)
    if cdw10.act == VirtualizationAction.PRIMARY_FLEXIBLE_ALLOCATION:
        require(cdw10.cntlid == ctrl.cntlid, S.INVALID_CONTROLLER_ID)
        require(number <= FLEXIBLE_RESOURCES, S.INVALID_NUMBER_OF_CONTROLLER_RESOURCES)
        subsystem.primary_flexible[cdw10.rt] = number
        command.dw0 = number
        return
    require(secondary is not None, S.INVALID_CONTROLLER_ID)
    assert secondary is not None
    match cdw10.act:
        case VirtualizationAction.SECONDARY_OFFLINE:
            secondary[:] = [0, 0, 0]
        case VirtualizationAction.SECONDARY_ASSIGN:
            require(not secondary[0], S.INVALID_SECONDARY_CONTROLLER_STATE)
            others = sum(
                each[1 + cdw10.rt] for each in subsystem.secondary.values() if each is not secondary
            )
            require(others + number <= FLEXIBLE_RESOURCES, S.INVALID_NUMBER_OF_CONTROLLER_RESOURCES)
            secondary[1 + cdw10.rt] = command.dw0 = number
        case VirtualizationAction.SECONDARY_ONLINE:
            # With an admin queue, an I/O queue and a vector.
            ready = secondary[1] >= 2 and secondary[2] >= 1
            require(ready, S.INVALID_SECONDARY_CONTROLLER_STATE)
            secondary[0] = 1
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)


# --- lockdown -------------------------------------------------------------------------------------


def lockdown(ctrl: Controller, command: Command) -> None:
    """Execute Lockdown (Base 2.1, 5.1.15)."""
    cdw10 = LockdownCdw10(command.sqe.cdw10)
    require(not LockdownCdw14(command.sqe.cdw14).uidx)
    require(cdw10.ofi in LOCKABLE.get(cdw10.scp, ()), S.PROHIBITION_NOT_SUPPORTED)
    sides = {
        LockdownInterface.ADMIN_QUEUE: (False,),
        LockdownInterface.ADMIN_QUEUE_AND_OUT_OF_BAND: (False, True),
        LockdownInterface.OUT_OF_BAND: (True,),
    }
    require(cdw10.ifc in sides)
    for side in sides[LockdownInterface(cdw10.ifc)]:
        prohibited = ctrl.subsystem.prohibited[side]
        if cdw10.prhbt:
            prohibited.add((cdw10.scp, cdw10.ofi))
        else:
            prohibited.discard((cdw10.scp, cdw10.ofi))


def check_lockdown(ctrl: Controller, sqe: SQE) -> None:
    """End an admin command that is prohibited."""
    prohibited = ctrl.subsystem.prohibited[False]
    locked = (LockdownScope.ADMIN_COMMANDS, sqe.opc) in prohibited
    if sqe.opc == AdminOpcode.SET_FEATURES:
        locked |= (LockdownScope.FEATURES, SetFeaturesCdw10(sqe.cdw10).fid) in prohibited
    require(not locked, GenericStatus.PROHIBITED_BY_LOCKDOWN)


# --- NVMe-MI --------------------------------------------------------------------------------------

_READ_STRUCTURE, _SUBSYSTEM_HEALTH, _CONFIGURATION_SET = MANAGEMENT_COMMANDS


def _check_message(sqe: SQE) -> int:
    cdw10 = ManagementInterfaceCdw10(sqe.cdw10)
    require(cdw10.mt == _NVME_MI and cdw10.nmimt == ManagementMessageType.MI_COMMAND)
    opcode = ManagementInterfaceCdw11(sqe.cdw11).opc
    require(opcode in MANAGEMENT_COMMANDS)
    return opcode


def management_send(ctrl: Controller, command: Command) -> None:
    """Execute NVMe-MI Send: Configuration Set alone takes something, and keeps it."""
    opcode = _check_message(command.sqe)
    require(opcode == _CONFIGURATION_SET)
    ctrl.configuration[command.sqe.cdw12] = command.sqe.cdw13
    command.dw0 = 0


def management_receive(ctrl: Controller, command: Command) -> None:
    """Execute NVMe-MI Receive: what there is to read is short, and the rest is zeroes."""
    opcode = _check_message(command.sqe)
    require(opcode != _CONFIGURATION_SET)
    if opcode == _SUBSYSTEM_HEALTH:
        celsius = max(0, min(ctrl.temperature - 273, 0x7E))
        data = bytes([0x38, 0xFF, celsius, 0])  # functional; no warning; %used 0
    else:
        data = bytes([1, 0, 0, 0])  # one port
    send(command, data.ljust(4096, b"\0"))


# --- Get LBA Status -------------------------------------------------------------------------------


def lba_status(ctrl: Controller, command: Command) -> None:
    """Execute Get LBA Status (NVM Command Set 1.1, 4.2.1): blocks that cannot be read.

    Those that are allocated are those that are not zeroes: the others could be.
    """
    sqe = command.sqe
    ns, first = ctrl.namespace(sqe.nsid), sqe.cdw11 << 32 | sqe.cdw10
    cdw13, length = GetLbaStatusCdw13(sqe.cdw13), (sqe.cdw12 + 1) * 4
    require(cdw13.atype in [*LbaStatusAction])
    require(LbaStatusListHeader.size <= length <= ctrl.max_transfer)
    require(first < ns.blocks, GenericStatus.LBA_OUT_OF_RANGE)
    end = min(ns.blocks, first + cdw13.rl) if cdw13.rl else ns.blocks
    marked = {lba for lba in ns.uncorrectable if first <= lba < end}
    if cdw13.atype == LbaStatusAction.ALLOCATED:
        data = np.frombuffer(ns.data(first, end - first), np.uint8)
        written = np.any(data.reshape(-1, ns.block_size), axis=1)
        marked.update(first + int(lba) for lba in np.flatnonzero(written))
    found = runs(marked)
    room = (length - LbaStatusListHeader.size) // LbaStatusDescriptor.size
    done = LbaStatusCompletion.COMPLETE if len(found) <= room else LbaStatusCompletion.INCOMPLETE
    entries = [LbaStatusDescriptor.build(dslba=lba, nlb=blocks - 1) for lba, blocks in found[:room]]
    page = bytes(LbaStatusList.build(entries, nlsd=len(entries), cmpc=done))
    send(command, page.ljust(length, b"\0"))
