"""Device names: which transport and access a name stands for, and opening it."""

from __future__ import annotations

import os
import re
from typing import TypeAlias
from urllib.parse import parse_qsl

from pynvme_user.access.base import Access
from pynvme_user.errors import DeviceAccessError, DeviceNameError
from pynvme_user.host.binding import is_nvm
from pynvme_user.host.pci import name_error
from pynvme_user.host.sysfs import PCI_ADDRESS, PciFunction, pci_address
from pynvme_user.transport.host_memory import DEFAULT as DEFAULT_HOST_MEMORY
from pynvme_user.transport.pcie import PcieTransport

NAMES = (
    "a device is named for example 0000:01:00.0, vfio:0000:01:00.0, uio:0000:01:00.0, "
    "vfio-user:/path/to/socket, qemu:disk.img?size=1G, soft:disk.img?size=1G, or qemu: for a "
    "temporary disk"
)

_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

#: A device's name, or a device that is open already, such as a SoftDevice.
Openable: TypeAlias = str | Access


def open_transport(
    name: Openable, *, shadow_doorbells: bool = True, host_memory: int = DEFAULT_HOST_MEMORY
) -> PcieTransport:
    """Open the device of that name; as :func:`open_access`."""
    return PcieTransport(
        open_access(name), shadow_doorbells=shadow_doorbells, host_memory=host_memory
    )


def open_access(name: Openable) -> Access:
    """Open the device of that name; one that is open already stays itself.

    Raises DeviceNameError if the name does not parse, DeviceAccessError if there is no such
    device or it cannot be opened, DeviceBusyError if somebody else has it, TypeError for what is
    no str.
    """
    if isinstance(name, Access):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"a device name is a str, not {name!r}: for an image write 'qemu:disk.img', with "
            "its path"
        )
    try:
        nul = b"\0" in os.fsencode(name)
    except UnicodeEncodeError:
        raise DeviceNameError(f"{name!r} is not a device name, having a lone surrogate") from None
    if nul:
        raise DeviceNameError(f"{name!r} is not a device name, which has no NUL")
    # Each is imported where it is opened: one may need what is not on every machine.
    scheme, colon, rest = name.partition(":")
    match scheme if colon else None:
        case "qemu":
            from pynvme_user.access.qtest import QtestAccess

            return QtestAccess(rest)
        case "soft":
            from pynvme_user.testing.device import SoftDevice

            return SoftDevice(rest)
        case "vfio-user":
            from pynvme_user.access.vfio_user import VfioUserAccess

            return VfioUserAccess(rest)
        case "vfio" | "uio":
            return _open_pci(name, scheme, rest)
    if re.match(PCI_ADDRESS, name, re.IGNORECASE):
        return _open_pci(name, None, name)
    raise name_error(name, f"is not a device name: {NAMES}")


def _open_pci(name: str, scheme: str | None, rest: str) -> Access:
    address, _, query = rest.partition("?")
    bdf = pci_address(address)
    if bdf is None:
        raise DeviceNameError(f"{name!r}: {address!r} is not a PCI address such as 0000:01:00.0")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise DeviceNameError(f"{name!r}: write options as ?name=value&name=value") from None
    if scheme is None:
        scheme = _scheme_of(bdf)
    interrupts = options.pop("interrupts", None)
    if scheme == "uio":
        from pynvme_user.access.uio import UioAccess

        _refuse(name, interrupts not in (None, "intx"), "interrupts=intx is what UIO has")
        _refuse(name, bool(options), "interrupts is the only option")
        access: Access = UioAccess(bdf)
    else:
        from pynvme_user.access.vfio import INTERRUPTS, VfioAccess

        kinds = ", ".join(INTERRUPTS)
        _refuse(name, interrupts not in (None, *INTERRUPTS), f"interrupts is one of {kinds}")
        iommufd = options.pop("iommufd", None)
        _refuse(name, iommufd not in (None, "0", "1"), "iommufd is 0 or 1")
        vf_token = options.pop("vf_token", None)
        _refuse(
            name,
            vf_token is not None and not re.fullmatch(_UUID, vf_token),
            "vf_token is a UUID, as `uuidgen` prints one",
        )
        _refuse(
            name,
            vf_token is not None and iommufd == "1",
            "vf_token goes with the device's group: leave iommufd=1 out",
        )
        _refuse(name, bool(options), "the options are interrupts, iommufd and vf_token")
        access = VfioAccess(
            bdf,
            iommufd=None if iommufd is None else iommufd == "1",
            interrupts=interrupts,
            vf_token=vf_token,
        )
    access.interrupts_wanted = interrupts is not None
    return access


def _scheme_of(bdf: str) -> str:
    """Choose the access by the driver that the device is bound to."""
    function = PciFunction(bdf)
    driver = function.driver
    if driver is None or "vfio" in driver:
        return "vfio"  # which says what is missing, where it is bound to nothing
    if driver.startswith("uio"):
        return "uio"
    if not is_nvm(function):
        raise DeviceAccessError(
            f"{bdf} is no NVMe controller, and the kernel's driver {driver} has it: "
            "`nvme-user list` shows the NVMe controllers"
        )
    raise DeviceAccessError(
        f"{bdf} belongs to the kernel's driver {driver}: run `nvme-user bind {bdf}` "
        f"(`nvme-user restore {bdf}` gives it back)"
    )


def _refuse(name: str, wrong: bool, remedy: str) -> None:
    if wrong:
        raise DeviceNameError(f"{name!r}: {remedy}")
