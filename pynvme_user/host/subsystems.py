"""The NVM subsystems that the kernel's nvme driver knows, as sysfs tells of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pynvme_user.host.sysfs import pci_address

_SUBSYSTEMS = Path("/sys/class/nvme-subsystem")
_CONTROLLERS = Path("/sys/class/nvme")
_BLOCK = Path("/sys/class/block")
_PCI = Path("/sys/bus/pci/devices")
#: Where the host's identity is kept, which nvme-cli names.
_HOST = Path("/etc/nvme")

_CONTROLLER = re.compile(r"nvme\d+")
_NAMESPACE = re.compile(r"nvme\d+n\d+")
#: A namespace as one controller has it, where the kernel joins several to one disk.
_PATH = re.compile(r"(nvme\d+)c\d+(n\d+)")
_KERNEL_NAME = re.compile(r"(?:/dev/)?(?:(nvme\d+(?:n\d+)?)|ng(\d+n\d+))")


@dataclass(frozen=True)
class SubsystemPath:
    """A controller's way to a namespace; it is optimized where no state is reported."""

    controller: str
    ana_state: str


@dataclass(frozen=True)
class SubsystemNamespace:
    """A namespace that has a disk of its own, and by which controllers it is reached."""

    name: str
    nsid: int
    paths: tuple[SubsystemPath, ...]


@dataclass(frozen=True)
class SubsystemController:
    """A controller; ``nsids`` are the namespaces that it has a disk of its own of."""

    name: str
    transport: str
    address: str
    state: str
    nsids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subsystem:
    """An NVM subsystem. ``namespaces`` is empty where the kernel joins no paths (multipath)."""

    name: str
    nqn: str
    controllers: tuple[SubsystemController, ...]
    namespaces: tuple[SubsystemNamespace, ...] = ()

    def has(self, name: str) -> bool:
        """Whether a controller or namespace of that kernel's name is in it."""
        names = {each.name for each in self.controllers}
        names |= {each.name for each in self.namespaces}
        if name in names:
            return True
        controller = _CONTROLLER.match(name)  # which has the disk, where no paths are joined
        return not self.namespaces and controller is not None and controller[0] in names


def subsystems() -> list[Subsystem]:
    """Find the subsystems with a controller under the kernel's driver, by their names."""
    return [_subsystem(path) for path in _ordered(_folders(_SUBSYSTEMS))]


def kernel_name(device: str) -> str | None:
    """Give the kernel's name of what its driver has: a node, or a PCI address that it is bound to.

    None for what the kernel's driver does not have.
    """
    if match := _KERNEL_NAME.fullmatch(device):
        return match[1] or f"nvme{match[2]}"
    address = pci_address(device)
    found = [] if address is None else _folders(_PCI / address / "nvme")
    return found[0].name if found else None


def namespace_id(name: str) -> int | None:
    """Give the namespace id of a disk by the kernel's name of it; None for what is none."""
    value = _read(_BLOCK / name / "nsid")
    return int(value) if value else None


def rescan(controller: str) -> None:
    """Have the kernel look for the namespaces of a controller again; raises OSError."""
    (_CONTROLLERS / controller / "rescan_controller").write_text("1")


def host_identity() -> dict[str, str]:
    """Give the host's NQN and identifier as they are kept, if they are."""
    kept = {"HostNQN": _read(_HOST / "hostnqn"), "HostID": _read(_HOST / "hostid")}
    return {name: value for name, value in kept.items() if value}


def _subsystem(path: Path) -> Subsystem:
    folders = _folders(path)
    controllers = _ordered(each for each in folders if _CONTROLLER.fullmatch(each.name))
    disks = _ordered(each for each in folders if _NAMESPACE.fullmatch(each.name))
    return Subsystem(
        path.name,
        _read(path / "subsysnqn"),
        tuple(_controller(each) for each in controllers),
        tuple(
            SubsystemNamespace(each.name, int(_read(each / "nsid") or 0), _paths(each, controllers))
            for each in disks
        ),
    )


def _controller(path: Path) -> SubsystemController:
    disks = _ordered(each for each in _folders(path) if _NAMESPACE.fullmatch(each.name))
    return SubsystemController(
        path.name,
        _read(path / "transport"),
        _read(path / "address"),
        _read(path / "state"),
        tuple(int(_read(each / "nsid") or 0) for each in disks),
    )


def _paths(disk: Path, controllers: Iterable[Path]) -> tuple[SubsystemPath, ...]:
    """Find the paths of a disk among those that each controller has a folder of."""
    found = []
    for controller in controllers:
        for path in _folders(controller):
            match = _PATH.fullmatch(path.name)
            if match and match[1] + match[2] == disk.name:
                state = _read(path / "ana_state") or "optimized"
                found.append(SubsystemPath(controller.name, state))
    return tuple(found)


def _folders(path: Path) -> list[Path]:
    """Give the folders in one; none where it goes meanwhile, or is not there."""
    with suppress(OSError):
        return [each for each in path.iterdir() if each.is_dir()]
    return []


def _ordered(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


def _read(path: Path) -> str:
    """Give an attribute's value; nothing where it is not there."""
    with suppress(OSError):
        return path.read_text().strip()
    return ""
