"""UIO with the real kernel: a device that is gone without a word, the claim, kills.

Nothing tells a process that its device is being removed, and nothing waits for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_runs import guest_run
from guest_scripts import command, outcome
from test_vfio import (
    MIB,
    PLUGGED,
    bash,
    check_claims,
    check_kills,
    check_removals,
    remove_and_return,
)

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

REMOVALS = 3
KILLS = 4


@guest_run(seconds=60)
def surprises(share: Path) -> tuple[Path, float]:
    """The folder with the scripts' outcomes, and the longest that a removal took, in seconds."""
    device = f"uio:{PLUGGED}"
    with Guest(
        bash(
            "modprobe uio_pci_generic",
            command(share, "hot_plug", "uio_pci_generic", str(REMOVALS), device),
            f"nvme-user bind {PLUGGED} --driver uio_pci_generic",
            command(share, "claims", device),
            command(share, "kills", str(KILLS), device, f"{device}?interrupts=intx"),
        ),
        iommu=False,
        nvme=[NvmeDisk(hotplug=True, size=64 * MIB)],
        share=share,
        timeout=1800,
    ) as guest:
        seconds = [remove_and_return(guest, cycle) for cycle in range(REMOVALS)]
        guest.wait()
    return share, max(seconds)


def test_surprise_removal_claim_and_kills(surprises: tuple[Path, float], report: list[str]) -> None:
    share, seconds = surprises
    check_removals(outcome(share, "hot_plug"), REMOVALS)
    check_claims(outcome(share, "claims").only)
    report.append(f"guest: {REMOVALS} removals over UIO, each in {seconds:.2f} s at most")
    slowest = check_kills(outcome(share, "kills"), KILLS)
    report.append(f"guest: {KILLS} kills over UIO, each attach after in {slowest} s at most")
