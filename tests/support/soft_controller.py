"""A controller in a thread of this process, for what no other device can be told to do.

It fails to become ready, reports a fatal error, disappears, keeps commands for ever, aborts them or
does not. Everything above the seam is the real thing, the C ring included.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pynvme_user.access.base import Access, DmaRegion, Doorbells
from pynvme_user.dma import PAGE, address_of
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host.numa import Placement
from pynvme_user.spec.commands import CQE, SQE, AdminOpcode, Cns, FeatureId, NvmOpcode, PhaseStatus
from pynvme_user.spec.fields import Register
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import EntrySizes
from pynvme_user.spec.registers import (
    ACQ,
    AQA,
    ASQ,
    CAP,
    CC,
    CRTO,
    CSTS,
    DOORBELL_BASE,
    VS,
    ShutdownNotification,
    ShutdownStatus,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, Status

BLOCKS = 1000
OK = Status(0)


class Queue:
    """A submission and a completion queue at IOVAs of the host's memory."""

    def __init__(self, qid: int, entries: int, sq: int, cq: int, cq_entries: int) -> None:
        self.qid, self.entries, self.sq = qid, entries, sq
        self.cq, self.cq_entries = cq, cq_entries
        self.head = self.tail = 0
        self.phase = 1


class SoftController(Access):
    """The access and the controller behind it; what it does wrong are attributes."""

    name = "soft"

    def __init__(
        self, *, dstrd: int = 0, mpsmin: int = 0, queues: tuple[int, int] = (4, 4)
    ) -> None:
        self.cap = CAP.build(mqes=63, to=1, css=1, dstrd=dstrd, mpsmin=mpsmin, mpsmax=mpsmin)
        self.queues_granted = queues
        self.crto = CRTO(0)
        self.becomes_ready = True
        self.becomes_disabled = True
        self.fatal_when_enabled = False
        self.shuts_down = True
        self.bus_resets = True
        self.gone = False
        #: Tells what becomes of an I/O command; None keeps it for ever.
        self.io: Callable[[SQE], Status | None] = lambda _: OK
        #: The same of an admin command, which is run where the answer is OK.
        self.admin: Callable[[SQE], Status | None] = lambda _: OK
        #: Tells the page that Identify returns; None leaves it to the controller.
        self.identify: Callable[[SQE], bytes | None] = lambda _: None
        self.version = VS.build(mjr=1, mnr=4)
        #: Namespace 1.
        self.blocks = BLOCKS
        self.lbaf = LbaFormat.build(ds=9)
        #: What Get Log Page brings, and what the host gave last.
        self.log_page = b""
        self.given = b""
        #: Aborts a kept command, refuses to, or does not answer.
        self.abort_answer: bool | None = True
        #: Fields of Identify Controller that are not as elsewhere.
        self.fields: dict[str, Any] = {}
        self.log: list[str] = []
        self.on_disable: Callable[[], None] = lambda: None
        self.kept: list[tuple[Queue, SQE]] = []

        self.size = 0x2000
        self.registers = self
        self._csts = CSTS(0)
        self._cc = CC(0)
        self._set: dict[int, int] = {}
        self._memory: list[tuple[DmaRegion, mmap.mmap]] = []
        self._bells = np.zeros(self.size // 4, np.uint32)
        self._queues: dict[int, Queue] = {}
        self._cqs: dict[int, tuple[int, int]] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- the seam -----------------------------------------------------------------------------

    def doorbells(self, offset: int, length: int) -> Doorbells:
        return Doorbells(mmio=address_of(self._bells) + offset)

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        memory = mmap.mmap(-1, length)
        address = address_of(np.frombuffer(memory, np.uint8))
        region = DmaRegion(address, length, (1 + len(self._memory)) << 36, memory)
        self._memory.append((region, memory))
        return region

    def release_dma(self, region: DmaRegion) -> None:
        return

    def reset(self) -> None:
        self.log.append("bus reset")
        if not self.bus_resets:
            raise DeviceAccessError("soft cannot be reset: close it and open it again")
        with self._lock:
            self._stop_dma()

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        self.log.append("closed")
        self._stop.set()
        self._thread.join()

    # --- registers ----------------------------------------------------------------------------

    def read(self, offset: int, width: int) -> int:
        if self.gone:
            return (1 << 8 * width) - 1
        fixed: dict[int | None, Register] = {
            CAP.offset: self.cap,
            VS.offset: self.version,
            CRTO.offset: self.crto,
            CC.offset: self._cc,
            CSTS.offset: self._csts,
        }
        return int(fixed.get(offset, self._set.get(offset, 0)))

    def write(self, offset: int, width: int, value: int) -> None:
        if self.gone:
            return
        with self._lock:
            if offset != CC.offset:
                self._set[offset] = value
                return
            before, self._cc = self._cc, CC(value)
            if self._cc.en and not before.en:
                self._enable()
            elif before.en and not self._cc.en:
                self.log.append("disable")
                self.on_disable()
                if self.becomes_disabled:
                    self._stop_dma()
            if self._cc.shn != ShutdownNotification.NONE:
                self.log.append("shutdown")
            if self._cc.shn != ShutdownNotification.NONE and self.shuts_down:
                self._csts = self._csts.replace(shst=ShutdownStatus.COMPLETE)

    def _enable(self) -> None:
        self.log.append("enable")
        self._bells[DOORBELL_BASE // 4 :] = 0  # also of what was rung while it was disabled
        if self.fatal_when_enabled:
            self._csts = CSTS.build(cfs=1)
        elif self.becomes_ready:
            aqa = AQA(self._set[AQA.offset])  # type: ignore[index]
            asq, acq = self._set[ASQ.offset], self._set[ACQ.offset]  # type: ignore[index]
            admin = Queue(0, aqa.asqs + 1, asq, acq, aqa.acqs + 1)
            self._queues = {0: admin}
            self._csts = CSTS.build(rdy=1)

    def _stop_dma(self) -> None:
        self._csts = CSTS(0)
        self._cc = self._cc.replace(en=0)
        self._queues.clear()
        self._cqs.clear()
        self.kept.clear()
        self._bells[DOORBELL_BASE // 4 :] = 0

    def fail(self) -> None:
        """Report a fatal error, and do nothing more."""
        with self._lock:
            self._csts = self._csts.replace(cfs=1)
            self._queues.clear()

    # --- commands -----------------------------------------------------------------------------

    def host(self, iova: int, length: int) -> memoryview:
        """The host's memory, as the device sees it; fails where nothing is mapped."""
        for region, memory in self._memory:
            offset = iova - region.iova
            if offset >= 0 and offset + length <= region.length:
                return memoryview(memory)[offset : offset + length]
        raise AssertionError(f"DMA to {iova:#x}, which is not mapped")

    def _bell(self, qid: int) -> int:
        return int(self._bells[(DOORBELL_BASE + 2 * qid * (4 << self.cap.dstrd)) // 4])

    def _run(self) -> None:
        while not self._stop.wait(0.0002):
            with self._lock:
                for queue in list(self._queues.values()):
                    while queue.qid in self._queues and queue.head != self._bell(queue.qid):
                        sqe = SQE.from_bytes(self.host(queue.sq + 64 * queue.head, 64))
                        queue.head = (queue.head + 1) % queue.entries
                        self._execute(queue, sqe)

    def _execute(self, queue: Queue, sqe: SQE) -> None:
        if queue.qid:
            status = self.io(sqe)
            if status is None:
                self.kept.append((queue, sqe))
            else:
                self.complete(queue, sqe, status)
            return
        result: int | None = 0
        status = self.admin(sqe)
        if status is None:
            return
        if not status.ok:
            self.complete(queue, sqe, status)
            return
        match sqe.opc:
            case AdminOpcode.IDENTIFY:
                self.host(sqe.prp1, 4096)[:] = self.identify(sqe) or self._page(sqe)
            case AdminOpcode.GET_LOG_PAGE:
                self.fill(sqe, self.log_page[: 4 * ((sqe.cdw10 >> 16 | sqe.cdw11 << 16) + 1)])
            case AdminOpcode.FIRMWARE_DOWNLOAD:
                self.given = self.data(sqe, 4 * (sqe.cdw10 + 1))
            case AdminOpcode.SET_FEATURES if sqe.cdw10 == FeatureId.NUMBER_OF_QUEUES:
                result = self.queues_granted[0] - 1 | (self.queues_granted[1] - 1) << 16
            case AdminOpcode.CREATE_IO_CQ if sqe.cdw10 & 0xFFFF in self._cqs:
                status = Status.of(CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER)
            case AdminOpcode.CREATE_IO_CQ:
                self._cqs[sqe.cdw10 & 0xFFFF] = sqe.prp1, (sqe.cdw10 >> 16) + 1
            case AdminOpcode.CREATE_IO_SQ if sqe.cdw10 & 0xFFFF in self._queues:
                status = Status.of(CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER)
            case AdminOpcode.CREATE_IO_SQ:
                qid = sqe.cdw10 & 0xFFFF
                self._queues[qid] = Queue(
                    qid, (sqe.cdw10 >> 16) + 1, sqe.prp1, *self._cqs[sqe.cdw11 >> 16]
                )
            case AdminOpcode.DELETE_IO_SQ if sqe.cdw10 not in self._queues:
                status = Status.of(CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER)
            case AdminOpcode.DELETE_IO_SQ:
                del self._queues[sqe.cdw10]
                stride = 4 << self.cap.dstrd
                at = (DOORBELL_BASE + 2 * sqe.cdw10 * stride) // 4
                self._bells[[at, at + stride // 4]] = 0
            case AdminOpcode.DELETE_IO_CQ if sqe.cdw10 not in self._cqs:
                status = Status.of(CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER)
            case AdminOpcode.DELETE_IO_CQ:
                del self._cqs[sqe.cdw10]
            case AdminOpcode.ABORT:
                result = self._abort(sqe)
        if result is not None:
            self.complete(queue, sqe, status, result)

    def _abort(self, sqe: SQE) -> int | None:
        self.log.append("abort")
        if self.abort_answer:
            for queue, victim in self.kept:
                if (queue.qid, victim.cid) == (sqe.cdw10 & 0xFFFF, sqe.cdw10 >> 16):
                    self.kept.remove((queue, victim))
                    self.complete(queue, victim, Status.of(GenericStatus.ABORTED_BY_REQUEST))
                    return 0
        return None if self.abort_answer is None else 1

    def complete(self, queue: Queue, sqe: SQE, status: Status, result: int = 0) -> None:
        """Post a completion."""
        entry = CQE.build(
            dw0=result,
            sqhd=queue.head,
            sqid=queue.qid,
            cid=sqe.cid,
            phase_status=PhaseStatus.build(p=queue.phase, sf=status),
        )
        where = self.host(queue.cq + 16 * queue.tail, 16)
        where[:14] = bytes(entry)[:14]
        where[14:] = bytes(entry)[14:]
        queue.tail = (queue.tail + 1) % queue.cq_entries
        if not queue.tail:
            queue.phase ^= 1

    # --- data ---------------------------------------------------------------------------------

    def fill(self, sqe: SQE, data: bytes) -> None:
        """Move data to a command's memory in the host."""
        for piece in self._pieces(sqe, len(data)):
            piece[:], data = data[: len(piece)], data[len(piece) :]

    def data(self, sqe: SQE, length: int) -> bytes:
        """Return the data of a command's memory in the host."""
        return b"".join(self._pieces(sqe, length))

    def _pieces(self, sqe: SQE, length: int) -> Iterator[memoryview]:
        """Follow the data pointer: an SGL's data block or PRPs, whose list is in one page."""
        if sqe.flags.psdt:
            assert sqe.prp2 >= length
            yield self.host(sqe.prp1, length)
            return
        first = min(length, PAGE - sqe.prp1 % PAGE)
        yield self.host(sqe.prp1, first)
        left = length - first
        if 0 < left <= PAGE:
            yield self.host(sqe.prp2, left)
        elif left:
            count = -(-left // PAGE)
            assert sqe.prp2 % PAGE + 8 * count <= PAGE
            for entry in np.frombuffer(self.host(sqe.prp2, 8 * count), np.uint64).tolist():
                yield self.host(entry, min(left, PAGE))
                left -= PAGE

    def _page(self, sqe: SQE) -> bytes:
        match sqe.cdw10 & 0xFF:
            case Cns.CONTROLLER:
                sizes = EntrySizes.build(min=6, max=6), EntrySizes.build(min=4, max=4)
                fields = {"nn": 1, "sqes": sizes[0], "cqes": sizes[1], "mdts": 2} | self.fields
                return bytes(IdentifyController.build(**fields))
            case Cns.NAMESPACE if sqe.nsid == 1:
                page = IdentifyNamespace.build(
                    nsze=self.blocks, ncap=self.blocks, lbafs=[self.lbaf]
                )
                return bytes(page)
            case Cns.ACTIVE_NAMESPACES:
                return namespace_list([] if sqe.nsid else [1])
        return bytes(4096)


def namespace_list(ids: Iterable[int]) -> bytes:
    """Make the page that lists them."""
    return b"".join(nsid.to_bytes(4, "little") for nsid in ids).ljust(PAGE, b"\0")


def keep_reads(sqe: SQE) -> Status | None:
    """Keep reads for ever; complete all else."""
    return None if sqe.opc == NvmOpcode.READ else OK
