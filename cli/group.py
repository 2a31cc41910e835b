"""The ``nvme-user`` command: its group, its exit codes, and errors as one line on stderr."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any

import click

from pynvme_user.cli import (
    bench,
    bind,
    blocks,
    completion,
    doctor,
    events,
    fdp,
    features,
    identify,
    identify_pages,
    io,
    logs,
    maintenance,
    management,
    namespaces,
    nvm,
    passthru,
    registers,
    reservations,
    rpmb,
    serve,
    setup,
    streams,
    subsystems,
    zns,
)
from pynvme_user.cli import list as listing
from pynvme_user.cli.errors import DEBUG_VARIABLE, ReaderGone, describe

PROGRAM = "nvme-user"

#: By subject, in the order in which the help lists them.
_SUBJECTS: dict[str, tuple[click.Command, ...]] = {
    "Devices": (
        listing.list_controllers,
        identify.identify,
        doctor.doctor,
        *subsystems.COMMANDS,
    ),
    "Identify": (
        identify.id_ctrl,
        identify.id_ns,
        identify.list_ns,
        *identify_pages.COMMANDS,
    ),
    "Log pages": logs.COMMANDS,
    "Features and registers": (*features.COMMANDS, *registers.COMMANDS),
    "Namespaces": namespaces.COMMANDS,
    "Maintenance": maintenance.COMMANDS,
    "Management": (*management.COMMANDS, rpmb.rpmb, *events.COMMANDS),
    "Data": (io.read, io.write, io.compare, *blocks.COMMANDS, *nvm.COMMANDS),
    "Reservations": reservations.COMMANDS,
    "Zones and data placement": (zns.zns, fdp.fdp),
    "Any command": (passthru.admin_passthru, passthru.io_passthru),
    "Benchmark": (bench.bench,),
    "For other programs": (serve.serve,),
    "This machine": (bind.bind, bind.unbind, bind.restore, setup.setup),
}

#: What nvme-cli calls some of them, too.
_ALIASES = {"fw-activate": "fw-commit"}


class _InOrder(click.Group):
    """A group that lists its commands by subject, in the order given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for subject, commands in _SUBJECTS.items():
            width = max(len(str(one.name)) for one in commands)
            limit = formatter.width - 6 - width
            rows = [(str(one.name), one.get_short_help_str(limit)) for one in commands]
            with formatter.section(subject):
                formatter.write_dl(rows, col_max=width)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        args = [_ALIASES.get(args[0], args[0]), *args[1:]]
        if args[0] not in self.commands:
            from pynvme_user.cli.nvme_cli import missing, spelled

            try:
                args = spelled(args) or args
            except ValueError as error:
                if not ctx.resilient_parsing:
                    raise click.UsageError(str(error), ctx) from None
            instead = missing(args[0])
            if instead and not ctx.resilient_parsing:
                raise click.UsageError(instead, ctx)
        return super().resolve_command(ctx, args)


def _print_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if shell:
        click.echo(completion.script(cli, shell))
        ctx.exit()


@click.group(
    PROGRAM,
    cls=_InOrder,
    commands={
        str(command.name): command for commands in _SUBJECTS.values() for command in commands
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  nvme-user identify 'qemu:disk.img?size=1G'\n"
    "  nvme-user read qemu:disk.img --data-size 64M | sha256sum\n\n"
    "Exit codes: 0 done, 1 the device or the transfer failed, 2 usage;\n"
    "129 SIGHUP, 130 interrupted, 143 SIGTERM.\n\n"
    "NVME_USER_LOG=debug (info, warning, error) shows what the driver does besides I/O.\n"
    "NVME_USER_QEMU names the QEMU that qemu: starts, where it is not to be the newest.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="What one command may take before it is aborted.",
)
@click.option(
    "--plain-cids",
    is_flag=True,
    help="For a controller that takes no command id above the depth of its queue.",
)
@click.option(
    "--completion",
    type=click.Choice(completion.SHELLS),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help="Print the shell's completion script, to be evaluated by it.",
)
@click.version_option(package_name="pynvme_user", prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context, timeout: float, plain_cids: bool) -> None:
    """Talk to an NVMe controller from user space.

    DEVICE is 'qemu:disk.img?size=1G' (QEMU's emulated NVMe), a PCI address such as 0000:01:00.0,
    or what NVME_USER_DEVICE holds. Commands and options are nvme-cli's.
    """
    ctx.obj = {"timeout": timeout, "plain_cids": plain_cids}
    if ctx.invoked_subcommand is None:
        raise click.UsageError("no command", ctx)


def run() -> int:
    """Run the command line and return its exit code."""
    warnings.showwarning = _show_warning
    streams.set_up()
    if instruction := completion.asked():
        return completion.answer(cli, instruction)
    try:
        # Not cli.main(), which has a word of its own to say about ctrl-C and usage errors.
        _check_log_level()
        with cli.make_context(PROGRAM, sys.argv[1:]) as ctx:
            cli.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except ReaderGone:
        return 0
    except BaseException as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        sentence, code = describe(error)
        if _wants_json(sys.argv[1:]) and not isinstance(error, KeyboardInterrupt):
            _print_json(error, sentence)
        print(f"{PROGRAM}: {sentence}", file=sys.stderr)
        _drop_stdout()
        return code
    return 0


def _wants_json(words: list[str]) -> bool:
    """Whether the command line asks for JSON, which an error is given in, too.

    Not of the benchmark, whose results have their errors in them.
    """
    line = " ".join(words)
    if "bench" in words:
        return False
    return re.search(r"(?:^| )(?:-o ?|--output-format[= ])json(?: |$)", line) is not None


def _print_json(error: BaseException, sentence: str) -> None:
    """Print an error as JSON, unless stdout has JSON of what was found before it."""
    from pynvme_user.cli import output
    from pynvme_user.errors import NvmeStatusError

    if output.json_written():
        return
    told: dict[str, object] = {"error": sentence}
    if isinstance(error, NvmeStatusError):
        told |= {"status": int(error.status), "sct": error.sct, "sc": error.sc, "dnr": error.dnr}
    with suppress(OSError):
        output.echo_json(told)
        sys.stdout.flush()


def _check_log_level() -> None:
    if wanted := os.environ.get("NVME_USER_LOG"):
        with warnings.catch_warnings(action="ignore"):  # what it warns of is an error here
            from pynvme_user import logs
        try:
            logs.level(wanted)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def _drop_stdout() -> None:
    """Keep the interpreter from flushing once more, at its end, what cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
