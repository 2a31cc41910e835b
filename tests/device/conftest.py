"""Devices of known behaviour that several modules of benchmark tests run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench_rig import DELAY
from software_controller import served


@pytest.fixture(scope="module")
def fast(qemu: None) -> Iterator[str]:
    """A device of its own, whatever --device is: once is enough."""
    with served("size=64M") as (name, _):
        yield name


@pytest.fixture(scope="module")
def slow(qemu: None) -> Iterator[str]:
    """Each I/O takes a millisecond, as many at once as there are."""
    with served(f"null&delay={DELAY * 1e6:.0f}&size=64M") as (name, _):
        yield name
