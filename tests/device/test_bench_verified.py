"""Verified jobs of many kinds on a device that does what it says: no fault is found."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from bench_rig import READ, TRIM, WRITE, job, run
from software_controller import read_log, renew, served

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine

METHODS = {
    "crc32c": {"verify": "crc32c"},
    "xxhash": {"verify": "xxhash"},
    "meta": {"verify": "meta"},
    "pattern": {"verify": "pattern", "verify_pattern": "0xdeadbeef%o"},
    "pattern_hdr": {"verify": "pattern_hdr", "verify_pattern": '"text"0x00-1'},
}


@pytest.fixture(scope="module", params=[512, 4096])
def device(request: pytest.FixtureRequest, qemu: None) -> Iterator[str]:
    """The test's own controllers, whatever --device is: once is enough."""
    with served(f"size=64M&block-size={request.param}") as (name, _):
        yield name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rw", ["write", "randwrite"])
def test_each_block_that_was_written_is_read(device: str, rw: str, method: str) -> None:
    renew(device)
    result = run(device, rw=rw, bs="16k", size="16m", offset="8m", iodepth=16, **METHODS[method])
    assert result.ok
    assert result.directions[WRITE].ios == 1024
    assert result.directions[READ].ios == 1024
    assert result.verify is not None
    assert result.verify.blocks * result.device.block_size == 16 << 20


@pytest.mark.parametrize(
    "options",
    {
        "reads and writes": {"rw": "randrw", "norandommap": True},
        "more reads": {"rw": "randrw", "rwmixread": 80, "norandommap": True, "iodepth": 64},
        "in order": {"rw": "rw", "loops": 3},
        "a range of sizes": {"rw": "randwrite", "bsrange": "4k-64k", "norandommap": True},
        "split sizes": {"rw": "randrw", "bssplit": "4k/60:8k/20:128k/20", "norandommap": True},
        "split sizes, each block once": {"rw": "randwrite", "bssplit": "4k/60:64k/40"},
        "zipf": {"rw": "randrw", "random_distribution": "zipf:1.2", "iodepth": 32},
        "trims after writes": {"rw": "trimwrite", "bs": "16k"},
        "at random": {"rw": "randtrimwrite", "bs": "16k"},
        "small intervals": {"rw": "randwrite", "bs": "64k", "verify_interval": 4096},
        "large intervals": {"rw": "randrw", "bs": "128k", "verify_interval": 65536},
        "a backlog": {"rw": "randwrite", "verify_backlog": 100, "iodepth": 32},
        "a backlog of one": {"rw": "write", "verify_backlog": 1, "size": "1m"},
        "a backlog, in mixed order": {"rw": "randrw", "verify_backlog": 64, "norandommap": True},
        "a mix at rates": {"rw": "randrw", "rate_iops": "40000,9000"},
        "a mix at rates, with a backlog": {
            "rw": "randrw",
            "rate_iops": "9000,40000",
            "verify_backlog": 64,
            "bsrange": "4k-16k",
        },
        "a mix of which one has a rate": {"rw": "rw", "rate_iops": "20000,0", "loops": 3},
        "again and again": {"rw": "randwrite", "size": "1m", "io_size": "32m", "norandommap": 1},
        "a single block": {"rw": "randwrite", "size": "4k", "io_size": "4m", "norandommap": True},
        "flushes and FUA": {"rw": "randwrite", "fsync": 10, "sync": "dsync", "iodepth": 8},
        "two at a time": {"rw": "randwrite", "iodepth_batch": 8, "iodepth_batch_complete_min": 8},
        "a rate": {"rw": "randwrite", "rate_iops": 20000, "io_size": "8m"},
    }.items(),
    ids=lambda pair: pair[0],
)
def test_no_fault_is_found_where_there_is_none(
    device: str, options: tuple[str, dict[str, object]]
) -> None:
    renew(device)
    given = {"bs": "4k", "size": "16m", "iodepth": 16, "verify": "crc32c", **options[1]}
    result = run(device, **given)
    assert result.ok, result.verify
    assert result.verify is not None
    assert result.verify.faulty == 0
    assert result.verify.blocks > 0
    if "trim" not in result.rw:
        assert not result.directions[TRIM].ios


def test_a_batch_of_a_backlog(device: str) -> None:
    """As in fio: so many after each backlog, the oldest first, and what is left at the end."""
    renew(device)
    options = {"rw": "randwrite", "bs": "4k", "size": "256k", "verify": "crc32c"}
    made = job(device, **options, verify_backlog=16, verify_backlog_batch=5)
    (result,) = engine.run([made], io_log=True).jobs
    assert result.ok
    assert result.io_log is not None
    log = result.io_log
    order = "".join("rwt"[way] for way in log["direction"])
    assert order == 4 * ("w" * 16 + "r" * 5) + "r" * 44
    written, read = (log["offset"][log["direction"] == way].tolist() for way in (WRITE, READ))
    assert read == written


TRIMMED = {"rw": "randwrite", "bs": "4k", "size": "4m", "iodepth": 8, "verify": "crc32c"}


def trimmed(device: str, *, zero: bool, **options: object) -> tuple[JobResult, str]:
    """Run a job that trims half of what it writes; its result, and its I/Os' directions."""
    percent = {"trim_percentage": 50, "trim_backlog": 64, "trim_verify_zero": int(zero)}
    made = job(device, **{**TRIMMED, **percent, **options})
    (result,) = engine.run([made], io_log=True).jobs
    assert result.io_log is not None
    return result, "".join("rwt"[way] for way in result.io_log["direction"])


@pytest.mark.parametrize("zero", [False, True])
def test_some_of_what_was_written_is_trimmed(device: str, zero: bool) -> None:
    """And read back with the rest: it reads as zeroes."""
    renew(device)
    result, order = trimmed(device, zero=zero)
    assert result.ok, result.verify
    assert re.fullmatch("(w{64}t+){16}r{1024}", order)
    trims = result.directions[TRIM].ios
    assert read_log(device).trims == trims
    assert trims == pytest.approx(512, abs=100)
    log = result.io_log
    places = [set(log["offset"][log["direction"] == way].tolist()) for way in (WRITE, READ, TRIM)]
    assert places[0] == places[1] > places[2]
    assert len(places[2]) == trims
    assert trimmed(device, zero=zero)[1] == order  # of one seed


def test_trims_of_a_batch_and_a_backlog_read_back(device: str) -> None:
    renew(device)
    options = {"trim_percentage": 100, "trim_backlog_batch": 5, "verify_backlog": 32}
    result, order = trimmed(device, zero=True, size="1m", **options)
    assert result.ok, result.verify
    assert order == 4 * ("w" * 32 + "r" * 32 + "w" * 32 + "t" * 5 + "r" * 32)


def test_trims_that_take_nothing_away(device: str) -> None:
    """Advice may be ignored: a fault only for who asks for zeroes."""
    renew(device, "kept")
    assert trimmed(device, zero=False)[0].ok
    renew(device, "kept")
    result, order = trimmed(device, zero=True)
    assert result.verify is not None
    assert result.verify.faulty == order.count("t") > 0
    assert "lost write" in str(result.verify.faults[0])


@pytest.mark.parametrize("options", [{"verify_backlog": 32}, {"verify_backlog": 24}, {}])
def test_a_backlog_behind_a_ramp(device: str, options: dict[str, object]) -> None:
    """The ramp's writes pause for nothing, and are trimmed and read back with the others."""
    renew(device)
    ramp = {"size": "8m", "ramp_time": "50ms", "rate_iops": 4000}
    result, order = trimmed(device, zero=True, **ramp, **options)
    assert result.ok, result.verify
    reads = order.count("r")
    writes = result.directions[WRITE].ios
    assert 0 < writes < 2048  # some were the ramp's
    assert reads == 2048
    assert "t" in order


def test_trims_in_a_ranged_mix(device: str) -> None:
    renew(device)
    options = {"rw": "randrw", "bsrange": "4k-16k", "norandommap": True, "rwmixread": 30}
    result, order = trimmed(device, zero=True, **options, verify_backlog=48)
    assert result.ok, result.verify
    assert order.count("t") > 50


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"trim_backlog": 0}, "trim_percentage needs trim_backlog"),
        ({"verify": None}, "give verify= and writes"),
        ({"rw": "randread"}, "give verify= and writes"),
        ({"trim_percentage": 0}, "give that, too"),
        ({"trim_percentage": 101}, "is not a percentage"),
        ({"zonemode": "zbd"}, "leave one out"),
    ],
)
def test_trims_that_cannot_be(options: dict[str, object], what: str) -> None:
    given = {**TRIMMED, "trim_percentage": 50, "trim_backlog": 64, **options}
    with pytest.raises(JobError, match=what):
        job("qemu:none.img", **{key: value for key, value in given.items() if value is not None})


@pytest.mark.parametrize("backlog", [0, 16])
@pytest.mark.parametrize("rates", ["40000,9000", "5000,0", "9000,"])
def test_a_mix_at_rates_reads_back_what_it_wrote(device: str, rates: str, backlog: int) -> None:
    """Which of its I/Os are writes is a matter of time there, not of its sequence alone."""
    renew(device)
    options = {"verify": "crc32c", "rate_iops": rates, "iodepth": 8, "verify_backlog": backlog}
    result = run(device, rw="randrw", bs="4k", size="4m", **options)
    assert result.ok
    # Each block once: those that were read before, and all that were written.
    assert result.directions[WRITE].ios > 0
    assert result.directions[READ].ios == 1024


def test_jobs_side_by_side_verify_their_own_ranges(device: str) -> None:
    renew(device)
    options = {"rw": "randrw", "bs": "4k", "size": "8m", "iodepth": 8, "verify": "crc32c"}
    made = job(device, **options, numjobs=2, offset_increment="8m", norandommap=True)
    result = engine.run([made])
    assert len(result.jobs) == 2
    assert result.ok
    assert all(one.verify and one.verify.blocks for one in result.jobs)
    with pytest.raises(JobError, match="would verify the same blocks that both write"):
        engine.run([job(device, **options, numjobs=2)])


def test_a_read_job_verifies_what_another_wrote(device: str) -> None:
    renew(device)
    options = {"bs": "4k", "size": "4m", "iodepth": 4, "verify": "crc32c"}
    result = engine.run(
        [
            job(device, "first", rw="write", **options, do_verify=0),
            job(device, "second", group=1, rw="randread", **options),
        ]
    )
    first, second = result.jobs
    assert result.ok
    assert (first.verify and first.verify.blocks, first.directions[READ].ios) == (0, 0)
    assert second.verify is not None
    assert second.verify.blocks * second.device.block_size == 4 << 20


def test_verify_only_reads_and_does_not_write(device: str) -> None:
    """Each run of the same job has the same seed, so that the second knows what is there."""
    renew(device)
    options = {"rw": "randwrite", "bs": "8k", "size": "4m", "verify": "xxhash", "iodepth": 8}
    assert run(device, **options, do_verify=0).ok
    result = run(device, **options, verify_only=True)
    assert result.ok
    assert (result.directions[READ].ios, result.directions[WRITE].ios) == (512, 0)
    assert result.verify is not None
    assert result.verify.blocks * result.device.block_size == 4 << 20
    renew(device)
    result = run(device, **options, verify_only=True)
    assert not result.ok
    assert result.verify is not None
    assert result.verify.faulty == 512
    assert {fault.kind for fault in result.verify.faults} == {"foreign data"}


def test_two_namespaces_of_different_blocks(qemu: None) -> None:
    device = "qemu:?size=32M&ns2.size=32M&ns2.logical_block_size=4096"
    options = {"rw": "randrw", "bs": "4k", "size": "8m", "norandommap": True, "iodepth": 8}
    result = engine.run(
        [job(device, f"ns{nsid}", **options, nsid=nsid, verify="crc32c") for nsid in (1, 2)]
    )
    assert result.ok
    assert [one.device.block_size for one in result.jobs] == [512, 4096]
    assert [one.device.nsid for one in result.jobs] == [1, 2]
    assert all(one.verify and one.verify.blocks for one in result.jobs)


def test_the_last_block_beyond_a_size_of_no_whole_blocks_is_verified(device: str) -> None:
    renew(device)
    result = run(device, rw="write", bs="24k", size="100k", verify="crc32c", iodepth=4)
    assert result.ok
    assert (result.directions[WRITE].ios, result.directions[READ].ios) == (5, 5)
    assert result.verify is not None
    assert result.verify.blocks
    options = {"rw": "write", "bs": "24k", "size": "100k", "verify": "crc32c"}
    with pytest.raises(JobError, match="would verify the same blocks"):
        engine.run([job(device, "a", **options), job(device, "b", offset="100k", **options)])
