"""Counts what one call of the API passes through: Python calls of the package's own, and files.

``python benchmarks/calls.py`` prints the table; ``--list NAME`` the calls of one row, in order. It
runs on the software controller of this process, so that nothing waits for a device.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pynvme_user as nvme
from pynvme_user import AdminOpcode, Cns

ROOT = Path(nvme.__file__).parent
#: Calls that a row may have at most.
GOALS = {
    "read_into, a buffer used before": 2,
    "read_into, a fresh slice": 8,
    "ns.read(0, 1)": 20,
    "one admin command": 25,
    "an error status": 30,
}


class Calls:
    """Notes each call of a function of the package while it is entered."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Be the profiler of this thread."""
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and ROOT in path.parents:
            file = str(path.relative_to(ROOT))
            self.names.append(f"{file}: {code.co_qualname}")
            self.files.add(file)

    def __enter__(self) -> Calls:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def counted(what: Callable[[], object]) -> Calls:
    """Count the calls of ``what``, once it has been done before; an error is what it comes to."""
    for _ in range(3):
        with contextlib.suppress(nvme.NvmeStatusError):
            what()
    with Calls() as calls, contextlib.suppress(nvme.NvmeStatusError):
        what()
    return calls


def rows(ctrl: nvme.Controller) -> dict[str, Calls]:
    """Count each row of the table."""
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(1 << 20)
    size = ns.block_size
    used = buffer[:size]
    page = ctrl.alloc(4096)
    slices = iter([buffer[first : first + size] for first in range(0, 64 * size, size)])

    def admin(**fields: Any) -> None:
        ctrl.admin(AdminOpcode.IDENTIFY, buffer=page, **fields)

    calls: dict[str, Callable[[], object]] = {
        "read_into, a buffer used before": lambda: ns.read_into(0, used),
        "read_into, a fresh slice": lambda: ns.read_into(0, next(slices)),
        "ns.read(0, 1)": lambda: ns.read(0, 1),
        "one admin command": lambda: admin(cdw10=Cns.CONTROLLER),
        "an error status": lambda: admin(cdw10=0xFF),
    }
    return {name: counted(what) for name, what in calls.items()}


def main() -> int:
    """Print the table; 1 if a row is above its goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("device", nargs="?", default="qemu:?size=64M")
    parser.add_argument("--list", metavar="NAME", help="print the calls of the row so named")
    options = parser.parse_args()
    with nvme.open(options.device) as ctrl:
        found = rows(ctrl)
    if options.list is not None:
        print("\n".join(found[options.list].names))
        return 0
    print("| what | calls | files | goal |\n|---|--:|--:|--:|")
    for name, calls in found.items():
        print(f"| {name} | {len(calls.names)} | {len(calls.files)} | {GOALS[name]} |")
    return int(any(len(calls.names) > GOALS[name] for name, calls in found.items()))


if __name__ == "__main__":
    sys.exit(main())
