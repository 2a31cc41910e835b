"""Log pages that are lists, made as the specification says, and those that a device cut off."""

from __future__ import annotations

import pytest

from pynvme_user.spec import logs


def test_changed_namespaces() -> None:
    for kind in (logs.ChangedNamespaceList, logs.ChangedAllocatedNamespaceList):
        page = bytes.fromhex("01000000 05000000").ljust(4096, b"\0")
        assert kind.from_bytes(page).entries == (1, 5)
        assert kind.from_bytes(bytes(4096)).entries == ()
        full = kind.from_bytes(bytes.fromhex("ffffffff").ljust(4096, b"\0"))
        assert full.entries == (0xFFFFFFFF,)
        assert len(kind.from_bytes(bytes.fromhex("01000000") * 1024)) == 1024


def test_ana() -> None:
    groups = [
        logs.AnaGroup.build([1, 4], agid=1, nnv=2, chgc=5, anasa=1),
        logs.AnaGroup.build(agid=2, anasa=0xF),
    ]
    page = logs.AnaLog.build(groups, chgc=6, nagd=2)
    assert page.size == 16 + 32 + 8 + 32
    read = logs.AnaLog.from_bytes(bytes(page).ljust(4096, b"\0"))
    assert read == page
    assert [group.entries for group in read] == [(1, 4), ()]
    assert read[0].header.anasa.anas == logs.AnaState.OPTIMIZED
    assert read.to_dict()["entries"][0]["entries"] == [1, 4]
    assert any("Asymmetric Namespace Access State: CHANGE" in line for line in read.dump())
    assert len(logs.AnaLog.from_bytes(bytes(page)[:-1])) == 1


def test_lba_status() -> None:
    where = logs.LbaStatusNamespace.build(
        [logs.LbaStatusRange.build(rslba=64, rnlb=7)], neid=1, nlrd=1, ratype=0x10
    )
    anywhere = logs.LbaStatusNamespace.build(neid=2, nlrd=0xFFFFFFFF, ratype=0x11)
    page = logs.LbaStatusLog.build([where, anywhere], lslplen=64, nlslne=2, lsgc=3)
    assert page.size == page.total_length == 64
    read = logs.LbaStatusLog.from_bytes(bytes(page))
    assert [(part.header.neid, len(part)) for part in read] == [(1, 1), (2, 0)]
    assert (read[0][0].rslba, read[0][0].rnlb, read.incomplete) == (64, 7, False)
    assert any("SCAN_UNTRACKED" in line for line in read.dump())


def test_a_dispersed_namespace() -> None:
    nqns = ["nqn.2014-08.org.nvmexpress:a", "nqn.2014-08.org.nvmexpress:b"]
    parts = [logs.ParticipatingSubsystem.build(subnqn=nqn) for nqn in nqns]
    page = logs.DispersedNamespaceLog.build(parts, genctr=1, numpsub=2)
    assert page.size == 768
    assert [part.subnqn for part in logs.DispersedNamespaceLog.from_bytes(bytes(page))] == nqns


def test_reachability() -> None:
    groups = logs.ReachabilityGroupsLog.build(
        [logs.ReachabilityGroup.build([30], rgid=1, nnid=1, chngc=2)], chngc=2, nrgd=1
    )
    assert bytes(groups)[16:52] == bytes.fromhex("01000000 01000000 02") + bytes(23) + b"\x1e\0\0\0"
    associations = logs.ReachabilityAssociationsLog.build(
        [logs.ReachabilityAssociation.build([1, 2], rasid=9, nrid=2, rac=2)], nrad=1
    )
    read = logs.ReachabilityAssociationsLog.from_bytes(bytes(associations))
    assert (read[0].entries, read[0].header.rac) == ((1, 2), 2)
    assert any("FAST_COPY" in line for line in read.dump())


def test_a_reservation_notification() -> None:
    page = bytes.fromhex("0700000000000000 03 02 0000 05000000").ljust(64, b"\0")
    log = logs.ReservationNotificationLog.from_bytes(bytes(page))
    assert (log.lpc, log.nalp, log.nsid) == (7, 2, 5)
    assert log.rnlpt == logs.ReservationNotificationType.RESERVATION_PREEMPTED


def test_changed_zones() -> None:
    page = bytes.fromhex("0200000000000000 0000010000000000 0000020000000000").ljust(4096, b"\0")
    log = logs.ChangedZonesLog.from_bytes(bytes(page))
    assert (log.entries, log.size, log.incomplete) == ((0x10000, 0x20000), 4096, False)
    more = logs.ChangedZonesLog.from_bytes(bytes.fromhex("ffff").ljust(4096, b"\0"))
    assert (more.header.nrzid, more.entries, more.incomplete) == (0xFFFF, (), False)


def test_aggregates() -> None:
    for kind in (logs.PredictableLatencyAggregateLog, logs.EnduranceGroupAggregateLog):
        log = kind.from_bytes(bytes.fromhex("0300000000000000 0100 0200 0700 ffff"))
        assert log.entries == (1, 2, 7)


def test_predictable_latency() -> None:
    log = logs.PredictableLatencyLog.build(stat=2, et=0x8001, dtwintm=500, dtwinte=7)
    assert log.stat.wstat == logs.PredictableLatencyWindow.NON_DETERMINISTIC
    assert (log.et.dtwinrw, log.et.atdtde, log.et.atdtve) == (1, 1, 0)


def test_media_units() -> None:
    # Channels begin at CIO, a multiple of 16.
    raw = bytes.fromhex("0000 0000 0100 0200 6400 64 05 02 10 0000 0300 0400")
    assert len(raw) == 20
    page = bytes.fromhex("0100 0500 0700").ljust(16, b"\0") + raw
    log = logs.MediaUnitStatusLog.from_bytes(bytes(page))
    unit = log[0]
    assert (unit.header.endgid, unit.header.nvmsetid, unit.header.caf) == (1, 2, 100)
    assert (unit.header.cio, unit.entries, unit.size) == (16, (3, 4), 20)
    assert (log.header.cchans, log.header.selc, log.incomplete) == (5, 7, False)
    built = logs.MediaUnitStatus.build(
        [3, 4], endgid=1, nvmsetid=2, caf=100, avsp=100, pused=5, mucs=2, cio=16
    )
    assert bytes(built) == raw


def capacity_configurations() -> logs.CapacityConfigurationList:
    unit = logs.MediaUnitConfiguration.build(muid=3)
    more = logs.MediaUnitConfiguration.build(b"ab", muid=4, mudl=2)
    channel = logs.ChannelConfiguration.build([unit, more], chid=1, chmus=2)
    group = logs.EnduranceGroupConfiguration.build(
        [1, 2],
        endgid=1,
        cadjf=100,
        tegcap=1 << 40,
        segcap=1 << 30,
        egsets=2,
        channels=logs.Channels.build([channel], egchans=1),
    )
    plain = logs.EnduranceGroupConfiguration.build(endgid=2)
    configuration = logs.CapacityConfiguration.build([group, plain], ccid=5, egcn=2)
    return logs.CapacityConfigurationList.build([configuration], sccn=1)


def test_capacity_configurations() -> None:
    page = capacity_configurations()
    assert page.size == 16 + 32 + (82 + 4 + 2 + 4 + 8 + 10) + (82 + 2)
    read = logs.CapacityConfigurationList.from_bytes(bytes(page))
    assert (read, read.incomplete) == (page, False)
    first, second = read[0]
    assert (first.header.tegcap, first.entries, second.entries) == (1 << 40, (1, 2), ())
    (channel,) = first.channels
    assert [(unit.header.muid, unit.entries) for unit in channel] == [(3, b""), (4, b"ab")]
    assert len(second.channels) == 0
    plain = read.to_dict()["entries"][0]["entries"][0]
    assert plain["entries"] == [1, 2]
    assert plain["channels"]["entries"][0]["entries"][1]["entries"] == "6162"
    assert any("Number of Channel Media Units" in line for line in read.dump())


def test_capacity_configurations_that_are_cut_off() -> None:
    page = capacity_configurations()
    for length in range(16, page.size):
        cut = logs.CapacityConfigurationList.from_bytes(bytes(page)[:length])
        assert (cut.entries, cut.incomplete) == ((), True)
    group = bytes(page[0][0])
    for length in range(82, len(group)):
        cut_group = logs.EnduranceGroupConfiguration.from_bytes(group[:length])
        assert cut_group.incomplete
        assert group.startswith(bytes(cut_group))
    with pytest.raises(ValueError, match="the header tells of other than 1 elements"):
        logs.EnduranceGroupConfiguration.build([1], egsets=2)
