"""Opening: whatever goes wrong on the way, the right error comes and nothing is left behind."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from soft_controller import OK, SoftController

from pynvme_user import (
    Controller,
    ControllerFatalError,
    ControllerWarning,
    DeviceRemovedError,
    DmaBuffer,
    DmaError,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
)
from pynvme_user.dma import DmaPool
from pynvme_user.driver import controller
from pynvme_user.driver.lifecycle import command_set, ready_seconds, shutdown_seconds
from pynvme_user.driver.queue_table import QueuePairs
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.identify_controller import OACS
from pynvme_user.spec.registers import CAP, CC, CRTO, CSTS, CommandSet
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport

pytestmark = pytest.mark.alone  # it counts threads

IDENTIFY = AdminOpcode.IDENTIFY
DOORBELLS = AdminOpcode.DOORBELL_BUFFER_CONFIG
QUEUES = AdminOpcode.SET_FEATURES  # Number of Queues
SET_UP = [IDENTIFY, DOORBELLS, QUEUES]
REFUSED = Status.of(GenericStatus.INVALID_FIELD)


@pytest.fixture
def soft() -> SoftController:
    soft = SoftController()
    soft.fields["oacs"] = OACS.build(dbcs=1)
    return soft


def opened(soft: SoftController, timeout: float = 30.0) -> Controller:
    return Controller(PcieTransport(soft), timeout=timeout, ready_timeout=0.3)


def left_nothing(soft: SoftController, threads: set[threading.Thread]) -> None:
    """The device is quiet and given back; nobody waits for it any more."""
    assert soft.log[-1] == "closed"
    assert soft.log.count("closed") == 1
    assert soft.gone or not soft._cc.en
    assert not any(one.transport.access is soft for one in controller._open_controllers)
    assert not set(threading.enumerate()) - threads


def fail_at(soft: SoftController, opcode: int, fault: Callable[[], Status | None]) -> list[int]:
    """Let a command of the set-up end so; give the opcodes that come."""
    seen: list[int] = []

    def admin(sqe: SQE) -> Status | None:
        seen.append(sqe.opc)
        return fault() if sqe.opc == opcode else OK

    soft.admin = admin
    return seen


# --- each command of the set-up -----------------------------------------------------------------


@pytest.mark.parametrize("opcode", SET_UP)
def test_a_command_that_is_not_answered(soft: SoftController, opcode: AdminOpcode) -> None:
    """It is named; nothing is sent again, and no reset makes it worse."""
    threads = set(threading.enumerate())
    seen = fail_at(soft, opcode, lambda: None)
    name = opcode.name.replace("_", " ").title()
    with pytest.raises(NvmeTimeoutError, match=f"{name} .* was not answered"):
        opened(soft, timeout=1.0)
    assert seen == SET_UP[: SET_UP.index(opcode) + 1]
    assert soft.log == ["enable", "disable", "closed"]
    left_nothing(soft, threads)


@pytest.mark.parametrize("opcode", SET_UP)
@pytest.mark.parametrize("how", ["removed", "failed"])
def test_a_device_that_goes_meanwhile(soft: SoftController, opcode: AdminOpcode, how: str) -> None:
    threads = set(threading.enumerate())

    def go() -> None:
        if how == "removed":
            soft.gone = True
        else:
            soft.fail()

    fail_at(soft, opcode, go)
    kind = DeviceRemovedError if how == "removed" else ControllerFatalError
    text = "is gone|all ones" if how == "removed" else r"\(CSTS.CFS\) while it was set up"
    with pytest.raises(kind, match=text):
        opened(soft)
    left_nothing(soft, threads)


def test_identify_that_is_refused(soft: SoftController) -> None:
    threads = set(threading.enumerate())
    fail_at(soft, IDENTIFY, lambda: REFUSED)
    with pytest.raises(NvmeStatusError, match=r"Identify \(opcode 0x06.* Invalid Field"):
        opened(soft)
    left_nothing(soft, threads)


@pytest.mark.parametrize("seed", ["zeroes", "ones", *range(20)])
def test_an_identify_page_of_anything(soft: SoftController, seed: object) -> None:
    """It opens, or says in an error of ours what is against it; it closes in any case."""
    threads = set(threading.enumerate())
    fixed = {"zeroes": bytes(4096), "ones": b"\xff" * 4096}
    soft.identify = lambda _: fixed.get(str(seed)) or random.Random(str(seed)).randbytes(4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ControllerWarning)
        try:
            with opened(soft) as ctrl:
                assert ctrl.max_transfer >= 4096
                assert ctrl.registers.cc.en
                ctrl.admin(0xC0)
        except NvmeError:
            pass
    left_nothing(soft, threads)


@pytest.mark.parametrize("granted", [0xFFFF_FFFF, 0, 0xFFFF, 0xFFFF_0000])
def test_any_number_of_queues(soft: SoftController, granted: int) -> None:
    soft.queues_granted = (granted & 0xFFFF) + 1, (granted >> 16) + 1
    with opened(soft) as ctrl:
        assert ctrl.max_queue_pairs == (511 if granted == 0xFFFF_FFFF else 1)
        ctrl.namespaces[1].flush()


# --- each access of the device ------------------------------------------------------------------


def test_gone_from_any_access_on(soft: SoftController) -> None:
    """From the first register to the last, in what opens it and in what closes it."""
    threads = set(threading.enumerate())
    opens, accesses = 0, 0
    for limit in range(1000):
        one = SoftController()
        one.fields = soft.fields
        left = [limit]
        fail_after(one, left)
        try:
            ctrl = opened(one)
        except DeviceRemovedError:
            assert one.gone
        else:
            opens += 1
            ctrl.close()
        left_nothing(one, threads)
        if not one.gone:
            accesses = limit
            break
    assert accesses > 10
    assert opens > 3


def fail_after(soft: SoftController, left: list[int]) -> None:
    """Let the device go after so many register accesses."""
    read, write = soft.read, soft.write

    def count() -> None:
        left[0] -= 1
        soft.gone = soft.gone or left[0] < 0

    def counted_read(offset: int, width: int) -> int:
        count()
        return read(offset, width)

    def counted_write(offset: int, width: int, value: int) -> None:
        count()
        write(offset, width, value)

    soft.read = counted_read  # type: ignore[method-assign]
    soft.write = counted_write  # type: ignore[method-assign]


def test_no_memory_at_any_step(soft: SoftController, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each allocation on the way is once the one that there is no memory for."""
    threads = set(threading.enumerate())
    allocate, left = DmaPool.alloc, [0]

    def alloc(self: DmaPool, length: int, **more: Any) -> DmaBuffer:
        left[0] -= 1
        if left[0] < 0:
            raise DmaError("there is no memory")
        return allocate(self, length, **more)

    monkeypatch.setattr(DmaPool, "alloc", alloc)
    for limit in range(100):
        one, left[0] = SoftController(), limit
        one.fields = soft.fields
        try:
            opened(one).close()
        except DmaError:
            left_nothing(one, threads)
        else:
            break
    assert 4 < limit < 99


# --- what can be done without -------------------------------------------------------------------


def test_without_io_queues(soft: SoftController) -> None:
    """Admin commands work, with which the drive can be mended; a queue pair says why not."""
    fail_at(soft, QUEUES, lambda: REFUSED)
    with pytest.warns(ControllerWarning, match="soft: there are no I/O queues.*Invalid Field"):
        ctrl = opened(soft)
    with ctrl:
        assert ctrl.max_queue_pairs == 0
        assert ctrl.admin(0xC0).status.ok
        assert ctrl.namespaces[1].block_size == 512
        start = time.monotonic()
        for call in (ctrl.queue_pair, lambda: ctrl.namespaces[1].read(0, 1), lambda: ctrl.io(0)):
            with pytest.raises(NvmeError, match=r"no I/O queues, only admin .* Invalid Field"):
                call()
        assert time.monotonic() - start < 5  # nobody waits for one
        soft.admin = lambda _: OK
        ctrl.reset()  # which asks again
        assert ctrl.max_queue_pairs == 4
        ctrl.namespaces[1].read(0, 1)
    assert soft.log[-3:] == ["shutdown", "disable", "closed"]


@pytest.mark.parametrize("kind", [2, 3])
def test_a_controller_that_has_no_io_queues(soft: SoftController, kind: int) -> None:
    """It is not asked for any (Base 2.0, section 3.1.2), and there is nothing to warn of."""
    soft.fields["cntrltype"] = kind
    seen = fail_at(soft, QUEUES, lambda: REFUSED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened(soft) as ctrl:
            assert QUEUES not in seen
            assert ctrl.admin(0xC0).status.ok
            with pytest.raises(NvmeError, match=r"a controller of type (DISCOVERY|ADMINISTRATIVE)"):
                ctrl.queue_pair()


def test_without_shadow_doorbells(soft: SoftController) -> None:
    fail_at(soft, DOORBELLS, lambda: REFUSED)
    with pytest.warns(ControllerWarning, match=r"each doorbell is a register write.*Invalid Field"):
        ctrl = opened(soft)
    with ctrl, ctrl.queue_pair(4) as qp:
        ctrl.namespaces[1].read(0, 1)
        for _ in range(9):
            qp.submit_flush(ctrl.namespaces[1])
            qp.drain()
        assert qp.doorbell_writes == 9


def test_the_last_queue_pair_has_its_shadow_doorbells_in_the_page(
    soft: SoftController, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft.queues_granted = 0x10000, 0x10000
    monkeypatch.setattr(QueuePairs, "_free_qid", lambda pairs: pairs.most)
    with opened(soft) as ctrl, ctrl.queue_pair(4) as qp:
        assert qp.qid == ctrl.max_queue_pairs
        assert qp.queue.shadow is not None
        page = qp.queue.shadow[0].view(np.uint32)
        qp.submit_flush(ctrl.namespaces[1])
        qp.submit_flush(ctrl.namespaces[1])
        qp.ring()
        assert page[2 * qp.qid : 2 * qp.qid + 2].tolist() == [2, 0]
        assert [done.status for done in qp.drain()] == [OK] * 2


def test_shadow_doorbells_that_a_reset_loses(soft: SoftController) -> None:
    """Queue pairs that had them write registers from then on."""
    shadow: list[SQE] = []

    def remember(sqe: SQE) -> Status:
        if sqe.opc == DOORBELLS:
            shadow.append(sqe)
        return OK

    soft.admin = remember
    with opened(soft) as ctrl:
        qp = ctrl.queue_pair(4)
        assert len(shadow) == 1
        assert qp.queue.shadow is not None
        fail_at(soft, DOORBELLS, lambda: REFUSED)
        with pytest.warns(ControllerWarning, match="each doorbell is a register write"):
            ctrl.reset()
        assert qp.queue.shadow is None
        qp.submit_flush(ctrl.namespaces[1])
        assert [done.status for done in qp.drain()] == [OK]


# --- each state of the registers ----------------------------------------------------------------


def test_never_ready(soft: SoftController) -> None:
    """Waited for once, then the bus is reset."""
    threads = set(threading.enumerate())
    soft.becomes_ready = False
    with pytest.raises(NvmeTimeoutError, match=r"did not become ready within 0.3 s \(CSTS 0x0\)"):
        opened(soft)
    assert soft.log == ["enable", "bus reset", "closed"]
    left_nothing(soft, threads)


@pytest.mark.parametrize("bus", [True, False])
@pytest.mark.parametrize("state", ["never ready", "never disabled"])
def test_found_in_a_state_that_does_not_end(soft: SoftController, state: str, bus: bool) -> None:
    """The bus reset ends it, as for reset(); where there is none, both are told."""
    threads = set(threading.enumerate())
    soft._cc = CC.build(en=1)
    soft._csts = CSTS.build(rdy=int(state == "never disabled"))
    soft.becomes_disabled = False
    soft.bus_resets = bus
    if bus:
        with opened(soft):
            assert soft.log[-2:] == ["bus reset", "enable"]
            soft.becomes_disabled = True
        return
    what = "become ready" if state == "never ready" else "become disabled"
    with (
        pytest.warns(ControllerWarning, match="it was not disabled"),
        pytest.raises(NvmeTimeoutError, match=f"did not {what} .*; soft cannot be reset"),
    ):
        opened(soft)
    assert soft.log[-1] == "closed"
    assert not set(threading.enumerate()) - threads


def test_fatal_before_it_is_opened(soft: SoftController) -> None:
    soft._cc, soft._csts = CC.build(en=1), CSTS.build(cfs=1)
    with opened(soft) as ctrl:
        assert soft.log == ["disable", "enable"]
        ctrl.namespaces[1].read(0, 1)


def test_a_time_that_is_none() -> None:
    for wrong in (0, -1):
        soft = SoftController()
        with pytest.raises(ValueError, match="ready_timeout is a positive number of seconds"):
            Controller(PcieTransport(soft), ready_timeout=wrong)
        assert soft.log == ["closed"]


@pytest.mark.parametrize(
    ("cap", "crto", "seconds"),
    [
        ({"to": 0}, {}, 5),  # common
        ({"to": 1}, {}, 5),
        ({"to": 60}, {}, 32),
        ({"to": 255}, {}, 129.5),
        ({"to": 10}, {"crwmt": 80, "crimt": 90}, 7),  # CRTO means nothing without CAP.CRMS
        ({"to": 10, "crms": 1}, {"crwmt": 80, "crimt": 90}, 42),
        ({"to": 10, "crms": 2}, {"crwmt": 80, "crimt": 60}, 32),
        ({"to": 10, "crms": 3}, {"crwmt": 80, "crimt": 90}, 47),
        ({"to": 100, "crms": 3}, {"crwmt": 80, "crimt": 0}, 52),
        ({"to": 255, "crms": 3}, {"crwmt": 65535, "crimt": 65535}, 130),
    ],
)
def test_the_time_to_become_ready(
    cap: dict[str, int], crto: dict[str, int], seconds: float
) -> None:
    assert ready_seconds(CAP.build(**cap), CRTO.build(**crto)) == seconds


def test_the_register_of_that_time_is_read(soft: SoftController) -> None:
    soft.cap = soft.cap.replace(to=0, crms=1)
    soft.crto = CRTO.build(crwmt=90)
    with Controller(PcieTransport(soft)) as ctrl:
        assert ctrl._lifecycle._ready_seconds == 47


@pytest.mark.parametrize(
    ("rtd3e", "seconds"), [(0, 10), (1, 10), (30_000_000, 30), (0xFFFF_FFFF, 60)]
)
def test_the_time_to_shut_down(rtd3e: int, seconds: float) -> None:
    assert shutdown_seconds(rtd3e) == seconds


@pytest.mark.parametrize(
    ("css", "chosen"),
    [
        (0x01, CommandSet.NVM),
        (0x40, CommandSet.ALL_SUPPORTED),
        (0x41, CommandSet.ALL_SUPPORTED),
        (0xC1, CommandSet.ALL_SUPPORTED),
        (0x81, CommandSet.NVM),  # an NVM drive that can do without, too
        (0x80, CommandSet.ADMIN_ONLY),
        (0x00, CommandSet.NVM),
        (0x3E, CommandSet.NVM),  # reserved bits
    ],
)
def test_the_command_set(soft: SoftController, css: int, chosen: CommandSet) -> None:
    soft.cap = soft.cap.replace(css=css)
    assert command_set(soft.cap) == chosen
    with opened(soft) as ctrl:
        assert ctrl.registers.cc.css == chosen
