"""Who uses a controller: mounts, swap, device-mapper and other stacked devices, processes.

A device with any of these is not taken from its driver (invariant 7). What other users' processes
have open is seen only by root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pynvme_user import owned
from pynvme_user.host.claim import process_name
from pynvme_user.host.sysfs import PciFunction
from pynvme_user.spec.text import printable

_BLOCK = Path("/sys/class/block")


@dataclass(frozen=True, slots=True)
class Holder:
    """One user of a controller.

    ``kind`` is "mount", "swap", "stacked" (device-mapper, md, loop), "process" or "kernel"; ``on``
    is the device node that it uses; ``name`` the mount point, the swap area, the stacked device,
    the process, or "the kernel". ``pid`` is that of a process. ``command`` ends the use when root
    runs it; empty where no single command can.
    """

    kind: str
    on: str
    name: str
    command: str = ""
    pid: int | None = None

    def __str__(self) -> str:
        """Say it as a clause: ``/dev/nvme0n1p1 is mounted on /mnt``."""
        on, name = printable(self.on), printable(self.name)
        match self.kind:
            case "mount":
                return f"{on} is mounted on {name}"
            case "swap":
                return f"{name} is in use as swap"
            case "stacked":
                return f"{on} is part of {name}"
            case "process":
                return f"process {self.pid} ({name}) has {on} open"
        return f"{on} is in use by {name}"


def holders(bdf: str) -> list[Holder]:
    """Find who uses a PCI function, in an order in which the uses can be ended.

    Empty when nobody does, as far as this user may see. Raises DeviceNameError and
    DeviceAccessError for what is no PCI function.
    """
    function = PciFunction(bdf)
    nodes = block_nodes(function)
    stacked = _stacked(nodes)
    systems, mounts = _mounts(nodes)
    swaps = _swaps(nodes, systems)
    processes = _processes(function, nodes, systems)
    # What came last lies on top, and has to go first.
    return [*processes, *swaps, *reversed(mounts), *reversed(stacked)]


def block_nodes(function: PciFunction) -> dict[int, str]:
    """Find the block devices of a controller and their partitions: device number to name."""
    # A controller of a subsystem with several has hidden disks, nvme0c1n1; nodes, partitions and
    # users belong to the one that stands for all paths to the namespace, nvme0n1.
    disks = {
        re.sub(r"^(nvme\d+)c\d+(n\d+)$", r"\1\2", disk.name)
        for disk in function.path.glob("nvme/nvme*/nvme*n*")
    }
    found = {}
    for disk in sorted(disks):
        path = _BLOCK / disk
        for member in [path, *sorted(path.glob(f"{disk}p*"))]:
            with contextlib.suppress(OSError):
                found[_number((member / "dev").read_text())] = member.name
    return found


def claim_nodes(function: PciFunction) -> Iterator[int]:
    """Open each block device so that nobody can mount it or build on it; yield the descriptors,
    for owned.close().

    Raises OSError, with EBUSY and the device's node where the kernel has it in use: also for a
    use that shows nowhere, such as a second disk of one btrfs.
    """
    for name in block_nodes(function).values():
        flags = os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC
        yield owned.descriptor(os.open, f"/dev/{name}", flags)


def _stacked(nodes: dict[int, str]) -> list[Holder]:
    """Find the devices that are built on the nodes, the lowest first; add them to the nodes."""
    found: dict[str, Holder] = {}
    names = [*nodes.values()]
    for name in names:  # which grows
        above = {path.name for path in (_BLOCK / name / "holders").glob("*")}
        above |= {loop.name for loop in _loops_on(name)}
        for upper in sorted(above):
            path = _BLOCK / upper
            found.pop(upper, None)  # of all that it is built on, the highest decides its place
            found[upper] = Holder("stacked", _node(name), _node(upper), _dissolve(path))
            for member in [path, *path.glob(f"{upper}p*")]:
                number = _number((member / "dev").read_text())
                if number not in nodes:
                    nodes[number] = member.name
                    names.append(member.name)
    return [*found.values()]


def _loops_on(name: str) -> Iterator[Path]:
    for path in _BLOCK.glob("loop*"):
        with contextlib.suppress(OSError):
            if (path / "loop/backing_file").read_text().strip() == f"/dev/{name}":
                yield path


def _node(name: str) -> str:
    """Tell the node of a block device by which people know it."""
    with contextlib.suppress(OSError):
        return f"/dev/mapper/{(_BLOCK / name / 'dm/name').read_text().strip()}"
    return f"/dev/{name}"


def _dissolve(path: Path) -> str:
    """Name the command that takes a stacked device apart."""
    with contextlib.suppress(OSError):
        return f"dmsetup remove {shlex.quote((path / 'dm/name').read_text().strip())}"
    if (path / "md").exists():
        return f"mdadm --stop /dev/{path.name}"
    return f"losetup -d /dev/{path.name}" if (path / "loop").exists() else ""


def _mounts(nodes: dict[int, str]) -> tuple[dict[int, str], list[Holder]]:
    """Find the mounts of the nodes, in the order in which they were made, in every namespace.

    Also gives the file systems' own device numbers, each with a mount point.
    """
    systems: dict[int, str] = {}
    found: dict[tuple[str, str], Holder] = {}
    for process in _mount_namespaces():
        prefix = "" if process == "self" else f"nsenter -t {process} -m "
        within = "" if process == "self" else f" (as process {process} sees it)"
        try:
            text = Path(f"/proc/{process}/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            continue  # it has ended since
        for line in text.removesuffix("\n").split("\n"):
            # proc(5): id parent major:minor root mountpoint options... - type source options
            before, _, after = line.partition(" - ")
            _, _, number, _, point = (_unescape(word) for word in before.split()[:5])
            source = _unescape(after.split()[1])
            # A btrfs has a device number of its own, and tells its device only by the source.
            name = nodes.get(_number(number)) or nodes.get(_node_number(source))
            if name is None:
                continue
            systems.setdefault(_number(number), point)
            # Nothing ends the use of the system's own root.
            command = f"{prefix}umount {shlex.quote(point)}" if point != "/" else ""
            holder = Holder("mount", _node(name), point + within, command)
            found.setdefault((name, point), holder)
    return systems, list(found.values())


def _mount_namespaces() -> Iterator[str]:
    """Give one process of each mount namespace that this user may look into, ours as ``self``."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    yield "self"
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            namespace = os.readlink(path / "ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                yield path.name


def _swaps(nodes: dict[int, str], systems: dict[int, str]) -> Iterator[Holder]:
    text = Path("/proc/swaps").read_text(errors="surrogateescape")
    for line in text.removesuffix("\n").split("\n")[1:]:
        area = _unescape(line.split()[0])
        with contextlib.suppress(OSError):
            status = os.stat(area)
            name = nodes.get(status.st_rdev) if stat.S_ISBLK(status.st_mode) else None
            if name is not None or status.st_dev in systems:
                on = _node(name) if name else systems[status.st_dev]
                yield Holder("swap", on, area, f"swapoff {shlex.quote(area)}")


def _processes(
    function: PciFunction, nodes: dict[int, str], systems: dict[int, str]
) -> Iterator[Holder]:
    """Find the processes that have the device, or a file on it, open."""
    devices = {number: _node(name) for number, name in nodes.items()}
    characters = _character_nodes(function)
    folder = f"{function.path.resolve()}/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [*(process / "fd").iterdir(), process / "cwd", process / "exe"]
        except OSError:
            continue  # another user's process, or one that has ended
        for link in links:
            with contextlib.suppress(OSError):
                status = link.stat()
                node = None
                if stat.S_ISBLK(status.st_mode):
                    node = devices.get(status.st_rdev)
                elif stat.S_ISCHR(status.st_mode):
                    node = characters.get(status.st_rdev)
                elif status.st_dev in systems and systems[status.st_dev] != "/":
                    node = os.readlink(link)
                elif stat.S_ISREG(status.st_mode) and os.readlink(link).startswith(folder):
                    node = os.readlink(link)  # configuration space or a BAR, in sysfs
                if node is not None:
                    pid = int(process.name)
                    name = process_name(pid)
                    yield Holder("process", node, name, f"kill {pid}", pid)
                    break


def _character_nodes(function: PciFunction) -> dict[int, str]:
    """Find the character devices that lead to a function: those of nvme, UIO and VFIO."""
    nodes = [*function.path.glob("nvme/nvme*"), *function.path.glob("nvme/nvme*/ng*")]
    nodes += [*function.path.glob("uio/uio*"), *function.path.glob("vfio-dev/vfio*")]
    found = {}
    for path in nodes:
        with contextlib.suppress(OSError):
            folder = "/dev/vfio/devices" if path.name.startswith("vfio") else "/dev"
            found[_number((path / "dev").read_text())] = f"{folder}/{path.name}"
    # The group's node has no entry below the function.
    group = function.iommu_group
    for node in (f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"):
        with contextlib.suppress(OSError):
            found[os.stat(node).st_rdev] = node
    return found


def _number(text: str) -> int:
    major, _, minor = text.strip().partition(":")
    return os.makedev(int(major), int(minor))


def _node_number(path: str) -> int:
    """Tell the device number of a block device's node; -1 for any other path."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if stat.S_ISBLK(status.st_mode):
            return status.st_rdev
    return -1


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of blanks in a path."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
