"""A controller's states by its registers: disable, enable, shut down (Base 2.0, 3.5 and 3.6)."""

from __future__ import annotations

import time
from collections.abc import Callable

from pynvme_user.dma import PAGE
from pynvme_user.driver.registers import Registers
from pynvme_user.errors import ControllerFatalError, NvmeError, NvmeTimeoutError
from pynvme_user.spec.registers import (
    CAP,
    CC,
    CRTO,
    CSTS,
    CommandSet,
    CommandSetsSupported,
    ReadyModes,
    ShutdownNotification,
    ShutdownStatus,
)

#: What a change of CSTS.RDY may take at least, and how much more than the controller says: many
#: say 0, or less than they need. CAP.TO reaches 127.5 s, CRTO hours.
_READY_FLOOR_SECONDS = 5.0
_READY_SLACK_SECONDS = 2.0
_READY_MOST_SECONDS = 130.0
#: What a shutdown may take: where RTD3E says nothing, and whatever it says.
_SHUTDOWN_SECONDS = 10.0
_SHUTDOWN_MOST_SECONDS = 60.0


def ready_seconds(cap: CAP, crto: CRTO) -> float:
    """Say what a change of CSTS.RDY may take: the larger of CAP.TO and CRTO (Base 2.0, 3.1.3.21).

    Of ``crto`` counts what CAP.CRMS has.
    """
    units = [cap.to]
    if cap.crms & ReadyModes.WITH_MEDIA:
        units.append(crto.crwmt)
    if cap.crms & ReadyModes.INDEPENDENT_OF_MEDIA:
        units.append(crto.crimt)
    told = max(units) * 0.5 + _READY_SLACK_SECONDS
    return min(max(told, _READY_FLOOR_SECONDS), _READY_MOST_SECONDS)


def shutdown_seconds(rtd3e: int) -> float:
    """Say what a normal shutdown may take, by RTD3E in microseconds (Base 2.0, figure 275)."""
    return min(max(_SHUTDOWN_SECONDS, rtd3e / 1e6), _SHUTDOWN_MOST_SECONDS)


def command_set(cap: CAP) -> CommandSet:
    """Choose CC.CSS by CAP.CSS, whose bits 6, 0 and 7 are looked at in this order."""
    if cap.css & CommandSetsSupported.IOCS:
        return CommandSet.ALL_SUPPORTED
    if cap.css & CommandSetsSupported.NVM:
        return CommandSet.NVM
    if cap.css & CommandSetsSupported.NOIOCS:
        return CommandSet.ADMIN_ONLY
    return CommandSet.NVM


class Lifecycle:
    """CC and CSTS. Every wait has a deadline, and ends when the device goes away.

    ``check_present`` raises DeviceRemovedError if it has. ``ready_timeout`` is what a change of
    CSTS.RDY may take, in seconds; None: what :func:`ready_seconds` says. All methods raise
    DeviceRemovedError, NvmeTimeoutError at their deadline, and :meth:`enable` ControllerFatalError
    for CSTS.CFS. Making one raises NvmeError for a controller that this driver cannot serve.
    """

    def __init__(
        self,
        registers: Registers,
        check_present: Callable[[], None],
        ready_timeout: float | None = None,
    ) -> None:
        self._registers = registers
        self._check_present = check_present
        self.cap = registers.read(CAP)
        if not int(self.cap):
            raise NvmeError(
                "the controller's capabilities read as 0 (CAP): a virtual function that is offline "
                "is brought online by its primary controller (Controller.bring_online, or "
                "`nvme-user virt-mgmt`)"
            )
        if self.cap.mpsmin:
            raise NvmeError(
                f"the controller's smallest memory page is {PAGE << self.cap.mpsmin} bytes; "
                "this driver works with pages of 4096 bytes only"
            )
        if not self.cap.mqes:
            raise NvmeError(
                "the controller's queues have one entry (CAP.MQES is 0), which holds no "
                "command: reset it, or update its firmware"
            )
        if ready_timeout is None:
            crto = registers.read(CRTO) if self.cap.crms else CRTO(0)
            ready_timeout = ready_seconds(self.cap, crto)
        self._ready_seconds = ready_timeout
        self._never_ready = False  # it was waited for in vain

    def _wait_for(self, what: str, done: Callable[[CSTS], bool], seconds: float) -> CSTS:
        """Wait until CSTS is as it should be; NvmeTimeoutError names ``what`` was waited for."""
        deadline = time.monotonic() + seconds
        pause = 0.0001
        while True:
            csts = self._registers.read(CSTS)
            if done(csts):
                return csts
            self._check_present()  # where there is no device, a bus may read as zeroes, too
            if time.monotonic() > deadline:
                raise NvmeTimeoutError(
                    f"the controller did not {what} within {seconds:g} s (CSTS {int(csts):#x}): "
                    "reset the device, or power it off and on"
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.01)

    def _wait_ready(self) -> CSTS:
        """Wait for CSTS.RDY, or CFS; not again for what was waited for in vain."""
        seconds = 0.0 if self._never_ready else self._ready_seconds
        self._never_ready = True
        csts = self._wait_for("become ready", lambda s: bool(s.rdy or s.cfs), seconds)
        self._never_ready = False
        return csts

    def disable(self) -> None:
        """Bring a controller in any state to CSTS.RDY = 0: its DMA has stopped then (3.5.1)."""
        cc = self._registers.read(CC)
        if cc.en and not self._registers.read(CSTS).rdy:
            # EN may not be cleared between its setting and RDY, unless the controller failed.
            self._wait_ready()
        if cc.en:
            self._registers.write(cc.replace(en=0, shn=ShutdownNotification.NONE))
        self._wait_for("become disabled", lambda s: not s.rdy, self._ready_seconds)

    def enable(self) -> None:
        """Enable a disabled controller, which knows of its admin queue (3.5.1)."""
        self._never_ready = False
        self._registers.write(CC.build(en=1, css=command_set(self.cap), iosqes=6, iocqes=4))
        if self._wait_ready().cfs:
            raise ControllerFatalError(
                "the controller reported a fatal error (CSTS.CFS) when it was enabled: "
                "reset the device, or power it off and on"
            )

    def shut_down(self, seconds: float) -> None:
        """Shut down normally: CC.SHN, and wait up to ``seconds`` for CSTS.SHST (3.6.1)."""
        cc = self._registers.read(CC)
        self._registers.write(cc.replace(shn=ShutdownNotification.NORMAL))
        self._wait_for(
            "shut down", lambda s: s.shst == ShutdownStatus.COMPLETE or bool(s.cfs), seconds
        )
