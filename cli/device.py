"""The device argument, how it is opened, and which of its namespaces a command is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.errors import Failure
from pynvme_user.cli.types import COUNT, DEVICE, U32

if TYPE_CHECKING:
    from pynvme_user import Controller, Namespace
    from pynvme_user.spec.identify import IdentifyNamespace

VARIABLE = "NVME_USER_DEVICE"

_Decorator = Callable[[Callable[..., Any]], Any]


def command(name: str, example: str) -> _Decorator:
    """Declare a command whose help ends with an example."""
    return click.command(name, epilog=f"\b\nExample:\n  {example}", no_args_is_help=False)


def device_command(name: str, example: str) -> _Decorator:
    """Declare a command whose first argument is ``device``."""

    def decorate(function: Callable[..., Any]) -> Any:
        argument = click.argument(
            "device", type=DEVICE, required=False, envvar=VARIABLE, callback=_require
        )
        return command(name, example)(argument(function))

    return decorate


def _require(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value is None:
        raise click.UsageError(
            "no device: name one as the first argument, for example "
            f"'qemu:disk.img?size=1G', or set {VARIABLE}",
            ctx,
        )
    return value


namespace_option = click.option(
    "--namespace-id",
    "-n",
    type=U32,
    metavar="NSID",
    help="The namespace; may be left out where there is only one.",
)
start_option = click.option(
    "--start-block",
    "-s",
    type=COUNT,
    default=0,
    show_default=True,
    metavar="LBA",
    help="The first block.",
)


def timeout_option(milliseconds: int) -> _Decorator:
    """Declare --timeout in milliseconds, with a default; 0 is the global option's."""
    return click.option(
        "--timeout",
        "-t",
        type=U32,
        default=milliseconds,
        show_default=True,
        metavar="MS",
        help="What it may take, in milliseconds.",
    )


def driver_option(help: str) -> _Decorator:
    """Declare --driver, which chooses one of those that give a device to user space."""
    return click.option(
        "--driver",
        type=click.Choice(["vfio-pci", "uio_pci_generic"]),
        default="vfio-pci",
        show_default=True,
        help=help,
    )


@contextmanager
def opened(name: str, timeout: float | None = None) -> Iterator[Controller]:
    """Open a device as the global options say, or with another timeout; close it at the end."""
    import pynvme_user as nvme

    options: dict[str, Any] = click.get_current_context().obj
    if timeout:
        options = options | {"timeout": timeout}
    with nvme.open(name, **options) as controller:
        yield controller


def namespace(controller: Controller, nsid: int | None) -> Namespace:
    """Give the namespace of that id, or the only one; Failure says which there are."""
    if nsid is None:
        nsid = only_namespace(controller)
    ids = controller.namespaces.ids
    if nsid not in ids:
        raise Failure(
            f"namespace {nsid} is not active on {controller.name}; active: {_listed(ids)}"
        )
    return controller.namespaces[nsid]


def only_namespace(controller: Controller) -> int:
    """Give the id of the only active namespace.

    Failure where there is none, UsageError where there are several: one of them has to be named.
    """
    ids = controller.namespaces.ids
    if not ids:
        raise Failure(f"{controller.name} has no active namespace: create or attach one")
    if len(ids) > 1:
        raise click.UsageError(
            f"{controller.name} has {len(ids)} active namespaces ({_listed(ids)}): "
            "say which with --namespace-id",
            click.get_current_context(silent=True),
        )
    return ids[0]


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids)) or "none"


def identified(controller: Controller, nsid: int) -> IdentifyNamespace:
    """Read the Identify Namespace page."""
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.identify import IdentifyNamespace

    return IdentifyNamespace.from_bytes(controller.identify_page(Cns.NAMESPACE, nsid=nsid))


def format_of(page: IdentifyNamespace, block_size: int) -> int:
    """Find the format of blocks of that size without metadata."""
    for index, lbaf in enumerate(page.lbafs[: page.nlbaf + page.nulbaf + 1]):
        if lbaf.ds and 1 << lbaf.ds == block_size and not lbaf.ms:
            return index
    raise Failure(
        f"there is no format with blocks of {block_size} bytes and no metadata: name one by its "
        "index, id-ns lists them"
    )
