"""What the accounting costs: the benchmark's loop against a bare closed loop in C, in turns.

    python benchmarks/bare_loop.py [--device NAME] [--depth 32] [--turns 21] [--ios 4000000]

4 KiB random reads on one queue pair. The bare loop (bare.c) has the core's own steps inline, and no
clock, histogram or limit; the other is nvme_bench_run(), which knows submission, completion and
total latency of each I/O. Beside them doorbells and completions alone, of commands that were in the
queue before: what no driver can go below. By default the device is the repository's null controller
over vfio-user, on a CPU of its own. Turns in which somebody else had one of the CPUs are run again
(see gate.py). Ends with status 1 where they do not count the same.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

from bare import Bare
from device import first_namespace, opened
from gate import Gate, children
from load import IO_SIZE, Spread, Turn, ratios, take_turns

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import BlockSizes
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.loop import Workload

_SLICE_NS = 100_000_000


def accounted(pair: nvme.QueuePair, ns: nvme.Namespace, buffer: nvme.DmaBuffer, ios: int) -> Turn:
    """Take a turn of the benchmark's loop. Raises SystemExit unless all I/Os are accounted for."""
    size = ns.block_count * ns.block_size
    generator = Generator(
        rw="randread",
        block_sizes=[BlockSizes(low=IO_SIZE, high=IO_SIZE)] * 3,
        block_size=ns.block_size,
        size=size,
        io_size=ios * IO_SIZE,
        norandommap=True,
        seed=1,
    )
    workload = Workload(
        generator,
        commands={0: bytes(SQE.build(opc=NvmOpcode.READ, nsid=ns.nsid))},
        buffer=buffer,
        queue_depth=pair.depth,
        block_shift=ns.block_shift,
    )
    geometry = ns.current()
    start = time.perf_counter()
    while not pair.run_loop(workload, _SLICE_NS, geometry=geometry, owner=buffer):
        pass
    seconds = time.perf_counter() - start
    read = workload.results[0]
    counted = {int(read["ios"]), *(int(read[kind]["count"]) for kind in ("slat", "clat", "lat"))}
    if counted != {ios}:
        raise SystemExit(f"the benchmark's loop counted {counted} of {ios} I/Os")
    return Turn(ios, seconds, int(read["lat"]["sum"]) / ios / 1e9)


def reads_of(ctrl: nvme.Controller) -> int:
    """Tell how many reads the controller has counted (SMART log, Base 2.0, section 5.16.1.3)."""
    page = ctrl.alloc(512)
    ctrl.admin(0x02, nsid=0xFFFFFFFF, cdw10=2 | (512 // 4 - 1) << 16, buffer=page)
    return int.from_bytes(page.tobytes()[64:80], "little")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="default: the repository's null controller")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--ios", type=int, default=4_000_000, help="of each turn (4000000)")
    options = parser.parse_args()
    cpus = os.sched_getaffinity(0)
    with opened(options.device) as ctrl, ctrl.queue_pair(options.depth, spin=float("inf")) as pair:
        ns, buffer = first_namespace(ctrl), ctrl.alloc(options.depth * IO_SIZE)
        gate = Gate(cpus, *children())
        before = reads_of(ctrl)
        ways: dict[str, Callable[[], Turn]] = {
            "bare": partial(Bare("loop", pair, ns, buffer).run, options.ios),
            "accounted": partial(accounted, pair, ns, buffer, options.ios),
            "doorbells": partial(Bare("doorbells", pair, ns, buffer).run, options.ios),
        }
        done = take_turns(
            {name: partial(gate.pass_through, way) for name, way in ways.items()}, options.turns
        )
        counted = reads_of(ctrl) - before
    made = (len(ways) * (options.turns + 1) + gate.rejected) * options.ios
    if counted != made:
        raise SystemExit(f"the controller counted {counted} reads, and {made} were made")
    print(f"4 KiB random reads, queue depth {options.depth}, thousand IOPS:")
    for name, turns in done.items():
        print(f"{name:<12} {Spread.of([turn.iops for turn in turns]).text(1e3, 1)}")
    print(f"accounted over bare: {ratios(done['accounted'], done['bare']).text()}")
    print(f"{gate.rejected} disturbed turns were run again")


if __name__ == "__main__":
    main()
