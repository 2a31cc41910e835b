"""No page of any content makes a decoder raise anything but a ValueError that says it is too short.

That goes for every structure of the tables of Identify, log pages and features, for what those
consist of, and for what `nvme-user` makes of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_classes import LIST_CLASSES, STRUCT_CLASSES

from pynvme_user.cli.pages import binary, lines, plain
from pynvme_user.cli.shape import View
from pynvme_user.spec.features import FEATURES
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.identify_pages import IDENTIFY_PAGES
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.logs import LOG_PAGES

MOST = 8192


def of_tables() -> Iterator[Any]:
    """Every structure that a table names."""
    for page in IDENTIFY_PAGES.values():
        yield page.structure
    for log in LOG_PAGES.values():
        yield from (log.structure, *log.others)
    for feature in FEATURES.values():
        yield from (feature.data, feature.set_data, *(kind for _, kind in feature.variants))


def parts(kind: Any) -> Iterator[Any]:
    """A structure and what it consists of, at any depth."""
    yield kind
    if issubclass(kind, StructList):
        yield from parts(kind.header_type)
        if isinstance(kind.element_type, type) and kind.element_type is not bytes:
            yield from parts(kind.element_type)


KINDS = sorted(
    {part for kind in of_tables() if kind is not None for part in parts(kind)},
    key=lambda kind: kind.__name__,
)


def test_lists_in_lists_and_data_of_features_are_among_them() -> None:
    assert {kind.__name__ for kind in KINDS} >= {
        *("FdpConfiguration", "EnduranceGroupConfiguration", "PersistentEvent", "AnaGroup"),
        *("SupportedFdpEvents", "FdpEventTypes", "Timestamp", "NvmSetList"),
    }
    assert {page.structure for page in IDENTIFY_PAGES.values()} <= {*STRUCT_CLASSES, *LIST_CLASSES}


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Bytes of any length: of chance, of few bits, all alike; the first ones drawn apart."""
    size = draw(st.integers(0, 128) | st.integers(0, MOST))
    make = random.Random(draw(st.integers(0, 1 << 32)))
    start = draw(st.binary(max_size=min(size, 80)))
    rest = size - len(start)
    match draw(st.sampled_from(["chance", "few bits", "alike"])):
        case "chance":
            return start + make.randbytes(rest)
        case "few bits":
            few = bytes(make.choices([0, 0, 0, 0, 1, 2, 0x80], k=rest))
            return start + few
    return start + bytes([make.randrange(256)]) * rest


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(raw=contents())
def test_any_content(kind: Any, raw: bytes) -> None:
    least = kind.size if issubclass(kind, Struct) else kind.header_type.size
    if len(raw) < least:
        with pytest.raises(ValueError, match=rf"takes {least} bytes, the buffer has {len(raw)}"):
            kind.from_bytes(raw)
        return
    page = kind.from_bytes(raw)
    assert raw.startswith(bytes(page))
    assert json.dumps(page.to_dict(), ensure_ascii=False, allow_nan=False).encode()
    assert all(line.isascii() and line.isprintable() for line in [*page.dump(), repr(page)])
    for human in (False, True):
        view = View(device="nvme0", nsid=1, human=human, vendor=True)
        assert json.dumps(plain(page, view), allow_nan=False).isascii()
        assert all(isinstance(line, str) for line in lines(page, view))
    assert binary(page) == bytes(page)
