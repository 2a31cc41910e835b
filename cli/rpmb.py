"""``rpmb``: the Replay Protected Memory Blocks of a controller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import confirm, refusals
from pynvme_user.cli.management import say
from pynvme_user.cli.output import echo_lines, refuse_terminal
from pynvme_user.cli.types import U8, U32
from pynvme_user.spec.security import RPMB_SECTOR, RpmbDeviceConfigurationBlock

if TYPE_CHECKING:
    from pynvme_user import Rpmb

_COMMANDS = (
    *("info", "program-key", "read-counter", "write-data", "read-data", "write-config"),
    "read-config",
)
_SIGNED = ("program-key", "write-data", "write-config")
_MOST = 32 << 20  # the bytes of the largest target


@device_command("rpmb", "nvme-user rpmb 0000:01:00.0 --cmd read-data -o 0 -b 8 -f sectors")
@click.option(
    "--cmd",
    "-c",
    type=click.Choice(_COMMANDS),
    default="info",
    show_default=True,
    help="What to do.",
)
@click.option(
    "--msgfile",
    "-f",
    type=click.Path(allow_dash=True),
    help="Where data to write is, or data read goes.",
)
@click.option("--keyfile", "-g", type=click.Path(allow_dash=True), help="Where the key is.")
@click.option("--key", "-k", help="The key, of 32 characters; other users see it: --keyfile.")
@click.option("--msg", "-d", help="The data to write, in place of --msgfile.")
@click.option("--address", "-o", type=U32, default=0, help="The first sector, of 512 bytes.")
@click.option(
    "--blocks",
    "-b",
    type=U32,
    help="Sectors to read or write; by default all that is to be written.",
)
@click.option("--target", "-t", type=U8, default=0, help="The target, 0 to 6.")
@click.option(
    "--force",
    is_flag=True,
    help="Do not ask, and send it even where the controller says that it does not support it.",
)
def rpmb(
    device: str,
    cmd: str,
    msgfile: str | None,
    keyfile: str | None,
    key: str | None,
    msg: str | None,
    address: int,
    blocks: int | None,
    target: int,
    force: bool,
) -> None:
    """Show, read and write a Replay Protected Memory Block.

    A key is programmed once and for ever: nobody can read, change or erase it.
    """
    _check_usage(cmd, key, keyfile, msg, msgfile, blocks)
    secret = _secret(key, keyfile)
    with opened(device) as controller, refusals():
        block = controller.rpmb(target, secret if cmd != "program-key" else None, force=force)
        where = f"RPMB target {target} of {controller.name}"
        match cmd:
            case "info":
                from pynvme_user.cli.pages import lines
                from pynvme_user.cli.shape import View

                echo_lines(lines(controller.identify.rpmbs, View(human=True)))
            case "program-key":
                assert secret is not None
                if not force:
                    confirm(f"program-key gives {where} a key, once and for ever")
                block.program_key(secret)
            case "read-counter":
                print(f"Write Counter is: {block.counter()}")
            case "read-data":
                assert blocks is not None
                _save(block.read(address, blocks), msgfile)
            case "write-data":
                data = _data(msg, msgfile, blocks)
                if not force:
                    confirm(f"write-data overwrites what {where} has")
                _write(block, data, address)
            case "read-config":
                _show_configuration(block.configuration(), msgfile)
            case "write-config":
                data = _data(msg, msgfile, None)
                if len(data) > RPMB_SECTOR:
                    raise Failure(f"a Device Configuration Block has 512 bytes, not {len(data)}")
                if not force:
                    confirm(f"write-config changes who may write to the boot partitions of {where}")
                whole = data.ljust(RPMB_SECTOR, b"\0")
                block.set_configuration(RpmbDeviceConfigurationBlock.from_bytes(whole))


def _check_usage(
    cmd: str,
    key: str | None,
    keyfile: str | None,
    msg: str | None,
    msgfile: str | None,
    blocks: int | None,
) -> None:
    if key is not None and keyfile is not None:
        raise click.UsageError("--key or --keyfile: give one of them")
    if cmd in _SIGNED and key is None and keyfile is None:
        raise click.UsageError(f"{cmd} needs the target's key: give --keyfile")
    if cmd in ("write-data", "write-config") and (msg is None) == (msgfile is None):
        raise click.UsageError(f"what is {cmd} to write? Give --msgfile or --msg")
    if cmd == "read-data":
        if not blocks:
            raise click.UsageError("how much? Give --blocks")
        if msgfile in (None, "-"):
            refuse_terminal()
    if cmd == "write-data" and blocks == 0:
        raise click.UsageError("--blocks 0 is no data")


def _secret(key: str | None, keyfile: str | None) -> bytes | None:
    return key.encode() if keyfile is None and key is not None else _whole(keyfile)


def _whole(path: str | None) -> bytes | None:
    """Read a file, or stdin."""
    from pynvme_user.cli.files import source

    if path is None:
        return None
    data = bytearray(_MOST + 1)
    with source(path) as src:
        return bytes(data[: src.fill(data)])


def _data(msg: str | None, msgfile: str | None, blocks: int | None) -> bytes:
    data = msg.encode() if msg is not None else _whole(msgfile) or b""
    if blocks is None:
        return data
    if len(data) < blocks * RPMB_SECTOR:
        raise Failure(f"--blocks {blocks} is more than the {len(data)} bytes that there are")
    return data[: blocks * RPMB_SECTOR]


def _write(block: Rpmb, data: bytes, address: int) -> None:
    block.write(data, address)
    count = len(data) // RPMB_SECTOR
    print(f"Written {count} sectors out of {count} @target({block.target}):{address:#x}")


def _save(data: bytes, path: str | None) -> None:
    from pynvme_user.cli.files import Sink

    with Sink(path) as sink:
        say(f"Writing {len(data)} bytes to file {sink.name}", aside=path in (None, "-"))
        sink.write(data)


def _show_configuration(block: RpmbDeviceConfigurationBlock, path: str | None) -> None:
    if path is not None:
        _save(bytes(block), path)
        return
    print(f"Boot Partition Protection is {'Enabled' if block.bppe.bppe else 'Disabled'}")
    print(f"Boot Partition 1 is {'Locked' if block.bpl.bp1l else 'Unlocked'}")
    print(f"Boot Partition 0 is {'Locked' if block.bpl.bp0l else 'Unlocked'}")
