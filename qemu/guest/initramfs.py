"""The guest's initramfs: busybox, the modules to reach the host's root, and the command.

Built in memory for each guest (20 ms), so there is nothing to grow stale in a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .kernel import Kernel, module_bytes

# virtio_console carries the command's output, 9p the host's root, overlay makes it writable.
BOOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")

_DIRECTORY = 0o040755
_PROGRAM = 0o100755
_FILE = 0o100644


def build(kernel: Kernel, busybox: Path, files: Mapping[str, str]) -> bytes:
    """Return an archive of ``/init``, ``/bin/busybox``, the boot modules, and `files` at ``/``.

    ``/modules/order`` names the modules in the order of insertion, one a line.
    Raises GuestSetupError for a module that the kernel lacks.
    """
    entries: dict[str, tuple[int, bytes]] = {
        "bin": (_DIRECTORY, b""),
        "bin/busybox": (_PROGRAM, busybox.read_bytes()),
        "init": (_PROGRAM, Path(__file__).with_name("init").read_bytes()),
        "modules": (_DIRECTORY, b""),
    }
    order = []
    for path in kernel.load_order(BOOT_MODULES):
        name = path.name.partition(".ko")[0]
        order.append(name)
        entries[f"modules/{name}"] = (_FILE, module_bytes(path))
    entries["modules/order"] = (_FILE, "\n".join(order).encode())
    for name, text in files.items():
        entries[name] = (_FILE, text.encode())
    return cpio(entries)


def cpio(entries: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return an archive in the "newc" format (Linux' Documentation/driver-api/early-userspace).

    `entries` maps a path without leading slash to its mode and contents; a directory must come
    before what is in it. Everything belongs to root.
    """
    archive = bytearray()
    for inode, (name, (mode, data)) in enumerate([*entries.items(), ("TRAILER!!!", (0, b""))], 1):
        path = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
