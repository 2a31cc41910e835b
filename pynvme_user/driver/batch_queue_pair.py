"""A queue pair's part in batches: unlike I/Os from arrays, and their outcomes as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.batch import COUNT, IOVA, LENGTH, TAG_LIMIT, Batch, Fault, Outcomes
from pynvme_user.dma import NO_MAPPING, DmaBuffer, Mapping
from pynvme_user.driver.completion import Completion, Reaped
from pynvme_user.driver.device import State
from pynvme_user.driver.geometry import Blocks, Geometry
from pynvme_user.driver.lba_vector import Each
from pynvme_user.driver.metadata_queue_pair import MetadataQueuePair
from pynvme_user.driver.queue_pair_base import SLICE_NS
from pynvme_user.errors import ControllerFatalError, DeviceRemovedError
from pynvme_user.native import fail
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.nvm import WriteCdw12

#: What a batch may hold; what these move lies in a buffer.
MOVES_DATA = (NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE)
_MOVES = frozenset(map(int, MOVES_DATA))
#: What C returns for a refused I/O, less its fault.
_REFUSED = -1000
_WHOLE_MEMORY = (1 << 64) - 1
_new = tuple.__new__


class BatchQueuePair(MetadataQueuePair):
    """Submits and reaps many unlike I/Os of one namespace in a call, without an object for each."""

    #: The commands that are outstanding, or have an outcome that no call has taken, are of batches.
    _batching = False
    #: Outcomes lie in the arrays that ctrl-C took from their caller.
    _again = False
    #: One of the outcomes that are not handed over was aborted for taking too long.
    _overdue = False
    #: What C knows of the namespace, and of the buffer.
    _limits: tuple[Geometry | None, bool] = (None, False)
    _mapping: Mapping = NO_MAPPING

    @cached_property
    def _batch(self) -> Batch:
        return Batch(self._ring)

    @cached_property
    def _outcomes(self) -> Outcomes:
        return Outcomes(self._ring)

    def _begin(self) -> None:
        super()._begin()
        # What the device may reach: one buffer, or, by the index of a CID, one of several.
        self._whole: object = None
        self._parts: npt.NDArray[np.object_] | None = None

    def submit_many(
        self,
        ns: Blocks,
        opcodes: Each,
        lbas: Each,
        blocks: Each,
        buffer: npt.NDArray[Any] | Sequence[npt.NDArray[Any] | None] | None = None,
        offsets: Each | None = None,
        *,
        tags: npt.ArrayLike | None = None,
        count: int | None = None,
        fua: bool = False,
    ) -> int:
        """Submit unlike I/Os of one namespace, and tell the device; return how many.

        I/O *i* is ``opcodes[i]`` of ``blocks[i]`` blocks from ``lbas[i]`` on, with its data at byte
        ``offsets[i]`` of ``buffer``, DMA memory; :meth:`reap` names it ``tags[i]``, below 2**32,
        its number *i* where there are none. Each is a one-dimensional array of whole numbers, all
        of one length, or a number for all; ``count`` takes the first of them. C reads arrays of
        64-bit integers where they lie, anything else is copied. Without ``offsets`` the data lie
        one behind the other; ``buffer`` may also be a sequence with a buffer for each I/O.

        Read, Write and Compare move data; Write Zeroes, Verify and Write Uncorrectable name blocks;
        Flush has LBA 0 and 0 blocks. ``fua`` is that of all that have it.

        The first are submitted, as many as there is room for; the rest is the caller's, to submit
        after :meth:`reap`. With one that is refused none is submitted. Until all outcomes were
        reaped nothing else may be submitted here. Buffers are the device's until their I/Os have
        an outcome, and kept alive; the last one until another is used or the queue pair closed.

        Raises ValueError, which names the first I/O that is not right, for another controller's
        namespace, one with metadata, or other commands outstanding; NamespaceChangedError; and as
        :meth:`poll`. After ctrl-C those that were submitted have outcomes all the same.
        """
        while True:
            geometry = ns.geometry
            if ns.device is not self.device or not geometry.current:
                geometry = self._geometry(ns)
            batch = self._batch
            if self._limits != (geometry, fua):
                self._set_limits(geometry, fua)
            given = batch.given
            one = buffer is None or isinstance(buffer, np.ndarray)
            if not one:
                self._set_buffers(geometry, opcodes, lbas, blocks, buffer, offsets, tags)
            elif (
                opcodes is not given[0]
                or lbas is not given[1]
                or blocks is not given[2]
                or offsets is not given[3]
                or tags is not given[4]
            ):
                self._set_columns(geometry, opcodes, lbas, blocks, buffer, offsets, tags, count)
            if count is None:
                number = 1 if batch.length is None else batch.length
            else:
                number = count
                if number != batch.length:
                    batch.check_count(number)
            if one:
                mapping = getattr(buffer, "mapping", NO_MAPPING)
                if mapping is not self._mapping or mapping is NO_MAPPING:
                    self._set_buffer(buffer, mapping, number)
            batch.words[COUNT] = number
            try:
                with self.held():
                    self._check_open()
                    if not geometry.current:
                        continue
                    if not self._batching:
                        self._begin_batches()
                    if buffer is not self._whole:
                        self._pin_batch(buffer, number)
                    submitted = batch.submit()
                    if _REFUSED < submitted < 0:
                        fail(submitted)
            except (DeviceRemovedError, ControllerFatalError) as error:
                self._recover(error)
                raise
            if submitted < 0:
                raise self._refusal(Fault(_REFUSED - submitted), geometry)
            return submitted

    def reap(self, timeout: float | None = 0) -> Reaped:
        """Return the outcomes of :meth:`submit_many`'s I/Os that are there: arrays of tags, of
        statuses (the 15-bit status field) and of latencies in ns, from submission to this call.

        ``timeout`` are seconds to wait for one at least, None as long as it takes; all arrays are
        empty where that passes, or nothing is outstanding. The next call overwrites them: copy
        what is to stay. A command that takes longer than the controller's ``timeout`` is aborted,
        then the controller reset; its status is then ABORTED_BY_HOST. After ctrl-C the next call
        returns what this one had reaped.

        Raises ValueError where commands are outstanding that :meth:`submit_many` did not submit,
        and as :meth:`poll`.
        """
        if timeout == 0:
            return self._reap_batches(0)
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = SLICE_NS if end is None else int((end - monotonic()) * 1e9)
            done = self._reap_batches(max(0, min(left, SLICE_NS)))
            if len(done.tags) or not self._has_more() or (end is not None and monotonic() >= end):
                return done

    def _reap_batches(self, wait_ns: int) -> Reaped:
        if not self._batching:
            self._begin_batches()
        outcomes = self._outcomes
        words = outcomes.words
        if self._again:
            self._again = False
            return self._reaped(words[0])
        words[0] = 0
        try:
            with self.held():
                if self.unclaimed or self._cancel >= 0:
                    self._collect_slowly(wait_ns)
                else:
                    if self._closed or self.device.state >= State.FAILED:
                        self._check_not_ended(waits=wait_ns > 0)
                    self._inside = True
                    try:
                        count = outcomes.reap(wait_ns)
                    finally:
                        self._inside = False
                    if count < 0:
                        fail(count)
                    if self._aborting[0] >= 0:
                        self._note_overdue(outcomes.scratch[:count])
            reaped = self._reaped(words[0])
            if monotonic() >= self._health_due and self.outstanding:
                self._check_health(waited=False)
            elif wait_ns == SLICE_NS and not words[0] and self.outstanding:
                self._check_health(waited=True)
        except (DeviceRemovedError, ControllerFatalError) as error:
            self._again = words[0] > 0
            self._recover(error)
            raise
        except BaseException:
            self._again = words[0] > 0
            raise
        return reaped

    def _reaped(self, count: int) -> Reaped:
        outcomes = self._outcomes
        done: Reaped = _new(
            Reaped,
            (outcomes.tags[:count], outcomes.status[:count], outcomes.latency_ns[:count]),
        )
        if self._overdue and count:
            self._overdue = False
            done.timed_out = True
        return done

    def _collect_slowly(self, wait_ns: int) -> None:
        """Take into the arrays what a reset or close() found, or what comes beside a Cancel."""
        outcomes = self._outcomes
        if not self.unclaimed:
            self._check_not_ended(waits=wait_ns > 0)
            self._inside = True
            try:
                self._collect(wait_ns)
            finally:
                self._inside = False
        count = len(self.unclaimed)
        for row, (latency_ns, tag, _, _, _, status) in enumerate(self.unclaimed):
            outcomes.tags[row], outcomes.status[row] = tag, status
            outcomes.latency_ns[row] = latency_ns
        # No call in between, in which ctrl-C could come.
        outcomes.words[0] = count
        self.unclaimed = []
        self.hand_over()

    def _collect(self, wait_ns: int) -> None:
        if self._batching:
            self.unclaimed += self._completions(self._ring.reap(wait_ns))
        else:
            super()._collect(wait_ns)

    def _completions(self, reaped: npt.NDArray[np.void]) -> list[Any]:
        if not self._batching:
            return super()._completions(reaped)
        # The end of a Cancel is no tag's outcome.
        rows: list[Any] = reaped.tolist()
        for row in [row for row in rows if row[4] == self._cancel]:
            self._end_cancel(row[5], row[2])
            rows.remove(row)
        for row in rows:
            if row[4] == self._aborting[0]:
                self._overdue = row[5] != 0
                self._aborting = (-1, 0.0)
        return rows

    def _note_overdue(self, reaped: npt.NDArray[np.void]) -> None:
        """See whether one of them is the command that was aborted for taking too long."""
        mine = reaped["cid"] == self._aborting[0]
        if mine.any():
            self._overdue = bool(reaped["status"][mine].any())
            self._aborting = (-1, 0.0)

    # --- beside other commands ----------------------------------------------------------------

    def _begin_batches(self) -> None:
        """Let batches be all that is outstanding. Raises ValueError where other commands are."""
        with self.held():
            if self._has_commands():
                self._check_open()  # in a forked child all depth is in use
                raise ValueError(
                    "commands that submit_many did not submit are outstanding on the queue pair: "
                    "poll or drain it first"
                )
            self._batching = True

    def _has_commands(self) -> bool:
        """Whether there is an outcome to come for the caller, who knows of no Cancel."""
        return bool(self.unclaimed) or self.outstanding > (self._cancel >= 0)

    def _end_batches(self) -> None:
        """Let something else be outstanding. Raises ValueError where batches are."""
        if self._again or self._has_commands():
            self._check_open()
            raise ValueError(
                "I/Os of submit_many are outstanding on the queue pair: take their outcomes by "
                "reap() first"
            )
        self._batching = False

    def _pin(self, buffer: object) -> None:
        if self._batching:
            self._end_batches()
        super()._pin(buffer)

    def _reap(self, wait_ns: int) -> list[Completion]:
        if self._batching:
            self._end_batches()
        return super()._reap(wait_ns)

    # --- buffers ------------------------------------------------------------------------------

    def _pin_batch(self, buffer: Any, count: int) -> None:
        """Keep what the next ``count`` commands may reach: before their submission."""
        if buffer is None:
            return
        one = isinstance(buffer, np.ndarray)
        if not self.outstanding:
            self._whole, self._parts = buffer if one else tuple(buffer), None
            return
        if self._parts is None:
            self._parts = np.full(self.depth, None, np.object_)
            self._parts[:] = [self._whole] * self.depth
            self._whole = None
        indices = self._batch.next_indices(count)
        for number, index in enumerate(indices.tolist()):
            self._parts[index] = buffer if one else buffer[number]

    def free(self) -> None:
        """Give the rings' memory back; for the controller, once the device no longer uses it."""
        super().free()
        self._whole = self._parts = None

    # --- what a batch is made of ----------------------------------------------------------------

    def _set_limits(self, geometry: Geometry, fua: bool) -> None:
        if geometry.metadata_size:
            raise ValueError(
                f"namespace {geometry.nsid} has {geometry.metadata_size} bytes of metadata in each "
                "block, which submit_many does not carry: use read_many or submit_read"
            )
        self._limits = (None, False)
        self._batch.set_limits(
            nsid=geometry.nsid,
            block_count=geometry.block_count,
            block_shift=geometry.block_shift,
            max_blocks=min(geometry.max_blocks, self.device.max_transfer >> geometry.block_shift),
            fua=WriteCdw12.fua.mask if fua else 0,
        )
        self._limits = (geometry, fua)

    def _set_columns(
        self,
        geometry: Geometry,
        opcodes: Each,
        lbas: Each,
        blocks: Each,
        buffer: object,
        offsets: Each | None,
        tags: npt.ArrayLike | None,
        count: int | None,
    ) -> None:
        batch = self._batch
        if offsets is not None:
            batch.set_columns(opcodes, lbas, blocks, offsets, tags)
            return
        batch.set_columns(opcodes, lbas, blocks, 0, tags)
        if buffer is None:
            return
        number = count or 1 if batch.length is None else batch.length
        sizes = np.where(
            np.isin(batch.column("opcodes", number), MOVES_DATA), batch.column("blocks", number), 0
        ).astype(np.uint64)
        ends = np.cumsum(sizes << np.uint64(geometry.block_shift), dtype=np.uint64)
        places = np.concatenate((np.zeros(1, np.uint64), ends[:-1])) if number else ends
        batch.set_columns(opcodes, lbas, blocks, places, tags)

    def _set_buffer(self, buffer: Any, mapping: Mapping, number: int) -> None:
        """Tell C of the one buffer, which may be the data of so many of the I/Os."""
        self._mapping = NO_MAPPING
        iova = length = 0
        if mapping.pool is self.device.dma:
            _, iova, length = mapping
        elif buffer is not None:
            iova, length = self._dma(buffer)
            # Of the device's own memory some commands may not have their data there.
            for opcode in np.intersect1d(self._batch.column("opcodes", number), MOVES_DATA):
                self._dma(buffer, int(opcode))
            mapping = getattr(buffer, "mapping", NO_MAPPING)
        self._batch.words[IOVA], self._batch.words[LENGTH] = iova, length
        self._mapping = mapping

    def _set_buffers(
        self,
        geometry: Geometry,
        opcodes: Each,
        lbas: Each,
        blocks: Each,
        buffers: Any,
        offsets: Each | None,
        tags: npt.ArrayLike | None,
    ) -> None:
        """Tell C of a buffer for each I/O, by their addresses."""
        if offsets is not None:
            raise ValueError("with a buffer for each I/O there are no offsets: give slices")
        batch = self._batch
        batch.set_columns(opcodes, lbas, blocks, 0, tags)
        number = len(buffers) if batch.length is None else batch.length
        if len(buffers) != number:
            raise ValueError(f"{number} I/Os need as many buffers, not {len(buffers)}")
        # Copies, which nobody changes once they were looked at.
        kinds = batch.column("opcodes", number).copy()
        sizes = batch.column("blocks", number).copy()
        dma, shift = self.device.dma, geometry.block_shift
        self._mapping = NO_MAPPING
        batch.words[IOVA], batch.words[LENGTH] = 0, _WHOLE_MEMORY
        if number and _MOVES.issuperset(kinds.tolist()):
            # Where all of them are known and fit, no step of Python's for each.
            pools, iovas, lengths = zip(
                *[one.mapping if type(one) is DmaBuffer else NO_MAPPING for one in buffers],
                strict=True,
            )
            if pools.count(dma) == number and (np.array(lengths) == sizes << shift).all():
                batch.set_columns(kinds, lbas, sizes, np.array(iovas, np.uint64), tags)
                return
        places: list[int] = []
        for buffer, size, kind in zip(buffers, sizes.tolist(), kinds.tolist(), strict=True):
            if kind not in _MOVES:
                places.append(0)
                continue
            if buffer is None:
                raise ValueError(f"I/O {len(places)}: it moves data, and has no buffer")
            pool, iova, length = buffer.mapping if type(buffer) is DmaBuffer else NO_MAPPING
            if pool is not dma:
                iova, length = self._dma(buffer, kind)
            if length != size << shift:
                raise ValueError(
                    f"I/O {len(places)}: {size} blocks need a buffer of {size << shift} bytes, not "
                    f"{length}"
                )
            places.append(iova)
        batch.set_columns(kinds, lbas, sizes, np.array(places, np.uint64), tags)

    def _refusal(self, fault: Fault, geometry: Geometry) -> ValueError:
        """Say what is wrong with the I/O that C refused."""
        batch = self._batch
        item = batch.bad
        opcode, lba, blocks, offset, tag = (
            batch.value(name, item) for name in ("opcodes", "lbas", "blocks", "offsets", "tags")
        )
        match fault:
            case Fault.OPCODE:
                text = (
                    f"opcode {opcode:#04x} is none that a batch has: Read, Write, Compare, Write "
                    "Zeroes, Verify, Write Uncorrectable or Flush; for others use submit()"
                )
            case Fault.RANGE if opcode == NvmOpcode.FLUSH:
                text = f"a Flush has LBA 0 and 0 blocks, not LBA {lba} and {blocks} blocks"
            case Fault.RANGE:
                text = f"not all of {blocks} blocks from LBA {lba} on are in the namespace"
                try:
                    geometry.check_range(lba, blocks)
                except ValueError as error:
                    text = str(error)
            case Fault.BLOCKS:
                text = f"one command does not carry {blocks} blocks"
                if opcode in MOVES_DATA:
                    most = self.device.max_transfer
                    text += (
                        f": data of up to {most} bytes, in blocks of {1 << geometry.block_shift}"
                    )
                else:
                    text += ": up to 65536"
            case Fault.OFFSET if not batch.words[LENGTH]:
                text = "it moves data, and there is no buffer"
            case Fault.OFFSET:
                text = (
                    f"{blocks << geometry.block_shift} bytes of data at offset {offset} are not "
                    f"all in the buffer, which has {batch.words[LENGTH]} bytes"
                )
            case Fault.ALIGNMENT:
                text = "its data do not start at a multiple of 4 bytes"
            case Fault.PAGES:
                text = "its data are more than the queue pair's PRP lists can describe"
            case Fault.TAG:
                text = f"tag {tag} is not from 0 to {TAG_LIMIT - 1}"
        return ValueError(f"I/O {item}: {text}")
