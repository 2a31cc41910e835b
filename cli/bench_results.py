"""What a benchmark came to, written: results in their formats, logs, and why it failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.output import JSON, NORMAL
from pynvme_user.spec.text import printable

if TYPE_CHECKING:
    from pynvme_user.bench.jobs.job import Job
    from pynvme_user.bench.results.result import RunResult

TERSE = "terse"
BINS = "json+"


class Writer:
    """Writes results in the formats that were asked for, to stdout or a file."""

    def __init__(
        self, jobs: Sequence[Job], formats: Sequence[str], terse_version: int, path: Path | None
    ) -> None:
        self._jobs = jobs
        self._formats = formats
        self._terse_version = terse_version
        self._path = path
        self._mode = "w"
        self._is_broken = False
        #: Why the file, or stdout in its place, does not have all results.
        self.problems: list[str] = []

    def write(self, run: RunResult) -> None:
        """Write the results; those so far come one after another, as in fio."""
        text = "".join(f"{line}\n" for line in self._lines(_reported(run, self._jobs)))
        if self._path is not None and not self._is_broken:
            try:
                with self._path.open(self._mode, encoding="utf-8") as file:
                    file.write(text)
                self._mode = "a"
                return
            except OSError as error:
                self._is_broken = True
                self.problems.append(
                    f"{self._path} is incomplete: {error.strerror}; the results are on stdout"
                )
        try:
            click.echo(text, nl=False)
            sys.stdout.flush()
        except OSError as error:
            problem = f"stdout is incomplete: {error.strerror}"
            if problem not in self.problems:
                self.problems.append(problem)

    def warn(self, run: RunResult) -> None:
        """Write the warnings to stderr, where stdout does not have them."""
        if NORMAL not in self._formats or self._path is not None:
            for warning in run.warnings:
                click.echo(f"nvme-user: warning: {printable(warning)}", err=True)

    def _lines(self, run: RunResult) -> Iterator[str]:
        if NORMAL in self._formats:
            from pynvme_user.bench.results.text import summary

            yield from summary(run)
        if TERSE in self._formats:
            from pynvme_user.bench.results.terse import terse

            yield from terse(run, self._terse_version)
        if JSON in self._formats or BINS in self._formats:
            from pynvme_user.bench.results.fio_json import document

            yield json.dumps(document(run, bins=BINS in self._formats), indent=2)


def _reported(run: RunResult, jobs: Sequence[Job]) -> RunResult:
    """Take together what is to be reported as one.

    These are the parts of a job on its several devices; with group_reporting all of a reporting
    group; and in a sweep the clones of a job.
    """
    from dataclasses import replace

    from pynvme_user.bench.jobs.job import clones
    from pynvme_user.bench.results.aggregate import combine, whole_jobs

    parts = {part.number: part for part in clones(jobs)}
    together: dict[object, list[Any]] = {}
    for result in whole_jobs(run.jobs):
        part = parts[result.number]
        key: object = result.number
        if part.group_reporting:
            key = ("group", part.reporting_group)
        elif part.point:
            key = (part.name, part.group)
        together.setdefault(key, []).append(result)
    return replace(run, jobs=[combine(same) if same[1:] else same[0] for same in together.values()])


def log_writers(run: RunResult, jobs: Sequence[Job]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give what writes each of fio's logs, those of each clone by itself, and how names begin."""
    from pynvme_user.bench.jobs.job import clones
    from pynvme_user.bench.results import fio_logs

    parts = {part.number: part for part in clones(jobs)}
    for result in run.jobs:
        part = parts[result.number]
        style = fio_logs.LogStyle(
            log_avg_msec=part.log_avg_msec,
            log_max_value=part.log_max_value,
            log_offset=part.log_offset,
            per_job_logs=part.per_job_logs,
            epoch_ms=int(run.started * 1000 + result.start_ns / 1e6) if part.log_unix_epoch else 0,
            log_hist_coarseness=part.log_hist_coarseness,
        )
        for prefix, write in (
            (part.write_bw_log, fio_logs.write_bw_log),
            (part.write_lat_log, fio_logs.write_lat_log),
            (part.write_iops_log, fio_logs.write_iops_log),
            (part.write_hist_log, fio_logs.write_hist_log),
        ):
            if prefix is not None:
                yield f"{prefix}_*", partial(write, result, prefix, style)
        if result.issued is not None:
            yield result.issued.path, result.issued.write


def failure(run: RunResult) -> str:
    """Say in one sentence why the exit code is not 0."""
    said = []
    errors: dict[str, int] = {}
    for job in run.jobs:
        for status, count in job.errors.items():
            name = job.error_names.get(status) or f"SCT {status >> 8:#x}, SC {status & 0xFF:#04x}"
            errors[name] = errors.get(name, 0) + count
    if errors:
        kinds = ", ".join(f"{count} with {name}" for name, count in errors.items())
        total = sum(errors.values())
        said.append(f"{total} I/O{'s' * (total > 1)} failed: {kinds}")
    faulty = [job.verify for job in run.jobs if job.verify and job.verify.faulty]
    if faulty:
        count = sum(verify.faulty for verify in faulty)
        first = next((fault.message for verify in faulty for fault in verify.faults), "")
        said.append(f"verification found {count} fault{'s' * (count > 1)}: {first}")
    said += dict.fromkeys(
        f"{job.name} ended early: {job.failure}" for job in run.jobs if job.failure
    )
    said += [run.failure] if run.failure else []
    return printable("; ".join(said))
