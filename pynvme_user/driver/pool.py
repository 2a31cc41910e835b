"""The pool of queue pairs for single calls, and the read or write that waits for its end.

A queue pair belongs to one thread at a time: each call of :class:`Namespace` takes one that is idle
and gives it back.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pynvme_user import owned
from pynvme_user.dma import Mapping
from pynvme_user.driver.device import Device
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.errors import NvmeError, QueueFullError
from pynvme_user.ring import CommandTemplate, transfer_run

_DEPTH = 64
#: How long who waits for a queue pair sleeps before it sees for itself how things are.
_LOOK_SECONDS = 0.5
#: In place of `take` where there is nothing to be had: raises IndexError.
_take_nothing: Callable[[], QueuePair] = list[Any]().pop


class _Place:
    """A thread's place in the line; `called` is released once it is to look."""

    def __init__(self) -> None:
        self.pair: QueuePair | None = None
        self.called = threading.Lock()
        self.called.acquire()

    def call(self) -> None:
        """Let it look; does nothing where it was called before and has not looked yet."""
        if self.called.locked():
            self.called.release()


class QueuePairPool:
    """A controller's queue pairs for single calls, first come, first served. Thread-safe.

    ``make`` makes one of a depth; it raises QueueFullError where the controller grants no more.
    """

    def __init__(self, device: Device, make: Callable[[int], QueuePair]) -> None:
        self._device = device
        self._dma = device.dma
        self.make = make
        #: Queue pairs that are not in use: append() releases one. Atomic, as is take().
        self.idle: list[QueuePair] = []
        #: Takes one of them, the one used last. While anybody waits it raises IndexError, so that
        #: nobody comes before those; and from the controller's end on.
        self.take: Callable[[], QueuePair] = self.idle.pop
        # Who waits, in their order. Who releases one looks here without the lock: they say first
        # that they wait and look for idle ones then, it does the opposite.
        self._line: deque[_Place] = deque()
        self._lock = threading.RLock()
        self._moved = 0.0  # when the line did last
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Have no queue pair, and a lock that nobody holds, in a child of process ``owner``."""
        self._lock = threading.RLock()
        self._line.clear()
        self.take = _take_nothing

    @contextmanager
    def acquired(self) -> Iterator[QueuePair]:
        """Acquire a queue pair for one call, with nothing outstanding; see :meth:`acquire`."""
        pair = self.acquire()
        try:
            # What an error or ctrl-C left behind in an earlier call must not answer for this one.
            pair.drain()
            yield pair
        finally:
            self.release(pair)

    def acquire(self) -> QueuePair:
        """Acquire an idle queue pair, a new one, or, where the controller grants no more, the next
        that another thread releases. The caller owes it to :meth:`release`.

        Raises QueueFullError if none is released for as long as a command may take, and what
        stands in the way of any command.
        """
        if not self._device.usable:
            self._device.check_open()
        try:
            return self.take()
        except IndexError:
            pass
        if not self._line:
            try:
                return self._new()
            except QueueFullError:
                pass
        return self._wait_in_line()

    def _new(self) -> QueuePair:
        return self.make(min(_DEPTH, self._device.cap.mqes))

    def _wait_in_line(self) -> QueuePair:
        place = _Place()
        start = time.monotonic()
        try:
            with self._lock:
                self._line.append(place)
                self.take = _take_nothing
            self._serve()
            while place.pair is None:
                if not self._device.usable:
                    self._device.check_open()
                seconds = time.monotonic() - max(start, self._moved)
                if seconds > self._device.timeout:
                    raise QueueFullError(
                        f"no I/O queue pair became free within {seconds:.1f} s: close one that "
                        "queue_pair() made"
                    )
                place.called.acquire(timeout=_LOOK_SECONDS)
                if self._serve() is place:
                    with suppress(QueueFullError):  # whoever made one may have closed it
                        new = self._new()
                        self._leave(place)
                        return new
            return place.pair
        except BaseException:
            self._leave(place)
            raise

    def _leave(self, place: _Place) -> None:
        """Leave the line, and release what came meanwhile."""
        with self._lock:
            if place in self._line:
                self._line.remove(place)
            if place.pair is not None:
                self.idle.append(place.pair)
            self._serve()

    def release(self, pair: QueuePair) -> None:
        """Release what :meth:`acquire` gave."""
        self.idle.append(pair)
        if self._line:
            self._serve()

    def _serve(self) -> _Place | None:
        """Hand the idle queue pairs to those who wait, in their order; return who is first now."""
        with self._lock:
            # In this order, so that ctrl-C in between loses neither of them.
            while self._line and (self.idle or self._line[0].pair):
                place = self._line[0]
                if place.pair is None:
                    place.pair = self.idle[-1]
                    self.idle.remove(place.pair)
                self._line.popleft()
                place.call()
                self._moved = time.monotonic()
            if self._line:
                return self._line[0]
            if self._device.usable:
                self.take = self.idle.pop
            return None

    def close(self) -> None:
        """Give out no more, now that the controller is not usable; let all who wait see why."""
        with self._lock:
            self.take = _take_nothing
            for place in self._line:
                place.call()

    def call(self) -> None:
        """Let the first who waits look whether it can make one, or why there will be none."""
        with self._lock:
            for place in list(self._line)[:1]:
                place.call()

    def transfer(self, template: CommandTemplate, lba: int, buffer: Any) -> int:
        """Run one read-like command on a whole buffer and wait for it; return its 15-bit status
        field.

        -ERANGE, with nothing submitted, where that is not what this is for: the buffer has
        no mapping of this controller that is known; the LBA is negative; or as
        :func:`transfer_run` says. What an earlier call left outstanding, because of an error or
        ctrl-C, is waited for first. After ctrl-C the command is drained before KeyboardInterrupt
        goes on. Else raises as :meth:`QueuePair.poll`.

        Between one wait and the next each bytecode costs nanoseconds, each call tens of them: so
        this does by itself what is elsewhere in :meth:`acquire`, :meth:`release` and in methods of
        the queue pair, and writes only those args for C that are not there from the last time.
        """
        try:
            mapping = buffer.mapping
            pair = self.take()
        except AttributeError:
            return -errno.ERANGE
        except IndexError:
            pair = self.acquire()
        waiter = pair.waiter
        try:
            while True:
                # In this order: see Waiter.
                waiter.busy = True
                if not waiter.ready:
                    status = -errno.EBUSY
                else:
                    args = waiter.args
                    if waiter.mapping is not mapping:
                        if type(mapping) is not Mapping or mapping[0] is not self._dma:
                            waiter.busy = False
                            return -errno.ERANGE
                        _, args[2], args[3] = waiter.mapping = mapping
                    args[1] = lba
                    if waiter.template is not template:
                        args[0] = template.address
                        waiter.template = template
                    status = transfer_run(waiter.transfer)
                waiter.busy = False
                if status >= 0:
                    return status
                if status == -errno.EBUSY:
                    pair.rearm()
                elif status == -errno.ERANGE:
                    return status
                else:
                    waiter.pinned = (*waiter.pinned, buffer)
                    return pair.complete_late(status)
        except OverflowError:  # a negative LBA
            waiter.busy = False
            return -errno.ERANGE
        except BaseException as error:
            # Before any call, in which ctrl-C could come again: whatever has become of the command,
            # the device may reach the buffer.
            waiter.pinned = (*waiter.pinned, buffer)
            waiter.ready = waiter.busy = False
            if isinstance(error, KeyboardInterrupt):
                with suppress(NvmeError):
                    pair.drain()
            raise
        finally:
            self.idle.append(pair)
            if self._line:
                self._serve()
