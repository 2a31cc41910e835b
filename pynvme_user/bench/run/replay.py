"""The I/Os of a trace, as they are done on a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs import iolog
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError, Trace
from pynvme_user.bench.run.target import Target
from pynvme_user.driver.nvm_commands import MAX_RANGE_BLOCKS
from pynvme_user.native import tick_rate
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.records import FLUSH, IO_DTYPE

_NS = 1_000_000_000
#: C counts the bytes of an I/O in 32 bits.
_LARGEST_IO = (1 << 32) - 1


class Replay:
    """What a job's trace has, in the ``length`` bytes from ``offset`` on of its namespace.

    An I/O takes 24 bytes of memory, 16 with replay_no_stall. Raises JobError, with the line.
    """

    def __init__(self, job: Job, target: Target, trace: Trace, offset: int, length: int) -> None:
        assert job.read_iolog is not None, "what the trace was read from"
        self._job, self._target = job, target
        self._offset, self._length = offset, length
        count = min(trace.ios, job.number_ios or trace.ios)
        self._ios = np.zeros(count, IO_DTYPE)
        self._due = None if job.replay_no_stall else np.zeros(count, np.uint64)
        self._left = job.loops - 1
        #: I/Os that lay beyond the range.
        self.wrapped = 0
        done = 0
        for made in iolog.read(job.read_iolog, job.replay_skip, trace.action):
            part = made[: count - done]
            self._add(part, slice(done, done + len(part)), trace.first_ns)
            done += len(part)
            if done == count:
                break
        if done < count:
            raise JobError(f"{job.read_iolog} changed while it was read")
        #: Bytes in all.
        self.bytes = int(self._ios["blocks"].sum(dtype=np.uint64)) * target.block_bytes

    def _add(self, made: npt.NDArray[np.void], place: slice, first_ns: int) -> None:
        job, target = self._job, self._target
        offset = made["offset"] // np.uint64(job.replay_scale)
        if job.replay_align:
            offset &= ~np.uint64(job.replay_align - 1)
        self._check(made, offset)
        size = np.uint64(target.block_bytes)
        lba, blocks = offset // size, made["bytes"] // size
        room = np.uint64(self._length) // size
        beyond = lba + blocks > room
        self.wrapped += int(np.count_nonzero(beyond))
        # One that would cross the end ends there.
        lba = np.where(beyond, np.minimum(lba % room, room - np.minimum(blocks, room)), lba)
        ios = self._ios[place]
        ios["lba"] = lba + (np.uint64(self._offset) // size)
        ios["lba"][made["direction"] == FLUSH] = 0
        ios["blocks"], ios["direction"] = blocks, made["direction"]
        if self._due is not None:
            # A time before the first one's is now.
            since = np.maximum(made["ns"], np.uint64(first_ns)) - np.uint64(first_ns)
            ticks = tick_rate() / _NS * 100 / job.replay_time_scale
            self._due[place] = (since * ticks).astype(np.uint64)

    def _check(self, made: npt.NDArray[np.void], offset: npt.NDArray[np.uint64]) -> None:
        target, size = self._target, self._target.block_bytes
        name = target.device.name
        limits = target.ns.limits
        most = min(limits.dmrsl or MAX_RANGE_BLOCKS, limits.dmsl or MAX_RANGE_BLOCKS) * size
        for wrong, why in (
            (
                made["bytes"] % np.uint64(size) != 0,
                f"its length is not whole blocks of {size}, which {name} has: replay it on a "
                "namespace of smaller blocks",
            ),
            (
                offset % np.uint64(size) != 0,
                f"its offset is not whole blocks of {size}, which {name} has: give "
                f"replay_align={size}, or replay it on a namespace of smaller blocks",
            ),
            (made["bytes"] > _LARGEST_IO, "an I/O has less than 4 GiB"),
            (
                made["bytes"] > self._length,
                f"it is longer than the range of {self._length} bytes: give more size",
            ),
            (
                (made["direction"] == Direction.TRIM) & (made["bytes"] > most),
                f"{name} deallocates up to {most} bytes in one range: leave it out by "
                "replay_skip=trim",
            ),
        ):
            if wrong.any():
                one = made[np.argmax(wrong)]
                raise JobError(
                    f"job {self._job.name!r}: {self._job.read_iolog}, line {one['line']}: an I/O "
                    f"of {one['bytes']} bytes at {one['offset']}: {why}"
                )

    @property
    def notes(self) -> list[str]:
        """What the results have to say of it."""
        if not self.wrapped:
            return []
        return [
            f"has a trace of which {self.wrapped} of {len(self._ios)} I/Os lie beyond its range of "
            f"{self._length} bytes: they began anew at its start (replay_scale= divides offsets)"
        ]

    def begin(self, workload: Workload) -> None:
        """Let the first I/O be next, and the others follow in their time."""
        workload.go_through(self._ios, due=self._due)

    def begins_again(self, workload: Workload) -> bool:
        """Begin anew where the trace is over, if the job wants that; tell whether it did."""
        if not workload.exhausted or not (self._job.time_based or self._left):
            return False
        self._left -= not self._job.time_based
        self.begin(workload)
        return True


def replay(job: Job, target: Target, offset: int, length: int) -> Replay | None:
    """Read the job's trace, if it has one. Raises JobError."""
    return None if job.trace is None else Replay(job, target, job.trace, offset, length)
