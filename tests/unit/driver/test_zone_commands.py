"""The commands about zones: what is sent, and what is said of a device that answers nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import Controller, NvmeError, NvmeStatusError, NvmOpcode, Status
from pynvme_user.driver.completion import Completion
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.identify_zns import (
    OZCS,
    ZRWACAP,
    IdentifyControllerZns,
    IdentifyNamespaceZns,
    LbaFormatExtension,
)
from pynvme_user.spec.status import CommandSpecificStatus
from pynvme_user.spec.zns import ReportedZones, ZoneDescriptor, ZoneList, ZoneState

ZONE = 1 << 33  # blocks, so that LBAs need both dwords
LBA = 2 * ZONE


class Zoned:
    """Says that its namespace is zoned, and keeps I/O commands with their data."""

    def __init__(self, soft: SoftController) -> None:
        self.soft = soft
        self.page: dict[str, Any] = {
            "ozcs": OZCS.build(zrwasup=1),
            "zrwacap": ZRWACAP.build(expflushsup=1),
            "mar": 0xFFFFFFFF,
            "mor": 4,
        }
        self.zsze, self.zdes, self.zasl = ZONE, 1, 0
        self.status, self.dw0 = OK, 0
        self.seen: list[tuple[SQE, bytes]] = []
        self.zones: list[ZoneDescriptor] = []
        soft.blocks = 8 * ZONE
        soft.identify, soft.io = self.identify, self.io

    def identify(self, sqe: SQE) -> bytes | None:
        match sqe.cdw10 & 0xFF:
            case Cns.NAMESPACE_DESCRIPTORS:
                return b"\x04\x01\0\0\x02".ljust(4096, b"\0")
            case Cns.CSI_NAMESPACE:
                extension = LbaFormatExtension.build(zsze=self.zsze, zdes=self.zdes)
                return bytes(IdentifyNamespaceZns.build(lbafes=[extension], **self.page))
            case Cns.CSI_CONTROLLER:
                return bytes(IdentifyControllerZns.build(zasl=self.zasl))
        return None

    def io(self, sqe: SQE) -> Status:
        data = b""
        match sqe.opc:
            case NvmOpcode.ZONE_APPEND:
                data = self.soft.data(sqe, 512 * (sqe.cdw12 % 65536 + 1))
            case NvmOpcode.ZONE_MANAGEMENT_SEND if sqe.cdw13 % 256 == 0x10:
                data = self.soft.data(sqe, 64 * self.zdes)
            case NvmOpcode.ZONE_MANAGEMENT_RECEIVE:
                room = 4 * (sqe.cdw12 + 1)
                stride = 64 * (1 + self.zdes) if sqe.cdw13 & 1 else 64
                first = sqe.cdw10 | sqe.cdw11 << 32
                some = [zone for zone in self.zones if zone.zslba >= first]
                some = some[: (room - 64) // stride]
                page = ZoneList.build(some, stride=stride, nzones=len(some))
                self.soft.fill(sqe, bytes(page).ljust(room, b"\0"))
        assert self.soft._command is not None
        self.soft._command.dw0 = self.dw0
        self.seen.append((sqe, data))
        return self.status

    def take(self) -> list[tuple[SQE, bytes]]:
        seen, self.seen = self.seen, []
        return seen

    def only(self) -> tuple[SQE, bytes]:
        (one,) = self.take()
        return one


@pytest.fixture
def zoned(soft: SoftController) -> Zoned:
    return Zoned(soft)


@pytest.fixture
def ns(zoned: Zoned, ctrl: Controller) -> nvme.Namespace:
    return ctrl.namespaces[1]


def zone(number: int, state: ZoneState = ZoneState.EMPTY, **fields: int) -> ZoneDescriptor:
    start = number * ZONE
    return ZoneDescriptor.build(
        **{"zt": 2, "zs": state << 4, "zslba": start, "zcap": 100, "wp": start} | fields
    )


SENT = {
    "close": (lambda zones: zones.close(LBA), 1),
    "close all": (lambda zones: zones.close(select_all=True), 0x101),
    "finish": (lambda zones: zones.finish(LBA), 2),
    "open": (lambda zones: zones.open(LBA), 3),
    "open with an area": (lambda zones: zones.open(LBA, zrwa=True), 0x203),
    "open all": (lambda zones: zones.open(select_all=True), 0x103),
    "reset": (lambda zones: zones.reset(LBA), 4),
    "reset all": (lambda zones: zones.reset(select_all=True), 0x104),
    "offline": (lambda zones: zones.offline(LBA), 5),
    "flush": (lambda zones: zones.flush(LBA + 7), 0x11),
}


@pytest.mark.parametrize("what", SENT)
def test_what_is_sent(ns: nvme.Namespace, zoned: Zoned, what: str) -> None:
    call, cdw13 = SENT[what]
    call(ns.zones)
    command, _ = zoned.only()
    assert (command.opc, command.nsid) == (NvmOpcode.ZONE_MANAGEMENT_SEND, 1)
    lba = command.cdw10 | command.cdw11 << 32
    assert lba == (0 if "all" in what else LBA + 7 if what == "flush" else LBA)
    assert (command.cdw12, command.cdw13) == (0, cdw13)
    zoned.status = Status.of(CommandSpecificStatus.ZNS_INVALID_ZONE_STATE_TRANSITION)
    action = what.partition(" ")[0].title()
    with pytest.raises(NvmeStatusError, match=rf"{action} .*\(namespace 1\)") as caught:
        call(ns.zones)
    assert caught.value.status.code() is CommandSpecificStatus.ZNS_INVALID_ZONE_STATE_TRANSITION


def test_a_reset_that_changes_the_capacity(ns: nvme.Namespace, zoned: Zoned) -> None:
    assert ns.zones.reset(LBA) is False
    zoned.dw0 = 1
    assert ns.zones.reset(LBA) is True
    assert ns.zones.reset(select_all=True) is True


def test_a_descriptor_extension(ns: nvme.Namespace, zoned: Zoned) -> None:
    ns.zones.set_extension(LBA, b"abc", zrwa=True)
    command, data = zoned.only()
    assert (command.cdw10, command.cdw11, command.cdw13) == (0, 4, 0x210)
    assert data == b"abc".ljust(64, b"\0")


def test_an_append(ns: nvme.Namespace, zoned: Zoned, ctrl: Controller) -> None:
    data = b"x" * 512 + b"y" * 512
    assert ns.zones.append(LBA, data, fua=True) == 0  # which is what the completion says
    command, sent = zoned.only()
    assert (command.opc, command.nsid, sent) == (NvmOpcode.ZONE_APPEND, 1, data)
    assert (command.cdw10, command.cdw11, command.cdw12) == (0, 4, 1 << 30 | 1)
    done = Completion(1, OK, 0, result=0x89ABCDEF, result_upper=0x01234567)
    assert done.lba == 0x0123456789ABCDEF
    zoned.status = Status.of(CommandSpecificStatus.ZNS_ZONE_IS_FULL)
    with pytest.raises(NvmeStatusError, match=f"Zone Append of 1 blocks from LBA {LBA} on"):
        ns.zones.append(LBA, bytes(512))
    zoned.status = OK
    zoned.take()
    with ctrl.queue_pair(depth=4) as pair:
        buffer = ctrl.alloc(1024)
        cids = {pair.submit_append(ns, LBA, 2, buffer) for _ in range(3)}
        assert {done.cid for done in pair.drain()} == cids
        assert len(zoned.take()) == 3
        with pytest.raises(ValueError, match="one append carries up to 32 blocks, not 33"):
            pair.submit_append(ns, LBA, 33, ctrl.alloc(33 * 512))
    assert zoned.take() == []


def test_limits(ns: nvme.Namespace, zoned: Zoned, ctrl: Controller) -> None:
    zones = ns.zones
    assert (zones.zone_blocks, zones.count, zones.extension_size) == (ZONE, 8, 64)
    assert (zones.max_open, zones.max_active, zones.max_append) == (5, None, 32)
    # A reset may have changed what Identify says.
    zoned.zasl = 1
    zoned.page["mor"] = 0xFFFFFFFF
    assert (zones.max_open, zones.max_append) == (5, 32)
    ctrl.reset()
    assert (zones.max_open, zones.max_append) == (None, 16)


def test_what_is_not_there(ns: nvme.Namespace, zoned: Zoned, ctrl: Controller) -> None:
    zoned.page["zrwacap"] = 0
    with pytest.raises(nvme.NotSupportedError, match="random write areas: ZRWACAP bit 0 is 0"):
        ns.zones.flush(LBA)
    zoned.page["ozcs"] = 0
    zoned.zdes = 0
    ctrl.reset()
    for call in (ns.zones.open, ns.zones.set_extension):
        arguments = (LBA, b"") if call == ns.zones.set_extension else (LBA,)
        with pytest.raises(nvme.NotSupportedError, match="namespace 1 of soft does not support"):
            call(*arguments, zrwa=True)
    assert zoned.take() == []
    ns.zones.open(LBA, zrwa=True, force=True)
    ns.zones.flush(LBA, force=True)
    assert [command.cdw13 for command, _ in zoned.take()] == [0x203, 0x11]


def test_a_report(ns: nvme.Namespace, zoned: Zoned) -> None:
    zoned.zones = [zone(number) for number in range(8)]
    found = ns.zones.report(3 * ZONE + 5)
    command, _ = zoned.only()
    assert (command.opc, command.cdw10, command.cdw11) == (0x7A, 0, 6)
    assert command.cdw13 == 1 << 16
    assert list(found) == zoned.zones[3:]
    assert ns.zones.zone(LBA) == zoned.zones[2]
    assert zoned.only()[0].cdw12 == (64 + 64) // 4 - 1
    assert ns.zones.matching(LBA + 1, ReportedZones.FULL) == 0  # no zone fits in 64 bytes
    command, _ = zoned.only()
    assert (command.cdw10, command.cdw11, command.cdw12, command.cdw13) == (0, 4, 15, 5 << 8)
    zoned.zones = [zone(1, ZoneState.FULL), zone(6, ZoneState.FULL)]
    found = ns.zones.report(state=ReportedZones.FULL, count=5, extended=True)
    command, _ = zoned.only()
    assert (command.cdw12, command.cdw13) == ((64 + 5 * 128) // 4 - 1, 1 << 16 | 5 << 8 | 1)
    assert [one.zslba for one in found] == [ZONE, 6 * ZONE]
    assert found.extensions == (bytes(64), bytes(64))


@pytest.mark.parametrize(
    ("state", "zones", "what"),
    [
        (ReportedZones.ALL, [], "no zone at LBA 0"),
        (ReportedZones.ALL, [zone(1)], f"a zone of 100 blocks at LBA {ZONE} written up to"),
        (ReportedZones.FULL, [zone(3), zone(2)], f"of up to {ZONE} at LBA {4 * ZONE} belongs"),
        (ReportedZones.FULL, [zone(3), zone(3)], f"of up to {ZONE} at LBA {4 * ZONE} belongs"),
        (ReportedZones.FULL, [zone(1, zslba=ZONE + 1)], "at LBA 0 belongs"),
        (ReportedZones.FULL, [zone(8)], "at LBA 0 belongs"),
        (ReportedZones.FULL, [zone(1, zcap=ZONE + 1)], f"a zone of {ZONE + 1} blocks"),
        (ReportedZones.EMPTY, [zone(1, zs=0x50)], "a zone in state 0x5"),
    ],
)
def test_a_report_that_cannot_be(
    ns: nvme.Namespace, zoned: Zoned, state: ReportedZones, zones: list[Any], what: str
) -> None:
    zoned.zones = zones
    with pytest.raises(NvmeError, match=f"namespace 1 of soft reports .*{what}"):
        ns.zones.report(state=state)


def test_more_zones_than_there_can_be(soft: SoftController, ctrl: Controller) -> None:
    zoned = Zoned(soft)
    zoned.zsze = 1
    ctrl.reset()
    ns = ctrl.namespaces[1]
    with pytest.raises(NvmeError, match="more than 1048576 zones, of 1 blocks each"):
        list(ns.zones)
    assert zoned.take() == []


def test_another_format(ns: nvme.Namespace, zoned: Zoned, ctrl: Controller) -> None:
    """No zone is touched whose place is another by now."""
    zones = ns.zones
    zoned.soft.lbaf = LbaFormat.build(ds=12)
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    for call in (zones.reset, zones.zone, lambda lba: zones.append(lba, bytes(512))):
        with pytest.raises(nvme.NamespaceChangedError):
            call(LBA)
    assert zoned.take() == []
