"""Namespaces: reads and writes of any length, in blocks, from any memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pynvme_user.completion import TIMED_OUT, check
from pynvme_user.dma import BytesLike, DmaBuffer, as_bytes
from pynvme_user.errors import NvmeError, NvmeStatusError
from pynvme_user.ring import Operation
from pynvme_user.spec.commands import SQE, Cns, NvmOpcode
from pynvme_user.spec.identify import (
    NAMESPACE_LIST_SIZE,
    IdentifyNamespace,
    NamespaceIdentifiers,
    decode_namespace_list,
)
from pynvme_user.spec.nvm import WriteCdw12
from pynvme_user.spec.registers import VS
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.units import whole_number

if TYPE_CHECKING:
    from pynvme_user.controller import Controller

#: Memory that the device does not reach is copied through a buffer of this size, piece by piece.
BOUNCE = 4 << 20
#: NLB has 16 bits, zero-based (NVM 1.0, section 3.2).
MAX_BLOCKS = 0x10000
_FUA = WriteCdw12.fua.mask
#: Namespaces that a controller may have here; the specification knows no such limit.
MOST_NAMESPACES = 1 << 16
_LAST_NSID = 0xFFFFFFFE
#: What Identify Namespace gives for an id that is not active, besides a page of zeroes.
_NOT_ACTIVE = (GenericStatus.INVALID_NAMESPACE_OR_FORMAT, GenericStatus.INVALID_FIELD)


class _Operation(Operation):
    """A command that moves data, and what it does with the buffer."""

    def __init__(self, ns: Namespace, opcode: NvmOpcode, *, fua: bool) -> None:
        self.opcode = opcode
        self.fua = fua
        #: The same with FUA.
        self.forced = self if fua else _Operation(ns, opcode, fua=True)
        self.fills = opcode is NvmOpcode.READ  # the buffer, instead of taking the data from it
        super().__init__(
            bytes(SQE.build(opc=opcode, nsid=ns.nsid, cdw12=_FUA if fua else 0)),
            block_shift=ns.block_shift,
            # With metadata there is no transfer here: check_range() says so.
            block_count=0 if ns.metadata_size else ns.block_count,
            max_blocks=ns.max_blocks,
        )


class Namespace:
    """A namespace of a controller: ``block_count`` blocks of ``block_size`` bytes.

    Every call may come from any thread and waits for the device. LBAs and lengths in blocks; data
    is any contiguous bytes-like of whole blocks. What the device reaches (a DmaBuffer) moves
    without a copy; other memory is copied in pieces.

    All calls raise ValueError, before anything is submitted, for a range outside the namespace or
    a length that is not whole blocks; NvmeStatusError for an error status; NvmeTimeoutError once
    a command was given up; DeviceRemovedError.
    """

    def __init__(self, controller: Controller, nsid: int) -> None:
        self.controller = controller
        self._pool = controller.dma
        self.nsid = nsid
        page = controller.identify_page(Cns.NAMESPACE, nsid=nsid)
        self.identify = IdentifyNamespace.from_bytes(page)
        lbaf = self.identify.lbaf
        self.block_count = self.identify.nsze
        self.metadata_size = lbaf.ms
        #: log2 of the block size in bytes
        self.block_shift = block_shift_of(self.identify, nsid)
        #: Blocks that one read or write carries.
        self.max_blocks = min(controller.max_transfer >> self.block_shift, MAX_BLOCKS)
        self._read, self._write, self._compare = (
            _Operation(self, opcode, fua=False)
            for opcode in (NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE)
        )
        self._lender = controller.lender

    @property
    def block_size(self) -> int:
        """Bytes of data in a block."""
        return 1 << self.block_shift

    @cached_property
    def identifiers(self) -> NamespaceIdentifiers:
        """EUI64, NGUID, UUID and CSI, those that there are (Base 2.0, Identify CNS 03h)."""
        page = self.controller.identify_page(Cns.NAMESPACE_DESCRIPTORS, nsid=self.nsid)
        return NamespaceIdentifiers.from_bytes(page)

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise ValueError if the blocks are not all in the namespace, or it has metadata."""
        if type(lba) is not int or type(blocks) is not int:
            lba, blocks = whole_number(lba, "an LBA"), whole_number(blocks, "a number of blocks")
        if blocks < 1 or lba < 0 or lba + blocks > self.block_count:
            raise ValueError(
                f"blocks {lba} to {lba + blocks - 1} are not all in namespace {self.nsid}, "
                f"which has blocks 0 to {self.block_count - 1}"
            )
        if self.metadata_size:
            raise ValueError(
                f"namespace {self.nsid} has {self.metadata_size} bytes of metadata in each block, "
                "which reads and writes do not carry here: use Controller.io() with a buffer for it"
            )

    # --- data ---------------------------------------------------------------------------------

    def read(self, lba: int, blocks: int, *, fua: bool = False) -> bytearray:
        """Read blocks and return their bytes."""
        self.check_range(lba, blocks)
        data = bytearray(blocks << self.block_shift)
        self.read_into(lba, data, fua=fua)
        return data

    def write(self, lba: int, data: BytesLike, *, fua: bool = False) -> None:
        """Write any bytes-like of whole blocks."""
        self.write_from(lba, data, fua=fua)

    # One command from or to a DmaBuffer is the way that has to be quick: so it is tried at once. C
    # checks the range then, and _finish() knows of all else. That `fua` may be given by its place
    # is for speed, too: to a function that has keywords alone, a call costs a twelfth more.

    def read_into(self, lba: int, buffer: BytesLike, fua: bool = False) -> None:
        """Fill a writable buffer of whole blocks."""
        operation = self._read.forced if fua else self._read
        if status := self._lender.transfer(operation, lba, buffer):
            self._finish(status, operation, lba, buffer)

    def write_from(self, lba: int, buffer: BytesLike, fua: bool = False) -> None:
        """Write a buffer of whole blocks; the same as :meth:`write`."""
        operation = self._write.forced if fua else self._write
        if status := self._lender.transfer(operation, lba, buffer):
            self._finish(status, operation, lba, buffer)

    def compare(self, lba: int, data: BytesLike, *, fua: bool = False) -> None:
        """Compare blocks with data on the device (NVM 1.0, section 3.2.1).

        Raises NvmeStatusError with the status COMPARE_FAILURE if they differ.
        """
        self._move(self._compare.forced if fua else self._compare, lba, data)

    def _move(self, operation: _Operation, lba: int, buffer: Any) -> None:
        if status := self._lender.transfer(operation, lba, buffer):
            self._finish(status, operation, lba, buffer)

    def _finish(self, status: int, operation: _Operation, lba: int, buffer: Any) -> None:
        """Raise a status that is no success, or transfer what cannot be at once: any memory."""
        if status > 0:
            self._check(status, operation, lba, buffer.nbytes >> self.block_shift)
            return
        array = buffer if type(buffer) is DmaBuffer else as_bytes(buffer)
        if operation.fills and not array.flags.writeable:
            raise ValueError("the buffer is read-only: use a bytearray, an array or alloc()")
        length = array.nbytes
        blocks = length >> self.block_shift
        if blocks << self.block_shift != length:
            raise ValueError(f"{length} bytes are not whole blocks of {self.block_size}")
        self.check_range(lba, blocks)
        flat = as_bytes(array)  # raises ValueError for gaps
        iova = self._pool.iova(array)  # of the caller's own, whose span is known from then on
        if iova is None or iova & 3:
            self._bounce(operation, lba, flat)
        elif blocks > self.max_blocks:
            self._split(operation, lba, iova, flat)
        else:
            status = self._lender.transfer(operation, lba, self._pool.spanned(flat, iova))
            self._check(status, operation, lba, blocks)

    def _bounce(self, operation: _Operation, lba: int, array: npt.NDArray[np.uint8]) -> None:
        """Transfer memory that the device does not reach, by copying it in pieces."""
        length = array.nbytes
        piece = self._pool.alloc(min(length, BOUNCE), zero=False)
        for offset in range(0, length, BOUNCE):
            part = array[offset : offset + BOUNCE]
            bounce = piece[: part.nbytes]
            if not operation.fills:
                bounce[:] = part
            self._move(operation, lba + (offset >> self.block_shift), bounce)
            if operation.fills:
                part[:] = bounce

    def _split(
        self, operation: _Operation, lba: int, iova: int, array: npt.NDArray[np.uint8]
    ) -> None:
        """Transfer DMA memory that one command cannot carry."""
        blocks = array.nbytes >> self.block_shift
        most = self.max_blocks
        lbas = np.arange(lba, lba + blocks, most, dtype=np.uint64)
        with self.controller.lender.borrow() as pair:
            result = pair.run_vector(
                operation.opcode,
                self,
                lbas,
                np.uint64(iova) + (lbas - np.uint64(lba) << np.uint64(self.block_shift)),
                blocks=most,
                last_blocks=blocks - most * (len(lbas) - 1),
                fua=operation.fua,
                keep=array,
            )
        for index in result.failed[:1]:
            first = int(lbas[index])
            status = int(result.status[index]) | (TIMED_OUT if result.timed_out else 0)
            self._check(status, operation, first, min(most, lba + blocks - first))

    def _check(self, status: int, operation: _Operation, lba: int, blocks: int) -> None:
        what = self._what(operation.opcode, lba, blocks)
        check(Status(status & ~TIMED_OUT), what, bool(status & TIMED_OUT))

    def _what(self, opcode: NvmOpcode, lba: int, blocks: int) -> str:
        name = opcode.name.replace("_", " ").title()
        return f"{name} of {blocks} blocks from LBA {lba} on (namespace {self.nsid})"

    # --- no data ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Make all completed writes durable (Base 2.0, section 7.1)."""
        with self.controller.lender.borrow() as pair:
            pair.submit_flush(self)
            (done,) = pair.drain()
        check(done.status, f"Flush (namespace {self.nsid})", done.timed_out)

    def write_zeroes(
        self, lba: int, blocks: int, *, deallocate: bool = False, fua: bool = False
    ) -> None:
        """Set blocks to zero without moving data; ``deallocate`` allows to free them, too."""
        self.check_range(lba, blocks)
        with self.controller.lender.borrow() as pair:
            for first in range(lba, lba + blocks, MAX_BLOCKS):
                count = min(MAX_BLOCKS, lba + blocks - first)
                pair.submit_write_zeroes(self, first, count, deallocate=deallocate, fua=fua)
                (done,) = pair.drain()
                check(done.status, self._what(NvmOpcode.WRITE_ZEROES, first, count), done.timed_out)

    def deallocate(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Tell the device that the data of these ``(lba, blocks)`` ranges is not needed."""
        with self.controller.lender.borrow() as pair:
            for start in range(0, len(ranges), 256):
                pair.submit_deallocate(self, ranges[start : start + 256])
                (done,) = pair.drain()
                check(done.status, f"Deallocate (namespace {self.nsid})", done.timed_out)

    def __repr__(self) -> str:
        return f"<Namespace {self.nsid}: {self.block_count} blocks of {self.block_size} bytes>"


def block_shift_of(page: IdentifyNamespace, nsid: int) -> int:
    """Return log2 of a namespace's block size. Raises NvmeError for one that cannot be."""
    shift = page.lbaf.ds
    if not 9 <= shift <= 27:
        raise NvmeError(
            f"namespace {nsid} has blocks of 2**{shift} bytes, which no NVM command set format "
            "has: format it"
        )
    return shift


def listed_namespaces(controller: Controller, cns: Cns) -> Iterator[int]:
    """Yield the ids of a Namespace List, page after page (Base 2.0, section 4.4.2).

    Raises NvmeError for ids that do not ascend, or of which there is no end.
    """
    last = count = 0
    while True:
        page = decode_namespace_list(controller.identify_page(cns, nsid=last))
        for nsid in page:
            if not last < nsid <= _LAST_NSID:
                raise NvmeError(
                    f"{controller.name} lists a namespace id that cannot be, {nsid} after {last}: "
                    "reset it, or update its firmware"
                )
            last = nsid
            yield nsid
        count += len(page)
        if len(page) < NAMESPACE_LIST_SIZE or last == _LAST_NSID:
            return
        if count >= MOST_NAMESPACES:
            raise NvmeError(
                f"{controller.name} lists more than {MOST_NAMESPACES} namespaces, which no "
                "controller has: reset it, or update its firmware"
            )


class Namespaces(Mapping[int, Namespace]):
    """The active namespaces of a controller, by namespace id; each is identified once."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._known: dict[int, Namespace] = {}

    @cached_property
    def ids(self) -> list[int]:
        """Active namespace ids, ascending; as :meth:`found`, but asked for once."""
        return list(self.found())

    def found(self) -> Iterator[int]:
        """Ask for the active namespace ids, ascending (Base 2.0, Identify CNS 02h).

        Raises NvmeError where a list cannot be any more: it does not ascend, or does not end.
        """
        version = self._controller.registers.read(VS)
        if (version.mjr, version.mnr) >= (1, 1):  # before, CNS has one bit
            try:
                yield from listed_namespaces(self._controller, Cns.ACTIVE_NAMESPACES)
                return
            except NvmeStatusError as error:
                if error.status.code() is not GenericStatus.INVALID_FIELD:
                    raise
        yield from self._tried()

    def _tried(self) -> Iterator[int]:
        """Find the active namespaces of a controller that has no list of them (NVMe 1.0)."""
        for nsid in range(1, min(self._controller.identify.nn, MOST_NAMESPACES) + 1):
            try:
                if not any(self._controller.identify_page(Cns.NAMESPACE, nsid=nsid)):
                    continue
            except NvmeStatusError as error:
                if error.status.code() in _NOT_ACTIVE:
                    continue
                # Who wants this one sees the error; the others are to be had.
            yield nsid

    def __getitem__(self, nsid: int) -> Namespace:
        if nsid not in self._known:
            if nsid not in self.ids:
                active = ", ".join(map(str, self.ids)) or "none"
                raise KeyError(f"namespace {nsid!r} is not active; active are: {active}")
            self._known[nsid] = Namespace(self._controller, nsid)
        return self._known[nsid]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)
