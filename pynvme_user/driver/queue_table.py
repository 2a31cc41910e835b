"""A controller's I/O queue pairs: which there are, how they are made and deleted.

The id of a queue pair is taken from before its creation until after its deletion, so that whatever
happens in between, ctrl-C included, nobody forgets what the controller may have; and its memory is
kept as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from pynvme_user.driver.admin import AdminQueue
from pynvme_user.driver.device import Device, Recovery
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.errors import NvmeError, NvmeStatusError, NvmeTimeoutError, QueueFullError
from pynvme_user.host.numa import Node
from pynvme_user.logs import logger
from pynvme_user.native import U16Array
from pynvme_user.ring import MAX_DEPTH
from pynvme_user.spec.identify_controller import ControllerType
from pynvme_user.transport.controller_memory import QUEUE_PARTS, ControllerMemoryBuffer
from pynvme_user.units import whole_number

log = logger(__name__)

DEFAULT_DEPTH = 256
#: As many as the one page of shadow doorbells has, beside the admin queue's.
_MOST = 511


class QueuePairs:
    """Iterates over the I/O queue pairs whose ids are taken; its length is their number."""

    def __init__(
        self,
        device: Device,
        recovery: Recovery,
        commands: AdminQueue,
        pool: QueuePairPool,
    ) -> None:
        self._device = device
        self._recovery = recovery
        self._commands = commands
        self._pool = pool
        self._by_id: dict[int, QueuePair] = {}
        #: Ids of those of which the controller may have both queues, one or none.
        self._orphans: set[int] = set()
        #: Of each id that was in use: where its next queue pair's CIDs go on.
        self._cids: dict[int, U16Array] = {}
        #: What the controller grants, and, where that is none, why.
        self.most = 0
        self._why_none = ""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[QueuePair]:
        return iter(list(self._by_id.values()))

    # --- what each enable needs ---------------------------------------------------------------

    def set_up(self) -> None:
        """Ask for I/O queues; there are none where they are refused."""
        self.most, self._why_none = 0, ""
        kind = self._device.identify.cntrltype
        if kind in (ControllerType.ADMINISTRATIVE, ControllerType.DISCOVERY):
            self._why_none = f"it is a controller of type {ControllerType(kind).name}"
            return
        try:
            self.most = min(self._commands.request_queues(_MOST), _MOST)
        except NvmeStatusError as error:
            self._why_none = str(error)
            self._device.warn(f"there are no I/O queues, only admin commands, since {error}")

    def restart(self) -> None:
        """Make them again after a reset, which has deleted them all."""
        for pair in self:
            if self._is_orphan(pair):
                self._drop(pair)
                continue
            pair.restart()
            pair.queue.connect(self._commands.run)

    def close(self, attempt: Callable[[Callable[[], None]], NvmeError | None]) -> None:
        """Close those that are open, before the controller is shut down, which ends the rest.

        ``attempt`` takes what goes wrong with one, and returns it. After a reset nothing is
        outstanding in any; where one is not deleted in its time, no time is spent on the others.
        """
        with self._device.admin_lock:
            resets = self._device.resets  # whoever was making one has made it by now
        for pair in self:
            if pair.qid in self._orphans or self._device.resets != resets:
                continue
            if isinstance(attempt(pair.close), NvmeTimeoutError):
                return

    def free(self) -> None:
        """Give their memory back; at the controller's end."""
        # Not with this object, which a cycle of references may keep for long: hugepages are few.
        for pair in self:
            pair.free()

    # --- one queue pair -----------------------------------------------------------------------

    def open(
        self,
        depth: int | None,
        *,
        sgl: bool | None,
        spin: float | None,
        node: Node,
        cmb: bool | Iterable[str] = False,
    ) -> QueuePair:
        """Make one; see :meth:`Controller.queue_pair`."""
        device = self._device
        limit = min(device.cap.mqes, MAX_DEPTH)
        if depth is None:
            depth = min(DEFAULT_DEPTH, limit)
        depth = whole_number(depth, "the depth of a queue pair")
        if not 1 <= depth <= limit:
            raise ValueError(f"the depth of a queue pair here is 1 to {limit}, not {depth}")
        supported = device.identify.sgls.sgls != 0
        if sgl and not supported:
            raise ValueError("the controller has no SGLs: leave sgl out")
        parts = self._in_memory_buffer(cmb)
        pair = None
        try:
            with self._taken_qid() as qid:
                pair = QueuePair(
                    device,
                    self._recovery,
                    device.transport.queue(
                        qid,
                        depth,
                        device.cap,
                        of=self.most,
                        spin=device.spin if spin is None else spin,
                        node=node,
                        cmb=parts,
                    ),
                    delete=self.release,
                    use_sgl=supported if sgl is None else sgl,
                    cids=self._cids.get(qid),
                )
                self._orphans.add(qid)
                self._by_id[qid] = pair
                pair.queue.connect(self._commands.run)
                self._orphans.discard(qid)
            log.debug("%s: queue pair %d of depth %d is made", device.name, qid, depth)
            return pair
        except BaseException:
            if pair is not None:
                pair.lost = True  # before any call, in which ctrl-C could come again
                self._delete_orphans()
            raise

    def _in_memory_buffer(self, cmb: bool | Iterable[str]) -> dict[str, ControllerMemoryBuffer]:
        """Tell which parts of a queue pair lie in the Controller Memory Buffer."""
        device = self._device
        parts = {"sqs"} if cmb is True else set(cmb or ())
        if isinstance(cmb, str) or parts - set(QUEUE_PARTS):
            raise ValueError(
                f"cmb is True, for the submission queue, or some of {', '.join(QUEUE_PARTS)} in a "
                f"tuple, not {cmb!r}"
            )
        if not parts:
            return {}
        with device.admin_lock:
            device.check_open()
            buffer = device.transport.memory_buffer(device.registers)
        buffer.check(parts)
        return dict.fromkeys(parts, buffer)

    def release(self, pair: RawQueuePair) -> None:
        """Delete a queue pair's queues; for its close(), after which it is not used again."""
        try:
            self._delete(pair)
        except NvmeError:
            raise
        except BaseException:
            self._delete_orphans()
            raise
        self._pool.call()  # whoever waits for a queue pair may make one now

    def _delete(self, pair: RawQueuePair) -> None:
        with self._device.admin_lock:
            if self._by_id.get(pair.qid) is not pair:
                return
            # First: a reset, if a command is not answered, would make them again.
            self._orphans.add(pair.qid)
            if self._device.answers:
                pair.queue.disconnect(self._commands.run)
            self._drop(pair)
        log.debug("%s: queue pair %d is deleted", self._device.name, pair.qid)

    def _delete_orphans(self) -> None:
        """Delete what the controller may have, because an error or ctrl-C came in between."""
        with self._device.admin_lock:
            for pair in self:
                if self._is_orphan(pair):
                    with suppress(NvmeError):  # its id stays taken, up to a reset at most
                        self._delete(pair)

    def _is_orphan(self, pair: QueuePair) -> bool:
        # One may be closed without being released: by ctrl-C between the two.
        return pair.qid in self._orphans or pair.ended or pair.lost

    def _drop(self, pair: RawQueuePair) -> None:
        if self._by_id.get(pair.qid) is pair:
            del self._by_id[pair.qid]
            self._cids[pair.qid] = pair.cids
        self._orphans.discard(pair.qid)

    @contextmanager
    def _taken_qid(self) -> Iterator[int]:
        """Find a free queue id, or free one by closing an idle queue pair of the pool; hold the
        lock.
        """
        while True:
            with self._device.admin_lock:
                # Under the lock: the kernel may ask for the device back at any time.
                self._device.check_open()
                self._delete_orphans()
                qid = self._free_qid()
                if qid is not None:
                    yield qid
                    return
            # Not under it, since whoever closes the controller has the queue pair's first.
            try:
                idle = self._pool.take()
            except IndexError:
                raise QueueFullError(
                    f"the controller grants {self.most} I/O queue pairs, all in use: close one"
                ) from None
            idle.close()

    def _free_qid(self) -> int | None:
        if self._why_none:
            raise NvmeError(
                f"{self._device.name} has no I/O queues, only admin commands: {self._why_none}"
            )
        return next((qid for qid in range(1, self.most + 1) if qid not in self._by_id), None)
