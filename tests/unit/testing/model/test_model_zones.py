"""Zones of the model: every transition, and the status of each that there is none for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.spec.zns import (
    ReportedZones,
    ZoneDescriptor,
    ZoneList,
    ZoneReceiveCdw13,
    ZoneSendAction,
    ZoneSendCdw13,
    ZoneState,
)
from pynvme_user.testing import SoftDevice

S, G, A, Z = CommandSpecificStatus, GenericStatus, ZoneSendAction, ZoneState
SIZE = 64  # blocks of a zone


@pytest.fixture
def device() -> SoftDevice:
    return SoftDevice("?size=1M&commands=all&zoned.zone_size=32k")


@pytest.fixture
def ctrl(device: SoftDevice) -> Iterator[Controller]:
    with nvme.open(device, timeout=5) as ctrl:
        yield ctrl


@pytest.fixture
def ns(ctrl: Controller) -> Namespace:
    return ctrl.namespaces[1]


def send(
    ctrl: Controller,
    action: int,
    zone: int = 0,
    *,
    lba: int | None = None,
    select_all: bool = False,
    zrwa: bool = False,
    data: bytes = b"",
) -> None:
    cdw13 = ZoneSendCdw13.build(zsa=action, select_all=select_all, zrwaa=zrwa)
    ctrl.io(
        NvmOpcode.ZONE_MANAGEMENT_SEND,
        nsid=1,
        buffer=bytearray(data) if data else None,
        cdw10=zone * SIZE if lba is None else lba,
        cdw13=cdw13,
    )


def report(ctrl: Controller, lba: int = 0, length: int = 4096, **fields: int) -> ZoneList:
    raw = bytearray(length)
    ctrl.io(
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
        nsid=1,
        buffer=raw,
        cdw10=lba,
        cdw12=length // 4 - 1,
        cdw13=ZoneReceiveCdw13.build(**fields),
    )
    return ZoneList.from_bytes(raw, stride=ZoneDescriptor.size + 64 * fields.get("zra", 0))


def state(ctrl: Controller, zone: int = 0) -> tuple[ZoneState, int]:
    found = report(ctrl, zone * SIZE)[0]
    return ZoneState(found.zs.zs), found.wp


def append(ctrl: Controller, zone: int, data: bytes) -> int:
    with ctrl.queue_pair(4) as qp:
        memory = ctrl.alloc(len(data))
        memory[:] = bytearray(data)
        sqe = SQE.build(
            opc=NvmOpcode.ZONE_APPEND, nsid=1, cdw10=zone * SIZE, cdw12=len(data) // 512 - 1
        )
        qp.submit(sqe, memory)
        (done,) = qp.drain()
    if not done.status.ok:
        raise nvme.NvmeStatusError(done.status, "append")
    return int(done.result)


def test_writes_move_the_pointer(ctrl: Controller, ns: Namespace) -> None:
    assert state(ctrl) == (Z.EMPTY, 0)
    ns.write(0, b"a" * 1024)
    assert state(ctrl) == (Z.IMPLICITLY_OPENED, 2)
    assert append(ctrl, 0, b"b" * 512) == 2
    assert ns.read(0, 4) == b"a" * 1024 + b"b" * 512 + bytes(512)
    for lba in (2, 4):
        with refused(S.ZNS_ZONE_INVALID_WRITE):
            ns.write(lba, bytes(512))
    with refused(S.ZNS_BOUNDARY_ERROR):
        ns.write(3, bytes(62 * 512))
    with refused(G.INVALID_FIELD):
        ctrl.io(NvmOpcode.ZONE_APPEND, nsid=1, buffer=bytearray(512), cdw10=3)
    ns.write(3, bytes(61 * 512))
    assert state(ctrl)[0] == Z.FULL
    with refused(S.ZNS_ZONE_IS_FULL):
        append(ctrl, 0, bytes(512))
    assert ns.read(60, 8) == bytes(4096)  # across zones


def test_every_transition(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    def make(wanted: ZoneState) -> None:
        assert device.model
        device.model.set_zone_state(1, 0, Z.EMPTY)
        send(ctrl, A.RESET)
        match wanted:
            case Z.IMPLICITLY_OPENED:
                ns.write(0, bytes(512))
            case Z.EXPLICITLY_OPENED:
                send(ctrl, A.OPEN)
            case Z.CLOSED:
                ns.write(0, bytes(512))
                send(ctrl, A.CLOSE)
            case Z.FULL:
                send(ctrl, A.FINISH)
            case Z.READ_ONLY | Z.OFFLINE:
                device.model.set_zone_state(1, 0, wanted)
        assert state(ctrl)[0] == wanted

    after = {
        A.OPEN: dict.fromkeys(
            (Z.EMPTY, Z.IMPLICITLY_OPENED, Z.EXPLICITLY_OPENED, Z.CLOSED), Z.EXPLICITLY_OPENED
        ),
        A.CLOSE: {
            Z.IMPLICITLY_OPENED: Z.CLOSED,
            Z.EXPLICITLY_OPENED: Z.EMPTY,  # nothing was written
            Z.CLOSED: Z.CLOSED,
        },
        A.FINISH: dict.fromkeys(
            (Z.EMPTY, Z.IMPLICITLY_OPENED, Z.EXPLICITLY_OPENED, Z.CLOSED, Z.FULL), Z.FULL
        ),
        A.RESET: dict.fromkeys(
            (Z.EMPTY, Z.IMPLICITLY_OPENED, Z.EXPLICITLY_OPENED, Z.CLOSED, Z.FULL), Z.EMPTY
        ),
        A.OFFLINE: dict.fromkeys((Z.READ_ONLY, Z.OFFLINE), Z.OFFLINE),
    }
    for action, transitions in after.items():
        for before in Z:
            make(before)
            if before in transitions:
                send(ctrl, action)
                assert state(ctrl)[0] == transitions[before]
            else:
                with refused(S.ZNS_INVALID_ZONE_STATE_TRANSITION):
                    send(ctrl, action)
                assert state(ctrl)[0] == before
    for wanted, code in (
        (Z.READ_ONLY, S.ZNS_ZONE_IS_READ_ONLY),
        (Z.OFFLINE, S.ZNS_ZONE_IS_OFFLINE),
    ):
        make(wanted)
        with refused(code):
            ns.write(0, bytes(512))
    with refused(S.ZNS_ZONE_IS_OFFLINE):
        ns.read(0, 1)


def test_limits_of_open_and_active_zones(ctrl: Controller, ns: Namespace) -> None:
    for zone in range(8):
        send(ctrl, A.OPEN, zone)
    with refused(S.ZNS_TOO_MANY_OPEN_ZONES):
        send(ctrl, A.OPEN, 8)
    with refused(S.ZNS_TOO_MANY_OPEN_ZONES):
        ns.write(8 * SIZE, bytes(512))
    send(ctrl, A.RESET, select_all=True)
    for zone in range(12):
        ns.write(zone * SIZE, bytes(512))  # the oldest are closed for it
    assert len(report(ctrl, zrasf=ReportedZones.IMPLICITLY_OPENED)) == 8
    assert len(report(ctrl, zrasf=ReportedZones.CLOSED)) == 4
    with refused(S.ZNS_TOO_MANY_ACTIVE_ZONES):
        ns.write(12 * SIZE, bytes(512))
    send(ctrl, A.FINISH, select_all=True)
    assert len(report(ctrl, zrasf=ReportedZones.FULL)) == 12
    with refused(G.INVALID_FIELD):
        send(ctrl, A.FLUSH, select_all=True)


def test_reports(ctrl: Controller) -> None:
    assert len(report(ctrl)) == 32
    assert len(report(ctrl, 30 * SIZE)) == 2
    short = report(ctrl, length=64 + 3 * 64)
    assert (len(short), short.header.nzones) == (3, 32)
    assert report(ctrl, length=64 + 3 * 64, partial=1).header.nzones == 3
    send(ctrl, A.SET_DESCRIPTOR_EXTENSION, 1, data=b"extension".ljust(64))
    page = report(ctrl, zra=1)
    assert page[1].za.zdev
    assert page.extensions[1].startswith(b"extension")
    assert state(ctrl, 1)[0] == Z.CLOSED
    with refused(S.ZNS_INVALID_ZONE_STATE_TRANSITION):
        send(ctrl, A.SET_DESCRIPTOR_EXTENSION, 1, data=bytes(64))
    for fields in ({"zra": 2}, {"zrasf": 9}):
        with refused(G.INVALID_FIELD):
            report(ctrl, **fields)
    with refused(G.LBA_OUT_OF_RANGE):
        report(ctrl, 2048)
    for action, lba in ((A.OPEN, 3), (9, 0)):
        with refused(G.INVALID_FIELD):
            send(ctrl, action, lba=lba)


def test_the_random_write_area(ctrl: Controller, ns: Namespace) -> None:
    for zone in range(4):
        send(ctrl, A.OPEN, zone, zrwa=True)
    with refused(S.ZNS_ZRWA_RESOURCES_UNAVAILABLE):
        send(ctrl, A.OPEN, 4, zrwa=True)
    with refused(S.ZNS_INVALID_ZONE_OPERATION_REQUEST):
        append(ctrl, 0, bytes(512))
    ns.write(5, b"5" * 512)
    ns.write(2, b"2" * 512)
    ns.write(5, b"6" * 512)
    assert state(ctrl) == (Z.EXPLICITLY_OPENED, 0)
    send(ctrl, A.FLUSH, lba=7)
    assert state(ctrl)[1] == 8
    assert ns.read(5, 1) == b"6" * 512
    with refused(S.ZNS_ZONE_INVALID_WRITE):
        ns.write(7, bytes(512))
    with refused(G.INVALID_FIELD):
        send(ctrl, A.FLUSH, lba=9)
    ns.write(42, bytes(512))  # beyond the area: it moves
    assert state(ctrl)[1] == 16
    with refused(S.ZNS_INVALID_ZONE_OPERATION_REQUEST):
        send(ctrl, A.FLUSH, 5, lba=5 * SIZE)


def test_the_driver_knows_the_zones(ctrl: Controller, ns: Namespace) -> None:
    zones = ns.zones
    assert zones is not None
    assert (zones.zone_blocks, zones.count, zones.max_open, zones.max_active) == (SIZE, 32, 8, 12)
    assert zones.append(SIZE, b"z" * 1024) == SIZE
    assert zones.append(SIZE, b"z" * 512) == SIZE + 2
    assert zones.zone(SIZE).wp == SIZE + 3
    zones.reset(SIZE)
    assert not any(ns.read(SIZE, 3))


def test_no_zones() -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        for opcode in (NvmOpcode.ZONE_MANAGEMENT_SEND, NvmOpcode.ZONE_APPEND):
            with refused(G.INVALID_OPCODE):
                ctrl.io(opcode, nsid=1, buffer=bytearray(512))
