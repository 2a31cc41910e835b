"""zonemode=zbd on QEMU's zoned namespace: written at the write pointers, read below them."""

from __future__ import annotations

import pytest
from bench_rig import READ, WRITE, job, run
from zoned_rig import DEVICE, KIB, run_in_turn

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine


def offsets(result: JobResult) -> list[int]:
    """Where its I/Os were, in KiB."""
    assert result.io_log is not None
    return [int(offset) // KIB for offset in result.io_log["offset"]]


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"rw": "write"},
        {"rw": "write", "io_size": "40m"},
        {"rw": "randwrite", "io_size": "40m"},
        {"rw": "randwrite", "bs": "48k", "io_size": "40m"},  # which leaves a rest in each zone
        {"rw": "randwrite", "bssplit": "4k/50:64k/50", "io_size": "20m"},
        {"rw": "randwrite", "max_open_zones": 1, "io_size": "20m"},
        {"rw": "randwrite", "numjobs": 3, "io_size": "8m"},
        {"rw": "write", "numjobs": 2, "time_based": True, "runtime": "700ms"},
        {"rw": "randrw", "time_based": True, "runtime": "500ms", "ramp_time": "300ms"},
    ],
    ids=str,
)
def test_zones_are_obeyed(qemu: None, options: dict[str, object], depth: int) -> None:
    """A write elsewhere than at the write pointer, or to a zone too many, would fail."""
    made = job(DEVICE, zonemode="zbd", iodepth=depth, **{"bs": "64k", **options})
    result = engine.run([made])
    for one in result.jobs:
        assert one.ok, (one.errors, one.failure)
        assert one.directions[WRITE].ios > 0


def test_writes_go_on_where_zones_are_written(qemu: None) -> None:
    results = run_in_turn(
        {"rw": "write", "io_size": "1536k"},
        {"rw": "write", "offset": "1z", "io_size": "640k"},
        {"rw": "write", "size": "1z", "io_size": "128k"},  # which is full: it is emptied first
    )
    assert all(result.ok for result in results)
    first, second, third = map(offsets, results)
    assert first == list(range(0, 1536, 64))
    assert second == list(range(1536, 2176, 64))
    assert third == [0, 64]


def test_reads_stay_below_the_write_pointer(qemu: None) -> None:
    nothing, wrote, random, sequential, beyond = run_in_turn(
        {"rw": "randread"},
        {"rw": "write", "io_size": "1280k"},
        {"rw": "randread", "bs": "16k", "io_size": "16m", "iodepth": 4},
        {"rw": "read", "bs": "16k"},
        {"rw": "read", "bs": "16k", "read_beyond_wp": 1},
    )
    assert "no zone of its range holds data to read" in nothing.failure
    assert not nothing.errors
    assert wrote.ok
    assert random.ok
    assert len(offsets(random)) == 1024
    assert sorted(set(offsets(random))) == list(range(0, 1280, 16))
    assert offsets(sequential) == list(range(0, 1280, 16))
    assert beyond.directions[READ].ios == 1024


@pytest.mark.parametrize(
    ("rates", "reads"),
    [({"rate_iops": "800,100"}, 400), ({"rate": "4m,12m", "bs": "16k,64k"}, 257)],
    ids=["in I/Os", "in bytes"],
)
def test_each_direction_of_a_mix_has_its_rate(
    qemu: None, rates: dict[str, object], reads: int
) -> None:
    options = {"rw": "randrw", "bs": "16k", "iodepth": 4, "number_ios": 450, **rates}
    _, result = run_in_turn({"rw": "write", "io_size": "16m"}, options)
    assert result.ok
    assert result.directions[READ].ios == pytest.approx(reads, abs=1)
    assert result.directions[WRITE].ios == 450 - result.directions[READ].ios


@pytest.mark.parametrize("rw", ["write", "randwrite", "randrw", "rw"])
def test_verification(qemu: None, rw: str) -> None:
    """Once more over what an earlier job has written: it begins with empty zones."""
    options = {"rw": rw, "iodepth": 8, "verify": "crc32c"}
    for result in run_in_turn({**options, "io_size": "24m"}, {**options, "io_size": "5m"}):
        assert result.ok, (result.verify, result.errors, result.failure)
        assert result.verify is not None
        assert result.verify.blocks > 0
    if rw == "write":
        assert result.directions[READ].ios == 80


def test_an_end_before_its_time_leaves_the_zones_right(qemu: None) -> None:
    """What was planned and not written is asked of the device: a write elsewhere would fail."""
    options = {"rw": "randrw", "bs": "4k", "time_based": True, "iodepth": 4}
    results = run_in_turn(
        {**options, "runtime": "300ms"},
        {**options, "runtime": "300ms", "ramp_time": "300ms"},
        {**options, "runtime": "300ms", "verify": "crc32c"},
        {**options, "runtime": "300ms"},
    )
    for result in results:
        assert result.ok, (result.errors, result.failure, result.verify)
        assert result.directions[WRITE].ios > 0


def test_what_does_not_go(qemu: None) -> None:
    device = f"{DEVICE}&ns2.size=16M"
    for options, problem in (
        ({"nsid": 2}, "has no zones: leave zonemode out"),
        ({"zonesize": "2m"}, "have 1048576 bytes, not zonesize=2097152"),
        ({"size": "4k", "offset": "4k"}, "has no whole zone"),
    ):
        with pytest.raises(JobError, match=problem):
            run(device, **{"rw": "read", "zonemode": "zbd", "bs": "4k", **options})
    result = engine.run([job(device, rw="write", zonemode="zbd", bs="4k", size="1z", numjobs=2)])
    assert not result.ok
    assert any("are written by other jobs" in one.failure for one in result.jobs)
