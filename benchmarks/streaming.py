"""A large read through a window of memory, beside the bench loop's sequential reads.

    python benchmarks/streaming.py [--device DEVICE] [--size 8G] [--window 256M] [--turns 3] [--cpu]

`Namespace.stream` reads the size from the first block on, and nobody looks at what it read; between
two such reads the loop of `nvme-user bench` reads sequentially on the same open device, with I/Os
as large as one command carries. Its queue is as deep as fills the same window, and, once more, only
32: its data then stay in the CPU's caches where the device is memory. A ratio is of turns that
stood beside each other. All memory is there before.

Without a device it is `soft:` on a sparse file in the current folder, which is removed. That is
memory: the kernel's page cache has it. The first turn, which maps it, is left out. With `--cpu` it
does its work within the reading thread, whose CPU time is counted in place of time: on a machine
that has other work, too.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from device import first_namespace
from load import CLoop, Spread, Turn, ratios, take_turns
from page import console, markdown_table
from rich.table import Table

import pynvme_user as nvme
from pynvme_user.units import format_size, parse_size

_SHALLOW = 32


def stream(ns: nvme.Namespace, size: int, window: nvme.DmaBuffer) -> Turn:
    """Read so much through a window; an I/O of the turn is a byte."""
    read, start, cpu = 0, time.perf_counter(), time.thread_time()
    for chunk in ns.stream(0, size // ns.block_size, window=window):
        read += len(chunk)
    if read != size:
        raise SystemExit(f"{read} bytes of {size} came")
    return Turn(read, time.perf_counter() - start, cpu=time.thread_time() - cpu)


def loop(ctrl: nvme.Controller, depth: int, seconds: float) -> Turn:
    """Let the bench loop read for so long; an I/O of the turn is a byte."""
    ns = first_namespace(ctrl)
    size = ns.max_blocks * ns.block_size
    with ctrl.queue_pair(depth) as pair:
        turn = CLoop(pair, ns, ctrl.alloc(depth * size), rw="read", size=size).run(seconds)
    return Turn(turn.ios * size, turn.seconds, cpu=turn.cpu)


@contextlib.contextmanager
def opened(name: str | None, size: int, cpu: bool) -> Iterator[nvme.Controller]:
    """Open the device, or `soft:` on a sparse file."""
    with contextlib.ExitStack() as stack:
        if name is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir="."))
            name = f"soft:{Path(folder) / 'sparse.img'}?size={size}&inline={int(cpu)}"
        yield stack.enter_context(nvme.open(name))


def measure(name: str | None, size: int, window: int, turns: int, *, cpu: bool = False) -> Table:
    """Take the turns; return the table."""
    with opened(name, size, cpu) as ctrl:
        ns = first_namespace(ctrl)
        size = min(size, ns.block_count * ns.block_size)
        most = ns.max_blocks * ns.block_size
        deep = max(1, min(window // most, ctrl.registers.cap.mqes))
        memory = ctrl.alloc(window)
        seconds = stream(ns, size, memory).seconds
        ways: dict[str, Callable[[], Turn]] = {
            f"bench loop, depth {depth}": lambda depth=depth: loop(ctrl, depth, seconds)
            for depth in {deep: 0, min(_SHALLOW, deep): 0}
        }
        through = f"stream, {format_size(window)}"
        done = take_turns({**ways, through: lambda: stream(ns, size, memory)}, turns)
        if cpu:
            done = {way: [replace(one, seconds=one.cpu) for one in done[way]] for way in done}
        shown = Table(title=f"{format_size(size)} read sequentially, {format_size(most)} a command")
        shown.add_column("way")
        shown.add_column("GB a CPU second" if cpu else "GB/s", justify="right", no_wrap=True)
        for way in ways:
            shown.add_column(f"of the {way}", justify="right", no_wrap=True)
        for way, taken in done.items():
            speed = Spread.of([turn.iops for turn in taken]).text(1e9)
            over = [ratios(taken, done[other]).text() for other in ways]
            shown.add_row(way, speed, *over)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="another device; it is only read")
    parser.add_argument("--size", type=parse_size, default="8G")
    parser.add_argument("--window", type=parse_size, default="256M")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count CPU time")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    table = measure(options.device, options.size, options.window, options.turns, cpu=options.cpu)
    console().print(table)
    if options.markdown:
        options.markdown.write_text(markdown_table(table), encoding="utf-8")


if __name__ == "__main__":
    main()
