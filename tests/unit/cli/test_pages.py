"""Any structure as text, JSON and bytes: what each form is, and that none ever fails."""

from __future__ import annotations

import json
import os
import pty
import random
import uuid
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_classes import LIST_CLASSES, REGISTER_CLASSES, STRUCT_CLASSES

from pynvme_user.cli import nvme_json
from pynvme_user.cli.output import BINARY, JSON, NORMAL
from pynvme_user.cli.pages import binary, lines, plain, show
from pynvme_user.cli.shape import Shape, View
from pynvme_user.spec.fields import (
    U8,
    U16,
    U32,
    Array,
    Ascii,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
    Uuid,
)
from pynvme_user.spec.identify import IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import ControllerType
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.registers import AQA, CAP, CC, CMBEBS, VS

SEEDS = st.integers(0, 1 << 32)


class Caps(Register, width=8):
    """Capabilities."""

    fmts = Bit(0, "Formats Supported")
    mode = Bits(2, 1, "Mode", ControllerType)
    _r6_3 = Reserved(6, 3)
    top = Bit(7, "Top")


class Part(Struct, size=2):
    """A part."""

    kind = U8(0, "Kind", names=ControllerType)
    size_ = U8(1, "Size")


class Thing(Struct, size=100):
    """A thing."""

    name = Ascii(0, 8, "Name")
    caps = U8(8, "Capabilities", bits=Caps)
    count = U8(9, "Number of parts")
    parts = Array(10, 3, Part, "Parts")
    ids = U16.array(16, 2, "Ids")
    key = Raw(20, 4, "Key")
    uid = Uuid(24, "Unique id")
    _r = ReservedBytes(40, 4)
    blob = Raw(44, 40, "Blob")
    last = U32(84, "Last")
    _r_end = ReservedBytes(88, 12)


class Things(StructList[Part, Thing], header=Part, element=Thing, count="size_"):
    """Things."""


class Numbers(StructList[Part, int], header=Part, element=4):
    """Numbers."""


SHAPE = Shape(
    heading="Thing of {device}, namespace {nsid:x}, {count} of them:",
    keys={
        "name": "called",
        "blob": None,
        "ids": lambda page, view: {"first": page.ids[0], "of": view.device},
    },
    labels={"caps": "Capabilities", "uid": None},
    values={"key": lambda page: f"<{page.key.hex()}>"},
    lines={"ids": lambda page, view: [f"id {number}" for number in page.ids]},
    hexadecimal=("last",),
    counts={"parts": lambda page, _: page.count},
    absent=lambda page: ("last",) if page.last == 0 else (),
)
THING = Thing.build(
    name="x\x1b[2J",
    caps=Caps(0x8A),
    count=2,
    parts=[Part.build(kind=1, size_=2), Part.build()],
    ids=[3, 0],
    key=b"\0\1\2\3",
    uid=uuid.UUID(int=5),
    blob=b"A" + bytes(39),
    last=0x1F,
)


@pytest.fixture
def shaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Thing` and its lists have a shape."""
    shapes = {
        Thing: SHAPE,
        Things: Shape(heading="{count} things:", entries="things", below_device=True),
        Numbers: Shape(keys={"kind": None}, entries="numbers", entry="n"),
    }
    monkeypatch.setattr(nvme_json, "shapes", lambda: shapes)


def text(page: Any, **view: Any) -> list[str]:
    return list(lines(page, View(**view)))


def test_text_by_the_shape(shaped: None) -> None:
    assert text(THING, device="a\x07b", nsid=255) == [
        r"Thing of a\x07b, namespace ff, 0 of them:",
        r"called       : x\x1b[2J",
        "Capabilities : 0x8a",
        "count        : 2",
        "parts        :",
        "   Entry[ 0]",
        "  .................",
        "  kind  : 1",
        "  size_ : 2",
        "   Entry[ 1]",
        "  .................",
        "  kind  : 0",
        "  size_ : 0",
        "id 3",
        "id 0",
        "key          : <00010203>",
        "blob         :",
        "       0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f",
        '0000: 41 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "A..............."',
        '0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "................"',
        '0020: 00 00 00 00 00 00 00 00                         "........"',
        "last         : 0x1f",
    ]
    assert text(THING.replace(last=0, blob=bytes(40)))[-1] == "blob         : 40 bytes of zero"


def test_the_bits_in_words(shaped: None) -> None:
    shown = text(THING, human=True)
    at = shown.index("Capabilities : 0x8a")
    assert shown[at : at + 9] == [
        "Capabilities : 0x8a",
        "  Capabilities",
        "  [7:7] : 0x1\tTop",
        "  [6:3] : 0x1\tReserved",
        "  [2:1] : 0x1\tMode: IO",
        "  [0:0] : 0\tFormats Not Supported",
        "",
        "count        : 2",
        "  Number of parts",
    ]
    assert "    Kind: IO" in shown
    assert text(Caps(1)) == [
        "  [7:7] : 0\tTop",
        "  [2:1] : 0\tMode: NOT_REPORTED",
        "  [0:0] : 0x1\tFormats Supported",
    ]


def test_json_by_the_shape(shaped: None) -> None:
    assert plain(THING, View(device="d")) == {
        "called": "x\x1b[2J",
        "caps": 0x8A,
        "count": 2,
        "parts": [{"kind": 1, "size_": 2}, {"kind": 0, "size_": 0}],
        "first": 3,
        "of": "d",
        "key": "00010203",
        "uid": "00000000-0000-0000-0000-000000000005",
        "last": 31,
    }
    counted: Any = plain(THING.replace(count=1), View())
    assert counted["parts"] == [{"kind": 1, "size_": 2}]
    assert plain(Caps(3), View()) == {"fmts": 1, "mode": 1, "top": 0}
    assert plain([THING, THING], View()) == [plain(THING, View())] * 2


def test_what_has_no_shape() -> None:
    page = THING.replace(name="n")
    assert plain(page, View()) == page.to_dict()
    shown = text(page)
    assert shown[0] == "name  : n"
    assert "ids   : 3 0" in shown
    # Of a table that nothing says the length of, what is all zeroes is left out.
    assert "   Entry[ 0]" in shown
    assert "   Entry[ 1]" not in shown


def test_lists(shaped: None) -> None:
    page = Things.build([THING, THING], size_=2)
    shown = text(page)
    assert shown[:5] == ["2 things:", "kind  : 0", "size_ : 2", " Entry[ 0]", "." * 17]
    assert shown.count("." * 17) == 2
    assert [line for line in shown if line.startswith(" Entry")] == [" Entry[ 0]", " Entry[ 1]"]
    made: Any = plain(page, View(device="d"))
    assert list(made) == ["d"]
    assert made["d"]["things"] == [plain(THING, View(device="d"))] * 2

    numbers = Numbers.build([0, 255])
    assert text(numbers)[-2:] == ["[   0]:0", "[   1]:0xff"]
    assert plain(numbers, View()) == {"size_": 0, "numbers": [{"n": 0}, {"n": 255}]}


def test_properties() -> None:
    registers = [CAP(0x1F), VS(0x10400), CC(1), AQA(0), CMBEBS(3)]
    assert text(registers)[:4] == ["cap     : 1f", "vs      : 10400", "cc      : 1", "aqa     : 0"]
    assert "  [0:0] : 0x1\tEnable" in text(registers, human=True)
    assert plain(registers, View()) == {"cap": 0x1F, "vs": 0x10400, "cc": 1, "aqa": 0}
    image = binary(registers)
    assert image[:12] == bytes([0x1F, *[0] * 7, 0, 4, 1, 0])
    assert len(image) == 0x60
    assert image[0x14] == 1
    assert binary(Caps(3)) == b"\3"


def test_identify_namespace() -> None:
    page = IdentifyNamespace.build(
        nsze=16, nlbaf=1, flbas=1, lbafs=[LbaFormat.build(ds=9), LbaFormat.build(ds=12, ms=8)]
    )
    made: Any = plain(page, View())
    assert made["lbafs"] == [
        {"ms": 0, "ds": 9, "rp": 0, "in_use": 0},
        {"ms": 8, "ds": 12, "rp": 0, "in_use": 1},
    ]
    shown = text(page, nsid=1)
    assert shown[:3] == ["NVME Identify Namespace 1:", "nsze    : 0x10", "ncap    : 0"]
    assert shown[-2:] == [
        "lbaf  0 : ms:0   lbads:9  rp:0",
        "lbaf  1 : ms:8   lbads:12 rp:0 (in use)",
    ]
    assert text(page, human=True)[-1] == (
        "LBA Format  1 : Metadata Size: 8   bytes - Data Size: 4096 bytes - "
        "Relative Performance: 0 Best (in use)"
    )
    assert "npwg" not in made
    dumped = text(page, vendor=True)
    assert dumped[-1].startswith("0e70: 00 00 00 00 00 00 00 00 ")
    assert "vs[]:" in dumped


def test_show(shaped: None, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show(THING, NORMAL, "Another heading:", device="d", nsid=1)
    assert capfdbinary.readouterr().out.splitlines()[0] == b"Another heading:"
    show(THING, JSON, device="d")
    assert json.loads(capfdbinary.readouterr().out) == plain(THING, View(device="d"))
    show(THING, BINARY)
    assert capfdbinary.readouterr().out == bytes(THING)


def test_binary_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        with pytest.raises(click.UsageError, match="terminal"):
            show(THING, BINARY)
    os.close(ours)


# --- any bytes ---------------------------------------------------------------------------------


def assert_shown(page: Any) -> None:
    for human in (False, True):
        view = View(device="\x1b", nsid=1, human=human, vendor=True)
        made = json.dumps(plain(page, view), allow_nan=False)
        assert made.isascii()
        for line in lines(page, view):
            assert line.replace("°", "").replace("\t", "").isprintable(), line
            assert line.replace("°", "").isascii(), line
    if isinstance(page, Register):
        assert int.from_bytes(binary(page), "little") == page
    else:
        assert binary(page) == bytes(page)


@pytest.mark.parametrize("kind", STRUCT_CLASSES)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_any_structure(kind: type[Struct], seed: int) -> None:
    assert_shown(kind.from_bytes(random.Random(seed).randbytes(kind.size)))


@pytest.mark.parametrize("kind", LIST_CLASSES)
@settings(max_examples=10)
@given(seed=SEEDS, size=st.integers(0, 2048))
def test_any_list(kind: type[StructList[Any, Any]], seed: int, size: int) -> None:
    raw = random.Random(seed).randbytes(kind.header_type.size + size)
    assert_shown(kind.from_bytes(raw))


@pytest.mark.parametrize("kind", REGISTER_CLASSES)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_any_register(kind: type[Register], seed: int) -> None:
    assert_shown(kind(random.Random(seed).getrandbits(kind.width)))


@pytest.mark.parametrize(("kind", "shape"), [*nvme_json.shapes().items()])
def test_a_shape_names_fields(kind: Any, shape: Shape) -> None:
    """What a table says is said of a field that there is."""
    header = kind.header_type if issubclass(kind, StructList) else kind
    named = {field.name for field in header.layout if not field.reserved}
    said = {*shape.keys, *shape.labels, *shape.values, *shape.lines, *shape.counts}
    assert said | {*shape.hexadecimal} | {*shape.decimal} <= named
