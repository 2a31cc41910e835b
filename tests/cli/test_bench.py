"""``nvme-user bench``, run as a user runs it: what it takes and how it ends."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import click
import disk_images
import pytest
from software_controller import served

from pynvme_user.cli.bench import bench
from pynvme_user.cli.fio_options import take

NULL = "qemu:?driver=null-co"
#: Every read of these blocks fails, of all else none.
BROKEN = (
    "qemu:?driver=blkdebug&driver.image.driver=null-co&driver.image.size=16777216"
    "&driver.inject-error.0.event=read_aio&driver.inject-error.0.errno=5"
)
SHORT = ("--runtime=300ms", "--time_based", "--eta=never")


def total(job: Any, direction: str = "read") -> int:
    return int(job[direction]["total_ios"])


# --- what it takes ------------------------------------------------------------------------------


def taken(*words: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    return take(click.Context(bench), words, {"--output", "--help"})


def test_a_list_of_block_sizes_says_what_it_is(run: Any) -> None:
    ended = run("bench", "qemu:", "-rw=randread", "--bs", "4k,64k", "--parse-only", "--max-jobs=9")
    assert ended.returncode == 0
    assert ended.stderr.decode() == (
        "nvme-user: --bs 4k,64k is a sweep here, 2 runs of one size each; for sizes of reads, "
        "writes, as in fio, write it in a job file\n"
    )
    assert not run("bench", "qemu:", "--bs", "4k", "--parse-only").stderr


def test_lines_of_progress_come_as_often_as_asked_for(run: Any) -> None:
    line = r"run 1/1: .* gone"
    words = ("--runtime=4", "--time_based", "--eta-interval=1")
    said = run("bench", NULL, "--size=1m", *words).stderr.decode()
    assert len(re.findall(line, said)) >= 2
    said = run("bench", NULL, "--size=1m", *words, "--eta=never").stderr.decode()
    assert not re.findall(line, said)


def test_options_are_taken_in_their_order_in_either_spelling() -> None:
    pairs, left = taken(
        *(
            "qemu:",
            "--rate-iops",
            "5",
            "--rate_iops=6",
            "--output",
            "x",
            "--bs=4k,",
            "--nice",
            "-5",
        ),
        *("--hugepage-size=2m", "--bw-log", "p", "--continue-on-error", "all"),
    )
    assert pairs == [
        *(("rate_iops", "5"), ("rate_iops", "6"), ("bs", "4k,"), ("nice", "-5")),
        *(("hugepage-size", "2m"), ("write_bw_log", "p"), ("continue_on_error", "all")),
    ]
    assert left == ["qemu:", "--output", "x"]


def test_a_flag_takes_a_number_and_no_device() -> None:
    assert taken("--time_based", "qemu:") == ([("time_based", None)], ["qemu:"])
    assert taken("--time-based", "0", "a.fio") == ([("time_based", "0")], ["a.fio"])
    assert taken("--thread", "--do_verify=0") == ([("thread", None), ("do_verify", "0")], [])
    assert taken("--atomic", "qemu:x") == ([("atomic", None)], ["qemu:x"])
    assert taken("--atomic", "1", "qemu:x") == ([("atomic", "1")], ["qemu:x"])


def test_what_nobody_knows_is_left() -> None:
    assert taken("--iodpeth=4", "-n", "1", "--bs=1k", "--", "--bs=2k") == (
        [("bs", "1k")],
        ["--iodpeth=4", "-n", "1", "--", "--bs=2k"],
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no device: name one"),
        (["none.fio"], "'none.fio' is neither a job file that is there nor a device"),
        (["qemu:", "--read-iolog=bad.log"], "bad.log, line 2: '0 f reed 0 8' is not 'TIME FILE"),
        (["qemu:", "--read-iolog=none.log"], "none.log: No such file or directory"),
        (["here.fio"], "here.fio line 2: 'exec_prerun' is not supported: a job file"),
        (["qemu:", "--iodpeth", "4"], "No such option '--iodpeth'"),
        (["qemu:", "--iodepth"], "--iodepth needs a value: write --iodepth NUMBER"),
        (["qemu:", "--bs", "4x"], "bs=4x: '4x' is not a number"),
        (["qemu:", "--latency-run=1"], "'latency_run' is not supported: once the depth"),
        (["qemu:", "--rw", "randraed"], "'randraed' is none of read, write"),
        (["qemu:", "--iodepth=1,,2"], "a value is missing beside a comma"),
        (["qemu:", "--iodepth=1,2", "--iodepth=4"], "iodepth is given twice"),
        (["qemu:", "--time_based"], "time_based needs a runtime"),
        (["qemu:", "--section", "a"], "--section is for a job file, and there is none"),
        (["qemu:", "-o", "yaml"], "'yaml' is none of normal, terse, json, json+"),
        (["qemu:", "--terse-version=2"], "2 is not in the range 3<=x<=5"),
        (["qemu:", "--status-interval=soon"], "'soon' is not a time"),
        (["qemu:", "--status-interval=0"], "give a time above 0"),
        (["qemu:", "--eta=often"], "'often' is not one of"),
        (["qemu:", "--rw=write", "--readonly"], "--readonly: job 'bench' has rw=write"),
        (["qemu:", "--report", "none/a.html"], "--report none/a.html: no file can be made in none"),
        (["qemu:", "--output", "."], "is a directory"),
        (["qemu:", "--lat-log", "none/a"], "the logs none/a_*.log: no file can be made in none"),
        (["qemu:", "--rw=write", "--verify=md5", "--warnings-fatal"], "verify=md5 is done with"),
        (["bogus:x"], "'bogus:x' is not a device name"),
        (["qemu:", "--offset=2G"], "has no room for a block of 4096 bytes"),
        (["qemu:", "--bs=1000"], "1000 bytes are not whole blocks of 512"),
        (["qemu:", "--bs=-4k"], "bs=-4k: '-4k' is negative"),
        (["qemu:", "--bs=4k,-8k"], "bs=-8k: '-8k' is negative"),
        (["qemu:", "--bs=4k-8x"], "bs=4k-8x: '8x' is not a number"),
        (["qemu:", "--blocksize=4k/50:8k/x"], "blocksize=4k/50:8k/x: 'x' is not a percentage"),
        (["qemu:", "-n", "7"], "namespace 7 of qemu: is not active"),
        (["compare", "here.fio"], "Missing argument 'AFTER...'"),
        (["compare", "here.fio", "none.json"], "'none.json' does not exist"),
        (["compare", "here.fio", "here.fio"], "here.fio is not JSON"),
        (["compare", "odd.json", "odd.json"], "odd.json cannot be compared"),
    ],
)
def test_usage_errors(fail: Any, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "bad.log").write_text("fio version 3 iolog\n0 f reed 0 8\n")
    (tmp_path / "here.fio").write_text("[global]\nexec_prerun=x\n[a]\nbs=4k\n")
    (tmp_path / "odd.json").write_text('{"jobs": [{"jobname": "a"}]}')
    assert sentence in fail("bench", *arguments, code=2)


def test_each_problem_of_a_job_file_has_its_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.fio").write_text("[a]\nbs=4x\n[b]\nioengine=null\n")
    lines = run("bench", "bad.fio", code=2).stderr.decode().splitlines()
    assert [re.sub(": .*", "", line.removeprefix("nvme-user: ")) for line in lines] == [
        "bad.fio line 2",
        "bad.fio line 4",
    ]


def test_a_device_that_is_not_there(fail: Any) -> None:
    assert "there is no PCI device" in fail("bench", "0000:ff:1f.7", "--runtime=1")


def test_parse_only(run: Any, tmp_path: Path) -> None:
    (tmp_path / "job.fio").write_text("[a]\nfilename=0000:ff:1f.7\nrw=write\n")
    done = run("bench", "job.fio", "--parse-only")
    assert done.stdout + done.stderr == b""


# --- while it runs ------------------------------------------------------------------------------


def test_lines_where_there_is_no_terminal(run: Any) -> None:
    options = (NULL, "--rw=randrw", "--time_based", "-o", "json")
    done = run("bench", *options, "--runtime=3", "--eta=always")
    lines = [line for line in done.stderr.decode().splitlines() if "warning" not in line]
    assert lines
    rate = r"[\d.]+[km]? IOPS, [\d.]+\w{0,2}B/s"
    # A direction is named once it has done something.
    pattern = (
        r"run 1/1: \d+ %, \d+ s gone, \d+ s left"
        rf"(, read {rate})?(, write {rate})?(, c?lat [\d.]+\ws)?"
    )
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert lines[-1].count(" IOPS") in (1, 2), lines
    done = run("bench", *options, "--runtime=1")
    assert all(b"warning" in line for line in done.stderr.splitlines())


def test_a_display_on_a_terminal(start: Any) -> None:
    ours, theirs = pty.openpty()
    process = start("bench", NULL, "--rw=write", "--runtime=1.5s", "--time_based", stderr=theirs)
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert re.search(r"run 1/1 .* \d+ %, \d s gone, \d s left", text)
    assert re.search(r"write +[\d.]+k? IOPS +[\d.]+\wiB/s", text)
    assert "read" not in text
    assert out.startswith(b"bench: ")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side is closed
        return b""


def test_an_interrupted_run_has_results(start: Any) -> None:
    process = start("bench", NULL, "--runtime=60", "--time_based", "--eta=always", "-o", "json")
    assert process.stderr.readline().startswith(b"run 1/1: ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "nvme-user: interrupted"
    found = json.loads(out)
    assert found["pynvme_user"]["interrupted"]
    assert total(found["jobs"][0]) > 0


def test_ctrl_c_again_does_not_wait(start: Any) -> None:
    device = "qemu:?driver=null-co&driver.latency-ns=4000000000"  # the device itself ends those
    options = ("--rw=randwrite", "--force", "--runtime=60", "--time_based", "--iodepth=4")
    process = start("bench", device, *options, "--eta=always", "-o", "json")
    assert process.stderr.readline().startswith(b"run 1/1: ")
    process.send_signal(signal.SIGINT)
    while not (line := process.stderr.readline()).startswith(b"drain 1/1"):
        assert line
    assert line.startswith(b"drain 1/1 (ctrl-C again: do not wait): ")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert err.decode().splitlines()[-1] == "nvme-user: interrupted"
    found = json.loads(out)
    assert found["pynvme_user"]["interrupted"]
    (errors,) = found["pynvme_user"]["jobs"][0]["errors"]
    assert errors == {"status": 0x371, "name": "Command Aborted By Host", "ios": 4}


@pytest.mark.kills
def test_a_device_that_goes_away_leaves_the_results(start: Any) -> None:
    """Of the jobs that ran and of the one that runs; those to come are named."""
    options = ("--rw=randread", "--name=one", "--number_ios=99", "--name=two", "--stonewall")
    more = ("--runtime=60", "--time_based", "--name=three", "--stonewall")
    with served("null") as (device, server):
        process = start("bench", device, *options, *more, "--eta=always", "-o", "json")
        assert process.stderr.readline().startswith(b"run 1/1: ")
        server.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"Traceback" not in err
    sentence = err.decode().splitlines()[-1]
    assert f"two ended early: {device} is gone" in sentence
    assert sentence.endswith("not run: three")
    found = json.loads(out)
    assert [job["jobname"] for job in found["jobs"]] == ["one", "two"]
    assert [job["error"] for job in found["jobs"]] == [0, 5]
    assert total(found["jobs"][0]) == 99
    assert total(found["jobs"][1]) > 0
    assert found["pynvme_user"]["failure"].endswith("not run: three")


# --- what is not to be lost, and what is not right ----------------------------------------------


def test_writes_over_a_file_system_want_force(results: Any, fail: Any, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(random.Random(1).randbytes(4 << 20))
    content[:8] = disk_images.luks()[0]
    image.write_bytes(content)
    device = f"qemu:{image}"
    for options in (["--rw=randwrite"], ["--rw=randread", "--name=b", "--rw=trim"]):
        sentence = fail("bench", device, "--number_ios=10", *options)
        assert "carries an encrypted volume (crypto_LUKS): add --force" in sentence
    assert image.read_bytes() == content
    results(device, "--rw=randread", "--number_ios=10")
    results(device, "--rw=randwrite", "--number_ios=10", "--force")
    assert image.read_bytes() != content


def test_blocks_larger_than_the_largest_transfer(results: Any, run: Any, fail: Any) -> None:
    device = "qemu:?size=64M&mdts=5"  # 128 KiB
    options = ("--bs=1m", "--iodepth=4", "--eta=never")
    found = results(device, *options, "--rw=randwrite", "--size=32m", "--verify=crc32c")
    (ours,) = found["pynvme_user"]["jobs"]
    assert (ours["verify"]["blocks"], ours["verify"]["faulty"]) == (65536, 0)
    (job,) = found["jobs"]
    for way in ("read", "write"):
        assert (total(job, way), job[way]["io_bytes"]) == (32, 32 << 20)
        assert job[way]["lat_ns"]["N"] == 32
    lat, slat, clat = (job["write"][f"{kind}_ns"]["mean"] for kind in ("lat", "slat", "clat"))
    assert lat == pytest.approx(slat + clat, abs=2)
    assert job["iodepth_level"]["4"] > 50
    assert job["iodepth_level"]["8"] == job["iodepth_level"]["32"] == 0


def test_verification(results: Any, run: Any, fail: Any, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    device = f"qemu:{image}?size=4M"
    options = ("--rw=randwrite", "--verify=crc32c", "--eta=never", "-o", "json")
    ours = results(device, *options, "--verify_state=state")["pynvme_user"]["jobs"][0]
    assert (ours["verify"]["blocks"], ours["verify"]["faulty"]) == (8192, 0)
    before = image.read_bytes()
    results(device, *options, "--verify_state=state", "--verify-only")
    assert image.read_bytes() == before
    run("write-zeroes", device, "--start-block", 800, "--block-count", 7)
    done = run("bench", device, *options, "--verify_state=state", "--verify_only", code=1)
    sentence = done.stderr.decode().splitlines()[-1]
    assert "verification found 1 fault: stale data at LBA 800: " in sentence
    assert json.loads(done.stdout)["jobs"][0]["error"] == 84  # EILSEQ
    assert "state exists already" in fail("bench", device, *options, "--verify_state=state")


@pytest.mark.kills
def test_a_killed_run_left_what_it_promised(start: Any, results: Any, tmp_path: Path) -> None:
    device = f"qemu:{tmp_path / 'disk.img'}?size=4M"
    options = (device, "--rw=randwrite", "--iodepth=8", "--verify=crc32c", "--verify_state=state")
    process = start("bench", *options, "--time_based", "--runtime=60", "--eta=always")
    assert process.stderr.readline().startswith(b"run 1/1: ")
    process.kill()
    process.communicate()
    found = results(*options, "--verify-only", "--eta=never")["pynvme_user"]["jobs"][0]["verify"]
    assert found["blocks"] > 0
    assert found["faulty"] == 0


def test_failed_ios_set_the_exit_code(run: Any) -> None:
    done = run("bench", BROKEN, "--rw=randread", "--number_ios=20", *SHORT, "-o", "json", code=1)
    assert re.match(r"nvme-user: \d+ I/Os? failed: ", done.stderr.decode().splitlines()[-1])
    found = json.loads(done.stdout)
    assert found["jobs"][0]["total_err"] > 0
    assert not found["pynvme_user"]["ok"]


# --- docs/bench.md ------------------------------------------------------------------------------


def commands() -> list[str]:
    """The runs that the guide shows."""
    lines = (Path(__file__).parents[2] / "docs" / "bench.md").read_text().splitlines()
    return [line for line in lines if re.match("nvme-user bench (?!compare|merge)", line)]


def test_the_guide_shows_commands() -> None:
    assert len(commands()) > 8


@pytest.mark.parametrize("line", commands())
def test_the_guides_commands_are_right(run: Any, tmp_path: Path, line: str) -> None:
    (tmp_path / "job.fio").write_text("[a]\nrw=read\n")
    (tmp_path / "trace.log").write_text("fio version 3 iolog\n0 nvme add\n1 nvme read 0 4096\n")
    words, _, _ = line.partition(" > ")
    run(*shlex.split(words)[1:], "--parse-only")
