"""DMA memory: an allocator over the regions that an access provides, and the buffers in it.

Every address that goes into a command comes from here, and only for memory that is mapped for
the transfer's whole length (invariant 2). Memory goes back when nothing looks at it any more:
no array, no memoryview, and no queue pair with a command outstanding on it (invariant 1).
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from pynvme_user import owned
from pynvme_user.access.base import DmaRegion
from pynvme_user.errors import ClosedError, DeviceRemovedError, DmaError, ForkedError
from pynvme_user.host.numa import Node, Placement, near
from pynvme_user.units import format_size, whole_number

if TYPE_CHECKING:
    from typing_extensions import Buffer  # of which a type checker knows without the package

    #: What data may be: anything contiguous with the buffer protocol, an array included.
    BytesLike: TypeAlias = Buffer | npt.NDArray[Any]
else:
    BytesLike = object

PAGE = 4096
#: The access is asked for at least this much at a time: one huge page, one mapping.
_GROW = 2 << 20
#: The length of the bounce buffers that are kept for the next use, and how many of them.
SPARE = 64 << 10
_SPARES = 8


class DeviceMemory(NamedTuple):
    """Memory that is the device's own: what its data may be (Base 2.1, 8.2.1 and 8.2.2)."""

    name: str
    rds: bool  # Read Data Support: of commands that bring data
    wds: bool  # Write Data Support: of commands that take data
    cdmmms: bool  # data in it, its metadata elsewhere, or the other way round
    lasts: bool = True  # as long as the device is open

    def check(self, opcode: int) -> None:
        """Raise DmaError where its bytes may not be the data of a command (bits 1:0 of opcode)."""
        for way, allowed, field in ((2, self.rds, "RDS"), (1, self.wds, "WDS")):
            if opcode & way and not allowed:
                what = "bring data into" if way == 2 else "take data from"
                raise DmaError(
                    f"the controller has no commands {what} {self.name} ({field} is 0): use a "
                    "buffer from Controller.alloc()"
                )


class Extents:
    """The free extents of one region: (offset, length) pairs in order, never adjacent.

    ``own`` is what is known of the device's own memory; None: it is the host's.
    """

    def __init__(
        self, region: DmaRegion, placement: Placement | None, own: DeviceMemory | None = None
    ) -> None:
        self.region = region
        self.placement = placement
        self.own = own
        self.free = [(0, region.length)]

    def take(self, length: int) -> int | None:
        """Take the first extent that is long enough; return its offset, or None."""
        for index, (offset, free) in enumerate(self.free):
            if free >= length:
                if free == length:
                    del self.free[index]
                else:
                    self.free[index] = (offset + length, free - length)
                return offset
        return None

    def give(self, offset: int, length: int) -> None:
        """Put an extent back and join it with its neighbours."""
        index = bisect_right(self.free, (offset, length))
        if index < len(self.free) and self.free[index][0] == offset + length:
            length += self.free.pop(index)[1]
        if index and sum(self.free[index - 1]) == offset:
            offset, before = self.free.pop(index - 1)
            length += before
        insort(self.free, (offset, length))

    @property
    def unused(self) -> bool:
        """Whether all of it is free."""
        return self.free == [(0, self.region.length)]


class Mapping(NamedTuple):
    """What a transfer of a whole buffer takes."""

    pool: DmaPool | None
    iova: int  # a multiple of 4
    length: int  # bytes


NO_MAPPING = Mapping(None, 0, 0)


class Allocation:
    """A piece of DMA memory. The arrays over it hold it; it goes back with the last of them."""

    #: What is known of the device's own memory; None: it is the host's.
    own: DeviceMemory | None = None
    #: CUDA was told of it.
    page_locked = False

    def __init__(self, pool: DmaPool, address: int, length: int, iova: int, owner: object) -> None:
        self.pool: DmaPool | None = pool
        self.address = address
        self.length = length
        self.iova = iova
        self._owner = owner

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": (self.length,),
            "typestr": "|u1",
            "data": (self.address, False),
        }


class DmaBuffer(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes that the device reaches: a numpy array (uint8) with the buffer protocol.

    Slices and views of it are DMA buffers too, each with its own :attr:`iova`. Its memory stays
    as long as any array, slice or memoryview of it lives, and as long as the device may touch it.
    """

    _allocation: Allocation | None
    _iova: int | None
    #: What a transfer of the whole buffer takes, once it is known that nothing is against one in
    #: either direction. QueuePairPool.transfer() compares it by identity, since each question to an
    #: array costs it dearly: it stays the same object as long as it is true.
    mapping: Mapping

    def __array_finalize__(self, parent: object) -> None:
        self._allocation = getattr(parent, "_allocation", None)
        self._iova = None
        self.mapping = NO_MAPPING

    def setflags(self, *flags: Any, **named: Any) -> None:
        """As numpy's, which every change of a flag comes through."""
        self.mapping = NO_MAPPING
        super().setflags(*flags, **named)

    def __array_wrap__(
        self, array: Any, context: Any = None, return_scalar: SupportsIndex = False
    ) -> Any:
        # The result of a computation lies in ordinary memory: an ordinary array.
        array = np.asarray(array)
        return array[()] if return_scalar else array

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The same bytes as a plain numpy array."""
        return self.view(np.ndarray)

    @property
    def iova(self) -> int:
        """The address of the first byte as the device sees it.

        Raises DmaError for what only looks like a buffer: a copy, or a view with gaps.
        """
        iova, allocation, flags = self._iova, self._allocation, self.flags
        if iova is None:
            offset = -1
            if allocation is not None and flags.c_contiguous:
                offset = self.__array_interface__["data"][0] - allocation.address
            if allocation is None or offset < 0 or offset + self.nbytes > allocation.length:
                raise DmaError(
                    "this array is a copy or has gaps: use a contiguous slice of a DmaBuffer"
                )
            iova = self._iova = allocation.iova + offset
        if self.mapping is NO_MAPPING and allocation and flags.writeable and not iova & 3:
            own = allocation.own
            if own is None or (own.lasts and own.rds and own.wds):
                self.mapping = Mapping(allocation.pool, iova, self.nbytes)
        return iova

    def page_lock(self) -> bool:
        """Tell CUDA that the memory is page-locked, so that copies to a GPU run beside other work.

        Only where the program has imported torch and that has a GPU; return whether CUDA knows it.
        It is all of the memory that :meth:`Controller.alloc` gave for this buffer, until that goes
        back.
        """
        torch, allocation = sys.modules.get("torch"), self._allocation
        if torch is None or allocation is None or not torch.cuda.is_available():
            return False
        if not allocation.page_locked:
            cudart = torch.cuda.cudart()
            if int(cudart.cudaHostRegister(allocation.address, allocation.length, 0)):
                return False
            allocation.page_locked = True
            # Called before the memory goes back: the finalizer that was made last comes first.
            unlock = partial(_page_unlock, cudart, allocation.address)
            weakref.finalize(allocation, unlock).atexit = False
        return True


def _page_unlock(cudart: Any, address: int) -> None:
    if owned.is_here():  # CUDA is not for a forked child
        cudart.cudaHostUnregister(address)


def address_of(array: npt.NDArray[Any]) -> int:
    """Address of an array's first byte in this process."""
    address: int = array.__array_interface__["data"][0]
    return address


def as_bytes(data: BytesLike) -> npt.NDArray[np.uint8]:
    """View any contiguous bytes-like as an array of bytes, without a copy.

    Raises TypeError for what is none, ValueError for what has gaps.
    """
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise ValueError("the array has gaps: pass a contiguous one")
        return data.reshape(-1).view(np.uint8)
    try:
        view = memoryview(data)
    except TypeError:
        encode = ": encode it" if isinstance(data, str) else ""
        raise TypeError(
            f"data is bytes, a bytearray, an array, a buffer from alloc() or the like, not "
            f"{type(data).__name__}{encode}"
        ) from None
    if not view.c_contiguous:
        raise ValueError("the memoryview has gaps: pass a contiguous one")
    return np.frombuffer(view.cast("B"), np.uint8)


def _buffer(allocation: Allocation) -> DmaBuffer:
    buffer = np.asarray(allocation).view(DmaBuffer)
    buffer._allocation = allocation
    return buffer


class Bounce:
    """Memory that the device reaches, for data that lies elsewhere."""

    def __init__(self, buffer: DmaBuffer) -> None:
        self._buffer = buffer
        self.bytes = memoryview(buffer.data)
        assert buffer.iova % 4 == 0
        #: As :attr:`DmaBuffer.mapping`, of the part that is in use.
        self.mapping = buffer.mapping

    def use(self, length: int) -> None:
        """Let a transfer take the first ``length`` bytes."""
        if self.mapping.length != length:
            self.mapping = self.mapping._replace(length=length)

    @property
    def part(self) -> DmaBuffer:
        """The part that is in use, as a buffer."""
        part = self._buffer[: self.mapping.length]
        assert isinstance(part, DmaBuffer)
        return part


class MemorySource(Protocol):
    """Where the memory comes from that a device reaches: see :class:`Access`."""

    name: str
    numa_node: int | None

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Provide at least ``length`` bytes of zeroed memory, contiguous in IOVA."""

    def release_dma(self, region: DmaRegion) -> None:
        """Take a region back."""

    def map_dma(self, address: int, length: int) -> DmaRegion:
        """Map memory that the user brings."""


class DmaPool:
    """The DMA memory of one controller. Thread-safe."""

    def __init__(self, source: MemorySource) -> None:
        self._source = source
        node = source.numa_node
        self._placement = near(() if node is None else (node,))
        self._regions: list[Extents] = []
        # Reentrant: a finalizer may run in the middle of an allocation, by the garbage collector.
        self._lock = threading.RLock()
        #: What finalizers gave back while another thread held the lock; for whoever has it next.
        self._given: deque[Callable[[], None]] = deque()
        #: Bounce buffers that nobody uses.
        self._spares: list[Bounce] = []
        self._closed = False
        self._removed = False
        self._owner: int | None = None  # in a forked child: the process that opened the device
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Give no more memory out, and none back, in a child of process ``owner``."""
        self._lock = threading.RLock()
        self._given.clear()
        self._spares.clear()
        self._closed = True
        self._owner = owner

    def add(self, region: DmaRegion, own: DeviceMemory) -> Extents:
        """Let :meth:`alloc` take from memory of the device's own, where it is asked to."""
        extents = Extents(region, None, own)
        with self._lock:
            self._check_open()
            self._regions.append(extents)
        return extents

    def remove(self, extents: Extents, buffer: DmaBuffer) -> None:
        """Take memory out that does not last, and the one buffer that has it: the device does not
        reach it any more.
        """
        with self._lock:
            if extents in self._regions:
                self._regions.remove(extents)
        if buffer._allocation is not None:
            buffer._allocation.pool = None

    def alloc(
        self,
        length: int,
        *,
        node: Node = None,
        zero: bool = True,
        within: Extents | None = None,
    ) -> DmaBuffer:
        """Allocate ``length`` bytes, page-aligned and contiguous in IOVA.

        They lie on the NUMA ``node``, or where the placement says; without either, near the
        device; or ``within`` the device's own. Raises ValueError for a length below 1 or a negative
        node, DmaError when there is no such memory, DeviceRemovedError when the device is gone, and
        ClosedError.
        """
        length = whole_number(length, "the length of a buffer")
        if length < 1:
            raise ValueError(f"a buffer has 1 byte or more, not {length}")
        whole = -(-length // PAGE) * PAGE
        placement = self._placement if node is None else Placement.on(node)
        with self._lock:
            self._check_open()
            if self._given:
                self._take_back()
            extents, offset = (
                self._take(whole, placement) if within is None else self._take_own(whole, within)
            )
        region = extents.region
        allocation = Allocation(
            self, region.address + offset, length, region.iova + offset, region.owner
        )
        allocation.own = extents.own
        give = partial(self._give, extents, offset, whole)
        weakref.finalize(allocation, self._finalize, give).atexit = False
        if zero:
            ctypes.memset(allocation.address, 0, length)
        return _buffer(allocation)

    def _check_open(self) -> None:
        if self._owner is not None:
            raise ForkedError(self._source.name, self._owner)
        if self._removed:
            raise DeviceRemovedError("the device is gone: open it again when it is back")
        if self._closed:
            raise ClosedError("the controller is closed: open it again")

    def _take(self, length: int, placement: Placement | None) -> tuple[Extents, int]:
        for extents in self._regions:
            if extents.own is None and extents.placement == placement:
                offset = extents.take(length)
                if offset is not None:
                    return extents, offset
        region = self._source.allocate_dma(max(length, _GROW), placement)
        extents = Extents(region, placement)
        self._regions.append(extents)
        offset = extents.take(length)
        if offset is None:
            raise DmaError(f"the device gave less memory than the {length} bytes asked for")
        return extents, offset

    def _take_own(self, length: int, extents: Extents) -> tuple[Extents, int]:
        offset = extents.take(length)
        if offset is None:
            assert extents.own is not None
            raise DmaError(
                f"{extents.own.name} has no {format_size(length)} left in one piece, of "
                f"{format_size(extents.region.length)}: release buffers, or use Controller.alloc()"
            )
        return extents, offset

    def _finalize(self, give: Callable[[], None]) -> None:
        """Give memory back. Waits for nothing: a finalizer may run anywhere, also in a forked child
        where the lock is held by a thread that is not there.
        """
        self._given.append(give)
        if self._lock.acquire(blocking=False):
            try:
                self._take_back()
            finally:
                self._lock.release()

    def _take_back(self) -> None:
        while self._given:
            self._given.popleft()()

    def _give(self, extents: Extents, offset: int, length: int) -> None:
        extents.give(offset, length)
        if not extents.unused or extents.own or self._closed or not owned.is_here():
            return
        if self._is_spare(extents):
            self._regions.remove(extents)
            self._source.release_dma(extents.region)

    def _is_spare(self, extents: Extents) -> bool:
        """Whether it can go: one region stays, since the next allocation would only map it again.

        That is one near the device, where nearly all allocations go.
        """
        return extents.placement != self._placement or any(
            other.placement == self._placement
            for other in self._regions
            if other is not extents and other.own is None
        )

    def map(self, data: BytesLike) -> DmaBuffer:
        """Let the device reach memory that the caller brings: whole pages, aligned to a page.

        The buffer is that memory; it is unmapped, and unpinned, with the last view of the buffer.
        Raises DmaError where the memory cannot be mapped, or the access has only its own.
        """
        array = as_bytes(data)
        with self._lock:
            self._check_open()
            region = self._source.map_dma(address_of(array), array.nbytes)
        allocation = Allocation(self, region.address, region.length, region.iova, array)
        unmap = partial(self._unmap, region)
        weakref.finalize(allocation, self._finalize, unmap).atexit = False
        return _buffer(allocation)

    def _unmap(self, region: DmaRegion) -> None:
        if not self._closed and owned.is_here():  # else the access has unmapped everything
            self._source.release_dma(region)

    def iova(self, array: npt.NDArray[Any], opcode: int = 0) -> int | None:
        """Address of a contiguous array as the device sees it; None if it is not DMA memory.

        Another controller's is not: what is mapped for one device is not for all. Raises DmaError
        for the device's own memory where a command of that ``opcode`` may not have its data there.
        """
        if type(array) is DmaBuffer and array._allocation is not None:
            allocation = array._allocation
            if allocation.pool is not self:
                return None
            if allocation.own is not None:
                allocation.own.check(opcode)
            return array.iova
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"the device does not reach a {type(array).__name__}: use a buffer from alloc()"
            )
        extents, address = self._find(array), address_of(array)
        if extents is None:
            return None
        region = extents.region
        if address + array.nbytes > region.address + region.length:
            raise DmaError("the buffer reaches beyond the DMA memory that it begins in")
        if extents.own is not None:
            extents.own.check(opcode)
        return region.iova + address - region.address

    def _find(self, array: npt.NDArray[Any]) -> Extents | None:
        """Find the memory that an array begins in."""
        address = address_of(array)
        with self._lock:
            for extents in self._regions:
                if 0 <= address - extents.region.address < extents.region.length:
                    return extents
        return None

    def check_together(self, data: npt.NDArray[Any], metadata: npt.NDArray[Any]) -> None:
        """Raise DmaError where one command may not have its data and its metadata there."""
        found = (self._find(array) for array in (data, metadata))
        first, second = (None if extents is None else extents.own for extents in found)
        own = first or second
        if own is not None and first is not second and not own.cdmmms:
            raise DmaError(
                f"of one command's data and metadata both lie in {own.name}, or neither (CDMMMS is "
                "0): take both from it, or both from Controller.alloc()"
            )

    def with_mapping(self, array: npt.NDArray[np.uint8], iova: int) -> DmaBuffer:
        """View DMA memory that is no DmaBuffer, or one that only one direction may use, for one
        transfer: a buffer whose mapping is known.
        """
        buffer = array.view(DmaBuffer)
        buffer.mapping = Mapping(self, iova, array.nbytes)
        return buffer

    def close(self, *, removed: bool = False) -> None:
        """Give no more memory out; ``removed`` says that it is because the device is gone.

        What is still looked at stays mapped in this process.
        """
        with self._lock:
            self._closed = True
            self._removed = removed or self._removed
            self._regions.clear()
        self._spares.clear()

    def take_bounce(self, length: int) -> Bounce:
        """Take memory to copy ``length`` bytes through; raises as :meth:`alloc`."""
        if length > SPARE:
            return Bounce(self.alloc(length, zero=False))
        try:
            bounce = self._spares.pop()
        except IndexError:
            bounce = Bounce(self.alloc(SPARE, zero=False))
        bounce.use(length)
        return bounce

    def give_bounce(self, bounce: Bounce) -> None:
        """Give it back, with no command outstanding on it."""
        if len(bounce.bytes) == SPARE and len(self._spares) < _SPARES:
            self._spares.append(bounce)
        if self._closed:  # which is looked at after that, since close() does the opposite
            self._spares.clear()

    def __enter__(self) -> Self:
        with self._lock:
            self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
