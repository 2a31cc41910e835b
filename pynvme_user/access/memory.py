"""Memory for DMA: hugepages or ordinary pages of an anonymous memfd, never a named file.

Nothing appears in a file system, so nothing is left behind by a process that is killed. It is
shared memory, so that a fork does not turn it into copy-on-write pages behind the device's back.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import threading

from pynvme_user import owned
from pynvme_user.errors import DmaError
from pynvme_user.host import numa
from pynvme_user.host.hugepages import hugepages
from pynvme_user.host.numa import Placement

PAGE_SIZE = mmap.PAGESIZE

_MFD_HUGE_SHIFT = 26  # linux/memfd.h: log2 of the hugepage's size goes here
_MAP_FIXED = 0x10
_MADV_REMOVE, _MADV_DONTFORK, _MADV_POPULATE_WRITE = 9, 10, 23
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_longlong,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def map_shared(
    fd: int, length: int, offset: int = 0, *, at: int | None = None, flags: int = 0
) -> int:
    """Map a file for reading and writing; return the address. The caller unmaps it.

    ``at`` replaces what is mapped there. Raises OSError. (Python's own mmap gives no address,
    and keeps a descriptor for each mapping: thousands of buffers would exhaust them.)
    """
    flags |= mmap.MAP_SHARED | (0 if at is None else _MAP_FIXED)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc.mmap(at, length, protection, flags, fd, offset)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def unmap(address: int, length: int) -> None:
    """Undo :func:`map_shared`. Raises OSError."""
    if _libc.munmap(address, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def populate(address: int, length: int) -> None:
    """Take all pages of a mapping now. Raises OSError where there are not so many.

    MAP_POPULATE would say nothing, and the first touch be a SIGBUS: a hugepage that is reserved
    need not be on the node that the memory is bound to.
    """
    _advise(address, length, _MADV_POPULATE_WRITE)


def discard(address: int, length: int) -> None:
    """Give the pages of a mapping back, whoever else maps them; they read as zeroes then."""
    _advise(address, length, _MADV_REMOVE)


def keep_from_children(address: int, length: int) -> None:
    """Let no forked child have a mapping. Raises OSError."""
    _advise(address, length, _MADV_DONTFORK)


def _advise(address: int, length: int, advice: int) -> None:
    if _libc.madvise(address, length, advice):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Memory:
    """``length`` bytes mapped at ``address``, in pages of ``page_size``; zeroed at first.

    It is unmapped with the last reference to this object, which is a DmaRegion's ``owner``: an
    array that outlives its device reads stale bytes, and does not crash. That the device no
    longer writes there is for the IOMMU, or for whoever stops the device, to see to.
    """

    def __init__(self, address: int, length: int, page_size: int) -> None:
        self.address = address
        self.length = length
        self.page_size = page_size

    def __del__(self) -> None:
        unmap(self.address, self.length)


class SharedRam:
    """A mapping of a file that another process maps, too; windows of it are given out.

    Until :meth:`close` all of it stays mapped. Then only the windows do that somebody still looks
    at, each until nobody does; the pages of all else go back at once.
    """

    def __init__(self, fd: int, length: int) -> None:
        self.address = map_shared(fd, length)
        self.length = length
        self._windows: dict[int, tuple[int, int]] = {}  # those that are looked at
        self._numbers = itertools.count()
        self._closed = False
        self._foreign = False
        # Reentrant: the garbage collector may take a window in the middle of this.
        self._lock = threading.RLock()
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Leave the pages to process ``owner``, in a child of it."""
        self._foreign = True
        self._lock = threading.RLock()

    def window(self, offset: int, length: int) -> Window:
        """Give out whole pages: memory that stays mapped as long as the window lives."""
        with self._lock:
            number = next(self._numbers)
            self._windows[number] = (self.address + offset, length)
            return Window(self, number, self.address + offset)

    def windows(self) -> list[tuple[int, int]]:
        """Tell the (offset, length) of those that somebody still looks at."""
        with self._lock:
            return [(address - self.address, size) for address, size in self._windows.values()]

    def close(self) -> None:
        """Give back what nobody looks at. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            start = self.address
            for address, length in [*sorted(self._windows.values()), (start + self.length, 0)]:
                if address > start:
                    self._free(start, address - start)
                start = max(start, address + length)

    def release(self, number: int) -> None:
        """Take a window that nobody looks at any more; while the memory is open it stays mapped."""
        with self._lock:
            address, length = self._windows.pop(number)
            # What was given out again before it came back is the next window's.
            if self._closed and not any(
                other < address + length and address < other + more
                for other, more in self._windows.values()
            ):
                self._free(address, length)

    def _free(self, address: int, length: int) -> None:
        if not self._foreign:
            discard(address, length)
        unmap(address, length)

    def __del__(self) -> None:
        self.close()


class Window:
    """A part of a :class:`SharedRam`, from ``address`` on."""

    def __init__(self, memory: SharedRam, number: int, address: int) -> None:
        self._memory = memory
        self._number = number
        self.address = address

    def __del__(self) -> None:
        self._memory.release(self._number)


def memory_file(length: int, page_size: int) -> int:
    """Make an anonymous file of ``length`` bytes in pages of ``page_size``; return its descriptor.

    The descriptor can be passed to another process, and is for owned.close(). Raises OSError;
    hugepages that are not there show only when it is mapped.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if page_size > PAGE_SIZE:
        flags |= os.MFD_HUGETLB | (page_size.bit_length() - 1) << _MFD_HUGE_SHIFT
    fd = owned.descriptor(os.memfd_create, "pynvme_user", flags)
    try:
        os.ftruncate(fd, length)
    except BaseException:
        owned.close(fd)
        raise
    return fd


def allocate(length: int, placement: Placement | None = None) -> Memory:
    """Allocate at least ``length`` bytes, in the largest pages of which it fills half of one.

    Falls back to smaller pages where there are not enough hugepages: behind an IOMMU each is as
    safe. Raises DmaError when there is no memory at all, or none where it is bound to.
    """
    memory, fd = allocate_file(length, placement)
    owned.close(fd)
    return memory


def allocate_file(length: int, placement: Placement | None = None) -> tuple[Memory, int]:
    """Allocate as :func:`allocate` does; give the file's descriptor too, for owned.close().

    Whoever is passed it maps the same memory.
    """
    sizes = sorted((size for size, free in hugepages(placement).items() if free), reverse=True)
    for page_size in [*(size for size in sizes if length > size // 2), PAGE_SIZE]:
        try:
            return _allocate_pages((length + page_size - 1) & -page_size, page_size, placement)
        except OSError as error:
            why = error.strerror  # not the error: its traceback would keep what was mapped
    where = f" placed by {placement}" if placement else ""
    raise DmaError(
        f"no memory for a DMA buffer of {length} bytes{where} ({why}): release buffers first"
    )


def allocate_pages(length: int) -> Memory:
    """Allocate so many bytes, whole pages, in ordinary pages. Raises DmaError."""
    try:
        memory, fd = _allocate_pages(length, PAGE_SIZE, None)
    except OSError as error:
        raise DmaError(f"no memory of {length} bytes ({error.strerror}): ask for less") from None
    owned.close(fd)
    return memory


def _allocate_pages(length: int, page_size: int, placement: Placement | None) -> tuple[Memory, int]:
    if page_size == PAGE_SIZE:
        if placement is not None:
            numa.check_room(length, placement)
        numa.check_memory(length)
    fd = memory_file(length, page_size)
    try:
        memory = Memory(map_shared(fd, length), length, page_size)
        if placement is not None:
            numa.place(memory.address, length, placement)
        populate(memory.address, length)
    except BaseException:
        owned.close(fd)
        raise
    return memory, fd
