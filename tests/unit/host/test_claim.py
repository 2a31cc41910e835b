"""A claim that a program about to be started still has a copy of is waited for, no other."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pynvme_user import DeviceBusyError
from pynvme_user.access.vfio_user import _claim
from pynvme_user.host.claim import claim


@contextmanager
def closed_soon(descriptor: int) -> Iterator[None]:
    """Close it in a moment, as an exec in another thread's child does."""
    timer = threading.Timer(0.2, os.close, [descriptor])
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_lock(file: int, tmp_path: Path) -> None:
    copy = os.open(tmp_path / "file", os.O_RDWR)
    fcntl.flock(copy, fcntl.LOCK_EX)
    with closed_soon(copy):
        claim(file, "it")


def test_a_lock_of_this_process(file: int, tmp_path: Path) -> None:
    claim(file, "it")
    other = os.open(tmp_path / "file", os.O_RDWR)
    try:
        with pytest.raises(DeviceBusyError, match=f"it is in use by process {os.getpid()} "):
            claim(other, "it")
    finally:
        os.close(other)


def test_a_lock_of_another_process(file: int, tmp_path: Path) -> None:
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DeviceBusyError, match=f"process {holder.pid} "):
            claim(file, "it")


def test_a_lock_that_cannot_be() -> None:
    with pytest.raises(OSError, match="descriptor"):
        claim(-1 & 0x7FFFFFFF, "it")


def test_a_name(tmp_path: Path) -> None:
    path = tmp_path / "cntrl"
    path.touch()
    status = path.stat()
    other = socket.socket(socket.AF_UNIX)
    other.bind(f"\0pynvme_user/{status.st_dev:x}/{status.st_ino:x}")
    other.listen()
    with closed_soon(other.detach()), _claim(path, "it"):
        pass
    with (
        _claim(path, "it"),
        pytest.raises(DeviceBusyError, match=f"it is in use by process {os.getpid()} "),
        _claim(path, "it"),
    ):
        pass
