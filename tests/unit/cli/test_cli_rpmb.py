"""``nvme-user rpmb``, on the target of the software controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pynvme_user.testing import SoftDevice

Run = Callable[..., tuple[str, int]]
Do = Callable[..., str]
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def soft() -> Iterator[SoftDevice]:
    device = SoftDevice("?size=1M&commands=all")
    yield device
    device.close()


@pytest.fixture
def rpmb(run: Run) -> Do:
    """Run it with these options, to be ended by that code."""

    def rpmb(line: str, code: int = 0) -> str:
        said, ended = run("rpmb", "soft", *line.split())
        assert ended == code, said
        return said

    return rpmb


@pytest.fixture
def keyed(rpmb: Do) -> Do:
    assert rpmb(f"-c program-key -k {KEY} --force") == ""
    return rpmb


def test_info(rpmb: Do) -> None:
    said = rpmb("")
    assert said == rpmb("--cmd info")
    for word in ("Number of RPMB Units", "Authentication Method", "Total Size", "Access Size"):
        assert word in said


def test_data(keyed: Do, tmp_path: Path) -> None:
    """Written as from a file, read into one."""
    data = bytes(n % 253 for n in range(6 * 512))
    source, copy, key = tmp_path / "data", tmp_path / "copy", tmp_path / "key"
    source.write_bytes(data)
    key.write_text(KEY)
    assert keyed("-c read-counter") == "Write Counter is: 0\n"
    said = keyed(f"-c write-data -g {key} -f {source} -o 3 --force")
    assert said == "Written 6 sectors out of 6 @target(0):0x3\n"
    assert keyed(f"-c read-counter -g {key}") == "Write Counter is: 2\n"
    said = keyed(f"-c read-data -k {KEY} -o 3 -b 6 -f {copy}")
    assert said == f"Writing 3072 bytes to file {copy}\n"
    assert copy.read_bytes() == data
    keyed(f"-c write-data -k {KEY} -f {source} -b 1 --force")
    assert keyed(f"-c read-data -b 2 -f {copy}") == f"Writing 1024 bytes to file {copy}\n"
    assert copy.read_bytes() == data[:512] + bytes(512)
    keyed(f"-c write-data -k {KEY} -d {'m' * 512} --force")
    keyed(f"-c read-data -b 1 -f {copy}")
    assert copy.read_bytes() == b"m" * 512


def test_configuration(keyed: Do, tmp_path: Path) -> None:
    assert keyed("-c read-config") == (
        "Boot Partition Protection is Disabled\n"
        "Boot Partition 1 is Unlocked\n"
        "Boot Partition 0 is Unlocked\n"
    )
    file = tmp_path / "block"
    file.write_bytes(b"\1\2")
    assert keyed(f"-c write-config -k {KEY} -f {file} --force") == ""
    assert keyed("-c read-config") == (
        "Boot Partition Protection is Enabled\n"
        "Boot Partition 1 is Locked\n"
        "Boot Partition 0 is Unlocked\n"
    )
    assert keyed(f"-c read-config -f {file}") == f"Writing 512 bytes to file {file}\n"
    assert file.read_bytes() == b"\1\2" + bytes(510)
    file.write_bytes(bytes(513))
    said = keyed(f"-c write-config -k {KEY} -f {file} --force", 1)
    assert said == "a Device Configuration Block has 512 bytes, not 513"


def test_what_the_target_refuses(rpmb: Do) -> None:
    other = KEY[::-1]
    assert "Authentication Key not yet programmed" in rpmb("-c read-counter", 1)
    rpmb(f"-c program-key -k {KEY} --force")
    assert "General failure" in rpmb(f"-c program-key -k {other} --force", 1)
    assert "is not signed with the key that was given" in rpmb(f"-c read-counter -k {other}", 1)
    said = rpmb("-c read-data -o 255 -b 2 -f /dev/null", 1)
    assert said == (
        "RPMB target 0 of soft:?size=1M&commands=all: the authenticated data read failed: "
        "Address failure (address out of range, wrong address alignment); "
        "the target has 256 sectors"
    )


def test_no_such_target(rpmb: Do) -> None:
    said = rpmb("-c read-counter -t 1", 1)
    assert "has no RPMB target 1" in said
    assert said.endswith("; add --force to send it all the same")
    assert "Invalid Field" in rpmb("-c read-counter -t 1 --force", 1)


def test_what_destroys_asks(keyed: Do, soft: SoftDevice) -> None:
    for line, what in (
        (f"program-key -k {KEY}", "program-key gives RPMB target 0 of soft:"),
        (f"write-data -k {KEY} -d {'x' * 512}", "write-data overwrites what RPMB target 0"),
        (f"write-config -k {KEY} -d x", "write-config changes who may write"),
    ):
        said = keyed(f"-c {line}", 2)
        assert said.startswith(what)
        assert "there is no terminal to ask on: add --force" in said
    assert soft.model is not None
    assert soft.model.ctrl.rpmb.counter == 0


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ("-c nonsense", "'nonsense' is not one of", 2),
        ("-c program-key", "program-key needs the target's key: give --keyfile", 2),
        ("-c write-data -d x", "write-data needs the target's key: give --keyfile", 2),
        ("-c write-config -d x", "write-config needs the target's key: give --keyfile", 2),
        (f"-k {KEY} -g file", "--key or --keyfile: give one of them", 2),
        ("-k short", "a key of HMAC SHA-256 has 32 bytes, not 5", 1),
        ("-g /nowhere/key", "/nowhere/key cannot be opened: No such file", 1),
        (f"-c write-data -k {KEY}", "what is write-data to write? Give --msgfile or --msg", 2),
        (f"-c write-config -k {KEY} -d x -f y", "Give --msgfile or --msg", 2),
        (f"-c write-data -k {KEY} -d x -b 0", "--blocks 0 is no data", 2),
        (f"-c write-data -k {KEY} -d x -b 1", "--blocks 1 is more than the 1 bytes", 1),
        (f"-c write-data -k {KEY} -d x --force", "1 bytes are not whole sectors of 512", 1),
        (f"-c write-data -k {KEY} -f /nowhere/x", "/nowhere/x cannot be opened", 1),
        ("-c read-data", "how much? Give --blocks", 2),
        ("-c read-data -b 0 -f x", "how much? Give --blocks", 2),
    ],
)
def test_bad_usage(rpmb: Do, line: str, error: str, code: int) -> None:
    assert error in rpmb(line, code)
