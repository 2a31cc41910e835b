"""Data verification: checksums, what a write puts into its blocks, and no fault where none is.

The disk is a numpy array. tests/c/verify_test.c does the same in bulk, for the sanitizers.
"""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verify_rig import HEADERS, PATTERN, Rig, found

from pynvme_user.workload.verification import (
    Deallocated,
    FaultKind,
    Method,
    Trim,
    crc32c,
    crc32c_table,
    xxh64,
)

# --- checksums ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),  # the catalogue's check value
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4, this and the next three
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_crc32c_vectors(data: bytes, expected: int) -> None:
    assert crc32c(data) == crc32c_table(data) == expected


@given(st.binary(max_size=5000), st.integers(0, 5000))
def test_crc32c_ways_agree_and_continue(data: bytes, cut: int) -> None:
    assert crc32c(data) == crc32c_table(data) == crc32c(data[cut:], crc32c(data[:cut]))


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0, 0xEF46DB3751D8E999),
        (b"a", 0, 0xD24EC4F1A98C6E5B),
        (b"abc", 0, 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1),
        (b"xxhash", 0, 0x32DD38952C4BC720),
        (b"xxhash", 20141025, 0xB559B98D844E0635),
    ],
)
def test_xxh64_vectors(data: bytes, seed: int, expected: int) -> None:
    assert xxh64(data, seed) == expected


# --- what a write puts into its blocks ------------------------------------------------------------


@pytest.mark.parametrize("method", HEADERS)
def test_header_layout(method: Method) -> None:
    """As docs/verification.md has it."""
    rig = Rig(method)
    rig.write(104, 4)
    data = rig.write(104, 8).tobytes()
    interval = data[2048:4096]
    lba, generation, _, sequence, first, blocks = struct.unpack_from("<QIIQII", interval)
    assert (lba, generation, first, blocks) == (108, 1, 4, 8)
    assert sequence == rig.table.sequence + 2
    magic, version, number, job, seed, checksum, length, header = struct.unpack_from(
        "<4sBBHQQII", interval, 32
    )
    assert (magic, version, number, job) == (b"NVV1", 1, method, 0)
    assert (seed, length) == (0x5EED, 2048)
    assert header == crc32c(interval[:60])
    sums = {Method.CRC32C: crc32c(interval[64:]), Method.XXHASH: xxh64(interval[64:])}
    assert checksum == sums.get(method, 0)
    assert struct.unpack_from("<QI", interval, 512) == (109, 1)
    assert struct.unpack_from("<QI", data) == (104, 2)


def test_pattern_is_fios() -> None:
    """From the interval's start, the offset in bytes where the pattern has %o; nothing else."""
    rig = Rig(Method.PATTERN, interval_blocks=3)
    data = rig.write(106, 3).tobytes()
    unit = PATTERN[:5] + struct.pack("<Q", 106 * 512) + PATTERN[13:]
    assert data == (unit * 120)[: 3 * 512]


def test_no_two_blocks_are_alike() -> None:
    rig = Rig(intervals=64)
    writes = [rig.write(100, 256) for _ in range(4)]
    words = np.concatenate(writes).view(np.uint64)[:, 8:].ravel()
    assert len(np.unique(words)) == len(words)
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.005


# --- no fault where there is none -----------------------------------------------------------------


#: Logical block size, logical blocks of an interval; the last ones have I/Os of 1 MiB.
SHAPES = [(512, 1), (512, 3), (512, 8), (4096, 1), (4096, 7), (512, 2048), (4096, 256), (65536, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", list(Method))
def test_sound_disk(method: Method, shape: tuple[int, int]) -> None:
    """Any I/O with any outcome that a sound device may have."""
    block_size, interval_blocks = shape
    intervals = max(3, min(24, (4 << 20) // (block_size * interval_blocks)))
    rig = Rig(method, block_size=block_size, interval_blocks=interval_blocks, intervals=intervals)
    choice = random.Random(f"{method} {shape}")
    longest = max(1, min(8, (1 << 20) // (block_size * interval_blocks)))
    for _ in range(150):
        count = choice.randint(1, min(longest, intervals))
        lba = 100 + choice.randint(0, intervals - count) * interval_blocks
        blocks = count * interval_blocks
        kind = choice.choice(list(Trim))
        match choice.randrange(8):
            case 0:
                rig.write(lba, blocks, arrives=lambda _: choice.random() < 0.5, ok=False)
            case 1:
                rig.trim(lba, blocks, kind, arrives=choice.random() < 0.5, ok=False)
            case 2:
                rig.trim(lba, blocks, Trim.WRITE_ZEROES)
            case 3:
                rig.trim(lba, blocks, Trim.DEALLOCATE, arrives=choice.random() < 0.5)
            case 4 | 5:
                rig.write(lba, blocks)
            case _:
                assert rig.read(lba, blocks) is None
    assert rig.read(100, rig.region.blocks) is None


# --- deallocated blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("reads", list(Deallocated))
def test_deallocated(reads: Deallocated) -> None:
    """DLFEAT decides what is there, and the advice may be ignored; then only the new data is."""
    rig = Rig(deallocated=reads)
    rig.write(100, 4)
    rig.trim(100, 4, Trim.DEALLOCATE, arrives=False)
    assert rig.read(100, 4) is None
    for value in (0x00, 0xFF, 0x55):
        rig.at(100, 4)[:] = value
        allowed = reads is Deallocated.ANY or value == {1: 0x00, 2: 0xFF}[int(reads)]
        assert (rig.read(100, 4) is None) == allowed
    rig.write(100, 4)
    rig.at(100, 4)[:] = 0xFF if reads is Deallocated.ONES else 0
    assert found(rig, 100, 4) == (FaultKind.LOST_WRITE, 100)


def test_write_zeroes_leaves_zeroes() -> None:
    rig = Rig(deallocated=Deallocated.ANY)
    rig.write(100, 4)
    rig.trim(100, 4, Trim.WRITE_ZEROES, arrives=False)
    assert found(rig, 100, 4) == (FaultKind.LOST_WRITE, 100)
    rig.at(100, 4)[:] = 0
    assert rig.read(100, 4) is None
    rig.trim(100, 4, Trim.WRITE_ZEROES, ok=False)
    assert rig.read(100, 4) is None
