"""Groups of commands below one word, as nvme-cli's plugins are: ``nvme-user zns report-zones``."""

from __future__ import annotations

from collections.abc import Sequence

import click


class Plugin(click.Group):
    """A group that lists its commands in the order given."""

    def __init__(self, name: str, help: str, commands: Sequence[click.Command]) -> None:
        first = (commands[0].epilog or "").rpartition("\n")[2].strip()
        super().__init__(
            name,
            commands={str(one.name): one for one in commands},
            help=help,
            epilog=f"\b\nExample:\n  {first}",
            no_args_is_help=False,
            subcommand_metavar="COMMAND DEVICE [OPTIONS]",
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names, in that order."""
        return [*self.commands]
