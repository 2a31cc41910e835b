"""``show-regs``: the controller's properties."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.output import BINARY, JSON, NORMAL, Page, human_option, output_option

if TYPE_CHECKING:
    from pynvme_user.driver.registers import Registers
    from pynvme_user.spec.fields import Register

#: The properties that nvme-cli 2.3 prints as JSON: those of NVMe Base 2.0 but these.
_NOT_IN_JSON = ("cmbebs", "cmbswtp", "nssd")


@device_command("show-regs", "nvme-user show-regs qemu:disk.img --human-readable")
@output_option(NORMAL, JSON, BINARY)
@human_option
def show_regs(device: str, output_format: str, human_readable: bool) -> None:
    """Show the controller's registers, as they are while it is enabled.

    Those of one that does not come up are as they are without it, with a warning that says why.
    Binary is an image of the register space from offset 0 to the last one, reserved bytes 0.
    """
    with _registers(device) as read:
        registers = list(read)
        Page(
            normal=lambda: _lines(registers, human_readable),
            json=lambda: {
                name: register
                for name, register in ((_name(register), register) for register in registers)
                if name not in _NOT_IN_JSON
            },
            binary=lambda: _image(registers),
        ).show(output_format)


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


def _name(register: Register) -> str:
    return type(register).__name__.lower()


def _lines(registers: list[Register], human_readable: bool) -> Iterator[str]:
    for register in registers:
        yield f"{_name(register):<8}: {register:x}"
        if human_readable:
            yield from (f"  {line}" for line in register.dump())


def _image(registers: list[Register]) -> bytes:
    image = bytearray()
    for register in registers:
        image = image.ljust(register.offset or 0, b"\0")
        image += register.to_bytes(register.width // 8, "little")
    return bytes(image)
