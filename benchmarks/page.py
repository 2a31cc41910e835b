"""Figures on the terminal, as JSON, and as a page of HTML that needs nothing beside itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.table import Table

#: Of the JSON; to be raised when a reader of the old one would be misled.
FORMAT_VERSION = 1


def console() -> Console:
    """Make one on which tables are whole also where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path, machine: dict[str, object], parts: dict[str, object]) -> None:
    """Write the figures; times are seconds, sizes bytes, rates per second."""
    document = {"format_version": FORMAT_VERSION, "machine": machine, "parts": parts}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_page(
    path: Path, title: str, machine: dict[str, object], sections: Iterable[tuple[str, str]]
) -> None:
    """Write the page: sections of HTML with their headings, and what machine it was."""
    style = files("pynvme_user.bench.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>\n"
        for heading, content in sections
    )
    facts = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in machine.items()
    )
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>"
        f"<header><h1>{escape(title)}</h1>"
        f"<p>{time.strftime('%Y-%m-%d %H:%M %Z')}</p></header>\n{body}"
        f'<section><h2>Machine</h2><table class="facts">{facts}</table></section></body></html>\n',
        encoding="utf-8",
    )


def html_table(table: Table) -> str:
    """Turn a terminal's table into HTML's; columns that are right-aligned there are numbers."""
    kinds = [' class="n"' if column.justify == "right" else "" for column in table.columns]
    head = _row("th", [str(column.header) for column in table.columns], kinds)
    cells = zip(*(column.cells for column in table.columns), strict=True)
    rows = "".join(_row("td", [str(cell) for cell in row], kinds) for row in cells)
    return f'<div class="wide"><table>{head}{rows}</table></div>'


def markdown_table(table: Table) -> str:
    """Turn it into Markdown's; a line ends each row."""
    columns = table.columns
    head = [str(column.header) for column in columns]
    rule = ["--:" if column.justify == "right" else "--" for column in columns]
    cells = zip(*(column.cells for column in columns), strict=True)
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *cells))


def _row(tag: str, texts: Sequence[str], kinds: Sequence[str]) -> str:
    cells = "".join(
        f"<{tag}{kind}>{escape(text)}</{tag}>" for text, kind in zip(texts, kinds, strict=True)
    )
    return f"<tr>{cells}</tr>"
