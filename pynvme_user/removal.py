"""Waiting for the kernel to ask a device back, as hot-unplug and unbinding do under VFIO."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from pynvme_user import owned


class RemovalWatch:
    """A thread that calls ``let_go`` once when the eventfd ``request_fd`` becomes readable.

    The kernel waits until the device's descriptors are closed, and asks again and again.
    """

    def __init__(self, request_fd: int, let_go: Callable[[], None]) -> None:
        self._stop = owned.descriptor(os.eventfd, 0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._watch, args=(request_fd, let_go), name="removal-watch", daemon=True
        )
        self._thread.start()

    def _watch(self, request_fd: int, let_go: Callable[[], None]) -> None:
        poller = select.poll()
        poller.register(request_fd, select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        if self._stop not in ready:
            let_go()

    def close(self) -> None:
        """Stop watching; before the eventfd is closed. May be called by ``let_go`` itself."""
        os.eventfd_write(self._stop, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
            owned.close(self._stop)
