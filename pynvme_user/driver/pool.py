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


class _InLine:
    """A thread in the line; `called` is released once it is to look."""

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
        self._make = make
        #: Queue pairs that are not in use: append() releases one. Atomic, as is take().
        self.idle: list[QueuePair] = []
        #: Takes one of them, the one used last. While anybody waits it raises IndexError, so that
        #: nobody comes before those; and from the controller's end on.
        self.take: Callable[[], QueuePair] = self.idle.pop
        # Who waits, in their order. Who releases one looks here without the lock: they say first
        # that they wait and look for idle ones then, it does the opposite.
        self._line: deque[_InLine] = deque()
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
        return self._make(min(_DEPTH, self._device.cap.mqes))

    def _wait_in_line(self) -> QueuePair:
        waiter = _InLine()
        start = time.monotonic()
        try:
            with self._lock:
                self._line.append(waiter)
                self.take = _take_nothing
            self._serve()
            while waiter.pair is None:
                if not self._device.usable:
                    self._device.check_open()
                seconds = time.monotonic() - max(start, self._moved)
                if seconds > self._device.timeout:
                    raise QueueFullError(
                        f"no I/O queue pair became free within {seconds:.1f} s: close one that "
                        "queue_pair() made"
                    )
                waiter.called.acquire(timeout=_LOOK_SECONDS)
                if self._serve() is waiter:
                    with suppress(QueueFullError):  # whoever made one may have closed it
                        new = self._new()
                        self._leave(waiter)
                        return new
            return waiter.pair
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _InLine) -> None:
        """Leave the line, and release what came meanwhile."""
        with self._lock:
            if waiter in self._line:
                self._line.remove(waiter)
            if waiter.pair is not None:
                self.idle.append(waiter.pair)
            self._serve()

    def release(self, pair: QueuePair) -> None:
        """Release what :meth:`acquire` gave."""
        self.idle.append(pair)
        if self._line:
            self._serve()

    def _serve(self) -> _InLine | None:
        """Hand the idle queue pairs to those who wait, in their order; return who is first now."""
        with self._lock:
            # In this order, so that ctrl-C in between loses neither of them.
            while self._line and (self.idle or self._line[0].pair):
                waiter = self._line[0]
                if waiter.pair is None:
                    waiter.pair = self.idle[-1]
                    self.idle.remove(waiter.pair)
                self._line.popleft()
                waiter.call()
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
            for waiter in self._line:
                waiter.call()

    def call(self) -> None:
        """Let the first who waits look whether it can make one, or why there will be none."""
        with self._lock:
            for waiter in list(self._line)[:1]:
                waiter.call()

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
        try:
            while True:
                # Dekker's mutual exclusion in place of the lock, which costs as much as all else
                # here: this sets `busy`, then tests `ready`; stopped() clears `ready`, then tests
                # `busy`. It rests on the GIL's order: a free-threaded build needs the lock.
                pair.busy = True
                if not pair.ready:
                    status = -errno.EBUSY
                else:
                    args = pair.args
                    if pair.mapping is not mapping:
                        if type(mapping) is not Mapping or mapping[0] is not self._dma:
                            pair.busy = False
                            return -errno.ERANGE
                        _, args[2], args[3] = pair.mapping = mapping
                    args[1] = lba
                    if pair.template is not template:
                        args[0] = template.address
                        pair.template = template
                    status = transfer_run(pair.transfer)
                pair.busy = False
                if status >= 0:
                    return status
                if status == -errno.EBUSY:
                    pair.rearm()
                elif status == -errno.ERANGE:
                    return status
                else:
                    pair.pinned = (*pair.pinned, buffer)
                    return pair.complete_late(status)
        except OverflowError:  # a negative LBA
            pair.busy = False
            return -errno.ERANGE
        except BaseException as error:
            # Before any call, in which ctrl-C could come again: whatever has become of the command,
            # the device may reach the buffer.
            pair.pinned = (*pair.pinned, buffer)
            pair.ready = pair.busy = False
            if isinstance(error, KeyboardInterrupt):
                with suppress(NvmeError):
                    pair.drain()
            raise
        finally:
            self.idle.append(pair)
            if self._line:
                self._serve()
