"""The I/O commands' dwords and data against numbers written out from the specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec import cancel, fdp, nvm, nvm_copy, reservations, zns
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.protection import PRINFO, TagSpace
from pynvme_user.spec.status import CommandSpecificStatus, Status

DWORDS = [
    (nvm.ReadCdw12.build(nlb=7, cetype=1, stc=1), 0x01010007),
    (nvm.WriteCdw12.build(nlb=7, cetype=1, dtype=2), 0x00210007),
    (nvm.WriteUncorrectableCdw12.build(nlb=0xFFFF, dtype=1), 0x0010FFFF),
    (nvm.WriteZeroesCdw12.build(nlb=1, dtype=1, nsz=1, deac=1), 0x02900001),
    (nvm.WriteZeroesResult.build(lbacz=1), 1),
    (nvm.ExtensionCdw13.build(cev=2, dspec=3), 0x00030002),
    (nvm.ReadCdw12.build(prinfo=PRINFO.build(pract=1)), 1 << 29),
    (nvm.ReadCdw12.build(prinfo=PRINFO.build(grdchk=1)), 1 << 28),
    (nvm.ReadCdw12.build(prinfo=PRINFO.build(atchk=1)), 1 << 27),
    (nvm.ReadCdw12.build(prinfo=PRINFO.build(rtchk=1)), 1 << 26),
    (nvm_copy.CopyCdw12.build(nr=1, desfmt=2, prinfor=3, dtype=2), 0x00203201),
    (nvm_copy.CopyCdw12.build(cetype=1, stcw=1, stcr=1, prinfow=8, fua=1, lr=1), 0xE3010000),
    (nvm_copy.SOPT.build(fco=1), 0x8000),
    (nvm_copy.CopyExtension.build(cetype=0xF), 0x0F),
    (cancel.CancelCdw10.build(sqid=3, cid=0x1234), 0x12340003),
    (cancel.CancelCdw11.build(acode=cancel.CancelAction.MULTIPLE), 1),
    (cancel.CancelResult.build(cmda=2, ceda=3), 0x00030002),
    (reservations.ReservationRegisterCdw10.build(rrega=2, iekey=1, disnsrs=1, cptpl=3), 0xC000001A),
    (reservations.ReservationAcquireCdw10.build(racqa=1, iekey=1, rtype=6), 0x0609),
    (reservations.ReservationReleaseCdw10.build(rrela=1, disnsrs=1, rtype=1), 0x0111),
    (reservations.ReservationReportCdw11.build(eds=1, disnsrs=1), 3),
    (reservations.RCSTS.build(hhr=1), 1),
    (fdp.ManagementReceiveCdw10.build(mo=1, mos=2), 0x00020001),
    (fdp.ManagementSendCdw10.build(mo=1, mos=127), 0x007F0001),
    (zns.ZoneSendCdw13.build(zsa=zns.ZoneSendAction.RESET, select_all=1), 0x104),
    (zns.ZoneSendCdw13.build(zsa=zns.ZoneSendAction.OPEN, zrwaa=1), 0x203),
    (zns.ZoneSendCdw13.build(zsa=zns.ZoneSendAction.FLUSH), 0x11),
    (zns.ZoneSendCdw13.build(zsa=zns.ZoneSendAction.SET_DESCRIPTOR_EXTENSION), 0x10),
    (zns.ZoneReceiveCdw13.build(zra=1, zrasf=zns.ReportedZones.OFFLINE, partial=1), 0x10701),
    (zns.ZoneAppendCdw12.build(nlb=1, cetype=1, dtype=1, piremap=1, fua=1), 0x42110001),
    (zns.ZT.build(zt=2), 0x02),
    (zns.ZS.build(zs=zns.ZoneState.FULL), 0xE0),
    (zns.ZA.build(zfc=1, fzr=1, rzr=1, zrwav=1, zdev=1), 0x8F),
    (zns.ZAI.build(fzrtl=1, rzrtl=2), 0x09),
]


@pytest.mark.parametrize(
    ("register", "value"), DWORDS, ids=lambda v: type(v).__name__ if isinstance(v, Register) else ""
)
def test_dword(register: Register, value: int) -> None:
    assert register == value


LAYOUTS: list[tuple[type[Struct], int, str]] = [
    (
        nvm_copy.CopyRange0,
        32,
        "slba 8 8, nlb 16 2, ext 18 1, cev 20 2, elbt 24 4, elbat 28 2, elbatm 30 2",
    ),
    (
        nvm_copy.CopyRange1,
        40,
        "slba 8 8, nlb 16 2, ext 18 1, cev 20 2, elbt 26 10, elbat 36 2, elbatm 38 2",
    ),
    (
        nvm_copy.CopyRange2,
        32,
        "snsid 0 4, slba 8 8, nlb 16 2, ext 18 1, cev 20 2, sopt 22 2, elbt 24 4, elbat 28 2, "
        "elbatm 30 2",
    ),
    (
        nvm_copy.CopyRange3,
        40,
        "snsid 0 4, slba 8 8, nlb 16 2, ext 18 1, cev 20 2, sopt 22 2, elbt 26 10, elbat 36 2, "
        "elbatm 38 2",
    ),
    (reservations.ReservationRegisterKeys, 16, "crkey 0 8, nrkey 8 8"),
    (reservations.ReservationAcquireKeys, 16, "crkey 0 8, prkey 8 8"),
    (reservations.ReservationReleaseKeys, 8, "crkey 0 8"),
    (reservations.ReservationStatusHeader, 24, "gen 0 4, rtype 4 1, regstrnt 5 2, ptpls 9 1"),
    (
        reservations.ExtendedReservationStatusHeader,
        64,
        "gen 0 4, rtype 4 1, regstrnt 5 2, ptpls 9 1",
    ),
    (reservations.Registrant, 24, "cntlid 0 2, rcsts 2 1, hostid 8 8, rkey 16 8"),
    (reservations.ExtendedRegistrant, 64, "cntlid 0 2, rcsts 2 1, rkey 8 8, hostid 16 16"),
    (fdp.ReclaimUnitHandleStatusHeader, 16, "nruhsd 14 2"),
    (fdp.ReclaimUnitHandleDescriptor, 32, "pid 0 2, ruhid 2 2, earutr 4 4, ruamw 8 8"),
    (zns.ZoneReport, 64, "nzones 0 8"),
    (zns.ZoneDescriptor, 64, "zt 0 1, zs 1 1, za 2 1, zai 3 1, zcap 8 8, zslba 16 8, wp 24 8"),
]


@pytest.mark.parametrize(("cls", "size", "layout"), LAYOUTS)
def test_layout(cls: type[Struct], size: int, layout: str) -> None:
    assert cls.size == size
    declared = [f"{f.name} {f.offset} {f.size}" for f in cls.layout if not f.reserved]
    assert declared == layout.split(", ")


def test_the_tags_of_a_copy_range_are_the_fields_of_its_format() -> None:
    assert set(nvm_copy.COPY_RANGES) == set(nvm_copy.CopyFormat) - {4}
    # Of 16 bytes of protection information the tags are big-endian, as stored; of 8 a number.
    wide = TagSpace.of(2 << 7 | 8).join(0xAB, 0x0102030405)
    whole = nvm_copy.CopyRange1.build(slba=1, elbt=wide, elbat=2, elbatm=3)
    assert bytes(whole)[26:] == bytes.fromhex("00000000 ab0102030405 0200 0300")
    narrow = nvm_copy.CopyRange2.build(snsid=9, elbt=0x01020304)
    assert bytes(narrow)[24:28] == bytes.fromhex("04030201")


def test_reservation_status() -> None:
    raw = bytes.fromhex("07000000 01 0100 0000 01") + bytes(14)
    raw += bytes.fromhex("0100 01 0000000000 0800000000000000 0900000000000000")
    status = reservations.ReservationStatus.from_bytes(raw)
    assert (status.header.gen, status.header.ptpls) == (7, 1)
    assert status.header.rtype == reservations.ReservationType.WRITE_EXCLUSIVE
    (host,) = status.entries
    assert (host.cntlid, host.rcsts.hhr, host.hostid, host.rkey) == (1, 1, 8, 9)
    assert "rtype     : 1 (WRITE_EXCLUSIVE) Reservation Type" in status.dump()


def test_extended_reservation_status() -> None:
    raw = bytes.fromhex("07000000 06 0100 0000 00") + bytes(54)
    raw += bytes.fromhex("ffff 00 0000000000 0900000000000000") + bytes(range(16)) + bytes(32)
    (host,) = reservations.ExtendedReservationStatus.from_bytes(raw + bytes(64)).entries
    assert (host.cntlid, host.rkey, host.hostid) == (0xFFFF, 9, bytes(range(16)))


def test_reclaim_unit_handles() -> None:
    raw = bytes(14) + bytes.fromhex("0200")
    raw += bytes.fromhex("0100 0200 03000000 0400000000000000") + bytes(16) + bytes(32)
    status = fdp.ReclaimUnitHandleStatus.from_bytes(raw)
    assert len(status) == 2
    assert (status[0].pid, status[0].ruhid, status[0].earutr, status[0].ruamw) == (1, 2, 3, 4)
    assert fdp.PlacementIdList.build([1, 0x8001]).entries == (1, 0x8001)
    assert bytes(fdp.PlacementIdList.build([1, 0x8001])) == bytes.fromhex("01000180")


def zone(zs: int, za: int = 0, **fields: int) -> bytes:
    return bytes(zns.ZoneDescriptor.build(zt=2, zs=zs << 4, za=za, **fields))


def test_zone_report() -> None:
    raw = bytes(zns.ZoneReport.build(nzones=2)) + zone(1, zcap=80) + zone(0xE, 0x81, zslba=100)
    first, second = zns.ZoneList.from_bytes(raw).entries
    assert (first.zt.zt, first.zs.zs, first.zcap) == (
        zns.ZoneType.SEQUENTIAL_WRITE_REQUIRED,
        zns.ZoneState.EMPTY,
        80,
    )
    assert (second.zs.zs, second.za.zfc, second.za.zdev) == (zns.ZoneState.FULL, 1, 1)


def test_extended_zone_report() -> None:
    raw = bytes(zns.ZoneReport.build(nzones=3))
    raw += zone(1) + bytes(64) + zone(3, 0x80, zslba=100) + b"e" * 64
    report = zns.ZoneList.from_bytes(raw, stride=zns.ZoneDescriptor.size + 64)
    assert [z.zslba for z in report] == [0, 100]
    assert report.extensions == (bytes(64), b"e" * 64)
    assert report.incomplete  # there are more zones than the buffer has room for


def test_zone_states() -> None:
    assert {state.name: int(state) for state in zns.ZoneState} == {
        "EMPTY": 1,
        "IMPLICITLY_OPENED": 2,
        "EXPLICITLY_OPENED": 3,
        "CLOSED": 4,
        "READ_ONLY": 0xD,
        "FULL": 0xE,
        "OFFLINE": 0xF,
    }


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x84, "Invalid Command ID"),
        (0x85, "Incompatible Namespace or Format"),
        (0x86, "Fast Copy Not Possible"),
        (0x87, "Overlapping I/O Range"),
        (0x89, "Insufficient Resources"),
        (0xB6, "Invalid Zone Operation Request"),
        (0xB7, "ZRWA Resources Unavailable"),
        (0xB8, "Zone Boundary Error"),
        (0xB9, "Zone Is Full"),
        (0xBA, "Zone Is Read Only"),
        (0xBB, "Zone Is Offline"),
        (0xBC, "Zone Invalid Write"),
        (0xBD, "Too Many Active Zones"),
        (0xBE, "Too Many Open Zones"),
        (0xBF, "Invalid Zone State Transition"),
    ],
)
def test_statuses_of_io_commands(code: int, text: str) -> None:
    assert Status.of(CommandSpecificStatus(code)).text == text


def test_cancel_is_opcode_18h_and_takes_ffffh_for_all() -> None:
    assert (NvmOpcode.CANCEL, cancel.CID_ALL) == (0x18, 0xFFFF)


LISTS: list[type[StructList[Any, Any]]] = [
    reservations.ReservationStatus,
    reservations.ExtendedReservationStatus,
    fdp.ReclaimUnitHandleStatus,
    fdp.PlacementIdList,
    zns.ZoneList,
]


@pytest.mark.parametrize("kind", LISTS)
@given(raw=st.binary(max_size=500))
def test_no_bytes_make_a_list_raise_but_for_being_short(
    kind: type[StructList[Any, Any]], raw: bytes
) -> None:
    if len(raw) < kind.header_type.size:
        with pytest.raises(ValueError, match=f"takes {kind.header_type.size} bytes"):
            kind.from_bytes(raw)
    else:
        found = kind.from_bytes(raw)
        assert found.to_dict()["entries"] is not None
        found.dump()
