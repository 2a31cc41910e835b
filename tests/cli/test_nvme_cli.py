"""nvme-cli's commands: which are here, and what is said of the others."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from pynvme_user.cli.group import cli
from pynvme_user.cli.nvme_cli import INSTEAD, PASSTHRU, missing

#: The commands that nvme-cli does not have.
OURS = {"identify", "bench", "bind", "unbind", "restore", "setup", "doctor", "events"}
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text().partition("\n## ")[0]


def test_the_page_says_which_there_are() -> None:
    absent, beyond = (
        re.search(rf"{start}([^.]*)\.", PAGE)
        for start in ("Of nvme-cli's commands these are not here, ", "Beyond it there are ")
    )
    assert absent
    assert beyond
    assert re.findall("`([a-z-]+)`", absent[1]) == [*PASSTHRU]
    assert set(re.findall("`([a-z-]+)`", beyond[1])) == OURS
    assert {*cli.commands} >= OURS


def test_no_command_is_here_and_missing() -> None:
    assert not {*PASSTHRU, *INSTEAD} & {*cli.commands}
    assert not {*PASSTHRU} & {*INSTEAD}


def test_each_of_the_installed_nvme_cli_is_known() -> None:
    program = shutil.which("nvme", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("nvme-cli is not installed: ./bootstrap guest")
    shown = subprocess.run([program, "help"], capture_output=True, text=True, check=False).stdout
    commands, plugins = shown.split("installed plugin extensions")
    names = set(re.findall(r"^  ([a-z-]+)  ", commands, re.MULTILINE))
    names |= {"zns", "fdp"} & {*plugins.split()}
    assert len(names) > 50
    assert names <= {*cli.commands, *PASSTHRU, *INSTEAD}


@pytest.mark.parametrize("name", PASSTHRU)
def test_the_line_parses(name: str) -> None:
    program, device, *words = shlex.split(PASSTHRU[name])
    assert device == "DEVICE"
    command: click.Command = cli.commands[program]
    options = command.make_context(program, ["qemu:", *words]).params
    direction = options["opcode"] & 3 | 2 * options["read"] | options["write"]
    assert not options["data_len"] or direction in (1, 2)
    assert bool(options["input_file"]) == options["write"]


@pytest.mark.parametrize("words", [["ns-rescan"], ["ns-rescan", "qemu:"], ["zns"], ["zns", "-l"]])
def test_what_is_said(fail: Any, words: list[str]) -> None:
    said = fail(*words, code=2)
    assert said == f"{missing(words)} (see 'nvme-user --help')"
    assert "restore" not in said
    assert "DEVICE" in said or words[0] == "ns-rescan"


def test_a_word_that_is_no_command(fail: Any) -> None:
    assert "No such command 'nonsense'" in fail("nonsense", code=2)
