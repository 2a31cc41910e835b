"""Loops in C that do less than the benchmark's, which it is held against: see bare.c.

They are compiled as the extension is, from the core's own sources, when they are first asked for.
"""

from __future__ import annotations

import ctypes
import errno
import shlex
import subprocess
import sysconfig
import tempfile
import time
from ctypes import POINTER, c_int, c_uint8, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Literal

from load import IO_SIZE, OPCODES, Turn

import pynvme_user as nvme
from pynvme_user._ring_build import FLAGS
from pynvme_user.native import ffi
from pynvme_user.spec.commands import SQE

HERE = Path(__file__).resolve().parent
CORE = Path(nvme.__file__).parent
SOURCES = (
    *(HERE / "bare.c", CORE / "_ring.c", CORE / "_clock.c", CORE / "workload" / "_generator.c"),
)
_TIMEOUT_NS = 5_000_000_000
_PIECE = 100_000


class _BareLoop(ctypes.Structure):
    """struct bare_loop."""

    _fields_ = [
        ("command", c_uint8 * 64),
        ("iovas", c_void_p),
        ("places", c_uint64),
        ("blocks", c_uint64),
        ("length", c_uint64),
        ("random", c_uint64),
        ("ios", c_uint64),
        ("submitted", c_uint64),
        ("done", c_uint64),
        ("failed", c_uint64),
    ]


@cache
def _core() -> ctypes.CDLL:
    """Compile the loops and load them."""
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/bare.so"
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        command = [*compiler, *FLAGS, "-fPIC", "-shared", "-I", str(CORE), "-o", library]
        subprocess.run([*command, *map(str, SOURCES)], check=True)
        core = ctypes.CDLL(library)
    core.nvme_tick_rate()  # which this copy of the core measures with the first call
    for function in (core.bare_loop_run, core.bare_doorbells_run):
        function.restype, function.argtypes = c_int, (c_void_p, POINTER(_BareLoop), c_uint64)
    return core


class Bare:
    """A loop of random I/Os on one queue pair with none outstanding.

    The ``loop`` is the least that a closed one can be. ``doorbells`` is what no driver can go
    below: its commands are in the queue beforehand, and it rings and looks for completions. Its
    device must complete in order.
    """

    def __init__(
        self,
        which: Literal["loop", "doorbells"],
        pair: nvme.QueuePair,
        ns: nvme.Namespace,
        buffer: nvme.DmaBuffer,
        *,
        rw: str = "randread",
    ) -> None:
        self._which, self._pair, self._buffer = which, pair, buffer
        core = _core()
        self._run = {"loop": core.bare_loop_run, "doorbells": core.bare_doorbells_run}[which]
        self._iovas = (c_uint64 * pair.queue.sq_entries)(
            *(buffer.iova + cid % pair.depth * IO_SIZE for cid in range(pair.queue.sq_entries))
        )
        self._command = SQE.build(opc=OPCODES[rw], nsid=ns.nsid)
        self._blocks = IO_SIZE // ns.block_size
        self._places = ns.block_count // self._blocks

    def run(self, ios: int) -> Turn:
        """Do so many. Raises SystemExit unless all succeed."""
        loop = _BareLoop(
            command=(c_uint8 * 64)(*bytes(self._command)),
            iovas=ctypes.addressof(self._iovas),
            places=self._places,
            blocks=self._blocks,
            length=IO_SIZE,
            random=1,
            ios=ios,
        )
        pointer = int(ffi.cast("uintptr_t", self._pair._ring.pointer))
        start = time.perf_counter()
        err = self._run(pointer, ctypes.byref(loop), _TIMEOUT_NS)
        seconds = time.perf_counter() - start
        if err == -errno.EPROTO:
            raise SystemExit(
                f"bare {self._which}: a completion named another command than the next one: use a"
                " null device, which completes in order"
            )
        if err or loop.failed or loop.done != ios:
            raise SystemExit(
                f"bare {self._which}: {loop.done} of {ios} I/Os done, {loop.failed} of them failed,"
                f" error {err}"
            )
        return Turn(ios, seconds)

    def run_for(self, seconds: float) -> Turn:
        """Take a turn of so long, in pieces at whose ends nothing is outstanding."""
        ios, took = 0, 0.0
        while took < seconds:
            piece = self.run(_PIECE)
            ios, took = ios + piece.ios, took + piece.seconds
        return Turn(ios, took, took / ios * self._pair.depth)
