"""``fdp``: Flexible Data Placement, as nvme-cli's plugin has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened
from pynvme_user.cli.guard import force_option, refusals
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    echo_lines,
    human_option,
    output_option,
    raw_binary_option,
)
from pynvme_user.cli.plugin import Plugin
from pynvme_user.cli.types import U8, U16, U32, Numbers
from pynvme_user.spec.commands import NSID_ALL, NvmOpcode
from pynvme_user.spec.logs_fdp import FdpEventType

if TYPE_CHECKING:
    from pynvme_user import Controller

_MOST_EVENTS = 255  # that NOET counts
_group_option = click.option(
    "--endgrp-id", "-e", type=U16, required=True, metavar="ID", help="The endurance group."
)


def _command(name: str, options: str) -> Callable[[Callable[..., Any]], Any]:
    return device_command(name, f"nvme-user fdp {name} 0000:01:00.0 {options}")


def _page_command(
    name: str, structure: str, help: str, *options: Callable[..., Any]
) -> click.Command:
    """Declare the command of one log page; ``structure`` is a name in spec.logs."""

    def show_page(
        device: str,
        endgrp_id: int,
        output_format: str,
        raw_binary: bool,
        force: bool,
        human_readable: bool = False,
        host_events: bool = False,
    ) -> None:
        from pynvme_user.cli.pages import show
        from pynvme_user.spec import logs

        with opened(device) as controller, refusals():
            kind = getattr(logs, structure)
            page = controller.log(kind, lsi=endgrp_id, lsp=int(host_events), force=force)
            shown = BINARY if raw_binary else output_format
            show(page, shown, device=device, nsid=endgrp_id, human=human_readable)

    output = output_option(NORMAL, JSON, BINARY)
    for option in reversed((_group_option, *options, output, raw_binary_option, force_option)):
        show_page = option(show_page)
    show_page.__doc__ = help
    made: click.Command = _command(name, "--endgrp-id 1")(show_page)
    return made


configs = _page_command(
    "configs",
    "FdpConfigurationsLog",
    "Show the configurations that an endurance group can have.",
    human_option,
)
usage = _page_command(
    "usage", "ReclaimUnitHandleUsageLog", "Show who uses the reclaim unit handles."
)
stats = _page_command(
    "stats", "FdpStatisticsLog", "Show how much was written, by the host and to the media."
)
events = _page_command(
    "events",
    "FdpEventsLog",
    "Show what happened to reclaim units.",
    click.option(
        "--host-events", "-E", is_flag=True, help="The host's events, not the controller's."
    ),
)


@_command("status", "--namespace-id 1")
@namespace_option
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@force_option
def status(
    device: str, namespace_id: int | None, output_format: str, raw_binary: bool, force: bool
) -> None:
    """Show the reclaim unit handles that a namespace may write by."""
    from pynvme_user.cli.pages import show

    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.IO_MANAGEMENT_RECEIVE, force)
        shown = BINARY if raw_binary else output_format
        show(ns.reclaim_unit_handles(), shown, device=device, nsid=ns.nsid)


@_command("update", "--pids 0,1")
@namespace_option
@click.option(
    "--pids",
    "-p",
    type=Numbers(16),
    required=True,
    metavar="PID,...",
    help="The placement identifiers.",
)
@force_option
def update(device: str, namespace_id: int | None, pids: list[int], force: bool) -> None:
    """Let the next writes by these placement identifiers begin fresh reclaim units."""
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.IO_MANAGEMENT_SEND, force)
        ns.update_reclaim_units(pids)
    echo_lines(["update: Success"])


@_command("set-events", "--placement-handle 0 --event-types 0,1 --enable")
@click.option(
    "--namespace-id",
    "-n",
    type=U32,
    default=NSID_ALL,
    metavar="NSID",
    help="The namespace; all if left out.",
)
@click.option("--placement-handle", "-p", type=U16, default=0, help="The placement handle.")
@click.option("--enable", "-e", is_flag=True, help="Enable the events; without it disable them.")
@click.option("--save", "-s", is_flag=True, help="Let it outlast resets and power cycles.")
@click.option(
    "--event-types",
    "-t",
    type=Numbers(8),
    required=True,
    metavar="TYPE,...",
    help="The events: "
    + ", ".join(f"{int(one)} {one.name.lower().replace('_', ' ')}" for one in FdpEventType)
    + ".",
)
@force_option
def set_events(
    device: str,
    namespace_id: int,
    placement_handle: int,
    enable: bool,
    save: bool,
    event_types: list[int],
    force: bool,
) -> None:
    """Enable or disable events of a placement handle."""
    from pynvme_user.spec.feature_data import FdpEventTypes
    from pynvme_user.spec.feature_dwords import FdpEventsCdw11, FdpEventsCdw12
    from pynvme_user.spec.features import FeatureId

    if len(event_types) > _MOST_EVENTS:
        raise click.UsageError(f"up to {_MOST_EVENTS} events are set at a time")
    with opened(device) as controller, refusals():
        _check_feature(controller, FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS, force)
        controller.set_feature(
            FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS,
            FdpEventsCdw11.build(phndl=placement_handle, noet=len(event_types)),
            cdw12=FdpEventsCdw12.build(fdpee=enable),
            data=FdpEventTypes.build(event_types),
            save=save,
            nsid=namespace_id,
        )
    echo_lines(["set-events: Success"])


@_command("feature", "--endgrp-id 1")
@_group_option
@click.option("--enable-conf-idx", "-c", type=U8, metavar="INDEX", help="Enable it, as configured.")
@click.option("--disable", "-d", is_flag=True, help="Disable it.")
@force_option
def feature(
    device: str, endgrp_id: int, enable_conf_idx: int | None, disable: bool, force: bool
) -> None:
    """Show, enable or disable data placement of an endurance group."""
    from pynvme_user.spec.feature_dwords import FlexibleDataPlacementCdw12
    from pynvme_user.spec.features import FeatureId

    if disable and enable_conf_idx is not None:
        raise click.UsageError("--enable-conf-idx and --disable do not go together: leave out one")
    fid = FeatureId.FLEXIBLE_DATA_PLACEMENT
    with opened(device) as controller, refusals():
        _check_feature(controller, fid, force)
        if not disable and enable_conf_idx is None:
            found = controller.feature(fid, nsid=NSID_ALL, cdw11=endgrp_id)
            now = FlexibleDataPlacementCdw12(found.result)
            echo_lines(
                [
                    f"Endurance Group                               : {endgrp_id}",
                    "Flexible Direct Placement Enable (FDPE)       : "
                    f"{'Yes' if now.fdpe else 'No'}",
                    f"Flexible Direct Placement Configuration Index : {now.fdpcidx}",
                ]
            )
            return
        index = enable_conf_idx or 0
        controller.set_feature(
            fid,
            endgrp_id,
            cdw12=FlexibleDataPlacementCdw12.build(fdpe=not disable, fdpcidx=index),
            save=True,
            nsid=NSID_ALL,
        )
    echo_lines(
        [
            f"Success {'disabling' if disable else 'enabling'} Endurance Group: {endgrp_id}, "
            f"FDP configuration index: {index}"
        ]
    )


def _check_feature(controller: Controller, fid: int, force: bool) -> None:
    """Raise NotSupportedError where the controller says that it has no such feature."""
    from pynvme_user.errors import NotSupportedError
    from pynvme_user.spec.support import unsupported_feature

    if not force and (missing := unsupported_feature(controller.identify, fid)):
        raise NotSupportedError(f"{controller.name} has no feature {fid:02x}h: {missing}")


fdp = Plugin(
    "fdp",
    "Flexible Data Placement: configurations, handles, events.",
    (configs, usage, stats, events, status, update, set_events, feature),
)
