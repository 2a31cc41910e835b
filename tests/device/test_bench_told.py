"""What a benchmark tells while it runs, and where its threads and memory are."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rig import DELAY, READ, WRITE, job, run
from disturbance import until_right
from software_controller import renew

from pynvme_user.bench.results.fio_json import spreads
from pynvme_user.bench.results.result import RunResult
from pynvme_user.bench.run import engine
from pynvme_user.bench.run.engine import Progress
from pynvme_user.bench.run.worker import Worker
from pynvme_user.cli.bench_results import log_writers
from pynvme_user.host.numa import memory_nodes

# --- what is told ---------------------------------------------------------------------------------


def test_results_so_far(slow: str) -> None:
    """By the clock from the run's start, and one more that a signal asks for."""
    options = {"rw": "randread", "bs": "4k", "iodepth": 2, "time_based": True}
    made = [
        job(slow, "first", **options, runtime="500ms"),
        job(slow, "one", group=1, **options, runtime=2),
        job(slow, "late", group=1, **options, runtime=2, startdelay=1.1),
    ]

    def attempt() -> str:
        told: list[RunResult] = []

        def tell(result: RunResult) -> None:
            told.append(result)
            if len(told) == 4:
                os.kill(os.getpid(), signal.SIGUSR1)

        result = engine.run(made, report=tell, report_seconds=0.4)
        names = [[one.name for one in each.jobs] for each in told]
        assert names == sorted(names, key=len)
        counts = [each.jobs[1].directions[READ].ios for each in told if len(each.jobs) > 1]
        counts.append(result.jobs[1].directions[READ].ios)
        assert counts == sorted(counts)
        for each in told:
            for one in each.jobs:
                reads = one.directions[READ]
                assert reads.ios == reads.clat.count == reads.clat.counts.sum()
                # Nothing was stopped for it: as many as a depth of two makes of a millisecond each.
                assert reads.iops < 2.1 / DELAY
        due = int(result.elapsed_ns / 0.4e9)
        in_time = (
            names[:2] == [["first"], ["first", "one"]]
            and names[-1] == ["first", "one", "late"]
            and len(told) in (due, due + 1)
            and counts[0] > 0
        )
        return "" if in_time else f"{due} results were due: {names}"

    until_right(attempt)


def test_progress(slow: str) -> None:
    told: list[Progress] = []
    options = {"rw": "randread", "bs": "4k", "iodepth": 4, "time_based": True, "runtime": 2}
    made = [job(slow, "one", **options), job(slow, "two", **options)]
    engine.run(made, watch=told.append)
    assert len(told) >= 2
    assert [(one.running, one.jobs, one.phase) for one in told[:2]] == [(2, 2, "run")] * 2
    shares = [one.done for one in told if one.done is not None]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    middle = told[1]
    assert middle.left is not None
    assert 0 <= middle.left <= 2
    assert 8 <= middle.iops[READ] <= 8.5 / DELAY
    assert middle.iops[WRITE] == 0
    assert middle.bandwidth[READ] == pytest.approx(4096 * middle.iops[READ])
    assert middle.lat_mean is not None
    assert middle.lat_mean >= 0.9 * DELAY * 1e9


@pytest.mark.parametrize(
    "options",
    [
        *({"loops": 3}, {"loops": 3, "io_size": "1m"}, {"loops": 3, "io_size": "4m"}),
        *({"io_size": "6m"}, {"loops": 3, "io_size": "6m"}, {"loops": 2, "io_size": "20m"}),
    ],
    ids=str,
)
def test_all_of_the_work_is_all_of_its_share(
    fast: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    made: list[Worker] = []

    def make(*arguments: Any, **more: Any) -> Worker:
        made.append(Worker(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(engine, "Worker", make)
    result = run(fast, rw="write", bs="4k", size="4m", **options)
    (worker,) = made
    assert worker.share_done == 1.0
    # And no sooner.
    assert worker.work == result.directions[WRITE].bytes


def test_warnings(fast: str) -> None:
    renew(fast)
    result = engine.run([job(fast, "reader", rw="randread", bs="4k", number_ios=10)])
    assert any("is an emulated device" in warning for warning in result.warnings)
    assert any("'reader' reads blocks of which about 100%" in text for text in result.warnings)
    engine.run([job(fast, rw="write", bs="64k")])
    result = engine.run([job(fast, "reader", rw="randread", bs="4k", number_ios=10)])
    assert not any("reads blocks of which" in warning for warning in result.warnings)


# --- where it runs --------------------------------------------------------------------------------


def test_threads_run_where_and_how_they_were_told(slow: str) -> None:
    cpu = max(os.sched_getaffinity(0))
    seen: dict[str, tuple[set[int], int]] = {}

    def watch(progress: Progress) -> None:
        for thread in threading.enumerate():
            if thread.native_id and thread.name in ("here", "there"):
                at = thread.native_id
                seen[thread.name] = os.sched_getaffinity(at), os.getpriority(os.PRIO_PROCESS, at)

    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": "900ms"}
    engine.run(
        [job(slow, "here", **options, cpus_allowed=cpu, nice=7), job(slow, "there", **options)],
        watch=watch,
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert seen == {"here": ({cpu}, 7), "there": (os.sched_getaffinity(0), own)}


def placements() -> set[str]:
    """Where the DMA memory that this process shares with a controller is placed."""
    maps = Path("/proc/self/numa_maps").read_text().splitlines()
    return {line.split()[1] for line in maps if "memfd:pynvme_user" in line}


def test_memory_lies_where_it_was_told(slow: str) -> None:
    node = min(memory_nodes())
    seen: set[str] = set()
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": "900ms"}
    options |= {"numa_cpu_nodes": node}
    placed = job(slow, **options, numa_mem_policy=f"interleave:{node}")
    assert engine.run([placed], watch=lambda _: seen.update(placements())).ok
    assert f"interleave:{node}" in seen
    assert f"interleave:{node}" not in placements()


def test_the_devices_health_before_and_after(qemu: None) -> None:
    name = "qemu:?size=64M&smart_critical_warning=4"
    result = engine.run([job(name, rw="write", bs="64k", size="32m", iodepth=4)])
    (health,) = result.health
    assert health.device == name
    assert health.before is not None
    assert health.after is not None
    assert health.after.hwc - health.before.hwc == 512
    assert health.after.duw - health.before.duw == pytest.approx(65.5, abs=1)
    assert health.before.ctemp == health.after.ctemp == 323
    assert any("reliability is degraded" in text for text in result.warnings)


# --- logs over time -------------------------------------------------------------------------------


_LOGS = ("bw", "iops", "slat", "clat", "lat", "clat_hist")


@pytest.mark.parametrize("every", [10, 40, 250])
def test_logs_have_the_intervals_that_were_asked_for(fast: str, tmp_path: Path, every: int) -> None:
    """They end with their marks, but where a busy machine lets the thread run only later."""
    prefix = str(tmp_path / "log")
    made = job(
        fast,
        rw="randread",
        bs="4k",
        runtime=f"{4 * every + every // 2}ms",
        time_based=True,
        log_avg_msec=every,
        log_hist_msec=every,
        **{f"write_{kind}_log": prefix for kind in ("bw", "iops", "lat", "hist")},
    )

    in_time = dict.fromkeys(_LOGS, False)

    def attempt() -> str:
        result = engine.run([made])
        for _, write in log_writers(result, [made]):
            write()
        for kind in _LOGS:
            lines = Path(f"{prefix}_{kind}.1.log").read_text().splitlines()
            ends = [int(line.split(",")[0]) for line in lines]
            assert ends == sorted(set(ends))
            in_time[kind] |= any(end % every == 0 and end % 100 for end in ends[:-1])
        reads = result.jobs[0].directions[READ]
        assert reads.samples["ios"].sum() == reads.ios
        assert sum(interval.clat.sum() for interval in reads.intervals) == reads.ios
        return "" if all(in_time.values()) else f"not once in time: {in_time}"

    until_right(attempt, undisturbed=5)


def test_logs_of_the_greatest_value(fast: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "log")
    made = job(
        fast,
        rw="randrw",
        bs="4k",
        norandommap=True,
        runtime="1s",
        time_based=True,
        log_avg_msec=100,
        log_max_value=1,
        bwavgtime=20,
        write_lat_log=prefix,
        write_bw_log=prefix,
        write_iops_log=prefix,
    )
    result = engine.run([made], io_log=True)
    for _, write in log_writers(result, [made]):
        write()
    (one,) = result.jobs
    assert one.io_log is not None
    for way in (READ, WRITE):
        ios = one.io_log[one.io_log["direction"] == way]
        of = one.directions[way]
        for kind, histogram in (("slat", of.slat), ("clat", of.clat), ("lat", of.lat)):
            rows = np.loadtxt(f"{prefix}_{kind}.1.log", delimiter=",", dtype=np.int64)
            greatest = rows[rows[:, 2] == way, 1]
            assert len(greatest) > 3
            # Those of the I/Os themselves, and in all the greatest of the results.
            assert greatest.max() == histogram.max
            assert abs(int(ios[kind].max()) - histogram.max) <= 1
            assert len(np.unique(greatest)) > 1
        means = of.samples["lat_sum"] / np.maximum(of.samples["ios"], 1)
        assert (of.samples["lat_max"][of.samples["ios"] > 0] >= means[of.samples["ios"] > 0]).all()
    bw = np.loadtxt(f"{prefix}_bw.1.log", delimiter=",", dtype=np.int64)
    # The greatest of five samples each is more than their average.
    assert bw[bw[:, 2] == READ, 1].mean() * 1024 > one.directions[READ].bytes_per_second


def test_the_intervals_of_spreads_are_those_that_were_asked_for(fast: str) -> None:
    result = run(
        fast, rw="randread", bs="4k", runtime="1s", time_based=True, bwavgtime=250, iopsavgtime=150
    )
    bw, iops = spreads(result, result.directions[READ])
    assert bw.samples in (4, 5)
    assert iops.samples in (6, 7)
    read = result.directions[READ]
    assert bw.mean * 1024 == pytest.approx(read.bytes_per_second, rel=0.25)
    assert iops.mean == pytest.approx(read.iops, rel=0.25)
