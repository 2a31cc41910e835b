"""What a benchmark's jobs do, alone and beside each other, on devices whose behaviour is known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_rig import DELAY, READ, TRIM, US, WRITE, job, run, seconds
from disturbance import until_right
from software_controller import read_log, renew, served

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.aggregate import whole_jobs
from pynvme_user.bench.run import engine

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
    assert any("wants iodepth=100, more than" in warning for warning in result.warnings)
    assert any("it ran with 31" in warning for warning in result.warnings)


# --- where ----------------------------------------------------------------------------------------


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
        ({"rw": "write", "size": "64k", "zonesize": "8k", "zoneskip": "24k"}, [0, 8, 64, 72] * 4),
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


# --- which jobs, in what order --------------------------------------------------------------------


def test_clones_have_a_queue_each(fast: str) -> None:
    renew(fast)
    result = engine.run([job(fast, rw="randwrite", bs="4k", size="4m", numjobs=3)])
    assert [one.number for one in result.jobs] == [1, 2, 3]
    assert [one.directions[WRITE].ios for one in result.jobs] == [1024] * 3
    assert read_log(fast).writes == 3072


def test_groups_run_one_after_the_other(slow: str) -> None:
    options = {"rw": "randread", "bs": "4k", "number_ios": 300}
    result = engine.run(
        [
            job(slow, "first", **options),
            job(slow, "beside", **options),
            job(slow, "second", group=1, **options),
            job(slow, "third", group=2, **options),
        ]
    )
    first, beside, second, third = result.jobs
    for one, other in ((first, beside), (beside, first)):
        assert one.start_ns < other.start_ns + other.runtime_ns
    for before, after in ((first, second), (beside, second), (second, third)):
        assert after.start_ns >= before.start_ns + before.runtime_ns
        assert before.runtime_ns >= 300 * DELAY * 1e9
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

    def attempt() -> str:
        result = engine.run(
            [job(slow, "long", **endless), job(slow, "short", **short, exitall=int(exitall))]
        )
        assert result.ok
        long = result.jobs[0]
        if (seconds(long) < 1.4) == exitall and long.directions[READ].ios > 20:
            return ""
        return f"the long one made {long.directions[READ].ios} I/Os in {seconds(long):.2f} s"

    until_right(attempt)


def test_exitall_ends_jobs_of_all_groups_where_exit_what_says_so(slow: str) -> None:
    short = {"rw": "randread", "bs": "4k", "number_ios": 20, "exitall": 1}
    other = {"rw": "randread", "bs": "4k", "number_ios": 30}

    def jobs(exit_what: str) -> list[Job]:
        return [
            job(slow, "first", **short, exit_what=exit_what),
            job(slow, "second", **other, wait_for="first"),
            job(slow, "third", group=1, **other),
        ]

    result = engine.run(jobs("all"))
    assert result.ok
    assert {one.name: one.directions[READ].ios for one in result.jobs} == {"first": 20, "second": 0}
    assert "job 'first' ended the run by exitall; not run: third" in result.warnings
    result = engine.run(jobs("stonewall"))
    assert [one.directions[READ].ios for one in result.jobs] == [20, 0, 30]


def test_exitall_ends_a_job_that_has_not_begun(slow: str) -> None:
    renew(slow)
    options = {"rw": "randwrite", "bs": "4k"}
    result = engine.run(
        [
            job(slow, "short", **options, number_ios=20, exitall=1),
            job(slow, "late", **options, size="1m", startdelay=5),
        ]
    )
    assert result.ok
    assert [one.directions[WRITE].ios for one in result.jobs] == [20, 0]
    assert read_log(slow).writes == 20


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
    assert result.ok
