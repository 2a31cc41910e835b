"""Transfers of any length through a few DMA buffers, while the device works on the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pynvme_user.cli.errors import Failure
from pynvme_user.spec.commands import NvmOpcode

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pynvme_user import Completion, Controller, Namespace, QueuePair
    from pynvme_user.driver.metadata import MetadataCommand

    Bytes = npt.NDArray[np.uint8]

#: Memory for all buffers together: what keeps a fast device busy, and little beside any data.
_WINDOW = 8 << 20
_MOST_SLOTS = 64
#: Commands that one buffer's blocks are at most divided into: see `sectors`.
_MOST_PARTS = 3


@dataclass(frozen=True)
class Request:
    """What the commands of a transfer say besides blocks and memory.

    ``options`` are keywords of the driver's calls. With ``metadata`` the caller gives or takes the
    blocks' metadata. ``show`` is called with the lines that tell of a command before it is sent;
    with ``dry_run`` it is not sent.
    """

    opcode: NvmOpcode
    first: int
    fua: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    metadata: bool = False
    show: Callable[[Iterable[str]], None] | None = None
    dry_run: bool = False


@dataclass
class _Slot:
    """Memory for some blocks: as the caller has them, and as the device finds them."""

    data: Bytes
    metadata: Bytes
    sent: Bytes  # DMA memory: the data, or data and metadata of each block
    sent_metadata: Bytes  # DMA memory, likewise


@dataclass
class Piece:
    """Some blocks: their data and metadata, and their outcome once there is one.

    Of several commands it is that of the first one that failed.
    """

    lba: int
    blocks: int
    data: Bytes
    metadata: Bytes
    done: Completion | None = None
    outstanding: int = 0


class Pipeline:
    """Commands of one kind in the order of their LBAs, several of them outstanding.

    ``buffer`` and ``metadata`` are the memory for the next blocks, ``submit`` sends them, ``take``
    waits for the oldest. Being in order, the first error that is seen is the first there is.
    """

    def __init__(
        self,
        pair: QueuePair,
        ns: Namespace,
        request: Request,
        made: MetadataCommand,
        slots: list[_Slot],
    ) -> None:
        self._pair = pair
        self._ns = ns
        self._request = request
        self._made = made
        self._free = deque(slots)
        self._used: deque[_Slot] = deque()
        self._order: deque[Piece] = deque()
        self._by_cid: dict[int, Piece] = {}
        self._submit = {
            NvmOpcode.READ: pair.submit_read,
            NvmOpcode.WRITE: pair.submit_write,
            NvmOpcode.COMPARE: pair.submit_compare,
        }[request.opcode]
        self._reads = request.opcode is NvmOpcode.READ
        #: How long each command took.
        self.latencies_ns: list[int] = []

    def __len__(self) -> int:
        """Count the pieces that were submitted and not taken."""
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether all memory is in use, so that the oldest piece has to be taken first."""
        return not self._free

    @property
    def buffer(self) -> Bytes:
        """The memory of the next blocks; it holds as much as one command carries."""
        return self._free[0].data

    @property
    def metadata(self) -> Bytes:
        """That of their metadata; empty where the caller has none."""
        return self._free[0].metadata

    def submit(self, lba: int, blocks: int) -> None:
        """Send the command for the first ``blocks`` blocks of :attr:`buffer`; do not wait."""
        slot = self._free[0]
        size, extra = self._ns.block_size, self._ns.metadata_size
        metadata = slot.metadata[: blocks * extra]
        piece = Piece(lba, blocks, slot.data[: blocks * size], metadata)
        if not self._reads:
            self._fill(slot, piece)
        sent = 0
        while sent < blocks:
            count = self._count(blocks - sent)
            self._send(piece, slot, sent, count)
            sent += count
        if not self._request.dry_run:
            self._pair.ring()
        self._used.append(self._free.popleft())
        self._order.append(piece)

    def _count(self, blocks: int) -> int:
        """Say how many of so many blocks one command carries."""
        from pynvme_user.driver.metadata_transfer import sectors

        geometry = self._ns.geometry
        if not geometry.metadata_size or geometry.protection is not None:
            return blocks
        return sectors(blocks, geometry.metadata_size)

    def _send(self, piece: Piece, slot: _Slot, behind: int, blocks: int) -> None:
        made, request, lba = self._made, self._request, piece.lba + behind
        each, extra = made.block_bytes, made.metadata_bytes
        buffer = slot.sent[behind * each : (behind + blocks) * each]
        options = dict(request.options)
        if self._ns.protection is not None:
            options["ref_tag"] = made.ref_tag_at(lba - request.first)
        if extra:
            options["metadata"] = slot.sent_metadata[behind * extra : (behind + blocks) * extra]
        if request.show:
            request.show(_listing(self._ns, made, lba, blocks, buffer, options))
        if request.dry_run:
            return
        cid = self._submit(self._ns, lba, blocks, buffer, fua=request.fua, **options)
        self._by_cid[cid] = piece
        piece.outstanding += 1

    def _rows(self, slot: _Slot, blocks: int) -> tuple[Any, Any]:
        """Return data and metadata of each block where both lie together, as rows."""
        size = self._ns.block_size
        import numpy as np

        whole = slot.sent[: blocks * self._made.block_bytes].view(np.ndarray)
        rows = whole.reshape(blocks, -1)
        return rows[:, :size], rows[:, size:]

    @property
    def _joined(self) -> bool:
        return self._made.block_bytes != self._ns.block_size

    def _fill(self, slot: _Slot, piece: Piece) -> None:
        """Put what the device is to read where it finds it; make metadata that nobody gave."""
        made, protection, blocks = self._made, self._ns.protection, piece.blocks
        metadata = slot.sent_metadata[: blocks * made.metadata_bytes]
        if self._joined:
            data, rows = self._rows(slot, blocks)
            data[:] = piece.data.reshape(data.shape)
            rows[:] = piece.metadata.reshape(rows.shape) if self._request.metadata else 0
        if self._request.metadata or not (self._joined or made.metadata_bytes):
            return
        metadata[:] = 0
        if protection is not None and not made.pract:
            protection.generate(
                slot.sent[: blocks * made.block_bytes],
                None if self._joined else metadata,
                ref_tag=made.ref_tag_at(piece.lba - self._request.first),
                app_tag=made.app_tag,
                storage_tag=made.storage_tag,
            )

    def take(self) -> Piece:
        """Wait for the oldest piece. Its data stays until the next :meth:`submit`."""
        piece = self._order.popleft()
        while piece.outstanding:
            for done in self._pair.wait():
                other = self._by_cid.pop(done.cid)
                other.outstanding -= 1
                self.latencies_ns.append(done.latency_ns)
                if other.done is None or other.done.status.ok:
                    other.done = done
        slot = self._used.popleft()
        if self._reads and self._joined:
            data, metadata = self._rows(slot, piece.blocks)
            piece.data.reshape(data.shape)[:] = data
            if self._request.metadata:
                piece.metadata.reshape(metadata.shape)[:] = metadata
        self._free.append(slot)
        return piece


def _listing(
    ns: Namespace,
    made: MetadataCommand,
    lba: int,
    blocks: int,
    buffer: Bytes,
    options: dict[str, Any],
) -> Iterator[str]:
    """Tell of a command in nvme-cli's lines."""
    from pynvme_user.spec.nvm import ProtectionCdw15, ReadCdw12

    sqe, protection, dma = made.sqe, ns.protection, ns.device.dma
    cdw15, metadata = ProtectionCdw15(sqe.cdw15), options.get("metadata")
    yield f"opcode       : {int(sqe.opc):02x}"
    yield f"nsid         : {ns.nsid:02x}"
    yield f"flags        : {0:02x}"
    yield f"control      : {sqe.cdw12 >> 16:04x}"
    yield f"nblocks      : {blocks - 1:04x}"
    yield f"metadata     : {0 if metadata is None else dma.iova(metadata) or 0:x}"
    yield f"addr         : {dma.iova(buffer) or 0:x}"
    yield f"slba         : {lba:x}"
    yield f"dsmgmt       : {sqe.cdw13:08x}"
    yield f"reftag       : {options.get('ref_tag', 0):x}"
    yield f"apptag       : {cdw15.lbat:04x}"
    yield f"appmask      : {cdw15.lbatm:04x}"
    yield f"storagetagcheck : {ReadCdw12(sqe.cdw12).stc:04x}"
    yield f"storagetag      : {made.storage_tag:x}"
    yield f"pif             : {0 if protection is None else int(protection.guard):02x}"
    yield f"sts             : {0 if protection is None else protection.storage_tag_bits:02x}"


@contextmanager
def pipeline(controller: Controller, ns: Namespace, request: Request) -> Iterator[Pipeline]:
    """Make a pipeline on a queue pair of its own; leaving it waits for what is outstanding.

    Raises Failure for options that the namespace does not take.
    """
    from dataclasses import replace

    from pynvme_user.driver.metadata import metadata_command
    from pynvme_user.spec.nvm import ReadCdw12

    geometry = ns.current()
    options = dict(request.options)
    if request.metadata and not geometry.metadata_size:
        raise Failure(f"namespace {ns.nsid} has no metadata: leave out --metadata")
    try:
        made = metadata_command(
            geometry,
            request.opcode,
            request.first,
            fua=request.fua,
            pract=True,
            options=options | ({"metadata": b""} if request.metadata else {}),
        )
    except ValueError as error:
        raise Failure(str(error)) from None
    if geometry.protection is not None:
        options["prinfo"] = ReadCdw12(made.sqe.cdw12).prinfo
    size = geometry.max_blocks * made.block_bytes
    if size == 0:
        raise Failure(
            f"a block of {made.block_bytes} bytes is more than the {controller.max_transfer} "
            "bytes that a command of this controller carries: format the namespace with smaller "
            "blocks"
        )
    parts = _MOST_PARTS if geometry.metadata_size else 1
    count = min(_MOST_SLOTS, max(2, _WINDOW // size), max(1, controller.cap.mqes // parts))
    slots = _slots(controller, ns, made, geometry.max_blocks, count)
    with controller.queue_pair(min(count * parts, controller.cap.mqes)) as pair:
        yield Pipeline(pair, ns, replace(request, options=options), made, slots)


def _slots(
    controller: Controller, ns: Namespace, made: MetadataCommand, blocks: int, count: int
) -> list[_Slot]:
    """Allocate memory for so many times so many blocks."""
    import numpy as np

    data, metadata = blocks * ns.block_size, blocks * ns.metadata_size
    joined = made.block_bytes != ns.block_size
    each, aside = _aligned(blocks * made.block_bytes), _aligned(blocks * made.metadata_bytes)
    memory = controller.alloc(count * each)
    extra = controller.alloc(count * aside) if aside else memory[:0]
    slots = []
    for index in range(count):
        sent = memory[index * each : index * each + blocks * made.block_bytes]
        beside = extra[index * aside : index * aside + blocks * made.metadata_bytes]
        slots.append(
            _Slot(
                data=np.empty(data, np.uint8) if joined else sent,
                metadata=beside if made.metadata_bytes else np.empty(metadata, np.uint8),
                sent=sent,
                sent_metadata=beside,
            )
        )
    return slots


def _aligned(length: int) -> int:
    """Round up to the next multiple of four bytes."""
    return -(-length // 4) * 4
