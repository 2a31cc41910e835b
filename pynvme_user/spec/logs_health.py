"""Log pages about the health of a controller, its firmware and its media.

Error Information, SMART, Firmware Slot, Device Self-test, Endurance Group, Rotational Media and
Sanitize Status. Sections and names are those of NVMe Base 2.1.
"""

from enum import IntEnum

from .fields import (
    U8,
    U16,
    U32,
    U64,
    U128,
    Array,
    Ascii,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)
from .lists import StructList


class ErrorStatus(Register, width=16):
    """Status Info of an error: the completion's phase and status."""

    p = Bit(0, "Phase Tag")
    sc = Bits(8, 1, "Status Code")
    sct = Bits(11, 9, "Status Code Type")
    crd = Bits(13, 12, "Command Retry Delay")
    m = Bit(14, "More")
    dnr = Bit(15, "Do Not Retry")


class PEL(Register, width=16):
    """Parameter Error Location; all ones: not of a parameter."""

    byte = Bits(7, 0, "Byte in the command")
    bit = Bits(10, 8, "Bit in the byte")
    _r15_11 = Reserved(15, 11)


class ErrorLogEntry(Struct, size=64):
    """Error Information Log Entry (5.1.12.1.2)."""

    ecnt = U64(0, "Error Count; 0: no entry")
    sqid = U16(8, "Submission Queue ID")
    cid = U16(10, "Command ID")
    sts = U16(12, "Status Info", bits=ErrorStatus)
    pel = U16(14, "Parameter Error Location", bits=PEL)
    lba = U64(16, "Logical Block Address")
    nsid = U32(24, "Namespace Identifier")
    vsia = U8(28, "Vendor Specific Information Available, a log identifier; 0: none")
    trtype = U8(29, "Transport Type; 0: not a transport's error")
    csi = U8(30, "Command Set Indicator, valid from version 1")
    opc = U8(31, "Opcode, valid from version 1")
    csinfo = U64(32, "Command Specific Information")
    ttsi = U16(40, "Transport Type Specific Information")
    _rsvd42 = ReservedBytes(42, 21)
    lpver = U8(63, "Log Page Version")


class ErrorLog(StructList[Struct, ErrorLogEntry], element=ErrorLogEntry):
    """Error Information (log identifier 01h, 5.1.12.1.2): the newest first.

    As many entries as were read; the controller keeps Identify's ELPE of them.
    """


class CriticalWarning(Register, width=8):
    """Critical Warning of the SMART log (figure 207); the texts say what is wrong where it is 1."""

    spare = Bit(0, "the available spare is below its threshold")
    temperature = Bit(1, "a temperature is beyond its limits")
    reliability = Bit(2, "the NVM subsystem's reliability is degraded by media or internal errors")
    read_only = Bit(3, "the media are read-only")
    backup = Bit(4, "the backup of volatile memory has failed")
    pmr = Bit(5, "the Persistent Memory Region is read-only or unreliable")
    _r7_6 = Reserved(7, 6)


class EnduranceGroupWarning(Register, width=8):
    """Critical Warning of Endurance Groups; the texts say what is wrong where it is 1."""

    spare = Bit(0, "the available spare is below its threshold")
    _r1 = Reserved(1, 1)
    reliability = Bit(2, "the reliability is degraded by media or internal errors")
    read_only = Bit(3, "the namespaces are read-only")
    _r7_4 = Reserved(7, 4)


class SmartLog(Struct, size=512):
    """SMART / Health Information (log identifier 02h, 5.1.12.1.3)."""

    cw = U8(0, "Critical Warning", bits=CriticalWarning)
    ctemp = U16(1, "Composite Temperature, in kelvins")
    avsp = U8(3, "Available Spare, in percent")
    avspt = U8(4, "Available Spare Threshold, in percent")
    pused = U8(5, "Percentage Used; up to 255")
    egcws = U8(6, "Endurance Group Critical Warning Summary", bits=EnduranceGroupWarning)
    _r = ReservedBytes(7, 25)
    dur = U128(32, "Data Units Read, of 512,000 bytes")
    duw = U128(48, "Data Units Written, of 512,000 bytes")
    hrc = U128(64, "Host Read Commands")
    hwc = U128(80, "Host Write Commands")
    cbt = U128(96, "Controller Busy Time, in minutes")
    pwrc = U128(112, "Power Cycles")
    poh = U128(128, "Power On Hours")
    upl = U128(144, "Unexpected Power Losses")
    mdie = U128(160, "Media and Data Integrity Errors")
    neile = U128(176, "Number of Error Information Log Entries")
    wctt = U32(192, "Warning Composite Temperature Time, in minutes")
    cctt = U32(196, "Critical Composite Temperature Time, in minutes")
    tsen = U16.array(200, 8, "Temperature Sensors 1 to 8, in kelvins; 0: not there")
    tmt1tc = U32(216, "Thermal Management Temperature 1 Transition Count")
    tmt2tc = U32(220, "Thermal Management Temperature 2 Transition Count")
    tttmt1 = U32(224, "Total Time for Thermal Management Temperature 1, in seconds")
    tttmt2 = U32(228, "Total Time for Thermal Management Temperature 2, in seconds")
    _r_end = ReservedBytes(232, 280)


class AFI(Register, width=8):
    """Active Firmware Info; slots are numbered from 1."""

    cafs = Bits(2, 0, "Current Active Firmware Slot")
    _r3 = Reserved(3, 3)
    nafs = Bits(6, 4, "Next Active Firmware Slot (0: not indicated)")
    _r7 = Reserved(7, 7)


class FirmwareSlotLog(Struct, size=512):
    """Firmware Slot Information (log identifier 03h, 5.1.12.1.4)."""

    afi = U8(0, "Active Firmware Info", bits=AFI)
    _rsvd1 = ReservedBytes(1, 7)
    frs1 = Ascii(8, 8, "Firmware Revision for Slot 1")
    frs2 = Ascii(16, 8, "Firmware Revision for Slot 2")
    frs3 = Ascii(24, 8, "Firmware Revision for Slot 3")
    frs4 = Ascii(32, 8, "Firmware Revision for Slot 4")
    frs5 = Ascii(40, 8, "Firmware Revision for Slot 5")
    frs6 = Ascii(48, 8, "Firmware Revision for Slot 6")
    frs7 = Ascii(56, 8, "Firmware Revision for Slot 7")
    _rsvd64 = ReservedBytes(64, 448)


class SelfTestOperation(IntEnum):
    """Current Device Self-Test Operation, and the code of a self-test's result."""

    NONE = 0
    SHORT = 1
    EXTENDED = 2
    HOST_INITIATED_REFRESH = 3
    VENDOR_SPECIFIC = 0xE


class SelfTestOutcome(IntEnum):
    """How a device self-test ended."""

    NO_ERROR = 0
    ABORTED_BY_COMMAND = 1
    ABORTED_BY_RESET = 2
    ABORTED_BY_NAMESPACE_REMOVAL = 3
    ABORTED_BY_FORMAT = 4
    FATAL_ERROR = 5
    UNKNOWN_SEGMENT_FAILED = 6
    SEGMENT_FAILED = 7
    ABORTED_UNKNOWN = 8
    ABORTED_BY_SANITIZE = 9
    NOT_USED = 0xF


class CDSTO(Register, width=8):
    """Current Device Self-Test Operation."""

    cdstos = Bits(3, 0, "Current Device Self-Test Operation Status", SelfTestOperation)
    _r7_4 = Reserved(7, 4)


class CDSTC(Register, width=8):
    """Current Device Self-Test Completion."""

    cdstcs = Bits(6, 0, "Current Device Self-Test Completion Status, in percent")
    _r7 = Reserved(7, 7)


class DSTS(Register, width=8):
    """Device Self-test Status."""

    dstr = Bits(3, 0, "Device Self-test Result", SelfTestOutcome)
    dstc = Bits(7, 4, "Device Self-test Code", SelfTestOperation)


class VDINFO(Register, width=8):
    """Valid Diagnostic Information."""

    nsidv = Bit(0, "NSID Valid")
    flbav = Bit(1, "Failing LBA Valid")
    sctv = Bit(2, "Status Code Type Valid")
    scv = Bit(3, "Status Code Valid")
    _r7_4 = Reserved(7, 4)


class SelfTestResult(Struct, size=28):
    """Self-test Result (5.1.12.1.7)."""

    dsts = U8(0, "Device Self-test Status", bits=DSTS)
    segnum = U8(1, "Segment Number of the first failure")
    vdinfo = U8(2, "Valid Diagnostic Information", bits=VDINFO)
    _rsvd3 = ReservedBytes(3, 1)
    poh = U64(4, "Power On Hours")
    nsid = U32(12, "Namespace Identifier")
    flba = U64(16, "Failing LBA")
    sct = U8(24, "Status Code Type")
    sc = U8(25, "Status Code")
    vs = Raw(26, 2, "Vendor Specific")


class SelfTestLog(Struct, size=564):
    """Device Self-test (log identifier 06h, 5.1.12.1.7): 20 results, the newest first."""

    cdsto = U8(0, "Current Device Self-Test Operation", bits=CDSTO)
    cdstc = U8(1, "Current Device Self-Test Completion", bits=CDSTC)
    _rsvd2 = ReservedBytes(2, 2)
    results = Array(4, 20, SelfTestResult, "Self-test Results")


class EGFEAT(Register, width=8):
    """Endurance Group Features."""

    egrmedia = Bit(0, "Endurance Group Rotational Media")
    _r7_1 = Reserved(7, 1)


class EnduranceGroupLog(Struct, size=512):
    """Endurance Group Information (log identifier 09h, 5.1.12.1.10)."""

    cw = U8(0, "Critical Warning", bits=EnduranceGroupWarning)
    egfeat = U8(1, "Endurance Group Features", bits=EGFEAT)
    _rsvd2 = ReservedBytes(2, 1)
    avsp = U8(3, "Available Spare, in percent")
    avspt = U8(4, "Available Spare Threshold, in percent")
    pused = U8(5, "Percentage Used; up to 255")
    did = U16(6, "Domain Identifier")
    _rsvd8 = ReservedBytes(8, 24)
    ee = U128(32, "Endurance Estimate, in billions of bytes")
    dur = U128(48, "Data Units Read, in billions of bytes")
    duw = U128(64, "Data Units Written, in billions of bytes")
    muw = U128(80, "Media Units Written, in billions of bytes")
    hrc = U128(96, "Host Read Commands")
    hwc = U128(112, "Host Write Commands")
    mdie = U128(128, "Media and Data Integrity Errors")
    neile = U128(144, "Number of Error Information Log Entries")
    tegcap = U128(160, "Total Endurance Group Capacity, in bytes")
    uegcap = U128(176, "Unallocated Endurance Group Capacity, in bytes")
    _rsvd192 = ReservedBytes(192, 320)


class RotationalMediaLog(Struct, size=512):
    """Rotational Media Information (log identifier 16h, 5.1.12.1.22)."""

    endgid = U16(0, "Endurance Group Identifier")
    numa = U16(2, "Number of Actuators")
    nrs = U16(4, "Nominal Rotational Speed, in revolutions per minute")
    _rsvd6 = ReservedBytes(6, 2)
    spinc = U32(8, "Spinup Count")
    fspinc = U32(12, "Failed Spinup Count")
    ldc = U32(16, "Load Count")
    fldc = U32(20, "Failed Load Count")
    _rsvd24 = ReservedBytes(24, 488)


class SanitizeOperationStatus(IntEnum):
    """How the last sanitize operation ended."""

    NEVER_STARTED = 0
    SANITIZED = 1
    SANITIZING = 2
    FAILED = 3
    SANITIZED_UNEXPECTED_DEALLOCATE = 4


class SanitizeState(IntEnum):
    """State of the Sanitize Operation State Machine."""

    IDLE = 0
    RESTRICTED_PROCESSING = 1
    RESTRICTED_FAILURE = 2
    UNRESTRICTED_PROCESSING = 3
    UNRESTRICTED_FAILURE = 4
    MEDIA_VERIFICATION = 5
    POST_VERIFICATION_DEALLOCATION = 6


class SSTAT(Register, width=16):
    """Sanitize Status."""

    sos = Bits(2, 0, "Sanitize Operation Status", SanitizeOperationStatus)
    opc = Bits(7, 3, "Overwrite Passes Completed")
    gde = Bit(8, "Global Data Erased")
    mvcncld = Bit(9, "Media Verification Canceled")
    _r15_10 = Reserved(15, 10)


class SSI(Register, width=8):
    """Sanitize State Information."""

    sans = Bits(3, 0, "Sanitize State", SanitizeState)
    fails = Bits(7, 4, "Failure State", SanitizeState)


class SanitizeLog(Struct, size=512):
    """Sanitize Status (log identifier 81h, 5.1.12.1.33); FFFFFFFFh seconds: not reported."""

    sprog = U16(0, "Sanitize Progress, of 65,536")
    sstat = U16(2, "Sanitize Status", bits=SSTAT)
    scdw10 = U32(4, "Sanitize Command Dword 10")
    eto = U32(8, "Estimated Time for Overwrite, in seconds")
    etbe = U32(12, "Estimated Time for Block Erase, in seconds")
    etce = U32(16, "Estimated Time for Crypto Erase, in seconds")
    etond = U32(20, "Estimated Time for Overwrite, No-Deallocate Modifying Media, in seconds")
    etbend = U32(24, "Estimated Time for Block Erase, No-Deallocate Modifying Media, in seconds")
    etcend = U32(28, "Estimated Time for Crypto Erase, No-Deallocate Modifying Media, in seconds")
    etpvds = U32(32, "Estimated Time for Post-Verification Deallocation State, in seconds")
    ssi = U8(36, "Sanitize State Information", bits=SSI)
    _rsvd37 = ReservedBytes(37, 475)
