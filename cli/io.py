"""``read``, ``write``, ``compare``, ``write-zeroes`` and ``flush``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened, start_option
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import guard
from pynvme_user.cli.types import SIZE, U64

if TYPE_CHECKING:
    from pynvme_user import Namespace
    from pynvme_user.cli.files import Source
    from pynvme_user.cli.pipeline import Piece, Pipeline

_size_option = click.option(
    "--data-size", "-z", type=SIZE, help="Bytes to transfer: any number, 4k, 256M, 1G."
)
_count_option = click.option(
    "--block-count",
    "-c",
    type=U64,
    metavar="COUNT",
    help="Blocks to transfer, less one: 0 is one block.",
)
_fua_option = click.option(
    "--force-unit-access", "-f", is_flag=True, help="Bypass the device's volatile cache."
)
_pad_option = click.option(
    "--pad", is_flag=True, help="Fill the last block with zeroes if the data ends within it."
)
_force_option = click.option(
    "--force", is_flag=True, help="Write even where there is a partition table or file system."
)


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What the options of a transfer ask for."""

    namespace_id: int | None
    start_block: int
    block_count: int | None
    data_size: int | None
    data: str | None
    force_unit_access: bool

    @property
    def asked(self) -> bool:
        """Whether they say how much."""
        return self.block_count is not None or self.data_size is not None

    def length(self, ns: Namespace) -> int | None:
        """Bytes that the options ask for; None if they leave it to the input."""
        if self.data_size == 0:
            raise click.UsageError("--data-size 0 is no data")
        if self.block_count is None:
            return self.data_size
        length = (self.block_count + 1) * ns.block_size
        if self.data_size is not None and self.data_size != length:
            print(f"Rounding data size to fit block count ({length} bytes)", file=sys.stderr)
        return length


_TRANSFER = tuple(field.name for field in fields(_Transfer))


def _transfer_options(data_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a transfer, which it gets as one :class:`_Transfer`."""
    data_option = click.option(
        "--data", "-d", type=click.Path(allow_dash=True), metavar="FILE", help=data_help
    )

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**given: Any) -> None:
            function(transfer=_Transfer(*map(given.pop, _TRANSFER)), **given)

        for option in (
            *(_fua_option, data_option, _size_option),
            *(_count_option, start_option, namespace_option),
        ):
            command = option(command)
        return command

    return decorate


@device_command("read", "nvme-user read qemu:disk.img -n 1 -s 0 --data-size 64M --data copy.bin")
@_transfer_options("The file to write to; stdout if left out.")
def read(device: str, transfer: _Transfer) -> None:
    """Copy blocks of any number to a file or to stdout."""
    from pynvme_user.cli.files import Sink
    from pynvme_user.cli.output import refuse_terminal
    from pynvme_user.cli.pipeline import pipeline
    from pynvme_user.cli.progress import progress

    if transfer.block_count is None and transfer.data_size is None:
        raise click.UsageError("how much? Give --data-size or --block-count")
    if transfer.data in (None, "-"):
        refuse_terminal()
    fua = transfer.force_unit_access
    with opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = transfer.length(ns) or 0
        blocks = _blocks(ns, length)
        _check_transfer(ns, transfer.start_block, blocks)
        with (
            Sink(transfer.data) as sink,
            pipeline(controller, ns, lambda pair: pair.submit_read, fua=fua) as pipe,
            progress("read", length) as advance,
        ):
            next_lba, end = transfer.start_block, transfer.start_block + blocks
            while next_lba < end or pipe:
                if next_lba < end and not pipe.full:
                    count = min(end - next_lba, _blocks(ns, pipe.buffer.nbytes))
                    pipe.submit(next_lba, count)
                    next_lba += count
                    continue
                piece = pipe.take()
                _check("Read", ns, piece)
                part = piece.data[: length - sink.written]
                sink.write(part)
                advance(part.nbytes)


@device_command("write", "nvme-user write qemu:disk.img -n 1 -s 0 --data some.file --pad")
@_transfer_options("The file to read from, whole; stdin, to its end, if left out.")
@_pad_option
@_force_option
def write(device: str, transfer: _Transfer, pad: bool, force: bool) -> None:
    """Copy a file or stdin, of any length, to blocks."""
    from pynvme_user.cli.files import source
    from pynvme_user.cli.pipeline import pipeline

    first, fua = transfer.start_block, transfer.force_unit_access
    with source(transfer.data) as src, opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = _input_length(ns, src, first, transfer.length(ns), pad)
        guard(ns, force)
        with pipeline(controller, ns, lambda pair: pair.submit_write, fua=fua) as pipe:
            written = 0

            def finish(piece: Piece) -> None:
                nonlocal written
                _check("Write", ns, piece)
                written += piece.blocks

            try:
                _feed("write", pipe, ns, src, first, length, pad, transfer.asked, finish)
            except BaseException as error:
                if written:
                    error.add_note(f"{_range(first, written)} were written")
                raise


@device_command("compare", "nvme-user compare qemu:disk.img -n 1 -s 0 --data some.file")
@_transfer_options("The file to compare with, whole; stdin, to its end, if left out.")
@_pad_option
def compare(device: str, transfer: _Transfer, pad: bool) -> None:
    """Let the device compare blocks with a file or stdin; exit code 1 if they differ."""
    from pynvme_user.cli.files import source
    from pynvme_user.cli.pipeline import pipeline
    from pynvme_user.spec.status import MediaStatus

    first, fua = transfer.start_block, transfer.force_unit_access
    with source(transfer.data) as src, opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = _input_length(ns, src, first, transfer.length(ns), pad)

        def finish(piece: Piece) -> None:
            if piece.done and piece.done.status.code() == MediaStatus.COMPARE_FAILURE:
                raise Failure(
                    f"{_range(piece.lba, piece.blocks)} of namespace {ns.nsid} differ from "
                    f"{src.name}"
                )
            _check("Compare", ns, piece)

        with pipeline(controller, ns, lambda pair: pair.submit_compare, fua=fua) as pipe:
            _feed("compare", pipe, ns, src, first, length, pad, transfer.asked, finish)


@device_command("write-zeroes", "nvme-user write-zeroes qemu:disk.img -n 1 -s 0 -c 2047 --deac")
@namespace_option
@start_option
@click.option(
    "--block-count",
    "-c",
    type=U64,
    default=0,
    metavar="COUNT",
    help="Blocks to set to zero, less one: 0, the default, is one block.",
)
@click.option("--deac", "-d", is_flag=True, help="Let the device deallocate the blocks.")
@_fua_option
@_force_option
def write_zeroes(
    device: str,
    namespace_id: int | None,
    start_block: int,
    block_count: int,
    deac: bool,
    force_unit_access: bool,
    force: bool,
) -> None:
    """Set blocks of any number to zero, without moving data."""
    with opened(device) as controller:
        ns = namespace(controller, namespace_id)
        try:
            ns.check_range(start_block, block_count + 1)
        except ValueError as error:
            raise Failure(str(error)) from None
        guard(ns, force)
        ns.write_zeroes(start_block, block_count + 1, deallocate=deac, fua=force_unit_access)


@device_command("flush", "nvme-user flush qemu:disk.img -n 1")
@namespace_option
def flush(device: str, namespace_id: int | None) -> None:
    """Make all completed writes durable; with -n 0xffffffff those of all namespaces."""
    from pynvme_user import NvmOpcode
    from pynvme_user.spec.commands import NSID_ALL
    from pynvme_user.spec.identify_controller import FlushBehavior

    with opened(device) as controller:
        if namespace_id != NSID_ALL:
            namespace(controller, namespace_id).flush()
            return
        if controller.identify.vwc.fb == FlushBehavior.NOT_SUPPORTED:
            raise Failure(
                f"{controller.name} flushes one namespace at a time (VWC): flush each of "
                f"{', '.join(map(str, controller.namespaces.ids)) or 'none'}"
            )
        controller.io(NvmOpcode.FLUSH, nsid=namespace_id)


# --- how much, and where -----------------------------------------------------------------------


def _blocks(ns: Namespace, length: int) -> int:
    """Blocks that hold so many bytes."""
    return -(-length // ns.block_size)


def _range(lba: int, blocks: int) -> str:
    return f"blocks {lba} to {lba + blocks - 1}"


def _check_transfer(ns: Namespace, lba: int, blocks: int) -> None:
    try:
        ns.check_transfer(lba, blocks)
    except ValueError as error:
        raise Failure(str(error)) from None


def _input_length(
    ns: Namespace, src: Source, lba: int, wanted: int | None, pad: bool
) -> int | None:
    """Bytes to take from an input, whole blocks unless padded; None if only its end tells."""
    length = src.length if wanted is None else wanted
    _check_transfer(ns, lba, 1 if length is None else max(1, _blocks(ns, length)))
    if length is None:
        return None
    if length == 0:
        raise Failure(f"{src.name} is empty: there is nothing to do")
    if length % ns.block_size and not pad:
        raise click.UsageError(
            f"{src.name if wanted is None else '--data-size'} has {length} bytes, which are not "
            f"whole blocks of {ns.block_size}: add --pad to fill the last one with zeroes"
        )
    return length


# --- data to the device ------------------------------------------------------------------------


def _feed(
    what: str,
    pipe: Pipeline,
    ns: Namespace,
    src: Source,
    lba: int,
    length: int | None,
    pad: bool,
    asked: bool,
    finish: Callable[[Piece], None],
) -> None:
    """Send an input through a pipeline, piece by piece; ``finish`` judges each that completed.

    An input that is shorter than what was ``asked`` for goes on with zeroes.
    """
    from pynvme_user.cli.progress import progress

    total = zeroes = 0
    with progress(what, length) as advance:
        while length is None or total < length:
            if pipe.full:
                finish(pipe.take())
            buffer = pipe.buffer if length is None else pipe.buffer[: length - total]
            count = src.fill(buffer)
            if asked and count < buffer.nbytes and (total or count):
                buffer[count:] = 0
                zeroes += buffer.nbytes - count
                count = buffer.nbytes
            blocks = _blocks(ns, count)
            total += count
            short = count < buffer.nbytes
            if count % ns.block_size:
                if not pad:
                    raise Failure(
                        f"{src.name} ended after {total} bytes, which are not whole blocks of "
                        f"{ns.block_size}: add --pad to fill the last one with zeroes"
                    )
                pipe.buffer[count : blocks * ns.block_size] = 0
            if blocks:
                if length is None:
                    _check_room(ns, src, lba, blocks)
                pipe.submit(lba, blocks)
                lba += blocks
                advance(count)
            if short:
                break
        while pipe:
            finish(pipe.take())
    if total == 0:
        raise Failure(f"{src.name} is empty: there is nothing to do")
    if (
        length is not None
        and total < length
        and not (pad and _blocks(ns, total) == _blocks(ns, length))
    ):
        raise Failure(f"{src.name} ended after {total} bytes, fewer than the {length} that it had")
    if zeroes:
        print(
            f"{src.name} has {total - zeroes} bytes: the other {zeroes} of the {total} asked for "
            "are zeroes",
            file=sys.stderr,
        )


def _check_room(ns: Namespace, src: Source, lba: int, blocks: int) -> None:
    if lba + blocks > ns.block_count:
        raise Failure(
            f"{src.name} has more data than there is room: namespace {ns.nsid} has blocks 0 to "
            f"{ns.block_count - 1}"
        )


def _check(verb: str, ns: Namespace, piece: Piece) -> None:
    """Raise the error that a piece completed with."""
    from pynvme_user.driver.completion import check

    if piece.done is not None:
        what = f"{verb} of {_range(piece.lba, piece.blocks)} (namespace {ns.nsid})"
        check(piece.done.status, what, piece.done.timed_out)
