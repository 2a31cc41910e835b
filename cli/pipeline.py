"""Transfers of any length through a few DMA buffers, while the device works on the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pynvme_user.cli.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pynvme_user import Completion, Controller, Namespace, QueuePair

    Bytes = npt.NDArray[np.uint8]

#: Memory for all buffers together: what keeps a fast device busy, and little beside any data.
_WINDOW = 8 << 20
_MOST_SLOTS = 64


class Submit(Protocol):
    """``QueuePair.submit_read``, ``submit_write`` or ``submit_compare``."""

    def __call__(self, ns: Namespace, lba: int, blocks: int, buffer: Bytes, *, fua: bool) -> int:
        """Submit the command and return its CID."""


@dataclass
class Piece:
    """One command: its blocks, their data in DMA memory, and its outcome once it has one."""

    lba: int
    blocks: int
    data: Bytes
    done: Completion | None = None


class Pipeline:
    """Commands of one kind in the order of their LBAs, several of them outstanding.

    ``buffer`` is the memory for the next command, ``submit`` sends it, ``take`` waits for the
    oldest. Being in order, the first error that is seen is the first on the namespace.
    """

    def __init__(
        self, pair: QueuePair, submit: Submit, ns: Namespace, slots: list[Bytes], fua: bool
    ) -> None:
        self._pair = pair
        self._submit = submit
        self._ns = ns
        self._fua = fua
        self._free = deque(slots)
        self._used: deque[Bytes] = deque()
        self._order: deque[Piece] = deque()
        self._by_cid: dict[int, Piece] = {}

    def __len__(self) -> int:
        """Count the commands that were submitted and not taken."""
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether all memory is in use, so that the oldest command has to be taken first."""
        return not self._free

    @property
    def buffer(self) -> Bytes:
        """The memory of the next command; it holds as much as one command carries."""
        return self._free[0]

    def submit(self, lba: int, blocks: int) -> None:
        """Send the command for the first ``blocks`` blocks of :attr:`buffer`; do not wait."""
        slot = self._free[0]
        piece = Piece(lba, blocks, slot[: blocks * self._ns.block_size])
        cid = self._submit(self._ns, lba, blocks, piece.data, fua=self._fua)
        self._pair.ring()
        self._used.append(self._free.popleft())
        self._by_cid[cid] = piece
        self._order.append(piece)

    def take(self) -> Piece:
        """Wait for the oldest command. Its data stays until the next :meth:`submit`."""
        piece = self._order.popleft()
        while piece.done is None:
            for done in self._pair.wait():
                self._by_cid.pop(done.cid).done = done
        self._free.append(self._used.popleft())
        return piece


@contextmanager
def pipeline(
    controller: Controller, ns: Namespace, kind: Callable[[QueuePair], Submit], *, fua: bool
) -> Iterator[Pipeline]:
    """Make a pipeline on a queue pair of its own; leaving it waits for what is outstanding.

    ``kind`` picks the queue pair's method, for example ``lambda pair: pair.submit_read``.
    """
    size = controller.max_transfer // ns.block_size * ns.block_size
    if size == 0:
        raise Failure(
            f"a block of {ns.block_size} bytes is more than the {controller.max_transfer} bytes "
            "that a command of this controller carries: format the namespace with smaller blocks"
        )
    count = min(_MOST_SLOTS, max(2, _WINDOW // size), controller.cap.mqes)
    memory = controller.alloc(count * size)
    slots = [memory[at : at + size] for at in range(0, count * size, size)]
    with controller.queue_pair(count) as pair:
        yield Pipeline(pair, kind(pair), ns, slots, fua)
