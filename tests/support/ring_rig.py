"""A ring on ordinary memory with a controller in Python at its other end."""

from __future__ import annotations

import ctypes
import random
from array import array
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from pynvme_user.dma import DmaBuffer
from pynvme_user.links import DoorbellTarget
from pynvme_user.ring import CQE_SIZE, SQE_SIZE, CommandTemplate, Ring, Vector, transfer_run
from pynvme_user.spec.commands import SQE, CommandFlags, NvmOpcode, Psdt, SglType

PAGE = 4096
#: Where the device sees the PRP lists: far from where they are in this process.
LISTS_IOVA = 0x5_0000_0000
GUARD = 64
CANARY = 0xC0FFEE_C0FFEE_C0
READ = bytes(SQE.build(opc=NvmOpcode.READ, nsid=1))
#: Chance in a loop in C, whose slices end when their time does: how often it is asked depends on
#: the machine, so that hypothesis may draw the seed alone.
seeded = st.integers(0, 1 << 32).map(random.Random)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


class Rig:
    """A queue pair of ``depth`` commands; the test plays the controller with take and complete.

    ``spare`` is how many entries the completion queue has beyond the submission queue's.
    """

    def __init__(
        self,
        depth: int = 4,
        *,
        qid: int = 1,
        page_shift: int = 12,
        list_entries: int = 128,
        use_sgl: bool = False,
        spare: int = 0,
    ) -> None:
        self.qid = qid
        self.depth = depth
        self.entries = depth + 1
        self.cq_entries = self.entries + spare
        self.page = 1 << page_shift
        self.list_entries = list_entries
        self.sq = np.zeros((self.entries, SQE_SIZE), np.uint8)
        self.cq = np.zeros((self.cq_entries, CQE_SIZE // 2), np.uint16)
        self.lists = np.full(2 * GUARD + depth * list_entries, CANARY, np.uint64)
        self.bells = np.zeros(2, np.uint32)
        sq_doorbell, cq_doorbell = self._doorbells()
        self.ring = Ring(
            qid=qid,
            depth=depth,
            page_shift=page_shift,
            sq=address(self.sq),
            cq=address(self.cq),
            prp_lists=address(self.lists) + GUARD * 8,
            prp_lists_iova=LISTS_IOVA,
            prp_list_entries=list_entries,
            use_sgl=use_sgl,
            sq_doorbell=sq_doorbell,
            cq_doorbell=cq_doorbell,
            cq_entries=self.cq_entries,
        )
        self._sq_head = 0
        self._cq_tail = 0
        self._phase = 1

    def _doorbells(self) -> tuple[DoorbellTarget, DoorbellTarget]:
        at = address(self.bells)
        return DoorbellTarget(mmio=at), DoorbellTarget(mmio=at + 4)

    # --- the controller -----------------------------------------------------------------------

    def take(self) -> list[SQE]:
        """Fetch what the doorbell announces."""
        commands = []
        assert self.bells[0] < self.entries
        while self._sq_head != self.bells[0]:
            commands.append(SQE.from_bytes(self.sq[self._sq_head].tobytes()))
            self._sq_head = (self._sq_head + 1) % self.entries
        return commands

    def complete(
        self, cid: int, status: int = 0, *, dw0: int = 0, dw1: int = 0, sqid: int | None = None
    ) -> None:
        """Post a completion; ``status`` is the 15-bit field."""
        following = (self._cq_tail + 1) % self.cq_entries
        assert following != self.bells[1], "the completion queue overflows"
        entry = self.cq[self._cq_tail]
        entry[:4] = np.array([dw0, dw1], np.uint32).view(np.uint16)
        entry[4:7] = self._sq_head, self.qid if sqid is None else sqid, cid
        entry[7] = status << 1 | self._phase
        self._cq_tail = following
        if not following:
            self._phase ^= 1

    def complete_all(self, status: Callable[[SQE], int] = lambda _: 0) -> None:
        """Complete what the doorbell announces, in its order."""
        for sqe in self.take():
            self.complete(sqe.cid, status(sqe))

    @property
    def room(self) -> int:
        """Completions that the queue takes, as far as the host has told of its head."""
        return (int(self.bells[1]) - self._cq_tail - 1) % self.cq_entries

    def unpost(self) -> None:
        """Take the last completion back, as no controller can: for what comes after an error."""
        self._cq_tail = (self._cq_tail - 1) % self.cq_entries
        if self._cq_tail == self.cq_entries - 1:
            self._phase ^= 1
        self.cq[self._cq_tail, 7] ^= 1

    def data(self, sqe: SQE, length: int) -> list[tuple[int, int]]:
        """The (address, length) pieces that the command's data pointer describes, in order."""
        if sqe.flags.psdt == Psdt.SGL_MPTR_CONTIGUOUS:
            assert sqe.sgl1.id.type == SglType.DATA_BLOCK
            assert not sqe.sgl1.id.subtype
            return [(sqe.sgl1.addr, sqe.sgl1.length)]
        assert sqe.flags == CommandFlags(0)
        first = min(length, self.page - sqe.prp1 % self.page)
        pieces = [(sqe.prp1, first)]
        left = length - first
        if not left:
            assert sqe.prp2 == 0
        elif left <= self.page:
            pieces.append((sqe.prp2, left))
        else:
            for entry in self._list(sqe, -(-left // self.page)):
                pieces.append((entry, min(left, self.page)))
                left -= self.page
        assert all(at % self.page == 0 for at, _ in pieces[1:])
        return pieces

    def _list(self, sqe: SQE, count: int) -> list[int]:
        """The PRP list of a command, wiped afterwards; what it does not use must be untouched."""
        offset, odd = divmod(sqe.prp2 - LISTS_IOVA, 8)
        assert (odd, offset) == (0, self.index(sqe.cid) * self.list_entries)
        assert count <= self.list_entries
        assert offset * 8 % PAGE + count * 8 <= PAGE
        lists = self.lists[GUARD:-GUARD]
        assert (self.lists[:GUARD] == CANARY).all()
        assert (self.lists[-GUARD:] == CANARY).all()
        assert (lists[offset + count : offset + self.list_entries] == CANARY).all()
        entries = lists[offset : offset + count].tolist()
        lists[offset : offset + count] = CANARY
        return [int(entry) for entry in entries]

    # --- the host -----------------------------------------------------------------------------

    def index(self, cid: int) -> int:
        """The part of a CID that stays the same from command to command."""
        return cid & self.ring.index_mask

    def submit(self, iova: int = 0x10000, length: int = 512, user: int = 0) -> int:
        return self.ring.submit(READ, iova, length, user)

    def round(self, status: int = 0) -> tuple[int, int]:
        """Submit one command and complete it; return its CID and the status that came back."""
        cid = self.submit()
        self.ring.ring_doorbell()
        (sqe,) = self.take()
        assert sqe.cid == cid
        self.complete(cid, status)
        (done,) = self.ring.poll()
        assert done["cid"] == cid
        return cid, int(done["status"])


POST = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32)


class PostedRig(Rig):
    """A rig whose doorbells are messages, which fail with ``error`` once that is set.

    ``answer`` is called within the submission doorbell, before the host goes on: so a controller
    can be quicker than any thread. What it raises comes out of :meth:`checked`.
    """

    def __init__(self, depth: int = 4, **options: int) -> None:
        self.error = 0
        self.sent: list[tuple[int, int, int]] = []
        self.answer: Callable[[], object] = lambda: None
        self._raised: list[BaseException] = []
        # cffi keeps only the address: the function must live as long as the ring.
        self._post = POST(self._send)
        super().__init__(depth, **options)  # type: ignore[arg-type]

    def _doorbells(self) -> tuple[DoorbellTarget, DoorbellTarget]:
        post = ctypes.cast(self._post, ctypes.c_void_p).value or 0
        sq, cq = (
            DoorbellTarget(post=post, context=77, address=at) for at in (0xFEB01008, 0xFEB0100C)
        )
        return sq, cq

    def _send(self, context: int, where: int, value: int) -> int:
        if not self.error:
            self.sent.append((context, where, value))
            self.bells[where // 4 % 2] = value
            if where == 0xFEB01008:
                try:
                    self.answer()
                except BaseException as error:  # ctypes would only print it
                    self._raised.append(error)
        return self.error

    def checked(self) -> None:
        """Raise what the controller found wrong."""
        for error in self._raised:
            raise error


#: Where the device sees a data buffer, and the bytes of each command's piece of it.
DATA_IOVA = 0x9_0000_0000
PIECE = 0x10000


def data_buffer(depth: int) -> DmaBuffer:
    """Return memory of ``depth`` pieces that stands for DMA memory."""
    buffer = np.zeros(depth * PIECE, np.uint8).view(DmaBuffer)
    buffer._iova = DATA_IOVA
    return buffer


def joined(pieces: list[tuple[int, int]]) -> tuple[int, int]:
    """The one range that the pieces make; fails where they leave a gap or overlap."""
    start = end = pieces[0][0]
    for at, length in pieces:
        assert at == end
        assert length > 0
        end += length
    return start, end - start


def vector(count: int, **options: object) -> Vector:
    """A vector of ``count`` reads of 8 blocks at scattered LBAs and addresses."""
    index = np.arange(count, dtype=np.uint64)
    arguments: dict[str, object] = {
        "command": READ,
        "lbas": index * np.uint64(7919) + np.uint64(1 << 33),
        "iovas": index * np.uint64(0x2000) + np.uint64(0x100000),
        "blocks": 8,
        "last_blocks": 8,
        "block_shift": 9,
    }
    return Vector(**(arguments | options))  # type: ignore[arg-type]


ANY_BLOCKS = {"block_shift": 9, "block_count": 1 << 48, "max_blocks": 0xFFFFFFFF}
TEMPLATE = CommandTemplate(READ, **ANY_BLOCKS)


def transfer(
    rig: Rig,
    lba: int = 0,
    iova: int = 0x10000,
    length: int = 512,
    timeout: int = 10_000_000_000,
    template: CommandTemplate = TEMPLATE,
) -> int:
    rig.ring.transfer_args[:4] = array("Q", [template.address, lba, iova, length])
    rig.ring.transfer_struct.timeout_ns = timeout
    return transfer_run(rig.ring.transfer_struct)
