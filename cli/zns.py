"""``zns``: what there is to be done with zones, as nvme-cli's plugin has it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import (
    device_command,
    namespace,
    namespace_option,
    only_namespace,
    opened,
    timeout_option,
)
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import force_option, guard, refusals
from pynvme_user.cli.options import (
    Tags,
    file_option,
    fua_option,
    gathered,
    latency_option,
    retry_option,
    tag_options,
)
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    Page,
    echo_lines,
    human_option,
    output_option,
    raw_binary_option,
)
from pynvme_user.cli.plugin import Plugin
from pynvme_user.cli.types import COUNT, SIZE, U32, Member
from pynvme_user.spec.commands import CommandSetId, NvmOpcode
from pynvme_user.spec.zns import ReportedZones, ZoneReceiveAction, ZoneSendAction

if TYPE_CHECKING:
    from pynvme_user import Namespace
    from pynvme_user.cli.files import Source

_STATE = Member(ReportedZones)
_ZRA = Member(ZoneReceiveAction)
_ZSA = Member(ZoneSendAction)
_LOSE_DATA = (ZoneSendAction.RESET, ZoneSendAction.OFFLINE)

_start_option = click.option(
    "--start-lba",
    "-s",
    type=COUNT,
    default=0,
    show_default=True,
    metavar="LBA",
    help="The zone's first block.",
)
_all_option = click.option("--select-all", "-a", is_flag=True, help="All zones that it is for.")
_overwrite_option = click.option(
    "--force", is_flag=True, help="Do it even where there is a partition table or file system."
)
_zrwaa_option = click.option(
    "--zrwaa", "-r", is_flag=True, help="Allocate a zone random write area to the zone."
)
_data_option = file_option("--data", "-d", "Where the data comes from; stdin if left out.")
_timeout_option = timeout_option(0)


def _command(name: str, options: str = "") -> Callable[[Callable[..., Any]], Any]:
    return device_command(name, f"nvme-user zns {name} 'qemu:?zoned=on' {options}".rstrip())


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None


# --- what there is -------------------------------------------------------------------------------


@_command("list")
@output_option(NORMAL, JSON)
def list_zoned(device: str, output_format: str) -> None:
    """List the zoned namespaces of a controller."""
    with opened(device) as controller:
        found = [ns for ns in controller.namespaces.values() if ns.zoned]
        rows = [_row(ns) for ns in found]
    Page(normal=lambda: _table(rows), json=lambda: {"Namespaces": rows}).show(output_format)


def _row(ns: Namespace) -> dict[str, object]:
    zones = ns.zones
    return {
        "NameSpace": ns.nsid,
        "SectorSize": ns.block_size,
        "Zones": zones.count,
        "ZoneBlocks": zones.zone_blocks,
        "MaximumOpen": zones.max_open,
        "MaximumActive": zones.max_active,
        "MaximumAppend": zones.max_append,
    }


def _table(rows: list[dict[str, object]]) -> Iterator[str]:
    from pynvme_user.tables import aligned

    if not rows:
        yield "The controller has no zoned namespace."
        return
    head = ("Namespace", "Block size", "Zones", "Zone blocks", "Open", "Active", "Append blocks")
    cells = [tuple("any" if one is None else str(one) for one in row.values()) for row in rows]
    yield from aligned([head, *cells], "<" * len(head))


@_command("id-ctrl")
@output_option(NORMAL, JSON, BINARY)
def id_ctrl(device: str, output_format: str) -> None:
    """Show what the controller says of the zoned command set."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.admin import Cns

    with opened(device) as controller:
        page = controller.identify_data(Cns.CSI_CONTROLLER, csi=CommandSetId.ZONED)
        show(page, output_format, device=device)


@_command("id-ns")
@namespace_option
@click.option("--vendor-specific", "-v", is_flag=True, help="The vendor's own bytes, too.")
@human_option
@output_option(NORMAL, JSON, BINARY)
def id_ns(
    device: str,
    namespace_id: int | None,
    vendor_specific: bool,
    human_readable: bool,
    output_format: str,
) -> None:
    """Show what the zoned command set says of a namespace."""
    from pynvme_user.cli.device import identified
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.admin import Cns

    with opened(device) as controller:
        nsid = only_namespace(controller) if namespace_id is None else namespace_id
        page = controller.identify_data(Cns.CSI_NAMESPACE, nsid=nsid, csi=CommandSetId.ZONED)
        show(
            page,
            output_format,
            device=device,
            nsid=nsid,
            human=human_readable,
            vendor=vendor_specific,
            namespace=identified(controller, nsid),
        )


@_command("report-zones", "--state full")
@namespace_option
@_start_option
@click.option("--descs", "-d", type=U32, help="Zones to list; all if left out.")
@click.option(
    "--state", "-S", type=_STATE, default="0", help=f"Those in this state alone: {_STATE.words}."
)
@output_option(NORMAL, JSON, BINARY)
@click.option("--verbose", "-v", "human", is_flag=True, help="Say states and attributes in words.")
@click.option("--extended", "-e", is_flag=True, help="With the zones' descriptor extensions.")
@click.option("--partial", "-p", is_flag=True, help="Let nr_zones count the zones that are listed.")
def report_zones(
    device: str,
    namespace_id: int | None,
    start_lba: int,
    descs: int | None,
    state: ReportedZones,
    output_format: str,
    human: bool,
    extended: bool,
    partial: bool,
) -> None:
    """List zones: first block, write pointer, capacity, state.

    nr_zones is how many there are in that state from --start-lba on, however many are listed.
    """
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.zns import ZoneList, ZoneReport

    with opened(device) as controller, refusals():
        zones = namespace(controller, namespace_id).zones
        report = zones.report(start_lba, state, descs, extended=extended)
        if descs is not None and not partial:
            header = ZoneReport.build(nzones=zones.matching(start_lba, state))
            raw = bytes(header) + bytes(report)[ZoneReport.size :]
            report = ZoneList.from_bytes(raw, stride=report.stride)
        show(report, output_format, device=device, human=human)


@_command("changed-zone-list")
@namespace_option
@click.option(
    "--rae", "-r", is_flag=True, help="Retain the asynchronous event that tells of the page."
)
@output_option(NORMAL, JSON, BINARY)
@force_option
def changed_zone_list(
    device: str, namespace_id: int | None, rae: bool, output_format: str, force: bool
) -> None:
    """Show which zones changed by themselves since this was last read."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.logs import ChangedZonesLog

    with opened(device) as controller, refusals():
        nsid = only_namespace(controller) if namespace_id is None else namespace_id
        page = controller.log(
            ChangedZonesLog, nsid=nsid, csi=CommandSetId.ZONED, retain_event=rae, force=force
        )
        show(page, output_format, device=device, nsid=nsid)


# --- states --------------------------------------------------------------------------------------


def _action_command(action: ZoneSendAction, help: str) -> Any:
    """Declare the command that does one thing with a zone, or with all."""
    name = f"{action.name.lower()}-zone"

    def send(
        device: str,
        namespace_id: int | None,
        start_lba: int,
        select_all: bool,
        timeout: int,
        zrwaa: bool = False,
        force: bool = False,
    ) -> None:
        options: dict[str, Any] = {"select_all": select_all}
        if action is ZoneSendAction.OPEN:
            options |= {"zrwa": zrwaa, "force": force}
        with opened(device, _seconds(timeout)) as controller, refusals():
            ns = namespace(controller, namespace_id)
            zones = ns.zones
            if action in _LOSE_DATA:
                guard(ns, force, f"{action.name.lower()} zones")
            act = getattr(zones, action.name.lower())
            changed = act(None if select_all else start_lba, **options)
        if action is ZoneSendAction.OPEN:
            said = f"zns-{name}: Success zone slba:{start_lba:x} nsid:{ns.nsid}"
        else:
            said = (
                f"zns-{name}: Success, action:{int(action)} zone:{start_lba:x} "
                f"all:{int(select_all)} zcapc:{int(bool(changed))} nsid:{ns.nsid}"
            )
        echo_lines([said])

    given: list[Callable[..., Any]] = [namespace_option, _start_option, _all_option]
    given.append(_timeout_option)
    if action is ZoneSendAction.OPEN:
        given += [_zrwaa_option, force_option]
    if action in _LOSE_DATA:
        given.append(_overwrite_option)
    for option in reversed(given):
        send = option(send)
    send.__doc__ = help
    return _command(name, "--start-lba 0")(send)


close_zone = _action_command(ZoneSendAction.CLOSE, "Close an open zone, or all open ones.")
finish_zone = _action_command(
    ZoneSendAction.FINISH, "Let a zone be full as it is, or all that are open or closed."
)
open_zone = _action_command(ZoneSendAction.OPEN, "Open a zone, or all that are closed.")
reset_zone = _action_command(
    ZoneSendAction.RESET, "Empty a zone, or all that are not empty: their data is lost."
)
offline_zone = _action_command(
    ZoneSendAction.OFFLINE,
    "Take a read-only zone, or all such, offline: their data is lost for good.",
)


@_command("set-zone-desc", "--start-lba 0 --data extension.bin")
@namespace_option
@_start_option
@_zrwaa_option
@_data_option
@_timeout_option
@force_option
def set_zone_desc(
    device: str,
    namespace_id: int | None,
    start_lba: int,
    zrwaa: bool,
    data: str | None,
    timeout: int,
    force: bool,
) -> None:
    """Set the descriptor extension of an empty zone; zeroes follow a short one."""
    from pynvme_user.cli.files import source

    with source(data) as src, opened(device, _seconds(timeout)) as controller, refusals():
        ns = namespace(controller, namespace_id)
        # One byte more tells of one that is too long.
        extension = bytearray(ns.zones.extension_size + 1)
        count = src.fill(extension)
        if not count:
            raise _empty(src)
        ns.zones.set_extension(start_lba, extension[:count], zrwa=zrwaa, force=force)
    echo_lines([f"set-zone-desc: Success, zone:{start_lba:x} nsid:{ns.nsid}"])


def _empty(src: Source) -> Failure:
    return Failure(f"{src.name} is empty: there is nothing to do")


@_command("zrwa-flush-zone", "--lba 15")
@namespace_option
@click.option(
    "--lba", "-l", type=COUNT, required=True, metavar="LBA", help="The last block to flush."
)
@_timeout_option
@force_option
def zrwa_flush_zone(
    device: str, namespace_id: int | None, lba: int, timeout: int, force: bool
) -> None:
    """Commit a zone's random write area up to a block."""
    with opened(device, _seconds(timeout)) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.zones.flush(lba, force=force)
    echo_lines([f"zrwa-flush-zone: Success, lba:{lba:x} nsid:{ns.nsid}"])


# --- the commands as they are --------------------------------------------------------------------


@_command("zone-mgmt-recv", "--data-len 4096 --partial")
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@namespace_option
@_start_option
@click.option("--zra", "-z", type=_ZRA, default="0", help=f"The action: {_ZRA.words}.")
@click.option(
    "--zrasf", "-S", type=_STATE, default="0", help=f"Zones in this state alone: {_STATE.words}."
)
@click.option("--partial", "-p", is_flag=True, help="Let nr_zones count the zones that fit.")
@click.option("--data-len", "-l", type=SIZE, required=True, help="Bytes to receive, 64 or more.")
def zone_mgmt_recv(
    device: str,
    output_format: str,
    raw_binary: bool,
    namespace_id: int | None,
    start_lba: int,
    zra: ZoneReceiveAction,
    zrasf: ReportedZones,
    partial: bool,
    data_len: int,
) -> None:
    """Send one Zone Management Receive, as it is, and show what it brings."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.zns import ZoneDescriptor, ZoneList, ZoneReceiveCdw13, ZoneReport

    if data_len < ZoneReport.size or data_len % 4:
        raise click.UsageError(f"--data-len is a multiple of 4 from 64 on, not {data_len}")
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        extended = zra is ZoneReceiveAction.EXTENDED_REPORT
        stride = ZoneDescriptor.size + ns.zones.extension_size if extended else 0
        page = bytearray(data_len)
        controller.io(
            NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
            nsid=ns.nsid,
            cdw10=start_lba & 0xFFFFFFFF,
            cdw11=start_lba >> 32,
            cdw12=data_len // 4 - 1,
            cdw13=ZoneReceiveCdw13.build(zra=zra, zrasf=zrasf, partial=partial),
            buffer=page,
        )
        done = f"zone-mgmt-recv: Success, action:{int(zra)} zone:{start_lba:x} nsid:{ns.nsid}"
        shown = BINARY if raw_binary else output_format
        print(done, file=sys.stdout if shown == NORMAL else sys.stderr)
        show(ZoneList.from_bytes(page, stride=stride), shown, device=device)


@_command("zone-mgmt-send", "--start-lba 0 --zsa finish")
@namespace_option
@_start_option
@click.option("--zsaso", "-o", is_flag=True, help="The action's option: of open and set, a ZRWA.")
@_all_option
@click.option("--zsa", "-z", type=_ZSA, required=True, help=f"The action: {_ZSA.words}.")
@click.option("--data-len", "-l", type=SIZE, help="Bytes of data, of a descriptor extension.")
@_data_option
@_timeout_option
@_overwrite_option
def zone_mgmt_send(
    device: str,
    namespace_id: int | None,
    start_lba: int,
    zsaso: bool,
    select_all: bool,
    zsa: ZoneSendAction,
    data_len: int | None,
    data: str | None,
    timeout: int,
    force: bool,
) -> None:
    """Send one Zone Management Send, as it is."""
    from pynvme_user.cli.files import source
    from pynvme_user.spec.zns import ZoneSendCdw13

    sets = zsa is ZoneSendAction.SET_DESCRIPTOR_EXTENSION
    if not sets and (data_len is not None or data is not None):
        raise click.UsageError("--data and --data-len are for a descriptor extension: --zsa 0x10")
    with opened(device, _seconds(timeout)) as controller, refusals():
        ns = namespace(controller, namespace_id)
        buffer = None
        if sets:
            buffer = bytearray(ns.zones.extension_size if data_len is None else data_len)
            if not buffer:
                raise Failure(f"namespace {ns.nsid} has no zone descriptor extensions: ZDES is 0")
            with source(data) as src:
                if not src.fill(buffer):
                    raise _empty(src)
        if zsa in _LOSE_DATA:
            guard(ns, force, f"{zsa.name.lower()} zones")
        controller.io(
            NvmOpcode.ZONE_MANAGEMENT_SEND,
            nsid=ns.nsid,
            cdw10=start_lba & 0xFFFFFFFF,
            cdw11=start_lba >> 32,
            cdw13=ZoneSendCdw13.build(zsa=zsa, select_all=select_all, zrwaa=zsaso),
            buffer=buffer,
        )
    echo_lines(
        [
            f"zone-mgmt-send: Success, action:{int(zsa)} zone:{start_lba:x} "
            f"all:{int(select_all)} nsid:{ns.nsid}"
        ]
    )


# --- data ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Append:
    """What the options of an append ask for."""

    namespace_id: int | None
    zslba: int
    data_size: int | None
    metadata_size: int | None
    data: str | None
    metadata: str | None
    limited_retry: bool
    force_unit_access: bool
    latency: bool

    @property
    def has_metadata(self) -> bool:
        """Whether there is metadata to be read."""
        return self.metadata is not None or bool(self.metadata_size)


@_command("zone-append", "--zslba 0 --data some.file")
@gathered(
    "append",
    _Append,
    [
        namespace_option,
        click.option(
            "--zslba", "-s", type=COUNT, default=0, metavar="LBA", help="The zone's first block."
        ),
        click.option(
            "--data-size", "-z", type=SIZE, help="Bytes to append; all of the data if left out."
        ),
        click.option(
            "--metadata-size", "-y", type=SIZE, help="Bytes of metadata; that of all blocks goes."
        ),
        _data_option,
        file_option("--metadata", "-M", "The file that the metadata is in; zeroes follow."),
        retry_option,
        fua_option,
        latency_option,
    ],
)
@tag_options(remap=True)
@_overwrite_option
def zone_append(device: str, append: _Append, tags: Tags, force: bool) -> None:
    """Append data to a zone, in one command, and print the block at which it lies."""
    from pynvme_user.cli.files import padded_input, source

    if append.has_metadata and append.data in (None, "-") and append.metadata in (None, "-"):
        raise click.UsageError(
            "data and metadata cannot both be stdin: name a file with --metadata or --data"
        )
    with source(append.data) as src, opened(device) as controller, refusals():
        ns = namespace(controller, append.namespace_id)
        most = ns.zones.max_append * ns.block_size
        if (append.data_size or 0) > most:
            raise _too_long(most)
        buffer = controller.alloc(most)
        count = src.fill(buffer[: append.data_size] if append.data_size else buffer)
        _check_input(src, ns, count, append.data_size)
        if count == most and not append.data_size and src.fill(bytearray(1)):
            raise _too_long(most)
        options = tags.keywords(metadata=append.has_metadata)
        if append.has_metadata:
            size = count // ns.block_size * ns.metadata_size
            options["metadata"] = padded_input(append.metadata, size)
        if append.limited_retry:
            options["limited_retry"] = True
        guard(ns, force)
        begin = time.monotonic_ns()
        lba = ns.zones.append(append.zslba, buffer[:count], fua=append.force_unit_access, **options)
        elapsed = time.monotonic_ns() - begin
    if append.latency:
        echo_lines([f" latency: zone append: {elapsed // 1000} us"])
    echo_lines([f"Success appended data to LBA {lba:x}"])


def _too_long(most: int) -> Failure:
    return Failure(f"one append carries up to {most} bytes here: append the data in parts")


def _check_input(src: Source, ns: Namespace, count: int, wanted: int | None) -> None:
    if not count:
        raise _empty(src)
    if wanted and count < wanted:
        raise Failure(f"{src.name} has {count} bytes, fewer than the {wanted} asked for")
    if count % ns.block_size:
        raise click.UsageError(
            f"{count} bytes of data are not whole blocks of {ns.block_size}: append a multiple"
        )


zns = Plugin(
    "zns",
    "Zones of a zoned namespace: list, reset, append and so on.",
    (
        *(report_zones, list_zoned, id_ctrl, id_ns),
        *(reset_zone, close_zone, finish_zone, open_zone, offline_zone),
        *(set_zone_desc, zrwa_flush_zone, changed_zone_list, zone_mgmt_recv, zone_mgmt_send),
        zone_append,
    ),
)
