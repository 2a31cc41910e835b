"""When a benchmark's I/Os are made, and what its job's end depends on: times, rates, criteria."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bench_rig import DELAY, READ, US, WRITE, job, once_runs, run, seconds
from disturbance import until_right
from software_controller import read_log, renew, served

from pynvme_user.bench.results.aggregate import mixed
from pynvme_user.bench.results.result import RunResult
from pynvme_user.bench.results.text import summary
from pynvme_user.bench.results.timeseries import course, spans
from pynvme_user.bench.run import engine
from pynvme_user.cli.bench_results import log_writers

# --- when -----------------------------------------------------------------------------------------


def test_runtime(slow: str) -> None:
    result = run(slow, rw="randread", bs="4k", iodepth=4, runtime="300ms", time_based=True)
    # Without its end it would take 4 s and more.
    assert 0.3 <= seconds(result) < 2
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
    begin = time.monotonic()
    result = engine.run([made], io_log=True)
    (one,) = result.jobs
    reads = one.directions[READ]
    assert one.start_ns >= 0.4e9
    assert 0.2 <= seconds(one) < time.monotonic() - begin - 0.4
    assert 4 <= reads.ios <= 4 * (seconds(one) / DELAY + 2)
    made_in_all = read_log(slow).reads - 256
    assert made_in_all > reads.ios, "those of the ramp were made, too"
    assert one.io_log is not None
    assert len(one.io_log) == reads.ios
    assert one.io_log["end_ns"].max() <= one.runtime_ns + 50e6
    assert reads.samples["ios"].sum() == reads.ios
    assert reads.slat.count == reads.clat.count == reads.lat.count == reads.ios
    assert reads.samples["slat_sum"].sum() == reads.slat.sum
    assert one.depths.level.sum() <= reads.ios
    assert 0 < one.costs.polls <= reads.ios + seconds(one) / 0.001


@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_a_job_that_ends_in_its_ramp_has_measured_nothing(
    slow: str, tmp_path: Path, rw: str
) -> None:
    prefix = str(tmp_path / "log")
    logs = {f"write_{kind}_log": prefix for kind in ("bw", "iops", "lat", "hist")}
    made = job(slow, rw=rw, bs="4k", number_ios=20, ramp_time=30, **logs)
    result = engine.run([made])
    (one,) = result.jobs
    assert result.ok
    assert sum(way.ios for way in one.directions) == 0
    assert one.cpu.user_ns + one.cpu.system_ns <= one.runtime_ns, "above 100 %"
    assert "  no I/O was measured" in list(summary(result))
    assert (
        "job 'job' ended before its ramp_time of 30 s was over: nothing was measured"
        in result.warnings
    )
    for _, write in log_writers(result, [made]):
        write()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    kinds = ("bw", "iops", "slat", "clat", "lat", "clat_hist")
    assert sizes == dict.fromkeys([f"log_{kind}.1.log" for kind in kinds], 0)


def test_ctrl_c_in_the_ramp_has_its_result(slow: str, tmp_path: Path) -> None:
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 9, "ramp_time": 30}
    made = job(slow, "ramping", **options, write_lat_log=str(tmp_path / "log"))
    once_runs("ramping", (0.5, lambda: signal.raise_signal(signal.SIGINT)))
    result = engine.run([made])
    (one,) = result.jobs
    assert result.interrupted
    assert sum(way.ios for way in one.directions) == 0
    assert seconds(one) < 1
    assert any("ended before its ramp_time" in warning for warning in result.warnings)
    for _, write in log_writers(result, [made]):
        write()
    assert (tmp_path / "log_lat.1.log").read_bytes() == b""


def test_startdelay(slow: str) -> None:
    (result,) = engine.run([job(slow, rw="read", bs="4k", number_ios=5, startdelay="200ms")]).jobs
    assert result.start_ns >= 0.2e9
    assert seconds(result) >= 5 * DELAY


def test_thinktime(fast: str) -> None:
    result = run(
        fast, rw="read", bs="4k", number_ios=50, thinktime="20ms", thinktime_blocks=10, iodepth=4
    )
    assert result.directions[READ].ios == 50
    assert seconds(result) >= 4 * 0.02
    assert result.directions[READ].lat.percentile(50) < 20_000 * US


@pytest.mark.parametrize(("blocks", "pauses"), [({}, 4), ({"thinktime_blocks": 1 << 30}, 4)])
def test_thinktime_by_time(fast: str, blocks: dict[str, object], pauses: int) -> None:
    """As in fio: without a thinktime_blocks of its own, the time alone counts."""
    options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 1.3, "iodepth": 4}
    made = job(fast, **options, thinktime="100ms", thinktime_iotime="200ms", **blocks)

    def attempt() -> str:
        (result,) = engine.run([made], io_log=True).jobs
        assert result.io_log is not None
        ends = np.sort(result.io_log["end_ns"].astype(float))
        long = np.flatnonzero(np.diff(ends) >= 95e6)
        work = np.diff(ends[long], prepend=0) - np.append([0], [100e6] * (len(long) - 1))
        right = len(long) == pauses and (abs(work - 200e6) < 30e6).all()
        return "" if right else f"pauses after {ends[long] / 1e6} ms"

    until_right(attempt, undisturbed=5)


def test_what_arrives_in_a_pause(fast: str) -> None:
    """It is due at the pause's end, or with rate_ignore_thinktime nothing arrives then."""
    options = {"rw": "read", "bs": "4k", "number_ios": 500, "rate_iops": 1000, "iodepth": 4}
    pauses = {"thinktime": "100ms", "thinktime_blocks": 100}
    ignoring = run(fast, **options, **pauses, rate_ignore_thinktime=1)
    # 500 ms of arrivals, and four pauses.
    assert seconds(ignoring) >= 0.89

    def attempt() -> str:
        caught_up = seconds(run(fast, **options, **pauses))
        return "" if 0.49 <= caught_up <= 0.75 else f"{caught_up:.2f} s"

    until_right(attempt, undisturbed=5)


@pytest.mark.parametrize(
    "options",
    [{"rate_iops": 2000}, {"rate": "8000k"}, {"rate_iops": "2000,", "rwmixread": 100}],
)
def test_a_rate_is_kept(fast: str, options: dict[str, object]) -> None:
    """The n-th I/O is not made before its time; and not late, in the best of a few tries."""

    def attempt() -> str:
        result = run(fast, rw="randread", bs="4k", number_ios=800, iodepth=4, **options)
        assert result.directions[READ].ios == 800
        assert seconds(result) >= 799 / 2000
        late = seconds(result) / (800 / 2000) - 1
        return "" if late <= 0.02 else f"{late:.1%} late"

    until_right(attempt, undisturbed=5)


@pytest.mark.parametrize(
    ("options", "reads", "writes"),
    [
        ({"rate_iops": "800,100"}, 400, 50),
        ({"rate": "4m,1m"}, 360, 90),
        ({"rate_iops": "700,300", "rwmixread": 70}, 315, 135),
        ({"rate_iops": "2000,0", "rwmixread": 1}, None, None),
    ],
    ids=["in I/Os", "in bytes", "as the mix", "one of them"],
)
def test_each_direction_of_a_mix_has_its_rate(
    fast: str, options: dict[str, object], reads: int | None, writes: int | None
) -> None:
    result = run(fast, rw="randrw", bs="4k", number_ios=450, iodepth=8, **options)
    made = [result.directions[direction].ios for direction in (READ, WRITE)]
    assert sum(made) == 450
    if reads is not None:
        assert made == [pytest.approx(reads, abs=1), pytest.approx(writes, abs=1)]
    else:
        assert made[WRITE] >= 224  # as fast as it goes


def test_reading_back_is_not_held_back_by_a_rate(fast: str) -> None:
    result = run(
        fast, rw="write", bs="64k", size="1m", verify="crc32c", rate_iops="1,200", iodepth=4
    )
    assert result.ok
    assert [result.directions[direction].ios for direction in (READ, WRITE)] == [16, 16]
    assert seconds(result) < 5  # 15 at a rate of 1


@pytest.mark.parametrize("backlog", [0, 16])
def test_each_direction_has_the_run_time_of_its_own_phases(qemu: None, backlog: int) -> None:
    """Of 128 writes at 100 a second, and 128 reads of 5 ms, one after another."""
    options = {"rw": "write", "bs": "4k", "size": "512k", "verify": "crc32c"}
    with served("delay=5000&in-turn") as (name, _):
        made = job(name, **options, rate_iops="40,100", verify_backlog=backlog)
        (result,) = engine.run([made]).jobs
    reads, writes = (result.directions[direction] for direction in (READ, WRITE))
    assert (reads.ios, writes.ios) == (128, 128)
    # 127 times from one arrival to the next, and the device's own time after the last.
    assert writes.runtime_ns >= 1.27e9
    assert reads.runtime_ns >= 0.64e9
    assert reads.runtime_ns + writes.runtime_ns == pytest.approx(result.runtime_ns, rel=0.01)
    # The course of each is of the same time.
    for one in (reads, writes):
        assert spans(one.samples).sum() * 1e9 == pytest.approx(one.runtime_ns, rel=0.001)
    if not backlog:
        assert course(reads.samples, 100).end_s.min() > 1.27
    both = mixed(result)
    assert (both.ios, both.runtime_ns) == (256, result.runtime_ns)


def test_a_rate_by_chance_is_the_same_on_average(fast: str) -> None:
    options = {"rw": "randread", "bs": "4k", "number_ios": 2000, "iodepth": 32}
    (result,) = engine.run(
        [job(fast, **options, rate_iops=4000, rate_process="poisson")], io_log=True
    ).jobs
    assert seconds(result) / 0.5 >= 0.9
    assert result.io_log is not None
    arrivals = np.sort(result.io_log["end_ns"].astype(float) - result.io_log["lat"])
    between = np.diff(arrivals)
    assert between.mean() == pytest.approx(1e9 / 4000, rel=0.1)
    # Of the exponential law the deviation is the mean, and the median is ln 2 of it.
    assert between.std() == pytest.approx(between.mean(), rel=0.1)
    assert np.median(between) == pytest.approx(0.693 * between.mean(), rel=0.1)


def test_arrivals_are_kept_while_the_device_stalls(qemu: None) -> None:
    """What arrives then waits in the queue, and its latency says so."""

    def attempt() -> str:
        with served("null") as (name, server):
            stop, go_on = (
                partial(server.send_signal, one) for one in (signal.SIGSTOP, signal.SIGCONT)
            )
            stalled = once_runs("job", (0.2, stop), (0.3, go_on))
            options = {"rw": "randread", "bs": "4k", "iodepth": 8, "rate_iops": 1000}
            (result,) = engine.run([job(name, **options, number_ios=900)], io_log=True).jobs
            stalled.join()
        log = result.io_log
        assert log is not None
        assert result.directions[READ].ios == 900
        assert seconds(result) >= 0.899
        # Of 300 that arrived in the stall two thirds waited for more than 100 ms.
        late = np.count_nonzero(log["lat"] > 100e6)
        # The device saw no more than the queue holds.
        seen = np.count_nonzero(log["clat"] > 100e6)
        right = late >= 150 and seen <= 8 and result.directions[READ].lat.max >= 200_000 * US
        return "" if right else f"{late} waited, {seen} of them in the device"

    until_right(attempt)


# --- until when -----------------------------------------------------------------------------------


def test_max_latency(qemu: None) -> None:
    with served("null&delay=200&slow=30000:500") as (name, _):
        options = {"rw": "randread", "bs": "4k", "time_based": True, "runtime": 90}
        result = engine.run([job(name, **options, max_latency="20ms")])
    assert not result.ok
    assert seconds(result.jobs[0]) < 60
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
    for _ in range(10):
        unsteady = run(slow, **options, ss="iops:0.000001%").steady_state
        assert unsteady is not None
        if len(set(unsteady.iops)) == 2:  # a quiet machine may make as many twice
            break
    assert not unsteady.attained
    assert unsteady.criterion > 0.000001


def test_the_depth_that_keeps_a_latency(qemu: None) -> None:
    """One after the other, 1 ms each: eight are served in 8 ms."""
    with served("null&delay=1000&in-turn") as (name, _):

        def attempt() -> str:
            result = run(
                name, rw="randread", bs="4k", iodepth=32, time_based=True, runtime="1500ms",
                latency_target="8600us", latency_window="200ms", latency_percentile=50,
            )  # fmt: skip
            found = result.latency_target
            assert found is not None
            # A machine with other work serves more slowly, which takes some of the depth; and the
            # first I/Os after a pause of the job's find a queue that is empty, which adds to it.
            return "" if found.met and 5 <= found.depth <= 8 else f"depth {found.depth}"

        until_right(attempt, undisturbed=3)


def test_another_signal_at_once_does_not_end_the_results(fast: str) -> None:
    """While they are written; one that comes later does, and handlers are as they were."""
    before = signal.getsignal(signal.SIGINT)
    once_runs("hasty", (0.3, lambda: signal.raise_signal(signal.SIGINT)))
    written: list[int] = []

    def finish(result: RunResult) -> None:
        signal.raise_signal(signal.SIGINT)
        written.append(result.signal)
        time.sleep(1.1)
        signal.raise_signal(signal.SIGINT)

    hasty = job(fast, "hasty", rw="randread", time_based=True, runtime=60)
    with pytest.raises(KeyboardInterrupt):
        engine.run([hasty], finish=finish)
    assert written == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_to_a_run_that_was_not_ended_ends_its_results(fast: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        engine.run(
            [job(fast, rw="read", number_ios=9)],
            finish=lambda _: signal.raise_signal(signal.SIGINT),
        )
