"""The Persistent Event log, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from pynvme_user.spec import logs
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.logs import PersistentEvent, PersistentEventLog, PersistentEventType


def event(event_type: int, data: bytes, vsi: bytes = b"", **fields: Any) -> PersistentEvent:
    return PersistentEvent.build(
        vsi + data, et=event_type, etr=1, ehl=21, vsil=len(vsi), el=len(vsi) + len(data), **fields
    )


def test_the_log() -> None:
    excursion = event(0x0D, b"\5\1", vsi=b"vendor", cntlid=3)
    unknown = event(0x70, b"abc")
    verified = event(0x0E, b"")
    page = PersistentEventLog.build(
        [excursion, unknown, verified],
        lid=0x0D,
        tnev=3,
        tll=512 + 3 * 24 + 11,
        lrev=3,
        lhl=492,
        sn="S1",
        seb=((1 << 0x0D) | (1 << 0xDE)).to_bytes(32, "little"),
        rci=logs.RCI.build(rcpid=1, rcpit=1, rce=1),
    )
    assert page.size == page.total_length == 595
    assert bytes(page)[374:378] == bytes.fromhex("01000500")
    read = PersistentEventLog.from_bytes(bytes(page) + b"more")
    assert (read, read.incomplete) == (page, False)
    assert read.header.supported_events == [0x0D, 0xDE]
    assert [part.vsi for part in read] == [b"vendor", b"", b""]
    thermal, raw, none = (part.event for part in read)
    assert isinstance(thermal, logs.ThermalExcursionEvent)
    assert (thermal.otmp, thermal.thresh) == (5, logs.ThermalThreshold.WCTEMP)
    assert (raw, none) == (b"abc", b"")
    plain = read.to_dict()["entries"]
    assert plain[0]["vsi"] == b"vendor".hex()
    assert (plain[0]["event"], plain[1]["event"]) == ({"otmp": 5, "thresh": 1}, "616263")
    shown = read.dump()
    assert any("Event Type" in line and "THERMAL_EXCURSION" in line for line in shown)
    assert "  vsi       : 76656e646f72" in shown
    assert "  event     : 616263" in shown
    assert any("Threshold" in line and "WCTEMP" in line for line in shown)
    cut = PersistentEventLog.from_bytes(bytes(page)[:-1])
    assert (len(cut), cut.incomplete) == (2, True)


def test_a_header_longer_than_known_here() -> None:
    raw = bytes.fromhex("0d 01 17").ljust(22, b"\0") + bytes.fromhex("0200") + b"??" + b"\5\2"
    assert PersistentEvent.from_bytes(raw).event == logs.ThermalExcursionEvent.build(
        otmp=5, thresh=2
    )
    # One that says that it is shorter than the fields that every event has is not believed.
    raw = bytes.fromhex("0d 01 00").ljust(22, b"\0") + bytes.fromhex("0200") + b"\5\2"
    assert PersistentEvent.from_bytes(raw).to_dict()["event"] == {"otmp": 5, "thresh": 2}


STAMP = bytes.fromhex("e803000000000200")  # 1 s, origin 1

DATA = [
    (PersistentEventType.SMART_HEALTH_SNAPSHOT, b"\2\x38\1" + bytes(509), {"cw": 2, "ctemp": 312}),
    (
        PersistentEventType.FIRMWARE_COMMIT,
        b"1.0     2.0     " + bytes.fromhex("03 02 01 0b 3412"),
        {"ofr": "1.0", "nfr": "2.0", "fca": 3, "fslt": 2, "srfcc": 0x0B, "vafcrc": 0x1234},
    ),
    (PersistentEventType.TIMESTAMP_CHANGE, STAMP + b"\7" + bytes(7), {"msr": 7}),
    (
        PersistentEventType.CHANGE_NAMESPACE,
        bytes.fromhex("01000000") + bytes(42)[:38] + bytes.fromhex("0500 ffffffff"),
        {"nmcdw10": 1, "endgid": 5, "nsid": 0xFFFFFFFF},
    ),
    (
        PersistentEventType.FORMAT_NVM_START,
        bytes.fromhex("01000000 04 000000 10020000"),
        {"nsid": 1, "fna": 4, "fcdw10": 0x210},
    ),
    (
        PersistentEventType.FORMAT_NVM_COMPLETION,
        bytes.fromhex("01000000 05 01 3412 0e00 0000"),
        {"nsid": 1, "sfpi": 5, "fnvms": 1, "cinfo": 0x1234, "info": 14},
    ),
    (
        PersistentEventType.SANITIZE_START,
        bytes.fromhex("03000000 02000000 78563412"),
        {"sanicap": 3, "scdw10": 2, "scdw11": 0x12345678},
    ),
    (
        PersistentEventType.SANITIZE_COMPLETION,
        bytes.fromhex("ffff 0101 3412 0000"),
        {"sprog": 0xFFFF, "sstat": 0x101, "cinfo": 0x1234},
    ),
    (PersistentEventType.TELEMETRY_LOG_CREATED, b"\7" + bytes(511), {"lid": 7, "ths": 0}),
    (PersistentEventType.TELEMETRY_LOG_CREATED, b"\x08" + bytes(511), {"lid": 8, "tcs": 0}),
    (PersistentEventType.THERMAL_EXCURSION, b"\5\xb0", {"otmp": 5, "thresh": 0xB0}),
]


@pytest.mark.parametrize(("event_type", "data", "fields"), DATA)
def test_an_event_of_fixed_size(
    event_type: PersistentEventType, data: bytes, fields: dict[str, object]
) -> None:
    decoded = event(event_type, data).event
    assert isinstance(decoded, Struct)
    assert fields.items() <= decoded.to_dict().items()
    # Too short for its type: it is shown as it is.
    short = event(event_type, data[:-1])
    assert short.event == data[:-1]
    assert short.to_dict()["event"] == data[:-1].hex()


def test_power_on_or_reset() -> None:
    reset = logs.ControllerReset.build(cntlid=1, fa=2, cpwrc=9, pom=5000, ctstp=1000)
    data = b"2.0     " + bytes(reset) * 2
    decoded = event(0x04, data).event
    assert isinstance(decoded, logs.PowerOnOrResetEvent)
    assert (decoded.header.frev, decoded.entries) == ("2.0", (reset, reset))
    assert bytes(reset)[16:28] == bytes.fromhex("09000000 8813000000000000")


def test_a_hardware_error() -> None:
    decoded = event(0x05, bytes.fromhex("0600 0000 02")).event
    assert isinstance(decoded, logs.HardwareErrorEvent)
    assert decoded.header.nsheec == logs.HardwareError.CRITICAL_WARNING
    assert decoded.entries == b"\2"


def test_set_feature() -> None:
    layout = logs.SFEL.build(dwc=2, lccdw0=1, mbc=3)
    assert layout == 0x0003000A
    data = bytes.fromhex("0a000300 04000000 5b010000") + b"abc" + bytes.fromhex("01000000")
    decoded = event(0x0B, data).event
    assert isinstance(decoded, logs.SetFeatureEvent)
    assert (decoded.cdws, decoded.mbuf, decoded.ccdw0) == ((4, 0x15B), b"abc", 1)
    assert decoded.to_dict() == {
        "sfel": layout,
        "cdws": [4, 0x15B],
        "mbuf": "616263",
        "ccdw0": 1,
    }
    without = logs.SetFeatureEvent.from_bytes(bytes.fromhex("01000000 04000000"))
    assert (without.cdws, without.mbuf, without.ccdw0) == ((4,), b"", None)
    cut = logs.SetFeatureEvent.from_bytes(data[:10])
    assert (cut.cdws, cut.mbuf, cut.ccdw0, cut.incomplete) == ((4,), b"", None, True)


def test_a_vendors_event() -> None:
    name = logs.VendorEventDescriptor.build(b"name\0", vsec=7, vsedt=1, uidx=2, vsedl=5)
    number = logs.VendorEventDescriptor.build(b"\xff" * 8, vsec=7, vsedt=4, vsedl=8)
    decoded = event(0xDE, bytes(name) + bytes(number)).event
    assert isinstance(decoded, logs.VendorEvent)
    assert decoded.entries == (name, number)
    assert decoded[0].entries == b"name\0"
    assert decoded[1].header.vsedt == logs.VendorEventDataType.SIGNED_INTEGER
