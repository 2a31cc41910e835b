"""A userspace NVMe driver: Python on top, a small polled C core below.

``open("qemu:disk.img?size=1G")`` gives a :class:`Controller`; its ``namespaces`` are read and
written, its ``queue_pair()`` is for speed. The README has ten lines to begin with.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    ControllerWarning,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DeviceRemovedError,
    DmaError,
    ForkedError,
    NamespaceChangedError,
    NotSupportedError,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
    PartitionTableError,
    ProtectionError,
    QueueFullError,
    RpmbError,
    TensorFileError,
    UnsafeAccessWarning,
)

if TYPE_CHECKING:
    from pynvme_user.aio import AsyncController, AsyncNamespace, aopen
    from pynvme_user.dma import BytesLike, DmaBuffer
    from pynvme_user.driver.admin import AdminRequest, CommandFields
    from pynvme_user.driver.completion import Completion, Reaped, VectorResult
    from pynvme_user.driver.controller import Controller, open
    from pynvme_user.driver.events import Event, Events
    from pynvme_user.driver.features import FeatureValue
    from pynvme_user.driver.io_queue_pair import QueuePair
    from pynvme_user.driver.maintenance import Activation
    from pynvme_user.driver.metadata import AppendOptions, MetadataOptions, TransferOptions
    from pynvme_user.driver.namespace import MetadataNamespace, Namespace
    from pynvme_user.driver.registers import open_registers
    from pynvme_user.driver.rpmb import Rpmb
    from pynvme_user.driver.zns import Zones
    from pynvme_user.host.binding import bound
    from pynvme_user.host.numa import Placement
    from pynvme_user.host.pci import PciDevice, PciEvent, devices, watch_devices
    from pynvme_user.protection import Protection
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
    from pynvme_user.spec.features import FeatureId
    from pynvme_user.spec.identify import IdentifyNamespace, NamespaceIdentifiers
    from pynvme_user.spec.identify_controller import IdentifyController
    from pynvme_user.spec.identify_nvm import GuardFormat
    from pynvme_user.spec.protection import PRINFO, ProtectionType
    from pynvme_user.spec.status import (
        CommandSpecificStatus,
        GenericStatus,
        MediaStatus,
        PathStatus,
        Status,
    )
    from pynvme_user.transport.controller_memory import ControllerMemoryBuffer
    from pynvme_user.transport.persistent_memory import PersistentMemoryRegion
    from pynvme_user.views.tensors import TensorFile, TensorInfo

    #: Of the installed package.
    __version__: str

#: Where the names are that need numpy and the extension, which the command's help does without.
_HOMES = {
    "Activation": "driver.maintenance",
    "AdminOpcode": "spec.commands",
    "AdminRequest": "driver.admin",
    "AppendOptions": "driver.metadata",
    "AsyncController": "aio",
    "AsyncNamespace": "aio",
    "BytesLike": "dma",
    "Cns": "spec.admin",
    "CommandFields": "driver.admin",
    "CommandSpecificStatus": "spec.status",
    "Completion": "driver.completion",
    "Controller": "driver.controller",
    "ControllerMemoryBuffer": "transport.controller_memory",
    "DmaBuffer": "dma",
    "Event": "driver.events",
    "Events": "driver.events",
    "FeatureId": "spec.features",
    "FeatureValue": "driver.features",
    "GuardFormat": "spec.identify_nvm",
    "GenericStatus": "spec.status",
    "IdentifyController": "spec.identify_controller",
    "IdentifyNamespace": "spec.identify",
    "MediaStatus": "spec.status",
    "MetadataNamespace": "driver.namespace",
    "MetadataOptions": "driver.metadata",
    "Namespace": "driver.namespace",
    "NamespaceIdentifiers": "spec.identify",
    "NvmOpcode": "spec.commands",
    "PathStatus": "spec.status",
    "PciDevice": "host.pci",
    "PciEvent": "host.pci",
    "PersistentMemoryRegion": "transport.persistent_memory",
    "PRINFO": "spec.protection",
    "Placement": "host.numa",
    "Protection": "protection",
    "ProtectionType": "spec.protection",
    "QueuePair": "driver.io_queue_pair",
    "Rpmb": "driver.rpmb",
    "SQE": "spec.commands",
    "Status": "spec.status",
    "Reaped": "driver.completion",
    "TensorFile": "views.tensors",
    "TensorInfo": "views.tensors",
    "TransferOptions": "driver.metadata",
    "VectorResult": "driver.completion",
    "Zones": "driver.zns",
    "aopen": "aio",
    "bound": "host.binding",
    "devices": "host.pci",
    "open": "driver.controller",
    "open_registers": "driver.registers",
    "watch_devices": "host.pci",
}

__all__ = [
    "PRINFO",
    "SQE",
    "Activation",
    "AdminOpcode",
    "AdminRequest",
    "AppendOptions",
    "AsyncController",
    "AsyncNamespace",
    "BytesLike",
    "ClosedError",
    "Cns",
    "CommandFields",
    "CommandSpecificStatus",
    "Completion",
    "Controller",
    "ControllerFatalError",
    "ControllerMemoryBuffer",
    "ControllerWarning",
    "DeviceAccessError",
    "DeviceBusyError",
    "DeviceNameError",
    "DeviceRemovedError",
    "DmaBuffer",
    "DmaError",
    "Event",
    "Events",
    "FeatureId",
    "FeatureValue",
    "ForkedError",
    "GenericStatus",
    "GuardFormat",
    "IdentifyController",
    "IdentifyNamespace",
    "MediaStatus",
    "MetadataNamespace",
    "MetadataOptions",
    "Namespace",
    "NamespaceChangedError",
    "NamespaceIdentifiers",
    "NotSupportedError",
    "NvmOpcode",
    "NvmeError",
    "NvmeStatusError",
    "NvmeTimeoutError",
    "PartitionTableError",
    "PathStatus",
    "PciDevice",
    "PciEvent",
    "PersistentMemoryRegion",
    "Placement",
    "Protection",
    "ProtectionError",
    "ProtectionType",
    "QueueFullError",
    "QueuePair",
    "Reaped",
    "Rpmb",
    "RpmbError",
    "Status",
    "TensorFile",
    "TensorFileError",
    "TensorInfo",
    "TransferOptions",
    "UnsafeAccessWarning",
    "VectorResult",
    "Zones",
    "__version__",
    "aopen",
    "bound",
    "devices",
    "open",
    "open_registers",
    "watch_devices",
]

if not TYPE_CHECKING:  # which would believe that there is every name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            value = version(__name__)
        elif name in _HOMES:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
