"""Writes docs/commands.md: every command, page and feature, and what shows that it works.

    python tests/support/command_reference.py

What QEMU's controller and the software controller have is declared here, and held against both by
tests/unit/test_command_page.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from pynvme_user.cli import identify_pages, logs
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.features import FEATURES
from pynvme_user.spec.identify_pages import IDENTIFY_PAGES
from pynvme_user.spec.logs import LOG_PAGES

PATH = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """\
# Commands, pages and features

Every command, Identify page, log page and feature of the specification that is known here. Made by
`python tests/support/command_reference.py`. "QEMU" and "software" are what Debian's QEMU 7.2 and
`soft:?commands=all` have, on which tests run them, and "QEMU 10" is what its version 10.0 has
besides; of all others the encoding alone is tested, and that it is refused with a clear error where
the controller says that it has no such thing. Any of them can be sent raw: `Controller.admin()`,
`Controller.io()`, `nvme-user admin-passthru`.
"""
#: What there is in Python and in nvme-user; what is not here goes raw.
ADMIN = {
    "DELETE_IO_SQ": ("QueuePair.close", ""),
    "CREATE_IO_SQ": ("Controller.queue_pair", ""),
    "GET_LOG_PAGE": ("Controller.log, log_page", "get-log"),
    "DELETE_IO_CQ": ("QueuePair.close", ""),
    "CREATE_IO_CQ": ("Controller.queue_pair", ""),
    "IDENTIFY": ("Controller.identify_data", "id-ctrl"),
    "ABORT": ("Controller.abort", ""),
    "SET_FEATURES": ("Controller.set_feature", "set-feature"),
    "GET_FEATURES": ("Controller.feature", "get-feature"),
    "ASYNC_EVENT_REQUEST": ("Controller.events", "events"),
    "NAMESPACE_MANAGEMENT": ("Controller.create_namespace, delete_namespace", "create-ns"),
    "FIRMWARE_COMMIT": ("Controller.firmware_commit", "fw-commit"),
    "FIRMWARE_DOWNLOAD": ("Controller.firmware_download", "fw-download"),
    "DEVICE_SELF_TEST": ("Controller.self_test", "device-self-test"),
    "NAMESPACE_ATTACHMENT": ("Controller.attach_namespace, detach_namespace", "attach-ns"),
    "KEEP_ALIVE": ("Controller.keep_alive", ""),
    "DIRECTIVE_SEND": ("Controller.directive_send", "dir-send"),
    "DIRECTIVE_RECEIVE": ("Controller.directive_receive", "dir-receive"),
    "VIRTUALIZATION_MANAGEMENT": ("Controller.virtualization_management", "virt-mgmt"),
    "NVME_MI_SEND": ("Controller.management_send", "nvme-mi-send"),
    "NVME_MI_RECEIVE": ("Controller.management_receive", "nvme-mi-recv"),
    "CAPACITY_MANAGEMENT": ("Controller.capacity_management", "capacity-mgmt"),
    "LOCKDOWN": ("Controller.lockdown", "lockdown"),
    "DOORBELL_BUFFER_CONFIG": ("open(shadow_doorbells=)", ""),
    "FORMAT_NVM": ("Controller.format", "format"),
    "SECURITY_SEND": ("Controller.security_send, rpmb", "security-send"),
    "SECURITY_RECEIVE": ("Controller.security_receive, rpmb", "security-recv"),
    "SANITIZE": ("Controller.sanitize", "sanitize"),
    "GET_LBA_STATUS": ("Controller.lba_status", "get-lba-status"),
}
IO = {
    "FLUSH": ("Namespace.flush", "flush"),
    "WRITE": ("Namespace.write", "write"),
    "READ": ("Namespace.read", "read"),
    "WRITE_UNCORRECTABLE": ("Namespace.write_uncorrectable", "write-uncor"),
    "COMPARE": ("Namespace.compare, compare_and_write", "compare"),
    "WRITE_ZEROES": ("Namespace.write_zeroes", "write-zeroes"),
    "DATASET_MANAGEMENT": ("Namespace.dataset_management, deallocate", "dsm"),
    "VERIFY": ("Namespace.verify", "verify"),
    "RESERVATION_REGISTER": ("Namespace.reservation_register", "resv-register"),
    "RESERVATION_REPORT": ("Namespace.reservation_report", "resv-report"),
    "RESERVATION_ACQUIRE": ("Namespace.reservation_acquire", "resv-acquire"),
    "IO_MANAGEMENT_RECEIVE": ("Namespace.reclaim_unit_handles", "io-mgmt-recv"),
    "RESERVATION_RELEASE": ("Namespace.reservation_release", "resv-release"),
    "COPY": ("Namespace.copy", "copy"),
    "IO_MANAGEMENT_SEND": ("Namespace.update_reclaim_units", "io-mgmt-send"),
    "ZONE_MANAGEMENT_SEND": ("Namespace.zones.open, close, reset, finish ...", "zns reset-zone"),
    "ZONE_MANAGEMENT_RECEIVE": ("Namespace.zones.report", "zns report-zones"),
    "ZONE_APPEND": ("Namespace.zones.append", "zns zone-append"),
}
#: What each has, by its Commands Supported and Effects log, and by asking for each page.
QEMU = {
    "admin": [
        "DELETE_IO_SQ",
        "CREATE_IO_SQ",
        "GET_LOG_PAGE",
        "DELETE_IO_CQ",
        "CREATE_IO_CQ",
        "IDENTIFY",
        "ABORT",
        "SET_FEATURES",
        "GET_FEATURES",
        "ASYNC_EVENT_REQUEST",
        "NAMESPACE_ATTACHMENT",
        "VIRTUALIZATION_MANAGEMENT",
        "DOORBELL_BUFFER_CONFIG",
        "FORMAT_NVM",
    ],
    "io": [
        "FLUSH",
        "WRITE",
        "READ",
        "COMPARE",
        "WRITE_ZEROES",
        "DATASET_MANAGEMENT",
        "VERIFY",
        "COPY",
    ],
    "cns": [
        "NAMESPACE",
        "CONTROLLER",
        "ACTIVE_NAMESPACES",
        "NAMESPACE_DESCRIPTORS",
        "CSI_NAMESPACE",
        "CSI_CONTROLLER",
        "CSI_ACTIVE_NAMESPACES",
        "ALLOCATED_NAMESPACES",
        "ALLOCATED_NAMESPACE",
        "NAMESPACE_CONTROLLERS",
        "CONTROLLERS",
        "PRIMARY_CONTROLLER_CAPABILITIES",
        "SECONDARY_CONTROLLERS",
        "CSI_ALLOCATED_NAMESPACES",
        "CSI_ALLOCATED_NAMESPACE",
        "IO_COMMAND_SETS",
    ],
    "lid": ["ERROR", "SMART", "FIRMWARE_SLOT", "CHANGED_NAMESPACES", "COMMAND_EFFECTS"],
    "fid": [
        "ARBITRATION",
        "POWER_MANAGEMENT",
        "TEMPERATURE_THRESHOLD",
        "ERROR_RECOVERY",
        "VOLATILE_WRITE_CACHE",
        "NUMBER_OF_QUEUES",
        "INTERRUPT_COALESCING",
        "INTERRUPT_VECTOR_CONFIG",
        "WRITE_ATOMICITY",
        "ASYNC_EVENT_CONFIG",
        "TIMESTAMP",
        "HOST_BEHAVIOR_SUPPORT",
        "IO_COMMAND_SET_PROFILE",
    ],
}
#: What QEMU 10.0 has besides, in a subsystem with Flexible Data Placement.
QEMU_10 = {
    "admin": ["DIRECTIVE_SEND", "DIRECTIVE_RECEIVE"],
    "io": ["IO_MANAGEMENT_RECEIVE", "IO_MANAGEMENT_SEND"],
    "cns": [
        "INDEPENDENT_NAMESPACE",
        "ENDURANCE_GROUPS",
        "INDEPENDENT_ALLOCATED_NAMESPACE",
    ],
    "lid": [
        "ENDURANCE_GROUP",
        "FDP_CONFIGURATIONS",
        "RECLAIM_UNIT_HANDLE_USAGE",
        "FDP_STATISTICS",
        "FDP_EVENTS",
    ],
    "fid": ["FLEXIBLE_DATA_PLACEMENT", "FLEXIBLE_DATA_PLACEMENT_EVENTS"],
}
SOFTWARE = {
    "admin": [
        "DELETE_IO_SQ",
        "CREATE_IO_SQ",
        "GET_LOG_PAGE",
        "DELETE_IO_CQ",
        "CREATE_IO_CQ",
        "IDENTIFY",
        "ABORT",
        "SET_FEATURES",
        "GET_FEATURES",
        "ASYNC_EVENT_REQUEST",
        "NAMESPACE_MANAGEMENT",
        "FIRMWARE_COMMIT",
        "FIRMWARE_DOWNLOAD",
        "DEVICE_SELF_TEST",
        "NAMESPACE_ATTACHMENT",
        "KEEP_ALIVE",
        "DIRECTIVE_SEND",
        "DIRECTIVE_RECEIVE",
        "VIRTUALIZATION_MANAGEMENT",
        "NVME_MI_SEND",
        "NVME_MI_RECEIVE",
        "CAPACITY_MANAGEMENT",
        "LOCKDOWN",
        "FORMAT_NVM",
        "SECURITY_SEND",
        "SECURITY_RECEIVE",
        "SANITIZE",
        "GET_LBA_STATUS",
    ],
    "io": [
        "FLUSH",
        "WRITE",
        "READ",
        "WRITE_UNCORRECTABLE",
        "COMPARE",
        "WRITE_ZEROES",
        "DATASET_MANAGEMENT",
        "VERIFY",
        "RESERVATION_REGISTER",
        "RESERVATION_REPORT",
        "RESERVATION_ACQUIRE",
        "IO_MANAGEMENT_RECEIVE",
        "RESERVATION_RELEASE",
        "CANCEL",
        "COPY",
        "IO_MANAGEMENT_SEND",
    ],
    "cns": [
        "NAMESPACE",
        "CONTROLLER",
        "ACTIVE_NAMESPACES",
        "NAMESPACE_DESCRIPTORS",
        "NVM_SETS",
        "CSI_NAMESPACE",
        "CSI_CONTROLLER",
        "CSI_ACTIVE_NAMESPACES",
        "INDEPENDENT_NAMESPACE",
        "NAMESPACE_FORMAT",
        "CSI_NAMESPACE_FORMAT",
        "ALLOCATED_NAMESPACES",
        "ALLOCATED_NAMESPACE",
        "NAMESPACE_CONTROLLERS",
        "CONTROLLERS",
        "PRIMARY_CONTROLLER_CAPABILITIES",
        "SECONDARY_CONTROLLERS",
        "NAMESPACE_GRANULARITIES",
        "UUIDS",
        "DOMAINS",
        "ENDURANCE_GROUPS",
        "CSI_ALLOCATED_NAMESPACES",
        "CSI_ALLOCATED_NAMESPACE",
        "IO_COMMAND_SETS",
        "INDEPENDENT_ALLOCATED_NAMESPACE",
    ],
    "lid": [
        "SUPPORTED_LOG_PAGES",
        "ERROR",
        "SMART",
        "FIRMWARE_SLOT",
        "CHANGED_NAMESPACES",
        "COMMAND_EFFECTS",
        "SELF_TEST",
        "TELEMETRY_HOST",
        "TELEMETRY_CONTROLLER",
        "ENDURANCE_GROUP",
        "PREDICTABLE_LATENCY",
        "PREDICTABLE_LATENCY_AGGREGATE",
        "ANA",
        "PERSISTENT_EVENT",
        "LBA_STATUS",
        "ENDURANCE_GROUP_AGGREGATE",
        "FEATURE_EFFECTS",
        "MI_COMMAND_EFFECTS",
        "LOCKDOWN",
        "BOOT_PARTITION",
        "ROTATIONAL_MEDIA",
        "CHANGED_ALLOCATED_NAMESPACES",
        "FDP_CONFIGURATIONS",
        "RECLAIM_UNIT_HANDLE_USAGE",
        "FDP_STATISTICS",
        "FDP_EVENTS",
        "RESERVATION_NOTIFICATION",
        "SANITIZE",
        "CHANGED_ZONES",
    ],
    "fid": [
        "ARBITRATION",
        "POWER_MANAGEMENT",
        "LBA_RANGE_TYPE",
        "TEMPERATURE_THRESHOLD",
        "ERROR_RECOVERY",
        "VOLATILE_WRITE_CACHE",
        "NUMBER_OF_QUEUES",
        "INTERRUPT_COALESCING",
        "INTERRUPT_VECTOR_CONFIG",
        "WRITE_ATOMICITY",
        "ASYNC_EVENT_CONFIG",
        "AUTONOMOUS_POWER_STATE_TRANSITION",
        "HOST_MEMORY_BUFFER",
        "TIMESTAMP",
        "KEEP_ALIVE_TIMER",
        "HOST_CONTROLLED_THERMAL_MANAGEMENT",
        "NON_OPERATIONAL_POWER_STATE_CONFIG",
        "READ_RECOVERY_LEVEL_CONFIG",
        "PREDICTABLE_LATENCY_MODE_CONFIG",
        "PREDICTABLE_LATENCY_MODE_WINDOW",
        "LBA_STATUS_INFORMATION_REPORT_INTERVAL",
        "HOST_BEHAVIOR_SUPPORT",
        "SANITIZE_CONFIG",
        "ENDURANCE_GROUP_EVENT_CONFIG",
        "IO_COMMAND_SET_PROFILE",
        "SPINUP_CONTROL",
        "POWER_LOSS_SIGNALING_CONFIG",
        "PERFORMANCE_CHARACTERISTICS",
        "FLEXIBLE_DATA_PLACEMENT",
        "FLEXIBLE_DATA_PLACEMENT_EVENTS",
        "NAMESPACE_ADMIN_LABEL",
        "POWER_LIMIT",
        "POWER_THRESHOLD",
        "POWER_MEASUREMENT",
        "EMBEDDED_MANAGEMENT_CONTROLLER_ADDRESS",
        "HOST_MANAGEMENT_AGENT_ADDRESS",
        "ENHANCED_CONTROLLER_METADATA",
        "CONTROLLER_METADATA",
        "NAMESPACE_METADATA",
        "SOFTWARE_PROGRESS_MARKER",
        "HOST_IDENTIFIER",
        "RESERVATION_NOTIFICATION_MASK",
        "RESERVATION_PERSISTENCE",
        "NAMESPACE_WRITE_PROTECTION_CONFIG",
        "BOOT_PARTITION_WRITE_PROTECTION_CONFIG",
    ],
}
#: Of zoned namespaces, which those of the log do not tell.
ZONED = ["ZONE_MANAGEMENT_SEND", "ZONE_MANAGEMENT_RECEIVE", "ZONE_APPEND"]


def render() -> str:
    """The page."""
    return "\n".join([HEAD, *_commands(), *_identify(), *_logs(), *_features()]).rstrip() + "\n"


def _shown(kind: str, name: str) -> str:
    where = [
        text
        for text, there in (
            ("QEMU", name in QEMU[kind] or name in ZONED),
            ("QEMU 10", name in QEMU_10[kind]),
            ("software", name in SOFTWARE[kind] or name in ZONED),
        )
        if there
    ]
    return ", ".join(where) or "encoding"


def _commands() -> Iterator[str]:
    for title, kind, opcodes, typed in (
        ("Admin commands", "admin", AdminOpcode, ADMIN),
        ("I/O commands", "io", NvmOpcode, IO),
    ):
        rows = []
        for opcode in opcodes:
            python, command = typed.get(opcode.name, ("", ""))
            rows.append((opcode, _code(python), _code(command), _shown(kind, opcode.name)))
        yield from _table(title, ("Opcode", "Command", "Python", "nvme-user", "Shown on"), rows)


def _identify() -> Iterator[str]:
    commands = identify_pages.commands_by_cns() | {
        Cns.CONTROLLER: "id-ctrl",
        Cns.NAMESPACE: "id-ns",
        Cns.ACTIVE_NAMESPACES: "list-ns",
        Cns.ALLOCATED_NAMESPACES: "list-ns --all",
        Cns.CONTROLLERS: "list-ctrl",
        Cns.NAMESPACE_CONTROLLERS: "list-ctrl -n",
        Cns.SECONDARY_CONTROLLERS: "list-secondary",
    }
    rows = []
    for (cns, _), page in IDENTIFY_PAGES.items():
        of = _code(page.structure.__name__)
        rows.append((cns, of, _code(commands.get(cns, "")), _shown("cns", cns.name)))
    yield from _table("Identify", ("CNS", "Page", "Structure", "nvme-user", "Shown on"), rows)


def _logs() -> Iterator[str]:
    commands = logs.commands_by_structure() | {
        "CommandEffectsLog": "effects-log",
        "ErrorLog": "error-log",
        "SelfTestLog": "self-test-log",
        "TelemetryHostLog": "telemetry-log",
        "TelemetryControllerLog": "telemetry-log -c",
        "BootPartitionLog": "boot-part-log",
        "ChangedZonesLog": "zns changed-zone-list",
        "FdpConfigurationsLog": "fdp configs",
        "ReclaimUnitHandleUsageLog": "fdp usage",
        "FdpStatisticsLog": "fdp stats",
        "FdpEventsLog": "fdp events",
    }
    rows = []
    for lid, page in LOG_PAGES.items():
        name = page.structure.__name__
        rows.append((lid, _code(name), _code(commands.get(name, "")), _shown("lid", lid.name)))
    yield from _table("Log pages", ("LID", "Page", "Structure", "nvme-user", "Shown on"), rows)


def _features() -> Iterator[str]:
    rows = []
    for fid, feature in FEATURES.items():
        kinds = (feature.result or feature.cdw11, feature.data)
        of = ", ".join(_code(kind.__name__) for kind in kinds if kind is not None)
        rows.append((fid, of, _code("get-feature"), _shown("fid", fid.name)))
    yield from _table("Features", ("FID", "Feature", "Structure", "nvme-user", "Shown on"), rows)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(
    title: str, heads: tuple[str, ...], rows: list[tuple[IntEnum, str, str, str]]
) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "--|" * len(heads)
    for number, *others in rows:
        name = number.name.replace("_", " ").capitalize()
        yield "| " + " | ".join([f"{number:02X}h", name, *others]) + " |"
    yield ""


if __name__ == "__main__":
    PATH.write_text(render())
