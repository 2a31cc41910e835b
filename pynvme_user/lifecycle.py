"""A controller's states by its registers: disable, enable, shut down (Base 2.0, 3.5 and 3.6)."""

from __future__ import annotations

import time
from collections.abc import Callable

from pynvme_user.errors import ControllerFatalError, NvmeTimeoutError
from pynvme_user.registers import Registers
from pynvme_user.spec.registers import (
    ACQ,
    AQA,
    ASQ,
    CAP,
    CC,
    CSTS,
    CommandSet,
    CommandSetsSupported,
    ShutdownNotification,
    ShutdownStatus,
)


class Lifecycle:
    """CC and CSTS. Every wait has a deadline, and ends when the device goes away.

    ``check_present`` raises DeviceRemovedError if it has. All methods raise that, NvmeTimeoutError
    at their deadline, and :meth:`enable` ControllerFatalError for CSTS.CFS.
    """

    def __init__(self, registers: Registers, check_present: Callable[[], None]) -> None:
        self._registers = registers
        self._check_present = check_present
        self.cap = registers.read(CAP)

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

    @property
    def _ready_seconds(self) -> float:
        """CAP.TO, which bounds every change of CSTS.RDY, in seconds."""
        return max(self.cap.to, 1) * 0.5

    def disable(self) -> None:
        """Bring a controller in any state to CSTS.RDY = 0: its DMA has stopped then (3.5.1)."""
        cc = self._registers.read(CC)
        if cc.en and not self._registers.read(CSTS).rdy:
            # EN may not be cleared between its setting and RDY, unless the controller failed.
            self._wait_for("become ready", lambda s: bool(s.rdy or s.cfs), self._ready_seconds)
        if cc.en:
            self._registers.write(cc.replace(en=0, shn=ShutdownNotification.NONE))
        self._wait_for("become disabled", lambda s: not s.rdy, self._ready_seconds)

    def enable(self, entries: int, sq_iova: int, cq_iova: int) -> None:
        """Enable a disabled controller with admin queues of ``entries`` at these places (3.5.1)."""
        self._registers.write(AQA.build(asqs=entries - 1, acqs=entries - 1))
        self._registers.write(ASQ(sq_iova))
        self._registers.write(ACQ(cq_iova))
        css = CommandSet.NVM
        if self.cap.css & CommandSetsSupported.IOCS:
            css = CommandSet.ALL_SUPPORTED
        elif self.cap.css & CommandSetsSupported.NOIOCS:
            css = CommandSet.ADMIN_ONLY
        self._registers.write(CC.build(en=1, css=css, iosqes=6, iocqes=4))
        csts = self._wait_for("become ready", lambda s: bool(s.rdy or s.cfs), self._ready_seconds)
        if csts.cfs:
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
