"""Memory of the controller's own over whatever access there is: in a guest's VFIO and UIO, too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from workload import pattern

import pynvme_user as nvme
from pynvme_user import Controller, DeviceAccessError, NotSupportedError
from pynvme_user.transport.controller_memory import ControllerMemoryBuffer
from pynvme_user.transport.persistent_memory import PersistentMemoryRegion

SIZE = 64 << 10


@pytest.fixture(scope="module")
def ctrl(device_name: str, request: pytest.FixtureRequest) -> Iterator[Controller]:
    """The device under test; of the software controller one that has such memory."""
    if device_name == "soft:":
        with nvme.open("soft:?size=64M&cmb=1M&pmr=1M") as ctrl:
            yield ctrl
    else:
        yield request.getfixturevalue("controller")


@pytest.fixture
def cmb(ctrl: Controller) -> ControllerMemoryBuffer:
    try:
        return ctrl.cmb
    except (DeviceAccessError, NotSupportedError) as error:
        pytest.skip(f"this device has no Controller Memory Buffer: {error}")


@pytest.fixture
def pmr(ctrl: Controller) -> Iterator[PersistentMemoryRegion]:
    try:
        opened = ctrl.pmr()
    except (DeviceAccessError, NotSupportedError) as error:
        pytest.skip(f"this device has no Persistent Memory Region: {error}")
    with opened as pmr:
        yield pmr


def test_queues_in_the_controller_memory_buffer(
    ctrl: Controller, cmb: ControllerMemoryBuffer
) -> None:
    """The submission queue, round its end more than once; and PRP lists where they may be."""
    ns = ctrl.namespaces[min(ctrl.namespaces)]
    blocks = SIZE // ns.block_size
    parts = ["sqs", *(["lists"] if cmb.cmbsz.lists else [])]
    before = cmb.free
    with ctrl.queue_pair(15, cmb=parts, sgl=False) as pair:
        assert cmb.free < before
        buffer = ctrl.alloc(4 * SIZE)
        lbas = blocks * np.arange(4)
        for seed in range(12):
            buffer[:] = wanted = pattern(seed, len(buffer))
            pair.write_many(ns, lbas, blocks, buffer).check()
            buffer[:] = 0
            pair.read_many(ns, lbas, blocks, buffer).check()
            assert np.array_equal(buffer, wanted)
    assert cmb.free == before


def test_data_in_the_controller_memory_buffer(
    ctrl: Controller, cmb: ControllerMemoryBuffer
) -> None:
    """Written from there and read into it; by calls, and by a queue that lies there, too."""
    if not (cmb.cmbsz.rds and cmb.cmbsz.wds):
        pytest.skip("this device has no data in its Controller Memory Buffer")
    ns = ctrl.namespaces[min(ctrl.namespaces)]
    blocks = SIZE // ns.block_size
    source, target = cmb.alloc(SIZE), cmb.alloc(SIZE)
    source[:] = wanted = pattern(7, SIZE)
    target[:] = 0
    ns.write_from(0, source)
    assert ns.read(0, blocks) == wanted.tobytes()
    ns.read_into(0, target)
    assert np.array_equal(target, wanted)
    target[:] = 0
    with ctrl.queue_pair(4, cmb=True) as pair:
        pair.submit_read(ns, 0, blocks, target)
        (done,) = pair.drain()
        assert done.status.ok
    assert np.array_equal(target, wanted)


def test_the_controller_memory_buffer_after_a_reset(
    ctrl: Controller, cmb: ControllerMemoryBuffer
) -> None:
    ns = ctrl.namespaces[min(ctrl.namespaces)]
    buffer = cmb.alloc(4096)
    ctrl.reset()
    buffer[:] = wanted = pattern(8, 4096)
    ns.write_from(0, buffer)
    assert ns.read(0, 4096 // ns.block_size) == wanted.tobytes()


def test_the_persistent_memory_region(ctrl: Controller, pmr: PersistentMemoryRegion) -> None:
    """Its bytes stay while the controller is reset, and while nobody has it open."""
    pmr.array[:] = wanted = pattern(9, pmr.nbytes)
    pmr.flush()
    ctrl.reset()
    assert np.array_equal(pmr.array, wanted)
    if pmr.pmrcap.cmss and pmr.pmrcap.wds:
        ns = ctrl.namespaces[min(ctrl.namespaces)]
        ns.write_from(0, pmr.array[:SIZE])
        assert ns.read(0, SIZE // ns.block_size) == wanted[:SIZE].tobytes()
    pmr.close()
    with ctrl.pmr() as again:
        assert np.array_equal(again.array, wanted)
