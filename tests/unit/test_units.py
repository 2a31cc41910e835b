"""Sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4k", 4096),
        ("4K", 4096),
        ("4KiB", 4096),
        ("4kb", 4096),
        (" 256 MiB ", 256 << 20),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        ("3p", 3 << 50),
        ("512B", 512),
        ("0x1000", 4096),
        ("0XfF", 255),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1.5G", "4x", "4kk", "0x", "0xg", "1 2", "4ki b", "1e3", "one"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size: write for example 4096, 4k, 256M or 1G"):
        parse_size(text)


@given(st.integers(0, 1 << 60), st.sampled_from("kmgtp"))
def test_powers(number: int, suffix: str) -> None:
    power = 1024 ** ("kmgtp".index(suffix) + 1)
    for text in (suffix, suffix.upper(), suffix.upper() + "iB", suffix + "b"):
        assert parse_size(f"{number}{text}") == number * power


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1 TiB"),
        (1 << 50, "1 PiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1023), st.integers(0, 5))
def test_what_is_written_can_be_read(number: int, power: int) -> None:
    size = number << 10 * power
    assert parse_size(format_size(size)) == size
