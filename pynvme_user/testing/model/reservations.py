"""Reservations (NVMe Base 2.1, 7.5 to 7.8, 8.1.22): who may do what with a namespace."""

from __future__ import annotations

from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, IoCommandEvent
from pynvme_user.spec.feature_dwords import ReservationNotificationMaskCdw11
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.logs import LogId, ReservationNotificationType
from pynvme_user.spec.reservations import (
    RCSTS,
    AcquireAction,
    ChangePtpl,
    ExtendedRegistrant,
    ExtendedReservationStatus,
    RegisterAction,
    Registrant,
    ReleaseAction,
    ReservationAcquireCdw10,
    ReservationAcquireKeys,
    ReservationRegisterCdw10,
    ReservationRegisterKeys,
    ReservationReleaseCdw10,
    ReservationReleaseKeys,
    ReservationReportCdw11,
    ReservationStatus,
    ReservationType,
)
from pynvme_user.spec.status import GenericStatus
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.features import value_of
from pynvme_user.testing.model.state import (
    Controller,
    Namespace,
    Refused,
    Reservation,
    receive,
    require,
    send,
)

G = GenericStatus
_ALL_REGISTRANTS = (
    ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS,
    ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
)
_REGISTRANTS = (
    *_ALL_REGISTRANTS,
    ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
)
_EXCLUSIVE_ACCESS = (
    ReservationType.EXCLUSIVE_ACCESS,
    ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
    ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
)
N = ReservationNotificationType


def host_of(ctrl: Controller) -> bytes:
    """Return who uses a controller; one without a Host Identifier is a host by itself."""
    if any(ctrl.host_id):
        return ctrl.host_id
    return b"controller" + ctrl.cntlid.to_bytes(6, "little")


def _holds(reservation: Reservation, host: bytes) -> bool:
    if reservation.kind in _ALL_REGISTRANTS:
        return host in reservation.keys
    return reservation.holder == host


def check_access(ctrl: Controller, ns: Namespace, *, writes: bool) -> None:
    """End a command that another host's reservation forbids."""
    reservation, host = ns.reservation, host_of(ctrl)
    if reservation.holder is None or _holds(reservation, host):
        return
    if reservation.kind in _REGISTRANTS and host in reservation.keys:
        return
    if writes or reservation.kind in _EXCLUSIVE_ACCESS:
        raise Refused(G.RESERVATION_CONFLICT)


def _notify(
    ctrl: Controller, ns: Namespace, kind: ReservationNotificationType, hosts: set[bytes]
) -> None:
    """Tell hosts, but the one that did it, of what happened to a reservation."""
    told = hosts - {host_of(ctrl)}
    masks = {N.REGISTRATION_PREEMPTED: "regpre", N.RESERVATION_RELEASED: "resrel"}

    def chosen(other: Controller) -> bool:
        dword = value_of(other, FeatureId.RESERVATION_NOTIFICATION_MASK, ns.nsid)[0]
        masked = getattr(ReservationNotificationMaskCdw11(dword), masks.get(kind, "respre"))
        return host_of(other) in told and other.is_attached(ns) and not masked

    for other in ctrl.subsystem.controllers.values():
        if chosen(other):
            other.notified += 1
            other.notifications.append((other.notified, kind, ns.nsid))
    event = AsyncEventResult.build(
        aet=AsyncEventType.IO_COMMAND_SPECIFIC,
        aei=IoCommandEvent.RESERVATION_LOG_PAGE_AVAILABLE,
        lid=LogId.RESERVATION_NOTIFICATION,
    )
    ctrl.subsystem.notify(event, chosen)


def _release(ctrl: Controller, ns: Namespace) -> None:
    """Be without a reservation; tell the registrants where it was theirs."""
    reservation = ns.reservation
    kind, reservation.holder, reservation.kind = reservation.kind, None, ReservationType.NONE
    if kind in _REGISTRANTS:
        _notify(ctrl, ns, N.RESERVATION_RELEASED, set(reservation.keys))


def _unregister(ctrl: Controller, ns: Namespace, host: bytes) -> None:
    reservation = ns.reservation
    del reservation.keys[host]
    reservation.controllers.pop(host, None)
    if reservation.holder is None:
        return
    if reservation.kind in _ALL_REGISTRANTS:
        if not reservation.keys:
            _release(ctrl, ns)
        elif reservation.holder == host:
            reservation.holder = next(iter(reservation.keys))
    elif reservation.holder == host:
        _release(ctrl, ns)


# --- commands -------------------------------------------------------------------------------------


def register(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Reservation Register (7.6)."""
    cdw10 = ReservationRegisterCdw10(command.sqe.cdw10)
    keys = ReservationRegisterKeys.from_bytes(receive(command, ReservationRegisterKeys.size))
    reservation, host = ns.reservation, host_of(ctrl)
    require(cdw10.cptpl in (ChangePtpl.NO_CHANGE, ChangePtpl.RELEASE, ChangePtpl.PERSIST))
    before = reservation.keys.get(host)
    match cdw10.rrega:
        case RegisterAction.REGISTER:
            require(before in (None, keys.nrkey), G.RESERVATION_CONFLICT)
            reservation.keys[host] = keys.nrkey
        case RegisterAction.UNREGISTER:
            matches = before is not None and (cdw10.iekey or before == keys.crkey)
            require(matches, G.RESERVATION_CONFLICT)
            _unregister(ctrl, ns, host)
        case RegisterAction.REPLACE:
            # A host that is not registered may replace its key where none is looked at.
            matches = cdw10.iekey or before == keys.crkey
            require(matches, G.RESERVATION_CONFLICT)
            reservation.keys[host] = keys.nrkey
        case _:
            raise Refused(G.INVALID_FIELD)
    if host in reservation.keys:
        reservation.controllers[host] = ctrl.cntlid
    if cdw10.cptpl:
        reservation.persists = cdw10.cptpl == ChangePtpl.PERSIST
    reservation.generation += 1


def acquire(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Reservation Acquire (7.5)."""
    cdw10 = ReservationAcquireCdw10(command.sqe.cdw10)
    keys = ReservationAcquireKeys.from_bytes(receive(command, ReservationAcquireKeys.size))
    reservation, host = ns.reservation, host_of(ctrl)
    require(cdw10.rtype in tuple(ReservationType)[1:] and not cdw10.iekey)
    kind = ReservationType(cdw10.rtype)
    require(reservation.keys.get(host) == keys.crkey, G.RESERVATION_CONFLICT)
    match cdw10.racqa:
        case AcquireAction.ACQUIRE:
            if reservation.holder is not None:
                same = _holds(reservation, host) and reservation.kind == kind
                require(same, G.RESERVATION_CONFLICT)
            else:
                reservation.holder, reservation.kind = host, kind
        case AcquireAction.PREEMPT | AcquireAction.PREEMPT_AND_ABORT:
            _preempt(ctrl, ns, keys.prkey, kind)
        case _:
            raise Refused(G.INVALID_FIELD)


def _preempt(ctrl: Controller, ns: Namespace, key: int, kind: ReservationType) -> None:
    reservation, host = ns.reservation, host_of(ctrl)
    victims = {each for each, theirs in reservation.keys.items() if theirs == key}
    held = reservation.holder is not None
    takes_all = held and reservation.kind in _ALL_REGISTRANTS and key == 0
    if takes_all:
        victims = set(reservation.keys)
    require(victims, G.RESERVATION_CONFLICT)
    takes = takes_all or (
        held and reservation.kind not in _ALL_REGISTRANTS and reservation.holder in victims
    )
    require(key or takes_all)
    before, changed = set(reservation.keys), takes and reservation.kind != kind
    for victim in victims - {host}:
        del reservation.keys[victim]
        reservation.controllers.pop(victim, None)
    if takes:
        reservation.holder, reservation.kind = host, kind
    reservation.generation += 1
    _notify(ctrl, ns, N.REGISTRATION_PREEMPTED, victims)
    if changed:
        _notify(ctrl, ns, N.RESERVATION_RELEASED, before - victims)


def release(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Reservation Release (7.7)."""
    cdw10 = ReservationReleaseCdw10(command.sqe.cdw10)
    keys = ReservationReleaseKeys.from_bytes(receive(command, ReservationReleaseKeys.size))
    reservation, host = ns.reservation, host_of(ctrl)
    require(not cdw10.iekey)
    require(reservation.keys.get(host) == keys.crkey, G.RESERVATION_CONFLICT)
    match cdw10.rrela:
        case ReleaseAction.RELEASE:
            if reservation.holder is not None and _holds(reservation, host):
                require(cdw10.rtype == reservation.kind)
                _release(ctrl, ns)
        case ReleaseAction.CLEAR:
            others = set(reservation.keys)
            ns.reservation = Reservation(
                generation=reservation.generation + 1, persists=reservation.persists
            )
            _notify(ctrl, ns, N.RESERVATION_PREEMPTED, others)
        case _:
            raise Refused(G.INVALID_FIELD)


def report(ctrl: Controller, command: Command, ns: Namespace) -> None:
    """Execute Reservation Report (7.8)."""
    sqe = command.sqe
    length = (sqe.cdw10 + 1) * 4
    require(length <= ctrl.max_transfer)
    extended = ReservationReportCdw11(sqe.cdw11).eds
    reservation = ns.reservation
    # Host Identifiers have 128 bits unless all were given as 64.
    require(
        extended or not any(any(host[8:]) for host in reservation.keys),
        G.HOST_ID_INCONSISTENT_FORMAT,
    )
    fields = {
        "gen": reservation.generation & 0xFFFFFFFF,
        "rtype": reservation.kind,
        "regstrnt": len(reservation.keys),
        "ptpls": reservation.persists,
    }
    registrants = [
        (
            {
                "cntlid": reservation.controllers[host],
                "rcsts": RCSTS.build(
                    hhr=reservation.holder is not None and _holds(reservation, host)
                ),
                "rkey": key,
            },
            host,
        )
        for host, key in reservation.keys.items()
    ]
    page: ReservationStatus | ExtendedReservationStatus
    if extended:
        page = ExtendedReservationStatus.build(
            [ExtendedRegistrant.build(hostid=host, **each) for each, host in registrants], **fields
        )
    else:
        page = ReservationStatus.build(
            [
                Registrant.build(hostid=int.from_bytes(host[:8], "little"), **each)
                for each, host in registrants
            ],
            **fields,
        )
    send(command, bytes(page)[:length].ljust(length, b"\0"))


COMMANDS = {
    NvmOpcode.RESERVATION_REGISTER: register,
    NvmOpcode.RESERVATION_ACQUIRE: acquire,
    NvmOpcode.RESERVATION_RELEASE: release,
    NvmOpcode.RESERVATION_REPORT: report,
}
