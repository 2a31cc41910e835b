"""A queue pair's part in vectors: many I/Os of one kind as one C call, and other loops in C."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from pynvme_user.driver.batch_queue_pair import BatchQueuePair
from pynvme_user.driver.completion import HOST_ABORTED, VectorResult
from pynvme_user.driver.device import State
from pynvme_user.driver.geometry import Blocks, Geometry
from pynvme_user.driver.metadata import MetadataOptions
from pynvme_user.driver.queue_pair_base import OUTCOME_UNKNOWN, SLICE_NS
from pynvme_user.errors import ClosedError, NamespaceChangedError
from pynvme_user.native import U64Array, fail
from pynvme_user.ring import Loop, Vector
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import WriteCdw12

FUA = WriteCdw12.fua.mask


class VectorQueuePair(BatchQueuePair):
    """Runs loops in C, which have the queue pair alone, vectors among them."""

    # --- loops in C ---------------------------------------------------------------------------

    def run_loop(
        self, loop: Loop, timeout_ns: int, *, geometry: Geometry, owner: npt.NDArray[Any]
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

    def _begin_loop(self, loop: Loop, owner: npt.NDArray[Any]) -> None:
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

    def _drain_loop(self, loop: Loop, geometry: Geometry, owner: npt.NDArray[Any]) -> None:
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
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        recycle: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> VectorResult:
        """Read ``blocks`` blocks at each of ``lbas``, keeping the queue full, in one C call.

        I/O *i* goes to bytes ``i * blocks * block_size`` and on of ``buffer``, DMA memory that
        holds them all. With ``recycle`` the buffer holds ``depth`` I/Os, which overwrite each
        other: for benchmarks. The statuses are returned, not raised: see
        :meth:`VectorResult.check`. Nothing else may be outstanding on the queue pair.

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
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        recycle: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> VectorResult:
        """Write ``blocks`` blocks at each of ``lbas``; as :meth:`read_many`."""
        return self._many(NvmOpcode.WRITE, ns, lbas, blocks, buffer, fua, recycle, options)

    def _many(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lbas: npt.ArrayLike,
        blocks: int,
        buffer: npt.NDArray[Any],
        fua: bool,
        recycle: bool,
        options: MetadataOptions,
    ) -> VectorResult:
        where = np.ascontiguousarray(lbas)
        if where.ndim != 1 or (where.size and where.dtype.kind not in "iu"):
            raise ValueError("lbas is a one-dimensional array of whole numbers")
        # Of 64-bit integers the same words, in which what is negative is the highest.
        places = (
            where.view(np.uint64)
            if where.dtype == np.int64
            else where.astype(np.uint64, copy=False)
        )
        while True:
            geometry = self._geometry(ns)
            if geometry.metadata_size or options:
                vector = self._metadata_vector(
                    opcode, geometry, places, blocks, buffer, fua, recycle, options
                )
                result = self.run_made(vector, opcode, ns, geometry=geometry, owner=buffer)
                if result is not None:
                    return result
                continue
            if where.size:
                geometry.check_transfer(int(where[places.argmax()]), blocks)
            size = blocks << geometry.block_shift
            if size > self.device.max_transfer:
                raise ValueError(
                    f"one command carries up to {self.device.max_transfer} bytes, not {size}"
                )
            iova, length = self._dma(buffer, opcode)
            pieces = self.depth if recycle else len(where)
            if length < pieces * size:
                raise ValueError(
                    f"{pieces} I/Os of {size} bytes need a buffer of {pieces * size} bytes, "
                    f"not {length}"
                )
            result = self.run_vector(
                opcode,
                ns,
                places,
                iova + np.arange(pieces, dtype=np.uint64) * np.uint64(size),
                blocks=blocks,
                last_blocks=blocks,
                fua=fua,
                slots=recycle,
                geometry=geometry,
                owner=buffer,
            )
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
        owner: npt.NDArray[Any],
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
