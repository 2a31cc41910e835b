"""Log pages, features and Identify's other pages, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pynvme_user.cli import features, identify_pages, logs
from pynvme_user.spec.logs import ErrorLogEntry, SmartLog

DEVICE = "qemu:?size=64M"


def test_smart_log(run: Any) -> None:
    raw = run("smart-log", DEVICE, "-o", "binary").stdout
    page = SmartLog.from_bytes(raw)
    assert run("smart-log", DEVICE, "--raw-binary").stdout[:8] == raw[:8]
    printed = json.loads(run("smart-log", DEVICE, "-o", "json").stdout)
    assert (printed["temperature"], printed["critical_warning"]) == (page.ctemp, page.cw)
    text = run("smart-log", DEVICE).stdout.decode()
    assert text.startswith(f"Smart Log for NVME device:{DEVICE} namespace-id:ffffffff\n")
    one = run("smart-log", DEVICE, "-n", "1").stdout.decode()
    assert "namespace-id:1\n" in one.splitlines(keepends=True)[0]


def test_error_log(run: Any) -> None:
    assert len(run("error-log", DEVICE, "-b").stdout) % ErrorLogEntry.size == 0
    text = run("error-log", DEVICE, "--log-entries", "1").stdout.decode()
    assert text.startswith(f"Error Log Entries for device:{DEVICE} entries:1\n")
    assert set(json.loads(run("error-log", DEVICE, "-o", "json").stdout)) == {"errors"}


def test_what_the_controller_does_not_have(fail: Any, run: Any) -> None:
    assert fail("sanitize-log", DEVICE) == (
        f"{DEVICE} has no log page 81h: SANICAP (Sanitize Capabilities) is 0"
    )
    assert "Invalid Field in Command" in fail("sanitize-log", DEVICE, "--force")
    assert "has no log page 07h" in fail("telemetry-log", DEVICE, "--output-file", "t")
    assert not Path("t").exists()


def test_get_log(run: Any, fail: Any) -> None:
    raw = run("get-log", DEVICE, "-i", "2", "-l", "512", "-b").stdout
    assert SmartLog.from_bytes(raw).ctemp == 323
    part = run("get-log", DEVICE, "-i", "2", "-l", "8", "--lpo", "4", "-b").stdout
    assert part == raw[4:12]
    by_event = run("get-log", DEVICE, "-i", "0", "-l", "8", "--aen", "0x020101", "-b").stdout
    assert by_event == raw[:8]
    text = run("get-log", DEVICE, "-i", "2", "-l", "16").stdout.decode().splitlines()
    assert text[0] == f"Device:{DEVICE} log-id:2 namespace-id:0xffffffff"
    assert text[1] == "       0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f"
    assert text[2].startswith("0000: 00 43 01 00")
    assert "multiples of 4 bytes, not 5 bytes" in fail("get-log", DEVICE, "-i2", "-l5", code=2)


def test_get_feature(run: Any, fail: Any) -> None:
    text = run("get-feature", DEVICE, "-f", "4").stdout.decode()
    assert text == "get-feature:0x04 (Temperature Threshold), Current value:0x00000157\n"
    zero = run("get-feature", DEVICE, "-f", "2").stdout.decode()
    assert zero == "get-feature:0x02 (Power Management), Current value:00000000\n"
    able = run("get-feature", DEVICE, "-f", "5", "-s", "3").stdout.decode().splitlines()
    assert able[1:] == ["  Feature is per-namespace", "  Feature is changeable"]
    words = run("get-feature", DEVICE, "-f", "4", "-H").stdout.decode()
    assert "Threshold Type Select: OVER" in words
    several = run("get-feature", DEVICE, "-f", "4", "-s", "8").stdout.decode().splitlines()
    assert [line.split(", ")[1].split()[0] for line in several] == ["Current", "Default", "Saved"]
    printed = json.loads(run("get-feature", DEVICE, "-f", "4", "-o", "json").stdout)
    assert (printed["value"], printed["fields"]["tmpth"]) == (0x157, 0x157)
    listed = json.loads(run("get-feature", DEVICE, "-o", "json").stdout)["features"]
    assert {one["feature"] for one in listed} >= {1, 2, 4, 5, 6, 7}
    data = json.loads(run("get-feature", DEVICE, "-f", "0xe", "-o", "json").stdout)["data"]
    assert set(data) == {"tstmp", "attr"}
    assert len(run("get-feature", DEVICE, "-f", "0xe", "-b").stdout) == 8
    assert "Invalid Field in Command" in fail("get-feature", DEVICE, "-f", "0xc0")


def test_set_feature(run: Any, fail: Any) -> None:
    text = run("set-feature", DEVICE, "-f", "4", "--value", "0x150").stdout.decode()
    assert text == (
        "set-feature:0x04 (Temperature Threshold), value:0x00000150, cdw12:00000000, save:0\n"
    )
    run("set-feature", DEVICE, "-f", "0xe", input=bytes(8))
    assert "is empty: the feature takes 8 bytes" in fail("set-feature", DEVICE, "-f", 14, input=b"")
    assert "sets the number of queues" in fail("set-feature", DEVICE, "-f7", "-v1", code=2)
    assert "with --data-len" in fail("set-feature", DEVICE, "-f4", "-d", "-", code=2)


def test_identify_pages(run: Any, fail: Any) -> None:
    printed = json.loads(run("nvm-id-ctrl", DEVICE, "-o", "json").stdout)
    assert set(printed) == {"vsl", "wzsl", "wusl", "dmrl", "dmrsl", "dmsl"}
    assert len(run("nvm-id-ns", DEVICE, "-o", "binary").stdout) == 4096
    device = f"{DEVICE}&uuid=11223344-5566-7788-99aa-bbccddeeff00"
    listed = json.loads(run("ns-descs", device, "-o", "json").stdout)["ns-descs"]
    assert {"uuid": "11223344-5566-7788-99aa-bbccddeeff00"}.items() <= listed[0].items()
    assert "Invalid Field in Command" in fail("id-domain", DEVICE)
    assert json.loads(run("list-secondary", DEVICE, "-o", "json").stdout)


COMMANDS = (*logs.COMMANDS, *features.COMMANDS, *identify_pages.COMMANDS)


@pytest.mark.parametrize("command", [str(command.name) for command in COMMANDS])
def test_help(run: Any, command: str) -> None:
    text = run(command, "--help").stdout.decode()
    assert f"nvme-user {command} " in text
    assert "Example:" in text


def test_errors_are_json_too(run: Any) -> None:
    for words, code in (
        (("sanitize-log", DEVICE, "-o", "json"), 1),
        (("id-domain", DEVICE, "--output-format=json"), 1),
        (("smart-log", "-ojson"), 2),
    ):
        done = run(*words, code=code)
        told = json.loads(done.stdout)
        assert done.stderr.decode() == f"nvme-user: {told['error']}\n"
    status = json.loads(run("id-domain", DEVICE, "-o", "json", code=1).stdout)
    assert (status["sct"], status["sc"], status["dnr"]) == (0, 2, True)
    assert run("sanitize-log", DEVICE, code=1).stdout == b""


def test_effects_of_each_command_set(run: Any) -> None:
    """As nvme-cli does it: without --csi those that CAP.CSS names, and always a list."""
    every = json.loads(run("effects-log", DEVICE, "-o", "json").stdout)
    assert [page["command_set_identifier"] for page in every] == [2, 0]
    assert json.loads(run("effects-log", DEVICE, "-c", "2", "-o", "json").stdout) == every[:1]
    text = run("effects-log", DEVICE).stdout.decode().splitlines()
    assert [line for line in text if line.endswith("Log Page")] == [
        "ZNS Command Set Log Page",
        "NVM Command Set Log Page",
    ]
    assert len(run("effects-log", DEVICE, "-b").stdout) == 2 * 4096


def test_list_ns_asks_for_those_behind_a_namespace(run: Any, fail: Any) -> None:
    assert json.loads(run("list-ns", DEVICE, "-n", "2", "-o", "json").stdout) == {"nsid_list": []}
    assert "Invalid Namespace or Format" in fail("list-ns", DEVICE, "-n", "0xffffffff")
