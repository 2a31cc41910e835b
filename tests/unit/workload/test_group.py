"""Workloads that one thread runs together, each on its queue: one job in all that counts."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import pytest
from disturbance import until_right
from generator_rig import BLOCK, endless, generator
from ring_rig import PostedRig, Rig
from soft_controller import OK, SoftController, keep_reads
from workload_rig import COMMANDS, SECOND, SLICE, workload

from pynvme_user import Controller, ControllerFatalError
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.spec.commands import SQE
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.pace import Pace, Rate


def together(gen: Generator, rigs: list[Rig], **options: object) -> WorkloadGroup:
    return WorkloadGroup([workload(gen, rig, **options) for rig in rigs], blocks=1)


def rings(rigs: list[Rig]) -> list[object]:
    return [rig.ring for rig in rigs]


def run(group: WorkloadGroup, rigs: list[Rig], timeout_ns: int = SLICE) -> bool:
    """Go on until the time is over or all are done."""
    group.run_members(rings(rigs), timeout_ns)  # type: ignore[arg-type]
    group.take_ends()
    return all(group.is_done(member) for member in group.members)


@pytest.mark.parametrize("queues", [1, 2, 7])
def test_each_io_is_done_once_and_counted_with_all(queues: int) -> None:
    rigs: list[Rig] = [Rig(depth=3) for _ in range(queues)]
    group = together(generator("randread"), rigs)
    places: list[int] = []
    busy = set()
    statuses = itertools.cycle([0, 0, 0, 0x281])
    while not run(group, rigs):
        for number, rig in enumerate(rigs):
            for sqe in rig.take():
                busy.add(number)
                places.append(sqe.cdw10)
                rig.complete(sqe.cid, next(statuses))
    assert sorted(places) == list(range(1000))
    assert busy == set(range(queues))
    assert group.exhausted
    assert (group.submitted, group.completed) == (1000, 1000)
    for results in (group.results, group.ended):
        assert results["ios"].tolist() == [750, 0, 0, 0]
        assert results["failed"].tolist() == [250, 0, 0, 0]
        for name in ("slat", "clat", "lat"):
            assert results[name]["count"].tolist() == [750, 0, 0, 0]
    assert group.errors == {0x281: 250}
    assert group.errors_by_direction == {(0, 0x281): 250}
    depths, submits, reaps = group.batches
    assert depths.sum() == 1000
    assert submits.sum() > 0
    assert group.turns >= reaps.sum() > 0


def test_a_queue_that_stands_still_keeps_no_other_waiting() -> None:
    rigs: list[Rig] = [Rig(depth=2), PostedRig(depth=2)]
    rigs[1].answer = rigs[1].complete_all  # type: ignore[attr-defined]
    group = together(generator("randread"), rigs)
    while not group.is_done(group.members[1]):
        assert not run(group, rigs, 10 * SECOND)
    assert (group.submitted, group.completed) == (1000, 998)
    assert group.ended["slat"]["count"].tolist() == [998, 0, 0, 0]
    group.clear()
    assert group.results["slat"]["count"].tolist() == [2, 0, 0, 0]
    assert group.ended["slat"]["count"].tolist() == [0, 0, 0, 0]
    rigs[0].complete_all()
    assert run(group, rigs)
    assert group.results["ios"].tolist() == [2, 0, 0, 0]


def test_stop_drains_all_and_they_go_on_together() -> None:
    rigs: list[Rig] = [Rig(depth=2), Rig(depth=2)]
    group = together(endless(), rigs)
    for rounds in (1, 2):
        assert not run(group, rigs)
        group.stop()
        assert not run(group, rigs)
        for rig in rigs:
            rig.complete_all()
        while not run(group, rigs):
            pass
        assert group.submitted == group.completed == 4 * rounds
        group.rearm()
        group.go_on()


def test_a_rate_is_spread_over_the_queues() -> None:
    """The first I/Os of the queues are due one after another, not all at once."""

    def attempt() -> str:
        rigs: list[Rig] = [PostedRig(depth=4) for _ in range(4)]
        arrived: list[tuple[float, int]] = []
        for number, rig in enumerate(rigs):

            def answer(number: int = number, rig: Rig = rig) -> None:
                for sqe in rig.take():
                    arrived.append((time.monotonic(), number))
                    rig.complete(sqe.cid)

            rig.answer = answer  # type: ignore[attr-defined]
        pace = Pace(rates=(Rate(ios=10), Rate(), Rate()))
        group = together(endless(), rigs, pace=pace)
        start = time.monotonic()
        assert not run(group, rigs, SECOND // 10 * 9)
        # At 0, 25, 50 ... ms; what came late came all the same, but for what the end cut off.
        assert len(arrived) <= (time.monotonic() - start) / 0.025 + 1
        assert all(when - start >= 0.025 * nth - 0.001 for nth, (when, _) in enumerate(arrived))
        counts = Counter(number for _, number in arrived)
        apart = max(counts.values()) - min(counts[number] for number in range(4))
        right = len(arrived) >= 36 and apart <= 1
        return "" if right else f"{len(arrived)} I/Os, {apart} apart"

    until_right(attempt)


def test_a_full_log_ends_a_run_and_loses_nothing() -> None:
    rigs: list[Rig] = [PostedRig(depth=7) for _ in range(3)]
    for rig in rigs:
        rig.answer = rig.complete_all  # type: ignore[attr-defined]
    group = together(generator("read"), rigs, records=13)
    offsets: list[int] = []
    done = False
    while not done:
        done = run(group, rigs, SECOND)
        log = group.take_records()
        assert (log["end_ns"][1:] >= log["end_ns"][:-1]).all()
        offsets += log["offset"].tolist()
    assert sorted(offsets) == [n * BLOCK for n in range(1000)]


def test_a_completion_of_nothing_on_one_of_them() -> None:
    rigs: list[Rig] = [Rig(depth=2), Rig(depth=2)]
    group = together(endless(), rigs)
    assert not run(group, rigs)
    rigs[1].complete(77)
    with pytest.raises(ControllerFatalError, match="not outstanding"):
        run(group, rigs)
    assert (group.submitted, group.completed) == (4, 0)
    group.fail_rest(0x371)
    assert group.completed == 4
    assert group.results["failed"].tolist() == [4, 0, 0, 0]


# --- on queue pairs -------------------------------------------------------------------------------


def on_pairs(ctrl: Controller, pairs: list[object], gen: Generator) -> tuple[WorkloadGroup, object]:
    buffer = ctrl.alloc(len(pairs) * 2 * BLOCK)
    step = 2 * BLOCK
    made = [
        Workload(
            gen,
            commands=COMMANDS,
            buffer=buffer[place * step : (place + 1) * step],  # type: ignore[arg-type]
            queue_depth=2,
            block_shift=9,
        )
        for place in range(len(pairs))
    ]
    return WorkloadGroup(made, blocks=1), buffer


def test_advance_to_the_end_twice(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []

    def answer(sqe: SQE) -> object:
        seen.append(sqe.cdw10)
        return OK

    soft.io = answer  # type: ignore[assignment]
    with ctrl.queue_pair(2) as one, ctrl.queue_pair(2) as two:
        pairs = QueuePairGroup([one, two])
        geometry = ctrl.namespaces[1].current()
        for _ in range(2):
            group, buffer = on_pairs(ctrl, [one, two], generator("randread", size=64 * BLOCK))
            while not pairs.run_loop(group, 5_000_000, geometry=geometry, owner=buffer):  # type: ignore[arg-type]
                pass
            assert group.completed == 64
            assert sorted(seen) == list(range(64))
            seen.clear()
            assert one.outstanding == two.outstanding == 0
        assert pairs.doorbell_writes == one.doorbell_writes + two.doorbell_writes


def test_a_reset_gives_all_up(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    with ctrl.queue_pair(2) as one, ctrl.queue_pair(2) as two:
        pairs = QueuePairGroup([one, two])
        group, buffer = on_pairs(ctrl, [one, two], endless())
        geometry = ctrl.namespaces[1].current()
        while len(soft.kept) < 4:
            assert not pairs.run_loop(group, 5_000_000, geometry=geometry, owner=buffer)  # type: ignore[arg-type]
        ctrl.reset()
        assert pairs.run_loop(group, 5_000_000, geometry=geometry, owner=buffer)  # type: ignore[arg-type]
        assert group.submitted == group.completed == 4
        assert group.results["failed"].tolist() == [4, 0, 0, 0]
        assert one.outstanding == two.outstanding == 0


def test_a_look_at_many_queues_reads_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    with Controller(PcieTransport(SoftController(queues=(30, 30)))) as ctrl:
        device = ctrl.namespaces[1].device
        alive = device.check_alive

        def ask() -> None:
            asked.append(1)
            alive()

        monkeypatch.setattr(device, "check_alive", ask)
        pairs = [ctrl.queue_pair(2) for _ in range(21)]
        group, buffer = on_pairs(ctrl, pairs, endless())  # type: ignore[arg-type]
        geometry = ctrl.namespaces[1].current()
        every = QueuePairGroup(pairs)
        asked.clear()
        assert not every.run_loop(group, 5_000_000, geometry=geometry, owner=buffer)  # type: ignore[arg-type]
        assert len(asked) == 1
        group.stop()
        while not every.run_loop(group, 5_000_000, geometry=geometry, owner=buffer):  # type: ignore[arg-type]
            pass


def test_a_command_of_any_queue_that_is_overdue_is_aborted(
    soft: SoftController, ctrl: Controller
) -> None:
    with ctrl.queue_pair(2) as one, ctrl.queue_pair(2) as two:
        pairs = QueuePairGroup([one, two])
        group, buffer = on_pairs(ctrl, [one, two], endless())
        ctrl.timeout = 0.1
        kept: list[int] = []

        def answer(sqe: SQE) -> object:
            if not kept and group.members[1].completed > 10:
                kept.append(sqe.cid)
                return None
            return OK

        soft.io = answer  # type: ignore[assignment]
        geometry = ctrl.namespaces[1].current()
        while not group.errors:
            assert not pairs.run_loop(group, 5_000_000, geometry=geometry, owner=buffer)  # type: ignore[arg-type]
        group.stop()
        while not pairs.run_loop(group, 5_000_000, geometry=geometry, owner=buffer):  # type: ignore[arg-type]
            pass
        assert "abort" in soft.log
        assert sum(group.errors.values()) == 1
        assert ctrl.resets == 0
