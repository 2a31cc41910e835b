"""What a job's writes carry: random bytes, a pattern or zeroes; parts of it again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.dma import DmaBuffer
from pynvme_user.workload.loop import Contents

#: Between the seeds of a job's queues; odd, and far from those of jobs.
_SEED_STEP = 0xD1342543DE82EF95


def fill(buffer: DmaBuffer, job: Job) -> None:
    """Fill a buffer with what the job writes, each piece of it with other random bytes."""
    _contents(job).fill(buffer)


def contents(job: Job, length: int, sharing: Sequence[int]) -> Contents | None:
    """Tell what each write gets anew; None where it carries what is in its buffer.

    ``length`` is that of the range, in bytes; ``sharing`` are the seeds of all queues of the run
    that share what is repeated, with dedupe_global. Raises JobError.
    """
    if job.verify is not None or not (job.refill_buffers or job.scramble_buffers):
        return None
    if not job.refill_buffers:
        return _contents(job, scramble=True)
    if not job.dedupe_percentage or job.dedupe_mode == "repeat":
        return _contents(job, repeat_percent=job.dedupe_percentage)
    unit = _unit(job)
    working_set = length * job.dedupe_working_set_percentage // 100 // unit
    if not working_set:
        raise JobError(
            f"job {job.name!r}: {job.dedupe_working_set_percentage}% of its range of {length} "
            f"bytes hold no block of {unit}: give more size or dedupe_working_set_percentage"
        )
    pool = tuple(sharing) if job.dedupe_global else (job.seed,)
    return _contents(
        job,
        repeat_percent=job.dedupe_percentage,
        pool=pool,
        pool_each=max(1, working_set // len(pool)),
    )


def contents_of(made: Contents | None, queue: int) -> Contents | None:
    """Tell what each write of one of the job's queues gets: none has another's."""
    if made is None or not queue:
        return made
    return replace(made, seed=(made.seed + queue * _SEED_STEP) % 2**64)


def shares_contents(job: Job) -> bool:
    """Tell whether other jobs repeat what this one writes, too."""
    return job.dedupe_global and bool(job.dedupe_percentage) and job.destructive


def _unit(job: Job) -> int:
    """Tell the smallest write: what is equal or not, as a whole."""
    return job.block_sizes[1].smallest


def _contents(
    job: Job,
    *,
    repeat_percent: int = 0,
    pool: tuple[int, ...] = (),
    pool_each: int = 0,
    scramble: bool = False,
) -> Contents:
    """As fio has it: the end of each chunk is the pattern, or zeroes, so that it can be compressed.

    Without a share of it the pattern, if there is one, is all of it, but of what is repeated or
    not: that is random.
    """
    unit = _unit(job)
    chunk = min(job.buffer_compress_chunk or unit, unit)
    dull = chunk * job.buffer_compress_percentage // 100
    plain = not job.buffer_compress_percentage and not job.dedupe_percentage
    if plain and (job.zero_buffers or job.buffer_pattern):
        chunk = dull = unit
    return Contents(
        seed=job.seed,
        unit=unit,
        chunk=chunk,
        dull=dull,
        pattern=b"" if plain and job.zero_buffers else job.buffer_pattern,
        repeat_percent=repeat_percent,
        pool=pool,
        pool_each=pool_each,
        scramble=scramble,
    )
