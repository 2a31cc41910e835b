"""Single commands for Python: submitted from words, with data in parts, reaped into columns."""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import ANY_BLOCKS, GUARD, LISTS_IOVA, PAGE, READ, Rig, joined

from pynvme_user.native import lib
from pynvme_user.ring import CommandTemplate
from pynvme_user.single import Single, reap, submit
from pynvme_user.spec.commands import SQE, Psdt, SglType


def transfer(single: Single, template: CommandTemplate, lba: int, iova: int, length: int) -> int:
    single.args[0] = template.address
    single.args[1], single.args[2], single.args[3] = lba, iova, length
    return submit(single.transfer)


@pytest.mark.parametrize("length", [512, 4096, 5120, 65536])
def test_a_transfer_is_submitted_whole(length: int) -> None:
    rig = Rig(depth=3)
    single = Single(rig.ring)
    template = CommandTemplate(READ, **ANY_BLOCKS)
    for number in range(20):
        iova = 0x100000 * (number + 1) + 512 * number
        cid = transfer(single, template, (1 << 40) + number, iova, length)
        assert cid >= 0
        assert rig.take() == [], "no doorbell"
        rig.ring.ring_doorbell()
        (sqe,) = rig.take()
        assert (sqe.cid, sqe.cdw10, sqe.cdw11) == (cid, number, 1 << 8)
        assert sqe.cdw12 == length // 512 - 1
        assert joined(rig.data(sqe, length)) == (iova, length)
        rig.complete(cid)
        assert reap(single.reaped, 0) == 1
        assert single.cids[0] == cid
        assert single.words[0] == 1


@pytest.mark.parametrize(
    ("lba", "length", "error"),
    [
        (0, 0, errno.ERANGE),
        (0, 511, errno.ERANGE),
        (0, 513, errno.ERANGE),
        (0, 9 * 512, errno.ERANGE),
        (1000, 512, errno.ERANGE),
        (993, 8 * 512, errno.ERANGE),
        ((1 << 64) - 1, 512, errno.ERANGE),
        ((1 << 64) - 1, 8 * 512, errno.ERANGE),
        (0, 1 << 63, errno.ERANGE),
        (992, 8 * 512, 0),
        (999, 512, 0),
    ],
)
def test_what_is_not_in_the_namespace(lba: int, length: int, error: int) -> None:
    rig = Rig(depth=2)
    template = CommandTemplate(READ, block_shift=9, block_count=1000, max_blocks=8)
    found = transfer(Single(rig.ring), template, lba, 0x10000, length)
    assert min(found, 0) == -error
    assert rig.ring.outstanding == (not error)


def test_errors_of_a_submission() -> None:
    rig = Rig(depth=2, list_entries=4)
    single, template = Single(rig.ring), CommandTemplate(READ, **ANY_BLOCKS)
    assert transfer(single, template, 0, 0x10002, 512) == -errno.EINVAL
    assert transfer(single, template, 0, 0x10000, 6 * PAGE) == -errno.EMSGSIZE
    rig.complete(0)  # of nothing
    assert transfer(single, template, 0, 0x10000, 512) == -errno.EPROTO
    assert single.submit_parts(READ, [(0x10000, 512)]) == -errno.EPROTO
    rig.unpost()
    assert rig.ring.outstanding == 0
    assert transfer(single, template, 0, 0x10000, 512) >= 0
    assert single.submit_parts(READ, [(0x10000, 512)]) >= 0
    assert transfer(single, template, 0, 0x10000, 512) == -errno.EAGAIN
    assert single.submit_parts(READ, [(0x10000, 512)]) == -errno.EAGAIN
    rig.ring.check()


@pytest.mark.parametrize(
    ("status", "dw0", "dw1"), [(0, 0, 0), (0x281, 0, 0), (0, 5, 0), (0, 0, 1 << 31), (0x4000, 0, 0)]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_is_not_plain_is_told(place: int, status: int, dw0: int, dw1: int) -> None:
    """Wherever it is among those that one call reaps."""
    rig = Rig(depth=3)
    single = Single(rig.ring)
    for _ in range(5):
        cids = [rig.submit() for _ in range(3)]
        rig.ring.ring_doorbell()
        rig.take()
        for number, cid in enumerate(cids):
            if number == place:
                rig.complete(cid, status, dw0=dw0, dw1=dw1)
            else:
                rig.complete(cid)
        assert reap(single.reaped, 0) == 3
        assert list(single.cids) == cids
        assert single.words[0] == (not (status or dw0 or dw1))
        done = rig.ring.reaped[place]
        assert (done["status"], done["dw0"], done["dw1"]) == (status, dw0, dw1)
        assert single.latency_ns.tolist() == rig.ring.reaped["latency_ns"].tolist()
    assert reap(single.reaped, 0) == 0


def test_a_completion_of_nothing() -> None:
    rig = Rig(depth=3)
    single = Single(rig.ring)
    rig.submit()
    rig.ring.ring_doorbell()
    rig.complete(rig.take()[0].cid ^ 1)
    assert reap(single.reaped, 0) == -errno.EPROTO
    assert rig.ring.outstanding == 1


# --- data in parts ----------------------------------------------------------------------------


def segment(rig: Rig, sqe: SQE) -> list[tuple[int, int]]:
    """The data blocks of the SGL segment that a command names, which is wiped."""
    assert sqe.flags.psdt == Psdt.SGL_MPTR_CONTIGUOUS
    assert sqe.sgl1.id.type == SglType.LAST_SEGMENT
    assert not sqe.sgl1.id.subtype
    first, odd = divmod(sqe.sgl1.addr - LISTS_IOVA, 8)
    assert (odd, first) == (0, rig.index(sqe.cid) * rig.list_entries)
    words = rig.lists[GUARD + first : GUARD + first + sqe.sgl1.length // 8].tolist()
    assert sqe.sgl1.length == 8 * len(words)
    assert all(not length >> 32 for length in words[1::2]), "a data block descriptor"
    return list(zip(words[::2], words[1::2], strict=True))


def pages(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts, cut where pages end."""
    cut = []
    for at, length in parts:
        end = at + length
        while at < end:
            step = min(end, (at | PAGE - 1) + 1) - at
            cut.append((at, step))
            at += step
    return cut


@given(st.integers(0, 1 << 32).map(random.Random), st.booleans())
def test_parts_that_begin_and_end_with_pages(chance: random.Random, sgl: bool) -> None:
    rig = Rig(depth=3, list_entries=32, use_sgl=sgl)
    single = Single(rig.ring)
    for _ in range(8):
        parts = []
        count = chance.randint(1, 6)
        for number in range(count):
            at = PAGE * chance.randint(1, 1 << 30)
            length = PAGE * chance.randint(1, 5)
            if not number:
                skip = 4 * chance.randrange(1024)
                at, length = at + skip, length - skip
            if number == count - 1:
                length = max(4, length - 4 * chance.randrange(1024))
            parts.append((at, length))
        cid = single.submit_parts(READ, parts)
        assert cid >= 0
        rig.ring.ring_doorbell()
        (sqe,) = rig.take()
        assert sqe.cid == cid
        assert rig.data(sqe, sum(length for _, length in parts)) == pages(parts)
        rig.complete(cid)
        assert reap(single.reaped, 0) == 1


@given(st.integers(0, 1 << 32).map(random.Random))
def test_parts_anywhere(chance: random.Random) -> None:
    """By SGLs where there are some; else none is sent."""
    parts = [
        (4 * chance.randint(1, 1 << 40), 4 * chance.randint(1, 5000))
        for _ in range(chance.randint(2, 16))
    ]
    parts[0] = (PAGE + 4, 8)  # ends within a page
    command = bytes(SQE.build(opc=2, nsid=9, cdw10=7, cdw12=5))
    without, rig = Rig(depth=2, list_entries=32), Rig(depth=2, list_entries=32, use_sgl=True)
    assert Single(without.ring).submit_parts(command, parts) == -errno.ENOTSUP
    assert without.ring.outstanding == 0
    cid = Single(rig.ring).submit_parts(command, parts)
    assert cid >= 0
    rig.ring.ring_doorbell()
    (sqe,) = rig.take()
    assert segment(rig, sqe) == parts
    assert (sqe.opc, sqe.nsid, sqe.cdw10, sqe.cdw12, sqe.mptr) == (2, 9, 7, 5, 0)


@pytest.mark.parametrize("sgl", [False, True])
@pytest.mark.parametrize(
    "parts",
    [
        [(PAGE + 2, 4)],
        [(PAGE, 6)],
        [(PAGE, PAGE), (3 * PAGE + 1, 4)],
        [(PAGE, PAGE), (3 * PAGE, 0)],
        [(PAGE, PAGE), (3 * PAGE, 1 << 32)],
    ],
)
def test_parts_that_no_descriptor_tells_of(sgl: bool, parts: list[tuple[int, int]]) -> None:
    rig = Rig(depth=2, use_sgl=sgl)
    assert Single(rig.ring).submit_parts(READ, parts) == -errno.EINVAL
    assert rig.ring.outstanding == 0


def test_more_parts_than_the_list_holds() -> None:
    for sgl, parts, most in (
        (False, [(PAGE * 2 * n, PAGE) for n in range(1, 7)], 5),
        (True, [(PAGE * 2 * n + 4, PAGE) for n in range(1, 4)], 2),
    ):
        rig = Rig(depth=2, list_entries=4, use_sgl=sgl)
        single = Single(rig.ring)
        assert single.submit_parts(READ, parts) == -errno.EMSGSIZE
        assert rig.ring.outstanding == 0
        assert single.submit_parts(READ, parts[:most]) >= 0
        assert lib.nvme_qpair_check(rig.ring.pointer) == 0
