"""The base of every structure: bytes with named fields, one line each.

As in `bits`, a field is declared once and every byte is declared, reserved ones included.
`Struct` is immutable, of fixed size and little-endian (NVMe Base 2.0, 1.4) but for its `BE`
fields. What it takes to
declare a register or a structure can be imported from here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

from .bits import Bit, Bits, Names, Register, Reserved, check_layout, fit, named, title
from .text import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BE16",
    "BE32",
    "BE48",
    "BE64",
    "BE80",
    "U8",
    "U16",
    "U24",
    "U32",
    "U48",
    "U64",
    "U128",
    "Array",
    "Ascii",
    "Bit",
    "Bits",
    "Field",
    "Raw",
    "Register",
    "Reserved",
    "ReservedBytes",
    "Struct",
    "Utf8",
    "Uuid",
]


def copy_bytes(buffer: ReadableBuffer, offset: int, size: int, what: str) -> bytes:
    """Copy `size` bytes of `buffer` from `offset`; ValueError, naming `what`, if it is shorter."""
    view = memoryview(buffer)
    if view.ndim != 1 or view.itemsize != 1:
        view = view.cast("B")
    raw = bytes(view[offset : offset + size])
    if len(raw) != size:
        raise ValueError(f"{what} takes {size} bytes, the buffer has {len(raw)}")
    return raw


Order: TypeAlias = Literal["little", "big"]
T = TypeVar("T")
IntT = TypeVar("IntT", bound=int)


class Field(Generic[T]):
    """`size` bytes at byte `offset` of a `Struct`; subclasses say how they decode.

    Read on an instance it is the decoded value, read on the class this descriptor.
    """

    reserved: ClassVar[bool] = False

    def __init__(self, offset: int, size: int, text: str) -> None:
        self.name = ""
        self.offset = offset
        self.size = size
        self.text = text

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, struct: None, owner: type) -> Self: ...
    @overload
    def __get__(self, struct: Struct, owner: type) -> T: ...
    def __get__(self, struct: Struct | None, owner: type) -> Self | T:
        if struct is None:
            return self
        return self._decode(struct._raw[self.offset : self.offset + self.size])

    def _decode(self, raw: bytes) -> T:
        """Return the value of exactly `size` bytes."""
        raise NotImplementedError

    def _encode(self, value: T, owner: str) -> bytes:
        """Return `value` as `size` bytes; ValueError, naming `owner`, if it does not fit."""
        raise NotImplementedError

    def _plain(self, value: T) -> object:
        """Return `value` in JSON's types."""
        return value

    def _lines(self, value: T) -> list[str]:
        """Return `value` as text: a first line, then any detail."""
        return [str(value)]


class Unsigned(Field[IntT]):
    """An unsigned integer, made by U8 to BE80; a `Register` where `bits` is one."""

    def __init__(
        self,
        offset: int,
        size: int,
        text: str,
        bits: type[IntT],
        names: Names | None,
        order: Order = "little",
    ) -> None:
        super().__init__(offset, size, text)
        self.order = order
        self.limit = (1 << 8 * size) - 1
        self.bits = bits
        self.names = names
        if issubclass(bits, Register) and bits.width != 8 * size:
            raise TypeError(f"{bits.__name__} has {bits.width} bits, its field {8 * size}: {text}")

    def _decode(self, raw: bytes) -> IntT:
        return self.bits(int.from_bytes(raw, self.order))

    def _encode(self, value: IntT, owner: str) -> bytes:
        number: int = value
        if not isinstance(value, int) or not 0 <= value <= self.limit:
            number = fit(owner, self.name, value, self.limit)  # which says what is wrong
        return number.to_bytes(self.size, self.order)

    def _plain(self, value: IntT) -> int:
        return int(value)

    def _lines(self, value: IntT) -> list[str]:
        if isinstance(value, Register):
            return [str(value), *value.dump()]
        meaning = named(value, self.names)
        return [f"{value} ({meaning})" if meaning else str(value)]


class UnsignedArray(Field[tuple[IntT, ...]]):
    """`count` unsigned integers, made by U8.array to BE80.array.

    Registers where `bits` is one: the dump then has those that are not 0, by their index.
    """

    def __init__(
        self,
        offset: int,
        item: int,
        count: int,
        text: str,
        bits: type[IntT],
        order: Order = "little",
    ) -> None:
        super().__init__(offset, item * count, text)
        self.item = item
        self.count = count
        self.bits = bits
        self.order = order
        if issubclass(bits, Register) and bits.width != 8 * item:
            raise TypeError(f"{bits.__name__} has {bits.width} bits, its field {8 * item}: {text}")

    def _decode(self, raw: bytes) -> tuple[IntT, ...]:
        return tuple(
            self.bits(int.from_bytes(raw[at : at + self.item], self.order))
            for at in range(0, self.size, self.item)
        )

    def _encode(self, value: Sequence[int], owner: str) -> bytes:
        if len(value) != self.count:
            raise ValueError(f"{owner}.{self.name} takes {self.count} values, not {len(value)}")
        limit = (1 << 8 * self.item) - 1
        return b"".join(
            fit(owner, self.name, number, limit).to_bytes(self.item, self.order) for number in value
        )

    def _plain(self, value: tuple[IntT, ...]) -> list[int]:
        return [int(number) for number in value]

    def _lines(self, value: tuple[IntT, ...]) -> list[str]:
        if not issubclass(self.bits, Register):
            return [" ".join(map(str, value))]
        lines = [f"{len(value)} values"]
        for index, number in enumerate(value):
            if isinstance(number, Register) and number:
                lines.append(f"[{index:#x}] {number}")
                lines += ["  " + line for line in number.dump()]
        return lines


class _UnsignedKind:
    """What U8 to BE80 are: calling one declares a field of that many bytes."""

    def __init__(self, size: int, order: Order = "little") -> None:
        self.size = size
        self.order = order

    @overload
    def __call__(self, offset: int, text: str, *, names: Names | None = None) -> Unsigned[int]: ...
    @overload
    def __call__(self, offset: int, text: str, *, bits: type[IntT]) -> Unsigned[IntT]: ...
    def __call__(
        self,
        offset: int,
        text: str,
        *,
        bits: type[Any] = int,
        names: Names | None = None,
    ) -> Unsigned[Any]:
        return Unsigned(offset, self.size, text, bits, names, self.order)

    @overload
    def array(self, offset: int, count: int, text: str) -> UnsignedArray[int]: ...
    @overload
    def array(
        self, offset: int, count: int, text: str, *, bits: type[IntT]
    ) -> UnsignedArray[IntT]: ...
    def array(
        self, offset: int, count: int, text: str, *, bits: type[Any] = int
    ) -> UnsignedArray[Any]:
        """Declare a field of `count` such integers, or registers, read as a tuple."""
        return UnsignedArray(offset, self.size, count, text, bits, self.order)


U8 = _UnsignedKind(1)
U16 = _UnsignedKind(2)
U24 = _UnsignedKind(3)
U32 = _UnsignedKind(4)
U48 = _UnsignedKind(6)
U64 = _UnsignedKind(8)
U128 = _UnsignedKind(16)
# Protection information is big-endian, as T10 DIF is.
BE16 = _UnsignedKind(2, "big")
BE32 = _UnsignedKind(4, "big")
BE48 = _UnsignedKind(6, "big")
BE64 = _UnsignedKind(8, "big")
BE80 = _UnsignedKind(10, "big")


class Text(Field[str]):
    """Text, of which nothing is lost: what is decoded encodes to the same bytes.

    The padding that the specification names is no part of the value; any other, such as the NULs
    of some devices, is. So is what must not be there at all: show a value with
    :func:`~pynvme_user.spec.text.printable` only.
    """

    codec: ClassVar[str]
    errors: ClassVar[str] = "strict"
    padding: ClassVar[str]

    def _decode(self, raw: bytes) -> str:
        return raw.decode(self.codec, self.errors).rstrip(self.padding)

    def _encode(self, value: str, owner: str) -> bytes:
        try:
            raw = value.encode(self.codec, self.errors)
        except UnicodeEncodeError as error:
            raise ValueError(f"{owner}.{self.name} cannot hold {value!a}: {error}") from None
        if len(raw) > self.size:
            raise ValueError(f"{owner}.{self.name} takes {self.size} bytes, not {len(raw)}")
        return raw.ljust(self.size, self.padding.encode())

    def _plain(self, value: str) -> str:
        # Readers of JSON refuse half a surrogate pair, which is how PEP 383 writes a byte.
        return value.rstrip("\0").encode(errors="surrogateescape").decode(errors="replace")

    def _lines(self, value: str) -> list[str]:
        return [printable(value)]


class Ascii(Text):
    """ASCII text padded with spaces (Base 2.0, 1.4.1).

    Bytes of 80h and above, which are not ASCII, are read as Latin-1's characters.
    """

    codec = "latin-1"
    padding = " "


class Utf8(Text):
    """UTF-8 text padded with NULs, as NQNs are (Base 2.0, 4.5).

    Bytes that are not UTF-8 are read as Python reads those of file names (PEP 383).
    """

    codec = "utf-8"
    errors = "surrogateescape"
    padding = "\0"


def hex_line(value: bytes) -> str:
    """Return bytes in hex digits on one line: not all of them if they are many."""
    if not any(value):
        return f"{len(value)} bytes of zero"
    return value.hex() if len(value) <= 32 else value[:32].hex() + "..."


class Raw(Field[bytes]):
    """Bytes as they are."""

    def _decode(self, raw: bytes) -> bytes:
        return raw

    def _encode(self, value: bytes, owner: str) -> bytes:
        if len(value) != self.size:
            raise ValueError(f"{owner}.{self.name} takes {self.size} bytes, not {len(value)}")
        return bytes(value)

    def _plain(self, value: bytes) -> str:
        return value.hex()

    def _lines(self, value: bytes) -> list[str]:
        return [hex_line(value)]


class ReservedBytes(Raw):
    """Reserved bytes: they count in the layout, and can't be set by name."""

    reserved = True

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(offset, size, "Reserved")


class Uuid(Field[uuid.UUID]):
    """A UUID of 16 bytes, big-endian as RFC 4122 has it."""

    def __init__(self, offset: int, text: str) -> None:
        super().__init__(offset, 16, text)

    def _decode(self, raw: bytes) -> uuid.UUID:
        return uuid.UUID(bytes=raw)

    def _encode(self, value: uuid.UUID, owner: str) -> bytes:
        return value.bytes

    def _plain(self, value: uuid.UUID) -> str:
        return str(value)


class Struct:
    """A fixed-size little-endian structure, immutable, one declared line per field.

    Declare one as ``class CQE(Struct, size=16)``: `size` in bytes. The docstring's first line is
    the long name. TypeError if the fields leave a gap, overlap or don't sum to `size`.
    The bytes are kept as they are and a field is decoded when it is read.
    """

    size: ClassVar[int]
    title: ClassVar[str]
    layout: ClassVar[tuple[Field[Any], ...]]

    __slots__ = ("_raw",)
    _raw: bytes
    _blank: ClassVar[bytes]  # zeros, and text without a letter

    def __init_subclass__(cls, *, size: int) -> None:
        super().__init_subclass__()
        layout = tuple(field for field in vars(cls).values() if isinstance(field, Field))
        for field in layout:
            if hasattr(Struct, field.name) or field.name in Struct.__annotations__:
                raise TypeError(
                    f"{cls.__name__}: the field name {field.name} is taken by its base class"
                )
        check_layout(
            cls.__name__,
            "byte",
            size,
            ((field.offset, field.offset + field.size - 1, field.name) for field in layout),
        )
        cls.size = size
        cls.title = title(cls)
        cls.layout = layout
        blank = bytearray(size)
        for field in layout:
            if isinstance(field, Text):
                blank[field.offset : field.offset + field.size] = field._encode("", cls.__name__)
        cls._blank = bytes(blank)

    @classmethod
    def from_bytes(cls, buffer: ReadableBuffer, offset: int = 0) -> Self:
        """Copy `size` bytes of `buffer` from byte `offset`; ValueError if it is too short."""
        struct = cls.__new__(cls)
        object.__setattr__(struct, "_raw", copy_bytes(buffer, offset, cls.size, cls.__name__))
        return struct

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Make the structure with these fields, every other byte 0; text not given is padding.

        TypeError for a name that is no field, ValueError for a value that does not fit.
        """
        return cls._changed(cls._blank, fields)

    def replace(self, **fields: Any) -> Self:
        """Return a copy with these fields changed, every other byte kept; errors as for `build`."""
        return self._changed(self._raw, fields)

    @classmethod
    def _changed(cls, before: bytes, fields: dict[str, Any]) -> Self:
        raw = bytearray(before)
        for name, value in fields.items():
            field = cls.__dict__.get(name)
            if not isinstance(field, Field) or field.reserved:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            raw[field.offset : field.offset + field.size] = field._encode(value, cls.__name__)
        struct = cls.__new__(cls)
        object.__setattr__(struct, "_raw", bytes(raw))
        return struct

    def fields(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (name, value, long name) of each field not reserved, in declared order."""
        for field in self.layout:
            if not field.reserved:
                yield field.name, field.__get__(self, type(self)), field.text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name in JSON's types: bytes as hex digits, registers as numbers."""
        return {
            field.name: field._plain(field.__get__(self, type(self)))
            for field in self.layout
            if not field.reserved
        }

    def dump(self) -> list[str]:
        """Return a line per field: name, value, long name; then its bits or elements, indented."""
        lines = []
        for field in self.layout:
            if not field.reserved:
                first, *details = field._lines(field.__get__(self, type(self)))
                lines.append(f"{field.name:<10}: {first:<12} {field.text}")
                lines += ["  " + line for line in details]
        return lines

    def __bytes__(self) -> bytes:
        return self._raw

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self._raw,)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._raw == bytes(other)

    def __hash__(self) -> int:
        return hash((type(self), self._raw))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=...)")

    def __repr__(self) -> str:
        shown = [f"{f.name}={f._plain(f.__get__(self, type(self)))!a}" for f in self.layout[:6]]
        return f"<{type(self).__name__} {', '.join(shown)}>"


StructT = TypeVar("StructT", bound=Struct)


class Array(Field[tuple[StructT, ...]]):
    """`count` structures of one kind, one after the other; read as a tuple."""

    def __init__(self, offset: int, count: int, element: type[StructT], text: str) -> None:
        super().__init__(offset, count * element.size, text)
        self.count = count
        self.element = element

    def _decode(self, raw: bytes) -> tuple[StructT, ...]:
        step = self.element.size
        return tuple(self.element.from_bytes(raw, at) for at in range(0, self.size, step))

    def _encode(self, value: Sequence[StructT], owner: str) -> bytes:
        if len(value) > self.count:
            raise ValueError(
                f"{owner}.{self.name} takes up to {self.count} elements, not {len(value)}"
            )
        for element in value:
            if type(element) is not self.element:
                raise TypeError(f"{owner}.{self.name} takes {self.element.__name__} elements")
        return b"".join(map(bytes, value)).ljust(self.size, b"\0")

    def _plain(self, value: tuple[StructT, ...]) -> list[dict[str, Any]]:
        return [element.to_dict() for element in value]

    def _lines(self, value: tuple[StructT, ...]) -> list[str]:
        lines = [f"{len(value)} elements"]
        for index, element in enumerate(value):
            # Tables are declared at their greatest length: unused entries are zeros.
            if any(bytes(element)):
                lines.append(f"[{index}]")
                lines += ["  " + line for line in element.dump()]
        return lines
