"""Comparing two results: what is noise has to be called so, and what is not, not."""

import json
import shutil
import subprocess
import warnings
from contextlib import suppress

import numpy as np
import pytest
from bench_samples import DEVICE, job_of, run_of, sweep_of
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.bench.results import hosts
from pynvme_user.bench.results.compare import as_json, compare, failures, load, table
from pynvme_user.bench.results.fio_json import document
from pynvme_user.workload.direction import Direction

FIO = shutil.which("fio")


def result(seed, iops=2000.0, typical=80_000, seconds=10, bins=True, **more):
    rng = np.random.default_rng(seed)
    rates = {Direction.READ: iops}
    run = run_of(job_of(rng, seconds=seconds, rates=rates, typical=typical, **more))
    return json.loads(json.dumps(document(run, bins=bins)))


def by_metric(comparison):
    return {row.metric: row for row in comparison.rows}


def test_a_run_beside_itself_has_no_change():
    one = result(1)
    comparison = compare(one, one)
    # Of the 20,000 I/Os, two are beyond 99.99 %: too few to tell how far that one varies.
    verdicts = {row.metric: row.verdict for row in comparison.rows}
    assert verdicts.pop("lat_ns_99.990000") == "noise unknown"
    assert set(verdicts.values()) == {"within the noise"}
    assert {row.change for row in comparison.rows} == {0.0}
    assert comparison.notes == []


def test_like_runs_are_within_the_noise():
    """Of the verdicts on 40 pairs of unchanged runs, not more than a few may be wrong."""
    runs = [result(seed, seconds=8) for seed in range(2, 22)]
    rows = [
        row
        for n, first in enumerate(runs)
        for second in (runs[n - 1], runs[n - 2])
        for row in compare(first, second).rows
    ]
    wrong = [row for row in rows if row.verdict in ("better", "worse")]
    assert len(rows) > 200
    assert len(wrong) / len(rows) < 0.06, [(row.metric, row.change, row.noise) for row in wrong]


def test_real_changes_are_seen():
    found = by_metric(compare(result(1), result(2, iops=2400.0, typical=110_000)))
    assert found["iops"].verdict == "better"
    assert found["iops"].change == pytest.approx(20, abs=3)
    assert found["bw_bytes"].verdict == "better"
    for metric in ("lat_ns_mean", "lat_ns_50.000000", "lat_ns_99.000000"):
        assert found[metric].verdict == "worse"
        assert found[metric].change > found[metric].noise > 0
    back = by_metric(compare(result(2, iops=2400.0, typical=110_000), result(1)))
    assert back["iops"].verdict == "worse"
    assert back["lat_ns_mean"].verdict == "better"


def test_a_device_that_sways_is_not_called_faster():
    """Rates of neighbouring intervals alike: many samples, but few independent ones."""
    # Ten levels of two seconds each; the second run happens to have the better ones.
    first, second = result(1, seconds=20), result(1, seconds=20)
    rng = np.random.default_rng(3)
    for run, lift in ((first, 1.0), (second, 1.04)):
        samples = run["pynvme_user"]["jobs"][0]["samples"]["read"]
        levels = np.repeat(rng.normal(1000, 150, 10), 4) * lift
        samples["ios"] = levels.astype(int).tolist()
        run["jobs"][0]["read"]["iops"] = float(levels.mean() * 2)
    row = by_metric(compare(first, second))["iops"]
    plain = 2.4 * np.hypot(*[150 / 40**0.5] * 2) / 1000 * 100
    assert row.noise > 1.5 * plain
    assert row.verdict == "within the noise"


def test_percentiles_that_too_few_ios_tell():
    found = by_metric(compare(result(1, iops=300.0), result(2, iops=300.0)))
    assert found["lat_ns_99.990000"].noise is None
    assert found["lat_ns_99.990000"].verdict == "noise unknown"
    assert found["lat_ns_50.000000"].noise > 0


def test_without_bins_or_in_a_short_run_the_noise_is_unknown():
    found = by_metric(compare(result(1, bins=False), result(2, bins=False)))
    assert found["lat_ns_99.000000"].verdict == "noise unknown"
    assert found["iops"].noise is not None
    short = compare(result(1, seconds=2), result(2, seconds=2))
    assert {row.verdict for row in short.rows} == {"noise unknown"}
    assert "noise is unknown" in "\n".join(table(short))


def test_jobs_are_matched_by_name_place_and_clone():
    rng = np.random.default_rng(4)
    first = document(sweep_of(rng, iodepths=(1, 2, 4), seconds=1.0))
    second = document(sweep_of(rng, iodepths=(2, 4, 8), seconds=1.0))
    comparison = compare(first, second)
    assert {row.point["iodepth"] for row in comparison.rows} == {2, 4}
    assert "only in the first: sweep (iodepth=1)" in comparison.notes
    assert "only in the second: sweep (iodepth=8)" in comparison.notes
    clones = document(run_of(*(job_of(rng, seconds=1, number=n) for n in (1, 2))))
    rows = compare(clones, clones).rows
    assert {row.job for row in rows} == {"randread", "randread #2"}
    nothing = compare(first, clones)
    assert nothing.rows == []
    assert "no job in common" in "\n".join(table(nothing))


def test_what_makes_them_less_comparable_is_noted():
    first = result(1, seconds=2)
    second = result(1, seconds=2, iodepth=16)
    ours = second["pynvme_user"]["jobs"][0]
    ours["device"]["firmware"] = "2.0"
    ours["failed"]["read"] = 7
    second["pynvme_user"]["interrupted"] = True
    notes = compare(first, second).notes
    assert "randread: iodepth is 8 in the first and 16 in the second" in notes
    assert (
        f"randread: the device's firmware is {DEVICE.firmware} in the first and 2.0 in the second"
        in notes
    )
    assert "randread: 7 I/Os failed in the second" in notes
    assert "the second run was interrupted" in notes


def test_the_table_and_its_json(tmp_path):
    comparison = compare(result(1), result(2, iops=2400.0))
    lines = list(table(comparison))
    assert lines[0].split() == ["first", "second", "change", "noise"]
    assert lines[1].split()[:3] == ["randread", "read", "IOPS"]
    assert lines[1].endswith("better")
    assert "±" in lines[1]
    written = json.loads(json.dumps(as_json(comparison), allow_nan=False))
    assert written["format_version"] == 1
    row = written["rows"][0]
    columns = "job point direction metric before after change noise verdict result"
    assert list(row) == columns.split()
    assert isinstance(row["before"], float)


def test_files(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(result(1, seconds=1)))
    assert load(path)["jobs"][0]["jobname"] == "randread"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load(path)
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="has no jobs"):
        load(path)


@pytest.mark.skipif(FIO is None, reason="fio is not installed")
def test_with_fios_own_json(tmp_path):
    command = [FIO, "--name=randread", f"--filename={tmp_path / 'data'}", "--size=1m"]
    command += ["--rw=randread", "--time_based", "--runtime=1", "--output-format=json+"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    found = by_metric(compare(theirs, result(1, seconds=1)))
    assert found["iops"].before == theirs["jobs"][0]["read"]["iops"]
    assert found["iops"].noise is None
    theirs["jobs"][0]["read"] |= {"iops_samples": 16, "iops_stddev": 40.0}
    found = by_metric(compare(theirs, result(1)))
    assert found["iops"].noise > 0


# --- repeats, more than two results, and what CI makes of them ------------------------------------


def repeats(seed, *iops):
    """Make a result of one run for each rate."""
    jobs = [
        job_of(
            np.random.default_rng(seed + n),
            seconds=5,
            rates={Direction.READ: rate},
            point={"repeat": n},
            number=n,
        )
        for n, rate in enumerate(iops, 1)
    ]
    return json.loads(json.dumps(document(run_of(*jobs), bins=True)))


def test_the_noise_is_that_of_the_repeats():
    """Runs differ by 10 % from one to the next, of which nothing is seen inside of each."""
    first = repeats(1, 2000, 2200, 1900, 2100, 1800)
    second = repeats(11, 2150, 1850, 2250, 2050, 1950)
    (row,) = (row for row in compare(first, second).rows if row.metric == "iops")
    a, b = (np.array([job["read"]["iops"] for job in run["jobs"]]) for run in (first, second))
    assert (row.before, row.after) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    # Student's t of eight degrees of freedom, and the two spreads put together.
    spread = (((a / a.mean()).var(ddof=1) + (b / b.mean()).var(ddof=1)) / 2) ** 0.5
    assert row.noise == pytest.approx(100 * 2.31 * spread * (2 / 5) ** 0.5, rel=0.01)
    assert row.verdict == "within the noise"
    assert "spread of the repeats" in "\n".join(table(compare(first, second)))
    single = by_metric(compare(repeats(1, 2000), repeats(2, 2200)))["iops"]
    assert single.verdict == "better", "inside one run there is less noise"
    # Of one run beside repeats, the repeats say how far it may be off.
    mixed = by_metric(compare(first, repeats(2, 2200)))["iops"]
    assert mixed.noise == pytest.approx(
        100 * 2.78 * (a / a.mean()).std(ddof=1) * (1 + 1 / 5) ** 0.5, rel=0.01
    )
    assert mixed.verdict == "within the noise"


def test_what_is_worse_than_allowed():
    slower = compare(result(1), result(2, iops=1800.0, typical=88_000))
    assert failures(slower, 20) == []
    said = failures(slower, 5)
    assert any("randread, read: IOPS is worse by " in text for text in said)
    assert any("lat mean is worse by" in text for text in said)
    assert failures(compare(result(2, iops=1800.0, typical=88_000), result(1)), 5) == []
    # What is within the noise is no failure, however little is allowed.
    assert failures(compare(result(1), result(2)), 0) == []
    short = compare(result(1, seconds=2), result(2, iops=1000.0, seconds=2))
    assert any("noise unknown" in text for text in failures(short, 5))
    sweeps = [
        document(sweep_of(np.random.default_rng(4), iodepths=depths, seconds=1.0))
        for depths in ((1, 2), (2, 4), (8,))
    ]
    assert failures(compare(*sweeps[:2]), 50) == [
        "not there any more: sweep (iodepth=1) (in the second)"
    ]
    assert "the results have no job in common" in failures(compare(*sweeps[1:]), 50)


def test_several_results_are_compared_with_the_first():
    results = [result(1), result(2, iops=2400.0), result(3, iops=1600.0)]
    comparison = compare(*results)
    rates = [row for row in comparison.rows if row.metric == "iops"]
    assert [(row.result, row.verdict) for row in rates] == [(2, "better"), (3, "worse")]
    assert comparison.rows[0].metric == comparison.rows[1].metric == "iops"
    lines = list(table(comparison))
    assert lines[1].split()[:4] == ["randread", "read", "IOPS", "second"]
    assert lines[2].split()[0] == "third"
    assert all("third" in text for text in failures(comparison, 5))


# --- several hosts --------------------------------------------------------------------------------


def test_hosts_are_merged_into_one_table(tmp_path):
    one, two = result(1, iops=2000.0), result(2, iops=3000.0)
    for run, host in ((one, "alpha"), (two, "beta")):
        run["pynvme_user"]["machine"]["host"] = host
    names = hosts.hosts([tmp_path / "a.json", tmp_path / "b.json"], [one, two])
    merged = hosts.merge(names, [one, two])
    rows = merged.rows
    assert [row.host for row in rows] == ["alpha", "beta", "all"]
    assert merged.notes == []
    a, b, both = rows
    reads = [run["jobs"][0]["read"] for run in (one, two)]
    assert both.iops == a.iops + b.iops == reads[0]["iops"] + reads[1]["iops"]
    assert both.ios == reads[0]["total_ios"] + reads[1]["total_ios"]
    total = sum(read["lat_ns"]["mean"] * read["total_ios"] for read in reads)
    assert both.mean_ns == pytest.approx(total / both.ios)
    # The percentiles of all I/Os, and no mean of percentiles.
    bins = [{int(v): n for v, n in read["lat_ns"]["bins"].items()} for read in reads]
    every = np.concatenate([np.repeat(list(of), list(of.values())) for of in bins])
    assert both.percentiles["99"] == pytest.approx(np.quantile(every, 0.99), rel=0.02)
    lines = list(hosts.table(merged))
    assert lines[0].split()[:4] == ["job", "host", "IOPS", "BW"]
    assert lines[3].split()[0] == "all"
    json.dumps(hosts.as_json(merged), allow_nan=False)


def test_a_job_without_figures_is_said_of_its_host():
    one, two, three = (result(seed) for seed in (1, 2, 3))
    for run in (two, three):
        run["jobs"][0]["read"]["total_ios"] = 0
        run["pynvme_user"]["jobs"][0]["point"] = {"iodepth": 4}
    two["pynvme_user"]["jobs"][0]["failed"] = {"read": 9}
    merged = hosts.merge(["alpha", "be\x1bta", "gamma"], [one, two, three])
    assert [row.host for row in merged.rows] == ["alpha"]
    assert merged.notes == [
        "randread  iodepth=4 has no figures of be\x1bta: its I/Os failed (9)",
        "randread  iodepth=4 has no figures of gamma: no I/O was measured",
    ]
    assert hosts.as_json(merged)["notes"] == merged.notes
    lines = list(hosts.table(merged))
    assert len(lines) == 2 + 3
    assert lines[3] == "Note: randread  iodepth=4 has no figures of be\\x1bta: its I/Os failed (9)"


@pytest.mark.parametrize(
    ("part", "key", "figure"),
    [
        ("read", "iops", -1.0),
        ("read", "bw_bytes", -5),
        ("lat_ns", "mean", -0.5),
        ("read", "iops", 1e999),
    ],
)
def test_a_figure_that_cannot_be_is_refused(part, key, figure):
    good, odd = result(1), result(2)
    reads = odd["jobs"][0]["read"]
    (reads if part == "read" else reads[part])[key] = figure
    for runs in ((good, odd), (odd, good)):
        with pytest.raises(ValueError, match="a part is missing or odd"):
            compare(*runs)
        with pytest.raises(ValueError, match="a part is missing or odd"):
            hosts.merge(["a", "b"], runs)


def test_hosts_of_one_name_and_results_without_bins(tmp_path):
    one, two = result(1, bins=False, seconds=1), result(2, bins=False, seconds=1)
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    assert hosts.hosts(paths, [{"jobs": []}, {"jobs": []}]) == ["a", "b"]
    one["pynvme_user"]["machine"]["host"] = two["pynvme_user"]["machine"]["host"] = "alpha"
    names = hosts.hosts(paths, [one, two])
    assert names == [f"alpha ({path})" for path in paths]
    merged = hosts.merge(names, [one, two])
    assert set(merged.rows[2].percentiles.values()) == {None}
    assert "need the latencies' bins" in "\n".join(hosts.table(merged))
    del two["jobs"][0]["read"]["lat_ns"]
    with pytest.raises(ValueError, match="a part is missing or odd"):
        hosts.merge(names, [one, two])


# Files that are nothing of the kind

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1 << 64, 10**400, 1e308, -1e308, 5e-324, "", "\x1b[2J", "\ud800"])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
WHOLE = result(1, seconds=5)


def places(value, path=()):
    """Every place in a JSON value: the keys and indices that lead there."""
    yield path
    inside = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else inside:
        yield from places(inner, (*path, key))


PLACES = [place for place in places(WHOLE) if place and "bins" not in place]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            JSON | st.just(...),  # ...: it is left out
        ),
        min_size=1,
        max_size=3,
    )
)
@example([(("jobs", 0, "read", "iops"), 10**400)])
@example([(("jobs", 0, "read", "iops"), 1e308)])
@example([(("jobs", 0, "read", "iops"), 5e-324)])
@example([(("jobs", 0, "read", "clat_ns", "N"), 0)])
@example([(("jobs", 0, "jobname"), 5)])
@example([(("jobs", 0, "jobname"), [1])])
@example([(("pynvme_user", "jobs", 0, "point"), {"bs": [1]})])
@example([(("pynvme_user", "jobs", 0, "samples", "read", "end_ms"), [5] * 20)])
@example([(("pynvme_user", "jobs", 0, "device"), None)])
@example([(("pynvme_user",), ...)])
def test_any_json_is_compared_or_refused(changes):
    other = json.loads(json.dumps(WHOLE))
    for place, value in changes:
        inside = other
        with suppress(KeyError, IndexError, TypeError):
            for key in place[:-1]:
                inside = inside[key]
            if value is ...:
                del inside[place[-1]]
            else:
                inside[place[-1]] = value
    for first, second in ((WHOLE, other), (other, WHOLE), (other, other)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = compare(first, second)
            except ValueError as error:
                assert "a part is missing or odd" in str(error)  # noqa: PT017
                continue
            json.dumps(as_json(found), allow_nan=False)
            assert all(line.replace("±", "").isascii() for line in table(found))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"jobs":' * 100_000,
        b'{"jobs": [NaN]}',
        b'{"jobs": [{"a": -Infinity}]}',
        b'{"jobs": [' + b"9" * 5000 + b"]}",
        b'{"jobs": [',
        b'{"jobs": {}}',
        b'{"jobs": "\xff\xfe"}',
        b"\xff\xfe{\x00}\x00",
        b"\0" * 4096,
        b"",
        b"null",
        b'{"jobs": [] } {}',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_that_is_no_result(tmp_path, content):
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.json (is not JSON|has no jobs)") as told:
        load(path)
    assert len(str(told.value)) < 1000


def test_many_jobs_of_one_name_take_no_time():
    many = {**WHOLE, "jobs": WHOLE["jobs"] * 20_000, "pynvme_user": {}}
    many["jobs"] = [{**job, "read": {"total_ios": 0}} for job in many["jobs"]]
    for job in many["jobs"]:
        job["write"] = job["trim"] = job["read"]
    assert compare(many, many).rows == []
