"""The seam: the whole of what a transport to an NVMe controller has to give.

Everything above this file is the same code for every device. An access reads and writes the
controller's properties (registers), hands the C core the means to ring doorbells, and provides
memory that the device can reach. It knows nothing of queues or commands.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn, Protocol, Self

from pynvme_user import owned
from pynvme_user.errors import DeviceAccessError, DmaError, ForkedError
from pynvme_user.host.numa import Placement
from pynvme_user.links import Interrupt


class RegionIndex(IntEnum):
    """Regions of a PCI device, numbered as VFIO numbers them (linux/vfio.h)."""

    BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, ROM, CONFIG = range(8)


class Region(Protocol):
    """A window onto the device: a BAR (memory or port I/O) or PCI configuration space."""

    size: int

    def read(self, offset: int, width: int) -> int:
        """Read ``width`` bytes (1, 2, 4 or 8) at ``offset``, little-endian."""

    def write(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` bytes (1, 2, 4 or 8) at ``offset``, little-endian."""


@dataclass(frozen=True, slots=True)
class Doorbells:
    """How C rings: 32-bit stores from ``mmio`` on, or, where that is 0, calls of ``post``.

    ``post`` is the address of a C function ``int (void *context, uint64_t address, uint32_t
    value)`` that sends the write without waiting for it; ``base`` is the device address of the
    first doorbell for it.
    """

    mmio: int = 0
    post: int = 0
    context: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class DmaRegion:
    """Memory that the device reaches: ``length`` bytes at ``address`` here, at ``iova`` there.

    ``owner`` keeps the memory mapped in this process: whoever still looks at it after the device
    was closed sees memory that is no longer the device's, never a fault.
    """

    address: int
    length: int
    iova: int
    owner: object

    def part(self, offset: int, length: int) -> DmaRegion:
        """Give the ``length`` bytes from ``offset`` on, or as many as there are.

        Raises DeviceAccessError where there are none.
        """
        if not 0 <= offset < self.length:
            raise DeviceAccessError(f"nothing lies at {offset:#x}, beyond the end of a BAR")
        length = min(length, self.length - offset)
        return DmaRegion(self.address + offset, length, self.iova + offset, self.owner)


class Access(metaclass=ABCMeta):
    """One open device. Owned by one controller, which closes it last."""

    name: str  # the device name under which it was opened
    registers: Region  # the controller properties, NVMe Base 2.0 section 3.1.3
    emulated: bool = False  # its speed says nothing of hardware
    numa_node: int | None = None  # which it is attached to, where the machine tells
    interrupt_vectors: int = 0  # how many arm_interrupts() can give; 0: poll
    interrupts_wanted: bool = False  # the device name asks for them
    request_fd: int | None = None  # an eventfd: the kernel wants the device back, so close it
    error_fd: int | None = None  # an eventfd: the device had an uncorrectable error, so reset it

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Let it hear of a fork, as early as it may be used."""
        access = super().__new__(cls)
        owned.register(access)
        return access

    def forked(self, owner: int) -> None:
        """Become :class:`Foreign`, in a child of process ``owner``, which opened the device."""
        make_foreign(self, owner)

    @abstractmethod
    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Give C the doorbells that begin ``offset`` bytes into the registers."""

    @abstractmethod
    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Provide at least ``length`` bytes of zeroed memory, contiguous in IOVA.

        ``placement`` tells on which NUMA node; without it, the kernel chooses. Raises DmaError
        when there is none, or none there; nothing is half mapped then.
        """

    @abstractmethod
    def release_dma(self, region: DmaRegion) -> None:
        """Take a region back. The caller knows that no command carries an address in it."""

    def map_dma(self, address: int, length: int) -> DmaRegion:
        """Map memory that the user brings (page-aligned, pinned until released)."""
        raise DmaError(f"{self.name} reaches only memory of its own: use a buffer from alloc()")

    def region(self, index: RegionIndex) -> Region:
        """Open a PCI region. Raises DeviceAccessError where the device has no such region."""
        raise DeviceAccessError(f"{self.name} has no region {index.name}")

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Map memory of the device's own: a part of a BAR, at whole pages, for as long as the owner
        of what is returned lives; less than ``length`` where the BAR ends.

        Its ``iova`` is an address that no other memory has that the device reaches: for it to be
        told. Raises DeviceAccessError where it cannot be mapped.
        """
        raise DeviceAccessError(f"{self.name} has no memory in {index.name} that can be mapped")

    def arm_interrupts(self, count: int) -> Sequence[Interrupt]:
        """Give the means to wait for each of the interrupt vectors 0 to ``count`` - 1.

        Its descriptor polls readable once the interrupt fired; C takes the event and lets the
        next one through. All are closed with the access.
        """
        raise DeviceAccessError(f"{self.name} has no interrupts here: use polling")

    def check_vectors(self, count: int, otherwise: str = "or use polling") -> None:
        """Raise DeviceAccessError unless so many interrupt vectors can be armed."""
        if not 1 <= count <= self.interrupt_vectors:
            raise DeviceAccessError(
                f"{self.name} has {self.interrupt_vectors} interrupt vectors, not {count}: let "
                f"queues share them, {otherwise}"
            )

    def sibling(self, number: int) -> Access:
        """Open another controller of what this one was started with.

        Raises DeviceAccessError where there is none, DeviceBusyError where it is open.
        """
        raise DeviceAccessError(
            f"{self.name} was started with no other controller: open another by its own name"
        )

    @abstractmethod
    def reset(self) -> None:
        """Reset the function as the bus does, so that all its DMA has stopped on return."""

    @abstractmethod
    def alive(self) -> bool:
        """Tell whether the device can still be there: False once its process or socket ended."""

    @abstractmethod
    def close(self) -> None:
        """Stop DMA, unmap everything, give the claim back. Safe to call twice."""


class Named(Protocol):
    """What is an access or a region's."""

    name: str


class Foreign:
    """What an access or a region is in a child of the process that opened it: all is refused."""

    name: str
    owner: int

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise ForkedError."""
        raise ForkedError(self.name, self.owner)

    read = write = address = _refuse
    doorbells = allocate_dma = release_dma = map_dma = region = map_bar = _refuse
    arm_interrupts = check_vectors = sibling = reset = alive = _refuse

    def __getattr__(self, _: str) -> NoReturn:
        """Refuse what a call that the fork came across has still to do."""
        self._refuse()

    def close(self) -> None:
        """Do nothing: it is the owner's to close."""


def make_foreign(thing: Named, owner: int) -> None:
    """Make an access or a region :class:`Foreign`, for all who have it.

    Its class has no base from elsewhere, such as ABC or Protocol: Python could not change it.
    """
    vars(thing).update(name=thing.name, owner=owner)
    object.__setattr__(thing, "__class__", Foreign)
