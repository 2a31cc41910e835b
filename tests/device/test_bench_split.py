"""I/Os larger than the device's largest transfer: several commands, one I/O to all that counts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from bench_rig import READ, TRIM, US, WRITE, job, once_done, run
from disturbance import until_right
from software_controller import read_log, renew, served
from zoned_rig import DEVICE as ZONED

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine
from pynvme_user.driver.completion import HOST_ABORTED

KIB, MIB = 1 << 10, 1 << 20
#: Reads that look whether the range is blank, before a job that reads.
BLANK_READS = 256


@pytest.fixture(scope="module")
def small(qemu: None) -> Iterator[str]:
    """A command carries 128 KiB, and a queue has room for seven."""
    with served("size=64M&mdts=5&mqes=7") as (name, _):
        yield name


def counts(result: JobResult) -> list[int]:
    return [direction.ios for direction in result.directions]


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 16])
@pytest.mark.parametrize(
    ("options", "ios", "commands"),
    [
        ({"rw": "write"}, 16, 128),
        ({"rw": "randread"}, 16, 128),
        ({"rw": "write", "bs": "200k", "size": "8000k"}, 40, 80),
        ({"rw": "trim"}, 16, 16),
        ({"rw": "write", "number_ios": 5}, 5, 40),
        ({"rw": "write", "bs": "128k"}, 128, 128),
        ({"rw": "write", "bssplit": "1m/100", "fsync": 4}, 16, 128),
    ],
    ids=str,
)
def test_as_much_as_was_asked_for(
    fast: str, options: dict[str, object], ios: int, commands: int, depth: int
) -> None:
    renew(fast)
    given = {"bs": "1m", "size": "16m", "iodepth": depth, **options}
    result = run(fast, **given)
    assert result.ok
    assert sum(counts(result)) == ios
    size = {"200k": 200 * KIB, "128k": 128 * KIB}.get(str(given["bs"]), MIB)
    assert sum(direction.bytes for direction in result.directions) == ios * size
    log = read_log(fast)
    assert log.reads + log.writes + log.trims == commands + BLANK_READS * (
        given["rw"] == "randread"
    )
    assert log.flushes == (4 if "fsync" in given else 0)
    if given["rw"] != "randread":  # before which a vector looks whether there is data
        assert log.deepest <= depth * 8
    assert result.depths.level.sum() == ios + log.flushes
    for direction in result.directions:
        assert direction.clat.count == direction.lat.count == direction.slat.count == direction.ios
        assert direction.samples["bytes"].sum() == direction.bytes


def test_sizes_on_both_sides_of_the_limit(fast: str) -> None:
    renew(fast)
    sizes = {"bssplit": "4k/30:128k/30:132k/20:1m/20", "norandommap": True}
    result = engine.run([job(fast, rw="randrw", io_size="200m", iodepth=8, **sizes)], io_log=True)
    (one,) = result.jobs
    log = one.io_log
    assert one.ok
    assert log is not None
    assert len(log) == sum(counts(one))
    assert log["bytes"].sum() == sum(direction.bytes for direction in one.directions)
    assert set(log["bytes"].tolist()) == {4 * KIB, 128 * KIB, 132 * KIB, MIB}
    seen = read_log(fast)
    for direction, commands in ((READ, seen.reads), (WRITE, seen.writes)):
        made = log["bytes"][log["direction"] == direction].astype(int)
        assert commands == (-(-made // (128 * KIB))).sum()


def test_iodepth_counts_ios(slow: str) -> None:
    """All their commands are outstanding: an I/O takes as long as one of them."""

    def attempt() -> str:
        renew(slow)
        result = run(slow, rw="randwrite", bs="1m", iodepth=4, number_ios=40)
        assert read_log(slow).deepest == 32
        writes = result.directions[WRITE]
        assert writes.ios == 40
        assert writes.clat.min >= 1000 * US
        median = writes.clat.percentile(50) / US
        return "" if median < 8000 else f"half of them took {median:.0f} us or more"

    until_right(attempt, undisturbed=3)


def test_commands_that_have_no_room_wait(small: str) -> None:
    renew(small)
    result = engine.run([job(small, rw="write", bs="1m", iodepth=4, size="32m")])
    (one,) = result.jobs
    assert counts(one) == [0, 32, 0]
    assert read_log(small).deepest <= 7
    assert read_log(small).writes == 256
    (warning,) = (text for text in result.warnings if "commands" in text)
    assert "has 4 I/Os of 1048576 bytes outstanding, which are 32 commands" in warning
    assert "has room for 7" in warning


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["fast", "small"])
@pytest.mark.parametrize(
    "options",
    [
        {"rw": "write"},
        {"rw": "randwrite", "iodepth": 16},
        {"rw": "randrw", "iodepth": 5},
        {"rw": "randwrite", "bs": "300k", "size": "30000k", "verify_interval": "4k"},
        {"rw": "randwrite", "bssplit": "4k/50:1m/50", "norandommap": True, "io_size": "40m"},
        {"rw": "randwrite", "bsrange": "4k-2m", "iodepth": 3},
        {"rw": "randwrite", "verify_backlog": 3},
        {"rw": "write", "verify": "pattern", "verify_pattern": "0x12345678%o"},
        {"rw": "write", "verify": "meta", "loops": 2},
        {"rw": "trimwrite", "iodepth": 3},
    ],
    ids=str,
)
def test_what_was_written_is_read_back(
    request: pytest.FixtureRequest, device: str, options: dict[str, object]
) -> None:
    name = request.getfixturevalue(device)
    renew(name)
    given = {"bs": "1m", "size": "16m", "iodepth": 4, "verify": "crc32c", **options}
    result = run(name, **given)
    assert result.ok, (result.failure, result.errors, result.verify)
    assert result.verify is not None
    assert result.verify.blocks > 0
    assert result.directions[READ].ios > 0


def test_a_write_that_is_cut_is_the_same_as_a_whole_one(fast: str, small: str) -> None:
    """Byte by byte: what two devices have, one of which takes 2 MiB in a command."""
    options = {"rw": "write", "bs": "1m", "size": "8m", "refill_buffers": True, "iodepth": 3}
    found = []
    with served("size=64M&mdts=0") as (large, _):
        for name in (small, large):
            renew(name)
            assert run(name, **options).ok
            with nvme.open(name) as ctrl:
                assert ctrl.max_transfer == (128 * KIB if name == small else 2 * MIB)
                found.append(np.array(ctrl.namespaces[1].read(0, 8 * MIB // 512)))
    assert found[0].any()
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("fault", ["write-flip", "read-flip", "lost"])
def test_a_fault_in_one_of_the_commands_is_found(fast: str, fault: str) -> None:
    renew(fast, fault, 50, 8 * 600)
    result = run(
        fast, rw="write", bs="1m", size="16m", iodepth=4, verify="crc32c", verify_interval="4k"
    )
    planted = read_log(fast).lbas
    assert len(planted) == 2
    assert result.errors == {}
    assert result.verify is not None
    assert sorted({fault.lba for fault in result.verify.faults}) == sorted(
        lba + (0 if fault == "lost" else 1) for lba in planted
    )


# --- errors, ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3, 20])
def test_an_io_fails_once(fast: str, every: int) -> None:
    renew(fast, "status", every, 0x281)
    result = run(fast, rw="write", bs="1m", size="32m", iodepth=4, continue_on_error="all")
    failed = {number // 8 for number in range(every - 1, 256, every)}  # with one queue, in order
    writes = result.directions[WRITE]
    assert (writes.ios, writes.failed) == (32 - len(failed), len(failed))
    assert result.errors == {0x281: len(failed)}
    assert writes.lat.count == writes.ios


def test_ctrl_c_drains_every_command(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renew(slow)
    interrupt = partial(signal.raise_signal, signal.SIGINT)
    thread = once_done(monkeypatch, {"job": 5}, (0, interrupt))
    result = engine.run(
        [job(slow, rw="randwrite", bs="1m", iodepth=4, time_based=True, runtime=60)]
    )
    thread.join()
    assert result.signal == signal.SIGINT
    (one,) = result.jobs
    assert one.failed == 0
    assert one.directions[WRITE].ios > 4
    assert read_log(slow).writes == 8 * one.directions[WRITE].ios


def test_ctrl_c_again_does_not_wait(qemu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with served("null&delay=1000000000&size=64M") as (name, _):
        interrupt = partial(signal.raise_signal, signal.SIGINT)
        steps = (0.5, interrupt), (0.5, interrupt)
        thread = once_done(monkeypatch, {"job": 4}, *steps, of="submitted")
        result = engine.run([job(name, rw="randwrite", bs="1m", iodepth=4)])
        thread.join()
    (one,) = result.jobs
    assert counts(one) == [0, 0, 0]
    assert one.failed == 4
    assert one.errors == {int(HOST_ABORTED): 4}


def test_a_rate_and_a_runtime(fast: str) -> None:
    renew(fast)
    result = run(fast, rw="randwrite", bs="1m", rate="40m", iodepth=4, time_based=True, runtime=2)
    assert counts(result)[WRITE] == pytest.approx(80, abs=3)
    assert counts(result)[TRIM] == 0


def test_sizes_that_cannot_be(qemu: None) -> None:
    problem = "less than 4 GiB, not 4294967296 bytes: use a smaller bs"
    with served("null&size=8G") as (name, _), pytest.raises(JobError, match=problem):
        engine.run([job(name, rw="read", bs="4g")])


# --- zones ----------------------------------------------------------------------------------------

#: A command carries 64 KiB, a Zone Append 32.
CUT_ZONES = f"{ZONED}&mdts=4&zoned.zasl=3"


@pytest.mark.parametrize("rw", ["write", "randwrite", "rw"])
@pytest.mark.parametrize("verify", [None, "crc32c"])
def test_writes_in_zones_follow_one_another(qemu: None, rw: str, verify: str | None) -> None:
    options = {"verify": verify} if verify else {}
    made = job(CUT_ZONES, rw=rw, bs="256k", zonemode="zbd", io_size="20m", **options)
    (result,) = engine.run([made]).jobs
    assert result.ok, (result.errors, result.failure)
    assert result.directions[WRITE].ios > 0


def test_an_append_is_not_cut(qemu: None) -> None:
    for options, remedy in (
        ({"zonemode": "zbd", "rw": "write"}, "use a smaller bs, or iodepth=1"),
        ({"rw": "zone-append"}, "use a smaller bs$"),
    ):
        made = job(CUT_ZONES, bs="48k", size="1m", iodepth=4, **options)
        with pytest.raises(JobError, match=f"32768 bytes in one Zone Append.* {remedy}"):
            engine.run([made])
    # Reads beside appends are.
    made = job(
        CUT_ZONES, rw="rw", bs="512k,32k", zonemode="zbd", iodepth=4, io_size="20m",
        read_beyond_wp=1,
    )  # fmt: skip
    (result,) = engine.run([made]).jobs
    assert result.ok, (result.errors, result.failure)
    assert min(counts(result)[:2]) > 0
