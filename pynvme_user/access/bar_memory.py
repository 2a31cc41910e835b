"""A part of a BAR that is memory, at which arrays may look for longer than the device is open."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from pynvme_user import owned
from pynvme_user.access.memory import PAGE_SIZE, keep_from_children, map_shared, unmap
from pynvme_user.access.regions import FileRegion, guard_bar, unguard_bar
from pynvme_user.errors import DeviceAccessError


class BarMemory:
    """``length`` bytes of a BAR, whole pages, mapped at ``address``.

    After :meth:`close`, and in a forked child, zeroed memory of nobody's is in its place, until
    the last reference to this object is gone: an array that outlives its device does not crash. A
    device that is gone reads as all ones.
    """

    def __init__(self, name: str, fd: int, offset: int, length: int) -> None:
        """Map ``length`` bytes from ``offset`` of ``fd`` on. Raises DeviceAccessError."""
        self.length = length
        self._mapped = False
        try:
            self.address = map_shared(fd, length, offset)
        except OSError as error:
            raise DeviceAccessError(
                f"{name} cannot be mapped ({error.strerror}): is the kernel locked down "
                "(`cat /sys/kernel/security/lockdown`)?"
            ) from error
        self._mapped = True
        # A child's mapping would keep the device open, and with it the claim on it.
        keep_from_children(self.address, length)
        with owned.no_fork:
            guard_bar(self.address, length)
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Have memory where there is none, in a child of process ``owner``."""
        self.close()

    def close(self) -> None:
        """Let go of the device. Safe to call twice."""
        if not self._mapped:
            return
        self._mapped = False
        with owned.no_fork:
            unguard_bar(self.address)
        map_shared(-1, self.length, at=self.address, flags=mmap.MAP_ANONYMOUS)

    def __del__(self) -> None:
        if not hasattr(self, "address"):
            return
        if self._mapped:
            with owned.no_fork:
                unguard_bar(self.address)
        unmap(self.address, self.length)


class BarMemories(owned.Undo):
    """Those of one device, which are closed with it."""

    def map(
        self,
        file: FileRegion,
        fd: int,
        areas: Sequence[tuple[int, int]],
        offset: int,
        length: int,
    ) -> BarMemory:
        """Map a part of a region, of which ``areas`` may be mapped; less where the region ends.

        Raises DeviceAccessError where not all of it may be.
        """
        length = min(length, file.size - offset)
        inside = any(start <= offset and offset + length <= start + size for start, size in areas)
        if length <= 0 or (offset | length) % PAGE_SIZE or not inside:
            raise DeviceAccessError(
                f"{file.name} is no memory that can be mapped from {offset:#x} for {length:#x} "
                "bytes: the device says another place than it has, or the kernel keeps it"
            )
        memory = BarMemory(file.name, fd, file.base + offset, length)
        self.callback(memory.close)
        return memory
