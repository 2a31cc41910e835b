"""What ends a command from outside: ctrl-C, SIGTERM and SIGHUP, all in the same way.

Next to nothing is imported here, so that they are met early.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, ``number``, came: the command ends as at ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def catch() -> None:
    """Let SIGTERM and SIGHUP raise Terminated; what is ignored, as nohup has it, stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def end(number: int, _: FrameType | None = None) -> NoReturn:
    """Raise KeyboardInterrupt or Terminated for a signal."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(number)


def describe(error: KeyboardInterrupt) -> tuple[str, int]:
    """Give the word for what ended the command, and its exit code: 128 and the signal's number."""
    number = error.number if isinstance(error, Terminated) else int(signal.SIGINT)
    return _WORDS[signal.Signals(number)], 128 + number
