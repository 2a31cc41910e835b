"""The admin queue: many commands at a time, each with its own deadline, from any thread."""

from __future__ import annotations

import math
import os
import threading
import time

import pytest
from pool_rig import usable
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import AdminOpcode, Cns, Controller, NvmeStatusError, NvmeTimeoutError
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.status import GenericStatus, PathStatus, Status

EVENT = AdminOpcode.ASYNC_EVENT_REQUEST
REFUSED = Status.of(GenericStatus.INVALID_FIELD)


def keep(*opcodes: AdminOpcode):
    """Keep these commands, until they are aborted."""
    return lambda sqe: None if sqe.opc in opcodes else OK


def answer(soft: SoftController, opcode: AdminOpcode, status: Status = OK) -> None:
    """Complete the first command of that kind that is kept, once it is."""
    deadline = time.monotonic() + 10
    while True:
        for qid, sqe in soft.kept:
            if not qid and sqe.opc == opcode:
                soft.end(qid, sqe.cid, status)
                return
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_others_beside_event_requests(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = keep(EVENT)
    events = [ctrl.admin_async(EVENT, timeout=math.inf) for _ in range(4)]
    assert len(ctrl.identify_page(Cns.CONTROLLER)) == 4096
    usable(ctrl)
    assert [event.wait(0) for event in events] == [None] * 4
    assert "under way" in repr(events[0])
    soft.end(0, events[0].cid)
    done = events[0].wait(10)
    assert done is not None
    assert done.status.ok
    assert events[0].completion is done is events[0].check()
    assert events[1].completion is None


def test_each_has_its_own_deadline(soft: SoftController, ctrl: Controller) -> None:
    """What is overdue is aborted, and nothing else is touched."""
    soft.admin = keep(EVENT, AdminOpcode.GET_FEATURES)
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    slow = ctrl.admin_async(AdminOpcode.GET_FEATURES, timeout=30)
    late = ctrl.admin_async(AdminOpcode.GET_FEATURES, timeout=0.05)
    begun = time.monotonic()
    with pytest.raises(NvmeTimeoutError, match="was aborted"):
        late.check()
    assert 0.05 < time.monotonic() - begun < 10
    assert late.completion is not None
    assert late.completion.timed_out
    assert late.completion.status.code() is GenericStatus.ABORTED_BY_REQUEST
    assert (event.wait(0), slow.wait(0)) == (None, None)
    answer(soft, AdminOpcode.GET_FEATURES)
    assert slow.check().status.ok
    assert ctrl.resets == 0
    assert soft.log.count("abort") == 1
    soft.end(0, event.cid)
    assert event.check().status.ok


@pytest.mark.parametrize("answered", [False, None])
def test_what_is_not_aborted_is_reset(
    soft: SoftController, ctrl: Controller, answered: bool | None
) -> None:
    soft.admin = keep(EVENT, AdminOpcode.GET_FEATURES)
    soft.abort_answer = answered
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    late = ctrl.admin_async(AdminOpcode.GET_FEATURES, timeout=0.05)
    with pytest.raises(NvmeTimeoutError, match="was reset"):
        late.check()
    assert ctrl.resets == 1
    done = event.wait()  # a completion, whatever its status
    assert done is not None
    assert not done.timed_out
    assert done.status.code() is PathStatus.ABORTED_BY_HOST
    with pytest.raises(NvmeStatusError, match="a reset of the controller ended it"):
        event.check()
    usable(ctrl)


def test_a_call_finds_what_is_overdue_for_another(soft: SoftController, ctrl: Controller) -> None:
    """Nobody waits for the one that is: whoever polls deals with it."""
    soft.admin = keep(EVENT)
    late = ctrl.admin_async(EVENT, timeout=0.05)
    deadline = time.monotonic() + 10
    while late.completion is None and time.monotonic() < deadline:
        ctrl.identify_page(Cns.CONTROLLER)
    assert late.completion is not None
    assert late.completion.timed_out


def test_an_error_status_is_a_completion(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = lambda sqe: REFUSED if sqe.opc == AdminOpcode.GET_FEATURES else OK
    request = ctrl.admin_async(AdminOpcode.GET_FEATURES, cdw10=2)
    done = request.wait()
    assert done is not None
    assert done.status.code() is GenericStatus.INVALID_FIELD
    with pytest.raises(NvmeStatusError, match="Get Features"):
        request.check()
    assert not request.abort()  # it has ended


def test_its_data_is_there_at_the_end(soft: SoftController, ctrl: Controller) -> None:
    """Also in memory that the device does not reach."""
    page, near = bytearray(4096), ctrl.alloc(4096)
    requests = [
        ctrl.admin_async(AdminOpcode.IDENTIFY, buffer=where, cdw10=Cns.CONTROLLER)
        for where in (page, near)
    ]
    for request in requests:
        request.check()
    assert page == near.tobytes() == ctrl.identify_page(Cns.CONTROLLER)
    with pytest.raises(ValueError, match="writable"):
        ctrl.admin_async(AdminOpcode.IDENTIFY, buffer=bytes(4096))


def test_a_full_queue(soft: SoftController, ctrl: Controller) -> None:
    """A call waits for room, not longer than its own time; an abort frees some."""
    soft.admin = keep(EVENT)
    events = [ctrl.admin_async(EVENT, timeout=math.inf) for _ in range(63)]
    with pytest.raises(nvme.QueueFullError, match="63 admin commands are outstanding"):
        ctrl.admin(AdminOpcode.GET_FEATURES, timeout=0.05)
    timer = threading.Timer(0.05, soft.end, (0, events[3].cid))
    timer.start()
    assert len(ctrl.identify_page(Cns.CONTROLLER)) == 4096
    timer.join()
    assert sum(event.completion is not None for event in events) == 1
    assert events[-1].abort() is True
    assert events[-1].wait().status.code() is GenericStatus.ABORTED_BY_REQUEST  # type: ignore[union-attr]
    assert ctrl.resets == 0


def test_what_is_overdue_in_a_full_queue(soft: SoftController, ctrl: Controller) -> None:
    """No place is left for its abort, and none becomes free: the controller is reset."""
    soft.admin = keep(EVENT, AdminOpcode.GET_FEATURES)
    events = [ctrl.admin_async(EVENT, timeout=math.inf) for _ in range(62)]
    late = ctrl.admin_async(AdminOpcode.GET_FEATURES, timeout=0.05)
    with pytest.raises(NvmeTimeoutError, match="was given up"):
        late.check()
    assert ctrl.resets == 1
    assert all(event.wait() is not None for event in events)
    usable(ctrl)


@pytest.mark.parametrize("opcode", [AdminOpcode.GET_FEATURES, AdminOpcode.FORMAT_NVM])
@pytest.mark.parametrize("error", [KeyboardInterrupt, nvme.DmaError])
def test_a_request_that_is_not_sent(
    ctrl: Controller,
    monkeypatch: pytest.MonkeyPatch,
    opcode: AdminOpcode,
    error: type[BaseException],
) -> None:
    """Nobody waits for it, neither I/O nor the next command."""

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ctrl._admin._ring, "submit", fails)
        with pytest.raises(error):
            ctrl.admin_async(opcode)
    assert not ctrl._commands._requests
    begun = time.monotonic()
    usable(ctrl)
    assert time.monotonic() - begun < 5


def test_from_many_threads(soft: SoftController, ctrl: Controller) -> None:
    """Each has its own answer, none waits for the others' end."""
    soft.admin = keep(EVENT)
    ctrl.admin_async(EVENT, timeout=math.inf)
    failed: list[BaseException] = []

    def work(nsid: int) -> None:
        try:
            for _ in range(50):
                page = ctrl.identify_page(Cns.NAMESPACE, nsid=nsid)
                assert any(page) is (nsid == 1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(nsid,)) for nsid in (1, 2) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


def test_a_long_format(soft: SoftController, ctrl: Controller) -> None:
    """It, an event request and an abort live side by side; I/O waits for its end, and sees it."""
    ns = ctrl.namespaces[1]
    ns.write(0, bytes(512))
    soft.admin = keep(EVENT, AdminOpcode.FORMAT_NVM)
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    long = ctrl.admin_async(AdminOpcode.FORMAT_NVM, nsid=1, timeout=600)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.append(ns.read(0, 1))
        except nvme.NvmeError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert ctrl.abort(1, 5) is False  # of nothing
    assert len(ctrl.identify_page(Cns.CONTROLLER)) == 4096
    reader.join(0.2)
    assert reader.is_alive()
    assert not outcome
    soft.lbaf = LbaFormat.build(ds=12)
    answer(soft, AdminOpcode.FORMAT_NVM)
    reader.join(30)
    assert isinstance(outcome[0], nvme.NamespaceChangedError)
    assert long.check().status.ok
    assert event.completion is None
    assert ctrl.namespaces[1].block_size == 4096


def test_the_kernel_does_not_wait_for_a_format(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = keep(AdminOpcode.FORMAT_NVM)
    long = ctrl.admin_async(AdminOpcode.FORMAT_NVM, nsid=1, timeout=600)
    begun = time.monotonic()
    ctrl.detach()
    assert time.monotonic() - begun < 5
    with pytest.raises(nvme.DeviceRemovedError):
        long.wait()


def test_close_waits_for_calls_alone(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = keep(EVENT, AdminOpcode.GET_FEATURES)
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    found: list[Status] = []
    caller = threading.Thread(
        target=lambda: found.append(ctrl.admin(AdminOpcode.GET_FEATURES).status)
    )
    caller.start()
    timer = threading.Timer(0.1, answer, (soft, AdminOpcode.GET_FEATURES))
    timer.start()
    while not any(sqe.opc == AdminOpcode.GET_FEATURES for _, sqe in soft.kept):
        time.sleep(0.001)
    ctrl.close()
    caller.join(10)
    assert [status.ok for status in found] == [True]
    with pytest.raises(nvme.ClosedError):
        event.wait()
    with pytest.raises(nvme.ClosedError, match="open it again"):
        ctrl.admin_async(EVENT)


def test_who_waits_while_it_is_disabled(soft: SoftController, ctrl: Controller) -> None:
    """The end of the controller is no failure of it, whoever looks meanwhile."""
    soft.admin = keep(EVENT)
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    found: list[BaseException] = []

    def wait() -> None:
        try:
            event.wait()
        except nvme.NvmeError as error:
            found.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    soft.becomes_disabled = False  # for as long as it is waited for; then the bus resets it
    ctrl.close()
    waiter.join(10)
    assert [type(error) for error in found] == [nvme.ClosedError]
    assert soft.log == ["enable", "shutdown", "disable", "bus reset", "closed"]


def test_ctrl_c_in_a_call(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves comes to its end before the next call's command is sent."""
    soft.admin = keep(AdminOpcode.GET_FEATURES)
    queue = ctrl._commands

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ctrl.admin(AdminOpcode.GET_FEATURES)
    while not soft.kept:
        time.sleep(0.001)
    order: list[int] = []
    soft.admin = lambda sqe: order.append(sqe.opc) or OK  # type: ignore[func-returns-value]
    timer = threading.Timer(0.1, lambda: (order.append(-1), answer(soft, AdminOpcode.GET_FEATURES)))
    timer.start()
    ctrl.identify_page(Cns.CONTROLLER)
    assert order == [-1, AdminOpcode.IDENTIFY]
    assert not queue._requests


def test_ctrl_c_before_the_command_is_sent(
    ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is waited for that the controller never had."""
    queue = ctrl._commands

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for opcode in (AdminOpcode.GET_FEATURES, AdminOpcode.FORMAT_NVM):
        with monkeypatch.context() as patch:
            patch.setattr(queue._pair._ring, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ctrl.admin(opcode)
    begun = time.monotonic()
    usable(ctrl)
    assert time.monotonic() - begun < 5
    assert not queue._requests


def test_a_command_that_came_back_is_not_the_next_ones(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index is free in C once it was reaped; its outcome is handed over before that is used."""
    first = ctrl.admin_async(AdminOpcode.GET_FEATURES)
    pair = ctrl._admin

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    time.sleep(0.05)  # for its completion
    with monkeypatch.context() as patch:
        patch.setattr(ctrl._commands, "_complete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first.wait()
    assert pair.outstanding == 0
    assert first.completion is None
    soft.admin = lambda sqe: REFUSED if sqe.opc == AdminOpcode.SET_FEATURES else OK
    second = ctrl.admin_async(AdminOpcode.SET_FEATURES)
    assert not second.wait().status.ok  # type: ignore[union-attr]
    assert first.wait().status.ok  # type: ignore[union-attr]


def test_a_request_of_a_forked_child(soft: SoftController, ctrl: Controller) -> None:
    soft.admin = keep(EVENT)
    event = ctrl.admin_async(EVENT, timeout=math.inf)
    read, write = os.pipe()
    if not (pid := os.fork()):
        try:
            event.wait(5)
        except nvme.ForkedError:
            os.write(write, b"refused")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read, 100) == b"refused"
    os.close(read)
    os.close(write)
    soft.end(0, event.cid)
    assert event.check().status.ok
