"""End-to-end data protection (NVM Command Set 1.1, 5.3): what is stored with each block.

The protection information of a block lies in the first or the last bytes of its metadata (DPS).
It is big-endian, and has one of three formats (`GuardFormat`). The storage tag and the reference
tag share a field of it, of which the storage tag has the upper `ELBAF.sts` bits; `TagSpace` splits
it, and puts the initial or expected tags of a command into its dwords.
"""

from dataclasses import dataclass
from enum import IntEnum

from .fields import BE16, BE32, BE48, BE64, BE80, Bit, Bits, Register, Reserved, Struct
from .identify_nvm import ELBAF, GuardFormat

APP_TAG_ESCAPE = 0xFFFF  # an application tag that switches the checks off, as 5.3.3 says


class ProtectionType(IntEnum):
    """DPS bits 2:0: what the reference tag is, and which tags switch the checks off."""

    NONE = 0
    TYPE1 = 1  # the reference tag follows the LBA
    TYPE2 = 2  # the reference tag goes up by one a block from what the command says
    TYPE3 = 3  # the reference tag is the application's


class PRINFO(Register, width=4):
    """Protection Information Field, bits 29:26 of dword 12 (NVM Command Set 1.1, figure 11).

    PRACT has the controller insert on a write and strip on a read, where the metadata is the
    protection information alone.
    """

    rtchk = Bit(0, "Reference Tag Check")
    atchk = Bit(1, "Application Tag Check")
    grdchk = Bit(2, "Guard Check")
    pract = Bit(3, "Protection Information Action")


class ProtectionInfo16(Struct, size=8):
    """16b Guard Protection Information (5.3.1.1): the guard is CRC-16/T10-DIF."""

    guard = BE16(0, "Guard")
    apptag = BE16(2, "Application Tag")
    tags = BE32(4, "Storage Tag and Reference Tag")


class ProtectionInfo32(Struct, size=16):
    """32b Guard Protection Information (5.3.1.2): the guard is CRC-32C."""

    guard = BE32(0, "Guard")
    apptag = BE16(4, "Application Tag")
    tags = BE80(6, "Storage Tag and Reference Tag")


class ProtectionInfo64(Struct, size=16):
    """64b Guard Protection Information (5.3.1.3): the guard is CRC-64/NVME."""

    guard = BE64(0, "Guard")
    apptag = BE16(8, "Application Tag")
    tags = BE48(10, "Storage Tag and Reference Tag")


#: The structure of each format.
PROTECTION_INFO: dict[
    GuardFormat, type[ProtectionInfo16] | type[ProtectionInfo32] | type[ProtectionInfo64]
] = {
    GuardFormat.GUARD_16B: ProtectionInfo16,
    GuardFormat.GUARD_32B: ProtectionInfo32,
    GuardFormat.GUARD_64B: ProtectionInfo64,
}

#: The least and the greatest Storage Tag Size, in bits.
STORAGE_TAG_SIZES: dict[GuardFormat, tuple[int, int]] = {
    GuardFormat.GUARD_16B: (0, 32),
    GuardFormat.GUARD_32B: (16, 64),
    GuardFormat.GUARD_64B: (0, 48),
}


class TagsCdw2(Register, width=32):
    """(Expected) Logical Block Tags Upper, dword 2; dword 3 is bits 63:32, dword 14 bits 31:0."""

    lbtu = Bits(15, 0, "Logical Block Tags Upper, bits 79:64")
    _r31_16 = Reserved(31, 16)


@dataclass(frozen=True)
class TagSpace:
    """The field that the storage tag and the reference tag share (5.3.1.4).

    `bits` wide, of which the upper `storage_bits` are the storage tag.
    """

    bits: int
    storage_bits: int

    @classmethod
    def of(cls, elbaf: int = 0) -> "TagSpace":
        """Return that of an extended LBA format; 0 is the format of namespaces without any.

        ValueError if the format's storage tag has a size that it cannot have.
        """
        extended = ELBAF(elbaf)
        try:
            guard = GuardFormat(extended.guard)
            least, most = STORAGE_TAG_SIZES[guard]
        except (ValueError, KeyError):
            raise ValueError(
                f"protection information format {extended.guard} is not defined"
            ) from None
        if not least <= extended.sts <= most:
            raise ValueError(
                f"a storage tag of {extended.sts} bits: the format has {least} to {most}"
            )
        return cls(8 * PROTECTION_INFO[guard].tags.size, extended.sts)

    @property
    def reference_bits(self) -> int:
        """Bits of the reference tag."""
        return self.bits - self.storage_bits

    def join(self, storage_tag: int, reference_tag: int) -> int:
        """Return the field's value; ValueError for a tag that does not fit.

        A reference tag that goes up past its last value begins again at 0: mask it before.
        """
        for what, tag, bits in (
            ("storage", storage_tag, self.storage_bits),
            ("reference", reference_tag, self.reference_bits),
        ):
            if not 0 <= tag < 1 << bits:
                raise ValueError(f"the {what} tag {tag:#x} does not fit in {bits} bits")
        return storage_tag << self.reference_bits | reference_tag

    def split(self, tags: int) -> tuple[int, int]:
        """Return the storage tag and the reference tag of the field's value."""
        return tags >> self.reference_bits, tags & (1 << self.reference_bits) - 1

    def dwords(self, storage_tag: int, reference_tag: int) -> dict[str, int]:
        """Return dwords 2, 3 and 14 of a command that says or expects these tags.

        LBTL, dword 14, has the lower bits; LBTU, dwords 3 and 2, those above. ValueError for a
        tag that does not fit.
        """
        tags = self.join(storage_tag, reference_tag)
        return {
            "cdw2": tags >> 64,
            "cdw3": tags >> 32 & 0xFFFFFFFF,
            "cdw14": tags & 0xFFFFFFFF,
        }
