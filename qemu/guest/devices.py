"""The NVMe controllers of a guest, as QEMU's command line and ``device_add`` want them.

Controllers sit at fixed addresses: on the root bus from 0000:00:04.0 on, one slot each; those
that can be unplugged behind a root port each, at 0000:01:00.0, 0000:02:00.0 and so on (a q35
machine does not hot-plug on its root bus).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pynvme_user.units import parse_size

_FIRST_SLOT = 0x04
_LAST_SLOT = 0x0F
_FIRST_PORT_SLOT = 0x10
_LAST_PORT_SLOT = 0x1D  # 0x1e is for a device of the caller's, 0x1f is the chipset's


@dataclass(frozen=True)
class NvmeDisk:
    """One NVMe controller.

    ``size`` is that of each namespace, in bytes, for storage in memory that ends with the guest;
    ``image`` (a raw file, for namespace 1) is kept, and its own size counts. ``namespaces`` holds
    the properties of QEMU's ``nvme-ns`` for each namespace; left empty there is one, and its block
    properties (``logical_block_size``) are taken from ``properties``, which are those of QEMU's
    ``nvme``. ``hotplug`` puts the controller behind a root port, and allows no ``namespaces``,
    because QEMU cannot add those again later. ``pmr`` is the size of a Persistent Memory Region, in
    bytes, a power of two; it ends with the guest.
    """

    size: int = 1 << 30
    image: Path | None = None
    hotplug: bool = False
    namespaces: tuple[Mapping[str, str], ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    pmr: int = 0

    def __post_init__(self) -> None:
        if self.hotplug and self.namespaces:
            raise ValueError("an NVMe disk that can be unplugged cannot list namespaces")

    @classmethod
    def parse(cls, text: str) -> NvmeDisk:
        """From ``size=1G,image=FILE,hotplug=on,namespaces=2,pmr=1M,PROPERTY=VALUE...``.

        Each is optional; ``namespaces`` is a count here. Raises ValueError.
        """
        options: dict[str, str] = {}
        for part in filter(None, text.split(",")):
            name, equals, value = part.partition("=")
            if not equals:
                raise ValueError(f"{part!r} in {text!r} is not NAME=VALUE")
            options[name] = value
        image = options.pop("image", None)
        count = int(options.pop("namespaces", "0"))
        pmr = options.pop("pmr", "")
        return cls(
            size=parse_size(options.pop("size", "1G")),
            image=Path(image) if image else None,
            hotplug=options.pop("hotplug", "off") in ("on", "true", "yes"),
            namespaces=tuple({} for _ in range(count)),
            properties=options,
            pmr=parse_size(pmr) if pmr else 0,
        )


@dataclass(frozen=True)
class PlacedDisk:
    """A disk with its place in the machine.

    ``id`` names it to QMP, ``address`` is its PCI address in the guest, ``device`` the arguments
    of ``device_add``, ``arguments`` QEMU's command line, ``files`` the descriptors that QEMU must
    inherit and that are the caller's to close.
    """

    id: str
    address: str
    device: Mapping[str, str]
    arguments: Sequence[str]
    files: Sequence[int]


def place(disks: Sequence[NvmeDisk]) -> list[PlacedDisk]:
    """Give each disk its id (nvme0, nvme1, ... in the order given), address and storage.

    Raises ValueError for more disks than there are slots, OSError for an image that is not there.
    """
    placed: list[PlacedDisk] = []
    slot, port = _FIRST_SLOT, 0
    for index, disk in enumerate(disks):
        name = f"nvme{index}"
        arguments: list[str] = []
        if disk.hotplug:
            bus, addr, address = f"port{port}", "0", f"0000:{port + 1:02x}:00.0"
            port_slot = _FIRST_PORT_SLOT + port
            arguments += [
                "-device",
                f"pcie-root-port,id={bus},bus=pcie.0,addr={port_slot:#x},chassis={port + 1}",
            ]
            port += 1
        else:
            bus, addr, address = "pcie.0", f"{slot:#x}", f"0000:00:{slot:02x}.0"
            slot += 1
        if slot > _LAST_SLOT + 1 or port > _LAST_PORT_SLOT - _FIRST_PORT_SLOT + 1:
            raise ValueError(f"{len(disks)} NVMe disks are more than the guest has slots for")
        device = {
            "driver": "nvme",
            "id": name,
            "serial": f"guest-{name}",
            "bus": bus,
            "addr": addr,
            **_whole_blocks(disk.properties),
        }
        files: list[int] = []
        blocks: list[str] = []
        for number in range(max(1, len(disk.namespaces))):
            node = f"{name}-{number + 1}"
            if disk.image is not None and number == 0:
                source = str(disk.image.resolve(strict=True))
            else:
                memory = os.memfd_create(node)
                os.ftruncate(memory, disk.size)
                files.append(memory)
                source = f"/proc/self/fd/{memory}"
            blocks.append(node)
            escaped = source.replace(",", ",,")
            arguments += ["-blockdev", f"driver=file,node-name={node},filename={escaped}"]
        if disk.pmr:
            memory_id = device["pmrdev"] = f"{name}-pmr"
            backend = f"memory-backend-ram,id={memory_id},share=on,size={disk.pmr}"
            arguments += ["-object", backend]
        if not disk.namespaces:
            device["drive"] = blocks[0]
        arguments += ["-device", _option(device)]
        for number, properties in enumerate(disk.namespaces):
            namespace = {
                "driver": "nvme-ns",
                "bus": name,
                "nsid": str(number + 1),
                "drive": blocks[number],
                **_whole_blocks(properties),
            }
            arguments += ["-device", _option(namespace)]
        placed.append(PlacedDisk(name, address, device, arguments, files))
    return placed


def _whole_blocks(properties: Mapping[str, str]) -> dict[str, str]:
    # QEMU refuses a logical block that is larger than a physical one, which is 512 bytes.
    block = properties.get("logical_block_size")
    return {"physical_block_size": block, **properties} if block else dict(properties)


def _option(properties: Mapping[str, str]) -> str:
    driver, *rest = properties.items()
    return ",".join([driver[1], *(f"{name}={value}" for name, value in rest)])
