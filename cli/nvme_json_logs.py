"""nvme-cli's names and shapes of log pages; see `nvme_json`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import IntEnum
from typing import Any

from pynvme_user.bench.results.health import SMART_KEYS
from pynvme_user.cli.shape import Json, Shape, View, hexadecimal
from pynvme_user.spec.bits import named
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.logs import log_page
from pynvme_user.spec.logs_data import BootPartitionLog
from pynvme_user.spec.logs_health import (
    EnduranceGroupLog,
    ErrorLog,
    ErrorLogEntry,
    FirmwareSlotLog,
    SanitizeLog,
    SanitizeOperationStatus,
    SelfTestLog,
    SelfTestOutcome,
    SelfTestResult,
    SmartLog,
)
from pynvme_user.spec.logs_namespaces import (
    AnaGroup,
    AnaLog,
    AnaState,
    ChangedNamespaceList,
    ChangedZonesLog,
    LbaStatusLog,
    LbaStatusNamespace,
    ReservationNotificationLog,
)
from pynvme_user.spec.logs_support import (
    CommandEffectsLog,
    FeatureEffectsLog,
    MiCommandEffectsLog,
    SupportedLogPages,
)

_UNIT = 512_000  # bytes, of SMART's data units
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q")


# --- SMART -------------------------------------------------------------------------------------


def _kelvins(name: str) -> Callable[[Any], str]:
    return lambda page: celsius(getattr(page, name))


def celsius(kelvins: int) -> str:
    """Write a temperature as nvme-cli does."""
    return f"{kelvins - 273}°C ({kelvins} Kelvin)"


def _percent(name: str) -> Callable[[Any], str]:
    return lambda page: f"{getattr(page, name)}%"


def _data_units(name: str) -> Callable[[Any], str]:
    def say(page: Any) -> str:
        units = getattr(page, name)
        size, power = units * _UNIT, 0
        while size >= 1000 ** (power + 1) and power < len(_PREFIXES) - 1:
            power += 1
        return f"{units} ({size / 1000**power:.2f} {_PREFIXES[power]}B)"

    return say


def _sensors(page: SmartLog) -> Iterator[tuple[int, int]]:
    return ((number, kelvins) for number, kelvins in enumerate(page.tsen, 1) if kelvins)


def _sensors_json(page: SmartLog, _: View) -> dict[str, object]:
    return {f"temperature_sensor_{number}": kelvins for number, kelvins in _sensors(page)}


def _sensor_lines(page: SmartLog, _: View) -> Iterator[str]:
    for number, kelvins in _sensors(page):
        yield f"Temperature Sensor {number:<21}: {celsius(kelvins)}"


_WARNINGS = {
    "spare": "available_spare",
    "temperature": "temp_threshold",
    "reliability": "reliability_degraded",
    "read_only": "ro",
    "backup": "vmbu_failed",
    "pmr": "pmr_ro",
}


def _warning_json(page: SmartLog, view: View) -> dict[str, object]:
    if not view.human:
        return {"critical_warning": int(page.cw)}
    bits = {key: getattr(page.cw, name) for name, key in _WARNINGS.items()}
    return {"critical_warning": {"value": int(page.cw), **bits}}


_SMART = Shape(
    heading="Smart Log for NVME device:{device} namespace-id:{nsid:x}",
    keys={
        **SMART_KEYS,
        "cw": _warning_json,
        "egcws": "endurance_grp_critical_warning_summary",
        "tsen": _sensors_json,
    },
    labels={
        "cw": "critical_warning",
        "avsp": "available_spare",
        "avspt": "available_spare_threshold",
        "pused": "percentage_used",
        "egcws": "endurance group critical warning summary",
        "dur": "Data Units Read",
        "duw": "Data Units Written",
        "wctt": "Warning Temperature Time",
        "cctt": "Critical Composite Temperature Time",
        "tmt1tc": "Thermal Management T1 Trans Count",
        "tmt2tc": "Thermal Management T2 Trans Count",
        "tttmt1": "Thermal Management T1 Total Time",
        "tttmt2": "Thermal Management T2 Total Time",
    },
    values={
        "ctemp": _kelvins("ctemp"),
        "avsp": _percent("avsp"),
        "avspt": _percent("avspt"),
        "pused": _percent("pused"),
        "dur": _data_units("dur"),
        "duw": _data_units("duw"),
    },
    lines={"tsen": _sensor_lines},
    width=40,
)


# --- firmware, self-test, sanitize --------------------------------------------------------------


def revision(page: Any, name: str) -> str:
    """Write a firmware revision as a number and as text, as nvme-cli does in JSON."""
    field = getattr(type(page), name)
    raw = bytes(page)[field.offset : field.offset + field.size]
    text = "".join(chr(byte) if 0x21 <= byte <= 0x7E else "." for byte in raw)
    return f"{int.from_bytes(raw, 'little')} ({text})"


_SLOTS = tuple(f"frs{slot}" for slot in range(1, 8))


def _revision_json(slot: int) -> Json:
    def make(page: FirmwareSlotLog, _: View) -> dict[str, object]:
        there = bytes(page)[8 * slot]
        return {f"Firmware Rev Slot {slot}": revision(page, f"frs{slot}")} if there else {}

    return make


def _revision_text(name: str) -> Callable[[Any], str]:
    def say(page: FirmwareSlotLog) -> str:
        number, _, text = revision(page, name).partition(" ")
        return f"0x{int(number):016x} {text}"

    return say


def _empty_slots(page: FirmwareSlotLog) -> Collection[str]:
    return [name for slot, name in enumerate(_SLOTS, 1) if not bytes(page)[8 * slot]]


_VALID = {
    "nsid": ("nsidv", "Namespace Identifier"),
    "flba": ("flbav", "Failing LBA"),
    "sct": ("sctv", "Status Code Type"),
    "sc": ("scv", "Status Code"),
}


def _self_test_json(result: SelfTestResult, _: View) -> object:
    made: dict[str, object] = {"Self test result": result.dsts.dstr}
    if result.dsts.dstr == SelfTestOutcome.NOT_USED:
        return made
    made |= {
        "Self test code": result.dsts.dstc,
        "Segment number": result.segnum,
        "Valid Diagnostic Information": int(result.vdinfo),
        "Power on hours": result.poh,
    }
    for name, (valid, key) in _VALID.items():
        if getattr(result.vdinfo, valid):
            made[key] = getattr(result, name)
    return made | {"Vendor Specific": int.from_bytes(result.vs, "little")}


def _sanitize_json(page: SanitizeLog, _: View) -> dict[str, object]:
    sstat = page.sstat
    return {
        "sstat": {
            "global_erased": sstat.gde,
            "no_cmplted_passes": sstat.opc,
            # What stands behind the number is in words of our own.
            "status": f"({sstat.sos}) {named(sstat.sos, SanitizeOperationStatus) or 'Unknown'}",
        }
    }


# --- what is supported --------------------------------------------------------------------------

_COMMANDS = {
    AdminOpcode.DELETE_IO_SQ: "Delete I/O Submission Queue",
    AdminOpcode.CREATE_IO_SQ: "Create I/O Submission Queue",
    AdminOpcode.DELETE_IO_CQ: "Delete I/O Completion Queue",
    AdminOpcode.CREATE_IO_CQ: "Create I/O Completion Queue",
    AdminOpcode.ASYNC_EVENT_REQUEST: "Asynchronous Event Request",
    AdminOpcode.FIRMWARE_DOWNLOAD: "Firmware Image Download",
    AdminOpcode.DEVICE_SELF_TEST: "Device Self-test",
    AdminOpcode.NVME_MI_SEND: "NVMe-MI Send",
    AdminOpcode.NVME_MI_RECEIVE: "NVMe-MI Receive",
    AdminOpcode.FORMAT_NVM: "Format NVM",
    AdminOpcode.GET_LBA_STATUS: "Get LBA Status",
}


def command_name(opcode: int, names: type[IntEnum]) -> str:
    """Name a command as nvme-cli does, by AdminOpcode or NvmOpcode."""
    name = named(opcode, names)
    if names is AdminOpcode and opcode in _COMMANDS:
        return _COMMANDS[AdminOpcode(opcode)]
    words = (word if word == "IO" else word.capitalize() for word in name.split("_"))
    return " ".join(words).replace("IO", "I/O") or "Unknown"


_SETS: tuple[tuple[str, str, str, type[IntEnum]], ...] = (
    ("acs", "admin_cmd_set", "ACS", AdminOpcode),
    ("iocs", "io_cmd_set", "IOCS", NvmOpcode),
)


def _supported(registers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield (index, value) of those whose lowest bit says that they are supported."""
    return ((index, value) for index, value in enumerate(registers) if value & 1)


def _effects_json(page: CommandEffectsLog, view: View) -> object:
    sets: dict[str, object] = {
        key: {
            f"{short}_{opcode} ({command_name(opcode, names)})": int(effects)
            for opcode, effects in _supported(getattr(page, field))
        }
        for field, key, short, names in _SETS
    }
    return {"command_set_identifier": view.csi, **sets}


def _effects_lines(page: CommandEffectsLog, view: View) -> Iterator[str]:
    titles = {"acs": "Admin Command Set", "iocs": "I/O Command Set"}
    for field, _, short, names in _SETS:
        yield titles[field]
        for opcode, effects in _supported(getattr(page, field)):
            name = f"{short}{opcode:<6}[{command_name(opcode, names)}]"
            yield f"{name:<54}{int(effects):08x}"
            yield from _bits_of(effects, view)


def _bits_of(register: Any, view: View) -> Iterator[str]:
    """Write the bits that are set, in words."""
    if view.human:
        set_bits = [text for _, value, text in register.fields() if value]
        yield f"  {', '.join(set_bits)}"


def _table_json(field: str, key: str, name: str) -> Json:
    """Make a list of objects of one key each, of those that are supported."""
    return lambda page, _: {
        key: [{name.format(index): int(value)} for index, value in _supported(getattr(page, field))]
    }


def _log_lines(page: SupportedLogPages, view: View) -> Iterator[str]:
    for lid, register in _supported(page.lids):
        known = log_page(lid)
        name = known.name if known else "Unknown"
        yield f"LID {hexadecimal(lid)} ({name}), supports {hexadecimal(register)}"
        yield from _bits_of(register, view)


def _table_lines(field: str, name: str) -> Callable[[Any, View], Iterator[str]]:
    def write(page: Any, view: View) -> Iterator[str]:
        yield "Admin Command Set"
        for index, register in _supported(getattr(page, field)):
            yield f"{name} {index:02x} -> Support Effects Log: {int(register):08x}"
            yield from _bits_of(register, view)

    return write


# --- namespaces ---------------------------------------------------------------------------------


def _changed_json(page: ChangedNamespaceList, view: View) -> object:
    ids = {f"[{number:4}]": f"{nsid:#x}" for number, nsid in enumerate(page, 1)}
    return {"Changed Namespace List Log": view.device, view.device: ids}


_ANA_STATES = {
    AnaState.OPTIMIZED: "optimized",
    AnaState.NON_OPTIMIZED: "non-optimized",
    AnaState.INACCESSIBLE: "inaccessible",
    AnaState.PERSISTENT_LOSS: "persistent-loss",
    AnaState.CHANGE: "change",
}


def _ana_state(group: AnaGroup) -> str:
    state = group.header.anasa.anas
    return _ANA_STATES[AnaState(state)] if state in _ANA_STATES else "invalid state"


LOGS: Mapping[type, Shape] = {
    SmartLog: _SMART,
    ErrorLog: Shape(
        heading="Error Log Entries for device:{device} entries:{count}", entries="errors"
    ),
    ErrorLogEntry: Shape(
        keys={
            "ecnt": "error_count",
            "cid": "cmdid",
            "sts": lambda entry, _: {
                "status_field": int(entry.sts) >> 1,
                "phase_tag": entry.sts.p,
            },
            "pel": "parm_error_location",
            "vsia": "vs",
            "csi": None,
            "opc": None,
            "csinfo": "cs",
            "ttsi": "trtype_spec_info",
            "lpver": None,
        },
        labels={"sts": "status_field"},
        hexadecimal=("cid", "lba", "nsid", "csinfo", "ttsi"),
    ),
    FirmwareSlotLog: Shape(
        heading="Firmware Log for device:{device}",
        keys={
            "afi": "Active Firmware Slot (afi)",
            **{name: _revision_json(slot) for slot, name in enumerate(_SLOTS, 1)},
        },
        labels={"afi": "afi"},
        values={name: _revision_text(name) for name in _SLOTS},
        absent=_empty_slots,
        below_device=True,
    ),
    SelfTestLog: Shape(
        heading="Device Self Test Log for NVME device:{device}",
        keys={
            "cdsto": "Current Device Self-Test Operation",
            "cdstc": "Current Device Self-Test Completion",
            "results": "List of Valid Reports",
        },
        labels={"cdsto": "Current operation", "cdstc": "Completed", "results": "Results"},
        counts={"results": lambda page, _: len(page.results)},
    ),
    SelfTestResult: Shape(json=_self_test_json),
    EnduranceGroupLog: Shape(
        heading="Endurance Group Log for NVME device:{device} Group ID:{nsid:x}",
        keys={
            "cw": "critical_warning",
            "egfeat": None,
            "avsp": "avl_spare",
            "avspt": "avl_spare_threshold",
            "pused": "percent_used",
            "did": None,
            "ee": "endurance_estimate",
            "dur": "data_units_read",
            "duw": "data_units_written",
            "muw": "media_units_written",
            "hrc": "host_read_cmds",
            "hwc": "host_write_cmds",
            "mdie": "media_data_integrity_err",
            "neile": "num_err_info_log_entries",
            "tegcap": None,
            "uegcap": None,
        },
    ),
    SanitizeLog: Shape(
        heading="Sanitize Progress (SPROG) and Status (SSTAT) of {device}:",
        keys={
            "sstat": _sanitize_json,
            "scdw10": "cdw10_info",
            "eto": "time_over_write",
            "etbe": "time_block_erase",
            "etce": "time_crypto_erase",
            "etond": "time_over_write_no_dealloc",
            "etbend": "time_block_erase_no_dealloc",
            "etcend": "time_crypto_erase_no_dealloc",
            "etpvds": None,
            "ssi": None,
        },
        hexadecimal=("scdw10",),
        below_device=True,
    ),
    SupportedLogPages: Shape(
        heading="Support Log Pages Details for {device}:",
        # 2.3 aborts here; the key is that of later versions, its space included.
        json=_table_json("lids", "supported_logs", "lid_0x{:x} "),
        text=_log_lines,
    ),
    CommandEffectsLog: Shape(json=_effects_json, text=_effects_lines),
    FeatureEffectsLog: Shape(
        heading="FID Supports Effects Log for device: {device}",
        json=_table_json("fis", "fid_support", "fid_{}"),
        text=_table_lines("fis", "FID"),
    ),
    MiCommandEffectsLog: Shape(
        heading="MI Commands Support Effects Log for device: {device}",
        json=_table_json("mics", "mi_command_support", "mi_cmd_{}"),
        text=_table_lines("mics", "MI CMD"),
    ),
    BootPartitionLog: Shape(
        heading="Boot Partition Log for device: {device}",
        keys={
            "lid": "count",
            "bpinfo": lambda page, _: {
                "abpid": page.header.bpinfo.abpid,
                "bpsz": page.header.bpinfo.bpsz,
            },
        },
        labels={"lid": "Log ID"},
        entries=None,
    ),
    ChangedNamespaceList: Shape(json=_changed_json, first=1),
    ChangedZonesLog: Shape(heading="NVMe Changed Zone List:", entries="zid"),
    AnaLog: Shape(
        heading="Asymmetric Namespace Access Log for NVMe device: {device}",
        keys={
            "chgc": lambda page, view: {
                "Asymmetric Namespace Access Log for NVMe device": view.device,
                "chgcnt": page.header.chgc,
            },
            "nagd": "ngrps",
        },
        labels={"chgc": "chgcnt"},
        entries="ANA DESC LIST ",
    ),
    AnaGroup: Shape(
        keys={
            "agid": "grpid",
            "nnv": "nnsids",
            "chgc": "chgcnt",
            "anasa": lambda group, _: {"state": _ana_state(group)},
        },
        labels={"anasa": "state"},
        values={"anasa": _ana_state},
        entries="NSIDS",
        entry="nsid",
    ),
    LbaStatusLog: Shape(heading="LBA Status Log for device: {device}", entries="ns_elements"),
    LbaStatusNamespace: Shape(entries="descs"),
    ReservationNotificationLog: Shape(
        heading="Reservation Notif Log for device: {device}",
        keys={"lpc": "count", "rnlpt": "rn_log_type", "nalp": "num_logs"},
    ),
}
