"""Many queue pairs, from shallow to as deep as they go: what they reach, take and cost.

    python benchmarks/queues.py [--device NAME] [--pairs 1,2,...,128] [--depths 1,4,...,65535]

One thread for each queue pair runs the C core's workload loop, 4 KiB random reads, without the
GIL; the threads are spread over the CPUs and pinned. By default the device is the repository's
null controller over vfio-user, which has one CPU for all queues: then what more queue pairs bring
is limited by it, and where threads outnumber CPUs they wait for each other. Prints IOPS, the time
that it took to make a queue pair, and its memory; --html draws them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from device import cpus, first_namespace, machine_facts, opened
from load import IO_SIZE, CLoop, Spread, Turn
from page import console, html_table, write_page
from rich.progress import Progress
from rich.table import Table

import pynvme_user as nvme
from pynvme_user.bench.plot import STYLES, Axis, Log, Series, chart
from pynvme_user.dma import PAGE
from pynvme_user.ring import COMPLETION_DTYPE, CQE_SIZE, SQE_SIZE
from pynvme_user.units import format_size

PAIRS = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTHS = (1, 4, 16, 64, 256, 1024, 8192, 65535)
#: I/Os outstanding in all queue pairs; combinations with more take minutes to set up.
_MOST_OUTSTANDING = 1 << 18
_TRACKER_SIZE = 16


def memory_of(pair: nvme.QueuePair) -> dict[str, int]:
    """Bytes that a queue pair takes: rings and PRP lists for the device, trackers for the host."""
    pages = -(-pair.controller.max_transfer // PAGE)
    return {
        "rings": pair.sq_entries * SQE_SIZE + pair.cq_entries * CQE_SIZE,
        "prp_lists": pair.depth * 8 * (1 << (pages - 1).bit_length()),
        "host": pair.depth * (_TRACKER_SIZE + COMPLETION_DTYPE.itemsize),
    }


def run_all(
    pairs: Sequence[nvme.QueuePair], ns: nvme.Namespace, buffer: nvme.DmaBuffer, seconds: float
) -> Turn:
    """Run the C loop on all queue pairs at once, each in a thread that is pinned."""
    clients = cpus().clients
    ready = threading.Barrier(len(pairs) + 1)

    def run(number: int, pair: nvme.QueuePair) -> Turn:
        os.sched_setaffinity(0, {clients[number % len(clients)]})  # of this thread alone
        loop = CLoop(pair, ns, buffer)
        ready.wait()
        return loop.run(seconds)

    with ThreadPoolExecutor(len(pairs)) as threads:
        running = [threads.submit(run, number, pair) for number, pair in enumerate(pairs)]
        ready.wait()
        start = time.perf_counter()
        turns = [one.result() for one in running]
        wall = time.perf_counter() - start
    ios = sum(turn.ios for turn in turns)
    return Turn(ios, wall, sum(turn.latency * turn.ios for turn in turns) / ios)


def measure(
    device: str | None,
    *,
    pairs: Sequence[int] = PAIRS,
    depths: Sequence[int] = DEPTHS,
    turns: int = 3,
    seconds: float = 0.2,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, object]]:
    """Measure each number of queue pairs at each depth that the controller has.

    ``step`` is called after each.
    """
    rows: list[dict[str, object]] = []
    with opened(device) as ctrl:
        ns = first_namespace(ctrl)
        limit = min(ctrl.cap.mqes, max(depths))
        # Reads may overwrite each other: all queue pairs have the same memory for them.
        buffer = ctrl.alloc(limit * IO_SIZE)
        for depth in sorted({min(depth, limit) for depth in depths}):
            for count in pairs:
                if count == 1 or count * depth <= _MOST_OUTSTANDING:
                    row = _measure_one(ctrl, ns, buffer, count, depth, turns, seconds)
                    rows += [row] if row else []
                step()
    return rows


def _measure_one(
    ctrl: nvme.Controller,
    ns: nvme.Namespace,
    buffer: nvme.DmaBuffer,
    count: int,
    depth: int,
    turns: int,
    seconds: float,
) -> dict[str, object] | None:
    """Measure one row; None where the controller has not so many queue pairs."""
    with contextlib.ExitStack() as stack:
        start = time.perf_counter()
        try:
            pairs = [
                stack.enter_context(ctrl.queue_pair(depth, spin=float("inf"))) for _ in range(count)
            ]
        except nvme.QueueFullError:
            return None
        made = (time.perf_counter() - start) / count
        done = [run_all(pairs, ns, buffer, seconds) for _ in range(turns)]
    return {
        "pairs": count,
        "depth": depth,
        "ios": sum(turn.ios for turn in done),
        "iops": Spread.of([turn.iops for turn in done]).as_dict(),
        "latency": Spread.of([turn.latency for turn in done]).as_dict(),
        "create_seconds": made,
        "memory": memory_of(pairs[0]),
    }


def steps(pairs: Sequence[int] = PAIRS, depths: Sequence[int] = DEPTHS) -> int:
    """How often :func:`measure` calls ``step``, where the controller has these depths."""
    return len(pairs) * len(depths)


# --- results ------------------------------------------------------------------------------------


def tables(rows: list[dict]) -> list[Table]:
    """IOPS by queue pairs and depth; what each depth costs."""
    pairs = sorted({row["pairs"] for row in rows})
    by_place = {(row["pairs"], row["depth"]): row for row in rows}
    iops = Table("depth", title="Thousand IOPS of all queue pairs together, by their number")
    costs = Table("depth", title="A queue pair's memory, and the time to make it")
    for count in pairs:
        iops.add_column(str(count), justify="right")
    for name in ("rings", "PRP lists", "host", "ms to make"):
        costs.add_column(name, justify="right")
    for depth in sorted({row["depth"] for row in rows}):
        cells = [by_place.get((count, depth)) for count in pairs]
        iops.add_row(
            f"{depth}", *(f"{row['iops']['median'] / 1e3:,.0f}" if row else "-" for row in cells)
        )
        first = next(row for row in cells if row)
        costs.add_row(
            f"{depth}",
            *(format_size(size) for size in first["memory"].values()),
            f"{min(row['create_seconds'] for row in cells if row) * 1e3:.2f}",
        )
    return [iops, costs]


def _kilo(value: float) -> str:
    return f"{value / 1e3:,.0f} k" if value < 1e6 else f"{value / 1e6:,.3g} M"


def plots(rows: list[dict]) -> str:
    """Draw IOPS and memory over the depth, a line for each of some numbers of queue pairs."""
    pairs = sorted({row["pairs"] for row in rows})
    drawn = pairs[:: -(-len(pairs) // STYLES)]
    depths = [row["depth"] for row in rows]
    places = tuple(sorted(set(depths)))
    scale = Log(min(depths), max(max(depths), 2), lambda depth: f"{depth:.0f}", named=places)
    x = Axis("queue depth", scale)
    rates = [row["iops"]["median"] for row in rows]
    lines = [
        Series(
            str(count),
            np.array([row["depth"] for row in rows if row["pairs"] == count], float),
            np.array([row["iops"]["median"] for row in rows if row["pairs"] == count], float),
            style,
            points=True,
        )
        for style, count in enumerate(drawn)
    ]
    one = {row["depth"]: row["memory"] for row in rows}
    sizes = np.array([sum(memory.values()) for memory in one.values()], float)
    powers = tuple(float(4**power) for power in range(5, 20) if 4**power <= sizes.max() * 2)
    figures = [
        chart(
            "4 KiB random reads",
            x,
            Axis("IOPS", Log(min(rates), max(rates), _kilo)),
            lines,
            legend="queue pairs",
        ),
        chart(
            "Memory of a queue pair",
            x,
            Axis("bytes", Log(sizes.min(), sizes.max(), format_size, named=powers)),
            [Series("rings, PRP lists and trackers", np.array(list(one), float), sizes, 0, True)],
        ),
    ]
    return f'<div class="plots">{"".join(figures)}</div>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="default: the repository's null controller")
    parser.add_argument("--pairs", default=",".join(map(str, PAIRS)))
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each turn (0.2)")
    parser.add_argument("--html", type=Path, help="draw the figures in this file as well")
    options = parser.parse_args()
    pairs = list(map(int, options.pairs.split(",")))
    depths = list(map(int, options.depths.split(",")))
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=steps(pairs, depths))
        rows = measure(
            options.device,
            pairs=pairs,
            depths=depths,
            turns=options.turns,
            seconds=options.seconds,
            step=lambda: progress.advance(task),
        )
    for table in tables(rows):
        console().print(table)
    if options.html:
        both = "".join(map(html_table, tables(rows))) + plots(rows)
        write_page(options.html, "Queue pairs", machine_facts(), [("Queue pairs", both)])


if __name__ == "__main__":
    main()
