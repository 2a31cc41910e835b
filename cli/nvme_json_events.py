"""nvme-cli's names and shapes of the Persistent Event log; see `nvme_json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pynvme_user.cli.nvme_json_logs import revision
from pynvme_user.cli.shape import Shape, View
from pynvme_user.spec.logs_events import (
    ChangeNamespaceEvent,
    ControllerReset,
    FirmwareCommitEvent,
    FormatCompletionEvent,
    FormatStartEvent,
    HardwareErrorEvent,
    PersistentEvent,
    PersistentEventLog,
    PersistentEventType,
    PowerOnOrResetEvent,
    SanitizeCompletionEvent,
    SanitizeStartEvent,
    ThermalExcursionEvent,
    TimestampChangeEvent,
)

#: As 2.3 names the events; those without a name it does not know.
_EVENTS = {
    PersistentEventType.SMART_HEALTH_SNAPSHOT: "SMART/Health Log Snapshot Event",
    PersistentEventType.FIRMWARE_COMMIT: "Firmware Commit Event",
    PersistentEventType.TIMESTAMP_CHANGE: "Timestamp Change Event",
    PersistentEventType.POWER_ON_OR_RESET: "Power-on or Reset Event",
    PersistentEventType.NVM_SUBSYSTEM_HARDWARE_ERROR: "NVM Subsystem Hardware Error Event",
    PersistentEventType.CHANGE_NAMESPACE: "Change Namespace Event",
    PersistentEventType.FORMAT_NVM_START: "Format NVM Start Event",
    PersistentEventType.FORMAT_NVM_COMPLETION: "Format NVM Completion Event",
    PersistentEventType.SANITIZE_START: "Sanitize Start Event",
    PersistentEventType.SANITIZE_COMPLETION: "Sanitize Completion Event",
    PersistentEventType.SET_FEATURE: "Set Feature Event",
    PersistentEventType.TELEMETRY_LOG_CREATED: "Set Telemetry CRT  Event",
    PersistentEventType.THERMAL_EXCURSION: "Thermal Excursion Event",
}


def _event_name(kind: int) -> str:
    known = kind in PersistentEventType.__members__.values()
    name = _EVENTS.get(PersistentEventType(kind)) if known else None
    return f"{name or 'Unknown Event'}({kind:#x})"


def _bitmap(page: PersistentEventLog, _: View) -> dict[str, object]:
    return {
        f"bitmap_{kind:x}": f"Support {_event_name(kind)}"
        for kind in page.header.supported_events
        if kind in _EVENTS
    }


def _bitmap_lines(page: PersistentEventLog, _: View) -> list[str]:
    events = page.header.supported_events
    return ["Supported Events Bitmap:", *(f"  Support {_event_name(kind)}" for kind in events)]


def _padded(name: str) -> Callable[[Any, View], dict[str, object]]:
    """Give text with its padding, as nvme-cli leaves it."""

    def make(page: PersistentEventLog, _: View) -> dict[str, object]:
        field = getattr(type(page.header), name)
        raw = bytes(page)[field.offset : field.offset + field.size]
        return {name: raw.decode("latin-1").rstrip("\0")}

    return make


def _revision(name: str, key: str) -> Callable[[Any, View], dict[str, object]]:
    return lambda event, _: {key: revision(getattr(event, "header", event), name)}


def _event(event: PersistentEvent) -> Mapping[str, Any]:
    data = event.event
    return {"vu_info": event.vsi, "event": data} if event.vsi else {"event": data} if data else {}


_RESET = {
    "cntlid": "ctrl_id",
    "fa": "fw_act",
    "oip": "op_in_prog",
    "cpwrc": "ctrl_power_cycle",
    "pom": "power_on_ml_secs",
    "ctstp": "ctrl_time_stamp",
}


def _resets_json(event: PowerOnOrResetEvent, _: View) -> dict[str, object]:
    # 2.3 writes the controllers over each other, and the event's ctrl_id: the last one stays.
    # All of them are in "controllers".
    last = event.entries[-1:]
    found = {key: int(getattr(each, name)) for each in last for name, key in _RESET.items()}
    return {"fw_rev": revision(event.header, "frev"), **found}


EVENTS: Mapping[type, Shape] = {
    PersistentEventLog: Shape(
        heading="Persistent Event Log for device: {device}",
        keys={
            "lid": "log_id",
            "tnev": "total_num_of_events",
            "tll": "total_log_len",
            "lrev": "log_revision",
            "lhl": "log_header_len",
            "tstmp": "timestamp",
            "poh": "power_on_hours",
            "pwrcc": "power_cycle_count",
            "vid": "pci_vid",
            "ssvid": "pci_ssvid",
            "sn": _padded("sn"),
            "mn": _padded("mn"),
            "gnum": "gen_number",
            "seb": _bitmap,
        },
        lines={"seb": _bitmap_lines},
        hexadecimal=("vid", "ssvid"),
        entries="list_of_event_entries",
        numbered="event_number",
    ),
    PersistentEvent: Shape(
        keys={
            "et": lambda event, _: {"event_type": _event_name(event.header.et)},
            "etr": "event_type_rev",
            "ehl": "event_header_len",
            "ehai": "event_header_additional_info",
            "cntlid": "ctrl_id",
            "etstmp": "event_time_stamp",
            "pelpid": "port_id",
            "vsil": "vu_info_len",
            "el": "event_len",
        },
        labels={"et": "event_type"},
        values={"et": lambda event: _event_name(event.header.et)},
        parts=_event,
        entries=None,
    ),
    FirmwareCommitEvent: Shape(
        keys={
            "ofr": _revision("ofr", "old_fw_rev"),
            "nfr": _revision("nfr", "new_fw_rev"),
            "fca": "fw_commit_action",
            "fslt": "fw_slot",
            "stctfcc": "sct_fw",
            "srfcc": "sc_fw",
            "vafcrc": "vu_assign_fw_commit_rc",
        },
        labels={"ofr": "old_fw_rev", "nfr": "new_fw_rev"},
    ),
    TimestampChangeEvent: Shape(keys={"ptstp": "prev_ts", "msr": "ml_secs_since_reset"}),
    PowerOnOrResetEvent: Shape(
        keys={"frev": _resets_json},
        labels={"frev": "fw_rev"},
        entries="controllers",
    ),
    ControllerReset: Shape(keys=_RESET),
    HardwareErrorEvent: Shape(keys={"nsheec": "nss_hw_err_code"}, entries="additional_info"),
    ChangeNamespaceEvent: Shape(
        keys={
            "nmcdw10": "nsmgt_cdw10",
            "ncap": "nscap",
            "anagrpid": "ana_grp_id",
            "nvmsetid": "nvmset_id",
            "endgid": None,
        },
        hexadecimal=("nmcdw10",),
    ),
    FormatStartEvent: Shape(keys={"fcdw10": "format_nvm_cdw10"}, hexadecimal=("fcdw10",)),
    FormatCompletionEvent: Shape(
        keys={
            "sfpi": "smallest_fpi",
            "fnvms": "format_nvm_status",
            "cinfo": "compln_info",
            "info": "status_field",
        },
    ),
    SanitizeStartEvent: Shape(
        keys={"sanicap": "SANICAP", "scdw10": "sani_cdw10", "scdw11": "sani_cdw11"},
        hexadecimal=("sanicap", "scdw10", "scdw11"),
    ),
    SanitizeCompletionEvent: Shape(
        keys={"sprog": "sani_prog", "sstat": "sani_status", "cinfo": "cmpln_info"},
    ),
    ThermalExcursionEvent: Shape(keys={"otmp": "over_temp", "thresh": "threshold"}),
}
