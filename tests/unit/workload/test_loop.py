"""The benchmark's loop: what it counts is what the device did, to the nanosecond."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from generator_rig import BLOCK, Sizes, generator
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import DATA_IOVA, PIECE, PostedRig, Rig, data_buffer, joined
from workload_rig import COMMANDS, NONE_YET, OPCODES, SECOND, SLICE, squares, total, workload

from pynvme_user import ControllerFatalError
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.workload.loop import Workload
from pynvme_user.workload.pace import Pace, Rate
from pynvme_user.workload.records import FLUSH, IO_DTYPE

# --- what is counted ------------------------------------------------------------------------------


class Counted:
    """What a device that completes with planted statuses has seen."""

    RANGE = np.dtype([("blocks", "<u4"), ("lba", "<u8")])

    def __init__(self, rig: Rig, statuses: Callable[[], int]) -> None:
        self.rig, self.statuses = rig, statuses
        self.buffer = data_buffer(rig.depth)
        self.ios, self.blocks, self.failed, self.commands = [0] * 4, [0] * 4, [0] * 4, [0] * 4
        self.places: list[tuple[int, int]] = []

    def answer(self, sqe: SQE) -> None:
        """Complete a command once all of it is right."""
        direction = sqe.cdw13
        lba, blocks = sqe.cdw11 << 32 | sqe.cdw10, (sqe.cdw12 & 0xFFFF) + 1
        length = blocks << 9
        if direction == 2:
            # The range is in the command's data (NVM 1.0, section 3.2.3).
            data = self.buffer[self.rig.index(sqe.cid) * PIECE :]
            lba, blocks, length = *data[4:16].view(self.RANGE)[0].tolist()[::-1], 16
        assert sqe.opc == OPCODES[direction]
        assert sqe.nsid == 1
        assert joined(self.rig.data(sqe, length)) == (
            DATA_IOVA + self.rig.index(sqe.cid) * PIECE,
            length,
        )
        self.places.append((lba, blocks))
        status = self.statuses()
        self.commands[direction] += 1
        if status & 0x7FF:
            self.failed[direction] += 1
        else:
            self.ios[direction] += 1
            self.blocks[direction] += blocks
        self.rig.complete(sqe.cid, status)

    def check(self, work: Workload) -> None:
        """Compare with what the loop counted."""
        for name in ("ios", "blocks", "failed"):
            assert work.results[name].tolist() == getattr(self, name), name
        assert work.submitted == work.completed == sum(self.commands)
        for direction in range(4):
            result = work.results[direction]
            for name in ("slat", "clat", "lat"):
                assert result[name]["count"] == self.ios[direction]
                assert result[name]["counts"].sum() == self.ios[direction]


@given(
    depth=st.integers(1, 12),
    limit=st.integers(1, 12),
    spare=st.sampled_from((0, 3, 200)),
    rw=st.sampled_from(("read", "randwrite", "randrw", "trimwrite", "randtrim")),
    sgl=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_random_statuses_in_random_batches(
    depth: int, limit: int, spare: int, rw: str, sgl: bool, seed: int
) -> None:
    chance = random.Random(seed)
    rig = Rig(depth, spare=spare, use_sgl=sgl)
    sizes = Sizes(BLOCK, 64 * BLOCK)
    seen = Counted(rig, lambda: chance.choice((0, 0, 0x7800, chance.randrange(0x8000))))
    gen = generator(rw, sizes, size=5000 * BLOCK, seed=seed)
    work = workload(gen, rig, min(depth, limit), buffer=seen.buffer)
    fetched: list[SQE] = []
    done = False
    while not done:
        done = work.run(rig.ring, SLICE)
        fetched += rig.take()
        assert rig.ring.outstanding <= min(depth, limit)
        chance.shuffle(fetched)
        for _ in range(chance.randint(0, len(fetched))):
            seen.answer(fetched.pop())
    assert not fetched
    assert rig.ring.outstanding == 0
    assert rig.ring.completed == sum(seen.commands)
    seen.check(work)
    whole = generator(rw, sizes, size=5000 * BLOCK, seed=seed).take(100_000)
    assert sorted(seen.places) == sorted(whole[["lba", "blocks"]].tolist())


def test_all_32768_statuses() -> None:
    rig = PostedRig(depth=40)
    statuses = iter(range(0x8000))
    work = workload(generator(size=0x8000 * BLOCK), rig)
    seen = Counted(rig, lambda: next(statuses))
    rig.answer = lambda: [seen.answer(sqe) for sqe in rig.take()]
    assert work.run(rig.ring, 60 * SECOND)
    rig.checked()
    seen.check(work)
    assert total(work, "ios") == 16


def test_latencies_of_known_length() -> None:
    """slat ends at the doorbell, clat at the turn that reaps; lat is both, I/O for I/O."""
    rig = PostedRig(depth=4)
    work = workload(generator(size=40 * BLOCK), rig)

    def answer() -> None:
        time.sleep(0.004)  # the doorbell itself is slow: this is submission latency

    rig.answer = answer
    turns = 0
    while not work.run(rig.ring, SLICE):
        turns += 1
        time.sleep(0.012)
        rig.complete_all()
    assert turns == 10
    result = work.results[0]
    slat, clat, lat = (result[name] for name in ("slat", "clat", "lat"))
    assert 4e6 <= slat["min"] < 12e6
    assert slat["min"] <= slat["max"]
    assert 12e6 <= clat["min"] <= clat["max"]
    assert 16e6 <= lat["min"] <= lat["max"]
    both = int(slat["sum"]) + int(clat["sum"])
    assert 0 <= int(lat["sum"]) - both <= 40  # each is rounded down to nanoseconds
    assert squares(lat) >= squares(slat) + squares(clat)


@pytest.mark.parametrize("rate", [0, 2000], ids=["as fast as it goes", "at a rate"])
def test_the_log_and_the_histograms_agree(rate: int) -> None:
    """Each I/O of the log has the three times that were counted. Under a rate that the device does
    not keep up with, lat counts from the arrival, and is longer than the two others together.
    """
    rig = PostedRig(depth=2)

    def answer() -> None:
        time.sleep(0.002)
        rig.complete_all()

    rig.answer = answer
    pace = Pace(rates=(Rate(ios=rate), Rate(), Rate()))
    work = workload(generator(size=20 * BLOCK), rig, pace=pace, records=100)
    while not work.run(rig.ring, 10 * SECOND):
        pass
    rig.checked()
    log = work.take_records()
    assert len(log) == 20
    result = work.results[0]
    for name in ("slat", "clat", "lat"):
        assert result[name]["count"] == 20
        assert abs(int(log[name].sum()) - int(result[name]["sum"])) <= 20, name
        assert abs(int(log[name].max()) - int(result[name]["max"])) <= 1, name
    queued = int(result["lat"]["sum"]) - int(result["slat"]["sum"]) - int(result["clat"]["sum"])
    if rate:
        # One or two each 2 ms, where four are due: the last waits for 8 ms and more.
        assert queued > 20 * 3_000_000
    else:
        assert 0 <= queued <= 20
    assert (np.diff(log["end_ns"].astype(np.int64)) >= 0).all()
    assert len(work.take_records()) == 0


def test_a_full_log_ends_the_run_and_loses_nothing() -> None:
    rig = PostedRig(depth=7)
    rig.answer = rig.complete_all
    work = workload(generator(size=100 * BLOCK), rig, records=13)
    offsets: list[int] = []
    done = False
    while not done:
        done = work.run(rig.ring, SECOND)
        log = work.take_records()
        assert len(log) <= 13
        assert (log["bytes"] == BLOCK).all()
        offsets += log["offset"].tolist()
    assert sorted(offsets) == [n * BLOCK for n in range(100)]


def test_no_latency_is_less_than_the_devices() -> None:
    """The device shares the loop's CPU and takes it away before it completes, between the clock and
    the look at the queue as well.
    """
    rig = Rig(depth=1)
    cpus = os.sched_getaffinity(0)
    least = 300_000

    def device() -> None:
        for _ in range(300):
            while not (commands := rig.take()):
                time.sleep(50e-6)
            start = time.perf_counter_ns()
            while time.perf_counter_ns() - start < least:
                pass
            rig.complete(commands[0].cid)

    os.sched_setaffinity(0, {min(cpus)})
    try:
        thread = threading.Thread(target=device)
        thread.start()
        work = workload(generator(number_ios=300, size=300 * BLOCK), rig)
        assert work.run(rig.ring, 60 * SECOND)
        thread.join()
    finally:
        os.sched_setaffinity(0, cpus)
    assert work.results[0]["lat"]["count"] == 300
    assert work.results[0]["lat"]["min"] >= least - 1000


def test_what_was_due_at_different_times_has_different_latencies() -> None:
    rig = Rig(depth=8)
    pace = Pace(rates=(Rate(ios=1000), Rate(), Rate()))
    work = workload(generator(time_based=True, norandommap=True), rig, pace=pace)
    assert not work.run(rig.ring, SLICE)
    time.sleep(0.02)
    assert not work.run(rig.ring, SLICE)  # seven are due, a millisecond apart: in two doorbells
    assert rig.ring.outstanding == 8
    rig.complete_all()
    assert not work.run(rig.ring, SLICE)
    assert np.count_nonzero(work.results["lat"]["counts"][0]) >= 7


def test_errors_by_their_status() -> None:
    """SCT and SC; More, DNR and the retry delay are no part of it. What there is no room for is
    counted with the last.
    """
    rig = PostedRig(depth=3)
    statuses = iter([0x7800, 0x4281, 0x281, 0x6002, 0, *range(1, 40)])
    rig.answer = lambda: rig.complete_all(lambda _: next(statuses))
    work = workload(generator(size=44 * BLOCK), rig)
    assert work.run(rig.ring, SECOND)
    errors = work.errors
    assert errors[0x281] == 2
    assert errors[0x002] == 2
    assert len(errors) == 16
    assert sum(errors.values()) == total(work, "failed") == 42


def test_batches_in_fio_s_classes() -> None:
    rig = Rig(depth=64)
    work = workload(generator(size=200 * BLOCK), rig)
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    depths, submits, reaps = (counts.tolist() for counts in work.batches)
    # 32 and 32 to begin with, then as many as were reaped, and the last 8 with those that are left.
    assert depths == [0, 0, 0, 0, 0, 32 + 8, 5 * 32]
    assert submits == [0, 0, 1, 0, 6, 0, 0]
    assert reaps[1:] == [0, 1, 1, 6, 0, 0]
    assert sum(reaps[1:]) <= work.turns


@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_flush_after_so_many_writes(every: int) -> None:
    rig = PostedRig(depth=4)
    order: list[int] = []

    def answer() -> None:
        for sqe in rig.take():
            order.append(sqe.opc)
            rig.complete(sqe.cid)

    rig.answer = answer
    commands = COMMANDS | {FLUSH: bytes(SQE.build(opc=NvmOpcode.FLUSH, nsid=1, cdw13=9))}
    gen = generator("write", size=30 * BLOCK)
    work = workload(gen, rig, commands=commands, pace=Pace(members={"flush_every": every}))
    assert work.run(rig.ring, SECOND)
    rig.checked()
    wanted = ([int(NvmOpcode.WRITE)] * every + [int(NvmOpcode.FLUSH)]) * (30 // every)
    assert order in (wanted, wanted[:-1])
    assert work.results["ios"].tolist() == [0, 30, 0, order.count(NvmOpcode.FLUSH)]


def test_a_list_in_place_of_the_generator() -> None:
    rig = PostedRig(depth=4)
    seen = Counted(rig, lambda: 0)
    rig.answer = lambda: [seen.answer(sqe) for sqe in rig.take()]
    work = workload(generator(size=10 * BLOCK), rig, buffer=seen.buffer)
    for start in (0, 5):
        ios = np.zeros(9, IO_DTYPE)
        ios["lba"], ios["blocks"] = np.arange(9) * 100 + start, np.arange(1, 10)
        work.go_through(ios)
        assert work.run(rig.ring, SECOND)
        assert work.exhausted
        assert sorted(seen.places) == [(n * 100 + start, n + 1) for n in range(9)]
        seen.places.clear()
    work.resume()
    assert work.run(rig.ring, SECOND)
    assert sorted(place for place, _ in seen.places) == list(range(10))
    rig.checked()
    seen.check(work)


def test_a_pause_after_so_many_writes() -> None:
    rig = PostedRig(depth=4)
    rig.answer = rig.complete_all
    work = workload(generator("write", size=20 * BLOCK), rig)
    for writes in (7, 0, 13):
        before = work.completed
        work.pause_after(writes)
        assert work.run(rig.ring, SECOND)
        assert work.completed - before == writes
    work.pause_after(None)
    assert work.run(rig.ring, SECOND)
    assert work.exhausted


def test_counting_anew() -> None:
    """As after a ramp time: what has ended before is forgotten, what ends later is not."""
    rig = Rig(depth=4)
    work = workload(generator(size=10 * BLOCK), rig)
    assert (work.results["clat"]["min"] == NONE_YET).all()
    work.run(rig.ring, SLICE)
    rig.complete_all()
    work.run(rig.ring, SLICE)
    assert total(work, "ios") == 4
    work.clear()
    assert total(work, "ios") == total(work, "blocks") == 0
    assert work.results["slat"]["count"].tolist() == [4, 0, 0, 0], "what is outstanding"
    for results, names in ((work.results, ("clat", "lat")), (work.ended, ("slat", "clat", "lat"))):
        for name in names:
            assert not results[name]["counts"].any()
            assert not results[name]["sum"].any()
            assert not results[name]["squares_low"].any()
    assert (work.results["clat"]["min"] == NONE_YET).all()
    assert [counts.sum() for counts in work.batches] == [0, 0, 0]
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    assert total(work, "ios") == 6
    assert work.completed == work.submitted == 10


@given(
    depth=st.integers(1, 12),
    rw=st.sampled_from(("read", "randrw", "randtrim")),
    held_back=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_slat_clat_and_lat_count_the_same_ios(
    depth: int, rw: str, held_back: bool, seed: int
) -> None:
    """At any time, after a ramp, when I/Os fail or are given up: those that ended well since."""
    chance = random.Random(seed)
    rig = Rig(depth)
    seen = Counted(rig, lambda: chance.choice((0, 0, 0x281)))
    pace = Pace(members={"reap_min": 2 if held_back and depth > 1 else 0})
    gen = generator(rw, Sizes(BLOCK, 8 * BLOCK), size=5000 * BLOCK, seed=seed)
    work = workload(gen, rig, buffer=seen.buffer, pace=pace)
    fetched: list[SQE] = []

    def check(rounds: int) -> None:
        for _ in range(rounds):
            work.run(rig.ring, SLICE)
            fetched.extend(rig.take())
            chance.shuffle(fetched)
            for _ in range(chance.randint(0, len(fetched))):
                seen.answer(fetched.pop())
            for of in work.ended:
                counts = {int(of[name]["count"]) for name in ("slat", "clat", "lat")}
                assert counts == {int(of["ios"])}
                # Each is rounded down to nanoseconds.
                both = int(of["slat"]["sum"]) + int(of["clat"]["sum"])
                assert 0 <= int(of["lat"]["sum"]) - both <= int(of["ios"])

    check(5)
    work.clear()
    check(5)
    work.fail_rest(int(HOST_ABORTED))
    for of in work.results:
        assert of["slat"]["count"] == of["slat"]["counts"].sum() == of["clat"]["count"] == of["ios"]
    rig.ring.abort_all(int(HOST_ABORTED))


def test_one_doorbell_for_each_turn() -> None:
    rig = Rig(depth=31, spare=64)
    work = workload(generator(size=310 * BLOCK), rig)
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    reported = rig.ring.cq_doorbell_writes
    assert rig.ring.doorbell_writes - reported == sum(work.batches[1].tolist()) == 20
    assert reported == 310 // 65


# --- step by step ---------------------------------------------------------------------------------


def test_overhead_times_each_step() -> None:
    rig = PostedRig(depth=4, spare=3)

    def answer() -> None:
        time.sleep(0.001)
        rig.complete_all(lambda sqe: sqe.cdw10 & 1)

    rig.answer = answer
    work = workload(generator(size=50 * BLOCK), rig)
    submit, complete = work.overhead(rig.ring, 40, 60 * SECOND)
    rig.checked()
    assert submit["count"] == complete["count"] == 40
    assert submit["counts"].sum() == complete["counts"].sum() == 40
    assert 1_000_000 <= submit["min"] <= submit["max"] < SECOND
    assert 0 < complete["min"] < 1_000_000
    assert rig.ring.outstanding == 0
    assert rig.ring.completed == 40
    submit, _ = work.overhead(rig.ring, 40, 60 * SECOND)
    assert submit["count"] == 10  # the generator's end


def test_overhead_ends_in_time_and_with_an_error() -> None:
    rig = Rig()
    submit, complete = workload(generator(), rig).overhead(rig.ring, 5, 20_000_000)
    assert (submit["count"], complete["count"]) == (1, 0)
    with pytest.raises(ValueError, match="outstanding"):
        workload(generator(), rig).overhead(rig.ring, 5, SECOND)
    quick = PostedRig()
    quick.answer = quick.complete_all
    work = workload(generator(time_based=True, norandommap=True), quick)
    for _ in range(2 * quick.depth):
        submit, complete = work.overhead(quick.ring, 1 << 40, 2_000_000)
        assert submit["count"] == complete["count"] > 0
        assert quick.ring.outstanding == 0
    posted = PostedRig()
    posted.answer = lambda: posted.complete(2)
    with pytest.raises(ControllerFatalError):
        workload(generator(), posted).overhead(posted.ring, 5, SECOND)
