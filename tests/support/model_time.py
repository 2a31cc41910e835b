"""The benchmark's loop on model time: a clock that the test moves, and a device that obeys it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from ring_rig import Rig
from workload_rig import workload

from pynvme_user.native import ffi, lib
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.pace import Pace
from pynvme_user.workload.records import RECORD_DTYPE

NS = 1_000_000_000
#: Entries of the log of single I/Os, taken after each round.
_RECORDS = 4096


@dataclass
class Clock:
    """Model time in nanoseconds, which stands still while the loop runs."""

    now: int = NS


@contextmanager
def model_clock() -> Iterator[Clock]:
    """Put a model's clock in the place of the I/O path's; for a test with one thread."""
    lib.nvme_tick_rate()  # chosen before, so that nothing chooses another
    clock = Clock()
    read = ffi.callback("uint64_t(void)", lambda: clock.now)
    loops = lib.nvme_clock
    before = loops.read, loops.ns_per_tick, loops.ticks_per_ns, loops.rate
    loops.read, loops.ns_per_tick, loops.ticks_per_ns, loops.rate = read, 1 << 32, 1 << 32, NS
    try:
        yield clock
    finally:
        loops.read, loops.ns_per_tick, loops.ticks_per_ns, loops.rate = before


@dataclass
class Device:
    """Serves up to ``parallel`` commands at a time, in their order, each in ``service`` ns."""

    rig: Rig
    service: int
    parallel: int
    ends: deque[tuple[int, int]] = field(default_factory=deque)  # and the CID
    _head: int = 0
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = [0] * self.parallel
        self._cids = self.rig.sq.view(np.uint16)[:, 1]

    def step(self, now: int) -> bool:
        """Fetch what is announced and complete what is done; whether there was any."""
        fetched = self._head != (tail := int(self.rig.bells[0]))
        while self._head != tail:
            end = max(now, self._free[0]) + self.service
            heapq.heapreplace(self._free, end)
            self.ends.append((end, int(self._cids[self._head])))
            self._head = (self._head + 1) % self.rig.entries
        done = bool(self.ends) and self.ends[0][0] <= now
        while self.ends and self.ends[0][0] <= now:
            self.rig.complete(self.ends.popleft()[1])
        return fetched or done


class Model:
    """A workload on a device and a clock of its own; a context."""

    def __init__(
        self, generator: Generator, pace: Pace, *, depth: int, service: int, parallel: int
    ) -> None:
        self._stack = ExitStack()
        self.clock = self._stack.enter_context(model_clock())
        self._rig = Rig(depth)
        self._rig.ring.pointer.coalesce_max = 1  # no wait for more: nothing runs meanwhile
        self._device = Device(self._rig, service, parallel)
        self.work = workload(generator, self._rig, pace=pace, records=_RECORDS)
        self._log: list[npt.NDArray[np.void]] = []

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, duration: int) -> None:
        """Go on for so long, or to the workload's end if that is earlier."""
        end = self.clock.now + duration
        while self.clock.now < end and not self._round():
            self.clock.now = self._next

    def _round(self) -> bool:
        """Do all that is to be done now; whether that was the end."""
        while True:
            at_end = self.work.run(self._rig.ring, 0)
            moved = self._device.step(self.clock.now)
            if self.work._bench.record_count:
                self._log.append(self.work.take_records())
            elif not moved:
                return at_end

    @property
    def _next(self) -> int:
        """When something happens: a completion, or an arrival for which there is room."""
        ends, wake = self._device.ends, int(self.work._bench.wake)
        room = self._rig.ring.outstanding < self._rig.depth and wake > self.clock.now
        return min([*([ends[0][0]] if ends else []), *([wake] if room else [])])

    def log(self) -> npt.NDArray[np.void]:
        """Take the log of the I/Os that have ended (RECORD_DTYPE)."""
        log = np.concatenate([np.zeros(0, RECORD_DTYPE), *self._log])
        self._log.clear()
        return log


@dataclass
class Played:
    """The log of what a workload came to (RECORD_DTYPE), times from its beginning on."""

    log: npt.NDArray[np.void]

    def due(self, direction: int) -> npt.NDArray[np.int64]:
        """Tell when the I/Os of a direction were due that have ended, as the loop has it."""
        log = self.log[self.log["direction"] == direction]
        return np.sort(log["end_ns"].astype(np.int64) - log["lat"].astype(np.int64))


def play(
    generator: Generator, pace: Pace, *, depth: int, service: int, parallel: int, duration: int
) -> Played:
    """Run a workload for ``duration`` ns of model time."""
    with Model(generator, pace, depth=depth, service=service, parallel=parallel) as model:
        model.run(duration)
        return Played(model.log())
