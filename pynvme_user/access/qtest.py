"""The embedded default: QEMU's NVMe over the qtest socket (see :mod:`pynvme_user.qemu.emulator`).

Registers and configuration space are messages; queues and buffers are the machine's RAM, mapped
here, so that an IOVA is an address of that RAM.
"""

from __future__ import annotations

from pynvme_user import owned
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import Access, DmaRegion, Doorbells, Region, RegionIndex
from pynvme_user.access.memory import PAGE_SIZE, discard, populate
from pynvme_user.access.qtest_link import QtestRegion
from pynvme_user.access.qtest_machine import COMMAND, ECAM, QtestMachine, Seat
from pynvme_user.access.qtest_sriov import enable
from pynvme_user.access.regions import FileRegion
from pynvme_user.errors import DeviceAccessError, DmaError
from pynvme_user.host import numa
from pynvme_user.host.numa import Placement
from pynvme_user.qemu.emulator import DEVICE
from pynvme_user.units import format_size

# Parts of q35's PCI hole that nothing else uses: for BAR0 of each controller, and of all virtual
# functions.
_BAR_BASE, _BAR_SPACE = 0xE000_0000, 4 << 20
_VIRTUAL_BAR_BASE = 0xF000_0000
_PMR = 1 << 46  # where the device takes its Persistent Memory Region to be: above all RAM

_BAR0, _CAPABILITIES = 0x10, 0x34
_MEMORY_BUS_MASTER_NO_INTX = 0x406
_CAP_EXPRESS = 0x10
_MAX_CAPABILITIES = 48  # a chain that is longer goes round
_DEVCAP_FLR, _DEVCTL_FLR = 1 << 28, 1 << 15


class QtestAccess(Access):
    """One of the NVMe controllers of a QEMU, which ends with the last that is open.

    ``text`` is the device name behind ``qemu:``, of a QEMU that is started; or ``number`` is
    another controller of a ``machine`` that runs. Raises DeviceNameError, DeviceAccessError, and
    DeviceBusyError where another process uses an image, or this one the controller.
    """

    emulated = True

    def __init__(
        self, text: str = "", *, machine: QtestMachine | None = None, number: int = 0
    ) -> None:
        # First, since a fork asks for it.
        self.name = (machine.name if machine else f"qemu:{text}") + (
            f", controller {number}" if number else ""
        )
        if machine is None:
            machine = QtestMachine(text)
        seat = Seat(number)
        with owned.Undo() as undo:
            undo.callback(machine.leave, seat)
            machine.join(seat)
            self._machine = machine
            self._number = number
            self._link = machine.link
            self._enumerate()
            seat.config = self._config
            self._memories = undo.enter_context(BarMemories())
            self._pmr: FileRegion | None = None
            if machine.settings.pmr and not number:
                self._pmr = FileRegion(f"{self.name} BAR4", machine.pmr, 0, machine.settings.pmr)
            self._free = machine.share(number)
            self._release = undo.pop_all()
        self._placed: set[int] = set()  # regions that have a placement

    def _enumerate(self) -> None:
        """Do what firmware would: place BAR0, enable the device."""
        virtual = self._number - self._machine.settings.controllers
        found = self._machine.virtual_functions
        size = 0
        if virtual < 0:
            routing_id = DEVICE + self._number << 3
            self._bar = _BAR_BASE + self._number * _BAR_SPACE
        else:
            assert found is not None  # controller 0, whose they are, was opened first
            routing_id = (DEVICE << 3) + found.first + virtual * found.stride
            size = found.size
            self._bar = _VIRTUAL_BAR_BASE + virtual * size
        address = ECAM | routing_id << 12
        self._config = QtestRegion(f"{self.name} CONFIG", self._link, address, 4096)
        if not size:
            self._config.write(_BAR0, 4, 0xFFFF_FFFF)
            size = (~(self._config.read(_BAR0, 4) & ~0xF) & 0xFFFF_FFFF) + 1
        self.registers = QtestRegion(f"{self.name} BAR0", self._link, self._bar, size)
        self._place()

    def _place(self) -> None:
        machine = self._machine
        if self._number < machine.settings.controllers:  # a virtual function has none of its own
            self._config.write(_BAR0, 4, self._bar)
            self._config.write(_BAR0 + 4, 4, 0)
        self._config.write(COMMAND, 2, _MEMORY_BUS_MASTER_NO_INTX)
        if not self._number and machine.settings.numvfs:
            found = enable(self.name, self._config, machine.settings.numvfs, _VIRTUAL_BAR_BASE)
            machine.virtual_functions = found or machine.virtual_functions

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Doorbells are writes over the socket, posted from C."""
        post, context = self._link.doorbell_target
        return Doorbells(post=post, context=context, base=self._bar + offset)

    def region(self, index: RegionIndex) -> Region:
        """BAR0 and configuration space are there."""
        match index:
            case RegionIndex.BAR0:
                return self.registers
            case RegionIndex.CONFIG:
                return self._config
        return super().region(index)

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Map the Persistent Memory Region, whose file QEMU maps, too.

        Nothing else: a BAR is reached by messages over QEMU's socket.
        """
        if index == RegionIndex.BAR4 and self._pmr is not None:
            areas = [(0, self._pmr.size)]
            memory = self._memories.map(self._pmr, self._pmr.fd, areas, offset, length)
            return DmaRegion(memory.address, memory.length, _PMR + offset, memory)
        raise DeviceAccessError(
            f"{self.name} has its {index.name} inside QEMU, which does not share it: memory of the "
            "controller's own takes vfio:, uio: or soft:?cmb=4M"
        )

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Hand out the machine's RAM: some lies below 4 GiB in one piece, the rest above it."""
        length = (length + PAGE_SIZE - 1) & -PAGE_SIZE
        try:
            iova = self._free.allocate(length, PAGE_SIZE)
        except DmaError:
            raise DmaError(
                f"the emulated machine has no {format_size(length)} of memory left: free buffers, "
                f"or give it more with memory=8G in the device name"
            ) from None
        window = self._machine.memory.window(self._machine.offset(iova), length)
        region = DmaRegion(window.address, length, iova, window)
        if placement is not None:
            try:
                self._put(region, placement)
            except BaseException:
                self.release_dma(region)
                raise
        return region

    def _put(self, region: DmaRegion, placement: Placement) -> None:
        numa.check_room(region.length, placement)
        numa.place(region.address, region.length, placement)
        self._placed.add(region.iova)
        # The pages may be there from an earlier use; QEMU sees the new ones as we do.
        discard(region.address, region.length)
        populate(region.address, region.length)

    def release_dma(self, region: DmaRegion) -> None:
        """Keep the RAM: it stays the machine's."""
        if region.iova in self._placed:
            discard(region.address, region.length)
            numa.forget(region.address, region.length)
            self._placed.remove(region.iova)
        self._free.release(region.iova, region.length)

    def reset(self) -> None:
        """Reset the function where this QEMU's NVMe can be; else take the bus from it."""
        at = self._config.read(_CAPABILITIES, 1)
        for _ in range(_MAX_CAPABILITIES):
            if not at or self._config.read(at, 1) == _CAP_EXPRESS:
                break
            at = self._config.read(at + 1, 1)
        else:
            at = 0  # the chain has no end
        if not at or not self._config.read(at + 4, 4) & _DEVCAP_FLR:
            # Without it the bus still stops DMA: a function that is no bus master has none.
            self._config.write(COMMAND, 2, 0)
        else:
            control = self._config.read(at + 8, 2)
            self._config.write(at + 8, 2, control | _DEVCTL_FLR)
        self._place()

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self._machine.alive()

    def sibling(self, number: int) -> QtestAccess:
        """Open another controller of this QEMU: ``controllers=2`` has 0 and 1.

        Raises DeviceAccessError where there is none of that number, DeviceBusyError where it is
        open, ClosedError.
        """
        return QtestAccess(machine=self._machine, number=number)

    def close(self) -> None:
        """Give the controller back; with the last one, end QEMU and give the images back.

        Of the RAM what is looked at stays mapped.
        """
        self._release.close()
