"""submit_many() and reap(): what is sent, what fits, and that every tag has one outcome."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import numpy as np
import pytest
from namespace_changes import reformat
from soft_controller import BLOCKS, OK, SoftController, keep_reads, record

import pynvme_user as nvme
from pynvme_user import (
    ClosedError,
    Completion,
    Controller,
    DeviceRemovedError,
    DmaError,
    Namespace,
    NamespaceChangedError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueuePair,
    Reaped,
)
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.nvm import WriteCdw12
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.testing import Outcome
from pynvme_user.transport.pcie import PcieTransport

READ, WRITE, FLUSH = NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.FLUSH
DEPTH = 7


def kept(soft: SoftController, count: int) -> list[tuple[int, SQE]]:
    """Wait until the device has so many commands, which it keeps; return them."""
    deadline = time.monotonic() + 60
    while len(soft.kept) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return list(soft.kept)


def add(ended: dict[int, int], done: Reaped) -> None:
    """Add outcomes to those by tag: each tag comes once."""
    for tag, status in zip(done.tags.tolist(), done.status.tolist(), strict=True):
        assert tag not in ended
        ended[tag] = status


def reap_all(qp: QueuePair) -> dict[int, int]:
    """Reap until nothing is outstanding: status by tag."""
    ended: dict[int, int] = {}
    while len((done := qp.reap(None)).tags):
        add(ended, done)
    assert qp.outstanding == 0
    return ended


@pytest.fixture
def ns(ctrl: Controller) -> Namespace:
    return ctrl.namespaces[1]


# --- what is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("fua", [False, True])
def test_each_as_it_was_given(soft: SoftController, ctrl: Controller, fua: bool) -> None:
    seen = record(soft, lambda sqe: Status(0x80) if sqe.opc == NvmOpcode.COMPARE else OK)
    buffer = ctrl.alloc(16384)
    opcodes = [2, 1, 5, 8, 0xC, 4, 0]
    lbas = [0, 8, 16, 24, 992, 40, 0]
    blocks = [8, 1, 3, BLOCKS - 24, 8, 1, 0]
    offsets = [4096, 0, 8192, 0, 0, 0, 0]
    with ctrl.queue_pair(DEPTH) as qp:
        tags = [100, 0, 0xFFFFFFFF, 3, 4, 5, 6]
        ns = ctrl.namespaces[1]
        assert qp.submit_many(ns, opcodes, lbas, blocks, buffer, offsets, tags=tags, fua=fua) == 7
        ended = reap_all(qp)
    assert list(map(int, (sqe.opc for sqe in seen))) == opcodes
    assert {sqe.nsid for sqe in seen} == {1}
    assert [sqe.cdw10 | sqe.cdw11 << 32 for sqe in seen] == lbas
    assert [sqe.cdw12 & 0xFFFF for sqe in seen] == [7, 0, 2, BLOCKS - 25, 7, 0, 0]
    assert [bool(sqe.cdw12 & WriteCdw12.fua.mask) for sqe in seen] == [fua] * 5 + [False] * 2
    assert [sqe.prp1 for sqe in seen] == [buffer.iova + at for at in offsets[:3]] + [0] * 4
    assert not any(sqe.prp2 for sqe in seen)
    assert ended == dict.fromkeys(tags, 0) | {0xFFFFFFFF: 0x80}


def test_the_data_of_each(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    def answer(sqe: SQE) -> Status:
        if sqe.opc == READ:
            soft.fill(sqe, bytes([sqe.cdw10]) * 512 * ((sqe.cdw12 & 0xFFFF) + 1))
        return OK

    record(soft, answer)
    buffer = ctrl.alloc(64 * 512)
    buffer.fill(0)
    with ctrl.queue_pair(DEPTH) as qp:
        # Three pages from the middle of one on: a PRP list; then one behind the other.
        assert qp.submit_many(ns, READ, [1, 2], [24, 1], buffer, [1024, 0]) == 2
        assert reap_all(qp) == {0: 0, 1: 0}
        assert (buffer[1024 : 1024 + 24 * 512] == 1).all()
        assert (buffer[:512] == 2).all()
        assert not buffer[512:1024].any()
        qp.submit_many(ns, [READ, FLUSH, READ, READ], [7, 0, 8, 9], [2, 0, 1, 3], buffer)
        reap_all(qp)
    assert buffer[: 6 * 512 : 512].tolist() == [7, 7, 8, 9, 9, 9]


def test_a_buffer_for_each(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    def answer(sqe: SQE) -> Status:
        if sqe.opc == READ:
            soft.fill(sqe, bytes([sqe.cdw10]) * 512)
        return OK

    record(soft, answer)
    parts = [ctrl.alloc(512) for _ in range(3)]
    with ctrl.queue_pair(DEPTH) as qp:
        assert (
            qp.submit_many(
                ns, [2, 0, 2, 2], [5, 0, 6, 7], [1, 0, 1, 1], [*parts[:1], None, *parts[1:]]
            )
            == 4
        )
        assert reap_all(qp) == dict.fromkeys(range(4), 0)
        assert [int(part[511]) for part in parts] == [5, 6, 7]
        # And what C knows of one buffer is not what it knew before.
        assert qp.submit_many(ns, 2, [8], 1, parts[0], 0) == 1
        reap_all(qp)
        assert [int(part[0]) for part in parts] == [8, 6, 7]
        for wrong, why in (
            (parts[:2], "3 I/Os need as many buffers, not 2"),
            ([*parts[:2], None], "I/O 2: it moves data, and has no buffer"),
            (
                [parts[0], parts[1][:256], parts[2]],
                "I/O 1: 1 blocks need a buffer of 512 bytes, not 256",
            ),
        ):
            with pytest.raises(ValueError, match=why):
                qp.submit_many(ns, 2, [0, 1, 2], 1, wrong)
        with pytest.raises(ValueError, match="there are no offsets"):
            qp.submit_many(ns, 2, [0, 1, 2], 1, parts, 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, np.int64, np.uint64, list, "gaps"])
def test_arrays_of_each_kind(
    soft: SoftController, ctrl: Controller, ns: Namespace, kind: Any
) -> None:
    def made(values: list[int]) -> Any:
        if kind is list:
            return values
        if kind == "gaps":
            return np.repeat(values, 2)[::2]
        return np.array(values, kind)

    seen = record(soft)
    buffer = ctrl.alloc(4096)
    opcodes, lbas, blocks, offsets, tags = map(
        made, ([1, 2, 1], [9, 8, 7], [1, 1, 2], [0, 64, 128], [3, 2, 1])
    )
    with ctrl.queue_pair(DEPTH) as qp:
        for turn in range(3):
            assert qp.submit_many(ns, opcodes, lbas, blocks, buffer, offsets, tags=tags) == 3
            assert reap_all(qp) == {3: 0, 2: 0, 1: 0}
            assert [int(sqe.opc) for sqe in seen] == [1, 2, 1]
            assert [sqe.cdw10 for sqe in seen] == [9 + turn, 8, 7]
            assert [sqe.prp1 - buffer.iova for sqe in seen] == [0, 64, 128]
            seen.clear()
            lbas[0] += 1  # what is read is what is there now


def test_the_first_of_arrays(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    seen = record(soft)
    lbas = np.arange(10)
    with ctrl.queue_pair(DEPTH) as qp:
        for count in (0, 1, 5):
            assert qp.submit_many(ns, NvmOpcode.WRITE_ZEROES, lbas, 1, count=count) == count
            assert sorted(reap_all(qp)) == list(range(count))
            assert [sqe.cdw10 for sqe in seen] == list(range(count))
            seen.clear()
        for count in (-1, 11):
            with pytest.raises(ValueError, match=f"count is {count}, and the arrays have 10 I/Os"):
                qp.submit_many(ns, NvmOpcode.WRITE_ZEROES, lbas, 1, count=count)
        assert qp.submit_many(ns, FLUSH, 0, 0, count=4) == 4
        assert sorted(reap_all(qp)) == [0, 1, 2, 3]
        assert qp.submit_many(ns, FLUSH, 0, 0, tags=[9]) == 1
        assert reap_all(qp) == {9: 0}
        assert qp.submit_many(ns, READ, [], []) == 0
        assert len(qp.reap(None).tags) == 0


# --- what fits --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, DEPTH, 32])
def test_as_many_as_there_is_room_for(
    soft: SoftController, ctrl: Controller, ns: Namespace, depth: int
) -> None:
    seen = record(soft)
    lbas = np.arange(100)
    tags = lbas + 1000
    buffer = ctrl.alloc(100 * 512)
    ended: dict[int, int] = {}
    with ctrl.queue_pair(depth) as qp:
        first = 0
        while first < 100:
            before = qp.outstanding
            sent = qp.submit_many(
                ns, WRITE, lbas[first:], 1, buffer, lbas[first:] * 512, tags=tags[first:]
            )
            assert sent == min(depth - before, 100 - first)
            first += sent
            add(ended, qp.reap(None))
        ended |= reap_all(qp)
    assert ended == dict.fromkeys(range(1000, 1100), 0)
    assert sorted(sqe.cdw10 for sqe in seen) == list(range(100))


def test_none_where_it_is_full(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    soft.io = lambda _: None
    with ctrl.queue_pair(2) as qp:
        assert qp.submit_many(ns, FLUSH, [0, 0, 0], 0) == 2
        assert qp.submit_many(ns, FLUSH, [0, 0, 0], 0) == 0
        assert len(qp.reap().tags) == 0
        assert len(qp.reap(0.01).tags) == 0
        for qid, sqe in kept(soft, 2):
            soft.complete(qid, sqe, OK)
        assert reap_all(qp) == {0: 0, 1: 0}


# --- what is refused --------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "opcodes": [2, 2, 2],
    "lbas": [0, 1, 2],
    "blocks": 1,
    "offsets": [0, 512, 1024],
}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"opcodes": [2, 0x7D, 2]}, "I/O 1: opcode 0x7d is none that a batch has.*use submit()"),
        ({"opcodes": [2, 2, 9]}, "I/O 2: opcode 0x09 is none"),
        ({"opcodes": [2, 0x102, 2]}, "I/O 1: opcode 0x102 is none"),
        (
            {"lbas": [0, 1, BLOCKS]},
            f"I/O 2: blocks {BLOCKS} to {BLOCKS} are not all in namespace 1",
        ),
        ({"lbas": [0, -1, 2]}, "I/O 1: blocks -1 to -1 are not all in namespace 1"),
        ({"lbas": np.array([1 << 63, 1, 2], np.uint64)}, "I/O 0: blocks 9223372036854775808 to"),
        ({"blocks": [1, 0, 1]}, "I/O 1: 0 blocks are not all in namespace 1"),
        ({"blocks": [1, 1, -1]}, "I/O 2: -1 blocks are not all in namespace 1"),
        (
            {"blocks": [1, 1, 33]},
            "I/O 2: one command does not carry 33 blocks: data of up to 16384 bytes",
        ),
        (
            {"offsets": [0, 3584 + 1, 0]},
            "I/O 1: 512 bytes of data at offset 3585 are not all in the buffer, which has 4",
        ),
        ({"offsets": [0, -512, 0]}, "I/O 1: 512 bytes of data at offset -512 are not all"),
        ({"offsets": [0, 0, 1 << 40]}, "I/O 2: 512 bytes of data at offset 1099511627776 are"),
        ({"offsets": [0, 2, 0]}, "I/O 1: its data do not start at a multiple of 4 bytes"),
        ({"buffer": None}, "I/O 0: it moves data, and there is no buffer"),
        ({"tags": [0, 1, 1 << 32]}, "I/O 2: tag 4294967296 is not from 0 to 4294967295"),
        ({"tags": [0, -1, 2]}, "I/O 1: tag -1 is not from 0 to 4294967295"),
        ({"tags": [0, 1]}, "opcodes has 3, lbas has 3, offsets has 3, tags has 2"),
        ({"lbas": [0.0, 1.0, 2.0]}, "lbas: whole numbers below 2..64 are wanted, one or an array"),
        ({"blocks": [[1, 1, 1]]}, "blocks: whole numbers"),
        ({"opcodes": "read"}, "opcodes: whole numbers"),
        (
            {"opcodes": [0, 0, 2], "lbas": [0, 1, 2], "blocks": 0},
            "I/O 1: a Flush has LBA 0 and 0 blocks, not LBA 1 and 0 blocks",
        ),
        (
            {"opcodes": 0, "lbas": 0},
            "I/O 0: a Flush has LBA 0 and 0 blocks, not LBA 0 and 1 blocks",
        ),
    ],
)
def test_one_that_is_not_right_is_named_and_nothing_is_sent(
    soft: SoftController, ctrl: Controller, ns: Namespace, changes: dict[str, Any], why: str
) -> None:
    seen = record(soft)
    arguments = GOOD | {"buffer": ctrl.alloc(4096)}
    with ctrl.queue_pair(DEPTH) as qp:
        for _ in range(2):
            with pytest.raises(ValueError, match=why):
                qp.submit_many(ns, **(arguments | changes))
            assert qp.outstanding == 0
            qp._ring.check()
            assert not seen
        assert qp.submit_many(ns, **arguments) == 3
        assert reap_all(qp) == {0: 0, 1: 0, 2: 0}
        assert [sqe.cdw10 for sqe in seen] == [0, 1, 2]


def test_one_beyond_what_fits_is_named_too(
    soft: SoftController, ctrl: Controller, ns: Namespace
) -> None:
    seen = record(soft)
    with ctrl.queue_pair(2) as qp:
        with pytest.raises(ValueError, match="I/O 3: blocks 1000 to 1000 are not all"):
            qp.submit_many(ns, NvmOpcode.VERIFY, [0, 1, 2, 1000], 1)
        assert not seen
        assert qp.outstanding == 0


def test_blocks_without_data_have_another_limit(ctrl: Controller, soft: SoftController) -> None:
    soft.blocks = 1 << 20
    ctrl.reset()
    ns = ctrl.namespaces[1]
    with ctrl.queue_pair(2) as qp:
        assert qp.submit_many(ns, NvmOpcode.WRITE_ZEROES, 0, 0x10000) == 1
        reap_all(qp)
        with pytest.raises(
            ValueError, match="I/O 0: one command does not carry 65537 blocks: up to 65536"
        ):
            qp.submit_many(ns, NvmOpcode.WRITE_ZEROES, 0, 0x10001)


def test_another_format_between_the_checks_and_the_submission(
    soft: SoftController, ctrl: Controller, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made by the old format is not sent to the new one."""
    set_columns = QueuePair._set_columns
    formats: list[Completion] = []

    def late(self: QueuePair, *columns: Any) -> None:
        set_columns(self, *columns)
        if not formats:
            formats.append(ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1))

    soft.admin = reformat(soft, ds=12)
    seen = record(soft)
    monkeypatch.setattr(QueuePair, "_set_columns", late)
    with ctrl.queue_pair(DEPTH) as qp:
        with pytest.raises(NamespaceChangedError, match="its block size changed"):
            qp.submit_many(ns, READ, [0], 8, ctrl.alloc(4096), 0)
        assert formats
        assert qp.outstanding == 0
    assert not seen


def test_metadata_is_not_for_batches(soft: SoftController, ctrl: Controller) -> None:
    soft.lbaf = LbaFormat.build(ds=9, ms=8)
    ctrl.reset()
    with ctrl.queue_pair(2) as qp, pytest.raises(ValueError, match="8 bytes of metadata in each"):
        qp.submit_many(ctrl.namespaces[1], FLUSH, 0, 0)


def test_what_the_device_does_not_reach(ctrl: Controller, ns: Namespace) -> None:
    with ctrl.queue_pair(2) as qp:
        with pytest.raises(ValueError, match="the device does not reach this buffer"):
            qp.submit_many(ns, READ, 0, 1, np.zeros(512, np.uint8), 0)
        plain = ctrl.alloc(512).view(np.ndarray)
        assert qp.submit_many(ns, READ, 0, 1, plain, 0) == 1
        assert reap_all(qp) == {0: 0}


def test_one_kind_at_a_time(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    seen = record(soft, lambda _: None)
    buffer = ctrl.alloc(512)

    def complete() -> None:
        for qid, sqe in kept(soft, 1):
            soft.complete(qid, sqe, OK)

    with ctrl.queue_pair(DEPTH) as qp:
        qp.submit_read(ns, 0, 1, buffer)
        for call in (lambda: qp.submit_many(ns, FLUSH, 0, 0), qp.reap):
            with pytest.raises(ValueError, match="that submit_many did not submit are outstanding"):
                call()
        qp.ring()
        complete()
        assert len(qp.drain()) == 1
        assert qp.submit_many(ns, FLUSH, 0, 0) == 1
        for call in (
            lambda: qp.submit_read(ns, 0, 1, buffer),
            lambda: qp.submit_flush(ns),
            lambda: qp.submit(SQE.build(opc=FLUSH, nsid=1)),
            qp.poll,
            qp.wait,
            qp.drain,
        ):
            with pytest.raises(ValueError, match="take their outcomes by reap"):
                call()
        with pytest.raises(ValueError, match="commands are outstanding"):
            qp.read_many(ns, [0], 1, buffer)
        complete()
        assert reap_all(qp) == {0: 0}
        assert qp.poll() == []
        soft.io = lambda _: OK
        qp.read_many(ns, [0], 1, buffer).check()
        qp.submit_read(ns, 0, 1, buffer)
        assert len(qp.drain()) == 1
    assert len(seen) == 2


# --- every tag has one outcome ----------------------------------------------------------------


def test_a_reset_ends_them(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    record(soft, lambda sqe: OK if sqe.cdw10 % 2 else None)
    buffer = ctrl.alloc(DEPTH * 512)
    lbas = np.arange(DEPTH)
    ended: dict[int, int] = {}
    with ctrl.queue_pair(DEPTH) as qp:
        assert qp.submit_many(ns, READ, lbas, 1, buffer, lbas * 512) == DEPTH
        while len(ended) < 3:
            add(ended, qp.reap(None))
        assert ended == {1: 0, 3: 0, 5: 0}
        ctrl.reset()
        # Their CIDs are not used again before this, whatever else is.
        assert qp.submit_many(ns, READ, lbas, 1, buffer, lbas * 512, tags=lbas + 10) == 3
        done = qp.reap()
        assert sorted(done.tags.tolist()) == [0, 2, 4, 6]
        assert set(done.status.tolist()) == {int(HOST_ABORTED)}
        assert done.failed.tolist() == [0, 1, 2, 3]
        with pytest.raises(NvmeStatusError, match="a reset of the controller ended it"):
            done.check()
        soft.io = lambda _: OK
        assert qp.submit_many(ns, READ, lbas, 1, buffer, lbas * 512, tags=lbas + 20) == 4
        qp._ring.check()
        ctrl.reset()
        ended = reap_all(qp)
        assert sorted(ended) == [10, 11, 12, 20, 21, 22, 23]
        assert qp.submit_many(ns, READ, lbas, 1, buffer, lbas * 512) == DEPTH
        assert reap_all(qp) == dict.fromkeys(range(DEPTH), 0)


def test_one_that_takes_too_long(soft: SoftController, impatient: None) -> None:
    soft.io = keep_reads
    with Controller(PcieTransport(soft), timeout=0.2) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
        with ctrl.queue_pair(DEPTH) as qp:
            assert qp.submit_many(ns, [FLUSH, READ], 0, [0, 1], buffer, 0, tags=[8, 9]) == 2
            ended: dict[int, int] = {}
            while 9 not in ended:
                done = qp.reap(None)
                add(ended, done)
            assert ended[8] == 0
            assert Status(ended[9]).code() is GenericStatus.ABORTED_BY_REQUEST
            assert done.timed_out
            with pytest.raises(NvmeTimeoutError, match="the I/O with tag 9 was aborted"):
                done.check()
            assert "abort" in soft.log
            assert ctrl.resets == 0
            # The next ones are not said to be.
            soft.io = lambda _: OK
            assert qp.submit_many(ns, READ, 0, 1, buffer, 0) == 1
            assert not qp.reap(None).check().timed_out


def test_one_that_is_not_even_aborted(soft: SoftController, impatient: None) -> None:
    soft.io = keep_reads
    soft.abort_answer = False
    with Controller(PcieTransport(soft), timeout=0.2) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
        with ctrl.queue_pair(DEPTH) as qp:
            assert qp.submit_many(ns, READ, [0, 1], 1, buffer, 0) == 2
            ended: dict[int, int] = {}
            while len(ended) < 2:
                done = qp.reap(None)
                add(ended, done)
            assert set(ended.values()) == {int(HOST_ABORTED)}
            with pytest.raises(NvmeTimeoutError, match="was given up"):
                done.check()
            assert ctrl.resets == 1


def test_removal(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    soft.io = lambda _: None
    with ctrl.queue_pair(DEPTH) as qp:
        assert qp.submit_many(ns, FLUSH, 0, 0, count=3) == 3
        soft.gone = True
        with pytest.raises(DeviceRemovedError):
            qp.reap(None)
        with pytest.raises(DeviceRemovedError):
            qp.submit_many(ns, FLUSH, 0, 0)


def test_closing_brings_them_to_their_end(
    soft: SoftController, ctrl: Controller, ns: Namespace
) -> None:
    soft.io = lambda _: OK
    qp = ctrl.queue_pair(DEPTH)
    assert qp.submit_many(ns, FLUSH, 0, 0, count=3) == 3
    qp.close()
    ended: dict[int, int] = {}
    add(ended, qp.reap())
    assert ended == {0: 0, 1: 0, 2: 0}
    for call in (lambda: qp.submit_many(ns, FLUSH, 0, 0), qp.reap):
        with pytest.raises(ClosedError):
            call()


def test_ctrl_c_loses_none(
    soft: SoftController, ctrl: Controller, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come between C and the caller: the next call returns what this one had reaped."""
    with ctrl.queue_pair(DEPTH) as qp:
        assert qp.submit_many(ns, FLUSH, 0, 0, count=5) == 5
        made = QueuePair._reaped
        ended: dict[int, int] = {}

        def interrupted(self: QueuePair, count: int) -> Reaped:
            raise KeyboardInterrupt

        while len(ended) < 5:
            with monkeypatch.context() as patch:
                patch.setattr(QueuePair, "_reaped", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    qp.reap(None)
            assert QueuePair._reaped is made
            add(ended, qp.reap())
        assert len(qp.reap().tags) == 0


# --- buffers ----------------------------------------------------------------------------------


def test_buffers_stay_until_the_device_has_let_go(
    soft: SoftController, ctrl: Controller, ns: Namespace
) -> None:
    soft.io = lambda _: None
    one, two = ctrl.alloc(4096), ctrl.alloc(4096)
    seen = [weakref.ref(one), weakref.ref(two)]
    with ctrl.queue_pair(DEPTH) as qp:
        assert qp.submit_many(ns, READ, [0, 1], 1, one, 0, tags=[0, 1]) == 2
        del one
        assert qp.submit_many(ns, READ, [2], 1, two, 0, tags=[2]) == 1
        assert qp.submit_many(ns, READ, [3], 1, [two[:512]], tags=[3]) == 1
        del two
        gc.collect()
        assert all(ref() is not None for ref in seen)
        # The second's commands end; the first's device may still write to it.
        for qid, sqe in [one for one in kept(soft, 4) if one[1].cdw10 >= 2]:
            soft.complete(qid, sqe, OK)
        ended: dict[int, int] = {}
        while len(ended) < 2:
            add(ended, qp.reap(None))
        gc.collect()
        assert seen[0]() is not None
        ctrl.reset()
        gc.collect()
        assert [ref() for ref in seen] == [None, None]
        ended |= reap_all(qp)
        assert sorted(ended) == [0, 1, 2, 3]


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.FATAL])
def test_a_device_that_fails_meanwhile(
    soft: SoftController, ctrl: Controller, ns: Namespace, outcome: Outcome
) -> None:
    """Whatever becomes of it, an error is all that is left, or an outcome for each tag."""
    soft.io = lambda _: outcome
    ended: dict[int, int] = {}
    qp = ctrl.queue_pair(DEPTH)
    assert qp.submit_many(ns, FLUSH, 0, 0, count=3) == 3
    if outcome is Outcome.GONE:
        with pytest.raises(DeviceRemovedError):
            qp.reap(None)
    else:
        ctrl.reset()
        ended = reap_all(qp)
        assert ended == dict.fromkeys(range(3), int(HOST_ABORTED))


def test_what_may_not_lie_in_the_device_s_own_memory() -> None:
    """Of which commands bring nothing there: whichever of a batch is one of them."""
    with nvme.open("soft:?size=1M&cmb=1M&cmb.uses=sqs,wds") as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.cmb.alloc(4096)
        size = ns.block_size
        with ctrl.queue_pair(DEPTH) as qp:
            for where in ((buffer, [0, size]), ([buffer[:size], buffer[size : 2 * size]],)):
                with pytest.raises(DmaError, match="RDS is 0"):
                    qp.submit_many(ns, [WRITE, READ], [0, 1], 1, *where)
                assert qp.outstanding == 0
                assert qp.submit_many(ns, [WRITE, WRITE], [0, 1], 1, *where) == 2
                assert reap_all(qp) == {0: 0, 1: 0}
