"""What can go wrong with a guest, apart from a command in it that fails."""

from __future__ import annotations


class GuestError(Exception):
    """The guest could not do its work; a command that merely failed is not one of these."""


class GuestSetupError(GuestError):
    """The guest could not be started; the message names what to install or to change."""


class GuestLostError(GuestError):
    """The guest ended without its command's exit status: a panic, or QEMU died.

    ``console`` is the end of the kernel's console, ``output`` what the command had printed.
    """

    def __init__(self, message: str, *, console: str = "", output: str = "") -> None:
        self.console = console
        self.output = output
        super().__init__(f"{message}\n{_indent(console)}" if console else message)


class GuestTimeoutError(GuestLostError):
    """The guest was still running at its deadline, and was killed."""


class QmpError(GuestError):
    """QEMU refused a QMP command, or an event did not come in time."""


def _indent(console: str) -> str:
    return "\n".join(f"  console: {line}" for line in console.rstrip().splitlines())
