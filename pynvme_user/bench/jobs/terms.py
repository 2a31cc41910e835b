"""What the values of a job's options are. Sizes are bytes, times seconds, shares percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
