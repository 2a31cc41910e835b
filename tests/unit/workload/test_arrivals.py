"""Rates: the directions of a mix arrive independently, on model time to the nanosecond."""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np
import numpy.typing as npt
import pytest
from generator_rig import BLOCK, Sizes, endless
from hypothesis import example, given
from hypothesis import strategies as st
from model_time import NS, Model, Played, play

from pynvme_user.workload.pace import Pace, Rate
from pynvme_user.workload.records import IO_DTYPE

READ, WRITE, TRIM = 0, 1, 2
WITHIN = 0.02
#: I/Os of an example.
MANY = 1000

rates = st.integers(20, 100_000)


def pace_of(*ios: float, poisson: bool = False, seed: int = 0) -> Pace:
    reads, writes = (Rate(ios=rate) for rate in ios)
    return Pace(rates=(reads, writes, Rate()), poisson=poisson, seed=seed)


def ends_of(
    due: npt.NDArray[np.int64], depth: int, service: int, parallel: int
) -> npt.NDArray[np.int64]:
    """Tell when I/Os end that come in this order into a queue of this depth, before the device."""
    outstanding: deque[int] = deque()
    free = [0] * parallel
    ends = []
    for arrival in due.tolist():
        at = arrival if len(outstanding) < depth else max(arrival, outstanding.popleft())
        end = max(at, free[0]) + service
        heapq.heapreplace(free, end)
        outstanding.append(end)
        ends.append(end)
        while len(outstanding) > depth:
            outstanding.popleft()
    return np.array(ends, np.int64)


def only_the_device_delays(played: Played, depth: int, service: int, parallel: int) -> bool:
    """Whether each I/O ended when the device alone made it wait from its arrival on."""
    due = np.sort(played.log["end_ns"].astype(np.int64) - played.log["lat"].astype(np.int64))
    ends = np.sort(played.log["end_ns"].astype(np.int64))
    return bool((ends_of(due, depth, service, parallel) == ends).all())


def is_near(count: int, wanted: float, within: float = WITHIN, more: float = 0) -> bool:
    return abs(count - wanted) <= within * wanted + more


@given(
    reads=rates,
    writes=rates,
    poisson=st.booleans(),
    rwmixread=st.integers(1, 99),
    depth=st.integers(1, 40),
    parallel=st.integers(1, 20),
    used=st.floats(0.01, 0.8),
    seed=st.integers(0, 1 << 32),
)
@example(800, 100, False, 50, 8, 8, 0.01, 0)
@example(700, 300, False, 70, 8, 8, 0.01, 0)
@example(90, 10, True, 90, 8, 8, 0.01, 0)
def test_below_saturation_each_direction_has_its_rate(
    reads: int,
    writes: int,
    poisson: bool,
    rwmixread: int,
    depth: int,
    parallel: int,
    used: float,
    seed: int,
) -> None:
    """Within 2 % of what was asked, and nothing waits but for the device."""
    service = max(1, int(used * min(depth, parallel) * NS / (reads + writes)))
    duration = MANY * NS // (reads + writes)
    played = play(
        endless("randrw", rwmixread=rwmixread, seed=seed),
        pace_of(reads, writes, poisson=poisson, seed=seed),
        depth=depth,
        service=service,
        parallel=parallel,
        duration=duration,
    )
    assert only_the_device_delays(played, depth, service, parallel)
    for direction, rate in enumerate((reads, writes)):
        due = played.due(direction)
        wanted = rate * duration / NS
        # Those that have arrived but not ended, and the first one, which is due at the beginning.
        latest = int(played.log["lat"].max()) * rate / NS
        chance = 5 * wanted**0.5 if poisson else 0
        assert is_near(len(due), wanted, more=1 + latest + chance), (direction, len(due), wanted)
        if not poisson:
            assert (np.abs(due - np.arange(len(due)) * (NS / rate)) < 1.001).all()


@given(
    reads=rates,
    writes=rates,
    poisson=st.booleans(),
    depth=st.integers(1, 40),
    parallel=st.integers(1, 20),
    used=st.floats(1.3, 8),
    seed=st.integers(0, 1 << 32),
)
def test_above_saturation_none_is_starved(
    reads: int, writes: int, poisson: bool, depth: int, parallel: int, used: float, seed: int
) -> None:
    """The device's own rate; each direction has the share of it that it has of the arrivals."""
    capacity = (reads + writes) / used
    service = max(1, int(min(depth, parallel) * NS / capacity))
    duration = int(MANY * NS / capacity)
    played = play(
        endless("randrw", seed=seed),
        pace_of(reads, writes, poisson=poisson, seed=seed),
        depth=depth,
        service=service,
        parallel=parallel,
        duration=duration,
    )
    assert is_near(len(played.log), MANY, more=depth)
    assert only_the_device_delays(played, depth, service, parallel)
    for direction, rate in enumerate((reads, writes)):
        wanted = MANY * rate / (reads + writes)
        chance = 5 * wanted**0.5 if poisson else 0
        assert is_near(len(played.due(direction)), wanted, more=1 + depth + chance)


@given(
    rate=rates,
    rated=st.sampled_from((READ, WRITE)),
    rwmixread=st.integers(1, 99),
    depth=st.integers(1, 40),
    parallel=st.integers(1, 20),
    share=st.floats(0.01, 3),
    seed=st.integers(0, 1 << 32),
)
@example(100, WRITE, 99, 8, 8, 0.01, 0)
def test_one_without_a_rate_takes_what_is_left(
    rate: int, rated: int, rwmixread: int, depth: int, parallel: int, share: float, seed: int
) -> None:
    """It has at least each other I/O; where that leaves enough, the other one has its rate."""
    capacity = rate / share
    service = max(1, int(min(depth, parallel) * NS / capacity))
    duration = int(4 * MANY * NS / capacity)
    played = play(
        endless("randrw", rwmixread=rwmixread, seed=seed),
        pace_of(*((rate, 0) if rated == READ else (0, rate))),
        depth=depth,
        service=service,
        parallel=parallel,
        duration=duration,
    )
    total = len(played.log)
    assert is_near(total, 4 * MANY, more=depth)
    log = played.log[played.log["direction"] == rated]
    assert is_near(len(log), min(share, 0.5) * total, more=2 + depth)
    if share < 0.45:
        # The next I/O that ends has room for it, or, after one of its own, the one after that.
        slots = log["lat"].astype(np.int64) - log["clat"].astype(np.int64)
        assert slots.max() <= 2 * service


@given(
    asked=st.tuples(st.integers(50, 5000), st.integers(50, 5000)),
    high=st.integers(1, 16),
    depth=st.integers(1, 16),
    seed=st.integers(0, 1 << 32),
)
def test_rates_in_bytes_with_blocks_of_many_sizes(
    asked: tuple[int, int], high: int, depth: int, seed: int
) -> None:
    pace = Pace(rates=(Rate(blocks=asked[0]), Rate(blocks=asked[1]), Rate()))
    mean = (1 + high) / 2
    service = max(1, int(0.5 * mean * NS / sum(asked)))
    duration = int(MANY * mean * NS / sum(asked))
    played = play(
        endless("randrw", Sizes(BLOCK, high * BLOCK), seed=seed),
        pace,
        depth=depth,
        service=service,
        parallel=depth,
        duration=duration,
    )
    assert only_the_device_delays(played, depth, service, depth)
    blocks = [
        int(played.log["bytes"][played.log["direction"] == direction].sum()) // BLOCK
        for direction in (READ, WRITE)
    ]
    for moved, rate in zip(blocks, asked, strict=True):
        late = rate * int(played.log["lat"].max()) / NS
        assert is_near(moved, rate * duration / NS, more=2 * high + late)


def test_poisson_s_streams_are_independent_and_have_their_rates() -> None:
    seconds = 100
    played = play(
        endless("randrw", rwmixread=90),
        pace_of(600, 600, poisson=True, seed=5),
        depth=32,
        service=1000,
        parallel=32,
        duration=seconds * NS,
    )
    counts = []
    for direction in (READ, WRITE):
        due = played.due(direction)
        assert is_near(len(due), 600 * seconds)
        gaps = np.diff(due) * 600 / NS
        assert gaps.std() == pytest.approx(1, abs=0.02)  # of the exponential law
        counts.append(np.histogram(due, bins=seconds * 100, range=(0, seconds * NS))[0])
    assert abs(np.corrcoef(counts)[0, 1]) < 0.04  # four deviations of 10,000 draws


def waits(played: Played) -> int:
    """The longest time from an I/O's arrival to its submission, in ns."""
    return int((played.log["lat"].astype(np.int64) - played.log["clat"]).max())


def test_a_trim_and_its_write_arrive_together_at_the_lower_rate() -> None:
    """They are one after the other: neither is late because the other has not come."""
    pace = Pace(rates=(Rate(), Rate(ios=50), Rate(ios=100)))
    played = play(endless("trimwrite"), pace, depth=8, service=1000, parallel=8, duration=10 * NS)
    assert [len(played.due(direction)) for direction in (READ, WRITE, TRIM)] == [0, 500, 501]
    assert waits(played) == 0


def test_what_arrives_in_a_pause_of_the_job_s_own_waits_for_no_device() -> None:
    """Its rate is kept, as far as the pauses let it."""
    rates, pauses = (Rate(ios=800), Rate(ios=100), Rate()), {"think_ticks": 0.05}
    pace = Pace(rates=rates, think_ios=90, members=pauses)
    played = play(endless("randrw"), pace, depth=64, service=1000, parallel=64, duration=10 * NS)
    assert is_near(len(played.due(READ)), 8000, more=45)
    assert is_near(len(played.due(WRITE)), 1000, more=5)
    assert waits(played) == 0


def test_reading_back_waits_for_no_rate_and_nothing_arrives_meanwhile() -> None:
    reads = np.zeros(100, IO_DTYPE)
    reads["lba"], reads["blocks"] = np.arange(100), 1
    writes = Pace(rates=(Rate(ios=10), Rate(ios=100), Rate()))
    with Model(endless("write"), writes, depth=4, service=NS // 200, parallel=1) as model:
        model.run(NS)
        assert len(model.log()) == 100
        model.work.go_through(reads, rated=False)
        began = model.clock.now
        model.run(10 * NS)
        assert model.clock.now - began == 100 * NS // 200  # as fast as the device goes
        assert (model.log()["direction"] == READ).all()
        model.work.resume()
        model.run(NS)
        log = model.log()
        assert len(log) == 100
        assert log["lat"].max() == NS // 200
