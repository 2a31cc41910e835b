"""HdrHistogram's log, V2 compressed: total latencies in nanoseconds, an entry for each interval.

Written here rather than by the PyPI package `hdrhistogram`, which the tests read it back with:
that one needs setuptools while it runs and records value by value, and a counts array of ours has
to be brought to its buckets either way.
Ref: https://github.com/HdrHistogram/HdrHistogram, EncodableHistogram and AbstractHistogram.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.results.result import Counts, RunResult, bucket_values
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKETS

_ENCODING_COOKIE = 0x1C849303 | 0x10  # V2; the 0x10 says ZigZag LEB128 counts
_COMPRESSION_COOKIE = 0x1C849304 | 0x10
_HEADER = struct.Struct(">IIIIQQd")  # cookie, length, offset, figures, lowest, highest, ratio

# Two figures are 128 steps for each power of two beyond 256 ns: finer than our buckets, so that
# each of them keeps an entry of its own.
_FIGURES = 2
_HALF_BITS = 7
_HIGHEST = 1 << 36  # ns; above our last bucket


def write_hdr_log(run: RunResult, path: Path) -> None:
    """Write a run's log; jobs and directions are told apart by their tags, ``job.read``.

    Maxima are in milliseconds, as other writers of such logs have them. Raises OSError.
    """
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in _log(run))


def _log(run: RunResult) -> Iterator[str]:
    yield "#[Histogram log format version 1.3]"
    yield f"#[StartTime: {run.started:.3f} (seconds since epoch)]"
    yield f"#[BaseTime: {run.started:.3f} (seconds since epoch)]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
    entries = [
        (job.start_ns + interval.start_ns, job, direction, interval)
        for job in run.jobs
        for direction in Direction
        for interval in job.directions[direction].intervals
    ]
    for start, job, direction, interval in sorted(entries, key=lambda entry: entry[0]):
        length = interval.end_ns - interval.start_ns
        filled = np.flatnonzero(interval.lat)
        largest = int(bucket_values(filled[-1])) if filled.size else 0
        yield (
            f"Tag={_tag(job.name)}.{direction.name.lower()},{start / 1e9:.3f},{length / 1e9:.3f},"
            f"{largest / 1e6:.6f},{encode(interval.lat)}"
        )


def _tag(name: str) -> str:
    return "".join(
        "_" if letter in ", \t\r\n" or not letter.isascii() else letter for letter in name
    )


def encode(counts: Counts) -> str:
    """Encode BUCKETS counts as a compressed histogram in base64."""
    payload = b"".join(_words(_hdr_counts(counts)))
    header = _HEADER.pack(_ENCODING_COOKIE, len(payload), 0, _FIGURES, 1, _HIGHEST, 1.0)
    packed = zlib.compress(header + payload)
    return base64.b64encode(struct.pack(">II", _COMPRESSION_COOKIE, len(packed)) + packed).decode()


def _hdr_index(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    bits = np.frexp(values.astype(np.float64))[1]
    bucket = np.maximum(bits - (_HALF_BITS + 1), 0)
    # As in ours, the leading one of the value stands for the next bucket's start.
    within = (values >> bucket.astype(np.uint64)).astype(np.intp)
    return np.asarray((bucket << _HALF_BITS) + within, dtype=np.intp)


_INDEX = _hdr_index(bucket_values(np.arange(BUCKETS)))


def _hdr_counts(counts: Counts) -> list[int]:
    filled = np.flatnonzero(counts)
    spread = [0] * (int(_INDEX[filled[-1]]) + 1 if filled.size else 0)
    for bucket in filled:
        spread[_INDEX[bucket]] += int(counts[bucket])
    return spread


def _words(counts: Iterable[int]) -> Iterator[bytes]:
    """Write each count as a ZigZag LEB128 word, a run of zeros as minus its length."""
    zeros = 0
    for count in counts:
        if not count:
            zeros += 1
            continue
        if zeros:
            yield _leb128(2 * zeros - 1)
            zeros = 0
        yield _leb128(2 * count)


def _leb128(value: int) -> bytes:
    word = bytearray()
    while value > 0x7F and len(word) < 8:
        word.append(value & 0x7F | 0x80)
        value >>= 7
    word.append(value)  # the ninth byte, if it comes to it, has eight bits of its own
    return bytes(word)
