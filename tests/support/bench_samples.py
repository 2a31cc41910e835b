"""Results made up from random latencies, for the tests of what the benchmark writes."""

from collections.abc import Mapping

import numpy as np

from pynvme_user.bench.results.result import (
    SAMPLE,
    Costs,
    CpuUsage,
    Depths,
    Device,
    DirectionResult,
    Histogram,
    IntervalHistogram,
    JobResult,
    RunResult,
    bucket_of,
)
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKETS, RECORD_DTYPE

STARTED = 1_790_000_000.25
DEVICE = Device(
    name="0000:01:00.0",
    nsid=1,
    access="vfio",
    block_size=512,
    blocks=1 << 30,
    model="Example NVMe 1 TB",
    serial="S1234",
    firmware="1.0",
    notes=("PCIe: 8.0 GT/s x4", "NUMA node: 0"),
)


def raw_latencies(rng, count, *, typical=80_000):
    """Most I/Os near the typical latency, one in fifty behind a slow erase, in nanoseconds."""
    fast = rng.lognormal(np.log(typical), 0.18, count)
    slow = rng.lognormal(np.log(typical * 12), 0.5, count)
    return np.where(rng.random(count) < 0.02, slow, fast).astype(np.uint64)


def course_of(rng, seconds, iops):
    """Completion times in nanoseconds at a rate that sways slowly by a few percent."""
    grid = np.arange(0, seconds, 0.01)
    rate = iops * (1 + 0.04 * np.sin(2 * np.pi * grid / 7) + 0.02 * rng.standard_normal(grid.size))
    reached = np.cumsum(rate) * 0.01
    count = int(reached[-1])
    times = np.interp(np.arange(1, count + 1), reached, grid + 0.01)
    return (np.minimum(times, seconds) * 1e9).astype(np.uint64)


def direction_of(rng, seconds=10.0, iops=4000.0, size=4096, typical=80_000, every_ns=100_000_000):
    """One direction and the raw latencies (clat) that it was made of."""
    ends = course_of(rng, seconds, iops)
    clat = raw_latencies(rng, ends.size, typical=typical)
    slat = rng.integers(60, 400, ends.size).astype(np.uint64)
    lat = clat + slat
    runtime_ns = int(seconds * 1e9)

    edges = np.arange(every_ns, runtime_ns + every_ns, every_ns).astype(np.uint64)
    which = np.minimum(np.searchsorted(edges, ends), edges.size - 1)
    samples = np.zeros(edges.size, dtype=SAMPLE)
    samples["end_ns"] = np.minimum(edges, runtime_ns)
    samples["ios"] = np.bincount(which, minlength=edges.size)
    samples["bytes"] = samples["ios"] * np.uint64(size)
    for name, values in (("slat_sum", slat), ("clat_sum", clat), ("lat_sum", lat)):
        samples[name] = np.bincount(which, values, edges.size).astype(np.uint64)

    second = np.minimum(ends // np.uint64(1_000_000_000), np.uint64(int(seconds) - 1))
    intervals = [
        IntervalHistogram(
            start_ns=n * 10**9,
            end_ns=min((n + 1) * 10**9, runtime_ns),
            clat=np.bincount(bucket_of(clat[second == n]), minlength=BUCKETS).astype(np.uint64),
            lat=np.bincount(bucket_of(lat[second == n]), minlength=BUCKETS).astype(np.uint64),
        )
        for n in range(int(seconds))
    ]
    result = DirectionResult(
        ios=int(ends.size),
        bytes=int(ends.size) * size,
        runtime_ns=runtime_ns,
        slat=Histogram.of(slat),
        clat=Histogram.of(clat),
        lat=Histogram.of(lat),
        samples=samples,
        intervals=intervals,
    )
    return result, ends, slat, clat


def job_of(
    rng,
    name="randread",
    rw="randread",
    seconds=10.0,
    iodepth=8,
    size=4096,
    rates: Mapping[Direction, float] | None = None,
    typical=80_000,
    **more,
):
    """A job with a direction for each rate (I/Os per second)."""
    rates = rates or {Direction.READ: 4000.0}
    directions = [DirectionResult(), DirectionResult(), DirectionResult()]
    records = []
    for way, rate in rates.items():
        made, ends, slat, clat = direction_of(rng, seconds, rate, size, typical)
        directions[way] = made
        record = np.zeros(ends.size, dtype=RECORD_DTYPE)
        record["end_ns"], record["slat"], record["clat"] = ends, slat, clat
        record["lat"], record["bytes"], record["direction"] = slat + clat, size, way
        record["offset"] = rng.integers(0, 1 << 20, ends.size) * size
        records.append(record)
    io_log = np.concatenate(records)
    total = sum(one.ios for one in directions)
    level = np.zeros(7, dtype=np.uint64)
    level[min(iodepth.bit_length() - 1, 6)] = total
    batches = np.array([0, total, 0, 0, 0, 0, 0], dtype=np.uint64)
    runtime_ns = int(seconds * 1e9)
    return JobResult(
        name=name,
        rw=rw,
        device=DEVICE,
        iodepth=iodepth,
        block_sizes=((size, size),) * 3,
        options=more.pop("options", {"rw": rw, "iodepth": str(iodepth)}),
        pid=4711,
        runtime_ns=runtime_ns,
        directions=tuple(directions),
        depths=Depths(level, batches.copy(), batches.copy()),
        cpu=CpuUsage(int(0.97 * runtime_ns), int(0.02 * runtime_ns), 12, 0, 3),
        costs=Costs(
            sq_doorbells=total // 2,
            cq_doorbells=total // 4,
            polls=40 * total,
            empty_polls=39 * total,
            ticks_per_second=2.5e9,
            submit_ticks=60 * total,
            complete_ticks=130 * total,
        ),
        io_log=io_log[np.argsort(io_log["end_ns"], kind="stable")],
        **more,
    )


def run_of(*jobs, **more):
    """A run of these jobs with a machine and no warnings."""
    return RunResult(
        jobs=list(jobs),
        started=STARTED,
        elapsed_ns=max(job.start_ns + job.runtime_ns for job in jobs),
        global_options=more.pop("global_options", {"bs": "4k"}),
        machine={"CPU": "Example CPU 2.50 GHz", "kernel": "6.1.0", "governor": "performance"},
        command="nvme-user bench job.fio --report report.html",
        **more,
    )


def sweep_of(rng, iodepths=(1, 2, 4, 8, 16, 32), sizes=(4096,), seconds=3.0, name="sweep"):
    """A sweep over depths and block sizes of a device that saturates at about depth eight."""
    jobs = []
    for size in sizes:
        for iodepth in iodepths:
            scale = size / 4096
            limit = 9000 / scale**0.6
            rate = limit * iodepth / (iodepth + 6)
            typical = int(1e9 * iodepth / rate * 0.8)
            jobs.append(
                job_of(
                    rng,
                    name=name,
                    seconds=seconds,
                    iodepth=iodepth,
                    size=size,
                    rates={Direction.READ: rate},
                    typical=typical,
                    number=len(jobs) + 1,
                    group=len(jobs),
                    point={
                        **({"bs": size} if len(sizes) > 1 else {}),
                        **({"iodepth": iodepth} if len(iodepths) > 1 else {}),
                    },
                )
            )
    return run_of(*jobs)


def like_fio(rng):
    """A run of the two jobs that fio runs in the tests beside it."""
    mixed = job_of(
        rng,
        name="mixed",
        rw="randrw",
        seconds=1,
        iodepth=1,
        rates={Direction.READ: 4000, Direction.WRITE: 4000},
        options={"rw": "randrw", "bs": "4k", "ioengine": "psync", "fsync": "16"},
        flush=Histogram.of(rng.integers(10**5, 10**6, 250)),
    )
    mixed.directions[0].slat = Histogram()
    mixed.directions[1].slat = Histogram()
    mixed.directions[0].failed = 1
    reads = job_of(
        rng,
        name="reads",
        rw="read",
        seconds=1,
        iodepth=4,
        number=2,
        group=1,
        rates={Direction.READ: 9000},
        options={"ioengine": "libaio", "iodepth": "4", "description": "with a text"},
        description="with a text",
    )
    return run_of(mixed, reads, global_options={"filename": "x", "size": "2m", "runtime": "1"})
