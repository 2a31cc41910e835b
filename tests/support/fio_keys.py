"""Where the keys of two JSON results differ, and whether the differences have their reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, type]]:
    """All keys with the way to them, and the type of what they hold; a bin's value is no key."""
    for key, value in tree.items():
        way = prefix + ("*" if prefix.endswith(".bins.") else key)
        yield way, type(value)
        if isinstance(value, dict):
            yield from leaves(value, f"{way}.")


def reasons(key: str, table: Mapping[str, str]) -> set[str]:
    """The entries of a table of differences that speak of a key."""
    return {pattern for pattern in table if fnmatchcase(key, pattern)}
