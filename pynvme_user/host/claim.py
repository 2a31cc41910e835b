"""A claim on a device that dies with its holder, and the name of the holder (invariant 6)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from pynvme_user.errors import DeviceBusyError
from pynvme_user.spec.text import printable

#: A program that another thread starts has our descriptors up to its exec: so long it may take.
_EXEC_SECONDS = 2.0


def claim(descriptor: int, what: str) -> None:
    """Lock an open file for this process until the descriptor is closed.

    Raises DeviceBusyError, which names the process that holds it, if another one does.
    """
    take(
        lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: lock_holder(descriptor),
        what,
    )


def take(attempt: Callable[[], None], holder: Callable[[], int | None], what: str) -> None:
    """Take a claim by a call that raises OSError where somebody has it, whom ``holder`` tells.

    What this process itself seems to have, or nobody any more, is tried again for a moment.
    Raises DeviceBusyError, which names the process.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while True:
        try:
            attempt()
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EADDRINUSE):
                raise
            pid = holder()
            if pid not in (None, os.getpid()) or time.monotonic() > deadline:
                by = f"process {pid} ({process_name(pid)})" if pid else "another process"
                said = f"{what} is in use by {by}: wait for it or end it"
                raise DeviceBusyError(said, pid) from None
        time.sleep(0.05)


def lock_holder(descriptor: int) -> int | None:
    """Process id that holds the flock on an open file, from /proc/locks."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        # "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; a waiter has "->" before its kind.
        words = line.split()
        if words[1] == "FLOCK" and words[5] == device:
            return int(words[4])
    return None


def process_name(pid: int) -> str:
    """Name of a process, for a message."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="surrogateescape")
        return printable(name.strip())
    except OSError:
        return "ended since"
