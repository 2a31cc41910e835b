"""The bits of the Identify Controller page's fields (NVMe Base 2.1, figure 312).

The names of bits are Base 2.1's, also of those that Base 2.0 only numbers.
"""

from enum import IntEnum

from .fields import Bit, Bits, Register, Reserved


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
    tthr = Bit(16, "Temperature Threshold Hysteresis Recovery")
    rgcns = Bit(17, "Reachability Groups Change Notices")
    _r18 = Reserved(18, 18)
    ansan = Bit(19, "Allocated Namespace Attribute Notices")
    _r26_20 = Reserved(26, 20)
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
    mem = Bit(16, "MDTS and Size Limits Exclude Metadata")
    hmbr = Bit(17, "Host Memory Buffer Restricted in Non-Operational Power States")
    rhii = Bit(18, "Reservations and Host Identifier Interaction")
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
    hmlms = Bit(11, "Host Managed Live Migration Supported")
    _r15_12 = Reserved(15, 12)


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
    hirs = Bit(1, "Host-Initiated Refresh Supported")
    _r7_2 = Reserved(7, 2)


class HCTMA(Register, width=16):
    """Host Controlled Thermal Management Attributes."""

    hctms = Bit(0, "Host Controlled Thermal Management Supported")
    _r15_1 = Reserved(15, 1)


class SANICAP(Register, width=32):
    """Sanitize Capabilities."""

    ces = Bit(0, "Crypto Erase Supported")
    bes = Bit(1, "Block Erase Supported")
    ows = Bit(2, "Overwrite Supported")
    vers = Bit(3, "Verification Supported")
    _r28_4 = Reserved(28, 4)
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
    nvmcsa = Bit(9, "Copy Is Written as One Atomic Write")
    nvmafc = Bit(10, "All Copies Are Fast Copies")
    maxwzd = Bit(11, "Maximum Write Zeroes With Deallocate")
    nszs = Bit(12, "Namespace Zeroes Supported")
    _r15_13 = Reserved(15, 13)


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
    cdf2s = Bit(2, "Copy Descriptor Format 2h Supported")
    cdf3s = Bit(3, "Copy Descriptor Format 3h Supported")
    cdf4s = Bit(4, "Copy Descriptor Format 4h Supported")
    _r15_5 = Reserved(15, 5)


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


class BPCAP(Register, width=8):
    """Boot Partition Capabilities."""

    rpmbbpwps = Bits(1, 0, "RPMB Boot Partition Write Protection (1: not supported, 2: supported)")
    sfbpwps = Bit(2, "Set Features Boot Partition Write Protection Supported")
    _r7_3 = Reserved(7, 3)


class PLSI(Register, width=8):
    """Power Loss Signaling Information."""

    plsepf = Bit(0, "Emergency Power Fail Supported")
    plsfq = Bit(1, "Forced Quiescence Supported")
    _r7_2 = Reserved(7, 2)


class CRCAP(Register, width=8):
    """Controller Reachability Capabilities."""

    rrsup = Bit(0, "Reachability Reporting Supported")
    rgidc = Bit(1, "RGRPID Does Not Change While Attached")
    _r7_2 = Reserved(7, 2)


class KPIOC(Register, width=8):
    """Key Per I/O Capabilities."""

    kpios = Bit(0, "Key Per I/O Supported")
    kpiosc = Bit(1, "Key Per I/O Scope (1: all namespaces)")
    _r7_2 = Reserved(7, 2)


class TMPTHHA(Register, width=8):
    """Temperature Threshold Hysteresis Attributes."""

    tmpthmh = Bits(2, 0, "Temperature Threshold Maximum Hysteresis (K)")
    _r7_3 = Reserved(7, 3)


class TRATTR(Register, width=8):
    """Tracking Attributes."""

    thmcs = Bit(0, "Track Host Memory Changes Supported")
    tudcs = Bit(1, "Track User Data Changes Supported")
    mrtll = Bit(2, "Memory Range Tracking Length Limit")
    _r7_3 = Reserved(7, 3)
