"""The ``nvme-user`` program. Next to nothing is imported here, so that signals are met early."""

from __future__ import annotations

import os
import sys

from pynvme_user.cli import signals


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        signals.catch()
        _open_standard()
        from pynvme_user.cli.group import run

        return run()
    except KeyboardInterrupt as error:
        word, code = signals.describe(error)
        print(f"nvme-user: {word}", file=sys.stderr)
        return code


def _open_standard() -> None:
    """Open /dev/null for each of standard input, output and error that is closed.

    Else the next file gets its number, and what is printed goes there.
    """
    for number, (name, flags) in enumerate(
        [("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)]
    ):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if flags else "r", closefd=False))
