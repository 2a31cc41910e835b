"""Text cut into words, as arrays: what reads a log of a million lines in little time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

#: Bytes that are read at a time.
PIECE = 1 << 21
#: No line of a log is longer.
_LONGEST = 1 << 16
_KEY = 8  # letters of a word that are compared at once


class Words:
    """The words of whole lines. A word that is not there counts as an empty one."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        # A blank before and behind: each word has two edges, and none begins at the array's end.
        self._bytes = np.frombuffer(b" " + text + b" " * (_KEY + 1), np.uint8)
        blank = self._bytes <= ord(" ")
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        self._starts, ends = edges[::2], edges[1::2]
        self._lengths = ends - self._starts
        breaks = np.flatnonzero(self._bytes == ord("\n"))
        self.lines = len(breaks) + (not text.endswith(b"\n"))
        of = np.searchsorted(breaks, self._starts)
        #: Words in each line.
        self.counts: Places = np.bincount(of, minlength=self.lines)
        self._first = np.cumsum(self.counts) - self.counts
        self._breaks = breaks

    def line(self, number: int) -> str:
        """Tell a line, from 0."""
        begin = int(self._breaks[number - 1]) if number else 0
        end = int(self._breaks[number]) if number < len(self._breaks) else len(self._bytes)
        return bytes(self._bytes[begin:end]).decode("utf-8", "replace").strip()

    def _word(self, lines: Places, column: int) -> tuple[Places, Places]:
        """Where a word of lines begins, and its length."""
        there = self.counts[lines] > column
        if not len(self._starts):
            return np.zeros(len(lines), np.int64), np.zeros(len(lines), np.int64)
        place = np.where(there, self._first[lines] + column, 0)
        return self._starts[place], np.where(there, self._lengths[place], 0)

    def among(self, lines: Places, column: int, words: Sequence[str]) -> npt.NDArray[np.intp]:
        """Tell which of some words of up to 8 letters it is in each line; -1: none of them."""
        starts, lengths = self._word(lines, column)
        key = np.zeros(len(lines), np.uint64)
        for letter in range(_KEY):
            found = np.where(letter < lengths, self._bytes[starts + letter], 0)
            key |= found.astype(np.uint64) << np.uint64(8 * letter)
        which = np.full(len(lines), -1, np.intp)
        for number, word in enumerate(words):
            same = int.from_bytes(word.encode("ascii"), "little")
            which[(key == np.uint64(same)) & (lengths == len(word))] = number
        return which

    def letter(self, lines: Places, column: int, place: int) -> npt.NDArray[np.uint8]:
        """Tell one letter of a word in each line; 0 behind its end."""
        starts, lengths = self._word(lines, column)
        at = np.minimum(starts + place, len(self._bytes) - 1)
        return np.where(place < lengths, self._bytes[at], 0).astype(np.uint8)

    def numbers(self, lines: Places, column: int) -> tuple[U64, Marks]:
        """Read a word of each line as a number of up to 19 digits, and tell where it is none."""
        starts, lengths = self._word(lines, column)
        return self._digits(starts, lengths)

    def _digits(self, starts: Places, lengths: Places) -> tuple[U64, Marks]:
        wrong = (lengths == 0) | (lengths > 19)
        value = np.zeros(len(starts), np.uint64)
        for place in range(min(19, int(lengths.max(initial=0)))):
            inside = place < lengths
            digit = self._bytes[np.where(inside, starts + place, 0)] - np.uint8(ord("0"))
            wrong |= inside & (digit > 9)
            value = np.where(inside, value * np.uint64(10) + digit, value)
        return value, wrong

    def nanoseconds(self, lines: Places, column: int) -> tuple[U64, Marks]:
        """Read a word as seconds with nine decimals, in nanoseconds."""
        starts, lengths = self._word(lines, column)
        whole, wrong = self._digits(starts, np.maximum(lengths - 10, 0))
        point = np.where(lengths > 10, starts + lengths - 10, 0)
        part, bad = self._digits(point + 1, np.where(lengths > 10, 9, 0))
        wrong |= bad | (self._bytes[point] != ord("."))
        return whole * np.uint64(1_000_000_000) + part, wrong


def pieces(file: BinaryIO) -> Iterator[Words]:
    """Cut the rest of a file into pieces of whole lines.

    Raises ValueError for a line that no log has: it is too long.
    """
    rest = b""
    while piece := file.read(PIECE):
        whole, broken, left = (rest + piece).rpartition(b"\n")
        if broken:
            yield Words(whole + broken)
        if len(left) > _LONGEST:
            raise ValueError("it has a line of more than 64 KiB")
        rest = left
    if rest:
        yield Words(rest)
