"""The jobs and sweeps of a command line."""

from __future__ import annotations

import os

import pytest

from pynvme_user.bench.jobs.job_file import command_line_jobs
from pynvme_user.bench.jobs.sweep import points, sweep
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.workload.direction import Direction

READ, WRITE, TRIM = Direction


def test_each_name_begins_a_job() -> None:
    options = (
        *(("filename", "qemu:a"), ("bs", "8k"), ("name", "one"), ("iodepth", "2")),
        *(("name", "two"), ("filename", "qemu:b"), ("filename", "qemu:c"), ("name", "three")),
        *(("filename", "qemu:d"), ("wait_for", "one")),
    )
    made = command_line_jobs(options).jobs
    assert [(job.name, job.filenames, job.iodepth) for job in made] == [
        ("one", ("qemu:a",), 2),
        ("two", ("qemu:b", "qemu:c"), 1),
        ("three", ("qemu:d",), 1),
    ]
    assert {job.block_sizes[READ].low for job in made} == {8192}
    assert {job.group for job in made} == {0}
    with pytest.raises(JobError, match="name needs a value"):
        command_line_jobs((("filename", "qemu:"), ("name", "")))


def test_a_job_without_a_device() -> None:
    with pytest.raises(JobError, match="it has no device: give filename= or --filename"):
        command_line_jobs((("rw", "read"),))


def test_sweeps() -> None:
    options = (("filename", "qemu:"), ("bs", "512,4k"), ("iodepth", "1,2,4"), ("numjobs", "2"))
    assert [place for _, place in points(options)] == [
        (("bs", bs), ("iodepth", depth)) for bs in ("512", "4k") for depth in ("1", "2", "4")
    ]
    swept = sweep(options, command_line_jobs).jobs
    assert [made.group for made in swept] == list(range(6))
    assert [made.iodepth for made in swept] == [1, 2, 4, 1, 2, 4]
    assert [made.block_sizes[READ].low for made in swept] == [512] * 3 + [4096] * 3
    assert {made.name for made in swept} == {"bench"}
    assert swept[1].point == (("bs", 512), ("iodepth", 2))
    (single,) = sweep((("filename", "qemu:"), ("bssplit", "4k/100,8k/100")), command_line_jobs).jobs
    assert single.point == ()
    assert single.block_sizes[WRITE].low == 8192
    with pytest.raises(JobError, match="a value is missing beside a comma"):
        points((("iodepth", "1,,2"),))
    with pytest.raises(JobError, match="bs is given twice, and has a list of values"):
        points((("bs", "4k,8k"), ("blocksize", "4k")))


def test_block_sizes_of_a_sweep_may_be_ranges_and_splits() -> None:
    """As a job file's bsrange and bssplit; which a comma would make a list in the job file."""
    jobs = sweep([("filename", "qemu:"), ("bs", "512-4k,4k,4k/60:64k/40")], command_line_jobs).jobs
    assert [dict(job.point)["bs"] for job in jobs] == ["512-4k", 4096, "4k/60:64k/40"]
    sizes = [job.block_sizes[Direction.READ] for job in jobs]
    assert [(of.smallest, of.largest) for of in sizes] == [
        (512, 4096),
        (4096, 4096),
        (4096, 65536),
    ]


def test_a_place_in_a_sweep_is_in_base_units() -> None:
    options = (
        *(("filename", "qemu:"), ("readwrite", "read,randwrite")),
        *(("blocksize", "8k,(4*1k)"), ("numjobs", "$ncpus,1")),
    )
    swept = sweep(options, command_line_jobs).jobs
    cpus = os.cpu_count() or 1
    assert [made.point for made in swept] == [
        (("rw", rw), ("bs", bs), ("numjobs", jobs))
        for rw in ("read", "randwrite")
        for bs in (8192, 4096)
        for jobs in (cpus, 1)
    ]


def test_the_jobs_of_one_point_stay_together() -> None:
    options = (
        *(("filename", "qemu:"), ("iodepth", "1,2"), ("name", "a")),
        *(("name", "b"), ("wait_for", "a"), ("new_group", None)),
    )
    swept = sweep(options, command_line_jobs).jobs
    assert [(made.name, made.iodepth, made.group, made.reporting_group) for made in swept] == [
        *(("a", 1, 0, 0), ("b", 1, 0, 1)),
        *(("a", 2, 1, 2), ("b", 2, 1, 3)),
    ]
    assert swept[3].wait_for == "a"
