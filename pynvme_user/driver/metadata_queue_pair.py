"""A queue pair's part in metadata and hints: commands and vectors that carry them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.driver.geometry import Blocks, Geometry
from pynvme_user.driver.lba_vector import LbaVector
from pynvme_user.driver.metadata import MetadataCommand, MetadataOptions, metadata_command
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.errors import ControllerFatalError
from pynvme_user.native import U64Array
from pynvme_user.ring import MetadataVector
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.protection import PRINFO
from pynvme_user.units import whole_number


class MetadataQueuePair(RawQueuePair):
    """Makes what :class:`QueuePair` submits with keywords, or to namespaces with metadata."""

    def _check_own(self, ns: Blocks) -> None:
        """Raise ValueError for another controller's namespace."""
        if ns.device is not self.device:
            raise ValueError(
                f"namespace {ns.nsid} is one of {ns.device.name}, which is another controller "
                "than the queue pair's: use a queue pair of its own"
            )

    def _geometry(self, ns: Blocks) -> Geometry:
        """Return what is known of a namespace, as it is now.

        It may have changed again: that is looked at under the lock.
        """
        self._check_own(ns)
        return ns.current()

    def _submit_metadata(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        fua: bool,
        options: MetadataOptions,
    ) -> int:
        """Submit a read, write or compare as its keywords say; return its CID."""
        self._check_own(ns)
        while True:
            geometry = ns.current()
            geometry.check_blocks(lba, blocks)
            lba, blocks = whole_number(lba, "an LBA"), whole_number(blocks, "a number of blocks")
            made, metadata = self._made(geometry, opcode, lba, fua, options)
            iova, length = self._dma(buffer, opcode)
            _check_length("data", length, blocks, made.block_bytes)
            if blocks > geometry.max_blocks:
                raise ValueError(
                    f"one command carries up to {geometry.max_blocks} blocks here, not {blocks}: "
                    "use Namespace.read_into or write_from, which split"
                )
            mptr = 0
            if metadata is not None:
                mptr, length = self._dma(metadata, opcode)
                _check_length("metadata", length, blocks, made.metadata_bytes)
                self.device.dma.check_together(buffer, metadata)
            command = made.sqe.replace(
                mptr=mptr,
                cdw10=lba & 0xFFFFFFFF,
                cdw11=lba >> 32,
                cdw12=made.sqe.cdw12 | blocks - 1,
            )
            cid = self.submit_made(
                geometry, command, (buffer, metadata), iova, blocks * made.block_bytes
            )
            if cid is not None:
                return cid

    def submit_made(
        self, geometry: Geometry, command: SQE, memory: object, iova: int = 0, length: int = 0
    ) -> int | None:
        """Submit a command that was made by that geometry; None where it is not current any more.

        ``memory`` is what the device may reach until its end.
        """
        try:
            with self.held():
                self._check_open()
                if not geometry.current:
                    return None
                self._pin(memory)
                return self._ring.submit(bytes(command), iova, length)
        except ControllerFatalError as error:
            self._reset_for(error)
            raise

    def _submit_zeroes(self, geometry: Geometry, lba: int, cdw12: int) -> int | None:
        """Submit a Write Zeroes that has protection information inserted; as above."""
        options: MetadataOptions = {"prinfo": PRINFO.build(pract=1)}
        made = metadata_command(
            geometry, NvmOpcode.WRITE_ZEROES, lba, fua=False, pract=True, options=options
        )
        command = made.sqe.replace(
            cdw10=lba & 0xFFFFFFFF, cdw11=lba >> 32, cdw12=made.sqe.cdw12 | cdw12
        )
        return self.submit_made(geometry, command, None)

    def _made(
        self, geometry: Geometry, opcode: NvmOpcode, lba: int, fua: bool, options: MetadataOptions
    ) -> tuple[MetadataCommand, npt.NDArray[Any] | None]:
        """Make a command of it, and tell where its metadata lies, if it has memory of its own."""
        made = metadata_command(
            geometry,
            opcode,
            lba,
            fua=fua,
            pract=not geometry.extended,
            options=options,
        )
        metadata: Any = options.get("metadata")
        if metadata is None:
            if made.metadata_bytes:
                raise ValueError(
                    f"namespace {geometry.nsid} has {made.metadata_bytes} bytes of metadata in "
                    "each block, which lie in memory of their own: give it as metadata, or use "
                    "Namespace.read and write, which do without"
                )
        elif not made.metadata_bytes:
            geometry.check_metadata()
            raise ValueError(
                f"the metadata of namespace {geometry.nsid} follows the data of each block: give "
                "one buffer that holds both, and leave out metadata"
            )
        elif self._dma(metadata, opcode)[0] & 3:
            raise ValueError("the metadata does not start at a multiple of 4 bytes")
        return made, metadata

    def _metadata_vector(
        self,
        opcode: NvmOpcode,
        geometry: Geometry,
        where: LbaVector,
        buffer: npt.NDArray[Any],
        fua: bool,
        recycle: bool,
        options: MetadataOptions,
    ) -> MetadataVector:
        """Make a vector whose data lie in ``buffer``, I/O behind I/O, and metadata likewise."""
        where.check(geometry, geometry.max_blocks, geometry.check_blocks)
        made, metadata = self._made(geometry, opcode, where.first, fua, options)
        slots = self.depth if recycle else None
        if metadata is not None:
            self.device.dma.check_together(buffer, metadata)
        return MetadataVector(
            command=bytes(made.template),
            iovas=self._places(opcode, buffer, "data", where, slots, made.block_bytes),
            metadata=None
            if metadata is None
            else self._places(opcode, metadata, "metadata", where, slots, made.metadata_bytes),
            memory=metadata,
            block_shift=geometry.block_shift,
            block_bytes=made.block_bytes,
            ref_tag_bits=made.ref_tag_bits,
            ref_tag_offset=made.ref_tag - where.first,
            slots=recycle,
            **where.arguments,
        )

    def _zeroes_vector(self, geometry: Geometry, where: LbaVector, cdw12: int) -> MetadataVector:
        """Make a vector of Write Zeroes that have protection information inserted."""
        options: MetadataOptions = {"prinfo": PRINFO.build(pract=1)}
        made = metadata_command(
            geometry, NvmOpcode.WRITE_ZEROES, where.first, fua=False, pract=True, options=options
        )
        return MetadataVector(
            command=bytes(made.template.replace(cdw12=made.template.cdw12 | cdw12)),
            iovas=None,
            metadata=None,
            memory=None,
            block_shift=geometry.block_shift,
            block_bytes=0,
            ref_tag_bits=made.ref_tag_bits,
            ref_tag_offset=made.ref_tag - where.first,
            **where.arguments,
        )

    def _places(
        self,
        opcode: NvmOpcode,
        memory: npt.NDArray[Any],
        what: str,
        where: LbaVector,
        slots: int | None,
        block_bytes: int,
    ) -> U64Array:
        """Where each I/O's part of DMA memory lies; see :meth:`LbaVector.offsets`."""
        iova, length = self._dma(memory, opcode)
        offsets, total = where.offsets(block_bytes, slots)
        if length < total:
            each = "together" if slots is None and where.each is not None else "each"
            size = total if each == "together" else where.most * block_bytes
            raise ValueError(
                f"{len(offsets)} I/Os with {size} bytes of {what} {each} need a buffer of {total} "
                f"bytes, not {length}"
            )
        if block_bytes & 3:
            odd = np.flatnonzero(offsets & np.uint64(3))
            if len(odd):
                size = int(offsets[odd[0]] - offsets[odd[0] - 1])
                raise ValueError(
                    f"an I/O has {size} bytes of {what}, and the next would not begin at a "
                    "multiple of 4: give it blocks in fours"
                )
        return np.uint64(iova) + offsets


def _check_length(what: str, length: int, blocks: int, each: int) -> None:
    if length != blocks * each:
        raise ValueError(
            f"{blocks} blocks with {each} bytes of {what} each need a buffer of {blocks * each} "
            f"bytes, not {length}"
        )
