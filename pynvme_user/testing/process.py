"""The software controller in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

_SERVER = "pynvme_user.testing.vfio_user_server"
_STOP_SECONDS = 10.0


@contextlib.contextmanager
def served(options: Sequence[str] = ()) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start vfio_user_server.py with these options; give the device's name and the process.

    The process ends with this context. Raises RuntimeError when it does not start: why is on
    stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", _SERVER, *options, "--until-eof", f"{folder}/cntrl"]
        # A pipe that nobody writes to: the server ends with us, whatever ends us.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            try:
                if not server.stdout.readline().startswith("vfio-user:"):
                    raise RuntimeError("the software controller did not start: see stderr")
                yield f"vfio-user:{folder}", server
            finally:
                server.stdin.close()
                try:
                    server.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
                    raise
