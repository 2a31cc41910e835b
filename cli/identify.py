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
    hexdump,
    human_option,
    output_option,
    raw_binary_option,
)
from pynvme_user.cli.types import U32
from pynvme_user.errors import NvmeError
from pynvme_user.spec.text import printable

if TYPE_CHECKING:
    from pynvme_user import Controller
    from pynvme_user.cli import summary
    from pynvme_user.spec.fields import Struct
    from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace, PowerState

#: Numbers that nvme-cli prints as hexadecimal though no bit of theirs has a name.
_HEXADECIMAL = {"vid", "ssvid", "cntlid", "rtd3r", "rtd3e", "rrls", "nsze", "ncap", "nuse"}
_OPTIMAL_FIELDS = ("npwg", "npwa", "npdg", "npda", "nows")

_vendor_option = click.option(
    "--vendor-specific", "-v", is_flag=True, help="Dump the vendor's own bytes, too."
)


@device_command("identify", "nvme-user identify 'qemu:disk.img?size=1G'")
@output_option(NORMAL, JSON)
def identify(device: str, output_format: str) -> None:
    """Show the controller and its namespaces on one page."""
    from pynvme_user.cli import summary

    with opened(device) as controller:
        found = summary.gather(controller)
        page = Page(
            normal=lambda: summary.lines(found),
            json=lambda: {
                "controller": controller_json(found.identify),
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
    with opened(device) as controller:
        page = controller.identify

        def normal() -> Iterator[str]:
            yield "Identify Controller:"
            yield from _field_lines(page, 10, human_readable, skip=("psds", "vs"))
            for number, state in enumerate(page.psds[: page.npss + 1]):
                yield from _power_state_lines(number, state)
            if vendor_specific:
                yield "vs:"
                yield from hexdump(page.vs)

        Page(normal, lambda: controller_json(page), lambda: bytes(page)).show(
            BINARY if raw_binary else output_format
        )


@device_command("id-ns", "nvme-user id-ns qemu:disk.img --namespace-id 1 -H")
@namespace_option
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@human_option
@_vendor_option
def id_ns(
    device: str,
    namespace_id: int | None,
    output_format: str,
    raw_binary: bool,
    human_readable: bool,
    vendor_specific: bool,
) -> None:
    """Show the Identify Namespace page, whatever it holds; zeroes where nothing is active.

    With -n 0xffffffff it is what all namespaces have in common, where the controller tells.
    """
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.commands import NSID_ALL
    from pynvme_user.spec.identify import IdentifyNamespace

    with opened(device) as controller:
        nsid = only_namespace(controller) if namespace_id is None else namespace_id
        page = IdentifyNamespace.from_bytes(controller.identify_page(Cns.NAMESPACE, nsid=nsid))

        def normal() -> Iterator[str]:
            of = ", common to all" if nsid == NSID_ALL else f" {nsid}"
            yield f"Identify Namespace{of}:"
            yield from _field_lines(page, 8, human_readable, skip=(*_absent(page), "lbafs", "vs"))
            for index, lbaf in enumerate(page.lbafs[: page.nlbaf + page.nulbaf + 1]):
                in_use = " (in use)" if index == page.format_index else ""
                yield f"lbaf {index:2} : ms:{lbaf.ms:<3} lbads:{lbaf.ds:<2} rp:{lbaf.rp:#x}{in_use}"
            if vendor_specific:
                yield "vs:"
                yield from hexdump(page.vs)

        Page(normal, lambda: namespace_json(page), lambda: bytes(page)).show(
            BINARY if raw_binary else output_format
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
    if namespace_id == 0:
        raise click.UsageError("namespace ids begin at 1")
    ids: list[int] = []
    fault = None
    with opened(device) as controller:
        try:
            for nsid in _allocated(controller) if allocated else controller.namespaces.found():
                ids += [nsid] if nsid >= namespace_id else []
        except NvmeError as error:
            fault = error
        Page(
            normal=lambda: (f"[{index:4}]:{nsid:#x}" for index, nsid in enumerate(ids)),
            json=lambda: {"nsid_list": [{"nsid": nsid} for nsid in ids]},
        ).show(output_format)
        if fault is not None:
            raise fault


def _allocated(controller: Controller) -> Iterator[int]:
    """Ask for the allocated namespaces (Base 2.0, Identify CNS 10h)."""
    from pynvme_user.spec.admin import Cns

    return controller.namespaces.listed(Cns.ALLOCATED_NAMESPACES)


# --- JSON as nvme-cli 2.x has it ---------------------------------------------------------------


def controller_json(page: IdentifyController) -> dict[str, Any]:
    """Give the keys of nvme-cli's ``id-ctrl -o json``; text keeps its padding, as there."""
    plain = page.to_dict()
    for name in ("vs", "dctype"):
        del plain[name]
    for field in (type(page).sn, type(page).mn, type(page).fr):
        raw = bytes(page)[field.offset : field.offset + field.size]
        plain[field.name] = raw.decode(field.codec).rstrip("\0")
    if not plain["subnqn"]:
        del plain["subnqn"]
    plain["psds"] = [
        {
            "max_power": state.mp,
            "flags": state.flags,
            "entry_lat": state.enlat,
            "exit_lat": state.exlat,
            "read_tput": state.rrt,
            "read_lat": state.rrl,
            "write_tput": state.rwt,
            "write_lat": state.rwl,
            "idle_power": state.idlp,
            "idle_scale": state.ips.ips,
            "active_power": state.actp,
            "active_power_work": state.apws.apw,
            "active_scale": state.apws.aps,
        }
        for state in page.psds[: page.npss + 1]
    ]
    return plain


def namespace_json(page: IdentifyNamespace) -> dict[str, Any]:
    """Give the keys of nvme-cli's ``id-ns -o json``."""
    plain = page.to_dict()
    for name in (*_absent(page), "vs"):
        del plain[name]
    plain["lbafs"] = plain["lbafs"][: page.nlbaf + 1]
    return plain


def _found_json(found: summary.FoundNamespace) -> dict[str, Any]:
    """Give what is known of a namespace, and ``error`` where that is not all."""
    page = {} if found.page is None else namespace_json(found.page)
    error = {"error": found.error} if found.error else {}
    return {"nsid": found.nsid, **page, **found.identifiers.to_dict(), **error}


def _absent(page: IdentifyNamespace) -> tuple[str, ...]:
    """Fields that mean nothing here: NSFEAT.OPTPERF tells whether a device fills them in."""
    return () if page.nsfeat.optperf else _OPTIMAL_FIELDS


# --- text --------------------------------------------------------------------------------------


def _field_lines(
    page: Struct, width: int, human_readable: bool, skip: tuple[str, ...]
) -> Iterator[str]:
    """Write a line per field, in the page's order, and if asked for its bits below it."""
    from pynvme_user.spec.fields import Register

    for name, value, text in page.fields():
        if name in skip:
            continue
        yield f"{name:<{width}}: {_text(name, value)}"
        if human_readable:
            yield f"  {text}"
            if isinstance(value, Register):
                yield from (f"    {line}" for line in value.dump())


def _text(name: str, value: object) -> str:
    from pynvme_user.spec.fields import Register

    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        if name == "ieee":
            return f"{value:06x}"
        return f"{value:#x}" if isinstance(value, Register) or name in _HEXADECIMAL else str(value)
    return printable(str(value))


def _power_state_lines(number: int, state: PowerState) -> Iterator[str]:
    kind = "non-operational" if state.flags.nops else "operational"
    idle = _power(state.idlp, state.ips.ips)
    active = _power(state.actp, state.apws.aps)
    yield f"ps {number:6} : mp:{state.max_power:g}W {kind} enlat:{state.enlat} exlat:{state.exlat}"
    yield f"            rrt:{state.rrt} rrl:{state.rrl} rwt:{state.rwt} rwl:{state.rwl}"
    yield f"            idle_power:{idle} active_power:{active} workload:{state.apws.apw}"


def _power(value: int, scale: int) -> str:
    unit = {1: 0.0001, 2: 0.01}.get(scale)
    return "-" if unit is None else f"{value * unit:g}W"
