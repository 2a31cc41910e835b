"""What a run came to: the engine fills these, the outputs read them.

Times are nanoseconds from the start of the measured part of a job (after its ramp time) where a
name ends in ``_ns``; latencies are nanoseconds. Arrays are numpy's, in the layout that the C loop
fills in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.terms import PERCENTILES
from pynvme_user.spec.logs import SmartLog
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKET_BITS, BUCKETS, LATENCIES

if TYPE_CHECKING:
    from pynvme_user.bench.results.issued import IssuedLog

Counts = npt.NDArray[np.uint64]

SUMS = ("ios", "bytes", *(f"{kind}_sum" for kind in LATENCIES))
PEAKS = tuple(f"{kind}_max" for kind in LATENCIES)
#: One interval of one direction: SUMS over the I/Os that completed in it. For ``idle_ns`` of it
#: there was nothing of that direction to be done. PEAKS are 0 where they are not kept.
SAMPLE = np.dtype([(name, np.uint64) for name in ("end_ns", *SUMS, "idle_ns", *PEAKS)])
#: The columns that JSON has: all that are always kept.
TOLD = tuple(name for name in SAMPLE.names or () if name not in PEAKS)


def json_key(column: str) -> str:
    """Tell a sample's column by its name in JSON: times are in ms, latencies name their unit."""
    what, _, kind = column.rpartition("_")
    return {"ns": f"{what}_ms", "sum": f"{what}_ns_sum"}.get(kind, column)


def bucket_of(ns: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Tell the bucket that each latency (nanoseconds, not negative) is counted in."""
    # The clip keeps the values exact as float64, and all above it fall into the last bucket anyway.
    values = np.minimum(np.asarray(ns, dtype=np.uint64), np.uint64((1 << 34) - 1))
    bits = np.frexp(values.astype(np.float64))[1]
    shift = np.maximum(bits - (BUCKET_BITS + 1), 0)
    # Within a group the value's leading one is the 64 that the next group's number would add.
    index = (values >> shift.astype(np.uint64)).astype(np.intp) + (shift << BUCKET_BITS)
    return np.asarray(index, dtype=np.intp)


def _low_and_shift(index: npt.ArrayLike) -> tuple[Counts, Counts]:
    buckets = np.asarray(index, dtype=np.uint64)
    shift = np.maximum(buckets >> np.uint64(BUCKET_BITS), np.uint64(1)) - np.uint64(1)
    return (buckets - (shift << np.uint64(BUCKET_BITS))) << shift, shift


def bucket_bounds(index: npt.ArrayLike) -> tuple[Counts, Counts]:
    """Tell the least and the greatest nanosecond value of each bucket, both inclusive."""
    low, shift = _low_and_shift(index)
    high = low + (np.uint64(1) << shift) - np.uint64(1)
    return low, np.where(np.asarray(index) == BUCKETS - 1, np.uint64(2**64 - 1), high)


def bucket_values(index: npt.ArrayLike) -> Counts:
    """Tell what stands for each bucket in percentiles and bins: its middle, as fio has it."""
    low, shift = _low_and_shift(index)
    return np.asarray(low + ((np.uint64(1) << shift) >> np.uint64(1)), dtype=np.uint64)


def _no_counts() -> Counts:
    return np.zeros(BUCKETS, dtype=np.uint64)


@dataclass(slots=True, eq=False)
class Histogram:
    """Latencies: how many in each bucket, and what is known exactly.

    ``counts`` has BUCKETS entries. ``min``, ``max``, ``sum`` and ``squares`` (the sum of squares)
    are exact; with ``count`` 0 all are 0.
    """

    counts: Counts = field(default_factory=_no_counts)
    count: int = 0
    min: int = 0
    max: int = 0
    sum: int = 0
    squares: int = 0

    @classmethod
    def of(cls, ns: npt.ArrayLike) -> Histogram:
        """Count raw latencies."""
        values = np.asarray(ns, dtype=np.uint64)
        if not values.size:
            return cls()
        counts = np.bincount(bucket_of(values), minlength=BUCKETS).astype(np.uint64)
        exact = [int(value) for value in values]  # a sum of squares outgrows 64 bits
        squares = sum(value * value for value in exact)
        return cls(counts, len(exact), min(exact), max(exact), sum(exact), squares)

    @classmethod
    def from_counts(cls, counts: Counts) -> Histogram:
        """Make one of counts alone; what would be exact is then the buckets' middles."""
        filled = np.flatnonzero(counts)
        if not filled.size:
            return cls()
        pairs = [(int(bucket_values(i)), int(counts[i])) for i in filled]
        return cls(
            counts.copy(),
            sum(count for _, count in pairs),
            pairs[0][0],
            pairs[-1][0],
            sum(value * count for value, count in pairs),
            sum(value * value * count for value, count in pairs),
        )

    def add(self, other: Histogram) -> None:
        """Take the other's latencies in, too."""
        if not other.count:
            return
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.counts = self.counts + other.counts
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares

    @property
    def mean(self) -> float:
        """The mean in nanoseconds, 0.0 of none."""
        return self.sum / self.count if self.count else 0.0

    @property
    def stddev(self) -> float:
        """The sample standard deviation (n - 1) in nanoseconds, 0.0 of fewer than two."""
        if self.count < 2:
            return 0.0
        # In integers, so that nothing cancels out where the spread is small beside the mean.
        scatter = self.squares * self.count - self.sum * self.sum
        return sqrt(max(scatter, 0) / (self.count * (self.count - 1)))

    def percentiles(self, wanted: Iterable[float] = PERCENTILES) -> dict[float, int]:
        """Tell the values in nanoseconds that so many percent of the latencies do not exceed.

        Each is the middle of the first bucket at which that share is reached, as in fio, but not
        beyond the least and the greatest latency. Empty when there are no latencies.
        """
        if not self.count:
            return {}
        reached = np.cumsum(self.counts, dtype=np.uint64).astype(np.float64)
        shares = sorted(wanted)
        # Rounded, since 99.9 % of 1000 is the 999th and no rounding error may make it the 1000th.
        targets = np.array([max(round(share * self.count / 100, 6), 1.0) for share in shares])
        found = bucket_values(np.minimum(np.searchsorted(reached, targets), BUCKETS - 1))
        inside = np.clip(found, np.uint64(self.min), np.uint64(self.max)).tolist()
        return dict(zip(shares, inside, strict=True))

    def percentile(self, wanted: float) -> int:
        """One of ``percentiles``; 0 when there are no latencies."""
        return self.percentiles([wanted]).get(wanted, 0)


class IntervalHistogram:
    """The latencies of the I/Os that completed in one interval, as BUCKETS counts each.

    Only the buckets that are not empty are kept: a log may have an interval each millisecond.
    """

    __slots__ = ("_clat", "_lat", "end_ns", "start_ns")

    def __init__(self, start_ns: int, end_ns: int, clat: Counts, lat: Counts) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self._clat = _filled(clat)
        self._lat = _filled(lat)

    @property
    def clat(self) -> Counts:
        """Completion latencies."""
        return _all_buckets(*self._clat)

    @property
    def lat(self) -> Counts:
        """Total latencies."""
        return _all_buckets(*self._lat)


def _filled(counts: Counts) -> tuple[npt.NDArray[np.uint16], Counts]:
    buckets = np.flatnonzero(counts)
    return buckets.astype(np.uint16), counts[buckets]


def _all_buckets(buckets: npt.NDArray[np.uint16], filled: Counts) -> Counts:
    counts = _no_counts()
    counts[buckets] = filled
    return counts


def _no_samples() -> npt.NDArray[np.void]:
    return np.zeros(0, dtype=SAMPLE)


@dataclass(slots=True, eq=False)
class DirectionResult:
    """One direction of one job. I/Os that failed are in ``failed`` and in nothing else."""

    ios: int = 0
    bytes: int = 0
    runtime_ns: int = 0  # of the phases in which it was at work: writing, or reading back, or both
    failed: int = 0
    short: int = 0  # always 0 in NVMe: a command moves all of its blocks or fails
    drops: int = 0  # arrivals of a fixed rate that were never issued
    slat: Histogram = field(default_factory=Histogram)  # until the command is submitted
    clat: Histogram = field(default_factory=Histogram)  # from there to its completion
    lat: Histogram = field(default_factory=Histogram)  # both; from the arrival where a rate is set
    samples: npt.NDArray[np.void] = field(default_factory=_no_samples)  # SAMPLE, in order of end_ns
    intervals: list[IntervalHistogram] = field(default_factory=list)  # when a log wants them

    @property
    def bytes_per_second(self) -> float:
        """Bandwidth over the direction's whole run time, 0.0 of none."""
        return self.bytes * 1e9 / self.runtime_ns if self.runtime_ns else 0.0

    @property
    def iops(self) -> float:
        """I/Os per second over the direction's whole run time, 0.0 of none."""
        return self.ios * 1e9 / self.runtime_ns if self.runtime_ns else 0.0


def _three_directions() -> tuple[DirectionResult, DirectionResult, DirectionResult]:
    return DirectionResult(), DirectionResult(), DirectionResult()


#: Upper ends of fio's classes of batches (submit, complete); the last class is above all.
BATCH_CLASSES = (0, 4, 8, 16, 32, 64)
DEPTH_CLASSES = 7


def _no_depths() -> Counts:
    return np.zeros(DEPTH_CLASSES, dtype=np.uint64)


@dataclass(slots=True, eq=False)
class Depths:
    """How deep the queue was and how large the batches were, in fio's seven classes each.

    ``level`` counts I/Os by the commands outstanding with theirs: 1, 2-3, 4-7, 8-15, 16-31,
    32-63, 64 and more. ``submit`` and ``complete`` count batches (one doorbell, one poll that
    found something) by their length: 0, 1-4, 5-8, 9-16, 17-32, 33-64, more.
    """

    level: Counts = field(default_factory=_no_depths)
    submit: Counts = field(default_factory=_no_depths)
    complete: Counts = field(default_factory=_no_depths)


@dataclass(slots=True)
class CpuUsage:
    """What the job's thread used (getrusage, RUSAGE_THREAD) over its measured part."""

    user_ns: int = 0
    system_ns: int = 0
    context_switches: int = 0
    major_faults: int = 0
    minor_faults: int = 0


@dataclass(slots=True)
class Costs:
    """What the driver itself did for the I/Os of a job; None: not counted on this machine."""

    sq_doorbells: int = 0
    cq_doorbells: int = 0
    mmio_reads: int = 0
    interrupts: int = 0
    polls: int = 0
    empty_polls: int = 0
    ticks_per_second: float | None = None  # of the time-stamp counter
    submit_ticks: int | None = None  # all submissions together
    complete_ticks: int | None = None  # all completions together, without empty polls
    submit_instructions: int | None = None
    complete_instructions: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """The namespace that a job ran on."""

    name: str  # as one opens it
    nsid: int
    access: str  # vfio, uio, qemu, soft, vfio-user
    block_size: int  # bytes
    blocks: int
    model: str = ""
    serial: str = ""
    firmware: str = ""
    emulated: bool = False
    notes: tuple[str, ...] = ()  # PCIe link, NUMA node, temperature: "name: value"


@dataclass(frozen=True, slots=True)
class VerifyFault:
    """One block that did not hold what was written to it."""

    kind: str  # as _verify.h names it: torn write, lost write, misdirected write, ...
    lba: int
    message: str  # one sentence, expected and found


@dataclass(slots=True)
class VerifyResult:
    """What the verification of a job found. ``faults`` may hold the first ones only."""

    method: str
    blocks: int = 0  # checked
    faulty: int = 0
    faults: list[VerifyFault] = field(default_factory=list)


@dataclass(slots=True)
class SteadyState:
    """How a job's search for a steady state ended; one second of data each."""

    metric: str  # iops, iops_slope, bw, bw_slope, lat, lat_slope
    limit: float
    percent: bool  # limit and criterion are in percent of the mean
    duration: float  # seconds
    attained: bool
    criterion: float  # what was compared with the limit
    max_deviation: float
    slope: float
    bw: list[int] = field(default_factory=list)  # bytes per second
    iops: list[int] = field(default_factory=list)
    lat_ns: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Rounds:
    """The rounds of a job that ends once they are steady; percent of the last ones' average."""

    seconds: float  # of each
    wanted: int  # how many in a row have to be steady
    iops: list[float] = field(default_factory=list)  # of each
    attained: bool = False
    range_percent: float | None = None  # how far the last ones are apart; None: too few so far
    slope_percent: float | None = None  # how much the line that fits them best changes


@dataclass(slots=True)
class LatencyTarget:
    """A search for the greatest depth that keeps a latency."""

    target_ns: int
    window_us: int
    percentile: float
    depth: int  # found
    met: bool


@dataclass(slots=True, eq=False)
class JobResult:
    """One job, or with ``members`` above 1 its clones together (group_reporting)."""

    name: str
    rw: str
    device: Device
    iodepth: int
    block_sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # (low, high), Direction
    number: int = 1  # counts the jobs of a run from 1; the logs' file names have it
    first: int = 0  # number of its job's first queue, where that is on several devices; else 0
    group: int = 0  # reporting group
    mode: str = "polled"
    numjobs: int = 1  # of which this is one, or with members all
    members: int = 1
    queues: int = 1  # queue pairs of all members, on all devices
    threads: float = 1.0  # that had them; of one that drives several devices each has its part
    devices: tuple[Device, ...] = ()  # all of them, where there are several
    options: Mapping[str, str] = field(default_factory=dict)  # as written, not the global ones
    point: Mapping[str, int | str] = field(default_factory=dict)  # this job's place in a sweep
    description: str = ""
    pid: int = 0
    start_ns: int = 0  # of the measured part, from the run's start
    runtime_ns: int = 0  # of the measured part
    directions: tuple[DirectionResult, DirectionResult, DirectionResult] = field(
        default_factory=_three_directions
    )
    flush: Histogram = field(default_factory=Histogram)  # latencies of Flush
    depths: Depths = field(default_factory=Depths)
    cpu: CpuUsage = field(default_factory=CpuUsage)
    costs: Costs = field(default_factory=Costs)
    errors: dict[int, int] = field(default_factory=dict)  # status (SCT << 8 | SC): I/Os
    failure: str = ""  # why it ended early: a limit that it missed, a device that went away
    error_names: dict[int, str] = field(default_factory=dict)  # status: the specification's name
    verify: VerifyResult | None = None
    steady_state: SteadyState | None = None
    rounds: Rounds | None = None
    latency_target: LatencyTarget | None = None
    percentile_list: tuple[float, ...] = PERCENTILES
    slat_percentiles: bool = False
    clat_percentiles: bool = True
    lat_percentiles: bool = True
    io_log: npt.NDArray[np.void] | None = None  # RECORD_DTYPE of each I/O, when a log wants them
    issued: IssuedLog | None = None  # with write_iolog
    unified_rw_reporting: Literal["none", "mixed", "both"] = "none"
    bwavgtime_ms: int = 500  # the intervals that bw_min, bw_mean and so on are taken over
    iopsavgtime_ms: int = 500

    @property
    def failed(self) -> int:
        """I/Os of all directions that failed; Flush counts in ``errors`` alone."""
        return sum(direction.failed for direction in self.directions)

    @property
    def ok(self) -> bool:
        """Whether every command succeeded and every verified block held its data."""
        faulty = self.verify is not None and self.verify.faulty > 0
        return not (self.errors or self.failed or self.failure or faulty)


def active(job: JobResult) -> list[tuple[Direction, DirectionResult]]:
    """Tell the directions in which a job did anything."""
    pairs = zip(Direction, job.directions, strict=True)
    return [(direction, result) for direction, result in pairs if result.ios or result.failed]


@dataclass(frozen=True, slots=True)
class Health:
    """A device's SMART log before and after the run; None: it has none, or was gone."""

    device: str  # its name
    before: SmartLog | None
    after: SmartLog | None = None


@dataclass(slots=True, eq=False)
class RunResult:
    """All jobs of one command."""

    jobs: list[JobResult]
    started: float  # seconds since the epoch
    elapsed_ns: int = 0  # from start to end, ramp times included
    global_options: Mapping[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    machine: Mapping[str, str] = field(default_factory=dict)  # cpu, kernel, governor: name: value
    health: list[Health] = field(default_factory=list)  # of each device
    command: str = ""  # as typed
    signal: int = 0  # the number of the one that ended it; the results are those so far
    failure: str = ""  # why some jobs were not run, and which

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it, ctrl-C or another."""
        return self.signal != 0

    @property
    def ok(self) -> bool:
        """Whether every job is; else the command's exit status is not 0."""
        return not self.failure and all(job.ok for job in self.jobs)
