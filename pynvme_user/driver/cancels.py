"""A queue pair's part in Cancel, by which its device ends one of its commands (Base 2.1, 7.1)."""

from __future__ import annotations

from contextlib import suppress

from pynvme_user.driver.queue_pair_base import QueuePairBase
from pynvme_user.errors import QueueFullError
from pynvme_user.spec.cancel import CancelResult, cancel_one
from pynvme_user.spec.status import Status


class Cancels(QueuePairBase):
    """Sends a Cancel, whose end is nobody's outcome: nothing but its own entry is free by it."""

    #: Its CID, of what one did not end; -1: of none.
    _not_cancelled = -1

    def _begin(self) -> None:
        super()._begin()
        #: The overdue command that something was done about: its CID, and when.
        self._aborting = (-1, 0.0)
        #: The CID of the Cancel that is outstanding; -1: of none.
        self._cancel = -1

    def cancel(self, cid: int) -> bool:
        """Have the device end a command; whether it was asked to.

        Not where a loop in C has the queue pair, which knows its own commands alone, while another
        Cancel is outstanding, for what one did not end, and where the queue is full.
        """
        with self._lock, suppress(QueueFullError):
            if self._loop is None and self._cancel < 0 and cid != self._not_cancelled:
                self._cancel = self._ring.submit(bytes(cancel_one(self.qid, cid)), 0, 0)
                self._ring.ring_doorbell()
                return True
        return False

    def _end_cancel(self, status: int, dw0: int) -> None:
        """Take the end of the Cancel; what it did not end is aborted next."""
        self._cancel = -1
        if not Status(status).ok or not CancelResult(dw0):
            self._not_cancelled, self._aborting = self._aborting[0], (-1, 0.0)
