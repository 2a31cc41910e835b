"""The IOVA allocator: what it gives is free, aligned, translated, and comes back whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.access.iova import MSI_WINDOW, IovaSpace
from pynvme_user.errors import DmaError

#: What Linux reports for an emulated Intel IOMMU, and for one that leaves the MSI window to us.
RANGES = [(0, 0xFEDF_FFFF), (0xFEF0_0000, (1 << 48) - 1)]
WHOLE = [(0, (1 << 39) - 1)]
PAGE = 4096

lengths = st.integers(1, 1 << 12).map(lambda pages: pages * PAGE)
alignments = st.sampled_from([PAGE, 2 << 20, 1 << 30])
#: Allocate (length, alignment), or release the n-th of what is held.
steps = st.lists(st.tuples(lengths, alignments) | st.integers(0, 100), max_size=60)


@given(steps, st.sampled_from([RANGES, WHOLE]))
def test_allocations_are_disjoint_aligned_and_inside(steps, ranges):
    space = IovaSpace(ranges)
    total = space.free
    held: list[tuple[int, int]] = []
    for step in steps:
        if isinstance(step, int):
            if held:
                space.release(*held.pop(step % len(held)))
            continue
        length, alignment = step
        iova = space.allocate(length, alignment)
        assert iova % alignment == 0
        assert any(first <= iova and iova + length - 1 <= last for first, last in ranges)
        assert iova + length <= MSI_WINDOW[0] or iova > MSI_WINDOW[1]
        assert iova != 0
        for other, size in held:
            assert iova + length <= other or other + size <= iova
        held.append((iova, length))
    assert space.free == total - sum(length for _, length in held)
    for allocation in held:
        space.release(*allocation)
    assert space.free == total


@given(steps)
def test_released_ranges_join_again(steps):
    space = IovaSpace([(0x10_0000, 0x4FF_FFFF)], reserved=())
    held = []
    for step in steps:
        if isinstance(step, int):
            if held:
                space.release(*held.pop(step % len(held)))
        else:
            try:
                iova = space.allocate(*step)
            except DmaError:
                continue
            held.append((iova, step[0]))
    for allocation in held:
        space.release(*allocation)
    # Only if nothing stayed apart does the whole space fit in one piece again.
    assert space.allocate(0x4F0_0000, PAGE) == 0x10_0000


def test_exhaustion_is_an_error_and_takes_nothing():
    space = IovaSpace([(0, 0xFFFF)])
    assert space.free == 0xF000
    assert space.allocate(0xE000, PAGE) == 0x1000
    with pytest.raises(DmaError, match="no 8192 contiguous bytes are free"):
        space.allocate(0x2000, PAGE)
    assert space.allocate(0x1000, PAGE) == 0xF000
    assert space.free == 0


def test_the_msi_window_splits_a_range_that_spans_it():
    space = IovaSpace([(0, (1 << 32) - 1)])
    below = MSI_WINDOW[0] - PAGE
    assert space.allocate(below, PAGE) == PAGE
    assert space.allocate(PAGE, PAGE) == MSI_WINDOW[1] + 1


@pytest.mark.parametrize("again", [(0x1000, 0x1000), (0x1000, 0x3000), (0x2000, 0x1000)])
def test_release_of_what_is_free_is_refused(again):
    space = IovaSpace([(0, 0xFFFF)])
    iova = space.allocate(0x2000, PAGE)
    space.release(iova, 0x2000)
    with pytest.raises(ValueError, match="overlaps what is free"):
        space.release(*again)
