"""What waiting costs: polling, spinning before sleeping, and sleeping for the interrupt at once.

    python benchmarks/waiting.py DEVICE [--depth 1] [--seconds 2] [--turns 3]

4 KiB random reads at a queue depth, in turns; IOPS, latency, and the CPU time used in each second
of the run (100 % is one core). The device needs interrupts: one over VFIO, UIO or vfio-user. In a
guest, for example, whose speed says nothing but whose ratios do:

    python -m pynvme_user.qemu.guest -- sh -c 'modprobe -a vfio-pci vfio_iommu_type1;
        nvme-user bind 0000:00:04.0; python benchmarks/waiting.py vfio:0000:00:04.0'
"""

import argparse
import math
import statistics
import time

import numpy as np

import pynvme_user as nvme

IO_SIZE = 4096
WAYS = {"polling": math.inf, "spin 50 us, sleep": 50e-6, "sleep": 0.0}
Turn = tuple[float, float, float]  # IOPS, mean latency in us, CPU use in %


def measure(ctrl: nvme.Controller, depth: int, spin: float, seconds: float) -> Turn:
    """One turn of one way of waiting."""
    ns = ctrl.namespaces[min(ctrl.namespaces)]
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
    return len(every) / wall, every.mean() / 1000, 100 * cpu / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device")
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()

    turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
    with nvme.open(options.device) as ctrl:
        for _ in range(options.turns):
            for way, spin in WAYS.items():
                turns[way].append(measure(ctrl, options.depth, spin, options.seconds))
    print(f"4 KiB random reads, queue depth {options.depth}, {options.device}, medians:")
    for way, figures in turns.items():
        iops, latency, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{way:<18} {iops:10,.0f} IOPS   mean {latency:8.1f} us   CPU {cpu:5.1f} %")


if __name__ == "__main__":
    main()
