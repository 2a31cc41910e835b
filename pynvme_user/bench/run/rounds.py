"""Rounds until they are steady, as the Performance Test Specification of SNIA's SSSI has it."""

from __future__ import annotations

import numpy as np

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.results.result import Rounds

#: In percent of the average of the rounds that are looked at: how far they may be apart, and how
#: much the line that fits them best may change from the first to the last.
RANGE_PERCENT = 20.0
SLOPE_PERCENT = 10.0


class RoundWatch:
    """Counts the I/Os of each round of a job with ``steadystate_rounds``."""

    def __init__(self, job: Job) -> None:
        self._wanted = job.steadystate_rounds
        self._seconds = job.steadystate_round
        #: Of the round, in seconds from the start of the measured part.
        self._began, self._end = 0.0, self._seconds
        self._ios = 0  # when it began
        #: What there is so far; None for a job without.
        self.found = Rounds(self._seconds, self._wanted) if self._wanted else None

    def check(self, elapsed: float, ios: int) -> bool:
        """Look at the number of I/Os after so many seconds; whether the rounds are steady now."""
        if self.found is None or elapsed < self._end:
            return False
        self.found.iops.append((ios - self._ios) / (elapsed - self._began))
        self._began, self._ios = elapsed, ios
        while self._end <= elapsed:  # by the clock: lateness does not add up
            self._end += self._seconds
        judge(self.found)
        return self.found.attained


def judge(rounds: Rounds) -> None:
    """See whether the last rounds are steady, once there are enough of them."""
    if len(rounds.iops) < rounds.wanted:
        return
    last = np.array(rounds.iops[-rounds.wanted :])
    mean = float(last.mean())
    if not mean:
        return
    slope = float(np.polyfit(np.arange(last.size), last, 1)[0]) * (last.size - 1)
    rounds.range_percent = 100 * float(np.ptp(last)) / mean
    rounds.slope_percent = 100 * abs(slope) / mean
    rounds.attained = (
        rounds.range_percent <= RANGE_PERCENT and rounds.slope_percent <= SLOPE_PERCENT
    )
