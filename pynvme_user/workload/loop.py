"""The benchmark's loop in C, seen from Python: one queue pair kept busy with generated I/Os."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import DmaBuffer, address_of
from pynvme_user.errors import ProtectionError
from pynvme_user.native import U64Array, check_result, ffi, lib, new_lines, tick_rate
from pynvme_user.ring import Ring
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.metadata import Metadata, first_fault
from pynvme_user.workload.pace import Pace, for_c
from pynvme_user.workload.records import (
    HISTOGRAM_DTYPE,
    IO_DTYPE,
    ISSUED_DTYPE,
    LATENCIES,
    RECORD_DTYPE,
    RESULT_DTYPE,
)
from pynvme_user.workload.verification import Fault, Verifier

_NEVER = (1 << 64) - 1
#: Directions of a verified mix that C notes before Python takes them: more than a slice's.
_DRAWN = 1 << 20
_QUANTILES = 4096
_BATCH_CLASSES = (0, 1, 5, 9, 17, 33)  # where fio's begin
_NO_IOS = np.uint64(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What writes carry; see struct nvme_buffers. Sizes in bytes."""

    seed: int
    unit: int  # each has contents of its own
    chunk: int  # the end of each of them ...
    dull: int = 0  # ... so much of it, is not random
    pattern: bytes = b""  # what is there then, repeated; empty: zeroes
    repeat_percent: int = 0  # of the units
    pool: tuple[int, ...] = ()  # seeds whose first contents are repeated; none: the last one is
    pool_each: int = 0  # how many of each
    scramble: bool = False  # instead of all that, change a little of what is there

    def buffers(self, alive: list[object]) -> Any:
        """Make its ``struct nvme_buffers *``; what that needs is added to ``alive``."""
        buffers = ffi.new("struct nvme_buffers *")
        lib.nvme_buffers_init(buffers, self.seed)
        buffers.unit, buffers.chunk, buffers.dull = self.unit, self.chunk, self.dull
        buffers.repeat_percent, buffers.scramble = self.repeat_percent, self.scramble
        if self.pattern:
            buffers.pattern = pattern = ffi.from_buffer("uint8_t[]", self.pattern)
            buffers.pattern_bytes = len(self.pattern)
            alive.append(pattern)
        if self.pool:
            buffers.pool = pool = ffi.new("uint64_t[]", self.pool)
            buffers.pool_streams, buffers.pool_each = len(self.pool), self.pool_each
            alive.append(pool)
        alive.append(buffers)
        return buffers

    def fill(self, memory: npt.NDArray[np.uint8]) -> None:
        """Write the first contents into memory."""
        alive: list[object] = []
        data = ffi.from_buffer("uint8_t[]", memory, require_writable=True)
        buffers = self.buffers(alive)
        # A length of 32 bits at a time: whole units, so that each has its contents.
        step = (1 << 30) // self.unit * self.unit or self.unit
        for start in range(0, memory.nbytes, step):
            lib.nvme_buffers_fill(buffers, data + start, min(step, memory.nbytes - start))


def _step(ticks: int, rate: float) -> int:
    """Tell the ticks between two at a rate a second, in 32.32 fixed point; 0 for no rate."""
    return min(int((ticks << 32) / rate), _NEVER) if rate else 0


def by_status(errors: Mapping[tuple[int, int], int]) -> dict[int, int]:
    """Add up the I/Os of all directions, from those by direction and status."""
    found: dict[int, int] = {}
    for (_, status), ios in errors.items():
        found[status] = found.get(status, 0) + ios
    return found


class Workload:
    """I/Os on one queue pair, for :meth:`QueuePair.run_loop`.

    They come from ``generator``, or from ``ios`` (IO_DTYPE) where that is given. ``commands`` are
    64 bytes each by direction (and FLUSH), without what each I/O adds. ``buffer`` is DMA memory of
    ``queue_depth`` pieces, one for each CID, and holds the largest I/O in each; ``depth`` is how
    many I/Os to keep outstanding. Each write has its ``contents`` anew; without them it carries
    what its piece of the buffer holds. ``metadata`` says what blocks with metadata carry of it.
    """

    def __init__(
        self,
        generator: Generator | None,
        *,
        commands: Mapping[int, bytes],
        buffer: DmaBuffer,
        queue_depth: int,
        block_shift: int,
        depth: int | None = None,
        command_blocks: int = 0,
        in_order: bool = False,
        ios: npt.NDArray[np.void] | None = None,
        pace: Pace | None = None,
        contents: Contents | None = None,
        metadata: Metadata | None = None,
        verifier: Verifier | None = None,
        verify_fatal: bool = False,
        records: int = 0,
        issued: int = 0,
    ) -> None:
        self._alive: list[object] = [generator, verifier]
        #: Its DMA memory.
        self.memory = buffer
        self._record_limit = records
        #: The greatest slat, clat and lat by direction that :meth:`take_peaks` has told.
        self._peaks: U64Array = np.zeros((4, 3), np.uint64)
        self._ring: Ring | None = None  # once it has run
        self._waits: Any = None  # the generator's I/O that a list came before
        count = depth if command_blocks and depth is not None else queue_depth
        self._slots = new_lines("struct nvme_bench_slot", count)
        piece = buffer.nbytes // count
        for index, slot in enumerate(self._slots):
            slot.iova = buffer.iova + index * piece
            slot.data = ffi.cast("uint8_t *", address_of(buffer) + index * piece)
        #: RESULT_DTYPE, by direction; C adds to it while it runs. Of what is outstanding, slat.
        self.results: npt.NDArray[np.void] = np.zeros(4, RESULT_DTYPE)
        self._results = ffi.from_buffer(
            "struct nvme_bench_result[]", self.results, require_writable=True
        )
        self._memory = new_lines("struct nvme_bench")
        self._bench = bench = self._memory[0]
        bench.slots = self._slots
        bench.batches = self._batches = new_lines("struct nvme_bench_batch", queue_depth + 1)
        bench.results = self._results
        self._queue_depth, self._most = queue_depth, count
        self._split: Any = None
        if command_blocks:
            self._set_split(command_blocks, in_order)
        self.depth = count if depth is None else depth
        bench.block_shift, bench.block_bytes = block_shift, 1 << block_shift
        for direction, command in commands.items():
            ffi.buffer(ffi.addressof(bench.commands[direction]))[:] = command
        if generator is not None:
            bench.generator = generator.pointer
        pace = pace or Pace()
        self._set_pace(pace)
        self._mix(generator, pace, noted=verifier is not None)
        self._paused = 0  # ticks since when nothing arrives
        #: Whether it was given up before its end, and did not go on; I/Os that had no outcome then.
        self.given_up, self.lost = False, 0
        if ios is not None:
            self.go_through(ios)
        if contents is not None:
            bench.buffers = contents.buffers(self._alive)
            bench.fast_directions = 1
        self._metadata = metadata.struct if metadata is not None else None
        if metadata is not None:
            bench.metadata, bench.block_bytes = self._metadata, metadata.block_bytes
            bench.fast_directions = 0
            bench.throttled |= metadata.protection is not None
        if verifier is not None:
            self._faults = ffi.new("struct nvme_verify_fault[]", lib.NVME_BENCH_FAULTS)
            bench.faults = self._faults
            bench.verify = verifier.struct
            bench.verify_fatal = verify_fatal
            bench.throttled = 1
        # What is outstanding has room in any case: see stop().
        self._records = np.zeros(records and records + count, RECORD_DTYPE)
        if records:
            pointer = ffi.from_buffer(
                "struct nvme_bench_record[]", self._records, require_writable=True
            )
            self._alive.append(pointer)
            bench.records = pointer
            bench.record_limit = records
            bench.throttled = 1
        self._issued = np.zeros(issued, ISSUED_DTYPE)
        if issued:
            noted = ffi.from_buffer(
                "struct nvme_bench_issued[]", self._issued, require_writable=True
            )
            self._alive.append(noted)
            bench.issued, bench.issued_limit, bench.throttled = noted, issued, 1
        self.clear()

    def _set_split(self, command_blocks: int, in_order: bool) -> None:
        self._split_memory = new_lines("struct nvme_bench_split")
        self._split_ios = new_lines("struct nvme_split_io", self._most)
        self._split = split = ffi.addressof(self._split_memory[0])
        split.bench, split.ios, split.count = self._bench_pointer, self._split_ios, self._most
        split.command_blocks, split.in_order = command_blocks, in_order
        lib.nvme_bench_split_init(split)

    def _set_pace(self, pace: Pace) -> None:
        bench = self._bench
        for name, value in pace.members.items():
            setattr(bench, name, for_c(value))
        bench.submit_max, bench.reap_max = min(bench.submit_max, 64), min(bench.reap_max, 64)
        bench.think_ios = pace.think_ios
        ticks = tick_rate()
        bench.zone_blocks, bench.zone_trims = pace.zone_blocks, pace.zone_trims
        bench.fast_directions = 1 if pace.zone_blocks else 2
        bench.writes_left = _NEVER
        for direction, (target, rate) in enumerate(zip(bench.rates, pace.rates, strict=False)):
            target.ticks_per_io = _step(ticks, rate.ios)
            target.ticks_per_block = _step(ticks, rate.blocks)
            # Streams of their own: what arrives of one direction says nothing of another.
            stream = np.random.SeedSequence((pace.seed % 2**64, direction))
            target.random = int(stream.generate_state(1, np.uint64)[0])
        if pace.poisson:
            # Of the exponential law, the mean of each of so many equal shares: their mean is 1.
            left = 1 - np.linspace(0, 1, _QUANTILES + 1)
            integral = left * np.log(np.maximum(left, np.finfo(float).tiny)) - left
            quantiles = np.diff(integral) * _QUANTILES
            self._arrivals = np.round(quantiles * 65536).astype(np.uint32)
            pointer = ffi.from_buffer("uint32_t[]", self._arrivals)
            self._alive.append(pointer)
            bench.arrivals = pointer
        bench.throttled = any(pace.members.values()) or any(rate.is_set for rate in pace.rates)

    def _mix(self, generator: Generator | None, pace: Pace, *, noted: bool) -> None:
        """Let reads and writes arrive independently, where there are both and one has a rate."""
        bench = self._bench
        mixed = generator is not None and generator.is_mixed
        bench.independent = mixed and any(rate.is_set for rate in pace.rates[:2])
        self._drawn = np.zeros(_DRAWN if bench.independent and noted else 0, np.uint8)
        if len(self._drawn):
            bench.drawn = pointer = ffi.from_buffer("uint8_t[]", self._drawn, require_writable=True)
            bench.drawn_limit = len(self._drawn)
            self._alive.append(pointer)

    def take_drawn(self) -> npt.NDArray[np.uint8] | None:
        """Take the directions of the generator's I/Os since the last call, in their order.

        None where the generator alone says them: they are noted in a mix whose directions arrive
        independently and that is verified.
        """
        if not len(self._drawn):
            return None
        count = self._bench.drawn_count
        self._bench.drawn_count = 0
        return self._drawn[:count].copy()

    def go_through(
        self, ios: npt.NDArray[np.void], *, rated: bool = True, due: U64Array | None = None
    ) -> None:
        """Go on with these I/Os (IO_DTYPE), in place of what was left.

        If they are not ``rated``, nothing holds them back, and nothing else arrives meanwhile.
        ``due`` says when each arrives, in ticks after the next run begins.
        """
        self._list = np.ascontiguousarray(ios, IO_DTYPE)
        self._list_pointer = ffi.from_buffer("struct nvme_io[]", self._list)
        bench = self._bench
        if bench.has_pending and not bench.list:
            self._waits = ffi.new("struct nvme_io *", bench.pending)
        self._hold_arrivals(not rated)
        bench.list, bench.list_count, bench.list_next = self._list_pointer, len(ios), 0
        self._due = None if due is None else ffi.from_buffer("uint64_t[]", due)
        bench.list_due, bench.list_start = self._due or ffi.NULL, 0
        bench.exhausted = bench.has_pending = 0
        bench.throttled = 1
        self.go_on()

    @property
    def list_done(self) -> int:
        """How many I/Os of the list were submitted."""
        return int(self._bench.list_next) - int(self._bench.has_pending)

    def resume(self) -> None:
        """Go on with the generator after a list, where it was left."""
        bench = self._bench
        self._hold_arrivals(False)
        bench.list = ffi.NULL
        bench.exhausted = 0
        if self._waits is not None:
            bench.pending, bench.has_pending = self._waits[0], 1
            self._waits = None

    def _hold_arrivals(self, hold: bool) -> None:
        """Let nothing arrive at a rate, nor be held back by one; or go on from there."""
        rates = self._bench.rates
        if hold and not self._paused:
            self._paused = lib.nvme_ticks()
            self._held = [(rate.ticks_per_io, rate.ticks_per_block) for rate in rates]
            for rate in rates:
                rate.ticks_per_io = rate.ticks_per_block = 0
        elif self._paused and not hold:
            for rate, steps in zip(rates, self._held, strict=True):
                rate.ticks_per_io, rate.ticks_per_block = steps
                rate.due += lib.nvme_ticks() - self._paused if rate.due else 0
            self._paused = 0

    def pause_after(self, writes: int | None) -> None:
        """End a run once so many more writes were submitted and completed; None: never."""
        self._bench.writes_left = _NEVER if writes is None else writes
        self._bench.throttled |= writes is not None

    @property
    def exhausted(self) -> bool:
        """Whether there is no further I/O to submit."""
        return bool(self._bench.exhausted)

    @property
    def depth(self) -> int:
        """I/Os to keep outstanding; may be changed between two runs."""
        return int(self._bench.depth)

    @depth.setter
    def depth(self, depth: int) -> None:
        if not 1 <= depth <= self._most:
            raise ValueError(
                f"a workload made for a queue depth of {self._most} keeps 1 to as many "
                f"I/Os outstanding, not {depth}"
            )
        self._bench.depth = depth

    @property
    def idle_seconds(self) -> float:
        """How long there is nothing to do yet: nothing is outstanding and nothing due."""
        if self.submitted != self.completed:
            return 0.0
        return max(0.0, float(self._bench.wake - lib.nvme_ticks()) / tick_rate())

    @property
    def errors(self) -> dict[int, int]:
        """I/Os by their status (SCT and SC) other than success, since the beginning."""
        return by_status(self.errors_by_direction)

    @property
    def errors_by_direction(self) -> dict[tuple[int, int], int]:
        """The same by direction and status."""
        return {
            (int(error.direction), int(error.status)): int(error.ios)
            for error in self._bench.errors
            if error.ios
        }

    @property
    def batches(self) -> tuple[U64Array, U64Array, U64Array]:
        """I/Os by the depth, doorbells and turns by their I/Os, in fio's seven classes each.

        Depths: 1, 2-3, 4-7 ... 64 and more. The others: 0, 1-4, 5-8, 9-16 ... more than 64.
        """
        bench = self._bench
        submits, reaps = (
            # None has more than 64.
            np.append(np.add.reduceat(np.array(list(counts), np.uint64), _BATCH_CLASSES), _NO_IOS)
            for counts in (bench.submits, bench.reaps)
        )
        return np.array(list(bench.depths), np.uint64), submits, reaps

    @property
    def costs(self) -> tuple[float, float]:
        """Time-stamp counts for each submission, and for each completion without the wait for it.

        From one turn in 64, or, where I/Os are split, from all.
        """
        bench = self._bench
        return (
            bench.submit_ticks / max(1, bench.submit_timed),
            bench.reap_ticks / max(1, bench.reap_timed),
        )

    @property
    def turns(self) -> int:
        """How often completions were looked for and, but for time-outs, found; since clear()."""
        return int(self._bench.bursts)

    @property
    def fault_count(self) -> int:
        """Reads whose data was not what it had to be."""
        return int(self._bench.fault_count)

    @property
    def faults(self) -> list[Fault]:
        """The first of them."""
        found = min(self.fault_count, lib.NVME_BENCH_FAULTS)
        return [Fault.from_c(self._faults[index]) for index in range(found)]

    @property
    def protection_fault(self) -> tuple[int, ProtectionError] | None:
        """The LBA whose protection information was not what it had to be, and what of it was."""
        return None if self._metadata is None else first_fault(self._metadata)

    @property
    def keeps_records(self) -> bool:
        """Whether there is a log of single I/Os."""
        return len(self._records) > 0

    def take_records(self) -> npt.NDArray[np.void]:
        """Take the log since the last call, as RECORD_DTYPE, oldest first."""
        count = self._bench.record_count
        self._bench.record_count = 0
        return self._records[:count].copy()

    def take_issued(self) -> npt.NDArray[np.void]:
        """Take the I/Os that were submitted since the last call, as ISSUED_DTYPE, in order."""
        count, self._bench.issued_count = self._bench.issued_count, 0
        return self._issued[:count].copy()

    def clear(self) -> None:
        """Begin to count anew, and the log's time, as after a ramp time. Errors and faults stay.

        What is outstanding counts where it ends: here.
        """
        bench = self._bench
        bench.epoch = lib.nvme_ticks()
        self._peaks[:] = 0
        for index in range(len(self.results)):
            lib.nvme_bench_result_clear(ffi.addressof(self._results[index]))
        bench.bursts = bench.submit_ticks = bench.submit_timed = 0
        bench.reap_ticks = bench.reap_timed = 0
        for counts in (bench.depths, bench.submits, bench.reaps):
            ffi.memmove(counts, bytes(ffi.sizeof(counts)), ffi.sizeof(counts))
        self.count_outstanding(self.results, take=False)

    def count_outstanding(self, results: npt.NDArray[np.void], *, take: bool) -> None:
        """Add the slat of what is outstanding to results, or take it from them."""
        # What is split has its slat counted at its end.
        if self._ring is not None and self._split is None:
            pointer = ffi.from_buffer("struct nvme_bench_result[]", results, require_writable=True)
            lib.nvme_bench_count_outstanding(self._ring.pointer, self._bench_pointer, pointer, take)

    def take_peaks(self) -> U64Array:
        """Take the greatest slat, clat and lat by direction since the last call, in nanoseconds."""
        latencies = [self.results[kind]["max"] for kind in LATENCIES]
        peaks = np.stack(latencies, axis=1)
        for latency in latencies:
            latency[:] = 0
        self._peaks = np.maximum(self._peaks, peaks)
        return peaks

    @property
    def ended(self) -> npt.NDArray[np.void]:
        """The results of the I/Os that have ended: slat, clat and lat count the same ones."""
        results = self.results.copy()
        for column, kind in enumerate(LATENCIES):
            results[kind]["max"] = np.maximum(results[kind]["max"], self._peaks[:, column])
        self.count_outstanding(results, take=True)
        return results

    @property
    def completed(self) -> int:
        """I/Os that have ended since the beginning, well or not; clear() does not change it."""
        return sum(self._bench.ended)

    @property
    def submitted(self) -> int:
        """I/Os submitted since the beginning."""
        return sum(self._bench.submitted)

    @property
    def submitted_by_direction(self) -> list[int]:
        """The same by direction, with Flush."""
        return list(self._bench.submitted)

    def run(self, ring: Ring, timeout_ns: int) -> bool:
        """Go on for up to ``timeout_ns``; True at the end, with nothing outstanding.

        Raises as :meth:`Ring.poll`, and ValueError for a ring of another depth than the workload's.
        """
        if ring.depth != self._queue_depth:
            raise ValueError(
                f"the workload was made for a queue depth of {self._queue_depth}, "
                f"not {ring.depth}: give the queue pair's as queue_depth"
            )
        self._ring = ring
        if self._split is not None:
            done = lib.nvme_bench_split_run(ring.pointer, self._split, timeout_ns)
        else:
            done = lib.nvme_bench_run(ring.pointer, self._bench_pointer, timeout_ns)
        return bool(check_result(done))

    def stop(self) -> None:
        """Submit no more: the next :meth:`run` only drains what is outstanding."""
        self._bench.stop = 1
        self._bench.record_limit = len(self._records)

    def go_on(self) -> None:
        """Submit again after :meth:`stop`; once that has drained."""
        self._bench.stop = 0
        self.given_up, self.lost = False, 0
        self._bench.held_until = lib.nvme_ticks()
        self._bench.record_limit = self._record_limit

    def fail_rest(self, status: int) -> None:
        """Count what has no outcome as failed. Only once DMA has stopped."""
        self.given_up, self.lost = not self._bench.stop, self.submitted - self.completed
        if self._split is not None:
            lib.nvme_bench_split_fail_rest(self._split)
        else:
            lib.nvme_bench_fail_rest(self._bench_pointer, self._queue_depth)
        self.stop()

    @property
    def _bench_pointer(self) -> object:
        return ffi.addressof(self._bench)

    def share_results(self, first: Workload) -> None:
        """Count into another's results, together with it; for one thread alone."""
        self.results, self._results = first.results, first._results
        self._bench.results = self._results

    def member(self, ring: Ring) -> tuple[Any, Any]:
        """Be run on a ring by others; return struct nvme_bench and nvme_bench_split, or NULL."""
        self._ring = ring
        return self._bench_pointer, self._split or ffi.NULL

    def overhead(self, ring: Ring, ios: int, timeout_ns: int) -> npt.NDArray[np.void]:
        """Run I/Os one at a time and time each submission and completion by itself.

        Returns two HISTOGRAM_DTYPE entries: from before a command's submission to after its
        doorbell, and from the last poll that found nothing to the end of the one that found its
        completion. Raises as :meth:`Ring.poll`, and ValueError while commands are outstanding. One
        is left so only by a device that does not complete it for as long again.
        """
        overhead = ffi.new("struct nvme_overhead *")
        check_result(
            lib.nvme_bench_overhead(ring.pointer, self._bench_pointer, ios, timeout_ns, overhead)
        )
        return np.concatenate(
            [
                np.frombuffer(bytes(ffi.buffer(ffi.addressof(histogram))), HISTOGRAM_DTYPE)
                for histogram in (overhead.submit, overhead.complete)
            ]
        )
