"""The C ring against a controller in Python: data pointers, phase, wrap, CIDs, errors."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import CANARY, GUARD, LISTS_IOVA, PAGE, Rig, joined

from pynvme_user.errors import ControllerFatalError, DmaError, QueueFullError
from pynvme_user.native import layout
from pynvme_user.ring import CQE_SIZE, SQE_SIZE
from pynvme_user.spec.commands import CQE, SQE, NvmOpcode
from pynvme_user.spec.status import GenericStatus, MediaStatus, Status

DEPTHS = (1, 2, 3, 7, 31)
MAX = 512 << 10


# --- layout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("struct", [SQE, CQE], ids=["sqe", "cqe"])
def test_c_and_python_lay_entries_out_alike(struct: type[SQE] | type[CQE]) -> None:
    names = {"phase_status": "status"}
    for field in struct.layout:
        member = names.get(field.name, field.name)
        assert layout(struct.__name__.lower(), member) == field.offset, field.name
    assert (SQE.size, CQE.size) == (SQE_SIZE, CQE_SIZE)


def test_unknown_member_has_no_offset() -> None:
    assert layout("sqe", "nonsense") == layout("nonsense", "cid") == 0xFFFFFFFF


# --- data pointers ------------------------------------------------------------------------------


def described(rig: Rig, iova: int, length: int) -> tuple[int, int]:
    """Submit and complete one command; return the range that the device would have moved."""
    cid = rig.submit(iova, length)
    rig.ring.ring_doorbell()
    (sqe,) = rig.take()
    extent = joined(rig.data(sqe, length))
    assert (rig.lists == CANARY).all()
    rig.complete(cid)
    rig.ring.poll()
    return extent


@given(
    page=st.integers(1, 1 << 40),
    offset=st.integers(0, PAGE // 4 - 1).map(lambda n: n * 4),
    length=st.integers(1, MAX),
    sgl=st.booleans(),
)
def test_every_transfer_is_described_whole(page: int, offset: int, length: int, sgl: bool) -> None:
    rig = Rig(use_sgl=sgl)
    iova = page * PAGE + offset
    assert described(rig, iova, length) == (iova, length)


def test_prps_at_every_page_boundary() -> None:
    """One byte less, exact and one more of each number of pages, at the edges of a page."""
    rig = Rig(depth=3)
    for offset in (0, 4, 512, 2048, 4092):
        for pages in range(1, MAX // PAGE + 1):
            for length in {pages * PAGE + delta for delta in (-4, -1, 0)} | {
                pages * PAGE - offset + delta for delta in (-1, 0, 1)
            }:
                if 0 < length <= MAX:
                    iova = 0x7_0000_0000 + offset
                    assert described(rig, iova, length) == (iova, length)


def test_prps_of_larger_pages() -> None:
    rig = Rig(page_shift=16)
    for length in (1, 65536, 65537, 131072, 131073, MAX):
        for offset in (0, 4, 4096, 65532):
            assert described(rig, 0x80000 + offset, length) == (0x80000 + offset, length)


def test_prp2_of_one_and_of_two_pages() -> None:
    rig = Rig()
    for iova, length in ((0x1000, 4096), (0x1000, 8192), (0x1FFC, 4), (0x1FFC, 4100)):
        rig.submit(iova, length)
    rig.ring.ring_doorbell()
    assert [(s.prp1, s.prp2) for s in rig.take()] == [
        (0x1000, 0),
        (0x1000, 0x2000),
        (0x1FFC, 0),
        (0x1FFC, 0x2000),
    ]


def test_each_command_has_a_list_of_its_own() -> None:
    rig = Rig(depth=7)
    wanted = {}
    for n in range(7):
        iova = 0x1000000 * (n + 1) + 4 * n
        wanted[rig.submit(iova, MAX - 4096 * n)] = iova, MAX - 4096 * n
    rig.ring.ring_doorbell()
    commands = rig.take()
    assert len({sqe.prp2 for sqe in commands}) == 7
    # Read them all before any is compared: a list that overlaps another has changed it by now.
    lists = rig.lists.copy()
    for sqe in commands:
        at = GUARD + (sqe.prp2 - LISTS_IOVA) // 8
        iova, length = wanted[sqe.cid]
        count = -(-(length - (PAGE - iova % PAGE)) // PAGE)
        first = iova // PAGE * PAGE + PAGE
        assert lists[at : at + count].tolist() == [first + i * PAGE for i in range(count)]


def test_sgl_only_where_prps_need_a_list() -> None:
    rig = Rig(use_sgl=True)
    for length in (4096, 8188, 8192, MAX):  # 8192 bytes from there on touch three pages
        rig.submit(0x100004, length)
    rig.ring.ring_doorbell()
    commands = rig.take()
    assert [int(sqe.flags.psdt) for sqe in commands] == [0, 0, 1, 1]
    assert bytes(commands[3])[24:40] == (0x100004).to_bytes(8, "little") + MAX.to_bytes(8, "little")


def test_too_long_is_refused_and_nothing_changes() -> None:
    rig = Rig(list_entries=16)
    longest = 17 * PAGE
    assert described(rig, 0x10000, longest) == (0x10000, longest)
    assert described(rig, 0x10FFC, longest - 4092) == (0x10FFC, longest - 4092)
    before = rig.sq.copy()
    for iova, length in ((0x10000, longest + 1), (0x10FFC, longest - 4091), (0x10000, 1 << 31)):
        with pytest.raises(DmaError, match="larger than"):
            rig.submit(iova, length)
    assert rig.ring.outstanding == 0
    writes = rig.ring.doorbell_writes
    rig.ring.ring_doorbell()
    assert rig.ring.doorbell_writes == writes
    assert (rig.lists == CANARY).all()
    assert (rig.sq[: rig.bells[0]] == before[: rig.bells[0]]).all()
    rig.round()


@pytest.mark.parametrize("offset", [1, 2, 3, 4095])
@pytest.mark.parametrize("sgl", [False, True])
def test_misaligned_is_refused(offset: int, sgl: bool) -> None:
    rig = Rig(use_sgl=sgl)
    for length in (1, 512, MAX):
        with pytest.raises(DmaError, match="multiple of 4"):
            rig.submit(0x10000 + offset, length)
    assert rig.ring.outstanding == 0
    rig.round()


def test_no_length_leaves_the_data_pointer() -> None:
    rig = Rig()
    command = SQE.build(opc=0x7C, prp1=0x1234000, prp2=0x5678001, cdw15=0xFFFFFFFF, mptr=7)
    cid = rig.ring.submit(bytes(command), 3, 0)
    rig.ring.ring_doorbell()
    assert rig.take() == [command.replace(cid=cid)]


def test_the_cid_of_the_command_does_not_count() -> None:
    rig = Rig(depth=7)
    for turn in range(7):
        command = SQE.build(opc=2, flags=0x40, nsid=1, cid=0xFFFF if turn % 2 else 0x5A5A)
        cid = rig.ring.submit(bytes(command), 0x10000, 512)
        assert cid == turn
        rig.ring.ring_doorbell()
        assert rig.take() == [command.replace(cid=cid, prp1=0x10000)]


def test_submit_io_writes_every_dword() -> None:
    rig = Rig(depth=1)
    full = SQE.build(**{f.name: 0xFF for f in SQE.layout if f.name not in ("cid", "prp1", "prp2")})
    rig.ring.submit(bytes(full), 0, 0)
    rig.ring.ring_doorbell()
    rig.complete(rig.take()[0].cid)
    rig.ring.poll()
    # The same slot of the ring, and the same staging entry, held something else before.
    for _ in range(2):
        cid = rig.ring.submit_io(NvmOpcode.WRITE, 5, 0x123456789A, 0x40000007, 0x9000, 4096)
        rig.ring.ring_doorbell()
        assert rig.take() == [
            SQE.build(
                opc=1, cid=cid, nsid=5, prp1=0x9000, cdw10=0x3456789A, cdw11=0x12, cdw12=0x40000007
            )
        ]
        rig.complete(cid)
        rig.ring.poll()


# --- phase, wrap, CIDs --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_many_wraps_one_at_a_time(depth: int) -> None:
    rig = Rig(depth)
    for n in range(8 * (depth + 1) + 3):
        assert len(rig.ring.poll()) == 0
        assert rig.round(n & 0x7F)[1] == n & 0x7F
    assert rig.ring.completed == 8 * (depth + 1) + 3


@pytest.mark.parametrize("depth", DEPTHS)
def test_many_wraps_full_and_backwards(depth: int) -> None:
    rig = Rig(depth)
    for n in range(4 * (depth + 1)):
        users = {rig.submit(user=n * depth + i): n * depth + i for i in range(depth)}
        with pytest.raises(QueueFullError, match="poll for completions"):
            rig.submit()
        rig.ring.ring_doorbell()
        for sqe in reversed(rig.take()):
            rig.complete(sqe.cid, dw0=sqe.cid * 3, dw1=~sqe.cid & 0xFFFFFFFF)
        done = rig.ring.poll()
        assert len(done) == depth
        assert dict(zip(done["cid"].tolist(), done["user"].tolist(), strict=True)) == users
        assert (done["dw0"] == done["cid"].astype(np.uint32) * 3).all()
        assert (done["dw1"] == ~done["cid"].astype(np.uint32)).all()
        assert len(rig.ring.poll()) == 0


def test_deepest_queue_wraps() -> None:
    rig = Rig(0xFFFF, list_entries=1)
    for _ in range(3):
        cids = {rig.submit() for _ in range(0xFFFF)}
        assert len(cids) == 0xFFFF
        with pytest.raises(QueueFullError):
            rig.submit()
        rig.ring.ring_doorbell()
        for cid in cids:
            rig.complete(cid)
        assert len(rig.ring.poll()) == 0xFFFF
    assert rig.bells.tolist() == [3 * 0xFFFF % 0x10000] * 2


@pytest.mark.parametrize("depth", [0, 0x10000])
def test_illegal_depth(depth: int) -> None:
    with pytest.raises(ValueError, match="not legal"):
        Rig(depth, list_entries=1)


@pytest.mark.parametrize("page_shift", [11, 28])
def test_illegal_page_size(page_shift: int) -> None:
    with pytest.raises(ValueError, match="not legal"):
        Rig(page_shift=page_shift)


@given(
    depth=st.sampled_from(DEPTHS),
    steps=st.lists(
        st.one_of(
            st.just(("submit", 0)),
            st.tuples(st.just("complete"), st.integers(0, 1 << 16)),
            st.tuples(st.just("poll"), st.integers(1, 8)),
        ),
        max_size=200,
    ),
)
def test_any_history(depth: int, steps: list[tuple[str, int]]) -> None:
    """CIDs are unique, in their next generation and the last freed first; each completion is its
    command's, in order.
    """
    rig = Rig(depth)
    free = list(range(depth))
    generation = rig.ring.index_mask + 1
    users: dict[int, int] = {}
    posted: list[tuple[int, int, int]] = []
    running: list[int] = []
    for number, (what, value) in enumerate(steps):
        if what == "submit":
            if not free:
                with pytest.raises(QueueFullError):
                    rig.submit()
                continue
            cid = rig.submit(user=number)
            assert cid == free.pop(0)
            users[cid] = number
            rig.ring.ring_doorbell()
            assert [sqe.cid for sqe in rig.take()] == [cid]
            running.append(cid)
        elif what == "complete":
            if running:
                cid = running.pop(value % len(running))
                rig.complete(cid, value & 0x7FFF)
                posted.append((cid, users.pop(cid), value & 0x7FFF))
        else:
            done = rig.ring.poll(value)
            got = [(int(d["cid"]), int(d["user"]), int(d["status"])) for d in done]
            assert got == posted[:value]
            del posted[:value]
            for cid, _, _ in got:
                free.insert(0, cid + generation & 0xFFFF)
        assert rig.ring.outstanding == len(running) + len(posted) == depth - len(free)


def test_poll_limit_of_none_at_all() -> None:
    rig = Rig()
    cid = rig.submit()
    rig.ring.ring_doorbell()
    rig.complete(cid)
    assert len(rig.ring.poll(0)) == 0
    assert len(rig.ring.poll()) == 1


# --- what a controller must not do --------------------------------------------------------------


@pytest.mark.parametrize(
    ("cid", "sqid"),
    [
        *((4, 1), (7, 1), (0xFFFF, 1), (0, 2), (0, 0), (0, 0xFFFF), (0, 0x101), (2, 1)),
        *((8, 1), (0xFFF8, 1), (0x8000, 1), (1, 1), (9, 1)),
    ],
    ids=[
        *("cid past the end", "cid of no command", "cid ffff", "sqid 2", "sqid 0", "sqid ffff"),
        *("sqid 101", "not outstanding", "next generation", "last generation", "generation 4096"),
        *("completed before", "its next generation"),
    ],
)
def test_a_completion_of_nothing(cid: int, sqid: int) -> None:
    """It is an error, as often as one asks; what came before it is not lost, nor what is out."""
    rig = Rig(depth=4)
    first, second = rig.submit(user=11), rig.submit(user=22)
    assert (first, second) == (0, 1)
    rig.ring.ring_doorbell()
    rig.complete(second)
    rig.complete(cid, sqid=sqid)
    (done,) = rig.ring.poll()
    assert done["user"] == 22
    for _ in range(3):
        with pytest.raises(ControllerFatalError, match="not outstanding"):
            rig.ring.poll()
        with pytest.raises(ControllerFatalError):
            rig.ring.wait(1_000_000)
    assert rig.ring.outstanding == 1
    assert rig.ring.completed == 1
    (left,) = rig.ring.abort_all(0x371)
    assert (left["user"], left["cid"], left["status"]) == (11, 0, 0x371)


def test_the_same_completion_twice() -> None:
    rig = Rig(depth=4)
    cids = [rig.submit() for _ in range(3)]
    rig.ring.ring_doorbell()
    rig.complete(cids[0])
    rig.complete(cids[0])
    rig.complete(cids[1])
    assert rig.ring.poll()["cid"].tolist() == [cids[0]]
    with pytest.raises(ControllerFatalError):
        rig.ring.poll()
    assert rig.ring.outstanding == 2


def test_a_stale_phase_is_no_completion() -> None:
    rig = Rig(depth=2)
    for _ in range(3):
        rig.round()
    # The second time round, what the first time left has the wrong phase, whatever it says.
    rig.submit()
    rig.ring.ring_doorbell()
    (sqe,) = rig.take()
    rig.cq[0, 4:] = 0, 1, sqe.cid, 1
    assert len(rig.ring.poll()) == 0
    assert len(rig.ring.wait(100_000)) == 0
    rig.cq[0, 7] = 0
    assert len(rig.ring.poll()) == 1


# --- status -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        0,
        0x100,  # type 1, code 0: Completion Queue Invalid
        int(Status.of(GenericStatus.LBA_OUT_OF_RANGE)),
        int(Status.of(MediaStatus.UNRECOVERED_READ_ERROR, dnr=1, m=1)),
        0x7800,
        0x7FFF,
    ],
)
def test_the_whole_status_field_comes_through(status: int) -> None:
    rig = Rig(depth=1)
    for _ in range(4):
        assert rig.round(status)[1] == status


# --- time ---------------------------------------------------------------------------------------


def test_latency_and_age() -> None:
    rig = Rig()
    assert rig.ring.oldest() is None
    slow = rig.submit(user=1)
    assert rig.ring.oldest() is None, "the device has not been told of it yet"
    rig.ring.ring_doorbell()
    time.sleep(0.02)
    quick = rig.submit(user=2)
    rig.ring.ring_doorbell()
    cid, age = rig.ring.oldest() or (-1, 0.0)
    assert cid == slow
    assert 0.02 <= age < 2
    rig.complete(quick)
    rig.complete(slow)
    fast_one, slow_one = rig.ring.poll()["latency_ns"].tolist()
    assert 0 < fast_one < slow_one < 2e9
    assert slow_one - fast_one >= 19e6
    assert rig.ring.oldest() is None


def test_wait_takes_its_time_and_no_more() -> None:
    rig = Rig()
    rig.submit()
    rig.ring.ring_doorbell()
    start, busy = time.monotonic(), time.thread_time()
    assert len(rig.ring.wait(20_000_000)) == 0
    assert time.monotonic() - start >= 0.019
    assert time.thread_time() - busy < 1  # it polls; what others took of the CPU is not its time
    rig.complete(0)
    start = time.monotonic()
    assert len(rig.ring.wait(60_000_000_000)) == 1
    assert time.monotonic() - start < 30


# --- abandon ------------------------------------------------------------------------------------


def test_abandon_gives_each_command_one_end() -> None:
    rig = Rig(depth=7)
    for user in range(7):
        rig.submit(user=100 + user)
    rig.ring.ring_doorbell()
    for cid in (5, 1):
        rig.complete(cid)
    assert rig.ring.poll()["user"].tolist() == [105, 101]
    left = rig.ring.abort_all(0x371)
    assert left["user"].tolist() == [100, 102, 103, 104, 106]
    assert (left["status"] == 0x371).all()
    assert rig.ring.outstanding == 0
    assert len(rig.ring.abort_all(0x371)) == 0
    # Those that ended otherwise are free; these not before their outcome was handed over.
    assert {rig.index(rig.submit()) for _ in range(2)} == {1, 5}
    with pytest.raises(QueueFullError):
        rig.submit()
    rig.ring.release()
    assert not {rig.submit() for _ in range(5)} & set(left["cid"].tolist())
    assert rig.ring.outstanding == 7
    rig.ring.release()
    with pytest.raises(QueueFullError):
        rig.submit()
