"""A queue pair's part in the health of its device: errors, and commands that are overdue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pynvme_user.driver.cancels import Cancels
from pynvme_user.errors import ClosedError, ControllerFatalError, DeviceRemovedError
from pynvme_user.native import ClockWatch


class Deadlines(Cancels):
    """Lets recovery act on an error of the device, or a command that takes too long."""

    _health_due = 0.0

    def _begin(self) -> None:
        super()._begin()
        self._watch = ClockWatch()

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
