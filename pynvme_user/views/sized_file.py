"""A file whose size changes, in a region of a namespace, which has its own: the size is in a head.

The first two blocks of the region are slots for the size. A new one is written once the bytes that
it counts are durable, so that nothing is ever in the file that was not written to it, such as the
journal of an earlier transaction. The last size stays in the other slot until then.
"""

from __future__ import annotations

import errno
import struct
import threading
import zlib
from typing import Any

import numpy as np

from pynvme_user.dma import as_bytes
from pynvme_user.errors import NvmeError
from pynvme_user.views.storage import ByteRange

#: Bytes before the data, or two blocks: where file systems have what they are known by, too.
HEAD = 128 << 10
_SLOT = struct.Struct("<8sIxxxxQQ")
_MAGIC = b"nvmesize"
_ZEROES = np.zeros(1 << 20, np.uint8)


class SizedFile:
    """A file of up to ``capacity`` bytes; without a byte it is as if it were not there.

    What became longer is so once :meth:`sync` returned: until then a program that is killed leaves
    the file as long as it was, as the loss of power does. What became shorter is so at once,
    durably. Thread-safe.
    """

    def __init__(self, part: ByteRange, name: str, *, erase: bool = False) -> None:
        """Find it in its region. ``erase``: take the region, whatever is in it, for an empty file.

        Raises ValueError for a region that cannot be one, NvmeError for one with other data, or
        whose head is damaged, and what the namespace's calls raise.
        """
        block = part.ns.block_size
        self.name = name
        self.head = max(HEAD, 2 * block)
        self.capacity = part.size - self.head
        if part.offset % block or self.capacity < block:
            raise ValueError(
                f"{name} needs {self.head + block} bytes or more, from the beginning of a block "
                f"on: not {part.size} from byte {part.offset} on"
            )
        self._part = part
        self._lock = threading.RLock()
        part.ns.flush()  # what a program wrote and left is durable before anything follows it
        if erase:
            part.write_from(0, np.zeros(self.head, np.uint8))
            part.ns.flush()
        self._generation, self._size, newest = self._newest()
        self._durable = self._size
        self._slot = newest ^ 1  # into which the next size goes

    @property
    def offset(self) -> int:
        """The byte of the namespace where its data begins."""
        return self._part.offset + self.head

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._size

    def read(self, at: int, count: int) -> bytes:
        """Read bytes, as many as there are up to the end."""
        data = np.empty(max(min(count, self._size - at), 0), np.uint8)
        if data.nbytes:
            self._part.read_into(self.head + at, data)
        return data.tobytes()

    def write(self, at: int, data: Any) -> None:
        """Write bytes; between the end and them are zeroes. Raises OSError (ENOSPC) for too many.

        Of an error the end is as before.
        """
        array = as_bytes(data)
        end = at + array.nbytes
        if not array.nbytes:
            return
        with self._lock:
            self._check(end)
            self._zero_until(at)
            self._part.write_from(self.head + at, array)
            self._size = max(end, self._size)

    def truncate(self, size: int) -> None:
        """Set its size; what is new is zeroes. Raises as :meth:`write`."""
        with self._lock:
            self._check(size)
            self._zero_until(size)
            if size < self._durable:
                self._keep(size)
            self._size = size

    def sync(self) -> None:
        """Make all completed writes durable, and then its size."""
        with self._lock:
            self._part.ns.flush()
            if self._size != self._durable:
                self._keep(self._size)

    def _check(self, end: int) -> None:
        if end > self.capacity:
            raise OSError(
                errno.ENOSPC,
                f"{self.name} has room for {self.capacity} bytes, not {end}: give it a larger "
                "region",
            )

    def _zero_until(self, end: int) -> None:
        """Set what lies between its end and a byte to zero; its size stays."""
        for at in range(self._size, end, _ZEROES.nbytes):
            self._part.write_from(self.head + at, _ZEROES[: end - at])

    def _newest(self) -> tuple[int, int, int]:
        """Return the generation and the size that count, and the number of their slot."""
        head = np.empty(self.head, np.uint8)
        self._part.read_into(0, head)
        found = [
            (*slot, number)
            for number in (0, 1)
            if (slot := self._decoded(head[number * self._part.ns.block_size :])) is not None
        ]
        if not found and head.any():
            raise NvmeError(
                f"the region of {self.name} has other data, or its head is damaged: copy what is "
                "of use, and open it with erase=True"
            )
        return max(found, default=(0, 0, 1))

    def _decoded(self, block: np.ndarray[Any, Any]) -> tuple[int, int] | None:
        """Return the generation and the size in a slot, if it is whole."""
        data = block[: _SLOT.size].tobytes()
        magic, crc, generation, size = _SLOT.unpack(data)
        if magic != _MAGIC or crc != _crc(generation, size) or size > self.capacity:
            return None
        return generation, size

    def _keep(self, size: int) -> None:
        """Make a size durable. After an error the slot may have it; the other one has the last."""
        self._generation += 1
        block = np.zeros(self._part.ns.block_size, np.uint8)
        slot = _SLOT.pack(_MAGIC, _crc(self._generation, size), self._generation, size)
        block[: len(slot)] = np.frombuffer(slot, np.uint8)
        self._part.write_from(self._slot * block.nbytes, block)
        self._part.ns.flush()
        self._durable = size
        self._slot ^= 1


def _crc(generation: int, size: int) -> int:
    return zlib.crc32(_SLOT.pack(_MAGIC, 0, generation, size))
