"""Security, directives, capacity, NVMe-MI, properties: what is sent, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorder import Recorder
from soft_controller import SoftController

from pynvme_user import AdminOpcode
from pynvme_user.spec.commands import NSID_ALL, SQE
from pynvme_user.spec.directives import DirectiveParameters, StreamsParameters
from pynvme_user.spec.identify_controller import CTRATT, OACS
from pynvme_user.spec.management import (
    LbaStatusCompletion,
    LbaStatusDescriptor,
    LbaStatusList,
)

Run = Callable[..., tuple[str, int]]


@pytest.fixture
def recorder(soft: SoftController) -> Recorder:
    soft.fields = {
        "oacs": OACS((1 << 11) - 1).replace(dbcs=0),
        "ctratt": CTRATT.build(fcm=1),
    }
    return Recorder(soft)


def dwords(sqe: SQE) -> tuple[int, ...]:
    return sqe.nsid, sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15


def run_line(run: Run, line: str) -> tuple[str, int]:
    name, *options = line.split()
    return run(name, "soft", *options)


COLUMNS = "       0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f"
#: A command line; opcode, nsid and dwords 10 to 15 of what it sends; what it says.
SENT: dict[str, tuple[tuple[int, ...], str]] = {
    "virt-mgmt -c 2 -r 1 -a 8 -n 4 --force": (
        (AdminOpcode.VIRTUALIZATION_MANAGEMENT, 0, 2 << 16 | 1 << 8 | 8, 4),
        "success, Number of Controller Resources Modified (NRM):0\n",
    ),
    "virt-mgmt --act secondary-online --force": (
        (AdminOpcode.VIRTUALIZATION_MANAGEMENT, 0, 9),
        "success, Number of Controller Resources Modified (NRM):0\n",
    ),
    "capacity-mgmt -o 1 -i 3 -l 5 -u 6": (
        (AdminOpcode.CAPACITY_MANAGEMENT, 0, 3 << 16 | 1, 5, 6),
        "Capacity Management Command is Success\n"
        "Created Element Identifier for Endurance Group is: 0\n",
    ),
    "capacity-mgmt -o create-nvm-set -i 1": (
        (AdminOpcode.CAPACITY_MANAGEMENT, 0, 1 << 16 | 3),
        "Capacity Management Command is Success\nCreated Element Identifier for NVM Set is: 0\n",
    ),
    "capacity-mgmt -o 2 --force": (
        (AdminOpcode.CAPACITY_MANAGEMENT, 0, 0xFFFF << 16 | 2),
        "Capacity Management Command is Success\n",
    ),
    "lockdown -o 0x80 -f 2 -p 1 -s 2 -U 5": (
        (AdminOpcode.LOCKDOWN, 0, 0x80 << 8 | 2 << 5 | 1 << 4 | 2, 0, 0, 0, 5),
        "Lockdown Command is Successful\n",
    ),
    "lockdown": ((AdminOpcode.LOCKDOWN, 0, 0), "Lockdown Command is Successful\n"),
    "security-send -n 1 -N 2 -p 0xea -s 0x102 -t 8 -f /dev/null": (
        (AdminOpcode.SECURITY_SEND, 1, 0xEA << 24 | 1 << 16 | 2 << 8 | 2, 8),
        "NVME Security Send Command Success\n",
    ),
    "security-recv -p 1 -s 3 -x 16 -t 8": (
        (AdminOpcode.SECURITY_RECEIVE, 0, 1 << 24 | 3 << 8, 8),
        "NVME Security Receive Command Success\n"
        f"{COLUMNS}\n"
        '0000: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "................"\n',
    ),
    "dir-send -O 1 -T 1 -e 0": (
        (AdminOpcode.DIRECTIVE_SEND, 1, 0, 1, 1 << 8),
        "dir-send: type 0, operation 0x1, spec_val 0, nsid 0x1, result 0\n",
    ),
    "dir-send -n 0xffffffff -D streams -O 2 -S 7": (
        (AdminOpcode.DIRECTIVE_SEND, NSID_ALL, 0, 7 << 16 | 1 << 8 | 2),
        "dir-send: type 0x1, operation 0x2, spec_val 0x7, nsid 0xffffffff, result 0\n",
    ),
    "dir-send -D 15 -O 9 -l 4 -i /dev/null": (
        (AdminOpcode.DIRECTIVE_SEND, 1, 0, 15 << 8 | 9),
        "dir-send: type 0xf, operation 0x9, spec_val 0, nsid 0x1, result 0\n"
        f"{COLUMNS}\n"
        '0000: 00 00 00 00                                     "...."\n',
    ),
    "dir-receive -D 1 -O 3 -r 5": (
        (AdminOpcode.DIRECTIVE_RECEIVE, 1, 0, 1 << 8 | 3, 5),
        "dir-receive: type:0x1 operation:0x3 spec:0 nsid:0x1 result:0\n",
    ),
    "dir-receive -D 1 -O 3 -H": (
        (AdminOpcode.DIRECTIVE_RECEIVE, 1, 0, 1 << 8 | 3),
        "dir-receive: type:0x1 operation:0x3 spec:0 nsid:0x1 result:0\n"
        "\tNamespace Streams Allocated (NSA): 0\n",
    ),
    "nvme-mi-send -O 3 -n 1 -m 1 -0 4 -1 5": (
        (AdminOpcode.NVME_MI_SEND, 1, 1 << 11 | 4, 3, 4, 5),
        "NVMe-MI Send Command is Success and result: 0x00000000 "
        "(status: 0x00, response: 0x000000)\n",
    ),
    "nvme-mi-recv -O 1 -l 4": (
        (AdminOpcode.NVME_MI_RECEIVE, 0, 4, 1),
        "NVMe-MI Receive Command is Success and result: 0x00000000 "
        "(status: 0x00, response: 0x000000)\n"
        f"{COLUMNS}\n"
        '0000: 00 00 00 00                                     "...."\n',
    ),
}


@pytest.mark.parametrize("line", SENT)
def test_what_is_sent(recorder: Recorder, run: Run, line: str) -> None:
    (opcode, *expected), said = SENT[line]
    assert run_line(run, line) == (said, 0)
    sqe = recorder.only()
    assert (sqe.opc, *dwords(sqe)) == (opcode, *expected, *[0] * (7 - len(expected)))


@pytest.mark.parametrize(
    "line",
    [
        *("virt-mgmt -a 7", "capacity-mgmt -o 0", "lockdown", "security-send -t 4 -f /dev/null"),
        *("security-recv -x 4", "dir-send -D 1 -O 1", "dir-receive -O 1", "nvme-mi-send -O 1"),
        *("nvme-mi-recv -O 1", "get-lba-status -a 2"),
    ],
)
def test_what_the_controller_does_not_support(
    recorder: Recorder, run: Run, soft: SoftController, line: str
) -> None:
    soft.fields = {}
    said, ended = run_line(run, line)
    assert ended == 1
    assert " does not support " in said
    assert said.endswith("; add --force to send it all the same")
    assert recorder.take() == []
    assert run_line(run, line + " --force")[1] == 0
    assert len(recorder.take()) == 1


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ("virt-mgmt", "Missing option '--act'", 2),
        ("virt-mgmt -a 2", "'2' is none of 1 primary-flexible-allocation", 2),
        ("virt-mgmt -a 7 -c 1", "controller 1 of soft under its users, and there is no term", 2),
        ("capacity-mgmt -o 2", "capacity-mgmt may delete namespace 1 of soft, and there is no", 2),
        ("lockdown -s 1", "'1' is none of 0 admin-commands, 2 features", 2),
        ("lockdown -U 128", "128 is not in the range 0 to 0x7f", 2),
        ("security-send", "Missing option '--tl'", 2),
        ("security-send -t 0", "--tl 0 is no data", 2),
        ("security-send -t 4 -f /nowhere", "/nowhere cannot be opened: No such file", 1),
        ("security-send -t 32k -f /dev/null", "'32k' is not a whole number", 2),
        ("security-send -t 99999 -f /dev/null", "carries up to 16384 bytes here, not 99999", 1),
        ("security-recv", "how much? Give --size or --al", 2),
        ("security-recv -x 4 -t 8", "--al 8 is more than the --size 4", 2),
        ("security-recv -x 99999", "one command carries up to 16384 bytes here", 1),
        ("dir-send -O 1", "which directive is to be enabled? Give --target-dir", 2),
        ("dir-receive -l 99999", "one command carries up to 16384 bytes here", 1),
        ("nvme-mi-send", "Missing option '--opcode'", 2),
        ("nvme-mi-send -O 1 -l 99999", "one command carries up to 16384 bytes here", 1),
        ("get-lba-status", "Missing option '--action'", 2),
        ("get-lba-status -a 1", "'1' is none of 2 allocated, 16 scan-untracked, 17 tracked", 2),
        ("get-lba-status -n 9 -a 2", "namespace 9 is not active", 1),
        ("get-property", "Missing option '--offset'", 2),
        ("get-property -o 1", "there is no property at 0x1: CAP=0x0, VS=0x8, INTMS=0xc", 2),
        ("set-property -o 0xc -v 0x100000000", "INTMS has 32 bits, 0x100000000 has more", 2),
    ],
)
def test_mistakes(recorder: Recorder, run: Run, line: str, error: str, code: int) -> None:
    said, ended = run_line(run, line)
    assert error in said
    assert ended == code
    assert recorder.take() == []


def test_what_was_made_is_said(recorder: Recorder, run: Run) -> None:
    recorder.dw0 = 0x12
    assert run_line(run, "capacity-mgmt -o 3")[0].endswith("for NVM Set is: 18\n")
    assert run_line(run, "virt-mgmt -a 8 --force")[0].endswith("(NRM):0x12\n")
    assert "(status: 0x12, response: 0x000000)" in run_line(run, "nvme-mi-recv -O 1")[0]
    assert "(NSA): 18" in run_line(run, "dir-receive -D 1 -O 3 -H")[0]


def test_data_is_filled_up(recorder: Recorder, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"abcdef")
    recorder.length = lambda sqe: 8
    run_line(run, f"security-send -t 8 -f {file}")
    assert recorder.data.pop() == b"abcdef\0\0"
    run_line(run, f"nvme-mi-send -O 1 -l 8 -i {file}")
    assert recorder.data.pop() == b"abcdef\0\0"
    recorder.length = lambda sqe: 4
    run_line(run, f"security-send -t 4 -f {file}")
    assert recorder.data.pop() == b"abcd"


def test_data_that_comes(recorder: Recorder, run: Run, tmp_path: Path) -> None:
    recorder.answers = {
        AdminOpcode.SECURITY_RECEIVE: b"secret!!",
        AdminOpcode.NVME_MI_RECEIVE: b"managed!",
    }
    assert '"secret!!"' in run_line(run, "security-recv -x 8")[0]
    assert run_line(run, "security-recv -x 12 -t 8 --raw-binary")[0] == "secret!!\0\0\0\0"
    file = tmp_path / "answer"
    said, _ = run_line(run, f"nvme-mi-recv -O 1 -l 8 -i {file}")
    assert said.count("\n") == 1
    assert file.read_bytes() == b"managed!"


def test_directives_in_words(recorder: Recorder, run: Run) -> None:
    page = bytes(DirectiveParameters.build(supported=3, enabled=1))
    recorder.answers = {AdminOpcode.DIRECTIVE_RECEIVE: page}
    said, _ = run_line(run, "dir-receive -O 1 -H")
    assert recorder.only().cdw10 == 1023
    assert "\tsupported" in said
    assert "Streams Directive" in said
    assert run_line(run, "dir-receive -O 1 -b")[0].encode() == page
    streams = bytes(StreamsParameters.build(msl=7, sws=3))
    recorder.answers = {AdminOpcode.DIRECTIVE_RECEIVE: streams}
    said, _ = run_line(run, "dir-receive -D 1 -O 1 -H")
    assert "Max Streams Limit" in said
    assert "msl" in said
    recorder.take()
    run_line(run, "dir-receive -D 1 -O 2")
    assert recorder.only().cdw10 == 4095  # all that one command carries here
    recorder.answers = {AdminOpcode.DIRECTIVE_RECEIVE: streams[:16]}
    assert run_line(run, "dir-receive -D 1 -O 1 -l 16 -H")[1] == 0


def test_lba_status(recorder: Recorder, run: Run) -> None:
    page = LbaStatusList.build(
        [LbaStatusDescriptor.build(dslba=100, nlb=7, status=1)],
        nlsd=1,
        cmpc=LbaStatusCompletion.COMPLETE,
    )
    recorder.answers = {AdminOpcode.GET_LBA_STATUS: bytes(page).ljust(4096, b"\0")}
    said, code = run_line(run, "get-lba-status -a 0x11 -s 4294967297 -l 8 -t 500")
    assert code == 0
    assert said == (
        "Number of LBA Status Descriptors(NLSD): 1\n"
        "Completion Condition(CMPC): 2\n"
        "\tthe action was done over the whole range\n"
        "{ DSLBA: 0x0000000000000064, NLB: 0x00000007, Status: 0x01 }\n"
    )
    assert dwords(recorder.only())[:5] == (1, 1, 1, 1023, 0x11 << 24 | 8)
    assert '"dslba": 100' in run_line(run, "get-lba-status -a allocated -o json")[0]


def test_properties(recorder: Recorder, run: Run, soft: SoftController) -> None:
    assert run_line(run, "get-property -o 8") == (
        f"property: 0x08 (Version), value: {int(soft.version):x}\n",
        0,
    )
    said, _ = run_line(run, "get-property --offset 0x1c -H")
    assert said.startswith("csts : 1\n")
    assert "Ready" in said
    assert run_line(run, "get-property -o 8 -H")[0].startswith("version : 10400\n")
    written: list[tuple[int, ...]] = []
    soft.write = lambda *of: written.append(of)  # type: ignore[method-assign]
    assert run_line(run, "set-property -o 0x30 -v 0x100000000") == (
        "set-property: 30 (Admin Completion Queue Base Address), value: 0x100000000\n",
        0,
    )
    assert run_line(run, "set-property -o 0x14 -v 0")[0].endswith("value: 00000000\n")
    assert written == [(0x30, 8, 1 << 32), (0x14, 4, 0)]
    del soft.write
