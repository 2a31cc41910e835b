"""The Identify pages against offsets and bytes written out from the specification."""

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec import identify, identify_controller
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.identify import (
    IdentifyController,
    IdentifyControllerNvm,
    IdentifyNamespace,
    IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm,
    LbaFormat,
    NamespaceIdentifiers,
    PowerState,
    decode_namespace_list,
)
from pynvme_user.spec.identify_nvm import ELBAF, KPIOCAP, PIC, PIFA, GuardFormat
from pynvme_user.spec.identify_zns import (
    OZCS,
    ZOC,
    ZRWACAP,
    IdentifyControllerZns,
    IdentifyNamespaceZns,
    LbaFormatExtension,
)
from pynvme_user.spec.registers import VS

SIZES: list[tuple[type[Struct], int]] = [
    (IdentifyController, 4096),
    (IdentifyNamespace, 4096),
    (IdentifyControllerNvm, 4096),
    (IdentifyNamespaceNvm, 4096),
    (IdentifyNamespaceIndependent, 4096),
    (PowerState, 32),
    (LbaFormat, 4),
]

# name: offset, size
CONTROLLER_LAYOUT = """
vid 0 2, ssvid 2 2, sn 4 20, mn 24 40, fr 64 8, rab 72 1, ieee 73 3, cmic 76 1, mdts 77 1,
cntlid 78 2, ver 80 4, rtd3r 84 4, rtd3e 88 4, oaes 92 4, ctratt 96 4, rrls 100 2,
bpcap 102 1, nssl 104 4, plsi 110 1,
cntrltype 111 1, fguid 112 16, crdt1 128 2, crdt2 130 2, crdt3 132 2, crcap 134 1,
nvmsr 253 1, vwci 254 1,
mec 255 1, oacs 256 2, acl 258 1, aerl 259 1, frmw 260 1, lpa 261 1, elpe 262 1, npss 263 1,
avscc 264 1, apsta 265 1, wctemp 266 2, cctemp 268 2, mtfa 270 2, hmpre 272 4, hmmin 276 4,
tnvmcap 280 16, unvmcap 296 16, rpmbs 312 4, edstt 316 2, dsto 318 1, fwug 319 1, kas 320 2,
hctma 322 2, mntmt 324 2, mxtmt 326 2, sanicap 328 4, hmminds 332 4, hmmaxd 336 2,
nsetidmax 338 2, endgidmax 340 2, anatt 342 1, anacap 343 1, anagrpmax 344 4, nanagrpid 348 4,
pels 352 4, domainid 356 2, kpioc 358 1, mptfawr 360 2, megcap 368 16, tmpthha 384 1, cqt 386 2,
sqes 512 1, cqes 513 1, maxcmd 514 2, nn 516 4,
oncs 520 2, fuses 522 2, fna 524 1, vwc 525 1, awun 526 2, awupf 528 2, icsvscc 530 1,
nwpc 531 1, acwu 532 2, ocfs 534 2, sgls 536 4, mnan 540 4, maxdna 544 16, maxcna 560 4,
oaqd 564 4, rhiri 568 1, hirt 569 1, cmmrtd 570 2, nmmrtd 572 2, minmrtg 574 1, maxmrtg 575 1,
trattr 576 1, mcudmq 578 2, mnsudmq 580 2, mcmr 582 2, nmcmr 584 2, mcdqpc 586 2,
subnqn 768 256, ioccsz 1792 4, iorcsz 1796 4, icdoff 1800 2, fcatt 1802 1, msdbd 1803 1,
ofcs 1804 2, dctype 1806 1, psds 2048 1024, vs 3072 1024
"""
NAMESPACE_LAYOUT = """
nsze 0 8, ncap 8 8, nuse 16 8, nsfeat 24 1, nlbaf 25 1, flbas 26 1, mc 27 1, dpc 28 1, dps 29 1,
nmic 30 1, rescap 31 1, fpi 32 1, dlfeat 33 1, nawun 34 2, nawupf 36 2, nacwu 38 2, nabsn 40 2,
nabo 42 2, nabspf 44 2, noiob 46 2, nvmcap 48 16, npwg 64 2, npwa 66 2, npdg 68 2, npda 70 2,
nows 72 2, mssrl 74 2, mcl 76 4, msrc 80 1, kpios 81 1, nulbaf 82 1, kpiodaag 84 4,
anagrpid 92 4, nsattr 99 1,
nvmsetid 100 2, endgid 102 2, nguid 104 16, eui64 120 8, lbafs 128 256, vs 384 3712
"""
INDEPENDENT_LAYOUT = """
nsfeat 0 1, nmic 1 1, rescap 2 1, fpi 3 1, anagrpid 4 4, nsattr 8 1, nvmsetid 10 2, endgid 12 2,
nstat 14 1, kpios 15 1, maxkt 16 2, rgrpid 20 4
"""
CONTROLLER_NVM_LAYOUT = """
vsl 0 1, wzsl 1 1, wusl 2 1, dmrl 3 1, dmrsl 4 4, dmsl 8 8, kpiocap 16 1, wzdsl 17 1, aocs 18 2,
ver 20 4, lbamqf 24 1
"""
NAMESPACE_NVM_LAYOUT = """
lbstm 0 8, pic 8 1, pifa 9 1, elbafs 12 256, npdgl 268 4, nprg 272 4, npra 276 4, nors 280 4,
npdal 284 4, lbapss 288 4, tlbaag 292 4
"""
NAMESPACE_ZNS_LAYOUT = """
zoc 0 2, ozcs 2 2, mar 4 4, mor 8 4, rrl 12 4, frl 16 4, rrl1 20 4, rrl2 24 4, rrl3 28 4,
frl1 32 4, frl2 36 4, frl3 40 4, numzrwa 44 4, zrwafg 48 2, zrwasz 50 2, zrwacap 52 1,
lbafes 2816 1024, vs 3840 256
"""
POWER_STATE_LAYOUT = """
mp 0 2, flags 3 1, enlat 4 4, exlat 8 4, rrt 12 1, rrl 13 1, rwt 14 1, rwl 15 1, idlp 16 2,
ips 18 1, actp 20 2, apws 22 1
"""


@pytest.mark.parametrize(("cls", "size"), SIZES)
def test_size(cls: type[Struct], size: int) -> None:
    assert cls.size == size


@pytest.mark.parametrize(
    ("cls", "layout"),
    [
        (IdentifyController, CONTROLLER_LAYOUT),
        (IdentifyNamespace, NAMESPACE_LAYOUT),
        (IdentifyNamespaceIndependent, INDEPENDENT_LAYOUT),
        (IdentifyControllerNvm, CONTROLLER_NVM_LAYOUT),
        (IdentifyNamespaceNvm, NAMESPACE_NVM_LAYOUT),
        (IdentifyNamespaceZns, NAMESPACE_ZNS_LAYOUT),
        (IdentifyControllerZns, "zasl 0 1"),
        (LbaFormatExtension, "zsze 0 8, zdes 8 1"),
        (PowerState, POWER_STATE_LAYOUT),
    ],
)
def test_offsets(cls: type[Struct], layout: str) -> None:
    declared = [f"{f.name} {f.offset} {f.size}" for f in cls.layout if not f.reserved]
    assert declared == " ".join(layout.split()).split(", ")


def test_identify_controller_of_bytes() -> None:
    page = bytearray(4096)
    page[0:4] = bytes.fromhex("361bf41a")
    page[4:24] = b"deadbeef".ljust(20)
    page[24:64] = b"QEMU NVMe Ctrl".ljust(40)
    page[73:76] = bytes([0x00, 0x54, 0x52])
    page[77] = 7
    page[80:84] = bytes.fromhex("00040100")
    page[256:258] = bytes.fromhex("2a01")
    page[280:296] = (1 << 100).to_bytes(16, "little")
    page[512:514] = bytes.fromhex("6644")
    page[525] = 7
    page[768:800] = b"nqn.2019-08.org.qemu:deadbeef".ljust(32, b"\0")
    page[2048:2056] = bytes.fromhex("c409000010000000")
    ctrl = IdentifyController.from_bytes(page)
    assert (ctrl.vid, ctrl.ssvid, ctrl.ieee, ctrl.mdts) == (0x1B36, 0x1AF4, 0x525400, 7)
    assert (ctrl.sn, ctrl.mn, ctrl.subnqn) == (
        "deadbeef",
        "QEMU NVMe Ctrl",
        "nqn.2019-08.org.qemu:deadbeef",
    )
    assert isinstance(ctrl.ver, VS)
    assert str(ctrl.ver) == "1.4.0"
    assert (ctrl.oacs.fnvms, ctrl.oacs.nms, ctrl.oacs.dirs, ctrl.oacs.dbcs) == (1, 1, 1, 1)
    assert (ctrl.oacs.ssrs, ctrl.oacs.fwds) == (0, 0)
    assert ctrl.tnvmcap == 1 << 100
    assert (ctrl.sqes.min, ctrl.sqes.max, ctrl.cqes.min, ctrl.cqes.max) == (6, 6, 4, 4)
    assert ctrl.vwc.fb == identify_controller.FlushBehavior.SUPPORTED
    assert len(ctrl.psds) == 32
    assert (ctrl.psds[0].mp, ctrl.psds[0].enlat) == (0x9C4, 16)
    assert ctrl.psds[0].max_power == pytest.approx(25.0)
    plain = json.loads(json.dumps(ctrl.to_dict()))
    assert (plain["ver"], plain["sn"], plain["tnvmcap"]) == (0x10400, "deadbeef", 1 << 100)
    assert "ver       : 1.4.0        Version" in ctrl.dump()


def test_max_power_scale() -> None:
    flags = identify_controller.PowerFlags.build(mxps=1)
    assert PowerState.build(mp=50, flags=flags).max_power == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("flbas", "nlbaf", "nulbaf", "index"),
    [
        (0x00, 0, 0, 0),
        (0x14, 7, 0, 4),
        (0x2F, 15, 0, 15),
        (0x2F, 16, 0, 31),
        (0x2F, 15, 1, 31),
        (0x6F, 63, 0, 63),
    ],
)
def test_lba_format_in_use(flbas: int, nlbaf: int, nulbaf: int, index: int) -> None:
    formats = [LbaFormat.build(ms=i, ds=9) for i in range(64)]
    ns = IdentifyNamespace.build(flbas=flbas, nlbaf=nlbaf, nulbaf=nulbaf, lbafs=formats)
    assert ns.format_index == index
    assert ns.lbaf == formats[index]


def test_lba_format_of_bytes() -> None:
    lbaf = LbaFormat.from_bytes(bytes.fromhex("40000c02"))
    assert (lbaf.ms, lbaf.ds, lbaf.rp.rp) == (64, 12, identify.RelativePerformance.GOOD)


@pytest.mark.parametrize(
    ("register", "bits"),
    [
        (identify.NSFEAT.build(thinp=1, optperf=1), 0x11),
        (identify.FLBAS.build(fidxl=1, mtelba=1, fidxu=2), 0x51),
        (identify.DPC.build(pit1s=1, piilb=1), 0x11),
        (identify.DPS.build(pit=3, pip=1), 0x0B),
        (identify.FPI.build(fpr=100, fpis=1), 0xE4),
        (identify.DLFEAT.build(drb=1, wzds=1, gds=1), 0x19),
        (identify.RESCAP.build(ptpls=1, iekey=1), 0x81),
        (identify.NSFEAT.build(optperf=3, mam=1, optrperf=1), 0xF0),
        (identify.NMIC.build(disns=1), 0x02),
        (identify.KPIOS.build(kpioens=1, kpiosns=1), 0x03),
        (identify.IndependentNSFEAT.build(uidreuse=1, rmedia=1, vwcnp=1), 0x38),
        (identify.NSTAT.build(nrdy=1, ioi=2), 0x05),
        (ELBAF.build(sts=0x7F, pif=2), 0x17F),
        (ELBAF.build(pif=3, qpif=0xF), 0x1F80),
        (PIC.build(pi16bpists=1, stcrs=1, qpifs=1), 0x0D),
        (PIFA.build(stmla=2), 0x02),
        (KPIOCAP.build(kpios=1, kpiosc=1), 0x03),
        (ZOC.build(vzcap=1, zae=1), 0x03),
        (OZCS.build(razb=1, zrwasup=1), 0x03),
        (ZRWACAP.build(expflushsup=1), 0x01),
        (identify_controller.ONCS.build(nvmcmps=1, nvmdsmsv=1, nvmwzsv=1, nvmcpys=1), 0x10D),
        (identify_controller.OACS.build(dbcs=1), 0x100),
        (identify_controller.CTRATT.build(elbas=1, fdps=1), 0x88000),
        (identify_controller.LPA.build(lpeds=1), 0x04),
        (identify_controller.FRMW.build(ffsro=1, nofs=1), 0x03),
        (identify_controller.SGLS.build(sgls=1, sdt=1, mptrsgl=1), 0x80101),
        (identify_controller.SANICAP.build(ces=1, nodmmas=2), 0x80000001),
        (identify_controller.FNA.build(cryes=1), 0x04),
        (identify_controller.VWC.build(vwcp=1, fb=3), 0x07),
        (identify_controller.OAES.build(nan=1, nnsshdn=1), 0x8100),
        (identify_controller.CMIC.build(mctrs=1, anars=1), 0x0A),
        (identify_controller.OAES.build(tthr=1, rgcns=1, ansan=1), 0xB0000),
        (identify_controller.CTRATT.build(mem=1, hmbr=1, rhii=1), 0x70000),
        (identify_controller.OACS.build(hmlms=1), 0x800),
        (identify_controller.DSTO.build(hirs=1), 0x02),
        (identify_controller.SANICAP.build(vers=1, ndi=1), 0x20000008),
        (identify_controller.ONCS.build(nvmcsa=1, nvmafc=1, maxwzd=1, nszs=1), 0x1E00),
        (identify_controller.OCFS.build(cdf2s=1, cdf3s=1, cdf4s=1), 0x1C),
        (identify_controller.BPCAP.build(rpmbbpwps=2, sfbpwps=1), 0x06),
        (identify_controller.PLSI.build(plsepf=1, plsfq=1), 0x03),
        (identify_controller.CRCAP.build(rrsup=1, rgidc=1), 0x03),
        (identify_controller.KPIOC.build(kpios=1, kpiosc=1), 0x03),
        (identify_controller.TMPTHHA.build(tmpthmh=7), 0x07),
        (identify_controller.TRATTR.build(thmcs=1, tudcs=1, mrtll=1), 0x07),
    ],
)
def test_bits(register: int, bits: int) -> None:
    assert register == bits


@pytest.mark.parametrize(
    ("pif", "qpif", "guard"),
    [(0, 1, GuardFormat.GUARD_16B), (2, 1, GuardFormat.GUARD_64B), (3, 1, GuardFormat.GUARD_32B)],
)
def test_guard_format_is_the_qualified_one_where_pif_refers_to_it(
    pif: int, qpif: int, guard: GuardFormat
) -> None:
    page = bytearray(4096)
    page[16:20] = ELBAF.build(sts=16, pif=pif, qpif=qpif).to_bytes(4, "little")
    elbaf = IdentifyNamespaceNvm.from_bytes(page).elbafs[1].elbaf
    assert (elbaf.sts, elbaf.guard) == (16, guard)


def test_zone_descriptor_extensions_come_in_64_bytes() -> None:
    page = bytearray(4096)
    page[2832:2841] = bytes.fromhex("00000800 00000000 02")
    formats = IdentifyNamespaceZns.from_bytes(page).lbafes
    assert [(f.zsze, f.extension_size) for f in formats[:3]] == [(0, 0), (0x80000, 128), (0, 0)]


# Lists


@given(st.lists(st.integers(1, 0xFFFFFFFE), unique=True, max_size=1024))
def test_namespace_list(ids: list[int]) -> None:
    page = b"".join(nsid.to_bytes(4, "little") for nsid in ids).ljust(4096, b"\0")
    assert decode_namespace_list(page) == ids


def test_namespace_list_ends_at_the_first_zero() -> None:
    page = bytes.fromhex("01000000 00000000 05000000").ljust(4096, b"\0")
    assert decode_namespace_list(page) == [1]


def test_namespace_list_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 bytes, the buffer has 4095"):
        decode_namespace_list(bytes(4095))


EUI64 = bytes.fromhex("5254000123456789")
NGUID = bytes(range(16))
UUID = uuid.UUID("9c2b1f5e-7a06-4a3b-8d55-0a1b2c3d4e5f")


def descriptor(nidt: int, nid: bytes) -> bytes:
    return bytes([nidt, len(nid), 0, 0]) + nid


def test_namespace_identifiers() -> None:
    page = (
        descriptor(3, UUID.bytes)
        + descriptor(0x77, b"unknown")
        + descriptor(1, EUI64)
        + descriptor(2, NGUID)
        + descriptor(4, b"\2")
    ).ljust(4096, b"\0")
    found = NamespaceIdentifiers.from_bytes(page)
    assert found == NamespaceIdentifiers(eui64=EUI64, nguid=NGUID, uuid=UUID, csi=2)
    assert json.loads(json.dumps(found.to_dict())) == {
        "eui64": "5254000123456789",
        "nguid": "000102030405060708090a0b0c0d0e0f",
        "uuid": "9c2b1f5e-7a06-4a3b-8d55-0a1b2c3d4e5f",
        "csi": 2,
    }


def test_namespace_identifiers_that_are_not_given_are_none() -> None:
    found = NamespaceIdentifiers.from_bytes(descriptor(4, b"\0").ljust(4096, b"\0"))
    assert found == NamespaceIdentifiers(csi=0)
    assert found.to_dict() == {"csi": 0}
    assert NamespaceIdentifiers.from_bytes(bytes(4096)) == NamespaceIdentifiers()


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (
            (descriptor(1, bytes(16)) + descriptor(4, b"\2")).ljust(4096, b"\0"),
            "the namespace descriptor at byte 0 (type 1) has a length of 16, not 8",
        ),
        (
            descriptor(4, b"\2")
            + b"".join(descriptor(0x77, bytes(251)) for _ in range(16))
            + bytes([3, 16, 0, 0])
            + bytes(7),
            "the namespace descriptor at byte 4085 (type 3) has a length of 16, "
            "which runs past the page",
        ),
    ],
    ids=["length", "past the page"],
)
def test_a_malformed_namespace_descriptor_is_passed_over(page: bytes, fault: str) -> None:
    assert NamespaceIdentifiers.from_bytes(page) == NamespaceIdentifiers(csi=2, fault=fault)
