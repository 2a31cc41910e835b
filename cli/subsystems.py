"""``list-subsys``, ``show-topology``, ``ns-rescan`` and ``get-ns-id``.

sysfs says what the kernel's driver has, in nvme-cli's form. Any other device is opened, and its
Identify pages say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import command, device_command, only_namespace, opened
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.output import JSON, NORMAL, Page, output_option
from pynvme_user.cli.types import DEVICE
from pynvme_user.errors import DeviceNameError
from pynvme_user.host.pci import parse_name
from pynvme_user.host.subsystems import (
    Subsystem,
    SubsystemController,
    host_identity,
    kernel_name,
    namespace_id,
    rescan,
    subsystems,
)
from pynvme_user.spec.text import printable

if TYPE_CHECKING:
    from pynvme_user import Controller

_device_argument = click.argument("device", type=DEVICE, required=False)


@command("list-subsys", "nvme-user list-subsys -o json")
@_device_argument
@output_option(NORMAL, JSON)
def list_subsys(device: str | None, output_format: str) -> None:
    """List the NVM subsystems of the kernel's driver, or that of a device, and their controllers.

    A device of the kernel's driver (/dev/nvme0n1, 0000:01:00.0) is looked up in sysfs. Any other
    is opened, and shows the ids of all controllers of its subsystem, too.
    """
    found, more = _found(device)
    ana = device is not None and "n" in (kernel_name(device) or "")[4:]
    Page(
        normal=lambda: _subsystem_lines(found, more, ana),
        json=lambda: _host(found, lambda each: {**_paths_json(each, ana), **more}),
    ).show(output_format)


@command("show-topology", "nvme-user show-topology")
@_device_argument
@click.option(
    "--ranking",
    "-r",
    type=click.Choice(["namespace", "ctrl"]),
    default="namespace",
    help="What stands first in text: the namespaces, or the controllers.",
)
@output_option(NORMAL, JSON)
def show_topology(device: str | None, ranking: str, output_format: str) -> None:
    """Show which controllers have which namespaces, by NVM subsystem; as list-subsys."""
    found, _ = _found(device)
    by_controller = ranking == "ctrl"
    Page(
        normal=lambda: _topology_lines(found, by_controller),
        json=lambda: _host(found, _namespaces_json),
    ).show(output_format)


@device_command("ns-rescan", "nvme-user ns-rescan 0000:01:00.0")
@output_option(NORMAL, JSON)
def ns_rescan(device: str, output_format: str) -> None:
    """Find out anew which namespaces there are, and list them.

    The kernel's driver rescans a device that it has; nothing is listed then.
    """
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.identify_lists import NamespaceList

    if name := kernel_name(device):
        controllers = [each.name for found in _with(name) for each in found.controllers]
        for each in [name] if name in controllers else controllers:
            rescan(each)
        return
    with opened(device) as controller:
        show(NamespaceList.build(controller.namespaces.found()), output_format)


@device_command("get-ns-id", "nvme-user get-ns-id 0000:01:00.0")
def get_ns_id(device: str) -> None:
    """Show the namespace id of a device that has one namespace, or of one of the kernel's disks."""
    if name := kernel_name(device):
        nsid = namespace_id(name)
        if nsid is None:
            raise Failure(
                f"{name} is no namespace of the kernel's driver: name one as /dev/nvme0n1, "
                "`nvme-user show-topology` lists them"
            )
    else:
        name = device
        with opened(device) as controller:
            nsid = only_namespace(controller)
    print(f"{printable(name)}: namespace-id:{nsid}")


def _found(device: str | None) -> tuple[list[Subsystem], dict[str, Any]]:
    """Find the subsystems, or a device's, of which its pages tell more."""
    if device is None:
        return subsystems(), {}
    name = kernel_name(device)
    if name is None:
        with opened(device) as controller:
            return _of(controller)
    return _with(name), {}


def _with(name: str) -> list[Subsystem]:
    """Find the subsystem of a controller or disk by the kernel's name; Failure for none."""
    found = [each for each in subsystems() if each.has(name)]
    if not found:
        raise Failure(
            f"the kernel's driver has no {name}: `nvme-user list-subsys` shows what it has"
        )
    return found


def _of(controller: Controller) -> tuple[list[Subsystem], dict[str, Any]]:
    """Tell of an open controller, by its Identify pages, what sysfs tells of the kernel's."""
    from pynvme_user.errors import NvmeStatusError
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.identify_lists import ControllerList

    page = controller.identify
    name = controller.name
    nsids = tuple(controller.namespaces.ids)
    one = SubsystemController(name, "pcie", _address(name), "live", nsids)
    nqn = page.subnqn or (
        # Of a controller without one (Base 2.0, section 4.5).
        f"nqn.2014.08.org.nvmexpress:{page.vid:04x}{page.ssvid:04x}{page.sn:<20}{page.mn:<40}"
    )
    more: dict[str, Any] = {"CNTLID": page.cntlid, "CMIC": int(page.cmic)}
    with suppress(NvmeStatusError):  # it may have no such list
        raw = controller.identify_page(Cns.CONTROLLERS)
        more["Controllers"] = [int(each) for each in ControllerList.from_bytes(raw)]
    return [Subsystem(name, nqn.rstrip(), (one,))], more


def _address(name: str) -> str:
    """Give the PCI address of a device that has one, and else its name."""
    try:
        return parse_name(name)[1]
    except DeviceNameError:
        return name


# --- text --------------------------------------------------------------------------------------


def _heading(found: Subsystem) -> Iterator[str]:
    yield printable(f"{found.name} - NQN={found.nqn}")
    yield "\\"


def _nothing() -> Iterator[str]:
    yield (
        "The kernel's nvme driver has no controller; "
        "`nvme-user list-subsys DEVICE` asks a device itself."
    )


def _subsystem_lines(found: list[Subsystem], more: dict[str, Any], ana: bool) -> Iterator[str]:
    if not found:
        yield from _nothing()
    for each in found:
        yield from _heading(each)
        for controller, state in _paths(each):
            yield f" +- {_named(controller)} {controller.state} {state if ana else ''}".rstrip()
        for cntlid in more.get("Controllers", ()):
            if cntlid != more["CNTLID"]:
                yield f" +- controller {cntlid}, which is not opened"


def _topology_lines(found: list[Subsystem], by_controller: bool) -> Iterator[str]:
    if not found:
        yield from _nothing()
    for each in found:
        yield from _heading(each)
        if by_controller:
            yield from _by_controller(each)
        else:
            yield from _by_namespace(each)


def _by_namespace(found: Subsystem) -> Iterator[str]:
    for nsid, ways in _namespaces(found):
        yield f" +- ns {nsid}"
        yield " \\"
        for controller, ana in ways:
            yield f"  +- {_named(controller)} {controller.state} {ana}".rstrip()


def _by_controller(found: Subsystem) -> Iterator[str]:
    for controller in found.controllers:
        yield f" +- {_named(controller)}"
        yield " \\"
        for nsid, ways in _namespaces(found):
            for one, ana in ways:
                if one is controller:
                    yield f"  +- ns {nsid} {controller.state} {ana}".rstrip()


def _named(controller: SubsystemController) -> str:
    return printable(f"{controller.name} {controller.transport} {controller.address}")


# --- JSON --------------------------------------------------------------------------------------


def _host(found: list[Subsystem], each: Any) -> object:
    if not found:
        return []
    made = [{"Name": one.name, "NQN": one.nqn, **each(one)} for one in found]
    return [{**host_identity(), "Subsystems": made}]


def _paths_json(found: Subsystem, ana: bool) -> dict[str, object]:
    return {"Paths": [_controller_json(*path, ana) for path in _paths(found)]}


def _namespaces_json(found: Subsystem) -> dict[str, object]:
    joined = bool(found.namespaces)
    key = "Paths" if joined else "Controller"
    return {
        "Namespaces": [
            {"NSID": nsid, key: [_controller_json(*way, joined) for way in ways]}
            for nsid, ways in _namespaces(found)
        ]
    }


def _controller_json(controller: SubsystemController, state: str, ana: bool) -> dict[str, str]:
    made = {
        "Name": controller.name,
        "Transport": controller.transport,
        "Address": controller.address,
        "State": controller.state,
    }
    return made | ({"ANAState": state} if ana else {})


# --- what both are made of ---------------------------------------------------------------------


def _paths(found: Subsystem) -> list[tuple[SubsystemController, str]]:
    """Give the controllers with the state of their path to the first namespace."""
    if not found.namespaces or not found.namespaces[0].paths:
        return [(each, "") for each in found.controllers]
    return _ways(found, found.namespaces[0].paths)


def _namespaces(
    found: Subsystem,
) -> Iterator[tuple[int, list[tuple[SubsystemController, str]]]]:
    """Yield each namespace with the controllers that have it."""
    for namespace in found.namespaces:
        yield namespace.nsid, _ways(found, namespace.paths)
    if not found.namespaces:
        for controller in found.controllers:
            for nsid in controller.nsids:
                yield nsid, [(controller, "")]


def _ways(found: Subsystem, paths: Any) -> list[tuple[SubsystemController, str]]:
    by_name = {each.name: each for each in found.controllers}
    return [(by_name[path.controller], path.ana_state) for path in paths]


COMMANDS = (list_subsys, show_topology, ns_rescan, get_ns_id)
