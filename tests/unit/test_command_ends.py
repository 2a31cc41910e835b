"""A command whose device does not do as it should: its output, its warnings, its exit code."""

from __future__ import annotations

import json

import pytest
from soft_command import run

NO_SHUTDOWN = "soft.shuts_down = False; soft.becomes_ready = True"
NO_IDENTIFY = "soft.admin = lambda sqe: None if sqe.opc == 6 else 0"


def test_results_of_a_device_that_never_shuts_down() -> None:
    """They are written; that it did not is a warning; the exit code is the command's."""
    code, out, err = run(
        f"{NO_SHUTDOWN}\nimport pynvme_user.lifecycle as l\nl._SHUTDOWN_SECONDS = 0.1",
        *("id-ctrl", "soft:", "-o", "json"),
    )
    assert json.loads(out)["mdts"] == 2
    assert code == 0
    assert err == (
        "nvme-user: warning: soft: it did not end as it should: the controller did not shut down "
        "within 0.1 s (CSTS 0x1): reset the device, or power it off and on\n"
    )


@pytest.mark.parametrize("output_format", ["normal", "json"])
def test_results_of_a_benchmark(output_format: str) -> None:
    code, out, err = run(
        f"{NO_SHUTDOWN}\nimport pynvme_user.lifecycle as l\nl._SHUTDOWN_SECONDS = 0.1",
        *("bench", "soft:", "--rw=randread", "--size=64k", "-o", output_format, "--eta=never"),
    )
    assert code == 0
    assert "did not shut down within 0.1 s" in err
    if output_format == "json":
        assert json.loads(out)["jobs"][0]["read"]["total_ios"] == 16
    else:
        assert "16 I/Os" in out or "device       : soft, namespace 1" in out


def test_results_come_before_the_end() -> None:
    """Whoever waits for them does not wait for the shutdown."""
    from soft_command import start

    process = start(
        f"{NO_SHUTDOWN}\nimport pynvme_user.lifecycle as l\nl._SHUTDOWN_SECONDS = 600",
        *("id-ctrl", "soft:"),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"Identify Controller:\n"
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_registers_of_a_controller_that_does_not_identify() -> None:
    code, out, err = run(NO_IDENTIFY, "--timeout", 1, "show-regs", "soft:", "-o", "json")
    assert json.loads(out)["vs"] == 0x10400
    assert code == 0
    assert (
        "nvme-user: warning: soft: is not enabled: Identify (opcode 0x06, nsid 0x0) was not" in err
    )


def test_registers_of_a_controller_that_fails() -> None:
    code, out, err = run("soft.fatal_when_enabled = True", "show-regs", "soft:")
    assert "csts    : 0\n" in out
    assert code == 0
    assert "soft: is not enabled: the controller reported a fatal error" in err


def test_a_refusal_is_a_warning() -> None:
    code, out, err = run(
        "from pynvme_user.spec.status import Status\n"
        "soft.admin = lambda sqe: Status(4 if sqe.opc == 9 else 0)",
        *("id-ctrl", "soft:"),
    )
    assert out.startswith("Identify Controller:\n")
    assert code == 0
    assert err.startswith("nvme-user: warning: soft: there are no I/O queues, only admin commands")
    assert err.count("\n") == 1
