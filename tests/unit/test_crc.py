"""The CRCs against known values, and each way to compute one against the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.native import lib
from pynvme_user.protection import crc16, crc32c, crc64

Crc = Callable[..., int]

UP = bytes(range(256)) * 16
#: The catalogue's check values, those of NVM Command Set 1.1, section 5.3.1, and RFC 3720, B.4.
KNOWN: list[tuple[Crc, bytes, int]] = [
    (crc16, b"", 0),
    (crc16, b"123456789", 0xD0DB),
    (crc32c, b"", 0),
    (crc32c, b"123456789", 0xE3069283),
    (crc32c, bytes(32), 0x8A9136AA),
    (crc32c, bytes(4096), 0x98F94189),
    (crc32c, b"\xff" * 4096, 0x25C1FE13),
    (crc32c, UP, 0x9C71FE32),
    (crc32c, UP[::-1], 0x214941A8),
    (crc64, b"", 0),
    (crc64, b"123456789", 0xAE8B14860A799888),
    (crc64, bytes(4096), 0x6482D367EB22B64E),
    (crc64, b"\xff" * 4096, 0xC0DDBA7302ECA3AC),
    (crc64, UP, 0x3E729F5F6750449C),
    (crc64, UP[::-1], 0x9A2DF64B8E9E517E),
]
TABLES: dict[Crc, Crc] = {
    crc16: lib.checksum_crc16_table,
    crc32c: lib.checksum_crc32c_table,
    crc64: lib.checksum_crc64_table,
}


def by_bits(crc: Crc, data: bytes, start: int) -> int:
    """The definition, one bit after the other."""
    if crc is crc16:
        for byte in data:
            start ^= byte << 8
            for _ in range(8):
                start = (start << 1) ^ (0x18BB7 if start & 0x8000 else 0)
        return start
    ones, polynomial = (
        ((1 << 32) - 1, 0x82F63B78) if crc is crc32c else ((1 << 64) - 1, 0x9A6C9329AC4BC9B5)
    )
    start ^= ones
    for byte in data:
        start ^= byte
        for _ in range(8):
            start = (start >> 1) ^ (polynomial if start & 1 else 0)
    return start ^ ones


@pytest.mark.parametrize(("crc", "data", "expected"), KNOWN)
def test_known_values(crc: Crc, data: bytes, expected: int) -> None:
    assert crc(data) == TABLES[crc](0, data, len(data)) == expected


@pytest.mark.parametrize("crc", TABLES)
def test_every_length_and_start(crc: Crc) -> None:
    """The instructions and the tables agree, whatever is left over at either end."""
    data = bytes((7 * n + n // 251) & 0xFF for n in range(1100))
    for length in [*range(300), 511, 512, 513, 767, 768, 769, 1023, 1024, 1025]:
        start = length % 17
        part = memoryview(data)[start : start + length]
        want = TABLES[crc](0x5A5A, bytes(part), length)
        assert crc(part, 0x5A5A) == want, length
        if length < 40:
            assert by_bits(crc, bytes(part), 0x5A5A) == want


@pytest.mark.parametrize("crc", TABLES)
@given(data=st.binary(max_size=3000), cut=st.integers(0, 3000))
def test_one_goes_on_where_another_ended(crc: Crc, data: bytes, cut: int) -> None:
    assert crc(data[cut:], crc(data[:cut])) == crc(data) == TABLES[crc](0, data, len(data))
