"""The admin commands that manage firmware, namespaces, capacity and controllers.

NVMe Base 2.1, 5.1 and 5.2; NVM Command Set 1.1, 4.2; NVMe-MI 1.2, 6. Counts that the
specification calls "0's based" say zero-based.
"""

from enum import IntEnum

from .commands import CommandSetId
from .fields import (
    U8,
    U16,
    U32,
    U64,
    Bit,
    Bits,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)
from .identify import DPS, FLBAS, NMIC
from .lists import StructList
from .logs_namespaces import LbaStatusAction
from .logs_support import LockdownScope

# Firmware


class FirmwareDownloadCdw10(Register, width=32):
    """Firmware Image Download, dword 10 (5.1.9)."""

    numd = Bits(31, 0, "Number of Dwords (zero-based)")


class FirmwareDownloadCdw11(Register, width=32):
    """Firmware Image Download, dword 11 (5.1.9)."""

    ofst = Bits(31, 0, "Offset (dwords)")


class CommitAction(IntEnum):
    """CA, what Firmware Commit does."""

    REPLACE = 0
    REPLACE_AND_ACTIVATE_AT_RESET = 1
    ACTIVATE_AT_RESET = 2
    REPLACE_AND_ACTIVATE_NOW = 3
    REPLACE_BOOT_PARTITION = 6
    ACTIVATE_BOOT_PARTITION = 7


class FirmwareCommitCdw10(Register, width=32):
    """Firmware Commit, dword 10 (5.1.8)."""

    fs = Bits(2, 0, "Firmware Slot (0: the controller chooses)")
    ca = Bits(5, 3, "Commit Action", CommitAction)
    _r30_6 = Reserved(30, 6)
    bpid = Bit(31, "Boot Partition ID")


class FirmwareCommitResult(Register, width=32):
    """Firmware Commit, the completion's dword 0 (5.1.8.1): Multiple Update Detected.

    It holds of a command that failed, too.
    """

    asqfwo = Bit(0, "Admin Submission Queue FW Overlap")
    mefwo = Bit(1, "Management Endpoint FW Overlap")
    _r31_2 = Reserved(31, 2)


# Namespaces


class NamespaceManagementSelect(IntEnum):
    """SEL of Namespace Management."""

    CREATE = 0
    DELETE = 1


class NamespaceManagementCdw10(Register, width=32):
    """Namespace Management, dword 10 (5.1.21)."""

    sel = Bits(3, 0, "Select", NamespaceManagementSelect)
    _r31_4 = Reserved(31, 4)


class NamespaceManagementCdw11(Register, width=32):
    """Namespace Management, dword 11 (5.1.21)."""

    _r23_0 = Reserved(23, 0)
    csi = Bits(31, 24, "Command Set Identifier", CommandSetId)


class NamespaceManagementResult(Register, width=32):
    """Namespace Management, the completion's dword 0 of CREATE (5.1.21.1)."""

    nsid = Bits(31, 0, "Namespace Identifier")


class ZoneCreateOptions(Register, width=8):
    """Zoned Namespace Create Options (ZNS 1.1, 4.2)."""

    azr = Bit(0, "Allocate ZRWA Resources")
    _r7_1 = Reserved(7, 1)


class NamespaceCreate(Struct, size=4096):
    """The data of Namespace Management, CREATE (5.1.21; NVM Command Set 4.2; ZNS 1.1, 4.2).

    Up to byte 383 fields lie where Identify Namespace has them. Those of a zoned namespace, bytes
    499 to 511, are reserved for any other.
    """

    nsze = U64(0, "Namespace Size (logical blocks)")
    ncap = U64(8, "Namespace Capacity (logical blocks)")
    _r16 = ReservedBytes(16, 10)
    flbas = U8(26, "Formatted LBA Size", bits=FLBAS)
    _r27 = ReservedBytes(27, 2)
    dps = U8(29, "End-to-end Data Protection Type Settings", bits=DPS)
    nmic = U8(30, "Namespace Multi-path I/O and Namespace Sharing Capabilities", bits=NMIC)
    _r31 = ReservedBytes(31, 61)
    anagrpid = U32(92, "ANA Group Identifier (0: the controller chooses)")
    _r96 = ReservedBytes(96, 4)
    nvmsetid = U16(100, "NVM Set Identifier")
    endgid = U16(102, "Endurance Group Identifier")
    _r104 = ReservedBytes(104, 280)
    lbstm = U64(384, "Logical Block Storage Tag Mask")
    nphndls = U16(392, "Number of Placement Handles")
    _r394 = ReservedBytes(394, 105)
    znsco = U8(499, "Zoned Namespace Create Options", bits=ZoneCreateOptions)
    rar = U32(500, "Requested Active Resources (zones, zero-based)")
    ror = U32(504, "Requested Open Resources (zones, zero-based)")
    rnumzrwa = U32(508, "Requested Number of ZRWA Resources")
    phndl = U16.array(512, 128, "Reclaim Unit Handle Identifiers, by placement handle")
    _r768 = ReservedBytes(768, 3328)


class NamespaceAttachmentSelect(IntEnum):
    """SEL of Namespace Attachment, whose data is a Controller List."""

    ATTACH = 0
    DETACH = 1


class NamespaceAttachmentCdw10(Register, width=32):
    """Namespace Attachment, dword 10 (5.1.20)."""

    sel = Bits(3, 0, "Select", NamespaceAttachmentSelect)
    _r31_4 = Reserved(31, 4)


class GetLbaStatusCdw13(Register, width=32):
    """Get LBA Status, dword 13 (NVM Command Set 4.2.1).

    Dwords 10 and 11 are the starting LBA, lower half first, dword 12 the maximum number of
    dwords, zero-based.
    """

    rl = Bits(15, 0, "Range Length (logical blocks; 0: to the end)")
    _r23_16 = Reserved(23, 16)
    atype = Bits(31, 24, "Action Type", LbaStatusAction)


class LbaStatusCompletion(IntEnum):
    """CMPC, how Get LBA Status ended."""

    NO_INDICATION = 0
    INCOMPLETE = 1
    COMPLETE = 2


class LbaStatusListHeader(Struct, size=8):
    """The first bytes of the LBA Status Descriptor List (NVM Command Set 4.2.1)."""

    nlsd = U32(0, "Number of LBA Status Descriptors")
    cmpc = U8(4, "Completion Condition", names=LbaStatusCompletion)
    _r5 = ReservedBytes(5, 3)


class LbaStatusDescriptor(Struct, size=16):
    """LBA Status Descriptor (NVM Command Set 4.2.1)."""

    dslba = U64(0, "Descriptor Starting LBA")
    nlb = U32(8, "Number of Logical Blocks (zero-based)")
    _r12 = ReservedBytes(12, 1)
    status = U8(13, "Status")
    _r14 = ReservedBytes(14, 2)


class LbaStatusList(
    StructList[LbaStatusListHeader, LbaStatusDescriptor],
    header=LbaStatusListHeader,
    element=LbaStatusDescriptor,
    count="nlsd",
):
    """LBA Status Descriptor List (NVM Command Set 4.2.1)."""


# Controllers and capacity


class VirtualizationAction(IntEnum):
    """ACT of Virtualization Management."""

    PRIMARY_FLEXIBLE_ALLOCATION = 1
    SECONDARY_OFFLINE = 7
    SECONDARY_ASSIGN = 8
    SECONDARY_ONLINE = 9


class VirtualizationResource(IntEnum):
    """RT, a flexible resource."""

    VQ = 0
    VI = 1


class VirtualizationManagementCdw10(Register, width=32):
    """Virtualization Management, dword 10 (5.2.6)."""

    act = Bits(3, 0, "Action", VirtualizationAction)
    _r7_4 = Reserved(7, 4)
    rt = Bits(10, 8, "Resource Type", VirtualizationResource)
    _r15_11 = Reserved(15, 11)
    cntlid = Bits(31, 16, "Controller Identifier")


class VirtualizationManagementCdw11(Register, width=32):
    """Virtualization Management, dword 11 (5.2.6)."""

    nr = Bits(15, 0, "Number of Controller Resources")
    _r31_16 = Reserved(31, 16)


class VirtualizationManagementResult(Register, width=32):
    """Virtualization Management, the completion's dword 0 (5.2.6.1)."""

    nrm = Bits(15, 0, "Number of Controller Resources Modified")
    _r31_16 = Reserved(31, 16)


class CapacityOperation(IntEnum):
    """OPER of Capacity Management."""

    SELECT_CAPACITY_CONFIGURATION = 0
    CREATE_ENDURANCE_GROUP = 1
    DELETE_ENDURANCE_GROUP = 2
    CREATE_NVM_SET = 3
    DELETE_NVM_SET = 4


class CapacityManagementCdw10(Register, width=32):
    """Capacity Management, dword 10 (5.1.3).

    Dwords 11 and 12 are the capacity in bytes, lower half first, of what is created.
    """

    oper = Bits(3, 0, "Operation", CapacityOperation)
    _r15_4 = Reserved(15, 4)
    elid = Bits(31, 16, "Element Identifier")


class CapacityManagementResult(Register, width=32):
    """Capacity Management, the completion's dword 0 of what creates (5.1.3.1)."""

    celid = Bits(15, 0, "Created Element Identifier")
    _r31_16 = Reserved(31, 16)


class LockdownInterface(IntEnum):
    """IFC, on which interfaces it holds."""

    ADMIN_QUEUE = 0
    ADMIN_QUEUE_AND_OUT_OF_BAND = 1
    OUT_OF_BAND = 2


class LockdownCdw10(Register, width=32):
    """Lockdown, dword 10 (5.1.15)."""

    scp = Bits(3, 0, "Scope", LockdownScope)
    prhbt = Bit(4, "Prohibit (0: allow)")
    ifc = Bits(6, 5, "Interface", LockdownInterface)
    _r7 = Reserved(7, 7)
    ofi = Bits(15, 8, "Opcode or Feature Identifier")
    _r31_16 = Reserved(31, 16)


class LockdownCdw14(Register, width=32):
    """Lockdown, dword 14 (5.1.15)."""

    uidx = Bits(6, 0, "UUID Index (0: none)")
    _r31_7 = Reserved(31, 7)


class DiscoveryTask(IntEnum):
    """TAS of Discovery Information Management."""

    REGISTER = 0
    DEREGISTER = 1
    UPDATE = 2


class DiscoveryInformationCdw10(Register, width=32):
    """Discovery Information Management, dword 10 (5.3.3)."""

    tas = Bits(3, 0, "Task", DiscoveryTask)
    _r31_4 = Reserved(31, 4)


# NVMe-MI in band


class ManagementMessageType(IntEnum):
    """NMIMT, the NVMe-MI message in NVMe-MI Send and Receive."""

    CONTROL_PRIMITIVE = 0
    MI_COMMAND = 1
    ADMIN_COMMAND = 2
    PCIE_COMMAND = 4
    ASYNC_EVENT = 5


class ManagementInterfaceCdw10(Register, width=32):
    """NVMe-MI Send and Receive, dword 10: a message's header (NVMe-MI 1.2, 3.1, 4.3).

    Dword 11 begins with the opcode, dwords 12 and 13 are the request's own two dwords.
    """

    mt = Bits(6, 0, "Message Type (4: NVMe-MI)")
    ic = Bit(7, "Integrity Check")
    csi = Bit(8, "Command Slot Identifier")
    _r10_9 = Reserved(10, 9)
    nmimt = Bits(14, 11, "NVMe-MI Message Type", ManagementMessageType)
    ror = Bit(15, "Request or Response (1: response)")
    _r31_16 = Reserved(31, 16)


class ManagementInterfaceCdw11(Register, width=32):
    """NVMe-MI Send and Receive, dword 11 (NVMe-MI 1.2, 4.3, 5)."""

    opc = Bits(7, 0, "Opcode of the Management Interface Command Set")
    _r31_8 = Reserved(31, 8)
