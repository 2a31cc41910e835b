"""Identify's other pages: a command for each. What `id-ctrl` and `id-ns` show is in identify.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pynvme_user.cli.device import device_command, namespace_option, only_namespace, opened
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    output_option,
    raw_binary_option,
    verbose_option,
)
from pynvme_user.cli.types import U16, U32


def _number(*names: str, into: str, help: str) -> Callable[..., Any]:
    return click.option(*names, into, type=U16, default=0, metavar="ID", help=f"{help}.")


_CNS: dict[str, str] = {}


def commands_by_cns() -> dict[Any, str]:
    """Give the command of each Cns that has one here."""
    from pynvme_user.spec.admin import Cns

    return {Cns[cns]: name for cns, name in _CNS.items()}


def page_command(
    name: str,
    cns: str,
    help: str,
    *options: Callable[..., Any],
    csi: int = 0,
    of_namespace: bool = False,
    example: str = "",
) -> Any:
    """Declare the command of one Identify page; ``cns`` is a name of spec.admin's Cns.

    Options named ``nsid``, ``cntid`` and ``cnssid`` go into the command that is sent. A page
    ``of_namespace`` is one of the namespace that -n names.
    """

    @verbose_option
    @raw_binary_option
    @output_option(NORMAL, JSON, BINARY)
    def show_page(
        device: str,
        output_format: str,
        raw_binary: bool,
        human_readable: bool,
        uuid_index: int = 0,
        namespace_id: int | None = None,
        **parameters: Any,
    ) -> None:
        from pynvme_user.cli.pages import show
        from pynvme_user.spec.admin import Cns
        from pynvme_user.spec.identify import IdentifyNamespace

        with opened(device) as controller:
            namespace = None
            if of_namespace:
                nsid = only_namespace(controller) if namespace_id is None else namespace_id
                parameters["nsid"] = nsid
                raw = controller.identify_page(Cns.NAMESPACE, nsid=nsid)
                namespace = IdentifyNamespace.from_bytes(raw)
            page = controller.identify_data(Cns[cns], csi=csi, uuid_index=uuid_index, **parameters)
            show(
                page,
                BINARY if raw_binary else output_format,
                device=device,
                nsid=parameters.get("nsid", parameters.get("cnssid", 0)),
                human=human_readable,
                namespace=namespace,
            )

    _CNS[cns] = name
    for option in reversed((namespace_option, *options) if of_namespace else options):
        show_page = option(show_page)
    show_page.__doc__ = help
    return device_command(name, example or f"nvme-user {name} qemu:disk.img -o json")(show_page)


_controller = _number("--cntid", "-c", into="cntid", help="The first controller id to list")
_attached = click.option(
    "--namespace-id",
    "-n",
    "nsid",
    type=U32,
    default=0,
    metavar="NSID",
    help="Those that have this namespace attached.",
)
_format = click.option(
    "--lba-format-index", "-i", "cnssid", type=U16, default=0, help="The LBA format."
)
_uuid = click.option(
    "--uuid-index", "-U", type=click.IntRange(0, 127), default=0, help="UUID index."
)

PAGES = (
    page_command(
        "id-ns-granularity",
        "NAMESPACE_GRANULARITIES",
        "Show by what sizes namespaces are best created.",
    ),
    page_command(
        "id-ns-lba-format",
        "NAMESPACE_FORMAT",
        "Show what a namespace of one LBA format has.",
        _format,
        _uuid,
    ),
    page_command(
        "nvm-id-ctrl",
        "CSI_CONTROLLER",
        "Show what the controller says of the NVM command set.",
    ),
    page_command(
        "nvm-id-ns",
        "CSI_NAMESPACE",
        "Show what the NVM command set says of a namespace.",
        _uuid,
        of_namespace=True,
    ),
    page_command(
        "nvm-id-ns-lba-format",
        "CSI_NAMESPACE_FORMAT",
        "Show what the NVM command set says of one LBA format.",
        _format,
        _uuid,
    ),
    page_command(
        "primary-ctrl-caps",
        "PRIMARY_CONTROLLER_CAPABILITIES",
        "Show the resources that a primary controller has for secondary ones.",
        _number("--cntlid", "-c", into="cntid", help="The controller"),
    ),
    page_command(
        "cmdset-ind-id-ns",
        "INDEPENDENT_NAMESPACE",
        "Show what a namespace has whatever its command set is.",
        of_namespace=True,
    ),
    page_command(
        "id-nvmset",
        "NVM_SETS",
        "List the NVM sets.",
        _number("--nvmset_id", "--nvmset-id", "-i", into="cnssid", help="The first to list"),
    ),
    page_command(
        "ns-descs",
        "NAMESPACE_DESCRIPTORS",
        "List the identifiers of a namespace: EUI64, NGUID, UUID, command set.",
        of_namespace=True,
    ),
    page_command("id-uuid", "UUIDS", "List the UUIDs that commands name by an index."),
    page_command(
        "id-iocs",
        "IO_COMMAND_SETS",
        "List the combinations of I/O command sets.",
        click.option(
            "--controller-id",
            "-c",
            "cntid",
            type=U16,
            default=0xFFFF,
            metavar="ID",
            help="The controller; this one if left out.",
        ),
    ),
    page_command(
        "id-domain",
        "DOMAINS",
        "List the domains.",
        _number("--dom-id", "-d", into="cnssid", help="The first to list"),
    ),
    page_command(
        "list-endgrp",
        "ENDURANCE_GROUPS",
        "List the endurance groups.",
        _number("--endgrp-id", "-i", into="cnssid", help="The first to list"),
    ),
)


@device_command("list-ctrl", "nvme-user list-ctrl qemu:disk.img")
@_controller
@_attached
@output_option(NORMAL, JSON)
def list_ctrl(device: str, cntid: int, nsid: int, output_format: str) -> None:
    """List the controllers of the NVM subsystem, or those that have a namespace attached."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.admin import Cns

    cns = Cns.NAMESPACE_CONTROLLERS if nsid else Cns.CONTROLLERS
    with opened(device) as controller:
        show(controller.identify_data(cns, nsid=nsid, cntid=cntid), output_format)


@device_command("list-secondary", "nvme-user list-secondary qemu:disk.img")
@_controller
@_attached
@click.option(
    "--num-entries",
    "-e",
    type=click.IntRange(1, 127),
    default=127,
    show_default=True,
    help="How many to show.",
)
@output_option(NORMAL, JSON)
def list_secondary(
    device: str, cntid: int, nsid: int, num_entries: int, output_format: str
) -> None:
    """List the secondary controllers of a primary one."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.identify_lists import SecondaryControllerList

    with opened(device) as controller:
        raw = controller.identify_page(Cns.SECONDARY_CONTROLLERS, nsid=nsid, cntid=cntid)
        page = SecondaryControllerList.from_bytes(raw)
        some = page.entries[:num_entries]
        show(SecondaryControllerList.build(some, numids=len(some)), output_format)


COMMANDS = (*PAGES, list_ctrl, list_secondary)
