"""NVM subsystems in a tree like sysfs's: with and without multipath."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_tree import kernel_tree

from pynvme_user.host import subsystems
from pynvme_user.host.subsystems import SubsystemPath, kernel_name, namespace_id, rescan


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kernel_tree(tmp_path, monkeypatch)


@pytest.mark.usefixtures("sysfs")
def test_what_there_is() -> None:
    alone, joined = subsystems.subsystems()
    assert (alone.name, alone.nqn, alone.namespaces) == ("nvme-subsys0", "nqn.alone", ())
    assert [(each.name, each.address, each.nsids) for each in alone.controllers] == [
        ("nvme0", "0000:05:00.0", (3,))
    ]
    assert [each.name for each in joined.controllers] == ["nvme2", "nvme10"]
    assert [(each.name, each.nsid) for each in joined.namespaces] == [
        ("nvme1n1", 7),
        ("nvme1n2", 8),
    ]
    assert joined.namespaces[0].paths == tuple(
        SubsystemPath(name, "optimized") for name in ("nvme2", "nvme10")
    )
    assert {path.ana_state for path in joined.namespaces[1].paths} == {"inaccessible"}


@pytest.mark.usefixtures("sysfs")
def test_whose_a_name_is() -> None:
    alone, joined = subsystems.subsystems()
    assert [alone.has(name) for name in ("nvme0", "nvme0n1", "nvme2", "nvme1n1")] == [
        *(True, True, False, False)
    ]
    assert [joined.has(name) for name in ("nvme2", "nvme1n1", "nvme1n3", "nvme0n1")] == [
        *(True, True, False, False)
    ]


@pytest.mark.usefixtures("sysfs")
def test_names_of_what_the_kernel_has() -> None:
    assert kernel_name("/dev/nvme0n1") == "nvme0n1"
    assert kernel_name("nvme0") == "nvme0"
    assert kernel_name("/dev/ng1n2") == "nvme1n2"
    assert kernel_name("05:00.0") == "nvme0"
    assert [kernel_name(name) for name in ("0000:06:00.0", "qemu:", "vfio:05:00.0")] == [None] * 3
    assert namespace_id("nvme0n1") == 3
    assert namespace_id("nvme0") is None


def test_rescan(sysfs: Path) -> None:
    rescan("nvme0")
    assert (sysfs / "class/nvme0/rescan_controller").read_text() == "1"
    with pytest.raises(FileNotFoundError):
        rescan("nvme9")


def test_the_host(sysfs: Path) -> None:
    assert subsystems.host_identity() == {"HostNQN": "nqn.host"}
    (sysfs / "etc/hostid").write_text("an id\n")
    assert subsystems.host_identity() == {"HostNQN": "nqn.host", "HostID": "an id"}


def test_a_machine_without_any(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subsystems, "_SUBSYSTEMS", sysfs / "nothing")
    assert subsystems.subsystems() == []
