"""Every command's help, and docs/cli.md, which has to say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from cli_reference import PATH, commands, example, render

from pynvme_user.cli.group import cli

COMMANDS = dict(commands())


def test_reference_is_up_to_date() -> None:
    assert PATH.read_text().endswith("\n" + render()), "run python tests/support/cli_reference.py"


def test_the_error_that_the_page_of_options_shows(fail: Any, tmp_path: Path) -> None:
    page = PATH.with_name("fio-options.md").read_text().splitlines()
    (shown,) = [line for line in page if line.startswith("job.fio line ")]
    line, option = re.findall(r"line (\d+): '(\w+)'", shown)[0]
    (tmp_path / "job.fio").write_text("[job]" + "\n" * (int(line) - 1) + f"{option}=somewhere\n")
    assert fail("bench", "qemu:", "job.fio", code=2).startswith(shown)


def test_help_lists_the_commands(run: Any) -> None:
    shown = run("--help").stdout.decode()
    sections = shown.split("Devices:\n")[1].split("\n\n  Examples:")[0].splitlines()
    rows = [line.split() for line in sections if line.startswith("  ")]
    assert [row[0] for row in rows] == list(cli.commands)
    assert all(len(row) > 2 for row in rows)
    assert run("-h").stdout.decode() == shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(run: Any, name: str) -> None:
    command = COMMANDS[name]
    words = name.split()
    every = ("--help", "all") if name == "bench" else ("--help",)
    shown = run(*words, *every).stdout.decode()
    assert "Example:" in shown
    began = example(command).split()[: 1 + len(words)]
    assert began == ["nvme-user", *words] or "sudo nvme-user" in shown
    if isinstance(command, click.Group):
        rows = [
            line.split() for line in shown.split("Commands:\n")[1].split("\n\n")[0].splitlines()
        ]
        assert [row[0] for row in rows] == list(command.commands)
        assert all(len(row) > 2 for row in rows)
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{name} {parameter.name} has no help"
            assert parameter.opts[0] in shown


def test_help_of_bench_is_one_screen(run: Any, environment: dict[str, str]) -> None:
    environment["COLUMNS"] = "80"
    lines = run("bench", "--help").stdout.decode().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    every = run("bench", "--help=all").stdout.decode()
    named = {
        word.strip(",")
        for line in lines
        for word in line.split()
        if word.startswith("--") and word[2:]
    }
    assert len(named) > 12
    for option in named - {"--help"}:
        assert option.replace("_", "-") in every, option


def test_help_of_one_option_or_subject(run: Any) -> None:
    shown = run("bench", "--help", "bs").stdout.decode()
    assert shown.split() == [
        *("--bs,", "--blocksize", "SIZE[,WRITE][,TRIM]", "Bytes", "per", "I/O:", "read,", "write,"),
        *("trim;", "default", "4k."),
    ]
    assert "-o, --output-format" in run("bench", "-h", "--output_format").stdout.decode()
    subject = run("bench", "--help=time-and-rate").stdout.decode()
    assert "--rate-process" in subject
    assert "--iodepth" not in subject
    assert run("bench", "--help", "cgroup").stdout.startswith(b"cgroup: accepted without effect: ")
    assert run("bench", "--help=exec_prerun").stdout.startswith(b"exec_prerun: refused: a job file")
    # What is no option may be a device.
    assert run("bench", "--help", "qemu:").stdout == run("bench", "--help").stdout
    assert run("bench", "--help", "snia-pts").stdout == run("bench", "--help").stdout
    for words in (("--help=zzz",), ("--help", "iodeph"), ("-h", "--iodeph")):
        assert b"no such option or subject" in run("bench", *words, code=2).stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_parses(name: str) -> None:
    words = example(COMMANDS[name]).replace("'", "").split()
    arguments = words[words.index(name.split()[-1]) + 1 :]
    COMMANDS[name].make_context(name, arguments)


def test_help_needs_no_numpy(run: Any, environment: dict[str, str]) -> None:
    environment["PYTHONPROFILEIMPORTTIME"] = "1"
    imported = run("--help").stderr.decode()
    assert "click" in imported
    for heavy in ("numpy", "rich", "pyudev", "_ring_cffi"):
        assert f" {heavy}\n" not in imported
