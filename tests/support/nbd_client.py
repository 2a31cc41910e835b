"""Code that runs in Debian's Python, which has Debian's libnbd, and talks to an NBD server."""

from __future__ import annotations

import subprocess

import pytest

PYTHON = "/usr/bin/python3"  # that for which Debian has python3-libnbd


def client(uri: str, code: str) -> list[str]:
    """Run code, give the lines that it printed. It has ``connect()``, a new connection each time,
    ``refused(call, ...)``, the name of its errno, and the module ``nbd``.
    """
    if subprocess.run([PYTHON, "-c", "import nbd"], capture_output=True, check=False).returncode:
        pytest.skip("python3-libnbd is not installed: run ./bootstrap nbd")
    done = subprocess.run(
        [PYTHON, "-c", _BEFORE + code, uri], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_BEFORE = """
import errno, os, sys, threading
import nbd

def connect():
    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    handle.connect_uri(sys.argv[1])
    handle.set_strict_mode(handle.get_strict_mode() & ~nbd.STRICT_ALIGN)
    return handle

def refused(call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        return errno.errorcode[error.errnum]
    return "done"

"""
