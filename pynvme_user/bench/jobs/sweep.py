"""Lists of values on the command line: every combination is run, one after another."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.job_file import Jobs, Pairs, substitute
from pynvme_user.bench.jobs.options import find
from pynvme_user.bench.jobs.terms import REPEAT, JobError

SWEPT = ("rw", "bs", "numjobs", "iodepth")
"""What may have a list. In a job file bs=a,b,c is read,write,trim as fio has it; so it is there."""

Place = tuple[tuple[str, str], ...]
"""The options that have a list, each with its value at one point."""


def points(options: Pairs) -> list[tuple[Pairs, Place]]:
    """Take lists apart: the options of each combination, and what it differs from the others in.

    The option that is given last varies fastest. The place is empty where there is no list. Raises
    JobError for an unknown option, an empty place in a list, or a list beside another value.
    """
    choices: list[list[tuple[str, str | None]]] = []
    for name, text in options:
        values: list[str | None] = [text]
        if text is not None and find(name).name in SWEPT:
            values = [value.strip() for value in text.split(",")]
            if not all(values):
                raise JobError(f"{name}={text}: a value is missing beside a comma")
        choices.append([(_size_option(name, value), value) for value in values])
    varies = [len(values) > 1 for values in choices]
    names = [find(name).name for name, _ in options]
    for name, varying in zip(names, varies, strict=True):
        if varying and names.count(name) > 1:
            raise JobError(f"{name} is given twice, and has a list of values: give it once")
    return [
        (point, tuple((_swept(name), value) for name, value in _only(point, varies) if value))
        for point in itertools.product(*choices)
    ]


def _only(point: Pairs, chosen: list[bool]) -> Iterator[tuple[str, str | None]]:
    return itertools.compress(point, chosen)


def _swept(name: str) -> str:
    """Name what the results call a swept option: a range or a split is a block size."""
    name = find(name).name
    return "bs" if name in ("bsrange", "bssplit") else name


def _size_option(name: str, value: str | None) -> str:
    """Name the option that takes this value: on the command line bs has ranges and splits, too.

    Raises JobError for one that cannot be read, by the name that was given.
    """
    if value is None or find(name).name != "bs" or value.startswith(("(", "-")):
        return name
    option = "bssplit" if "/" in value else "bsrange" if "-" in value else name
    if option != name:
        try:
            find(option).read(substitute(value))
        except JobError as error:
            raise JobError(f"{name}={value}: {error}") from None
    return option


def sweep(options: Pairs, make: Callable[[Pairs], Jobs], repeats: int = 1) -> Jobs:
    """Make the jobs of every combination; those of one wait for those of the one before.

    All that is done ``repeats`` times, where the place of each job says which one it is of.

    `make` makes the jobs from options without lists: :func:`command_line_jobs`, or
    :func:`read_job_files` with them as overrides. Each job has its place as `point`. Raises
    JobError as `make` does.
    """
    jobs: list[Job] = []
    notes: list[str] = []
    group = reporting_group = 0
    every = itertools.product(range(1, repeats + 1), points(options))
    for repeat, (point, place) in every:
        made = make(point)
        which = ((REPEAT, repeat),) if repeats > 1 else ()
        jobs += (
            dataclasses.replace(
                job,
                point=(
                    *((name, _value(name, text)) for name, text in place),
                    *which,
                ),
                group=job.group + group,
                reporting_group=job.reporting_group + reporting_group,
            )
            for job in made.jobs
        )
        notes += made.notes
        group = jobs[-1].group + 1
        reporting_group = jobs[-1].reporting_group + 1
    return Jobs(tuple(jobs), tuple(dict.fromkeys(notes)))


def _value(name: str, text: str) -> int | str:
    """Give a place as results have it: block sizes in bytes, ranges and splits as written."""
    if _size_option(name, text) != name or (name == "rw" and ":" in text):
        return text
    value = find(name).read(substitute(text))
    if isinstance(value, tuple):  # one size for reads, writes and trims
        value = value[0]
    assert isinstance(value, int | str)
    return value
