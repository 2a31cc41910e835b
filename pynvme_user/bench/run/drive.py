"""What lets a workload go on: over a reset, too, by which nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable

from pynvme_user.driver.namespace import Namespace
from pynvme_user.errors import NamespaceChangedError
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload


class Drive:
    """A call lets a workload go on by ``advance``, QueuePair.run_loop() of its queue pairs."""

    def __init__(
        self, advance: Callable[..., bool], workload: Workload | WorkloadGroup, ns: Namespace
    ) -> None:
        self._advance = advance
        self._workload = workload
        self._ns = ns

    def begin(self) -> None:
        """See what the namespace is, before I/O of which none has been submitted yet."""
        self._geometry = self._ns.current()
        self._begun = self._workload.submitted

    def __call__(self, timeout_ns: int) -> bool:
        """Go on for so long; True at the end, with nothing outstanding.

        If the namespace is what it was, it goes on after what may have changed that before the
        first I/O, and after a reset while nothing was outstanding. Raises as advance().
        """
        workload = self._workload
        while True:
            try:
                ended = self._advance(timeout_ns, geometry=self._geometry)
            except NamespaceChangedError:
                if workload.submitted != self._begun:
                    raise
            else:
                if not (ended and workload.given_up) or workload.lost:
                    return ended
                workload.go_on()
            self._geometry = self._ns.current()
