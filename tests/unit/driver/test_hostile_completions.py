"""Completions that a controller must not post, met by each of the public ways to run a command.

Each round posts one instead of the command's own, which never comes: whoever believes it has
success without data. It has to be a ControllerFatalError and a reset, after which the same command
succeeds. PYNVME_USER_HOSTILE is how many rounds there are of each way; tests/c/hostile_test.c does
a million on the ring alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import numpy as np
import pytest
from generator_rig import generator
from soft_controller import OK, SoftController

from pynvme_user import Controller, ControllerFatalError, DmaBuffer, Namespace, QueuePair
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.loop import Workload

ROUNDS = int(os.environ.get("PYNVME_USER_HOSTILE") or 30)
DEPTH = 7  # the index has three bits
STEP = 8
DATA = 0x5A


def call(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    ns.read_into(0, buffer)


def bytes_of_blocks(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    buffer[:] = np.frombuffer(ns.read(0, 1), np.uint8)


def submit_and_poll(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    cid = qp.submit_read(ns, 0, 1, buffer)
    done = []
    while not done:
        done = qp.poll()
    assert [completion.cid for completion in done] == [cid]
    assert done[0].status.ok


def batch(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    assert qp.submit_many(ns, [NvmOpcode.READ], 0, 1, buffer, 0, tags=[77]) == 1
    done = qp.reap(None)
    assert done.tags.tolist() == [77]
    done.check()


def vector(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    qp.read_many(ns, [0], 1, buffer).check()


def benchmark(ns: Namespace, qp: QueuePair, buffer: DmaBuffer, command_blocks: int = 0) -> None:
    memory = ns.controller.alloc(DEPTH * 512)
    work = Workload(
        generator("read", size=512, number_ios=1),
        commands={0: bytes(SQE.build(opc=NvmOpcode.READ, nsid=1))},
        buffer=memory,
        queue_depth=DEPTH,
        block_shift=9,
        depth=1,
        command_blocks=command_blocks,
    )
    while not qp.run_loop(work, 1_000_000_000, geometry=ns.current(), owner=memory):
        pass
    assert not work.errors
    filled = np.flatnonzero(memory.reshape(DEPTH, 512).all(axis=1))
    assert len(filled) == work.completed == 1
    buffer[:] = memory[filled[0] * 512 :][:512]


def benchmark_of_commands(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    benchmark(ns, qp, buffer, command_blocks=1)


def raw(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    ns.controller.io(NvmOpcode.READ, nsid=1, buffer=buffer)


WAYS = [
    call,
    bytes_of_blocks,
    submit_and_poll,
    batch,
    vector,
    benchmark,
    benchmark_of_commands,
    raw,
]


class Hostile:
    """What the controller posts instead of a read's completion."""

    def __init__(self, soft: SoftController) -> None:
        self._soft = soft
        self._random = random.Random(1)
        self.armed = False
        self.seen: list[tuple[int, SQE]] = []  # queue id and command, of all that came
        self.reads = 0
        soft.io = self._io

    def _io(self, sqe: SQE) -> Status | None:
        self.reads += 1
        qid = self._soft.qid
        self.seen = [*self.seen[-40:], (qid, sqe)]
        if not self.armed:
            self._soft.fill(sqe, bytes([DATA]) * 512)
            return OK
        self.post(self._wrong_cid(qid, sqe), qid)
        return None

    def _wrong_cid(self, qid: int, sqe: SQE) -> int:
        """Of an earlier command of the index, of another index, or of none."""
        index = sqe.cid % STEP
        earlier = [s.cid for q, s in self.seen[:-1] if q == qid and s.cid % STEP == index]
        return self._random.choice(
            [
                *earlier[-15:],
                sqe.cid + STEP & 0xFFFF,
                sqe.cid ^ 0x8000,
                sqe.cid - index + (index + 1) % DEPTH,
                sqe.cid | STEP - 1,
                0xFFFF,
            ]
        )

    def post(self, cid: int, qid: int) -> None:
        self._soft.complete(qid, self.seen[-1][1].replace(cid=cid), OK)


@pytest.fixture
def hostile(soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    monkeypatch.setattr("pynvme_user.driver.pool._DEPTH", DEPTH)
    return Hostile(soft)


Way = Callable[[Namespace, QueuePair, DmaBuffer], None]


@pytest.mark.parametrize("way", WAYS)
def test_in_place_of_the_right_one(
    soft: SoftController, ctrl: Controller, hostile: Hostile, way: Way
) -> None:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    with ctrl.queue_pair(DEPTH) as qp:
        for number in range(ROUNDS):
            for _ in range(number % 3):
                way(ns, qp, buffer)
            hostile.armed = True
            buffer.fill(0)
            with pytest.raises(ControllerFatalError, match="not outstanding"):
                way(ns, qp, buffer)
            assert ctrl.resets == number + 1
            assert not buffer.any()
            hostile.armed = False
            if way is batch:
                left = qp.reap()
                assert left.tags.tolist() == [77]
                assert left.failed.tolist() == [0]
            else:
                assert [done.status.ok for done in qp.drain()] in ([], [False])
            way(ns, qp, buffer)
            assert (buffer == DATA).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_duplicate_for_the_next_call(
    soft: SoftController, ctrl: Controller, hostile: Hostile, way: Way
) -> None:
    """Posted while nothing is outstanding: the next command is not even sent."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    with ctrl.queue_pair(DEPTH) as qp:
        for number in range(ROUNDS):
            way(ns, qp, buffer)
            qid, last = hostile.seen[-1]
            hostile.post(last.cid, qid)
            sent = hostile.reads
            buffer.fill(0)
            with pytest.raises(ControllerFatalError, match="not outstanding"):
                way(ns, qp, buffer)
            assert hostile.reads == sent
            assert ctrl.resets == number + 1
            assert not buffer.any()
            way(ns, qp, buffer)
            assert (buffer == DATA).all()


@pytest.mark.parametrize("way", WAYS)
def test_one_of_before_a_reset(
    soft: SoftController, ctrl: Controller, hostile: Hostile, way: Way
) -> None:
    """A late one, of a command that the reset ended, of an old queue of the same id."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    with ctrl.queue_pair(DEPTH) as qp:
        for number in range(ROUNDS):
            way(ns, qp, buffer)
            qid, last = hostile.seen[-1]
            ctrl.reset()
            hostile.post(last.cid, qid)
            buffer.fill(0)
            with pytest.raises(ControllerFatalError, match="not outstanding"):
                way(ns, qp, buffer)
            assert ctrl.resets == 2 * number + 2
            assert not buffer.any()
            way(ns, qp, buffer)
            assert (buffer == DATA).all()


def test_a_new_queue_pair_goes_on_where_the_old_one_ended(
    ctrl: Controller, hostile: Hostile
) -> None:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    cids = []
    for depth in (DEPTH, DEPTH, DEPTH, 3, 3, 15, DEPTH):
        with ctrl.queue_pair(depth) as qp:
            submit_and_poll(ns, qp, buffer)
            cids.append(hostile.seen[-1][1].cid)
    assert len(set(cids)) == len(cids)


def test_no_cid_before_its_outcome_is_handed_over(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    soft.io = lambda _: None
    with ctrl.queue_pair(DEPTH) as qp:
        aborted = {qp.submit_read(ns, 0, 1, buffer) for _ in range(DEPTH - 2)}
        qp.ring()
        ctrl.reset()
        later = [qp.submit_read(ns, 0, 1, buffer) for _ in range(2)]
        assert not {cid % STEP for cid in aborted} & {cid % STEP for cid in later}
        with pytest.raises(Exception, match="poll for completions"):
            qp.submit_read(ns, 0, 1, buffer)
        assert {done.cid for done in qp.poll()} == aborted
        soft.io = lambda _: OK
        again = {qp.submit_read(ns, 0, 1, buffer) for _ in range(DEPTH - 2)}
        assert not aborted & again
        assert {cid % STEP for cid in again} == {cid % STEP for cid in aborted}
        ctrl.reset()
        assert {done.cid for done in qp.drain()} >= set(later) | again


def test_plain_cids(soft: SoftController) -> None:
    """For a controller that takes no CID above the depth: each is below it, and reused at once."""
    seen: list[int] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe.cid)
        return OK

    soft.io = soft.admin = look
    with Controller(PcieTransport(soft), plain_cids=True) as ctrl:
        buffer = ctrl.alloc(512)
        with ctrl.queue_pair(DEPTH) as qp:
            for _ in range(20):
                submit_and_poll(ctrl.namespaces[1], qp, buffer)
    assert max(seen) < 63
    assert seen.count(0) > 20
