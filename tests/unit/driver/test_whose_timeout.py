"""A command that took too long is told apart from one that a reset for another reason ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import Controller, NvmeStatusError, NvmeTimeoutError
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport

CALLS: dict[str, Callable[[Controller], object]] = {
    "transfer": lambda ctrl: ctrl.namespaces[1].read_into(0, ctrl.alloc(512)),
    "any memory": lambda ctrl: ctrl.namespaces[1].read(0, 1),
    "split": lambda ctrl: ctrl.namespaces[1].read_into(0, ctrl.alloc(256 << 10)),
    "vector": lambda ctrl: many(ctrl),
    "flush": lambda ctrl: ctrl.namespaces[1].flush(),
    "zeroes": lambda ctrl: ctrl.namespaces[1].write_zeroes(0, 8),
    "deallocate": lambda ctrl: ctrl.namespaces[1].deallocate([(0, 8)]),
    "raw": lambda ctrl: ctrl.io(NvmOpcode.READ, nsid=1, buffer=bytearray(512)),
}
RESET = r"Command Aborted By Host \(status 0x0371\): a reset of the controller ended it"


def many(ctrl: Controller) -> None:
    with ctrl.queue_pair(4) as pair:
        pair.read_many(ctrl.namespaces[1], range(9), 1, ctrl.alloc(9 * 512)).check()


def keep(_: SQE) -> Status | None:
    return None


@pytest.fixture
def patient(soft: SoftController) -> Iterator[Controller]:
    with Controller(PcieTransport(soft)) as ctrl:
        yield ctrl


def once_kept(soft: SoftController, act: Callable[[], object]) -> threading.Thread:
    """Do this in a thread, once the device has a command."""

    def wait() -> None:
        while not soft.kept:
            time.sleep(0.001)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("name", CALLS)
def test_a_reset_by_another_thread(soft: SoftController, patient: Controller, name: str) -> None:
    """Nothing timed out: the status says who ended the command, the message that it was a reset."""
    assert patient.namespaces[1].block_count
    soft.io = keep
    thread = once_kept(soft, patient.reset)
    with pytest.raises(NvmeStatusError, match=RESET) as caught:
        CALLS[name](patient)
    assert caught.value.status == HOST_ABORTED
    thread.join()


@pytest.mark.parametrize("answer", [True, False], ids=["aborted", "not aborted"])
@pytest.mark.parametrize("name", CALLS)
def test_what_took_too_long(
    soft: SoftController, ctrl: Controller, name: str, answer: bool
) -> None:
    assert ctrl.namespaces[1].block_count
    ctrl.timeout = 0.5
    soft.io = keep
    soft.abort_answer = answer
    with pytest.raises(NvmeTimeoutError, match="was aborted" if answer else "was given up"):
        CALLS[name](ctrl)
    assert ctrl.resets == (not answer)


def test_the_neighbour_of_what_took_too_long(soft: SoftController, ctrl: Controller) -> None:
    """One command is overdue, the other was just sent when the reset for the first took it too."""
    ns = ctrl.namespaces[1]
    soft.io = keep_reads
    soft.abort_answer = False
    with ctrl.queue_pair(4) as late, ctrl.queue_pair(4) as young:
        ctrl.timeout = 2
        first = late.submit_read(ns, 0, 1, ctrl.alloc(512))
        late.ring()
        time.sleep(1.5)
        for pair in (late, young):
            pair.submit_read(ns, 0, 1, ctrl.alloc(512))
            pair.ring()
        done = late.drain()
        assert {one.status for one in done} == {HOST_ABORTED}
        assert [one.cid for one in done if one.timed_out] == [first]
        (other,) = young.drain()
        assert (other.status, other.timed_out) == (HOST_ABORTED, False)


def test_late_but_well(soft: SoftController, ctrl: Controller) -> None:
    """Its abort was asked for, and it ended all the same."""
    ctrl.timeout = 0.1
    soft.io = keep_reads

    def end() -> None:
        while "abort" not in soft.log:
            time.sleep(0.001)
        queue, sqe = soft.kept.pop()
        soft.complete(queue, sqe, OK)

    soft.abort_answer = False
    thread = threading.Thread(target=end)
    with ctrl.queue_pair(4) as pair:
        pair.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
        thread.start()
        (done,) = pair.drain()
    thread.join()
    assert (done.status, done.timed_out) == (OK, False)


def test_an_abort_that_somebody_asked_for(soft: SoftController, patient: Controller) -> None:
    """It is no timeout either: not by hand, and not by the device alone."""
    soft.io = keep_reads
    aborts = once_kept(soft, lambda: patient.abort(1, soft.kept[0][1].cid))
    with pytest.raises(NvmeStatusError, match="Command Abort Requested"):
        patient.namespaces[1].read(0, 1)
    aborts.join()
    soft.io = lambda _: Status.of(GenericStatus.ABORTED_BY_REQUEST)
    with pytest.raises(NvmeStatusError, match="Command Abort Requested"):
        patient.namespaces[1].read(0, 1)


def test_an_admin_command(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = lambda sqe: None if sqe.opc == 0xC0 else OK
    with pytest.raises(NvmeTimeoutError, match="was aborted, having taken longer"):
        ctrl.admin(0xC0, timeout=0.1)
    soft.abort_answer = False
    with pytest.raises(NvmeTimeoutError, match="was given up"):
        ctrl.admin(0xC0, timeout=0.1)
    soft.admin = lambda sqe: HOST_ABORTED if sqe.opc == 0xC0 else OK
    with pytest.raises(NvmeStatusError, match="Command Aborted By Host"):
        ctrl.admin(0xC0, timeout=0.1)
