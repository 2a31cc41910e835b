"""Vectors of unlike lengths and without data, and I/Os whose data lie in several buffers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pynvme_user import Controller, Namespace, QueuePair
from pynvme_user.spec.status import Status

#: Blocks of the device that these tests write to.
BLOCKS = 1024


@pytest.fixture(params=[2, 16])
def qp(controller: Controller, request: pytest.FixtureRequest) -> Iterator[QueuePair]:
    with controller.queue_pair(request.param) as pair:
        yield pair


def content(seed: int, length: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, length, np.uint8).tobytes()


def places(seed: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """LBAs in no order with blocks that do not overlap, of which some are between them."""
    random = np.random.default_rng(seed)
    blocks = random.integers(1, most + 1, BLOCKS // (most + 1))
    lbas = np.arange(len(blocks)) * (most + 1)
    order = random.permutation(len(blocks))
    return lbas[order], blocks[order]


def test_each_length_in_its_place(controller: Controller, ns: Namespace, qp: QueuePair) -> None:
    size = ns.block_size
    lbas, blocks = places(1, 20)
    whole = bytearray(content(2, BLOCKS * size))
    ns.write(0, whole)
    buffer = controller.alloc(int(blocks.sum()) * size)
    buffer[:] = np.frombuffer(content(3, len(buffer)), np.uint8)
    data = bytes(buffer)
    assert not qp.write_many(ns, lbas, blocks, buffer, fua=True).check().errors
    at = 0
    for lba, count in zip(lbas.tolist(), blocks.tolist(), strict=True):
        whole[lba * size : (lba + count) * size] = data[at : at + count * size]
        at += count * size
    assert ns.read(0, BLOCKS) == whole
    buffer[:] = 0
    qp.read_many(ns, lbas, blocks, buffer).check()
    assert bytes(buffer) == data


@pytest.mark.parametrize("deallocate", [False, True])
def test_zeroes(ns: Namespace, qp: QueuePair, deallocate: bool) -> None:
    size = ns.block_size
    lbas, blocks = places(4, 7)
    whole = bytearray(content(5, BLOCKS * size))
    ns.write(0, whole)
    qp.write_zeroes_many(ns, lbas, blocks, deallocate=deallocate).check()
    for lba, count in zip(lbas.tolist(), blocks.tolist(), strict=True):
        whole[lba * size : (lba + count) * size] = bytes(count * size)
    assert ns.read(0, BLOCKS) == whole


def test_deallocated(ns: Namespace, qp: QueuePair) -> None:
    """What is between the ranges stays; what they had may be anything."""
    size = ns.block_size
    lbas, blocks = places(6, 2)
    whole = content(7, BLOCKS * size)
    ns.write(0, whole)
    done = qp.deallocate_many(ns, lbas, blocks).check()
    assert len(done.status) == len(lbas) > 256
    named = np.zeros(BLOCKS, bool)
    for lba, count in zip(lbas.tolist(), blocks.tolist(), strict=True):
        named[lba : lba + count] = True
    left = bytes(ns.read(0, BLOCKS))
    for lba in np.flatnonzero(~named).tolist():
        assert left[lba * size :][:size] == whole[lba * size :][:size]


@pytest.mark.parametrize("sgl", [False, True])
def test_several_buffers(controller: Controller, ns: Namespace, sgl: bool) -> None:
    """Pages with any queue pair; what begins or ends within one with SGLs."""
    size = ns.block_size
    has_sgls = bool(controller.identify.sgls.sgls)
    if sgl and not has_sgls:
        with pytest.raises(ValueError, match="the controller has no SGLs"):
            controller.queue_pair(1, sgl=True)
        return
    memory = controller.alloc(1 << 16)
    pages = [memory[16384:20480], memory[:4096], memory[32768:40960]]
    odd = [memory[16388:20480], memory[100:104], memory[32768:40960]]
    with controller.queue_pair(2, sgl=sgl) as qp:
        for parts in (pages, odd):
            length = sum(part.nbytes for part in parts)
            data = content(8, length)
            if parts is odd and not sgl:
                with pytest.raises(ValueError, match="do not meet at the ends of pages"):
                    qp.submit_read(ns, 0, length // size, parts)
                continue
            ns.write(7, data)
            qp.submit_read(ns, 7, length // size, parts)
            assert [one.status for one in qp.drain()] == [Status(0)]
            assert b"".join(map(bytes, parts)) == data
            qp.submit_write(ns, 100, length // size, parts)
            qp.submit_compare(ns, 100, length // size, parts)
            assert all(one.status.ok for one in qp.drain())
            assert ns.read(100, length // size) == data
