"""I/O queue pairs: the NVM command set's commands, one at a time."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard, Unpack, cast

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import PAGE, DmaBuffer
from pynvme_user.driver.device import State
from pynvme_user.driver.geometry import Blocks, Geometry, ZonedBlocks
from pynvme_user.driver.metadata import AppendOptions, MetadataOptions
from pynvme_user.driver.vector_queue_pair import FUA, VectorQueuePair
from pynvme_user.errors import ControllerFatalError, DmaError
from pynvme_user.native import fail
from pynvme_user.ring import CommandTemplate
from pynvme_user.single import submit
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import (
    DatasetManagementCdw10,
    DatasetManagementCdw11,
    DatasetRange,
    WriteZeroesCdw12,
)

_DEALLOCATE = WriteZeroesCdw12.deac.mask
_FAILED = State.FAILED
#: One buffer, or several.
Data: TypeAlias = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]
#: What is submitted from words, without and with FUA each.
_KINDS = (NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE)
_READ, _WRITE, _COMPARE = 0, 2, 4


def _are_several(buffer: Data) -> TypeGuard[Sequence[npt.NDArray[Any]]]:
    """Whether it is a sequence of buffers, which bytes are to Python, too."""
    return isinstance(buffer, Sequence) and not isinstance(
        buffer, bytes | bytearray | memoryview | str
    )


def _one(buffer: Data) -> npt.NDArray[Any]:
    """Raise ValueError for several buffers where there can be one."""
    if _are_several(buffer):
        raise ValueError(
            "several buffers are for I/O without metadata and hints: give one that holds all data"
        )
    return cast(npt.NDArray[Any], buffer)


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
        buffer: Data,
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Read of ``blocks`` blocks into DMA memory; return its CID (NVM 1.0, 3.2.4).

        ``buffer`` is one buffer, or a sequence of them that the data lie in, one behind the other:
        where a controller has no SGLs each but the first begins, and each but the last ends, with a
        page of 4096 bytes.

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
            return self._submit_metadata(
                NvmOpcode.READ, ns, lba, blocks, _one(buffer), fua, options
            )
        return self._submit_known(_READ, ns, lba, blocks, buffer, fua)

    def submit_write(
        self,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: Data,
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Write; as :meth:`submit_read` (NVM 1.0, 3.2.6).

        Metadata is written as it is given: :meth:`Protection.generate` makes protection
        information, or the controller inserts it where it strips it from a read.
        """
        if options:
            return self._submit_metadata(
                NvmOpcode.WRITE, ns, lba, blocks, _one(buffer), fua, options
            )
        return self._submit_known(_WRITE, ns, lba, blocks, buffer, fua)

    def submit_compare(
        self,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: Data,
        *,
        fua: bool = False,
        **options: Unpack[MetadataOptions],
    ) -> int:
        """Submit a Compare; as :meth:`submit_read`, but for PRACT (NVM 1.0, 3.2.1)."""
        if options:
            return self._submit_metadata(
                NvmOpcode.COMPARE, ns, lba, blocks, _one(buffer), fua, options
            )
        return self._submit_known(_COMPARE, ns, lba, blocks, buffer, fua)

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

    def _submit_known(
        self,
        kind: int,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: Data,
        fua: bool,
    ) -> int:
        """Submit a command of ``_KINDS``: what is plain at once, all else by :meth:`_submit_io`.

        Python feels each call here, so this does by itself what is elsewhere in methods.
        """
        geometry = ns.geometry
        if type(buffer) is DmaBuffer and (geometry is self._known or self._know(ns, geometry)):
            pool, iova, length = buffer.mapping
            if self._wanted or self._inside:
                self.held()
            try:
                if pool is self.device.dma and length == blocks << geometry.block_shift:
                    with self._lock:
                        if (
                            geometry.current
                            and not (self._closing or self._closed or self._batching)
                            and self.device.state < _FAILED
                        ):
                            single = self._single
                            args = single.args
                            args[0] = self._addresses[kind + 1 if fua else kind]
                            args[1] = lba
                            args[2] = iova
                            args[3] = length
                            cid = submit(single.transfer)
                            if cid >= 0:
                                self._buffers[cid & self.index_mask] = buffer
                                return cid
            except (OverflowError, TypeError):
                pass  # said by the other way
            except BaseException:
                # Before any call, in which ctrl-C could come again: whatever has become of the
                # command, the device may reach the buffer.
                self.waiter.pinned = (*self.waiter.pinned, buffer)
                raise
        return self._submit_io(_KINDS[kind >> 1], ns, lba, blocks, buffer, fua)

    #: The namespace that plain commands went to last, and where C finds those of ``_KINDS``.
    _known: Geometry | None = None
    _addresses: tuple[int, ...] = ()

    def _begin(self) -> None:
        super()._begin()
        self._templates: dict[Geometry, list[CommandTemplate]] = {}

    def _know(self, ns: Blocks, geometry: Geometry) -> bool:
        """Let plain commands go to a namespace; False where they cannot."""
        if ns.device is not self.device or not geometry.current or geometry.metadata_size:
            return False
        templates = self._templates.get(geometry)
        if templates is None:
            most = min(geometry.max_blocks, self.device.max_transfer >> geometry.block_shift)
            templates = [
                CommandTemplate(
                    bytes(SQE.build(opc=opcode, nsid=geometry.nsid, cdw12=cdw12)),
                    block_shift=geometry.block_shift,
                    block_count=geometry.block_count,
                    max_blocks=most,
                )
                for opcode in _KINDS
                for cdw12 in (0, FUA)
            ]
            kept = {one: made for one, made in self._templates.items() if one.current}
            self._templates = kept | {geometry: templates}
        self._known = None  # first: ctrl-C may come in between
        self._addresses = tuple(template.address for template in templates)
        self._known = geometry
        return True

    def _submit_io(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffer: Data,
        fua: bool,
    ) -> int:
        while True:
            geometry = ns.geometry
            # In place of a call, which this way would feel.
            if ns.device is not self.device or not geometry.current:
                geometry = self._geometry(ns)
            if geometry.metadata_size:
                return self._submit_metadata(opcode, ns, lba, blocks, _one(buffer), fua, {})
            geometry.check_transfer(lba, blocks)
            if _are_several(buffer):
                return self._submit_parts(opcode, ns, lba, blocks, tuple(buffer), fua)
            one = cast(npt.NDArray[Any], buffer)
            iova, length = self._dma(one, opcode)
            self._check_length(geometry, blocks, length)
            cdw12 = blocks - 1 | (FUA if fua else 0)
            cid = self._submit_by(geometry, one, opcode, ns.nsid, lba, cdw12, iova, length)
            if cid is not None:
                return cid

    def _check_length(self, geometry: Geometry, blocks: int, length: int) -> None:
        """Raise ValueError where so many bytes are not the data of one command."""
        if length != blocks << geometry.block_shift:
            raise ValueError(
                f"{blocks} blocks of {1 << geometry.block_shift} bytes need a buffer of "
                f"{blocks << geometry.block_shift} bytes, not {length}"
            )
        if length > self.device.max_transfer:
            raise ValueError(
                f"one command carries up to {self.device.max_transfer} bytes, not "
                f"{length}: use Namespace.read_into or write_from, which split"
            )

    def _submit_parts(
        self,
        opcode: NvmOpcode,
        ns: Blocks,
        lba: int,
        blocks: int,
        buffers: tuple[npt.NDArray[Any], ...],
        fua: bool,
    ) -> int:
        """Submit a command whose data lie in several buffers."""
        while True:
            geometry = self._geometry(ns)
            geometry.check_transfer(lba, blocks)
            parts = self._parts_of(opcode, buffers)
            self._check_length(geometry, blocks, sum(length for _, length in parts))
            command = SQE.build(
                opc=opcode,
                nsid=geometry.nsid,
                cdw10=int(lba) & 0xFFFFFFFF,
                cdw11=int(lba) >> 32,
                cdw12=int(blocks) - 1 | (FUA if fua else 0),
            )
            try:
                with self.held():
                    self._check_open()
                    if not geometry.current:
                        continue
                    self._pin(buffers)
                    cid = self._single.submit_parts(bytes(command), parts)
                    if cid < 0 and cid != -errno.ENOTSUP:
                        fail(cid)
            except ControllerFatalError as error:
                self._reset_for(error)
                raise
            if cid < 0:
                raise ValueError(
                    f"the buffers do not meet at the ends of pages of {PAGE} bytes, and the queue "
                    f"pair has no SGLs: let all but the first begin, and all but the last end, at "
                    f"a multiple of {PAGE}, or copy them into one buffer"
                )
            return cid

    def _parts_of(
        self, opcode: NvmOpcode, buffers: tuple[npt.NDArray[Any], ...]
    ) -> list[tuple[int, int]]:
        """Where the device finds buffers, and their lengths; what is adjacent is one."""
        parts: list[tuple[int, int]] = []
        for number, buffer in enumerate(buffers):
            iova, length = self._dma(buffer, opcode)
            self.device.dma.check_together(buffers[0], buffer)
            if (iova | length) & 3:
                raise DmaError(
                    f"buffer {number} does not begin and end at a multiple of 4 bytes: one of "
                    "several has to"
                )
            if parts and sum(parts[-1]) == iova:
                parts[-1] = (parts[-1][0], parts[-1][1] + length)
            elif length:
                parts.append((iova, length))
        return parts

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
