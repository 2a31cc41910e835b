"""What sysfs and procfs tell of a PCI function, for opening it and for saying why it cannot be."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pynvme_user.errors import (
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    NvmeTimeoutError,
)
from pynvme_user.host.claim import process_name
from pynvme_user.host.machine import cpu_info

_DEVICES = Path("/sys/bus/pci/devices")
#: A PCI address, domain (0000 if left out), bus, device and function; as a regular expression
#: without groups, to be used with re.IGNORECASE.
PCI_ADDRESS = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"


def pci_address(text: str) -> str | None:
    """Return a PCI address as the kernel writes it; None for what is none."""
    if not re.fullmatch(PCI_ADDRESS, text, re.IGNORECASE):
        return None
    return text.lower() if text.count(":") > 1 else f"0000:{text}".lower()


class PciFunction:
    """A PCI function by its address. Nothing is kept: each property is read when asked for."""

    def __init__(self, bdf: str) -> None:
        """Raise DeviceNameError for a malformed address, DeviceAccessError if nothing is there."""
        if pci_address(bdf) != bdf:
            raise DeviceNameError(
                f"{bdf!r} is not a PCI address: write domain, bus, device and function in "
                "lower-case hexadecimal, as in 0000:01:00.0"
            )
        self.bdf = bdf
        self.path = _DEVICES / bdf
        if not self.path.exists():
            raise DeviceAccessError(
                f"there is no PCI device {bdf}: `nvme-user list` shows the controllers there are"
            )

    @property
    def driver(self) -> str | None:
        """The driver that it is bound to."""
        return _link(self.path / "driver")

    @property
    def iommu_group(self) -> str | None:
        """The number of its IOMMU group; None without an IOMMU."""
        return _link(self.path / "iommu_group")

    @property
    def group_members(self) -> list[PciFunction]:
        """All functions of its IOMMU group, itself included."""
        devices = (self.path / "iommu_group/devices").glob("*")
        return [PciFunction(path.name) for path in sorted(devices)]

    @property
    def is_noiommu(self) -> bool:
        """Whether its group is one of VFIO's no-IOMMU mode, which isolates nothing."""
        name = self.path / "iommu_group/name"
        return name.exists() and name.read_text().strip() == "vfio-noiommu"

    @property
    def is_translated(self) -> bool:
        """Whether an IOMMU translates its addresses while a kernel driver has it."""
        kind = self.path / "iommu_group/type"
        return kind.exists() and kind.read_text().startswith("DMA")

    @property
    def vfio_cdev(self) -> Path | None:
        """The device node for use with iommufd, where the kernel offers it."""
        # Linux 6.1 has the folder without the node, and so without its "dev".
        devices = [path.parent.name for path in (self.path / "vfio-dev").glob("vfio*/dev")]
        return Path("/dev/vfio/devices", devices[0]) if devices else None

    @property
    def uio_node(self) -> Path | None:
        """The device node of a UIO driver."""
        names = [path.name for path in (self.path / "uio").glob("uio*")]
        return Path("/dev", names[0]) if names else None

    @property
    def physical_function(self) -> str | None:
        """The address of the function whose virtual function it is (SR-IOV); None: of none."""
        return _link(self.path / "physfn")

    @property
    def numa_node(self) -> int | None:
        """The NUMA node that it is attached to, where the firmware told."""
        try:
            node = int((self.path / "numa_node").read_text())
        except OSError:
            return None  # a kernel without NUMA
        return node if node >= 0 else None  # the kernel writes -1 for none

    @property
    def resources(self) -> list[tuple[int, int, int]]:
        """For each BAR its first address, its size (0 if there is none) and its flags."""
        found = []
        for line in (self.path / "resource").read_text().splitlines()[:6]:
            start, end, flags = (int(word, 16) for word in line.split())
            found.append((start, end - start + 1 if end else 0, flags))
        return found


def holders(path: Path) -> Iterator[int]:
    """Find the processes that have a file open, as far as this user may see them."""
    for fd_dir in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):  # another user's process, or one that has ended
            if any(_leads_to(fd, path) for fd in fd_dir.iterdir()):
                yield int(fd_dir.parent.name)


def _leads_to(fd: Path, path: Path) -> bool:
    with suppress(FileNotFoundError):  # closed since it was listed, unlike those that come after it
        return os.readlink(fd) == str(path)
    return False


def busy(name: str, *nodes: Path) -> DeviceBusyError:
    """Make the error for a device of which somebody else has a node open; it names the holder."""
    for node in nodes:
        for holder in holders(node):
            who = f"process {holder} ({process_name(holder)})"
            if holder == os.getpid():
                who = "this process itself, for this device or another of its IOMMU group"
            return DeviceBusyError(f"{name} is in use by {who} ({node}): close it there", holder)
    return DeviceBusyError(
        f"{name} is in use by another user's process: run `sudo fuser -v {nodes[0]}` to see which"
    )


def iommu_off_message(bdf: str) -> str:
    """Say what to do where there is no IOMMU."""
    amd = cpu_info().get("vendor_id") == "AuthenticAMD"
    parameter = "amd_iommu=on" if amd else "intel_iommu=on"
    return (
        f"{bdf} has no IOMMU group, so the IOMMU is off: enable it in the firmware and boot with "
        f"the kernel parameter {parameter} (without an IOMMU, name the device uio:{bdf})"
    )


def call_with_deadline(function: Callable[[], object], seconds: float, what: str) -> None:
    """Call what the kernel may never return from; wait for it no longer than ``seconds``.

    Raises what the function raises, and NvmeTimeoutError; the call then goes on in its thread,
    which nothing can end.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NvmeTimeoutError(
            f"{what} did not end within {seconds:g} s: the kernel still waits for the device, "
            "so power-cycle it if `dmesg` shows no progress"
        )
    if failures:
        raise failures.pop()  # which would keep this frame, and it the error


def _link(path: Path) -> str | None:
    try:
        return path.readlink().name
    except OSError:
        return None
