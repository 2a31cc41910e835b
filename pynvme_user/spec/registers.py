"""The controller's properties, the registers at BAR0 (NVMe Base 2.0, 3.1.3).

Offsets are in bytes from the start of the property space. `REGISTERS` has all of them in order.
"""

from enum import IntEnum, IntFlag

from .fields import Bit, Bits, Register, Reserved

DOORBELL_BASE = 0x1000  # NVMe over PCIe Transport 1.0, 3.1.2
NSSR_RESET = 0x4E564D65  # "NVMe", written to NSSR.nssrc
NSSD_NORMAL = 0x4E726D6C  # "Nrml", written to NSSD.nssc
NSSD_ABRUPT = 0x41627074  # "Abpt", written to NSSD.nssc


class CommandSet(IntEnum):
    """CC.CSS, the I/O Command Set Selected."""

    NVM = 0
    ALL_SUPPORTED = 6
    ADMIN_ONLY = 7


class Arbitration(IntEnum):
    """CC.AMS, the Arbitration Mechanism Selected."""

    ROUND_ROBIN = 0
    WEIGHTED_ROUND_ROBIN = 1
    VENDOR_SPECIFIC = 7


class ShutdownNotification(IntEnum):
    """CC.SHN, what the host asks for."""

    NONE = 0
    NORMAL = 1
    ABRUPT = 2


class ShutdownStatus(IntEnum):
    """CSTS.SHST, how far the controller got."""

    NONE = 0
    OCCURRING = 1
    COMPLETE = 2


class CommandSetsSupported(IntFlag):
    """CAP.CSS: which values CC.CSS may take."""

    NVM = 1 << 0
    IOCS = 1 << 6  # one or more I/O command sets, named by Identify: CommandSet.ALL_SUPPORTED
    NOIOCS = 1 << 7  # no I/O command set: CommandSet.ADMIN_ONLY


class ArbitrationSupported(IntFlag):
    """CAP.AMS: mechanisms beside round robin."""

    WEIGHTED_ROUND_ROBIN = 1 << 0
    VENDOR_SPECIFIC = 1 << 1


class ReadyModes(IntFlag):
    """CAP.CRMS: what CSTS.RDY may wait for."""

    WITH_MEDIA = 1 << 0
    INDEPENDENT_OF_MEDIA = 1 << 1


class PowerScope(IntEnum):
    """CAP.CPS, what shuts down with the controller."""

    NOT_REPORTED = 0
    CONTROLLER = 1
    DOMAIN = 2
    SUBSYSTEM = 3


class BootReadStatus(IntEnum):
    """BPINFO.BRS, the state of a boot partition read."""

    NONE = 0
    IN_PROGRESS = 1
    COMPLETE = 2
    ERROR = 3


class PmrHealth(IntEnum):
    """PMRSTS.HSTS, the health of the persistent memory region."""

    NORMAL = 0
    RESTORE_ERROR = 1
    READ_ONLY = 2
    UNRELIABLE = 3


class CmbSizeUnit(IntEnum):
    """CMBSZ.SZU, the unit of the controller memory buffer's size and offset."""

    KIB_4 = 0
    KIB_64 = 1
    MIB_1 = 2
    MIB_16 = 3
    MIB_256 = 4
    GIB_4 = 5
    GIB_64 = 6


class BinaryUnit(IntEnum):
    """The units of elasticity buffer sizes (bytes) and write throughputs (bytes a second)."""

    B = 0
    KIB = 1
    MIB = 2
    GIB = 3


class CAP(Register, width=64, offset=0x00):
    """Controller Capabilities (3.1.3.1)."""

    mqes = Bits(15, 0, "Maximum Queue Entries Supported (zero-based)")
    cqr = Bit(16, "Contiguous Queues Required")
    ams = Bits(18, 17, "Arbitration Mechanism Supported", ArbitrationSupported)
    _r23_19 = Reserved(23, 19)
    to = Bits(31, 24, "Timeout (500 ms units)")
    dstrd = Bits(35, 32, "Doorbell Stride (2 ^ (2 + DSTRD) bytes)")
    nssrs = Bit(36, "NVM Subsystem Reset Supported")
    css = Bits(44, 37, "I/O Command Sets Supported", CommandSetsSupported)
    bps = Bit(45, "Boot Partition Support")
    cps = Bits(47, 46, "Controller Power Scope", PowerScope)
    mpsmin = Bits(51, 48, "Memory Page Size Minimum (2 ^ (12 + MPSMIN) bytes)")
    mpsmax = Bits(55, 52, "Memory Page Size Maximum (2 ^ (12 + MPSMAX) bytes)")
    pmrs = Bit(56, "Persistent Memory Region Supported")
    cmbs = Bit(57, "Controller Memory Buffer Supported")
    nsss = Bit(58, "NVM Subsystem Shutdown Supported")
    crms = Bits(60, 59, "Controller Ready Modes Supported", ReadyModes)
    _r63_61 = Reserved(63, 61)


class VS(Register, width=32, offset=0x08):
    """Version (3.1.3.2)."""

    ter = Bits(7, 0, "Tertiary Version Number")
    mnr = Bits(15, 8, "Minor Version Number")
    mjr = Bits(31, 16, "Major Version Number")

    def __str__(self) -> str:
        return f"{self.mjr}.{self.mnr}.{self.ter}"


class INTMS(Register, width=32, offset=0x0C):
    """Interrupt Mask Set (3.1.3.3)."""

    ivms = Bits(31, 0, "Interrupt Vector Mask Set")


class INTMC(Register, width=32, offset=0x10):
    """Interrupt Mask Clear (3.1.3.4)."""

    ivmc = Bits(31, 0, "Interrupt Vector Mask Clear")


class CC(Register, width=32, offset=0x14):
    """Controller Configuration (3.1.3.5)."""

    en = Bit(0, "Enable")
    _r3_1 = Reserved(3, 1)
    css = Bits(6, 4, "I/O Command Set Selected", CommandSet)
    mps = Bits(10, 7, "Memory Page Size (2 ^ (12 + MPS) bytes)")
    ams = Bits(13, 11, "Arbitration Mechanism Selected", Arbitration)
    shn = Bits(15, 14, "Shutdown Notification", ShutdownNotification)
    iosqes = Bits(19, 16, "I/O Submission Queue Entry Size (2 ^ IOSQES bytes)")
    iocqes = Bits(23, 20, "I/O Completion Queue Entry Size (2 ^ IOCQES bytes)")
    crime = Bit(24, "Controller Ready Independent of Media Enable")
    _r31_25 = Reserved(31, 25)


class CSTS(Register, width=32, offset=0x1C):
    """Controller Status (3.1.3.6)."""

    rdy = Bit(0, "Ready")
    cfs = Bit(1, "Controller Fatal Status")
    shst = Bits(3, 2, "Shutdown Status", ShutdownStatus)
    nssro = Bit(4, "NVM Subsystem Reset Occurred")
    pp = Bit(5, "Processing Paused")
    st = Bit(6, "Shutdown Type")
    _r31_7 = Reserved(31, 7)


class NSSR(Register, width=32, offset=0x20):
    """NVM Subsystem Reset (3.1.3.7)."""

    nssrc = Bits(31, 0, "NVM Subsystem Reset Control")


class AQA(Register, width=32, offset=0x24):
    """Admin Queue Attributes (3.1.3.8)."""

    asqs = Bits(11, 0, "Admin Submission Queue Size (zero-based)")
    _r15_12 = Reserved(15, 12)
    acqs = Bits(27, 16, "Admin Completion Queue Size (zero-based)")
    _r31_28 = Reserved(31, 28)


class ASQ(Register, width=64, offset=0x28):
    """Admin Submission Queue Base Address (3.1.3.9)."""

    _r11_0 = Reserved(11, 0)
    asqb = Bits(63, 12, "Admin Submission Queue Base (4 KiB units)")


class ACQ(Register, width=64, offset=0x30):
    """Admin Completion Queue Base Address (3.1.3.10)."""

    _r11_0 = Reserved(11, 0)
    acqb = Bits(63, 12, "Admin Completion Queue Base (4 KiB units)")


class CMBLOC(Register, width=32, offset=0x38):
    """Controller Memory Buffer Location (3.1.3.11)."""

    bir = Bits(2, 0, "Base Indicator Register")
    cqmms = Bit(3, "CMB Queue Mixed Memory Support")
    cqpds = Bit(4, "CMB Queue Physically Discontiguous Support")
    cdpmls = Bit(5, "CMB Data Pointer Mixed Locations Support")
    cdpcils = Bit(6, "CMB Data Pointer and Command Independent Locations Support")
    cdmmms = Bit(7, "CMB Data Metadata Mixed Memory Support")
    cqda = Bit(8, "CMB Queue Dword Alignment")
    _r11_9 = Reserved(11, 9)
    ofst = Bits(31, 12, "Offset (CMBSZ.SZU units)")


class CMBSZ(Register, width=32, offset=0x3C):
    """Controller Memory Buffer Size (3.1.3.12)."""

    sqs = Bit(0, "Submission Queue Support")
    cqs = Bit(1, "Completion Queue Support")
    lists = Bit(2, "PRP SGL List Support")
    rds = Bit(3, "Read Data Support")
    wds = Bit(4, "Write Data Support")
    _r7_5 = Reserved(7, 5)
    szu = Bits(11, 8, "Size Units", CmbSizeUnit)
    sz = Bits(31, 12, "Size (SZU units)")


class BPINFO(Register, width=32, offset=0x40):
    """Boot Partition Information (3.1.3.13)."""

    bpsz = Bits(14, 0, "Boot Partition Size (128 KiB units)")
    _r23_15 = Reserved(23, 15)
    brs = Bits(25, 24, "Boot Read Status", BootReadStatus)
    _r30_26 = Reserved(30, 26)
    abpid = Bit(31, "Active Boot Partition ID")


class BPRSEL(Register, width=32, offset=0x44):
    """Boot Partition Read Select (3.1.3.14)."""

    bprsz = Bits(9, 0, "Boot Partition Read Size (4 KiB units)")
    bprof = Bits(29, 10, "Boot Partition Read Offset (4 KiB units)")
    _r30 = Reserved(30, 30)
    bpid = Bit(31, "Boot Partition Identifier")


class BPMBL(Register, width=64, offset=0x48):
    """Boot Partition Memory Buffer Location (3.1.3.15)."""

    _r11_0 = Reserved(11, 0)
    bmbba = Bits(63, 12, "Boot Partition Memory Buffer Base Address (4 KiB units)")


class CMBMSC(Register, width=64, offset=0x50):
    """Controller Memory Buffer Memory Space Control (3.1.3.16)."""

    cre = Bit(0, "Capabilities Registers Enabled")
    cmse = Bit(1, "Controller Memory Space Enable")
    _r11_2 = Reserved(11, 2)
    cba = Bits(63, 12, "Controller Base Address (4 KiB units)")


class CMBSTS(Register, width=32, offset=0x58):
    """Controller Memory Buffer Status (3.1.3.17)."""

    cbai = Bit(0, "Controller Base Address Invalid")
    _r31_1 = Reserved(31, 1)


class CMBEBS(Register, width=32, offset=0x5C):
    """Controller Memory Buffer Elasticity Buffer Size (3.1.3.18)."""

    cmbszu = Bits(3, 0, "CMB Elasticity Buffer Size Units", BinaryUnit)
    rbb = Bit(4, "Read Bypass Behavior")
    _r7_5 = Reserved(7, 5)
    cmbwbz = Bits(31, 8, "CMB Elasticity Buffer Size Base")


class CMBSWTP(Register, width=32, offset=0x60):
    """Controller Memory Buffer Sustained Write Throughput (3.1.3.19)."""

    cmbswtu = Bits(3, 0, "CMB Sustained Write Throughput Units", BinaryUnit)
    _r7_4 = Reserved(7, 4)
    cmbswtv = Bits(31, 8, "CMB Sustained Write Throughput")


class NSSD(Register, width=32, offset=0x64):
    """NVM Subsystem Shutdown (3.1.3.20)."""

    nssc = Bits(31, 0, "NVM Subsystem Shutdown Control")


class CRTO(Register, width=32, offset=0x68):
    """Controller Ready Timeouts (3.1.3.21)."""

    crwmt = Bits(15, 0, "Controller Ready With Media Timeout (500 ms units)")
    crimt = Bits(31, 16, "Controller Ready Independent of Media Timeout (500 ms units)")


class PMRCAP(Register, width=32, offset=0xE00):
    """Persistent Memory Region Capabilities (3.1.3.22)."""

    _r2_0 = Reserved(2, 0)
    rds = Bit(3, "Read Data Support")
    wds = Bit(4, "Write Data Support")
    bir = Bits(7, 5, "Base Indicator Register")
    pmrtu = Bits(9, 8, "Persistent Memory Region Time Units (0: 500 ms, 1: minutes)")
    pmrwbm = Bits(13, 10, "Persistent Memory Region Write Barrier Mechanisms")
    _r15_14 = Reserved(15, 14)
    pmrto = Bits(23, 16, "Persistent Memory Region Timeout (PMRTU units)")
    cmss = Bit(24, "Controller Memory Space Supported")
    _r31_25 = Reserved(31, 25)


class PMRCTL(Register, width=32, offset=0xE04):
    """Persistent Memory Region Control (3.1.3.23)."""

    en = Bit(0, "Enable")
    _r31_1 = Reserved(31, 1)


class PMRSTS(Register, width=32, offset=0xE08):
    """Persistent Memory Region Status (3.1.3.24)."""

    err = Bits(7, 0, "Error")
    nrdy = Bit(8, "Not Ready")
    hsts = Bits(11, 9, "Health Status", PmrHealth)
    cbai = Bit(12, "Controller Base Address Invalid")
    _r31_13 = Reserved(31, 13)


class PMREBS(Register, width=32, offset=0xE0C):
    """Persistent Memory Region Elasticity Buffer Size (3.1.3.25)."""

    pmrszu = Bits(3, 0, "PMR Elasticity Buffer Size Units", BinaryUnit)
    rbb = Bit(4, "Read Bypass Behavior")
    _r7_5 = Reserved(7, 5)
    pmrwbz = Bits(31, 8, "PMR Elasticity Buffer Size Base")


class PMRSWTP(Register, width=32, offset=0xE10):
    """Persistent Memory Region Sustained Write Throughput (3.1.3.26)."""

    pmrswtu = Bits(3, 0, "PMR Sustained Write Throughput Units", BinaryUnit)
    _r7_4 = Reserved(7, 4)
    pmrswtv = Bits(31, 8, "PMR Sustained Write Throughput")


class PMRMSCL(Register, width=32, offset=0xE14):
    """Persistent Memory Region Memory Space Control Lower (3.1.3.27)."""

    _r0 = Reserved(0, 0)
    cmse = Bit(1, "Controller Memory Space Enable")
    _r11_2 = Reserved(11, 2)
    cba = Bits(31, 12, "Controller Base Address, bits 31:12")


class PMRMSCU(Register, width=32, offset=0xE18):
    """Persistent Memory Region Memory Space Control Upper (3.1.3.28)."""

    cba = Bits(31, 0, "Controller Base Address, bits 63:32")


REGISTERS: tuple[type[Register], ...] = (
    CAP,
    VS,
    INTMS,
    INTMC,
    CC,
    CSTS,
    NSSR,
    AQA,
    ASQ,
    ACQ,
    CMBLOC,
    CMBSZ,
    BPINFO,
    BPRSEL,
    BPMBL,
    CMBMSC,
    CMBSTS,
    CMBEBS,
    CMBSWTP,
    NSSD,
    CRTO,
    PMRCAP,
    PMRCTL,
    PMRSTS,
    PMREBS,
    PMRSWTP,
    PMRMSCL,
    PMRMSCU,
)
