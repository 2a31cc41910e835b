"""Results as text: fio's normal output line by line, with what fio does not know added."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from math import log10

from pynvme_user.bench.jobs.terms import REPEAT
from pynvme_user.bench.results import health
from pynvme_user.bench.results.aggregate import mixed
from pynvme_user.bench.results.fio_json import (
    error_number,
    group_bandwidth,
    latency_classes,
    per_io,
    runtime_ms,
    share_of_group,
    spreads,
)
from pynvme_user.bench.results.result import (
    Depths,
    DirectionResult,
    Histogram,
    JobResult,
    LatencyTarget,
    Rounds,
    RunResult,
    SteadyState,
    active,
)
from pynvme_user.bench.results.timeseries import Spread
from pynvme_user.spec.text import printable
from pynvme_user.tables import aligned
from pynvme_user.workload.direction import DIRECTION_NAMES, Direction

_LINE = 80
#: Faults of a verification that are written one by one; the JSON has all that were kept.
_FAULTS_SHOWN = 10


def summary(run: RunResult) -> Iterator[str]:
    """Write a run for people: a table for a sweep, else each job and group as fio does.

    What went wrong comes last, where it is seen. The lines are printable ASCII.
    """
    return map(printable, _summary(run))


def _summary(run: RunResult) -> Iterator[str]:
    ended = time.ctime(run.started + run.elapsed_ns / 1e9)
    if any(job.point for job in run.jobs):
        yield from sweep_table(run.jobs)
        yield from _repeats(run.jobs)
    else:
        for job in run.jobs:
            yield from _job(run, job, ended)
        for group in sorted({job.group for job in run.jobs}):
            yield from _group(run.jobs, group)
    yield from _troubles(run)


#: Of a number in the summary.
_DIGITS = 4


def number(value: float, unit: str = "", *, binary: bool = False) -> str:
    """Write a value in so many characters, and its prefix: ``14.1k``, ``54.9MiB/s``, ``1000``.

    ``binary`` scales by 1024 (Ki, Mi), else by 1000 (k, M). What needs no prefix has no decimals.
    """
    base = 1024 if binary else 1000
    prefixes = ("", "Ki", "Mi", "Gi", "Ti", "Pi") if binary else ("", "k", "M", "G", "T", "P")
    for prefix in prefixes:
        if prefix == prefixes[-1] or round(value) < (base if prefix else 10**_DIGITS):
            break
        value /= base
    decimals = 0
    if prefix:
        # As many as fit behind the digits, of which rounding may make one more.
        decimals = max(0, _DIGITS - 1 - len(str(int(value))))
        decimals = max(0, _DIGITS - 1 - len(str(int(round(value, decimals)))))
    return f"{value:.{decimals}f}{prefix}{unit}"


def _bandwidth(value: float, unit: str = "B/s") -> tuple[str, str]:
    """Write bytes, or bytes per second, in both systems."""
    return number(value, unit, binary=True), number(value, unit)


# --- one job ------------------------------------------------------------------------------------


def _shared_out(job: JobResult) -> str:
    """Tell what a job on several devices has there."""
    told = f"{job.queues} queue pairs on {len(job.devices)} devices"
    if job.threads < job.queues:
        told += f" in {job.threads:.0f} thread{'s' * (job.threads > 1)}"
    # With more of them than one on each, each has its device's share of the depth.
    several = job.queues > job.members * len(job.devices)
    return told if several else f"{told}, iodepth={job.iodepth} among them"


def _job(run: RunResult, job: JobResult, ended: str) -> Iterator[str]:
    code = error_number(job)
    yield (
        f"{job.name}: (groupid={job.group}, jobs={job.members}): err={code:2d}: "
        f"pid={job.pid}: {ended}"
    )
    if job.description:
        yield f"  Description  : [{job.description}]"
    for device in job.devices or (job.device,):
        yield (
            f"  device       : {device.name}, namespace {device.nsid}, {device.access}, "
            f"{job.mode}, {device.block_size} B blocks"
        )
    if job.devices:
        yield f"  shared out   : {_shared_out(job)}"
    for direction in Direction:
        if job.directions[direction].ios and job.unified_rw_reporting != "mixed":
            group = group_bandwidth(run.jobs, job.group, direction)
            yield from _direction(job, DIRECTION_NAMES[direction], job.directions[direction], group)
    if not any(job.directions[direction].ios for direction in Direction):
        yield "  no I/O was measured"
    elif job.unified_rw_reporting != "none":
        group = group_bandwidth(run.jobs, job.group, None)
        yield from _direction(job, "mixed", mixed(job), group)
    nano, micro, milli = latency_classes([result.lat for result in job.directions])
    for unit, shares in (("nsec", nano), ("usec", micro), ("msec", milli)):
        yield from _latency_classes(unit, shares)
    if job.flush.count:
        yield "  flush:"
        yield _latency("flush", job.flush)
        yield from _percentiles("flush", job.flush, job.percentile_list)
    ran = max(job.runtime_ns * job.threads, 1)
    yield (
        f"  cpu          : usr={100 * job.cpu.user_ns / ran:.2f}%, "
        f"sys={100 * job.cpu.system_ns / ran:.2f}%, ctx={job.cpu.context_switches}, "
        f"majf={job.cpu.major_faults}, minf={job.cpu.minor_faults}"
    )
    yield from _depths(job.depths)
    counts = [(result.ios, result.short, result.drops) for result in job.directions]
    total, short, dropped = zip(*counts, strict=True)
    yield (
        f"     issued rwts: total={_list(total)},{job.flush.count} short={_list(short)},0 "
        f"dropped={_list(dropped)},0"
    )
    yield from _driver(job)
    if job.errors:
        yield f"     errors    : total={sum(job.errors.values())}, {_statuses(job)}"
    if job.latency_target:
        yield _latency_target(job.latency_target)
    if job.steady_state:
        yield _steady_state(job.steady_state)
    if job.rounds:
        yield _rounds(job.rounds)
    if job.verify:
        yield (
            f"  verify       : {job.verify.method}, {job.verify.blocks} blocks checked, "
            f"{job.verify.faulty} faulty"
        )


def _list(values: Sequence[int]) -> str:
    return ",".join(str(value) for value in values)


def _direction(job: JobResult, name: str, result: DirectionResult, group: float) -> Iterator[str]:
    first, second = _bandwidth(result.bytes_per_second)
    moved, _ = _bandwidth(result.bytes, "B")
    took = runtime_ms(result.runtime_ns)
    yield f"  {name}: IOPS={number(result.iops)}, BW={first} ({second})({moved}/{took}msec)"
    # The total latency leads: what one I/O took, whether its doorbell or its completion took it.
    for name, histogram in ((" lat", result.lat), ("slat", result.slat), ("clat", result.clat)):
        if histogram.count:
            yield _latency(name, histogram)
    if job.device.emulated and result.slat.mean > result.clat.mean:
        yield (
            "    note: this emulated device does most of an I/O while its doorbell is written: "
            "slat has it, clat"
        )
        yield "          hardly any of it; lat, their sum, is the latency"
    for name, histogram, wanted in (
        ("lat", result.lat, job.lat_percentiles),
        ("slat", result.slat, job.slat_percentiles),
        ("clat", result.clat, job.clat_percentiles),
    ):
        if wanted and histogram.count:
            yield from _percentiles(name, histogram, job.percentile_list)
    yield from _spreads(job, result, group)


def _spreads(job: JobResult, result: DirectionResult, group: float) -> Iterator[str]:
    bw, iops = spreads(job, result)
    if not bw.samples:
        return
    unit, scale = ("MiB", 1 / 1024) if bw.mean > 1024 * 1024 else ("KiB", 1.0)
    yield (
        f"   bw ({unit:>5}/s): min={bw.min * scale:5.0f}, max={bw.max * scale:5.0f}, "
        f"per={share_of_group(bw, group):3.2f}%, avg={bw.mean * scale:5.2f}, "
        f"stdev={bw.stddev * scale:5.2f}, samples={bw.samples}"
    )
    yield (
        f"   iops        : min={iops.min:5.0f}, max={iops.max:5.0f}, avg={iops.mean:5.2f}, "
        f"stdev={iops.stddev:5.2f}, samples={iops.samples}"
    )


def _latency(name: str, histogram: Histogram) -> str:
    unit, scale = _latency_unit(histogram.min, histogram.max)
    low, high = (number(value / scale) for value in (histogram.min, histogram.max))
    return (
        f"    {name} ({unit}): min={low}, max={high}, avg={histogram.mean / scale:5.2f}, "
        f"stdev={histogram.stddev / scale:5.2f}"
    )


def _latency_unit(low: int, high: int) -> tuple[str, int]:
    # fio's thresholds: a larger unit only where it loses no figure of the least value.
    if low > 2_000_000 and high > 99_999_999:
        return "msec", 1_000_000
    if low > 2_000 and high > 99_999:
        return "usec", 1_000
    return "nsec", 1


def _percentiles(name: str, histogram: Histogram, wanted: Sequence[float]) -> Iterator[str]:
    found = histogram.percentiles(wanted)
    if not found:
        return
    unit, scale = _latency_unit(min(found.values()), max(found.values()))
    values = {share: -(-value // scale) for share, value in found.items()}  # rounded up, as in fio
    names = [f"{share:.2f}" if share == round(share, 2) else f"{share:g}" for share in values]
    name_width = max(len(written) for written in names)
    width = max(5, int(log10(max(*values.values(), 1))) + 1)
    entries = [
        f" {written:>{name_width}}th=[{value:{width}d}]"
        for written, value in zip(names, values.values(), strict=True)
    ]
    fit = max(1, (_LINE - 7) // (len(entries[0]) + 1))
    yield f"    {name} percentiles ({unit}):"
    for start in range(0, len(entries), fit):
        end = "," if start + fit < len(entries) else ""
        yield f"     |{','.join(entries[start : start + fit])}{end}"


def _latency_classes(unit: str, shares: Mapping[str, float]) -> Iterator[str]:
    entries = [
        f"{key if key.startswith('>') else key + '='}{share:3.2f}%".replace(">=2000", ">=2000=")
        for key, share in shares.items()
        if share > 0
    ]
    for start in range(0, len(entries), 5):
        yield f"  lat ({unit})   : {', '.join(entries[start : start + 5])}"


def _depths(depths: Depths) -> Iterator[str]:
    for label, counts, keys in (
        ("  IO depths    : ", depths.level, ("1", "2", "4", "8", "16", "32", ">=64")),
        ("     submit    : ", depths.submit, ("0", "4", "8", "16", "32", "64", ">=64")),
        ("     complete  : ", depths.complete, ("0", "4", "8", "16", "32", "64", ">=64")),
    ):
        total = max(int(counts.sum()), 1)
        # What is there at all is not written as nothing.
        shares = [max(100 * int(count) / total, 0.1 if count else 0.0) for count in counts]
        yield label + ", ".join(
            f"{key}={share:3.1f}%" for key, share in zip(keys, shares, strict=True)
        )


def _driver(job: JobResult) -> Iterator[str]:
    each = per_io(job)
    parts = []
    for name, key in (("submit", "submit"), ("complete", "complete")):
        cost = [
            f"{each[f'{key}_{unit}']:.{digits}f} {text}"
            for unit, digits, text in (("ns", 0, "ns"), ("instructions", 0, "instructions"))
            if each[f"{key}_{unit}"] is not None
        ]
        if cost:
            parts.append(f"{name}={' / '.join(cost)}")
    for name, key in (("MMIO writes", "mmio_writes"), ("MMIO reads", "mmio_reads")):
        if each[key] is not None:
            parts.append(f"{name}={each[key]:.3g}")
    if each["cpu_ns"] is not None:
        parts.append(f"cpu={duration(each['cpu_ns'])}")
    if parts:
        yield f"  driver per IO: {', '.join(parts)}"


def _statuses(job: JobResult) -> str:
    return ", ".join(
        f"{count} x {job.error_names.get(status, 'status')} (SCT {status >> 8:#x}, "
        f"SC {status & 0xFF:#04x})"
        for status, count in sorted(job.errors.items(), key=lambda item: -item[1])
    )


def _latency_target(target: LatencyTarget) -> str:
    return (
        f"     latency   : target={duration(target.target_ns)}, "
        f"window={duration(target.window_us * 1000)}, percentile={target.percentile:.2f}%, "
        f"depth={target.depth}, {'met' if target.met else 'not met'}"
    )


def _steady_state(state: SteadyState) -> str:
    count = max(len(state.bw), 1)
    first, second = _bandwidth(sum(state.bw) / count)
    kind, _, slope = state.metric.partition("_")
    return (
        f"  steadystate  : attained={'yes' if state.attained else 'no'}, "
        f"bw={first} ({second}), iops={number(sum(state.iops) / count)}, "
        f"{kind} {'slope' if slope else 'mean dev'}={state.criterion:.3f}"
        f"{'%' if state.percent else ''}"
    )


def _rounds(rounds: Rounds) -> str:
    last = rounds.iops[-rounds.wanted :]
    judged = ""
    if rounds.range_percent is not None and rounds.slope_percent is not None:
        judged = (
            f", average of the last {len(last)}: {number(sum(last) / len(last))} IOPS, "
            f"range={rounds.range_percent:.1f}% (20%), slope={rounds.slope_percent:.1f}% (10%)"
        )
    return (
        f"  rounds       : {len(rounds.iops)} of {rounds.seconds:g} s, "
        f"steady={'yes' if rounds.attained else 'no'}{judged}"
    )


def duration(ns: float) -> str:
    """Write a duration in the unit that suits it: ``85.2us``."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= scale:
            value = ns / scale
            return f"{value:.{0 if value >= 999.5 else 1 if value >= 99.95 else 2}f}{unit}"
    return f"{ns:.0f}ns"


# --- groups, sweeps, troubles -------------------------------------------------------------------


def _group(jobs: Sequence[JobResult], group: int) -> Iterator[str]:
    yield ""
    yield f"Run status group {group} (all jobs):"
    members = [job for job in jobs if job.group == group]
    unified = members[0].unified_rw_reporting
    rows: list[tuple[str, float, list[DirectionResult]]] = []
    if unified != "mixed":
        rows += [
            (
                DIRECTION_NAMES[direction],
                group_bandwidth(jobs, group, direction),
                [job.directions[direction] for job in members],
            )
            for direction in Direction
        ]
    if unified != "none":
        together = [mixed(job) for job in members]
        rows.append(("mixed", group_bandwidth(jobs, group, None), together))
    for name, total, every in rows:
        results = [result for result in every if result.ios and result.runtime_ns]
        if not results:
            continue
        rates = [result.bytes_per_second for result in results]
        moved = sum(result.bytes for result in results)
        ran = [runtime_ms(result.runtime_ns) for result in results]
        (bw, bw2), (low, low2), (high, high2) = (
            _bandwidth(value) for value in (total, min(rates), max(rates))
        )
        io, io2 = _bandwidth(moved, "B")
        yield (
            f"{name.upper():>7}: bw={bw} ({bw2}), {low}-{high} ({low2}-{high2}), "
            f"io={io} ({io2}), run={min(ran)}-{max(ran)}msec"
        )


def sweep_table(jobs: Sequence[JobResult]) -> Iterator[str]:
    """Write the points of a sweep as a table, a row for each direction of each job."""
    names = list(dict.fromkeys(name for job in jobs for name in job.point))
    several = len({job.name for job in jobs}) > 1
    head = [*(["job"] if several else []), *names, "", "IOPS", "BW", "lat mean"]
    head += ["lat p50", "lat p99", "lat p99.9", "lat max", "failed"]
    rows = [head]
    for job in jobs:
        rows += [
            [
                *([printable(job.name)] if several else []),
                *(point_text(name, job.point.get(name, "")) for name in names),
                *figures(direction, result, (50.0, 99.0, 99.9)),
            ]
            for direction, result in active(job)
        ]
    yield from _fitted(rows)


def figures(direction: Direction, result: DirectionResult, shares: Sequence[float]) -> list[str]:
    """Give a direction's name and figures for a table; of latencies, these percentiles."""
    found = result.lat.percentiles(shares).values()
    return [
        DIRECTION_NAMES[direction],
        number(result.iops),
        number(result.bytes_per_second, "B/s", binary=True),
        duration(result.lat.mean),
        *(map(duration, found) if found else ["-"] * len(shares)),
        duration(result.lat.max),
        str(result.failed),
    ]


def _fitted(rows: list[list[str]]) -> Iterator[str]:
    """Write a sweep's table in 80 columns, if leaving out what goes without saying is enough."""
    lines = _aligned(rows)
    if len(lines[0]) > _LINE:
        # Behind "lat mean" it is seen of what p50 and the others are.
        rows[0] = [text if text == "lat mean" else text.removeprefix("lat ") for text in rows[0]]
        lines = _aligned(rows)
    if len(lines[0]) > _LINE and all(row[-1] == "0" for row in rows[1:]):
        rows = [row[:-1] for row in rows]
        lines = _aligned(rows)
    way = rows[0].index("")
    if len(lines[0]) > _LINE and len({row[way] for row in rows[1:]}) == 1:
        # The one direction goes into the head of the next column.
        rows[0][way + 1] = f"{rows[1][way]} {rows[0][way + 1]}"
        rows = [[*row[:way], *row[way + 1 :]] for row in rows]
        lines = _aligned(rows)
    if len(lines[0]) > _LINE:
        lines = _aligned(rows, 1)
    yield from lines


def _aligned(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    return aligned(rows, ">" * len(rows[0]), gap=gap)


def _repeats(jobs: Sequence[JobResult]) -> Iterator[str]:
    """Write the mean of what was repeated, and how far the repeats are apart."""
    same: dict[tuple[str, tuple[tuple[str, int | str], ...]], list[JobResult]] = {}
    for job in jobs:
        if REPEAT in job.point:
            place = {name: value for name, value in job.point.items() if name != REPEAT}
            same.setdefault((job.name, tuple(place.items())), []).append(job)
    lines = []
    for (job_name, at), every in same.items():
        where = "  ".join([job_name, *(f"{what}={point_text(what, of)}" for what, of in at)])
        for direction in Direction:
            results = [job.directions[direction] for job in every]
            if len(results) < 2 or not all(result.ios for result in results):
                continue
            iops = Spread.of([result.iops for result in results])
            lat = Spread.of([result.lat.mean for result in results])
            lines.append(
                f"{where}  {DIRECTION_NAMES[direction]}  "
                f"{iops.samples} repeats: IOPS={number(iops.mean)} "
                f"(stdev {100 * iops.stddev / iops.mean:.1f} %), lat mean={duration(lat.mean)} "
                f"(stdev {100 * lat.stddev / lat.mean:.1f} %)"
            )
    yield from ["", *lines] if lines else []


def point_text(name: str, value: int | str) -> str:
    """Write a place in a sweep for people: a block size as ``4k``, all else as it is."""
    if name == "bs" and isinstance(value, int) and value >= 1024 and value % 1024 == 0:
        return f"{value >> 20}M" if value % (1 << 20) == 0 else f"{value >> 10}k"
    return printable(str(value))


def _troubles(run: RunResult) -> Iterator[str]:
    told = {one.device: said for one in run.health if (said := health.changes(one))}
    if told:
        yield ""
        yield from (f"Health of {name}: {', '.join(said)}" for name, said in told.items())
    if run.interrupted:
        yield ""
        yield "Interrupted: the results are those until then."
    if run.warnings:
        yield ""
        yield from (f"Warning: {warning}" for warning in run.warnings)
    failing = [job for job in run.jobs if not job.ok]
    if failing or run.failure:
        yield ""
    for job in failing:
        if job.errors:
            yield f"Error: {job.name}: {sum(job.errors.values())} I/Os failed: {_statuses(job)}"
        if job.failure:
            yield f"Error: {job.name} ended early: {job.failure}"
        if job.verify and job.verify.faulty:
            yield f"Error: {job.name}: {job.verify.faulty} blocks do not hold what was written"
            shown = job.verify.faults[:_FAULTS_SHOWN]
            yield from (f"  LBA {fault.lba}: {fault.kind}: {fault.message}" for fault in shown)
            if job.verify.faulty > len(shown):
                yield f"  and {job.verify.faulty - len(shown)} more"
    if run.failure:
        yield f"Error: {run.failure}"
