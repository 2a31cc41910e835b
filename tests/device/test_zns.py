"""Zones of QEMU's zoned namespace: reports, transitions, appends, random write areas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import CommandSpecificStatus, GenericStatus, Namespace, NvmeStatusError
from pynvme_user.driver.zns import written_up_to
from pynvme_user.spec.zns import ReportedZones, ZoneState

#: Sixteen zones of 2048 blocks, of which 1536 can be written.
DEVICE = "qemu:?size=16M&zoned=on&zoned.zone_size=1M&zoned.zone_capacity=768K"
ZONE, CAPACITY, COUNT = 2048, 1536, 16
Codes = CommandSpecificStatus


@pytest.fixture
def opened(qemu: None) -> Iterator[Callable[[str], Namespace]]:
    """Open a device of these zones, with more properties; give its namespace."""
    controllers = []

    def begin(properties: str = "") -> Namespace:
        controllers.append(nvme.open(DEVICE + properties))
        return controllers[0].namespaces[1]

    yield begin
    for controller in controllers:
        controller.close()


def states(ns: Namespace) -> list[ZoneState]:
    return [ZoneState(zone.zs.zs) for zone in ns.zones]


def stamped(ns: Namespace, stamp: int, blocks: int) -> bytes:
    """Blocks that all have a number in each eight bytes."""
    return np.full(blocks * ns.block_size // 8, stamp, np.uint64).tobytes()


# --- what there is ------------------------------------------------------------------------------


def test_sizes_and_limits(opened: Callable[..., Namespace]) -> None:
    more = "&zoned.max_open=3&zoned.max_active=5&zoned.zasl=2&zoned.descr_ext_size=128"
    ns = opened(more)
    zones = ns.zones
    assert ns.zoned
    assert (zones.zone_blocks, zones.count, zones.extension_size) == (ZONE, COUNT, 128)
    assert (zones.max_open, zones.max_active) == (3, 5)
    assert zones.max_append == (4096 << 2) // 512
    assert {zone.zcap for zone in zones} == {CAPACITY}
    ns.controller.reset()
    assert ns.zones is zones
    assert (zones.zone_blocks, zones.max_open) == (ZONE, 3)


def test_no_limits(opened: Callable[..., Namespace]) -> None:
    ns = opened()
    assert (ns.zones.max_open, ns.zones.max_active) == (None, None)
    assert ns.zones.max_append == ns.controller.max_transfer // 512


def test_a_namespace_without_zones(qemu: None) -> None:
    with nvme.open("qemu:?size=1M") as ctrl, ctrl.queue_pair(depth=2) as pair:
        ns = ctrl.namespaces[1]
        assert not ns.zoned
        buffer = ctrl.alloc(512)
        for call in (
            lambda: ns.zones.report(),
            lambda: pair.submit_append(ns, 0, 1, buffer),
        ):
            with pytest.raises(
                nvme.NotSupportedError, match=r"namespace 1 of qemu:.* has no zones"
            ):
                call()
        assert pair.outstanding == 0


def test_reports(opened: Callable[..., Namespace]) -> None:
    ns = opened("&zoned.descr_ext_size=64")
    zones = ns.zones
    zones.open(ZONE)
    zones.append(2 * ZONE, stamped(ns, 1, 8))
    zones.finish(5 * ZONE)
    zones.set_extension(7 * ZONE, b"an extension")
    report = zones.report()
    assert [zone.zslba for zone in report] == [number * ZONE for number in range(COUNT)]
    assert report.header.nzones == COUNT
    assert list(report) == list(zones)
    found = {zone.zslba // ZONE: zone for zone in report}
    assert found[1].zs.zs == ZoneState.EXPLICITLY_OPENED
    assert (found[2].zs.zs, found[2].wp) == (ZoneState.IMPLICITLY_OPENED, 2 * ZONE + 8)
    assert found[5].zs.zs == ZoneState.FULL
    assert [written_up_to(found[number]) - number * ZONE for number in (1, 2, 5)] == [
        *(0, 8, CAPACITY)
    ]
    empty = zones.report(state=ReportedZones.EMPTY)
    assert [zone.zslba // ZONE for zone in empty] == [0, 3, 4, 6, *range(8, 16)]
    assert [zone.zslba // ZONE for zone in zones.report(4 * ZONE + 7, count=3)] == [4, 5, 6]
    assert [zone.zslba // ZONE for zone in zones.report(ZONE, ReportedZones.EMPTY, count=2)] == [
        3,
        4,
    ]
    assert len(zones.report(state=ReportedZones.OFFLINE)) == 0
    assert len(zones.report(count=0)) == 0
    assert (zones.matching(), zones.matching(4 * ZONE + 7)) == (COUNT, 12)
    assert zones.matching(ZONE, ReportedZones.EMPTY) == 11
    extended = zones.report(5 * ZONE, count=3, extended=True)
    assert extended.extensions == (bytes(64), bytes(64), b"an extension".ljust(64, b"\0"))
    assert [int(zone.za.zdev) for zone in extended] == [0, 0, 1]
    assert extended[2].zs.zs == ZoneState.CLOSED
    assert zones.zone(5 * ZONE + 100).zslba == 5 * ZONE
    with pytest.raises(ValueError, match="not all in namespace 1"):
        zones.report(COUNT * ZONE)


def test_a_report_of_many_zones(qemu: None) -> None:
    """It takes several commands, of which each has up to 1023 zones."""
    with nvme.open("qemu:?size=64M&zoned=on&zoned.zone_size=16K&zoned.descr_ext_size=64") as ctrl:
        zones = ctrl.namespaces[1].zones
        for number in (7, 1022, 1023, 4095):
            zones.open(number * 32)
        for extended in (False, True):
            report = zones.report(extended=extended)
            assert [zone.zslba for zone in report] == [number * 32 for number in range(4096)]
            opened = zones.report(state=ReportedZones.EXPLICITLY_OPENED, extended=extended)
            assert [zone.zslba // 32 for zone in opened] == [7, 1022, 1023, 4095]
            closed = zones.report(state=ReportedZones.EMPTY, extended=extended)
            assert len(closed) == 4092
        assert len(zones.report(5, count=2000)) == 2000


# --- states -------------------------------------------------------------------------------------


def test_transitions(opened: Callable[..., Namespace]) -> None:
    ns = opened()
    zones = ns.zones
    for action, state in (
        (zones.open, ZoneState.EXPLICITLY_OPENED),
        (zones.close, ZoneState.CLOSED),
        (zones.finish, ZoneState.FULL),
        (zones.reset, ZoneState.EMPTY),
    ):
        if action == zones.close:
            zones.append(3 * ZONE, stamped(ns, 1, 1))
        action(3 * ZONE)
        assert states(ns)[3] is state
        assert {*states(ns)[:3], *states(ns)[4:]} == {ZoneState.EMPTY}
    for number in (1, 2, 9):
        zones.append(number * ZONE, stamped(ns, 1, 1))
    for action, state in (
        (zones.close, ZoneState.CLOSED),
        (zones.open, ZoneState.EXPLICITLY_OPENED),
        (zones.finish, ZoneState.FULL),
        (zones.reset, ZoneState.EMPTY),
    ):
        action(select_all=True)
        assert [states(ns)[number] for number in (1, 2, 9)] == [state] * 3
        assert states(ns)[0] is ZoneState.EMPTY
    zones.offline(select_all=True)  # there is none that is read-only
    assert {*states(ns)} == {ZoneState.EMPTY}


def fill(ns: Namespace, number: int) -> None:
    ns.write(number * ZONE, bytes(CAPACITY * 512))


#: What is done, and the status of its last step; of a device with three open and four active zones.
ILLEGAL: dict[str, tuple[Callable[[Namespace], object], nvme.CommandSpecificStatus]] = {
    "write to a full zone": (
        lambda ns: (fill(ns, 1), ns.write(ZONE + CAPACITY - 1, bytes(512))),
        Codes.ZNS_ZONE_IS_FULL,
    ),
    "append to a full zone": (
        lambda ns: (ns.zones.finish(ZONE), ns.zones.append(ZONE, bytes(512))),
        Codes.ZNS_ZONE_IS_FULL,
    ),
    "write behind the write pointer": (
        lambda ns: ns.write(ZONE + 1, bytes(512)),
        Codes.ZNS_ZONE_INVALID_WRITE,
    ),
    "write before the write pointer": (
        lambda ns: (ns.write(ZONE, bytes(1024)), ns.write(ZONE, bytes(512))),
        Codes.ZNS_ZONE_INVALID_WRITE,
    ),
    "write beyond the capacity": (
        lambda ns: (
            ns.write(ZONE, bytes(512 * (CAPACITY - 1))),
            ns.write(ZONE + CAPACITY - 1, bytes(1024)),
        ),
        Codes.ZNS_BOUNDARY_ERROR,
    ),
    "append beyond the capacity": (
        lambda ns: (
            ns.write(ZONE, bytes(512 * (CAPACITY - 1))),
            ns.zones.append(ZONE, bytes(1024)),
        ),
        Codes.ZNS_BOUNDARY_ERROR,
    ),
    "read across zones": (lambda ns: ns.read(2 * ZONE - 1, 2), Codes.ZNS_BOUNDARY_ERROR),
    "open a zone too many": (
        lambda ns: [ns.zones.open(number * ZONE) for number in range(4)],
        Codes.ZNS_TOO_MANY_OPEN_ZONES,
    ),
    "activate a zone too many": (
        lambda ns: [
            (ns.zones.append(number * ZONE, bytes(512)), ns.zones.close(number * ZONE))
            for number in range(5)
        ],
        Codes.ZNS_TOO_MANY_ACTIVE_ZONES,
    ),
    "open a full zone": (
        lambda ns: (ns.zones.finish(0), ns.zones.open(0)),
        Codes.ZNS_INVALID_ZONE_STATE_TRANSITION,
    ),
    "close an empty zone": (
        lambda ns: ns.zones.close(0),
        Codes.ZNS_INVALID_ZONE_STATE_TRANSITION,
    ),
    "close a full zone": (
        lambda ns: (ns.zones.finish(0), ns.zones.close(0)),
        Codes.ZNS_INVALID_ZONE_STATE_TRANSITION,
    ),
    "take offline what is not read-only": (
        lambda ns: ns.zones.offline(0),
        Codes.ZNS_INVALID_ZONE_STATE_TRANSITION,
    ),
    "set the extension of a zone that is not empty": (
        lambda ns: (ns.zones.open(0), ns.zones.set_extension(0, b"x")),
        Codes.ZNS_INVALID_ZONE_STATE_TRANSITION,
    ),
}


@pytest.mark.parametrize("what", ILLEGAL)
def test_what_a_state_forbids(opened: Callable[..., Namespace], what: str) -> None:
    ns = opened("&zoned.max_open=3&zoned.max_active=4&zoned.descr_ext_size=64")
    act, code = ILLEGAL[what]
    with pytest.raises(NvmeStatusError) as caught:
        act(ns)
    assert caught.value.status.code() is code
    before = states(ns)
    ns.zones.reset(select_all=True)
    assert ns.zones.append(5 * ZONE, stamped(ns, 7, 1)) == 5 * ZONE
    assert ZoneState.OFFLINE not in before


def test_what_is_no_zone(opened: Callable[..., Namespace]) -> None:
    zones = opened("&zoned.zasl=1").zones
    actions = (zones.open, zones.close, zones.finish, zones.reset, zones.offline)
    for action in actions:
        with pytest.raises(ValueError, match=r"LBA 2049 lies within a zone of 2048 blocks.* 2048$"):
            action(ZONE + 1)
        with pytest.raises(ValueError, match="not all in namespace 1"):
            action(COUNT * ZONE)
        with pytest.raises(ValueError, match="say which zone"):
            action()
        with pytest.raises(ValueError, match="say which zone"):
            action(0, select_all=True)
    with pytest.raises(ValueError, match="lies within a zone"):
        zones.append(1, bytes(512))
    with pytest.raises(ValueError, match="one append carries up to 16 blocks, not 17: append piec"):
        zones.append(0, bytes(17 * 512))
    with pytest.raises(ValueError, match="513 bytes are not whole blocks of 512"):
        zones.append(0, bytes(513))
    with pytest.raises(ValueError, match="has 1 byte or more, not 0"):
        zones.append(0, b"")
    assert {zone.zs.zs for zone in zones} == {ZoneState.EMPTY}


# --- data ---------------------------------------------------------------------------------------


def test_append_gives_the_place(opened: Callable[..., Namespace]) -> None:
    ns = opened("&zoned.zasl=1")
    assert [ns.zones.append(ZONE, stamped(ns, n, 3)) for n in range(4)] == [
        ZONE + 3 * n for n in range(4)
    ]
    buffer = ns.controller.alloc(8192)
    buffer.view(np.uint64)[:] = 9
    assert ns.zones.append(ZONE, buffer, fua=True) == ZONE + 12
    assert ns.read(ZONE, 28) == b"".join([stamped(ns, n, 3) for n in range(4)]) + stamped(ns, 9, 16)
    long = b"".join(stamped(ns, n, 1) for n in range(100))
    places = ns.zones.append_pieces(2 * ZONE, long)
    assert places == [(2 * ZONE + at, min(16, 100 - at)) for at in range(0, 100, 16)]
    assert ns.read(2 * ZONE, 100) == long


def test_four_queue_pairs_fill_it_by_append(opened: Callable[..., Namespace]) -> None:
    """Each block is where the append's completion says, and there is no place left."""
    ns = opened()
    ctrl = ns.controller
    blocks, depth = 8, 16
    places: dict[int, int] = {}  # what was written, by LBA
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        try:
            with ctrl.queue_pair(depth=depth) as pair:
                size = blocks * ns.block_size
                memory = ctrl.alloc(depth * size).reshape(depth, size)
                free = list(range(depth))
                of: dict[int, tuple[int, int]] = {}

                def reap() -> None:
                    for done in pair.poll():
                        slot, stamp = of.pop(done.cid)
                        assert done.status.ok, done.status
                        places[done.lba] = stamp
                        free.append(slot)

                start.wait()
                for zone in range(COUNT):
                    for number in range(CAPACITY // blocks // 4):
                        while not free:
                            reap()
                        slot = free.pop()
                        stamp = thread << 32 | zone << 16 | number
                        memory[slot].view(np.uint64)[:] = stamp
                        cid = pair.submit_append(ns, zone * ZONE, blocks, memory[slot])
                        of[cid] = slot, stamp
                while of:
                    reap()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(places) == [
        zone * ZONE + at for zone in range(COUNT) for at in range(0, CAPACITY, blocks)
    ]
    assert len(set(places.values())) == len(places)
    for zone in range(COUNT):
        data = np.frombuffer(ns.read(zone * ZONE, CAPACITY), np.uint64).reshape(-1, blocks * 64)
        expected = [places[zone * ZONE + at] for at in range(0, CAPACITY, blocks)]
        assert (data == np.array(expected, np.uint64)[:, None]).all()
    assert {*states(ns)} == {ZoneState.FULL}


# --- extensions and random write areas ----------------------------------------------------------


def test_what_the_namespace_does_not_have(opened: Callable[..., Namespace]) -> None:
    zones = opened().zones
    for call, what in (
        (lambda: zones.set_extension(0, b""), "zone descriptor extensions: ZDES is 0"),
        (lambda: zones.report(extended=True), "zone descriptor extensions: ZDES is 0"),
        (lambda: zones.open(0, zrwa=True), "zone random write areas: OZCS bit 1 is 0"),
        (lambda: zones.flush(0), "zone random write areas: OZCS bit 1 is 0"),
    ):
        with pytest.raises(nvme.NotSupportedError, match=f"namespace 1 .* not support {what}"):
            call()
    for call in (lambda: zones.open(0, zrwa=True, force=True), lambda: zones.flush(0, force=True)):
        with pytest.raises(NvmeStatusError) as caught:
            call()
        assert caught.value.status.code() in (
            GenericStatus.INVALID_FIELD,
            Codes.ZNS_INVALID_ZONE_OPERATION_REQUEST,
        )


def test_an_extension_that_is_too_long(opened: Callable[..., Namespace]) -> None:
    zones = opened("&zoned.descr_ext_size=64").zones
    with pytest.raises(ValueError, match="up to 64 bytes here, not 65"):
        zones.set_extension(0, bytes(65))


def test_a_random_write_area(opened: Callable[..., Namespace]) -> None:
    """Blocks of it are written in any order, and over again, until they are flushed."""
    # Without a block size QEMU 7.2 divides by zero.
    ns = opened(
        "&logical_block_size=512&zoned.max_active=8&zoned.numzrwa=2&zoned.zrwas=64K&zoned.zrwafg=4K"
    )
    zones = ns.zones
    assert (zones.identify.zrwasz, zones.identify.zrwafg) == (128, 8)
    zones.open(ZONE, zrwa=True)
    assert zones.zone(ZONE).za.zrwav
    for lba in (8, 0, 8, 100):
        ns.write(ZONE + lba, stamped(ns, lba, 8))
    assert zones.zone(ZONE).wp == ZONE
    zones.flush(ZONE + 15)
    assert zones.zone(ZONE).wp == ZONE + 16
    assert ns.read(ZONE, 16) == stamped(ns, 0, 8) + stamped(ns, 8, 8)
    with pytest.raises(NvmeStatusError) as caught:
        ns.write(ZONE, stamped(ns, 1, 8))
    assert caught.value.status.code() is Codes.ZNS_ZONE_INVALID_WRITE
    with pytest.raises(NvmeStatusError):
        zones.append(ZONE, stamped(ns, 1, 8))
    zones.open(2 * ZONE, zrwa=True)
    with pytest.raises(NvmeStatusError, match=r"Open of the zone at LBA 6144 \(namespace 1\)"):
        zones.open(3 * ZONE, zrwa=True)


def test_an_append_behind_two_to_the_32_blocks(qemu: None) -> None:
    """Both dwords of its completion count."""
    with nvme.open("qemu:?driver=null-co&size=8T&zoned=on&zoned.zone_size=1T") as ctrl:
        zones = ctrl.namespaces[1].zones
        lba = 5 * zones.zone_blocks
        assert lba == 5 << 31
        assert [zones.append(lba, bytes(1024)) for _ in range(2)] == [lba, lba + 2]
