"""The report's plots of a sweep: what changes from point to point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from pynvme_user.bench.jobs.terms import REPEAT
from pynvme_user.bench.report.job_plots import (
    Section,
    latency_label,
    log_scale,
    percentile_chart,
    plain_label,
    rate_label,
)
from pynvme_user.bench.report.plot import (
    COLOURS,
    STYLES,
    Axis,
    Floats,
    Linear,
    Log,
    Named,
    Scale,
    Series,
    chart,
)
from pynvme_user.bench.results.result import DirectionResult, JobResult
from pynvme_user.bench.results.text import point_text
from pynvme_user.workload.direction import DIRECTION_NAMES, Direction

AXIS_NAMES = {"iodepth": "queue depth", "bs": "block size", "numjobs": "jobs"}

#: A line has at least so many points.
_FEW = 3
#: Rates that differ by more than this factor are drawn on a logarithmic axis.
_WIDE = 20


def sweep_plots(jobs: Sequence[JobResult]) -> Iterator[Section]:
    """Draw rates and latencies over the axis with the most values; the others make the lines."""
    for direction in Direction:
        present = [job for job in jobs if job.directions[direction].ios]
        if present:
            # Each in rows of its own, so that like stands beside like.
            yield Section(
                f"Sweep: {DIRECTION_NAMES[direction]}", list(_Sweep(present, direction).charts())
            )


class _Sweep:
    """One direction of a sweep."""

    def __init__(self, jobs: Sequence[JobResult], direction: Direction):
        self.jobs, self.direction = jobs, direction
        self.word = DIRECTION_NAMES[direction].capitalize()
        names = list(dict.fromkeys(name for job in jobs for name in job.point))
        self.several = len({job.name for job in jobs}) > 1
        self.names = names
        axes = [name for name in names if name != REPEAT] or names
        self.along = max(axes, key=lambda name: len({job.point.get(name) for job in jobs}))
        self.others = [name for name in names if name != self.along]
        scale, self.at = _scale(self.along, [job.point.get(self.along, "") for job in jobs])
        self.x = Axis(AXIS_NAMES.get(self.along, self.along), scale)
        groups: dict[str, list[JobResult]] = {}
        for job in jobs:
            groups.setdefault(self._name(job, self.others), []).append(job)
        self.groups = dict(list(groups.items())[:STYLES])
        self.note = (
            f"The first {STYLES} of {len(groups)} lines; the table has them all."
            if len(groups) > STYLES
            else ""
        )

    def _name(self, job: JobResult, names: Sequence[str]) -> str:
        place = (point_text(name, job.point.get(name, "")) for name in names)
        return " / ".join([*([job.name] if self.several else []), *place])

    def _legend(self, names: Sequence[str]) -> str:
        titles = (AXIS_NAMES.get(name, name) for name in names)
        return " / ".join([*(["job"] if self.several else []), *titles])

    def charts(self) -> Iterator[Markup]:
        yield self._rate("IOPS", "IOPS", lambda result: result.iops)
        yield self._rate("bandwidth", "MiB/s", lambda result: result.bytes_per_second / (1 << 20))
        yield from self._latency()
        yield self._load()
        yield self._percentiles()

    def _values(self, value: Callable[[DirectionResult], float]) -> list[Floats]:
        return [
            np.array([value(job.directions[self.direction]) for job in group], dtype=np.float64)
            for group in self.groups.values()
        ]

    def _lines(self, ys: Sequence[Floats], xs: Sequence[Floats] | None = None) -> list[Series]:
        places = xs or [
            np.array([self.at(job.point.get(self.along, "")) for job in group], dtype=np.float64)
            for group in self.groups.values()
        ]
        return [
            Series(name, x, y, style, points=True)
            for style, (name, x, y) in enumerate(zip(self.groups, places, ys, strict=True))
        ]

    def _rate(self, what: str, unit: str, value: Callable[[DirectionResult], float]) -> Markup:
        values = self._values(value)
        return self._chart(
            f"{self.word} {what} over {self.x.title}",
            self.x,
            _rate_axis(unit, values),
            self._lines(values),
        )

    def _latency(self) -> Iterator[Markup]:
        drawn = {share: self._values(_percentile(share)) for share in (50.0, 99.0, 99.9)}
        every = np.concatenate([values for one in drawn.values() for values in one])
        y = Axis("total latency (lat)", log_scale(every, latency_label))
        if len(self.groups) == 1:
            (line,) = self._lines(drawn[50.0])
            together = [
                Series(f"p{share:g}", line.x, values[0], style, points=True)
                for style, (share, values) in enumerate(drawn.items())
            ]
            yield chart(f"{self.word} latency over {self.x.title}", self.x, y, together, self.note)
            return
        for share in (50.0, 99.0):
            title = f"{self.word} latency, p{share:g}, over {self.x.title}"
            yield self._chart(title, self.x, y, self._lines(drawn[share]))

    def _load(self) -> Markup:
        """Draw what latency each rate costs: where it bends up, more depth buys nothing."""
        rates = self._values(lambda result: result.iops)
        latencies = self._values(_percentile(99.0))
        return self._chart(
            f"{self.word} latency, p99, over IOPS reached",
            _rate_axis("IOPS", rates),
            Axis("total latency (lat)", log_scale(np.concatenate(latencies), latency_label)),
            self._lines(latencies, rates),
        )

    def _percentiles(self) -> Markup:
        # The first, the last and some between them.
        chosen = [
            self.jobs[n] for n in np.unique(np.linspace(0, len(self.jobs) - 1, COLOURS).astype(int))
        ]
        return percentile_chart(
            [
                (self._name(job, self.names), job.directions[self.direction].lat, style)
                for style, job in enumerate(chosen)
            ],
            f"{self.word} latency percentiles",
            f"{len(chosen)} of the {len(self.jobs)} points."
            if len(chosen) < len(self.jobs)
            else "",
            self._legend(self.names),
        )

    def _chart(self, title: str, x: Axis, y: Axis, lines: Sequence[Series]) -> Markup:
        return chart(title, x, y, lines, self.note, self._legend(self.others))


def _along(counts: Mapping[str, int]) -> str:
    """Choose the plots' axis: the depth, unless it has few values; else that with the most."""
    if counts.get("iodepth", 0) >= _FEW:
        return "iodepth"
    return max(counts, key=lambda name: counts[name])


def _percentile(share: float) -> Callable[[DirectionResult], float]:
    return lambda result: float(result.lat.percentile(share))


def _rate_axis(unit: str, values: Sequence[Floats]) -> Axis:
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    if low > 0 and high > _WIDE * low:
        return Axis(f"{unit} (log)", log_scale(every, rate_label))
    return Axis(unit, Linear.up_to(high, rate_label))


def _scale(along: str, values: Sequence[int | str]) -> tuple[Scale, Callable[[int | str], float]]:
    """Choose an axis for the swept values: steps of a factor, even steps, or names."""
    if all(isinstance(value, int) for value in values):
        numbers = sorted({int(value) for value in values})
        if numbers[0] > 0 and numbers[-1] >= 4 * numbers[0]:

            def label(value: float) -> str:
                return point_text(along, round(value))

            return Log(numbers[0], numbers[-1], label, tuple(map(float, numbers))), float
        air = max(0.05 * (numbers[-1] - numbers[0]), 0.5)
        return Linear(numbers[0] - air, numbers[-1] + air, plain_label), float
    names = tuple(dict.fromkeys(str(value) for value in values))
    return Named(names), lambda value: float(names.index(str(value)))
