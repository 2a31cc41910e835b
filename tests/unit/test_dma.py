"""The DMA allocator and its buffers, on ordinary memory."""

from __future__ import annotations

import gc
import itertools
import mmap
import pickle
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.access.base import Access, DmaRegion, Doorbells, RegionIndex
from pynvme_user.dma import PAGE, DmaBuffer, DmaPool, address_of
from pynvme_user.errors import ClosedError, DeviceAccessError, DmaError
from pynvme_user.host.numa import Placement

REGION = 2 << 20


class Memory(Access):
    """An access to no device: anonymous memory, of which it keeps account."""

    name = "memory"

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self.regions: list[DmaRegion] = []
        self.released: list[DmaRegion] = []

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        if len(self.regions) == self.most:
            raise DmaError("no memory left")
        memory = mmap.mmap(-1, length)
        memory[:] = b"\xee" * length  # so that what is zeroed is seen to be
        address = address_of(np.frombuffer(memory, np.uint8))
        iova = 0x1_0000_0000 * (1 + len(self.regions) + len(self.released))
        region = DmaRegion(address, length, iova, memory)
        self.regions.append(region)
        return region

    def release_dma(self, region: DmaRegion) -> None:
        self.regions.remove(region)
        self.released.append(region)

    def doorbells(self, offset: int, length: int) -> Doorbells:
        return Doorbells()

    def reset(self) -> None:
        return

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        self.regions.clear()


@pytest.fixture
def access() -> Memory:
    return Memory()


@pytest.fixture
def pool(access: Memory) -> Iterator[DmaPool]:
    with DmaPool(access) as pool:
        yield pool


def free(pool: DmaPool) -> int:
    return sum(length for extents in pool._regions for _, length in extents.free)


def inside(buffer: DmaBuffer, access: Memory) -> bool:
    """Whether all of the buffer lies in one region, at the same place here and there."""
    for region in access.regions:
        offset = address_of(buffer) - region.address
        if offset >= 0 and offset + buffer.nbytes <= region.length:
            return buffer.iova == region.iova + offset
    return False


# --- the allocator ------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("alloc"), st.integers(1, REGION + REGION // 2)),
            st.tuples(st.just("alloc"), st.integers(1, 20_000)),
            st.tuples(st.just("free"), st.integers(0, 1 << 16)),
        ),
        max_size=80,
    )
)
def test_any_history(steps: list[tuple[str, int]]) -> None:
    """No two buffers share a byte; each is mapped whole; all comes back, in one piece."""
    access = Memory()
    pool = DmaPool(access)
    kept: list[DmaBuffer] = []
    for what, value in steps:
        if what == "alloc":
            buffer = pool.alloc(value, zero=value < 50_000)
            assert buffer.nbytes == len(buffer) == value
            assert buffer.iova % PAGE == address_of(buffer) % PAGE == 0
            assert inside(buffer, access)
            assert value >= 50_000 or not buffer.any()
            kept.append(buffer)
            del buffer
        elif kept:
            kept.pop(value % len(kept))
        for place in (lambda b: b.iova, address_of):
            spans = sorted((place(b), place(b) + b.nbytes) for b in kept)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        used = sum(-(-b.nbytes // PAGE) * PAGE for b in kept)
        assert free(pool) + used == sum(region.length for region in access.regions)
    kept.clear()
    assert all(extents.unused for extents in pool._regions)
    assert len(access.regions) <= 1


def test_freed_memory_is_used_again(pool: DmaPool, access: Memory) -> None:
    iovas = {pool.alloc(100_000).iova for _ in range(1000)}
    assert len(iovas) == 1
    assert len(access.regions) == 1


def test_a_hole_is_filled_and_joined(pool: DmaPool) -> None:
    buffers = [pool.alloc(PAGE) for _ in range(6)]
    places = [buffer.iova for buffer in buffers]
    for n in (1, 3, 2):  # before, after, then the one between
        buffers[n] = None  # type: ignore[call-overload]
    assert pool.alloc(3 * PAGE).iova == places[1]
    whole = pool.alloc(3 * PAGE)
    assert whole.iova == places[1]
    assert pool.alloc(1).iova == places[5] + PAGE


def test_a_region_goes_back_when_it_is_unused(pool: DmaPool, access: Memory) -> None:
    first = pool.alloc(REGION)
    second = pool.alloc(REGION)
    third = pool.alloc(5 * REGION)
    assert [region.length for region in access.regions] == [REGION, REGION, 5 * REGION]
    del second
    assert [region.length for region in access.released] == [REGION]
    del third, first
    assert len(access.regions) == 1  # one is kept: the next allocation would only map it again
    assert not access.regions[0].length % PAGE


def test_no_memory(access: Memory) -> None:
    access.most = 1
    with DmaPool(access) as pool:
        kept = pool.alloc(REGION - PAGE)
        with pytest.raises(DmaError, match="no memory left"):
            pool.alloc(PAGE + 1)
        assert pool.alloc(PAGE).nbytes == PAGE
        assert kept.nbytes


def test_a_region_shorter_than_asked_for() -> None:
    class Short(Memory):
        def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
            return super().allocate_dma(PAGE)

    pool = DmaPool(Short())
    with pytest.raises(DmaError, match="less memory than"):
        pool.alloc(2 * PAGE)


@pytest.mark.parametrize("length", [0, -1])
def test_no_length(pool: DmaPool, length: int) -> None:
    with pytest.raises(ValueError, match="1 byte or more"):
        pool.alloc(length)


def test_from_many_threads(pool: DmaPool) -> None:
    wrong: list[str] = []

    def work(mark: int) -> None:
        for n in range(300):
            buffer = pool.alloc(1 + n * 37 % 9000)
            buffer[:] = mark
            if not (buffer == mark).all():
                wrong.append("shared")

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(extents.unused for extents in pool._regions)


# --- buffers ------------------------------------------------------------------------------------


def test_slices_have_their_own_address(pool: DmaPool) -> None:
    buffer = pool.alloc(10 * PAGE)
    at = buffer.iova
    assert buffer[5:].iova == at + 5
    assert buffer[PAGE : 2 * PAGE][8:].iova == at + PAGE + 8
    assert buffer[-1:].iova == at + 10 * PAGE - 1
    assert buffer.reshape(10, PAGE)[3].iova == at + 3 * PAGE
    assert buffer.view(np.uint32)[2:].iova == at + 8
    assert buffer[3:3].nbytes == 0
    assert pool.iova(buffer[7:]) == at + 7


@pytest.mark.parametrize(
    "derive",
    [
        lambda b: b.copy(),
        lambda b: b[::2],
        lambda b: b[::-1],
        lambda b: b[[1, 2, 3]],
        lambda b: b.reshape(2, -1).T,
        lambda b: b.astype(np.uint16),
        lambda b: pickle.loads(pickle.dumps(b)),
    ],
    ids=["copy", "stride", "reversed", "picked", "transposed", "converted", "pickled"],
)
def test_copies_and_gaps_have_none(pool: DmaPool, derive: Any) -> None:
    other = derive(pool.alloc(PAGE))
    if isinstance(other, DmaBuffer):
        with pytest.raises(DmaError, match="is a copy or has gaps"):
            _ = other.iova


def test_results_are_ordinary_arrays(pool: DmaPool) -> None:
    buffer = pool.alloc(PAGE)
    buffer[:] = 3
    for result in (buffer + 1, buffer == 3, np.minimum(buffer, 1), -buffer):
        assert type(result) is np.ndarray
    assert int(buffer.sum()) == 3 * PAGE
    assert pool.iova(buffer + 1) is None


def test_plain_views_are_found_again(pool: DmaPool) -> None:
    """A numpy or bytes-like view of DMA memory is DMA memory, known by its address."""
    buffer = pool.alloc(PAGE)
    assert type(buffer.array) is np.ndarray
    assert pool.iova(buffer.array) == buffer.iova
    assert pool.iova(np.frombuffer(memoryview(buffer)[100:], np.uint8)) == buffer.iova + 100
    assert pool.iova(np.zeros(16, np.uint8)) is None
    buffer.array[5] = 9
    assert buffer[5] == 9
    assert bytes(buffer[4:7]) == b"\0\x09\0"


def test_beyond_the_region(pool: DmaPool, access: Memory) -> None:
    """An address is given only for memory that is mapped for its whole length."""
    pool.alloc(PAGE)
    (region,) = access.regions
    memory = np.frombuffer(region.owner, np.uint8)  # type: ignore[call-overload]
    assert pool.iova(memory[-16:]) == region.iova + region.length - 16

    class Longer:
        __array_interface__ = {
            "version": 3,
            "shape": (17,),
            "typestr": "|u1",
            "data": (region.address + region.length - 16, False),
        }

    with pytest.raises(DmaError, match="reaches beyond"):
        pool.iova(np.asarray(Longer()))


@pytest.mark.parametrize(
    "look",
    [
        lambda b: b,
        lambda b: b[100:],
        lambda b: b.array,
        lambda b: b.array[::7],
        memoryview,
        lambda b: memoryview(b)[5:].cast("B"),
        lambda b: np.frombuffer(memoryview(b), np.uint64),
        lambda b: b.view(np.uint16).reshape(2, -1).T,
        lambda b: b.ctypes,
    ],
)
def test_whoever_looks_keeps_the_memory(pool: DmaPool, look: Any) -> None:
    buffer = pool.alloc(PAGE)
    iova = buffer.iova
    view = look(buffer)
    del buffer
    gc.collect()
    assert pool.alloc(PAGE).iova != iova
    del view
    gc.collect()
    assert pool.alloc(PAGE).iova == iova


def test_zeroed_unless_one_asks_not_to(pool: DmaPool) -> None:
    for _ in range(3):
        buffer = pool.alloc(5000)
        assert not buffer.any()
        buffer.fill(0xAA)
        del buffer
    assert (pool.alloc(5000, zero=False) == 0xAA).all()


# --- the end ------------------------------------------------------------------------------------


def test_after_close(access: Memory) -> None:
    pool = DmaPool(access)
    buffer = pool.alloc(PAGE)
    buffer[:] = 5
    view = memoryview(buffer)
    pool.close()
    pool.close()
    with pytest.raises(ClosedError, match="the controller is closed"):
        pool.alloc(1)
    access.close()
    gc.collect()
    assert (buffer == 5).all()
    assert pool.iova(np.zeros(4, np.uint8)) is None
    del buffer
    gc.collect()
    assert view[17] == 5
    del view
    gc.collect()
    assert access.released == []  # the access took all back by itself when it was closed


# --- the seam's defaults ------------------------------------------------------------------------


def test_a_bounce_buffer_that_comes_back_after_the_end(pool: DmaPool) -> None:
    """It would keep its region as long as somebody has the pool."""
    bounce = pool.take_bounce(512)
    pool.close()
    alive = weakref.ref(bounce)
    pool.give_bounce(bounce)
    del bounce
    assert alive() is None


def test_what_an_access_need_not_have(access: Memory) -> None:
    with pytest.raises(DmaError, match="use a buffer from alloc"):
        access.map_dma(0, PAGE)
    with pytest.raises(DeviceAccessError, match="no region CONFIG"):
        access.region(RegionIndex.CONFIG)
    with pytest.raises(DeviceAccessError, match="use polling"):
        access.arm_interrupts(1)


def test_a_span_is_known_only_while_nothing_is_against_a_transfer(pool: DmaPool) -> None:
    buffer = pool.alloc(8192)
    assert buffer.mapping == (None, 0, 0)
    assert pool.iova(buffer) == buffer.iova
    assert buffer.mapping == (pool, buffer.iova, 8192)
    buffer.flags.writeable = False
    assert buffer.mapping == (None, 0, 0)
    assert pool.iova(buffer) is not None
    assert buffer.mapping == (None, 0, 0)
    buffer.setflags(write=True)
    assert pool.iova(buffer[:4096]) == buffer.iova
    for part in (buffer[2:], buffer.copy()):
        with suppress(DmaError):
            pool.iova(part)
        assert part.mapping == (None, 0, 0)
