"""A claim on a device that dies with its holder, and the name of the holder (invariant 6)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pynvme_user.errors import DeviceBusyError
from pynvme_user.spec.text import printable


def claim(descriptor: int, what: str) -> None:
    """Lock an open file for this process until the descriptor is closed.

    Raises DeviceBusyError, which names the process that holds it, if another one does.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = lock_holder(descriptor)
        by = f"process {holder} ({process_name(holder)})" if holder else "another process"
        raise DeviceBusyError(f"{what} is in use by {by}: wait for it or end it", holder) from None


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
