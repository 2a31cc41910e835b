"""The driver's main job in one go: identify, write, read back, verify, measure.

Runs on QEMU's emulated NVMe with a temporary disk, or on the device named as first argument
(whose first 64 MiB it overwrites).
"""

import os
import sys
import time

import numpy as np

import pynvme_user as nvme

SIZE = 64 << 20
IO_SIZE = 4096
DEPTH = 32
SECONDS = 3.0


def main(device: str) -> None:
    """Run the demo on a device."""
    print(f"demo: opening {device}")
    with nvme.open(device) as ctrl:
        ns = ctrl.namespaces[1]
        print(f"demo: {ctrl.identify.mn}, serial {ctrl.identify.sn}, NVMe {ctrl.registers.vs}")
        print(f"demo: namespace 1 has {ns.block_count} blocks of {ns.block_size} bytes")

        data = os.urandom(SIZE)
        start = time.perf_counter()
        ns.write(0, data)
        ns.flush()
        written = time.perf_counter()
        if ns.read(0, SIZE // ns.block_size) != data:
            sys.exit("demo: FAILED: the data read back is not the data written")
        read = time.perf_counter()
        print(
            f"demo: {SIZE >> 20} MiB written at {SIZE / (written - start) / 1e6:.0f} MB/s, "
            f"read back at {SIZE / (read - written) / 1e6:.0f} MB/s, equal"
        )

        latencies, seconds = random_reads(ctrl, ns)
        ios = len(latencies)
        p50, p99 = np.percentile(latencies, (50, 99)) / 1000
        print(f"demo: 4 KiB random reads, queue depth {DEPTH}: {ios / seconds:,.0f} IOPS")
        print(
            f"demo: latency mean {latencies.mean() / 1000:.0f} us, p50 {p50:.0f} us, "
            f"p99 {p99:.0f} us, max {latencies.max() / 1000:.0f} us"
        )
    print(f"demo: ok, {SIZE >> 20} MiB verified, {ios} random reads without an error")


def random_reads(ctrl: nvme.Controller, ns: nvme.Namespace) -> tuple[np.ndarray, float]:
    """Read what was written, at random; return each read's latency in ns, and the seconds."""
    blocks = IO_SIZE // ns.block_size
    rng = np.random.default_rng(1)
    latencies = []
    with ctrl.queue_pair(depth=DEPTH) as pair:
        buffer = ctrl.alloc(DEPTH * IO_SIZE)
        start = now = time.perf_counter()
        while now - start < SECONDS:
            lbas = rng.integers(0, SIZE // IO_SIZE, 10_000) * blocks
            done = pair.read_many(ns, lbas, blocks, buffer, recycle=True).check()
            latencies.append(done.latency_ns)
            now = time.perf_counter()
    return np.concatenate(latencies), now - start


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "qemu:")
