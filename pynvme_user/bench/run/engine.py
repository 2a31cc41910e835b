"""Runs jobs: opens their devices, gives each part a thread, and gathers what they came to."""

from __future__ import annotations

import math
import os
import platform
import sysconfig
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from pynvme_user.bench.jobs.job import Job, clones
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results import health
from pynvme_user.bench.results.result import Health, JobResult, RunResult
from pynvme_user.bench.run.flow import Flow
from pynvme_user.bench.run.signals import Signals
from pynvme_user.bench.run.target import Targets
from pynvme_user.bench.run.thread import run_workers
from pynvme_user.bench.run.worker import Worker
from pynvme_user.bench.run.write_data import shares_contents
from pynvme_user.bench.run.zoned import ZoneMap
from pynvme_user.driver.controller import Controller
from pynvme_user.driver.namespace import Namespace
from pynvme_user.host import machine
from pynvme_user.workload.direction import Direction

_WATCH_SECONDS = 0.5
#: Reads of a range that is blank to this share are warned about.
_MUCH_BLANK = 0.05
#: So much of a CPU for each part, and one for the emulated device, have to be free.
_BUSY_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group of jobs is; three-tuples are by Direction."""

    elapsed: float  # seconds since the run began
    left: float | None  # seconds; None: not known
    done: float | None  # 0 to 1; None: not known
    running: int
    jobs: int
    phase: str  # ramp, run, verify or drain
    iops: tuple[float, float, float]
    bandwidth: tuple[float, float, float]  # bytes per second
    lat_mean: float | None  # nanoseconds, over the last interval


Watch = Callable[[Progress], None]
Report = Callable[[RunResult], None]


def run(
    jobs: Sequence[Job],
    *,
    watch: Watch | None = None,
    report: Report | None = None,
    report_seconds: float | None = None,
    finish: Report | None = None,
    histograms: bool = False,
    io_log: bool = False,
    command: str = "",
    notes: Sequence[str] = (),
) -> RunResult:
    """Run jobs, group after group, and tell what they came to.

    ``watch`` is called about twice a second. ``report`` is called with the results so far every
    ``report_seconds``, and at SIGUSR1; ``finish`` with all of them, before the devices are closed,
    which may take its time. ``histograms`` keeps the latencies of each second,
    ``io_log`` each I/O.

    After ctrl-C, SIGTERM or SIGHUP the queues are drained and the results so far returned; after
    another one the controllers are reset instead of waited for, and what was outstanding has
    failed.

    Raises JobError for a job that does not fit its device, and what opening a device raises. An
    error on the way ends its job, one at the beginning of a later group all that were to come: the
    results say so.
    """
    if not jobs:
        raise JobError("there is no job to run")
    result = RunResult(
        jobs=[],
        started=time.time(),
        command=command,
        warnings=list(notes),
        global_options=dict(jobs[0].shared),
    )
    began = time.monotonic()
    signals = Signals()
    parts = clones(jobs)
    with Targets() as targets:
        groups = [list(group) for _, group in groupby(parts, lambda part: part.group)]
        made = _make(groups, targets, signals, histograms=histograms, io_log=io_log)
        result.warnings += _warnings(made, targets)
        result.machine = _machine()
        result.health = [Health(name, log) for name, log in targets.health().items()]
        reporter = _Reporter(result, began, report, report_seconds)
        with signals.spared():
            with signals.caught():
                for index, group in enumerate(made):
                    signals.controllers = list({part.target.controller for part in group})
                    error = _run_group(group, signals, began, watch, reporter)
                    _gather(result, group, began)
                    if error is not None:
                        if not result.jobs:
                            try:
                                raise error
                            finally:
                                del error  # which would keep this frame, and it the error
                        result.failure = _not_run(made[index:], error)
                    if signals.ended_by and (left := made[index + 1 :]):
                        result.warnings.append(
                            f"job {signals.ended_by!r} ended the run by exitall; "
                            f"not run: {_names(left)}"
                        )
                    if signals.interrupted or result.failure or signals.ended_by:
                        break
            result.signal = signals.interrupted
            result.elapsed_ns = int((time.monotonic() - began) * 1e9)
            logs = targets.health()
            result.health = [replace(one, after=logs[one.device]) for one in result.health]
            result.warnings += [text for one in result.health for text in health.warnings(one)]
            if finish is not None:
                finish(result)
    return result


def _gather(result: RunResult, parts: Sequence[Worker], began: float) -> None:
    """Add what the parts of a group came to."""
    result.jobs += [part.result(began) for part in parts if part.began and part.job.stats]
    result.warnings += [text for part in parts for text in part.warnings]


def _not_run(groups: Sequence[Sequence[Worker]], error: Exception) -> str:
    return f"{error}; not run: {_names(groups)}"


def _names(groups: Sequence[Sequence[Worker]]) -> str:
    """Name the jobs of those that did not begin."""
    names = dict.fromkeys(part.job.name for group in groups for part in group if not part.began)
    return ", ".join(names)


def _make(
    groups: Iterable[Sequence[Job]],
    targets: Targets,
    signals: Signals,
    *,
    histograms: bool,
    io_log: bool,
) -> list[list[Worker]]:
    """Make the parts of all groups before the first runs: what does not fit shows at once."""
    made, number = [], 0
    maps: dict[Namespace, ZoneMap] = {}
    for group in groups:
        parts = []
        flows: defaultdict[int, Flow] = defaultdict(Flow)
        for job in group:
            # Several devices: a queue pair on each.
            for name in job.filenames:
                number += 1
                alone = replace(job, filenames=(name,), number=number)
                target = targets.get(name, job.nsid)
                flow = flows[job.flow_id] if job.flow else None
                parts.append(
                    Worker(alone, target, signals, flow=flow, histograms=histograms, io_log=io_log)
                )
        _check_queues(parts)
        _check_overlap(parts)
        _obey_zones(parts, maps)
        made.append(parts)
    sharing = [part for parts in made for part in parts if shares_contents(part.job)]
    for part in sharing:
        part.share_contents([other.job.seed for other in sharing])
    return made


def _obey_zones(parts: Sequence[Worker], maps: dict[Namespace, ZoneMap]) -> None:
    """Give those with zonemode=zbd the zones of their namespace, which they share."""
    zoned = [part for part in parts if part.job.zbd]
    for part in zoned:
        ns = part.target.ns
        if ns not in maps:
            maps[ns] = ZoneMap(ns, part.target.zone_blocks)
            maps[ns].refresh()
        writers = sum(one.target.ns is ns and one.job.destructive for one in zoned)
        part.obey_zones(maps[ns], max(1, writers))


def _check_queues(parts: Sequence[Worker]) -> None:
    """Refuse more queues at a time than a controller grants."""
    for wave in _waves(parts):
        on: defaultdict[Controller, list[Worker]] = defaultdict(list)
        for part in wave:
            on[part.target.controller].append(part)
        for controller, sharing in on.items():
            wanted = sum(part.job.queues for part in sharing)
            if wanted > controller.max_queue_pairs:
                jobs = {part.job.name: part.job for part in sharing}
                named = ", ".join(
                    f"{name!r} numjobs={one.numjobs}"
                    + (f" queues={one.queues}" if one.queues > 1 else "")
                    for name, one in jobs.items()
                )
                remedies = [
                    *(["less numjobs"] if any(one.numjobs > 1 for one in jobs.values()) else []),
                    *(["less queues"] if any(one.queues > 1 for one in jobs.values()) else []),
                ] or ["fewer jobs"]
                raise JobError(
                    f"{wanted} queues at a time are more than the "
                    f"{controller.max_queue_pairs} that {controller.name} grants (of job {named}): "
                    f"give {' or '.join(remedies)}, or let jobs wait for others by stonewall"
                )


def _waves(parts: Sequence[Worker]) -> Iterator[list[Worker]]:
    """Give the parts of a group that run at a time: those of jobs that wait for none, and so on."""
    names = {part.job.name for part in parts}
    wave = [part for part in parts if part.job.wait_for not in names]
    waiting = [part for part in parts if part.job.wait_for in names]
    while wave:
        yield wave
        ended = {part.job.name for part in wave}
        wave = [part for part in waiting if part.job.wait_for in ended]
        waiting = [part for part in waiting if part not in wave]


def _check_overlap(parts: Sequence[Worker]) -> None:
    """Refuse queues that would overwrite each other's blocks while they are verified."""
    writers = [part for part in parts if part.job.verify and part.job.destructive]
    writers.sort(key=lambda part: (part.target.device.name, part.target.ns.nsid, part.offset))
    for first, second in pairwise(writers):
        if first.target.ns is second.target.ns and first.offset + first.reach > second.offset:
            raise JobError(
                f"jobs {first.job.name!r} and {second.job.name!r} would verify the same blocks "
                "that both write: give each a range of its own by offset_increment and size"
            )


def _run_group(
    parts: Sequence[Worker],
    signals: Signals,
    began: float,
    watch: Watch | None,
    reporter: _Reporter,
) -> Exception | None:
    """Run the parts of a group; tell why some could not begin, if so."""
    for wave in _waves(parts):
        if signals.interrupted:
            break
        _run_together(wave, parts, signals, _Watcher(wave, began, watch), reporter)
        for part in wave:
            if part.error is not None and not part.began:
                return part.error
    return None


def _run_together(
    parts: Sequence[Worker],
    group: Sequence[Worker],
    signals: Signals,
    watcher: _Watcher,
    reporter: _Reporter,
) -> None:
    sharing: defaultdict[int, list[Worker]] = defaultdict(list)
    for part in parts:
        sharing[part.job.thread].append(part)
    ready = threading.Barrier(len(sharing))
    threads = [
        threading.Thread(target=run_workers, args=(of, ready), name=of[0].job.name)
        for of in sharing.values()
    ]
    for thread in threads:
        thread.start()
    while alive := [part for part in parts if not part.ended.is_set()]:
        pause = _WATCH_SECONDS if len(alive) == 1 else _WATCH_SECONDS / 5
        alive[0].ended.wait(min(pause, reporter.seconds_left))
        _pass_ends_on(parts, group, signals)
        watcher.look(alive)
        if reporter.due or signals.report:
            signals.report = False
            reporter.report(parts)
    for thread in threads:
        thread.join()
    _pass_ends_on(parts, group, signals)


class _Reporter:
    """Tells the results so far, now and then."""

    def __init__(
        self, result: RunResult, began: float, report: Report | None, seconds: float | None
    ) -> None:
        self._result = result
        self._began = began
        self._report = report
        self._seconds = seconds if report is not None else None
        self._next = began + seconds if seconds is not None else math.inf

    @property
    def seconds_left(self) -> float:
        """How long it is to the next one; 0 if it is due."""
        return max(0.0, self._next - time.monotonic())

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    def report(self, parts: Sequence[Worker]) -> None:
        """Tell the results of all that ran, and of these parts, which run."""
        if self._report is None:
            return
        found = [part.so_far(self._began) for part in parts if part.job.stats]
        jobs: list[JobResult] = [job for job in found if job is not None]
        now = time.monotonic()
        self._report(
            replace(
                self._result,
                jobs=[*self._result.jobs, *jobs],
                elapsed_ns=int((now - self._began) * 1e9),
            )
        )
        while self._seconds and self._next <= now:
            self._next += self._seconds


def _pass_ends_on(parts: Sequence[Worker], group: Sequence[Worker], signals: Signals) -> None:
    """Let the end of one job end others of its group, or the run: exitall, exitall_on_error."""
    for part in parts:
        job = part.job
        if not part.ended.is_set() or not (job.exitall or (job.exitall_on_error and part.failed)):
            continue
        if job.exit_what == "all":
            signals.ended_by = signals.ended_by or job.name
        for other in group:
            alike = other.job.reporting_group == job.reporting_group
            if job.exit_what != "group" or alike:
                signals.ended.add(other.job.number)


class _Watcher:
    """Makes the rates of a display from running totals."""

    def __init__(self, parts: Sequence[Worker], began: float, watch: Watch | None) -> None:
        self._parts = parts
        self._began = began
        self._watch = watch
        self._last = time.monotonic()
        self._totals = np.zeros((2, 3))
        self._latency = np.zeros(2)

    def look(self, alive: Sequence[Worker]) -> None:
        now = time.monotonic()
        span = now - self._last
        if self._watch is None or span < _WATCH_SECONDS or not alive:
            return
        totals = np.sum([np.array(part.totals, float) for part in self._parts], axis=0)
        latency = np.sum([part.latency for part in self._parts], axis=0, dtype=float)
        # A ramp's end counts anew.
        rates = np.maximum(totals - self._totals, 0) / span
        change = latency - self._latency
        shares = [part.share_done for part in alive]
        known = [share for share in shares if share is not None]
        done = min(known) if len(known) == len(shares) else None
        runtimes = [(now - part.began) for part in alive if part.began]
        left = None
        if done and runtimes:
            left = max(runtimes) * (1 - done) / done
        self._watch(
            Progress(
                elapsed=now - self._began,
                left=left,
                done=done,
                running=len(alive),
                jobs=len(self._parts),
                phase=alive[0].phase,
                iops=tuple(rates[0].tolist()),
                bandwidth=tuple(rates[1].tolist()),
                lat_mean=change[0] / change[1] if change[1] > 0 else None,
            )
        )
        self._last, self._totals, self._latency = now, totals, latency


def _warnings(groups: Sequence[Sequence[Worker]], targets: Targets) -> list[str]:
    """Say, before the run, what makes its figures less than they seem."""
    found = targets.warnings()
    seen = set()
    for part in (part for group in groups for part in group):
        job = part.job
        place = part.target.device.name, part.target.ns.nsid, part.offset, part.length
        if Direction.READ not in job.directions or job.destructive or place in seen:
            continue
        seen.add(place)
        share = part.target.blank_share(part.offset, part.length)
        if share > _MUCH_BLANK:
            found.append(
                f"job {job.name!r} reads blocks of which about {share:.0%} are zeroes, deallocated "
                "or never written: a drive answers those without its medium; write the range first"
            )
    busiest = max(len({part.job.thread for part in group}) for group in groups)
    cpus = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    if busiest > cpus:
        found.append(f"{busiest} queues that poll share {cpus} CPUs: they wait for each other")
    elif load > cpus - busiest + _BUSY_LOAD:
        found.append(f"the machine was busy before the run: a load of {load:.1f} on {cpus} CPUs")
    if "-O0" in (sysconfig.get_config_var("CFLAGS") or ""):
        found.append("this Python builds extensions without optimisation (-O0): a debug build")
    return found


def _machine() -> dict[str, str]:
    """Tell what the figures were made on."""
    facts = {"host": platform.node(), "kernel": platform.release()}
    facts["python"] = platform.python_version()
    facts |= {"cpus": str(os.cpu_count()), "cpu": machine.cpu_model()}
    if governor := machine.governor():
        facts["governor"] = governor
    return facts
