"""A userspace NVMe driver: Python on top, a small polled C core below.

``open("qemu:disk.img?size=1G")`` gives a :class:`Controller`; its ``namespaces`` are read and
written, its ``queue_pair()`` is for speed. The README has ten lines to begin with.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pynvme_user.errors import (
    ClosedError,
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

if TYPE_CHECKING:
    from pynvme_user.binding import bound
    from pynvme_user.completion import Completion, VectorResult
    from pynvme_user.controller import Controller, open
    from pynvme_user.dma import DmaBuffer
    from pynvme_user.namespace import Namespace
    from pynvme_user.queue import QueuePair

#: Where the names are that need numpy and the extension, which the command's help does without.
_HOMES = {
    "Completion": "completion",
    "Controller": "controller",
    "DmaBuffer": "dma",
    "Namespace": "namespace",
    "QueuePair": "queue",
    "VectorResult": "completion",
    "bound": "binding",
    "open": "controller",
}

__all__ = [
    "ClosedError",
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
    "bound",
    "open",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
