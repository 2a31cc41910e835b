"""Telemetry, boot partitions and receiver eyes."""

from __future__ import annotations

import pytest

from pynvme_user.spec import logs
from pynvme_user.spec.logs_data import telemetry_length


def test_telemetry_of_the_host() -> None:
    page = bytearray(4096)
    page[0:8] = bytes.fromhex("07 00000000 000054")
    page[8:14] = bytes.fromhex("0100 0200 0200")
    page[16:20] = bytes.fromhex("06000000")
    page[380:384] = bytes.fromhex("02 05 01 09")
    page[384:388] = b"why?"
    page[512:1024] = b"x" * 512
    log = logs.TelemetryHostLog.from_bytes(page)
    assert log.header.ieee == bytes.fromhex("000054")
    assert log.header.ths == logs.TelemetryScope.NVM_SUBSYSTEM
    assert (log.header.thdgn, log.header.tcda, log.header.tcdgn) == (5, 1, 9)
    assert (log.header.rid[:4], log.data[:512]) == (b"why?", b"x" * 512)
    assert log.total_length == 7 * 512
    assert [telemetry_length(log.header, area) for area in (1, 2, 3, 4)] == [1024, 1536, 1536, 3584]
    for area in (0, 5):
        with pytest.raises(ValueError, match=f"data areas 1 to 4, not {area}"):
            telemetry_length(log.header, area)


def test_telemetry_of_the_controller() -> None:
    log = logs.TelemetryControllerLog.build(lid=8, da1lb=3, tcs=1, tcda=1)
    assert (bytes(log)[381], log.total_length, log.data) == (1, 2048, b"")
    # An area without data has 0, whatever the one before it has.
    assert telemetry_length(log.header, 3) == 2048
    assert logs.TelemetryControllerLog.build().total_length == 512


def test_a_boot_partition() -> None:
    page = bytes.fromhex("15000000 01000080").ljust(16, b"\0") + b"image"
    log = logs.BootPartitionLog.from_bytes(page)
    assert (log.header.bpinfo.bpsz, log.header.bpinfo.abpid) == (1, 1)
    assert (log.entries, log.total_length) == (b"image", 16 + 128 * 1024)


def eye(lane: int, printable: bytes, data: bytes) -> bytes:
    header = logs.EomLaneHeader.build(
        mstat=1, ln=lane, nrows=2 if printable else 0, ncols=3 if printable else 0, edlen=len(data)
    )
    return (bytes(header) + printable + data).ljust(44, b"\0")


def test_receiver_eyes() -> None:
    header = logs.EomHeader.build(
        lid=0x19, eomip=2, hsize=64, rsz=64 + 88, lrev=3, odp=3, lns=2, epl=1, ds=44, nd=2
    )
    raw = bytes(header) + eye(0, b"101000", b"abcd") + eye(1, b"", b"ef")
    log = logs.EomLog.from_bytes(raw)
    assert (log.total_length, log.size, log.incomplete) == (152, 152, False)
    first, second = log
    assert (first.printable_eye, first.eye_data) == (["101", "000"], b"abcd")
    assert (second.printable_eye, second.eye_data) == ([], b"ef")
    plain = log.to_dict()["entries"][0]
    assert (plain["printable_eye"], plain["eye_data"]) == (["101", "000"], "61626364")
    assert any("EOM In Progress" in line and "COMPLETED" in line for line in log.dump())
    assert len(logs.EomLog.from_bytes(raw[:-1])) == 1
    # A header that says it is larger has the lanes behind that.
    moved = logs.EomHeader.build(hsize=68, ds=44, nd=1)
    assert logs.EomLog.from_bytes(bytes(moved) + bytes(4) + eye(7, b"", b""))[0].header.ln == 7


def test_lanes_that_are_said_to_be_smaller_than_they_are() -> None:
    """The last begins where the page has fewer bytes than a lane's header."""
    page = bytes(logs.EomHeader.build(hsize=64, ds=8, nd=5)) + bytes(35)
    log = logs.EomLog.from_bytes(page)
    assert (len(log.entries), log.incomplete) == (1, True)
    assert len(log.to_dict()["entries"]) == 1
