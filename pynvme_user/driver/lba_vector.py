"""Where the I/Os of a vector go: their LBAs, and how many blocks each has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import PAGE, DmaBuffer
from pynvme_user.driver.geometry import Geometry
from pynvme_user.native import U32Array, U64Array
from pynvme_user.spec.nvm import DatasetManagementCdw10, DatasetManagementCdw11
from pynvme_user.units import whole_number

#: Of each I/O one, or one for all.
Each = int | npt.ArrayLike

#: What one command takes that moves no data: NLB, and a range's, have so many bits.
MOST_BLOCKS, MOST_RANGE_BLOCKS = 0x10000, 0xFFFFFFFF
#: Ranges of one Dataset Management.
MOST_RANGES = 256
#: As :class:`~pynvme_user.spec.nvm.DatasetRange` has it.
_RANGE = np.dtype([("cattr", "<u4"), ("nlb", "<u4"), ("slba", "<u8")])


class LbaVector:
    """LBAs of I/Os and their blocks, as they were given; :meth:`check` holds them to a namespace.

    Raises ValueError for what is no number, or no array of one dimension.
    """

    def __init__(self, lbas: npt.ArrayLike, blocks: Each) -> None:
        self._given = where = _whole("lbas", np.ascontiguousarray(lbas))
        self.count = len(where)
        # Of 64-bit integers the same words, in which what is negative is the highest.
        self.lbas: U64Array = (
            where.view(np.uint64)
            if where.dtype == np.int64
            else where.astype(np.uint64, copy=False)
        )
        #: The blocks of each, where they differ: a copy, since the data's places are made by it.
        self.each: U32Array | None = None
        #: The blocks of all, or the most that one has.
        self.most: int
        if isinstance(blocks, int) or not np.ndim(blocks):
            self.most = whole_number(blocks, "a number of blocks")  # type: ignore[arg-type]
            return
        sizes = _whole("blocks", np.asarray(blocks))
        if len(sizes) != self.count:
            raise ValueError(f"lbas has {self.count} numbers, and blocks {len(sizes)}")
        wrong = np.flatnonzero((sizes < 1) | (sizes > MOST_RANGE_BLOCKS))
        if len(wrong):
            raise ValueError(
                f"I/O {wrong[0]}: an I/O has 1 to {MOST_RANGE_BLOCKS} blocks, not {sizes[wrong[0]]}"
            )
        self.most = int(sizes.max()) if self.count else 1
        if self.count and int(sizes.min()) != self.most:
            self.each = np.array(sizes, np.uint32)

    @property
    def arguments(self) -> dict[str, Any]:
        """What a :class:`~pynvme_user.ring.Vector` is told of it."""
        return {
            "lbas": self.lbas,
            "blocks": self.most,
            "last_blocks": self.most,
            "each": self.each,
        }

    @property
    def first(self) -> int:
        """The first LBA, 0 without any."""
        return int(self.lbas[0]) if self.count else 0

    def check(
        self, geometry: Geometry, most: int, check_one: Callable[[int, int], None] | None = None
    ) -> None:
        """Raise ValueError, which names the first that is not right: for blocks that are not all
        in the namespace, and more than ``most``, which one command carries.

        ``check_one`` says what else is wrong with an LBA and a number of blocks.
        """
        check_one = check_one or geometry.check_range
        if self.each is None:
            if self.count:
                check_one(int(self._given[self.lbas.argmax()]), self.most)
            if self.most > most:
                raise ValueError(f"one command carries up to {most} blocks here, not {self.most}")
            return
        check_one(0, 1)
        there = np.uint64(geometry.block_count)
        wrong = (self.each > most) | (self.lbas > there) | (self.each > there - self.lbas)
        if wrong.any():
            item = int(wrong.argmax())
            lba, blocks = int(self._given[item]), int(self.each[item])
            text = f"one command carries up to {most} blocks here, not {blocks}"
            try:
                check_one(lba, blocks)
            except ValueError as error:
                text = str(error)
            raise ValueError(f"I/O {item}: {text}")

    def offsets(self, block_bytes: int, slots: int | None) -> tuple[U64Array, int]:
        """Say where each I/O's data begin, one behind the other, and how many bytes all have.

        With ``slots`` that is of so many places, each as large as the largest I/O.
        """
        if slots is None and self.each is not None:
            sizes = self.each.astype(np.uint64) * np.uint64(block_bytes)
            ends = np.cumsum(sizes, dtype=np.uint64)
            return ends - sizes, int(ends[-1])
        pieces = self.count if slots is None else slots
        size = self.most * block_bytes
        return np.arange(pieces, dtype=np.uint64) * np.uint64(size), pieces * size


def _whole(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} is a one-dimensional array of whole numbers")
    return array


def dataset_ranges(
    where: LbaVector, ranges: int, alloc: Callable[[int], DmaBuffer]
) -> tuple[DmaBuffer, U64Array]:
    """Make the data of Dataset Management commands that deallocate so many ranges each.

    Returns memory with a page for each command, and CDW10 and 11 of each as one word.
    """
    commands = -(-where.count // ranges)
    memory = alloc(max(1, commands) * PAGE)
    entries = memory.array.view(_RANGE).reshape(-1, PAGE // _RANGE.itemsize)[:, :ranges]
    table = np.zeros((max(1, commands), ranges), _RANGE)
    flat = table.reshape(-1)[: where.count]
    flat["slba"] = where.lbas
    flat["nlb"] = where.most if where.each is None else where.each
    entries[...] = table
    counts = np.full(commands, ranges, np.uint64)
    if commands:
        counts[-1] = where.count - (commands - 1) * ranges
    cdw11 = int(DatasetManagementCdw11.build(ad=1))
    assert DatasetManagementCdw10.nr.mask == MOST_RANGES - 1  # CDW10 is the number, zero-based
    return memory, (counts - np.uint64(1)) | np.uint64(cdw11 << 32)
