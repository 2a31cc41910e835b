"""Reads and writes for asyncio: many in flight on one queue pair of the event loop's thread."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from pynvme_user.aio_queue import LoopQueue, Of
from pynvme_user.dma import NO_MAPPING, BytesLike, DmaBuffer, as_bytes
from pynvme_user.driver.completion import VectorResult
from pynvme_user.driver.controller import Controller
from pynvme_user.driver.controller import open as open_controller
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.lba_vector import Each
from pynvme_user.driver.namespace import MetadataNamespace, Namespace
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.views.window import WINDOW, layout

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Data that the device does not reach is copied through buffers of this size at most.
BOUNCE = 1 << 20
#: Pieces of one transfer that are in flight at once at most.
_PIECES = 32


class _BesideSync:
    """Of what it has not, its error says whether ``sync`` has it."""

    if not TYPE_CHECKING:  # a checker knows by itself

        def __getattr__(self, name: str) -> Any:
            sync = None if name.startswith("_") else vars(self).get("sync")
            has = hasattr(type(sync), name) or name in getattr(sync, "__dict__", ())
            hint = f": use its sync.{name}, in a thread where that waits" if has else ""
            raise AttributeError(f"{type(self).__name__} has no {name}{hint}")


class AsyncNamespace(_BesideSync):
    """A namespace of an :class:`AsyncController`: its calls are awaited, many may be in flight.

    The arguments, and what is raised, are those of the same calls of :class:`Namespace`, which is
    :attr:`sync`. Each transfer that one command carries is atomic as there; transfers that are in
    flight together run in any order.

    **Cancellation.** A task that is cancelled while the device has its buffer gets CancelledError
    once the device has let go of it, within the controller's timeout: from then on the buffer is
    the caller's. A write that was cancelled may have been written.
    """

    def __init__(self, queue: LoopQueue, ns: Namespace, ctrl: Controller) -> None:
        #: The namespace itself, whose calls wait.
        self.sync = ns
        self._queue = queue
        self._ctrl = ctrl
        # What carries metadata takes the calls that know of it, in a thread.
        self._in_thread = isinstance(ns, MetadataNamespace)
        self._of: dict[bool, Of] = {fua: (ns, fua) for fua in (False, True)}

    @property
    def nsid(self) -> int:
        """Its namespace id."""
        return self.sync.nsid

    @property
    def block_size(self) -> int:
        """Bytes of data in a block."""
        return self.sync.block_size

    @property
    def block_count(self) -> int:
        """Its size in blocks."""
        return self.sync.block_count

    async def read(self, lba: int, blocks: int, *, fua: bool = False) -> bytearray:
        """Read blocks and return their bytes."""
        if self._in_thread:
            return await self._blocking(self.sync.read, lba, blocks, fua=fua)
        self.sync.check_range(lba, blocks)
        data = bytearray(blocks * self.block_size)
        await self.read_into(lba, data, fua=fua)
        return data

    async def write(self, lba: int, data: BytesLike, *, fua: bool = False) -> None:
        """Write any bytes-like of whole blocks."""
        await self.write_from(lba, data, fua=fua)

    def read_into(self, lba: int, buffer: BytesLike, *, fua: bool = False) -> Awaitable[None]:
        """Fill a writable buffer of whole blocks."""
        return self._move(NvmOpcode.READ, lba, buffer, fua)

    def write_from(self, lba: int, buffer: BytesLike, *, fua: bool = False) -> Awaitable[None]:
        """Write a buffer of whole blocks; the same as :meth:`write`."""
        return self._move(NvmOpcode.WRITE, lba, buffer, fua)

    def compare(self, lba: int, data: BytesLike, *, fua: bool = False) -> Awaitable[None]:
        """Compare blocks with data on the device; as ``compare`` of :class:`Namespace`."""
        return self._move(NvmOpcode.COMPARE, lba, data, fua)

    def flush(self) -> Awaitable[None]:
        """Make all writes durable that completed before."""
        return self._queue.post(self._of[False], NvmOpcode.FLUSH, 0, 0, None)

    def write_zeroes(
        self, lba: int, blocks: int, *, deallocate: bool = False, fua: bool = False
    ) -> Awaitable[None]:
        """Set blocks to zero without moving data; as ``write_zeroes`` of :class:`Namespace`."""
        return self._blocking(self.sync.write_zeroes, lba, blocks, deallocate=deallocate, fua=fua)

    def deallocate(self, ranges: Iterable[tuple[int, int]]) -> Awaitable[None]:
        """Tell the device that the data of these ``(lba, blocks)`` ranges is not needed."""
        return self._blocking(self.sync.deallocate, ranges)

    async def read_many(
        self, lbas: npt.ArrayLike, blocks: Each, buffer: npt.NDArray[Any], **options: Any
    ) -> VectorResult:
        """Read ``blocks`` blocks at each of ``lbas`` in one call of C, in a thread; as
        :meth:`QueuePair.read_many`.
        """
        return await self._vector(QueuePair.read_many, lbas, blocks, buffer, options)

    async def write_many(
        self, lbas: npt.ArrayLike, blocks: Each, buffer: npt.NDArray[Any], **options: Any
    ) -> VectorResult:
        """Write ``blocks`` blocks at each of ``lbas``; as :meth:`read_many`."""
        return await self._vector(QueuePair.write_many, lbas, blocks, buffer, options)

    async def stream(
        self,
        lba: int = 0,
        blocks: int | None = None,
        *,
        chunk: int | None = None,
        window: int | DmaBuffer = WINDOW,
    ) -> AsyncIterator[npt.NDArray[np.uint8]]:
        """Read ``blocks`` blocks and give them in pieces; as ``stream`` of :class:`Namespace`, on
        the queue pair of all tasks.
        """
        if blocks is None:
            blocks = self.block_count - lba
        self.sync.check_range(lba, blocks)
        (step, parts), memory = layout(self.block_size, blocks, chunk, window)
        size = step * self.block_size
        if memory is None:
            memory = self._ctrl.alloc(size * parts)
        memory.page_lock()
        free = [memory[at : at + size] for at in range(0, parts * size, size)]
        coming: deque[tuple[asyncio.Future[None], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
        coming = deque()
        at, end = lba, lba + blocks
        try:
            while at < end or coming:
                while free and at < end:
                    whole = free.pop()
                    part = whole[: min(step, end - at) * self.block_size]
                    coming.append((asyncio.ensure_future(self.read_into(at, part)), part, whole))
                    at += step
                future, part, whole = coming[0]
                await future
                coming.popleft()
                yield part
                free.append(whole)
        finally:
            for future, _, _ in coming:
                future.cancel()
            await asyncio.gather(*(future for future, _, _ in coming), return_exceptions=True)

    # --- how ----------------------------------------------------------------------------------

    def _move(self, opcode: NvmOpcode, lba: int, buffer: BytesLike, fua: bool) -> Awaitable[None]:
        """Transfer any memory of whole blocks: at once where one command does it."""
        geometry = self.sync.geometry
        if self._in_thread or not geometry.current:
            return self._move_in_thread(opcode, lba, buffer, fua)
        if type(buffer) is DmaBuffer:
            if buffer.mapping is NO_MAPPING:
                self._ctrl.dma.iova(buffer)  # looks at it
            pool, _, length = buffer.mapping
            blocks = length >> geometry.block_shift
            if (
                pool is self._ctrl.dma
                and blocks << geometry.block_shift == length
                and blocks <= geometry.max_blocks
                and not geometry.boundary
            ):
                geometry.check_transfer(lba, blocks)
                return self._queue.post(self._of[fua], opcode, lba, blocks, buffer)
        return self._divide(opcode, lba, buffer, fua)

    async def _move_in_thread(
        self, opcode: NvmOpcode, lba: int, buffer: BytesLike, fua: bool
    ) -> None:
        if not self._in_thread:  # what is known of it has to be identified again, which waits
            await self._blocking(self.sync.current)
            await self._move(opcode, lba, buffer, fua)
            return
        calls: dict[NvmOpcode, Callable[..., None]] = {
            NvmOpcode.READ: self.sync.read_into,
            NvmOpcode.WRITE: self.sync.write_from,
            NvmOpcode.COMPARE: self.sync.compare,
        }
        await self._blocking(calls[opcode], lba, buffer, fua=fua)

    async def _divide(self, opcode: NvmOpcode, lba: int, buffer: BytesLike, fua: bool) -> None:
        """Transfer by several commands, or through a copy."""
        array = buffer if type(buffer) is DmaBuffer else as_bytes(buffer)
        reads = opcode is NvmOpcode.READ
        if reads and not array.flags.writeable:
            raise ValueError("the buffer is read-only: use a bytearray, an array or alloc()")
        array = as_bytes(array)
        geometry = self.sync.geometry
        shift = geometry.block_shift
        blocks = array.nbytes >> shift
        if blocks << shift != array.nbytes:
            raise ValueError(f"{array.nbytes} bytes are not whole blocks of {1 << shift}")
        geometry.check_transfer(lba, blocks)
        iova = self._ctrl.dma.iova(array)
        copied = iova is None or bool(iova & 3)
        most = BOUNCE >> shift if copied else blocks
        async with _Pieces() as pieces:
            for at, count in _runs(self.sync, lba, blocks, most or 1, reads):
                part = array[at - lba << shift : at - lba + count << shift]
                if copied:
                    await pieces.add(self._copy(opcode, at, count, part, fua))
                else:
                    await pieces.add(self._queue.post(self._of[fua], opcode, at, count, part))

    async def _copy(
        self, opcode: NvmOpcode, lba: int, blocks: int, part: npt.NDArray[np.uint8], fua: bool
    ) -> None:
        dma = self._ctrl.dma
        bounce = dma.take_bounce(part.nbytes)
        memory = bounce.part
        if opcode is not NvmOpcode.READ:
            memory[:] = part
        # Whatever ends it before its outcome is known keeps the bounce: it is not given back.
        await self._queue.post(self._of[fua], opcode, lba, blocks, memory)
        if opcode is NvmOpcode.READ:
            part[:] = memory
        dma.give_bounce(bounce)

    async def _vector(
        self,
        call: Callable[..., VectorResult],
        lbas: npt.ArrayLike,
        blocks: Each,
        buffer: npt.NDArray[Any],
        options: dict[str, Any],
    ) -> VectorResult:
        def run() -> VectorResult:
            with self._ctrl.pool.acquired() as pair:
                return call(pair, self.sync, lbas, blocks, buffer, **options)

        return await self._blocking(run)

    async def _blocking(self, call: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Run a call that waits, in a thread; a cancelled one has come to its end, too."""
        future = asyncio.ensure_future(asyncio.to_thread(call, *args, **named))
        cancelled = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()

    def __repr__(self) -> str:
        return f"<asyncio: {self.sync!r}>"


class _Pieces:
    """Pieces of one transfer in flight: an error ends it, once all have come to their end."""

    def __init__(self) -> None:
        self._flying: set[asyncio.Future[None]] = set()

    async def add(self, piece: Awaitable[None]) -> None:
        """Begin one; wait for another where there are many."""
        self._flying.add(asyncio.ensure_future(piece))
        if len(self._flying) >= _PIECES:
            done, self._flying = await asyncio.wait(
                self._flying, return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                one.result()

    async def __aenter__(self) -> _Pieces:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        failed = kind is not None
        cancelled = first = None
        while self._flying:
            if failed:  # those that were not submitted have nothing to wait for
                for one in self._flying:
                    one.cancel()
            try:
                done, self._flying = await asyncio.wait(
                    self._flying, return_when=asyncio.FIRST_EXCEPTION
                )
            except asyncio.CancelledError as end:
                cancelled, failed = end, True
                continue
            for one in done:
                if not one.cancelled() and (error := one.exception()):
                    first, failed = first or error, True
        if cancelled is not None:
            raise cancelled
        if first is not None and kind is None:
            raise first


def _runs(
    ns: Namespace, lba: int, blocks: int, most: int, reads: bool
) -> Iterator[tuple[int, int]]:
    """Cut a transfer into commands: the LBA and the blocks of each."""
    end = lba + blocks
    while lba < end:
        run, step = ns.geometry.run(lba, min(end - lba, most), reads=reads)
        for at in range(lba, lba + run, step):
            yield at, min(step, lba + run - at)
        lba += run


class AsyncNamespaces(Mapping[int, AsyncNamespace]):
    """The active namespaces by their id."""

    def __init__(self, ctrl: Controller, queue: LoopQueue) -> None:
        self._ctrl = ctrl
        self._queue = queue
        self._made: dict[int, AsyncNamespace] = {}

    def __getitem__(self, nsid: int) -> AsyncNamespace:
        ns = self._ctrl.namespaces[nsid]
        made = self._made.get(nsid)
        if made is None or made.sync is not ns:
            made = self._made[nsid] = AsyncNamespace(self._queue, ns, self._ctrl)
        return made

    def __iter__(self) -> Iterator[int]:
        return iter(self._ctrl.namespaces)

    def __len__(self) -> int:
        return len(self._ctrl.namespaces)


class AsyncController(_BesideSync):
    """A controller for one event loop, made by :func:`aopen`: its :attr:`namespaces` are awaited.

    :attr:`sync` is the :class:`Controller` itself, for what is not I/O.
    """

    def __init__(self, ctrl: Controller, queue: LoopQueue) -> None:
        self.sync = ctrl
        self._queue = queue
        #: The active namespaces, by their id.
        self.namespaces = AsyncNamespaces(ctrl, queue)

    def alloc(self, length: int) -> DmaBuffer:
        """Allocate DMA memory; as :meth:`Controller.alloc`."""
        return self.sync.alloc(length)

    async def run(self, call: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Run a call of the controller that waits, such as ``ctrl.sync.smart``, in a thread."""
        return await asyncio.to_thread(call, *args, **named)


@asynccontextmanager
async def aopen(
    name: Any, *, depth: int | None = None, **options: Any
) -> AsyncIterator[AsyncController]:
    """Open a device for asyncio, as in ``async with nvme.aopen("qemu:disk.img") as ctrl``.

    The arguments are those of :func:`open`; ``depth`` is how many commands may be outstanding, as
    for :meth:`Controller.queue_pair`: what is more waits here. Raises as these do. At the end of
    the context what is in flight is waited for.
    """
    ctrl = await asyncio.to_thread(functools.partial(open_controller, name, **options))
    try:
        queue = LoopQueue(ctrl, depth)
        try:
            yield AsyncController(ctrl, queue)
        finally:
            await asyncio.shield(queue.close())
    finally:
        await asyncio.to_thread(ctrl.close)
