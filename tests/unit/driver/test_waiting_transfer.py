"""One command that is waited for, in C: without a lock and without the GIL."""

from __future__ import annotations

import errno
import threading
import time

import pytest
from ring_rig import ANY_BLOCKS, READ, PostedRig, Rig, joined, transfer

from pynvme_user import ControllerFatalError
from pynvme_user.ring import CommandTemplate
from pynvme_user.spec.commands import SQE

SECOND = 1_000_000_000


def test_all_32768_statuses() -> None:
    rig = PostedRig(depth=3, spare=9)
    statuses = iter(range(0x8000))
    rig.answer = lambda: rig.complete_all(lambda _: next(statuses))
    assert [transfer(rig) for _ in range(0x8000)] == list(range(0x8000))
    rig.checked()
    assert rig.ring.outstanding == 0
    assert rig.ring.completed == 0x8000


@pytest.mark.parametrize("spare", [0, 1, 5])
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_many_times_round_both_rings(depth: int, spare: int) -> None:
    rig = PostedRig(depth, spare=spare)
    rig.answer = rig.complete_all
    for _ in range(5 * rig.cq_entries * rig.entries):
        assert transfer(rig) == 0
        assert rig.room >= depth
    rig.checked()
    # The same index is used each time: its lines are in the cache.
    assert rig.ring.next_index == 0


def test_the_command_is_written_whole() -> None:
    full = SQE.build(
        opc=1, flags=0x80, nsid=9, cdw2=1, cdw3=2, mptr=3, cdw12=1 << 30, cdw13=5, cdw14=6, cdw15=7
    )
    rig = PostedRig()
    seen: list[SQE] = []

    def answer() -> None:
        seen.extend(rig.take())
        rig.complete(seen[-1].cid)

    rig.answer = answer
    template = CommandTemplate(bytes(full), **ANY_BLOCKS)
    assert transfer(rig, 0x123456789A, 0x9000, 4096, template=template) == 0
    assert seen == [full.replace(prp1=0x9000, cdw10=0x3456789A, cdw11=0x12, cdw12=0x40000007)]


@pytest.mark.parametrize("sgl", [False, True])
def test_every_length_is_described_whole(sgl: bool) -> None:
    rig = PostedRig(use_sgl=sgl)
    bytewise = CommandTemplate(READ, **(ANY_BLOCKS | {"block_shift": 0}))
    seen: list[tuple[int, int]] = []
    length = 0

    def answer() -> None:
        for sqe in rig.take():
            seen.append(joined(rig.data(sqe, length)))
            rig.complete(sqe.cid)

    rig.answer = answer
    for iova in (0x10000, 0x10004, 0x10E00, 0x10FFC):
        for end in (1, 2, 3, 128):
            for step in (-4, -1, 0, 1, 4, 512):
                length = end * 4096 - iova % 4096 + step
                if length <= 0:
                    continue
                assert transfer(rig, 0, iova, length, template=bytewise) == 0
                rig.checked()
                assert seen.pop() == (iova, length)


def test_not_beside_other_commands() -> None:
    """Nothing is submitted, nor reaped: the answer of another command is no answer to this."""
    rig = Rig()
    cid = rig.submit(user=7)
    rig.ring.ring_doorbell()
    assert transfer(rig) == -errno.EBUSY
    assert [sqe.cid for sqe in rig.take()] == [cid]
    rig.complete(cid)
    assert transfer(rig) == -errno.EBUSY
    assert rig.bells.tolist() == [1, 0]
    (done,) = rig.ring.poll()
    assert done["user"] == 7


def test_time_that_is_over_leaves_it_outstanding() -> None:
    rig = Rig(depth=2)
    start, busy = time.monotonic(), time.thread_time()
    assert transfer(rig, timeout=20_000_000) == -errno.ETIME
    assert time.monotonic() - start >= 0.019
    assert time.thread_time() - busy < 1  # it polls; what others took of the CPU is not its time
    assert rig.ring.outstanding == 1
    assert transfer(rig) == -errno.EBUSY
    (sqe,) = rig.take()
    rig.complete(sqe.cid, 0x281)
    (done,) = rig.ring.wait(SECOND)
    assert (done["cid"], done["status"]) == (sqe.cid, 0x281)
    assert 20_000_000 <= done["latency_ns"] < 2 * SECOND
    assert rig.ring.outstanding == 0


@pytest.mark.parametrize(
    ("iova", "length", "error"),
    [
        (0x10002, 512, errno.EINVAL),
        (0x10001, 1 << 20, errno.EINVAL),
        (0x10000, 18 * 4096, errno.EMSGSIZE),
        (0x10000, 0xFFFFFE00, errno.EMSGSIZE),
    ],
)
def test_what_cannot_be_described_is_not_submitted(iova: int, length: int, error: int) -> None:
    rig = PostedRig(list_entries=16)
    rig.answer = rig.complete_all
    assert transfer(rig, iova=iova, length=length) == -error
    assert rig.ring.outstanding == 0
    assert rig.sent == []
    assert transfer(rig, length=17 * 4096) == 0


@pytest.mark.parametrize(("cid", "sqid"), [(3, 1), (4, 1), (0xFFFF, 1), (0, 2)])
def test_a_completion_of_nothing(cid: int, sqid: int) -> None:
    """The error stays, and so does what it stands before, until the reset."""
    rig = PostedRig()

    def answer() -> None:
        rig.take()
        rig.complete(cid, sqid=sqid)

    rig.answer = answer
    assert transfer(rig) == -errno.EPROTO
    rig.checked()
    assert rig.ring.outstanding == 1
    with pytest.raises(ControllerFatalError):
        rig.ring.poll()
    assert transfer(rig) == -errno.EBUSY
    assert rig.ring.abort_all(0x371)["cid"].tolist() == [0]


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ETIMEDOUT, errno.EIO])
def test_a_doorbell_that_cannot_be_sent(error: int) -> None:
    rig = PostedRig()
    rig.error = -error
    start = time.monotonic()
    assert transfer(rig, timeout=30 * SECOND) == -error
    assert time.monotonic() - start < 5
    # Whether it got there is not known: it counts as outstanding, and holds its buffer.
    assert rig.ring.outstanding == 1


def test_runs_without_the_gil() -> None:
    rig = Rig(spare=3)
    stop = threading.Event()

    def controller() -> None:
        while not stop.is_set():
            for sqe in rig.take():
                rig.complete(sqe.cid, sqe.cdw10)

    thread = threading.Thread(target=controller)
    thread.start()
    try:
        assert [transfer(rig, lba=n) for n in range(300)] == list(range(300))
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("lba", "length"),
    [
        (0, 0),
        (0, 511),
        (0, 513),
        (0, 9 * 512),  # more than one command carries
        (93, 8 * 512),
        (100, 512),
        (101, 512),
        (1 << 63, 512),
        ((1 << 64) - 1, 512),
        (0, (1 << 64) - 512),
    ],
)
def test_no_command_for_what_is_not_whole_blocks_in_the_namespace(lba: int, length: int) -> None:
    rig = PostedRig()
    rig.answer = rig.complete_all
    template = CommandTemplate(READ, block_shift=9, block_count=100, max_blocks=8)
    assert transfer(rig, lba, length=length, template=template) == -errno.ERANGE
    assert not rig.sent
    assert transfer(rig, 92, length=8 * 512, template=template) == 0
    assert transfer(rig, 99, template=template) == 0
    rig.checked()
