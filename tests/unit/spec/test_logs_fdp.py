"""The pages of Flexible Data Placement."""

from __future__ import annotations

from pynvme_user.spec import logs


def test_configurations() -> None:
    # One, of two groups, which take a bit of the identifier, and three handles of 96 MiB.
    page = bytes.fromhex("0000 00 00 5c000000 0000000000000000") + (
        bytes.fromhex("4c00 81 00 02000000 0300 0500 00010000 0000000600000000 00000000")
        + bytes(36)
        + bytes.fromhex("01000000") * 3
    )
    log = logs.FdpConfigurationsLog.from_bytes(page.ljust(4096, b"\0"))
    assert (len(log), log.total_length, log.size, log.incomplete) == (1, 92, 92, False)
    (configuration,) = log
    header = configuration.header
    assert (header.fdpa.rgif, header.fdpa.fdpcv, header.fdpa.fdpvwc) == (1, 1, 0)
    assert (header.nrg, header.nruh, header.maxpids, header.nnss) == (2, 3, 5, 256)
    assert header.runs == 96 << 20
    assert [handle.ruht for handle in configuration] == [1, 1, 1]
    assert any("INITIALLY_ISOLATED" in line for line in log.dump())
    assert len(logs.FdpConfigurationsLog.from_bytes(page[:-1])) == 0


def test_what_the_vendor_adds_to_a_configuration() -> None:
    handle = logs.ReclaimUnitHandle.build(ruht=2)
    first = (
        bytes(logs.FdpConfigurationHeader.build(dsze=72, vss=4, nruh=1)) + bytes(handle) + b"vend"
    )
    second = logs.FdpConfiguration.build([handle, handle], dsze=72, nruh=2)
    page = bytes(logs.FdpConfigurationsHeader.build(numfdpc=1, sze=160)) + first + bytes(second)
    log = logs.FdpConfigurationsLog.from_bytes(page)
    assert [(part.vs, len(part)) for part in log] == [(b"vend", 1), (b"", 2)]
    assert (log.incomplete, log.size) == (False, 160)


def test_usage_and_statistics() -> None:
    usage = logs.ReclaimUnitHandleUsageLog.from_bytes(
        bytes.fromhex("0200000000000000 0200000000000000 0000000000000000")
    )
    assert [handle.ruha for handle in usage] == [
        logs.ReclaimUnitHandleAttributes.CONTROLLER_SPECIFIED,
        logs.ReclaimUnitHandleAttributes.UNUSED,
    ]
    statistics = logs.FdpStatisticsLog.build(hbmw=1 << 70, mbmw=2, mbe=3)
    assert bytes(statistics)[8:17] == b"\x40" + bytes(7) + b"\2"


def test_events() -> None:
    moved = logs.MediaReallocated.build(sef=1, nlbam=8, lba=0x1000)
    event = logs.FdpEvent.build(
        etyp=0x80,
        fdpef=logs.FDPEF.build(piv=1, lv=1),
        pid=3,
        etmsp=logs.EventTimestamp.build(ts=1 << 40, synch=1, to=1),
        etsp=bytes(moved),
        rgid=1,
        ruhid=2,
    )
    log = logs.FdpEventsLog.build([event, logs.FdpEvent.build(etyp=3, nsid=1, fdpef=2)], numfdpe=2)
    assert bytes(log)[64:76] == bytes.fromhex("80 05 0300 0000000000010300")
    first, second = logs.FdpEventsLog.from_bytes(bytes(log).ljust(4096, b"\0"))
    assert (first.media_reallocated, second.media_reallocated) == (moved, None)
    assert (first.etmsp.ts, first.etmsp.synch, first.etmsp.to) == (1 << 40, 1, 1)
    assert second.etyp == logs.FdpEventType.INVALID_PLACEMENT_IDENTIFIER
    assert (second.fdpef.nsidv, second.nsid) == (1, 1)
