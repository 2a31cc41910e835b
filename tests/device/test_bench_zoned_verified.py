"""zonemode=zbd with resets as trims, and with what verification has beside its plain form."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_rig import READ, TRIM, WRITE, job, run
from zoned_rig import DEVICE, KIB, run_in_turn

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine


def starts(result: JobResult, direction: int) -> list[int]:
    """Where its I/Os of a direction were, in KiB, in the order of their ends."""
    assert result.io_log is not None
    mine = result.io_log["direction"] == direction
    return [int(offset) // KIB for offset in result.io_log["offset"][mine]]


# --- trims are resets ---------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 8])
def test_a_trim_resets_each_zone(qemu: None, depth: int) -> None:
    """What was there before is gone: reads find nothing, and writes begin at the zones' starts."""
    wrote, trimmed, nothing, again = run_in_turn(
        {"rw": "write", "io_size": "3m"},
        {"rw": "trim", "bs": "1m", "iodepth": depth},
        {"rw": "randread"},
        {"rw": "write", "io_size": "64k"},
    )
    assert wrote.ok
    assert trimmed.ok
    assert sorted(starts(trimmed, TRIM)) == [zone * 1024 for zone in range(16)]
    assert trimmed.directions[TRIM].clat.min > 0
    assert "no zone of its range holds data" in nothing.failure
    assert starts(again, WRITE) == [0]


def test_random_trims_reset_the_zones_with_data_until_there_is_none(qemu: None) -> None:
    wrote, trimmed, nothing = run_in_turn(
        {"rw": "write", "offset": "4z", "io_size": "2560k"},
        {"rw": "randtrim", "bs": "1m", "io_size": "1g", "norandommap": 1},
        {"rw": "randread"},
    )
    assert wrote.ok
    assert trimmed.ok, trimmed.failure
    assert sorted(starts(trimmed, TRIM)) == [4096, 5120, 6144]
    assert "no zone of its range holds data" in nothing.failure


def test_trims_beside_a_writer_leave_its_zones(qemu: None) -> None:
    """A reset below it would make its next write fail: not at the write pointer."""
    writer = {"rw": "randwrite", "time_based": True, "runtime": "500ms", "iodepth": 4}
    trimmer = {"rw": "trim", "bs": "1m", "time_based": True, "runtime": "500ms"}
    jobs = [
        job(DEVICE, name, zonemode="zbd", **{"bs": "64k", **options})
        for name, options in (("writer", writer), ("trimmer", trimmer))
    ]
    wrote, trimmed = engine.run(jobs).jobs
    assert wrote.ok, (wrote.errors, wrote.failure)
    assert trimmed.ok, (trimmed.errors, trimmed.failure)
    assert trimmed.directions[TRIM].ios > 10


# --- verification -------------------------------------------------------------------------------


@pytest.mark.parametrize("rw", ["write", "randwrite", "randrw"])
def test_a_backlog_is_read_back_in_between(qemu: None, rw: str) -> None:
    """Also where zones are written over several times."""
    options = {"rw": rw, "iodepth": 8, "verify": "crc32c", "verify_backlog": 7}
    (result,) = run_in_turn({**options, "io_size": "40m"})
    assert result.ok, (result.verify, result.errors, result.failure)
    assert result.verify is not None
    writes = result.directions[WRITE].ios
    assert result.verify.blocks >= writes * 128
    assert result.io_log is not None
    if rw == "write":
        directions = result.io_log["direction"].tolist()
        assert directions[:14] == [WRITE] * 7 + [READ] * 7
        assert result.directions[READ].ios == writes == 640


def test_sizes_that_do_not_divide_a_zone_are_verified(qemu: None) -> None:
    (result,) = run_in_turn({"rw": "randwrite", "bs": "48k", "io_size": "30m", "verify": "crc32c"})
    assert result.ok, (result.verify, result.errors, result.failure)


def test_verify_only_reads_what_an_earlier_job_wrote(qemu: None) -> None:
    options = {"rw": "randwrite", "verify": "crc32c"}
    wrote, verified, spoiled, found = run_in_turn(
        {**options, "io_size": "5m", "do_verify": 0},
        {**options, "verify_only": 1, "iodepth": 4},
        {"rw": "write", "io_size": "128k"},
        {**options, "verify_only": 1},
    )
    assert wrote.ok
    assert verified.ok, (verified.verify, verified.errors, verified.failure)
    assert verified.directions[READ].ios == 80
    assert verified.directions[WRITE].ios == 0
    assert spoiled.ok
    assert found.verify is not None
    assert found.verify.faulty == 2


def test_a_state_tells_what_has_to_be_there(qemu: None, tmp_path: Path) -> None:
    """Zones that were emptied and begun anew in the meantime, too, up to what they have now."""
    for queue in (2, 4):  # each queue of a run has a file of its own: here it is the first one's
        (tmp_path / f"state.{queue}").symlink_to("state")
    options = {"rw": "randwrite", "verify": "crc32c", "verify_state": tmp_path / "state"}
    wrote, verified, trimmed, found = run_in_turn(
        {**options, "io_size": "41m", "do_verify": 0},
        {**options, "verify_only": 1, "iodepth": 4},
        {"rw": "trim", "bs": "1m", "size": "1z"},
        {**options, "verify_only": 1},
    )
    assert wrote.ok
    assert verified.ok, (verified.verify, verified.errors, verified.failure)
    assert verified.verify is not None
    assert verified.verify.blocks > 4096
    assert trimmed.ok
    assert not found.ok
    assert found.verify is not None
    assert {fault.kind for fault in found.verify.faults} <= {"lost write", "stale data", "zeroed"}


def test_what_does_not_go(qemu: None) -> None:
    for options, problem in (
        ({"rw": "trim"}, "resets whole zones: give bs=1048576"),
        ({"rw": "trimwrite", "bs": "1m"}, "writes what it has trimmed in one I/O"),
        ({"rw": "zone-append"}, "appends by itself where iodepth is more than 1: use rw=write"),
    ):
        with pytest.raises(JobError, match=problem):
            run(DEVICE, **{"zonemode": "zbd", "bs": "4k", **options})
