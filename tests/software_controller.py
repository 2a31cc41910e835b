"""The software controller of benchmarks/controller, in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import pynvme_user as nvme

_SERVER = Path(__file__).parents[1] / "benchmarks" / "controller" / "serve.py"
_STOP_SECONDS = 10.0
_LOG = struct.Struct("<7Q64Q")  # struct controller_log
_LOG_ID = 0xC0
_RENEW = 0xC0
FAULTS = ("none", "read-flip", "write-flip", "torn", "lost", "misdirected", "stale", "status")


@dataclass(frozen=True)
class ControllerLog:
    """What the controller counted since it was made, and where it planted its first faults."""

    reads: int
    writes: int
    fua_writes: int
    trims: int
    flushes: int
    deepest: int
    planted: int
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


@contextlib.contextmanager
def served(query: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start it; give the device's name and the process, which ends with this context.

    ``query`` has the server's options, for example ``block-size=4096&delay=10&null``; without
    ``null`` it keeps data. See ``serve.py --help`` for them all.
    """
    options = dict(parse_qsl(query, keep_blank_values=True))
    command = [sys.executable, str(_SERVER), "--until-eof"]
    if "null" not in options:
        command.append("--memory")
    options.pop("null", None)
    for name, value in options.items():
        command += [f"--{name}", value] if value else [f"--{name}"]
    with tempfile.TemporaryDirectory() as folder:
        command.append(f"{folder}/cntrl")
        # A pipe that nobody writes to: the server ends with us, whatever ends us.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            try:
                started = server.stdout.readline()
                assert started.startswith("vfio-user:"), "the server did not start: see stderr"
                yield f"vfio-user:{folder}", server
            finally:
                server.stdin.close()
                try:
                    server.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
                    raise
