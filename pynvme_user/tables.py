"""Tables as lines of plain text, for a pipe, a file or a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

#: Wider than any table: nothing is cut off or folded.
_WIDTH = 1 << 20


def aligned(rows: Sequence[Sequence[str]], sides: str, *, gap: int = 2) -> list[str]:
    """Set rows in columns; ``sides`` has a ``<`` for each that is flush left, a ``>`` for right."""
    # Only what shows a table pays for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, gap, 0, 0))
    for side in sides:
        table.add_column(justify="left" if side == "<" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # as they are: rich would take [x] for a style
    page = StringIO()
    # Of the environment it asks nothing, nor of the terminal.
    Console(file=page, width=_WIDTH, color_system=None, force_terminal=False).print(table)
    return [line.rstrip() for line in page.getvalue().splitlines()]
