"""One queue pair's rings and vectors, seen from Python: :class:`Ring`, over ``_ring.c``.

The GIL is released while C runs.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pynvme_user.links import DoorbellTarget, Interrupt
from pynvme_user.native import (
    U16Array,
    U32Array,
    U64Array,
    check_result,
    dtype_of,
    fail,
    ffi,
    lib,
    new_lines,
)

SQE_SIZE: int = ffi.sizeof("struct nvme_sqe")
CQE_SIZE: int = ffi.sizeof("struct nvme_cqe")
MAX_DEPTH = 0xFFFF
NO_STATUS = 0xFFFF  # no device's: the status field has 15 bits

_TRACKER_DTYPE = dtype_of("struct nvme_tracker")
#: One reaped completion.
COMPLETION_DTYPE = dtype_of("struct nvme_completion")


#: ``transfer_run(ring.transfer_struct)`` runs one command and waits for it. Returns its 15-bit
#: status field, or a negative errno: -ERANGE if the length is not whole blocks that one command
#: carries, or they are not all in the namespace; -ETIME after the struct's ``timeout_ns``, which
#: leaves the command outstanding; the others are for :func:`fail`.
transfer_run: Callable[[Any], int] = lib.nvme_transfer_run


class CommandTemplate:
    """A read-like command of a namespace for :func:`transfer_run` (struct nvme_command_template).

    ``command`` is 64 bytes, without what each transfer adds. ``block_count`` is the namespace's,
    ``max_blocks`` what one command carries.
    """

    def __init__(
        self, command: bytes, *, block_shift: int, block_count: int, max_blocks: int
    ) -> None:
        self._struct = template = ffi.new("struct nvme_command_template *")
        ffi.buffer(ffi.addressof(template, "command"))[:] = command
        template.block_shift = block_shift
        self.set_limits(block_count, max_blocks)
        #: Where C finds it, as long as this object lives.
        self.address = int(ffi.cast("uintptr_t", template))

    def set_limits(self, block_count: int, max_blocks: int) -> None:
        """Change what each transfer is checked by; no blocks let none through."""
        self._struct.block_count = block_count
        self._struct.max_blocks = max_blocks


class Ring:
    """The submission and completion ring of one queue pair.

    The memory at ``sq``, ``cq`` and ``prp_lists`` is the caller's, zeroed, visible to the device
    and kept until the ring is no longer used. ``sq_entries`` beyond ``depth`` + 1 are fetched into
    the cache before they are written, ``cq_entries`` beyond that spare completion doorbells. One
    thread at a time.

    A CID has an index in its low bits, below ``depth``, and above it a generation, which moves on
    with each outcome (struct nvme_tracker). ``cids`` are the :attr:`cids` of a queue pair that had
    the same id before; ``plain_cids`` leaves the generation out.
    """

    def __init__(
        self,
        *,
        qid: int,
        depth: int,
        page_shift: int,
        sq: int,
        cq: int,
        prp_lists: int,
        prp_lists_iova: int,
        prp_list_entries: int,
        use_sgl: bool,
        sq_doorbell: DoorbellTarget,
        cq_doorbell: DoorbellTarget,
        sq_entries: int | None = None,
        cq_entries: int | None = None,
        cids: U16Array | None = None,
        plain_cids: bool = False,
    ) -> None:
        self.depth = depth
        self._trackers = new_lines(
            "struct nvme_tracker", lib.nvme_qpair_trackers(min(max(depth, 1), MAX_DEPTH))
        )
        first = None if cids is None else ffi.from_buffer("uint16_t[]", _first_cids(cids, depth))
        self._memory = new_lines("struct nvme_qpair")
        self._qp = ffi.cast("struct nvme_qpair *", self._memory)
        #: For :func:`transfer_run`, and the same as words, which are written more quickly: the
        #: :class:`Operation`'s address, LBA, IOVA and length in bytes are of each transfer.
        self.transfer_args = array("Q", bytes(ffi.sizeof("struct nvme_transfer")))
        self.transfer_struct = ffi.from_buffer("struct nvme_transfer *", self.transfer_args)
        self.transfer_struct.qp = self._qp
        self._config = config = ffi.new(
            "struct nvme_qpair_config *",
            {
                "sq": ffi.cast("void *", sq),
                "cq": ffi.cast("void *", cq),
                "trackers": self._trackers,
                "cids": ffi.NULL if first is None else first,
                "prp_lists": ffi.cast("uint64_t *", prp_lists),
                "prp_lists_iova": prp_lists_iova,
                "prp_list_entries": prp_list_entries,
                "page_shift": page_shift,
                "depth": depth,
                "sq_entries": depth + 1 if sq_entries is None else sq_entries,
                "cq_entries": depth + 1 if cq_entries is None else cq_entries,
                "qid": qid,
                "use_sgl": use_sgl,
                "plain_cids": plain_cids,
            },
        )
        if lib.nvme_qpair_init(self._qp, config):
            raise ValueError(
                f"a depth of {depth} with {config.sq_entries} submission and {config.cq_entries} "
                f"completion queue entries and pages of 2**{page_shift} bytes is not legal"
            )
        for doorbell, target in (
            (self._qp.sq_doorbell, sq_doorbell),
            (self._qp.cq_doorbell, cq_doorbell),
        ):
            doorbell.mmio = ffi.cast("uint32_t *", target.mmio)
            doorbell.post = ffi.cast("int (*)(void *, uint64_t, uint32_t)", target.post)
            doorbell.context = ffi.cast("void *", target.context)
            doorbell.address = target.address
        self._command = ffi.new("struct nvme_sqe *")
        self._command_bytes = ffi.buffer(self._command)
        #: What was reaped last, valid until the next call.
        self.reaped = np.zeros(depth, COMPLETION_DTYPE)
        self._out = ffi.from_buffer("struct nvme_completion[]", self.reaped, require_writable=True)
        #: What of a CID is its index: ``cid & ring.index_mask``.
        self.index_mask = int(self._qp.index_mask)

    def disown(self) -> None:
        """Let the device's memory go, in a forked child: the rings are its parent's.

        From now on all depth is in use, in memory of this ring's own, and nothing ever completes.
        """
        config = self._config
        self._trackers = new_lines("struct nvme_tracker", self.index_mask + 1)
        self._own = [
            ffi.new("struct nvme_sqe[]", config.sq_entries),
            ffi.new("struct nvme_cqe[]", config.cq_entries),
            ffi.new("uint32_t[2]"),
        ]
        config.sq, config.cq, doorbells = self._own
        config.trackers = self._trackers
        config.prp_lists = config.cids = ffi.NULL
        lib.nvme_qpair_init(self._qp, config)
        self._qp.sq_doorbell.mmio = doorbells
        self._qp.cq_doorbell.mmio = doorbells + 1
        self._qp.outstanding = self.depth
        self._qp.free_head = 0xFFFF

    def check(self) -> None:
        """See whether the free list is whole; ControllerFatalError if it is not. For tests."""
        check_result(lib.nvme_qpair_check(self._qp))

    def restart(self, prp_lists: int, prp_lists_iova: int, prp_list_entries: int) -> None:
        """Begin anew on queues that were made again and zeroed, without shadow doorbells.

        The PRP lists may be others than before. The CIDs go on where they were.
        """
        qp = self._qp
        lib.nvme_qpair_restart(qp)
        qp.prp_lists = ffi.cast("uint64_t *", prp_lists)
        qp.prp_lists_iova, qp.prp_list_entries = prp_lists_iova, prp_list_entries
        for doorbell in (qp.sq_doorbell, qp.cq_doorbell):
            doorbell.shadow = doorbell.event_index = ffi.NULL

    def use_shadow(self, index: int, shadow: int, event_index: int) -> None:
        """Use shadow doorbells: two words from ``index`` in each buffer (Base 2.0, section 5.8).

        ``shadow`` and ``event_index`` are the buffers' addresses; SQ word first, then CQ.
        """
        words = ffi.cast("uint32_t *", shadow), ffi.cast("uint32_t *", event_index)
        for step, doorbell in enumerate((self._qp.sq_doorbell, self._qp.cq_doorbell)):
            doorbell.shadow = words[0] + index + step
            doorbell.event_index = words[1] + index + step

    def use_interrupt(self, interrupt: Interrupt, spin_ns: int) -> None:
        """Sleep for the interrupt while waiting, after spinning for ``spin_ns``."""
        target = ffi.new(
            "struct nvme_interrupt *",
            {
                "event_fd": interrupt.event_fd,
                "event_size": interrupt.event_size,
                "rearm_fd": interrupt.rearm_fd,
                "rearm_size": len(interrupt.rearm),
                "rearm_offset": interrupt.rearm_offset,
                "rearm_value": int.from_bytes(interrupt.rearm, "little"),
                "shared": interrupt.shared,
            },
        )
        if interrupt.rearm:
            self._masked = ffi.from_buffer("uint32_t[]", interrupt.masked, require_writable=True)
            target.masked = self._masked
        lib.nvme_qpair_use_interrupt(self._qp, target, spin_ns)

    @property
    def pointer(self) -> Any:
        """The ``struct nvme_qpair *`` for C; valid as long as this object is."""
        return self._qp

    @property
    def outstanding(self) -> int:
        """Commands submitted and not yet reaped."""
        return int(self._qp.outstanding)

    @property
    def doorbell_writes(self) -> int:
        """Doorbell registers written so far (shadow doorbells do not count)."""
        return int(self._qp.sq_doorbell.writes + self._qp.cq_doorbell.writes)

    @property
    def cq_doorbell_writes(self) -> int:
        """Those of them that reported completions."""
        return int(self._qp.cq_doorbell.writes)

    @property
    def completed(self) -> int:
        """Commands reaped so far."""
        return int(self._qp.completed)

    @property
    def next_index(self) -> int:
        """Index of the CID that the next submission gets. Raises QueueFullError without one."""
        index = int(self._qp.free_head) & self.index_mask
        if index == self.index_mask:
            fail(-errno.EAGAIN)
        return index

    def is_outstanding(self, index: int) -> bool:
        """Whether the command with that index of its CID is."""
        return int(self._trackers[index].cid) & self.index_mask == index

    @property
    def cids(self) -> U16Array:
        """The CID of each index's next command, for a queue pair that gets the same id."""
        trackers = np.frombuffer(ffi.buffer(self._trackers), _TRACKER_DTYPE)[: self.depth]
        index = np.arange(self.depth, dtype=np.uint16)
        expected = trackers["cid"]
        outstanding = (expected & self.index_mask) == index
        following = expected + np.where(outstanding, self._qp.generation, 0).astype(np.uint16)
        return following & np.uint16(~self.index_mask & 0xFFFF) | index

    def submit(self, command: bytes, iova: int, length: int, user: int = 0) -> int:
        """Put a 64-byte command into the ring; return its CID. Does not ring the doorbell.

        The data pointer is filled in for ``length`` bytes at ``iova`` unless ``length`` is 0.
        Raises QueueFullError, and DmaError for a misaligned or too long buffer.
        """
        self._command_bytes[:] = command
        cid: int = lib.nvme_qpair_submit(self._qp, self._command, iova, length, user)
        if cid < 0:
            fail(cid)
        return cid

    def submit_io(
        self, opcode: int, nsid: int, lba: int, cdw12: int, iova: int, length: int
    ) -> int:
        """As :meth:`submit`, for the read-like commands: LBA in CDW10 and 11, no metadata."""
        command = self._command
        command.flags = 0
        command.mptr = command.prp1 = command.prp2 = 0
        command.cdw2 = command.cdw3 = command.cdw13 = command.cdw14 = command.cdw15 = 0
        command.opc = opcode
        command.nsid = nsid
        command.cdw10 = lba & 0xFFFFFFFF
        command.cdw11 = lba >> 32
        command.cdw12 = cdw12
        cid: int = lib.nvme_qpair_submit(self._qp, command, iova, length, 0)
        if cid < 0:
            fail(cid)
        return cid

    def ring_doorbell(self) -> None:
        """Tell the device of what was submitted. Raises DeviceRemovedError if it is gone."""
        err = lib.nvme_qpair_doorbell(self._qp)
        if err:
            fail(err)

    def kick(self) -> None:
        """Write the register of a shadowed submission doorbell, whatever the event index says."""
        err = lib.nvme_qpair_kick(self._qp)
        if err:
            fail(err)

    def reap(self, timeout_ns: int) -> npt.NDArray[np.void]:
        """Reap what is there, tell the device of what was submitted, and where nothing was there
        wait: entries as :meth:`poll`. A ``timeout_ns`` of 0 looks once more instead.
        """
        count = lib.nvme_qpair_reap(self._qp, self._out, self.depth, timeout_ns)
        if count < 0:
            fail(count)
        return self.reaped[:count]

    def poll(self, limit: int | None = None) -> npt.NDArray[np.void]:
        """Reap what is there: a view of COMPLETION_DTYPE entries, valid until the next call.

        Raises ControllerFatalError for a completion of no outstanding command, or of one that the
        device was not told of.
        """
        count = lib.nvme_qpair_poll(self._qp, self._out, self.depth if limit is None else limit)
        if count < 0:
            fail(count)
        return self.reaped[:count]

    def wait(self, timeout_ns: int, limit: int | None = None) -> npt.NDArray[np.void]:
        """As :meth:`poll`, spinning until one completion is there or the time is over (empty)."""
        limit = self.depth if limit is None else limit
        count = lib.nvme_qpair_wait(self._qp, self._out, limit, timeout_ns)
        if count < 0:
            fail(count)
        return self.reaped[:count]

    def await_completion(self, timeout_ns: int) -> bool:
        """Wait for a completion without taking it; whether one is there. For any thread."""
        return bool(lib.nvme_qpair_await(self._qp, timeout_ns))

    def oldest(self) -> tuple[int, float] | None:
        """CID and age in seconds of the command outstanding for the longest; None without one."""
        age = ffi.new("uint64_t *")
        cid = lib.nvme_qpair_oldest(self._qp, age)
        return None if cid < 0 else (int(cid), age[0] / 1e9)

    def restamp(self) -> None:
        """Let the outstanding commands' ages begin anew, since the clock stepped."""
        lib.nvme_qpair_restamp(self._qp)

    def abort_all(self, status: int) -> npt.NDArray[np.void]:
        """End all outstanding commands, with ``status`` in each. Only once DMA has stopped.

        Their CIDs are not used again before :meth:`release`.
        """
        return self.reaped[: lib.nvme_qpair_abort_all(self._qp, self._out, status)]

    def release(self) -> None:
        """Free the CIDs of abandoned commands, whose outcomes were handed over."""
        lib.nvme_qpair_release(self._qp)


def _first_cids(cids: U16Array, depth: int) -> U16Array:
    """Begin where a queue pair of the same id ended; one of another depth, beyond all of it."""
    if len(cids) == depth:
        return np.ascontiguousarray(cids, np.uint16)
    step: int = lib.nvme_qpair_trackers(depth)
    return np.full(depth, (int(cids.max()) // step + 1) * step & 0xFFFF, np.uint16)


class Loop(Protocol):
    """Many I/Os that C runs on a ring: :class:`Vector`, and the benchmark's workload."""

    @property
    def memory(self) -> npt.NDArray[Any] | None:
        """Where its I/Os' data are, where it knows more of that than addresses."""

    @property
    def completed(self) -> int:
        """I/Os that have ended so far."""

    def run(self, ring: Ring, timeout_ns: int) -> bool:
        """Go on for up to ``timeout_ns``; True at the end, with nothing outstanding."""

    def stop(self) -> None:
        """Submit no more."""

    def fail_rest(self, status: int) -> None:
        """Give what has no outcome this status: DMA has stopped. It is at its end then."""


class LoopGroup(Protocol):
    """Loops that C runs together, each on a ring of its own."""

    @property
    def members(self) -> Sequence[Loop]:
        """All of them, also those that are done."""

    def is_done(self, member: Loop) -> bool:
        """Whether it is at its end."""

    def set_done(self, member: Loop) -> None:
        """Let it have no further turn."""

    def rearm(self) -> None:
        """All are done: the next run begins with all of them."""

    def run_members(
        self,
        rings: Sequence[Ring],
        timeout_ns: int,
        others: Sequence[tuple[Any, Sequence[Ring]]] = (),
    ) -> None:
        """Let those that are not done go on, each on its ring, until one is or the time is over.

        And those of other groups with them.
        """

    def take_ends(self) -> None:
        """See which are done since; raise the error by which one of them cannot go on."""


class Vector:
    """Many I/Os of one kind, run by C (struct nvme_vector).

    ``lbas`` and ``iovas`` are uint64 arrays; with ``slots``, ``iovas`` has an entry for each CID's
    index instead of each I/O; None where there are no data. ``each`` are the blocks of each I/O, a
    uint32 array that nobody changes meanwhile; without it all have ``blocks``, the last
    ``last_blocks``. ``status`` (uint16, the 15-bit status field) and ``latency_ns`` (uint64) get
    one entry for each I/O.
    """

    memory: npt.NDArray[Any] | None = None  # its data are anywhere

    def __init__(
        self,
        *,
        command: bytes,
        lbas: U64Array,
        iovas: U64Array | None,
        blocks: int,
        last_blocks: int,
        block_shift: int,
        slots: bool = False,
        each: U32Array | None = None,
    ) -> None:
        count = len(lbas)
        self.status: U16Array = np.full(count, NO_STATUS, np.uint16)
        self.latency_ns: U64Array = np.empty(count, np.uint64)  # C writes each with its status
        # cffi keeps a pointer's memory alive only through the object it came from.
        self._alive: list[Any] = [
            ffi.from_buffer("uint64_t[]", np.ascontiguousarray(lbas, np.uint64)),
            ffi.NULL
            if iovas is None
            else ffi.from_buffer("uint64_t[]", np.ascontiguousarray(iovas, np.uint64)),
            ffi.NULL if each is None else ffi.from_buffer("uint32_t[]", each),
            ffi.from_buffer("uint16_t[]", self.status, require_writable=True),
            ffi.from_buffer("uint64_t[]", self.latency_ns, require_writable=True),
        ]
        self._vector = v = self._new()
        ffi.buffer(ffi.addressof(v, "command"))[:] = command
        v.lbas, v.iovas, v.each, v.status, v.latency_ns = self._alive
        v.count = count
        v.blocks = blocks
        v.last_blocks = last_blocks
        v.block_shift = block_shift
        v.slots = slots

    def _new(self) -> Any:
        return ffi.new("struct nvme_vector *")

    @property
    def completed(self) -> int:
        """I/Os completed so far."""
        return int(self._vector.completed)

    @property
    def failed(self) -> int:
        """I/Os that ended with a status other than success so far."""
        return int(self._vector.failed)

    def run(self, ring: Ring, timeout_ns: int) -> bool:
        """Run on a ring that has nothing else outstanding, for up to ``timeout_ns``.

        Returns True when all I/Os have completed; else call again.
        """
        done: int = lib.nvme_vector_run(ring._qp, self._vector, timeout_ns)
        if done < 0:
            fail(done)
        return bool(done)

    def stop(self) -> None:
        """Submit no more: the next :meth:`run` only drains what is outstanding."""
        self._vector.count = self._vector.submitted

    def fail_rest(self, status: int) -> None:
        """Give each I/O that has no outcome this status. Only once DMA has stopped."""
        lost = self.status == NO_STATUS
        self.status[lost] = status
        self.latency_ns[lost] = 0
        self._vector.failed += int(np.count_nonzero(lost))
        self.stop()


class MetadataVector(Vector):
    """A vector of blocks with metadata (struct nvme_metadata_vector).

    ``metadata`` tells where each I/O's lies, as ``iovas`` does, in DMA ``memory``; None where it
    has none of its own. ``block_bytes`` is the size of a block in the data's memory. The reference
    tag of an I/O is ``ref_tag_offset`` above its LBA, in ``ref_tag_bits``; with 0 bits the command
    has it.
    """

    def __init__(
        self,
        *,
        metadata: U64Array | None,
        memory: npt.NDArray[Any] | None,
        block_bytes: int,
        ref_tag_bits: int,
        ref_tag_offset: int,
        **vector: Any,
    ) -> None:
        super().__init__(**vector)
        self.memory = memory
        self._struct.block_bytes = block_bytes
        self._struct.ref_tag_bits = ref_tag_bits
        self._struct.ref_tag_offset = ref_tag_offset & 0xFFFFFFFFFFFFFFFF
        if metadata is not None:
            array = ffi.from_buffer("uint64_t[]", np.ascontiguousarray(metadata, np.uint64))
            self._alive.append(array)
            self._struct.metadata = array

    def _new(self) -> Any:
        self._struct = ffi.new("struct nvme_metadata_vector *")
        return ffi.addressof(self._struct, "vector")

    def run(self, ring: Ring, timeout_ns: int) -> bool:
        """As :meth:`Vector.run`."""
        done: int = lib.nvme_metadata_vector_run(ring._qp, self._struct, timeout_ns)
        if done < 0:
            fail(done)
        return bool(done)
