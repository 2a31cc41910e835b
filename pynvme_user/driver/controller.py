"""The controller: enable, reset, health, shutdown, and what it gives its users.

Knows properties (registers), queue pairs and buffers; how they reach the device is the access's
business. Its admin commands are in admin.py, its I/O queue pairs in queue_table.py.
"""

from __future__ import annotations

import atexit
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self, Unpack

from pynvme_user import owned
from pynvme_user.access.base import Access
from pynvme_user.dma import PAGE, BytesLike, DmaBuffer, DmaPool
from pynvme_user.driver.admin import AdminCommands, CommandFields, describe, reachable
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.lifecycle import Lifecycle, shutdown_seconds
from pynvme_user.driver.names import open_access
from pynvme_user.driver.namespace import Namespaces
from pynvme_user.driver.pool import Lender
from pynvme_user.driver.queue_pair import MAX_TRANSFER, RawQueuePair
from pynvme_user.driver.queue_table import QueuePairs, doorbells_of
from pynvme_user.driver.registers import Registers
from pynvme_user.driver.removal import RemovalWatch
from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    ControllerWarning,
    DeviceRemovedError,
    ForkedError,
    NvmeError,
    NvmeTimeoutError,
)
from pynvme_user.host.numa import Placement
from pynvme_user.spec.commands import SQE, Cns
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.registers import CC, CSTS
from pynvme_user.units import check_seconds

ADMIN_DEPTH = 63


class Controller:
    """An enabled NVMe controller. A context manager: closing it shuts the controller down.

    Made by :func:`pynvme_user.open`; from here on the access is the controller's, which closes
    it, also when it cannot be enabled. ``timeout`` is what one command may take, in seconds, before
    it is aborted and, if that does not help, the controller is reset. ``spin`` is how long waits
    spin before they sleep for an interrupt, unless a queue pair says otherwise.
    ``shadow_doorbells=False`` leaves them out where the controller has them (Base 2.0, 5.8).
    ``ready_timeout`` is what the controller may take to become ready or disabled, in seconds; the
    default is what it says itself, from 5 to 130. ``plain_cids=True`` is for a controller that
    takes no CID above the depth of its queue: a completion that comes twice is then not told from
    the next command's.
    """

    def __init__(
        self,
        access: Access,
        *,
        timeout: float = 30.0,
        spin: float = math.inf,
        shadow_doorbells: bool = True,
        ready_timeout: float | None = None,
        plain_cids: bool = False,
    ) -> None:
        self.spin = spin
        self.plain_cids = plain_cids
        self.access = access
        self.timeout = timeout
        self.registers = Registers(access)
        self.dma = DmaPool(access)
        self.max_transfer = PAGE  # until Identify tells
        self.resets = 0
        #: Until the controller is set up, for the first time or by a reset: no reset may help it.
        self._setting_up = True
        self._shutdown_seconds = shutdown_seconds(0)  # until Identify tells
        self.removed = False
        self._removal: RemovalWatch | None = None
        self._failed: str | None = None
        #: Whether new calls may begin; check_open() says what stands in the way.
        self.usable = True
        self._end_lock = threading.RLock()  # taken before any other
        self._closed = False  # from the beginning of close()
        self._ended = False  # from its end
        self._owner: int | None = None  # in a forked child: the process that opened it
        #: The active namespaces, by namespace id.
        self.namespaces = Namespaces(self)
        #: Lends queue pairs for single calls.
        self.lender = Lender(self)
        with ExitStack() as undo:
            undo.callback(access.close)
            undo.callback(self.dma.close)
            check_seconds(timeout, "a timeout")
            if not isinstance(spin, int | float):
                raise TypeError(f"spin is a number of seconds, not {spin!r}")
            if not spin >= 0:
                raise ValueError(f"spin is a number of seconds from 0 on, not {spin}")
            if ready_timeout is not None:
                check_seconds(ready_timeout, "ready_timeout")
            self._lifecycle = Lifecycle(self.registers, self._check_present, ready_timeout)
            self.cap = self._lifecycle.cap
            depth = min(ADMIN_DEPTH, self.cap.mqes)
            self._admin = RawQueuePair(self, 0, depth, doorbells_of(self, 0))
            self._commands = AdminCommands(self, self._admin)
            self._queue_pairs = QueuePairs(self, self._commands, shadow_doorbells=shadow_doorbells)
            undo.callback(self._quiesce)
            self._disable()
            self._enable()
            self._set_up()
            self._setting_up = False
            if access.request_fd is not None or access.error_fd is not None:
                self._removal = RemovalWatch(
                    access.request_fd, self.let_go, access.error_fd, self._recover
                )
            undo.pop_all()
        _open_controllers.add(self)
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse all use, in a child of process ``owner``, which opened the device.

        Nor is it closed here: see owned.py, and what its parts do.
        """
        _open_controllers.discard(self)
        if not self._ended:
            self._owner = owner
            self.usable = False

    @property
    def name(self) -> str:
        """The device's name."""
        return self.access.name

    @property
    def max_queue_pairs(self) -> int:
        """I/O queue pairs that the controller grants."""
        return self._queue_pairs.most

    # --- enable, disable, reset ---------------------------------------------------------------

    def _enable(self) -> None:
        admin = self._admin
        self._lifecycle.enable(admin.depth + 1, admin.sq_iova, admin.cq_iova)

    def _disable(self) -> None:
        """Stop the controller and its DMA: by CC.EN or, where that does not do it, by the bus."""
        try:
            self._lifecycle.disable()
        except NvmeTimeoutError as late:
            try:
                self.access.reset()
            except DeviceRemovedError:
                raise
            except NvmeError as error:
                raise NvmeTimeoutError(f"{late}; {error}") from error
            self._lifecycle.disable()

    def _quiesce(self) -> None:
        """Stop DMA by what still works, for a controller that is let go.

        Where CC.EN and the bus reset both fail, bus mastering is off: see :meth:`Access.reset`.
        """
        if self.removed:
            return
        try:
            self._disable()
        except DeviceRemovedError:
            self.mark_removed()
        except NvmeError as error:
            self.warn(f"it was not disabled: {error}")

    def warn(self, text: str) -> None:
        """Warn of what this controller does not do, and work goes on without."""
        warnings.warn(f"{self.name}: {text}", ControllerWarning, stacklevel=2)

    def _set_up(self) -> None:
        """Find out what the controller is now, and do what each enable needs."""
        self.identify = IdentifyController.from_bytes(self.identify_page(Cns.CONTROLLER))
        self._shutdown_seconds = shutdown_seconds(self.identify.rtd3e)
        mdts = self.identify.mdts
        self.max_transfer = min(PAGE << mdts, MAX_TRANSFER) if mdts else MAX_TRANSFER
        self._queue_pairs.set_up()

    def reset(self, because: NvmeError | None = None) -> None:
        """Reset the controller (CC.EN) and set all queue pairs up again.

        Every outstanding command gets its outcome only once CSTS.RDY is 0, when DMA has stopped:
        status ABORTED_BY_HOST on its queue pair. Raises ControllerFatalError if the controller
        cannot be brought back; it can then only be closed. ``because`` of what: this is raised in
        place of a reset while the controller is being set up.
        """
        self.check_usable()
        resets = self.resets
        with self._commands.lock, ExitStack() as stopped:
            self.check_usable()
            if self.resets != resets:
                return  # another thread came first, for the same reason
            if self._setting_up:
                raise because or ControllerFatalError("the controller failed while it was set up")
            self._setting_up = True
            stopped.callback(setattr, self, "_setting_up", False)
            for pair in (self._admin, *self._queue_pairs):
                stopped.enter_context(pair.stopped())
            self.namespaces.forget()
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
        self._disable()
        self.resets += 1
        self._admin.restart()
        # Whoever waits for an admin command finds its end after the reset's own commands.
        aborted = self._admin.take_aborted()
        try:
            self._enable()
            self._set_up()
            self._queue_pairs.restart()
        finally:
            self._admin.give_aborted(aborted)

    @contextmanager
    def changing_namespaces(self) -> Iterator[None]:
        """Let no I/O run, and forget what is known of the namespaces, before and after.

        For a command after which they may be others. What is outstanding ends first, and tells its
        owners later. Raises as :meth:`QueuePair.poll`.
        """
        with self._commands.lock, ExitStack() as stopped:
            for pair in self._queue_pairs:
                stopped.enter_context(pair.stopped())
            for pair in self._queue_pairs:
                pair.finish_all()
            self.namespaces.forget()
            try:
                yield
            finally:
                self.namespaces.forget()

    @property
    def admin_lock(self) -> threading.RLock:
        """Held for an admin command, a reset, and by who needs nothing to change in between.

        Taken before any queue pair's lock, never while one is held.
        """
        return self._commands.lock

    # --- health -------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise what stands in the way of a new call."""
        if self._closed:
            raise ClosedError(f"{self.name} is closed: open it again")
        self.check_usable()

    @property
    def answers(self) -> bool:
        """Whether commands can be run at all, also those of its end."""
        return not (self._ended or self.removed or self._failed or self._owner)

    def check_usable(self) -> None:
        """Raise what stands in the way of any command, also of those that are under way."""
        self.check_owner()
        if self._ended:
            raise ClosedError(f"{self.name} is closed: open it again")
        if self.removed:
            raise self._gone()
        if self._failed:
            raise ControllerFatalError(f"{self.name} failed and can only be closed: {self._failed}")

    def check_owner(self) -> None:
        """Raise ForkedError in a child of the process that opened the device."""
        if self._owner is not None:
            raise ForkedError(self.name, self._owner)

    def check_alive(self) -> None:
        """Look at the device: DeviceRemovedError if it is gone, ControllerFatalError where it
        reports a fatal error (CSTS.CFS), or is disabled (CC.EN, CSTS.RDY) behind our back.
        """
        self._check_present()
        csts = self.registers.read(CSTS)
        if csts.cfs:
            what = "reported a fatal error (CSTS.CFS)"
        elif not csts.rdy or not self.registers.read(CC).en:
            what = "was disabled by somebody else (CC.EN or CSTS.RDY is 0)"
        else:
            return
        raise ControllerFatalError(
            f"{self.name} {what} while it was set up: reset the device, or power it off and on"
            if self._setting_up
            else f"{self.name} {what} and was reset: what was outstanding can be tried again"
        )

    def _check_present(self) -> None:
        if not self.access.alive():
            raise self._gone()

    def _gone(self) -> DeviceRemovedError:
        return DeviceRemovedError(f"{self.name} is gone: open the device again when it is back")

    def mark_removed(self) -> None:
        """Remember that the device is gone: nothing touches its memory any more."""
        self.removed = True
        self.usable = False
        for pair in self._queue_pairs:
            pair.ready = False

    def let_go(self) -> None:
        """Give the device back now, because the kernel asks for it: it is unplugged or unbound.

        The controller is disabled first, so that DMA has stopped; everything outstanding, and
        every later call, gets DeviceRemovedError.
        """
        with self._commands.lock, ExitStack() as last:
            if self._closed:
                return
            for pair in (self._admin, *self._queue_pairs):
                last.enter_context(pair.stopped())
            last.callback(self._close_access)
            last.callback(self.dma.close, removed=True)
            last.callback(self.mark_removed)
            # What cannot be disabled, or reset while it is removed, has its bus mastering off.
            with suppress(NvmeError):
                self._disable()

    def _recover(self) -> None:
        """Act on an uncorrectable PCIe error: what is outstanding fails by a reset or a removal.

        A controller that cannot be reset says so to every later call.
        """
        self.warn("the kernel reports an uncorrectable PCIe error: it is reset")
        with suppress(NvmeError):
            self.reset()

    def _close_access(self) -> None:
        with self.registers.lock:
            self.access.close()

    def abort(self, sqid: int, cid: int) -> bool:
        """Ask for a command's abort (Base 2.0, section 5.1).

        True if the controller says that it aborted it; its completion, with the status
        ABORTED_BY_REQUEST, still comes on its queue pair. False if it did not, or did not answer
        and was reset.
        """
        return self._commands.abort(sqid, cid)

    # --- admin and raw commands ---------------------------------------------------------------

    def admin(
        self,
        opcode: int,
        *,
        buffer: BytesLike | None = None,
        timeout: float | None = None,
        **fields: Unpack[CommandFields],
    ) -> Completion:
        """Run an admin command and wait for it.

        ``fields`` are the command's own (``nsid``, ``cdw10``, ...), 0 where not given. ``buffer``
        is any bytes-like of up to :attr:`max_transfer` bytes, writable where the command's data
        comes from the controller. Raises NvmeStatusError for an error status, NvmeTimeoutError
        once the command was given up, DeviceRemovedError.
        """
        self.check_open()
        command = SQE.build(opc=opcode, **fields)
        with reachable(self, command, buffer) as memory:
            return self._commands.run(command, memory, timeout)

    def io(
        self, opcode: int, *, buffer: BytesLike | None = None, **fields: Unpack[CommandFields]
    ) -> Completion:
        """Run an I/O command as it is and wait for it; as :meth:`admin`."""
        command = SQE.build(opc=opcode, **fields)
        with reachable(self, command, buffer) as memory, self.lender.borrow() as pair:
            pair.submit(command, memory)
            (done,) = pair.drain()
            check(done.status, describe(command, admin=False), done.timed_out)
        return done

    def identify_page(self, cns: int, *, nsid: int = 0, csi: int = 0) -> bytes:
        """Return the 4096 bytes of an Identify data structure (Base 2.0, section 5.17)."""
        return self._commands.identify(cns, nsid=nsid, csi=csi)

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
        return self._queue_pairs.open(depth, sgl=sgl, spin=spin, node=node)

    def release(self, pair: RawQueuePair) -> None:
        """Delete a queue pair's queues; for its close()."""
        self._queue_pairs.release(pair)

    # --- memory and namespaces ----------------------------------------------------------------

    def alloc(self, length: int, *, node: int | Placement | None = None) -> DmaBuffer:
        """Allocate ``length`` bytes of zeroed DMA memory, page-aligned, as a numpy array.

        They lie on the NUMA ``node``, or where a placement says; without either, near the device
        as far as there is room. Raises DmaError when there is none, or none on that node.
        """
        return self.dma.alloc(length, node=node)

    def map(self, data: BytesLike) -> DmaBuffer:
        """Let the device reach memory of the caller's own, such as an mmap, without a copy.

        Whole pages, aligned to a page; they are pinned and stay mapped as long as the buffer, which
        is that memory, or a view of it lives. Raises DmaError for other memory, and where the
        access reaches only memory of its own (qemu:, uio:).
        """
        return self.dma.map(data)

    # --- end ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Shut down normally: CC.SHN, and wait for CSTS.SHST (Base 2.0, section 3.6.1).

        As long as RTD3E says, from 10 to 60 seconds, then NvmeTimeoutError.
        """
        self._lifecycle.shut_down(self._shutdown_seconds)

    def close(self) -> None:
        """Close the queue pairs, shut the controller down, give memory and device back.

        Safe to call twice, and on a device that is gone. Each step is tried whatever became of the
        one before it; what the device does not do is a ControllerWarning. Does nothing in a
        forked child.

        Calls of other threads that are under way end with the outcome of their command, or with
        ClosedError, which says so where the outcome is unknown; new ones get ClosedError.
        """
        if self._owner is not None:
            return
        with self._end_lock, ExitStack() as last:
            self._closed = True
            self.usable = False
            last.callback(self._finish)
            last.callback(self._queue_pairs.close, self._try_to_end)
            last.callback(self.lender.close)
            removal, self._removal = self._removal, None
            if removal is not None:
                last.callback(removal.close)

    def _finish(self) -> None:
        """Do the rest of close(), while nobody else runs an admin command or a reset."""
        with self._commands.lock, ExitStack() as last:
            if self._ended:
                return
            last.callback(self._end)
            last.callback(self._close_access)
            last.callback(self.dma.close)
            last.callback(self._end_queue_pairs)
            last.callback(self._quiesce)
            last.callback(self._try_to_end, self.shutdown)

    def _end_queue_pairs(self) -> None:
        for pair in (self._admin, *self._queue_pairs):
            pair.end()

    def _try_to_end(self, step: Callable[[], None]) -> None:
        """Do a step of the end that needs the device; without it, the next ones do."""
        if self.removed or self._failed:
            return
        try:
            step()
        except DeviceRemovedError:
            self.mark_removed()
        except NvmeError as error:
            self.warn(f"it did not end as it should: {error}")

    def _end(self) -> None:
        self._ended = True
        self.usable = False
        self._admin.free()
        self._queue_pairs.free()
        _open_controllers.discard(self)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called: every further call raises ClosedError."""
        return self._closed

    def __repr__(self) -> str:
        foreign = self._owner is not None, f"opened by process {self._owner}"
        ends = foreign, (self._closed, "closed"), (self.removed, "gone"), (self._failed, "failed")
        state = next((f", {word}" for ended, word in ends if ended), "")
        return f"<{type(self).__name__} {self.name}{state}>"

    def __enter__(self) -> Self:
        if self._owner is not None:
            self.check_usable()
        if self._closed:
            raise ClosedError(f"{self.name} is closed: open it again")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open(
    name: str,
    *,
    timeout: float = 30.0,
    spin: float | None = None,
    shadow_doorbells: bool = True,
    ready_timeout: float | None = None,
    plain_cids: bool = False,
) -> Controller:
    """Open a device and enable its controller.

    ``name`` as in the README's table, for example ``"qemu:disk.img?size=1G"`` or
    ``"0000:01:00.0"``; ``timeout`` is what one command may take, in seconds. ``spin`` is how many
    seconds a wait spins before it sleeps for an interrupt; the default is to poll, or, where the
    name asks for interrupts, to sleep at once. ``shadow_doorbells=False`` writes each doorbell to
    its register, also where the controller could look at memory instead. ``ready_timeout`` is what
    the controller may take to become ready, in seconds; the default is what it says itself, from
    5 to 130. ``plain_cids=True`` is for a controller that takes no CID above the depth of its
    queue: a completion that comes twice is then not told from the next command's.

    What the controller refuses and can be done without is a ControllerWarning: shadow doorbells,
    I/O queues.

    The device is this process's alone. In a forked child, as multiprocessing makes by default,
    every call raises ForkedError, and ``close()`` and the child's end touch nothing: a child opens
    a device of its own.

    Raises DeviceNameError, DeviceAccessError, DeviceBusyError, or what went wrong on the way to
    CSTS.RDY.
    """
    access = open_access(name)
    if spin is None:
        spin = 0.0 if access.interrupts_wanted else math.inf
    return Controller(
        access,
        timeout=timeout,
        spin=spin,
        shadow_doorbells=shadow_doorbells,
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
