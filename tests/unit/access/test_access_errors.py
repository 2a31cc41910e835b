"""What stands in the way of a device or of a mapping is named, with the remedy."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from pynvme_user.access.base import DmaRegion
from pynvme_user.access.iommu import IommuDma
from pynvme_user.access.memory import PAGE_SIZE, hugepages
from pynvme_user.access.physical import PhysicalDma
from pynvme_user.access.uio import UioAccess
from pynvme_user.access.vfio import VfioAccess
from pynvme_user.access.vfio_group import open_node, token_error
from pynvme_user.driver.names import open_access
from pynvme_user.errors import (
    ClosedError,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DmaError,
    NvmeTimeoutError,
    UnsafeAccessWarning,
)
from pynvme_user.host import sysfs
from pynvme_user.host.sysfs import PciFunction, busy, call_with_deadline, holders

TOKEN = "c0ffee00-0000-4000-8000-000000000001"
RANGES = [(0, 0xFEDF_FFFF), (0xFEF0_0000, (1 << 39) - 1)]


class Space:
    """An address space that keeps a list, refuses what the test says, and forgets on request."""

    def __init__(self) -> None:
        self.mapped: dict[int, tuple[int, int]] = {}
        self.refuse: int | None = None
        self.unmaps = 1.0

    def ranges(self) -> list[tuple[int, int]]:
        return RANGES

    def map(self, address: int, length: int, iova: int) -> None:
        if self.refuse is not None:
            raise OSError(self.refuse, os.strerror(self.refuse))
        self.mapped[iova] = (address, length)

    def unmap(self, iova: int, length: int) -> int:
        del self.mapped[iova]
        return int(length * self.unmaps)


@pytest.mark.parametrize("access", [VfioAccess, UioAccess])
@pytest.mark.parametrize(
    "bdf", ["", "01:00.0", "0000:01:00", "0000:01:00.8", "0000:01:20.0", "0000:0A:00.0", "a/../b"]
)
def test_a_malformed_address_is_a_name_error(access, bdf):
    with pytest.raises(DeviceNameError, match=r"as in 0000:01:00\.0"):
        access(bdf)


@pytest.mark.parametrize("access", [VfioAccess, UioAccess])
def test_an_absent_device_is_an_access_error(access):
    with pytest.raises(DeviceAccessError, match=r"no PCI device ffff:ff:1f\.7: `nvme-user list`"):
        access("ffff:ff:1f.7")


def some_function() -> PciFunction:
    """A PCI function of this machine that a kernel driver has."""
    for path in sorted(Path("/sys/bus/pci/devices").glob("*")):
        function = PciFunction(path.name)
        if function.driver and "vfio" not in function.driver and "uio" not in function.driver:
            return function
    pytest.skip("this machine has no PCI device with a driver")


def test_a_device_of_another_driver_is_refused_with_the_remedy():
    function = some_function()
    with pytest.raises(DeviceAccessError) as refused:
        VfioAccess(function.bdf)
    remedy = "nvme-user bind" if function.iommu_group else "_iommu=on"
    assert remedy in str(refused.value)
    with pytest.raises(DeviceAccessError) as refused:
        UioAccess(function.bdf)
    assert f"belongs to the driver {function.driver}" in str(refused.value)
    assert f"nvme-user bind {function.bdf} --driver uio_pci_generic" in str(refused.value)


def test_bars_are_read_from_sysfs():
    function = some_function()
    assert len(function.resources) == 6
    for index, (start, size, flags) in enumerate(function.resources):
        assert (size > 0) == (start > 0) == (flags > 0)
        file = function.path / f"resource{index}"
        if file.exists():
            assert file.stat().st_size == size


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ["one mapping more", "dma_entry_limit"]),
        (errno.EEXIST, ["IOVA 0x1000 is mapped already"]),
        (errno.EINVAL, ["does not translate IOVA 0x1000"]),
        (errno.EFAULT, ["be pinned", "alloc()"]),
        (errno.EIO, ["Input/output error", "dmesg"]),
    ],
)
def test_each_mapping_error_has_its_own_words(number, words):
    space = Space()
    dma = IommuDma("vfio:X", space)
    space.refuse = number
    with pytest.raises(DmaError) as refused:
        dma.allocate(PAGE_SIZE)
    for word in ["vfio:X", "4096 bytes", *words]:
        assert word in str(refused.value)
    # Nothing is half mapped, and the IOVA is free again.
    space.refuse = None
    assert dma.allocate(PAGE_SIZE).iova == 0x1000
    assert list(space.mapped) == [0x1000]


def test_a_memlock_limit_is_named_in_bytes():
    space = Space()
    dma = IommuDma("vfio:X", space)
    space.refuse = errno.ENOMEM
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE_SIZE, hard))
        with pytest.raises(DmaError) as refused:
            dma.allocate(1 << 20)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        with pytest.raises(DmaError, match=r"locked memory|out of memory"):
            dma.allocate(1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    text = str(refused.value)
    assert "needs 1048576 bytes of locked memory, and RLIMIT_MEMLOCK is 4096 bytes" in text
    assert "`sudo prlimit --pid $$ --memlock=unlimited`" in text
    assert "limits.conf" in text


def test_dma_memory_is_released_once_and_wholly():
    space = Space()
    dma = IommuDma("vfio:X", space)
    region = dma.allocate(5 * PAGE_SIZE)
    assert space.mapped == {region.iova: (region.address, region.length)}
    dma.release(region)
    assert not space.mapped
    with pytest.raises(DmaError, match="released twice"):
        dma.release(region)
    region = dma.allocate(PAGE_SIZE)
    space.unmaps = 0.5
    with pytest.raises(DmaError, match="2048 bytes of 4096"):
        dma.release(region)
    space.unmaps = 1
    # What the kernel may still map is not given out again.
    assert dma.allocate(PAGE_SIZE).iova != region.iova
    dma.close()
    assert not space.mapped
    with pytest.raises(ClosedError, match="is closed"):
        dma.allocate(PAGE_SIZE)


@pytest.mark.parametrize(
    ("address", "length"), [(0x10001, 4096), (0x10000, 100), (0x10000, 0), (0x10200, 0x200)]
)
def test_only_whole_pages_of_the_user_are_mapped(address, length):
    with pytest.raises(DmaError, match="are not whole pages of 4096 bytes"):
        IommuDma("vfio:X", Space()).map(address, length)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may learn physical addresses")
def test_physical_addresses_need_a_privilege():
    with pytest.raises(DeviceAccessError, match="only with CAP_SYS_ADMIN: run as root"):
        PhysicalDma("uio:X")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may learn physical addresses")
def test_physical_memory_warns_and_says_what_it_needs():
    with pytest.warns(UnsafeAccessWarning, match="all of this machine's memory"):
        dma = PhysicalDma("uio:X")
    if any(hugepages().values()):
        region = dma.allocate(1)
        assert region.iova % region.length == 0
        dma.release(region)
    else:
        with pytest.raises(DmaError, match="needs 3 neighbouring free hugepages") as refused:
            dma.allocate(5 << 20)
        assert "`echo 64 | sudo tee /proc/sys/vm/nr_hugepages`" in str(refused.value)
    with pytest.raises(DmaError, match="released twice"):
        dma.release(DmaRegion(0, 4096, 0, None))


def test_a_holder_is_found_while_it_closes_other_files(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.touch()
    done = threading.Event()

    def open_and_close() -> None:
        while not done.is_set():
            for fd in [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]:
                os.close(fd)

    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    with node.open():
        for fd in others:  # so that those of the thread come before the node's
            os.close(fd)
        thread = threading.Thread(target=open_and_close)
        thread.start()
        try:
            for _ in range(50):
                assert list(holders(node)) == [os.getpid()]
        finally:
            done.set()
            thread.join()


def test_the_holder_of_a_node_is_named(tmp_path):
    node = tmp_path / "node"
    node.touch()
    assert list(holders(node)) == []
    assert busy("vfio:X", node).holder is None
    with node.open():
        assert list(holders(node)) == [os.getpid()]
        mine = busy("vfio:X", tmp_path / "other", node)
        assert mine.holder == os.getpid()
        assert "this process itself" in str(mine)
    child = os.fork()
    if child == 0:
        held = node.open()
        time.sleep(60 + held.fileno())
        os._exit(0)
    try:
        deadline = time.monotonic() + 60
        while not list(holders(node)):
            assert time.monotonic() < deadline
        error = busy("vfio:X", node)
        assert isinstance(error, DeviceBusyError)
        assert error.holder == child
        assert f"process {child} (" in str(error)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_node_that_cannot_be_opened_is_explained(tmp_path):
    with pytest.raises(DeviceAccessError, match="modprobe vfio-pci"):
        open_node("vfio:X", tmp_path / "absent")
    with socket.socket(socket.AF_UNIX) as unopenable:
        unopenable.bind(str(tmp_path / "socket"))
        with pytest.raises(
            DeviceAccessError, match=r"cannot be opened \(No such device or address"
        ):
            open_node("vfio:X", tmp_path / "socket")
    if os.geteuid():
        (tmp_path / "mine").touch(mode=0)
        with pytest.raises(DeviceAccessError, match=r"sudo chown \$USER"):
            open_node("vfio:X", tmp_path / "mine")


def test_a_call_that_does_not_return_has_a_deadline():
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(NvmeTimeoutError, match=r"the reset of X did not end within 0\.05 s"):
        call_with_deadline(release.wait, 0.05, "the reset of X")
    assert time.monotonic() - started < 5
    release.set()
    call_with_deadline(lambda: None, 5, "nothing")
    with pytest.raises(FileNotFoundError):
        call_with_deadline(lambda: os.stat("/absent"), 5, "a failure")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("vf_token=", "vf_token is a UUID"),
        ("interrupts=", "interrupts is one of"),
        ("vf_token=1234", "vf_token is a UUID, as `uuidgen` prints one"),
        ("vf_token=c0ffee0000004000800000000000001", "vf_token is a UUID"),
        (f"vf_token={TOKEN}%00", "vf_token is a UUID"),
        (f"vf_token={TOKEN}&iommufd=1", "goes with the device's group: leave iommufd=1 out"),
        ("token=1", "the options are interrupts, iommufd and vf_token"),
    ],
)
def test_a_token_that_is_none(options: str, why: str) -> None:
    with pytest.raises(DeviceNameError, match=why):
        open_access(f"vfio:0000:01:00.0?{options}")


def test_uio_takes_no_token() -> None:
    with pytest.raises(DeviceNameError, match="interrupts is the only option"):
        open_access(f"uio:0000:01:00.0?vf_token={TOKEN}")


def test_who_has_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a virtual function the physical one is named; of that, its own name."""
    monkeypatch.setattr(sysfs, "_DEVICES", tmp_path)
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.1").mkdir()
    (tmp_path / "0000:01:00.1" / "physfn").symlink_to("../0000:01:00.0")
    virtual, physical = PciFunction("0000:01:00.1"), PciFunction("0000:01:00.0")
    assert (virtual.physical_function, physical.physical_function) == ("0000:01:00.0", None)
    assert "is a virtual function of 0000:01:00.0" in str(token_error(virtual))
    assert "vfio:0000:01:00.1?vf_token=UUID, the same" in str(token_error(virtual))
    assert "open it as vfio:0000:01:00.0?vf_token=UUID, with theirs" in str(token_error(physical))


def test_what_is_no_nvme_controller_is_not_to_be_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysfs, "_DEVICES", tmp_path)
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (tmp_path / "virtio-pci").mkdir()
    (device / "driver").symlink_to(tmp_path / "virtio-pci")
    for number, said in (
        ("0x020000", "no NVMe controller.*`nvme-user list`"),
        (
            "0x010802",
            "run `nvme-user bind 0000:01:00.0`",
        ),
    ):
        (device / "class").write_text(number + "\n")
        with pytest.raises(DeviceAccessError, match=said):
            open_access("0000:01:00.0")
