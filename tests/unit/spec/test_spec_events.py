"""Asynchronous events against numbers written out from the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, ControllerDataQueueEvent


def test_event_dwords() -> None:
    assert AsyncEventResult.build(aet=1, aei=2, lid=3) == 0x00030201
    assert ControllerDataQueueEvent.build(cdqid=0xFFFF) == 0xFFFF


# Dword 0, and what the event is called.
NAMES = {
    0x010500: "FIRMWARE_IMAGE_LOAD_ERROR",
    0x020101: "TEMPERATURE_THRESHOLD",
    0x040002: "ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED",
    0x030102: "FIRMWARE_ACTIVATION_STARTING",
    0x1A0902: "ALLOCATED_NAMESPACE_ATTRIBUTE_CHANGED",
    0xBFEF02: "ZONE_DESCRIPTOR_CHANGED",
    0x70F002: "DISCOVERY_LOG_PAGE_CHANGE",
    0x000003: "NVM_SUBSYSTEM_NORMAL_SHUTDOWN",
    0x000004: "CONTROLLER_DATA_QUEUE_TAIL_POINTER",
    0x800006: "RESERVATION_LOG_PAGE_AVAILABLE",
    0x810306: "SANITIZE_ENTERED_MEDIA_VERIFICATION",
    0x000007: "",
    0x000005: "",
    0x00FF00: "",
}


@pytest.mark.parametrize("dword", NAMES)
def test_what_an_event_is_called(dword: int) -> None:
    assert AsyncEventResult(dword).event == NAMES[dword]


def test_event_types() -> None:
    assert (AsyncEventType.ERROR, AsyncEventType.SMART_HEALTH, AsyncEventType.NOTICE) == (0, 1, 2)
    assert (AsyncEventType.IMMEDIATE, AsyncEventType.ONE_SHOT) == (3, 4)
    assert (AsyncEventType.IO_COMMAND_SPECIFIC, AsyncEventType.VENDOR_SPECIFIC) == (6, 7)


@given(st.integers(0, 2**32 - 1))
def test_any_dword_is_an_event(dword: int) -> None:
    assert AsyncEventResult(dword).event.isascii()
