"""Queue pairs: commands as they are, their completions, and what a reset does to them."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import DmaBuffer, address_of
from pynvme_user.driver.completion import HOST_ABORTED, TIMED_OUT, Completion
from pynvme_user.driver.deadlines import Deadlines
from pynvme_user.driver.device import State
from pynvme_user.driver.queue_pair_base import SLICE_NS
from pynvme_user.errors import ControllerFatalError, DeviceRemovedError, NvmeError
from pynvme_user.native import fail
from pynvme_user.single import reap
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.status import Status

T = TypeVar("T")
#: What plain completions are made of: see :meth:`RawQueuePair._collect`.
_new: Any = tuple.__new__
_COMPLETION, _SUCCESS = repeat(Completion), repeat(Status(0))
_ZERO, _IN_TIME = repeat(0), repeat(False)


class RawQueuePair(Deadlines):
    """A submission and a completion queue with ``depth`` commands outstanding at most.

    A queue pair belongs to one thread: a call of another one raises NvmeError while one is under
    way. Only :meth:`close` may come from any.

    Commands that are submitted reach the device with the next :meth:`ring`, :meth:`poll` or
    :meth:`wait`, so that a batch costs one doorbell. A command's CID is an index below the depth
    with a generation above it: it is not used again before its outcome was handed over, and up to a
    depth of 4,095 then not for the next 15 commands of its index. Buffers are kept alive until
    their command has its outcome. A context manager: closing drains it.
    """

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
        self.waiter.pinned = ()
        if not done and self.closed:
            self._check_open()
        return done

    def _has_more(self) -> bool:
        """Whether there is an outcome to wait for, or one that no call has taken."""
        with self.held():  # else one is neither, while a reset or close() moves it
            return bool(self._ring.outstanding or self.unclaimed)

    def _reap(self, wait_ns: int) -> list[Completion]:
        try:
            with self.held():
                # What close() found for a call that waits is handed over all the same.
                if not (self._closed and wait_ns and self.unclaimed):
                    if self._closed or self.device.state >= State.FAILED:
                        self._check_not_ended(waits=wait_ns > 0)
                    self._inside = True
                    try:
                        self._collect(0 if self.unclaimed else wait_ns)
                    finally:
                        self._inside = False
                done = self.hand_over()
        except (DeviceRemovedError, ControllerFatalError) as error:
            self._recover(error)
            raise
        waited = not done and wait_ns == SLICE_NS
        if (waited or time.monotonic() >= self._health_due) and self.outstanding:
            self._check_health(waited=waited)
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
        single = self._single
        count = reap(single.reaped, wait_ns)
        if count <= 0:
            if count:
                fail(count)
        elif single.words[0] and self._aborting[0] < 0 and self._cancel < 0:
            cids = single.cids[:count]
            buffers, mask = self._buffers, self.index_mask
            for cid in cids:
                buffers[cid & mask] = None
            # As _completions() does, without a step of Python's for each.
            fields = zip(cids, _SUCCESS, single.latency_ns, _ZERO, _ZERO, _IN_TIME, strict=False)
            self.unclaimed += map(_new, _COMPLETION, fields)
        else:
            self.unclaimed += self._completions(self._ring.reaped[:count])

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
            self._buffers[cid & self.index_mask] = None
            if overdue:
                self._aborting = (-1, 0.0)
        return done

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

    def free(self) -> None:
        """Give the rings' memory back; for the controller, once the device no longer uses it."""
        with self.stopped():
            self._closed = True
            self.queue.free()
            self._buffers.clear()
            self.waiter.pinned = ()
            self._loop_owner = None

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
