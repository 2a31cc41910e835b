"""fio's terse output: a line of semicolon-separated fields for each job.

The fields and their order are those of fio 3.33 for its terse versions 3, 4 and 5; a test holds
them against fio itself. Of disks fio adds figures of the kernel's block layer, which is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EIO
from importlib.metadata import version

from pynvme_user.bench.jobs.terms import MOST_PERCENTILES
from pynvme_user.bench.results.aggregate import mixed
from pynvme_user.bench.results.fio_json import (
    error_number,
    group_bandwidth,
    latency_classes,
    runtime_ms,
    share_of_group,
    spreads,
)
from pynvme_user.bench.results.result import DirectionResult, Histogram, JobResult, RunResult
from pynvme_user.spec.text import printable
from pynvme_user.workload.direction import Direction

#: fio's; version 3 is its default. 4 adds trims, 5 samples and the spread of the IOPS.
VERSIONS = (3, 4, 5)


def terse(run: RunResult, layout: int = 3) -> Iterator[str]:
    """Write each job as a line of fio's terse version ``layout``."""
    for job in run.jobs:
        yield printable(";".join(_fields(run, job, layout)))


def _fields(run: RunResult, job: JobResult, layout: int) -> Iterator[str]:
    yield from (str(layout), f"pynvme_user-{version('pynvme_user')}", job.name)
    yield from (str(job.group), str(error_number(job)))
    shown = [Direction.READ, Direction.WRITE, Direction.TRIM][: 2 if layout == 3 else 3]
    if job.unified_rw_reporting == "mixed":
        group = group_bandwidth(run.jobs, job.group, None)
        yield from _direction(job, mixed(job), group, layout)
    else:
        for direction in shown:
            group = group_bandwidth(run.jobs, job.group, direction)
            yield from _direction(job, job.directions[direction], group, layout)
    if job.unified_rw_reporting == "both":
        group = group_bandwidth(run.jobs, job.group, None)
        yield from _direction(job, mixed(job), group, layout)
    ran = max(1, job.runtime_ns * job.threads)
    yield from (f"{100 * job.cpu.user_ns / ran:f}%", f"{100 * job.cpu.system_ns / ran:f}%")
    yield from map(str, (job.cpu.context_switches, job.cpu.major_faults, job.cpu.minor_faults))
    total = max(1, int(job.depths.level.sum()))
    for count in job.depths.level.tolist():
        yield f"{max(100 * count / total, 0.1 if count else 0.0):.1f}%"
    nano, micro, milli = latency_classes([result.clat for result in job.directions])
    # Nanoseconds have no classes here: they are among those below two microseconds.
    below, *others = micro.values()
    for share in (below + sum(nano.values()), *others, *milli.values()):
        yield f"{share:.2f}%"
    if "continue_on_error" in {**run.global_options, **job.options}:
        yield from (str(job.failed), str(EIO if job.failed else 0))
    if job.description:
        yield job.description


def _direction(job: JobResult, result: DirectionResult, group: float, layout: int) -> Iterator[str]:
    moved, bandwidth = result.bytes >> 10, int(result.bytes_per_second) >> 10
    yield from map(str, (moved, bandwidth, int(result.iops), runtime_ms(result.runtime_ns)))
    yield from _latency(result.slat)
    yield from _latency(result.clat)
    found = result.clat.percentiles(job.percentile_list) if job.clat_percentiles else {}
    shares = job.percentile_list if job.clat_percentiles else ()
    for share in shares:
        yield f"{share:f}%={found.get(share, 0) // 1000}"
    yield from ["0%=0"] * (MOST_PERCENTILES - len(shares))
    yield from _latency(result.lat)
    bw, ios = spreads(job, result)
    yield from (str(int(bw.min)), str(int(bw.max)), f"{share_of_group(bw, group):f}%")
    yield from (f"{bw.mean:f}", f"{bw.stddev:f}")
    if layout >= 5:
        yield from (str(bw.samples), str(int(ios.min)), str(int(ios.max)))
        yield from (f"{ios.mean:f}", f"{ios.stddev:f}", str(ios.samples))


def _latency(histogram: Histogram) -> tuple[str, str, str, str]:
    """In microseconds: least, greatest, mean, deviation."""
    return (
        str(histogram.min // 1000),
        str(histogram.max // 1000),
        f"{histogram.mean / 1000:f}",
        f"{histogram.stddev / 1000:f}",
    )
