"""A device that is asked back while it is in use, and what is left of its controller then."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import ClosedError, Controller, DeviceRemovedError


@pytest.fixture
def ctrl(device_name: str) -> Iterator[Controller]:
    """A controller of the test's own."""
    with nvme.open(device_name) as ctrl:
        yield ctrl


def busy(ctrl: Controller, turns: threading.Semaphore, ended: list[BaseException]) -> None:
    """Read in the three ways there are until it no longer works; release `turns` for each turn."""
    try:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(16 << ns.block_shift)
        with ctrl.queue_pair(depth=8) as pair:
            while True:
                pair.read_many(ns, np.arange(16), 1, buffer).check()
                pair.submit_read(ns, 0, 16, buffer)
                pair.drain()
                ns.read(0, 16)
                turns.release()
    except BaseException as error:
        ended.append(error)


def test_detach_under_io(ctrl: Controller) -> None:
    each = [threading.Semaphore(0) for _ in range(3)]
    ended: list[BaseException] = []
    threads = [threading.Thread(target=busy, args=(ctrl, turns, ended)) for turns in each]
    for thread in threads:
        thread.start()
    for turns in each * 10:
        assert turns.acquire(timeout=60)
    ctrl.detach()
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in ended] == [DeviceRemovedError] * 3, ended


def test_everything_says_that_the_device_is_gone(ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    pair = ctrl.queue_pair(depth=4)
    buffer = ctrl.alloc(ns.block_size)
    pair.submit_read(ns, 0, 1, buffer)
    ctrl.detach()
    ctrl.detach()
    for call in (
        pair.poll,
        pair.wait,
        pair.ring,
        lambda: pair.submit_read(ns, 0, 1, buffer),
        lambda: pair.submit_read(ns, 0, 1, buffer.array),
        lambda: ns.read(0, 1),
        lambda: ctrl.alloc(1),
        lambda: ctrl.identify_page(1),
        ctrl.queue_pair,
        ctrl.reset,
    ):
        with pytest.raises(DeviceRemovedError, match=r"is gone: open"):
            call()
    assert not buffer.any()  # it may still be looked at
    pair.close()
    ctrl.close()
    for call in (pair.poll, ctrl.reset, ctrl.queue_pair):
        with pytest.raises(ClosedError, match=r"is closed: open it again"):
            call()
    with nvme.open(ctrl.name) as again:
        assert len(again.namespaces) == len(ctrl.namespaces)


def test_a_closed_controller_keeps_no_memory_of_its_own(device_name: str) -> None:
    """Its rings go with close(), not with the objects, which the collector may find late."""
    with nvme.open(device_name) as ctrl:
        ctrl.namespaces[1].read(0, 1)
        pair = ctrl.queue_pair(depth=4)
        rings = [weakref.ref(queues.queue.sq._allocation) for queues in (pair, ctrl._admin)]
    assert [ring() for ring in rings] == [None, None]
    assert pair.outstanding == 0
