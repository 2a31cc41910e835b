"""The data model of the benchmark's results: histograms, samples, combined jobs."""

import tracemalloc
from dataclasses import fields
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from bench_samples import direction_of, job_of, run_of
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.bench.jobs.terms import PERCENTILES
from pynvme_user.bench.results.aggregate import combine, combine_groups
from pynvme_user.bench.results.fio_json import document
from pynvme_user.bench.results.result import (
    SAMPLE,
    TOLD,
    Costs,
    Histogram,
    IntervalHistogram,
    JobResult,
    bucket_bounds,
    bucket_of,
    bucket_values,
    json_key,
)
from pynvme_user.bench.results.timeseries import (
    SampleLog,
    Spread,
    add_up,
    course,
    mean_error,
    resample,
)
from pynvme_user.native import ffi
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKETS, LATENCIES, RECORD_DTYPE


def fio_bucket(value):
    """fio's law, written out for one value: all of the bits up to 127, then the upper seven."""
    if value < 128:
        return value
    error_bits = value.bit_length() - 7
    return min(((error_bits + 1) << 6) + ((value >> error_bits) & 63), BUCKETS - 1)


@given(st.integers(0, 2**64 - 1))
def test_a_value_lies_within_its_bucket(value):
    index = bucket_of(value)
    low, high = bucket_bounds(index)
    assert int(low) <= value <= int(high)
    assert int(index) == fio_bucket(value)
    assert int(low) <= int(bucket_values(index)) <= int(high)


def test_the_buckets_cover_all_and_are_as_fine_as_promised():
    every = np.arange(BUCKETS)
    low, high = bucket_bounds(every)
    assert low[0] == 0
    assert high[-1] == 2**64 - 1
    assert (low[1:] == high[:-1] + np.uint64(1)).all()
    assert (bucket_of(low) == every).all()
    assert (bucket_of(high) == every).all()
    width = (high - low + np.uint64(1))[64:-1]
    assert (width <= np.maximum(low[64:-1] / 64, 1)).all()


LAWS = {
    "uniform": lambda rng, n: rng.integers(1, 10_000_000, n),
    "lognormal": lambda rng, n: rng.lognormal(11, 0.6, n),
    "exponential": lambda rng, n: rng.exponential(90_000, n),
    "pareto": lambda rng, n: np.minimum((rng.pareto(1.1, n) + 1) * 8_000, 2.0**62),
    "two humps": lambda rng, n: np.where(
        rng.random(n) < 0.99, rng.normal(80_000, 500, n), rng.normal(9e6, 1e6, n)
    ),
    "few values": lambda rng, n: rng.choice([63, 127, 128, 4096, 2**33, 2**40], n),
    "one value": lambda rng, n: np.full(n, 700),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("count", [1, 7, 1000, 1_000_000])
def test_percentiles_lie_in_the_bucket_of_the_true_ones(law, count):
    raw = np.sort(np.abs(LAWS[law](np.random.default_rng(count), count)).astype(np.uint64))
    found = Histogram.of(raw).percentiles()
    assert list(found) == list(PERCENTILES)
    # The rank as a fraction: np.percentile computes 99.9 % of 1000 as a little more than 999.
    ranks = [ceil(Fraction(str(share)) * count / 100) for share in PERCENTILES]
    wanted = raw[np.array(ranks) - 1]
    assert (bucket_of(np.array(list(found.values()))) == bucket_of(wanted)).all()


@pytest.mark.parametrize("law", ["uniform", "lognormal", "exponential"])
def test_percentiles_are_numpys_within_one_bucket(law):
    raw = LAWS[law](np.random.default_rng(11), 1_000_000).astype(np.uint64)
    shares = [share for share in PERCENTILES if share <= 99.99]
    found = np.array(list(Histogram.of(raw).percentiles(shares).values()))
    distance = bucket_of(found) - bucket_of(np.percentile(raw, shares))
    assert (np.abs(distance) <= 1).all()


@pytest.mark.parametrize("law", LAWS)
def test_what_is_exact_is_exact(law):
    raw = np.abs(LAWS[law](np.random.default_rng(5), 5000)).astype(np.uint64)
    histogram = Histogram.of(raw)
    exact = [int(value) for value in raw]
    assert (histogram.min, histogram.max) == (min(exact), max(exact))
    assert histogram.count == int(histogram.counts.sum()) == 5000
    assert histogram.mean == pytest.approx(sum(exact) / 5000, rel=1e-15)
    wanted = np.std(raw.astype(np.longdouble), ddof=1)
    assert histogram.stddev == pytest.approx(float(wanted), rel=1e-9)


def test_a_small_spread_far_from_zero_does_not_cancel_out():
    histogram = Histogram.of([10**12, 10**12 + 1, 10**12 + 2])
    assert histogram.stddev == 1.0


def test_percentiles_stay_between_the_extremes():
    histogram = Histogram.of([1_000_003, 1_000_005])
    assert set(histogram.percentiles().values()) <= {1_000_003, 1_000_004, 1_000_005}
    assert Histogram.of([2**40]).percentile(50.0) == 2**40


def test_a_share_reached_exactly_is_that_buckets():
    # 99.9 % of 1000 is the 999th, whatever 99.9 is in binary.
    histogram = Histogram.of([*range(100, 127), *[10_000] * 972, 5_000_000])
    assert histogram.count == 1000
    assert int(bucket_of(histogram.percentile(99.9))) == int(bucket_of(10_000))
    assert histogram.percentile(99.95) == 5_000_000


def test_nothing_counted():
    nothing = Histogram()
    assert nothing.percentiles() == {}
    assert (nothing.percentile(50.0), nothing.mean, nothing.stddev) == (0, 0.0, 0.0)
    nothing.add(Histogram())
    assert nothing.min == 0
    assert Histogram.of([]).count == 0
    assert Histogram.from_counts(np.zeros(BUCKETS, dtype=np.uint64)).count == 0


def test_histograms_add_up():
    rng = np.random.default_rng(3)
    first, second = rng.integers(5, 10**6, 900), rng.integers(900, 10**9, 1100)
    together = Histogram.of(first)
    together.add(Histogram.of(second))
    wanted = Histogram.of(np.concatenate([first, second]))
    for field in fields(Histogram):
        assert np.array_equal(getattr(together, field.name), getattr(wanted, field.name))
    alone = Histogram()
    alone.add(wanted)
    assert (alone.min, alone.max) == (wanted.min, wanted.max)


def test_counts_alone_give_the_values_within_a_bucket():
    raw = np.random.default_rng(4).lognormal(11, 1, 10_000).astype(np.uint64)
    full = Histogram.of(raw)
    found = Histogram.from_counts(full.counts)
    assert found.count == full.count
    assert found.mean == pytest.approx(full.mean, rel=1 / 64)
    assert bucket_of(found.min) == bucket_of(full.min)
    assert bucket_of(found.max) == bucket_of(full.max)


def test_layouts():
    assert LATENCIES == ("slat", "clat", "lat")
    assert SAMPLE.itemsize == 80
    assert set(RECORD_DTYPE.names) >= {*LATENCIES, "end_ns", "offset", "bytes", "direction"}
    assert Histogram().counts.dtype == np.uint64
    assert Histogram().counts.flags.c_contiguous


# --- samples ------------------------------------------------------------------------------------


def test_samples_have_what_c_s_records_have():
    """The latencies are those of C's structures, and JSON's keys follow from the columns."""
    members = {name for name, _ in ffi.typeof("struct nvme_bench_record").fields}
    results = dict(ffi.typeof("struct nvme_bench_result").fields)
    histograms = [name for name, of in results.items() if of.type.cname == "struct nvme_histogram"]
    of_latencies = {f"{name}_{kind}" for name in histograms for kind in ("sum", "max")}
    assert set(SAMPLE.names) == {"end_ns", "ios", "bytes", "idle_ns"} | of_latencies
    assert {"end_ns", "bytes", *histograms} <= members
    assert {"ios", "blocks"} <= set(results)
    keys = {
        "end_ns": "end_ms",
        "ios": "ios",
        "bytes": "bytes",
        **{f"{name}_sum": f"{name}_ns_sum" for name in histograms},
        "idle_ns": "idle_ms",
    }
    assert {name: json_key(name) for name in TOLD} == keys
    job = job_of(np.random.default_rng(1), seconds=2.2)
    summed = resample(job.directions[Direction.READ].samples, 500)
    told = document(run_of(job))["pynvme_user"]["jobs"][0]["samples"]["read"]
    assert list(told) == list(keys.values())
    for name, key in keys.items():
        scale = 10**6 if name.endswith("_ns") else 1
        assert told[key] == [value // scale for value in summed[name].tolist()]


def test_resampling_keeps_every_sum():
    made, *_ = direction_of(np.random.default_rng(1), seconds=9.7)
    summed = resample(made.samples, 500)
    for name in ("ios", "bytes", "slat_sum", "clat_sum", "lat_sum"):
        assert summed[name].sum() == made.samples[name].sum()
    assert summed["end_ns"][-1] == made.samples["end_ns"][-1]
    assert len(summed) == 20


def test_a_sample_that_ends_late_stays_with_its_interval():
    samples = np.zeros(10, dtype=SAMPLE)
    samples["end_ns"] = np.arange(1, 11) * 100_000_000 + 900_000
    samples["ios"] = 10
    assert resample(samples, 500)["ios"].tolist() == [50, 50]


def test_rates_are_over_the_real_length_and_without_a_stub_at_the_end():
    samples = np.zeros(11, dtype=SAMPLE)
    samples["end_ns"] = [*(np.arange(1, 11) * 100_000_000), 1_001_000_000]
    samples["ios"] = [*[10] * 10, 5]
    samples["lat_sum"] = samples["ios"] * np.uint64(70)
    rates = course(samples)
    assert rates.iops.tolist() == [100.0, 100.0]
    assert rates.lat_ns.tolist() == [70.0, 70.0]
    only = course(samples[:1])
    assert only.iops.tolist() == [100.0]
    assert course(samples[:0]).iops.size == 0


def test_spread():
    assert Spread.of([]) == Spread()
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 0.0)
    assert Spread.of([1.0, 3.0]).stddev == pytest.approx(2**0.5)


def test_the_error_of_a_mean_sees_that_neighbours_are_alike():
    rng = np.random.default_rng(2)
    independent = rng.normal(100, 1, 512)
    assert mean_error(independent) == pytest.approx(1 / 512**0.5, rel=0.6)
    steps = np.repeat(rng.normal(100, 1, 16), 32)
    assert mean_error(steps) == pytest.approx(1 / 4, rel=0.5)
    assert np.isnan(mean_error([1.0]))


# --- jobs together ------------------------------------------------------------------------------


def test_clones_are_combined():
    rng = np.random.default_rng(6)
    first = job_of(rng, seconds=4, errors={0x281: 2}, error_names={0x281: "Unrecovered Read Error"})
    second = job_of(rng, seconds=5, number=2, errors={0x281: 1, 0x80: 4})
    other = job_of(rng, name="other", seconds=3)
    combined, alone = combine_groups([first, second, other])
    assert alone is other
    read = combined.directions[Direction.READ]
    parts = [job.directions[Direction.READ] for job in (first, second)]
    assert combined.members == 2
    assert read.ios == sum(part.ios for part in parts) == int(read.clat.counts.sum())
    assert read.samples["ios"].sum() == read.ios
    assert read.runtime_ns == combined.runtime_ns == 5_000_000_000
    assert combined.errors == {0x281: 3, 0x80: 4}
    assert combined.costs.polls == first.costs.polls + second.costs.polls
    assert combined.costs.ticks_per_second == 2.5e9
    assert combined.costs.submit_instructions is None
    assert combined.depths.level.sum() == read.ios
    # Side by side: the rates of the same half second add up.
    rates = [course(part.samples).iops[:8] for part in parts]
    assert course(read.samples).iops[:8] == pytest.approx(sum(rates))


def test_combining_leaves_its_parts_as_they_were():
    job = job_of(np.random.default_rng(7), seconds=2)
    before = job.directions[0].clat.counts.copy()
    combine([job, job])
    assert (job.directions[0].clat.counts == before).all()


def test_a_cost_not_counted_by_one_is_not_counted():
    job = job_of(np.random.default_rng(8), seconds=1)
    job.costs = Costs(submit_ticks=5)
    other = job_of(np.random.default_rng(8), seconds=1)
    other.costs = Costs()
    assert combine([job, other]).costs.submit_ticks is None


def test_results_of_their_own_each():
    job = job_of(np.random.default_rng(9), seconds=1)
    fresh = [
        JobResult("a", "read", job.device, 1, ((512, 512),) * 3),
        JobResult("b", "read", job.device, 1, ((512, 512),) * 3),
    ]
    fresh[0].directions[0].clat.counts[3] = 1
    assert not fresh[1].directions[0].clat.counts.any()
    assert not fresh[0].directions[0].lat.counts.any()


# --- samples as they are taken --------------------------------------------------------------------


def changes_of(reads=(0, 0, 0, 0, 0)):
    return np.array([reads, (0,) * 5, (0,) * 5], np.uint64)


def test_an_interval_without_an_io_is_no_part_of_the_next():
    recorder = SampleLog()
    for end_ms in range(100, 2001, 100):
        busy = end_ms <= 300 or end_ms > 1000
        recorder.add(end_ms * 10**6, changes_of((50, 50 * 512, 1, 2, 3) if busy else (0,) * 5))
    reads = recorder.samples(Direction.READ)
    assert recorder.samples(Direction.WRITE).size == 0
    summed = resample(reads, 500)
    assert summed["end_ns"].tolist() == [500_000_000, 10**9, 1_500_000_000, 2 * 10**9]
    assert summed["ios"].tolist() == [150, 0, 250, 250]
    assert course(reads, 500).iops.tolist() == [300, 0, 500, 500]


def test_a_phase_of_another_direction_is_no_part_of_a_course():
    """Writes for 1.2 s, then reads for 0.8 s; and a job beside it that reads and writes."""
    recorder, beside = SampleLog(), SampleLog()
    one, none = (50, 50 * 512, 1, 2, 3), (0,) * 5
    for end_ms in range(100, 2001, 100):
        writing = end_ms <= 1200
        changes = np.array([none, one, none] if writing else [one, none, none], np.uint64)
        idle = (0 if not writing else 10**8, 0 if writing else 10**8, 10**8)
        recorder.add(end_ms * 10**6, changes, idle_ns=idle)
        beside.add(end_ms * 10**6, np.array([one, one, none], np.uint64))
    reads, writes = recorder.samples(Direction.READ), recorder.samples(Direction.WRITE)
    assert resample(reads, 500)["idle_ns"].tolist() == [5 * 10**8, 5 * 10**8, 2 * 10**8, 0]
    # The parts of intervals that a phase's begin and end leave are left out where they are short.
    assert course(reads, 500).iops.tolist() == [500, 500]
    assert course(writes, 500).iops.tolist() == [500, 500]
    assert course(writes, 500).end_s.tolist() == [0.5, 1.0]
    assert course(reads[:14], 500).iops.tolist() == [500], "no other one"
    together = add_up([reads, beside.samples(Direction.READ)])
    assert course(together, 500).iops.tolist() == [500, 500, 800, 1000]


def test_a_short_rest_is_a_part_of_the_last_sample():
    recorder = SampleLog()
    recorder.add(10**8, changes_of((7, 7, 7, 7, 7)))
    recorder.add(2 * 10**8, changes_of((5, 5, 5, 5, 5)))
    recorder.add(2 * 10**8 + 400_000, changes_of((1, 1, 1, 1, 1)), short_ns=500_000)
    assert recorder.samples(Direction.READ)[["end_ns", "ios"]].tolist() == [
        (10**8, 7),
        (2 * 10**8 + 400_000, 6),
    ]
    recorder.add(2 * 10**8 + 10**6, changes_of((1, 1, 1, 1, 1)), short_ns=500_000)
    assert recorder.samples(Direction.READ).size == 3


def test_a_sample_each_millisecond_for_an_hour_takes_little():
    recorder, one = SampleLog(), changes_of((3, 3 * 4096, 100, 200, 300))
    tracemalloc.start()
    for end_ms in range(1, 36_001):  # a hundredth of it
        recorder.add(end_ms * 10**6, one)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept <= 2 * 36_000 * SAMPLE.itemsize
    assert recorder.samples(Direction.READ)["ios"].sum() == 3 * 36_000


def test_histograms_of_intervals_keep_what_is_filled(rng):
    lat = Histogram.of(rng.integers(90_000, 110_000, 1000)).counts
    clat = Histogram.of(rng.integers(80_000, 100_000, 1000)).counts
    tracemalloc.start()
    kept = [IntervalHistogram(0, 1, clat, lat) for _ in range(100)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < BUCKETS * 8 / 4
    assert (kept[0].lat == lat).all()
    assert (kept[0].clat == clat).all()
