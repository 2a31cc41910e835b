"""``setup``: hugepages, kernel modules and device nodes."""

from __future__ import annotations

from typing import Any

import click

from pynvme_user.cli.device import command, driver_option
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.types import DEVICE
from pynvme_user.units import format_size, parse_size

_HUGEPAGE_SIZE = 2 << 20


class _Hugepages(click.ParamType[int]):
    """A count of hugepages of 2 MiB, or their size with a suffix: 64, 128M."""

    name = "hugepages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; a size is rounded up to whole hugepages."""
        if isinstance(value, int):
            return value
        try:
            return int(value) if value.isdecimal() else -(-parse_size(value) // _HUGEPAGE_SIZE)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@command("setup", "sudo nvme-user setup --hugepages 512M")
@click.argument("device", type=DEVICE, required=False)
@click.option(
    "--hugepages",
    type=_Hugepages(),
    default=64,
    show_default=True,
    metavar="COUNT|SIZE",
    help="How many hugepages of 2 MiB to have reserved, or how many bytes (512M, 1G) in them.",
)
@driver_option("The driver whose modules to load.")
@click.option("--user", metavar="NAME", help="Let this user open DEVICE, which vfio-pci has.")
def setup(device: str | None, hugepages: int, driver: str, user: str | None) -> None:
    """Reserve hugepages and load kernel modules; needs root. What is there already stays."""
    from pynvme_user.host import binding
    from pynvme_user.host import setup as host_setup
    from pynvme_user.host.pci import parse_name

    if (device is None) != (user is None):
        raise click.UsageError("DEVICE and --user belong together: name both, or neither")
    loaded = host_setup.load_modules(binding.MODULES[driver])
    for name in binding.MODULES[driver]:
        click.echo(f"module {name}: {'loaded now' if name in loaded else 'loaded already'}")
    before = host_setup.hugepage_total()
    total = host_setup.reserve_hugepages(hugepages)
    change = f"{total - before} more than before" if total > before else "as before"
    click.echo(
        f"hugepages: {total} of 2 MiB reserved ({format_size(total * _HUGEPAGE_SIZE)}), {change}"
    )
    mounted = host_setup.mount_hugetlbfs()
    click.echo(f"{host_setup.HUGETLBFS}: {'mounted now' if mounted else 'mounted already'}")
    if device is not None and user is not None:
        for node in host_setup.give_group(parse_name(device)[1], user):
            click.echo(f"{node}: belongs to {user}")
    if total < hugepages:
        raise Failure(
            f"only {total} of the {hugepages} hugepages asked for could be reserved, as memory is "
            "used up or in pieces: end what uses it, or reserve them at boot with the kernel "
            f"parameter hugepages={hugepages}"
        )
