"""Batches of unlike I/Os, as arrays: :class:`Batch` and :class:`Outcomes`, over ``_batch.c``."""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.native import U16Array, U64Array, ffi, lib
from pynvme_user.ring import COMPLETION_DTYPE, Ring

TAG_LIMIT = 1 << 32
_U64 = ffi.typeof("uint64_t[]")
_NONE = np.zeros(1, np.uint64)
#: Where the words of struct nvme_batch are that each call may change.
COUNT, IOVA, LENGTH = (
    ffi.offsetof("struct nvme_batch", name) // 8 for name in ("count", "iova", "length")
)
_COLUMNS = ("opcodes", "lbas", "blocks", "offsets", "tags")
_WORDS = frozenset(np.dtype(kind).char for kind in (np.int64, np.uint64, "q", "Q"))


class Fault(IntEnum):
    """Why C refuses an I/O of a batch (enum nvme_batch_fault)."""

    OPCODE = lib.NVME_BATCH_OPCODE
    RANGE = lib.NVME_BATCH_RANGE
    BLOCKS = lib.NVME_BATCH_BLOCKS
    OFFSET = lib.NVME_BATCH_OFFSET
    ALIGNMENT = lib.NVME_BATCH_ALIGNMENT
    PAGES = lib.NVME_BATCH_PAGES
    TAG = lib.NVME_BATCH_TAG


class Batch:
    """What C reads of a batch (struct nvme_batch), and the columns that are there from the last.

    A column is a number for all I/Os, or an array with one for each: of 64-bit integers C reads it
    as it is, anything else is copied.
    """

    def __init__(self, ring: Ring) -> None:
        self._qp = ring.pointer
        #: Words of the struct, which are written more quickly than its members.
        self.words = array("Q", bytes(ffi.sizeof("struct nvme_batch")))
        self._struct = ffi.from_buffer("struct nvme_batch *", self.words)
        self._pointers: list[Any] = [None] * len(_COLUMNS)
        self._values: list[U64Array] = [_NONE] * len(_COLUMNS)
        #: Opcodes, LBAs, blocks, offsets and tags as they were given; what C does not read where it
        #: lies is given anew each time.
        self.given: tuple[object, ...] = (self,) * len(_COLUMNS)
        #: How many I/Os the arrays have; None where all columns are numbers.
        self.length: int | None = None
        self._numbers = np.arange(64, dtype=np.uint64)
        self._indices = np.zeros(ring.depth, np.uint16)
        self._indices_out = ffi.from_buffer("uint16_t[]", self._indices, require_writable=True)

    def set_limits(
        self, *, nsid: int, block_count: int, block_shift: int, max_blocks: int, fua: int
    ) -> None:
        """Set what is the namespace's; ``fua`` is the bit in CDW12."""
        s = self._struct
        s.nsid, s.block_count, s.block_shift = nsid, block_count, block_shift
        s.max_blocks, s.fua = max_blocks, fua

    def set_columns(self, *given: object) -> None:
        """Set the columns: opcodes, LBAs, blocks, offsets, tags (None: the I/Os' numbers).

        Raises ValueError for what is no whole number or no one-dimensional array of them, and for
        arrays of different lengths.
        """
        self.given = (self,) * len(_COLUMNS)
        lengths: dict[str, int] = {}
        kept: list[object] = []
        for index, (name, values) in enumerate(zip(_COLUMNS[:-1], given, strict=False)):
            kept.append(self._set(index, name, values, lengths))
        if given[4] is None:
            kept.append(None)
        else:
            kept.append(self._set(4, "tags", given[4], lengths))
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"the arrays are not of one length: {said}")
        self.length = next(iter(lengths.values()), None)
        if given[4] is None:
            self._point(4, self._numbers, 1)
            self._need_numbers(self.length or 1)
        self.given = tuple(kept)

    def check_count(self, count: int) -> None:
        """Raise ValueError if there are not so many I/Os."""
        if self.length is None and count > 0:
            if self.given[4] is None:
                self._need_numbers(count)
        elif not 0 <= count <= (self.length or 0):
            raise ValueError(f"count is {count}, and the arrays have {self.length or 0} I/Os")

    def _need_numbers(self, count: int) -> None:
        """Let the I/Os' numbers, which are their tags where none are given, go so far."""
        if len(self._numbers) < count:
            self._numbers = np.arange(count, dtype=np.uint64)
            self._point(4, self._numbers, 1)

    def _set(self, index: int, name: str, values: Any, lengths: dict[str, int]) -> object:
        """Set one column; return what was given where that will do for the next call as well."""
        if (
            type(values) is np.ndarray
            and values.dtype.char in _WORDS
            and values.ndim == 1
            and values.flags.c_contiguous
        ):
            lengths[name] = len(values)
            self._point(index, values, 1)
            return values
        found = np.asarray(values)
        if found.size == 0 and found.ndim == 1:
            found = found.astype(np.uint64)
        if found.dtype.kind not in "iu" or found.ndim > 1:
            raise ValueError(f"{name}: whole numbers below 2**64 are wanted, one or an array")
        if found.ndim:
            lengths[name] = len(found)
        # As 64 bits with sign where it has one: what is negative is the highest in C.
        words = found.astype(np.int64 if found.dtype.kind == "i" else np.uint64)
        self._point(index, np.atleast_1d(words), int(found.ndim))
        return self if found.ndim else values

    def _point(self, index: int, words: npt.NDArray[Any], step: int) -> None:
        # An array of no words has no address for cffi.
        words = words if len(words) else _NONE
        pointer = ffi.from_buffer(_U64, words)
        # cffi keeps the memory only as long as this object.
        self._pointers[index], self._values[index] = pointer, words
        column = getattr(self._struct, _COLUMNS[index])
        column.words, column.step = pointer, step

    def column(self, name: str, count: int) -> npt.NDArray[Any]:
        """Return what each of ``count`` I/Os has in a column; not to be written."""
        values = self._values[_COLUMNS.index(name)]
        one = not getattr(self._struct, name).step
        return np.broadcast_to(values[0], (count,)) if one else values[:count]

    def value(self, name: str, item: int) -> int:
        """Return what I/O ``item`` has in a column."""
        index = _COLUMNS.index(name)
        step = getattr(self._struct, name).step
        return int(self._values[index][item * step])

    @property
    def bad(self) -> int:
        """The I/O that was refused."""
        return int(self._struct.bad)

    def next_indices(self, count: int) -> U16Array:
        """Return the indices of the next ``count`` commands; fewer where fewer CIDs are free."""
        count = min(count, len(self._indices))
        found = lib.nvme_batch_indices(self._qp, self._indices_out, count)
        return self._indices[:found]

    def submit(self) -> int:
        """Submit as many as there is room for; return their number, or what C says of an error:
        a negative errno, or ``-1000 -`` a :class:`Fault`.
        """
        return int(lib.nvme_batch_submit(self._qp, self._struct))


class Outcomes:
    """What C reaps into (struct nvme_outcomes): arrays, which each call fills anew."""

    def __init__(self, ring: Ring) -> None:
        self._qp = ring.pointer
        depth = ring.depth
        self.tags: npt.NDArray[np.int64] = np.zeros(depth, np.int64)
        self.status: U16Array = np.zeros(depth, np.uint16)
        self.latency_ns: U64Array = np.zeros(depth, np.uint64)
        #: The same as entries of COMPLETION_DTYPE.
        self.scratch = np.zeros(depth, COMPLETION_DTYPE)
        #: The struct's words; the first is how many the last call reaped.
        self.words = array("Q", bytes(ffi.sizeof("struct nvme_outcomes")))
        self._struct = s = ffi.from_buffer("struct nvme_outcomes *", self.words)
        self._alive = [
            ffi.from_buffer(kind, memory, require_writable=True)
            for kind, memory in (
                ("struct nvme_completion[]", self.scratch),
                ("int64_t[]", self.tags),
                ("uint64_t[]", self.latency_ns),
                ("uint16_t[]", self.status),
            )
        ]
        s.scratch, s.tags, s.latency_ns, s.status = self._alive

    def reap(self, timeout_ns: int) -> int:
        """As :meth:`Ring.reap`; returns the number or a negative errno."""
        return int(lib.nvme_batch_reap(self._qp, self._struct, timeout_ns))
