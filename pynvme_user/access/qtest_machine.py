"""One QEMU, and what its controllers share: the socket, the machine's RAM, the images.

It ends with the last of its controllers.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from difflib import get_close_matches

from pynvme_user import owned
from pynvme_user.access.iova import IovaSpace
from pynvme_user.access.memory import PAGE_SIZE, SharedRam
from pynvme_user.access.qtest_link import QtestLink, QtestRegion
from pynvme_user.access.qtest_sriov import VirtualFunctions
from pynvme_user.errors import (
    ClosedError,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    NvmeError,
)
from pynvme_user.host.image import open_image
from pynvme_user.qemu.emulator import LOW_RAM_LIMIT, Emulator, Machine, parse_machine

ECAM = 0xB000_0000  # where q35's memory-mapped configuration space is put
COMMAND = 0x04
_FIRST_FREE = 1 << 20  # below lie the holes of a PC's first megabyte
_HIGH_RAM = 1 << 32

_REPLY_MS = 10_000
_LOCK_RETRY_SECONDS = 3.0


def _remedy(said: str) -> str:
    """Say what mends an option that QEMU does not know, which may be one of ours, misspelt."""
    unknown = re.search(r"Property '([\w-]+)\.(.+)' not found", said)
    if unknown is None:
        return ""
    model, option = unknown.groups()
    ours = get_close_matches(option, ["size", "format", "memory", "driver"], 1)
    return (
        f": leave {option} out{f' (or is it {ours[0]}?)' if ours else ''}; "
        f"`qemu-system-x86_64 -device {model},help` lists what QEMU takes"
    )


class Seat:
    """A controller's place in its QEMU, for the one who has it open."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.config: QtestRegion | None = None


class QtestMachine:
    """A running QEMU.

    ``text`` is the device name behind ``qemu:``. Raises DeviceNameError, DeviceAccessError, and
    DeviceBusyError where another process uses an image.
    """

    def __init__(self, text: str) -> None:
        self.name = f"qemu:{text}"
        self._lock = threading.RLock()
        self._seats: dict[int, Seat] = {}
        #: Once they are enabled.
        self.virtual_functions: VirtualFunctions | None = None
        machine = self.settings = parse_machine(text)
        self._low = min(machine.ram, LOW_RAM_LIMIT)
        if machine.ram % (1 << 20) or self._low < 16 << 20:
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
                undo.callback(self.link.close)
                self.memory = SharedRam(self._emulator.memory, machine.ram)
                #: The file of the Persistent Memory Region, where there is one.
                self.pmr = self._emulator.pmr if pmr < 0 else pmr
            except BaseException:
                for path in created:
                    os.unlink(path)
                raise
            self._release = undo.pop_all()

    def _start(self, machine: Machine) -> Emulator:
        """Start QEMU. One that lost its parent a moment ago may still lock the image: wait."""
        deadline = time.monotonic() + _LOCK_RETRY_SECONDS
        while True:
            emulator = Emulator(machine)
            try:
                self.link = QtestLink(self.name, emulator.qtest.fileno(), _REPLY_MS)
                # What firmware would do: open configuration space.
                self.link.call("outl 0xcf8 0x80000060")  # q35 host bridge, PCIEXBAR
                self.link.call(f"outl 0xcfc {ECAM | 1:#x}")
                return emulator
            except NvmeError:
                emulator.wait(1.0)
                said = emulator.said()
                emulator.close()
            except BaseException:
                emulator.close()
                raise
            if "Failed to get" not in said:
                raise DeviceAccessError(
                    f"QEMU did not start for {self.name}: {said}{_remedy(said)}"
                )
            if time.monotonic() > deadline:
                raise DeviceBusyError(f"{self.name} is in use by another QEMU: {said}")
            time.sleep(0.05)

    def join(self, seat: Seat) -> None:
        """Take a controller, which one at a time may have open; see :meth:`leave`.

        Raises DeviceAccessError where there is none of that number, DeviceBusyError where it is
        open, ClosedError once QEMU has ended.
        """
        most = self.settings.functions
        if not 0 <= seat.number < most:
            raise DeviceAccessError(
                f"{self.name} has no controller {seat.number}, but 0 to {most - 1}: give it more "
                "with controllers=2 in the device name"
            )
        with self._lock:
            if self.link.closed:
                raise ClosedError("the device is closed and its QEMU ended: open it again")
            if seat.number in self._seats:
                raise DeviceBusyError(
                    f"controller {seat.number} of {self.name} is open already in this process: "
                    "use that, or close it first",
                    os.getpid(),
                )
            self._seats[seat.number] = seat

    def leave(self, seat: Seat) -> None:
        """Give a controller back; with the last one QEMU ends. Safe to call twice."""
        with self._lock:
            if self._seats.get(seat.number) is seat:
                del self._seats[seat.number]
            if not self._seats:
                self._close()
            elif seat.config is not None:
                config, seat.config = seat.config, None
                with suppress(NvmeError):  # QEMU has ended
                    config.write(COMMAND, 2, 0)  # what is no bus master has no DMA

    def _close(self) -> None:
        try:
            self._release.close()
        finally:
            self.memory.close()

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self._emulator.alive()

    def share(self, number: int) -> IovaSpace:
        """Give a controller its part of the RAM, without what arrays of an earlier time look at."""
        part = (self.settings.ram - _FIRST_FREE) // self.settings.functions & -PAGE_SIZE
        first = _FIRST_FREE + number * part
        used = [
            iovas
            for start, length in self.memory.windows()
            for iovas in self._iovas(start, start + length)
        ]
        return IovaSpace(self._iovas(first, first + part), used)

    def _iovas(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where the device sees a part of the RAM, as (first, last)."""
        high = _HIGH_RAM - self._low
        parts = [(start, min(end, self._low)), (max(start, self._low) + high, end + high)]
        return [(first, end - 1) for first, end in parts if first < end]

    def offset(self, iova: int) -> int:
        """Where in the RAM the device's address is."""
        return iova if iova < self._low else iova - _HIGH_RAM + self._low


def _check_pmr(name: str, size: int) -> None:
    """Raise DeviceNameError for a file that is no Persistent Memory Region of QEMU's."""
    if size & (size - 1) or size < PAGE_SIZE:
        raise DeviceNameError(
            f"{name}: the file of a Persistent Memory Region has {size} bytes, not a power of two "
            "from 4096 on: give another"
        )
