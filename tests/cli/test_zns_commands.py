"""``nvme-user zns``, on QEMU's zoned namespace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import pynvme_user as nvme
from pynvme_user.cli.errors import describe
from pynvme_user.cli.group import cli
from pynvme_user.spec.identify_zns import IdentifyControllerZns, IdentifyNamespaceZns
from pynvme_user.spec.zns import ZoneList

ZONED = "qemu:?size=16M&zoned=on&zoned.zone_size=1M&zoned.zone_capacity=768K"
AREAS = (
    f"{ZONED}&logical_block_size=512&zoned.max_active=8&zoned.max_open=8&zoned.descr_ext_size=64"
    "&zoned.numzrwa=2&zoned.zrwas=64K&zoned.zrwafg=4K&zoned.zasl=3"
)
Zns = Callable[..., str]


@pytest.fixture
def device() -> Iterator[nvme.Controller]:
    """QEMU forgets the zones' states when it ends: one that goes on from command to command."""
    with nvme.open(AREAS) as controller:
        yield controller


@pytest.fixture
def zns(device: nvme.Controller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Zns:
    """Run a command of the plugin on it, with a file of data; give what it says."""

    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[nvme.Controller]:
        yield device

    monkeypatch.setattr(nvme, "open", opened)

    def run(command: str, *arguments: object, code: int = 0, data: bytes | None = None) -> str:
        words = ["zns", command, "qemu:", *map(str, arguments)]
        if data is not None:
            (tmp_path / "file").write_bytes(data)
            words += ["--data", str(tmp_path / "file")]
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        if done.exception is None:
            assert code == 0, done.stdout
            return done.stdout
        said, got = describe(done.exception)
        assert got == code, said
        return said

    return run


def states(zns: Zns) -> dict[int, str]:
    """The states of zones that are not empty."""
    listed = json.loads(zns("report-zones", "-o", "json"))["zone_list"]
    return {one["slba"] // 2048: one["state"] for one in listed if one["state"] != "EMPTY"}


# --- as a process --------------------------------------------------------------------------------


def test_identify(run: Any) -> None:
    printed = json.loads(run("zns", "id-ns", AREAS, "-n", 1, "-o", "json").stdout)
    assert (printed["mar"], printed["mor"], printed["lbafe"][0]["zsze"]) == (7, 7, 2048)
    raw = run("zns", "id-ns", AREAS, "-o", "binary").stdout
    assert IdentifyNamespaceZns.from_bytes(raw).zrwasz == 128
    words = run("zns", "id-ns", AREAS, "-H").stdout.decode()
    assert "Zone Size: 0x800 LBAs - Zone Descriptor Extension Size: 64 bytes (in use)" in words
    assert json.loads(run("zns", "id-ctrl", AREAS, "-o", "json").stdout) == {"zasl": 3}
    raw = run("zns", "id-ctrl", AREAS, "-o", "binary").stdout
    assert IdentifyControllerZns.from_bytes(raw).zasl == 3


def test_list(run: Any) -> None:
    device = f"{ZONED}&ns2.size=1M"
    assert json.loads(run("zns", "list", device, "-o", "json").stdout) == {
        "Namespaces": [
            {
                "NameSpace": 1,
                "SectorSize": 512,
                "Zones": 16,
                "ZoneBlocks": 2048,
                "MaximumOpen": None,
                "MaximumActive": None,
                "MaximumAppend": 1024,
            }
        ]
    }
    head, row = run("zns", "list", device).stdout.decode().splitlines()
    assert head.split()[0] == "Namespace"
    assert row.split() == ["1", "512", "16", "2048", "any", "any", "1024"]
    text = run("zns", "list", "qemu:?size=1M").stdout.decode()
    assert text == "The controller has no zoned namespace.\n"


def test_a_namespace_without_zones(fail: Any) -> None:
    said = fail("zns", "report-zones", "qemu:?size=1M")
    assert said.startswith("namespace 1 of qemu:?size=1M has no zones: use one of the Zoned")


def test_report(run: Any) -> None:
    lines = run("zns", "report-zones", ZONED, "-d", 2).stdout.decode().splitlines()
    assert lines[0] == "nr_zones: 16"
    assert lines[2].split()[:7] == ["SLBA:", "0x800", "WP:", "0x800", "Cap:", "0x600", "State:"]
    assert len(lines) == 3
    lines = run("zns", "report-zones", ZONED, "-d", 2, "--partial", "-v").stdout.decode()
    assert lines.startswith("nr_zones: 2\n")
    assert "State: EMPTY" in lines
    raw = run("zns", "report-zones", ZONED, "-s", "2k", "-o", "binary").stdout
    assert [zone.zslba for zone in ZoneList.from_bytes(raw)] == list(range(2048, 32768, 2048))
    printed = json.loads(run("zns", "report-zones", ZONED, "-S", "full", "-o", "json").stdout)
    assert printed == {"nr_zones": 0, "zone_list": []}


def test_what_is_no_command(fail: Any) -> None:
    assert fail("zns", code=2) == "Missing command (see 'nvme-user zns --help')"
    assert "No such command 'nonsense'" in fail("zns", "nonsense", code=2)
    assert "no device" in fail("zns", "report-zones", code=2)


# --- one after another ---------------------------------------------------------------------------


def test_zones_in_each_state(zns: Zns) -> None:
    for command, options, said in (
        ("open-zone", ("-s", 2048), "zns-open-zone: Success zone slba:800 nsid:1\n"),
        ("open-zone", ("-s", 4096, "--zrwaa"), "zns-open-zone: Success zone slba:1000"),
        ("finish-zone", ("-s", "6k", "-n", 1), "zns-finish-zone: Success, action:2 zone:1800"),
        ("zrwa-flush-zone", ("-l", 4096 + 15), "zrwa-flush-zone: Success, lba:100f nsid:1\n"),
    ):
        assert said in zns(command, *options)
    assert zns("set-zone-desc", "-s", 8192, data=b"extension") == (
        "set-zone-desc: Success, zone:2000 nsid:1\n"
    )
    opened, areas, full, closed = "EXP_OPENED", "EXP_OPENED", "FULL", "CLOSED"
    assert states(zns) == {1: opened, 2: areas, 3: full, 4: closed}
    extended = json.loads(zns("report-zones", "-e", "-s", 8192, "-d", 2, "-o", "json"))
    found = [one["ext_data"] for one in extended["zone_list"]]
    assert found == [b"extension".ljust(64, b"\0").hex(), "Not valid"]
    assert zns("close-zone", "-s", 6144, code=1).startswith("Close of the zone at LBA 6144")
    zns("close-zone", "-s", 2048)
    assert states(zns)[1] == "CLOSED"
    assert "all:1" in zns("finish-zone", "-a")
    assert set(states(zns).values()) == {"FULL"}
    assert zns("reset-zone", "-s", 2048) == (
        "zns-reset-zone: Success, action:4 zone:800 all:0 zcapc:0 nsid:1\n"
    )
    assert 1 not in states(zns)
    assert "all:1" in zns("reset-zone", "--select-all")
    assert states(zns) == {}
    assert "Invalid Zone State Transition" in zns("offline-zone", code=1)
    assert "lies within a zone" in zns("open-zone", "-s", 1, code=1)


def test_raw_commands(zns: Zns, device: nvme.Controller) -> None:
    assert zns("zone-mgmt-send", "-s", 2048, "-z", "finish") == (
        "zone-mgmt-send: Success, action:2 zone:800 all:0 nsid:1\n"
    )
    assert "action:3" in zns("zone-mgmt-send", "-s", 4096, "-z", 3, "-o")
    assert device.namespaces[1].zones.zone(4096).za.zrwav
    assert "action:16" in zns("zone-mgmt-send", "-z", "0x10", data=b"abc")
    assert states(zns) == {0: "CLOSED", 1: "FULL", 2: "EXP_OPENED"}
    printed = json.loads(zns("zone-mgmt-recv", "-l", 192, "-o", "json"))
    assert (printed["nr_zones"], len(printed["zone_list"])) == (16, 2)
    text = zns("zone-mgmt-recv", "-l", 192, "--partial", "--zra", "extended-report")
    assert text.startswith("zone-mgmt-recv: Success, action:1 zone:0 nsid:1\nnr_zones: 1\n")
    assert f"Extension Data: {b'abc'.hex()}" in text
    assert "all:1" in zns("zone-mgmt-send", "-z", "reset", "-a")
    assert states(zns) == {}
    for options, said in (
        (("-z", "finish", "-d", "-"), "are for a descriptor extension"),
        (("-z", "3", "-l", "64"), "are for a descriptor extension"),
        (("-z", "nonsense"), "is none of 1 close, 2 finish"),
        ((), "Missing option '--zsa'"),
    ):
        assert said in zns("zone-mgmt-send", *options, code=2)
    for length in (63, 66, 0):
        assert "is a multiple of 4 from 64 on" in zns("zone-mgmt-recv", "-l", length, code=2)


def test_append(zns: Zns, device: nvme.Controller, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a" * 1024)
    assert zns("zone-append", "-s", 2048, "-d", path) == "Success appended data to LBA 800\n"
    assert zns("zone-append", "-s", 2048, "-z", 512, "-f", data=b"b" * 600).endswith("LBA 802\n")
    assert device.namespaces[1].read(2048, 3) == b"a" * 1024 + b"b" * 512
    for options, data, code, said in (
        ((), b"", 1, "file is empty"),
        (("-z", 1024), b"c" * 512, 1, "file has 512 bytes, fewer than the 1024 asked for"),
        ((), b"c" * 513, 2, "513 bytes of data are not whole blocks of 512"),
        ((), b"c" * 32769, 1, "one append carries up to 32768 bytes here"),
        (("-z", 32769), b"", 1, "one append carries up to 32768 bytes here"),
        (("-s", 2049), b"c" * 512, 1, "name the zone by the LBA that it begins with, 2048"),
    ):
        assert said in zns("zone-append", *options, code=code, data=data)
    zns("zone-append", "-s", 4096, data=b"d" * 32768)
    assert device.namespaces[1].read(4096, 64) == b"d" * 32768


def test_what_is_on_it_is_not_lost_unasked(zns: Zns, device: nvme.Controller) -> None:
    """A partition table at the first zone."""
    device.namespaces[1].zones.append(0, bytes(510) + b"\x55\xaa")
    for command, options in (
        ("reset-zone", ("-s", 2048)),
        ("reset-zone", ("-a",)),
        ("offline-zone", ("-a",)),
        ("zone-mgmt-send", ("-z", "reset", "-a")),
        ("zone-append", ("-s", 2048, "-d", "/dev/zero", "-z", 512)),
    ):
        said = zns(command, *options, code=1)
        assert "partition table" in said
        assert "add --force to" in said
    assert states(zns) == {0: "IMP_OPENED"}
    zns("finish-zone", "-s", 0)  # of which nothing is lost
    zns("reset-zone", "-a", "--force")
    assert states(zns) == {}


def test_limits_of_the_namespace(run: Any, fail: Any, tmp_path: Path) -> None:
    said = fail("zns", "set-zone-desc", ZONED, "-s", 0, input=b"x")
    assert "does not support zone descriptor extensions: ZDES is 0" in said
    said = fail("zns", "open-zone", ZONED, "--zrwaa")
    assert "does not support zone random write areas: OZCS bit 1 is 0" in said
    assert "add --force to send it all the same" in said
    assert "Invalid" in fail("zns", "open-zone", ZONED, "--zrwaa", "--force")
    said = fail("zns", "set-zone-desc", AREAS, "-s", 0, input=bytes(65))
    assert "has up to 64 bytes here, not 65" in said
    done = run("zns", "zone-append", ZONED, "--latency", input=bytes(512))
    assert re.match(rb" latency: zone append: \d+ us\nSuccess appended data to LBA ", done.stdout)
