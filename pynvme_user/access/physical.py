"""DMA without an IOMMU: hugepages, whose physical addresses do not change under the device."""

from __future__ import annotations

import ctypes
import mmap
import os
import warnings
from collections.abc import Sequence

from pynvme_user import owned
from pynvme_user.access.base import DmaRegion
from pynvme_user.access.memory import (
    PAGE_SIZE,
    Memory,
    map_shared,
    memory_file,
    populate,
)
from pynvme_user.errors import DeviceAccessError, DmaError, UnsafeAccessWarning
from pynvme_user.host import numa
from pynvme_user.host.hugepages import hugepages
from pynvme_user.host.numa import Placement

_PFN_MASK = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst: bits 54 to 0
_FALLOC_PUNCH_HOLE = 0x01 | 0x02  # and FALLOC_FL_KEEP_SIZE, without which it is refused

RISK = (
    "access without an IOMMU: the device can read and write all of this machine's memory, so a "
    "fault of it, of the driver or of the program, or its end by SIGKILL, can corrupt anything; "
    "use vfio-pci behind an IOMMU for what matters"
)


class PhysicalDma:
    """Allocates DMA memory that is contiguous physically; the addresses are those of the bus."""

    def __init__(self, name: str) -> None:
        """Find out that it can be done, or raise DeviceAccessError."""
        self._name = name
        self._regions: dict[int, DmaRegion] = {}
        page = Memory(map_shared(-1, PAGE_SIZE, flags=mmap.MAP_ANONYMOUS), PAGE_SIZE, PAGE_SIZE)
        ctypes.memset(page.address, 0, 1)  # pagemap knows only pages that were touched
        if not _physical_address(page.address):
            raise DeviceAccessError(
                f"{name} needs physical addresses, and /proc/self/pagemap shows them only with "
                "CAP_SYS_ADMIN: run as root, or use vfio-pci, which needs no privilege"
            )
        warnings.warn(RISK, UnsafeAccessWarning, stacklevel=1)

    def allocate(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Allocate at least ``length`` bytes of zeroed, physically contiguous hugepages.

        Raises DmaError when there are none, or no long enough run of neighbours.
        """
        if placement is not None:
            numa.check_nodes(length, placement)
        free = {size: count for size, count in hugepages(placement).items() if count}
        for page_size in sorted(free):
            memory = _contiguous(length, page_size, free[page_size], placement)
            if memory is not None:
                region = DmaRegion(
                    memory.address, memory.length, _physical_address(memory.address), memory
                )
                self._regions[region.iova] = region
                return region
        pages = (length + (2 << 20) - 1) // (2 << 20)
        count, where = "/proc/sys/vm/nr_hugepages", ""
        if placement is not None and placement.mode == "bind":
            count = numa.HUGEPAGES.format(min(placement.nodes), 2048, "nr_hugepages")
            where = f", placed by {placement},"
        raise DmaError(
            f"{self._name} needs {pages} neighbouring free hugepages of 2 MiB for {length} bytes"
            f"{where}: run `echo {max(64, 4 * pages)} | sudo tee {count}`, best soon after boot, "
            "or use smaller buffers"
        )

    def release(self, region: DmaRegion) -> None:
        """Take a region back. Raises DmaError for one that is not here."""
        if self._regions.pop(region.iova, None) is None:
            raise DmaError(f"{self._name} has no DMA memory at {region.iova:#x}: released twice?")

    def close(self) -> None:
        """Take all regions back. The device's DMA must have been stopped."""
        self._regions.clear()


def contiguous_run(addresses: Sequence[int], page_size: int, count: int) -> list[int] | None:
    """Find ``count`` pages that are neighbours; return their indices in the order of addresses."""
    order = sorted(range(len(addresses)), key=addresses.__getitem__)
    run: list[int] = []
    for index in order:
        if run and addresses[index] != addresses[run[-1]] + page_size:
            run = []
        run.append(index)
        if len(run) == count:
            return run
    return None


def _contiguous(
    length: int, page_size: int, free: int, placement: Placement | None
) -> Memory | None:
    """Take ever more of the free hugepages until enough of them are neighbours; keep only those."""
    count = (length + page_size - 1) // page_size
    taken = count
    while taken <= free:
        memory = _try_contiguous(count, taken, page_size, placement)
        if memory is not None or taken == free:
            return memory
        taken = min(2 * taken, free)
    return None


def _try_contiguous(
    count: int, taken: int, page_size: int, placement: Placement | None
) -> Memory | None:
    try:
        fd = memory_file(taken * page_size, page_size)
    except OSError:
        return None
    try:
        spread = Memory(map_shared(fd, taken * page_size), taken * page_size, page_size)
        if placement is not None:
            numa.place(spread.address, spread.length, placement)
        populate(spread.address, spread.length)
        pages = [_physical_address(spread.address + index * page_size) for index in range(taken)]
        run = contiguous_run(pages, page_size, count)
        if run is None:
            return None
        # The file's pages keep their places in memory; map those of the run side by side.
        start = map_shared(fd, count * page_size)
        memory = Memory(start, count * page_size, page_size)
        for position, index in enumerate(run):
            at = start + position * page_size
            map_shared(fd, page_size, index * page_size, at=at, flags=mmap.MAP_POPULATE)
        for index in set(range(taken)) - set(run):
            _punch_hole(fd, index * page_size, page_size)
        return memory
    except OSError:
        return None  # somebody else took the hugepages meanwhile
    finally:
        owned.close(fd)


def _punch_hole(fd: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_longlong
    if libc.fallocate(fd, _FALLOC_PUNCH_HOLE, size(offset), size(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _physical_address(address: int) -> int:
    """Look up where a page that is in memory lies there; 0 where the kernel hides it."""
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entry = os.pread(pagemap.fileno(), 8, address // PAGE_SIZE * 8)
    return (int.from_bytes(entry, "little") & _PFN_MASK) * PAGE_SIZE
