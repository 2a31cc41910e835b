"""DMA behind an IOMMU: our own buffers, and nothing else, get an address that the device sees."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from pynvme_user.access.base import DmaRegion
from pynvme_user.access.iova import FIRST_PAGE, MSI_WINDOW, IovaSpace
from pynvme_user.access.memory import PAGE_SIZE, allocate
from pynvme_user.errors import ClosedError, DmaError
from pynvme_user.host.numa import Placement

_ENTRY_LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"


class AddressSpace(Protocol):
    """An IOMMU's translation for one device, of whatever kind the kernel offers."""

    def ranges(self) -> list[tuple[int, int]]:
        """Tell the (first, last) addresses that can be mapped."""

    def map(self, address: int, length: int, iova: int) -> None:
        """Let the device read and write ``length`` bytes. Raises OSError."""

    def unmap(self, iova: int, length: int) -> int:
        """Undo :meth:`map`; return how many bytes were unmapped. Raises OSError."""


class IommuDma:
    """Allocates DMA memory and IOVAs, and maps one to the other."""

    def __init__(
        self, name: str, space: AddressSpace, reserved: Iterable[tuple[int, int]] = ()
    ) -> None:
        """``reserved`` are (first, last) addresses that are not given out."""
        self.ranges = space.ranges()
        self._name = name
        self._space = space
        self._iovas = IovaSpace(self.ranges, [FIRST_PAGE, MSI_WINDOW, *reserved])
        self._mapped: dict[int, DmaRegion] = {}
        self._closed = False

    def allocate(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Allocate and map at least ``length`` bytes of zeroed memory. Raises DmaError."""
        memory = allocate(length, placement)
        # IOVAs aligned like the memory let the IOMMU use its large pages too.
        return self._map(memory.address, memory.length, memory.page_size, memory)

    def map(self, address: int, length: int) -> DmaRegion:
        """Map memory of the caller's, who keeps it until it is released. Raises DmaError."""
        if address % PAGE_SIZE or length % PAGE_SIZE or not length:
            raise DmaError(
                f"{length} bytes at {address:#x} are not whole pages of {PAGE_SIZE} bytes, and the "
                "device would reach what else is on them: align the memory, or use alloc()"
            )
        return self._map(address, length, PAGE_SIZE, None)

    def _map(self, address: int, length: int, alignment: int, memory: object) -> DmaRegion:
        if self._closed:
            raise ClosedError(f"{self._name} is closed: open the device again")
        iova = self._iovas.allocate(length, alignment)
        try:
            self._space.map(address, length, iova)
        except OSError as error:
            self._iovas.release(iova, length)
            raise map_error(self._name, error, length, iova) from error
        region = DmaRegion(address, length, iova, memory)
        self._mapped[iova] = region
        return region

    def release(self, region: DmaRegion) -> None:
        """Unmap. Raises DmaError if the kernel does not; the address is not used again then."""
        if self._mapped.pop(region.iova, None) is None:
            raise DmaError(f"{self._name} has no DMA mapping at {region.iova:#x}: released twice?")
        try:
            unmapped = self._space.unmap(region.iova, region.length)
        except OSError as error:
            raise DmaError(
                f"{self._name}: {region.length} bytes at IOVA {region.iova:#x} could not be "
                f"unmapped ({error.strerror}): close the device"
            ) from error
        if unmapped != region.length:
            raise DmaError(
                f"{self._name}: {unmapped} bytes of {region.length} at IOVA {region.iova:#x} "
                "were unmapped: close the device"
            )
        self._iovas.release(region.iova, region.length)

    def close(self) -> None:
        """Unmap everything. Raises DmaError for the first that fails, once all were tried."""
        self._closed = True
        failures = []
        for region in list(self._mapped.values()):
            try:
                self.release(region)
            except DmaError as error:
                failures.append(str(error))
        if failures:
            raise DmaError(failures[0])


def map_error(name: str, error: OSError, length: int, iova: int) -> DmaError:
    """Make the error for a mapping that the kernel refused: what blocks it, and the remedy."""
    what = f"{name}: mapping {length} bytes for DMA"
    match error.errno:
        case errno.ENOMEM:
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            needed = _locked_memory() + length
            if limit == resource.RLIM_INFINITY or needed <= limit:
                return DmaError(f"{what}: the kernel is out of memory: release buffers")
            return DmaError(
                f"{what} needs {needed} bytes of locked memory, and RLIMIT_MEMLOCK is {limit} "
                "bytes: run `sudo prlimit --pid $$ --memlock=unlimited` in this shell (`ulimit -l` "
                "shows it; for good, memlock in /etc/security/limits.conf, or LimitMEMLOCK= in a "
                "systemd unit)"
            )
        case errno.ENOSPC:
            return DmaError(
                f"{what} is one mapping more than the kernel allows: release buffers, or run "
                f"`echo 1000000 | sudo tee {_ENTRY_LIMIT}` and open the device again"
            )
        case errno.EEXIST | errno.EADDRINUSE:
            return DmaError(
                f"{what}: IOVA {iova:#x} is mapped already: close the device and open it again"
            )
        case errno.EINVAL | errno.EOVERFLOW | errno.ERANGE:
            return DmaError(
                f"{what}: the IOMMU does not translate IOVA {iova:#x}: use smaller buffers, or "
                "report the IOVA ranges of this device"
            )
        case errno.EFAULT | errno.EOPNOTSUPP:
            return DmaError(
                f"{what}: the memory is not mapped here, not writable or not of a kind that can "
                "be pinned: use memory from alloc()"
            )
    return DmaError(f"{what} failed ({error.strerror}): see `dmesg`")


def _locked_memory() -> int:
    """Add up what counts against RLIMIT_MEMLOCK: type 1 locks pages, iommufd pins them."""
    status = Path("/proc/self/status").read_text()
    return sum(int(size) << 10 for size in re.findall(r"Vm(?:Lck|Pin):\s+(\d+) kB", status))
