"""Hugepages that are free now."""

from __future__ import annotations

from pathlib import Path

from pynvme_user.host import numa
from pynvme_user.host.numa import Placement

_HUGEPAGES = Path("/sys/kernel/mm/hugepages")


def hugepages(placement: Placement | None = None) -> dict[int, int]:
    """Tell how many hugepages of each size, in bytes, are free now, where memory is bound to."""
    found = {}
    for path in _HUGEPAGES.glob("hugepages-*kB"):
        size = int(path.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        if placement is not None and placement.mode == "bind":
            found[size] = numa.free_hugepages(size, placement.nodes)
        else:
            found[size] = int((path / "free_hugepages").read_text())
    return found
