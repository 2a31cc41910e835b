"""The help of ``bench``: one screen of what is asked for most, and all the rest on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    Subjects = Sequence[tuple[str, Sequence[click.Option]]]

ALL = "all"

#: In one screen of 24 lines, with the usage, the example and the way to the rest.
_OFTEN = (
    ("--rw WORKLOAD", "read, write, randread, randwrite, randrw, ..."),
    ("--bs SIZE", "Bytes per I/O; default 4k."),
    ("--iodepth NUMBER", "Commands in flight; default 1."),
    ("--numjobs NUMBER", "Queue pairs, each with a thread; default 1."),
    ("--size SIZE", "Length of the range, or 20%; default all."),
    ("--runtime TIME --time_based", "End after so long, not after the size."),
    ("--rate_iops NUMBER", "So many I/Os per second."),
    ("--rwmixread PERCENT", "Share of reads in randrw; default 50."),
    ("--verify crc32c", "Read back and verify what was written."),
    ("--output-format json", "Or normal, terse, json+; into --output FILE."),
    ("--report FILE", "A page with plots (HTML)."),
    ("--force", "Write over a partition table or file system."),
    ("--help all, --help NAME", "All options; or one, for example --help rw."),
)


def write_short(formatter: click.HelpFormatter) -> None:
    """Write the options that are asked for most."""
    with formatter.section("Options"):
        formatter.write_dl(_OFTEN)


def topic(words: Sequence[str], helps: Sequence[str], subjects: Subjects) -> str | None:
    """Tell what help is asked for by ``--help NAME`` or ``--help=NAME``; None: by neither.

    A word after ``--help`` that is a target stands for itself; with any other, explain() says so.
    """
    for place, word in enumerate(words):
        if word == "--":
            return None
        option, equals, name = word.partition("=")
        if option not in helps:
            continue
        if not equals:
            name = words[place + 1] if place + 1 < len(words) else ""
        known = name == ALL or any(_found(name, subjects)) or _without_effect(name)
        return name if name and (equals or known or not _is_target(name)) else None
    return None


def explain(name: str, subjects: Subjects, ctx: click.Context) -> str:
    """Explain an option, or all of a subject. Raises UsageError for what is neither."""
    formatter = ctx.make_formatter()
    records = [
        record for option in _found(name, subjects) if (record := option.get_help_record(ctx))
    ]
    if records:
        formatter.write_dl(records)
        return formatter.getvalue().rstrip("\n")
    if about := _without_effect(name):
        return f"{name}: {about}"
    raise click.UsageError(
        f"--help {name}: there is no such option or subject; --help {ALL} has them all", ctx
    )


def _found(name: str, subjects: Subjects) -> Iterator[click.Option]:
    """Give the options of that name, which may be written in any way; or of that subject."""
    word = _plain(name)
    named = [
        option
        for _, options in subjects
        for option in options
        if word in map(_plain, (*option.opts, *option.secondary_opts))
    ]
    yield from named or (
        option for title, options in subjects if _plain(title) == word for option in options
    )


def _is_target(word: str) -> bool:
    """Tell whether a word may be a device, a job file or a recipe, or is an option."""
    from pynvme_user.bench import recipes

    return not _plain(word).isidentifier() or word in recipes.names() or Path(word).exists()


def _without_effect(name: str) -> str:
    """Say why an option is accepted without effect, or refused; nothing for any other."""
    from pynvme_user.bench.jobs import unsupported
    from pynvme_user.bench.jobs.options import OPTIONS

    reasons = {_plain(known): f"refused: {why}." for known, why in unsupported.OPTIONS.items()}
    for known, option in OPTIONS.items():
        if not option.effect:
            reasons[_plain(known)] = f"accepted without effect: {option.help}"
    return reasons.get(_plain(name), "")


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").replace(" ", "_").lower()
