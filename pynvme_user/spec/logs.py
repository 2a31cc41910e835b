"""Log pages (NVMe Base 2.0, 5.16.1)."""

from enum import IntEnum

from .fields import U8, U16, U32, U128, Bit, Register, Reserved, ReservedBytes, Struct


class LogId(IntEnum):
    """Log Page Identifier (figure 202)."""

    SMART = 0x02


class CriticalWarning(Register, width=8):
    """Critical Warning of the SMART log (figure 207); the texts say what is wrong where it is 1."""

    spare = Bit(0, "the available spare is below its threshold")
    temperature = Bit(1, "a temperature is beyond its limits")
    reliability = Bit(2, "the NVM subsystem's reliability is degraded by media or internal errors")
    read_only = Bit(3, "the media are read-only")
    backup = Bit(4, "the backup of volatile memory has failed")
    pmr = Bit(5, "the Persistent Memory Region is read-only or unreliable")
    _r7_6 = Reserved(7, 6)


class SmartLog(Struct, size=512):
    """SMART / Health Information (log identifier 02h, 5.16.1.3, figure 207)."""

    cw = U8(0, "Critical Warning", bits=CriticalWarning)
    ctemp = U16(1, "Composite Temperature, in kelvins")
    avsp = U8(3, "Available Spare, in percent")
    avspt = U8(4, "Available Spare Threshold, in percent")
    pused = U8(5, "Percentage Used; up to 255")
    egcws = U8(6, "Endurance Group Critical Warning Summary")
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
