"""nvme-cli 3's spelling of commands, in two words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from pynvme_user.cli.group import cli
from pynvme_user.cli.nvme_cli import INSTEAD, spellings

Run = Callable[..., tuple[str, int]]


def test_each_is_a_command_and_none_is_hidden_by_one() -> None:
    found = spellings()
    assert len(found) > 60
    assert {*found.values()} <= {*cli.commands}
    assert not {group for group, _ in found} & {*cli.commands, *INSTEAD}


def test_no_group_is_in_the_help() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).stdout.splitlines()
    rows = {line.split()[0] for line in shown if line.startswith("  ")}
    assert "id-ctrl" in rows
    assert not {group for group, _ in spellings()} & rows


@pytest.mark.parametrize(
    ("words", "command"),
    [("id ctrl", "id-ctrl"), ("id ns-list", "list-ns"), ("log smart", "smart-log")],
)
def test_it_is_the_same_command(run: Run, words: str, command: str) -> None:
    said, code = run(*words.split(), "soft:", "-o", "json")
    assert code == 0
    assert said == run(command, "soft:", "-o", "json")[0]


def test_options_are_the_commands(run: Run) -> None:
    said, code = run("ns", "create", "soft:", "--no-such")
    assert code == 2
    assert said.startswith("No such option '--no-such'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fw", "fw alone is no command: after 'fw' comes one of activate, commit, download"),
        ("fw up", "no fw 'up': after 'fw' comes one of activate, commit, download"),
        ("dir up soft:", "no dir 'up': after 'dir' comes one of receive, send"),
        ("up date", "No such command 'up'"),
    ],
)
def test_a_wrong_one(run: Run, words: str, said: str) -> None:
    assert run(*words.split()) == (f"{said} (see 'nvme-user --help')", 2)
