"""What went wrong, as one sentence and an exit code: the one place that knows both."""

from __future__ import annotations

import click

from pynvme_user.cli import signals
from pynvme_user.errors import DeviceNameError, NvmeError

FAILED = 1
USAGE = 2

#: Set to anything, this variable adds a traceback to an error.
DEBUG_VARIABLE = "NVME_USER_DEBUG"


class Failure(Exception):
    """The device or the transfer failed: exit code 1. The message is a whole sentence."""


class ReaderGone(Exception):
    """Nobody reads the data on its way to stdout any more: no more of it is wanted."""


def describe(error: BaseException) -> tuple[str, int]:
    """Turn an exception into a sentence on one line, notes included, and an exit code."""
    sentence, code = _sentence(error)
    sentence = "; ".join([sentence, *getattr(error, "__notes__", ())])
    return " ".join(sentence.split()), code


def _sentence(error: BaseException) -> tuple[str, int]:
    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "nvme-user"
            return f"{error.format_message().rstrip('.')} (see '{command} --help')", USAGE
        case click.ClickException():
            return error.format_message(), error.exit_code
        case DeviceNameError():
            return str(error), USAGE
        case Failure() | NvmeError():
            return str(error), FAILED
        case OSError():
            about = f"{error.filename}: " if error.filename else ""
            return f"{about}{error.strerror or error}", FAILED
        case KeyboardInterrupt():
            return signals.describe(error)
    return (
        f"unexpected {type(error).__name__}: {error}; please report this with the traceback that "
        f"{DEBUG_VARIABLE}=1 shows"
    ), FAILED
