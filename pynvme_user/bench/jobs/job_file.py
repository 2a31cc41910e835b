"""fio's job files, as they are.

Read line by line and not by configparser, which keeps no line numbers, makes one section of several
with the same name, and takes an indented line for the rest of the one above.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.options import OPTIONS
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.jobs.values import evaluate

Pairs = tuple[tuple[str, str | None], ...]
_MOST_BYTES = 16 << 20
_DEEPEST = 16  # includes within includes: more are a circle


@dataclass(frozen=True, slots=True)
class Jobs:
    """What a job file or a command line asks for.

    The jobs are validated, in their order; `notes` say what differs from what was asked for.
    """

    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    path: str
    number: int
    name: str
    text: str | None
    more: bool = False  # one more value of an option that was given before

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}" if self.path else ""


@dataclass(slots=True)
class _Section:
    name: str
    place: str
    lines: list[_Line] = field(default_factory=list)


def read_job_files(
    paths: Iterable[str | os.PathLike[str]],
    overrides: Pairs = (),
    *,
    sections: Iterable[str] = (),
    device: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Jobs:
    """Read fio job files; the jobs of each wait for those of the file before.

    `overrides` are options that count for every job, after its own. `sections` are the names of
    those to take; none: all. `device` is that of a job that names none. Raises JobError with one
    line for each problem, by file and line.
    """
    wanted = set(sections)
    missing = set(wanted)
    builder = _Builder(_command_line(overrides, environment), device)
    for path in paths:
        builder.wall()
        for section in _sections(os.fspath(path), environment):
            if section.name in wanted or not wanted or section.name.startswith("global"):
                missing.discard(section.name)
                builder.add(section)
    if missing:
        builder.problems.append(f"there is no section {', '.join(sorted(missing))}")
    return builder.result()


def command_line_jobs(options: Pairs, *, environment: Mapping[str, str] = os.environ) -> Jobs:
    """Make the jobs of a command line without a job file.

    As in fio, each `name` begins a job, and what stands before the first counts for all; without
    one there is one job. Raises JobError with one line for each problem.
    """
    sections = [_Section("global", "")]
    for line in _command_line(options, environment):
        if line.name == "name":
            sections.append(_Section(line.text or "", ""))
        sections[-1].lines.append(line)
    if len(sections) == 1:
        sections[0].name = "bench"
    builder = _Builder([])
    for section in sections:
        builder.add(section)
    return builder.result()


class _Builder:
    """Jobs from sections, and all problems on the way rather than the first alone."""

    def __init__(self, overrides: list[_Line], device: str | None = None) -> None:
        self.problems: list[str] = []
        self._device = device
        self._overrides = overrides
        self._overridden_wrong = not self._check(overrides)
        self._replaced = {_key(line.name) for line in overrides}
        self._global: list[_Line] = []
        self._from_global: JobBuilder | None = None  # with all of them; None: to be made
        self._jobs: list[Job] = []
        self._names: Counter[str] = Counter()
        self._notes: list[str] = []
        self._group = -1
        self._reporting_group = -1
        self._wall = True
        self._readable = True  # all lines of [global] so far

    def wall(self) -> None:
        """Let the next job wait for all so far, as at the beginning of a file."""
        self._wall = True
        self._global = []
        self._from_global = None
        self._readable = True

    def add(self, section: _Section) -> None:
        # What the command line replaces need not be right.
        section.lines = [line for line in section.lines if _key(line.name) not in self._replaced]
        if section.name.startswith("global"):
            # As in fio, sections keep their names.
            section.lines = [line for line in section.lines if line.name != "name"]
            self._readable = self._check(section.lines) and self._readable
            self._global += section.lines
            self._from_global = None
            return
        if not self._readable or self._overridden_wrong:
            # A job without the options that are wrong would only bring wrong problems.
            self._check(section.lines)
            return
        try:
            builder = self._builder(section.lines)
        except JobError as error:
            if self._check(section.lines):
                self.problems.append(f"{section.place}: {error}")
            return
        if self._device is not None:
            self._attempt("", partial(builder.set_default, "filename", self._device))
        if self._wall or builder.begins_group():
            self._group += 1
        if self._wall or builder.begins_reporting_group():
            self._reporting_group += 1
        self._wall = False
        self._attempt(section.place, partial(self._make, builder, section))

    def _builder(self, lines: list[_Line]) -> JobBuilder:
        """Bring the options of [global], of a section and of the command line together."""
        if self._from_global is None:
            self._from_global = JobBuilder()
            for line in self._global:
                self._from_global.set(line.name, line.text, more=line.more, shared=True)
        builder = self._from_global.copy()
        for line in lines:
            builder.set(line.name, line.text, more=line.more)
        for line in self._overrides:
            builder.set(line.name, line.text, more=line.more, shared=True)
        return builder

    def _make(self, builder: JobBuilder, section: _Section) -> None:
        job, notes = builder.job(section.name, self._group, self._reporting_group)
        if job.wait_for is not None and self._names[job.wait_for] != 1:
            raise JobError(
                f"job {job.name!r}: wait_for={job.wait_for} has to name one job above it"
            )
        self._jobs.append(job)
        self._names[job.name] += 1
        self._notes += [f"job {job.name!r}: {note}" for note in notes]

    def _check(self, lines: list[_Line]) -> bool:
        """Find what is wrong with each line by itself; tell whether nothing is."""
        builder = JobBuilder()
        before = len(self.problems)
        for line in lines:
            self._attempt(line.place, partial(builder.set, line.name, line.text))
        return len(self.problems) == before

    def _attempt(self, place: str, action: Callable[[], None]) -> None:
        try:
            action()
        except JobError as error:
            problem = f"{place}: {error}" if place else str(error)
            if problem not in self.problems:
                self.problems.append(problem)

    def result(self) -> Jobs:
        if not self._jobs and not self.problems:
            self.problems.append("there is no job: a job file has at least one [section]")
        if self.problems:
            raise JobError("\n".join(self.problems))
        return Jobs(tuple(self._jobs), tuple(dict.fromkeys(self._notes)))


def _command_line(options: Pairs, environment: Mapping[str, str]) -> list[_Line]:
    """Each --filename of a job is one more device; of any other option the last one counts."""
    lines: list[_Line] = []
    named = False  # a device, since the job began
    for name, text in options:
        more = name == "filename" and named
        named = name == "filename" or (named and name != "name")
        text = None if text is None else substitute(text, environment)
        lines.append(_Line("", 0, name, text, more))
    return lines


def _key(name: str) -> str:
    """Tell what an option and its aliases are kept as."""
    return OPTIONS[name].key if name in OPTIONS else name


def _sections(path: str, environment: Mapping[str, str]) -> Iterator[_Section]:
    section: _Section | None = None
    for number, line in _lines(path):
        if line.startswith("["):
            name, bracket, rest = line[1:].partition("]")
            if not bracket or rest.strip():
                raise JobError(f"{path} line {number}: {line!r} is no section: write [name]")
            if section is not None:
                yield section
            section = _Section(name, f"{path} line {number}")
        elif section is None:
            raise JobError(f"{path} line {number}: {line!r} stands before the first [section]")
        else:
            section.lines += _options(path, number, line, environment, 0)
    if section is not None:
        yield section


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with something in them; as in fio, a comment may follow on any line."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from None
    if len(text) > _MOST_BYTES:
        raise JobError(f"{path} is no job file: it has more than {_MOST_BYTES >> 20} MiB")
    for number, line in enumerate(text.splitlines(), 1):
        content = re.split("[;#]", line, maxsplit=1)[0].strip()
        if "\0" in content:
            raise JobError(f"{path} line {number}: {content!r} has a NUL, as no option has")
        if content:
            yield number, content


def _options(
    path: str, number: int, line: str, environment: Mapping[str, str], depth: int
) -> Iterator[_Line]:
    included = re.fullmatch(r"include\s+(.+)", line)
    if included is None:
        name, equals, text = line.partition("=")
        yield _Line(
            path,
            number,
            name.strip(),
            substitute(text.strip(), environment) if equals else None,
        )
        return
    if depth == _DEEPEST:
        raise JobError(f"{path} line {number}: files include each other without an end")
    other = str(Path(path).parent / included[1])
    if not Path(other).exists():  # as fio does: beside the file, or else where one is
        other = included[1]
    try:
        lines = list(_lines(other))
    except JobError as error:
        raise JobError(f"{path} line {number}: {error}") from None
    for inner, content in lines:
        if content.startswith("["):
            raise JobError(f"{other} line {inner}: an included file has no [sections]")
        yield from _options(other, inner, content, environment, depth + 1)


_KEYWORDS: dict[str, Callable[[], int]] = {
    "$pagesize": lambda: os.sysconf("SC_PAGE_SIZE"),
    "$mb_memory": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    "$ncpus": lambda: os.sysconf("SC_NPROCESSORS_ONLN"),
}


def substitute(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Put in ``${VARIABLE}`` and fio's keywords: $pagesize, $mb_memory, $ncpus.

    A variable that is not set is empty. Beside a keyword ``+ - * /`` are computed.
    """
    if "$" not in text:
        return text
    text = re.sub(r"\$\{([^}]*)\}", lambda match: environment.get(match[1], ""), text)
    replaced = text
    for keyword, value in _KEYWORDS.items():
        replaced = replaced.replace(keyword, str(value()))
    if replaced != text and re.fullmatch(r"[\d\s()+\-*/%^.]*[+\-*/][\d\s()+\-*/%^.]*", replaced):
        return str(int(evaluate(replaced)))
    return replaced
