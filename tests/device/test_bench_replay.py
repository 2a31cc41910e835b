"""Traces: what a job issues is written, and replayed in the same order at the same times."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bench_rig import DELAY, READ, TRIM, WRITE, job, run, seconds
from disturbance import until_right
from software_controller import served

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine
from pynvme_user.cli.bench_results import log_writers

Io = tuple[str, ...]


def issued(path: Path) -> tuple[list[Io], np.ndarray]:
    """(action, offset, length) of each I/O of a log, and their times in seconds."""
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    ios = [words for words in lines if len(words) == 5]
    return [tuple(words[2:]) for words in ios], np.array([int(words[0]) / 1e6 for words in ios])


def run_logged(device: str, path: Path, **options: object) -> JobResult:
    made = job(device, **options, write_iolog=str(path))
    result = engine.run([made])
    for _, write in log_writers(result, [made]):
        write()
    (one,) = result.jobs
    assert result.ok, one.failure
    return one


def trace(folder: Path, *lines: str) -> str:
    path = folder / "trace"
    path.write_text("".join(f"{line}\n" for line in ("fio version 3 iolog", *lines)))
    return str(path)


MIXED = {"rw": "randrw", "bsrange": "4k-32k", "size": "8m", "iodepth": 8, "fsync": 7}


def test_a_replay_of_what_was_written_is_the_same(fast: str, tmp_path: Path) -> None:
    """In the same order always. Each at its time, in some attempt: other work makes some late."""
    first, second = tmp_path / "first", tmp_path / "second"
    arrivals = {"size": "64m", "rate_iops": "1500,500", "rate_process": "poisson"}
    run_logged(fast, first, **{**MIXED, **arrivals}, number_ios=400)
    ios, times = issued(first)
    assert len(ios) >= 400
    assert {io[0] for io in ios} == {"read", "write", "sync"}
    assert times[-1] > 0.15
    late = np.full(len(ios), np.inf)

    def attempt() -> str:
        run_logged(fast, second, read_iolog=str(first), iodepth=64)
        again, times_again = issued(second)
        assert again == ios
        apart = times_again - times
        np.minimum(late, apart - apart.min(), out=late)
        return "" if late.max() < 0.001 else f"{late.max() * 1e3:.2f} ms late"

    until_right(attempt, undisturbed=5)


def test_as_fast_as_it_goes_in_the_same_order(fast: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made = run_logged(fast, first, **MIXED)
    result = run_logged(fast, second, read_iolog=str(first), replay_no_stall=1, iodepth=8)
    assert issued(second)[0] == issued(first)[0]
    for way in (READ, WRITE):
        assert result.directions[way].ios == made.directions[way].ios
        assert result.directions[way].bytes == made.directions[way].bytes
    assert result.flush.count == made.flush.count > 0


@pytest.mark.parametrize(("scale", "lasts"), [(100, 0.3), (200, 0.15), (50, 0.6)])
def test_scaled_time(fast: str, tmp_path: Path, scale: int, lasts: float) -> None:
    path = trace(tmp_path, *(f"{10**6 + at * 100_000} f read 0 4096" for at in range(4)))

    def attempt() -> str:
        lasted = seconds(run(fast, read_iolog=path, replay_time_scale=scale))
        assert lasted >= lasts, "none comes before its time, and the first one at once"
        return "" if lasted < lasts + 0.02 else f"{lasted:.3f} s"

    until_right(attempt, undisturbed=5)


def test_latency_counts_from_when_an_io_was_due(slow: str, tmp_path: Path) -> None:
    """Ten at once, one after another: the last one waited for the nine before it."""
    path = trace(tmp_path, *(f"5 f read {at * 4096} 4096" for at in range(10)))
    reads = run(slow, read_iolog=path).directions[READ]
    assert reads.ios == 10
    assert reads.lat.max >= 10 * DELAY * 1e9
    deep = run(slow, read_iolog=path, replay_no_stall=1).directions[READ]
    assert deep.lat.percentile(50) < 5 * DELAY * 1e9


def test_the_depth_holds_back(slow: str, tmp_path: Path) -> None:
    path = trace(tmp_path, *(f"0 f read {at * 4096} 4096" for at in range(40)))
    assert seconds(run(slow, read_iolog=path, iodepth=4)) >= 10 * DELAY


def test_onto_a_smaller_device(fast: str, tmp_path: Path) -> None:
    """What lies beyond the end begins anew at the start; none crosses it."""
    log = tmp_path / "log"
    path = trace(
        tmp_path, f"0 f read {(64 << 20) - 4096} 4096", f"0 f read {64 << 20} 4096",
        f"0 f write {(64 << 20) - 4096} 8192", f"0 f trim {(192 << 20) + 8192} 4096",
        "0 f sync 9 0",
    )  # fmt: skip
    made = job(fast, read_iolog=path, write_iolog=str(log))
    result = engine.run([made])
    for _, write in log_writers(result, [made]):
        write()
    end = (64 << 20) - 4096
    assert issued(log)[0] == [
        ("read", f"{end}", "4096"),
        ("read", "0", "4096"),
        ("write", f"{end - 4096}", "8192"),
        ("trim", "8192", "4096"),
        ("sync", "0", "0"),
    ]
    assert any(
        "3 of 5 I/Os lie beyond its range of 67108864 bytes" in one for one in result.warnings
    )
    # A range of its own, and offsets that are divided and rounded down.
    placed = {"offset": "1m", "size": "1m", "replay_scale": 3, "replay_align": 4096}
    run_logged(fast, log, read_iolog=path, replay_skip="write,trim", **placed)
    first = ((64 << 20) - 4096) // 3 // 4096 * 4096 % (1 << 20)
    second = (64 << 20) // 3 // 4096 * 4096 % (1 << 20)
    assert [io[1] for io in issued(log)[0]] == [
        f"{first + (1 << 20)}",
        f"{second + (1 << 20)}",
        "0",
    ]


def test_trims_and_flushes_are_done(fast: str, tmp_path: Path) -> None:
    path = trace(tmp_path, "0 f trim 0 1048576", "1 f sync 0 0", "2 f datasync 0 0")
    result = run(fast, read_iolog=path)
    assert [way.ios for way in result.directions] == [0, 0, 1]
    assert result.directions[TRIM].bytes == 1 << 20
    assert result.flush.count == 2


def test_large_ios_are_split(fast: str, tmp_path: Path) -> None:
    path = trace(
        tmp_path, "0 f write 0 16777216", "100000 f sync 0 0", "100000 f read 4096 16777216"
    )
    result = run(fast, read_iolog=path, iodepth=2)
    assert [way.bytes for way in result.directions[:2]] == [16 << 20, 16 << 20]
    assert result.flush.count == 1
    assert seconds(result) >= 0.1


def test_again_and_again(fast: str, tmp_path: Path) -> None:
    path = trace(tmp_path, *(f"{at * 1000} f read 0 4096" for at in range(5)))
    result = run(fast, read_iolog=path, loops=3)
    assert result.directions[READ].ios == 15
    assert seconds(result) >= 3 * 0.004
    result = run(fast, read_iolog=path, time_based=1, runtime=0.3)
    assert result.directions[READ].ios > 10
    assert 0.3 <= seconds(result) < 1
    assert run(fast, read_iolog=path, number_ios=3).directions[READ].ios == 3
    ended = run(
        fast, read_iolog=trace(tmp_path, "0 f read 0 512", "9000000 f read 0 512"), runtime=0.2
    )
    assert ended.directions[READ].ios == 1
    assert seconds(ended) < 2


def test_a_ramp_is_a_part_of_the_trace(fast: str, tmp_path: Path) -> None:
    path = trace(tmp_path, *(f"{at} f read 0 4096" for at in (0, 10_000, 1_000_000, 1_010_000)))
    assert run(fast, read_iolog=path, ramp_time="500ms").directions[READ].ios == 2


def test_blocks_that_the_device_does_not_have(qemu: None, tmp_path: Path) -> None:
    with served("block-size=4096&size=64M") as (name, _):
        path = trace(tmp_path, "0 f read 0 4096", "0 f read 512 4096")
        with pytest.raises(JobError, match=r"line 3: .* whole blocks of 4096.*replay_align=4096"):
            run(name, read_iolog=path)
        assert run(name, read_iolog=path, replay_align=4096).directions[READ].ios == 2
        with pytest.raises(JobError, match=r"line 2: an I/O of 512 bytes at 0: its length is not"):
            run(name, read_iolog=trace(tmp_path, "0 f read 0 512"))
        path = trace(tmp_path, "0 f read 0 4096", "0 f read 0 8192")
        with pytest.raises(JobError, match=r"line 3: .* longer than the range"):
            run(name, read_iolog=path, size="4k")


def test_queues_and_jobs_write_each_its_order(fast: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_logged(fast, log, rw="randread", bs="4k", size="1m", queues=3, iodepth=2)
    ios, times = issued(log)
    assert len({io[1] for io in ios}) == len(ios) == 256
    assert (np.diff(times) >= 0).all()


def test_a_log_that_is_larger_than_memory_has_all(
    fast: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynvme_user.bench.results.issued._IN_MEMORY", 1000)
    monkeypatch.setattr("pynvme_user.bench.results.issued._PIECE", 7)
    log = tmp_path / "log"
    run_logged(fast, log, rw="read", bs="4k", size="8m", iodepth=4)
    assert [int(io[1]) for io in issued(log)[0]] == list(range(0, 8 << 20, 4096))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_full_disk_names_the_file(fast: str) -> None:
    made = job(fast, rw="read", bs="4k", size="64k", write_iolog="/dev/full")
    result = engine.run([made])
    ((name, write),) = log_writers(result, [made])
    assert name == "/dev/full"
    with pytest.raises(OSError, match="No space left") as error:
        write()
    assert error.value.filename == "/dev/full"


def test_fio_replays_what_was_written(fast: str, tmp_path: Path) -> None:
    if not shutil.which("fio"):
        pytest.skip("fio is not installed: ./bootstrap bench")
    log = tmp_path / "log"
    made = run_logged(fast, log, **MIXED)
    done = subprocess.run(
        [
            *("fio", "--name=r", "--ioengine=null", "--replay_no_stall=1", f"--read_iolog={log}"),
            *("--output-format=terse", "--terse-version=3"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fields = done.stdout.strip().splitlines()[-1].split(";")
    assert int(fields[4]) == 0
    moved = [int(fields[place]) for place in (5, 46)]  # KiB that were read and written
    assert moved == [made.directions[way].bytes >> 10 for way in (READ, WRITE)]
