"""Single commands without a call for each of their members: :class:`Single`, over ``_single.c``."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from pynvme_user.native import ffi, lib
from pynvme_user.ring import Ring

#: ``submit(single.transfer)`` submits one command, as its ``args`` say; returns its CID, -ERANGE as
#: :func:`~pynvme_user.ring.transfer_run`, or another negative errno.
submit: Callable[[Any], int] = lib.nvme_single_submit
#: ``reap(single.reaped, timeout_ns)`` reaps as :meth:`Ring.reap` does; returns how many, or a
#: negative errno.
reap: Callable[[Any, int], int] = lib.nvme_single_reap


class Single:
    """What C reads of the next command, and what it writes of the last ones."""

    __slots__ = ("_alive", "_qp", "args", "cids", "latency_ns", "reaped", "transfer", "words")

    def __init__(self, ring: Ring) -> None:
        #: Words of struct nvme_transfer: the :class:`CommandTemplate`'s address, the LBA, the IOVA
        #: and the length in bytes.
        self._qp = ring.pointer
        self.args = array("Q", bytes(ffi.sizeof("struct nvme_transfer")))
        self.transfer = ffi.from_buffer("struct nvme_transfer *", self.args)
        self.transfer.qp = ring.pointer
        #: What was reaped last; the whole of it is in :attr:`Ring.reaped`.
        self.cids = array("Q", bytes(8 * ring.depth))
        self.latency_ns = array("Q", bytes(8 * ring.depth))
        #: Words of struct nvme_reaped; the first says whether all of that were plain successes.
        self.words = array("Q", bytes(ffi.sizeof("struct nvme_reaped")))
        self.reaped = ffi.from_buffer("struct nvme_reaped *", self.words)
        self._alive = [
            ffi.from_buffer(kind, memory, require_writable=True)
            for kind, memory in (
                ("uint64_t[]", self.cids),
                ("uint64_t[]", self.latency_ns),
                ("struct nvme_completion[]", ring.reaped),
            )
        ]
        self.reaped.cids, self.reaped.latency_ns, self.reaped.completions = self._alive
        self.reaped.qp = ring.pointer

    def submit_parts(self, command: bytes, parts: Sequence[tuple[int, int]]) -> int:
        """Submit a 64-byte command whose data are parts, each an IOVA and a length in bytes.

        Returns its CID, or a negative errno: -ENOTSUP where neither PRPs can tell of them nor the
        queue pair uses SGLs; the others are for :func:`~pynvme_user.native.fail`.
        """
        return int(
            lib.nvme_single_submit_parts(
                self._qp,
                ffi.from_buffer("struct nvme_sqe *", command),
                ffi.new("struct nvme_part[]", parts),
                len(parts),
            )
        )
