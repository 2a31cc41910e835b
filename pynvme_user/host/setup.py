"""What a userspace driver needs of the machine: kernel modules, hugepages, device nodes.

Everything here can be done again, and changes only what is not as it should be.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pynvme_user.errors import DeviceAccessError
from pynvme_user.host import remedies
from pynvme_user.host.sysfs import PciFunction

HUGEPAGE_SIZE = 2 << 20
HUGETLBFS = Path("/dev/hugepages")

_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_MODULES = Path("/lib/modules")
_COMPACT = Path("/proc/sys/vm/compact_memory")


def hugepage_total() -> int:
    """Tell how many hugepages of 2 MiB are reserved, used or not. Zero where there are none."""
    with contextlib.suppress(FileNotFoundError):
        return int((_POOL / "nr_hugepages").read_text())
    return 0


def reserve_hugepages(count: int) -> int:
    """Have at least ``count`` hugepages of 2 MiB reserved; return how many there are now.

    They may be fewer, where memory is used up or in pieces. Never gives any back. Raises
    DeviceAccessError without the right to, or where the kernel has no hugepages.
    """
    path = _POOL / "nr_hugepages"
    if not _POOL.exists():
        raise DeviceAccessError(
            "this kernel has no hugepages of 2 MiB: go without them behind an IOMMU (vfio-pci)"
        )
    for attempt in range(2):
        total = hugepage_total()
        if total >= count:
            return total
        try:
            if attempt:
                _COMPACT.write_text("1")  # free memory is there, but in pieces
            path.write_text(str(count))
        except OSError as error:
            raise _refused("reserving hugepages", error) from error
    return hugepage_total()


def mount_hugetlbfs() -> bool:
    """Mount /dev/hugepages where it is not mounted; return whether it was done.

    This package needs no such mount; other programs find hugepages there. Raises
    DeviceAccessError.
    """
    if HUGETLBFS.is_mount():
        return False
    try:
        HUGETLBFS.mkdir(exist_ok=True)
    except OSError as error:
        raise _refused(f"making {HUGETLBFS}", error) from error
    _run("mount", "-t", "hugetlbfs", "-o", "mode=1777", "hugetlbfs", str(HUGETLBFS))
    return True


def load_modules(names: Sequence[str]) -> list[str]:
    """Load the kernel modules that are not loaded; return which. Raises DeviceAccessError."""
    missing = [name for name in names if not module_loaded(name)]
    if missing:
        _run("modprobe", "-a", *missing)
    return missing


def module_loaded(name: str) -> bool:
    """Whether a module is in the kernel, loaded or built in."""
    if Path("/sys/module", name.replace("-", "_")).exists():
        return True
    return (Path("/sys/bus/pci/drivers") / name).exists()


def module_available(name: str) -> bool:
    """Whether modprobe can find a module for the running kernel."""
    # What modprobe itself searches; it writes - and _ as one.
    wanted = name.replace("-", "_")
    folder = _MODULES / os.uname().release
    for index in ("modules.dep", "modules.builtin"):
        with contextlib.suppress(OSError):
            for line in (folder / index).read_text().splitlines():
                file = line.partition(":")[0].rpartition("/")[2]
                if file.partition(".ko")[0].replace("-", "_") == wanted:
                    return True
    return False


def group_node(bdf: str) -> Path | None:
    """Tell the device node of a function's IOMMU group; None until a VFIO driver has it."""
    function = PciFunction(bdf)
    if function.iommu_group is None or "vfio" not in str(function.driver):
        return None
    return Path("/dev/vfio", f"{'noiommu-' * function.is_noiommu}{function.iommu_group}")


def give_group(bdf: str, user: str) -> list[Path]:
    """Let a user open a device that vfio-pci has: make the nodes theirs, and return them.

    Raises DeviceAccessError if there is no such user or no node yet, or without the right to.
    """
    node = group_node(bdf)
    if node is None or not node.exists():
        command = remedies.nvme_user("bind", bdf, "--user", user)
        raise DeviceAccessError(f"{bdf} has no VFIO device node: run `{command}`")
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise DeviceAccessError(
            f"there is no user {user}: name one of /etc/passwd, as `id -un` prints it"
        ) from None
    nodes = [node]
    cdev = PciFunction(bdf).vfio_cdev
    if cdev is not None and cdev.exists():
        nodes.append(cdev)
    for path in nodes:
        try:
            os.chown(path, entry.pw_uid, -1)
        except OSError as error:
            raise _refused(f"giving {path} to {user}", error) from error
    return nodes


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        package = {"modprobe": "kmod"}.get(command[0], command[0])
        raise DeviceAccessError(
            f"there is no {command[0]} on this machine: `apt-get install {package}`"
        ) from None
    if done.returncode:
        detail = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        hint = "" if os.geteuid() == 0 else ": run as root"
        raise DeviceAccessError(f"`{' '.join(command)}` failed ({detail}){hint}")


def _refused(what: str, error: OSError) -> DeviceAccessError:
    hint = "in a container, run this on its host" if os.geteuid() == 0 else "run as root"
    return DeviceAccessError(f"{what} failed ({error.strerror}): {hint}")
