"""``list``: the NVMe controllers of this machine. Nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pynvme_user.cli.device import command
from pynvme_user.cli.output import JSON, NORMAL, Page, output_option
from pynvme_user.errors import NvmeError
from pynvme_user.spec.text import printable
from pynvme_user.tables import aligned

if TYPE_CHECKING:
    from pynvme_user.host.pci import PciDevice

_COLUMNS = ("Address", "Model", "Serial", "Driver", "IOMMU group", "NUMA node", "Used by")


@command("list", "nvme-user list -o json")
@output_option(NORMAL, JSON)
def list_controllers(output_format: str) -> None:
    """List the machine's NVMe controllers. No device is opened or disturbed."""
    from pynvme_user.host.pci import devices

    found = devices()
    Page(normal=lambda: _table(found), json=lambda: _json(found)).show(output_format)


def _table(devices: list[PciDevice]) -> Iterator[str]:
    if not devices:
        yield (
            "This machine has no NVMe controller on PCI; "
            "'qemu:disk.img?size=1G' names an emulated one."
        )
        return
    rows = [_COLUMNS, *(tuple(_cell(value) for value in _values(d)) for d in devices)]
    yield from aligned(rows, "<" * len(_COLUMNS))


def _values(device: PciDevice) -> tuple[str | int | None, ...]:
    model = device.model or f"{device.vendor_id:04x}:{device.device_id:04x}"
    if device.physical_function is not None:
        model += f", virtual function of {device.physical_function}"
    return (
        device.address,
        model,
        device.serial,
        device.driver,
        device.iommu_group,
        device.numa_node,
        ", ".join(_users(device)) or None,
    )


def _users(device: PciDevice) -> list[str]:
    """Say who uses a device, or why that is not known: it may go while it is looked at."""
    try:
        return [str(holder) for holder in device.holders]
    except NvmeError as error:
        return [f"error: {error}"]


def _members(device: PciDevice) -> list[str]:
    try:
        return device.group_members
    except NvmeError:
        return []


def _cell(value: str | int | None) -> str:
    return "-" if value is None else printable(str(value))


def _json(devices: list[PciDevice]) -> object:
    return {
        "Devices": [
            {
                "Address": device.address,
                "Transport": "pcie",
                "VendorID": device.vendor_id,
                "DeviceID": device.device_id,
                "ModelNumber": device.model,
                "SerialNumber": device.serial,
                "Firmware": device.firmware,
                "Driver": device.driver,
                "IommuGroup": device.iommu_group,
                "IommuGroupMembers": _members(device),
                "NumaNode": device.numa_node,
                "PhysicalFunction": device.physical_function,
                "UsedBy": _users(device),
            }
            for device in devices
        ]
    }
