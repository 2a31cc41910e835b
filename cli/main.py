"""The ``nvme-user`` program. Next to nothing is imported here, so that ctrl-C is met early."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from pynvme_user.cli.group import run

        return run()
    except KeyboardInterrupt:
        print("nvme-user: interrupted", file=sys.stderr)
        return 130
