"""What reaches a run from outside.

Ctrl-C, SIGTERM and SIGHUP, once and again, end it; SIGUSR1 asks for its results so far.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from pynvme_user.driver.controller import Controller
from pynvme_user.errors import NvmeError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds for which signals after one that the run took are meant for the run, too.
_MEANT = 1.0


@dataclass(slots=True)
class Signals:
    """What ends the parts of a run before their time, and asks for results on the way."""

    interrupted: int = 0  # the number of the signal that ends the run
    report: bool = False  # the results so far are asked for
    ended: set[int] = field(default_factory=set)  # numbers of parts that are to end
    ended_by: str = ""  # the job whose end is that of the run: exitall with exit_what=all
    #: Of the parts that run: what is not to be waited for ends with a reset of these.
    controllers: Collection[Controller] = ()
    _reset: threading.Thread | None = None
    _taken: float = float("-inf")  # when the run took the last one

    @contextmanager
    def spared(self) -> Iterator[None]:
        """Let no second ctrl-C, right after one that ended the run, end its results; main thread.

        Around caught(). What comes later does what it did before: results may be stuck in a pipe.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def meet(number: int, frame: FrameType | None) -> None:
            if time.monotonic() - self._taken < _MEANT:
                return
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            else:
                signal.signal(number, handler)
                signal.raise_signal(number)

        before = {
            number: handler
            for number in _ENDING
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        for number in before:
            signal.signal(number, meet)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take the signals here instead of where they come; in the main thread alone.

        No other place has to expect KeyboardInterrupt meanwhile, so nothing that was measured is
        lost by it. What is ignored, as nohup has it, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread: they are its own business
            return
        handlers: dict[int, Callable[..., None]] = {
            number: lambda number, _: self.interrupt(number)
            for number in _ENDING
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        handlers[signal.SIGUSR1] = lambda *_: setattr(self, "report", True)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._reset is not None:
                self._reset.join()  # the controllers are closed next

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Let the parts drain their queues and end; the second time, without waiting for those."""
        self._taken = time.monotonic()
        if not self.interrupted:
            self.interrupted = number
        elif self._reset is None:
            # In a thread of its own: a handler must not wait, and the reset is not to be cut short.
            self._reset = threading.Thread(target=self._reset_all, name="reset")
            self._reset.start()

    def _reset_all(self) -> None:
        for controller in self.controllers:
            with suppress(NvmeError):  # that a controller cannot be reset ends its parts, too
                controller.reset()
