"""A namespace, or a part of it, as a file object: any offset, any length."""

from __future__ import annotations

import errno
import io
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal

from pynvme_user.dma import as_bytes
from pynvme_user.views.storage import ByteRange

Mode = Literal["rb", "r+b"]
#: Bytes that a buffered file reads ahead, and keeps before it writes.
BUFFERING = 1 << 17


class BufferedNamespaceFile(io.BufferedRandom):
    """A :class:`NamespaceFile` with a buffer, for reading and writing."""

    raw: NamespaceFile

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.raw.size

    def flush(self) -> None:
        """Write what is in the buffer, and make all completed writes durable."""
        super().flush()  # which leaves out the file below
        self.raw.flush()


class NamespaceFile(io.RawIOBase):
    """A file of fixed size, without a buffer of its own; made by :meth:`Namespace.open`.

    Reads and writes of any offset and length; those of whole blocks in a DmaBuffer move without a
    copy. A thread has a file of its own, for its position; their writes keep apart. A write is on
    the device when it returns, and durable once :meth:`flush` has, as after os.fsync().
    """

    def __init__(self, bytes_: ByteRange, mode: Mode, name: str) -> None:
        if mode not in ("rb", "r+b"):
            raise ValueError(
                f"a namespace is opened with the mode 'rb' or 'r+b', not {mode!r}: it has its size"
            )
        self.name = name
        self.mode = mode
        self._bytes = bytes_
        self._at = 0
        #: What is called once the file is closed.
        self.on_close: Callable[[], None] = lambda: None

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._bytes.size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Tell whether it was opened for writing."""
        return self.mode == "r+b"

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; return which. Raises ValueError for one before the first."""
        self._check_open()
        match whence:
            case os.SEEK_SET:
                at = offset
            case os.SEEK_CUR:
                at = self._at + offset
            case os.SEEK_END:
                at = self.size + offset
            case _:
                raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if at < 0:
            raise ValueError(f"there is no byte {at}")
        self._at = at
        return at

    def tell(self) -> int:
        """Return the byte that is read or written next."""
        self._check_open()
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes; return how many."""
        self._check_open()
        array = as_bytes(buffer)
        count = max(min(array.nbytes, self.size - self._at), 0)
        if count:
            self._bytes.read_into(self._at, array[:count])
        self._at += count
        return count

    def write(self, data: Any) -> int:
        """Write bytes; return how many. Raises OSError (ENOSPC) where not one fits."""
        self._check_open()
        if not self.writable():
            raise io.UnsupportedOperation("not writable: open it with the mode 'r+b'")
        array = as_bytes(data)
        count = max(min(array.nbytes, self.size - self._at), 0)
        if array.nbytes and not count:
            raise OSError(errno.ENOSPC, f"{self.name} has {self.size} bytes, and no more")
        if count:
            self._bytes.write_from(self._at, array[:count])
        self._at += count
        return count

    def truncate(self, size: int | None = None) -> int:
        """Return the size, which is fixed. Raises UnsupportedOperation for another one."""
        self._check_open()
        if (self._at if size is None else size) != self.size:
            raise io.UnsupportedOperation(f"{self.name} has {self.size} bytes, and keeps them")
        return self.size

    def flush(self) -> None:
        """Make all completed writes durable (Flush, Base 2.0, section 7.1)."""
        super().flush()
        if self.writable():
            self._bytes.ns.flush()

    def close(self) -> None:
        """Make all completed writes durable, and close it."""
        try:
            super().close()
        finally:
            self.on_close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size} bytes, {self.mode!r}>"


class _Position:
    """A place in a file, of the threads that go on there."""

    def __init__(self) -> None:
        self.at = 0
        self.turn = threading.RLock()


class ThreadsNamespaceFile(NamespaceFile):
    """A :class:`NamespaceFile` for several threads: one that seeks has a position of its own.

    A thread that has none goes on at the only one that there is, which both have from then on.
    Where there are several it is refused with OSError (EBUSY).
    """

    def __init__(self, bytes_: ByteRange, mode: Mode, name: str) -> None:
        self._latest = _Position()
        self._all = weakref.WeakSet((self._latest,))
        self._changing = threading.RLock()
        self._mine = threading.local()
        super().__init__(bytes_, mode, name)
        self._mine = threading.local()  # who opened it has not used it

    def _position(self) -> _Position:
        mine: _Position | None = getattr(self._mine, "position", None)
        if mine is None:
            with self._changing:
                if len(self._all) > 1:
                    raise OSError(
                        errno.EBUSY,
                        f"{self.name}: this thread has no position, and others have several: "
                        "seek() first",
                    )
                mine = self._mine.position = self._latest
        return mine

    @property
    def _at(self) -> int:
        return self._position().at

    @_at.setter
    def _at(self, at: int) -> None:
        self._position().at = at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte, this thread alone; return which."""
        found = _Position()
        if whence == os.SEEK_CUR:
            found.at = self.tell()
        before = getattr(self._mine, "position", None)
        self._mine.position = found
        try:
            at = super().seek(offset, whence)
        except BaseException:
            self._mine.position = before
            raise
        with self._changing:
            self._latest = found
            self._all.add(found)
        return at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes; return how many."""
        with self._position().turn:
            return super().readinto(buffer)

    def write(self, data: Any) -> int:
        """Write bytes; return how many. Raises OSError (ENOSPC) where not one fits."""
        with self._position().turn:
            return super().write(data)
