"""Reads and writes of any length from any memory, as commands.

One command where it carries all; pieces where it does not; through a copy where the device does not
reach the memory. A piece is atomic as far as the device's AWUN and NAWUN say, a transfer of several
is not: after an error, or ctrl-C, any of its pieces may have been written (Base 2.0, 6.4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import SPARE, BytesLike, DmaBuffer, DmaPool, as_bytes
from pynvme_user.driver.completion import TIMED_OUT, check
from pynvme_user.driver.geometry import Blocks, Geometry
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.ring import CommandTemplate
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import WriteCdw12
from pynvme_user.spec.status import Status

#: Memory that the device does not reach is copied through a buffer of this size, piece by piece.
BOUNCE = 4 << 20
_FUA = WriteCdw12.fua.mask


class Template(CommandTemplate):
    """A command that moves data, of one namespace: what is the same in each transfer."""

    def __init__(self, geometry: Geometry, opcode: NvmOpcode, *, fua: bool = False) -> None:
        self.opcode = opcode
        self.fua = fua
        #: The same with FUA.
        self.with_fua = self if fua else Template(geometry, opcode, fua=True)
        self.reads = opcode is NvmOpcode.READ  # into the buffer
        command = bytes(SQE.build(opc=opcode, nsid=geometry.nsid, cdw12=_FUA if fua else 0))
        shift = geometry.block_shift
        super().__init__(command, block_shift=shift, block_count=0, max_blocks=0)
        #: For what does not cross the namespace's boundary (NOIOB), of which C knows nothing.
        self.within = CommandTemplate(command, block_shift=shift, block_count=0, max_blocks=0)

    def limit(self, geometry: Geometry) -> None:
        """Let C check each transfer by what is known of the namespace."""
        # With metadata there is no transfer here: Geometry.check_transfer() says so.
        known = geometry.current and not geometry.metadata_size
        count = geometry.block_count if known else 0
        self.within.set_limits(count, geometry.max_blocks)
        self.set_limits(0 if geometry.boundary else count, geometry.max_blocks)
        if not self.fua:
            self.with_fua.limit(geometry)


class Transfers:
    """Moves the data of one namespace, through the pool's queue pairs. Thread-safe."""

    def __init__(self, ns: Blocks, dma: DmaPool, pool: QueuePairPool) -> None:
        self._ns = ns
        self._dma = dma
        self._pool = pool
        self.read, self.write, self.compare = (
            Template(ns.geometry, opcode)
            for opcode in (NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE)
        )

    def limit(self, geometry: Geometry) -> None:
        """Let C check each transfer by what is known of the namespace."""
        for template in (self.read, self.write, self.compare):
            template.limit(geometry)

    def read_bytes(self, template: Template, lba: int, blocks: int) -> bytearray:
        """Read blocks into memory that the device does not reach."""
        geometry = self._ns.geometry
        if not geometry.current:
            geometry = self._ns.current()
        geometry.check_transfer(lba, blocks)
        length = blocks << geometry.block_shift
        if length <= SPARE and blocks <= geometry.max_blocks:
            bounce = self._dma.take_bounce(length)
            # Whatever ends it before its outcome is known keeps the bounce: it is not given back.
            status = self._pool.transfer(template, lba, bounce)
            data = bytearray(bounce.bytes[:length]) if not status else None
            self._dma.give_bounce(bounce)
            if data is not None:
                return data
            if status > 0:
                self.check(status, template, lba, blocks)
        data = bytearray(length)
        self.move(template, lba, data)
        return data

    def finish(self, status: int, template: Template, lba: int, buffer: Any) -> None:
        """Raise a status that is no success, or, where it is negative, :meth:`move`."""
        if status > 0:
            self.check(status, template, lba, buffer.nbytes >> self._ns.geometry.block_shift)
        self.move(template, lba, buffer)

    def move(self, template: Template, lba: int, buffer: BytesLike) -> None:
        """Transfer any memory of whole blocks; raise what its status says.

        Raises ValueError for what is no such memory, or not in the namespace.
        """
        array = buffer if type(buffer) is DmaBuffer else as_bytes(buffer)
        if template.reads and not array.flags.writeable:
            raise ValueError("the buffer is read-only: use a bytearray, an array or alloc()")
        if not array.flags.c_contiguous:
            as_bytes(array)  # says so
        length = array.nbytes
        shift = self._ns.geometry.block_shift  # which another geometry has, too
        blocks = length >> shift
        if blocks << shift != length:
            raise ValueError(f"{length} bytes are not whole blocks of {1 << shift}")
        while True:
            geometry = self._ns.geometry
            if not geometry.current:
                geometry = self._ns.current()
            geometry.check_transfer(lba, blocks)
            iova = self._dma.iova(array, template.opcode)
            if iova is None or iova & 3:
                return self._copy(template, lba, as_bytes(array))
            run = step = blocks
            if blocks > geometry.max_blocks or geometry.boundary:
                run, step = geometry.run(lba, blocks, reads=template.reads)
            if run < blocks:
                return self._divide(template, lba, iova, as_bytes(array))
            if run > step:
                if self._run(template, geometry, lba, iova, as_bytes(array), step):
                    return None
                continue  # it may have changed since it was looked at
            if type(array) is not DmaBuffer or array.mapping.pool is None:
                array = self._dma.with_mapping(as_bytes(array), iova)
            status = self._pool.transfer(template.within, lba, array)
            if status >= 0:
                return self.check(status, template, lba, blocks) if status else None

    def _copy(self, template: Template, lba: int, array: npt.NDArray[np.uint8]) -> None:
        """Transfer memory that the device does not reach, by copying it in pieces."""
        length = array.nbytes
        shift = self._ns.geometry.block_shift
        data = memoryview(array.data)
        bounce = self._dma.take_bounce(min(length, BOUNCE))
        for offset in range(0, length, BOUNCE):
            part = data[offset : offset + BOUNCE]
            bounce.use(part.nbytes)
            if not template.reads:
                bounce.bytes[: part.nbytes] = part
            at = lba + (offset >> shift)
            if status := self._pool.transfer(template, at, bounce):
                self.finish(status, template, at, bounce.part)
            if template.reads:
                part[:] = bounce.bytes[: part.nbytes]
        self._dma.give_bounce(bounce)

    def _divide(
        self, template: Template, lba: int, iova: int, array: npt.NDArray[np.uint8]
    ) -> None:
        """Transfer DMA memory run by run."""
        shift = self._ns.geometry.block_shift
        while blocks := array.nbytes >> shift:
            run, _ = self._ns.current().run(lba, blocks, reads=template.reads)
            length = run << shift
            self.move(template, lba, self._dma.with_mapping(array[:length], iova))
            lba, iova, array = lba + run, iova + length, array[length:]

    def _run(
        self,
        template: Template,
        geometry: Geometry,
        lba: int,
        iova: int,
        array: npt.NDArray[np.uint8],
        step: int,
    ) -> bool:
        """Transfer DMA memory by commands of ``step`` blocks each; the last has what is left.

        False where the geometry is not current any more, with nothing submitted.
        """
        shift = geometry.block_shift
        blocks = array.nbytes >> shift
        lbas = np.arange(lba, lba + blocks, step, dtype=np.uint64)
        with self._pool.acquired() as pair:
            result = pair.run_vector(
                template.opcode,
                self._ns,
                lbas,
                np.uint64(iova) + (lbas - np.uint64(lba) << np.uint64(shift)),
                blocks=step,
                last_blocks=blocks - step * (len(lbas) - 1),
                fua=template.fua,
                geometry=geometry,
                owner=array,
            )
        if result is None:
            return False
        for index in result.failed[:1]:
            at = int(lbas[index])
            status = int(result.status[index]) | (TIMED_OUT if result.timed_out else 0)
            self.check(status, template, at, min(step, lba + blocks - at))
        return True

    def check(self, status: int, template: Template, lba: int, blocks: int) -> None:
        """Raise what the status of a transfer says, if it is no success."""
        what = describe(template.opcode, lba, blocks, self._ns.nsid)
        check(Status(status & ~TIMED_OUT), what, bool(status & TIMED_OUT))


def describe(opcode: NvmOpcode, lba: int, blocks: int, nsid: int) -> str:
    """Name a command for an error message."""
    name = opcode.name.replace("_", " ").title()
    return f"{name} of {blocks} blocks from LBA {lba} on (namespace {nsid})"
