"""``nvme-user fdp``: what its commands send, and what they show."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from soft_controller import OK, SoftController

from pynvme_user import AdminOpcode, FeatureId, NvmOpcode, Status
from pynvme_user.spec.commands import NSID_ALL, SQE
from pynvme_user.spec.fdp import ReclaimUnitHandleDescriptor, ReclaimUnitHandleStatus
from pynvme_user.spec.identify_controller import CTRATT, LPA
from pynvme_user.spec.logs import (
    FdpConfiguration,
    FdpConfigurationsLog,
    FdpEvent,
    FdpEventsLog,
    FdpStatisticsLog,
    LogId,
    ReclaimUnitHandle,
    ReclaimUnitHandleUsage,
    ReclaimUnitHandleUsageLog,
)

Run = Callable[..., tuple[str, int]]

HANDLES = [ReclaimUnitHandle.build(ruht=kind) for kind in (1, 2)]
CONFIGURATION = FdpConfiguration.build(HANDLES, nruh=2, dsze=72, nrg=1, nnss=4, runs=1 << 20)
PAGES = {
    LogId.FDP_CONFIGURATIONS: FdpConfigurationsLog.build([CONFIGURATION], sze=16 + 72),
    LogId.RECLAIM_UNIT_HANDLE_USAGE: ReclaimUnitHandleUsageLog.build(
        [ReclaimUnitHandleUsage.build(ruha=use) for use in (1, 0)], nruh=2
    ),
    LogId.FDP_STATISTICS: FdpStatisticsLog.build(hbmw=5, mbmw=1 << 70, mbe=7),
    LogId.FDP_EVENTS: FdpEventsLog.build([FdpEvent.build(etyp=3, pid=9)], numfdpe=1),
}
STATUS = ReclaimUnitHandleStatus.build(
    [ReclaimUnitHandleDescriptor.build(pid=n, ruhid=n, ruamw=100 + n) for n in (4, 6)], nruhsd=2
)


class Placement:
    """A controller with data placement, which keeps what it is sent."""

    def __init__(self, soft: SoftController) -> None:
        self.soft = soft
        self.seen: list[SQE] = []
        self.data: list[bytes] = []
        self.dw0 = 0
        soft.fields = {"ctratt": CTRATT.build(fdps=1), "lpa": LPA.build(lpeds=1)}
        soft.admin, soft.io = self.admin, self.io

    def admin(self, sqe: SQE) -> Status:
        fid = sqe.cdw10 & 0xFF
        if sqe.opc == AdminOpcode.GET_LOG_PAGE:
            self.soft.log_page = bytes(PAGES[LogId(fid)]).ljust(4096, b"\0")
            self.seen.append(sqe)
        elif sqe.opc in (AdminOpcode.GET_FEATURES, AdminOpcode.SET_FEATURES) and fid >= 0x1D:
            assert self.soft._command is not None
            self.soft._command.dw0 = self.dw0
            self.seen.append(sqe)
            if fid == FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS:
                self.data.append(self.soft.data(sqe, sqe.cdw11 >> 16))
        return OK

    def io(self, sqe: SQE) -> Status:
        self.seen.append(sqe)
        if sqe.opc == NvmOpcode.IO_MANAGEMENT_RECEIVE:
            self.soft.fill(sqe, bytes(STATUS))
        else:
            self.data.append(self.soft.data(sqe, 2 * ((sqe.cdw10 >> 16) + 1)))
        return OK

    def only(self) -> SQE:
        (one,) = self.seen
        self.seen = []
        return one


@pytest.fixture
def placement(soft: SoftController) -> Placement:
    return Placement(soft)


@pytest.mark.parametrize(
    ("command", "lid"),
    [
        ("configs", LogId.FDP_CONFIGURATIONS),
        ("usage", LogId.RECLAIM_UNIT_HANDLE_USAGE),
        ("stats", LogId.FDP_STATISTICS),
        ("events", LogId.FDP_EVENTS),
    ],
)
def test_pages(placement: Placement, run: Run, command: str, lid: LogId) -> None:
    said, code = run("fdp", command, "soft:", "-e", "3", "-o", "json")
    assert code == 0, said
    sent = placement.only()
    assert (sent.cdw10 & 0xFFFF, sent.cdw11 >> 16) == (lid, 3)
    printed = json.loads(said)
    match command:
        case "configs":
            (one,) = printed["configs"]
            assert (one["nrg"], one["runs"], len(one["ruhs"])) == (1, 1 << 20, 2)
        case "usage":
            assert [each["ruha"] for each in printed["ruhus"]] == [1, 0]
        case "stats":
            assert printed == {"hbmw": 5, "mbmw": 1 << 70, "mbe": 7}
        case "events":
            assert [(each["type"], each["pid"]) for each in printed["events"]] == [(3, 9)]
    text, _ = run("fdp", command, "soft:", "-e", "3")
    assert {
        "configs": "runs",
        "usage": "0x1 (Host specified)",
        "stats": "Media Bytes Erased (MBE)",
        "events": "0x3 (Invalid placement identifier)",
    }[command] in text
    said, code = run("fdp", command, "soft:")
    assert (code, "Missing option '--endgrp-id'" in said) == (2, True)


def test_events_of_the_host(placement: Placement, run: Run) -> None:
    run("fdp", "events", "soft:", "-e", "1", "--host-events")
    assert placement.only().cdw10 >> 8 & 0x7F == 1


def test_status(placement: Placement, run: Run) -> None:
    said, code = run("fdp", "status", "soft:", "-n", "1", "-o", "json")
    assert code == 0, said
    assert (placement.only().opc, json.loads(said)["ruhss"][1]["pid"]) == (0x12, 6)
    text, _ = run("fdp", "status", "soft:")
    assert "106" in text


def test_update(placement: Placement, run: Run) -> None:
    assert run("fdp", "update", "soft:", "--pids", "1,0x203") == ("update: Success\n", 0)
    sent = placement.only()
    assert (sent.opc, sent.nsid, sent.cdw10) == (NvmOpcode.IO_MANAGEMENT_SEND, 1, 1 << 16 | 1)
    assert placement.data == [b"\1\0\3\2"]
    for pids in ("", "1,,2", "65536", "x"):
        said, code = run("fdp", "update", "soft:", "--pids", pids)
        assert code == 2, said
    assert placement.seen == []


def test_set_events(placement: Placement, run: Run) -> None:
    options = ("-p", "7", "-t", "0,3,0x80", "--enable", "-s", "-n", "1")
    assert run("fdp", "set-events", "soft:", *options) == ("set-events: Success\n", 0)
    sent = placement.only()
    assert (sent.nsid, sent.cdw10, sent.cdw11, sent.cdw12) == (1, 1 << 31 | 0x1E, 3 << 16 | 7, 1)
    assert placement.data == [b"\0\3\x80"]
    run("fdp", "set-events", "soft:", "-t", "1")
    sent = placement.only()
    assert (sent.nsid, sent.cdw10, sent.cdw11, sent.cdw12) == (NSID_ALL, 0x1E, 1 << 16, 0)
    said, code = run("fdp", "set-events", "soft:", "-t", ",".join(["1"] * 256))
    assert (code, "up to 255 events" in said) == (2, True)


def test_feature(placement: Placement, run: Run) -> None:
    placement.dw0 = 2 << 8 | 1
    said, code = run("fdp", "feature", "soft:", "-e", "5")
    assert code == 0, said
    assert [line.split(": ")[1] for line in said.splitlines()] == ["5", "Yes", "2"]
    sent = placement.only()
    assert (sent.opc, sent.nsid, sent.cdw10, sent.cdw11) == (0x0A, NSID_ALL, 0x1D, 5)
    said, _ = run("fdp", "feature", "soft:", "-e", "5", "-c", "3")
    assert said == "Success enabling Endurance Group: 5, FDP configuration index: 3\n"
    sent = placement.only()
    assert (sent.opc, sent.nsid, sent.cdw10) == (0x09, NSID_ALL, 1 << 31 | 0x1D)
    assert (sent.cdw11, sent.cdw12) == (5, 3 << 8 | 1)
    said, _ = run("fdp", "feature", "soft:", "-e", "5", "--disable")
    assert said == "Success disabling Endurance Group: 5, FDP configuration index: 0\n"
    assert placement.only().cdw12 == 0
    said, code = run("fdp", "feature", "soft:", "-e", "5", "-d", "-c", "0")
    assert (code, "do not go together" in said) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("configs", "-e", "1"),
        ("status",),
        ("update", "-p", "1"),
        ("set-events", "-t", "1"),
        ("feature", "-e", "1"),
        ("feature", "-e", "1", "-d"),
    ],
    ids=" ".join,
)
def test_a_controller_without_placement(
    placement: Placement, soft: SoftController, run: Run, words: tuple[str, ...]
) -> None:
    soft.fields = {}
    command, *options = words
    said, code = run("fdp", command, "soft:", *options)
    assert code == 1
    assert "CTRATT" in said
    assert said.endswith("add --force to send it all the same")
    assert placement.seen == []
    said, code = run("fdp", command, "soft:", *options, "--force")
    assert code == 0, said
    assert placement.seen
