"""Results as JSON in fio's schema and units, and what fio has no place for beside it.

``jobs[]`` has the keys of fio 3.33, in its order and its units, so that what reads fio's output
reads this one. All that fio does not know stands in the object ``pynvme_user``, which carries a
format version of its own. The tables at the end of this module name each difference under
``jobs[]`` and its reason; a test holds them against fio itself.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.results import health
from pynvme_user.bench.results.aggregate import mixed
from pynvme_user.bench.results.result import (
    TOLD,
    Device,
    DirectionResult,
    Histogram,
    JobResult,
    RunResult,
    SteadyState,
    bucket_values,
    json_key,
)
from pynvme_user.bench.results.timeseries import AVERAGE_MS, NS_PER_MS, Spread, course, resample
from pynvme_user.workload.direction import DIRECTION_NAMES, Direction
from pynvme_user.workload.records import BUCKETS

#: Counts up when a key of ``pynvme_user`` changes its meaning or goes; not when one is added.
FORMAT_VERSION = 1

Object = dict[str, Any]

_DEPTH_KEYS = ("1", "2", "4", "8", "16", "32", ">=64")
_BATCH_KEYS = ("0", "4", "8", "16", "32", "64", ">=64")
_LATENCY_KEYS = ("2", "4", "10", "20", "50", "100", "250", "500", "750", "1000")
_LATENCY_MS_KEYS = (*_LATENCY_KEYS, "2000", ">=2000")


def document(run: RunResult, *, bins: bool = False) -> Object:
    """Make what ``--output-format json`` writes, or with ``bins`` json+."""
    ended = run.started + run.elapsed_ns / 1e9
    return {
        "fio version": f"pynvme_user-{version('pynvme_user')}",
        "timestamp": int(ended),
        "timestamp_ms": int(ended * 1000),
        "time": time.ctime(ended),
        "global options": dict(run.global_options),
        "jobs": [_job(run, job, bins) for job in run.jobs],
        "pynvme_user": _ours(run),
    }


def points(run: RunResult) -> list[RunResult]:
    """Take a sweep apart, one run for each of its points.

    Tools that know no sweeps, such as fio-plot, want a file for each point.
    """
    found: dict[tuple[tuple[str, int | str], ...], list[JobResult]] = {}
    for job in run.jobs:
        found.setdefault(tuple(job.point.items()), []).append(job)
    return [replace(run, jobs=jobs) for jobs in found.values()]


def _ms(ns: int) -> int:
    return ns // NS_PER_MS


def runtime_ms(ns: int) -> int:
    """Tell a run time in milliseconds, rounded up as fio does: one that was is never 0."""
    return -(-ns // NS_PER_MS)


def _number(value: float) -> float:
    return round(float(value), 6)  # fio's "%f"


# --- jobs[]: fio's keys -------------------------------------------------------------------------


def _job(run: RunResult, job: JobResult, bins: bool) -> Object:
    entry: Object = {
        "jobname": job.name,
        "groupid": job.group,
        "error": error_number(job),
        "eta": 0,
        "elapsed": max(1, round(run.elapsed_ns / 1e9)),
        "job options": _job_options(run, job),
    }
    if job.unified_rw_reporting != "mixed":
        for direction, name in zip(Direction, DIRECTION_NAMES, strict=True):
            group = group_bandwidth(run.jobs, job.group, direction)
            entry[name] = _direction(job, job.directions[direction], group, bins)
        flushes = job.clat_percentiles or job.lat_percentiles
        entry["sync"] = {
            "total_ios": job.flush.count,
            "lat_ns": _latency(job.flush, job.percentile_list, flushes, bins),
        }
    if job.unified_rw_reporting != "none":
        group = group_bandwidth(run.jobs, job.group, None)
        entry["mixed"] = _direction(job, mixed(job), group, bins)
    # fio's members are tasks of their own, whose CPU times are taken over their summed run times.
    ran = job.runtime_ns * job.threads
    entry |= {
        "job_runtime": runtime_ms(job.runtime_ns * job.members),
        "usr_cpu": _number(100 * job.cpu.user_ns / ran if ran else 0.0),
        "sys_cpu": _number(100 * job.cpu.system_ns / ran if ran else 0.0),
        "ctx": job.cpu.context_switches,
        "majf": job.cpu.major_faults,
        "minf": job.cpu.minor_faults,
        "iodepth_level": _shares(_DEPTH_KEYS, job.depths.level, 0.1),
        "iodepth_submit": _shares(_BATCH_KEYS, job.depths.submit, 0.1),
        "iodepth_complete": _shares(_BATCH_KEYS, job.depths.complete, 0.1),
    }
    nano, micro, milli = latency_classes([result.clat for result in job.directions])
    entry["latency_ns"] = nano
    entry["latency_us"] = micro
    entry["latency_ms"] = milli
    if job.failed:
        entry["total_err"] = job.failed
        entry["first_error"] = errno.EIO
    target = job.latency_target
    entry |= {
        "latency_depth": target.depth if target else job.iodepth,
        "latency_target": target.target_ns if target else 0,
        "latency_percentile": _number(target.percentile if target else 100.0),
        "latency_window": target.window_us if target else 0,
    }
    if job.description:
        entry["desc"] = job.description
    if job.steady_state:
        entry["steadystate"] = _steady_state(job.steady_state)
    return entry


def error_number(job: JobResult) -> int:
    """Tell the errno that fio would end such a job with: EILSEQ is its word for bad data."""
    if job.verify and job.verify.faulty:
        return errno.EILSEQ
    return 0 if job.ok else errno.EIO


def _job_options(run: RunResult, job: JobResult) -> dict[str, str]:
    # fio-plot sorts by these four and finds no default; so they are written even if they were not.
    writes = "write" in job.rw or job.rw == "zone-append"
    way = Direction.WRITE if writes else Direction.TRIM if "trim" in job.rw else Direction.READ
    low, high = job.block_sizes[way]
    resolved = {
        "rw": job.rw,
        "bs": str(low) if low == high else f"{low}-{high}",
        "iodepth": str(job.iodepth),
        "numjobs": str(job.numjobs),
    }
    written = dict(job.options)
    for name, value in resolved.items():
        if name not in run.global_options:
            written.setdefault(name, value)
    return written


def _direction(job: JobResult, result: DirectionResult, group: float, bins: bool) -> Object:
    bandwidth = int(result.bytes_per_second)
    bw, iops = spreads(job, result)
    return {
        "io_bytes": result.bytes,
        "io_kbytes": result.bytes >> 10,
        "bw_bytes": bandwidth,
        "bw": bandwidth >> 10,
        "iops": _number(result.iops),
        "runtime": runtime_ms(result.runtime_ns),
        "total_ios": result.ios,
        "short_ios": result.short,
        "drop_ios": result.drops,
        "slat_ns": _latency(result.slat, job.percentile_list, job.slat_percentiles, bins),
        "clat_ns": _latency(result.clat, job.percentile_list, job.clat_percentiles, bins),
        # What leads everywhere else: as fio has it with lat_percentiles=1.
        "lat_ns": _latency(result.lat, job.percentile_list, job.lat_percentiles, bins),
        "bw_min": int(bw.min),
        "bw_max": int(bw.max),
        "bw_agg": _number(share_of_group(bw, group)),
        "bw_mean": _number(bw.mean),
        "bw_dev": _number(bw.stddev),
        "bw_samples": bw.samples,
        "iops_min": int(iops.min),
        "iops_max": int(iops.max),
        "iops_mean": _number(iops.mean),
        "iops_stddev": _number(iops.stddev),
        "iops_samples": iops.samples,
    }


def spreads(job: JobResult, result: DirectionResult) -> tuple[Spread, Spread]:
    """Tell how bandwidth (KiB/s) and IOPS varied over the job's intervals for each."""
    bandwidth = course(result.samples, job.bwavgtime_ms).bytes_per_second / 1024
    iops = course(result.samples, job.iopsavgtime_ms).iops
    # As in fio, an interval in which nothing completed is not one of them.
    return Spread.of(bandwidth[bandwidth > 0]), Spread.of(iops[iops > 0])


def share_of_group(bw: Spread, group: float) -> float:
    """Tell the percent that a bandwidth (KiB/s) is of its group's (bytes per second)."""
    if not bw.samples:
        return 0.0
    return min(100.0 * bw.mean / (group / 1024), 100.0) if group > 1024 else 100.0


def group_bandwidth(jobs: Iterable[JobResult], group: int, direction: Direction | None) -> float:
    """Tell the bytes per second of a reporting group: its bytes over its longest run time.

    None stands for all directions together.
    """
    results = [
        mixed(job) if direction is None else job.directions[direction]
        for job in jobs
        if job.group == group
    ]
    longest = max((result.runtime_ns for result in results), default=0)
    return 1e9 * sum(result.bytes for result in results) / longest if longest else 0.0


def _latency(
    histogram: Histogram, wanted: Iterable[float], percentiles: bool, bins: bool
) -> Object:
    entry: Object = {
        "min": histogram.min,
        "max": histogram.max,
        "mean": _number(histogram.mean),
        "stddev": _number(histogram.stddev),
        "N": histogram.count,
    }
    if percentiles and histogram.count:
        found = histogram.percentiles(wanted)
        entry["percentile"] = {f"{share:f}": value for share, value in found.items()}
        if bins:
            filled = np.flatnonzero(histogram.counts)
            values = bucket_values(filled)
            entry["bins"] = {
                str(value): int(count)
                for value, count in zip(values, histogram.counts[filled], strict=True)
            }
    return entry


def _shares(keys: tuple[str, ...], counts: npt.NDArray[Any], least: float) -> dict[str, float]:
    """Write counts as percent; one that is there at all is at least ``least``, as in fio."""
    total = int(counts.sum())
    shares = [100 * int(count) / total if total else 0.0 for count in counts]
    return {
        key: _number(max(share, least) if count else 0.0)
        for key, share, count in zip(keys, shares, counts, strict=True)
    }


# Upper ends of fio's latency classes in nanoseconds; what is above 2 s is the last class.
_CLASS_ENDS = [
    float(key) * unit
    for unit, keys in ((1, _LATENCY_KEYS), (1e3, _LATENCY_KEYS), (1e6, _LATENCY_MS_KEYS[:-1]))
    for key in keys
]
_CLASS_OF_BUCKET = np.searchsorted(_CLASS_ENDS, bucket_values(np.arange(BUCKETS)), side="right")


def latency_classes(
    histograms: Iterable[Histogram],
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Sort latencies into fio's classes: percent for nano-, micro-, milliseconds.

    The classes are made of the histogram's buckets, which costs nothing per I/O; a latency within
    one bucket (1/64 of its value) of a class's end may be counted on its other side.
    """
    counts = sum((one.counts for one in histograms), np.zeros(BUCKETS, np.uint64))
    classes = np.bincount(_CLASS_OF_BUCKET, counts, len(_CLASS_ENDS) + 1).astype(np.uint64)
    keys = (*_LATENCY_KEYS, *_LATENCY_KEYS, *_LATENCY_MS_KEYS)
    shares = [*_shares(tuple(str(i) for i in range(len(keys))), classes, 0.01).values()]
    return (
        dict(zip(_LATENCY_KEYS, shares[:10], strict=True)),
        dict(zip(_LATENCY_KEYS, shares[10:20], strict=True)),
        dict(zip(_LATENCY_MS_KEYS, shares[20:], strict=True)),
    )


def _steady_state(state: SteadyState) -> Object:
    percent = "%" if state.percent else ""
    data: Object = {
        "bw_mean": int(np.mean(state.bw)) if state.bw else 0,
        "iops_mean": int(np.mean(state.iops)) if state.iops else 0,
    }
    if state.lat_ns:
        data |= {"lat_mean": int(np.mean(state.lat_ns)), "lat_ns": state.lat_ns}
    data |= {"iops": state.iops, "bw": state.bw}
    return {
        "ss": f"{state.metric}:{state.limit:f}{percent}",
        "duration": int(state.duration),
        "attained": int(state.attained),
        "criterion": f"{state.criterion:f}{percent}",
        "max_deviation": _number(state.max_deviation),
        "slope": _number(state.slope),
        "data": data,
    }


# --- pynvme_user: what fio has no place for -----------------------------------------------------


def _ours(run: RunResult) -> Object:
    return {
        "format_version": FORMAT_VERSION,
        "version": version("pynvme_user"),
        "command": run.command,
        "ok": run.ok,
        "interrupted": run.interrupted,
        "failure": run.failure,
        "warnings": list(run.warnings),
        "machine": dict(run.machine),
        "health": [health.as_json(one) for one in run.health],
        "jobs": [_our_job(job) for job in run.jobs],
    }


def _our_job(job: JobResult) -> Object:
    names = DIRECTION_NAMES
    return {
        "jobname": job.name,
        "number": job.number,
        "members": job.members,
        "queues": job.queues,
        "threads": job.threads,
        "rw": job.rw,
        "bs": {name: list(job.block_sizes[d]) for d, name in enumerate(names)},
        "iodepth": job.iodepth,
        "numjobs": job.numjobs,
        "mode": job.mode,
        "point": dict(job.point),
        "device": _device(job.device),
        "devices": [_device(device) for device in job.devices or (job.device,)],
        "start_ms": _ms(job.start_ns),
        "runtime_ms": runtime_ms(job.runtime_ns),
        "failed": {name: job.directions[d].failed for d, name in enumerate(names)},
        "errors": [
            {"status": status, "name": job.error_names.get(status, ""), "ios": ios}
            for status, ios in sorted(job.errors.items())
        ],
        "failure": job.failure,
        "per_io": per_io(job),
        "interrupts": job.costs.interrupts,
        "polls": job.costs.polls,
        "empty_polls": job.costs.empty_polls,
        "verify": _verify(job),
        "rounds": asdict(job.rounds) if job.rounds else None,
        "latency_target_met": job.latency_target.met if job.latency_target else None,
        "samples": {name: _samples(job.directions[d]) for d, name in enumerate(names)},
    }


def _device(device: Device) -> Object:
    return {
        "name": device.name,
        "nsid": device.nsid,
        "access": device.access,
        "model": device.model,
        "serial": device.serial,
        "firmware": device.firmware,
        "emulated": device.emulated,
        "block_size": device.block_size,
        "blocks": device.blocks,
        "notes": list(device.notes),
    }


def per_io(job: JobResult) -> dict[str, float | None]:
    """Tell what one I/O cost the driver; None: not counted on this machine, or no I/O."""
    # Flushes are commands, too: they are submitted, completed and rung for like the others.
    commands = sum(result.ios + result.failed for result in job.directions) + job.flush.count
    costs = job.costs

    def each(value: float | None, scale: float = 1.0) -> float | None:
        return None if value is None or not commands else _number(value * scale / commands)

    ns = 1e9 / costs.ticks_per_second if costs.ticks_per_second else None
    return {
        "submit_ns": each(costs.submit_ticks, ns) if ns else None,
        "complete_ns": each(costs.complete_ticks, ns) if ns else None,
        "submit_ticks": each(costs.submit_ticks),
        "complete_ticks": each(costs.complete_ticks),
        "submit_instructions": each(costs.submit_instructions),
        "complete_instructions": each(costs.complete_instructions),
        "sq_doorbells": each(costs.sq_doorbells),
        "cq_doorbells": each(costs.cq_doorbells),
        "mmio_writes": each(costs.sq_doorbells + costs.cq_doorbells),
        "mmio_reads": each(costs.mmio_reads),
        "cpu_ns": each(job.cpu.user_ns + job.cpu.system_ns),
    }


def _verify(job: JobResult) -> Object | None:
    if job.verify is None:
        return None
    return {
        "method": job.verify.method,
        "blocks": job.verify.blocks,
        "faulty": job.verify.faulty,
        "faults": [
            {"kind": fault.kind, "lba": fault.lba, "message": fault.message}
            for fault in job.verify.faults
        ],
    }


def _samples(result: DirectionResult) -> dict[str, list[int]]:
    """Write the run's course as columns, summed up to half seconds."""
    summed = resample(result.samples, AVERAGE_MS)
    return {
        json_key(name): (summed[name] // (NS_PER_MS if name.endswith("_ns") else 1)).tolist()
        for name in TOLD
    }


# --- where jobs[] differs from fio's, and why ---------------------------------------------------

#: Keys under jobs[] that fio 3.33 does not write for the same job; ``*`` stands for any one key.
ADDED: Mapping[str, str] = {
    "*.lat_ns.percentile*": "fio has them with lat_percentiles=1, which is the default here",
    "*.lat_ns.bins*": "as the percentiles",
    "*.*.percentile.99.999000": "fio's own list ends at 99.99; fast devices make enough I/Os",
    "*.*.percentile.99.999900": "fio's own list ends at 99.99; fast devices make enough I/Os",
    "total_err": "fio counts errors with continue_on_error only; here they always are",
    "first_error": "as total_err",
    "job options.rw": "fio-plot needs it, and fio writes it only where the job gives it",
    "job options.bs": "as rw",
    "job options.iodepth": "as rw",
    "job options.numjobs": "as rw",
}

#: Keys under jobs[] that fio 3.33 writes and that are not here.
LEFT_OUT: Mapping[str, str] = {}
