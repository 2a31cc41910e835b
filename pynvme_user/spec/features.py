"""The features of Get and Set Features (NVMe Base 2.0, 5.15, 5.27)."""

from enum import IntEnum

from .fields import Bit, Bits, Register, Reserved


class FeatureId(IntEnum):
    """FID, a feature (5.27, figure 316)."""

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
    FLEXIBLE_DATA_PLACEMENT = 0x1D
    FLEXIBLE_DATA_PLACEMENT_EVENTS = 0x1E
    ENHANCED_CONTROLLER_METADATA = 0x7D
    CONTROLLER_METADATA = 0x7E
    NAMESPACE_METADATA = 0x7F
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83
    NAMESPACE_WRITE_PROTECTION_CONFIG = 0x84


class FeatureSelect(IntEnum):
    """SEL, which value of a feature Get Features returns."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED = 3


class SetFeaturesCdw10(Register, width=32):
    """Set Features, dword 10 (5.27)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    _r30_8 = Reserved(30, 8)
    sv = Bit(31, "Save")


class GetFeaturesCdw10(Register, width=32):
    """Get Features, dword 10 (5.15)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    sel = Bits(10, 8, "Select", FeatureSelect)
    _r31_11 = Reserved(31, 11)
