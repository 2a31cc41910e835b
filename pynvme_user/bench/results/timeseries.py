"""The course of a run: samples of the engine brought to longer intervals, and their rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.results.result import PEAKS, SAMPLE, SUMS

Floats = npt.NDArray[np.float64]
NS_PER_MS = 1_000_000

_ROOM = 64  # for so many samples at first


class SampleLog:
    """Samples as they are taken, one after another, those of all directions at the same times.

    Each takes 8 bytes, and 40 for each direction that has any I/O.
    """

    def __init__(self) -> None:
        self._count = 0
        self._ends = np.zeros(_ROOM, np.uint64)
        self._sums: dict[int, npt.NDArray[np.uint64]] = {}
        self._idle: dict[int, npt.NDArray[np.uint64]] = {}  # where it is not always 0
        self._peaks: dict[int, npt.NDArray[np.uint64]] = {}  # where they are kept

    def add(
        self,
        end_ns: int,
        changes: npt.NDArray[np.uint64],
        short_ns: int = 0,
        idle_ns: Sequence[int] = (0, 0, 0),
        peaks: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Add what came by ``end_ns``: a row of SUMS for each direction.

        ``idle_ns`` of that interval were a phase of other directions, for each; ``peaks`` are the
        greatest slat, clat and lat of each. If the interval is
        no longer than ``short_ns``, it becomes a part of the last one.
        """
        last = self._count - 1
        joined = last >= 0 and end_ns - int(self._ends[last]) <= short_ns
        place = last if joined else self._count
        if place == len(self._ends):
            self._ends = np.concatenate([self._ends, np.zeros_like(self._ends)])
            for kept in (self._sums, self._idle, self._peaks):
                for direction, sums in kept.items():
                    kept[direction] = np.concatenate([sums, np.zeros_like(sums)])
        self._ends[place] = end_ns
        self._count = place + 1
        for direction, change in enumerate(changes):
            if direction not in self._sums:
                if not change[0]:
                    continue
                self._sums[direction] = np.zeros((len(self._ends), len(SUMS)), np.uint64)
            self._sums[direction][place] += change
        for direction, greatest in enumerate([] if peaks is None else peaks):
            room = (len(self._ends), len(PEAKS))
            of = self._peaks.setdefault(direction, np.zeros(room, np.uint64))
            of[place] = np.maximum(of[place], greatest)
        for direction, idle in enumerate(idle_ns):
            if idle:
                spent = self._idle.setdefault(direction, np.zeros_like(self._ends))
                spent[place] += np.uint64(idle)

    def samples(self, direction: int) -> npt.NDArray[np.void]:
        """Give those of a direction, as SAMPLE; none where it has no I/O."""
        if direction not in self._sums:
            return np.zeros(0, SAMPLE)
        found = np.zeros(self._count, SAMPLE)
        found["end_ns"] = self._ends[: self._count]
        for name, column in zip(SUMS, self._sums[direction].T, strict=True):
            found[name] = column[: self._count]
        if direction in self._peaks:
            for name, column in zip(PEAKS, self._peaks[direction].T, strict=True):
                found[name] = column[: self._count]
        if direction in self._idle:
            found["idle_ns"] = self._idle[direction][: self._count]
        return found


#: fio's bwavgtime and iopsavgtime: what bw_min, iops_stddev and the like are taken over.
AVERAGE_MS = 500


def resample(samples: npt.NDArray[np.void], interval_ms: int) -> npt.NDArray[np.void]:
    """Sum samples (SAMPLE) up to intervals of about this length.

    A sample counts where its middle lies, so that one that ends a little late stays with its
    interval; the engine takes one at each multiple of the length. The end of each interval is that
    of its last sample, and an interval without a sample is not made up.
    """
    return _sum_windows(samples, windows(samples, interval_ms), np.add)


def windows(samples: npt.NDArray[np.void], interval_ms: int) -> npt.NDArray[np.uint64]:
    """Tell the number, from 0, of the interval that each sample lies in."""
    ends = samples["end_ns"]
    middles = ends - np.diff(ends, prepend=np.uint64(0)) // np.uint64(2)
    return np.asarray(middles // np.uint64(interval_ms * NS_PER_MS), dtype=np.uint64)


def add_up(parts: Iterable[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Sum the samples of jobs that ran side by side, in intervals of AVERAGE_MS."""
    summed = [resample(part, AVERAGE_MS) for part in parts]
    together = np.concatenate([np.zeros(0, dtype=SAMPLE), *summed])
    number = np.concatenate(
        [np.zeros(0, dtype=np.uint64), *(windows(part, AVERAGE_MS) for part in summed)]
    )
    order = np.lexsort((together["end_ns"], number))
    # None is at work only where none of them is.
    return _sum_windows(together[order], number[order], np.minimum)


def _sum_windows(
    samples: npt.NDArray[np.void], number: npt.NDArray[np.uint64], idle: np.ufunc
) -> npt.NDArray[np.void]:
    if not samples.size:
        return samples
    first = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
    summed = np.zeros(first.size, dtype=SAMPLE)
    summed["end_ns"] = samples["end_ns"][np.append(first[1:], samples.size) - 1]
    for name in SUMS:
        summed[name] = np.add.reduceat(samples[name], first)
    for name in PEAKS:
        summed[name] = np.maximum.reduceat(samples[name], first)
    summed["idle_ns"] = idle.reduceat(samples["idle_ns"], first)
    return summed


def spans(summed: npt.NDArray[np.void]) -> Floats:
    """Tell how long each interval was, in seconds, without what was another phase; 0: all of it."""
    length = np.diff(summed["end_ns"].astype(np.float64), prepend=0.0)
    return np.asarray(np.maximum(length - summed["idle_ns"], 0.0) / 1e9)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Rates over time, one entry for each interval."""

    end_s: Floats  # seconds since the measured part began
    iops: Floats
    bytes_per_second: Floats
    lat_ns: Floats  # mean of the interval's I/Os; NaN where none completed
    clat_ns: Floats
    slat_ns: Floats


def course(samples: npt.NDArray[np.void], interval_ms: int = AVERAGE_MS) -> Course:
    """Turn samples into rates over intervals of at least this length.

    Those in which nothing of the direction was to be done are left out, and at the end and where
    such a phase ends one of less than half the length: over so few I/Os its rate tells when the
    run ended, not how fast it was. A run that has no other keeps it.
    """
    summed = resample(samples, interval_ms)
    length = spans(summed)
    summed, length = summed[length > 0], length[length > 0]
    short = length < interval_ms / 2000
    short[1:-1] = False
    short[:-1] &= summed["idle_ns"][:-1] > 0
    if not short.all():
        summed, length = summed[~short], length[~short]
    ios = summed["ios"].astype(np.float64)
    counted = np.where(ios > 0, ios, np.nan)
    return Course(
        end_s=summed["end_ns"] / 1e9,
        iops=ios / length,
        bytes_per_second=summed["bytes"] / length,
        lat_ns=summed["lat_sum"] / counted,
        clat_ns=summed["clat_sum"] / counted,
        slat_ns=summed["slat_sum"] / counted,
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """How a rate varied over the intervals of a run."""

    samples: int = 0
    min: float = 0.0
    max: float = 0.0
    mean: float = 0.0
    stddev: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Spread:
        """Take the sample standard deviation (n - 1), 0.0 of fewer than two values."""
        rates = np.asarray(values, dtype=np.float64)
        if not rates.size:
            return cls()
        stddev = float(rates.std(ddof=1)) if rates.size > 1 else 0.0
        return cls(rates.size, float(rates.min()), float(rates.max()), float(rates.mean()), stddev)


def mean_error(values: npt.ArrayLike) -> float:
    """Estimate the standard error of the mean of rates that followed one another.

    Neighbouring intervals of a run are alike (a device's cache fills, its garbage collection comes
    and goes), so the values are worth fewer than they are many. Means of ever longer batches are
    compared, and the largest error that at least eight batches show is taken: the plain one when
    the intervals are independent. NaN of fewer than two values.
    """
    rates = np.asarray(values, dtype=np.float64)
    if rates.size < 2:
        return float("nan")
    largest = 0.0
    batch = 1
    while batch == 1 or rates.size // batch >= 8:
        count = rates.size // batch
        means = rates[: count * batch].reshape(count, batch).mean(axis=1)
        largest = max(largest, float(means.std(ddof=1)) / sqrt(count))
        batch *= 2
    return largest
