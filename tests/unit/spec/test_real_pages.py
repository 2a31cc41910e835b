"""Pages of real drives: values that public projects carry, retyped.

What was shown in hexadecimal stands here as it was, but for serial numbers. What was shown by its
fields is put together by `page`, each value at its offset in the specification.
"""

from __future__ import annotations

import pytest

from pynvme_user.spec import logs
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace
from pynvme_user.spec.status import GenericStatus, MediaStatus, Status


def page(size: int, *values: tuple[int, int, int] | tuple[int, bytes]) -> bytes:
    """Make a page of what is at which offset: bytes, or a width in bytes and a number."""
    made = bytearray(size)
    for offset, *value in values:
        raw = value[0] if len(value) == 1 else value[1].to_bytes(value[0], "little")
        assert isinstance(raw, bytes)
        assert not any(made[offset : offset + len(raw)])
        made[offset : offset + len(raw)] = raw
    assert len(made) == size
    return bytes(made)


# --- Identify Controller, from byte 0 on ---------------------------------------------------------

SAMSUNG_SM961 = """
    4d 14 4d 14 58 58 58 58 58 58 58 58 58 58 58 58  58 58 20 20 20 20 20 20 53 41 4d 53 55 4e 47 20
    4d 5a 56 4b 57 35 31 32 48 4d 4a 50 2d 30 30 30  4c 37 20 20 20 20 20 20 20 20 20 20 20 20 20 20
    36 4c 36 51 43 58 41 37 02 38 25 00 00 00 02 00  00 02 01 00 a0 86 01 00 40 4b 4c 00 00 00 00 00
"""
SAMSUNG_PM1733 = """
    4d 14 4d 14 58 58 58 58 58 58 58 58 58 58 58 58  58 58 20 20 20 20 20 20 4d 5a 57 4c 52 33 54 38
    48 42 4c 53 2d 30 30 41 47 47 20 20 20 20 20 20  20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20
    4d 50 4b 39 41 50 35 54 00 38 25 00 02 08 00 00  00 03 01 00 80 ba 8c 01
"""
WD_SN730 = """
    b7 15 b7 15 58 58 58 58 58 58 58 58 58 58 58 58  20 20 20 20 20 20 20 20 57 44 43 20 43 4c 20 53
    4e 37 33 30 20 53 44 42 51 4e 54 59 2d 32 35 36  47 2d 32 30 32 30 20 20 20 20 20 20 20 20 20 20
    46 4f 30 30 38 4d 32 4f 04 44 1b 00 00 07 17 20  00 03 01 00 20 a1 07 00 40 42 0f 00 00 03 00 00
    02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
"""


@pytest.mark.parametrize(
    ("raw", "mn", "fr", "numbers"),
    [
        (
            SAMSUNG_SM961,
            "SAMSUNG MZVKW512HMJP-000L7",
            "6L6QCXA7",
            (0x144D, 0x144D, 2, 0x002538, 0, 0, 2, 0x10200, 100_000, 5_000_000, 0, 0),
        ),
        (
            SAMSUNG_PM1733,
            "MZWLR3T8HBLS-00AGG",
            "MPK9AP5T",
            (0x144D, 0x144D, 0, 0x002538, 2, 8, 0, 0x10300, 26_000_000, 0, 0, 0),
        ),
        (
            WD_SN730,
            "WDC CL SN730 SDBQNTY-256G-2020",
            "FO008M2O",
            (0x15B7, 0x15B7, 4, 0x001B44, 0, 7, 0x2017, 0x10300, 500_000, 1_000_000, 0x300, 2),
        ),
    ],
    ids=["Samsung SM961", "Samsung PM1733", "WD SN730"],
)
def test_controllers(raw: str, mn: str, fr: str, numbers: tuple[int, ...]) -> None:
    """nvme-cli's pull requests 1723 and 836."""
    ctrl = IdentifyController.from_bytes(bytes.fromhex(raw).ljust(4096, b"\0"))
    assert (ctrl.mn, ctrl.fr, set(ctrl.sn)) == (mn, fr, {"X"})
    head = (ctrl.vid, ctrl.ssvid, ctrl.rab, ctrl.ieee, ctrl.cmic, ctrl.mdts, ctrl.cntlid, ctrl.ver)
    assert (*head, ctrl.rtd3r, ctrl.rtd3e, ctrl.oaes, ctrl.ctratt) == numbers


def test_what_those_controllers_say() -> None:
    samsung, western = (
        IdentifyController.from_bytes(bytes.fromhex(raw).ljust(4096, b"\0"))
        for raw in (SAMSUNG_PM1733, WD_SN730)
    )
    assert (samsung.cmic.mctrs, samsung.cmic.mports) == (1, 0)
    assert (samsung.ver.mjr, samsung.ver.mnr, samsung.ver.ter) == (1, 3, 0)
    assert (western.oaes.nan, western.oaes.fan) == (1, 1)
    assert (western.ctratt.nopspm, western.ctratt.hids) == (1, 0)


def power_states(states: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """Place power states: centiwatts, microseconds to enter and to leave, relative values."""
    placed: list[tuple[int, int, int]] = []
    for index, (power, enter, leave, relative) in enumerate(states):
        at = 2048 + 32 * index
        placed += [(at, 2, power), (at + 4, 4, enter), (at + 8, 4, leave)]
        placed += [(at + 12 + n, 1, relative) for n in range(4)]
    return placed


MICRON_9300 = page(
    4096,
    *((0, 2, 0x1344), (2, 2, 0x1344), (24, b"Micron_9300_MTFDHAL3T8TDP".ljust(40))),
    *((64, b"11300DN0"), (73, 3, 0x00A075), (77, 1, 5), (78, 2, 1), (80, 4, 0x10200)),
    *((84, 4, 0xE4E1C0), (88, 4, 0x989680), (92, 4, 0x300), (256, 2, 0xE), (258, 1, 4)),
    *((259, 1, 5), (260, 1, 0x17), (261, 1, 2), (262, 1, 62), (263, 1, 15), (264, 1, 1)),
    *((266, 2, 348), (268, 2, 353), (270, 2, 50), (280, 16, 3_840_755_982_336)),
    *((512, 1, 0x66), (513, 1, 0x44), (516, 4, 32), (520, 2, 0x14), (524, 1, 4), (530, 1, 1)),
    (768, b"nqn.2016-08.com.micron:nvme:nvm-subsystem-sn-XXXXXXXXXXXX"),
    *power_states([(2500 - 100 * n, 100 + 15 * n, 100 + 15 * n, n) for n in range(16)]),
)


def test_a_controller_with_all_its_power_states() -> None:
    """Micron 9300, a fixture of ironlib."""
    ctrl = IdentifyController.from_bytes(MICRON_9300)
    assert (ctrl.vid, ctrl.ieee, ctrl.mn) == (0x1344, 0x00A075, "Micron_9300_MTFDHAL3T8TDP")
    assert (ctrl.tnvmcap, ctrl.unvmcap, ctrl.nn) == (3_840_755_982_336, 0, 32)
    assert (ctrl.wctemp - 273, ctrl.cctemp - 273, ctrl.mtfa) == (75, 80, 50)
    assert (ctrl.rtd3r, ctrl.rtd3e) == (15_000_000, 10_000_000)
    assert (ctrl.oacs.nms, ctrl.oacs.fwds, ctrl.oacs.fnvms, ctrl.oacs.ssrs) == (1, 1, 1, 0)
    assert (ctrl.frmw.ffsro, ctrl.frmw.nofs, ctrl.frmw.fawr) == (1, 3, 1)
    assert (ctrl.lpa.smarts, ctrl.lpa.cses, ctrl.lpa.lpeds) == (0, 1, 0)
    assert (ctrl.oncs.nvmdsmsv, ctrl.oncs.ssfs, ctrl.oncs.nvmcmps) == (1, 1, 0)
    assert (ctrl.fna.cryes, ctrl.fna.fns, ctrl.fna.sens) == (1, 0, 0)
    assert (ctrl.sqes.min, ctrl.sqes.max) == (6, 6)
    assert (ctrl.cqes.min, ctrl.cqes.max) == (4, 4)
    assert ctrl.subnqn == "nqn.2016-08.com.micron:nvme:nvm-subsystem-sn-XXXXXXXXXXXX"
    states = ctrl.psds[: ctrl.npss + 1]
    assert [state.mp for state in states] == [2500 - 100 * n for n in range(16)]
    last = states[-1]
    assert (last.enlat, last.exlat) == (325, 325)
    assert (last.rrt, last.rrl, last.rwt, last.rwl) == (15, 15, 15, 15)
    assert (last.flags.mxps, last.flags.nops) == (0, 0)


KINGSTON_NV2 = page(
    4096,
    *((0, 2, 0x2646), (2, 2, 0x2646), (24, b"KINGSTON SNV2S250G".ljust(40)), (64, b"ELFK0S.4")),
    *((72, 1, 4), (73, 3, 0x0026B7), (77, 1, 6), (80, 4, 0x10400), (84, 4, 0x186A0)),
    *((88, 4, 0x4C4B40), (96, 4, 2), (111, 1, 1), (256, 2, 0x17), (258, 1, 3), (259, 1, 3)),
    *((260, 1, 0x12), (261, 1, 0x1E), (262, 1, 62), (263, 1, 4), (264, 1, 1), (265, 1, 1)),
    *((266, 2, 350), (268, 2, 352), (270, 2, 100), (272, 4, 16384), (276, 4, 16384)),
    *((280, 16, 250_059_350_016), (316, 2, 30), (319, 1, 4), (322, 2, 1), (324, 2, 273)),
    *((326, 2, 350), (328, 4, 0xA0000002), (332, 4, 1024), (336, 2, 16), (352, 4, 96)),
)


def test_a_controller_that_asks_for_host_memory() -> None:
    """Kingston NV2 of 250 GB, issue 72 of FOG's fos."""
    ctrl = IdentifyController.from_bytes(KINGSTON_NV2)
    assert (ctrl.mn, ctrl.fr, ctrl.ver) == ("KINGSTON SNV2S250G", "ELFK0S.4", 0x10400)
    assert (ctrl.hmpre << 12, ctrl.hmmin << 12) == (64 << 20, 64 << 20)
    assert (ctrl.hmminds << 12, ctrl.hmmaxd) == (4 << 20, 16)
    assert (ctrl.sanicap.ces, ctrl.sanicap.bes, ctrl.sanicap.ows) == (0, 1, 0)
    assert (ctrl.sanicap.ndi, ctrl.sanicap.nodmmas) == (1, 2)
    assert (ctrl.oacs.ssrs, ctrl.oacs.dsts, ctrl.oacs.nms) == (1, 1, 0)
    assert (ctrl.hctma.hctms, ctrl.mntmt, ctrl.mxtmt, ctrl.edstt) == (1, 273, 350, 30)
    assert (ctrl.lpa.lpeds, ctrl.lpa.ts, ctrl.lpa.pes) == (1, 1, 1)
    assert (ctrl.pels, ctrl.npss, ctrl.apsta.aps) == (96, 4, 1)
    assert ctrl.tnvmcap == 250_059_350_016


# --- Identify Namespace --------------------------------------------------------------------------


def test_a_namespace_in_use() -> None:
    """A drive of 1 TB with the one format, issue 1194 of udisks."""
    raw = page(4096, (0, 8, 0x773BD2B0), (8, 8, 0x773BD2B0), (16, 8, 0x6B6B9548), (128, 4, 9 << 16))
    ns = IdentifyNamespace.from_bytes(raw)
    assert (ns.nsze, ns.ncap, ns.nuse) == (2_000_409_264, 2_000_409_264, 0x6B6B9548)
    assert ns.nsze << ns.lbafs[ns.flbas.fidxl].ds == 1_024_209_543_168
    assert (ns.nsfeat, ns.nlbaf, ns.flbas, ns.mc, ns.dpc, ns.dps) == (0, 0, 0, 0, 0, 0)


def test_a_namespace_with_five_formats() -> None:
    """Of which the second is in use, issue 2811 of nvme-cli."""
    formats = [(0, 9, 1), (8, 9, 3), (0, 12, 0), (8, 12, 2), (64, 12, 3)]
    placed = [(128 + 4 * n, 4, ms | ds << 16 | rp << 24) for n, (ms, ds, rp) in enumerate(formats)]
    ns = IdentifyNamespace.from_bytes(page(4096, (25, 1, 4), (26, 1, 1), *placed))
    assert [(one.ms, one.ds, one.rp) for one in ns.lbafs[: ns.nlbaf + 1]] == formats
    assert ns.lbafs[ns.flbas.fidxl].ms == 8


# --- SMART / Health Information ------------------------------------------------------------------

#: Of smartctl_exporter's test data: cw, °C, avsp, avspt, pused; dur, duw, hrc, hwc, cbt, pwrc, poh,
#: upl, mdie, neile; sensors in °C.
SMART = {
    "Intel SSDPE2KX010T8": (
        (0, 36, 99, 10, 73),
        (1152411394, 5165815292, 101762817898, 166689758596, 17221, 10, 8843, 7, 0, 0),
        (),
    ),
    "Intel SSDPEDMD016T4": (
        (0, 21, 99, 10, 41),
        (6933871372, 32381395004, 337375119290, 1694335138991, 16, 27, 57288, 0, 0, 0),
        (),
    ),
    "Micron 7400 MTFDKCB3T2TFC": (
        (0, 24, 100, 10, 0),
        (58862015, 124370358, 1516688038, 6089266363, 3476, 8, 10346, 5, 0, 9),
        (30, 25, 24),
    ),
    "Samsung MZQLB1T9HAJR-00007": (
        (0, 41, 100, 10, 0),
        (12319491, 48131060, 78560447, 506591500, 232, 7, 20701, 0, 0, 14),
        (41, 45, 48),
    ),
    "Toshiba KXG60ZNV512G": (
        (0, 37, 100, 10, 1),
        (15794760, 3861802, 97929810, 99025670, 463, 30, 12173, 15, 0, 0),
        (37,),
    ),
    "Crucial CT250P2SSD8": (
        (0, 26, 100, 5, 0),
        (4932757, 1002900, 38087906, 29940645, 1675, 8, 10147, 5, 0, 1),
        (40,),
    ),
}


@pytest.mark.parametrize("drive", SMART)
def test_health(drive: str) -> None:
    (cw, celsius, avsp, avspt, pused), counters, sensors = SMART[drive]
    head = ((0, 1, cw), (1, 2, celsius + 273), (3, 1, avsp), (4, 1, avspt), (5, 1, pused))
    placed = [(32 + 16 * n, 16, value) for n, value in enumerate(counters)]
    placed += [(200 + 2 * n, 2, value + 273) for n, value in enumerate(sensors)]
    log = logs.SmartLog.from_bytes(page(512, *head, *placed))
    assert (log.cw, log.ctemp - 273, log.avsp, log.avspt, log.pused) == SMART[drive][0]
    found = (log.dur, log.duw, log.hrc, log.hwc, log.cbt, log.pwrc, log.poh)
    assert (*found, log.upl, log.mdie, log.neile) == counters
    assert [kelvin - 273 for kelvin in log.tsen if kelvin] == list(sensors)
    assert (log.wctt, log.cctt) == (0, 0)
    assert f"pused     : {pused}" in "\n".join(log.dump())


# --- Error Information ---------------------------------------------------------------------------


def test_errors_of_media() -> None:
    """Issue 17 of SPDK and issue 800 of nvme-cli: Unrecovered Read Error."""
    entries = logs.ErrorLog.from_bytes(
        page(
            128,
            *((0, 8, 1), (8, 2, 1), (10, 2, 0x69), (12, 2, 0x4502), (16, 8, 0x1190B298)),
            *((24, 4, 1), (64, 8, 9290042), (72, 2, 52), (74, 2, 0x221), (76, 2, 0xC502)),
            *((80, 8, 0x19408A50), (96, 8, 0x01010101)),
        )
    )
    one, other = entries
    assert (one.ecnt, one.sqid, one.cid, one.lba, one.nsid) == (1, 1, 0x69, 0x1190B298, 1)
    assert (other.ecnt, other.sqid, other.cid, other.lba) == (9290042, 52, 0x221, 0x19408A50)
    assert (other.nsid, other.csinfo) == (0, 0x01010101)
    for entry in entries:
        status = Status(entry.sts >> 1)
        assert status.code() is MediaStatus.UNRECOVERED_READ_ERROR
    assert (one.sts.dnr, other.sts.dnr) == (0, 1)


def test_an_error_of_a_field() -> None:
    """Issue 3339 of nvme-cli: Invalid Field in Command, at byte 40 of it, dword 10."""
    raw = page(64, (0, 8, 17), (10, 2, 0x6010), (12, 2, 0x2002 << 1 | 1), (14, 2, 0x28))
    (entry,) = logs.ErrorLog.from_bytes(raw)
    assert (entry.ecnt, entry.sqid, entry.cid) == (17, 0, 0x6010)
    assert Status(entry.sts >> 1).code() is GenericStatus.INVALID_FIELD
    assert (entry.sts.m, entry.sts.dnr, entry.sts.p) == (1, 0, 1)
    assert (entry.pel.byte, entry.pel.bit) == (40, 0)


# --- other log pages -----------------------------------------------------------------------------


def test_effects() -> None:
    """Issue 2405 of nvme-cli: by the admin command's opcode, then by the I/O command's."""
    plain = (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 16, 17, 20)
    admin = dict.fromkeys(plain, 1) | {128: 0x00020003, 129: 0x00020003, 130: 0x00010001}
    placed = [(4 * opcode, 4, effect) for opcode, effect in admin.items()]
    log = logs.CommandEffectsLog.from_bytes(
        page(4096, *placed, (1024, 4, 0x00010001), (1028, 4, 0x00000003))
    )
    assert [opcode for opcode, effect in enumerate(log.acs) if effect.csupp] == [*admin]
    formats, receive = log.acs[128], log.acs[130]
    assert (formats.lbcc, formats.ncc, formats.nic, formats.cse) == (1, 0, 0, 2)
    assert (receive.lbcc, receive.cse) == (0, 1)
    flush, write = log.iocs[:2]
    assert (flush.csupp, flush.lbcc, flush.cse) == (1, 0, 1)
    assert (write.csupp, write.lbcc, write.cse) == (1, 1, 0)


def test_firmware_slots() -> None:
    """A Samsung drive with firmware in one of three slots, issue 332 of nvme-cli."""
    raw = page(512, (0, 1, 0x11), (8, 8, 0x51334234414E5047))
    log = logs.FirmwareSlotLog.from_bytes(raw)
    assert (log.afi.cafs, log.afi.nafs) == (1, 1)
    plain = log.to_dict()
    assert [plain[f"frs{slot}"] for slot in range(1, 8)] == ["GPNA4B3Q"] + [""] * 6


def test_telemetry_without_data() -> None:
    """A Western Digital drive that has none for the host, issue 2626 of nvme-cli."""
    log = logs.TelemetryHostLog.from_bytes(bytes.fromhex("0700000000ee1400").ljust(512, b"\0"))
    assert (log.header.lid, log.header.ieee.hex()) == (7, "ee1400")
    assert (log.header.da1lb, log.header.da2lb, log.header.da3lb) == (0, 0, 0)
    assert len(log.entries) == 0
