"""Virtual functions of QEMU's controller: SR-IOV, enabled as firmware or Linux would do it."""

from __future__ import annotations

from dataclasses import dataclass

from pynvme_user.access.base import Region
from pynvme_user.errors import DeviceAccessError

_EXTENDED = 0x100  # where the extended capabilities begin
_MOST_CAPABILITIES = 64  # a chain that is longer goes round
_SRIOV = 0x10
# Offsets in the capability.
_CONTROL, _TOTAL_VFS, _NUM_VFS, _FIRST, _STRIDE, _BAR0 = 0x08, 0x0E, 0x10, 0x14, 0x16, 0x24
_ENABLE, _MEMORY = 1 << 0, 1 << 3


@dataclass(frozen=True)
class VirtualFunctions:
    """Where they are: routing ids from that of the physical function on, and sizes of BAR0."""

    first: int
    stride: int
    size: int


def enable(name: str, config: Region, count: int, bar: int) -> VirtualFunctions | None:
    """Enable so many of a physical function, their BARs from an address on; again after its reset.

    Returns None where they are enabled already. Raises DeviceAccessError where there are none.
    """
    at = _find(config)
    if not at:
        raise DeviceAccessError(
            f"{name} has no SR-IOV: give it sriov_max_vfs={count}, sriov_vq_flexible and "
            "sriov_vi_flexible in the device name"
        )
    most = config.read(at + _TOTAL_VFS, 2)
    if count > most:
        raise DeviceAccessError(
            f"{name} has not {count}, but at most {most} virtual functions: give it sriov_max_vfs="
            f"{count} in the device name"
        )
    # QEMU's reset takes their number alone.
    if config.read(at + _CONTROL, 2) & _ENABLE and config.read(at + _NUM_VFS, 2) == count:
        return None
    config.write(at + _CONTROL, 2, 0)
    config.write(at + _NUM_VFS, 2, count)
    config.write(at + _BAR0, 4, 0xFFFF_FFFF)
    size = (~(config.read(at + _BAR0, 4) & ~0xF) & 0xFFFF_FFFF) + 1
    config.write(at + _BAR0, 4, bar)
    config.write(at + _BAR0 + 4, 4, 0)
    config.write(at + _CONTROL, 2, _ENABLE | _MEMORY)
    return VirtualFunctions(config.read(at + _FIRST, 2), config.read(at + _STRIDE, 2), size)


def _find(config: Region) -> int:
    at = _EXTENDED
    for _ in range(_MOST_CAPABILITIES):
        header = config.read(at, 4)
        if header & 0xFFFF == _SRIOV:
            return at
        at = header >> 20
        if at < _EXTENDED:
            break
    return 0
