"""I/O queue pairs: the NVM command set's commands, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from pynvme_user.driver.geometry import Blocks, Geometry, ZonedBlocks
from pynvme_user.driver.metadata import AppendOptions, MetadataOptions
from pynvme_user.driver.vector_queue_pair import FUA, VectorQueuePair
from pynvme_user.errors import ControllerFatalError
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import (
    DatasetManagementCdw10,
    DatasetManagementCdw11,
    DatasetRange,
    WriteZeroesCdw12,
)

_DEALLOCATE = WriteZeroesCdw12.deac.mask


class QueuePair(VectorQueuePair):
    """An I/O queue pair, made by :meth:`Controller.queue_pair`: it belongs to one thread."""

    #: Its creation did not end, so that nobody has it.
    lost = False

    # --- one at a time ------------------------------------------------------------------------

    def submit_read(
        self,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Read of ``blocks`` blocks into DMA memory; return its CID (NVM 1.0, 3.2.4).

        Raises ValueError for a range outside the namespace, a buffer of another size, more than
        one command can carry (:attr:`Controller.max_transfer`), or another controller's namespace;
        NamespaceChangedError; else as :meth:`submit`.

        The keywords are :class:`MetadataOptions`, of a namespace without metadata those of
        :class:`TransferOptions`. ``metadata`` is DMA
        memory, which begins at a multiple of 4; it can be left out where it is nothing but
        protection information, which the controller checks and strips then. Where metadata follows
        the data of each block (FLBAS bit 4), ``buffer`` holds both, block after block, and there is
        no ``metadata``; with PRACT in ``prinfo``, where it is protection information alone, data.
        """
        if options:
            return self._submit_metadata(NvmOpcode.READ, ns, lba, blocks, buffer, fua, options)
        return self._submit_io(NvmOpcode.READ, ns, lba, blocks, buffer, fua)

    def submit_write(
        self,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Write; as :meth:`submit_read` (NVM 1.0, 3.2.6).

        Metadata is written as it is given: :meth:`Protection.generate` makes protection
        information, or the controller inserts it where it strips it from a read.
        """
        if options:
            return self._submit_metadata(NvmOpcode.WRITE, ns, lba, blocks, buffer, fua, options)
        return self._submit_io(NvmOpcode.WRITE, ns, lba, blocks, buffer, fua)

    def submit_compare(
        self,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Compare; as :meth:`submit_read`, but for PRACT (NVM 1.0, 3.2.1)."""
        if options:
            return self._submit_metadata(NvmOpcode.COMPARE, ns, lba, blocks, buffer, fua, options)
        return self._submit_io(NvmOpcode.COMPARE, ns, lba, blocks, buffer, fua)

    def submit_append(
        self,
        ns: ZonedBlocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        *,
        fua: bool = False,
        **options: Unpack[AppendOptions],
    ) -> int:
        """Submit a Zone Append to the zone that begins with ``lba``; return its CID (ZNS 1.2,
        3.4.1). Its completion's :attr:`~Completion.lba` says where the data lies.

        Many may be outstanding for one zone. Raises ValueError for more blocks than
        :attr:`Zones.max_append`, NotSupportedError for a namespace without zones; else as
        :meth:`submit_read`. The keywords are :class:`AppendOptions`.
        """
        ns.zones.check_append(blocks)
        if options:
            opcode = NvmOpcode.ZONE_APPEND
            return self._submit_metadata(opcode, ns, lba, blocks, buffer, fua, options)
        return self._submit_io(NvmOpcode.ZONE_APPEND, ns, lba, blocks, buffer, fua)

    def submit_write_zeroes(
        self, ns: Blocks, lba: int, blocks: int, *, deallocate: bool = False, fua: bool = False
    ) -> int:
        """Submit a Write Zeroes of up to 65536 blocks; return its CID (NVM 1.0, 3.2.8).

        Where the namespace has protection information, the controller inserts what zeroes have.
        """
        cdw12 = blocks - 1 | (FUA if fua else 0) | (_DEALLOCATE if deallocate else 0)
        while True:
            geometry = self._geometry(ns)
            geometry.check_range(lba, blocks)
            if blocks > 0x10000:
                raise ValueError(f"one Write Zeroes command takes up to 65536 blocks, not {blocks}")
            if geometry.protection is not None:
                cid = self._submit_zeroes(geometry, lba, cdw12)
            else:
                opcode = NvmOpcode.WRITE_ZEROES
                cid = self._submit_by(geometry, None, opcode, ns.nsid, lba, cdw12, 0, 0)
            if cid is not None:
                return cid

    def submit_flush(self, ns: Blocks) -> int:
        """Submit a Flush; return its CID (Base 2.0, 7.1)."""
        self._geometry(ns)
        return self.submit(SQE.build(opc=NvmOpcode.FLUSH, nsid=ns.nsid))

    def submit_deallocate(self, ns: Blocks, ranges: Sequence[tuple[int, int]]) -> int:
        """Submit a Dataset Management that deallocates 1 to 256 ranges ``(lba, blocks)``.

        Returns its CID (NVM 1.0, 3.2.3).
        """
        if not 1 <= len(ranges) <= 256:
            raise ValueError(f"one command deallocates 1 to 256 ranges, not {len(ranges)}")
        command = SQE.build(
            opc=NvmOpcode.DATASET_MANAGEMENT,
            nsid=ns.nsid,
            cdw10=DatasetManagementCdw10.build(nr=len(ranges) - 1),
            cdw11=DatasetManagementCdw11.build(ad=1),
        )
        while True:
            geometry = self._geometry(ns)
            for lba, blocks in ranges:
                geometry.check_range(lba, blocks)
                if blocks >> 32:
                    raise ValueError(
                        f"a range has up to {0xFFFFFFFF} blocks, not {blocks}: use "
                        "Namespace.deallocate, which splits"
                    )
            data = b"".join(bytes(DatasetRange.build(slba=lba, nlb=n)) for lba, n in ranges)
            buffer = self.device.alloc(len(data))
            buffer[:] = np.frombuffer(data, np.uint8)
            with self._lock:
                self._check_open()
                if geometry.current:
                    return self.submit(command, buffer)

    def _submit_io(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any],
        fua: bool,
    ) -> int:
        while True:
            geometry = ns.geometry
            # In place of a call, which this way would feel.
            if ns.device is not self.device or not geometry.current:
                geometry = self._geometry(ns)
            if geometry.metadata_size:
                return self._submit_metadata(opcode, ns, lba, blocks, buffer, fua, {})
            geometry.check_transfer(lba, blocks)
            iova, length = self._dma(buffer, opcode)
            if length != blocks << geometry.block_shift:
                raise ValueError(
                    f"{blocks} blocks of {ns.block_size} bytes need a buffer of "
                    f"{blocks << geometry.block_shift} bytes, not {length}"
                )
            if length > self.device.max_transfer:
                raise ValueError(
                    f"one command carries up to {self.device.max_transfer} bytes, not "
                    f"{length}: use Namespace.read_into or write_from, which split"
                )
            cdw12 = blocks - 1 | (FUA if fua else 0)
            cid = self._submit_by(geometry, buffer, opcode, ns.nsid, lba, cdw12, iova, length)
            if cid is not None:
                return cid

    def _submit_by(
        self, geometry: Geometry, buffer: npt.NDArray[Any] | None, *command: int
    ) -> int | None:
        """Submit a command that was made by that geometry, as :meth:`Ring.submit_io`; None where
        the geometry is not current any more.
        """
        try:
            with self.held():
                self._check_open()
                if not geometry.current:
                    return None
                self._pin(buffer)
                return self._ring.submit_io(*command)
        except ControllerFatalError as error:
            self._reset_for(error)
            raise
