"""Data verification: each fault by its name.

What must be found follows from how the fault was planted, not from the code under test.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verify_rig import HEADERS, Rig, found

from pynvme_user.workload.verification import FaultKind, Method, Trim, Unknown


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
    page = (Path(__file__).parents[3] / "docs" / "verification.md").read_text()
    assert said == re.search(r"```text\n(.*?)```", page, re.DOTALL)[1].splitlines()


# --- data that the table knows nothing of ---------------------------------------------------------


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
