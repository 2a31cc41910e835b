"""What the commands do, on the software controller that has them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pynvme_user.testing import SoftDevice
from pynvme_user.testing.model.operations import FIRMWARE_MAGIC

Run = Callable[..., tuple[str, int]]
KEY = "0xabba"


@pytest.fixture
def soft() -> Iterator[SoftDevice]:
    device = SoftDevice("?size=1M&commands=all")
    yield device
    device.close()


@pytest.fixture
def do(run: Run) -> Callable[[str], str]:
    """Run a command that succeeds; give what it says."""

    def do(line: str) -> str:
        name, *options = line.split()
        said, code = run(name, "soft", *options)
        assert code == 0, said
        return said

    return do


@pytest.fixture
def refused(run: Run) -> Callable[[str], str]:
    """Run a command that fails; give its error."""

    def refused(line: str) -> str:
        name, *options = line.split()
        said, code = run(name, "soft", *options)
        assert code == 1, said
        return said

    return refused


Do = Callable[[str], str]


def test_the_life_of_a_namespace(do: Do, refused: Do) -> None:
    assert "Insufficient Capacity" in refused("create-ns -s 100 -f 0")
    assert do("detach-ns -n 1") == "detach-ns: Success, nsid:1\n"
    assert "it is not attached to this controller" in refused("delete-ns -n 1")
    assert do("delete-ns -n 1 --force") == "delete-ns: Success, deleted nsid:1\n"
    assert do("create-ns -s 100 -f 0") == "create-ns: Success, created nsid:1\n"
    assert "active namespace" in refused("verify")
    assert do("attach-ns -n 1") == "attach-ns: Success, nsid:1\n"
    assert "Already Attached" in refused("attach-ns -n 1")
    assert json.loads(do("id-ns -n 1 -o json"))["nsze"] == 100
    assert do("verify -n 1 -c 99") == "NVME Verify Success\n"


def test_format_to_other_blocks(do: Do) -> None:
    assert do("format --force -b 4096") == "Success formatting namespace:1\n"
    page = json.loads(do("id-ns -n 1 -o json"))
    assert 1 << page["lbafs"][page["flbas"] & 15]["ds"] == 4096
    assert do("format --force") == "Success formatting namespace:1\n"  # the format in use
    assert json.loads(do("id-ns -n 1 -o json"))["flbas"] == page["flbas"]


def test_sanitize_and_self_test(do: Do, refused: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    assert do("device-self-test") == "no self test running\n"
    monkeypatch.setattr("pynvme_user.driver.maintenance.time.sleep", lambda _: None)
    assert do("device-self-test -s 1 -w") == (
        "Short Device self-test started\nWaiting for self test completion...\n"
    )
    assert do("sanitize -a start-block-erase --force") == ""


def test_firmware(do: Do, refused: Do, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(FIRMWARE_MAGIC + b"2.0".ljust(8192 - len(FIRMWARE_MAGIC), b"\0"))
    assert "Invalid Firmware" in refused("fw-commit -s 2 -a 1 --force")
    assert do(f"fw-download -f {image} -p").endswith("100%\nFirmware download success\n")
    assert do("fw-commit -s 2 -a 1 --force").startswith(
        "Success committing firmware action:1 slot:2\n"
    )
    assert "2.0" in do("fw-log")


def test_blocks_that_cannot_be_read(do: Do, refused: Do) -> None:
    assert do("write-uncor -s 5 -c 1 --force") == "NVME Write Uncorrectable Success\n"
    assert "Unrecovered Read Error" in refused("verify -c 9")
    status = json.loads(do("get-lba-status -a tracked -o json"))
    assert [(one["dslba"], one["nlb"]) for one in status["descs"]] == [(5, 1)]
    assert do("copy -d 5 -s 0 -b 1 --force") == "NVMe Copy: success\n"
    assert do("verify -c 9") == "NVME Verify Success\n"


def test_reservations(do: Do, refused: Do) -> None:
    do(f"resv-register -k {KEY}")
    do(f"resv-acquire -c {KEY} -t write-exclusive")
    for options in ("", "--eds"):  # the host's identifier has 128 bits here
        report = json.loads(do(f"resv-report {options} -o json"))
        assert (report["rtype"], report["regctl"]) == (1, 1)
        assert report["regctlext"][0]["rkey"] == 0xABBA
    assert "Reservation Conflict" in refused("resv-release -c 1 -t 1")
    do(f"resv-release -c {KEY} -t 1")
    do(f"resv-register -c {KEY} -r unregister")
    assert json.loads(do("resv-report -o json"))["regctl"] == 0


def test_directives(do: Do) -> None:
    do("dir-send -O 1 -T streams")
    assert "enabled    : 0x3" in do("dir-receive -O 1 -H")
    assert do("dir-receive -D 1 -O 3 -r 4 -H").endswith("Allocated (NSA): 4\n")
    do("dir-send -D 1 -O 2")
    do("dir-send -O 1 -T streams -e 0")
    assert "enabled    : 0x1" in do("dir-receive -O 1 -H")


def test_lockdown(do: Do, refused: Do) -> None:
    assert do("lockdown -o 0x80 -p 1") == "Lockdown Command is Successful\n"
    assert "Prohibited" in refused("format --force")
    do("lockdown -o 0x80 -p 0")
    do("format --force")


def test_security(do: Do) -> None:
    """The list of the security protocols that there are (SPC-4)."""
    listed = do("security-recv -x 16 -b").encode()
    assert listed[6:8] == b"\0\x03"


def test_capacity(do: Do) -> None:
    said = do("capacity-mgmt -o create-endurance-group -i 0 -l 65536")
    group = int(said.rpartition(": ")[2])
    assert do(f"capacity-mgmt -o 2 -i {group} --force") == (
        "Capacity Management Command is Success\n"
    )


def test_an_event_comes(do: Do) -> None:
    do("set-feature -f 0xb -V 2")
    do("set-feature -f 4 -V 0x100")
    said = do("events --count 1 --timeout 20")
    assert said == "smart health: temperature threshold, log page 02h\n"
