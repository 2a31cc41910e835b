"""What a queue pair is before any command: its rings, whose turn it is, and whether it has ended.

A queue pair belongs to one thread at a time. Its lock is there for the controller, which stops
every queue pair to reset the device, and costs nothing that the I/O path would notice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from pynvme_user import owned
from pynvme_user.dma import address_of
from pynvme_user.driver.device import Device, Recovery, State
from pynvme_user.driver.waiter import Waiter
from pynvme_user.errors import ClosedError, NvmeError
from pynvme_user.native import U16Array
from pynvme_user.ring import Loop, Ring
from pynvme_user.single import Single
from pynvme_user.transport.base import Queue

if TYPE_CHECKING:
    from pynvme_user import Controller

#: C spins for this long at most before Python looks at signals and at the device's health.
SLICE_NS = 100_000_000
OUTCOME_UNKNOWN = "was closed while the call ran: outcome unknown"


class QueuePairBase:
    """The rings over a transport's queue, who may use them, and what stands in the way."""

    def __init__(
        self,
        device: Device,
        recovery: Recovery,
        queue: Queue,
        *,
        delete: Callable[[Any], None] | None = None,
        use_sgl: bool = False,
        cids: U16Array | None = None,
    ) -> None:
        self.device = device
        self._recovery = recovery
        self._delete = delete  # its queues, for close()
        #: Its part of the transport.
        self.queue = queue
        self.qid = queue.qid
        self.depth = queue.depth
        self._lock = threading.RLock()
        self._end_lock = threading.RLock()  # taken before any other
        self._wanted = False
        self._inside = False  # a call of the user's holds the lock
        queue.restart(device.max_transfer)
        self._ring = Ring(
            qid=queue.qid,
            depth=queue.depth,
            page_shift=12,
            sq=address_of(queue.sq),
            cq=address_of(queue.cq),
            prp_lists=address_of(queue.prp_lists),
            prp_lists_iova=queue.prp_lists.iova,
            prp_list_entries=queue.prp_list_entries,
            use_sgl=use_sgl,
            sq_doorbell=queue.sq_doorbell,
            cq_doorbell=queue.cq_doorbell,
            sq_entries=queue.sq_entries,
            cq_entries=queue.cq_entries,
            cids=cids,
            plain_cids=device.plain_cids,
        )
        if queue.interrupt:
            self._ring.use_interrupt(queue.interrupt, int(queue.spin * 1e9))
        self.index_mask = self._ring.index_mask
        #: For single commands and what they come to.
        self._single = Single(self._ring)
        #: For :meth:`QueuePairPool.transfer`.
        self.waiter = Waiter(self._ring, SLICE_NS)
        #: Outcomes that no call has taken: of a reset, or found by close() beside another thread.
        #: Completions, or what else _completions() makes of an entry.
        self.unclaimed: list[Any] = []
        self._cids_held = False  # by a reset: C keeps the CIDs of some of them back
        self._loop: Loop | None = None
        self._loop_owner: object = None
        self._loop_resets = 0
        #: Whether a command of the last loop took longer than the timeout.
        self.loop_timed_out = False
        self._closing = False  # from the beginning of close(): nothing new begins
        self._closed = False  # from its end: nothing looks at the rings
        self._begin()
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Be closed, and touch the rings no more, in a child of process ``owner``."""
        self._lock, self._end_lock = threading.RLock(), threading.RLock()
        self._wanted = self._inside = False
        self._closed = True
        self.waiter.forked()
        self._ring.disown()

    def _begin(self) -> None:
        """Begin, with nothing outstanding, on a queue that has just begun."""
        self._buffers: list[object] = [None] * self.depth
        if self.queue.shadow:
            shadow, event_index = self.queue.shadow
            self._ring.use_shadow(2 * self.qid, address_of(shadow), address_of(event_index))

    @property
    def controller(self) -> Controller:
        """The :class:`Controller` that it belongs to."""
        return self.device.controller

    @property
    def cids(self) -> U16Array:
        """What the next queue pair of this id goes on with; see :class:`Ring`."""
        return self._ring.cids

    @property
    def sleeps(self) -> bool:
        """Whether waits end in sleep, for an interrupt."""
        return self.queue.interrupt is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed, by :meth:`close` or with its controller: for good."""
        return self._closing or self._closed

    @property
    def ended(self) -> bool:
        """Whether its end is over: nothing of it runs any more."""
        return self._closed

    @property
    def outstanding(self) -> int:
        """Commands that were submitted and have no outcome yet."""
        return self._ring.outstanding

    @property
    def doorbell_writes(self) -> int:
        """Doorbell registers written so far; shadow doorbells in memory do not count."""
        return self._ring.doorbell_writes

    @property
    def cq_doorbell_writes(self) -> int:
        """Those of them that reported completions."""
        return self._ring.cq_doorbell_writes

    def is_outstanding(self, index: int) -> bool:
        """Whether there is a command with that index of its CID that has not ended."""
        return self._ring.is_outstanding(index)

    # --- whose turn it is ---------------------------------------------------------------------

    def held(self) -> AbstractContextManager[object]:
        """Give the lock to a call, after whoever waits for it to stop or close the queue pair."""
        if self._wanted:
            time.sleep(0.001)  # Python's locks are not fair
        elif self._inside and self.qid and not self._is_left():
            raise NvmeError(
                f"{self._name} is in use by another call: a queue pair belongs to one thread, so "
                "make one for each with queue_pair()"
            )
        return self._lock

    def _is_left(self) -> bool:
        """Whether ctrl-C took the call away that is said to be inside: nobody has the lock then."""
        if not self._lock.acquire(blocking=False):
            return False
        self._inside = False
        self._lock.release()
        return True

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold the queue pair still; for the controller's reset and end."""
        self._wanted = True
        try:
            with self._lock:
                self.waiter.stop()
                yield
        finally:
            self._wanted = self._closing or self._closed

    # --- what stands in the way ---------------------------------------------------------------

    def _check_open(self) -> None:
        """Raise what stands in the way of a new command."""
        if self.device.state >= State.FAILED:
            self.device.check_usable()
        if self._closing or self._closed:
            raise ClosedError("the queue pair is closed: make a new one with queue_pair()")

    def _check_not_ended(self, *, waits: bool = True) -> None:
        """Raise what stands in the way of waiting on, for a command of this call or, with not
        ``waits``, for any.
        """
        try:
            self.device.check_usable()
            if self._closed:
                self._check_open()
        except ClosedError:
            if waits and (self._ring.outstanding or self._loop):
                raise ClosedError(f"{self._name} {OUTCOME_UNKNOWN}") from None
            raise

    @property
    def _name(self) -> str:
        return f"queue pair {self.qid} of {self.device.name}"

    def end(self) -> None:
        """Let no call look at the rings again; for the controller, whose DMA has stopped."""
        with self.stopped():
            self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.outstanding} of {self.depth} outstanding"
        return f"<{type(self).__name__} {self.qid} of {self.device.name}: {state}>"
