"""Opens QEMU's controller with properties that not every version of it has."""

from __future__ import annotations

import re

import pytest

import pynvme_user as nvme
from pynvme_user import Controller, DeviceAccessError

#: A primary controller with two secondary ones, in a subsystem.
SECONDARY = (
    "subsys.nqn=placed&sriov_max_vfs=2&sriov_vq_flexible=4&sriov_vi_flexible=2"
    "&max_ioqpairs=6&msix_qsize=5"
)
#: Flexible Data Placement: four reclaim unit handles of 1 MiB, of which namespace 1 has two.
PLACEMENT = "subsys.fdp=on&subsys.fdp.nruh=4&subsys.fdp.runs=1M&fdp.ruhs=0;2"


def open_with(options: str) -> Controller:
    """Open it; where this QEMU does not know a property, skip the test."""
    try:
        return nvme.open(f"qemu:?size=64M&{options}")
    except DeviceAccessError as error:
        lacks = re.search(r"Property '(\S+)' not found", str(error))
        if lacks is None:
            raise
        pytest.skip(f"this QEMU has no {lacks[1]}: ./bootstrap newer-qemu gets one that has")
