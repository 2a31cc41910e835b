"""``admin-passthru`` and ``io-passthru``: any command, as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.management import say
from pynvme_user.cli.options import file_option
from pynvme_user.cli.output import echo_lines, hexdump, refuse_terminal, write_all
from pynvme_user.cli.types import U8, U16, U32
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode

if TYPE_CHECKING:
    from pynvme_user import Completion, Controller, DmaBuffer

#: The dwords of a command that are the user's, with nvme-cli's short options.
_DWORDS = {2: "-2", 3: "-3", 10: "-4", 11: "-5", 12: "-6", 13: "-7", 14: "-8", 15: "-9"}
_HOST_TO_CONTROLLER, _CONTROLLER_TO_HOST = 1, 2


def _options(function: Callable[..., Any]) -> Any:
    """Add the options of both commands, in the order in which they are listed."""
    options: list[Callable[..., Any]] = [
        click.option("--opcode", "-o", type=U8, required=True, help="The opcode."),
        click.option("--flags", "-f", type=U8, default=0, help="Byte 1 of the command."),
        click.option(
            "--rsvd",
            "-R",
            type=U16,
            default=0,
            help="Shown, but not sent: the command identifier stands there.",
        ),
        click.option("--namespace-id", "-n", type=U32, default=0, metavar="NSID", help="NSID."),
        click.option("--data-len", "-l", type=U32, default=0, help="Bytes of data."),
        click.option("--metadata-len", "-m", type=U32, default=0, help="Bytes of metadata."),
        *(
            click.option(f"--cdw{number}", short, type=U32, default=0, help=f"Dword {number}.")
            for number, short in _DWORDS.items()
        ),
        file_option(
            "--input-file",
            "-i",
            "Where the data comes from or goes to; stdin and stdout if left out.",
        ),
        file_option("--metadata", "-M", "Likewise where the metadata does."),
        click.option("--read", "-r", is_flag=True, help="Data comes from the controller."),
        click.option("--write", "-w", is_flag=True, help="Data goes to the controller."),
        click.option(
            "--prefill", "-p", type=U8, help="Fill the buffer with this byte first (default 0)."
        ),
        click.option("--raw-binary", "-b", is_flag=True, help="Print data as it is, not as hex."),
        click.option("--show-command", "-s", is_flag=True, help="Print the command, too."),
        click.option("--dry-run", "-d", is_flag=True, help="Print the command; do not send it."),
        click.option(
            "--timeout", "-t", type=U32, metavar="MS", help="What it may take, in milliseconds."
        ),
        click.option("--latency", "-T", is_flag=True, help="Print how long it took."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@device_command(
    "admin-passthru",
    "nvme-user admin-passthru qemu:disk.img --opcode 0x06 --data-len 4096 --cdw10 1 --read",
)
@_options
def admin_passthru(device: str, **options: Any) -> None:
    """Send any admin command. It is sent as it is, with no check of what it does."""
    _passthru(device, "Admin", options)


@device_command(
    "io-passthru",
    "nvme-user io-passthru qemu:disk.img --opcode 2 --namespace-id 1 --data-len 4096 "
    "--cdw12 7 --read -b",
)
@_options
def io_passthru(device: str, **options: Any) -> None:
    """Send any I/O command. It is sent as it is, with no check of what it does."""
    _passthru(device, "IO", options)


def _passthru(device: str, kind: str, options: dict[str, Any]) -> None:
    opcode, length = options["opcode"], options["data_len"]
    aside = options["metadata_len"]
    direction = opcode & 3
    direction |= _CONTROLLER_TO_HOST if options["read"] else 0
    direction |= _HOST_TO_CONTROLLER if options["write"] else 0
    if (length or aside) and not direction:
        raise click.UsageError("which way does the data go? Add --read or --write")
    if options["metadata"] is not None and not aside:
        raise click.UsageError("how much metadata is there? Add --metadata-len")
    if options["dry_run"]:
        _show(options, None, None)
        return
    path = options["input_file"]
    if length and direction & _CONTROLLER_TO_HOST and options["raw_binary"] and not path:
        refuse_terminal()
    timeout = options["timeout"]
    with opened(device, timeout / 1000 if timeout else None) as controller:
        if length > controller.max_transfer:
            raise Failure(
                f"one command carries up to {controller.max_transfer} bytes here, not {length}"
            )
        metadata = _memory(controller, aside, direction, options, "metadata")
        buffer = _memory(controller, length, direction, options, "input_file")
        if options["show_command"]:
            _show(options, buffer, metadata)
        done = _send(controller, kind, options, buffer, metadata)
        command = f"{kind} Command {_name(kind, opcode)}"
        if options["latency"]:
            raw = options["raw_binary"] and buffer is not None and not path
            say(f"{command} latency: {done.latency_ns // 1000} us", aside=raw)
        print(f"{command} is Success and result: 0x{done.result:08x}", file=sys.stderr)
        if direction == _CONTROLLER_TO_HOST:
            for memory, to in ((buffer, path), (metadata, options["metadata"])):
                if memory is not None:
                    _emit(bytes(memory), to, options["raw_binary"])


def _name(kind: str, opcode: int) -> str:
    from pynvme_user.cli.nvme_json_logs import command_name

    name = command_name(opcode, AdminOpcode if kind == "Admin" else NvmOpcode)
    return "Vendor Specific" if name == "Unknown" else name


def _memory(
    controller: Controller, length: int, direction: int, options: dict[str, Any], path: str
) -> DmaBuffer | None:
    """Allocate memory for data or metadata; fill it from its file where the controller reads it."""
    if not length:
        return None
    buffer = controller.alloc(length)
    if options["prefill"]:
        buffer.fill(options["prefill"])
    if direction & _HOST_TO_CONTROLLER:
        _fill(buffer, options[path], padded=options["prefill"] is not None)
    return buffer


def _show(options: dict[str, Any], buffer: DmaBuffer | None, metadata: DmaBuffer | None) -> None:
    words = {
        "opcode": f"{options['opcode']:02x}",
        "flags": f"{options['flags']:02x}",
        "rsvd1": f"{options['rsvd']:04x}",
        "nsid": f"{options['namespace_id']:08x}",
        "cdw2": f"{options['cdw2']:08x}",
        "cdw3": f"{options['cdw3']:08x}",
        "data_len": f"{options['data_len']:08x}",
        "metadata_len": f"{options['metadata_len']:08x}",
        "addr": f"{0 if buffer is None else buffer.iova:x}",
        "metadata": f"{0 if metadata is None else metadata.iova:x}",
        **{f"cdw{n}": f"{options[f'cdw{n}']:08x}" for n in range(10, 16)},
        "timeout_ms": f"{options['timeout'] or 0:08x}",
    }
    echo_lines(f"{name:<12} : {word}" for name, word in words.items())


def _fill(buffer: DmaBuffer, path: str | None, *, padded: bool) -> None:
    from pynvme_user.cli.files import source

    with source(path) as src:
        count = src.fill(buffer)
        if count < buffer.nbytes and not padded:
            raise Failure(
                f"{src.name} has {count} bytes, fewer than the {buffer.nbytes} of the command: "
                "add --prefill 0 to send zeroes for the rest"
            )


def _send(
    controller: Controller,
    kind: str,
    options: dict[str, Any],
    buffer: DmaBuffer | None,
    metadata: DmaBuffer | None,
) -> Completion:
    send = controller.admin if kind == "Admin" else controller.io
    dwords = {f"cdw{number}": options[f"cdw{number}"] for number in _DWORDS}
    if metadata is not None:
        dwords["mptr"] = metadata.iova
    return send(
        options["opcode"],
        nsid=options["namespace_id"],
        flags=options["flags"],
        buffer=buffer,
        **dwords,
    )


def _emit(data: bytes, path: str | None, raw: bool) -> None:
    from pynvme_user.cli.files import Sink

    if path:
        with Sink(path) as sink:
            sink.write(data)
    elif raw:
        write_all(data)
    else:
        echo_lines(hexdump(data))
