"""submit_read() and its kin of plain DMA buffers, and poll() of plain successes: from words."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from namespace_changes import reformat
from soft_controller import BLOCKS, OK, SoftController, keep_reads, record

import pynvme_user as nvme
from pynvme_user import Completion, Controller, Namespace, NvmOpcode, QueuePair
from pynvme_user.driver import io_queue_pair
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.nvm import WriteCdw12
from pynvme_user.spec.status import Status

DEPTH = 7
FUA = WriteCdw12.fua.mask


@pytest.fixture
def ns(ctrl: Controller) -> Namespace:
    return ctrl.namespaces[1]


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Opcodes of what went the general way."""
    gone: list[int] = []
    submit_io = QueuePair._submit_io

    def look(self: QueuePair, opcode: NvmOpcode, *args: Any) -> int:
        gone.append(opcode)
        return submit_io(self, opcode, *args)

    monkeypatch.setattr(QueuePair, "_submit_io", look)
    return gone


@pytest.mark.parametrize("lba", [0, 1, BLOCKS - 8, np.int64(5), np.uint16(700)])
@pytest.mark.parametrize("fua", [False, True, 0, 2])
def test_each_command(
    soft: SoftController, ctrl: Controller, ns: Namespace, general: list[int], lba: int, fua: bool
) -> None:
    """Whatever is taken for true is FUA, and nothing else."""
    seen = record(soft)
    whole = ctrl.alloc(16384)
    with ctrl.queue_pair(DEPTH) as qp:
        for round_ in range(3):
            buffers = [whole[at : at + 4096] for at in (0, 512, 8192)]
            assert all(part.iova for part in buffers)
            submits = (qp.submit_read, qp.submit_write, qp.submit_compare)
            cids = [
                submit(ns, lba, 8, part, fua=fua)
                for submit, part in zip(submits, buffers, strict=True)
            ]
            done = qp.drain()
            assert [one.cid for one in done] == cids
            assert {type(one) for one in done} == {Completion}
            assert {(type(one.status), int(one.status)) for one in done} == {(Status, 0)}
            assert all(one.latency_ns > 0 for one in done)
            assert {one[3:] for one in done} == {(0, 0, False)}
            commands, seen[:] = list(seen), []
            assert [sqe.opc for sqe in commands] == [2, 1, 5]
            assert [sqe.cid for sqe in commands] == cids
            for sqe, part in zip(commands, buffers, strict=True):
                second = 0 if part.iova % 4096 == 0 else part.iova // 4096 * 4096 + 4096
                assert sqe == SQE.build(
                    opc=sqe.opc,
                    cid=sqe.cid,
                    nsid=1,
                    cdw10=int(lba),
                    cdw12=7 | (FUA if fua else 0),
                    prp1=part.iova,
                    prp2=second,
                ), round_
    assert not general


def test_each_outcome_is_its_own(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    """One that failed among those that did not, in a poll."""
    record(soft, lambda sqe: Status(0x281) if sqe.cdw10 == 3 else OK)
    buffer = ctrl.alloc(512)
    assert buffer.iova
    with ctrl.queue_pair(DEPTH) as qp:
        for _ in range(40):  # the queue's ends come past, and generations
            cids = [qp.submit_read(ns, lba, 1, buffer) for lba in range(6)]
            assert len(set(cids)) == 6
            ended = {one.cid: one for one in qp.drain()}
            assert [int(ended[cid].status) for cid in cids] == [0, 0, 0, 0x281, 0, 0]
            assert not any(one.timed_out for one in ended.values())
        qp._ring.check()


REFUSED: dict[str, tuple[tuple[Any, Any, int], type[Exception], str]] = {
    "negative": ((-1, 8, 4096), ValueError, "blocks -1 to 6 are not all in namespace 1"),
    "beyond": ((BLOCKS - 7, 8, 4096), ValueError, "not all in namespace 1"),
    "far beyond": ((1 << 63, 8, 4096), ValueError, "not all in namespace 1"),
    "beyond all": ((1 << 64, 8, 4096), ValueError, "not all in namespace 1"),
    "no blocks": ((0, 0, 4096), ValueError, "0 blocks are not all in namespace 1"),
    "no number": ((0.5, 8, 4096), TypeError, "an LBA is a whole number, not 0.5"),
    "no blocks' number": ((0, "8", 4096), TypeError, "a number of blocks is a whole number"),
    "length": ((0, 7, 4096), ValueError, "7 blocks of 512 bytes need a buffer of 3584 bytes"),
    "too much": ((0, 512, 262144), ValueError, "one command carries up to"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_right(
    soft: SoftController, ctrl: Controller, ns: Namespace, what: str
) -> None:
    """Is said as ever, also once the namespace is known; nothing is sent, nothing pinned."""
    (lba, blocks, length), error, text = REFUSED[what]
    seen = record(soft)
    good, bad = ctrl.alloc(512), ctrl.alloc(length)
    assert good.iova
    assert bad.iova
    with ctrl.queue_pair(DEPTH) as qp:
        qp.submit_write(ns, 0, 1, good)
        qp.drain()
        for fua in (False, True):
            with pytest.raises(error, match=text):
                qp.submit_read(ns, lba, blocks, bad, fua=fua)
        assert qp.outstanding == 0
        assert qp.waiter.pinned == ()
        qp.submit_write(ns, 1, 1, good)
        qp.drain()
    assert len(seen) == 2


def test_a_queue_that_is_full(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    soft.io = keep_reads
    buffer = ctrl.alloc(512)
    assert buffer.iova
    with ctrl.queue_pair(DEPTH) as qp:
        for lba in range(DEPTH):
            qp.submit_read(ns, lba, 1, buffer)
        with pytest.raises(nvme.QueueFullError):
            qp.submit_read(ns, 0, 1, buffer)
        qp.poll()
        soft.io = lambda _: OK
        ctrl.reset()
        assert len(qp.drain()) == DEPTH


def test_batches_come_first(soft: SoftController, ctrl: Controller, ns: Namespace) -> None:
    """A plain command beside a batch is refused, and after its outcomes sent."""
    buffer = ctrl.alloc(512)
    with ctrl.queue_pair(DEPTH) as qp:
        qp.submit_read(ns, 0, 1, buffer)
        qp.drain()
        assert qp.submit_many(ns, NvmOpcode.READ, [0, 1], 1, buffer, 0) == 2
        with pytest.raises(ValueError, match="reap\\(\\) first"):
            qp.submit_read(ns, 0, 1, buffer)
        tags: list[int] = []
        while len(tags) < 2:
            tags += qp.reap(None).tags.tolist()
        cid = qp.submit_read(ns, 0, 1, buffer)
        assert [one.cid for one in qp.drain()] == [cid]


def test_another_format(
    soft: SoftController, ctrl: Controller, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made by the old format is not sent, also where it changes in between."""
    soft.admin = reformat(soft, ds=12)
    seen = record(soft)
    know = QueuePair._know
    formats: list[Completion] = []

    def late(self: QueuePair, *args: Any) -> bool:
        known = know(self, *args)
        if not formats:
            formats.append(ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1))
        return known

    monkeypatch.setattr(QueuePair, "_know", late)
    buffer = ctrl.alloc(4096)
    assert buffer.iova
    with ctrl.queue_pair(DEPTH) as qp:
        for _ in range(2):
            with pytest.raises(nvme.NamespaceChangedError, match="its block size changed"):
                qp.submit_read(ns, 0, 8, buffer)
        assert formats
        assert not seen
        ns = ctrl.namespaces[1]
        qp.submit_read(ns, 0, 1, buffer)
        qp.drain()
    assert [sqe.cdw12 for sqe in seen] == [0]


def test_a_closed_queue_pair_and_a_device_that_is_gone(
    soft: SoftController, ctrl: Controller, ns: Namespace
) -> None:
    buffer = ctrl.alloc(512)
    first, second = ctrl.queue_pair(2), ctrl.queue_pair(2)
    for qp in (first, second):
        qp.submit_read(ns, 0, 1, buffer)
        qp.drain()
    first.close()
    with pytest.raises(nvme.ClosedError, match="the queue pair is closed"):
        first.submit_read(ns, 0, 1, buffer)
    soft.gone = True
    second.submit_read(ns, 0, 1, buffer)
    with pytest.raises(nvme.DeviceRemovedError):
        second.drain()
    with pytest.raises(nvme.DeviceRemovedError):
        second.submit_read(ns, 0, 1, buffer)


# --- buffers ----------------------------------------------------------------------------------


def test_the_buffer_stays_until_the_outcome(
    soft: SoftController, ctrl: Controller, ns: Namespace
) -> None:
    soft.io = keep_reads
    buffer = ctrl.alloc(512)
    assert buffer.iova
    alive = weakref.ref(buffer)
    with ctrl.queue_pair(DEPTH) as qp:
        qp.submit_read(ns, 0, 1, buffer)
        del buffer
        qp.poll()
        gc.collect()
        assert alive() is not None
        soft.io = lambda _: OK
        ctrl.reset()
        assert len(qp.drain()) == 1
        gc.collect()
        assert alive() is None


def test_ctrl_c_after_the_submission(
    soft: SoftController, ctrl: Controller, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever presses it before the CID is known leaves the buffer with the device."""
    real = io_queue_pair.submit
    buffer = ctrl.alloc(512)
    assert buffer.iova
    alive = weakref.ref(buffer)

    def interrupted(transfer: Any) -> int:
        real(transfer)
        raise KeyboardInterrupt

    with ctrl.queue_pair(DEPTH) as qp:
        with monkeypatch.context() as patch:
            patch.setattr(io_queue_pair, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                qp.submit_read(ns, 0, 1, buffer)
        del buffer
        gc.collect()
        assert qp.outstanding == 1
        assert alive() is not None
        qp.submit_read(ns, 1, 1, ctrl.alloc(512))
        assert len(qp.drain()) == 2
        gc.collect()
        assert alive() is None


def test_what_cannot_be_of_both_directions() -> None:
    """The device's own memory, which no command may bring data into."""
    with nvme.open("soft:?size=1M&cmb=1M&cmb.uses=sqs,wds") as ctrl, ctrl.queue_pair(2) as qp:
        ns = ctrl.namespaces[1]
        buffer = ctrl.cmb.alloc(ns.block_size)
        qp.submit_write(ns, 0, 1, buffer)
        assert qp.drain()[0].status.ok
        with pytest.raises(nvme.DmaError, match="RDS is 0"):
            qp.submit_read(ns, 0, 1, buffer)
