"""What close() gives back at once: memory and descriptors, without the garbage collector."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bench_rig import job, once_done, run
from software_controller import served

import pynvme_user as nvme
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.run import engine

pytestmark = pytest.mark.alone

MIB = 1 << 20


def mapped() -> int:
    """Bytes of memory files that this process maps: all memory for DMA."""
    maps = Path("/proc/self/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) .* /memfd:", maps, re.MULTILINE)
    return sum(int(end, 16) - int(start, 16) for start, end in found)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def used(name: str) -> nvme.Controller:
    """A controller that was used in every way, and is still open."""
    ctrl = nvme.open(name)
    ns = ctrl.namespaces[min(ctrl.namespaces)]
    buffer = ctrl.alloc(8 * MIB)
    buffer[:] = 1
    ns.read_into(0, buffer[: ns.block_size])
    ns.read(0, 16)
    ns.flush()
    pair = ctrl.queue_pair(7)
    pair.submit_read(ns, 0, 1, buffer[: ns.block_size])
    pair.drain()
    pair.read_many(ns, list(range(9)), 1, buffer)
    return ctrl


@pytest.fixture(params=["here", "served"])
def name(request: pytest.FixtureRequest) -> str:
    """The tests' device, and one over vfio-user, whatever --device is."""
    return str(request.getfixturevalue("device_name" if request.param == "here" else "fast"))


@pytest.fixture
def _no_collector(name: str) -> Iterator[None]:
    with nvme.open(
        name
    ) as ctrl:  # what the process makes once, such as the page of a BAR that is gone
        ctrl.namespaces[1].read(0, 1)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_all_goes_back(name: str) -> None:
    before = mapped(), descriptors()
    ctrl = used(name)
    assert mapped() > before[0]
    assert descriptors() > before[1] or name.startswith("soft:")  # which needs none
    ctrl.close()
    assert (mapped(), descriptors()) == before


@pytest.mark.usefixtures("_no_collector")
def test_all_of_a_benchmark_goes_back(name: str) -> None:
    before = mapped(), descriptors()
    assert run(name, rw="randread", bs="4k", number_ios=100).ok
    assert (mapped(), descriptors()) == before


@pytest.mark.usefixtures("_no_collector")
def test_all_of_a_benchmark_that_fails_goes_back(name: str) -> None:
    before = mapped(), descriptors()
    with pytest.raises(JobError, match="cannot run on cpus_allowed"):
        run(name, rw="randread", bs="4k", cpus_allowed=1023)
    assert (mapped(), descriptors()) == before


@pytest.mark.usefixtures("_no_collector")
def test_all_of_a_benchmark_goes_back_whose_device_goes_away(
    qemu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mapped(), descriptors()
    with served("null&delay=1000") as (name, server):
        once_done(monkeypatch, {"cut": 1}, (0, server.kill))
        result = engine.run(
            [job(name, "cut", rw="randread", bs="4k", iodepth=16, time_based=True, runtime=90)]
        )
    assert "is gone" in result.jobs[0].failure
    assert (mapped(), descriptors()) == before


@pytest.mark.usefixtures("_no_collector")
def test_a_view_keeps_its_own_region(name: str) -> None:
    before = mapped(), descriptors()
    ctrl = used(name)
    views = [memoryview(ctrl.alloc(512)), ctrl.alloc(3 * MIB)[4096:5120]]
    views[0][:] = bytes(range(256)) * 2
    views[1][:] = 7
    ctrl.close()
    assert descriptors() == before[1]
    assert before[0] < mapped() <= before[0] + 10 * MIB
    assert bytes(views[0]) == bytes(range(256)) * 2
    assert (views[1] == 7).all()
    del views[1]
    assert before[0] < mapped() <= before[0] + 4 * MIB
    assert bytes(views[0]) == bytes(range(256)) * 2
    del views
    assert mapped() == before[0]


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("view", [np.from_dlpack, np.asarray, lambda b: np.asarray(Interface(b))])
def test_a_view_by_a_protocol_keeps_its_own_region(
    name: str, view: Callable[[nvme.DmaBuffer], npt.NDArray[np.uint8]]
) -> None:
    before = mapped(), descriptors()
    ctrl = used(name)
    buffer = ctrl.alloc(3 * MIB)
    assert buffer.__dlpack_device__() == (1, 0)  # the CPU's memory
    array = view(buffer)
    address = buffer.__array_interface__["data"]
    del buffer
    ctrl.namespaces[min(ctrl.namespaces)].read_into(0, array)  # the device reaches it as before
    array[:] = 5
    ctrl.close()
    assert array.__array_interface__["data"] == address
    assert before[0] < mapped() <= before[0] + 6 * MIB
    assert (array == 5).all()
    del array
    assert (mapped(), descriptors()) == before


class Interface:
    """What offers a buffer by __array_interface__ alone."""

    def __init__(self, buffer: nvme.DmaBuffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = buffer.__array_interface__
