"""Benchmark jobs by their options, run, and what the software controller says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import pytest

from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.results.result import JobResult, RunResult
from pynvme_user.bench.run import engine
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload

READ, WRITE, TRIM = range(3)
US = 1000
#: Of the fixture `slow`, in seconds.
DELAY = 0.001


def job(device: str, name: str = "job", *, group: int = 0, **options: object) -> Job:
    """Make a job of fio's options; True stands for an option without a value."""
    given = [(key, None if value is True else str(value)) for key, value in options.items()]
    made, _ = JobBuilder([*given, ("filename", device)]).job(name, group=group)
    return made


def run(device: str, **options: object) -> JobResult:
    """Run one job of one queue."""
    (result,) = engine.run([job(device, **options)]).jobs
    return result


def run_many(device: str, jobs: Mapping[str, Mapping[str, object]]) -> RunResult:
    """Run several jobs of one group, by their names."""
    return engine.run([job(device, name, **options) for name, options in jobs.items()])


def once_runs(name: str, *steps: tuple[float, Callable[[], object]]) -> threading.Thread:
    """Take each step so many seconds after the last; the first so long after a job began to run.

    However long it takes to open the device. ``name`` is the job's, of which there is one.
    """
    return _once(lambda: any(thread.name == name for thread in threading.enumerate()), steps)


def once_done(
    monkeypatch: pytest.MonkeyPatch,
    ios: Mapping[str, int],
    *steps: tuple[float, Callable[[], object]],
    of: str = "completed",
) -> threading.Thread:
    """Take each step so many seconds after the last; the first once each job has done so many I/Os.

    However long it takes them on a busy machine. ``ios`` is by the jobs' names; ``of`` says whether
    those that are ``submitted`` or ``completed`` count.
    """
    loops: WeakValueDictionary[str, Workload | WorkloadGroup] = WeakValueDictionary()

    def seen(run_loop: Callable[..., bool]) -> Callable[..., bool]:
        def see(pair: Any, loop: Workload | WorkloadGroup, *args: Any, **options: Any) -> bool:
            loops[threading.current_thread().name] = loop
            return run_loop(pair, loop, *args, **options)

        return see

    for kind in (QueuePair, QueuePairGroup):
        monkeypatch.setattr(kind, "run_loop", seen(kind.run_loop))
    return _once(lambda: all(getattr(loops.get(name), of, -1) >= ios[name] for name in ios), steps)


def _once(
    begun: Callable[[], bool], steps: tuple[tuple[float, Callable[[], object]], ...]
) -> threading.Thread:
    def take() -> None:
        while not begun():
            time.sleep(0.001)
        for pause, step in steps:
            time.sleep(pause)
            step()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread


def seconds(result: JobResult) -> float:
    """What a job took, from its first I/O to its last."""
    return result.runtime_ns / 1e9
