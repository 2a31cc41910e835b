"""A namespace as a block service wants it: bytes at any offset, from many threads at once.

What the NBD protocol asks for is here; who speaks it is not: nbdkit does, by ``cli/nbdkit_plugin``.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import suppress

from pynvme_user.dma import BytesLike, as_bytes
from pynvme_user.driver.controller import Controller
from pynvme_user.driver.names import open_transport
from pynvme_user.driver.namespace import Namespace
from pynvme_user.errors import (
    ClosedError,
    DeviceRemovedError,
    NotSupportedError,
    NvmeError,
    NvmeStatusError,
)
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.identify import DeallocatedRead
from pynvme_user.spec.logs import LbaStatusAction
from pynvme_user.spec.management import LbaStatusCompletion
from pynvme_user.spec.registers import VS
from pynvme_user.spec.status import GenericStatus

#: What the protocol has room for: the largest least block size, and the ends of the preferred one.
_MOST_MINIMUM, _LEAST_PREFERRED, _MOST_PREFERRED = 1 << 16, 512, 1 << 25
#: The longest request that nbdkit takes. The driver divides it.
MAX_REQUEST = 1 << 26
#: Get LBA Status counts the blocks of a range in 16 bits; extents that one call returns.
_RANGE_BLOCKS, _ENOUGH = 0xFFFF, 1000

#: How long a thread spins for its completion before it sleeps.
_SPIN_SECONDS = 50e-6

#: Bytes from there on, so many, whether they are allocated.
Extent = tuple[int, int, bool]


def open_device(name: str, *, timeout: float = 30.0, plain_cids: bool = False) -> Controller:
    """Open a device as :func:`pynvme_user.open`, for many threads that wait at once.

    Where the device has interrupts they sleep, whether or not its name asks for that: who polls
    takes a CPU from the others, and from the clients.
    """
    transport = open_transport(name)
    access = transport.access
    spin = _SPIN_SECONDS if access.interrupt_vectors else math.inf
    return Controller(
        transport,
        timeout=timeout,
        spin=0.0 if access.interrupts_wanted else spin,
        plain_cids=plain_cids,
    )


class Export:
    """A namespace for a block service. Every call may come from any thread, and waits.

    A write that returned is seen by every read that begins later, whichever connection it comes
    from, and :meth:`flush` makes all writes durable that returned before, of all connections: they
    share one controller. Any offset and length is right, also with other writes beside it; whole
    blocks are cheaper. Raises as :class:`Namespace`; :func:`error_number` says which errno that is.
    """

    def __init__(self, ns: Namespace, *, read_only: bool = False) -> None:
        if ns.zoned and not read_only:
            raise NotSupportedError(
                f"namespace {ns.nsid} of {ns.controller.name} is zoned, and a block service writes "
                "anywhere: export it with --read-only"
            )
        ns.current().check_blocks(0, 1)
        self.ns = ns
        self.read_only = read_only
        self._bytes = ns.byte_range()
        features = ns.identify.dlfeat
        zeroes = features.drb == DeallocatedRead.ZEROES
        #: Whether what is deallocated reads as zeroes.
        self.deallocated_is_zero = zeroes
        self.can_trim = not read_only and self._has(NvmOpcode.DATASET_MANAGEMENT)
        self.can_zero = not read_only and self._has(NvmOpcode.WRITE_ZEROES)
        # As Linux has it: the bit for it is set where both are so.
        self._zero_deallocates = bool(zeroes and features.wzds)
        self.reports_allocation = self._asks_allocation()

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._bytes.size

    @property
    def block_sizes(self) -> tuple[int, int, int]:
        """The least, the preferred and the greatest length of a request, in bytes.

        The preferred one is what the device likes to write (NPWG, NPWA), a page at least.
        """
        block = self.ns.block_size
        least = block if block <= _MOST_MINIMUM else 1
        liked = max(block * self.ns.geometry.granularity, 4096)
        if liked & (liked - 1) or liked > _MOST_PREFERRED:
            liked = min(max(block, 4096, _LEAST_PREFERRED), _MOST_PREFERRED)
        return least, liked, MAX_REQUEST

    def read_into(self, at: int, buffer: BytesLike) -> None:
        """Fill a writable buffer with the bytes from ``at`` on."""
        self._bytes.read_into(at, as_bytes(buffer))

    def write_from(self, at: int, data: BytesLike, *, fua: bool = False) -> None:
        """Write bytes from ``at`` on; with ``fua`` they are durable when it returns."""
        self._bytes.write_from(at, as_bytes(data), fua)

    def zero(
        self, at: int, count: int, *, may_trim: bool = False, fua: bool = False, fast: bool = False
    ) -> None:
        """Set bytes to zero without moving them.

        With ``may_trim`` they are deallocated, too, where that gives zeroes for certain. With
        ``fast``, but where that is not so, NotSupportedError at once: a write may be no slower.
        """
        deallocate = may_trim and self._zero_deallocates
        if not self.can_zero or (fast and not deallocate):
            raise NotSupportedError(
                f"{self.ns.controller.name} has no Write Zeroes surely faster than a write"
            )
        self._bytes.write_zeroes(at, count, deallocate=deallocate, fua=fua)

    def trim(self, at: int, count: int, *, fua: bool = False) -> None:
        """Deallocate the blocks that lie wholly within these bytes, whose content is lost."""
        lba, blocks = self._bytes.whole_blocks(at, count)
        if blocks:
            self.ns.deallocate([(lba, blocks)])
        if fua:
            self.ns.flush()

    def flush(self) -> None:
        """Make all writes durable that returned before."""
        self.ns.flush()

    # --- what is allocated --------------------------------------------------------------------

    def extents(self, at: int, count: int, *, one: bool = False) -> Iterator[Extent]:
        """Say which of these bytes are allocated, from ``at`` on without gaps, ``one`` or more.

        What is not known for certain is allocated.
        """
        end = at + count
        if not self.reports_allocation:
            yield at, count, True
            return
        size = self.ns.block_size
        lba, past = at // size, -(-end // size)
        found = 0
        while lba < past and not found >= (1 if one else _ENOUGH):
            for first, blocks, allocated in self._look(lba, min(past - lba, _RANGE_BLOCKS)):
                start = max(first * size, at)
                lba = first + blocks
                yield start, min(lba * size, end) - start, allocated
                found += 1

    def _look(self, lba: int, blocks: int) -> list[tuple[int, int, bool]]:
        """Ask the controller about some blocks; it tells of some of them at least."""
        every = [(lba, blocks, True)]
        try:
            page = self.ns.controller.lba_status(
                self.ns.nsid, lba, blocks, action=LbaStatusAction.ALLOCATED
            )
        except NvmeStatusError:
            return every
        end = lba + blocks
        if page.header.cmpc == LbaStatusCompletion.INCOMPLETE and len(page):
            end = min(end, max(each.dslba + each.nlb + 1 for each in page))
        elif page.header.cmpc != LbaStatusCompletion.COMPLETE:
            return every
        parts: list[tuple[int, int, bool]] = []
        for each in sorted(page, key=lambda each: each.dslba):
            first, past = max(each.dslba, lba), min(each.dslba + each.nlb + 1, end)
            if first > lba:
                parts.append((lba, first - lba, False))
            if past > first:
                parts.append((first, past - first, True))
                lba = past
        if end > lba:
            parts.append((lba, end - lba, False))
        return parts or every

    def _asks_allocation(self) -> bool:
        """Tell whether the controller says which blocks are allocated.

        Before 2.0 there was no such action, and who does not know it might answer another question.
        """
        if self.ns.controller.registers.read(VS).mjr < 2:
            return False
        with suppress(NvmeStatusError, NotSupportedError):
            self.ns.controller.lba_status(self.ns.nsid, 0, 1, action=LbaStatusAction.ALLOCATED)
            return True
        return False

    def _has(self, opcode: NvmOpcode) -> bool:
        with suppress(NotSupportedError):
            self.ns.check_supported(opcode)
            return True
        return False


def error_number(error: BaseException) -> int:
    """Return the errno that a block service answers an exception with, one that NBD knows."""
    match error:
        case NotSupportedError():
            return errno.EOPNOTSUPP
        case NvmeStatusError():
            code = error.status.code()
            if code is GenericStatus.CAPACITY_EXCEEDED:
                return errno.ENOSPC
            if code is GenericStatus.NAMESPACE_WRITE_PROTECTED:
                return errno.EPERM
            return errno.EIO
        case DeviceRemovedError() | ClosedError():
            return errno.ESHUTDOWN
        case ValueError() if not isinstance(error, NvmeError):
            return errno.EINVAL
    return errno.EIO
