"""list-subsys, show-topology, ns-rescan, get-ns-id: of the kernel's devices and an opened one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_tree import kernel_tree
from soft_controller import SoftController

from pynvme_user.host import subsystems
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.identify_controller import CMIC
from pynvme_user.spec.identify_lists import ControllerList

Run = Callable[..., tuple[str, int]]


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kernel_tree(tmp_path, monkeypatch)


@pytest.mark.usefixtures("sysfs")
def test_text_of_the_kernels(run: Run) -> None:
    alone = "nvme-subsys0 - NQN=nqn.alone\n\\\n +- nvme0 pcie 0000:05:00.0 live\n"
    joined = (
        "nvme-subsys1 - NQN=nqn.joined\n\\\n"
        " +- nvme2 pcie 0000:02:00.0 live\n +- nvme10 pcie 0000:10:00.0 live\n"
    )
    assert run("list-subsys") == (alone + joined, 0)
    assert run("list-subsys", "/dev/nvme0") == run("list-subsys", "0000:05:00.0") == (alone, 0)
    assert run("list-subsys", "/dev/nvme1n1") == (joined.replace("live", "live optimized"), 0)
    assert run("show-topology", "/dev/nvme0") == (
        "nvme-subsys0 - NQN=nqn.alone\n\\\n +- ns 3\n \\\n  +- nvme0 pcie 0000:05:00.0 live\n",
        0,
    )
    assert run("show-topology", "nvme2", "-r", "ctrl") == (
        "nvme-subsys1 - NQN=nqn.joined\n\\\n"
        " +- nvme2 pcie 0000:02:00.0\n \\\n"
        "  +- ns 7 live optimized\n  +- ns 8 live inaccessible\n"
        " +- nvme10 pcie 0000:10:00.0\n \\\n"
        "  +- ns 7 live optimized\n  +- ns 8 live inaccessible\n",
        0,
    )


@pytest.mark.usefixtures("sysfs")
def test_json_of_the_kernels(run: Run) -> None:
    (host,) = json.loads(run("show-topology", "-o", "json")[0])
    assert host["HostNQN"] == "nqn.host"
    alone, joined = host["Subsystems"]
    path = {"Name": "nvme0", "Transport": "pcie", "Address": "0000:05:00.0", "State": "live"}
    assert alone["Namespaces"] == [{"NSID": 3, "Controller": [path]}]
    assert [each["NSID"] for each in joined["Namespaces"]] == [7, 8]
    assert [each["ANAState"] for each in joined["Namespaces"][1]["Paths"]] == ["inaccessible"] * 2
    (host,) = json.loads(run("list-subsys", "nvme0", "-o", "json")[0])
    assert host["Subsystems"] == [{"Name": "nvme-subsys0", "NQN": "nqn.alone", "Paths": [path]}]


@pytest.mark.usefixtures("sysfs")
def test_names_that_the_kernel_does_not_have(run: Run) -> None:
    for command in ("list-subsys", "show-topology", "ns-rescan"):
        assert run(command, "/dev/nvme9n1") == (
            "the kernel's driver has no nvme9n1: `nvme-user list-subsys` shows what it has",
            1,
        )
    said, code = run("get-ns-id", "/dev/nvme0")
    assert said.startswith("nvme0 is no namespace of the kernel's driver: name one as /dev/nvme0n1")
    assert code == 1
    assert run("get-ns-id", "/dev/nvme0n1") == ("nvme0n1: namespace-id:3\n", 0)


def test_the_kernel_is_told_to_look_again(run: Run, sysfs: Path) -> None:
    for name in ("nvme2", "nvme10"):
        (sysfs / "class" / name).mkdir()
    assert run("ns-rescan", "05:00.0") == ("", 0)
    assert (sysfs / "class/nvme0/rescan_controller").read_text() == "1"
    assert not (sysfs / "class/nvme2/rescan_controller").exists()
    assert run("ns-rescan", "/dev/nvme1n1") == ("", 0)  # of each controller that has the disk
    assert (sysfs / "class/nvme2/rescan_controller").read_text() == "1"
    assert (sysfs / "class/nvme10/rescan_controller").read_text() == "1"


def test_a_machine_without_any(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subsystems, "_SUBSYSTEMS", tmp_path / "nothing")
    assert json.loads(run("list-subsys", "-o", "json")[0]) == []
    for command in ("list-subsys", "show-topology"):
        assert run(command)[0].startswith("The kernel's nvme driver has no controller;")


def test_a_device_that_is_opened(soft: SoftController, run: Run) -> None:
    controllers = ControllerList.build([4, 6], numids=2)

    def identify(sqe: SQE) -> bytes | None:
        return bytes(controllers) if sqe.cdw10 & 0xFF == Cns.CONTROLLERS else None

    soft.fields = {"subnqn": "nqn.opened", "cntlid": 6, "cmic": CMIC(2)}
    soft.identify = identify
    said, code = run("list-subsys", "soft:")
    name = said.split()[0]
    assert (said, code) == (
        f"{name} - NQN=nqn.opened\n\\\n +- {name} pcie {name} live\n"
        " +- controller 4, which is not opened\n",
        0,
    )
    (host,) = json.loads(run("list-subsys", "soft:", "-o", "json")[0])
    (found,) = host["Subsystems"]
    assert (found["CNTLID"], found["CMIC"], found["Controllers"]) == (6, 2, [4, 6])
    (host,) = json.loads(run("show-topology", "soft:", "-o", "json")[0])
    assert [each["NSID"] for each in host["Subsystems"][0]["Namespaces"]] == [1]
    assert run("get-ns-id", "soft:") == ("soft:: namespace-id:1\n", 0)
    assert run("ns-rescan", "soft:") == ("[   0]:0x1\n", 0)
    assert json.loads(run("ns-rescan", "soft:", "-o", "json")[0]) == {"nsid_list": [{"nsid": 1}]}


def test_a_controller_without_a_name(soft: SoftController, run: Run) -> None:
    """Before NVMe 1.2.1 there was none: it is made as the specification says."""
    soft.fields = {"subnqn": "", "vid": 0x1B36, "ssvid": 0x1AF4, "sn": "S", "mn": "M"}
    said, _ = run("list-subsys", "soft:")
    assert f"NQN=nqn.2014.08.org.nvmexpress:1b361af4S{' ' * 19}M\n" in said
