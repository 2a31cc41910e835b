"""Admin commands: the user's own, and those that the driver needs.

They run one at a time, since they are rare. The reset for one that is not answered is the business
of recovery.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypedDict

import numpy.typing as npt

from pynvme_user.dma import PAGE, BytesLike, as_bytes
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.device import Device, Recovery
from pynvme_user.driver.queue_pair import ABORT_SECONDS, RawQueuePair
from pynvme_user.errors import NvmeTimeoutError
from pynvme_user.spec.commands import (
    SQE,
    AbortCdw10,
    AbortResult,
    AdminOpcode,
    DataTransfer,
    FeatureId,
    IdentifyCdw10,
    IdentifyCdw11,
    NumberOfQueuesCdw11,
    NumberOfQueuesResult,
    NvmOpcode,
    SetFeaturesCdw10,
)
from pynvme_user.spec.status import Status

#: Commands after which a namespace may have another format or size, or be another one.
CHANGE_NAMESPACES = frozenset(
    (
        AdminOpcode.NAMESPACE_MANAGEMENT,
        AdminOpcode.FIRMWARE_COMMIT,
        AdminOpcode.NAMESPACE_ATTACHMENT,
        AdminOpcode.CAPACITY_MANAGEMENT,
        AdminOpcode.FORMAT_NVM,
        AdminOpcode.SANITIZE,
    )
)


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


class AdminCommands:
    """Runs commands on a controller's admin queue, each to its end.

    ``changing_namespaces`` is entered around a command after which namespaces may be others.
    """

    def __init__(
        self,
        device: Device,
        recovery: Recovery,
        pair: RawQueuePair,
        changing_namespaces: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._device = device
        self._recovery = recovery
        self._pair = pair
        self._changing_namespaces = changing_namespaces
        self._ended: Callable[[Status], None] = _ignore  # of the last command

    def execute(
        self,
        command: SQE,
        buffer: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        ended: Callable[[Status], None] | None = None,
    ) -> Completion:
        """Run a command and return its completion, whatever its status.

        ``buffer`` is DMA memory. Once ``timeout`` seconds, by default the controller's, have
        passed, the controller is reset; the completion tells. ``ended`` is called with its status,
        also where that is later, since ctrl-C or an error came in between. While the controller is
        being set up NvmeTimeoutError is raised instead.
        """
        seconds = self._device.timeout if timeout is None else timeout
        with self._device.admin_lock:
            # What ctrl-C or an error left comes to its end first: this command may depend on it.
            deadline = time.monotonic() + seconds
            while self._pair.outstanding:
                for done in self._wait(deadline, "an earlier command"):
                    self._ended(done.status)
            # Left by a reset that its own caller saw as an exception: not this command's end.
            self._pair.hand_over()
            changing = command.opc in CHANGE_NAMESPACES
            with self._changing_namespaces() if changing else nullcontext():
                self._ended = ended or _ignore
                cid = self._pair.submit(command, buffer)
                deadline = time.monotonic() + seconds
                while True:
                    for done in self._wait(deadline, describe(command, admin=True)):
                        if done.cid == cid:
                            self._ended(done.status)
                            self._ended = _ignore
                            return done

    def _wait(self, deadline: float, what: str) -> list[Completion]:
        """Wait for completions; without any up to the deadline the controller is reset."""
        done = self._pair.wait(max(0.0, deadline - time.monotonic()))
        if not done and time.monotonic() > deadline:
            self._pair.mark_overdue()
            self._recovery.reset(NvmeTimeoutError(f"{what} was not answered in its time"))
        return done

    def run(
        self,
        command: SQE,
        buffer: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        *,
        ended: Callable[[Status], None] | None = None,
    ) -> Completion:
        """Run a command as :meth:`execute`; raise what its status says."""
        done = self.execute(command, buffer, timeout, ended)
        check(done.status, describe(command, admin=True), done.timed_out)
        return done

    def identify(self, cns: int, *, nsid: int = 0, csi: int = 0) -> bytes:
        """Return the 4096 bytes of an Identify data structure (Base 2.0, section 5.17)."""
        page = self._device.alloc(PAGE)
        command = SQE.build(
            opc=AdminOpcode.IDENTIFY,
            nsid=nsid,
            cdw10=IdentifyCdw10.build(cns=cns),
            cdw11=IdentifyCdw11.build(csi=csi),
        )
        self.run(command, page)
        return page.tobytes()

    def abort(self, sqid: int, cid: int) -> bool:
        """Ask for a command's abort; see :meth:`Controller.abort` (Base 2.0, section 5.1)."""
        command = SQE.build(opc=AdminOpcode.ABORT, cdw10=AbortCdw10.build(sqid=sqid, cid=cid))
        done = self.execute(command, timeout=ABORT_SECONDS)
        return done.status.ok and not AbortResult(done.result).ianp

    def request_queues(self, count: int) -> int:
        """Ask for so many I/O queue pairs; return how many of each kind are granted (5.27.1.5)."""
        command = SQE.build(
            opc=AdminOpcode.SET_FEATURES,
            cdw10=SetFeaturesCdw10.build(fid=FeatureId.NUMBER_OF_QUEUES),
            cdw11=NumberOfQueuesCdw11.build(nsqr=count - 1, ncqr=count - 1),
        )
        granted = NumberOfQueuesResult(self.run(command).result)
        return min(granted.nsqa, granted.ncqa) + 1


def _ignore(status: Status) -> None:
    """Nobody is told of a command's end besides its caller."""


@contextmanager
def reachable(
    device: Device, command: SQE, buffer: BytesLike | None
) -> Iterator[npt.NDArray[Any] | None]:
    """Give a command's buffer itself where the device reaches it, else a copy, both ways."""
    if buffer is None:
        yield None
        return
    array = as_bytes(buffer)
    if array.nbytes > device.max_transfer:
        raise ValueError(
            f"one command carries up to {device.max_transfer} bytes, not {array.nbytes}"
        )
    iova = device.dma.iova(array)
    if iova is not None and iova % 4 == 0:
        yield array
        return
    to_host = command.opc & DataTransfer.CONTROLLER_TO_HOST
    if to_host and not array.flags.writeable:
        raise ValueError("the command's data comes from the controller: give a writable buffer")
    bounce = device.alloc(array.nbytes)
    bounce[:] = array
    yield bounce
    if to_host:
        array[:] = bounce


def describe(command: SQE, *, admin: bool) -> str:
    """Name a command for an error message."""
    table: type[AdminOpcode] | type[NvmOpcode] = AdminOpcode if admin else NvmOpcode
    try:
        name = table(command.opc).name.replace("_", " ").title()
    except ValueError:
        name = "Vendor specific or unknown command"
    return f"{name} (opcode {command.opc:#04x}, nsid {command.nsid:#x})"
