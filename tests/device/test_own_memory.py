"""Memory of the controller's own on QEMU, which shares its Persistent Memory Region alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import DeviceAccessError, DeviceBusyError, DeviceNameError, NotSupportedError

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("qemu")


def test_the_controller_memory_buffer_is_refused_with_its_reason() -> None:
    with nvme.open("qemu:?size=16M&cmb_size_mb=4") as ctrl:
        for use in (lambda: ctrl.cmb, lambda: ctrl.queue_pair(cmb=True)):
            with pytest.raises(
                DeviceAccessError, match="BAR2 inside QEMU, which does not share it"
            ):
                use()
        told = ctrl.registers.cmbsz  # of what it does have
        assert told.sz << 12 + 4 * told.szu == 4 * MIB
        ctrl.namespaces[1].read(0, 1)


def test_a_persistent_memory_region(tmp_path: Path) -> None:
    name = f"qemu:?size=16M&pmrdev={tmp_path / 'pmr, of mine'}"
    data = np.random.default_rng(1).integers(0, 256, MIB, np.uint8)
    with nvme.open(f"{name}&pmr=4M") as ctrl, ctrl.pmr() as pmr:
        assert pmr.nbytes == 4 * MIB
        ns = ctrl.namespaces[1]
        pmr.array[:MIB] = data
        pmr.flush()
        # The device takes it for data: from there, and into it.
        ns.write_from(0, pmr.array[:MIB])
        assert ns.read(0, MIB // ns.block_size) == data.tobytes()
        ns.read_into(0, pmr.array[MIB : 2 * MIB])
        assert np.array_equal(pmr.array[MIB : 2 * MIB], data)
        ctrl.reset()
        ns.read_into(0, pmr.array[2 * MIB : 3 * MIB])
        assert np.array_equal(pmr.array[2 * MIB : 3 * MIB], data)
        with pytest.raises(DeviceBusyError):
            nvme.open(name)
    with nvme.open(name) as ctrl, ctrl.pmr() as pmr:
        assert np.array_equal(pmr.array[2 * MIB : 3 * MIB], data)


def test_a_persistent_memory_region_without_a_file() -> None:
    with nvme.open("qemu:?size=16M&pmr=1M") as ctrl:
        for _ in range(2):
            with ctrl.pmr() as pmr:
                pmr.array[:] += 1
                pmr.flush()
                assert np.all(pmr.array == pmr.array[0])
        assert not ctrl.registers.pmrctl.en
        assert pmr.array[0] == 0


def test_none_is_there() -> None:
    with nvme.open("qemu:?size=16M") as ctrl:
        for use in (lambda: ctrl.cmb, ctrl.pmr):
            with pytest.raises(NotSupportedError):
                use()


def test_sizes_that_qemu_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(DeviceNameError, match="a power of two, 4K or more"):
        nvme.open("qemu:?pmr=3M")
    file = tmp_path / "pmr"
    file.write_bytes(bytes(3 << 12))
    with pytest.raises(DeviceNameError, match="has 12288 bytes, not a power of two"):
        nvme.open(f"qemu:?pmrdev={file}")
    with pytest.raises(DeviceAccessError, match="does not exist: name a size"):
        nvme.open(f"qemu:?pmrdev={tmp_path / 'none'}")
