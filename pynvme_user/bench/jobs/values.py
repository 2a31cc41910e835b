"""fio's ways to write values: sizes, times, ranges, splits, lists, expressions.

All of them raise JobError for what they cannot read; the message quotes the text. As in fio, ``k``
is 1024 and ``kib`` is 1000.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pynvme_user.bench.jobs.terms import JobError, Size

T = TypeVar("T")
Triple = tuple[T | None, T | None, T | None]

_POWERS = "kmgtp"
_INTEGER = re.compile(r"([+-]?)(0x[0-9a-f]+|\d+)\s*(?:([kmgtp])(ib?)?)?(b?)", re.IGNORECASE)
_TIME = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*([a-z]*)", re.IGNORECASE)
_TIME_UNITS = {
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("s", "sec"), 1.0),
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
MICROSECOND, MILLISECOND, SECOND = 1e-6, 1e-3, 1.0


def integer(text: str) -> int:
    """Read ``4096``, ``0x1000``, ``4k``, ``1MiB``, ``-8k`` or an expression in parentheses.

    As in fio, ``ki`` without a ``b`` is ``k``.
    """
    text = text.strip()
    if text.startswith("("):
        return _bounded(int(evaluate(text)), text)
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise JobError(f"{text!r} is not a number: write for example 4096, 4k, 256m or 1g")
    sign, digits, power, binary, _ = match.groups()
    base = 1000 if (binary or "").lower() == "ib" else 1024
    number = int(digits, 0 if digits[:2].lower() == "0x" else 10)
    if power:
        number *= base ** (_POWERS.index(power.lower()) + 1)
    return _bounded(-number if sign == "-" else number, text)


def _bounded(number: int, text: str) -> int:
    if abs(number) >= 1 << 63:
        raise JobError(f"{text!r} has more than 63 bits")
    return number


def natural(text: str) -> int:
    """Read an integer that is not negative."""
    number = integer(text)
    if number < 0:
        raise JobError(f"{text!r} is negative")
    return number


def size(text: str) -> Size:
    """Read a length: bytes, ``20%`` of the namespace, or ``3z`` for zones."""
    match = re.fullmatch(r"\s*(\d+)\s*([%z])\s*", text, re.IGNORECASE)
    if match is None:
        return Size(bytes=natural(text))
    number = int(match[1])
    if match[2] != "%":
        return Size(zones=number)
    if number > 100:
        raise JobError(f"{text!r} is more than 100%")
    return Size(percent=number)


def number(text: str) -> float:
    """Read a number with a fraction."""
    text = text.strip()
    try:
        value = evaluate(text) if text.startswith("(") else float(text)
    except ValueError as error:
        if isinstance(error, JobError):
            raise
        value = math.nan
    if not math.isfinite(value):
        raise JobError(f"{text!r} is not a number: write for example 99.9")
    return value


def boolean(text: str) -> bool:
    """Read 1 or 0."""
    if text.strip() not in ("0", "1"):
        raise JobError(f"{text!r} is neither 1 nor 0")
    return text.strip() == "1"


def time(unit: float) -> Callable[[str], float]:
    """Make a reader of times in seconds; `unit` is what a number without a unit counts."""

    def read(text: str) -> float:
        text = text.strip()
        if text.startswith("("):
            seconds = evaluate(text, times=True) * MICROSECOND
            if seconds < 0:
                raise JobError(f"{text!r} is negative")
            return seconds
        match = _TIME.fullmatch(text)
        factor = _TIME_UNITS.get(match[2].lower(), None if match[2] else unit) if match else None
        if match is None or factor is None or text.startswith("-") or len(match[1]) > 20:
            raise JobError(f"{text!r} is not a time: write for example 10s, 5m, 500ms or 20us")
        # Dividing keeps 500ms an exact half.
        return float(match[1]) * factor if factor >= 1 else float(match[1]) / round(1 / factor)

    return read


def span(read: Callable[[str], T]) -> Callable[[str], tuple[T, T]]:
    """Make a reader of ranges: ``1k-4k`` or ``1k:4k``, the smaller one first; or one value."""

    def read_span(text: str) -> tuple[T, T]:
        low, separator, high = re.sub(r"(?<=.)-", ":", text.strip()).partition(":")
        first = read(low)
        second = read(high) if separator else first
        return (second, first) if second < first else (first, second)  # type: ignore[operator]

    return read_span


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A reader of one of several words; an alias stands for another one."""

    words: tuple[str, ...]
    aliases: Mapping[str, str]

    def __call__(self, text: str) -> str:
        """Read a word. Raises JobError for any other."""
        word = text.strip()
        key = "_" + word if word.isdecimal() else word.replace("-", "_")
        word = self.aliases.get(key, word)
        if word not in self.words:
            raise JobError(f"{text!r} is none of {', '.join(self.words)}")
        return word


def choice(*words: str, **aliases: str) -> Choice:
    """Make a reader of one of these words."""
    return Choice(words, aliases)


def by_direction(read: Callable[[str], T]) -> Callable[[str], Triple[T]]:
    """Make a reader of ``read,write,trim`` lists.

    The last value goes for the rest, too, unless a comma follows it. None stands for the default.
    """

    def read_triple(text: str) -> Triple[T]:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 3:
            raise JobError(f"{text!r} has more than three values: one each for read, write, trim")
        values = [read(part) if part else None for part in parts]
        values += [values[-1]] * (3 - len(values))
        return values[0], values[1], values[2]

    return read_triple


def split(
    key: Callable[[str], int],
) -> Callable[[str], tuple[tuple[int, int], ...]]:
    """Make a reader of ``4k/60:64k/40``; what has no percentage shares the rest evenly.

    Where all have one and it is less than 100, the largest share gets the rest, as in fio: of equal
    ones the last.
    """

    def read(text: str) -> tuple[tuple[int, int], ...]:
        parts = [part.partition("/") for part in text.strip().strip(":").split(":")]
        entries = [
            (key(value), percent(share) if share.strip() else None) for value, _, share in parts
        ]
        filled = _filled([(value, share) for value, share in entries], text)
        rest = max(0, 100 - sum(share for _, share in filled))
        most = max(range(len(filled)), key=lambda place: (filled[place][1], place))
        value, share = filled[most]
        return (*filled[:most], (value, share + rest), *filled[most + 1 :])

    return read


def zones(read: Callable[[str], int]) -> Callable[[str], tuple[tuple[int, int], ...]]:
    """Make a reader of ``60/10:30/20:10/70``: percent of the accesses / how much of the range.

    Sizes in percent that are left out share the rest, as in fio.
    """

    def read_zones(text: str) -> tuple[tuple[int, int], ...]:
        entries = []
        for part in text.strip().strip(":").split(":"):
            access, _, extent = part.partition("/")
            entries.append((percent(access), read(extent) if extent.strip() else None))
        return _filled(entries, text)

    return read_zones


def _filled(entries: list[tuple[int, int | None]], text: str) -> tuple[tuple[int, int], ...]:
    """Give the missing second values what remains of 100, the last one the rounding."""
    missing = sum(value is None for _, value in entries)
    rest = 100 - sum(value or 0 for _, value in entries)
    if missing and rest < 0:
        raise JobError(f"{text!r} adds up to more than 100%")
    filled = []
    for key, value in entries:
        if value is None:
            value = rest // missing
            rest -= value
            missing -= 1
        filled.append((key, value))
    return tuple(filled)


def percent(text: str) -> int:
    """Read a percentage, with or without the sign."""
    match = re.fullmatch(r"\s*(\d+)\s*%?\s*", text)
    if match is None or int(match[1]) > 100:
        raise JobError(f"{text!r} is not a percentage from 0 to 100")
    return int(match[1])


def numbers(text: str) -> tuple[float, ...]:
    """Read ``99.5:99.9``; a comma separates as well."""
    return tuple(number(part) for part in re.split("[:,]", text) if part.strip())


def cpus(text: str) -> frozenset[int]:
    """Read ``0,5,8-15`` (CPUs or NUMA nodes)."""
    found: set[int] = set()
    for part in re.split("[,:]", text):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None or int(match[2] or match[1]) > 65535:
            raise JobError(f"{text!r} is not a list of CPUs: write for example 0,5,8-15")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not found:
        raise JobError(f"{text!r} names no CPU: write a range from the lower to the higher")
    return frozenset(found)


def mask(text: str) -> frozenset[int]:
    """Read a bit mask of CPUs."""
    bits = natural(text)
    return frozenset(bit for bit in range(bits.bit_length()) if bits >> bit & 1)


_TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"(?P<unit>[a-zA-Z]*)|(?P<operator>[-+*/%^()]))"
)
_OPERATORS: dict[str, tuple[int, Callable[[float, float], float]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, lambda left, right: left / right if right else _divide_by_zero()),
    "%": (2, lambda left, right: left % right if right else _divide_by_zero()),
    "^": (3, operator.pow),
}


def _divide_by_zero() -> float:
    raise JobError("an expression divides by zero")


def evaluate(text: str, *, times: bool = False) -> float:
    """Compute an expression of ``+ - * / % ^`` and parentheses.

    Numbers may have units: those of sizes, or with `times` those of times, in microseconds.
    """
    return _Expression(text, times).value()


class _Expression:
    def __init__(self, text: str, times: bool) -> None:
        self._text = text
        self._times = times
        self._tokens: list[float | str] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None:
                raise self._wrong()
            position = match.end()
            self._tokens.append(match["operator"] or self._number(match["number"], match["unit"]))

    def _wrong(self) -> JobError:
        return JobError(f"{self._text!r} is not an expression: write for example (4*1k+512)")

    def _number(self, digits: str, unit: str) -> float:
        hexadecimal = digits[:2].lower() == "0x"
        value: float = int(digits, 16) if hexadecimal else float(digits)
        if not hexadecimal and value.is_integer():
            value = int(value)
        if not unit:
            return value
        if self._times:
            if unit.lower() not in _TIME_UNITS:
                raise self._wrong()
            return value * round(_TIME_UNITS[unit.lower()] / MICROSECOND)
        return value * integer("1" + unit)

    def value(self) -> float:
        """Compute it."""
        try:
            value = self._operation(0)
        except (IndexError, OverflowError, RecursionError, ZeroDivisionError):
            raise self._wrong() from None
        if self._tokens or isinstance(value, complex) or not math.isfinite(value):
            raise self._wrong()
        return value

    def _operation(self, at_least: int) -> float:
        """Precedence climbing; the tokens that it used are gone afterwards."""
        left = self._operand()
        while self._tokens and self._tokens[0] in _OPERATORS:
            precedence, apply = _OPERATORS[str(self._tokens[0])]
            if precedence < at_least:
                break
            self._tokens.pop(0)
            # ^ takes what is right of it first.
            right = self._operation(precedence + (apply is not operator.pow))
            if apply is operator.pow and abs(right) > 64:
                raise self._wrong()
            left = apply(left, right)
            if abs(left) > 1 << 128:  # far from any size: stop before numbers grow for ever
                raise self._wrong()
        return left

    def _operand(self) -> float:
        token = self._tokens.pop(0)
        if token == "-":
            return -self._operation(3)
        if token == "+":
            return self._operation(3)
        if token == "(":
            value = self._operation(0)
            if self._tokens.pop(0) != ")":
                raise self._wrong()
            return value
        if isinstance(token, str):
            raise self._wrong()
        return token
