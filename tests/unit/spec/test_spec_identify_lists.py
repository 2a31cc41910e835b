"""The lists of Identify against offsets and bytes written out from the specification."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec import identify_lists as lists
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import CommandSetId
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.identify_pages import IDENTIFY_PAGES, CnsSpecific, identify_page
from pynvme_user.spec.lists import StructList

PAGE = 4096


def page(*parts: str, size: int = PAGE) -> bytes:
    """Bytes at offsets: "8: 0102" is two bytes from byte 8 on."""
    raw = bytearray(size)
    for part in parts:
        at, _, digits = part.partition(":")
        data = bytes.fromhex(digits)
        raw[int(at) : int(at) + len(data)] = data
    return bytes(raw)


# Every list: the most elements that a page has, and the structure's size


@pytest.mark.parametrize(
    ("kind", "header", "element", "most"),
    [
        (lists.NamespaceList, 0, 4, 1024),
        (lists.ControllerList, 2, 2, 2047),
        (lists.NvmSetList, 128, 128, 31),
        (lists.NamespaceGranularityList, 32, 16, 16),
        (lists.UuidList, 32, 32, 127),
        (lists.DomainList, 128, 128, 31),
        (lists.EnduranceGroupList, 2, 2, 2047),
        (lists.IoCommandSets, 0, 8, 512),
        (lists.SecondaryControllerList, 32, 32, 127),
        (lists.UnderlyingNamespaceList, 16, 320, 12),
        (lists.PortsList, 16, 576, 7),
    ],
)
def test_sizes(kind: type[StructList[Any, Any]], header: int, element: int, most: int) -> None:
    assert kind.header_type.size == header
    found = kind.element_type
    assert (found if isinstance(found, int) else found.size) == element  # type: ignore[union-attr]
    full = kind.from_bytes(b"\xff" * PAGE)
    assert len(full) == most


def test_namespace_list() -> None:
    found = lists.NamespaceList.from_bytes(page("0: 01000000 05000000", "12: 09000000"))
    assert found.entries == (1, 5)


def test_controller_list() -> None:
    found = lists.ControllerList.from_bytes(page("0: 0300 0000 0100 3412"))
    assert found.entries == (0, 1, 0x1234)
    assert found.header.numids == 3
    assert not found.incomplete
    assert lists.ControllerList.from_bytes(page("0: ffff")).incomplete


def test_nvm_set_list() -> None:
    raw = page(
        "0: 01",
        "128: 0200 0300",
        "136: 0a000000 00100000",
        "144: 00000000 00000000 01",
        "160: 05",
    )
    (nvm_set,) = lists.NvmSetList.from_bytes(raw).entries
    assert (nvm_set.nsetid, nvm_set.endgid, nvm_set.rr4kt, nvm_set.ows) == (2, 3, 10, 4096)
    assert (nvm_set.tnvmsetcap, nvm_set.unvmsetcap) == (1 << 64, 5)


def test_namespace_granularity_list_counts_from_zero() -> None:
    raw = page("0: 01000000 01", "32: 00000040", "40: 00000020", "56: 00000010")
    found = lists.NamespaceGranularityList.from_bytes(raw)
    assert found.header.nga.gdv == 1
    assert [(e.nszegran, e.ncapgran) for e in found] == [(1 << 30, 1 << 29), (0, 1 << 28)]


def test_uuid_list_begins_at_index_1_and_ends_at_the_first_that_is_zero() -> None:
    digits = "9c2b1f5e7a064a3b8d550a1b2c3d4e5f"
    raw = page("0: ff", "32: 02", f"48: {digits}", "96: 01")
    (entry,) = lists.UuidList.from_bytes(raw).entries
    assert entry.uuid == uuid.UUID(hex=digits)
    assert entry.hdr.idassoc == lists.IdentifierAssociation.SUBSYSTEM_VENDOR


def test_domain_list() -> None:
    raw = page("0: 01", "128: 0700", "144: 01", "160: 02", "176: 03")
    (domain,) = lists.DomainList.from_bytes(raw).entries
    assert (domain.domid, domain.tdc, domain.udc, domain.megdc) == (7, 1, 2, 3)


def test_endurance_group_list() -> None:
    assert lists.EnduranceGroupList.from_bytes(page("0: 0200 0100 0400")).entries == (1, 4)


def test_io_command_sets() -> None:
    first, second = lists.IoCommandSets.from_bytes(page("0: 01", "8: 05")).entries
    assert (first.iocsc.nvmcs, first.iocsc.kvcs, first.iocsc.zncs) == (1, 0, 0)
    assert (second.iocsc.nvmcs, second.iocsc.zncs) == (1, 1)
    assert lists.IOCSV.build(kvcs=1, slmcs=1, cpncs=1) == 0x1A


LAYOUTS: list[tuple[type[Struct], str]] = [
    (
        lists.PrimaryControllerCapabilities,
        "cntlid 0 2, portid 2 2, crt 4 1, vqfrt 32 4, vqrfa 36 4, vqrfap 40 2, vqprt 42 2, "
        "vqfrsm 44 2, vqgran 46 2, vifrt 64 4, virfa 68 4, virfap 72 2, viprt 74 2, vifrsm 76 2, "
        "vigran 78 2",
    ),
    (
        lists.SecondaryController,
        "scid 0 2, pcid 2 2, scs 4 1, vfn 8 2, nvq 10 2, nvi 12 2",
    ),
    (lists.UnderlyingNamespace, "unsnqn 0 256, nsid 256 4, cntlid 260 2"),
    (
        lists.UnderlyingPort,
        "traddr 0 256, tsas 256 256, pidup 512 2, trtype 514 1, adrfam 515 1, treq 516 1",
    ),
]


@pytest.mark.parametrize(("cls", "layout"), LAYOUTS)
def test_offsets(cls: type[Struct], layout: str) -> None:
    declared = [f"{f.name} {f.offset} {f.size}" for f in cls.layout if not f.reserved]
    assert declared == layout.split(", ")


def test_secondary_controller_list() -> None:
    raw = page("0: 02", "32: 0100 0000 01", "40: 0300 0400 0500", "64: 0200")
    first, second = lists.SecondaryControllerList.from_bytes(raw).entries
    assert (first.scid, first.pcid, first.scs.onl) == (1, 0, 1)
    assert (first.vfn, first.nvq, first.nvi) == (3, 4, 5)
    assert (second.scid, second.scs.onl) == (2, 0)


def test_lists_of_resources_with_a_generation() -> None:
    raw = page("0: 05", "8: 01", "16: 6e716e", "272: 02000000 0700")
    found = lists.UnderlyingNamespaceList.from_bytes(raw)
    assert found.header.genctr == 5
    assert [(e.unsnqn, e.nsid, e.cntlid) for e in found] == [("nqn", 2, 7)]
    ports = lists.PortsList.from_bytes(page("8: 01", "16: 3a3a31", "528: 0900 03 02 01"))
    assert [(e.traddr, e.pidup, e.trtype, e.adrfam, e.treq) for e in ports] == [("::1", 9, 3, 2, 1)]


def test_controller_state_formats_are_versions_then_uuids() -> None:
    digits = "9c2b1f5e7a064a3b8d550a1b2c3d4e5f"
    raw = page(f"0: 02 01 0000 0100 {digits}")
    found = lists.ControllerStateFormats.from_bytes(raw)
    assert found.versions == (0, 1)
    assert found.uuids == (uuid.UUID(hex=digits),)
    assert found.size == 22
    assert found.to_dict()["entries"] == [
        {"csver": 0},
        {"csver": 1},
        {"csuuid": str(uuid.UUID(hex=digits))},
    ]
    again = lists.ControllerStateFormats.build(found.entries, nv=2, nuuid=1)
    assert again == found
    assert lists.ControllerStateFormats.from_bytes(raw[:21]).incomplete
    assert lists.ControllerStateFormats.from_bytes(raw[:21]).versions == (0, 1)


# The table of pages


def test_every_cns_has_its_page() -> None:
    assert {cns for cns, _ in IDENTIFY_PAGES} == set(Cns)
    assert {0x1D, 0x1E, 0x1F, 0x20} <= {int(cns) for cns in Cns}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "nsid",
            {0x00, 0x02, 0x03, 0x05, 0x07, 0x08, 0x10, 0x11, 0x12, 0x1A, 0x1B, 0x1D, 0x1F},
        ),
        ("cntid", {0x12, 0x13, 0x14, 0x15, 0x1C, 0x1D}),
        ("csi", {0x05, 0x06, 0x07, 0x09, 0x0A, 0x1A, 0x1B}),
        ("cnssid", {0x04, 0x09, 0x0A, 0x18, 0x19, 0x1D}),
        ("uuid_index", {0x05, 0x09, 0x0A}),
    ],
)
def test_what_a_cns_takes(fields: str, expected: set[int]) -> None:
    assert {int(cns) for (cns, _), p in IDENTIFY_PAGES.items() if getattr(p, fields)} == expected


def test_the_command_set_decides_where_it_is_in_the_key() -> None:
    nvm, zns = identify_page(Cns.CSI_NAMESPACE), identify_page(5, CommandSetId.ZONED)
    assert nvm is not None
    assert zns is not None
    assert (nvm.structure.__name__, zns.structure.__name__) == (
        "IdentifyNamespaceNvm",
        "IdentifyNamespaceZns",
    )
    assert identify_page(Cns.CSI_CONTROLLER, CommandSetId.KEY_VALUE) is None
    assert identify_page(0x99) is None
    assert identify_page(Cns.UUIDS, 7) is identify_page(Cns.UUIDS)
    sets = identify_page(Cns.NVM_SETS)
    assert sets is not None
    assert sets.cnssid is CnsSpecific.NVM_SET


@pytest.mark.parametrize("key", list(IDENTIFY_PAGES), ids=str)
@given(raw=st.binary(max_size=400), fill=st.integers(0, 255))
def test_no_page_makes_a_decoder_raise(
    key: tuple[Cns, CommandSetId | None], raw: bytes, fill: int
) -> None:
    structure = IDENTIFY_PAGES[key].structure
    whole = structure.from_bytes(raw + bytes([fill]) * (PAGE - len(raw)))
    assert isinstance(whole.to_dict(), dict)
    assert whole.dump() or not whole.to_dict().get("entries")
    assert len(bytes(whole)) <= PAGE


@pytest.mark.parametrize("key", list(IDENTIFY_PAGES), ids=str)
def test_a_page_that_is_too_short_is_a_value_error(key: tuple[Cns, CommandSetId | None]) -> None:
    structure = IDENTIFY_PAGES[key].structure
    shortest = structure.header_type.size if issubclass(structure, StructList) else PAGE
    if shortest:
        with pytest.raises(ValueError, match=f"takes {shortest} bytes"):
            structure.from_bytes(bytes(shortest - 1))
