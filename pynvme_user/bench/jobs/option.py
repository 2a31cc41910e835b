"""What an option of a job is, and the readers that several of them share.

An option is declared once: its name, how it is read, what it means, its default and bounds, and
where C takes it from the job itself, the member of ``struct nvme_bench``. See :func:`option`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import values as v

Reader = Callable[[str], Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: how it is read, and what it means here."""

    name: str = ""  # in its section
    read: Reader  # (text) -> value
    help: str
    metavar: str
    key: str = ""  # what the value is kept as: a field of Job, or what the builder knows
    aliases: tuple[str, ...] = ()
    bare: str | None = None  # the text that it stands for without a value; None: it needs one
    effect: bool = True  # False: accepted, since nothing on a bare device depends on it
    choices: tuple[str, ...] = ()  # words that it takes, or how values begin, for completion
    least: int | None = None
    most: int | None = None
    why: str = ""  # what sets the bound
    member: str = ""  # of struct nvme_bench, which gets the value; times in ticks
    of: str = ""  # the option without which it has no effect


@dataclass(frozen=True, slots=True)
class Section:
    """Options of one subject."""

    title: str
    options: tuple[Option, ...]


def option(
    read: Reader,
    help: str,
    *aliases: str,
    default: T,
    name: str = "",
    bare: str | None = None,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    least: int | None = None,
    most: int | None = None,
    why: str = "",
    member: str = "",
    of: str = "",
) -> T:
    """Declare an option that is a field of a job; its name is the field's, or ``name``."""
    made = dataclasses.replace(
        given(read, help, *aliases, bare=bare, metavar=metavar, choices=choices),
        name=name,
        least=least,
        most=most,
        why=why,
        member=member,
        of=of,
    )
    return dataclasses.field(default=default, metadata={Option: made})


def given(
    read: Reader,
    help: str,
    *aliases: str,
    key: str = "",
    bare: str | None = None,
    metavar: str = "",
    effect: bool = True,
    choices: tuple[str, ...] = (),
) -> Option:
    """Declare an option that is no field of a job: the builder makes others of what is given.

    It is kept by its own name, or as ``key``.
    """
    if isinstance(read, v.Choice):
        choices = read.words
    elif read is v.boolean:
        choices = ("0", "1")
    return Option(
        read=read,
        help=help,
        metavar=metavar or _METAVARS.get(read, "VALUE"),
        key=key,
        aliases=aliases,
        bare="1" if read is v.boolean and bare is None else bare,
        effect=effect,
        choices=choices,
    )


def of_field(field: dataclasses.Field[Any]) -> Option | None:
    """Tell the option that a field of a job is, if it is one."""
    made: Option | None = field.metadata.get(Option)
    if made is None:
        return None
    return dataclasses.replace(made, name=made.name or field.name, key=field.name)


def section(title: str, declared: type) -> Section:
    """Collect what a class declares, in its order; ``accepted`` come last."""
    fields = {field.name: of_field(field) for field in dataclasses.fields(declared)}
    found: list[Option] = []
    for name, value in vars(declared).items():
        if known := fields.get(name):
            found.append(known)
        elif isinstance(value, Option):
            found.append(dataclasses.replace(value, name=name, key=value.key or name))
    return Section(title, (*found, *getattr(declared, "accepted", ())))


def ignored(name: str, help: str, *aliases: str, bare: str | None = "1") -> Option:
    """Make an option that is accepted, since nothing on a bare device depends on it."""
    made = given(text, help, *aliases, key=name.replace("-", "_"), bare=bare, effect=False)
    return dataclasses.replace(made, name=name)


def text(value: str) -> str:
    """Read any text."""
    return value


sizes = v.by_direction(v.natural)
ranges = v.by_direction(v.span(v.natural))
splits = v.by_direction(v.split(v.natural))
percents = v.by_direction(v.percent)
seconds, milliseconds = v.time(v.SECOND), v.time(v.MILLISECOND)
microseconds = v.time(v.MICROSECOND)
_METAVARS: dict[Reader, str] = {
    text: "TEXT",
    r.filenames: "DEVICE[:DEVICE...]",
    v.natural: "NUMBER",
    v.integer: "NUMBER",
    v.number: "NUMBER",
    v.boolean: "0|1",
    v.percent: "PERCENT",
    v.size: "SIZE",
    v.cpus: "CPUS",
    r.nodes: "NODES",
    sizes: "SIZE[,WRITE][,TRIM]",
    ranges: "LOW-HIGH[,WRITE][,TRIM]",
    splits: "SIZE/PERCENT:...",
    percents: "PERCENT[,WRITE][,TRIM]",
    seconds: "TIME",
    milliseconds: "TIME",
    microseconds: "TIME",
}
