"""What the kernel reports of a device, by eventfds: it wants it back, or it has failed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import Controller, ControllerFatalError, ControllerWarning, DeviceRemovedError
from pynvme_user.access.ioctl import VFIO_PCI_REQ_IRQ_INDEX
from pynvme_user.access.vfio import VfioAccess
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.transport.pcie import PcieTransport

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def soft() -> Iterator[SoftController]:
    soft = SoftController()
    soft.request_fd, soft.error_fd = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
    yield soft
    os.close(soft.request_fd)
    os.close(soft.error_fd)


@pytest.fixture
def ctrl(soft: SoftController) -> Iterator[Controller]:
    with Controller(PcieTransport(soft), ready_timeout=0.3) as ctrl:
        yield ctrl


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert done()


def error(soft: SoftController) -> None:
    assert soft.error_fd is not None
    os.eventfd_write(soft.error_fd, 1)


def reset_by_error(soft: SoftController, ctrl: Controller, then: Callable[[], T]) -> T:
    resets = ctrl.resets
    error(soft)
    done = then()
    until(lambda: ctrl.resets == resets + 1)
    return done


def test_an_error_fails_what_is_outstanding(soft: SoftController, ctrl: Controller) -> None:
    """And the controller works again, as often as it happens."""
    ns = ctrl.namespaces[1]
    for _ in range(2):
        resets = ctrl.resets
        soft.io = keep_reads
        with ctrl.queue_pair(4) as qp:
            for n in range(3):
                qp.submit_read(ns, n, 1, ctrl.alloc(512))
            qp.ring()
            until(lambda: len(soft.kept) == 3)
            with pytest.warns(ControllerWarning, match="soft: .* uncorrectable PCIe error"):
                drained = reset_by_error(soft, ctrl, qp.drain)
            assert [done.status for done in drained] == [HOST_ABORTED] * 3
            assert ctrl.resets == resets + 1
            soft.io = lambda _: OK
            ns.flush()
            qp.submit_flush(ns)
            assert [done.status for done in qp.drain()] == [OK]


@pytest.mark.filterwarnings("ignore::pynvme_user.errors.ControllerWarning")
def test_an_error_of_a_device_that_is_gone(soft: SoftController, ctrl: Controller) -> None:
    """Everything outstanding gets DeviceRemovedError."""
    soft.io = keep_reads
    qp = ctrl.queue_pair(4)
    qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    qp.ring()
    soft.gone = True
    error(soft)
    with pytest.raises(DeviceRemovedError):
        qp.drain()
    until(lambda: ctrl.removed)
    with pytest.raises(DeviceRemovedError, match="open the device again"):
        ctrl.admin(0xC0)


@pytest.mark.filterwarnings("ignore::pynvme_user.errors.ControllerWarning")
def test_an_error_that_no_reset_mends(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    soft.becomes_ready = False
    qp = ctrl.queue_pair(4)
    qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    qp.ring()
    error(soft)
    with pytest.raises(ControllerFatalError, match="can only be closed"):
        qp.drain()
    ctrl.close()
    assert soft.log[-1] == "closed"


@pytest.mark.filterwarnings("ignore::pynvme_user.errors.ControllerWarning")
def test_an_error_then_a_removal(soft: SoftController, ctrl: Controller) -> None:
    """The one does not end the watch for the other."""
    error(soft)
    until(lambda: ctrl.resets == 1)
    assert soft.request_fd is not None
    os.eventfd_write(soft.request_fd, 1)
    until(lambda: "closed" in soft.log)
    with pytest.raises(DeviceRemovedError):
        ctrl.namespaces[1].read(0, 1)


@pytest.mark.alone  # it counts threads
@pytest.mark.parametrize("missing", ["request_fd", "error_fd"])
def test_one_of_the_two(soft: SoftController, missing: str) -> None:
    """A device need not report both."""
    number = getattr(soft, missing)
    setattr(soft, missing, None)
    threads = set(threading.enumerate())
    try:
        with Controller(PcieTransport(soft)) as ctrl:
            assert len(set(threading.enumerate()) - threads) == 1
            if missing == "request_fd":
                with pytest.warns(ControllerWarning):
                    reset_by_error(soft, ctrl, lambda: None)
        assert not set(threading.enumerate()) - threads
    finally:
        setattr(soft, missing, number)


@pytest.mark.alone  # it counts descriptors
def test_an_event_that_the_kernel_refuses() -> None:
    """The device is used without it: on what is no device, the ioctl is refused for real."""

    class Refusing(VfioAccess):
        def __init__(self) -> None:
            self.name = "vfio:0000:00:00.0"
            self._device = os.open(os.devnull, os.O_RDWR)

        def _irq_count(self, index: int) -> int:
            return 1

    access = Refusing()
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as undo:
        with pytest.warns(ControllerWarning, match="a removal will not be reported: .* refused"):
            assert access._event(VFIO_PCI_REQ_IRQ_INDEX, "a removal", undo) is None
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(access._device)
