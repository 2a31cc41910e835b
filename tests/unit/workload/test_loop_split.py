"""I/Os of several commands: each counts once, from its first doorbell to its last completion."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from generator_rig import BLOCK, Sizes, generator
from ring_rig import DATA_IOVA, PIECE, PostedRig, Rig, data_buffer
from soft_controller import OK, SoftController, keep_reads
from workload_rig import COMMANDS, SECOND, SLICE, total, workload

from pynvme_user import Controller
from pynvme_user.dma import DmaBuffer
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.loop import Contents, Workload
from pynvme_user.workload.pace import Pace, Rate
from pynvme_user.workload.records import FLUSH, IO_DTYPE
from pynvme_user.workload.verification import Method, Verifier, VerifyTable
from pynvme_user.workload.verify_state import Region

#: I/Os of 20 blocks, where a command carries eight: three commands.
WHOLE, PART, COMMANDS_EACH = 20, 8, 3
TWENTY = Sizes(WHOLE * BLOCK, WHOLE * BLOCK)


def split_workload(
    rig: Rig, gen: Generator | None = None, ios: int = 2, **options: object
) -> Workload:
    """I/Os of WHOLE blocks, ``ios`` of them outstanding, unless another generator is given."""
    made = gen or generator("read", TWENTY, size=200 * WHOLE * BLOCK)
    given = {"buffer": data_buffer(ios * 2), "command_blocks": PART, **options}
    return workload(made, rig, ios, **given)


def place(sqe: SQE) -> tuple[int, int]:
    """First block and number of blocks of a command."""
    return sqe.cdw11 << 32 | sqe.cdw10, (sqe.cdw12 & 0xFFFF) + 1


def test_the_commands_of_an_io() -> None:
    """What does not fill the last one is less; the data of all lies together."""
    rig = Rig(depth=16)
    work = split_workload(rig)
    assert not work.run(rig.ring, SLICE)
    commands = rig.take()
    assert [place(sqe) for sqe in commands] == [(0, 8), (8, 8), (16, 4), (20, 8), (28, 8), (36, 4)]
    piece = 2 * PIECE
    starts = [rig.data(sqe, place(sqe)[1] * BLOCK)[0][0] - DATA_IOVA for sqe in commands]
    assert starts == [io * piece + part * PART * BLOCK for io in range(2) for part in range(3)]
    assert (work.submitted, work.completed) == (2, 0)
    assert rig.ring.doorbell_writes == 1


def test_latencies_of_known_length() -> None:
    """slat ends at the first doorbell, clat at the last completion, here long after the others."""
    rig = PostedRig(depth=1)
    rig.answer = lambda: time.sleep(0.004)
    work = split_workload(rig, generator("read", TWENTY, size=WHOLE * BLOCK), ios=1, records=9)
    for _ in range(COMMANDS_EACH):
        assert not work.run(rig.ring, SLICE)
        (sqe,) = rig.take()
        assert (work.submitted, work.completed, total(work, "ios")) == (1, 0, 0)
        time.sleep(0.01)
        rig.complete(sqe.cid)
        work.run(rig.ring, 0)
    assert work.completed == total(work, "ios") == 1
    (record,) = work.take_records()
    assert (record["offset"], record["bytes"], record["direction"]) == (0, WHOLE * BLOCK, 0)
    for name, least in (("slat", 4e6), ("clat", 38e6), ("lat", 42e6)):
        assert work.results[0][name]["count"] == 1
        assert least <= record[name]
        assert abs(int(work.results[0][name]["sum"]) - int(record[name])) <= 1
    assert abs(int(record["slat"]) + int(record["clat"]) - int(record["lat"])) <= 2


def test_the_end_is_the_last_completion() -> None:
    """Whichever command that is."""
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        rig = Rig(depth=16)
        work = split_workload(rig, generator("read", TWENTY, size=WHOLE * BLOCK), ios=1)
        work.run(rig.ring, SLICE)
        commands = rig.take()
        for index in order:
            assert work.completed == 0
            rig.complete(commands[index].cid)
            work.run(rig.ring, SLICE)
        assert work.completed == total(work, "ios") == 1


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_queue_with_less_room_than_an_io_has_commands(depth: int) -> None:
    """Commands wait for a place; I/Os end in any order."""
    chance = random.Random(depth)
    rig = Rig(depth)
    work = split_workload(rig, ios=4)
    fetched: list[SQE] = []
    places = []
    done = False
    while not done:
        done = work.run(rig.ring, SLICE)
        fetched += rig.take()
        assert work.submitted - work.completed <= 4
        chance.shuffle(fetched)
        for _ in range(chance.randint(0, len(fetched))):
            places.append(place(fetched[-1]))
            rig.complete(fetched.pop().cid)
    assert total(work, "ios") == work.completed == 200
    assert total(work, "blocks") == 200 * WHOLE
    assert len(places) == 200 * COMMANDS_EACH
    assert sum(blocks for _, blocks in places) == 200 * WHOLE
    assert rig.ring.completed == len(places)


@pytest.mark.parametrize("failing", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_an_io_fails_once(failing: list[int]) -> None:
    """With the status of the first of its commands that failed."""
    rig = Rig(depth=16)
    work = split_workload(rig, generator("write", TWENTY, size=2 * WHOLE * BLOCK))
    work.run(rig.ring, SLICE)
    for number, sqe in enumerate(rig.take()):
        rig.complete(sqe.cid, 0x280 + number if number in failing else 0)
    assert work.run(rig.ring, SLICE)
    assert work.results["failed"].tolist() == [0, 1, 0, 0]
    assert work.results["ios"].tolist() == [0, 1, 0, 0]
    assert work.errors_by_direction == {(1, 0x280 + failing[0]): 1}
    assert work.completed == work.submitted == 2


def test_sizes_on_both_sides_of_the_limit() -> None:
    """Also a mix of reads and writes, and trims, which are one command of any length."""
    for rw, directions in (("randrw", (0, 1)), ("trimwrite", (2, 1))):
        rig = PostedRig(depth=32)
        seen: list[tuple[int, int]] = []

        def answer(rig: PostedRig = rig, seen: list[tuple[int, int]] = seen) -> None:
            for sqe in rig.take():
                seen.append((sqe.cdw13, place(sqe)[1] if sqe.cdw13 < 2 else 0))
                rig.complete(sqe.cid)

        rig.answer = answer
        sizes = Sizes(split=((4 * BLOCK, 40), (8 * BLOCK, 30), (28 * BLOCK, 30)))
        options = {"size": 20000 * BLOCK, "seed": 5}
        work = split_workload(rig, generator(rw, sizes, **options), ios=5)
        assert work.run(rig.ring, 10 * SECOND)
        rig.checked()
        ios = generator(rw, sizes, **options).take(10**6)
        for direction in directions:
            wanted = ios["blocks"][ios["direction"] == direction].astype(int)
            result = work.results[direction]
            assert (result["ios"], result["blocks"]) == (len(wanted), wanted.sum())
            assert result["lat"]["count"] == result["slat"]["count"] == len(wanted)
            made = [blocks for way, blocks in seen if way == direction]
            if direction == 2:
                assert len(made) == len(wanted)
            else:
                assert len(made) == (-(-wanted // PART)).sum()
                assert sum(made) == wanted.sum()
                assert max(made) == PART


# --- what holds I/Os back -------------------------------------------------------------------------


def test_depths_and_batches_are_of_ios() -> None:
    rig = Rig(depth=64)
    work = split_workload(rig, ios=8)
    while not work.run(rig.ring, SLICE):
        assert work.submitted - work.completed <= 8
        rig.complete_all()
    depths, submits, reaps = (counts.tolist() for counts in work.batches)
    assert depths == [0, 0, 0, 200, 0, 0, 0]
    assert submits == [0, 0, 25, 0, 0, 0, 0]
    assert reaps[2:] == [25, 0, 0, 0, 0]


def test_a_depth_that_is_lowered_on_the_way() -> None:
    rig = Rig(depth=64)
    work = split_workload(rig, ios=8)
    for depth in (8, 3, 1, 6):
        work.depth = depth
        for _ in range(3):
            work.run(rig.ring, SLICE)
            rig.complete_all()
        work.run(rig.ring, SLICE)
        assert work.submitted - work.completed == depth
    with pytest.raises(ValueError, match="depth of 8"):
        work.depth = 9


@pytest.mark.parametrize(
    ("pace", "steps"),
    [
        (Pace(members={"submit_max": 3}), [8, 8, 8]),
        (Pace(members={"reap_min": 3}), [8, 0, 0, 3]),
        (Pace(members={"depth_low": 5}), [8, 0, 0, 3]),
        (Pace(think_ios=8, members={"think_ticks": 1e-6}), [8, 0, 0, 0, 0, 0, 0, 0, 8]),
    ],
    ids=["iodepth_batch", "iodepth_batch_complete_min", "iodepth_low", "thinktime"],
)
def test_what_counts_ios_does_not_count_commands(pace: Pace, steps: list[int]) -> None:
    """How many I/Os begin once one more has ended, each time; of iodepth_batch once all have."""
    rig = Rig(depth=64)
    work = split_workload(rig, ios=8, pace=pace)
    fetched: list[SQE] = []
    begun = []
    for _ in steps:
        before = work.submitted
        work.run(rig.ring, SLICE)
        work.run(rig.ring, SLICE)
        begun.append(work.submitted - before)
        fetched += rig.take()
        for sqe in fetched[: len(fetched) if "submit_max" in pace.members else COMMANDS_EACH]:
            fetched.remove(sqe)
            rig.complete(sqe.cid)
    assert begun == steps
    if "submit_max" in pace.members:
        assert work.batches[1].tolist()[1:] == [9, 0, 0, 0, 0, 0]  # 3, 3 and 2 each time


def test_a_rate_is_of_ios_and_waiting_counts_from_the_arrival() -> None:
    rig = PostedRig(depth=2)

    def answer() -> None:
        time.sleep(0.002)
        rig.complete_all()

    rig.answer = answer
    pace = Pace(rates=(Rate(ios=1000), Rate(), Rate()))
    gen = generator("read", TWENTY, size=20 * WHOLE * BLOCK)
    work = split_workload(rig, gen, ios=1, pace=pace, records=99)
    start = time.monotonic()
    while not work.run(rig.ring, 10 * SECOND):
        pass
    assert time.monotonic() - start >= 20 * 0.004
    log = work.take_records()
    assert len(log) == 20
    # Two doorbells, of 2 ms each, where one is due each millisecond.
    assert log["lat"].max() > 19 * 2_000_000
    assert (log["lat"].astype(int) >= log["slat"].astype(int) + log["clat"] - 2).all()


def test_a_flush_after_so_many_writes() -> None:
    rig = PostedRig(depth=16)
    order: list[int] = []

    def answer() -> None:
        for sqe in rig.take():
            order.append(sqe.opc)
            rig.complete(sqe.cid)

    rig.answer = answer
    commands = COMMANDS | {FLUSH: bytes(SQE.build(opc=NvmOpcode.FLUSH, nsid=1, cdw13=9))}
    gen = generator("write", TWENTY, size=9 * WHOLE * BLOCK)
    work = split_workload(rig, gen, commands=commands, pace=Pace(members={"flush_every": 3}))
    assert work.run(rig.ring, SECOND)
    wanted = ([int(NvmOpcode.WRITE)] * 9 + [int(NvmOpcode.FLUSH)]) * 3
    assert order in (wanted, wanted[:-1])
    assert work.results["ios"].tolist() == [0, 9, 0, order.count(NvmOpcode.FLUSH)]


def test_commands_of_a_write_in_order() -> None:
    """As zones need them; those of reads are not held back."""
    rig = Rig(depth=16)
    for rw, at_once in (("write", 1), ("read", 6)):
        work = split_workload(rig, generator(rw, TWENTY, size=10 * WHOLE * BLOCK), in_order=True)
        places = []
        done = False
        while not done:
            done = work.run(rig.ring, SLICE)
            commands = rig.take()
            if rw == "write":
                # The last of one, and the first of the next.
                at_once = 2 if commands and place(commands[0])[1] == 4 else 1
            assert len(commands) <= at_once
            for sqe in commands:
                places.append(place(sqe))
                rig.complete(sqe.cid)
        assert total(work, "ios") == 10
        assert places == sorted(places)


# --- data -----------------------------------------------------------------------------------------


def memory_of(rig: Rig, buffer: np.ndarray, sqe: SQE) -> np.ndarray:
    """What a command's data pointer describes, in this process."""
    start = rig.data(sqe, place(sqe)[1] * BLOCK)[0][0] - DATA_IOVA
    return buffer[start : start + place(sqe)[1] * BLOCK]


def test_each_write_has_its_contents_once() -> None:
    """They are those of the whole, cut: the same as if one command carried it."""
    wanted, found = (np.zeros((6, WHOLE * BLOCK), np.uint8) for _ in range(2))
    for stored, blocks in ((wanted, 1 << 16), (found, PART)):
        rig = PostedRig(depth=32)
        buffer = data_buffer(4)

        def answer(
            rig: PostedRig = rig, buffer: np.ndarray = buffer, stored: np.ndarray = stored
        ) -> None:
            for sqe in rig.take():
                start = place(sqe)[0] * BLOCK
                data = memory_of(rig, buffer, sqe)
                stored.reshape(-1)[start : start + len(data)] = data
                rig.complete(sqe.cid)

        rig.answer = answer
        contents = Contents(seed=3, unit=WHOLE * BLOCK, chunk=4096)
        gen = generator("write", TWENTY, size=6 * WHOLE * BLOCK)
        work = split_workload(rig, gen, buffer=buffer, contents=contents, command_blocks=blocks)
        assert work.run(rig.ring, SECOND)
        rig.checked()
    assert (wanted == found).all()
    assert len({row.tobytes() for row in found}) == 6


@pytest.mark.parametrize("wrong", [None, 0, 9, 19])
@pytest.mark.parametrize("interval", [1, 4, WHOLE])
def test_verification_is_of_ios(wrong: int | None, interval: int) -> None:
    """A block that does not hold what was written is found, in whichever command it came."""
    rig = PostedRig(depth=4)
    buffer = data_buffer(4)
    disk = np.zeros((20 * WHOLE, BLOCK), np.uint8)

    def answer() -> None:
        for sqe in rig.take():
            (lba, blocks), data = place(sqe), memory_of(rig, buffer, sqe).reshape(-1, BLOCK)
            if sqe.cdw13 == 1:
                disk[lba : lba + blocks] = data
            else:
                data[:] = disk[lba : lba + blocks]
            rig.complete(sqe.cid)

    rig.answer = answer
    region = Region(block_size=BLOCK, blocks=len(disk), first_lba=0, interval_blocks=interval)
    verifier = Verifier(VerifyTable(region, seed=1), Method.CRC32C)
    options = {"size": len(disk) * BLOCK}
    work = split_workload(
        rig, generator("randwrite", TWENTY, **options), buffer=buffer, verifier=verifier
    )
    assert work.run(rig.ring, 10 * SECOND)
    if wrong is not None:
        disk[7 * WHOLE + wrong, 100] ^= 4
    reads = np.zeros(20, IO_DTYPE)
    reads["lba"], reads["blocks"] = np.arange(20) * WHOLE, WHOLE
    work.go_through(reads)
    assert work.run(rig.ring, 10 * SECOND)
    rig.checked()
    assert [fault.lba for fault in work.faults] == ([] if wrong is None else [7 * WHOLE + wrong])
    assert work.results["ios"].tolist() == [20, 20, 0, 0]
    busy = 1 << 56 | 127 << 57  # docs/verification.md: a writer, and the number of readers
    assert not np.any(verifier.table.words & np.uint64(busy))


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 16])
def test_stop_completes_what_has_begun(depth: int) -> None:
    """Also the commands of an I/O that had no place yet: no write is half done."""
    rig = Rig(depth)
    work = split_workload(rig)
    assert not work.run(rig.ring, SLICE)
    places = []
    work.stop()
    begun = work.submitted
    assert begun == (1 if depth == 2 else 2)
    done = False
    while not done:
        for sqe in rig.take():
            places.append(place(sqe))
            rig.complete(sqe.cid)
        done = work.run(rig.ring, SLICE)
    assert work.submitted == work.completed == total(work, "ios") == begun
    assert len(places) == begun * COMMANDS_EACH


def on_a_pair(ctrl: Controller) -> tuple[Workload, DmaBuffer]:
    """Four reads of three commands each, on a queue pair of eight, without end."""
    most = ctrl.max_transfer
    sizes = Sizes(3 * most, 3 * most)
    buffer = ctrl.alloc(4 * 3 * most)
    work = Workload(
        generator("randread", sizes, size=3 * most, time_based=True, norandommap=True),
        commands=COMMANDS,
        buffer=buffer,
        queue_depth=8,
        depth=4,
        command_blocks=most // BLOCK,
        block_shift=9,
    )
    return work, buffer


def test_a_command_that_is_aborted_ends_its_io(soft: SoftController, ctrl: Controller) -> None:
    """One takes longer than the timeout: its I/O fails, once, and all others go on."""
    kept: list[int] = []

    def answer(sqe: SQE) -> Status | None:
        if len(kept) == 0 and work.submitted > 20:
            kept.append(sqe.cid)
            return None
        return OK

    with ctrl.queue_pair(8) as pair:
        work, buffer = on_a_pair(ctrl)
        ctrl.timeout = 0.1
        soft.io = answer
        geometry = ctrl.namespaces[1].current()
        while not total(work, "failed"):
            assert not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        work.stop()
        while not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer):
            pass
        assert "abort" in soft.log
        assert ctrl.resets == 0
        assert work.submitted == work.completed
        assert work.errors == {int(GenericStatus.ABORTED_BY_REQUEST): 1}
        assert total(work, "ios") == work.completed - 1 > 20


def test_a_reset_gives_the_workload_up(soft: SoftController, ctrl: Controller) -> None:
    """Each I/O that had not ended has failed once, though some of its commands had."""
    soft.io = keep_reads
    with ctrl.queue_pair(8) as pair:
        work, buffer = on_a_pair(ctrl)
        geometry = ctrl.namespaces[1].current()
        while len(soft.kept) < 8:
            assert not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        assert (work.submitted, work.completed) == (3, 0)
        ctrl.reset()
        assert pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        assert work.submitted == work.completed == total(work, "failed") == 3
        assert pair.outstanding == 0
        # It can go on: nothing of before is left.
        soft.io = lambda _: OK
        work.go_on()
        geometry = ctrl.namespaces[1].current()
        for _ in range(5):
            assert not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer)
        work.stop()
        while not pair.run_loop(work, 5_000_000, geometry=geometry, owner=buffer):
            pass
        assert total(work, "ios") == work.submitted - 3 > 0
        assert total(work, "failed") == 3
