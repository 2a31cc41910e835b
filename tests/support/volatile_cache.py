"""A device whose cache forgets what was not flushed, all or a part, when its power fails."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import as_bytes
from pynvme_user.errors import DeviceRemovedError
from pynvme_user.views.storage import ByteRange, RangeLock


class VolatileCache:
    """A namespace in front of which a cache is; what it has not itself is that namespace's.

    A block is written whole or not at all, as each device does it; blocks of one write, and writes,
    in any order.
    """

    def __init__(self, ns: Any) -> None:
        self._ns = ns
        self._lock = RangeLock()
        self._cached: dict[int, list[bytes]] = {}  # of each block what was written since a flush
        self._off = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ns, name)

    def byte_range(self, offset: int = 0, size: int | None = None) -> ByteRange:
        return ByteRange(self, self._lock, offset, size)

    def read_into(self, lba: int, buffer: npt.NDArray[np.uint8]) -> None:
        self._check()
        self._ns.read_into(lba, buffer)
        size = self._ns.block_size
        for at in range(0, buffer.nbytes, size):
            if written := self._cached.get(lba + at // size):
                buffer[at : at + size] = np.frombuffer(written[-1], np.uint8)

    def write_from(self, lba: int, buffer: Any, fua: bool = False) -> None:
        self._check()
        data = as_bytes(buffer).tobytes()
        size = self._ns.block_size
        if fua:
            self._ns.write_from(lba, data)
        for at in range(0, len(data), size):
            if fua:
                self._cached.pop(lba + at // size, None)
            else:
                self._cached.setdefault(lba + at // size, []).append(data[at : at + size])

    def flush(self) -> None:
        self._check()
        for lba, written in self._cached.items():
            self._ns.write_from(lba, written[-1])
        self._cached = {}

    def fail(self, rng: random.Random) -> None:
        """Lose power, for good: put another before the namespace, and look at what is there.

        Of each block that is the last flushed version, or any that was written since.
        """
        keep = rng.choice([0.0, 0.5, 0.9, 1.0])
        for lba, written in self._cached.items():
            if rng.random() < keep:
                self._ns.write_from(lba, rng.choice(written))
        self._off = True

    def _check(self) -> None:
        if self._off:
            raise DeviceRemovedError("the power failed: put another cache before the namespace")
