"""Latencies' histograms: each value in its bucket, sums and squares exact."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from workload_rig import NONE_YET, squares

from pynvme_user.bench.results.result import bucket_of
from pynvme_user.native import ffi, lib
from pynvme_user.workload.records import BUCKETS, HISTOGRAM_DTYPE


def histogram_of(values: list[int]) -> np.void:
    histogram = ffi.new("struct nvme_histogram *")
    lib.nvme_histogram_clear(histogram)
    for value in values:
        lib.nvme_histogram_add(histogram, value)
    return np.frombuffer(bytes(ffi.buffer(histogram)), HISTOGRAM_DTYPE)[0]


def test_the_bucket_of_each_power_of_two() -> None:
    edges = {(1 << bit) + step for bit in range(64) for step in (-1, 0, 1)}
    for value in [*edges, *range(300), NONE_YET]:
        counts = histogram_of([value])["counts"]
        assert np.flatnonzero(counts).tolist() == [int(bucket_of(value))], value
    assert int(bucket_of(NONE_YET)) == BUCKETS - 1


@given(st.lists(st.integers(0, 63).flatmap(lambda bit: st.integers(0, 2 << bit)), max_size=200))
def test_histograms_are_exact(values: list[int]) -> None:
    values = [min(value, NONE_YET >> 8) for value in values]
    histogram = histogram_of(values)
    wanted = np.bincount(bucket_of(np.array(values, np.uint64)), minlength=BUCKETS)
    assert (histogram["counts"] == wanted).all()
    assert histogram["count"] == len(values)
    assert histogram["sum"] == sum(values)
    assert squares(histogram) == sum(value * value for value in values)
    assert histogram["min"] == min(values, default=NONE_YET)
    assert histogram["max"] == max(values, default=0)


def test_the_square_of_the_largest() -> None:
    assert squares(histogram_of([NONE_YET])) == NONE_YET**2
    half = 1 << 63
    assert squares(histogram_of([half, half, half])) == 3 * half**2
