"""A tree like sysfs's, with the NVM subsystems of a kernel's nvme driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from pynvme_user.host import subsystems


def kernel_tree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make two subsystems: two controllers whose paths are joined, and one without that."""

    def write(name: str, **attributes: object) -> None:
        (folder / name).mkdir(parents=True)
        for attribute, value in attributes.items():
            (folder / name / attribute).write_text(f"{value}\n")

    write("subsystems/nvme-subsys1", subsysnqn="nqn.joined")
    for number in (10, 2):
        name = f"subsystems/nvme-subsys1/nvme{number}"
        address = f"0000:{number:02}:00.0"
        write(name, transport="pcie", address=address, state="live")
        write(f"{name}/nvme1c{number}n1", nsid=7)
        write(f"{name}/nvme1c{number}n2", nsid=8, ana_state="inaccessible")
    write("subsystems/nvme-subsys1/nvme1n1", nsid=7)
    write("subsystems/nvme-subsys1/nvme1n2", nsid=8)
    write("subsystems/nvme-subsys0", subsysnqn="nqn.alone")
    write("subsystems/nvme-subsys0/nvme0", transport="pcie", address="0000:05:00.0", state="live")
    write("subsystems/nvme-subsys0/nvme0/nvme0n1", nsid=3)
    write("block/nvme0n1", nsid=3)
    write("pci/0000:05:00.0/nvme/nvme0")
    write("pci/0000:06:00.0")
    write("class/nvme0", rescan_controller="")
    write("etc", hostnqn="nqn.host")
    for variable, name in (
        *(("_SUBSYSTEMS", "subsystems"), ("_BLOCK", "block"), ("_PCI", "pci")),
        *(("_CONTROLLERS", "class"), ("_HOST", "etc")),
    ):
        monkeypatch.setattr(subsystems, variable, folder / name)
    return folder
