"""Lists of values on the command line: every combination is run, one after another."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from pynvme_user.bench.fio_file import Jobs, Pairs
from pynvme_user.bench.job import JobError
from pynvme_user.bench.options import find

SWEPT = ("rw", "bs", "numjobs", "iodepth")
"""What may have a list. In a job file bs=a,b,c is read,write,trim as fio has it; so it is there."""


def points(options: Pairs) -> list[tuple[Pairs, str]]:
    """Take lists apart: the options of each combination, and a label such as ``bs=4k iodepth=8``.

    The option that is given last varies fastest. The label is empty where there is no list. Raises
    JobError for an unknown option or an empty place in a list.
    """
    choices: list[list[tuple[str, str | None]]] = []
    for name, text in options:
        values: list[str | None] = [text]
        if text is not None and find(name).name in SWEPT:
            values = [value.strip() for value in text.split(",")]
            if not all(values):
                raise JobError(f"{name}={text}: a value is missing beside a comma")
        choices.append([(name, value) for value in values])
    swept = [len(values) > 1 for values in choices]
    return [
        (
            point,
            " ".join(
                f"{name}={value}"
                for (name, value), varies in zip(point, swept, strict=True)
                if varies
            ),
        )
        for point in itertools.product(*choices)
    ]


def sweep(options: Pairs, make: Callable[[Pairs], Jobs]) -> Jobs:
    """Make the jobs of every combination; those of one wait for those of the one before.

    `make` makes the jobs from options without lists: :func:`command_line_job`, or
    :func:`read_job_files` with them as overrides. A job's label is added to its name. Raises
    JobError as `make` does.
    """
    combinations = points(options)
    made = [(make(point), label) for point, label in combinations]
    jobs = tuple(
        job
        for (result, label), group, reporting_group in _groups(made)
        for job in (
            dataclasses.replace(
                job,
                name=f"{job.name} {label}".strip(),
                group=job.group + group,
                reporting_group=job.reporting_group + reporting_group,
                wait_for=f"{job.wait_for} {label}".strip() if job.wait_for else None,
            )
            for job in result.jobs
        )
    )
    return Jobs(jobs, tuple(dict.fromkeys(note for result, _ in made for note in result.notes)))


def _groups(
    made: list[tuple[Jobs, str]],
) -> Iterator[tuple[tuple[Jobs, str], int, int]]:
    group = reporting_group = 0
    for result, label in made:
        yield (result, label), group, reporting_group
        group += result.jobs[-1].group + 1
        reporting_group += result.jobs[-1].reporting_group + 1
