"""The vfio-user protocol's messages, version 0.1, as ctypes structures.

The protocol carries VFIO's requests over a stream socket, with descriptors beside them: the
structures that are the kernel's own (regions, interrupts) are in :mod:`ioctl`. Names are those
of the protocol's specification (QEMU, docs/interop/vfio-user.rst). Left out: migration, dirty
page tracking, ioregionfd.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint16, c_uint32, c_uint64
from enum import IntEnum

MAJOR, MINOR = 0, 1

#: What a peer may assume before, or without, negotiation.
DEFAULT_MAX_MSG_FDS = 1
DEFAULT_MAX_DATA_XFER_SIZE = 1 << 20

FLAGS_TYPE = 0xF
FLAGS_COMMAND = 0
FLAGS_REPLY = 1
FLAGS_NO_REPLY = 1 << 4
FLAGS_ERROR = 1 << 5

DEVICE_FLAGS_PCI = 1 << 1

DMA_REGION_READ = 1 << 0
DMA_REGION_WRITE = 1 << 1


class Command(IntEnum):
    """What a message asks for."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11  # this one and the next are the server's
    DMA_WRITE = 12
    DEVICE_RESET = 13


class Header(ctypes.Structure):
    """Heads each message; ``size`` includes it."""

    _fields_ = [
        ("id", c_uint16),
        ("command", c_uint16),
        ("size", c_uint32),
        ("flags", c_uint32),
        ("error", c_uint32),
    ]


class Version(ctypes.Structure):
    """Followed by the capabilities as JSON, which ends in a zero byte."""

    _fields_ = [("major", c_uint16), ("minor", c_uint16)]


class DmaMap(ctypes.Structure):
    """``size`` bytes from ``offset`` of the passed descriptor on appear at ``address``."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("offset", c_uint64),
        ("address", c_uint64),
        ("size", c_uint64),
    ]


class DmaUnmap(ctypes.Structure):
    """Undo a DmaMap of the same address and size."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("address", c_uint64),
        ("size", c_uint64),
    ]


class DeviceInfo(ctypes.Structure):
    """How many regions and kinds of interrupts there are."""

    _fields_ = [
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("num_regions", c_uint32),
        ("num_irqs", c_uint32),
    ]


class RegionAccess(ctypes.Structure):
    """Read or write ``count`` bytes of a region; followed by them where they travel."""

    _fields_ = [("offset", c_uint64), ("region", c_uint32), ("count", c_uint32)]


class DmaAccess(ctypes.Structure):
    """The server reads or writes our memory; followed by the bytes where they travel."""

    _fields_ = [("address", c_uint64), ("count", c_uint64)]


HEADER_SIZE = ctypes.sizeof(Header)
