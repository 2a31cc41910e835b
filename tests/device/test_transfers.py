"""Reads and writes of every size, place and kind of memory, against a model of the disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload import KINDS, Memory, Model, pattern

from pynvme_user import Controller, Namespace, QueuePair

AREA = 8 << 20

fractions = st.floats(0, 1, exclude_max=True)
#: Small extents are likelier: they have more ways to go wrong in the same time.
sizes = st.one_of(fractions.map(lambda x: x * 0.01), fractions.map(lambda x: x * 0.2), fractions)


@pytest.fixture(scope="module")
def model(ns: Namespace) -> Model:
    return Model(ns, AREA)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("write", "write", "write_from", "read", "read_into", "zeroes")),
            fractions,
            sizes,
            st.sampled_from(KINDS),
            st.integers(0, 1023),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
    seed=st.integers(0, 1 << 32),
)
def test_read_after_write(
    controller: Controller,
    model: Model,
    steps: list[tuple[str, float, float, str, int, bool]],
    seed: int,
) -> None:
    ns = model.ns
    for number, (what, at, size, kind, offset, fua) in enumerate(steps):
        lba, blocks = model.extent(at, size)
        want = model.part(lba, blocks)
        if what == "zeroes":
            ns.write_zeroes(lba, blocks, deallocate=fua and bool(ns.identify.dlfeat.wzds))
            want[:] = 0
            continue
        if what == "read":
            data = ns.read(lba, blocks, fua=fua)
            assert type(data) is bytearray
            assert data == want.tobytes()
            continue
        memory = Memory(controller, kind, len(want), offset)
        if what == "read_into":
            ns.read_into(lba, memory.user, fua=fua)
            assert np.array_equal(memory.bytes, want)
        else:
            memory.bytes[:] = want[:] = pattern(seed + number, len(want))
            (ns.write if what == "write" else ns.write_from)(lba, memory.user, fua=fua)
            assert np.array_equal(memory.bytes, want)
        memory.check()
    model.check()


@pytest.mark.parametrize("kind", ["bytes", "memoryview of bytes", "read-only array", *KINDS])
def test_every_kind_of_memory(controller: Controller, ns: Namespace, kind: str) -> None:
    data = pattern(7, 3 * 4096)
    match kind:
        case "bytes":
            source = data.tobytes()
        case "memoryview of bytes":
            source = memoryview(data.tobytes())
        case "read-only array":
            data.flags.writeable = False
            source = data
        case _:
            memory = Memory(controller, kind, len(data), 3)
            memory.bytes[:] = data
            source = memory.user
    ns.write(0, source)
    assert ns.read(0, len(data) >> ns.block_shift) == data.tobytes()
    if kind in KINDS:
        memory.bytes[:] = 0
        ns.read_into(0, memory.user)
        memory.check()
        assert np.array_equal(memory.bytes, data)


def around_the_limits(ctrl: Controller, ns: Namespace) -> Iterator[int]:
    """Lengths around MDTS, around multiples of it and around the bounce buffer's 4 MiB."""
    block = ns.block_size
    for limit in (ctrl.max_transfer, 2 * ctrl.max_transfer, 3 * ctrl.max_transfer, 4 << 20):
        yield from (limit - block, limit, limit + block)
    yield 64 * ctrl.max_transfer + 5 * block


@pytest.mark.parametrize("kind", ["odd array", "dma slice"])
def test_lengths_around_what_one_command_carries(
    controller: Controller, ns: Namespace, kind: str
) -> None:
    for seed, length in enumerate(around_the_limits(controller, ns)):
        blocks = min(length >> ns.block_shift, ns.block_count - 3)
        memory = Memory(controller, kind, blocks << ns.block_shift, 5)
        guard = [pattern(99, ns.block_size).tobytes()] * 2
        ns.write(2, guard[0])
        ns.write(3 + blocks - 1, guard[1])
        memory.bytes[:] = want = pattern(seed, len(memory.bytes))
        if blocks + 4 <= ns.block_count:
            ns.write(3 + blocks, guard[1])
        ns.write(3, memory.user)
        memory.bytes[:] = 0
        ns.read_into(3, memory.user)
        memory.check()
        assert np.array_equal(memory.bytes, want)
        assert ns.read(2, 1) == guard[0]
        if blocks + 4 <= ns.block_count:
            assert ns.read(3 + blocks, 1) == guard[1]


def test_first_and_last_block(ns: Namespace) -> None:
    data = pattern(3, 2 * ns.block_size).tobytes()
    first, last = data[: ns.block_size], data[ns.block_size :]
    ns.write(0, first)
    ns.write(ns.block_count - 1, last)
    assert ns.read(0, 1) == first
    assert ns.read(ns.block_count - 1, 1) == last
    ns.write(ns.block_count - 2, data)
    assert ns.read(ns.block_count - 2, 2) == data


# --- data pointers on the device itself ---------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["prp", "sgl"])
def pair(request: pytest.FixtureRequest, controller: Controller) -> Iterator[QueuePair]:
    if request.param and not controller.identify.sgls.sgls:
        with pytest.raises(ValueError, match="has no SGLs"):
            controller.queue_pair(4, sgl=True)
        pytest.skip("the controller has no SGLs (Identify Controller, SGLS)")
    with controller.queue_pair(min(7, controller.cap.mqes), sgl=request.param) as qp:
        yield qp


def one(qp: QueuePair) -> None:
    (done,) = qp.drain()
    assert done.status.ok, str(done.status)


@given(offset=st.integers(0, 2047), size=sizes, at=fractions, seed=st.integers(0, 1 << 32))
def test_one_command_moves_exactly_its_buffer(
    pair: QueuePair, model: Model, offset: int, size: float, at: float, seed: int
) -> None:
    ns, most = model.ns, pair.controller.max_transfer
    lba, blocks = model.extent(at, size)
    blocks = min(blocks, most >> ns.block_shift)
    want = model.part(lba, blocks)
    memory = Memory(pair.controller, "dma slice", len(want), offset)
    pair.submit_read(ns, lba, blocks, memory.user)
    one(pair)
    memory.check()
    assert np.array_equal(memory.bytes, want)
    memory.bytes[:] = want[:] = pattern(seed, len(want))
    pair.submit_write(ns, lba, blocks, memory.user, fua=bool(seed & 1))
    one(pair)
    pair.submit_compare(ns, lba, blocks, memory.user)
    one(pair)
    model.check()


def test_the_largest_command_at_every_page_offset(pair: QueuePair, ns: Namespace) -> None:
    most = pair.controller.max_transfer
    blocks = most >> ns.block_shift
    for step, offset in enumerate((0, 4, 512, 2048, 4092)):
        whole = pair.controller.alloc(most + 8192)
        whole.fill(0xC5)
        part = whole[4096 + offset :][:most]
        part[:] = pattern(step, most)
        pair.submit_write(ns, 1, blocks, part)
        one(pair)
        part[:] = 0
        pair.submit_read(ns, 1, blocks, part)
        one(pair)
        assert np.array_equal(part, pattern(step, most))
        assert (whole[: 4096 + offset] == 0xC5).all()
        assert (whole[4096 + offset + most :] == 0xC5).all()
