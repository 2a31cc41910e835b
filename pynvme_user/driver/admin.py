"""Admin commands: the user's own, and those that the driver needs.

Many may be under way, each with its own deadline: an event request, a Format of ten minutes and an
Abort live side by side. What becomes of one that is overdue is decided in recovery.py.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypedDict

import numpy.typing as npt

from pynvme_user.dma import PAGE, BytesLike, DmaBuffer, as_bytes
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.device import Device, Recovery, State
from pynvme_user.driver.queue_pair import RawQueuePair
from pynvme_user.errors import (
    ClosedError,
    DeviceRemovedError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueueFullError,
)
from pynvme_user.logs import logger
from pynvme_user.spec.admin import (
    AbortCdw10,
    AbortResult,
    GetLogPageCdw10,
    IdentifyCdw10,
    IdentifyCdw11,
)
from pynvme_user.spec.commands import NSID_ALL, SQE, AdminOpcode, DataTransfer, NvmOpcode
from pynvme_user.spec.feature_dwords import NumberOfQueuesCdw11, NumberOfQueuesResult
from pynvme_user.spec.features import FeatureId, SetFeaturesCdw10
from pynvme_user.spec.logs import CommandEffectsLog, LogId
from pynvme_user.spec.status import Status
from pynvme_user.spec.support import may_cancel, unsupported_io

log = logger(__name__)

#: A call polls for this long at first, then again and again after a pause.
_SLICE_NS = 10_000_000
_PAUSE_SECONDS = 0.001
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
    """The fields of a raw command (Base 2.0, section 3.3.3.1); ``flags`` is byte 1.

    ``mptr`` is where its metadata lies, ``iova`` of a DmaBuffer that the caller keeps.
    """

    nsid: int
    flags: int
    cdw2: int
    cdw3: int
    mptr: int
    cdw10: int
    cdw11: int
    cdw12: int
    cdw13: int
    cdw14: int
    cdw15: int


class AdminRequest:
    """An admin command under way, made by :meth:`Controller.admin_async`.

    Any thread may wait for it. Its outcome is kept until then, whoever found it.
    """

    def __init__(
        self,
        queue: AdminQueue,
        command: SQE,
        timeout: float | None,
        ended: Callable[[Status], None] | None,
        *,
        call: bool,
    ) -> None:
        self.command = command
        self.raw = bytes(command)
        self.opcode = self.raw[0]
        self.cid = -1  # until it is submitted
        #: Its completion, whatever its status; None as long as it is not known.
        self.completion: Completion | None = None
        self.deadline = time.monotonic() + (queue.timeout if timeout is None else timeout)
        #: When its abort was asked for, because it was overdue.
        self.aborted_at: float | None = None
        self.call = call  # a call waits for it
        self.left = False  # which ctrl-C or an error ended before
        self._queue = queue
        self._ended = ended

    def wait(self, timeout: float | None = None) -> Completion | None:
        """Wait up to ``timeout`` seconds, by default to its end; None if that does not come.

        The completion is returned whatever its status is. A command that takes longer than its own
        timeout is aborted, then the controller reset. Raises DeviceRemovedError,
        ControllerFatalError, and ClosedError once the controller is closed.
        """
        return self._queue.wait(self, None if timeout is None else time.monotonic() + timeout)

    def check(self) -> Completion:
        """Wait to its end and return its completion; raise NvmeStatusError for an error status,
        NvmeTimeoutError where it was given up, and as :meth:`wait`.
        """
        done = self._queue.finish(self)
        check(done.status, describe(self.command, admin=True), done.timed_out)
        return done

    def abort(self) -> bool:
        """Ask for its abort; see :meth:`Controller.abort`. False, too, if it has ended."""
        return self.completion is None and self._queue.abort(0, self.cid)

    def complete(self, done: Completion) -> None:
        """Take its outcome, for the queue. A second time does no harm."""
        if self._ended is not None:
            self._ended(done.status)
        if self.aborted_at is not None and not done.status.ok:
            done = done._replace(timed_out=True)
        self.completion = done

    def __repr__(self) -> str:
        state = "under way" if self.completion is None else repr(self.completion.status)
        return f"<AdminRequest: {describe(self.command, admin=True)}, {state}>"


class AdminQueue:
    """Runs commands on a controller's admin queue: many at a time, from any thread.

    Whoever waits for one polls for all. ``changing_namespaces`` is entered around the submission of
    a command after which namespaces may be others.
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
        #: Requests under way, by the index of their CID; perhaps some that were never sent.
        self._requests: dict[int, AdminRequest] = {}
        self._interrupted = False  # whether some of them may be left

    @property
    def timeout(self) -> float:
        """What a command may take, in seconds, that has no time of its own."""
        return self._device.timeout

    # --- submission ---------------------------------------------------------------------------

    def submit(
        self,
        command: SQE,
        buffer: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        ended: Callable[[Status], None] | None = None,
    ) -> AdminRequest:
        """Submit a command. ``buffer`` is DMA memory.

        Once ``timeout`` seconds, by default the controller's, have passed it is overdue: see
        recovery.py. ``ended`` is called with its status by whoever finds it. Waits as long as the
        queue is full, up to the same time, then raises QueueFullError; else as
        :meth:`RawQueuePair.submit`.
        """
        request = AdminRequest(self, command, timeout, ended, call=False)
        try:
            self._submit(request, buffer)
            return request
        except BaseException:
            with self._pair.held():
                self._drop_unsent()
            raise

    def _submit(self, request: AdminRequest, buffer: npt.NDArray[Any] | None) -> None:
        changing = request.opcode in CHANGE_NAMESPACES
        pair = self._pair
        while True:
            with self._changing_namespaces() if changing else nullcontext(), pair.held():
                if pair.unclaimed:  # before an index is used again, its last outcome is handed over
                    pair.hand_out(self._complete)
                with suppress(QueueFullError):
                    request.cid = pair.post(request.raw, buffer, self._requests, request)
                    return
            if time.monotonic() > request.deadline:
                raise QueueFullError(
                    f"{pair.depth} admin commands are outstanding: wait for one of them"
                )
            time.sleep(_PAUSE_SECONDS)
            self._poll(0)

    # --- completion ---------------------------------------------------------------------------

    def wait(self, request: AdminRequest, until: float | None = None) -> Completion | None:
        """Wait for a request's end, or up to a time; see :meth:`AdminRequest.wait`."""
        try:
            if request.completion is None:
                self._poll(_SLICE_NS if until is None else 0)
            while request.completion is None and (until is None or time.monotonic() < until):
                time.sleep(_PAUSE_SECONDS)  # the queue is others' in between
                self._poll(0)
        except (ClosedError, DeviceRemovedError):
            if request.completion is None:  # else another thread has found it meanwhile
                raise
        return request.completion

    def finish(self, request: AdminRequest) -> Completion:
        """Wait for a request's end."""
        done = None
        while done is None:
            done = self.wait(request)
        return done

    def _poll(self, wait_ns: int) -> None:
        """Look for completions, which others may wait for, and deal with what is overdue."""
        self._pair.hand_out(self._complete, wait_ns)
        now = time.monotonic()
        for request in list(self._requests.values()):
            if now > request.deadline and request.cid >= 0 and request.completion is None:
                self._expire(request, now)

    def _complete(self, done: Completion) -> None:
        index = done.cid & self._pair.index_mask
        request = self._requests.get(index)
        if request is not None and request.cid in (done.cid, -1):
            request.complete(done)
            self._requests.pop(index, None)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s: %r", self._device.name, request)

    def _expire(self, request: AdminRequest, now: float) -> None:
        """Leave an overdue command to recovery."""
        name = describe(request.command, admin=True)
        waited: float | None = None if request.aborted_at is None else now - request.aborted_at
        if request.opcode == AdminOpcode.ABORT or self._device.state is not State.LIVE:
            waited = math.inf  # no abort will help it
        if request.aborted_at is None:
            request.aborted_at = now
        late = NvmeTimeoutError(
            f"{name} was not answered in its time: reset the device, or power it off and on"
        )
        self._recovery.overdue(0, request.cid, name, waited, late)

    def submit_abort(self, sqid: int, cid: int) -> AdminRequest:
        """Ask for a command's abort, without waiting for the answer (Base 2.0, section 5.1)."""
        command = SQE.build(opc=AdminOpcode.ABORT, cdw10=AbortCdw10.build(sqid=sqid, cid=cid))
        return self.submit(command, timeout=self._device.abort_seconds)

    # --- to the end ---------------------------------------------------------------------------

    def execute(
        self,
        command: SQE,
        buffer: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        ended: Callable[[Status], None] | None = None,
    ) -> Completion:
        """Run a command to its end and return its completion, whatever its status.

        As :meth:`submit`. ``ended`` is called, too, where the end comes after ctrl-C or an error.
        While the controller is being set up, NvmeTimeoutError is raised for one that is overdue.
        """
        if self._interrupted:
            self._finish_left()
        request = AdminRequest(self, command, timeout, ended, call=True)
        try:
            self._submit(request, buffer)
            done = self.wait(request)
            assert done is not None  # having no end but its own
            return done
        except BaseException:
            request.left = self._interrupted = True
            raise

    def _finish_left(self) -> None:
        """Bring what ctrl-C or an error left to its end: the next command may depend on it."""
        deadline = time.monotonic() + self._device.timeout
        while True:
            with self._pair.held():
                self._drop_unsent()
                if not any(request.left for request in self._requests.values()):
                    self._interrupted = False
                    return
            self._poll(_SLICE_NS)
            if time.monotonic() > deadline:
                self._recovery.reset(
                    NvmeTimeoutError(
                        "an earlier command was not answered in its time: reset the device, or "
                        "power it off and on"
                    )
                )

    def _drop_unsent(self) -> None:
        """Drop the requests whose submission did not come to its end; while held."""
        self._pair.hand_out(self._complete)
        for index in list(self._requests):
            if not self._pair.is_outstanding(index):
                del self._requests[index]

    def finish_calls(self) -> None:
        """Wait until no call of another thread is under way; for the controller's end."""
        for request in list(self._requests.values()):
            if request.call and not request.left:
                self.finish(request)

    def finish_changes(self) -> None:
        """Wait until no command is under way after which namespaces may be others."""
        for request in list(self._requests.values()):
            if request.opcode in CHANGE_NAMESPACES:
                if request.left:
                    self._finish_left()
                else:
                    self.finish(request)

    @contextmanager
    def unchanging_namespaces(self) -> Iterator[None]:
        """Hold the admin lock while no such command is under way: for who identifies them."""
        while True:
            self.finish_changes()
            with self._device.admin_lock:
                changing = (request.opcode for request in list(self._requests.values()))
                if CHANGE_NAMESPACES.isdisjoint(changing):
                    yield
                    return

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
        if not done.status.ok:
            check(done.status, describe(command, admin=True), done.timed_out)
        return done

    def identify(
        self,
        cns: int,
        *,
        nsid: int = 0,
        cntid: int = 0,
        cnssid: int = 0,
        csi: int = 0,
        uuid_index: int = 0,
    ) -> bytes:
        """Return the 4096 bytes of an Identify data structure; see :meth:`Pages.identify_page`."""
        page = self._device.alloc(PAGE)
        command = SQE.build(
            opc=AdminOpcode.IDENTIFY,
            nsid=nsid,
            cdw10=IdentifyCdw10.build(cns=cns, cntid=cntid),
            cdw11=IdentifyCdw11.build(cnssid=cnssid, csi=csi),
            cdw14=uuid_index,
        )
        self.run(command, page)
        return page.tobytes()

    def has_cancel(self) -> bool:
        """Ask whether the controller has Cancel, by its Commands Supported and Effects log."""
        identify = self._device.identify
        if not may_cancel(identify):
            return False
        page = self._device.alloc(CommandEffectsLog.size)
        command = SQE.build(
            opc=AdminOpcode.GET_LOG_PAGE,
            nsid=NSID_ALL,
            cdw10=GetLogPageCdw10.build(lid=LogId.COMMAND_EFFECTS, numdl=page.nbytes // 4 - 1),
        )
        try:
            self.run(command, page)
        except NvmeStatusError:
            return False
        effects = CommandEffectsLog.from_bytes(page.tobytes())
        return unsupported_io(identify, NvmOpcode.CANCEL, effects) is None

    def abort(self, sqid: int, cid: int) -> bool:
        """Ask for a command's abort; see :meth:`Controller.abort` (Base 2.0, section 5.1)."""
        done = self.finish(self.submit_abort(sqid, cid))
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


def reachable(
    device: Device, command: SQE, buffer: BytesLike | None
) -> tuple[npt.NDArray[Any] | None, Callable[[], None]]:
    """Give a command's buffer itself where the device reaches it, else a copy.

    And what is to be called at the command's end: it copies what came from the controller back.
    """
    if buffer is None:
        return None, _nothing
    array: npt.NDArray[Any] = buffer if type(buffer) is DmaBuffer else as_bytes(buffer)
    if array.nbytes > device.max_transfer:
        raise ValueError(
            f"one command carries up to {device.max_transfer} bytes, not {array.nbytes}"
        )
    if type(array) is DmaBuffer and array.mapping[0] is device.dma:
        return array, _nothing  # its address is known, and a multiple of 4
    iova = device.dma.iova(array, command.opc)
    if iova is not None and iova % 4 == 0:
        return array, _nothing
    array = as_bytes(array)
    to_host = command.opc & DataTransfer.CONTROLLER_TO_HOST
    if to_host and not array.flags.writeable:
        raise ValueError("the command's data comes from the controller: give a writable buffer")
    bounce = device.alloc(array.nbytes)
    bounce[:] = array

    def copy_back() -> None:
        array[:] = bounce

    return bounce, copy_back if to_host else _nothing


def _nothing() -> None:
    """Do nothing at a command's end."""


def describe(command: SQE, *, admin: bool) -> str:
    """Name a command for an error message."""
    table: type[AdminOpcode] | type[NvmOpcode] = AdminOpcode if admin else NvmOpcode
    opcode = command.opc
    try:
        name = table(opcode).name.replace("_", " ").title()
    except ValueError:
        name = "Vendor specific or unknown command"
    return f"{name} (opcode {opcode:#04x}, nsid {command.nsid:#x})"
