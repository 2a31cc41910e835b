"""The kinds of values that options and arguments take, each with an error that says what fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

from pynvme_user.units import parse_size

MemberT = TypeVar("MemberT", bound=IntEnum)


class Number(click.ParamType[int]):
    """A whole number of that many bits: decimal, or hexadecimal with 0x."""

    name = "number"

    def __init__(self, bits: int) -> None:
        self.limit = (1 << bits) - 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; a number outside the range is a usage error."""
        if isinstance(value, int):
            return value
        try:
            number = int(value, 16 if value.lower().startswith("0x") else 10)
        except ValueError:
            self.fail(f"{value!r} is not a whole number: write 42 or 0x2a", param, ctx)
        if not 0 <= number <= self.limit:
            self.fail(f"{value} is not in the range 0 to {self.limit:#x}", param, ctx)
        return number


class Size(click.ParamType[int]):
    """A count below 2^64 with a suffix for powers of 1024: 4096, 0x1000, 4k, 256M, 1G.

    ``name`` is what it is called where it is none.
    """

    def __init__(self, name: str = "size") -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; whatever is no such count is a usage error."""
        if isinstance(value, int):
            return value
        try:
            size = parse_size(value)
        except ValueError:
            self.fail(f"{value!r} is not a {self.name}: write 4096, 0x1000, 4k, 256M", param, ctx)
        if size >= 1 << 64:
            self.fail(f"{value} does not fit in 64 bits", param, ctx)
        return size


class Numbers(click.ParamType[list[int]]):
    """Whole numbers of that many bits, with commas between them."""

    name = "number,..."

    def __init__(self, bits: int) -> None:
        self._one = Number(bits)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Parse; an empty word between two commas is a usage error."""
        if isinstance(value, list):
            return value
        return [self._one.convert(word.strip(), param, ctx) for word in value.split(",")]


class Member(click.ParamType[MemberT]):
    """One of an enumeration's members, by its number or its name.

    ``names`` are those that are called otherwise than in the enumeration; ``but`` are left out.
    """

    def __init__(
        self,
        kind: type[MemberT],
        names: Mapping[str, MemberT] | None = None,
        but: Iterable[MemberT] = (),
    ) -> None:
        self.name = "choice"
        self.kind = kind
        called = {member: name for name, member in (names or {}).items()}
        left_out = [*but]
        self._members = {
            called.get(member, member.name.lower().replace("_", "-")): member
            for member in kind
            if member not in left_out
        }

    @property
    def words(self) -> str:
        """All of them, for a help text."""
        return ", ".join(f"{int(member)} {name}" for name, member in self._members.items())

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> MemberT:
        """Find it; UsageError for a number or a name that none has."""
        if isinstance(value, self.kind):
            return value
        word = str(value).lower()
        if word in self._members:
            return self._members[word]
        try:
            number = int(word, 16 if word.startswith("0x") else 10)
        except ValueError:
            number = -1
        found = [member for member in self._members.values() if member == number]
        if not found:
            self.fail(f"{value!r} is none of {self.words}", param, ctx)
        return found[0]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names."""
        return [CompletionItem(name) for name in self._members if name.startswith(incomplete)]


class Amount(NamedTuple):
    """A number, and whether it has a suffix: then it counts bytes, else blocks."""

    number: int
    in_bytes: bool


class SiAmount(click.ParamType[Amount]):
    """Blocks, or bytes with a suffix for powers of 1000: 2000, 1.5T, 256G, 64M."""

    name = "amount"
    _POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Amount:
        """Parse; whatever is no such amount is a usage error."""
        if isinstance(value, Amount):
            return value
        suffix = value[-1:].lower() if not value[-1:].isdigit() else ""
        number = value[: len(value) - len(suffix)]
        try:
            if not number.isascii() or not number.replace(".", "", 1).isdigit():
                raise InvalidOperation
            count = int(Decimal(number) * 1000 ** self._POWERS[suffix])
        except (KeyError, InvalidOperation):
            self.fail(f"{value!r} is no amount: write 2000 (blocks), 1.5T, 256G, 64M", param, ctx)
        if count >= 1 << 64:
            self.fail(f"{value} does not fit in 64 bits", param, ctx)
        return Amount(count, bool(suffix))


class Device(click.ParamType[str]):
    """A device name. Whether it is one is found out when it is opened."""

    name = "device"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the machine's NVMe controllers, images and sockets."""
        from pynvme_user.cli.completion import device_names

        return [CompletionItem(name) for name in device_names(incomplete)]


U8 = Number(8)
U16 = Number(16)
U32 = Number(32)
U64 = Number(64)
SIZE = Size()
COUNT = Size("number")
DEVICE = Device()
