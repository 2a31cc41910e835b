"""Vectors of I/Os that differ in length or move no data, and I/Os whose data lie in parts."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from namespace_changes import reformat
from soft_controller import BLOCKS, OK, SoftController

import pynvme_user as nvme
from pynvme_user import Controller, DmaBuffer, Namespace, QueuePair
from pynvme_user.driver.lba_vector import LbaVector, dataset_ranges
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.nvm import DatasetManagementCdw11, WriteCdw12, WriteZeroesCdw12
from pynvme_user.spec.status import GenericStatus, Status

SIZE = 512


@pytest.fixture
def storage() -> Iterator[Controller]:
    with nvme.open("soft:?size=4M&logical_block_size=512") as ctrl:
        yield ctrl


def recorded(soft: SoftController) -> list[SQE]:
    seen: list[SQE] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe)
        return Status(0x281) if sqe.cdw10 == 40 else OK

    soft.io = look
    return seen


@pytest.mark.parametrize("depth", [1, 7])
@pytest.mark.parametrize("kind", [list, np.uint8, np.int64, np.uint32])
def test_each_with_its_length(storage: Controller, depth: int, kind: Any) -> None:
    ns = storage.namespaces[1]
    random = np.random.default_rng(depth)
    blocks = random.integers(1, 40, 100)
    lbas = np.concatenate(([0], np.cumsum(blocks)[:-1]))
    order = random.permutation(100)
    blocks, lbas = blocks[order], lbas[order]
    given = blocks.tolist() if kind is list else blocks.astype(kind)
    buffer = storage.alloc(int(blocks.sum()) * SIZE)
    buffer[:] = random.integers(0, 256, len(buffer), np.uint8)
    expected = bytes(buffer)
    with storage.queue_pair(depth) as qp:
        done = qp.write_many(ns, lbas, given, buffer).check()
        assert len(done.status) == 100
        assert done.errors == {}
        buffer[:] = 0
        qp.read_many(ns, lbas, given, buffer).check()
        assert bytes(buffer) == expected
        at = 0
        for lba, count in zip(lbas.tolist(), blocks.tolist(), strict=True):
            assert ns.read(lba, count) == expected[at : at + count * SIZE]
            at += count * SIZE
        # As many places as the queue is deep, each as large as the largest.
        small = storage.alloc(depth * int(blocks.max()) * SIZE)
        qp.read_many(ns, lbas, given, small, recycle=True).check()
        with pytest.raises(ValueError, match=r"100 I/Os with \d+ bytes of data together need"):
            qp.read_many(ns, lbas, given, buffer[SIZE:])


def test_the_failed_ones_are_named(soft: SoftController, ctrl: Controller) -> None:
    seen = recorded(soft)
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(64 * SIZE)
    with ctrl.queue_pair(4) as qp:
        done = qp.read_many(ns, [0, 40, 80, 40, 2], [1, 2, 3, 4, 5], buffer)
        assert done.errors == {1: Status(0x281), 3: Status(0x281)}
        assert done.failed.tolist() == [1, 3]
        with pytest.raises(nvme.NvmeStatusError, match="Read of a vector, I/O 1 failed"):
            done.check()
        assert [(sqe.cdw10, sqe.cdw12) for sqe in seen] == [
            (0, 0),
            (40, 1),
            (80, 2),
            (40, 3),
            (2, 4),
        ]
        assert qp.submit_many(ns, NvmOpcode.READ, [40, 0], 1, buffer, 0, tags=[7, 9]) == 2
        errors: dict[int, Status] = {}
        while qp.outstanding:
            errors |= qp.reap(None).errors
        assert errors == {7: Status(0x281)}


@pytest.mark.parametrize(
    ("lbas", "blocks", "text"),
    [
        ([0, 1], [1], "lbas has 2 numbers, and blocks 1"),
        ([0, 1], [[1, 2]], "blocks is a one-dimensional array of whole numbers"),
        ([0, 1], [1.0, 2.0], "blocks is a one-dimensional array of whole numbers"),
        ([[0]], 1, "lbas is a one-dimensional array of whole numbers"),
        ([0, 1, 2], [1, 0, 2], "I/O 1: an I/O has 1 to 4294967295 blocks, not 0"),
        ([0, 1, 2], [1, 2, -1], "I/O 2: an I/O has 1 to 4294967295 blocks, not -1"),
        ([0, 1, 2], [1, 1 << 32, 1], "I/O 1: an I/O has 1 to 4294967295 blocks, not 4294967296"),
        ([0, -1], [1, 2], "I/O 1: blocks -1 to 0 are not all in namespace 1"),
        ([0, BLOCKS - 1], [1, 2], "I/O 1: blocks 999 to 1000 are not all in namespace 1"),
        ([0, BLOCKS + 7], [1, 2], "I/O 1: blocks 1007 to 1008 are not all in namespace 1"),
        ([0, 0], [1, 999], "I/O 1: one command carries up to 32 blocks here, not 999"),
        ([0, BLOCKS], [1, 1], "blocks 1000 to 1000 are not all in namespace 1"),
    ],
)
def test_what_is_not_right(
    soft: SoftController, ctrl: Controller, lbas: Any, blocks: Any, text: str
) -> None:
    seen = recorded(soft)
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(1 << 20)
    text = text.replace("32", str(ctrl.max_transfer // SIZE), 1) if "carries" in text else text
    with ctrl.queue_pair(4) as qp:
        with pytest.raises(ValueError, match=text):
            qp.write_many(ns, lbas, blocks, buffer)
        if "carries" not in text:
            with pytest.raises(ValueError, match=text):
                qp.write_zeroes_many(ns, lbas, blocks)
            with pytest.raises(ValueError, match=text):
                qp.deallocate_many(ns, lbas, blocks)
        assert not seen
        assert qp.outstanding == 0


def test_none_at_all(storage: Controller) -> None:
    ns = storage.namespaces[1]
    with storage.queue_pair(4) as qp:
        for done in (
            qp.read_many(ns, [], [], storage.alloc(SIZE)),
            qp.write_zeroes_many(ns, [], []),
            qp.deallocate_many(ns, [], 1),
        ):
            assert len(done.check().status) == 0


# --- without data -----------------------------------------------------------------------------


@pytest.mark.parametrize("deallocate", [False, True])
@pytest.mark.parametrize("fua", [False, True])
def test_zeroes_as_they_are_sent(
    soft: SoftController, ctrl: Controller, deallocate: bool, fua: bool
) -> None:
    seen = recorded(soft)
    flags = WriteCdw12.fua.mask * fua | WriteZeroesCdw12.deac.mask * deallocate
    with ctrl.queue_pair(2) as qp:
        for blocks in ([1, 7, 1000, 3], 5):
            lbas = [5, 900, 0, 40]
            done = qp.write_zeroes_many(
                ctrl.namespaces[1], lbas, blocks, deallocate=deallocate, fua=fua
            )
            assert done.errors == {3: Status(0x281)}
            each = [blocks] * 4 if isinstance(blocks, int) else blocks
            assert [
                (sqe.opc, sqe.nsid, sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.prp1, sqe.prp2)
                for sqe in seen
            ] == [
                (NvmOpcode.WRITE_ZEROES, 1, lba, 0, flags | count - 1, 0, 0)
                for lba, count in zip(lbas, each, strict=True)
            ]
            seen.clear()
        with pytest.raises(ValueError, match="one command carries up to 65536 blocks here"):
            qp.write_zeroes_many(ctrl.namespaces[1], [], 65537)


@pytest.mark.parametrize("way", ["write_zeroes_many", "deallocate_many"])
@pytest.mark.parametrize("depth", [1, 5])
def test_what_is_left(storage: Controller, way: str, depth: int) -> None:
    """Of blocks that are written: those that were named are zero, the others as they were."""
    ns = storage.namespaces[1]
    whole = os.urandom(4 << 20)
    ns.write(0, whole)
    random = np.random.default_rng(7)
    lbas = np.sort(random.choice(4000, 700, replace=False)) * 2
    blocks = random.integers(1, 3, 700)
    with storage.queue_pair(depth) as qp:
        done = getattr(qp, way)(ns, lbas, blocks).check()
        assert len(done.status) == len(done.latency_ns) == 700
        assert (done.latency_ns > 0).all()
    expected = bytearray(whole)
    for lba, count in zip(lbas.tolist(), blocks.tolist(), strict=True):
        expected[lba * SIZE : (lba + count) * SIZE] = bytes(count * SIZE)
    assert ns.read(0, (4 << 20) // SIZE) == expected


def test_ranges_of_a_command_share_its_outcome(soft: SoftController, ctrl: Controller) -> None:
    seen: list[SQE] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe)
        return Status.of(GenericStatus.LBA_OUT_OF_RANGE) if len(seen) == 2 else OK

    soft.io = look
    with ctrl.queue_pair(1) as qp:
        done = qp.deallocate_many(ctrl.namespaces[1], np.arange(600), 1)
    assert [sqe.cdw10 for sqe in seen] == [255, 255, 600 - 512 - 1]
    assert {sqe.cdw11 for sqe in seen} == {int(DatasetManagementCdw11.build(ad=1))}
    assert not any(sqe.cdw12 for sqe in seen)
    assert list(done.errors) == list(range(256, 512))
    assert done.failures == 256


@pytest.mark.parametrize("ranges", [1, 3, 256])
def test_the_lists_of_ranges(ctrl: Controller, ranges: int) -> None:
    where = LbaVector(np.arange(7) + (1 << 40), [1, 2, 3, 4, 5, 6, 0xFFFFFFFF])
    memory, words = dataset_ranges(where, ranges, ctrl.alloc)
    found = []
    for number, word in enumerate(words.tolist()):
        assert word >> 32 == 4
        page = bytes(memory[number * 4096 : (number + 1) * 4096])
        for entry in range((word & 0xFFFFFFFF) + 1):
            part = page[entry * 16 : entry * 16 + 16]
            assert part[:4] == bytes(4)
            found.append((int.from_bytes(part[8:], "little"), int.from_bytes(part[4:8], "little")))
    assert found == list(zip(where.lbas.tolist(), where.each.tolist(), strict=True))


@pytest.mark.parametrize("way", ["write_zeroes_many", "deallocate_many"])
def test_another_format(soft: SoftController, ctrl: Controller, way: str) -> None:
    ns = ctrl.namespaces[1]
    soft.admin = reformat(soft, ds=12)
    seen = recorded(soft)
    with ctrl.queue_pair(2) as qp:
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        with pytest.raises(nvme.NamespaceChangedError, match="its block size changed"):
            getattr(qp, way)(ns, [0, 1], [1, 2])
    assert not seen


# --- data in parts ----------------------------------------------------------------------------


def pieces(buffer: DmaBuffer, *cuts: tuple[int, int]) -> list[DmaBuffer]:
    return [buffer[start:end] for start, end in cuts]


PARTS = {
    "pages": [(8192, 12288), (0, 4096), (20480, 28672)],
    "begins within a page": [(11776, 12288), (0, 4096), (20480, 24064)],
    "neighbours": [(512, 1024), (1024, 2048), (2048, 8704)],
    "one": [(512, 8704)],
    "an empty one": [(8192, 12288), (100, 100), (4096, 8192)],
}
ODD_PARTS = {
    "ends within a page": [(0, 512), (4096, 8192), (20480, 24064)],
    "many": [(at, at + 512) for at in range(0, 28672, 1024)],
    "not of blocks": [(4, 104), (4096, 4508), (12288, 15872)],
}


@pytest.mark.parametrize("sgl", [True, False])
@pytest.mark.parametrize("what", [*PARTS, *ODD_PARTS])
def test_parts_of_one_io(what: str, sgl: bool) -> None:
    cuts = (PARTS | ODD_PARTS)[what]
    with nvme.open("soft:?size=1M&logical_block_size=512") as ctrl:
        ns, memory = ctrl.namespaces[1], ctrl.alloc(32768)
        with ctrl.queue_pair(3, sgl=None if sgl else False) as qp:
            has_sgls = bool(qp._ring.pointer.use_sgl)
            parts = pieces(memory, *cuts)
            length = sum(part.nbytes for part in parts)
            data = os.urandom(length)
            ns.write(3, data)
            if what in ODD_PARTS and not has_sgls:
                with pytest.raises(ValueError, match="do not meet at the ends of pages of 4096"):
                    qp.submit_read(ns, 3, length // SIZE, parts)
                assert qp.outstanding == 0
                return
            for fua in (False, True):
                memory[:] = 0
                cid = qp.submit_read(ns, 3, length // SIZE, tuple(parts), fua=fua)
                (done,) = qp.drain()
                assert (done.cid, done.status) == (cid, Status(0))
                assert b"".join(bytes(part) for part in parts) == data
                assert sum(map(int, memory)) == sum(data), "and nothing else"
            qp.submit_compare(ns, 3, length // SIZE, parts)
            qp.submit_write(ns, 100, length // SIZE, parts)
            assert all(done.status.ok for done in qp.drain())
            assert ns.read(100, length // SIZE) == data


def test_parts_that_are_refused(soft: SoftController, ctrl: Controller) -> None:
    seen = recorded(soft)
    ns, memory = ctrl.namespaces[1], ctrl.alloc(16384)
    with ctrl.queue_pair(2) as qp:
        with pytest.raises(ValueError, match="2 blocks of 512 bytes need a buffer of 1024 bytes"):
            qp.submit_read(ns, 0, 2, [memory[:512]])
        with pytest.raises(ValueError, match="2 blocks of 512 bytes need a buffer of 1024 bytes"):
            qp.submit_read(ns, 0, 2, [])
        with pytest.raises(nvme.DmaError, match="buffer 1 does not begin and end at a multiple"):
            qp.submit_read(ns, 0, 2, [memory[:512], memory[4098:4610]])
        with pytest.raises(ValueError, match="does not reach this buffer"):
            qp.submit_read(ns, 0, 2, [memory[:512], np.zeros(512, np.uint8)])
        with pytest.raises(ValueError, match="not all in namespace 1"):
            qp.submit_read(ns, BLOCKS, 2, [memory[:512], memory[512:1024]])
        with pytest.raises(ValueError, match="several buffers are for I/O without metadata"):
            qp.submit_write(ns, 0, 2, [memory[:512], memory[512:1024]], dsm=1)
        assert qp.outstanding == 0
    assert not seen


def test_parts_stay_until_the_outcome(soft: SoftController, ctrl: Controller) -> None:
    soft.io = lambda _: None
    ns, one, two = ctrl.namespaces[1], ctrl.alloc(4096), ctrl.alloc(4096)
    seen = [weakref.ref(one), weakref.ref(two)]
    with ctrl.queue_pair(2) as qp:
        qp.submit_read(ns, 0, 16, [one, two])
        del one, two
        qp.poll()
        gc.collect()
        assert all(ref() is not None for ref in seen)
        soft.io = lambda _: OK
        ctrl.reset()
        assert len(qp.drain()) == 1
        gc.collect()
        assert [ref() for ref in seen] == [None, None]


def test_metadata_has_one_buffer(soft: SoftController, ctrl: Controller) -> None:
    soft.lbaf = LbaFormat.build(ds=9, ms=8)
    ctrl.reset()
    with ctrl.queue_pair(2) as qp:
        ns: Namespace = ctrl.namespaces[1]
        with pytest.raises(ValueError, match="several buffers are for I/O without metadata"):
            qp.submit_read(ns, 0, 2, [ctrl.alloc(512), ctrl.alloc(512)])


def test_parts_go_the_way_of_their_format(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another format between the checks and the submission: nothing is sent."""
    soft.admin = reformat(soft, ds=12)
    seen = recorded(soft)
    parts_of = QueuePair._parts_of
    formats: list[object] = []

    def late(self: QueuePair, *args: Any) -> list[tuple[int, int]]:
        if not formats:
            formats.append(ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1))
        return parts_of(self, *args)

    monkeypatch.setattr(QueuePair, "_parts_of", late)
    with ctrl.queue_pair(2) as qp:
        buffers = [ctrl.alloc(4096), ctrl.alloc(4096)]
        with pytest.raises(nvme.NamespaceChangedError, match="its block size changed"):
            qp.submit_write(ctrl.namespaces[1], 0, 16, buffers)
    assert formats
    assert not seen
