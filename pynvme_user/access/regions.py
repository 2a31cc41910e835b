"""Regions of a PCI device: windows of a file, mapped into memory where the kernel allows it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pynvme_user import owned
from pynvme_user.access.base import make_foreign
from pynvme_user.access.memory import keep_from_children, map_shared, unmap
from pynvme_user.errors import ClosedError, DeviceAccessError, DeviceRemovedError, NvmeError
from pynvme_user.native import fail, ffi, lib

#: PCI configuration space (PCI Local Bus 3.0, section 6.2): the command register and its bits.
PCI_COMMAND = 0x04
PCI_COMMAND_IO = 1 << 0
PCI_COMMAND_MEMORY = 1 << 1
PCI_COMMAND_MASTER = 1 << 2
PCI_COMMAND_INTX_DISABLE = 1 << 10

_WIDTHS = (1, 2, 4, 8)


class FileRegion:
    """A region read and written through the kernel: configuration space, or a BAR of I/O ports.

    It begins ``base`` bytes into ``fd``, which stays the caller's. The kernel splits an access of
    8 bytes in two.
    """

    def __init__(self, name: str, fd: int, base: int, size: int) -> None:
        self.size = size
        self.name = name
        self.fd = fd
        self.base = base
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``."""
        self.fd = -1  # for a call that goes on: another file may have the number by now
        make_foreign(self, owner)

    def read(self, offset: int, width: int) -> int:
        """Read ``width`` bytes at ``offset``. Raises DeviceRemovedError when the device is gone."""
        check_access(self.name, self.size, offset, width)
        try:
            data = os.pread(self.fd, width, self.base + offset)
        except OSError as error:
            raise self._gone() from error
        if len(data) != width:
            raise self._gone()
        return int.from_bytes(data, "little")

    def write(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` bytes at ``offset``. Raises DeviceRemovedError when it is gone."""
        check_access(self.name, self.size, offset, width)
        data = value.to_bytes(width, "little")
        try:
            written = os.pwrite(self.fd, data, self.base + offset)
        except OSError as error:
            raise self._gone() from error
        if written != width:
            raise self._gone()

    def close(self) -> None:
        """Refuse every access from now on: the descriptor's number may become another file's."""
        self.size = 0

    def _gone(self) -> DeviceRemovedError:
        return DeviceRemovedError(
            f"{self.name} no longer answers: the device was removed or reset by somebody else"
        )


@dataclass(slots=True)
class _Area:
    """A mapped part of a region."""

    start: int
    end: int
    address: int
    words: dict[int, memoryview[int]]  # by width; an access is one aligned load or store


class MappedRegion:
    """A BAR of memory: parts of it, or all, mapped, and the rest through ``file``.

    ``areas`` are the (offset, length) that may be mapped, at whole pages. Each access to a mapped
    part is a single load or store of its width. A device that is gone reads as all ones here;
    ``file`` tells by an error, or all ones, whether it is.
    """

    def __init__(self, name: str, file: FileRegion, areas: Sequence[tuple[int, int]]) -> None:
        self.size = file.size
        self.name = name
        self.file = file
        self._areas: list[_Area] = []
        owned.register(self)
        try:
            for offset, length in areas:
                self._areas.append(self._map(offset, length))
        except NvmeError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise DeviceAccessError(
                f"{name} cannot be mapped ({error.strerror}): is the device in use, or the "
                "kernel locked down (`cat /sys/kernel/security/lockdown`)?"
            ) from error

    def _map(self, offset: int, length: int) -> _Area:
        address = map_shared(self.file.fd, length, self.file.base + offset)
        try:
            # A child's mapping would keep the device open, and with it the claim on it.
            keep_from_children(address, length)
            with owned.no_fork:  # and one caller at a time
                guard_bar(address, length)
        except BaseException:
            unmap(address, length)
            raise
        # ctypes' own setter reads before it writes, which a device would see; a memoryview's
        # does not, and copies an aligned word by one instruction.
        data = memoryview((ctypes.c_ubyte * length).from_address(address)).cast("B")
        words = {1: data, 2: data.cast("H"), 4: data.cast("I"), 8: data.cast("Q")}
        return _Area(offset, offset + length, address, words)

    def read(self, offset: int, width: int) -> int:
        """Read ``width`` bytes at ``offset``, which is a multiple of it."""
        check_access(self.name, self.size, offset, width)
        for area in self._areas:
            if area.start <= offset < area.end:
                return int(area.words[width][(offset - area.start) // width])
        return self.file.read(offset, width)

    def write(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` bytes at ``offset``, which is a multiple of it."""
        check_access(self.name, self.size, offset, width)
        for area in self._areas:
            if area.start <= offset < area.end:
                area.words[width][(offset - area.start) // width] = value
                return
        self.file.write(offset, width, value)

    def address(self, offset: int, length: int) -> int:
        """Where a part of the region is mapped. Raises DeviceAccessError if it is not."""
        for area in self._areas:
            if area.start <= offset and offset + length <= area.end:
                return area.address + offset - area.start
        raise DeviceAccessError(
            f"{self.name} is not mapped from {offset:#x} to {offset + length:#x}: "
            "the kernel or the device keeps that part to itself"
        )

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``, where nothing is mapped."""
        for area in self._areas:
            unguard_bar(area.address)
        self._areas.clear()  # also for a call that goes through them
        make_foreign(self, owner)

    def close(self) -> None:
        """Unmap. Whoever kept an address must be done with it; accesses then raise."""
        self.size = 0
        self.file.close()
        areas, self._areas = self._areas, []
        for area in areas:
            with owned.no_fork:
                unguard_bar(area.address)
            unmap(area.address, area.end - area.start)


def set_command(config: FileRegion, *, set_bits: int = 0, clear_bits: int = 0) -> None:
    """Change bits of the PCI command register. Raises DeviceRemovedError."""
    command = config.read(PCI_COMMAND, 2)
    config.write(PCI_COMMAND, 2, command & ~clear_bits | set_bits)


def check_access(name: str, size: int, offset: int, width: int) -> None:
    """Raise ValueError for what is no access to a region, ClosedError if it is closed."""
    if size == 0:
        raise ClosedError(f"{name} is closed: open the device again")
    if width not in _WIDTHS or offset % width or not 0 <= offset <= size - width:
        raise ValueError(f"no {width} bytes at {offset:#x} of {name}, which has {size:#x}")


def guard_bar(address: int, length: int) -> None:
    """Let a mapped BAR read as all ones once its device is gone, instead of SIGBUS.

    Raises NvmeError if it cannot be.
    """
    err = lib.bar_guard(ffi.cast("void *", address), length)
    if err:
        fail(err)


def unguard_bar(address: int) -> None:
    """End :func:`guard_bar`, before the memory is unmapped."""
    lib.bar_unguard(ffi.cast("void *", address))
