"""The sequences of I/Os: each block once, the ends, the seeds, and any parameters at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from generator_rig import (
    BLOCK,
    DRAWS,
    ONE_BLOCK,
    Ios,
    K,
    Law,
    Sizes,
    endless,
    follows,
    generator,
)
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.native import lib
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.generator import READ, RW, WRITE, permutation


def test_directions_have_the_numbers_that_c_has() -> None:
    assert {f"NVME_DIRECTION_{way.name}": way.value for way in Direction} == {
        name: getattr(lib, name) for name in dir(lib) if name.startswith("NVME_DIRECTION_")
    }


# --- order and coverage -------------------------------------------------------------------------

AWKWARD = [1, 2, 3, 4, 5, 7, 11, 22, 23, 24, 63, 64, 65, 997, 1000, 1024, 4096, 4097, 99_991]


@pytest.mark.parametrize("count", AWKWARD)
@pytest.mark.parametrize("rw", ["randwrite", "randrw"])
def test_each_block_exactly_once(count: int, rw: str) -> None:
    job = generator(rw, Sizes(), size=count * 4 * K + 3 * K, offset=8 * K)
    assert job.map_bytes == 0
    for _ in range(2):
        ios = job.take(count + 10)
        assert sorted(ios["lba"]) == list(range(16, 16 + count * 8, 8))
        job.reset()


@pytest.mark.parametrize("count", AWKWARD)
@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(4 * K, 12 * K),
        Sizes(4 * K, 1 << 20),
        Sizes(split=((4 * K, 50), (8 * K, 30), (1 << 20, 20))),
        Sizes(split=((8 * K, 50), (12 * K, 50))),
    ],
    ids=["range", "wide range", "split", "split without a common divisor in it"],
)
def test_each_block_exactly_once_with_many_sizes(count: int, sizes: Sizes) -> None:
    if sizes.split and sizes.split[0][0] > count * 4 * K:
        count += 1
    job = generator("randread", sizes, size=count * 4 * K + K, seed=count)
    ios = job.take(count + 10)
    assert 0 < job.map_bytes <= count / 8 * 65 / 64 + 8 * 4
    used = np.concatenate([np.arange(io["lba"], io["lba"] + io["blocks"]) for io in ios])
    assert np.array_equal(np.sort(used), np.arange(count * 8))
    # Again, in another order, when the time is not over.
    again = generator("randread", sizes, size=count * 4 * K + K, seed=count, time_based=True)
    assert np.array_equal(again.take(len(ios)), ios)
    second = again.take(3 * count)
    ends = np.cumsum(second["blocks"])
    half = second[ends <= count * 8]
    used = np.concatenate([np.arange(io["lba"], io["lba"] + io["blocks"]) for io in half])
    assert np.array_equal(np.sort(used), np.arange(count * 8))


def test_passes_of_a_cycle_differ() -> None:
    ios = generator("randread", loops=20).take(30_000)["lba"].reshape(20, 1000)
    assert (np.sort(ios) == np.arange(1000)).all()
    assert len({tuple(one) for one in ios}) == 20
    # First places, of many passes, are anywhere.
    many = endless("randread", size=64 * BLOCK, norandommap=False).take(64 * 5000)["lba"]
    assert follows(np.bincount(many[::64].astype(int), minlength=64), np.ones(64))


def test_cycle_numbers() -> None:
    for count in [*range(1, 300), 2**20, 2**32 - 1, 2**40 + 1, 2**62]:
        prime, root = permutation(count)
        half = (prime - 1) // 2
        assert count < prime < 2**63
        assert pow(root, half, prime) != 1
        assert pow(root, 2, prime) != 1
        if count < 300:
            assert all(n % d for n in (prime, half) for d in range(2, n))
            assert len({pow(root, i, prime) for i in range(prime - 1)}) == prime - 1
        else:
            assert prime - count < 100 * math.log(count) ** 2


def test_a_cycle_as_large_as_a_region_can_be() -> None:
    """Products of 126 bits: against Python's own."""
    job = generator(size=2**62 * BLOCK, seed=9)
    prime, _ = permutation(2**62)
    lbas = [int(lba) + 1 for lba in job.take(2000)["lba"]]
    factor = int(job.pointer.factor)
    for before, after in itertools.pairwise(lbas):
        expected = before * factor % prime
        while expected > 2**62:
            expected = expected * factor % prime
        assert after == expected


def test_sequential() -> None:
    ios = generator("read", Sizes(), size=10 * 4 * K, offset=512 * 6, io_size=25 * 4 * K).take(100)
    assert ios["lba"].tolist() == [6 + i % 10 * 8 for i in range(25)]
    mixed = generator("rw", Sizes(), size=64 << 20).take(100_000)
    assert len(mixed) == (64 << 20) // (4 * K)
    for direction in (READ, WRITE):
        lbas = mixed[mixed["direction"] == direction]["lba"]
        assert lbas.tolist() == list(range(0, len(lbas) * 8, 8))
    varied = generator("write", Sizes(4 * K, 16 * K), size=1001 * 4 * K).take(10_000)
    assert varied["lba"][1:].tolist() == np.cumsum(varied["blocks"])[:-1].tolist()
    assert varied["blocks"].sum() == 1001 * 8


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rw", ["read", "randread", "randrw", "rw", "zone-append"])
@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 125),
        ({"size": 999 * BLOCK}, 124),
        ({"loops": 3}, 375),
        ({"io_size": 40 * K}, 10),
        ({"io_size": 41 * K}, 11),
        ({"io_size": 40 * K, "loops": 3}, 30),
        ({"io_size": 4000 * K}, 1000),
        ({"number_ios": 7}, 7),
        ({"number_ios": 7, "loops": 2}, 14),
        ({"number_ios": 7, "time_based": True}, 7),
        ({"number_ios": 0}, 0),
        ({"time_based": True}, 5000),
        ({"time_based": True, "io_size": 40 * K}, 5000),
    ],
    ids=str,
)
def test_the_end(rw: str, options: dict[str, object], count: int) -> None:
    job = generator(rw, Sizes(), **options)
    if rw == "rw" and count == 124:
        count += 1  # neither direction comes to the end, so the last I/O goes beyond the size
    assert len(job.take(5000)) == count
    if count < 5000:
        assert len(job.take(5)) == 0


def test_norandommap_ends_with_its_size() -> None:
    job = generator("randread", Sizes(), norandommap=True)
    ios = job.take(5000)
    assert len(ios) == 125
    assert len(set(ios["lba"])) < 125


# --- seeds --------------------------------------------------------------------------------------

MIXED = Sizes(4 * K, 16 * K, align=4 * K)


def mixed(**options: object) -> Ios:
    return endless("randrw", MIXED, **{"size": 1 << 30, **options}).take(1000)


def test_same_seed_same_sequence() -> None:
    assert np.array_equal(mixed(seed=5), mixed(seed=5))
    starts = {
        tuple(mixed(seed=seed, clone=clone)["lba"]) for seed in range(8) for clone in range(8)
    }
    assert len(starts) == 64
    job = endless("randrw", MIXED)
    first = job.take(500)
    job.reset()
    assert np.array_equal(job.take(500), first)


def test_a_drawn_seed_is_told() -> None:
    one, two = (endless(seed=None) for _ in range(2))
    assert one.seed != two.seed
    assert np.array_equal(one.take(100), endless(seed=one.seed).take(100))


def test_streams_do_not_disturb_each_other() -> None:
    plain = mixed()
    other_mix = mixed(rwmixread=20)
    assert (other_mix["direction"] != plain["direction"]).any()
    assert np.array_equal(other_mix["lba"], plain["lba"])
    assert np.array_equal(other_mix["blocks"], plain["blocks"])
    other_sizes = mixed(block_sizes=[replace(MIXED, high=64 * K)] * 3)
    assert (other_sizes["blocks"] != plain["blocks"]).any()
    assert np.array_equal(other_sizes["lba"], plain["lba"])
    assert np.array_equal(other_sizes["direction"], plain["direction"])
    elsewhere = mixed(size=1 << 31)
    assert (elsewhere["lba"] != plain["lba"]).any()
    assert np.array_equal(elsewhere["blocks"], plain["blocks"])
    assert np.array_equal(elsewhere["direction"], plain["direction"])


def test_streams_are_not_the_same_numbers() -> None:
    """Order, direction, size and half of the region, together: all outcomes alike."""
    sizes = Sizes(BLOCK, 2 * BLOCK)
    ios = endless("randrw", sizes, size=1 << 40, percentage_random=50, seed=1).take(DRAWS)
    is_random = np.zeros(len(ios), bool)
    for direction in (READ, WRITE):
        chosen = np.flatnonzero(ios["direction"] == direction)
        ends = ios["lba"][chosen] + ios["blocks"][chosen]
        is_random[chosen[1:]] = ios["lba"][chosen[1:]] != ends[:-1]
    fields = (is_random, ios["direction"], ios["blocks"] - 1, ios["lba"] >> np.uint64(30))
    outcomes = sum(field.astype(int) << i for i, field in enumerate(fields))
    # Of an I/O that follows another, the half is the other's: only its other fields are chance.
    assert follows(np.bincount(outcomes & 7, minlength=8), np.ones(8))
    assert follows(np.bincount(outcomes[is_random] >> 1, minlength=8), np.ones(8))
    # Streams that are drawn from in step would show it at once.
    ios = endless("randread", sizes, size=1 << 40, seed=1).take(DRAWS)
    outcomes = (ios["blocks"] - 1) * 2 + (ios["lba"] >> np.uint64(30))
    assert follows(np.bincount(outcomes.astype(int), minlength=4), np.ones(4))


def test_the_sequence_of_a_seed_is_what_it_was() -> None:
    """SplitMix64 without its last step, by its definition; and the cycle, as it came out once."""
    gamma, word = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(state: int) -> int:
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & word
        return (state ^ state >> 27) * 0x94D049BB133111EB & word

    seed, clone, stream = 42, 3, 0
    state = mix(mix(mix(seed + gamma) + clone + gamma & word) + stream + gamma & word)
    expected = [mix(state + i * gamma & word) * 1000 >> 64 for i in range(1, 100)]
    assert endless(seed=seed, clone=clone).take(99)["lba"].tolist() == expected
    assert generator(seed=42).take(6)["lba"].tolist() == [981, 60, 284, 796, 365, 690]


def test_a_mix_that_follows_its_own_directions_is_the_same() -> None:
    for options in ({}, {"norandommap": False, "size": 4 << 20, "time_based": False}):
        ios = mixed(**options)
        assert len(ios) > 400
        followed = endless("randrw", MIXED, **{"size": 1 << 30, **options})
        assert np.array_equal(followed.follow(ios["direction"].astype(np.uint8)), ios)


@pytest.mark.parametrize("sizes", [ONE_BLOCK, Sizes(BLOCK, 5 * BLOCK)], ids=["cycle", "map"])
def test_a_mix_of_any_directions_has_each_block_once(sizes: Sizes) -> None:
    wanted = np.arange(2000) % 7 == 0
    ios = generator("randrw", sizes).follow(wanted.astype(np.uint8))
    assert len(ios) < 2000
    assert (ios["direction"] == wanted[: len(ios)]).all()
    covered = [lba + n for lba, blocks, _ in ios.tolist() for n in range(blocks)]
    assert sorted(covered) == list(range(1000))


# --- any parameters -----------------------------------------------------------------------------

blocks = st.integers(1, 40).map(lambda n: n * BLOCK)


@st.composite
def some_sizes(draw: st.DrawFn) -> Sizes:
    low = draw(blocks)
    if draw(st.booleans()):
        percent = draw(st.integers(0, 100))
        return Sizes(split=((low, percent), (draw(blocks), 100 - percent)))
    high = draw(st.integers(low // BLOCK, 80)) * BLOCK
    return Sizes(low, high, align=draw(st.sampled_from([0, BLOCK, low, 7 * BLOCK])))


@given(
    rw=st.sampled_from(sorted(RW)),
    sizes=st.lists(some_sizes(), min_size=3, max_size=3),
    size=st.integers(80 * BLOCK, 5000 * BLOCK),
    offset=st.integers(0, 100).map(lambda n: n * BLOCK),
    io_size=st.none() | st.integers(1, 5000 * BLOCK),
    number_ios=st.none() | st.integers(0, 50),
    loops=st.integers(1, 3),
    rwmixread=st.integers(0, 100),
    percentage_random=st.sampled_from([100, 100, 50, 0]),
    norandommap=st.booleans(),
    distribution=st.none()
    | st.builds(Law, st.just("zipf"), st.floats(0.01, 4), st.none() | st.floats(0, 1))
    | st.builds(Law, st.just("pareto"), st.floats(0.01, 0.99), st.none() | st.floats(0, 1))
    | st.builds(Law, st.just("normal"), st.floats(0, 99), st.none() | st.floats(0, 1)),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_job_stays_in_its_region_and_ends(
    rw: str,
    sizes: list[Sizes],
    size: int,
    offset: int,
    io_size: int | None,
    number_ios: int | None,
    loops: int,
    **options: object,
) -> None:
    job = generator(
        rw,
        block_sizes=sizes,
        size=size,
        offset=offset,
        io_size=io_size,
        number_ios=number_ios,
        loops=loops,
        **options,
    )
    ios = job.take(40_000)
    assert len(ios) < 40_000
    assert len(job.take(1)) == 0
    if number_ios is not None:
        assert len(ios) <= number_ios * loops * (2 if "trimwrite" in rw else 1)
    elif io_size is not None:
        assert len(ios)
    if len(ios):
        assert ios["lba"].min() >= offset // BLOCK
        assert (ios["lba"] + ios["blocks"]).max() <= (offset + size) // BLOCK
        assert 0 < ios["blocks"].max() <= job.largest
        assert set(ios["direction"]) <= set(RW[rw][1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("deviation", [5e-324, 1e-300, 1e-12])
def test_the_narrowest_bell_curve(deviation: float) -> None:
    """All of it is the two blocks at its center."""
    law = Law("normal", deviation, 0.5)
    job = generator("randread", distribution=law, size=BLOCK << 10, number_ios=100)
    assert set(job.take(100)["lba"].tolist()) == {511, 512}


# --- errors -------------------------------------------------------------------------------------


def with_sizes(sizes: Sizes) -> dict[str, Sequence[Sizes]]:
    return {"block_sizes": [sizes] * 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rw": "readrand"}, "give one of read, "),
        (with_sizes(Sizes(1000, 1000)), "multiple of 512"),
        (with_sizes(Sizes(8 * K, 4 * K)), "the smaller size first"),
        (with_sizes(Sizes(0, 4 * K)), "the smaller size first"),
        (with_sizes(Sizes(1 << 42, 1 << 42)), "the smaller size first"),
        (with_sizes(Sizes(split=((4 * K, 50), (8 * K, 40)))), "do not add up to 100"),
        (with_sizes(Sizes(1 << 20, 1 << 20)), "give more size"),
        (with_sizes(Sizes(align=100)), "multiple of 512"),
        ({"offset": 100}, "multiple of 512"),
        ({"offset": -512}, "multiple of 512"),
        ({"size": 511}, "cannot be used"),
        ({"size": 2**62 * 512 + 512}, "cannot be used"),
        ({"io_size": 0}, "cannot be used"),
        ({"rwmixread": 101}, "rwmixread is 101: give 0 to 100"),
        ({"percentage_random": -1}, "percentage_random is -1"),
        ({"distribution": Law("zipf", 0)}, "above 0"),
        ({"distribution": Law("pareto", 1)}, "between 0 and 1"),
        ({"distribution": Law("normal", 100)}, "0 to below 100"),
        ({"distribution": Law("zipf", 1.2, 1.5)}, "from 0 to 1"),
        ({"distribution": Law("exponential", 1)}, "no random distribution 'exponential'"),
        (
            {"distribution": Law("zoned", zones=(((60, 50), (30, 50)),) * 3)},
            "do not add up to 100 %",
        ),
        (
            {"distribution": Law("zoned", zones=(((60, 50), (40, 60)),) * 3)},
            "larger than the region",
        ),
        (
            {"distribution": Law("zoned_abs", zones=(((60, 512), (40, 511)),) * 3)},
            "smaller than one",
        ),
        (
            {"distribution": Law("zoned_abs", zones=(((100, 1001 * 512),),) * 3)},
            "larger than the region",
        ),
    ],
    ids=str,
)
def test_errors_name_the_remedy(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator(**options)  # type: ignore[arg-type]
