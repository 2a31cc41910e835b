"""What one part of a run came to, as the results have it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.results.result import Device, JobResult, VerifyResult
from pynvme_user.bench.run.limits import Limits
from pynvme_user.workload.direction import Direction


def job_result(
    job: Job,
    device: Device,
    limits: Limits,
    *,
    start_ns: int,
    error: Exception | None,
    verify: VerifyResult | None,
    measured: Mapping[str, Any],
) -> JobResult:
    """Bring together what the job says, what ended it, and the fields that were measured.

    ``start_ns`` is from the run's start to that of the measured part.
    """
    sizes = [job.block_sizes[direction] for direction in Direction]
    return JobResult(
        name=job.name,
        rw=job.rw,
        device=device,
        iodepth=job.iodepth,
        block_sizes=tuple((of.smallest, of.largest) for of in sizes),  # type: ignore[arg-type]
        number=job.number,
        first=job.number - job.share if job.shares > 1 else 0,
        group=job.reporting_group,
        mode=job.mode,
        numjobs=job.numjobs,
        queues=job.queues,
        threads=job.threads,
        # As fio has it: without [global]'s, and without what only parts the jobs.
        options={
            name: text
            for name, text in job.given
            if (name, text) not in job.shared and name != "stonewall"
        },
        point=dict(job.point),
        description=job.description,
        pid=os.getpid(),
        start_ns=start_ns,
        failure=limits.failure or str(error or ""),
        verify=verify,
        steady_state=limits.steady,
        rounds=limits.rounds.found,
        latency_target=limits.latency_target,
        percentile_list=job.percentile_list,
        slat_percentiles=job.slat_percentiles,
        clat_percentiles=job.clat_percentiles,
        lat_percentiles=job.lat_percentiles,
        unified_rw_reporting=job.unified_rw_reporting,
        bwavgtime_ms=_ms(job.bwavgtime),
        iopsavgtime_ms=_ms(job.iopsavgtime),
        **measured,
    )


def averaged_ms(job: Job) -> set[int]:
    """Tell the lengths of the intervals, in milliseconds, that anything is averaged over."""
    lengths = {_ms(job.bwavgtime), _ms(job.iopsavgtime)}
    return lengths | ({job.log_avg_msec} if job.log_avg_msec else set())


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
