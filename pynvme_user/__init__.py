"""A userspace NVMe driver: Python on top, a small polled C core below.

``open("qemu:disk.img?size=1G")`` gives a :class:`Controller`; its ``namespaces`` are read and
written, its ``queue_pair()`` is for speed. The README has ten lines to begin with.
"""

from pynvme_user.completion import Completion, VectorResult
from pynvme_user.controller import Controller, open
from pynvme_user.dma import DmaBuffer
from pynvme_user.errors import (
    ControllerFatalError,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DeviceRemovedError,
    DmaError,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.namespace import Namespace
from pynvme_user.queue import QueuePair

__all__ = [
    "Completion",
    "Controller",
    "ControllerFatalError",
    "DeviceAccessError",
    "DeviceBusyError",
    "DeviceNameError",
    "DeviceRemovedError",
    "DmaBuffer",
    "DmaError",
    "Namespace",
    "NvmeError",
    "NvmeStatusError",
    "NvmeTimeoutError",
    "QueueFullError",
    "QueuePair",
    "VectorResult",
    "open",
]
