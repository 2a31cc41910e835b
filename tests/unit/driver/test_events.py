"""Asynchronous events: requests that stay outstanding, and what the driver makes of what comes."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable

import pytest
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import AdminOpcode, ClosedError, Controller, FeatureId, NamespaceChangedError
from pynvme_user.driver.events import Event
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, HealthEvent, NoticeEvent
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.identify_controller import OAES
from pynvme_user.spec.logs import ChangedNamespaceList, LogId, SmartLog
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, Status

TEMPERATURE = AsyncEventResult.build(
    aet=AsyncEventType.SMART_HEALTH, aei=HealthEvent.TEMPERATURE_THRESHOLD, lid=LogId.SMART
)
NAMESPACES = AsyncEventResult.build(
    aet=AsyncEventType.NOTICE,
    aei=NoticeEvent.ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED,
    lid=LogId.CHANGED_NAMESPACES,
)
UNKNOWN = AsyncEventResult.build(aet=AsyncEventType.VENDOR_SPECIFIC, aei=0x42, lid=0xC5)


@pytest.fixture
def sent(soft: SoftController) -> list[SQE]:
    """The admin commands that are sent; event requests are kept."""
    commands: list[SQE] = []

    def admin(sqe: SQE) -> Status | None:
        commands.append(sqe)
        if sqe.opc == AdminOpcode.GET_FEATURES:
            assert soft._command is not None
            soft._command.dw0 = 0x200  # what is configured
        return None if sqe.opc == AdminOpcode.ASYNC_EVENT_REQUEST else OK

    soft.fields = {"aerl": 1, "oaes": OAES.build(nan=1)}
    soft.log_page = bytes(4096)
    soft.admin = admin
    return commands


def requests(sent: list[SQE], count: int) -> bool:
    """Wait until the controller's thread has seen so many requests, and no more."""
    end = time.monotonic() + 30
    while _requests(sent) < count and time.monotonic() < end:
        time.sleep(0.001)
    return _requests(sent) == count


def _requests(sent: list[SQE]) -> int:
    return sum(sqe.opc == AdminOpcode.ASYNC_EVENT_REQUEST for sqe in sent)


@pytest.fixture
def tell(soft: SoftController) -> Callable[[AsyncEventResult], None]:
    def tell(event: AsyncEventResult) -> None:
        end = time.monotonic() + 30
        while not soft.send_event(int(event)):
            assert time.monotonic() < end

    return tell


def configured(sent: list[SQE]) -> list[int]:
    return [
        sqe.cdw11
        for sqe in sent
        if sqe.opc == AdminOpcode.SET_FEATURES and sqe.cdw10 == FeatureId.ASYNC_EVENT_CONFIG
    ]


def test_events_come_in_their_order(
    soft: SoftController,
    sent: list[SQE],
    ctrl: Controller,
    tell: Callable[[AsyncEventResult], None],
) -> None:
    with ctrl.events() as events:
        assert requests(sent, 2)  # AERL is zero-based
        assert configured(sent) == [0x200 | 0x1F | 1 << 8]
        assert events.wait(0) is None
        soft.log_page = bytes(SmartLog.build(ctemp=400))
        tell(TEMPERATURE)
        event = events.wait(10)
        assert event is not None
        assert (event.type, event.log.ctemp) == (AsyncEventType.SMART_HEALTH, 400)
        assert str(event) == "smart health: temperature threshold, log page 02h"
        assert not event.changes_namespaces
        assert requests(sent, 3)  # made anew
        tell(UNKNOWN)
        tell(TEMPERATURE)
        found = [events.wait(10), events.wait(10)]
        assert {one.result for one in found if one} == {UNKNOWN, TEMPERATURE}
        unknown = next(one for one in found if one and one.result == UNKNOWN)
        assert unknown.log is None
        assert str(unknown) == "vendor specific: information 42h, log page c5h"
        reads = [sqe for sqe in sent if sqe.opc == AdminOpcode.GET_LOG_PAGE]
        assert {sqe.cdw10 & 0xFFFF for sqe in reads} == {LogId.SMART}  # RAE is 0
    assert configured(sent)[-1] == 0x200
    with pytest.raises(ClosedError, match="these events are closed"):
        events.wait()
    assert list(events) == []
    events.close()


def test_the_next_read_uses_the_new_format(
    soft: SoftController,
    sent: list[SQE],
    ctrl: Controller,
    tell: Callable[[AsyncEventResult], None],
) -> None:
    ns = ctrl.namespaces[1]
    ns.read(0, 1)
    soft.lbaf = LbaFormat.build(ds=12)
    soft.log_page = bytes(ChangedNamespaceList.build([1])).ljust(4096, b"\0")
    with ctrl.events() as events:
        tell(NAMESPACES)
        event = events.wait(10)
        assert event is not None
        assert event.changes_namespaces
        assert event.log.entries == (1,)
        with pytest.raises(NamespaceChangedError, match="512 bytes to 4096"):
            ns.read(0, 1)
        assert len(ctrl.namespaces[1].read(0, 1)) == 4096


def test_a_reset_makes_the_requests_anew(
    soft: SoftController,
    sent: list[SQE],
    ctrl: Controller,
    tell: Callable[[AsyncEventResult], None],
) -> None:
    with ctrl.events() as events:
        assert requests(sent, 2)
        ctrl.reset()
        assert events.wait(0.05) is None
        assert requests(sent, 4)
        tell(TEMPERATURE)
        assert events.wait(10) is not None


def test_a_callback(
    soft: SoftController,
    sent: list[SQE],
    ctrl: Controller,
    tell: Callable[[AsyncEventResult], None],
) -> None:
    found: queue.SimpleQueue[Event] = queue.SimpleQueue()
    events = ctrl.events(found.put, config=0x101)
    assert configured(sent) == [0x101]
    tell(TEMPERATURE)
    assert found.get(timeout=10).result == TEMPERATURE
    events.close()
    assert "nvme events" not in [thread.name for thread in threading.enumerate()]


def test_the_controller_is_closed(soft: SoftController, sent: list[SQE], ctrl: Controller) -> None:
    events = ctrl.events()
    ctrl.close()
    with pytest.raises(ClosedError):
        events.wait()
    assert list(events) == []
    events.close()


def test_the_device_goes(soft: SoftController, sent: list[SQE], ctrl: Controller) -> None:
    events = ctrl.events()
    ctrl.detach()
    with pytest.raises(nvme.DeviceRemovedError):
        events.wait()
    events.close()


def test_requests_that_are_refused(soft: SoftController, sent: list[SQE], ctrl: Controller) -> None:
    status = Status.of(GenericStatus.INVALID_OPCODE)
    soft.admin = lambda sqe: status if sqe.opc == AdminOpcode.ASYNC_EVENT_REQUEST else OK
    with ctrl.events() as events, pytest.raises(nvme.NvmeStatusError, match="Async Event Request"):
        events.wait(10)


def test_requests_of_the_users_own_count_too(
    soft: SoftController,
    sent: list[SQE],
    ctrl: Controller,
    tell: Callable[[AsyncEventResult], None],
) -> None:
    own = ctrl.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=math.inf)
    answer = soft.admin

    def admin(sqe: SQE) -> Status | None:
        if sqe.opc == AdminOpcode.ASYNC_EVENT_REQUEST and _requests(sent) == 2:
            sent.append(sqe)
            return Status.of(CommandSpecificStatus.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED)
        return answer(sqe)

    soft.admin = admin
    with ctrl.events() as events:
        assert events.wait(0.05) is None
        tell(TEMPERATURE)
        assert own.check().result == TEMPERATURE
        tell(UNKNOWN)
        event = events.wait(10)
        assert event is not None
        assert event.result == UNKNOWN
