"""Commands about a whole device: format, sanitize, self-test, firmware, resets."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pynvme_user.cli.device import (
    device_command,
    format_of,
    identified,
    namespace_option,
    only_namespace,
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
from pynvme_user.cli.types import SIZE, U32, Member, Number
from pynvme_user.spec.admin import SanitizeAction, SecureErase, SelfTestCode
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.management import CommitAction
from pynvme_user.spec.status import CommandSpecificStatus

if TYPE_CHECKING:
    from pynvme_user import Controller

_ERASE = Member(SecureErase)
_SANITIZE = Member(
    SanitizeAction,
    {
        "exit-failure": SanitizeAction.EXIT_FAILURE_MODE,
        "start-block-erase": SanitizeAction.BLOCK_ERASE,
        "start-overwrite": SanitizeAction.OVERWRITE,
        "start-crypto-erase": SanitizeAction.CRYPTO_ERASE,
    },
)
_SELF_TEST = Member(SelfTestCode)
_COMMIT = Member(CommitAction)
_ERASING = (SanitizeAction.BLOCK_ERASE, SanitizeAction.OVERWRITE, SanitizeAction.CRYPTO_ERASE)
_OF_BOOT_PARTITIONS = (CommitAction.REPLACE_BOOT_PARTITION, CommitAction.ACTIVATE_BOOT_PARTITION)
#: Statuses of a commit that was done, and the reset that the firmware needs.
_RESETS = {
    CommandSpecificStatus.FIRMWARE_NEEDS_CONTROLLER_RESET: "any controller",
    CommandSpecificStatus.FIRMWARE_NEEDS_SUBSYSTEM_RESET: "subsystem",
    CommandSpecificStatus.FIRMWARE_NEEDS_CONVENTIONAL_RESET: "conventional",
}
_COMMIT_SECONDS = 600.0
_LOOK_SECONDS = 0.05


# --- format ------------------------------------------------------------------------------------


@device_command("format", "nvme-user format qemu:disk.img -n 1 --block-size 4096")
@namespace_option
@timeout_option(600_000)
@click.option(
    "--lbaf",
    "-l",
    type=Number(6),
    metavar="INDEX",
    help="The LBA format, as id-ns counts them; by default the one in use, of all namespaces 0.",
)
@click.option("--ses", "-s", type=_ERASE, default="0", help=f"Secure erase: {_ERASE.words}.")
@click.option("--pi", "-i", type=Number(3), default=0, help="Protection type, 1 to 3; 0 for none.")
@click.option(
    "--pil",
    "-p",
    type=Number(1),
    default=0,
    help="1 puts the protection information before the rest of the metadata.",
)
@click.option(
    "--ms", "-m", type=Number(1), default=0, help="1 puts metadata at the end of each block's data."
)
@click.option("--reset", "-r", is_flag=True, help="Reset the controller afterwards.")
@click.option(
    "--block-size",
    "-b",
    type=SIZE,
    help="Take the format of blocks of this size without metadata, in place of --lbaf.",
)
@destroy_option
def format(
    device: str,
    namespace_id: int | None,
    timeout: int,
    lbaf: int | None,
    ses: SecureErase,
    pi: int,
    pil: int,
    ms: int,
    reset: bool,
    block_size: int | None,
    force: bool,
) -> None:
    """Format a namespace, or with -n 0xffffffff all of them: its data is lost."""
    if lbaf is not None and block_size is not None:
        raise click.UsageError("--lbaf and --block-size both name the format: leave out one")
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.FORMAT_NVM, force)
        attributes = controller.identify.fna
        if attributes.fns and not attributes.fnvmbs:
            nsid = NSID_ALL
        else:
            nsid = only_namespace(controller) if namespace_id is None else namespace_id
        if lbaf is None:
            lbaf = _format_index(controller, nsid, block_size)
        if not force:
            every = nsid == NSID_ALL or attributes.fns or (ses and attributes.sens)
            concerned = every_namespace(controller) if every else [nsid]
            guard_all(controller, concerned, "format it")
            confirm(f"format loses the data of {named_namespaces(controller, concerned)}")
        controller.format(
            nsid,
            lbaf,
            extended=bool(ms),
            protection=pi,
            protection_first=bool(pil),
            erase=ses,
            timeout=timeout / 1000 or _COMMIT_SECONDS,
            force=force,
        )
        print(f"Success formatting namespace:{nsid:x}")
        if reset:
            controller.reset()


def _format_index(controller: Controller, nsid: int, block_size: int | None) -> int:
    """Find the format in use, or the one of blocks of that size without metadata."""
    if nsid == NSID_ALL:
        if block_size is None:
            return 0
        ids = controller.namespaces.ids
        if not ids:
            raise Failure(f"{controller.name} has no active namespace: name a format with --lbaf")
        nsid = ids[0]
    page = identified(controller, nsid)
    return page.format_index if block_size is None else format_of(page, block_size)


# --- sanitize ----------------------------------------------------------------------------------


@device_command("sanitize", "nvme-user sanitize 0000:01:00.0 --sanact start-block-erase")
@click.option("--no-dealloc", "-d", is_flag=True, help="Deallocate no blocks afterwards.")
@click.option("--oipbp", "-i", is_flag=True, help="Invert the pattern between passes.")
@click.option(
    "--owpass",
    "-n",
    type=click.IntRange(0, 16),
    default=0,
    metavar="COUNT",
    help="Passes of an overwrite, 1 to 16; 0, the default, is 16.",
)
@click.option("--ause", "-u", is_flag=True, help="Let a failure be left without a success.")
@click.option(
    "--sanact", "-a", type=_SANITIZE, required=True, help=f"What it does: {_SANITIZE.words}."
)
@click.option("--ovrpat", "-p", type=U32, default=0, help="The 32 bits that overwrite.")
@destroy_option
def sanitize(
    device: str,
    no_dealloc: bool,
    oipbp: bool,
    owpass: int,
    ause: bool,
    sanact: SanitizeAction,
    ovrpat: int,
    force: bool,
) -> None:
    """Begin to sanitize the whole NVM subsystem: the data of all namespaces is lost.

    It goes on in the background, also through resets and power cycles.
    """
    if sanact != SanitizeAction.OVERWRITE and (owpass or oipbp or ovrpat):
        raise click.UsageError("--owpass, --oipbp and --ovrpat are of --sanact 3 alone")
    if sanact not in _ERASING and (ause or no_dealloc):
        raise click.UsageError("--ause and --no-dealloc are of --sanact 2 to 4")
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.SANITIZE, force)
        if sanact in _ERASING and not force:
            guard_all(controller, every_namespace(controller), "sanitize it")
            confirm(f"sanitize loses the data of all namespaces of {controller.name}")
        controller.sanitize(
            sanact,
            passes=owpass or 16,
            pattern=ovrpat,
            invert=oipbp,
            unrestricted=ause,
            no_deallocate=no_dealloc,
            force=force,
        )


# --- self-test ---------------------------------------------------------------------------------


@device_command("device-self-test", "nvme-user device-self-test 0000:01:00.0 -s 1 --wait")
@click.option(
    "--namespace-id",
    "-n",
    type=U32,
    default=NSID_ALL,
    metavar="NSID",
    help="The namespace; all of them by default, 0 for the controller alone.",
)
@click.option(
    "--self-test-code",
    "-s",
    type=_SELF_TEST,
    help=f"What to do: {_SELF_TEST.words}; left out, show how far one has come.",
)
@click.option(
    "--wait",
    "-w",
    is_flag=True,
    help="Wait for its end; exit code 1 if it fails. ctrl-C aborts the test.",
)
@force_option
def device_self_test(
    device: str,
    namespace_id: int,
    self_test_code: SelfTestCode | None,
    wait: bool,
    force: bool,
) -> None:
    """Begin a self-test, which goes on in the background, abort it, or show its progress."""
    from pynvme_user.spec.logs import SelfTestLog

    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.DEVICE_SELF_TEST, force)
        if self_test_code is None:
            log = controller.log(SelfTestLog, force=force)
            if not log.cdsto.cdstos:
                print("no self test running")
            elif wait:
                _wait(controller, namespace_id)
            else:
                print(f"progress {log.cdstc.cdstcs}%")
            return
        controller.self_test(self_test_code, namespace_id, force=force)
        match self_test_code:
            case SelfTestCode.ABORT:
                print("Aborting device self-test operation")
                return
            case SelfTestCode.EXTENDED:
                print("Extended Device self-test started")
            case SelfTestCode.SHORT:
                print("Short Device self-test started")
        if wait:
            _wait(controller, namespace_id)


def _wait(controller: Controller, nsid: int) -> None:
    """Wait for the end of a self-test; Failure says how it failed."""
    from pynvme_user.spec.bits import named
    from pynvme_user.spec.logs import SelfTestLog
    from pynvme_user.spec.logs_health import SelfTestOutcome

    print("Waiting for self test completion...", flush=True)
    try:
        for done in controller.self_test_progress():
            if sys.stderr.isatty():
                end = "\n" if done == 1 else ""
                print(f"\r{done:4.0%}", end=end, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        controller.self_test(SelfTestCode.ABORT, nsid, force=True)
        print("Aborting device self-test operation")
        raise
    outcome = controller.log(SelfTestLog, force=True).results[0].dsts.dstr
    if outcome not in (SelfTestOutcome.NO_ERROR, SelfTestOutcome.NOT_USED):
        said = named(outcome, SelfTestOutcome).lower().replace("_", " ") or f"result {outcome:#x}"
        raise Failure(f"the self-test of {controller.name} did not succeed: {said}")


# --- firmware ----------------------------------------------------------------------------------


@device_command("fw-download", "nvme-user fw-download 0000:01:00.0 --fw image.bin")
@click.option(
    "--fw", "-f", type=click.Path(), required=True, metavar="FILE", help="The firmware image."
)
@click.option(
    "--xfer",
    "-x",
    type=SIZE,
    help="Bytes in one transfer; by default what the controller asks for, or 4096.",
)
@click.option(
    "--offset",
    "-o",
    type=U32,
    default=0,
    metavar="DWORDS",
    help="Where in the whole image the file begins, in dwords; 0 by default.",
)
@click.option("--progress", "-p", is_flag=True, help="Show how much was transferred.")
@click.option("--ignore-ovr", "-i", is_flag=True, help="Go on where a piece overlaps another.")
@force_option
def fw_download(
    device: str,
    fw: str,
    xfer: int | None,
    offset: int,
    progress: bool,
    ignore_ovr: bool,
    force: bool,
) -> None:
    """Move a firmware image into the controller; fw-commit puts it into a slot."""
    try:
        image = Path(fw).read_bytes()
    except OSError as error:
        raise Failure(f"{fw} cannot be read: {error.strerror}") from None

    def show(done: int, total: int) -> None:
        at = 100 * done // total
        print(
            f"Firmware download: transferring {done:#010x}/{total:#010x} bytes: {at:03d}%",
            end="\n" if done == total else "\r",
            flush=True,
        )

    with opened(device) as controller, refusals():
        controller.firmware_download(
            image,
            offset=4 * offset,
            piece=xfer,
            ignore_overlap=ignore_ovr,
            progress=show if progress else None,
            force=force,
        )
        print("Firmware download success")


@device_command("fw-commit", "nvme-user fw-commit 0000:01:00.0 --slot 2 --action 1")
@click.option(
    "--slot", "-s", type=Number(3), default=0, help="The slot; 0 lets the controller choose."
)
@click.option(
    "--action", "-a", type=_COMMIT, default="0", help=f"What to do with it: {_COMMIT.words}."
)
@click.option("--bpid", "-b", type=Number(1), default=0, help="The boot partition, of 6 and 7.")
@destroy_option
def fw_commit(device: str, slot: int, action: CommitAction, bpid: int, force: bool) -> None:
    """Put the downloaded firmware image into a slot, or choose the slot that is to run."""
    from pynvme_user.spec.management import FirmwareCommitCdw10, FirmwareCommitResult

    said = f"action:{int(action)} slot:{slot}"
    if action in _OF_BOOT_PARTITIONS:
        said += f" bpid:{bpid}"
    with opened(device) as controller, refusals():
        controller.check_supported(AdminOpcode.FIRMWARE_COMMIT, force)
        if not force:
            confirm(f"fw-commit changes the firmware of {controller.name} ({said})")
        request = controller.admin_async(
            AdminOpcode.FIRMWARE_COMMIT,
            cdw10=FirmwareCommitCdw10.build(fs=slot, ca=action, bpid=bpid),
            timeout=_COMMIT_SECONDS,
        )
        done = request.wait()
        code = done.status.code() if done is not None else None
        if isinstance(code, CommandSpecificStatus) and code in _RESETS:
            print(
                f"Success activating firmware {said}, but firmware requires {_RESETS[code]} reset"
            )
        else:
            done = request.check()
            print(f"Success committing firmware {said}")
        overlap = FirmwareCommitResult(0 if done is None else done.result & 3)
        print(f"Multiple Update Detected (MUD) Value: {int(overlap)}")
        for seen, where in (
            (overlap.asqfwo, "a command from an Admin SQ on a controller"),
            (overlap.mefwo, "a command from a Management Endpoint"),
        ):
            if seen:
                print(
                    "Detected an overlapping firmware/boot partition image update command "
                    f"sequence due to processing {where}"
                )


# --- resets ------------------------------------------------------------------------------------


@device_command("reset", "nvme-user reset 0000:01:00.0")
def reset(device: str) -> None:
    """Reset the controller, and enable it again."""
    with opened(device) as controller:
        controller.reset()


@device_command("subsystem-reset", "nvme-user subsystem-reset 0000:01:00.0")
@force_option
def subsystem_reset(device: str, force: bool) -> None:
    """Reset the NVM subsystem: all of its controllers, whoever uses them."""
    from pynvme_user.errors import NotSupportedError
    from pynvme_user.spec.registers import NSSR

    with opened(device) as controller, refusals():
        if not controller.cap.nssrs and not force:
            raise NotSupportedError(
                f"{controller.name} does not support NVM Subsystem Reset: CAP bit 36 "
                "(NVM Subsystem Reset Supported) is 0"
            )
        controller.registers.write(NSSR(int.from_bytes(b"NVMe")))
        _wait_until_there(controller)
        controller.reset()


def _wait_until_there(controller: Controller) -> None:
    """Wait until its registers can be read: a reset of the subsystem may take the link down."""
    from pynvme_user.errors import DeviceRemovedError
    from pynvme_user.spec.registers import CSTS

    until = time.monotonic() + (controller.cap.to + 1) / 2
    while True:
        try:
            controller.registers.read(CSTS)
        except DeviceRemovedError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


COMMANDS = (
    format,
    sanitize,
    device_self_test,
    fw_download,
    fw_commit,
    reset,
    subsystem_reset,
)
