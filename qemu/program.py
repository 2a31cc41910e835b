"""Which QEMU is started: for ``qemu:`` devices and for guests alike.

The one that ``NVME_USER_QEMU`` names, else the newest of those in PATH and of the one that
``./bootstrap newer-qemu`` unpacks beside them. Their versions are kept in a file, so that opening a
device starts no QEMU but its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from pynvme_user.errors import DeviceAccessError

PROGRAM = "qemu-system-x86_64"
#: The environment's variable that names another: a path, or a name in PATH.
VARIABLE = "NVME_USER_QEMU"

_VERSION = re.compile(r"version (\d+(?:\.\d+)*)")
_SECONDS = 10.0


def cache_path() -> Path:
    """``$XDG_CACHE_HOME/pynvme_user`` (``~/.cache/pynvme_user``), whether it is there or not."""
    # No home, no error: expanduser leaves what it does not know.
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "pynvme_user"


def find() -> str | None:
    """Return the path of the QEMU to start; None where none is installed.

    Raises DeviceAccessError if NVME_USER_QEMU names no program.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise DeviceAccessError(
                f"{VARIABLE} is {named!r}, which is no program: name QEMU's, such as "
                f"/usr/bin/{PROGRAM}, or unset it"
            )
        return found
    programs = installed()
    if len(programs) < 2:
        return programs[0] if programs else None
    versions = _versions(programs)
    # Of equals the first in PATH.
    return max(programs, key=lambda program: _parts(versions[program]))


def installed() -> list[str]:
    """List the QEMUs that are there, each once, in PATH's order, the unpacked one last."""
    folders = [*os.get_exec_path(), str(cache_path() / "qemu/usr/bin")]
    found: dict[str, str] = {}
    for folder in folders:
        # An empty entry of PATH is the current folder.
        program = os.path.abspath(os.path.join(folder, PROGRAM))
        if os.path.isfile(program) and os.access(program, os.X_OK):
            found.setdefault(os.path.realpath(program), program)
    return list(found.values())


def ask_version(program: str) -> str:
    """Start ``program`` to learn its version, such as 7.2.22; "" where it does not say.

    Raises OSError or subprocess.SubprocessError if it does not start.
    """
    done = subprocess.run(
        [program, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=True,
    )
    version = _VERSION.search(done.stdout.decode(errors="replace"))
    return version[1] if version else ""


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) if version else ()


def _versions(programs: list[str]) -> dict[str, str]:
    """Return each one's version, from the file as long as the program is the same."""
    file = cache_path() / "qemu-versions.json"
    known = _read(file)
    versions = {}
    for program in programs:
        stat = os.stat(program)
        key = f"{os.path.realpath(program)} {stat.st_size} {stat.st_mtime_ns}"
        if key not in known:
            try:
                known[key] = ask_version(program)
            except (OSError, subprocess.SubprocessError):
                known[key] = ""  # the oldest of all: one that works is taken instead
            _write(file, known)
        versions[program] = known[key]
    return versions


def _read(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {
        key: text
        for key, text in known.items()
        if isinstance(text, str) and _VERSION.fullmatch(f"version {text}")
    }


def _write(file: Path, known: dict[str, str]) -> None:
    """Write the file in one step; where it cannot be, the next process asks again."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(known))
        new.replace(file)
    except OSError:
        pass
