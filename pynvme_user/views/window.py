"""How a stream uses its window of memory: in parts of one length, of which each has a piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pynvme_user.dma import DmaBuffer, as_bytes

#: Bytes of DMA memory that a stream has by default, and in how many parts.
WINDOW = 64 << 20
PARTS = 16


class Layout(NamedTuple):
    """A window of ``parts`` parts of ``blocks`` blocks."""

    blocks: int
    parts: int

    def pieces(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Cut a range into pieces: the LBA and the blocks of each."""
        for at in range(lba, lba + blocks, self.blocks):
            yield at, min(self.blocks, lba + blocks - at)


def layout(
    block_size: int, blocks: int, chunk: int | None, window: int | DmaBuffer
) -> tuple[Layout, DmaBuffer | None]:
    """Lay out a window, of so many bytes or a buffer, for so many blocks in chunks of ``chunk``
    bytes; return the buffer, too.

    Raises ValueError for a chunk that is not whole blocks, or a window with room for one alone.
    """
    memory = None
    if not isinstance(window, int):
        if not isinstance(window, DmaBuffer):
            raise TypeError(
                f"a window is a number of bytes or a buffer from alloc(), not a "
                f"{type(window).__name__}"
            )
        found = as_bytes(window)
        assert isinstance(found, DmaBuffer)
        memory, window = found, found.nbytes
    if chunk is None:
        chunk = max(window // PARTS // block_size, 1) * block_size
    if chunk < block_size or chunk % block_size or window < 2 * chunk:
        raise ValueError(
            f"a chunk is whole blocks of {block_size} bytes, and the window two chunks or more: "
            f"not {chunk} and {window}"
        )
    each = min(chunk // block_size, blocks)
    return Layout(each, min(window // chunk, -(-blocks // each))), memory
