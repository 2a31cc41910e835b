"""What the controller says of itself: Identify pages, and PCI configuration space."""

from __future__ import annotations

from pynvme_user.spec.admin import Cns
from pynvme_user.spec.identify import IdentifierType, IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import (
    OACS,
    ONCS,
    SGLS,
    ControllerType,
    EntrySizes,
    IdentifyController,
)
from pynvme_user.spec.registers import VS

PAGE = 4096
_AERL = 3  # _admin.c keeps four
CONFIG_SIZE = 4096
PCI_COMMAND = 0x04
_MSIX_AT = 0x40
_MSIX_BAR = 4
_UUID = bytes.fromhex("6e766d65757365728000000000000001")


def identify_pages(
    *, blocks: int, block_shift: int, mdts: int, shadow: bool, model: str
) -> list[tuple[int, bool, bytes]]:
    """Return (CNS, whether it is of namespace 1 alone, the 4096 bytes) of each page."""
    controller = IdentifyController.build(
        sn="1",
        mn=model,
        fr="1",
        mdts=mdts,
        ver=VS.build(mjr=2),
        cntrltype=ControllerType.IO,
        oacs=OACS.build(dbcs=shadow),
        aerl=_AERL,
        sqes=EntrySizes.build(min=6, max=6),
        cqes=EntrySizes.build(min=4, max=4),
        nn=1,
        oncs=ONCS.build(nvmcmps=1, nvmdsmsv=1, nvmwzsv=1, ssfs=1),
        sgls=SGLS.build(sgls=2),
        subnqn="nqn.2014-08.org.nvmexpress:uuid:6e766d65-7573-6572-8000-000000000001",
    )
    namespace = IdentifyNamespace.build(
        nsze=blocks,
        ncap=blocks,
        nuse=blocks,
        dlfeat=1,  # what was deallocated reads as zeros
        lbafs=(LbaFormat.build(ds=block_shift), *[LbaFormat.build()] * 63),
    )
    descriptor = bytes([IdentifierType.UUID, len(_UUID), 0, 0]) + _UUID
    return [
        (Cns.CONTROLLER, False, bytes(controller)),
        (Cns.NAMESPACE, True, bytes(namespace)),
        (Cns.ACTIVE_NAMESPACES, False, (1).to_bytes(4, "little").ljust(PAGE, b"\0")),
        (Cns.NAMESPACE_DESCRIPTORS, True, descriptor.ljust(PAGE, b"\0")),
    ]


def configuration_space(vectors: int) -> bytearray:
    """Make that of an NVMe controller with MSI-X (PCI Local Bus 3.0, section 6.1)."""
    space = bytearray(CONFIG_SIZE)
    space[0x06] = 0x10  # status: there are capabilities
    space[0x09:0x0C] = bytes([0x02, 0x08, 0x01])
    space[0x10] = 0x04  # BAR0 has 64 bits
    space[0x34] = _MSIX_AT
    space[_MSIX_AT] = 0x11
    space[_MSIX_AT + 2 : _MSIX_AT + 4] = (vectors - 1).to_bytes(2, "little")
    space[_MSIX_AT + 4] = _MSIX_BAR
    space[_MSIX_AT + 8 : _MSIX_AT + 12] = (0x1000 | _MSIX_BAR).to_bytes(4, "little")
    return space
