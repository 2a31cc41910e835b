"""The software controller of pynvme_user.testing, which tests tell what to do by attributes.

It fails to become ready, reports a fatal error, disappears, keeps commands for ever, aborts them or
does not. Each command is answered in Python; all else is in C.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

from pynvme_user.access.base import DmaRegion
from pynvme_user.dma import PAGE
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host.numa import Placement
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import EntrySizes
from pynvme_user.spec.registers import CAP, CC, CRTO, CSTS, VS, ShutdownNotification
from pynvme_user.spec.status import Status
from pynvme_user.testing import Command, Outcome, SoftDevice, faults

BLOCKS = 1000
OK = Status(0)
_AT = {kind: kind.offset or 0 for kind in (CAP, VS, CC, CSTS, CRTO)}
_CSS = int(CC.build(css=7))


class SoftController(SoftDevice):
    """A device without storage; what it does wrong are attributes."""

    def __init__(
        self, *, dstrd: int = 0, mpsmin: int = 0, queues: tuple[int, int] = (4, 4)
    ) -> None:
        super().__init__(f"?driver=null-co&max_ioqpairs=511&dstrd={dstrd}")
        self.name = "soft"
        self.interrupt_vectors = 0
        self._bar0, self.registers = self.registers, self
        self.size = self._bar0.size
        self.cap = CAP.build(mqes=63, to=1, css=1, dstrd=dstrd, mpsmin=mpsmin, mpsmax=mpsmin)
        self.queues_granted = queues
        self.crto = CRTO(0)
        self.bus_resets = True
        #: Tells what becomes of an I/O command; None keeps it for ever.
        self.io: Callable[[SQE], Status | Outcome | None] = lambda _: OK
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
        #: What registers say, whatever is so, until the controller is disabled or reset.
        self.forced: dict[int, int] = {}
        self._wrong: dict[str, bool] = {}
        self._css = 0
        self._cc_at_end: CC | None = None
        self._regions: list[DmaRegion] = []
        #: The command that is answered, and what becomes of the controller after that.
        self._command: Command | None = None
        self._outcome: Outcome | None = None
        self.order(faults.answer(self._answer_io))
        self.order(faults.answer(self._answer_admin), admin=True)

    # --- what it does wrong besides commands ----------------------------------------------------

    def _quirk(name: str, *, good: bool) -> Any:  # type: ignore[misc]
        def get(self: SoftController) -> bool:
            return self._wrong.get(name, False) != good

        def set(self: SoftController, value: bool) -> None:
            self._wrong[name] = value != good
            if self._command is None:
                self.misbehave(**self._wrong)
            elif value:  # of those, gone alone is set in an answer
                self._outcome = Outcome.GONE

        return property(get, set)

    becomes_ready = _quirk("never_ready", good=True)
    becomes_disabled = _quirk("never_disabled", good=True)
    fatal_when_enabled = _quirk("fatal_when_enabled", good=False)
    shuts_down = _quirk("never_shut_down", good=True)
    gone = _quirk("gone", good=False)

    def fail(self) -> None:
        """Report a fatal error, and do nothing more."""
        if self._command is None:
            super().fail()
        else:
            self._outcome = Outcome.FATAL

    # --- the seam -----------------------------------------------------------------------------

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        region = super().allocate_dma(length, placement)
        self._regions.append(region)
        return region

    def reset(self) -> None:
        self.log.append("bus reset")
        if not self.bus_resets:
            raise DeviceAccessError("soft cannot be reset: close it and open it again")
        self.stop_dma()

    def stop_dma(self) -> None:
        """What a reset by the bus does."""
        self.forced.clear()
        super().reset()

    def close(self) -> None:
        self.log.append("closed")
        if self._cc_at_end is None:
            self._cc_at_end = self._cc
        super().close()

    # --- registers ----------------------------------------------------------------------------

    @property
    def _cc(self) -> CC:
        return CC(self.read(_AT[CC], 4)) if self._cc_at_end is None else self._cc_at_end

    @_cc.setter
    def _cc(self, value: CC) -> None:
        self.forced[_AT[CC]] = int(value)

    @property
    def _csts(self) -> CSTS:
        return CSTS(self.read(_AT[CSTS], 4))

    @_csts.setter
    def _csts(self, value: CSTS) -> None:
        self.forced[_AT[CSTS]] = int(value)

    def read(self, offset: int, width: int) -> int:
        value = self._bar0.read(offset, width)
        if self.gone or value == (1 << 8 * width) - 1:
            return (1 << 8 * width) - 1
        says = {_AT[CAP]: self.cap, _AT[VS]: self.version, _AT[CRTO]: self.crto} | self.forced
        if offset == _AT[CC]:
            value |= self._css
        return int(says.get(offset, value))

    def write(self, offset: int, width: int, value: int) -> None:
        if self.gone:
            return
        if offset != _AT[CC]:
            self._bar0.write(offset, width, value)
            return
        before, after = self._cc, CC(value)
        if after.en and not before.en:
            self.log.append("enable")
        elif before.en and not after.en:
            self.log.append("disable")
            self.on_disable()
            if self.becomes_disabled:
                self.forced.clear()
        if after.shn != ShutdownNotification.NONE:
            self.log.append("shutdown")
        if offset in self.forced:
            self.forced[offset] = value
        # The C controller has one command set, whatever CAP says here.
        self._css = value & _CSS
        self._bar0.write(offset, width, value & ~_CSS)

    def enable_by_somebody(self, cc: CC) -> None:
        """Let the controller be as somebody has left it: enabled, with an admin queue."""
        asq, acq = super().allocate_dma(PAGE), super().allocate_dma(PAGE)
        self._bar0.write(0x24, 4, 0x003F003F)
        self._bar0.write(0x28, 8, asq.iova)
        self._bar0.write(0x30, 8, acq.iova)
        self.write(_AT[CC], 4, int(cc.replace(iosqes=6, iocqes=4)))

    # --- commands -----------------------------------------------------------------------------

    @property
    def qid(self) -> int:
        """The queue of the command that is answered."""
        assert self._command is not None
        return self._command.qid

    @property
    def _queues(self) -> dict[int, int]:
        return {qid: qid for qid in sorted(self.queues[0])}

    def _answer_io(self, command: Command) -> Status | Outcome:
        return self._answered(command, self.io, Outcome.KEEP)

    def _answer_admin(self, command: Command) -> Status | Outcome:
        return self._answered(command, self._run_admin, Outcome.KEEP)

    def _answered(
        self, command: Command, tell: Callable[[SQE], Status | Outcome | None], none: Outcome
    ) -> Status | Outcome:
        self._command, self._outcome = command, None
        try:
            said = tell(command.sqe)
        finally:
            self._command = None
        return self._outcome or (none if said is None else said)

    def _run_admin(self, sqe: SQE) -> Status | Outcome | None:
        status = self.admin(sqe)
        if status is None or not status.ok:
            return status
        assert self._command is not None
        match sqe.opc:
            case AdminOpcode.IDENTIFY:
                self.fill(sqe, self.identify(sqe) or self._page(sqe))
            case AdminOpcode.GET_LOG_PAGE:
                self.fill(sqe, self.log_page[: 4 * ((sqe.cdw10 >> 16 | sqe.cdw11 << 16) + 1)])
            case AdminOpcode.FIRMWARE_DOWNLOAD:
                self.given = self.data(sqe, 4 * (sqe.cdw10 + 1))
            case AdminOpcode.SET_FEATURES if sqe.cdw10 == FeatureId.NUMBER_OF_QUEUES:
                sqs, cqs = self.queues_granted
                self._command.dw0 = sqs - 1 | (cqs - 1) << 16
            case (
                AdminOpcode.CREATE_IO_CQ
                | AdminOpcode.CREATE_IO_SQ
                | AdminOpcode.DELETE_IO_CQ
                | AdminOpcode.DELETE_IO_SQ
            ):
                return Outcome.EXECUTE
            case AdminOpcode.ABORT:
                self.log.append("abort")
                if self.abort_answer:
                    return Outcome.EXECUTE
                self._command.dw0 = 1
                return None if self.abort_answer is None else OK
        return status

    def complete(self, qid: int, sqe: SQE, status: Status) -> None:
        """Complete a command that is kept; post a completion for one that is not."""
        if self._command is not None:
            assert qid == self.qid
            self._command.post(sqe.cid, status)
        elif (qid, sqe.cid) in [(at, kept.cid) for at, kept in self.kept]:
            self.end(qid, sqe.cid, status)
        else:
            self.post(qid, sqe.cid, status)

    # --- data ---------------------------------------------------------------------------------

    def host(self, iova: int, length: int) -> memoryview:
        """The host's memory, as the device sees it; fails where nothing is mapped."""
        for region in self._regions:
            offset = iova - region.iova
            if offset >= 0 and offset + length <= region.length:
                memory = (ctypes.c_ubyte * length).from_address(region.address + offset)
                return memoryview(memory).cast("B")
        raise AssertionError(f"DMA to {iova:#x}, which is not mapped")

    def fill(self, sqe: SQE, data: bytes) -> None:
        """Move data to the memory of the command that is answered."""
        assert self._command is not None
        assert self._command.sqe == sqe
        if sqe.flags.psdt:  # a data block, which may be longer
            self.host(sqe.prp1, len(data))[:] = data
        elif data:
            status = self._command.fill(data)
            assert status.ok, status.text

    def data(self, sqe: SQE, length: int) -> bytes:
        """Return the data of that command's memory."""
        assert self._command is not None
        assert self._command.sqe == sqe
        if sqe.flags.psdt:
            assert sqe.prp2 & 0xFFFFFFFF >= length
            return bytes(self.host(sqe.prp1, length))
        return self._command.data(length)

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


def record(soft: SoftController, answer: Callable[[SQE], Any] = lambda _: OK) -> list[SQE]:
    """Note the commands that the device gets."""
    seen: list[SQE] = []

    def look(sqe: SQE) -> Any:
        seen.append(sqe)
        return answer(sqe)

    soft.io = look
    return seen


def keep_reads(sqe: SQE) -> Status | None:
    """Keep reads for ever; complete all else."""
    return None if sqe.opc == NvmOpcode.READ else OK
