"""The report's plots of one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pynvme_user.bench.report.plot import Axis, Floats, Linear, Log, Nines, Series, chart
from pynvme_user.bench.results.result import (
    DirectionResult,
    Histogram,
    JobResult,
    Rounds,
    active,
    bucket_bounds,
)
from pynvme_user.bench.results.timeseries import AVERAGE_MS, course
from pynvme_user.spec.text import printable
from pynvme_user.workload.direction import DIRECTION_NAMES, Direction
from pynvme_user.workload.records import BUCKETS

#: More points than these are not seen on a line as wide as a column.
_POINTS = 300
#: Buckets to a bin of the histogram's chart, which then has eight for each power of two.
_MERGED = 8


def latency_label(ns: float) -> str:
    """Write a round latency shortly: ``50 µs``."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)):
        if ns >= scale * 0.9999:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns:.3g} ns"


def rate_label(value: float) -> str:
    """Write a rate shortly: ``20k``."""
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.4g}{unit}"
    return f"{value:.4g}"


def plain_label(value: float) -> str:
    """Write a number as it is."""
    return f"{value:.6g}"


def log_scale(values: Floats, label: Callable[[float], str]) -> Log:
    """Make a logarithmic scale for these values; those that are not positive do not count."""
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size:
        return Log(1.0, 10.0, label)
    low, high = float(known.min()), float(known.max())
    # Less than a factor of four would make a scale that has hardly a number on it.
    middle = (low * high) ** 0.5
    return Log(min(low, middle / 2), max(high, middle * 2), label)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: figures below a heading; of one job, its options and its clones."""

    title: str
    figures: Sequence[Markup]
    options: str | None = None
    members: int = 1


def job_plots(job: JobResult) -> Iterator[Section]:
    """Draw a job that did anything: its rates and latencies over time, percentiles, histogram."""
    shown = [(way, result) for way, result in active(job) if result.ios]
    if not shown:
        return
    options = printable(" ".join(f"{name}={value}" for name, value in job.options.items()))
    yield Section(job.name, list(_figures(job, shown)), options, job.members)


def _figures(
    job: JobResult, shown: Sequence[tuple[Direction, DirectionResult]]
) -> Iterator[Markup]:
    if job.rounds and len(job.rounds.iops) > 1:
        yield _rounds_chart(job.rounds)
    yield from _rates_over_time(shown)
    for direction, result in shown:
        yield from _latency_over_time(direction, result)
    yield percentile_chart([(DIRECTION_NAMES[way], result.lat, way) for way, result in shown])
    yield _histogram_chart([(DIRECTION_NAMES[way], result.lat, way) for way, result in shown])


def _rounds_chart(rounds: Rounds) -> Markup:
    """Draw the rounds, the average of the last ones, and how far they may be apart."""
    values = np.array(rounds.iops)
    at = np.arange(1, values.size + 1, dtype=np.float64)
    lines = [Series("rounds", at, values, 0, points=True)]
    if values.size >= rounds.wanted:
        mean = float(values[-rounds.wanted :].mean())
        ends = at[[-rounds.wanted, -1]]
        for name, share, style in (("average", 1.0, 1), ("+10 %", 1.1, 2), ("-10 %", 0.9, 2)):
            lines.append(Series(name, ends, np.full(2, share * mean), style))
    judged = "steady" if rounds.attained else "not steady"
    highest = max(float(line.y.max()) for line in lines)
    return chart(
        f"Rounds of {rounds.seconds:g} s, {judged}",
        Axis("round", Linear(1.0, float(values.size), plain_label)),
        Axis("IOPS", Linear.up_to(highest, rate_label)),
        lines,
    )


def _interval_ms(result: DirectionResult) -> int:
    steps = max(1, -(-result.runtime_ns // (_POINTS * AVERAGE_MS * 1_000_000)))
    return int(steps) * AVERAGE_MS


def _rates_over_time(shown: Sequence[tuple[Direction, DirectionResult]]) -> Iterator[Markup]:
    courses = [(way, course(result.samples, _interval_ms(result))) for way, result in shown]
    courses = [(way, rates) for way, rates in courses if rates.end_s.size]
    if not courses:
        return
    last = max(float(rates.end_s[-1]) for _, rates in courses)
    time_axis = Axis("time (s)", Linear(0.0, last, plain_label))
    for title, unit, values in (
        ("IOPS over time", "IOPS", [rates.iops for _, rates in courses]),
        (
            "Bandwidth over time",
            "MiB/s",
            [rates.bytes_per_second / (1 << 20) for _, rates in courses],
        ),
    ):
        # From zero: a rate's small sways should look small.
        highest = max(float(one.max()) for one in values)
        lines = [
            Series(DIRECTION_NAMES[way], rates.end_s, one, int(way))
            for (way, rates), one in zip(courses, values, strict=True)
        ]
        yield chart(title, time_axis, Axis(unit, Linear.up_to(highest, rate_label)), lines)


def _latency_over_time(direction: Direction, result: DirectionResult) -> Iterator[Markup]:
    name = DIRECTION_NAMES[direction]
    if len(result.intervals) > 1:
        at, shares = _interval_percentiles(result, (50.0, 99.0, 99.9))
        lines = [
            Series(f"p{share:g}", at, values, style)
            for style, (share, values) in enumerate(shares.items())
        ]
    else:
        rates = course(result.samples, _interval_ms(result))
        if not rates.end_s.size:
            return
        lines = [Series("mean", rates.end_s, rates.lat_ns, 0)]
    every = np.concatenate([line.y for line in lines])
    yield chart(
        f"Latency of {name}s over time" + ("" if len(lines) > 1 else ", mean"),
        Axis("time (s)", Linear(0.0, float(lines[0].x[-1]), plain_label)),
        Axis("total latency (lat)", log_scale(every, latency_label)),
        lines,
    )


def _interval_percentiles(
    result: DirectionResult, wanted: Sequence[float]
) -> tuple[Floats, dict[float, Floats]]:
    intervals = result.intervals
    at_once = -(-len(intervals) // _POINTS)
    groups = [intervals[n : n + at_once] for n in range(0, len(intervals), at_once)]
    ends = np.array([group[-1].end_ns / 1e9 for group in groups])
    found = []
    for group in groups:
        counts = sum((one.lat for one in group), np.zeros(BUCKETS, dtype=np.uint64))
        found.append(Histogram.from_counts(counts).percentiles(wanted))
    return ends, {
        share: np.array([one.get(share, np.nan) for one in found], dtype=np.float64)
        for share in wanted
    }


def percentile_chart(
    histograms: Sequence[tuple[str, Histogram, int]],
    title: str = "Latency percentiles",
    note: str = "",
    legend: str = "",
) -> Markup:
    """Draw how many nines of the I/Os were how fast; a name and a style for each line."""
    lines = []
    for name, histogram, style in histograms:
        filled = np.flatnonzero(histogram.counts)
        reached = np.cumsum(histogram.counts[filled]).astype(np.float64)
        # The middle of each bucket's ranks, so that the last I/O has a place before 100 %.
        ranks = reached - histogram.counts[filled] / 2
        _, high = bucket_bounds(filled)
        values = np.minimum(high.astype(np.float64), histogram.max)
        lines.append(Series(name, 100 * ranks / histogram.count, values, style))
    every = np.concatenate([line.y for line in lines])
    return chart(
        title,
        Axis("percentile (%)", Nines(max(histogram.count for _, histogram, _ in histograms))),
        Axis("total latency (lat)", log_scale(every, latency_label)),
        lines,
        note,
        legend,
    )


def _histogram_chart(histograms: Sequence[tuple[str, Histogram, int]]) -> Markup:
    lines = []
    for name, histogram, style in histograms:
        merged = histogram.counts.reshape(-1, _MERGED).sum(axis=1)
        filled = np.flatnonzero(merged)
        inside = np.arange(filled[0], filled[-1] + 1)
        low, _ = bucket_bounds(inside * _MERGED)
        _, high = bucket_bounds(inside * _MERGED + _MERGED - 1)
        edges = np.append(low, min(int(high[-1]) + 1, 2 * histogram.max)).astype(np.float64)
        share = 100 * merged[inside] / histogram.count
        # A staircase: each bin is as wide as it is, and ends at the axis.
        x = np.repeat(np.maximum(edges, 1.0), 2)
        y = np.concatenate(([0.0], np.repeat(share, 2), [0.0]))
        lines.append(Series(name, x, np.maximum(y, 1e-12), style, filled=True))
    least = min(50.0 / histogram.count for _, histogram, _ in histograms)
    every_x = np.concatenate([line.x for line in lines])
    return chart(
        "Latency histogram",
        Axis("total latency (lat)", log_scale(every_x, latency_label)),
        Axis("% of I/Os per bin (log)", Log(least, 100.0, plain_label)),
        lines,
    )
