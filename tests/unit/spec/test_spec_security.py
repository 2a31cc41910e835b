"""Security Send and Receive against numbers written out from the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec import security
from pynvme_user.spec.security import RpmbFrame, RpmbFrameHeader, SupportedProtocols


def test_security_dwords() -> None:
    dword = security.SecurityCdw10.build(nssf=2, spsp0=1, secp=security.SecurityProtocol.NVME)
    assert dword == 0xEA000102
    assert dword.spsp == security.RPMB_SPSP
    assert security.SecurityCdw10(0x01123400).spsp == 0x1234
    assert security.SecuritySendCdw11.build(tl=512) == 512
    assert security.SecurityReceiveCdw11.build(al=512) == 512
    assert security.RpmbResult.build(status=2, wce=1) == 0x82


def test_list_of_protocols() -> None:
    page = SupportedProtocols.from_bytes(bytes(6) + b"\0\3" + b"\0\1\xea" + bytes(501))
    assert list(page) == [0x00, 0x01, 0xEA]


def test_rpmb_frame() -> None:
    offsets = {field.name: field.offset for field in RpmbFrameHeader.layout if not field.reserved}
    assert offsets == {
        "mac": 191,
        "target": 223,
        "nonce": 224,
        "wcount": 240,
        "addr": 244,
        "scount": 248,
        "result": 252,
        "message": 254,
    }
    frame = RpmbFrame.build(
        b"data", target=1, scount=1, message=security.RpmbMessage.AUTHENTICATED_DATA_WRITE
    )
    assert bytes(frame)[223:] == b"\1" + bytes(24) + b"\1\0\0\0" + b"\0\0\3\0" + b"data"
    assert bytes(RpmbFrame.from_bytes(bytes(frame)).entries) == b"data"
    block = security.RpmbDeviceConfigurationBlock.from_bytes(b"\1\2" + bytes(510))
    assert (block.bppe.bppe, block.bpl.bp0l, block.bpl.bp1l) == (1, 0, 1)


@given(st.sampled_from([SupportedProtocols, RpmbFrame]), st.binary(max_size=1200))
def test_no_bytes_are_refused_but_too_few(
    kind: type[SupportedProtocols | RpmbFrame], raw: bytes
) -> None:
    if len(raw) < kind.header_type.size:
        with pytest.raises(ValueError, match="the buffer has"):
            kind.from_bytes(raw)
    else:
        assert all(line.isascii() for line in kind.from_bytes(raw).dump())
