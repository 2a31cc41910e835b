"""queues=N on several devices: one thread over the queue pairs of all of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from bench_rig import READ, WRITE, job, once_runs, seconds
from disturbance import until_right
from software_controller import read_log, renew, served

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.aggregate import whole_jobs
from pynvme_user.bench.results.result import RunResult
from pynvme_user.bench.run import engine
from pynvme_user.bench.run.engine import Progress
from pynvme_user.bench.run.recorder import Recorder
from pynvme_user.driver.completion import HOST_ABORTED

#: A device, and what ends it once the job reads.
Mortal = tuple[str, Callable[[Progress], None]]


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    with served("null&delay=1000") as (name, server):

        def kill(progress: Progress) -> None:
            if progress.iops[READ]:
                server.kill()

        yield name, kill


@pytest.fixture(scope="module")
def third(qemu: None) -> Iterator[str]:
    with served("size=64M") as (name, _):
        yield name


def run_alone(
    *names: str, look: Callable[[Progress], object] = bool, **options: object
) -> tuple[RunResult, int]:
    """Run one job on these devices; tell also how many threads it had. ``look`` sees it run."""
    most = 0

    def watch(progress: Progress) -> None:
        nonlocal most
        most = max(most, [thread.name for thread in threading.enumerate()].count("job"))
        look(progress)

    result = engine.run([job(":".join(names), **options)], watch=watch)
    return result, most


@pytest.mark.parametrize("queues", [1, 3, 40])
def test_each_device_has_its_share(fast: str, slow: str, third: str, queues: int) -> None:
    names = (fast, slow, third)
    for name in names:
        renew(name)
    result, threads = run_alone(
        *names, rw="randwrite", bs="4k", size="6m", iodepth=3, queues=queues
    )
    assert result.ok
    assert threads <= 1
    for part, name in zip(result.jobs, names, strict=True):
        assert part.device.name == name
        assert part.directions[WRITE].ios == read_log(name).writes == 512
        assert read_log(name).deepest == 1
        assert part.directions[WRITE].samples["ios"].sum() == 512
    (whole,) = whole_jobs(result.jobs)
    assert (whole.queues, whole.threads) == (3 * queues, 1)
    assert whole.directions[WRITE].bytes == 6 << 20
    assert whole.cpu.user_ns + whole.cpu.system_ns <= whole.runtime_ns * 1.01
    assert not any("queues that poll share" in text for text in result.warnings)


def test_without_queues_each_device_has_a_thread(fast: str, slow: str) -> None:
    result, threads = run_alone(fast, slow, rw="randread", bs="4k", time_based=True, runtime=1)
    assert threads == 2
    (whole,) = whole_jobs(result.jobs)
    assert (whole.queues, whole.threads) == (2, 2)


def test_clones_have_a_thread_each(fast: str, slow: str) -> None:
    options = {"bs": "4k", "queues": 5, "numjobs": 2, "time_based": True, "runtime": 1}
    result, threads = run_alone(fast, slow, rw="randread", rate_iops=100, **options)
    assert result.ok
    assert threads == 2
    assert len(result.jobs) == 4
    wholes = whole_jobs(result.jobs)
    assert [(whole.queues, whole.threads) for whole in wholes] == [(10, 1)] * 2


def test_each_device_has_its_share_of_a_rate(fast: str, slow: str, third: str) -> None:
    """30 queue pairs, 5 I/Os a second each."""

    def attempt() -> str:
        options = {"rw": "randread", "bs": "4k", "rate_iops": 150, "queues": 10}
        result, _ = run_alone(fast, slow, third, time_based=True, runtime=2, **options)
        assert result.ok
        ios = [part.directions[READ].ios for part in result.jobs]
        for made, part in zip(ios, result.jobs, strict=True):
            assert made <= 50 * seconds(part) + 11  # one of each queue pair at the end
        return "" if min(ios) >= 90 else f"{ios} I/Os, of 100 each"

    until_right(attempt)


def test_verification_finds_what_one_device_spoils(fast: str, third: str) -> None:
    renew(third)
    renew(fast, "write-flip", 50)
    options = {"rw": "randwrite", "bs": "4k", "size": "4m", "verify": "crc32c"}
    result, _ = run_alone(fast, third, queues=1, **options)
    spoilt, sound = result.jobs
    assert spoilt.verify is not None
    assert sound.verify is not None
    assert spoilt.verify.faulty > 0
    assert not spoilt.ok
    assert sound.ok
    assert (sound.verify.blocks, sound.verify.faulty) == (4096, 0)
    renew(fast)


@pytest.mark.parametrize("queues", [1, 5])
def test_a_device_that_goes_away_ends_its_part(fast: str, mortal: Mortal, queues: int) -> None:
    name, kill = mortal
    options = {"rw": "randread", "bs": "4k", "iodepth": 8, "queues": queues}
    result, _ = run_alone(name, fast, look=kill, time_based=True, runtime=4, **options)
    gone, other = result.jobs
    assert "is gone" in gone.failure
    assert gone.errors == {int(HOST_ABORTED): 4 * queues}
    assert gone.directions[READ].ios > 0
    assert other.ok
    assert seconds(other) >= 4 > seconds(gone)
    assert other.directions[READ].ios > other.queues


def test_exitall_on_error_ends_the_others(fast: str, mortal: Mortal) -> None:
    name, kill = mortal
    options = {"rw": "randread", "bs": "4k", "queues": 2, "exitall_on_error": True}
    result, _ = run_alone(name, fast, look=kill, time_based=True, runtime=60, **options)
    assert seconds(result.jobs[1]) < 30
    assert "is gone" in result.jobs[0].failure
    assert result.jobs[1].ok


def test_exitall_on_error_of_any_kind(
    fast: str, third: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of one is known while others go on in the thread that they share."""
    options = {"rw": "randread", "bs": "4k", "queues": 2, "exitall_on_error": True}
    sample = Recorder.take_records

    def fail(recorder: Recorder) -> None:
        if recorder is failing[0]:
            raise RuntimeError("for a test")
        sample(recorder)

    failing: list[Recorder] = []
    begin = Recorder.begin

    def begun(recorder: Recorder, directions: object) -> None:
        failing.append(recorder)
        begin(recorder, directions)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "begin", begun)
    monkeypatch.setattr(Recorder, "take_records", fail)
    result, _ = run_alone(fast, third, time_based=True, runtime=60, **options)
    failed, other = result.jobs
    assert "for a test" in failed.failure
    assert seconds(other) < 30
    assert other.ok


def test_ctrl_c_drains_all_and_again_resets_all(slow: str) -> None:
    with (
        served("null&delay=1000000000&size=64M") as (stuck, _),
        served("null&delay=1000000000&size=65M") as (too, _),
    ):
        pressed: list[str] = []

        def look(progress: Progress) -> None:
            # First with I/O under way, then once one is drained and two cannot be.
            first = not pressed and progress.iops[WRITE] > 0
            if first or (len(pressed) == 1 and progress.running == 2):
                pressed.append(progress.phase)
                signal.raise_signal(signal.SIGINT)

        options = {"rw": "randwrite", "bs": "4k", "iodepth": 6, "queues": 4}
        result, _ = run_alone(stuck, slow, too, look=look, time_based=True, runtime=90, **options)
        assert pressed == ["run", "drain"]
        assert all(seconds(part) < 60 for part in result.jobs)
        with nvme.open(stuck) as controller:
            assert controller.registers.csts.rdy == 1
    assert result.signal == signal.SIGINT
    first, drained, last = result.jobs
    assert first.errors == last.errors == {int(HOST_ABORTED): 8}
    assert drained.failed == 0
    assert drained.directions[WRITE].ios > 8


def test_a_flow_and_pauses_of_parts_that_share_a_thread(fast: str, slow: str) -> None:
    result, _ = run_alone(
        fast, slow, rw="randread", bs="4k", number_ios=600, queues=2, flow=2, startdelay="100ms"
    )
    assert result.ok
    assert [part.directions[READ].ios for part in result.jobs] == [300, 300]
    options = {"rw": "randread", "bs": "4k", "number_ios": 40, "thinktime": 9000}
    result, _ = run_alone(fast, slow, queues=1, **options)
    assert [part.directions[READ].ios for part in result.jobs] == [20, 20]
    assert all(seconds(part) >= 19 * 0.009 for part in result.jobs)


def test_one_device_twice(fast: str) -> None:
    renew(fast)
    result, threads = run_alone(fast, fast, rw="write", bs="4k", size="2m", queues=8)
    assert threads <= 1
    assert [part.directions[WRITE].ios for part in result.jobs] == [256, 256]
    assert read_log(fast).writes == 512


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queues": 1, "mode": "hybrid"}, "mode=hybrid sleeps for one queue"),
        ({"queues": 2, "verify": "crc32c"}, "use numjobs instead of queues"),
        ({"queues": 129}, "129 queues at a time are more than the 128"),
        ({"queues": 2, "cpus_allowed": "4095"}, "cannot run on cpus_allowed=4095"),
    ],
    ids=str,
)
def test_what_cannot_be(fast: str, third: str, options: dict[str, object], problem: str) -> None:
    with pytest.raises(JobError, match=problem):
        run_alone(fast, third, rw="write", bs="4k", size="1m", **options)
    with nvme.open(fast) as controller, nvme.open(third):
        assert controller.registers.csts.rdy == 1


def test_a_child_of_the_run_touches_nothing(fast: str, third: str) -> None:
    children: list[int] = []

    def fork() -> None:
        if (child := os.fork()) == 0:
            time.sleep(0.2)
            os._exit(0)
        children.append(os.waitpid(child, 0)[1])

    once_runs("job", (0.3, fork))
    options = {"bs": "4k", "queues": 3, "time_based": True, "runtime": 1, "ramp_time": "100ms"}
    result, _ = run_alone(fast, third, rw="randread", **options)
    assert result.ok
    assert children == [0]
    for part in result.jobs:
        reads = part.directions[READ]
        assert reads.ios == reads.slat.count == reads.lat.count > 0
