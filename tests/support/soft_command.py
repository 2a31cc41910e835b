"""The command ``nvme-user`` on a controller of this process that can be told what to do wrong.

``python soft_command.py CODE ARGUMENTS...`` runs CODE on ``soft``, each time that a device is
opened, then the command line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start it; its device is named ``soft:``."""
    return subprocess.Popen(
        [sys.executable, __file__, code, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(code: str, *arguments: object) -> tuple[int, str, str]:
    """Run it to its end: exit code, stdout, stderr."""
    process = start(code, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from soft_controller import SoftController

    import pynvme_user.driver.names
    from pynvme_user.access.base import Access
    from pynvme_user.cli.main import main

    code = compile(sys.argv.pop(1), "<soft>", "exec")

    def open_access(_: str) -> Access:
        soft = SoftController()
        exec(code, {"soft": soft})
        return soft

    pynvme_user.driver.names.open_access = open_access
    sys.exit(main())
