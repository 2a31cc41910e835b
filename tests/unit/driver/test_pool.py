"""The pool of queue pairs for single calls, where there are more threads than queue pairs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from soft_controller import OK, SoftController

from pynvme_user import Controller, QueueFullError
from pynvme_user.transport.pcie import PcieTransport


@pytest.fixture
def soft() -> SoftController:
    """One that grants two queue pairs."""
    return SoftController(queues=(2, 2))


@pytest.fixture
def ctrl(soft: SoftController) -> Iterator[Controller]:
    with Controller(PcieTransport(soft)) as ctrl:
        yield ctrl


@contextmanager
def in_threads(work: list[threading.Thread]) -> Iterator[None]:
    for thread in work:
        thread.start()
    try:
        yield
    finally:
        for thread in work:
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_64_threads_come_in_turn(soft: SoftController, ctrl: Controller) -> None:
    """None does much less than the others, whichever way it takes to a queue pair.

    Each command takes so long that nearly all threads wait for a queue pair.
    """
    soft.io = lambda _: time.sleep(0.0005) or OK
    ns = ctrl.namespaces[1]
    done = [0] * 64
    begin, end = threading.Barrier(64), threading.Event()

    def work(n: int) -> None:
        buffer = ctrl.alloc(512)
        begin.wait()
        while not end.is_set():
            if n % 4:
                ns.read_into(n, buffer)
            else:
                ns.flush()
            done[n] += 1

    with in_threads([threading.Thread(target=work, args=(n,)) for n in range(64)]):
        deadline = time.monotonic() + 60
        while sum(done) < 64 * 25 and time.monotonic() < deadline:
            time.sleep(0.01)
        counts = sorted(done)
        end.set()
    assert counts[0] > counts[-1] / 2, counts
    assert len(ctrl.pool.idle) == 2


def test_who_comes_later_does_not_come_first(soft: SoftController, ctrl: Controller) -> None:
    """Neither by a call of its own, nor by being the one that gives the queue pair back."""
    order: list[int] = []
    pairs = [ctrl.pool.acquire(), ctrl.pool.acquire()]

    def work(n: int) -> None:
        pair = ctrl.pool.acquire()
        order.append(n)
        ctrl.pool.release(pair)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for n, thread in enumerate(threads):
        thread.start()
        while len(ctrl.pool._line) != n + 1:
            time.sleep(0.001)
    ctrl.pool.release(pairs[0])
    ctrl.namespaces[1].flush()
    assert order == list(range(8))
    for thread in threads:
        thread.join()
    ctrl.pool.release(pairs[1])
    assert sorted(map(id, ctrl.pool.idle)) == sorted(map(id, pairs))


def test_one_that_is_closed_makes_room(ctrl: Controller) -> None:
    """The first who waits makes one in place of that which its user closed."""
    mine = [ctrl.queue_pair(1), ctrl.queue_pair(1)]
    ctrl.timeout = 60
    with in_threads([threading.Thread(target=ctrl.namespaces[1].flush) for _ in range(3)]):
        while len(ctrl.pool._line) != 3:
            time.sleep(0.001)
        mine.pop().close()
    assert len(ctrl.pool.idle) == 1
    mine.pop().close()


def test_all_in_use_for_too_long(ctrl: Controller) -> None:
    ctrl.timeout = 0.1
    with ctrl.queue_pair(1), ctrl.queue_pair(1) as pair:
        with pytest.raises(QueueFullError, match="close one that"):
            ctrl.namespaces[1].flush()
        assert not ctrl.pool._line
        pair.close()
        ctrl.namespaces[1].flush()


def test_ctrl_c_in_the_line_leaves_it(ctrl: Controller) -> None:
    pairs = [ctrl.pool.acquire(), ctrl.pool.acquire()]
    ns = ctrl.namespaces[1]
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ns.flush()
    timer.join()
    for pair in pairs:
        ctrl.pool.release(pair)
    ns.flush()
    assert len(ctrl.pool.idle) == 2
