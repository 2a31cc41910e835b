"""Commands on namespaces with metadata: what their dwords say, and pages that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from soft_controller import SoftController

from pynvme_user import PRINFO, Controller, GuardFormat, NvmeError, Protection, ProtectionType
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.metadata import MetadataCommand, metadata_command
from pynvme_user.driver.metadata_transfer import sectors
from pynvme_user.driver.namespace import MetadataNamespace
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import CTRATT
from pynvme_user.spec.identify_nvm import ELBAF, ExtendedLbaFormat, IdentifyNamespaceNvm
from pynvme_user.spec.nvm import WriteCdw12
from pynvme_user.spec.zns import ZoneAppendCdw12
from pynvme_user.transport.pcie import PcieTransport


def made(
    opcode: NvmOpcode = NvmOpcode.READ,
    *,
    lba: int = 0x1_2345_6789,
    type: int = 1,
    extra: int = 8,
    extended: bool = False,
    storage_tag_bits: int = 0,
    guard: GuardFormat = GuardFormat.GUARD_16B,
    **options: Any,
) -> MetadataCommand:
    protection = Protection(
        type=ProtectionType(type),
        block_size=512,
        metadata_size=extra,
        storage_tag_bits=storage_tag_bits,
        guard=guard,
    )
    geometry = Geometry(1, 9, 1 << 40, extra, 100, extended=extended, protection=protection)
    return metadata_command(geometry, opcode, lba, fua=False, pract=True, options=options)


def prinfo_of(command: MetadataCommand) -> PRINFO:
    return PRINFO(WriteCdw12(command.sqe.cdw12).prinfo)


@pytest.mark.parametrize(
    ("type", "keywords", "prinfo"),
    [
        (1, {}, {"grdchk": 1, "rtchk": 1, "pract": 1}),
        (2, {}, {"grdchk": 1, "rtchk": 1, "pract": 1}),
        (3, {}, {"grdchk": 1, "pract": 1}),
        (1, {"metadata": b""}, {"grdchk": 1, "rtchk": 1}),
        (1, {"extra": 16}, {"grdchk": 1, "rtchk": 1}),
        (1, {"opcode": NvmOpcode.COMPARE}, {"grdchk": 1, "rtchk": 1}),
        (1, {"app_tag": 0}, {"grdchk": 1, "rtchk": 1, "atchk": 1, "pract": 1}),
        (1, {"app_tag": None}, {"grdchk": 1, "rtchk": 1, "pract": 1}),
        (1, {"storage_tag_bits": 32}, {"grdchk": 1, "pract": 1}),
        (1, {"prinfo": 0}, {}),
        (1, {"prinfo": PRINFO.build(atchk=1), "app_tag": 1}, {"atchk": 1}),
    ],
)
def test_what_is_checked_by_default(type: int, keywords: dict, prinfo: dict) -> None:
    assert prinfo_of(made(type=type, **keywords)) == PRINFO.build(**prinfo)


WRITE, APPEND = NvmOpcode.WRITE, NvmOpcode.ZONE_APPEND
PLAIN = Geometry(1, 9, 1000, 0, 100)
#: An opcode and keywords of any namespace: dword 12 but for the blocks, and dword 13.
HINTS: list[tuple[NvmOpcode, dict[str, Any], int, int]] = [
    (NvmOpcode.READ, {"limited_retry": True, "dsm": 0x5A}, 1 << 31, 0x5A),
    (NvmOpcode.COMPARE, {"limited_retry": True, "stream": None}, 1 << 31, 0),
    (WRITE, {"stream": 7, "dsm": 3}, 1 << 20, 7 << 16 | 3),
    (WRITE, {"placement": 0xFFFF, "fua": True}, 1 << 30 | 2 << 20, 0xFFFF << 16),
    (APPEND, {"placement": 0}, 2 << 20, 0),
]


@pytest.mark.parametrize(("opcode", "keywords", "cdw12", "cdw13"), HINTS)
def test_hints(opcode: NvmOpcode, keywords: dict[str, Any], cdw12: int, cdw13: int) -> None:
    options = keywords.copy()
    fua = options.pop("fua", False)
    command = metadata_command(PLAIN, opcode, 5, fua=fua, pract=True, options=options)
    assert (command.sqe.cdw12, command.sqe.cdw13) == (cdw12, cdw13)
    assert (command.block_bytes, command.metadata_bytes) == (512, 0)
    sqe = made(opcode, **options).sqe  # the same beside protection information
    kept = WriteCdw12.lr.mask | WriteCdw12.dtype.mask
    assert (sqe.cdw12 & kept, sqe.cdw13) == (cdw12 & kept, cdw13)


@pytest.mark.parametrize(
    ("opcode", "keywords", "said"),
    [
        (NvmOpcode.READ, {"stream": 1}, "a stream and a placement are of writes"),
        (NvmOpcode.COMPARE, {"dsm": 1}, "dataset management bits are of reads and writes"),
        (WRITE, {"stream": 1, "placement": 1}, "by a stream or by a placement"),
        (WRITE, {"stream": 1 << 16}, "the stream identifier 0x10000 does not fit in 16 bits"),
        (WRITE, {"placement": -1}, "the placement identifier -0x1 does not fit in 16 bits"),
        (WRITE, {"dsm": 256}, "the dataset management field 0x100 does not fit in 8 bits"),
        (WRITE, {"app_tag": 1}, "has no protection information: leave out app_tag"),
    ],
)
def test_hints_that_cannot_be(opcode: NvmOpcode, keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        metadata_command(PLAIN, opcode, 5, fua=False, pract=True, options=keywords)


def test_keywords_of_an_append() -> None:
    remap = ZoneAppendCdw12.piremap.mask
    assert [bool(made(APPEND, type=kind).sqe.cdw12 & remap) for kind in (1, 2, 3)] == [1, 0, 0]
    assert made(APPEND, type=2, piremap=True).sqe.cdw12 & remap
    assert not made(APPEND, piremap=False).sqe.cdw12 & remap
    with pytest.raises(TypeError, match="piremap is no keyword of a read or write"):
        made(WRITE, piremap=True)


def test_whether_the_storage_tag_is_checked() -> None:
    for keywords, checked in (
        ({"storage_tag": 1, "storage_tag_check": False}, 0),
        ({"storage_tag_check": True}, 1),
        ({"storage_tag": 1}, 1),
    ):
        sqe = made(storage_tag_bits=8, **keywords).sqe
        assert WriteCdw12(sqe.cdw12).stc == checked


@pytest.mark.parametrize("extended", [False, True])
def test_where_metadata_is_moved(extended: bool) -> None:
    def sizes(command: MetadataCommand) -> tuple[int, int]:
        return command.block_bytes, command.metadata_bytes

    apart = (520, 0) if extended else (512, 8)
    assert sizes(made(extended=extended)) == (512, 0)
    assert sizes(made(extended=extended, metadata=b"")) == apart
    assert sizes(made(extended=extended, prinfo=0)) == apart
    larger = (528, 0) if extended else (512, 16)
    assert sizes(made(extended=extended, extra=16, prinfo=PRINFO.build(pract=1))) == larger


def test_tags() -> None:
    sqe = made().sqe
    assert (sqe.cdw2, sqe.cdw3, sqe.cdw14, sqe.cdw15) == (0, 0, 0x23456789, 0xFFFF0000)
    sqe = made(ref_tag=5, app_tag=0x1234, app_tag_mask=0xFF).sqe
    assert (sqe.cdw14, sqe.cdw15) == (5, 0x00FF1234)
    assert made(type=3).sqe.cdw14 == 0
    command = made(storage_tag_bits=8, storage_tag=0xAB)
    assert (command.sqe.cdw14, command.template.cdw14) == (0xAB456789, 0xAB000000)
    assert WriteCdw12(command.sqe.cdw12).stc == 1
    assert WriteCdw12(made(storage_tag_bits=8).sqe.cdw12).stc == 0
    assert WriteCdw12(made(storage_tag=0).sqe.cdw12).stc == 0  # there is none to check
    wide = {"guard": GuardFormat.GUARD_32B, "extra": 16, "storage_tag_bits": 16}
    command = made(**wide, storage_tag=0x1234, ref_tag=0x0102030405060708)
    sqe = command.sqe
    assert (sqe.cdw2, sqe.cdw3, sqe.cdw14) == (0x1234, 0x01020304, 0x05060708)
    sqe = command.template
    assert (sqe.cdw2, sqe.cdw3, sqe.cdw14) == (0x1234, 0, 0)
    assert made(**wide, type=3, ref_tag=7).template.cdw14 == 7


def test_reference_tags_of_the_blocks_behind() -> None:
    assert made(ref_tag=0xFFFFFFFE).ref_tag_at(3) == 1
    assert made(type=3, ref_tag=9).ref_tag_at(3) == 9


@pytest.mark.parametrize("extra", [1, 8, 16, 24, 64, 512, 520, 4096])
def test_whole_sectors_or_less_than_one(extra: int) -> None:
    for blocks in range(1, 1200):
        some = sectors(blocks, extra)
        assert 1 <= some <= blocks
        length = some * extra
        assert length < 512 or length % 512 == 0 or some == 1
        assert some == blocks or length % 512 == 0 or some == max(1, 511 // extra)


# --- pages -----------------------------------------------------------------------------------


@contextmanager
def opened(
    *, dps: int, ms: int = 16, elbaf: int | None = None, format: int = 0
) -> Iterator[Controller]:
    soft = SoftController()
    soft.blocks, soft.lbaf = 1000, LbaFormat.build(ds=9, ms=ms)
    controller = IdentifyController.from_bytes(soft._page(SQE.build(cdw10=Cns.CONTROLLER)))
    base = IdentifyNamespace.from_bytes(soft._page(SQE.build(cdw10=Cns.NAMESPACE, nsid=1)))
    controller = controller.replace(ctratt=CTRATT.build(elbas=elbaf is not None))
    formats = [ExtendedLbaFormat.build(elbaf=elbaf or 0)] + [ExtendedLbaFormat.build()] * 63

    def identify(sqe: SQE) -> bytes | None:
        match sqe.cdw10 & 0xFF:
            case Cns.CONTROLLER:
                return bytes(controller)
            case Cns.NAMESPACE:
                return bytes(base.replace(dps=dps, flbas=format))
            case Cns.CSI_NAMESPACE:
                return bytes(IdentifyNamespaceNvm.build(lbstm=0xF0, elbafs=formats))
        return None

    soft.identify = identify
    with Controller(PcieTransport(soft)) as ctrl:
        yield ctrl


@pytest.mark.parametrize(
    ("dps", "elbaf", "expected"),
    [
        (1, None, {"guard": GuardFormat.GUARD_16B}),
        (2 | 8, None, {"guard": GuardFormat.GUARD_16B, "first": True}),
        (1, ELBAF.build(pif=2), {"guard": GuardFormat.GUARD_64B}),
        (
            3,
            ELBAF.build(pif=3, qpif=1, sts=16),
            {"guard": GuardFormat.GUARD_32B, "storage_tag_bits": 16, "storage_tag_mask": 0xF0},
        ),
    ],
)
def test_protection_as_the_pages_tell(dps: int, elbaf: int | None, expected: dict) -> None:
    with opened(dps=dps, elbaf=elbaf) as ctrl:
        ns = ctrl.namespaces[1]
        assert isinstance(ns, MetadataNamespace)
        want = {"type": ProtectionType(dps & 7), "block_size": 512, "metadata_size": 16}
        assert ns.protection == Protection(**want | expected)


@pytest.mark.parametrize(
    ("dps", "ms", "elbaf", "why"),
    [
        (5, 16, None, "5 is not a valid ProtectionType"),
        (1, 4, None, "8 bytes of protection information do not fit in 4"),
        (1, 8, ELBAF.build(pif=2), "16 bytes of protection information do not fit in 8"),
        (1, 16, ELBAF.build(pif=1), "a storage tag of 0 bits: the format has 16 to 64"),
        (1, 16, ELBAF.build(pif=3, qpif=3), "protection information format 3 is not defined"),
        (1, 16, ELBAF.build(pif=3, qpif=9), "9 is not a valid GuardFormat"),
    ],
)
def test_pages_that_cannot_be(dps: int, ms: int, elbaf: int | None, why: str) -> None:
    with (
        opened(dps=dps, ms=ms, elbaf=elbaf) as ctrl,
        pytest.raises(
            NvmeError, match=f"protection information what cannot be, {why}.*: format it"
        ),
    ):
        ctrl.namespaces[1]
