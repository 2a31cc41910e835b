"""The command, run as a user runs it, and a watch over what it leaves behind.

It runs in a process of its own, which is forked where that makes no difference: forked_command.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_command
import pytest

NVME_USER = str(Path(sys.executable).with_name("nvme-user"))

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def _processes_with(tag: str) -> list[str]:
    """Command lines of the processes whose environment has a tag; QEMU inherits it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended, or is another user's
    return found


def _shared() -> set[Path]:
    """What lies where programs leave things behind, as far as it can be ours."""
    return {
        path
        for folder in ("/tmp", "/dev/shm")
        for pattern in ("*qemu*", "*nvme*")
        for path in Path(folder).glob(pattern)
        if path.suffix != ".whl"  # of an installation at the same time
    }


@pytest.fixture(autouse=True)
def environment(qemu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The command's environment; afterwards nothing of the command may be left."""
    tag = str(uuid.uuid4())
    temporary = tmp_path_factory.mktemp("temporary")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NVME_USER_")
    }
    environment["NVME_USER_TEST"] = tag
    environment |= {"TMPDIR": str(temporary), "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    before = _shared()
    yield environment
    assert _processes_with(tag) == []
    assert list(temporary.iterdir()) == []
    assert _shared() <= before


@pytest.fixture(scope="session")
def server() -> Iterator[forked_command.Server]:
    with contextlib.closing(forked_command.Server()) as server:
        yield server


@pytest.fixture
def start(
    environment: dict[str, str], tmp_path: Path, server: forked_command.Server
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command in an empty folder; ``start("read", "qemu:", ...)``.

    The installed one itself with ``installed=True``, with another encoding, or with options that a
    forked one has not.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(
        *arguments: object, installed: bool = False, **options: Any
    ) -> subprocess.Popen[bytes]:
        words = [NVME_USER, *map(str, arguments)]
        more = options.keys() - {"stdin", "stdout", "stderr", "cwd"}
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": environment,
            "cwd": tmp_path,
        } | options
        if installed or more or forked_command.needs_its_own(environment):
            process = subprocess.Popen(words, **options)
        else:
            process = server.start(words, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[bytes]]) -> Run:
    """Run the command to its end; ``input`` and ``code`` (the exit code expected) by name."""

    def run(
        *arguments: object, input: bytes | None = None, code: int = 0, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = start(*arguments, **options)
        out, err = process.communicate(input, timeout=300)
        done = subprocess.CompletedProcess(arguments, process.returncode, out or b"", err or b"")
        assert done.returncode == code, done.stderr.decode()
        return done

    return run


@pytest.fixture
def fail(run: Run) -> Callable[..., str]:
    """Run the command, which is to fail: give its one line of stderr, without the name."""

    def fail(*arguments: object, code: int = 1, **options: object) -> str:
        done = run(*arguments, code=code, **options)
        return sentence(done.stderr)

    return fail


def sentence(stderr: bytes) -> str:
    """The one sentence that a failed command writes."""
    lines = stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("nvme-user: ")
    return lines[0].removeprefix("nvme-user: ")


@pytest.fixture
def results(run: Callable[..., subprocess.CompletedProcess[bytes]]) -> Callable[..., Any]:
    """Run the benchmark for its JSON, of which stdout has nothing else."""

    def results(*arguments: object, code: int = 0) -> Any:
        done = run("bench", *arguments, "--output-format", "json", code=code)
        return json.loads(done.stdout)

    return results
