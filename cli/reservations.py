"""The four reservation commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened
from pynvme_user.cli.guard import (
    force_option,
    refusals,
)
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    output_option,
    raw_binary_option,
)
from pynvme_user.cli.types import COUNT, Member, Number
from pynvme_user.errors import NvmeStatusError
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.reservations import (
    AcquireAction,
    ChangePtpl,
    RegisterAction,
    ReleaseAction,
    ReservationType,
)
from pynvme_user.spec.status import GenericStatus

if TYPE_CHECKING:
    from pynvme_user import Namespace

_TYPE = Member(ReservationType)
_REGISTER = Member(RegisterAction)
_PTPL = Member(ChangePtpl)
_ACQUIRE = Member(AcquireAction)
_RELEASE = Member(ReleaseAction)

_crkey_option = click.option("--crkey", "-c", type=COUNT, default=0, help="This host's key.")
_rtype_option = click.option(
    "--rtype", "-t", type=_TYPE, default="0", help=f"Reservation: {_TYPE.words}."
)
_iekey_option = click.option("--iekey", "-i", is_flag=True, help="Do not check --crkey.")


@device_command("resv-register", "nvme-user resv-register 0000:01:00.0 -n 1 --nrkey 0xabba")
@namespace_option
@_crkey_option
@click.option("--nrkey", "-k", type=COUNT, default=0, help="The new key.")
@click.option("--rrega", "-r", type=_REGISTER, default="0", help=f"What: {_REGISTER.words}.")
@click.option(
    "--cptpl", "-p", type=_PTPL, default="0", help=f"When the power is lost: {_PTPL.words}."
)
@_iekey_option
@force_option
def resv_register(
    device: str,
    namespace_id: int | None,
    crkey: int,
    nrkey: int,
    rrega: RegisterAction,
    cptpl: ChangePtpl,
    iekey: bool,
    force: bool,
) -> None:
    """Register this host's key, replace it or take it back."""
    with opened(device) as controller, refusals():
        namespace(controller, namespace_id).reservation_register(
            nrkey, key=crkey, action=rrega, persist=cptpl, ignore_key=iekey, force=force
        )
        print("NVME Reservation  success")  # as nvme-cli has it


@device_command("resv-acquire", "nvme-user resv-acquire 0000:01:00.0 -n 1 --crkey 0xabba -t 1")
@namespace_option
@_crkey_option
@click.option("--prkey", "-p", type=COUNT, default=0, help="The key of who is preempted.")
@_rtype_option
@click.option("--racqa", "-a", type=_ACQUIRE, default="0", help=f"How: {_ACQUIRE.words}.")
@_iekey_option
@force_option
def resv_acquire(
    device: str,
    namespace_id: int | None,
    crkey: int,
    prkey: int,
    rtype: ReservationType,
    racqa: AcquireAction,
    iekey: bool,
    force: bool,
) -> None:
    """Acquire a reservation, or take it from another host."""
    with opened(device) as controller, refusals():
        namespace(controller, namespace_id).reservation_acquire(
            crkey, rtype, action=racqa, preempt_key=prkey, ignore_key=iekey, force=force
        )
        print("NVME Reservation Acquire success")


@device_command("resv-release", "nvme-user resv-release 0000:01:00.0 -n 1 --crkey 0xabba -t 1")
@namespace_option
@_crkey_option
@_rtype_option
@click.option("--rrela", "-a", type=_RELEASE, default="0", help=f"What: {_RELEASE.words}.")
@_iekey_option
@force_option
def resv_release(
    device: str,
    namespace_id: int | None,
    crkey: int,
    rtype: ReservationType,
    rrela: ReleaseAction,
    iekey: bool,
    force: bool,
) -> None:
    """Release a reservation, or clear all there is."""
    with opened(device) as controller, refusals():
        namespace(controller, namespace_id).reservation_release(
            crkey, rtype, action=rrela, ignore_key=iekey, force=force
        )
        print("NVME Reservation Release success")


@device_command("resv-report", "nvme-user resv-report 0000:01:00.0 -n 1 --eds -o json")
@namespace_option
@click.option(
    "--numd",
    "-d",
    type=Number(10),
    metavar="DWORDS",
    help="Dwords to ask for, less one; by default all that there are.",
)
@click.option(
    "--eds",
    "-e",
    is_flag=True,
    help="The form for host identifiers of 128 bits; taken where it is needed, too.",
)
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@force_option
def resv_report(
    device: str,
    namespace_id: int | None,
    numd: int | None,
    eds: bool,
    output_format: str,
    raw_binary: bool,
    force: bool,
) -> None:
    """Show who is registered, and who holds the reservation."""
    from pynvme_user.cli.pages import show

    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.RESERVATION_REPORT, force)
        try:
            page = _report(ns, numd, eds)
        except NvmeStatusError as error:
            # The host's identifier has 128 bits, which only that form holds.
            if eds or error.status.code() is not GenericStatus.HOST_ID_INCONSISTENT_FORMAT:
                raise
            page = _report(ns, numd, True)
        show(page, BINARY if raw_binary else output_format, device=device, nsid=ns.nsid)


def _report(ns: Namespace, numd: int | None, eds: bool) -> Any:
    """Read the report, or so many dwords of it, less one: the header at least."""
    from pynvme_user.spec.reservations import (
        ExtendedReservationStatus,
        ReservationReportCdw11,
        ReservationStatus,
    )

    if numd is None:
        return ns.reservation_report(extended=eds, force=True)
    kind = ExtendedReservationStatus if eds else ReservationStatus
    data = bytearray(max(4 * (numd + 1), kind.header_type.size))
    ns.controller.io(
        NvmOpcode.RESERVATION_REPORT,
        nsid=ns.nsid,
        buffer=data,
        cdw10=len(data) // 4 - 1,
        cdw11=ReservationReportCdw11.build(eds=eds),
    )
    return kind.from_bytes(bytes(data))


COMMANDS = (resv_register, resv_acquire, resv_release, resv_report)
