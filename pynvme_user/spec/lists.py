"""Pages of no fixed size: a header and the elements behind it.

`StructList` is to such a page what `Struct` is to one of a fixed size, and is declared as one::

    class ZoneList(StructList, header=ZoneReportHeader, element=ZoneDescriptor, count="nzones"):
        \"\"\"Report Zones (ZNS 1.1, 3.4.2.2).\"\"\"

An element is a `Struct`, another `StructList`, a number of bytes for plain little-endian
numbers, such as the namespace ids of a list, or ``bytes`` for data without a structure. A page
comes from a device: what its header says is held against the bytes that there are, and never
believed further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from .bits import title
from .fields import Struct, hex_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Element: TypeAlias = "type[Struct] | type[StructList[Any, Any]] | type[bytes] | int"
#: The header's field that has the number of elements, or a function of the header.
Count: TypeAlias = "str | Callable[[Any], int] | None"

HeaderT = TypeVar("HeaderT", bound=Struct)
ElementT = TypeVar("ElementT")


class NoHeader(Struct, size=0):
    """The header of a page that begins with its first element."""


class StructList(Generic[HeaderT, ElementT]):
    """A header and a list of elements; immutable.

    Declared with `header` (left out where there is none), `element` and `count`. Without `count`
    the elements go on to the page's end, or with `until_zero` to the first that is all zeroes.
    `stride` gives an element's length in bytes where the header can make it longer than what is
    declared of it; where another page tells that, it is given to `from_bytes`. `start` gives the
    first element's offset where that is behind the header's end, and `length` the bytes of the
    whole where the header tells it. Where the elements are ``bytes``, `count` is how many, and
    `entries` are a bytes object. The docstring's first line is the long name.
    """

    title: ClassVar[str]
    header_type: ClassVar[type[Struct]]
    element_type: ClassVar[Element]

    _count: ClassVar[Callable[[Any], int] | None]
    _stride: ClassVar[Callable[[Any], int] | None]
    _start: ClassVar[Callable[[Any], int] | None]
    _length: ClassVar[Callable[[Any], int] | None]
    _until_zero: ClassVar[bool]

    __slots__ = ("_raw", "entries", "header", "incomplete", "stride")

    header: HeaderT
    #: As many as the header says, or fewer where the bytes end.
    entries: Sequence[ElementT]
    #: Whether the header says that there are more elements than the bytes have.
    incomplete: bool
    #: Bytes from one element to the next; 0 where they are as long as declared.
    stride: int
    _raw: bytes

    def __init_subclass__(
        cls,
        *,
        element: Element,
        header: type[Struct] = NoHeader,
        count: Count = None,
        stride: Callable[[Any], int] | None = None,
        start: Callable[[Any], int] | None = None,
        length: Callable[[Any], int] | None = None,
        until_zero: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.title = title(cls)
        cls.header_type = header
        cls.element_type = element
        if isinstance(count, str):
            field = getattr(header, count)  # AttributeError where there is no such field
            cls._count = staticmethod(lambda header: int(field.__get__(header, type(header))))
        else:
            cls._count = None if count is None else staticmethod(count)
        cls._stride = None if stride is None else staticmethod(stride)
        cls._start = None if start is None else staticmethod(start)
        cls._length = None if length is None else staticmethod(length)
        cls._until_zero = until_zero

    @classmethod
    def from_bytes(cls, buffer: ReadableBuffer, offset: int = 0, stride: int = 0) -> Self:
        """Decode what `buffer` holds from byte `offset`.

        `stride` is what an element and the bytes behind it take, where another page says that.
        ValueError if the buffer is too short for the header. Elements that it does not hold whole
        are left out, and `incomplete` says so.
        """
        return cls._decode(memoryview(buffer).cast("B")[offset:], stride)

    @classmethod
    def _decode(cls, raw: memoryview, stride: int = 0) -> Self:
        header = cls.header_type.from_bytes(raw)
        wanted = None if cls._count is None else cls._count(header)
        step = stride or cls._step(header)
        entries, at = cls._entries(raw, cls._first(header), wanted, step)
        # Whatever else the header says that there is counts as part of it.
        end = max(at, cls._length(header) if cls._length else 0)
        made = cls.__new__(cls)
        for name, value in (
            ("_raw", bytes(raw[:end])),
            ("header", header),
            ("entries", entries),
            ("incomplete", end > len(raw) or (wanted is not None and len(entries) < wanted)),
            ("stride", step),
        ):
            object.__setattr__(made, name, value)
        return made

    @classmethod
    def _entries(
        cls, raw: memoryview, at: int, wanted: int | None, step: int
    ) -> tuple[Sequence[Any], int]:
        """Return the elements from byte `at`, and where they end."""
        if cls.element_type is bytes:
            data = bytes(raw[at:] if wanted is None else raw[at : at + wanted])
            return data, at + len(data)
        entries: list[Any] = []
        while wanted is None or len(entries) < wanted:
            entry = cls._entry(raw, at)
            if entry is None:
                break
            size = max(_size_of(entry, cls.element_type), step)
            # An element of no bytes would go on for ever.
            if not size or at + size > len(raw) or (cls._until_zero and _is_zero(entry)):
                break
            entries.append(entry)
            at += size
        return tuple(entries), at

    @classmethod
    def _first(cls, header: Struct) -> int:
        """Return the offset of the first element."""
        return max(cls.header_type.size, cls._start(header) if cls._start else 0)

    @classmethod
    def _step(cls, header: Struct) -> int:
        return 0 if cls._stride is None else cls._stride(header)

    @classmethod
    def _entry(cls, raw: memoryview, at: int) -> Any:
        """Decode the element at byte `at`; None if it is not there whole."""
        kind = cls.element_type
        if isinstance(kind, int):
            return int.from_bytes(raw[at : at + kind], "little") if at + kind <= len(raw) else None
        if issubclass(kind, Struct):
            return kind.from_bytes(raw, at) if at + kind.size <= len(raw) else None
        if not issubclass(kind, StructList) or at + kind.header_type.size > len(raw):
            return None
        entry = kind._decode(raw[at:])
        return None if entry.incomplete else entry

    @classmethod
    def build(cls, entries: Iterable[Any] = (), stride: int = 0, **fields: Any) -> Self:
        """Make the page with these elements; `fields` are the header's, the count among them.

        An element may be its bytes, with those behind it, as many as `stride` in all. TypeError
        for a name that is no field, ValueError for a value that does not fit, or where the
        header's count is not that of the elements.
        """
        header = cls.header_type.build(**fields)
        kind, step = cls.element_type, stride or cls._step(header)
        given = bytes(entries) if kind is bytes else list(entries)
        parts = (
            [given]
            if isinstance(given, bytes)
            else [
                entry.to_bytes(kind, "little") if isinstance(kind, int) else bytes(entry)
                for entry in given
            ]
        )
        whole = bytes(header).ljust(cls._first(header), b"\0")
        whole += b"".join(part.ljust(step, b"\0") for part in parts)
        whole = whole.ljust(cls._length(header) if cls._length else 0, b"\0")
        made = cls._decode(memoryview(whole), stride)
        if made.incomplete or len(made.entries) != len(given):
            raise ValueError(
                f"{cls.__name__}: the header tells of other than {len(given)} elements"
            )
        return made

    @property
    def data(self) -> bytes:
        """All behind the header, as it came."""
        return self._raw[self.header_type.size :]

    @property
    def size(self) -> int:
        """Bytes of the header and the elements."""
        return len(self._raw)

    @property
    def extensions(self) -> tuple[bytes, ...]:
        """What is behind each element up to the next, for elements that are structures."""
        at, found = self._first(self.header), []
        for entry in self.entries:
            size = _size_of(entry, self.element_type)
            step = max(size, self.stride)
            found.append(self._raw[at + size : at + step])
            at += step
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the header's fields by name, and ``entries``, in JSON's types."""
        plain = self.header.to_dict()
        plain["entries"] = (
            self.entries.hex()
            if isinstance(self.entries, bytes)
            else [entry if isinstance(entry, int) else _plain(entry) for entry in self.entries]
        )
        return plain

    def dump(self) -> list[str]:
        """Return the header's lines, then each element's below its number, indented."""
        return [*self.header.dump(), *self._element_lines()]

    def _element_lines(self) -> Iterator[str]:
        if isinstance(self.entries, bytes):
            yield hex_line(self.entries)
            return
        for index, entry in enumerate(self.entries):
            if isinstance(entry, int):
                yield f"[{index}] {entry:#x}"
            else:
                yield f"[{index}]"
                yield from ("  " + line for line in entry.dump())  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ElementT]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> ElementT:
        return self.entries[index]

    def __bytes__(self) -> bytes:
        return self._raw

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self._raw, 0, self.stride)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StructList) or type(other) is not type(self):
            return NotImplemented
        return (self._raw, self.stride) == (other._raw, other.stride)

    def __hash__(self) -> int:
        return hash((type(self), self._raw, self.stride))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.entries)} elements, {self.size} bytes>"


def _plain(entry: Any) -> dict[str, Any]:
    plain: dict[str, Any] = entry.to_dict()
    return plain


def _size_of(entry: Any, kind: Element) -> int:
    return kind if isinstance(kind, int) else int(entry.size)


def _is_zero(entry: Any) -> bool:
    return entry == 0 if isinstance(entry, int) else not any(bytes(entry))
