"""Traces of I/O: fio's logs of versions 2 and 3, and what blkparse prints.

A time is that of fio's log in microseconds, as fio 3.33 writes and reads it; ``wait`` of version 2
is in microseconds after the last ``wait``, as fio's manual has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.terms import JobError, Trace
from pynvme_user.bench.jobs.words import U64, Marks, Places, Words, pieces
from pynvme_user.spec.text import printable
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import FLUSH

#: I/Os of a trace: ``line`` from 1, ``ns`` since the trace's beginning, offset and length in bytes.
ENTRY_DTYPE = np.dtype(
    [
        ("line", "<u8"),
        ("ns", "<u8"),
        ("offset", "<u8"),
        ("bytes", "<u8"),
        ("direction", "<u4"),
    ]
)
Entries = npt.NDArray[np.void]

_HEADERS = {b"fio version 2 iolog": 2, b"fio version 3 iolog": 3}
_BLKPARSE = 0
#: Of fio's logs; from "open" on those without an effect here.
_ACTIONS = ("read", "write", "trim", "sync", "datasync", "wait", "add", "open", "close")
_SYNC, _WAIT, _FILES = 3, 5, 6
_SECTOR = 512
_SKIPS = {"read": Direction.READ, "write": Direction.WRITE, "trim": Direction.TRIM}


def skipped(words: Sequence[str]) -> frozenset[int]:
    """Tell the directions that replay_skip leaves out. Raises JobError."""
    found = set()
    for word in words:
        if word not in (*_SKIPS, "sync"):
            raise JobError(f"{word!r} is none of read, write, trim, sync")
        found.add(int(_SKIPS.get(word, FLUSH)))
    return frozenset(found)


@dataclass
class _Reader:
    """Reads one trace, piece by piece."""

    path: str
    form: int  # fio's version, or _BLKPARSE
    action: int  # of blkparse: which letter's events are taken
    line: int = 0  # lines that were read before
    waited: int = 0  # microseconds
    ended: bool = False

    def fail(self, words: Words, line: int, what: str) -> NoReturn:
        text = printable(words.line(line))
        text = text if len(text) <= 60 else f"{text[:60]}..."
        raise JobError(f"{self.path}, line {self.line + line + 1}: {text!r} {what}")

    def refuse(self, words: Words, lines: Places, wrong: Marks, what: str) -> None:
        if wrong.any():
            self.fail(words, int(lines[np.argmax(wrong)]), what)

    def fio(self, words: Words) -> Entries:
        lines = np.flatnonzero(words.counts)
        first = self.form - 2  # version 3 begins with the time
        what = words.among(lines, first + 1, _ACTIONS)
        again = words.among(lines, 0, ("fio",)) == 0
        again &= words.among(lines, 1, ("version",)) == 0
        self.refuse(
            words, lines, again, "begins another log, as fio appends them: keep one of the two"
        )
        form = "TIME FILE ACTION" if first else "FILE ACTION"
        self.refuse(
            words,
            lines,
            (what < 0) | ((what == _WAIT) & (first > 0)),
            f"is not '{form} [OFFSET LENGTH]' with one of the actions add, open, close, read, "
            f"write, trim, sync, datasync{'' if first else ', wait'}",
        )
        counts = words.counts[lines]
        wanted = np.where(what >= _FILES, 2, 4) + first
        short = (what == _WAIT) & (counts == wanted - 1)
        self.refuse(
            words, lines, (counts != wanted) & ~short, f"has not the words of '{form}' and, for "
            "I/O, OFFSET LENGTH",
        )  # fmt: skip
        ns = np.zeros(len(lines), np.uint64)
        if first:
            ns, wrong = words.numbers(lines, 0)
            self.refuse(words, lines, wrong, "does not begin with a time in microseconds")
        moving = what < _FILES
        lines, what, ns = lines[moving], what[moving], ns[moving]
        offset, wrong = words.numbers(lines, first + 2)
        self.refuse(words, lines, wrong, "has no offset in bytes")
        length, wrong = words.numbers(lines, first + 3)
        self.refuse(words, lines, wrong & (what < _SYNC), "has no length in bytes")
        if not first:
            ns = np.cumsum(np.where(what == _WAIT, offset, 0), dtype=np.uint64)
            ns += np.uint64(self.waited)
            self.waited = int(ns[-1]) if len(ns) else self.waited
        ios = what != _WAIT
        self.refuse(words, lines, (what < _SYNC) & (length == 0), "moves nothing")
        direction = np.minimum(what, FLUSH)
        made = self._entries(lines, ns * np.uint64(1000), offset, length, direction)
        made["offset"][direction == FLUSH] = made["bytes"][direction == FLUSH] = 0
        return np.asarray(made[ios])

    def blkparse(self, words: Words) -> Entries:
        lines = np.flatnonzero(words.counts)
        # A summary stands behind the events, by CPU and in all.
        letters = [words.letter(lines, 0, place) for place in range(3)]
        summary = np.logical_and.reduce(
            [of == ord(c) for of, c in zip(letters, "CPU", strict=True)]
        )
        summary |= words.among(lines, 0, ("Total",)) == 0
        if summary.any():
            lines = lines[: np.argmax(summary)]
            self.ended = True
        ns, wrong = words.nanoseconds(lines, 3)
        self.refuse(
            words,
            lines,
            wrong | (words.counts[lines] < 6),
            "is no event of blkparse's: MAJOR,MINOR CPU SEQUENCE SECONDS PID ACTION RWBS ...",
        )
        letter = words.letter(lines, 5, 0)
        taken = (letter == self.action) & (words.letter(lines, 5, 1) == 0)
        lines, ns = lines[taken], ns[taken]
        kinds = [words.letter(lines, 6, place) for place in range(2)]
        before = kinds[0] == ord("F")  # a flush, and perhaps a write after it
        kind = np.where(before, kinds[1], kinds[0])
        ways = [kind == ord(c) for c in "RWD"]
        direction = np.select(ways, [0, 1, 2], -1)
        sized = words.letter(lines, 8, 0) == ord("+")
        moves = (direction >= 0) & (sized | ~before)
        sector, wrong = words.numbers(lines, 7)
        count, no_count = words.numbers(lines, 9)
        wrong |= no_count | ~sized
        self.refuse(words, lines, moves & wrong, "has no 'SECTOR + SECTORS'")
        moves &= count > 0
        repeats = before.astype(int) + moves
        made = self._entries(
            lines, ns, sector * np.uint64(_SECTOR), count * np.uint64(_SECTOR), direction
        )
        made = np.repeat(made, repeats)
        first = np.cumsum(repeats) - repeats
        flushes = made[first[before]]
        flushes["offset"] = flushes["bytes"] = 0
        flushes["direction"] = FLUSH
        made[first[before]] = flushes
        return made

    def _entries(
        self, lines: Places, ns: U64, offset: U64, length: U64, direction: npt.NDArray[np.intp]
    ) -> Entries:
        made = np.zeros(len(lines), ENTRY_DTYPE)
        made["line"] = lines + (self.line + 1)
        made["ns"], made["offset"], made["bytes"] = ns, offset, length
        made["direction"] = direction
        return made


def _form(path: str, file: BinaryIO) -> int:
    """Tell what the file is, and leave out its header. Raises JobError."""
    head = file.read(64)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        raise JobError(f"{path} is compressed: unpack it with gunzip first")
    if head[1:4] == b"tae" or head[:3] == b"eat":  # its magic number, of either byte order
        raise JobError(f"{path} is blktrace's binary form: give what `blkparse -i` prints of it")
    line = head.partition(b"\n")[0].strip()
    if line in _HEADERS:
        file.readline()
        return _HEADERS[line]
    if line.partition(b",")[0].isdigit():
        return _BLKPARSE
    raise JobError(
        f"{path}, line 1: {printable(line.decode('utf-8', 'replace'))!r} begins neither fio's log "
        "('fio version 3 iolog', or 2) nor what blkparse prints"
    )


def read(path: str, skip: frozenset[int], action: int) -> Iterator[Entries]:
    """Give the I/Os of a trace in pieces, but those of the directions in ``skip``.

    ``action`` is the letter of blkparse's events. Raises JobError, with the line.
    """
    try:
        with open(path, "rb") as file:
            form = _form(path, file)
            reader = _Reader(path, form, action, line=1 if form else 0)
            for words in pieces(file):
                made = reader.fio(words) if form else reader.blkparse(words)
                reader.line += words.lines
                yield made[~np.isin(made["direction"], list(skip))] if skip else made
                if reader.ended:
                    return
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, JobError):
            raise
        raise JobError(f"{path} is no trace: {error}") from None


def trace(path: str, skip: frozenset[int]) -> Trace:
    """Tell what a trace comes to. Raises JobError if it cannot be read, or has no I/O."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a name that none has
        raise JobError(f"{path!r} is no file's name: {error}") from None
    return _trace(path, skip, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _trace(path: str, skip: frozenset[int], changed_ns: int, size: int) -> Trace:
    for action in (ord("Q"), ord("D")):
        ios, first_ns = 0, 0
        moved = [0, 0, 0]
        least, most = [0, 0, 0], [0, 0, 0]
        for made in read(path, skip, action):
            if len(made) and not ios:
                first_ns = int(made["ns"][0])
            ios += len(made)
            for way in range(3):
                lengths = made["bytes"][made["direction"] == way]
                if len(lengths):
                    least[way] = min(least[way] or 1 << 64, int(lengths.min()))
                    most[way] = max(most[way], int(lengths.max()))
                    moved[way] += int(lengths.sum())
        if ios:
            return Trace(
                ios=ios,
                bytes=sum(moved),
                sizes=tuple(zip(least, most, strict=True)),
                first_ns=first_ns,
                action=action,
            )
    raise JobError(f"{path} has no I/O to replay")
