"""The controller's C core, built on demand and seen through ctypes (see controller.h)."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import shlex
import subprocess
import sysconfig
import tempfile
from ctypes import POINTER, c_char_p, c_int, c_int64, c_uint16, c_uint32, c_uint64, c_void_p
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: _clock.c, the driver's, for its clock.
SOURCES = (
    HERE / "controller.c",
    HERE / "data.c",
    HERE / "storage.c",
    HERE / "admin.c",
    ROOT / "pynvme_user" / "_clock.c",
)
HEADERS = (HERE / "controller.h", HERE / "internal.h", ROOT / "pynvme_user" / "_ring.h")
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
DOORBELL_PAGE = 4096


class Config(ctypes.Structure):
    """struct controller_config."""

    _fields_ = [
        ("storage", c_void_p),
        ("blocks", c_uint64),
        ("block_shift", c_uint32),
        ("mqes", c_uint32),
        ("queues", c_uint32),
        ("mdts", c_uint32),
        ("delay_ns", c_uint64),
        ("slow_ns", c_uint64),
        ("slow_every", c_uint32),
        ("in_turn", c_uint32),
        ("fault", c_uint32),
        ("fault_every", c_uint32),
        ("fault_value", c_int64),
        ("doorbells", c_void_p),
    ]


#: enum controller_fault, by the names of serve.py.
FAULTS = (
    "none",
    "read-flip",
    "write-flip",
    "torn",
    "lost",
    "misdirected",
    "stale",
    "status",
    "kept",
)


_PROTOTYPES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "controller_new": (c_void_p, (POINTER(Config),)),
    "controller_set_page": (c_int, (c_void_p, c_uint32, c_int, c_char_p)),
    "controller_map": (c_int, (c_void_p, c_uint64, c_uint64, c_void_p)),
    "controller_unmap": (c_void_p, (c_void_p, c_uint64, c_uint64)),
    "controller_read": (c_int, (c_void_p, c_uint32, c_uint32, POINTER(c_uint64))),
    "controller_write": (c_int, (c_void_p, c_uint32, c_uint32, c_uint64)),
    "controller_set_command": (None, (c_void_p, c_uint16)),
    "controller_set_event": (None, (c_void_p, c_uint32, c_int)),
    "controller_reset": (None, (c_void_p,)),
    "controller_run": (None, (c_void_p, c_int)),
}


def build() -> Path:
    """Compile the core unless that was done; return the shared library's path.

    CC and CFLAGS in the environment choose the compiler and add to its flags (for sanitizers,
    with LD_PRELOAD). Raises subprocess.CalledProcessError when the compiler fails; its messages
    are on stderr.
    """
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*shlex.split(compiler), *FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    digest = hashlib.sha256(" ".join(command).encode())
    for path in (*SOURCES, *HEADERS):
        digest.update(path.read_bytes())
    library = ROOT / "build" / f"controller-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder, library.name)
            command += ["-I", str(ROOT / "pynvme_user"), "-o", str(made)]
            subprocess.run([*command, *map(str, SOURCES)], check=True)
            made.rename(library)  # in one step: two servers may start at once
    return library


def load() -> ctypes.CDLL:
    """Build and load the core."""
    library = ctypes.CDLL(str(build()))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
