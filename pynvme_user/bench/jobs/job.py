"""One job of a benchmark, resolved to base units: bytes, seconds, percent.

The names are fio's where fio has the thing. What a value means is fio's HOWTO; what it means on a
bare device is in docs/fio-options.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pynvme_user.host.numa import Placement
from pynvme_user.workload.direction import Direction

Workload = Literal[
    "read",
    "write",
    "randread",
    "randwrite",
    "rw",
    "randrw",
    "trim",
    "randtrim",
    "trimwrite",
    "randtrimwrite",
    "zone-append",
]
Mode = Literal["polled", "hybrid", "interrupt"]
VerifyMethod = Literal["crc32c", "xxhash", "pattern", "pattern_hdr", "meta"]
DistributionKind = Literal["random", "zipf", "pareto", "normal", "zoned", "zoned_abs"]
RateProcess = Literal["linear", "poisson"]
Sequencer = Literal["sequential", "identical"]
Metric = Literal["iops", "bw", "lat"]
DedupeMode = Literal["repeat", "working_set"]
ExitWhat = Literal["group", "stonewall", "all"]
ContinueOnError = Literal["read", "write", "verify"]
UnifiedReporting = Literal["none", "mixed", "both"]

#: fio's seventeen, and two more for devices that make enough I/Os to know them.
PERCENTILES = (
    *(1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0),
    *(95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 99.9999),
)
MOST_PERCENTILES = 20
#: The axis of a point that says which of several runs of the same it is.
REPEAT = "repeat"
LARGEST_BATCH = 64  # commands per doorbell
DEFAULT_SEED = 0x89  # fio's, for randrepeat without randseed


class JobError(ValueError):
    """A job that cannot be run as it is written: one sentence that names what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """The sizes of one direction's I/Os, in bytes."""

    low: int = 4096
    high: int = 4096  # low == high: one size; otherwise multiples of low up to high
    split: tuple[tuple[int, int], ...] = ()  # (bytes, percent), the percents sum to 100
    align: int = 0  # blockalign: random offsets are multiples of it; 0: of low

    @property
    def largest(self) -> int:
        """The largest I/O, in bytes."""
        return max((size for size, _ in self.split), default=self.high)

    @property
    def smallest(self) -> int:
        """The smallest I/O, in bytes."""
        return min((size for size, _ in self.split), default=self.low)

    @property
    def mean(self) -> float:
        """The mean of many I/Os, in bytes."""
        if self.split:
            return sum(size * percent for size, percent in self.split) / 100
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A length or an offset: bytes, percent, or zones. One of them is given."""

    bytes: int | None = None
    percent: int | None = None
    zones: int | None = None

    def of(self, capacity: int, zone_size: int = 0) -> int:
        """Tell its bytes where there are `capacity` bytes, in zones of `zone_size` bytes.

        A percentage is rounded down. Raises JobError for zones where there are none.
        """
        if self.percent is not None:
            return capacity * self.percent // 100
        if self.zones is not None:
            if not zone_size:
                raise JobError(f"{self} counts zones, and the namespace has none: use bytes or %")
            return self.zones * zone_size
        assert self.bytes is not None
        return self.bytes

    def __str__(self) -> str:
        if self.percent is not None:
            return f"{self.percent}%"
        return f"{self.bytes}" if self.zones is None else f"{self.zones}z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How often each part of the range is chosen by random I/O.

    `zones` are (percent of the accesses, percent of the range) for zoned, or (percent of the
    accesses, bytes) for zoned_abs, of each direction; the access percents sum to 100.
    """

    kind: DistributionKind = "random"
    theta: float = 0.0  # zipf's theta, pareto's power, normal's deviation in percent
    center: float | None = None  # 0 to 1: where the most probable is; None: fio's default
    zones: tuple[tuple[tuple[int, int], ...], ...] = ()


UNIFORM = Distribution()


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """Parts of the range, one after another (zonemode=strided). Bytes."""

    size: int  # moved in a zone before the next one
    range: int  # its length
    skip: int = 0  # left out between two


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """End the job once the metric stays within the limit for `duration` seconds."""

    metric: Metric
    slope: bool  # the limit is that of the slope, not of the greatest deviation from the mean
    limit: float
    percent: bool  # the limit is a percentage of the mean, not absolute
    duration: float  # seconds; the window that is looked at
    ramp: float = 0.0  # seconds before the first look


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a trace of I/O comes to, without what replay_skip leaves out."""

    ios: int
    bytes: int
    sizes: tuple[tuple[int, int], ...]  # bytes of the least and the largest, by direction; 0: none
    first_ns: int  # the time of the first
    action: int  # of blkparse: the letter of its events

    @property
    def directions(self) -> frozenset[Direction]:
        """The directions that it has; one that only flushes counts as a read."""
        found = frozenset(way for way in Direction if self.sizes[way][1])
        return found or frozenset({Direction.READ})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. Bytes, seconds, percent; three-tuples are by :class:`Direction`.

    Made and validated by :mod:`pynvme_user.bench.jobs.builder`; :func:`clones` gives the parts that
    each have one queue pair.
    """

    name: str = "bench"
    description: str = ""
    given: tuple[tuple[str, str], ...] = ()  # the options as they were written, for the results
    shared: tuple[tuple[str, str], ...] = ()  # those of them that are no section's own
    point: tuple[tuple[str, int | str], ...] = ()  # its place in a sweep: (option, value)
    group: int = 0  # jobs of one group run at the same time; groups run one after another
    reporting_group: int = 0  # with group_reporting, jobs of one are reported as one
    group_reporting: bool = False
    stats: bool = True  # False: left out of the results
    unified_rw_reporting: UnifiedReporting = "none"
    wait_for: str | None = None  # the job that has to end before this one starts

    # Where
    filenames: tuple[str, ...] = ()  # device names; see clones()
    nsid: int | None = None  # None: the first active namespace
    offset: Size = Size(bytes=0)
    offset_align: int = 0  # what an offset in percent is rounded up to; 0: the smallest block
    offset_increment: Size = Size(bytes=0)  # added for each further clone
    size: Size | None = None  # the range that the I/O stays in; None: to the namespace's end
    io_size: Size | None = None  # how much is moved; None: as much as the range

    # What
    rw: Workload = "read"  # fio's readwrite is rw here
    skip: int = 0  # bytes that sequential I/O leaves out after each; negative: backwards
    run: int = 1  # I/Os for each random offset
    rw_sequencer: Sequencer = "sequential"  # how the I/Os of a run lie
    zones: Zones | None = None
    zbd: bool = False  # obey the zones of a zoned namespace
    zone_bytes: int = 0  # with zbd: what they have to be long; 0: as they are
    max_open_zones: int = 0  # begun by all queues together; 0: as many as there may be
    job_max_open_zones: int = 0  # and by each
    read_beyond_wp: bool = False
    block_sizes: tuple[BlockSizes, BlockSizes, BlockSizes] = (
        BlockSizes(),
        BlockSizes(),
        BlockSizes(),
    )
    rwmixread: int = 50  # percent
    random_distribution: Distribution = UNIFORM
    percentage_random: tuple[int, int, int] = (100, 100, 100)
    norandommap: bool = False
    randrepeat: bool = True
    allrandrepeat: bool = False
    randseed: int | None = None
    number_ios: int | None = None
    loops: int = 1
    fsync: int = 0  # a Flush after every so many writes; 0: none
    end_fsync: bool = False  # a Flush after the last write
    fua: bool = False  # Force Unit Access in every write

    # Instead of all that, what a trace has
    read_iolog: str | None = None
    trace: Trace | None = None  # what is in it
    replay_no_stall: bool = False  # as fast as it goes, not in its time
    replay_time_scale: int = 100  # percent of its speed
    replay_scale: int = 1  # offsets are divided by it ...
    replay_align: int = 0  # ... and rounded down to multiples of this power of 2
    replay_skip: frozenset[int] = frozenset()  # directions that are left out
    write_iolog: str | None = None  # where what is issued is written

    # Data that is written
    zero_buffers: bool = False
    refill_buffers: bool = False  # new data for every write
    scramble_buffers: bool = False  # a little of it new
    buffer_pattern: bytes = b""  # repeated; empty: random data
    buffer_compress_percentage: int = 0  # share of each chunk that is zeros (or the pattern)
    buffer_compress_chunk: int = 512  # bytes; 0: the block
    dedupe_percentage: int = 0  # share of the blocks whose data was written before
    dedupe_mode: DedupeMode = "repeat"  # that of the last new block, or any of the first ones
    dedupe_working_set_percentage: int = 5  # of the range: how many first ones
    dedupe_global: bool = False  # those of all jobs that have this option

    # How
    iodepth: int = 1
    iodepth_batch: int = 0  # commands per doorbell; 0: as many as there are
    iodepth_batch_complete_min: int = 1  # wait for at least so many before submitting more
    iodepth_batch_complete_max: int = 0  # reap at most so many at once; 0: as many as there are
    iodepth_low: int = 0  # let the queue drain to this before it is filled again; 0: keep it full
    numjobs: int = 1
    queues: int = 1  # that the one thread of each has
    clone: int = 0  # which of the numjobs this is, from 0; see clones()
    shares: int = 1  # on so many devices, of which each has its part of the clone's I/O
    share: int = 0  # which of them this is
    number: int = 1  # of all queues of the run, from 1; log files are named by it
    seed: int = 0  # 64 bits; what all random choices of this queue follow from
    mode: Mode = "polled"
    cpus_allowed: frozenset[int] = frozenset()  # empty: any
    cpus_split: bool = False  # each clone has one CPU of cpus_allowed for itself
    numa_cpu_nodes: frozenset[int] = frozenset()  # run on their CPUs; empty: any
    numa_mem_policy: Placement | None = None  # of queue and buffers; None: near the CPUs
    nice: int = 0

    # When
    runtime: float | None = None
    time_based: bool = False
    ramp_time: float = 0.0
    startdelay: tuple[float, float] = (0.0, 0.0)  # a time drawn from this range
    flow: int = 0  # its part of the I/O of all jobs with this flow_id; 0: it does not wait
    flow_id: int = 0
    flow_sleep: float = 0.0  # seconds between two looks at the others
    thinktime: float = 0.0
    thinktime_blocks: int = 1
    thinktime_iotime: float = 0.0  # seconds of I/O between two pauses; 0: as many as the I/Os take
    rate_ignore_thinktime: bool = False  # nothing arrives during a pause
    rate: tuple[int, int, int] = (0, 0, 0)  # bytes per second; 0: as fast as it goes
    rate_iops: tuple[int, int, int] = (0, 0, 0)
    rate_min: tuple[int, int, int] = (0, 0, 0)  # bytes per second; below it the job fails
    rate_iops_min: tuple[int, int, int] = (0, 0, 0)
    rate_cycle: float = 1.0  # what rate_min is averaged over
    rate_process: RateProcess = "linear"

    # When it ends
    exitall: bool = False  # the end of this job ends those of exit_what
    exit_what: ExitWhat = "group"
    exitall_on_error: bool = False
    continue_on_error: frozenset[ContinueOnError] = frozenset()
    # Errors that do not end it, as Linux's numbers: of reads, writes, verification. None: as
    # continue_on_error says.
    ignore_error: tuple[frozenset[int] | None, ...] = (None, None, None)
    max_latency: tuple[float, float, float] = (0.0, 0.0, 0.0)  # a slower I/O fails the job; 0: none
    latency_target: float | None = None
    latency_window: float = 0.0
    latency_percentile: float = 100.0
    steadystate: SteadyState | None = None
    steadystate_rounds: int = 0  # end once so many rounds in a row are steady; 0: there are none
    steadystate_round: float = 60.0  # the length of each, in seconds

    # Verification
    verify: VerifyMethod | None = None
    do_verify: bool = True
    verify_only: bool = False
    verify_pattern: bytes = b""
    verify_pattern_offsets: tuple[int, ...] = ()  # where in it 8 bytes are the block's offset
    verify_interval: int = 0  # bytes; 0: the block
    verify_fatal: bool = False
    verify_backlog: int = 0  # verify after so many writes; 0: at the end
    verify_backlog_batch: int = 0  # so many of them, the others later; 0: all
    trim_percentage: int = 0  # of the verified writes
    trim_backlog: int = 0  # trim after so many writes
    trim_backlog_batch: int = 0  # so many; 0: trim_backlog
    trim_verify_zero: bool = False
    verify_state: str | None = None  # the write journal's path

    # Results
    write_bw_log: str | None = None  # prefix of the file names
    write_lat_log: str | None = None
    write_iops_log: str | None = None
    write_hist_log: str | None = None
    per_job_logs: bool = True
    log_avg_msec: int = 0  # 0: each I/O
    log_max_value: bool = False  # of an interval the greatest value, not the average
    log_hist_msec: int = 0
    log_hist_coarseness: int = 0
    log_offset: bool = False
    log_unix_epoch: bool = False
    bwavgtime: float = 0.5  # seconds; the samples that bw_min, bw_mean and so on are made of
    iopsavgtime: float = 0.5
    percentile_list: tuple[float, ...] = PERCENTILES
    clat_percentiles: bool = True
    lat_percentiles: bool = True
    slat_percentiles: bool = False

    @property
    def directions(self) -> frozenset[Direction]:
        """The directions that its I/O can have."""
        if self.trace is not None:
            return self.trace.directions
        found = set()
        if self.rw in ("read", "randread", "rw", "randrw"):
            found.add(Direction.READ)
        if self.rw in ("write", "randwrite", "rw", "randrw", "trimwrite", "randtrimwrite"):
            found.add(Direction.WRITE)
        if self.rw == "zone-append":
            found.add(Direction.WRITE)
        if "trim" in self.rw:
            found.add(Direction.TRIM)
        return frozenset(found)

    @property
    def random(self) -> bool:
        """Whether its offsets are random."""
        return self.rw.startswith("rand")

    @property
    def destructive(self) -> bool:
        """Whether it changes the device's data."""
        return self.directions != {Direction.READ} and not self.verify_only

    @property
    def sizes_used(self) -> list[BlockSizes]:
        """The block sizes that its I/O can have."""
        return [self.block_sizes[direction] for direction in sorted(self.directions)]

    @property
    def largest_block(self) -> int:
        """The largest I/O in bytes: what a data buffer has to hold."""
        return max(sizes.largest for sizes in self.sizes_used)

    @property
    def smallest_block(self) -> int:
        """The smallest I/O in bytes."""
        return min(sizes.smallest for sizes in self.sizes_used)

    @property
    def random_map(self) -> bool:
        """Whether each block of the range is taken once before any is taken again.

        As in fio, blockalign and every distribution but the uniform one turn it off; so do several
        I/Os for each offset, and zones.
        """
        return (
            self.random
            and not self.norandommap
            and self.run == 1
            and self.zones is None
            and not self.zbd
            and self.random_distribution.kind == "random"
            and all(sizes.align in (0, sizes.low) for sizes in self.sizes_used)
        )

    def region(self, capacity: int, zone_size: int = 0) -> tuple[int, int]:
        """(offset, length) in bytes of the range in a namespace of `capacity` bytes.

        As fio has it: `size` counts from the offset, a percentage is of the whole namespace, cut to
        the smallest block, and the range ends where the namespace does. Raises JobError if nothing
        is left of it.
        """
        offset = self.offset.of(capacity, zone_size)
        offset += self.offset_increment.of(capacity, zone_size) * self.clone
        if self.offset.percent is not None or self.offset_increment.percent is not None:
            align = self.offset_align or self.smallest_block
            offset = -(-offset // align) * align
        length = capacity - offset
        if self.size is not None:
            size = self.size.of(capacity, zone_size)
            if self.size.percent not in (None, 100):
                size -= size % self.smallest_block
            length = min(length, size)
        if length < self.smallest_block:
            raise JobError(
                f"job {self.name!r} has no room for a block of {self.smallest_block} bytes: its "
                f"range has {max(length, 0)} bytes from {offset} on, in a namespace of {capacity}: "
                f"change size, offset or offset_increment"
            )
        return offset, length

    def reach(self, length: int, room: int) -> int:
        """Bytes from the range's start on that its I/O may touch, of the `room` that there are.

        As in fio, sequential I/O of one size begins in the range of `length` bytes, and its last
        one may go beyond.
        """
        if self.random or self.zones or self.zbd:
            return length
        sizes = [of.low for of in self.sizes_used if of.low == of.high]
        ends = [length + size - 1 if self.skip else -(-length // size) * size for size in sizes]
        return max(length, min(room, max(ends, default=length)))

    def amount(self, capacity: int, zone_size: int = 0) -> int:
        """Bytes to move in one loop: `io_size`, a percentage being of the range, or all of that."""
        length = self.region(capacity, zone_size)[1]
        if self.io_size is None:
            return length
        return self.io_size.of(length if self.io_size.percent is not None else capacity, zone_size)


def clones(jobs: Iterable[Job]) -> list[Job]:
    """Split jobs into parts that have one queue pair each.

    There are `numjobs` clones of a job, and of each a part for every device, which has its share of
    what the clone is to do. A part has its clone's number in the job as `clone`, its own in the run
    as `number`, one of the `filenames`, and a `seed` of its own: the same in every run with
    `randrepeat` or `randseed`, else drawn here.
    """
    parts: list[Job] = []
    for job in jobs:
        shares = len(job.filenames)
        for clone, share in itertools.product(range(job.numjobs), range(shares)):
            number = len(parts) + 1
            parts.append(
                dataclasses.replace(
                    job,
                    clone=clone,
                    share=share,
                    shares=shares,
                    filenames=(job.filenames[share],),
                    number=number,
                    seed=_seed(job, number),
                    cpus_allowed=_cpus(job, number),
                    write_iolog=_issued(job, number),
                    **(_shared_out(job, share) if shares > 1 else {}),
                )
            )
    return parts


def _shared_out(job: Job, share: int) -> dict[str, Any]:
    """Tell the share of one of several devices, as fio has it: the first get what is left over.

    A size in percent or zones is that of each device. Each has one I/O in flight at least, and one
    I/O to do at least.
    """
    count = len(job.filenames)

    def part(whole: int, unit: int = 1) -> int:
        units = whole // unit
        return (units // count + (share < units % count)) * unit

    def of_size(size: Size | None) -> Size | None:
        if size is None or size.bytes is None:
            return size
        return Size(bytes=part(size.bytes, job.smallest_block))

    def of_rates(rates: tuple[int, int, int]) -> tuple[int, int, int]:
        read, write, trim = (max(1, part(rate)) if rate else 0 for rate in rates)
        return read, write, trim

    depth = max(1, part(job.iodepth))
    return {
        "size": of_size(job.size),
        "io_size": of_size(job.io_size),
        "number_ios": None if job.number_ios is None else max(1, part(job.number_ios)),
        "rate": of_rates(job.rate),
        "rate_iops": of_rates(job.rate_iops),
        "rate_min": of_rates(job.rate_min),
        "rate_iops_min": of_rates(job.rate_iops_min),
        "flow": max(1, part(job.flow)) if job.flow else 0,
        "iodepth": depth,
        "iodepth_batch": min(job.iodepth_batch, depth),
        "iodepth_batch_complete_min": min(job.iodepth_batch_complete_min, depth),
        "iodepth_low": min(job.iodepth_low, depth) if depth > 1 else 0,
    }


def _seed(job: Job, number: int) -> int:
    if job.randseed is not None:
        base = job.randseed
    elif job.randrepeat or job.allrandrepeat:
        base = DEFAULT_SEED
    else:
        return secrets.randbits(64)
    # An odd factor: no two queues of a run have the same seed.
    return (base + number * 0x9E3779B97F4A7C15) & ((1 << 64) - 1)


def _issued(job: Job, number: int) -> str | None:
    """Name the log of what a part issues: each has its own."""
    alone = job.numjobs * len(job.filenames) == 1
    return job.write_iolog if alone or not job.write_iolog else f"{job.write_iolog}.{number}"


def _cpus(job: Job, number: int) -> frozenset[int]:
    if not job.cpus_split or not job.cpus_allowed:
        return job.cpus_allowed
    cpus = sorted(job.cpus_allowed)
    return frozenset({cpus[(number - 1) % len(cpus)]})
