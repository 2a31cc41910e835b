"""The commands for format, firmware, namespaces and so on: what they send, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorder import Recorder
from soft_controller import SoftController, namespace_list

from pynvme_user import AdminOpcode, CommandSpecificStatus, GenericStatus, Status
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import NSID_ALL, SQE
from pynvme_user.spec.identify import IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import CTRATT, FNA, OACS, SANICAP
from pynvme_user.spec.identify_lists import ControllerList
from pynvme_user.spec.logs import CDSTC, CDSTO, SelfTestLog
from pynvme_user.spec.logs_health import DSTS, SelfTestOutcome, SelfTestResult
from pynvme_user.spec.management import NamespaceCreate

Run = Callable[..., tuple[str, int]]

ALL_OACS = OACS((1 << 11) - 1).replace(dbcs=0)
FORMATS = [LbaFormat.build(ds=9), LbaFormat.build(ds=9, ms=8), LbaFormat.build(ds=12)]


@pytest.fixture
def recorder(soft: SoftController) -> Recorder:
    soft.fields = {
        "oacs": ALL_OACS,
        "sanicap": SANICAP(7),
        "cntlid": 5,
        "ctratt": CTRATT.build(fcm=1),
    }
    page = IdentifyNamespace.build(nsze=1000, ncap=1000, nlbaf=2, lbafs=FORMATS)
    allocated = namespace_list([1, 2])

    def identify(sqe: SQE) -> bytes | None:
        match sqe.cdw10 & 0xFF:
            case Cns.NAMESPACE:
                return bytes(page)
            case Cns.ALLOCATED_NAMESPACES:
                return bytes(4096) if sqe.nsid else allocated
        return None

    soft.identify = identify
    return Recorder(soft)


def dwords(sqe: SQE) -> tuple[int, ...]:
    return sqe.nsid, sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15


def code(kind: CommandSpecificStatus | GenericStatus) -> Status:
    return Status.build(sct=int(isinstance(kind, CommandSpecificStatus)), sc=kind)


#: A command line; opcode, nsid and dwords 10 to 15 of what it sends; what it says.
SENT: dict[str, tuple[tuple[int, ...], str]] = {
    "format --force": ((AdminOpcode.FORMAT_NVM, 1), "Success formatting namespace:1\n"),
    "format --force -n 31 -l 17 -s 1 -i 2 -p 1 -m 1": (
        (AdminOpcode.FORMAT_NVM, 31, 1 << 12 | 1 << 9 | 1 << 8 | 2 << 5 | 1 << 4 | 1),
        "Success formatting namespace:1f\n",
    ),
    "format --force --block-size 4096": (
        (AdminOpcode.FORMAT_NVM, 1, 2),
        "Success formatting namespace:1\n",
    ),
    "format --force -n 0xffffffff": (
        (AdminOpcode.FORMAT_NVM, NSID_ALL),
        "Success formatting namespace:ffffffff\n",
    ),
    "format --force -n 0xffffffff -b 4k --ses user-data": (
        (AdminOpcode.FORMAT_NVM, NSID_ALL, 1 << 9 | 2),
        "Success formatting namespace:ffffffff\n",
    ),
    "sanitize -a start-crypto-erase -u -d --force": (
        (AdminOpcode.SANITIZE, 0, 1 << 9 | 1 << 3 | 4),
        "",
    ),
    "sanitize --sanact 3 --owpass 2 --oipbp --ovrpat 0xa5a5a5a5 --force": (
        (AdminOpcode.SANITIZE, 0, 1 << 8 | 2 << 4 | 3, 0xA5A5A5A5),
        "",
    ),
    "sanitize -a 3 --force": ((AdminOpcode.SANITIZE, 0, 3), ""),
    "sanitize -a exit-failure": ((AdminOpcode.SANITIZE, 0, 1), ""),
    "device-self-test -s 1": (
        (AdminOpcode.DEVICE_SELF_TEST, NSID_ALL, 1),
        "Short Device self-test started\n",
    ),
    "device-self-test -s extended -n 1": (
        (AdminOpcode.DEVICE_SELF_TEST, 1, 2),
        "Extended Device self-test started\n",
    ),
    "device-self-test -s 0xf": (
        (AdminOpcode.DEVICE_SELF_TEST, NSID_ALL, 15),
        "Aborting device self-test operation\n",
    ),
    "device-self-test -s vendor-specific": ((AdminOpcode.DEVICE_SELF_TEST, NSID_ALL, 14), ""),
    "fw-commit --force": (
        (AdminOpcode.FIRMWARE_COMMIT, 0, 0),
        "Success committing firmware action:0 slot:0\nMultiple Update Detected (MUD) Value: 0\n",
    ),
    "fw-activate -s 3 -a 7 -b 1 --force": (
        (AdminOpcode.FIRMWARE_COMMIT, 0, 1 << 31 | 7 << 3 | 3),
        "Success committing firmware action:7 slot:3 bpid:1\n"
        "Multiple Update Detected (MUD) Value: 0\n",
    ),
    "create-ns -s 100 -f 0": (
        (AdminOpcode.NAMESPACE_MANAGEMENT, 0, 0),
        "create-ns: Success, created nsid:0\n",
    ),
    "create-ns -s 100 -f 0 --csi zoned": (
        (AdminOpcode.NAMESPACE_MANAGEMENT, 0, 0, 2 << 24),
        "create-ns: Success, created nsid:0\n",
    ),
    "delete-ns -n 2 --force": (
        (AdminOpcode.NAMESPACE_MANAGEMENT, 2, 1),
        "delete-ns: Success, deleted nsid:2\n",
    ),
    "attach-ns -n 2": ((AdminOpcode.NAMESPACE_ATTACHMENT, 2, 0), "attach-ns: Success, nsid:2\n"),
    "detach-ns -n 2": ((AdminOpcode.NAMESPACE_ATTACHMENT, 2, 1), "detach-ns: Success, nsid:2\n"),
}


def run_line(run: Run, line: str) -> tuple[str, int]:
    name, *options = line.split()
    return run(name, "soft", *options)


@pytest.mark.parametrize("line", SENT)
def test_what_is_sent(recorder: Recorder, run: Run, line: str) -> None:
    (opcode, *expected), said = SENT[line]
    assert run_line(run, line) == (said, 0)
    sqe = recorder.only()
    assert (sqe.opc, *dwords(sqe)) == (opcode, *expected, *[0] * (7 - len(expected)))


@pytest.mark.parametrize(
    "line",
    [
        *("format", "sanitize -a 2", "fw-commit", "delete-ns -n 1", "device-self-test"),
        *("create-ns -s 1 -f 0", "attach-ns -n 1", "detach-ns -n 1", "subsystem-reset"),
        *("device-self-test -s 1", "fw-download --fw /dev/null"),
    ],
)
def test_what_the_controller_does_not_support(
    recorder: Recorder, run: Run, soft: SoftController, line: str
) -> None:
    soft.fields = {}
    said, ended = run_line(run, line)
    assert ended == 1
    assert " does not support " in said
    assert said.endswith(" is 0; add --force to send it all the same")
    assert recorder.take() == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("format -l 1 -b 512", "--lbaf and --block-size both name the format"),
        ("format --ses 3", "'3' is none of 0 none, 1 user-data, 2 cryptographic"),
        ("sanitize", "Missing option '--sanact'"),
        ("sanitize -a 2 --owpass 3", "--owpass, --oipbp and --ovrpat are of --sanact 3 alone"),
        ("sanitize -a exit-failure --ause", "--ause and --no-dealloc are of --sanact 2 to 4"),
        ("fw-commit -a 4", "'4' is none of 0 replace"),
        ("fw-commit -s 8", "8 is not in the range 0 to 0x7"),
        ("create-ns -f 0", "how large? Give --nsze or --nsze-si"),
        ("create-ns -s 1", "which format? Give --flbas or --block-size"),
        ("create-ns -s 1 -S 1G -f 0", "--nsze and --nsze-si both say it"),
        ("create-ns -s 1 -f 0 -c 1 -C 1G", "--ncap and --ncap-si both say it"),
        ("create-ns -S 1X -f 0", "'1X' is no amount"),
        ("create-ns -S 99999999999E -f 0", "does not fit in 64 bits"),
        ("create-ns -s 1 -f 0 -p " + ",".join(["1"] * 129), "up to 128 placement handles"),
        ("delete-ns", "Missing option '--namespace-id'"),
        ("attach-ns -n 1 -c 1,,2", "'' is not a whole number"),
        ("attach-ns -n 1 -c " + ",".join(["1"] * 2048), "up to 2047 controllers"),
        ("format", "there is no terminal to ask on: add --force"),
        ("sanitize -a 2", "all namespaces of soft, and there is no terminal to ask on"),
        ("fw-commit", "there is no terminal to ask on: add --force"),
        ("delete-ns -n 1", "loses the data of namespace 1 of soft, and there is no terminal"),
    ],
)
def test_usage(recorder: Recorder, run: Run, soft: SoftController, line: str, error: str) -> None:
    if line.startswith("sanitize"):  # all namespaces can be looked at
        soft.fields["oacs"] = OACS.build(fnvms=1)
    said, ended = run_line(run, line)
    assert error in said
    assert ended == 2
    assert recorder.take() == []


def test_a_format_that_is_not_there(recorder: Recorder, run: Run) -> None:
    for line in ("format --force -b 8192", "create-ns -s 1 -b 8192"):
        said, ended = run_line(run, line)
        assert (said, ended) == (
            "there is no format with blocks of 8192 bytes and no metadata: name one by its index, "
            "id-ns lists them",
            1,
        )
    assert run_line(run, "create-ns -S 1G -f 9") == ("there is no format 9: id-ns lists them", 1)
    assert recorder.take() == []


def test_what_is_not_attached_is_not_deleted(recorder: Recorder, run: Run) -> None:
    for line in ("delete-ns -n 2", "delete-ns -n 0xffffffff", "sanitize -a 2"):
        said, ended = run_line(run, line)
        assert ended == 1
        assert "namespace 2 of soft carries cannot be looked at (it is not attached" in said
        assert "add --force to " in said
    assert recorder.take() == []


def test_a_namespace_that_cannot_be_used_cannot_be_looked_at(
    recorder: Recorder, run: Run, soft: SoftController
) -> None:
    page = bytes(IdentifyNamespace.build(nsze=1000, ncap=1000))
    soft.identify = lambda sqe: page if sqe.cdw10 & 0xFF == Cns.NAMESPACE else None
    said, ended = run_line(run, "format")
    assert ended == 1
    assert "cannot be looked at (namespace 1 has blocks of 2**0 bytes" in said
    assert said.endswith("add --force to format it all the same")
    assert recorder.take() == []


@pytest.mark.parametrize(
    ("attributes", "options", "nsid", "looked_at"),
    [
        (FNA(0), "", 1, 1),
        (FNA.build(fns=1), "", NSID_ALL, 2),
        (FNA.build(fns=1, fnvmbs=1), "", 1, 2),
        (FNA.build(sens=1), "--ses 1", 1, 2),
        (FNA.build(sens=1), "", 1, 1),
    ],
)
def test_which_namespaces_format_is_about(
    recorder: Recorder,
    run: Run,
    soft: SoftController,
    attributes: FNA,
    options: str,
    nsid: int,
    looked_at: int,
) -> None:
    """What the controller formats or erases together is looked at together."""
    soft.fields["fna"] = attributes
    said, _ = run_line(run, f"format {options}")
    assert ("namespace 2 of soft carries cannot be looked at" in said) == (looked_at == 2)
    assert run_line(run, f"format --force {options}")[1] == 0
    assert recorder.only().nsid == nsid


def test_reset_after_format(recorder: Recorder, run: Run, soft: SoftController) -> None:
    run_line(run, "format --force")
    assert soft.log.count("enable") == 1
    run_line(run, "format --force --reset")
    assert soft.log.count("enable") == 2


def test_reset(recorder: Recorder, run: Run, soft: SoftController) -> None:
    assert run_line(run, "reset") == ("", 0)
    assert soft.log.count("enable") == 2


@pytest.mark.parametrize("supported", [False, True])
def test_subsystem_reset(
    recorder: Recorder, run: Run, soft: SoftController, supported: bool
) -> None:
    written: list[tuple[int, int]] = []
    write = soft.write
    soft.write = lambda *of: (written.append((of[0], of[2])), write(*of))[1]  # type: ignore[method-assign]
    soft.cap = soft.cap.replace(nssrs=supported)
    assert run_line(run, "subsystem-reset")[1] == (0 if supported else 1)
    assert ((0x20, 0x4E564D65) in written) == supported
    written.clear()
    soft.log.clear()
    assert run_line(run, "subsystem-reset --force") == ("", 0)
    assert (0x20, 0x4E564D65) in written
    assert soft.log.count("enable") == 1


# --- self-test ---------------------------------------------------------------------------------


def self_test_log(running: int = 0, percent: int = 0, outcome: int = 0) -> bytes:
    page = SelfTestLog.build(
        cdsto=CDSTO.build(cdstos=running),
        cdstc=CDSTC.build(cdstcs=percent),
        results=[SelfTestResult.build(dsts=DSTS.build(dstr=outcome, dstc=1))] * 20,
    )
    return bytes(page)


def test_progress_of_a_self_test(recorder: Recorder, run: Run, soft: SoftController) -> None:
    soft.log_page = self_test_log()
    assert run_line(run, "device-self-test") == ("no self test running\n", 0)
    assert run_line(run, "device-self-test -w") == ("no self test running\n", 0)
    soft.log_page = self_test_log(1, 42)
    assert run_line(run, "device-self-test") == ("progress 42%\n", 0)


@pytest.mark.parametrize("line", ["device-self-test -s 1 -w", "device-self-test -w"])
@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (SelfTestOutcome.NO_ERROR, ""),
        (SelfTestOutcome.SEGMENT_FAILED, "segment failed"),
        (0xC, "result 0xc"),
    ],
)
def test_waiting_for_a_self_test(
    recorder: Recorder,
    run: Run,
    soft: SoftController,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    outcome: int,
    error: str,
) -> None:
    monkeypatch.setattr("pynvme_user.driver.maintenance.time.sleep", lambda _: None)
    pages = [self_test_log(1, 50), self_test_log(1, 99), self_test_log(0, 0, outcome)]
    soft.log_page = pages[0]
    seen = recorder.admin

    def admin(sqe: SQE) -> Status:
        status = seen(sqe)
        if sqe.opc == AdminOpcode.GET_LOG_PAGE:
            soft.log_page = pages.pop(0) if len(pages) > 1 else pages[0]
        return status

    soft.admin = admin
    said, ended = run_line(run, line)
    assert ended == bool(error)
    if error:
        assert said == f"the self-test of soft did not succeed: {error}"
    else:
        assert said.endswith("Waiting for self test completion...\n")


def test_ctrl_c_aborts_the_self_test(
    recorder: Recorder, run: Run, soft: SoftController, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pynvme_user.driver.maintenance.time.sleep", interrupted)
    soft.log_page = self_test_log(1, 50)
    assert run_line(run, "device-self-test -s 1 -w") == ("interrupted", 130)
    sent = [sqe for sqe in recorder.take() if sqe.opc == AdminOpcode.DEVICE_SELF_TEST]
    assert [sqe.cdw10 for sqe in sent] == [1, 15]


# --- firmware ----------------------------------------------------------------------------------


def test_fw_download(recorder: Recorder, run: Run, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(range(256)) * 40)
    line = f"fw-download --fw {image} --xfer 4k --offset 0x100 --progress"
    said, ended = run_line(run, line)
    assert ended == 0
    assert said == (
        "Firmware download: transferring 0x00001000/0x00002800 bytes: 040%\r"
        "Firmware download: transferring 0x00002000/0x00002800 bytes: 080%\r"
        "Firmware download: transferring 0x00002800/0x00002800 bytes: 100%\n"
        "Firmware download success\n"
    )
    assert [dwords(sqe)[1:3] for sqe in recorder.take()] == [
        (1023, 0x100),
        (1023, 0x500),
        (511, 0x900),
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, "cannot be read: No such file or directory"), (b"", "not 0"), (b"abc", "not 3")],
)
def test_firmware_that_is_none(
    recorder: Recorder, run: Run, tmp_path: Path, content: bytes | None, error: str
) -> None:
    image = tmp_path / "image"
    if content is not None:
        image.write_bytes(content)
    said, ended = run_line(run, f"fw-download -f {image}")
    assert ended == 1
    assert error in said
    assert recorder.take() == []


def test_overlapping_firmware(recorder: Recorder, run: Run, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(8192))
    recorder.status = code(CommandSpecificStatus.OVERLAPPING_RANGE)
    said, ended = run_line(run, f"fw-download -f {image}")
    assert ended == 1
    assert "Overlapping Range" in said
    assert len(recorder.take()) == 1
    assert run_line(run, f"fw-download -f {image} -i") == ("Firmware download success\n", 0)
    assert len(recorder.take()) == 2
    recorder.status = code(GenericStatus.INVALID_FIELD)
    assert run_line(run, f"fw-download -f {image} -i")[1] == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (CommandSpecificStatus.FIRMWARE_NEEDS_CONTROLLER_RESET, "any controller"),
        (CommandSpecificStatus.FIRMWARE_NEEDS_SUBSYSTEM_RESET, "subsystem"),
        (CommandSpecificStatus.FIRMWARE_NEEDS_CONVENTIONAL_RESET, "conventional"),
    ],
)
def test_firmware_that_needs_a_reset(
    recorder: Recorder, run: Run, status: CommandSpecificStatus, kind: str
) -> None:
    recorder.status = code(status)
    recorder.dw0 = 3
    said, ended = run_line(run, "fw-commit -a 3 -s 1 --force")
    assert ended == 0
    first, second, *overlaps = said.splitlines()
    assert first == (
        f"Success activating firmware action:3 slot:1, but firmware requires {kind} reset"
    )
    assert second == "Multiple Update Detected (MUD) Value: 3"
    assert [line.rpartition(" from a")[2] for line in overlaps] == [
        "n Admin SQ on a controller",
        " Management Endpoint",
    ]


def test_firmware_that_is_refused(recorder: Recorder, run: Run) -> None:
    recorder.status = code(CommandSpecificStatus.INVALID_FIRMWARE_SLOT)
    said, ended = run_line(run, "fw-commit --force")
    assert ended == 1
    assert "Invalid Firmware Slot" in said


# --- namespaces --------------------------------------------------------------------------------


def created(recorder: Recorder, run: Run, options: str) -> NamespaceCreate:
    recorder.length = lambda sqe: 4096
    recorder.dw0 = 7
    said = run_line(run, f"create-ns {options}")
    assert said == ("create-ns: Success, created nsid:7\n", 0)
    return NamespaceCreate.from_bytes(recorder.data.pop())


def test_what_is_created(recorder: Recorder, run: Run) -> None:
    page = created(
        recorder,
        run,
        "--nsze 2k --ncap 1k --flbas 0x31 --dps 9 --nmic 1 --anagrp-id 4 --nvmset-id 2 "
        "--endg-id 3 --lbstm 0xff --phndls 5,6",
    )
    assert (page.nsze, page.ncap, page.flbas, page.dps, page.nmic) == (2048, 1024, 0x31, 9, 1)
    assert (page.anagrpid, page.nvmsetid, page.endgid, page.lbstm) == (4, 2, 3, 0xFF)
    assert (page.nphndls, page.phndl[:3]) == (2, (5, 6, 0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-s 100 -f 2", (100, 100, 2)),
        ("-s 100 -b 4096", (100, 100, 2)),
        ("-S 1.5M -b 4096", (1_500_000 // 4096, 1_500_000 // 4096, 2)),
        ("-S 1M -C 520k -f 1", (1_000_000 // 520, 1000, 1)),  # 512 and 8 bytes of metadata
        ("-S 77 -f 0", (77, 77, 0)),
        ("-s 77 -C 51200k -f 0", (77, 100_000, 0)),
    ],
)
def test_sizes(recorder: Recorder, run: Run, options: str, expected: tuple[int, ...]) -> None:
    page = created(recorder, run, options)
    assert (page.nsze, page.ncap, page.flbas) == expected


@pytest.mark.parametrize(("options", "ids"), [("", (5,)), ("-c 1,0x10", (1, 16))])
def test_controllers(recorder: Recorder, run: Run, options: str, ids: tuple[int, ...]) -> None:
    recorder.length = lambda sqe: 4096
    assert run_line(run, f"attach-ns -n 2 {options}")[1] == 0
    assert tuple(ControllerList.from_bytes(recorder.data.pop())) == ids
