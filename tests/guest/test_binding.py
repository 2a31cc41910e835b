"""Taking a device from its driver and giving it back: one guest, one script, many cases.

The script is scripts/bindings.py, which tells what came of each case.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from guest_runs import guest_run

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.kills]

DISK = "0000:00:04.0"
PLUGGED = "0000:01:00.0"
SCENARIO = Path(__file__).parent / "scripts/bindings.py"


@guest_run(seconds=60)
def cases(_: Path) -> dict[str, Any]:
    disks = [NvmeDisk(size=1 << 28), NvmeDisk(size=1 << 24, hotplug=True)]
    command = [sys.executable, str(SCENARIO)]
    with Guest(command, nvme=disks, hugepages=0, timeout=1800) as guest:
        guest.wait_output("unplug\n", 1600)
        guest.unplug("nvme1")
        guest.wait_output("\nplug\n", 600)
        guest.plug("nvme1")
        result = guest.wait()
    assert result.returncode == 0, result.output
    lines = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines}


def test_a_device_in_use_is_refused_and_left_alone(cases: dict[str, Any]) -> None:
    """Every user is named; the mount, the swap and the process go on as if nothing had been."""
    case = cases["used"]
    assert (case["status"], case["stdout"]) == (1, "")
    users = [
        f"process {case['holder']} (sleep) has /mnt/a disk/file open",
        "/dev/mapper/right is in use as swap",
        "/dev/mapper/left is mounted on /mnt/a disk",
        "/dev/nvme0n1 is part of /dev/mapper/right",
        "/dev/nvme0n1 is part of /dev/mapper/left",
    ]
    assert case["listed"] == users
    assert case["stderr"].startswith(f"nvme-user: {DISK} is in use: {'; '.join(users)}: run `kill ")
    assert (case["driver"], case["override"], case["recorded"]) == ("nvme", "(null)", False)
    assert (case["content"], case["written"]) == ("what was written", len("more"))
    assert "/dev/mapper/right" in case["swaps"]


def test_the_commands_end_each_use_in_order(cases: dict[str, Any]) -> None:
    assert cases["used"]["commands"] == [
        f"kill {cases['used']['holder']}",
        "swapoff /dev/mapper/right",
        "umount '/mnt/a disk'",
        "dmsetup remove right",
        "dmsetup remove left",
    ]
    case = cases["ended"]
    assert case["left"] == [4, 3, 2, 1, 0]
    assert case["exit"] == -15
    assert (case["bind"]["status"], case["driver"]) == (0, "vfio-pci")
    case = cases["restored"]
    assert case["restore"]["stdout"] == f"{DISK} is bound to nvme\n"
    assert (case["driver"], case["override"]) == ("nvme", "(null)")


def test_a_mount_in_another_namespace(cases: dict[str, Any]) -> None:
    case = cases["namespace"]
    assert "/dev/nvme0n1 is mounted on /mnt/hidden (as process" in case["error"]
    assert case["command"] == f"nsenter -t {case['pid']} -m umount /mnt/hidden"
    assert case["left"] == []


def test_a_process_and_a_loop_device(cases: dict[str, Any]) -> None:
    case = cases["process"]
    assert f"process {case['pid']} (sleep) has /dev/nvme0n1 open" in case["error"]
    assert "kill ends the process" in case["error"]
    case = cases["loop"]
    assert "/dev/nvme0n1 is part of /dev/loop0" in case["error"]
    assert (case["command"], case["left"]) == ("losetup -d /dev/loop0", [])


def test_a_use_that_shows_nowhere(cases: dict[str, Any]) -> None:
    assert "/dev/nvme0n1 is in use by the kernel" in cases["kernel"]["error"]
    assert cases["kernel"]["driver"] == "nvme"


@pytest.mark.parametrize(
    ("step", "left"), [("_unbind", "nvme"), ("_give", None), ("yield", "vfio-pci")]
)
def test_restore_after_a_kill(cases: dict[str, Any], step: str, left: str | None) -> None:
    """Killed before the old driver lost it, between the two, and with the new one."""
    case = cases[f"killed {step}"]
    assert case["status"], "it was not killed"
    assert case["left"] == left
    assert case["restore"]["status"] == 0
    assert (case["driver"], case["override"]) == ("nvme", "(null)")
    assert (case["kept"], case["records"]) == ("kept\n", [])


def test_bound_restores(cases: dict[str, Any]) -> None:
    case = cases["uio"]
    assert (case["name"], case["inside"]) == (f"uio:{DISK}", "uio_pci_generic")
    assert case["after"] == "nvme"
    case = cases["vfio"]
    assert (case["name"], case["inside"], case["again"]) == (f"vfio:{DISK}", "vfio-pci", False)
    assert (case["after"], case["override"]) == ("nvme", "(null)")


def test_no_restore_from_under_a_process(cases: dict[str, Any]) -> None:
    case = cases["vfio"]
    assert re.search(rf"process {case['pid']} \(sleep\) has /dev/vfio/\d+ open", case["error"])


def test_restore_without_a_record(cases: dict[str, Any]) -> None:
    case = cases["no record"]
    assert case["taken"] == [True, None, False]
    assert (case["restored"], case["driver"]) == ("nvme", "nvme")


def test_refusals_name_the_remedy(cases: dict[str, Any]) -> None:
    assert "is not loaded: run `modprobe -a uio_pci_generic`" in cases["uio"]["error"]
    case = cases["refused by the driver"]
    assert f"the driver virtio-pci did not take {DISK}, which nvme has again" in case["error"]
    assert (case["driver"], case["override"]) == ("nvme", "(null)")
    case = cases["other class"]
    assert "0000:00:01.0 is no NVMe controller" in case["error"]
    assert (case["restored"], case["driver"]) == ("virtio-pci", "virtio-pci")
    assert "there is no PCI device 0000:00:0f.0" in cases["gone"]["error"]
    assert re.search(rf"needs root: run `sudo \S*nvme-user bind {DISK}`", cases["no root"]["error"])
    assert cases["no root"]["driver"] == "nvme"


def test_discovery_and_events(cases: dict[str, Any]) -> None:
    listed = cases["listed"]["listed"]
    groups = {address: values.pop() for address, values in listed.items()}
    assert listed == {DISK: ["nvme", "guest-nvme0"], PLUGGED: ["vfio-pci", None]}
    assert len(set(groups.values())) == 2
    assert None not in groups.values()
    assert cases["listed"]["members"] == [[DISK], [PLUGGED]]
    case = cases["events"]
    assert case["changes"] == [
        ["unbind", None],
        ["bind", "vfio-pci"],
        ["unbind", None],
        ["remove", None],
        ["add", None],
        ["bind", "nvme"],
    ]
    assert (case["driver"], case["override"]) == ("nvme", "(null)")
    assert cases["restored after a removal"]["driver"] == "nvme"


def test_setup_is_idempotent(cases: dict[str, Any]) -> None:
    case = cases["setup"]
    assert (case["first"]["status"], case["second"]["status"], case["total"]) == (0, 0, 10)
    assert case["first"]["stdout"].splitlines() == [
        "module uio_pci_generic: loaded now",
        "hugepages: 10 of 2 MiB reserved (20 MiB), 10 more than before",
        "/dev/hugepages: mounted now",
    ]
    assert case["second"]["stdout"].splitlines() == [
        "module uio_pci_generic: loaded already",
        "hugepages: 10 of 2 MiB reserved (20 MiB), as before",
        "/dev/hugepages: mounted already",
    ]


def test_setup_gives_the_group_and_never_takes_hugepages(cases: dict[str, Any]) -> None:
    case = cases["given"]
    assert (case["status"], case["owner"], case["total"]) == (0, "nobody", 10)
    assert cases["too many"]["fewer"]
