"""Reservations of the model, between two hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.spec.events import IoCommandEvent
from pynvme_user.spec.feature_data import ExtendedHostIdentifier, HostIdentifier
from pynvme_user.spec.feature_dwords import HostIdentifierCdw11, ReservationNotificationMaskCdw11
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.logs import ReservationNotificationType
from pynvme_user.spec.reservations import (
    AcquireAction,
    ChangePtpl,
    ExtendedReservationStatus,
    RegisterAction,
    ReleaseAction,
    ReservationStatus,
    ReservationType,
)
from pynvme_user.spec.status import GenericStatus
from pynvme_user.testing import SoftDevice

R, G = ReservationType, GenericStatus


@pytest.fixture
def hosts() -> Iterator[list[Controller]]:
    device = SoftDevice("?size=1M&commands=all")
    assert device.model
    other = SoftDevice("?commands=all", subsystem=device.model.subsystem)
    with nvme.open(device) as one, nvme.open(other) as two:
        one.delete_namespace(1)
        one.create_namespace(64, shared=True)
        one.attach_namespace(1, [0, 1])
        for number, ctrl in enumerate((one, two)):
            ctrl.set_feature(
                FeatureId.HOST_IDENTIFIER,
                HostIdentifierCdw11.build(exhid=1),
                data=ExtendedHostIdentifier.build(hostid=(number + 1) << 100 | 7),
            )
        yield [one, two]


@pytest.fixture
def spaces(hosts: list[Controller]) -> list[Namespace]:
    return [ctrl.namespaces[1] for ctrl in hosts]


def can(ns: Namespace) -> tuple[bool, bool]:
    """Tell whether a host may read and write."""
    memory = bytearray(512)
    found = []
    for call in (lambda: ns.read(0, 1), lambda: ns.write(0, memory)):
        try:
            call()
        except nvme.NvmeStatusError as error:
            if error.status.code() is not G.RESERVATION_CONFLICT:
                raise
            found.append(False)
        else:
            found.append(True)
    return found[0], found[1]


#: What another host may do, that is registered and that is not.
RIGHTS = {
    R.WRITE_EXCLUSIVE: ((True, False), (True, False)),
    R.EXCLUSIVE_ACCESS: ((False, False), (False, False)),
    R.WRITE_EXCLUSIVE_REGISTRANTS_ONLY: ((True, True), (True, False)),
    R.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: ((True, True), (False, False)),
    R.WRITE_EXCLUSIVE_ALL_REGISTRANTS: ((True, True), (True, False)),
    R.EXCLUSIVE_ACCESS_ALL_REGISTRANTS: ((True, True), (False, False)),
}


@pytest.mark.parametrize("kind", list(RIGHTS))
def test_who_may_do_what(spaces: list[Namespace], kind: ReservationType) -> None:
    one, two = spaces
    registered, other = RIGHTS[kind]
    one.reservation_register(0xA)
    with refused(G.RESERVATION_CONFLICT):
        one.reservation_acquire(0xB, kind)
    one.reservation_acquire(0xA, kind)
    assert can(one) == (True, True)
    assert can(two) == other
    with refused(G.RESERVATION_CONFLICT):
        two.reservation_acquire(0, kind)
    two.reservation_register(0xB)
    assert can(two) == registered
    report = one.reservation_report()
    assert isinstance(report, ExtendedReservationStatus)
    assert (report.header.rtype, report.header.regstrnt, report.header.gen) == (kind, 2, 2)
    assert [(each.rkey, each.cntlid) for each in report] == [(0xA, 0), (0xB, 1)]
    holders = [each.rcsts.hhr for each in report]
    assert holders == ([1, 1] if "ALL" in kind.name else [1, 0])
    with refused(G.INVALID_FIELD):
        one.reservation_release(0xA, R(kind % 6 + 1))
    one.reservation_release(0xA, kind)
    assert can(two) == (True, True)


def test_one_host_without_an_identifier() -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        ns = ctrl.namespaces[1]
        ns.reservation_register(5)
        ns.reservation_register(5)
        with refused(G.RESERVATION_CONFLICT):
            ns.reservation_register(6)
        with refused(G.RESERVATION_CONFLICT):
            ns.reservation_register(6, key=4, action=RegisterAction.REPLACE)
        ns.reservation_register(6, key=5, action=RegisterAction.REPLACE)
        ns.reservation_register(7, action=RegisterAction.REPLACE, ignore_key=True)
        ns.reservation_acquire(7, R.WRITE_EXCLUSIVE)
        with refused(G.RESERVATION_CONFLICT):
            ns.reservation_acquire(7, R.EXCLUSIVE_ACCESS)
        ns.write(0, b"m" * 512)
        assert ns.read(0, 1) == b"m" * 512
        ns.reservation_register(0, key=7, action=RegisterAction.UNREGISTER)
        assert len(ns.reservation_report()) == 0
        with refused(G.RESERVATION_CONFLICT):
            ns.reservation_register(0, key=7, action=RegisterAction.UNREGISTER)


def test_identifiers_of_64_bits() -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        ctrl.set_feature(FeatureId.HOST_IDENTIFIER, data=HostIdentifier.build(hostid=9))
        ns = ctrl.namespaces[1]
        ns.reservation_register(1, persist=ChangePtpl.PERSIST)
        page = ns.reservation_report(extended=False)
        assert isinstance(page, ReservationStatus)
        assert (page[0].hostid, page.header.ptpls) == (9, 1)


def test_a_report_for_identifiers_that_are_too_long(spaces: list[Namespace]) -> None:
    spaces[0].reservation_register(1)
    with refused(G.HOST_ID_INCONSISTENT_FORMAT):
        spaces[0].reservation_report(extended=False)


def test_preempting(hosts: list[Controller], spaces: list[Namespace]) -> None:
    one, two = spaces
    one.reservation_register(0xA)
    two.reservation_register(0xB)
    one.reservation_acquire(0xA, R.EXCLUSIVE_ACCESS)
    with refused(G.RESERVATION_CONFLICT):
        two.reservation_acquire(0xB, R.EXCLUSIVE_ACCESS)
    with hosts[0].events() as events:
        two.reservation_acquire(
            0xB, R.WRITE_EXCLUSIVE, action=AcquireAction.PREEMPT, preempt_key=0xA
        )
        event = events.wait(5)
        assert event is not None
        assert event.result.aei == IoCommandEvent.RESERVATION_LOG_PAGE_AVAILABLE
        assert event.log.rnlpt == ReservationNotificationType.REGISTRATION_PREEMPTED
        assert (event.log.lpc, event.log.nsid) == (1, 1)
    assert can(one) == (True, False)
    assert [each.rkey for each in two.reservation_report()] == [0xB]
    with refused(G.RESERVATION_CONFLICT):
        two.reservation_acquire(
            0xB, R.WRITE_EXCLUSIVE, action=AcquireAction.PREEMPT, preempt_key=0xC
        )


def test_clearing_and_its_mask(hosts: list[Controller], spaces: list[Namespace]) -> None:
    one, two = spaces
    one.reservation_register(0xA)
    two.reservation_register(0xB)
    one.reservation_acquire(0xA, R.EXCLUSIVE_ACCESS)
    mask = ReservationNotificationMaskCdw11.build(respre=1)
    hosts[1].set_feature(FeatureId.RESERVATION_NOTIFICATION_MASK, mask, nsid=1)
    with hosts[1].events() as events:
        one.reservation_release(0xA, action=ReleaseAction.CLEAR)
        assert events.wait(0.1) is None
        hosts[1].set_feature(FeatureId.RESERVATION_NOTIFICATION_MASK, 0, nsid=1)
        one.reservation_register(0xA)
        two.reservation_register(0xB)
        one.reservation_release(0xA, action=ReleaseAction.CLEAR)
        event = events.wait(5)
        assert event is not None
        assert event.log.rnlpt == ReservationNotificationType.RESERVATION_PREEMPTED
    assert len(one.reservation_report()) == 0
