"""Waiting for an interrupt instead of spinning: an eventfd stands for the device's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from ring_rig import Rig, vector

from pynvme_user.links import Interrupt


@pytest.fixture
def event() -> Iterator[int]:
    descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def later(seconds: float, *steps: object) -> threading.Timer:
    timer = threading.Timer(seconds, lambda: [step() for step in steps])  # type: ignore[operator]
    timer.start()
    return timer


def test_sleeps_until_it_fires(event: int) -> None:
    rig = Rig()
    rig.ring.use_interrupt(Interrupt(event), 0)
    cid = rig.submit()
    rig.ring.ring_doorbell()
    timer = later(0.1, lambda: rig.complete(cid), lambda: os.eventfd_write(event, 1))
    wall, busy = time.monotonic(), time.thread_time()
    assert len(rig.ring.wait(10_000_000_000)) == 1
    timer.join()
    assert 0.09 < time.monotonic() - wall < 5
    assert time.thread_time() - busy < 0.05


def test_one_that_fired_before_is_not_lost(event: int) -> None:
    rig = Rig()
    rig.ring.use_interrupt(Interrupt(event), 0)
    os.eventfd_write(event, 1)
    # A stale event wakes up once; the time is still over when it is over.
    start = time.monotonic()
    assert len(rig.ring.wait(50_000_000)) == 0
    assert 0.045 <= time.monotonic() - start < 5
    with pytest.raises(BlockingIOError):
        os.eventfd_read(event)


def test_a_completion_that_is_there_needs_none(event: int) -> None:
    rig = Rig()
    rig.ring.use_interrupt(Interrupt(event), 0)
    cid = rig.submit()
    rig.ring.ring_doorbell()
    rig.complete(cid)
    start = time.monotonic()
    assert len(rig.ring.wait(60_000_000_000)) == 1
    assert time.monotonic() - start < 30


def test_rearmed_when_it_is_masked(event: int) -> None:
    """What the kernel masks when it fires is armed again each time, with the bytes given."""
    reader, writer = os.pipe()
    rig = Rig()
    rig.ring.use_interrupt(Interrupt(event, rearm_fd=writer, rearm=b"\x01\0\0\0"), 0)
    for _ in range(3):
        cid = rig.submit()
        rig.ring.ring_doorbell()
        timer = later(0.02, lambda: rig.complete(cid), lambda: os.eventfd_write(event, 1))  # noqa: B023
        assert len(rig.ring.wait(10_000_000_000)) == 1
        timer.join()
        assert os.read(reader, 100) == b"\x01\0\0\0"
    os.close(reader)
    os.close(writer)


def test_vectors_sleep_too(event: int) -> None:
    rig = Rig(depth=4)
    rig.ring.use_interrupt(Interrupt(event), 0)
    work = vector(40)
    done = threading.Event()

    def controller() -> None:
        while not done.is_set():
            time.sleep(0.002)
            for sqe in rig.take():
                rig.complete(sqe.cid)
                os.eventfd_write(event, 1)

    thread = threading.Thread(target=controller)
    thread.start()
    assert work.run(rig.ring, 20_000_000_000)
    done.set()
    thread.join()
    assert work.completed == 40
