"""A verified disk that is a numpy array, and the I/O that a benchmark would do on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pynvme_user.workload.verification import (
    Deallocated,
    Fault,
    FaultKind,
    Method,
    Trim,
    Unknown,
    Verifier,
    VerifyTable,
)
from pynvme_user.workload.verify_state import Region

HEADERS = [Method.CRC32C, Method.XXHASH, Method.PATTERN_HDR, Method.META]
PATTERN = b"\xab\xcd%o:" + bytes(8) + b"."
OFFSETS = (5,)


class Rig:
    """A disk with a table of all of it, and the I/O that a bench would do."""

    def __init__(
        self,
        method: Method = Method.CRC32C,
        *,
        block_size: int = 512,
        interval_blocks: int = 4,
        intervals: int = 32,
        seed: int = 0x5EED,
        unknown: Unknown = Unknown.SKIP,
        deallocated: Deallocated = Deallocated.ZEROES,
        disk: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.region = Region(
            block_size=block_size,
            blocks=intervals * interval_blocks,
            first_lba=100,
            interval_blocks=interval_blocks,
        )
        self.unit = interval_blocks
        self.table = VerifyTable(self.region, seed)
        self.verifier = Verifier(
            self.table,
            method,
            pattern=PATTERN,
            offsets=OFFSETS,
            unknown=unknown,
            deallocated=deallocated,
        )
        shape = self.region.blocks, block_size
        self.disk = np.zeros(shape, np.uint8) if disk is None else disk

    def at(self, lba: int, blocks: int = 1) -> npt.NDArray[np.uint8]:
        """The disk's own blocks, to look at and to spoil."""
        return self.disk[lba - 100 : lba - 100 + blocks]

    def write(
        self,
        lba: int,
        blocks: int,
        *,
        arrives: Callable[[int], bool] = lambda _: True,
        ok: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Write; ``arrives`` says of each logical block whether the disk takes it."""
        # Filled with rubbish, since META leaves what was there.
        data = np.full((blocks, self.region.block_size), 0x77, np.uint8)
        assert self.verifier.begin_write(lba, blocks, data)
        for block in range(blocks):
            if arrives(block):
                self.at(lba + block)[:] = data[block]
        self.verifier.end_write(lba, blocks, ok=ok)
        return data

    def trim(
        self, lba: int, blocks: int, kind: Trim, *, arrives: bool = True, ok: bool = True
    ) -> None:
        assert self.verifier.begin_trim(lba, blocks, kind)
        if arrives:
            self.at(lba, blocks)[:] = 0
        self.verifier.end_trim(lba, blocks, kind, ok=ok)

    def read(self, lba: int, blocks: int) -> Fault | None:
        assert self.verifier.begin_read(lba, blocks)
        fault = self.verifier.check(lba, blocks, self.at(lba, blocks).copy())
        self.verifier.end_read(lba, blocks)
        return fault


def found(rig: Rig, lba: int, blocks: int) -> tuple[FaultKind, int] | None:
    fault = rig.read(lba, blocks)
    return fault and (fault.kind, fault.lba)
