"""What is logged, and what is shown of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import soft_command
from soft_controller import SoftController

from pynvme_user import Controller, ControllerFatalError, DeviceRemovedError, NvmeTimeoutError, logs

SCRIPT = "import pynvme_user.logs as logs; logs.logger('pynvme_user.x').{}('a line')"


def shown(call: str, level: str | None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != logs.VARIABLE}
    if level is not None:
        environment[logs.VARIABLE] = level
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(call)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("call", "level", "there"),
    [
        ("error", None, False),
        ("debug", "debug", True),
        ("info", "debug", True),
        ("debug", "info", False),
        ("warning", "info", True),
        ("warning", "error", False),
    ],
)
def test_what_is_shown(call: str, level: str | None, there: bool) -> None:
    line = shown(call, level)
    assert (f"{call.upper()} pynvme_user.x: a line" in line) is there
    assert bool(line) is there


def test_a_level_that_is_none() -> None:
    assert "NVME_USER_LOG is one of debug, info, warning, error, not 'loud'" in shown(
        "error", "loud"
    )


def test_the_command_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "loud")
    code, out, err = soft_command.run("", "id-ctrl", "soft:")
    assert (code, out) == (2, "")
    assert err.startswith("nvme-user: NVME_USER_LOG is one of")
    assert err.count("\n") == 1


def test_the_command_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "debug")
    code, _, err = soft_command.run("", "read", "soft:", "-n", "1", "-z", "512")
    assert code == 0
    for line in ("soft: LIVE, was NEW", "Identify (opcode 0x06", "soft: CLOSED, was LIVE"):
        assert line in err, line


def test_transitions(
    soft: SoftController, ctrl: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """Each leaves a trace: overdue, aborted, reset, what it came to; and what is gone."""
    caplog.set_level(logging.DEBUG, "pynvme_user")
    ns = ctrl.namespaces[1]
    ns.read(0, 1)
    caplog.clear()
    soft.io = lambda _: None
    soft.abort_answer = False
    ctrl.timeout = 0.1
    with pytest.raises(NvmeTimeoutError):
        ns.read(0, 1)
    said = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert "of queue 1 is overdue: abort" in said[0]
    assert "of queue 1 was not aborted: reset" in said[1]
    assert said[2:] == ["soft: reset", "soft: RESETTING, was LIVE", "soft: LIVE, was RESETTING"]

    caplog.clear()
    soft.becomes_ready = False
    with pytest.raises(ControllerFatalError):
        ctrl.reset()
    assert "soft: FAILED, was RESETTING: the controller did not become ready" in caplog.text


def test_a_removal(ctrl: Controller, caplog: pytest.LogCaptureFixture) -> None:
    ctrl.detach()
    with pytest.raises(DeviceRemovedError):
        ctrl.reset()
    assert "soft: the kernel asks for the device" in caplog.text
    assert "soft: REMOVED, was LIVE" in caplog.text


def test_no_io_is_logged(ctrl: Controller, caplog: pytest.LogCaptureFixture) -> None:
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    ns.read_into(0, buffer)
    caplog.set_level(logging.DEBUG, "pynvme_user")
    caplog.clear()
    for _ in range(100):
        ns.read_into(0, buffer)
        ns.read(0, 1)
    assert not caplog.records
