"""The device that a benchmark runs on, the CPUs that it and the device have, and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import pynvme_user as nvme
from pynvme_user.host import machine
from pynvme_user.testing.process import served


@dataclass(frozen=True, slots=True)
class Cpus:
    """The CPUs for the benchmark's threads, and the one for the software controller's."""

    clients: list[int]
    server: int


def cpus() -> Cpus:
    """Split the CPUs that this process may use: the last is the software controller's."""
    usable = sorted(os.sched_getaffinity(0))
    return Cpus(usable[:-1] or usable, usable[-1])


@contextlib.contextmanager
def opened(name: str | None, *options: str, spin: float | None = None) -> Iterator[nvme.Controller]:
    """Open a device; without a name the repository's null controller, served with ``options``.

    This thread is pinned to the first of the CPUs meanwhile, and its affinity is given back.
    """
    before = os.sched_getaffinity(0)
    split = cpus()
    with contextlib.ExitStack() as stack:
        if name is None:
            arguments = ["--cpu", str(split.server), "--block-size", "4096", *options]
            # On one CPU the two take turns by the scheduler, and better by sleeping.
            arguments += ["--spin"] * (split.server not in split.clients)
            name, _ = stack.enter_context(served(arguments))
        os.sched_setaffinity(0, split.clients[:1])
        stack.callback(os.sched_setaffinity, 0, before)
        yield stack.enter_context(nvme.open(name) if spin is None else nvme.open(name, spin=spin))


def first_namespace(ctrl: nvme.Controller) -> nvme.Namespace:
    """Return the namespace that is measured."""
    return ctrl.namespaces[min(ctrl.namespaces)]


def machine_facts() -> dict[str, object]:
    """Tell what the figures depend on, of this machine."""
    memory = machine.memory_info()
    return {
        "cpu": machine.cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "governor": machine.governor() or "none",
        "kernel": platform.release(),
        "memory_bytes": memory["MemTotal"],
        "hugepages_total": memory.get("HugePages_Total", 0),
        "hugepages_free": memory.get("HugePages_Free", 0),
        "hugepage_bytes": memory.get("Hugepagesize", 0),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "pynvme_user": version("pynvme_user"),
    }


def memory_available() -> int:
    """Tell how many bytes of memory programs can still have."""
    return machine.memory_info()["MemAvailable"]
