"""How a benchmark ends that goes wrong: errors, a device that goes away, ctrl-C, bad jobs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from bench_rig import READ, TRIM, WRITE, job, once_done, once_runs, run
from software_controller import read_log, renew, served

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.run import engine
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.errors import DmaError
from pynvme_user.host.numa import memory_nodes
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.workload.loop import Workload

# --- errors ---------------------------------------------------------------------------------------


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


# --- resets ---------------------------------------------------------------------------------------


def reset_once(monkeypatch: pytest.MonkeyPatch, submitted: int, outstanding: bool) -> list[int]:
    """Reset the controller of the job named ``job``, between two looks of its thread.

    Once so many I/Os were submitted, while something is outstanding or not; what is returned has
    them then.
    """
    done: list[int] = []
    of_job: list[nvme.Namespace] = []
    current = nvme.Namespace.current

    def look(ns: nvme.Namespace) -> Geometry:
        geometry = current(ns)
        of_job[:] = [ns]
        return geometry

    def begun_late(advance: Callable[..., bool]) -> Callable[..., bool]:
        def late(pair: Any, loop: Workload, timeout_ns: int, **options: Any) -> bool:
            ours = threading.current_thread().name == "job" and not done
            if ours and loop.submitted >= submitted:
                pairs = pair._pairs if isinstance(pair, QueuePairGroup) else [pair]
                if any(one.outstanding for one in pairs) == outstanding:
                    done.append(loop.submitted)
                    of_job[0].controller.reset()
            return advance(pair, loop, timeout_ns, **options)

        return late

    monkeypatch.setattr(nvme.Namespace, "current", look)
    for kind in (nvme.QueuePair, QueuePairGroup):
        monkeypatch.setattr(kind, "run_loop", begun_late(kind.run_loop))
    return done


@pytest.mark.parametrize(
    ("submitted", "options"),
    [
        (0, {"number_ios": 100}),
        (0, {"number_ios": 100, "queues": 3}),
        (2, {"number_ios": 20, "rate_iops": 40}),
        (2, {"number_ios": 20, "rate_iops": 40, "ramp_time": "200ms"}),
    ],
    ids=str,
)
def test_a_reset_with_nothing_outstanding_ends_no_job(
    fast: str, monkeypatch: pytest.MonkeyPatch, submitted: int, options: dict[str, object]
) -> None:
    renew(fast)
    done = reset_once(monkeypatch, submitted, False)
    result = run(fast, rw="randread", bs="4k", **options)
    assert len(done) == 1
    assert result.ok
    assert not result.errors
    in_ramp = 10 if "ramp_time" in options else 0
    assert 0 <= int(str(options["number_ios"])) - result.directions[READ].ios <= in_ramp


def test_a_reset_with_ios_outstanding_ends_the_job_with_their_errors(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = reset_once(monkeypatch, 4, True)
    result = run(slow, rw="randread", bs="4k", iodepth=4, number_ios=2000)
    assert len(done) == 1
    assert not result.ok
    assert result.errors == {int(HOST_ABORTED): 4}
    assert result.directions[READ].ios < 2000


def test_another_format_just_before_the_first_io(
    qemu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the job was made for is not there any more."""
    current = nvme.Namespace.current
    formatted: list[int] = []

    def look(ns: nvme.Namespace) -> Geometry:
        geometry = current(ns)
        if threading.current_thread().name == "job" and not formatted:
            formatted.append(ns.nsid)
            ns.controller.admin(AdminOpcode.FORMAT_NVM, nsid=ns.nsid, cdw10=4)
        return geometry

    monkeypatch.setattr(nvme.Namespace, "current", look)
    result = run("qemu:?size=16M", rw="randread", bs="4k", number_ios=10)
    assert not result.ok
    assert "its block size changed from 512 bytes to 4096" in result.failure
    assert result.directions[READ].ios == 0


# --- a device that goes away ----------------------------------------------------------------------


@pytest.mark.parametrize("ios", [{"one": 17, "two": 1}, {"one": 400, "two": 20}], ids=str)
def test_a_device_that_goes_away(
    qemu: None, monkeypatch: pytest.MonkeyPatch, ios: dict[str, int]
) -> None:
    killed: list[float] = []
    with served("null&delay=1000") as (name, server):

        def kill() -> None:
            server.kill()
            killed.append(time.monotonic())

        once_done(monkeypatch, ios, (0, kill))
        result = engine.run(
            [
                job(name, "one", rw="randread", bs="4k", iodepth=16, time_based=True, runtime=90),
                job(name, "two", rw="randwrite", bs="4k", rate_iops=50, time_based=1, runtime=90),
            ]
        )
        assert time.monotonic() - killed[0] < 20  # before the commands' timeout of 30 s
    assert not result.ok
    one, two = result.jobs
    assert one.failed > 0
    assert one.errors
    assert one.directions[READ].ios >= ios["one"]
    assert two.directions[WRITE].ios >= ios["two"]
    assert not one.ok
    assert not two.ok
    assert "is gone" in one.failure
    assert "is gone" in two.failure


@pytest.mark.kills
def test_what_ran_before_the_device_went_away_is_told(
    qemu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served("null&size=64M") as (name, server):
        once_done(monkeypatch, {"cut": 1000}, (0, server.kill))
        result = engine.run(
            [
                job(name, "whole", rw="randread", bs="4k", number_ios=100),
                job(name, "cut", group=1, rw="randwrite", bs="4k", time_based=True, runtime=90),
                job(name, "never", group=2, rw="read"),
                job(name, "nor", group=3, rw="read"),
            ]
        )
    assert [one.name for one in result.jobs] == ["whole", "cut"]
    whole, cut = result.jobs
    assert whole.ok
    assert whole.directions[READ].ios == 100
    assert cut.directions[WRITE].ios >= 1000
    assert "is gone" in cut.failure
    assert "is gone" in result.failure
    assert result.failure.endswith("; not run: never, nor")
    assert not result.ok


# --- ctrl-C ---------------------------------------------------------------------------------------


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_ctrl_c_again_does_not_wait(qemu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device whose I/Os take a quarter of an hour."""
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        press_ctrl_c()

    with served("null&delay=1000000000&size=64M") as (name, _):
        options = {"rw": "randwrite", "bs": "4k", "iodepth": 8, "time_based": True, "runtime": 90}
        ios = {"one": 8, "two": 8}
        once_done(monkeypatch, ios, (0.5, press), (0.5, press), of="submitted")
        result = engine.run([job(name, "one", **options), job(name, "two", **options)])
        assert len(pressed) == 2
        assert time.monotonic() - pressed[0] < 20  # before the commands' timeout of 30 s
        # Nothing is left on the controller, and it is as good as new.
        with nvme.open(name) as controller:
            assert controller.registers.csts.rdy == 1
        assert result.interrupted
        assert [one.name for one in result.jobs] == ["one", "two"]
        for one in result.jobs:
            assert one.failed == 8
            assert one.errors == {int(HOST_ABORTED): 8}


def test_ctrl_c_before_the_first_io_does_not_wait_for_it(slow: str) -> None:
    once_runs("job", (0.5, press_ctrl_c))
    begin = time.monotonic()
    result = engine.run([job(slow, rw="randwrite", bs="4k", startdelay=90)])
    assert time.monotonic() - begin < 60
    assert result.interrupted


def test_ctrl_c_gives_the_results_so_far(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renew(slow)
    options = {"rw": "randread", "bs": "4k", "iodepth": 8, "time_based": True, "runtime": 90}
    once_done(monkeypatch, {"one": 9, "two": 9}, (0, press_ctrl_c))
    begin = time.monotonic()
    result = engine.run(
        [job(slow, "one", **options), job(slow, "two", **options), job(slow, "never", group=1)]
    )
    assert time.monotonic() - begin < 60
    assert result.interrupted
    assert [one.name for one in result.jobs] == ["one", "two"]
    assert result.ok
    made = sum(one.directions[READ].ios for one in result.jobs)
    assert all(one.directions[READ].ios > 8 for one in result.jobs)
    # The queues were drained: what was submitted was counted.
    blank_reads = 256
    assert read_log(slow).reads == made + blank_reads


# --- jobs that cannot run -------------------------------------------------------------------------


def test_jobs_that_do_not_fit_are_refused_before_the_first_runs(fast: str) -> None:
    renew(fast)
    good = job(fast, rw="write", bs="4k", size="1m")
    for options, problem in (
        ({"bs": "1000"}, "not whole blocks of 512"),
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


def test_more_queues_than_the_controller_grants_are_refused_before_any_io(fast: str) -> None:
    renew(fast)
    with nvme.open(fast) as controller:
        most = controller.max_queue_pairs
    options = {"rw": "randwrite", "bs": "4k", "number_ios": 1}
    with pytest.raises(JobError, match=rf"{most + 1} queues .* {most} .*'many' numjobs={most + 1}"):
        engine.run([job(fast, "first", **options), job(fast, "many", group=1, numjobs=most + 1)])
    assert read_log(fast).writes == 0
