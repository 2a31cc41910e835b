"""Where data comes from and goes to: a named file, or stdin and stdout."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pynvme_user.cli.errors import Failure, ReaderGone
from pynvme_user.cli.output import refuse_terminal
from pynvme_user.units import format_size


@dataclass
class Source:
    """An open input. ``length`` is what is left to read in bytes, None where that shows only
    at the end, as with a pipe.
    """

    descriptor: int
    name: str
    length: int | None

    def fill(self, buffer: Any) -> int:
        """Read until a writable buffer is full or the input ends; return the bytes read.

        Raises Failure, with what stands in the way.
        """
        view = memoryview(buffer)
        filled = 0
        try:
            while filled < len(view):
                count = os.readv(self.descriptor, [view[filled:]])
                if count == 0:
                    break
                filled += count
        except OSError as error:
            raise Failure(f"{self.name} cannot be read: {error.strerror}") from None
        return filled


@contextmanager
def source(path: str | None) -> Iterator[Source]:
    """Open a file, or stdin if ``path`` is None or ``-``. Raises Failure, or a usage error."""
    if path in (None, "-"):
        if sys.stdin.isatty():
            raise click.UsageError("no data: name a file with --data, or pipe the data to stdin")
        yield Source(sys.stdin.fileno(), "stdin", _length(sys.stdin.fileno()))
        return
    descriptor = _open(str(path), os.O_RDONLY)
    try:
        yield Source(descriptor, str(path), _length(descriptor))
    finally:
        os.close(descriptor)


def padded_input(path: str | None, length: int) -> bytearray:
    """Read up to ``length`` bytes of a file or of stdin; zeroes make up the rest.

    Raises Failure, or a usage error, as :func:`source`.
    """
    data = bytearray(length)
    with source(path) as src:
        src.fill(data)
    return data


def _length(descriptor: int) -> int | None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))


class Sink:
    """An open output. A file that was made for it is removed again if it stays incomplete."""

    def __init__(self, path: str | None) -> None:
        """Open or create a file; None or ``-`` is stdout. Raises Failure, or a usage error."""
        self.written = 0
        self._created = False
        self._path = None if path in (None, "-") else path
        if self._path is None:
            refuse_terminal()
            self._descriptor = sys.stdout.fileno()
            return
        try:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
            self._created = True
        except FileExistsError:
            self._descriptor = _open(self._path, os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            raise Failure(f"{self._path} cannot be created: {error.strerror}") from None

    @property
    def name(self) -> str:
        """What it is called in a message."""
        return self._path or "stdout"

    def write(self, data: Any) -> None:
        """Write all of a buffer.

        Raises Failure, with what stands in the way, and ReaderGone where nobody reads a pipe.
        """
        view = memoryview(data)
        try:
            while len(view):
                count = os.write(self._descriptor, view)
                self.written += count
                view = view[count:]
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise Failure(
                f"{self.name} takes no more after {format_size(self.written)}: {error.strerror}"
            ) from None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._path is None:
            return
        try:
            os.close(self._descriptor)  # some file systems find out only here that they are full
        except OSError as late:
            if error is None:
                self._give_up(late)
                raise Failure(f"{self.name} is incomplete: {late.strerror}") from None
        if error is not None:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        if self._created:
            Path(self.name).unlink(missing_ok=True)
            error.add_note(f"the incomplete {self.name} was removed")
        elif Path(self.name).is_file():
            error.add_note(f"{self.name} is incomplete")


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"{path} cannot be opened: {error.strerror}") from None
