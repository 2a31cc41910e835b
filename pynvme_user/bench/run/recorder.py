"""What one part measures: samples of its course, histograms of intervals, its own costs."""

from __future__ import annotations

import resource
import time
from collections.abc import Collection, Iterable
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.results.issued import IssuedLog
from pynvme_user.bench.results.result import (
    Costs,
    CpuUsage,
    Depths,
    DirectionResult,
    Histogram,
    IntervalHistogram,
    bucket_bounds,
)
from pynvme_user.bench.results.timeseries import NS_PER_MS, SampleLog
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.native import tick_rate
from pynvme_user.spec.status import Status
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.records import FLUSH, LATENCIES, RECORD_DTYPE

_NS = 1_000_000_000


class Recorder:
    """From :meth:`begin` on, in the part's own thread. ``block_size`` is in bytes.

    A sample is taken at each multiple of each of the periods. ``histogram_ms`` keeps the histograms
    of intervals of that length; 0: none; ``peaks`` their greatest latencies. ``threads`` is how
    much of its thread is its own: others may share that.
    """

    def __init__(
        self,
        workload: Workload | WorkloadGroup,
        pair: QueuePair | QueuePairGroup,
        block_size: int,
        *,
        periods_ms: Collection[int],
        histogram_ms: int,
        peaks: bool = False,
        issued: IssuedLog | None = None,
        threads: float = 1.0,
    ) -> None:
        self._workload = workload
        self._pair = pair
        self._block_size = block_size
        self._periods_ms = periods_ms
        self._histogram_ms = histogram_ms
        self._peaks = peaks
        self._issued = issued
        self._threads = threads
        self.began = 0.0  # time.monotonic(); 0: not yet
        #: time.monotonic() of the next sample and the next cut of the histograms.
        self._next_sample = self._next_cut = inf
        self._course = SampleLog()
        self._totals = np.zeros((3, 5), np.uint64)
        self._active: Collection[int] = tuple(Direction)  # by number
        self._idle_until_ns = 0  # up to here ...
        self._idle_ns = [0, 0, 0]  # ... each direction was not at work for so long
        self._sampled_idle = [0, 0, 0]
        self._intervals: tuple[list[IntervalHistogram], ...] = ([], [], [])
        self._cut_at = 0.0
        self._cut: dict[str, npt.NDArray[np.uint64]] | None = None
        #: Of single I/Os, where they are logged: it may stay empty.
        self._log = [np.zeros(0, RECORD_DTYPE)] if workload.keeps_records else []

    def begin(self, directions: Collection[int]) -> None:
        """Count from here on, in a phase that these directions have."""
        self._workload.clear()
        self._bells = self._pair.doorbell_writes, self._pair.cq_doorbell_writes
        # Within the run time, so that none of it is beyond 100 %: see end().
        self.began = self._cut_at = time.monotonic()
        self._usage = _Usage()
        self._active = directions
        self._plan(self.began)
        self.count()

    def enter(self, directions: Collection[int]) -> None:
        """Begin a phase that these directions have: for others the time stands still."""
        self._add_idle(time.monotonic())
        self._active = directions

    def _add_idle(self, now: float) -> None:
        """Add the time since the last call to the directions that this phase does not have."""
        passed = max(0, self._ns(now) - self._idle_until_ns)
        self._idle_until_ns += passed
        for direction in set(Direction) - set(self._active):
            self._idle_ns[direction] += passed

    def _ns(self, now: float) -> int:
        return int((now - self.began) * _NS)

    def active_seconds(self, now: float) -> npt.NDArray[np.float64]:
        """Tell how long each direction has been at work by now."""
        self._add_idle(now)
        return np.maximum(0.0, now - self.began - np.array(self._idle_ns) / _NS)

    def _plan(self, now: float) -> None:
        """See when the next sample and cut are due."""
        self._next_sample = self._mark(now, self._periods_ms)
        if self._histogram_ms:
            self._next_cut = self._mark(now, [self._histogram_ms])

    def _mark(self, now: float, periods_ms: Iterable[int]) -> float:
        """Tell when the next multiple of any of the periods is."""
        gone = (now - self.began) * 1e3
        # What ended a hair early, by rounding, has still had its own.
        return self.began + min((int(gone / ms + 1e-6) + 1) * ms for ms in periods_ms) / 1e3

    @property
    def due(self) -> float:
        """When :meth:`take_if_due` has something to do; time.monotonic(), inf before the start."""
        return min(self._next_sample, self._next_cut)

    def take_if_due(self, now: float) -> None:
        """Take a sample, and end an interval of the histograms, if it is their time."""
        if now < self.due:
            return
        if now >= self._next_sample:
            self.sample(now)
        if now >= self._next_cut:
            self._cut_histograms(now)
        self._plan(now)

    def count(self) -> None:
        """See what the thread and the queue pair have done since."""
        before = self._bells
        self._cpu = _Usage().since(self._usage, self._threads)
        self._doorbells = (
            self._pair.doorbell_writes - before[0],
            self._pair.cq_doorbell_writes - before[1],
        )

    def end(self) -> float:
        """Take what came since the last sample; tell when that was, by time.monotonic()."""
        self.count()
        now = time.monotonic()
        self.sample(now, last=True)
        self._cut_histograms(now)
        self.take_records()
        return now

    def sample(self, now: float, *, last: bool = False) -> None:
        """Add an interval up to now; the last one, if it is short, to the one before it."""
        results, size = self._workload.ended[:3], self._block_size
        totals = np.stack(
            [
                results["ios"],
                results["blocks"] * np.uint64(size),
                *(results[latency]["sum"] for latency in LATENCIES),
            ],
            axis=1,
        )
        short_ns = min(self._periods_ms) * NS_PER_MS // 2 if last else 0
        self._add_idle(now)
        idle = [of - before for of, before in zip(self._idle_ns, self._sampled_idle, strict=True)]
        peaks = self._workload.take_peaks()[:3] if self._peaks else None
        self._course.add(self._ns(now), totals - self._totals, short_ns, idle, peaks)
        self._totals, self._sampled_idle = totals, list(self._idle_ns)

    def _cut_histograms(self, now: float) -> None:
        if not self._histogram_ms:
            return
        results = self._workload.results[:3]
        counts = {kind: results[kind]["counts"].copy() for kind in ("clat", "lat")}
        before = self._cut or {kind: np.zeros_like(of) for kind, of in counts.items()}
        start, end = self._ns(self._cut_at), self._ns(now)
        for direction in range(3):
            clat, lat = (counts[kind][direction] - before[kind][direction] for kind in counts)
            if clat.any():
                self._intervals[direction].append(IntervalHistogram(start, end, clat, lat))
        self._cut, self._cut_at = counts, now

    def take_records(self) -> None:
        """Keep the log of single I/Os, where there is one; what a ramp had is dropped.

        And what was issued, in a ramp, too.
        """
        if self._issued is not None:
            self._issued.add(self._workload.take_issued())
        records = self._workload.take_records()
        if len(records) and self.began:
            self._log.append(records)

    def results(self, now: float) -> dict[str, Any]:
        """Tell what it has come to by now, time.monotonic(): fields of JobResult."""
        workload = self._workload
        self._add_idle(now)
        active = [max(0, self._ns(now) - idle) for idle in self._idle_ns]
        ended = workload.ended
        errors = workload.errors
        # Those that a reset ended, or the device's end, have no status of the device's.
        lost = sum(ended["failed"].tolist()) - sum(errors.values())
        if lost > 0:
            errors[int(HOST_ABORTED)] = errors.get(int(HOST_ABORTED), 0) + lost
        depths, submits, reaps = workload.batches
        return {
            "runtime_ns": self._ns(now),
            "directions": tuple(self._direction(way, ended[way], active[way]) for way in Direction),
            "flush": _histogram(ended["lat"][FLUSH]),
            "depths": Depths(level=depths, submit=submits, complete=reaps),
            "cpu": self._cpu,
            "costs": self._costs(ended),
            "errors": errors,
            "error_names": {status: Status(status).text for status in errors},
            "issued": self._issued,
            "io_log": np.concatenate(self._log) if self._log else None,
        }

    def _direction(self, direction: Direction, result: np.void, runtime: int) -> DirectionResult:
        ios = int(result["ios"])
        return DirectionResult(
            ios=ios,
            bytes=int(result["blocks"]) * self._block_size,
            runtime_ns=runtime if ios else 0,
            failed=int(result["failed"]),
            slat=_histogram(result["slat"]),
            clat=_histogram(result["clat"]),
            lat=_histogram(result["lat"]),
            samples=self._course.samples(direction),
            intervals=self._intervals[direction],
        )

    def _costs(self, ended: npt.NDArray[np.void]) -> Costs:
        workload = self._workload
        submit, complete = workload.costs
        commands = sum((ended["ios"] + ended["failed"]).tolist())
        return Costs(
            sq_doorbells=self._doorbells[0] - self._doorbells[1],
            cq_doorbells=self._doorbells[1],
            polls=workload.turns,
            ticks_per_second=float(tick_rate()),
            submit_ticks=round(submit * commands),
            complete_ticks=round(complete * commands),
        )


def _histogram(entry: np.void) -> Histogram:
    count = int(entry["count"])
    filled = np.flatnonzero(entry["counts"])
    if not count:
        return Histogram()
    # Of I/Os that count no more C knows no extremes: here those are within 1/64.
    (least, _), (_, greatest) = bucket_bounds(filled[0]), bucket_bounds(filled[-1])
    return Histogram(
        counts=entry["counts"].copy(),
        count=count,
        min=max(int(entry["min"]), int(least)),
        max=min(int(entry["max"]), int(greatest)),
        sum=int(entry["sum"]),
        squares=int(entry["squares_high"]) << 64 | int(entry["squares_low"]),
    )


class _Usage:
    """What this thread has used by now."""

    def __init__(self) -> None:
        self._of = resource.getrusage(resource.RUSAGE_THREAD)
        self._ns = time.thread_time_ns()

    def since(self, before: _Usage, share: float) -> CpuUsage:
        """Tell a share of what it used since then.

        The kernel knows user and system time to a tick of its own, and their sum exactly.
        """
        of, was, used = self._of, before._of, round((self._ns - before._ns) * share)
        user, system = of.ru_utime - was.ru_utime, of.ru_stime - was.ru_stime
        system_ns = round(used * system / (user + system)) if user + system else 0
        return CpuUsage(
            user_ns=used - system_ns,
            system_ns=system_ns,
            context_switches=round(
                (of.ru_nvcsw + of.ru_nivcsw - was.ru_nvcsw - was.ru_nivcsw) * share
            ),
            major_faults=round((of.ru_majflt - was.ru_majflt) * share),
            minor_faults=round((of.ru_minflt - was.ru_minflt) * share),
        )
