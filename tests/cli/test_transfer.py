"""Reads and writes through the installed command: files, pipes, any length, both block sizes."""

from __future__ import annotations

import os
import pty
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20


def data(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize("block", [512, 4096])
def test_round_trip_of_64_mib(run: Any, tmp_path: Path, block: int) -> None:
    content = data(64 * MIB)
    (tmp_path / "random.bin").write_bytes(content)
    device = f"qemu:disk.img?size=256M&logical_block_size={block}"
    run("write", device, "--namespace-id", 1, "--start-block", 0, "--data", "random.bin")
    with open(tmp_path / "disk.img", "rb") as image:
        assert image.read(len(content)) == content
        assert not any(image.read(MIB))

    run("read", device, "-n", 1, "-s", 0, "--data-size", "64M", "--data", "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == content
    assert run("read", device, "-n", 1, "-c", 64 * MIB // block - 1).stdout == content

    # The same data from a pipe, elsewhere, and the image is not refused for what it holds.
    run("write", device, "-s", 100 * MIB // block, input=content)
    with open(tmp_path / "disk.img", "rb") as image:
        image.seek(100 * MIB)
        assert image.read(len(content)) == content
    run("compare", device, "-s", 100 * MIB // block, "-d", "random.bin")


def test_any_length(run: Any, tmp_path: Path) -> None:
    content = data(5 * MIB + 512)
    device = "qemu:disk.img?size=16M"
    run("write", device, "-s", 3, input=content)
    for length in (1, 511, 512, 513, 3 * MIB + 7, len(content)):
        assert run("read", device, "-s", 3, "-z", length).stdout == content[:length]
    # From a pipe that trickles, so that no piece is full.
    run("write", device, "-z", 1024, "-s", "0x10", input=content[:4096])
    assert (
        run("read", device, "-s", 16, "-z", "2k").stdout
        == content[:1024] + content[13 * 512 + 1024 : 13 * 512 + 2048]
    )


def test_the_device_does_each_command_in_pieces_that_fit(run: Any) -> None:
    content = data(MIB)
    device = "qemu:disk.img?size=16M&mdts=1&memory=16M"  # 8 KiB in one command
    run("write", device, input=content)
    assert run("read", device, "-z", "1M").stdout == content


def test_pad(run: Any, fail: Any, tmp_path: Path) -> None:
    device = "qemu:disk.img?size=1M"
    image = tmp_path / "disk.img"
    image.write_bytes(b"\xff" * MIB)
    (tmp_path / "odd.bin").write_bytes(b"a" * 700)
    assert "--pad" in fail("write", device, "-d", "odd.bin", code=2)
    assert "--pad" in fail("write", device, "-z", 700, code=2, input=b"a" * 700)
    said = fail("write", device, input=b"b" * 700)
    assert "ended after 700 bytes" in said
    assert "--pad" in said
    assert image.read_bytes() == b"\xff" * MIB

    padded = b"a" * 700 + bytes(1024 - 700) + b"\xff" * 1024
    for how in (
        {"arguments": ("-d", "odd.bin")},
        {"arguments": ("-z", 700), "input": b"a" * 700},
        {"arguments": (), "input": b"a" * 700},
        {"arguments": ("-c", 1), "input": b"a" * 700},
        {"arguments": ("-c", 1, "-d", "odd.bin")},
    ):
        image.write_bytes(b"\xff" * MIB)
        run("write", device, "--pad", *how["arguments"], input=how.get("input"))
        assert image.read_bytes()[:2048] == padded
        run("compare", device, "--pad", *how["arguments"], input=how.get("input"))


@pytest.mark.parametrize("name", ["x{memory}.img", "a,locking=off,b.img", "a+b%41.img"])
def test_the_image_has_the_name_that_was_written(run: Any, tmp_path: Path, name: str) -> None:
    run("write", f"qemu:{name}?size=1M", input=b"x" * 512)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes()[:512] == b"x" * 512


def test_fua_and_flush(run: Any) -> None:
    run("write", "qemu:disk.img?size=1M", "--force-unit-access", input=b"x" * 512)
    run("flush", "qemu:disk.img", "-n", 1)
    assert run("read", "qemu:disk.img", "-f", "-c", 0).stdout == b"x" * 512


def test_compare_names_the_blocks(run: Any, fail: Any, tmp_path: Path) -> None:
    content = bytearray(data(4 * MIB))
    run("write", "qemu:disk.img?size=8M", input=content)
    run("compare", "qemu:disk.img", input=content)
    content[3 * MIB + 5] ^= 1
    (tmp_path / "other.bin").write_bytes(content)
    said = fail("compare", "qemu:disk.img", "-d", "other.bin")
    assert said == "blocks 6144 to 7167 of namespace 1 differ from other.bin"


def test_write_zeroes(run: Any, fail: Any) -> None:
    device = "qemu:disk.img?size=64M"
    run("write", device, input=b"\xff" * (40 * MIB))
    run("write-zeroes", device)
    run("write-zeroes", device, "-s", 2, "--block-count", 2, "--deac")
    head = run("read", device, "-z", 3072).stdout
    assert head == bytes(512) + b"\xff" * 512 + bytes(1536) + b"\xff" * 512
    run("write-zeroes", device, "-s", 8, "-c", 70_000)  # more than one command takes
    after = run("read", device, "-s", 7, "-z", 70_003 * 512).stdout
    assert after == b"\xff" * 512 + bytes(70_001 * 512) + b"\xff" * 512
    assert "blocks 0 to 131071" in fail("write-zeroes", device, "-s", 131_071, "-c", 1)


def test_which_namespace(run: Any, fail: Any) -> None:
    device = "qemu:one.img?size=1M&ns3=three.img&ns3.size=2M"
    assert "--namespace-id" in fail("write", device, code=2, input=b"x" * 512)
    assert "active: 1, 3" in fail("flush", device, "-n", 2)
    run("write", device, "-n", 3, input=b"x" * 512)
    assert run("read", device, "-n", 3, "-c", 1).stdout == b"x" * 512 + bytes(512)
    assert run("read", device, "-n", 1, "-c", 0).stdout == bytes(512)
    run("flush", device, "-n", "0xffffffff")  # QEMU's VWC allows it
    assert run("id-ns", device, "-n", 2, "-b").stdout == bytes(4096)
    assert "Invalid Namespace" in fail("id-ns", device, "-n", "0xffffffff")  # QEMU was asked


def test_the_count_decides(run: Any, fail: Any) -> None:
    assert run("read", "qemu:", "-c", 1, "-z", "1k").stderr == b"read: Success\n"
    done = run("read", "qemu:", "-c", 1, "-z", 512)
    assert done.stdout == bytes(1024)
    assert done.stderr == (b"Rounding data size to fit block count (1024 bytes)\nread: Success\n")
    assert "--block-count" in fail("read", "qemu:", code=2)
    assert "no data" in fail("read", "qemu:", "-z", 0, code=2)


@pytest.mark.parametrize("how", [("-z", 1024), ("-c", 1), ("-c", 1, "-d", "short.bin")])
def test_a_short_input_goes_on_with_zeroes(run: Any, tmp_path: Path, how: tuple[Any, ...]) -> None:
    device = "qemu:disk.img?size=1M"
    (tmp_path / "disk.img").write_bytes(b"\xff" * MIB)
    (tmp_path / "short.bin").write_bytes(b"a" * 700)
    data = None if "-d" in how else b"a" * 700
    done = run("write", device, *how, input=data)
    name = "stdin" if data else "short.bin"
    padded = f"{name} has 700 bytes: the other 324 of the 1024 asked for are zeroes\n"
    assert done.stderr.decode() == f"{padded}write: Success\n"
    image = (tmp_path / "disk.img").read_bytes()
    assert image[:2048] == b"a" * 700 + bytes(324) + b"\xff" * 1024
    compared = run("compare", device, *how, input=data)
    assert compared.stderr.decode() == f"{padded}compare: Success\n"


@pytest.mark.parametrize("format", ["ms=8", "ms=8&mset=1", "ms=64", "ms=8&pi=1"])
def test_metadata(run: Any, fail: Any, tmp_path: Path, format: str) -> None:
    """100 blocks, whose metadata is not whole sectors, from file to file and back."""
    extra = int(format.removeprefix("ms=").partition("&")[0])
    device = f"qemu:disk.img?size=1M&{format}"
    content, metadata = data(100 * 512), data(100 * extra, 2)
    (tmp_path / "data").write_bytes(content)
    (tmp_path / "meta").write_bytes(metadata)
    files = ("-s", 7, "-d", "data", "-M", "meta")
    assert run("write", device, *files).stderr == b"write: Success\n"
    run("compare", device, *files)
    done = run("read", device, "-s", 7, "-c", 99, "-d", "got", "-M", "-", "-y", 100 * extra)
    assert (tmp_path / "got").read_bytes() == content
    assert done.stdout == metadata
    if "pi=" in format:
        assert "End-to-end Guard Check Error" in fail("read", device, *("-s", 7, "-c", 0, "-p", 4))
        run("write", device, "-s", 7, "-a", 9, "--force", input=content)
        assert run("read", device, "-s", 7, "-c", 99, "-a", 9).stdout == content
        assert "Application Tag Check Error" in fail("read", device, "-s", 7, "-c", 0, "-a", 8)


@pytest.mark.parametrize("command", ["read", "write"])
def test_progress_on_a_terminal(start: Any, command: str, tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(bytes(8 * MIB))
    ours, theirs = pty.openpty()
    arguments = {"read": ("-z", "8M", "-d", "out.bin"), "write": ("-d", "in.bin")}[command]
    process = start(command, "qemu:", *arguments, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # EIO: the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0
    assert command.encode() in shown
    assert b"8.4/8.4 MB" in shown or b"8.0/8.0 MiB" in shown
    assert b"/s" in shown


# --- ctrl-C --------------------------------------------------------------------------------------


def interrupted(process: Any) -> str:
    process.send_signal(signal.SIGINT)
    # One that comes between Python's look at signals and a read of stdin is seen after that.
    again = threading.Timer(20, process.send_signal, [signal.SIGINT])
    again.start()
    deadline = time.monotonic() + 120
    while process.stdout.read(MIB):  # not kept: a command that does not end would fill the memory
        assert time.monotonic() < deadline
    _, err = process.communicate(timeout=120)
    again.cancel()
    assert process.returncode == 130
    (line,) = err.decode().splitlines()
    assert line.startswith("nvme-user: interrupted")
    return str(line)


def test_ctrl_c_in_a_write(start: Any, run: Any, tmp_path: Path) -> None:
    content = data(32 * MIB)
    process = start("write", "qemu:disk.img?size=256M", stdin=-1)
    process.stdin.write(content)  # returns when all but a pipe's capacity is taken
    process.stdin.flush()
    process.stdin, stdin = None, process.stdin
    line = interrupted(process)
    stdin.close()
    written = int(line.rsplit(" to ")[1].removesuffix(" were written")) + 1
    assert "blocks 0 to " in line
    assert written > 16 * MIB // 512
    # What it says is written is there, for the next one to see.
    assert run("read", "qemu:disk.img", "-c", written - 1).stdout == content[: written * 512]


def test_ctrl_c_in_a_read(start: Any) -> None:
    process = start("read", "qemu:?driver=null-co&size=1T", "-z", "1T")
    process.stdout.read(16 * MIB)
    assert interrupted(process) == "nvme-user: interrupted"


@pytest.mark.parametrize("existed", [False, True])
def test_ctrl_c_and_the_output_file(start: Any, tmp_path: Path, existed: bool) -> None:
    out = tmp_path / "out.bin"
    if existed:
        out.touch()
    process = start("read", "qemu:?driver=null-co&size=1T", "-z", "1T", "-d", "out.bin")
    deadline = time.monotonic() + 120
    while not (out.exists() and out.stat().st_size > MIB):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    line = interrupted(process)
    assert line.endswith("out.bin is incomplete" if existed else "incomplete out.bin was removed")
    assert out.exists() == existed
