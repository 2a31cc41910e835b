"""Errors after which a job goes on, by what Linux makes of their status."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench_rig import READ, WRITE, run
from software_controller import renew, served

WRITE_FAULT = 0x280  # ENODATA
JOB = {"rw": "rw", "bs": "4k", "rate_iops": "500,300", "number_ios": 200, "iodepth": 4}


@pytest.fixture(scope="module")
def device(qemu: None) -> Iterator[str]:
    """Its own, whatever --device is: it plants the errors."""
    with served("size=8M") as (name, _):
        yield name


@pytest.mark.parametrize("ignored", ["ENODATA,ENODATA", "61:EIO,EIO:61", "ENODATA,ENODATA,EILSEQ"])
def test_a_job_goes_on(device: str, ignored: str) -> None:
    renew(device, "status", 10, WRITE_FAULT)
    result = run(device, **JOB, ignore_error=ignored)
    assert result.errors == {WRITE_FAULT: 20}
    assert sum(result.directions[way].ios for way in (READ, WRITE)) == 180
    assert not result.ok  # they are counted all the same


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_error": "EIO,EIO"},
        {"ignore_error": "ENODATA"},  # which is of reads alone
        {"ignore_error": ",ENODATA"},
        {"ignore_error": "EIO", "continue_on_error": "all"},  # which it overrides for reads
    ],
    ids=str,
)
def test_another_error_ends_it(device: str, options: dict[str, object]) -> None:
    renew(device, "status", 10, WRITE_FAULT)
    result = run(device, **JOB, **options)
    assert sum(result.directions[way].ios for way in (READ, WRITE)) < 170


def test_a_list_of_one_direction_leaves_the_other_to_continue_on_error(device: str) -> None:
    renew(device, "status", 10, WRITE_FAULT)
    result = run(device, **JOB, ignore_error="ENODATA", continue_on_error="write")
    assert result.errors == {WRITE_FAULT: 20}
    assert sum(result.directions[way].ios for way in (READ, WRITE)) == 180


@pytest.mark.parametrize(("ignored", "goes_on"), [(",,EILSEQ", True), (",,EIO", False)])
def test_a_fault_is_an_error_of_verification(device: str, ignored: str, goes_on: bool) -> None:
    renew(device, "read-flip", 10, 3)
    options = {"rw": "write", "bs": "4k", "size": "1m", "verify": "crc32c", "verify_fatal": 1}
    result = run(device, **options, ignore_error=ignored)
    assert result.verify is not None
    assert (result.verify.faulty == 25) == goes_on
    assert result.verify.faulty >= 1
