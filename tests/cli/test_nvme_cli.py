"""nvme-cli's commands: which are here, and what is said of the others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from pynvme_user.cli.group import cli
from pynvme_user.cli.nvme_cli import INSTEAD, missing

#: The commands that nvme-cli does not have.
OURS = {"identify", "bench", "bind", "unbind", "restore", "setup", "doctor", "events", "serve"}
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text().partition("\n## ")[0]


def test_the_page_says_which_there_are() -> None:
    beyond = re.search(r"Beyond it there are ([^.]*)\.", PAGE)
    assert beyond
    assert set(re.findall("`([a-z-]+)`", beyond[1])) == OURS
    assert {*cli.commands} >= OURS


def test_no_command_is_here_and_missing() -> None:
    assert not {*INSTEAD} & {*cli.commands}


def test_each_of_the_installed_nvme_cli_is_known() -> None:
    program = shutil.which("nvme", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("nvme-cli is not installed: ./bootstrap guest")
    shown = subprocess.run([program, "help"], capture_output=True, text=True, check=False).stdout
    commands, plugins = shown.split("installed plugin extensions")
    names = set(re.findall(r"^  ([a-z-]+)  ", commands, re.MULTILINE))
    names |= {"zns", "fdp"} & {*plugins.split()}
    assert len(names) > 50
    assert names <= {*cli.commands, *INSTEAD}


@pytest.mark.parametrize("words", [["discover"], ["discover", "qemu:"], ["dim", "-l"]])
def test_what_is_said(fail: Any, words: list[str]) -> None:
    said = fail(*words, code=2)
    assert said == f"{missing(words[0])} (see 'nvme-user --help')"
    assert INSTEAD[words[0]] in said


def test_a_word_that_is_no_command(fail: Any) -> None:
    assert "No such command 'nonsense'" in fail("nonsense", code=2)


@pytest.mark.parametrize("name", ["zns", "fdp"])
def test_a_plugin_has_nvme_clis_commands(name: str) -> None:
    program = shutil.which("nvme", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("nvme-cli is not installed: ./bootstrap guest")
    done = subprocess.run([program, name, "help"], capture_output=True, text=True, check=False)
    group = cli.commands[name]
    assert isinstance(group, click.Group)
    said = done.stdout + done.stderr
    theirs = set(re.findall(r"^  ([a-z-]+)  ", said, re.MULTILINE)) - {"version", "help"}
    assert len(theirs) >= 7
    assert theirs <= {*group.commands}
