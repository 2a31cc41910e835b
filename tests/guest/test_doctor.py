"""``nvme-user doctor`` in broken guests: the right blocker each time, and a command that mends it.

Two guests, with the IOMMU on and off, are broken in one way after the other by scripts/broken.py;
a third one is booted with the kernel parameter that the doctor prescribed to the second.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from guest_runs import guest_run

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

DISK = "0000:00:04.0"
SHARED = "0000:00:05.0"
SCRIPT = Path(__file__).parent / "scripts/broken.py"
# The last one of the same parameter counts: for the kernel the IOMMU is off.
IOMMU_OFF = "intel_iommu=off"

Cases = dict[str, dict[str, Any]]


def cases_of(scenario: str, **guest: Any) -> Cases:
    result = Guest([sys.executable, str(SCRIPT), scenario], timeout=1800, **guest).run()
    assert result.returncode == 0, result.output
    lines = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines}


@guest_run(seconds=60)
def with_iommu(_: Path) -> Cases:
    disks = [
        NvmeDisk(size=1 << 26),
        NvmeDisk(size=1 << 24, properties={"multifunction": "on"}),
    ]
    devices = ["nvme,addr=0x5.1,serial=second", "virtio-rng-pci,addr=0x5.2"]
    return cases_of("with_iommu", nvme=disks, devices=devices)


@guest_run(seconds=50)
def without_iommu(_: Path) -> Cases:
    return cases_of("without_iommu", kernel_args=[IOMMU_OFF], hugepages=0)


def assert_mended(case: dict[str, Any], command: str, blockers: list[str], left: list[str]) -> str:
    """Hold a case against its command, and what blocked before and after; return the text."""
    assert case["check"]["command"] == command
    assert case["before"]["blockers"] == blockers
    assert case["after"]["blockers"] == left
    for verdict in (case["before"], case["after"]):
        assert verdict["usable"] is not bool(verdict["blockers"])
    text: str = case["check"]["text"]
    return text


def test_a_module_that_is_missing(with_iommu: Cases) -> None:
    text = assert_mended(
        with_iommu["modules"],
        "modprobe -a vfio-pci vfio_iommu_type1",
        ["modules", "driver"],
        ["driver"],
    )
    assert text == "vfio-pci and vfio_iommu_type1 are not loaded"


def test_a_mounted_device(with_iommu: Cases) -> None:
    text = assert_mended(with_iommu["mounted"], "umount /mnt/disk", ["users", "driver"], ["driver"])
    assert text == "/dev/nvme0n1 is mounted on /mnt/disk"
    assert not with_iommu["umounted"]["mounted"]


def test_a_device_bound_to_nvme(with_iommu: Cases) -> None:
    text = assert_mended(with_iommu["driver"], f"nvme-user bind {DISK}", ["driver"], [])
    assert text == "bound to nvme, not vfio-pci"


def test_a_device_held_by_another_process(with_iommu: Cases) -> None:
    pid = with_iommu["text"]["pid"]
    text = assert_mended(with_iommu["held"], f"kill {pid}", ["users"], [])
    assert text.startswith(f"process {pid} (python")
    assert text.endswith("open (the command ends it)")
    assert with_iommu["ended"]["status"] == -15


def test_what_people_read(with_iommu: Cases) -> None:
    lines = with_iommu["text"]["text"].splitlines()
    pid = with_iommu["text"]["pid"]
    assert lines[0] == f"vfio:{DISK}"
    assert "  ✓ IOMMU          on; the device is in group" in lines[1]
    [failed] = [index for index, line in enumerate(lines) if "✗" in line]
    assert "Other users" in lines[failed]
    assert lines[failed + 1].strip() == f"kill {pid}"
    assert "1 thing is in the way: run what is printed below each, from the top down." in lines
    assert lines[-1] == "status 1"


def test_what_programs_read(with_iommu: Cases) -> None:
    assert with_iommu["json"]["said"] == with_iommu["json"]["found"]
    assert with_iommu["json"]["said"]["blockers"] == ["users"]


def test_no_hugepages_behind_an_iommu_cost_only_speed(with_iommu: Cases) -> None:
    case = with_iommu["hugepages"]
    assert_mended(case, "nvme-user setup --hugepages 64", [], [])
    assert [check["name"] for check in case["before"]["failed"]] == ["hugepages"]
    assert case["after"]["failed"] == []


def test_no_hugepages_without_an_iommu(without_iommu: Cases) -> None:
    text = assert_mended(
        without_iommu["uio: hugepages"],
        "nvme-user setup --hugepages 64 --driver uio_pci_generic",
        ["hugepages"],
        [],
    )
    assert text == "0 B free; 8 MiB are needed"


def test_an_ordinary_user(with_iommu: Cases) -> None:
    """Binding, the node's owner and locked memory: each command as the user's own shell runs it."""
    case = with_iommu["user"]
    assert case["first"]["blockers"] == ["driver", "memlock"]
    command = case["first"]["failed"][0]["command"]
    assert command.startswith("sudo ")
    assert command.endswith(f"nvme-user bind {DISK} --user nobody")

    assert case["unowned"]["blockers"] == ["node", "memlock"]
    node = case["unowned"]["failed"][0]
    group = node["command"].removeprefix("sudo chown nobody /dev/vfio/")
    assert group.isdecimal()
    assert node["text"] == f"nobody may not open /dev/vfio/{group}"

    assert case["unlocked"]["blockers"] == ["memlock"]
    [memlock] = case["unlocked"]["failed"]
    assert memlock["text"].startswith("RLIMIT_MEMLOCK is 65536 bytes, and 4194304 bytes are needed")
    assert memlock["command"] == "sudo prlimit --pid $$ --memlock=unlimited"

    assert case["mended"]["usable"]
    assert case["serial"].strip() == "guest-nvme0"


@pytest.mark.skipif(not shutil.which("fuser"), reason="needs fuser: apt-get install psmisc")
def test_a_device_held_by_a_process_that_does_not_show(with_iommu: Cases) -> None:
    case = with_iommu["held by root"]
    assert case["before"]["blockers"] == ["users"]
    [check] = case["before"]["failed"]
    assert check["text"].startswith(f"{case['node']} is open in another user's process")
    assert check["command"] == f"sudo fuser -k {case['node']}"
    assert case["status"] == -9
    assert case["after"]["usable"]


def test_no_iommu(without_iommu: Cases) -> None:
    """The command edits GRUB's settings and reboots; a third guest is what comes of that."""
    case = without_iommu["iommu"]
    assert case["before"]["blockers"] == ["iommu", "modules", "driver"]
    assert case["output"] == "updated\nrebooted\n"
    line = without_iommu["kernel line"]["line"].split()
    assert line == ["intel_iommu=on"]
    case = cases_of("rebooted", kernel_args=[IOMMU_OFF, *line])["rebooted"]
    assert case["blockers"] == ["modules", "driver"]


def test_uio(without_iommu: Cases) -> None:
    text = assert_mended(
        without_iommu["uio: modules"],
        "modprobe -a uio_pci_generic",
        ["modules", "driver", "hugepages"],
        ["driver", "hugepages"],
    )
    assert text == "uio_pci_generic is not loaded"
    assert_mended(
        without_iommu["uio: driver"],
        f"nvme-user bind {DISK} --driver uio_pci_generic",
        ["driver", "hugepages"],
        ["hugepages"],
    )
    pid = without_iommu["uio: pid"]["pid"]
    text = assert_mended(without_iommu["uio: held"], f"kill {pid}", ["users"], [])
    assert text.startswith(f"process {pid} (python")


def test_uio_behind_an_iommu_that_translates(with_iommu: Cases) -> None:
    case = with_iommu["translated"]
    assert case["before"]["blockers"] == ["iommu"]
    assert case["check"]["command"] == f"nvme-user bind {DISK}"
    assert with_iommu["no longer uio"]["usable"]


def test_a_group_that_is_not_viable(with_iommu: Cases) -> None:
    """Each member that a kernel driver has is named, with what takes it from there."""
    assert_mended(
        with_iommu["group: driver"],
        f"nvme-user bind {SHARED}",
        ["driver", "group", "group"],
        ["group", "group"],
    )
    text = assert_mended(
        with_iommu["group: NVMe"], "nvme-user bind 0000:00:05.1", ["group"] * 2, ["group"]
    )
    assert text.startswith("not viable: the driver nvme has 0000:00:05.1, also of group ")
    assert_mended(
        with_iommu["group: other"],
        "echo 0000:00:05.2 > /sys/bus/pci/devices/0000:00:05.2/driver/unbind",
        ["group"],
        [],
    )
