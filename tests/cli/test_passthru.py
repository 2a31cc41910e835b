"""Raw commands through the installed command."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from pynvme_user.spec.identify import IdentifyController

IDENTIFY = ("--opcode", "0x06", "--data-len", 4096, "--cdw10", 1)


def test_identify(run: Any, tmp_path: Path) -> None:
    done = run("admin-passthru", "qemu:?serial=RAW", *IDENTIFY, "--read", "--raw-binary")
    assert IdentifyController.from_bytes(done.stdout).sn == "RAW"
    assert done.stderr == b"Admin Command Identify is Success and result: 0x00000000\n"
    run("admin-passthru", "qemu:?serial=RAW", *IDENTIFY, "--input-file", "page.bin")
    assert (tmp_path / "page.bin").read_bytes() == done.stdout
    dump = run("admin-passthru", "qemu:?serial=RAW", *IDENTIFY).stdout.decode().splitlines()
    assert len(dump) == 257
    assert dump[0] == "       0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f"
    assert dump[1].startswith("0000: 36 1b f4 1a 52 41 57 20 ")
    assert dump[1].endswith('"6...RAW........."')


def test_as_much_data_as_one_command_carries(run: Any, fail: Any) -> None:
    """A log page (firmware slots) and what is beyond it, which QEMU leaves as it is."""
    log = ("admin-passthru", "qemu:", "-o", 2, "-n", "0xffffffff", "--read", "-b")
    small = run(*log, "--data-len", 512, "-4", 127 << 16 | 3).stdout
    length = 512 << 10
    large = run(*log, "-l", length, "-4", 0xFFFF << 16 | 3, "-5", 1, "-p", 0x41).stdout
    assert large == small + b"A" * (length - 512)
    said = fail(*log, "-l", length + 4, "-4", 3, "-5", 2)
    assert f"carries up to {length} bytes here" in said


def test_result_of_get_features(run: Any) -> None:
    # Number of Queues, of which QEMU has 64 of each by default.
    done = run("admin-passthru", "qemu:", "-o", "0x0a", "-4", 7, "--latency")
    assert done.stderr == b"Admin Command Get Features is Success and result: 0x003f003f\n"
    assert re.fullmatch(rb"Admin Command Get Features latency: \d+ us\n", done.stdout)


def test_write_and_read(run: Any, fail: Any, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(4096)
    command = ("-n", 1, "--data-len", 4096, "--cdw10", 16, "--cdw12", 7)
    device = "qemu:disk.img?size=1M"
    run("io-passthru", device, "-o", 1, *command, "--write", input=content)
    assert run("io-passthru", device, "-o", 2, *command, "-b").stdout == content
    assert run("read", device, "-s", 16, "-c", 7).stdout == content
    assert "--prefill" in fail("io-passthru", device, "-o", 1, *command, input=content[:100])
    run("io-passthru", device, "-o", 1, *command, "--prefill", 0x41, input=content[:100])
    assert run("read", device, "-s", 16, "-c", 7).stdout == content[:100] + b"A" * 3996
    run("io-passthru", device, "-o", 0, "-n", 1)


def test_an_error_status(fail: Any) -> None:
    said = fail("io-passthru", "qemu:?size=1M", "-o", 2, "-n", 1, "-l", 512, "-4", 4096, "-b")
    assert "LBA Out of Range" in said
    said = fail("admin-passthru", "qemu:", "-o", "0xc1", "--timeout", 5000)
    assert "Invalid Command Opcode" in said
    assert "up to 524288 bytes" in fail(
        "io-passthru", "qemu:", "-o", 2, "-n", 1, "-l", "0x100000", "-b"
    )


def test_flags_reach_the_device(fail: Any) -> None:
    # PSDT = 3 is reserved, and fused commands are not known to QEMU.
    assert "Invalid Field" in fail("admin-passthru", "qemu:", *IDENTIFY, "--flags", "0x80", "-b")


def test_dry_run_opens_nothing(run: Any, tmp_path: Path) -> None:
    shown = run(
        "admin-passthru", "qemu:missing.img", *IDENTIFY, "-n", 7, "--dry-run"
    ).stdout.decode()
    assert "opcode       : 06\n" in shown
    assert "nsid         : 00000007\n" in shown
    assert "cdw10        : 00000001\n" in shown
    sent = run("admin-passthru", "qemu:", *IDENTIFY, "--show-command", "-i", "page.bin").stdout
    assert b"data_len     : 00001000" in sent
    assert (tmp_path / "page.bin").stat().st_size == 4096
