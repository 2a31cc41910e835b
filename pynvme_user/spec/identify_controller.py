"""The Identify Controller page (CNS 01h; NVMe Base 2.0, 5.17.2.1, figure 276).

The structure comes last; before it come the bits of its fields and its power states. The names
of bits, which Base 2.0 only numbers, are Base 2.1's.
"""

from enum import IntEnum

from .fields import (
    U8,
    U16,
    U24,
    U32,
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
    Utf8,
    Uuid,
)
from .registers import VS


class ControllerType(IntEnum):
    """CNTRLTYPE."""

    NOT_REPORTED = 0
    IO = 1
    DISCOVERY = 2
    ADMINISTRATIVE = 3


class DiscoveryType(IntEnum):
    """DCTYPE."""

    NOT_REPORTED = 0
    DDC = 1
    CDC = 2


class SglSupport(IntEnum):
    """SGLS bits 1:0."""

    NONE = 0
    BYTE_ALIGNED = 1
    DWORD_ALIGNED = 2


class FlushBehavior(IntEnum):
    """VWC bits 2:1: Flush to all namespaces (NSID FFFFFFFFh)."""

    NOT_INDICATED = 0
    NOT_SUPPORTED = 2
    SUPPORTED = 3


class PowerScale(IntEnum):
    """The unit of a power state's idle and active power."""

    NOT_REPORTED = 0
    W_0_0001 = 1
    W_0_01 = 2


class CMIC(Register, width=8):
    """Controller Multi-Path I/O and Namespace Sharing Capabilities."""

    mports = Bit(0, "More Than One NVM Subsystem Port")
    mctrs = Bit(1, "Two or More Controllers")
    ft = Bit(2, "Function Type (1: SR-IOV Virtual Function)")
    anars = Bit(3, "Asymmetric Namespace Access Reporting Support")
    _r7_4 = Reserved(7, 4)


class OAES(Register, width=32):
    """Optional Asynchronous Events Supported."""

    _r7_0 = Reserved(7, 0)
    nan = Bit(8, "Namespace Attribute Notices")
    fan = Bit(9, "Firmware Activation Notices")
    _r10 = Reserved(10, 10)
    anacn = Bit(11, "Asymmetric Namespace Access Change Notices")
    plealcn = Bit(12, "Predictable Latency Event Aggregate Log Change Notices")
    lsian = Bit(13, "LBA Status Information Alert Notices")
    egealpcn = Bit(14, "Endurance Group Event Aggregate Log Page Change Notices")
    nnsshdn = Bit(15, "Normal NVM Subsystem Shutdown Event")
    _r26_16 = Reserved(26, 16)
    zdcn = Bit(27, "Zone Descriptor Changed Notices")
    _r30_28 = Reserved(30, 28)
    dlpcn = Bit(31, "Discovery Log Page Change Notices")


class CTRATT(Register, width=32):
    """Controller Attributes."""

    hids = Bit(0, "128-bit Host Identifier Support")
    nopspm = Bit(1, "Non-Operational Power State Permissive Mode")
    nsets = Bit(2, "NVM Sets")
    rrlvls = Bit(3, "Read Recovery Levels")
    egs = Bit(4, "Endurance Groups")
    plm = Bit(5, "Predictable Latency Mode")
    tbkas = Bit(6, "Traffic Based Keep Alive Support")
    ng = Bit(7, "Namespace Granularity")
    sqa = Bit(8, "SQ Associations")
    uuidl = Bit(9, "UUID List")
    mds = Bit(10, "Multi-Domain Subsystem")
    fcm = Bit(11, "Fixed Capacity Management")
    vcm = Bit(12, "Variable Capacity Management")
    deg = Bit(13, "Delete Endurance Group")
    dnvms = Bit(14, "Delete NVM Set")
    elbas = Bit(15, "Extended LBA Formats Supported")
    _r18_16 = Reserved(18, 16)
    fdps = Bit(19, "Flexible Data Placement Supported")
    _r31_20 = Reserved(31, 20)


class NVMSR(Register, width=8):
    """NVM Subsystem Report."""

    nvmesd = Bit(0, "NVMe Storage Device")
    nvmee = Bit(1, "NVMe Enclosure")
    _r7_2 = Reserved(7, 2)


class VWCI(Register, width=8):
    """VPD Write Cycle Information."""

    vwcr = Bits(6, 0, "VPD Write Cycles Remaining")
    vwcrv = Bit(7, "VPD Write Cycles Remaining Valid")


class MEC(Register, width=8):
    """Management Endpoint Capabilities."""

    smbusme = Bit(0, "SMBus/I2C Port Management Endpoint")
    pcieme = Bit(1, "PCIe Port Management Endpoint")
    _r7_2 = Reserved(7, 2)


class OACS(Register, width=16):
    """Optional Admin Command Support."""

    ssrs = Bit(0, "Security Send and Receive Supported")
    fnvms = Bit(1, "Format NVM Supported")
    fwds = Bit(2, "Firmware Commit and Image Download Supported")
    nms = Bit(3, "Namespace Management and Attachment Supported")
    dsts = Bit(4, "Device Self-test Supported")
    dirs = Bit(5, "Directives Supported")
    nsrs = Bit(6, "NVMe-MI Send and Receive Supported")
    vms = Bit(7, "Virtualization Management Supported")
    dbcs = Bit(8, "Doorbell Buffer Config Supported")
    glss = Bit(9, "Get LBA Status Supported")
    cfls = Bit(10, "Command and Feature Lockdown Supported")
    _r15_11 = Reserved(15, 11)


class FRMW(Register, width=8):
    """Firmware Updates."""

    ffsro = Bit(0, "First Firmware Slot Read Only")
    nofs = Bits(3, 1, "Number of Firmware Slots")
    fawr = Bit(4, "Firmware Activation Without Reset")
    smud = Bit(5, "Support Multiple Update Detection")
    _r7_6 = Reserved(7, 6)


class LPA(Register, width=8):
    """Log Page Attributes."""

    smarts = Bit(0, "SMART Log per Namespace Supported")
    cses = Bit(1, "Commands Supported and Effects Log Supported")
    lpeds = Bit(2, "Log Page Extended Data Supported")
    ts = Bit(3, "Telemetry Supported")
    pes = Bit(4, "Persistent Event Log Supported")
    mlps = Bit(5, "Miscellaneous Log Pages Supported")
    da4s = Bit(6, "Telemetry Data Area 4 Supported")
    _r7 = Reserved(7, 7)


class AVSCC(Register, width=8):
    """Admin Vendor Specific Command Configuration."""

    vsacf = Bit(0, "Vendor Specific Admin Commands Use the Common Format")
    _r7_1 = Reserved(7, 1)


class APSTA(Register, width=8):
    """Autonomous Power State Transition Attributes."""

    aps = Bit(0, "Autonomous Power State Transitions Supported")
    _r7_1 = Reserved(7, 1)


class RPMBS(Register, width=32):
    """Replay Protected Memory Block Support."""

    nrpmbu = Bits(2, 0, "Number of RPMB Units")
    autm = Bits(5, 3, "Authentication Method (0: HMAC SHA-256)")
    _r15_6 = Reserved(15, 6)
    totsz = Bits(23, 16, "Total Size (128 KiB units, zero-based)")
    accsz = Bits(31, 24, "Access Size (512 B units, zero-based)")


class DSTO(Register, width=8):
    """Device Self-test Options."""

    sdso = Bit(0, "Single Device Self-test Operation per Subsystem")
    _r7_1 = Reserved(7, 1)


class HCTMA(Register, width=16):
    """Host Controlled Thermal Management Attributes."""

    hctms = Bit(0, "Host Controlled Thermal Management Supported")
    _r15_1 = Reserved(15, 1)


class SANICAP(Register, width=32):
    """Sanitize Capabilities."""

    ces = Bit(0, "Crypto Erase Supported")
    bes = Bit(1, "Block Erase Supported")
    ows = Bit(2, "Overwrite Supported")
    _r28_3 = Reserved(28, 3)
    ndi = Bit(29, "No-Deallocate Inhibited")
    nodmmas = Bits(31, 30, "No-Deallocate Modifies Media After Sanitize")


class ANACAP(Register, width=8):
    """Asymmetric Namespace Access Capabilities."""

    raos = Bit(0, "Reports ANA Optimized State")
    ranos = Bit(1, "Reports ANA Non-Optimized State")
    rais = Bit(2, "Reports ANA Inaccessible State")
    rapls = Bit(3, "Reports ANA Persistent Loss State")
    racs = Bit(4, "Reports ANA Change State")
    _r5 = Reserved(5, 5)
    agidnc = Bit(6, "ANAGRPID Does Not Change While Attached")
    nzagid = Bit(7, "Non-zero ANAGRPID Supported in Namespace Management")


class EntrySizes(Register, width=8):
    """Queue entry sizes as powers of two: SQES and CQES."""

    min = Bits(3, 0, "Required Entry Size (2 ^ n bytes)")
    max = Bits(7, 4, "Maximum Entry Size (2 ^ n bytes)")


class ONCS(Register, width=16):
    """Optional NVM Command Support."""

    nvmcmps = Bit(0, "Compare Supported")
    nvmwusv = Bit(1, "Write Uncorrectable Supported")
    nvmdsmsv = Bit(2, "Dataset Management Supported")
    nvmwzsv = Bit(3, "Write Zeroes Supported")
    ssfs = Bit(4, "Save and Select Feature Support")
    reservs = Bit(5, "Reservations Supported")
    tss = Bit(6, "Timestamp Supported")
    nvmvfys = Bit(7, "Verify Supported")
    nvmcpys = Bit(8, "Copy Supported")
    _r15_9 = Reserved(15, 9)


class FUSES(Register, width=16):
    """Fused Operation Support."""

    fcws = Bit(0, "Fused Compare and Write Supported")
    _r15_1 = Reserved(15, 1)


class FNA(Register, width=8):
    """Format NVM Attributes."""

    fns = Bit(0, "Format Applies to All Namespaces")
    sens = Bit(1, "Secure Erase Applies to All Namespaces")
    cryes = Bit(2, "Cryptographic Erase Supported")
    fnvmbs = Bit(3, "Format Does Not Take NSID FFFFFFFFh")
    _r7_4 = Reserved(7, 4)


class VWC(Register, width=8):
    """Volatile Write Cache."""

    vwcp = Bit(0, "Volatile Write Cache Present")
    fb = Bits(2, 1, "Flush Behavior with NSID FFFFFFFFh", FlushBehavior)
    _r7_3 = Reserved(7, 3)


class ICSVSCC(Register, width=8):
    """I/O Command Set Vendor Specific Command Configuration."""

    vscf = Bit(0, "Vendor Specific I/O Commands Use the Common Format")
    _r7_1 = Reserved(7, 1)


class NWPC(Register, width=8):
    """Namespace Write Protection Capabilities."""

    nwwps = Bit(0, "No Write Protect and Write Protect Supported")
    wpupcs = Bit(1, "Write Protect Until Power Cycle Supported")
    pwps = Bit(2, "Permanent Write Protect Supported")
    _r7_3 = Reserved(7, 3)


class OCFS(Register, width=16):
    """Optional Copy Formats Supported."""

    cdf0s = Bit(0, "Copy Descriptor Format 0h Supported")
    cdf1s = Bit(1, "Copy Descriptor Format 1h Supported")
    _r15_2 = Reserved(15, 2)


class SGLS(Register, width=32):
    """SGL Support."""

    sgls = Bits(1, 0, "SGL Support", SglSupport)
    ksdbds = Bit(2, "Keyed SGL Data Block Descriptor Supported")
    _r7_3 = Reserved(7, 3)
    sdt = Bits(15, 8, "SGL Descriptor Threshold")
    sbbds = Bit(16, "SGL Bit Bucket Descriptor Supported")
    bacmd = Bit(17, "Byte Aligned Contiguous Metadata Supported")
    sgll = Bit(18, "SGL Length Larger Than the Data Supported")
    mptrsgl = Bit(19, "MPTR Containing One SGL Descriptor Supported")
    sgladdr = Bit(20, "SGL Address Field as an Offset Supported")
    tsgldbd = Bit(21, "Transport SGL Data Block Descriptor Supported")
    _r31_22 = Reserved(31, 22)


class FCATT(Register, width=8):
    """Fabrics Controller Attributes."""

    dcm = Bit(0, "Static Controller Model (0: Dynamic)")
    _r7_1 = Reserved(7, 1)


class OFCS(Register, width=16):
    """Optional Fabrics Commands Support."""

    dcs = Bit(0, "Disconnect Supported")
    _r15_1 = Reserved(15, 1)


class PowerFlags(Register, width=8):
    """Flags of a power state."""

    mxps = Bit(0, "Max Power Scale (0: 0.01 W, 1: 0.0001 W)")
    nops = Bit(1, "Non-Operational State")
    _r7_2 = Reserved(7, 2)


class IdlePowerScale(Register, width=8):
    """Idle Power Scale."""

    _r5_0 = Reserved(5, 0)
    ips = Bits(7, 6, "Idle Power Scale", PowerScale)


class ActivePower(Register, width=8):
    """Active Power Workload and Scale."""

    apw = Bits(2, 0, "Active Power Workload")
    _r5_3 = Reserved(5, 3)
    aps = Bits(7, 6, "Active Power Scale", PowerScale)


class PowerState(Struct, size=32):
    """Power State Descriptor (figure 277)."""

    mp = U16(0, "Maximum Power (unit: MXPS)")
    _rsvd2 = ReservedBytes(2, 1)
    flags = U8(3, "Flags", bits=PowerFlags)
    enlat = U32(4, "Entry Latency (us)")
    exlat = U32(8, "Exit Latency (us)")
    rrt = U8(12, "Relative Read Throughput")
    rrl = U8(13, "Relative Read Latency")
    rwt = U8(14, "Relative Write Throughput")
    rwl = U8(15, "Relative Write Latency")
    idlp = U16(16, "Idle Power (unit: IPS)")
    ips = U8(18, "Idle Power Scale", bits=IdlePowerScale)
    _rsvd19 = ReservedBytes(19, 1)
    actp = U16(20, "Active Power (unit: APS)")
    apws = U8(22, "Active Power Workload and Scale", bits=ActivePower)
    _rsvd23 = ReservedBytes(23, 9)

    @property
    def max_power(self) -> float:
        """The maximum power in watts; 0 if it is not reported."""
        return self.mp * (0.0001 if self.flags.mxps else 0.01)


class IdentifyController(Struct, size=4096):
    """Identify Controller (5.17.2.1)."""

    vid = U16(0, "PCI Vendor ID")
    ssvid = U16(2, "PCI Subsystem Vendor ID")
    sn = Ascii(4, 20, "Serial Number")
    mn = Ascii(24, 40, "Model Number")
    fr = Ascii(64, 8, "Firmware Revision")
    rab = U8(72, "Recommended Arbitration Burst (2 ^ RAB commands)")
    ieee = U24(73, "IEEE OUI Identifier")
    cmic = U8(76, "Multi-Path I/O and Namespace Sharing Capabilities", bits=CMIC)
    mdts = U8(77, "Maximum Data Transfer Size (2 ^ MDTS CAP.MPSMIN pages, 0: no limit)")
    cntlid = U16(78, "Controller ID")
    ver = U32(80, "Version", bits=VS)
    rtd3r = U32(84, "RTD3 Resume Latency (us)")
    rtd3e = U32(88, "RTD3 Entry Latency (us)")
    oaes = U32(92, "Optional Asynchronous Events Supported", bits=OAES)
    ctratt = U32(96, "Controller Attributes", bits=CTRATT)
    rrls = U16(100, "Read Recovery Levels Supported (a bit each)")
    _rsvd102 = ReservedBytes(102, 9)
    cntrltype = U8(111, "Controller Type", names=ControllerType)
    fguid = Uuid(112, "FRU Globally Unique Identifier")
    crdt1 = U16(128, "Command Retry Delay Time 1 (100 ms units)")
    crdt2 = U16(130, "Command Retry Delay Time 2 (100 ms units)")
    crdt3 = U16(132, "Command Retry Delay Time 3 (100 ms units)")
    _rsvd134 = ReservedBytes(134, 119)
    nvmsr = U8(253, "NVM Subsystem Report", bits=NVMSR)
    vwci = U8(254, "VPD Write Cycle Information", bits=VWCI)
    mec = U8(255, "Management Endpoint Capabilities", bits=MEC)
    oacs = U16(256, "Optional Admin Command Support", bits=OACS)
    acl = U8(258, "Abort Command Limit (zero-based)")
    aerl = U8(259, "Asynchronous Event Request Limit (zero-based)")
    frmw = U8(260, "Firmware Updates", bits=FRMW)
    lpa = U8(261, "Log Page Attributes", bits=LPA)
    elpe = U8(262, "Error Log Page Entries (zero-based)")
    npss = U8(263, "Number of Power States Support (zero-based)")
    avscc = U8(264, "Admin Vendor Specific Command Configuration", bits=AVSCC)
    apsta = U8(265, "Autonomous Power State Transition Attributes", bits=APSTA)
    wctemp = U16(266, "Warning Composite Temperature Threshold (K)")
    cctemp = U16(268, "Critical Composite Temperature Threshold (K)")
    mtfa = U16(270, "Maximum Time for Firmware Activation (100 ms units)")
    hmpre = U32(272, "Host Memory Buffer Preferred Size (4 KiB units)")
    hmmin = U32(276, "Host Memory Buffer Minimum Size (4 KiB units)")
    tnvmcap = U128(280, "Total NVM Capacity (bytes)")
    unvmcap = U128(296, "Unallocated NVM Capacity (bytes)")
    rpmbs = U32(312, "Replay Protected Memory Block Support", bits=RPMBS)
    edstt = U16(316, "Extended Device Self-test Time (minutes)")
    dsto = U8(318, "Device Self-test Options", bits=DSTO)
    fwug = U8(319, "Firmware Update Granularity (4 KiB units)")
    kas = U16(320, "Keep Alive Support (100 ms units)")
    hctma = U16(322, "Host Controlled Thermal Management Attributes", bits=HCTMA)
    mntmt = U16(324, "Minimum Thermal Management Temperature (K)")
    mxtmt = U16(326, "Maximum Thermal Management Temperature (K)")
    sanicap = U32(328, "Sanitize Capabilities", bits=SANICAP)
    hmminds = U32(332, "Host Memory Buffer Minimum Descriptor Entry Size (4 KiB units)")
    hmmaxd = U16(336, "Host Memory Maximum Descriptors Entries")
    nsetidmax = U16(338, "NVM Set Identifier Maximum")
    endgidmax = U16(340, "Endurance Group Identifier Maximum")
    anatt = U8(342, "ANA Transition Time (s)")
    anacap = U8(343, "Asymmetric Namespace Access Capabilities", bits=ANACAP)
    anagrpmax = U32(344, "ANA Group Identifier Maximum")
    nanagrpid = U32(348, "Number of ANA Group Identifiers")
    pels = U32(352, "Persistent Event Log Size (64 KiB units)")
    domainid = U16(356, "Domain Identifier")
    _rsvd358 = ReservedBytes(358, 10)
    megcap = U128(368, "Max Endurance Group Capacity (bytes)")
    _rsvd384 = ReservedBytes(384, 128)
    sqes = U8(512, "Submission Queue Entry Size", bits=EntrySizes)
    cqes = U8(513, "Completion Queue Entry Size", bits=EntrySizes)
    maxcmd = U16(514, "Maximum Outstanding Commands")
    nn = U32(516, "Number of Namespaces")
    oncs = U16(520, "Optional NVM Command Support", bits=ONCS)
    fuses = U16(522, "Fused Operation Support", bits=FUSES)
    fna = U8(524, "Format NVM Attributes", bits=FNA)
    vwc = U8(525, "Volatile Write Cache", bits=VWC)
    awun = U16(526, "Atomic Write Unit Normal (blocks, zero-based)")
    awupf = U16(528, "Atomic Write Unit Power Fail (blocks, zero-based)")
    icsvscc = U8(530, "I/O Command Set Vendor Specific Configuration", bits=ICSVSCC)
    nwpc = U8(531, "Namespace Write Protection Capabilities", bits=NWPC)
    acwu = U16(532, "Atomic Compare and Write Unit (blocks, zero-based)")
    ocfs = U16(534, "Optional Copy Formats Supported", bits=OCFS)
    sgls = U32(536, "SGL Support", bits=SGLS)
    mnan = U32(540, "Maximum Number of Allowed Namespaces")
    maxdna = U128(544, "Maximum Domain Namespace Attachments")
    maxcna = U32(560, "Maximum I/O Controller Namespace Attachments")
    _rsvd564 = ReservedBytes(564, 204)
    subnqn = Utf8(768, 256, "NVM Subsystem NVMe Qualified Name")
    _rsvd1024 = ReservedBytes(1024, 768)
    ioccsz = U32(1792, "I/O Queue Command Capsule Supported Size (16 B units)")
    iorcsz = U32(1796, "I/O Queue Response Capsule Supported Size (16 B units)")
    icdoff = U16(1800, "In Capsule Data Offset (16 B units)")
    fcatt = U8(1802, "Fabrics Controller Attributes", bits=FCATT)
    msdbd = U8(1803, "Maximum SGL Data Block Descriptors")
    ofcs = U16(1804, "Optional Fabrics Commands Support", bits=OFCS)
    dctype = U8(1806, "Discovery Controller Type", names=DiscoveryType)
    _rsvd1807 = ReservedBytes(1807, 241)
    psds = Array(2048, 32, PowerState, "Power State Descriptors")
    vs = Raw(3072, 1024, "Vendor Specific")
