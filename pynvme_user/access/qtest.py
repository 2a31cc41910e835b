"""The embedded default: QEMU's NVMe over the qtest socket (see :mod:`pynvme_user.qemu.emulator`).

Registers and configuration space are messages; queues and buffers are the machine's RAM, mapped
here, so that an IOVA is an address of that RAM.
"""

from __future__ import annotations

import os
import time

from pynvme_user import owned
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import (
    Access,
    DmaRegion,
    Doorbells,
    Region,
    RegionIndex,
    make_foreign,
)
from pynvme_user.access.iova import IovaSpace
from pynvme_user.access.memory import PAGE_SIZE, SharedRam, discard, populate
from pynvme_user.access.regions import FileRegion
from pynvme_user.errors import (
    ClosedError,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DmaError,
    ForkedError,
    NvmeError,
)
from pynvme_user.host import numa
from pynvme_user.host.image import open_image
from pynvme_user.host.numa import Placement
from pynvme_user.native import fail, ffi, lib
from pynvme_user.qemu.emulator import (
    DEVICE,
    FUNCTION,
    LOW_RAM_LIMIT,
    Emulator,
    Machine,
    parse_machine,
)
from pynvme_user.units import format_size

_ECAM = 0xB000_0000  # where q35's memory-mapped configuration space is put
_BAR_BASE = 0xFE00_0000  # a part of q35's PCI hole that nothing else uses
_FIRST_FREE = 1 << 20  # below lie the holes of a PC's first megabyte
_HIGH_RAM = 1 << 32
_PMR = 1 << 46  # where the device takes its Persistent Memory Region to be: above all RAM

_REPLY_MS = 10_000
_LOCK_RETRY_SECONDS = 3.0

_COMMAND, _BAR0, _CAPABILITIES = 0x04, 0x10, 0x34
_MEMORY_BUS_MASTER_NO_INTX = 0x406
_CAP_EXPRESS = 0x10
_MAX_CAPABILITIES = 48  # a chain that is longer goes round
_DEVCAP_FLR, _DEVCTL_FLR = 1 << 28, 1 << 15


class QtestRegion:
    """A window of the machine's physical address space."""

    def __init__(self, name: str, link: QtestLink, base: int, size: int) -> None:
        self.name = name
        self._link = link
        self._base = base
        self.size = size
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``."""
        make_foreign(self, owner)

    def read(self, offset: int, width: int) -> int:
        """Read a register of 1, 2, 4 or 8 bytes."""
        return self._link.call(f"read{_LETTER[width]} {self._base + offset:#x}")

    def write(self, offset: int, width: int, value: int) -> None:
        """Write a register of 1, 2, 4 or 8 bytes."""
        self._link.call(f"write{_LETTER[width]} {self._base + offset:#x} {value:#x}")


_LETTER = {1: "b", 2: "w", 4: "l", 8: "q"}


class QtestAccess(Access):
    """QEMU's NVMe, started for this object and ended by it.

    ``text`` is the device name behind ``qemu:``. Raises DeviceNameError, DeviceAccessError, and
    DeviceBusyError where another process uses an image.
    """

    emulated = True

    def __init__(self, text: str) -> None:
        self.name = f"qemu:{text}"
        machine = parse_machine(text)
        low = min(machine.ram, LOW_RAM_LIMIT)
        if machine.ram % (1 << 20) or low < 16 << 20:
            raise DeviceNameError(f"{self.name}: memory must be whole MiB, 16M or more")
        with owned.Undo() as undo:
            created: list[bytes] = []
            try:
                pmr = -1
                if machine.pmrdev:
                    pmr, machine.pmr = open_image(machine.pmrdev, machine.pmr, "qemu", created)
                    undo.callback(owned.close, pmr)
                    _check_pmr(self.name, machine.pmr)
                for disk in machine.disks.values():
                    if disk.path:
                        size = disk.size if disk.format == "raw" else None
                        undo.callback(owned.close, open_image(disk.path, size, "qemu", created)[0])
                self._emulator = self._start(machine)
                undo.callback(self._emulator.close)
                undo.callback(self._link.close)
                self._memory = SharedRam(self._emulator.memory, machine.ram)
                self._memories = undo.enter_context(BarMemories())
                self._pmr: FileRegion | None = None
                if machine.pmr:
                    fd = self._emulator.pmr if pmr < 0 else pmr
                    self._pmr = FileRegion(f"{self.name} BAR4", fd, 0, machine.pmr)
            except BaseException:
                for path in created:
                    os.unlink(path)
                raise
            self._release = undo.pop_all()
        self._low = low
        high = [(_HIGH_RAM, _HIGH_RAM + machine.ram - low - 1)] if machine.ram > low else []
        self._free = IovaSpace([(_FIRST_FREE, low - 1), *high], reserved=())
        self._placed: set[int] = set()  # regions that have a placement

    def _start(self, machine: Machine) -> Emulator:
        """Start QEMU. One that lost its parent a moment ago may still lock the image: wait."""
        deadline = time.monotonic() + _LOCK_RETRY_SECONDS
        while True:
            emulator = Emulator(machine)
            try:
                self._link = QtestLink(self.name, emulator.qtest.fileno(), _REPLY_MS)
                self._enumerate()
                return emulator
            except NvmeError:
                emulator.wait(1.0)
                said = emulator.said()
                emulator.close()
            except BaseException:
                emulator.close()
                raise
            if "Failed to get" not in said:
                raise DeviceAccessError(f"QEMU did not start for {self.name}: {said}")
            if time.monotonic() > deadline:
                raise DeviceBusyError(f"{self.name} is in use by another QEMU: {said}")
            time.sleep(0.05)

    def _enumerate(self) -> None:
        """Do what firmware would: open configuration space, place BAR0, enable the device."""
        self._link.call("outl 0xcf8 0x80000060")  # q35 host bridge, PCIEXBAR
        self._link.call(f"outl 0xcfc {_ECAM | 1:#x}")
        config = _ECAM | DEVICE << 15 | FUNCTION << 12
        self._config = QtestRegion(f"{self.name} CONFIG", self._link, config, 4096)
        self._config.write(_BAR0, 4, 0xFFFF_FFFF)
        size = (~(self._config.read(_BAR0, 4) & ~0xF) & 0xFFFF_FFFF) + 1
        self.registers = QtestRegion(f"{self.name} BAR0", self._link, _BAR_BASE, size)
        self._place()

    def _place(self) -> None:
        self._config.write(_BAR0, 4, _BAR_BASE)
        self._config.write(_BAR0 + 4, 4, 0)
        self._config.write(_COMMAND, 2, _MEMORY_BUS_MASTER_NO_INTX)

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Doorbells are writes over the socket, posted from C."""
        post, context = self._link.doorbell_target
        return Doorbells(post=post, context=context, base=_BAR_BASE + offset)

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
        offset = iova if iova < self._low else iova - _HIGH_RAM + self._low
        window = self._memory.window(offset, length)
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
            self._config.write(_COMMAND, 2, 0)
        else:
            control = self._config.read(at + 8, 2)
            self._config.write(at + 8, 2, control | _DEVCTL_FLR)
        self._place()

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self._emulator.alive()

    def close(self) -> None:
        """End QEMU; give the images back. Of the RAM what is looked at stays mapped."""
        try:
            self._release.close()
        finally:
            self._memory.close()


def _check_pmr(name: str, size: int) -> None:
    """Raise DeviceNameError for a file that is no Persistent Memory Region of QEMU's."""
    if size & (size - 1) or size < PAGE_SIZE:
        raise DeviceNameError(
            f"{name}: the file of a Persistent Memory Region has {size} bytes, not a power of two "
            "from 4096 on: give another"
        )


class QtestLink:
    """QEMU's qtest socket: device registers by lines of text, doorbells as posted writes."""

    def __init__(self, name: str, fd: int, timeout_ms: int) -> None:
        self._name = name
        self._link = ffi.gc(lib.qtest_link_new(fd, timeout_ms), lib.qtest_link_free)
        self._closed = False
        self._owner = 0  # in a forked child: the process that opened the device
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Send nothing any more, in a child of process ``owner``: another file may have the
        socket's number by now, and a thread that is not here the link's mutex.
        """
        self._owner = owner

    def close(self) -> None:
        """End the link, before its socket is closed: every later call raises ClosedError."""
        self._closed = True
        lib.qtest_link_end(self._link)

    @property
    def doorbell_target(self) -> tuple[int, int]:
        """The C function that posts a doorbell, and its context, as addresses."""
        post = ffi.addressof(lib, "qtest_link_post")
        return int(ffi.cast("uintptr_t", post)), int(ffi.cast("uintptr_t", self._link))

    def call(self, line: str) -> int:
        """Send one command and wait; return the value that it answers with, or 0.

        Raises DeviceRemovedError when QEMU is gone or does not answer in time, ClosedError.
        """
        data = line.encode() + b"\n"
        length, reply = len(data), ffi.new("char[]", 256)
        # With no call in between, in which a signal's handler could fork.
        if self._owner:
            raise ForkedError(self._name, self._owner)
        if self._closed:
            raise ClosedError("the device is closed and its QEMU ended: open it again")
        got = lib.qtest_link_call(self._link, data, length, reply, 256)
        if got < 0:
            fail(got)
        answer = ffi.string(reply).decode()
        word, _, value = answer.partition(" ")
        if word != "OK":
            raise NvmeError(f"QEMU refused {line!r}: {answer}")
        return int(value, 16) if value else 0
