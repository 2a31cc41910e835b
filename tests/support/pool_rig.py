"""For the tests of transfers that are waited for: on one queue pair, with ctrl-C in between."""

from __future__ import annotations

import signal
import threading
import time

from ring_rig import TEMPLATE
from soft_controller import OK, SoftController

from pynvme_user import (
    Controller,
)
from pynvme_user.dma import DmaBuffer
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.spec.status import Status


def pooled(ctrl: Controller) -> QueuePair:
    """The queue pair that the next single call gets."""
    pair = ctrl.pool.acquire()
    ctrl.pool.release(pair)
    return pair


def read(ctrl: Controller, pair: QueuePair, lba: int = 0) -> int:
    return transfer(ctrl, pair, lba, mapped(ctrl, 512))


def mapped(ctrl: Controller, length: int, offset: int = 0) -> DmaBuffer:
    """A buffer whose mapping is known, from an address that need not be one for a transfer."""
    buffer = ctrl.alloc(length + offset)
    return ctrl.dma.with_mapping(buffer[offset:], buffer.iova + offset)


def transfer(ctrl: Controller, pair: QueuePair, lba: int, buffer: DmaBuffer) -> int:
    """A transfer on this queue pair, by a pool that has no other."""
    pool = QueuePairPool(ctrl._device, ctrl.queue_pair)
    pool.release(pair)
    try:
        return pool.transfer(TEMPLATE, lba, buffer)
    finally:
        assert pool.idle == [pair]


def usable(ctrl: Controller) -> None:
    for lba in range(3):
        ctrl.namespaces[1].write(lba, bytes(512))
        ctrl.namespaces[1].read_into(lba, ctrl.alloc(512))


def answer_kept(soft: SoftController, status: Status) -> None:
    """Complete what the device has kept, once it has something."""
    while not soft.kept:
        time.sleep(0.001)
    soft.release(status)


class CtrlC(threading.Thread):
    """Presses ctrl-C once the device has the command, and ``again`` while it is drained.

    Then, after a while, the command is completed, unless there was a second time.
    """

    def __init__(self, soft: SoftController, pair: QueuePair, *, again: bool = False) -> None:
        super().__init__()
        self.soft, self.pair, self.again = soft, pair, again
        self.completed = 0.0

    def run(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self.soft.kept or not self.pair.waiter.busy:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)
        while self.pair.waiter.busy:
            time.sleep(0.001)
        time.sleep(0.15)
        if self.again:
            signal.pthread_kill(main, signal.SIGINT)
        else:
            self.completed = time.monotonic()
            answer_kept(self.soft, OK)
