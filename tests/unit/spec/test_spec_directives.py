"""Directives against numbers written out from the specification."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.spec import directives
from pynvme_user.spec.directives import (
    DIRECTIVE_DATA,
    DirectiveParameters,
    DirectiveType,
    StreamsParameters,
    StreamsReceive,
    StreamsStatus,
)
from pynvme_user.spec.fields import Register, Struct


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (directives.DirectiveCdw11.build(doper=3, dtype=1, dspec=0xABCD), 0xABCD0103),
        (directives.EnableDirectiveCdw12.build(endir=1, dtype=2), 0x0201),
        (directives.Directives.build(idir=1, dpdir=1, vsdir=1), 0x8005),
        (directives.StreamCapability.build(ssid=1), 1),
        (directives.StreamCapability.build(srnzid=1), 2),
        (directives.AllocateResourcesCdw12.build(nsr=16), 16),
        (directives.AllocateResourcesResult.build(nsa=16), 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_directive_dword(register: Register, value: int) -> None:
    assert register == value


def test_directive_parameters() -> None:
    page = bytearray(4096)
    page[0], page[32], page[64] = 0b111, 0b101, 0b100
    parameters = DirectiveParameters.from_bytes(page)
    assert (parameters.supported.sdir, parameters.enabled.sdir) == (1, 0)
    assert parameters.persistent.dpdir == 1


def test_streams() -> None:
    assert StreamsParameters.size == 32
    offsets = {f.name: f.offset for f in StreamsParameters.layout if not f.reserved}
    assert offsets == {
        "msl": 0,
        "nssa": 2,
        "nsso": 4,
        "nssc": 6,
        "sws": 16,
        "sgs": 20,
        "nsa": 22,
        "nso": 24,
    }
    status = StreamsStatus.from_bytes(bytes.fromhex("0200 0100 0900 0000"))
    assert list(status) == [1, 9]
    assert StreamsStatus.from_bytes(b"\xff\xff\1\0").incomplete


def test_data_by_operation() -> None:
    receive = DIRECTIVE_DATA[DirectiveType.STREAMS, StreamsReceive.RETURN_PARAMETERS]
    assert receive is StreamsParameters
    assert DIRECTIVE_DATA[DirectiveType.STREAMS, StreamsReceive.ALLOCATE_RESOURCES] is None
    assert DIRECTIVE_DATA[0, 1] is DirectiveParameters


KINDS = [kind for kind in DIRECTIVE_DATA.values() if kind is not None]


@given(st.sampled_from(KINDS), st.binary(max_size=4200))
@example(StreamsStatus, b"\xff" * 4096)
def test_no_bytes_are_refused_but_too_few(
    kind: type[DirectiveParameters | StreamsParameters | StreamsStatus], raw: bytes
) -> None:
    least = kind.size if issubclass(kind, Struct) else kind.header_type.size
    if len(raw) < least:
        with pytest.raises(ValueError, match="the buffer has"):
            kind.from_bytes(raw)
    else:
        assert all(line.isascii() for line in kind.from_bytes(raw).dump())
