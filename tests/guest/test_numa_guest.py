"""Queues and buffers on the NUMA node that is asked for, in guests that have two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_runs import guest_run
from guest_scripts import command, outcome
from test_vfio import ADDRESS, MIB, bash

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.errors import GuestSetupError
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

PAGES = MIB // 4096
BUFFERS = 4 * PAGES  # of a job
DRIVERS = {"vfio": "vfio-pci", "uio": "uio_pci_generic"}


@guest_run(seconds=25, params=DRIVERS)
def placed(share: Path, access: str) -> dict[str, Any]:
    """What scripts/numa_nodes.py found over one access."""
    Guest(
        bash(
            "modprobe -a vfio-pci vfio_iommu_type1 uio_pci_generic",
            f"nvme-user bind {ADDRESS} --driver {DRIVERS[access]}",
            command(share, "numa_nodes", f"{access}:{ADDRESS}"),
        ),
        iommu=access == "vfio",
        cpus=2,
        numa_nodes=2,
        nvme=[NvmeDisk(size=64 * MIB)],
        share=share,
        timeout=900,
    ).run()
    return outcome(share, "numa_nodes").only


def test_memory_lies_on_the_node_asked_for(
    placed: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    facts, access = placed, request.node.callspec.params["placed"]
    # The device is on node 1, and so is what nobody asked for elsewhere.
    assert set(facts["admin queue"]) == {"1"}
    assert facts["by default"] == {"1": 8 * PAGES}
    for node in "01":
        assert facts[f"buffer on {node}"] == {node: 3 * PAGES}
        assert set(facts[f"queue on {node}"]) == {node}
        assert facts[f"reads on {node}"] == 384
    for cpu in "01":  # which is on the node of the same number
        assert [set(where) for where in facts["workers by CPU"][cpu]] == [{cpu}, {cpu}]
    assert "cannot be placed by bind:5: the nodes with memory" in facts["unknown node"]
    assert "may use are 0,1" in facts["unknown node"]
    if access == "vfio":
        assert "cannot be placed by bind:1, where" in facts["more than the node has"]
        assert facts["interleaved"] == {"0": 8 * PAGES, "1": 8 * PAGES}
        assert facts["few hugepages"] == {"0": 8 * PAGES}
    else:
        path = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
        assert path.format(1) in facts["more than the node has"]
        assert path.format(0) in facts["no hugepages"]
    # The controller's own memory is near it; the job's where its CPU is, or where it says.
    near_cpu = facts["job on the CPU of node 0"]
    told = facts["job on node 0, memory on 1"]
    anywhere = facts["job anywhere"]
    if access == "vfio":
        assert set(near_cpu) == {"prefer:0", "prefer:1"}
        assert near_cpu["prefer:0"][1] == near_cpu["prefer:1"][0] == 0
        assert set(told) == {"bind:1", "prefer:1"}
        assert set(anywhere) == {"prefer:1"}
    # Neighbouring hugepages are found in one mapping and used in another, which has no policy.
    assert sum(on_0 for on_0, _ in near_cpu.values()) >= BUFFERS
    assert sum(on_0 for on_0, _ in told.values()) == 0
    assert sum(on_0 for on_0, _ in anywhere.values()) == 0


@pytest.mark.parametrize(("cpus", "memory"), [(1, "2G"), (2, "1023M")])
def test_nodes_that_cannot_be_made(cpus: int, memory: str) -> None:
    with pytest.raises(GuestSetupError, match="NUMA nodes"):
        Guest(["true"], cpus=cpus, memory=memory, numa_nodes=2).run()
