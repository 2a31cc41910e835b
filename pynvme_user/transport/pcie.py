"""NVMe over PCIe: queues in memory, doorbells, interrupts (PCIe Transport 1.0, section 3).

How the function is reached (VFIO, UIO, QEMU, vfio-user) is the business of its access.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from pynvme_user.access.base import Access
from pynvme_user.dma import PAGE, DmaBuffer, DmaPool
from pynvme_user.errors import NvmeError, NvmeStatusError
from pynvme_user.host.numa import Node
from pynvme_user.links import DoorbellTarget, Interrupt
from pynvme_user.ring import CQE_SIZE, SQE_SIZE
from pynvme_user.spec.admin import CreateCqCdw11, CreateQueueCdw10, CreateSqCdw11, DeleteQueueCdw10
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.registers import ACQ, AQA, ASQ, CAP, DOORBELL_BASE
from pynvme_user.spec.status import CommandSpecificStatus, Status
from pynvme_user.transport.base import Properties, Queue, RunAdmin
from pynvme_user.transport.controller_memory import (
    ControllerMemoryBuffer,
    RegisterFile,
    forget_memory_buffer,
)
from pynvme_user.transport.host_memory import DEFAULT as DEFAULT_HOST_MEMORY
from pynvme_user.transport.host_memory import HostMemory
from pynvme_user.transport.persistent_memory import (
    PersistentMemoryRegion,
    forget_persistent_memory,
)

#: A PRP list that fits in one page, so that it needs no chaining: 2 MiB with pages of 4 KiB.
MAX_TRANSFER = PAGE // 8 * PAGE
#: Entries of a completion queue at least, where the controller has them: a page of them.
_MIN_CQ_ENTRIES = PAGE // CQE_SIZE
#: Entries of a submission queue that C fetches ahead: as many beyond the depth, where the
#: controller has them, and room behind them in their last page.
_SQ_AHEAD = 4
#: Interrupts that are armed at most, each with a descriptor; queues share them beyond that.
_MOST_VECTORS = 129
#: How a controller says that there is no such queue to delete; the second is QEMU's, of a
#: completion queue.
NO_SUCH_QUEUE = (
    CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER,
    CommandSpecificStatus.COMPLETION_QUEUE_INVALID,
)
_NO_MEMORY = np.empty(0, np.uint8).view(DmaBuffer)
#: No part of a queue in the Controller Memory Buffer.
NOTHING: Mapping[str, ControllerMemoryBuffer] = MappingProxyType({})


class PcieQueue:
    """A submission and a completion queue in memory, PRP lists, and their doorbells.

    :class:`Queue` has the meaning of its fields.
    """

    def __init__(
        self,
        transport: PcieTransport,
        qid: int,
        depth: int,
        cap: CAP,
        node: Node = None,
        cmb: Mapping[str, ControllerMemoryBuffer] = NOTHING,
    ) -> None:
        self.qid = qid
        self.depth = depth
        self.vector = 0
        self.interrupt: Interrupt | None = None
        self.spin = math.inf
        self._transport = transport
        self._node = node
        self._cmb = cmb
        #: The opcodes that delete what the controller has of it, or may have.
        self._created: set[AdminOpcode] = set()
        self.sq_doorbell, self.cq_doorbell = transport.doorbells(qid, cap)
        #: What is more than the depth takes makes the rings quicker: see _ring.h.
        self.sq_entries = self.cq_entries = depth + 1
        if qid:
            most = cap.mqes + 1
            pages = -(-(depth + 1 + 2 * _SQ_AHEAD) * SQE_SIZE // PAGE)
            self.sq_entries = min(pages * PAGE // SQE_SIZE - _SQ_AHEAD, most)
            self.cq_entries = min(max(2 * depth + 1, _MIN_CQ_ENTRIES), most)
        self.sq = self._alloc("sqs", self.sq_entries * SQE_SIZE)
        self.cq = self._alloc("cqs", self.cq_entries * CQE_SIZE)
        self.prp_lists = _NO_MEMORY
        self.prp_list_entries = 0

    def _alloc(self, what: str, length: int) -> DmaBuffer:
        """Take memory for a part of it, named as CMBSZ names them."""
        if what in self._cmb:
            return self._cmb[what].alloc(length)
        return self._transport.memory.alloc(length, node=self._node)

    @property
    def shadow(self) -> tuple[DmaBuffer, DmaBuffer] | None:
        """Shadow doorbells and event indices; the admin queue has none (Base 2.0, 5.8)."""
        return self._transport.shadow if self.qid else None

    def restart(self, max_transfer: int) -> None:
        """Begin anew, with empty rings and phase tags of 0: see :meth:`Queue.restart`."""
        self._created.clear()
        self.sq.fill(0)
        self.cq.fill(0)
        # A reset may bring another MDTS. The admin queue is there before it is known.
        most = max_transfer if self.qid else MAX_TRANSFER
        self.prp_list_entries = 1 << (max(1, most // PAGE) - 1).bit_length()
        length = self.depth * self.prp_list_entries * 8
        if self.prp_lists.nbytes != length:
            self.prp_lists = self._alloc("lists", length)

    def connect(self, run: RunAdmin) -> None:
        """Create the completion queue, then the submission queue (Base 2.0, 5.4 and 5.5)."""
        self._create(
            SQE.build(
                opc=AdminOpcode.CREATE_IO_CQ,
                prp1=self.cq.iova,
                cdw10=CreateQueueCdw10.build(qid=self.qid, qsize=self.cq_entries - 1),
                cdw11=CreateCqCdw11.build(pc=1, ien=self.interrupt is not None, iv=self.vector),
            ),
            AdminOpcode.DELETE_IO_CQ,
            run,
        )
        self._create(
            SQE.build(
                opc=AdminOpcode.CREATE_IO_SQ,
                prp1=self.sq.iova,
                cdw10=CreateQueueCdw10.build(qid=self.qid, qsize=self.sq_entries - 1),
                cdw11=CreateSqCdw11.build(pc=1, cqid=self.qid),
            ),
            AdminOpcode.DELETE_IO_SQ,
            run,
        )

    def _create(self, command: SQE, undo: AdminOpcode, run: RunAdmin) -> None:
        def ended(status: Status) -> None:
            if not status.ok:
                self._created.discard(undo)

        self._created.add(undo)
        try:
            run(command, ended=ended)
        except NvmeStatusError as error:
            if error.status.code() != CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER:
                raise
            raise NvmeError(
                f"queue id {self.qid} is taken by a queue that queue_pair() did not make "
                f"({error}): delete it first"
            ) from error

    def disconnect(self, run: RunAdmin) -> None:
        """Delete the submission queue, then the completion queue (Base 2.0, 5.6 and 5.7).

        Those that :meth:`connect` created, and no others with its id. One that is not there is as
        good as deleted.
        """
        for opcode in (AdminOpcode.DELETE_IO_SQ, AdminOpcode.DELETE_IO_CQ):
            if opcode not in self._created:
                continue
            try:
                run(SQE.build(opc=opcode, cdw10=DeleteQueueCdw10.build(qid=self.qid)))
            except NvmeStatusError as error:
                if error.status.code() not in NO_SUCH_QUEUE:
                    raise
            self._created.discard(opcode)
        self._transport.clear_shadow(self.qid)

    def free(self) -> None:
        """Give its memory back; the device no longer uses it."""
        self.sq = self.cq = self.prp_lists = _NO_MEMORY


class PcieTransport:
    """One PCI function with an NVMe controller: see :class:`Transport`.

    ``shadow_doorbells=False`` leaves them out where the controller has them; ``host_memory`` is
    what a drive may have of the host's memory, in bytes.
    """

    max_transfer = MAX_TRANSFER

    def __init__(
        self,
        access: Access,
        *,
        shadow_doorbells: bool = True,
        host_memory: int = DEFAULT_HOST_MEMORY,
    ) -> None:
        self.access = access
        self.name = access.name
        self.properties: Properties = access.registers
        self.memory = DmaPool(access)
        self.request_fd = access.request_fd
        self.error_fd = access.error_fd
        self._shadow_doorbells = shadow_doorbells
        self._host_memory = HostMemory(self.memory, host_memory)
        self._memory_buffer: ControllerMemoryBuffer | None = None
        self._persistent_memory: PersistentMemoryRegion | None = None
        #: Shadow doorbells and event indices, where the controller has them and they are wanted.
        self.shadow: tuple[DmaBuffer, DmaBuffer] | None = None
        self._interrupts: Sequence[Interrupt] = ()

    # --- the admin queue, and what each enable needs ------------------------------------------

    def admin_queue(self, depth: int, cap: CAP) -> PcieQueue:
        """Make the admin queue, which is polled."""
        return PcieQueue(self, 0, depth, cap)

    def enable_admin_queue(self, queue: Queue, registers: RegisterFile) -> None:
        """Tell a disabled controller where its admin queues lie (Base 2.0, section 3.5.1)."""
        registers.write(AQA.build(asqs=queue.sq_entries - 1, acqs=queue.cq_entries - 1))
        registers.write(ASQ(queue.sq.iova))
        registers.write(ACQ(queue.cq.iova))
        # Whoever had the controller before may have told of addresses that are ours now.
        if self._memory_buffer is not None:
            self._memory_buffer.enable(registers)
        else:
            forget_memory_buffer(registers)
        if self._persistent_memory is not None:
            self._persistent_memory.enable_again()
        else:
            forget_persistent_memory(registers)

    def set_up(
        self, identify: IdentifyController, cap: CAP, run: RunAdmin, warn: Callable[[str], None]
    ) -> None:
        """Configure shadow doorbells (Base 2.0, section 5.8) and the Host Memory Buffer, where the
        controller has them.
        """
        self._configure_doorbells(identify, cap, run, warn)
        self._host_memory.give(identify, run, warn)

    def _configure_doorbells(
        self, identify: IdentifyController, cap: CAP, run: RunAdmin, warn: Callable[[str], None]
    ) -> None:
        if not identify.oacs.dbcs or cap.dstrd or not self._shadow_doorbells:
            return
        if self.shadow is None:
            self.shadow = self.memory.alloc(PAGE), self.memory.alloc(PAGE)
        shadow, event_index = self.shadow
        shadow.fill(0)
        event_index.fill(0)
        try:
            run(
                SQE.build(
                    opc=AdminOpcode.DOORBELL_BUFFER_CONFIG, prp1=shadow.iova, prp2=event_index.iova
                )
            )
        except NvmeStatusError as error:
            self.shadow = None
            warn(f"each doorbell is a register write, since {error}")

    # --- I/O queues ---------------------------------------------------------------------------

    def queue(
        self,
        qid: int,
        depth: int,
        cap: CAP,
        *,
        of: int,
        spin: float,
        node: Node,
        cmb: Mapping[str, ControllerMemoryBuffer] = NOTHING,
    ) -> PcieQueue:
        """Make an I/O queue, its memory on ``node``: see :meth:`Transport.queue`."""
        interrupts = () if spin == math.inf else self._armed(of)
        queue = PcieQueue(self, qid, depth, cap, node, cmb)
        if interrupts:
            # Vector 0 is the admin queue's, shared where there is no other.
            queue.vector = qid % len(interrupts)
            queue.interrupt = interrupts[queue.vector]
            queue.spin = spin
        return queue

    def memory_buffer(self, registers: RegisterFile) -> ControllerMemoryBuffer:
        """Give the Controller Memory Buffer: see :meth:`Transport.memory_buffer`."""
        if self._memory_buffer is None:
            self._memory_buffer = ControllerMemoryBuffer(self.access, self.memory, registers)
        return self._memory_buffer

    def persistent_memory(
        self, registers: RegisterFile, warn: Callable[[str], None]
    ) -> PersistentMemoryRegion:
        """Enable the Persistent Memory Region: see :meth:`Transport.persistent_memory`."""
        if self._persistent_memory is not None:
            raise NvmeError(f"the Persistent Memory Region of {self.name} is open: close it first")

        def ended() -> None:
            self._persistent_memory = None

        self._persistent_memory = PersistentMemoryRegion(
            self.access, self.memory, registers, warn, ended
        )
        return self._persistent_memory

    def clear_shadow(self, qid: int) -> None:
        """Zero the shadow doorbells of queues that are deleted, for the next with their id.

        Then, and not before those are created: until the controller agrees, the id may be that of
        queues that the user made by commands of his own.
        """
        for page in self.shadow or ():
            page.view(np.uint32)[2 * qid : 2 * qid + 2] = 0

    def _armed(self, queues: int) -> Sequence[Interrupt]:
        if not self._interrupts:
            vectors = max(min(self.access.interrupt_vectors, queues + 1, _MOST_VECTORS), 1)
            armed = self.access.arm_interrupts(vectors)
            shared = len(armed) <= queues
            self._interrupts = [replace(interrupt, shared=shared) for interrupt in armed]
        return self._interrupts

    def doorbells(self, qid: int, cap: CAP) -> tuple[DoorbellTarget, DoorbellTarget]:
        """Say where the doorbells of a submission and a completion queue lie (section 3.1.2)."""
        stride = 4 << cap.dstrd
        base = self.access.doorbells(DOORBELL_BASE + 2 * qid * stride, 2 * stride)
        sq, cq = (
            DoorbellTarget(
                mmio=base.mmio and base.mmio + step,
                post=base.post,
                context=base.context,
                address=base.base + step,
            )
            for step in (0, stride)
        )
        return sq, cq

    # --- the function -------------------------------------------------------------------------

    def sibling(self, number: int) -> PcieTransport:
        """Open another controller of the same device name: see :meth:`Access.sibling`."""
        return PcieTransport(
            self.access.sibling(number),
            shadow_doorbells=self._shadow_doorbells,
            host_memory=self._host_memory.most,
        )

    def reset(self) -> None:
        """Reset the function as the bus does: see :meth:`Access.reset`."""
        self.access.reset()

    def alive(self) -> bool:
        """Tell whether the device can still be there: False once its process or socket ended."""
        return self.access.alive()

    def close(self) -> None:
        """Stop DMA, unmap everything, give the claim back. Safe to call twice."""
        self.shadow = None
        if self._persistent_memory is not None:
            with suppress(NvmeError):  # of a device that is gone
                self._persistent_memory.end()
        self.access.close()
