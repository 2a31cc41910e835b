"""VFIO as it has always been: a device's group, in a container with a type-1 IOMMU.

The kernel opens a group for one process at a time, and that is the claim on the device.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from pynvme_user import owned
from pynvme_user.access import ioctl
from pynvme_user.errors import DeviceAccessError, NvmeError
from pynvme_user.host.sysfs import PciFunction, busy

_CONTAINER = Path("/dev/vfio/vfio")
#: Before Linux 5.4 no ranges were reported. What any IOMMU with 39-bit addresses can do.
_RANGES_UNTOLD = [(0, (1 << 39) - 1)]


class VfioGroup:
    """A device opened through its group. ``device`` is its descriptor.

    ``space`` is the container's address space; None for a group of the no-IOMMU mode.
    """

    def __init__(self, function: PciFunction, vf_token: str | None = None) -> None:
        """Open it, with the token that a physical function and its virtual functions share.

        Raises DeviceAccessError with the remedy, DeviceBusyError with the holder.
        """
        name = f"vfio:{function.bdf}"
        noiommu = function.is_noiommu
        node = Path("/dev/vfio", f"{'noiommu-' * noiommu}{function.iommu_group}")
        with owned.Undo() as undo:
            group = open_node(name, node, function.vfio_cdev)
            undo.callback(owned.close, group)
            _check_viable(function, group)
            container = open_node(name, _CONTAINER)
            undo.callback(owned.close, container)
            self.space = None if noiommu else Type1Space(container)
            _set_iommu(name, container, group, noiommu)
            try:
                # A mutable argument, because with bytes Python returns those, not the descriptor.
                token = "" if vf_token is None else f" vf_token={vf_token}"
                wanted = bytearray(f"{function.bdf}{token}\0".encode())
                self.device = owned.descriptor(
                    fcntl.ioctl, group, ioctl.VFIO_GROUP_GET_DEVICE_FD, wanted, True
                )
            except OSError as error:
                if error.errno == errno.EACCES:
                    raise token_error(function) from error
                if error.errno == errno.EINVAL and vf_token is not None:
                    raise DeviceAccessError(
                        f"{name} takes no vf_token: that is for a virtual function whose physical "
                        "function vfio-pci has, and for that one; leave it out"
                    ) from error
                raise DeviceAccessError(
                    f"{name} could not be opened in its group ({error.strerror}): if it is being "
                    "removed, wait for it to come back"
                ) from error
            undo.callback(owned.close, self.device)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Close the device, its container and its group."""
        self._undo.close()


class Type1Space:
    """The address space of a container (VFIO_TYPE1v2_IOMMU)."""

    def __init__(self, container: int) -> None:
        self._container = container

    def ranges(self) -> list[tuple[int, int]]:
        """Tell the (first, last) IOVAs that can be mapped."""
        data = ioctl.call_with_capabilities(
            self._container, ioctl.VFIO_IOMMU_GET_INFO, ioctl.vfio_iommu_type1_info()
        )
        info = ioctl.vfio_iommu_type1_info.from_buffer_copy(data)
        if info.flags & ioctl.VFIO_IOMMU_INFO_CAPS:
            for kind, offset in ioctl.capabilities(data, info.cap_offset):
                if kind == ioctl.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
                    return ioctl.range_array(data, offset)
        return _RANGES_UNTOLD

    def map(self, address: int, length: int, iova: int) -> None:
        """Pin memory and let the device read and write it. Raises OSError."""
        flags = ioctl.VFIO_DMA_MAP_FLAG_READ | ioctl.VFIO_DMA_MAP_FLAG_WRITE
        request = ioctl.vfio_iommu_type1_dma_map(flags=flags, vaddr=address, iova=iova, size=length)
        ioctl.call(self._container, ioctl.VFIO_IOMMU_MAP_DMA, request)

    def unmap(self, iova: int, length: int) -> int:
        """Undo :meth:`map`; return how many bytes were unmapped. Raises OSError."""
        request = ioctl.vfio_iommu_type1_dma_unmap(iova=iova, size=length)
        ioctl.call(self._container, ioctl.VFIO_IOMMU_UNMAP_DMA, request)
        return int(request.size)


def open_node(name: str, node: Path, rival: Path | None = None) -> int:
    """Open a device node; return its descriptor, for owned.close().

    Each way to fail gets its own remedy. ``rival`` is another node of the device that keeps
    this one from being opened.
    """
    try:
        return owned.descriptor(os.open, node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(name, node, rival, error) from error


def _refusal(name: str, node: Path, rival: Path | None, error: OSError) -> NvmeError:
    """Tell why a node cannot be opened, and the remedy."""
    match error.errno:
        case errno.EBUSY:
            return busy(name, node, *([rival] if rival else []))
        case errno.EACCES:
            return DeviceAccessError(
                f"{name}: this user may not open {node}: run `sudo chown $USER {node}` (for good, "
                f'a udev rule: SUBSYSTEM=="vfio", OWNER="{os.environ.get("USER", "NAME")}")'
            )
        case errno.EPERM:
            return DeviceAccessError(
                f"{name}: {node} may be opened only with CAP_SYS_RAWIO, since no IOMMU protects "
                "this machine from the device: run as root"
            )
        case errno.ENOENT | errno.ENODEV:
            return DeviceAccessError(
                f"{name}: {node} is not there: run `sudo modprobe vfio-pci`, and where this is a "
                "container, give it the device node"
            )
    return DeviceAccessError(f"{name}: {node} cannot be opened ({error.strerror}): see `dmesg`")


def _check_viable(function: PciFunction, group: int) -> None:
    status = ioctl.vfio_group_status()
    ioctl.call(group, ioctl.VFIO_GROUP_GET_STATUS, status)
    if not status.flags & ioctl.VFIO_GROUP_FLAGS_VIABLE:
        raise not_viable(function)


def token_error(function: PciFunction) -> DeviceAccessError:
    """Make the error for a virtual function, or a physical one, without the token of both."""
    name, physical = f"vfio:{function.bdf}", function.physical_function
    if physical is None:
        return DeviceAccessError(
            f"{name} has virtual functions in use with another vf_token than this: open it as "
            f"{name}?vf_token=UUID, with theirs"
        )
    return DeviceAccessError(
        f"{name} is a virtual function of {physical}, which vfio-pci has with another vf_token: "
        f"choose a UUID, open vfio:{physical}?vf_token=UUID, then {name}?vf_token=UUID, the same"
    )


def blockers(function: PciFunction) -> list[PciFunction]:
    """Find the members of its group that kernel drivers have, which blocks the whole group."""
    # The kernel does not mind members without a driver, or with one that does no DMA.
    harmless = (None, "pcieport", "pci-stub")
    return [
        member
        for member in function.group_members
        if member.driver not in harmless and "vfio" not in str(member.driver)
    ]


def not_viable(function: PciFunction) -> DeviceAccessError:
    """Make the error for a group of which kernel drivers still have a part; it names that part."""
    others = blockers(function)
    names = ", ".join(f"{other.bdf} (driver {other.driver})" for other in others)
    commands = "; ".join(
        f"echo {other.bdf} | sudo tee {other.path}/driver/unbind" for other in others
    )
    return DeviceAccessError(
        f"vfio:{function.bdf} shares IOMMU group {function.iommu_group} with "
        f"{names or 'a device that the kernel uses'}, and the kernel hands out only whole "
        f"groups: run `{commands or 'nvme-user doctor'}`, or use another slot"
    )


def no_remapping(name: str, module: str) -> DeviceAccessError:
    """Make the error for an IOMMU that does not remap interrupts; ``module`` is who refused."""
    return DeviceAccessError(
        f"{name}: this IOMMU does not remap interrupts, so that a device could forge them: enable "
        "interrupt remapping in the firmware, or accept the risk by "
        f"`echo 1 | sudo tee /sys/module/{module}/parameters/allow_unsafe_interrupts`"
    )


def _set_iommu(name: str, container: int, group: int, noiommu: bool) -> None:
    kind = ioctl.VFIO_NOIOMMU_IOMMU if noiommu else ioctl.VFIO_TYPE1v2_IOMMU
    version = fcntl.ioctl(container, ioctl.VFIO_GET_API_VERSION)
    if version != ioctl.VFIO_API_VERSION:
        raise DeviceAccessError(f"{name}: this kernel's VFIO has the unknown version {version}")
    if not fcntl.ioctl(container, ioctl.VFIO_CHECK_EXTENSION, kind):
        raise DeviceAccessError(
            f"{name}: the kernel has no type-1 IOMMU for VFIO: run `sudo modprobe vfio_iommu_type1`"
        )
    try:
        fcntl.ioctl(group, ioctl.VFIO_GROUP_SET_CONTAINER, ctypes.c_int32(container))
        fcntl.ioctl(container, ioctl.VFIO_SET_IOMMU, kind)
    except OSError as error:
        if error.errno == errno.EPERM and not noiommu:
            raise no_remapping(name, "vfio_iommu_type1") from error
        raise DeviceAccessError(
            f"{name}: its group cannot be given an IOMMU ({error.strerror}): see `dmesg`"
        ) from error
