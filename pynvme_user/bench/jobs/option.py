"""What an option of a job is, and the readers that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import values as v

Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: how it is read, and what it means here."""

    name: str
    read: Reader  # (text) -> value
    help: str
    metavar: str
    key: str  # what the value is kept as: a field of Job, or what draft knows
    aliases: tuple[str, ...] = ()
    bare: str | None = None  # the text that it stands for without a value; None: it needs one
    effect: bool = True  # False: accepted, since nothing on a bare device depends on it
    choices: tuple[str, ...] = ()  # words that it takes, or how values begin, for completion


@dataclass(frozen=True, slots=True)
class Section:
    """Options of one subject."""

    title: str
    options: tuple[Option, ...] = field(default=())


def option(
    name: str,
    read: Reader,
    help: str,
    *aliases: str,
    key: str = "",
    bare: str | None = None,
    metavar: str = "",
    effect: bool = True,
    choices: tuple[str, ...] = (),
) -> Option:
    """Make an option; its key is its name, unless `key` says otherwise."""
    if isinstance(read, v.Choice):
        choices = read.words
    elif read is v.boolean:
        choices = ("0", "1")
    return Option(
        name=name,
        read=read,
        help=help,
        metavar=metavar or _METAVARS.get(read, "VALUE"),
        key=key or name.replace("-", "_"),
        aliases=aliases,
        bare="1" if read is v.boolean and bare is None else bare,
        effect=effect,
        choices=choices,
    )


def nothing(name: str, help: str, *aliases: str, bare: str | None = "1") -> Option:
    """Make an option that is accepted, since nothing on a bare device depends on it."""
    return option(name, text, help, *aliases, key="", bare=bare, effect=False)


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
