"""Tables are the same lines everywhere: into a pipe, a file, a narrow terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.tables import aligned

#: rich drops the blanks at a cell's end.
CELLS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.rstrip)


def tables(columns: int) -> st.SearchStrategy[tuple[list[list[str]], str, int]]:
    row = st.lists(CELLS, min_size=columns, max_size=columns)
    sides = st.text("<>", min_size=columns, max_size=columns)
    return st.tuples(st.lists(row, min_size=1, max_size=8), sides, st.integers(1, 3))


@given(st.integers(1, 6).flatmap(tables))
def test_columns_are_as_wide_as_their_widest_cell(
    drawn: tuple[list[list[str]], str, int],
) -> None:
    """Marks of rich's own, such as [red], are text like any other."""
    rows, sides, gap = drawn
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wanted = [
        (" " * gap)
        .join(
            cell.ljust(width) if side == "<" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        )
        .rstrip()
        for row in rows
    ]
    assert aligned(rows, sides, gap=gap) == wanted


def test_nothing_is_cut_or_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["[bold]name[/bold]", "x" * 300], [":smile:", "1"]]
    plain = aligned(rows, "<>")
    assert plain == [f"[bold]name[/bold]  {'x' * 300}", f":smile:{' ' * 311}1"]
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert aligned(rows, "<>") == plain
