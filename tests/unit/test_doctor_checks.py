"""The doctor on machines that no guest can be: their files are laid out in a folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from pynvme_user import doctor
from pynvme_user.cli import doctor as command
from pynvme_user.cli.group import cli
from pynvme_user.dma import DmaPool
from pynvme_user.errors import DeviceAccessError, DeviceNameError
from pynvme_user.host import holders, pci, remedies, setup, sysfs
from pynvme_user.host.pci import parse_name
from pynvme_user.host.sysfs import PciFunction

DISK = "0000:01:00.0"

Files = dict[str, str]
Machine = Callable[[Files], PciFunction]


@pytest.fixture
def lay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make a machine out of files, and give its controller."""

    def build(files: Files) -> PciFunction:
        # As a root would be who has found all the machine's files below another folder.
        monkeypatch.setattr(sysfs, "_DEVICES", tmp_path / "devices")
        monkeypatch.setattr(doctor, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(doctor, "_TABLES", tmp_path / "tables")
        monkeypatch.setattr(doctor, "_COMMAND_LINE", tmp_path / "cmdline")
        monkeypatch.setattr(doctor, "_LOCKDOWN", tmp_path / "lockdown")
        monkeypatch.setattr(doctor, "_GRUB_SETTINGS", tmp_path / "grub")
        monkeypatch.setattr(holders, "_BLOCK", tmp_path / "block")
        monkeypatch.setattr(setup, "_MODULES", tmp_path / "modules")
        monkeypatch.setattr(setup, "_POOL", tmp_path / "pool")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(shutil, "which", lambda name, **_: None)
        (tmp_path / "devices" / DISK).mkdir(parents=True)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return PciFunction(DISK)

    return build


@pytest.mark.parametrize(
    ("files", "text", "mends"),
    [
        ({"cmdline": ""}, "the firmware shows no IOMMU", "systemctl reboot --firmware-setup"),
        (
            {"tables/IVRS": "", "cmdline": "quiet amd_iommu=off"},
            "off by the kernel parameter amd_iommu=off",
            r"s/\bamd_iommu=off\b//g",
        ),
        (
            {"tables/DMAR": "", "cmdline": "iommu=off intel_iommu=on"},
            "off by the kernel parameter iommu=off",
            r"s/\biommu=off\b//g",
        ),
        ({"tables/DMAR": "", "cmdline": "quiet"}, "turns it on", "intel_iommu=on"),
        (
            {"tables/DMAR": "", "cmdline": "intel_iommu=on"},
            "though the firmware shows one",
            "dmesg | grep",
        ),
    ],
)
def test_why_there_is_no_iommu(lay_out: Machine, files: Files, text: str, mends: str) -> None:
    function = lay_out(files)
    check = doctor._iommu(function, "vfio")
    assert not check.passed
    assert check.blocks
    assert text in check.text
    assert mends in check.command
    assert doctor._iommu(function, "uio").passed


@pytest.mark.parametrize("parameter", ["amd_iommu=off", "iommu=off"])
def test_a_parameter_is_taken_away_alone(lay_out: Machine, tmp_path: Path, parameter: str) -> None:
    """The command, without its reboot, on GRUB's settings."""
    others = ["quiet", *({"amd_iommu=off", "iommu=off"} - {parameter}), "intel_iommu=off"]
    settings = f'GRUB_CMDLINE_LINUX="{" ".join([*others, parameter])}"'
    function = lay_out({"tables/IVRS": "", "cmdline": parameter, "grub": settings})
    edit, _, rest = doctor._iommu(function, "vfio").command.partition(" && ")
    assert rest == "update-grub && reboot"
    subprocess.run(edit, shell=True, check=True)
    left = (tmp_path / "grub").read_text().partition('"')[2].rstrip('"').split()
    assert left == others


def test_a_parameter_where_there_is_grubby(
    lay_out: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = lay_out({"tables/DMAR": "", "cmdline": ""})
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/sbin/{name}")
    command = doctor._iommu(function, "vfio").command
    assert command == "grubby --update-kernel=ALL --args=intel_iommu=on && reboot"


@pytest.mark.parametrize(
    ("text", "vfio", "uio"),
    [
        ("[none] integrity confidentiality\n", True, True),
        ("none [integrity] confidentiality\n", True, False),
        ("none integrity [confidentiality]\n", True, False),
        (None, True, True),
    ],
)
def test_kernel_lockdown(lay_out: Machine, text: str | None, vfio: bool, uio: bool) -> None:
    """A guest in lockdown cannot end in order."""
    function = lay_out({"lockdown": text} if text else {})
    assert doctor._lockdown(function, "vfio").passed is vfio
    check = doctor._lockdown(function, "uio")
    assert check.passed is uio
    assert check.command.endswith("" if uio else f"bind {DISK}")


def test_a_module_that_the_kernel_has_not(lay_out: Machine) -> None:
    release = os.uname().release
    dep = "kernel/drivers/uio/uio_pci_generic.ko.xz: kernel/drivers/uio/uio.ko.xz\n"
    function = lay_out({f"modules/{release}/modules.dep": dep})
    assert setup.module_available("uio_pci_generic")
    assert setup.module_available("uio-pci-generic")
    assert not setup.module_available("uio")
    check = doctor._modules_of(function, "vfio")
    assert not check.passed
    assert f"the running kernel {release} has no vfio-pci" in check.text


def test_what_is_no_nvme_controller_stays_bound(lay_out: Machine) -> None:
    """It may be the machine's own disk."""
    function = lay_out({f"devices/{DISK}/class": "0x010000\n"})
    driver = function.path.parent / "virtio-pci"
    driver.mkdir()
    (function.path / "driver").symlink_to(driver)
    check = doctor._driver(function, "vfio")
    assert not check.passed
    assert "bound to virtio-pci, and no NVMe controller" in check.text
    assert check.command.endswith("nvme-user list")


def test_a_program_that_is_not_there(lay_out: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out({})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceAccessError, match=r"no modprobe .*`apt-get install kmod`"):
        setup.load_modules(["vfio-pci"])


def test_the_block_devices_of_one_path_of_several(lay_out: Machine) -> None:
    """What belongs to a namespace with several controllers is found from each of them."""
    function = lay_out(
        {
            f"devices/{DISK}/nvme/nvme3/nvme1c3n2/dev": "259:7",
            f"devices/{DISK}/nvme/nvme3/nvme3n1/dev": "259:3",
            f"devices/{DISK}/nvme/nvme3/ng3n1/dev": "237:3",
            "block/nvme1n2/dev": "259:1",
            "block/nvme1n2/nvme1n2p1/dev": "259:2",
            "block/nvme3n1/dev": "259:3",
        }
    )
    (holders._BLOCK / "nvme1n2p1").symlink_to("nvme1n2/nvme1n2p1")
    assert holders.block_nodes(function) == {
        os.makedev(259, 1): "nvme1n2",
        os.makedev(259, 2): "nvme1n2p1",
        os.makedev(259, 3): "nvme3n1",
    }


def test_a_kernel_without_hugepages(lay_out: Machine) -> None:
    lay_out({})
    with pytest.raises(DeviceAccessError, match="no hugepages of 2 MiB"):
        setup.reserve_hugepages(5)


def test_locked_memory_is_what_opening_a_controller_takes() -> None:
    assert doctor.MEMLOCK_NEEDED >= 2 * sys.modules[DmaPool.__module__]._GROW


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("0000:01:00.0", (None, "0000:01:00.0")),
        ("01:00.0", (None, "0000:01:00.0")),
        ("vfio:10000:AB:1F.7?interrupts=msix", ("vfio", "10000:ab:1f.7")),
        ("UIO:01:00.0", ("uio", "0000:01:00.0")),
    ],
)
def test_device_names(name: str, parsed: tuple[str | None, str]) -> None:
    assert parse_name(name) == parsed


@pytest.mark.parametrize("name", ["qemu:", "0000:01:00", "vfio:", "vfio:uio:01:00.0"])
def test_other_names(name: str) -> None:
    with pytest.raises(DeviceNameError, match="is not a PCI device"):
        doctor.examine(name)


def test_commands_for_root_and_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert remedies.as_root("modprobe vfio-pci") == "modprobe vfio-pci"
    assert remedies.write("1", "/proc/x") == "echo 1 > /proc/x"
    assert remedies.append("1", "/etc/x") == "echo 1 >> /etc/x"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert remedies.as_root("modprobe vfio-pci") == "sudo modprobe vfio-pci"
    assert remedies.write("1", "/proc/x") == "echo 1 | sudo tee /proc/x"
    assert remedies.append("1", "/etc/x") == "echo 1 | sudo tee -a /etc/x"


@pytest.mark.parametrize("folder", ["found", "other"])
def test_nvme_user_is_found_by_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Its path is printed where sudo would find none, or another one."""
    ours = tmp_path / "found/nvme-user"
    for program in (ours, tmp_path / "other/nvme-user"):
        program.parent.mkdir()
        program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(ours.with_name("python")))
    monkeypatch.setattr(remedies, "_SUDO_PATH", str(tmp_path / folder))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = shlex.split(remedies.nvme_user("bind", DISK))
    assert words == ["sudo", "nvme-user" if folder == "found" else str(ours), "bind", DISK]


# --- a machine without a controller ---------------------------------------------------------------


@pytest.fixture
def no_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (doctor, pci):
        monkeypatch.setattr(module, "devices", list)


def machine_checks() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine_machine()}


def test_what_a_machine_can_do(
    lay_out: Machine, no_controller: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NVME_USER_QEMU", raising=False)
    lay_out({"groups/0/type": "DMA", "groups/1/type": "DMA", "modules/x": ""})
    checks = machine_checks()
    assert list(checks) == ["controller", "iommu", "modules", "memlock", "hugepages", "qemu"]
    assert checks["controller"].text == "on PCI: no NVMe controller"
    assert not checks["controller"].passed
    assert checks["iommu"].text == "on; it has 2 groups of devices"
    assert "qemu-system-x86_64 is not installed" in checks["qemu"].text
    assert checks["qemu"].command == "apt-get install qemu-system-x86"


def test_a_machine_without_an_iommu(lay_out: Machine, no_controller: None) -> None:
    lay_out({"cmdline": "", "modules/x": ""})
    check = machine_checks()["iommu"]
    assert not check.passed
    assert check.text.endswith("or go without protection through UIO")
    assert check.command == "systemctl reboot --firmware-setup"


@pytest.mark.parametrize(
    ("script", "passed", "text"),
    [
        ("echo 'QEMU emulator version 9.9.1 (Debian)'", True, "9.9.1, by NVME_USER_QEMU: qemu:"),
        ("exit 1", False, "does not start"),
    ],
)
def test_qemu_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, passed: bool, text: str
) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("NVME_USER_QEMU", str(program))
    check = machine_checks()["qemu"]
    assert check.passed is passed
    assert text in check.text


def test_which_qemu_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NVME_USER_QEMU", raising=False)
    programs = []
    for version in ("10.0.2", "7.2.22"):
        program = tmp_path / version / "qemu-system-x86_64"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
        program.chmod(0o755)
        programs.append(program)
    monkeypatch.setenv("PATH", f"{programs[0].parent}:{programs[1].parent}")
    assert machine_checks()["qemu"].text == (
        f"{programs[0]} 10.0.2, the newest of 2: qemu: devices need nothing else"
    )
    monkeypatch.setenv("NVME_USER_QEMU", str(programs[1]))
    assert machine_checks()["qemu"].text == (
        f"{programs[1]} 7.2.22, by NVME_USER_QEMU: qemu: devices need nothing else"
    )
    monkeypatch.setenv("NVME_USER_QEMU", "nonsense")
    check = machine_checks()["qemu"]
    assert not check.passed
    assert "is 'nonsense', which is no program" in check.text
    assert check.command == "unset NVME_USER_QEMU"


def test_the_command_without_a_controller(no_controller: None) -> None:
    done = CliRunner().invoke(cli, ["doctor"])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "This machine, as no controller is there"
    assert [line[4:18].strip() for line in lines if line[2:3] in "✓✗!" and line[2:3]] == [
        *("Controller", "IOMMU", "Modules", "Locked memory", "Hugepages", "QEMU")
    ]
    for options in (["--json"], ["-o", "json"]):
        done = CliRunner().invoke(cli, ["doctor", *options])
        assert done.exit_code == 1
        said = json.loads(done.stdout)
        assert said["usable"] is False
        assert said["devices"] == []
        assert said["machine"]["checks"] == [asdict(c) for c in doctor.examine_machine()]


def test_a_machine_without_libudev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)
    with pytest.raises(DeviceAccessError, match="apt-get install libudev1"):
        pci.devices()


def test_every_condition_has_a_title() -> None:
    assert tuple(command._TITLES) == doctor.NAMES
