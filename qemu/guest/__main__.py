"""The command line of the guest: ``python -m pynvme_user.qemu.guest``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from .devices import NvmeDisk, place
from .errors import GuestError
from .guest import Guest
from .kernel import KERNEL_PACKAGE, find_kernel

GUEST_FAILED = 125  # as for the container tools: it was not the command that failed
_TESTDEV = "pci-testdev,addr=0x1e,membar=4096"
_SHELL_DISKS = (
    NvmeDisk(),
    NvmeDisk(properties={"logical_block_size": "4096"}),
    NvmeDisk(hotplug=True),
)

_BANNER = """\
A guest with QEMU's NVMe, on your files (read-only; what you write here is gone at the end).
{disks}
  0000:00:1e.0  QEMU's pci-testdev: port I/O and memory to play with
Try:
  nvme-user list                       every NVMe controller, its driver and IOMMU group
  nvme-user bind 0000:00:04.0          hand it from the kernel's driver to vfio-pci
  nvme-user identify 0000:00:04.0      this package's driver, over VFIO
  nvme-user restore 0000:00:04.0       and back to the kernel's driver
  cat /sys/bus/pci/devices/0000:00:1e.0/resource      its regions; docs/userspace-drivers.md
{hint}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, or a shell, in a guest; returns the command's status, 125 without one."""
    options = _parser().parse_args(arguments)
    command = options.command
    if bool(command) == options.shell:
        _parser().error("give either --shell or -- COMMAND")
    try:
        disks = tuple(NvmeDisk.parse(spec) for spec in options.nvme)
        if options.shell:
            return _shell(options, disks or _SHELL_DISKS)
        guest = _guest(options, command, disks or (NvmeDisk(),))
        guest.on_output = _write_output
        result = guest.run()
    except (GuestError, ValueError, OSError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return GUEST_FAILED
    if options.verbose:
        print(
            f"guest: {result.seconds:.1f} s in all, {result.boot_seconds:.1f} s to boot, "
            f"{result.accel}, kernel {guest.kernel.version if guest.kernel else '?'}",
            file=sys.stderr,
        )
        print(result.console, file=sys.stderr)
    return result.returncode


def _shell(options: argparse.Namespace, disks: Sequence[NvmeDisk]) -> int:
    hint = "ctrl-C goes to the guest; `exit` ends it."
    lines = []
    for disk, placed in zip(disks, place(disks), strict=True):
        for file in placed.files:
            os.close(file)
        traits = [f"{name}={value}" for name, value in disk.properties.items()]
        traits += ["behind a root port, as for hot-plug"] if disk.hotplug else []
        lines.append(f"  {placed.address}  {', '.join(['NVMe', *traits])}")
    banner = _BANNER.format(disks="\n".join(lines), hint=hint)
    print("starting the guest ...", flush=True)
    guest = _guest(
        options,
        ["sh", "-c", f"printf %s {shlex.quote(banner)}; exec bash --norc -i"],
        disks,
    )
    guest.interactive = True
    guest.timeout = None
    guest.devices = (*guest.devices, _TESTDEV)
    guest.env = {"PS1": r"guest:\w\$ "}
    with _terminal_restored():
        return guest.run().returncode


def _guest(options: argparse.Namespace, command: Sequence[str], disks: Sequence[NvmeDisk]) -> Guest:
    return Guest(
        command,
        iommu=not options.no_iommu,
        nvme=disks,
        devices=tuple(options.device),
        kernel_args=tuple(options.kernel_arg),
        modules=tuple(options.module or ["nvme"]),
        memory=options.memory,
        cpus=options.cpus,
        numa_nodes=options.numa_nodes,
        hugepages=options.hugepages,
        timeout=options.timeout,
        user=options.user,
        share=options.share,
        accel=options.accel,
        kernel=find_kernel(options.kernel_package),
    )


def _write_output(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """QEMU makes the terminal raw, and leaves it so when it is killed."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pynvme_user.qemu.guest",
        description="Run a command, or a shell, in a QEMU guest on this machine's files.",
    )
    add = parser.add_argument
    add("--shell", action="store_true", help="a root shell on this terminal")
    add(
        "--nvme",
        action="append",
        default=[],
        metavar="SPEC",
        help="a controller: size=1G,image=FILE,hotplug=on,namespaces=2,PROPERTY=VALUE, "
        "each optional; repeat for more",
    )
    add("--no-iommu", action="store_true", help="no emulated IOMMU: UIO instead of VFIO")
    add("--device", action="append", default=[], help="one more value for QEMU's -device")
    add("--kernel-arg", action="append", default=[], help="for the kernel's command line")
    add("--module", action="append", help="load this instead of nvme before the command")
    add("--memory", default="2G", help="as QEMU's -m (default: %(default)s)")
    add("--cpus", type=int, default=1)
    add("--numa-nodes", type=int, default=1, help="among which CPUs and memory are divided")
    add("--hugepages", type=int, default=64, help="of 2 MiB each (default: %(default)s)")
    add("--timeout", type=float, default=600.0, help="seconds for a command (default: 600)")
    add("--user", help="run the command as this user instead of root")
    add("--share", type=Path, help="a directory that the guest can write")
    add("--accel", choices=["auto", "kvm", "tcg"], default="auto")
    add("--kernel-package", default=KERNEL_PACKAGE, help="Debian's package (default: %(default)s)")
    add("--verbose", action="store_true", help="times and the kernel's messages at the end")
    add("command", nargs="*", metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
