"""docs/api.md: every public name, as its docstring has it."""

from __future__ import annotations

import inspect

import api_reference
import pytest

import pynvme_user


def test_the_page_is_made_from_the_docstrings() -> None:
    """Else make it again: python tests/support/api_reference.py."""
    assert api_reference.PATH.read_text() == api_reference.render()


@pytest.mark.parametrize("name", pynvme_user.__all__)
def test_every_public_name_is_on_it(name: str) -> None:
    page = api_reference.PATH.read_text()
    assert name == "__version__" or f"### {name}\n" in page


def test_the_subjects_have_only_public_names() -> None:
    named = {name for names in api_reference.SUBJECTS.values() for name in names}
    assert named <= set(pynvme_user.__all__)


def test_every_public_method_has_a_docstring() -> None:
    missing = []
    for name in pynvme_user.__all__:
        kind = getattr(pynvme_user, name)
        if not isinstance(kind, type) or not kind.__module__.startswith("pynvme_user"):
            continue
        for method, member in vars(kind).items():
            if not method.startswith("_") and inspect.isfunction(member):
                missing += [] if inspect.getdoc(member) else [f"{name}.{method}"]
    assert missing == []
