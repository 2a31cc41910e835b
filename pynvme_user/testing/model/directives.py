"""Directives (Base 2.1, 8.1.8): Streams, and Data Placement as far as writes name it."""

from __future__ import annotations

from collections.abc import Iterable

from pynvme_user.spec.commands import NSID_ALL
from pynvme_user.spec.directives import (
    AllocateResourcesCdw12,
    DirectiveCdw11,
    DirectiveParameters,
    Directives,
    DirectiveType,
    EnableDirectiveCdw12,
    IdentifyReceive,
    IdentifySend,
    StreamCapability,
    StreamsParameters,
    StreamsReceive,
    StreamsSend,
    StreamsStatus,
)
from pynvme_user.spec.nvm import ReadWriteCdw13
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model import placement
from pynvme_user.testing.model.state import (
    Controller,
    Namespace,
    Refused,
    Subsystem,
    require,
    send,
)

STREAMS, PLACEMENT = DirectiveType.STREAMS, DirectiveType.DATA_PLACEMENT
MAX_STREAMS = 16

# --- writes ---------------------------------------------------------------------------------------


def hint(ns: Namespace, dtype: int, cdw13: int) -> tuple[int, int]:
    """Return what a write says of its data: DTYPE and DSPEC; zeroes where that does not count.

    Ends a command with a directive that is not enabled, while another is (8.1.8.1).
    """
    if not dtype or not ns.directives:
        return 0, 0
    require(dtype in ns.directives)
    return dtype, ReadWriteCdw13(cdw13).dspec


def wrote(ctrl: Controller, ns: Namespace, said: tuple[int, int], blocks: int) -> None:
    """Take note of what was written."""
    dtype, dspec = said
    if dtype == STREAMS and dspec:
        _use_stream(ctrl.subsystem, ns, dspec)
    if ns.handles:
        placement.wrote(ctrl, ns, dspec if dtype == PLACEMENT else None, blocks)


def _use_stream(subsystem: Subsystem, ns: Namespace, stream: int) -> None:
    """Open a stream, for which another may have to be closed: the oldest (8.1.8.3)."""
    if stream in ns.streams:
        return
    if ns.streams_allocated:
        _trim(ns.streams, ns.streams_allocated - 1)
    else:
        available = _available(subsystem)
        if not available:
            return  # it is a write like any other
        _trim_shared(subsystem, available - 1)
    ns.streams.append(stream)


def _trim(streams: list[int], most: int) -> None:
    del streams[: max(0, len(streams) - most)]


def _trim_shared(subsystem: Subsystem, most: int) -> None:
    """Close streams that use no namespace's own resources."""
    for ns in _sharing(subsystem):
        excess = _shared_open(subsystem) - most
        if excess > 0:
            _trim(ns.streams, len(ns.streams) - excess)


def _sharing(subsystem: Subsystem) -> list[Namespace]:
    return [ns for ns in subsystem.namespaces.values() if not ns.streams_allocated]


def _shared_open(subsystem: Subsystem) -> int:
    return sum(len(ns.streams) for ns in _sharing(subsystem))


def _available(subsystem: Subsystem) -> int:
    return MAX_STREAMS - sum(ns.streams_allocated for ns in subsystem.namespaces.values())


def release(ns: Namespace) -> None:
    """Close all streams of a namespace, and give its resources back."""
    ns.streams.clear()
    ns.streams_allocated = 0


def reset(ctrl: Controller) -> None:
    """Disable streams, which do not last, in namespaces of this controller alone (8.1.8.2.2)."""
    for ns in ctrl.subsystem.namespaces.values():
        if ns.controllers == {ctrl.cntlid}:
            ns.directives.discard(STREAMS)
            release(ns)


# --- Directive Receive ----------------------------------------------------------------------------


def directive_receive(ctrl: Controller, command: Command) -> None:
    """Execute Directive Receive (Base 2.1, 5.1.6)."""
    sqe = command.sqe
    cdw11, length = DirectiveCdw11(sqe.cdw11), (sqe.cdw10 + 1) * 4
    require(length <= ctrl.max_transfer)
    match cdw11.dtype, cdw11.doper:
        case DirectiveType.IDENTIFY, IdentifyReceive.RETURN_PARAMETERS:
            require(sqe.nsid != NSID_ALL)
            page = bytes(_parameters(ctrl.namespace(sqe.nsid)))
        case DirectiveType.STREAMS, StreamsReceive.RETURN_PARAMETERS:
            page = bytes(_streams(ctrl, sqe.nsid))
        case DirectiveType.STREAMS, StreamsReceive.GET_STATUS:
            page = bytes(_status(ctrl, sqe.nsid))
        case DirectiveType.STREAMS, StreamsReceive.ALLOCATE_RESOURCES:
            wanted = AllocateResourcesCdw12(sqe.cdw12).nsr
            command.dw0 = _allocate(ctrl, ctrl.namespace(sqe.nsid), wanted)
            return
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)
    send(command, page[:length].ljust(length, b"\0"))


def _set_of(ns: Namespace) -> Directives:
    return Directives.build(idir=1, sdir=STREAMS in ns.directives, dpdir=PLACEMENT in ns.directives)


def _parameters(ns: Namespace) -> DirectiveParameters:
    return DirectiveParameters.build(
        supported=Directives.build(idir=1, sdir=1, dpdir=1),
        enabled=_set_of(ns),
        persistent=Directives.build(dpdir=1),
    )


def _with_streams(ctrl: Controller, nsid: int) -> list[Namespace]:
    """Return the namespaces that a command of streams addresses, some of which have them."""
    found = [ns for ns in ctrl.addressed(nsid) if STREAMS in ns.directives]
    require(found)
    return found


def _streams(ctrl: Controller, nsid: int) -> StreamsParameters:
    first, *_ = _with_streams(ctrl, nsid)
    ns = None if nsid == NSID_ALL else first
    return StreamsParameters.build(
        msl=MAX_STREAMS,
        nssa=_available(ctrl.subsystem),
        nsso=_shared_open(ctrl.subsystem),
        nssc=StreamCapability.build(ssid=1),
        sws=8,
        sgs=64,
        nsa=ns.streams_allocated if ns else 0,
        nso=len(ns.streams) if ns else 0,
    )


def _status(ctrl: Controller, nsid: int) -> StreamsStatus:
    spaces: Iterable[Namespace] = _with_streams(ctrl, nsid)
    if nsid == NSID_ALL:
        spaces = _sharing(ctrl.subsystem)
    found = sorted({stream for ns in spaces for stream in ns.streams})
    return StreamsStatus.build(found, osc=len(found))


def _allocate(ctrl: Controller, ns: Namespace, wanted: int) -> int:
    require(STREAMS in ns.directives and not ns.streams_allocated)
    available = _available(ctrl.subsystem)
    failed = CommandSpecificStatus.STREAM_RESOURCE_ALLOCATION_FAILED
    require(wanted and available, failed)
    ns.streams_allocated = min(wanted, available)
    _trim(ns.streams, ns.streams_allocated)
    _trim_shared(ctrl.subsystem, _available(ctrl.subsystem))
    return ns.streams_allocated


# --- Directive Send -------------------------------------------------------------------------------


def directive_send(ctrl: Controller, command: Command) -> None:
    """Execute Directive Send (Base 2.1, 5.1.7)."""
    sqe = command.sqe
    cdw11 = DirectiveCdw11(sqe.cdw11)
    match cdw11.dtype, cdw11.doper:
        case DirectiveType.IDENTIFY, IdentifySend.ENABLE_DIRECTIVE:
            cdw12 = EnableDirectiveCdw12(sqe.cdw12)
            _enable(ctrl, sqe.nsid, cdw12.dtype, enable=bool(cdw12.endir))
        case DirectiveType.STREAMS, StreamsSend.RELEASE_IDENTIFIER:
            require(sqe.nsid != NSID_ALL)
            (ns,) = _with_streams(ctrl, sqe.nsid)
            if cdw11.dspec in ns.streams:
                ns.streams.remove(cdw11.dspec)
        case DirectiveType.STREAMS, StreamsSend.RELEASE_RESOURCES:
            for ns in _with_streams(ctrl, sqe.nsid):
                if ns.streams_allocated:
                    release(ns)
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)


def _enable(ctrl: Controller, nsid: int, dtype: int, *, enable: bool) -> None:
    require(dtype in (STREAMS, PLACEMENT))
    places = dtype == PLACEMENT
    require(not places or nsid != NSID_ALL, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    spaces = ctrl.addressed(nsid)
    if places:
        require(all(ns.handles for ns in spaces), GenericStatus.FDP_DISABLED)
    elif enable:
        require(not any(ns.handles for ns in spaces))
    for ns in spaces:
        if enable:
            ns.directives.add(dtype)
            continue
        ns.directives.discard(dtype)
        if not places:
            release(ns)
