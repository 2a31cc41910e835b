"""The model of one controller: it is asked about commands, and has each executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pynvme_user.errors import DeviceNameError
from pynvme_user.spec.commands import AdminOpcode, Fuse, NvmOpcode
from pynvme_user.spec.directives import DirectiveType
from pynvme_user.spec.events import AsyncEventType, NoticeEvent
from pynvme_user.spec.feature_dwords import AsyncEventConfigCdw11
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.logs import ErrorLogEntry, ErrorStatus, LogId, SelfTestOutcome
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.spec.zns import ZoneState
from pynvme_user.testing.core import Core
from pynvme_user.testing.faults import Command, Outcome
from pynvme_user.testing.model import (
    copying,
    directives,
    features,
    identify,
    logs,
    namespaces,
    nvm,
    operations,
    placement,
    support,
)
from pynvme_user.testing.model.reclaim import Configuration
from pynvme_user.testing.model.state import (
    ENDURANCE_GROUP,
    Controller,
    Refused,
    Subsystem,
    require,
)
from pynvme_user.testing.model.zones import Zones
from pynvme_user.testing.settings import Settings

Handler = Callable[[Controller, Command], Outcome | None]

ADMIN_COMMANDS: dict[int, Handler] = {
    AdminOpcode.GET_LOG_PAGE: logs.get_log_page,
    AdminOpcode.IDENTIFY: identify.identify,
    AdminOpcode.SET_FEATURES: features.set_features,
    AdminOpcode.GET_FEATURES: features.get_features,
    AdminOpcode.NAMESPACE_MANAGEMENT: namespaces.manage,
    AdminOpcode.NAMESPACE_ATTACHMENT: namespaces.attach,
    AdminOpcode.FIRMWARE_COMMIT: operations.commit,
    AdminOpcode.FIRMWARE_DOWNLOAD: operations.download,
    AdminOpcode.DEVICE_SELF_TEST: operations.self_test,
    AdminOpcode.KEEP_ALIVE: support.keep_alive,
    AdminOpcode.DIRECTIVE_SEND: directives.directive_send,
    AdminOpcode.DIRECTIVE_RECEIVE: directives.directive_receive,
    AdminOpcode.VIRTUALIZATION_MANAGEMENT: support.virtualization,
    AdminOpcode.NVME_MI_SEND: support.management_send,
    AdminOpcode.NVME_MI_RECEIVE: support.management_receive,
    AdminOpcode.CAPACITY_MANAGEMENT: namespaces.capacity,
    AdminOpcode.LOCKDOWN: support.lockdown,
    AdminOpcode.FORMAT_NVM: namespaces.format_nvm,
    AdminOpcode.SECURITY_SEND: support.security_send,
    AdminOpcode.SECURITY_RECEIVE: support.security_receive,
    AdminOpcode.SANITIZE: operations.sanitize,
    AdminOpcode.GET_LBA_STATUS: support.lba_status,
}
IO_COMMANDS: dict[int, Handler] = {**nvm.COMMANDS, NvmOpcode.COPY: copying.copy}


class Model:
    """Asked in the controller's thread; what it is told to do comes from any thread.

    The commands of a subsystem are executed one at a time.
    """

    def __init__(self, ctrl: Controller) -> None:
        self.ctrl = ctrl
        self.refresh()
        ctrl.core.model = self.answer

    @property
    def subsystem(self) -> Subsystem:
        """What it shares with other controllers."""
        return self.ctrl.subsystem

    @property
    def cntlid(self) -> int:
        """Its controller id."""
        return self.ctrl.cntlid

    def set_log(self, lid: int, page: bytes) -> None:
        """Give what Get Log Page returns for a log identifier, from now on."""
        self.ctrl.pages[lid] = bytes(page)

    def set_temperature(self, kelvins: int) -> None:
        """Be of that temperature; one beyond a threshold is an event."""
        with self.subsystem.lock:
            self.ctrl.temperature = kelvins
            features.check_temperature(self.ctrl)
        self.ctrl.look()

    def set_telemetry(self, data: bytes) -> None:
        """Have telemetry of its own to tell (Telemetry Controller-Initiated), and an event."""
        ctrl = self.ctrl
        with self.subsystem.lock:
            ctrl.telemetry_number = (ctrl.telemetry_number + 1) & 0xFF
            ctrl.own_telemetry = ctrl.telemetry_number, bytes(data)
            config = features.value_of(ctrl, FeatureId.ASYNC_EVENT_CONFIG)[0]
            if AsyncEventConfigCdw11(config).tln:
                ctrl.report(
                    AsyncEventType.NOTICE,
                    NoticeEvent.TELEMETRY_LOG_CHANGED,
                    LogId.TELEMETRY_CONTROLLER,
                )
        ctrl.look()

    def fail_next_sanitize(self) -> None:
        """Let the next sanitize operation fail."""
        self.subsystem.fail_next_sanitize = True

    def set_zone_state(self, nsid: int, lba: int, state: ZoneState) -> None:
        """Let a zone be read-only or offline, as the controller may by itself."""
        with self.subsystem.lock:
            self.subsystem.namespaces[nsid].zones.of(lba).state = state

    def reallocate(self, nsid: int, lba: int, blocks: int) -> None:
        """Move blocks to another reclaim unit, which is an event: as garbage collection does."""
        with self.subsystem.lock:
            placement.reallocate(self.ctrl, self.subsystem.namespaces[nsid], lba, blocks)

    def leave(self) -> None:
        """Be in the subsystem no more."""
        self.subsystem.leave(self.ctrl)

    def answer(self, call: Any) -> int:
        """Execute a command: return its status or an outcome."""
        command, ctrl = Command(call), self.ctrl
        try:
            with ctrl.subsystem.lock:
                return self._said(command, int(call.resets))
        finally:
            if ctrl.pending and command.sqe.opc != AdminOpcode.ASYNC_EVENT_REQUEST:
                ctrl.core.ask_events()

    def _said(self, command: Command, resets: int) -> int:
        ctrl = self.ctrl
        if ctrl.resets != resets:
            self._reset(resets)
        operations.finish(ctrl)
        try:
            outcome = self._execute(command)
            return 0 if outcome is None else int(outcome.value)
        except Refused as refusal:
            return int(self._failed(command, refusal.status))
        finally:
            self.refresh()

    def _execute(self, command: Command) -> Outcome | None:
        ctrl, sqe = self.ctrl, command.sqe
        if command.qid:
            operations.check_sanitize(ctrl, command)
            if sqe.flags.fuse != Fuse.NORMAL:
                nvm.fused(ctrl, command)
                return None
            run = IO_COMMANDS.get(sqe.opc)
            require(run, GenericStatus.INVALID_OPCODE)
            assert run is not None
            return run(ctrl, command)
        require(sqe.flags.fuse == Fuse.NORMAL)
        if sqe.opc == AdminOpcode.ASYNC_EVENT_REQUEST:
            return self._event(command)
        run = ADMIN_COMMANDS.get(sqe.opc)
        require(run, GenericStatus.INVALID_OPCODE)
        assert run is not None
        operations.check_sanitize(ctrl, command)
        support.check_lockdown(ctrl, sqe)
        return run(ctrl, command)

    def _event(self, command: Command) -> Outcome | None:
        """Let an Asynchronous Event Request bring what waits, or wait."""
        ctrl = self.ctrl
        for event in list(ctrl.pending):
            if event.aet in ctrl.masked:
                continue
            ctrl.pending.remove(event)
            if event.aet not in (AsyncEventType.IMMEDIATE, AsyncEventType.ONE_SHOT):
                ctrl.masked[event.aet] = event.lid
            command.dw0 = event
            return None
        return Outcome.EXECUTE

    def _failed(self, command: Command, status: Status) -> Status:
        """Put a command that failed in the Error Information log."""
        ctrl, sqe = self.ctrl, command.sqe
        has_lba = command.qid and sqe.opc != NvmOpcode.FLUSH
        ctrl.error_count += 1
        ctrl.errors.appendleft(
            ErrorLogEntry.build(
                ecnt=ctrl.error_count,
                sqid=command.qid,
                cid=sqe.cid,
                sts=ErrorStatus(int(status) << 1),
                pel=0xFFFF,
                lba=nvm.first_block(sqe) if has_lba else 0,
                nsid=sqe.nsid,
                opc=sqe.opc,
                lpver=1,
            )
        )
        return status.replace(m=1)

    def _reset(self, resets: int) -> None:
        """Do what a controller level reset does."""
        ctrl = self.ctrl
        ctrl.resets = resets
        ctrl.pending.clear()
        ctrl.masked.clear()
        ctrl.fused.clear()
        ctrl.event_context = None
        directives.reset(ctrl)
        features.reset(ctrl)
        operations.activate(ctrl.subsystem)
        if ctrl.self_test is not None:
            operations.end_self_test(ctrl, SelfTestOutcome.ABORTED_BY_RESET)

    def refresh(self) -> None:
        """Tell C what of namespace 1 it can do."""
        self.refresh_of(self.ctrl)

    @staticmethod
    def refresh_of(ctrl: Controller) -> None:
        """Likewise for a controller."""
        subsystem = ctrl.subsystem
        ns = subsystem.namespaces.get(1)
        told = 0, 0, 9
        if (
            ns is not None
            and ns.is_plain
            and ctrl.is_attached(ns)
            and len(subsystem.controllers) == 1
            and not subsystem.sanitizing
            and not subsystem.sanitize_failed
        ):
            told = subsystem.storage.address + ns.offset, ns.blocks, ns.format.shift
        if told != ctrl.told:
            ctrl.told = told
            ctrl.core.set_namespace(*told)


def make_model(settings: Settings, size: int, subsystem: Subsystem, core: Core) -> Model:
    """Make a controller of a subsystem; the first one makes namespace 1, too."""
    options = settings.core
    with subsystem.lock:
        ctrl = Controller(subsystem, core, options.mdts, options.queues)
        if not subsystem.made:
            subsystem.made = True
            subsystem.configuration = Configuration(settings.nruh, settings.nrg, settings.runs)
            subsystem.placement(ENDURANCE_GROUP).enable(settings.fdp)
            ns = subsystem.create(size // options.block_size)
            ns.controllers.add(ctrl.cntlid)
            if settings.zones:
                if settings.zones % options.block_size or size % settings.zones:
                    raise DeviceNameError(
                        f"zones of {settings.zones} bytes do not divide {size} bytes into whole "
                        "blocks: give another zoned.zone_size"
                    )
                ns.zones = Zones(ns.blocks, settings.zones // options.block_size)
            if settings.fdp:
                count, wanted = len(settings.ruhs), settings.ruhs
                handles = placement.choose(subsystem, ns.group, ns.index, count, wanted)
                placement.assign(subsystem, ns, handles, wanted=count > 0)
                ns.directives.add(DirectiveType.DATA_PLACEMENT)
    model = Model(ctrl)
    # Of several controllers none does anything in C.
    for other in subsystem.controllers.values():
        if other is not ctrl:
            Model.refresh_of(other)
    return model
