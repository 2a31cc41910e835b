"""Sizes as people write and read them: ``4k``, ``256M``, ``1G`` are powers of 1024; and checks of
the numbers that calls take.
"""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d{1,99})\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Turn ``"4096"``, ``"4k"``, ``"256MiB"`` or ``"0x1000"`` into bytes.

    Raises ValueError for anything else.
    """
    if re.fullmatch(r"0x[0-9a-f]+", text, re.IGNORECASE):
        return int(text, 16)
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write for example 4096, 4k, 256M or 1G")
    return int(match[1]) << (10 * _POWERS[match[2].lower()])


def format_size(count: float) -> str:
    """Write bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} PiB"


#: A year: what C counts in nanoseconds, and the kernel's calls, take more.
MOST_SECONDS = 366 * 86400.0


def whole_number(number: SupportsIndex, what: str) -> int:
    """Return a whole number as an int, numpy's own, too. Raises TypeError that names ``what``."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {number!r}") from None


def check_seconds(number: float, what: str) -> None:
    """Raise TypeError for what is no number, ValueError for one that is no time above 0."""
    if not isinstance(number, int | float):
        raise TypeError(f"{what} is a number of seconds, not {number!r}")
    if not 0 < number <= MOST_SECONDS:
        raise ValueError(
            f"{what} is a positive number of seconds, at most a year of them, not {number}"
        )
