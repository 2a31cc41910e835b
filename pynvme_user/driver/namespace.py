"""Namespaces: reads and writes of any length, in blocks, from any memory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import BytesLike, DmaBuffer
from pynvme_user.driver.admin import AdminQueue
from pynvme_user.driver.completion import check
from pynvme_user.driver.device import Device
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.metadata import TransferOptions
from pynvme_user.driver.metadata_transfer import MetadataCalls
from pynvme_user.driver.nvm_commands import MAX_BLOCKS
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.driver.reservations import Reservations
from pynvme_user.driver.stream import read_ahead
from pynvme_user.driver.transfer import Transfers, describe
from pynvme_user.driver.zns import Zones
from pynvme_user.errors import (
    NamespaceChangedError,
    NotSupportedError,
    NvmeError,
    NvmeStatusError,
)
from pynvme_user.protection import ALL_ONES, Protection
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import CommandSetId, NvmOpcode
from pynvme_user.spec.identify import (
    NAMESPACE_LIST_SIZE,
    IdentifyControllerNvm,
    IdentifyNamespace,
    NamespaceIdentifiers,
    decode_namespace_list,
)
from pynvme_user.spec.identify_nvm import GuardFormat, IdentifyNamespaceNvm
from pynvme_user.spec.protection import ProtectionType
from pynvme_user.spec.registers import VS
from pynvme_user.spec.status import GenericStatus
from pynvme_user.views.array import NamespaceArray
from pynvme_user.views.file import BUFFERING, BufferedNamespaceFile, Mode, NamespaceFile
from pynvme_user.views.storage import ByteRange, RangeLock
from pynvme_user.views.tensors import TensorFile
from pynvme_user.views.window import WINDOW, layout

if TYPE_CHECKING:
    from pynvme_user import Controller

#: Namespaces that a controller may have here; the specification knows no such limit.
MOST_NAMESPACES = 1 << 16
_LAST_NSID = 0xFFFFFFFE
#: What Identify Namespace gives for an id that is not active, besides a page of zeroes.
_NOT_ACTIVE = (GenericStatus.INVALID_NAMESPACE_OR_FORMAT, GenericStatus.INVALID_FIELD)


class Namespace(Reservations):
    """A namespace of a controller: ``block_count`` blocks of ``block_size`` bytes.

    Every call may come from any thread and waits for the device. LBAs and lengths in blocks; data
    is any contiguous bytes-like of whole blocks. What the device reaches (a DmaBuffer) moves
    without a copy; other memory is copied in pieces.

    After whatever may change namespaces (Format NVM, for example, and each reset) the next call
    identifies it again. Another size is taken; with another format, or another namespace behind its
    id, this object is of no use any more: NamespaceChangedError.

    All calls raise ValueError, before anything is submitted, for a range outside the namespace or
    a length that is not whole blocks; NvmeStatusError for an error status; NvmeTimeoutError once
    a command was given up; NamespaceChangedError; DeviceRemovedError.
    """

    def __init__(
        self, device: Device, commands: AdminQueue, pool: QueuePairPool, nsid: int
    ) -> None:
        self.device = device
        self._commands = commands
        self._pool = pool
        self.nsid = nsid
        self._changed = ""  # what became of it, once it is not what it was
        with commands.unchanging_namespaces():
            self.identify = self._identified()
            #: As last known: see :meth:`current`.
            self.geometry = self._measured()
            self._transfers = moves = Transfers(self, device.dma, pool)
            self._read, self._write, self._compare = moves.read, moves.write, moves.compare
            self._transfers.limit(self.geometry)

    # --- what is known of it ------------------------------------------------------------------

    @property
    def controller(self) -> Controller:
        """The :class:`Controller` that it belongs to."""
        return self.device.controller

    @property
    def block_shift(self) -> int:
        """log2 of the block size in bytes."""
        return self.geometry.block_shift

    @property
    def block_count(self) -> int:
        """Its size in blocks."""
        return self.geometry.block_count

    @property
    def metadata_size(self) -> int:
        """Bytes of metadata in each block."""
        return self.geometry.metadata_size

    @property
    def protection(self) -> Protection | None:
        """How its metadata protects its data: makes and checks protection information in memory.

        None where there is none.
        """
        return self.geometry.protection

    @property
    def max_blocks(self) -> int:
        """Blocks that one read or write carries."""
        return self.geometry.max_blocks

    @cached_property
    def identifiers(self) -> NamespaceIdentifiers:
        """EUI64, NGUID, UUID and CSI, those that there are (Base 2.0, Identify CNS 03h).

        Before NVMe 1.3 there are the first two, on the namespace's own page.
        """
        version = self.device.registers.read(VS)
        if (version.mjr, version.mnr) < (1, 3):
            eui64, nguid = self.identify.eui64, self.identify.nguid
            return NamespaceIdentifiers(
                eui64=eui64 if any(eui64) else None, nguid=nguid if any(nguid) else None
            )
        page = self._commands.identify(Cns.NAMESPACE_DESCRIPTORS, nsid=self.nsid)
        return NamespaceIdentifiers.from_bytes(page)

    @cached_property
    def limits(self) -> IdentifyControllerNvm:
        """What commands that move no data are limited to (NVM 1.0, section 4.1.5.4).

        0, for no limit, where the controller does not tell.
        """
        version = self.device.registers.read(VS)
        if (version.mjr, version.mnr) >= (1, 4):
            with suppress(NvmeStatusError):
                page = self._commands.identify(Cns.CSI_CONTROLLER, csi=CommandSetId.NVM)
                return IdentifyControllerNvm.from_bytes(page)
        return IdentifyControllerNvm.build()

    @property
    def zoned(self) -> bool:
        """Whether it is one of the Zoned Namespace Command Set, with :attr:`zones`."""
        try:
            return self.identifiers.csi == CommandSetId.ZONED
        except NvmeStatusError:
            return False  # a controller older than the list of identifiers

    @cached_property
    def zones(self) -> Zones:
        """Its zones. Raises NotSupportedError where it is not :attr:`zoned`."""
        if not self.zoned:
            raise NotSupportedError(
                f"namespace {self.nsid} of {self.device.name} has no zones: use one of the Zoned "
                "Namespace Command Set"
            )
        return Zones(self, self._commands)

    def _identified(self) -> IdentifyNamespace:
        return IdentifyNamespace.from_bytes(self._commands.identify(Cns.NAMESPACE, nsid=self.nsid))

    def _measured(self) -> Geometry:
        page = self.identify
        shift = block_shift_of(page, self.nsid)
        return Geometry(
            nsid=self.nsid,
            block_shift=shift,
            block_count=page.nsze,
            metadata_size=page.lbaf.ms,
            max_blocks=min(self.device.max_transfer >> shift, MAX_BLOCKS),
            boundary=page.noiob,
            granularity=math.lcm(page.npwg + 1, page.npwa + 1) if page.nsfeat.optperf else 1,
        )

    def forget(self) -> None:
        """Let no transfer begin before it was identified again; for :meth:`Namespaces.forget`."""
        self.geometry.current = False
        self._transfers.limit(self.geometry)
        self.__dict__.pop("limits", None)

    def current(self) -> Geometry:
        """Return its geometry, identified again if it may have changed since.

        Raises NamespaceChangedError where it is not what it was, and as :meth:`Controller.admin`.
        """
        return self.geometry if self.geometry.current else self._identify_again()

    def _identify_again(self) -> Geometry:
        # Under the lock, so that nothing changes it before it counts as current.
        with self._commands.unchanging_namespaces():
            if self.geometry.current:
                return self.geometry  # another thread came first
            if not self._changed:
                self._changed = self._difference()
            if self._changed:
                raise NamespaceChangedError(
                    f"namespace {self.nsid} {self._changed}: take it anew, as "
                    f"namespaces[{self.nsid}] of the controller"
                )
            self.geometry = self._measured()
            self._transfers.limit(self.geometry)
            self.__dict__.pop("identifiers", None)
            return self.geometry

    def _difference(self) -> str:
        """Identify it; tell what makes it another than it was, if anything does."""
        before = self.identify
        try:
            now = self._identified()
        except NvmeStatusError as error:
            if error.status.code() is not GenericStatus.INVALID_NAMESPACE_OR_FORMAT:
                raise
            return "is not active any more"
        if not any(bytes(now)):
            return "is not active any more"
        if (now.nguid, now.eui64) != (before.nguid, before.eui64):
            return "is another one now, with another NGUID or EUI64"
        self.identify = now
        for what, old, new in (
            ("block size", f"{1 << before.lbaf.ds} bytes", f"{1 << now.lbaf.ds}"),
            ("metadata", f"{before.lbaf.ms} bytes", f"{now.lbaf.ms}"),
        ):
            if old != f"{new} bytes":
                return f"was formatted: its {what} changed from {old} to {new}"
        if now.flbas.mtelba != before.flbas.mtelba or now.dps != before.dps:
            return "was formatted: its metadata or protection information is another"
        return ""

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise ValueError if the blocks are not all in the namespace."""
        self.current().check_range(lba, blocks)

    def check_transfer(self, lba: int, blocks: int) -> None:
        """Raise ValueError if reads and writes cannot carry these blocks, or they are not there."""
        self.current().check_transfer(lba, blocks)

    # --- data ---------------------------------------------------------------------------------

    def read(
        self, lba: int, blocks: int, *, fua: bool = False, **options: Unpack[TransferOptions]
    ) -> bytearray:
        """Read blocks and return their bytes; the keywords are :class:`TransferOptions`."""
        if options:
            return self._moves.read(lba, blocks, fua, options)
        template = self._read.with_fua if fua else self._read
        return self._transfers.read_bytes(template, lba, blocks)

    def write(
        self, lba: int, data: BytesLike, *, fua: bool = False, **options: Unpack[TransferOptions]
    ) -> None:
        """Write any bytes-like of whole blocks; the keywords are :class:`TransferOptions`."""
        if options:
            return self._moves.move(NvmOpcode.WRITE, lba, data, fua, options)
        # As write_from(), which would cost more than the keywords do.
        template = self._write.with_fua if fua else self._write
        if status := self._pool.transfer(template, lba, data):
            self._transfers.finish(status, template, lba, data)
        return None

    # One command from or to a DmaBuffer is the way that has to be quick: it is tried at once, and
    # C checks the range. That `fua` may be given by its place is for speed, too: to a function with
    # keywords alone a call costs a twelfth more.

    def read_into(self, lba: int, buffer: BytesLike, fua: bool = False) -> None:
        """Fill a writable buffer of whole blocks."""
        template = self._read.with_fua if fua else self._read
        if status := self._pool.transfer(template, lba, buffer):
            self._transfers.finish(status, template, lba, buffer)

    def write_from(self, lba: int, buffer: BytesLike, fua: bool = False) -> None:
        """Write a buffer of whole blocks; as :meth:`write`, but without its keywords."""
        template = self._write.with_fua if fua else self._write
        if status := self._pool.transfer(template, lba, buffer):
            self._transfers.finish(status, template, lba, buffer)

    def compare(
        self, lba: int, data: BytesLike, *, fua: bool = False, **options: Unpack[TransferOptions]
    ) -> None:
        """Compare blocks with data on the device (NVM 1.0, section 3.2.1).

        The keywords are :class:`TransferOptions`. Raises NvmeStatusError with the status
        COMPARE_FAILURE if they differ.
        """
        if options:
            return self._moves.move(NvmOpcode.COMPARE, lba, data, fua, options)
        template = self._compare.with_fua if fua else self._compare
        if status := self._pool.transfer(template, lba, data):
            self._transfers.finish(status, template, lba, data)
        return None

    # --- no data ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Make all completed writes durable (Base 2.0, section 7.1)."""
        with self._pool.acquired() as pair:
            pair.submit_flush(self)
            (done,) = pair.drain()
        check(done.status, f"Flush (namespace {self.nsid})", done.timed_out)

    def write_zeroes(
        self, lba: int, blocks: int, *, deallocate: bool = False, fua: bool = False
    ) -> None:
        """Set blocks to zero without moving data; ``deallocate`` allows to free them, too.

        Metadata becomes zero with them. As many commands are sent as the controller's limit for
        one (WZSL) asks for.
        """
        for first, count in self._pieces(lba, blocks, self.limits.wzsl):
            with self._pool.acquired() as pair:
                pair.submit_write_zeroes(self, first, count, deallocate=deallocate, fua=fua)
                (done,) = pair.drain()
            what = describe(NvmOpcode.WRITE_ZEROES, first, count, self.nsid)
            check(done.status, what, done.timed_out)

    def deallocate(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Tell the device that the data of these ``(lba, blocks)`` ranges is not needed.

        Ranges of any number and length: as many commands are sent as the controller's limits for
        one (DMRL, DMRSL, DMSL) ask for.
        """
        self.dataset_management(ranges, deallocate=True, force=True)

    # --- other ways to look at it -------------------------------------------------------------

    def open(
        self, mode: Mode = "rb", *, buffering: int = -1, offset: int = 0, size: int | None = None
    ) -> io.BufferedReader | BufferedNamespaceFile | NamespaceFile:
        """Open it as a file, of the ``size`` bytes from byte ``offset`` on: by default of all.

        ``mode`` is ``"rb"`` or ``"r+b"``. ``buffering`` is the size of the buffer in bytes, 128 KiB
        by default; 0 gives the file without one. What was written is on the device after
        ``flush()``, and durable. Raises ValueError for bytes that are not all in it.
        """
        part = self.byte_range(offset, size)
        file = NamespaceFile(part, mode, f"{self.device.name}, namespace {self.nsid}")
        if not buffering:
            return file
        length = BUFFERING if buffering < 0 else buffering
        return (BufferedNamespaceFile if file.writable() else io.BufferedReader)(file, length)

    def as_array(
        self, dtype: npt.DTypeLike, shape: int | tuple[int, ...] | None = None, offset: int = 0
    ) -> NamespaceArray:
        """Look at its bytes from ``offset`` on as an array in C order, which stays on the device.

        ``shape`` may be left out: as many elements as there are then. Raises ValueError for more.
        """
        each = max(np.dtype(dtype).itemsize, 1)
        if shape is None:
            shape = max(self.block_count * self.block_size - offset, 0) // each
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not shape or min(shape) < 0:
            raise ValueError(f"an array has an axis or more, none below 0: not {shape}")
        part = self.byte_range(offset, each * math.prod(shape))
        return NamespaceArray(part, dtype, shape, self.device.alloc)

    def byte_range(self, offset: int = 0, size: int | None = None) -> ByteRange:
        """Look at ``size`` bytes from byte ``offset`` on, by default all: any of them, any thread.

        Raises ValueError for bytes that are not all in it.
        """
        return ByteRange(self, self._write_ranges, offset, size)

    def as_tensors(self, offset: int = 0, size: int | None = None) -> TensorFile:
        """Look at the ``size`` bytes from byte ``offset`` on as a file in safetensors' layout.

        Its header is read and checked. Raises TensorFileError for one that is not right.
        """
        part = self.byte_range(offset, size)
        return TensorFile(part, self.device.alloc, partial(read_ahead, self, self._pool.make))

    def stream(
        self,
        lba: int = 0,
        blocks: int | None = None,
        *,
        chunk: int | None = None,
        window: int | DmaBuffer = WINDOW,
    ) -> Iterator[DmaBuffer]:
        """Read ``blocks`` blocks, by default up to the end, and give them in pieces of ``chunk``
        bytes, by default a sixteenth of the window.

        ``window``, so many bytes or a buffer of :meth:`Controller.alloc`, is filled before it is
        asked for, through a queue pair of its own. A buffer is valid until the next one is asked
        for, which reuses its memory; the last may be shorter. Close the iterator to end before the
        last. Raises ValueError, QueueFullError and DmaError, and as :meth:`read_into`.
        """
        blocks = self.block_count - lba if blocks is None else blocks
        self.check_range(lba, blocks)
        parts, memory = layout(self.block_size, blocks, chunk, window)
        return read_ahead(self, self._pool.make, parts.pieces(lba, blocks), parts, memory)

    @cached_property
    def _write_ranges(self) -> RangeLock:
        """Keeps the writes of its files, arrays and byte ranges apart."""
        return RangeLock()

    def __repr__(self) -> str:
        return f"<Namespace {self.nsid}: {self.block_count} blocks of {self.block_size} bytes>"


class MetadataNamespace(MetadataCalls, Namespace):
    """A namespace with metadata in each block, which reads, writes and compares carry.

    Data and metadata are apart in memory, whether or not the device has them so (FLBAS bit 4). With
    protection information :attr:`protection` says which.
    """

    def _measured(self) -> Geometry:
        page, known = self.identify, super()._measured()
        extended = bool(page.flbas.mtelba)
        each = (1 << known.block_shift) + (known.metadata_size if extended else 0)
        return replace(
            known,
            max_blocks=min(self.device.max_transfer // each, MAX_BLOCKS),
            extended=extended,
            protection=self._protection(),
        )

    def _protection(self) -> Protection | None:
        """Ask how the metadata protects the data (NVM Command Set 1.1, sections 4.1.5 and 5.3)."""
        page = self.identify
        if not page.dps.pit:
            return None
        more = IdentifyNamespaceNvm.build()
        if self.device.identify.ctratt.elbas:
            with suppress(NvmeStatusError):
                raw = self._commands.identify(
                    Cns.CSI_NAMESPACE, nsid=self.nsid, csi=CommandSetId.NVM
                )
                more = IdentifyNamespaceNvm.from_bytes(raw)
        elbaf = more.elbafs[page.format_index].elbaf
        try:
            return Protection(
                type=ProtectionType(page.dps.pit),
                block_size=1 << page.lbaf.ds,
                metadata_size=page.lbaf.ms,
                guard=GuardFormat(elbaf.guard),
                first=bool(page.dps.pip),
                storage_tag_bits=elbaf.sts,
                storage_tag_mask=more.lbstm if elbaf.sts else ALL_ONES,
            )
        except ValueError as error:
            raise NvmeError(
                f"namespace {self.nsid} tells of its protection information what cannot be, "
                f"{error}: format it, or update the controller's firmware"
            ) from None

    def _difference(self) -> str:
        before = self.protection
        if found := super()._difference():
            return found
        if self._protection() != before:
            return "was formatted: its metadata or protection information is another"
        return ""


def block_shift_of(page: IdentifyNamespace, nsid: int) -> int:
    """Return log2 of a namespace's block size. Raises NvmeError for one that cannot be."""
    shift = page.lbaf.ds
    if not 9 <= shift <= 27:
        raise NvmeError(
            f"namespace {nsid} has blocks of 2**{shift} bytes, which no NVM command set format "
            "has: format it"
        )
    return shift


class Namespaces(Mapping[int, Namespace]):
    """The active namespaces of a controller, by namespace id; each is identified once."""

    def __init__(self, device: Device, commands: AdminQueue, pool: QueuePairPool) -> None:
        self._device = device
        self._commands = commands
        self._pool = pool
        self._known: dict[int, Namespace] = {}
        self._ids: list[int] | None = None
        self._live: WeakSet[Namespace] = WeakSet()

    def forget(self) -> None:
        """Forget all that is known of them: it may have changed.

        For who holds the controller's admin lock and its queue pairs. What changes namespaces
        without a command of this controller's, such as another host, does not come here.
        """
        self._ids = None
        self._known.clear()
        for ns in list(self._live):
            ns.forget()

    @property
    def ids(self) -> list[int]:
        """Active namespace ids, ascending; as :meth:`found`, but asked for once."""
        ids = self._ids
        if ids is None:
            # Under the lock, so that nothing changes them before they count as known.
            with self._commands.unchanging_namespaces():
                ids = self._ids
                if ids is None:
                    ids = self._ids = list(self.found())
        return ids

    def found(self, after: int = 0) -> Iterator[int]:
        """Ask for the active namespace ids above ``after``, ascending (Base 2.0, CNS 02h).

        Raises NvmeError where a list cannot be any more: it does not ascend, or does not end.
        """
        self._device.check_usable()  # a register of what was given back says that it is closed
        version = self._device.registers.read(VS)
        if (version.mjr, version.mnr) >= (1, 1):  # before, CNS has one bit
            try:
                yield from self.listed(Cns.ACTIVE_NAMESPACES, after)
                return
            except NvmeStatusError as error:
                if error.status.code() is not GenericStatus.INVALID_FIELD:
                    raise
        yield from (nsid for nsid in self._tried() if nsid > after)

    def listed(self, cns: Cns, after: int = 0) -> Iterator[int]:
        """Yield the ids of a Namespace List above one, page after page (Base 2.0, section 4.4.2).

        Raises NvmeError for ids that do not ascend, or of which there is no end.
        """
        name = self._device.name
        last, count = after, 0
        while True:
            page = decode_namespace_list(self._commands.identify(cns, nsid=last))
            for nsid in page:
                if not last < nsid <= _LAST_NSID:
                    raise NvmeError(
                        f"{name} lists a namespace id that cannot be, {nsid} after {last}: "
                        "reset it, or update its firmware"
                    )
                last = nsid
                yield nsid
            count += len(page)
            if len(page) < NAMESPACE_LIST_SIZE or last == _LAST_NSID:
                return
            if count >= MOST_NAMESPACES:
                raise NvmeError(
                    f"{name} lists more than {MOST_NAMESPACES} namespaces, which no "
                    "controller has: reset it, or update its firmware"
                )

    def _tried(self) -> Iterator[int]:
        """Find the active namespaces of a controller that has no list of them (NVMe 1.0)."""
        for nsid in range(1, min(self._device.identify.nn, MOST_NAMESPACES) + 1):
            try:
                if not any(self._commands.identify(Cns.NAMESPACE, nsid=nsid)):
                    continue
            except NvmeStatusError as error:
                if error.status.code() in _NOT_ACTIVE:
                    continue
                # Who wants this one sees the error; the others are to be had.
            yield nsid

    def __getitem__(self, nsid: int) -> Namespace:
        if ns := self._known.get(nsid):
            return ns
        with self._commands.unchanging_namespaces():
            if nsid not in self.ids:
                active = ", ".join(map(str, self.ids)) or "none"
                raise KeyError(f"namespace {nsid!r} is not active; active are: {active}")
            if nsid not in self._known:
                ns = Namespace(self._device, self._commands, self._pool, nsid)
                if ns.metadata_size:
                    ns = MetadataNamespace(self._device, self._commands, self._pool, nsid)
                self._known[nsid] = ns
                self._live.add(ns)
            return self._known[nsid]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)
