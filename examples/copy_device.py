"""Copy namespace 1 of a device to another's: queue depth, progress, flushed, compared at the end.

    python examples/copy_device.py [FROM TO] [--depth 32]    # overwrites what is on TO

It printed, on a busy machine with 2 CPUs, from one `soft:` image of 9 MiB to another, --depth 5:

    9 MiB copied at depth 5, compared: equal
    153 MB/s, 0.15 of the page cache's

The ratio is to a file in memory (memfd) copied to another through the page cache, by os.pread and
os.pwrite. `soft:` is memory, too: it compares the software alone.
"""

import argparse
import asyncio
import sys
import time

from page_cache import CachedFile
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

import pynvme_user as nvme

PIECE = 128 << 10


async def copy(source, target, depth, advance):
    """Copy namespace 1 of one controller to that of another, ``depth`` pieces in flight.

    ``advance(length)`` is called for each. What is longer on the target stays. The first error ends
    it, once nothing is in flight any more.
    """
    ns, to = source.namespaces[1], target.namespaces[1]
    total = ns.block_count * ns.block_size
    if to.block_count * to.block_size < total:
        raise ValueError(f"the target has less than the {total} bytes that the source has")
    if total % to.block_size:
        raise ValueError(f"{total} bytes are not whole blocks of the target's {to.block_size}")
    places = iter(range(0, total, PIECE))  # the next of which is whichever task asks first

    async def move():
        buffers = source.alloc(PIECE), target.alloc(PIECE)  # each device reaches its own
        for at in places:
            read, written = (buffer[: min(PIECE, total - at)] for buffer in buffers)
            await ns.read_into(at // ns.block_size, read)
            written[:] = read
            await to.write_from(at // to.block_size, written)
            advance(len(read))

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(depth):
                tasks.create_task(move())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    await to.flush()
    return total


async def differs(source, target, total):
    """Return the byte from which on a piece of 1 MiB differs, or None."""
    streams = [
        ctrl.namespaces[1].stream(0, total // ctrl.namespaces[1].block_size)
        for ctrl in (source, target)
    ]
    at = 0
    async for part in streams[0]:
        if bytes(part) != bytes(await anext(streams[1])):
            break
        at += len(part)
    for stream in streams:
        await stream.aclose()
    return at if at < total else None


async def main(source, target, depth):
    """Copy, show progress, compare."""
    async with nvme.aopen(source) as old, nvme.aopen(target) as new:
        total = old.namespaces[1].block_count * old.namespaces[1].block_size
        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn()
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("copy", total=total)
            start = time.perf_counter()
            await copy(old, new, depth, lambda length: progress.advance(bar, length))
            rate = total / (time.perf_counter() - start)
        if (at := await differs(old, new, total)) is not None:
            sys.exit(f"FAILED: the devices differ after byte {at}")
    print(f"{total >> 20} MiB copied at depth {depth}, compared: equal")
    print(f"{rate / 1e6:,.0f} MB/s, {rate / cached(min(total, 256 << 20)):.2f} of the page cache's")


def cached(total):
    """Copy a file of so many bytes to another through the page cache; return the bytes a second."""
    old, new = CachedFile(total), CachedFile(total)
    blocks = PIECE // old.block_size
    for file in (old, new):  # the pages are there, as those of a device
        for lba in range(0, total // old.block_size, blocks):
            file.write(lba, bytes(PIECE))
    start = time.perf_counter()
    for lba in range(0, old.block_count, blocks):
        new.write(lba, old.read(lba, blocks))
    new.flush()
    seconds = time.perf_counter() - start
    old.close()
    new.close()
    return total / seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source", nargs="?", default="soft:?size=128M&inline=1")
    parser.add_argument("target", nargs="?", default="soft:?size=128M&inline=1")
    parser.add_argument("--depth", type=int, default=32)
    args = parser.parse_args()
    asyncio.run(main(args.source, args.target, args.depth))
