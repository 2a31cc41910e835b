"""What lets a workload go on: over a reset, too, by which nothing of it is lost."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from pynvme_user.dma import DmaBuffer
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.namespace import Namespace
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.errors import NamespaceChangedError
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload


@dataclass(frozen=True, slots=True, eq=False)
class RunLoop:
    """A worker asks its thread to run this loop for up to ``timeout_ns``: has it ended then?"""

    pair: QueuePair | QueuePairGroup
    workload: Workload | WorkloadGroup
    geometry: Geometry
    buffer: DmaBuffer
    timeout_ns: int


class Drive:
    """Lets a workload go on, on its queue pairs; ``buffer`` is its memory."""

    def __init__(
        self,
        pair: QueuePair | QueuePairGroup,
        workload: Workload | WorkloadGroup,
        buffer: DmaBuffer,
        ns: Namespace,
    ) -> None:
        self._pair = pair
        self._workload = workload
        self._buffer = buffer
        self._ns = ns

    def begin(self) -> None:
        """See what the namespace is, before I/O of which none has been submitted yet."""
        self._geometry = self._ns.current()
        self._begun = self._workload.submitted

    def go_on(self, timeout_ns: int) -> Generator[RunLoop, bool, bool]:
        """Go on for so long; True at the end, with nothing outstanding.

        If the namespace is what it was, it goes on after what may have changed that before the
        first I/O, and after a reset while nothing was outstanding. Raises as run_loop().
        """
        workload = self._workload
        while True:
            try:
                ended = yield RunLoop(
                    self._pair, workload, self._geometry, self._buffer, timeout_ns
                )
            except NamespaceChangedError:
                if workload.submitted != self._begun:
                    raise
            else:
                if not (ended and workload.given_up) or workload.lost:
                    return ended
                workload.go_on()
            self._geometry = self._ns.current()
