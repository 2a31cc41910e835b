"""Results of several hosts as one table: each host's figures, and those of all together.

Reads the JSON files of ``nvme-user bench`` and, as far as they go, those of fio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pynvme_user.bench.results.compare import refusing_odd_results
from pynvme_user.bench.results.result import BUCKETS, Histogram, bucket_of
from pynvme_user.bench.results.text import duration, number, point_text
from pynvme_user.spec.text import printable

FORMAT_VERSION = 1
#: What the rows of all hosts together have in place of a host's name.
ALL = "all"
_PERCENTILES = (50.0, 99.0, 99.9)

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


def merge(names: Sequence[str], results: Sequence[Object]) -> list[Row]:
    """Make the rows of all results: for each job and direction its hosts, then all together.

    Jobs are the same where their name and place in a sweep are. Raises ValueError for a result of
    which a part is missing.
    """
    with refusing_odd_results():
        kind = "lat" if all(_has_percentiles(run, "lat_ns") for run in results) else "clat"
        found: dict[tuple[str, tuple[Any, ...], str], list[tuple[Row, Object]]] = {}
        for host, run in zip(names, results, strict=True):
            for row, latencies in _rows(host, run, kind):
                key = row.job, tuple(row.point.items()), row.direction
                found.setdefault(key, []).append((row, latencies))
        rows: list[Row] = []
        for same in found.values():
            rows += [row for row, _ in same]
            if len({row.host for row, _ in same}) > 1:
                rows.append(_together(same))
        return rows


def _has_percentiles(run: Object, kind: str) -> bool:
    return all(
        "percentile" in job[way][kind]
        for job in run["jobs"]
        for way in ("read", "write", "trim")
        if way in job and job[way]["total_ios"]
    )


def _rows(host: str, run: Object, kind: str) -> Iterator[tuple[Row, Object]]:
    ours = run.get("pynvme_user", {}).get("jobs", [])
    for index, job in enumerate(run["jobs"]):
        our_job = ours[index] if index < len(ours) else {}
        for way in ("read", "write", "trim", "mixed"):
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


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Make what ``merge --output-format json`` writes."""
    return {"format_version": FORMAT_VERSION, "rows": [asdict(row) for row in rows]}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Write the rows for a terminal."""
    kind = rows[0].latency if rows else "lat"
    head = ("job", "", "host", "IOPS", "BW", f"{kind} mean")
    lines = [(*head, *(f"{kind} p{share:g}" for share in _PERCENTILES), f"{kind} max", "failed")]
    last = None
    for row in rows:
        place = "  ".join(f"{name}={point_text(name, value)}" for name, value in row.point.items())
        title = printable(f"{row.job}  {place}".strip()), row.direction
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
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()
    if any(None in row.percentiles.values() for row in rows if row.host == ALL):
        yield ""
        yield "Note: percentiles of all hosts need the latencies' bins: --output-format json+."
