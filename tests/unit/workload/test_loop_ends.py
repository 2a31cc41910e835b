"""How the benchmark's loop ends: in time, at a stop, with an error, by a reset."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque

import numpy as np
import pytest
from generator_rig import BLOCK, Sizes, generator
from ring_rig import PostedRig, Rig, data_buffer
from soft_controller import BLOCKS, OK, SoftController, keep_reads
from workload_rig import COMMANDS, SECOND, SLICE, total, workload

from pynvme_user import Controller, ControllerFatalError, DeviceRemovedError, DmaError
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.status import Status
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.verification import Method, Verifier, VerifyTable
from pynvme_user.workload.verify_state import Region

# --- how it ends ----------------------------------------------------------------------------------


def test_nothing_at_all() -> None:
    rig = Rig()
    work = workload(generator(number_ios=0), rig)
    assert work.run(rig.ring, SLICE)
    assert work.completed == rig.ring.doorbell_writes == 0


def test_slices_take_their_time_and_no_more() -> None:
    rig = Rig()
    work = workload(generator(time_based=True, norandommap=True), rig)
    start, busy = time.monotonic(), time.thread_time()
    assert not work.run(rig.ring, 20_000_000)
    assert time.monotonic() - start >= 0.019
    assert time.thread_time() - busy < 1  # it polls; what others took of the CPU is not its time
    assert work.completed == 0
    assert work.submitted == rig.ring.outstanding == rig.depth


def test_a_device_that_never_rests_does_not_outlast_the_slice() -> None:
    rig = PostedRig(depth=4)
    rig.answer = rig.complete_all
    work = workload(generator(time_based=True, norandommap=True), rig)
    start, busy = time.monotonic(), time.thread_time()
    for turn in range(1, 4):
        assert not work.run(rig.ring, 30_000_000)
        assert time.monotonic() - start >= 0.029 * turn
        assert time.thread_time() - busy < 2
    rig.checked()
    work.stop()
    assert work.run(rig.ring, SECOND)
    assert work.completed == work.submitted == total(work, "ios") > 100


def test_stop_drains_and_submits_no_more() -> None:
    rig = Rig(depth=3)
    work = workload(generator(), rig)
    assert not work.run(rig.ring, SLICE)
    first = rig.take()
    work.stop()
    assert not work.run(rig.ring, SLICE)
    assert rig.take() == []
    for sqe in first:
        assert not work.run(rig.ring, SLICE)
        rig.complete(sqe.cid)
    assert work.run(rig.ring, SLICE)
    assert work.run(rig.ring, SLICE)
    assert work.completed == work.submitted == 3


def test_a_reused_cid_is_as_old_as_its_last_command() -> None:
    rig = Rig(depth=4)
    work = workload(generator(time_based=True, norandommap=True), rig)
    for _ in range(3):
        assert not work.run(rig.ring, SLICE)
        time.sleep(0.02)
        before = time.monotonic()
        rig.complete_all()
        assert not work.run(rig.ring, SLICE)
        _, age = rig.ring.oldest() or (-1, -1.0)
        assert 0 <= age <= time.monotonic() - before


def test_a_depth_that_is_lowered_on_the_way() -> None:
    rig = Rig(depth=9)
    work = workload(generator(size=300 * BLOCK), rig)
    deepest = []
    for depth in (9, 3, 6, 1, 9):
        work.depth = depth
        for _ in range(4):
            assert not work.run(rig.ring, SLICE)
            for sqe in rig.take():
                assert not work.run(rig.ring, SLICE)
                rig.complete(sqe.cid)
        deepest.append(rig.ring.outstanding)
        assert not work.run(rig.ring, SLICE)
    assert deepest == [9, 3, 6, 1, 9]


def test_depth_may_be_less_than_the_ring_s() -> None:
    rig = Rig(depth=9)
    work = workload(generator(size=100 * BLOCK), rig, depth=2)
    while not work.run(rig.ring, SLICE):
        assert rig.ring.outstanding <= 2
        rig.complete_all()
    assert work.completed == 100


@pytest.mark.parametrize("depth", [0, -1, 5, 0xFFFF])
def test_a_depth_that_the_queue_has_not(depth: int) -> None:
    """C takes a CID for each without looking whether there is one."""
    rig = Rig(depth=4)
    with pytest.raises(ValueError, match="depth of 4"):
        workload(generator(), rig, depth)
    work = workload(generator(), rig)
    with pytest.raises(ValueError, match="depth of 4"):
        work.depth = depth
    assert work.depth == 4


@pytest.mark.parametrize("depth", [3, 5])
def test_a_ring_of_another_depth(depth: int) -> None:
    work = workload(generator(), Rig(depth=4), 2)
    rig = Rig(depth)
    with pytest.raises(ValueError, match="depth of 4"):
        work.run(rig.ring, SLICE)
    assert rig.ring.outstanding == 0


def test_a_completion_of_nothing_leaves_what_was_counted() -> None:
    rig = Rig(depth=3)
    work = workload(generator(), rig)
    work.run(rig.ring, SLICE)
    commands = rig.take()
    rig.complete(commands[1].cid, 0x281)
    rig.complete(commands[0].cid)
    rig.complete(77)
    with pytest.raises(ControllerFatalError, match="not outstanding"):
        work.run(rig.ring, SECOND)
    assert (total(work, "ios"), total(work, "failed")) == (1, 1)
    # A turn is of two here: the two were followed by others before the third was looked at.
    assert (work.submitted, work.completed) == (5, 2)
    assert rig.ring.outstanding == 3
    assert rig.ring.completed == 2
    work.fail_rest(int(HOST_ABORTED))
    assert total(work, "failed") == 4
    assert work.completed == 5
    rig.ring.abort_all(int(HOST_ABORTED))
    assert work.run(rig.ring, SECOND)


def test_a_doorbell_that_cannot_be_sent() -> None:
    rig = PostedRig(depth=3)
    work = workload(generator(), rig)
    rig.error = -errno.EPIPE
    with pytest.raises(DeviceRemovedError):
        work.run(rig.ring, SECOND)
    assert (work.submitted, work.completed, rig.ring.outstanding) == (2, 0, 2)  # a turn


def test_what_cannot_be_described_loses_nothing_before_it() -> None:
    """The I/Os before it in its turn are announced, counted and drained; it is not submitted."""
    rig = Rig(depth=16, list_entries=1)
    sizes = Sizes(split=((BLOCK, 50), (64 * BLOCK, 50)))
    for seed in range(100):
        gen = generator("randread", sizes, norandommap=True, seed=seed)
        before = int(np.argmax(gen.take(100)["blocks"] == 64))
        if before > 2:
            break
    gen.reset()
    work = workload(gen, rig)
    with pytest.raises(DmaError, match="larger than"):
        work.run(rig.ring, SECOND)
    assert work.submitted == rig.ring.outstanding == before
    work.stop()
    for _ in range(3):
        rig.complete_all()
        done = work.run(rig.ring, SLICE)
    assert done
    assert work.completed == total(work, "ios") == before


@pytest.mark.parametrize("rw", ["randwrite", "randread", "randrw"])
def test_what_cannot_be_described_is_not_outstanding_in_the_table(rw: str) -> None:
    """An I/O that was announced to the table and not submitted would block its blocks for ever."""
    rig = Rig(depth=16, list_entries=1)
    region = Region(block_size=BLOCK, blocks=4096, first_lba=0, interval_blocks=1)
    verifier = Verifier(VerifyTable(region, seed=1), Method.CRC32C)
    gen = generator(rw, Sizes(split=((BLOCK, 90), (64 * BLOCK, 10))), size=4096 * BLOCK)
    buffer = data_buffer(rig.depth * 8)  # a piece holds the largest
    work = workload(gen, rig, verifier=verifier, buffer=buffer)

    def run_on() -> bool:
        rig.complete_all()
        return work.run(rig.ring, SLICE)

    with pytest.raises(DmaError, match="larger than"):
        deque(iter(run_on, True))
    work.stop()
    deque(iter(run_on, True))
    assert work.completed == work.submitted
    busy = 1 << 56 | 127 << 57  # docs/verification.md: a writer, and the number of readers
    assert not np.any(verifier.table.words & np.uint64(busy))


# --- on a queue pair ------------------------------------------------------------------------------


def on_a_pair(ctrl: Controller, depth: int, **options: object) -> tuple[Workload, object]:
    buffer = ctrl.alloc(depth * BLOCK)
    arguments: dict[str, object] = {"size": BLOCKS * BLOCK} | options
    work = Workload(
        generator("randrw", **arguments),  # type: ignore[arg-type]
        commands=COMMANDS,
        buffer=buffer,
        queue_depth=depth,
        block_shift=9,
    )
    return work, buffer


def test_advance_to_the_end(soft: SoftController, ctrl: Controller) -> None:
    soft.io = lambda sqe: Status(0x281) if sqe.cdw10 % 10 == 3 else OK
    with ctrl.queue_pair(8) as pair:
        work, buffer = on_a_pair(ctrl, 8)
        geometry = ctrl.namespaces[1].current()
        while not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer):
            pass
        assert work.completed == work.submitted == BLOCKS
        assert total(work, "failed") == BLOCKS // 10
        assert total(work, "ios") == total(work, "blocks") == BLOCKS - BLOCKS // 10
        assert pair.outstanding == 0
        assert pair._loop is None


def test_a_reset_gives_the_workload_up(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    with ctrl.queue_pair(8) as pair:
        work, buffer = on_a_pair(ctrl, 8, time_based=True, norandommap=True)
        geometry = ctrl.namespaces[1].current()
        while len(soft.kept) < 8:
            assert not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        good = total(work, "ios")
        assert work.submitted - work.completed == 8
        ctrl.reset()
        assert pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        assert work.submitted == work.completed
        assert (total(work, "ios"), total(work, "failed")) == (good, 8)
        assert work.results["failed"].tolist() == [8, 0, 0, 0]
        assert pair.outstanding == 0
        assert pair.drain() == []
        # The queue pair is free for another.
        soft.io = lambda _: OK
        second, buffer = on_a_pair(ctrl, 8)
        while not pair.run_loop(
            second, 5_000_000, geometry=ctrl.namespaces[1].current(), owner=buffer
        ):
            pass
        assert second.completed == BLOCKS


def test_resets_beside_a_workload(soft: SoftController, ctrl: Controller) -> None:
    """Whenever it comes, each I/O is counted once, well or not."""
    with ctrl.queue_pair(8) as pair:
        for _ in range(5):
            work, buffer = on_a_pair(ctrl, 8, time_based=True, norandommap=True)
            geometry = ctrl.namespaces[1].current()
            thread = threading.Timer(0.03, ctrl.reset)
            thread.start()
            while not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer):
                pass
            thread.join()
            assert work.submitted == work.completed
            assert total(work, "ios") + total(work, "failed") == work.completed
            assert total(work, "failed") <= 8
            assert pair.outstanding == 0
    assert ctrl.resets == 5
