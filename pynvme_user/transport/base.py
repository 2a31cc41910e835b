"""The seam: what the driver needs of a way to a controller, whichever NVMe transport that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pynvme_user.dma import DmaBuffer, DmaPool
from pynvme_user.host.numa import Node
from pynvme_user.links import DoorbellTarget, Interrupt
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.registers import CAP
from pynvme_user.spec.status import Status
from pynvme_user.transport.controller_memory import ControllerMemoryBuffer, RegisterFile
from pynvme_user.transport.persistent_memory import PersistentMemoryRegion


class Properties(Protocol):
    """The controller's properties, as offsets and widths (Base 2.0, section 3.1.3)."""

    def read(self, offset: int, width: int) -> int:
        """Read ``width`` bytes (4 or 8) at ``offset``, little-endian."""

    def write(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` bytes (4 or 8) at ``offset``, little-endian."""


class RunAdmin(Protocol):
    """Runs an admin command to its end, and raises what its status says."""

    def __call__(self, command: SQE, *, ended: Callable[[Status], None] | None = None) -> object:
        """Call ``ended`` with its status, too, also where that is known only after an error."""


class Queue(Protocol):
    """One queue pair's part of a transport: its rings and PRP lists, and how C rings and waits."""

    qid: int
    depth: int  # commands outstanding at most
    sq_entries: int
    cq_entries: int
    sq: DmaBuffer
    cq: DmaBuffer
    prp_lists: DmaBuffer  # one for each command
    prp_list_entries: int
    sq_doorbell: DoorbellTarget
    cq_doorbell: DoorbellTarget
    interrupt: Interrupt | None  # None: poll
    spin: float  # seconds, before a wait sleeps

    @property
    def shadow(self) -> tuple[DmaBuffer, DmaBuffer] | None:
        """Shadow doorbells and event indices, where it has them."""

    def restart(self, max_transfer: int) -> None:
        """Begin anew, with empty rings and unknown to the controller, whose DMA has stopped."""

    def connect(self, run: RunAdmin) -> None:
        """Create it at the controller."""

    def disconnect(self, run: RunAdmin) -> None:
        """Delete what :meth:`connect` created, or may have created. Its id may be used again."""

    def free(self) -> None:
        """Give its memory back; the device no longer uses it."""


class Transport(Protocol):
    """A way to one controller, which owns it and closes it last."""

    name: str  # the device name under which it was opened
    properties: Properties
    memory: DmaPool
    max_transfer: int  # bytes that one command carries at most, whatever MDTS says
    request_fd: int | None  # an eventfd: the kernel wants the device back, so close it
    error_fd: int | None  # an eventfd: the device had an uncorrectable error, so reset it

    def admin_queue(self, depth: int, cap: CAP) -> Queue:
        """Make the admin queue, which is polled."""

    def enable_admin_queue(self, queue: Queue, registers: RegisterFile) -> None:
        """Let a disabled controller know of its admin queue, and of its own memory in use."""

    def set_up(
        self, identify: IdentifyController, cap: CAP, run: RunAdmin, warn: Callable[[str], None]
    ) -> None:
        """Do what each enable needs, and ``warn`` of what is refused and can be done without."""

    def queue(
        self,
        qid: int,
        depth: int,
        cap: CAP,
        *,
        of: int,
        spin: float,
        node: Node,
        cmb: Mapping[str, ControllerMemoryBuffer],
    ) -> Queue:
        """Make one of ``of`` I/O queues; ``cmb`` has the parts of it ("sqs", "cqs", "lists") that
        lie there. Raises DeviceAccessError where its waits cannot sleep.
        """

    def memory_buffer(self, registers: RegisterFile) -> ControllerMemoryBuffer:
        """Give the Controller Memory Buffer, once it is enabled. Raises NotSupportedError where
        there is none, DeviceAccessError where it cannot be reached.
        """

    def persistent_memory(
        self, registers: RegisterFile, warn: Callable[[str], None]
    ) -> PersistentMemoryRegion:
        """Enable the Persistent Memory Region, which the caller closes. Raises likewise."""

    def sibling(self, number: int) -> Transport:
        """Open the way to another controller of the same device name, with the same options.

        Raises DeviceAccessError where there is none, DeviceBusyError where it is open.
        """

    def reset(self) -> None:
        """Reset the controller by other means than CC.EN, so that its DMA has stopped."""

    def alive(self) -> bool:
        """Tell whether the device can still be there."""

    def close(self) -> None:
        """Stop DMA and give the device back. Safe to call twice."""
