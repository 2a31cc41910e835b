"""One command that is waited for, on a queue pair: its way around the loops in C."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from ring_rig import OPERATION
from soft_controller import BLOCKS, OK, SoftController, keep_reads

from pynvme_user import (
    Controller,
    ControllerFatalError,
    DeviceRemovedError,
    DmaError,
    NvmeError,
    NvmeTimeoutError,
)
from pynvme_user.completion import HOST_ABORTED
from pynvme_user.dma import DmaBuffer
from pynvme_user.lending import Lender
from pynvme_user.queue import QueuePair
from pynvme_user.ring import transfer_run
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import Status

# --- the queue pair -------------------------------------------------------------------------------


@pytest.fixture
def ctrl(soft: SoftController, impatient: None) -> Iterator[Controller]:
    with Controller(soft) as ctrl:
        yield ctrl


def lent(ctrl: Controller) -> QueuePair:
    """The queue pair that the next single call gets."""
    pair = ctrl.lender.lend()
    ctrl.lender.give_back(pair)
    return pair


def read(ctrl: Controller, pair: QueuePair, lba: int = 0) -> int:
    return transfer(ctrl, pair, lba, spanned(ctrl, 512))


def spanned(ctrl: Controller, length: int, offset: int = 0) -> DmaBuffer:
    """A buffer whose span is known, from an address that need not be one for a transfer."""
    buffer = ctrl.alloc(length + offset)
    return ctrl.dma.spanned(buffer[offset:], buffer.iova + offset)


def transfer(ctrl: Controller, pair: QueuePair, lba: int, buffer: DmaBuffer) -> int:
    """A transfer on this queue pair, lent by a lender that has no other."""
    lender = Lender(ctrl)
    lender.give_back(pair)
    try:
        return lender.transfer(OPERATION, lba, buffer)
    finally:
        assert lender.idle == [pair]


def usable(ctrl: Controller) -> None:
    for lba in range(3):
        ctrl.namespaces[1].write(lba, bytes(512))
        ctrl.namespaces[1].read_into(lba, ctrl.alloc(512))


def test_the_status_comes_through(soft: SoftController, ctrl: Controller) -> None:
    statuses = [0x002, 0x281, 0x7FFF, 0x7800, 0]
    with ctrl.queue_pair(3) as pair:
        soft.io = lambda sqe: Status(statuses[sqe.cdw10])
        assert [read(ctrl, pair, lba) for lba in range(5)] == statuses
        assert pair.outstanding == 0
        assert pair.kept == ()


def test_what_was_left_is_waited_for_first(soft: SoftController, ctrl: Controller) -> None:
    order: list[int] = []

    def look(sqe: SQE) -> Status:
        order.append(sqe.cdw10)
        return Status(0x281 if sqe.cdw10 == 5 else 0)

    soft.io = look
    with ctrl.queue_pair(3) as pair:
        for lba in (5, 6):
            pair.submit_read(ctrl.namespaces[1], lba, 1, ctrl.alloc(512))
        assert read(ctrl, pair, 7) == 0
        assert order == [5, 6, 7]
        assert pair.outstanding == 0


def test_one_that_takes_longer_than_a_slice(soft: SoftController, ctrl: Controller) -> None:
    """C gives up; the command is found by the wait that follows, with its own status."""
    soft.io = keep_reads
    with ctrl.queue_pair(3) as pair:
        timer = threading.Timer(0.35, answer_kept, (soft, Status(0x285)))
        timer.start()
        assert read(ctrl, pair) == 0x285
        timer.join()
        soft.io = lambda _: OK
        assert read(ctrl, pair) == 0


def answer_kept(soft: SoftController, status: Status) -> None:
    """Complete what the device has kept, once it has something."""
    while not soft.kept:
        time.sleep(0.001)
    with soft._lock:
        while soft.kept:
            soft.complete(*soft.kept.pop(0), status)


def test_one_that_never_ends(soft: SoftController, ctrl: Controller) -> None:
    ctrl.timeout = 0.2
    soft.io = keep_reads
    soft.abort_answer = False
    with ctrl.queue_pair(3) as pair:
        assert read(ctrl, pair) == HOST_ABORTED
        assert ctrl.resets == 1
        soft.io = lambda _: OK
        ctrl.timeout = 30.0
        assert read(ctrl, pair) == 0


def test_a_completion_of_nothing_resets(soft: SoftController, ctrl: Controller) -> None:
    """What the reset ended does not answer for the next call."""
    with ctrl.queue_pair(3) as pair:

        def wrong(sqe: SQE) -> None:
            soft.complete(soft._queues[pair.qid], sqe.replace(cid=2), OK)

        soft.io = wrong
        with pytest.raises(ControllerFatalError, match="not outstanding"):
            read(ctrl, pair)
        assert ctrl.resets == 1
        # So slow that its end is found by the wait that follows C's.
        soft.io = keep_reads
        threading.Timer(0.25, answer_kept, (soft, Status(0x281))).start()
        assert read(ctrl, pair) == 0x281
    soft.io = lambda _: OK
    usable(ctrl)


def test_misaligned_and_too_long(soft: SoftController, ctrl: Controller) -> None:
    with ctrl.queue_pair(3) as pair:
        with pytest.raises(DmaError, match="multiple of 4"):
            transfer(ctrl, pair, 0, spanned(ctrl, 512, offset=2))
        with pytest.raises(DmaError, match="larger than"):
            transfer(ctrl, pair, 0, spanned(ctrl, 64 << 10))
        assert pair.outstanding == 0
        assert read(ctrl, pair) == 0


def test_closed(ctrl: Controller) -> None:
    pair = ctrl.queue_pair(3)
    pair.close()
    with pytest.raises(NvmeError, match="queue pair is closed"):
        read(ctrl, pair)


# --- reset beside transfers -----------------------------------------------------------------------


def test_resets_from_another_thread(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outcome is lost or exchanged, and no transfer is in C while the rings are begun anew."""
    in_c = 0
    wrong: list[object] = []
    outcomes: list[int] = []
    stop = threading.Event()
    pair = ctrl.queue_pair(3)
    soft.io = lambda sqe: Status(0x200 | sqe.cdw10 & 0x7F)
    restart = pair.restart

    def watched(transfer: object) -> int:
        nonlocal in_c
        in_c += 1
        try:
            time.sleep(0)  # let go of the GIL before C, where the handshake has to hold, too
            return transfer_run(transfer)
        finally:
            in_c -= 1

    def restart_watched() -> None:
        for _ in range(20):
            if in_c:
                wrong.append("a transfer was in C during the restart")
            time.sleep(0)
        restart()

    pair.restart = restart_watched  # type: ignore[method-assign]
    monkeypatch.setattr("pynvme_user.lending.transfer_run", watched)

    def work() -> None:
        lba = 0
        while not stop.is_set():
            lba += 1
            try:
                status = read(ctrl, pair, lba)
            except BaseException as error:
                wrong.append(error)
                return
            outcomes.append(status)
            if status not in (0x200 | lba & 0x7F, HOST_ABORTED):
                wrong.append((lba, status))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(60):
        seen = len(outcomes)
        ctrl.reset()
        while len(outcomes) < seen + 2 and thread.is_alive():
            time.sleep(0.0005)
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not wrong
    assert ctrl.resets == 60
    assert len(outcomes) > 60
    assert pair.outstanding == 0
    pair.close()


def test_stopped_waits_for_c(soft: SoftController, ctrl: Controller) -> None:
    """Whoever holds the queue pair still has it for himself, and later transfers wait."""
    soft.io = keep_reads
    with ctrl.queue_pair(3) as pair:
        thread = threading.Thread(target=read, args=(ctrl, pair))
        thread.start()
        while not soft.kept:
            time.sleep(0.001)
        assert pair.busy
        with pair.stopped():
            assert not pair.busy
            for _ in range(20):
                time.sleep(0.01)
                assert not pair.busy
            assert pair.outstanding == 1
        answer_kept(soft, OK)
        thread.join(timeout=10)
        assert not thread.is_alive()
        assert pair.outstanding == 0


def test_a_transfer_that_comes_while_it_is_stopped(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.cdw10) or OK
    with ctrl.queue_pair(3) as pair:
        with pair.stopped():
            thread = threading.Thread(target=read, args=(ctrl, pair, 9))
            thread.start()
            time.sleep(0.1)
            assert seen == []
            assert pair.outstanding == 0
        thread.join(timeout=10)
        assert seen == [9]


def test_each_side_says_first_and_looks_then(ctrl: Controller) -> None:
    """The order of the handshake: either of the two sees the other, whoever is the quicker."""
    log: list[str] = []

    class Watched(QueuePair):
        def __getattribute__(self, name: str) -> object:
            if name in ("ready", "busy"):
                log.append(f"look {name}")
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: object) -> None:
            if name in ("ready", "busy"):
                log.append(f"{name} {value}")
            super().__setattr__(name, value)

    with ctrl.queue_pair(3) as pair:
        assert read(ctrl, pair) == 0
        pair.__class__ = Watched
        assert read(ctrl, pair) == 0
        assert log == ["busy True", "look ready", "busy False"]
        log.clear()
        with pair.stopped():
            assert log == ["ready False", "look busy"]
        pair.__class__ = QueuePair


# --- ctrl-C ---------------------------------------------------------------------------------------


class CtrlC(threading.Thread):
    """Presses ctrl-C once the device has the command, and ``again`` while it is drained.

    Then, after a while, the command is completed, unless there was a second time.
    """

    def __init__(self, soft: SoftController, pair: QueuePair, *, again: bool = False) -> None:
        super().__init__()
        self.soft, self.pair, self.again = soft, pair, again
        self.completed = 0.0

    def run(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self.soft.kept or not self.pair.busy:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)
        while self.pair.busy:
            time.sleep(0.001)
        time.sleep(0.15)
        if self.again:
            signal.pthread_kill(main, signal.SIGINT)
        else:
            self.completed = time.monotonic()
            answer_kept(self.soft, OK)


def test_ctrl_c_drains(soft: SoftController, ctrl: Controller) -> None:
    """KeyboardInterrupt comes once the device no longer touches the buffer."""
    soft.io = keep_reads
    pair = lent(ctrl)
    ctrl_c = CtrlC(soft, pair)
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ctrl.namespaces[1].read_into(0, ctrl.alloc(512))
    assert 0 < ctrl_c.completed < time.monotonic()
    ctrl_c.join()
    assert lent(ctrl) is pair
    assert pair.outstanding == 0
    soft.io = lambda _: OK
    usable(ctrl)


def test_ctrl_c_again_leaves_it_with_its_buffer(soft: SoftController, ctrl: Controller) -> None:
    """Who presses it twice does not wait; the buffer lives as long as the device may write to it,
    also beyond the beginning of the next transfer on the same queue pair.
    """
    soft.io = keep_reads
    ns, pair = ctrl.namespaces[1], lent(ctrl)
    buffer = ctrl.alloc(512)
    iova, alive = buffer.iova, weakref.ref(buffer)
    ctrl_c = CtrlC(soft, pair, again=True)
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ns.read_into(0, buffer)
    ctrl_c.join()
    assert lent(ctrl) is pair
    assert pair.outstanding == len(soft.kept) == 1
    del buffer
    assert alive() is not None
    thread = threading.Thread(target=ns.read_into, args=(1, ctrl.alloc(512)))
    thread.start()
    while ctrl.lender.idle:
        time.sleep(0.001)
    time.sleep(0.05)
    freed = ctrl.alloc(512).iova == iova
    soft.io = lambda _: OK
    answer_kept(soft, OK)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not freed, "the buffer was given to another while the device may write to it"
    assert pair.outstanding == 0


def test_ctrl_c_before_its_own_command_keeps_what_was_left(
    soft: SoftController, ctrl: Controller
) -> None:
    """A transfer that waits for what an earlier one left, and is interrupted, forgets neither."""
    soft.io = keep_reads
    ns, pair = ctrl.namespaces[1], lent(ctrl)
    left = ctrl.alloc(512)
    alive = weakref.ref(left)
    first = CtrlC(soft, pair, again=True)
    first.start()
    with pytest.raises(KeyboardInterrupt):
        ns.read_into(0, left)
    first.join()
    del left
    main = threading.main_thread().ident
    assert main is not None
    timers = [threading.Timer(t, signal.pthread_kill, (main, signal.SIGINT)) for t in (0.2, 0.5)]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        ns.read_into(1, ctrl.alloc(512))
    for timer in timers:
        timer.join()
    assert pair.outstanding == len(soft.kept) == 1
    assert alive() is not None
    soft.io = lambda _: OK
    answer_kept(soft, OK)
    usable(ctrl)
    assert alive() is None


# --- the namespace's way --------------------------------------------------------------------------


def test_the_same_buffer_of_a_view(soft: SoftController, ctrl: Controller) -> None:
    """Views of a DmaBuffer go where they lie."""
    seen: list[tuple[int, int, int]] = []
    soft.io = lambda sqe: seen.append((sqe.cdw10, sqe.cdw12, sqe.prp1)) or OK
    buffer = ctrl.alloc(4096)
    ns = ctrl.namespaces[1]
    ns.read_into(3, buffer[512:1536])
    ns.read_into(BLOCKS - 1, buffer[-512:])
    ns.write_from(4, buffer.view(np.uint32)[128:256])
    assert seen == [
        (3, 1, buffer.iova + 512),
        (BLOCKS - 1, 0, buffer.iova + 3584),
        (4, 0, buffer.iova + 512),
    ]


def test_errors_name_the_command(soft: SoftController, ctrl: Controller) -> None:
    soft.io = lambda _: HOST_ABORTED
    with pytest.raises(NvmeTimeoutError, match=r"Read of 1 blocks from LBA 7 on \(namespace 1\)"):
        ctrl.namespaces[1].read_into(7, ctrl.alloc(512))
    soft.io = lambda _: Status(0x285)
    with pytest.raises(NvmeError, match="Compare of 1 blocks from LBA 7 on"):
        ctrl.namespaces[1].compare(7, ctrl.alloc(512))


def test_a_negative_lba_is_refused_by_name(ctrl: Controller) -> None:
    buffer = ctrl.alloc(512)
    ctrl.namespaces[1].read_into(0, buffer)
    pair = lent(ctrl)
    for lba in (-1, 1 << 64):
        with pytest.raises(ValueError, match="are not all in namespace 1"):
            ctrl.namespaces[1].read_into(lba, buffer)
    assert pair.kept == ()
    assert lent(ctrl) is pair
    usable(ctrl)


def test_a_buffer_of_another_controller_is_copied(
    soft: SoftController, ctrl: Controller, impatient: None
) -> None:
    """Its address means nothing, or something else, to this device."""
    seen: list[int] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe.prp1)
        return OK

    with Controller(SoftController()) as other:
        other_use = other.alloc(1 << 20)  # so that the two pools do not number alike
        buffer = other.alloc(512)
        other.namespaces[1].read_into(0, buffer)
        other.namespaces[1].read_into(0, buffer)  # what a transfer of it takes is known now
        soft.io = look
        ctrl.namespaces[1].write(0, buffer)
        assert len(seen) == 1
        assert buffer.iova not in seen
        assert other_use.iova != buffer.iova
        with ctrl.queue_pair(3) as pair, pytest.raises(ValueError, match="does not reach"):
            pair.submit_read(ctrl.namespaces[1], 0, 1, buffer)


# --- what C has from the last time ----------------------------------------------------------------


def test_buffers_and_operations_in_turn(soft: SoftController, ctrl: Controller) -> None:
    """Only what differs from the last transfer is written: each goes where it should."""
    seen: list[tuple[int, int, int, int, int]] = []
    soft.io = lambda sqe: seen.append((sqe.opc, sqe.cdw10, sqe.cdw12, sqe.prp1, sqe.prp2)) or OK
    ns = ctrl.namespaces[1]
    small, large = ctrl.alloc(512), ctrl.alloc(2048)
    expected = []
    for lba, (opc, buffer, fua) in enumerate(
        product((NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE), (small, large), (False, True))
    ):
        move = {NvmOpcode.READ: ns.read_into, NvmOpcode.WRITE: ns.write_from}.get(opc, ns.compare)
        for _ in range(2):
            move(lba, buffer, fua=fua)
            cdw12 = buffer.nbytes // 512 - 1 | fua << 30
            expected.append((opc, lba, cdw12, buffer.iova, 0))
    assert seen == expected


def test_after_a_reset_nothing_is_there(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.prp1) or OK
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    for _ in range(2):
        ns.read_into(0, buffer)
        ctrl.reset()
        ns.read_into(0, buffer)
    assert seen == [buffer.iova] * 4


def test_memory_that_becomes_read_only(ctrl: Controller) -> None:
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    for _ in range(2):
        ns.read_into(0, buffer)
    buffer.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        ns.read_into(0, buffer)
    ns.write_from(0, buffer)


def test_what_only_looks_like_a_buffer(ctrl: Controller) -> None:
    """Any object may have a ``span``."""
    ns = ctrl.namespaces[1]
    ns.read_into(0, ctrl.alloc(512))

    class Lookalike(bytearray):
        span = (ctrl.dma, 0, 512)

    data = Lookalike(b"\xee" * 512)
    ns.read_into(0, data)
    assert data == bytes(512)


def test_no_transfer_once_the_device_is_gone(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.cdw10) or OK
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    ns.read_into(1, buffer)
    ctrl.mark_removed()
    with pytest.raises(DeviceRemovedError):
        ns.read_into(2, buffer)
    assert seen == [1]
