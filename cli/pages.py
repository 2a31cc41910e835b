"""Prints any structure of `spec`: as text in nvme-cli's look, as nvme-cli's JSON, or as it is.

A command does it in one line::

    show(page, output_format, device=device, nsid=nsid, human=human_readable)

What nvme-cli calls things is in `nvme_json`; nothing is written by hand for one page and format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pynvme_user.cli.nvme_json import PROPERTIES_LEFT_OUT, shape_of
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    echo_json,
    echo_lines,
    hexdump,
    refuse_terminal,
    write_all,
)
from pynvme_user.cli.shape import Shape, View, count_of, hexadecimal
from pynvme_user.spec.bits import Bits, Register, named
from pynvme_user.spec.fields import Field, Struct
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.text import printable

#: One page, several, or the controller's properties.
Page: TypeAlias = "Struct | StructList[Any, Any] | Register | Sequence[Any]"

_NEGATED = (" Supported", " Support")
_SHORT = 32  # bytes that are written in one line


def show(page: Page, output_format: str, heading: str | None = None, **view: Any) -> None:
    """Write the page to stdout; ``view`` is what `View` is made of.

    UsageError if it is binary and stdout is a terminal. ``heading`` is the text's first line where
    that is not the one that nvme-cli has for such a page.
    """
    seen = View(**view)
    if output_format == JSON:
        echo_json(plain(page, seen))
    elif output_format == BINARY:
        refuse_terminal()
        write_all(binary(page))
    else:
        echo_lines(lines(page, seen, heading))


def binary(page: Page) -> bytes:
    """Give the page as it is; of properties, the register space up to the last of them."""
    if isinstance(page, Register):
        return page.to_bytes(-(-page.width // 8), "little")
    if not isinstance(page, Sequence):
        return bytes(page)
    image = b""
    for part in page:
        at = getattr(part, "offset", None)
        image = (image if at is None else image.ljust(at, b"\0")) + binary(part)
    return image


# --- JSON --------------------------------------------------------------------------------------


def plain(page: Page, view: View) -> object:
    """Give the page in JSON's types, with nvme-cli's keys. No number is ever a string."""
    if isinstance(page, Register):
        return {name: value for name, value, _ in page.fields()}
    if isinstance(page, Sequence):
        if page and isinstance(page[0], Register):
            by_name = {type(register).__name__.lower(): int(register) for register in page}
            return {name: by_name[name] for name in by_name if name not in PROPERTIES_LEFT_OUT}
        return [plain(part, view) for part in page]
    shape = shape_of(type(page))
    made = _shaped(page, shape, view)
    return {view.device: made} if shape.below_device else made


def _shaped(page: Struct | StructList[Any, Any], shape: Shape, view: View) -> object:
    if shape.json is not None:
        return shape.json(page, view)
    made: dict[str, object] = {}
    header = page.header if isinstance(page, StructList) else page
    absent = shape.absent(page)
    for field in header.layout:
        key = shape.keys.get(field.name, field.name)
        if field.reserved or key is None or field.name in absent:
            continue
        if isinstance(key, str):
            made[key] = _json_value(_value(page, header, field, shape, view), field, view)
        else:
            made |= key(page, view)
    for name, part in shape.parts(page).items():
        if isinstance(part, bytes):
            made[name] = part.hex()
        else:
            made |= _keys(part, view)
    if isinstance(page, StructList) and shape.entries is not None:
        made[shape.entries] = (
            page.entries.hex()
            if isinstance(page.entries, bytes)
            else [_json_element(*each, shape, view) for each in enumerate(page.entries)]
        )
    return made


def _json_element(index: int, entry: Any, shape: Shape, view: View) -> object:
    if isinstance(entry, int):
        return {shape.entry: int(entry)} if shape.entry else int(entry)
    number = {shape.numbered: index} if shape.numbered else {}
    return number | _keys(entry, view)


def _keys(page: Struct | StructList[Any, Any], view: View) -> dict[str, object]:
    made = _shaped(page, shape_of(type(page)), view)
    assert isinstance(made, dict)
    return made


def _json_value(value: Any, field: Field[Any], view: View) -> object:
    if isinstance(value, Struct | StructList):
        return _shaped(value, shape_of(type(value)), view)
    if isinstance(value, tuple):
        return [_json_value(part, field, view) for part in value]
    return int(value) if isinstance(value, int) else field._plain(value)


def _value(page: object, header: Struct, field: Field[Any], shape: Shape, view: View) -> Any:
    """Give a field's value: of an array, the elements that count."""
    value = field.__get__(header, type(header))
    return value[: count_of(shape, view, page, field.name)] if isinstance(value, tuple) else value


# --- text --------------------------------------------------------------------------------------


def lines(page: Page, view: View, heading: str | None = None) -> Iterator[str]:
    """Write the page as text: a heading, a line for each field, each element below its number."""
    if isinstance(page, Sequence):
        for part in page:
            if isinstance(part, Register):
                yield f"{type(part).__name__.lower():<8}: {int(part):x}"
                yield from _bits(part, view)
            else:
                yield from lines(part, view, heading)
        return
    if isinstance(page, Register):
        yield from [printable(heading)] if heading else []
        yield from bit_lines(page)
        return
    shape = shape_of(type(page))
    if heading is None:
        count = len(page) if isinstance(page, StructList) else 0
        heading = shape.heading.format(device=view.device, nsid=view.nsid, count=count)
    yield from [printable(heading)] if heading else []
    yield from _body(page, shape, view)


def _body(page: Struct | StructList[Any, Any], shape: Shape, view: View) -> Iterator[str]:
    return iter(shape.text(page, view)) if shape.text else _fields(page, shape, view)


def _fields(page: Struct | StructList[Any, Any], shape: Shape, view: View) -> Iterator[str]:
    header = page.header if isinstance(page, StructList) else page
    names = _labels(page, header, shape)
    width = shape.width or max(map(len, names.values()), default=0) + 1
    for field in header.layout:
        if field.name not in names:
            continue
        if make := shape.lines.get(field.name):
            yield from make(page, view)
            continue
        label = f"{names[field.name]:<{width}}:"
        if say := shape.values.get(field.name):
            yield f"{label} {say(page)}"
        else:
            value = _value(page, header, field, shape, view)
            yield from _field(page, label, value, field, shape, view)
    if view.vendor and isinstance(vs := getattr(header, "vs", None), bytes):
        yield "vs[]:"
        yield from hexdump(vs)
    for name, part in shape.parts(page).items():
        if isinstance(part, bytes):
            yield f"{name:<{width}}: {_text(part, in_hexadecimal=False)}"
        else:
            yield from _body(part, shape_of(type(part)), view)
    if isinstance(page, StructList) and shape.entries is not None:
        yield from _elements(page.entries, view, first=shape.first)


def _labels(page: object, header: Struct, shape: Shape) -> Mapping[str, str]:
    """Give the name in text of each field that has one."""
    absent = shape.absent(page)
    found = {}
    for field in header.layout:
        key = shape.keys.get(field.name)
        label = shape.labels.get(field.name, key if isinstance(key, str) else field.name)
        vendor = field.name == "vs" and field.size > _SHORT
        if label is not None and not (field.reserved or vendor or field.name in absent):
            found[field.name] = label
    return found


def _field(
    page: object, label: str, value: Any, field: Field[Any], shape: Shape, view: View
) -> Iterator[str]:
    """Write one field as a line, and what is in it below."""
    if isinstance(value, Struct | StructList):
        yield label
        yield from _indented(_body(value, shape_of(type(value)), view))
    elif isinstance(value, tuple) and value and isinstance(value[0], Struct | StructList):
        yield label
        counted = count_of(shape, view, page, field.name) is not None
        yield from _indented(_elements(value, view, counted))
    elif isinstance(value, bytes) and len(value) > _SHORT and any(value):
        yield label
        yield from hexdump(value)
    else:
        yield f"{label} {_text(value, _is_hexadecimal(value, field, shape))}"
        if view.human:
            yield from _explained(value, field, view)


def _explained(value: Any, field: Field[Any], view: View) -> Iterator[str]:
    meaning = "" if isinstance(value, Register) else _meaning(value, field)
    yield f"  {field.text}: {meaning}" if meaning else f"  {field.text}"
    yield from _bits(value, view)


def _meaning(value: Any, field: Field[Any]) -> str:
    return named(value, getattr(field, "names", None)) if isinstance(value, int) else ""


def _elements(
    entries: Sequence[Any], view: View, every: bool = True, first: int = 0
) -> Iterator[str]:
    """Write each element below its number; what is all zeroes only where every one is wanted."""
    if isinstance(entries, bytes):
        yield from hexdump(entries)
        return
    for index, entry in enumerate(entries, first):
        if isinstance(entry, int):
            yield f"[{index:4}]:{hexadecimal(entry)}"
        elif every or any(bytes(entry)):
            yield f" Entry[{index:2}]"
            yield "." * 17
            yield from _body(entry, shape_of(type(entry)), view)


def _indented(inner: Iterator[str]) -> Iterator[str]:
    return ("  " + line for line in inner)


def _is_hexadecimal(value: Any, field: Field[Any], shape: Shape) -> bool:
    if field.name in shape.decimal:
        return False
    return isinstance(value, Register) or field.name in shape.hexadecimal


def _text(value: Any, in_hexadecimal: bool) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) <= _SHORT or any(value) else f"{len(value)} bytes of zero"
    if isinstance(value, tuple):
        return " ".join(_text(part, in_hexadecimal) for part in value)
    if isinstance(value, int):
        return hexadecimal(int(value)) if in_hexadecimal else str(int(value))
    return printable(str(value))


def _bits(value: object, view: View) -> Iterator[str]:
    """Write a register's bits and an empty line below it, if they are asked for."""
    if view.human and isinstance(value, Register):
        yield from bit_lines(value)
        yield ""


def bit_lines(register: Register) -> Iterator[str]:
    """Write a line for each field of a register, the uppermost first; reserved bits if set."""
    for bits in sorted(register.layout, key=lambda bits: bits.lsb, reverse=True):
        value = bits.__get__(register, type(register))
        if value or not bits.reserved:
            yield f"  [{bits.msb}:{bits.lsb}] : {hexadecimal(value)}\t{_words(bits, value)}"


def _words(bits: Bits, value: int) -> str:
    if meaning := named(value, bits.names):
        return f"{bits.text}: {meaning}"
    if value == 0 and bits.width == 1:
        for end in _NEGATED:
            if bits.text.endswith(end):
                return bits.text.removesuffix(end) + " Not Supported"
    return bits.text
