"""Verification of one part: its table, what is read back, and what the results say of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import VerifyFault, VerifyResult
from pynvme_user.bench.run.target import Target
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.records import IO_DTYPE
from pynvme_user.workload.verification import (
    Deallocated,
    Method,
    Trim,
    Unknown,
    Verifier,
    VerifyTable,
)
from pynvme_user.workload.verify_state import Region, StateFileError

#: I/Os that are read back at a time.
_CHUNK = 1 << 16
_METHODS = {
    "crc32c": Method.CRC32C,
    "xxhash": Method.XXHASH,
    "pattern": Method.PATTERN,
    "pattern_hdr": Method.PATTERN_HDR,
    "meta": Method.META,
}


class _Follower:
    """The I/Os that were submitted, made again."""

    def __init__(self, replayer: Generator) -> None:
        self._replayer = replayer
        self._followed = 0
        #: The directions of the I/Os that are still to be followed, eight in a byte, and how many;
        #: none where ``replayer`` makes them by itself.
        self._noted: deque[tuple[npt.NDArray[np.uint8], int]] = deque()

    def note(self, directions: npt.NDArray[np.uint8]) -> None:
        """Keep the directions of the last I/Os."""
        self._noted.append((np.packbits(directions), len(directions)))

    def take(self, total: int, most: int = _CHUNK) -> npt.NDArray[np.void]:
        """Give the next, of the first ``total``; none where all of those were given."""
        most = min(_CHUNK, most, total - self._followed)
        ios = self._next(most) if most > 0 else np.zeros(0, IO_DTYPE)
        self._followed += len(ios)
        return ios

    def _next(self, most: int) -> npt.NDArray[np.void]:
        if not self._noted:
            return self._replayer.take(most)
        packed, count = self._noted.popleft()
        directions = np.unpackbits(packed, count=count)
        if count > most:
            self._noted.appendleft((np.packbits(directions[most:]), count - most))
        return self._replayer.follow(directions[:most])


class Verification:
    """The table, the verifier and the order in which a part's writes are read back.

    ``replayer`` makes the job's I/Os a second time, with the same seed: what was written is read in
    the ranges and the order in which it was written. So does ``trims``, for what is trimmed.
    """

    def __init__(
        self,
        job: Job,
        target: Target,
        offset: int,
        length: int,
        replayer: Generator,
        trims: Generator | None = None,
    ) -> None:
        ns = target.ns
        self._job = job
        self._written = _Follower(replayer)
        #: The same a second time, where some of it is trimmed, and those that are chosen.
        self._trims = _Follower(trims) if trims is not None else None
        self._to_trim = np.zeros(0, IO_DTYPE)
        self._choice = np.random.default_rng(job.seed)
        #: I/Os that are not the sequence's: what was read back, and what was trimmed.
        self._aside = 0
        #: The numbers of writes at which to read back and to trim next; 0: never.
        self._verify_at = self._trim_at = 0
        interval = job.verify_interval or self._interval(job)
        if job.zbd:
            interval = gcd(interval, target.zone_bytes)
        region = Region(
            block_size=ns.block_size,
            blocks=length >> ns.block_shift,
            first_lba=offset >> ns.block_shift,
            interval_blocks=max(1, interval >> ns.block_shift),
        )
        self._resumes = job.verify_only and job.verify_state is not None
        if self._resumes:
            self.table = VerifyTable.open_state(self._path, target.identity)
            self._check_state(target)
        elif job.verify_state is not None:
            self.table = VerifyTable.create_state(self._path, region, job.seed, target.identity)
        else:
            self.table = VerifyTable(region, job.seed)
        # Who did not write the data in this run knows neither the generations nor the seed.
        reads_only = job.verify_only or job.directions == {Direction.READ}
        self.verifier = Verifier(
            self.table,
            _METHODS[job.verify or "crc32c"],
            job=job.number & 0xFFFF,
            pattern=job.verify_pattern,
            offsets=job.verify_pattern_offsets,
            unknown=Unknown.ANY_SEED if reads_only and not self._resumes else Unknown.SKIP,
            deallocated=(Deallocated.ANY, Deallocated.ZEROES, Deallocated.ONES)[
                target.deallocated if target.deallocated < 3 else 0
            ],
            trim_kind=Trim.WRITE_ZEROES if job.trim_verify_zero else Trim.DEALLOCATE,
        )

    def _check_state(self, target: Target) -> None:
        """See that what a state file covers is there, and can be read by this job."""
        region, ns = self.table.region, target.ns
        if region.block_size != ns.block_size or region.first_lba + region.blocks > ns.block_count:
            self.table.close()
            raise StateFileError(
                f"{self._path} is about {region.blocks} blocks of {region.block_size} bytes from "
                f"LBA {region.first_lba} on, which {target.device.name} does not have (any more): "
                "write and verify it anew"
            )
        size = region.interval_blocks * region.block_size
        if self._job.largest_block < size:
            self.table.close()
            raise JobError(
                f"job {self._job.name!r}: {self._path} has verify intervals of {size} bytes, more "
                f"than bs={self._job.largest_block}: give bs={size} or more"
            )

    @property
    def _path(self) -> Path:
        """Each queue of a run has a file of its own."""
        path = Path(self._job.verify_state or "")
        return path if self._job.number == 1 else path.with_name(f"{path.name}.{self._job.number}")

    @staticmethod
    def _interval(job: Job) -> int:
        """Tell the greatest length that divides every I/O, so that each is whole intervals."""
        lengths = [job.offset.bytes or 0, abs(job.skip)]
        if job.zones is not None:
            lengths += [job.zones.range, job.zones.range + job.zones.skip]
        for direction in job.directions:
            sizes = job.block_sizes[direction]
            lengths += [sizes.low, sizes.align, *(size for size, _ in sizes.split)]
            lengths += [sizes.high] if sizes.high == sizes.low else []
        return gcd(*lengths)

    def note(self, directions: npt.NDArray[np.uint8] | None) -> None:
        """Keep the directions of the last I/Os; None where nothing but the sequence says them."""
        if directions is not None and len(directions):
            for follower in (self._written, *([self._trims] if self._trims else [])):
                follower.note(directions)

    def written(self, workload: Workload, most: int = 0) -> Iterator[npt.NDArray[np.void]]:
        """Yield what was written and not yielded yet, as reads (IO_DTYPE), in pieces.

        No more than ``most`` of them, the oldest; 0: all.
        """
        left = most or _CHUNK << 32  # more than there are
        total = self._submitted(workload)
        while left:
            ios = self._written.take(total, left)
            if not len(ios):
                return
            reads = ios[ios["direction"] == Direction.WRITE]
            reads["direction"] = Direction.READ
            self._aside += len(reads)
            left -= len(reads)
            if len(reads):
                yield reads

    def _submitted(self, workload: Workload) -> int:
        """Tell how many I/Os of the sequence there were."""
        return sum(workload.submitted_by_direction[:3]) - self._aside

    # --- while it is written -------------------------------------------------------------------

    @property
    def has_backlog(self) -> bool:
        """Whether the writes pause for what is read back or trimmed."""
        return bool(self._job.verify_backlog or self._job.trim_backlog)

    def begin_backlog(self, workload: Workload) -> None:
        """Count the writes from here on: those of a ramp pause for nothing."""
        done = workload.submitted_by_direction[Direction.WRITE]
        self._verify_at = _next(done, self._job.verify_backlog)
        self._trim_at = _next(done, self._job.trim_backlog)

    def writes_left(self, workload: Workload) -> int:
        """Tell how many more writes there are until then."""
        done = workload.submitted_by_direction[Direction.WRITE]
        return min(at for at in (self._verify_at, self._trim_at) if at) - done

    def backlog(self, workload: Workload) -> Iterator[npt.NDArray[np.void]]:
        """Yield what is to do now: trims, then reads, in pieces of one direction."""
        job, done = self._job, workload.submitted_by_direction[Direction.WRITE]
        if self._trim_at and done >= self._trim_at:
            self._trim_at = _next(done, job.trim_backlog)
            yield from self._trimmed(workload)
        if self._verify_at and done >= self._verify_at:
            self._verify_at = _next(done, job.verify_backlog)
            yield from self.written(workload, job.verify_backlog_batch)

    def _trimmed(self, workload: Workload) -> Iterator[npt.NDArray[np.void]]:
        """Yield trims of what was chosen, the oldest first."""
        total = self._submitted(workload)
        assert self._trims is not None, "there is a backlog of trims"
        while len(ios := self._trims.take(total)):
            writes = ios[ios["direction"] == Direction.WRITE]
            chosen = self._choice.integers(0, 100, len(writes)) < self._job.trim_percentage
            self._to_trim = np.concatenate([self._to_trim, writes[chosen]])
        most = self._job.trim_backlog_batch or self._job.trim_backlog
        now, self._to_trim = self._to_trim[:most], self._to_trim[most:]
        if len(now):
            now["direction"] = Direction.TRIM
            self._aside += len(now)
            yield now

    # --- afterwards ----------------------------------------------------------------------------

    def expected(self, max_blocks: int, zone_blocks: int) -> Iterator[npt.NDArray[np.void]]:
        """Yield what a state file knows of, as reads (IO_DTYPE), in pieces.

        No read crosses the end of a zone, if there are zones.
        """
        known = _within_zones(self.table.known(max_blocks), zone_blocks)
        while ranges := list(islice(known, _CHUNK)):
            reads = np.zeros(len(ranges), IO_DTYPE)
            reads["lba"], reads["blocks"] = zip(*ranges, strict=True)
            yield reads

    @property
    def resumes(self) -> bool:
        """Whether a state file says what has to be there."""
        return self._resumes

    def result(self, workload: Workload) -> VerifyResult:
        """Tell what was checked and what was found."""
        return VerifyResult(
            method=self._job.verify or "",
            blocks=self.verifier.checked * self.table.region.interval_blocks,
            faulty=workload.fault_count,
            faults=[
                VerifyFault(kind=fault.kind.value, lba=fault.lba, message=str(fault))
                for fault in workload.faults
            ],
        )

    def close(self) -> None:
        """Give the state file free."""
        self.table.close()

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _next(done: int, every: int) -> int:
    """Tell the number of writes at which it is time again; 0: never."""
    return done + every if every else 0


def _within_zones(ranges: Iterator[tuple[int, int]], zone_blocks: int) -> Iterator[tuple[int, int]]:
    """Cut (LBA, blocks) where a zone ends."""
    for lba, blocks in ranges:
        while zone_blocks and (room := zone_blocks - lba % zone_blocks) < blocks:
            yield lba, room
            lba, blocks = lba + room, blocks - room
        yield lba, blocks
