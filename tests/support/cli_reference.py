"""Writes the commands' reference into docs/cli.md: ``python tests/support/cli_reference.py``.

What stands above the heading "Commands" is written by hand and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pynvme_user.cli.group import cli
from pynvme_user.cli.nvme_cli import spellings

PATH = Path(__file__).parents[2] / "docs" / "cli.md"
HEADING = "## Commands\n"


def render() -> str:
    """The reference of all commands, from the help that they print themselves."""
    lines = [HEADING]
    for name, command in commands():
        lines += _command(name, command)
    lines += _spellings()
    return "\n".join(lines)


def _spellings() -> Iterator[str]:
    yield "## nvme-cli 3's spelling\n"
    yield "These are the same commands, with the same options.\n"
    yield "| nvme-cli 3 | here |\n|--|--|"
    for (group, word), command in spellings().items():
        yield f"| `{group} {word}` | `{command}` |"
    yield ""


def commands(group: click.Group = cli, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Each command by its name; below a group those of the group, as ``group command``."""
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


def _command(name: str, command: click.Command) -> Iterator[str]:
    summary = " ".join((command.help or "").split())
    yield f"{'####' if ' ' in name else '###'} {name}\n\n{summary}\n"
    yield f"```sh\n{example(command)}\n```\n"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            yield f"- {names}: {parameter.help}"
    yield ""


def example(command: click.Command) -> str:
    """The example below a command's help."""
    return (command.epilog or "").rpartition("\n")[2].strip()


def main() -> None:
    """Replace the reference in docs/cli.md."""
    above = PATH.read_text().partition(HEADING)[0]
    PATH.write_text(above + render())


if __name__ == "__main__":
    main()
