"""The end: each step is tried whatever became of the one before it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import Controller, ControllerWarning
from pynvme_user.driver import controller
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.testing import SoftDevice
from pynvme_user.transport.pcie import PcieTransport

pytestmark = pytest.mark.usefixtures("impatient")

REFUSED = Status.of(GenericStatus.INVALID_FIELD)
IN_ORDER = ["enable", "shutdown", "disable", "closed"]


def ended(soft: SoftController, ctrl: Controller) -> bool:
    """Whether the device is given back, and nothing holds the controller."""
    return soft.log[-1] == "closed" and ctrl.closed and ctrl not in controller._open_controllers


@pytest.mark.parametrize("opcode", [AdminOpcode.DELETE_IO_SQ, AdminOpcode.DELETE_IO_CQ])
@pytest.mark.parametrize("which", [{1}, {2}, {1, 2, 3}])
def test_a_deletion_that_is_refused(
    soft: SoftController, opcode: AdminOpcode, which: set[int]
) -> None:
    """The other queue pairs are deleted, and the controller is shut down, which ends the rest."""
    deleted: list[int] = []

    def admin(sqe: SQE) -> Status:
        if sqe.opc != opcode:
            return OK
        deleted.append(sqe.cdw10)
        return REFUSED if sqe.cdw10 in which else OK

    soft.admin = admin
    ctrl = Controller(PcieTransport(soft))
    for _ in range(3):
        ctrl.queue_pair(2)
    with pytest.warns(ControllerWarning, match=r"did not end as it should: Delete Io .* Invalid F"):
        ctrl.close()
    assert sorted(deleted) == [1, 2, 3]
    assert soft.log == IN_ORDER
    assert ended(soft, ctrl)


@pytest.mark.filterwarnings("ignore::pynvme_user.errors.ControllerWarning")
@pytest.mark.parametrize("aborted", [True, False, None])
def test_a_deletion_that_is_not_answered(soft: SoftController, aborted: bool | None) -> None:
    """It costs its time once, whether its abort ends it or the reset that it comes to."""
    soft.abort_answer = aborted
    asked: list[int] = []

    def admin(sqe: SQE) -> Status | None:
        asked.append(sqe.opc)
        return None if sqe.opc == AdminOpcode.DELETE_IO_SQ else OK

    soft.admin = admin
    ctrl = Controller(PcieTransport(soft), timeout=2.0)
    for _ in range(3):
        ctrl.queue_pair(2)
    ctrl.close()
    assert asked.count(AdminOpcode.DELETE_IO_SQ) == 1
    reset = [] if aborted else ["enable", "abort", "disable"]
    assert soft.log == [*reset, "enable", *(["abort"] if aborted else []), *IN_ORDER[1:]]
    assert ended(soft, ctrl)


@pytest.mark.parametrize("bus", [True, False])
def test_a_controller_that_obeys_nothing(
    soft: SoftController, bus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the shutdown nor CC.EN: the bus resets it; where that fails, too, it is let go."""
    soft.shuts_down = soft.becomes_disabled = False
    soft.bus_resets = bus
    ctrl = Controller(PcieTransport(soft), ready_timeout=0.2)
    monkeypatch.setattr("pynvme_user.driver.controller.shutdown_seconds", lambda _: 0.1)
    with pytest.warns(ControllerWarning) as warned:
        ctrl.close()
    said = [str(each.message) for each in warned]
    assert "soft: it did not end as it should: the controller did not shut down within" in said[0]
    if not bus:
        assert said[1].startswith("soft: it was not disabled: the controller did not become")
    assert len(said) == 1 + (not bus)
    assert soft.log == ["enable", "shutdown", "disable", "bus reset", "closed"]
    assert ended(soft, ctrl)


def test_ctrl_c_in_the_middle(soft: SoftController) -> None:
    """It ends the step that it comes in, not the next ones."""
    soft.io = keep_reads
    ctrl = Controller(PcieTransport(soft))
    qp = ctrl.queue_pair(2)
    qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ctrl.close()
    timer.join()
    assert time.monotonic() - began < 15  # the read would have had 30 seconds
    assert soft.log == IN_ORDER
    assert ended(soft, ctrl)


def test_a_failure_that_is_no_device_s(soft: SoftController) -> None:
    """An error of the access comes out, once all is done that can be."""

    def close() -> None:
        soft.log.append("closed")
        SoftDevice.close(soft)
        raise OSError("unmapped only in part")

    soft.close = close  # type: ignore[method-assign]
    ctrl = Controller(PcieTransport(soft))
    with pytest.raises(OSError, match="only in part"):
        ctrl.close()
    assert soft.log == IN_ORDER
    assert ended(soft, ctrl)
    ctrl.close()


AT_EXIT = """
import os, sys
from soft_controller import SoftController
from pynvme_user import Controller
from pynvme_user.transport.pcie import PcieTransport

softs = [SoftController() for _ in range(3)]
for soft in softs:
    Controller(PcieTransport(soft))

def close():
    softs[1].log.append("closed")
    raise OSError("not closed")

softs[1].close = close
import atexit, pynvme_user.driver.controller as controller
atexit.unregister(controller._close_all)
atexit.register(lambda: print([soft.log for soft in softs]))
atexit.register(controller._close_all)
"""


def test_the_interpreter_s_end() -> None:
    """One controller that cannot be closed leaves none of the others open."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2] / "support",
    )
    assert done.stdout == f"{[IN_ORDER] * 3}\n"
    assert "OSError: not closed" in done.stderr
