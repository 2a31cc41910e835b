"""Copy (NVM Command Set 1.1, 3.3.2), with every descriptor format."""

from __future__ import annotations

from typing import Any

from pynvme_user.spec.feature_data import HostBehaviorSupport
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify_nvm import GuardFormat
from pynvme_user.spec.nvm_copy import COPY_RANGES, CopyCdw12, CopyFormat, CopyRange
from pynvme_user.spec.protection import PRINFO
from pynvme_user.spec.status import CommandSpecificStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model import directives, protection, zones
from pynvme_user.testing.model.features import value_of
from pynvme_user.testing.model.identify import MCL, MSRC, MSSRL
from pynvme_user.testing.model.nvm import (
    Access,
    check_blocks,
    check_readable,
    first_block,
    mark_written,
)
from pynvme_user.testing.model.state import Controller, Namespace, receive, require

S = CommandSpecificStatus


def _check_format(ctrl: Controller, ns: Namespace, cdw12: CopyCdw12) -> type[CopyRange]:
    """Return the structure of the ranges, where the controller and the host have it."""
    require(cdw12.desfmt in COPY_RANGES)
    form = CopyFormat(cdw12.desfmt)
    enabled = HostBehaviorSupport.from_bytes(value_of(ctrl, FeatureId.HOST_BEHAVIOR_SUPPORT)[1])
    if form == CopyFormat.CROSS_NAMESPACE_8B:
        require(enabled.cdfe.cdf2e)
    if form == CopyFormat.CROSS_NAMESPACE_16B:
        require(enabled.cdfe.cdf3e)
    wide = form in (CopyFormat.SAME_NAMESPACE_16B, CopyFormat.CROSS_NAMESPACE_16B)
    if ns.dps.pit:
        require(wide == (ns.format.guard != GuardFormat.GUARD_16B), S.INVALID_FORMAT)
    return COPY_RANGES[form]


def copy(ctrl: Controller, command: Command) -> None:
    """Execute Copy: a range behind the other; dword 0 names the one that failed."""
    sqe = command.sqe
    ns, cdw12 = ctrl.namespace(sqe.nsid), CopyCdw12(sqe.cdw12)
    kind = _check_format(ctrl, ns, cdw12)
    count = cdw12.nr + 1
    require(count <= MSRC, S.COMMAND_SIZE_LIMIT_EXCEEDED)
    raw = receive(command, count * kind.size)
    ranges = [kind.from_bytes(raw, at) for at in range(0, len(raw), kind.size)]
    total = sum(each.nlb + 1 for each in ranges)
    require(total <= MCL, S.COMMAND_SIZE_LIMIT_EXCEEDED)
    lba = first_block(sqe)
    check_blocks(ctrl, ns, lba, total, writes=True)
    hint = directives.hint(ns, cdw12.dtype, sqe.cdw13)
    if ns.zones is not None:
        zones.check_write(ns, lba, total)
    at = lba
    for number, each in enumerate(ranges):
        command.dw0 = number
        source = ctrl.namespace(getattr(each, "snsid", sqe.nsid))
        blocks = each.nlb + 1
        require(blocks <= MSSRL, S.COMMAND_SIZE_LIMIT_EXCEEDED)
        require(
            (source.format, source.dps) == (ns.format, ns.dps), S.INCOMPATIBLE_NAMESPACE_OR_FORMAT
        )
        check_blocks(ctrl, source, each.slba, blocks, writes=False)
        overlaps = source is ns and each.slba < lba + total and lba < each.slba + blocks
        require(not overlaps, S.OVERLAPPING_IO_RANGE)
        check_readable(source, each.slba, blocks)
        data, metadata = _read(Access(ctrl, command, source, each.slba, blocks), each, cdw12)
        _write(Access(ctrl, command, ns, at, blocks), data, metadata, cdw12, at - lba)
        directives.wrote(ctrl, ns, hint, blocks)
        at += blocks
    command.dw0 = 0
    if ns.zones is not None:
        zones.written(ns, lba, total)


def _read(access: Access, each: CopyRange, cdw12: CopyCdw12) -> tuple[Any, Any]:
    ns = access.ns
    data, metadata = access.data.copy(), access.metadata.copy()
    if ns.dps.pit:
        tags = protection.Tags.join(ns, each.elbt, each.elbat, each.elbatm)
        stc = bool(cdw12.stcr)
        protection.check(ns, data, metadata, PRINFO(cdw12.prinfor), tags, storage=stc)
    return data, metadata


def _write(access: Access, data: Any, metadata: Any, cdw12: CopyCdw12, index: int) -> None:
    ns = access.ns
    if ns.dps.pit:
        prinfo, tags = PRINFO(cdw12.prinfow), protection.Tags.of(ns, access.command.sqe)
        tags = protection.at(ns, tags, index)
        protection.check_command(ns, prinfo, access.lba, tags)
        if prinfo.pract:
            protection.generate(ns, data, metadata, tags)
        else:
            stc = bool(cdw12.stcw)
            protection.check(ns, data, metadata, prinfo, tags, storage=stc)
    access.data[:] = data
    access.metadata[:] = metadata
    mark_written(ns, access.lba, access.blocks)
