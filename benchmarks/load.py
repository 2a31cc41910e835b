"""The loads that the benchmarks put on a queue pair, in turns.

A turn is short and has its count of I/Os and its time. Ways that are to be compared take turns in
one run, so that their ratios hold where the machine's speed drifts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import BlockSizes
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.loop import Workload

IO_SIZE = 4096
_SLICE_NS = 100_000_000
#: What a random read or write is, by fio's name of it.
OPCODES = {"randread": NvmOpcode.READ, "randwrite": NvmOpcode.WRITE}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn came to; ``latency`` is the mean over its I/Os.

    ``cpu`` is what the thread ran for, waiting by polling included. Times are in seconds.
    """

    ios: int
    seconds: float
    latency: float = 0.0
    cpu: float = 0.0

    @property
    def iops(self) -> float:
        """I/Os a second."""
        return self.ios / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes of some turns."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise them."""
        return cls(statistics.median(values), min(values), max(values))

    def as_dict(self) -> dict[str, float]:
        """Give it to JSON."""
        return asdict(self)

    def text(self, unit: float = 1.0, digits: int = 2) -> str:
        """Write it, as ``median (low-high)`` in a unit."""
        median, low, high = (
            f"{value / unit:,.{digits}f}" for value in (self.median, self.low, self.high)
        )
        return f"{median} ({low}-{high})"


def take_turns(
    ways: Mapping[str, Callable[[], Turn]], turns: int, step: Callable[[], object] = lambda: None
) -> dict[str, list[Turn]]:
    """Let each way have its turn, again and again; the first round warms up and is left out."""
    done: dict[str, list[Turn]] = {name: [] for name in ways}
    for number in range(turns + 1):
        for name, way in ways.items():
            turn = way()
            if number:
                done[name].append(turn)
            step()
    return done


def ratios(turns: list[Turn], over: list[Turn]) -> Spread:
    """How much faster the turns of one way were than those that stood beside them."""
    return Spread.of([one.iops / other.iops for one, other in zip(turns, over, strict=True)])


class CLoop:
    """The workload loop of the C core on one queue pair, with all its latency accounting.

    ``rw`` is as fio's, for example "randread" or "read"; ``buffer`` has a piece of ``size`` for
    each CID. It can run again and again.
    """

    def __init__(
        self,
        pair: nvme.QueuePair,
        ns: nvme.Namespace,
        buffer: nvme.DmaBuffer,
        *,
        rw: str = "randread",
        size: int = IO_SIZE,
    ) -> None:
        self._pair = pair
        self._geometry = ns.current()
        self._buffer = buffer[: pair.depth * size]
        self._direction = int(rw.endswith("write"))
        generator = Generator(
            rw=rw,
            block_sizes=[BlockSizes(low=size, high=size)] * 3,
            block_size=ns.block_size,
            size=ns.block_count * ns.block_size,
            time_based=True,
            norandommap=True,
        )
        self.workload = Workload(
            generator,
            commands={
                direction: bytes(SQE.build(opc=opcode, nsid=ns.nsid))
                for direction, opcode in enumerate(OPCODES.values())
            },
            buffer=self._buffer,
            queue_depth=pair.depth,
            block_shift=ns.block_shift,
        )

    def _advance(self, timeout_ns: int) -> bool:
        return self._pair.run_loop(
            self.workload, timeout_ns, geometry=self._geometry, owner=self._buffer
        )

    def run(self, seconds: float) -> Turn:
        """Run for so long, and until all I/Os have ended. Raises SystemExit if any failed."""
        load = self.workload
        load.go_on()
        load.clear()
        before = load.submitted
        cpu, start = time.thread_time(), time.perf_counter()
        while (left := start + seconds - time.perf_counter()) > 0:
            self._advance(min(int(left * 1e9), _SLICE_NS))
        load.stop()
        while not self._advance(_SLICE_NS):
            pass
        seconds, cpu = time.perf_counter() - start, time.thread_time() - cpu
        result = load.results[self._direction]
        ios, submitted = int(result["ios"]), load.submitted - before
        if ios != submitted or ios != int(result["lat"]["count"]):
            raise SystemExit(f"{submitted - ios} of {submitted} I/Os failed")
        return Turn(ios, seconds, int(result["lat"]["sum"]) / max(1, ios) / 1e9, cpu)

    def overhead(self, seconds: float) -> dict[str, float]:
        """Run one I/O after the other; return the mean seconds of a submission and a completion."""
        times = self.workload.overhead(self._pair._ring, 1 << 40, int(seconds * 1e9))
        return {
            what: int(one["sum"]) / int(one["count"]) / 1e9
            for what, one in zip(("submit", "complete"), times, strict=True)
        }


def c_loop(
    pair: nvme.QueuePair, ns: nvme.Namespace, buffer: nvme.DmaBuffer, seconds: float
) -> Turn:
    """Take one turn of the C loop with random reads."""
    return CLoop(pair, ns, buffer).run(seconds)


def vectors(
    pair: nvme.QueuePair,
    ns: nvme.Namespace,
    buffer: nvme.DmaBuffer,
    seconds: float,
    *,
    rw: str = "randread",
    count: int = 200_000,
) -> Turn:
    """Call read_many or write_many for so long; the LBAs are made before and not counted."""
    blocks = IO_SIZE // ns.block_size
    lbas = np.random.default_rng(1).integers(0, ns.block_count // blocks, count) * blocks
    many = pair.read_many if rw == "randread" else pair.write_many
    ios = 0
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        many(ns, lbas, blocks, buffer, recycle=True).check()
        ios += count
    return Turn(ios, now - start)


def sync_calls(ns: nvme.Namespace, buffer: nvme.DmaBuffer, seconds: float) -> Turn:
    """Call ns.read_into for so long; a latency is a whole call's. The LBAs are made before."""
    blocks = IO_SIZE // ns.block_size
    places = np.random.default_rng(1).integers(0, ns.block_count // blocks, 1 << 16) * blocks
    batches = cycle(places.reshape(-1, 256).tolist())
    one = buffer[:IO_SIZE]
    read = ns.read_into
    ios = 0
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        for lba in next(batches):
            read(lba, one)
        ios += 256
    return Turn(ios, now - start, (now - start) / max(1, ios))


def python_loop(
    pair: nvme.QueuePair, ns: nvme.Namespace, buffer: nvme.DmaBuffer, seconds: float
) -> Turn:
    """Keep the queue full with a Python call for each submission, as one would first write it."""
    blocks = IO_SIZE // ns.block_size
    last = ns.block_count - blocks
    free = [buffer[i * IO_SIZE :][:IO_SIZE] for i in range(pair.depth)]
    busy = {}
    ios, lba = 0, 0
    start = time.perf_counter()
    end = start + seconds
    while time.perf_counter() < end:
        while free:
            slot = free.pop()
            busy[pair.submit_read(ns, lba, blocks, slot)] = slot
            lba = (lba + 7919 * blocks) % last
        for completion in pair.poll():
            if not completion.status.ok:
                raise SystemExit(f"a read failed: {completion.status}")
            free.append(busy.pop(completion.cid))
            ios += 1
    ios += len(pair.drain())
    return Turn(ios, time.perf_counter() - start)
