"""``--report``: a run as one page of HTML that needs nothing beside itself, not even scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from pynvme_user.bench.report.job_plots import job_plots
from pynvme_user.bench.report.rendering import render
from pynvme_user.bench.report.sweep_plots import AXIS_NAMES, sweep_plots
from pynvme_user.bench.results import health
from pynvme_user.bench.results.aggregate import combine_groups
from pynvme_user.bench.results.fio_json import per_io
from pynvme_user.bench.results.result import JobResult, RunResult, active
from pynvme_user.bench.results.text import duration, figures, number, point_text
from pynvme_user.spec.text import printable

#: The table of a sweep over more is made narrower.
_FEW_AXES = 2
_TABLE_PERCENTILES = (50.0, 99.0, 99.9, 99.99)


def write_report(run: RunResult, path: Path) -> None:
    """Write the page. Raises OSError."""
    path.write_text(page(run), encoding="utf-8")


def page(run: RunResult) -> str:
    """Make the page: conditions, troubles, a table of all results, then the plots."""
    jobs = [replace(job, name=printable(job.name)) for job in combine_groups(run.jobs)]
    sweep = any(job.point for job in jobs)
    title = " and ".join(dict.fromkeys(job.name for job in jobs[:3])) + (
        f" and {len({job.name for job in jobs}) - 3} more"
        if len({job.name for job in jobs}) > 3
        else ""
    )
    made = render(
        "report.html",
        title=title,
        started=time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run.started)),
        command=printable(run.command),
        errors=list(map(printable, _errors(run, jobs))),
        warnings=list(map(printable, run.warnings)),
        results=_shown(*_results(jobs)),
        sections=list(sweep_plots(jobs) if sweep else chain.from_iterable(map(job_plots, jobs))),
        facts=_facts(run, jobs),
        costs=_shown(*_costs(jobs)),
        version=version("pynvme_user"),
    )
    return str(made)


# --- tables -------------------------------------------------------------------------------------


#: Heads, rows, and how many columns have words; the others have numbers.
_Table: TypeAlias = tuple[list[str], list[list[str]], int]


def _errors(run: RunResult, jobs: Sequence[JobResult]) -> list[str]:
    said = ["Interrupted: the results are those until then."] if run.interrupted else []
    for job in jobs:
        said += [
            f"{job.name}: {count} I/Os failed with {job.error_names.get(status, 'a status')} "
            f"(SCT {status >> 8:#x}, SC {status & 0xFF:#04x})."
            for status, count in job.errors.items()
        ]
        if job.failure:
            said.append(f"{job.name} ended early: {job.failure}")
        if job.verify and job.verify.faulty:
            first = f" First: {job.verify.faults[0].message}" if job.verify.faults else ""
            said.append(
                f"{job.name}: {job.verify.faulty} blocks do not hold what was written.{first}"
            )
    if run.failure:
        said.append(run.failure)
    return said


def _results(jobs: Sequence[JobResult]) -> _Table:
    points = list(dict.fromkeys(name for job in jobs for name in job.point))
    several = len({job.name for job in jobs}) > 1 or not points
    head = [*(["job"] if several else []), *(AXIS_NAMES.get(name, name) for name in points)]
    words = len(head) + 1
    head += ["direction", "IOPS", "bandwidth", "lat mean"]
    head += [*(f"lat p{share:g}" for share in _TABLE_PERCENTILES), "lat max", "failed"]
    rows = []
    for job in jobs:
        for direction, result in active(job):
            rows.append(
                [
                    *([job.name] if several else []),
                    *(point_text(name, job.point.get(name, "")) for name in points),
                    *figures(direction, result, _TABLE_PERCENTILES),
                ]
            )
    if len(points) > _FEW_AXES:
        return _narrowed(head, rows, words)
    return head, rows, words


def _narrowed(head: list[str], rows: list[list[str]], words: int) -> _Table:
    """Leave out of a table what goes without saying, so that it is no wider than the page."""
    # Behind "lat mean" it is seen of what p50 and the others are.
    head = [text if text == "lat mean" else text.removeprefix("lat ") for text in head]
    if all(row[-1] == "0" for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    way = words - 1
    if len({row[way] for row in rows}) == 1:
        head = [*head[:way], f"{rows[0][way]} {head[words]}", *head[words + 1 :]]
        rows, words = [[*row[:way], *row[words:]] for row in rows], way
    return head, rows, words


def _shown(
    head: list[str], rows: list[list[str]], words: int
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Make a table as its template takes it."""
    numbers = [column >= words for column in range(len(head))]
    return list(map(_spaced, head)), [list(map(_spaced, row)) for row in rows], numbers


def _spaced(text: str) -> str:
    """Put a thin space between a number and its unit, and write micro as it is."""
    for at, letter in enumerate(text):
        if letter.isalpha():
            if at and text[:at].replace(".", "").isdigit() and text[at:] not in ("k", "M", "G"):
                return f"{text[:at]}\N{THIN SPACE}{text[at:].replace('us', 'µs')}"
            break
    return text


def _facts(run: RunResult, jobs: Sequence[JobResult]) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for device in dict.fromkeys(one for job in jobs for one in job.devices or (job.device,)):
        known = (
            device.model,
            device.serial and f"serial number {device.serial}",
            device.firmware and f"firmware {device.firmware}",
        )
        named = ", ".join(part for part in known if part)
        where = f"{device.name}, namespace {device.nsid}, over {device.access}"
        size = number(device.block_size * device.blocks, "B", binary=True)
        facts.append(("device", printable(f"{named or 'unnamed'} ({where})")))
        facts.append(("size", f"{device.blocks} blocks of {device.block_size} B, {_spaced(size)}"))
        facts += [_split(printable(note)) for note in device.notes]
        if device.emulated:
            facts.append(("emulated", "yes: its latencies are those of the emulation"))
    for one in run.health:
        if one.before is not None:
            words = health.changes(one) or ["as before the run"]
            facts.append(("health", printable(f"{one.device}: {', '.join(words)}")))
    facts += [(name, printable(value)) for name, value in run.machine.items()]
    if run.global_options:
        options = " ".join(f"{name}={value}" for name, value in run.global_options.items())
        facts.append(("global options", printable(options)))
    return facts


def _split(note: str) -> tuple[str, str]:
    name, _, value = note.partition(": ")
    return name, value


def _costs(jobs: Sequence[JobResult]) -> _Table:
    head = ["job", "options", "submit", "complete", "MMIO writes", "MMIO reads", "CPU"]
    rows = []
    for job in jobs:
        each = per_io(job)

        def text(key: str, write: Callable[[float], str], each: Mapping[str, float | None]) -> str:
            value = each[key]
            return "-" if value is None else write(value)

        options = {**job.options, **{k: point_text(k, v) for k, v in job.point.items()}}
        rows.append(
            [
                job.name,
                printable(" ".join(f"{name}={value}" for name, value in options.items())),
                text("submit_ns", duration, each),
                text("complete_ns", duration, each),
                text("mmio_writes", "{:.3g}".format, each),
                text("mmio_reads", "{:.3g}".format, each),
                text("cpu_ns", duration, each),
            ]
        )
    return head, rows, 2
