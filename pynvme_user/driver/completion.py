"""Outcomes: what a command or a vector of them came to, and a status as an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pynvme_user.errors import NvmeStatusError, NvmeTimeoutError
from pynvme_user.native import U16Array, U64Array
from pynvme_user.spec.status import GenericStatus, PathStatus, Status

#: The status of a command that a reset of the controller ended, once the device's DMA had stopped.
HOST_ABORTED = Status.of(PathStatus.ABORTED_BY_HOST)
#: Added to the 15-bit status field where that stands alone, for :attr:`Completion.timed_out`.
TIMED_OUT = 1 << 15


class Completion(NamedTuple):
    """The outcome of one command."""

    cid: int
    status: Status
    latency_ns: int  # from submission to the poll that saw it
    result: int  # dword 0 of the completion queue entry, command specific
    result_upper: int  # dword 1
    timed_out: bool = False  # it took longer than the timeout, and was aborted for that

    @property
    def lba(self) -> int:
        """Where a Zone Append has put its data: dwords 0 and 1 (ZNS 1.2, 3.4.1)."""
        return self.result | self.result_upper << 32


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VectorResult:
    """The outcome of each I/O of a vector, in the order of its LBAs."""

    status: U16Array  # the 15-bit status field; 0 is success
    latency_ns: U64Array  # from submission to the poll that saw it
    command: str
    failures: int  # I/Os that did not succeed
    timed_out: bool = False  # one took longer than the timeout, and was aborted for that

    @property
    def failed(self) -> npt.NDArray[np.intp]:
        """Indices of the I/Os that did not succeed."""
        if not self.failures:  # C has counted them: mostly no status need be looked at
            return np.empty(0, np.intp)
        return np.flatnonzero((self.status & 0x7FF) != 0)  # of booleans it is far quicker

    @property
    def errors(self) -> dict[int, Status]:
        """The statuses of the I/Os that did not succeed, by their indices."""
        return {index: Status(int(self.status[index])) for index in self.failed.tolist()}

    def spread(self, count: int, each: int) -> VectorResult:
        """Return the result of ``count`` parts, of which each I/O had so many."""
        status: U16Array = np.repeat(self.status, each)[:count]
        latency_ns: U64Array = np.repeat(self.latency_ns, each)[:count]
        failures = int(np.count_nonzero(status & 0x7FF)) if self.failures else 0
        return VectorResult(status, latency_ns, self.command, failures, self.timed_out)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorResult):
            return NotImplemented
        return (
            self.command == other.command
            and np.array_equal(self.status, other.status)
            and np.array_equal(self.latency_ns, other.latency_ns)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can be changed

    def __repr__(self) -> str:
        return f"<VectorResult of {len(self.status)} I/Os ({self.command}): {self.failures} failed>"

    def check(self) -> Self:
        """Raise what :func:`check` does for the first I/O that failed; return self if none did."""
        failed = self.failed
        if len(failed):
            index = int(failed[0])
            check(Status(int(self.status[index])), f"{self.command}, I/O {index}", self.timed_out)
        return self


class _Arrays(NamedTuple):
    tags: npt.NDArray[np.int64]
    status: U16Array
    latency_ns: U64Array


class Reaped(_Arrays):
    """Outcomes of :meth:`QueuePair.submit_many`'s I/Os: ``(tags, status, latency_ns)``.

    ``tags`` are int64, ``status`` is the 15-bit status field, uint16, 0 of success; ``latency_ns``
    uint64. Entry *i* of each is of one I/O.
    """

    timed_out = False  # one took longer than the timeout, and was aborted for that

    @property
    def failed(self) -> npt.NDArray[np.intp]:
        """Where the I/Os are that did not succeed: ``done.tags[done.failed]`` are their tags."""
        return np.flatnonzero((self.status & 0x7FF) != 0)

    @property
    def errors(self) -> dict[int, Status]:
        """The statuses of the I/Os that did not succeed, by their tags."""
        failed = self.failed
        tags, status = self.tags[failed].tolist(), self.status[failed].tolist()
        return {tag: Status(one) for tag, one in zip(tags, status, strict=True)}

    def check(self) -> Self:
        """Raise what :func:`check` does for the first I/O that failed; return self if none did."""
        for index in self.failed[:1].tolist():
            what = f"the I/O with tag {self.tags[index]}"
            check(Status(int(self.status[index])), what, self.timed_out)
        return self


def check(status: Status, command: str, timed_out: bool = False) -> None:
    """Turn a status that is not success into its exception; ``command`` names the command.

    One that was aborted because it, or an I/O of the same vector, took longer than the timeout is
    NvmeTimeoutError. All else is NvmeStatusError: also a command that somebody asked the abort of,
    or that a reset ended which was for another reason.
    """
    if status.ok:
        return
    aborted = status.code()
    if timed_out and aborted is GenericStatus.ABORTED_BY_REQUEST:
        raise NvmeTimeoutError(
            f"{command} was aborted, having taken longer than the timeout: it can be tried again"
        )
    if timed_out and aborted is PathStatus.ABORTED_BY_HOST:
        raise NvmeTimeoutError(
            f"{command} was given up: the controller did not complete it and was reset; "
            "it can be tried again"
        )
    reset = aborted is PathStatus.ABORTED_BY_HOST
    raise NvmeStatusError(status, command, "a reset of the controller ended it" if reset else "")
