"""What a workload's reads and writes carry besides data, on a namespace with metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynvme_user.errors import ProtectionError
from pynvme_user.native import ffi, lib
from pynvme_user.protection import PARTS, Protection, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """How blocks lie in memory; see struct nvme_bench_metadata. Sizes in bytes."""

    block_bytes: int  # of a block in the data's memory, with metadata that lies there
    metadata_bytes: int = 0  # of a block's metadata in memory of its own
    offset: int = 0  # from an I/O's data to that
    ref_tag_bits: int = 0  # of the reference tag, which is the LBA; 0: the command's
    #: The protection information that is generated here for writes and checked in reads.
    protection: Protection | None = None
    guard: bool = False  # what of it is checked
    ref_tag: bool = False
    app_tag: int = 0
    app_tag_mask: int = 0  # bits of it that are checked

    @property
    def struct(self) -> Any:
        """Make its ``struct nvme_bench_metadata *``."""
        made = ffi.new("struct nvme_bench_metadata *")
        made.block_bytes, made.metadata_bytes = self.block_bytes, self.metadata_bytes
        made.offset, made.ref_tag_bits = self.offset, self.ref_tag_bits
        if self.protection is None:
            return made
        made.is_protected = 1
        told = made.protection
        for name, value in fields(self.protection).items():
            setattr(told, name, value)
        told.data_stride = self.block_bytes
        told.metadata_stride = self.metadata_bytes or self.block_bytes
        told.app_tag, told.app_tag_mask = self.app_tag, self.app_tag_mask
        for part, checked in (
            (lib.NVME_PROTECTION_GUARD, self.guard),
            (lib.NVME_PROTECTION_REF_TAG, self.ref_tag),
            (lib.NVME_PROTECTION_APP_TAG, self.app_tag_mask),
        ):
            told.checks |= part if checked else 0
        return made


def first_fault(struct: Any) -> tuple[int, ProtectionError] | None:
    """Tell the LBA and what is wrong with it, of the first block that was; None where all is right.

    The error's block is counted from the read's first one on.
    """
    if not struct.fault_count:
        return None
    fault = struct.fault
    error = ProtectionError(fault.block, PARTS[fault.part], fault.expected, fault.found)
    return int(struct.fault_lba), error
