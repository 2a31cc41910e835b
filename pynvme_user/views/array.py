"""A namespace, or a part of it, as an array: an index reads it, an assignment writes it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import as_bytes
from pynvme_user.views.storage import ByteRange


class NamespaceArray:
    """An array in C order whose elements lie on the device; made by :meth:`Namespace.as_array`.

    ``array[key]`` reads rows, those along the first axis that the key names, and gives an array in
    memory; ``array[key] = value`` writes them, at once. Keys are numpy's; of index arrays and masks
    one, for the first axis. What is not whole rows, or has a step, reads the rows from the first to
    the last that is named. Thread-safe as a file is: writes of the same blocks exclude each other,
    a key that is read and written is not one step.
    """

    def __init__(
        self,
        bytes_: ByteRange,
        dtype: npt.DTypeLike,
        shape: tuple[int, ...],
        alloc: Callable[[int], npt.NDArray[np.uint8]],
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self._bytes = bytes_
        self._alloc = alloc
        self._row = self.dtype.itemsize * math.prod(shape[1:])  # bytes
        if self.dtype.hasobject or not self.dtype.itemsize:
            raise ValueError(f"elements of {self.dtype} have no bytes of their own")

    @property
    def ndim(self) -> int:
        """Its number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all of it."""
        if copy is False:
            raise ValueError("what lies on the device is read into memory: that is a copy")
        whole = self.read(0, len(self))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def read(self, start: int, stop: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read the rows from ``start`` up to ``stop``, into ``out`` where it is given.

        ``out`` is a contiguous array of that shape and type, best over a buffer of
        :meth:`Controller.alloc`, into which the device writes itself. Raises IndexError for rows
        that there are not, ValueError for another ``out``; else as :meth:`Namespace.read_into`.
        """
        self._check_rows(start, stop)
        shape = (stop - start, *self.shape[1:])
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"out is a contiguous array of {shape} and {self.dtype}, not of {out.shape} and "
                f"{out.dtype}"
            )
        if out.nbytes:
            self._bytes.read_into(start * self._row, as_bytes(out))
        return out

    def write(self, start: int, rows: npt.NDArray[Any]) -> None:
        """Write rows from ``start`` on."""
        self._check_rows(start, start + len(rows))
        rows = np.ascontiguousarray(rows, self.dtype)
        if rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows have the shape {self.shape[1:]}, not {rows.shape[1:]}")
        if rows.nbytes:
            self._bytes.write_from(start * self._row, as_bytes(rows))

    def flush(self) -> None:
        """Make all that was written durable."""
        self._bytes.ns.flush()

    @contextmanager
    def edit(self, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """Give rows in memory, and write them back at the end of the context, without an error."""
        rows = self.read(start, stop)
        yield rows
        self.write(start, rows)

    def stream(
        self, rows: int, *, ahead: int = 2, start: int = 0, stop: int | None = None
    ) -> Iterator[npt.NDArray[Any]]:
        """Read all rows, ``rows`` at a time, with ``ahead`` such reads under way in a thread.

        Each is an array over DMA memory, which is valid until the next one is asked for; the last
        may have fewer rows.
        """
        stop = len(self) if stop is None else stop
        self._check_rows(start, stop)
        if rows < 1 or ahead < 1:
            raise ValueError(f"rows and ahead are 1 or more, not {rows} and {ahead}")
        return self._stream(rows, ahead, range(start, stop, rows), stop)

    def _stream(
        self, rows: int, ahead: int, starts: range, stop: int
    ) -> Iterator[npt.NDArray[Any]]:
        buffers = [self._alloc(max(rows * self._row, 1)) for _ in range(ahead + 1)]

        def fill(number: int) -> npt.NDArray[Any]:
            first = starts[number]
            count = min(rows, stop - first)
            memory = buffers[number % len(buffers)][: count * self._row]
            out = memory.view(self.dtype).reshape(count, *self.shape[1:])
            return self.read(first, first + count, out)

        with ThreadPoolExecutor(1, "nvme-read-ahead") as thread:
            coming: list[Future[npt.NDArray[Any]]] = []
            try:
                for number in range(len(starts)):
                    while number + len(coming) < min(number + ahead, len(starts)):
                        coming.append(thread.submit(fill, number + len(coming)))
                    yield coming.pop(0).result()
            finally:
                for future in coming:
                    future.cancel()

    # --- numpy's keys -------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        first, rest = self._split(key)
        if isinstance(first, np.ndarray):
            rows = np.empty((len(first), *self.shape[1:]), self.dtype)
            for at, low, high in _runs(first):
                self.read(low, high, rows[at : at + high - low])
            return rows[(slice(None), *rest)]
        low, high, local = self._covering(first)
        return self.read(low, high)[(local, *rest)]

    def __setitem__(self, key: Any, value: Any) -> None:
        first, rest = self._split(key)
        if isinstance(first, np.ndarray):
            rows = np.empty((len(first), *self.shape[1:]), self.dtype)
            if rest:
                rows[:] = self[first]
            rows[(slice(None), *rest)] = value
            for at, low, high in _runs(first):
                self.write(low, rows[at : at + high - low])
            return
        low, high, local = self._covering(first)
        whole = not rest and (isinstance(local, int) or local.step in (1, None))
        rows = (
            np.empty((high - low, *self.shape[1:]), self.dtype) if whole else self.read(low, high)
        )
        rows[(local, *rest)] = value
        self.write(low, rows)

    def _split(self, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """Take a key apart: what it says of the first axis, and of the others."""
        parts = key if isinstance(key, tuple) else (key,)
        if any(part is None for part in parts):
            raise IndexError("a new axis is numpy's to make: index what was read")
        if any(isinstance(part, bool | np.bool_) for part in parts):
            raise IndexError("True and False are no rows: a mask has one for each")
        if not parts or parts[0] is Ellipsis:
            named = len([part for part in parts if part is not Ellipsis])
            parts = (slice(None),) * (self.ndim - named) + parts[1:]
        first, rest = parts[0] if parts else slice(None), parts[1:]
        if any(not isinstance(part, slice | str) and np.ndim(part) for part in rest):
            raise IndexError("an index array is for the first axis: use it on what was read")
        if isinstance(first, list | tuple | np.ndarray):
            first = np.asarray(first)
            if first.dtype == bool:
                if first.shape != self.shape[:1]:
                    raise IndexError(f"a mask has {len(self)} elements, not {first.shape}")
                first = np.flatnonzero(first)
            if first.ndim != 1 or (first.size and first.dtype.kind not in "iu"):
                raise IndexError("an index array has one axis, and whole numbers")
            if first.size and not -len(self) <= int(first.min()) <= int(first.max()) < len(self):
                raise IndexError(f"there are rows 0 to {len(self) - 1}")
            first = first.astype(np.intp)  # one of fewer bits may have no room for their number
            first = np.where(first < 0, first + len(self), first)
        return first, rest

    def _covering(self, key: Any) -> tuple[int, int, Any]:
        """Say which rows an index or slice is about, and what it is within them."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            count = len(range(start, stop, step))
            if not count:
                return 0, 0, slice(0, 0)
            last = start + (count - 1) * step
            low, high = min(start, last), max(start, last) + 1
            return low, high, slice(None, None, step)
        row = operator.index(key)
        if not -len(self) <= row < len(self):
            raise IndexError(f"there are rows 0 to {len(self) - 1}, not {row}")
        row %= len(self)
        return row, row + 1, 0

    def _check_rows(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} to {stop} are not all in the array, of {len(self)}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.shape}, {self.dtype}>"


def _runs(rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """Divide indices into runs that go up by one: where each begins, its first row and its end."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    for part in np.split(np.arange(len(rows)), ends):
        if len(part):
            at = int(part[0])
            yield at, int(rows[at]), int(rows[at]) + len(part)
