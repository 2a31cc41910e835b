"""JSON in fio's schema: against fio itself, and read by fio's own tools and by fio-plot."""

import json
import re
import shutil
import subprocess

import fio_plot
import numpy as np
import pytest
from bench_samples import job_of, run_of, sweep_of
from fio_keys import leaves, reasons

from pynvme_user.bench.results.fio_json import ADDED, FORMAT_VERSION, LEFT_OUT, document, points
from pynvme_user.bench.results.result import (
    Histogram,
    LatencyTarget,
    SteadyState,
    VerifyFault,
    VerifyResult,
)
from pynvme_user.workload.direction import Direction

FIO = shutil.which("fio")
CLAT2CSV = shutil.which("fio_jsonplus_clat2csv")

without_fio = pytest.mark.skipif(FIO is None, reason="fio is not installed")

# Jobs with unlike traits: synchronous and not, one direction and two, flushes, a text.
FIO_JOB = """
[global]
filename={file}
size=2m
time_based
runtime=1
[mixed]
rw=randrw
bs=4k
ioengine=psync
fsync=16
[reads]
stonewall
ioengine=libaio
iodepth=4
description=with a text
"""


@without_fio
def test_the_keys_under_jobs_are_fios(like_fio, tmp_path):
    job_file = tmp_path / "job.fio"
    job_file.write_text(FIO_JOB.format(file=tmp_path / "data"))
    done = subprocess.run(
        [FIO, "--output-format=json+", str(job_file)], capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    ours = document(like_fio, bins=True)
    # The kernel's counters of a device that the kernel does not have cannot be written.
    assert set(theirs) - set(ours) <= {"disk_util"}
    assert set(ours) - set(theirs) == {"pynvme_user"}
    used = set()
    for their_job, our_job in zip(theirs["jobs"], ours["jobs"], strict=True):
        their_keys, our_keys = dict(leaves(their_job)), dict(leaves(our_job))
        added = [key for key in our_keys if key not in their_keys]
        left_out = [key for key in their_keys if key not in our_keys]
        assert [key for key in added if not reasons(key, ADDED)] == []
        assert [key for key in left_out if not reasons(key, LEFT_OUT)] == []
        used |= {pattern for key in added for pattern in reasons(key, ADDED)}
        used |= {pattern for key in left_out for pattern in reasons(key, LEFT_OUT)}
        # In the same order, and of the same JSON type.
        common = [key for key in our_keys if key in their_keys]
        assert common == [key for key in their_keys if key in our_keys]
        assert {key: our_keys[key] for key in common} == {key: their_keys[key] for key in common}
    # The tables name no difference that is none.
    assert used == {*ADDED, *LEFT_OUT}


@pytest.mark.skipif(CLAT2CSV is None, reason="fio_jsonplus_clat2csv is not installed")
def test_fio_jsonplus_clat2csv_reads_it(like_fio, tmp_path):
    source = tmp_path / "out.json"
    source.write_text(json.dumps(document(like_fio, bins=True)))
    command = [CLAT2CSV, str(source), str(tmp_path / "out.csv")]
    subprocess.run(command, check=True, capture_output=True)
    checked = subprocess.run([*command, "--validate"], check=True, capture_output=True, text=True)
    assert checked.stdout.count("validated") == 2
    rows = [line.split(", ") for line in (tmp_path / "out_job1.csv").read_text().splitlines()[1:]]
    clat, lat = like_fio.jobs[1].directions[0].clat, like_fio.jobs[1].directions[0].lat
    assert sum(int(row[4]) for row in rows if row[4].strip()) == clat.count
    assert len(rows) == np.count_nonzero(clat.counts | lat.counts)


@fio_plot.needed
@pytest.mark.parametrize(
    ("graph", "options"),
    [
        ("bars over queue depth", ["-l", "-d", "1", "2", "4", "8", "-n", "1"]),
        ("bars over jobs", ["-L", "-d", "1", "2", "4", "8", "-n", "1", "-t", "iops"]),
        ("histogram", ["-H", "-d", "4", "-n", "1"]),
    ],
)
def test_fio_plot_draws_it(rng, tmp_path, graph, options):
    sweep = sweep_of(rng, iodepths=(1, 2, 4, 8), seconds=2.0)
    for number_, point in enumerate(points(sweep)):
        (tmp_path / f"{number_}.json").write_text(json.dumps(document(point)))
    fio_plot.draw(tmp_path, "-T", graph, "-r", "randread", *options)


# --- the document itself ------------------------------------------------------------------------


def test_the_values_are_those_of_the_run(like_fio):
    job = like_fio.jobs[0]
    read = job.directions[Direction.READ]
    written = document(like_fio, bins=True)["jobs"][0]["read"]
    assert written["total_ios"] == read.ios
    assert written["io_bytes"] == read.bytes == 4096 * read.ios
    assert written["io_kbytes"] == read.bytes // 1024
    assert written["runtime"] == 1000
    assert written["bw_bytes"] == read.bytes
    assert written["bw"] == read.bytes // 1024
    assert written["iops"] == read.ios
    assert written["clat_ns"]["N"] == read.ios == sum(written["clat_ns"]["bins"].values())
    assert written["clat_ns"]["mean"] == pytest.approx(read.clat.mean, abs=1e-6)
    assert list(written["clat_ns"]["percentile"])[:2] == ["1.000000", "5.000000"]
    assert written["clat_ns"]["percentile"]["99.999900"] == read.clat.percentile(99.9999)
    assert written["bw_samples"] == written["iops_samples"] == 2
    assert written["iops_min"] <= written["iops_mean"] <= written["iops_max"]
    assert written["iops_mean"] == pytest.approx(read.ios, rel=0.01)
    assert written["bw_mean"] == pytest.approx(written["bw"], rel=0.01)


def test_no_number_is_a_string_and_it_is_all_json(like_fio):
    text = json.dumps(document(like_fio, bins=True), allow_nan=False)
    read_back = json.loads(text)
    for job in read_back["jobs"]:
        job.pop("job options")  # as written by the user, as fio has them
        numbers = [value for value in strings(job) if re.fullmatch(r"[\d.]+", value)]
        assert numbers == []
    ours = read_back["pynvme_user"]
    assert [value for value in strings(ours["jobs"]) if value.isdigit()] == []
    assert ours["format_version"] == FORMAT_VERSION


def strings(tree):
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)


def test_keys_do_not_depend_on_what_happened(rng):
    """A job in which nothing happened has the keys that all have."""
    empty = job_of(rng, seconds=1)
    empty.directions = tuple(type(d)() for d in empty.directions)
    empty.runtime_ns = 0
    busy = dict(leaves(document(run_of(job_of(rng, seconds=1)))["jobs"][0]))
    idle = dict(leaves(document(run_of(empty))["jobs"][0]))
    gone = {key for key in busy if key not in idle}
    assert all(".percentile" in key for key in gone)
    ours = [document(run_of(job))["pynvme_user"]["jobs"][0] for job in (empty, job_of(rng))]
    assert list(ours[0]) == list(ours[1])
    assert list(ours[0]["per_io"]) == list(ours[1]["per_io"])


def test_latency_classes_add_up_and_hold_what_they_say(rng):
    job = job_of(rng, seconds=1)
    clat = np.array([1, 3, 300, 1500, 60_000, 60_001, 3_000_000, 5_000_000_000], dtype=np.uint64)
    job.directions[0].clat = Histogram.of(clat)
    written = document(run_of(job))["jobs"][0]
    share = 100 / 8
    assert written["latency_ns"]["2"] == share
    assert written["latency_ns"]["4"] == share
    assert written["latency_ns"]["500"] == share
    assert written["latency_us"]["2"] == share
    assert written["latency_us"]["100"] == 2 * share
    assert written["latency_ms"]["4"] == share
    assert written["latency_ms"][">=2000"] == share
    total = sum(sum(written[f"latency_{unit}"].values()) for unit in ("ns", "us", "ms"))
    assert total == pytest.approx(100)


@pytest.mark.parametrize(
    ("rw", "bs"),
    [
        ("read", "512"),
        ("randread", "512"),
        ("trimwrite", "4096"),
        ("zone-append", "4096"),
        ("randtrim", "8192-16384"),
    ],
)
def test_the_four_options_that_fio_plot_sorts_by(rng, rw, bs):
    job = job_of(rng, seconds=1, rw=rw, options={"iodepth": "0x8"})
    job.block_sizes = ((512, 512), (4096, 4096), (8192, 16384))
    (written,) = document(run_of(job, global_options={"numjobs": "3"}))["jobs"]
    # What was written stays as it was, and fio-plot takes the global ones over the job's.
    assert written["job options"] == {"iodepth": "0x8", "rw": rw, "bs": bs}


def test_depths_are_percent(rng):
    job = job_of(rng, iodepth=8, seconds=1)
    job.depths.level[:] = [1, 0, 0, 99_999, 0, 0, 0]
    written = document(run_of(job))["jobs"][0]
    assert written["iodepth_level"]["8"] == pytest.approx(99.999)
    assert written["iodepth_level"]["1"] == 0.1  # there at all, and so not written as nothing
    assert list(written["iodepth_submit"]) == ["0", "4", "8", "16", "32", "64", ">=64"]


def test_errors_are_told(rng):
    failing = job_of(rng, seconds=1, errors={0x281: 3}, error_names={0x281: "Read Error"})
    failing.directions[0].failed = 3
    fault = VerifyFault("torn write", 77, "LBA 77 is torn")
    spoilt = job_of(rng, seconds=1, verify=VerifyResult("crc32c", 100, 1, [fault]))
    run = run_of(failing, spoilt, job_of(rng, seconds=1))
    written = document(run)
    assert [job["error"] for job in written["jobs"]] == [5, 84, 0]
    assert written["jobs"][0]["total_err"] == 3
    ours = written["pynvme_user"]
    assert not ours["ok"]
    assert ours["jobs"][0]["failed"] == {"read": 3, "write": 0, "trim": 0}
    assert ours["jobs"][0]["errors"] == [{"status": 0x281, "name": "Read Error", "ios": 3}]
    assert ours["jobs"][1]["verify"]["faults"][0]["lba"] == 77


def test_what_one_io_cost(rng):
    job = job_of(rng, seconds=1)
    costs = document(run_of(job))["pynvme_user"]["jobs"][0]["per_io"]
    assert costs["submit_ns"] == pytest.approx(60 / 2.5)
    assert costs["complete_ns"] == pytest.approx(130 / 2.5)
    assert costs["mmio_writes"] == pytest.approx(0.75, rel=0.01)
    assert costs["submit_instructions"] is None
    job.costs.ticks_per_second = None
    assert document(run_of(job))["pynvme_user"]["jobs"][0]["per_io"]["submit_ns"] is None


def test_steady_state_and_latency_target(rng):
    state = SteadyState("iops", 0.3, True, 10.0, True, 0.21, 12.5, 0.0, [4 << 20] * 10, [1024] * 10)
    job = job_of(rng, seconds=1, steady_state=state)
    job.latency_target = LatencyTarget(500_000, 5000, 99.9, 13, True)
    written = document(run_of(job))["jobs"][0]
    assert written["steadystate"] == {
        "ss": "iops:0.300000%",
        "duration": 10,
        "attained": 1,
        "criterion": "0.210000%",
        "max_deviation": 12.5,
        "slope": 0.0,
        "data": {
            "bw_mean": 4 << 20,
            "iops_mean": 1024,
            "iops": [1024] * 10,
            "bw": [4 << 20] * 10,
        },
    }
    assert (written["latency_depth"], written["latency_target"]) == (13, 500_000)
    assert (written["latency_percentile"], written["latency_window"]) == (99.9, 5000)


def test_a_sweep_is_one_document_or_one_for_each_point(rng):
    sweep = sweep_of(rng, iodepths=(1, 4), sizes=(512, 4096), seconds=1.0)
    ours = document(sweep)["pynvme_user"]["jobs"]
    assert [job["point"] for job in ours] == [
        {"bs": 512, "iodepth": 1},
        {"bs": 512, "iodepth": 4},
        {"bs": 4096, "iodepth": 1},
        {"bs": 4096, "iodepth": 4},
    ]
    assert [len(point.jobs) for point in points(sweep)] == [1, 1, 1, 1]
