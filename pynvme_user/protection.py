"""Protection information in memory: generated and checked, block by block, in C.

As NVM Command Set 1.1, section 5.3, has it: see :mod:`pynvme_user.spec.protection` for the formats.
The GIL is released meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pynvme_user.dma import BytesLike, as_bytes
from pynvme_user.errors import ProtectionError
from pynvme_user.native import ffi, lib
from pynvme_user.spec.identify_nvm import ELBAF, GuardFormat
from pynvme_user.spec.protection import PROTECTION_INFO, ProtectionType, TagSpace

#: The names of enum nvme_protection_part.
PARTS = {
    lib.NVME_PROTECTION_GUARD: "guard",
    lib.NVME_PROTECTION_APP_TAG: "application tag",
    lib.NVME_PROTECTION_STORAGE_TAG: "storage tag",
    lib.NVME_PROTECTION_REF_TAG: "reference tag",
}
#: A storage tag's mask by which all of its bits are checked.
ALL_ONES = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Protection:
    """How blocks are protected: :attr:`Namespace.protection`, or any that can be.

    Data is ``block_size`` bytes a block and metadata ``metadata_size``, each in memory of its own,
    or, where no metadata is given to a call, one behind the other in each block. Memory is anything
    contiguous, which begins anywhere, for any number of blocks.

    Raises ValueError for metadata that is too small, or a storage tag that the format cannot have.
    """

    type: ProtectionType
    block_size: int  # bytes of data in a block
    metadata_size: int  # bytes of metadata in a block, the protection information's among them
    guard: GuardFormat = GuardFormat.GUARD_16B
    #: It lies in the first bytes of the metadata (DPS bit 3), not the last. The guard is of the
    #: data alone then, else of the metadata before it as well.
    first: bool = False
    storage_tag_bits: int = 0
    #: Bits of the storage tag that are checked (LBSTM).
    storage_tag_mask: int = ALL_ONES
    #: How the storage tag and the reference tag share their field.
    tags: TagSpace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.type not in (ProtectionType.TYPE1, ProtectionType.TYPE2, ProtectionType.TYPE3):
            raise ValueError(f"protection information is of type 1, 2 or 3, not {self.type}")
        # By the field that has any format, so that one which is none is said to be none.
        elbaf = ELBAF.build(pif=GuardFormat.QUALIFIED, qpif=self.guard, sts=self.storage_tag_bits)
        object.__setattr__(self, "tags", TagSpace.of(elbaf))
        if self.block_size < 1 or self.metadata_size < self.size:
            raise ValueError(
                f"{self.size} bytes of protection information do not fit in {self.metadata_size} "
                f"bytes of metadata to {self.block_size} bytes of data"
            )

    @property
    def size(self) -> int:
        """Bytes of a block's protection information: 8 or 16."""
        return PROTECTION_INFO[self.guard].size

    @property
    def offset(self) -> int:
        """Where in a block's metadata it begins, in bytes."""
        return 0 if self.first else self.metadata_size - self.size

    @property
    def is_alone(self) -> bool:
        """Whether the metadata is nothing but it: the controller can insert and strip it then."""
        return self.metadata_size == self.size

    def ref_tag_of(self, lba: int) -> int:
        """Return the reference tag that a block is given where nobody says another.

        With types 1 and 2 those lower bits of its LBA that fit, which type 1 demands; with type 3
        it is 0.
        """
        return 0 if self.type is ProtectionType.TYPE3 else lba & (1 << self.tags.reference_bits) - 1

    def generate(
        self,
        data: BytesLike,
        metadata: BytesLike | None = None,
        *,
        ref_tag: int,
        app_tag: int = 0,
        storage_tag: int = 0,
    ) -> None:
        """Write each block's protection information; other bytes of the metadata stay.

        ``ref_tag`` is the first block's; with types 1 and 2 it goes up by one a block, and begins
        again at 0 past its last value. Raises ValueError for memory that is not whole blocks or
        read-only, and tags that do not fit.
        """
        struct, memory = self._described(data, metadata, writes=True)
        self._set_tags(struct, ref_tag, app_tag, storage_tag)
        lib.nvme_protection_generate(struct)
        del memory

    def check(
        self,
        data: BytesLike,
        metadata: BytesLike | None = None,
        *,
        guard: bool = True,
        ref_tag: int | None = None,
        app_tag: int | None = None,
        app_tag_mask: int = 0xFFFF,
        storage_tag: int | None = None,
    ) -> None:
        """Check each block's protection information; raise ProtectionError for the first fault.

        What is None is not checked. ``ref_tag`` is the first block's; with types 1 and 2 it goes
        up by one a block. A block is left out whose application tag is FFFFh, with type 3 only if
        all bits of its reference tag are set, too (section 5.3.3). Raises ValueError as
        :meth:`generate`.
        """
        struct, memory = self._described(data, metadata, writes=False)
        self._set_tags(struct, ref_tag or 0, app_tag or 0, storage_tag or 0)
        struct.app_tag_mask = fitting("application tag's mask", app_tag_mask, 16)
        struct.storage_tag_mask = self.storage_tag_mask
        for part, checked in (
            (lib.NVME_PROTECTION_GUARD, guard),
            (lib.NVME_PROTECTION_APP_TAG, app_tag is not None),
            (lib.NVME_PROTECTION_STORAGE_TAG, storage_tag is not None),
            (lib.NVME_PROTECTION_REF_TAG, ref_tag is not None),
        ):
            struct.checks |= part if checked else 0
        fault = ffi.new("struct nvme_protection_fault *")
        wrong = lib.nvme_protection_check(struct, fault)
        del memory
        if wrong:
            raise ProtectionError(fault.block, PARTS[fault.part], fault.expected, fault.found)

    def _described(
        self, data: BytesLike, metadata: BytesLike | None, *, writes: bool
    ) -> tuple[Any, object]:
        """Describe blocks for C; what comes second keeps the memory alive."""
        size, extra = self.block_size, self.metadata_size
        own = as_bytes(data)
        if metadata is None:
            stride, blocks = size + extra, own.nbytes // (size + extra)
            if blocks * stride != own.nbytes:
                raise ValueError(
                    f"{own.nbytes} bytes are not whole blocks of {size} bytes with {extra} of "
                    "metadata behind them: pass metadata of its own as metadata"
                )
            tuples, strides = own, (stride, stride)
        else:
            tuples, strides = as_bytes(metadata), (size, extra)
            blocks = own.nbytes // size
            if blocks * size != own.nbytes or tuples.nbytes != blocks * extra:
                raise ValueError(
                    f"{own.nbytes} bytes of data and {tuples.nbytes} of metadata are not the same "
                    f"number of blocks, of {size} and {extra} bytes"
                )
        if writes and not tuples.flags.writeable:
            raise ValueError("the metadata is read-only: use a bytearray, an array or alloc()")
        # cffi keeps their memory alive through these alone.
        own, tuples = ffi.from_buffer("uint8_t[]", own), ffi.from_buffer("uint8_t[]", tuples)
        struct = ffi.new(
            "struct nvme_protection *",
            {
                "data": own,
                "metadata": tuples + (size if metadata is None else 0),
                "data_stride": strides[0],
                "metadata_stride": strides[1],
                "blocks": blocks,
                **fields(self),
            },
        )
        return struct, (own, tuples)

    def _set_tags(self, struct: Any, ref_tag: int, app_tag: int, storage_tag: int) -> None:
        self.tags.join(storage_tag, ref_tag)  # says what does not fit
        struct.ref_tag, struct.storage_tag = ref_tag, storage_tag
        struct.app_tag = fitting("application tag", app_tag, 16)


def fields(protection: Protection) -> dict[str, int]:
    """Return what ``struct nvme_protection`` has of it, whatever the blocks."""
    return {
        "block_size": protection.block_size,
        "offset": protection.offset,
        "covered": protection.offset,
        "guard": protection.guard,
        "type": protection.type,
        "storage_bits": protection.storage_tag_bits,
    }


def fitting(what: str, value: int, bits: int) -> int:
    """Return a value that fits in so many bits; else raise ValueError."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"the {what} {value:#x} does not fit in {bits} bits")
    return value


def crc16(data: BytesLike, crc: int = 0) -> int:
    """CRC-16/T10-DIF of ``data`` behind bytes with the CRC ``crc``."""
    return int(lib.checksum_crc16(crc, *_located(data)))


def crc32c(data: BytesLike, crc: int = 0) -> int:
    """CRC-32C; as :func:`crc16`."""
    return int(lib.checksum_crc32c(crc, *_located(data)))


def crc64(data: BytesLike, crc: int = 0) -> int:
    """CRC-64/NVME; as :func:`crc16`."""
    return int(lib.checksum_crc64(crc, *_located(data)))


def _located(data: BytesLike) -> tuple[Any, int]:
    array = as_bytes(data)
    return ffi.from_buffer(array), array.nbytes
