"""What is on the device after a run: shares of equal blocks, working sets, compressibility."""

from __future__ import annotations

import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bench_rig import WRITE, job, run
from software_controller import served

import pynvme_user as nvme
from pynvme_user.bench.jobs.job_file import read_job_files
from pynvme_user.bench.jobs.terms import JobError, Size
from pynvme_user.bench.run import engine

BLOCK = 4096
BLOCKS = 4096
SIZE = BLOCK * BLOCKS
EXAMPLE = Path("/usr/share/doc/fio/examples/dedupe-global.fio")


@pytest.fixture(scope="module")
def device(qemu: None) -> Iterator[str]:
    """With memory behind it that stays when it is closed."""
    with served("size=512M") as (name, _):
        yield name


def on_device(name: str, size: int = SIZE, offset: int = 0) -> npt.NDArray[np.uint8]:
    """Its bytes, a row for each block of 4 KiB."""
    with nvme.open(name) as ctrl:
        ns = ctrl.namespaces[1]
        shift = ns.block_shift
        return np.array(ns.read(offset >> shift, size >> shift)).reshape(-1, BLOCK)


def kinds(blocks: npt.NDArray[np.uint8]) -> Counter[bytes]:
    """How often each block is there."""
    return Counter(block.tobytes() for block in blocks)


def is_near(count: int, n: int, share: float) -> bool:
    """Within 4 sigma of the binomial law."""
    return abs(count - n * share) <= 4 * math.sqrt(n * share * (1 - share))


def write(device: str, **options: object) -> npt.NDArray[np.uint8]:
    """Write the first blocks; return what is there then."""
    assert run(device, rw="write", bs="4k", size=SIZE, **options).ok
    return on_device(device)


@pytest.mark.parametrize("percent", [20, 50, 90])
def test_repeated_blocks(device: str, percent: int) -> None:
    blocks = write(device, dedupe_percentage=percent)
    equal = (blocks[1:] == blocks[:-1]).all(axis=1)
    assert is_near(int(equal.sum()), BLOCKS - 1, percent / 100)
    # No others are: each run of equal blocks is of data of its own.
    assert len(kinds(blocks)) == BLOCKS - equal.sum()


def test_all_and_none(device: str) -> None:
    assert len(kinds(write(device, dedupe_percentage=100))) == 1
    assert len(kinds(write(device, refill_buffers=1, iodepth=4))) == BLOCKS


def test_a_working_set(device: str) -> None:
    """What comes again is of it, evenly, and it is of the size that was asked for."""
    found = kinds(
        write(
            device,
            dedupe_percentage=75,
            dedupe_mode="working_set",
            dedupe_working_set_percentage=5,
            iodepth=8,
        )
    )
    size = BLOCKS * 5 // 100
    repeated = {block: count for block, count in found.items() if count > 1}
    # About 15 of each: that one comes once or never has a chance of 1e-5.
    assert size - 2 <= len(repeated) <= size
    assert is_near(BLOCKS - len(found), BLOCKS, 0.75)
    # Chi-squared: the mean is size - 1, its deviation the root of twice that.
    counts = np.array([count - 1 for count in repeated.values()])
    expected = counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < size + 5 * math.sqrt(2 * size)


def test_a_working_set_of_two_jobs(device: str) -> None:
    """With dedupe_global half of it is the other job's; without, nothing is in common."""

    def two(**options: object) -> tuple[Counter[bytes], Counter[bytes]]:
        options = {"dedupe_percentage": 50, "dedupe_mode": "working_set", **options}
        # One after another: they share it all the same.
        jobs = [
            job(device, group=group, rw="write", bs="4k", size=SIZE, offset=group * SIZE, **options)
            for group in range(2)
        ]
        assert all(one.ok for one in engine.run(jobs).jobs)
        return kinds(on_device(device)), kinds(on_device(device, offset=SIZE))

    share = 40
    first, second = two(dedupe_working_set_percentage=share)
    assert not first.keys() & second.keys()
    first, second = two(dedupe_working_set_percentage=share, dedupe_global=1)
    common = first.keys() & second.keys()
    pool = BLOCKS * share // 100
    # All of the pool is written by its own job, half of it by each; of BLOCKS / 2 draws from the
    # pool, so many miss a given block.
    missed = math.exp(-BLOCKS / 2 / pool)
    assert is_near(len(common), pool, 1 - missed)
    assert is_near(2 * BLOCKS - len(first | second), 2 * BLOCKS, 0.5)


def test_the_units_of_larger_writes(device: str) -> None:
    """Each of the smallest size is new or not by itself."""
    assert run(device, rw="write", bssplit="4k/50:16k/50", size=SIZE, dedupe_percentage=50).ok
    assert is_near(BLOCKS - len(kinds(on_device(device))), BLOCKS, 0.5)


@pytest.mark.parametrize("chunk", [512, 4096, 0, 1024])
@pytest.mark.parametrize("percent", [25, 50, 80])
def test_compressibility(device: str, percent: int, chunk: int) -> None:
    blocks = write(
        device, buffer_compress_percentage=percent, buffer_compress_chunk=chunk, iodepth=8
    )
    assert len(kinds(blocks)) == BLOCKS  # it refills the buffers
    packed = sum(len(zlib.compress(block.tobytes(), 1)) for block in blocks[:256])
    # Deflate's blocks and matches cost up to a tenth.
    assert packed / (256 * BLOCK) == pytest.approx(1 - percent / 100, abs=0.06)
    step = chunk or BLOCK
    dull = step * percent // 100
    chunks = blocks.reshape(-1, step)
    assert not chunks[:, step - dull :].any()
    assert chunks[:, : step - dull].any(axis=1).all()


def test_compressed_with_a_pattern_and_repeated(device: str) -> None:
    blocks = write(
        device,
        buffer_compress_percentage=50,
        buffer_compress_chunk="1k",
        buffer_pattern='"abcd"',
        dedupe_percentage=50,
    )
    chunks = blocks.reshape(-1, 1024)
    assert (chunks[:, 512:] == np.resize(np.frombuffer(b"abcd", np.uint8), 512)).all()
    assert is_near(BLOCKS - len(kinds(blocks)), BLOCKS, 0.5)


@pytest.mark.parametrize(
    ("options", "block"),
    [
        ({"zero_buffers": 1}, bytes(BLOCK)),
        ({"buffer_pattern": "0xa1b2c3"}, (bytes.fromhex("a1b2c3") * BLOCK)[:BLOCK]),
        ({"buffer_compress_percentage": 100}, bytes(BLOCK)),
    ],
    ids=str,
)
@pytest.mark.parametrize("refill", [0, 1])
def test_plain_contents(device: str, options: dict[str, object], block: bytes, refill: int) -> None:
    write(device)
    assert kinds(write(device, refill_buffers=refill, **options)).keys() == {block}


def test_the_buffers_have_data_of_their_own_and_are_scrambled_where_asked(device: str) -> None:
    assert len(kinds(write(device, iodepth=32))) <= 32
    blocks = write(device, iodepth=32, scramble_buffers=1)
    sectors = blocks.reshape(-1, 512)
    assert len({sector.tobytes() for sector in sectors}) == len(sectors)


def test_another_run_writes_the_same_unless_it_is_to_differ(device: str) -> None:
    options = {"dedupe_percentage": 30, "buffer_compress_percentage": 30}
    first = write(device, **options)
    assert (write(device, **options) == first).all()
    assert not (write(device, randrepeat=0, **options) == first).all()


def test_fios_example(device: str) -> None:
    """The ratios that its comment tells, of each of the two jobs' blocks and of both together."""
    if not EXAMPLE.exists():
        pytest.skip("fio's examples are not installed: apt-get install fio")
    read = read_job_files([EXAMPLE], (("filename", device),), environment=os.environ)
    assert [one.name for one in read.jobs] == ["a", "b"]
    assert not read.notes
    size = 100 << 20
    # As it is both write the same range, where fio has a file for each.
    apart = [read.jobs[0], replace(read.jobs[1], offset=Size(bytes=size))]
    for jobs in (read.jobs, apart):
        result = engine.run(jobs)
        assert [(one.name, one.ok) for one in result.jobs] == [("a", True), ("b", True)]
        assert [one.directions[WRITE].bytes for one in result.jobs] == [size, size]
    count = size // BLOCK
    a, b = kinds(on_device(device, size)), kinds(on_device(device, size, size))
    assert is_near(2 * count - len(a | b), 2 * count, 0.5)
    # Alone each has in 25600 blocks 12800 new ones, and of 6400 of the other's pool those that
    # 6400 draws hit: 1 - 1/e of them. fio's comment has 16817 and 17009.
    expected = count / 2 + count / 4 * (1 - math.exp(-1))
    for found in (a, b):
        assert len(found) == pytest.approx(expected, rel=0.02)
    packed = sum(len(zlib.compress(block, 1)) for block in list(a)[:256])
    assert packed / (256 * BLOCK) == pytest.approx(0.5, abs=0.06)


def test_what_does_not_go(device: str) -> None:
    for options, problem in (
        ({"dedupe_global": 1}, "dedupe_global needs dedupe_mode=working_set"),
        ({"verify": "crc32c"}, "gives each a header of its own"),
        (
            {"dedupe_mode": "working_set", "size": "64k"},
            r"5% of its range of 65536 bytes hold no block of 4096: give more size",
        ),
    ):
        with pytest.raises(JobError, match=problem):
            run(device, **{"rw": "write", "dedupe_percentage": 10, **options})
