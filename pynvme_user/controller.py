"""The controller: reset and enable, the admin queue, queue pairs, recovery, shutdown.

Knows properties (registers), queue pairs and buffers; how they reach the device is the access's
business.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from pynvme_user.access import open_access
from pynvme_user.access.base import Access
from pynvme_user.completion import Completion, check
from pynvme_user.dma import PAGE, DmaBuffer, DmaPool, as_bytes
from pynvme_user.errors import (
    ControllerFatalError,
    DeviceRemovedError,
    NvmeError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.lending import Lender
from pynvme_user.lifecycle import Lifecycle
from pynvme_user.namespace import Namespaces
from pynvme_user.numa import Placement
from pynvme_user.queue import ABORT_SECONDS, QueueLinks, QueuePair
from pynvme_user.registers import Registers
from pynvme_user.removal import RemovalWatch
from pynvme_user.ring import MAX_DEPTH, DoorbellTarget, Interrupt
from pynvme_user.spec.commands import (
    SQE,
    AbortCdw10,
    AbortResult,
    AdminOpcode,
    Cns,
    CreateCqCdw11,
    CreateQueueCdw10,
    CreateSqCdw11,
    DataTransfer,
    DeleteQueueCdw10,
    FeatureId,
    IdentifyCdw10,
    IdentifyCdw11,
    NumberOfQueuesCdw11,
    NumberOfQueuesResult,
    NvmOpcode,
    SetFeaturesCdw10,
)
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.registers import CSTS, DOORBELL_BASE

ADMIN_DEPTH = 63
DEFAULT_DEPTH = 256
#: What a transfer is limited to besides MDTS: a PRP list that fits in one page.
MAX_TRANSFER = 2 << 20
_MAX_QUEUE_PAIRS = 128
_SHUTDOWN_SECONDS = 10.0  # where RTD3E does not say (Base 2.0, figure 275)


class CommandFields(TypedDict, total=False):
    """The fields of a raw command (Base 2.0, section 3.3.3.1); ``flags`` is byte 1."""

    nsid: int
    flags: int
    cdw2: int
    cdw3: int
    cdw10: int
    cdw11: int
    cdw12: int
    cdw13: int
    cdw14: int
    cdw15: int


class Controller:
    """An enabled NVMe controller. A context manager: closing it shuts the controller down.

    Made by :func:`pynvme_user.open`; from here on the access is the controller's, which closes
    it, also when it cannot be enabled. ``timeout`` is what one command may take, in seconds, before
    it is aborted and, if that does not help, the controller is reset. ``spin`` is how long waits
    spin before they sleep for an interrupt, unless a queue pair says otherwise.
    """

    def __init__(self, access: Access, *, timeout: float = 30.0, spin: float = math.inf) -> None:
        self.spin = spin
        self._interrupts: Sequence[Interrupt] = ()
        self.access = access
        self.timeout = timeout
        self.registers = Registers(access)
        self.dma = DmaPool(access)
        self.max_transfer = PAGE  # until Identify tells
        self.resets = 0
        self._resetting = False
        self.removed = False
        self._removal: RemovalWatch | None = None
        self._failed: str | None = None
        #: Whether commands can be run at all; check_usable() says what stands in the way.
        self.usable = True
        self._closed = False  # from the beginning of close()
        self._ended = False  # from its end
        # Held for an admin command and for a reset. Taken before any queue pair's lock, never
        # while one is held.
        self._admin_lock = threading.RLock()
        self._queue_pairs: dict[int, QueuePair] = {}
        #: The active namespaces, by namespace id.
        self.namespaces = Namespaces(self)
        #: Lends queue pairs for single calls.
        self.lender = Lender(self)
        self._shadow: tuple[DmaBuffer, DmaBuffer] | None = None
        with ExitStack() as undo:
            undo.callback(access.close)
            undo.callback(self.dma.close)
            if timeout <= 0:
                raise ValueError(f"a timeout is a positive number of seconds, not {timeout}")
            if spin < 0:
                raise ValueError(f"spin is a number of seconds from 0 on, not {spin}")
            self._lifecycle = Lifecycle(self.registers, self._check_present)
            self.cap = self._lifecycle.cap
            if self.cap.mpsmin:
                raise NvmeError(
                    f"the controller's smallest memory page is {PAGE << self.cap.mpsmin} bytes; "
                    "this driver works with pages of 4096 bytes only"
                )
            self._admin = self._make_queue_pair(0, min(ADMIN_DEPTH, self.cap.mqes))
            undo.callback(self._quiesce)
            self._lifecycle.disable()
            self._enable()
            self.identify = IdentifyController.from_bytes(self.identify_page(Cns.CONTROLLER))
            self._set_up()
            if access.request_fd is not None:
                self._removal = RemovalWatch(access.request_fd, self.let_go)
            undo.pop_all()
        _open_controllers.add(self)

    @property
    def name(self) -> str:
        """The device's name."""
        return self.access.name

    # --- enable, disable, reset ---------------------------------------------------------------

    def _enable(self) -> None:
        admin = self._admin
        self._lifecycle.enable(admin.depth + 1, admin.sq_iova, admin.cq_iova)

    def _quiesce(self) -> None:
        """Stop DMA by what still works, for a controller that is let go."""
        if self.removed:
            return
        try:
            self._lifecycle.disable()
        except DeviceRemovedError:
            self.mark_removed()
        except NvmeError:
            self.access.reset()

    def _set_up(self) -> None:
        """Do what each enable needs: shadow doorbells and the number of queues."""
        mdts = self.identify.mdts
        self.max_transfer = min(PAGE << mdts, MAX_TRANSFER) if mdts else MAX_TRANSFER
        self._set_up_shadow_doorbells()
        granted = NumberOfQueuesResult(
            self.admin(
                AdminOpcode.SET_FEATURES,
                cdw10=SetFeaturesCdw10.build(fid=FeatureId.NUMBER_OF_QUEUES),
                cdw11=NumberOfQueuesCdw11.build(
                    nsqr=_MAX_QUEUE_PAIRS - 1, ncqr=_MAX_QUEUE_PAIRS - 1
                ),
            ).result
        )
        #: I/O queue pairs that the controller grants.
        self.max_queue_pairs = min(granted.nsqa, granted.ncqa, _MAX_QUEUE_PAIRS - 1) + 1

    def _set_up_shadow_doorbells(self) -> None:
        """Doorbell Buffer Config (Base 2.0, section 5.8), where the controller has it."""
        if not self.identify.oacs.dbcs or self.cap.dstrd:
            return
        if self._shadow is None:
            self._shadow = self.alloc(PAGE), self.alloc(PAGE)
        for page in self._shadow:
            page.fill(0)
        command = SQE.build(
            opc=AdminOpcode.DOORBELL_BUFFER_CONFIG,
            prp1=self._shadow[0].iova,
            prp2=self._shadow[1].iova,
        )
        check(self._execute(command).status, "Doorbell Buffer Config")

    def reset(self) -> None:
        """Reset the controller (CC.EN) and set all queue pairs up again.

        Every outstanding command gets its outcome only once CSTS.RDY is 0, when DMA has stopped:
        status ABORTED_BY_HOST on its queue pair. Raises ControllerFatalError if the controller
        cannot be brought back; it can then only be closed.
        """
        self.check_usable()
        resets = self.resets
        with self._admin_lock, ExitStack() as stopped:
            if self.resets != resets:
                return  # another thread came first, for the same reason
            if self._resetting:
                raise ControllerFatalError("the controller failed again while it was reset")
            self._resetting = True
            stopped.callback(setattr, self, "_resetting", False)
            for pair in (self._admin, *self._queue_pairs.values()):
                stopped.enter_context(pair.stopped())
            try:
                self._reset_stopped()
            except DeviceRemovedError:
                self.mark_removed()
                raise
            except NvmeError as error:
                self._failed = str(error)
                self.usable = False
                raise ControllerFatalError(f"the reset failed: {error}") from error

    def _reset_stopped(self) -> None:
        try:
            self._lifecycle.disable()
        except NvmeTimeoutError:
            # CC.EN did not do it. The bus does, or the access says why not.
            self.access.reset()
            self._lifecycle.disable()
        self.resets += 1
        self._admin.restart()
        # Whoever waits for an admin command finds its end after the reset's own commands.
        aborted = self._admin.take_aborted()
        try:
            self._enable()
            self._set_up()
            for qid, pair in self._queue_pairs.items():
                self._clear_shadow(qid)
                pair.restart()
                self._create_queues(pair)
        finally:
            self._admin.give_aborted(aborted)

    # --- health -------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise what stands in the way of any further command."""
        if self._ended:
            raise NvmeError(f"{self.name} is closed: open it again")
        if self.removed:
            raise DeviceRemovedError(f"{self.name} is gone: open the device again when it is back")
        if self._failed:
            raise ControllerFatalError(f"{self.name} failed and can only be closed: {self._failed}")

    def check_alive(self) -> None:
        """Look at the device: DeviceRemovedError if it is gone, ControllerFatalError on CFS."""
        self._check_present()
        if self.registers.read(CSTS).cfs:
            raise ControllerFatalError(
                f"{self.name} reported a fatal error (CSTS.CFS) and was reset: "
                "what was outstanding can be tried again"
            )

    def _check_present(self) -> None:
        if not self.access.alive():
            raise DeviceRemovedError(f"{self.name} is gone: open the device again when it is back")

    def mark_removed(self) -> None:
        """Remember that the device is gone: nothing touches its memory any more."""
        self.removed = True
        self.usable = False
        for pair in list(self._queue_pairs.values()):
            pair.ready = False

    def let_go(self) -> None:
        """Give the device back now, because the kernel asks for it: it is unplugged or unbound.

        The controller is disabled first, so that DMA has stopped; everything outstanding, and
        every later call, gets DeviceRemovedError.
        """
        with self._admin_lock, ExitStack() as last:
            if self._closed:
                return
            for pair in (self._admin, *self._queue_pairs.values()):
                last.enter_context(pair.stopped())
            last.callback(self._close_access)
            last.callback(self.dma.close, removed=True)
            last.callback(self.mark_removed)
            # What cannot be disabled, or reset while it is removed, has its bus mastering off.
            with suppress(NvmeError):
                self._quiesce()

    def _close_access(self) -> None:
        with self.registers.lock:
            self.access.close()

    def abort(self, sqid: int, cid: int) -> bool:
        """Ask for a command's abort (Base 2.0, section 5.1).

        True if the controller says that it aborted it; its completion, with the status
        ABORTED_BY_REQUEST, still comes on its queue pair. False if it did not, or did not answer
        and was reset.
        """
        command = SQE.build(opc=AdminOpcode.ABORT, cdw10=AbortCdw10.build(sqid=sqid, cid=cid))
        done = self._execute(command, timeout=ABORT_SECONDS)
        return done.status.ok and not AbortResult(done.result).ianp

    # --- admin and raw commands ---------------------------------------------------------------

    def admin(
        self,
        opcode: int,
        *,
        buffer: Any = None,
        timeout: float | None = None,
        **fields: Unpack[CommandFields],
    ) -> Completion:
        """Run an admin command and wait for it.

        ``fields`` are the command's own (``nsid``, ``cdw10``, ...), 0 where not given. ``buffer``
        is any bytes-like of up to :attr:`max_transfer` bytes, writable where the command's data
        comes from the controller. Raises NvmeStatusError for an error status, NvmeTimeoutError
        once the command was given up, DeviceRemovedError.
        """
        command = SQE.build(opc=opcode, **fields)
        with self._reachable(command, buffer) as reachable:
            done = self._execute(command, reachable, timeout)
            check(done.status, _describe(command, admin=True))
        return done

    def io(self, opcode: int, *, buffer: Any = None, **fields: Unpack[CommandFields]) -> Completion:
        """Run an I/O command as it is and wait for it; as :meth:`admin`."""
        command = SQE.build(opc=opcode, **fields)
        with self._reachable(command, buffer) as reachable, self.lender.borrow() as pair:
            pair.submit(command, reachable)
            (done,) = pair.drain()
            check(done.status, _describe(command, admin=False))
        return done

    def identify_page(self, cns: int, *, nsid: int = 0, csi: int = 0) -> bytes:
        """Return the 4096 bytes of an Identify data structure (Base 2.0, section 5.17)."""
        page = self.alloc(PAGE)
        self.admin(
            AdminOpcode.IDENTIFY,
            nsid=nsid,
            cdw10=IdentifyCdw10.build(cns=cns),
            cdw11=IdentifyCdw11.build(csi=csi),
            buffer=page,
        )
        return page.tobytes()

    @contextmanager
    def _reachable(self, command: SQE, buffer: Any) -> Iterator[npt.NDArray[Any] | None]:
        """Give the buffer itself where the device reaches it, else a copy, both ways."""
        if buffer is None:
            yield None
            return
        array = as_bytes(buffer)
        if array.nbytes > self.max_transfer:
            raise ValueError(
                f"one command carries up to {self.max_transfer} bytes, not {array.nbytes}"
            )
        iova = self.dma.iova(array)
        if iova is not None and iova % 4 == 0:
            yield array
            return
        to_host = command.opc & DataTransfer.CONTROLLER_TO_HOST
        if to_host and not array.flags.writeable:
            raise ValueError("the command's data comes from the controller: give a writable buffer")
        bounce = self.alloc(array.nbytes)
        bounce[:] = array
        yield bounce
        if to_host:
            array[:] = bounce

    def _execute(
        self, command: SQE, buffer: npt.NDArray[Any] | None = None, timeout: float | None = None
    ) -> Completion:
        """Run one admin command; one at a time, since they are rare."""
        with self._admin_lock:
            # Left by a reset that its own caller saw as an exception: not this command's end.
            self._admin.take_aborted()
            cid = self._admin.submit(command, buffer)
            deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
            while True:
                for done in self._admin.wait(max(0.0, deadline - time.monotonic())):
                    if done.cid == cid:
                        return done
                if time.monotonic() > deadline:
                    self.reset()

    # --- queue pairs --------------------------------------------------------------------------

    def queue_pair(
        self,
        depth: int | None = None,
        *,
        sgl: bool | None = None,
        spin: float | None = None,
        node: int | Placement | None = None,
    ) -> QueuePair:
        """Make an I/O queue pair on which ``depth`` commands can be outstanding.

        ``depth`` is limited by CAP.MQES, rings having one entry more than commands; the default
        is 256 or, where that is less, what the controller can do. ``sgl`` chooses
        SGLs or PRP lists for transfers of more than two pages; by default SGLs where the
        controller has them. ``spin`` is how many seconds a wait spins before it sleeps for the
        queue's interrupt: 0 sleeps at once, infinity polls; the default is the controller's.
        ``node`` says on which NUMA node its queues lie; as for :meth:`alloc`.

        Raises ValueError for a depth that is not legal, DeviceAccessError for a finite ``spin``
        where the access has no interrupts, QueueFullError if the controller grants no further
        queue pair, DmaError if there is no memory for it.
        """
        limit = min(self.cap.mqes, MAX_DEPTH)
        if depth is None:
            depth = min(DEFAULT_DEPTH, limit)
        if not 1 <= depth <= limit:
            raise ValueError(f"the depth of a queue pair here is 1 to {limit}, not {depth}")
        supported = self.identify.sgls.sgls != 0
        if sgl and not supported:
            raise ValueError("the controller has no SGLs: leave sgl out")
        with self._admin_lock:
            # Under the lock: the kernel may ask for the device back at any time.
            self.check_usable()
            qid = self._free_qid()
            self._clear_shadow(qid)
            pair = self._make_queue_pair(
                qid,
                depth,
                use_sgl=supported if sgl is None else sgl,
                spin=self.spin if spin is None else spin,
                node=node,
            )
            resets = self.resets
            try:
                self._create_queues(pair)
            except NvmeError:
                if self.resets == resets:
                    # It may have one of the two, and would refuse the id from then on.
                    with suppress(NvmeError):
                        for command in _deletions(qid):
                            self._execute(command)
                raise
            self._queue_pairs[qid] = pair
        return pair

    def _free_qid(self) -> int:
        """Find a free queue id, or free one by closing a queue pair that waits to be lent."""
        for qid in range(1, self.max_queue_pairs + 1):
            if qid not in self._queue_pairs:
                return qid
        try:
            idle = self.lender.idle.pop()
        except IndexError:
            raise QueueFullError(
                f"the controller grants {self.max_queue_pairs} I/O queue pairs, all in use: "
                "close one"
            ) from None
        idle.close()
        return idle.qid

    def _make_queue_pair(
        self,
        qid: int,
        depth: int,
        *,
        use_sgl: bool = False,
        spin: float = math.inf,
        node: int | Placement | None = None,
    ) -> QueuePair:
        stride = 4 << self.cap.dstrd
        first = DOORBELL_BASE + 2 * qid * stride
        base = self.access.doorbells(first, 2 * stride)
        sq, cq = (
            DoorbellTarget(
                mmio=base.mmio and base.mmio + step,
                post=base.post,
                context=base.context,
                address=base.base + step,
            )
            for step in (0, stride)
        )
        vector = 0 if spin == math.inf else self._vector_of(qid)
        return QueuePair(
            self,
            qid,
            depth,
            QueueLinks(
                sq_doorbell=sq,
                cq_doorbell=cq,
                shadow=self._shadow if qid else None,
                vector=vector,
                interrupt=None if spin == math.inf else self._interrupts[vector],
                spin=spin,
            ),
            use_sgl=use_sgl,
            node=node,
        )

    def _vector_of(self, qid: int) -> int:
        """Arm the interrupts, the first time, and give the vector of a queue pair."""
        if not self._interrupts:
            count = min(self.access.interrupt_vectors, self.max_queue_pairs + 1)
            armed = self.access.arm_interrupts(max(count, 1))
            shared = len(armed) <= self.max_queue_pairs
            self._interrupts = [replace(interrupt, shared=shared) for interrupt in armed]
        # Vector 0 is the admin queue's, shared where there is no other.
        return qid % len(self._interrupts)

    def _clear_shadow(self, qid: int) -> None:
        """Zero a queue pair's shadow doorbells, which its creation does not do."""
        for page in self._shadow or ():
            page.view(np.uint32)[2 * qid : 2 * qid + 2] = 0

    def _create_queues(self, pair: QueuePair) -> None:
        """Create the completion queue, then the submission queue (Base 2.0, 5.4 and 5.5)."""
        commands = (
            SQE.build(
                opc=AdminOpcode.CREATE_IO_CQ,
                prp1=pair.cq_iova,
                cdw10=CreateQueueCdw10.build(qid=pair.qid, qsize=pair.cq_entries - 1),
                cdw11=CreateCqCdw11.build(pc=1, ien=pair.sleeps, iv=pair.vector),
            ),
            SQE.build(
                opc=AdminOpcode.CREATE_IO_SQ,
                prp1=pair.sq_iova,
                cdw10=CreateQueueCdw10.build(qid=pair.qid, qsize=pair.sq_entries - 1),
                cdw11=CreateSqCdw11.build(pc=1, cqid=pair.qid),
            ),
        )
        for command in commands:
            check(self._execute(command).status, _describe(command, admin=True))

    def release(self, pair: QueuePair) -> None:
        """Delete a queue pair's queues; for its close()."""
        with self._admin_lock:
            if self._queue_pairs.get(pair.qid) is not pair:
                return
            # First: a reset, if one is not answered, would make them again.
            del self._queue_pairs[pair.qid]
            if self.removed or self._failed:
                return
            for command in _deletions(pair.qid):
                check(self._execute(command).status, _describe(command, admin=True))

    # --- memory and namespaces ----------------------------------------------------------------

    def alloc(self, length: int, *, node: int | Placement | None = None) -> DmaBuffer:
        """Allocate ``length`` bytes of zeroed DMA memory, page-aligned, as a numpy array.

        They lie on the NUMA ``node``, or where a placement says; without either, near the device
        as far as there is room. Raises DmaError when there is none, or none on that node.
        """
        return self.dma.alloc(length, node=node)

    def map(self, data: Any) -> DmaBuffer:
        """Let the device reach memory of the caller's own, such as an mmap, without a copy.

        Whole pages, aligned to a page; they are pinned and stay mapped as long as the buffer, which
        is that memory, or a view of it lives. Raises DmaError for other memory, and where the
        access reaches only memory of its own (qemu:, uio:).
        """
        return self.dma.map(data)

    # --- end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Shut down normally: CC.SHN, and wait for CSTS.SHST (Base 2.0, section 3.6.1)."""
        self._lifecycle.shut_down(max(_SHUTDOWN_SECONDS, self.identify.rtd3e / 1e6))

    def close(self) -> None:
        """Close the queue pairs, shut the controller down, give memory and device back.

        Safe to call twice, and on a device that is gone.
        """
        if self._closed:
            return
        self._closed = True
        with ExitStack() as last:
            last.callback(self._end)
            last.callback(self._close_access)
            if self._removal is not None:
                self._removal.close()
            last.callback(self.dma.close)
            last.callback(self._quiesce)
            if self.removed or self._failed:
                return
            try:
                for pair in list(self._queue_pairs.values()):
                    pair.close()
                self.shutdown()
            except DeviceRemovedError:
                self.mark_removed()

    def _end(self) -> None:
        self._ended = True
        self.usable = False
        # Not with this object, which a cycle of references may keep for long: hugepages are few.
        for pair in (self._admin, *list(self._queue_pairs.values())):
            pair.free()
        self._shadow = None
        _open_controllers.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _deletions(qid: int) -> Sequence[SQE]:
    """Give the commands that delete a queue pair's queues (Base 2.0, 5.6 and 5.7)."""
    return [
        SQE.build(opc=opcode, cdw10=DeleteQueueCdw10.build(qid=qid))
        for opcode in (AdminOpcode.DELETE_IO_SQ, AdminOpcode.DELETE_IO_CQ)
    ]


def _describe(command: SQE, *, admin: bool) -> str:
    """Name a command for an error message."""
    table: type[AdminOpcode] | type[NvmOpcode] = AdminOpcode if admin else NvmOpcode
    try:
        name = table(command.opc).name.replace("_", " ").title()
    except ValueError:
        name = "Vendor specific or unknown command"
    return f"{name} (opcode {command.opc:#04x}, nsid {command.nsid:#x})"


def open(name: str, *, timeout: float = 30.0, spin: float | None = None) -> Controller:
    """Open a device and enable its controller.

    ``name`` as in the README's table, for example ``"qemu:disk.img?size=1G"`` or
    ``"0000:01:00.0"``; ``timeout`` is what one command may take, in seconds. ``spin`` is how many
    seconds a wait spins before it sleeps for an interrupt; the default is to poll, or, where the
    name asks for interrupts, to sleep at once. Raises DeviceNameError, DeviceAccessError,
    DeviceBusyError, or what went wrong on the way to CSTS.RDY.
    """
    access = open_access(name)
    if spin is None:
        spin = 0.0 if access.interrupts_wanted else math.inf
    return Controller(access, timeout=timeout, spin=spin)


#: Open controllers stay alive until they are closed, and with them every buffer that the device
#: may touch: nothing is freed under it by `del`, by an exception or at the interpreter's exit.
_open_controllers: set[Controller] = set()


@atexit.register
def _close_all() -> None:
    for controller in list(_open_controllers):
        controller.close()
