"""The table of log pages, and that no bytes make a page's decoder raise but for being short."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.spec import logs, logs_events
from pynvme_user.spec.bits import Register
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.logs import LOG_PAGES, LogId, Scope, log_id_of, log_page, structure_of

SUBJECTS = "capacity", "data", "events", "fabrics", "fdp", "health", "namespaces", "support"
PARTS = [importlib.import_module(f"pynvme_user.spec.logs_{subject}") for subject in SUBJECTS]


def own(kind: type) -> list[type[Any]]:
    return [
        cls
        for part in PARTS
        for _, cls in inspect.getmembers(part, inspect.isclass)
        if cls.__module__ == part.__name__ and issubclass(cls, kind)
    ]


STRUCTURES: list[Any] = [*own(Struct), *own(StructList)]

# NVMe Base 2.1, figure 202, and the command sets': the identifiers, and those with scopes and CSI.
IDENTIFIERS = [*range(0x1D), *range(0x20, 0x24), *range(0x70, 0x74), 0x80, 0x81, 0xBF]
OF_THE_SUBSYSTEM = {0x03, 0x0B, 0x0D, 0x0F, 0x14, 0x18, 0x81}
OF_AN_ENDURANCE_GROUP = {0x09, 0x16, 0x20, 0x21, 0x22, 0x23}
WITH_CSI = {0x00, 0x05, 0x12, 0x14}
# Figures 148 to 154 and the command sets': the pages that clear an asynchronous event.
WITH_EVENTS = {
    *(0x01, 0x02, 0x03, 0x04, 0x08, 0x0B, 0x0C, 0x0E, 0x0F, 0x1A, 0x1B, 0x1C),
    *(0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0xBF),
}
WITH_LSP = {0x07, 0x0C, 0x0D, 0x14, 0x15, 0x19, 0x1A, 0x1B, 0x23, 0x70, 0x71}


def test_each_identifier_has_its_page() -> None:
    assert sorted(LogId) == sorted(IDENTIFIERS)
    assert set(LOG_PAGES) == set(LogId)


def test_what_the_command_takes() -> None:
    by_scope = {scope: {p for p in LOG_PAGES if LOG_PAGES[p].scope is scope} for scope in Scope}
    assert by_scope[Scope.SUBSYSTEM] == OF_THE_SUBSYSTEM
    assert by_scope[Scope.ENDURANCE_GROUP] == OF_AN_ENDURANCE_GROUP
    assert by_scope[Scope.CONTROLLER_OR_NAMESPACE] == {0x02}
    assert by_scope[Scope.NAMESPACE] == {0x17, 0xBF}
    assert by_scope[Scope.NVM_SET] == {0x0A}
    assert by_scope[Scope.DOMAIN] == {0x10, 0x11}
    assert by_scope[Scope.PORT] == {0x19}
    assert {lid for lid, page in LOG_PAGES.items() if page.csi} == WITH_CSI
    assert {lid for lid, page in LOG_PAGES.items() if page.rae} == WITH_EVENTS
    assert {lid for lid, page in LOG_PAGES.items() if page.lsp} == WITH_LSP
    sets = {
        lid: page.command_set for lid, page in LOG_PAGES.items() if page.command_set is not None
    }
    assert sets == {0x0E: 0, 0xBF: 2}
    assert {scope for scope in Scope if scope.takes_nsid} == {
        Scope.NAMESPACE,
        Scope.CONTROLLER_OR_NAMESPACE,
    }
    assert [scope.name for scope in Scope if scope.takes_lsi] == [
        "ENDURANCE_GROUP",
        "NVM_SET",
        "DOMAIN",
        "PORT",
    ]


def test_a_log_specific_parameter_is_of_seven_bits() -> None:
    assert {page.lsp.width for page in LOG_PAGES.values() if page.lsp is not None} == {7}
    assert logs.TelemetryHostLsp.build(cthid=1, mcda=3) == 0x07
    assert logs.PersistentEventLsp.build(act=3) == 0x03
    assert logs.EomLsp.build(mqual=2, act=1) == 0x06
    assert logs.LockdownLsp.build(scp=2, cntts=1) == 0x12
    assert logs.DiscoveryLsp.build(extdlpe=1, allsube=1) == 0x05
    for lsp in (logs.AnaLsp.build(rgo=1), logs.ReachabilityGroupsLsp.build(rgo=1)):
        assert lsp == 1
    assert logs.ReachabilityAssociationsLsp.build(rao=1) == 1
    assert logs.BootPartitionLsp.build(bpid=1) == 1
    assert logs.FdpEventsLsp.build(fdpet=1) == 1
    assert logs.HostDiscoveryLsp.build(allhoste=1) == 1


def test_from_a_structure_to_its_identifier_and_back() -> None:
    for lid, page in LOG_PAGES.items():
        assert (structure_of(lid), log_page(int(lid))) == (page.structure, page)
        assert {log_id_of(structure) for structure in (page.structure, *page.others)} == {lid}
    assert log_id_of(logs.ExtendedDiscoveryLog) is LogId.DISCOVERY
    assert structure_of(0xC0) is log_page(0x1D) is None
    with pytest.raises(ValueError, match="AnaGroup is not a log page"):
        log_id_of(logs.AnaGroup)


def test_a_docstring_names_the_identifier() -> None:
    for lid, page in LOG_PAGES.items():
        for structure in (page.structure, *page.others):
            first = str(structure.__doc__).splitlines()[0]
            assert re.search(rf"\(log identifier {lid:02X}h[,;)]", first), first


def test_all_of_the_parts_is_to_be_had_here() -> None:
    for cls in (*STRUCTURES, *own(Register), *own(int)):
        assert getattr(logs, cls.__name__) is cls


def raw_of(chunk: bytes, length: int) -> bytes:
    return (chunk * (length // max(1, len(chunk)) + 1))[:length] if chunk else bytes(length)


@given(st.sampled_from(STRUCTURES), st.binary(max_size=80), st.integers(0, 2500))
@example(logs.PersistentEventLog, b"\xff", 2500)
@example(logs.EomLog, b"\x00\x02", 2500)
@example(logs.FdpConfigurationsLog, b"\x01\x00\x00\x00", 2500)
def test_no_bytes_make_a_decoder_raise_but_for_being_short(
    kind: Any, chunk: bytes, length: int
) -> None:
    raw = raw_of(chunk, length)
    header = getattr(kind, "header_type", kind)
    if length < header.size:
        with pytest.raises(ValueError, match=rf"takes {header.size} bytes, the buffer has"):
            kind.from_bytes(raw)
        return
    page = kind.from_bytes(raw)
    assert raw.startswith(bytes(page))
    assert isinstance(json.loads(json.dumps(page.to_dict())), dict)
    assert all(isinstance(line, str) and "\n" not in line for line in page.dump())
    assert repr(page).startswith(f"<{kind.__name__}")
    assert pickle.loads(pickle.dumps(page)) == page
    assert isinstance(getattr(page, "total_length", 0), int)


@given(st.sampled_from(sorted(logs_events.EVENT_DATA)), st.binary(max_size=700))
def test_no_event_makes_the_log_raise(event_type: int, data: bytes) -> None:
    event = logs.PersistentEvent.build(data, et=event_type, ehl=21, el=len(data))
    page = logs.PersistentEventLog.build([event], tnev=1)
    assert page.entries[0].header.et == event_type
    assert json.loads(json.dumps(page.to_dict()))["entries"][0]["et"] == event_type
    assert page.dump()
