"""Every command's help, and docs/cli.md, which has to say the same."""

from __future__ import annotations

from typing import Any

import pytest
from reference import PATH, example, render

from pynvme_user.cli.group import cli


def test_reference_is_up_to_date() -> None:
    assert PATH.read_text().endswith("\n" + render()), "run python tests/cli/reference.py"


def test_help_lists_the_commands(run: Any) -> None:
    shown = run("--help").stdout.decode()
    listed = [
        line.split()[0] for line in shown.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    ]
    assert listed == list(cli.commands)
    assert run("-h").stdout.decode() == shown


@pytest.mark.parametrize("name", cli.commands)
def test_help_of_a_command(run: Any, name: str) -> None:
    command = cli.commands[name]
    shown = run(name, "--help").stdout.decode()
    assert "Example:" in shown
    assert example(command).split()[:2] == ["nvme-user", name] or "sudo nvme-user" in shown
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{name} {parameter.name} has no help"
            assert parameter.opts[0] in shown


@pytest.mark.parametrize("name", cli.commands)
def test_the_example_parses(name: str) -> None:
    words = example(cli.commands[name]).replace("'", "").split()
    arguments = words[words.index(name) + 1 :]
    cli.commands[name].make_context(name, arguments)


def test_help_needs_no_numpy(run: Any, environment: dict[str, str]) -> None:
    environment["PYTHONPROFILEIMPORTTIME"] = "1"
    imported = run("--help").stderr.decode()
    assert "click" in imported
    for heavy in ("numpy", "rich", "pyudev", "_ring_cffi"):
        assert f" {heavy}\n" not in imported
