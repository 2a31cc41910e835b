"""What Identify says of the NVM Command Set alone (NVM Command Set 1.1, 4.1.5.3, 4.1.5.4)."""

from enum import IntEnum

from .fields import (
    U8,
    U16,
    U32,
    U64,
    Array,
    Bit,
    Bits,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)
from .registers import VS


class GuardFormat(IntEnum):
    """PIF and QPIF, a protection information format by the size of its guard."""

    GUARD_16B = 0
    GUARD_32B = 1
    GUARD_64B = 2
    QUALIFIED = 3


class StorageTagMasking(IntEnum):
    """STMLA, how finely a storage tag is masked."""

    BIT = 0
    BYTE = 1
    NOT_SUPPORTED = 2


class PIC(Register, width=8):
    """Protection Information Capabilities."""

    pi16bpists = Bit(0, "16b Guard Storage Tag Support")
    pi16bpistm = Bit(1, "16b Guard Storage Tag Mask (1: all bits are checked)")
    stcrs = Bit(2, "Storage Tag Check Read Support")
    qpifs = Bit(3, "Qualified Protection Information Format Support")
    _r7_4 = Reserved(7, 4)


class PIFA(Register, width=8):
    """Protection Information Format Attribute."""

    stmla = Bits(2, 0, "Storage Tag Masking Level Attribute", StorageTagMasking)
    _r7_3 = Reserved(7, 3)


class ELBAF(Register, width=32):
    """Extended LBA Format."""

    sts = Bits(6, 0, "Storage Tag Size (bits)")
    pif = Bits(8, 7, "Protection Information Format", GuardFormat)
    qpif = Bits(12, 9, "Qualified Protection Information Format", GuardFormat)
    _r31_13 = Reserved(31, 13)

    @property
    def guard(self) -> int:
        """The `GuardFormat` of the format: PIF, or QPIF where PIF refers to it."""
        return self.qpif if self.pif == GuardFormat.QUALIFIED else self.pif


class ExtendedLbaFormat(Struct, size=4):
    """Extended LBA Format (4.1.5.3): what the LBA format of the same index does not tell."""

    elbaf = U32(0, "Extended LBA Format", bits=ELBAF)


class IdentifyNamespaceNvm(Struct, size=4096):
    """NVM Command Set Identify Namespace (CNS 05h, CSI 00h; 4.1.5.3)."""

    lbstm = U64(0, "Logical Block Storage Tag Mask")
    pic = U8(8, "Protection Information Capabilities", bits=PIC)
    pifa = U8(9, "Protection Information Format Attribute", bits=PIFA)
    _rsvd10 = ReservedBytes(10, 2)
    elbafs = Array(12, 64, ExtendedLbaFormat, "Extended LBA Formats")
    npdgl = U32(268, "Namespace Preferred Deallocate Granularity Large (blocks)")
    nprg = U32(272, "Namespace Preferred Read Granularity (blocks)")
    npra = U32(276, "Namespace Preferred Read Alignment (blocks)")
    nors = U32(280, "Namespace Optimal Read Size (blocks)")
    npdal = U32(284, "Namespace Preferred Deallocate Alignment Large (blocks)")
    lbapss = U32(288, "LBA Format Placement Shard Size")
    tlbaag = U32(292, "Tracked LBA Allocation Granularity (blocks)")
    _rsvd296 = ReservedBytes(296, 3800)


class KPIOCAP(Register, width=8):
    """Key Per I/O Capabilities."""

    kpios = Bit(0, "Key Per I/O Supported")
    kpiosc = Bit(1, "Key Per I/O Scope (1: all namespaces)")
    _r7_2 = Reserved(7, 2)


class AOCS(Register, width=16):
    """Admin Optional Command Support."""

    ralbas = Bit(0, "Reporting Allocated LBA Supported")
    _r15_1 = Reserved(15, 1)


class IdentifyControllerNvm(Struct, size=4096):
    """NVM Command Set Identify Controller (CNS 06h, CSI 00h; 4.1.5.4).

    The size limits are powers of two in units of CAP.MPSMIN pages, 0 for no limit of their own.
    """

    vsl = U8(0, "Verify Size Limit (2 ^ n CAP.MPSMIN pages)")
    wzsl = U8(1, "Write Zeroes Size Limit (2 ^ n CAP.MPSMIN pages)")
    wusl = U8(2, "Write Uncorrectable Size Limit (2 ^ n CAP.MPSMIN pages)")
    dmrl = U8(3, "Dataset Management Ranges Limit")
    dmrsl = U32(4, "Dataset Management Range Size Limit (blocks)")
    dmsl = U64(8, "Dataset Management Size Limit (blocks)")
    kpiocap = U8(16, "Key Per I/O Capabilities", bits=KPIOCAP)
    wzdsl = U8(17, "Write Zeroes With Deallocate Size Limit (2 ^ n CAP.MPSMIN pages)")
    aocs = U16(18, "Admin Optional Command Support", bits=AOCS)
    ver = U32(20, "Version of the NVM Command Set Specification", bits=VS)
    lbamqf = U8(24, "LBA Migration Queue Format")
    _rsvd25 = ReservedBytes(25, 4071)
