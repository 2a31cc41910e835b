"""Leaving a fast device alone until a batch is complete: when, for how long, and how much.

How long a wait took is judged by the least of many tries: a busy machine makes a wait longer, but
none of them shorter than it is. What is compared is measured in turns, and as often again as the
machine disturbs it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from disturbance import until_right
from generator_rig import BLOCK, generator
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import READ, PostedRig, Rig, data_buffer, seeded, vector

from pynvme_user.workload.loop import Workload

SECOND = 1_000_000_000
SLICE = 50_000
#: COALESCE_NS of the core, and about what a call without it takes at most, of the least of many.
LEFT_ALONE_NS = 1000
TRIES = 300


class Wait(NamedTuple):
    """A wait for ``coalesce`` entries that finds ``posted`` of those that are outstanding."""

    coalesce: int
    outstanding: int
    posted: int

    def of(self, rig: Rig) -> int:
        """What it takes, in ns."""
        for _ in range(self.outstanding):
            rig.submit()
        rig.ring.ring_doorbell()
        commands = rig.take()
        for sqe in commands[: self.posted]:
            rig.complete(sqe.cid)
        rig.ring.pointer.coalesce = self.coalesce
        start = time.perf_counter_ns()
        rig.ring.wait(SECOND, 0)
        took = time.perf_counter_ns() - start
        for sqe in commands[self.posted :]:
            rig.complete(sqe.cid)
        assert len(rig.ring.poll()) == self.outstanding
        return took


def least_waits(rig: Rig, *waits: Wait) -> Iterator[list[int]]:
    """The least that each wait took: of TRIES, of twice as many, and so on."""
    least = [SECOND] * len(waits)
    while True:
        for _ in range(TRIES):
            least = [min(before, wait.of(rig)) for before, wait in zip(least, waits, strict=True)]
        yield least


@pytest.mark.parametrize("spare", [0, 1, 7, 40])
def test_no_longer_than_until_the_last_is_there(spare: int) -> None:
    """Everywhere in the ring: its end is passed again and again, with the phase turned."""
    rig = Rig(depth=16, spare=spare)
    measured = least_waits(rig, Wait(1, 16, 1), Wait(8, 16, 8), Wait(8, 16, 16))

    def attempt() -> str:
        quick, *batches = next(measured)
        return "" if max(batches) < quick + LEFT_ALONE_NS // 2 else f"{quick} ns, then {batches}"

    until_right(attempt, undisturbed=3)


def every_place(rig: Rig, *waits: Wait) -> Iterator[np.ndarray]:
    """The least of each wait at each place of the completion queue's head, two rounds of the ring.

    The depth of the ring is outstanding in each.
    """
    least = np.full((len(waits), 2 * rig.cq_entries), SECOND)
    while True:
        for _ in range(TRIES // 3):
            for number, wait in enumerate(waits):
                for place in range(2 * rig.cq_entries):
                    least[number, place] = min(least[number, place], wait.of(rig))
                    # One more, so that the head comes to each place in turn.
                    while rig.ring.pointer.cq_head != (place + 1) % rig.cq_entries:
                        rig.round()
        yield least


def test_the_entry_looked_at_is_the_last_of_the_batch() -> None:
    """One less than wanted is waited for, at each place of the ring; all of them are not."""
    rig = Rig(depth=4, spare=1)
    measured = every_place(rig, Wait(1, 4, 1), Wait(3, 4, 3), Wait(3, 4, 2), Wait(3, 4, 1))

    def attempt() -> str:
        quick, whole, *short = next(measured)
        assert np.min(short) > LEFT_ALONE_NS
        late = whole.max() - quick.min()
        return "" if late < LEFT_ALONE_NS // 2 else f"a whole batch is seen {late} ns late"

    until_right(attempt, undisturbed=3)


def test_not_for_more_than_is_outstanding() -> None:
    """The last I/Os of a vector are not waited for."""
    rig = Rig(depth=16)
    measured = least_waits(rig, Wait(1, 7, 1), Wait(8, 7, 1), Wait(8, 8, 1))

    def attempt() -> str:
        quick, last, waited = next(measured)
        assert waited > LEFT_ALONE_NS
        right = last < quick + LEFT_ALONE_NS // 2 and waited < quick + 10 * LEFT_ALONE_NS
        return "" if right else f"{quick} ns, then {last} and {waited}"

    until_right(attempt, undisturbed=3)


def each_turn(rig: Rig, loop: str, batches: list[int]) -> list[int]:
    """What is worth waiting for after turns that found so many completions."""
    count = sum(batches) + rig.depth
    if loop == "vector":
        work = vector(count)
    else:
        work = Workload(  # type: ignore[assignment]
            generator(size=count * BLOCK),
            commands={0: READ},
            buffer=data_buffer(rig.depth),
            queue_depth=rig.depth,
            block_shift=9,
        )
    work.run(rig.ring, 1)
    found = [int(rig.ring.pointer.coalesce)]
    running: list[int] = []
    completed = 0
    for batch in batches:
        running += [sqe.cid for sqe in rig.take()]
        for _ in range(batch):
            rig.complete(running.pop(0))
        completed += batch
        while work.completed < completed:
            work.run(rig.ring, SLICE)
        found.append(int(rig.ring.pointer.coalesce))
    return found


@pytest.mark.parametrize("loop", ["vector", "workload"])
def test_what_is_learned_from_each_turn(loop: str) -> None:
    """Twice what the last turn found, up to a quarter of the depth; one by one, not at all."""
    assert each_turn(Rig(depth=64), loop, [1, 1, 2, 3, 1, 5, 8, 9, 64, 1, 1]) == [
        *(1, 1, 1, 4, 6, 1, 10, 16, 16, 16, 1, 1)
    ]


@pytest.mark.parametrize("loop", ["vector", "workload"])
@pytest.mark.parametrize(
    ("depth", "most"), [(1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (127, 31), (128, 32), (1000, 32)]
)
def test_a_quarter_of_the_depth_at_most(loop: str, depth: int, most: int) -> None:
    assert each_turn(Rig(depth, list_entries=1), loop, [min(depth, 60)])[-1] == most


@given(
    depth=st.integers(1, 70),
    spare=st.sampled_from((0, 1, 150)),
    count=st.integers(0, 400),
    at_once=st.lists(st.integers(0, 70), min_size=1, max_size=10).filter(any),
    choice=seeded,
)
def test_any_pattern_of_batches(
    depth: int, spare: int, count: int, at_once: list[int], choice: random.Random
) -> None:
    """However many complete at each doorbell, and in any order: each I/O once, with its status."""
    rig = PostedRig(depth, spare=spare)
    numbers: list[tuple[int, int]] = []
    taken = turn = 0

    def answer() -> None:
        nonlocal taken, turn
        for sqe in rig.take():
            numbers.append((sqe.cid, taken))
            taken += 1
        choice.shuffle(numbers)
        for _ in range(min(at_once[turn % len(at_once)], len(numbers))):
            cid, number = numbers.pop()
            rig.complete(cid, number * 3)
        turn += 1

    rig.answer = answer
    work = vector(count)
    while not work.run(rig.ring, SLICE):
        answer()
    rig.checked()
    assert work.status.tolist() == [n * 3 for n in range(count)]
    assert rig.ring.outstanding == 0
    assert work.completed == rig.ring.completed == count
