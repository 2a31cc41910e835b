"""Vectors: many I/Os as one C call, each judged on its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import READ, Rig, joined, seeded, vector

from pynvme_user.driver.completion import HOST_ABORTED, VectorResult
from pynvme_user.errors import ControllerFatalError, DmaError, NvmeStatusError
from pynvme_user.ring import NO_STATUS, Vector
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.status import Status

#: Long enough for a round through the queue, short for a test's eye.
SLICE = 50_000


def run(
    rig: Rig,
    work: Vector,
    status: Callable[[int], int] = lambda _: 0,
    order: Callable[[list[SQE]], list[SQE]] = lambda commands: commands,
) -> list[SQE]:
    """Run a vector to its end; I/O n completes with ``status(n)``. Return all commands."""
    taken: list[SQE] = []
    number: dict[int, int] = {}
    while not work.run(rig.ring, SLICE):
        commands = rig.take()
        for sqe in commands:
            number[sqe.cid] = len(taken)
            taken.append(sqe)
        for sqe in order(commands):
            rig.complete(sqe.cid, status(number[sqe.cid]))
    return taken


def lba(sqe: SQE) -> int:
    return sqe.cdw11 << 32 | sqe.cdw10


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 31])
@pytest.mark.parametrize("count", [1, 2, 31, 100])
def test_every_io_once_and_in_its_place(depth: int, count: int) -> None:
    rig = Rig(depth)
    work = vector(count, last_blocks=3)
    taken = run(rig, work, order=lambda commands: commands[::-1])
    assert [lba(sqe) for sqe in taken] == [(1 << 33) + 7919 * n for n in range(count)]
    assert [sqe.prp1 for sqe in taken] == [0x100000 + 0x2000 * n for n in range(count)]
    assert [sqe.cdw12 for sqe in taken] == [7] * (count - 1) + [2]
    assert work.completed == count
    assert work.failed == 0
    assert (work.status == 0).all()
    assert (work.latency_ns > 0).all()
    assert rig.ring.outstanding == 0
    assert rig.ring.completed == count


def test_command_dwords_are_kept() -> None:
    rig = Rig()
    command = SQE.build(opc=1, nsid=9, cdw2=1, cdw3=2, mptr=3, cdw12=1 << 30, cdw13=5, cdw15=7)
    (sqe,) = run(rig, vector(1, command=bytes(command), lbas=np.array([1 << 40], np.uint64)))
    assert sqe == command.replace(
        cid=sqe.cid, prp1=0x100000, cdw10=0, cdw11=1 << 8, cdw12=1 << 30 | 7
    )


@pytest.mark.parametrize("blocks", range(1, 10))
def test_ios_that_may_cross_a_page(blocks: int) -> None:
    """Of any size, at any offset in a page."""
    rig = Rig(depth=15)
    places = 0x100000 + np.arange(64, dtype=np.uint64) * np.uint64(0x4000 + 0x40)
    places = np.concatenate([places, 0x10000000 + np.arange(64, dtype=np.uint64) * np.uint64(512)])
    seen = []

    def look(commands: list[SQE]) -> list[SQE]:
        seen.extend(joined(rig.data(sqe, blocks << 9)) for sqe in commands)
        return commands

    run(rig, vector(128, iovas=places, blocks=blocks, last_blocks=blocks), order=look)
    assert seen == [(at, blocks << 9) for at in places.tolist()]


@pytest.mark.parametrize("sgl", [False, True])
def test_large_ios_are_described_whole(sgl: bool) -> None:
    rig = Rig(depth=3, use_sgl=sgl)
    size = 512 << 10
    places = np.arange(10, dtype=np.uint64) * np.uint64(1 << 20) + np.uint64(0x1004)
    work = vector(10, iovas=places, blocks=size >> 9, last_blocks=(size >> 9) - 1)
    seen = []

    def look(commands: list[SQE]) -> list[SQE]:
        for sqe in commands:
            seen.append(joined(rig.data(sqe, (sqe.cdw12 + 1) << 9)))
        return commands

    run(rig, work, order=look)
    assert seen == [(at, size - 512 * (at == places[-1])) for at in places.tolist()]


def test_each_completion_is_judged_alone() -> None:
    """One failure in the middle; neither the first nor the last of its batch."""
    rig = Rig(depth=7)
    work = vector(21)
    run(rig, work, status=lambda n: 0x280 if n == 10 else 0)
    assert work.failed == 1
    assert work.completed == 21
    assert np.flatnonzero(work.status).tolist() == [10]
    assert work.status[10] == 0x280
    result = VectorResult(work.status, work.latency_ns, "Read of a vector", work.failed)
    assert result.failed.tolist() == [10]
    with pytest.raises(NvmeStatusError, match="I/O 10 failed: Write Fault"):
        result.check()


def test_all_32768_statuses() -> None:
    """Success is type 0 with code 0, whole; More, DNR and CRD are no failures."""
    rig = Rig(depth=255)
    work = vector(0x8000)
    run(rig, work, status=lambda n: n)
    assert (work.status == np.arange(0x8000)).all()
    good = [n for n in range(0x8000) if n & 0x7FF == 0]
    assert [n for n in range(0x8000) if Status(n).ok] == good
    assert work.failed == 0x8000 - len(good)
    result = VectorResult(work.status, work.latency_ns, "Read", work.failed)
    assert sorted(set(range(0x8000)) - set(result.failed.tolist())) == good


@given(
    depth=st.integers(1, 9),
    count=st.integers(0, 40),
    choice=seeded,
)
def test_any_order(depth: int, count: int, choice: random.Random) -> None:
    rig = Rig(depth)
    work = vector(count)
    taken = run(rig, work, lambda n: n * 3, lambda c: choice.sample(c, len(c)))
    assert len(taken) == count
    assert work.status.tolist() == [n * 3 for n in range(count)]


def test_slots_follow_the_cid() -> None:
    rig = Rig(depth=3)
    work = vector(50, iovas=np.array([0x10000, 0x20000, 0x30000], np.uint64), slots=True)
    taken = run(rig, work, order=lambda commands: commands[::-1])
    assert len(taken) == 50
    assert all(sqe.prp1 == 0x10000 * (rig.index(sqe.cid) + 1) for sqe in taken)


def test_nothing_at_all() -> None:
    rig = Rig()
    assert vector(0).run(rig.ring, SLICE)
    assert rig.ring.doorbell_writes == 0


def test_stop_drains_and_submits_no_more() -> None:
    rig = Rig(depth=3)
    work = vector(20)
    assert not work.run(rig.ring, SLICE)
    first = rig.take()
    assert len(first) == 3
    work.stop()
    assert not work.run(rig.ring, SLICE)
    assert rig.take() == []
    for sqe in first:
        rig.complete(sqe.cid, 0x80)
    assert work.run(rig.ring, SLICE)
    assert rig.ring.outstanding == 0
    assert work.status.tolist() == [0x80] * 3 + [NO_STATUS] * 17
    work.fail_rest(int(HOST_ABORTED))
    assert work.status.tolist() == [0x80] * 3 + [int(HOST_ABORTED)] * 17
    assert (work.latency_ns[:3] > 0).all()
    assert not work.latency_ns[3:].any()
    assert work.failed == 20


def test_ends_in_time_though_more_has_completed() -> None:
    rig = Rig(31)
    work = vector(100)
    assert not work.run(rig.ring, SLICE)
    rig.complete_all()
    assert not work.run(rig.ring, 1)
    assert 0 < work.completed < 31  # one turn, the least that it gets on
    run(rig, work)
    assert work.completed == 100


def test_a_completion_of_nothing_ends_the_vector() -> None:
    """The error comes out; what completed before it is recorded, the rest is outstanding."""
    rig = Rig(depth=3)
    work = vector(20)
    work.run(rig.ring, SLICE)
    commands = rig.take()
    rig.complete(commands[1].cid)
    rig.complete(3)
    with pytest.raises(ControllerFatalError):
        work.run(rig.ring, SLICE)
    assert work.completed == 1
    assert work.status.tolist() == [NO_STATUS, 0, *[NO_STATUS] * 18]
    assert rig.ring.outstanding == 3  # the next I/O has taken the place of the completed one


@pytest.mark.parametrize(("place", "count"), [(0x1001, 5), (0x2002, 1), (0x1003, 2)])
def test_an_address_that_cannot_be_described(place: int, count: int) -> None:
    rig = Rig(depth=3)
    iovas = np.full(count, 0x1000, np.uint64)
    iovas[-1] = place
    work = vector(count, iovas=iovas)
    with pytest.raises(DmaError, match="multiple of 4"):
        run(rig, work)
    assert work.status[-1] == NO_STATUS
    # Those before it are announced and can be drained.
    work.stop()
    for _ in range(3):
        rig.complete_all()
        done = work.run(rig.ring, SLICE)
    assert done
    assert rig.ring.outstanding == 0
    assert (work.status[:-1] == 0).all()


def test_too_long_for_the_list() -> None:
    rig = Rig(depth=3, list_entries=1)
    with pytest.raises(DmaError, match="larger"):
        vector(3, blocks=25).run(rig.ring, SLICE)


def test_each_latency_from_its_own_submission() -> None:
    rig = Rig(depth=1)
    work = vector(3)
    submitted = time.perf_counter_ns()
    work.run(rig.ring, SLICE)
    for number in range(3):
        time.sleep(0.02)
        before = time.perf_counter_ns()
        rig.complete_all()
        while work.completed == number:
            work.run(rig.ring, SLICE)
        assert 20_000_000 <= work.latency_ns[number] <= time.perf_counter_ns() - submitted
        submitted = before


def test_latencies_of_several_submissions_in_one_turn() -> None:
    rig = Rig(depth=12)
    work = vector(100)
    # By index: the CID, which I/O it is, and when it was submitted.
    owner: dict[int, tuple[int, int, int, int]] = {}

    def turn(timeout: int) -> tuple[int, int]:
        begin = time.perf_counter_ns()
        work.run(rig.ring, timeout)
        end = time.perf_counter_ns()
        for sqe in rig.take():
            number = (lba(sqe) - (1 << 33)) // 7919
            owner[rig.index(sqe.cid)] = (sqe.cid, number, begin, end)
        return begin, end

    turn(SLICE)
    for indices in ((0, 1), (2, 3), (4, 0, 5, 2, 6, 1)):
        time.sleep(0.02)
        ended = [owner[index] for index in indices]
        for cid, *_ in ended:
            rig.complete(cid)
        begin, end = turn(1)
        for _, number, earliest, latest in ended:
            assert begin - latest <= work.latency_ns[number] <= end - earliest


def test_one_doorbell_for_each_turn() -> None:
    """Of each queue, and a turn is half the depth."""
    rig = Rig(depth=31)
    run(rig, vector(310))
    assert rig.ring.doorbell_writes == 2 * 20


def test_runs_without_the_gil() -> None:
    """A controller in another thread: the poll loop must let it run."""
    rig = Rig(depth=7)
    work = vector(2000)
    done = threading.Event()

    def controller() -> None:
        while not done.is_set():
            for sqe in rig.take():
                rig.complete(sqe.cid)

    thread = threading.Thread(target=controller)
    thread.start()
    try:
        assert work.run(rig.ring, 20_000_000_000)
    finally:
        done.set()
        thread.join()
    assert work.completed == 2000
    assert not work.status.any()


def test_arrays_are_kept_alive() -> None:
    """Lists of LBAs and addresses that only the vector still knows."""
    rig = Rig(depth=3)
    work = Vector(
        command=READ,
        lbas=np.arange(5000, dtype=np.uint64) + np.uint64(5),
        iovas=np.full(5000, 0x4000, np.uint64),
        blocks=1,
        last_blocks=1,
        block_shift=9,
    )
    _overwrite = [np.full(5000, 0xDEAD, np.uint64) for _ in range(10)]
    assert [lba(sqe) for sqe in run(rig, work)] == list(range(5, 5005))
