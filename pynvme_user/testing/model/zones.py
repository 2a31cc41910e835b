"""Zoned namespaces (ZNS 1.2): the zones' states, and what commands do with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pynvme_user.spec.commands import SQE
from pynvme_user.spec.identify_zns import (
    OZCS,
    ZDE_UNIT,
    ZRWACAP,
    IdentifyNamespaceZns,
    LbaFormatExtension,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.spec.zns import (
    ZA,
    ZS,
    ZT,
    ReportedZones,
    ZoneDescriptor,
    ZoneReceiveAction,
    ZoneReceiveCdw13,
    ZoneReport,
    ZoneSendAction,
    ZoneSendCdw13,
    ZoneState,
    ZoneType,
)
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.state import (
    Controller,
    Namespace,
    Refused,
    receive,
    require,
    send,
)

S, Z = CommandSpecificStatus, ZoneState
MOST_ACTIVE, MOST_OPEN, MOST_ZRWA = 12, 8, 4
ZRWA_BLOCKS, FLUSH_GRANULARITY = 32, 8
_OPEN = (Z.IMPLICITLY_OPENED, Z.EXPLICITLY_OPENED)
_ACTIVE = (*_OPEN, Z.CLOSED)
_EXTENSION_UNITS = 1


@dataclass
class Zone:
    """A zone: its state, and the LBA that is written next."""

    start: int
    capacity: int
    state: ZoneState = Z.EMPTY
    pointer: int = 0
    extension: bytes = b""
    zrwa: bool = False
    #: Of the random write area: what was written in it.
    ahead: set[int] = field(default_factory=set)

    def descriptor(self) -> ZoneDescriptor:
        """Return what a report says of it."""
        undefined = self.state in (Z.FULL, Z.READ_ONLY, Z.OFFLINE)
        return ZoneDescriptor.build(
            zt=ZT.build(zt=ZoneType.SEQUENTIAL_WRITE_REQUIRED),
            zs=ZS.build(zs=self.state),
            za=ZA.build(zdev=bool(self.extension), zrwav=self.zrwa),
            zcap=self.capacity,
            zslba=self.start,
            wp=(1 << 64) - 1 if undefined else self.pointer,
        )


class Zones:
    """All zones of a namespace."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = size
        self.all = [Zone(start, size, pointer=start) for start in range(0, blocks, size)]

    def of(self, lba: int) -> Zone:
        """Return the zone that a block is in."""
        return self.all[lba // self.size]

    def count(self, states: Iterable[ZoneState]) -> int:
        """Count zones in these states."""
        wanted = set(states)
        return sum(zone.state in wanted for zone in self.all)


def identify(ns: Namespace, formats: int) -> bytes:
    """Return what Identify says of a zoned namespace."""
    extension = LbaFormatExtension.build(zsze=ns.zones.size, zdes=_EXTENSION_UNITS)
    none = LbaFormatExtension.build()
    return bytes(
        IdentifyNamespaceZns.build(
            ozcs=OZCS.build(razb=1, zrwasup=1),
            mar=MOST_ACTIVE - 1,
            mor=MOST_OPEN - 1,
            numzrwa=MOST_ZRWA - 1,
            zrwafg=FLUSH_GRANULARITY,
            zrwasz=ZRWA_BLOCKS,
            zrwacap=ZRWACAP.build(expflushsup=1),
            lbafes=[extension if n == ns.index else none for n in range(formats)],
        )
    )


# --- transitions ----------------------------------------------------------------------------------


def _make_room(zones: Zones, zone: Zone, state: ZoneState) -> None:
    """See that a zone may become open or active; close one that is opened implicitly."""
    if zone.state not in _ACTIVE:
        require(zones.count(_ACTIVE) < MOST_ACTIVE, S.ZNS_TOO_MANY_ACTIVE_ZONES)
    if state in _OPEN and zone.state not in _OPEN and zones.count(_OPEN) >= MOST_OPEN:
        other = next((each for each in zones.all if each.state == Z.IMPLICITLY_OPENED), None)
        require(other, S.ZNS_TOO_MANY_OPEN_ZONES)
        assert other is not None
        _close(other)


def _close(zone: Zone) -> None:
    zone.state = Z.EMPTY if zone.pointer == zone.start and not _keeps(zone) else Z.CLOSED


def _keeps(zone: Zone) -> bool:
    return bool(zone.extension) or zone.zrwa


def _finish(zone: Zone) -> None:
    zone.state, zone.pointer = Z.FULL, zone.start + zone.capacity
    zone.zrwa = False
    zone.ahead.clear()


def _refuse_write(zone: Zone) -> None:
    """End a write to a zone that takes none."""
    for state, code in (
        (Z.FULL, S.ZNS_ZONE_IS_FULL),
        (Z.READ_ONLY, S.ZNS_ZONE_IS_READ_ONLY),
        (Z.OFFLINE, S.ZNS_ZONE_IS_OFFLINE),
    ):
        require(zone.state != state, code)


def check_write(ns: Namespace, lba: int, blocks: int, *, append: bool = False) -> int:
    """See that blocks may be written, open their zone; return the LBA at which they are."""
    zones: Zones = ns.zones
    zone = zones.of(lba)
    end = zone.start + zone.capacity
    if append:
        require(lba == zone.start)
        require(not zone.zrwa, S.ZNS_INVALID_ZONE_OPERATION_REQUEST)
    _refuse_write(zone)
    if append:
        lba = zone.pointer
    require(lba + blocks <= end, S.ZNS_BOUNDARY_ERROR)
    if zone.zrwa:
        require(
            zone.pointer <= lba and lba + blocks <= zone.pointer + 2 * ZRWA_BLOCKS,
            S.ZNS_ZONE_INVALID_WRITE,
        )
    else:
        require(lba == zone.pointer, S.ZNS_ZONE_INVALID_WRITE)
    if zone.state not in _OPEN:
        _make_room(zones, zone, Z.IMPLICITLY_OPENED)
        zone.state = Z.IMPLICITLY_OPENED
    return lba


def written(ns: Namespace, lba: int, blocks: int) -> None:
    """Move the write pointer over what was written."""
    zone = ns.zones.of(lba)
    if zone.zrwa:
        zone.ahead |= set(range(lba, lba + blocks))
        beyond = lba + blocks - (zone.pointer + ZRWA_BLOCKS)
        if beyond > 0:
            # An implicit flush, by whole units.
            _flush(zone, zone.pointer + -(-beyond // FLUSH_GRANULARITY) * FLUSH_GRANULARITY)
    else:
        zone.pointer += blocks
    if zone.pointer >= zone.start + zone.capacity:
        _finish(zone)


def _flush(zone: Zone, pointer: int) -> None:
    zone.pointer = min(pointer, zone.start + zone.capacity)
    zone.ahead = {lba for lba in zone.ahead if lba >= zone.pointer}


def check_read(ns: Namespace, lba: int, blocks: int) -> None:
    """See that no zone that is read is offline."""
    for at in range(lba // ns.zones.size, (lba + blocks - 1) // ns.zones.size + 1):
        require(ns.zones.all[at].state != Z.OFFLINE, S.ZNS_ZONE_IS_OFFLINE)


# --- Zone Management Send -------------------------------------------------------------------------

_ALL_OF = {
    ZoneSendAction.CLOSE: _OPEN,
    ZoneSendAction.FINISH: _ACTIVE,
    ZoneSendAction.OPEN: (Z.CLOSED,),
    ZoneSendAction.RESET: (*_ACTIVE, Z.FULL),
    ZoneSendAction.OFFLINE: (Z.READ_ONLY,),
}


def manage(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Zone Management Send (ZNS 1.2, 3.4.3)."""
    sqe = command.sqe
    cdw13 = ZoneSendCdw13(sqe.cdw13)
    zones: Zones = ns.zones
    lba = sqe.cdw11 << 32 | sqe.cdw10
    if cdw13.select_all:
        require(cdw13.zsa in _ALL_OF and not cdw13.zrwaa)
        states = _ALL_OF[ZoneSendAction(cdw13.zsa)]
        chosen = [zone for zone in zones.all if zone.state in states]
        if cdw13.zsa == ZoneSendAction.OPEN:
            there = zones.count((Z.EXPLICITLY_OPENED,))
            require(there + len(chosen) <= MOST_OPEN, S.ZNS_TOO_MANY_OPEN_ZONES)
    else:
        require(lba < ns.blocks, GenericStatus.LBA_OUT_OF_RANGE)
        if cdw13.zsa != ZoneSendAction.FLUSH:
            require(lba % zones.size == 0)
        chosen = [zones.of(lba)]
    for zone in chosen:
        _act(ns, zone, cdw13, command, lba)


def _act(ns: Namespace, zone: Zone, cdw13: ZoneSendCdw13, command: Command, lba: int) -> None:
    state, wrong = zone.state, S.ZNS_INVALID_ZONE_STATE_TRANSITION
    match cdw13.zsa:
        case ZoneSendAction.OPEN:
            require(state in (Z.EMPTY, *_ACTIVE), wrong)
            _open(ns.zones, zone, zrwa=bool(cdw13.zrwaa))
        case ZoneSendAction.CLOSE:
            require(state in _ACTIVE, wrong)
            if state in _OPEN:
                _close(zone)
        case ZoneSendAction.FINISH:
            require(state in (Z.EMPTY, *_ACTIVE, Z.FULL), wrong)
            _finish(zone)
        case ZoneSendAction.RESET:
            require(state in (Z.EMPTY, *_ACTIVE, Z.FULL), wrong)
            zone.state, zone.pointer, zone.extension, zone.zrwa = Z.EMPTY, zone.start, b"", False
            zone.ahead.clear()
            ns.data(zone.start, zone.capacity)[:] = bytes(zone.capacity << ns.format.shift)
        case ZoneSendAction.OFFLINE:
            require(state in (Z.READ_ONLY, Z.OFFLINE), wrong)
            zone.state = Z.OFFLINE
        case ZoneSendAction.SET_DESCRIPTOR_EXTENSION:
            require(state == Z.EMPTY, wrong)
            _make_room(ns.zones, zone, Z.CLOSED)
            zone.extension = receive(command, _EXTENSION_UNITS * ZDE_UNIT)
            zone.state = Z.CLOSED
        case ZoneSendAction.FLUSH:
            require(zone.zrwa, S.ZNS_INVALID_ZONE_OPERATION_REQUEST)
            count = lba + 1 - zone.pointer
            require(0 < count <= ZRWA_BLOCKS and count % FLUSH_GRANULARITY == 0)
            _flush(zone, lba + 1)
            if zone.pointer == zone.start + zone.capacity:
                _finish(zone)
        case _:
            raise Refused(GenericStatus.INVALID_FIELD)


def _open(zones: Zones, zone: Zone, *, zrwa: bool) -> None:
    if zrwa and not zone.zrwa:
        require(zone.state == Z.EMPTY, S.ZNS_INVALID_ZONE_OPERATION_REQUEST)
        taken = sum(each.zrwa for each in zones.all)
        require(taken < MOST_ZRWA, S.ZNS_ZRWA_RESOURCES_UNAVAILABLE)
    _make_room(zones, zone, Z.EXPLICITLY_OPENED)
    zone.state, zone.zrwa = Z.EXPLICITLY_OPENED, zone.zrwa or zrwa


# --- Zone Management Receive ----------------------------------------------------------------------

_REPORTED = {
    ReportedZones.EMPTY: Z.EMPTY,
    ReportedZones.IMPLICITLY_OPENED: Z.IMPLICITLY_OPENED,
    ReportedZones.EXPLICITLY_OPENED: Z.EXPLICITLY_OPENED,
    ReportedZones.CLOSED: Z.CLOSED,
    ReportedZones.FULL: Z.FULL,
    ReportedZones.READ_ONLY: Z.READ_ONLY,
    ReportedZones.OFFLINE: Z.OFFLINE,
}


def report(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Zone Management Receive (ZNS 1.2, 3.4.2)."""
    sqe: SQE = command.sqe
    cdw13 = ZoneReceiveCdw13(sqe.cdw13)
    lba, length = sqe.cdw11 << 32 | sqe.cdw10, (sqe.cdw12 + 1) * 4
    require(lba < ns.blocks, GenericStatus.LBA_OUT_OF_RANGE)
    require(cdw13.zra in (ZoneReceiveAction.REPORT, ZoneReceiveAction.EXTENDED_REPORT))
    require(cdw13.zrasf == ReportedZones.ALL or cdw13.zrasf in _REPORTED)
    require(ZoneReport.size <= length <= ctrl.max_transfer)
    extended = cdw13.zra == ZoneReceiveAction.EXTENDED_REPORT
    found = [
        zone
        for zone in ns.zones.all[lba // ns.zones.size :]
        if not cdw13.zrasf or zone.state == _REPORTED[ReportedZones(cdw13.zrasf)]
    ]
    stride = ZoneDescriptor.size + extended * _EXTENSION_UNITS * ZDE_UNIT
    room = (length - ZoneReport.size) // stride
    entries = [
        (bytes(zone.descriptor()) + zone.extension * extended).ljust(stride, b"\0")
        for zone in found[:room]
    ]
    count = len(entries) if cdw13.partial else len(found)
    page = bytes(ZoneReport.build(nzones=count)) + b"".join(entries)
    send(command, page.ljust(length, b"\0"))
