"""The list of mutants fits the code: tests/mutants.py itself takes hours."""

from __future__ import annotations

import pytest
from mutants import ROOT, Mutant, read_mutants

MUTANTS = read_mutants()


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_lines_stand_where_it_says(mutant: Mutant) -> None:
    """If this fails, the code has changed: mend tests/mutants.txt."""
    assert (ROOT / mutant.path).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
