"""The features of Get and Set Features (NVMe Base 2.1, 5.1.11 and 5.1.25), and a table of them.

`feature_dwords` has their values, `feature_data` their data structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from pynvme_user.spec import feature_data as data
from pynvme_user.spec import feature_dwords as dwords

from .commands import CommandSetId
from .fields import Bit, Bits, Register, Reserved, Struct
from .lists import StructList


class FeatureId(IntEnum):
    """FID, a feature (Base 2.1, figure 385; 22h to 28h are 2.3's); C0h to FFh are the vendor's."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    LBA_RANGE_TYPE = 0x03
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIG = 0x09
    WRITE_ATOMICITY = 0x0A
    ASYNC_EVENT_CONFIG = 0x0B
    AUTONOMOUS_POWER_STATE_TRANSITION = 0x0C
    HOST_MEMORY_BUFFER = 0x0D
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F
    HOST_CONTROLLED_THERMAL_MANAGEMENT = 0x10
    NON_OPERATIONAL_POWER_STATE_CONFIG = 0x11
    READ_RECOVERY_LEVEL_CONFIG = 0x12
    PREDICTABLE_LATENCY_MODE_CONFIG = 0x13
    PREDICTABLE_LATENCY_MODE_WINDOW = 0x14
    LBA_STATUS_INFORMATION_REPORT_INTERVAL = 0x15
    HOST_BEHAVIOR_SUPPORT = 0x16
    SANITIZE_CONFIG = 0x17
    ENDURANCE_GROUP_EVENT_CONFIG = 0x18
    IO_COMMAND_SET_PROFILE = 0x19
    SPINUP_CONTROL = 0x1A
    POWER_LOSS_SIGNALING_CONFIG = 0x1B
    PERFORMANCE_CHARACTERISTICS = 0x1C
    FLEXIBLE_DATA_PLACEMENT = 0x1D
    FLEXIBLE_DATA_PLACEMENT_EVENTS = 0x1E
    NAMESPACE_ADMIN_LABEL = 0x1F
    KEY_VALUE_CONFIG = 0x20
    CONTROLLER_DATA_QUEUE = 0x21
    CONFIGURABLE_DEVICE_PERSONALITY = 0x22
    POWER_LIMIT = 0x23
    POWER_THRESHOLD = 0x24
    POWER_MEASUREMENT = 0x25
    VOLTAGE_THRESHOLD = 0x26
    VOLTAGE_MEASUREMENT = 0x27
    RATE_LIMITING = 0x28
    EMBEDDED_MANAGEMENT_CONTROLLER_ADDRESS = 0x78
    HOST_MANAGEMENT_AGENT_ADDRESS = 0x79
    ENHANCED_CONTROLLER_METADATA = 0x7D
    CONTROLLER_METADATA = 0x7E
    NAMESPACE_METADATA = 0x7F
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83
    NAMESPACE_WRITE_PROTECTION_CONFIG = 0x84
    BOOT_PARTITION_WRITE_PROTECTION_CONFIG = 0x85


class FeatureSelect(IntEnum):
    """SEL, which value of a feature Get Features returns."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED = 3


class SetFeaturesCdw10(Register, width=32):
    """Set Features, dword 10 (5.1.25)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    _r30_8 = Reserved(30, 8)
    sv = Bit(31, "Save")


class GetFeaturesCdw10(Register, width=32):
    """Get Features, dword 10 (5.1.11)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    sel = Bits(10, 8, "Select", FeatureSelect)
    _r31_11 = Reserved(31, 11)


class FeaturesCdw14(Register, width=32):
    """Get and Set Features, dword 14 (5.1.11, 5.1.25)."""

    uidx = Bits(6, 0, "UUID Index (0: none)")
    _r31_7 = Reserved(31, 7)


class SupportedCapabilities(Register, width=32):
    """What Get Features returns in dword 0 for SEL SUPPORTED (5.1.11)."""

    svbl = Bit(0, "Saveable")
    nsspec = Bit(1, "NS Specific")
    chang = Bit(2, "Changeable")
    _r31_3 = Reserved(31, 3)


Data: TypeAlias = "type[Struct] | type[StructList[Any, Any]]"


@dataclass(frozen=True)
class Feature:
    """What is known of a feature. What is None is not there, or the command set's own affair.

    A Get that takes part of dword 11 says so in `selectors`, names of fields of `get_cdw11`.
    """

    name: str
    #: Of Set Features.
    cdw11: type[Register] | None = None
    cdw12: type[Register] | None = None
    #: Of Get Features.
    get_cdw11: type[Register] | None = None
    selectors: tuple[str, ...] = ()
    #: Dword 0 of Get Features' completion; NUMBER_OF_QUEUES has it of Set Features' too.
    result: type[Register] | None = None
    #: What Get and Set Features transfer, where it is always the same; else see `variants`.
    data: Data | None = None
    set_data: Data | None = None
    #: Bytes of Get Features' data, where `data` is a list: room for all that there can be.
    room: int = 0
    #: How many of them the list has, by dword 11 and the completion's dword 0; all if left out.
    used: Callable[[int, int], int] | None = None
    #: Structures by the values of the selector that goes with each.
    variants: tuple[tuple[range, Data], ...] = ()
    #: Whether a namespace id goes with it; None if that depends on the controller.
    per_namespace: bool | None = False
    #: Whose it is; None for all command sets.
    csi: CommandSetId | None = None

    def data_of(self, cdw11: int = 0) -> Data | None:
        """Return the structure of Get Features' data with this dword 11; None if there is none."""
        if self.get_cdw11 is None or not self.variants:
            return self.data
        value = getattr(self.get_cdw11(cdw11), self.selectors[0])
        return next((kind for values, kind in self.variants if value in values), None)

    def set_data_of(self, cdw11: int = 0) -> Data | None:
        """Return the structure of Set Features' data with this dword 11; None if there is none."""
        return self.set_data if self.set_data or not self.variants else self.data_of(cdw11)

    def length_of(self, cdw11: int = 0) -> int:
        """Return the bytes that Get Features transfers with this dword 11; 0 for no data."""
        kind = self.data_of(cdw11)
        return kind.size if kind is not None and issubclass(kind, Struct) else self.room

    def data_in(self, raw: bytes, cdw11: int, result: int) -> bytes:
        """Return of what Get Features brought what there is."""
        return raw if self.used is None else raw[: self.used(cdw11, result)]


def _fdp_events(cdw11: int, result: int) -> int:
    wanted = dwords.FdpEventsCdw11(cdw11).noet
    return data.SupportedFdpEvent.size * min(wanted, dwords.FdpEventsResult(result).nsfdpet)


def _plain(
    name: str,
    cdw11: type[Register],
    *,
    per_namespace: bool = False,
    csi: CommandSetId | None = None,
    selectors: tuple[str, ...] = (),
) -> Feature:
    """Return a feature that is one dword: what Set takes Get returns."""
    return Feature(
        name,
        cdw11,
        get_cdw11=cdw11 if selectors else None,
        selectors=selectors,
        result=cdw11,
        per_namespace=per_namespace,
        csi=csi,
    )


def _only_data(name: str, kind: type[Struct], *, per_namespace: bool = False) -> Feature:
    """Return a feature without dwords of its own."""
    return Feature(name, data=kind, set_data=kind, per_namespace=per_namespace)


def _nvm_set(name: str, cdw12: type[Register], kind: type[Struct] | None = None) -> Feature:
    """Return a feature of an NVM Set: its value is dword 12."""
    return Feature(
        name,
        dwords.NvmSetCdw11,
        cdw12,
        get_cdw11=dwords.NvmSetCdw11,
        selectors=("nvmsetid",),
        result=cdw12,
        data=kind,
        set_data=kind,
    )


def _metadata(name: str, *, per_namespace: bool = False) -> Feature:
    return Feature(
        name,
        dwords.SetHostMetadataCdw11,
        get_cdw11=dwords.GetHostMetadataCdw11,
        selectors=("gdhm",),
        data=data.HostMetadata,
        set_data=data.HostMetadata,
        room=4096,
        per_namespace=per_namespace,
    )


FEATURES: dict[FeatureId, Feature] = {
    FeatureId.ARBITRATION: _plain("Arbitration", dwords.ArbitrationCdw11),
    FeatureId.POWER_MANAGEMENT: _plain("Power Management", dwords.PowerManagementCdw11),
    FeatureId.LBA_RANGE_TYPE: Feature(
        "LBA Range Type",
        dwords.LbaRangeTypeCdw11,
        result=dwords.LbaRangeTypeCdw11,
        data=data.LbaRanges,
        set_data=data.LbaRanges,
        per_namespace=True,
        csi=CommandSetId.NVM,
    ),
    FeatureId.TEMPERATURE_THRESHOLD: _plain(
        "Temperature Threshold",
        dwords.TemperatureThresholdCdw11,
        selectors=("tmpsel", "thsel"),
    ),
    FeatureId.ERROR_RECOVERY: _plain(
        "Error Recovery", dwords.ErrorRecoveryCdw11, per_namespace=True, csi=CommandSetId.NVM
    ),
    FeatureId.VOLATILE_WRITE_CACHE: _plain("Volatile Write Cache", dwords.VolatileWriteCacheCdw11),
    FeatureId.NUMBER_OF_QUEUES: Feature(
        "Number of Queues", dwords.NumberOfQueuesCdw11, result=dwords.NumberOfQueuesResult
    ),
    FeatureId.INTERRUPT_COALESCING: _plain("Interrupt Coalescing", dwords.InterruptCoalescingCdw11),
    FeatureId.INTERRUPT_VECTOR_CONFIG: _plain(
        "Interrupt Vector Configuration", dwords.InterruptVectorConfigCdw11, selectors=("iv",)
    ),
    FeatureId.WRITE_ATOMICITY: _plain(
        "Write Atomicity Normal", dwords.WriteAtomicityCdw11, csi=CommandSetId.NVM
    ),
    FeatureId.ASYNC_EVENT_CONFIG: _plain(
        "Asynchronous Event Configuration", dwords.AsyncEventConfigCdw11
    ),
    FeatureId.AUTONOMOUS_POWER_STATE_TRANSITION: Feature(
        "Autonomous Power State Transition",
        dwords.AutonomousPowerStateTransitionCdw11,
        result=dwords.AutonomousPowerStateTransitionCdw11,
        data=data.AutonomousPowerStateTransitions,
        set_data=data.AutonomousPowerStateTransitions,
    ),
    FeatureId.HOST_MEMORY_BUFFER: Feature(
        "Host Memory Buffer",
        dwords.HostMemoryBufferCdw11,
        result=dwords.HostMemoryBufferResult,
        data=data.HostMemoryBufferAttributes,
    ),
    FeatureId.TIMESTAMP: _only_data("Timestamp", data.Timestamp),
    FeatureId.KEEP_ALIVE_TIMER: _plain("Keep Alive Timer", dwords.KeepAliveTimerCdw11),
    FeatureId.HOST_CONTROLLED_THERMAL_MANAGEMENT: _plain(
        "Host Controlled Thermal Management", dwords.HostControlledThermalManagementCdw11
    ),
    FeatureId.NON_OPERATIONAL_POWER_STATE_CONFIG: _plain(
        "Non-Operational Power State Config", dwords.NonOperationalPowerStateConfigCdw11
    ),
    FeatureId.READ_RECOVERY_LEVEL_CONFIG: _nvm_set(
        "Read Recovery Level Config", dwords.ReadRecoveryLevelConfigCdw12
    ),
    FeatureId.PREDICTABLE_LATENCY_MODE_CONFIG: _nvm_set(
        "Predictable Latency Mode Config",
        dwords.PredictableLatencyModeConfigCdw12,
        data.DeterministicThresholdConfig,
    ),
    FeatureId.PREDICTABLE_LATENCY_MODE_WINDOW: _nvm_set(
        "Predictable Latency Mode Window", dwords.PredictableLatencyModeWindowCdw12
    ),
    FeatureId.LBA_STATUS_INFORMATION_REPORT_INTERVAL: _plain(
        "LBA Status Information Report Interval",
        dwords.LbaStatusInformationCdw11,
        csi=CommandSetId.NVM,
    ),
    FeatureId.HOST_BEHAVIOR_SUPPORT: _only_data("Host Behavior Support", data.HostBehaviorSupport),
    FeatureId.SANITIZE_CONFIG: _plain("Sanitize Config", dwords.SanitizeConfigCdw11),
    FeatureId.ENDURANCE_GROUP_EVENT_CONFIG: _plain(
        "Endurance Group Event Configuration",
        dwords.EnduranceGroupEventConfigCdw11,
        selectors=("endgid",),
    ),
    FeatureId.IO_COMMAND_SET_PROFILE: _plain(
        "I/O Command Set Profile", dwords.IoCommandSetProfileCdw11
    ),
    FeatureId.SPINUP_CONTROL: Feature(
        "Spinup Control", dwords.SpinupControlCdw11, result=dwords.SpinupControlResult
    ),
    FeatureId.POWER_LOSS_SIGNALING_CONFIG: _plain(
        "Power Loss Signaling Config", dwords.PowerLossSignalingConfigCdw11
    ),
    FeatureId.PERFORMANCE_CHARACTERISTICS: Feature(
        "Performance Characteristics",
        dwords.PerformanceCharacteristicsCdw11,
        get_cdw11=dwords.PerformanceCharacteristicsCdw11,
        selectors=("attri",),
        set_data=data.VendorPerformanceAttribute,
        variants=(
            (range(1), data.StandardPerformanceAttribute),
            (range(0xC0, 0xC1), data.PerformanceAttributeIdentifierList),
            (range(0xC1, 0x100), data.VendorPerformanceAttribute),
        ),
        per_namespace=None,
        csi=CommandSetId.NVM,
    ),
    FeatureId.FLEXIBLE_DATA_PLACEMENT: Feature(
        "Flexible Data Placement",
        dwords.FlexibleDataPlacementCdw11,
        dwords.FlexibleDataPlacementCdw12,
        get_cdw11=dwords.FlexibleDataPlacementCdw11,
        selectors=("endgid",),
        result=dwords.FlexibleDataPlacementCdw12,
    ),
    FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS: Feature(
        "Flexible Data Placement Events",
        dwords.FdpEventsCdw11,
        dwords.FdpEventsCdw12,
        get_cdw11=dwords.FdpEventsCdw11,
        selectors=("phndl", "noet"),
        result=dwords.FdpEventsResult,
        data=data.SupportedFdpEvents,
        set_data=data.FdpEventTypes,
        room=255 * data.SupportedFdpEvent.size,
        used=_fdp_events,
        per_namespace=True,
    ),
    FeatureId.NAMESPACE_ADMIN_LABEL: _only_data(
        "Namespace Admin Label", data.NamespaceAdminLabel, per_namespace=True
    ),
    FeatureId.KEY_VALUE_CONFIG: Feature(
        "Key Value Config", per_namespace=None, csi=CommandSetId.KEY_VALUE
    ),
    FeatureId.CONTROLLER_DATA_QUEUE: Feature(
        "Controller Data Queue",
        dwords.ControllerDataQueueCdw11,
        get_cdw11=dwords.ControllerDataQueueCdw11,
        selectors=("cdqid",),
        data=data.ControllerDataQueuePointers,
    ),
    FeatureId.CONFIGURABLE_DEVICE_PERSONALITY: Feature(
        "Configurable Device Personality", per_namespace=None
    ),
    FeatureId.POWER_LIMIT: _plain("Power Limit", dwords.PowerLimitCdw11),
    FeatureId.POWER_THRESHOLD: _plain(
        "Power Threshold", dwords.PowerThresholdCdw11, selectors=("pmts",)
    ),
    FeatureId.POWER_MEASUREMENT: _plain("Power Measurement", dwords.PowerMeasurementCdw11),
    FeatureId.VOLTAGE_THRESHOLD: Feature("Voltage Threshold", per_namespace=None),
    FeatureId.VOLTAGE_MEASUREMENT: Feature("Voltage Measurement", per_namespace=None),
    FeatureId.RATE_LIMITING: Feature("Rate Limiting", per_namespace=None),
    FeatureId.EMBEDDED_MANAGEMENT_CONTROLLER_ADDRESS: _only_data(
        "Embedded Management Controller Address", data.EmbeddedManagementControllerAddress
    ),
    FeatureId.HOST_MANAGEMENT_AGENT_ADDRESS: _only_data(
        "Host Management Agent Address", data.HostManagementAgentAddress
    ),
    FeatureId.ENHANCED_CONTROLLER_METADATA: _metadata("Enhanced Controller Metadata"),
    FeatureId.CONTROLLER_METADATA: _metadata("Controller Metadata"),
    FeatureId.NAMESPACE_METADATA: _metadata("Namespace Metadata", per_namespace=True),
    FeatureId.SOFTWARE_PROGRESS_MARKER: _plain(
        "Software Progress Marker", dwords.SoftwareProgressMarkerCdw11
    ),
    FeatureId.HOST_IDENTIFIER: Feature(
        "Host Identifier",
        dwords.HostIdentifierCdw11,
        get_cdw11=dwords.HostIdentifierCdw11,
        selectors=("exhid",),
        variants=(
            (range(1), data.HostIdentifier),
            (range(1, 2), data.ExtendedHostIdentifier),
        ),
    ),
    FeatureId.RESERVATION_NOTIFICATION_MASK: _plain(
        "Reservation Notification Mask",
        dwords.ReservationNotificationMaskCdw11,
        per_namespace=True,
    ),
    FeatureId.RESERVATION_PERSISTENCE: _plain(
        "Reservation Persistence", dwords.ReservationPersistenceCdw11, per_namespace=True
    ),
    FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG: _plain(
        "Namespace Write Protection Config",
        dwords.NamespaceWriteProtectionConfigCdw11,
        per_namespace=True,
    ),
    FeatureId.BOOT_PARTITION_WRITE_PROTECTION_CONFIG: _plain(
        "Boot Partition Write Protection Config",
        dwords.BootPartitionWriteProtectionConfigCdw11,
    ),
}
