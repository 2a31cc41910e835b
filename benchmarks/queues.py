"""Many queue pairs, from shallow to as deep as they go: what they reach, take and cost.

    python benchmarks/queues.py [--device NAME] [--pairs 1,2,...,128] [--depths 1,4,...,65535]

One thread for each queue pair runs the C core's workload loop, 4 KiB random reads, without the
GIL; the threads are spread over the CPUs and pinned, and the memory of queues and buffers lies on
the NUMA node of the CPU. By default the device is the repository's null controller over vfio-user,
which has one CPU for all queues: then what more queue pairs bring is limited by it, and where
threads outnumber CPUs they wait for each other. Prints IOPS, the CPU time of an I/O, and a queue
pair's memory and the time to make it; --html and --svg draw them, --markdown writes the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from device import cpus, first_namespace, machine_facts, memory_available, opened
from load import IO_SIZE, CLoop, Spread, Turn
from page import Section, console, markdown_table, write_page
from rich.progress import Progress
from rich.table import Table
from svg import write_svg

import pynvme_user as nvme
from pynvme_user.bench.report.plot import STYLES, Axis, Log, Series, chart
from pynvme_user.dma import PAGE
from pynvme_user.host.numa import Placement, near_cpus
from pynvme_user.ring import COMPLETION_DTYPE, CQE_SIZE, SQE_SIZE
from pynvme_user.units import format_size

PAIRS = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTHS = (1, 4, 16, 64, 256, 1024, 8192, 65535)
TURNS, SECONDS = 5, 0.4
_TRACKER_SIZE = 16


def memory_of(pair: nvme.QueuePair) -> dict[str, int]:
    """Bytes that a queue pair takes: rings and PRP lists for the device, trackers for the host."""
    pages = -(-pair.controller.max_transfer // PAGE)
    return {
        "rings": pair.queue.sq_entries * SQE_SIZE + pair.queue.cq_entries * CQE_SIZE,
        "prp_lists": pair.depth * 8 * (1 << (pages - 1).bit_length()),
        "host": pair.depth * (_TRACKER_SIZE + COMPLETION_DTYPE.itemsize),
    }


class Buffers:
    """Memory for the reads of up to ``depth``: one buffer for all queue pairs near one node.

    Reads may overwrite each other. A buffer for each queue pair would be 32 GiB for 128 of them.
    """

    def __init__(self, ctrl: nvme.Controller, depth: int) -> None:
        self._ctrl = ctrl
        self._size = depth * IO_SIZE
        self._by_placement: dict[Placement | None, nvme.DmaBuffer] = {}

    def near(self, placement: Placement | None) -> nvme.DmaBuffer:
        """Give the one that lies there; None: near the device."""
        if placement not in self._by_placement:
            self._by_placement[placement] = self._ctrl.alloc(self._size, node=placement)
        return self._by_placement[placement]


@dataclass(frozen=True, slots=True)
class Worker:
    """A queue pair with its load, and the CPU that its thread is pinned to."""

    cpu: int
    pair: nvme.QueuePair
    buffer: nvme.DmaBuffer
    loop: CLoop
    made: float  # seconds that it took to make the queue pair

    @classmethod
    def on(cls, cpu: int, ns: nvme.Namespace, depth: int, buffers: Buffers) -> Worker:
        """Make one, with its memory near that CPU; its queue pair is the caller's to close."""
        # What is not DMA memory lies near the CPU that touches it first.
        os.sched_setaffinity(0, {cpu})
        placement = near_cpus({cpu})
        start = time.perf_counter()
        pair = ns.controller.queue_pair(depth, spin=float("inf"), node=placement)
        made = time.perf_counter() - start
        buffer = buffers.near(placement)
        return cls(cpu, pair, buffer, CLoop(pair, ns, buffer), made)


def run_all(workers: Sequence[Worker], seconds: float) -> Turn:
    """Run the C loop on all queue pairs at once, each in a thread that is pinned."""
    ready = threading.Barrier(len(workers))

    def run(worker: Worker) -> tuple[float, Turn, float]:
        os.sched_setaffinity(0, {worker.cpu})  # of this thread alone
        ready.wait()
        # Not the caller's clock: on a CPU full of pollers it may run long after they began.
        return time.perf_counter(), worker.loop.run(seconds), time.perf_counter()

    with ThreadPoolExecutor(len(workers)) as threads:
        begins, turns, ends = zip(*threads.map(run, workers), strict=True)
    ios = sum(turn.ios for turn in turns)
    latency = sum(turn.latency * turn.ios for turn in turns) / ios
    return Turn(ios, max(ends) - min(begins), latency, sum(turn.cpu for turn in turns))


def measure(
    device: str | None,
    *,
    pairs: Sequence[int] = PAIRS,
    depths: Sequence[int] = DEPTHS,
    turns: int = TURNS,
    seconds: float = SECONDS,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, object]]:
    """Measure each number of queue pairs at each depth that the controller has.

    ``step`` is called after each.
    """
    rows: list[dict[str, object]] = []
    split = cpus()  # before this thread is pinned
    clients = split.clients if device is None else sorted({*split.clients, split.server})
    with opened(device) as ctrl:
        ns = first_namespace(ctrl)
        limit = min(ctrl.cap.mqes, max(depths))
        buffers = Buffers(ctrl, limit)
        for depth in sorted({min(depth, limit) for depth in depths}):
            for count in pairs:
                on = [clients[number % len(clients)] for number in range(count)]
                row = _measure_one(ns, buffers, on, depth, turns, seconds)
                rows += [row] if row else []
                step()
    return rows


def _measure_one(
    ns: nvme.Namespace,
    buffers: Buffers,
    on: Sequence[int],
    depth: int,
    turns: int,
    seconds: float,
) -> dict[str, object] | None:
    """Measure a queue pair on each of these CPUs.

    None where the controller has not so many, or the machine not the memory for them.
    """
    workers: list[Worker] = []
    with contextlib.ExitStack() as stack:
        for cpu in on:
            try:
                worker = Worker.on(cpu, ns, depth, buffers)
            except nvme.QueueFullError:
                return None
            stack.callback(worker.pair.close)
            workers.append(worker)
            memory = memory_of(worker.pair)
            if sum(memory.values()) * (len(on) - len(workers)) > memory_available() / 2:
                return None
        # The first warms up and is left out.
        done = [run_all(workers, seconds) for _ in range(turns + 1)][1:]
    return {
        "pairs": len(workers),
        "depth": depth,
        "ios": sum(turn.ios for turn in done),
        "iops": Spread.of([turn.iops for turn in done]).as_dict(),
        "latency": Spread.of([turn.latency for turn in done]).as_dict(),
        "cpu_seconds": Spread.of([turn.cpu / turn.ios for turn in done]).as_dict(),
        "create_seconds": Spread.of([worker.made for worker in workers]).as_dict(),
        "memory": memory,
    }


def steps(pairs: Sequence[int] = PAIRS, depths: Sequence[int] = DEPTHS) -> int:
    """How often :func:`measure` calls ``step``, where the controller has these depths."""
    return len(pairs) * len(depths)


# --- results ------------------------------------------------------------------------------------


def tables(rows: list[dict]) -> list[Table]:
    """IOPS and CPU time by queue pairs and depth; what each depth costs."""
    counts = sorted({row["pairs"] for row in rows})
    by_place = {(row["pairs"], row["depth"]): row for row in rows}
    iops = Table("depth", title="Million IOPS of all queue pairs together, by their number")
    cpu = Table("depth", title="CPU time of an I/O in ns, waiting included, by the queue pairs")
    costs = Table("depth", title="A queue pair's memory, and the time to make it")
    for table in (iops, cpu):
        for count in counts:
            table.add_column(str(count), justify="right")
    for name in (
        "rings",
        "PRP lists",
        "trackers",
        "all of one",
        f"{counts[-1]} of them",
        "ms to make",
    ):
        costs.add_column(name, justify="right")
    for depth in sorted({row["depth"] for row in rows}):
        cells = [by_place.get((count, depth)) for count in counts]
        iops.add_row(f"{depth}", *(_cell(row and row["iops"], 1e6) for row in cells))
        cpu.add_row(f"{depth}", *(_cell(row and row["cpu_seconds"], 1e-9) for row in cells))
        most = next(row for row in reversed(cells) if row)
        whole = sum(most["memory"].values())
        costs.add_row(
            f"{depth}",
            *(format_size(size) for size in (*most["memory"].values(), whole, whole * counts[-1])),
            _cell(most["create_seconds"], 1e-3),
        )
    return [iops, cpu, costs]


def _cell(spread: dict[str, float] | None, unit: float) -> str:
    if not spread:
        return "-"
    shown = Spread(**spread)
    return shown.text(unit, sum(shown.median < limit * unit for limit in (10, 100)))


def _iops(value: float) -> str:
    return f"{value / 1e3:,.0f} k" if value < 1e6 else f"{value / 1e6:,.3g} M"


def _time(value: float) -> str:
    for unit, name in ((1e-9, "ns"), (1e-6, "us")):
        if value < 999.5 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e3:,.3g} ms"


def figures(rows: list[dict]) -> list[str]:
    """Draw each cost over the depth, a line for each of some numbers of queue pairs."""
    counts = sorted({row["pairs"] for row in rows})
    # Not more than there are styles, and the last of them in any case.
    drawn = sorted({*counts[:: -(-len(counts) // (STYLES - 1))], counts[-1]})
    depths = sorted({row["depth"] for row in rows})
    scale = Log(depths[0], max(depths[-1], 2), lambda depth: f"{depth:.0f}", named=tuple(depths))
    made = [
        ("4 KiB random reads of all queue pairs", "IOPS", _iops, lambda row: row["iops"]["median"]),
        (
            "CPU time of an I/O, waiting included",
            "time",
            _time,
            lambda row: row["cpu_seconds"]["median"],
        ),
        (
            "Memory of all queue pairs",
            "bytes",
            format_size,
            lambda row: row["pairs"] * sum(row["memory"].values()),
        ),
        (
            "Time to make a queue pair",
            "time",
            _time,
            lambda row: row["create_seconds"]["median"],
        ),
    ]
    return [
        chart(
            title,
            Axis("queue depth", scale),
            Axis(unit, _scale([value(row) for row in rows], label)),
            [
                Series(
                    str(count),
                    np.array([row["depth"] for row in rows if row["pairs"] == count], float),
                    np.array([value(row) for row in rows if row["pairs"] == count], float),
                    style,
                    points=True,
                )
                for style, count in enumerate(drawn)
            ],
            legend="queue pairs",
        )
        for title, unit, label, value in made
    ]


def _scale(values: Sequence[float], label: Callable[[float], str]) -> Log:
    powers = tuple(float(8**power) for power in range(3, 14))
    named = [power for power in powers if min(values) / 2 <= power <= max(values) * 2]
    return Log(min(values), max(values), label, named=named if label is format_size else ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="default: the repository's null controller")
    parser.add_argument("--pairs", default=",".join(map(str, PAIRS)))
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each turn ({SECONDS})")
    parser.add_argument("--html", type=Path, help="draw the figures in this page as well")
    parser.add_argument("--svg", type=Path, help="draw them in this picture as well")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
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
    shown = tables(rows)
    for table in shown:
        console().print(table)
    if options.html:
        section = Section("Queue pairs", shown, figures(rows))
        write_page(options.html, "Queue pairs", machine_facts(), [section])
    if options.svg:
        write_svg(options.svg, figures(rows), note=_note(options.device, options.turns))
    if options.markdown:
        text = "\n".join(f"{table.title}:\n\n{markdown_table(table)}" for table in shown)
        options.markdown.write_text(text, encoding="utf-8")


def _note(device: str | None, turns: int) -> str:
    facts = machine_facts()
    what = device or "a null controller on a CPU of its own"
    return f"{facts['cpu']}, {facts['cpus']} CPUs; {what}; medians of {turns} turns."


if __name__ == "__main__":
    main()
