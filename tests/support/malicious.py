"""A vfio-user server that answers honestly but for one message, and what a client does with it.

    python tests/support/malicious.py [--cases 1000000] [--seed 0]

Each case strikes at one message of the client's: see STRIKES. A case fails when the client raises
anything but an NvmeError, raises nothing though the strike leaves no honest answer, keeps a
descriptor, or takes too long.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import faulthandler
import os
import queue
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pynvme_user.access import ioctl
from pynvme_user.access.base import RegionIndex
from pynvme_user.access.vfio_user import VfioUserAccess
from pynvme_user.access.vfio_user_messages import (
    FLAGS_COMMAND,
    FLAGS_ERROR,
    FLAGS_NO_REPLY,
    FLAGS_REPLY,
    HEADER_SIZE,
    Command,
    DeviceInfo,
    DmaAccess,
    Header,
    RegionAccess,
    Version,
)
from pynvme_user.errors import NvmeError

TIMEOUT = 0.05
#: A hundred cases may not take longer: one waits once for TIMEOUT, on a machine that may be busy.
HANG_SECONDS = 60.0

_MSIX_AT = 0x40
_BAR0_SIZE, _CONFIG_SIZE = 0x2000, 0x1000
_EXTREMES = (0, 1, 15, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)


class Strike(Exception):
    """The server is done with this client."""


class Server:
    """One conversation. ``strike`` is applied to the reply to message number ``at``."""

    def __init__(self, client: socket.socket, rng: random.Random, strike: Strikes, at: int) -> None:
        self.client = client
        self.rng = rng
        self.strike = strike
        self.at = at
        self.messages = 0
        self.struck = False
        self.bar0_at = -1  # the number of the message that asks for BAR0
        self.doorbells = os.memfd_create("doorbells")
        os.ftruncate(self.doorbells, _BAR0_SIZE)
        self._config = bytearray(_CONFIG_SIZE)
        self._config[0x34] = _MSIX_AT
        self._config[_MSIX_AT] = 0x11

    def converse(self) -> None:
        """Answer until one of the two hangs up."""
        try:
            with self.client, contextlib.suppress(OSError, Strike):
                while message := self._receive():
                    header, payload = message
                    answer, passed = self._answer(header, payload)
                    reply = Header(
                        header.id, header.command, HEADER_SIZE + len(answer), FLAGS_REPLY, 0
                    )
                    self.messages += 1
                    if self.messages - 1 == self.at:
                        self.struck = True
                        self.strike(self, reply, answer, passed)
                    else:
                        self.send(bytes(reply) + answer, passed)
        finally:
            os.close(self.doorbells)

    def send(self, data: bytes, descriptors: list[int] | None = None) -> None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors or []))]
        self.client.sendmsg([data], beside if descriptors else [])

    def _receive(self) -> tuple[Header, bytes] | None:
        """The client's next request; its answers to ours are passed over."""
        while True:
            header = Header.from_buffer_copy(self._read(HEADER_SIZE))
            payload = self._read(header.size - HEADER_SIZE)
            if header.flags & FLAGS_REPLY == FLAGS_COMMAND:
                return header, payload

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part, beside, _, _ = self.client.recvmsg(length - len(data), 4096)
            for _, _, content in beside:
                for fd in array.array("i", content):
                    os.close(fd)
            if not part:
                raise Strike
            data += part
        return data

    def _answer(self, header: Header, payload: bytes) -> tuple[bytes, list[int]]:
        match header.command:
            case Command.VERSION:
                return bytes(Version(0, 1)) + b'{"capabilities":{"max_msg_fds":2}}\0', []
            case Command.DEVICE_GET_INFO:
                return bytes(DeviceInfo(16, 3, 9, 5)), []
            case Command.DEVICE_GET_REGION_INFO:
                return self._region_info(ioctl.vfio_region_info.from_buffer_copy(payload).index)
            case Command.DEVICE_GET_IRQ_INFO:
                index = ioctl.vfio_irq_info.from_buffer_copy(payload).index
                return bytes(ioctl.vfio_irq_info(16, 1, index, 4)), []
            case Command.REGION_READ:
                access = RegionAccess.from_buffer_copy(payload)
                return payload + self._read_region(access), []
            case Command.REGION_WRITE:
                return payload[: ctypes.sizeof(RegionAccess)], []
            case Command.DMA_UNMAP:
                return payload, []
        return b"", []

    def _read_region(self, access: RegionAccess) -> bytes:
        if access.region == RegionIndex.CONFIG:
            return bytes(self._config[access.offset : access.offset + access.count])
        return bytes(access.count)

    def _region_info(self, index: int) -> tuple[bytes, list[int]]:
        size = {RegionIndex.BAR0: _BAR0_SIZE, RegionIndex.CONFIG: _CONFIG_SIZE}.get(index, 0)
        if index == RegionIndex.BAR0:
            self.bar0_at = self.messages
        else:
            return bytes(ioctl.vfio_region_info(32, 3, index, 0, size, 0)), []
        areas = struct.pack("<HHIIIQQ", 1, 1, 0, 1, 0, 0x1000, 0x1000)
        info = ioctl.vfio_region_info(32 + len(areas), 15, index, 32, size, 0)
        return bytes(info) + areas, [self.doorbells]


Strikes = Callable[[Server, Header, bytes, list[int]], None]

# Strikes that leave no honest answer, so that the client has to raise an error.


def truncated(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Hang up in the middle of a message."""
    whole = bytes(reply) + answer
    server.send(whole[: server.rng.randrange(len(whole))], passed)
    raise Strike


def stalled(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Say nothing, or half of it, and stay."""
    server.send((bytes(reply) + answer)[: server.rng.choice((0, 1, 8, 15))] or b"\1", passed)
    while server._receive():
        pass


def closed(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Hang up without a word."""
    raise Strike


def absurd_size(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """A message that is shorter than its header, or longer than was agreed on."""
    reply.size = server.rng.choice((0, 1, 15, 1 << 21, 0x7FFFFFFF, 0xFFFFFFFF))
    server.send(bytes(reply) + answer, passed)


def wrong_id(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    reply.id ^= server.rng.randrange(1, 1 << 16)
    server.send(bytes(reply) + answer, passed)


def wrong_command(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    reply.command ^= server.rng.randrange(1, 1 << 16)
    server.send(bytes(reply) + answer, passed)


def wrong_type(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    reply.flags = server.rng.randrange(2, 16)
    server.send(bytes(reply) + answer, passed)


# Strikes that may leave the client content: what they change may not matter to it.


def refused(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """An error reply, with a body or without, and with any number. One to the stop before a reset,
    which the reset makes up for, does not matter.
    """
    reply.flags |= FLAGS_ERROR
    reply.error = server.rng.choice((0, 1, 22, 4095, 4096, 0x7FFFFFFF, 0xFFFFFFFF))
    if server.rng.random() < 0.5:
        answer, reply.size = b"", HEADER_SIZE
    server.send(bytes(reply) + answer, passed)


def short_body(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """A whole message with less in it than it should have."""
    answer = answer[: server.rng.randrange(len(answer) + 1)]
    reply.size = HEADER_SIZE + len(answer)
    server.send(bytes(reply) + answer, passed)


def long_body(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """A whole message with more in it."""
    answer += server.rng.randbytes(server.rng.choice((1, 8, 100, 1 << 16)))
    reply.size = HEADER_SIZE + len(answer)
    server.send(bytes(reply) + answer, passed)


def extreme_field(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Absurd region sizes, counts, offsets, capabilities: any field at its limits."""
    data = bytearray(answer)
    for _ in range(server.rng.randrange(1, 4)):
        width = server.rng.choice((4, 8))
        if len(data) >= width:
            at = server.rng.randrange(0, len(data) - width + 1, 4)
            value = server.rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
            data[at : at + width] = value.to_bytes(width, "little")
    server.send(bytes(reply) + data, passed)


def flipped_bits(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    data = bytearray(bytes(reply) + answer)
    for _ in range(server.rng.randrange(1, 5)):
        data[server.rng.randrange(len(data))] ^= 1 << server.rng.randrange(8)
    server.send(data, passed)


def garbage(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    server.send(server.rng.randbytes(server.rng.randrange(1, 300)), passed)


def wrong_descriptors(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """None where one is due, one or many where none is, or of what cannot be mapped."""
    with contextlib.ExitStack() as undo:
        made = [
            _descriptor(server.rng, undo) for _ in range(server.rng.choice((0, 1, 1, 2, 8, 20)))
        ]
        if server.rng.random() < 0.3:
            made += passed
        server.send(bytes(reply) + answer, made)


def _descriptor(rng: random.Random, undo: contextlib.ExitStack) -> int:
    match rng.randrange(6):
        case 0:
            fd = os.memfd_create("short")
            os.ftruncate(fd, rng.choice((0, 1, 0x1000, 0x1FFF)))
        case 1:
            fd = os.eventfd(0)
        case 2:
            fd = os.open("/dev/null", os.O_RDWR)
        case 3:
            fd = os.open("/dev/zero", os.O_RDONLY)
        case 4:
            fd = os.open("/", os.O_RDONLY)
        case _:
            fd, other = os.pipe()
            undo.callback(os.close, other)
    undo.callback(os.close, fd)
    return fd


def unasked(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Requests of the server's own, of which DMA reaches only what was mapped."""
    rng = server.rng
    for _ in range(rng.randrange(1, 4)):
        command = rng.choice((Command.DMA_READ, Command.DMA_WRITE, Command.VERSION, 99))
        address = rng.choice((0, 0x1FFFFF, 0x200000, 0x3FFFFF, rng.choice(_EXTREMES)))
        count = rng.choice((0, 1, 4096, rng.choice(_EXTREMES)))
        data = rng.randbytes(rng.choice((0, min(count, 4096))))
        body = (bytes(DmaAccess(address, count)) + data)[: rng.choice((8, 16, 1 << 20))]
        flags = rng.choice((FLAGS_COMMAND, FLAGS_NO_REPLY))
        head = Header(rng.randrange(1 << 16), command, HEADER_SIZE + len(body), flags, 0)
        server.send(bytes(head) + body, [server.doorbells] if rng.random() < 0.2 else [])
    server.send(bytes(reply) + answer, passed)


def twice(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    server.send(bytes(reply) + answer, passed)
    server.send(bytes(reply) + answer, passed)


def in_pieces(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """An honest reply, byte by byte."""
    for byte in bytes(reply) + answer:
        server.send(bytes([byte]), passed)
        passed = []


def shrunk(server: Server, reply: Header, answer: bytes, passed: list[int]) -> None:
    """Take the doorbells' memory away once it is mapped."""
    server.send(bytes(reply) + answer, passed)
    os.ftruncate(server.doorbells, 0)


FATAL: tuple[Strikes, ...] = (
    truncated,
    closed,
    absurd_size,
    wrong_id,
    wrong_command,
    wrong_type,
)
OTHER: tuple[Strikes, ...] = (
    refused,
    short_body,
    long_body,
    extreme_field,
    flipped_bits,
    garbage,
    wrong_descriptors,
    unasked,
    twice,
    in_pieces,
    shrunk,
)
#: What these strike at is mostly in one message: BAR0's size, areas and descriptor.
AT_BAR0: tuple[Strikes, ...] = (short_body, extreme_field, flipped_bits, wrong_descriptors, shrunk)
#: Costs a whole TIMEOUT, so that it comes seldom.
SLOW: Strikes = stalled
_SLOW_SHARE = 0.01


def choose(rng: random.Random) -> Strikes:
    """Choose a strike; all but the slow one are equally likely."""
    return SLOW if rng.random() < _SLOW_SHARE else rng.choice(FATAL + OTHER)


# The client


def use(access: VfioUserAccess, *, dma: bool) -> None:
    """Do once what a controller does with its access."""
    access.registers.read(0, 8)
    access.doorbells(0x1000, 8)
    access.registers.write(0x14, 4, 1)
    access.registers.write(0x1000, 4, 1)
    access.arm_interrupts(3)
    if dma:
        region = access.allocate_dma(4096)
        ctypes.memset(region.address, 0x5A, region.length)
        access.release_dma(region)
    access.reset()
    access.registers.read(0x1C, 4)
    access.registers.write(0x1000, 4, 2)


def run(cases: Iterable[int], seed: int = 0) -> Iterator[tuple[int, str]]:
    """Run cases; yield each one's number and outcome. Raises AssertionError for one that fails."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "cntrl")
        listener.bind(str(path))
        listener.listen()
        todo: queue.SimpleQueue[tuple[random.Random, Strikes, int] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Server] = queue.SimpleQueue()

        def serve() -> None:
            while (case := todo.get()) is not None:
                server = Server(listener.accept()[0], *case)
                server.converse()
                done.put(server)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        honest = random.Random(seed)
        lengths = {}
        for dma in (False, True):
            todo.put((honest, closed, -1))
            access = VfioUserAccess(str(path))
            use(access, dma=dma)
            lengths[dma] = access._connection._last_id  # closing makes errors no more
            access.close()
            bar0_at = done.get().bar0_at
        descriptors = len(os.listdir("/proc/self/fd"))
        for count, case in enumerate(cases):
            if count % 100 == 0:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            rng = random.Random(f"{seed}/{case}")
            strike, dma = choose(rng), rng.random() < 0.2
            at = rng.randrange(lengths[dma])
            if strike in AT_BAR0 and rng.random() < 0.5:
                at = bar0_at
            todo.put((rng, strike, at))
            outcome = _run_case(path, strike, at, done, dma=dma)
            now = len(os.listdir("/proc/self/fd"))
            assert now == descriptors, f"{outcome}: {now - descriptors} descriptors are left"
            yield case, outcome
        faulthandler.cancel_dump_traceback_later()
        todo.put(None)
        thread.join()


def _run_case(
    path: Path, strike: Strikes, at: int, done: queue.SimpleQueue[Server], *, dma: bool
) -> str:
    outcome = "no error"
    try:
        access = VfioUserAccess(str(path), timeout=TIMEOUT)
        try:
            use(access, dma=dma)
        finally:
            access.close()
    except NvmeError as error:
        outcome = type(error).__name__
    server = done.get()
    what = f"{strike.__name__} at message {at}"
    assert server.struck or outcome != "no error", f"{what}: never reached"
    assert strike not in (*FATAL, SLOW) or outcome != "no error", f"{what}: no error"
    return f"{strike.__name__}: {outcome}"


def outcomes(cases: Iterable[int], seed: int = 0) -> Counter[str]:
    """Run cases; count each outcome."""
    return Counter(outcome for _, outcome in run(cases, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: dict[str, int] = {}
    start = time.monotonic()
    for case, outcome in run(range(options.cases), options.seed):
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if case % 10_000 == 9_999:
            print(f"{case + 1} cases, {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    for outcome, cases in sorted(outcomes.items()):
        print(f"{cases:8} {outcome}")


if __name__ == "__main__":
    main()
