"""What reaches a run from outside.

Ctrl-C, SIGTERM and SIGHUP, once and again, end it; SIGUSR1 asks for its results so far.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pynvme_user.controller import Controller
from pynvme_user.errors import NvmeError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
