"""Queue pairs: depths, numbers, submit and poll, vectors."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload import REFUSALS, Model, pattern

from pynvme_user import (
    ClosedError,
    Controller,
    DmaBuffer,
    Namespace,
    NvmeError,
    QueueFullError,
    QueuePair,
)
from pynvme_user.dma import address_of
from pynvme_user.errors import DmaError
from pynvme_user.host.numa import memory_nodes
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import GenericStatus


@pytest.fixture(scope="module")
def model(ns: Namespace) -> Model:
    return Model(ns, 4 << 20)


def most(ctrl: Controller) -> int:
    return min(int(ctrl.cap.mqes), 0xFFFF)


# --- depths and numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 31, 64, "most"])
def test_depths(controller: Controller, model: Model, depth: int | str) -> None:
    """Full, empty and full again, more than once round the ring."""
    depth = most(controller) if depth == "most" else min(int(depth), most(controller))
    ns = model.ns
    buffer = controller.alloc(depth * ns.block_size)
    with controller.queue_pair(depth) as qp:
        assert qp.depth == depth
        for turn in range(3):
            parts = {}
            for n in range(depth):
                part = buffer[n * ns.block_size : (n + 1) * ns.block_size]
                lba = model.first + (n * 7 + turn) % model.blocks
                parts[qp.submit_read(ns, lba, 1, part)] = lba, part
            assert len(parts) == depth
            assert qp.outstanding == depth
            with pytest.raises(QueueFullError):
                qp.submit_read(ns, 0, 1, buffer[: ns.block_size])
            done = qp.drain()
            # A CID is an index with a generation above it, in a power of two above the depth.
            table = 1 << depth.bit_length()
            assert sorted(c.cid % table for c in done) == list(range(depth))
            assert all(c.status.ok and 0 < c.latency_ns < 60e9 for c in done)
            assert all(np.array_equal(part, model.part(lba, 1)) for lba, part in parts.values())
            assert qp.outstanding == 0
            assert qp.poll() == []


def test_illegal_depths(controller: Controller) -> None:
    for depth in (0, -1, most(controller) + 1, 1 << 20):
        with pytest.raises(ValueError, match="depth of a queue pair here is 1 to"):
            controller.queue_pair(depth)


def nodes_of(*buffers: DmaBuffer) -> set[str]:
    """The policies of the mappings that hold buffers."""
    mappings = [line.split()[:2] for line in Path("/proc/self/numa_maps").read_text().splitlines()]
    starts = [int(start, 16) for start, _ in mappings]
    return {mappings[bisect_right(starts, address_of(buffer)) - 1][1] for buffer in buffers}


def test_queues_and_buffers_on_a_node(controller: Controller, model: Model) -> None:
    """On one that every machine has; in guests there are two (guest/test_numa_guest.py)."""
    node = min(memory_nodes())
    free = controller.dma.alloc(1, node=node)  # keeps the region
    with controller.queue_pair(4, node=node) as qp:
        buffer = controller.alloc(8 * model.ns.block_size, node=node)
        if not controller.name.startswith("uio:"):  # whose pages are found in another mapping
            assert nodes_of(free, buffer, qp.queue.sq, qp.queue.cq, qp.queue.prp_lists) == {
                f"bind:{node}"
            }
        with pytest.raises(DmaError, match=f"bind:{node + 1000}: the nodes with memory"):
            controller.alloc(1, node=node + 1000)
        with pytest.raises(DmaError, match="the nodes with memory"):
            controller.queue_pair(4, node=node + 1000)
        done = qp.read_many(model.ns, model.first + np.arange(8), 1, buffer)
        assert done.check().status.size == 8
        assert np.array_equal(buffer, model.part(model.first, 8))
    with controller.queue_pair(4) as qp:  # and none of its memory on that of others
        assert f"bind:{node}" not in nodes_of(qp.queue.sq, qp.queue.cq, qp.queue.prp_lists)


def test_all_queue_pairs_and_one_more(controller: Controller, model: Model) -> None:
    ns = model.ns
    with contextlib.ExitStack() as stack:
        pairs: list[QueuePair] = []
        # The ones of single calls are given up for those that are asked for.
        taken = len(controller._queue_pairs) - len(controller.pool.idle)
        for _ in range(controller.max_queue_pairs - taken):
            pairs.append(stack.enter_context(controller.queue_pair(4)))
        for _ in range(2):
            with pytest.raises(QueueFullError, match="I/O queue pairs, all in use"):
                controller.queue_pair(4)
        assert pairs
        assert len({qp.qid for qp in pairs}) == len(pairs)
        buffers = [controller.alloc(ns.block_size) for _ in pairs]
        for n, qp in enumerate(pairs):
            qp.submit_read(ns, model.first + n, 1, buffers[n])
        for n, qp in reversed(list(enumerate(pairs))):
            (done,) = qp.drain()
            assert done.status.ok
            assert np.array_equal(buffers[n], model.part(model.first + n, 1))
    with controller.queue_pair(4) as qp:
        assert qp.qid >= 1


def test_made_and_closed_many_times(controller: Controller, model: Model) -> None:
    buffer = controller.alloc(model.ns.block_size)
    qids = set()
    for n in range(50):
        with controller.queue_pair(1 + n % min(40, most(controller))) as qp:
            qids.add(qp.qid)
            qp.submit_read(model.ns, model.first, 1, buffer)
            (done,) = qp.wait()
            assert done.status.ok
    assert len(qids) == 1


def test_memory_is_released_beside_queues(controller: Controller, model: Model) -> None:
    """The device forgets the memory that it is told to forget, and no other."""
    ns = model.ns
    buffer = controller.alloc(ns.block_size)
    for size in (3 << 20, 8 << 20, 20 << 20):  # each a mapping of its own, and then none
        with contextlib.ExitStack() as stack:
            large = controller.alloc(size)
            pairs = [stack.enter_context(controller.queue_pair(depth)) for depth in (1, 63)]
            del large
            for qp in pairs:
                qp.submit_read(ns, model.first, 1, buffer)
                assert [done.status.ok for done in qp.drain()] == [True]
        assert controller.identify_page(1) == bytes(controller.identify)


def test_closing_waits_for_what_is_outstanding(controller: Controller, model: Model) -> None:
    ns = model.ns
    want = pattern(77, ns.block_size)
    buffer = controller.alloc(ns.block_size)
    buffer[:] = want
    with controller.queue_pair(4) as qp:
        qp.submit_write(ns, model.first, 1, buffer)
    model.part(model.first, 1)[:] = want
    assert qp.outstanding == 0
    qp.close()
    for call in (qp.poll, qp.ring, lambda: qp.submit_flush(ns)):
        with pytest.raises(ClosedError, match="queue pair is closed"):
            call()
    model.check()


# --- submit and poll ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qp(controller: Controller) -> QueuePair:
    return controller.queue_pair(min(16, most(controller)))


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(("read", "write", "flush", "poll", "wait")), st.integers(0, 255)),
        max_size=60,
    )
)
def test_any_mix(
    controller: Controller, qp: QueuePair, model: Model, actions: list[tuple[str, int]]
) -> None:
    """Each command once, by its CID, with its data; writes and reads of disjoint blocks."""
    ns = model.ns
    half = min(256, model.blocks // 2)
    running: dict[int, tuple[str, int, DmaBuffer | None]] = {}

    def finish(completions: list) -> None:
        for done in completions:
            what, lba, buffer = running.pop(done.cid)
            assert done.status.ok
            if what == "read":
                assert np.array_equal(buffer, model.part(lba, 1))
            elif what == "write":
                model.part(lba, 1)[:] = buffer

    for number, (what, value) in enumerate(actions):
        if what in ("poll", "wait"):
            finish(qp.poll() if what == "poll" else qp.wait())
            continue
        if len(running) == qp.depth:
            with pytest.raises(QueueFullError):
                qp.submit_flush(ns)
            finish(qp.wait())
        buffer = controller.alloc(ns.block_size)
        if what == "read":
            lba = model.first + value % half
            cid = qp.submit_read(ns, lba, 1, buffer)
        elif what == "write":
            # Two writes of one block at a time have no order.
            lba = model.first + half + value % half
            if any(lba == other for _, other, _ in running.values()):
                continue
            buffer[:] = pattern(number, ns.block_size)
            cid = qp.submit_write(ns, lba, 1, buffer, fua=bool(value & 1))
        else:
            lba, cid = -1, qp.submit_flush(ns)
        assert cid not in running
        running[cid] = what, lba, buffer
        del buffer  # from here on the queue pair alone keeps it
    finish(qp.drain())
    assert not running
    model.check()


def test_a_buffer_lives_until_its_command_ended(
    controller: Controller, qp: QueuePair, model: Model
) -> None:
    """`del` of the user's last reference frees nothing that the device may still write to."""
    ns = model.ns
    buffer = controller.alloc(ns.block_size)
    iova = buffer.iova
    qp.submit_read(ns, model.first, 1, buffer)
    del buffer
    others = [controller.alloc(ns.block_size) for _ in range(50)]
    assert iova not in [other.iova for other in others]
    qp.drain()
    del others
    assert controller.alloc(ns.block_size).iova == iova


def test_other_memory_is_refused(controller: Controller, qp: QueuePair, ns: Namespace) -> None:
    own = np.zeros(ns.block_size, np.uint8)
    with pytest.raises(ValueError, match="does not reach this buffer"):
        qp.submit_read(ns, 0, 1, own)
    with pytest.raises(ValueError, match="does not reach this buffer"):
        qp.read_many(ns, [0], 1, own)
    buffer = controller.alloc(2 * ns.block_size)
    with pytest.raises(NvmeError, match="is a copy or has gaps"):
        qp.submit_read(ns, 0, 1, buffer[::2])
    with pytest.raises(ValueError, match=r"does not reach this buffer"):
        qp.submit_write(ns, 0, 2, buffer + 1)
    with pytest.raises(ValueError, match="need a buffer of"):
        qp.submit_read(ns, 0, 1, buffer)
    large = controller.max_transfer + ns.block_size
    with pytest.raises(ValueError, match="one command carries up to"):
        qp.submit_read(ns, 0, large >> ns.block_shift, controller.alloc(large))
    with pytest.raises(ValueError, match="not all in namespace"):
        qp.submit_write(ns, ns.block_count, 1, buffer[: ns.block_size])
    with pytest.raises(ValueError, match="1 to 256 ranges"):
        qp.submit_deallocate(ns, [])
    if ns.block_count > 65536:
        with pytest.raises(ValueError, match="up to 65536 blocks"):
            qp.submit_write_zeroes(ns, 0, 65537)
    with pytest.raises(NvmeError, match="multiple of 4"):
        qp.submit_read(ns, 0, 1, buffer[1 : 1 + ns.block_size])
    assert qp.outstanding == 0
    assert qp.drain() == []


def test_raw_submit(qp: QueuePair, ns: Namespace) -> None:
    good = qp.submit(SQE.build(opc=NvmOpcode.FLUSH, nsid=ns.nsid))
    bad = qp.submit(SQE.build(opc=0xFF, nsid=ns.nsid))
    done = {c.cid: c.status for c in qp.drain()}
    assert done[good].ok
    assert done[bad].code() in REFUSALS[GenericStatus.INVALID_OPCODE]


def test_wait_with_a_timeout(qp: QueuePair) -> None:
    start = time.monotonic()
    assert qp.wait(timeout=60) == []  # nothing is outstanding: there is nothing to wait for
    assert time.monotonic() - start < 30


# --- vectors ------------------------------------------------------------------------------------


@given(
    count=st.integers(0, 200),
    blocks=st.integers(1, 8),
    seed=st.integers(0, 1 << 32),
    kind=st.sampled_from(("list", "uint64", "int32", "strided")),
)
def test_vectors(
    controller: Controller,
    qp: QueuePair,
    model: Model,
    count: int,
    blocks: int,
    seed: int,
    kind: str,
) -> None:
    ns = model.ns
    blocks = min(blocks, controller.max_transfer >> ns.block_shift)
    size = blocks << ns.block_shift
    count = min(count, model.blocks // blocks)
    places = np.random.default_rng(seed).permutation(model.blocks // blocks)[:count] * blocks
    places = places + model.first
    lbas: object = places.astype(np.uint64)
    if kind == "list":
        lbas = places.tolist()
    elif kind == "int32":
        lbas = places.astype(np.int32)
    elif kind == "strided":
        lbas = np.repeat(places, 2)[::2]
    buffer = controller.alloc(max(1, count * size) + 8)[4:-4]
    parts = buffer[: count * size].reshape(count, size)
    parts[:] = pattern(seed, count * size).reshape(count, size)
    result = qp.write_many(ns, lbas, blocks, buffer, fua=bool(seed & 1)).check()
    assert len(result.status) == len(result.latency_ns) == count
    for lba, part in zip(places.tolist(), parts, strict=True):
        model.part(lba, blocks)[:] = part
    buffer.fill(0)
    result = qp.read_many(ns, lbas, blocks, buffer).check()
    assert not result.status.any()
    assert (result.latency_ns > 0).all()
    assert result.failed.tolist() == []
    for lba, part in zip(places.tolist(), parts, strict=True):
        assert np.array_equal(part, model.part(lba, blocks))
    model.check()


def test_empty_vector(controller: Controller, qp: QueuePair, ns: Namespace) -> None:
    for lbas in ([], np.zeros(0, np.uint64), ()):
        result = qp.read_many(ns, lbas, 1, controller.alloc(1)).check()
        assert len(result.status) == 0


def test_recycled_buffer(controller: Controller, qp: QueuePair, model: Model) -> None:
    ns = model.ns
    model.data[:] = 0x5A
    ns.write(model.first, model.data)
    buffer = controller.alloc(qp.depth * ns.block_size)
    lbas = model.first + np.arange(1000) % model.blocks
    assert not qp.read_many(ns, lbas, 1, buffer, recycle=True).status.any()
    assert (buffer == 0x5A).all()


@pytest.mark.parametrize("depth", [1, 2, 5, 32])
def test_a_completion_queue_of_more_entries(
    controller: Controller, model: Model, depth: int
) -> None:
    """Several times round a ring that is longer than the submission queue, by each way there is;
    its head is told of as seldom as that allows, and nothing is lost.
    """
    ns = model.ns
    buffer = controller.alloc(depth * ns.block_size)
    with controller.queue_pair(min(depth, most(controller))) as qp:
        spare = qp.queue.cq_entries - (qp.depth + 1)
        assert spare > 0 or qp.depth == most(controller)
        for turn in range(2 * qp.queue.cq_entries // qp.depth + 2):
            parts = {}
            for n in range(qp.depth):
                part = buffer[n * ns.block_size : (n + 1) * ns.block_size]
                part.fill(0)
                lba = model.first + (turn * 7 + n) % model.blocks
                parts[qp.submit_read(ns, lba, 1, part)] = lba, part
            assert {done.cid for done in qp.drain()} == set(parts)
            assert all(np.array_equal(part, model.part(lba, 1)) for lba, part in parts.values())
        count = min(3 * qp.queue.cq_entries, model.blocks)
        many = controller.alloc(count * ns.block_size)
        qp.read_many(ns, model.first + np.arange(count), 1, many).check()
        assert np.array_equal(many, model.part(model.first, count))
        if not qp.sleeps:
            assert qp.cq_doorbell_writes <= qp._ring.completed // (spare + 1)


def test_vectors_that_are_refused(controller: Controller, qp: QueuePair, ns: Namespace) -> None:
    buffer = controller.alloc(8 * ns.block_size)
    before = qp._ring.completed, qp.doorbell_writes
    last = ns.block_count
    for lbas in ([0, last], [0, -1], [last - 1, 0, last + 7], [2**64 - 1], [2**70], np.int64([-1])):
        with pytest.raises(ValueError, match=r"not all in namespace|whole numbers"):
            qp.read_many(ns, lbas, 1, buffer)
    for lbas in ([0.5], [[0, 1]], ["a"], [None]):
        with pytest.raises(ValueError, match="one-dimensional array of whole numbers"):
            qp.read_many(ns, lbas, 1, buffer)
    with pytest.raises(ValueError, match="need a buffer of"):
        qp.read_many(ns, range(9), 1, buffer)
    with pytest.raises(ValueError, match="not all in namespace"):
        qp.read_many(ns, [0], 0, buffer)
    with pytest.raises(ValueError, match="not all in namespace"):
        qp.read_many(ns, [last - 1], 2, buffer)
    blocks = (controller.max_transfer >> ns.block_shift) + 1
    with pytest.raises(ValueError, match="one command carries up to"):
        qp.read_many(ns, [0], blocks, buffer)
    assert (qp._ring.completed, qp.doorbell_writes) == before


def test_no_vector_beside_other_commands(
    controller: Controller, qp: QueuePair, ns: Namespace
) -> None:
    buffer = controller.alloc(ns.block_size)
    cid = qp.submit_flush(ns)
    with pytest.raises(ValueError, match="poll or drain it first"):
        qp.read_many(ns, [0], 1, buffer)
    assert [done.cid for done in qp.drain()] == [cid]
    qp.read_many(ns, [0], 1, buffer).check()
