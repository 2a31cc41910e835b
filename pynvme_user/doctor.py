"""What a userspace driver needs of the machine and of a device, and what mends what is missing.

Nothing is changed here. Each check that fails carries one command which, run as it is printed,
mends it; the checks are in the order in which their commands have to be run.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pynvme_user import owned
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host import remedies, setup
from pynvme_user.host.binding import MODULES, UIO, VFIO, group_blockers, is_nvm, module_command
from pynvme_user.host.holders import holders
from pynvme_user.host.hugepages import hugepages
from pynvme_user.host.pci import devices, parse_name
from pynvme_user.host.sysfs import PciFunction
from pynvme_user.qemu import program as qemu
from pynvme_user.spec.text import printable
from pynvme_user.units import format_size

#: Bytes of locked memory to open a controller and do I/O: one piece of DMA memory for the queues,
#: one for data. Buffers beyond that come on top.
MEMLOCK_NEEDED = 4 << 20
#: Bytes of free hugepages to do that without an IOMMU.
HUGEPAGES_NEEDED = 8 << 20

_HUGEPAGES_ADVISED = 64
_DRIVERS = {"vfio": VFIO, "uio": UIO}
_CAP_IPC_LOCK = 14
_CONTAINER = Path("/dev/vfio/vfio")
_IOMMUFD = Path("/dev/iommu")
_GROUPS = Path("/sys/kernel/iommu_groups")
_TABLES = Path("/sys/firmware/acpi/tables")
_COMMAND_LINE = Path("/proc/cmdline")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_GRUB_SETTINGS = Path("/etc/default/grub")


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: whether it holds, what was found, and the command that mends it.

    ``name`` is one of NAMES. ``blocks`` is False for a failure that costs only speed.
    """

    name: str
    passed: bool
    text: str
    command: str = ""
    blocks: bool = True


#: The conditions, in the order in which they are checked; the first and the last are of the machine
#: as a whole, without a device.
NAMES = (
    "controller",
    "iommu",
    "lockdown",
    "modules",
    "users",
    "driver",
    "group",
    "node",
    "memlock",
    "hugepages",
    "qemu",
)


@dataclass(frozen=True, slots=True)
class Report:
    """The checks of one device. ``device`` is its name for ``open``, ``access`` vfio or uio."""

    device: str
    access: str
    checks: tuple[Check, ...]

    @property
    def blockers(self) -> list[Check]:
        """What keeps the device from being used."""
        return [check for check in self.checks if check.blocks and not check.passed]

    @property
    def usable(self) -> bool:
        """Whether nothing blocks it."""
        return not self.blockers


def examine(name: str) -> Report:
    """Check everything that opening a device needs, as the current user.

    ``name`` is a PCI address, or ``vfio:`` or ``uio:`` and one; without these words it is uio
    for a device that a UIO driver has, and else vfio. Raises DeviceNameError for other names,
    DeviceAccessError where there is no such device.
    """
    scheme, bdf = parse_name(name)
    function = PciFunction(bdf)
    access = scheme or ("uio" if str(function.driver).startswith("uio") else "vfio")
    checks = [
        _iommu(function, access),
        _lockdown(function, access),
        _modules_of(function, access),
        *_users(function),
        _driver(function, access),
    ]
    if access == "vfio":
        checks += [*_group(function), *_node(function)]
    else:
        checks.append(_privilege())
    # Without an IOMMU no memory is pinned: hugepages stay where they are.
    if access == "vfio" and not function.is_noiommu:
        checks.append(_memlock())
    checks.append(_hugepages(access, required=access == "uio" or function.is_noiommu))
    return Report(f"{access}:{function.bdf}", access, tuple(checks))


def examine_machine() -> tuple[Check, ...]:
    """Check what this machine can do, whatever devices it has, for the current user."""
    found = [device.address for device in devices()]
    return (
        Check("controller", bool(found), f"on PCI: {', '.join(found) or 'no NVMe controller'}"),
        _iommu_of_machine(),
        _modules(MODULES[VFIO]),
        _memlock(),
        _hugepages("vfio", required=False),
        _qemu(),
    )


def _iommu_of_machine() -> Check:
    groups = list(_GROUPS.glob("*"))
    if groups:
        return Check("iommu", True, f"on; it has {len(groups)} groups of devices")
    return _iommu_off("through UIO")


def _qemu() -> Check:
    try:
        program = qemu.find()
    except DeviceAccessError as error:
        return Check("qemu", False, printable(str(error)), f"unset {qemu.VARIABLE}")
    if program is None:
        return Check(
            "qemu",
            False,
            f"{qemu.PROGRAM} is not installed, which qemu: devices need",
            remedies.as_root("apt-get install qemu-system-x86"),
        )
    try:
        version = qemu.ask_version(program)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(
            "qemu",
            False,
            f"{program} does not start ({printable(str(error))}): install it again",
            remedies.as_root("apt-get install --reinstall qemu-system-x86"),
        )
    found = qemu.installed()
    if os.environ.get(qemu.VARIABLE):
        chosen = f", by {qemu.VARIABLE}"
    else:
        chosen = f", the newest of {len(found)}" if len(found) > 1 else ""
    text = f"{program} {version}".strip()
    return Check("qemu", True, f"{text}{chosen}: qemu: devices need nothing else")


def _iommu(function: PciFunction, access: str) -> Check:
    group = function.iommu_group
    if access == "uio":
        if function.is_translated:
            return Check(
                "iommu",
                False,
                "the IOMMU translates, where UIO's physical addresses lead nowhere: use vfio-pci",
                remedies.nvme_user("bind", function.bdf),
            )
        return Check("iommu", True, "nothing translates addresses, which UIO needs")
    if group is not None:
        if function.is_noiommu:
            return Check("iommu", True, "VFIO's no-IOMMU mode: nothing isolates the device")
        return Check("iommu", True, f"on; the device is in group {group}")
    return _iommu_off(f"as uio:{function.bdf}")


def _iommu_off(otherwise: str) -> Check:
    """Say why there is no IOMMU, and what does without one."""
    if not any((_TABLES / table).exists() for table in ("DMAR", "IVRS", "IORT", "VIOT")):
        return Check(
            "iommu",
            False,
            "the firmware shows no IOMMU: turn VT-d or AMD-Vi on in its settings, to which this "
            f"command reboots, or go without protection {otherwise}",
            remedies.as_root("systemctl reboot --firmware-setup"),
        )
    words = _COMMAND_LINE.read_text().split()
    off = [word for word in words if word in ("iommu=off", "amd_iommu=off")]
    if off:
        return Check(
            "iommu",
            False,
            f"off by the kernel parameter {off[0]} (the command removes it and reboots)",
            _without_kernel_parameter(off[0]),
        )
    settings = [word for word in words if word.startswith("intel_iommu=")]
    if (_TABLES / "DMAR").exists() and settings[-1:] != ["intel_iommu=on"]:
        return Check(
            "iommu",
            False,
            "off: the machine has one, and the kernel parameter intel_iommu=on turns it on (the "
            "command sets it and reboots)",
            _with_kernel_parameter("intel_iommu=on"),
        )
    return Check(
        "iommu",
        False,
        "off, though the firmware shows one: the command prints what the kernel says of it",
        remedies.as_root("dmesg | grep -i -e iommu -e DMAR -e AMD-Vi"),
    )


def _with_kernel_parameter(parameter: str) -> str:
    sudo = remedies.as_root("")
    if shutil.which("grubby"):
        return f"{sudo}grubby --update-kernel=ALL --args={parameter} && {sudo}reboot"
    # This variable's parameters come last on the command line, and so prevail.
    line = f"""'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {parameter}"'"""
    return f"{remedies.append(line, _GRUB_SETTINGS)} && {sudo}update-grub && {sudo}reboot"


def _without_kernel_parameter(parameter: str) -> str:
    sudo = remedies.as_root("")
    if shutil.which("grubby"):
        return f"{sudo}grubby --update-kernel=ALL --remove-args={parameter} && {sudo}reboot"
    edit = rf"{sudo}sed -i 's/\b{parameter}\b//g' {_GRUB_SETTINGS}"
    return f"{edit} && {sudo}update-grub && {sudo}reboot"


def _lockdown(function: PciFunction, access: str) -> Check:
    try:
        text = _LOCKDOWN.read_text()
    except OSError:
        return Check("lockdown", True, "this kernel has none, or does not show it")
    mode = re.search(r"\[(\w+)\]", text)
    if mode is None or mode[1] == "none":
        return Check("lockdown", True, "off")
    if access == "vfio":
        return Check("lockdown", True, f"{mode[1]}, which leaves VFIO alone")
    return Check(
        "lockdown",
        False,
        f"{mode[1]}: it denies UIO the device's registers; use vfio-pci, or turn Secure Boot off",
        remedies.nvme_user("bind", function.bdf),
    )


def _modules_of(function: PciFunction, access: str) -> Check:
    driver = _DRIVERS[access]
    if access == "vfio" and function.vfio_cdev is not None:
        return _modules((driver,))
    return _modules(MODULES[driver])


def _modules(modules: Sequence[str]) -> Check:
    """Check that modules are loaded, of which the first is the driver."""
    missing = [name for name in modules if not setup.module_loaded(name)]
    if not missing:
        return Check("modules", True, f"{' and '.join(modules)} loaded")
    absent = [name for name in missing if not setup.module_available(name)]
    if absent:
        return Check(
            "modules",
            False,
            f"the running kernel {os.uname().release} has no {' and no '.join(absent)}: install "
            "one that has, and reboot",
            remedies.as_root("apt-get install linux-image-amd64"),
        )
    verb = "are" if len(missing) > 1 else "is"
    text = f"{' and '.join(missing)} {verb} not loaded"
    return Check("modules", False, text, module_command(modules[0]))


def _users(function: PciFunction) -> Iterator[Check]:
    found = holders(function.bdf)
    for holder in found:
        if holder.kind == "process":
            text = f"{holder} (the command ends it)"
            owned = holder.pid is not None and _owner(holder.pid) == os.geteuid()
            command = holder.command if owned else remedies.as_root(holder.command)
            yield Check("users", False, text, command)
        elif holder.command:
            yield Check("users", False, str(holder), remedies.as_root(holder.command))
        else:
            yield Check("users", False, f"{holder}, which no command ends: take another disk")
    if not found and _opened_elsewhere(function):
        node = setup.group_node(function.bdf)
        yield Check(
            "users",
            False,
            f"{node} is open in another user's process, or one that is just ending (the command "
            "ends it)",
            remedies.as_root(f"fuser -k {node}"),
        )
    elif not found:
        unseen = "" if os.geteuid() == 0 else ", as far as this user may see"
        yield Check("users", True, f"no mount, swap, stacked device or process{unseen}")


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None  # it has ended since


def _opened_elsewhere(function: PciFunction) -> bool:
    """Whether the kernel refuses to open the group because somebody has it."""
    node = setup.group_node(function.bdf)
    if node is None:
        return False
    try:
        owned.close(owned.descriptor(os.open, node, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _driver(function: PciFunction, access: str) -> Check:
    wanted = _DRIVERS[access]
    if function.driver is not None and access in function.driver:
        return Check("driver", True, f"bound to {function.driver}{_virtual(function)}")
    has_it = f"bound to {function.driver}" if function.driver else "bound to no driver"
    if not is_nvm(function) and function.driver is not None:
        return Check(
            "driver",
            False,
            f"{has_it}, and no NVMe controller: take one of those that are",
            remedies.nvme_user("list"),
        )
    arguments = ["bind", function.bdf]
    if access == "uio":
        arguments += ["--driver", wanted]
    elif os.geteuid() != 0:
        arguments += ["--user", _user_name()]
    return Check("driver", False, f"{has_it}, not {wanted}", remedies.nvme_user(*arguments))


def _virtual(function: PciFunction) -> str:
    """Say whose virtual function it is, and what it takes to open it."""
    physical = function.physical_function
    if physical is None:
        return ""
    text = f"; a virtual function of {physical}"
    if "vfio" in str(PciFunction(physical).driver):
        text += ", which VFIO has, too: both names take the same ?vf_token=UUID"
    return text


def _group(function: PciFunction) -> Iterator[Check]:
    others = [member.bdf for member in function.group_members if member.bdf != function.bdf]
    group = function.iommu_group
    if group is None:
        return  # said by the check of the IOMMU
    blockers = group_blockers(function.bdf)
    for bdf, driver in blockers:
        member = PciFunction(bdf)
        if is_nvm(member):
            command = remedies.nvme_user("bind", bdf)
        else:
            command = remedies.write(bdf, member.path / "driver/unbind")
        text = f"not viable: the driver {driver} has {bdf}, also of group {group}"
        yield Check("group", False, text, command)
    if not blockers:
        text = f"viable; it is shared with {', '.join(others)}" if others else "viable; no others"
        yield Check("group", True, text)


def _node(function: PciFunction) -> Iterator[Check]:
    node = setup.group_node(function.bdf)
    if node is None:
        return  # it comes with the driver, which is checked before
    cdev = function.vfio_cdev
    if cdev is not None and all(os.access(path, os.R_OK | os.W_OK) for path in (cdev, _IOMMUFD)):
        yield Check("node", True, f"{cdev} and {_IOMMUFD} can be opened")
        return
    mend = {node: f"chown {_user_name()} {node}", _CONTAINER: f"chmod 666 {_CONTAINER}"}
    failures = [path for path in mend if not os.access(path, os.R_OK | os.W_OK)]
    for path in failures:
        if path.exists():
            text = f"{_user_name()} may not open {path}"
            yield Check("node", False, text, remedies.as_root(mend[path]))
        else:
            text = f"{path} is not there: where this is a container, give it the device node"
            yield Check("node", False, text, module_command(VFIO))
    if not failures:
        yield Check("node", True, f"{node} can be opened")


def _privilege() -> Check:
    if os.geteuid() == 0:
        return Check("node", True, "this is root, as UIO needs")
    return Check("node", False, "UIO is for root only: the command gives a shell", "sudo -s")


def _memlock() -> Check:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if _has_capability(_CAP_IPC_LOCK):
        return Check("memlock", True, "no limit applies to this user (CAP_IPC_LOCK)")
    if limit == resource.RLIM_INFINITY:
        return Check("memlock", True, "RLIMIT_MEMLOCK is unlimited")
    text = f"RLIMIT_MEMLOCK is {limit} bytes, and {MEMLOCK_NEEDED} bytes are needed"
    if limit >= MEMLOCK_NEEDED:
        return Check("memlock", True, f"{text} at least; large buffers need more")
    return Check(
        "memlock",
        False,
        f"{text} (the command is for this shell; memlock in /etc/security/limits.conf is for good)",
        remedies.as_root("prlimit --pid $$ --memlock=unlimited"),
    )


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> number & 1)


def _hugepages(access: str, *, required: bool) -> Check:
    free = sum(size * count for size, count in hugepages().items())
    if free >= HUGEPAGES_NEEDED:
        return Check("hugepages", True, f"{format_size(free)} free", blocks=required)
    total = setup.hugepage_total()
    used = total - free // setup.HUGEPAGE_SIZE
    count = max(used, 0) + _HUGEPAGES_ADVISED
    arguments = ["setup", "--hugepages", str(count)]
    if access == "uio":
        arguments += ["--driver", UIO]
    need = f"{format_size(HUGEPAGES_NEEDED)} are needed" if required else "I/O is faster in them"
    return Check(
        "hugepages",
        False,
        f"{format_size(free)} free; {need}",
        remedies.nvme_user(*arguments),
        blocks=required,
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
