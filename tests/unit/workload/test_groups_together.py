"""Groups on several controllers, driven by one thread: the others do not feel what befalls one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from generator_rig import BLOCK, endless, generator
from ring_rig import PostedRig, Rig
from soft_controller import OK, SoftController, keep_reads
from test_group import on_pairs, together
from workload_rig import SECOND, SLICE

from pynvme_user import Controller, ControllerFatalError, DeviceRemovedError
from pynvme_user.driver.device import State
from pynvme_user.driver.queue_pair_group import GroupRun, QueuePairGroup, run_together
from pynvme_user.spec.commands import SQE
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.pace import Pace, Rate

Outcome = bool | Exception


class Side:
    """A controller with two queue pairs, and what runs on them."""

    def __init__(self) -> None:
        self.soft = SoftController()
        self.ctrl = Controller(PcieTransport(self.soft), ready_timeout=0.5)
        self.pairs = [self.ctrl.queue_pair(2) for _ in range(2)]
        self.group = QueuePairGroup(self.pairs)

    def turn(self, gen: Generator) -> GroupRun:
        loop, buffer = on_pairs(self.ctrl, self.pairs, gen)  # type: ignore[arg-type]
        self.loop = loop
        geometry = self.ctrl.namespaces[1].current()
        return GroupRun(self.group, loop, geometry, buffer)  # type: ignore[arg-type]


@pytest.fixture
def sides(impatient: None) -> Iterator[tuple[Side, Side]]:
    both = Side(), Side()
    yield both
    for side in both:
        side.ctrl.close()


def until(turns: list[GroupRun], goal: object, timeout_ns: int = 5_000_000) -> list[Outcome]:
    """Let them go on until one's outcome is no more False, or ``goal`` is reached."""
    while True:
        outcomes = run_together(turns, timeout_ns)
        if any(outcome is not False for outcome in outcomes) or (callable(goal) and goal()):
            return outcomes


def drain(turn: GroupRun, side: Side) -> None:
    """Stop one and let it come to its end."""
    side.loop.stop()
    while run_together([turn], SECOND) != [True]:
        pass


def test_each_comes_to_its_own_end(sides: tuple[Side, Side]) -> None:
    for size in (64, 1000):
        turns = [sides[0].turn(generator("randread", size=64 * BLOCK))]
        turns.append(sides[1].turn(generator("randread", size=size * BLOCK)))
        ends: list[int] = []
        while turns:
            for turn, outcome in zip(turns, run_together(turns, 5_000_000), strict=True):
                if outcome:
                    assert outcome is True
                    ends.append(turn.loop.members[0].completed)
                    turns = [other for other in turns if other is not turn]
        assert [side.loop.completed for side in sides] == [64, size]
        assert all(pair.outstanding == 0 for side in sides for pair in side.pairs)


@pytest.mark.parametrize("hit", [0, 1])
def test_a_completion_of_nothing_resets_its_controller_alone(
    sides: tuple[Side, Side], hit: int
) -> None:
    turns = [side.turn(endless()) for side in sides]
    until(turns, lambda: all(side.loop.completed > 10 for side in sides))
    sides[hit].soft.io = keep_reads
    until(turns, lambda: len(sides[hit].soft.kept) == 4)
    sides[hit].soft.post(sides[hit].pairs[1].qid, 0x777, OK)
    before = sides[1 - hit].loop.completed
    outcomes = until(turns, None)
    assert isinstance(outcomes[hit], ControllerFatalError)
    assert outcomes[hit].__traceback__ is None
    assert outcomes[1 - hit] is False
    assert [side.ctrl.resets for side in sides] == [1 - hit, hit]
    until([turns[1 - hit]], lambda: sides[1 - hit].loop.completed > before + 100)
    # And the other, which the reset gave up, can end.
    assert run_together([turns[hit]], SLICE) == [True]
    assert sides[hit].loop.results["failed"].tolist() == [4, 0, 0, 0]
    drain(turns[1 - hit], sides[1 - hit])


def test_one_that_is_gone_ends_alone(sides: tuple[Side, Side]) -> None:
    turns = [side.turn(endless()) for side in sides]
    until(turns, lambda: all(side.loop.completed > 10 for side in sides))
    sides[0].soft.gone = True
    gone, other = until(turns, None)
    assert isinstance(gone, DeviceRemovedError)
    assert other is False
    assert sides[0].pairs[0].device.state is State.REMOVED
    gone, other = run_together(turns, SLICE)
    assert isinstance(gone, DeviceRemovedError)
    assert other is False
    sides[0].loop.fail_rest(0x371)
    before = sides[1].loop.completed
    until(turns[1:], lambda: sides[1].loop.completed > before + 100)
    drain(turns[1], sides[1])


def test_a_reset_of_one_keeps_no_other_waiting(sides: tuple[Side, Side]) -> None:
    """It takes 0.3 s, in which the other's I/O goes on; then its own is given up."""
    sides[0].soft.io = keep_reads
    turns = [side.turn(endless()) for side in sides]
    until(turns, lambda: len(sides[0].soft.kept) == 4)
    sides[0].soft.on_disable = lambda: time.sleep(0.3)
    reset = threading.Thread(target=sides[0].ctrl.reset)
    reset.start()
    meanwhile = 0
    while sides[0].ctrl.resets == 0 or reset.is_alive():
        resetting = sides[0].pairs[0].device.state is State.RESETTING
        before = sides[1].loop.completed
        outcomes = run_together(turns, SLICE)
        assert outcomes[1] is False
        if resetting and reset.is_alive():
            meanwhile += sides[1].loop.completed - before
        if outcomes[0]:
            break
    else:
        outcomes = run_together(turns, SLICE)
    reset.join()
    assert outcomes[0] is True
    assert meanwhile > 100
    assert sides[0].loop.lost == 4
    drain(turns[1], sides[1])


def test_of_one_that_is_reset_alone_the_end_is_waited_for(sides: tuple[Side, Side]) -> None:
    sides[0].soft.io = keep_reads
    turn = sides[0].turn(endless())
    until([turn], lambda: len(sides[0].soft.kept) == 4)
    sides[0].soft.on_disable = lambda: time.sleep(0.1)
    reset = threading.Thread(target=sides[0].ctrl.reset)
    reset.start()
    while sides[0].pairs[0].device.state is not State.RESETTING:
        time.sleep(0.001)
    assert run_together([turn], SLICE) == [True]
    reset.join()


def test_what_is_outstanding_beside_stands_in_the_way_of_one(sides: tuple[Side, Side]) -> None:
    """What stands in the way of one is its own."""
    turns = [side.turn(generator("randread", size=64 * BLOCK)) for side in sides]
    sides[0].soft.io = keep_reads
    space = sides[0].ctrl.namespaces[1]
    sides[0].pairs[1].submit_read(space, 0, 1, sides[0].ctrl.alloc(512))
    busy, other = run_together(turns, SECOND)
    assert "outstanding" in str(busy)
    while other is False:
        busy, other = run_together(turns, SECOND)
    assert other is True
    assert sides[1].loop.completed == 64
    sides[0].ctrl.reset()


def test_who_runs_together_may_change() -> None:
    """A group that stays away for a while comes back to where it was, its rates with it."""
    rigs: list[list[Rig]] = [[PostedRig(depth=4) for _ in range(2)] for _ in range(3)]
    for rig in (rig for of in rigs for rig in of):

        def answer(rig: Rig = rig) -> None:
            for sqe in rig.take():
                rig.complete(sqe.cid)

        rig.answer = answer  # type: ignore[attr-defined]
    pace = Pace(rates=(Rate(ios=1000), Rate(), Rate()))
    groups = [together(endless(), of, pace=pace) for of in rigs]
    rings = [[rig.ring for rig in of] for of in rigs]
    start = time.monotonic()
    for who in ([0, 1, 2], [1, 2], [2], [0, 1, 2], [2, 1, 0], [0], [0, 1], [1, 0, 2]) * 3:
        first, *others = who
        before = [group.completed for group in groups]
        groups[first].run_members(
            rings[first], SECOND // 50, [(groups[of], rings[of]) for of in others]
        )
        for place, group in enumerate(groups):
            group.take_ends()
            assert (group.completed > before[place]) == (place in who)
    passed = time.monotonic() - start
    due = [int(passed * 2000) + 2] * 3
    done = [group.completed for group in groups]
    assert all(np.less_equal(done, due))
    # What came due while one was away was done after that.
    groups[0].run_members(rings[0], 0, [(groups[of], rings[of]) for of in (1, 2)])
    assert max(done) - min(done) <= 2000 * passed / 8


def test_an_overdue_command_is_that_controller_s(sides: tuple[Side, Side]) -> None:
    turns = [side.turn(endless()) for side in sides]
    sides[1].ctrl.timeout = 0.1
    kept: list[int] = []

    def answer(sqe: SQE) -> object:
        if not kept and sides[1].loop.completed > 10:
            kept.append(sqe.cid)
            return None
        return OK

    sides[1].soft.io = answer  # type: ignore[assignment]
    until(turns, lambda: sides[1].loop.errors)
    for side in sides:
        side.loop.stop()
    ended = [False, False]
    while not all(ended):
        left = [turn for turn, end in zip(turns, ended, strict=True) if not end]
        for turn, outcome in zip(left, run_together(left, SLICE), strict=True):
            ended[turns.index(turn)] = bool(outcome)
    assert "abort" in sides[1].soft.log
    assert "abort" not in sides[0].soft.log
    assert not sides[0].loop.errors
