"""Pages of a header and as many elements as it says, or as there are."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec.fields import U8, U16, U32, ReservedBytes, Struct
from pynvme_user.spec.lists import StructList


class Head(Struct, size=4):
    """A header."""

    count = U16(0, "Number of elements")
    extra = U8(2, "Bytes behind each")
    _r = ReservedBytes(3, 1)


class Item(Struct, size=4):
    """An element."""

    value = U32(0, "Value")


class Items(StructList[Head, Item], header=Head, element=Item, count="count"):
    """Items (1.2.3)."""


class Stretched(
    StructList[Head, Item],
    header=Head,
    element=Item,
    count=lambda head: head.count + 1,
    stride=lambda head: 4 + head.extra,
):
    """Zero-based, each with something behind it."""


class Ids(StructList[Struct, int], element=4, until_zero=True):
    """Numbers up to the first that is zero."""


class Groups(StructList[Head, Items], header=Head, element=Items, count="count"):
    """Lists in a list."""


class Blob(StructList[Head, int], header=Head, element=bytes, count="count"):
    """As many bytes as the header says."""


class Rest(StructList[Head, int], header=Head, element=bytes):
    """All the bytes that there are."""


class Roomy(
    StructList[Head, Item],
    header=Head,
    element=Item,
    count="count",
    start=lambda head: head.extra,
    length=lambda head: 24,
):
    """A list in the middle of a page of 24 bytes."""


class Blobs(StructList[Head, Blob], header=Head, element=Blob, count="count"):
    """Lists of bytes in a list."""


def test_a_page_is_built_and_read_back() -> None:
    page = Items.build([Item.build(value=5), Item.build(value=6)], count=2)
    assert bytes(page) == bytes([2, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0])
    assert Items.from_bytes(bytes(page) + b"more") == page
    assert Items.from_bytes(b"x" + bytes(page), 1) == page
    assert (page.header.count, len(page), page[1].value, page.incomplete) == (2, 2, 6, False)
    assert [item.value for item in page] == [5, 6]
    assert page.to_dict() == {"count": 2, "extra": 0, "entries": [{"value": 5}, {"value": 6}]}
    assert Items.title == "Items"
    assert page.dump()[-3:] == [
        "  value     : 5            Value",
        "[1]",
        "  value     : 6            Value",
    ]
    assert pickle.loads(pickle.dumps(page)) == page
    assert len({page, Items.from_bytes(bytes(page))}) == 1
    assert page != Groups.build(count=0)
    with pytest.raises(AttributeError, match="immutable"):
        page.entries = ()  # type: ignore[misc]


def test_a_page_that_is_cut_off() -> None:
    page = bytes(Items.build([Item.build(value=5), Item.build(value=6)], count=2))
    cut = Items.from_bytes(page[:-1])
    assert cut.incomplete
    assert [item.value for item in cut] == [5]
    assert cut.size == 8
    with pytest.raises(ValueError, match="Head takes 4 bytes, the buffer has 3"):
        Items.from_bytes(page[:3])


def test_a_count_that_is_not_the_elements() -> None:
    for count in (0, 2):
        with pytest.raises(ValueError, match="tells of other than 1 elements"):
            Items.build([Item.build(value=1)], count=count)


def test_a_stride_and_a_zero_based_count() -> None:
    page = Stretched.build([Item.build(value=7)], count=0, extra=3)
    assert bytes(page) == bytes([0, 0, 3, 0, 7, 0, 0, 0, 0, 0, 0])
    assert Stretched.from_bytes(bytes(page)).entries == (Item.build(value=7),)
    assert Stretched.from_bytes(bytes(page)[:-1]).incomplete


def test_a_stride_that_another_page_tells() -> None:
    raw = bytes([2, 0, 0, 0]) + b"\5\0\0\0ab" + b"\6\0\0\0cd"
    page = Items.from_bytes(raw, stride=6)
    assert [item.value for item in page] == [5, 6]
    assert (page.extensions, page.size, page.stride) == ((b"ab", b"cd"), 16, 6)
    assert Items.build([b"\5\0\0\0ab", b"\6\0\0\0cd"], stride=6, count=2) == page
    assert pickle.loads(pickle.dumps(page)) == page
    assert page != Items.from_bytes(raw)
    assert Items.from_bytes(raw).extensions == (b"", b"")
    cut = Items.from_bytes(raw[:-1], stride=6)
    assert (cut.incomplete, cut.extensions) == (True, (b"ab",))


def test_numbers_to_the_first_zero() -> None:
    page = Ids.from_bytes(b"\1\0\0\0\2\0\0\0" + bytes(8) + b"\3\0\0\0")
    assert page.entries == (1, 2)
    assert not page.incomplete
    assert page.to_dict() == {"entries": [1, 2]}
    assert page.dump() == ["[0] 0x1", "[1] 0x2"]
    assert Ids.build([9, 1 << 31]).entries == (9, 1 << 31)


def test_lists_in_a_list() -> None:
    inner = [Items.build([Item.build(value=n)] * n, count=n) for n in (2, 0, 1)]
    page = Groups.build(inner, count=3)
    assert Groups.from_bytes(bytes(page)).entries == tuple(inner)
    cut = Groups.from_bytes(bytes(page)[:-1])
    assert (len(cut), cut.incomplete) == (2, True)


def test_bytes_that_have_no_structure() -> None:
    page = Blob.from_bytes(bytes([3, 0, 0, 0]) + b"abcd")
    assert (page.entries, page.data, page.size, page.incomplete) == (b"abc", b"abc", 7, False)
    assert (len(page), page[1], list(page)) == (3, ord("b"), list(b"abc"))
    assert page.to_dict() == {"count": 3, "extra": 0, "entries": "616263"}
    assert page.dump()[-1] == "616263"
    assert Blob.build(b"abc", count=3) == page == pickle.loads(pickle.dumps(page))
    cut = Blob.from_bytes(bytes([3, 0, 0, 0]) + b"ab")
    assert (cut.entries, cut.incomplete) == (b"ab", True)
    assert Rest.from_bytes(bytes(4) + b"abcd").entries == b"abcd"
    assert Rest.from_bytes(bytes(4)).dump()[-1] == "0 bytes of zero"
    assert Rest.build(b"x" * 40).dump()[-1] == "78" * 32 + "..."
    with pytest.raises(ValueError, match="tells of other than 2 elements"):
        Blob.build(b"ab", count=3)


def test_a_list_that_begins_behind_its_header_in_a_page_with_an_end() -> None:
    page = Roomy.build([Item.build(value=7)], count=1, extra=8)
    assert bytes(page) == bytes([1, 0, 8, 0, 0, 0, 0, 0, 7]) + bytes(15)
    assert Roomy.from_bytes(bytes(page) + b"more") == page
    assert (page.data, page.extensions) == (bytes(4) + b"\7" + bytes(15), (b"",))
    assert Roomy.from_bytes(bytes(page)[:-1]).incomplete
    # An offset within the header, or behind the end, is the device's mistake.
    assert Roomy.from_bytes(b"\1\0\1\0" + bytes([7]) + bytes(19)).entries[0].value == 7
    far = Roomy.from_bytes(b"\1\0\xff\0" + bytes(20))
    assert (far.entries, far.incomplete) == ((), True)


def test_lists_of_bytes_in_a_list() -> None:
    page = Blobs.build([Blob.build(b"ab", count=2), Blob.build(count=0)], count=2)
    assert [blob.entries for blob in page] == [b"ab", b""]
    cut = Blobs.from_bytes(bytes(page)[:-5])
    assert (len(cut), cut.incomplete) == (0, True)


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise_but_for_being_short(raw: bytes) -> None:
    for kind in (Items, Stretched, Ids, Groups, Blob, Rest, Roomy, Blobs):
        if len(raw) < kind.header_type.size:
            with pytest.raises(ValueError, match="takes 4 bytes"):
                kind.from_bytes(raw)
        else:
            page = kind.from_bytes(raw)
            assert raw.startswith(bytes(page)[: kind.header_type.size])
            assert kind.from_bytes(bytes(page)) == page or page.incomplete
            assert page.to_dict()
            page.dump()
