"""Which turns of a benchmark count: those in which nobody else had its CPUs."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from load import Turn

_MOST_LOST = 0.02  # of a turn
_MOST_REJECTED = 20  # in a row


def waited(pid: int) -> float:
    """Seconds for which the threads of a process were runnable without running."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def stolen(cpus: set[int]) -> float:
    """Seconds that the hypervisor took from these CPUs."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        if (match := re.match(r"cpu(\d+) ", line)) and int(match[1]) in cpus:
            ticks += int(line.split()[8])
    return ticks / os.sysconf("SC_CLK_TCK")


def children() -> list[int]:
    """Tell the processes that this thread started, such as a software controller's."""
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return list(map(int, listed.read_text().split())) if listed.exists() else []


class Gate:
    """Lets turns pass in which this process and the ``others`` had the CPUs to themselves.

    Neither had waited for a CPU, nor the hypervisor taken one, for 2 % of the turn.
    """

    def __init__(self, cpus: set[int], *others: int) -> None:
        self._cpus, self._others = cpus, others
        self.child_waited = 0.0  # by a client that was a process of its own
        self.rejected = 0

    def _lost(self) -> list[float]:
        return [stolen(self._cpus), *map(waited, (os.getpid(), *self._others))]

    def pass_through(self, way: Callable[[], Turn]) -> Turn:
        """Run a way until a turn of it was undisturbed; raises SystemExit where none is."""
        for _ in range(_MOST_REJECTED):
            self.child_waited = 0.0
            before, start = self._lost(), time.perf_counter()
            turn = way()
            seconds = time.perf_counter() - start
            lost = [after - first for after, first in zip(self._lost(), before, strict=True)]
            share = max(*lost, self.child_waited) / seconds
            if share < _MOST_LOST:
                return turn
            self.rejected += 1
        sys.exit(
            f"{_MOST_REJECTED} turns in a row were disturbed, the last for {share:.0%} of its time:"
            " end what else runs here"
        )
