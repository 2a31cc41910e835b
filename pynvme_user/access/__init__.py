"""The ways to a device: one file each behind the seam of :mod:`pynvme_user.access.base`."""

from __future__ import annotations

from pynvme_user.access.base import Access
from pynvme_user.errors import DeviceNameError

NAMES = "a device is named 'qemu:', 'qemu:disk.img?size=1G' or 'qemu:disk.img'"


def open_access(name: str) -> Access:
    """Open the device of that name.

    Raises DeviceNameError if the name does not parse, DeviceAccessError if there is no such
    device or it cannot be opened, DeviceBusyError if somebody else has it.
    """
    scheme, colon, rest = name.partition(":")
    # Imported here: an access may need what is not on every machine.
    match scheme if colon else "":
        case "qemu":
            from pynvme_user.access.qtest import QtestAccess

            return QtestAccess(rest)
    raise DeviceNameError(f"{name!r} is not a device name: {NAMES}")
