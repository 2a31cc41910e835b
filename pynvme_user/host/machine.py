"""The machine, as far as figures depend on it: its CPU and its memory."""

from __future__ import annotations

import platform
import re
from pathlib import Path

_CPU = Path("/proc/cpuinfo")
_MEMORY = Path("/proc/meminfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cpu_info() -> dict[str, str]:
    """Tell what the kernel says of the first CPU."""
    first, _, _ = _CPU.read_text(encoding="utf-8").partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def cpu_model() -> str:
    """Name the CPU; where the kernel does not, as on ARM, its architecture."""
    return cpu_info().get("model name") or platform.machine()


def governor() -> str | None:
    """Name the first CPU's frequency governor; None where there is none."""
    return _GOVERNOR.read_text(encoding="utf-8").strip() if _GOVERNOR.exists() else None


def memory_info(path: Path = _MEMORY) -> dict[str, int]:
    """Tell what the kernel says of the memory, of one NUMA node by its own file; sizes in bytes."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"(\w+):\s+(\d+)( kB)?", text)
    return {name: int(value) << (10 if unit else 0) for name, value, unit in found}
