"""The kinds of values that options and arguments take, each with an error that says what fits."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from pynvme_user.units import parse_size


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
