"""DMA memory, regions of a device's file, and the physical runs of hugepages."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.access import memory, regions
from pynvme_user.access.memory import (
    PAGE_SIZE,
    SharedRam,
    allocate,
    map_shared,
    memory_file,
    unmap,
)
from pynvme_user.access.physical import contiguous_run
from pynvme_user.access.regions import (
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MASTER,
    FileRegion,
    MappedRegion,
    set_command,
)
from pynvme_user.errors import (
    ClosedError,
    DeviceAccessError,
    DeviceRemovedError,
    DmaError,
    ForkedError,
)
from pynvme_user.host import numa
from pynvme_user.host.hugepages import hugepages

pytestmark = pytest.mark.alone

HUGE = 2 << 20


def mappings() -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:" in line]


@pytest.mark.parametrize("length", [1, PAGE_SIZE, PAGE_SIZE + 1, 3 * HUGE - 1])
def test_memory_is_zeroed_shared_and_returned(length):
    before, descriptors = mappings(), os.listdir("/proc/self/fd")
    made = allocate(length)
    assert made.length >= length
    assert made.length % made.page_size == made.address % made.page_size == 0
    assert ctypes.string_at(made.address, made.length) == bytes(made.length)
    ctypes.memset(made.address, 0x5A, made.length)
    (line,) = set(mappings()) - set(before)
    assert " rw-s " in line  # shared: a fork must not turn it into copy-on-write pages
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    del made
    assert mappings() == before


def test_what_failed_goes_back_at_once(monkeypatch):
    """Not when the garbage collector comes: no traceback that stays keeps the mapping."""
    gc.collect()  # what other tests left
    before, descriptors = mappings(), os.listdir("/proc/self/fd")

    def refuse(address, length):
        assert mappings() != before
        raise OSError(errno.EFAULT, "refused")

    monkeypatch.setattr(memory, "populate", refuse)
    gc.disable()
    try:
        with pytest.raises(DmaError, match=r"no memory for a DMA buffer .*\(refused\)"):
            allocate(HUGE)
        assert mappings() == before
    finally:
        gc.enable()
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


def test_more_than_the_machine_has_is_refused(monkeypatch):
    """Taking it, the kernel would kill this process, or another."""
    before = mappings()
    monkeypatch.setattr(memory, "hugepages", lambda placement: {})
    monkeypatch.setattr(numa, "memory_info", lambda: {"MemAvailable": 1 << 20})
    with pytest.raises(DmaError, match=r"64 MiB is more memory than the 1 MiB .* ask for less"):
        allocate(64 << 20)
    assert mappings() == before


def test_windows_of_shared_ram_outlive_it():
    """The pages of all else go back, to whoever else maps the file, too; nothing goes twice."""
    pages = 64
    fd = memory_file(pages * PAGE_SIZE, PAGE_SIZE)
    try:
        before = len(mappings())
        ram = SharedRam(fd, pages * PAGE_SIZE)
        windows = {n: ram.window(n * PAGE_SIZE, PAGE_SIZE) for n in (0, 5, 6, 40, 63)}
        ctypes.memset(ram.address, 0x5A, ram.length)
        base = ram.address
        del windows[40]  # before it is closed: it stays the memory's
        assert ctypes.string_at(base + 40 * PAGE_SIZE, 4) == b"\x5a" * 4
        ram.close()
        ram.close()
        assert os.fstat(fd).st_blocks * 512 == 4 * PAGE_SIZE
        assert len(mappings()) == before + 3
        for n, window in windows.items():
            assert window.address == base + n * PAGE_SIZE
            assert ctypes.string_at(window.address, PAGE_SIZE) == b"\x5a" * PAGE_SIZE
        # What takes a place that is free again is another's.
        other = map_shared(fd, PAGE_SIZE, at=base + PAGE_SIZE)
        del ram, window
        windows.clear()
        assert os.fstat(fd).st_blocks == 0
        assert len(mappings()) == before + 1
        unmap(other, PAGE_SIZE)
        assert len(mappings()) == before
    finally:
        os.close(fd)


def test_shared_ram_that_is_not_closed_goes_with_its_last_window():
    fd = memory_file(8 * PAGE_SIZE, PAGE_SIZE)
    before = len(mappings())
    window = SharedRam(fd, 8 * PAGE_SIZE).window(0, PAGE_SIZE)
    os.close(fd)
    assert len(mappings()) == before + 1
    del window
    assert len(mappings()) == before


def test_the_largest_pages_that_are_half_filled_are_taken():
    if not hugepages().get(HUGE):
        assert allocate(HUGE).page_size == PAGE_SIZE  # and not an error
        pytest.skip("no free hugepages of 2 MiB: sudo sysctl vm.nr_hugepages=4")
    assert allocate(HUGE // 2).page_size == PAGE_SIZE
    assert allocate(HUGE // 2 + 1).page_size == HUGE


def test_a_length_that_cannot_be_had_is_an_oserror():
    fd = os.memfd_create("test")
    try:
        with pytest.raises(OSError, match="Cannot allocate memory"):
            map_shared(fd, 1 << 62)
    finally:
        os.close(fd)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), max_size=6), st.integers(1, 12))
def test_a_run_is_found_exactly_if_there_is_one(order, missing, count):
    pages = [HUGE * (100 + place) for place in order if place not in missing]
    run = contiguous_run(pages, HUGE, count)
    have = "".join("." if place in missing else "#" for place in range(12))
    assert (run is not None) == ("#" * count in have)
    if run is not None:
        found = [pages[index] for index in run]
        assert found == list(range(found[0], found[0] + count * HUGE, HUGE))


@pytest.fixture
def device():
    """A file that is laid out as a device's: a region of 4 pages at 1 page, all 0xff before."""
    fd = os.memfd_create("device")
    os.truncate(fd, 5 * PAGE_SIZE)
    os.pwrite(fd, b"\xff" * PAGE_SIZE, 0)
    yield fd
    os.close(fd)


def open_region(device: int, areas: list[tuple[int, int]]) -> MappedRegion:
    file = FileRegion("device BAR0", device, PAGE_SIZE, 4 * PAGE_SIZE)
    return MappedRegion("device BAR0", file, areas)


@pytest.mark.parametrize(
    "areas",
    [
        [(0, 4 * PAGE_SIZE)],
        [],
        [(PAGE_SIZE, PAGE_SIZE)],
        [(0, PAGE_SIZE), (3 * PAGE_SIZE, PAGE_SIZE)],
    ],
    ids=["whole", "none", "doorbells only", "around the MSI-X table"],
)
def test_mapped_and_unmapped_parts_are_one_region(device, areas):
    region = open_region(device, areas)
    values = {}
    for page in range(4):
        for place, width in enumerate((8, 4, 2, 1)):
            offset = page * PAGE_SIZE + 8 * place
            values[offset, width] = 0x1122334455667788 + page & (1 << 8 * width) - 1
            region.write(offset, width, values[offset, width])
    for (offset, width), value in values.items():
        assert region.read(offset, width) == value
        assert os.pread(device, width, PAGE_SIZE + offset) == value.to_bytes(width, "little")
    assert os.pread(device, PAGE_SIZE, 0) == b"\xff" * PAGE_SIZE
    region.close()


def test_the_address_of_a_mapped_part(device):
    region = open_region(device, [(PAGE_SIZE, PAGE_SIZE)])
    region.write(PAGE_SIZE + 8, 4, 0xC0FFEE)
    address = region.address(PAGE_SIZE, PAGE_SIZE)
    assert ctypes.c_uint32.from_address(address + 8).value == 0xC0FFEE
    for offset, length in ((0, 4), (PAGE_SIZE, PAGE_SIZE + 1), (2 * PAGE_SIZE, 4)):
        with pytest.raises(DeviceAccessError, match="is not mapped from"):
            region.address(offset, length)
    region.close()


@pytest.mark.parametrize(
    ("offset", "width"),
    [(2, 4), (4, 8), (1, 2), (0, 3), (4 * PAGE_SIZE, 4), (4 * PAGE_SIZE - 4, 8), (-4, 4)],
)
def test_misaligned_and_outside_accesses_are_refused(device, offset, width):
    region = open_region(device, [(0, 4 * PAGE_SIZE)])
    with pytest.raises(ValueError, match="device BAR0"):
        region.read(offset, width)
    with pytest.raises(ValueError, match="device BAR0"):
        region.write(offset, width, 0)
    region.close()


def test_a_closed_region_touches_nothing(device):
    region = open_region(device, [(0, PAGE_SIZE)])
    before = len(mappings())
    region.close()
    region.close()
    assert len(mappings()) == before - 1
    for offset in (0, PAGE_SIZE):  # mapped and not mapped
        with pytest.raises(ClosedError, match="is closed: open the device again"):
            region.read(offset, 4)
        with pytest.raises(ClosedError, match="is closed"):
            region.write(offset, 4, 1)
    with pytest.raises(ClosedError, match="is closed"):
        region.file.read(0, 4)


def test_what_cannot_be_mapped_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "read_only").write_bytes(bytes(2 * PAGE_SIZE))
    fd = os.open(tmp_path / "read_only", os.O_RDONLY)
    file = FileRegion("device BAR0", fd, 0, 2 * PAGE_SIZE)
    with pytest.raises(DeviceAccessError, match="cannot be mapped \\(Permission denied\\)"):
        MappedRegion("device BAR0", file, [(0, PAGE_SIZE)])
    os.close(fd)


def test_a_short_or_failed_access_means_that_the_device_is_gone(device):
    region = FileRegion("device CONFIG", device, 4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert region.read(PAGE_SIZE - 4, 4) == 0
    with pytest.raises(DeviceRemovedError, match="device CONFIG no longer answers"):
        region.read(PAGE_SIZE, 4)  # beyond the file's end
    with open("/dev/full", "wb") as full, pytest.raises(DeviceRemovedError):
        FileRegion("device CONFIG", full.fileno(), 0, 64).write(0, 4, 0)


@pytest.mark.parametrize("areas", [[], [(0, 4 * PAGE_SIZE)]], ids=["none", "whole"])
def test_a_fork_in_the_middle_of_an_access(device, areas, monkeypatch):
    """What is left of it in the child touches neither the mapping nor the descriptor."""
    region = open_region(device, areas)

    def forked_here(*_):
        for thing in (region, region.file):
            thing.forked(7)

    monkeypatch.setattr(regions, "check_access", forked_here)
    with pytest.raises(ForkedError, match="device BAR0 was opened by process 7"):
        region.read(0, 4)
    file = FileRegion("device CONFIG", device, 0, PAGE_SIZE)

    def gone(*_):
        file.forked(7)
        raise OSError(errno.EBADF, "")

    monkeypatch.setattr(regions, "check_access", lambda *_: None)
    monkeypatch.setattr(os, "pread", gone)
    with pytest.raises(ForkedError, match="device CONFIG was opened by process 7"):
        file.read(0, 4)


def test_only_the_named_bits_of_the_command_register_change(device):
    config = FileRegion("device CONFIG", device, PAGE_SIZE, 256)
    config.write(PCI_COMMAND, 2, 0x0503)
    config.write(PCI_COMMAND + 2, 2, 0xBEEF)
    set_command(config, set_bits=PCI_COMMAND_MASTER, clear_bits=PCI_COMMAND_INTX_DISABLE)
    assert config.read(PCI_COMMAND, 2) == 0x0107
    assert config.read(PCI_COMMAND + 2, 2) == 0xBEEF


def test_a_mapping_can_replace_another():
    fd = os.memfd_create("test")
    os.truncate(fd, 2 * PAGE_SIZE)
    os.pwrite(fd, b"second", PAGE_SIZE)
    address = map_shared(fd, PAGE_SIZE, flags=mmap.MAP_POPULATE)
    assert map_shared(fd, PAGE_SIZE, PAGE_SIZE, at=address) == address
    assert ctypes.string_at(address, 6) == b"second"
    unmap(address, PAGE_SIZE)
    os.close(fd)


def test_a_region_whose_device_went_away_reads_all_ones(device):
    region = open_region(device, [(0, 2 * PAGE_SIZE)])
    region.write(0, 4, 0x1234)
    os.truncate(device, 0)  # a fault there is a SIGBUS, as after the removal of a device
    assert region.read(0, 4) == 0xFFFF_FFFF
    assert region.read(PAGE_SIZE, 8) == 0xFFFF_FFFF_FFFF_FFFF
    with pytest.raises(DeviceRemovedError):
        region.file.read(0, 4)
    region.close()
