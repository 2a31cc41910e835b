"""A large read, a piece at a time, while the next pieces come into a window of DMA memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import DmaBuffer
from pynvme_user.driver.completion import Reaped, check
from pynvme_user.driver.geometry import Blocks
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.transfer import describe
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.views.window import Layout

#: Commands that a stream has outstanding at most.
_DEPTH = 1024


class Source(Blocks, Protocol):
    """What a stream needs of a namespace: see :class:`Namespace`."""

    def read_into(self, lba: int, buffer: Any) -> None:
        """Fill a writable buffer of whole blocks."""


def read_ahead(
    ns: Source,
    make: Callable[[int], QueuePair],
    pieces: Iterable[tuple[int, int]],
    window: Layout,
    memory: DmaBuffer | None = None,
) -> Iterator[DmaBuffer]:
    """Read pieces, (LBA, blocks) of up to ``window.blocks`` each, and give them in their order.

    As many as the window has parts are read before they are asked for, on a queue pair that
    ``make`` makes, into ``memory``, or memory that is allocated. A buffer is valid until the next
    one is asked for.
    """
    geometry = ns.current()
    size = window.blocks << geometry.block_shift
    if memory is None:
        memory = ns.device.dma.alloc(size * window.parts, zero=False)
    memory.page_lock()
    if geometry.metadata_size:  # which no batch carries
        for lba, blocks in pieces:
            part = memory[: blocks << geometry.block_shift]
            assert isinstance(part, DmaBuffer)
            ns.read_into(lba, part)
            yield part
        return
    each = -(-window.blocks // max(geometry.max_blocks, 1))
    depth = min(each * window.parts, _DEPTH, ns.device.cap.mqes)
    with make(depth) as pair:
        yield from _Reader(ns, pair, memory, size).read(pieces, window.parts)


class _Piece:
    def __init__(self, slot: int, lba: int, blocks: int, left: int) -> None:
        self.slot = slot
        self.lba = lba
        self.blocks = blocks
        self.left = left  # commands without an outcome


class _Reader:
    """Keeps a queue pair of its own full with the reads of what comes next."""

    def __init__(self, ns: Source, pair: QueuePair, memory: DmaBuffer, size: int) -> None:
        self._ns = ns
        self._pair = pair
        self._memory = memory
        self._size = size
        self._coming: deque[_Piece] = deque()
        self._by_slot: dict[int, _Piece] = {}
        #: Commands that there was no room for: LBAs, blocks, offsets and tags.
        self._waiting: deque[tuple[npt.NDArray[np.int64], ...]] = deque()

    def read(self, pieces: Iterable[tuple[int, int]], slots: int) -> Iterator[DmaBuffer]:
        free = deque(range(slots))
        rest = iter(pieces)
        shift = self._ns.geometry.block_shift
        while True:
            while free and (piece := next(rest, None)) is not None:
                self._add(free.popleft(), *piece)
            if not self._coming:
                return
            first = self._coming[0]
            self._submit()
            if self._waiting:
                self._take(self._pair.reap())
            while first.left:
                self._submit()
                self._take(self._pair.reap(None))
            self._submit()
            self._coming.popleft()
            at = first.slot * self._size
            part = self._memory[at : at + (first.blocks << shift)]
            assert isinstance(part, DmaBuffer)
            yield part
            free.append(first.slot)

    def _add(self, slot: int, lba: int, blocks: int) -> None:
        geometry = self._ns.current()
        geometry.check_transfer(lba, blocks)
        lbas, counts = geometry.cut(lba, blocks)
        offsets = slot * self._size + (lbas - lba << geometry.block_shift)
        piece = _Piece(slot, lba, blocks, len(lbas))
        self._coming.append(piece)
        self._by_slot[slot] = piece
        self._waiting.append((lbas, counts, offsets, np.full(len(lbas), slot)))

    def _submit(self) -> None:
        while self._waiting:
            lbas, counts, offsets, tags = columns = self._waiting[0]
            done = self._pair.submit_many(
                self._ns, NvmOpcode.READ, lbas, counts, self._memory, offsets, tags=tags
            )
            if done < len(lbas):
                self._waiting[0] = tuple(column[done:] for column in columns)
                return
            self._waiting.popleft()

    def _take(self, done: Reaped) -> None:
        for index in done.failed[:1].tolist():
            piece = self._by_slot[int(done.tags[index])]
            what = describe(NvmOpcode.READ, piece.lba, piece.blocks, self._ns.nsid)
            check(Status(int(done.status[index])), what, done.timed_out)
        for slot in done.tags.tolist():
            self._by_slot[slot].left -= 1
