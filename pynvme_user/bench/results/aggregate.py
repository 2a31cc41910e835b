"""Jobs taken together: the clones of one job (group_reporting), the points of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from pynvme_user.bench.results.result import (
    Costs,
    Counts,
    CpuUsage,
    Depths,
    Device,
    DirectionResult,
    Histogram,
    JobResult,
    VerifyResult,
)
from pynvme_user.bench.results.timeseries import add_up


def combine(jobs: Sequence[JobResult]) -> JobResult:
    """Make one result of jobs that ran side by side, named and described by the first of them.

    Counts add up and the run time is the longest. Logs of single I/Os, a steady state, rounds and a
    latency target stay with the jobs that they belong to: they are not in the result.
    """
    first = jobs[0]
    reads, writes, trims = (
        _direction([job.directions[direction] for job in jobs]) for direction in range(3)
    )
    return replace(
        first,
        members=sum(job.members for job in jobs),
        queues=sum(job.queues for job in jobs),
        threads=round(sum(job.threads for job in jobs), 3),
        devices=_devices(jobs),
        start_ns=min(job.start_ns for job in jobs),
        runtime_ns=max(job.runtime_ns for job in jobs),
        directions=(reads, writes, trims),
        flush=_histogram(job.flush for job in jobs),
        depths=Depths(
            level=_sum([job.depths.level for job in jobs]),
            submit=_sum([job.depths.submit for job in jobs]),
            complete=_sum([job.depths.complete for job in jobs]),
        ),
        cpu=CpuUsage(
            *(sum(getattr(job.cpu, field.name) for job in jobs) for field in fields(CpuUsage))
        ),
        costs=_costs(jobs),
        errors=_add_counts(job.errors for job in jobs),
        failure="; ".join(dict.fromkeys(job.failure for job in jobs if job.failure)),
        error_names={status: name for job in jobs for status, name in job.error_names.items()},
        verify=_verify([job.verify for job in jobs if job.verify]),
        steady_state=None,
        rounds=None,
        latency_target=None,
        io_log=None,
        issued=None,
    )


def whole_jobs(parts: Iterable[JobResult]) -> list[JobResult]:
    """Make one result of the parts that a job has on several devices; their depths add up."""
    jobs: dict[tuple[int, int], list[JobResult]] = {}
    for place, part in enumerate(parts):
        jobs.setdefault((part.first, 0 if part.first else place), []).append(part)
    return [
        replace(combine(same), members=1, first=0, iodepth=sum(part.iodepth for part in same))
        if same[1:]
        else same[0]
        for same in jobs.values()
    ]


def _devices(jobs: Sequence[JobResult]) -> tuple[Device, ...]:
    every = dict.fromkeys(device for job in jobs for device in (job.devices or (job.device,)))
    return tuple(every) if len(every) > 1 else ()


def combine_groups(jobs: Iterable[JobResult]) -> list[JobResult]:
    """Combine the clones of each job: those of one name, group and place in a sweep."""
    clones: dict[object, list[JobResult]] = {}
    for job in whole_jobs(jobs):
        clones.setdefault((job.name, job.group, tuple(job.point.items())), []).append(job)
    return [combine(same) if len(same) > 1 else same[0] for same in clones.values()]


def mixed(job: JobResult) -> DirectionResult:
    """Make one result of all directions of a job (unified_rw_reporting)."""
    together = _direction(job.directions)
    # The directions' phases may be one after the other.
    return replace(together, runtime_ns=job.runtime_ns if together.ios else 0)


def _direction(parts: Sequence[DirectionResult]) -> DirectionResult:
    return DirectionResult(
        ios=sum(part.ios for part in parts),
        bytes=sum(part.bytes for part in parts),
        runtime_ns=max(part.runtime_ns for part in parts),
        failed=sum(part.failed for part in parts),
        short=sum(part.short for part in parts),
        drops=sum(part.drops for part in parts),
        slat=_histogram(part.slat for part in parts),
        clat=_histogram(part.clat for part in parts),
        lat=_histogram(part.lat for part in parts),
        samples=add_up(part.samples for part in parts),
    )


def _histogram(parts: Iterable[Histogram]) -> Histogram:
    together = Histogram()
    for part in parts:
        together.add(part)
    return together


def _sum(parts: Sequence[Counts]) -> Counts:
    return np.asarray(np.sum(parts, axis=0, dtype=np.uint64))


def _costs(jobs: Sequence[JobResult]) -> Costs:
    def add(name: str) -> int | None:
        counts = [getattr(job.costs, name) for job in jobs]
        return None if None in counts else sum(counts)

    together: dict[str, Any] = {field.name: add(field.name) for field in fields(Costs)}
    # All threads read the one time-stamp counter of the machine.
    together["ticks_per_second"] = jobs[0].costs.ticks_per_second
    return Costs(**together)


def _add_counts(parts: Iterable[dict[int, int]]) -> dict[int, int]:
    together: dict[int, int] = {}
    for part in parts:
        for status, count in part.items():
            together[status] = together.get(status, 0) + count
    return together


def _verify(parts: Sequence[VerifyResult]) -> VerifyResult | None:
    if not parts:
        return None
    return VerifyResult(
        parts[0].method,
        sum(part.blocks for part in parts),
        sum(part.faulty for part in parts),
        [fault for part in parts for fault in part.faults],
    )
