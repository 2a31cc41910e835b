"""A namespace as an array: as numpy's, over bytes on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynvme_user as nvme

SHAPE = (50, 7, 3)
OFFSET = 1000


@pytest.fixture(scope="module")
def ns() -> Iterator[nvme.Namespace]:
    with nvme.open("soft:?size=1M&inline=1") as ctrl:
        yield ctrl.namespaces[1]


ROWS = (
    st.integers(-50, 49)
    | st.slices(50)
    | st.lists(st.integers(-50, 49), max_size=9, unique_by=lambda row: row % 50)
    | st.lists(st.booleans(), min_size=50, max_size=50).map(np.array)
    | st.just(Ellipsis)
)
KEYS = (
    ROWS
    | st.tuples(ROWS.filter(lambda key: key is not Ellipsis), st.integers(-7, 6) | st.slices(7))
    | st.tuples(st.just(Ellipsis), st.integers(-3, 2) | st.slices(3))
    | st.just(())
)


@settings(max_examples=200, deadline=None)
@given(key=KEYS, value=st.integers(-(2**31), 2**31 - 1))
def test_every_key_is_numpys(ns: nvme.Namespace, key: Any, value: int) -> None:
    same = np.arange(np.prod(SHAPE), dtype="<i4").reshape(SHAPE)
    array = ns.as_array("<i4", SHAPE, OFFSET)
    array[...] = same
    assert np.array_equal(array[key], same[key])
    array[key] = value
    same[key] = value
    assert np.array_equal(np.asarray(array), same)


def test_neighbours_stay(ns: nvme.Namespace) -> None:
    ns.write(0, b"\xab" * 16384)
    array = ns.as_array(np.float64, (100, 3), OFFSET)
    array[10:20] = 1.5
    array[17, 1] = 2.5
    whole = bytes(ns.read(0, 32))
    start = OFFSET + 10 * 24
    assert set(whole[:start]) | set(whole[start + 240 :]) == {0xAB}
    assert array[17].tolist() == [1.5, 2.5, 1.5]


def test_what_it_says(ns: nvme.Namespace) -> None:
    array = ns.as_array("<u2")
    assert (array.shape, len(array), array.ndim) == ((1 << 19,), 1 << 19, 1)
    assert (array.nbytes, array.size, array.dtype) == (1 << 20, 1 << 19, np.dtype("<u2"))
    assert "(524288,)" in repr(array)
    array.flush()
    assert ns.as_array("u1", 10).shape == (10,)


def test_rows_in_memory(ns: nvme.Namespace) -> None:
    array = ns.as_array("<i8", (1000, 8))
    array[:] = 0
    with array.edit(3, 6) as rows:
        rows += 7
    assert array[2:7].sum(axis=1).tolist() == [0, 56, 56, 56, 0]
    with pytest.raises(TypeError), array.edit(3, 6) as rows:
        rows += "1"
    assert array[4].tolist() == [7] * 8
    out = ns.controller.alloc(64 * 10).view("<i8").reshape(10, 8)
    assert array.read(0, 10, out) is out
    assert out[5].tolist() == [7] * 8


@pytest.mark.parametrize(("rows", "ahead"), [(1, 1), (64, 2), (7, 5), (1000, 1), (5000, 3)])
def test_a_stream(ns: nvme.Namespace, rows: int, ahead: int) -> None:
    array = ns.as_array("<i4", (1000, 5))
    array[:] = np.arange(5000).reshape(1000, 5)
    read = [part.copy() for part in array.stream(rows, ahead=ahead, start=3, stop=999)]
    assert np.array_equal(np.concatenate(read), np.arange(5000).reshape(1000, 5)[3:999])
    for part in array.stream(rows, ahead=ahead):
        assert part[0, 0] == 0
        break
    assert list(array.stream(rows, start=5, stop=5)) == []


def test_bad_ones(ns: nvme.Namespace) -> None:
    array = ns.as_array("<i4", (100, 5))
    for key in (100, -101, (0, 5), [100], [[1]], [True], [0.5], (None,), (0, [1])):
        with pytest.raises(IndexError):
            array[key]
    for call in (
        lambda: array.read(5, 101),
        lambda: array.write(99, np.zeros((2, 5))),
        lambda: array.stream(3, stop=101),
        lambda: array.read(-1, 3),
    ):
        with pytest.raises(IndexError, match="not all in the array"):
            call()
    for call in (
        lambda: array.stream(0),
        lambda: array.stream(1, ahead=0),
        lambda: array.read(0, 1, np.zeros((1, 4))),
        lambda: array.write(0, np.zeros((1, 4))),
        lambda: (
            np.asarray(array, copy=False)
            if np.lib.NumpyVersion(np.__version__) >= "2.0.0"
            else array.__array__(copy=False)
        ),
        lambda: ns.as_array("<i4", (1 << 20,)),
        lambda: ns.as_array("<i4", ()),
        lambda: ns.as_array("<i4", -1),
        lambda: ns.as_array(object, 3),
        lambda: ns.as_array("V0", 3),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()


def test_dlpack_takes_a_buffer_without_a_copy(ns: nvme.Namespace) -> None:
    buffer = ns.controller.alloc(4096)
    other = np.from_dlpack(buffer)
    buffer[17] = 99
    assert other[17] == 99
    assert np.shares_memory(other, buffer)


def test_index_arrays_of_few_bits() -> None:
    """Their rows are found, though so few bits have no room for the number of all."""
    with nvme.open("soft:?size=1M&inline=1") as ctrl:
        array = ctrl.namespaces[1].as_array("<u4", (1000, 4))
        model = np.arange(4000, dtype="<u4").reshape(1000, 4)
        array[:] = model
        for kind in (np.int8, np.uint8, np.int16, np.uint64):
            rows = np.array([3, 100, 7], kind)
            assert (array[rows] == model[rows]).all()
        rows = np.array([-128, -1], np.int8)
        array[rows] = model[rows] = 5
        assert (array[:] == model).all()
        with pytest.raises(IndexError, match="rows 0 to 999"):
            array[np.array([2**64 - 1], np.uint64)]


@pytest.mark.parametrize(
    "key",
    [([0, 1], (1, 2)), ([0, 1], range(2)), (slice(0, 2), (1, 2)), True, np.True_, ([0, 1], True)],
)
def test_keys_that_numpy_would_take_otherwise(key: Any) -> None:
    """They are refused, and nothing is written."""
    with nvme.open("soft:?size=1M&inline=1") as ctrl:
        array = ctrl.namespaces[1].as_array("<u4", (10, 4))
        with pytest.raises(IndexError):
            array[key]
        with pytest.raises(IndexError):
            array[key] = 7
        assert not array[:].any()
