"""The benchmark's loop: what it counts is what the device did, to the nanosecond."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from generator_rig import BLOCK, Sizes, generator
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import DATA_IOVA, PIECE, PostedRig, Rig, data_buffer, joined
from soft_controller import BLOCKS, OK, SoftController, keep_reads

from pynvme_user import Controller, ControllerFatalError, DeviceRemovedError, DmaError
from pynvme_user._ring_cffi import ffi, lib
from pynvme_user.bench.result import bucket_of
from pynvme_user.completion import HOST_ABORTED
from pynvme_user.generator import Generator
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.verification import Method, Verifier, VerifyTable
from pynvme_user.verify_state import Region
from pynvme_user.workload import (
    BUCKETS,
    FLUSH,
    HISTOGRAM_DTYPE,
    IO_DTYPE,
    RESULT_DTYPE,
    Pace,
    Rate,
    Workload,
)

SECOND = 1_000_000_000
SLICE = 50_000
NONE_YET = 2**64 - 1
OPCODES = {0: NvmOpcode.READ, 1: NvmOpcode.WRITE, 2: NvmOpcode.DATASET_MANAGEMENT}
COMMANDS = {
    direction: bytes(SQE.build(opc=opcode, nsid=1, cdw13=direction))
    for direction, opcode in OPCODES.items()
}


def workload(
    gen: Generator | None, rig: Rig, depth: int | None = None, **options: object
) -> Workload:
    """Make a workload with a data buffer on ordinary memory, which it keeps alive."""
    arguments: dict[str, object] = {
        "commands": COMMANDS,
        "buffer": data_buffer(rig.depth),
        "queue_depth": rig.depth,
        "block_shift": 9,
        "depth": depth,
    }
    return Workload(gen, **(arguments | options))  # type: ignore[arg-type]


def squares(histogram: np.void) -> int:
    return int(histogram["squares_high"]) << 64 | int(histogram["squares_low"])


def total(work: Workload, name: str) -> int:
    return int(work.results[name].sum())


# --- histograms ---------------------------------------------------------------------------------


def histogram_of(values: list[int]) -> np.void:
    histogram = ffi.new("struct nvme_histogram *")
    lib.nvme_histogram_clear(histogram)
    for value in values:
        lib.nvme_histogram_add(histogram, value)
    return np.frombuffer(bytes(ffi.buffer(histogram)), HISTOGRAM_DTYPE)[0]


def test_c_and_python_lay_results_out_alike() -> None:
    assert ffi.sizeof("struct nvme_histogram") == HISTOGRAM_DTYPE.itemsize
    assert ffi.sizeof("struct nvme_bench_result") == RESULT_DTYPE.itemsize
    for ctype, dtype in (
        ("struct nvme_histogram", HISTOGRAM_DTYPE),
        ("struct nvme_bench_result", RESULT_DTYPE),
    ):
        offsets = {name: ffi.offsetof(ctype, name) for name in dtype.names or ()}
        assert offsets == {name: dtype.fields[name][1] for name in offsets}  # type: ignore[index]


def test_the_bucket_of_each_power_of_two() -> None:
    edges = {(1 << bit) + step for bit in range(64) for step in (-1, 0, 1)}
    for value in [*edges, *range(300), NONE_YET]:
        counts = histogram_of([value])["counts"]
        assert np.flatnonzero(counts).tolist() == [int(bucket_of(value))], value
    assert int(bucket_of(NONE_YET)) == BUCKETS - 1


@given(st.lists(st.integers(0, 63).flatmap(lambda bit: st.integers(0, 2 << bit)), max_size=200))
def test_histograms_are_exact(values: list[int]) -> None:
    values = [min(value, NONE_YET >> 8) for value in values]
    histogram = histogram_of(values)
    wanted = np.bincount(bucket_of(np.array(values, np.uint64)), minlength=BUCKETS)
    assert (histogram["counts"] == wanted).all()
    assert histogram["count"] == len(values)
    assert histogram["sum"] == sum(values)
    assert squares(histogram) == sum(value * value for value in values)
    assert histogram["min"] == min(values, default=NONE_YET)
    assert histogram["max"] == max(values, default=0)


def test_the_square_of_the_largest() -> None:
    assert squares(histogram_of([NONE_YET])) == NONE_YET**2
    half = 1 << 63
    assert squares(histogram_of([half, half, half])) == 3 * half**2


# --- what is counted ----------------------------------------------------------------------------


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
            data = self.buffer[sqe.cid * PIECE :]
            lba, blocks, length = *data[4:16].view(self.RANGE)[0].tolist()[::-1], 16
        assert sqe.opc == OPCODES[direction]
        assert sqe.nsid == 1
        assert joined(self.rig.data(sqe, length)) == (DATA_IOVA + sqe.cid * PIECE, length)
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
            for name in ("clat", "lat"):
                assert result[name]["count"] == self.ios[direction]
                assert result[name]["counts"].sum() == self.ios[direction]
            assert result["slat"]["count"] == self.commands[direction]
            assert result["slat"]["counts"].sum() == self.commands[direction]


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
    work = workload(gen, rig, commands=commands, pace=Pace(flush_every=every))
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
    for name in ("slat", "clat", "lat"):
        assert (work.results[name]["min"] == NONE_YET).all()
        assert not work.results[name]["counts"].any()
        assert not work.results[name]["squares_low"].any()
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    assert total(work, "ios") == 6
    assert work.completed == work.submitted == 10


def test_one_doorbell_for_each_turn() -> None:
    rig = Rig(depth=31, spare=64)
    work = workload(generator(size=310 * BLOCK), rig)
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    reported = rig.ring.cq_doorbell_writes
    assert rig.ring.doorbell_writes - reported == sum(work.batches[1].tolist()) == 20
    assert reported == 310 // 65


# --- how it ends --------------------------------------------------------------------------------


def test_nothing_at_all() -> None:
    rig = Rig()
    work = workload(generator(number_ios=0), rig)
    assert work.run(rig.ring, SLICE)
    assert work.completed == rig.ring.doorbell_writes == 0


def test_slices_take_their_time_and_no_more() -> None:
    rig = Rig()
    work = workload(generator(time_based=True, norandommap=True), rig)
    start = time.monotonic()
    assert not work.run(rig.ring, 20_000_000)
    assert 0.019 <= time.monotonic() - start < 1
    assert work.completed == 0
    assert work.submitted == rig.ring.outstanding == rig.depth


def test_a_device_that_never_rests_does_not_outlast_the_slice() -> None:
    rig = PostedRig(depth=4)
    rig.answer = rig.complete_all
    work = workload(generator(time_based=True, norandommap=True), rig)
    start = time.monotonic()
    for turn in range(1, 4):
        assert not work.run(rig.ring, 30_000_000)
        assert 0.029 * turn <= time.monotonic() - start < 2
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
    work.give_up(int(HOST_ABORTED))
    assert total(work, "failed") == 4
    assert work.completed == 5
    rig.ring.abandon(int(HOST_ABORTED))
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


# --- step by step -------------------------------------------------------------------------------


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
    rig.take()
    rig.complete(3)
    posted = PostedRig()
    posted.answer = lambda: posted.complete(2)
    with pytest.raises(ControllerFatalError):
        workload(generator(), posted).overhead(posted.ring, 5, SECOND)


# --- on a queue pair ----------------------------------------------------------------------------


@pytest.fixture
def ctrl(soft: SoftController) -> Iterator[Controller]:
    with Controller(soft) as ctrl:
        yield ctrl


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
        while not pair.advance(work, 5_000_000, keep=buffer):
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
        while len(soft.kept) < 8:
            assert not pair.advance(work, 5_000_000, keep=buffer)
        good = total(work, "ios")
        assert work.submitted - work.completed == 8
        ctrl.reset()
        assert pair.advance(work, 5_000_000, keep=buffer)
        assert work.submitted == work.completed
        assert (total(work, "ios"), total(work, "failed")) == (good, 8)
        assert work.results["failed"].tolist() == [8, 0, 0, 0]
        assert pair.outstanding == 0
        assert pair.drain() == []
        # The queue pair is free for another.
        soft.io = lambda _: OK
        second, buffer = on_a_pair(ctrl, 8)
        while not pair.advance(second, 5_000_000, keep=buffer):
            pass
        assert second.completed == BLOCKS


def test_resets_beside_a_workload(soft: SoftController, ctrl: Controller) -> None:
    """Whenever it comes, each I/O is counted once, well or not."""
    with ctrl.queue_pair(8) as pair:
        for _ in range(5):
            work, buffer = on_a_pair(ctrl, 8, time_based=True, norandommap=True)
            thread = threading.Timer(0.03, ctrl.reset)
            thread.start()
            while not pair.advance(work, 5_000_000, keep=buffer):
                pass
            thread.join()
            assert work.submitted == work.completed
            assert total(work, "ios") + total(work, "failed") == work.completed
            assert total(work, "failed") <= 8
            assert pair.outstanding == 0
    assert ctrl.resets == 5
