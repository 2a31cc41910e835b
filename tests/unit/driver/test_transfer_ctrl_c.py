"""Ctrl-C while one command is waited for."""

from __future__ import annotations

import signal
import threading
import time
import weakref

import pytest
from pool_rig import CtrlC, answer_kept, pooled, usable
from soft_controller import OK, SoftController, keep_reads

from pynvme_user import (
    Controller,
)


def test_ctrl_c_drains(soft: SoftController, ctrl: Controller) -> None:
    """KeyboardInterrupt comes once the device no longer touches the buffer."""
    soft.io = keep_reads
    pair = pooled(ctrl)
    ctrl_c = CtrlC(soft, pair)
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ctrl.namespaces[1].read_into(0, ctrl.alloc(512))
    assert 0 < ctrl_c.completed < time.monotonic()
    ctrl_c.join()
    assert pooled(ctrl) is pair
    assert pair.outstanding == 0
    soft.io = lambda _: OK
    usable(ctrl)


def test_ctrl_c_again_leaves_it_with_its_buffer(soft: SoftController, ctrl: Controller) -> None:
    """Who presses it twice does not wait; the buffer lives as long as the device may write to it,
    also beyond the beginning of the next transfer on the same queue pair.
    """
    soft.io = keep_reads
    ns, pair = ctrl.namespaces[1], pooled(ctrl)
    buffer = ctrl.alloc(512)
    iova, alive = buffer.iova, weakref.ref(buffer)
    ctrl_c = CtrlC(soft, pair, again=True)
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ns.read_into(0, buffer)
    ctrl_c.join()
    assert pooled(ctrl) is pair
    assert pair.outstanding == len(soft.kept) == 1
    del buffer
    assert alive() is not None
    thread = threading.Thread(target=ns.read_into, args=(1, ctrl.alloc(512)))
    thread.start()
    while ctrl.pool.idle:
        time.sleep(0.001)
    time.sleep(0.05)
    freed = ctrl.alloc(512).iova == iova
    soft.io = lambda _: OK
    answer_kept(soft, OK)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert not freed, "the buffer was given to another while the device may write to it"
    assert pair.outstanding == 0


def test_ctrl_c_before_its_own_command_keeps_what_was_left(
    soft: SoftController, ctrl: Controller
) -> None:
    """A transfer that waits for what an earlier one left, and is interrupted, forgets neither."""
    soft.io = keep_reads
    ns, pair = ctrl.namespaces[1], pooled(ctrl)
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
