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
from typing import Any

from pynvme_user.bench.jobs import options_io, options_run
from pynvme_user.bench.jobs.option import of_field
from pynvme_user.bench.jobs.terms import DEFAULT_SEED, BlockSizes, JobError, Size, Trace, Zones
from pynvme_user.workload.direction import Direction


@dataclass(frozen=True, kw_only=True)
class Job(
    options_io.JobsOptions,
    options_io.RangeOptions,
    options_io.WorkloadOptions,
    options_io.MetadataOptions,
    options_io.TraceOptions,
    options_io.BlockSizeOptions,
    options_io.RandomOptions,
    options_io.DataOptions,
    options_run.QueueOptions,
    options_run.CpuOptions,
    options_run.TimeOptions,
    options_run.VerifyOptions,
    options_run.ResultOptions,
):
    """One job. Bytes, seconds, percent; three-tuples are by :class:`Direction`.

    Made and validated by :mod:`pynvme_user.bench.jobs.builder`; :func:`clones` gives the parts that
    each have one queue pair.
    """

    given: tuple[tuple[str, str], ...] = ()  # the options as they were written, for the results
    shared: tuple[tuple[str, str], ...] = ()  # those of them that are no section's own
    point: tuple[tuple[str, int | str], ...] = ()  # its place in a sweep: (option, value)
    group: int = 0  # jobs of one group run at the same time; groups run one after another
    reporting_group: int = 0  # with group_reporting, jobs of one are reported as one
    skip: int = 0  # bytes that sequential I/O leaves out after each; negative: backwards
    run: int = 1  # I/Os for each random offset
    zones: Zones | None = None
    zbd: bool = False  # obey the zones of a zoned namespace
    zone_bytes: int = 0  # with zbd: what they have to be long; 0: as they are
    block_sizes: tuple[BlockSizes, BlockSizes, BlockSizes] = (
        BlockSizes(),
        BlockSizes(),
        BlockSizes(),
    )
    trace: Trace | None = None  # what is in it
    clone: int = 0  # which of the numjobs this is, from 0; see clones()
    shares: int = 1  # on so many devices, of which each has its part of the clone's I/O
    share: int = 0  # which of them this is
    number: int = 1  # of all queues of the run, from 1; log files are named by it
    seed: int = 0  # 64 bits; what all random choices of this queue follow from
    cpus_split: bool = False  # each clone has one CPU of cpus_allowed for itself
    verify_pattern_offsets: tuple[int, ...] = ()  # where in it 8 bytes are the block's offset

    @property
    def members(self) -> dict[str, int | float]:
        """The members of struct nvme_bench that its options fill in, but for defaults: 0 in C."""

        def is_set(key: str) -> bool:
            return bool(getattr(self, key) != _DEFAULTS[key])

        return {
            option.member: getattr(self, option.key)
            for option in OPTIONS
            if option.member and is_set(option.key) and (not option.of or is_set(option.of))
        }

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
    def one_thread(self) -> bool:
        """Whether each clone has one thread for its queue pairs on several devices.

        So it is where queues= is given, also as 1; else there is one for each device.
        """
        return max(self.shares, len(self.filenames)) > 1 and "queues" in dict(self.given)

    @property
    def thread(self) -> int:
        """The number of the first part in its thread."""
        return self.number - self.share if self.one_thread else self.number

    @property
    def threads(self) -> float:
        """How many threads it has: a part of one that it shares."""
        return 1 / self.shares if self.one_thread else 1.0

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


#: The options that are its fields.
OPTIONS = tuple(filter(None, map(of_field, dataclasses.fields(Job))))
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Job)}


def clones(jobs: Iterable[Job]) -> list[Job]:
    """Split jobs into parts that have one queue pair each.

    There are `numjobs` clones of a job, and of each a part for every device, which has its share of
    what the clone is to do. A part has its clone's number in the job as `clone`, its own in the run
    as `number`, one of the `filenames`, and a `seed` of its own: the same in every run with
    `randrepeat` or `randseed`, else drawn here.
    """
    parts: list[Job] = []
    threads = 0
    for job in jobs:
        shares = len(job.filenames)
        for clone, share in itertools.product(range(job.numjobs), range(shares)):
            number = len(parts) + 1
            threads += not (job.one_thread and share)
            parts.append(
                dataclasses.replace(
                    job,
                    clone=clone,
                    share=share,
                    shares=shares,
                    filenames=(job.filenames[share],),
                    number=number,
                    seed=_seed(job, number),
                    cpus_allowed=_cpus(job, threads),
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


def _cpus(job: Job, thread: int) -> frozenset[int]:
    if not job.cpus_split or not job.cpus_allowed:
        return job.cpus_allowed
    cpus = sorted(job.cpus_allowed)
    return frozenset({cpus[(thread - 1) % len(cpus)]})
