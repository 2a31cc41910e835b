"""How many options of the installed nvme-cli's commands are here, by their long and short names."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import click
import nvme_cli
import pytest
from cli_reference import commands

COMMANDS = {name: command for name, command in commands() if not isinstance(command, click.Group)}
#: Those that are not here, each with the reason.
LACKING = {
    "list": {"verbose": "what a controller has is shown by identify, with the device opened"},
    "list-subsys": {"verbose": "it shows nothing more: identify has the rest"},
    "show-topology": {"verbose": "it shows nothing more: identify has the rest"},
    "list-ns": {"csi": "namespaces of all command sets are in the list; identify tells which"},
    "pred-lat-event-agg-log": {"log-entries": "all entries are shown: the log says how many"},
    "endurance-event-agg-log": {"log-entries": "all entries are shown: the log says how many"},
    "persistent-event-log": {"log_len": "the whole log is shown: it says how long it is"},
    "dir-send": {"human-readable": "what is sent has no fields to explain"},
}


@cache
def theirs(name: str) -> dict[str, str]:
    """The options of a command of nvme-cli: the short name by the long one. None needs a device."""
    done = subprocess.run(
        [nvme_cli.PROGRAM or "", *name.split(), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"\[  --(\w[\w-]*)\S*?(?:, -(\w))?[ \]]", done.stdout + done.stderr)
    return dict(found)


def ours(name: str) -> dict[str, set[str]]:
    """The short names of each of a command's options, by the long one."""
    found: dict[str, set[str]] = {}
    for parameter in COMMANDS[name].params:
        shorts = {word[1:] for word in parameter.opts if not word.startswith("--")}
        for word in parameter.opts:
            if word.startswith("--"):
                found[word[2:]] = shorts
    return found


@pytest.fixture(autouse=True)
def installed() -> None:
    if reason := nvme_cli.why_not():
        pytest.skip(reason)


def test_at_least_95_per_cent_of_the_options() -> None:
    every = {(name, option) for name in COMMANDS for option in theirs(name)}
    lacking = {(name, option) for name, option in every if option not in ours(name)}
    assert len(every) > 500
    share = 1 - len(lacking) / len(every)
    print(f"{len(every) - len(lacking)} of {len(every)} options: {share:.1%}")
    assert share >= 0.95
    assert lacking == {(name, option) for name, options in LACKING.items() for option in options}


def test_their_short_names() -> None:
    wrong = [
        (name, option, short)
        for name in COMMANDS
        for option, short in theirs(name).items()
        if short and option in ours(name) and short not in ours(name)[option]
    ]
    assert wrong == []
