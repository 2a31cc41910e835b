"""Serve the software controller over vfio-user, for benchmarks and tests of the driver.

    python -m pynvme_user.testing.vfio_user_server /tmp/nvme.sock [--memory] [--size 1G] ...

Registers are messages, answered here; queues are polled in C, in a thread of its own. Without
--memory, reads and writes complete at once and move no data. One client at a time; the next one
finds a controller that was reset.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import dataclasses
import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pynvme_user.access import ioctl
from pynvme_user.access.memory import map_shared, unmap
from pynvme_user.access.vfio_user_messages import (
    FLAGS_ERROR,
    FLAGS_NO_REPLY,
    FLAGS_REPLY,
    HEADER_SIZE,
    Command,
    DeviceInfo,
    DmaMap,
    DmaUnmap,
    Header,
    RegionAccess,
    Version,
)
from pynvme_user.errors import NvmeError
from pynvme_user.testing.core import (
    DOORBELLS,
    REGISTERS,
    USES,
    Core,
    Options,
    OwnMemory,
    lib,
)
from pynvme_user.testing.pages import PCI_COMMAND, configuration_space
from pynvme_user.testing.settings import parse_fault, parse_own_memory, parse_slow
from pynvme_user.testing.storage import Storage
from pynvme_user.units import parse_size

BAR0, BAR2, BAR4, CONFIG, REGIONS = 0, 2, 4, 7, 9
BAR0_SIZE = REGISTERS + DOORBELLS
VECTORS = 129
MAX_MESSAGE = HEADER_SIZE + 64 + (1 << 20)
DEVICE_FLAGS = 1 << 0 | 1 << 1  # it can be reset; it is a PCI function

P = ParamSpec("P")
T = TypeVar("T")
StructT = TypeVar("StructT", bound=ctypes.Structure)
Answer = tuple[bytes, list[int]]  # a payload, and descriptors that stay ours


class RequestError(Exception):
    """A request that is answered with an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


def refused(call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Call the controller; what it refuses, the client is refused."""
    try:
        return call(*args, **named)
    except OSError as error:
        raise RequestError(error.errno or errno.EINVAL) from error


class Device:
    """The controller and its PCI function; outlives its clients."""

    def __init__(self, options: argparse.Namespace) -> None:
        # The doorbells lie where the region has them, so that offsets are the file's.
        self.bar0 = os.memfd_create("doorbells", os.MFD_CLOEXEC)
        os.ftruncate(self.bar0, BAR0_SIZE)
        doorbells = map_shared(self.bar0, BAR0_SIZE) + REGISTERS
        self._storage = None
        #: BARs that are memory, which a client maps: their files and lengths.
        self._bars: dict[int, tuple[int, int]] = {}
        try:
            cmb = self._make_bar(BAR2, options.cmb) if options.cmb else None
            if options.memory or options.image:
                self._storage = Storage(options.image or "", options.size)
            wanted = [field.name for field in dataclasses.fields(Options) if field.name in options]
            self._core = Core(
                Options(**{name: getattr(options, name) for name in wanted}),
                self._storage.address if self._storage else None,
                doorbells,
                wait=lib.CONTROLLER_SPIN if options.spin else lib.CONTROLLER_NAP,
                cmb=cmb,
            )
        except NvmeError as error:
            raise SystemExit(str(error)) from None
        except ValueError:
            raise SystemExit(
                "the controller cannot be made with these options: see --help"
            ) from None
        self._mapped: dict[int, int] = {}  # lengths, by IOVA
        self._events: dict[int, int] = {}  # eventfds, by vector
        self._spaces: dict[int, bytearray] = {}  # regions that are plain bytes
        self.detach()

    def _make_bar(self, index: int, length: int) -> OwnMemory:
        fd = os.memfd_create(f"bar{index}", os.MFD_CLOEXEC)
        os.ftruncate(fd, length)
        self._bars[index] = fd, length
        return OwnMemory(map_shared(fd, length), length, sum(USES.values()))

    def reset(self) -> None:
        """Reset the controller, not the function: its configuration stays."""
        self._core.reset()

    def detach(self) -> None:
        """Forget a client: its memory, its eventfds, the configuration it made."""
        self.reset()
        for iova, length in list(self._mapped.items()):
            self._unmap(iova, length)
        for vector in list(self._events):
            self._set_event(vector, -1)
        self._spaces = {CONFIG: configuration_space(VECTORS), BAR4: bytearray(0x2000)}
        self._core.set_command(0)

    # Requests. What is left in the list of descriptors is closed by the caller.

    def get_info(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Describe the device."""
        size = ctypes.sizeof(DeviceInfo)
        return bytes(DeviceInfo(size, DEVICE_FLAGS, REGIONS, 5)), []

    def get_region_info(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Describe a region; with BAR0, where there is room, pass its doorbells."""
        asked = parse(ioctl.vfio_region_info, payload)
        if asked.index >= REGIONS:
            raise RequestError(errno.EINVAL)
        info = ioctl.vfio_region_info(argsz=ctypes.sizeof(asked), index=asked.index)
        if asked.index in self._bars:
            fd, info.size = self._bars[asked.index]
            info.flags = 3 | ioctl.VFIO_REGION_INFO_FLAG_MMAP
            return bytes(info), [fd]
        if asked.index != BAR0:
            info.size = len(self._spaces.get(asked.index, b""))
            info.flags = 3 if info.size else 0  # readable, writable
            return bytes(info), []
        capability = bytes(ioctl.vfio_info_cap_header(ioctl.VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1))
        capability += (1).to_bytes(8, "little")  # one area, and padding
        capability += bytes(ioctl.iommu_iova_range(REGISTERS, DOORBELLS))  # offset, length
        info.size = BAR0_SIZE
        info.argsz += len(capability)
        info.flags = 3 | ioctl.VFIO_REGION_INFO_FLAG_MMAP
        if asked.argsz < info.argsz:
            return bytes(info), []
        info.flags |= ioctl.VFIO_REGION_INFO_FLAG_CAPS
        info.cap_offset = ctypes.sizeof(asked)
        return bytes(info) + capability, [self.bar0]

    def read(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Read a region: registers from C, the rest from here."""
        access = parse(RegionAccess, payload)
        head = payload[: ctypes.sizeof(RegionAccess)]
        start, end = access.offset, access.offset + access.count
        if access.region == BAR0:
            if start >= REGISTERS:
                raise RequestError(errno.EPERM)
            value = refused(self._core.read, start, access.count)
            return head + value.to_bytes(access.count, "little"), []
        return head + self._space(access.region, end)[start:end], []

    def write(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Write a region."""
        access = parse(RegionAccess, payload)
        head, data = payload[: ctypes.sizeof(access)], payload[ctypes.sizeof(access) :]
        start, end = access.offset, access.offset + access.count
        if len(data) != access.count:
            raise RequestError(errno.EINVAL)
        if access.region == BAR0:
            if start >= REGISTERS:
                raise RequestError(errno.EPERM)
            value = int.from_bytes(data, "little")
            refused(self._core.write, start, access.count, value)
        else:
            space = self._space(access.region, end)
            space[start:end] = data
            if access.region == CONFIG:
                command = int.from_bytes(space[PCI_COMMAND : PCI_COMMAND + 2], "little")
                self._core.set_command(command)
        return head, []

    def _space(self, region: int, end: int) -> bytearray:
        space = self._spaces.get(region)
        if space is None or end > len(space):
            raise RequestError(errno.EINVAL)
        return space

    def dma_map(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Map the memory behind the one descriptor."""
        request = parse(DmaMap, payload)
        if len(descriptors) != 1:
            raise RequestError(errno.EINVAL)
        try:
            address = map_shared(descriptors[0], request.size, request.offset)
        except OSError as error:
            raise RequestError(error.errno or errno.EINVAL) from error
        try:
            refused(self._core.map, request.address, request.size, address)
        except RequestError:
            unmap(address, request.size)
            raise
        self._mapped[request.address] = request.size
        return b"", []

    def dma_unmap(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Unmap it."""
        request = parse(DmaUnmap, payload)
        if self._mapped.get(request.address) != request.size:
            raise RequestError(errno.ENOENT)
        self._unmap(request.address, request.size)
        return payload, []

    def _unmap(self, iova: int, length: int) -> None:
        unmap(self._core.unmap(iova, length), length)
        del self._mapped[iova]

    def get_irq_info(self, payload: bytes, descriptors: list[int]) -> Answer:
        """There are MSI-X vectors and no others."""
        info = parse(ioctl.vfio_irq_info, payload)
        info.count = VECTORS if info.index == ioctl.VFIO_PCI_MSIX_IRQ_INDEX else 0
        info.flags = 1  # by eventfd
        return bytes(info), []

    def set_irqs(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Take eventfds for vectors, or without any turn them off."""
        request = parse(ioctl.vfio_irq_set, payload)
        if (
            request.index != ioctl.VFIO_PCI_MSIX_IRQ_INDEX
            or request.start + request.count > VECTORS
            or len(descriptors) not in (0, request.count)
        ):
            raise RequestError(errno.EINVAL)
        vectors = range(request.start, request.start + request.count)
        if not descriptors:
            for vector in vectors or list(self._events):
                self._set_event(vector, -1)
            return b"", []
        for vector, fd in zip(vectors, descriptors, strict=True):
            self._set_event(vector, fd)
        descriptors.clear()
        return b"", []

    def _set_event(self, vector: int, fd: int) -> None:
        self._core.set_event(vector, fd)
        before = self._events.pop(vector, -1)
        if before >= 0:
            os.close(before)
        if fd >= 0:
            self._events[vector] = fd

    def device_reset(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Reset the controller."""
        self.reset()
        return b"", []

    def version(self, payload: bytes, descriptors: list[int]) -> Answer:
        """Agree on version and capabilities."""
        if parse(Version, payload).major != 0:
            raise RequestError(errno.EINVAL)
        capabilities = b'{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}\0'
        return bytes(Version(0, 1)) + capabilities, []


HANDLERS = {
    Command.VERSION: Device.version,
    Command.DMA_MAP: Device.dma_map,
    Command.DMA_UNMAP: Device.dma_unmap,
    Command.DEVICE_GET_INFO: Device.get_info,
    Command.DEVICE_GET_REGION_INFO: Device.get_region_info,
    Command.DEVICE_GET_IRQ_INFO: Device.get_irq_info,
    Command.DEVICE_SET_IRQS: Device.set_irqs,
    Command.REGION_READ: Device.read,
    Command.REGION_WRITE: Device.write,
    Command.DEVICE_RESET: Device.device_reset,
}


def parse(kind: type[StructT], payload: bytes) -> StructT:
    """Read a request's structure."""
    if len(payload) < ctypes.sizeof(kind):
        raise RequestError(errno.EINVAL)
    return kind.from_buffer_copy(payload)


def receive(client: socket.socket, length: int, descriptors: list[int]) -> bytes:
    """Read exactly so many bytes. Raises ConnectionError when the client is gone."""
    data = b""
    while len(data) < length:
        part, beside, _, _ = client.recvmsg(length - len(data), 1024, socket.MSG_CMSG_CLOEXEC)
        for _, _, content in beside:
            descriptors += array.array("i", content)
        if not part:
            raise ConnectionError
        data += part
    return data


def serve_one(device: Device, client: socket.socket) -> None:
    """Answer one request."""
    descriptors: list[int] = []
    try:
        header = Header.from_buffer_copy(receive(client, HEADER_SIZE, descriptors))
        if not HEADER_SIZE <= header.size <= MAX_MESSAGE:
            raise ConnectionError
        payload = receive(client, header.size - HEADER_SIZE, descriptors)
        reply = Header(id=header.id, command=header.command, flags=FLAGS_REPLY)
        answer: bytes = b""
        passed: list[int] = []
        try:
            if header.command not in HANDLERS:
                raise RequestError(errno.EOPNOTSUPP)
            answer, passed = HANDLERS[header.command](device, payload, descriptors)
        except RequestError as error:
            reply.flags, reply.error = FLAGS_REPLY | FLAGS_ERROR, error.number
    finally:
        for fd in descriptors:
            os.close(fd)
    if not header.flags & FLAGS_NO_REPLY:
        reply.size = HEADER_SIZE + len(answer)
        socket.send_fds(client, [bytes(reply) + answer], passed)


def serve(device: Device, listener: socket.socket, *, until_eof: bool) -> None:
    """Serve one client after the other; with ``until_eof``, until standard input ends."""
    waiting: list[Any] = [sys.stdin] if until_eof else []
    while True:
        ready, _, _ = select.select([listener, *waiting], [], [])
        if sys.stdin in ready:
            return
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionError):
            while sys.stdin not in select.select([client, *waiting], [], [])[0]:
                serve_one(device, client)
            return
        device.detach()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("socket", type=Path, help="where to listen")
    parser.add_argument("--memory", action="store_true", help="keep data (default: a null device)")
    parser.add_argument("--image", help="keep data, in this file")
    parser.add_argument("--size", type=parse_size, default="1G", help="of the namespace (1G)")
    parser.add_argument("--block-size", type=int, choices=(512, 1024, 2048, 4096), default=512)
    parser.add_argument("--queues", type=int, default=128, help="I/O queue pairs, 1 to 511 (128)")
    parser.add_argument("--mqes", type=int, default=0xFFFF, help="CAP.MQES, 1 to 65535")
    parser.add_argument("--mdts", type=int, default=5, help="4 KiB << MDTS; 0: no limit (5)")
    parser.add_argument("--delay", type=float, default=0, help="us that each I/O command takes")
    parser.add_argument(
        "--slow",
        type=parse_slow,
        default=(0.0, 0),
        metavar="US:N",
        help="us that each N-th I/O command takes instead",
    )
    parser.add_argument(
        "--in-turn", action="store_true", help="I/O commands take their time one after the other"
    )
    parser.add_argument(
        "--fault",
        type=parse_fault,
        default=("none", 0, 0),
        metavar="KIND:N[:VALUE]",
        help="a fault in each N-th command that can have it, which says success nevertheless: "
        "read-flip, write-flip (VALUE: which bit), torn (blocks that are stored), lost, "
        "misdirected (how many blocks away), stale; or status (which, by default 0x281)",
    )
    parser.add_argument(
        "--cmb", type=parse_own_memory, default=0, help="the Controller Memory Buffer, 4K to 1G"
    )
    parser.add_argument("--cpu", type=int, help="run on this CPU only")
    parser.add_argument("--spin", action="store_true", help="never sleep, for benchmarks")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    return parser.parse_args()


def main() -> None:
    """Serve until told to stop."""
    options = arguments()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    device = Device(options)
    # So that the socket goes when we are told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(options.socket))
        except OSError as error:
            raise SystemExit(f"{options.socket}: {error.strerror or error}: remove it") from None
        try:
            listener.listen()
            print(f"vfio-user:{options.socket}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                serve(device, listener, until_eof=options.until_eof)
        finally:
            options.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
