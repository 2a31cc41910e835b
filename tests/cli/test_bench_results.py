"""What ``nvme-user bench`` writes: text, JSON, terse, logs, reports, and into which files."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

NULL = "qemu:?driver=null-co"
SHORT = ("--runtime=300ms", "--time_based", "--eta=never")


def total(job: Any, direction: str = "read") -> int:
    return int(job[direction]["total_ios"])


def test_one_job(run: Any) -> None:
    done = run("bench", NULL, "--name=mine", "--rw", "randread", "--iodepth", 8, *SHORT)
    text = done.stdout.decode()
    assert text.startswith("mine: (groupid=0, jobs=1): err= 0")
    assert re.search(r"^  read: IOPS=\d", text, re.MULTILINE)
    assert "Warning: qemu:?driver=null-co is an emulated device" in text
    assert done.stderr == b""  # the warnings are in the results


def test_json(results: Any) -> None:
    found = results(NULL, "--rw=randrw", "--bs=4k", "--number-ios=1000", "--eta=never")
    (job,) = found["jobs"]
    assert total(job) + total(job, "write") == 1000
    assert job["job options"]["number_ios"] == "1000"
    assert found["pynvme_user"]["ok"]
    assert found["pynvme_user"]["command"].startswith("nvme-user bench 'qemu:?driver=null-co' --rw")


def test_how_results_are_written_is_the_jobs_to_say(run: Any, results: Any) -> None:
    options = (NULL, "--rw=randrw", "--number-ios=1000", "--eta=never")
    (job,) = results(*options, "--unified_rw_reporting=mixed")["jobs"]
    assert "read" not in job
    assert total(job, "mixed") == 1000
    (job,) = results(*options, "--unified_rw_reporting=both")["jobs"]
    assert total(job, "mixed") == total(job) + total(job, "write") == 1000
    # At a rate of which the units are known.
    plain = run("bench", *options, "--rate_iops=2000", "--unit_base=1").stdout.decode()
    assert re.search(r"^  read: IOPS=[\d.]+k?, BW=[\d.]+MiB/s \([\d.]+MB/s\)", plain, re.MULTILINE)


def test_normal_and_json_into_a_file(run: Any, tmp_path: Path) -> None:
    done = run("bench", NULL, "-o", "normal,json+", "--output", "result", *SHORT)
    assert done.stdout == b""
    assert b"is an emulated device" in done.stderr
    normal, brace, rest = (tmp_path / "result").read_text().partition("\n{\n")
    assert normal.startswith("bench: ")
    assert json.loads(brace + rest)["jobs"][0]["read"]["clat_ns"]["bins"]


def test_device_from_the_environment(results: Any, environment: dict[str, str]) -> None:
    environment["NVME_USER_DEVICE"] = NULL
    assert results("--number_ios=10")["pynvme_user"]["jobs"][0]["device"]["name"] == NULL


def test_the_device_of_a_job_file_that_names_none(
    results: Any, fail: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    """By NVME_USER_DEVICE; a device or --filename beside the job file replaces its own."""
    (tmp_path / "none.fio").write_text("[a]\nnumber_ios=10\n")
    (tmp_path / "other.fio").write_text("[a]\nnumber_ios=10\nfilename=0000:ff:1f.7\n")
    sentence = "job 'a': it has no device: give filename= or --filename"
    assert sentence in fail("bench", "none.fio", code=2)
    for arguments in (
        *((NULL, "none.fio"), ("other.fio", NULL), ("none.fio", "--filename", NULL)),
        *(("none.fio",), ("other.fio", "--filename", NULL)),
    ):
        if arguments == ("none.fio",):
            environment["NVME_USER_DEVICE"] = NULL
        (job,) = results(*arguments)["pynvme_user"]["jobs"]
        assert job["device"]["name"] == NULL
    assert "there is no PCI device" in fail("bench", "other.fio")


def test_terse(run: Any) -> None:
    options = (NULL, "--rw=randread", "--number_ios=100", "--eta=never")
    for form in (["--minimal"], ["-o", "terse", "--terse-version=5"]):
        (line,) = run("bench", *options, *form).stdout.decode().splitlines()
        assert line.startswith("5;" if "-o" in form else "3;")
        assert line.split(";")[2] == "bench"
        assert int(line.split(";")[5]) == 400


def document(process: Any) -> Any:
    """Read one JSON document that the command prints."""
    text = b""
    while not text.endswith(b"\n}\n"):
        line = process.stdout.readline()
        assert line, (text, process.stderr.read())
        text += line
    return json.loads(text)


def test_results_so_far(start: Any) -> None:
    """At intervals, and at SIGUSR1 in between."""
    options = ("--runtime=100", "--time_based", "--status-interval=4", "--eta=never")
    process = start("bench", NULL, "--rw=randread", *options, "-o", "json")
    seen = [document(process)]
    process.send_signal(signal.SIGUSR1)
    seen.append(document(process))
    process.send_signal(signal.SIGINT)
    seen.append(document(process))
    assert process.communicate(timeout=120)[0] == b""
    assert process.returncode == 130
    jobs = [one["jobs"][0] for one in seen]
    counts = [total(job) for job in jobs]
    assert counts == sorted(set(counts))
    assert jobs[0]["elapsed"] >= 4
    assert jobs[1]["job_runtime"] < jobs[0]["job_runtime"] + 4000


def test_results_so_far_in_a_file(run: Any, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of before")
    options = ("--runtime=1.5s", "--time_based", "--status-interval=300ms", "--eta=never")
    run("bench", NULL, *options, "--minimal", "--output=log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert 2 <= len(lines) <= 6  # fewer than five where the machine has other work
    assert {len(line.split(";")) for line in lines} == {121}


def test_a_sweep(run: Any, results: Any, tmp_path: Path) -> None:
    options = (NULL, "--rw=randread", "--iodepth=1,4", "--numjobs=1,2", "--number_ios=50")
    found = results(*options, "--report", "sweep.html", "--eta=never")
    ours = found["pynvme_user"]["jobs"]
    assert [job["point"] for job in ours] == [
        {"iodepth": depth, "numjobs": jobs} for depth in (1, 4) for jobs in (1, 2)
    ]
    assert {job["jobname"] for job in found["jobs"]} == {"bench"}
    assert [job["members"] for job in ours] == [1, 2, 1, 2]
    assert [total(job) for job in found["jobs"]] == [50, 100, 50, 100]
    assert (tmp_path / "sweep.html").read_text().startswith("<!DOCTYPE html>")
    lines = run("bench", *options).stdout.decode().splitlines()
    columns = "iodepth numjobs read IOPS BW lat mean p50 p99 p99.9 max"
    assert lines[0].split() == columns.split()
    assert [line.split()[:2] for line in lines[1:5]] == [
        [str(depth), str(jobs)] for depth in (1, 4) for jobs in (1, 2)
    ]


def test_several_devices_are_one_job(run: Any, results: Any) -> None:
    other = f"{NULL}&size=512M"
    options = (NULL, other, "--rw=randread", "--iodepth=4", "--number_ios=101", "--eta=never")
    found = results(*options)
    (job,) = found["jobs"]
    assert total(job) == 101
    (ours,) = found["pynvme_user"]["jobs"]
    assert (ours["members"], ours["queues"], ours["iodepth"]) == (1, 2, 4)
    assert [device["name"] for device in ours["devices"]] == [NULL, other]
    text = run("bench", *options).stdout.decode()
    assert "jobs=1)" in text
    assert "  shared out   : 2 queue pairs on 2 devices, iodepth=4 among them\n" in text
    assert ours["threads"] == 2


@pytest.mark.parametrize(
    ("options", "pairs", "threads", "told"),
    [
        (("--queues=1",), 2, 1, "2 queue pairs on 2 devices in 1 thread, iodepth=4 among them"),
        (("--queues=5",), 10, 1, "10 queue pairs on 2 devices in 1 thread"),
        (
            ("--queues=3", "--numjobs=2", "--group_reporting"),
            *(12, 2, "12 queue pairs on 2 devices in 2 threads"),
        ),
    ],
    ids=str,
)
def test_several_devices_in_one_thread(
    run: Any, results: Any, options: tuple[str, ...], pairs: int, threads: int, told: str
) -> None:
    all_options = (NULL, f"{NULL}&size=512M", "--rw=randread", "--iodepth=4", "--number_ios=1000")
    found = results(*all_options, *options, "--eta=never")
    (job,) = found["jobs"]
    assert total(job) == 1000 * threads
    (ours,) = found["pynvme_user"]["jobs"]
    assert (ours["queues"], ours["threads"]) == (pairs, threads)
    # Of one CPU for each thread.
    assert 0 < job["usr_cpu"] + job["sys_cpu"] <= 101
    text = run("bench", *all_options, *options, "--eta=never").stdout.decode()
    assert f"  shared out   : {told}\n" in text


def test_a_job_file(results: Any, tmp_path: Path) -> None:
    (tmp_path / "job.fio").write_text(
        "[global]\nfilename=/dev/nvme0n1\nioengine=libaio\ndirect=1\nnumber_ios=20\n"
        "[first]\nrw=randread\nnumjobs=2\n"
        "[second]\nstonewall\nrw=read\nbs=8k\n"
        "[third]\nrw=read\ngroup_reporting\nnumjobs=2\n"
    )
    options = ("job.fio", "--filename", NULL, "--eta=never")
    found = results(*options)["jobs"]
    assert [(job["jobname"], job["groupid"], total(job)) for job in found] == [
        *(("first", 0, 20), ("first", 0, 20)),
        *(("second", 1, 20), ("third", 1, 40)),
    ]
    assert found[2]["read"]["io_bytes"] == 20 * 8192
    (job,) = results(*options, "--section=second")["jobs"]
    assert job["jobname"] == "second"


def test_logs_carry_the_numbers_of_their_jobs(run: Any, tmp_path: Path) -> None:
    options = ("--bw-log=b", "--lat-log=l", "--write_iops_log=i", "--hdr-log=hdr")
    done = run("bench", NULL, NULL, "--rw=read", "--numjobs=2", "--number_ios=30", *options)
    assert done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    kinds = ("b_bw", "l_lat", "l_slat", "l_clat", "i_iops")
    assert names == {f"{kind}.{n}.log" for kind in kinds for n in (1, 2, 3, 4)} | {"hdr"}
    lines = (tmp_path / "l_clat.3.log").read_text().splitlines()
    assert len(lines) == 15  # half of them: the other device has the other half
    assert all(line.split(", ")[2:4] == ["0", "4096"] for line in lines)
    entries = (tmp_path / "hdr").read_text().splitlines()
    assert sum(line.startswith("Tag=bench.read,") for line in entries) == 4


def test_averaged_and_histogram_logs(run: Any, tmp_path: Path) -> None:
    (tmp_path / "job.fio").write_text(
        f"[a]\nfilename={NULL}\nrw=randread\nruntime=1\ntime_based\nwrite_iops_log\n"
        "log_avg_msec=200\nlog_unix_epoch=1\nwrite_hist_log=h\nlog_hist_msec=500\n"
    )
    began = time.time() * 1000
    run("bench", "job.fio", "--eta=never")
    times = [int(line.split(",")[0]) for line in (tmp_path / "a_iops.1.log").open()]
    assert 4 <= len(times) <= 6
    assert began < times[0] < times[-1] < time.time() * 1000
    assert 2 <= len((tmp_path / "h_clat_hist.1.log").read_text().splitlines()) <= 3


def test_repeats_are_compared_and_merged(run: Any, tmp_path: Path) -> None:
    given = ("--rw=randread", "--number_ios=300", "--repeat=3", "--iodepth=1,2", "-o", "json+")
    for name in ("a.json", "b.json"):
        run("bench", NULL, *given, "--output", name)
    found = json.loads((tmp_path / "a.json").read_text())
    places = [job["point"] for job in found["pynvme_user"]["jobs"]]
    assert places == [{"iodepth": n, "repeat": r} for r in (1, 2, 3) for n in (1, 2)]
    text = run("bench", "compare", "a.json", "b.json").stdout.decode()
    assert re.search(r"^bench  iodepth=2  read  IOPS ", text, re.MULTILINE)
    assert "spread of the repeats" in text
    assert "noise unknown" not in text
    # Beside itself nothing is worse; a job that is gone is.
    run("bench", "compare", "a.json", "a.json", "a.json", "--fail-above", "0%")
    run("bench", NULL, *given[:-3], "--iodepth=2", "-o", "json+", "--output", "c.json")
    done = run("bench", "compare", "a.json", "c.json", "--fail-above=1000%", code=1)
    assert b"not there any more: bench (iodepth=1)" in done.stderr
    done = run("bench", "compare", "a.json", "b.json", "--fail-above=much", code=2)
    assert b"is no percentage: write for example 5%" in done.stderr
    merged = run("bench", "merge", "a.json", "b.json").stdout.decode().splitlines()
    assert merged[0].split()[:4] == ["job", "host", "IOPS", "BW"]
    rows = json.loads(run("bench", "merge", "a.json", "b.json", "-o", "json").stdout)["rows"]
    assert {row["host"] for row in rows} >= {"all"}
    assert len(rows) == 3 * 2 * 3
    done = run("bench", "merge", "a.json", "b.json", "./a.json", code=2)
    assert b"a.json is given more than once" in done.stderr
    shown = run("bench", NULL, "--rw=read", "--number_ios=100", "--repeat=2").stdout.decode()
    assert re.search(r"^bench  read  2 repeats: IOPS=", shown, re.MULTILINE)


def test_the_shipped_recipe(run: Any, tmp_path: Path) -> None:
    """Twice the capacity is written, then rounds, then what is measured; on a small device."""
    given = ("--steadystate_round=100ms", "--runtime=1500ms")
    done = run(
        *("bench", "snia-pts", "qemu:?size=16M", *given, "-o", "json", "--report", "pts.html")
    )
    found = json.loads(done.stdout)
    jobs = {job["jobname"]: job for job in found["jobs"]}
    assert jobs["purge"]["trim"]["io_bytes"] == 16 << 20
    assert jobs["fill-twice"]["write"]["io_bytes"] == 32 << 20
    (rounds,) = (job["rounds"] for job in found["pynvme_user"]["jobs"] if job["rounds"])
    assert rounds["wanted"] == 5
    assert rounds["attained"] <= (len(rounds["iops"]) >= 5)
    assert rounds["attained"] or any("not steady" in t for t in found["pynvme_user"]["warnings"])
    assert jobs["read-4k"]["read"]["total_ios"] > 0
    assert "Rounds of 0.1 s" in (tmp_path / "pts.html").read_text()
    done = run("bench", "no-such-recipe", code=2)
    assert b"nor one that comes with the command: snia-pts" in done.stderr


def test_comparing(run: Any, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        run("bench", NULL, "--iodepth=1,2", "--number_ios=500", "-o", "json+", "--output", name)
    text = run("bench", "compare", "a.json", "b.json").stdout.decode()
    assert re.search(r"^bench  iodepth=2  read  IOPS ", text, re.MULTILINE)
    rows = json.loads(run("bench", "compare", "a.json", "b.json", "-o", "json").stdout)["rows"]
    assert {row["point"]["iodepth"] for row in rows} == {1, 2}
