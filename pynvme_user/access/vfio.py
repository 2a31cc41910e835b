"""A PCI device through VFIO: the kernel gives its registers, interrupts and an IOMMU to a process.

Works for a user who is not root when the group's device node is theirs. How the device is opened
is in :mod:`vfio_group` and :mod:`vfio_cdev`; from there on both are the same, and here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from pynvme_user import owned
from pynvme_user.access import ioctl, vfio_cdev
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import Access, DmaRegion, Doorbells, Region, RegionIndex
from pynvme_user.access.iommu import IommuDma
from pynvme_user.access.physical import PhysicalDma
from pynvme_user.access.regions import (
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    FileRegion,
    MappedRegion,
    set_command,
)
from pynvme_user.access.vfio_group import VfioGroup
from pynvme_user.errors import (
    ClosedError,
    ControllerWarning,
    DeviceAccessError,
    DeviceRemovedError,
    DmaError,
)
from pynvme_user.host.numa import Placement
from pynvme_user.host.sysfs import PciFunction, call_with_deadline, iommu_off_message
from pynvme_user.links import Interrupt

#: The kernel waits up to 60 s for a function to come back from a reset.
RESET_SECONDS = 70.0
#: How long to retry a reset while the kernel holds the device for something else.
RESET_RETRY_SECONDS = 2.0

INTERRUPTS = {
    "msix": ioctl.VFIO_PCI_MSIX_IRQ_INDEX,
    "msi": ioctl.VFIO_PCI_MSI_IRQ_INDEX,
    "intx": ioctl.VFIO_PCI_INTX_IRQ_INDEX,
}
_ONE = (1).to_bytes(8, "little")  # what is written to an eventfd
_VERSION = 0x08  # the VS register, NVMe Base 2.0 section 3.1.3.2: never all ones


class VfioAccess(Access):
    """A PCI function bound to vfio-pci.

    ``iommufd`` chooses between the device's own node (True) and its group (False); by default
    the kernel's offer does. ``interrupts`` is ``"msix"``, ``"msi"`` or ``"intx"``; by default
    the first of these that the device has. ``vf_token`` is a UUID that a physical function and its
    virtual functions share where vfio-pci has both; it goes with the group.

    ``request_fd`` is an eventfd that becomes readable when the kernel wants the device back (it
    is being unplugged or unbound): close it soon. ``error_fd`` reports uncorrectable PCIe errors;
    None where the device cannot.
    """

    def __init__(
        self,
        bdf: str,
        *,
        iommufd: bool | None = None,
        interrupts: str | None = None,
        vf_token: str | None = None,
    ) -> None:
        """Open it. Raises DeviceNameError, DeviceAccessError and DeviceBusyError."""
        function = PciFunction(bdf)
        self.name = f"vfio:{bdf}"
        self.numa_node = function.numa_node
        _check_bound(function)
        with owned.Undo() as undo:
            use_cdev = vfio_cdev.usable(function) if iommufd is None else iommufd
            opened: vfio_cdev.VfioCdev | VfioGroup
            if use_cdev and vf_token is None:
                opened = vfio_cdev.VfioCdev(function)
            else:
                opened = VfioGroup(function, vf_token)
            undo.callback(opened.close)
            self._open(function, opened, interrupts, undo)
            self._undo = undo.pop_all()

    def _open(
        self,
        function: PciFunction,
        opened: vfio_cdev.VfioCdev | VfioGroup,
        interrupts: str | None,
        undo: owned.Undo,
    ) -> None:
        self._device = opened.device
        self._dma: IommuDma | PhysicalDma
        self._resources = function.resources
        if opened.space is None:
            self._dma = PhysicalDma(self.name)
        else:
            # What the device's own memory is told to be, and may be anyway, is no address of ours.
            bars = [(start, start + size - 1) for start, size, _ in self._resources if size]
            self._dma = IommuDma(self.name, opened.space, bars)
        undo.callback(self._dma.close)

        self._regions: dict[RegionIndex, FileRegion | MappedRegion] = {}
        undo.callback(self._close_regions)
        self._memories = undo.enter_context(BarMemories())
        self._config = self._file_region(RegionIndex.CONFIG)[0]
        self._regions[RegionIndex.CONFIG] = self._config
        bar0 = self.region(RegionIndex.BAR0)
        if not isinstance(bar0, MappedRegion):
            raise DeviceAccessError(f"{self.name} has no BAR0 that can be mapped: is it NVMe?")
        self.registers = self._bar0 = bar0

        self._irq_index = self._choose_interrupts(interrupts)
        self.interrupt_vectors = self._irq_count(self._irq_index)
        self._vectors: list[int] = []
        self._unmask = -1  # an eventfd that unmasks INTx
        undo.callback(self._disarm_interrupts)
        self.request_fd = self._event(ioctl.VFIO_PCI_REQ_IRQ_INDEX, "a removal", undo)
        self.error_fd = self._event(ioctl.VFIO_PCI_ERR_IRQ_INDEX, "a PCIe error", undo)

        undo.callback(self._stop_dma)
        self._start_dma()

    # Registers and regions

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Give the doorbells as plain memory. Raises DeviceAccessError if the kernel keeps them."""
        return Doorbells(mmio=self._bar0.address(offset, length))

    def region(self, index: RegionIndex) -> Region:
        """Open a BAR or configuration space. Raises DeviceAccessError if there is none."""
        if index not in self._regions:
            file, areas = self._file_region(index)
            self._regions[index] = MappedRegion(file.name, file, areas) if areas else file
        return self._regions[index]

    def _file_region(self, index: RegionIndex) -> tuple[FileRegion, list[tuple[int, int]]]:
        """Find a region in the device's file, and the (offset, length) that may be mapped."""
        request = ioctl.vfio_region_info(index=index)
        try:
            data = ioctl.call_with_capabilities(
                self._device, ioctl.VFIO_DEVICE_GET_REGION_INFO, request
            )
        except OSError as error:
            raise DeviceAccessError(f"{self.name} has no region {index.name}") from error
        info = ioctl.vfio_region_info.from_buffer_copy(data)
        if not info.size:
            raise DeviceAccessError(f"{self.name} has no region {index.name}")
        name = f"{self.name} {index.name}"
        file = FileRegion(name, self._device, int(info.offset), int(info.size))
        if not info.flags & ioctl.VFIO_REGION_INFO_FLAG_MMAP:
            return file, []
        if info.flags & ioctl.VFIO_REGION_INFO_FLAG_CAPS:
            for kind, offset in ioctl.capabilities(data, info.cap_offset):
                if kind == ioctl.VFIO_REGION_INFO_CAP_SPARSE_MMAP:
                    return file, ioctl.range_array(data, offset)
        return file, [(0, file.size)]

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Map a part of a BAR; its address on the bus is the one that nothing else has."""
        file, areas = self._file_region(index)
        memory = self._memories.map(file, file.fd, areas, offset, length)
        iova = self._resources[index][0] + offset
        return DmaRegion(memory.address, memory.length, iova, memory)

    def _close_regions(self) -> None:
        for region in self._regions.values():
            region.close()

    # DMA

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Memory behind the IOMMU, in hugepages where they are free and fit."""
        return self._dma.allocate(length, placement)

    def release_dma(self, region: DmaRegion) -> None:
        """Unmap a region."""
        self._dma.release(region)

    def map_dma(self, address: int, length: int) -> DmaRegion:
        """Map whole pages of the caller's memory. Raises DmaError."""
        if isinstance(self._dma, PhysicalDma):
            return super().map_dma(address, length)
        return self._dma.map(address, length)

    @property
    def iova_ranges(self) -> list[tuple[int, int]]:
        """The (first, last) addresses that the IOMMU translates. Raises DmaError without one."""
        if isinstance(self._dma, PhysicalDma):
            raise DmaError(f"{self.name} has no IOMMU: its addresses are physical")
        return self._dma.ranges

    def _start_dma(self) -> None:
        # INTx stays off until it is asked for: a level interrupt that nobody answers would be
        # disabled by the kernel for every device on its line.
        bits = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE
        if self._vectors and self._irq_index == ioctl.VFIO_PCI_INTX_IRQ_INDEX:
            bits &= ~PCI_COMMAND_INTX_DISABLE
        set_command(self._config, set_bits=bits)

    def _stop_dma(self) -> None:
        with contextlib.suppress(DeviceRemovedError):  # which has stopped it as well
            set_command(self._config, clear_bits=PCI_COMMAND_MASTER)

    # Interrupts

    def arm_interrupts(self, count: int) -> Sequence[Interrupt]:
        """Give an eventfd for each of the vectors 0 to ``count`` - 1; they are closed with us.

        Raises DeviceAccessError for more than ``interrupt_vectors``.
        """
        self.check_vectors(count)
        armed = len(self._vectors)
        if count > armed:
            self._vectors += [_eventfd() for _ in range(count - armed)]
            if armed:  # the kernel enables a set of vectors as a whole
                self._set_irqs(self._irq_index, ioctl.VFIO_IRQ_SET_ACTION_TRIGGER)
            self._set_irqs(self._irq_index, ioctl.VFIO_IRQ_SET_ACTION_TRIGGER, self._vectors)
            if self._irq_index == ioctl.VFIO_PCI_INTX_IRQ_INDEX:
                self._unmask = _eventfd()
                self._set_irqs(self._irq_index, ioctl.VFIO_IRQ_SET_ACTION_UNMASK, [self._unmask])
                set_command(self._config, clear_bits=PCI_COMMAND_INTX_DISABLE)
            for fd in self._vectors[:armed]:
                os.eventfd_write(fd, 1)  # for what may have come while they were off
        rearm = _ONE if self._unmask >= 0 else b""
        return [Interrupt(fd, rearm_fd=self._unmask, rearm=rearm) for fd in self._vectors[:count]]

    def _choose_interrupts(self, wanted: str | None) -> int:
        if wanted is not None and wanted not in INTERRUPTS:
            raise DeviceAccessError(
                f"{self.name}: interrupts are {', '.join(INTERRUPTS)}, not {wanted!r}"
            )
        for index in [INTERRUPTS[wanted]] if wanted else INTERRUPTS.values():
            if self._irq_count(index):
                return index
        if wanted:
            raise DeviceAccessError(f"{self.name} has no {wanted} interrupts: choose another kind")
        return ioctl.VFIO_PCI_INTX_IRQ_INDEX  # none at all: polling works

    def _irq_count(self, index: int) -> int:
        request = ioctl.vfio_irq_info(index=index)
        try:
            ioctl.call(self._device, ioctl.VFIO_DEVICE_GET_IRQ_INFO, request)
        except OSError:
            return 0  # this kind is not known to the kernel, or not for this device
        return int(request.count)

    def _event(self, index: int, what: str, undo: owned.Undo) -> int | None:
        """Arm an eventfd for what the kernel reports; None, with a warning, if it does not."""
        if not self._irq_count(index):
            return None
        fd = _eventfd()
        undo.callback(owned.close, fd)
        try:
            self._set_irqs(index, ioctl.VFIO_IRQ_SET_ACTION_TRIGGER, [fd])
        except DeviceAccessError as error:
            text = f"{self.name}: {what} will not be reported: {error}"
            warnings.warn(text, ControllerWarning, stacklevel=2)
            return None
        return fd

    def _set_irqs(self, index: int, action: int, eventfds: Sequence[int] = ()) -> None:
        """Give a kind of interrupts its eventfds; without any, turn it off."""
        data = b"".join(fd.to_bytes(4, "little") for fd in eventfds)
        kind = ioctl.VFIO_IRQ_SET_DATA_EVENTFD if eventfds else ioctl.VFIO_IRQ_SET_DATA_NONE
        request = ioctl.vfio_irq_set(flags=kind | action, index=index, count=len(eventfds))
        request.argsz = len(bytes(request)) + len(data)
        try:
            fcntl.ioctl(self._device, ioctl.VFIO_DEVICE_SET_IRQS, bytes(request) + data)
        except OSError as error:
            raise DeviceAccessError(
                f"{self.name}: the kernel refused {len(eventfds)} interrupts ({error.strerror}): "
                "use fewer vectors, or polling"
            ) from error

    def _disarm_interrupts(self) -> None:
        if self._vectors:
            with contextlib.suppress(DeviceAccessError):  # closing the device does it as well
                self._set_irqs(self._irq_index, ioctl.VFIO_IRQ_SET_ACTION_TRIGGER)
        self.interrupt_vectors = 0
        while self._vectors:
            owned.close(self._vectors.pop())
        if self._unmask >= 0:
            owned.close(self._unmask)
            self._unmask = -1

    # The device as a whole

    def reset(self) -> None:
        """Reset the function. Its DMA has stopped on return, also when this raises.

        Raises DeviceAccessError where it cannot be reset, or is being removed; NvmeTimeoutError.
        """
        self._stop_dma()
        call_with_deadline(self._reset, RESET_SECONDS, f"the reset of {self.name}")
        self._start_dma()

    def _reset(self) -> None:
        deadline = time.monotonic() + RESET_RETRY_SECONDS
        while True:
            try:
                fcntl.ioctl(self._device, ioctl.VFIO_DEVICE_RESET)
                return
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise DeviceAccessError(
                        f"{self.name} cannot be reset ({error.strerror}): close it and open it "
                        "again"
                    ) from error
                if time.monotonic() > deadline:
                    raise DeviceAccessError(
                        f"{self.name} cannot be reset while it is being removed: close it"
                    ) from error
            time.sleep(0.05)

    def alive(self) -> bool:
        """Whether a register still reads as anything but all ones."""
        try:
            return self._bar0.file.read(_VERSION, 4) != 0xFFFF_FFFF
        except (DeviceRemovedError, ClosedError):
            return False

    def close(self) -> None:
        """Stop DMA, disarm interrupts, unmap everything, give the device back."""
        self._undo.close()


def _eventfd() -> int:
    return owned.descriptor(os.eventfd, 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def _check_bound(function: PciFunction) -> None:
    """Raise DeviceAccessError unless the function is bound to a VFIO driver."""
    name, driver = f"vfio:{function.bdf}", function.driver
    if driver is not None and "vfio" in driver:
        return
    if (
        function.iommu_group is None
        and not Path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode").exists()
    ):
        raise DeviceAccessError(iommu_off_message(function.bdf))
    bind = f"run `nvme-user bind {function.bdf}`"
    if driver is None and not Path("/sys/module/vfio_pci").exists():
        bind = f"run `sudo modprobe vfio-pci`, then `nvme-user bind {function.bdf}`"
    has_it = f"belongs to the kernel's driver {driver}" if driver else "is bound to no driver"
    raise DeviceAccessError(f"{name} {has_it}: {bind}")
