"""The mutants fit the code, and are made as they should: tests/mutants.py itself takes long."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from extension import Core
from mutants import GENERATED, ROOT, Mutant, generated, read_mutants
from mutations import Change, c_changes, in_context, python_changes

MUTANTS = read_mutants()
#: Which it would draw, but for those that are left out since they change nothing.
EQUAL = read_mutants("mutants_equal.txt")


def changed(text: str, changes: Iterator[Change]) -> list[str]:
    """What each change makes of a text: the lines that it changes, as one."""
    lines = []
    for change in changes:
        assert text[change.start : change.end] != change.new
        _, new = in_context(text, change)
        lines.append(" ".join(new.split()))
    return lines


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_changes_of_c() -> None:
    text = textwrap.dedent(
        """\
        #define LESS(a, b) ((a) < (b))
        static const int table[] = { 1 + 1 };
        /* a < b */
        int f(int *p, int n)
        {
        \tint sum = -n; // n + 1

        \tif (*p < 4 && n)
        \t\tsum += *p & 1;
        \tg(&sum, "a < b");
        \treturn sum - 1;
        }
        """
    )
    assert sorted(changed(text, c_changes(text))) == sorted(
        [
            "if (*p <= 4 && n)",
            "if (*p < 4 || n)",
            "sum -= *p & 1;",
            "sum += *p | 1;",
            "return sum + 1;",
            ";",  # in place of sum += *p & 1
            ";",  # in place of g()
        ]
    )


def test_changes_of_python() -> None:
    text = textwrap.dedent(
        """\
        LIMIT = 1 + 1

        class A:
            def __init__(self, n):
                self.n = n
                if n < 0:
                    raise ValueError(f"{n} < 0")

            def __repr__(self):
                return "a" + "b"

            def f(self, other):
                if not other and self.n is not None:
                    self.n += 1
                log.debug("left out")
                self.g()
                return [x for x in other if x not in self]
        """
    )
    assert sorted(changed(text, python_changes(text))) == sorted(
        [
            "if n <= 0:",
            "pass",  # in place of raise
            "if other and self.n is not None:",
            "if not other or self.n is not None:",
            "if not other and self.n is None:",
            "pass",  # in place of self.n += 1
            "pass",  # in place of self.g()
            "return [x for x in other if x in self]",
        ]
    )


def test_lines_that_stand_twice_are_told_by_those_around() -> None:
    text = "a\nx = 1\nb\nx = 1\nc\n"
    second = text.rindex("1")
    assert in_context(text, Change(second, second + 1, "2")) == ("b\nx = 1\nc\n", "b\nx = 2\nc\n")


def test_the_same_are_drawn_each_time_and_stand_once() -> None:
    drawn = generated(GENERATED, 0)
    assert drawn == generated(GENERATED, 0)
    assert len(drawn) == len(set(drawn)) == GENERATED
    assert {mutant.path.endswith(".py") for mutant in drawn} == {True, False}
    for mutant in drawn:
        text = (ROOT / mutant.path).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1
        if not mutant.compiled:
            compile(text.replace(mutant.old, mutant.new), mutant.path, "exec")


def test_what_is_known_to_change_nothing_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = generated(GENERATED, 0)
    monkeypatch.setattr("mutants.read_mutants", lambda _: [first])
    left = generated(GENERATED, 0)
    assert first not in left
    assert left[0] == second
    assert len(left) == GENERATED


def test_what_changes_nothing_is_one_that_would_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the code has changed: see whether mutants_equal.txt still holds."""
    monkeypatch.setattr("mutants.read_mutants", lambda _: [])
    whole = {mutant[1:4] for mutant in generated(1_000_000, 0)}
    assert [mutant.name for mutant in EQUAL if mutant[1:4] not in whole] == []


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
