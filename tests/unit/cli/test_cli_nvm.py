"""dsm, copy, verify, reservations, I/O management and events: what is sent, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from recorder import Recorder
from soft_controller import OK, SoftController

from pynvme_user import AdminOpcode, NvmOpcode, Status
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType, NoticeEvent
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.identify_controller import CTRATT, ONCS
from pynvme_user.spec.nvm import DatasetRange
from pynvme_user.spec.nvm_copy import CopyRange0, CopyRange1
from pynvme_user.spec.reservations import (
    Registrant,
    ReservationAcquireKeys,
    ReservationRegisterKeys,
    ReservationStatus,
)

Run = Callable[..., tuple[str, int]]


class IoRecorder:
    """Keeps the I/O commands but reads, and the data of those that send some."""

    def __init__(self, soft: SoftController) -> None:
        self.soft = soft
        self.seen: list[SQE] = []
        self.data = b""
        self.length = 0
        self.answer = b""
        soft.io = self.io

    def io(self, sqe: SQE) -> Status:
        if sqe.opc == NvmOpcode.READ:
            return OK
        self.seen.append(sqe)
        if self.answer:
            self.soft.fill(sqe, self.answer)
        elif self.length:
            self.data = self.soft.data(sqe, self.length)
        return OK

    def only(self) -> SQE:
        (one,), self.seen = self.seen, []
        return one


@pytest.fixture
def io(soft: SoftController) -> IoRecorder:
    soft.fields = {
        "oncs": ONCS.build(
            nvmdsmsv=1, nvmvfys=1, nvmcpys=1, nvmwusv=1, reservs=1, nvmcmps=1, nvmwzsv=1
        ),
        "ocfs": 3,
        "ctratt": CTRATT.build(fdps=1),
    }
    return IoRecorder(soft)


def run_line(run: Run, line: str) -> tuple[str, int]:
    name, *options = line.split()
    return run(name, "soft", *options)


def dwords(sqe: SQE) -> tuple[int, ...]:
    return sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15


#: A command line; opcode and dwords 10 to 15 of what it sends; what it says.
SENT: dict[str, tuple[tuple[int, ...], str]] = {
    "dsm -b 8": ((NvmOpcode.DATASET_MANAGEMENT, 0, 0), "NVMe DSM: success\n"),
    "dsm -b 8,9 -s 1,100 -w -r": ((NvmOpcode.DATASET_MANAGEMENT, 1, 3), "NVMe DSM: success\n"),
    "dsm -b 8 --cdw11 6 --force": ((NvmOpcode.DATASET_MANAGEMENT, 0, 6), "NVMe DSM: success\n"),
    "dsm -b 8 --ad --force": ((NvmOpcode.DATASET_MANAGEMENT, 0, 4), "NVMe DSM: success\n"),
    "copy -d 500 -s 1 --force": ((NvmOpcode.COPY, 500, 0, 0), "NVMe Copy: success\n"),
    "copy -d 500 -s 1 -l -f --force": (
        (NvmOpcode.COPY, 500, 0, 1 << 31 | 1 << 30),
        "NVMe Copy: success\n",
    ),
    "copy -d 500 -s 1,2 -b 3 -l -f -p 8 -P 7 -r 9 -a 5 -m 6 -T 1 -S 2 -F 1 --force": (
        (
            NvmOpcode.COPY,
            *(500, 0, 1 << 31 | 1 << 30 | 8 << 26 | 1 << 20 | 7 << 12 | 1 << 8 | 1),
            *(2 << 16, 9, 6 << 16 | 5),
        ),
        "NVMe Copy: success\n",
    ),
    "verify -s 3 -c 4": ((NvmOpcode.VERIFY, 3, 0, 4), "NVME Verify Success\n"),
    "verify -l -f": ((NvmOpcode.VERIFY, 0, 0, 1 << 31 | 1 << 30), "NVME Verify Success\n"),
    "verify -s 3 -c 4 -l -f -p 7 -r 9 -a 5 -m 6": (
        (NvmOpcode.VERIFY, 3, 0, 1 << 31 | 1 << 30 | 7 << 26 | 4, 0, 9, 6 << 16 | 5),
        "NVME Verify Success\n",
    ),
    "verify --storage-tag-check": ((NvmOpcode.VERIFY, 0, 0, 1 << 24), "NVME Verify Success\n"),
    "write-uncor -s 3 -c 4 --force": (
        (NvmOpcode.WRITE_UNCORRECTABLE, 3, 0, 4),
        "NVME Write Uncorrectable Success\n",
    ),
    "resv-register -c 1 -k 2 -r 2 -p 3 -i": (
        (NvmOpcode.RESERVATION_REGISTER, 3 << 30 | 1 << 3 | 2),
        "NVME Reservation  success\n",
    ),
    "resv-acquire -c 1 -p 2 -t 3 -a preempt -i": (
        (NvmOpcode.RESERVATION_ACQUIRE, 3 << 8 | 1 << 3 | 1),
        "NVME Reservation Acquire success\n",
    ),
    "resv-release -c 1 -t write-exclusive -a clear -i": (
        (NvmOpcode.RESERVATION_RELEASE, 1 << 8 | 1 << 3 | 1),
        "NVME Reservation Release success\n",
    ),
    "io-mgmt-send -m 1 -s 3 -l 8 -d /dev/null": (
        (NvmOpcode.IO_MANAGEMENT_SEND, 3 << 16 | 1),
        "io-mgmt-send: Success, mos:3 mo:1 nsid:1\n",
    ),
    "io-mgmt-send -m 1": (
        (NvmOpcode.IO_MANAGEMENT_SEND, 1),
        "io-mgmt-send: Success, mos:0 mo:1 nsid:1\n",
    ),
    "io-mgmt-recv -m 1 -l 64 -d /dev/null": (
        (NvmOpcode.IO_MANAGEMENT_RECEIVE, 1, 15),
        "io-mgmt-recv: Success, mos:0 mo:1 nsid:1\n",
    ),
    "io-mgmt-recv -s 2": (
        (NvmOpcode.IO_MANAGEMENT_RECEIVE, 2 << 16, 0),
        "io-mgmt-recv: Success, mos:2 mo:0 nsid:1\n",
    ),
}


@pytest.mark.parametrize("line", SENT)
def test_what_is_sent(io: IoRecorder, run: Run, line: str) -> None:
    (opcode, *expected), said = SENT[line]
    assert run_line(run, line) == (said, 0)
    sqe = io.only()
    assert (sqe.opc, sqe.nsid, *dwords(sqe)) == (
        opcode,
        1,
        *expected,
        *[0] * (6 - len(expected)),
    )


@pytest.mark.parametrize(
    "line",
    [
        *("dsm -b 8", "copy -d 5 -s 1", "verify", "write-uncor", "resv-register -k 1"),
        *("resv-acquire -t 1", "resv-release -t 1", "resv-report", "resv-report -d 5"),
        *("io-mgmt-send -m 1", "io-mgmt-recv -m 1"),
    ],
)
def test_what_the_controller_does_not_support(
    io: IoRecorder, run: Run, soft: SoftController, line: str
) -> None:
    soft.fields = {}
    said, ended = run_line(run, line)
    assert ended == 1
    assert " does not support " in said
    assert said.endswith(" is 0; add --force to send it all the same")
    assert io.seen == []
    assert run_line(run, line + " --force")[1] == 0
    assert len(io.seen) == 1


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ("dsm", "Missing option '--blocks'", 2),
        ("dsm -b 1 -s 1,2", "--blocks has 1 ranges, --slbs 2 and --ctx-attrs 1", 2),
        ("dsm -b 0", "0 blocks are not all in namespace 1", 1),
        ("dsm -b 1 -s 1000", "blocks 1000 to 1000 are not all in namespace 1", 1),
        ("dsm -b 1 -c 8", "8 is not in the range 0 to 0x7", 2),
        ("dsm -b 1 -d", "dsm --ad loses blocks of namespace 1 of soft, and there is no term", 2),
        ("copy -d 1", "Missing option '--slbs'", 2),
        ("copy -d 1 -s 1 -b 1,2", "--blocks has 2 ranges, --slbs 1", 2),
        ("copy -d 999 -s 1 -b 1", "blocks 999 to 1000 are not all in namespace 1", 1),
        ("copy -d 1 -s 999 -b 1", "blocks 999 to 1000 are not all in namespace 1", 1),
        ("copy -d 1 -s 5", "copy writes over blocks of namespace 1 of soft, and there is no", 2),
        ("copy -d 1 -s 5 -R 1,2 --force", "there are more tags, 2, than --slbs has ranges", 2),
        ("copy -d 1 -s 5 -r 0x100000000 --force", "does not fit in 32 bits", 1),
        (
            "copy -d 1 -p 1 --force -s " + ",".join(["0"] * 257),
            "one command copies up to 256 ranges, not 257",
            2,
        ),
        ("verify -s 1000", "blocks 1000 to 1000 are not all in namespace 1", 1),
        ("verify -s 1000 -p 1", "blocks 1000 to 1000 are not all in namespace 1", 1),
        ("verify -c 65536 -p 1", "with --prinfo or tags --block-count is up to 65535", 2),
        ("verify -S 1", "the storage tag 0x1 does not fit in 0 bits", 1),
        ("write-uncor -s 1000", "blocks 1000 to 1000 are not all in namespace 1", 1),
        ("write-uncor", "write-uncor loses blocks of namespace 1 of soft, and there is no", 2),
        ("resv-acquire -t 7", "'7' is none of 0 none, 1 write-exclusive", 2),
        ("resv-register -p 1", "'1' is none of 0 no-change, 2 release, 3 persist", 2),
        ("resv-report -n 3", "namespace 3 is not active on soft; active: 1", 1),
        ("io-mgmt-send -l 99999", "one command carries up to 16384 bytes here", 1),
        ("io-mgmt-recv -l 99999 -d /dev/null", "one command carries up to 16384 bytes here", 1),
    ],
)
def test_mistakes(io: IoRecorder, run: Run, line: str, error: str, code: int) -> None:
    said, ended = run_line(run, line)
    assert error in said
    assert ended == code
    assert io.seen == []


def test_ranges(io: IoRecorder, run: Run) -> None:
    io.length = 32
    assert run_line(run, "dsm -b 8,9 -s 1 -a 0x10,0x10")[1] == 0
    assert [DatasetRange.from_bytes(io.data[at : at + 16]) for at in (0, 16)] == [
        DatasetRange.build(cattr=16, slba=1, nlb=8),
        DatasetRange.build(cattr=16, slba=0, nlb=9),
    ]
    io.seen.clear()
    io.length = 16
    assert run_line(run, "dsm -b 8,9 -s 1,2 -a 1,2")[1] == 0  # a command for each attribute
    assert [sqe.cdw10 for sqe in io.seen] == [0, 0]


def test_ranges_of_copy(io: IoRecorder, run: Run) -> None:
    io.length = 64
    line = "copy -d 500 -s 1,20 -b 3 -R 7,8 -A 5 -M 0xff --force"
    assert run_line(run, line)[1] == 0
    assert [CopyRange0.from_bytes(io.data[at : at + 32]) for at in (0, 32)] == [
        CopyRange0.build(slba=1, nlb=3, elbt=7, elbat=5, elbatm=0xFF),
        CopyRange0.build(slba=20, nlb=0, elbt=8),
    ]
    io.length = 40
    assert run_line(run, "copy -d 500 -s 1 -R 7 -F 1 --force")[1] == 0
    assert CopyRange1.from_bytes(io.data) == CopyRange1.build(slba=1, elbt=7)


def test_a_format_of_copy_that_is_not_there(io: IoRecorder, run: Run, soft: SoftController) -> None:
    soft.fields["ocfs"] = 1
    said, code = run_line(run, "copy -d 500 -s 1 -F 1")
    assert code == 1
    assert said == (
        "soft does not support ranges of format 1: OCFS bit 1 (Copy Descriptor Format 1h "
        "Supported) is 0; add --force to send it all the same"
    )
    assert io.seen == []
    assert run_line(run, "copy -d 500 -s 1 -F 1 --force") == ("NVMe Copy: success\n", 0)


def test_keys(io: IoRecorder, run: Run) -> None:
    io.length = 16
    run_line(run, "resv-register -c 0xabba -k 2")
    assert ReservationRegisterKeys.from_bytes(io.data) == ReservationRegisterKeys.build(
        crkey=0xABBA, nrkey=2
    )
    run_line(run, "resv-acquire -c 1 -p 0xffffffffffffffff -t 1 -a 1")
    assert ReservationAcquireKeys.from_bytes(io.data) == ReservationAcquireKeys.build(
        crkey=1, prkey=(1 << 64) - 1
    )


def test_report(io: IoRecorder, run: Run) -> None:
    page = ReservationStatus.build(
        [Registrant.build(cntlid=1, hostid=2, rkey=0xABBA)], gen=5, rtype=1, regstrnt=1
    )
    io.answer = bytes(page).ljust(4096, b"\0")
    said, code = run_line(run, "resv-report -o json")
    assert code == 0
    assert json.loads(said)["regctls"][0]["rkey"] == 0xABBA
    assert "NVME Reservation status:" in run_line(run, "resv-report")[0]
    io.seen.clear()
    io.answer = bytes(page)
    assert json.loads(run_line(run, "resv-report -d 11 -o json")[0])["gen"] == 5
    assert dwords(io.only())[:2] == (11, 0)
    io.answer = b""
    run_line(run, "resv-report -e")
    assert io.only().cdw11 == 1
    run_line(run, "resv-report -e -d 0")
    assert dwords(io.only())[:2] == (15, 1)  # the header at least


def test_what_io_management_brings(io: IoRecorder, run: Run, tmp_path: Path) -> None:
    io.answer = b"handles!"
    file = tmp_path / "brought"
    run_line(run, f"io-mgmt-recv -m 1 -l 8 -d {file}")
    assert file.read_bytes() == b"handles!"
    io.answer = b""
    io.length = 8
    file.write_bytes(b"ids")
    run_line(run, f"io-mgmt-send -m 1 -l 8 -d {file}")
    assert io.data == b"ids\0\0\0\0\0"


def test_blocks_with_metadata_are_looked_at(io: IoRecorder, run: Run, soft: SoftController) -> None:
    soft.lbaf = LbaFormat.build(ds=9, ms=8)
    said, code = run_line(run, "write-uncor")
    assert code == 2
    assert "there is no terminal" in said


# --- events ------------------------------------------------------------------------------------

CHANGED = AsyncEventResult.build(
    aet=AsyncEventType.NOTICE, aei=NoticeEvent.ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED, lid=4
)


@pytest.fixture
def announcing(soft: SoftController) -> list[int]:
    """A controller that answers each request for an event at once, as long as there are any."""
    recorder = Recorder(soft)
    results: list[int] = []

    def admin(sqe: SQE) -> Status | None:
        if sqe.opc != AdminOpcode.ASYNC_EVENT_REQUEST:
            return recorder.admin(sqe)
        if not results:
            return None  # keeps it
        assert soft._command is not None
        soft._command.dw0 = results.pop(0)
        return OK

    soft.admin = admin
    return results


def test_events(announcing: list[int], run: Run, soft: SoftController) -> None:
    soft.log_page = (2).to_bytes(4, "little").ljust(4096, b"\0")
    announcing += [int(CHANGED)] * 3
    said, code = run_line(run, "events --count 1")
    assert (said, code) == (
        "notice: attached namespace attribute changed, log page 04h\n",
        0,
    )


def test_events_as_json(announcing: list[int], run: Run, soft: SoftController) -> None:
    announcing += [int(CHANGED), int(AsyncEventResult.build(aet=6, aei=9))]
    said, code = run_line(run, "events -c 2 -o json --config 0x100")
    assert code == 0
    first, second = map(json.loads, said.splitlines())
    assert (first["type"], first["info"], first["log_page"]) == (2, 0, 4)
    assert first["type_name"] == "notice"
    assert first["info_name"] == "attached_namespace_attribute_changed"
    assert first["log"] is not None
    assert (second["type"], second["log_page"], second["log"]) == (6, 0, None)


def test_no_event_comes(announcing: list[int], run: Run) -> None:
    assert run_line(run, "events --timeout 0.05") == ("", 0)
    assert run_line(run, "events --timeout 0.05 --count 2") == (
        "0 of 2 events came within 0.05 s",
        1,
    )


def test_the_feature_is_as_before(soft: SoftController, announcing: list[int], run: Run) -> None:
    written: list[int] = []
    inner = soft.admin

    def admin(sqe: SQE) -> Status | None:
        if sqe.opc == AdminOpcode.SET_FEATURES and sqe.cdw10 == FeatureId.ASYNC_EVENT_CONFIG:
            written.append(sqe.cdw11)
        return inner(sqe)

    soft.admin = admin
    run_line(run, "events --timeout 0.01 --config 0x300")
    assert written == [0x300, 0]


def test_ctrl_c_ends_it(announcing: list[int], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pynvme_user.driver.events.Events.wait", interrupted)
    assert run_line(run, "events") == ("interrupted", 130)
