"""I/O commands on ranges, and I/O management: dsm, copy, io-mgmt-send and -recv."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened
from pynvme_user.cli.guard import ask, destroy_option, force_option, refusals
from pynvme_user.cli.management import check_length, say
from pynvme_user.cli.options import (
    dir_spec_option,
    dir_type_option,
    fua_option,
    gathered,
    retry_option,
    tag_space,
)
from pynvme_user.cli.output import refuse_terminal
from pynvme_user.cli.types import COUNT, U8, U16, U32, Number, Numbers
from pynvme_user.errors import NotSupportedError
from pynvme_user.spec.commands import NvmOpcode

if TYPE_CHECKING:
    from pynvme_user import Namespace

# --- ranges ------------------------------------------------------------------------------------


def _numbers(
    long: str, short: str, bits: int, help: str, metavar: str = "TAG,...", *, required: bool = False
) -> Callable[..., Any]:
    """Declare an option that has a number for each range."""
    known: dict[str, Any] = {"required": True} if required else {"default": "0"}
    return click.option(long, short, type=Numbers(bits), metavar=metavar, help=help, **known)


@device_command("dsm", "nvme-user dsm qemu:disk.img -n 1 --ad --slbs 0,2048 --blocks 8,1024")
@namespace_option
@_numbers(
    "--ctx-attrs",
    "-a",
    32,
    "Context attributes of each range; 0 where there are fewer.",
    "BITS,...",
)
@_numbers("--blocks", "-b", 64, "Blocks in each range.", "COUNT,...", required=True)
@_numbers("--slbs", "-s", 64, "The first block of each range; 0 where there are fewer.", "LBA,...")
@click.option("--ad", "-d", is_flag=True, help="Deallocate: the blocks' data is lost.")
@click.option("--idw", "-w", is_flag=True, help="The ranges are written together.")
@click.option("--idr", "-r", is_flag=True, help="The ranges are read together.")
@click.option(
    "--cdw11", "-c", type=Number(3), default=0, help="The three above as bits: 4, 2 and 1."
)
@destroy_option
def dsm(
    device: str,
    namespace_id: int | None,
    ctx_attrs: list[int],
    blocks: list[int],
    slbs: list[int],
    ad: bool,
    idw: bool,
    idr: bool,
    cdw11: int,
    force: bool,
) -> None:
    """Tell the device how ranges of blocks are used, or that their data is not needed.

    Of any number and length: as many commands are sent as it takes. --force is for --ad.
    """
    bits = cdw11 or ad << 2 | idw << 1 | idr
    if max(len(slbs), len(ctx_attrs)) > len(blocks):
        raise click.UsageError(
            f"--blocks has {len(blocks)} ranges, --slbs {len(slbs)} and --ctx-attrs "
            f"{len(ctx_attrs)}: say how long each is"
        )
    ranges = zip(_filled(slbs, blocks), blocks, _filled(ctx_attrs, blocks), strict=True)
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.DATASET_MANAGEMENT, force)
        parts = [(attributes, (lba, count)) for lba, count, attributes in ranges]
        for _, (lba, count) in parts:
            ns.check_range(lba, count)
        if bits & 4:
            ask(ns, force, "dsm --ad loses blocks", "deallocate blocks of it")
        for attributes, same in groupby(parts, key=lambda part: part[0]):
            ns.dataset_management(
                [part for _, part in same],
                deallocate=bool(bits & 4),
                write=bool(bits & 2),
                read=bool(bits & 1),
                attributes=attributes,
                force=force,
            )
        print("NVMe DSM: success")


def _filled(numbers: list[int], like: list[int]) -> list[int]:
    """Give zeroes for what is missing."""
    return numbers + [0] * (len(like) - len(numbers))


@dataclass(frozen=True, slots=True)
class _Tagged:
    """What a copy may say besides its ranges."""

    prinfow: int
    prinfor: int
    ref_tag: int
    expected_ref_tags: list[int]
    app_tag: int
    expected_app_tags: list[int]
    app_tag_mask: int
    expected_app_tag_masks: list[int]
    dir_type: int
    dir_spec: int
    format: int

    @property
    def given(self) -> bool:
        """Whether it says anything that is not 0."""
        return any(value not in (0, [0]) for value in astuple(self))


_tagged_options = gathered(
    "tagged",
    _Tagged,
    [
        click.option("--prinfow", "-p", type=Number(4), default=0, help="PRINFO of the write."),
        click.option("--prinfor", "-P", type=Number(4), default=0, help="PRINFO of the read."),
        click.option(
            "--ref-tag", "-r", type=COUNT, default=0, help="Initial reference tag to write."
        ),
        _numbers("--expected-ref-tags", "-R", 64, "Initial reference tag of each range."),
        click.option("--app-tag", "-a", type=U16, default=0, help="Application tag to write."),
        _numbers("--expected-app-tags", "-A", 16, "That of each range."),
        click.option("--app-tag-mask", "-m", type=U16, default=0, help="Mask of --app-tag."),
        _numbers("--expected-app-tag-masks", "-M", 16, "Mask of the tag of each range."),
        dir_type_option,
        dir_spec_option,
        click.option(
            "--format",
            "-F",
            type=Number(1),
            default=0,
            help="Format of the ranges: 0, or 1 for guards of 32 and 64 bits.",
        ),
    ],
)


@device_command("copy", "nvme-user copy qemu:disk.img -n 1 --sdlba 4096 --slbs 0,512 --blocks 7,15")
@namespace_option
@click.option(
    "--sdlba", "-d", type=COUNT, required=True, metavar="LBA", help="The first block to write."
)
@_numbers("--slbs", "-s", 64, "The first block of each range to read.", "LBA,...", required=True)
@_numbers("--blocks", "-b", 16, "Blocks in each range, less one: 0 is one block.", "COUNT,...")
@retry_option
@fua_option
@_tagged_options
@destroy_option
def copy(
    device: str,
    namespace_id: int | None,
    sdlba: int,
    slbs: list[int],
    blocks: list[int],
    limited_retry: bool,
    force_unit_access: bool,
    tagged: _Tagged,
    force: bool,
) -> None:
    """Copy ranges, one behind the other, within the device.

    With tags, PRINFO, a directive or a format it is one command; else as many as it takes.
    """
    if len(blocks) > len(slbs):
        raise click.UsageError(f"--blocks has {len(blocks)} ranges, --slbs {len(slbs)}")
    ranges = [(lba, count + 1) for lba, count in zip(slbs, _filled(blocks, slbs), strict=True)]
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.COPY, force)
        for lba, count in ranges:
            ns.check_range(lba, count)
        ns.check_range(sdlba, sum(count for _, count in ranges))
        if not force:
            _check_copy_format(ns, tagged.format)
        ask(ns, force, "copy writes over blocks", "write to it")
        if tagged.given:
            _copy_tagged(ns, sdlba, ranges, limited_retry, force_unit_access, tagged)
        else:
            ns.copy(sdlba, ranges, fua=force_unit_access, limited_retry=limited_retry, force=force)
        print("NVMe Copy: success")


def _check_copy_format(ns: Namespace, format: int) -> None:
    """Raise NotSupportedError if the controller says that it does not take such ranges."""
    from pynvme_user.spec.support import unsupported_copy_format

    missing = unsupported_copy_format(ns.controller.identify, format)
    if format and missing:
        raise NotSupportedError(
            f"{ns.controller.name} does not support ranges of format {format}: {missing}"
        )


def _copy_tagged(
    ns: Namespace,
    lba: int,
    ranges: list[tuple[int, int]],
    limited_retry: bool,
    fua: bool,
    tagged: _Tagged,
) -> None:
    """Send one Copy with all its fields."""
    from pynvme_user.spec.nvm import ExtensionCdw13, ProtectionCdw15
    from pynvme_user.spec.nvm_copy import CopyCdw12, CopyRange0, CopyRange1

    firsts = [first for first, _ in ranges]
    tags = (tagged.expected_ref_tags, tagged.expected_app_tags, tagged.expected_app_tag_masks)
    for given in tags:
        if len(given) > len(firsts):
            raise click.UsageError(f"there are more tags, {len(given)}, than --slbs has ranges")
    if len(firsts) > 256:
        raise click.UsageError(f"one command copies up to 256 ranges, not {len(firsts)}")
    kind = CopyRange1 if tagged.format else CopyRange0
    space = tag_space(ns)
    parts = [
        kind.build(
            slba=first,
            nlb=count - 1,
            elbt=space.join(0, expected),
            elbat=tag,
            elbatm=mask,
        )
        for (first, count), expected, tag, mask in zip(
            ranges,
            _filled(tagged.expected_ref_tags, firsts),
            _filled(tagged.expected_app_tags, firsts),
            _filled(tagged.expected_app_tag_masks, firsts),
            strict=True,
        )
    ]
    ns.controller.io(
        NvmOpcode.COPY,
        nsid=ns.nsid,
        buffer=bytearray(b"".join(map(bytes, parts))),
        cdw10=lba & 0xFFFFFFFF,
        cdw11=lba >> 32,
        cdw12=CopyCdw12.build(
            nr=len(parts) - 1,
            desfmt=tagged.format,
            prinfor=tagged.prinfor,
            dtype=tagged.dir_type,
            prinfow=tagged.prinfow,
            fua=fua,
            lr=limited_retry,
        ),
        cdw13=ExtensionCdw13.build(dspec=tagged.dir_spec),
        cdw15=ProtectionCdw15.build(lbat=tagged.app_tag, lbatm=tagged.app_tag_mask),
        **space.dwords(0, tagged.ref_tag),
    )


# --- I/O management ----------------------------------------------------------------------------


def _management_options(data: str) -> Callable[[Callable[..., Any]], Any]:
    """Add the options that both commands have; ``data`` is the file's help."""

    def decorate(function: Callable[..., Any]) -> Any:
        for option in (
            force_option,
            click.option("--data-len", "-l", type=U32, default=0, help="Bytes of data."),
            click.option("--data", "-d", type=click.Path(allow_dash=True), help=data),
            click.option("--mo", "-m", type=U8, default=0, help="The management operation."),
            click.option("--mos", "-s", type=U16, default=0, help="The operation's own field."),
            namespace_option,
        ):
            function = option(function)
        return function

    return decorate


def _operation(mo: int, mos: int) -> int:
    from pynvme_user.spec.fdp import ManagementSendCdw10

    return ManagementSendCdw10.build(mo=mo, mos=mos)


@device_command("io-mgmt-send", "nvme-user io-mgmt-send 0000:01:00.0 -n 1 --mo 1 -l 2 --data ids")
@_management_options("Where the data is; stdin if left out.")
def io_mgmt_send(
    device: str,
    namespace_id: int | None,
    mos: int,
    mo: int,
    data: str | None,
    data_len: int,
    force: bool,
) -> None:
    """Send an I/O management operation, such as a reclaim unit handle update (FDP)."""
    from pynvme_user.cli.files import padded_input

    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.IO_MANAGEMENT_SEND, force)
        check_length(controller, data_len)
        controller.io(
            NvmOpcode.IO_MANAGEMENT_SEND,
            nsid=ns.nsid,
            buffer=padded_input(data, data_len) if data_len else None,
            cdw10=_operation(mo, mos),
        )
        print(f"io-mgmt-send: Success, mos:{mos} mo:{mo} nsid:{ns.nsid}")


@device_command("io-mgmt-recv", "nvme-user io-mgmt-recv 0000:01:00.0 -n 1 --mo 1 -l 4096 -d ruhs")
@_management_options("Where the data goes; stdout if left out.")
def io_mgmt_recv(
    device: str,
    namespace_id: int | None,
    mos: int,
    mo: int,
    data: str | None,
    data_len: int,
    force: bool,
) -> None:
    """Receive what an I/O management operation brings, such as reclaim unit handles (FDP)."""
    from pynvme_user.cli.files import Sink

    to_stdout = data in (None, "-") and data_len > 0
    if to_stdout:
        refuse_terminal()
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.IO_MANAGEMENT_RECEIVE, force)
        check_length(controller, data_len)
        brought = bytearray(data_len)
        controller.io(
            NvmOpcode.IO_MANAGEMENT_RECEIVE,
            nsid=ns.nsid,
            buffer=brought if data_len else None,
            cdw10=_operation(mo, mos),
            cdw11=max(data_len // 4 - 1, 0),
        )
        say(f"io-mgmt-recv: Success, mos:{mos} mo:{mo} nsid:{ns.nsid}", aside=to_stdout)
        if data_len:
            with Sink(data) as sink:
                sink.write(brought)


COMMANDS = (dsm, copy, io_mgmt_send, io_mgmt_recv)
