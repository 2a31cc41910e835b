"""``identify``, ``id-ctrl``, ``id-ns`` and ``list-ns``: what a controller says of itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace_option, only_namespace, opened
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    Page,
    human_option,
    output_option,
    raw_binary_option,
)
from pynvme_user.cli.types import U32
from pynvme_user.errors import NvmeError

if TYPE_CHECKING:
    from pynvme_user import Controller
    from pynvme_user.cli import summary

_vendor_option = click.option(
    "--vendor-specific", "-v", is_flag=True, help="Dump the vendor's own bytes, too."
)


@device_command("identify", "nvme-user identify 'qemu:disk.img?size=1G'")
@output_option(NORMAL, JSON)
def identify(device: str, output_format: str) -> None:
    """Show the controller and its namespaces on one page."""
    from pynvme_user.cli import summary
    from pynvme_user.cli.pages import plain
    from pynvme_user.cli.shape import View

    with opened(device) as controller:
        found = summary.gather(controller)
        page = Page(
            normal=lambda: summary.lines(found),
            json=lambda: {
                "controller": plain(found.identify, View()),
                "namespaces": [_found_json(each) for each in found.namespaces],
            },
        )
        if output_format == NORMAL and sys.stdout.isatty():
            summary.render(found)
        else:
            page.show(output_format)


@device_command("id-ctrl", "nvme-user id-ctrl qemu:disk.img -o json")
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@human_option
@_vendor_option
def id_ctrl(
    device: str,
    output_format: str,
    raw_binary: bool,
    human_readable: bool,
    vendor_specific: bool,
) -> None:
    """Show the Identify Controller page."""
    from pynvme_user.cli.pages import show

    with opened(device) as controller:
        show(
            controller.identify,
            BINARY if raw_binary else output_format,
            human=human_readable,
            vendor=vendor_specific,
        )


@device_command("id-ns", "nvme-user id-ns qemu:disk.img --namespace-id 1 -H")
@namespace_option
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@human_option
@_vendor_option
@click.option("--force", is_flag=True, help="Show it even where it is not attached.")
def id_ns(
    device: str,
    namespace_id: int | None,
    output_format: str,
    raw_binary: bool,
    human_readable: bool,
    vendor_specific: bool,
    force: bool,
) -> None:
    """Show the Identify Namespace page, whatever it holds; zeroes where nothing is active.

    With -n 0xffffffff it is what all namespaces have in common, where the controller tells.
    """
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.commands import NSID_ALL
    from pynvme_user.spec.identify import IdentifyNamespace

    with opened(device) as controller:
        nsid = only_namespace(controller) if namespace_id is None else namespace_id
        cns = Cns.ALLOCATED_NAMESPACE if force else Cns.NAMESPACE
        show(
            IdentifyNamespace.from_bytes(controller.identify_page(cns, nsid=nsid)),
            BINARY if raw_binary else output_format,
            "NVME Identify Namespace, common to all:" if nsid == NSID_ALL else None,
            nsid=nsid,
            human=human_readable,
            vendor=vendor_specific,
        )


@device_command("list-ns", "nvme-user list-ns qemu:disk.img")
@click.option(
    "--namespace-id",
    "-n",
    type=U32,
    default=1,
    metavar="NSID",
    help="The first namespace id that the list may have.",
)
@click.option("--all", "-a", "allocated", is_flag=True, help="List inactive namespaces, too.")
@output_option(NORMAL, JSON)
def list_ns(device: str, namespace_id: int, allocated: bool, output_format: str) -> None:
    """List the active namespaces, by namespace id."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.identify_lists import NamespaceList

    if namespace_id == 0:
        raise click.UsageError("namespace ids begin at 1")
    ids: list[int] = []
    fault = None
    with opened(device) as controller:
        try:
            after = namespace_id - 1
            found = controller.namespaces.found(after)
            for nsid in _allocated(controller, after) if allocated else found:
                ids.append(nsid)
        except NvmeError as error:
            fault = error
        show(NamespaceList.build(ids), output_format)
        if fault is not None:
            raise fault


def _allocated(controller: Controller, after: int) -> Iterator[int]:
    """Ask for the allocated namespaces (Base 2.0, Identify CNS 10h)."""
    from pynvme_user.spec.admin import Cns

    return controller.namespaces.listed(Cns.ALLOCATED_NAMESPACES, after)


def _found_json(found: summary.FoundNamespace) -> dict[str, Any]:
    """Give what is known of a namespace, and ``error`` where that is not all."""
    from pynvme_user.cli.pages import plain
    from pynvme_user.cli.shape import View

    page: Any = {} if found.page is None else plain(found.page, View())
    error = {"error": found.error} if found.error else {}
    return {"nsid": found.nsid, **page, **found.identifiers.to_dict(), **error}
