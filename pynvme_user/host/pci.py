"""The machine's NVMe controllers, as sysfs and udev know them, and their coming and going.

Nothing is opened.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynvme_user.errors import DeviceAccessError, DeviceNameError
from pynvme_user.host import remedies
from pynvme_user.host.holders import Holder, holders
from pynvme_user.host.sysfs import PCI_ADDRESS, PciFunction, pci_address

#: Mass storage, non-volatile memory, NVMe I/O controller (NVMe over PCIe Transport 1.0, 3.8.1).
_CLASS = "10802"
#: Where udevd listens; without it, the kernel's own events are all there is.
_UDEV = Path("/run/udev/control")
_KERNEL_NAME = re.compile(r"/dev/.*|(?:nvme|ng)\d\w*", re.DOTALL)
_NAME = re.compile(rf"(?:(vfio|uio):)?({PCI_ADDRESS})(?:\?.*)?", re.IGNORECASE)


@dataclass(frozen=True)
class PciDevice:
    """An NVMe controller on PCI; None for what the kernel does not tell.

    ``serial`` and ``firmware`` are known only while the kernel's nvme driver has the controller;
    ``model`` is then its own, and otherwise what udev's database calls it.
    """

    address: str
    vendor_id: int
    device_id: int
    model: str | None
    serial: str | None
    firmware: str | None
    driver: str | None
    iommu_group: int | None
    numa_node: int | None
    #: The address of the physical function where this is a virtual function of it (SR-IOV).
    physical_function: str | None = None

    @property
    def group_members(self) -> list[str]:
        """The addresses of all functions in its IOMMU group, its own included; read now."""
        return [member.bdf for member in PciFunction(self.address).group_members]

    @property
    def holders(self) -> list[Holder]:
        """Who uses it: mounts, swap, stacked devices, processes; found now."""
        return holders(self.address)


@dataclass(frozen=True, slots=True)
class PciEvent:
    """That an NVMe controller came (``add``), went (``remove``), or changed its driver.

    ``action`` is "add", "remove", "bind" or "unbind"; ``driver`` is the one that it has after
    that, where the event tells.
    """

    action: str
    address: str
    driver: str | None


def watch_devices(timeout: float | None = None) -> Iterator[PciEvent]:
    """Listen from now on, and yield the coming and going of NVMe controllers on PCI.

    Ends when none came for ``timeout`` seconds; without that, never.
    """
    pyudev = _pyudev()
    source = "udev" if _UDEV.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
    # Here, and not in the generator, which would begin to listen only when first asked. Without
    # filter_by(): what that drops of the kernel's events looks like a timeout.
    monitor.start()
    return _events(monitor, timeout)


def _events(monitor: Any, timeout: float | None) -> Iterator[PciEvent]:
    last = time.monotonic()
    while True:
        left = None if timeout is None else max(0.0, last + timeout - time.monotonic())
        device = monitor.poll(left)
        if device is None:
            return
        if (
            device.subsystem == "pci"
            and device.action in ("add", "remove", "bind", "unbind")
            and device.properties.get("PCI_CLASS") == _CLASS
        ):
            yield PciEvent(device.action, device.sys_name, device.properties.get("DRIVER"))
            last = time.monotonic()


def parse_name(name: str) -> tuple[str | None, str]:
    """Split the name of a PCI device into "vfio", "uio" or None, and its whole address.

    Raises DeviceNameError.
    """
    match = _NAME.fullmatch(name)
    address = match and pci_address(match[2])
    if match is None or address is None:
        raise name_error(
            name, "is not a PCI device: write 0000:01:00.0, or vfio:0000:01:00.0, or uio:..."
        )
    return match[1] and match[1].lower(), address


def name_error(name: str, what: str) -> DeviceNameError:
    """Make the error of a name that is no device's; ``what`` says what is wrong with others."""
    if _KERNEL_NAME.fullmatch(name):
        what = (
            "is the kernel's name of a device, which has a PCI address here: "
            "`nvme-user list` shows it"
        )
    return DeviceNameError(f"{name!r} {what}")


def _pyudev() -> Any:
    """Import what knows udev's database. Raises DeviceAccessError where udev's library is not."""
    try:
        import pyudev
    except ImportError as error:
        command = remedies.as_root("apt-get install libudev1")
        raise DeviceAccessError(f"{error}: run `{command}`") from None
    return pyudev


def devices() -> list[PciDevice]:
    """Find the machine's NVMe controllers on PCI, in the order of their addresses.

    Nothing is opened or disturbed. Raises DeviceAccessError where udev's library is missing.
    """
    pyudev = _pyudev()
    found = []
    for device in pyudev.Context().list_devices(subsystem="pci", PCI_CLASS=_CLASS):
        with suppress(DeviceAccessError):  # it has gone since
            found.append(_describe(device))
    return sorted(found, key=lambda device: device.address)


def _describe(device: Any) -> PciDevice:
    """Gather what is known of one ``pyudev.Device``."""
    path = Path(device.sys_path)
    vendor_id, device_id = (int(word, 16) for word in device.properties["PCI_ID"].split(":"))
    kernel = next(path.glob("nvme/nvme*"), path / "nvme")
    group = path / "iommu_group"
    function = PciFunction(device.sys_name)
    return PciDevice(
        address=device.sys_name,
        vendor_id=vendor_id,
        device_id=device_id,
        model=_text(kernel / "model") or device.properties.get("ID_MODEL_FROM_DATABASE"),
        serial=_text(kernel / "serial"),
        firmware=_text(kernel / "firmware_rev"),
        driver=device.driver,
        iommu_group=int(group.readlink().name) if group.is_symlink() else None,
        numa_node=function.numa_node,
        physical_function=function.physical_function,
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="latin-1").strip(" \n\0") or None
    except OSError:
        return None
