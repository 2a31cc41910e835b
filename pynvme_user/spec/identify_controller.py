"""The Identify Controller page (CNS 01h; NVMe Base 2.0, 5.17.2.1, figure 276).

With the fields that came with Base 2.1. The bits of its fields are in `identify_controller_bits`.
"""

from .fields import (
    U8,
    U16,
    U24,
    U32,
    U128,
    Array,
    Ascii,
    Raw,
    ReservedBytes,
    Struct,
    Utf8,
    Uuid,
)
from .identify_controller_bits import (
    ANACAP,
    APSTA,
    AVSCC,
    BPCAP,
    CMIC,
    CRCAP,
    CTRATT,
    DSTO,
    FCATT,
    FNA,
    FRMW,
    FUSES,
    HCTMA,
    ICSVSCC,
    KPIOC,
    LPA,
    MEC,
    NVMSR,
    NWPC,
    OACS,
    OAES,
    OCFS,
    OFCS,
    ONCS,
    PLSI,
    RPMBS,
    SANICAP,
    SGLS,
    TMPTHHA,
    TRATTR,
    VWC,
    VWCI,
    ActivePower,
    ControllerType,
    DiscoveryType,
    EntrySizes,
    FlushBehavior,
    IdlePowerScale,
    PowerFlags,
    PowerScale,
    SglSupport,
)
from .registers import VS

__all__ = [
    "ANACAP",
    "APSTA",
    "AVSCC",
    "BPCAP",
    "CMIC",
    "CRCAP",
    "CTRATT",
    "DSTO",
    "FCATT",
    "FNA",
    "FRMW",
    "FUSES",
    "HCTMA",
    "ICSVSCC",
    "KPIOC",
    "LPA",
    "MEC",
    "NVMSR",
    "NWPC",
    "OACS",
    "OAES",
    "OCFS",
    "OFCS",
    "ONCS",
    "PLSI",
    "RPMBS",
    "SANICAP",
    "SGLS",
    "TMPTHHA",
    "TRATTR",
    "VWC",
    "VWCI",
    "ActivePower",
    "ControllerType",
    "DiscoveryType",
    "EntrySizes",
    "FlushBehavior",
    "IdentifyController",
    "IdlePowerScale",
    "PowerFlags",
    "PowerScale",
    "PowerState",
    "SglSupport",
]


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
    bpcap = U8(102, "Boot Partition Capabilities", bits=BPCAP)
    _rsvd103 = ReservedBytes(103, 1)
    nssl = U32(104, "NVM Subsystem Shutdown Latency (us)")
    _rsvd108 = ReservedBytes(108, 2)
    plsi = U8(110, "Power Loss Signaling Information", bits=PLSI)
    cntrltype = U8(111, "Controller Type", names=ControllerType)
    fguid = Uuid(112, "FRU Globally Unique Identifier")
    crdt1 = U16(128, "Command Retry Delay Time 1 (100 ms units)")
    crdt2 = U16(130, "Command Retry Delay Time 2 (100 ms units)")
    crdt3 = U16(132, "Command Retry Delay Time 3 (100 ms units)")
    crcap = U8(134, "Controller Reachability Capabilities", bits=CRCAP)
    _rsvd135 = ReservedBytes(135, 118)
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
    kpioc = U8(358, "Key Per I/O Capabilities", bits=KPIOC)
    _rsvd359 = ReservedBytes(359, 1)
    mptfawr = U16(360, "Max Processing Time for Firmware Activation Without Reset (100 ms units)")
    _rsvd362 = ReservedBytes(362, 6)
    megcap = U128(368, "Max Endurance Group Capacity (bytes)")
    tmpthha = U8(384, "Temperature Threshold Hysteresis Attributes", bits=TMPTHHA)
    _rsvd385 = ReservedBytes(385, 1)
    cqt = U16(386, "Command Quiesce Time (ms)")
    _rsvd388 = ReservedBytes(388, 124)
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
    oaqd = U32(564, "Optimal Aggregated Queue Depth")
    rhiri = U8(568, "Recommended Host-Initiated Refresh Interval (days)")
    hirt = U8(569, "Host-Initiated Refresh Time (minutes)")
    cmmrtd = U16(570, "Controller Maximum Memory Range Tracking Descriptors")
    nmmrtd = U16(572, "NVM Subsystem Maximum Memory Range Tracking Descriptors")
    minmrtg = U8(574, "Minimum Memory Range Tracking Granularity")
    maxmrtg = U8(575, "Maximum Memory Range Tracking Granularity")
    trattr = U8(576, "Tracking Attributes", bits=TRATTR)
    _rsvd577 = ReservedBytes(577, 1)
    mcudmq = U16(578, "Maximum Controller User Data Migration Queues")
    mnsudmq = U16(580, "Maximum NVM Subsystem User Data Migration Queues")
    mcmr = U16(582, "Maximum CDQ Memory Ranges")
    nmcmr = U16(584, "NVM Subsystem Maximum CDQ Memory Ranges")
    mcdqpc = U16(586, "Maximum Controller Data Queue PRP Count")
    _rsvd588 = ReservedBytes(588, 180)
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
