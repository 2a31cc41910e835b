"""Each way to fail: one clear sentence, the right exit code, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20


@pytest.mark.parametrize("output", [("-d", "out.bin"), ()])
def test_past_the_end(fail: Any, tmp_path: Path, output: tuple[str, ...]) -> None:
    for where in (("-s", 2048, "-c", 0), ("-s", 2047, "-z", 1024), ("-s", 0, "-z", "1T")):
        said = fail("read", "qemu:?size=1M", *where, *output)
        assert "namespace 1, which has blocks 0 to 2047" in said
    assert list(tmp_path.iterdir()) == []


def test_a_write_past_the_end_writes_nothing(fail: Any, tmp_path: Path) -> None:
    (tmp_path / "long.bin").write_bytes(b"x" * (MIB + 512))
    said = fail("write", "qemu:disk.img?size=1M", "-d", "long.bin")
    assert "blocks 0 to 2047" in said
    assert (tmp_path / "disk.img").read_bytes() == bytes(MIB)


def test_a_pipe_longer_than_the_namespace(fail: Any, tmp_path: Path) -> None:
    said = fail("write", "qemu:disk.img?size=4M", "-s", 1, input=b"x" * (8 * MIB))
    assert "more data than there is room" in said


def test_missing_image(fail: Any, tmp_path: Path) -> None:
    said = fail("read", "qemu:missing.img", "-c", 0, "-d", "out.bin")
    assert "missing.img does not exist" in said
    assert "?size=1G" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["disk.img", "", "qemu:x?size", "qemu:?size=huge", "/dev/nvme0"])
def test_a_name_that_does_not_parse(fail: Any, name: str) -> None:
    assert fail("read", name, "-c", 0, code=2)


@pytest.mark.parametrize("command", ["id-ctrl", "bench", "doctor", "bind"])
def test_a_name_of_the_kernels(fail: Any, command: str) -> None:
    assert "`nvme-user list`" in fail(command, "/dev/nvme0", code=2)


def test_without_qemu(fail: Any, environment: dict[str, str], tmp_path: Path) -> None:
    environment["PATH"] = str(tmp_path)
    said = fail("read", "qemu:disk.img?size=1M", "-c", 0)
    assert "is not installed" in said
    assert "apt-get install" in said
    assert list(tmp_path.iterdir()) == []


def test_a_property_that_qemu_does_not_know(fail: Any) -> None:
    assert "nonsense" in fail("id-ctrl", "qemu:?nonsense=1")


def test_a_busy_image(fail: Any, start: Any) -> None:
    process = start("write", "qemu:disk.img?size=64M", stdin=subprocess.PIPE)
    process.stdin.write(bytes(MIB))
    process.stdin.flush()
    said = fail("read", "qemu:disk.img", "-c", 0)
    assert f"in use by process {process.pid}" in said
    process.communicate()
    assert process.returncode == 0


def test_dev_full(fail: Any) -> None:
    said = fail("read", "qemu:", "-z", "4M", "--data", "/dev/full")
    assert said.startswith("/dev/full takes no more")
    assert said.endswith("No space left on device")
    with open("/dev/full", "wb") as full:
        assert "No space left" in fail("read", "qemu:", "-z", "4M", stdout=full)
    assert Path("/dev/full").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_output_that_fills_up(fail: Any, tmp_path: Path, existed: bool) -> None:
    out = tmp_path / "out.bin"
    if existed:
        out.touch()

    def limit() -> None:
        # The emulated machine's memory is a file, too: smaller than the limit.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * MIB, 20 * MIB))

    said = fail(
        *("read", "qemu:?driver=null-co&size=1G&memory=16M", "-z", "64M", "-d", "out.bin"),
        preexec_fn=limit,
    )
    assert "out.bin takes no more after 20 MiB: File too large" in said
    assert said.endswith("out.bin is incomplete" if existed else "incomplete out.bin was removed")
    assert out.exists() == existed


def test_empty_input(fail: Any) -> None:
    assert "stdin is empty" in fail("write", "qemu:", input=b"")
    assert "nothing to do" in fail("write", "qemu:", "-d", "/dev/null")


@pytest.mark.parametrize("name", ["no/such/file", "."])
def test_files_that_cannot_be_opened(fail: Any, name: str) -> None:
    assert name in fail("write", "qemu:", "-d", name)
    assert name in fail("read", "qemu:", "-c", 0, "-d", name)


def test_read_only_image(fail: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.img").mkdir()
    assert "folder.img cannot be opened" in fail("id-ctrl", "qemu:folder.img")


@pytest.mark.kills
def test_kill_of_qemu(start: Any) -> None:
    process = start("write", "qemu:disk.img?size=256M", stdin=subprocess.PIPE)
    process.stdin.write(bytes(16 * MIB))
    process.stdin.flush()
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    (qemu,) = [pid for path in children for pid in path.read_text().split()]
    os.kill(int(qemu), signal.SIGKILL)
    feeder = threading.Thread(target=_feed, args=(process.stdin,))
    feeder.start()
    assert process.wait(120) == 1
    feeder.join()
    (line,) = process.stderr.read().decode().splitlines()
    assert "is gone" in line
    process.stdin = None


def _feed(stdin: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        stdin.write(bytes(64 * MIB))
        stdin.close()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("read", "qemu:", "--nonsense"),
        ("read", "qemu:", "-s", "-1", "-c", "0"),
        ("read", "qemu:", "-s", "ten", "-c", "0"),
        ("read", "qemu:", "-c", "99999999999999999999"),
        ("read", "qemu:", "-z", "12Q"),
        ("read", "qemu:", "qemu:", "-c", "0"),
        ("id-ctrl", "qemu:", "-o", "xml"),
        ("list-ns", "qemu:", "-o", "binary"),
        ("list-ns", "qemu:", "-n", "0"),
        ("admin-passthru", "qemu:"),
        ("admin-passthru", "qemu:", "-o", "256"),
        ("io-passthru", "qemu:", "-o", "0x80", "-l", "512"),
        ("--timeout", "0", "id-ctrl", "qemu:"),
    ],
)
def test_usage(fail: Any, arguments: tuple[str, ...]) -> None:
    assert "--help'" in fail(*arguments, code=2)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--start-block", "xyz", "'xyz' is not a number"),
        ("--data-size", "xyz", "'xyz' is not a size"),
        ("--block-count", "xyz", "'xyz' is not a whole number"),
        ("--start-block", "9" * 5000, "is not a number"),
    ],
)
def test_what_is_no_number(fail: Any, option: str, value: str, said: str) -> None:
    assert said in fail("read", "qemu:", f"{option}={value}", code=2)


def test_traceback_only_on_request(run: Any, environment: dict[str, str]) -> None:
    environment["NVME_USER_DEBUG"] = "1"
    said = run("read", "qemu:missing.img", "-c", 0, code=1).stderr.decode()
    assert "Traceback" in said
    assert "DeviceAccessError" in said
    assert said.splitlines()[-1].startswith("nvme-user: missing.img does not exist")
