"""JSON in fio's schema: against fio itself, and read by fio's own tools and by fio-plot."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import fio_plot
import numpy as np
import pytest
from bench_samples import job_of, run_of, sweep_of
from fio_keys import leaves, reasons

from pynvme_user.bench.fio_json import ADDED, FORMAT_VERSION, LEFT_OUT, document, points
from pynvme_user.bench.merge import combine
from pynvme_user.bench.result import (
    PERCENTILES,
    Direction,
    Histogram,
    LatencyTarget,
    SteadyState,
    VerifyFault,
    VerifyResult,
)
from pynvme_user.bench.summary import number, summary
from pynvme_user.bench.terse import VERSIONS, terse

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


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def like_fio(rng):
    mixed = job_of(
        rng,
        name="mixed",
        rw="randrw",
        seconds=1,
        iodepth=1,
        rates={Direction.READ: 4000, Direction.WRITE: 4000},
        options={"rw": "randrw", "bs": "4k", "ioengine": "psync", "fsync": "16"},
        flush=Histogram.of(rng.integers(10**5, 10**6, 250)),
    )
    mixed.directions[0].slat = Histogram()
    mixed.directions[1].slat = Histogram()
    mixed.directions[0].failed = 1
    reads = job_of(
        rng,
        name="reads",
        rw="read",
        seconds=1,
        iodepth=4,
        number=2,
        group=1,
        rates={Direction.READ: 9000},
        options={"ioengine": "libaio", "iodepth": "4", "description": "with a text"},
        description="with a text",
    )
    return run_of(mixed, reads, global_options={"filename": "x", "size": "2m", "runtime": "1"})


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
    clat = like_fio.jobs[1].directions[0].clat
    assert sum(int(row[4]) for row in rows if row[4].strip()) == clat.count
    assert len(rows) == np.count_nonzero(clat.counts)


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


# --- the summary as text ------------------------------------------------------------------------


def test_the_summary_has_fios_lines(like_fio):
    text = "\n".join(summary(like_fio))
    for pattern in (
        r"^mixed: \(groupid=0, jobs=1\): err= 5: pid=4711: ",
        r"^  Description  : \[with a text\]$",
        r"^  read: IOPS=40\d\d, BW=15\.\dMiB/s \(16\.\dMB/s\)\(15\.\dMiB/1000msec\)$",
        r"^    clat \(usec\): min=\d+, max=\d+, avg=[ \d.]+, stdev=[ \d.]+$",
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
    run = run_of(job, warnings=["the device is throttling"], interrupted=True)
    text = "\n".join(summary(run))
    end = text[text.index("Interrupted") :]
    assert "Warning: the device is throttling" in end
    assert "3 I/Os failed: 3 x Unrecovered Read Error (SCT 0x2, SC 0x81)" in end
    assert "LBA 9: lost write: generation 3 expected at 9" in end
    assert "LBA 10" not in end
    assert end.endswith("and 30 more")


def test_a_sweep_is_a_table(rng):
    lines = list(summary(sweep_of(rng, iodepths=(1, 2), sizes=(512, 131072), seconds=1.0)))
    columns = "bs iodepth IOPS BW mean p50 p99 p99.9 max failed"
    assert lines[0].split() == columns.split()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["512", "1", "read"],
        ["512", "2", "read"],
        ["128k", "1", "read"],
        ["128k", "2", "read"],
    ]
    assert len({len(line) for line in lines}) == 1


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


def test_other_units_in_the_summary(rng):
    job = job_of(rng, seconds=1, significant_figures=6, unit_base=1, kb_base=1000)
    text = "\n".join(summary(run_of(job)))
    iops = job.directions[0].iops
    assert f"IOPS={iops:.0f}, BW={iops * 4096 * 8 / 1e6:.2f}Mbit/s (" in text
    assert re.search(r"^   bw \(Kibit/s\): min=1\d{5}, ", text, re.M)
    assert re.search(r"^   READ: bw=1\d\d\.\d\dMbit/s \(12\d\.\d\dMibit/s\), ", text, re.M)


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


# --- terse --------------------------------------------------------------------------------------


def kinds_of(line: str) -> list[str]:
    """What each field of a terse line is; a percentile by its name, without fio's empty ones."""
    kinds = []
    for field in line.split(";"):
        if re.fullmatch(r"[\d.]+%=\d+", field):
            kinds.append("percentile")
        elif re.fullmatch(r"-?\d+", field):
            kinds.append("integer")
        else:
            digits = re.fullmatch(r"\d+\.(\d+)(%?)", field)
            kinds.append(f"{len(digits[1])} decimals{digits[2]}" if digits else "text")
    return kinds


@without_fio
@pytest.mark.parametrize("layout", VERSIONS)
@pytest.mark.parametrize("unified", ["none", "mixed", "both"])
def test_terse_has_fio_s_fields_in_fio_s_order(tmp_path, rng, layout, unified):
    options = ["--name=one", "--rw=randrw", "--size=1m", f"--filename={tmp_path / 'file'}"]
    options += [f"--unified_rw_reporting={unified}", "--disk_util=0", "--description=two words"]
    options += ["--minimal", f"--terse-version={layout}", "--continue_on_error=all"]
    fio = subprocess.run([FIO, *options], capture_output=True, text=True, check=True, cwd=tmp_path)
    job = job_of(rng, name="one", rw="randrw", description="two words")
    job = replace(job, unified_rw_reporting=unified, options={"continue_on_error": "all"})
    (line,) = terse(run_of(job), layout)
    theirs, ours = fio.stdout.strip(), line
    assert kinds_of(ours) == kinds_of(theirs)
    assert ours.split(";")[0] == theirs.split(";")[0] == str(layout)
    assert ours.split(";")[2:5] == theirs.split(";")[2:5] == ["one", "0", "0"]
    assert ours.split(";")[-3:] == theirs.split(";")[-3:] == ["0", "0", "two words"]


def test_terse_has_the_values_of_the_json(rng):
    run = run_of(job_of(rng, rw="randrw"))
    (line,) = terse(run)
    fields = line.split(";")
    (job,) = document(run)["jobs"]
    for at, name in ((5, "read"), (46, "write")):
        found = job[name]
        assert [int(text) for text in fields[at : at + 4]] == [
            *(found["io_kbytes"], found["bw"], int(found["iops"]), found["runtime"])
        ]
        for place, kind in ((at + 4, "slat_ns"), (at + 8, "clat_ns"), (at + 32, "lat_ns")):
            latency = found[kind]
            assert int(fields[place]) == latency["min"] // 1000
            assert int(fields[place + 1]) == latency["max"] // 1000
            assert float(fields[place + 2]) == pytest.approx(latency["mean"] / 1000, abs=1e-5)
            assert float(fields[place + 3]) == pytest.approx(latency["stddev"] / 1000, abs=1e-5)
        without = dict.fromkeys((f"{share:f}" for share in PERCENTILES), 0)
        shares = found["clat_ns"].get("percentile", without)
        wanted = [f"{share}%={value // 1000}" for share, value in shares.items()]
        assert fields[at + 12 : at + 32] == [*wanted, *["0%=0"] * (20 - len(wanted))]
        assert float(fields[at + 39]) == pytest.approx(found["bw_mean"], abs=1e-5)
    assert fields[87] == f"{job['usr_cpu']:f}%"
    assert fields[92:99] == [f"{share:.1f}%" for share in job["iodepth_level"].values()]
    assert float(fields[99].rstrip("%")) == pytest.approx(
        sum(job["latency_ns"].values()) + job["latency_us"]["2"], abs=0.006
    )
    assert fields[109:121] == [f"{share:.2f}%" for share in job["latency_ms"].values()]
    assert len(fields) == 121
