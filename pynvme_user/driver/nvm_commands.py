"""The NVM Command Set's commands besides plain reads and writes (NVM Command Set 1.1, 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Self, Unpack

from pynvme_user.dma import PAGE, BytesLike, as_bytes
from pynvme_user.driver.admin import CommandFields, reachable
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.device import Device
from pynvme_user.driver.geometry import AppendLimit, Geometry
from pynvme_user.driver.metadata_transfer import MetadataTransfers
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.driver.transfer import describe
from pynvme_user.errors import NotSupportedError
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.fdp import (
    ManagementReceive,
    ManagementReceiveCdw10,
    ManagementSend,
    ManagementSendCdw10,
    PlacementIdList,
    ReclaimUnitHandleStatus,
)
from pynvme_user.spec.identify import IdentifyNamespace
from pynvme_user.spec.identify_nvm import IdentifyControllerNvm
from pynvme_user.spec.nvm import (
    DatasetManagementCdw10,
    DatasetManagementCdw11,
    DatasetRange,
    ReadCdw12,
    WriteUncorrectableCdw12,
)
from pynvme_user.spec.nvm_copy import CopyCdw12, CopyFormat, CopyRange0, CopyRange2
from pynvme_user.spec.support import (
    unsupported_copy_format,
    unsupported_fused,
    unsupported_io,
)

#: NLB has 16 bits, zero-based.
MAX_BLOCKS = 0x10000
#: Ranges that one Dataset Management or Copy has, and blocks that each of the former has.
MAX_RANGES, MAX_RANGE_BLOCKS = 256, 0xFFFFFFFF


class NvmCommands:
    """What a :class:`Namespace` does besides moving data. Thread-safe; every call waits.

    Ranges of any number and length: as many commands are sent as the controller's limits for one
    ask for. Each call raises what :class:`Namespace` says of all, and NotSupportedError where the
    controller says that it has no such command, unless it is sent with ``force``.
    """

    device: Device
    nsid: int
    identify: IdentifyNamespace
    geometry: Geometry
    _pool: QueuePairPool

    @property
    def limits(self) -> IdentifyControllerNvm:
        """What commands that move no data are limited to (NVM Command Set, Identify CNS 06h)."""
        raise NotImplementedError

    @property
    def block_size(self) -> int:
        """Bytes of data in a block."""
        return 1 << self.geometry.block_shift

    @property
    def zones(self) -> AppendLimit:
        """Its zones. Raises NotSupportedError where it has none."""
        raise NotImplementedError

    def current(self) -> Geometry:
        """Return its geometry, identified again if it may have changed since."""
        raise NotImplementedError

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise ValueError if the blocks are not all in the namespace."""
        raise NotImplementedError

    @cached_property
    def _moves(self) -> MetadataTransfers:
        """What moves data with keywords, and metadata."""
        return MetadataTransfers(self, self.device.dma, self._pool)

    def _run(
        self,
        opcode: NvmOpcode,
        what: str = "",
        buffer: BytesLike | None = None,
        *,
        lba: int | None = None,
        **fields: Unpack[CommandFields],
    ) -> Completion:
        """Run one command of this namespace to its end; raise what its status says."""
        if lba is not None:
            fields["cdw10"], fields["cdw11"] = _halves(lba)
        command = SQE.build(opc=opcode, nsid=self.nsid, **fields)
        self.current()
        memory, copy_back = reachable(self.device, command, buffer)
        with self._pool.acquired() as pair:
            while True:
                geometry = self.current()  # an LBA of another format is another place
                with pair.held():
                    if geometry.current:
                        pair.submit(command, memory)
                        break
            (done,) = pair.drain()
        name = opcode.name.replace("_", " ").title()
        check(done.status, what or f"{name} (namespace {self.nsid})", done.timed_out)
        copy_back()
        return done

    def check_supported(self, opcode: NvmOpcode, force: bool = False) -> None:
        """Raise NotSupportedError if the controller says that it has no such I/O command.

        Identify's optional commands tell (ONCS and others). ``force`` lets it pass.
        """
        if force:
            return
        self._refuse(
            opcode.name.replace("_", " ").title(),
            unsupported_io(self.device.identify, opcode, limits=self.limits),
        )

    def _refuse(self, what: str, missing: str | None) -> None:
        if missing:
            raise NotSupportedError(f"{self.device.name} does not support {what}: {missing}")

    def _pieces(self, lba: int, blocks: int, limit: int) -> Iterator[tuple[int, int]]:
        """Divide blocks into those of one command each; ``limit`` is a power of two of the
        controller's smallest pages, 0 for none.
        """
        self.check_range(lba, blocks)
        most = MAX_BLOCKS
        if limit:
            size = PAGE << self.device.cap.mpsmin << limit
            most = max(1, min(most, size >> self.geometry.block_shift))
        for first in range(lba, lba + blocks, most):
            yield first, min(most, lba + blocks - first)

    # --- checks and marks ---------------------------------------------------------------------

    def verify(
        self,
        lba: int,
        blocks: int,
        *,
        fua: bool = False,
        limited_retry: bool = False,
        force: bool = False,
    ) -> None:
        """Let the device read blocks, and check them, without moving their data (3.3.5).

        Raises NvmeStatusError, for example UNRECOVERED_READ_ERROR, where it cannot.
        """
        self.check_supported(NvmOpcode.VERIFY, force)
        for first, count in self._pieces(lba, blocks, self.limits.vsl):
            self._run(
                NvmOpcode.VERIFY,
                describe(NvmOpcode.VERIFY, first, count, self.nsid),
                lba=first,
                cdw12=ReadCdw12.build(nlb=count - 1, fua=fua, lr=limited_retry),
            )

    def write_uncorrectable(self, lba: int, blocks: int, *, force: bool = False) -> None:
        """Mark blocks as unreadable: reads of them fail until they are written again (3.3.7)."""
        self.check_supported(NvmOpcode.WRITE_UNCORRECTABLE, force)
        for first, count in self._pieces(lba, blocks, self.limits.wusl):
            self._run(
                NvmOpcode.WRITE_UNCORRECTABLE,
                describe(NvmOpcode.WRITE_UNCORRECTABLE, first, count, self.nsid),
                lba=first,
                cdw12=WriteUncorrectableCdw12.build(nlb=count - 1),
            )

    # --- ranges -------------------------------------------------------------------------------

    def dataset_management(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        deallocate: bool = False,
        read: bool = False,
        write: bool = False,
        attributes: int = 0,
        force: bool = False,
    ) -> None:
        """Tell the device how ``(lba, blocks)`` ranges are used (3.3.3).

        ``deallocate``: their data is not needed. ``read`` and ``write``: they are one set that is
        read, or written, together. ``attributes`` are those of each, a
        :class:`~pynvme_user.spec.nvm.ContextAttributes`.
        """
        self.check_supported(NvmOpcode.DATASET_MANAGEMENT, force)
        ranges = _pairs(ranges)
        for lba, blocks in ranges:
            self.check_range(lba, blocks)
        cdw11 = DatasetManagementCdw11.build(ad=deallocate, idr=read, idw=write)
        for some in dataset_commands(ranges, self.limits):
            parts = [DatasetRange.build(cattr=attributes, slba=lba, nlb=n) for lba, n in some]
            self._run(
                NvmOpcode.DATASET_MANAGEMENT,
                f"{'Deallocate' if deallocate else 'Dataset Management'} (namespace {self.nsid})",
                bytearray(b"".join(map(bytes, parts))),
                cdw10=DatasetManagementCdw10.build(nr=len(some) - 1),
                cdw11=cdw11,
            )

    def copy(
        self,
        lba: int,
        ranges: Iterable[tuple[int, int]],
        *,
        source: Self | None = None,
        fua: bool = False,
        limited_retry: bool = False,
        force: bool = False,
    ) -> None:
        """Copy ``(lba, blocks)`` ranges, one behind the other, to ``lba`` on (3.3.2).

        They are this namespace's, or those of ``source``, another one of the same controller,
        where the controller can copy between namespaces (OCFS, and Host Behavior Support has it
        enabled). What an error leaves undone is any of what comes behind it.
        """
        total = 0
        whole = source if source is not None else self
        if whole.device is not self.device:
            raise ValueError("source is a namespace of another controller: read and write it")
        ranges = _pairs(ranges)
        for first, blocks in ranges:
            whole.check_range(first, blocks)
            total += blocks
        if not total:
            raise ValueError("there is nothing to copy: give at least one range")
        self.check_range(lba, total)
        form = CopyFormat.SAME_NAMESPACE_8B if source is None else CopyFormat.CROSS_NAMESPACE_8B
        self.check_supported(NvmOpcode.COPY, force)
        if not force and not (self.identify.mssrl and self.identify.mcl):
            self._refuse("Copy", "its MSSRL or MCL is 0")
        if source is not None and not force:
            missing = unsupported_copy_format(self.device.identify, form)
            self._refuse("Copy between namespaces", missing)
        for some in copy_commands(ranges, self.identify):
            count = sum(blocks for _, blocks in some)
            self._run(
                NvmOpcode.COPY,
                f"Copy of {count} blocks to LBA {lba} on (namespace {self.nsid})",
                bytearray(b"".join(bytes(_copy_range(*one, source)) for one in some)),
                lba=lba,
                cdw12=CopyCdw12.build(nr=len(some) - 1, desfmt=form, fua=fua, lr=limited_retry),
            )
            lba += count

    # --- fused ----------------------------------------------------------------------------------

    def compare_and_write(
        self,
        lba: int,
        expected: BytesLike,
        data: BytesLike,
        *,
        expected_metadata: BytesLike | None = None,
        metadata: BytesLike | None = None,
        force: bool = False,
    ) -> None:
        """Write ``data`` if the blocks are ``expected``, as one operation (Base 2.1, 3.4.2).

        Both have the same length, of whole blocks, up to the device's ACWU. Raises NvmeStatusError
        with COMPARE_FAILURE, and nothing is written, where they are something else.

        Where blocks have metadata, ``expected_metadata`` and ``metadata`` are theirs; what is left
        out is as for :meth:`MetadataNamespace.compare` and :meth:`MetadataNamespace.write`.
        """
        if not force:
            self._refuse("fused commands", unsupported_fused(self.device.identify))
        one, other = as_bytes(expected), as_bytes(data)
        if one.nbytes != other.nbytes:
            raise ValueError(
                f"what is expected and what is written are of one length, not {one.nbytes} and "
                f"{other.nbytes} bytes"
            )
        done = self._moves.compare_and_write(lba, (one, expected_metadata), (other, metadata))
        blocks = one.nbytes >> self.geometry.block_shift
        for each, opcode in zip(done, (NvmOpcode.COMPARE, NvmOpcode.WRITE), strict=True):
            what = describe(opcode, lba, blocks, self.nsid)
            check(each.status, f"fused {what}", each.timed_out)

    # --- data placement ---------------------------------------------------------------------------

    def reclaim_unit_handles(self) -> ReclaimUnitHandleStatus:
        """Return the reclaim unit handles that it may write by (Base 2.1, 7.3.1.1; FDP)."""
        size = PAGE
        while True:
            page = bytearray(size)
            self._run(
                NvmOpcode.IO_MANAGEMENT_RECEIVE,
                buffer=page,
                cdw10=ManagementReceiveCdw10.build(mo=ManagementReceive.RECLAIM_UNIT_HANDLE_STATUS),
                cdw11=size // 4 - 1,
            )
            found = ReclaimUnitHandleStatus.from_bytes(page)
            if not found.incomplete or size >= self.device.max_transfer:
                return found
            size = min(2 * size, self.device.max_transfer)

    def update_reclaim_units(self, placement_ids: Sequence[int]) -> None:
        """Let the next writes by these placement ids go to fresh reclaim units (7.4.1.1; FDP)."""
        self._run(
            NvmOpcode.IO_MANAGEMENT_SEND,
            buffer=bytearray(bytes(PlacementIdList.build(placement_ids))),
            cdw10=ManagementSendCdw10.build(
                mo=ManagementSend.RECLAIM_UNIT_HANDLE_UPDATE, mos=len(placement_ids) - 1
            ),
        )


def _halves(lba: int) -> tuple[int, int]:
    """Make dwords 10 and 11 of a command: its first LBA."""
    return lba & 0xFFFFFFFF, lba >> 32


def _copy_range(lba: int, blocks: int, source: NvmCommands | None) -> CopyRange0 | CopyRange2:
    if source is None:
        return CopyRange0.build(slba=lba, nlb=blocks - 1)
    return CopyRange2.build(snsid=source.nsid, slba=lba, nlb=blocks - 1)


def _pairs(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return them as a list, which can be walked twice. Raises ValueError for what are no pairs."""
    pairs = []
    for pair in ranges:
        try:
            lba, blocks = pair
        except (TypeError, ValueError):
            raise ValueError(
                "ranges are pairs of an LBA and a number of blocks, such as [(0, 8)]: "
                f"{pair!r} is none"
            ) from None
        pairs.append((lba, blocks))
    return pairs


def _divided(
    ranges: Iterable[tuple[int, int]], most_ranges: int, most_in_range: int, most_blocks: int
) -> Iterator[list[tuple[int, int]]]:
    """Divide ``(lba, blocks)`` ranges into those of one command each."""
    command: list[tuple[int, int]] = []
    total = 0
    for lba, blocks in ranges:
        end = lba + blocks
        while lba < end:
            if len(command) == most_ranges or total == most_blocks:
                yield command
                command, total = [], 0
            count = min(most_in_range, end - lba, most_blocks - total)
            command.append((lba, count))
            lba, total = lba + count, total + count
    if command:
        yield command


def dataset_commands(
    ranges: Iterable[tuple[int, int]], limits: IdentifyControllerNvm
) -> Iterator[list[tuple[int, int]]]:
    """Divide ranges into those of one Dataset Management command each (DMRL, DMRSL, DMSL)."""
    return _divided(
        ranges,
        limits.dmrl or MAX_RANGES,
        min(limits.dmrsl or MAX_RANGE_BLOCKS, MAX_RANGE_BLOCKS),
        limits.dmsl or 1 << 64,
    )


def copy_commands(
    ranges: Iterable[tuple[int, int]], page: IdentifyNamespace
) -> Iterator[list[tuple[int, int]]]:
    """Divide ranges into those of one Copy command each (MSRC, MSSRL, MCL)."""
    return _divided(
        ranges, page.msrc + 1, min(page.mssrl or MAX_BLOCKS, MAX_BLOCKS), page.mcl or 1 << 32
    )
