"""An emulated controller in another process, served over vfio-user (SPDK's target, libvfio-user).

Registers and configuration space are messages; queues, buffers and doorbells are memory that both
processes map, so that no message is on the I/O path.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from pynvme_user import owned
from pynvme_user.access import ioctl
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import Access, DmaRegion, Doorbells, Region, RegionIndex
from pynvme_user.access.memory import PAGE_SIZE
from pynvme_user.access.regions import (
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    FileRegion,
    MappedRegion,
    check_access,
    set_command,
)
from pynvme_user.access.vfio_user_dma import SharedDma, SharedMemory
from pynvme_user.access.vfio_user_messages import (
    DEVICE_FLAGS_PCI,
    Command,
    DeviceInfo,
    RegionAccess,
)
from pynvme_user.access.vfio_user_socket import REPLY_SECONDS, Connection, RefusedError
from pynvme_user.errors import (
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    NvmeError,
)
from pynvme_user.host.claim import take
from pynvme_user.host.numa import Placement
from pynvme_user.links import Interrupt
from pynvme_user.spec.registers import DOORBELL_BASE

#: The socket's name where the device name is a folder, as SPDK's targets have it.
SOCKET_NAME = "cntrl"
#: Room for the region's info with every capability that a server may add.
_REGION_INFO_ROOM = 4096
_MAX_REGION = 1 << 40
_MAX_AREAS = 64
_CONFIG_SIZES = (256, 4096)

_CAPABILITIES_POINTER = 0x34  # PCI Local Bus 3.0, section 6.7
_MAX_CAPABILITIES = 48  # more do not fit into 256 bytes
_CAP_MSIX = 0x11
_MSIX_CONTROL = 2  # PCI Local Bus 3.0, section 6.8.2
_MSIX_ENABLE, _MSIX_FUNCTION_MASK = 1 << 15, 1 << 14


class MessageRegion(FileRegion):
    """A region read and written by messages. A server may take only some widths."""

    def __init__(self, name: str, connection: Connection, index: RegionIndex, size: int) -> None:
        super().__init__(f"{name} {index.name}", -1, 0, size)
        self._connection = connection
        self.index = index

    def read(self, offset: int, width: int) -> int:
        """Read ``width`` bytes at ``offset``. Raises as :meth:`Connection.request`."""
        check_access(self.name, self.size, offset, width)
        what = f"a read of {width} bytes at {offset:#x} of {self.index.name}"
        head = bytes(RegionAccess(offset, self.index, width))
        reply = self._connection.request(Command.REGION_READ, head, what)
        if reply[: len(head)] != head or len(reply) != len(head) + width:
            raise self._connection.violation(f"the reply to {what} is not one")
        return int.from_bytes(reply[len(head) :], "little")

    def write(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` bytes at ``offset``. Raises as :meth:`Connection.request`."""
        check_access(self.name, self.size, offset, width)
        what = f"a write of {width} bytes at {offset:#x} of {self.index.name}"
        head = bytes(RegionAccess(offset, self.index, width))
        data = value.to_bytes(width, "little")
        reply = self._connection.request(Command.REGION_WRITE, head + data, what)
        if reply != head:
            raise self._connection.violation(f"the reply to {what} is not one")


class VfioUserAccess(Access):
    """A controller behind a vfio-user socket; ``path`` is the socket, or the folder it is in.

    ``timeout`` is how many seconds one message may take.
    """

    emulated = True

    def __init__(self, path: str, *, timeout: float = REPLY_SECONDS) -> None:
        """Connect. Raises DeviceNameError, DeviceAccessError, DeviceBusyError."""
        if not path:
            raise DeviceNameError(
                "'vfio-user:' needs the path of a socket, for example vfio-user:/run/nvme/cntrl"
            )
        self.name = f"vfio-user:{path}"
        where = Path(path)
        if os.path.isdir(path):  # which never raises, however long the name
            where /= SOCKET_NAME
        with owned.Undo() as undo:
            undo.enter_context(_claim(where, self.name))
            self._open(_connect(where, self.name, timeout), timeout, undo)
            self._undo = undo.pop_all()

    def _open(self, sock: socket.socket, timeout: float, undo: owned.Undo) -> None:
        shared = SharedMemory()
        self._connection = Connection(sock, self.name, shared.answer, timeout=timeout)
        undo.callback(self._connection.close)
        self._connection.negotiate()
        self._dma = SharedDma(self.name, self._connection, shared)
        undo.callback(self._dma.close)
        self._check_device()

        self._regions: dict[RegionIndex, MessageRegion | MappedRegion] = {}
        undo.callback(self._close_regions)
        self._memories = undo.enter_context(BarMemories())
        self._config = self._message_region(RegionIndex.CONFIG)
        if self._config.size not in _CONFIG_SIZES:
            raise self._connection.violation(
                f"configuration space has {self._config.size:#x} bytes"
            )
        self.registers = self.region(RegionIndex.BAR0)
        if self.registers.size <= DOORBELL_BASE:
            raise DeviceAccessError(
                f"{self.name} has {self.registers.size:#x} bytes of registers, fewer than an NVMe "
                "controller: give the socket of one"
            )

        self._vectors: list[int] = []
        self._msix = self._find_msix()
        self.interrupt_vectors = self._irq_count() if self._msix else 0
        undo.callback(self._disarm_interrupts)
        undo.callback(self._stop_dma)
        # Enabled by a client before us, perhaps, whose eventfds are gone.
        self._set_msix(False)
        self._start_dma()

    def _check_device(self) -> None:
        request = DeviceInfo(argsz=ctypes.sizeof(DeviceInfo))
        what = "the device's description"
        reply = self._connection.request(Command.DEVICE_GET_INFO, bytes(request), what)
        info = self._connection.parse(DeviceInfo, reply, what)
        if not info.flags & DEVICE_FLAGS_PCI or info.num_regions <= RegionIndex.CONFIG:
            raise DeviceAccessError(
                f"{self.name} serves a device that is not a PCI function: give the socket of an "
                "NVMe controller"
            )

    # Regions

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Give the doorbells as memory shared with the server.

        Raises DeviceAccessError where the server does not share them.
        """
        if not isinstance(self.registers, MappedRegion):
            raise DeviceAccessError(
                f"{self.name} takes doorbells by message only, on which this driver does not run: "
                "let the server share them (SPDK: without --disable-mappable-bar0)"
            )
        return Doorbells(mmio=self.registers.address(offset, length))

    def region(self, index: RegionIndex) -> Region:
        """Open a BAR or configuration space. Raises DeviceAccessError if there is none."""
        if index not in self._regions:
            info, areas, descriptors = self._region_info(index)
            try:
                self._regions[index] = self._make_region(index, info, areas, descriptors)
            finally:
                for fd in descriptors:
                    owned.close(fd)
        return self._regions[index]

    def _message_region(self, index: RegionIndex) -> MessageRegion:
        info, _, descriptors = self._region_info(index)
        for fd in descriptors:
            owned.close(fd)
        region = MessageRegion(self.name, self._connection, index, int(info.size))
        self._regions[index] = region
        return region

    def _region_info(
        self, index: RegionIndex
    ) -> tuple[ioctl.vfio_region_info, list[tuple[int, int]], list[int]]:
        """Ask for a region: its info, the (offset, length) to be mapped, descriptors to close."""
        # Capabilities and descriptors come only to who has room for them.
        request = ioctl.vfio_region_info(argsz=_REGION_INFO_ROOM, index=index)
        what = f"the description of {index.name}"
        try:
            reply, descriptors = self._connection.request_descriptors(
                Command.DEVICE_GET_REGION_INFO, bytes(request), what
            )
        except RefusedError as error:
            raise DeviceAccessError(f"{self.name} has no region {index.name}") from error
        try:
            info = self._connection.parse(ioctl.vfio_region_info, reply, what)
            if info.index != index:
                raise self._connection.violation(f"{what} is that of region {info.index}")
            if not info.size:
                raise DeviceAccessError(f"{self.name} has no region {index.name}")
            if info.size > _MAX_REGION:
                raise self._connection.violation(f"{index.name} has {info.size:#x} bytes")
            areas = self._areas(info, reply, index) if descriptors else []
        except BaseException:
            for fd in descriptors:
                owned.close(fd)
            raise
        return info, areas, descriptors

    def _areas(
        self, info: ioctl.vfio_region_info, reply: bytes, index: RegionIndex
    ) -> list[tuple[int, int]]:
        """Tell what parts of a region may be mapped: all of it, or what a capability lists."""
        if not info.flags & ioctl.VFIO_REGION_INFO_FLAG_MMAP:
            return []
        areas = [(0, int(info.size))]
        try:
            if info.flags & ioctl.VFIO_REGION_INFO_FLAG_CAPS:
                for kind, offset in ioctl.capabilities(reply, info.cap_offset):
                    if kind == ioctl.VFIO_REGION_INFO_CAP_SPARSE_MMAP:
                        areas = ioctl.range_array(reply, offset)
        except ValueError as error:
            raise self._connection.violation(
                f"the description of {index.name} is cut off ({error})"
            ) from None
        for start, length in areas:
            if (
                (start | length) % PAGE_SIZE
                or not length
                or start + length > info.size
                or len(areas) > _MAX_AREAS
            ):
                raise self._connection.violation(
                    f"{index.name} cannot be shared from {start:#x} for {length:#x} bytes, as one "
                    f"of {len(areas)} areas"
                )
        return areas

    def _make_region(
        self,
        index: RegionIndex,
        info: ioctl.vfio_region_info,
        areas: Sequence[tuple[int, int]],
        descriptors: Sequence[int],
    ) -> MessageRegion | MappedRegion:
        region = MessageRegion(self.name, self._connection, index, int(info.size))
        if not areas:
            return region
        region.fd, region.base = self._one_file(descriptors, index), int(info.offset)
        self._check_file(region.fd, region, areas)
        mapped = MappedRegion(region.name, region, areas)
        region.fd = -1  # the caller closes it
        return mapped

    def _check_file(self, fd: int, region: MessageRegion, areas: Sequence[tuple[int, int]]) -> None:
        """Check that the file of a region has all of what may be mapped."""
        status = os.fstat(fd)
        end = max(start + length for start, length in areas)
        if stat.S_ISREG(status.st_mode) and status.st_size < region.base + end:
            raise self._connection.violation(
                f"the memory of {region.index.name} ends at {status.st_size:#x}, before {end:#x}"
            )

    def _one_file(self, descriptors: Sequence[int], index: RegionIndex) -> int:
        """Check that all descriptors are of one file; servers send one, or one for each area."""
        files = {(status.st_dev, status.st_ino) for status in map(os.fstat, descriptors)}
        if len(files) != 1:
            raise self._connection.violation(f"{index.name} is shared as {len(files)} files")
        return descriptors[0]

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Map a part of a BAR that the server shares, at an address that nothing else has."""
        info, areas, descriptors = self._region_info(index)
        try:
            if not areas:
                raise DeviceAccessError(
                    f"{self.name} does not share the memory in {index.name}: let the server do "
                    "without it, or map it"
                )
            region = MessageRegion(self.name, self._connection, index, int(info.size))
            region.base = int(info.offset)
            fd = self._one_file(descriptors, index)
            self._check_file(fd, region, areas)
            memory = self._memories.map(region, fd, areas, offset, length)
        finally:
            for fd in descriptors:
                owned.close(fd)
        return DmaRegion(memory.address, memory.length, self._dma.reserve(memory.length), memory)

    def _close_regions(self) -> None:
        for region in self._regions.values():
            region.close()

    # DMA

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Memory shared with the server, in hugepages where they are free and fit."""
        return self._dma.allocate(length, placement)

    def release_dma(self, region: DmaRegion) -> None:
        """Unmap a region."""
        self._dma.release(region)

    def _start_dma(self) -> None:
        # SPDK's target fails a controller that has INTx enabled and no eventfd for it.
        bits = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE
        set_command(self._config, set_bits=bits)

    def _stop_dma(self) -> None:
        with contextlib.suppress(NvmeError):  # the connection's end does it as well
            set_command(self._config, clear_bits=PCI_COMMAND_MASTER)

    # Interrupts

    def arm_interrupts(self, count: int) -> Sequence[Interrupt]:
        """Give an eventfd for each of the MSI-X vectors 0 to ``count`` - 1; they close with us.

        Raises DeviceAccessError for more than ``interrupt_vectors``.
        """
        self.check_vectors(count)
        armed = len(self._vectors)
        while len(self._vectors) < count:
            eventfd = owned.descriptor(os.eventfd, 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._vectors.append(eventfd)
        self._pass_vectors(armed)
        # Not before: a vector that fires must have its eventfd.
        self._set_msix(True)
        return [Interrupt(event_fd=fd) for fd in self._vectors[:count]]

    def _find_msix(self) -> int:
        """Tell where configuration space has the MSI-X capability; 0 where it has none."""
        at = self._config.read(_CAPABILITIES_POINTER, 1) & ~3
        for _ in range(_MAX_CAPABILITIES):
            if not at or self._config.read(at, 1) == _CAP_MSIX:
                return at
            at = self._config.read(at + 1, 1) & ~3
        raise self._connection.violation("the chain of PCI capabilities has no end")

    def _set_msix(self, enable: bool) -> None:
        if self._msix:
            control = self._config.read(self._msix + _MSIX_CONTROL, 2)
            control &= ~(_MSIX_ENABLE | _MSIX_FUNCTION_MASK)
            control |= _MSIX_ENABLE if enable else 0
            self._config.write(self._msix + _MSIX_CONTROL, 2, control)

    def _irq_count(self) -> int:
        request = ioctl.vfio_irq_info(
            argsz=ctypes.sizeof(ioctl.vfio_irq_info), index=ioctl.VFIO_PCI_MSIX_IRQ_INDEX
        )
        what = "the number of its MSI-X vectors"
        try:
            reply = self._connection.request(Command.DEVICE_GET_IRQ_INFO, bytes(request), what)
        except RefusedError:
            return 0
        info = self._connection.parse(ioctl.vfio_irq_info, reply, what)
        if info.index != request.index or info.count > 2048:  # MSI-X has no more
            raise self._connection.violation(f"it has {info.count} interrupts of kind {info.index}")
        return int(info.count)

    def _pass_vectors(self, first: int) -> None:
        """Give the server the eventfds from vector ``first`` on, as many at a time as it takes."""
        step = self._connection.max_descriptors
        for start in range(first, len(self._vectors), step):
            self._set_irqs(start, self._vectors[start : start + step])

    def _set_irqs(self, start: int, eventfds: Sequence[int]) -> None:
        """Give vectors their eventfds; without any, turn all off."""
        kind = ioctl.VFIO_IRQ_SET_DATA_EVENTFD if eventfds else ioctl.VFIO_IRQ_SET_DATA_NONE
        request = ioctl.vfio_irq_set(
            argsz=ctypes.sizeof(ioctl.vfio_irq_set),
            flags=kind | ioctl.VFIO_IRQ_SET_ACTION_TRIGGER,
            index=ioctl.VFIO_PCI_MSIX_IRQ_INDEX,
            start=start,
            count=len(eventfds),
        )
        self._connection.request(
            Command.DEVICE_SET_IRQS,
            bytes(request),
            f"{len(eventfds)} interrupts from vector {start} on",
            descriptors=eventfds,
        )

    def _disarm_interrupts(self) -> None:
        if self._vectors:
            with contextlib.suppress(NvmeError):  # the connection's end does it as well
                self._set_msix(False)
                self._set_irqs(0, ())
        self.interrupt_vectors = 0
        while self._vectors:
            owned.close(self._vectors.pop())

    # The device as a whole

    def reset(self) -> None:
        """Reset the function: its DMA has stopped on return.

        Raises DeviceAccessError where the server does not, DeviceRemovedError.
        """
        self._stop_dma()
        self._connection.request(Command.DEVICE_RESET, b"", "the reset")
        if self._vectors:
            self._pass_vectors(0)
        self._set_msix(bool(self._vectors))
        self._start_dma()

    def alive(self) -> bool:
        """Tell whether the server still holds its end of the socket."""
        return self._connection.alive

    def close(self) -> None:
        """Stop DMA, disarm interrupts, unmap everything, hang up."""
        self._undo.close()


def _connect(path: Path, name: str, timeout: float) -> socket.socket:
    sock = owned.unix_socket()
    try:
        sock.settimeout(timeout)
        sock.connect(os.fspath(path))
    except FileNotFoundError:
        problem = f"there is no {path}: start its server"
    except ConnectionRefusedError:
        problem = f"nobody serves {path}: start its server"
    except BlockingIOError:
        sock.close()
        raise DeviceBusyError(f"{name} has other clients waiting: end them") from None
    except OSError as error:
        # A path of more than 107 bytes, too, which has neither a number nor a text of its own.
        problem = f"{path} cannot be connected to ({error.strerror or error})"
    else:
        return sock
    sock.close()
    raise DeviceAccessError(f"{name}: {problem}")


@contextlib.contextmanager
def _claim(path: Path, name: str) -> Iterator[None]:
    """Hold the device's claim, by a name that the kernel drops with its holder.

    A server lets a second client wait without a word. Raises DeviceBusyError, which names the
    process, where another one of this driver has it. What is not there has no claim.
    """
    try:
        status = path.stat()
    except OSError:
        yield
        return
    address = f"\0pynvme_user/{status.st_dev:x}/{status.st_ino:x}"
    with owned.unix_socket() as mine:

        def attempt() -> None:
            mine.bind(address)
            mine.listen()  # who asks whose it is stays in the queue

        take(attempt, lambda: _listener(address), name)
        yield


def _listener(address: str) -> int | None:
    with owned.unix_socket() as probe:
        probe.settimeout(1.0)
        with contextlib.suppress(OSError):
            probe.connect(address)
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("iii", credentials)[0])
    return None
