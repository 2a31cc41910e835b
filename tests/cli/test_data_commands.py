"""dsm, copy, verify, properties and events on real devices."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from disk_images import btrfs

MIB = 1 << 20
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


def test_copy(run: Any, fail: Any, image: Path) -> None:
    """More blocks in all than one command of the device copies."""
    marked = b"\x77" * (200 << 9)
    image.write_bytes(marked + CONTENT[len(marked) :])
    said = fail("copy", "qemu:disk.img", "-d", 1000, "-s", 0, "-b", 199, code=2)
    assert said.startswith("copy writes over blocks of namespace 1 of qemu:disk.img, and there is")
    assert image.read_bytes()[1000 << 9 : 1200 << 9] != marked
    done = run("copy", "qemu:disk.img", "-d", 1000, "-s", 0, "-b", 199, "--force")
    assert done.stdout == b"NVMe Copy: success\n"
    assert image.read_bytes()[1000 << 9 : 1200 << 9] == marked
    run("copy", "qemu:disk.img", "-d", 1500, "-s", "1,0", "-b", "0,1", "--force", "-l", "-r", 0)
    assert image.read_bytes()[1500 << 9 : 1503 << 9] == marked[: 3 << 9]


@pytest.mark.parametrize("device", ["qemu:disk.img", "soft:disk.img"])
def test_dsm(run: Any, fail: Any, image: Path, device: str) -> None:
    for words in (("-b", "8"), ("-b", "8,8", "-s", "0,16", "--idr", "--idw")):
        assert run("dsm", device, *words).stdout == b"NVMe DSM: success\n"
    said = fail("dsm", device, "--ad", "-b", 8, code=2)
    assert said.startswith(f"dsm --ad loses blocks of namespace 1 of {device}, and there is no")
    assert image.read_bytes() == CONTENT
    done = run("dsm", device, "--ad", "-b", "8,16", "-s", "0,64", "--force")
    assert done.stdout == b"NVMe DSM: success\n"
    assert "are not all in namespace 1" in fail("dsm", device, "-b", 8, "-s", MIB)


def test_what_carries_data_is_not_written_over(fail: Any, tmp_path: Path) -> None:
    content = bytearray(MIB)
    for at, part in btrfs().items():
        content[at : at + len(part)] = part
    (tmp_path / "disk.img").write_bytes(content)
    for words, do in (
        (("copy", "-d", 9, "-s", 1), "write to it"),
        (("dsm", "--ad", "-b", 9), "deallocate blocks of it"),
    ):
        said = fail(words[0], "qemu:disk.img", *words[1:])
        assert said == (
            "namespace 1 of qemu:disk.img carries a file system (btrfs): add --force to "
            f"{do} all the same"
        )
    assert (tmp_path / "disk.img").read_bytes() == content


def test_what_the_device_does_not_say_that_it_has(run: Any, fail: Any) -> None:
    """QEMU 7.2 takes Verify, of which its ONCS says nothing."""
    said = fail("write-uncor", "qemu:?size=1M", "--start-block", 0)
    assert said == (
        "qemu:?size=1M does not support Write Uncorrectable: ONCS bit 1 (Write Uncorrectable "
        "Supported) is 0; add --force to send it all the same"
    )
    done = run("verify", "qemu:?size=1M", "-c", 2047, "--force")
    assert done.stdout == b"NVME Verify Success\n"
    assert "Reservation" in fail("resv-report", "qemu:?size=1M")
    assert "Security Receive" in fail("security-recv", "soft:?size=1M", "-x", 512)


@pytest.mark.parametrize("device", ["qemu:?size=1M", "soft:?size=1M"])
def test_properties(run: Any, device: str) -> None:
    assert run("get-property", device, "-o", 0x1C).stdout == (
        b"property: 0x1c (Controller Status), value: 1\n"
    )
    run("set-property", device, "-o", 0xC, "-v", 1)


def test_data_of_a_send_comes_from_stdin(fail: Any) -> None:
    said = fail("security-send", "qemu:?size=1M", "-t", 4, "--force", input=b"abcd")
    assert "Security Send (opcode 0x81, nsid 0x0) failed: Invalid Command Opcode" in said


@pytest.mark.parametrize("device", ["qemu:?size=1M", "soft:?size=1M"])
def test_no_event(run: Any, fail: Any, device: str) -> None:
    assert run("events", device, "--timeout", 0.2).stdout == b""
    said = fail("events", device, "--timeout", 0.2, "--count", 1)
    assert said == "0 of 1 events came within 0.2 s"


def test_ctrl_c_ends_events(start: Any) -> None:
    process = start("events", "soft:?size=1M", "--timeout", 60)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"nvme-user: interrupted\n")


def test_nobody_reads_the_events(start: Any) -> None:
    process = start("events", "soft:?size=1M", "--timeout", 60)
    process.stdout.close()
    assert process.wait(timeout=30) == 0
