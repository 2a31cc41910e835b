"""HTML by jinja2: the templates beside this file, and how a text gets into one.

All text is escaped by the template that shows it; what is marked as HTML was made by one.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

_PACKAGE = "pynvme_user.bench.report"


def render(name: str, *folders: Path, **values: object) -> Markup:
    """Fill a template of this package, or of other folders, which may extend those here."""
    return Markup(_environment(folders).get_template(name).render(values))


def style() -> str:
    """Return the style of all pages, CSS."""
    return files(_PACKAGE).joinpath("report.css").read_text(encoding="utf-8")


@cache
def _environment(folders: tuple[Path, ...]) -> Environment:
    made = Environment(
        loader=ChoiceLoader([PackageLoader(_PACKAGE), FileSystemLoader(folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["style"] = lambda: Markup(style())
    made.filters["px"] = "{:.1f}".format
    return made
