"""Log pages: a command for each, and ``get-log`` for any.

What a page consists of is in spec/, how nvme-cli shows it in `nvme_json`; here is which options a
command has, and how they make the parameters of Get Log Page.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    Page,
    echo_lines,
    hexdump,
    output_option,
    raw_binary_option,
    refuse_terminal,
    verbose_option,
    write_all,
)
from pynvme_user.cli.types import U8, U16, U32, U64
from pynvme_user.errors import NvmeStatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynvme_user import Controller


_ALL = 0xFFFFFFFF
#: nvme-cli's default for a list of entries.
_ENTRIES = 64
#: In effects-log.
_SET_NAMES = {0: "NVM", 2: "ZNS"}

force_option = click.option(
    "--force", is_flag=True, help="Ask for it though the controller says that it has no such page."
)
_rae_option = click.option(
    "--rae", "-r", is_flag=True, help="Retain the asynchronous event that tells of the page."
)


def _lsi(*names: str, what: str, required: bool = False) -> Callable[..., Any]:
    """Declare what the page's log specific identifier is."""
    default = None if required else 0
    return click.option(
        *names, "lsi", type=U16, default=default, required=required, metavar="ID", help=f"{what}."
    )


def _lsp(*names: str, help: str, flag: bool = False) -> Callable[..., Any]:
    """Declare what the page's log specific parameter is."""
    if flag:
        return click.option(*names, "lsp", is_flag=True, help=help)
    return click.option(*names, "lsp", type=click.IntRange(0, 127), default=0, help=help)


_STRUCTURES: dict[str, str] = {}


def commands_by_structure() -> dict[str, str]:
    """Give the command of each log page's structure that has one here."""
    return dict(_STRUCTURES)


def page_command(name: str, structure: str, help: str, *options: Callable[..., Any]) -> Any:
    """Declare the command of one log page; ``structure`` is a name in spec.logs.

    Options named ``lsp``, ``lsi``, ``csi``, ``nsid`` and ``rae`` go into the command that is sent.
    """

    @force_option
    @verbose_option
    @raw_binary_option
    @output_option(NORMAL, JSON, BINARY)
    def show_page(
        device: str,
        output_format: str,
        raw_binary: bool,
        human_readable: bool,
        force: bool,
        **parameters: Any,
    ) -> None:
        from pynvme_user.cli.pages import show
        from pynvme_user.spec import logs

        given = {key: value for key, value in parameters.items() if value is not None}
        with opened(device) as controller:
            page = controller.log(
                getattr(logs, structure),
                retain_event=given.pop("rae", False),
                force=force,
                **{key: int(value) for key, value in given.items()},
            )
            show(
                page,
                BINARY if raw_binary else output_format,
                device=device,
                nsid=given.get("nsid", given.get("lsi", _ALL)),
                csi=given.get("csi", 0),
                human=human_readable,
            )

    _STRUCTURES[structure] = name
    for option in reversed(options):
        show_page = option(show_page)
    show_page.__doc__ = help
    return device_command(name, f"nvme-user {name} qemu:disk.img -o json")(show_page)


_namespace = click.option(
    "--namespace-id",
    "-n",
    "nsid",
    type=U32,
    default=_ALL,
    metavar="NSID",
    help="The namespace; all if left out.",
)
_group = "The endurance group"

PAGES = [
    page_command(
        "supported-log-pages", "SupportedLogPages", "Show which log pages the controller has."
    ),
    page_command("smart-log", "SmartLog", "Show the SMART / Health Information log.", _namespace),
    page_command("fw-log", "FirmwareSlotLog", "Show the firmware slots."),
    page_command(
        "changed-ns-list-log",
        "ChangedNamespaceList",
        "Show which namespaces changed since this was last read.",
    ),
    page_command(
        "endurance-log",
        "EnduranceGroupLog",
        "Show an endurance group.",
        _lsi("--group-id", "-g", what=_group),
    ),
    page_command(
        "predictable-lat-log",
        "PredictableLatencyLog",
        "Show the predictable latency of an NVM set.",
        _lsi("--nvmset-id", "-i", what="The NVM set"),
    ),
    page_command(
        "pred-lat-event-agg-log",
        "PredictableLatencyAggregateLog",
        "Show which NVM sets have predictable latency events.",
        _rae_option,
    ),
    page_command(
        "ana-log",
        "AnaLog",
        "Show the asymmetric namespace access groups.",
        _lsp("--groups", "-g", flag=True, help="The groups alone, without their namespaces."),
    ),
    page_command(
        "persistent-event-log",
        "PersistentEventLog",
        "Show the persistent events.",
        _lsp("--action", "-a", help="0: read, 1: establish a context and read, 2: release it."),
    ),
    page_command(
        "lba-status-log", "LbaStatusLog", "Show which blocks may not be readable.", _rae_option
    ),
    page_command(
        "endurance-event-agg-log",
        "EnduranceGroupAggregateLog",
        "Show which endurance groups have events.",
        _rae_option,
    ),
    page_command(
        "media-unit-stat-log",
        "MediaUnitStatusLog",
        "Show the media units.",
        _lsi("--domain-id", "-d", what="The domain"),
    ),
    page_command(
        "supported-cap-config-log",
        "CapacityConfigurationList",
        "Show how the capacity can be configured.",
        _lsi("--domain-id", "-d", what="The domain"),
    ),
    page_command(
        "fid-support-effects-log",
        "FeatureEffectsLog",
        "Show which features the controller has, and what they change.",
    ),
    page_command(
        "mi-cmd-support-effects-log",
        "MiCommandEffectsLog",
        "Show which NVMe-MI commands the controller has, and what they change.",
    ),
    page_command(
        "rotational-media-info-log",
        "RotationalMediaLog",
        "Show the rotational media of an endurance group.",
        _lsi("--endg-id", "-e", what=_group),
    ),
    page_command(
        "dispersed-ns-participating-nss-log",
        "DispersedNamespaceLog",
        "Show which NVM subsystems take part in a dispersed namespace.",
        click.option(
            "--namespace-id",
            "-n",
            "nsid",
            type=U32,
            default=1,
            metavar="NSID",
            help="The namespace.",
        ),
    ),
    page_command("mgmt-addr-list-log", "ManagementAddressLog", "Show the management addresses."),
    page_command(
        "reachability-groups-log",
        "ReachabilityGroupsLog",
        "Show the reachability groups.",
        _lsp("--groups-only", "-g", flag=True, help="Without their namespaces."),
        _rae_option,
    ),
    page_command(
        "reachability-associations-log",
        "ReachabilityAssociationsLog",
        "Show the reachability associations.",
        _lsp("--associations-only", "-a", flag=True, help="Without their groups."),
        _rae_option,
    ),
    page_command(
        "changed-alloc-ns-list-log",
        "ChangedAllocatedNamespaceList",
        "Show which allocated namespaces changed since this was last read.",
        _rae_option,
    ),
    page_command(
        "resv-notif-log", "ReservationNotificationLog", "Show the oldest reservation notification."
    ),
    page_command(
        "sanitize-log", "SanitizeLog", "Show how the last sanitize operation stands.", _rae_option
    ),
    page_command(
        "phy-rx-eom-log",
        "EomLog",
        "Show the eyes that the link's receivers measured.",
        _lsp("--lsp", "-s", help="Bits 3:2 the quality, 1:0 the action (1: abort, 2: begin)."),
        _lsi("--controller", "-c", what="The controller"),
    ),
]


@device_command("effects-log", "nvme-user effects-log qemu:disk.img -o json")
@click.option(
    "--csi",
    "-c",
    type=U8,
    help="The I/O command set (0: NVM, 2: ZNS); without it those that CAP.CSS names.",
)
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
@verbose_option
@force_option
def effects_log(
    device: str,
    csi: int | None,
    output_format: str,
    raw_binary: bool,
    human_readable: bool,
    force: bool,
) -> None:
    """Show which commands the controller has, and what they change."""
    from pynvme_user.cli.pages import binary, lines, plain
    from pynvme_user.cli.shape import View
    from pynvme_user.spec.logs import CommandEffectsLog

    pages: list[tuple[CommandEffectsLog, View]] = []
    with opened(device) as controller:
        for each in _command_sets(controller) if csi is None else [csi]:
            try:
                page = controller.log(CommandEffectsLog, csi=each, force=force)
            except NvmeStatusError:
                if not pages:
                    raise
                continue  # there are I/O command sets, but not this one
            pages.insert(0, (page, View(csi=each, human=human_readable)))  # as nvme-cli has them
    Page(
        normal=lambda: (
            line
            for page, view in pages
            for line in lines(
                page, view, f"{_SET_NAMES.get(view.csi, 'Unknown')} Command Set Log Page"
            )
        ),
        json=lambda: [plain(page, view) for page, view in pages],
        binary=lambda: b"".join(binary(page) for page, _ in pages),
    ).show(BINARY if raw_binary else output_format)


def _command_sets(controller: Controller) -> list[int]:
    """Give the command sets of which the page is asked for as nvme-cli asks: by CAP.CSS."""
    from pynvme_user.spec.commands import CommandSetId
    from pynvme_user.spec.registers import CommandSetsSupported

    supported = controller.registers.cap.css
    sets = [CommandSetId.NVM] if supported & CommandSetsSupported.NVM else []
    sets += [CommandSetId.ZONED] if supported & CommandSetsSupported.IOCS else []
    return [int(each) for each in sets or [CommandSetId.NVM]]


@device_command("error-log", "nvme-user error-log qemu:disk.img --log-entries 8")
@click.option(
    "--log-entries",
    "-e",
    type=click.IntRange(1, 256),
    default=_ENTRIES,
    show_default=True,
    help="Entries to read, as far as the controller keeps so many.",
)
@output_option(NORMAL, JSON, BINARY)
@raw_binary_option
def error_log(device: str, log_entries: int, output_format: str, raw_binary: bool) -> None:
    """Show the Error Information log, the newest entry first."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.logs import ErrorLog, ErrorLogEntry, LogId

    with opened(device) as controller:
        count = min(log_entries, controller.identify.elpe + 1)
        raw = controller.log_page(LogId.ERROR, count * ErrorLogEntry.size)
        show(ErrorLog.from_bytes(raw), BINARY if raw_binary else output_format, device=device)


@device_command("self-test-log", "nvme-user self-test-log qemu:disk.img")
@click.option(
    "--dst-entries",
    "-e",
    type=click.IntRange(1, 20),
    default=20,
    show_default=True,
    help="Results to show, the newest first.",
)
@output_option(NORMAL, JSON, BINARY)
@click.option("--verbose", "-v", "human", is_flag=True, help="Explain the bits of each field, too.")
@force_option
def self_test_log(
    device: str, dst_entries: int, output_format: str, human: bool, force: bool
) -> None:
    """Show the results of the last self-tests."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.logs import SelfTestLog, SelfTestResult

    with opened(device) as controller:
        page = controller.log(SelfTestLog, force=force)
        unused = SelfTestResult.build(dsts=0x0F)
        kept = (*page.results[:dst_entries], *[unused] * (20 - dst_entries))
        show(page.replace(results=kept), output_format, device=device, human=human)


@device_command("telemetry-log", "nvme-user telemetry-log qemu:disk.img --output-file t.bin")
@click.option("--output-file", "-o", "-O", required=True, metavar="FILE", help="Where it goes to.")
@click.option(
    "--host-generate",
    "-g",
    type=click.IntRange(0, 1),
    default=1,
    help="Have the controller capture its state now (1, the default), or not.",
)
@click.option("--controller-init", "-c", is_flag=True, help="What the controller captured itself.")
@click.option(
    "--data-area",
    "-d",
    type=click.IntRange(1, 4),
    default=3,
    show_default=True,
    help="Up to which data area.",
)
@force_option
def telemetry_log(
    device: str,
    output_file: str,
    host_generate: int,
    controller_init: bool,
    data_area: int,
    force: bool,
) -> None:
    """Write a telemetry log to a file."""
    with opened(device) as controller, _written(output_file) as file:
        controller.telemetry(
            file,
            area=data_area,
            controller_initiated=controller_init,
            create=bool(host_generate),
            force=force,
        )


@device_command("boot-part-log", "nvme-user boot-part-log qemu:disk.img --output-file b.bin")
@click.option("--lsp", "-s", type=click.IntRange(0, 127), default=0, help="The boot partition.")
@click.option("--output-file", "-f", required=True, metavar="FILE", help="Where its data goes to.")
@output_option(NORMAL, JSON, BINARY)
@force_option
def boot_part_log(device: str, lsp: int, output_file: str, output_format: str, force: bool) -> None:
    """Write a boot partition's data to a file, and show what the page says of it."""
    from pynvme_user.cli.pages import show
    from pynvme_user.spec.logs import BootPartitionLog

    with opened(device) as controller:
        page = controller.log(BootPartitionLog, lsp=lsp, force=force)
        with _written(output_file) as file:
            file.write(bytes(page.entries))
        show(page, output_format, device=device)


@device_command("get-log", "nvme-user get-log qemu:disk.img --log-id 2 --log-len 512 --raw-binary")
@click.option("--namespace-id", "-n", type=U32, default=_ALL, metavar="NSID", help="NSID.")
@click.option("--log-id", "-i", type=U8, required=True, help="The log page.")
@click.option("--log-len", "-l", type=U32, required=True, help="Bytes to read.")
@click.option("--aen", "-a", type=U32, help="Dword 0 of the event that names the page.")
@click.option("--lpo", "-o", "-L", type=U64, default=0, help="From which byte on.")
@click.option("--lsp", "-s", type=click.IntRange(0, 127), default=0, help="Its own parameter.")
@click.option("--lsi", "-S", type=U16, default=0, help="Its own identifier.")
@_rae_option
@click.option("--uuid-index", "-U", type=click.IntRange(0, 127), default=0, help="UUID index.")
@click.option("--csi", "-y", type=U8, default=0, help="The I/O command set.")
@click.option("--ot", "-O", is_flag=True, help="The offset counts entries, not bytes.")
@click.option(
    "--xfer-len", "-x", type=U32, default=4096, show_default=True, help="Bytes of one command."
)
@raw_binary_option
def get_log(
    device: str,
    namespace_id: int,
    log_id: int,
    log_len: int,
    aen: int | None,
    lpo: int,
    lsp: int,
    lsi: int,
    rae: bool,
    uuid_index: int,
    csi: int,
    ot: bool,
    xfer_len: int,
    raw_binary: bool,
) -> None:
    """Read any log page, and print it as hex or as it is."""
    if aen is not None:
        log_id = aen >> 16 & 0xFF
    with opened(device) as controller:
        try:
            page = controller.log_page(
                log_id,
                log_len,
                offset=lpo,
                nsid=namespace_id,
                lsp=lsp,
                lsi=lsi,
                csi=csi,
                uuid_index=uuid_index,
                index_offset=ot,
                retain_event=rae,
                chunk=xfer_len,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if raw_binary:
            refuse_terminal()
            write_all(page)
        else:
            head = f"Device:{device} log-id:{log_id} namespace-id:{namespace_id:#x}"
            echo_lines([head, *hexdump(page)])


@contextmanager
def _written(path: str) -> Iterator[Any]:
    """Open a file, or - for stdout, and have it whole on the disk at the end.

    A file that was made for it is removed again where it stays incomplete.
    """
    from pynvme_user.cli.files import Sink

    with Sink(path) as sink:
        yield sink


COMMANDS = (*PAGES, effects_log, error_log, self_test_log, telemetry_log, boot_part_log, get_log)
