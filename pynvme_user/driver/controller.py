"""The controller: what it gives its users, from opening it to its end.

It puts the parts together: what they share is in device.py, resets and removal in recovery.py, the
admin commands in admin.py, the I/O queue pairs in queue_table.py.
"""

from __future__ import annotations

import atexit
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self, Unpack

from pynvme_user import owned
from pynvme_user.dma import BytesLike, DmaBuffer, DmaPool
from pynvme_user.driver.admin import AdminQueue, CommandFields, describe, reachable
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.device import Device, State
from pynvme_user.driver.events import Event, Events
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.lifecycle import Lifecycle, shutdown_seconds
from pynvme_user.driver.maintenance import Maintenance
from pynvme_user.driver.names import Openable, open_transport
from pynvme_user.driver.namespace import Namespaces
from pynvme_user.driver.namespace_management import NamespaceManagement
from pynvme_user.driver.pool import QueuePairPool
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.driver.queue_table import QueuePairs
from pynvme_user.driver.recovery import ControllerRecovery
from pynvme_user.driver.registers import Registers
from pynvme_user.driver.removal import RemovalWatch
from pynvme_user.driver.virtualization import Virtualization
from pynvme_user.errors import ClosedError, DeviceRemovedError, NvmeError
from pynvme_user.host.numa import Node
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.registers import CAP
from pynvme_user.transport.base import Transport
from pynvme_user.transport.controller_memory import ControllerMemoryBuffer
from pynvme_user.transport.host_memory import DEFAULT as DEFAULT_HOST_MEMORY
from pynvme_user.transport.persistent_memory import PersistentMemoryRegion
from pynvme_user.units import check_seconds, whole_number

ADMIN_DEPTH = 63


class Controller(Virtualization, Maintenance, NamespaceManagement):
    """An enabled NVMe controller. A context manager: closing it shuts the controller down.

    Made by :func:`pynvme_user.open`; from here on the transport is the controller's, which
    closes it, also when it cannot be enabled. ``timeout`` is what one command may take, in seconds,
    before it is aborted and, if that does not help, the controller is reset. ``spin`` is how long
    waits spin before they sleep for an interrupt, unless a queue pair says otherwise.
    ``ready_timeout`` is what the controller may take to become ready or disabled, in seconds; the
    default is what it says itself, from 5 to 130. ``plain_cids=True`` is for a controller that
    takes no CID above the depth of its queue: a completion that comes twice is then not told from
    the next command's.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float = 30.0,
        spin: float = math.inf,
        ready_timeout: float | None = None,
        plain_cids: bool = False,
    ) -> None:
        self._end_lock = threading.RLock()  # taken before any other
        self._rpmb_lock = threading.Lock()
        self._removal: RemovalWatch | None = None
        self._ready_timeout = ready_timeout
        with ExitStack() as undo:
            undo.callback(transport.close)
            check_seconds(timeout, "a timeout")
            if not isinstance(spin, int | float):
                raise TypeError(f"spin is a number of seconds, not {spin!r}")
            if not spin >= 0:
                raise ValueError(f"spin is a number of seconds from 0 on, not {spin}")
            if ready_timeout is not None:
                check_seconds(ready_timeout, "ready_timeout")
            device = Device(transport, timeout=timeout, spin=spin, plain_cids=plain_cids)
            self._device = device
            device.controller = self
            undo.callback(device.dma.close)
            self._lifecycle = Lifecycle(device.registers, device.check_present, ready_timeout)
            device.cap = self._lifecycle.cap
            recovery = self._recovery = ControllerRecovery(device, self._lifecycle)
            depth = min(ADMIN_DEPTH, device.cap.mqes)
            self._admin = RawQueuePair(device, recovery, transport.admin_queue(depth, device.cap))
            self._commands = AdminQueue(device, recovery, self._admin, self._changing_namespaces)
            #: Queue pairs for single calls.
            self.pool = QueuePairPool(device, self.queue_pair)
            self._queue_pairs = QueuePairs(device, recovery, self._commands, self.pool)
            #: The active namespaces, by namespace id.
            self.namespaces = Namespaces(device, self._commands, self.pool)
            recovery.serve(self._admin, self._commands, self._queue_pairs, self.namespaces)
            undo.callback(recovery.quiesce)
            recovery.disable()
            recovery.enable()
            device.change_state(State.LIVE)
            asked, failed = transport.request_fd, transport.error_fd
            if asked is not None or failed is not None:
                self._removal = RemovalWatch(
                    asked, recovery.detach, failed, recovery.uncorrectable_error
                )
            undo.callback(_open_controllers.discard, self)
            _open_controllers.add(self)
            owned.register(self)
            undo.pop_all()

    def forked(self, owner: int) -> None:
        """Be not closed at the exit, in a child of process ``owner``; see owned.py.

        What the device is made of refuses all use from then on.
        """
        _open_controllers.discard(self)

    # --- what is known ------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """The way to the device."""
        return self._device.transport

    @property
    def registers(self) -> Registers:
        """Its registers, each read when it is asked for."""
        return self._device.registers

    @property
    def cap(self) -> CAP:
        """Its capabilities, as they were when it was opened (Base 2.0, section 3.1.3.1)."""
        return self._device.cap

    @property
    def max_queue_pairs(self) -> int:
        """I/O queue pairs that the controller grants."""
        return self._queue_pairs.most

    @property
    def resets(self) -> int:
        """How often the controller was reset since it was opened."""
        return self._device.resets

    @property
    def removed(self) -> bool:
        """Whether the device is gone."""
        return self._device.state is State.REMOVED

    @property
    def timeout(self) -> float:
        """What one command may take, in seconds."""
        return self._device.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        check_seconds(seconds, "a timeout")
        self._device.timeout = seconds

    @property
    def dma(self) -> DmaPool:
        """Its DMA memory, from which :meth:`alloc` takes."""
        return self._device.dma

    def sibling(self, number: int = 1) -> Controller:
        """Open another controller of the same QEMU, with the options of this one.

        ``qemu:disk.img?controllers=2`` has controllers 0, which ``open`` opens, and 1; with
        ``sriov_numvfs`` virtual functions follow. Namespaces are shared, unless they are made
        private (``ns2.shared=off``); buffers are of one controller. QEMU ends with the last
        controller that is closed. Raises DeviceAccessError where there is none of that number,
        DeviceBusyError where it is open; and as :func:`pynvme_user.open`.
        """
        self._device.check_open()
        device = self._device
        return type(self)(
            device.transport.sibling(whole_number(number, "the number of a controller")),
            timeout=device.timeout,
            spin=device.spin,
            ready_timeout=self._ready_timeout,
            plain_cids=device.plain_cids,
        )

    # --- reset and removal --------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the controller (CC.EN) and set all queue pairs up again.

        Every outstanding command gets its outcome only once CSTS.RDY is 0, when DMA has stopped:
        status ABORTED_BY_HOST on its queue pair. Raises ControllerFatalError if the controller
        cannot be brought back; it can then only be closed.
        """
        self._recovery.reset()

    def detach(self) -> None:
        """Give the device back now, because the kernel asks for it: it is unplugged or unbound.

        The controller is disabled first, so that DMA has stopped; everything outstanding, and
        every later call, gets DeviceRemovedError.
        """
        self._recovery.detach()

    def check_alive(self) -> None:
        """Look at the device: DeviceRemovedError if it is gone, ControllerFatalError where it
        reports a fatal error (CSTS.CFS), or is disabled (CC.EN, CSTS.RDY) behind our back.
        """
        self._device.check_alive()

    @contextmanager
    def _changing_namespaces(self) -> Iterator[None]:
        """Let no I/O run, and forget what is known of the namespaces, while a command is submitted
        after which they may be others.

        They are identified again once it has ended, before the next I/O. What is outstanding ends
        first, and tells its owners later. Raises as :meth:`QueuePair.poll`.
        """
        with self._device.admin_lock, ExitStack() as stopped:
            for pair in self._queue_pairs:
                stopped.enter_context(pair.stopped())
            for pair in self._queue_pairs:
                pair.finish_all()
            self.namespaces.forget()
            yield

    # --- events -------------------------------------------------------------------------------

    def events(
        self, callback: Callable[[Event], object] | None = None, *, config: int | None = None
    ) -> Events:
        """Listen for asynchronous events from now on (Base 2.1, section 5.1.2).

        Iterate over what is returned, or give a ``callback``, which is called in a thread of its
        own. ``config`` is the feature Async Event Configuration meanwhile; the default has all
        that the controller can report (OAES). Close it, or use ``with``. Raises as :meth:`admin`.
        """
        return Events(self, self._forget_namespaces, config=config, callback=callback)

    def _forget_namespaces(self) -> None:
        with self._changing_namespaces():
            pass

    # --- raw I/O commands ---------------------------------------------------------------------

    def io(
        self, opcode: int, *, buffer: BytesLike | None = None, **fields: Unpack[CommandFields]
    ) -> Completion:
        """Run an I/O command as it is and wait for it; as :meth:`admin`."""
        command = SQE.build(opc=opcode, **fields)
        memory, copy_back = reachable(self._device, command, buffer)
        with self.pool.acquired() as pair:
            pair.submit(command, memory)
            (done,) = pair.drain()
        check(done.status, describe(command, admin=False), done.timed_out)
        copy_back()
        return done

    # --- queue pairs --------------------------------------------------------------------------

    def queue_pair(
        self,
        depth: int | None = None,
        *,
        sgl: bool | None = None,
        spin: float | None = None,
        node: Node = None,
        cmb: bool | Iterable[str] = False,
    ) -> QueuePair:
        """Make an I/O queue pair on which ``depth`` commands can be outstanding.

        ``depth`` is limited by CAP.MQES, rings having one entry more than commands; the default
        is 256 or, where that is less, what the controller can do. ``sgl`` chooses
        SGLs or PRP lists for transfers of more than two pages; by default SGLs where the
        controller has them. ``spin`` is how many seconds a wait spins before it sleeps for the
        queue's interrupt: 0 sleeps at once, infinity polls; the default is the controller's.
        ``node`` says on which NUMA node its queues lie; as for :meth:`alloc`. ``cmb`` puts the
        submission queue into the Controller Memory Buffer, or of ``("sqs", "cqs", "lists")`` what
        it names: the submission queue, the completion queue, the PRP lists.

        Raises ValueError for a depth that is not legal, DeviceAccessError for a finite ``spin``
        where the access has no interrupts, QueueFullError if the controller grants no further
        queue pair, DmaError if there is no memory for it; and as :attr:`cmb`.
        """
        return self._queue_pairs.open(depth, sgl=sgl, spin=spin, node=node, cmb=cmb)

    # --- memory and namespaces ----------------------------------------------------------------

    def alloc(self, length: int, *, node: Node = None) -> DmaBuffer:
        """Allocate ``length`` bytes of zeroed DMA memory, page-aligned, as a numpy array.

        They lie on the NUMA ``node``, or where a placement says; without either, near the device
        as far as there is room. Raises DmaError when there is none, or none on that node.
        """
        return self._device.dma.alloc(length, node=node)

    def map(self, data: BytesLike) -> DmaBuffer:
        """Let the device reach memory of the caller's own, such as an mmap, without a copy.

        Whole pages, aligned to a page; they are pinned and stay mapped as long as the buffer, which
        is that memory, or a view of it lives. Raises DmaError for other memory, and where the
        access reaches only memory of its own (qemu:, uio:).
        """
        return self._device.dma.map(data)

    @property
    def cmb(self) -> ControllerMemoryBuffer:
        """Its Controller Memory Buffer, enabled from when it is first asked for (Base 2.1, 8.2.1).

        ``ctrl.cmb.alloc(4096)`` is a buffer as :meth:`alloc` gives, in the controller's own memory.
        Raises NotSupportedError where there is none, DeviceAccessError where it cannot be mapped
        here (qemu:).
        """
        with self._device.admin_lock:
            self._device.check_open()
            return self._device.transport.memory_buffer(self._device.registers)

    def pmr(self) -> PersistentMemoryRegion:
        """Enable its Persistent Memory Region (Base 2.1, 8.2.4): close it, or use ``with``.

        ``pmr.array`` are its bytes, ``pmr.flush()`` makes them persistent. Raises NotSupportedError
        where there is none, DeviceAccessError where it cannot be mapped here, NvmeError where it is
        open already or reports an error, NvmeTimeoutError where it does not become ready.
        """
        device = self._device
        with device.admin_lock:
            device.check_open()
            return device.transport.persistent_memory(device.registers, device.warn)

    # --- end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Shut down normally: CC.SHN, and wait for CSTS.SHST (Base 2.0, section 3.6.1).

        As long as RTD3E says, from 10 to 60 seconds, then NvmeTimeoutError.
        """
        self._lifecycle.shut_down(shutdown_seconds(self._device.identify.rtd3e))

    def close(self) -> None:
        """Close the queue pairs, shut the controller down, give memory and device back.

        Safe to call twice, and on a device that is gone. Each step is tried whatever became of the
        one before it; what the device does not do is a ControllerWarning. Does nothing in a
        forked child.

        Calls of other threads that are under way end with the outcome of their command, or with
        ClosedError, which says so where the outcome is unknown; new ones get ClosedError.
        """
        if self._device.state is State.FOREIGN:
            return
        with self._end_lock, ExitStack() as last:
            self._device.closing = True
            last.callback(self._finish)
            last.callback(self._queue_pairs.close, self._try_to_end)
            last.callback(self.pool.close)
            removal, self._removal = self._removal, None
            if removal is not None:
                last.callback(removal.close)

    def _finish(self) -> None:
        """Do the rest of close(), while nobody else makes a reset."""
        with self._device.admin_lock, ExitStack() as last:
            if self._device.state is State.CLOSED:
                return
            last.callback(self._finish_stopped)
            last.callback(self._try_to_end, self._commands.finish_calls)

    def _finish_stopped(self) -> None:
        """Shut down and give everything back, while nobody polls the admin queue."""
        device = self._device
        with self._admin.stopped(), ExitStack() as last:
            last.callback(self._end)
            last.callback(device.close_transport)
            last.callback(device.dma.close)
            last.callback(self._end_queue_pairs)
            last.callback(self._recovery.quiesce)
            last.callback(self._try_to_end, self.shutdown)

    def _end_queue_pairs(self) -> None:
        for pair in (self._admin, *self._queue_pairs):
            pair.end()

    def _try_to_end(self, step: Callable[[], None]) -> NvmeError | None:
        """Do a step of the end that needs the device; without it, the next ones do."""
        if not self._device.answers:
            return None
        try:
            step()
        except DeviceRemovedError as error:
            self._recovery.mark_removed()
            return error
        except NvmeError as error:
            self._device.warn(f"it did not end as it should: {error}")
            return error
        return None

    def _end(self) -> None:
        self._device.change_state(State.CLOSED)
        self._admin.free()
        self._queue_pairs.free()
        _open_controllers.discard(self)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called: every further call raises ClosedError."""
        return self._device.closing

    def __repr__(self) -> str:
        device = self._device
        state = ""
        if device.state is State.FOREIGN:
            state = f", opened by process {device.owner}"
        elif device.closing:
            state = ", closed"
        elif device.state is State.REMOVED:
            state = ", gone"
        elif device.state is State.FAILED:
            state = ", failed"
        return f"<{type(self).__name__} {self.name}{state}>"

    def __enter__(self) -> Self:
        self._device.check_owner()
        if self.closed:
            raise ClosedError(f"{self.name} is closed: open it again")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open(
    name: Openable,
    *,
    timeout: float = 30.0,
    spin: float | None = None,
    shadow_doorbells: bool = True,
    host_memory: int = DEFAULT_HOST_MEMORY,
    ready_timeout: float | None = None,
    plain_cids: bool = False,
) -> Controller:
    """Open a device and enable its controller.

    ``name`` as in the README's table, for example ``"qemu:disk.img?size=1G"`` or
    ``"0000:01:00.0"``, or a :class:`pynvme_user.testing.SoftDevice`; ``timeout`` is what one
    command may take, in seconds. ``spin`` is how many seconds a wait spins before it sleeps for an
    interrupt; the default is to poll, or, where the name asks for interrupts, to sleep at once.
    ``shadow_doorbells=False`` writes each doorbell to its register, also where the controller could
    look at memory instead. ``host_memory`` is how many bytes of this machine's memory a drive may
    have that asks for some (Host Memory Buffer); 0: none. ``ready_timeout`` is what the controller
    may take to become ready, in seconds; the default is what it says itself, from 5 to 130.
    ``plain_cids=True`` is for a controller that takes no CID above the depth of its queue: a
    completion that comes twice is then not told from the next command's.

    What the controller refuses and can be done without is a ControllerWarning: shadow doorbells,
    the Host Memory Buffer, I/O queues.

    The device is this process's alone. In a forked child, as multiprocessing makes by default,
    every call raises ForkedError, and ``close()`` and the child's end touch nothing: a child opens
    a device of its own.

    Raises DeviceNameError, DeviceAccessError, DeviceBusyError, or what went wrong on the way to
    CSTS.RDY.
    """
    if not isinstance(host_memory, int) or host_memory < 0:
        raise ValueError(f"host_memory is a number of bytes from 0 on, not {host_memory!r}")
    transport = open_transport(name, shadow_doorbells=shadow_doorbells, host_memory=host_memory)
    if spin is None:
        spin = 0.0 if transport.access.interrupts_wanted else math.inf
    return Controller(
        transport,
        timeout=timeout,
        spin=spin,
        ready_timeout=ready_timeout,
        plain_cids=plain_cids,
    )


#: Open controllers stay alive until they are closed, and with them every buffer that the device
#: may touch: nothing is freed under it by `del`, by an exception or at the interpreter's exit. So
#: that one was not closed shows at the exit alone: as a ResourceWarning.
_open_controllers: set[Controller] = set()


@atexit.register
def _close_all() -> None:
    with ExitStack() as each:  # whatever becomes of the others
        for controller in list(_open_controllers):
            each.callback(controller.close)
            each.callback(
                warnings.warn,
                f"{controller.name} was not closed: call close(), or use `with`",
                ResourceWarning,
                source=controller,
            )
