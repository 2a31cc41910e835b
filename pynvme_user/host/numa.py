"""On which NUMA node memory lies: mbind(2), before the memory is first touched.

What follows from where the device or a thread's CPUs are *prefers* a node: its pages lie there as
far as there are free ones, and a node that is full or has no memory does not keep a device from
working. What is asked for by name *binds*: the pages lie there, or there is an error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pynvme_user.errors import DmaError
from pynvme_user.host.machine import memory_info
from pynvme_user.units import format_size, whole_number

Mode = Literal["prefer", "bind", "interleave"]

#: The count ``{2}`` of the hugepages of ``{1}`` kB on node ``{0}``.
HUGEPAGES = "/sys/devices/system/node/node{}/hugepages/hugepages-{}kB/{}"

_NODES = Path("/sys/devices/system/node")
_MODES = {"prefer": 1, "bind": 2, "interleave": 3}  # linux/mempolicy.h: MPOL_PREFERRED and so on
_MBIND = {"x86_64": 237}.get(platform.machine(), 235)  # the C library has no function for it
_SMALL = 64 << 20  # what is not worth a look at what there is
_WORD = 8 * ctypes.sizeof(ctypes.c_ulong)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Placement:
    """The NUMA nodes on which memory is to lie. Raises ValueError for what is none."""

    mode: Mode
    nodes: frozenset[int]

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"memory is placed by {', '.join(get_args(Mode))}, not {self.mode!r}")
        if not self.nodes or min(self.nodes) < 0:
            raise ValueError("a NUMA node is a number from 0 on, and there is at least one")
        if self.mode == "prefer" and len(self.nodes) > 1:
            raise ValueError("one NUMA node is preferred: use bind or interleave for several")

    @classmethod
    def on(cls, node: int | Placement) -> Placement:
        """Make the placement of what is asked for on a node; one that is given stays itself."""
        if isinstance(node, Placement):
            return node
        return cls("bind", frozenset({whole_number(node, "a node")}))

    def __str__(self) -> str:
        return f"{self.mode}:{format_list(self.nodes)}"


#: Where memory is asked for: on a node of that number, by a placement, or as it comes.
Node = int | Placement | None


def near(nodes: Iterable[int]) -> Placement | None:
    """Prefer the one node of ``nodes``, where that makes a difference; else None.

    It makes none where they are none or several, or the only node whose memory this process may
    use, or one without any.
    """
    wanted, usable = set(nodes), memory_nodes()
    if len(wanted) != 1 or len(usable) < 2 or not wanted <= usable:
        return None
    return Placement("prefer", frozenset(wanted))


def near_cpus(cpus: Iterable[int]) -> Placement | None:
    """Prefer the node that all of these CPUs are on; as :func:`near`."""
    wanted = set(cpus)
    return near(node for node in _listed(_NODES / "online") if wanted & cpus_of(node))


def memory_nodes() -> frozenset[int]:
    """Tell the nodes that have memory which this process may use."""
    status = Path("/proc/self/status").read_text()
    allowed = re.search(r"^Mems_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    return _listed(_NODES / "has_memory") & (parse_list(allowed[1]) if allowed else frozenset())


def cpus_of(node: int) -> frozenset[int]:
    """Tell the CPUs of a node; none where there is no such node."""
    return _listed(_NODES / f"node{node}/cpulist")


def check_nodes(length: int, placement: Placement) -> None:
    """Raise DmaError where one of the nodes has no memory: of several the kernel drops it."""
    usable = memory_nodes()
    if usable and not placement.nodes <= usable:  # without NUMA there are none, and mbind() says so
        raise _error(errno.EINVAL, length, str(placement))


def check_room(length: int, placement: Placement) -> None:
    """Raise DmaError where ordinary pages that are bound to nodes cannot fit there.

    Not trying spares processes: where a node is full, the kernel kills some that have memory on it.
    """
    check_nodes(length, placement)
    if placement.mode != "bind" or placement.nodes == memory_nodes():
        return  # the kernel looks elsewhere, or everywhere, as for any memory
    room = sum(map(_available, placement.nodes))
    if length > room:
        raise DmaError(
            f"{format_size(length)} of memory cannot be placed by {placement}, where "
            f"{format_size(room)} are available: use smaller buffers or another node"
        )


def check_memory(length: int) -> None:
    """Raise DmaError where the machine cannot have so many bytes: trying, it kills processes."""
    if length < _SMALL:
        return
    room = memory_info()["MemAvailable"]
    if length > room:
        raise DmaError(
            f"a buffer of {format_size(length)} is more memory than the {format_size(room)} that "
            "are available: ask for less, or release buffers first"
        )


def _available(node: int) -> int:
    """Estimate the bytes that programs can still have on a node: free, or cache of files."""
    of = memory_info(_NODES / f"node{node}/meminfo")
    return of["MemFree"] + of["FilePages"] - of["Shmem"] + of["SReclaimable"]


def free_hugepages(page_size: int, nodes: Iterable[int]) -> int:
    """Tell how many hugepages of ``page_size`` bytes are free on these nodes."""
    names = (HUGEPAGES.format(node, page_size >> 10, "free_hugepages") for node in nodes)
    return sum(int(path.read_text()) for path in map(Path, names) if path.exists())


def place(address: int, length: int, placement: Placement) -> None:
    """Say where the pages of a mapping will lie that nobody has touched yet.

    Raises DmaError where the kernel does not take it: the memory is not to be used then.
    """
    check_nodes(length, placement)
    words = (ctypes.c_ulong * (max(placement.nodes) // _WORD + 1))()
    for node in placement.nodes:
        words[node // _WORD] |= 1 << node % _WORD
    _mbind(address, length, _MODES[placement.mode], words, str(placement))


def forget(address: int, length: int) -> None:
    """Undo :func:`place` for pages that are not there yet. Raises DmaError."""
    _mbind(address, length, 0, (ctypes.c_ulong * 0)(), "default")


def _mbind(
    address: int, length: int, mode: int, words: ctypes.Array[ctypes.c_ulong], what: str
) -> None:
    err = _libc.syscall(
        ctypes.c_long(_MBIND),
        ctypes.c_void_p(address),
        ctypes.c_ulong(length),
        ctypes.c_ulong(mode),
        words if len(words) else None,
        ctypes.c_ulong(_WORD * len(words) + 1),  # the kernel leaves out the last of so many bits
        ctypes.c_ulong(0),
    )
    if err:
        raise _error(ctypes.get_errno(), length, what)


def _error(number: int, length: int, what: str) -> DmaError:
    problem = f"{format_size(length)} of memory cannot be placed by {what}"
    match number:
        case errno.EINVAL:
            nodes = format_list(memory_nodes()) or "0"
            return DmaError(
                f"{problem}: the nodes with memory that this process may use are {nodes}, so "
                "choose of these (`numactl --hardware` shows them, and a cpuset can hide some)"
            )
        case errno.EPERM:
            return DmaError(
                f"{problem}: mbind(2) is forbidden here, as containers do, so start this one with "
                "`--cap-add SYS_NICE`, or give it one node with `--cpuset-mems`"
            )
        case errno.ENOSYS:
            return DmaError(
                f"{problem}: this kernel has no NUMA support, so leave the placement out"
            )
    return DmaError(f"{problem} ({os.strerror(number)}): release buffers, and see `dmesg`")


def parse_list(text: str) -> frozenset[int]:
    """Read ``0,5,8-15``, as the kernel writes CPUs and nodes; empty text is none of them."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_list(numbers: Iterable[int]) -> str:
    """Write numbers as :func:`parse_list` reads them."""
    return ",".join(map(str, sorted(numbers)))


def _listed(path: Path) -> frozenset[int]:
    try:
        return parse_list(path.read_text())
    except OSError:
        return frozenset()  # a kernel without NUMA, or no such node
