"""Queue pairs lent to single calls, and the read or write that waits for its end.

A queue pair belongs to one thread at a time: each call of :class:`Namespace` takes one that is idle
and gives it back.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pynvme_user.dma import DmaBuffer
from pynvme_user.errors import QueueFullError
from pynvme_user.ring import Operation, transfer_run

if TYPE_CHECKING:
    from pynvme_user.controller import Controller
    from pynvme_user.queue import QueuePair

_DEPTH = 64


class Lender:
    """Lends a controller's queue pairs. Thread-safe."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._dma = controller.dma
        #: Queue pairs that wait to be lent. pop() and append() are atomic; who waits for one is
        #: counted, so that giving one back costs the condition only where somebody does.
        self.idle: list[QueuePair] = []
        self._waiting = 0
        self._given_back = threading.Condition()

    @contextmanager
    def borrow(self) -> Iterator[QueuePair]:
        """Lend a queue pair for one call, with nothing outstanding; see :meth:`lend`."""
        pair = self.lend()
        try:
            # What an error or ctrl-C left behind in an earlier call must not answer for this one.
            pair.drain()
            yield pair
        finally:
            self.give_back(pair)

    def lend(self) -> QueuePair:
        """Lend an idle queue pair, a new one, or, where the controller grants no more, the next
        that another thread gives back. The caller owes it to :meth:`give_back`.
        """
        if not self._controller.usable:
            self._controller.check_usable()
        try:
            return self.idle.pop()
        except IndexError:
            pass
        try:
            return self._controller.queue_pair(min(_DEPTH, self._controller.cap.mqes))
        except QueueFullError:
            return self._await_idle()

    def _await_idle(self) -> QueuePair:
        with self._given_back:
            self._waiting += 1
            try:
                while self._given_back.wait_for(lambda: self.idle, self._controller.timeout):
                    with suppress(IndexError):  # lend() takes one without the condition
                        return self.idle.pop()
            finally:
                self._waiting -= 1
        raise QueueFullError("all I/O queue pairs are in use by queue_pair(): close one")

    def give_back(self, pair: QueuePair) -> None:
        """Give back what :meth:`lend` lent."""
        self.idle.append(pair)
        if self._waiting:
            self._say_idle()

    def _say_idle(self) -> None:
        with self._given_back:
            self._given_back.notify()

    def transfer(self, operation: Operation, lba: int, buffer: Any) -> int:
        """Run one read-like command on a whole buffer and wait for it; return its 15-bit status
        field.

        -ERANGE, with nothing submitted, where that is not what this is for: the buffer is no
        DmaBuffer of this controller, or its span is not known; the LBA is negative; or as
        :func:`transfer_run` says. What an earlier call left outstanding, because of an error or
        ctrl-C, is waited for first. After ctrl-C the command is drained before KeyboardInterrupt
        goes on. Else raises as :meth:`QueuePair.poll`.

        Between one wait and the next each bytecode costs nanoseconds, each call tens of them: so
        this does by itself what is elsewhere in :meth:`lend`, :meth:`give_back` and in methods of
        the queue pair, and writes only those words for C that are not there from the last time.
        """
        try:
            span = buffer.span
            pair = self.idle.pop()
        except AttributeError:
            return -errno.ERANGE
        except IndexError:
            pair = self.lend()
        try:
            while True:
                # In place of the lock, which costs as much as all else here: stopped() first says
                # that nothing may begin and then looks whether it is busy, this does the opposite.
                pair.busy = True
                if not pair.ready:
                    status = -errno.EBUSY
                elif pair.span is not span and not self._use_span(pair, buffer):
                    status = -errno.ERANGE
                else:
                    words = pair.words
                    words[1] = lba
                    if pair.operation is not operation:
                        words[0] = operation.address
                        pair.operation = operation
                    status = transfer_run(pair.transfer)
                pair.busy = False
                if status >= 0:
                    return status
                if status == -errno.EBUSY:
                    pair.make_ready()
                elif status == -errno.ERANGE:
                    return status
                else:
                    pair.kept = (*pair.kept, buffer)
                    return pair.finish(status)
        except OverflowError:  # a negative LBA
            pair.busy = False
            return -errno.ERANGE
        except BaseException as error:
            # Before any call, in which ctrl-C could come again: whatever has become of the command,
            # the device may reach the buffer.
            pair.kept = (*pair.kept, buffer)
            pair.ready = pair.busy = False
            if isinstance(error, KeyboardInterrupt):
                pair.drain()
            raise
        finally:
            self.idle.append(pair)
            if self._waiting:
                self._say_idle()

    def _use_span(self, pair: QueuePair, buffer: Any) -> bool:
        """Tell C where the buffer is, if it is one of this controller's."""
        if type(buffer) is not DmaBuffer or buffer.span[0] is not self._dma:
            return False
        _, pair.words[2], pair.words[3] = pair.span = buffer.span
        return True
