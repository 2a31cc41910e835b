"""Reads and writes that say more than blocks and memory: hints, metadata, protection information.

As :mod:`pynvme_user.driver.transfer`, beside it, so that what has none of these pays nothing. Of
any length, from any memory, as vectors; an append, and a compare with its write, as single
commands. Where metadata follows the data of each block (an extended LBA) both are put together, and
apart, in bounce buffers: the caller sees them apart either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import Bounce, BytesLike, DmaBuffer, DmaPool, as_bytes
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.geometry import Blocks, Geometry
from pynvme_user.driver.metadata import MetadataCommand, MetadataOptions, metadata_command
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.driver.transfer import BOUNCE, describe
from pynvme_user.ring import MetadataVector
from pynvme_user.spec.commands import SQE, CommandFlags, Fuse, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.units import whole_number

Bytes = npt.NDArray[np.uint8]


class MetadataTransfers:
    """Moves data and metadata of one namespace, through the pool's queue pairs. Thread-safe."""

    def __init__(self, ns: Blocks, dma: DmaPool, pool: QueuePairPool) -> None:
        self._ns = ns
        self._dma = dma
        self._pool = pool

    def read(self, lba: int, blocks: int, fua: bool, options: Mapping[str, Any]) -> bytearray:
        """Read blocks into memory of their own."""
        geometry = self._ns.current()
        geometry.check_blocks(lba, blocks)
        data = bytearray(whole_number(blocks, "a number of blocks") << geometry.block_shift)
        self.move(NvmOpcode.READ, lba, data, fua, options)
        return data

    def move(
        self, opcode: NvmOpcode, lba: int, buffer: BytesLike, fua: bool, options: Mapping[str, Any]
    ) -> None:
        """Transfer any memory of whole blocks; raise what the first status that is no success says.

        Raises ValueError for what is no such memory, or not in the namespace.
        """
        geometry = self._ns.current()
        lba, blocks, data, metadata = _checked(geometry, opcode, lba, buffer, options)
        size, extra = 1 << geometry.block_shift, geometry.metadata_size
        made = metadata_command(geometry, opcode, lba, fua=fua, pract=True, options=options)
        piece = _Piece(self._dma, geometry, made, opcode)
        done = 0
        while done < blocks:
            geometry = self._ns.current()
            geometry.check_blocks(lba, blocks)
            rest = metadata[done * extra :] if metadata is not None else None
            piece.take(lba, done, data[done * size :], rest)
            if self._run(piece, geometry):
                piece.give()
                done += piece.blocks

    def _run(self, piece: _Piece, geometry: Geometry) -> bool:
        """Run the commands of a piece. False where the geometry is not current any more, with
        nothing submitted.
        """
        vector, lbas = piece.vector, piece.lbas
        with self._pool.acquired() as pair:
            result = pair.run_made(
                vector, piece.opcode, self._ns, geometry=geometry, owner=piece.owner
            )
        if result is None:
            return False
        for index in result.failed[:1]:
            at = int(lbas[index])
            count = min(piece.step, piece.lba + piece.blocks - at)
            what = describe(piece.opcode, at, count, self._ns.nsid)
            check(Status(int(result.status[index])), what, result.timed_out)
        return True

    def append(
        self, lba: int, buffer: BytesLike, fua: bool, options: Mapping[str, Any]
    ) -> Completion:
        """Append whole blocks to a zone by one command; return its completion."""
        (done,) = self._run_single([_Single(NvmOpcode.ZONE_APPEND, lba, buffer, fua, options)])
        return done

    def compare_and_write(
        self,
        lba: int,
        expected: tuple[BytesLike, BytesLike | None],
        data: tuple[BytesLike, BytesLike | None],
    ) -> list[Completion]:
        """Run both commands of Compare and Write, each on data and metadata."""
        return self._run_single(
            [
                _Single(NvmOpcode.COMPARE, lba, expected[0], False, {"metadata": expected[1]}),
                _Single(NvmOpcode.WRITE, lba, data[0], False, {"metadata": data[1]}),
            ]
        )

    def _run_single(self, wanted: Sequence[_Single]) -> list[Completion]:
        """Run commands that are not to be divided, several as fused ones; none of them a read."""
        with self._pool.acquired() as pair:
            while True:
                geometry = self._ns.current()
                pieces = [self._whole(geometry, each) for each in wanted]
                commands = [piece.command for piece in pieces]
                if len(commands) > 1:
                    commands = [
                        command.replace(flags=CommandFlags.build(fuse=fuse))
                        for command, fuse in zip(commands, (Fuse.FIRST, Fuse.SECOND), strict=True)
                    ]
                # All behind one doorbell, next to each other in the queue: nobody else has it.
                with pair.held():
                    if geometry.current:
                        cids = [
                            pair.submit_made(geometry, command, piece.pinned, *piece.place)
                            for command, piece in zip(commands, pieces, strict=True)
                        ]
                        break
                for piece in pieces:  # made by what is not so any more
                    piece.give()
            done = {each.cid: each for each in pair.drain()}
        for piece in pieces:
            piece.give()
        return [done[cid] for cid in cids if cid is not None]

    def _whole(self, geometry: Geometry, wanted: _Single) -> _Piece:
        """Make one command's piece. Raises ValueError for what one does not carry."""
        opcode, options = wanted.opcode, wanted.options
        lba, blocks, data, metadata = _checked(geometry, opcode, wanted.lba, wanted.buffer, options)
        made = metadata_command(geometry, opcode, lba, fua=wanted.fua, pract=True, options=options)
        piece = _Piece(self._dma, geometry, made, opcode)
        most = geometry.max_blocks
        if made.metadata_bytes and geometry.protection is None:
            most = sectors(blocks, geometry.metadata_size)
        if blocks > most:
            raise ValueError(f"one command carries up to {most} blocks, not {blocks}")
        piece.take(lba, 0, data, metadata, divided=False)
        return piece


@dataclass(frozen=True, slots=True)
class _Single:
    """A command that is not to be divided, as it is asked for."""

    opcode: NvmOpcode
    lba: int
    buffer: BytesLike
    fua: bool
    options: Mapping[str, Any]


def _checked(
    geometry: Geometry, opcode: NvmOpcode, lba: int, buffer: BytesLike, options: Mapping[str, Any]
) -> tuple[int, int, Bytes, Bytes | None]:
    """Return LBA, blocks, data and metadata of a transfer. Raises ValueError for what is none."""
    data, metadata = as_bytes(buffer), None
    size, extra = 1 << geometry.block_shift, geometry.metadata_size
    blocks = data.nbytes // size
    if blocks * size != data.nbytes:
        raise ValueError(f"{data.nbytes} bytes are not whole blocks of {size}")
    given = options.get("metadata")
    if given is not None:
        geometry.check_metadata()
        metadata = as_bytes(given)
        if metadata.nbytes != blocks * extra:
            raise ValueError(
                f"{blocks} blocks have {blocks * extra} bytes of metadata here, {extra} each, "
                f"not {metadata.nbytes}"
            )
    for array in (data, metadata):
        if opcode is NvmOpcode.READ and array is not None and not array.flags.writeable:
            raise ValueError("the buffer is read-only: use a bytearray, an array or alloc()")
    geometry.check_blocks(lba, blocks)
    return whole_number(lba, "an LBA"), blocks, data, metadata


def sectors(blocks: int, extra: int) -> int:
    """Of so many blocks, how many have metadata, ``extra`` bytes each, of whole sectors of 512
    bytes, or of less than one.
    """
    whole = 512 // math.gcd(extra, 512)
    if blocks >= whole:
        return blocks - blocks % whole
    return min(blocks, max(1, 511 // extra))


class _Piece:
    """What of a transfer is under way: blocks, the commands that carry them, and their memory."""

    vector: MetadataVector
    lbas: npt.NDArray[np.uint64]
    #: Where the device finds the data, and the metadata that does not lie with it.
    owner: npt.NDArray[Any]
    _memory: npt.NDArray[Any] | None

    def __init__(
        self, dma: DmaPool, geometry: Geometry, made: MetadataCommand, opcode: NvmOpcode
    ) -> None:
        self.opcode = opcode
        self.blocks = self.step = self.lba = 0
        self._dma = dma
        self._geometry = geometry
        self._made = made
        self._size = 1 << geometry.block_shift
        self._extra = geometry.metadata_size
        #: Whether each block is data and metadata.
        self._joined = made.block_bytes != self._size
        self._bounces: list[Bounce] = []

    def take(
        self,
        lba: int,
        done: int,
        data: Bytes,
        metadata: Bytes | None,
        *,
        divided: bool = True,
    ) -> None:
        """Take blocks from the beginning of data and metadata, those ``done`` behind ``lba``.

        All of them, as one command, where they are not to be ``divided``.
        """
        made, reads = self._made, self.opcode is NvmOpcode.READ
        self.lba = lba + done
        self._data, self._metadata = data, metadata
        blocks = data.nbytes // self._size
        iova = None if self._joined else self._direct(data)
        mptr = None
        if metadata is not None and made.metadata_bytes:
            mptr = self._direct(metadata)
        self.blocks = self.step = blocks
        if divided:
            if iova is None or (made.metadata_bytes and mptr is None):
                blocks = min(blocks, max(1, BOUNCE // (self._size + self._extra)))
            self.blocks, self.step = self._geometry.run(self.lba, blocks, reads=reads)
            if self.step * made.block_bytes & 3 or self.step * made.metadata_bytes & 3:
                self.blocks = min(self.blocks, self.step)  # the next would begin between dwords
            if self._geometry.protection is None:
                self._keep_to_sectors()
        self._data = data[: self.blocks * self._size]
        if metadata is not None:
            self._metadata = metadata[: self.blocks * self._extra]
        self._place(iova, mptr, done)

    def _keep_to_sectors(self) -> None:
        """Let no command have metadata of more than a sector that is not whole sectors.

        Of such QEMU moves what is more than those, and nothing else, without an error: its
        dma_blk_cb() leaves out the sectors in place of the rest.
        """
        step, self.step = self.step, sectors(self.step, self._extra)
        if self.blocks <= self.step or (self.step < step and self._geometry.boundary):
            self.blocks = sectors(min(self.blocks, self.step), self._extra)
        else:
            self.blocks -= self.blocks % self.step

    def _direct(self, array: Bytes) -> int | None:
        """Where the device finds memory that it reaches; None for what has to be copied."""
        iova = self._dma.iova(array, self.opcode)
        return None if iova is None or iova & 3 else iova

    def _place(self, iova: int | None, mptr: int | None, done: int) -> None:
        """Give the commands their memory, and fill that which is not the caller's."""
        made, blocks = self._made, self.blocks
        self.owner, self._memory = self._data, self._metadata
        self._copies_data, self._copies_metadata = iova is None, self._joined
        if iova is None:
            self.owner = own = self._bounce(blocks * made.block_bytes)
            iova = own.iova
        if made.metadata_bytes and mptr is None:
            self._copies_metadata = True
            self._memory = own = self._bounce(blocks * made.metadata_bytes)
            mptr = own.iova
        if mptr is not None:
            assert self._memory is not None
            self._dma.check_together(self.owner, self._memory)
        if self.opcode is not NvmOpcode.READ:
            self._fill(done)
        self.iova, self.mptr = iova, mptr or 0
        self.lbas = np.arange(self.lba, self.lba + blocks, self.step, dtype=np.uint64)
        steps = self.lbas - np.uint64(self.lba)
        self.vector = MetadataVector(
            command=bytes(made.template),
            lbas=self.lbas,
            iovas=np.uint64(iova) + steps * np.uint64(made.block_bytes),
            metadata=None
            if mptr is None
            else np.uint64(mptr) + steps * np.uint64(made.metadata_bytes),
            memory=None if mptr is None else self._memory,
            blocks=self.step,
            last_blocks=blocks - self.step * (len(self.lbas) - 1),
            block_shift=self._geometry.block_shift,
            block_bytes=made.block_bytes,
            ref_tag_bits=made.ref_tag_bits,
            ref_tag_offset=made.ref_tag - (self.lba - done),
        )

    def _bounce(self, length: int) -> DmaBuffer:
        bounce = self._dma.take_bounce(length)
        self._bounces.append(bounce)
        return bounce.part

    def _rows(self) -> tuple[Bytes, Bytes | None]:
        """Return data and metadata of each block where the device finds them, as rows."""
        rows = self.owner.view(np.ndarray).reshape(self.blocks, -1)
        if self._joined:
            return rows[:, : self._size], rows[:, self._size :]
        if not self._made.metadata_bytes or self._memory is None:
            return rows, None
        return rows, self._memory.view(np.ndarray).reshape(self.blocks, -1)

    def _fill(self, done: int) -> None:
        """Copy what the device is to read, with metadata made where none is given."""
        made, protection = self._made, self._geometry.protection
        data, metadata = self._rows()
        if self._copies_data:
            data[:] = self._data.reshape(data.shape)
        if metadata is None or not self._copies_metadata:
            return
        if self._metadata is not None:
            metadata[:] = self._metadata.reshape(metadata.shape)
            return
        metadata[:] = 0
        if protection is not None and not made.pract:
            protection.generate(
                self.owner,
                None if self._joined else self._memory,
                ref_tag=made.ref_tag_at(done),
                app_tag=made.app_tag,
                storage_tag=made.storage_tag,
            )

    @property
    def command(self) -> SQE:
        """The command where it is a single one."""
        made = self._made.sqe
        return made.replace(
            mptr=self.mptr,
            cdw10=self.lba & 0xFFFFFFFF,
            cdw11=self.lba >> 32,
            cdw12=made.cdw12 | self.blocks - 1,
        )

    @property
    def place(self) -> tuple[int, int]:
        """Where its data lies for the device, and how long it is there."""
        return self.iova, self.blocks * self._made.block_bytes

    @property
    def pinned(self) -> object:
        """The memory that the device may reach until its end."""
        return self.owner, self._memory

    def give(self) -> None:
        """Copy what the device has written to where it belongs, and give the memory back.

        Whatever ends a transfer before its outcome is known keeps the memory.
        """
        if self.opcode is NvmOpcode.READ:
            data, metadata = self._rows()
            if self._copies_data:
                self._data.reshape(data.shape)[:] = data
            if metadata is not None and self._copies_metadata and self._metadata is not None:
                self._metadata.reshape(metadata.shape)[:] = metadata
        while self._bounces:
            self._dma.give_bounce(self._bounces.pop())


class MetadataCalls:
    """What a namespace with metadata does in place of :class:`Namespace`: see that."""

    _moves: MetadataTransfers

    def read(
        self, lba: int, blocks: int, *, fua: bool = False, **options: Unpack[MetadataOptions]
    ) -> bytearray:
        """Read blocks and return their data; their metadata goes into ``metadata``.

        Without ``metadata`` it is left out. The controller checks protection information as
        ``prinfo`` says: NvmeStatusError with GUARD_CHECK_ERROR, APPLICATION_TAG_CHECK_ERROR,
        REFERENCE_TAG_CHECK_ERROR or STORAGE_TAG_CHECK_ERROR.
        :class:`MetadataOptions` has the keywords.
        """
        return self._moves.read(lba, blocks, fua, options)

    def read_into(
        self, lba: int, buffer: BytesLike, fua: bool = False, **options: Unpack[MetadataOptions]
    ) -> None:
        """Fill a writable buffer of whole blocks with their data; as :meth:`read`."""
        self._moves.move(NvmOpcode.READ, lba, buffer, fua, options)

    def write(
        self, lba: int, data: BytesLike, *, fua: bool = False, **options: Unpack[MetadataOptions]
    ) -> None:
        """Write data of whole blocks, and ``metadata`` as it is given: all of it, the protection
        information, too, which :meth:`Protection.generate` makes.

        Without ``metadata`` zeroes are written, and with protection information what belongs to
        the data and the tags: the controller inserts it where the metadata is nothing else, else
        it is generated here. :class:`MetadataOptions` has the keywords.
        """
        self._moves.move(NvmOpcode.WRITE, lba, data, fua, options)

    def write_from(
        self, lba: int, buffer: BytesLike, fua: bool = False, **options: Unpack[MetadataOptions]
    ) -> None:
        """Write a buffer of whole blocks; the same as :meth:`write`."""
        self._moves.move(NvmOpcode.WRITE, lba, buffer, fua, options)

    def compare(
        self, lba: int, data: BytesLike, *, fua: bool = False, **options: Unpack[MetadataOptions]
    ) -> None:
        """Compare data, and metadata but for the protection information, with what is on the device
        (NVM Command Set 1.1, section 3.3.1).

        Without ``metadata`` with what :meth:`write` would write. The controller also checks the
        protection information on the device. Raises NvmeStatusError with COMPARE_FAILURE if they
        differ.
        """
        self._moves.move(NvmOpcode.COMPARE, lba, data, fua, options)
