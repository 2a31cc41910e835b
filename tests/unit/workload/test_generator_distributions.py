"""The distributions of the sequences of I/Os, by chi-squared tests: offsets, directions, sizes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from generator_rig import (
    BLOCK,
    DRAWS,
    K,
    Law,
    Sizes,
    endless,
    follows,
    generator,
    p_value,
    positions,
)

from pynvme_user.workload.generator import READ, TRIM, WRITE, bins_of, permutation

# --- uniform ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 1000, 1024, 4999])
@pytest.mark.parametrize("rw", ["randread", "randrw"])
def test_uniform(count: int, rw: str) -> None:
    ios = endless(rw, size=count * BLOCK, seed=7).take(DRAWS)
    assert follows(positions(ios, count), np.ones(count))
    assert p_value(positions(ios, count), np.ones(count) + 0.2 * (np.arange(count) % 2)) < 1e-9


def test_uniform_on_a_region_of_2_to_the_53_bytes() -> None:
    count = (1 << 44) + 12345
    ios = endless(size=count * BLOCK, seed=1).take(DRAWS)
    assert follows(np.histogram(ios["lba"], 1000, (0, count))[0], np.ones(1000))
    # The low bits too, of which a poor generator would be ashamed.
    assert follows(np.bincount((ios["lba"] % np.uint64(997)).astype(int)), np.ones(997))


@pytest.mark.parametrize("norandommap", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_neighbours_are_independent(norandommap: bool, seed: int) -> None:
    """Also those of a cycle, each start of which comes once: of 4 million, by their 32nds."""
    count = 4_000_037
    ios = endless(size=count * BLOCK, norandommap=norandommap, seed=seed).take(DRAWS)
    parts = (ios["lba"] * np.uint64(32) // np.uint64(count)).astype(int)
    for step in (1, 2):
        pairs = np.bincount(parts[:-step] * 32 + parts[step:], minlength=1024)
        assert 1e-4 < p_value(pairs, np.ones(1024)) < 1 - 1e-4
    assert follows(np.bincount(parts, minlength=32), np.ones(32)) or not norandommap


# --- other distributions ----------------------------------------------------------------


def scrambled(ranks: int, center: int) -> npt.NDArray[np.int64]:
    """Position of each rank, by the definition: powers of a root, the hottest at the center."""
    prime, root = permutation(ranks)
    places = []
    for rank in range(ranks):
        x = (rank + 1) * root % prime
        while x > ranks:
            x = x * root % prime
        places.append(x - 1)
    assert sorted(places) == list(range(ranks))
    return (np.array(places) - places[0] + center) % ranks


@pytest.mark.parametrize("theta", [0.4, 0.99, 1.0, 1.2, 3.0])
@pytest.mark.parametrize("ranks", [1, 2, 5003, 30_000])
def test_zipf(theta: float, ranks: int) -> None:
    ios = endless(size=ranks * BLOCK, distribution=Law("zipf", theta, 0.25), seed=3).take(DRAWS)
    by_rank = positions(ios, ranks)[scrambled(ranks, ranks // 4)]
    if ranks == 1:
        assert by_rank.tolist() == [DRAWS]
        return
    assert follows(by_rank, np.arange(1.0, ranks + 1) ** -theta)
    assert p_value(by_rank, np.arange(1.0, ranks + 1) ** -(theta + 0.1)) < 1e-9


@pytest.mark.parametrize("h", [0.1, 0.2, 0.5, 0.8])
def test_pareto(h: float) -> None:
    ranks = 8009
    ios = endless(size=ranks * BLOCK, distribution=Law("pareto", h, 0.0), seed=3).take(DRAWS)
    by_rank = positions(ios, ranks)[scrambled(ranks, 0)]
    # fio's draw is ranks * u ** (log h / log(1 - h)), of a uniform u.
    edges = (np.arange(ranks + 1) / ranks) ** (math.log(1 - h) / math.log(h))
    assert follows(by_rank, np.diff(edges))
    assert by_rank[: int(ranks * h)].sum() / DRAWS == pytest.approx(1 - h, abs=0.005)
    other = (np.arange(ranks + 1) / ranks) ** (math.log(0.98 - h) / math.log(h + 0.02))
    assert p_value(by_rank, np.diff(other)) < 1e-9


@pytest.mark.parametrize(("deviation", "center"), [(5, None), (20, None), (10, 0.0), (0, 0.7)])
def test_normal(deviation: float, center: float | None) -> None:
    count = 6007
    ios = endless(size=count * BLOCK, distribution=Law("normal", deviation, center)).take(DRAWS)
    mean = count * (0.5 if center is None else center)
    # Without a deviation fio's curve has a twelfth of the region.
    sigma = count * (deviation / 100 or 1 / 12)

    def bell(sigma: float) -> npt.NDArray[np.float64]:
        scaled = (np.arange(count + 1) - mean) / (sigma * math.sqrt(2))
        return np.diff([math.erf(x) for x in scaled])

    assert follows(positions(ios, count), bell(sigma))
    assert p_value(positions(ios, count), bell(sigma * 1.06)) < 1e-9


@pytest.mark.parametrize("kind", ["zoned", "zoned_abs"])
def test_zones(kind: str) -> None:
    count = 2000
    shares = ((60, 10), (30, 20), (8, 30), (2, 15))
    zones = shares
    if kind == "zoned_abs":
        zones = tuple((access, size * count // 100 * BLOCK) for access, size in shares)
    ios = endless(size=count * BLOCK, distribution=Law(kind, zones=(zones,) * 3), seed=2).take(
        DRAWS
    )
    expected = np.concatenate([np.full(size * 20, access / size) for access, size in shares])
    counts = positions(ios, count)
    assert follows(counts[: len(expected)], expected)
    assert not counts[len(expected) :].any()


def test_zones_of_each_direction() -> None:
    count = 1000
    shares = [((90, 10), (10, 90)), ((20, 50), (80, 50))]
    law_of_each = Law("zoned", zones=(*shares, shares[0]))
    ios = endless("randrw", size=count * BLOCK, distribution=law_of_each, seed=3).take(DRAWS)
    for direction, zones in zip((READ, WRITE), shares, strict=True):
        expected = np.concatenate([np.full(size * 10, access / size) for access, size in zones])
        assert follows(positions(ios[ios["direction"] == direction], count), expected)


@pytest.mark.parametrize("ranks", [1, 1023, 1024, 1025, 3_000_017])
@pytest.mark.parametrize(("kind", "theta"), [("zipf", 1.2), ("zipf", 0.5), ("pareto", 0.2)])
def test_tables_have_the_exact_distribution(ranks: int, kind: str, theta: float) -> None:
    edges, table, probabilities = bins_of(kind, theta, None, (), ranks, BLOCK)
    if kind == "zipf":
        each = np.arange(1.0, ranks + 1) ** -theta
    else:
        each = np.diff((np.arange(ranks + 1) / ranks) ** (math.log(1 - theta) / math.log(theta)))
    each /= each.sum()
    starts = edges[:-1].astype(np.int64)
    assert edges[-1] == ranks
    np.testing.assert_allclose(probabilities, np.add.reduceat(each, starts), rtol=1e-6)
    # Within a bin all ranks are as likely: no rank is far from its own probability by it.
    widths = np.diff(edges).astype(np.int64)
    np.testing.assert_allclose(np.repeat(probabilities / widths, widths), each, rtol=2e-3)
    # What the alias table makes of it, column by column.
    own = table["threshold"] / 2**32
    drawn = np.bincount(table["alias"], 1 - own, minlength=len(table)) + own
    np.testing.assert_allclose(drawn / len(table), probabilities, rtol=1e-5, atol=1e-9)


def test_hottest_block_is_at_the_center() -> None:
    def hottest(center: float | None, **options: object) -> int:
        ios = endless(distribution=Law("zipf", 1.5, center), **options).take(20_000)
        return int(positions(ios, 1000).argmax())

    assert [hottest(center) for center in (0.0, 0.25, 0.9991, 1.0)] == [0, 250, 999, 999]
    assert len({hottest(None, seed=seed) for seed in range(10)}) > 5
    assert hottest(None, seed=3) == hottest(None, seed=3)


def test_law_with_larger_and_misfitting_blocks_stays_in_the_region() -> None:
    sizes = [Sizes(4 * K, 4 * K), Sizes(12 * K, 12 * K), Sizes()]
    ios = endless("randrw", block_sizes=sizes, distribution=Law("normal", 20, 1.0)).take(20_000)
    assert (ios["lba"] + ios["blocks"]).max() <= 1000
    for direction, blocks in ((READ, 8), (WRITE, 24)):
        chosen = ios[ios["direction"] == direction]
        assert not (chosen["lba"] % blocks).any()
        assert (chosen["blocks"] == blocks).all()


# --- directions and sizes -----------------------------------------------------------------------


@pytest.mark.parametrize("percent", [0, 1, 30, 50, 99, 100])
@pytest.mark.parametrize("rw", ["rw", "randrw"])
def test_rwmixread(percent: int, rw: str) -> None:
    ios = endless(rw, rwmixread=percent, seed=5).take(DRAWS)
    reads = int((ios["direction"] == READ).sum())
    assert set(np.unique(ios["direction"])) <= {READ, WRITE}
    if percent in (0, 100):
        assert reads == DRAWS * percent // 100
    else:
        assert follows([reads, DRAWS - reads], [percent, 100 - percent])
        assert not follows([reads, DRAWS - reads], [percent + 0.5, 99.5 - percent])


@pytest.mark.parametrize("rw", ["randread", "read"])
def test_split_has_its_shares(rw: str) -> None:
    split = Sizes(split=((64 * K, 30), (4 * K, 60), (8 * K, 0), (512, 10)))
    # So large that the end, where some do not fit, does not count.
    ios = endless(rw, split, size=1 << 44, seed=1).take(DRAWS)
    sizes, counts = np.unique(ios["blocks"], return_counts=True)
    assert sizes.tolist() == [1, 8, 128]
    assert follows(counts, [10, 60, 30])
    assert not follows(counts, [11, 59, 30])


def test_range_has_the_multiples_of_the_smallest_alike() -> None:
    ios = endless("randwrite", Sizes(4 * K, 30 * K), size=1 << 40, seed=1).take(DRAWS)
    sizes, counts = np.unique(ios["blocks"], return_counts=True)
    assert sizes.tolist() == [8, 16, 24, 32, 40, 48, 56]
    assert follows(counts, np.ones(7))


def test_sizes_by_direction() -> None:
    sizes = [Sizes(4 * K, 4 * K), Sizes(8 * K, 16 * K), Sizes()]
    ios = endless("randrw", block_sizes=sizes, size=1 << 30, seed=1).take(10_000)
    assert set(ios[ios["direction"] == READ]["blocks"]) == {8}
    assert set(ios[ios["direction"] == WRITE]["blocks"]) == {16, 32}
    assert set(ios[ios["direction"] == WRITE]["lba"] % 16) == {0}


def test_blockalign() -> None:
    ios = endless("randread", Sizes(4 * K, 4 * K, align=512), seed=3).take(DRAWS)
    assert follows(positions(ios, 993), np.ones(993))
    ios = endless("randread", Sizes(4 * K, 4 * K, align=32 * K), seed=3).take(1000)
    assert set(ios["lba"]) == set(range(0, 1000, 64))
    # As fio: an alignment turns off the map.
    covering = generator("randread", Sizes(4 * K, 4 * K, align=512))
    assert len(set(covering.take(1000)["lba"])) < 125 == len(generator("read", Sizes()).take(1000))


def test_percentage_random() -> None:
    ios = endless("randread", size=1 << 40, percentage_random=30, seed=4).take(DRAWS)
    follow = int((ios["lba"][1:] == ios["lba"][:-1] + 1).sum())
    assert follows([DRAWS - 1 - follow, follow], [30, 70])
    # In a random workload the region's end is no end: what does not fit there is random.
    tail = endless("randread", size=20 * BLOCK, io_size=1 << 20, percentage_random=0).take(1000)
    assert tail["lba"].max() == 19
    assert len({tuple(tail["lba"][i : i + 2]) for i in range(999) if tail["lba"][i] == 19}) > 5
    by_direction = endless("randrw", size=1 << 40, percentage_random=[100, 0, 50]).take(1000)
    writes = by_direction[by_direction["direction"] == WRITE]["lba"]
    assert writes.tolist() == list(range(len(writes)))


@pytest.mark.parametrize("rw", ["trimwrite", "randtrimwrite"])
def test_trimwrite_writes_what_it_trimmed(rw: str) -> None:
    sizes = [Sizes(), Sizes(64 * K, 64 * K), Sizes(4 * K, 16 * K)]
    ios = generator(rw, block_sizes=sizes, size=999 * 4 * K).take(5000)
    trims, writes = ios[::2], ios[1::2]
    assert set(trims["direction"]) == {TRIM}
    assert set(writes["direction"]) == {WRITE}
    for field in ("lba", "blocks"):
        assert (trims[field] == writes[field]).all()
    assert trims["blocks"].sum() == writes["blocks"].sum() == 999 * 8
