"""DMA memory that is shared with a vfio-user server: it maps what its descriptor names.

A server that does not map it, but asks for reads and writes of it by message, is answered from
the same table, and from nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import threading

from pynvme_user import owned
from pynvme_user.access.base import DmaRegion
from pynvme_user.access.iova import IovaSpace
from pynvme_user.access.memory import PAGE_SIZE, allocate_file
from pynvme_user.access.vfio_user_messages import (
    DEFAULT_MAX_DATA_XFER_SIZE,
    DMA_REGION_READ,
    DMA_REGION_WRITE,
    Command,
    DmaAccess,
    DmaMap,
    DmaUnmap,
)
from pynvme_user.access.vfio_user_socket import Connection, RefusedError
from pynvme_user.errors import DmaError, NvmeError
from pynvme_user.host.numa import Placement
from pynvme_user.units import format_size

_IOVA_BITS = 47  # what any server's pointers hold
#: A server that hands the memory on to a real device does so in pieces of this size.
_ALIGNMENT = 2 << 20
#: Servers take a few regions (64 in libvfio-user), so each is as large as all before it, up to
#: this: small buffers then share regions, whatever their number.
_LARGEST_STEP = 256 << 20
#: The beginning of each region is mapped, but not given out. When SPDK's target (26.09) unmaps a
#: region it also takes away, without a word, a queue that begins at the first byte after it, which
#: is where it has mapped the region that was there before: no queue may begin a region.
_UNUSED = PAGE_SIZE


class SharedMemory:
    """The regions that the server may reach, by their IOVA. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._regions: dict[int, DmaRegion] = {}

    def add(self, region: DmaRegion) -> None:
        """Let the server's requests reach a region."""
        with self._lock:
            self._regions[region.iova] = region

    def remove(self, iova: int) -> DmaRegion | None:
        """Take a region away; None if there is none. No request touches it after the return."""
        with self._lock:
            return self._regions.pop(iova, None)

    def answer(self, command: int, payload: bytes) -> bytes:
        """Serve DMA_READ and DMA_WRITE: the bytes must all lie in one region.

        Raises OSError, whose errno goes back to the server, for any other request.
        """
        head = ctypes.sizeof(DmaAccess)
        if command not in (Command.DMA_READ, Command.DMA_WRITE) or len(payload) < head:
            raise OSError(errno.EOPNOTSUPP, "no request that a client serves")
        access = DmaAccess.from_buffer_copy(payload)
        start, count = int(access.address), int(access.count)
        if count > DEFAULT_MAX_DATA_XFER_SIZE:
            raise OSError(errno.EINVAL, "more than was agreed on")
        if command == Command.DMA_WRITE and len(payload) != head + count:
            raise OSError(errno.EINVAL, "more or less data than announced")
        with self._lock:
            region = self._find(start, count)
            address = region.address + start - region.iova
            if command == Command.DMA_READ:
                return payload[:head] + ctypes.string_at(address, count)
            ctypes.memmove(address, payload[head:], count)
        return payload[:head]

    def _find(self, start: int, count: int) -> DmaRegion:
        for region in self._regions.values():
            if region.iova <= start and start + count <= region.iova + region.length:
                return region
        raise OSError(errno.EFAULT, "not memory that was mapped")


class SharedDma:
    """Allocates memory and maps it in the server."""

    def __init__(self, name: str, connection: Connection, shared: SharedMemory) -> None:
        self._name = name
        self._connection = connection
        self._shared = shared
        self._iovas = IovaSpace([(0, (1 << _IOVA_BITS) - 1)])
        self._mapped: dict[int, DmaRegion] = {}  # whole, by the IOVA of what was given out

    def allocate(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Allocate and map at least ``length`` bytes of zeroed memory.

        Raises DmaError when the server does not map it, DeviceRemovedError.
        """
        total = sum(region.length for region in self._mapped.values())
        length = max(length, min(total, _LARGEST_STEP)) + _UNUSED
        memory, fd = allocate_file((length + _ALIGNMENT - 1) & -_ALIGNMENT, placement)
        try:
            # Nobody can shorten it under us, which would turn our next access into a SIGBUS.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
            iova = self._iovas.allocate(memory.length, max(memory.page_size, _ALIGNMENT))
            whole = DmaRegion(memory.address, memory.length, iova, memory)
            self._map(whole, fd)
        finally:
            owned.close(fd)
        self._mapped[iova + _UNUSED] = whole
        return DmaRegion(memory.address + _UNUSED, memory.length - _UNUSED, iova + _UNUSED, memory)

    def reserve(self, length: int) -> int:
        """Take an address for memory of the server's own, which nothing is mapped at."""
        return self._iovas.allocate((length + _ALIGNMENT - 1) & -_ALIGNMENT, _ALIGNMENT)

    def _map(self, region: DmaRegion, fd: int) -> None:
        request = DmaMap(
            argsz=ctypes.sizeof(DmaMap),
            flags=DMA_REGION_READ | DMA_REGION_WRITE,
            address=region.iova,
            size=region.length,
        )
        what = f"the mapping of {format_size(region.length)} of memory"
        self._shared.add(region)
        try:
            self._connection.request(Command.DMA_MAP, bytes(request), what, descriptors=[fd])
        except NvmeError as error:
            self._shared.remove(region.iova)
            if not isinstance(error, RefusedError):
                raise
            self._iovas.release(region.iova, region.length)
            raise DmaError(
                f"{error}, with {len(self._mapped)} regions mapped: release buffers, or see what "
                "the server says"
            ) from error

    def release(self, region: DmaRegion) -> None:
        """Unmap. Raises DmaError if the server does not; the address is not used again then."""
        whole = self._mapped.pop(region.iova, None)
        if whole is None:
            raise DmaError(f"{self._name} has no DMA mapping at {region.iova:#x}: released twice?")
        self._unmap(whole)

    def _unmap(self, region: DmaRegion) -> None:
        self._shared.remove(region.iova)
        if not self._connection.alive:
            return  # and the server's mappings ended with it
        request = DmaUnmap(argsz=ctypes.sizeof(DmaUnmap), address=region.iova, size=region.length)
        try:
            self._connection.request(
                Command.DMA_UNMAP, bytes(request), f"the unmapping of IOVA {region.iova:#x}"
            )
        except RefusedError as error:
            raise DmaError(f"{error}: close the device") from error
        self._iovas.release(region.iova, region.length)

    def close(self) -> None:
        """Unmap everything that a server that still answers has mapped."""
        while self._mapped:
            with contextlib.suppress(NvmeError):  # the connection's end unmaps it as well
                self._unmap(self._mapped.popitem()[1])
