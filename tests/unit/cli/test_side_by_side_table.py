"""What is asked side by side in the guest, and how the answers are compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest
from side_by_side import CASES, Answer, Case, commands, unexplained

from pynvme_user.cli.group import cli

ASKED = {" ".join(re.findall(r"^(?:zns |fdp )?[\w-]+", str(case))) for case in CASES}
#: Commands with JSON that are asked nothing in the guest, and why.
NOT_ASKED = {
    **dict.fromkeys(("identify", "doctor", "events", "bench"), "nvme-cli has none"),
    **dict.fromkeys(
        (
            *("rotational-media-info-log", "dispersed-ns-participating-nss-log"),
            *("mgmt-addr-list-log", "reachability-groups-log", "reachability-associations-log"),
            *("changed-alloc-ns-list-log", "phy-rx-eom-log"),
        ),
        "2.3 has none yet",
    ),
    "zns list": "nvme-cli's lists the kernel's zoned namespaces, ours those of a device",
    **dict.fromkeys(("discover", "connect", "connect-all"), "NVMe over Fabrics"),
}


def _with_json(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group) and name != "bench":
            yield from _with_json(command, f"{name} ")
        elif any("--output-format" in parameter.opts for parameter in command.params):
            yield prefix + name


def test_every_command_with_json_is_asked_or_has_a_reason() -> None:
    found = {*_with_json(cli)}
    assert len(found) > 55
    assert found - ASKED == {*NOT_ASKED} & {*cli.commands, "zns list"}


def test_every_command_of_nvme_cli_with_json_is_asked() -> None:
    program = shutil.which("nvme", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("nvme-cli is not installed: ./bootstrap guest")
    for group in ([], ["zns"], ["fdp"]):
        listed = subprocess.run([program, *group, "help"], capture_output=True, text=True).stdout
        names = re.findall(r"^  ([a-z-]+)  ", listed.partition("plugin extensions")[0], re.M)
        assert len(names) > 7
        for name in names:
            words = " ".join([*group, name])
            if words in ASKED or words in NOT_ASKED or name in ("version", "help"):
                continue
            done = subprocess.run([program, *words.split(), "--help"], capture_output=True)
            assert b"--output-format" not in done.stdout + done.stderr, words


def test_a_case_has_one_name() -> None:
    assert len({str(case) for case in CASES}) == len(CASES)


def test_the_device_stands_where_it_belongs() -> None:
    made = commands([Case("zns id-ns -n 2", theirs="-v", node=2), Case("list {}", kernel=True)])
    assert made[0]["theirs"] == ["zns", "id-ns", "{disk}n2", "-n", "2", "-v", "-o", "json"]
    assert made[0]["ours"] == ["zns", "id-ns", "{}", "-n", "2", "-o", "json"]
    assert made[1]["ours"] == ["list", "{}", "-o", "json"]


PLAIN = Case("x")


def found(theirs: str, ours: str, case: Case = PLAIN, exits: tuple[int, int] = (0, 0)) -> list[str]:
    return unexplained(case, Answer(exits[0], theirs, ""), Answer(exits[1], ours, ""))


def test_keys_that_differ_want_a_reason() -> None:
    theirs = '{"a": 1, "b": [1, {"c": 2}]}'
    assert found(theirs, theirs) == []
    assert found(theirs, '{"a": 1, "b": [1, {"c": 3}]}') == ["b.1.c: (2, 3)"]
    assert found(theirs, '{"a": 1, "b": [1, {"c": 3}]}', Case("x", {"b.*.c": "so"})) == []
    assert found(theirs, '{"a": 1, "b": [1]}') == ["b.1.c: (2, None)"]
    assert found('{"a": null}', "{}") != []
    assert found("[1, 2]", "[2, 1]") == ["0: (1, 2)", "1: (2, 1)"]
    assert found("[1, 2]", "[2, 1]", Case("x", order="so")) == []


def test_a_reason_wants_a_difference() -> None:
    assert found("{}", "{}", Case("x", {"a": "so"})) == ["nothing differs in a"]
    assert found("{}", "{}", Case("x", changes={"a": "so"})) == []
    assert found("{}", "{}", Case("x", exits="so")) == ["exit codes: 0 and 0"]


def test_exit_codes_and_statuses() -> None:
    assert found("{}", "", exits=(0, 1)) == ["exit codes: 0 and 1"]
    assert found("{}", "", Case("x", exits="so"), exits=(0, 1)) == []
    theirs = Answer(1, "", "NVMe status: Invalid Field in Command: A reserved value(0x4002)\n")
    ours = Answer(1, "", "nvme-user: Identify failed: Invalid Field in Command (status 0x4002)\n")
    other = Answer(1, "", "nvme-user: Identify failed: Invalid Namespace (status 0x400b)\n")
    assert unexplained(Case("x"), theirs, ours) == []
    assert unexplained(Case("x"), theirs, other) == ["statuses: (16386, 16395)"]


def test_lines_are_compared_without_their_spaces() -> None:
    case = Case("x", text=True)
    assert found("a : 1\n", "a:1\n\n", case) == []
    assert found("a : 1\nb\n", "a:2\nb\n", case) == ["a:1: theirs alone", "a:2: ours alone"]
    assert found("a : 1\n", "a:2\n", Case("x", {"a:*": "so"}, text=True)) == []
