"""The list of mutants fits the code: tests/mutants.py itself takes long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from extension import Core
from mutants import ROOT, Mutant, read_mutants

MUTANTS = read_mutants()


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    """A copy of the C sources."""
    root = tmp_path_factory.mktemp("mutants")
    for path in (ROOT / "pynvme_user").rglob("_*.[ch]"):
        copy = root / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, copy)
    return Core(root / "pynvme_user")


@pytest.fixture
def path(core: Core, mutant: Mutant) -> Iterator[Path]:
    """The mutant's file among them, which is mended afterwards."""
    path = core.folder.parent / mutant.path
    path.parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(ROOT / mutant.path, path)
    yield path
    shutil.copy(ROOT / mutant.path, path)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_lines_stand_where_it_says_and_it_compiles(
    core: Core, mutant: Mutant, path: Path
) -> None:
    """If this fails, the code has changed: mend tests/mutants.txt."""
    mutant.apply(core.folder.parent)
    assert mutant.new != mutant.old
    if mutant.compiled:
        core.check(path)
    else:
        compile(path.read_text(encoding="utf-8"), mutant.path, "exec")
