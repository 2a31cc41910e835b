"""Queue pairs: commands as they are, completions, deadlines, and what a reset does to them.

A queue pair belongs to one thread at a time. Its lock is there for the controller, which stops
every queue pair to reset the device, and costs nothing that the I/O path would notice.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from pynvme_user import owned
from pynvme_user.dma import DmaBuffer, address_of
from pynvme_user.driver.cancels import Cancels
from pynvme_user.driver.completion import HOST_ABORTED, TIMED_OUT, Completion
from pynvme_user.driver.device import Device, Recovery, State
from pynvme_user.driver.waiter import Waiter
from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    DeviceRemovedError,
    NvmeError,
)
from pynvme_user.native import ClockWatch, U16Array, fail
from pynvme_user.ring import Loop, Ring
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.status import Status
from pynvme_user.transport.base import Queue

if TYPE_CHECKING:
    from pynvme_user import Controller

T = TypeVar("T")
#: C spins for this long at most before Python looks at signals and at the device's health.
SLICE_NS = 100_000_000
OUTCOME_UNKNOWN = "was closed while the call ran: outcome unknown"


class RawQueuePair(Cancels):
    """A submission and a completion queue with ``depth`` commands outstanding at most.

    A queue pair belongs to one thread: a call of another one raises NvmeError while one is under
    way. Only :meth:`close` may come from any.

    Commands that are submitted reach the device with the next :meth:`ring`, :meth:`poll` or
    :meth:`wait`, so that a batch costs one doorbell. A command's CID is an index below the depth
    with a generation above it: it is not used again before its outcome was handed over, and up to a
    depth of 4,095 then not for the next 15 commands of its index. Buffers are kept alive until
    their command has its outcome. A context manager: closing drains it.
    """

    def __init__(
        self,
        device: Device,
        recovery: Recovery,
        queue: Queue,
        *,
        delete: Callable[[RawQueuePair], None] | None = None,
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
        self._aborting, self._cancel = (-1, 0.0), -1
        self._watch = ClockWatch()
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

    # --- submission ---------------------------------------------------------------------------

    def submit(self, command: SQE, buffer: npt.NDArray[Any] | None = None) -> int:
        """Submit a raw command; return its CID. The CID and the data pointer are filled in.

        ``buffer`` is DMA memory, all of which is described to the device. Raises QueueFullError,
        DmaError for memory that the device does not reach, DeviceRemovedError, and
        ControllerFatalError where nothing is outstanding and something was completed all the same.
        """
        raw = bytes(command)
        iova, length = (0, 0) if buffer is None else self._dma(buffer, raw[0])
        try:
            with self.held():
                self._check_open()
                self._pin(buffer)
                return self._ring.submit(raw, iova, length)
        except ControllerFatalError as error:
            self._reset_for(error)
            raise

    def is_outstanding(self, index: int) -> bool:
        """Whether there is a command with that index of its CID that has not ended."""
        return self._ring.is_outstanding(index)

    def _pin(self, buffer: object) -> None:
        """Keep a buffer alive for the next command: before its submission, so that ctrl-C finds
        no gap between the two.
        """
        self._buffers[self._ring.next_index] = buffer

    def _dma(self, buffer: npt.NDArray[Any], opcode: int = 0) -> tuple[int, int]:
        """Return where the device finds a buffer, and its length in bytes.

        Raises DmaError where it may not be the data of a command of that ``opcode``.
        """
        iova = self.device.dma.iova(buffer, opcode)
        if iova is None:
            self._check_open()
            raise ValueError("the device does not reach this buffer: get one from alloc()")
        return iova, buffer.nbytes

    def ring(self) -> None:
        """Tell the device of what was submitted."""
        with self.held():
            self._check_open()
            self._ring.ring_doorbell()

    # --- completion ---------------------------------------------------------------------------

    def poll(self) -> list[Completion]:
        """Return the commands that completed since, perhaps none. Does not wait.

        Raises DeviceRemovedError, for everything outstanding, and ControllerFatalError for a
        completion of no outstanding command, once the controller has been reset.
        """
        return self._reap(0)

    def wait(self, timeout: float | None = None) -> list[Completion]:
        """Wait for a completion at least; return those that are there.

        The list is empty if nothing is outstanding, or ``timeout`` seconds passed. A command
        that takes longer than the controller's ``timeout`` is aborted, then the controller reset;
        its status is then ABORTED_BY_HOST. Raises as :meth:`poll`.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._has_more():
            left = SLICE_NS
            if end is not None:
                left = min(left, max(0, int((end - time.monotonic()) * 1e9)))
            done = self._reap(left)
            if done or (end is not None and time.monotonic() >= end):
                return done
        if self.closed:
            self._check_open()
        return []

    def await_completion(self, seconds: float) -> bool:
        """Wait until a completion is there for the next :meth:`poll`; whether one is.

        Of all methods this one may be called by another thread than the others are, which goes on
        meanwhile: it changes nothing. What a reset brings to its end it does not see.
        """
        return not self._closed and self._ring.await_completion(int(seconds * 1e9))

    def fileno(self) -> int:
        """Give the descriptor of the queue pair's interrupt, an eventfd, for select() and the like.

        It is readable once the device has completed a command since its 8 bytes were read: read
        them, then :meth:`poll`. Raises NvmeError where the queue pair is polled, or its interrupt
        needs more than that (INTx, UIO).
        """
        interrupt = self.queue.interrupt
        if interrupt is None or interrupt.rearm_fd >= 0:
            raise NvmeError(
                f"{self._name} has no interrupt that a descriptor tells of: open the device with "
                "MSI-X and spin=0, or poll"
            )
        return interrupt.event_fd

    def drain(self) -> list[Completion]:
        """Wait until nothing is outstanding; return all completions. Raises as :meth:`poll`."""
        done: list[Completion] = []
        while self._has_more():
            done += self._reap(SLICE_NS)
        if not done and self.closed:
            self._check_open()
        return done

    def _has_more(self) -> bool:
        """Whether there is an outcome to wait for, or one that no call has taken."""
        with self.held():  # else one is neither, while a reset or close() moves it
            return bool(self._ring.outstanding or self.unclaimed)

    def _reap(self, wait_ns: int) -> list[Completion]:
        with self._device_errors(), self.held():
            # What close() found for a call that waits is handed over all the same.
            if not (self._closed and wait_ns and self.unclaimed):
                self._check_not_ended(waits=wait_ns > 0)
                self._inside = True
                try:
                    self._collect(0 if self.unclaimed else wait_ns)
                finally:
                    self._inside = False
            done = self.hand_over()
        if self.outstanding:
            self._check_health(waited=not done and wait_ns == SLICE_NS)
        return done

    def post(
        self, command: bytes, buffer: npt.NDArray[Any] | None, owners: dict[int, T], owner: T
    ) -> int:
        """Submit a command and tell the device of it, while held; as :meth:`submit`.

        ``owner`` is its entry in ``owners``, by the index of its CID, from before that: ctrl-C
        finds no gap between the two.
        """
        self._check_open()
        if buffer is None:
            iova = length = 0
        elif type(buffer) is DmaBuffer and buffer.mapping[0] is self.device.dma:
            _, iova, length = buffer.mapping
        else:
            iova, length = self._dma(buffer, command[0])
        index = self._ring.next_index
        owners[index] = owner
        self._buffers[index] = buffer
        cid = self._ring.submit(command, iova, length)
        self._ring.ring_doorbell()
        return cid

    def hand_out(self, give: Callable[[Completion], None], wait_ns: int = 0) -> None:
        """Give each outcome that is known, or comes within ``wait_ns``, while held: ctrl-C loses
        none, but may let one be given twice.

        Raises as :meth:`poll`.
        """
        try:
            with self.held():
                if not self.unclaimed:
                    if self._closed or self.device.state >= State.FAILED:
                        self._check_not_ended()
                    self._collect(wait_ns)
                while self.unclaimed:
                    give(self.unclaimed[0])
                    del self.unclaimed[0]
                if self._cids_held:
                    self.hand_over()
        except (DeviceRemovedError, ControllerFatalError) as error:
            self._recover(error)
            raise
        if time.monotonic() >= self._health_due and self.outstanding:
            self._check_health(waited=False)

    def hand_over(self) -> list[Completion]:
        """Take the outcomes that no call has taken; CIDs that a reset ended are free then."""
        done, self.unclaimed = self.unclaimed, []
        if self._cids_held:
            self._ring.release()
            self._cids_held = False
        return done

    def _collect(self, wait_ns: int) -> None:
        reaped = self._ring.reap(wait_ns)
        if len(reaped):
            self.unclaimed += self._completions(reaped)

    def _completions(self, reaped: npt.NDArray[np.void]) -> list[Any]:
        done: list[Any] = []
        for latency_ns, _, dw0, dw1, cid, status in reaped.tolist():
            if cid == self._cancel:
                self._end_cancel(status, dw0)
                continue
            overdue = cid == self._aborting[0]
            done.append(
                Completion(cid, Status(status), latency_ns, dw0, dw1, overdue and status != 0)
            )
            self._buffers[cid & self._ring.index_mask] = None
            if overdue:
                self._aborting = (-1, 0.0)
        return done

    # --- health -------------------------------------------------------------------------------

    @contextmanager
    def _device_errors(self) -> Iterator[None]:
        """Let the controller act on an error of the device before the caller sees it."""
        try:
            yield
        except (DeviceRemovedError, ControllerFatalError) as error:
            self._recover(error)
            raise

    def _recover(self, error: DeviceRemovedError | ControllerFatalError) -> None:
        self.device.check_owner()  # in a child that was forked meanwhile all is gone
        if isinstance(error, DeviceRemovedError):
            self._recovery.mark_removed()
        else:
            self._reset_for(error)

    def _reset_for(self, error: ControllerFatalError) -> None:
        with suppress(ClosedError):
            self._recovery.reset(error)

    _health_due = 0.0

    def _check_health(self, *, waited: bool, asks: bool = True) -> None:
        """See whether the device is there and whether a command is overdue, ten times a second.

        That is by time, not by lack of completions: others may go on beside one that never ends. At
        once where a wait was in vain. Without ``asks`` another pair has just read the register.
        """
        now = time.monotonic()
        if now < self._health_due and not waited:
            return
        self._health_due = now + 0.1
        with self._device_errors(), self._lock:
            if self._closed and self.unclaimed:
                return  # close() found what is waited for: it is there to be taken
            self._check_not_ended()
            if asks:
                self.device.check_alive()
            # Should the device and its shadow doorbell have missed each other, this mends it.
            self._ring.kick()
            if self._watch.stepped():
                self._ring.restamp()
            oldest = self._ring.oldest()
        if self.qid and oldest is not None and oldest[1] > self.device.timeout:
            self._expire(oldest[0], now)

    def _expire(self, cid: int, now: float) -> None:
        """Leave an overdue command to recovery; the next poll tells its outcome (invariant 4)."""
        waited = None
        if self._aborting[0] == cid:
            waited = now - self._aborting[1]
        else:
            self._aborting = (cid, now)
            self.loop_timed_out = True
        self._recovery.overdue(self.qid, cid, f"command {cid:#06x}", waited)

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

    # --- one, waiting -----------------------------------------------------------------------

    def rearm(self) -> None:
        """Wait until a transfer may begin; see :meth:`QueuePairPool.transfer`.

        Whoever wants the queue pair comes first, then what an earlier call left outstanding.
        Raises as :meth:`poll`, and what stands in the way for good.
        """
        with self.held():
            self._check_open()
        self.drain()
        with self._lock:
            self.device.check_open()
            self._check_open()
            self.waiter.pinned = ()
            self.waiter.ready = True
            # In this order, since mark_removed() comes without the lock and does the opposite.
            if not self.device.usable:
                self.waiter.ready = False

    def complete_late(self, status: int) -> int:
        """Find the end of a transfer of which C did not see it: its 15-bit status field, with
        TIMED_OUT where that was because of the timeout.

        Raises what the negative errno stands for where it is not that the time was over.
        """
        if status != -errno.ETIME:
            with self._device_errors():
                fail(status)
        self._check_health(waited=True)
        (done,) = self.drain()
        self.waiter.pinned = ()
        return int(done.status) | (TIMED_OUT if done.timed_out else 0)

    # --- reset and end ------------------------------------------------------------------------

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

    def finish_all(self) -> None:
        """Bring all that is outstanding to its end, which its owner finds later; stop a loop.

        Raises as :meth:`poll`.
        """
        while self.outstanding:
            with self._device_errors(), self._lock:
                self._check_not_ended()
                before = self._ring.completed
                if self._loop is not None:
                    self._loop.stop()
                    self._loop.run(self._ring, SLICE_NS)
                else:
                    self._collect(SLICE_NS)
                idle = self._ring.completed == before
            if idle:
                self._check_health(waited=True)

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

    def restart(self) -> None:
        """Give every outstanding command its end and begin anew; DMA has stopped."""
        ended = self._ring.abort_all(HOST_ABORTED)
        if len(ended):
            self.unclaimed += self._completions(ended[ended["cid"] != self._cancel])
            self._cids_held = True
        self.waiter.pinned = ()
        self._loop_owner = None
        queue = self.queue
        queue.restart(self.device.max_transfer)
        lists = queue.prp_lists
        self._ring.restart(address_of(lists), lists.iova, queue.prp_list_entries)
        self._begin()

    def close(self) -> None:
        """Wait for what is outstanding and delete the queues. Safe to call twice.

        Another thread's call that waits on it ends with the outcome of its command; a vector is
        cut short, and ends with ClosedError.
        """
        with self._end_lock:
            if self._closed:
                return
            try:
                with self.stopped():
                    self._closing = True
                if self.device.state is not State.REMOVED:
                    self.finish_all()
            finally:
                try:
                    if self._delete is not None:
                        self._delete(self)
                finally:
                    self.end()
            self.free()

    def end(self) -> None:
        """Let no call look at the rings again; for the controller, whose DMA has stopped."""
        with self.stopped():
            self._closed = True

    def free(self) -> None:
        """Give the rings' memory back; for the controller, once the device no longer uses it."""
        with self.stopped():
            self._closed = True
            self.queue.free()
            self._buffers.clear()
            self.waiter.pinned = ()
            self._loop_owner = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.outstanding} of {self.depth} outstanding"
        return f"<{type(self).__name__} {self.qid} of {self.device.name}: {state}>"

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
