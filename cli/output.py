"""What goes to stdout: text for people, JSON for programs, pages as they are."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

NORMAL, JSON, BINARY = "normal", "json", "binary"
_ROW = 16


def output_option(*formats: str) -> Callable[[Callable[..., Any]], Any]:
    """Add ``--output-format`` with these formats; the first is the default."""
    return click.option(
        "--output-format",
        "-o",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        help="How to print it.",
    )


raw_binary_option = click.option(
    "--raw-binary", "-b", is_flag=True, help="Print the bytes as they are; as -o binary."
)
human_option = click.option(
    "--human-readable", "-H", is_flag=True, help="Explain the bits of each field, too."
)


#: The same, by the name that other commands of nvme-cli have for it, too.
verbose_option = click.option(
    "--human-readable",
    "--verbose",
    "-H",
    "-v",
    is_flag=True,
    help="Explain the bits of each field, too.",
)


@dataclass(frozen=True)
class Page:
    """One result in each of its forms, made only when it is asked for."""

    normal: Callable[[], Iterable[str]]
    json: Callable[[], object]
    binary: Callable[[], bytes] | None = None

    def show(self, output_format: str) -> None:
        """Write the form to stdout."""
        if output_format == JSON:
            echo_json(self.json())
        elif output_format == BINARY and self.binary is not None:
            refuse_terminal()
            write_all(self.binary())
        else:
            echo_lines(self.normal())


#: Set once there is JSON on stdout.
_json_written = threading.Event()


def echo_json(value: object) -> None:
    """Write a value to stdout as JSON.

    A register is an int and is written as one; no number is ever a string.
    """
    text = json.dumps(value, indent=2)
    _json_written.set()
    click.echo(text)


def json_written() -> bool:
    """Whether this command has written JSON to stdout."""
    return _json_written.is_set()


def echo_lines(lines: Iterable[str]) -> None:
    """Write lines to stdout, all at once: what fails while they are made leaves no half of them."""
    click.echo("".join(f"{line}\n" for line in lines), nl=False)


def refuse_terminal() -> None:
    """Raise a usage error if binary output would go to a terminal."""
    if sys.stdout.isatty():
        raise click.UsageError(
            "the output is binary and stdout is a terminal: redirect it to a file or a pipe"
        )


def write_all(data: bytes) -> None:
    """Write bytes to stdout as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def hexdump(data: bytes) -> Iterable[str]:
    """Write bytes as rows of 16 with their offset and what of them is text, below a heading."""
    if data:
        yield " " * 5 + "".join(f"{column:3x}" for column in range(_ROW))
    for offset in range(0, len(data), _ROW):
        row = data[offset : offset + _ROW]
        text = "".join(chr(byte) if 0x20 < byte < 0x7F else "." for byte in row)
        yield f'{offset:04x}: {row.hex(" "):<{3 * _ROW - 1}} "{text}"'
