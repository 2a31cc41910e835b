"""The software controller of benchmarks/controller, in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

_SERVER = Path(__file__).parents[1] / "benchmarks" / "controller" / "serve.py"
_STOP_SECONDS = 10.0


@contextlib.contextmanager
def served(query: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start it; give the device's name and the process, which ends with this context.

    ``query`` has the server's options, for example ``block-size=4096&delay=10&null``; without
    ``null`` it keeps data.
    """
    options = dict(parse_qsl(query, keep_blank_values=True))
    command = [sys.executable, str(_SERVER), "--until-eof"]
    if "null" not in options:
        command.append("--memory")
    options.pop("null", None)
    for name, value in options.items():
        command += [f"--{name}", value] if value else [f"--{name}"]
    with tempfile.TemporaryDirectory() as folder:
        command.append(f"{folder}/cntrl")
        # A pipe that nobody writes to: the server ends with us, whatever ends us.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            try:
                started = server.stdout.readline()
                assert started.startswith("vfio-user:"), "the server did not start: see stderr"
                yield f"vfio-user:{folder}", server
            finally:
                server.stdin.close()
                try:
                    server.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
                    raise
