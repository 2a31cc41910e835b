"""Queue pairs of one controller or several that one thread drives together, for workloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy.typing as npt

from pynvme_user.driver.device import State
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.errors import NvmeError
from pynvme_user.ring import Loop, LoopGroup


class QueuePairGroup:
    """Several queue pairs of one controller that one thread drives, for workloads that do so.

    They are given in the order in which they were made.
    """

    def __init__(self, pairs: Sequence[QueuePair]) -> None:
        self._pairs = list(pairs)
        self._next_looked_at = 0
        self.depth = self._pairs[0].depth
        self.device = self._pairs[0].device
        self.rings = [pair._ring for pair in self._pairs]

    @property
    def doorbell_writes(self) -> int:
        """Doorbell registers written so far, of all."""
        return sum(pair.doorbell_writes for pair in self._pairs)

    @property
    def cq_doorbell_writes(self) -> int:
        """Those of them that reported completions."""
        return sum(pair.cq_doorbell_writes for pair in self._pairs)

    def run_loop(
        self, loop: LoopGroup, timeout_ns: int, *, geometry: Geometry, owner: npt.NDArray[Any]
    ) -> bool:
        """Let all members of a group go on; as :meth:`QueuePair.run_loop` does one."""
        (outcome,) = run_together([GroupRun(self, loop, geometry, owner)], timeout_ns)
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome  # which would keep this frame, and it the memory
        return outcome

    def _going(self, loop: LoopGroup) -> list[tuple[QueuePair, Loop]]:
        """Tell which members are not done, with their queue pairs."""
        both = zip(self._pairs, loop.members, strict=True)
        return [(pair, one) for pair, one in both if not loop.is_done(one)]

    def _begin(self, run: GroupRun, held: ExitStack) -> bool:
        """Take the queue pairs of those that are not done; whether there are any."""
        going = self._going(run.loop)
        for pair, one in going:
            pair._begin_loop(one, run.owner)
        for pair, _ in going:
            held.enter_context(pair.held())
        for pair, one in going:
            if pair._is_given_up(one, run.geometry):
                run.loop.set_done(one)
                pair._end_loop()
        return bool(self._going(run.loop))

    def _end(self, run: GroupRun, going: Sequence[tuple[QueuePair, Loop]]) -> None:
        """Let those go that are at their end."""
        run.loop.take_ends()
        for pair, one in going:
            if run.loop.is_done(one):
                pair._end_loop()

    def recover(self, error: Exception) -> NoReturn:
        """Let the controller act on an error of the device before the caller sees it: raises it."""
        with self._pairs[0]._device_errors():
            raise error

    def _check_health(self, loop: LoopGroup) -> bool:
        """See after those that go on; whether none does."""
        left = [pair for pair, _ in self._going(loop)]
        for number, pair in enumerate(self._some(left)):
            pair._check_health(waited=False, asks=not number)
        if not left:
            loop.rearm()
        return not left

    def _some(self, pairs: list[QueuePair]) -> list[QueuePair]:
        """Choose a tenth of them, the next ones each time: they are many to look at."""
        count = -(-len(pairs) // 10)
        first = self._next_looked_at % max(1, len(pairs))
        self._next_looked_at = first + count
        return (pairs + pairs)[first : first + count]


@dataclass(frozen=True, slots=True, eq=False)
class GroupRun:
    """A group of loops that is to go on, as :meth:`QueuePairGroup.run_loop` has it."""

    pairs: QueuePairGroup
    loop: LoopGroup
    geometry: Geometry
    owner: npt.NDArray[Any]

    @property
    def can_wait(self) -> bool:
        """Whether others need not wait for it: its controller is being reset."""
        return self.pairs.device.state is State.RESETTING


def run_together(runs: Sequence[GroupRun], timeout_ns: int) -> list[bool | Exception]:
    """Let groups on several controllers go on together, in this thread.

    Tells of each what :meth:`QueuePairGroup.run_loop` would: whether it is at its end, or what it
    raised, of which the others feel nothing.
    """
    outcomes: list[bool | Exception] = [False] * len(runs)

    @contextmanager
    def noted(place: int) -> Iterator[None]:
        try:
            yield
        except NvmeError as error:
            # Its frames would keep DMA memory.
            outcomes[place] = error.with_traceback(None)
        except Exception as error:
            outcomes[place] = error

    now = [place for place, run in enumerate(runs) if not run.can_wait] or range(len(runs))
    # In the order of their making, as a reset stops them: neither waits for the other then.
    with ExitStack() as held:
        begun = {}
        for place in now:
            with noted(place):
                begun[place] = runs[place].pairs._begin(runs[place], held)
        going = {place: runs[place].pairs._going(runs[place].loop) for place in begun}
        inside = [pair for of in going.values() for pair, _ in of]
        for pair in inside:
            pair._inside = True
        try:
            both = [(runs[place].loop, runs[place].pairs.rings) for place in begun]
            if inside:
                (loop, rings), *others = both
                loop.run_members(rings, timeout_ns if all(begun.values()) else 0, others)
        finally:
            for pair in inside:
                pair._inside = False
        for place, of in going.items():
            with noted(place):
                if of:
                    runs[place].pairs._end(runs[place], of)
    for place in now:
        pairs, error = runs[place].pairs, outcomes[place]
        with noted(place):
            if isinstance(error, Exception):
                pairs.recover(error)
            else:
                outcomes[place] = pairs._check_health(runs[place].loop)
        del error
    return outcomes
