"""close() while other threads are in calls: each has a status or ClosedError, and no ring is torn.

``CLOSING_ROUNDS=1000`` closes so many times under 64 threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from soft_controller import SoftController

from pynvme_user import ClosedError, Controller, QueueFullError
from pynvme_user.queue import QueuePair
from pynvme_user.spec.commands import AdminOpcode

THREADS = 64
ROUNDS = int(os.environ.get("CLOSING_ROUNDS", "3"))


@contextmanager
def running(work: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run work in a thread; give what it raised, once it has ended."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- 64 threads -----------------------------------------------------------------------------------


class Rest:
    """What is left of a controller for the test to look at."""

    def __init__(self, ctrl: Controller) -> None:
        self.rings = {id(ctrl._admin): ctrl._admin._ring}

        def made(pair: QueuePair) -> QueuePair:
            self.rings[id(pair)] = pair._ring
            return pair

        make = ctrl._queue_pairs.open
        ctrl._queue_pairs.open = lambda *args, **named: made(make(*args, **named))  # type: ignore[method-assign]

    def check(self) -> None:
        for ring in self.rings.values():
            ring.check()


def works(ctrl: Controller, n: int) -> Callable[[], int]:
    """One of the ways to use a controller; returns how many outcomes it saw."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(4096)

    def fast() -> int:
        ns.read_into(n, buffer[:512])
        return 1

    def bounced() -> int:
        ns.write(n, bytes(1024))
        return 1

    def split() -> int:
        ns.read_into(0, ctrl.alloc(64 << 10))
        return 1

    def flush() -> int:
        ns.flush()
        return 1

    def admin() -> int:
        ctrl.admin(AdminOpcode.IDENTIFY, cdw10=1, buffer=bytearray(4096))
        return 1

    def alloc() -> int:
        ctrl.alloc(5000)[:] = 7
        return 1

    def on_a_pair(depth: int = 5) -> int:
        try:
            pair = ctrl.queue_pair(depth)
        except QueueFullError:
            return 0
        seen = 0
        try:
            with pair:
                for lba in range(depth):
                    pair.submit_read(ns, lba, 1, buffer[:512])
                while seen < depth:
                    done = pair.wait()
                    assert done
                    seen += len(done)
                pair.read_many(ns, np.arange(40), 1, buffer, recycle=True).check()
        finally:
            if seen:
                assert seen == depth
        return seen

    return (fast, bounced, split, flush, fast, admin, alloc, on_a_pair)[n % 8]


def test_under_64_threads() -> None:
    ends: Counter[str] = Counter()
    for _ in range(ROUNDS):
        ctrl = Controller(SoftController(queues=(6, 6)))
        rest = Rest(ctrl)
        wrong: list[object] = []
        begun = [0] * THREADS
        jobs = [works(ctrl, n) for n in range(THREADS)]

        def work(
            n: int,
            jobs: list[Callable[[], int]] = jobs,
            begun: list[int] = begun,
            wrong: list[object] = wrong,
        ) -> None:
            while True:
                try:
                    jobs[n]()
                    begun[n] += 1
                except ClosedError as error:
                    ends["unknown" if "outcome unknown" in str(error) else "closed"] += 1
                    return
                except BaseException as error:
                    wrong.append((n % 8, repr(error)))
                    return

        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        until(lambda begun=begun, wrong=wrong: sum(begun) > THREADS // 4 or wrong)
        ctrl.close()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        assert not wrong, wrong[:3]
        rest.check()
        assert all(ring.outstanding == 0 for ring in rest.rings.values())
    assert sum(ends.values()) == ROUNDS * THREADS
    print(ends)
