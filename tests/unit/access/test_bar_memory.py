"""Memory in a BAR, here a file: what arrays see of it while the device is open, and afterwards."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from pynvme_user.access.bar_memory import BarMemories, BarMemory
from pynvme_user.access.base import DmaRegion
from pynvme_user.access.iommu import IommuDma
from pynvme_user.access.memory import PAGE_SIZE
from pynvme_user.access.regions import FileRegion
from pynvme_user.errors import DeviceAccessError, DmaError


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("bar")
    os.ftruncate(fd, 4 * PAGE_SIZE)
    yield fd
    os.close(fd)


def view(memory: BarMemory) -> npt.NDArray[np.uint8]:
    return np.frombuffer((ctypes.c_ubyte * memory.length).from_address(memory.address), np.uint8)


def test_it_is_the_device_s_until_it_is_closed(fd: int) -> None:
    memory = BarMemory("it", fd, PAGE_SIZE, 2 * PAGE_SIZE)
    bytes_ = view(memory)
    bytes_[0] = bytes_[-1] = 7
    assert os.pread(fd, 2, PAGE_SIZE) == b"\7\0"
    assert os.pread(fd, 1, 3 * PAGE_SIZE - 1) == b"\7"
    memory.close()
    memory.close()
    assert not bytes_.any()
    bytes_[0] = 9
    assert os.pread(fd, 1, PAGE_SIZE) == b"\7"


def test_a_device_that_is_gone_reads_as_all_ones(fd: int) -> None:
    memory = BarMemory("it", fd, 0, PAGE_SIZE)
    os.ftruncate(fd, 0)
    assert view(memory)[5] == 0xFF


def test_a_forked_child_has_memory_of_its_own(fd: int) -> None:
    memory = BarMemory("it", fd, 0, PAGE_SIZE)
    view(memory)[:4] = 5
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int(view(memory)[0])
            view(memory)[0] = 6
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert os.pread(fd, 4, 0) == b"\5\5\5\5"


def test_what_cannot_be_mapped(fd: int) -> None:
    region = FileRegion("it", fd, 0, 4 * PAGE_SIZE)
    areas = [(0, 2 * PAGE_SIZE), (3 * PAGE_SIZE, PAGE_SIZE)]
    with BarMemories() as memories:
        for offset, length in ((PAGE_SIZE, 2 * PAGE_SIZE), (4 * PAGE_SIZE, PAGE_SIZE), (512, 512)):
            with pytest.raises(DeviceAccessError, match="it is no memory that can be mapped from"):
                memories.map(region, fd, areas, offset, length)
        memory = memories.map(region, fd, areas, 3 * PAGE_SIZE, 8 * PAGE_SIZE)
        assert memory.length == PAGE_SIZE  # up to the region's end
        view(memory)[0] = 1
        assert os.pread(fd, 1, 3 * PAGE_SIZE) == b"\1"
    assert not view(memory).any()
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    with pytest.raises(DeviceAccessError, match=r"it cannot be mapped \(.*locked down"):
        BarMemory("it", reading, 0, PAGE_SIZE)
    os.close(reading)


def test_a_part_of_a_bar() -> None:
    bar = DmaRegion(0x10000, 0x4000, 0x8000, None)
    assert bar.part(0x1000, 0x1000) == DmaRegion(0x11000, 0x1000, 0x9000, None)
    assert bar.part(0x3000, 0x9000).length == 0x1000
    with pytest.raises(DeviceAccessError, match="beyond the end of a BAR"):
        bar.part(0x4000, 0x1000)


class Space:
    """An IOMMU of a few pages."""

    def ranges(self) -> list[tuple[int, int]]:
        return [(0, 8 * PAGE_SIZE - 1)]

    def map(self, address: int, length: int, iova: int) -> None:
        assert not 2 * PAGE_SIZE <= iova < 7 * PAGE_SIZE

    def unmap(self, iova: int, length: int) -> int:
        return length


def test_no_memory_has_the_address_of_a_bar() -> None:
    dma = IommuDma("it", Space(), [(2 * PAGE_SIZE, 7 * PAGE_SIZE - 1)])
    kept = [dma.allocate(PAGE_SIZE) for _ in range(2)]
    assert [region.iova // PAGE_SIZE for region in kept] == [1, 7]
    with pytest.raises(DmaError, match="no 4096 contiguous bytes are free"):
        dma.allocate(PAGE_SIZE)
    dma.close()
