"""The kernel's ioctls for VFIO (linux/vfio.h) and iommufd (linux/iommufd.h), as ctypes structures.

Names, sizes and numbers are the kernel's; a test compiles its headers and compares. Left out is
what a PCI device behind a type-1 IOMMU does not need: migration, platform devices, sPAPR.
"""

from __future__ import annotations

import ctypes
import fcntl
from collections.abc import Iterator
from ctypes import c_int32, c_uint16, c_uint32, c_uint64

_TYPE = ord(";") << 8  # _IO(';', n) carries neither a direction nor a size


def _vfio(number: int) -> int:
    return _TYPE | 100 + number


# The container, /dev/vfio/vfio
VFIO_API_VERSION = 0
VFIO_TYPE1v2_IOMMU = 3
VFIO_NOIOMMU_IOMMU = 8
VFIO_GET_API_VERSION = _vfio(0)
VFIO_CHECK_EXTENSION = _vfio(1)
VFIO_SET_IOMMU = _vfio(2)
VFIO_IOMMU_GET_INFO = _vfio(12)
VFIO_IOMMU_MAP_DMA = _vfio(13)
VFIO_IOMMU_UNMAP_DMA = _vfio(14)
VFIO_IOMMU_INFO_PGSIZES = 1 << 0
VFIO_IOMMU_INFO_CAPS = 1 << 1
VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1
VFIO_DMA_MAP_FLAG_READ = 1 << 0
VFIO_DMA_MAP_FLAG_WRITE = 1 << 1

# A group, /dev/vfio/N
VFIO_GROUP_GET_STATUS = _vfio(3)
VFIO_GROUP_SET_CONTAINER = _vfio(4)
VFIO_GROUP_GET_DEVICE_FD = _vfio(6)
VFIO_GROUP_FLAGS_VIABLE = 1 << 0
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1

# A device
VFIO_DEVICE_GET_REGION_INFO = _vfio(8)
VFIO_DEVICE_GET_IRQ_INFO = _vfio(9)
VFIO_DEVICE_SET_IRQS = _vfio(10)
VFIO_DEVICE_RESET = _vfio(11)
VFIO_DEVICE_BIND_IOMMUFD = _vfio(18)
VFIO_DEVICE_ATTACH_IOMMUFD_PT = _vfio(19)
VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3
VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1
VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3
VFIO_PCI_REQ_IRQ_INDEX = 4

# iommufd, /dev/iommu
IOMMU_IOAS_ALLOC = _TYPE | 0x81
IOMMU_IOAS_IOVA_RANGES = _TYPE | 0x84
IOMMU_IOAS_MAP = _TYPE | 0x85
IOMMU_IOAS_UNMAP = _TYPE | 0x86
IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0
IOMMU_IOAS_MAP_WRITEABLE = 1 << 1
IOMMU_IOAS_MAP_READABLE = 1 << 2


class vfio_info_cap_header(ctypes.Structure):
    """Heads each capability of an info structure."""

    _fields_ = [("id", c_uint16), ("version", c_uint16), ("next", c_uint32)]


class vfio_group_status(ctypes.Structure):
    """Whether all devices of a group are out of kernel drivers' hands."""

    _fields_ = [("argsz", c_uint32), ("flags", c_uint32)]


class vfio_iommu_type1_info(ctypes.Structure):
    """Page sizes and, as capabilities, the IOVA ranges of a container."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("iova_pgsizes", c_uint64),
        ("cap_offset", c_uint32),
        ("pad", c_uint32),
    ]


class vfio_iommu_type1_dma_map(ctypes.Structure):
    """Map ``size`` bytes at ``vaddr`` here to ``iova`` there."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("vaddr", c_uint64),
        ("iova", c_uint64),
        ("size", c_uint64),
    ]


class vfio_iommu_type1_dma_unmap(ctypes.Structure):
    """Unmap; ``size`` comes back as what was unmapped."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("iova", c_uint64),
        ("size", c_uint64),
    ]


class vfio_region_info(ctypes.Structure):
    """Where a region lies in the device's file."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("cap_offset", c_uint32),
        ("size", c_uint64),
        ("offset", c_uint64),
    ]


class vfio_irq_info(ctypes.Structure):
    """How many interrupts of a kind there are."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("count", c_uint32),
    ]


class vfio_irq_set(ctypes.Structure):
    """Arm, disarm or unmask interrupts; followed by ``count`` eventfds (s32)."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("index", c_uint32),
        ("start", c_uint32),
        ("count", c_uint32),
    ]


class vfio_device_bind_iommufd(ctypes.Structure):
    """Give a device opened by its cdev to an iommufd."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("iommufd", c_int32),
        ("out_devid", c_uint32),
    ]


class vfio_device_attach_iommufd_pt(ctypes.Structure):
    """Attach a bound device to an address space."""

    _fields_ = [("argsz", c_uint32), ("flags", c_uint32), ("pt_id", c_uint32)]


class iommu_ioas_alloc(ctypes.Structure):
    """Make an I/O address space."""

    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("out_ioas_id", c_uint32)]


class iommu_iova_range(ctypes.Structure):
    """A range of usable IOVAs, ``last`` included; vfio_iova_range is the same."""

    _fields_ = [("start", c_uint64), ("last", c_uint64)]


class iommu_ioas_iova_ranges(ctypes.Structure):
    """Ask an address space for its usable ranges."""

    _fields_ = [
        ("size", c_uint32),
        ("ioas_id", c_uint32),
        ("num_iovas", c_uint32),
        ("reserved", c_uint32),
        ("allowed_iovas", c_uint64),
        ("out_iova_alignment", c_uint64),
    ]


class iommu_ioas_map(ctypes.Structure):
    """Map ``length`` bytes at ``user_va`` here to ``iova`` there."""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("ioas_id", c_uint32),
        ("reserved", c_uint32),
        ("user_va", c_uint64),
        ("length", c_uint64),
        ("iova", c_uint64),
    ]


class iommu_ioas_unmap(ctypes.Structure):
    """Unmap; ``length`` comes back as what was unmapped."""

    _fields_ = [
        ("size", c_uint32),
        ("ioas_id", c_uint32),
        ("iova", c_uint64),
        ("length", c_uint64),
    ]


def call(fd: int, request: int, argument: ctypes.Structure) -> None:
    """Issue an ioctl that reads and writes ``argument`` in place.

    The structure's first member, ``argsz`` or ``size``, is filled in here. Raises OSError.
    """
    c_uint32.from_buffer(argument).value = ctypes.sizeof(argument)
    fcntl.ioctl(fd, request, argument, True)


def call_with_capabilities(fd: int, request: int, argument: ctypes.Structure) -> bytes:
    """Issue an info ioctl as :func:`call` does; return the info with its capabilities behind it.

    The kernel says by ``argsz`` how much room they take, so it is asked twice. Raises OSError.
    """
    call(fd, request, argument)
    needed = c_uint32.from_buffer(argument).value
    buffer = bytearray(argument) + bytes(max(0, needed - ctypes.sizeof(argument)))
    c_uint32.from_buffer(buffer).value = len(buffer)
    fcntl.ioctl(fd, request, buffer, True)
    return bytes(buffer)


def capabilities(info: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Yield the id of each capability of an info structure and where its contents begin.

    ``offset`` is the structure's ``cap_offset``; 0 ends the chain. Raises ValueError for a chain
    that leaves the structure or turns back: the kernel only ever appends.
    """
    size = ctypes.sizeof(vfio_info_cap_header)
    while offset:
        if offset + size > len(info):
            raise ValueError(f"a VFIO capability at {offset} of {len(info)} bytes")
        header = vfio_info_cap_header.from_buffer_copy(info, offset)
        yield header.id, offset + size
        if header.next and header.next <= offset:
            raise ValueError(f"the VFIO capability at {offset} is followed by {header.next}")
        offset = header.next


def range_array(info: bytes, offset: int) -> list[tuple[int, int]]:
    """Read a count (u32), padding (u32), then so many pairs of u64: ranges or mmap areas."""
    count = c_uint32.from_buffer_copy(info, offset).value
    pairs = (c_uint64 * (2 * count)).from_buffer_copy(info, offset + 8)
    return list(zip(pairs[::2], pairs[1::2], strict=True))
