"""A queue pair's part in vectors: many I/Os of one kind as one C call, and other loops in C."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import PAGE
from pynvme_user.driver.batch_queue_pair import BatchQueuePair
from pynvme_user.driver.completion import HOST_ABORTED, VectorResult
from pynvme_user.driver.device import State
from pynvme_user.driver.geometry import Blocks, Geometry, LimitedBlocks
from pynvme_user.driver.lba_vector import (
    MOST_BLOCKS,
    MOST_RANGE_BLOCKS,
    MOST_RANGES,
    Each,
    LbaVector,
    dataset_ranges,
)
from pynvme_user.driver.metadata import MetadataOptions
from pynvme_user.driver.queue_pair_base import OUTCOME_UNKNOWN, SLICE_NS
from pynvme_user.errors import ClosedError, NamespaceChangedError
from pynvme_user.native import U64Array, fail
from pynvme_user.ring import Loop, Vector
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import WriteCdw12, WriteZeroesCdw12

FUA = WriteCdw12.fua.mask
_DEALLOCATE = WriteZeroesCdw12.deac.mask


class VectorQueuePair(BatchQueuePair):
    """Runs loops in C, which have the queue pair alone, vectors among them."""

    # --- loops in C ---------------------------------------------------------------------------

    def run_loop(
        self, loop: Loop, timeout_ns: int, *, geometry: Geometry, owner: npt.NDArray[Any] | None
    ) -> bool:
        """Let a loop of the C core go on for up to ``timeout_ns``; True at its end.

        ``geometry`` is the one that its I/Os were made by; ``owner`` holds their memory, up to the
        end. Between the first call and the one that returns True the queue pair is the loop's
        alone. A reset of the controller ends it: the I/Os that were outstanding, or never
        submitted, are given up with the status ABORTED_BY_HOST.

        Raises ValueError if other commands are outstanding, or for another controller's memory;
        NamespaceChangedError, with nothing outstanding, once the geometry is not current any more;
        and as :meth:`poll`.
        """
        self._begin_loop(loop, owner)
        with self._device_errors(), self.held():
            ended = self._is_given_up(loop, geometry)
            if not ended:
                self._inside = True
                try:
                    ended = loop.run(self._ring, timeout_ns)
                finally:
                    self._inside = False
            if ended:
                self._end_loop()
        if not ended:
            self._check_health(waited=timeout_ns >= SLICE_NS)
        return ended

    def _begin_loop(self, loop: Loop, owner: npt.NDArray[Any] | None) -> None:
        """Let the queue pair be the loop's alone, if it is not."""
        if self._loop is not loop:
            self._check_open()
            if self._cancel >= 0:
                self.unclaimed = self.drain()  # its end is no loop's
            for memory in (owner, loop.memory):
                if memory is not None:
                    self._dma(memory)
            if self.outstanding or self.unclaimed:
                self._check_open()  # once more: in a forked child all depth is in use
                fail(-errno.EBUSY)
            self._loop, self._loop_owner, self._loop_resets = loop, owner, self.device.resets
            self.loop_timed_out = False

    def _is_given_up(self, loop: Loop, geometry: Geometry) -> bool:
        """Whether a reset has ended the loop. Raises what stands in the way of its next run."""
        self._check_not_ended()
        if self._closing:
            loop.stop()
        if self.device.resets != self._loop_resets:
            self.hand_over()
            loop.fail_rest(int(HOST_ABORTED))
            return True
        if not geometry.current:
            self._loop = self._loop_owner = None
            raise NamespaceChangedError(
                f"namespace {geometry.nsid} may have changed while I/O ran on it, by a command "
                "such as Format NVM or by a reset: what was left was not submitted; begin anew"
            )
        return False

    def _end_loop(self) -> None:
        """Let the queue pair be free again after the loop's end."""
        self._loop = self._loop_owner = None
        self._aborting = (-1, 0.0)  # C reaped what it was about
        if self._closing:
            raise ClosedError(f"{self._name} {OUTCOME_UNKNOWN}")

    def _drain_loop(self, loop: Loop, geometry: Geometry, owner: npt.NDArray[Any] | None) -> None:
        """Drain a loop that is not to go on, so that its memory can be let go."""
        if self.device.state is State.REMOVED or self._closed or self._loop is not loop:
            return
        with self._lock:
            loop.stop()
        with suppress(ClosedError, NamespaceChangedError):
            while not self.run_loop(loop, SLICE_NS, geometry=geometry, owner=owner):
                pass

    # --- many at once -------------------------------------------------------------------------

    def read_many(
        self,
        ns: Blocks,
        lbas: npt.ArrayLike,
        blocks: Each,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        recycle: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> VectorResult:
        """Read ``blocks`` blocks at each of ``lbas``, keeping the queue full, in one C call.

        ``blocks`` is a number, or an array with one for each I/O. In ``buffer``, DMA memory that
        holds them all, the data lie one behind the other: with one number those of I/O *i* from
        byte ``i * blocks * block_size`` on. With ``recycle`` the buffer holds ``depth`` I/Os of the
        largest size, which overwrite each other: for benchmarks. The statuses are returned, not
        raised: see :meth:`VectorResult.check`. Nothing else may be outstanding on the queue pair.

        Raises ValueError for an LBA outside the namespace, a buffer too small or another
        controller's namespace; NamespaceChangedError, also once somebody runs a command that may
        change namespaces, of which the vector does not see the end; and as :meth:`poll`. After
        ctrl-C the queue is drained before KeyboardInterrupt goes on.

        Metadata is as in :meth:`submit_read`: I/O *i* has the i-th part of ``metadata``. With types
        1 and 2 ``ref_tag`` is that of the first of ``lbas``, and goes up with the LBA.
        """
        return self._many(NvmOpcode.READ, ns, lbas, blocks, buffer, fua, recycle, options)

    def write_many(
        self,
        ns: Blocks,
        lbas: npt.ArrayLike,
        blocks: Each,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        recycle: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> VectorResult:
        """Write ``blocks`` blocks at each of ``lbas``; as :meth:`read_many`."""
        return self._many(NvmOpcode.WRITE, ns, lbas, blocks, buffer, fua, recycle, options)

    def write_zeroes_many(
        self,
        ns: Blocks,
        lbas: npt.ArrayLike,
        blocks: Each,
        *,
        deallocate: bool = False,
        fua: bool = False,
    ) -> VectorResult:
        """Set ``blocks`` blocks to zero at each of ``lbas``, up to 65536 each, without data.

        Each is one Write Zeroes, as :meth:`submit_write_zeroes` submits it; else as
        :meth:`read_many`.
        """
        where = LbaVector(lbas, blocks)
        cdw12 = (FUA if fua else 0) | (_DEALLOCATE if deallocate else 0)
        opcode = NvmOpcode.WRITE_ZEROES
        while True:
            geometry = self._geometry(ns)
            where.check(geometry, MOST_BLOCKS)
            vector: Vector
            if geometry.protection is not None:
                vector = self._zeroes_vector(geometry, where, cdw12)
            else:
                command = SQE.build(opc=opcode, nsid=geometry.nsid, cdw12=cdw12)
                vector = Vector(
                    command=bytes(command),
                    iovas=None,
                    block_shift=geometry.block_shift,
                    **where.arguments,
                )
            result = self.run_made(vector, opcode, ns, geometry=geometry, owner=None)
            if result is not None:
                return result

    def deallocate_many(self, ns: LimitedBlocks, lbas: npt.ArrayLike, blocks: Each) -> VectorResult:
        """Tell the device that the data of ``blocks`` blocks at each of ``lbas`` is not needed.

        A Dataset Management command carries as many of the ranges as the controller takes, up to
        256; the result has an entry for each range, that of its command. Else as
        :meth:`read_many`.
        """
        where = LbaVector(lbas, blocks)
        limits = ns.limits
        most = min(limits.dmrsl or MOST_RANGE_BLOCKS, limits.dmsl or MOST_RANGE_BLOCKS)
        opcode = NvmOpcode.DATASET_MANAGEMENT
        while True:
            geometry = self._geometry(ns)
            where.check(geometry, min(most, MOST_RANGE_BLOCKS))
            ranges = min(limits.dmrl or MOST_RANGES, MOST_RANGES)
            if limits.dmsl and where.count:
                ranges = max(1, min(ranges, limits.dmsl // where.most))
            memory, words = dataset_ranges(where, ranges, self.device.alloc)
            iova, _ = self._dma(memory, opcode)
            # The lists are a page each, and "blocks" of that size; CDW10 and 11 lie where LBAs do.
            vector = Vector(
                command=bytes(SQE.build(opc=opcode, nsid=geometry.nsid)),
                lbas=words,
                iovas=iova + np.arange(len(words), dtype=np.uint64) * np.uint64(PAGE),
                blocks=1,
                last_blocks=1,
                block_shift=PAGE.bit_length() - 1,
            )
            result = self.run_made(vector, opcode, ns, geometry=geometry, owner=memory)
            if result is not None:
                return result.spread(where.count, ranges)

    def _many(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lbas: npt.ArrayLike,
        blocks: Each,
        buffer: npt.NDArray[Any],
        fua: bool,
        recycle: bool,
        options: MetadataOptions,
    ) -> VectorResult:
        where = LbaVector(lbas, blocks)
        while True:
            geometry = self._geometry(ns)
            vector: Vector
            if geometry.metadata_size or options:
                vector = self._metadata_vector(
                    opcode, geometry, where, buffer, fua, recycle, options
                )
            else:
                shift = geometry.block_shift
                limit = self.device.max_transfer
                if where.each is None and where.most << shift > limit:
                    where.check(geometry, where.most, geometry.check_transfer)
                    raise ValueError(
                        f"one command carries up to {limit} bytes, not {where.most << shift}"
                    )
                most = min(geometry.max_blocks, limit >> shift)
                where.check(geometry, most, geometry.check_transfer)
                slots = self.depth if recycle else None
                command = SQE.build(opc=opcode, nsid=ns.nsid, cdw12=FUA if fua else 0)
                vector = Vector(
                    command=bytes(command),
                    iovas=self._places(opcode, buffer, "data", where, slots, 1 << shift),
                    block_shift=shift,
                    slots=recycle,
                    **where.arguments,
                )
            result = self.run_made(vector, opcode, ns, geometry=geometry, owner=buffer)
            if result is not None:
                return result

    def run_vector(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lbas: U64Array,
        iovas: U64Array,
        *,
        blocks: int,
        last_blocks: int,
        fua: bool = False,
        slots: bool = False,
        geometry: Geometry,
        owner: npt.NDArray[Any],
    ) -> VectorResult | None:
        """Run I/Os whose places in DMA memory are known; ``owner`` holds that memory.

        The caller has checked the ranges by ``geometry``. The last I/O has ``last_blocks`` blocks.
        None, with nothing submitted, where the geometry was not current any more.
        """
        command = SQE.build(opc=opcode, nsid=ns.nsid, cdw12=FUA if fua else 0)
        vector = Vector(
            command=bytes(command),
            lbas=lbas,
            iovas=iovas,
            blocks=blocks,
            last_blocks=last_blocks,
            block_shift=geometry.block_shift,
            slots=slots,
        )
        return self.run_made(vector, opcode, ns, geometry=geometry, owner=owner)

    def run_made(
        self,
        vector: Vector,
        opcode: NvmOpcode,
        ns: Blocks,
        *,
        geometry: Geometry,
        owner: npt.NDArray[Any] | None,
    ) -> VectorResult | None:
        """Run a vector that was made by ``geometry``; as :meth:`run_vector`."""
        self._check_own(ns)
        begun = False
        try:
            while not self.run_loop(vector, SLICE_NS, geometry=geometry, owner=owner):
                begun = True
        except BaseException as error:
            if isinstance(error, NamespaceChangedError) and not begun:
                return None
            self._drain_loop(vector, geometry, owner)
            raise
        return VectorResult(
            vector.status,
            vector.latency_ns,
            f"{opcode.name.title()} of a vector",
            failures=vector.failed,
            timed_out=self.loop_timed_out,
        )
