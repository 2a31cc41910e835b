"""The summary as text, with fio's lines."""

import json
import re
import shutil
import signal
import subprocess
from dataclasses import replace

import pytest
from bench_samples import job_of, run_of, sweep_of

from pynvme_user.bench.results.aggregate import combine
from pynvme_user.bench.results.fio_json import document
from pynvme_user.bench.results.result import VerifyFault, VerifyResult
from pynvme_user.bench.results.terse import terse
from pynvme_user.bench.results.text import number, summary
from pynvme_user.workload.direction import Direction

FIO = shutil.which("fio")

without_fio = pytest.mark.skipif(FIO is None, reason="fio is not installed")


def test_the_summary_has_fios_lines(like_fio):
    text = "\n".join(summary(like_fio))
    for pattern in (
        r"^mixed: \(groupid=0, jobs=1\): err= 5: pid=4711: ",
        r"^  Description  : \[with a text\]$",
        r"^  read: IOPS=40\d\d, BW=15\.\dMiB/s \(16\.\dMB/s\)\(15\.\dMiB/1000msec\)$",
        r"^    clat \(usec\): min=\d+, max=\d+, avg=[ \d.]+, stdev=[ \d.]+$",
        r"^    lat percentiles \(usec\):$",
        r"^    clat percentiles \(usec\):$",
        r"^     \|    1\.00th=\[ +\d+\],    5\.00th=\[",
        r" 99\.9999th=\[ +\d+\]$",
        r"^   bw \(  KiB/s\): min=\d+, max=\d+, per=100\.00%, avg=[\d.]+, stdev=[\d. ]+, ",
        r"^   iops        : min= ?\d+, max= ?\d+, avg=[\d.]+, stdev=[\d. ]+, samples=2$",
        r"^  lat \(usec\)   : .*100=8\d\.\d\d%",
        r"^  cpu          : usr=97\.00%, sys=2\.00%, ctx=12, majf=0, minf=3$",
        r"^  IO depths    : 1=100\.0%, 2=0\.0%, ",
        r"^     submit    : 0=0\.0%, 4=100\.0%, ",
        r"^     issued rwts: total=\d+,\d+,0,250 short=0,0,0,0 dropped=0,0,0,0$",
        r"^  driver per IO: submit=\d+ ns, complete=\d+ ns, MMIO writes=0\.\d+, MMIO reads=0, ",
        r"^Run status group 1 \(all jobs\):$",
        r"^   READ: bw=35\.\dMiB/s \(37\.\dMB/s\), 35\.\dMiB/s-35\.\dMiB/s .*run=1000-1000msec$",
    ):
        assert re.search(pattern, text, re.MULTILINE), f"{pattern}\n{text}"


def test_the_summary_ends_with_what_went_wrong(rng):
    faults = [
        VerifyFault("lost write", lba, f"generation 3 expected at {lba}") for lba in range(12)
    ]
    job = job_of(
        rng,
        seconds=1,
        errors={0x281: 3},
        error_names={0x281: "Unrecovered Read Error"},
        verify=VerifyResult("crc32c", 500, 40, faults),
    )
    run = run_of(job, warnings=["the device is throttling"], signal=signal.SIGINT)
    text = "\n".join(summary(run))
    end = text[text.index("Interrupted") :]
    assert "Warning: the device is throttling" in end
    assert "3 I/Os failed: 3 x Unrecovered Read Error (SCT 0x2, SC 0x81)" in end
    assert "LBA 9: lost write: generation 3 expected at 9" in end
    assert "LBA 10" not in end
    assert end.endswith("and 30 more")


def test_a_run_shorter_than_a_millisecond_has_its_rate_everywhere(rng):
    job = job_of(rng, seconds=1)
    job.runtime_ns = 245_600
    read, *others = job.directions
    short = {"ios": 2, "bytes": 8192, "runtime_ns": 245_600, "samples": read.samples[:0]}
    job.directions = (replace(read, **short), *others)
    exact = 2e9 / 245_600
    written = document(run_of(job))
    assert written["jobs"][0]["read"]["iops"] == pytest.approx(exact)
    assert written["jobs"][0]["read"]["bw_bytes"] == int(4096 * exact)
    # As fio has it: rounded up.
    assert written["jobs"][0]["read"]["runtime"] == written["jobs"][0]["job_runtime"] == 1
    assert written["pynvme_user"]["jobs"][0]["runtime_ms"] == 1
    (line,) = terse(run_of(job))
    assert line.split(";")[5:9] == ["8", str(int(4 * exact)), str(int(exact)), "1"]
    text = "\n".join(summary(run_of(job)))
    assert f"read: IOPS={round(exact)}, BW=" in text
    assert "(8192B/1msec)" in text
    assert "run=1-1msec" in text


def test_the_total_latency_leads(rng):
    """In text, the sweep's table and the comparison; JSON has the percentiles of both."""
    job = job_of(rng, seconds=1)
    text = "\n".join(summary(run_of(job)))
    places = [text.index(f"\n    {name} (") for name in (" lat", "slat", "clat")]
    places += [text.index(f"\n    {name} percentiles (") for name in ("lat", "clat")]
    assert places == sorted(places)
    read = document(run_of(job))["jobs"][0]["read"]
    lat = job.directions[0].lat
    assert read["lat_ns"]["percentile"]["99.000000"] == lat.percentile(99)
    assert read["clat_ns"]["percentile"]["99.000000"] == job.directions[0].clat.percentile(99)
    assert "note:" not in text


def test_a_device_that_completes_in_its_doorbell_is_told_of(rng):
    job = job_of(rng, seconds=1)
    read = job.directions[0]
    job.directions = (replace(read, slat=read.clat, clat=read.slat), *job.directions[1:])
    assert "note:" not in "\n".join(summary(run_of(job))), "a real device with a slow doorbell"
    job.device = replace(job.device, emulated=True)
    text = "\n".join(summary(run_of(job)))
    assert "while its doorbell is written" in text
    # Its latencies by class are the total ones, too: none is as short as that clat.
    assert "  lat (nsec)   :" not in text


def test_a_sweep_is_a_table(rng):
    lines = list(summary(sweep_of(rng, iodepths=(1, 2), sizes=(512, 131072), seconds=1.0)))
    columns = "bs iodepth read IOPS BW lat mean p50 p99 p99.9 max"
    assert lines[0].split() == columns.split()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["512", "1"],
        ["512", "2"],
        ["128k", "1"],
        ["128k", "2"],
    ]
    assert len({len(line) for line in lines}) == 1


def many_points(rng, **more):
    """36 points over three axes, as many as there are values for, and ``more`` of one value."""
    jobs = []
    for numjobs in (1, 2, 4):
        part = sweep_of(rng, iodepths=(1, 4, 16, 64), sizes=(512, 4096, 65536), seconds=1.0)
        for job in part.jobs:
            job.point = {**more, "bs": job.point["bs"], "numjobs": numjobs, **job.point}
            jobs.append(job)
    return run_of(*jobs)


def test_the_table_of_a_large_sweep_fits(rng):
    lines = list(summary(many_points(rng)))[:37]
    assert max(map(len, lines)) <= 80
    columns = "bs numjobs iodepth read IOPS BW lat mean p50 p99 p99.9 max"
    assert lines[0].split() == columns.split()
    assert len({len(line) for line in lines}) == 1
    assert max(map(len, list(summary(many_points(rng, rw="randread")))[:37])) <= 100


def test_failures_stay_in_a_table_that_is_made_narrower(rng):
    run = many_points(rng)
    run.jobs[7].directions[0].failed = 3
    lines = list(summary(run))[:37]
    assert lines[0].split()[-1] == "failed"
    assert [line.split()[-1] for line in lines[8:10]] == ["3", "0"]


def test_clones_together_in_the_summary(rng):
    clones = [job_of(rng, seconds=1, number=n) for n in (1, 2, 3)]
    text = "\n".join(summary(run_of(combine(clones))))
    assert "(groupid=0, jobs=3)" in text
    assert "usr=97.00%" in text


def test_directions_together(rng, tmp_path):
    rates = {Direction.READ: 3000.0, Direction.WRITE: 1000.0}
    job = job_of(rng, rw="randrw", seconds=2, rates=rates, unified_rw_reporting="both")
    both = document(run_of(job))["jobs"][0]
    parts = [both["read"], both["write"]]
    for key in ("total_ios", "io_bytes"):
        assert both["mixed"][key] == sum(part[key] for part in parts)
    assert both["mixed"]["iops"] == pytest.approx(sum(part["iops"] for part in parts))
    assert both["mixed"]["iops_mean"] == pytest.approx(sum(part["iops_mean"] for part in parts))
    assert both["mixed"]["bw_agg"] == pytest.approx(100, abs=0.5)
    text = "\n".join(summary(run_of(job)))
    assert re.search(r"^  mixed: IOPS=4\d\d\d, ", text, re.M)
    assert re.search(r"^  MIXED: bw=1[56]\.\dMiB/s ", text, re.M)
    job.unified_rw_reporting = "mixed"
    only = document(run_of(job))["jobs"][0]
    assert [key for key in both if key not in only] == ["read", "write", "trim", "sync"]
    assert "  read:" not in "\n".join(summary(run_of(job)))


@without_fio
@pytest.mark.parametrize("unified", ["mixed", "both"])
def test_the_keys_of_directions_together_are_fios(rng, tmp_path, unified):
    command = [FIO, "--name=randread", f"--filename={tmp_path / 'data'}", "--size=1m"]
    command += ["--rw=randrw", f"--unified_rw_reporting={unified}", "--output-format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    job = job_of(rng, rw="randrw", seconds=1, unified_rw_reporting=unified)
    assert list(document(run_of(job))["jobs"][0]) == list(theirs)


def test_the_intervals_that_spreads_are_over(rng):
    job = job_of(rng, seconds=4, bwavgtime_ms=1000, iopsavgtime_ms=2000)
    written = document(run_of(job))["jobs"][0]["read"]
    assert (written["bw_samples"], written["iops_samples"]) == (4, 2)


@pytest.mark.parametrize(
    ("value", "binary", "written"),
    [
        (0, False, "0"),
        (7758, False, "7758"),
        (14_126, False, "14.1k"),
        (219_400, False, "219k"),
        (1_234_000, False, "1.23M"),
        (999_960, False, "1.00M"),
        (15.7 * 2**20, True, "15.7Mi"),
        (6.69 * 2**20, True, "6.69Mi"),
        (1023 * 2**20, True, "1023Mi"),
        (2.0**70, True, "1048576Pi"),
    ],
)
def test_four_figures(value, binary, written):
    assert number(value, binary=binary) == written


def test_percentiles_of_the_summary_are_rounded_up(rng):
    job = job_of(rng, seconds=1)
    text = "\n".join(summary(run_of(job)))
    shown = re.findall(r"([\d.]+)th=\[ *(\d+)\]", text)
    wanted = job.directions[0].clat.percentiles()
    assert {float(share): int(value) for share, value in shown} == {
        share: -(-value // 1000) for share, value in wanted.items()
    }
