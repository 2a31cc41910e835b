"""The software controller of pynvme_user.testing, in a process of its own, for tests."""

from __future__ import annotations

import struct
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import parse_qsl

import pynvme_user as nvme
from pynvme_user.testing import process
from pynvme_user.testing.device import Counts

_LOG = struct.Struct("<7Q64Q")  # struct controller_log
_LOG_ID = 0xC0
_RENEW = 0xC0
FAULTS = (
    *("none", "read-flip", "write-flip", "torn", "lost", "misdirected", "stale", "status", "kept"),
)


@dataclass(frozen=True)
class ControllerLog(Counts):
    """What the controller counted since it was made, and where it planted its first faults."""

    lbas: list[int]


def read_log(name: str) -> ControllerLog:
    """Read the controller's own log."""
    with nvme.open(name) as ctrl:
        page = ctrl.alloc(4096)
        ctrl.admin(0x02, cdw10=(4096 // 4 - 1) << 16 | _LOG_ID, buffer=page)
        *counts, planted = _LOG.unpack_from(page)[:7]
        return ControllerLog(*counts, planted, list(_LOG.unpack_from(page)[7:][:planted]))


def renew(name: str, fault: str = "none", every: int = 1, value: int = 0) -> None:
    """Let it begin anew, zeroed, with this fault in each so-many-th command that can have it."""
    with nvme.open(name) as ctrl:
        low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        ctrl.admin(_RENEW, cdw10=FAULTS.index(fault), cdw11=every, cdw12=low, cdw13=high)


def served(query: str = "") -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """Start it; give the device's name and the process, which ends with the context.

    ``query`` has the server's options, for example ``block-size=4096&delay=10&null``; without
    ``null`` it keeps data. See ``vfio_user_server.py --help`` for them all.
    """
    options = dict(parse_qsl(query, keep_blank_values=True))
    arguments = [] if "null" in options else ["--memory"]
    options.pop("null", None)
    for name, value in options.items():
        arguments += [f"--{name}", value] if value else [f"--{name}"]
    return process.served(arguments)
