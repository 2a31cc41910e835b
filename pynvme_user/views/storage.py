"""What a view needs of a namespace, and bytes in place of blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Storage(Protocol):
    """A namespace: see :class:`Namespace` for what is raised."""

    @property
    def block_size(self) -> int:
        """Bytes in a block."""

    @property
    def block_count(self) -> int:
        """Its size in blocks."""

    def read_into(self, lba: int, buffer: Any) -> None:
        """Fill a writable buffer of whole blocks."""

    def write_from(self, lba: int, buffer: Any, fua: bool = False) -> None:
        """Write a buffer of whole blocks."""

    def write_zeroes(
        self, lba: int, blocks: int, *, deallocate: bool = False, fua: bool = False
    ) -> None:
        """Set blocks to zero without moving data."""

    def flush(self) -> None:
        """Make all completed writes durable."""


class RangeLock:
    """Keeps writes of the same blocks apart, first come, first served. Thread-safe.

    A write of a part of a block reads the block first: what another thread wrote in between would
    be undone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ranges: list[tuple[int, int]] = []  # first and end, in the order in which they came

    @contextmanager
    def held(self, first: int, end: int) -> Iterator[None]:
        """Hold the blocks from ``first`` up to ``end``."""
        mine = (first, end)
        with self._changed:
            self._ranges.append(mine)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._is_first(mine))
            yield
        finally:
            with self._changed:
                self._drop(mine)
                self._changed.notify_all()

    def _is_first(self, mine: tuple[int, int]) -> bool:
        for other in self._ranges:
            if other is mine:
                return True
            if other[0] < mine[1] and mine[0] < other[1]:
                return False
        return True

    def _drop(self, mine: tuple[int, int]) -> None:
        self._ranges = [other for other in self._ranges if other is not mine]


class ByteRange:
    """Bytes ``offset`` to ``offset + size`` of a namespace, read and written at any place.

    A write that begins or ends within a block reads the block, changes its part and writes it: such
    writes, and all others of that block, exclude each other within this process, for all views of
    the namespace. Thread-safe.
    """

    def __init__(
        self, ns: Storage, lock: RangeLock, offset: int = 0, size: int | None = None
    ) -> None:
        whole = ns.block_count * ns.block_size
        if size is None:
            size = max(whole - offset, 0)
        if offset < 0 or size < 0:
            raise ValueError(f"offset is {offset} and size {size}: neither can be below 0")
        if offset + size > whole:
            raise ValueError(
                f"{size} bytes from byte {offset} on are not all in the namespace, of {whole}"
            )
        self.ns = ns
        self.offset = offset
        self.size = size
        self._lock = lock

    def read_into(self, at: int, buffer: npt.NDArray[np.uint8]) -> None:
        """Fill a one-dimensional array with the bytes from ``at`` on."""
        self._move(self.offset + at, buffer, self.ns.read_into, self._read_part)

    def write_from(self, at: int, data: npt.NDArray[np.uint8], fua: bool = False) -> None:
        """Write a one-dimensional array to the bytes from ``at`` on."""
        with self._held(at, data.nbytes):
            self._move(
                self.offset + at,
                data,
                lambda lba, array: self.ns.write_from(lba, array, fua),
                lambda start, array: self._write_part(start, array, fua),
            )

    def write_zeroes(
        self, at: int, count: int, *, deallocate: bool = False, fua: bool = False
    ) -> None:
        """Set ``count`` bytes from ``at`` on to zero: whole blocks without moving data."""
        start, size = self.offset + at, self.ns.block_size
        head, blocks, tail = self._divided(start, count)
        with self._held(at, count):
            if head:
                self._write_part(start, np.zeros(head, np.uint8), fua)
            if blocks:
                self.ns.write_zeroes((start + head) // size, blocks, deallocate=deallocate, fua=fua)
            if tail:
                self._write_part(start + count - tail, np.zeros(tail, np.uint8), fua)

    def whole_blocks(self, at: int, count: int) -> tuple[int, int]:
        """Return the first of the blocks that lie wholly within these bytes, and how many."""
        head, blocks, _ = self._divided(self.offset + at, count)
        return (self.offset + at + head) // self.ns.block_size, blocks

    def _held(self, at: int, count: int) -> AbstractContextManager[None]:
        size = self.ns.block_size
        start = self.offset + at
        return self._lock.held(start // size, -(-(start + count) // size))

    def _divided(self, start: int, count: int) -> tuple[int, int, int]:
        """Divide bytes into those before whole blocks, the blocks, and the bytes behind them.

        What lies within one block stands before.
        """
        size = self.ns.block_size
        first, past = -(-start // size), (start + count) // size
        if past < first:
            return count, 0, 0
        return first * size - start, past - first, start + count - past * size

    def _move(
        self,
        start: int,
        array: npt.NDArray[np.uint8],
        whole: Callable[[int, npt.NDArray[np.uint8]], None],
        part: Callable[[int, npt.NDArray[np.uint8]], None],
    ) -> None:
        """Move whole blocks at once, and parts of blocks before and behind them."""
        size = self.ns.block_size
        head, blocks, tail = self._divided(start, array.nbytes)
        behind = head + blocks * size
        if head:
            part(start, array[:head])
        if blocks:
            whole((start + head) // size, array[head:behind])
        if tail:
            part(start + behind, array[behind:])

    def _read_part(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        """Read a part of one block."""
        lba, skip = divmod(start, self.ns.block_size)
        block = np.empty(self.ns.block_size, np.uint8)
        self.ns.read_into(lba, block)
        buffer[:] = block[skip : skip + buffer.nbytes]

    def _write_part(self, start: int, data: npt.NDArray[np.uint8], fua: bool) -> None:
        lba, skip = divmod(start, self.ns.block_size)
        block = np.empty(self.ns.block_size, np.uint8)
        self.ns.read_into(lba, block)
        block[skip : skip + data.nbytes] = data
        self.ns.write_from(lba, block, fua)
