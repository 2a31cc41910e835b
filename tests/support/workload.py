"""What the device tests have in common: patterns, kinds of memory, and a model of the disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynvme_user import Controller, Namespace
from pynvme_user.spec.status import GenericStatus

Bytes = NDArray[np.uint8]

#: Kinds of user memory for a transfer; the last three are reached by the device itself.
KINDS = (
    "bytearray",
    "memoryview",
    "array",
    "odd array",
    "wide array",
    "dma",
    "dma slice",
    "odd dma",
)


#: SPDK's vfio-user target cannot map a command that it does not know, and says only that.
REFUSALS = {
    code: (code, GenericStatus.INTERNAL_ERROR)
    for code in (GenericStatus.INVALID_OPCODE, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
}


def pattern(seed: int, length: int) -> Bytes:
    """Bytes that depend on the seed and on the place."""
    words = np.random.default_rng(seed).integers(0, 1 << 64, -(-length // 8), np.uint64)
    return words.view(np.uint8)[:length]  # much sooner than byte by byte


class Memory:
    """Memory of one kind, with canaries around it where it lies in something larger."""

    def __init__(self, ctrl: Controller, kind: str, length: int, offset: int = 0) -> None:
        self._whole: Bytes = np.empty(0, np.uint8)
        self._before = 64 + 4 * (offset % 1024)
        match kind:
            case "bytearray":
                self.user: Any = bytearray(length)
            case "memoryview":
                self.user = memoryview(bytearray(length)).cast("H" if length % 2 == 0 else "B")
            case "array":
                self.user = np.zeros(length, np.uint8)
            case "wide array":
                self.user = np.zeros((length // 512, 64), np.uint64)
            case "dma":
                self.user = ctrl.alloc(length)
            case _:
                self._before += "odd" in kind
                size = self._before + length + 64
                whole: Bytes = ctrl.alloc(size) if "dma" in kind else np.zeros(size, np.uint8)
                whole[:] = 0xC5
                self._whole = whole
                self.user = whole[self._before : self._before + length]
        self.bytes: Bytes = np.frombuffer(memoryview(self.user).cast("B"), np.uint8)

    def check(self) -> None:
        """Fail if anything beside the memory was touched."""
        around = np.delete(self._whole, slice(self._before, len(self._whole) - 64))
        assert (around == 0xC5).all()


class Model:
    """A part of a namespace and what it must hold."""

    def __init__(self, ns: Namespace, length: int) -> None:
        self.ns = ns
        self.blocks = min(length >> ns.block_shift, ns.block_count)
        self.first = (ns.block_count - self.blocks) // 2
        self.data = pattern(1, self.blocks << ns.block_shift).copy()
        ns.write(self.first, self.data)

    def extent(self, at: float, size: float) -> tuple[int, int]:
        """Turn two fractions into an LBA and a number of blocks within the part."""
        lba = int(at * (self.blocks - 1))
        return self.first + lba, max(1, int(size * (self.blocks - lba)))

    def part(self, lba: int, blocks: int) -> Bytes:
        """View what an extent must hold; write to the view when the device was written."""
        start = (lba - self.first) << self.ns.block_shift
        return self.data[start : start + (blocks << self.ns.block_shift)]

    def check(self) -> None:
        """Read all of the part and hold it against the model."""
        buffer = self.ns.controller.alloc(len(self.data))
        self.ns.read_into(self.first, buffer)
        assert np.array_equal(buffer, self.data)
