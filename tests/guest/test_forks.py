"""Forked children of a process that has a device, over VFIO and UIO with the real kernel.

scripts/forks.py runs in the guest: tests/support/forking.py, which says what is looked at.
PYNVME_USER_FORKS is how many rounds there are of each kind: a round takes 10 s in a guest.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from guest_runs import guest_run
from guest_scripts import Outcome, command, outcome
from test_vfio import ADDRESS, MIB, bash

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

ROUNDS = int(os.environ.get("PYNVME_USER_FORKS") or 2)
STARTS = ("os.fork", "fork")
CHILD_S = "0000:00:05.0"
DRIVERS = {"vfio": "vfio-pci", "uio": "uio_pci_generic"}


@guest_run(seconds=120, params=DRIVERS)
def forks(share: Path, access: str) -> Outcome:
    """What came of the ROUNDS of each kind over one access."""
    devices = [f"{access}:{address}" for address in (ADDRESS, CHILD_S)]
    Guest(
        bash(
            "modprobe -a vfio-pci vfio_iommu_type1 uio_pci_generic",
            f"nvme-user bind {ADDRESS} --driver {DRIVERS[access]}",
            f"nvme-user bind {CHILD_S} --driver {DRIVERS[access]}",
            command(share, "forks", str(ROUNDS), *devices, *STARTS),
        ),
        iommu=access == "vfio",
        nvme=[NvmeDisk(size=16 * MIB), NvmeDisk(size=16 * MIB)],
        share=share,
        timeout=1800,
    ).run()
    return outcome(share, "forks")


def test_forked_children(forks: Outcome) -> None:
    assert (forks.status, forks.errors) == (0, "")
    *started, killed = forks.lines
    assert len(started) == len(STARTS)
    for found in started:
        assert found["faults"] == []
        assert found["rounds"] == ROUNDS
        assert found["turns"] > 0
        assert found["alive"]
    assert killed["kept"]
