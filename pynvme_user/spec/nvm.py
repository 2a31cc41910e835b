"""The dwords and data of the NVM Command Set's I/O commands (NVM Command Set 1.1, 3.3).

In each of them dwords 10 and 11 are the starting LBA (SLBA), lower half first. Dwords 2, 3 and 14
are the storage and reference tags, which `protection` makes. Copy has `nvm_copy` to itself.
"""

from enum import IntEnum

from .fields import U32, U64, Bit, Bits, Register, Reserved, Struct


class AccessFrequency(IntEnum):
    """AF, how often blocks are read and written; from ONCE_READ on for Read and Write alone."""

    NONE = 0
    TYPICAL = 1
    RARE = 2
    READS = 3
    WRITES = 4
    READS_AND_WRITES = 5
    ONCE_READ = 6
    SPECULATIVE_READ = 7
    OVERWRITTEN_SOON = 8


class AccessLatency(IntEnum):
    """AL, how long an access may take."""

    NONE = 0
    IDLE = 1
    NORMAL = 2
    LOW = 3


class ReadCdw12(Register, width=32):
    """Read, Compare and Verify, dword 12 (NVM Command Set 3.3.4, 3.3.1, 3.3.5)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    cetype = Bits(19, 16, "Command Extension Type")
    _r23_20 = Reserved(23, 20)
    stc = Bit(24, "Storage Tag Check")
    _r25 = Reserved(25, 25)
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class WriteCdw12(Register, width=32):
    """Write, dword 12 (NVM Command Set 3.3.6)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    cetype = Bits(19, 16, "Command Extension Type")
    dtype = Bits(23, 20, "Directive Type")
    stc = Bit(24, "Storage Tag Check")
    _r25 = Reserved(25, 25)
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class WriteUncorrectableCdw12(Register, width=32):
    """Write Uncorrectable, dword 12 (NVM Command Set 3.3.7); of dword 13 it has DSPEC alone."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    _r19_16 = Reserved(19, 16)
    dtype = Bits(23, 20, "Directive Type")
    _r31_24 = Reserved(31, 24)


class WriteZeroesCdw12(Register, width=32):
    """Write Zeroes, dword 12 (NVM Command Set 3.3.8)."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    cetype = Bits(19, 16, "Command Extension Type")
    dtype = Bits(22, 20, "Directive Type")
    nsz = Bit(23, "Namespace Zeroes (1: the whole namespace)")
    stc = Bit(24, "Storage Tag Check")
    deac = Bit(25, "Deallocate")
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class WriteZeroesResult(Register, width=32):
    """Write Zeroes, the completion's dword 0 (NVM Command Set 3.3.8)."""

    lbacz = Bit(0, "LBAs Cleared to Zero (of the whole namespace)")
    _r31_1 = Reserved(31, 1)


class ReadWriteCdw13(Register, width=32):
    """Read and Write without a command extension, dword 13; DSPEC is Write's."""

    af = Bits(3, 0, "Access Frequency", AccessFrequency)
    al = Bits(5, 4, "Access Latency", AccessLatency)
    sr = Bit(6, "Sequential Request")
    incom = Bit(7, "Incompressible")
    _r15_8 = Reserved(15, 8)
    dspec = Bits(31, 16, "Directive Specific")


class ExtensionCdw13(Register, width=32):
    """Dword 13 of a command with a command extension (CETYPE not 0), and of Copy."""

    cev = Bits(15, 0, "Command Extension Value")
    dspec = Bits(31, 16, "Directive Specific")


class ProtectionCdw15(Register, width=32):
    """Logical block tags, dword 15 of the commands that carry data (NVM Command Set 3.3)."""

    lbat = Bits(15, 0, "Logical Block Application Tag")
    lbatm = Bits(31, 16, "Logical Block Application Tag Mask")


class DatasetManagementCdw10(Register, width=32):
    """Dataset Management, dword 10 (NVM Command Set 3.3.3)."""

    nr = Bits(7, 0, "Number of Ranges (zero-based)")
    _r31_8 = Reserved(31, 8)


class DatasetManagementCdw11(Register, width=32):
    """Dataset Management, dword 11 (NVM Command Set 3.3.3)."""

    idr = Bit(0, "Integral Dataset for Read")
    idw = Bit(1, "Integral Dataset for Write")
    ad = Bit(2, "Deallocate")
    _r31_3 = Reserved(31, 3)


class ContextAttributes(Register, width=32):
    """Context Attributes of a range (NVM Command Set 3.3.3.1)."""

    af = Bits(3, 0, "Access Frequency", AccessFrequency)
    al = Bits(5, 4, "Access Latency", AccessLatency)
    _r7_6 = Reserved(7, 6)
    sr = Bit(8, "Sequential Read Range")
    sw = Bit(9, "Sequential Write Range")
    wp = Bit(10, "Write Prepare")
    _r23_11 = Reserved(23, 11)
    cas = Bits(31, 24, "Command Access Size")


class DatasetRange(Struct, size=16):
    """A range of Dataset Management (NVM Command Set 3.3.3); up to 256 make the command's data."""

    cattr = U32(0, "Context Attributes", bits=ContextAttributes)
    nlb = U32(4, "Length in Logical Blocks")
    slba = U64(8, "Starting LBA")
