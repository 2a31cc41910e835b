"""The C core's extension, of which this is the only importer.

``lib`` has its functions, ``ffi`` makes what they take. :func:`fail` turns the negative errno that
they return into an exception; :func:`tick_rate` and :class:`ClockWatch` are the clock of the I/O
path (_clock.h).
"""

from __future__ import annotations

import errno
import os
import time
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pynvme_user._ring_cffi import ffi, lib
from pynvme_user.errors import (
    ControllerFatalError,
    DeviceRemovedError,
    DmaError,
    NvmeError,
    QueueFullError,
)

__all__ = [
    "ClockWatch",
    "U16Array",
    "U32Array",
    "U64Array",
    "check_result",
    "dtype_of",
    "fail",
    "ffi",
    "layout",
    "lib",
    "new_lines",
    "tick_rate",
]

U16Array = npt.NDArray[np.uint16]
U32Array = npt.NDArray[np.uint32]
U64Array = npt.NDArray[np.uint64]


_CACHE_LINE = 64


def new_lines(ctype: str, count: int = 1) -> Any:
    """Zeroed C structures that begin a cache line; the pointer's owner comes with it."""
    length = ffi.sizeof(ctype) * count
    memory = np.zeros(length + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return ffi.from_buffer(f"{ctype}[]", memory[start : start + length], require_writable=True)


def dtype_of(ctype: str) -> np.dtype[np.void]:
    """Tell a C structure's layout to numpy: names, types and places are the header's."""
    return _dtype(ffi.typeof(ctype))


def _dtype(ctype: Any) -> np.dtype[Any]:
    if ctype.kind == "array":
        return np.dtype((_dtype(ctype.item), ctype.length))
    if ctype.kind == "primitive":
        # Its sign, as C has it: an unsigned -1 is the greatest value.
        kind = "i" if int(ffi.cast(ctype, -1)) < 0 else "u"
        return np.dtype(f"{kind}{ffi.sizeof(ctype)}")
    if ctype.kind != "struct":
        raise TypeError(f"{ctype.cname} is nothing that numpy has a type for")
    names, members = zip(*ctype.fields, strict=True)
    return np.dtype(
        {
            "names": names,
            "formats": [_dtype(member.type) for member in members],
            "offsets": [member.offset for member in members],
            "itemsize": ffi.sizeof(ctype),
        }
    )


def check_result(result: int) -> int:
    """Return what a C function gave, or raise the exception for a negative errno."""
    if result < 0:
        fail(result)
    return result


def fail(err: int) -> NoReturn:
    """Raise the exception for a negative errno of the C core."""
    match -err:
        case errno.EAGAIN:
            raise QueueFullError("the queue is full: poll for completions before submitting more")
        case errno.EPROTO:
            raise ControllerFatalError(
                "the controller completed a command that is not outstanding and was reset: what it "
                "completed before may be wrong as well, so check the data, or replace the drive"
            )
        case errno.EINVAL:
            raise DmaError("the buffer does not start at a multiple of 4 bytes")
        case errno.EMSGSIZE:
            raise DmaError("the transfer is larger than the queue pair's PRP lists can describe")
        case errno.EBUSY:
            raise ValueError("commands are outstanding on the queue pair: poll or drain it first")
        case errno.EPIPE | errno.ETIMEDOUT:
            raise DeviceRemovedError(
                "the device's process is gone or no longer answers: open the device again"
            )
    raise NvmeError(f"the C core failed: {os.strerror(-err)}")


def layout(structure: str, member: str) -> int:
    """Offset of a member of the C core's ``sqe`` or ``cqe``, as the compiler laid it out."""
    return int(lib.nvme_layout(structure.encode(), member.encode()))


def tick_rate() -> int:
    """Ticks in a second."""
    return int(lib.nvme_tick_rate())


class ClockWatch:
    """Holds the clock of the I/O path (_clock.h) against CLOCK_MONOTONIC."""

    #: Two readings one after the other, of a thread that may lose its CPU in between.
    _SLACK = 0.05
    #: What the rate may be off, beyond the error with which it is measured.
    _RATE = 1e-3

    def __init__(self) -> None:
        self._monotonic, self._ticks = time.monotonic(), int(lib.nvme_ticks())

    def stepped(self) -> bool:
        """Tell whether it went back or ahead since the last call."""
        monotonic, ticks = time.monotonic(), int(lib.nvme_ticks())
        passed = monotonic - self._monotonic
        counted = (ticks - self._ticks) / tick_rate()
        self._monotonic, self._ticks = monotonic, ticks
        return abs(counted - passed) > self._SLACK + self._RATE * passed
