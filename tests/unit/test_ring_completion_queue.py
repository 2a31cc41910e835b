"""Completion queues of more entries than commands: fewer doorbells, and never an overrun."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import PostedRig, Rig, seeded, vector

from pynvme_user.links import Interrupt
from pynvme_user.spec.commands import SQE

SPARES = (0, 1, 2, 5, 31, 200)
SLICE = 50_000


@pytest.mark.parametrize(("depth", "spare"), [(4, -1), (0xFFFF, 1), (1, 0xFFFF)])
def test_illegal_sizes(depth: int, spare: int) -> None:
    with pytest.raises(ValueError, match=r"completion queue entries .* is not legal"):
        Rig(depth, list_entries=1, spare=spare)


@given(
    depth=st.sampled_from((1, 2, 3, 7, 31)),
    spare=st.sampled_from(SPARES),
    steps=st.lists(
        st.tuples(st.integers(0, 31), st.integers(0, 31), st.integers(0, 31)), max_size=120
    ),
)
def test_told_as_late_as_may_be(depth: int, spare: int, steps: list[tuple[int, int, int]]) -> None:
    """The head is told when more than ``spare`` entries are unreported, and with all of them.

    At any time there is room for all that is outstanding; each completion is its command's.
    """
    rig = Rig(depth, spare=spare)
    running: list[int] = []
    posted: list[tuple[int, int]] = []
    head = unreported = 0
    for submit, complete, limit in steps:
        for _ in range(min(submit, depth - len(running) - len(posted))):
            rig.submit()
        rig.ring.ring_doorbell()
        running += [sqe.cid for sqe in rig.take()]
        for n in range(min(complete, len(running))):
            cid = running.pop(n % len(running))
            rig.complete(cid, cid * 5 + n & 0x7FFF)
            posted.append((cid, cid * 5 + n & 0x7FFF))
        done = rig.ring.poll(limit)
        assert (
            list(zip(done["cid"].tolist(), done["status"].tolist(), strict=True))
            == (posted[:limit])
        )
        del posted[:limit]
        head, unreported = (head + len(done)) % rig.cq_entries, unreported + len(done)
        if unreported > spare:
            assert rig.bells[1] == head
            unreported = 0
        assert (head - int(rig.bells[1])) % rig.cq_entries == unreported
        assert rig.room >= len(running)


@pytest.mark.parametrize("spare", SPARES)
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_one_at_a_time_many_times_round(depth: int, spare: int) -> None:
    """The rings' ends are passed at different times; the phase is the completion queue's."""
    rig = Rig(depth, spare=spare)
    rounds = 3 * rig.cq_entries + 2 * rig.entries + 1
    for n in range(rounds):
        assert len(rig.ring.poll()) == 0
        assert rig.round(n & 0x7FFF)[1] == n & 0x7FFF
    assert rig.ring.completed == rounds
    # One doorbell for each submission, and one for each spare + 1 completions.
    assert rig.ring.doorbell_writes == rounds + rounds // (spare + 1)


@pytest.mark.parametrize("spare", SPARES)
def test_full_batches(spare: int) -> None:
    depth = 7
    rig = Rig(depth, spare=spare)
    for _ in range(5 * rig.cq_entries):
        for _ in range(depth):
            rig.submit()
        rig.ring.ring_doorbell()
        for sqe in rig.take():
            rig.complete(sqe.cid)
        assert len(rig.ring.poll()) == depth
        assert rig.room >= depth


@pytest.mark.parametrize("spare", SPARES)
@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_a_vector_leaves_room_when_it_announces(depth: int, spare: int) -> None:
    """A controller that completes all at the very moment of the doorbell overruns nothing."""
    rig = PostedRig(depth, spare=spare)
    rig.answer = rig.complete_all
    work = vector(1000)
    done = work.run(rig.ring, 10_000_000_000)
    rig.checked()
    assert done
    assert work.completed == 1000
    assert not work.status.any()


@given(
    depth=st.integers(1, 20),
    spare=st.sampled_from(SPARES),
    count=st.integers(0, 200),
    choice=seeded,
)
def test_vectors_on_a_controller_that_waits_for_room(
    depth: int, spare: int, count: int, choice: random.Random
) -> None:
    """What there is no room for is completed later; nothing is lost and nothing hangs."""
    rig = Rig(depth, spare=spare)
    work = vector(count)
    fetched: list[SQE] = []
    number = 0
    wanted: dict[int, int] = {}
    while not work.run(rig.ring, SLICE):
        taken = rig.take()
        for sqe in taken:
            wanted[sqe.cid] = number
            number += 1
        fetched += taken
        choice.shuffle(fetched)
        assert rig.room >= len(fetched)
        for _ in range(choice.randint(0, len(fetched))):
            sqe = fetched.pop()
            rig.complete(sqe.cid, wanted[sqe.cid] * 3)
    assert work.status.tolist() == [n * 3 for n in range(count)]


def test_with_an_interrupt_each_batch_is_told_at_once() -> None:
    """The device may fire only once it knows of the last batch."""
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    rig = Rig(depth=8, spare=50)
    rig.round()
    assert rig.bells[1] == 0
    rig.ring.use_interrupt(Interrupt(event), 0)
    head = 1
    for batch in (1, 3, 8, 2, 8):
        for _ in range(batch):
            rig.submit()
        rig.ring.ring_doorbell()
        for sqe in rig.take():
            rig.complete(sqe.cid)
        assert len(rig.ring.wait(1_000_000_000)) == batch
        head += batch
        assert rig.bells[1] == head
    work = vector(20)
    while not work.run(rig.ring, SLICE):
        for sqe in rig.take():
            rig.complete(sqe.cid)
    assert rig.bells[1] == head + 20
    assert rig.ring.doorbell_writes == 1 + 2 * 5 + 2 * 5  # turns of 4
    os.close(event)
