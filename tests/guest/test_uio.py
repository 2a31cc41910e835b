"""UIO with the real kernel: its claim, and a device that is gone without a word.

Nothing tells a process that its device is being removed: the kernel takes the BAR away under it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_scripts import command, outcome
from pynvme_user.qemu.devices import NvmeDisk
from pynvme_user.qemu.guest import Guest
from test_vfio import MIB, PLUGGED, bash, check_claims, check_removals, remove_and_return

pytestmark = pytest.mark.guest

REMOVALS = 2


def test_claim_and_surprise_removal(tmp_path: Path, report: list[str]) -> None:
    device = f"uio:{PLUGGED}"
    with Guest(
        bash(
            "modprobe uio_pci_generic",
            command(tmp_path, "hot_plug", "uio_pci_generic", str(REMOVALS), device),
            "python3 -c 'import pynvme_user.binding as b; "
            f"b.bind(\"{PLUGGED}\", \"uio_pci_generic\")'",
            command(tmp_path, "claims", device),
        ),
        iommu=False,
        nvme=[NvmeDisk(hotplug=True, size=64 * MIB)],
        share=tmp_path,
        timeout=180,
    ) as guest:
        seconds = [remove_and_return(guest, cycle) for cycle in range(REMOVALS)]
        guest.wait()
    check_removals(outcome(tmp_path, "hot_plug"), REMOVALS)
    check_claims(outcome(tmp_path, "claims").only)
    report.append(f"guest: UIO, {REMOVALS} surprise removals, {max(seconds):.2f} s at most")
