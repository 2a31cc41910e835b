"""What ends or steers a job while it runs: fio's limits, looked at with each sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.errnos import errno_of
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.results.result import Histogram, LatencyTarget, SteadyState
from pynvme_user.bench.run.rounds import RoundWatch
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload

_NS = 1_000_000_000


class Limits:
    """The limits of one job. Times are seconds from the start of its measured part."""

    def __init__(self, job: Job) -> None:
        self._job = job
        #: Why the job failed, once a limit says so.
        self.failure: str | None = None
        self._cycle_start = np.zeros(3)
        self._cycle = np.zeros((2, 3))  # ios and bytes when the cycle of each direction began
        steady = job.steadystate
        self._steady_values: list[tuple[float, float, float]] = []  # bw, iops, lat of each second
        self._second = np.zeros(3)  # bytes, ios, latency sum when the second began
        self._second_end = 1.0
        self.steady: SteadyState | None = None
        if steady is not None:
            self.steady = SteadyState(
                metric=steady.metric + ("_slope" if steady.slope else ""),
                limit=steady.limit,
                percent=steady.percent,
                duration=steady.duration,
                attained=False,
                criterion=0.0,
                max_deviation=0.0,
                slope=0.0,
            )
        self.rounds = RoundWatch(job)
        #: The search for the depth that keeps the latency target.
        self.depth = job.iodepth
        self._good, self._bad = 0, job.iodepth + 1  # greatest that met it, least that did not
        self._window_end = job.latency_window
        self._window_counts: npt.NDArray[np.uint64] | None = None
        self._searched = False

    def check(
        self,
        elapsed: float,
        results: npt.NDArray[np.void],
        block_size: int,
        active: npt.NDArray[np.float64],
    ) -> bool:
        """Look at the running totals (RESULT_DTYPE); whether the job is to end now.

        ``active`` are the seconds that each direction was at work, without phases of others.
        """
        ios = results["ios"][:3].astype(float)
        moved = results["blocks"][:3].astype(float) * block_size
        if self._too_slow(active, ios, moved, results):
            return True
        self._search_depth(elapsed, results)
        if self.rounds.check(elapsed, int(ios.sum())):
            return True
        return self._is_steady(elapsed, ios, moved, results)

    def _too_slow(
        self,
        active: npt.NDArray[np.float64],
        ios: npt.NDArray[np.float64],
        moved: npt.NDArray[np.float64],
        results: npt.NDArray[np.void],
    ) -> bool:
        job = self._job
        for direction, limit in enumerate(job.max_latency):
            greatest = int(results["lat"]["max"][direction])
            if limit and greatest > limit * _NS:
                self.failure = (
                    f"an I/O took {greatest / 1e6:.3f} ms, more than max_latency={limit * 1e3:g} ms"
                )
                return True
        if not any((*job.rate_min, *job.rate_iops_min)):
            return False
        totals = np.array([ios, moved])
        for direction in job.directions:
            span = active[direction] - self._cycle_start[direction]
            if span < job.rate_cycle:
                continue
            made, bandwidth = (totals - self._cycle)[:, direction] / span
            for rate, least, what in (
                (bandwidth, job.rate_min[direction], "bytes/s, below rate_min"),
                (made, job.rate_iops_min[direction], "IOPS, below rate_iops_min"),
            ):
                if least and rate < least:
                    self.failure = f"it made {rate:.0f} {what}={least}"
                    return True
            self._cycle[:, direction] = totals[:, direction]
            self._cycle_start[direction] = active[direction]
        return False

    # --- steady state -------------------------------------------------------------------------

    def _is_steady(
        self,
        elapsed: float,
        ios: npt.NDArray[np.float64],
        moved: npt.NDArray[np.float64],
        results: npt.NDArray[np.void],
    ) -> bool:
        wanted, state = self._job.steadystate, self.steady
        if wanted is None or state is None or elapsed < self._second_end:
            return False
        totals = np.array([moved.sum(), ios.sum(), results["lat"]["sum"][:3].sum(dtype=float)])
        start = self._second_end - 1.0
        span = elapsed - start
        change = totals - self._second
        self._second, self._second_end = totals, elapsed + 1.0
        if start < wanted.ramp:
            return False
        mean_latency = change[2] / change[1] if change[1] else 0.0
        self._steady_values.append((change[0] / span, change[1] / span, mean_latency))
        count = max(2, round(wanted.duration))
        if len(self._steady_values) < count:
            return False
        recent = np.array(self._steady_values[-count:])
        state.bw, state.iops, state.lat_ns = (
            np.round(column).astype(int).tolist() for column in recent.T
        )
        values = recent[:, ("bw", "iops", "lat").index(wanted.metric)]
        mean = float(values.mean())
        state.slope = float(np.polyfit(np.arange(count), values, 1)[0])
        state.max_deviation = float(np.abs(values - mean).max())
        measured = abs(state.slope) if wanted.slope else state.max_deviation
        state.criterion = 100 * measured / mean if wanted.percent and mean else measured
        state.attained = state.criterion <= wanted.limit
        return state.attained

    # --- latency target -----------------------------------------------------------------------

    def _search_depth(self, elapsed: float, results: npt.NDArray[np.void]) -> None:
        """Halve the range of depths with each window, as the latencies in it say."""
        job = self._job
        if job.latency_target is None or self._searched or elapsed < self._window_end:
            return
        counts = results["lat"]["counts"][:3].sum(axis=0, dtype=np.uint64)
        before = np.zeros_like(counts) if self._window_counts is None else self._window_counts
        window = Histogram.from_counts(counts - before)
        self._window_counts, self._window_end = counts, elapsed + job.latency_window
        if not window.count:
            return
        if window.percentile(job.latency_percentile) <= job.latency_target * _NS:
            self._good = self.depth
        else:
            self._bad = self.depth
        if self._bad - self._good <= 1:
            self.depth, self._searched = max(1, self._good), True
        else:
            self.depth = (self._good + self._bad) // 2

    @property
    def latency_target(self) -> LatencyTarget | None:
        """What the search came to, if there was one."""
        job = self._job
        if job.latency_target is None:
            return None
        return LatencyTarget(
            target_ns=round(job.latency_target * _NS),
            window_us=round(job.latency_window * 1e6),
            percentile=job.latency_percentile,
            depth=max(1, self._good),
            met=self._good > 0,
        )


def fails(job: Job, workload: Workload | WorkloadGroup) -> bool:
    """Tell whether I/Os failed in a way that the job does not go on from."""
    failed = workload.results["failed"].tolist()
    if not any(failed):
        return False
    errors = workload.errors_by_direction
    for direction, count in enumerate(failed):
        is_read = direction == Direction.READ
        ignored = job.ignore_error[0 if is_read else 1]
        if ignored is None:
            if count and ("read" if is_read else "write") not in job.continue_on_error:
                return True
        elif any(of == direction and errno_of(status) not in ignored for of, status in errors):
            return True
    return False
