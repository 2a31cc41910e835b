"""I/O commands on blocks that move no data: verify, write-zeroes, write-uncor, flush."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened, start_option
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import ask, destroy_option, force_option, guard, refusals
from pynvme_user.cli.options import (
    Tags,
    count_option,
    fua_option,
    retry_option,
    tag_options,
)
from pynvme_user.spec.commands import NSID_ALL, NvmOpcode

if TYPE_CHECKING:
    from pynvme_user import Namespace


@device_command("verify", "nvme-user verify qemu:disk.img -n 1 -s 0 --block-count 2047")
@namespace_option
@start_option
@count_option
@retry_option
@click.option(
    "--force-unit-access", "-f", is_flag=True, help="Write the device's cache back before."
)
@tag_options(storage="-S")
@force_option
def verify(
    device: str,
    namespace_id: int | None,
    start_block: int,
    block_count: int,
    limited_retry: bool,
    force_unit_access: bool,
    tags: Tags,
    force: bool,
) -> None:
    """Let the device read and check blocks, without moving their data.

    With PRINFO or tags it is one command of up to 65536 blocks; else as many as it takes.
    """
    _check_count(tags.given, block_count)
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.VERIFY, force)
        if tags.given:
            fields = {"fua": force_unit_access, "lr": limited_retry}
            _send_one(ns, NvmOpcode.VERIFY, start_block, block_count, tags, fields)
        else:
            ns.verify(
                start_block,
                block_count + 1,
                fua=force_unit_access,
                limited_retry=limited_retry,
                force=force,
            )
        print("NVME Verify Success")


@device_command("write-zeroes", "nvme-user write-zeroes qemu:disk.img -n 1 -s 0 -c 2047 --deac")
@namespace_option
@start_option
@count_option
@click.option("--deac", "-d", is_flag=True, help="Let the device deallocate the blocks.")
@retry_option
@fua_option
@tag_options(storage="-S")
@click.option(
    "--force", is_flag=True, help="Write even where there is a partition table or file system."
)
def write_zeroes(
    device: str,
    namespace_id: int | None,
    start_block: int,
    block_count: int,
    deac: bool,
    limited_retry: bool,
    force_unit_access: bool,
    tags: Tags,
    force: bool,
) -> None:
    """Set blocks of any number to zero, without moving data.

    With PRINFO, tags or --limited-retry it is one command of up to 65536 blocks.
    """
    alone = tags.given or limited_retry
    _check_count(alone, block_count)
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_range(start_block, block_count + 1)
        guard(ns, force)
        if alone:
            fields = {"deac": deac, "fua": force_unit_access, "lr": limited_retry}
            _send_one(ns, NvmOpcode.WRITE_ZEROES, start_block, block_count, tags, fields)
        else:
            ns.write_zeroes(start_block, block_count + 1, deallocate=deac, fua=force_unit_access)
        print("NVME Write Zeroes Success")


def _check_count(alone: bool, block_count: int) -> None:
    if alone and block_count > 0xFFFF:
        raise click.UsageError("with --prinfo or tags --block-count is up to 65535")


def _send_one(
    ns: Namespace,
    opcode: NvmOpcode,
    lba: int,
    count: int,
    tags: Tags,
    fields: dict[str, bool],
) -> None:
    """Send one command, as its options say."""
    from pynvme_user.spec.nvm import WriteZeroesCdw12

    ns.check_range(lba, count + 1)
    cdw12 = WriteZeroesCdw12.build(
        nlb=count, prinfo=tags.prinfo or 0, stc=tags.storage_tag_check, **fields
    )
    ns.controller.io(
        opcode,
        nsid=ns.nsid,
        buffer=None,
        cdw10=lba & 0xFFFFFFFF,
        cdw11=lba >> 32,
        cdw12=cdw12,
        **tags.dwords(ns),
    )


@device_command("write-uncor", "nvme-user write-uncor 0000:01:00.0 -n 1 -s 100 -c 0")
@namespace_option
@start_option
@count_option
@destroy_option
def write_uncor(
    device: str, namespace_id: int | None, start_block: int, block_count: int, force: bool
) -> None:
    """Mark blocks as unreadable: reads of them fail until they are written again."""
    with opened(device) as controller, refusals():
        ns = namespace(controller, namespace_id)
        ns.check_supported(NvmOpcode.WRITE_UNCORRECTABLE, force)
        ns.check_range(start_block, block_count + 1)
        ask(ns, force, "write-uncor loses blocks", "mark blocks of it")
        ns.write_uncorrectable(start_block, block_count + 1, force=force)
        print("NVME Write Uncorrectable Success")


@device_command("flush", "nvme-user flush qemu:disk.img -n 1")
@namespace_option
def flush(device: str, namespace_id: int | None) -> None:
    """Make all completed writes durable; with -n 0xffffffff those of all namespaces."""
    from pynvme_user.spec.identify_controller import FlushBehavior

    with opened(device) as controller:
        if namespace_id != NSID_ALL:
            namespace(controller, namespace_id).flush()
        elif controller.identify.vwc.fb == FlushBehavior.NOT_SUPPORTED:
            raise Failure(
                f"{controller.name} flushes one namespace at a time (VWC): flush each of "
                f"{', '.join(map(str, controller.namespaces.ids)) or 'none'}"
            )
        else:
            controller.io(NvmOpcode.FLUSH, nsid=namespace_id)
        print("NVMe Flush: success")


COMMANDS = (write_zeroes, flush, verify, write_uncor)
