"""What each command prints, in each of its forms, held against the pages themselves."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

from pynvme_user.cli.nvme_json import shape_of
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace
from pynvme_user.spec.registers import CAP, CC, REGISTERS, VS

DEVICE = "qemu:?size=64M&logical_block_size=4096&mdts=6&serial=ABC123&ns4.size=32M&ns4.eui64=5"


def lines(done: Any) -> dict[str, str]:
    """The lines of the form "name : value"."""
    pairs = (line.split(":", 1) for line in done.stdout.decode().splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def test_id_ctrl(run: Any) -> None:
    page = IdentifyController.from_bytes(run("id-ctrl", DEVICE, "-o", "binary").stdout)
    assert run("id-ctrl", DEVICE, "--raw-binary").stdout == bytes(page)
    assert page.sn == "ABC123"

    printed = json.loads(run("id-ctrl", DEVICE, "--output-format=json").stdout)
    # The keys of nvme-cli 2.3 that say other things than the page's fields of the same name.
    psds = printed.pop("psds")
    assert printed.pop("sn") == "ABC123".ljust(20)
    assert printed.pop("mn") == page.mn.ljust(40)
    assert printed.pop("fr") == page.fr.ljust(8)
    expected = page.to_dict()
    assert printed == {name: expected[name] for name in printed}
    left_out = {name for name, key in shape_of(IdentifyController).keys.items() if key is None}
    assert set(expected) - set(printed) == {"sn", "mn", "fr", "psds"} | left_out
    assert {"vs", "dctype"} <= left_out
    assert psds == [
        {
            "max_power": page.psds[0].mp,
            "flags": 0,
            "entry_lat": page.psds[0].enlat,
            "exit_lat": page.psds[0].exlat,
            "read_tput": 0,
            "read_lat": 0,
            "write_tput": 0,
            "write_lat": 0,
            "idle_power": 0,
            "idle_scale": 0,
            "active_power": 0,
            "active_power_work": 0,
            "active_scale": 0,
        }
    ]

    normal = lines(run("id-ctrl", DEVICE))
    assert "NVME Identify Controller" in normal
    assert normal["sn"] == "ABC123"
    assert normal["vid"] == "0x1b36"
    assert normal["mdts"] == "6"
    assert normal["oncs"] == f"{page.oncs:#x}"
    assert normal["ps      0"].startswith("mp:25.00W operational")
    explained = run("id-ctrl", DEVICE, "-H").stdout.decode()
    assert "Doorbell Buffer Config Supported" in explained
    dumped = run("id-ctrl", DEVICE, "-v").stdout.decode()
    assert dumped.splitlines()[-1].startswith("03f0: 00 00")


def test_id_ns(run: Any) -> None:
    raw = run("id-ns", DEVICE, "-n", 4, "-o", "binary").stdout
    page = IdentifyNamespace.from_bytes(raw)
    assert page.nsze == (32 << 20) // 512
    printed = json.loads(run("id-ns", DEVICE, "--namespace-id", "0x4", "-o", "json").stdout)
    expected = page.to_dict()
    assert len(printed["lbafs"]) == page.nlbaf + 1 < 64
    in_use = [each.pop("in_use") for each in printed["lbafs"]]
    assert in_use == [int(index == page.format_index) for index in range(page.nlbaf + 1)]
    assert printed.pop("lbafs") == expected.pop("lbafs")[: page.nlbaf + 1]
    later = {"vs", "kpios", "kpiodaag"}  # than what nvme-cli 2.3 knows
    assert printed == {name: value for name, value in expected.items() if name not in later}
    assert printed["eui64"] == "0000000000000005"

    one = run("id-ns", DEVICE, "-n", 1).stdout.decode()
    assert one.startswith("NVME Identify Namespace 1:\n")
    assert "lbaf  4 : ms:0   lbads:12 rp:0 (in use)" in one
    assert lines(run("id-ns", DEVICE, "-n", 1))["nsze"] == hex((64 << 20) // 4096)


def test_list_ns(run: Any) -> None:
    assert run("list-ns", DEVICE).stdout == b"[   0]:0x1\n[   1]:0x4\n"
    assert json.loads(run("list-ns", DEVICE, "-o", "json").stdout) == {
        "nsid_list": [{"nsid": 1}, {"nsid": 4}]
    }
    assert run("list-ns", DEVICE, "-n", 2, "--all").stdout == b"[   0]:0x4\n"


def test_show_regs(run: Any) -> None:
    printed = json.loads(run("show-regs", DEVICE, "-o", "json").stdout)
    assert list(printed)[:6] == ["cap", "vs", "intms", "intmc", "cc", "csts"]
    assert len(printed) == 25  # what nvme-cli 2.3 prints
    assert all(type(value) is int for value in printed.values())
    assert CAP(printed["cap"]).mqes == 2047
    assert CC(printed["cc"]).en == 1
    assert str(VS(printed["vs"])) == "1.4.0"

    image = run("show-regs", DEVICE, "-o", "binary").stdout
    assert len(image) == REGISTERS[-1].offset + 4
    assert image[:8] == printed["cap"].to_bytes(8, "little")
    assert image[0x14:0x18] == printed["cc"].to_bytes(4, "little")

    normal = run("show-regs", DEVICE).stdout.decode().splitlines()
    assert normal[0] == f"cap     : {printed['cap']:x}"
    assert len(normal) == len(REGISTERS)
    assert "Enable" in run("show-regs", DEVICE, "-H").stdout.decode()


def test_identify_is_a_page_for_people(run: Any) -> None:
    page = run("identify", DEVICE).stdout.decode()
    for part in (
        "QEMU NVMe Ctrl",
        "ABC123",
        "1.4.0",
        "256 KiB",
        "4096 B",
        "EUI64 0000000000000005",
    ):
        assert part in page
    printed = json.loads(run("identify", DEVICE, "-o", "json").stdout)
    assert printed["controller"]["mdts"] == 6
    assert [ns["nsid"] for ns in printed["namespaces"]] == [1, 4]
    assert printed["namespaces"][1]["nsze"] == (32 << 20) // 512


def test_identify_on_a_terminal(start: Any) -> None:
    ours, theirs = pty.openpty()
    process = start("identify", DEVICE, stdout=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # EIO: the other side is closed
            break
        shown += more
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[" in shown  # colours
    assert "┡" in shown.decode()  # a table


def test_binary_is_not_for_a_terminal(fail: Any) -> None:
    ours, theirs = pty.openpty()
    for arguments in (
        ("id-ctrl", "qemu:", "-b"),
        ("read", "qemu:", "-c", 0),
        ("admin-passthru", "qemu:", "-o", 6, "-l", 4096, "--cdw10", 1, "-b"),
    ):
        assert "terminal" in fail(*arguments, code=2, stdout=theirs)
    assert "no data" in fail("write", "qemu:", code=2, stdin=theirs)
    os.close(theirs)
    os.close(ours)


def test_list_agrees_with_sysfs(run: Any) -> None:
    expected = sorted(
        path.parent.name
        for path in Path("/sys/bus/pci/devices").glob("*/class")
        if path.read_text().strip() == "0x010802"
    )
    printed = json.loads(run("list", "-o", "json").stdout)
    assert [device["Address"] for device in printed["Devices"]] == expected
    normal = run("list").stdout.decode()
    for address in expected:
        assert address in normal
    assert expected or "qemu:" in normal


def test_text_output_to_a_full_disk(fail: Any) -> None:
    with open("/dev/full", "wb") as full:
        assert "No space left" in fail("id-ctrl", "qemu:", stdout=full)


def test_device_from_the_environment(
    run: Any, fail: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    assert "NVME_USER_DEVICE" in fail("id-ctrl", code=2)
    environment["NVME_USER_DEVICE"] = "qemu:?serial=FROM-ENV"
    assert lines(run("id-ctrl"))["sn"] == "FROM-ENV"
    assert lines(run("id-ctrl", "qemu:?serial=NAMED"))["sn"] == "NAMED"


def test_version(run: Any) -> None:
    assert run("--version").stdout.startswith(b"nvme-user")
