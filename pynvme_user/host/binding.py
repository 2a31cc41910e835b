"""Which driver has a PCI function: taking it for user space, and giving it back.

A device is taken only when nothing uses it, never by force. The driver that it had is written to
/run before it is taken away, so that :func:`restore` works after any crash; a reboot undoes all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pynvme_user import owned
from pynvme_user.errors import DeviceAccessError, DeviceBusyError, NvmeTimeoutError
from pynvme_user.host import remedies
from pynvme_user.host.claim import claim
from pynvme_user.host.holders import Holder, claim_nodes, holders
from pynvme_user.host.sysfs import PciFunction, call_with_deadline, iommu_off_message

VFIO, UIO = "vfio-pci", "uio_pci_generic"
#: The modules that a driver for user space needs, itself first.
MODULES = {VFIO: ("vfio-pci", "vfio_iommu_type1"), UIO: ("uio_pci_generic",)}

_RUN = Path("/run/pynvme_user")
_DRIVERS = Path("/sys/bus/pci/drivers")
_PROBE = Path("/sys/bus/pci/drivers_probe")
#: The base class and subclass of non-volatile memory controllers.
_NVM = "0x0108"
#: A driver's removal shuts the controller down, which may take as long as CAP.TO allows.
_UNBIND_SECONDS = 130.0
_LIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Before:
    """What a function had before it was taken: its driver, and the one forced upon it."""

    driver: str | None
    driver_override: str | None


def bind(bdf: str, driver: str = VFIO) -> bool:
    """Take a PCI function from its driver and give it to another; needs root.

    Returns False when that driver has it already. Raises DeviceBusyError, which names every mount,
    swap area, stacked device and process, when anything uses it; DeviceAccessError, with the
    remedy, when it cannot be done, and then gives the function back.
    """
    function = PciFunction(bdf)
    if function.driver == driver:
        return False
    _check_driver(driver)
    if driver == VFIO and function.iommu_group is None and not _noiommu_enabled():
        raise DeviceAccessError(iommu_off_message(bdf))
    with _exclusively("bind", bdf):
        _release(function, driver)
        _give(function, driver)
    return True


def unbind(bdf: str) -> bool:
    """Take a PCI function from its driver and leave it without one; needs root.

    Returns False when it has none. Raises as :func:`bind`.
    """
    function = PciFunction(bdf)
    if function.driver is None:
        return False
    with _exclusively("unbind", bdf):
        _release(function, None)
    return True


def restore(bdf: str) -> str | None:
    """Give a PCI function back to the driver that it had before; needs root.

    Without a record of that, an NVMe controller goes to nvme, and anything else stays as it is.
    Returns the driver's name, or None where it had none. Raises DeviceBusyError while anything
    uses it, DeviceAccessError, and NvmeTimeoutError when the nvme driver does not get the
    controller to work.
    """
    function = PciFunction(bdf)
    with _exclusively("restore", bdf):
        before = _recall(function)
        if before.driver is not None:
            _check_driver(before.driver)
        if function.driver != before.driver:
            _refuse_used(function)
            _unbind(function)
        if before.driver is not None:
            _give(function, before.driver)
        _write(function.path / "driver_override", before.driver_override or "")
        _record(function).unlink(missing_ok=True)
    if before.driver == "nvme":
        _wait_live(function)
    return before.driver


@contextlib.contextmanager
def bound(bdf: str, driver: str = VFIO) -> Iterator[str]:
    """Bind a function for the length of a ``with``, and restore it at the end.

    Gives the device's name for ``open``. A function that the driver had before stays with it.
    Raises as :func:`bind` and :func:`restore`.
    """
    taken, owner = bind(bdf, driver), os.getpid()
    try:
        yield f"{'uio' if driver == UIO else 'vfio'}:{bdf}"
    finally:
        if taken and os.getpid() == owner:  # not in a forked child
            restore(bdf)


def group_blockers(bdf: str) -> list[tuple[str, str]]:
    """Find the (address, driver) of what keeps the function's IOMMU group from user space."""
    # The kernel lets a group be used with members that have no driver, or one that does no DMA.
    harmless = (None, "pcieport", "pci-stub")
    return [
        (member.bdf, str(member.driver))
        for member in PciFunction(bdf).group_members
        if member.bdf != bdf and member.driver not in harmless and "vfio" not in str(member.driver)
    ]


def is_nvm(function: PciFunction) -> bool:
    """Whether the function is a non-volatile memory controller."""
    return (function.path / "class").read_text().startswith(_NVM)


def module_command(driver: str) -> str:
    """Give the command that loads a driver and what it works with."""
    return remedies.as_root(f"modprobe -a {' '.join(MODULES.get(driver, (driver,)))}")


def busy_error(bdf: str, found: list[Holder]) -> DeviceBusyError:
    """Make the error for a device that is in use; it names all users, and what ends each use."""
    users = "; ".join(map(str, found))
    commands = [f"`{remedies.as_root(holder.command)}`" for holder in found if holder.command]
    remedy = f"run {', then '.join(commands)}" if commands else "end that use, or take another disk"
    if any(holder.pid for holder in found):
        remedy += " (kill ends the process)"
    pid = next((holder.pid for holder in found if holder.pid), None)
    return DeviceBusyError(f"{bdf} is in use: {users}: {remedy}", pid)


def _release(function: PciFunction, driver: str | None) -> None:
    """Take an unused function from its driver, which is remembered, and name the next one."""
    if not is_nvm(function) and function.driver is not None:
        raise DeviceAccessError(
            f"{function.bdf} is no NVMe controller, and what uses it is not known here: run "
            f"`{remedies.write(function.bdf, function.path / 'driver/unbind')}` if nothing does"
        )
    _refuse_used(function)
    with contextlib.ExitStack() as claims:
        # Between the look and the taking, nobody can mount it or build on it.
        try:
            for descriptor in claim_nodes(function):
                claims.callback(owned.close, descriptor)
        except OSError as error:
            if error.errno == errno.EBUSY:
                unseen = [Holder("kernel", error.filename, "the kernel")]
                raise busy_error(function.bdf, holders(function.bdf) or unseen) from error
            raise DeviceAccessError(
                f"{error.filename} cannot be claimed ({error.strerror}): `dmesg | tail` says why"
            ) from error
        _remember(function)
        if driver is not None:
            _write(function.path / "driver_override", driver)
        _unbind(function)


def _give(function: PciFunction, driver: str) -> None:
    """Bind a function that has no driver to this one, or raise and give it back."""
    if function.driver == driver:
        return
    _write(function.path / "driver_override", driver)
    with contextlib.suppress(OSError):
        _PROBE.write_text(function.bdf)
    if function.driver == driver:
        return
    message = f"the driver {driver} did not take {function.bdf}"
    before = _recall(function)
    _write(function.path / "driver_override", before.driver_override or "")
    if before.driver not in (None, driver):
        with contextlib.suppress(OSError):
            _PROBE.write_text(function.bdf)
        message += f", which {function.driver or 'no driver'} has again"
    raise DeviceAccessError(f"{message}: `dmesg | tail` says why")


def _refuse_used(function: PciFunction) -> None:
    found = holders(function.bdf)
    if found:
        raise busy_error(function.bdf, found)


def _unbind(function: PciFunction) -> None:
    if function.driver is None:
        return
    # Writing here can take for ever: the kernel waits for the device.
    path = function.path / "driver/unbind"
    call_with_deadline(
        lambda: path.write_text(function.bdf), _UNBIND_SECONDS, f"unbinding {function.bdf}"
    )


def _check_driver(driver: str) -> None:
    if not (_DRIVERS / driver).is_dir():
        command = module_command(driver)
        raise DeviceAccessError(f"the driver {driver} is not loaded: run `{command}`")


def _noiommu_enabled() -> bool:
    path = Path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
    return path.exists() and path.read_text().strip() == "Y"


@contextlib.contextmanager
def _exclusively(action: str, bdf: str) -> Iterator[None]:
    """Let one process at a time change drivers; raise DeviceAccessError unless root."""
    if os.geteuid() != 0:
        command = remedies.nvme_user(action, bdf)
        raise DeviceAccessError(f"to {action} {bdf} needs root: run `{command}`")
    _RUN.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = owned.descriptor(os.open, _RUN, flags)
    try:
        claim(folder, "driver binding")
        yield
    finally:
        owned.close(folder)


def _record(function: PciFunction) -> Path:
    return _RUN / f"{function.bdf}.json"


def _remember(function: PciFunction) -> None:
    """Write down the driver that the function has, unless an earlier one is written down."""
    record = _record(function)
    if record.exists():
        return
    override = (function.path / "driver_override").read_text().strip()
    before = _Before(function.driver, None if override == "(null)" else override)
    unfinished = record.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(before)))
    unfinished.rename(record)


def _recall(function: PciFunction) -> _Before:
    with contextlib.suppress(FileNotFoundError):
        return _Before(**json.loads(_record(function).read_text()))
    return _Before("nvme" if is_nvm(function) else function.driver, None)


def _write(path: Path, value: str) -> None:
    """Write to sysfs; an empty value as the newline that the kernel takes for one."""
    try:
        path.write_text(value or "\n")
    except OSError as error:
        raise DeviceAccessError(
            f"{path} cannot be written ({error.strerror}): in a container, run this on its host"
        ) from error


def _wait_live(function: PciFunction) -> None:
    deadline = time.monotonic() + _LIVE_SECONDS
    while True:
        states = [path.read_text().strip() for path in function.path.glob("nvme/nvme*/state")]
        if "live" in states:
            return
        if time.monotonic() > deadline or "dead" in states:
            raise NvmeTimeoutError(
                f"{function.bdf} is back with nvme, which does not get it to work: see `dmesg`"
            )
        time.sleep(0.02)
