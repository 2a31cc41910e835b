"""Logs over time: fio's bandwidth, IOPS, latency and histogram logs.

A line is the end of an interval (or of one I/O) in milliseconds since the job's measured part
began, the value, the direction (0 read, 1 write, 2 trim), the block size in bytes (0 for an
interval), with `offsets` the byte offset, and the command's priority (always 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.results.result import IntervalHistogram, JobResult
from pynvme_user.bench.results.timeseries import NS_PER_MS, resample, spans, windows
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKETS, LATENCIES

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LogStyle:
    """How the logs of a job are written; the names are those of fio's options."""

    log_avg_msec: int = 0  # 0: a line for each I/O, of the job's io_log
    log_max_value: bool = False  # of an interval the greatest value, not the average
    log_offset: bool = False
    per_job_logs: bool = True  # False: all jobs add to one file without a number
    epoch_ms: int = 0  # added to the times: when the job began, for log_unix_epoch
    log_hist_coarseness: int = 0  # each step halves the number of a histogram's counts


PLAIN = LogStyle()


def write_bw_log(job: JobResult, prefix: str, style: LogStyle = PLAIN) -> list[Path]:
    """Write ``PREFIX_bw.N.log``, values in KiB/s, and return its path.

    The value of a single I/O is its size over its latency, as fio has it. Raises ValueError when
    the job kept no log of its I/Os, and OSError.
    """
    return [
        _write(
            job,
            prefix,
            "bw",
            style,
            _lines(
                job,
                style,
                lambda summed, seconds: summed["bytes"] / 1024 / seconds,
                lambda io: io["bytes"] * 1e9 / 1024 / np.maximum(io["lat"], 1),
                job.bwavgtime_ms,
            ),
        )
    ]


def write_iops_log(job: JobResult, prefix: str, style: LogStyle = PLAIN) -> list[Path]:
    """Write ``PREFIX_iops.N.log`` and return its path; the value of a single I/O is 1."""
    lines = _lines(
        job,
        style,
        lambda summed, seconds: summed["ios"] / seconds,
        lambda io: np.ones(io.size),
        job.iopsavgtime_ms,
    )
    return [_write(job, prefix, "iops", style, lines)]


def write_lat_log(job: JobResult, prefix: str, style: LogStyle = PLAIN) -> list[Path]:
    """Write ``PREFIX_slat``, ``_clat`` and ``_lat.N.log``, values in nanoseconds; return the paths.

    The value of an interval is the mean of the I/Os that completed in it, or the greatest.
    """
    most = style.log_max_value

    def lines(kind: str) -> Iterable[str]:
        return _lines(
            job,
            style,
            lambda summed, _: (
                summed[f"{kind}_max"]
                if most
                else summed[f"{kind}_sum"] / np.maximum(summed["ios"], 1)
            ),
            lambda io: io[kind],
            style.log_avg_msec,
        )

    return [_write(job, prefix, kind, style, lines(kind)) for kind in LATENCIES]


def write_hist_log(job: JobResult, prefix: str, style: LogStyle = PLAIN) -> list[Path]:
    """Write ``PREFIX_clat_hist.N.log``: the counts of each interval's completion latencies."""

    def lines() -> Iterator[str]:
        for direction, interval in _intervals(job):
            merged = interval.clat.reshape(BUCKETS >> style.log_hist_coarseness, -1).sum(axis=1)
            counts = ", ".join(str(count) for count in merged.tolist())
            end = interval.end_ns // NS_PER_MS + style.epoch_ms
            yield f"{end}, {direction:d}, {job.block_sizes[direction][1]}, {counts}"

    return [_write(job, prefix, "clat_hist", style, lines())]


def _lines(
    job: JobResult,
    style: LogStyle,
    of_interval: Callable[[Array, Array], Array],
    of_one: Callable[[Array], Array],
    sampled_ms: int,
) -> Iterable[str]:
    rows = _rows_of_intervals(job, style, of_interval, sampled_ms) if style.log_avg_msec else None
    tail = ", {4}, 0" if style.log_offset else ", 0"
    return (
        f"{row[0] + style.epoch_ms}, {row[1]}, {row[2]}, {row[3]}" + tail.format(*row)
        for row in (_rows_of_ios(job, of_one) if rows is None else rows)
    )


# A row is end (ms), value, direction, block size, offset.
_Row = tuple[int, int, int, int, int]


def _rows_of_intervals(
    job: JobResult, style: LogStyle, value: Callable[[Array, Array], Array], sampled_ms: int
) -> list[_Row]:
    """Make a row of each interval; the greatest value is that of its samples of ``sampled_ms``."""
    rows: list[_Row] = []
    for direction in Direction:
        samples = job.directions[direction].samples
        summed = resample(samples, style.log_avg_msec)
        found = value(summed, np.maximum(spans(summed), 1e-9))
        if style.log_max_value and sampled_ms < style.log_avg_msec and samples.size:
            parts = resample(samples, sampled_ms)
            number = windows(parts, style.log_avg_msec)
            first = np.flatnonzero(np.diff(number, prepend=np.uint64(1) + number[0]))
            found = np.maximum.reduceat(value(parts, np.maximum(spans(parts), 1e-9)), first)
        values = np.rint(found).astype(np.int64).tolist()
        # fio has no line for a direction in which nothing completed.
        rows += [
            (int(one["end_ns"]) // NS_PER_MS, known, int(direction), 0, 0)
            for one, known in zip(summed, values, strict=True)
            if one["ios"]
        ]
    return sorted(rows, key=lambda row: (row[0], row[2]))


def _rows_of_ios(job: JobResult, value: Callable[[Array], Array]) -> Iterable[_Row]:
    if job.io_log is None:
        raise ValueError(f"job {job.name} kept no log of its I/Os: set log_avg_msec")
    io = job.io_log
    return zip(
        (io["end_ns"] // np.uint64(NS_PER_MS)).tolist(),
        np.rint(value(io)).astype(np.uint64).tolist(),
        io["direction"].tolist(),
        io["bytes"].tolist(),
        io["offset"].tolist(),
        strict=True,
    )


def _intervals(job: JobResult) -> list[tuple[Direction, IntervalHistogram]]:
    found = [(way, interval) for way in Direction for interval in job.directions[way].intervals]
    return sorted(found, key=lambda entry: (entry[1].end_ns, entry[0]))


def _write(job: JobResult, prefix: str, kind: str, style: LogStyle, lines: Iterable[str]) -> Path:
    number = f".{job.number}" if style.per_job_logs else ""
    path = Path(f"{prefix}_{kind}{number}.log")
    try:
        with path.open("w" if style.per_job_logs else "a", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        error.filename = str(path)
        raise
    return path
