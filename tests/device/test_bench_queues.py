"""queues=N: one thread over many queue pairs, whose results are one job's."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from functools import partial

import pytest
from bench_rig import READ, WRITE, job, once_done, run, seconds
from software_controller import read_log, renew, served

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.run import engine
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload


@pytest.mark.parametrize("queues", [1, 2, 100])
@pytest.mark.parametrize(
    ("options", "ios"),
    [
        ({"rw": "write"}, 1024),
        ({"rw": "randwrite", "iodepth": 4}, 1024),
        ({"rw": "write", "number_ios": 77}, 77),
        ({"rw": "write", "io_size": "10m"}, 2560),
        ({"rw": "trim", "loops": 2}, 2048),
        ({"rw": "write", "bs": "1m", "size": "16m"}, 16),
    ],
    ids=str,
)
def test_the_amount_is_the_job_s(
    fast: str, options: dict[str, object], ios: int, queues: int
) -> None:
    renew(fast)
    most = 0

    def watch(_: object) -> None:
        nonlocal most
        most = max(most, [thread.name for thread in threading.enumerate()].count("job"))

    given = {"bs": "4k", "size": "4m", **options}
    (result,) = engine.run([job(fast, queues=queues, **given)], watch=watch).jobs
    assert result.ok
    assert sum(direction.ios for direction in result.directions) == ios
    for direction in result.directions:
        assert direction.slat.count == direction.clat.count == direction.lat.count == direction.ios
        assert direction.samples["ios"].sum() == direction.ios
    log = read_log(fast)
    assert log.writes + log.trims == ios * (8 if given["bs"] == "1m" else 1)
    assert most <= 1


def test_each_block_of_a_random_job_is_written_once(fast: str) -> None:
    renew(fast)
    made = job(fast, rw="randwrite", bs="4k", size="4m", queues=10, iodepth=2)
    (result,) = engine.run([made], io_log=True).jobs
    assert result.io_log is not None
    assert sorted(result.io_log["offset"].tolist()) == list(range(0, 4 << 20, 4096))


def test_iodepth_is_each_queue_s(slow: str) -> None:
    renew(slow)
    result = run(slow, rw="randwrite", bs="4k", queues=10, iodepth=3, number_ios=900)
    assert read_log(slow).deepest == 3
    assert result.directions[WRITE].ios == 900
    assert result.depths.level.tolist()[2:] == [0] * 5  # none above 3


def test_a_rate_is_the_job_s(fast: str) -> None:
    renew(fast)
    options = {"bs": "4k", "queues": 50, "time_based": True, "runtime": 2}
    result = run(fast, rw="randrw", rate_iops="300,100", **options)
    ios = [direction.ios for direction in result.directions]
    assert ios[READ] == pytest.approx(600, abs=55)  # one of each queue at the end
    assert ios[WRITE] == pytest.approx(200, abs=55)


def test_each_of_500_queues_has_its_rate(qemu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one thread, and each alike: 2 s of 10 I/Os a second."""
    groups: list[WorkloadGroup] = []
    begin = WorkloadGroup.__init__

    def made(group: WorkloadGroup, workloads: Sequence[Workload], *, blocks: int) -> None:
        begin(group, workloads, blocks=blocks)
        groups.append(group)

    monkeypatch.setattr(WorkloadGroup, "__init__", made)
    options = {"rate_iops": 5000, "queues": 500, "time_based": True, "runtime": 2}
    with served("null&queues=511") as (name, _):
        result = run(name, rw="randread", bs="4k", **options)
    (group,) = groups
    assert result.ok
    counts = [one.submitted for one in group.members]
    assert len(counts) == 500
    assert 18 <= min(counts) <= max(counts) <= 21 + 10 * (seconds(result) - 2)
    assert result.directions[READ].ios == sum(counts)


def test_ramp_logs_and_clones(fast: str) -> None:
    renew(fast)
    options = {"bs": "4k", "queues": 5, "numjobs": 2, "time_based": True, "runtime": "500ms"}
    result = engine.run(
        [job(fast, rw="randread", ramp_time="300ms", norandommap=True, **options)], io_log=True
    )
    assert len(result.jobs) == 2
    for one in result.jobs:
        reads = one.directions[READ]
        assert one.ok
        assert reads.ios == reads.slat.count == reads.lat.count
        assert one.io_log is not None
        assert len(one.io_log) == reads.ios > 0


def test_errors_and_ctrl_c(fast: str, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renew(fast, "status", 10, 0x281)
    result = run(
        fast, rw="randwrite", bs="4k", number_ios=1000, queues=7, iodepth=2, continue_on_error="all"
    )
    assert result.errors == {0x281: 100}
    assert result.directions[WRITE].ios == 900
    renew(slow)
    interrupt = partial(signal.raise_signal, signal.SIGINT)
    thread = once_done(monkeypatch, {"job": 21}, (0, interrupt))
    made = job(slow, rw="randwrite", bs="4k", queues=20, time_based=True, runtime=60)
    run_result = engine.run([made])
    thread.join()
    assert run_result.signal == signal.SIGINT
    (one,) = run_result.jobs
    assert one.failed == 0
    assert read_log(slow).writes == one.directions[WRITE].ios > 20


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queues": 0}, "queues is at least 1"),
        ({"queues": 2, "verify": "crc32c"}, "use numjobs instead of queues"),
        ({"queues": 2, "mode": "hybrid"}, "mode=hybrid sleeps for one queue"),
        ({"queues": 2, "zonemode": "zbd"}, "use numjobs instead of queues"),
        ({"queues": 65, "numjobs": 2}, "than the 128 .*: give less numjobs or less queues, or let"),
        (
            {"queues": 129},
            "129 queues at a time are more than the 128 .*: give less queues, or let",
        ),
        ({"numjobs": 129}, "129 queues at a time are more than the 128 .*: give less numjobs, or"),
    ],
    ids=str,
)
def test_what_cannot_be(fast: str, options: dict[str, object], problem: str) -> None:
    with pytest.raises(JobError, match=problem):
        engine.run([job(fast, rw="write", bs="4k", size="1m", **options)])
