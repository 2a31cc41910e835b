"""The dwords and data of the NVM Command Set's I/O commands (NVM Command Set 1.0, 3.2).

In each of them dwords 10 and 11 are the starting LBA (SLBA), lower half first, and dword 14 is
the expected initial logical block reference tag.
"""

from .fields import U32, U64, Bit, Bits, Register, Reserved, Struct


class ReadCdw12(Register, width=32):
    """Read and Compare, dword 12 (NVM Command Set 3.2.4, 3.2.1)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    _r23_16 = Reserved(23, 16)
    stc = Bit(24, "Storage Tag Check")
    _r25 = Reserved(25, 25)
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class WriteCdw12(Register, width=32):
    """Write, dword 12 (NVM Command Set 3.2.6)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    _r19_16 = Reserved(19, 16)
    dtype = Bits(23, 20, "Directive Type")
    stc = Bit(24, "Storage Tag Check")
    _r25 = Reserved(25, 25)
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class WriteZeroesCdw12(Register, width=32):
    """Write Zeroes, dword 12 (NVM Command Set 3.2.8)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    _r23_16 = Reserved(23, 16)
    stc = Bit(24, "Storage Tag Check")
    deac = Bit(25, "Deallocate")
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class ReadWriteCdw13(Register, width=32):
    """Read and Write, dword 13 (NVM Command Set 3.2.4, 3.2.6); DSPEC is Write's."""

    af = Bits(3, 0, "Access Frequency")
    al = Bits(5, 4, "Access Latency")
    sr = Bit(6, "Sequential Request")
    incom = Bit(7, "Incompressible")
    _r15_8 = Reserved(15, 8)
    dspec = Bits(31, 16, "Directive Specific")


class ProtectionCdw15(Register, width=32):
    """Logical block tags, dword 15 of the commands that carry data (NVM Command Set 3.2)."""

    lbat = Bits(15, 0, "Logical Block Application Tag")
    lbatm = Bits(31, 16, "Logical Block Application Tag Mask")


class DatasetManagementCdw10(Register, width=32):
    """Dataset Management, dword 10 (NVM Command Set 3.2.3)."""

    nr = Bits(7, 0, "Number of Ranges (zero-based)")
    _r31_8 = Reserved(31, 8)


class DatasetManagementCdw11(Register, width=32):
    """Dataset Management, dword 11 (NVM Command Set 3.2.3)."""

    idr = Bit(0, "Integral Dataset for Read")
    idw = Bit(1, "Integral Dataset for Write")
    ad = Bit(2, "Deallocate")
    _r31_3 = Reserved(31, 3)


class ContextAttributes(Register, width=32):
    """Context Attributes of a range (NVM Command Set 3.2.3.1)."""

    af = Bits(3, 0, "Access Frequency")
    al = Bits(5, 4, "Access Latency")
    _r7_6 = Reserved(7, 6)
    sr = Bit(8, "Sequential Read Range")
    sw = Bit(9, "Sequential Write Range")
    wp = Bit(10, "Write Prepare")
    _r23_11 = Reserved(23, 11)
    cas = Bits(31, 24, "Command Access Size")


class DatasetRange(Struct, size=16):
    """A range of Dataset Management (NVM Command Set 3.2.3); up to 256 make the command's data."""

    cattr = U32(0, "Context Attributes", bits=ContextAttributes)
    nlb = U32(4, "Length in Logical Blocks")
    slba = U64(8, "Starting LBA")
