"""A PCI device through UIO (uio_pci_generic): no IOMMU, so the device can reach all memory.

BARs and configuration space come from sysfs, physical addresses from hugepages, and an interrupt
is a readable /dev/uioN. For machines without an IOMMU; the risk is said once, as a warning.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from pynvme_user import owned
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import Access, DmaRegion, Doorbells, Region, RegionIndex
from pynvme_user.access.memory import PAGE_SIZE
from pynvme_user.access.physical import PhysicalDma
from pynvme_user.access.regions import (
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_IO,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    FileRegion,
    MappedRegion,
    set_command,
)
from pynvme_user.errors import ClosedError, DeviceAccessError, DeviceRemovedError
from pynvme_user.host.claim import claim
from pynvme_user.host.numa import Placement
from pynvme_user.host.sysfs import PciFunction, call_with_deadline
from pynvme_user.links import Interrupt

#: The kernel waits up to 60 s for a function to come back from a reset.
RESET_SECONDS = 70.0

_IORESOURCE_IO, _IORESOURCE_MEM = 0x100, 0x200  # linux/ioport.h


class UioAccess(Access):
    """A PCI function bound to uio_pci_generic. Needs root (CAP_SYS_ADMIN) and hugepages."""

    def __init__(self, bdf: str) -> None:
        """Open it. Raises DeviceNameError, DeviceAccessError and DeviceBusyError."""
        self._function = PciFunction(bdf)
        self.name = f"uio:{bdf}"
        self.numa_node = self._function.numa_node
        node = self._check_bound()
        with owned.Undo() as undo:
            self._open(node, undo)
            self._undo = undo.pop_all()

    def _check_bound(self) -> Path:
        function = self._function
        driver, node = function.driver, function.uio_node
        if driver is None or not driver.startswith("uio") or node is None:
            has_it = f"belongs to the driver {driver}" if driver else "is bound to no driver"
            raise DeviceAccessError(
                f"{self.name} {has_it}: run "
                f"`nvme-user bind {function.bdf} --driver uio_pci_generic`"
            )
        if function.is_translated:
            raise DeviceAccessError(
                f"{self.name} is behind an IOMMU that translates, where physical addresses lead "
                f"nowhere: run `nvme-user bind {function.bdf}` and use vfio:{function.bdf}"
            )
        return node

    def _open(self, node: Path, undo: owned.Undo) -> None:
        config = self._open_file(self._function.path / "config", undo)
        claim(config, self.name)  # UIO itself lets any number of processes in
        size = os.fstat(config).st_size
        self._config = FileRegion(f"{self.name} CONFIG", config, 0, size)
        undo.callback(self._config.close)
        # The kernel turns bus mastering off when the last descriptor of this node is closed, so
        # a killed process leaves no device that writes to memory.
        self._uio = self._open_file(node, undo, os.O_NONBLOCK)
        self._dma = PhysicalDma(self.name)
        undo.callback(self._dma.close)

        self._files = undo.enter_context(owned.Undo())
        self._memories = undo.enter_context(BarMemories())
        self._regions: dict[RegionIndex, Region] = {}
        bar0 = self.region(RegionIndex.BAR0)
        if not isinstance(bar0, MappedRegion):
            raise DeviceAccessError(f"{self.name} has no BAR0 that can be mapped: is it NVMe?")
        self.registers = self._bar0 = bar0

        irq = int((self._function.path / "irq").read_text())
        self.interrupt_vectors = 1 if irq else 0
        self._armed = False
        undo.callback(self._stop_dma)
        # Whoever had it last may have been killed, and the device still have commands with
        # addresses of memory that is others' now: reset it before it may use them.
        if (self._function.path / "reset").exists():
            self.reset()
        else:
            self._start_dma()

    def _open_file(self, path: Path, undo: owned.Undo, flags: int = 0) -> int:
        try:
            fd = owned.descriptor(os.open, path, os.O_RDWR | os.O_CLOEXEC | flags)
        except PermissionError as error:
            raise DeviceAccessError(
                f"{self.name}: this user may not open {path}: run as root, or use vfio-pci, which "
                "needs no privilege (and where you are root, check "
                "`cat /sys/kernel/security/lockdown`)"
            ) from error
        except OSError as error:
            raise DeviceAccessError(
                f"{self.name}: {path} cannot be opened ({error.strerror}): see `dmesg`"
            ) from error
        undo.callback(owned.close, fd)
        return fd

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Give the doorbells as plain memory."""
        return Doorbells(mmio=self._bar0.address(offset, length))

    def region(self, index: RegionIndex) -> Region:
        """Open a BAR (of memory or I/O ports) or configuration space.

        Raises DeviceAccessError where there is none, or it is smaller than a page.
        """
        if index == RegionIndex.CONFIG:
            return self._config
        if index not in self._regions:
            self._regions[index] = self._open_bar(index)
        return self._regions[index]

    def _open_bar(self, index: RegionIndex) -> Region:
        resources = self._function.resources
        size, flags = resources[index][1:] if index < len(resources) else (0, 0)
        name = f"{self.name} {index.name}"
        if not size or not flags & (_IORESOURCE_IO | _IORESOURCE_MEM):
            raise DeviceAccessError(f"{self.name} has no region {index.name}")
        fd = self._open_file(self._function.path / f"resource{int(index)}", self._files)
        file = FileRegion(name, fd, 0, size)
        self._files.callback(file.close)
        if flags & _IORESOURCE_IO:
            return file  # the kernel does the port I/O for each pread and pwrite
        if size < PAGE_SIZE:
            raise DeviceAccessError(f"{name} is smaller than a page: use vfio-pci for it")
        region = MappedRegion(name, file, [(0, size)])
        self._files.callback(region.close)
        return region

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Map a part of a BAR, whose address is the one on the bus."""
        resources = self._function.resources
        if index >= len(resources) or not resources[index][2] & _IORESOURCE_MEM:
            return super().map_bar(index, offset, length)
        start, size, _ = resources[index]
        fd = self._open_file(self._function.path / f"resource{int(index)}", self._files)
        file = FileRegion(f"{self.name} {index.name}", fd, 0, size)
        memory = self._memories.map(file, fd, [(0, size)], offset, length)
        return DmaRegion(memory.address, memory.length, start + offset, memory)

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Physically contiguous hugepages."""
        return self._dma.allocate(length, placement)

    def release_dma(self, region: DmaRegion) -> None:
        """Take a region back."""
        self._dma.release(region)

    def _start_dma(self) -> None:
        # INTx stays off until it is asked for: a level interrupt that nobody answers would be
        # disabled by the kernel for every device on its line.
        bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER
        if not self._armed:
            bits |= PCI_COMMAND_INTX_DISABLE
        set_command(self._config, set_bits=bits)

    def _stop_dma(self) -> None:
        with contextlib.suppress(DeviceRemovedError):  # which has stopped it as well
            set_command(
                self._config, set_bits=PCI_COMMAND_INTX_DISABLE, clear_bits=PCI_COMMAND_MASTER
            )

    def arm_interrupts(self, count: int) -> Sequence[Interrupt]:
        """Give the one vector that there is: /dev/uioN is readable when it fired.

        Raises DeviceAccessError for more vectors.
        """
        self.check_vectors(count, "use polling, or vfio-pci for MSI-X")
        self._armed = True
        set_command(self._config, clear_bits=PCI_COMMAND_INTX_DISABLE)
        # The kernel masks the interrupt when it fires, by the command register: C writes it back.
        command = self._config.read(PCI_COMMAND, 2).to_bytes(2, "little")
        return [Interrupt(self._uio, 4, self._config.fd, PCI_COMMAND, command)]

    def reset(self) -> None:
        """Reset the function. Its DMA has stopped on return, also when this raises.

        Raises DeviceAccessError where it cannot be reset, NvmeTimeoutError after the deadline.
        """
        self._stop_dma()
        call_with_deadline(self._reset, RESET_SECONDS, f"the reset of {self.name}")
        self._start_dma()

    def _reset(self) -> None:
        reset = self._function.path / "reset"
        if not reset.exists():
            raise DeviceAccessError(
                f"{self.name} cannot be reset: the kernel knows no way for this device"
            )
        try:
            reset.write_text("1")
        except OSError as error:
            raise DeviceAccessError(
                f"{self.name} cannot be reset ({error.strerror}): close it and open it again"
            ) from error

    def alive(self) -> bool:
        """Whether configuration space still answers."""
        try:
            # Its vendor's id does not tell: that of a virtual function reads all ones.
            return self._config.read(PCI_COMMAND, 4) != 0xFFFF_FFFF
        except (DeviceRemovedError, ClosedError):
            return False

    def close(self) -> None:
        """Stop DMA, unmap everything, give the claim back."""
        self._undo.close()
