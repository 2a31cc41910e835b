"""The device that a controller drives: what is known of it, and whether it can be used.

Every part of the driver asks here. This module knows none of them.
"""

from __future__ import annotations

import logging
import threading
import warnings
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from pynvme_user import owned
from pynvme_user.dma import PAGE, DmaBuffer
from pynvme_user.driver.registers import Registers
from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    ControllerWarning,
    DeviceRemovedError,
    ForkedError,
    NvmeError,
)
from pynvme_user.host.numa import Node
from pynvme_user.logs import logger
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.registers import CAP, CC, CSTS
from pynvme_user.transport.base import Transport

if TYPE_CHECKING:
    from pynvme_user import Controller  # the public name: no module of the driver's

log = logger(__name__)


class State(IntEnum):
    """What has become of a device. From FAILED on there is no way back, only on."""

    NEW = 0  # being opened: no reset may help it
    LIVE = 1
    RESETTING = 2
    FAILED = 3  # a reset did not bring it back: it can only be closed
    REMOVED = 4
    CLOSED = 5
    FOREIGN = 6  # this process is a child of the one that opened it


class Recovery(Protocol):
    """What a queue pair asks for when its device does not do as it should: see recovery.py."""

    def mark_removed(self) -> None:
        """Remember that the device is gone: nothing touches its memory any more."""

    def reset(self, because: NvmeError | None = None) -> None:
        """Reset the controller and set all queue pairs up again."""

    def overdue(
        self,
        sqid: int,
        cid: int,
        what: str,
        waited: float | None,
        because: NvmeError | None = None,
    ) -> None:
        """End a command that is overdue, or reset; ``waited`` is since that, in seconds."""


class Device:
    """What the parts of the driver share: registers, DMA memory, limits, timeouts, the state."""

    cap: CAP  # from before the controller is enabled
    identify: IdentifyController  # from its first Identify on; as of the last reset
    controller: Controller  # that was made of it, for users: the driver itself does not ask it
    #: Whether it has Cancel, which ends an overdue I/O command; as of the last reset.
    cancels = False
    #: Seconds that an aborted command may take to end before the controller is reset.
    abort_seconds = 2.0

    def __init__(
        self, transport: Transport, *, timeout: float, spin: float, plain_cids: bool
    ) -> None:
        self.transport = transport
        self.registers = Registers(transport.name, transport.properties)
        self.dma = transport.memory
        self.timeout = timeout  # seconds, of one command
        self.spin = spin  # seconds, before a wait sleeps
        self.plain_cids = plain_cids
        self.max_transfer = PAGE  # bytes of one command; until Identify tells
        self.resets = 0
        #: Held for an admin command, a reset, and by who needs nothing to change in between.
        #: Taken before any queue pair's lock, never while one is held.
        self.admin_lock = threading.RLock()
        self.state = State.NEW
        self.failure = ""  # why it is FAILED
        #: From the beginning of close(): what is under way goes on, nothing new begins.
        self.closing = False
        self.owner = 0  # where it is FOREIGN: the process that opened it
        self._state_lock = threading.Lock()
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Be FOREIGN, with locks that nobody holds, in a child of process ``owner``."""
        self.admin_lock = threading.RLock()
        self._state_lock = threading.Lock()
        if self.state is not State.CLOSED:
            self.state, self.owner = State.FOREIGN, owner

    @property
    def name(self) -> str:
        """The device's name."""
        return self.transport.name

    def alloc(self, length: int, *, node: Node = None) -> DmaBuffer:
        """Allocate zeroed DMA memory; see :meth:`Controller.alloc`."""
        return self.dma.alloc(length, node=node)

    def warn(self, text: str) -> None:
        """Warn of what this device does not do, and work goes on without."""
        log.warning("%s: %s", self.name, text)
        warnings.warn(f"{self.name}: {text}", ControllerWarning, stacklevel=2)

    def close_transport(self) -> None:
        """Close the transport, while nobody reads a register."""
        with self.registers.lock:
            self.transport.close()

    # --- state --------------------------------------------------------------------------------

    def change_state(self, state: State) -> None:
        """Take a new state, unless the device is FAILED or further on and this is a step back."""
        with self._state_lock:
            before = self.state
            if before < State.FAILED or state > before:
                self.state = state
        if self.state is not before:
            bad = self.state in (State.FAILED, State.REMOVED)
            why = f": {self.failure}" if self.state is State.FAILED else ""
            log.log(
                logging.WARNING if bad else logging.INFO,
                *("%s: %s, was %s%s", self.name, self.state.name, before.name, why),
            )

    @property
    def usable(self) -> bool:
        """Whether new calls may begin; :meth:`check_open` says what stands in the way."""
        return self.state < State.FAILED and not self.closing

    @property
    def answers(self) -> bool:
        """Whether commands can be run at all, also those of its end."""
        return self.state < State.FAILED

    def check_open(self) -> None:
        """Raise what stands in the way of a new call."""
        if self.closing:
            raise self._closed()
        self.check_usable()

    def check_usable(self) -> None:
        """Raise what stands in the way of any command, also of those that are under way."""
        if self.state < State.FAILED:
            return
        self.check_owner()
        if self.state is State.CLOSED:
            raise self._closed()
        if self.state is State.REMOVED:
            raise self._gone()
        raise ControllerFatalError(f"{self.name} failed and can only be closed: {self.failure}")

    def check_owner(self) -> None:
        """Raise ForkedError in a child of the process that opened the device."""
        if self.state is State.FOREIGN:
            raise ForkedError(self.name, self.owner)

    def _closed(self) -> ClosedError:
        return ClosedError(f"{self.name} is closed: open it again")

    def _gone(self) -> DeviceRemovedError:
        return DeviceRemovedError(f"{self.name} is gone: open the device again when it is back")

    # --- health -------------------------------------------------------------------------------

    def check_present(self) -> None:
        """Raise DeviceRemovedError if the transport knows that the device is gone."""
        if not self.transport.alive():
            raise self._gone()

    def check_alive(self) -> None:
        """Look at the device: DeviceRemovedError if it is gone, ControllerFatalError where it
        reports a fatal error (CSTS.CFS), or is disabled (CC.EN, CSTS.RDY) behind our back.
        """
        self.check_present()
        csts = self.registers.read(CSTS)
        if csts.cfs:
            what = "reported a fatal error (CSTS.CFS)"
        elif not csts.rdy or not self.registers.read(CC).en:
            what = "was disabled by somebody else (CC.EN or CSTS.RDY is 0)"
        else:
            return
        raise ControllerFatalError(
            f"{self.name} {what} and was reset: what was outstanding can be tried again"
            if self.state is State.LIVE
            else f"{self.name} {what} while it was set up: reset the device, or power it off and on"
        )
