"""Two results side by side: what changed, and whether the change is more than noise.

Reads the JSON files of ``nvme-user bench`` and, as far as they go, those of fio. The noise is
what the intervals of each run show. What differs from one run to the next (the device's state, its
temperature, other load) no single run can show, and the table says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.result import bucket_bounds, bucket_of
from pynvme_user.bench.samples import mean_error
from pynvme_user.bench.summary import duration, number, point_text
from pynvme_user.spec.text import printable

FORMAT_VERSION = 1

#: Student's t for 95 % on both sides with the seven degrees of freedom of the fewest batches.
_T = 2.4
#: Fewer half seconds than these tell no noise.
_LEAST_SAMPLES = 8
_PERCENTILES = ("50.000000", "99.000000", "99.900000", "99.990000")
#: Results are much smaller; a device such as /dev/zero has no end.
_MOST_BYTES = 256 << 20
_WITHIN, _UNKNOWN = "within the noise", "noise unknown"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one direction of one job in both runs.

    ``change`` and ``noise`` are percent of ``before``; the noise is what 19 of 20 repetitions of
    unchanged runs would stay within, None where the files do not tell. ``verdict`` is "better",
    "worse", "within the noise" or "noise unknown".
    """

    job: str
    point: dict[str, int | str]
    direction: str
    metric: str  # iops, bw_bytes, lat_ns_mean, clat_ns_50.000000, ...
    before: float
    after: float
    change: float
    noise: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that both runs have, and what makes them less comparable."""

    rows: list[Row]
    notes: list[str]


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


def compare(before: Object, after: Object) -> Comparison:
    """Compare two results, job by job: those of the same name, place in a sweep and number.

    Raises ValueError for results of which a part is missing, or no figure that can be.
    """
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            found = _compare(before, after)
        for row in found.rows:
            _check(row)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(f"a part is missing or odd ({type(error).__name__}: {error})") from None
    return found


def _check(row: Row) -> None:
    """See that a row can be shown: that it has words and numbers where it is to have them."""
    figures = [row.before, row.after, row.change, *([] if row.noise is None else [row.noise])]
    if not all(isfinite(figure) for figure in figures):
        raise ValueError(f"{row.metric} is beyond any number")
    if not all(isinstance(word, str) for word in (row.job, *row.point)) or not all(
        isinstance(value, int | str) for value in row.point.values()
    ):
        raise TypeError("the name of a job or its place in a sweep is none")


def _compare(before: Object, after: Object) -> Comparison:
    first, second = _by_key(before), _by_key(after)
    rows: list[Row] = []
    notes = [f"only in the first: {_title(key)}" for key in first if key not in second]
    notes += [f"only in the second: {_title(key)}" for key in second if key not in first]
    for key, (job_a, ours_a) in first.items():
        if key not in second:
            continue
        job_b, ours_b = second[key]
        notes += [f"{_title(key)}: {text}" for text in _differences(ours_a, ours_b)]
        for which, job, ours in (("first", job_a, ours_a), ("second", job_b, ours_b)):
            failed = sum(ours.get("failed", {}).values()) or job.get("total_err", 0)
            if failed:
                notes.append(f"{_title(key)}: {failed} I/Os failed in the {which}")
        for direction in ("read", "write", "trim"):
            side_a = _Side(job_a, ours_a, direction)
            side_b = _Side(job_b, ours_b, direction)
            if side_a.result["total_ios"] and side_b.result["total_ios"]:
                rows += _rows(key, direction, side_a, side_b)
    for which, run in (("first", before), ("second", after)):
        if run.get("pynvme_user", {}).get("interrupted"):
            notes.append(f"the {which} run was interrupted")
    return Comparison(rows, notes)


_Key = tuple[str, tuple[tuple[str, int | str], ...], int]


def _by_key(run: Object) -> dict[_Key, tuple[Object, Object]]:
    ours = run.get("pynvme_user", {}).get("jobs", [])
    found: dict[_Key, tuple[Object, Object]] = {}
    clones: Counter[tuple[str, tuple[tuple[str, int | str], ...]]] = Counter()
    for index, job in enumerate(run["jobs"]):
        our_job = ours[index] if index < len(ours) else {}
        base = (job["jobname"], tuple(our_job.get("point", {}).items()))
        found[(*base, clones[base])] = (job, our_job)
        clones[base] += 1
    return found


def _title(key: _Key) -> str:
    name, point, clone = key
    place = ", ".join(f"{what}={point_text(what, value)}" for what, value in point)
    return name + (f" ({place})" if place else "") + (f" #{clone + 1}" if clone else "")


def _differences(ours_a: Object, ours_b: Object) -> Iterator[str]:
    if not ours_a or not ours_b:
        return
    for what in ("rw", "bs", "iodepth", "numjobs", "mode"):
        if ours_a[what] != ours_b[what]:
            yield f"{what} is {ours_a[what]} in the first and {ours_b[what]} in the second"
    for what in ("access", "model", "serial", "firmware", "block_size"):
        was, became = ours_a["device"][what], ours_b["device"][what]
        if was != became:
            yield f"the device's {what} is {was} in the first and {became} in the second"


class _Side:
    """One direction of one job in one run, and the noise of its figures."""

    def __init__(self, job: Object, ours: Object, direction: str):
        self.result: Object = job[direction]
        self.samples: Object = ours.get("samples", {}).get(direction, {})

    def _columns(self) -> dict[str, npt.NDArray[np.float64]]:
        columns = {
            name: np.asarray(self.samples.get(name, []), dtype=np.float64)
            for name in ("end_ms", "ios", "bytes", "lat_ns_sum")
        }
        idle = np.asarray(self.samples.get("idle_ms", 0.0), dtype=np.float64)
        columns["seconds"] = (np.diff(columns["end_ms"], prepend=0.0) - idle) / 1000
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
        if columns["end_ms"].size < _LEAST_SAMPLES:
            return None
        if metric == "iops":
            return mean_error(columns["ios"] / columns["seconds"])
        if metric == "bw_bytes":
            return mean_error(columns["bytes"] / columns["seconds"])
        mean = mean_error(columns["lat_ns_sum"] / np.maximum(columns["ios"], 1))
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


def _rows(key: _Key, direction: str, before: _Side, after: _Side) -> Iterator[Row]:
    name, point, clone = key
    kind = next(
        (k for k in ("lat_ns", "clat_ns") if "percentile" in before.result[k] and
         "percentile" in after.result[k]), None
    )  # fmt: skip
    figures = [("iops", before.result["iops"], after.result["iops"])]
    figures.append(("bw_bytes", before.result["bw_bytes"], after.result["bw_bytes"]))
    means = (before.result[kind or "lat_ns"]["mean"], after.result[kind or "lat_ns"]["mean"])
    figures.append((f"{kind or 'lat_ns'}_mean", *means))
    if kind:
        was, became = before.result[kind]["percentile"], after.result[kind]["percentile"]
        figures += [
            (f"{kind}_{share}", was[share], became[share])
            for share in _PERCENTILES
            if share in was and share in became
        ]
    for metric, first, second in figures:
        if not first:
            continue
        errors = before.error(metric), after.error(metric)
        noise = None
        if None not in errors:
            noise = 100 * _T * sqrt(sum(error**2 for error in errors if error)) / first
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
        )


def _verdict(metric: str, change: float, noise: float | None) -> str:
    if noise is None:
        return _UNKNOWN
    if abs(change) <= noise:
        return _WITHIN
    return "better" if (change > 0) == (metric in ("iops", "bw_bytes")) else "worse"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Make what ``compare --output-format json`` writes."""
    return {
        "format_version": FORMAT_VERSION,
        "rows": [asdict(row) for row in comparison.rows],
        "notes": comparison.notes,
    }


def table(comparison: Comparison) -> Iterator[str]:
    """Write a comparison for a terminal."""
    rows = [("", "", "", "first", "second", "change", "noise", "")]
    last = None
    for row in comparison.rows:
        place = "  ".join(f"{name}={point_text(name, v)}" for name, v in row.point.items())
        title = printable(f"{row.job}  {place}".strip())
        rows.append(
            (
                title if (title, row.direction) != last else "",
                row.direction if (title, row.direction) != last else "",
                metric_name(row.metric),
                _value(row.metric, row.before),
                _value(row.metric, row.after),
                f"{row.change:+.1f} %",
                "?" if row.noise is None else f"±{row.noise:.1f} %",
                row.verdict,
            )
        )
        last = (title, row.direction)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for cells in rows:
        left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(cells[3:7], widths[3:7], strict=True)]
        yield "  ".join([*left, *right, cells[7]]).rstrip()
    if not comparison.rows:
        yield "Nothing to compare: the two results have no job in common."
    yield ""
    yield from (f"Note: {printable(note)}" for note in comparison.notes)
    if any(row.noise is None for row in comparison.rows):
        yield (
            "Note: where the noise is unknown, run for more than 4 s, and with json+ for "
            "percentiles."
        )
    yield (
        "Noise is what 95 % of repetitions would stay within by the spread inside each run; runs "
        "may differ by more than that from one to the next."
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
