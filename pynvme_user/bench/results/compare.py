"""Results side by side: what changed, and whether the change is more than noise.

Reads the JSON files of ``nvme-user bench`` and, as far as they go, those of fio. The noise is what
the repeats of a run show (``--repeat``), or else what the intervals of each run do. What differs
from one run to the next (the device's state, its temperature, other load) no single run can show,
and the table says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.terms import REPEAT
from pynvme_user.bench.results.result import bucket_bounds, bucket_of, json_key
from pynvme_user.bench.results.text import duration, number, point_text
from pynvme_user.bench.results.timeseries import mean_error
from pynvme_user.spec.text import printable
from pynvme_user.tables import aligned
from pynvme_user.workload.direction import DIRECTION_NAMES

FORMAT_VERSION = 1

#: Student's t for 95 % on both sides with the seven degrees of freedom of the fewest batches.
_T = 2.4
#: Fewer half seconds than these tell no noise.
_LEAST_SAMPLES = 8
#: Student's t for 95 % on both sides, by degrees of freedom from 1 on; then the normal law's.
_T_OF = (12.7, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, *(2.15,) * 10)
_T_OF_MANY = 2.05
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_PERCENTILES = ("50.000000", "99.000000", "99.900000", "99.990000")
#: Results are much smaller; a device such as /dev/zero has no end.
_MOST_BYTES = 256 << 20
_WITHIN, _UNKNOWN = "within the noise", "noise unknown"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one direction of one job in the first result and in a later one.

    Of repeats it is the mean. ``change`` and ``noise`` are percent of ``before``; the noise is what
    19 of 20 repetitions of unchanged runs would stay within, None where the files do not tell.
    ``verdict`` is "better", "worse", "within the noise" or "noise unknown".
    """

    job: str
    point: dict[str, int | str]
    direction: str
    metric: str  # iops, bw_bytes, lat_ns_mean, lat_ns_50.000000, ...
    before: float
    after: float
    change: float
    noise: float | None
    verdict: str
    result: int = 2  # which of the results ``after`` is of, from 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that two results have, and what makes them less comparable."""

    rows: list[Row]
    notes: list[str]
    missing: list[str] = field(default_factory=list)  # of the first result's jobs, in a later one
    repeated: bool = False  # whether noise is that of repeats


def load(path: Path) -> dict[str, Any]:
    """Read a JSON result. Raises ValueError when the file holds none, and OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        found = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}): give an output of --output-format json"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("jobs"), list):
        raise ValueError(f"{path} has no jobs: give an output of --output-format json")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of it")


def compare(before: Object, *others: Object) -> Comparison:
    """Compare each of the others with the first: jobs of one name, place in a sweep and number.

    Raises ValueError for results of which a part is missing, or no figure that can be.
    """
    with refusing_odd_results():
        found = [_compare(before, after, number) for number, after in enumerate(others, 2)]
        for comparison in found:
            for row in comparison.rows:
                _check(row)
        together = Comparison(
            rows=[row for one in found for row in one.rows],
            notes=list(dict.fromkeys(note for one in found for note in one.notes)),
            missing=[title for one in found for title in one.missing],
            repeated=any(one.repeated for one in found),
        )
    if len(found) > 1:  # each figure with all results, one below the other
        order = {_place(row): at for at, row in reversed(list(enumerate(together.rows)))}
        together.rows.sort(key=lambda row: (order[_place(row)], row.result))
    return together


def _place(row: Row) -> tuple[object, ...]:
    return row.job, tuple(row.point.items()), row.direction, row.metric


@contextmanager
def refusing_odd_results() -> Iterator[None]:
    """Raise ValueError for what is not as it is in a result: a missing part, or an odd figure."""
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        detail = f" ({error})" if isinstance(error, ValueError) else ""
        raise ValueError(
            f"a part is missing or odd{detail}: make it again by `nvme-user bench "
            "--output-format json`"
        ) from None


def _check(row: Row) -> None:
    """See that a row can be shown: that it has words and numbers where it is to have them."""
    figures = [row.before, row.after, row.change, *([] if row.noise is None else [row.noise])]
    if not all(isfinite(figure) for figure in figures):
        raise ValueError(f"{row.metric} is beyond any number")
    if row.before < 0 or row.after < 0:
        raise ValueError(f"{row.metric} is negative")
    if not all(isinstance(word, str) for word in (row.job, *row.point)) or not all(
        isinstance(value, int | str) for value in row.point.values()
    ):
        raise TypeError("the name of a job or its place in a sweep is none")


def _compare(before: Object, after: Object, number: int) -> Comparison:
    first, second, later = _by_key(before), _by_key(after), ordinal(number)
    rows: list[Row] = []
    missing = [_title(key) for key in first if key not in second]
    notes = [f"only in the first: {title}" for title in missing]
    notes += [f"only in the {later}: {_title(key)}" for key in second if key not in first]
    for key, runs_a in first.items():
        if key not in second:
            continue
        runs_b = second[key]
        differences = _differences(runs_a[0][1], runs_b[0][1], later)
        notes += [f"{_title(key)}: {text}" for text in differences]
        for which, runs in (("first", runs_a), (later, runs_b)):
            failed = sum(
                sum(ours.get("failed", {}).values()) or job.get("total_err", 0)
                for job, ours in runs
            )
            if failed:
                notes.append(f"{_title(key)}: {failed} I/Os failed in the {which}")
        for direction in DIRECTION_NAMES:
            side_a, side_b = (
                _Side([_Run(job, ours, direction) for job, ours in runs])
                for runs in (runs_a, runs_b)
            )
            if side_a.runs and side_b.runs:
                rows += _rows(key, direction, side_a, side_b, number)
    for which, run in (("first", before), (later, after)):
        if run.get("pynvme_user", {}).get("interrupted"):
            notes.append(f"the {which} run was interrupted")
    repeated = any(runs[1:] for result in (first, second) for runs in result.values())
    return Comparison(rows, notes, [f"{title} (in the {later})" for title in missing], repeated)


def ordinal(number: int) -> str:
    """Name a result by its place, from 1: ``second``."""
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"


_Key = tuple[str, tuple[tuple[str, int | str], ...], int]


def _by_key(run: Object) -> dict[_Key, list[tuple[Object, Object]]]:
    """Sort jobs by what is compared; each has one entry, or one for each repeat."""
    ours = run.get("pynvme_user", {}).get("jobs", [])
    found: dict[_Key, list[tuple[Object, Object]]] = {}
    clones: Counter[tuple[object, ...]] = Counter()
    for index, job in enumerate(run["jobs"]):
        our_job = ours[index] if index < len(ours) else {}
        point = dict(our_job.get("point", {}))
        repeat = point.pop(REPEAT, None)
        base = (job["jobname"], tuple(point.items()))
        found.setdefault((*base, clones[base, repeat]), []).append((job, our_job))
        clones[base, repeat] += 1
    return found


def _title(key: _Key) -> str:
    name, point, clone = key
    place = ", ".join(f"{what}={point_text(what, value)}" for what, value in point)
    return name + (f" ({place})" if place else "") + (f" #{clone + 1}" if clone else "")


def _differences(ours_a: Object, ours_b: Object, later: str) -> Iterator[str]:
    if not ours_a or not ours_b:
        return
    for what in ("rw", "bs", "iodepth", "numjobs", "mode"):
        if ours_a[what] != ours_b[what]:
            yield f"{what} is {ours_a[what]} in the first and {ours_b[what]} in the {later}"
    for what in ("access", "model", "serial", "firmware", "block_size"):
        was, became = ours_a["device"][what], ours_b["device"][what]
        if was != became:
            yield f"the device's {what} is {was} in the first and {became} in the {later}"


class _Side:
    """One direction of one job in one result: a run, or several repeats of it."""

    def __init__(self, runs: Sequence[_Run]) -> None:
        self.runs = [run for run in runs if run.result["total_ios"]]

    def percentiles(self, kind: str) -> Object | None:
        """Tell the percentiles of a kind of latency that all have; the values are the first's."""
        return (
            self.runs[0].result[kind]["percentile"]
            if all("percentile" in run.result[kind] for run in self.runs)
            else None
        )

    def values(self, metric: str) -> list[float]:
        """Tell a figure of each run."""
        return [run.value(metric) for run in self.runs]

    def value(self, metric: str) -> float:
        """Tell a figure: of repeats, the mean."""
        values = self.values(metric)
        return values[0] if len(values) == 1 else sum(values) / len(values)

    def spread(self, metric: str) -> tuple[float, int]:
        """Tell the variance of repeats, relative to their mean, and its degrees of freedom."""
        values = np.array(self.values(metric), dtype=np.float64)
        if values.size < 2 or not (mean := float(values.mean())):
            return 0.0, 0
        return float(values.var(ddof=1)) / mean**2, values.size - 1


def _noise(metric: str, before: _Side, after: _Side) -> float | None:
    """Tell the noise of a change in percent, None where nothing tells."""
    spreads = [side.spread(metric) for side in (before, after)]
    if freedom := sum(degrees for _, degrees in spreads):
        # One run varies as the repeats of the other do.
        variance = sum(one * degrees for one, degrees in spreads) / freedom
        t = _T_OF[freedom - 1] if freedom <= len(_T_OF) else _T_OF_MANY
        return 100 * t * sqrt(variance * sum(1 / len(side.runs) for side in (before, after)))
    errors = [side.runs[0].error(metric) for side in (before, after)]
    if None in errors or before.runs[1:] or after.runs[1:]:
        return None
    return 100 * _T * sqrt(sum(error**2 for error in errors if error)) / before.value(metric)


class _Run:
    """One direction of one job in one run, and the noise of its figures."""

    def __init__(self, job: Object, ours: Object, direction: str):
        self.result: Object = job[direction]
        self.samples: Object = ours.get("samples", {}).get(direction, {})

    def value(self, metric: str) -> float:
        """Tell a figure."""
        if metric in ("iops", "bw_bytes"):
            return float(self.result[metric])
        kind, what = metric.rsplit("_", 1)
        latencies = self.result[kind]
        return float(latencies["mean"] if what == "mean" else latencies["percentile"][what])

    def _columns(self) -> dict[str, npt.NDArray[np.float64]]:
        columns = {
            name: np.asarray(self.samples.get(json_key(name), []), dtype=np.float64)
            for name in ("end_ns", "ios", "bytes", "lat_sum")
        }
        idle = np.asarray(self.samples.get(json_key("idle_ns"), 0.0), dtype=np.float64)
        columns["seconds"] = (np.diff(columns["end_ns"], prepend=0.0) - idle) / 1000
        # Without those that were a phase of other directions.
        columns = {name: column[columns["seconds"] > 0] for name, column in columns.items()}
        # Before the first I/O and after the last one, the job did something else. The last interval
        # is as long as the run left it, and so stands for no rate.
        busy = np.flatnonzero(columns["ios"])
        active = slice(busy[0], busy[-1]) if busy.size else slice(0)
        return {name: column[active] for name, column in columns.items()}

    def error(self, metric: str) -> float | None:
        """Tell the standard error of a figure in its own unit, None where nothing tells."""
        if not self.samples:
            return self._error_of_fio(metric)
        columns = self._columns()
        if columns["end_ns"].size < _LEAST_SAMPLES:
            return None
        if metric == "iops":
            return mean_error(columns["ios"] / columns["seconds"])
        if metric == "bw_bytes":
            return mean_error(columns["bytes"] / columns["seconds"])
        mean = mean_error(columns["lat_sum"] / np.maximum(columns["ios"], 1))
        return mean if metric.endswith("_mean") else self._error_of_percentile(metric, mean)

    def _error_of_fio(self, metric: str) -> float | None:
        # fio keeps no samples, but their spread; that neighbours are alike it does not tell.
        count = self.result.get("iops_samples", 0)
        spread = {"iops": ("iops_stddev", 1), "bw_bytes": ("bw_dev", 1024)}.get(metric)
        if spread is None or count < _LEAST_SAMPLES:
            return None
        return float(self.result[spread[0]]) * spread[1] / sqrt(count)

    def _error_of_percentile(self, metric: str, error_of_mean: float) -> float | None:
        """Take the values at the ranks that a percentile of so few independent I/Os may lie at.

        I/Os close in time have like latencies. How many independent ones they are worth is what
        the error of the mean over the intervals shows, beside their standard deviation.
        """
        kind, share = metric.rsplit("_", 1)
        histogram = self.result[kind]
        bins = histogram.get("bins")
        if not bins:
            return None
        values = np.array([int(value) for value in bins], dtype=np.uint64)
        reached = np.cumsum([int(count) for count in bins.values()]) / histogram["N"]
        scatter = self.result["lat_ns"]["stddev"]
        worth = min((scatter / error_of_mean) ** 2, histogram["N"]) if error_of_mean else None
        worth = max(worth or histogram["N"], 1)
        wanted = float(share) / 100
        reach = _T * sqrt(wanted * (1 - wanted) / worth)
        if wanted + reach >= 1:
            return None  # beyond what so many I/Os tell
        low, middle, high = (
            int(values[np.searchsorted(reached, rank)])
            for rank in (wanted - reach, wanted, wanted + reach)
        )
        # A bucket's width is the finest difference that there is.
        least, greatest = bucket_bounds(bucket_of(high))
        return max(high - middle, middle - low, int(greatest) - int(least) + 1) / _T


def _rows(key: _Key, direction: str, before: _Side, after: _Side, number: int) -> Iterator[Row]:
    name, point, clone = key
    # fio's own results have percentiles of the completion latency alone.
    kind = next(
        (k for k in ("lat_ns", "clat_ns") if before.percentiles(k) and after.percentiles(k)), None
    )
    metrics = ["iops", "bw_bytes", f"{kind or 'lat_ns'}_mean"]
    if kind:
        was, became = before.percentiles(kind) or {}, after.percentiles(kind) or {}
        metrics += [f"{kind}_{share}" for share in _PERCENTILES if share in was and share in became]
    for metric in metrics:
        first, second = before.value(metric), after.value(metric)
        if not first:
            continue
        noise = _noise(metric, before, after)
        change = 100 * (second - first) / first
        yield Row(
            name if not clone else f"{name} #{clone + 1}",
            dict(point),
            direction,
            metric,
            first,
            second,
            round(change, 3),
            None if noise is None else round(noise, 3),
            _verdict(metric, change, noise),
            number,
        )


def _verdict(metric: str, change: float, noise: float | None) -> str:
    if noise is None:
        return _UNKNOWN
    if abs(change) <= noise:
        return _WITHIN
    return "worse" if _is_worse(metric, change) else "better"


def _is_worse(metric: str, change: float) -> bool:
    return (change > 0) != (metric in ("iops", "bw_bytes"))


def failures(comparison: Comparison, percent: float) -> list[str]:
    """Say what is worse by more than so many percent, and more than the noise; for --fail-above.

    Where the noise is unknown, rates and means count, and percentiles do not. A job that is missing
    in a later result is a failure, too, and so are results that have no job in common.
    """
    said = [f"not there any more: {title}" for title in comparison.missing]
    if not comparison.rows:
        said.append("the results have no job in common")
    for row in comparison.rows:
        counts = row.verdict == "worse" or (
            row.verdict == _UNKNOWN
            and (row.metric in ("iops", "bw_bytes") or row.metric.endswith("_mean"))
            and _is_worse(row.metric, row.change)
        )
        if counts and abs(row.change) > percent:
            noise = "noise unknown" if row.noise is None else f"noise {row.noise:.1f} %"
            said.append(
                f"{_row_title(row)}, {row.direction}: {metric_name(row.metric)} is worse by "
                f"{abs(row.change):.1f} % ({noise}) in the {ordinal(row.result)}"
            )
    return said


def _row_title(row: Row) -> str:
    place = "  ".join(f"{name}={point_text(name, v)}" for name, v in row.point.items())
    return printable(f"{row.job}  {place}".strip())


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Make what ``compare --output-format json`` writes."""
    return {
        "format_version": FORMAT_VERSION,
        "rows": [asdict(row) for row in comparison.rows],
        "notes": comparison.notes,
    }


def table(comparison: Comparison) -> Iterator[str]:
    """Write a comparison for a terminal."""
    several = len({row.result for row in comparison.rows}) > 1
    rows: list[tuple[str, ...]] = [
        ("", "", "", "", "first", "then" if several else "second", "change", "noise", "")
    ]
    last: tuple[object, ...] | None = None
    for row in comparison.rows:
        title, way = _row_title(row), row.direction
        figure = _place(row)
        rows.append(
            (
                title if last is None or figure[:3] != last[:3] else "",
                way if last is None or figure[:3] != last[:3] else "",
                metric_name(row.metric) if figure != last else "",
                ordinal(row.result) if several else "",
                _value(row.metric, row.before) if figure != last else "",
                _value(row.metric, row.after),
                f"{row.change:+.1f} %",
                "?" if row.noise is None else f"±{row.noise:.1f} %",
                row.verdict,
            )
        )
        last = figure
    sides = "<<<<>>>><"
    if not several:
        rows = [(*row[:3], *row[4:]) for row in rows]
        sides = "<<<>>>><"
    yield from aligned(rows, sides)
    if not comparison.rows:
        yield "Nothing to compare: the results have no job in common."
    yield ""
    yield from (f"Note: {printable(note)}" for note in comparison.notes)
    if any(row.noise is None for row in comparison.rows):
        yield (
            "Note: where the noise is unknown, run for more than 4 s, and with json+ for "
            "percentiles."
        )
    yield (
        "Noise is what 95 % of repetitions would stay within, by the spread of the repeats."
        if comparison.repeated
        else "Noise is what 95 % of repetitions would stay within by the spread inside each run; "
        "runs may differ by more than that from one to the next: --repeat 5 tells."
    )


def metric_name(metric: str) -> str:
    """Write a metric for people: ``lat p99.9``."""
    names = {"iops": "IOPS", "bw_bytes": "bandwidth"}
    if metric in names:
        return names[metric]
    kind, share = metric.rsplit("_", 1)
    return f"{kind.removesuffix('_ns')} {share if share == 'mean' else f'p{float(share):g}'}"


def _value(metric: str, value: float) -> str:
    if metric == "iops":
        return number(value)
    return number(value, "B/s", binary=True) if metric == "bw_bytes" else duration(value)
