"""What a benchmark's jobs do and when, on devices whose behaviour is known."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench_rig import READ, TRIM, WRITE, job, run
from software_controller import read_log, renew, served

import pynvme_user as nvme
from pynvme_user.bench import engine
from pynvme_user.bench.engine import Progress
from pynvme_user.bench.job import JobError
from pynvme_user.bench.merge import whole_jobs
from pynvme_user.bench.result import JobResult, RunResult
from pynvme_user.completion import HOST_ABORTED
from pynvme_user.errors import DmaError
from pynvme_user.numa import memory_nodes

US = 1000
#: Of the slow device below; in seconds.
DELAY = 0.001


@pytest.fixture(scope="module")
def fast(qemu: None) -> Iterator[str]:
    """A device of its own, whatever --device is: once is enough."""
    with served("size=64M") as (name, _):
        yield name


@pytest.fixture(scope="module")
def slow(qemu: None) -> Iterator[str]:
    """Each I/O takes a millisecond, as many at once as there are."""
    with served("null&delay=1000&size=64M") as (name, _):
        yield name


def seconds(result: JobResult) -> float:
    return result.runtime_ns / 1e9


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ios"),
    [
        ({}, 1024),
        ({"size": "1m"}, 256),
        ({"size": "25%"}, 4096),
        ({"io_size": "1m"}, 256),
        ({"io_size": "8m"}, 2048),
        ({"loops": 3}, 3072),
        ({"number_ios": 77}, 77),
        ({"bs": "16k"}, 256),
        ({"bs": "512"}, 8192),
        ({"rw": "read"}, 1024),
        ({"rw": "trim"}, 1024),
        ({"rw": "randread", "norandommap": True}, 1024),
    ],
)
def test_as_much_as_was_asked_for(fast: str, options: dict[str, object], ios: int) -> None:
    renew(fast)
    given = {"rw": "write", "bs": "4k", "size": "4m", "iodepth": 8, **options}
    result = run(fast, **given)
    log = read_log(fast)
    by_direction = [direction.ios for direction in result.directions]
    assert sum(by_direction) == ios
    block = 512 if given["bs"] == "512" else int(str(given["bs"])[:-1]) << 10
    assert sum(direction.bytes for direction in result.directions) == ios * block
    blank_reads = 256 if result.directions[READ].ios else 0
    assert [log.reads, log.writes, log.trims] == [
        by_direction[READ] + blank_reads, by_direction[WRITE], by_direction[TRIM]
    ]  # fmt: skip
    assert result.ok
    for direction in result.directions:
        assert direction.clat.count == direction.lat.count == direction.slat.count == direction.ios
        assert direction.samples["ios"].sum() == direction.ios
        assert direction.samples["bytes"].sum() == direction.bytes
    assert result.depths.level.sum() == ios


def test_a_mix_has_its_share(fast: str) -> None:
    result = run(fast, rw="randrw", bs="4k", rwmixread=70, io_size="40m", norandommap=True)
    share = result.directions[READ].ios / 10240
    assert share == pytest.approx(0.7, abs=0.02)


def test_flushes_come_after_every_so_many_writes(fast: str) -> None:
    renew(fast)
    result = run(fast, rw="randwrite", bs="4k", number_ios=105, fsync=10, iodepth=4)
    assert (read_log(fast).flushes, result.flush.count) == (10, 10)
    assert result.directions[WRITE].ios == 105
    renew(fast)
    run(fast, rw="write", bs="4k", number_ios=105, fsync=10, end_fsync=True)
    assert read_log(fast).flushes == 11


@pytest.mark.parametrize(
    ("options", "share"), [({"fua": 1}, 1), ({"sync": "dsync"}, 1), ({"fua": 0}, 0), ({}, 0)]
)
def test_force_unit_access(fast: str, options: dict[str, object], share: int) -> None:
    renew(fast)
    run(fast, rw="randrw", bs="4k", number_ios=300, norandommap=True, **options)
    log = read_log(fast)
    assert log.writes > 100
    assert log.fua_writes == share * log.writes


@pytest.mark.parametrize("depth", [1, 7, 32, 200])
def test_the_queue_is_kept_full(slow: str, depth: int) -> None:
    renew(slow)
    result = run(slow, rw="randwrite", bs="4k", number_ios=5 * depth, iodepth=depth)
    assert read_log(slow).deepest == depth
    assert seconds(result) >= 5 * DELAY
    highest = np.flatnonzero(result.depths.level)[-1]
    assert highest == min(6, depth.bit_length() - 1)


def test_a_queue_deeper_than_the_device_has(qemu: None) -> None:
    with served("null&mqes=31") as (name, _):
        result = engine.run([job(name, rw="randread", bs="4k", number_ios=1000, iodepth=100)])
        assert read_log(name).reads >= 1000
    assert any("iodepth=100 is more than" in warning for warning in result.warnings)
    assert any("it ran with 31" in warning for warning in result.warnings)


# --- when -----------------------------------------------------------------------------------------


def test_runtime(slow: str) -> None:
    result = run(slow, rw="randread", bs="4k", iodepth=4, runtime="300ms", time_based=True)
    assert 0.3 <= seconds(result) < 1
    # None is faster than the device, and the last ones are waited for.
    assert 4 <= result.directions[READ].ios <= 4 * (seconds(result) / DELAY + 1)
    assert result.directions[READ].ios > 16384 * 0.001
    ended = run(slow, rw="randread", bs="4k", size="64k", iodepth=4, runtime=30)
    assert ended.directions[READ].ios == 16


def test_only_the_time_after_the_ramp_counts(slow: str) -> None:
    renew(slow)
    made = job(
        slow, rw="randread", bs="4k", iodepth=4, ramp_time="400ms", runtime="200ms", time_based=True
    )
    result = engine.run([made], io_log=True)
    (one,) = result.jobs
    reads = one.directions[READ]
    assert one.start_ns >= 0.4e9
    assert 0.2 <= seconds(one) < 0.5
    assert 4 <= reads.ios <= 4 * (seconds(one) / DELAY + 2)
    assert read_log(slow).reads - 256 >= 2 * reads.ios, "those of the ramp were made, too"
    assert one.io_log is not None
    assert len(one.io_log) == reads.ios
    assert one.io_log["end_ns"].max() <= one.runtime_ns + 50e6
    assert reads.samples["ios"].sum() == reads.ios


def test_startdelay(slow: str) -> None:
    (result,) = engine.run([job(slow, rw="read", bs="4k", number_ios=5, startdelay="200ms")]).jobs
    assert result.start_ns >= 0.2e9
    assert seconds(result) >= 5 * DELAY


def test_thinktime(fast: str) -> None:
    result = run(
        fast, rw="read", bs="4k", number_ios=50, thinktime="20ms", thinktime_blocks=10, iodepth=4
    )
    assert result.directions[READ].ios == 50
    assert 4 * 0.02 <= seconds(result) < 2
    assert result.directions[READ].lat.percentile(50) < 20_000 * US


@pytest.mark.parametrize(
    "options",
    [{"rate_iops": 2000}, {"rate": "8000k"}, {"rate_iops": "2000,", "rwmixread": 100}],
)
def test_a_rate_is_kept(fast: str, options: dict[str, object]) -> None:
    """The n-th I/O is not made before its time; and not late, in the best of a few tries."""
    for _ in range(5):
        result = run(fast, rw="randread", bs="4k", number_ios=800, iodepth=4, **options)
        assert result.directions[READ].ios == 800
        assert seconds(result) >= 799 / 2000
        if seconds(result) <= 1.02 * 800 / 2000:
            return
    pytest.fail("later than 2 % in each of five tries")


def test_a_rate_by_chance_is_the_same_on_average(fast: str) -> None:
    options = {"rw": "randread", "bs": "4k", "number_ios": 2000, "iodepth": 32}
    (result,) = engine.run(
        [job(fast, **options, rate_iops=4000, rate_process="poisson")], io_log=True
    ).jobs
    assert 0.9 <= seconds(result) / 0.5 < 1.5
    assert result.io_log is not None
    arrivals = np.sort(result.io_log["end_ns"].astype(float) - result.io_log["lat"])
    between = np.diff(arrivals)
    assert between.mean() == pytest.approx(1e9 / 4000, rel=0.1)
    # Of the exponential law the deviation is the mean, and the median is ln 2 of it.
    assert between.std() == pytest.approx(between.mean(), rel=0.1)
    assert np.median(between) == pytest.approx(0.693 * between.mean(), rel=0.1)


def test_arrivals_are_kept_while_the_device_stalls(qemu: None) -> None:
    """What arrives then waits in the queue, and its latency says so."""
    with served("null") as (name, server):
        stall = threading.Timer(0.2, server.send_signal, [signal.SIGSTOP])
        go_on = threading.Timer(0.5, server.send_signal, [signal.SIGCONT])
        stall.start()
        go_on.start()
        options = {"rw": "randread", "bs": "4k", "iodepth": 8, "rate_iops": 1000}
        (result,) = engine.run([job(name, **options, number_ios=900)], io_log=True).jobs
        go_on.join()
    log = result.io_log
    assert log is not None
    assert result.directions[READ].ios == 900
    assert seconds(result) >= 0.899
    # Of 300 that arrived in the stall two thirds waited for more than 100 ms.
    assert np.count_nonzero(log["lat"] > 100e6) >= 150
    # The device saw no more than the queue holds.
    assert np.count_nonzero(log["clat"] > 100e6) <= 8
    assert result.directions[READ].lat.max >= 200_000 * US


# --- which jobs, in what order --------------------------------------------------------------------


def test_clones_have_a_queue_each(fast: str) -> None:
    renew(fast)
    result = engine.run([job(fast, rw="randwrite", bs="4k", size="4m", numjobs=3)])
    assert [one.number for one in result.jobs] == [1, 2, 3]
    assert [one.directions[WRITE].ios for one in result.jobs] == [1024] * 3
    assert read_log(fast).writes == 3072


def test_groups_run_one_after_the_other(slow: str) -> None:
    options = {"rw": "randread", "bs": "4k", "number_ios": 50}
    result = engine.run(
        [
            job(slow, "first", **options),
            job(slow, "beside", **options),
            job(slow, "second", group=1, **options),
            job(slow, "third", group=2, **options),
        ]
    )
    first, beside, second, third = result.jobs
    assert abs(first.start_ns - beside.start_ns) < 50 * 1e6
    for before, after in ((first, second), (beside, second), (second, third)):
        assert after.start_ns >= before.start_ns + before.runtime_ns
        assert before.runtime_ns >= 50 * DELAY * 1e9
    assert result.elapsed_ns >= third.start_ns + third.runtime_ns


def test_wait_for(slow: str) -> None:
    options = {"rw": "randread", "bs": "4k", "number_ios": 50}
    result = engine.run(
        [
            job(slow, "late", **options, wait_for="early"),
            job(slow, "early", **options),
            job(slow, "last", **options, wait_for="late"),
        ]
    )
    at = {one.name: one for one in result.jobs}
    for before, after in (("early", "late"), ("late", "last")):
        assert at[after].start_ns >= at[before].start_ns + at[before].runtime_ns


@pytest.mark.parametrize("exitall", [True, False])
def test_exitall(slow: str, exitall: bool) -> None:
    endless = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": "1500ms"}
    short = {"rw": "randread", "bs": "4k", "number_ios": 20}
    result = engine.run(
        [job(slow, "long", **endless), job(slow, "short", **short, exitall=int(exitall))]
    )
    long = result.jobs[0]
    assert (seconds(long) < 1.4) == exitall
    assert result.ok
    assert long.directions[READ].ios > 20


# --- what goes wrong ------------------------------------------------------------------------------


def test_errors_are_counted_apart(fast: str) -> None:
    renew(fast, "status", 10, 0x281)
    options = {"rw": "randwrite", "bs": "4k", "number_ios": 1000}
    result = run(fast, **options, continue_on_error="write", iodepth=8)
    writes = result.directions[WRITE]
    assert (writes.ios, writes.failed, writes.clat.count) == (900, 100, 900)
    assert result.errors == {0x281: 100}
    assert result.error_names == {0x281: "Unrecovered Read Error"}
    assert not result.ok


def test_the_first_error_ends_a_job(fast: str) -> None:
    renew(fast, "status", 10, 0x280)
    made = [
        job(fast, "fails", rw="write", bs="4k", rate_iops=200, number_ios=400),
        job(fast, "other", rw="trim", bs="4k", rate_iops=200, number_ios=100),
    ]
    result = engine.run(made)
    fails, other = result.jobs
    assert not fails.ok
    assert fails.directions[WRITE].ios < 200
    assert other.ok
    assert other.directions[TRIM].ios == 100
    assert not result.ok


def test_what_continue_on_error_does_not_name_ends_the_job(fast: str) -> None:
    renew(fast, "status", 5, 0x281)
    result = run(fast, rw="write", bs="4k", rate_iops=400, number_ios=400, continue_on_error="read")
    assert result.directions[WRITE].ios < 300
    assert not result.ok


def test_max_latency(qemu: None) -> None:
    with served("null&delay=200&slow=30000:500") as (name, _):
        options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 10}
        result = engine.run([job(name, **options, max_latency="20ms")])
    assert not result.ok
    assert seconds(result.jobs[0]) < 5
    assert "more than max_latency=20 ms" in result.jobs[0].failure


def test_rate_min(slow: str) -> None:
    """One at a time of a millisecond each makes a thousand a second at most."""
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 10}
    result = engine.run([job(slow, **options, rate_iops_min=1100, ratecycle=300)])
    assert not result.ok
    assert seconds(result.jobs[0]) < 5
    assert "below rate_iops_min=1100" in result.jobs[0].failure


def test_steady_state(slow: str) -> None:
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 5, "ss_dur": 2}
    result = run(slow, **options, ss="iops:90%")
    state = result.steady_state
    assert state is not None
    assert state.attained
    assert seconds(result) < 4.5
    assert len(state.iops) == 2
    options["runtime"] = "2500ms"
    unsteady = run(slow, **options, ss="iops:0.000001%").steady_state
    assert unsteady is not None
    assert not unsteady.attained
    assert unsteady.criterion > 0.000001


def test_the_depth_that_keeps_a_latency(qemu: None) -> None:
    """One after the other, 1 ms each: eight are served in 8 ms."""
    with served("null&delay=1000&in-turn") as (name, _):
        result = run(
            name, rw="randread", bs="4k", iodepth=32, time_based=True, runtime="1500ms",
            latency_target="8600us", latency_window="200ms", latency_percentile=50,
        )  # fmt: skip
    found = result.latency_target
    assert found is not None
    assert found.met
    # A machine with other work serves more slowly, which takes some of the depth, and never less.
    assert 5 <= found.depth <= 8


@pytest.mark.parametrize("moment", [0.3, 0.8])
def test_a_device_that_goes_away(qemu: None, moment: float) -> None:
    with served("null&delay=1000") as (name, server):
        threading.Timer(moment, server.kill).start()
        begin = time.monotonic()
        result = engine.run(
            [
                job(name, "one", rw="randread", bs="4k", iodepth=16, time_based=True, runtime=20),
                job(name, "two", rw="randwrite", bs="4k", rate_iops=50, time_based=1, runtime=20),
            ]
        )
        assert time.monotonic() - begin < 10
    assert not result.ok
    one, two = result.jobs
    assert one.failed > 0
    assert one.errors
    assert one.directions[READ].ios > 16
    assert not one.ok
    assert not two.ok
    assert "is gone" in one.failure
    assert "is gone" in two.failure


@pytest.mark.kills
def test_what_ran_before_the_device_went_away_is_told(qemu: None) -> None:
    with served("null&size=64M") as (name, server):
        threading.Timer(1.0, server.kill).start()
        result = engine.run(
            [
                job(name, "whole", rw="randread", bs="4k", number_ios=100),
                job(name, "cut", group=1, rw="randwrite", bs="4k", time_based=True, runtime=20),
                job(name, "never", group=2, rw="read"),
                job(name, "nor", group=3, rw="read"),
            ]
        )
    assert [one.name for one in result.jobs] == ["whole", "cut"]
    whole, cut = result.jobs
    assert whole.ok
    assert whole.directions[READ].ios == 100
    assert cut.directions[WRITE].ios > 0
    assert "is gone" in cut.failure
    assert "is gone" in result.failure
    assert result.failure.endswith("; not run: never, nor")
    assert not result.ok


def test_ctrl_c_again_does_not_wait(qemu: None) -> None:
    """Of a device whose I/Os take a quarter of an hour, the first half a second is enough."""
    with served("null&delay=1000000000&size=64M") as (name, _):
        options = {"rw": "randwrite", "bs": "4k", "iodepth": 8, "time_based": True, "runtime": 20}
        for seconds_until in (0.5, 1.0):
            threading.Timer(seconds_until, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        result = engine.run([job(name, "one", **options), job(name, "two", **options)])
        assert 1.0 <= time.monotonic() - begin < 5
        # Nothing is left on the controller, and it is as good as new.
        with nvme.open(name) as controller:
            assert controller.registers.csts.rdy == 1
        assert result.interrupted
        assert [one.name for one in result.jobs] == ["one", "two"]
        for one in result.jobs:
            assert one.failed == 8
            assert one.errors == {int(HOST_ABORTED): 8}


def test_ctrl_c_before_the_first_io_does_not_wait_for_it(slow: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    result = engine.run([job(slow, rw="randwrite", bs="4k", startdelay=30)])
    assert time.monotonic() - begin < 5
    assert result.interrupted


def test_results_so_far(slow: str) -> None:
    told: list[RunResult] = []
    options = {"rw": "randread", "bs": "4k", "iodepth": 2, "time_based": True}
    made = [
        job(slow, "first", **options, runtime="500ms"),
        job(slow, "one", group=1, **options, runtime=2),
        job(slow, "late", group=1, **options, runtime=2, startdelay=1.1),
    ]
    threading.Timer(1.7, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    result = engine.run(made, report=told.append, report_seconds=0.4)
    names = [[one.name for one in each.jobs] for each in told]
    assert names[:2] == [["first"], ["first", "one"]]
    assert names[-1] == ["first", "one", "late"]
    # By the clock from the run's start, and one more that the signal asked for.
    assert len(told) in (int(result.elapsed_ns / 0.4e9) + 1, int(result.elapsed_ns / 0.4e9))
    counts = [each.jobs[1].directions[READ].ios for each in told[1:]]
    counts.append(result.jobs[1].directions[READ].ios)
    assert counts == sorted(counts)
    assert counts[0] > 0
    for each in told:
        for one in each.jobs:
            reads = one.directions[READ]
            assert reads.ios == reads.clat.count == reads.clat.counts.sum()
            # Nothing was stopped for it: as many as a depth of two makes of a millisecond each.
            assert reads.iops < 2.1 / DELAY


def test_ctrl_c_gives_the_results_so_far(slow: str) -> None:
    renew(slow)
    options = {"rw": "randread", "bs": "4k", "iodepth": 8, "time_based": True, "runtime": 20}
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    result = engine.run(
        [job(slow, "one", **options), job(slow, "two", **options), job(slow, "never", group=1)]
    )
    assert time.monotonic() - begin < 5
    assert result.interrupted
    assert [one.name for one in result.jobs] == ["one", "two"]
    assert result.ok
    made = sum(one.directions[READ].ios for one in result.jobs)
    assert all(one.directions[READ].ios > 8 for one in result.jobs)
    # The queues were drained: what was submitted was counted.
    blank_reads = 256
    assert read_log(slow).reads == made + blank_reads


def test_jobs_that_do_not_fit_are_refused_before_the_first_runs(fast: str) -> None:
    renew(fast)
    good = job(fast, rw="write", bs="4k", size="1m")
    for options, problem in (
        ({"bs": "1000"}, "not whole blocks of 512"),
        ({"bs": "1m"}, "takes up to 131072 bytes in one command"),
        ({"offset": "64m"}, "has no room for a block"),
        ({"nsid": 7}, "namespace 7 of .* is not active; active are: 1"),
        ({"rw": "zone-append"}, "is not zoned"),
    ):
        given = {"rw": "write", "bs": "4k", **options}
        with pytest.raises(JobError, match=problem):
            engine.run([good, job(fast, group=1, **given)])
    assert read_log(fast).writes == 0
    with pytest.raises(JobError, match="there is no job"):
        engine.run([])


def test_a_cpu_that_is_not_there(fast: str) -> None:
    renew(fast)
    made = [job(fast, rw="write", bs="4k"), job(fast, rw="trim", bs="4k", cpus_allowed=1023)]
    with pytest.raises(JobError, match="cannot run on cpus_allowed=1023"):
        engine.run(made)
    assert read_log(fast).writes == 0


# --- what is told ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"numa_mem_policy": "bind:1023"}, "cannot be placed by bind:1023: the nodes with memory"),
        ({"numa_cpu_nodes": 1023}, "cannot run on numa_cpu_nodes=1023: 1023 has no CPUs"),
        (
            {"numa_cpu_nodes": min(memory_nodes()), "cpus_allowed": 1023},
            "cpus_allowed has none of theirs",
        ),
    ],
)
def test_a_node_that_is_not_there(fast: str, options: dict[str, object], problem: str) -> None:
    renew(fast)
    made = [job(fast, rw="write", bs="4k"), job(fast, rw="trim", bs="4k", **options)]
    with pytest.raises((JobError, DmaError), match=problem):
        engine.run(made)
    assert read_log(fast).writes == 0


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
    assert middle.clat_mean is not None
    assert middle.clat_mean >= 0.9 * DELAY * 1e9


def test_warnings(fast: str) -> None:
    renew(fast)
    result = engine.run([job(fast, "reader", rw="randread", bs="4k", number_ios=10)])
    assert any("is an emulated device" in warning for warning in result.warnings)
    assert any("'reader' reads blocks of which about 100%" in text for text in result.warnings)
    engine.run([job(fast, rw="write", bs="64k")])
    result = engine.run([job(fast, "reader", rw="randread", bs="4k", number_ios=10)])
    assert not any("reads blocks of which" in warning for warning in result.warnings)


# --- jobs that have to do with each other ---------------------------------------------------------


def test_flows_are_a_proportion(slow: str) -> None:
    """One at a time takes a millisecond, eight at a time an eighth; flow says how many of each."""
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 2, "flow_sleep": 1000}
    result = engine.run(
        [
            job(slow, "one", **options, flow=1, iodepth=8),
            job(slow, "three", **options, flow=3, iodepth=8),
            job(slow, "free", **options, iodepth=8),
            job(slow, "other", **options, flow=7, flow_id=1, iodepth=8),
        ]
    )
    ios = {one.name: one.directions[READ].ios for one in result.jobs}
    assert ios["three"] / ios["one"] == pytest.approx(3, rel=0.1)
    assert min(ios["free"], ios["other"]) > 1.5 * ios["one"]


def test_a_pause_of_a_flow_is_no_latency(slow: str) -> None:
    """Nothing is outstanding in it: else each I/O of a slice would have waited for its end."""
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 2, "iodepth": 8}
    options |= {"flow_sleep": "100ms"}
    result = engine.run([job(slow, "one", **options, flow=1), job(slow, "9", **options, flow=9)])
    assert result.ok
    assert result.jobs[0].directions[READ].clat.percentile(50) < 50_000 * US


def test_who_has_ended_is_not_waited_for(slow: str) -> None:
    options = {"rw": "randread", "bs": "4k", "iodepth": 4}
    result = engine.run(
        [
            job(slow, "few", **options, flow=1, number_ios=40),
            job(slow, "many", **options, flow=1, number_ios=1000),
        ]
    )
    few, many = result.jobs
    assert (few.directions[READ].ios, many.directions[READ].ios) == (40, 1000)
    assert seconds(many) < 3
    assert result.ok


def test_a_job_on_several_devices(fast: str, slow: str) -> None:
    renew(fast)
    renew(slow)
    made = job(f"{fast}:{slow}", rw="randwrite", bs="4k", size="2m", iodepth=5)
    parts = engine.run([made]).jobs
    assert [part.device.name for part in parts] == [fast, slow]
    assert [part.directions[WRITE].ios for part in parts] == [256, 256]
    assert read_log(slow).deepest == 2
    (whole,) = whole_jobs(parts)
    assert (whole.members, whole.queues, whole.iodepth) == (1, 2, 5)
    assert [device.name for device in whole.devices] == [fast, slow]
    assert whole.directions[WRITE].bytes == 2 << 20


def test_zones_and_what_is_left_out(fast: str) -> None:
    renew(fast)
    for options, lbas in (
        ({"rw": "write:4k", "size": "20k"}, [0, 16, 32]),
        ({"rw": "read:-8k", "size": "16k"}, [0, 16, 8, 0]),
        ({"rw": "write", "size": "64k", "zonesize": "8k", "zoneskip": "24k"}, [0, 8, 64, 72]),
    ):
        (result,) = engine.run([job(fast, bs="4k", **options)], io_log=True).jobs
        assert result.io_log is not None
        assert (result.io_log["offset"] // 512).tolist() == lbas
    with pytest.raises(JobError, match="4100 bytes are not whole blocks"):
        engine.run([job(fast, rw="read:4100")])
    with pytest.raises(JobError, match="holds no block of 8192"):
        engine.run([job(fast, rw="read", bs="8k", zonesize="4k")])


def test_verifying_what_has_gaps(fast: str) -> None:
    renew(fast)
    for options in (
        {"rw": "write:112k", "bs": "16k", "offset": "120k", "verify_backlog": 1, "loops": 2},
        {"rw": "randwrite:4", "bs": "4k", "size": "8m"},
        {"rw": "randwrite", "bs": "4k", "size": "8m", "zonesize": "64k", "zoneskip": "192k"},
    ):
        result = run(fast, **options, verify="crc32c")
        assert result.ok, result.verify
        assert result.verify is not None
        assert result.verify.blocks > 0
