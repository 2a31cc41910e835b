"""The base of every register: an int whose bits have names.

A field is declared once, on one line. Reading, writing, range checks and dumps derive from that
line, so a mask can't disagree with itself. Every bit is declared, reserved ones included, and a
layout with a gap or an overlap is refused when its class is created.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum, IntFlag
from operator import index
from typing import ClassVar, Self, TypeAlias, overload


def title(cls: type) -> str:
    """Return a class's long name: its docstring's first line without the section number."""
    first = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
    return first.split(" (")[0].rstrip(".")


def check_layout(what: str, unit: str, total: int, spans: Iterable[tuple[int, int, str]]) -> None:
    """Raise TypeError unless `spans` (first, last, name) cover 0..total-1 exactly once."""
    expected, previous = 0, ""
    for first, last, name in sorted(spans):
        if last < first:
            raise TypeError(f"{what}: {name} ends at {unit} {last}, before its start {first}")
        if first > expected:
            raise TypeError(
                f"{what}: gap at {unit}s {first - 1}:{expected} before {name}; "
                "declare it as reserved"
            )
        if first < expected:
            raise TypeError(f"{what}: {name} overlaps {previous} at {unit} {first}")
        expected, previous = last + 1, name
    if expected != total:
        raise TypeError(f"{what}: the fields cover {expected} {unit}s, its size is {total}")


def fit(owner: str, name: str, value: int, limit: int) -> int:
    """Return `value` as an int if it is within 0..limit; ValueError or TypeError otherwise."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{owner}.{name} is a whole number, not {value!r}") from None
    if not 0 <= number <= limit:
        raise ValueError(f"{owner}.{name} = {value} does not fit: the range is 0 to {limit}")
    return number


Names: TypeAlias = type[IntEnum] | type[IntFlag]


def named(value: int, names: Names | None) -> str:
    """Return what `names` calls `value`, every flag in it for an IntFlag; "" if it has no name."""
    if names is None:
        return ""
    if issubclass(names, IntFlag):
        return ", ".join(str(flag.name) for flag in names if flag & value)
    return next((str(member.name) for member in names if member == value), "")


class Bits:
    """Bits msb..lsb of a register (both inclusive, as the specification writes them).

    Read on an instance it is the field's value, read on the class this descriptor, with `msb`,
    `lsb`, `width`, `mask` (in place) and `limit` (the greatest value). `names` is an IntEnum
    or IntFlag that names the values in dumps; a value without a name is still read as it is.
    """

    reserved: ClassVar[bool] = False

    def __init__(self, msb: int, lsb: int, text: str, names: Names | None = None) -> None:
        self.name = ""
        self.msb = msb
        self.lsb = lsb
        self.text = text
        self.names = names
        self.width = msb - lsb + 1
        self.limit = (1 << max(self.width, 0)) - 1
        self.mask = self.limit << lsb

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, register: None, owner: type) -> Self: ...
    @overload
    def __get__(self, register: "Register", owner: type) -> int: ...
    def __get__(self, register: "Register | None", owner: type) -> Self | int:
        return self if register is None else (int(register) >> self.lsb) & self.limit

    def __repr__(self) -> str:
        return f"<bits {self.msb}:{self.lsb} {self.name}: {self.text}>"


class Bit(Bits):
    """One bit of a register."""

    def __init__(self, bit: int, text: str, names: Names | None = None) -> None:
        super().__init__(bit, bit, text, names)


class Reserved(Bits):
    """Reserved bits msb..lsb: they count in the layout, and can't be set by name."""

    reserved = True

    def __init__(self, msb: int, lsb: int) -> None:
        super().__init__(msb, lsb, "Reserved")


class Register(int):
    """An immutable unsigned integer whose bits have names.

    Declare one as ``class CC(Register, width=32, offset=0x14)``: `width` in bits, `offset` in
    bytes for a register of the controller's property space, left out for one inside a structure
    or a command. The docstring's first line is the long name. TypeError if the fields' widths
    don't sum to the register's.

    Being an int it compares, formats and serialises to JSON as one.
    """

    width: ClassVar[int]
    offset: ClassVar[int | None]
    title: ClassVar[str]
    layout: ClassVar[tuple[Bits, ...]]

    def __init_subclass__(cls, *, width: int, offset: int | None = None) -> None:
        super().__init_subclass__()
        layout = tuple(field for field in vars(cls).values() if isinstance(field, Bits))
        for field in layout:
            if hasattr(Register, field.name) or field.name in Register.__annotations__:
                raise TypeError(
                    f"{cls.__name__}: the field name {field.name} is taken by its base class"
                )
        check_layout(
            cls.__name__, "bit", width, ((field.lsb, field.msb, field.name) for field in layout)
        )
        cls.width = width
        cls.offset = offset
        cls.title = title(cls)
        cls.layout = layout

    def __new__(cls, value: int = 0) -> Self:
        """Make the register that holds `value`; ValueError if that is not within its width."""
        if not 0 <= value < 1 << cls.width:
            raise ValueError(f"{cls.__name__}: {value:#x} does not fit in {cls.width} bits")
        return super().__new__(cls, value)

    @classmethod
    def build(cls, **fields: int) -> Self:
        """Make the register with these fields, every other bit 0.

        TypeError for a name that is no field, ValueError for a value that does not fit.
        """
        return cls().replace(**fields)

    def replace(self, **fields: int) -> Self:
        """Return a copy with these fields changed, every other bit kept; errors as for `build`."""
        raw = int(self)
        for name, value in fields.items():
            field = vars(type(self)).get(name)
            if not isinstance(field, Bits) or field.reserved:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            raw &= ~field.mask
            raw |= fit(type(self).__name__, name, value, field.limit) << field.lsb
        return type(self)(raw)

    def fields(self) -> Iterator[tuple[str, int, str]]:
        """Yield (name, value, long name) of each field not reserved, in declared order."""
        for field in self.layout:
            if not field.reserved:
                yield field.name, field.__get__(self, type(self)), field.text

    def dump(self) -> list[str]:
        """Return a line per field: name, value, long name and what the value is called.

        Reserved bits appear only if a device set them.
        """
        lines = []
        for field in self.layout:
            value = field.__get__(self, type(self))
            if field.reserved and value == 0:
                continue
            name = f"{field.msb}:{field.lsb}" if field.reserved else field.name
            meaning = named(value, field.names)
            text = f"{field.text}: {meaning}" if meaning else field.text
            lines.append(f"{name:<8}: {value:<#10x} {text}")
        return lines

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=...)")

    def __str__(self) -> str:
        return f"{int(self):#x}"

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value:#x}" for name, value, _ in self.fields())
        return f"<{type(self).__name__} {int(self):#0{self.width // 4 + 2}x}: {fields}>"
