"""The bases: layouts that don't sum are refused, values that don't fit too, nothing else moves."""

import array
import ctypes
import json
import types
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from spec_classes import LIST_CLASSES, REGISTER_CLASSES, STRUCT_CLASSES

from pynvme_user.spec import registers
from pynvme_user.spec.fields import (
    BE16,
    BE32,
    BE48,
    BE64,
    BE80,
    U8,
    U16,
    U24,
    U32,
    U64,
    U128,
    Array,
    Ascii,
    Bit,
    Bits,
    Field,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
    Utf8,
    Uuid,
)
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.spec.text import printable


class Mode(Register, width=8):
    """Mode (9.9)."""

    en = Bit(0, "Enable")
    kind = Bits(3, 1, "Kind", registers.CommandSet)
    _r6_4 = Reserved(6, 4)
    top = Bit(7, "Top")


class Pair(Struct, size=4):
    """Pair."""

    a = U8(0, "First")
    b = U24(1, "Second")


class Everything(Struct, size=104):
    """Everything (9.9)."""

    mode = U8(0, "Mode", bits=Mode)
    _rsvd1 = ReservedBytes(1, 1)
    half = U16(2, "Half", names=registers.CommandSet)
    word = U32(4, "Word")
    wide = U64(8, "Wide")
    huge = U128(16, "Huge")
    text = Ascii(32, 8, "Text")
    nqn = Utf8(40, 8, "NQN")
    raw = Raw(48, 16, "Raw")
    id = Uuid(64, "Id")
    many = U32.array(80, 3, "Many")
    pairs = Array(92, 3, Pair, "Pairs")


class Tags(Struct, size=34):
    """Tags."""

    half = BE16(0, "Half")
    word = BE32(2, "Word")
    six = BE48(6, "Six")
    wide = BE64(12, "Wide")
    ten = BE80(20, "Ten")
    many = BE16.array(30, 2, "Many")


class Modes(Struct, size=3):
    """Modes."""

    modes = U8.array(0, 3, "Modes", bits=Mode)


def declare_register(width: int, /, **fields: Bits) -> None:
    types.new_class("Register", (Register,), {"width": width}, lambda body: body.update(fields))


def declare_struct(size: int, /, **fields: Field[Any]) -> None:
    types.new_class("Struct", (Struct,), {"size": size}, lambda body: body.update(fields))


# Layouts


def test_register_with_a_gap_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Gap: gap at bits 7:4 before high"):

        class Gap(Register, width=16):
            low = Bits(3, 0, "Low")
            high = Bits(15, 8, "High")


def test_register_with_a_gap_at_bit_0_is_refused() -> None:
    with pytest.raises(TypeError, match=r"gap at bits 0:0 before high"):

        class Gap(Register, width=8):
            high = Bits(7, 1, "High")


def test_register_with_an_overlap_is_refused() -> None:
    with pytest.raises(TypeError, match=r"high overlaps low at bit 7"):

        class Overlap(Register, width=16):
            low = Bits(7, 0, "Low")
            high = Bits(15, 7, "High")


@pytest.mark.parametrize("msb", [6, 8])
def test_register_whose_widths_do_not_sum_is_refused(msb: int) -> None:
    with pytest.raises(TypeError, match=rf"the fields cover {msb + 1} bits, its size is 8"):
        declare_register(8, low=Bits(msb, 0, "Low"))


def test_register_with_a_field_backwards_is_refused() -> None:
    with pytest.raises(TypeError, match="low ends at bit 0, before its start 7"):

        class Backwards(Register, width=8):
            low = Bits(0, 7, "Low")


@pytest.mark.parametrize("name", ["replace", "real", "width", "layout"])
def test_a_field_does_not_take_a_name_of_its_base(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is taken"):
        declare_register(8, **{name: Bits(7, 0, "Low")})


@pytest.mark.parametrize("name", ["replace", "size", "layout", "_raw"])
def test_a_member_does_not_take_a_name_of_its_base(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is taken"):
        declare_struct(4, **{name: U32(0, "Word")})


def test_struct_with_a_gap_is_refused() -> None:
    with pytest.raises(TypeError, match=r"gap at bytes 3:2 before word"):

        class Gap(Struct, size=8):
            half = U16(0, "Half")
            word = U32(4, "Word")


def test_struct_with_an_overlap_is_refused() -> None:
    with pytest.raises(TypeError, match=r"word overlaps half at byte 1"):

        class Overlap(Struct, size=5):
            half = U16(0, "Half")
            word = U32(1, "Word")


@pytest.mark.parametrize("size", [3, 5])
def test_struct_whose_sizes_do_not_sum_is_refused(size: int) -> None:
    with pytest.raises(TypeError, match=f"the fields cover 4 bytes, its size is {size}"):
        declare_struct(size, word=U32(0, "Word"))


def test_struct_with_a_register_of_another_width_is_refused() -> None:
    with pytest.raises(TypeError, match="Mode has 8 bits, its field 16"):
        U16(0, "Mode", bits=Mode)


@pytest.mark.parametrize("cls", REGISTER_CLASSES, ids=lambda cls: str(cls.__name__))
def test_masks_of_a_register_partition_it(cls: type[Register]) -> None:
    masks = [field.mask for field in cls.layout]
    assert sum(masks) == (1 << cls.width) - 1
    assert all(a & b == 0 for i, a in enumerate(masks) for b in masks[:i])


# Registers


def test_register_fields_read_and_write_the_same_bits() -> None:
    mode = Mode.build(en=1, kind=6)
    assert mode == 0x0D
    assert (mode.en, mode.kind, mode.top) == (1, 6, 0)
    assert mode.replace(kind=1, top=1) == 0x83
    assert isinstance(mode.replace(top=1), Mode)
    assert Mode.kind.mask == 0x0E
    assert (Mode.kind.msb, Mode.kind.lsb, Mode.kind.width) == (3, 1, 3)


def test_register_is_an_int() -> None:
    assert json.dumps({"mode": Mode(0x83)}) == '{"mode": 131}'
    assert f"{Mode(0x83):#x}" == str(Mode(0x83)) == "0x83"
    assert Mode(0x83) | 4 == 0x87
    assert (Mode.title, Mode.width, Mode.offset) == ("Mode", 8, None)


@pytest.mark.parametrize("value", [8, -1])
def test_register_value_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=rf"Mode.kind = {value} does not fit: .* 0 to 7"):
        Mode.build(kind=value)


@pytest.mark.parametrize("value", [256, -1])
def test_register_wider_than_itself_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit in 8 bits"):
        Mode(value)


@pytest.mark.parametrize("name", ["nothing", "_r6_4", "replace"])
def test_register_has_no_such_field(name: str) -> None:
    with pytest.raises(TypeError, match=f"Mode has no field '{name}'"):
        Mode.build(**{name: 1})


def test_register_is_immutable() -> None:
    with pytest.raises(AttributeError, match=r"use replace\(en=\.\.\.\)"):
        Mode(0).en = 1


def test_register_dump_names_values_and_reserved_bits_that_are_set() -> None:
    assert list(Mode(0x4D).fields()) == [
        ("en", 1, "Enable"),
        ("kind", 6, "Kind"),
        ("top", 0, "Top"),
    ]
    assert Mode(0x4D).dump() == [
        "en      : 0x1        Enable",
        "kind    : 0x6        Kind: ALL_SUPPORTED",
        "6:4     : 0x4        Reserved",
        "top     : 0x0        Top",
    ]
    assert len(Mode(0x0D).dump()) == 3


def test_flags_are_named_one_by_one() -> None:
    lines = registers.CAP.build(css=0xC1).dump()
    assert [line for line in lines if line.startswith("css")] == [
        "css     : 0xc1       I/O Command Sets Supported: NVM, IOCS, NOIOCS"
    ]


@given(st.sampled_from(REGISTER_CLASSES), st.data())
def test_register_round_trip(cls: type[Register], data: st.DataObject) -> None:
    settable = [field for field in cls.layout if not field.reserved]
    values = {f.name: data.draw(st.integers(0, f.limit)) for f in settable}
    register = cls.build(**values)
    assert {name: value for name, value, _ in register.fields()} == values
    assert cls(int(register)) == register


@given(st.sampled_from(REGISTER_CLASSES), st.data())
def test_replacing_one_register_field_leaves_every_other_bit(
    cls: type[Register], data: st.DataObject
) -> None:
    before = cls(data.draw(st.integers(0, (1 << cls.width) - 1)))
    field = data.draw(st.sampled_from([f for f in cls.layout if not f.reserved]))
    value = data.draw(st.integers(0, field.limit))
    after = before.replace(**{field.name: value})
    assert getattr(after, field.name) == value
    assert (before ^ after) & ~field.mask == 0
    with pytest.raises(ValueError, match="does not fit"):
        before.replace(**{field.name: field.limit + 1})


# Structures


def test_struct_decodes_every_kind_of_field() -> None:
    raw = bytearray(range(104))
    raw[32:40] = b"a\xe9c \0   "
    raw[40:48] = b"n\xc3\xa9\xff\0\0\0\0"
    x = Everything.from_bytes(raw)
    assert (x.mode, type(x.mode)) == (0, Mode)
    assert x.half == 0x0302
    assert x.word == 0x07060504
    assert x.wide == 0x0F0E0D0C0B0A0908
    assert x.huge == int.from_bytes(range(16, 32), "little")
    assert (x.text, x.nqn) == ("aéc \0", "né\udcff")
    assert x.raw == bytes(range(48, 64))
    assert x.id == uuid.UUID("40414243-4445-4647-4849-4a4b4c4d4e4f")
    assert x.many == (0x53525150, 0x57565554, 0x5B5A5958)
    assert [pair.b for pair in x.pairs] == [0x5F5E5D, 0x636261, 0x676665]
    assert bytes(x) == raw
    assert Everything.word.offset == 4


def test_struct_encodes_every_kind_of_field() -> None:
    x = Everything.build(
        mode=Mode.build(top=1),
        half=1,
        word=2,
        wide=3,
        huge=1 << 127,
        text="abc",
        nqn="né",
        raw=bytes(16),
        id=uuid.UUID(int=5),
        many=[6, 7, 8],
        pairs=[Pair.build(a=9, b=10)],
    )
    assert bytes(x) == (
        b"\x80\0\1\0\2\0\0\0\3\0\0\0\0\0\0\0" + bytes(15) + b"\x80"
        b"abc     n\xc3\xa9\0\0\0\0\0" + bytes(16) + bytes(15) + b"\5"
        b"\6\0\0\0\7\0\0\0\x08\0\0\0\x09\x0a\0\0" + bytes(8)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", 256),
        ("half", 1 << 16),
        ("word", -1),
        ("wide", 1 << 64),
        ("huge", 1 << 128),
        ("text", "123456789"),
        ("text", "\u20ac"),
        ("nqn", "\ud800"),
        ("nqn", "ééééé"),
        ("raw", b"short"),
        ("many", [1, 2]),
        ("many", [1, 2, 1 << 32]),
        ("pairs", [Pair.build()] * 4),
    ],
)
def test_struct_value_that_does_not_fit_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"Everything.{name} "):
        Everything.build(**{name: value})


def test_array_takes_its_own_elements_only() -> None:
    with pytest.raises(TypeError, match="takes Pair elements"):
        Everything.build(pairs=[Mode(0)])


@pytest.mark.parametrize("name", ["nothing", "_rsvd1", "to_dict"])
def test_struct_has_no_such_field(name: str) -> None:
    with pytest.raises(TypeError, match=f"Everything has no field '{name}'"):
        Everything.build(**{name: 1})


def test_struct_is_immutable_and_hashable() -> None:
    pair = Pair.build(a=1)
    with pytest.raises(AttributeError, match=r"use replace\(a=\.\.\.\)"):
        pair.a = 2
    assert pair == Pair.build(a=1)
    assert pair != Pair.build(a=2)
    assert pair != bytes(pair)
    assert len({pair, Pair.build(a=1), Pair.build(a=2)}) == 2


def test_struct_copies_just_its_bytes_out_of_any_buffer() -> None:
    buffer = bytearray(b"\xff\1\2\3\4\xff")
    pair = Pair.from_bytes(buffer, 1)
    buffer[1] = 9
    assert bytes(pair) == b"\1\2\3\4"
    assert Pair.from_bytes(array.array("I", [0x04030201])) == pair
    assert Pair.from_bytes((ctypes.c_ubyte * 4)(1, 2, 3, 4)) == pair
    with pytest.raises(ValueError, match="Pair takes 4 bytes, the buffer has 3"):
        Pair.from_bytes(buffer, 3)


def test_struct_to_dict_is_json() -> None:
    x = Everything.build(mode=0x80, raw=bytes(range(16)), pairs=[Pair.build(a=1)])
    plain = json.loads(json.dumps(x.to_dict()))
    assert "_rsvd1" not in plain
    assert plain["mode"] == 0x80
    assert plain["raw"] == "000102030405060708090a0b0c0d0e0f"
    assert plain["id"] == "00000000-0000-0000-0000-000000000000"
    assert plain["pairs"] == [{"a": 1, "b": 0}, {"a": 0, "b": 0}, {"a": 0, "b": 0}]


def test_struct_dump() -> None:
    lines = Everything.build(mode=0x80, half=6, pairs=[Pair.build(a=1)]).dump()
    assert lines[0] == "mode      : 0x80         Mode"
    assert "  top     : 0x1        Top" in lines
    assert "half      : 6 (ALL_SUPPORTED) Half" in lines
    assert "raw       : 16 bytes of zero Raw" in lines
    assert lines[-4:] == [
        "pairs     : 3 elements   Pairs",
        "  [0]",
        "    a         : 1            First",
        "    b         : 0            Second",
    ]


def repeated(cls: type[Struct], seed: bytes) -> bytes:
    return (seed * cls.size)[: cls.size]


@given(st.sampled_from([Everything, *STRUCT_CLASSES]), st.binary(min_size=1, max_size=64))
@example(Everything, b"\0")
@example(IdentifyController, b"\x80")
@example(IdentifyController, b" \0")
@example(IdentifyController, b"\xed\xb2\x80")
def test_struct_round_trip(cls: type[Struct], seed: bytes) -> None:
    struct = cls.from_bytes(repeated(cls, seed))
    assert cls.from_bytes(bytes(struct)) == struct
    rebuilt = cls.build(**{name: value for name, value, _ in struct.fields()})
    for field in cls.layout:
        if not field.reserved:
            span = slice(field.offset, field.offset + field.size)
            assert bytes(rebuilt)[span] == bytes(struct)[span]
    assert struct.replace(**{name: value for name, value, _ in struct.fields()}) == struct
    assert isinstance(json.dumps(struct.to_dict(), ensure_ascii=False).encode(), bytes)
    assert all(line.isascii() and line.isprintable() for line in [*struct.dump(), repr(struct)])


_WITH_FIELDS = [cls for cls in STRUCT_CLASSES if not all(f.reserved for f in cls.layout)]


@given(
    st.sampled_from([Everything, *_WITH_FIELDS]),
    st.binary(min_size=1, max_size=64),
    st.binary(min_size=1, max_size=64),
    st.data(),
)
def test_replacing_one_struct_field_leaves_every_other_byte(
    cls: type[Struct], seed: bytes, other_seed: bytes, data: st.DataObject
) -> None:
    before = cls.from_bytes(repeated(cls, seed))
    field = data.draw(st.sampled_from([f for f in cls.layout if not f.reserved]))
    other = cls.from_bytes(repeated(cls, other_seed))
    after = before.replace(**{field.name: getattr(other, field.name)})
    end = field.offset + field.size
    assert bytes(after)[: field.offset] == bytes(before)[: field.offset]
    assert bytes(after)[end:] == bytes(before)[end:]
    assert bytes(after)[field.offset : end] == bytes(other)[field.offset : end]
    assert getattr(after, field.name) == getattr(other, field.name)


@given(st.binary(min_size=256, max_size=256))
@example(b" " * 256)
@example(bytes(256))
@example(b"nqn\0".ljust(255, b"\0") + b"\x80")
@example(b"abc\0" + b" " * 252)
@example(b"\xe2\x82".rjust(256, b"n"))
def test_text_of_a_device_is_kept_to_the_byte(raw: bytes) -> None:
    before = IdentifyController.from_bytes(raw * 16)
    after = IdentifyController.build(sn=before.sn, mn=before.mn, fr=before.fr, subnqn=before.subnqn)
    assert bytes(after)[4:72] == raw[4:72]
    assert bytes(after)[768:1024] == raw


def test_text_that_is_not_given_is_padding() -> None:
    page = IdentifyController.build()
    assert (page.sn, page.mn, page.fr, page.subnqn) == ("", "", "", "")
    assert bytes(page)[4:72] == b" " * 68


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ~ text", "plain ~ text"),
        ("\x1b]0;title\a", r"\x1b]0;title\x07"),
        ("S123\0\0\0", "S123"),
        ("a\0b\x7f\x9b", r"a\x00b\x7f\x9b"),
        ("n\udcff", r"n\xff"),
        ("\u20ac\ufffd\u202e", r"\u20ac\ufffd\u202e"),
        ("\U0001f600", r"\U0001f600"),
    ],
)
def test_text_is_shown_in_printable_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_big_endian_numbers() -> None:
    raw = bytes(range(34))
    tags = Tags.from_bytes(raw)
    assert (tags.half, tags.word, tags.six) == (0x0001, 0x02030405, 0x060708090A0B)
    assert tags.wide == 0x0C0D0E0F10111213
    assert tags.ten == 0x1415161718191A1B1C1D
    assert tags.many == (0x1E1F, 0x2021)
    assert bytes(Tags.build(**{name: value for name, value, _ in tags.fields()})) == raw
    with pytest.raises(ValueError, match="ten = 1208925819614629174706176 does not fit"):
        Tags.build(ten=1 << 80)


def test_an_array_of_registers() -> None:
    modes = Modes.from_bytes(b"\x00\x01\x80")
    assert [type(mode) for mode in modes.modes] == [Mode, Mode, Mode]
    assert (modes.modes[1].en, modes.modes[2].top) == (1, 1)
    assert json.dumps(modes.to_dict()) == '{"modes": [0, 1, 128]}'
    lines = modes.dump()
    assert lines[0] == "modes     : 3 values     Modes"
    assert lines[1:3] == ["  [0x1] 0x1", "    en      : 0x1        Enable"]
    assert [line for line in lines if line.startswith("  [")] == ["  [0x1] 0x1", "  [0x2] 0x80"]
    assert Modes.build(modes=[0, Mode.build(en=1), 0x80]) == modes
    with pytest.raises(ValueError, match="modes = 256 does not fit"):
        Modes.build(modes=[0, 0, 256])
    with pytest.raises(TypeError, match="Mode has 8 bits, its field 16"):
        U16.array(0, 3, "Modes", bits=Mode)


def test_no_name_is_declared_twice() -> None:
    names = [cls.__name__ for cls in [*REGISTER_CLASSES, *STRUCT_CLASSES, *LIST_CLASSES]]
    assert sorted(names) == sorted(set(names))
