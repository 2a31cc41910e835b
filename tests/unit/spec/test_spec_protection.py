"""Protection information: the bytes of each format, and how tags share a field and dwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec.identify_nvm import ELBAF, GuardFormat
from pynvme_user.spec.protection import (
    APP_TAG_ESCAPE,
    PRINFO,
    PROTECTION_INFO,
    STORAGE_TAG_SIZES,
    ProtectionInfo16,
    ProtectionInfo32,
    ProtectionInfo64,
    ProtectionType,
    TagsCdw2,
    TagSpace,
)


def test_prinfo_is_four_bits() -> None:
    assert PRINFO.build(rtchk=1, atchk=1) == 0b0011
    assert PRINFO.build(grdchk=1, pract=1) == 0b1100
    assert PRINFO.width == 4


@pytest.mark.parametrize(
    ("kind", "digits", "guard", "apptag", "tags"),
    [
        (ProtectionInfo16, "1234 5678 9abcdef0", 0x1234, 0x5678, 0x9ABCDEF0),
        (
            ProtectionInfo32,
            "12345678 9abc 0102030405060708090a",
            0x12345678,
            0x9ABC,
            0x0102030405060708090A,
        ),
        (
            ProtectionInfo64,
            "123456789abcdef0 0102 030405060708",
            0x123456789ABCDEF0,
            0x0102,
            0x030405060708,
        ),
    ],
)
def test_protection_information_is_big_endian(
    kind: type[ProtectionInfo16] | type[ProtectionInfo32] | type[ProtectionInfo64],
    digits: str,
    guard: int,
    apptag: int,
    tags: int,
) -> None:
    raw = bytes.fromhex(digits)
    pi = kind.from_bytes(raw)
    assert (kind.size, pi.guard, pi.apptag, pi.tags) == (len(raw), guard, apptag, tags)
    assert bytes(kind.build(guard=guard, apptag=apptag, tags=tags)) == raw


def test_tables() -> None:
    assert {guard: kind.size for guard, kind in PROTECTION_INFO.items()} == {0: 8, 1: 16, 2: 16}
    assert STORAGE_TAG_SIZES == {0: (0, 32), 1: (16, 64), 2: (0, 48)}
    assert [int(kind) for kind in ProtectionType] == [0, 1, 2, 3]
    assert APP_TAG_ESCAPE == 0xFFFF


@pytest.mark.parametrize(
    ("pif", "sts", "bits", "storage", "reference", "cdw2", "cdw3", "cdw14"),
    [
        (0, 0, 32, 0, 0x01020304, 0, 0, 0x01020304),
        (0, 8, 32, 0xAB, 0x010203, 0, 0, 0xAB010203),
        (0, 32, 32, 0x12345678, 0, 0, 0, 0x12345678),
        (1, 16, 80, 0x1234, 0x0102030405060708, 0x1234, 0x01020304, 0x05060708),
        (1, 64, 80, 0x1122334455667788, 0x99AA, 0x1122, 0x33445566, 0x778899AA),
        (2, 0, 48, 0, 0x010203040506, 0, 0x0102, 0x03040506),
        (2, 16, 48, 0x1234, 0x01020304, 0, 0x1234, 0x01020304),
        (2, 48, 48, 0x010203040506, 0, 0, 0x0102, 0x03040506),
    ],
)
def test_tags_share_a_field(
    pif: int,
    sts: int,
    bits: int,
    storage: int,
    reference: int,
    cdw2: int,
    cdw3: int,
    cdw14: int,
) -> None:
    space = TagSpace.of(ELBAF.build(pif=pif, sts=sts))
    assert (space.bits, space.reference_bits) == (bits, bits - sts)
    assert space.dwords(storage, reference) == {"cdw2": cdw2, "cdw3": cdw3, "cdw14": cdw14}
    assert TagsCdw2(cdw2).lbtu == cdw2
    assert space.split(cdw2 << 64 | cdw3 << 32 | cdw14) == (storage, reference)


def test_a_format_without_extension_has_32_bits_for_the_reference_tag() -> None:
    assert TagSpace.of() == TagSpace(32, 0)
    assert TagSpace.of(ELBAF.build(pif=3, qpif=2, sts=8)) == TagSpace(48, 8)


@pytest.mark.parametrize(
    ("elbaf", "why"),
    [
        (ELBAF.build(pif=0, sts=33), "a storage tag of 33 bits: the format has 0 to 32"),
        (ELBAF.build(pif=1, sts=15), "a storage tag of 15 bits: the format has 16 to 64"),
        (ELBAF.build(pif=2, sts=49), "a storage tag of 49 bits: the format has 0 to 48"),
        (ELBAF.build(pif=3, qpif=3), "protection information format 3 is not defined"),
        (ELBAF.build(pif=3, qpif=9), "protection information format 9 is not defined"),
    ],
)
def test_a_format_that_cannot_be_is_refused(elbaf: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TagSpace.of(elbaf)


def test_a_tag_that_does_not_fit_is_refused() -> None:
    space = TagSpace.of(ELBAF.build(pif=0, sts=8))
    with pytest.raises(ValueError, match="the storage tag 0x100 does not fit in 8 bits"):
        space.join(0x100, 0)
    with pytest.raises(ValueError, match="the reference tag 0x1000000 does not fit in 24 bits"):
        space.dwords(0, 1 << 24)
    with pytest.raises(ValueError, match="the reference tag -0x1 does not fit"):
        space.join(0, -1)


@given(st.sampled_from([g for g in GuardFormat if g in STORAGE_TAG_SIZES]), st.data())
def test_what_is_joined_is_split(guard: GuardFormat, data: st.DataObject) -> None:
    sts = data.draw(st.integers(*STORAGE_TAG_SIZES[guard]))
    space = TagSpace.of(ELBAF.build(pif=guard, sts=sts))
    tags = data.draw(st.integers(0, (1 << space.bits) - 1))
    assert space.join(*space.split(tags)) == tags
