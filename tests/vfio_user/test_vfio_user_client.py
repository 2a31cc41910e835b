"""The vfio-user client against servers that do not behave."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import malicious
import pytest

import pynvme_user as nvme
from pynvme_user.access.vfio_user import VfioUserAccess
from pynvme_user.access.vfio_user_messages import (
    FLAGS_COMMAND,
    HEADER_SIZE,
    Command,
    DmaAccess,
    DmaMap,
    DmaUnmap,
    Header,
    RegionAccess,
    Version,
)
from pynvme_user.driver.names import open_access
from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DeviceRemovedError,
    DmaError,
    ForkedError,
    NvmeError,
    NvmeTimeoutError,
)

CASES = 10_000


def test_ten_thousand_malicious_servers() -> None:
    """Each strike is seen to end in an error at least sometimes, and none in anything worse.

    A case takes one CPU, client and server in turn: so there is a process for each CPU.
    """
    cpus = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cpus, multiprocessing.get_context("spawn")) as processes:
        shares = [range(first, CASES, cpus) for first in range(cpus)]
        outcomes = sum(processes.map(malicious.outcomes, shares), Counter())
    assert outcomes.total() == CASES
    failed = {outcome.partition(":")[0] for outcome in outcomes if "no error" not in outcome}
    harmless = {"in_pieces", "unasked"}  # but on a busy machine they may come too late
    strikes = {*malicious.FATAL, *malicious.OTHER, malicious.SLOW}
    assert failed | harmless == {strike.__name__ for strike in strikes}
    content = {outcome.partition(":")[0] for outcome in outcomes if "no error" in outcome}
    assert content >= harmless


class Server(malicious.Server):
    """An honest server whose answers a test changes."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(client, random.Random(0), malicious.closed, -1)


@contextmanager
def serving(path: Path, kind: type[Server] = Server) -> Iterator[None]:
    """Serve one client at ``path``."""

    def serve() -> None:
        kind(listener.accept()[0]).converse()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cntrl"


# Names


def test_no_path() -> None:
    with pytest.raises(DeviceNameError, match="needs the path of a socket"):
        nvme.open("vfio-user:")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceAccessError, match=r"there is no .*/nvme.sock: start its server"):
        nvme.open(f"vfio-user:{tmp_path}/nvme.sock")
    with pytest.raises(DeviceAccessError, match=r"there is no .*/cntrl: start its server"):
        nvme.open(f"vfio-user:{tmp_path}")


def test_nobody_listens(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    for _ in range(2):  # the claim is given back
        with pytest.raises(DeviceAccessError, match=r"nobody serves .*/cntrl: start its server"):
            nvme.open(f"vfio-user:{path}")


def test_not_a_socket(path: Path) -> None:
    path.write_text("")
    with pytest.raises(DeviceAccessError, match="nobody serves"):
        nvme.open(f"vfio-user:{path}")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DeviceAccessError, match="too long"):
        nvme.open(f"vfio-user:{tmp_path / ('x' * 120)}")


def test_the_folder_and_the_socket_are_one_device(path: Path) -> None:
    with serving(path):
        access = open_access(f"vfio-user:{path.parent}")
        for name in (path, path.parent):
            with pytest.raises(DeviceBusyError, match="in use by process") as caught:
                open_access(f"vfio-user:{name}")
            assert caught.value.holder == os.getpid()
        access.close()
    path.unlink()
    with serving(path):
        open_access(f"vfio-user:{path}").close()


# What a server says no to


def refusing(command: Command) -> type[Server]:
    class Refusing(Server):
        def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
            if header.command == command:
                self.strike = malicious.refused
                self.at = self.messages
            return super()._answer(header, payload)

    return Refusing


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (Command.VERSION, "refused the protocol's version"),
        (Command.DEVICE_GET_INFO, "refused the device's description"),
        (Command.DEVICE_GET_REGION_INFO, "has no region CONFIG"),
        (Command.REGION_READ, "refused a read of 1 bytes at 0x34 of CONFIG"),
        (Command.REGION_WRITE, "refused a write of 2 bytes at 0x42 of CONFIG"),
        (Command.DEVICE_GET_IRQ_INFO, "has 0 interrupt vectors, not 3"),
        (Command.DEVICE_SET_IRQS, "refused 2 interrupts from vector 0 on"),
        (Command.DEVICE_RESET, "refused the reset"),
    ],
)
def test_an_error_names_what_was_refused(path: Path, command: Command, what: str) -> None:
    def use() -> None:
        access = VfioUserAccess(str(path))
        try:
            malicious.use(access, dma=False)
        finally:
            access.close()

    with serving(path, refusing(command)), pytest.raises(DeviceAccessError, match=what):
        use()


def test_a_refused_mapping_is_no_mapping(path: Path) -> None:
    with serving(path, refusing(Command.DMA_MAP)):
        access = VfioUserAccess(str(path))
        with pytest.raises(DmaError, match=r"refused the mapping of 2 MiB of memory .* release"):
            access.allocate_dma(1)
        assert access.alive()
        access.close()


def test_a_refused_unmapping_is_told(path: Path) -> None:
    with serving(path, refusing(Command.DMA_UNMAP)):
        access = VfioUserAccess(str(path))
        region = access.allocate_dma(1)
        with pytest.raises(DmaError, match=r"refused the unmapping of IOVA .* close the device"):
            access.release_dma(region)
        assert access.allocate_dma(1).iova != region.iova
        with pytest.raises(DmaError, match="released twice"):
            access.release_dma(region)
        access.close()


class Mapping(Server):
    """Keeps the address and size of what was mapped and of what was unmapped."""

    mapped: list[tuple[int, int]] = []
    unmapped: list[tuple[int, int]] = []

    def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
        if header.command == Command.DMA_MAP:
            request = DmaMap.from_buffer_copy(payload)
            self.mapped.append((request.address, request.size))
        elif header.command == Command.DMA_UNMAP:
            unmap = DmaUnmap.from_buffer_copy(payload)
            self.unmapped.append((unmap.address, unmap.size))
        return super()._answer(header, payload)


def test_nothing_begins_a_mapping(path: Path) -> None:
    """SPDK's target takes a queue away with the mapping that ends just before it."""
    Mapping.mapped, Mapping.unmapped = [], []
    with serving(path, Mapping):
        access = VfioUserAccess(str(path))
        regions = [access.allocate_dma(length) for length in (1, 2 << 20, (2 << 20) + 1, 9 << 20)]
        assert len(Mapping.mapped) == len(regions)
        for region, (address, size) in zip(regions, Mapping.mapped, strict=True):
            # Whole hugepages: SPDK's target hands only these on to a real device.
            assert not (address | size) % (2 << 20)
            assert region.iova == address + 4096
            assert region.iova + region.length == address + size
        assert all(region.length >= 9 << 20 for region in regions[3:])
        access.release_dma(regions[1])
        assert Mapping.unmapped == [Mapping.mapped[1]]
        access.close()
    assert sorted(Mapping.unmapped) == sorted(Mapping.mapped)


def test_memory_of_the_users_is_refused(path: Path) -> None:
    with serving(path):
        access = VfioUserAccess(str(path))
        with pytest.raises(DmaError, match="only memory of its own"):
            access.map_dma(0x1000, 0x1000)
        access.close()


# What a server offers


def offering(**answers: bytes) -> type[Server]:
    """Serve these payloads for commands, by name."""

    class Offering(Server):
        def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
            answer, passed = super()._answer(header, payload)
            return answers.get(Command(header.command).name, answer), passed

    return Offering


@pytest.mark.parametrize(
    ("answer", "error", "what"),
    [
        (bytes(Version(1, 0)), DeviceAccessError, "speaks vfio-user 1.0, and this driver 0.1"),
        (b"\0\0", ControllerFatalError, "a version has 2 bytes of 4"),
        (bytes(Version(0, 1)) + b"{", ControllerFatalError, "not the JSON of an object"),
        (bytes(Version(0, 1)) + b"[]\0", ControllerFatalError, "not the JSON of an object"),
        (
            bytes(Version(0, 1)) + b'{"capabilities":{"max_msg_fds":0}}\0',
            ControllerFatalError,
            "takes 0 descriptors",
        ),
    ],
)
def test_versions(path: Path, answer: bytes, error: type[Exception], what: str) -> None:
    with serving(path, offering(VERSION=answer)), pytest.raises(error, match=what):
        VfioUserAccess(str(path))


@pytest.mark.parametrize("answer", [bytes(Version(0, 1)), bytes(Version(0, 7)) + b"{}\0"])
def test_no_capabilities(path: Path, answer: bytes) -> None:
    """Then one descriptor travels in a message: three vectors are three messages."""
    with serving(path, offering(VERSION=answer)):
        access = VfioUserAccess(str(path))
        before = access._connection._last_id
        assert len(access.arm_interrupts(3)) == 3
        assert access._connection._last_id - before == 3 + 2  # and MSI-X, read and written
        access.close()


def test_a_device_that_is_no_pci_function(path: Path) -> None:
    info = bytes(malicious.DeviceInfo(16, 1, 9, 5))
    with (
        serving(path, offering(DEVICE_GET_INFO=info)),
        pytest.raises(DeviceAccessError, match="not a PCI function: give the socket"),
    ):
        VfioUserAccess(str(path))


class NoDoorbells(Server):
    """As SPDK's target with --disable-mappable-bar0."""

    def _region_info(self, index: int) -> tuple[bytes, list[int]]:
        info, _ = super()._region_info(index)
        head = malicious.ioctl.vfio_region_info.from_buffer_copy(info)
        head.flags, head.cap_offset = 3, 0
        return bytes(head), []


def test_doorbells_by_message_only(path: Path) -> None:
    with serving(path, NoDoorbells):
        access = VfioUserAccess(str(path))
        assert access.registers.read(0, 8) == 0
        with pytest.raises(DeviceAccessError, match=r"doorbells by message only.*mappable-bar0"):
            access.doorbells(0x1000, 8)
        access.close()


# Waits


class Silent(Server):
    """Says nothing to a read of a register."""

    def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
        read = header.command == Command.REGION_READ
        if read and RegionAccess.from_buffer_copy(payload).region == 0:
            self.strike = malicious.stalled
            self.at = self.messages
        return super()._answer(header, payload)


def test_a_fork_while_a_request_waits(path: Path) -> None:
    """In a signal's handler: the child goes on with the request, which ends at once."""
    parent, children = os.getpid(), []

    def fork(*_: object) -> None:
        if pid := os.fork():
            children.append(pid)

    with serving(path, Silent):
        access = VfioUserAccess(str(path), timeout=2)
        before = signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        caught: BaseException | None = None
        try:
            access.registers.read(0, 8)
        except BaseException as error:
            caught = error
        if os.getpid() != parent:
            os._exit(0 if isinstance(caught, ForkedError) and caught.owner == parent else 1)
        signal.signal(signal.SIGALRM, before)
        assert isinstance(caught, NvmeTimeoutError)
        access.close()
    (child,) = children
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_server_that_hangs(path: Path) -> None:
    with serving(path, Silent):
        access = VfioUserAccess(str(path), timeout=1)
        start = time.monotonic()
        with pytest.raises(NvmeTimeoutError, match=r"did not answer a read .* within 1 s"):
            access.registers.read(0, 8)
        assert 0.9 < time.monotonic() - start < 10
        assert not access.alive()
        with pytest.raises(DeviceRemovedError, match="did not answer a read of 8 bytes"):
            access.registers.read(0, 8)
        access.close()
        access.close()


def test_a_server_that_serves_somebody_else(path: Path) -> None:
    """It lets the second client connect, and then says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(NvmeTimeoutError, match="hangs or serves another client"):
            VfioUserAccess(str(path), timeout=0.2)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(path))
        listener.listen(0)
        other.connect(str(path))
        with pytest.raises((DeviceBusyError, DeviceAccessError)):
            VfioUserAccess(str(path), timeout=0.2)


def test_a_server_that_goes_away_while_nobody_asks(path: Path) -> None:
    with serving(path):
        access = VfioUserAccess(str(path))
        assert access.alive()
        access._connection._socket.shutdown(socket.SHUT_WR)  # which makes the server hang up
        deadline = time.monotonic() + 60
        while access.alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        with pytest.raises(DeviceRemovedError, match="the server closed the connection"):
            access.reset()
        access.close()


def test_closed(path: Path) -> None:
    with serving(path):
        access = VfioUserAccess(str(path))
        access.close()
        with pytest.raises(ClosedError, match="is closed: open the device again"):
            access.registers.read(0, 8)
        with pytest.raises(ClosedError, match="is closed: open it again"):
            access.allocate_dma(1)
        assert not access.alive()


def violate(access: VfioUserAccess) -> None:
    access._connection.violation("for the test")


def hang_up(access: VfioUserAccess) -> None:
    access._connection._socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("end", [VfioUserAccess.close, violate, hang_up])
def test_an_error_keeps_nothing_of_who_met_it(
    path: Path, end: Callable[[VfioUserAccess], object]
) -> None:
    """The connection's reason is not the exception that is raised: it would keep every frame."""

    class Kept:
        pass

    def meet(kept: Kept) -> None:
        access.allocate_dma(1)

    with serving(path):
        access = VfioUserAccess(str(path))
        end(access)
        kept = Kept()
        gone = weakref.ref(kept)
        for _ in range(3):
            with pytest.raises(NvmeError) as caught:
                meet(kept)
        assert len(caught.traceback) < 10
        del kept, caught
        assert gone() is None
        access.close()


def test_a_late_reply_s_error_keeps_nothing_either(path: Path) -> None:
    """The one that is raised where the connection ends, which is its reason from then on."""

    class Kept:
        pass

    def meet(kept: Kept) -> None:
        access.registers.read(0, 8)

    with serving(path, Silent):
        access = VfioUserAccess(str(path), timeout=0.2)
        kept = Kept()
        gone = weakref.ref(kept)
        with pytest.raises(NvmeTimeoutError) as caught:
            meet(kept)
        del kept, caught
        assert gone() is None
        access.close()


# The server's requests


class Reaching(Server):
    """Reads and writes the client's memory once it is mapped; keeps what came back."""

    requests: list[tuple[Command, int, int, bytes]] = []
    replies: list[tuple[Header, bytes]] = []

    def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
        if header.command == Command.DEVICE_RESET:
            for number, (command, address, count, data) in enumerate(self.requests):
                body = bytes(DmaAccess(address, count)) + data
                self.send(bytes(Header(number, command, HEADER_SIZE + len(body), 0, 0)) + body)
                got = Header.from_buffer_copy(self._read(HEADER_SIZE))
                self.replies.append((got, self._read(got.size - HEADER_SIZE)))
        return super()._answer(header, payload)


def test_memory_is_reached_by_messages(path: Path) -> None:
    with serving(path, Reaching):
        access = VfioUserAccess(str(path))
        region, other = access.allocate_dma(1 << 20), access.allocate_dma(1 << 20)
        ctypes.memmove(region.address + 100, b"to the server", 13)
        begin, end = region.iova - 4096, region.iova + region.length
        assert other.iova == end + 4096  # so that what leaves one mapping enters another
        read, write = Command.DMA_READ, Command.DMA_WRITE
        Reaching.requests = [
            (read, region.iova + 100, 13, b""),
            (write, region.iova + 200, 15, b"from the server"),
            (read, end - 1, 1, b""),
            (read, end - 1, 2, b""),  # over the edge
            (read, begin - 1, 2, b""),
            (write, end - 8, 16, bytes(16)),
            (write, region.iova, 16, bytes(15)),  # less than announced
            (read, region.iova, (1 << 20) + 1, b""),  # more than agreed on
            (read, (1 << 64) - 1, 2, b""),
            (Command.VERSION, 0, 0, b""),
        ]
        Reaching.replies = []
        access.reset()
        errors = [header.error for header, _ in Reaching.replies]
        assert errors == [0, 0, 0, 14, 14, 14, 22, 22, 14, 95]
        assert Reaching.replies[0][1][16:] == b"to the server"
        assert ctypes.string_at(region.address + 200, 15) == b"from the server"
        assert [header.id for header, _ in Reaching.replies] == list(range(10))
        assert all(header.flags & 0xF != FLAGS_COMMAND for header, _ in Reaching.replies)
        access.release_dma(region)
        Reaching.replies = []
        access.reset()  # what is no longer mapped is no longer reached
        assert {header.error for header, _ in Reaching.replies[:3]} == {14}
        access.close()
