"""The zones that a device reports: what cannot be is one of our errors, and has an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from soft_controller import OK, SoftController

from pynvme_user import Controller, NamespaceChangedError, NvmeError
from pynvme_user.bench.run.target import _zones
from pynvme_user.bench.run.zoned import ZoneMap
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.status import Status
from pynvme_user.spec.zns import ZoneDescriptor, ZoneReport, ZoneState

ZONE = 100
Change = Callable[[int, dict[str, int]], None]


def identify_with(size: int) -> Callable[[SQE], bytes | None]:
    """Say that the namespace is zoned, with zones of this size."""

    def identify(sqe: SQE) -> bytes | None:
        match sqe.cdw10 & 0xFF:
            case Cns.NAMESPACE_DESCRIPTORS:
                return b"\x04\x01\0\0\x02".ljust(4096, b"\0")
            case Cns.CSI_NAMESPACE:
                return bytes(2816) + size.to_bytes(8, "little") + bytes(1272)
            case Cns.CSI_CONTROLLER:
                return bytes(4096)
        return None

    return identify


@pytest.fixture
def reports(soft: SoftController) -> Callable[..., list[int]]:
    """Let the device report zones of 100 blocks; return the opcodes that it gets."""
    soft.identify = identify_with(ZONE)

    def begin(change: Change = lambda *_: None, count: int | None = None) -> list[int]:
        seen: list[int] = []

        def io(sqe: SQE) -> Status:
            seen.append(sqe.opc)
            if sqe.opc != NvmOpcode.ZONE_MANAGEMENT_RECEIVE:
                return OK
            length = 4 * (sqe.cdw12 + 1)
            starts = range(sqe.cdw10, soft.blocks, ZONE)[: length // 64 - 1]
            data = bytes(ZoneReport.build(nzones=len(starts) if count is None else count))
            for start in starts:
                fields = {"zs": ZoneState.EMPTY << 4, "zslba": start, "zcap": 80, "wp": start}
                change(start, fields)
                data += bytes(ZoneDescriptor.build(**fields))
            soft.fill(sqe, data.ljust(length, b"\0"))
            return OK

        soft.io = io
        return seen

    return begin


def test_zones(ctrl: Controller, reports: Callable[..., list[int]]) -> None:
    def change(start: int, fields: dict[str, int]) -> None:
        if start == 300:
            fields |= {"zs": ZoneState.FULL << 4, "wp": (1 << 64) - 1}
        if start == 400:
            fields |= {"zs": ZoneState.OFFLINE << 4, "wp": 7}
        if start == 500:
            fields |= {"zs": ZoneState.CLOSED << 4, "wp": 530}

    reports(change)
    zones = ZoneMap(ctrl.namespaces[1], ZONE)
    zones.refresh()
    assert [zone.start for zone in zones.zones] == list(range(0, 1000, ZONE))
    assert {zone.end - zone.start for zone in zones.zones} == {80}
    assert [zone.written for zone in zones.zones[2:7]] == [200, 380, 400, 530, 600]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"zs": 0}, "a zone in state 0x0 at LBA 300"),
        ({"zs": 0x70}, "a zone in state 0x7 at LBA 300"),
        (
            {"zslba": 200},
            "a zone of 80 blocks at LBA 200 written up to 300, where one of up to 100",
        ),
        ({"zcap": 101}, "a zone of 101 blocks"),
        ({"zcap": (1 << 64) - 1}, "a zone of 18446744073709551615 blocks"),
        ({"wp": 299}, "written up to 299"),
        ({"wp": 381}, "written up to 381"),
    ],
)
def test_a_zone_that_cannot_be(
    ctrl: Controller, reports: Callable[..., list[int]], fields: dict[str, int], what: str
) -> None:
    reports(lambda start, zone: zone.update(fields) if start == 300 else None)
    with pytest.raises(NvmeError, match=f"namespace 1 of soft reports .*{what}"):
        ZoneMap(ctrl.namespaces[1], ZONE).refresh()


def test_no_zones(ctrl: Controller, reports: Callable[..., list[int]]) -> None:
    seen = reports(count=0)
    with pytest.raises(NvmeError, match="reports no zone at LBA 0"):
        ZoneMap(ctrl.namespaces[1], ZONE).refresh()
    assert len(seen) == 1


def test_no_end_of_zones(
    soft: SoftController, ctrl: Controller, reports: Callable[..., list[int]]
) -> None:
    soft.blocks = (1 << 64) - 1
    seen = reports()
    with pytest.raises(NvmeError, match="reports more than 1048576 zones, of 100 blocks each"):
        ZoneMap(ctrl.namespaces[1], ZONE).refresh()
    assert not seen


def test_another_format(
    soft: SoftController, ctrl: Controller, reports: Callable[..., list[int]]
) -> None:
    """No zone is reset, whose place is another by now."""
    seen = reports()
    zones = ZoneMap(ctrl.namespaces[1], ZONE)
    zones.refresh()
    soft.lbaf = LbaFormat.build(ds=12)
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    seen.clear()
    for call in (zones.reset, zones.finish, zones.renew):
        with pytest.raises(NamespaceChangedError):
            call(zones.zones[3])
    assert not seen


@pytest.mark.parametrize("size", [0, 1001, (1 << 64) - 1])
def test_a_zone_size_that_cannot_be(soft: SoftController, ctrl: Controller, size: int) -> None:
    soft.identify = identify_with(size)
    with pytest.raises(NvmeError, match=f"has 1000 blocks in zones of {size}, which cannot be"):
        _zones(ctrl.namespaces[1])
