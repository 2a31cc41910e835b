"""Log pages (NVMe Base 2.1, 5.1.12): every identifier, its structure, and how it is asked for.

`LOG_PAGES` has a `LogPage` for each `LogId`. The structures are, by subject, in ``logs_health``
(errors, SMART, firmware, self-test, endurance, sanitize), ``logs_support`` (what is supported,
effects, lockdown), ``logs_namespaces`` (changes, ANA, reachability, reservations, zones),
``logs_capacity`` (latency, media units, capacity), ``logs_data`` (telemetry, boot partition, eyes),
``logs_events`` (the Persistent Event log), ``logs_fdp`` and ``logs_fabrics``; all can be imported
from here.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, TypeAlias

from . import (
    logs_capacity,
    logs_data,
    logs_events,
    logs_fabrics,
    logs_fdp,
    logs_health,
    logs_namespaces,
    logs_support,
)
from .commands import CommandSetId
from .fields import Register, Struct
from .lists import StructList
from .logs_capacity import *
from .logs_data import *
from .logs_events import *
from .logs_fabrics import *
from .logs_fdp import *
from .logs_health import *
from .logs_namespaces import *
from .logs_support import *

Structure: TypeAlias = type[Struct] | type[StructList[Any, Any]]


class LogId(IntEnum):
    """Log Page Identifier (figure 202); C0h and above are the vendor's."""

    SUPPORTED_LOG_PAGES = 0x00
    ERROR = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03
    CHANGED_NAMESPACES = 0x04
    COMMAND_EFFECTS = 0x05
    SELF_TEST = 0x06
    TELEMETRY_HOST = 0x07
    TELEMETRY_CONTROLLER = 0x08
    ENDURANCE_GROUP = 0x09
    PREDICTABLE_LATENCY = 0x0A
    PREDICTABLE_LATENCY_AGGREGATE = 0x0B
    ANA = 0x0C
    PERSISTENT_EVENT = 0x0D
    LBA_STATUS = 0x0E
    ENDURANCE_GROUP_AGGREGATE = 0x0F
    MEDIA_UNIT_STATUS = 0x10
    CAPACITY_CONFIGURATIONS = 0x11
    FEATURE_EFFECTS = 0x12
    MI_COMMAND_EFFECTS = 0x13
    LOCKDOWN = 0x14
    BOOT_PARTITION = 0x15
    ROTATIONAL_MEDIA = 0x16
    DISPERSED_NAMESPACE = 0x17
    MANAGEMENT_ADDRESSES = 0x18
    EYE_OPENING = 0x19
    REACHABILITY_GROUPS = 0x1A
    REACHABILITY_ASSOCIATIONS = 0x1B
    CHANGED_ALLOCATED_NAMESPACES = 0x1C
    FDP_CONFIGURATIONS = 0x20
    RECLAIM_UNIT_HANDLE_USAGE = 0x21
    FDP_STATISTICS = 0x22
    FDP_EVENTS = 0x23
    DISCOVERY = 0x70
    HOST_DISCOVERY = 0x71
    AVE_DISCOVERY = 0x72
    PULL_MODEL_DDC_REQUEST = 0x73
    RESERVATION_NOTIFICATION = 0x80
    SANITIZE = 0x81
    CHANGED_ZONES = 0xBF


class Scope(Enum):
    """What a page tells of, which decides about the command's NSID and LSI.

    NSID is FFFFFFFFh but where a namespace is meant. LSI is 0 but where the text names it.
    """

    CONTROLLER = "the controller"
    SUBSYSTEM = "the NVM subsystem, or the controller's domain where it has several"
    #: The controller, or one namespace if Identify's LPA says so.
    CONTROLLER_OR_NAMESPACE = "the controller, or the namespace in NSID"
    NAMESPACE = "the namespace in NSID"
    ENDURANCE_GROUP = "the Endurance Group in LSI"
    NVM_SET = "the NVM Set in LSI"
    DOMAIN = "the domain in LSI, 0 for the controller's own"
    PORT = "the PCIe port of the controller in LSI"

    @property
    def takes_nsid(self) -> bool:
        """Whether the command may name one namespace."""
        return self in (Scope.NAMESPACE, Scope.CONTROLLER_OR_NAMESPACE)

    @property
    def takes_lsi(self) -> bool:
        """Whether LSI has a meaning."""
        return self in (Scope.ENDURANCE_GROUP, Scope.NVM_SET, Scope.DOMAIN, Scope.PORT)


@dataclass(frozen=True)
class LogPage:
    """A log page: its structure, its name, and the fields of the command that it takes.

    `lsp` is what the Log Specific Parameter consists of, if it has a meaning. `rae` is whether an
    asynchronous event names the page, so that reading it without Retain Asynchronous Event clears
    that. `csi` is whether CSI chooses between command sets, `command_set` the only one that has
    the page. `others` are structures of the page as another LSP brings it.
    """

    structure: Structure
    name: str
    scope: Scope = Scope.CONTROLLER
    lsp: type[Register] | None = None
    rae: bool = False
    csi: bool = False
    command_set: CommandSetId | None = None
    others: tuple[Structure, ...] = ()


LOG_PAGES: dict[LogId, LogPage] = {
    LogId.SUPPORTED_LOG_PAGES: LogPage(
        logs_support.SupportedLogPages, "Supported Log Pages", csi=True
    ),
    LogId.ERROR: LogPage(logs_health.ErrorLog, "Error Information", rae=True),
    LogId.SMART: LogPage(
        logs_health.SmartLog,
        "SMART / Health Information",
        Scope.CONTROLLER_OR_NAMESPACE,
        rae=True,
    ),
    LogId.FIRMWARE_SLOT: LogPage(
        logs_health.FirmwareSlotLog, "Firmware Slot Information", Scope.SUBSYSTEM, rae=True
    ),
    LogId.CHANGED_NAMESPACES: LogPage(
        logs_namespaces.ChangedNamespaceList, "Changed Attached Namespace List", rae=True
    ),
    LogId.COMMAND_EFFECTS: LogPage(
        logs_support.CommandEffectsLog, "Commands Supported and Effects", csi=True
    ),
    LogId.SELF_TEST: LogPage(logs_health.SelfTestLog, "Device Self-test"),
    LogId.TELEMETRY_HOST: LogPage(
        logs_data.TelemetryHostLog, "Telemetry Host-Initiated", lsp=logs_data.TelemetryHostLsp
    ),
    LogId.TELEMETRY_CONTROLLER: LogPage(
        logs_data.TelemetryControllerLog, "Telemetry Controller-Initiated", rae=True
    ),
    LogId.ENDURANCE_GROUP: LogPage(
        logs_health.EnduranceGroupLog, "Endurance Group Information", Scope.ENDURANCE_GROUP
    ),
    LogId.PREDICTABLE_LATENCY: LogPage(
        logs_capacity.PredictableLatencyLog, "Predictable Latency Per NVM Set", Scope.NVM_SET
    ),
    LogId.PREDICTABLE_LATENCY_AGGREGATE: LogPage(
        logs_capacity.PredictableLatencyAggregateLog,
        "Predictable Latency Event Aggregate",
        Scope.SUBSYSTEM,
        rae=True,
    ),
    LogId.ANA: LogPage(
        logs_namespaces.AnaLog,
        "Asymmetric Namespace Access",
        lsp=logs_namespaces.AnaLsp,
        rae=True,
    ),
    LogId.PERSISTENT_EVENT: LogPage(
        logs_events.PersistentEventLog,
        "Persistent Event Log",
        Scope.SUBSYSTEM,
        lsp=logs_events.PersistentEventLsp,
    ),
    LogId.LBA_STATUS: LogPage(
        logs_namespaces.LbaStatusLog,
        "LBA Status Information",
        rae=True,
        command_set=CommandSetId.NVM,
    ),
    LogId.ENDURANCE_GROUP_AGGREGATE: LogPage(
        logs_capacity.EnduranceGroupAggregateLog,
        "Endurance Group Event Aggregate",
        Scope.SUBSYSTEM,
        rae=True,
    ),
    LogId.MEDIA_UNIT_STATUS: LogPage(
        logs_capacity.MediaUnitStatusLog, "Media Unit Status", Scope.DOMAIN
    ),
    LogId.CAPACITY_CONFIGURATIONS: LogPage(
        logs_capacity.CapacityConfigurationList,
        "Supported Capacity Configuration List",
        Scope.DOMAIN,
    ),
    LogId.FEATURE_EFFECTS: LogPage(
        logs_support.FeatureEffectsLog, "Feature Identifiers Supported and Effects", csi=True
    ),
    LogId.MI_COMMAND_EFFECTS: LogPage(
        logs_support.MiCommandEffectsLog, "NVMe-MI Commands Supported and Effects"
    ),
    LogId.LOCKDOWN: LogPage(
        logs_support.LockdownLog,
        "Command and Feature Lockdown",
        Scope.SUBSYSTEM,
        lsp=logs_support.LockdownLsp,
        csi=True,
    ),
    LogId.BOOT_PARTITION: LogPage(
        logs_data.BootPartitionLog, "Boot Partition", lsp=logs_data.BootPartitionLsp
    ),
    LogId.ROTATIONAL_MEDIA: LogPage(
        logs_health.RotationalMediaLog, "Rotational Media Information", Scope.ENDURANCE_GROUP
    ),
    LogId.DISPERSED_NAMESPACE: LogPage(
        logs_namespaces.DispersedNamespaceLog,
        "Dispersed Namespace Participating NVM Subsystems",
        Scope.NAMESPACE,
    ),
    LogId.MANAGEMENT_ADDRESSES: LogPage(
        logs_fabrics.ManagementAddressLog, "Management Address List", Scope.SUBSYSTEM
    ),
    LogId.EYE_OPENING: LogPage(
        logs_data.EomLog,
        "Physical Interface Receiver Eye Opening Measurement",
        Scope.PORT,
        lsp=logs_data.EomLsp,
    ),
    LogId.REACHABILITY_GROUPS: LogPage(
        logs_namespaces.ReachabilityGroupsLog,
        "Reachability Groups",
        lsp=logs_namespaces.ReachabilityGroupsLsp,
        rae=True,
    ),
    LogId.REACHABILITY_ASSOCIATIONS: LogPage(
        logs_namespaces.ReachabilityAssociationsLog,
        "Reachability Associations",
        lsp=logs_namespaces.ReachabilityAssociationsLsp,
        rae=True,
    ),
    LogId.CHANGED_ALLOCATED_NAMESPACES: LogPage(
        logs_namespaces.ChangedAllocatedNamespaceList,
        "Changed Allocated Namespace List",
        rae=True,
    ),
    LogId.FDP_CONFIGURATIONS: LogPage(
        logs_fdp.FdpConfigurationsLog, "FDP Configurations", Scope.ENDURANCE_GROUP
    ),
    LogId.RECLAIM_UNIT_HANDLE_USAGE: LogPage(
        logs_fdp.ReclaimUnitHandleUsageLog, "Reclaim Unit Handle Usage", Scope.ENDURANCE_GROUP
    ),
    LogId.FDP_STATISTICS: LogPage(
        logs_fdp.FdpStatisticsLog, "FDP Statistics", Scope.ENDURANCE_GROUP
    ),
    LogId.FDP_EVENTS: LogPage(
        logs_fdp.FdpEventsLog, "FDP Events", Scope.ENDURANCE_GROUP, lsp=logs_fdp.FdpEventsLsp
    ),
    LogId.DISCOVERY: LogPage(
        logs_fabrics.DiscoveryLog,
        "Discovery",
        lsp=logs_fabrics.DiscoveryLsp,
        rae=True,
        others=(logs_fabrics.ExtendedDiscoveryLog,),
    ),
    LogId.HOST_DISCOVERY: LogPage(
        logs_fabrics.HostDiscoveryLog,
        "Host Discovery",
        lsp=logs_fabrics.HostDiscoveryLsp,
        rae=True,
    ),
    LogId.AVE_DISCOVERY: LogPage(logs_fabrics.AveDiscoveryLog, "AVE Discovery", rae=True),
    LogId.PULL_MODEL_DDC_REQUEST: LogPage(
        logs_fabrics.PullModelDdcRequestLog, "Pull Model DDC Request", rae=True
    ),
    LogId.RESERVATION_NOTIFICATION: LogPage(
        logs_namespaces.ReservationNotificationLog, "Reservation Notification", rae=True
    ),
    LogId.SANITIZE: LogPage(logs_health.SanitizeLog, "Sanitize Status", Scope.SUBSYSTEM, rae=True),
    LogId.CHANGED_ZONES: LogPage(
        logs_namespaces.ChangedZonesLog,
        "Changed Zone List",
        Scope.NAMESPACE,
        rae=True,
        command_set=CommandSetId.ZONED,
    ),
}

_LOG_IDS: dict[Structure, LogId] = {
    structure: lid
    for lid, page in LOG_PAGES.items()
    for structure in (page.structure, *page.others)
}


def log_page(lid: int) -> LogPage | None:
    """Return the page of a log identifier; None if it is the vendor's or not known here."""
    return LOG_PAGES[LogId(lid)] if lid in LogId.__members__.values() else None


def structure_of(lid: int) -> Structure | None:
    """Return the structure of a log identifier; None if it is the vendor's or not known here."""
    page = log_page(lid)
    return None if page is None else page.structure


def log_id_of(structure: Structure) -> LogId:
    """Return the log identifier that brings `structure`; ValueError if none does."""
    try:
        return _LOG_IDS[structure]
    except KeyError:
        raise ValueError(f"{structure.__name__} is not a log page") from None
