"""``show-regs``: the controller's properties."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.output import BINARY, JSON, NORMAL, human_option, output_option

if TYPE_CHECKING:
    from pynvme_user.driver.registers import Registers


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
