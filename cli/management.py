"""Commands of special kinds of controllers: security, directives, capacity, NVMe-MI and others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import (
    device_command,
    namespace,
    namespace_option,
    opened,
    timeout_option,
)
from pynvme_user.cli.guard import (
    confirm,
    destroy_option,
    every_namespace,
    force_option,
    guard_all,
    named_namespaces,
    refusals,
)
from pynvme_user.cli.output import (
    BINARY,
    JSON,
    NORMAL,
    echo_lines,
    hexdump,
    human_option,
    output_option,
    raw_binary_option,
    refuse_terminal,
    write_all,
)
from pynvme_user.cli.shape import View, hexadecimal
from pynvme_user.cli.types import COUNT, U8, U16, U32, Member, Number
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.directives import (
    DIRECTIVE_DATA,
    AllocateResourcesResult,
    DirectiveType,
    IdentifySend,
    StreamsReceive,
)
from pynvme_user.spec.logs import LbaStatusAction, LockdownScope
from pynvme_user.spec.management import (
    CapacityOperation,
    LockdownInterface,
    ManagementMessageType,
    VirtualizationAction,
    VirtualizationResource,
)

if TYPE_CHECKING:
    from pynvme_user import Controller

_ACTION = Member(VirtualizationAction)
_RESOURCE = Member(VirtualizationResource)
_OPERATION = Member(CapacityOperation)
_SCOPE = Member(LockdownScope)
_INTERFACE = Member(LockdownInterface)
_LBA_ACTION = Member(LbaStatusAction)
_DIRECTIVE = Member(DirectiveType)
_MESSAGE = Member(ManagementMessageType)
_CREATING = {
    CapacityOperation.CREATE_ENDURANCE_GROUP: "Endurance Group",
    CapacityOperation.CREATE_NVM_SET: "NVM Set",
}
_PAGE = 4096
#: What Directive Receive asks for where no length is said.
_DIRECTIVE_LENGTHS: dict[tuple[int, int], int] = {
    (DirectiveType.STREAMS, StreamsReceive.RETURN_PARAMETERS): 32,
    (DirectiveType.STREAMS, StreamsReceive.GET_STATUS): 128 << 10,
    (DirectiveType.STREAMS, StreamsReceive.ALLOCATE_RESOURCES): 0,
}


def emit(data: bytes, raw: bool) -> None:
    """Write data to stdout, as it is or in hexadecimal."""
    if raw:
        write_all(data)
    else:
        echo_lines(hexdump(data))


# --- controllers and capacity ------------------------------------------------------------------


@device_command("virt-mgmt", "nvme-user virt-mgmt 0000:01:00.0 --cntlid 2 --act 9")
@click.option("--cntlid", "-c", type=U16, default=0, help="The secondary controller's id.")
@click.option("--rt", "-r", type=_RESOURCE, default="0", help=f"Resource: {_RESOURCE.words}.")
@click.option("--act", "-a", type=_ACTION, required=True, help=f"What to do: {_ACTION.words}.")
@click.option("--nr", "-n", type=U16, default=0, help="How many resources.")
@destroy_option
def virt_mgmt(
    device: str,
    cntlid: int,
    rt: VirtualizationResource,
    act: VirtualizationAction,
    nr: int,
    force: bool,
) -> None:
    """Give a secondary controller its resources, or take it online or offline."""
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.VIRTUALIZATION_MANAGEMENT, force)
        if not force:
            confirm(f"virt-mgmt changes controller {cntlid} of {controller.name} under its users")
        modified = controller.virtualization_management(
            cntlid, act, resource=rt, count=nr, force=force
        )
        print(f"success, Number of Controller Resources Modified (NRM):{hexadecimal(modified)}")


@device_command("capacity-mgmt", "nvme-user capacity-mgmt 0000:01:00.0 -o 1 --cap-lower 1073741824")
@click.option(
    "--operation", "-o", type=_OPERATION, required=True, help=f"What to do: {_OPERATION.words}."
)
@click.option(
    "--element-id",
    "-i",
    type=U16,
    default=0xFFFF,
    help="The configuration, endurance group or NVM set; 0xffff by default.",
)
@click.option("--cap-lower", "-l", type=U32, default=0, help="Bytes to create, bits 31:0.")
@click.option("--cap-upper", "-u", type=U32, default=0, help="Bytes to create, bits 63:32.")
@destroy_option
def capacity_mgmt(
    device: str,
    operation: CapacityOperation,
    element_id: int,
    cap_lower: int,
    cap_upper: int,
    force: bool,
) -> None:
    """Create or delete endurance groups and NVM sets; what is deleted loses its namespaces."""
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.CAPACITY_MANAGEMENT, force)
        if operation not in _CREATING and not force:
            guard_all(controller, every_namespace(controller), "go on")
            concerned = named_namespaces(controller, every_namespace(controller))
            confirm(f"capacity-mgmt may delete {concerned}")
        created = controller.capacity_management(
            operation, element_id, capacity=cap_upper << 32 | cap_lower, force=force
        )
        print("Capacity Management Command is Success")
        if operation in _CREATING:
            what = _CREATING[operation]
            print(f"Created Element Identifier for {what} is: {created}")


@device_command("lockdown", "nvme-user lockdown 0000:01:00.0 --ofi 0x80 --prhbt 1")
@click.option("--ofi", "-o", type=U8, default=0, help="The opcode or the feature.")
@click.option("--ifc", "-f", type=_INTERFACE, default="0", help=f"On what: {_INTERFACE.words}.")
@click.option("--prhbt", "-p", type=Number(1), default=0, help="1 prohibits, 0 allows.")
@click.option("--scp", "-s", type=_SCOPE, default="0", help=f"What --ofi is: {_SCOPE.words}.")
@click.option("--uuid", "-U", type=Number(7), default=0, help="UUID index.")
@force_option
def lockdown(
    device: str,
    ofi: int,
    ifc: LockdownInterface,
    prhbt: int,
    scp: LockdownScope,
    uuid: int,
    force: bool,
) -> None:
    """Prohibit a command or a feature up to the next power cycle, or allow it."""
    with opened(device) as controller, refusals():
        controller.lockdown(
            ofi, scp, prohibit=bool(prhbt), interface=ifc, uuid_index=uuid, force=force
        )
        print("Lockdown Command is Successful")


@device_command("get-lba-status", "nvme-user get-lba-status 0000:01:00.0 -n 1 --action 0x11")
@namespace_option
@click.option("--start-lba", "-s", type=COUNT, default=0, metavar="LBA", help="The first block.")
@click.option(
    "--max-dw",
    "-m",
    type=U32,
    default=_PAGE // 4 - 1,
    show_default=True,
    help="Dwords of the answer, less one.",
)
@click.option(
    "--action", "-a", type=_LBA_ACTION, required=True, help=f"Which blocks: {_LBA_ACTION.words}."
)
@click.option(
    "--range-len", "-l", type=U16, default=0, metavar="BLOCKS", help="Blocks; 0: to the end."
)
@timeout_option(0)
@output_option(NORMAL, JSON, BINARY)
@force_option
def get_lba_status(
    device: str,
    namespace_id: int | None,
    start_lba: int,
    max_dw: int,
    action: LbaStatusAction,
    range_len: int,
    timeout: int,
    output_format: str,
    force: bool,
) -> None:
    """Show which blocks may not be readable."""
    from pynvme_user.cli.pages import show

    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.GET_LBA_STATUS, force)
        ns = namespace(controller, namespace_id)
        page = controller.lba_status(
            ns.nsid,
            start_lba,
            range_len,
            action=action,
            length=4 * (max_dw + 1),
            timeout=timeout / 1000 or None,
            force=force,
        )
        show(page, output_format, device=device, nsid=ns.nsid)


# --- security ----------------------------------------------------------------------------------


def _security_options(function: Callable[..., Any]) -> Any:
    """Add the options that Security Send and Receive share."""
    for option in (
        click.option("--spsp", "-s", type=U16, default=0, help="The protocol's own field."),
        click.option("--secp", "-p", type=U8, default=0, help="The security protocol."),
        click.option("--nssf", "-N", type=U8, default=0, help="NVMe's own field: RPMB target."),
        click.option("--namespace-id", "-n", type=U32, default=0, metavar="NSID", help="NSID."),
    ):
        function = option(function)
    return function


@device_command(
    "security-send",
    "nvme-user security-send 0000:01:00.0 --secp 1 --spsp 1 --tl 512 --file request",
)
@_security_options
@click.option(
    "--file", "-f", type=click.Path(allow_dash=True), help="Where the data is; stdin if left out."
)
@click.option("--tl", "-t", type=U32, required=True, help="Bytes to send; zeroes fill them up.")
@force_option
def security_send(
    device: str,
    namespace_id: int,
    nssf: int,
    secp: int,
    spsp: int,
    file: str | None,
    tl: int,
    force: bool,
) -> None:
    """Send data of a security protocol."""
    from pynvme_user.cli.files import padded_input

    if not tl:
        raise click.UsageError("--tl 0 is no data")
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.SECURITY_SEND, force)
        check_length(controller, tl)
        controller.security_send(
            secp,
            padded_input(file, tl),
            specific=spsp,
            nvme_specific=nssf,
            nsid=namespace_id,
            force=force,
        )
        print("NVME Security Send Command Success")


def check_length(controller: Controller, length: int) -> None:
    """Raise ValueError where one command cannot carry so many bytes."""
    if length > controller.max_transfer:
        raise ValueError(
            f"one command carries up to {controller.max_transfer} bytes here, not {length}"
        )


@device_command(
    "security-recv", "nvme-user security-recv 0000:01:00.0 --secp 0 --size 512 --al 512"
)
@_security_options
@click.option("--size", "-x", type=U32, help="Bytes to print; as many as --al by default.")
@click.option("--al", "-t", type=U32, help="Bytes to receive; as many as --size by default.")
@raw_binary_option
@force_option
def security_recv(
    device: str,
    namespace_id: int,
    nssf: int,
    secp: int,
    spsp: int,
    size: int | None,
    al: int | None,
    raw_binary: bool,
    force: bool,
) -> None:
    """Receive data of a security protocol. Zeroes follow it up to --size."""
    length = size if al is None else al
    if not length:
        raise click.UsageError("how much? Give --size or --al")
    size = length if size is None else size
    if length > size:
        raise click.UsageError(f"--al {length} is more than the --size {size} that there is for it")
    if raw_binary:
        refuse_terminal()
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.SECURITY_RECEIVE, force)
        check_length(controller, length)
        data = controller.security_receive(
            secp, length, specific=spsp, nvme_specific=nssf, nsid=namespace_id, force=force
        )
        say("NVME Security Receive Command Success", aside=raw_binary)
        emit(data.ljust(size, b"\0"), raw_binary)


def say(line: str, *, aside: bool) -> None:
    """Print a line; to stderr where stdout is for data."""
    print(line, file=sys.stderr if aside else sys.stdout)


# --- directives --------------------------------------------------------------------------------


def _directive_options(function: Callable[..., Any]) -> Any:
    """Add the options that Directive Send and Receive share."""
    for option in (
        click.option("--dir-oper", "-O", type=U8, default=0, help="The operation."),
        click.option("--dir-spec", "-S", type=U16, default=0, help="Of streams: the stream's id."),
        click.option(
            "--dir-type", "-D", type=_DIRECTIVE, default="0", help=f"Directive: {_DIRECTIVE.words}."
        ),
        click.option("--data-len", "-l", type=U32, default=0, help="Bytes of data."),
        click.option(
            "--namespace-id",
            "-n",
            type=U32,
            default=1,
            show_default=True,
            metavar="NSID",
            help="The namespace.",
        ),
    ):
        function = option(function)
    return function


@device_command("dir-send", "nvme-user dir-send 0000:01:00.0 -D 0 -O 1 --target-dir 1 --endir 1")
@_directive_options
@click.option(
    "--target-dir", "-T", type=_DIRECTIVE, help="The directive that identify's operation 1 enables."
)
@click.option("--endir", "-e", type=Number(1), default=1, help="1, the default, enables it.")
@raw_binary_option
@click.option(
    "--input-file",
    "-i",
    type=click.Path(allow_dash=True),
    help="Where the data is; stdin if left out.",
)
@force_option
def dir_send(
    device: str,
    namespace_id: int,
    data_len: int,
    dir_type: DirectiveType,
    target_dir: DirectiveType | None,
    dir_spec: int,
    dir_oper: int,
    endir: int,
    raw_binary: bool,
    input_file: str | None,
    force: bool,
) -> None:
    """Enable or disable a directive, or release streams. Data that was sent is printed."""
    from pynvme_user.cli.files import padded_input
    from pynvme_user.spec.directives import EnableDirectiveCdw12

    cdw12 = 0
    if (dir_type, dir_oper) == (DirectiveType.IDENTIFY, IdentifySend.ENABLE_DIRECTIVE):
        if target_dir is None:
            raise click.UsageError("which directive is to be enabled? Give --target-dir")
        cdw12 = EnableDirectiveCdw12.build(endir=endir, dtype=target_dir)
    raw_data = raw_binary and data_len > 0
    if raw_data:
        refuse_terminal()
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.DIRECTIVE_SEND, force)
        check_length(controller, data_len)
        data = padded_input(input_file, data_len) if data_len else None
        result = controller.directive_send(
            dir_type,
            dir_oper,
            data,
            nsid=namespace_id,
            specific=dir_spec,
            cdw12=cdw12,
            force=force,
        )
        say(
            f"dir-send: type {hexadecimal(dir_type)}, operation {hexadecimal(dir_oper)}, "
            f"spec_val {hexadecimal(dir_spec)}, nsid {hexadecimal(namespace_id)}, "
            f"result {hexadecimal(result)}",
            aside=raw_data,
        )
        if data is not None:
            emit(bytes(data), raw_binary)


@device_command("dir-receive", "nvme-user dir-receive 0000:01:00.0 -D 0 -O 1 -H")
@_directive_options
@raw_binary_option
@click.option(
    "--req-resource", "-r", type=U16, default=0, help="Streams that streams' operation 3 asks for."
)
@human_option
@force_option
def dir_receive(
    device: str,
    namespace_id: int,
    data_len: int,
    raw_binary: bool,
    dir_type: DirectiveType,
    dir_spec: int,
    dir_oper: int,
    req_resource: int,
    human_readable: bool,
    force: bool,
) -> None:
    """Show what a directive's operation brings; by default as many bytes as it has."""
    from pynvme_user.cli.pages import lines

    if raw_binary:
        refuse_terminal()
    what = (dir_type, dir_oper)
    allocates = what == (DirectiveType.STREAMS, StreamsReceive.ALLOCATE_RESOURCES)
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.DIRECTIVE_RECEIVE, force)
        check_length(controller, data_len)
        most = min(_DIRECTIVE_LENGTHS.get(what, _PAGE), controller.max_transfer)
        result, data = controller.directive_receive(
            dir_type,
            dir_oper,
            data_len or most,
            nsid=namespace_id,
            specific=dir_spec,
            cdw12=req_resource if allocates else 0,
            force=force,
        )
    if raw_binary:
        write_all(data)
        return
    print(
        f"dir-receive: type:{hexadecimal(dir_type)} operation:{hexadecimal(dir_oper)} "
        f"spec:{hexadecimal(dir_spec)} nsid:{hexadecimal(namespace_id)} "
        f"result:{hexadecimal(result)}"
    )
    structure = DIRECTIVE_DATA.get(what)
    if human_readable and allocates:
        streams = AllocateResourcesResult(result & 0xFFFFFFFF).nsa
        print(f"\tNamespace Streams Allocated (NSA): {streams}")
    elif human_readable and structure is not None:
        whole = data.ljust(getattr(structure, "size", 0), b"\0")
        page = structure.from_bytes(whole)
        echo_lines("\t" + line for line in lines(page, View(human=True)))
    elif data:
        echo_lines(hexdump(data))


# --- NVMe-MI in band ---------------------------------------------------------------------------


def _message_options(data: str) -> Callable[[Callable[..., Any]], Any]:
    """Add the options that both commands have; ``data`` is the file's help."""

    def decorate(function: Callable[..., Any]) -> Any:
        for option in (
            force_option,
            click.option("--input-file", "-i", type=click.Path(allow_dash=True), help=data),
            click.option("--nmd1", "-1", type=U32, default=0, help="The request's second dword."),
            click.option("--nmd0", "-0", type=U32, default=0, help="The request's first dword."),
            click.option(
                "--nmimt", "-m", type=_MESSAGE, default="0", help=f"Message: {_MESSAGE.words}."
            ),
            click.option("--data-len", "-l", type=U32, default=0, help="Bytes of data."),
            click.option("--namespace-id", "-n", type=U32, default=0, metavar="NSID", help="NSID."),
            click.option("--opcode", "-O", type=U8, required=True, help="The request's opcode."),
        ):
            function = option(function)
        return function

    return decorate


def _message_header(kind: ManagementMessageType) -> int:
    from pynvme_user.spec.management import ManagementInterfaceCdw10

    return ManagementInterfaceCdw10.build(mt=4, nmimt=kind)


def _say_result(name: str, result: int, *, aside: bool) -> None:
    say(
        f"{name} Command is Success and result: {result:#010x} "
        f"(status: {result & 0xFF:#04x}, response: {result >> 8:#08x})",
        aside=aside,
    )


@device_command("nvme-mi-send", "nvme-user nvme-mi-send 0000:01:00.0 --opcode 3 --nmimt 1 -0 1")
@_message_options("Where the data is; stdin if left out.")
def nvme_mi_send(
    device: str,
    opcode: int,
    namespace_id: int,
    data_len: int,
    nmimt: ManagementMessageType,
    nmd0: int,
    nmd1: int,
    input_file: str | None,
    force: bool,
) -> None:
    """Send a request of the NVMe Management Interface, with its data."""
    from pynvme_user.cli.files import padded_input

    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.NVME_MI_SEND, force)
        check_length(controller, data_len)
        result = controller.management_send(
            opcode,
            padded_input(input_file, data_len) if data_len else None,
            message=_message_header(nmimt),
            dwords=(nmd0, nmd1),
            nsid=namespace_id,
            force=force,
        )
        _say_result("NVMe-MI Send", result, aside=False)


@device_command("nvme-mi-recv", "nvme-user nvme-mi-recv 0000:01:00.0 -O 0 --nmimt 1 -l 32")
@_message_options("Where the data goes; printed in hexadecimal if left out.")
def nvme_mi_recv(
    device: str,
    opcode: int,
    namespace_id: int,
    data_len: int,
    nmimt: ManagementMessageType,
    nmd0: int,
    nmd1: int,
    input_file: str | None,
    force: bool,
) -> None:
    """Send a request of the NVMe Management Interface that brings data."""
    from pynvme_user.cli.files import Sink

    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.NVME_MI_RECEIVE, force)
        check_length(controller, data_len)
        result, data = controller.management_receive(
            opcode,
            data_len,
            message=_message_header(nmimt),
            dwords=(nmd0, nmd1),
            nsid=namespace_id,
            force=force,
        )
        _say_result("NVMe-MI Receive", result, aside=input_file == "-")
        if input_file is not None:
            with Sink(input_file) as sink:
                sink.write(data)
        elif data:
            echo_lines(hexdump(data))


COMMANDS = (
    virt_mgmt,
    capacity_mgmt,
    lockdown,
    get_lba_status,
    security_send,
    security_recv,
    dir_send,
    dir_receive,
    nvme_mi_send,
    nvme_mi_recv,
)
