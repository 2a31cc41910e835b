"""Results of several hosts as one table: each host's figures, and those of all together.

Reads the JSON files of ``nvme-user bench`` and, as far as they go, those of fio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from pynvme_user.bench.results.compare import refusing_odd_results
from pynvme_user.bench.results.result import Histogram, bucket_of
from pynvme_user.bench.results.text import duration, number, point_text
from pynvme_user.spec.text import printable
from pynvme_user.tables import aligned
from pynvme_user.workload.direction import DIRECTION_NAMES
from pynvme_user.workload.records import BUCKETS

FORMAT_VERSION = 1
#: What the rows of all hosts together have in place of a host's name.
ALL = "all"
_PERCENTILES = (50.0, 99.0, 99.9)
_WAYS = (*DIRECTION_NAMES, "mixed")

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One direction of one job on one host, or on all of them; latencies in nanoseconds.

    ``latency`` says which ones: lat, or clat where a result of fio's has no other percentiles. A
    percentile of all hosts is None where not each result has the latencies' bins (json+).
    """

    host: str
    job: str
    point: dict[str, int | str]
    direction: str
    ios: int
    iops: float
    bw_bytes: float
    latency: str
    mean_ns: float
    percentiles: dict[str, int | None]
    max_ns: int
    failed: int


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of all results, and what is missing in them."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def hosts(paths: Sequence[Path], results: Sequence[Object]) -> list[str]:
    """Name the host of each result, as it says itself or else by its file; no two are the same."""
    said = [
        str(run.get("pynvme_user", {}).get("machine", {}).get("host") or path.stem)
        for path, run in zip(paths, results, strict=True)
    ]
    twice = [f"{host} ({path})" for host, path in zip(said, paths, strict=True)]
    return [
        other if said.count(host) > 1 or host == ALL else host
        for host, other in zip(said, twice, strict=True)
    ]


def merge(names: Sequence[str], results: Sequence[Object]) -> Merged:
    """Make the rows of all results: for each job and direction its hosts, then all together.

    Jobs are the same where their name and place in a sweep are. A job that has no figures on a host
    is noted. Raises ValueError for a result of which a part is missing.
    """
    with refusing_odd_results():
        kind = "lat" if all(_has_percentiles(run, "lat_ns") for run in results) else "clat"
        found: dict[tuple[str, tuple[Any, ...], str], list[tuple[Row, Object]]] = {}
        for host, run in zip(names, results, strict=True):
            for row, latencies in _rows(host, run, kind):
                key = row.job, tuple(row.point.items()), row.direction
                found.setdefault(key, []).append((row, latencies))
        merged = Merged()
        for same in found.values():
            merged.rows.extend(row for row, _ in same)
            if len({row.host for row, _ in same}) > 1:
                merged.rows.append(_together(same))
        for row in merged.rows:
            _check(row)
        for host, run in zip(names, results, strict=True):
            merged.notes.extend(_without_figures(host, run))
        return merged


def _check(row: Row) -> None:
    """See that a row can be shown."""
    figures = [row.ios, row.iops, row.bw_bytes, row.mean_ns, row.max_ns, row.failed]
    figures += [of for of in row.percentiles.values() if of is not None]
    if not all(isfinite(figure) and figure >= 0 for figure in figures):
        raise ValueError(f"a figure of {printable(row.job)} is negative, or beyond any number")


def _without_figures(host: str, run: Object) -> Iterator[str]:
    ours = run.get("pynvme_user", {}).get("jobs", [])
    for index, job in enumerate(run["jobs"]):
        if any(job[way]["total_ios"] for way in _WAYS if way in job):
            continue
        our_job = ours[index] if index < len(ours) else {}
        failed = sum(our_job.get("failed", {}).values()) or int(job.get("total_err", 0))
        why = f"its I/Os failed ({failed})" if failed else "no I/O was measured"
        title = _title(str(job["jobname"]), dict(our_job.get("point", {})))
        yield f"{title} has no figures of {host}: {why}"


def _title(job: str, point: Mapping[str, int | str]) -> str:
    place = "  ".join(f"{name}={point_text(name, value)}" for name, value in point.items())
    return f"{job}  {place}".strip()


def _has_percentiles(run: Object, kind: str) -> bool:
    return all(
        "percentile" in job[way][kind]
        for job in run["jobs"]
        for way in DIRECTION_NAMES
        if way in job and job[way]["total_ios"]
    )


def _rows(host: str, run: Object, kind: str) -> Iterator[tuple[Row, Object]]:
    ours = run.get("pynvme_user", {}).get("jobs", [])
    for index, job in enumerate(run["jobs"]):
        our_job = ours[index] if index < len(ours) else {}
        for way in _WAYS:
            if way not in job or not job[way]["total_ios"]:
                continue
            result, latencies = job[way], job[way][f"{kind}_ns"]
            shares = latencies.get("percentile", {})
            row = Row(
                host=host,
                job=str(job["jobname"]),
                point=dict(our_job.get("point", {})),
                direction=way,
                ios=int(result["total_ios"]),
                iops=float(result["iops"]),
                bw_bytes=float(result["bw_bytes"]),
                latency=kind,
                mean_ns=float(latencies["mean"]),
                percentiles={
                    f"{share:g}": None if (of := shares.get(f"{share:f}")) is None else int(of)
                    for share in _PERCENTILES
                },
                max_ns=int(latencies["max"]),
                failed=int(our_job.get("failed", {}).get(way, 0) or 0),
            )
            yield row, latencies


def _together(same: Sequence[tuple[Row, Object]]) -> Row:
    """Add up what ran on several hosts: rates are sums, a mean is one of all I/Os."""
    rows = [row for row, _ in same]
    first, ios = rows[0], sum(row.ios for row in rows)
    bins = [latencies.get("bins") for _, latencies in same]
    shares: dict[str, int | None] = {f"{share:g}": None for share in _PERCENTILES}
    if all(bins):
        counts = np.zeros(BUCKETS, np.uint64)
        for one in filter(None, bins):
            values = np.array([int(value) for value in one], np.uint64)
            np.add.at(counts, bucket_of(values), np.array([*one.values()], np.uint64))
        found = Histogram.from_counts(counts).percentiles(_PERCENTILES)
        shares = {f"{share:g}": value for share, value in found.items()}
    return Row(
        host=ALL,
        job=first.job,
        point=first.point,
        direction=first.direction,
        ios=ios,
        iops=sum(row.iops for row in rows),
        bw_bytes=sum(row.bw_bytes for row in rows),
        latency=first.latency,
        mean_ns=sum(row.mean_ns * row.ios for row in rows) / ios,
        percentiles=shares,
        max_ns=max(row.max_ns for row in rows),
        failed=sum(row.failed for row in rows),
    )


def as_json(merged: Merged) -> dict[str, Any]:
    """Make what ``merge --output-format json`` writes."""
    return {
        "format_version": FORMAT_VERSION,
        "rows": [asdict(row) for row in merged.rows],
        "notes": merged.notes,
    }


def table(merged: Merged) -> Iterator[str]:
    """Write it for a terminal."""
    rows = merged.rows
    kind = rows[0].latency if rows else "lat"
    head = ("job", "", "host", "IOPS", "BW", f"{kind} mean")
    lines = [(*head, *(f"{kind} p{share:g}" for share in _PERCENTILES), f"{kind} max", "failed")]
    last = None
    for row in rows:
        title = printable(_title(row.job, row.point)), row.direction
        lines.append(
            (
                *(title if title != last else ("", "")),
                printable(row.host),
                number(row.iops),
                number(row.bw_bytes, "B/s", binary=True),
                duration(row.mean_ns),
                *("-" if of is None else duration(of) for of in row.percentiles.values()),
                duration(row.max_ns),
                str(row.failed),
            )
        )
        last = title
    yield from aligned(lines, "<<<" + ">" * (len(lines[0]) - 3))
    notes = [printable(note) for note in merged.notes]
    if any(None in row.percentiles.values() for row in rows if row.host == ALL):
        notes.append("percentiles of all hosts need the latencies' bins: --output-format json+.")
    if notes:
        yield ""
    yield from (f"Note: {note}" for note in notes)
