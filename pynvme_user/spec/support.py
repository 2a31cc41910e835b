"""What a controller says that it supports, asked before a command is sent (NVMe Base 2.1, 3.1.3).

A function here returns None if the command, log page or feature is supported or if the controller
says nothing about it, else a clause for a message: "OACS bit 1 (Format NVM Supported) is 0". A
Commands Supported and Effects log, where there is one, knows more than Identify Controller, so it
decides about commands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .commands import AdminOpcode, NvmOpcode
from .features import FeatureId
from .fields import Bits, Unsigned
from .identify_controller import IdentifyController
from .identify_controller_bits import (
    APSTA,
    CMIC,
    CTRATT,
    FUSES,
    HCTMA,
    LPA,
    NWPC,
    OACS,
    ONCS,
    VWC,
)
from .identify_nvm import IdentifyControllerNvm
from .logs import LogId

_MIGRATION = 0x0002_0100  # VS of 2.1, which brought the bit of live migration
_CANCEL = 0x0002_0000  # VS of 2.0: older ones have no Cancel, which came with 2.1
_SIZE_LIMITS = 0x0002_0000  # VS of 2.0, which brought the limits of `_BY_LIMITS`


class CommandsSupported(Protocol):
    """What is read of the Commands Supported and Effects log: bit 0 of an opcode's entry."""

    @property
    def acs(self) -> Sequence[int]:
        """The entries of the admin commands, by opcode."""

    @property
    def iocs(self) -> Sequence[int]:
        """The entries of the I/O commands of a command set, by opcode."""


@dataclass(frozen=True)
class Needs:
    """A field of Identify Controller that has to be other than 0: all of it, or one of its bits.

    `since` is the version of the specification that brought it.
    """

    field: str
    bit: int | None = None
    text: str = ""
    since: int = 0

    def missing(self, identify: IdentifyController) -> str | None:
        """Return what `identify` lacks, as a clause; None if it lacks nothing."""
        value: int = getattr(identify, self.field)
        if self.bit is not None:
            value = value >> self.bit & 1
        if value or 0 < identify.ver < self.since:
            return None
        where = "" if self.bit is None else f" bit {self.bit}"
        return f"{self.field.upper()}{where} ({self.text}) is 0"


def _bit(name: str, bits: Bits, since: int = 0) -> Needs:
    return Needs(name, bits.lsb, bits.text, since)


def _field(field: Unsigned[Any]) -> Needs:
    return Needs(field.name, None, field.text)


#: One of these is enough; no entry for a command that every controller has, or that no field tells.
ADMIN_NEEDS: dict[int, tuple[Needs, ...]] = {
    AdminOpcode.NAMESPACE_MANAGEMENT: (_bit("oacs", OACS.nms),),
    AdminOpcode.NAMESPACE_ATTACHMENT: (_bit("oacs", OACS.nms),),
    AdminOpcode.FIRMWARE_COMMIT: (_bit("oacs", OACS.fwds),),
    AdminOpcode.FIRMWARE_DOWNLOAD: (_bit("oacs", OACS.fwds),),
    AdminOpcode.DEVICE_SELF_TEST: (_bit("oacs", OACS.dsts),),
    AdminOpcode.KEEP_ALIVE: (_field(IdentifyController.kas),),
    AdminOpcode.DIRECTIVE_SEND: (_bit("oacs", OACS.dirs),),
    AdminOpcode.DIRECTIVE_RECEIVE: (_bit("oacs", OACS.dirs),),
    AdminOpcode.VIRTUALIZATION_MANAGEMENT: (_bit("oacs", OACS.vms),),
    AdminOpcode.NVME_MI_SEND: (_bit("oacs", OACS.nsrs),),
    AdminOpcode.NVME_MI_RECEIVE: (_bit("oacs", OACS.nsrs),),
    AdminOpcode.CAPACITY_MANAGEMENT: (_bit("ctratt", CTRATT.fcm), _bit("ctratt", CTRATT.vcm)),
    AdminOpcode.LOCKDOWN: (_bit("oacs", OACS.cfls),),
    AdminOpcode.TRACK_SEND: (_bit("oacs", OACS.hmlms, _MIGRATION),),
    AdminOpcode.TRACK_RECEIVE: (_bit("oacs", OACS.hmlms, _MIGRATION),),
    AdminOpcode.MIGRATION_SEND: (_bit("oacs", OACS.hmlms, _MIGRATION),),
    AdminOpcode.MIGRATION_RECEIVE: (_bit("oacs", OACS.hmlms, _MIGRATION),),
    AdminOpcode.CONTROLLER_DATA_QUEUE: (_bit("oacs", OACS.hmlms, _MIGRATION),),
    AdminOpcode.DOORBELL_BUFFER_CONFIG: (_bit("oacs", OACS.dbcs),),
    AdminOpcode.FORMAT_NVM: (_bit("oacs", OACS.fnvms),),
    AdminOpcode.SECURITY_SEND: (_bit("oacs", OACS.ssrs),),
    AdminOpcode.SECURITY_RECEIVE: (_bit("oacs", OACS.ssrs),),
    AdminOpcode.SANITIZE: (_field(IdentifyController.sanicap),),
    AdminOpcode.GET_LBA_STATUS: (_bit("oacs", OACS.glss),),
}

IO_NEEDS: dict[int, tuple[Needs, ...]] = {
    NvmOpcode.WRITE_UNCORRECTABLE: (_bit("oncs", ONCS.nvmwusv),),
    NvmOpcode.COMPARE: (_bit("oncs", ONCS.nvmcmps),),
    NvmOpcode.WRITE_ZEROES: (_bit("oncs", ONCS.nvmwzsv),),
    NvmOpcode.DATASET_MANAGEMENT: (_bit("oncs", ONCS.nvmdsmsv),),
    NvmOpcode.VERIFY: (_bit("oncs", ONCS.nvmvfys),),
    NvmOpcode.RESERVATION_REGISTER: (_bit("oncs", ONCS.reservs),),
    NvmOpcode.RESERVATION_REPORT: (_bit("oncs", ONCS.reservs),),
    NvmOpcode.RESERVATION_ACQUIRE: (_bit("oncs", ONCS.reservs),),
    NvmOpcode.IO_MANAGEMENT_RECEIVE: (_bit("ctratt", CTRATT.fdps),),
    NvmOpcode.RESERVATION_RELEASE: (_bit("oncs", ONCS.reservs),),
    NvmOpcode.COPY: (_bit("oncs", ONCS.nvmcpys),),
    NvmOpcode.IO_MANAGEMENT_SEND: (_bit("ctratt", CTRATT.fdps),),
}

#: From 2.0 on these are supported with their ONCS bit 0, too, if they have a size limit.
_BY_LIMITS: dict[int, Callable[[IdentifyControllerNvm], int]] = {
    NvmOpcode.WRITE_UNCORRECTABLE: lambda limits: limits.wusl,
    NvmOpcode.WRITE_ZEROES: lambda limits: limits.wzsl,
    NvmOpcode.DATASET_MANAGEMENT: lambda limits: limits.dmrl | limits.dmrsl | limits.dmsl,
}

LOG_NEEDS: dict[int, tuple[Needs, ...]] = {
    LogId.SUPPORTED_LOG_PAGES: (_bit("lpa", LPA.mlps),),
    LogId.COMMAND_EFFECTS: (_bit("lpa", LPA.cses),),
    LogId.SELF_TEST: (_bit("oacs", OACS.dsts),),
    LogId.TELEMETRY_HOST: (_bit("lpa", LPA.ts),),
    LogId.TELEMETRY_CONTROLLER: (_bit("lpa", LPA.ts),),
    LogId.ENDURANCE_GROUP: (_bit("ctratt", CTRATT.egs),),
    LogId.PREDICTABLE_LATENCY: (_bit("ctratt", CTRATT.plm),),
    LogId.PREDICTABLE_LATENCY_AGGREGATE: (_bit("ctratt", CTRATT.plm),),
    LogId.ANA: (_bit("cmic", CMIC.anars),),
    LogId.PERSISTENT_EVENT: (_bit("lpa", LPA.pes),),
    LogId.ENDURANCE_GROUP_AGGREGATE: (_bit("ctratt", CTRATT.egs),),
    LogId.CAPACITY_CONFIGURATIONS: (
        _bit("ctratt", CTRATT.fcm),
        _bit("ctratt", CTRATT.vcm),
    ),
    LogId.FEATURE_EFFECTS: (_bit("lpa", LPA.mlps),),
    LogId.MI_COMMAND_EFFECTS: (_bit("lpa", LPA.mlps),),
    LogId.LOCKDOWN: (_bit("oacs", OACS.cfls),),
    LogId.FDP_CONFIGURATIONS: (_bit("ctratt", CTRATT.fdps),),
    LogId.RECLAIM_UNIT_HANDLE_USAGE: (_bit("ctratt", CTRATT.fdps),),
    LogId.FDP_STATISTICS: (_bit("ctratt", CTRATT.fdps),),
    LogId.FDP_EVENTS: (_bit("ctratt", CTRATT.fdps),),
    LogId.RESERVATION_NOTIFICATION: (_bit("oncs", ONCS.reservs),),
    LogId.SANITIZE: (_field(IdentifyController.sanicap),),
}

FEATURE_NEEDS: dict[int, tuple[Needs, ...]] = {
    FeatureId.VOLATILE_WRITE_CACHE: (_bit("vwc", VWC.vwcp),),
    FeatureId.AUTONOMOUS_POWER_STATE_TRANSITION: (_bit("apsta", APSTA.aps),),
    FeatureId.HOST_MEMORY_BUFFER: (_field(IdentifyController.hmpre),),
    FeatureId.TIMESTAMP: (_bit("oncs", ONCS.tss),),
    FeatureId.KEEP_ALIVE_TIMER: (_field(IdentifyController.kas),),
    FeatureId.HOST_CONTROLLED_THERMAL_MANAGEMENT: (_bit("hctma", HCTMA.hctms),),
    FeatureId.READ_RECOVERY_LEVEL_CONFIG: (_bit("ctratt", CTRATT.rrlvls),),
    FeatureId.PREDICTABLE_LATENCY_MODE_CONFIG: (_bit("ctratt", CTRATT.plm),),
    FeatureId.PREDICTABLE_LATENCY_MODE_WINDOW: (_bit("ctratt", CTRATT.plm),),
    FeatureId.LBA_STATUS_INFORMATION_REPORT_INTERVAL: (_bit("oacs", OACS.glss),),
    FeatureId.SANITIZE_CONFIG: (_field(IdentifyController.sanicap),),
    FeatureId.ENDURANCE_GROUP_EVENT_CONFIG: (_bit("ctratt", CTRATT.egs),),
    FeatureId.FLEXIBLE_DATA_PLACEMENT: (_bit("ctratt", CTRATT.fdps),),
    FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS: (_bit("ctratt", CTRATT.fdps),),
    FeatureId.RESERVATION_NOTIFICATION_MASK: (_bit("oncs", ONCS.reservs),),
    FeatureId.RESERVATION_PERSISTENCE: (_bit("oncs", ONCS.reservs),),
    FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG: (_bit("nwpc", NWPC.nwwps),),
}


def _lacks(identify: IdentifyController, needs: tuple[Needs, ...]) -> str | None:
    missing = [need.missing(identify) for need in needs]
    clauses = [clause for clause in missing if clause is not None]
    return " and ".join(clauses) if clauses and len(clauses) == len(missing) else None


def _by_log(opcode: int, entries: Sequence[int]) -> str | None:
    if entries[opcode] & 1:
        return None
    return f"its Commands Supported and Effects log does not list opcode {opcode:02X}h"


def unsupported_admin(
    identify: IdentifyController, opcode: int, effects: CommandsSupported | None = None
) -> str | None:
    """Return why the controller does not support an admin command; None if it may support it."""
    if effects is not None:
        return _by_log(opcode, effects.acs)
    return _lacks(identify, ADMIN_NEEDS.get(opcode, ()))


def unsupported_io(
    identify: IdentifyController,
    opcode: int,
    effects: CommandsSupported | None = None,
    limits: IdentifyControllerNvm | None = None,
) -> str | None:
    """Return why the controller does not support an I/O command; None if it may support it.

    `effects` is the log of the namespace's command set. Without it `limits` tells of a controller
    of 2.0 or later whether Write Uncorrectable, Write Zeroes and Dataset Management are supported.
    """
    if effects is not None:
        return _by_log(opcode, effects.iocs)
    clause = _lacks(identify, IO_NEEDS.get(opcode, ()))
    limit = _BY_LIMITS.get(opcode)
    if clause is None or limit is None or identify.ver < _SIZE_LIMITS:
        return clause
    return None if limits is None or limit(limits) else clause


def may_cancel(identify: IdentifyController) -> bool:
    """Tell whether its Commands Supported and Effects log can say that it has Cancel.

    Nothing else does: Identify Controller has no bit for it (Base 2.1, 7.1).
    """
    return identify.ver >= _CANCEL and not unsupported_log(identify, LogId.COMMAND_EFFECTS)


def unsupported_fused(identify: IdentifyController) -> str | None:
    """Return why the controller does not support Compare and Write as a fused operation."""
    return _bit("fuses", FUSES.fcws).missing(identify)


def unsupported_log(identify: IdentifyController, lid: int) -> str | None:
    """Return why the controller does not have a log page; None if it may have it."""
    return _lacks(identify, LOG_NEEDS.get(lid, ()))


def unsupported_feature(identify: IdentifyController, fid: int) -> str | None:
    """Return why the controller does not have a feature; None if it may have it."""
    return _lacks(identify, FEATURE_NEEDS.get(fid, ()))


def unsupported_copy_format(identify: IdentifyController, desfmt: int) -> str | None:
    """Return why the controller does not take a format of Copy's source ranges."""
    if identify.ocfs >> desfmt & 1:
        return None
    return f"OCFS bit {desfmt} (Copy Descriptor Format {desfmt:X}h Supported) is 0"
