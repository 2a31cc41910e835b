"""When the C ring writes a doorbell: once per batch, and with shadow doorbells when asked."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import PostedRig, Rig, address

from pynvme_user.errors import DeviceRemovedError, NvmeError

INDEX = 6


def test_once_per_batch_and_not_if_nothing_moved() -> None:
    rig = Rig(depth=7)
    rig.ring.ring_doorbell()
    rig.ring.poll()
    assert rig.ring.doorbell_writes == 0
    cids = [rig.submit() for _ in range(5)]
    assert rig.ring.doorbell_writes == 0
    assert rig.bells.tolist() == [0, 0]
    rig.ring.ring_doorbell()
    rig.ring.ring_doorbell()
    assert rig.ring.doorbell_writes == 1
    assert rig.bells.tolist() == [5, 0]
    for cid in cids:
        rig.complete(cid)
    assert len(rig.ring.poll(2)) == 2
    assert rig.bells.tolist() == [5, 2]
    assert len(rig.ring.poll()) == 3
    assert len(rig.ring.poll()) == 0
    assert rig.ring.doorbell_writes == 3
    assert rig.bells.tolist() == [5, 5]


def test_wrap_to_zero_is_told() -> None:
    rig = Rig(depth=3)
    for tail in (1, 2, 3, 0, 1):
        rig.round()
        assert rig.bells.tolist() == [tail, tail]


def test_a_full_queue_whose_tail_is_one_behind() -> None:
    """depth + 1 entries: a full queue never looks like an empty one, whose tail has not moved."""
    for depth in (1, 2, 3):
        rig = Rig(depth)
        for start in range(depth + 1):
            for _ in range(depth):
                rig.submit()
            rig.ring.ring_doorbell()
            assert rig.bells[0] == (start + 1) * depth % (depth + 1)
            commands = rig.take()
            assert len(commands) == depth
            for sqe in commands:
                rig.complete(sqe.cid)
            assert len(rig.ring.poll()) == depth


def test_kick_writes_whatever_the_shadow_says() -> None:
    rig, shadow, event = shadowed(3)
    event[INDEX] = 2
    rig.submit()
    rig.ring.ring_doorbell()
    assert (rig.bells[0], shadow[INDEX]) == (0, 1)
    rig.ring.kick()
    rig.ring.kick()
    assert rig.bells[0] == 1
    assert rig.ring.doorbell_writes == 2


# --- shadow doorbells (Base 2.0, section 5.8 and appendix B.5) ----------------------------------


def shadowed(depth: int) -> tuple[Rig, np.ndarray, np.ndarray]:
    rig = Rig(depth)
    shadow, event = np.zeros((2, 16), np.uint32)
    rig.ring.use_shadow(INDEX, address(shadow), address(event))
    return rig, shadow, event


def passes(old: int, new: int, event: int, entries: int) -> bool:
    """Whether an index that goes from old to new, one by one, leaves the event index behind."""
    while old != new:
        if old == event:
            return True
        old = (old + 1) % entries
    return False


@given(
    depth=st.sampled_from((1, 2, 3, 7, 31, 0xFFFF)),
    steps=st.lists(
        st.tuples(st.integers(1, 31), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
        min_size=1,
        max_size=40,
    ),
)
def test_the_register_is_written_when_the_event_index_asks(
    depth: int, steps: list[tuple[int, int, int]]
) -> None:
    rig, shadow, event = shadowed(depth)
    tail = head = 0
    writes = 0
    for batch, sq_event, cq_event in steps:
        batch = min(batch, depth)
        event[INDEX : INDEX + 2] = sq_event % rig.entries, cq_event % rig.entries
        new = (tail + batch) % rig.entries
        cids = [rig.submit() for _ in range(batch)]
        rig.ring.ring_doorbell()
        assert shadow[INDEX] == new
        if passes(tail, new, int(event[INDEX]), rig.entries):
            writes += 1
            assert rig.bells[0] == new
        assert rig.ring.doorbell_writes == writes
        tail = new

        # The controller reads the shadow itself; the register's word is this rig's way to it.
        registers = rig.bells.copy()
        rig.bells[:] = shadow[INDEX : INDEX + 2]
        assert [sqe.cid for sqe in rig.take()] == cids
        for cid in cids:
            rig.complete(cid)
        rig.bells[:] = registers

        new = (head + batch) % rig.entries
        assert len(rig.ring.poll()) == batch
        assert shadow[INDEX + 1] == new
        if passes(head, new, int(event[INDEX + 1]), rig.entries):
            writes += 1
            assert rig.bells[1] == new
        assert rig.ring.doorbell_writes == writes
        head = new
    outside = [i for i in range(16) if i not in (INDEX, INDEX + 1)]
    assert not shadow[outside].any()


def test_every_step_of_small_rings() -> None:
    """All of old, new and event index, where hypothesis only samples."""
    for entries in (2, 3, 4, 8):
        for old in range(entries):
            for batch in range(1, entries):
                for asked in range(entries):
                    rig, _, event = shadowed(entries - 1)
                    for _ in range(old):
                        rig.bells[:] = 0
                        rig.submit()
                        rig.ring.ring_doorbell()
                        cid = old_cid = rig.ring.oldest()
                        assert cid is not None
                        assert old_cid is not None
                        rig.complete(cid[0])
                        rig.ring.poll()
                    event[INDEX] = asked
                    before = rig.ring.doorbell_writes
                    for _ in range(batch):
                        rig.submit()
                    rig.ring.ring_doorbell()
                    wanted = passes(old, (old + batch) % entries, asked, entries)
                    assert rig.ring.doorbell_writes - before == wanted, (entries, old, batch)


# --- posted doorbells ---------------------------------------------------------------------------


def test_messages_carry_address_value_and_context() -> None:
    rig = PostedRig(3)
    rig.round()
    rig.round()
    assert rig.sent == [(77, at, n) for n in (1, 2) for at in (0xFEB01008, 0xFEB0100C)]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (errno.EPIPE, DeviceRemovedError),
        (errno.ETIMEDOUT, DeviceRemovedError),
        (errno.EIO, NvmeError),
    ],
)
def test_a_message_that_cannot_be_sent(error: int, raised: type[NvmeError]) -> None:
    rig = PostedRig(3)
    rig.submit(user=1)
    rig.ring.ring_doorbell()
    rig.submit(user=2)
    rig.error = -error
    with pytest.raises(raised):
        rig.ring.ring_doorbell()
    # What the device completed before it went counts; the error comes after it, and stays.
    rig.complete(0)
    (done,) = rig.ring.poll()
    assert done["user"] == 1
    for _ in range(2):
        with pytest.raises(raised):
            rig.ring.poll()
        with pytest.raises(raised):
            rig.ring.wait(1_000)
    assert rig.ring.outstanding == 1
