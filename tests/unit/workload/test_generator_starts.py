"""Where an I/O starts other than after the last, or at random, as fio has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from generator_rig import (
    BLOCK,
    ONE_BLOCK,
    K,
    Sizes,
    generator,
)

from pynvme_user.workload.generator import READ, WRITE


def starts(
    rw: str, size: int, sizes: Sizes = ONE_BLOCK, count: int = 1000, **more: object
) -> list[int]:
    return list(map(int, generator(rw, sizes, size=size * BLOCK, **more).take(count)["lba"]))


def test_sequential_io_leaves_out_what_it_is_told() -> None:
    """fio 3.33's own sequences, by its write_iolog, for rw=read:-8k and write:112k."""
    four = Sizes(8 * BLOCK, 8 * BLOCK)
    backwards = starts("read", 64, four, skip=-16 * BLOCK)
    assert backwards == [0, 48, 40, 32, 24, 16, 8, 0]
    large = Sizes(16 * K, 16 * K)
    forwards = starts("write", 2048, large, offset=120 * K, skip=112 * K)
    assert [lba * BLOCK for lba in forwards] == [
        *(122880, 253952, 385024, 516096, 647168, 778240, 909312, 1040384)
    ]


@pytest.mark.parametrize(
    ("offset", "size", "bs", "skip", "sequence"),
    [
        (64, 128, 4, -8, [*range(120, 63, -4), *range(184, 119, -4)]),
        (128, 64, 4, -8, [*range(184, 127, -4), 184]),
        (64, 64, 4, -8, [64, *range(120, 63, -4)]),
        (32, 64, 8, -4, [60, 64, 68, 72, 76, 80, 84, 88]),
        (3300, 5120, 100, -8, list(range(5112, 8333, 92))),
        (31 * K, K, 4, -8, [*range(32 * K - 8, 31 * K - 1, -4), 32 * K - 8]),
        (3300, 29468, 100, -8, list(range(29460, 32589, 92))),
    ],
)
def test_backwards_from_an_offset(
    offset: int, size: int, bs: int, skip: int, sequence: list[int]
) -> None:
    """fio 3.33's own sequences of a file of 32M, in KiB, by its write_iolog."""
    sizes = Sizes(bs * K, bs * K)
    options = {"offset": offset * K, "skip": skip * K, "room": (32 * K - offset) * K}
    ios = generator("read", sizes, size=size * K, **options).take(1000)
    assert (ios["lba"] * BLOCK // K).tolist() == sequence


def test_backwards_in_a_region_without_room_for_the_first() -> None:
    """fio does nothing there."""
    four = Sizes(4 * BLOCK, 4 * BLOCK)
    assert starts("read", 8, four, offset=9 * BLOCK, skip=-BLOCK, io_size=16 * BLOCK) == [
        *(9, 12, 9, 12)
    ]


def test_what_is_left_out_at_the_end() -> None:
    assert starts("read", 10, skip=2 * BLOCK) == [0, 3, 6, 9]
    assert starts("read", 9, skip=2 * BLOCK) == [0, 3, 6]
    assert starts("read", 10, skip=2 * BLOCK, loops=2) == [0, 3, 6, 9] * 2
    assert starts("read", 10, skip=2 * BLOCK, io_size=6 * BLOCK) == [0, 3, 6, 9, 0, 3]
    assert starts("read", 10, skip=20 * BLOCK) == [0]
    assert starts("read", 3, skip=2 * BLOCK, loops=3) == [0] * 3
    assert len(starts("read", 10, skip=2 * BLOCK, loops=2, number_ios=3)) == 6
    assert starts("read", 3, skip=-9 * BLOCK, count=5) == [0, 0, 0]
    assert starts("read", 10, skip=2 * BLOCK, time_based=True, count=9) == [0, 3, 6, 9] * 2 + [0]


@pytest.mark.parametrize(("skip", "rwmixread"), [(8, 50), (8, 10), (1, 50), (1, 90)])
def test_each_direction_of_a_mix_comes_to_the_end_itself(skip: int, rwmixread: int) -> None:
    """As in fio 3.33, the first that does ends the loop, or what the region has is moved."""
    ios = generator(
        "rw", ONE_BLOCK, size=1000 * BLOCK, skip=skip * BLOCK, rwmixread=rwmixread, loops=3
    ).take(10000)
    most = -(-1000 // (1 + skip))  # of one direction
    loops: list[list[tuple[int, int]]] = []
    for lba, direction in zip(ios["lba"].tolist(), ios["direction"].tolist(), strict=True):
        if not lba and (not loops or (0, direction) in loops[-1]):
            loops.append([])
        loops[-1].append((lba, direction))
    assert len(loops) == 3
    for loop in loops:
        counts = [sum(of == direction for _, of in loop) for direction in (0, 1)]
        assert max(counts) == most or sum(counts) == 1000
        assert set(loop) == {
            (place * (1 + skip), of) for of in (0, 1) for place in range(counts[of])
        }


def test_sizes_that_vary_are_skipped_between_to_the_end() -> None:
    ios = generator("read", Sizes(BLOCK, 9 * BLOCK), size=1000 * BLOCK, skip=5 * BLOCK).take(1000)
    ends = ios["lba"] + ios["blocks"]
    assert ios["lba"][1:].tolist() == (ends[:-1] + 5).tolist()
    assert 1000 - 5 <= ends[-1] <= 1000


M = K * K
FIXED = Sizes(100 * K, 100 * K)


@pytest.mark.parametrize(
    ("rw", "options", "count", "last"),
    [
        ("read", {}, 11, 1000 * K),
        ("write", {"io_size": 2 * M}, 21, 900 * K),
        ("read", {"loops": 3}, 31, 800 * K),
        ("read", {"io_size": 450 * K, "loops": 2}, 9, 800 * K),
        ("read", {"number_ios": 25}, 11, 1000 * K),
        ("read", {"skip": 20 * K}, 9, 960 * K),
        ("read", {"skip": -20 * K}, 11, 800 * K),
        ("read", {"room": M}, 10, 900 * K),
        ("read", {"room": 1100 * K - BLOCK}, 10, 900 * K),
        ("rw", {}, 11, None),
        ("randread", {}, 10, None),
        ("randread", {"loops": 2}, 20, None),
        ("randread", {"norandommap": True}, 11, None),
        ("randread", {"run": 2}, 11, None),
    ],
    ids=str,
)
def test_a_size_of_no_whole_blocks_has_as_many_ios_as_fio(
    rw: str, options: dict[str, object], count: int, last: int | None
) -> None:
    """What fio 3.33 did of 100k in 1M of a file of 16M: counts, and the last one's place."""
    ios = generator(rw, FIXED, **{"size": M, "room": 16 * M, **options}).take(100)
    assert len(ios) == count
    assert set(ios["blocks"]) == {200}
    assert last is None or ios["lba"][-1] * BLOCK == last
    assert (ios["lba"] * BLOCK).max() < M, "each begins in the region"


@pytest.mark.parametrize(
    ("rw", "options", "count"),
    [
        ("read", {}, 160),
        ("read", {"loops": 2}, 192),
        ("read", {"loops": 3}, 192),
        ("read", {"loops": 4}, 256),
        ("read", {"loops": 2, "io_size": 4032 * K}, 126),
        ("read", {"loops": 3, "io_size": 5 * M}, 192),
        ("read", {"loops": 3, "io_size": 3 * M}, 144),
        ("write", {"loops": 2}, 192),
        ("randread", {"loops": 3}, 192),
        ("randrw", {"loops": 3}, 192),
        ("randwrite", {"loops": 1}, 160),
        ("randwrite", {"loops": 3, "norandommap": True}, 480),
        ("read", {"skip": 64 * K, "loops": 2}, 160),
        ("read", {"skip": 128 * K}, 160),
        ("read", {"skip": 128 * K, "loops": 3}, 176),
        ("read", {"skip": 4 * M, "loops": 2}, 160),
        ("read", {"skip": -4 * K, "loops": 3}, 207),
        ("read", {"skip": -4 * K, "loops": 4}, 276),
    ],
    ids=str,
)
def test_loops_of_an_io_size_above_the_size_as_fios(
    rw: str, options: dict[str, object], count: int
) -> None:
    """What fio 3.33 did of 64k in 4M of a file of 64M, with io_size=10M."""
    options = {"size": 4 * M, "room": 64 * M, "io_size": 10 * M, **options}
    assert len(generator(rw, Sizes(64 * K, 64 * K), **options).take(1000)) == count


def test_a_loop_of_a_mix_ends_where_the_first_direction_does() -> None:
    sizes = Sizes(64 * K, 64 * K)
    ios = generator("rw", sizes, size=4 * M, io_size=10 * M, loops=3).take(1000)
    heads = np.flatnonzero(ios["lba"] == 0)
    for direction in (READ, WRITE):
        assert np.count_nonzero(ios["direction"][heads] == direction) == 3
    counts = [np.count_nonzero(ios["direction"] == direction) for direction in (READ, WRITE)]
    assert 64 * 3 >= max(counts) > 64 * 2.5


@pytest.mark.parametrize(
    ("percent", "blocks"), [(0, 4096), (25, 2592), (50, 2788), (75, 3255), (90, 3714)]
)
def test_io_that_is_random_in_part_covers_as_many_blocks_as_fios(percent: int, blocks: int) -> None:
    """The mean of six runs of fio 3.33, of 4096 I/Os in as many blocks."""
    made = [
        len(
            set(
                generator("randread", Sizes(), size=16 * M, percentage_random=percent, seed=seed)
                .take(5000)["lba"]
                .tolist()
            )
        )
        for seed in range(10)
    ]
    assert np.mean(made) == pytest.approx(blocks, rel=0.02)


def test_strided_zones_move_as_much_as_the_region_has() -> None:
    zones = Zoned(64 * K, 64 * K, 128 * K)
    for rw in ("read", "randread"):
        ios = generator(rw, Sizes(), size=8 * M, zones=zones).take(5000)
        assert len(ios) == 2048
        assert len(set((ios["lba"] * BLOCK // (192 * K)).tolist())) == 43
        assert (ios["lba"] * BLOCK % (192 * K)).max() < 64 * K


def test_runs_after_each_random_offset() -> None:
    ios = starts("randread", 1000, run=4, io_size=400 * BLOCK)
    heads = ios[::4]
    assert len(set(heads)) > 60
    for head, *rest in zip(heads, ios[1::4], ios[2::4], ios[3::4], strict=True):
        if head < 997:
            assert rest == [head + 1, head + 2, head + 3]
    ios = starts("randread", 1000, run=3, run_identical=True, io_size=300 * BLOCK)
    assert ios[::3] == ios[1::3] == ios[2::3]
    assert len(set(ios)) > 60


@dataclass(frozen=True)
class Zoned:
    size: int
    range: int
    skip: int = 0


def test_zones_one_after_another() -> None:
    zones = Zoned(3 * BLOCK, 4 * BLOCK, 6 * BLOCK)
    pass_ = [0, 1, 2, 10, 11, 12, 20, 21, 22]
    # As fio: until as much is moved as the region has.
    assert starts("read", 25, zones=zones) == [*pass_, *pass_, 0, 1, 2, 10, 11, 12, 20]
    assert starts("read", 25, zones=zones, io_size=9 * BLOCK, loops=2) == pass_ * 2
    assert starts("read", 25, zones=zones, io_size=12 * BLOCK) == [*pass_, 0, 1, 2]
    assert starts("read", 25, zones=zones, time_based=True, count=11) == [*pass_, 0, 1]
    # More than a zone has: it is gone through again.
    again = Zoned(5 * BLOCK, 2 * BLOCK, 2 * BLOCK)
    assert starts("read", 8, zones=again) == [0, 1, 0, 1, 0, 4, 5, 4]
    # The last zone is cut at the region's end.
    cut = [0, 1, 2, 10, 11, 12, 20, 20, 20]
    assert starts("read", 21, zones=zones) == [*cut, *cut, 0, 1, 2]


def test_random_io_stays_in_its_zone() -> None:
    zones = Zoned(50 * BLOCK, 100 * BLOCK, 150 * BLOCK)
    ios = np.array(starts("randread", 1000, zones=zones, io_size=200 * BLOCK))
    assert len(ios) == 200
    assert (ios // 250 == np.repeat(range(4), 50)).all()
    assert (ios % 250 < 100).all()
    assert len(set(ios.tolist())) > 120


def test_steps_with_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="what rw= leaves out of 100 bytes is not a whole number"):
        starts("read", 10, skip=100)
    with pytest.raises(ValueError, match="a zone is smaller than a block"):
        starts("read", 10, Sizes(4 * K, 4 * K), zones=Zoned(BLOCK * 8, BLOCK))
