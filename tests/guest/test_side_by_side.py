"""nvme-cli on the kernel's driver and nvme-user over VFIO say the same of the same device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from guest_runs import guest_run
from guest_scripts import command, outcome
from side_by_side import CASES, Answer, Case, commands, unexplained

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

ADDRESS = "0000:00:04.0"
MIB = 1 << 20
SUBSYSTEM = "nvme-subsys,id=subsystem,nqn=nqn.2026-11.test:side"
OTHER = "nvme,id=other,serial=guest-nvme0,bus=pcie.0,addr=0x8,subsys=subsystem"

Answers = Mapping[str, Mapping[str, Answer]]


@guest_run(seconds=100)
def answers(share: Path) -> Answers:
    """What both said, by case and program."""
    (share / "commands").write_text(json.dumps(commands(CASES)))
    Guest(
        [
            "bash",
            "-c",
            "modprobe -a vfio-pci vfio_iommu_type1; "
            + command(share, "side_by_side", ADDRESS, str(share / "commands")),
        ],
        nvme=[
            NvmeDisk(
                size=64 * MIB,
                properties={"subsys": "subsystem", "max_ioqpairs": "8"},
                namespaces=(
                    {"uuid": "11111111-2222-4333-8444-555555555555"},
                    {"zoned": "true", "zoned.zone_size": "1M", "zoned.max_open": "4"},
                ),
            )
        ],
        devices=[SUBSYSTEM, OTHER],
        kernel_args=["iomem=relaxed"],  # else nvme-cli may not look at the registers
        share=share,
        timeout=1200,
    ).run()
    found: dict[str, dict[str, Answer]] = {}
    done = outcome(share, "side_by_side")
    assert done.status == 0, done.errors
    for line in done.lines:
        output = line["output"].replace(f"vfio:{ADDRESS}", "nvme0")
        answer = Answer(line["exit"], output, line["errors"])
        found.setdefault(line["id"], {})[line["by"]] = answer
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_is_said(case: Case, answers: Answers) -> None:
    said = answers[str(case)]
    assert unexplained(case, said["theirs"], said["ours"]) == [], said
