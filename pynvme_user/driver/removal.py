"""Waiting for what the kernel reports of a device under VFIO.

It asks for it back, as hot-unplug and unbinding do, or tells of an uncorrectable PCIe error.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from pynvme_user import owned


class RemovalWatch:
    """A thread that looks at two eventfds of the device, each None where it has none.

    It calls ``detach`` once when ``request_fd`` becomes readable: the kernel waits until the
    device's descriptors are closed, and asks again and again. It calls ``recover`` each time that
    ``error_fd`` does.
    """

    def __init__(
        self,
        request_fd: int | None,
        detach: Callable[[], None],
        error_fd: int | None,
        recover: Callable[[], None],
    ) -> None:
        self._request_fd, self._detach = request_fd, detach
        self._error_fd, self._recover = error_fd, recover
        self._stop = owned.descriptor(os.eventfd, 0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="removal-watch", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            owned.close(self._stop)
            raise

    def _watch(self) -> None:
        poller = select.poll()
        for fd in (self._stop, self._request_fd, self._error_fd):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._stop in ready:
                return
            if self._request_fd in ready:
                self._detach()
                return
            if self._error_fd is not None:
                os.eventfd_read(self._error_fd)
                self._recover()

    def close(self) -> None:
        """Stop watching; before the eventfd is closed. May be called by ``detach`` itself."""
        os.eventfd_write(self._stop, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
            owned.close(self._stop)
