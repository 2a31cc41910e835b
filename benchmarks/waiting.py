"""What waiting costs: polling, spinning before sleeping, and sleeping for the interrupt at once.

    python benchmarks/waiting.py [DEVICE] [--depth 1] [--seconds 2] [--turns 3]

4 KiB random reads at a queue depth, in turns; IOPS, latency, and the CPU time used in each second
of the run (100 % is one core). The device needs interrupts: one over VFIO, UIO or vfio-user; the
default is the repository's controller, made to take 20 us for a command, since who answers at once
is not waited for. In a guest, for example, whose speed says nothing but whose ratios do:

    python -m pynvme_user.qemu.guest -- sh -c 'modprobe -a vfio-pci vfio_iommu_type1;
        nvme-user bind 0000:00:04.0; python benchmarks/waiting.py vfio:0000:00:04.0'
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from device import first_namespace, opened
from load import IO_SIZE, Spread
from page import console
from rich.table import Table

import pynvme_user as nvme

WAYS = {"polling": math.inf, "spin 50 us, sleep": 50e-6, "sleep": 0.0}
_DELAY_US = 20
Turn = tuple[int, float, float, float]  # I/Os, IOPS, mean latency in seconds, share of a CPU


def one_turn(ctrl: nvme.Controller, depth: int, spin: float, seconds: float) -> Turn:
    """Take one turn of one way of waiting."""
    ns = first_namespace(ctrl)
    blocks = IO_SIZE // ns.block_size
    rng = np.random.default_rng(1)
    buffer = ctrl.alloc(depth * IO_SIZE)
    latencies = []
    with ctrl.queue_pair(depth, spin=spin) as pair:
        cpu, start = time.process_time(), time.perf_counter()
        while time.perf_counter() - start < seconds:
            lbas = rng.integers(0, ns.block_count // blocks, 50 * depth) * blocks
            done = pair.read_many(ns, lbas, blocks, buffer, recycle=True).check()
            latencies.append(done.latency_ns)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    every = np.concatenate(latencies)
    return len(every), len(every) / wall, float(every.mean()) / 1e9, cpu / wall


def measure(
    device: str | None,
    *,
    depth: int = 1,
    turns: int = 3,
    seconds: float = 0.5,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, object]]:
    """Measure each way of waiting; one row for each, latencies in seconds.

    Raises DeviceAccessError for a device without interrupts.
    """
    done: dict[str, list[Turn]] = {way: [] for way in WAYS}
    with opened(device, "--delay", str(_DELAY_US)) as ctrl:
        for _ in range(turns):
            for way, spin in WAYS.items():
                done[way].append(one_turn(ctrl, depth, spin, seconds))
                step()
    rows: list[dict[str, object]] = []
    for way, figures in done.items():
        ios, iops, latency, cpu = (list(column) for column in zip(*figures, strict=True))
        rows.append(
            {
                "way": way,
                "depth": depth,
                "ios": sum(ios),
                "iops": Spread.of(iops).as_dict(),
                "latency": Spread.of(latency).as_dict(),
                "cpu": Spread.of(cpu).as_dict(),
            }
        )
    return rows


def steps(turns: int) -> int:
    """How often :func:`measure` calls ``step``."""
    return turns * len(WAYS)


def tables(rows: list[dict]) -> list[Table]:
    """Lay the rows out for people."""
    shown = Table("way", "depth", title="4 KiB random reads, by how completions are waited for")
    for column in ("thousand IOPS", "mean latency, us", "CPU, %"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row["way"],
            str(row["depth"]),
            Spread(**row["iops"]).text(1e3, 1),
            Spread(**row["latency"]).text(1e-6, 1),
            Spread(**row["cpu"]).text(0.01, 1),
        )
    return [shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", nargs="?")
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (2)")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    rows = measure(
        options.device, depth=options.depth, turns=options.turns, seconds=options.seconds
    )
    for table in tables(rows):
        console().print(table)


if __name__ == "__main__":
    main()
