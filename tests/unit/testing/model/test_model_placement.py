"""Flexible Data Placement of the model: enabled by the host, and as the device's name has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.spec.commands import NSID_ALL, NvmOpcode
from pynvme_user.spec.directives import (
    DirectiveParameters,
    DirectiveType,
    EnableDirectiveCdw12,
    IdentifyReceive,
    IdentifySend,
)
from pynvme_user.spec.fdp import (
    ManagementReceiveCdw10,
    ManagementSendCdw10,
    ReclaimUnitHandleStatus,
)
from pynvme_user.spec.feature_data import SupportedFdpEvents
from pynvme_user.spec.feature_dwords import FdpEventsCdw11, FlexibleDataPlacementCdw12
from pynvme_user.spec.features import FeatureId, FeatureSelect
from pynvme_user.spec.logs import (
    FDPEF,
    FdpConfigurationsLog,
    FdpEvent,
    FdpEventsLog,
    FdpEventType,
    FdpStatisticsLog,
    ReclaimUnitHandleAttributes,
    ReclaimUnitHandleUsageLog,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing import SoftDevice

E, G = FdpEventType, GenericStatus
GROUP = 1
UNIT = 64 << 10
BLOCKS = UNIT // 512
NAME = "?size=1M&capacity=4M&commands=all&subsys.fdp.nruh=4&subsys.fdp.runs=64K"
ENABLED = f"{NAME}&subsys.fdp=on&fdp.ruhs=0;2-3"
EVENTS = FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS


@pytest.fixture
def device() -> SoftDevice:
    return SoftDevice(ENABLED)


@pytest.fixture
def off() -> Iterator[Controller]:
    """It has data placement, which nobody has enabled."""
    with nvme.open(f"soft:{NAME}") as ctrl:
        yield ctrl


def left(ns: Namespace) -> list[tuple[int, int, int]]:
    return [(each.pid, each.ruhid, each.ruamw) for each in ns.reclaim_unit_handles()]


def set_enabled(ctrl: Controller, enabled: int, index: int = 0) -> None:
    cdw12 = FlexibleDataPlacementCdw12.build(fdpe=enabled, fdpcidx=index)
    fid = FeatureId.FLEXIBLE_DATA_PLACEMENT
    ctrl.set_feature(fid, GROUP, cdw12=cdw12, save=True, nsid=NSID_ALL)


def is_enabled(ctrl: Controller, select: FeatureSelect = FeatureSelect.CURRENT) -> int:
    found = ctrl.feature(FeatureId.FLEXIBLE_DATA_PLACEMENT, cdw11=GROUP, select=select)
    return FlexibleDataPlacementCdw12(found.result).fdpe


def enable_directive(ctrl: Controller, nsid: int = 1, enable: int = 1) -> None:
    cdw12 = EnableDirectiveCdw12.build(endir=enable, dtype=DirectiveType.DATA_PLACEMENT)
    ctrl.directive_send(0, IdentifySend.ENABLE_DIRECTIVE, nsid=nsid, cdw12=cdw12)


def enable_events(ctrl: Controller, *kinds: int, handle: int = 0, enable: int = 1) -> None:
    value = FdpEventsCdw11.build(phndl=handle, noet=len(kinds))
    ctrl.set_feature(EVENTS, value, data=bytearray(kinds), nsid=1, cdw12=enable)


def events(ctrl: Controller, *, of_host: bool = True) -> list[FdpEvent]:
    return list(ctrl.log(FdpEventsLog, lsi=GROUP, lsp=int(of_host)))


def written(ctrl: Controller) -> tuple[int, int, int]:
    page = ctrl.log(FdpStatisticsLog, lsi=GROUP)
    return page.hbmw, page.mbmw, page.mbe


# --- enabling -------------------------------------------------------------------------------------


def test_all_is_refused_before_it_is_enabled(off: Controller) -> None:
    ns = off.namespaces[1]
    assert (off.identify.ctratt.fdps, is_enabled(off)) == (1, 0)
    (configuration,) = off.log(FdpConfigurationsLog, lsi=GROUP)
    header = configuration.header
    assert (header.nruh, header.nrg, header.maxpids, header.runs) == (4, 1, 3, UNIT)
    for page in (ReclaimUnitHandleUsageLog, FdpStatisticsLog, FdpEventsLog):
        with refused(G.FDP_DISABLED):
            off.log(page, lsi=GROUP)
    with refused(G.FDP_DISABLED):
        ns.reclaim_unit_handles()
    with refused(G.FDP_DISABLED):
        ns.update_reclaim_units([0])
    with refused(G.FDP_DISABLED):
        off.feature(EVENTS, nsid=1)
    with refused(G.FDP_DISABLED):
        enable_events(off, 0)
    with refused(G.FDP_DISABLED):
        enable_directive(off)
    ns.write(0, bytes(512), placement=9)  # no directive is enabled: the field is ignored


def test_a_host_enables_it(off: Controller) -> None:
    with refused(G.COMMAND_SEQUENCE_ERROR):  # there is a namespace
        set_enabled(off, 1)
    set_enabled(off, 0)  # as it is
    off.delete_namespace(1)
    with refused(G.INVALID_FIELD):
        set_enabled(off, 1, index=1)
    set_enabled(off, 1)
    chosen = (FeatureSelect.CURRENT, FeatureSelect.SAVED, FeatureSelect.DEFAULT)
    assert [is_enabled(off, select) for select in chosen] == [1, 1, 0]
    off.reset()
    assert is_enabled(off)

    nsid = off.create_namespace(512, endurance_group=GROUP, placement_handles=[3, 1])
    off.attach_namespace(nsid)
    ns = off.namespaces[nsid]
    assert left(ns) == [(0, 3, BLOCKS), (1, 1, BLOCKS)]
    assert (ns.identify.endgid, ns.identify.nvmsetid) == (GROUP, 0)

    ns.write(0, bytes(1024), placement=1)  # not enabled: placed as any other write
    assert left(ns) == [(0, 3, BLOCKS - 2), (1, 1, BLOCKS)]
    enable_directive(off, nsid)
    ns.write(0, bytes(1024), placement=1)
    assert left(ns) == [(0, 3, BLOCKS - 2), (1, 1, BLOCKS - 2)]
    assert written(off) == (2048, 2048, 0)

    off.delete_namespace(NSID_ALL)
    set_enabled(off, 0)
    set_enabled(off, 1)
    assert written(off) == (0, 0, 0)


def test_the_directive(ctrl: Controller, ns: Namespace) -> None:
    def parameters() -> DirectiveParameters:
        _, raw = ctrl.directive_receive(0, IdentifyReceive.RETURN_PARAMETERS, nsid=1)
        return DirectiveParameters.from_bytes(raw)

    found = parameters()
    assert (found.supported.dpdir, found.enabled.dpdir, found.persistent.dpdir) == (1, 1, 1)
    with refused(G.INVALID_NAMESPACE_OR_FORMAT):
        enable_directive(ctrl, NSID_ALL)
    with refused(G.INVALID_FIELD):  # not beside data placement
        cdw12 = EnableDirectiveCdw12.build(endir=1, dtype=DirectiveType.STREAMS)
        ctrl.directive_send(0, IdentifySend.ENABLE_DIRECTIVE, nsid=1, cdw12=cdw12)
    with refused(G.INVALID_FIELD):
        ns.write(0, bytes(512), stream=1)
    ctrl.reset()
    assert parameters().enabled.dpdir
    enable_directive(ctrl, enable=0)
    assert not parameters().enabled.dpdir


# --- namespaces -----------------------------------------------------------------------------------


def test_handles_of_namespaces(ctrl: Controller, ns: Namespace) -> None:
    wrong = G.INVALID_PLACEMENT_HANDLE_LIST
    for handles in ([1, 1], [4], [0, 1, 2, 3, 1]):
        with refused(wrong):
            ctrl.create_namespace(8, placement_handles=handles)
    with refused(CommandSpecificStatus.INVALID_FORMAT):
        ctrl.create_namespace(8, 1, placement_handles=[2])  # shared, with other blocks
    with refused(G.INVALID_FIELD):
        ctrl.create_namespace(8, nvm_set=1)
    assert list(ctrl.namespaces) == [1]

    ns.write(0, bytes(512))
    shared = ctrl.create_namespace(8, placement_handles=[0])
    first, second = ctrl.create_namespace(8), ctrl.create_namespace(8)
    for nsid in (shared, first, second):
        ctrl.attach_namespace(nsid)
    assert left(ctrl.namespaces[shared]) == [(0, 0, BLOCKS - 1)]
    assert left(ctrl.namespaces[first]) == left(ctrl.namespaces[second]) == [(0, 1, BLOCKS)]
    usage = [each.ruha for each in ctrl.log(ReclaimUnitHandleUsageLog, lsi=GROUP)]
    host, own = (
        ReclaimUnitHandleAttributes.HOST_SPECIFIED,
        ReclaimUnitHandleAttributes.CONTROLLER_SPECIFIED,
    )
    assert usage == [host, own, host, host]
    with refused(wrong):  # the controller's
        ctrl.create_namespace(8, placement_handles=[1])
    with refused(CommandSpecificStatus.INVALID_FORMAT):
        ctrl.format(1, 1)

    for nsid in (first, second):
        ctrl.delete_namespace(nsid)
    ctrl.create_namespace(8, placement_handles=[1])
    with refused(wrong):  # none is left for it
        ctrl.create_namespace(8)
    ctrl.format(NSID_ALL, 1)


# --- writes ---------------------------------------------------------------------------------------


def test_room_of_reclaim_units(ctrl: Controller, ns: Namespace) -> None:
    ns.write(0, bytes(UNIT - 512), placement=2)
    assert [ruamw for *_, ruamw in left(ns)] == [BLOCKS, BLOCKS, 1]
    ns.write(0, bytes(512), placement=2)  # to its capacity: the next one
    assert [ruamw for *_, ruamw in left(ns)] == [BLOCKS, BLOCKS, BLOCKS]
    ns.write(0, bytes(UNIT + 1024), placement=1)
    assert [ruamw for *_, ruamw in left(ns)] == [BLOCKS, BLOCKS - 2, BLOCKS]
    ns.copy(256, [(0, 3)])
    assert [ruamw for *_, ruamw in left(ns)] == [BLOCKS - 3, BLOCKS - 2, BLOCKS]
    total = 2 * UNIT + 1024 + 3 * 512
    assert written(ctrl) == (total, total, 0)
    ns.update_reclaim_units([0, 1])
    assert [ruamw for *_, ruamw in left(ns)] == [BLOCKS, BLOCKS, BLOCKS]
    assert not events(ctrl)  # none is enabled


def test_metadata_counts(ctrl: Controller) -> None:
    ctrl.format(1, 2)
    ns = ctrl.namespaces[1]
    each = ns.block_size + ns.identify.lbafs[2].ms
    assert each > ns.block_size
    ns.write(0, bytes(2 * ns.block_size), placement=1)
    assert written(ctrl) == (2 * each, 2 * each, 0)
    assert left(ns)[1] == (1, 2, UNIT // ns.block_size - 2)


def test_reclaim_groups() -> None:
    with nvme.open(f"soft:{ENABLED}&subsys.fdp.nrg=3") as ctrl:
        ns = ctrl.namespaces[1]
        (configuration,) = ctrl.log(FdpConfigurationsLog, lsi=GROUP)
        header = configuration.header
        assert (header.nrg, header.fdpa.rgif, header.maxpids) == (3, 2, 11)
        pids = [group << 14 | handle for handle in range(3) for group in range(3)]
        assert [pid for pid, *_ in left(ns)] == pids
        ns.write(0, bytes(512), placement=2 << 14 | 1)
        room = {pid: ruamw for pid, _, ruamw in left(ns)}
        assert {pid for pid, ruamw in room.items() if ruamw < BLOCKS} == {2 << 14 | 1}
        enable_events(ctrl, E.INVALID_PLACEMENT_IDENTIFIER)
        ns.write(0, bytes(512), placement=3 << 14)  # there is no such group
        (event,) = events(ctrl)
        assert (event.pid, event.rgid, event.ruhid) == (3 << 14, 0, 0)
        with refused(G.INVALID_FIELD):
            ns.update_reclaim_units([0] * 13)


# --- events ---------------------------------------------------------------------------------------


def test_events(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    enable_events(ctrl, *E, handle=1)
    enable_events(ctrl, E.INVALID_PLACEMENT_IDENTIFIER)
    ns.update_reclaim_units([1])  # an empty one
    ns.write(0, bytes(512), placement=1)
    ns.write(0, bytes(512))
    ns.update_reclaim_units([0, 1])  # of handle 0 it is not enabled
    ns.write(0, bytes(512), placement=7)
    partly, invalid = events(ctrl)
    assert (partly.etyp, partly.pid, partly.nsid, partly.ruhid) == (0, 1, 1, 2)
    assert (invalid.etyp, invalid.pid, invalid.nsid, invalid.ruhid) == (3, 7, 1, 0)
    assert partly.fdpef == invalid.fdpef == FDPEF.build(piv=1, nsidv=1, lv=1)
    assert left(ns)[0] == (0, 0, BLOCKS - 1)

    device.model.reallocate(1, 8, 3)
    assert not events(ctrl, of_host=False)
    enable_events(ctrl, E.MEDIA_REALLOCATED)
    device.model.reallocate(1, 8, 3)
    (moved,) = events(ctrl, of_host=False)
    assert (moved.media_reallocated.lba, moved.media_reallocated.nlbam) == (8, 3)
    assert written(ctrl)[1] - written(ctrl)[0] == 2 * 3 * 512

    for _ in range(70):
        ns.write(0, bytes(512), placement=8)
    kept = events(ctrl)  # the oldest are gone
    assert (len(kept), {event.pid for event in kept}) == (63, {8})


def test_the_events_that_are_enabled(ctrl: Controller) -> None:
    def listed(handle: int = 0, noet: int = 255, **options: object) -> list[tuple[int, int]]:
        cdw11 = FdpEventsCdw11.build(phndl=handle, noet=noet)
        found = ctrl.feature(EVENTS, nsid=1, cdw11=cdw11, **options)
        assert found.result == len(E)
        assert isinstance(found.data, SupportedFdpEvents)
        return [(each.fdpet, each.fdpeta.fdpee) for each in found.data]

    enable_events(ctrl, 0, 2, 0x81)
    enable_events(ctrl, 2, enable=0)
    on = {0, 0x81}
    assert listed() == [(kind, kind in on) for kind in E]
    assert listed(noet=2) == [(0, 1), (1, 0)]
    assert listed(1) == listed(select=FeatureSelect.DEFAULT) == [(kind, 0) for kind in E]
    ctrl.reset()
    assert listed() == [(kind, kind in on) for kind in E]
    for handle, kind in ((3, 0), (0, 4)):
        with refused(G.INVALID_FIELD):
            enable_events(ctrl, kind, handle=handle)
    with refused(G.INVALID_FIELD):
        listed(3)


# --- I/O Management -------------------------------------------------------------------------------


def test_illegal_management(ctrl: Controller, ns: Namespace) -> None:
    def receive(mo: int, length: int = 16, nsid: int = 1) -> bytes:
        page = bytearray(length)
        cdw10 = ManagementReceiveCdw10.build(mo=mo)
        opcode = NvmOpcode.IO_MANAGEMENT_RECEIVE
        ctrl.io(opcode, nsid=nsid, buffer=page, cdw10=cdw10, cdw11=length // 4 - 1)
        return bytes(page)

    def update(mo: int, nsid: int = 1) -> None:
        cdw10 = ManagementSendCdw10.build(mo=mo)
        opcode = NvmOpcode.IO_MANAGEMENT_SEND
        ctrl.io(opcode, nsid=nsid, buffer=bytearray(4), cdw10=cdw10)

    assert not any(receive(0))
    whole = ReclaimUnitHandleStatus.from_bytes(receive(1, 256))
    assert (len(list(whole)), whole.incomplete) == (3, False)
    assert ReclaimUnitHandleStatus.from_bytes(receive(1, 48)).incomplete
    update(0)
    for wrong in (2, 0xFF):
        with refused(G.INVALID_FIELD):
            receive(wrong)
        with refused(G.INVALID_FIELD):
            update(wrong)
    for nsid in (0, NSID_ALL):
        with refused(G.INVALID_NAMESPACE_OR_FORMAT):
            receive(1, nsid=nsid)
        with refused(G.INVALID_NAMESPACE_OR_FORMAT):
            update(1, nsid=nsid)
    ns.write(0, bytes(512))
    with refused(G.INVALID_FIELD):
        ns.update_reclaim_units([0, 3])
    assert left(ns)[0] == (0, 0, BLOCKS - 1)  # none of them was done


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("subsys.fdp=on", "subsys.fdp goes with commands=all: add it"),
        ("commands=all&fdp.ruhs=0", "fdp.ruhs goes with subsys.fdp=on: add it"),
        ("commands=all&subsys.fdp=on&fdp.ruhs=8", "give a larger subsys.fdp.nruh"),
        ("commands=all&subsys.fdp=on&fdp.ruhs=1;0-2", "each once, for example 0;2-4, not"),
        ("commands=all&subsys.fdp=on&fdp.ruhs=", "each once, for example 0;2-4, not"),
        ("commands=all&subsys.fdp.runs=100", "the size of a reclaim unit"),
        ("commands=all&subsys.fdp.nruh=129", "1 to 128 reclaim unit handles"),
        ("commands=all&subsys.fdp.nrg=0", "1 to 64 reclaim groups"),
        ("commands=all&subsys.fdp=on&zoned.zone_size=1M", "no zones go with subsys.fdp"),
    ],
)
def test_a_name_that_is_none(options: str, text: str) -> None:
    with pytest.raises(nvme.DeviceNameError, match=text):
        SoftDevice(f"?{options}")
