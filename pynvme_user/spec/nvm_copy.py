"""Copy: its dwords and the source ranges that are its data (NVM Command Set 1.1, 3.3.2).

Dwords 10 and 11 are the starting destination LBA (SDLBA), lower half first; dword 13 is
`nvm.ExtensionCdw13`, dword 15 `nvm.ProtectionCdw15`. Dwords 2, 3 and 14 are the tags to write,
those of a range the tags that are expected where it is read. Where Copy fails, the completion's
dword 0 is the number of the first range that was not copied.
"""

from enum import IntEnum
from typing import TypeAlias

from .fields import BE80, U8, U16, U32, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct


class CopyFormat(IntEnum):
    """DESFMT, the format of the source ranges; OCFS tells which ones a controller supports.

    From `CROSS_NAMESPACE_8B` on it has to be enabled by the Host Behavior Support feature. The
    ranges of `LOCAL_MEMORY` are those of the Subsystem Local Memory Command Set.
    """

    SAME_NAMESPACE_8B = 0
    SAME_NAMESPACE_16B = 1
    CROSS_NAMESPACE_8B = 2
    CROSS_NAMESPACE_16B = 3
    LOCAL_MEMORY = 4


class CopyCdw12(Register, width=32):
    """Copy, dword 12."""

    nr = Bits(7, 0, "Number of Ranges (zero-based)")
    desfmt = Bits(11, 8, "Descriptor Format", CopyFormat)
    prinfor = Bits(15, 12, "Protection Information Read")
    cetype = Bits(19, 16, "Command Extension Type")
    dtype = Bits(23, 20, "Directive Type")
    stcw = Bit(24, "Storage Tag Check Write")
    stcr = Bit(25, "Storage Tag Check Read")
    prinfow = Bits(29, 26, "Protection Information Write")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class CopyExtension(Register, width=8):
    """Command extension of a source range."""

    cetype = Bits(3, 0, "Command Extension Type")
    _r7_4 = Reserved(7, 4)


class SOPT(Register, width=16):
    """Source Options of a range in another namespace."""

    _r14_0 = Reserved(14, 0)
    fco = Bit(15, "Fast Copy Only")


class CopyRange0(Struct, size=32):
    """Source Range, Format 0h: same namespace, 16b guard."""

    _rsvd0 = ReservedBytes(0, 8)
    slba = U64(8, "Starting LBA")
    nlb = U16(16, "Number of Logical Blocks (zero-based)")
    ext = U8(18, "Command Extension", bits=CopyExtension)
    _rsvd19 = ReservedBytes(19, 1)
    cev = U16(20, "Command Extension Value")
    _rsvd22 = ReservedBytes(22, 2)
    elbt = U32(24, "Expected Logical Block Tags")
    elbat = U16(28, "Expected Logical Block Application Tag")
    elbatm = U16(30, "Expected Logical Block Application Tag Mask")


class CopyRange1(Struct, size=40):
    """Source Range, Format 1h: same namespace, 32b or 64b guard."""

    _rsvd0 = ReservedBytes(0, 8)
    slba = U64(8, "Starting LBA")
    nlb = U16(16, "Number of Logical Blocks (zero-based)")
    ext = U8(18, "Command Extension", bits=CopyExtension)
    _rsvd19 = ReservedBytes(19, 1)
    cev = U16(20, "Command Extension Value")
    _rsvd22 = ReservedBytes(22, 4)
    elbt = BE80(26, "Expected Logical Block Tags")
    elbat = U16(36, "Expected Logical Block Application Tag")
    elbatm = U16(38, "Expected Logical Block Application Tag Mask")


class CopyRange2(Struct, size=32):
    """Source Range, Format 2h: any namespace, 16b guard."""

    snsid = U32(0, "Source Namespace Identifier")
    _rsvd4 = ReservedBytes(4, 4)
    slba = U64(8, "Starting LBA")
    nlb = U16(16, "Number of Logical Blocks (zero-based)")
    ext = U8(18, "Command Extension", bits=CopyExtension)
    _rsvd19 = ReservedBytes(19, 1)
    cev = U16(20, "Command Extension Value")
    sopt = U16(22, "Source Options", bits=SOPT)
    elbt = U32(24, "Expected Logical Block Tags")
    elbat = U16(28, "Expected Logical Block Application Tag")
    elbatm = U16(30, "Expected Logical Block Application Tag Mask")


class CopyRange3(Struct, size=40):
    """Source Range, Format 3h: any namespace, 32b or 64b guard."""

    snsid = U32(0, "Source Namespace Identifier")
    _rsvd4 = ReservedBytes(4, 4)
    slba = U64(8, "Starting LBA")
    nlb = U16(16, "Number of Logical Blocks (zero-based)")
    ext = U8(18, "Command Extension", bits=CopyExtension)
    _rsvd19 = ReservedBytes(19, 1)
    cev = U16(20, "Command Extension Value")
    sopt = U16(22, "Source Options", bits=SOPT)
    _rsvd24 = ReservedBytes(24, 2)
    elbt = BE80(26, "Expected Logical Block Tags")
    elbat = U16(36, "Expected Logical Block Application Tag")
    elbatm = U16(38, "Expected Logical Block Application Tag Mask")


CopyRange: TypeAlias = CopyRange0 | CopyRange1 | CopyRange2 | CopyRange3

#: The range of each format that the NVM Command Set defines; up to 256 make the command's data.
COPY_RANGES: dict[CopyFormat, type[CopyRange]] = {
    CopyFormat.SAME_NAMESPACE_8B: CopyRange0,
    CopyFormat.SAME_NAMESPACE_16B: CopyRange1,
    CopyFormat.CROSS_NAMESPACE_8B: CopyRange2,
    CopyFormat.CROSS_NAMESPACE_16B: CopyRange3,
}
