"""What Python costs for each I/O: one by one, in batches, as vectors, and awaited.

    python benchmarks/batches.py [--device NAME] [--depth 32] [--turns 7] [--seconds 0.3]

4 KiB reads on one queue pair, each way in turns with the others in one run; medians with their
spread. `submit_read` with `poll` makes an object for each I/O; `submit_many` with `reap` has
arrays, in batches of 1, 8 and 32; `read_many` is one call of C for many reads. Then the same of
asyncio, at depth 128: a future for each read that is awaited, on asyncio's loop and on uvloop's
where that is installed; and `read_many` awaited, over the one that is called.

By default the device is the software controller in this thread (`soft:?driver=null-co&inline=1`),
which completes in the write of its doorbell: the CPU time of the process is all that an I/O costs,
the controller's part included, and no other program's load is in it. So IOPS are those of a CPU's
second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from device import first_namespace, opened
from load import IO_SIZE, Spread, Turn, python_loop, ratios, take_turns, vectors
from page import console
from rich.table import Table

import pynvme_user as nvme
from pynvme_user import NvmOpcode

DEVICE = "soft:?driver=null-co&inline=1&size=1G"
BATCHES = (1, 8, 32)
ONE_BY_ONE, VECTOR = "submit_read, poll", "read_many"
#: Of asyncio.
TASKS = 128
#: Reads of one awaited vector.
COUNT = 1_000_000


def batches(
    pair: nvme.QueuePair, ns: nvme.Namespace, buffer: nvme.DmaBuffer, seconds: float, batch: int
) -> Turn:
    """Submit and reap batches for so long. The arrays are made before, and filled anew."""
    blocks = IO_SIZE // ns.block_size
    places = np.random.default_rng(1).integers(0, ns.block_count // blocks, (256, batch)) * blocks
    opcodes = np.full(batch, NvmOpcode.READ)
    lbas, offsets = np.zeros(batch, np.int64), np.arange(batch) * IO_SIZE
    submit, reap = pair.submit_many, pair.reap
    ios = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for row in places:
            lbas[:] = row
            left = submit(ns, opcodes, lbas, blocks, buffer, offsets)
            if left != batch:
                raise SystemExit(f"{left} of {batch} I/Os had room")
            while left:
                left -= len(reap().tags)
        ios += 256 * batch
    return Turn(ios, time.perf_counter() - start)


async def awaited(device: str, seconds: float) -> Turn:
    """Let tasks read for so long, each with a buffer of its own and one read at a time."""
    async with nvme.aopen(device, depth=TASKS) as ctrl:
        ns = ctrl.namespaces[1]
        blocks = IO_SIZE // ns.block_size
        last = ns.block_count - blocks
        whole = ctrl.alloc(TASKS * IO_SIZE)
        end = time.perf_counter() + seconds
        ios = 0

        async def read(number: int) -> None:
            nonlocal ios
            part = whole[number * IO_SIZE :][:IO_SIZE]
            lba, count = number * blocks, 0
            while time.perf_counter() < end:
                for _ in range(16):
                    await ns.read_into(lba, part)
                    lba = (lba + 7919 * blocks) % last
                count += 16
            ios += count

        before = time.process_time()
        await asyncio.gather(*map(read, range(TASKS)))
        return Turn(ios, time.process_time() - before)


async def awaited_vectors(device: str, seconds: float) -> tuple[Turn, Turn]:
    """Await read_many for so long, and call it, in turns."""
    async with nvme.aopen(device) as ctrl:
        ns = ctrl.namespaces[1]
        blocks = IO_SIZE // ns.block_size
        random = np.random.default_rng(1)
        lbas = random.integers(0, ns.block_count // blocks, COUNT) * blocks
        buffer = ctrl.alloc(TASKS * IO_SIZE)
        ios, times = 0, [0.0, 0.0]
        with ctrl.sync.pool.acquired() as pair:
            while sum(times) < 2 * seconds:
                for which in range(2):
                    before = time.process_time()
                    if which:
                        pair.read_many(ns.sync, lbas, blocks, buffer, recycle=True).check()
                    else:
                        (await ns.read_many(lbas, blocks, buffer, recycle=True)).check()
                    times[which] += time.process_time() - before
                ios += COUNT
        return Turn(ios, times[0]), Turn(ios, times[1])


def by_cpu(way: Callable[[], Turn]) -> Turn:
    """Take a turn of which the CPU time of this process is the time."""
    cpu = time.process_time()
    turn = way()
    return Turn(turn.ios, time.process_time() - cpu)


def measure(device: str, *, depth: int, turns: int, seconds: float) -> dict[str, list[Turn]]:
    """Let each way of this thread have its turns."""
    with opened(device) as ctrl, ctrl.queue_pair(depth, spin=float("inf")) as pair:
        ns, buffer = first_namespace(ctrl), ctrl.alloc(depth * IO_SIZE)
        ways: dict[str, Callable[[], Turn]] = {
            ONE_BY_ONE: partial(python_loop, pair, ns, buffer, seconds)
        }
        for batch in BATCHES:
            if batch <= depth:
                name = f"submit_many, reap: {batch}"
                ways[name] = partial(batches, pair, ns, buffer, seconds, batch)
        ways[VECTOR] = partial(vectors, pair, ns, buffer, seconds, count=20_000)
        return take_turns({name: partial(by_cpu, way) for name, way in ways.items()}, turns)


def measure_awaited(device: str, *, turns: int, seconds: float) -> dict[str, list[Turn]]:
    """Let each way of asyncio have its turns."""
    runs: dict[str, Callable[..., Turn]] = {"read_into": asyncio.run}
    with contextlib.suppress(ImportError):
        runs["read_into, uvloop"] = importlib.import_module("uvloop").run
    # One loop after the other: Python fits its bytecode to the one that a program has.
    done = {
        name: [run(awaited(device, seconds)) for _ in range(turns + 1)][1:]
        for name, run in runs.items()
    }
    pairs = [asyncio.run(awaited_vectors(device, seconds)) for _ in range(turns)]
    done["read_many, awaited"] = [one for one, _ in pairs]
    done[VECTOR] = [other for _, other in pairs]
    return done


def table(done: dict[str, list[Turn]], title: str, over: str, digits: int) -> Table:
    """Lay the results out for people."""
    result = Table("way", title=title)
    for column in ("thousand IOPS", "ns for an I/O", f"over {over}"):
        result.add_column(column, justify="right", no_wrap=True)
    for way, turns in done.items():
        result.add_row(
            way,
            Spread.of([turn.iops for turn in turns]).text(1e3, 0),
            Spread.of([1e9 / turn.iops for turn in turns]).text(1, 0),
            ratios(turns, done[over]).text(digits=digits),
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default=DEVICE)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn (0.3)")
    options = parser.parse_args()
    rest = {"turns": options.turns, "seconds": options.seconds}
    done = measure(options.device, depth=options.depth, **rest)
    title = f"4 KiB reads from Python, queue depth {options.depth}"
    console().print(table(done, title, ONE_BY_ONE, 1))
    done = measure_awaited(options.device, **rest)
    title = f"4 KiB reads awaited, queue depth {TASKS}"
    console().print(table(done, title, VECTOR, 3))


if __name__ == "__main__":
    main()
