"""``bind``, ``unbind`` and ``restore``: which driver has a device."""

from __future__ import annotations

import click

from pynvme_user.cli.device import device_command, driver_option


@device_command("bind", "nvme-user bind 0000:01:00.0")
@driver_option("The driver that gives it to user space; uio_pci_generic without an IOMMU.")
@click.option("--user", metavar="NAME", help="Let this user open it, without root.")
def bind(device: str, driver: str, user: str | None) -> None:
    """Take a device from its kernel driver, for use from user space; needs root.

    Refused while a mount, swap, a stacked device or a process uses it.
    """
    from pynvme_user.host import binding, setup
    from pynvme_user.host.pci import parse_name

    device = parse_name(device)[1]
    if user is not None and driver != binding.VFIO:
        raise click.UsageError(
            "--user is for vfio-pci: with uio_pci_generic, root opens the device"
        )
    taken = binding.bind(device, driver)
    click.echo(f"{device} is {'now' if taken else 'already'} bound to {driver}")
    if user is not None:
        for node in setup.give_group(device, user):
            click.echo(f"{node} belongs to {user}")
    if driver == binding.VFIO:
        for address, other in binding.group_blockers(device):
            click.echo(
                f"nvme-user: its IOMMU group has {address} too, with the driver {other}: "
                f"`nvme-user doctor {device}` says what to do",
                err=True,
            )


@device_command("unbind", "nvme-user unbind 0000:01:00.0")
def unbind(device: str) -> None:
    """Take a device from its driver and leave it without one; needs root.

    Refused as `bind` is; `restore` gives it back.
    """
    from pynvme_user.host import binding
    from pynvme_user.host.pci import parse_name

    device = parse_name(device)[1]
    taken = binding.unbind(device)
    click.echo(f"{device} is {'now' if taken else 'already'} bound to no driver")


@device_command("restore", "nvme-user restore 0000:01:00.0")
def restore(device: str) -> None:
    """Give a device back to the driver that it had before `bind` or `unbind`; needs root.

    Works after a crash as well.
    """
    from pynvme_user.host import binding
    from pynvme_user.host.pci import parse_name

    device = parse_name(device)[1]
    driver = binding.restore(device)
    click.echo(f"{device} is bound to {driver or 'no driver, as before'}")
