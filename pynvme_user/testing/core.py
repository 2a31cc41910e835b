"""The software controller in C (_controller.h); the only importer of its extension.

Who serves it gives it doorbells, memory and interrupts: device.py in this process,
vfio_user_server.py to others.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

from pynvme_user.testing._controller_cffi import ffi, lib
from pynvme_user.testing.pages import identify_pages

__all__ = ["FAULTS", "REGISTERS", "Core", "Options", "ffi", "lib"]

#: Of BAR0: the registers, before one page of doorbells.
REGISTERS = 0x1000
DOORBELL_PAGE = 4096
#: enum controller_fault.
FAULTS = (
    *("none", "read-flip", "write-flip", "torn", "lost", "misdirected", "stale", "status", "kept"),
)


@dataclass(frozen=True)
class Options:
    """What a controller is: see struct controller_config. Times are in microseconds.

    ``slow`` is what each so-many-th I/O command takes instead of ``delay``, and that number;
    ``fault`` its kind, in each so-many-th command, and its value.
    """

    size: int = 1 << 30
    block_size: int = 512
    queues: int = 128
    mqes: int = 0xFFFF
    mdts: int = 5
    delay: float = 0.0
    slow: tuple[float, int] = (0.0, 0)
    in_turn: bool = False
    fault: tuple[str, int, int] = ("none", 0, 0)


class Core:
    """A controller, disabled at first. ``storage`` is what its namespace keeps; None: nothing.

    ``doorbells`` is a page of memory. Raises ValueError for options that no controller has.
    """

    def __init__(
        self, options: Options, storage: mmap.mmap | None, doorbells: memoryview, *, spin: bool
    ) -> None:
        shift = options.block_size.bit_length() - 1
        blocks = options.size >> shift
        self._doorbells = ffi.from_buffer("uint32_t[]", doorbells, require_writable=True)
        self._storage = ffi.from_buffer(storage) if storage else ffi.NULL
        config = ffi.new("struct controller_config *")
        config.storage = ffi.cast("uint8_t *", self._storage)
        config.blocks = blocks
        config.block_shift = shift
        config.mqes = options.mqes
        config.queues = options.queues
        config.mdts = options.mdts
        config.delay_ns = int(options.delay * 1000)
        config.slow_ns = int(options.slow[0] * 1000)
        config.slow_every = options.slow[1]
        config.in_turn = options.in_turn
        config.fault = FAULTS.index(options.fault[0])
        config.fault_every = options.fault[1]
        config.fault_value = options.fault[2]
        config.doorbells = self._doorbells
        self.handle = lib.controller_new(config)
        if not self.handle:
            raise ValueError(f"there is no controller of {options}")
        for cns, per_namespace, page in identify_pages(
            blocks=blocks,
            block_shift=shift,
            mdts=options.mdts,
            model="memory" if storage else "null",
        ):
            lib.controller_set_page(self.handle, cns, per_namespace, page)
        err = lib.controller_start(self.handle, spin)
        if err:
            lib.controller_free(self.handle)
            raise OSError(-err, os.strerror(-err))
