"""Logs over time: their format, and fio's tools and HdrHistogram's library reading them."""

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fio_plot
import numpy as np
import pytest
from bench_samples import STARTED, job_of, run_of

from pynvme_user.bench.results import fio_logs
from pynvme_user.bench.results.fio_logs import LogStyle
from pynvme_user.bench.results.hdr import encode, write_hdr_log
from pynvme_user.bench.results.result import Histogram, bucket_of
from pynvme_user.bench.results.timeseries import course
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import BUCKETS

FIO = shutil.which("fio")
FIO2GNUPLOT = shutil.which("fio2gnuplot")
# Debian ships these as documentation, compressed.
FIO_DOC = Path("/usr/share/doc/fio")


@pytest.fixture
def job():
    rates = {Direction.READ: 3000.0, Direction.WRITE: 800.0}
    return job_of(np.random.default_rng(1), rw="randrw", seconds=4, rates=rates)


def fio_tool(name, folder):
    packed = FIO_DOC / f"{name}.gz"
    if not packed.exists():
        pytest.skip(f"{packed} is not there: fio's package or its documentation is not installed")
    script = folder / name
    script.write_bytes(gzip.decompress(packed.read_bytes()))
    return script


def read_log(path):
    return [[int(cell) for cell in line.split(", ")] for line in path.read_text().splitlines()]


def test_averaged_logs(job, tmp_path):
    prefix = str(tmp_path / "out")
    paths = [
        *fio_logs.write_bw_log(job, prefix, LogStyle(1000)),
        *fio_logs.write_iops_log(job, prefix, LogStyle(1000)),
        *fio_logs.write_lat_log(job, prefix, LogStyle(1000)),
    ]
    names = ["out_bw.1.log", "out_iops.1.log", "out_slat.1.log", "out_clat.1.log", "out_lat.1.log"]
    assert [path.name for path in paths] == names
    rates = [course(job.directions[way].samples, 1000) for way in (0, 1)]
    values = {"bw": "bytes_per_second", "iops": "iops", "lat": "lat_ns", "slat": "slat_ns"}
    for path in paths:
        rows = read_log(path)
        assert [row[0] for row in rows] == [1000, 1000, 2000, 2000, 3000, 3000, 4000, 4000]
        assert [row[2] for row in rows] == [0, 1] * 4
        assert {tuple(row[3:]) for row in rows} == {(0, 0)}
        kind = path.name.removeprefix("out_").removesuffix(".1.log")
        if kind in values:
            for way in (0, 1):
                wanted = getattr(rates[way], values[kind]) / (1024 if kind == "bw" else 1)
                assert [row[1] for row in rows if row[2] == way] == np.rint(wanted).tolist()


def test_logs_of_each_io(job, tmp_path):
    (path,) = (p for p in fio_logs.write_lat_log(job, str(tmp_path / "out")) if "_clat" in p.name)
    rows = read_log(path)
    assert len(rows) == len(job.io_log)
    assert [row[1] for row in rows] == job.io_log["clat"].tolist()
    assert [row[0] for row in rows] == (job.io_log["end_ns"] // 1_000_000).tolist()
    assert {row[3] for row in rows} == {4096}
    (bandwidth,) = fio_logs.write_bw_log(job, str(tmp_path / "out"))
    first = job.io_log[0]
    assert read_log(bandwidth)[0][1] == round(4096 / 1024 / (int(first["lat"]) / 1e9))
    (iops,) = fio_logs.write_iops_log(job, str(tmp_path / "out"))
    assert {row[1] for row in read_log(iops)} == {1}


def test_no_log_of_each_io_was_kept(job, tmp_path):
    job.io_log = None
    with pytest.raises(ValueError, match="set log_avg_msec"):
        fio_logs.write_bw_log(job, str(tmp_path / "out"))


@pytest.mark.skipif(FIO is None, reason="fio is not installed")
def test_the_lines_look_like_fios(job, tmp_path):
    command = [FIO, "--name=j", f"--filename={tmp_path / 'data'}", "--size=1m", "--rw=randrw"]
    command += ["--time_based", "--runtime=1", "--log_avg_msec=250", "--log_hist_msec=250"]
    command += [
        f"--write_{kind}_log={tmp_path / 'theirs'}" for kind in ("bw", "lat", "iops", "hist")
    ]
    subprocess.run(command, check=True, capture_output=True)
    prefix = str(tmp_path / "ours")
    fio_logs.write_bw_log(job, prefix, LogStyle(250))
    fio_logs.write_iops_log(job, prefix, LogStyle(250))
    fio_logs.write_lat_log(job, prefix, LogStyle(250))
    fio_logs.write_hist_log(job, prefix)

    def shape(line):
        return re.sub(r"\d+", "1", line)

    theirs = {path.name.removeprefix("theirs"): path for path in tmp_path.glob("theirs*")}
    ours = {path.name.removeprefix("ours"): path for path in tmp_path.glob("ours*")}
    assert theirs.keys() == ours.keys()
    for name, path in theirs.items():
        shapes = {shape(line) for line in path.read_text().splitlines()}
        if shapes:  # fio leaves some empty when it logs a synchronous job
            assert {shape(line) for line in ours[name].read_text().splitlines()} == shapes


def test_histogram_logs_hold_every_io(job, tmp_path):
    (path,) = fio_logs.write_hist_log(job, str(tmp_path / "out"))
    assert path.name == "out_clat_hist.1.log"
    rows = read_log(path)
    assert {len(row) for row in rows} == {3 + BUCKETS}
    for way in (0, 1):
        counted = np.sum([row[3:] for row in rows if row[1] == way], axis=0)
        assert (counted == job.directions[way].clat.counts).all()


def test_offsets_and_the_time_of_day(job, tmp_path):
    style = LogStyle(log_offset=True, epoch_ms=1_790_000_000_000)
    (path,) = fio_logs.write_bw_log(job, str(tmp_path / "out"), style)
    first, io = read_log(path)[0], job.io_log[0]
    assert first[0] == int(io["end_ns"]) // 1_000_000 + 1_790_000_000_000
    assert first[2:] == [int(io["direction"]), 4096, int(io["offset"]), 0]


def test_all_jobs_in_one_log(job, tmp_path):
    for _ in range(2):
        (path,) = fio_logs.write_iops_log(
            job, str(tmp_path / "out"), LogStyle(1000, per_job_logs=False)
        )
    assert path.name == "out_iops.log"
    assert len(read_log(path)) == 16


def test_coarse_histograms(job, tmp_path):
    (path,) = fio_logs.write_hist_log(job, str(tmp_path / "out"), LogStyle(log_hist_coarseness=3))
    rows = read_log(path)
    assert {len(row) for row in rows} == {3 + BUCKETS // 8}
    counted = np.sum([row[3:] for row in rows if row[1] == 0], axis=0)
    assert (counted == job.directions[0].clat.counts.reshape(-1, 8).sum(axis=1)).all()


# --- read by others -----------------------------------------------------------------------------


@pytest.mark.skipif(FIO is None, reason="fio is not installed")
def test_fiologparser_reads_them(tmp_path):
    def parsed(log):
        return subprocess.run(
            [sys.executable, tool, "-s", log], check=False, capture_output=True, text=True
        )

    tool = fio_tool("fiologparser.py", tmp_path)
    command = [FIO, "--name=j", f"--filename={tmp_path / 'data'}", "--size=1m", "--time_based"]
    command += ["--runtime=1", "--log_avg_msec=250", f"--write_iops_log={tmp_path / 'theirs'}"]
    subprocess.run(command, check=True, capture_output=True)
    if parsed(tmp_path / "theirs_iops.1.log").returncode:
        pytest.skip("this fiologparser.py does not read the logs of its own fio: too many columns")
    job = job_of(np.random.default_rng(2), seconds=4)
    (path,) = fio_logs.write_iops_log(job, str(tmp_path / "out"), LogStyle(500))
    done = parsed(path)
    assert done.returncode == 0, done.stderr
    rows = [line.split(", ") for line in done.stdout.splitlines()]
    assert [int(end) for end, _ in rows] == [1000, 2000, 3000, 4000]
    assert all(float(value) == pytest.approx(4000, rel=0.1) for _, value in rows)


def test_fio_histo_log_pctiles_reads_them(job, tmp_path):
    tool = fio_tool("fio-histo-log-pctiles.py", tmp_path)
    (path,) = fio_logs.write_hist_log(job, str(tmp_path / "out"))
    command = [sys.executable, tool, "--fio-version", "3", "--output-unit", "usec"]
    command += ["--percentiles", "50", "99", "--log-hist-msec", "1000", "--", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # Columns: end of the interval, samples, the percentiles; the first line is one of zeros.
    lines = [line.split(",") for line in done.stdout.splitlines() if re.match(r" *[1-9]\d*,", line)]
    rows = [[float(cell) for cell in line] for line in lines]
    assert [row[0] for row in rows] == [1000, 2000, 3000, 4000]
    assert sum(row[1] for row in rows) == pytest.approx(len(job.io_log), abs=8)
    both = Histogram.of(job.io_log["clat"])
    for row in rows:
        assert row[2] == pytest.approx(both.percentile(50.0) / 1000, rel=0.03)
        assert row[3] == pytest.approx(both.percentile(99.0) / 1000, rel=0.3)


@pytest.mark.skipif(FIO2GNUPLOT is None, reason="fio2gnuplot is not installed")
def test_fio2gnuplot_reads_them(job, tmp_path):
    for number in (1, 2):
        job.number = number
        fio_logs.write_bw_log(job, str(tmp_path / "out"), LogStyle(500))
    done = subprocess.run(
        [FIO2GNUPLOT, "-b", "-k"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("fio2gnuplot lacks a Python module of its own: python3-six is not installed")
    assert done.returncode == 0, done.stderr
    averages = re.findall(r"^\d+ ([\d.]+)$", (tmp_path / "result.average").read_text(), re.M)
    assert len(averages) == 2


@fio_plot.needed
@pytest.mark.parametrize("kinds", [["iops"], ["iops", "clat"], ["bw", "iops", "lat"]])
def test_fio_plot_draws_them(job, tmp_path, kinds):
    prefix = str(tmp_path / "randrw-iodepth-8-numjobs-1")
    fio_logs.write_bw_log(job, prefix, LogStyle(500))
    fio_logs.write_iops_log(job, prefix, LogStyle(500))
    fio_logs.write_lat_log(job, prefix, LogStyle(500))
    which = ["-d", "8", "-n", "1", "-t", *kinds]
    fio_plot.draw(tmp_path, "-T", "logs", "-g", "-r", "randrw", *which)


# --- HdrHistogram -------------------------------------------------------------------------------


def test_the_hdr_log_is_read_back_by_hdrhistogram(job, tmp_path):
    log = pytest.importorskip("hdrh.log", reason="hdrhistogram is not installed")
    histogram = pytest.importorskip("hdrh.histogram")
    job.start_ns = 2_500_000_000
    path = tmp_path / "out.hlog"
    job.name = "a job, with a comma"
    write_hdr_log(run_of(job), path)
    reader = log.HistogramLogReader(str(path), histogram.HdrHistogram(1, 1 << 36, 2))
    found = {"read": [], "write": []}
    while one := reader.get_next_interval_histogram():
        name, way = one.get_tag().rsplit(".", 1)
        assert name == "a_job__with_a_comma"
        found[way].append(one)
    reader.close()
    assert reader.get_start_time_sec() == STARTED
    for way, ones in zip((Direction.READ, Direction.WRITE), found.values(), strict=True):
        assert len(ones) == 4
        starts = [one.get_start_time_stamp() / 1000 - STARTED for one in ones]
        assert starts == pytest.approx([2.5, 3.5, 4.5, 5.5])
        lat = job.directions[way].lat
        assert sum(one.get_total_count() for one in ones) == lat.count
        together = ones[0]
        for one in ones[1:]:
            together.add(one)
        for share in (1.0, 50.0, 99.0, 99.9, 100.0):
            value = together.get_value_at_percentile(share)
            assert abs(int(bucket_of(value)) - int(bucket_of(lat.percentile(share)))) <= 1
        assert together.get_mean_value() == pytest.approx(lat.mean, rel=1 / 64)


def test_every_bucket_survives_hdrhistogram():
    """Each of our buckets comes back as one value of its own, with its count."""
    histogram = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")
    counts = np.zeros(BUCKETS, dtype=np.uint64)
    counts[1:] = np.arange(1, BUCKETS) ** 5 + 1
    decoded = histogram.HdrHistogram.decode(encode(counts))
    found = {}
    for item in decoded.get_recorded_iterator():
        bucket = int(bucket_of(item.value_iterated_to))
        assert bucket not in found
        found[bucket] = item.count_at_value_iterated_to
    assert found == {bucket: int(count) for bucket, count in enumerate(counts) if count}


def test_an_interval_without_ios():
    histogram = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")
    decoded = histogram.HdrHistogram.decode(encode(np.zeros(BUCKETS, dtype=np.uint64)))
    assert decoded.get_total_count() == 0
