"""Pages about health and support: of real devices, their values retyped, and made ones."""

from __future__ import annotations

import json

from pynvme_user.spec import logs
from pynvme_user.spec.logs import CommandEffects, SelfTestOperation, SelfTestOutcome

# An SSD's page from byte 0 on, the rest is zero (nvme-cli's issue 2759).
SMART = bytes.fromhex(
    """
    00 38 01 64 0a 01 00 00 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    3a bc 28 08 00 00 00 00 00 00 00 00 00 00 00 00  c4 fc 4c 03 00 00 00 00 00 00 00 00 00 00 00 00
    2a 46 ac 1c 00 00 00 00 00 00 00 00 00 00 00 00  d9 e5 8b 2f 00 00 00 00 00 00 00 00 00 00 00 00
    d7 04
    """
).ljust(512, b"\0")


def test_a_real_smart_page() -> None:
    log = logs.SmartLog.from_bytes(SMART)
    assert (log.cw, log.ctemp - 273, log.avsp, log.avspt, log.pused) == (0, 39, 100, 10, 1)
    assert (log.dur, log.duw) == (136_887_354, 55_377_092)
    assert (log.hrc, log.hwc, log.cbt) == (481_052_202, 797_697_497, 1239)


def test_a_real_firmware_slot_page() -> None:
    # Linux's nvme driver, as it logged a drive: afi 0x3, frs1 0.4.0, frs2 0.3.0, frs3 0.4.0.
    page = bytearray(512)
    page[0] = 0x03
    page[8:32] = b"0.4.0\0\0\x000.3.0\0\0\x000.4.0\0\0\0"
    log = logs.FirmwareSlotLog.from_bytes(page)
    assert (log.afi.cafs, log.afi.nafs) == (3, 0)
    plain = log.to_dict()
    assert [plain[f"frs{slot}"] for slot in range(1, 8)] == ["0.4.0", "0.3.0", "0.4.0"] + [""] * 4
    assert "frs2      : 0.3.0        Firmware Revision for Slot 2" in log.dump()


def test_a_real_self_test() -> None:
    # nvme-cli's issue 1640; what is not used has a result of Fh.
    page = bytearray(564)
    page[4:32] = bytes.fromhex("27070300 ec06000000000000 01000000 0000000000000000 00000000")
    for result in range(1, 20):
        page[4 + 28 * result] = 0x0F
    log = logs.SelfTestLog.from_bytes(page)
    first, *others = log.results
    assert first.dsts.dstr == SelfTestOutcome.SEGMENT_FAILED
    assert first.dsts.dstc == SelfTestOperation.EXTENDED
    assert (first.segnum, first.poh, first.nsid, first.flba) == (7, 0x6EC, 1, 0)
    assert (first.vdinfo.nsidv, first.vdinfo.flbav, first.vdinfo.sctv) == (1, 1, 0)
    assert {result.dsts.dstr for result in others} == {SelfTestOutcome.NOT_USED}
    assert log.cdsto.cdstos == SelfTestOperation.NONE
    assert any(
        "dstr    : 0x7        Device Self-test Result: SEGMENT_FAILED" in x for x in log.dump()
    )


def test_errors() -> None:
    entry = logs.ErrorLogEntry.build(
        ecnt=9,
        sqid=1,
        cid=0x1234,
        sts=logs.ErrorStatus.build(sct=2, sc=0x81, dnr=1),
        pel=logs.PEL.build(byte=40, bit=3),
        lba=7,
        lpver=1,
    )
    assert entry.sts == 0x8000 | 2 << 9 | 0x81 << 1
    assert entry.pel == 0x0328
    page = logs.ErrorLog.from_bytes(bytes(entry) + bytes(64) + b"cut off")
    assert [error.ecnt for error in page] == [9, 0]
    assert page.size == 128


def test_warnings_of_endurance_groups() -> None:
    warning = logs.EnduranceGroupWarning.build(spare=1, read_only=1)
    assert warning == 0x09
    assert logs.SmartLog.build(egcws=warning).egcws.read_only == 1
    group = logs.EnduranceGroupLog.build(cw=4, egfeat=1, muw=1 << 100)
    assert (group.cw.reliability, group.egfeat.egrmedia, group.muw) == (1, 1, 1 << 100)


def test_sanitize() -> None:
    sstat = logs.SSTAT.build(sos=2, opc=3, gde=1, mvcncld=1)
    assert sstat == 0x031A
    log = logs.SanitizeLog.build(sprog=0x8000, sstat=sstat, ssi=logs.SSI.build(sans=5, fails=2))
    assert bytes(log)[36] == 0x25
    shown = "\n".join(log.dump())
    assert "Sanitize Operation Status: SANITIZING" in shown
    assert "Sanitize State: MEDIA_VERIFICATION" in shown


def test_effects() -> None:
    # Namespace Management, which may change the inventory, and Write, alone in every namespace.
    page = bytearray(4096)
    page[4 * 0x0D : 4 * 0x0D + 4] = bytes.fromhex("09000000")
    page[1024 + 4 * 0x01 : 1024 + 4 * 0x01 + 4] = bytes.fromhex("03001a00")
    log = logs.CommandEffectsLog.from_bytes(page)
    manage, write = log.acs[0x0D], log.iocs[0x01]
    assert (manage.csupp, manage.nic, manage.lbcc, manage.cse) == (1, 1, 0, 0)
    assert (write.csupp, write.lbcc, write.cse, write.uss) == (1, 1, 2, 1)
    assert log.acs[0x0C] == 0
    assert CommandEffects.build(cser=1, nscpe=1, nsscpe=1) == 0x02104000
    assert json.loads(json.dumps(log.to_dict()))["acs"][0x0D] == 9
    assert [line for line in log.dump() if line.startswith("  [")] == [
        "  [0xd] 0x9",
        "  [0x1] 0x1a0003",
    ]


def test_what_is_supported() -> None:
    lids = [0] * 256
    lids[0x0D] = logs.LidSupported.build(lsupp=1, ios=1, lidsp=1)
    log = logs.SupportedLogPages.build(lids=lids)
    assert bytes(log)[0x34:0x38] == bytes.fromhex("03000100")
    assert [lid for lid, entry in enumerate(log.lids) if entry.lsupp] == [0x0D]
    assert logs.FeatureEffects.build(fsupp=1, uss=1, cscpe=1, cdqscp=1) == 0x04280001
    assert logs.MiCommandEffects.build(csupp=1, dscpe=1) == 0x01000001


def test_lockdown() -> None:
    page = bytes.fromhex("12000002 0607").ljust(512, b"\0")
    log = logs.LockdownLog.from_bytes(page)
    assert log.header.cfila.ss == logs.LockdownScope.FEATURES
    assert log.header.cfila.cs == logs.LockdownContents.PROHIBITED_ON_THE_ADMIN_QUEUE
    assert (log.entries, log.size, log.incomplete) == ((6, 7), 512, False)
    assert log == logs.LockdownLog.build([6, 7], cfila=0x12, lngth=2)
