"""The one command of a blocking call: what C reads of it, and whether it may begin."""

from __future__ import annotations

import time

from pynvme_user.dma import Mapping
from pynvme_user.ring import CommandTemplate, Ring


class Waiter:
    """A queue pair's part of :meth:`QueuePairPool.transfer`, which alone begins a transfer.

    Who begins one does not take the queue pair's lock, which costs as much as all else: it is kept
    from who stops the queue pair by Dekker's mutual exclusion. It sets ``busy``, then tests
    ``ready``; :meth:`stop` clears ``ready``, then tests ``busy``. That rests on the order that the
    GIL gives: a free-threaded build needs the lock.
    """

    __slots__ = ("args", "busy", "mapping", "pinned", "ready", "template", "transfer")

    def __init__(self, ring: Ring, timeout_ns: int) -> None:
        #: A transfer may begin: False wherever anything may stand in its way.
        self.ready = False
        #: A transfer is in C.
        self.busy = False
        #: The device may reach these.
        self.pinned: tuple[object, ...] = ()
        #: What C reads of a transfer, and what of it is there from the last one.
        self.transfer = ring.transfer_struct
        self.transfer.timeout_ns = timeout_ns
        self.args = ring.transfer_args
        self.template: CommandTemplate | None = None
        self.mapping: Mapping | None = None

    def stop(self) -> None:
        """Let no transfer begin until the queue pair is armed again, and wait for the one in C."""
        self.ready = False
        while self.busy:
            time.sleep(0.0001)

    def forked(self) -> None:
        """Let no transfer begin in a child: the thread that may be in C is not there."""
        self.ready = self.busy = False
