"""Figures on the terminal, as JSON, and as a page of HTML that needs nothing beside itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pynvme_user.bench.report.rendering import render

#: Of the JSON; to be raised when a reader of the old one would be misled.
FORMAT_VERSION = 1
_HERE = Path(__file__).parent


def console() -> Console:
    """Make one on which tables are whole also where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path, machine: dict[str, object], parts: dict[str, object]) -> None:
    """Write the figures; times are seconds, sizes bytes, rates per second."""
    document = {"format_version": FORMAT_VERSION, "machine": machine, "parts": parts}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: what the terminal shows as tables, and figures."""

    title: str
    tables: Sequence[Table]
    figures: Sequence[str] = ()


def write_page(
    path: Path, title: str, machine: Mapping[str, object], sections: Iterable[Section]
) -> None:
    """Write the page: sections, and what machine it was."""
    text = render(
        "benchmark.html",
        _HERE,
        title=title,
        made=time.strftime("%Y-%m-%d %H:%M %Z"),
        sections=[(one.title, list(map(_table, one.tables)), one.figures) for one in sections],
        machine=machine.items(),
    )
    path.write_text(text, encoding="utf-8")


def _table(table: Table) -> tuple[str, list[str], list[list[str]], list[bool]]:
    """Take a terminal's table apart; columns that are right-aligned there are numbers."""
    numbers = [column.justify == "right" for column in table.columns]
    cells = zip(*(column.cells for column in table.columns), strict=True)
    head = [str(column.header) for column in table.columns]
    return str(table.title), head, [list(map(str, row)) for row in cells], numbers


def markdown_table(table: Table) -> str:
    """Turn it into Markdown's; a line ends each row."""
    columns = table.columns
    head = [str(column.header) for column in columns]
    rule = ["--:" if column.justify == "right" else "--" for column in columns]
    cells = zip(*(column.cells for column in columns), strict=True)
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *cells))
