"""The limits that end or steer a job, on totals made up for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import SteadyState
from pynvme_user.bench.results.result import bucket_of
from pynvme_user.bench.run.limits import Limits
from pynvme_user.workload.records import RESULT_DTYPE

BLOCK = 512
READ, WRITE = 0, 1


class Totals:
    """Running totals, as a part has them."""

    def __init__(self) -> None:
        self.results = np.zeros(4, RESULT_DTYPE)

    def add(self, ios: int, *, latency: int = 1000, direction: int = READ) -> None:
        result = self.results[direction]
        result["ios"] += ios
        result["blocks"] += ios * 8
        for kind in ("clat", "lat"):
            histogram = result[kind]
            histogram["count"] += ios
            histogram["sum"] += ios * latency
            histogram["counts"][int(bucket_of(latency))] += ios
            histogram["max"] = max(int(histogram["max"]), latency)


def look(limits: Limits, elapsed: float, totals: Totals, active: float | None = None) -> bool:
    seconds = np.full(3, elapsed if active is None else active)
    return limits.check(elapsed, totals.results, BLOCK, seconds)


def steady(**changes: object) -> Job:
    law = SteadyState(metric="iops", slope=False, limit=5, percent=True, duration=4)
    return Job(steadystate=dataclasses.replace(law, **changes))  # type: ignore[arg-type]


def seconds_until_steady(job: Job, iops: list[int], latencies: list[int] | None = None) -> int:
    limits, totals = Limits(job), Totals()
    for second, ios in enumerate(iops, 1):
        totals.add(ios, latency=latencies[second - 1] if latencies else 1000)
        for part in (0.0, 0.1):  # looked at more often than once a second
            if look(limits, second + part, totals):
                assert limits.steady is not None
                assert limits.steady.attained
                return second
    assert limits.steady is not None
    assert not limits.steady.attained
    return 0


def test_steady_once_all_seconds_of_the_window_are_near_their_mean() -> None:
    assert seconds_until_steady(steady(), [100, 500, 1000, 1010, 990, 1000, 1000]) == 6
    assert seconds_until_steady(steady(ramp=6), [1000] * 12) == 10
    assert seconds_until_steady(steady(percent=False, limit=9), [1000, 1010, 990, 1000] * 3) == 0
    assert seconds_until_steady(steady(metric="bw"), [1000] * 4) == 4
    assert seconds_until_steady(steady(), [1000, 2000] * 10) == 0


def test_a_second_that_began_in_the_ramp_says_nothing_of_steadiness() -> None:
    """Looks come a little late, so that a second ends after the ramp in which it began."""
    limits, totals = Limits(steady(ramp=2)), Totals()
    for tenth in range(100):
        totals.add(100)
        if look(limits, elapsed := (tenth + 1.3) / 10, totals):
            break
    assert 6 <= elapsed < 7


def test_steady_by_the_slope() -> None:
    climbing = [1000 + 100 * second for second in range(10)]
    assert seconds_until_steady(steady(slope=True), climbing) == 0
    # About an even line it may swing as it likes.
    assert seconds_until_steady(steady(slope=True, limit=10), [1000, 2000, 2000, 1000]) == 4


def test_steady_by_the_latency() -> None:
    job = steady(metric="lat")
    assert seconds_until_steady(job, [1000] * 8, [1000, 9000] * 4) == 0
    assert seconds_until_steady(job, [10, 1000, 50, 700], [5000] * 4) == 4


def test_a_rate_below_the_least() -> None:
    limits, totals = Limits(Job(rate_iops_min=(500, 0, 0), rate_cycle=1.0)), Totals()
    totals.add(600)
    assert not look(limits, 1.0, totals)
    totals.add(400)
    assert not look(limits, 1.5, totals), "the second cycle is not over"
    assert look(limits, 2.0, totals)
    assert limits.failure == "it made 400 IOPS, below rate_iops_min=500"


def test_a_rate_below_the_least_is_one_of_the_time_at_work() -> None:
    """Not of what was read back in between."""
    limits, totals = Limits(Job(rate_iops_min=(500, 0, 0), rate_cycle=1.0)), Totals()
    totals.add(300)
    assert not look(limits, 5.0, totals, active=0.5)
    totals.add(300)
    assert not look(limits, 5.5, totals, active=1.0)
    totals.add(400)
    assert look(limits, 9.0, totals, active=2.0)


def test_a_bandwidth_below_the_least() -> None:
    job = Job(rw="write", rate_min=(0, 1 << 20, 0), rate_cycle=2.0)
    limits, totals = Limits(job), Totals()
    totals.add(511, direction=WRITE)
    assert look(limits, 2.0, totals)
    assert limits.failure is not None
    assert limits.failure.endswith("bytes/s, below rate_min=1048576")


def test_an_io_that_is_too_slow() -> None:
    limits, totals = Limits(Job(max_latency=(0.010, 0, 0))), Totals()
    totals.add(100, latency=9_000_000)
    totals.add(1, latency=50_000_000, direction=WRITE)  # of which nothing was said
    assert not look(limits, 0.1, totals)
    totals.add(1, latency=11_000_000)
    assert look(limits, 0.2, totals)
    assert limits.failure == "an I/O took 11.000 ms, more than max_latency=10 ms"


@pytest.mark.parametrize("answer", range(33))
def test_the_search_for_a_depth_finds_it(answer: int) -> None:
    """Of a device that serves one after the other: each I/O takes as many ms as the depth."""
    job = Job(
        iodepth=32, latency_target=answer * 1e-3 + 5e-4, latency_window=0.1, latency_percentile=99
    )
    limits, totals = Limits(job), Totals()
    for window in range(1, 9):
        totals.add(1000, latency=limits.depth * 1_000_000)
        assert not look(limits, window * 0.1, totals)
    found = limits.latency_target
    assert found is not None
    assert (found.depth, found.met) == (max(1, answer), answer > 0)
    assert limits.depth == max(1, answer)
