"""Commands about which namespaces there are, and which controllers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import (
    device_command,
    format_of,
    identified,
    opened,
    timeout_option,
)
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import (
    confirm,
    destroy_option,
    every_namespace,
    force_option,
    guard_all,
    named_namespaces,
    refusals,
)
from pynvme_user.cli.types import COUNT, SIZE, U8, U16, U32, U64, Amount, Member, Numbers, SiAmount
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode, CommandSetId

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynvme_user.spec.identify import FLBAS, IdentifyNamespace

_CSI = Member(CommandSetId)
_SI = "bytes in powers of 1000 (1.5T, 64M), or blocks"
_SECONDS = 120.0
_MOST_CONTROLLERS = 2047

_nsid_option = click.option(
    "--namespace-id", "-n", type=U32, required=True, metavar="NSID", help="The namespace."
)
_controllers_option = click.option(
    "--controllers",
    "-c",
    type=Numbers(16),
    metavar="ID,...",
    help="Ids of the controllers (CNTLID); by default this one's.",
)


@device_command("create-ns", "nvme-user create-ns 0000:01:00.0 --nsze 2097152 --block-size 4096")
@click.option("--nsze", "-s", type=COUNT, metavar="BLOCKS", help="Its size.")
@click.option(
    "--ncap",
    "-c",
    type=COUNT,
    metavar="BLOCKS",
    help="Blocks that may be allocated at a time; by default all.",
)
@click.option("--flbas", "-f", type=U8, help="The format, and where its metadata lies (FLBAS).")
@click.option("--dps", "-d", type=U8, default=0, help="The protection information (DPS).")
@click.option("--nmic", "-m", type=U8, default=0, help="1 lets several controllers have it (NMIC).")
@click.option(
    "--anagrp-id", "-a", type=U32, default=0, help="ANA group; 0: the controller's choice."
)
@click.option("--nvmset-id", "-i", type=U16, default=0, help="NVM set; 0: the controller's choice.")
@click.option(
    "--endg-id", "-e", type=U16, default=0, help="Endurance group; 0: the controller's choice."
)
@click.option(
    "--block-size",
    "-b",
    type=SIZE,
    help="Take the format of blocks of this size without metadata, in place of --flbas.",
)
@timeout_option(120_000)
@click.option("--csi", "-y", type=_CSI, default="0", help=f"I/O command set: {_CSI.words}.")
@click.option("--lbstm", "-l", type=U64, default=0, help="The storage tag's mask (LBSTM).")
@click.option(
    "--phndls",
    "-p",
    type=Numbers(16),
    metavar="RUH,...",
    help="Reclaim unit handles that it may write by (FDP).",
)
@click.option("--nsze-si", "-S", type=SiAmount(), help=f"Its size: {_SI}.")
@click.option("--ncap-si", "-C", type=SiAmount(), help=f"Its capacity: {_SI}.")
@force_option
def create_ns(
    device: str,
    nsze: int | None,
    ncap: int | None,
    flbas: int | None,
    dps: int,
    nmic: int,
    anagrp_id: int,
    nvmset_id: int,
    endg_id: int,
    block_size: int | None,
    timeout: int,
    csi: CommandSetId,
    lbstm: int,
    phndls: list[int] | None,
    nsze_si: Amount | None,
    ncap_si: Amount | None,
    force: bool,
) -> None:
    """Create a namespace. No controller has it yet: attach-ns gives it to some."""
    from pynvme_user.spec.identify import DPS, FLBAS, NMIC
    from pynvme_user.spec.management import (
        NamespaceCreate,
        NamespaceManagementCdw10,
        NamespaceManagementCdw11,
        NamespaceManagementResult,
        NamespaceManagementSelect,
    )

    _one_of(nsze, nsze_si, "--nsze", "--nsze-si", "how large? ")
    _one_of(flbas, block_size, "--flbas", "--block-size", "which format? ")
    if ncap is not None and ncap_si is not None:
        raise click.UsageError("--ncap and --ncap-si both say it: leave out one")
    handles = phndls or []
    if len(handles) > 128:
        raise click.UsageError(f"a namespace has up to 128 placement handles, not {len(handles)}")
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.NAMESPACE_MANAGEMENT, force)
        format = FLBAS(flbas or 0)
        if flbas is None or nsze_si is not None or ncap_si is not None:
            page = identified(controller, NSID_ALL)  # what all have in common: their formats
            if block_size is not None:
                format = _flbas(page, block_size)
            size = _block_bytes(page, format)
            nsze = _blocks(nsze, nsze_si, size)
            ncap = _blocks(ncap, ncap_si, size)
        assert nsze is not None
        data = NamespaceCreate.build(
            nsze=nsze,
            ncap=nsze if ncap is None else ncap,
            flbas=format,
            dps=DPS(dps),
            nmic=NMIC(nmic),
            anagrpid=anagrp_id,
            nvmsetid=nvmset_id,
            endgid=endg_id,
            lbstm=lbstm,
            nphndls=len(handles),
            phndl=[*handles, *[0] * (128 - len(handles))],
        )
        done = controller.admin(
            AdminOpcode.NAMESPACE_MANAGEMENT,
            buffer=bytearray(bytes(data)),
            cdw10=NamespaceManagementCdw10.build(sel=NamespaceManagementSelect.CREATE),
            cdw11=NamespaceManagementCdw11.build(csi=csi),
            timeout=timeout / 1000 or _SECONDS,
        )
        nsid = NamespaceManagementResult(done.result & 0xFFFFFFFF).nsid
        print(f"create-ns: Success, created nsid:{nsid}")


def _one_of(one: object, other: object, name: str, other_name: str, question: str) -> None:
    if one is not None and other is not None:
        raise click.UsageError(f"{name} and {other_name} both say it: leave out one")
    if one is None and other is None:
        raise click.UsageError(f"{question}Give {name} or {other_name}")


def _flbas(page: IdentifyNamespace, block_size: int) -> FLBAS:
    from pynvme_user.spec.identify import FLBAS

    index = format_of(page, block_size)
    return FLBAS.build(fidxl=index & 15, fidxu=index >> 4)


def _block_bytes(page: IdentifyNamespace, format: FLBAS) -> int:
    index = format.fidxl | format.fidxu << 4
    lbaf = page.lbafs[index]
    if not lbaf.ds:
        raise Failure(f"there is no format {index}: id-ns lists them")
    return (1 << lbaf.ds) + lbaf.ms


def _blocks(blocks: int | None, amount: Amount | None, size: int) -> int | None:
    """Give a number of blocks, of so many bytes each, that was said in either way."""
    if amount is None:
        return blocks
    return amount.number // size if amount.in_bytes else amount.number


@device_command("delete-ns", "nvme-user delete-ns 0000:01:00.0 -n 2")
@_nsid_option
@timeout_option(120_000)
@destroy_option
def delete_ns(device: str, namespace_id: int, timeout: int, force: bool) -> None:
    """Delete a namespace, or with -n 0xffffffff all of them: its data is lost.

    What is not attached to this controller cannot be looked at, and wants --force.
    """
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.NAMESPACE_MANAGEMENT, force)
        if not force:
            every = namespace_id == NSID_ALL
            concerned = every_namespace(controller) if every else [namespace_id]
            guard_all(controller, concerned, "delete it")
            confirm(f"delete-ns loses the data of {named_namespaces(controller, concerned)}")
        controller.delete_namespace(namespace_id, timeout=timeout / 1000 or _SECONDS, force=force)
        print(f"delete-ns: Success, deleted nsid:{namespace_id}")


@device_command("attach-ns", "nvme-user attach-ns 0000:01:00.0 -n 2 --controllers 0,1")
@_nsid_option
@_controllers_option
@force_option
def attach_ns(device: str, namespace_id: int, controllers: list[int] | None, force: bool) -> None:
    """Attach a namespace to controllers, which can use it from then on."""
    with opened(device) as controller, refusals():
        _attach("attach-ns", controller.attach_namespace, namespace_id, controllers, force)


@device_command("detach-ns", "nvme-user detach-ns 0000:01:00.0 -n 2 --controllers 0,1")
@_nsid_option
@_controllers_option
@force_option
def detach_ns(device: str, namespace_id: int, controllers: list[int] | None, force: bool) -> None:
    """Detach a namespace from controllers, which cannot use it any more; its data stays."""
    with opened(device) as controller, refusals():
        _attach("detach-ns", controller.detach_namespace, namespace_id, controllers, force)


def _attach(
    name: str,
    send: Callable[..., None],
    nsid: int,
    controllers: list[int] | None,
    force: bool,
) -> None:
    if controllers is not None and len(controllers) > _MOST_CONTROLLERS:
        raise click.UsageError(f"one command names up to {_MOST_CONTROLLERS} controllers")
    send(nsid, controllers, force=force)
    print(f"{name}: Success, nsid:{nsid}")


COMMANDS = (create_ns, delete_ns, attach_ns, detach_ns)
