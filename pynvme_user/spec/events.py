"""What Asynchronous Event Request reports (NVMe Base 2.1, 5.1.2)."""

from enum import IntEnum

from .bits import named
from .fields import Bits, Register, Reserved


class AsyncEventType(IntEnum):
    """AET, the type of an asynchronous event."""

    ERROR = 0
    SMART_HEALTH = 1
    NOTICE = 2
    IMMEDIATE = 3
    ONE_SHOT = 4
    IO_COMMAND_SPECIFIC = 6
    VENDOR_SPECIFIC = 7


class AsyncEventResult(Register, width=32):
    """Asynchronous Event Request, the completion's dword 0 (5.1.2.1); EVENTS names `aei`."""

    aet = Bits(2, 0, "Asynchronous Event Type", AsyncEventType)
    _r7_3 = Reserved(7, 3)
    aei = Bits(15, 8, "Asynchronous Event Information")
    lid = Bits(23, 16, "Log Page Identifier")
    _r31_24 = Reserved(31, 24)

    @property
    def event(self) -> str:
        """What the event is called; "" for one without a name, such as a vendor's."""
        return named(self.aei, EVENTS.get(self.aet))


class ControllerDataQueueEvent(Register, width=32):
    """The completion's dword 1 of the ONE_SHOT events (5.1.2.1)."""

    cdqid = Bits(15, 0, "Controller Data Queue Identifier")
    _r31_16 = Reserved(31, 16)


class ErrorEvent(IntEnum):
    """AEI of ERROR (figure 149)."""

    INVALID_DOORBELL_REGISTER = 0x00
    INVALID_DOORBELL_VALUE = 0x01
    DIAGNOSTIC_FAILURE = 0x02
    PERSISTENT_INTERNAL_ERROR = 0x03
    TRANSIENT_INTERNAL_ERROR = 0x04
    FIRMWARE_IMAGE_LOAD_ERROR = 0x05


class HealthEvent(IntEnum):
    """AEI of SMART_HEALTH (figure 150)."""

    NVM_SUBSYSTEM_RELIABILITY = 0x00
    TEMPERATURE_THRESHOLD = 0x01
    SPARE_BELOW_THRESHOLD = 0x02


class NoticeEvent(IntEnum):
    """AEI of NOTICE (figure 151); F0h to F3h are Discovery controllers'."""

    ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED = 0x00
    FIRMWARE_ACTIVATION_STARTING = 0x01
    TELEMETRY_LOG_CHANGED = 0x02
    ASYMMETRIC_NAMESPACE_ACCESS_CHANGE = 0x03
    PREDICTABLE_LATENCY_EVENT_AGGREGATE_LOG_CHANGE = 0x04
    LBA_STATUS_INFORMATION_ALERT = 0x05
    ENDURANCE_GROUP_EVENT_AGGREGATE_LOG_CHANGE = 0x06
    REACHABILITY_GROUP_CHANGE = 0x07
    REACHABILITY_ASSOCIATION_CHANGE = 0x08
    ALLOCATED_NAMESPACE_ATTRIBUTE_CHANGED = 0x09
    ZONE_DESCRIPTOR_CHANGED = 0xEF
    DISCOVERY_LOG_PAGE_CHANGE = 0xF0
    HOST_DISCOVERY_LOG_PAGE_CHANGE = 0xF1
    AVE_DISCOVERY_LOG_PAGE_CHANGE = 0xF2
    PULL_MODEL_DDC_REQUEST = 0xF3


class IoCommandEvent(IntEnum):
    """AEI of IO_COMMAND_SPECIFIC (figure 152)."""

    RESERVATION_LOG_PAGE_AVAILABLE = 0x00
    SANITIZE_COMPLETED = 0x01
    SANITIZE_COMPLETED_WITH_UNEXPECTED_DEALLOCATION = 0x02
    SANITIZE_ENTERED_MEDIA_VERIFICATION = 0x03


class ImmediateEvent(IntEnum):
    """AEI of IMMEDIATE (figure 153): not reported if no request is outstanding."""

    NVM_SUBSYSTEM_NORMAL_SHUTDOWN = 0x00
    TEMPERATURE_THRESHOLD_HYSTERESIS_RECOVERY = 0x01


class OneShotEvent(IntEnum):
    """AEI of ONE_SHOT (figure 154): reported once; dword 1 names the queue."""

    CONTROLLER_DATA_QUEUE_TAIL_POINTER = 0x00
    CONTROLLER_DATA_QUEUE_FULL_ERROR = 0x01


#: The names of AEI, by type.
EVENTS: dict[int, type[IntEnum]] = {
    AsyncEventType.ERROR: ErrorEvent,
    AsyncEventType.SMART_HEALTH: HealthEvent,
    AsyncEventType.NOTICE: NoticeEvent,
    AsyncEventType.IMMEDIATE: ImmediateEvent,
    AsyncEventType.ONE_SHOT: OneShotEvent,
    AsyncEventType.IO_COMMAND_SPECIFIC: IoCommandEvent,
}
