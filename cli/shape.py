"""What there is to say of a structure so that it is shown as nvme-cli shows it.

`nvme_json` has a `Shape` for each structure, `pages` prints by them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class View:
    """What is known besides the page, and how much of it is to be shown."""

    device: str = ""
    #: The namespace, or what else the page is of.
    nsid: int = 0
    #: The command set.
    csi: int = 0
    #: The bits of each field in words (-H).
    human: bool = False
    #: The vendor's own bytes, too (-v).
    vendor: bool = False
    #: The Identify Namespace page, for a page whose formats it counts and has one in use of.
    namespace: Any = None


#: Gives the keys that stand in the place of a field's.
Json: TypeAlias = Callable[[Any, View], Mapping[str, object]]
#: Gives the lines that stand in the place of a field's.
Lines: TypeAlias = Callable[[Any, View], Iterable[str]]


def _none(_: object) -> Collection[str]:
    return ()


def _no_parts(_: object) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Shape:
    """How nvme-cli shows one structure; what is not said here is shown by the fields' names.

    All functions take the page; those of two arguments take the `View`, too.
    """

    #: The text's first line, with ``{device}``, ``{nsid:x}`` and ``{count}`` filled in.
    heading: str = ""
    #: A field's key in JSON, or its keys and values, or None to leave it out there.
    keys: Mapping[str, str | Json | None] = field(default_factory=dict)
    #: A field's name in text where that is not its key in JSON; None to leave it out there.
    labels: Mapping[str, str | None] = field(default_factory=dict)
    #: A field's value in text.
    values: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    #: Lines of text in the place of a field's one.
    lines: Mapping[str, Lines] = field(default_factory=dict)
    #: Fields whose numbers text has as hexadecimal though no bit of theirs has a name.
    hexadecimal: Collection[str] = ()
    #: Fields whose numbers text has as decimal though their bits have names.
    decimal: Collection[str] = ()
    #: How many elements of an array count; None where that is not known.
    counts: Mapping[str, Callable[[Any, View], int | None]] = field(default_factory=dict)
    #: Fields that mean nothing in this page.
    absent: Callable[[Any], Collection[str]] = _none
    #: Of a name in text; 0 for the longest and one.
    width: int = 0
    #: What else is in the page, by name: pages, of which the fields are shown as if they were this
    #: one's, and bytes.
    parts: Callable[[Any], Mapping[str, Any]] = _no_parts
    #: A list's: the key of its elements, None if they are not to be shown.
    entries: str | None = "entries"
    #: The key of each element that is a number, and of the number that each structure has.
    entry: str = ""
    numbered: str = ""
    #: The number of its first element, in text.
    first: int = 0
    #: Whether JSON has all of it below the device's name.
    below_device: bool = False
    #: The JSON, where nothing of the above gives it.
    json: Callable[[Any, View], object] | None = None
    #: The text below the heading, likewise.
    text: Lines | None = None


def count_of(shape: Shape, view: View, page: object, name: str) -> int | None:
    """How many elements of an array count; None where nothing says so."""
    return shape.counts[name](page, view) if name in shape.counts else None


def hexadecimal(number: int) -> str:
    """Write a number as nvme-cli does: 0x1f, but 0."""
    return f"{number:#x}" if number else "0"
