"""Sizes as people write and read them: ``4k``, ``256M``, ``1G`` are powers of 1024."""

from __future__ import annotations

import re

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


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
