"""Ways of Python to read 4 KiB at random beside each other: this driver, io_uring, Linux AIO.

    pip install caio aiofile pyuring liburing    # those that are there are measured
    python benchmarks/versus_aio.py [--device DEVICE] [--depth 128] [--count 20000] [--turns 3]

The driver reads a device, by default `soft:`, the others a file, both in memory (32 MiB), so that
what differs is the software alone: a read is done within the call that submits it. As many tasks as
the depth await one read after the other, except where many reads are one call. liburing has no
asyncio: its ring is kept full by a loop. Seconds are the process's CPU time, threads and kernel
included: other programs' load is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from load import IO_SIZE, Spread, Turn, take_turns
from page import console, markdown_table
from rich.table import Table

import pynvme_user as nvme
from pynvme_user.units import parse_size

_IO_URING_SETUP = 425  # of every architecture
#: Reads one place, in bytes, into a buffer.
One = Callable[[int, Any], Awaitable[object]]


def io_uring() -> str:
    """Say whether the kernel gives a ring to this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(_IO_URING_SETUP, 8, ctypes.create_string_buffer(120))
    if fd < 0:
        return f"io_uring_setup: {os.strerror(ctypes.get_errno())}"
    os.close(fd)
    return "io_uring_setup is permitted"


async def keep(places: Iterable[int], buffers: list[Any], one: One) -> float:
    """Await reads in as many tasks as there are buffers; return the CPU seconds."""
    rest = iter(places)

    async def task(buffer: Any) -> None:
        for place in rest:
            await one(place, buffer)

    start = process_time()
    await asyncio.gather(*map(task, buffers))
    return process_time() - start


class Ways:
    """Each reads all places once, ``depth`` at a time, and returns the CPU seconds."""

    def __init__(self, name: str | None, depth: int, count: int, size: int) -> None:
        self.device = name or f"soft:?size={size}&inline=1"
        self.size = size
        self.in_memory = name is None
        self.depth = depth
        self.places: list[int] = (
            np.random.default_rng(1).integers(0, size // IO_SIZE, count) * IO_SIZE
        ).tolist()
        self.fd = os.memfd_create("versus")
        for at in range(0, size, 1 << 20):
            os.pwrite(self.fd, bytes(range(256)) * (1 << 12), at)
        self.buffers = [bytearray(IO_SIZE) for _ in range(depth)]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[nvme.AsyncController]:
        """Open the device."""
        async with nvme.aopen(self.device, depth=self.depth) as ctrl:
            if self.in_memory:  # which comes to be when it is written
                await ctrl.namespaces[1].write(0, bytes(self.size))
            yield ctrl

    async def driver(self) -> float:
        """Await single reads of this driver."""
        async with self.opened() as ctrl:
            ns = ctrl.namespaces[1]
            shift = ns.sync.block_shift
            buffers = [ctrl.alloc(IO_SIZE) for _ in range(self.depth)]
            return await keep(
                self.places, buffers, lambda place, buffer: ns.read_into(place >> shift, buffer)
            )

    async def vector(self) -> float:
        """Await one call of this driver for all."""
        async with self.opened() as ctrl:
            ns = ctrl.namespaces[1]
            buffer = ctrl.alloc(256 * IO_SIZE)
            lbas = np.array(self.places) // ns.block_size
            start = process_time()
            done = await ns.read_many(lbas, IO_SIZE // ns.block_size, buffer, recycle=True)
            seconds = process_time() - start
            done.check()
            return seconds

    async def caio(self) -> float:
        """Await reads by Linux AIO."""
        aio = import_module("caio.linux_aio_asyncio")
        async with aio.AsyncioContext(self.depth) as context:
            return await keep(
                self.places, self.buffers, lambda place, _: context.read(IO_SIZE, self.fd, place)
            )

    async def aiofile(self) -> float:
        """Await reads of a file object."""
        async with import_module("aiofile").AIOFile(f"/proc/self/fd/{self.fd}", "rb") as file:
            return await keep(self.places, self.buffers, lambda place, _: file.read(IO_SIZE, place))

    async def pyuring(self) -> float:
        """Await reads by io_uring."""
        package = import_module("pyuring")
        with package.UringCtx(entries=self.depth) as ring:
            async with import_module("pyuring.aio").UringAsync(ring) as completions:

                async def one(place: int, buffer: bytearray) -> None:
                    ring.read_async(self.fd, buffer, offset=place)
                    ring.submit()
                    await completions.wait_completion()

                return await keep(self.places, self.buffers, one)

    async def liburing(self) -> float:
        """Keep a ring of io_uring full, without asyncio."""
        uring = import_module("liburing")
        ring, cqe = uring.Ring(), uring.Cqe()
        uring.io_uring_queue_init(self.depth, ring)
        free, left, rest = list(range(self.depth)), len(self.places), iter(self.places)
        start = process_time()
        while left:
            while free and (place := next(rest, None)) is not None:
                sqe = uring.io_uring_get_sqe(ring)
                slot = free.pop()
                uring.io_uring_prep_read(sqe, self.fd, self.buffers[slot], place)
                sqe.user_data = slot + 1
            uring.io_uring_submit(ring)
            uring.io_uring_wait_cqe(ring, cqe)
            for _ in range(uring.io_uring_cq_ready(ring)):
                uring.io_uring_wait_cqe(ring, cqe)
                assert cqe[0].res == IO_SIZE
                free.append(cqe[0].user_data - 1)
                uring.io_uring_cqe_seen(ring, cqe[0])
                left -= 1
        seconds = process_time() - start
        uring.io_uring_queue_exit(ring)
        return seconds

    async def threads(self) -> float:
        """Await reads in asyncio's threads."""

        def one(place: int, buffer: bytearray) -> Awaitable[int]:
            return asyncio.to_thread(os.preadv, self.fd, [buffer], place)

        return await keep(self.places, self.buffers, one)

    def turn(self, way: Callable[[], Any]) -> Turn:
        """Take one turn."""
        return Turn(len(self.places), asyncio.run(way()))


def measure(device: str | None, depth: int, count: int, size: int, turns: int) -> Table:
    """Take the turns; return the table."""
    ways = Ways(device, depth, count, size)
    named = {
        "`await ns.read_into()`": ways.driver,
        "`await ns.read_many()`, one call": ways.vector,
        "pyuring (io_uring)": ways.pyuring,
        "liburing (io_uring), a loop": ways.liburing,
        "caio (Linux AIO)": ways.caio,
        "aiofile (by caio)": ways.aiofile,
        "`asyncio.to_thread(os.preadv)`": ways.threads,
    }
    shown = Table(title=f"4 KiB random reads, depth {depth}; {io_uring()}")
    shown.add_column("way")
    for column in ("thousand reads a CPU second", "of `await ns.read_into()`"):
        shown.add_column(column, justify="right", no_wrap=True)
    there, missing = {}, {}
    for name, way in named.items():
        try:
            ways.turn(way)
            there[name] = lambda way=way: ways.turn(way)
        except (ImportError, OSError) as error:
            missing[name] = str(error)
    done = take_turns(there, turns)
    own = done["`await ns.read_into()`"]
    for name, taken in done.items():
        over = [turn.iops / beside.iops for turn, beside in zip(taken, own, strict=True)]
        speed = Spread.of([turn.iops for turn in taken]).text(1e3, 1)
        shown.add_row(name, speed, Spread.of(over).text())
    for name, why in missing.items():
        shown.add_row(name, why, "")
    os.close(ways.fd)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="another device, which is only read")
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--count", type=int, default=20_000, help="reads of each turn")
    parser.add_argument("--size", type=parse_size, default="32M", help="of the memory")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    table = measure(options.device, options.depth, options.count, options.size, options.turns)
    console().print(table)
    if options.markdown:
        options.markdown.write_text(markdown_table(table), encoding="utf-8")


if __name__ == "__main__":
    main()
