"""Writes docs/api.md, every public name: ``python tests/support/api_reference.py``."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvme_user

PATH = Path(__file__).parents[2] / "docs" / "api.md"
HEAD = """\
# Python API

Every public name of `pynvme_user`, and what it does; made from the docstrings by
`python tests/support/api_reference.py`. The README has ten lines to begin with. The structures of
registers, commands and pages are in `pynvme_user.spec`, under the specification's names:
`pynvme_user.spec.logs` for log pages, `pynvme_user.spec.features` for features, and so on.
"""
#: In this order; what is in none of them comes last.
SUBJECTS = {
    "Opening a device": ("open", "open_registers", "devices", "watch_devices", "bound"),
    "Controller": (
        *("Controller", "AdminRequest", "CommandFields", "FeatureValue", "Activation"),
        *("Events", "Event", "Rpmb"),
    ),
    "Namespaces and queue pairs": (
        *("Namespace", "Zones", "QueuePair", "Completion", "VectorResult", "Reaped"),
        *("TensorFile", "TensorInfo"),
    ),
    "Memory": (
        *("DmaBuffer", "ControllerMemoryBuffer", "PersistentMemoryRegion", "BytesLike"),
        "Placement",
    ),
}


def render() -> str:
    """The page."""
    parts = [HEAD]
    named = {name for names in SUBJECTS.values() for name in names}
    rest = [name for name in pynvme_user.__all__ if name not in named and name != "__version__"]
    errors = [name for name in rest if issubclass_(name, (Exception, Warning))]
    others = [name for name in rest if name not in errors]
    subjects = SUBJECTS | {"Errors and warnings": tuple(errors), "Other names": tuple(others)}
    for subject, names in subjects.items():
        parts.append(f"## {subject}\n")
        for name in names:
            parts += _name(name, getattr(pynvme_user, name))
    return "\n".join(parts).rstrip() + "\n"


def issubclass_(name: str, kinds: tuple[type, ...]) -> bool:
    """Whether a public name is a class of these."""
    value = getattr(pynvme_user, name)
    return isinstance(value, type) and issubclass(value, kinds)


def _name(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if isinstance(value, type):
        yield from _class(value)
    elif callable(value):
        yield f"```python\n{name}{_signature(value)}\n```\n"
        yield _text(value)
    else:
        yield f"`{_plain(value)}`\n"


def _class(kind: type) -> Iterator[str]:
    yield _text(kind)
    if issubclass(kind, enum.Enum):
        members = list(kind)[:100]
        yield ", ".join(f"`{member.name}`" for member in members) + "\n"
        return
    for name, member in _members(kind):
        if isinstance(member, property) or inspect.isdatadescriptor(member):
            yield f"- **`{name}`**: {_summary(member)}"
        elif callable(member):
            yield f"- **`{name}{_signature(member)}`**: {_summary(member)}"
    yield ""


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what this package defines of a class and its bases, in the order of the source."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("pynvme_user"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if isinstance(member, staticmethod | classmethod):
                member = member.__func__
            if inspect.getdoc(member) and (callable(member) or inspect.isdatadescriptor(member)):
                yield name, member


def _signature(value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        return "(...)"
    return (
        re.sub(r"'|pynvme_user\.[a-z_.]+\.", "", signature)
        .replace("self, ", "")
        .replace("(self)", "()")
    )


def _text(value: Any) -> str:
    return _markdown(inspect.getdoc(value) or "") + "\n"


def _summary(value: Any) -> str:
    text = _markdown(inspect.getdoc(value) or "")
    return text.replace("\n\n", "\n").replace("\n", "\n  ")


def _markdown(text: str) -> str:
    """Turn what docstrings use of reStructuredText into Markdown."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?([\w]+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _plain(value: Any) -> str:
    return re.sub(r"(?:[a-z_]+\.)+", "", str(value))


if __name__ == "__main__":
    PATH.write_text(render())
