"""Commands for people to run, written so that they work as they are printed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

#: Where sudo looks for commands on Debian and most others (secure_path).
_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def as_root(command: str) -> str:
    """Put sudo before a command, unless this is root, who may have no sudo."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def write(value: str, path: Path | str) -> str:
    """Give the command that writes to a file of the kernel's."""
    if os.geteuid() == 0:
        return f"echo {value} > {path}"
    return f"echo {value} | sudo tee {path}"


def append(line: str, path: Path | str) -> str:
    """Give the command that adds a line to a file."""
    if os.geteuid() == 0:
        return f"echo {line} >> {path}"
    return f"echo {line} | sudo tee -a {path}"


def nvme_user(*arguments: str) -> str:
    """Give a command line of nvme-user for root, with its path where the name would not be found.

    It would not, for sudo, in a virtual environment.
    """
    ours = Path(sys.executable).with_name("nvme-user")
    searched = None if os.geteuid() == 0 else _SUDO_PATH
    found = shutil.which("nvme-user", path=searched)
    program = "nvme-user" if found and (Path(found) == ours or not ours.exists()) else str(ours)
    return as_root(shlex.join([program, *arguments]))
