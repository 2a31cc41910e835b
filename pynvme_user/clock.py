"""The clock of the I/O path (_clock.h), seen from Python."""

from __future__ import annotations

import time

from pynvme_user._ring_cffi import lib


def tick_rate() -> int:
    """Ticks in a second."""
    return int(lib.nvme_tick_rate())


class ClockWatch:
    """Holds the clock of the I/O path (_clock.h) against CLOCK_MONOTONIC."""

    #: Two readings one after the other, of a thread that may lose its CPU in between.
    _SLACK = 0.05
    #: What the rate may be off, beyond the error with which it is measured.
    _RATE = 1e-3

    def __init__(self) -> None:
        self._monotonic, self._ticks = time.monotonic(), int(lib.nvme_ticks())

    def stepped(self) -> bool:
        """Tell whether it went back or ahead since the last call."""
        monotonic, ticks = time.monotonic(), int(lib.nvme_ticks())
        passed = monotonic - self._monotonic
        counted = (ticks - self._ticks) / tick_rate()
        self._monotonic, self._ticks = monotonic, ticks
        return abs(counted - passed) > self._SLACK + self._RATE * passed
