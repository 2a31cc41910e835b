"""Verification on a controller that says success and does wrong: each fault by its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench_rig import WRITE, run
from software_controller import read_log, renew, served

from pynvme_user.bench.results.result import JobResult

#: A MiB in 256 I/Os of eight blocks, each block once.
JOB = {"rw": "write", "bs": "4k", "size": "1m"}
METHODS = {
    "crc32c": {"verify": "crc32c"},
    "xxhash": {"verify": "xxhash"},
    "meta": {"verify": "meta"},
    "pattern": {"verify": "pattern", "verify_pattern": "0xdeadbeef%o"},
    "pattern_hdr": {"verify": "pattern_hdr", "verify_pattern": "0xdeadbeef"},
}
#: Those by which a block tells which of its writes it comes from.
GENERATIONS = [method for method in METHODS if method != "pattern"]
DEPTHS = [1, 16]


@pytest.fixture(scope="module")
def device(qemu: None) -> Iterator[str]:
    """The test's own controller, whatever --device is: once is enough."""
    with served("size=8M") as (name, _):
        yield name


@pytest.fixture(scope="module")
def device_4k(qemu: None) -> Iterator[str]:
    with served("size=8M&block-size=4096") as (name, _):
        yield name


def found(result: JobResult) -> list[tuple[str, int]]:
    assert result.verify is not None
    assert not result.ok
    assert result.errors == {}, "the device said success"
    for fault in result.verify.faults:
        assert fault.message.startswith(f"{fault.kind} at LBA {fault.lba}: ")
    return [(fault.kind, fault.lba) for fault in result.verify.faults]


def run_with(
    device: str, fault: str, every: int, value: int = 0, **options: object
) -> tuple[JobResult, list[int]]:
    """Run a job; also tell where the commands with a fault begin."""
    renew(device, fault, every, value)
    result = run(device, **options)
    log = read_log(device)
    assert log.planted > 0
    assert log.writes == result.directions[WRITE].ios
    return result, log.lbas


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", ["read-flip", "write-flip"])
def test_a_flipped_bit(device: str, fault: str, method: str) -> None:
    """In headers, stamps and data; meta does not look at data."""
    for byte in (0, 9, 45, 512 * 5 + 20, 512 * 7 + 100)[: 4 if method == "meta" else 5]:
        result, planted = run_with(
            device, fault, 100, 8 * byte + 3, **JOB, **METHODS[method], iodepth=byte % 17 + 1
        )
        assert len(planted) == 2
        assert found(result) == [("bit flip", lba + byte // 512) for lba in planted]
        assert result.verify is not None
        for told in result.verify.faults:
            assert f"1 bit wrong in byte {byte % 512} of the block" in told.message


@pytest.mark.parametrize("method", GENERATIONS)
@pytest.mark.parametrize(("depth", "loops", "every"), [(1, 1, 100), (16, 1, 100), (16, 2, 300)])
def test_a_torn_write(device: str, method: str, depth: int, loops: int, every: int) -> None:
    """Of a first write, and of one over older data."""
    result, planted = run_with(
        device, "torn", every, 3, **JOB, **METHODS[method], iodepth=depth, loops=loops
    )
    assert set(found(result)) == {("torn write", lba + 3) for lba in planted}
    assert result.verify is not None
    assert f"of a newer write of LBA {planted[0]} to " in result.verify.faults[0].message


def test_a_torn_write_of_larger_blocks(device_4k: str) -> None:
    result, planted = run_with(
        device_4k, "torn", 50, 2, rw="write", bs="32k", size="2m", verify="crc32c", iodepth=4
    )
    assert found(result) == [("torn write", lba + 2) for lba in planted]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("method", METHODS)
def test_a_lost_write(device: str, method: str, depth: int) -> None:
    """Of which nothing is there but zeroes, as before the first write."""
    result, planted = run_with(device, "lost", 100, **JOB, **METHODS[method], iodepth=depth)
    assert len(planted) == 2
    assert found(result) == [("lost write", lba) for lba in planted]
    assert result.verify is not None
    assert all("found only zeroes" in fault.message for fault in result.verify.faults)


@pytest.mark.parametrize("method", GENERATIONS)
def test_a_lost_overwrite(device: str, method: str) -> None:
    """The third write of some blocks leaves the second's data."""
    result, (lba,) = run_with(device, "lost", 700, **JOB, **METHODS[method], loops=3)
    # Each loop's writes are read back, of which all find the same.
    assert found(result) == [("lost write", lba)] * 3
    assert result.verify is not None
    assert result.verify.faults[0].message.endswith(
        "expected generation 3, which was acknowledged, found generation 2"
    )


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("method", METHODS)
def test_a_misdirected_write(device: str, method: str, depth: int) -> None:
    """Over blocks that were written before; where it belongs it is missing."""
    result, planted = run_with(
        device, "misdirected", 100, -8 * 20, **JOB, **METHODS[method], iodepth=depth
    )
    assert len(planted) == 2
    assert set(found(result)) == {
        place
        for missing in planted
        for place in (("misdirected write", missing - 8 * 20), ("lost write", missing))
    }
    assert result.verify is not None
    assert f"of LBA {planted[0]}" in result.verify.faults[0].message


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("method", GENERATIONS)
def test_stale_data(device: str, method: str, depth: int) -> None:
    """A read brings what was there before a write that another read has seen."""
    options = {"rw": "randrw", "bs": "4k", "size": "64k", "norandommap": True, "io_size": "8m"}
    result, planted = run_with(
        device, "stale", 50, **options, **METHODS[method], iodepth=depth, do_verify=0
    )
    assert len(planted) > 4
    assert sorted(found(result)) == sorted(("stale data", lba) for lba in planted)
    assert result.verify is not None
    assert all("had been read back before" in fault.message for fault in result.verify.faults)


# --- where and when it is looked for --------------------------------------------------------------


@pytest.mark.parametrize("fault", ["torn", "lost", "misdirected", "write-flip", "read-flip"])
def test_a_fault_among_reads_and_writes_of_many_sizes(device: str, fault: str) -> None:
    """In any order, with blocks that are overwritten: each that shows has its right name."""
    names = {
        "torn": {"torn write", "lost write"},  # lost, to a read of the old part alone
        "lost": {"lost write"},
        "misdirected": {"lost write", "misdirected write"},
        "write-flip": {"bit flip"},
        "read-flip": {"bit flip"},
    }
    result, planted = run_with(
        device, fault, 150, 1,
        rw="randrw", bssplit="512/20:4k/50:16k/30", size="1m", io_size="8m", norandommap=True,
        verify="crc32c", iodepth=8,
    )  # fmt: skip
    assert len(planted) > 2
    kinds = {kind for kind, _ in found(result)}
    assert kinds
    assert kinds <= names[fault]


def test_a_fault_is_found_on_the_way_with_a_backlog(device: str) -> None:
    """Before the blocks are overwritten, which would hide it."""
    options = {**JOB, "verify": "crc32c", "loops": 2}
    result, planted = run_with(device, "lost", 100, **options, verify_backlog=16)
    assert len(planted) == 5
    assert found(result) == [("lost write", lba) for lba in planted]


def test_verify_fatal_ends_at_the_first(device: str) -> None:
    result, planted = run_with(device, "lost", 20, **JOB, verify="crc32c", verify_fatal=1)
    assert found(result) == [("lost write", planted[0])]
    assert result.verify is not None
    assert result.verify.blocks == planted[0]


def test_without_do_verify_nothing_is_read(device: str) -> None:
    result, planted = run_with(
        device, "lost", 20, **{**JOB, "rw": "randwrite"}, verify="crc32c", do_verify=0
    )
    assert result.ok
    assert result.verify is not None
    assert (result.verify.blocks, result.verify.faulty) == (0, 0)
    assert read_log(device).reads == 0
    # A run that only verifies, and has no state to go by, finds what is not ours.
    again = run(device, **{**JOB, "rw": "randwrite"}, verify="crc32c", verify_only=1)
    assert len(planted) == 12
    assert sorted(found(again)) == sorted(("foreign data", lba) for lba in planted)
    assert read_log(device).writes == 256


def test_a_failed_write_is_no_fault(device: str) -> None:
    """What the device said it did not do need not be there."""
    renew(device, "status", 10, 0x280)
    result = run(device, **JOB, verify="crc32c", continue_on_error="all", iodepth=8)
    assert result.errors == {0x280: 51}
    assert result.failed == 51
    assert result.directions[WRITE].ios == 256 - 25
    assert result.verify is not None
    assert result.verify.faulty == 0
    assert not result.ok
