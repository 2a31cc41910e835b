"""``doctor``: what a device needs before it can be used, and the commands that mend what fails."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import VARIABLE, command
from pynvme_user.cli.errors import FAILED
from pynvme_user.cli.output import JSON, NORMAL, Page, output_option
from pynvme_user.cli.types import DEVICE

if TYPE_CHECKING:
    from pynvme_user.doctor import Check, Report

_TITLES = {
    "controller": "Controller",
    "iommu": "IOMMU",
    "lockdown": "Lockdown",
    "modules": "Modules",
    "users": "Other users",
    "driver": "Driver",
    "group": "IOMMU group",
    "node": "Permission",
    "memlock": "Locked memory",
    "hugepages": "Hugepages",
    "qemu": "QEMU",
}
_WIDTH = max(map(len, _TITLES.values())) + 2


@command("doctor", "nvme-user doctor 0000:01:00.0")
@click.argument("device", type=DEVICE, required=False, envvar=VARIABLE)
@output_option(NORMAL, JSON)
@click.option("--json", "output_format", flag_value=JSON, help="As -o json.")
def doctor(device: str | None, output_format: str) -> None:
    """Check all that a device needs; print the command that mends each failure.

    Without DEVICE, every NVMe controller is checked, and one that is usable is enough; where there
    is none, what the machine can do. Nothing is changed. The exit code is 0 if the device can be
    used now, by this user, and else 1.
    """
    from pynvme_user.doctor import examine, examine_machine
    from pynvme_user.host.pci import devices

    names = [device] if device is not None else [found.address for found in devices()]
    reports = [examine(name) for name in names]
    Page(
        normal=lambda: _lines(reports) if reports else _machine_lines(examine_machine()),
        json=lambda: _json(reports, examine_machine()),
    ).show(output_format)
    if not any(report.usable for report in reports):
        click.get_current_context().exit(FAILED)


def _json(reports: list[Report], machine: tuple[Check, ...]) -> object:
    return {
        "usable": any(report.usable for report in reports),
        "machine": {"checks": [asdict(check) for check in machine]},
        "devices": [
            {
                "device": report.device,
                "usable": report.usable,
                "checks": [asdict(check) for check in report.checks],
            }
            for report in reports
        ],
    }


def _lines(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        yield click.style(report.device, bold=True)
        yield from _check_lines(report.checks)
        count = len(report.blockers)
        if count:
            what = "thing is" if count == 1 else "things are"
            yield f"{count} {what} in the way: run what is printed below each, from the top down."
        else:
            yield f"Ready: nvme-user id-ctrl {report.device}"
        yield ""


def _machine_lines(checks: tuple[Check, ...]) -> Iterator[str]:
    yield click.style("This machine, as no controller is there", bold=True)
    yield from _check_lines(checks)
    if all(check.passed for check in checks if check.name == "qemu"):
        yield "An emulated controller: nvme-user id-ctrl 'qemu:disk.img?size=1G'"


def _check_lines(checks: Iterable[Check]) -> Iterator[str]:
    for check in checks:
        yield f"  {_mark(check)} {_TITLES[check.name]:<{_WIDTH}}{check.text}"
        if not check.passed and check.command:
            yield " " * (_WIDTH + 4) + click.style(check.command, fg="cyan")


def _mark(check: Check) -> str:
    symbol, word, colour = (
        ("✓", "ok  ", "green")
        if check.passed
        else ("✗", "FAIL", "red")
        if check.blocks
        else ("!", "slow", "yellow")
    )
    try:
        symbol.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        symbol = word
    return click.style(symbol, fg=colour)
