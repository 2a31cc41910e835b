"""SIGTERM and SIGHUP end a command as ctrl-C does: devices shut down, nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from typing import Any

import pytest

NULL = "qemu:?driver=null-co&size=1T"
ENDS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGHUP: (129, "hung up"),
}
both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])


def ignore_hangup() -> None:
    """Do what nohup does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@both
def test_a_benchmark_has_its_results(start: Any, number: signal.Signals) -> None:
    process = start("bench", NULL, "--runtime=60", "--time_based", "--eta=always", "-o", "json")
    assert process.stderr.readline().startswith(b"run 1/1: ")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    code, word = ENDS[number]
    assert process.returncode == code
    assert err.decode().splitlines()[-1] == f"nvme-user: {word}"
    found = json.loads(out)
    assert found["pynvme_user"]["interrupted"] is True
    assert found["jobs"][0]["read"]["total_ios"] > 0


def test_nohup(start: Any) -> None:
    """A hang-up that is ignored stays so, in a run and in the rest of the command."""
    process = start(
        *("bench", NULL, "--runtime=2", "--time_based", "--eta=always", "-o", "json"),
        preexec_fn=ignore_hangup,
    )
    process.send_signal(signal.SIGHUP)
    assert process.stderr.readline().startswith(b"run 1/1: ")
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["pynvme_user"]["interrupted"] is False


@both
def test_a_transfer(start: Any, number: signal.Signals) -> None:
    process = start("read", NULL, "-z", "1T")
    process.stdout.read(16 << 20)
    process.send_signal(number)
    deadline = time.monotonic() + 60
    while process.stdout.read(1 << 20):
        assert time.monotonic() < deadline
    _, err = process.communicate(timeout=120)
    code, word = ENDS[number]
    assert process.returncode == code
    assert err.decode() == f"nvme-user: {word}\n"


@pytest.mark.parametrize("number", ENDS)
def test_while_qemu_starts(start: Any, number: signal.Signals) -> None:
    """At any time: one line, the exit code, no traceback; no QEMU stays (see ``environment``)."""
    began = time.monotonic()
    process = start("id-ctrl", "qemu:", installed=True)
    everything, _ = process.communicate(timeout=120)
    whole = time.monotonic() - began
    code, word = ENDS[number]
    ended = 0
    for step in range(8):
        began = time.monotonic()
        process = start("id-ctrl", "qemu:", installed=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(whole * (step + 1) / 9)
            whole = time.monotonic() - began  # it is quicker now
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        if process.returncode == code:
            assert err.decode() == f"nvme-user: {word}\n"
            ended += 1
        elif process.returncode == 0:
            assert out == everything
        else:
            # Python itself is not up yet, or ends: main() is not running.
            assert process.returncode in (-number, 1), err.decode()
            assert out in (b"", everything)
    assert ended


def test_a_terminal_that_is_gone(start: Any) -> None:
    """What is shown on it goes nowhere, and the benchmark ends as at any hang-up."""
    ours, theirs = pty.openpty()
    process = start(
        *("bench", NULL, "--runtime=60", "--time_based"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"run 1/1" not in shown:
        shown += os.read(ours, 65536)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == ENDS[signal.SIGHUP][0]
