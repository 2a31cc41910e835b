"""4 KiB random reads: `read_many` against a plain Python submit/poll loop, in turns.

    python benchmarks/vectors.py [--device NAME] [--depth 32] [--turns 7]

Both drive the same queue pair on the same device in the same run, in short turns, so that the
ratio holds where the machine's speed drifts. The default device has no storage behind it, so that
it limits as little as it can. Prints medians with their spread, and the ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import pynvme_user as nvme

IO_SIZE = 4096


def plain_loop(pair: nvme.QueuePair, ns: nvme.Namespace, lbas: list[int], slots: list) -> None:
    """Keep the queue full with one Python call for each submission, as one would first write it."""
    blocks = IO_SIZE // ns.block_size
    free = list(slots)
    busy = {}
    waiting = iter(lbas)
    lba = next(waiting, None)
    while lba is not None or busy:
        while lba is not None and free:
            buffer = free.pop()
            busy[pair.submit_read(ns, lba, blocks, buffer)] = buffer
            lba = next(waiting, None)
        for completion in pair.poll():
            if not completion.status.ok:
                raise SystemExit(f"a read failed: {completion.status}")
            free.append(busy.pop(completion.cid))


def rate(run: Callable[[], object], count: int) -> float:
    """I/Os a second of one turn."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def line(name: str, rates: list[float]) -> str:
    return (
        f"{name:<22} {statistics.median(rates) / 1e3:8.1f} K IOPS"
        f"   ({min(rates) / 1e3:.1f} to {max(rates) / 1e3:.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="qemu:?driver=null-co")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()

    with nvme.open(options.device) as ctrl, ctrl.queue_pair(depth=options.depth) as pair:
        ns = ctrl.namespaces[1]
        blocks = IO_SIZE // ns.block_size
        buffer = ctrl.alloc(options.depth * IO_SIZE)
        slots = [buffer[i * IO_SIZE :][:IO_SIZE] for i in range(options.depth)]
        rng = np.random.default_rng(1)
        many, loop = [], []
        for turn in range(options.turns + 1):
            lbas = rng.integers(0, ns.block_count // blocks, 100_000) * blocks
            few = lbas[:20_000].tolist()
            vector = rate(
                lambda lbas=lbas: pair.read_many(ns, lbas, blocks, buffer, recycle=True).check(),
                len(lbas),
            )
            python = rate(lambda few=few: plain_loop(pair, ns, few, slots), len(few))
            if turn:  # the first turn warms up
                many.append(vector)
                loop.append(python)
    print(f"4 KiB random reads, queue depth {options.depth}, {options.device}, medians:")
    print(line("read_many", many))
    print(line("Python submit/poll", loop))
    ratios = [a / b for a, b in zip(many, loop, strict=True)]
    print(f"ratio {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
