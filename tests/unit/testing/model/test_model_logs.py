"""Get Log Page of the model: pages that are made, pages that are set, what events they clear."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.spec.admin import GetLogPageCdw10
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode, NvmOpcode
from pynvme_user.spec.events import AsyncEventType, HealthEvent, NoticeEvent
from pynvme_user.spec.feature_dwords import AsyncEventConfigCdw11, TemperatureThresholdCdw11
from pynvme_user.spec.features import FEATURES, FeatureId
from pynvme_user.spec.logs import (
    LOG_PAGES,
    AnaLog,
    CommandEffectsLog,
    EnduranceGroupLog,
    FeatureEffectsLog,
    FirmwareSlotLog,
    LbaStatusLog,
    LogId,
    PersistentEventAction,
    PersistentEventLog,
    PersistentEventLogHeader,
    PersistentEventLsp,
    Scope,
    SupportedLogPages,
    TelemetryControllerLog,
    TelemetryHostLog,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing import SoftDevice
from pynvme_user.testing.model.dispatch import ADMIN_COMMANDS, IO_COMMANDS
from pynvme_user.testing.model.effects import ADMIN_EFFECTS, SUPPORTED, ZONED_EFFECTS


def one_of(scope: Scope) -> dict[str, int]:
    """Return what names an element that there is."""
    if scope in (Scope.ENDURANCE_GROUP, Scope.NVM_SET):
        return {"lsi": 1}
    return {"nsid": 1} if scope == Scope.NAMESPACE else {}


@pytest.mark.parametrize("lid", list(LogId), ids=lambda lid: lid.name)
def test_every_page_can_be_set_and_is_read_in_pieces(lid: LogId) -> None:
    device = SoftDevice("?size=1M&commands=all")
    page = bytes(range(1, 256)) * 50
    with nvme.open(device) as ctrl:
        device.set_log(lid, page)
        assert SupportedLogPages.from_bytes(ctrl.log_page(0, 1024)).lids[lid].lsupp or lid == 0
        where = one_of(LOG_PAGES[lid].scope)
        assert ctrl.log_page(lid, 8192, chunk=4096, **where) == page[:8192]
        assert ctrl.log_page(lid, 1000, offset=12000, **where) == page[12000:].ljust(1000, b"\0")
        with refused(GenericStatus.INVALID_FIELD):
            ctrl.log_page(lid, 4, offset=len(page) + 6, **where)


@pytest.fixture
def placed() -> Iterator[Controller]:
    """With data placement, without which some of its pages are refused."""
    with nvme.open("soft:?size=1M&commands=all&subsys.fdp=on") as ctrl:
        yield ctrl


def test_every_page_that_is_supported_is_whole(placed: Controller) -> None:
    ctrl = placed
    lids = ctrl.log(SupportedLogPages).lids
    own = {lid for lid in LogId if lids[lid].lsupp}
    assert len(own) >= 24
    for lid in own - {LogId.PERSISTENT_EVENT}:
        page = LOG_PAGES[lid]
        found = ctrl.log(page.structure, lid=lid, **one_of(page.scope))
        assert bytes(found) or lid in (LogId.CHANGED_NAMESPACES, LogId.CHANGED_ALLOCATED_NAMESPACES)
    for lid in set(LogId) - own:
        with refused(CommandSpecificStatus.INVALID_LOG_PAGE):
            ctrl.log_page(lid, 64)


def test_a_page_is_set_where_there_is_a_model() -> None:
    with closing(SoftDevice("?size=1M")) as device:
        assert device.model is None
        with pytest.raises(ValueError, match="add commands=all"):
            device.set_log(2, bytes(512))


@pytest.mark.parametrize(
    ("lid", "where"),
    [
        (LogId.FIRMWARE_SLOT, {"nsid": 1}),
        (LogId.ENDURANCE_GROUP, {"lsi": 2}),
        (LogId.PREDICTABLE_LATENCY, {"lsi": 2}),
        (LogId.SMART, {"nsid": 7}),
        (LogId.ERROR, {"uuid_index": 1}),
        (LogId.ERROR, {"index_offset": True}),
        (LogId.COMMAND_EFFECTS, {"csi": 1}),
        (LogId.LOCKDOWN, {"lsp": 1}),
    ],
)
def test_illegal_fields(ctrl: Controller, lid: LogId, where: dict[str, int]) -> None:
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.log_page(lid, 64, **where)


def test_an_offset_of_odd_bytes(ctrl: Controller) -> None:
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.admin(
            AdminOpcode.GET_LOG_PAGE,
            nsid=NSID_ALL,
            buffer=bytearray(64),
            cdw10=GetLogPageCdw10.build(lid=2, numdl=15),
            cdw12=2,
        )


def test_errors_are_recorded(ctrl: Controller, ns: Namespace) -> None:
    assert ctrl.errors() == []
    with refused(GenericStatus.INVALID_OPCODE):
        ctrl.admin(0xC1)
    with refused(GenericStatus.LBA_OUT_OF_RANGE):
        ctrl.io(NvmOpcode.READ, nsid=1, buffer=bytearray(512), cdw10=ns.block_count)
    newest, oldest = ctrl.errors()
    assert (newest.ecnt, newest.opc, newest.nsid, newest.lba) == (2, 2, 1, ns.block_count)
    assert newest.sts.sc == GenericStatus.LBA_OUT_OF_RANGE
    assert newest.sqid > 0
    assert (oldest.ecnt, oldest.opc, oldest.sqid) == (1, 0xC1, 0)
    assert ctrl.smart().neile == 2
    for _ in range(70):
        with refused(GenericStatus.INVALID_OPCODE):
            ctrl.admin(0xC1)
    assert [entry.ecnt for entry in ctrl.errors()] == list(range(72, 8, -1))


def test_smart_counts_and_is_as_warm_as_it_is_told(
    device: SoftDevice, ctrl: Controller, ns: Namespace
) -> None:
    ns.write(0, bytes(512))
    ns.read(0, 1)
    page = ctrl.smart()
    assert (page.hrc, page.hwc, page.ctemp, page.cw) == (1, 1, 300, 0)
    assert device.model
    device.model.set_temperature(350)
    assert ctrl.smart().ctemp == 350
    assert ctrl.smart(nsid=1).cw.temperature


def test_what_is_supported_is_what_is_executed(ctrl: Controller) -> None:
    queues = {0x00, 0x01, 0x04, 0x05, 0x08, AdminOpcode.ASYNC_EVENT_REQUEST}
    assert set(ADMIN_EFFECTS) == set(ADMIN_COMMANDS) | queues
    assert set(ZONED_EFFECTS) == set(IO_COMMANDS)
    page = ctrl.log(CommandEffectsLog)
    for opcode in AdminOpcode:
        if opcode not in queues:
            assert page.acs[opcode].csupp == (opcode in ADMIN_COMMANDS)
    zoned = ctrl.log(CommandEffectsLog, csi=2)
    assert zoned.iocs[NvmOpcode.ZONE_APPEND].csupp
    assert not page.iocs[NvmOpcode.ZONE_APPEND].csupp
    features = ctrl.log(FeatureEffectsLog)
    assert {fid for fid in range(256) if features.fis[fid].fsupp} == {int(fid) for fid in SUPPORTED}
    assert set(FEATURES) > SUPPORTED


def test_pages_of_what_there_is(ctrl: Controller, ns: Namespace) -> None:
    assert ctrl.log(FirmwareSlotLog).frs1 == ctrl.identify.fr
    assert list(ctrl.log(AnaLog)[0]) == [1]
    assert len(ctrl.log(AnaLog, lsp=1)[0]) == 0
    group = ctrl.log(EnduranceGroupLog, lsi=1)
    assert (group.tegcap, group.uegcap) == (4 << 20, 3 << 20)
    ns.write_uncorrectable(5, 3)
    ns.write_uncorrectable(100, 1)
    page = ctrl.log(LbaStatusLog)
    assert [(each.rslba, each.rnlb + 1) for each in page[0]] == [(5, 3), (100, 1)]
    assert page.header.estulb == 4
    assert page.header.lslplen == len(bytes(page))


# --- telemetry ------------------------------------------------------------------------------------


def test_telemetry_of_the_host(ctrl: Controller) -> None:
    first, again, other = io.BytesIO(), io.BytesIO(), io.BytesIO()
    assert ctrl.telemetry(first) > 2 * 512
    ctrl.telemetry(again, create=False)
    ctrl.telemetry(other)
    assert first.getvalue() == again.getvalue()
    numbers = [TelemetryHostLog.from_bytes(each.getvalue()).header.thdgn for each in (first, other)]
    assert numbers == [1, 2]


def test_telemetry_of_the_controller_is_an_event(device: SoftDevice, ctrl: Controller) -> None:
    assert device.model
    assert not ctrl.log(TelemetryControllerLog).header.tcda
    with ctrl.events(config=AsyncEventConfigCdw11.build(tln=1)) as events:
        device.model.set_telemetry(b"what happened" * 100)
        event = events.wait(5)
        assert event is not None
        assert event.result.aei == NoticeEvent.TELEMETRY_LOG_CHANGED
    device.model.set_telemetry(b"what happened" * 100)
    page = ctrl.log(TelemetryControllerLog, retain_event=True)
    assert bytes(page.entries).startswith(b"what happened")
    assert ctrl.log(TelemetryControllerLog).header.tcda
    assert not ctrl.log(TelemetryControllerLog).header.tcda


# --- persistent events ----------------------------------------------------------------------------


def test_persistent_events_are_read_in_a_context(ctrl: Controller) -> None:
    nsid = ctrl.create_namespace(16)
    ctrl.delete_namespace(nsid)
    lid = LogId.PERSISTENT_EVENT
    lsp = {action: PersistentEventLsp.build(act=action) for action in PersistentEventAction}
    with refused(GenericStatus.COMMAND_SEQUENCE_ERROR):
        ctrl.log_page(lid, 512)
    establish = lsp[PersistentEventAction.ESTABLISH_CONTEXT_AND_READ]
    header = PersistentEventLogHeader.from_bytes(ctrl.log_page(lid, 512, lsp=establish))
    with refused(GenericStatus.COMMAND_SEQUENCE_ERROR):
        ctrl.log_page(lid, 512, lsp=establish)
    page = PersistentEventLog.from_bytes(ctrl.log_page(lid, header.tll + -header.tll % 4))
    assert [each.event.nsid for each in page] == [nsid, nsid]  # type: ignore[union-attr]
    assert header.supported_events == [6]
    ctrl.log_page(lid, 4, lsp=lsp[PersistentEventAction.RELEASE_CONTEXT])
    with refused(GenericStatus.COMMAND_SEQUENCE_ERROR):
        ctrl.log_page(lid, 512)


# --- events ---------------------------------------------------------------------------------------


def test_an_event_waits_until_its_page_was_read(device: SoftDevice, ctrl: Controller) -> None:
    assert device.model
    threshold = TemperatureThresholdCdw11.build(tmpth=320)
    ctrl.set_feature(FeatureId.TEMPERATURE_THRESHOLD, threshold)
    ctrl.set_feature(FeatureId.ASYNC_EVENT_CONFIG, AsyncEventConfigCdw11.build(shcw=2))
    requests = [ctrl.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=60) for _ in range(2)]
    device.model.set_temperature(330)
    done = requests[0].wait(5)
    assert done is not None
    assert done.result & 0xFF == AsyncEventType.SMART_HEALTH
    assert done.result >> 8 & 0xFF == HealthEvent.TEMPERATURE_THRESHOLD
    assert done.result >> 16 & 0xFF == LogId.SMART
    for kelvins in (310, 335):
        device.model.set_temperature(kelvins)
    assert requests[1].wait(0.05) is None
    ctrl.log_page(LogId.SMART, 512, retain_event=True)
    assert requests[1].wait(0.05) is None
    ctrl.smart()
    assert requests[1].wait(5) is not None


def test_an_event_that_nobody_wants_is_none(device: SoftDevice, ctrl: Controller) -> None:
    assert device.model
    request = ctrl.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=60)
    device.model.set_temperature(400)
    assert request.wait(0.05) is None


def test_an_event_before_its_request(device: SoftDevice, ctrl: Controller) -> None:
    assert device.model
    ctrl.set_feature(FeatureId.ASYNC_EVENT_CONFIG, AsyncEventConfigCdw11.build(shcw=2))
    device.model.set_temperature(400)
    request = ctrl.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=60)
    assert request.wait(5) is not None
    device.model.set_temperature(300)
    ctrl.smart()
    device.model.set_temperature(400)
    ctrl.reset()  # which forgets it
    request = ctrl.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=60)
    assert request.wait(0.05) is None
