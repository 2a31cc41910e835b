"""The benchmark's loop in C, seen from Python: one queue pair kept busy with generated I/Os.

With ring.py and generator.py, the only modules that import the extension.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pynvme_user._ring_cffi import ffi, lib
from pynvme_user.generator import Generator
from pynvme_user.ring import Ring, U64Array, check_result, new_lines

BUCKETS: int = lib.NVME_BUCKETS
#: Where a Flush's results are; the others are by fio's direction: read, write, trim.
FLUSH: int = lib.NVME_BENCH_FLUSH

#: struct nvme_histogram: latencies in nanoseconds. ``min`` is 2**64 - 1 while there is none.
HISTOGRAM_DTYPE = np.dtype(
    [
        ("count", "<u8"),
        ("sum", "<u8"),
        ("squares_low", "<u8"),
        ("squares_high", "<u8"),
        ("min", "<u8"),
        ("max", "<u8"),
        ("counts", "<u8", BUCKETS),
    ]
)
#: struct nvme_bench_result: what one direction came to.
RESULT_DTYPE = np.dtype(
    [
        ("ios", "<u8"),
        ("blocks", "<u8"),
        ("failed", "<u8"),
        ("late", "<u8"),
        ("slat", HISTOGRAM_DTYPE),
        ("clat", HISTOGRAM_DTYPE),
        ("lat", HISTOGRAM_DTYPE),
    ]
)


class Workload:
    """Generated I/Os on one queue pair, for :meth:`QueuePair.advance`.

    ``commands`` are 64 bytes each by direction (and FLUSH), without what each I/O adds; ``iovas``
    has the address of a data buffer for each CID, which holds the generator's largest I/O;
    ``depth`` is how many I/Os to keep outstanding.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        commands: Mapping[int, bytes],
        iovas: U64Array,
        depth: int,
        block_shift: int,
    ) -> None:
        self._generator = generator
        self._slots = new_lines("struct nvme_bench_slot", len(iovas))
        for slot, iova in zip(self._slots, iovas.tolist(), strict=True):
            slot.iova = iova
        #: RESULT_DTYPE, by direction; C adds to it while it runs.
        self.results: npt.NDArray[np.void] = np.zeros(4, RESULT_DTYPE)
        self._results = ffi.from_buffer(
            "struct nvme_bench_result[]", self.results, require_writable=True
        )
        self._memory = new_lines("struct nvme_bench")
        self._bench = bench = self._memory[0]
        bench.generator = generator.pointer
        bench.slots = self._slots
        bench.results = self._results
        bench.depth = depth
        bench.block_shift = block_shift
        for direction, command in commands.items():
            ffi.buffer(ffi.addressof(bench.commands[direction]))[:] = command
        self.clear()

    def clear(self) -> None:
        """Begin to count anew, as after a ramp time."""
        for index in range(len(self.results)):
            lib.nvme_bench_result_clear(ffi.addressof(self._results[index]))

    @property
    def completed(self) -> int:
        """I/Os that have ended since the beginning, well or not; clear() does not change it."""
        return sum(self._bench.ended)

    @property
    def submitted(self) -> int:
        """I/Os submitted since the beginning."""
        return sum(self._bench.submitted)

    def run(self, ring: Ring, timeout_ns: int) -> bool:
        """Go on for up to ``timeout_ns``; True at the end, with nothing outstanding.

        Raises as :meth:`Ring.poll`.
        """
        return bool(check_result(lib.nvme_bench_run(ring.pointer, self._bench_pointer, timeout_ns)))

    def stop(self) -> None:
        """Submit no more: the next :meth:`run` only drains what is outstanding."""
        self._bench.stop = 1

    def give_up(self, status: int) -> None:
        """Count what has no outcome as failed. Only once DMA has stopped."""
        bench = self._bench
        for direction in range(len(self.results)):
            lost = bench.submitted[direction] - bench.ended[direction]
            self.results["failed"][direction] += lost
            bench.ended[direction] += lost
        self.stop()

    @property
    def _bench_pointer(self) -> object:
        return ffi.addressof(self._bench)

    def overhead(self, ring: Ring, ios: int, timeout_ns: int) -> npt.NDArray[np.void]:
        """Run I/Os one at a time and time each submission and completion by itself.

        Returns two HISTOGRAM_DTYPE entries: from before a command's submission to after its
        doorbell, and from the last poll that found nothing to the end of the one that found its
        completion. Raises as :meth:`Ring.poll`.
        """
        overhead = ffi.new("struct nvme_overhead *")
        check_result(
            lib.nvme_bench_overhead(ring.pointer, self._bench_pointer, ios, timeout_ns, overhead)
        )
        return np.concatenate(
            [
                np.frombuffer(bytes(ffi.buffer(ffi.addressof(histogram))), HISTOGRAM_DTYPE)
                for histogram in (overhead.submit, overhead.complete)
            ]
        )
