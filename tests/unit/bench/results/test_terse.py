"""fio's line of fields for each job."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from bench_samples import job_of, run_of

from pynvme_user.bench.jobs.terms import PERCENTILES
from pynvme_user.bench.results.fio_json import document
from pynvme_user.bench.results.terse import VERSIONS, terse

FIO = shutil.which("fio")

without_fio = pytest.mark.skipif(FIO is None, reason="fio is not installed")


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
