"""A reader of the output that goes away is no error: exit code 0, and nothing is said."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynvme_user.cli.group import cli

NVME_USER = str(Path(sys.executable).with_name("nvme-user"))
IDENTIFY = ("-o", 6, "-l", 4096, "--cdw10", 1)
BENCH = ("bench", "qemu:?driver=null-co", "--number-ios", 100, "--eta", "always")
#: By command: what has output on stdout and needs no root. Pages are written in one place.
WITH_OUTPUT: dict[str, list[tuple[object, ...]]] = {
    "list": [("list",), ("list", "-o", "json")],
    "identify": [("identify", "qemu:"), ("identify", "qemu:", "-o", "json")],
    "id-ctrl": [("id-ctrl", "qemu:", *more) for more in (("-v",), ("-o", "json"), ("-b",))],
    "id-ns": [("id-ns", "qemu:", *more) for more in (("-H",), ("-o", "json"), ("-b",))],
    "list-ns": [("list-ns", "qemu:")],
    "show-regs": [("show-regs", "qemu:", *more) for more in (("-H",), ("-o", "binary"))],
    "read": [("read", "qemu:", "-c", 0), ("read", "qemu:", "-z", "256M")],
    "admin-passthru": [
        ("admin-passthru", "qemu:", *IDENTIFY, *more) for more in (("-s",), ("-b",), ("-d",))
    ],
    "io-passthru": [("io-passthru", "qemu:", "-o", 2, "-n", 1, "-l", 512)],
    "bench": [BENCH, (*BENCH, "-o", "json+,terse"), ("bench", "compare", "r.json", "r.json")],
    "effects-log": [("effects-log", "qemu:"), ("effects-log", "qemu:", "-o", "json")],
    "get-log": [("get-log", "qemu:", "-i", 2, "-l", 512, *more) for more in ((), ("-b",))],
    "get-feature": [("get-feature", "qemu:", *more) for more in (("-H",), ("-o", "json"))],
    "get-property": [("get-property", "qemu:", "-o", 0)],
    "ns-descs": [("ns-descs", "qemu:")],
    "setup": [],
    "bind": [],
    "unbind": [],
    "restore": [],
    "doctor": [],  # below: its exit code is the machine's
    "write": [],
    "compare": [],
    "write-zeroes": [],
    "flush": [],
}


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        yield theirs
    finally:
        os.close(theirs)


def test_these_are_commands() -> None:
    assert set(WITH_OUTPUT) < set(cli.commands)


@pytest.mark.parametrize(
    "arguments",
    [
        *(line for lines in WITH_OUTPUT.values() for line in lines),
        ("--help",),
        ("bench", "--help"),
        ("--version",),
        ("--completion", "bash"),
    ],
    ids=lambda arguments: shlex.join(map(str, arguments)),
)
def test_nobody_reads(run: Any, tmp_path: Path, arguments: tuple[object, ...]) -> None:
    if "r.json" in arguments:
        done = run(*BENCH, "-o", "json")
        (tmp_path / "r.json").write_bytes(done.stdout)
    with nobody() as theirs:
        done = run(*arguments, stdout=theirs)
    told = (b"nvme-user: warning: ", b"Admin Command", b"IO Command", b"read: Success")
    assert all(line.startswith(told) for line in done.stderr.splitlines())


def test_doctor_that_nobody_reads(start: Any) -> None:
    read = start("doctor")
    read.communicate(timeout=120)
    with nobody() as theirs:
        process = start("doctor", stdout=theirs)
        assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == read.returncode


def test_completion_that_nobody_reads(run: Any, environment: dict[str, str]) -> None:
    environment |= {
        "_NVME_USER_COMPLETE": "bash_complete",
        "COMP_LINE": "nvme-user ",
        "COMP_POINT": "10",
    }
    with nobody() as theirs:
        assert run(stdout=theirs).stderr == b""


def test_neither_output_nor_messages_are_read(run: Any) -> None:
    with nobody() as theirs:
        run(*BENCH, stdout=theirs, stderr=theirs)
        run("admin-passthru", "qemu:", *IDENTIFY, "-T", stdout=theirs, stderr=theirs)
        run("nonsense", stdout=theirs, stderr=theirs, code=2)
        run("read", "qemu:", "-c", 0, "-s", "1T", stdout=theirs, stderr=theirs, code=1)


def test_what_is_wrong_stays_wrong(run: Any, tmp_path: Path) -> None:
    """Nobody reads the results of a run with a fault: exit code 1, and the report is written."""
    with nobody() as theirs:
        done = run(
            *("bench", "qemu:?size=16M", "--rw", "write", "--verify", "crc32c", "--verify-only"),
            *("--report", "r.html", "--number-ios", 4, "--eta", "never"),
            code=1,
            stdout=theirs,
        )
    assert b"verification found" in done.stderr
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_a_reader_that_goes_away(start: Any) -> None:
    process = start("read", "qemu:", "-z", "256M")
    assert process.stdout.read(1000) == bytes(1000)
    process.stdout.close()
    assert process.wait(120) == 0
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("command", "runs"),
    [("--help", 6), ("id-ctrl qemu: -v", 6), ("bench --help", 4)],
)
def test_head(environment: dict[str, str], tmp_path: Path, command: str, runs: int) -> None:
    """Whatever the moment at which head ends, in many runs."""
    script = f"""
    for run in $(seq {runs}); do
        {NVME_USER} {command} | head -1 >> lines
        echo ${{PIPESTATUS[0]}} >> codes
    done
    """
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        timeout=900,
        check=True,
    )
    assert done.stderr == b""
    assert (tmp_path / "codes").read_text() == "0\n" * runs
    assert len((tmp_path / "lines").read_text().splitlines()) == runs


@pytest.mark.parametrize(
    "arguments",
    [
        ("id-ctrl", "qemu:", "-H"),
        ("bench", "--help", "all"),
        ("admin-passthru", "qemu:", *IDENTIFY),
    ],
    ids=lambda arguments: arguments[0],
)
def test_output_is_one_write(run: Any, arguments: tuple[object, ...]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        run(*arguments, stdout=theirs)
        theirs.close()
        whole = ours.recv(1 << 20)
        assert whole.endswith(b"\n")
        assert len(whole) > 8192
        assert ours.recv(1 << 20) == b""
