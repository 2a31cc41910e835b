"""A command whose device does not do as it should: its output, its warnings, its exit code."""

from __future__ import annotations

import json
import signal

import pytest
from soft_command import run, start

NO_SHUTDOWN = "soft.shuts_down = False; soft.becomes_ready = True"
NO_IDENTIFY = "soft.admin = lambda sqe: None if sqe.opc == 6 else 0"


def test_results_of_a_device_that_never_shuts_down() -> None:
    """They are written; that it did not is a warning; the exit code is the command's."""
    code, out, err = run(
        f"{NO_SHUTDOWN}\nimport pynvme_user.driver.lifecycle as l\nl._SHUTDOWN_SECONDS = 0.1",
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
        f"{NO_SHUTDOWN}\nimport pynvme_user.driver.lifecycle as l\nl._SHUTDOWN_SECONDS = 0.1",
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
    process = start(
        f"{NO_SHUTDOWN}\nimport pynvme_user.driver.lifecycle as l\nl._SHUTDOWN_SECONDS = 600",
        *("id-ctrl", "soft:"),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"NVME Identify Controller:\n"
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
    assert out.startswith("NVME Identify Controller:\n")
    assert code == 0
    assert err.startswith("nvme-user: warning: soft: there are no I/O queues, only admin commands")
    assert err.count("\n") == 1


# --- signals ------------------------------------------------------------------------------------

ENDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
#: Says what became of the controller when it is closed, and when it has something to do.
TELL = """
import sys
close = soft.close
def tell():
    close()
    print(*soft.log, file=sys.stderr)
soft.close = tell

from pynvme_user.spec.status import Status
said = []
def told(status):
    if not said:
        said.append(1)
        print("running", file=sys.stderr, flush=True)
    return status

"""


#: Arguments, and what the device does meanwhile.
SIGNALLED = {
    "bench": (
        ("soft:", "--rw=randread", "--runtime=60", "--time_based", "--eta=always"),
        "soft.io = lambda sqe: told(Status(0))",
    ),
    "read": (("soft:", "-s", 0, "-c", 0), "soft.io = lambda sqe: told(None)"),
    "admin-passthru": (
        ("soft:", "--opcode=0xc0"),
        "soft.admin = lambda sqe: told(None) if sqe.opc == 0xC0 else Status(0)",
    ),
}


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("command", SIGNALLED)
def test_a_signal_shuts_the_controller_down(number: signal.Signals, command: str) -> None:
    """Also where a command is not answered, which is drained first, with an Abort."""
    arguments, keeps = SIGNALLED[command]
    process = start(TELL + keeps, "--timeout", 1, command, *arguments)
    assert process.stderr is not None
    begun = b"run 1/1: " if command == "bench" else b"running\n"
    while not (line := process.stderr.readline()).startswith(begun):
        assert line
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    lines = err.decode().splitlines()
    assert process.returncode == 128 + number, lines
    assert lines[-1] == f"nvme-user: {ENDS[number]}"
    log = lines[-2].split()
    assert log[-3:] == ["shutdown", "disable", "closed"]
    if command == "bench":
        assert b"Interrupted: the results are those until then." in out
    assert not any("Traceback" in line for line in lines)
