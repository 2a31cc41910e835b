"""The I/O commands that the controller in C leaves to the model, and all of unusual namespaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pynvme_user.spec.cancel import CID_ALL, CancelAction, CancelCdw10, CancelCdw11, CancelResult
from pynvme_user.spec.commands import NSID_ALL, SQE, Fuse, NvmOpcode
from pynvme_user.spec.feature_dwords import WriteProtectionState
from pynvme_user.spec.nvm import (
    DatasetManagementCdw10,
    DatasetManagementCdw11,
    DatasetRange,
    ReadCdw12,
    WriteCdw12,
    WriteZeroesCdw12,
)
from pynvme_user.spec.protection import PRINFO, ProtectionType
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus, Status
from pynvme_user.spec.zns import ZoneAppendCdw12
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model import directives, placement, protection, reservations, zones
from pynvme_user.testing.model.state import Controller, Namespace, Refused, receive, require, send

G, M = GenericStatus, MediaStatus


@dataclass
class Access:
    """The blocks of a command."""

    ctrl: Controller
    command: Command
    ns: Namespace
    lba: int
    blocks: int

    @property
    def data(self) -> Any:
        """What is stored, a row a block."""
        data = np.frombuffer(self.ns.data(self.lba, self.blocks), np.uint8)
        return data.reshape(self.blocks, self.ns.block_size)

    @property
    def metadata(self) -> Any:
        """Likewise."""
        found = self.ns.metadata_of(self.lba, self.blocks)
        return found.reshape(self.blocks, self.ns.format.metadata)


def first_block(sqe: SQE) -> int:
    """Return the LBA of dwords 10 and 11."""
    return sqe.cdw11 << 32 | sqe.cdw10


def _access(ctrl: Controller, command: Command, *, writes: bool) -> Access:
    """Return the blocks of a command that may have them."""
    sqe = command.sqe
    ns = ctrl.namespace(sqe.nsid)
    lba, blocks = first_block(sqe), ReadCdw12(sqe.cdw12).nlb + 1
    check_blocks(ctrl, ns, lba, blocks, writes=writes)
    return Access(ctrl, command, ns, lba, blocks)


def check_blocks(ctrl: Controller, ns: Namespace, lba: int, blocks: int, *, writes: bool) -> None:
    """End a command whose blocks are not there, or are kept from it."""
    require(lba + blocks <= ns.blocks, G.LBA_OUT_OF_RANGE)
    reservations.check_access(ctrl, ns, writes=writes)
    if writes:
        require(ns.protection == WriteProtectionState.NONE, G.NAMESPACE_WRITE_PROTECTED)
    if ns.zones is not None and not writes:
        zones.check_read(ns, lba, blocks)


def check_readable(ns: Namespace, lba: int, blocks: int) -> None:
    """End a command that reads a block which was marked as uncorrectable."""
    if ns.uncorrectable and not ns.uncorrectable.isdisjoint(range(lba, lba + blocks)):
        raise Refused(M.UNRECOVERED_READ_ERROR)


def mark_written(ns: Namespace, lba: int, blocks: int) -> None:
    """Take note that blocks were written."""
    if ns.uncorrectable:
        ns.uncorrectable.difference_update(range(lba, lba + blocks))


def prinfo_of(dword: int) -> PRINFO:
    """Return PRINFO of dword 12."""
    return PRINFO(ReadCdw12(dword).prinfo)


# --- transfers ------------------------------------------------------------------------------------


def _transferred(ns: Namespace, prinfo: PRINFO) -> int:
    """Bytes of metadata that go with each block."""
    size = ns.format.metadata
    alone = prinfo.pract and size == protection.size_of(ns)
    return 0 if alone and ns.dps.pit else size


def _check_length(access: Access, each: int) -> None:
    extended = each if access.ns.extended else 0
    length = access.blocks * (access.ns.block_size + extended)
    require(length <= access.ctrl.max_transfer)


def _to_host(access: Access, each: int) -> None:
    """Move data and metadata to the host."""
    ns, command = access.ns, access.command
    if not each:
        send(command, access.data.tobytes())
    elif ns.extended:
        send(command, np.hstack([access.data, access.metadata]).tobytes())
    else:
        send(command, access.data.tobytes())
        status = command.fill_at(command.sqe.mptr, access.metadata.tobytes())
        if not status.ok:
            raise Refused(status)


def _from_host(access: Access, each: int) -> tuple[Any, Any]:
    """Return the host's data and metadata, a row a block; no metadata is zeroes."""
    ns, command, blocks = access.ns, access.command, access.blocks
    if each and ns.extended:
        whole = receive(command, blocks * (ns.block_size + each))
        rows = np.frombuffer(whole, np.uint8).reshape(blocks, -1)
        return rows[:, : ns.block_size], rows[:, ns.block_size :].copy()
    data = receive(command, blocks * ns.block_size)
    rows = np.frombuffer(data, np.uint8).reshape(blocks, -1)
    if not each:
        return rows, np.zeros((blocks, ns.format.metadata), np.uint8)
    try:
        metadata = command.data_at(command.sqe.mptr, blocks * each)
    except ValueError:
        raise Refused(G.DATA_TRANSFER_ERROR) from None
    return rows, np.frombuffer(metadata, np.uint8).reshape(blocks, each).copy()


def _check_stored(access: Access) -> None:
    """Hold what is stored against what the command expects."""
    ns, sqe = access.ns, access.command.sqe
    prinfo = prinfo_of(sqe.cdw12)
    if ns.dps.pit:
        tags = protection.Tags.of(ns, sqe)
        protection.check_command(ns, prinfo, access.lba, tags)
        stc = bool(ReadCdw12(sqe.cdw12).stc)
        protection.check(ns, access.data, access.metadata, prinfo, tags, storage=stc)


def _protect(access: Access, data: Any, metadata: Any, lba: int) -> None:
    """Check the protection information of what is to be written, or make it.

    ``lba`` is the command's, which of an append is not where the data comes to lie.
    """
    ns, sqe = access.ns, access.command.sqe
    if not ns.dps.pit:
        return
    prinfo, tags = prinfo_of(sqe.cdw12), protection.Tags.of(ns, sqe)
    protection.check_command(ns, prinfo, lba, tags)
    ahead = access.lba - lba if sqe.opc == NvmOpcode.ZONE_APPEND and _remaps(ns, sqe) else 0
    if prinfo.pract:
        protection.generate(ns, data, metadata, protection.at(ns, tags, ahead))
    else:
        stc = bool(WriteCdw12(sqe.cdw12).stc)
        protection.check(ns, data, metadata, prinfo, tags, storage=stc)
        protection.remap(ns, metadata, ahead)


def _remaps(ns: Namespace, sqe: SQE) -> bool:
    """Whether an append's reference tags follow the data (PIREMAP, ZNS 1.2, 3.4.1)."""
    remaps = bool(ZoneAppendCdw12(sqe.cdw12).piremap)
    invalid = {ProtectionType.TYPE1: not remaps, ProtectionType.TYPE3: remaps}
    wrong = invalid.get(ProtectionType(ns.dps.pit), False)
    require(not wrong, CommandSpecificStatus.INVALID_PROTECTION_INFO)
    return remaps


# --- commands -------------------------------------------------------------------------------------


def _flush(ctrl: Controller, command: Command) -> None:
    for ns in ctrl.addressed(command.sqe.nsid):
        reservations.check_access(ctrl, ns, writes=True)


def _read(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=False)
    each = _transferred(access.ns, prinfo_of(command.sqe.cdw12))
    _check_length(access, each)
    check_readable(access.ns, access.lba, access.blocks)
    _check_stored(access)
    _to_host(access, each)


def _verify(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=False)
    require(access.blocks * access.ns.block_size <= 4096 << 7)  # VSL
    check_readable(access.ns, access.lba, access.blocks)
    _check_stored(access)


def _compare(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=False)
    each = _transferred(access.ns, prinfo_of(command.sqe.cdw12))
    _check_length(access, each)
    check_readable(access.ns, access.lba, access.blocks)
    _check_stored(access)
    data, metadata = _from_host(access, each)
    same = np.array_equal(data, access.data)
    if each and not access.ns.dps.pit:
        same = same and np.array_equal(metadata, access.metadata)
    require(same, M.COMPARE_FAILURE)


def _write(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=True)
    store(access, append=False)


def store(access: Access, *, append: bool) -> None:
    """Write the host's data to blocks; of an append at the zone's write pointer."""
    ns, command = access.ns, access.command
    cdw12 = WriteCdw12(command.sqe.cdw12)
    each = _transferred(ns, prinfo_of(cdw12))
    _check_length(access, each)
    hint = directives.hint(ns, cdw12.dtype, command.sqe.cdw13)
    first = access.lba
    if ns.zones is not None:
        access.lba = zones.check_write(ns, access.lba, access.blocks, append=append)
    data, metadata = _from_host(access, each)
    _protect(access, data, metadata, first)
    access.data[:] = data
    access.metadata[:] = metadata
    mark_written(ns, access.lba, access.blocks)
    directives.wrote(access.ctrl, ns, hint, access.blocks)
    if ns.zones is not None:
        zones.written(ns, access.lba, access.blocks)


def _append(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=True)
    require(access.ns.zones is not None, G.INVALID_OPCODE)
    store(access, append=True)
    command.dw0, command.dw1 = access.lba & 0xFFFFFFFF, access.lba >> 32


def _clear(access: Access) -> None:
    access.data[:] = 0
    ns = access.ns
    access.metadata[:] = 0xFF if ns.dps.pit else 0
    mark_written(ns, access.lba, access.blocks)


def _write_zeroes(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=True)
    ns = access.ns
    cdw12 = WriteZeroesCdw12(command.sqe.cdw12)
    require(not cdw12.nsz)
    directives.hint(ns, cdw12.dtype, command.sqe.cdw13)
    if ns.zones is not None:
        access.lba = zones.check_write(ns, access.lba, access.blocks)
    _clear(access)
    prinfo = prinfo_of(cdw12)
    if ns.dps.pit and prinfo.pract:
        protection.generate(ns, access.data, access.metadata, protection.Tags.of(ns, command.sqe))
    if ns.zones is not None:
        zones.written(ns, access.lba, access.blocks)


def _write_uncorrectable(ctrl: Controller, command: Command) -> None:
    access = _access(ctrl, command, writes=True)
    ns = access.ns
    directives.hint(ns, WriteCdw12(command.sqe.cdw12).dtype, command.sqe.cdw13)
    if ns.zones is not None:
        access.lba = zones.check_write(ns, access.lba, access.blocks)
        zones.written(ns, access.lba, access.blocks)
    ns.uncorrectable.update(range(access.lba, access.lba + access.blocks))


def _dataset_management(ctrl: Controller, command: Command) -> None:
    sqe = command.sqe
    ns = ctrl.namespace(sqe.nsid)
    count = DatasetManagementCdw10(sqe.cdw10).nr + 1
    whole = receive(command, count * DatasetRange.size)
    ranges = [DatasetRange.from_bytes(whole, at) for at in range(0, len(whole), DatasetRange.size)]
    deallocates = bool(DatasetManagementCdw11(sqe.cdw11).ad)
    for each in ranges:
        check_blocks(ctrl, ns, each.slba, each.nlb, writes=deallocates)
    for each in ranges:
        if deallocates and each.nlb and ns.zones is None:
            _clear(Access(ctrl, command, ns, each.slba, each.nlb))


def _zone_send(ctrl: Controller, command: Command) -> None:
    ns = ctrl.namespace(command.sqe.nsid)
    require(ns.zones is not None, G.INVALID_OPCODE)
    check_blocks(ctrl, ns, 0, 0, writes=True)
    zones.manage(ctrl, command, ns)


def _zone_receive(ctrl: Controller, command: Command) -> None:
    ns = ctrl.namespace(command.sqe.nsid)
    require(ns.zones is not None, G.INVALID_OPCODE)
    reservations.check_access(ctrl, ns, writes=False)
    zones.report(ctrl, command, ns)


# --- of other commands ----------------------------------------------------------------------------


def _cancel(ctrl: Controller, command: Command) -> None:
    """Execute Cancel (Base 2.1, 7.1): commands of its queue that are kept end at once."""
    sqe = command.sqe
    cdw10, action = CancelCdw10(sqe.cdw10), CancelCdw11(sqe.cdw11).acode
    require(cdw10.sqid == command.qid and action in (CancelAction.SINGLE, CancelAction.MULTIPLE))
    if sqe.nsid != NSID_ALL:
        ctrl.namespace(sqe.nsid)
    multiple = action == CancelAction.MULTIPLE
    require(multiple == (cdw10.cid == CID_ALL))
    require(multiple or cdw10.cid != sqe.cid)
    aborted = Status.of(G.ABORTED_BY_REQUEST)
    found = [SQE.from_bytes(raw) for qid, raw in ctrl.core.kept() if qid == command.qid]
    ended = 0
    for each in found:
        if sqe.nsid in (NSID_ALL, each.nsid) and (multiple or each.cid == cdw10.cid):
            ended += ctrl.core.end_kept(command.qid, each.cid, int(aborted))
    command.dw0 = CancelResult.build(cmda=ended)


def fused(ctrl: Controller, command: Command) -> None:
    """Execute one of the two commands of Compare and Write (Base 2.1, 3.4.2)."""
    sqe, place = command.sqe, command.sqe.flags.fuse
    key = command.qid, sqe.cid
    if place == Fuse.FIRST:
        other = command.next
        there = other is not None and other.flags.fuse == Fuse.SECOND
        require(there, G.ABORTED_MISSING_FUSED)
        assert other is not None
        ctrl.fused[command.qid, other.cid] = False
        same = (first_block(sqe), sqe.cdw12 & 0xFFFF, sqe.nsid) == (
            first_block(other),
            other.cdw12 & 0xFFFF,
            other.nsid,
        )
        require(sqe.opc == NvmOpcode.COMPARE and other.opc == NvmOpcode.WRITE and same)
        check_blocks(
            ctrl,
            ctrl.namespace(sqe.nsid),
            first_block(sqe),
            ReadCdw12(sqe.cdw12).nlb + 1,
            writes=True,
        )
        _compare(ctrl, command)
        ctrl.fused[command.qid, other.cid] = True
        return
    require(place == Fuse.SECOND)
    require(key in ctrl.fused, G.ABORTED_MISSING_FUSED)
    require(ctrl.fused.pop(key), G.ABORTED_FAILED_FUSED)
    _write(ctrl, command)


def _reserving(
    execute: Callable[[Controller, Command, Namespace], None],
) -> Callable[[Controller, Command], None]:
    def run(ctrl: Controller, command: Command) -> None:
        execute(ctrl, command, ctrl.namespace(command.sqe.nsid))

    return run


COMMANDS: dict[int, Callable[[Controller, Command], None]] = {
    NvmOpcode.FLUSH: _flush,
    NvmOpcode.WRITE: _write,
    NvmOpcode.READ: _read,
    NvmOpcode.WRITE_UNCORRECTABLE: _write_uncorrectable,
    NvmOpcode.COMPARE: _compare,
    NvmOpcode.WRITE_ZEROES: _write_zeroes,
    NvmOpcode.DATASET_MANAGEMENT: _dataset_management,
    NvmOpcode.VERIFY: _verify,
    NvmOpcode.CANCEL: _cancel,
    NvmOpcode.IO_MANAGEMENT_RECEIVE: placement.management_receive,
    NvmOpcode.IO_MANAGEMENT_SEND: placement.management_send,
    NvmOpcode.ZONE_MANAGEMENT_SEND: _zone_send,
    NvmOpcode.ZONE_MANAGEMENT_RECEIVE: _zone_receive,
    NvmOpcode.ZONE_APPEND: _append,
    **{opcode: _reserving(execute) for opcode, execute in reservations.COMMANDS.items()},
}
