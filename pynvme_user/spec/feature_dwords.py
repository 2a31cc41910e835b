"""The features' values: dword 11 and beyond, and what a completion's dword 0 has.

NVMe Base 2.1, 5.1.25; NVM Command Set 1.1, 4.1.3; what is newer says so. A feature without a
class of its own for dword 0 returns its dword 11 there. Counts that the specification calls
"0's based" say zero-based.
"""

from enum import IntEnum

from .fields import Bit, Bits, Register, Reserved
from .identify_controller import PowerScale


class ArbitrationCdw11(Register, width=32):
    """Arbitration, dword 11 (feature 01h)."""

    ab = Bits(2, 0, "Arbitration Burst (2 ^ AB commands; 7: no limit)")
    _r7_3 = Reserved(7, 3)
    lpw = Bits(15, 8, "Low Priority Weight (zero-based)")
    mpw = Bits(23, 16, "Medium Priority Weight (zero-based)")
    hpw = Bits(31, 24, "High Priority Weight (zero-based)")


class WorkloadHint(IntEnum):
    """WH, the workload to come."""

    NONE = 0
    IDLE_WITH_BURSTS_OF_RANDOM_WRITES = 1
    HEAVY_SEQUENTIAL_WRITES = 2


class PowerManagementCdw11(Register, width=32):
    """Power Management, dword 11 (feature 02h)."""

    ps = Bits(4, 0, "Power State")
    wh = Bits(7, 5, "Workload Hint", WorkloadHint)
    _r31_8 = Reserved(31, 8)


class LbaRangeTypeCdw11(Register, width=32):
    """LBA Range Type, dword 11 (feature 03h)."""

    num = Bits(5, 0, "Number of LBA Ranges (zero-based)")
    _r31_6 = Reserved(31, 6)


class ThresholdTemperature(IntEnum):
    """TMPSEL, whose threshold it is; sensors are 1 to 8."""

    COMPOSITE = 0
    SENSOR_1 = 1
    SENSOR_2 = 2
    SENSOR_3 = 3
    SENSOR_4 = 4
    SENSOR_5 = 5
    SENSOR_6 = 6
    SENSOR_7 = 7
    SENSOR_8 = 8
    ALL = 15


class ThresholdType(IntEnum):
    """THSEL, on which side of the threshold the event is."""

    OVER = 0
    UNDER = 1


class TemperatureThresholdCdw11(Register, width=32):
    """Temperature Threshold, dword 11 (feature 04h)."""

    tmpth = Bits(15, 0, "Temperature Threshold (kelvins)")
    tmpsel = Bits(19, 16, "Threshold Temperature Select", ThresholdTemperature)
    thsel = Bits(21, 20, "Threshold Type Select", ThresholdType)
    tmpthh = Bits(24, 22, "Temperature Threshold Hysteresis (kelvins)")
    _r31_25 = Reserved(31, 25)


class ErrorRecoveryCdw11(Register, width=32):
    """Error Recovery, dword 11 (feature 05h)."""

    tler = Bits(15, 0, "Time Limited Error Recovery (100 ms; 0: no limit)")
    dulbe = Bit(16, "Deallocated or Unwritten Logical Block Error Enable")
    _r31_17 = Reserved(31, 17)


class VolatileWriteCacheCdw11(Register, width=32):
    """Volatile Write Cache, dword 11 (feature 06h)."""

    wce = Bit(0, "Volatile Write Cache Enable")
    _r31_1 = Reserved(31, 1)


class NumberOfQueuesCdw11(Register, width=32):
    """Number of Queues, as requested in dword 11 (feature 07h)."""

    nsqr = Bits(15, 0, "Number of I/O Submission Queues Requested (zero-based)")
    ncqr = Bits(31, 16, "Number of I/O Completion Queues Requested (zero-based)")


class NumberOfQueuesResult(Register, width=32):
    """Number of Queues, as granted in the completion's dword 0 (feature 07h)."""

    nsqa = Bits(15, 0, "Number of I/O Submission Queues Allocated (zero-based)")
    ncqa = Bits(31, 16, "Number of I/O Completion Queues Allocated (zero-based)")


class InterruptCoalescingCdw11(Register, width=32):
    """Interrupt Coalescing, dword 11 (feature 08h)."""

    thr = Bits(7, 0, "Aggregation Threshold (zero-based)")
    time = Bits(15, 8, "Aggregation Time (100 us; 0: no delay)")
    _r31_16 = Reserved(31, 16)


class InterruptVectorConfigCdw11(Register, width=32):
    """Interrupt Vector Configuration, dword 11 (feature 09h)."""

    iv = Bits(15, 0, "Interrupt Vector")
    cd = Bit(16, "Coalescing Disable")
    _r31_17 = Reserved(31, 17)


class WriteAtomicityCdw11(Register, width=32):
    """Write Atomicity Normal, dword 11 (feature 0Ah)."""

    dn = Bit(0, "Disable Normal")
    _r31_1 = Reserved(31, 1)


class AsyncEventConfigCdw11(Register, width=32):
    """Asynchronous Event Configuration, dword 11 (feature 0Bh)."""

    shcw = Bits(7, 0, "SMART / Health Critical Warnings (by the bits of that log)")
    nan = Bit(8, "Attached Namespace Attribute Notices")
    fan = Bit(9, "Firmware Activation Notices")
    tln = Bit(10, "Telemetry Log Notices")
    anacn = Bit(11, "Asymmetric Namespace Access Change Notices")
    plealcn = Bit(12, "Predictable Latency Event Aggregate Log Change Notices")
    lsian = Bit(13, "LBA Status Information Alert Notices")
    egealcn = Bit(14, "Endurance Group Event Aggregate Log Change Notices")
    nnsshdn = Bit(15, "Normal NVM Subsystem Shutdown")
    tthry = Bit(16, "Temperature Threshold Hysteresis Recovery")
    rassn = Bit(17, "Reachability Association")
    rgrp0 = Bit(18, "Reachability Group")
    ansan = Bit(19, "Allocated Namespace Attribute Notices")
    _r26_20 = Reserved(26, 20)
    zdcn = Bit(27, "Zone Descriptor Changed Notices")
    pmdrlpcn = Bit(28, "Pull Model DDC Request Log Page Change Notification")
    adlpcn = Bit(29, "AVE Discovery Log Page Change Notification")
    hdlpcn = Bit(30, "Host Discovery Log Page Change Notification")
    dlpcn = Bit(31, "Discovery Log Page Change Notification")


class AutonomousPowerStateTransitionCdw11(Register, width=32):
    """Autonomous Power State Transition, dword 11 (feature 0Ch)."""

    apste = Bit(0, "Autonomous Power State Transition Enable")
    _r31_1 = Reserved(31, 1)


class HostMemoryBufferCdw11(Register, width=32):
    """Host Memory Buffer, dword 11 (feature 0Dh).

    Dword 12 is its size in pages of CC.MPS, dwords 13 and 14 the address of the descriptor list,
    lower half first, dword 15 the number of its entries.
    """

    ehm = Bit(0, "Enable Host Memory")
    mr = Bit(1, "Memory Return")
    hmnare = Bit(2, "Host Memory Non-operational Access Restriction Enable")
    _r31_3 = Reserved(31, 3)


class HostMemoryBufferResult(Register, width=32):
    """Host Memory Buffer, the completion's dword 0 of Get Features (feature 0Dh)."""

    ehm = Bit(0, "Enable Host Memory")
    mr = Bit(1, "Memory Return")
    hmnare = Bit(2, "Host Memory Non-operational Access Restriction Enable")
    hmnar = Bit(3, "Host Memory Non-operational Access Restricted")
    _r31_4 = Reserved(31, 4)


class KeepAliveTimerCdw11(Register, width=32):
    """Keep Alive Timer, dword 11 (feature 0Fh)."""

    kato = Bits(31, 0, "Keep Alive Timeout (ms; 0: disabled)")


class HostControlledThermalManagementCdw11(Register, width=32):
    """Host Controlled Thermal Management, dword 11 (feature 10h)."""

    tmt2 = Bits(15, 0, "Thermal Management Temperature 2 (kelvins; 0: disabled)")
    tmt1 = Bits(31, 16, "Thermal Management Temperature 1 (kelvins; 0: disabled)")


class NonOperationalPowerStateConfigCdw11(Register, width=32):
    """Non-Operational Power State Config, dword 11 (feature 11h)."""

    noppme = Bit(0, "Non-Operational Power State Permissive Mode Enable")
    _r31_1 = Reserved(31, 1)


class NvmSetCdw11(Register, width=32):
    """The NVM Set of a feature, dword 11 (features 12h, 13h, 14h)."""

    nvmsetid = Bits(15, 0, "NVM Set Identifier")
    _r31_16 = Reserved(31, 16)


class ReadRecoveryLevelConfigCdw12(Register, width=32):
    """Read Recovery Level Config, dword 12 and the completion's dword 0 (feature 12h)."""

    rrl = Bits(3, 0, "Read Recovery Level (15: fast fail)")
    _r31_4 = Reserved(31, 4)


class PredictableLatencyModeConfigCdw12(Register, width=32):
    """Predictable Latency Mode Config, dword 12 and the completion's dword 0 (feature 13h)."""

    lpe = Bit(0, "Predictable Latency Enable")
    _r31_1 = Reserved(31, 1)


class LatencyWindow(IntEnum):
    """WS, a window of Predictable Latency Mode."""

    DETERMINISTIC = 1
    NON_DETERMINISTIC = 2


class PredictableLatencyModeWindowCdw12(Register, width=32):
    """Predictable Latency Mode Window, dword 12 and the completion's dword 0 (feature 14h)."""

    ws = Bits(2, 0, "Window Select", LatencyWindow)
    _r31_3 = Reserved(31, 3)


class LbaStatusInformationCdw11(Register, width=32):
    """LBA Status Information Report Interval, dword 11 (feature 15h)."""

    lsiri = Bits(15, 0, "LBA Status Information Report Interval (100 ms)")
    lsipi = Bits(31, 16, "LBA Status Information Poll Interval (100 ms)")


class SanitizeConfigCdw11(Register, width=32):
    """Sanitize Config, dword 11 (feature 17h)."""

    nodrm = Bit(0, "No-Deallocate Response Mode (1: warning, 0: error)")
    _r31_1 = Reserved(31, 1)


class EnduranceGroupEventConfigCdw11(Register, width=32):
    """Endurance Group Event Configuration, dword 11 (feature 18h)."""

    endgid = Bits(15, 0, "Endurance Group Identifier")
    egcw = Bits(23, 16, "Endurance Group Critical Warnings (by the bits of that log)")
    _r31_24 = Reserved(31, 24)


class IoCommandSetProfileCdw11(Register, width=32):
    """I/O Command Set Profile, dword 11 (feature 19h)."""

    iocsci = Bits(8, 0, "I/O Command Set Combination Index")
    _r31_9 = Reserved(31, 9)


class SpinupControlCdw11(Register, width=32):
    """Spinup Control, dword 11 (feature 1Ah)."""

    sce = Bit(0, "Spinup Control Enable")
    _r31_1 = Reserved(31, 1)


class SpinupControlResult(Register, width=32):
    """Spinup Control, the completion's dword 0 of Get Features (feature 1Ah)."""

    scs = Bit(0, "Spinup Control State")
    _r31_1 = Reserved(31, 1)


class PowerLossSignalingMode(IntEnum):
    """PLSM, what a power loss notification starts."""

    NOT_ENABLED = 0
    EMERGENCY_POWER_FAIL = 1
    FORCED_QUIESCENCE = 2


class PowerLossSignalingConfigCdw11(Register, width=32):
    """Power Loss Signaling Config, dword 11 (feature 1Bh)."""

    plsm = Bits(1, 0, "Power Loss Signaling Mode", PowerLossSignalingMode)
    _r31_2 = Reserved(31, 2)


class PerformanceAttribute(IntEnum):
    """ATTRI, which attribute is transferred; C1h to FFh are the vendor's."""

    STANDARD = 0x00
    IDENTIFIER_LIST = 0xC0
    VENDOR_FIRST = 0xC1
    VENDOR_LAST = 0xFF


class PerformanceCharacteristicsCdw11(Register, width=32):
    """Performance Characteristics, dword 11 (feature 1Ch)."""

    attri = Bits(7, 0, "Attribute Index", PerformanceAttribute)
    rvspa = Bit(8, "Revert Vendor Specific Performance Attribute")
    _r31_9 = Reserved(31, 9)


class FlexibleDataPlacementCdw11(Register, width=32):
    """Flexible Data Placement, dword 11 (feature 1Dh)."""

    endgid = Bits(15, 0, "Endurance Group Identifier")
    _r31_16 = Reserved(31, 16)


class FlexibleDataPlacementCdw12(Register, width=32):
    """Flexible Data Placement, dword 12 and the completion's dword 0 (feature 1Dh)."""

    fdpe = Bit(0, "Flexible Data Placement Enable")
    _r7_1 = Reserved(7, 1)
    fdpcidx = Bits(15, 8, "Flexible Data Placement Configuration Index")
    _r31_16 = Reserved(31, 16)


class FdpEventsCdw11(Register, width=32):
    """Flexible Data Placement Events, dword 11 (feature 1Eh)."""

    phndl = Bits(15, 0, "Placement Handle")
    noet = Bits(23, 16, "Number of FDP Event Types")
    _r31_24 = Reserved(31, 24)


class FdpEventsCdw12(Register, width=32):
    """Flexible Data Placement Events, dword 12 of Set Features (feature 1Eh)."""

    fdpee = Bit(0, "FDP Event Enable")
    _r31_1 = Reserved(31, 1)


class FdpEventsResult(Register, width=32):
    """Flexible Data Placement Events, the completion's dword 0 of Get Features (feature 1Eh)."""

    nsfdpet = Bits(7, 0, "Number of Supported FDP Event Types")
    _r31_8 = Reserved(31, 8)


class ControllerDataQueueCdw11(Register, width=32):
    """Controller Data Queue, dword 11 (feature 21h).

    Of Set Features dword 12 is the head pointer and dword 13 the tail pointer trigger.
    """

    cdqid = Bits(15, 0, "Controller Data Queue Identifier")
    _r30_16 = Reserved(30, 16)
    etpt = Bit(31, "Enable Tail Pointer Trigger")


class PowerLimitCdw11(Register, width=32):
    """Power Limit, dword 11 (feature 23h, Base 2.3)."""

    plv = Bits(15, 0, "Power Limit Value")
    pls = Bits(17, 16, "Power Limit Scale", PowerScale)
    _r31_18 = Reserved(31, 18)


class PowerThresholdCdw11(Register, width=32):
    """Power Threshold, dword 11 (feature 24h, Base 2.3)."""

    ptv = Bits(15, 0, "Power Threshold Value")
    pts = Bits(17, 16, "Power Threshold Scale", PowerScale)
    _r19_18 = Reserved(19, 18)
    pmts = Bits(23, 20, "Power Measurement Type Select (0: the NVM subsystem's total)")
    _r30_24 = Reserved(30, 24)
    ept = Bit(31, "Enable Power Threshold")


class PowerMeasurementAction(IntEnum):
    """ACT, what becomes of the measurement."""

    STOP = 0
    START = 1


class PowerMeasurementCdw11(Register, width=32):
    """Power Measurement, dword 11 (feature 25h, Base 2.3)."""

    act = Bits(3, 0, "Action", PowerMeasurementAction)
    pmts = Bits(7, 4, "Power Measurement Type Select (0: the NVM subsystem's total)")
    _r15_8 = Reserved(15, 8)
    smt = Bits(31, 16, "Stop Measurement Time (minutes; 0: none)")


class GetHostMetadataCdw11(Register, width=32):
    """Host Metadata, dword 11 of Get Features (features 7Dh, 7Eh, 7Fh)."""

    gdhm = Bit(0, "Generate Default Host Metadata")
    _r31_1 = Reserved(31, 1)


class ElementAction(IntEnum):
    """EA, what Set Features does with the elements in its data."""

    ADD_OR_REPLACE = 0
    DELETE = 1
    ADD_MULTIPLE = 2


class SetHostMetadataCdw11(Register, width=32):
    """Host Metadata, dword 11 of Set Features (features 7Dh, 7Eh, 7Fh)."""

    _r12_0 = Reserved(12, 0)
    ea = Bits(14, 13, "Element Action", ElementAction)
    _r31_15 = Reserved(31, 15)


class SoftwareProgressMarkerCdw11(Register, width=32):
    """Software Progress Marker, dword 11 (feature 80h)."""

    pbslc = Bits(7, 0, "Pre-boot Software Load Count")
    _r31_8 = Reserved(31, 8)


class HostIdentifierCdw11(Register, width=32):
    """Host Identifier, dword 11 (feature 81h)."""

    exhid = Bit(0, "Enable Extended Host Identifier (1: 128 bits, 0: 64 bits)")
    _r31_1 = Reserved(31, 1)


class ReservationNotificationMaskCdw11(Register, width=32):
    """Reservation Notification Mask, dword 11 (feature 82h); 1: no notification."""

    _r0 = Reserved(0, 0)
    regpre = Bit(1, "Mask Registration Preempted Notification")
    resrel = Bit(2, "Mask Reservation Released Notification")
    respre = Bit(3, "Mask Reservation Preempted Notification")
    _r31_4 = Reserved(31, 4)


class ReservationPersistenceCdw11(Register, width=32):
    """Reservation Persistence, dword 11 (feature 83h)."""

    ptpl = Bit(0, "Persist Through Power Loss")
    _r31_1 = Reserved(31, 1)


class WriteProtectionState(IntEnum):
    """WPS, a namespace's write protection."""

    NONE = 0
    WRITE_PROTECT = 1
    UNTIL_POWER_CYCLE = 2
    PERMANENT = 3


class NamespaceWriteProtectionConfigCdw11(Register, width=32):
    """Namespace Write Protection Config, dword 11 (feature 84h)."""

    wps = Bits(2, 0, "Write Protection State", WriteProtectionState)
    _r31_3 = Reserved(31, 3)


class BootPartitionWriteProtectionState(IntEnum):
    """BP0WPS and BP1WPS; NO_CHANGE is Set Features' alone, BY_RPMB Get Features'."""

    NO_CHANGE = 0
    UNLOCKED = 1
    LOCKED = 2
    LOCKED_UNTIL_POWER_CYCLE = 3
    BY_RPMB = 4


class BootPartitionWriteProtectionConfigCdw11(Register, width=32):
    """Boot Partition Write Protection Config, dword 11 (feature 85h)."""

    bp0wps = Bits(
        2, 0, "Boot Partition 0 Write Protection State", BootPartitionWriteProtectionState
    )
    bp1wps = Bits(
        5, 3, "Boot Partition 1 Write Protection State", BootPartitionWriteProtectionState
    )
    _r31_6 = Reserved(31, 6)
