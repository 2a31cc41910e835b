"""VFIO as Linux 6.6 and later have it too: the device's own node, in an iommufd's address space.

The kernel binds a device to one iommufd at a time, and that is the claim on the device.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from pynvme_user import owned
from pynvme_user.access import ioctl
from pynvme_user.access.vfio_group import (
    blockers,
    no_remapping,
    not_viable,
    open_node,
    token_error,
)
from pynvme_user.errors import DeviceAccessError, NvmeError
from pynvme_user.host.sysfs import PciFunction, busy, holders

_IOMMUFD = Path("/dev/iommu")


def usable(function: PciFunction) -> bool:
    """Whether this kernel offers the device in this way, to this user."""
    node = function.vfio_cdev
    return node is not None and all(os.access(path, os.R_OK | os.W_OK) for path in (node, _IOMMUFD))


class VfioCdev:
    """A device opened by its own node: ``device`` is its descriptor, ``space`` its IOVAs."""

    def __init__(self, function: PciFunction) -> None:
        """Open it. Raises DeviceAccessError with the remedy, DeviceBusyError with the holder."""
        name = f"vfio:{function.bdf}"
        node = function.vfio_cdev
        if node is None:
            raise DeviceAccessError(
                f"{name}: this kernel has no VFIO device nodes for iommufd (Linux 6.6 with "
                "CONFIG_VFIO_DEVICE_CDEV): leave iommufd out of the device's name"
            )
        with owned.Undo() as undo:
            self.device = open_node(name, node)
            undo.callback(owned.close, self.device)
            iommufd = open_node(name, _IOMMUFD)
            undo.callback(owned.close, iommufd)
            request = ioctl.vfio_device_bind_iommufd(iommufd=iommufd)
            try:
                ioctl.call(self.device, ioctl.VFIO_DEVICE_BIND_IOMMUFD, request)
            except OSError as error:
                undo.close()  # so that whoever still has it open is not us
                raise _bind_error(function, node, error) from error
            self.space = IoasSpace(iommufd, self.device, name)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Close the device, which unbinds it, and its iommufd."""
        self._undo.close()


class IoasSpace:
    """An I/O address space (IOAS) of an iommufd, with one device attached."""

    def __init__(self, iommufd: int, device: int, name: str) -> None:
        self._iommufd = iommufd
        request = ioctl.iommu_ioas_alloc()
        try:
            ioctl.call(iommufd, ioctl.IOMMU_IOAS_ALLOC, request)
            self._ioas = int(request.out_ioas_id)
            attach = ioctl.vfio_device_attach_iommufd_pt(pt_id=self._ioas)
            ioctl.call(device, ioctl.VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach)
        except OSError as error:
            raise DeviceAccessError(
                f"{name} cannot be attached to an iommufd address space ({error.strerror}): "
                "see `dmesg`, or use its group (iommufd=0 in the device's name)"
            ) from error

    def ranges(self) -> list[tuple[int, int]]:
        """Tell the (first, last) IOVAs that can be mapped."""
        request = ioctl.iommu_ioas_iova_ranges(ioas_id=self._ioas)
        count = 16  # more than any IOMMU has; the kernel says if not
        while True:
            found = (ioctl.iommu_iova_range * count)()
            request.num_iovas = count
            request.allowed_iovas = ctypes.addressof(found)
            try:
                ioctl.call(self._iommufd, ioctl.IOMMU_IOAS_IOVA_RANGES, request)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                count = int(request.num_iovas)
            else:
                return [(item.start, item.last) for item in found[: request.num_iovas]]

    def map(self, address: int, length: int, iova: int) -> None:
        """Pin memory and let the device read and write it. Raises OSError."""
        request = ioctl.iommu_ioas_map(
            flags=ioctl.IOMMU_IOAS_MAP_FIXED_IOVA
            | ioctl.IOMMU_IOAS_MAP_WRITEABLE
            | ioctl.IOMMU_IOAS_MAP_READABLE,
            ioas_id=self._ioas,
            user_va=address,
            length=length,
            iova=iova,
        )
        ioctl.call(self._iommufd, ioctl.IOMMU_IOAS_MAP, request)

    def unmap(self, iova: int, length: int) -> int:
        """Undo :meth:`map`; return how many bytes were unmapped. Raises OSError."""
        request = ioctl.iommu_ioas_unmap(ioas_id=self._ioas, iova=iova, length=length)
        ioctl.call(self._iommufd, ioctl.IOMMU_IOAS_UNMAP, request)
        return int(request.length)


def _bind_error(function: PciFunction, node: Path, error: OSError) -> NvmeError:
    # Any process may open the node, and the kernel refuses the second to bind it with EINVAL, or
    # EBUSY if its group is open; EPERM is for a group that is not viable, and for interrupts.
    name = f"vfio:{function.bdf}"
    group = Path("/dev/vfio", str(function.iommu_group))
    if any(any(holders(path)) for path in (node, group)):
        return busy(name, node, group)
    if blockers(function):
        return not_viable(function)
    if error.errno == errno.EPERM:
        return no_remapping(name, "iommufd")
    if error.errno == errno.EACCES:
        return token_error(function)
    return DeviceAccessError(
        f"{name} cannot be bound to an iommufd ({error.strerror}): close it where else it is open, "
        "or use its group (iommufd=0 in the device's name)"
    )
