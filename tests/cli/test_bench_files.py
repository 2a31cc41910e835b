"""The files that ``nvme-user bench`` writes, and what happens where one cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NULL = "qemu:?driver=null-co"
JOB = (NULL, "--rw=randread", "--bs=4k", "--number_ios=10", "--eta=never", "--output-format=json")


def reads(text: bytes) -> int:
    return int(json.loads(text)["jobs"][0]["read"]["total_ios"])


def test_a_full_disk_costs_the_file_and_not_the_results(run: Any, tmp_path: Path) -> None:
    for name in ("out.json", "page.html", "lat.hdr", "log_clat.1.log"):
        (tmp_path / name).symlink_to("/dev/full")
    files = ("--output=out.json", "--report=page.html", "--hdr-log=lat.hdr", "--lat-log=log")
    ended = run("bench", *JOB, *files, "--iops-log=log", cwd=tmp_path, code=1)
    assert reads(ended.stdout) == 10
    said = ended.stderr.decode().splitlines()[-1]
    for name in ("out.json", "page.html", "lat.hdr", "log_clat.1.log"):
        assert f"{name} is incomplete: No space left on device" in said
    assert "out.json is incomplete: No space left on device; the results are on stdout" in said
    assert (tmp_path / "log_iops.1.log").stat().st_size, "the others are whole"


def test_a_full_stdout_costs_no_file(run: Any, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = run("bench", *JOB, "--iops-log=log", cwd=tmp_path, stdout=full, code=1)
    assert ended.stderr.decode().endswith("stdout is incomplete: No space left on device\n")
    assert (tmp_path / "log_iops.1.log").read_text().count("\n") == 10


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--output=x", "--report=./x"), "--output and --report would both be x"),
        (("--hdr-log=y", "--report=sub/../y"), "--report and --hdr-log would both be y"),
        (
            ("--output=a_clat.1.log", "--lat-log=a"),
            "--output and the clat log of queue 1 would both be a_clat.1.log",
        ),
        (
            ("--output=agg-read_bw.log", "--bandwidth-log"),
            "--output and the agg-read_bw.log would both be agg-read_bw.log",
        ),
        (
            ("--verify=crc32c", "--rw=write", "--verify-state=s", "--output=s"),
            "--output and verify_state would both be s",
        ),
    ],
)
def test_two_files_of_one_name_are_refused_before_anything_runs(
    run: Any, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "sub").mkdir()
    ended = run("bench", *JOB, *words, cwd=tmp_path, code=2)
    assert sentence in ended.stderr.decode().replace(str(tmp_path), "")
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_job_file_is_not_overwritten_by_its_results(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "job.fio"
    path.write_text("[a]\nrw=read\n")
    ended = run("bench", "job.fio", "--filename", NULL, "--output=job.fio", cwd=tmp_path, code=2)
    assert "the job file and --output would both be" in ended.stderr.decode()
    assert path.read_text() == "[a]\nrw=read\n"


def test_the_aggregate_log_has_what_all_jobs_moved(run: Any, tmp_path: Path) -> None:
    jobs = ("--name=a", "--rw=read", "--name=b", "--rw=randrw", "--name=c", "--stonewall")
    options = ("--size=1m", "--bs=4k", "--rate_iops=200", "--eta=never", "--output-format=json")
    ended = run("bench", NULL, *options, "--bandwidth-log", *jobs, cwd=tmp_path)
    made = json.loads(ended.stdout)["jobs"]
    for number, direction in enumerate(("read", "write", "trim")):
        text = (tmp_path / f"agg-{direction}_bw.log").read_text()
        rows = [[int(part) for part in line.split(",")] for line in text.splitlines()]
        assert [row[0] for row in rows] == [500 * (n + 1) for n in range(len(rows))]
        assert {tuple(row[2:]) for row in rows} == {(number, 0, 0)}
        moved = sum(job[direction]["io_bytes"] for job in made)
        assert sum(row[1] for row in rows) * 512 == pytest.approx(moved, abs=512 * len(rows))
