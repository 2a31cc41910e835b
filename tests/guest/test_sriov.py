"""Virtual functions with the real kernel: sriov_numvfs, their groups, the token that VFIO wants."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from guest_runs import guest_run
from guest_scripts import command, outcome
from test_userspace_page import ROOT, RUNNER, blocks_of, check_blocks
from test_vfio import ADDRESS, MIB, bash

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

PAGE = ROOT / "docs" / "how-to" / "virtual-functions.md"
SUBSYSTEM = "nvme-subsys,id=subsys0,nqn=nqn.2014-08.org.example:sriov"
#: All BARs below 4 GiB: QEMU 10.0 maps those of virtual functions nowhere else.
BELOW_4G = "q35-pcihost.pci-hole64-size=0"
PROPERTIES = {
    "subsys": "subsys0",
    "sriov_max_vfs": "2",
    "sriov_vq_flexible": "8",
    "sriov_vi_flexible": "4",
    "max_ioqpairs": "16",
    "msix_qsize": "17",
}


def run_script(share: Path, access: str, first: str) -> dict[str, dict[str, Any]]:
    """Run a command and then the script in a guest; return what that found, by its steps."""
    Guest(
        bash(first, command(share, "virtual_functions", ADDRESS, access)),
        iommu=access == "vfio",
        nvme=[NvmeDisk(size=64 * MIB, namespaces=({},), properties=PROPERTIES)],
        devices=[SUBSYSTEM],
        properties=[BELOW_4G],
        share=share,
        timeout=1800,
    ).run()
    found = outcome(share, "virtual_functions")
    assert found.status == 0, found.errors
    return {line["step"]: line for line in found.lines}


@guest_run(seconds=40)
def virtual_functions(share: Path) -> dict[str, dict[str, Any]]:
    """What the script found, by its steps; "page" is what the page's blocks came to."""
    wanted = blocks_of([PAGE.read_text()])
    (share / "blocks.json").write_text(json.dumps(wanted))
    page = f"{shlex.quote(sys.executable)} {shlex.quote(str(RUNNER))} {shlex.quote(str(share))}"
    steps = run_script(share, "vfio", page)
    results = json.loads((share / "results.json").read_text())
    return steps | {"page": {"wanted": wanted, "got": results}}


@guest_run(seconds=30)
def over_uio(share: Path) -> dict[str, dict[str, Any]]:
    """What the script found without an IOMMU, by its steps."""
    return run_script(share, "uio", "modprobe uio_pci_generic")


@pytest.fixture(autouse=True)
def _nvme_cli() -> None:
    if not shutil.which("nvme"):
        pytest.skip("nvme-cli is not installed: run ./bootstrap guest")


def test_beside_the_kernels_driver(virtual_functions: dict[str, dict[str, Any]]) -> None:
    found = virtual_functions["kernel"]
    assert "a virtual function that is offline" in found["offline"]
    assert (found["cntlid"], found["queue_pairs"], found["vectors"]) == (1, 2, 2)
    assert found["kernel_reads"]
    assert found["we_read"]


def test_over_uio(over_uio: dict[str, dict[str, Any]]) -> None:
    """Beside the kernel's driver; a virtual function has no INTx."""
    found = over_uio["kernel"]
    assert "a virtual function that is offline" in found["offline"]
    assert (found["cntlid"], found["queue_pairs"], found["vectors"]) == (1, 2, 0)
    assert found["kernel_reads"]
    assert found["we_read"]
    assert "vf_token" in over_uio["no token"]["refused"]
    assert "use polling, or vfio-pci" in over_uio["intx"]["refused"]


def test_both_functions_of_one_program(virtual_functions: dict[str, dict[str, Any]]) -> None:
    found = virtual_functions["vfio"]
    assert found["driver"] == "vfio-pci"
    assert found["online"]
    assert found["cntlid"] == found["scid"]
    assert found["primary_reads"]
    assert found["we_read"]
    assert found["whole"]


def test_the_token(virtual_functions: dict[str, dict[str, Any]]) -> None:
    """Without it, with another, and with one where none is wanted: each error has its remedy."""
    virtual = virtual_functions["told"]["virtual"]
    for refused in virtual_functions["vfio"]["refused"].values():
        assert refused.startswith("DeviceAccessError")
        assert f"vfio:{virtual} is a virtual function of {ADDRESS}" in refused
        assert f"open vfio:{ADDRESS}?vf_token=UUID, then vfio:{virtual}?vf_token=UUID" in refused
    refused = virtual_functions["no token"]["refused"]
    assert "takes no vf_token" in refused
    assert "leave it out" in refused


def test_it_is_told_whose_it_is(virtual_functions: dict[str, dict[str, Any]]) -> None:
    found = virtual_functions["told"]
    assert found["devices"][found["virtual"]] == ADDRESS
    assert found["devices"][ADDRESS] is None
    assert f"virtual function of {ADDRESS}" in found["table"]
    (text,) = found["doctor"]
    assert f"bound to vfio-pci; a virtual function of {ADDRESS}" in text
    assert "?vf_token=UUID" in text


def test_the_page_runs_as_it_stands(virtual_functions: dict[str, dict[str, Any]]) -> None:
    found = virtual_functions["page"]
    assert len(found["wanted"]) == 8
    check_blocks(found["wanted"], found["got"])
