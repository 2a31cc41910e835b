"""``show-regs``, ``get-property`` and ``set-property``: the controller's properties."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.output import BINARY, JSON, NORMAL, human_option, output_option
from pynvme_user.cli.types import U32, U64
from pynvme_user.spec.fields import Register
from pynvme_user.spec.registers import REGISTERS, VS

if TYPE_CHECKING:
    from pynvme_user.driver.registers import Registers

_offset_option = click.option(
    "--offset",
    "-o",
    type=U32,
    required=True,
    help="Its offset: CAP=0x0, VS=0x8, CC=0x14, CSTS=0x1c, NSSR=0x20 and so on.",
)


@device_command("show-regs", "nvme-user show-regs qemu:disk.img --human-readable")
@output_option(NORMAL, JSON, BINARY)
@human_option
def show_regs(device: str, output_format: str, human_readable: bool) -> None:
    """Show the controller's registers, as they are while it is enabled.

    Those of one that does not come up are as they are without it, with a warning that says why.
    Binary is an image of the register space from offset 0 to the last one, reserved bytes 0.
    """
    from pynvme_user.cli.pages import show

    with _registers(device) as read:
        show(list(read), output_format, human=human_readable)


@device_command("get-property", "nvme-user get-property qemu:disk.img --offset 0x1c -H")
@_offset_option
@human_option
def get_property(device: str, offset: int, human_readable: bool) -> None:
    """Show one of the controller's properties."""
    from pynvme_user.cli.pages import show

    kind = _property_at(offset)
    with _registers(device) as read:
        register = read.read(kind)
    if human_readable:
        heading = f"{'version' if kind is VS else kind.__name__.lower()} : {int(register):x}"
        show(register, NORMAL, heading)
    else:
        print(f"property: {offset:#04x} ({_title(kind)}), value: {int(register):x}")


@device_command("set-property", "nvme-user set-property qemu:disk.img --offset 0xc --value 1")
@_offset_option
@click.option("--value", "-v", type=U64, required=True, help="Its new value.")
def set_property(device: str, offset: int, value: int) -> None:
    """Write one of the controller's properties, as it is: this driver uses some of them, too."""
    kind = _property_at(offset)
    if value >> kind.width:
        raise click.UsageError(f"{kind.__name__} has {kind.width} bits, {value:#x} has more")
    with opened(device) as controller:
        controller.registers.write(kind(value))
        written = f"{value:#08x}" if value else "0" * 8  # as C writes it
        print(f"set-property: {offset:02x} ({_title(kind)}), value: {written}")


def _property_at(offset: int) -> type[Register]:
    for kind in REGISTERS:
        if kind.offset == offset:
            return kind
    known = ", ".join(f"{kind.__name__}={kind.offset:#x}" for kind in REGISTERS)
    raise click.UsageError(f"there is no property at {offset:#x}: {known}")


def _title(kind: type[Register]) -> str:
    """Give a property's name in the specification: the first words of what is said of it."""
    return (kind.__doc__ or "").partition(" (")[0]


COMMANDS = (show_regs, get_property, set_property)


@contextmanager
def _registers(device: str) -> Iterator[Registers]:
    """Open the device, and enable its controller if that can be done."""
    import pynvme_user as nvme

    with ExitStack() as stack:
        try:
            registers = stack.enter_context(opened(device)).registers
        except (nvme.DeviceNameError, nvme.DeviceAccessError, nvme.DeviceBusyError):
            raise
        except nvme.NvmeError as error:
            warnings.warn(f"{device} is not enabled: {error}", nvme.ControllerWarning, stacklevel=2)
            registers = stack.enter_context(nvme.open_registers(device))
        yield registers
