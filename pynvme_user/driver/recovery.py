"""Recovery: what becomes of a controller that does not answer, fails, or goes away.

A command that is overdue is cancelled, where the controller has that, or aborted and, where that
does not end it, the controller is reset: by CC.EN or, where that does not do it, by the bus. A
device that is gone stays gone.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress

from pynvme_user.dma import PAGE
from pynvme_user.driver.admin import AdminQueue
from pynvme_user.driver.device import Device, State
from pynvme_user.driver.lifecycle import Lifecycle
from pynvme_user.driver.namespace import Namespaces
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.driver.queue_table import QueuePairs
from pynvme_user.errors import (
    ControllerFatalError,
    DeviceRemovedError,
    NvmeError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.logs import logger
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.identify import IdentifyController

log = logger(__name__)


class ControllerRecovery:
    """Enables, disables and resets a controller, and everything that hangs on it.

    The queue pairs know it as :class:`Recovery`.
    """

    def __init__(self, device: Device, lifecycle: Lifecycle) -> None:
        self._device = device
        self._lifecycle = lifecycle

    def serve(
        self,
        admin: RawQueuePair,
        commands: AdminQueue,
        queue_pairs: QueuePairs,
        namespaces: Namespaces,
    ) -> None:
        """Set what a reset stops and sets up again; before any other call."""
        self._admin, self._commands = admin, commands
        self._queue_pairs, self._namespaces = queue_pairs, namespaces

    # --- enable and disable -------------------------------------------------------------------

    def enable(self) -> None:
        """Enable a disabled controller with its admin queue, and set it up."""
        self._device.transport.enable_admin_queue(self._admin.queue, self._device.registers)
        self._lifecycle.enable()
        self._set_up()

    def _set_up(self) -> None:
        """Find out what the controller is now, and do what each enable needs."""
        device = self._device
        page = self._commands.identify(Cns.CONTROLLER)
        device.identify = IdentifyController.from_bytes(page)
        most, mdts = device.transport.max_transfer, device.identify.mdts
        device.max_transfer = min(PAGE << mdts, most) if mdts else most
        device.cancels = self._commands.has_cancel()
        device.transport.set_up(device.identify, device.cap, self._commands.run, device.warn)
        self._queue_pairs.set_up()

    def disable(self) -> None:
        """Stop the controller and its DMA: by CC.EN or, where that does not do it, by the bus."""
        try:
            self._lifecycle.disable()
        except NvmeTimeoutError as late:
            try:
                self._device.transport.reset()
            except DeviceRemovedError:
                raise
            except NvmeError as error:
                raise NvmeTimeoutError(f"{late}; {error}") from error
            self._lifecycle.disable()

    def quiesce(self) -> None:
        """Stop DMA by what still works, for a controller that is let go.

        Where CC.EN and the bus reset both fail, bus mastering is off: see :meth:`Access.reset`.
        """
        if self._device.state is State.REMOVED:
            return
        try:
            self.disable()
        except DeviceRemovedError:
            self.mark_removed()
        except NvmeError as error:
            self._device.warn(f"it was not disabled: {error}")

    # --- reset --------------------------------------------------------------------------------

    def reset(self, because: NvmeError | None = None) -> None:
        """Reset the controller; see :meth:`Controller.reset`.

        ``because`` of what: this is raised in place of a reset while the controller is being set
        up.
        """
        device = self._device
        device.check_usable()
        resets = device.resets
        with device.admin_lock, ExitStack() as stopped:
            device.check_usable()
            if device.resets != resets:
                return  # another thread came first, for the same reason
            if device.state is not State.LIVE:
                raise because or ControllerFatalError("the controller failed while it was set up")
            log.warning("%s: reset%s", device.name, f", since {because}" if because else "")
            device.change_state(State.RESETTING)
            stopped.callback(device.change_state, State.LIVE)
            for pair in (self._admin, *self._queue_pairs):
                stopped.enter_context(pair.stopped())
            self._namespaces.forget()
            try:
                self._reset_stopped()
            except DeviceRemovedError:
                self.mark_removed()
                raise
            except NvmeError as error:
                device.failure = str(error)
                device.change_state(State.FAILED)
                raise ControllerFatalError(f"the reset failed: {error}") from error

    def _reset_stopped(self) -> None:
        self.disable()
        self._device.resets += 1
        self._admin.restart()
        self.enable()
        self._queue_pairs.restart()

    def overdue(
        self,
        sqid: int,
        cid: int,
        what: str,
        waited: float | None,
        because: NvmeError | None = None,
    ) -> None:
        """Deal with a command that takes longer than it may.

        One of an I/O queue is cancelled if the controller has that (Base 2.1, 7.1); what is not, or
        was not ended by it, is aborted. If it has not ended ``abort_seconds`` after that
        (``waited`` are the seconds since; None: it was neither), the controller is reset,
        ``because`` of that.
        """
        device = self._device
        if waited is None:
            if sqid and device.cancels and self._cancel(sqid, cid):
                log.warning("%s: %s of queue %d is overdue: cancel", device.name, what, sqid)
                return
            log.warning("%s: %s of queue %d is overdue: abort", device.name, what, sqid)
            with suppress(QueueFullError):  # of admin commands: the reset is what is left
                if sqid:
                    self._commands.abort(sqid, cid)
                else:
                    self._commands.submit_abort(sqid, cid)
        elif waited > device.abort_seconds:
            log.warning("%s: %s of queue %d was not aborted: reset", device.name, what, sqid)
            self.reset(because)

    def _cancel(self, sqid: int, cid: int) -> bool:
        """Have the command's own queue cancel it; whether it was asked to."""
        return any(pair.qid == sqid and pair.cancel(cid) for pair in self._queue_pairs)

    def uncorrectable_error(self) -> None:
        """Act on an uncorrectable PCIe error: what is outstanding fails by a reset or a removal.

        A controller that cannot be reset says so to every later call.
        """
        self._device.warn("the kernel reports an uncorrectable PCIe error: it is reset")
        with suppress(NvmeError):
            self.reset()

    # --- removal ------------------------------------------------------------------------------

    def mark_removed(self) -> None:
        """Remember that the device is gone: nothing touches its memory any more."""
        self._device.change_state(State.REMOVED)
        for pair in self._queue_pairs:
            pair.waiter.ready = False

    def detach(self) -> None:
        """Give the device back while the kernel waits for it; see :meth:`Controller.detach`."""
        device = self._device
        log.warning("%s: the kernel asks for the device", device.name)
        with device.admin_lock, ExitStack() as last:
            if device.closing:
                return
            for pair in (self._admin, *self._queue_pairs):
                last.enter_context(pair.stopped())
            last.callback(device.close_transport)
            last.callback(device.dma.close, removed=True)
            last.callback(self.mark_removed)
            # What cannot be disabled, or reset while it is removed, has its bus mastering off.
            with suppress(NvmeError):
                self.disable()
