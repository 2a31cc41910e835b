"""``read``, ``write`` and ``compare``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, namespace, namespace_option, opened, start_option
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import guard
from pynvme_user.cli.management import say
from pynvme_user.cli.options import (
    Tags,
    dir_spec_option,
    dir_type_option,
    file_option,
    fua_option,
    gathered,
    latency_option,
    retry_option,
    tag_options,
)
from pynvme_user.cli.types import SIZE, U8, U64
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.directives import DirectiveType

if TYPE_CHECKING:
    from pynvme_user import Controller, Namespace
    from pynvme_user.cli.files import Sink, Source
    from pynvme_user.cli.pipeline import Piece, Pipeline

_pad_option = click.option(
    "--pad", is_flag=True, help="Fill the last block with zeroes if the data ends within it."
)
_force_option = click.option(
    "--force", is_flag=True, help="Write even where there is a partition table or file system."
)
_unused_force_option = click.option(
    "--force", is_flag=True, expose_value=False, help="Of write: nothing stands in the way here."
)


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What the options of a transfer ask for."""

    namespace_id: int | None
    start_block: int
    block_count: int | None
    data_size: int | None
    metadata_size: int | None
    data: str | None
    metadata: str | None
    limited_retry: bool
    force_unit_access: bool
    dir_type: int
    dir_spec: int
    dsm: int
    show_command: bool
    dry_run: bool
    latency: bool

    @property
    def asked(self) -> bool:
        """Whether they say how much."""
        return self.block_count is not None or self.data_size is not None

    @property
    def has_metadata(self) -> bool:
        """Whether metadata is read from somewhere, or written to it."""
        return self.metadata is not None or bool(self.metadata_size)

    def check(self, opcode: NvmOpcode) -> None:
        """Raise UsageError for options that contradict each other, or the command."""
        stream = "stdout" if opcode is NvmOpcode.READ else "stdin"
        if self.has_metadata and self.data in (None, "-") and self.metadata in (None, "-"):
            raise click.UsageError(
                f"data and metadata cannot both be {stream}: name a file with --metadata or --data"
            )
        if (self.dir_type or self.dir_spec) and opcode is not NvmOpcode.WRITE:
            raise click.UsageError("--dir-type and --dir-spec are for writes: leave them out")
        if self.dir_type not in (0, DirectiveType.STREAMS, DirectiveType.DATA_PLACEMENT):
            raise click.UsageError(
                f"writes have no directive {self.dir_type}: --dir-type is 0, 1 for streams, or 2 "
                "for data placement"
            )
        if self.dir_spec and not self.dir_type:
            raise click.UsageError("--dir-spec goes with --dir-type 1 or 2: add it")
        if self.dsm and opcode is NvmOpcode.COMPARE:
            raise click.UsageError("--dsm is for reads and writes: leave it out")

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

    def round_metadata(self, ns: Namespace, length: int | None) -> None:
        """Say so where --metadata-size is not what so many bytes of data have."""
        if length is None or not self.metadata_size or not ns.metadata_size:
            return
        size = _blocks(ns, length) * ns.metadata_size
        if self.metadata_size != size:
            print(f"Rounding metadata size to fit block count ({size} bytes)", file=sys.stderr)

    def keywords(self, tags: Tags) -> dict[str, Any]:
        """Return what the driver's calls take."""
        found = tags.keywords(metadata=self.has_metadata)
        if self.limited_retry:
            found["limited_retry"] = True
        if self.dsm:
            found["dsm"] = self.dsm
        if self.dir_type:
            streams = self.dir_type == DirectiveType.STREAMS
            found["stream" if streams else "placement"] = self.dir_spec
        return found


def _transfer_options(data: str, metadata: str) -> Callable[[Callable[..., None]], Any]:
    """Give a command the options of a transfer: ``transfer`` and ``tags``."""
    transfer = gathered(
        "transfer",
        _Transfer,
        [
            namespace_option,
            start_option,
            click.option(
                "--block-count",
                "-c",
                type=U64,
                metavar="COUNT",
                help="Blocks to transfer, less one: 0 is one block.",
            ),
            click.option(
                "--data-size", "-z", type=SIZE, help="Bytes to transfer: any number, 4k, 256M, 1G."
            ),
            click.option(
                "--metadata-size",
                "-y",
                type=SIZE,
                help="Bytes of metadata; that of all blocks is transferred.",
            ),
            file_option("--data", "-d", data),
            file_option("--metadata", "-M", metadata),
            retry_option,
            fua_option,
            dir_type_option,
            dir_spec_option,
            click.option("--dsm", "-D", type=U8, default=0, help="How the data is used: AF, AL."),
            click.option(
                "--show-command", "-v", is_flag=True, help="Print each command before it is sent."
            ),
            click.option("--dry-run", "-w", is_flag=True, help="Print them, and send none."),
            latency_option,
        ],
    )
    return lambda function: transfer(tag_options(storage="-g")(function))


@contextmanager
def _pipeline(
    controller: Controller,
    ns: Namespace,
    opcode: NvmOpcode,
    transfer: _Transfer,
    tags: Tags,
    aside: bool = False,
) -> Iterator[Pipeline]:
    """Make the pipeline of a transfer; at its end say what became of it, as nvme-cli does.

    What is printed goes to stderr where stdout is for data: ``aside``.
    """
    from pynvme_user.cli.pipeline import Request, pipeline

    def show(lines: Iterable[str]) -> None:
        for line in lines:
            say(line, aside=aside)

    request = Request(
        opcode,
        transfer.start_block,
        fua=transfer.force_unit_access,
        options=transfer.keywords(tags),
        metadata=transfer.has_metadata,
        show=show if transfer.show_command or transfer.dry_run else None,
        dry_run=transfer.dry_run,
    )
    with pipeline(controller, ns, request) as pipe:
        yield pipe
    name = opcode.name.lower()
    if transfer.latency and pipe.latencies_ns:
        say(f" latency: {name}: {_latency(pipe.latencies_ns)}", aside=aside)
    if not transfer.dry_run:
        print(f"{name}: Success", file=sys.stderr)


def _latency(each: list[int]) -> str:
    if len(each) == 1:
        return f"{each[0] // 1000} us"
    mean = sum(each) // len(each)
    return f"{mean // 1000} us (mean of {len(each)} commands, at most {max(each) // 1000} us)"


@device_command("read", "nvme-user read qemu:disk.img -n 1 -s 0 --data-size 64M --data copy.bin")
@_transfer_options(
    "The file to write to; stdout if left out.", "The file that the metadata is written to."
)
@_unused_force_option
def read(device: str, transfer: _Transfer, tags: Tags) -> None:
    """Copy blocks of any number to a file or to stdout."""
    from pynvme_user.cli.files import Sink
    from pynvme_user.cli.output import refuse_terminal
    from pynvme_user.cli.progress import progress

    if not transfer.asked:
        raise click.UsageError("how much? Give --data-size or --block-count")
    transfer.check(NvmOpcode.READ)
    writes_stdout = transfer.data in (None, "-") or (
        transfer.has_metadata and transfer.metadata in (None, "-")
    )
    if writes_stdout and not transfer.dry_run:
        refuse_terminal()
    with opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = transfer.length(ns) or 0
        transfer.round_metadata(ns, length)
        blocks = _blocks(ns, length)
        _check_transfer(ns, transfer.start_block, blocks)
        with (
            _pipeline(controller, ns, NvmOpcode.READ, transfer, tags, writes_stdout) as pipe,
            ExitStack() as files,
            progress("read", length) as advance,
        ):
            sinks: list[Sink] = []
            if not transfer.dry_run:
                sinks.append(files.enter_context(Sink(transfer.data)))
                if transfer.has_metadata:
                    sinks.append(files.enter_context(Sink(transfer.metadata)))
            next_lba, end = transfer.start_block, transfer.start_block + blocks
            while next_lba < end or pipe:
                if next_lba < end and not pipe.full:
                    count = min(end - next_lba, _blocks(ns, pipe.buffer.nbytes))
                    pipe.submit(next_lba, count)
                    next_lba += count
                    continue
                piece = pipe.take()
                _check("Read", ns, piece)
                advance(_store(piece, sinks, length))


def _store(piece: Piece, sinks: list[Sink], length: int) -> int:
    """Write what was read to its files, up to so many bytes of data in all; count the bytes."""
    for sink, part in zip(sinks, (piece.data, piece.metadata), strict=False):
        left = length - sink.written if sink is sinks[0] else part.nbytes
        sink.write(part[:left])
    return piece.data.nbytes


@device_command("write", "nvme-user write qemu:disk.img -n 1 -s 0 --data some.file --pad")
@_transfer_options(
    "The file to read from, whole; stdin, to its end, if left out.",
    "The file that the metadata is in; zeroes follow a short one.",
)
@_pad_option
@_force_option
def write(device: str, transfer: _Transfer, tags: Tags, pad: bool, force: bool) -> None:
    """Copy a file or stdin, of any length, to blocks."""
    transfer.check(NvmOpcode.WRITE)
    first = transfer.start_block
    with _sources(transfer) as sources, opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = _input_length(ns, sources[0], first, transfer.length(ns), pad)
        transfer.round_metadata(ns, length)
        if not transfer.dry_run:
            guard(ns, force)
        written = 0

        def finish(piece: Piece) -> None:
            nonlocal written
            _check("Write", ns, piece)
            written += piece.blocks

        with _pipeline(controller, ns, NvmOpcode.WRITE, transfer, tags) as pipe:
            try:
                _feed("write", pipe, ns, sources, first, length, pad, transfer.asked, finish)
            except BaseException as error:
                if written and not transfer.dry_run:
                    error.add_note(f"{_range(first, written)} were written")
                raise


@device_command("compare", "nvme-user compare qemu:disk.img -n 1 -s 0 --data some.file")
@_transfer_options(
    "The file to compare with, whole; stdin, to its end, if left out.",
    "The file to compare the metadata with.",
)
@_pad_option
@_unused_force_option
def compare(device: str, transfer: _Transfer, tags: Tags, pad: bool) -> None:
    """Let the device compare blocks with a file or stdin; exit code 1 if they differ."""
    from pynvme_user.spec.status import MediaStatus

    transfer.check(NvmOpcode.COMPARE)
    first = transfer.start_block
    with _sources(transfer) as sources, opened(device) as controller:
        ns = namespace(controller, transfer.namespace_id)
        length = _input_length(ns, sources[0], first, transfer.length(ns), pad)
        transfer.round_metadata(ns, length)

        def finish(piece: Piece) -> None:
            if piece.done and piece.done.status.code() == MediaStatus.COMPARE_FAILURE:
                raise Failure(
                    f"{_range(piece.lba, piece.blocks)} of namespace {ns.nsid} differ from "
                    f"{sources[0].name}"
                )
            _check("Compare", ns, piece)

        with _pipeline(controller, ns, NvmOpcode.COMPARE, transfer, tags) as pipe:
            _feed("compare", pipe, ns, sources, first, length, pad, transfer.asked, finish)


@contextmanager
def _sources(transfer: _Transfer) -> Iterator[list[Source]]:
    """Open where data and, if there is any, metadata come from."""
    from pynvme_user.cli.files import source

    with ExitStack() as files:
        paths = [transfer.data, *([transfer.metadata] if transfer.has_metadata else [])]
        yield [files.enter_context(source(path)) for path in paths]


# --- how much, and where -----------------------------------------------------------------------


def _blocks(ns: Namespace, length: int) -> int:
    """Blocks that hold so many bytes."""
    return -(-length // ns.block_size)


def _range(lba: int, blocks: int) -> str:
    return f"blocks {lba} to {lba + blocks - 1}"


def _check_transfer(ns: Namespace, lba: int, blocks: int) -> None:
    try:
        ns.current().check_blocks(lba, blocks)
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
    sources: list[Source],
    lba: int,
    length: int | None,
    pad: bool,
    asked: bool,
    finish: Callable[[Piece], None],
) -> None:
    """Send an input through a pipeline, piece by piece; ``finish`` judges each that completed.

    An input that is shorter than what was ``asked`` for goes on with zeroes. ``sources`` are that
    of the data and, if there is one, that of the metadata.
    """
    from pynvme_user.cli.progress import progress

    src = sources[0]
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
                for source in sources[1:]:
                    metadata = pipe.metadata[: blocks * ns.metadata_size]
                    metadata[source.fill(metadata) :] = 0
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
