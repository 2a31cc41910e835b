"""Data verification: checksums, the table, the state file, and each fault by its name.

The disk is a numpy array. What must be found follows from how the fault was planted, not from the
code under test. tests/c/verify_test.c does the same in bulk, for the sanitizers.
"""

from __future__ import annotations

import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.verification import (
    Deallocated,
    Fault,
    FaultKind,
    Method,
    Trim,
    Unknown,
    Verifier,
    VerifyTable,
    crc32c,
    crc32c_table,
    xxh64,
)
from pynvme_user.verify_state import NamespaceIdentity, Region, StateFileError

HEADERS = [Method.CRC32C, Method.XXHASH, Method.PATTERN_HDR, Method.META]
PATTERN = b"\xab\xcd%o:" + bytes(8) + b"."
OFFSETS = (5,)
NAMESPACE = NamespaceIdentity(device="qemu:", nsid=1, serial="S1", nguid="ab" * 16)


class Rig:
    """A disk with a table of all of it, and the I/O that a bench would do."""

    def __init__(
        self,
        method: Method = Method.CRC32C,
        *,
        block_size: int = 512,
        interval_blocks: int = 4,
        intervals: int = 32,
        seed: int = 0x5EED,
        unknown: Unknown = Unknown.SKIP,
        deallocated: Deallocated = Deallocated.ZEROES,
        disk: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.region = Region(
            block_size=block_size,
            blocks=intervals * interval_blocks,
            first_lba=100,
            interval_blocks=interval_blocks,
        )
        self.unit = interval_blocks
        self.table = VerifyTable(self.region, seed)
        self.verifier = Verifier(
            self.table,
            method,
            pattern=PATTERN,
            offsets=OFFSETS,
            unknown=unknown,
            deallocated=deallocated,
        )
        shape = self.region.blocks, block_size
        self.disk = np.zeros(shape, np.uint8) if disk is None else disk

    def at(self, lba: int, blocks: int = 1) -> npt.NDArray[np.uint8]:
        """The disk's own blocks, to look at and to spoil."""
        return self.disk[lba - 100 : lba - 100 + blocks]

    def write(
        self,
        lba: int,
        blocks: int,
        *,
        arrives: Callable[[int], bool] = lambda _: True,
        ok: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Write; ``arrives`` says of each logical block whether the disk takes it."""
        # Filled with rubbish, since META leaves what was there.
        data = np.full((blocks, self.region.block_size), 0x77, np.uint8)
        assert self.verifier.begin_write(lba, blocks, data)
        for block in range(blocks):
            if arrives(block):
                self.at(lba + block)[:] = data[block]
        self.verifier.end_write(lba, blocks, ok=ok)
        return data

    def trim(
        self, lba: int, blocks: int, kind: Trim, *, arrives: bool = True, ok: bool = True
    ) -> None:
        assert self.verifier.begin_trim(lba, blocks, kind)
        if arrives:
            self.at(lba, blocks)[:] = 0
        self.verifier.end_trim(lba, blocks, kind, ok=ok)

    def read(self, lba: int, blocks: int) -> Fault | None:
        assert self.verifier.begin_read(lba, blocks)
        fault = self.verifier.check(lba, blocks, self.at(lba, blocks).copy())
        self.verifier.end_read(lba, blocks)
        return fault


def found(rig: Rig, lba: int, blocks: int) -> tuple[FaultKind, int] | None:
    fault = rig.read(lba, blocks)
    return fault and (fault.kind, fault.lba)


# --- checksums ---------------------------------------------------------------------------------


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


# --- what a write puts into its blocks ---------------------------------------------------------


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


# --- no fault where there is none --------------------------------------------------------------

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


# --- each fault by its name --------------------------------------------------------------------


def history(rig: Rig, choice: random.Random) -> tuple[int, int]:
    """Write here and there, and a range of at least two intervals twice; return that range."""
    unit = rig.unit
    count = choice.randint(2, 6)
    lba = 100 + choice.randint(0, 31 - count) * unit
    for _ in range(choice.randint(0, 20)):
        start, blocks = choice.randint(0, 28), choice.randint(1, 4)
        rig.write(100 + start * unit, blocks * unit)
        if choice.random() < 0.3:
            assert rig.read(100 + start * unit, blocks * unit) is None
    for _ in range(2):
        rig.write(lba, count * unit)
    if choice.random() < 0.5:
        assert rig.read(lba, count * unit) is None
    return lba, count * unit


methods = st.sampled_from(HEADERS)
units = st.sampled_from([1, 2, 3, 8])
choices = st.randoms(use_true_random=False)


@given(st.sampled_from(list(Method)), units, choices)
def test_bit_flip(method: Method, unit: int, choice: random.Random) -> None:
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    block = choice.randrange(blocks)
    covered = 512 if method != Method.META else 32 if block % unit else 64
    bit = choice.randrange(covered * 8)
    rig.at(lba + block)[0, bit // 8] ^= 1 << bit % 8
    value = int(rig.at(lba + block)[0, bit // 8])
    fault = rig.read(lba, blocks)
    assert fault is not None
    assert str(fault) == (
        f"bit flip at LBA {lba + block}: 1 bit wrong in byte {bit // 8} of the block, "
        f"expected {value ^ 1 << bit % 8:#04x}, found {value:#04x}"
    )


@given(st.sampled_from([Method.CRC32C, Method.XXHASH, Method.PATTERN_HDR]), units, choices)
def test_several_bits(method: Method, unit: int, choice: random.Random) -> None:
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    block = choice.randrange(blocks)
    for bit in choice.sample(range(4096), choice.randint(2, 200)):
        rig.at(lba + block)[0, bit // 8] ^= 1 << bit % 8
    assert found(rig, lba, blocks) == (FaultKind.BIT_FLIP, lba + block)


@given(methods, units, choices)
def test_torn_write(method: Method, unit: int, choice: random.Random) -> None:
    """Any logical blocks of a write arrive, others not."""
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    arrived = set(choice.sample(range(blocks), choice.randint(1, blocks - 1)))
    rig.write(lba, blocks, arrives=lambda block: block in arrived)
    missing = min(set(range(blocks)) - arrived)
    assert found(rig, lba, blocks) == (FaultKind.TORN_WRITE, lba + missing)


@given(methods, units, choices, st.sampled_from(["zeroes", "foreign", "earlier"]))
def test_torn_first_write(method: Method, unit: int, choice: random.Random, before: str) -> None:
    rig = Rig(method, interval_blocks=unit)
    if before == "foreign":
        rig.disk[:] = np.random.default_rng(choice.randrange(1000)).integers(0, 256, rig.disk.shape)
    elif before == "earlier":
        Rig(method, interval_blocks=unit, seed=77, disk=rig.disk).write(100, 32 * unit)
    blocks = choice.randint(2, 8) * unit
    arrived = choice.randint(1, blocks - 1)
    rig.write(100, blocks, arrives=lambda block: block < arrived)
    assert found(rig, 100, blocks) == (FaultKind.TORN_WRITE, 100 + arrived)


@given(st.sampled_from([Method.CRC32C, Method.XXHASH]), choices)
def test_write_torn_inside_a_block(method: Method, choice: random.Random) -> None:
    rig = Rig(method, interval_blocks=2, block_size=4096)
    lba, blocks = history(rig, choice)
    old = rig.at(lba, blocks).copy()
    rig.write(lba, blocks)
    cut = choice.randint(1, 7) * 512
    block = choice.randrange(blocks)
    part = slice(cut, None) if choice.random() < 0.5 else slice(0, cut)
    rig.at(lba + block)[0, part] = old[block, part]
    assert found(rig, lba, blocks) == (FaultKind.TORN_WRITE, lba + block)


@given(methods, units, choices)
def test_lost_write(method: Method, unit: int, choice: random.Random) -> None:
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    count = choice.randint(1, blocks // unit) * unit
    for _ in range(choice.randint(1, 3)):
        rig.write(lba, count, arrives=lambda _: False)
    assert found(rig, lba, count) == (FaultKind.LOST_WRITE, lba)
    assert found(rig, lba, blocks) == (FaultKind.LOST_WRITE, lba)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("blank", [0x00, 0xFF])
def test_lost_first_write(method: Method, blank: int) -> None:
    rig = Rig(method)
    rig.disk[:] = blank
    rig.write(104, 8, arrives=lambda _: False)
    fault = rig.read(104, 8)
    assert fault is not None
    assert str(fault) == (
        "lost write at LBA 104: expected generation 1, which was acknowledged, "
        f"found only {'ones' if blank else 'zeroes'}"
    )


def test_lost_write_after_a_trim() -> None:
    """The zeroes are newer than what was seen, and than a neighbour's part of an older write."""
    rig = Rig()
    rig.write(100, 8)
    assert rig.read(100, 8) is None
    rig.trim(100, 4, Trim.WRITE_ZEROES)
    rig.write(100, 4, arrives=lambda _: False)
    assert found(rig, 100, 8) == (FaultKind.LOST_WRITE, 100)


@given(methods, units, choices)
def test_misdirected_write(method: Method, unit: int, choice: random.Random) -> None:
    """The place that was hit says so; the place that was meant lost its write."""
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    hit = choice.choice(
        [x for x in range(100, 100 + 32 * unit, unit) if not lba <= x < lba + blocks]
    )
    rig.write(hit, unit)
    data = rig.write(lba, unit, arrives=lambda _: False)
    rig.at(hit, unit)[:] = data
    fault = rig.read(hit, unit)
    assert fault is not None
    assert (fault.kind, fault.lba) == (FaultKind.MISDIRECTED_WRITE, hit)
    assert f", found generation {rig.table.promise(lba).issued} of LBA {lba}" in str(fault)
    assert found(rig, lba, unit) == (FaultKind.LOST_WRITE, lba)


def test_misdirected_pattern() -> None:
    rig = Rig(Method.PATTERN)
    rig.write(100, 16)
    rig.at(104, 4)[:] = rig.at(112, 4)
    fault = rig.read(100, 16)
    assert fault is not None
    assert (fault.kind, fault.lba) == (FaultKind.MISDIRECTED_WRITE, 104)
    assert str(fault).endswith("found the pattern of LBA 112")


@given(methods, units, choices)
def test_stale_data(method: Method, unit: int, choice: random.Random) -> None:
    """What was there before comes back after something newer was read."""
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    old = rig.at(lba, blocks).copy()
    rig.write(lba, blocks)
    assert rig.read(lba, blocks) is None
    if choice.random() < 0.5:
        rig.write(lba, blocks, arrives=lambda _: False)
    rig.at(lba, blocks)[:] = old
    assert found(rig, lba, blocks) == (FaultKind.STALE_DATA, lba)


@pytest.mark.parametrize("method", HEADERS)
def test_stale_data_of_an_earlier_run(method: Method) -> None:
    earlier = Rig(method, seed=0xBAD)
    earlier.write(100, 16)
    rig = Rig(method, disk=earlier.disk)
    rig.write(104, 4, arrives=lambda _: False)
    fault = rig.read(104, 4)
    assert fault is not None
    assert str(fault) == (
        "stale data at LBA 104: expected generation 1, which was acknowledged, "
        "found generation 1 of another run (seed 0xbad)"
    )
    same_seed = Rig(method, seed=0xBAD, disk=earlier.disk)
    earlier.write(104, 4)
    same_seed.write(104, 4, arrives=lambda _: False)
    fault = same_seed.read(104, 4)
    assert fault is not None
    assert fault.kind == FaultKind.STALE_DATA
    assert str(fault).endswith("which this run never issued: an earlier run had the same seed")


@given(st.sampled_from(list(Method)), units, choices)
def test_foreign_data(method: Method, unit: int, choice: random.Random) -> None:
    rig = Rig(method, interval_blocks=unit)
    lba, blocks = history(rig, choice)
    block = choice.randrange(blocks)
    rig.at(lba + block)[:] = np.random.default_rng(choice.randrange(1000)).integers(0, 256, 512)
    assert found(rig, lba, blocks) == (FaultKind.FOREIGN_DATA, lba + block)


def test_sentences() -> None:
    """Expected and found, in one sentence; docs/verification.md shows these."""
    rig = Rig(interval_blocks=1)
    said = []
    for _ in range(2):
        rig.write(100, 8)
    rig.at(103)[0, 100:103] ^= 0x81
    said.append(str(rig.read(100, 8)))
    rig.write(100, 8)
    rig.write(100, 8, arrives=lambda block: block < 6)
    said.append(str(rig.read(100, 8)))
    rig.write(100, 8)
    rig.write(100, 8, arrives=lambda _: False)
    said.append(str(rig.read(100, 8)))
    rig.write(100, 8)
    old = rig.at(100).copy()
    rig.at(101)[:] = old
    said.append(str(rig.read(100, 8)))
    rig.write(100, 8)
    assert rig.read(100, 8) is None
    rig.at(100)[:] = old
    said.append(str(rig.read(100, 8)))
    rig.at(100)[0] = np.arange(512) % 251
    said.append(str(rig.read(100, 8)))
    page = (Path(__file__).parents[2] / "docs" / "verification.md").read_text()
    assert said == re.search(r"```text\n(.*?)```", page, re.DOTALL)[1].splitlines()


# --- data that the table knows nothing of ------------------------------------------------------


@pytest.mark.parametrize("method", HEADERS)
def test_unknown_blocks(method: Method) -> None:
    earlier = Rig(method, seed=1)
    earlier.write(100, 128)
    skip, same, other, any_seed = (
        Rig(method, seed=seed, unknown=rule, disk=earlier.disk)
        for seed, rule in [
            (2, Unknown.SKIP),
            (1, Unknown.SAME_SEED),
            (2, Unknown.SAME_SEED),
            (2, Unknown.ANY_SEED),
        ]
    )
    assert skip.read(100, 128) is same.read(100, 128) is any_seed.read(100, 128) is None
    assert (skip.verifier.checked, skip.verifier.unknown) == (0, 32)
    assert (same.verifier.checked, same.verifier.unknown) == (32, 0)
    assert found(other, 100, 128) == (FaultKind.STALE_DATA, 100)

    wrong_method = Rig(
        Method.CRC32C if method != Method.CRC32C else Method.META,
        seed=1,
        unknown=Unknown.SAME_SEED,
        disk=earlier.disk,
    )
    fault = wrong_method.read(100, 4)
    assert fault is not None
    assert str(fault).endswith(
        f"found data of verify={method.name.lower()} in intervals of 2048 bytes: "
        "verify it with these"
    )
    for rig in (same, any_seed):
        rig.at(105)[0, 20] ^= 4
        assert found(rig, 104, 4) == (FaultKind.BIT_FLIP, 105)
        rig.at(105)[0, 20] ^= 4
        rig.at(104, 4)[:], saved = rig.at(112, 4), rig.at(104, 4).copy()
        assert found(rig, 100, 128) == (FaultKind.MISDIRECTED_WRITE, 104)
        rig.at(104, 4)[:] = 0
        assert found(rig, 100, 128) == (FaultKind.FOREIGN_DATA, 104)
        rig.at(104, 4)[:] = saved
    before = earlier.disk.copy()
    earlier.write(100, 128)
    earlier.disk[17] = before[17]
    assert found(same, 100, 128) == (FaultKind.TORN_WRITE, 117)
    assert found(any_seed, 100, 128) == (FaultKind.TORN_WRITE, 117)


# --- deallocated blocks ------------------------------------------------------------------------


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


# --- the table and the state file --------------------------------------------------------------


def test_overlapping_io_is_refused() -> None:
    rig = Rig()
    data = np.zeros(8 * 512, np.uint8)
    assert rig.verifier.begin_write(100, 8, data)
    assert not rig.verifier.begin_write(104, 8, data)
    assert not rig.verifier.begin_read(104, 8)
    assert not rig.verifier.begin_trim(104, 4, Trim.DEALLOCATE)
    rig.verifier.end_write(100, 8, ok=True)
    assert rig.verifier.begin_read(104, 8)
    assert rig.verifier.begin_read(104, 8)
    assert not rig.verifier.begin_write(108, 4, data)


def test_what_is_not_of_whole_intervals() -> None:
    rig = Rig()
    data = np.zeros(8 * 512, np.uint8)
    for lba, blocks in [(101, 4), (100, 3), (96, 4), (100 + 128, 4), (100 + 124, 8), (100, 0)]:
        with pytest.raises(ValueError, match="whole verify intervals"):
            rig.verifier.begin_write(lba, blocks, data)
        with pytest.raises(ValueError, match="whole verify intervals"):
            rig.verifier.check(lba, blocks, data)
    with pytest.raises(ValueError, match="too few for 12 blocks"):
        rig.verifier.begin_write(100, 12, data)
    with pytest.raises(ValueError, match="smaller than one verify interval"):
        VerifyTable(Region(block_size=512, blocks=3, interval_blocks=4), 0)
    with pytest.raises(ValueError, match="cannot be set up"):
        Verifier(rig.table, Method.PATTERN, pattern=b"1234567", offsets=(0,))


def test_promises() -> None:
    rig = Rig()
    assert rig.table.promise(100) is None
    rig.write(100, 4, ok=False)
    promise = rig.table.promise(103)
    assert promise is not None
    assert (promise.issued, promise.acknowledged, promise.seen) == (1, None, None)
    acknowledged = rig.write(100, 4)
    rig.write(100, 4, ok=False)
    assert rig.read(100, 4) is None
    promise = rig.table.promise(100)
    assert promise is not None
    assert (promise.issued, promise.acknowledged, promise.seen) == (3, 2, 3)
    assert rig.table.summary().known == rig.table.summary().in_doubt == 1
    # What was seen may not go away, though it was never acknowledged.
    for old in (acknowledged, 0):
        rig.at(100, 4)[:] = old
        assert found(rig, 100, 4) == (FaultKind.STALE_DATA, 100)


def state(path: Path, **changes: int) -> VerifyTable:
    shape = {"block_size": 512, "blocks": 1 << 24, "first_lba": 64, "interval_blocks": 2} | changes
    return VerifyTable.create_state(path, Region(**shape), 0xFEED, NAMESPACE)


def test_state_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    table = state(path)
    verifier = Verifier(table, Method.META)
    data = np.zeros(64 * 512, np.uint8)
    for lba in (64, 64 + (1 << 20), 64 + (1 << 24) - 64):
        assert verifier.begin_write(lba, 64, data)
        verifier.end_write(lba, 64, ok=lba != 64)
    assert verifier.begin_write(1000, 2, data)
    assert path.stat().st_blocks * 512 < 100_000  # sparse: the table is 64 MiB
    words, sequence = table.words.copy(), table.sequence
    table.close()
    with VerifyTable.open_state(path, NAMESPACE) as again:
        assert (again.region, again.seed) == (table.region, 0xFEED)
        assert again.sequence > sequence + 1000
        outstanding = (1000 - 64) // 2
        assert words[outstanding] != again.words[outstanding]
        words[outstanding] = again.words[outstanding]
        assert np.array_equal(words, again.words)
        promise = again.promise(1000)
        assert promise is not None
        assert (promise.acknowledged, promise.outstanding) == (None, False)
        assert list(again.known(40)) == [
            (64, 40),
            (104, 24),
            (1000, 2),
            (64 + (1 << 20), 40),
            (104 + (1 << 20), 24),
            ((1 << 24), 40),
            (40 + (1 << 24), 24),
        ]
        assert (again.summary().known, again.summary().in_doubt) == (97, 33)


def test_state_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(StateFileError, match="does not exist: give"):
        VerifyTable.open_state(path, NAMESPACE)
    with state(path):
        with pytest.raises(StateFileError, match="is in use by another run"):
            VerifyTable.open_state(path, NAMESPACE)
        with pytest.raises(StateFileError, match="exists already: verify"):
            state(path)
    other = NamespaceIdentity(device="qemu:", nsid=1, serial="S1", nguid="cd" * 16)
    with pytest.raises(StateFileError, match="not about this one: give that device"):
        VerifyTable.open_state(path, other)
    renamed = NamespaceIdentity(device="vfio:0000:01:00.0", nsid=2, nguid="ab" * 16)
    VerifyTable.open_state(path, renamed).close()
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(StateFileError, match="cut short"):
        VerifyTable.open_state(path, NAMESPACE)
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\x99")
    with pytest.raises(StateFileError, match="not a state file, or is damaged"):
        VerifyTable.open_state(path, NAMESPACE)


def test_identity_falls_back() -> None:
    def identity(**parts: str) -> NamespaceIdentity:
        return NamespaceIdentity(device="d", nsid=1, **parts)

    assert identity(eui64="1" * 16).is_same(identity(eui64="1" * 16, serial="x"))
    assert not identity(eui64="1" * 16).is_same(identity(eui64="2" * 16))
    assert not identity(nguid="1" * 32).is_same(identity())
    assert identity(serial="a").is_same(identity(serial="a"))
    assert not identity(serial="a").is_same(identity(serial="b"))


# --- kill -9 -----------------------------------------------------------------------------------

#: Writes through the table to a file that is the disk, and says what was acknowledged. A logical
#: block is written by one call within a page, which a kill does not divide: it is atomic, as NVMe
#: has it. Arguments: state file, disk file, seed, the step at which to kill itself (-1: never).
CHILD = """
import os, random, signal, sys
import numpy as np
from pynvme_user.verification import *
from pynvme_user.verify_state import *

state, disk, seed, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
namespace = NamespaceIdentity(device="file", nsid=1, serial="F")
table = VerifyTable.open_state(state, namespace)
verifier = Verifier(table, Method.CRC32C)
fd = os.open(disk, os.O_RDWR)
choice = random.Random(seed)
step = 0

def live():
    global step
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)
    step += 1

print("ready", flush=True)
data = np.zeros(16 * 512, np.uint8)
while True:
    count = choice.randint(1, 4)
    lba, blocks = choice.randint(0, 64 - count) * 4, count * 4
    assert verifier.begin_write(lba, blocks, data)
    live()
    order = list(range(blocks))
    choice.shuffle(order)
    for block in order:
        os.pwrite(fd, data[block * 512 : block * 512 + 512].tobytes(), (lba + block) * 512)
        live()
    verifier.end_write(lba, blocks, ok=True)
    live()
    for start in range(lba, lba + blocks, 4):
        os.write(1, f"{start} {table.promise(start).issued}\\n".encode())
"""
FILE = NamespaceIdentity(device="file", nsid=1, serial="F")


def run_and_kill(state_path: Path, disk: Path, seed: int, last: int, lines: int) -> dict[int, int]:
    """Run the child until it is killed; return what it said was acknowledged last, by LBA."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, state_path, disk, str(seed), str(last)],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    said: dict[int, int] = {}
    for number, line in enumerate(child.stdout):
        if number == lines:
            child.kill()
        if line.endswith(b"\n"):
            lba, generation = map(int, line.split())
            said[lba] = generation
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return said


def judge(state_path: Path, disk: Path, said: dict[int, int], kills: int) -> None:
    """What was acknowledged is promised and there; taking it away is found."""
    content = np.fromfile(disk, np.uint8).reshape(-1, 512)
    with VerifyTable.open_state(state_path, FILE) as table:
        verifier = Verifier(table, Method.CRC32C)
        for lba, generation in said.items():
            promise = table.promise(lba)
            assert promise is not None
            assert promise.acknowledged is not None
            assert generation <= promise.acknowledged <= promise.issued
            assert not promise.outstanding
        assert table.summary().in_doubt <= 4 * kills  # of each the one write under way
        for lba, blocks in table.known(16):
            assert verifier.begin_read(lba, blocks)
            assert verifier.check(lba, blocks, content[lba : lba + blocks]) is None
            verifier.end_read(lba, blocks)
        for lba in said:
            fault = verifier.check(lba, 4, np.zeros(2048, np.uint8))
            assert fault is not None
            assert fault.kind == FaultKind.STALE_DATA  # it was read just now


def files(tmp_path: Path) -> tuple[Path, Path]:
    state_path, disk = tmp_path / "state", tmp_path / "disk"
    VerifyTable.create_state(
        state_path, Region(block_size=512, blocks=256, interval_blocks=4), 99, FILE
    ).close()
    disk.write_bytes(bytes(256 * 512))
    return state_path, disk


@pytest.mark.kills
def test_kill_at_each_step(tmp_path: Path) -> None:
    """At each point of a write in turn, always on the files that the kill before left."""
    state_path, disk = files(tmp_path)
    for kills, last in enumerate([0, 1, 2, 5, 11, 18, 19, 20, 40, 41], 1):
        judge(state_path, disk, run_and_kill(state_path, disk, last, last, -1), kills)


@pytest.mark.kills
def test_kill_from_outside(tmp_path: Path) -> None:
    state_path, disk = files(tmp_path)
    choice = random.Random(int(time.time()) // 86400)
    for kills in range(1, 7):
        said = run_and_kill(state_path, disk, kills, -1, choice.randint(1, 2000))
        assert said
        judge(state_path, disk, said, kills)
