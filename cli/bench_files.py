"""The files that a benchmark writes: each has a name of its own, and costs only itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pynvme_user.cli.bench_results import Writer, log_writers
from pynvme_user.workload.direction import DIRECTION_NAMES

if TYPE_CHECKING:
    from pynvme_user.bench.jobs.job import Job
    from pynvme_user.bench.results.result import RunResult

#: Of --bandwidth-log, in the working directory.
AGGREGATE_LOGS = tuple(f"agg-{direction}_bw.log" for direction in DIRECTION_NAMES)
#: What each option of a job that logs writes besides its prefix.
_LOGS = {
    "write_bw_log": ("bw",),
    "write_lat_log": ("slat", "clat", "lat"),
    "write_iops_log": ("iops",),
    "write_hist_log": ("clat_hist",),
}


class Files:
    """What is written at a run's end, besides the results themselves."""

    def __init__(
        self,
        writer: Writer,
        jobs: Sequence[Job],
        *,
        hdr_log: Path | None,
        report: Path | None,
        bandwidth_log: bool,
    ) -> None:
        self._writer = writer
        self._jobs = jobs
        self._hdr_log = hdr_log
        self._report = report
        self._bandwidth_log = bandwidth_log
        self._problems: list[str] = []

    def write(self, run: RunResult) -> None:
        """Write the results, then the files: what is in the way of one is kept for later."""
        self._writer.write(run)
        self._writer.warn(run)
        for path, write in log_writers(run, self._jobs):
            with self._attempt(path):
                write()
        if self._bandwidth_log:
            from pynvme_user.bench.results.bandwidth_log import write_aggregate_logs

            with self._attempt("agg-*_bw.log"):
                write_aggregate_logs(run)
        if self._hdr_log is not None:
            from pynvme_user.bench.results.hdr import write_hdr_log

            with self._attempt(self._hdr_log):
                write_hdr_log(run, self._hdr_log)
        if self._report is not None:
            from pynvme_user.bench.report.page import write_report

            with self._attempt(self._report):
                write_report(run, self._report)

    @contextmanager
    def _attempt(self, what: Path | str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._problems.append(f"{error.filename or what} is incomplete: {error.strerror}")

    @property
    def problems(self) -> list[str]:
        """What is incomplete, and why, a sentence each."""
        return [*self._writer.problems, *self._problems]


def check_names(
    jobs: Sequence[Job], job_files: Iterable[str], named: Iterable[tuple[str, Path | str | None]]
) -> None:
    """Refuse a run of which two files would be one. ``named`` are (option, path).

    Raises click.UsageError with both names.
    """
    seen: dict[str, str] = {}
    for what, path in _files(jobs, job_files, named):
        real = os.path.realpath(path)
        if _is_device(real):
            continue  # /dev/null takes as many as there are
        before = seen.setdefault(real, what)
        if before != what:
            raise click.UsageError(
                f"{before} and {what} would both be {path}: give each a name of its own",
                click.get_current_context(),
            )


def _files(
    jobs: Sequence[Job], job_files: Iterable[str], named: Iterable[tuple[str, Path | str | None]]
) -> Iterator[tuple[str, Path | str]]:
    """Name each file and whose it is; what several parts of a run share has one name."""
    from pynvme_user.bench.jobs.job import clones

    for path in job_files:
        yield "the job file", path
    for what, named_path in named:
        if named_path is not None:
            yield what, named_path
    for part in clones(jobs):
        if part.verify_state is not None:
            yield "verify_state", part.verify_state
        if part.read_iolog is not None:
            yield "read_iolog", part.read_iolog
        if part.write_iolog is not None:
            yield f"write_iolog of queue {part.number}", part.write_iolog
        number = f".{part.number}" if part.per_job_logs else ""
        for option, kinds in _LOGS.items():
            prefix = getattr(part, option)
            for kind in kinds if prefix is not None else ():
                owner = f" of queue {part.number}" if part.per_job_logs else ""
                yield f"the {kind} log{owner}", f"{prefix}_{kind}{number}.log"


def _is_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
