"""A device that is taken away under I/O and comes back, again and again.

    hot_plug.py DRIVER CYCLES DEVICE...

Each cycle waits for the controller to be there, binds it to DRIVER, opens the next of DEVICE,
verifies what the first cycle wrote, prints "in use CYCLE", and keeps it busy in four ways until it
is gone. Then prints one JSON object with each way's outcomes.
"""

import itertools
import json
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

import pynvme_user as nvme
from pynvme_user import Controller, DeviceRemovedError, Namespace
from pynvme_user.errors import UnsafeAccessWarning
from pynvme_user.host.binding import bind
from pynvme_user.host.pci import watch_devices
from pynvme_user.ring import NO_STATUS

DEADLINE = 120.0
KEPT = 1 << 20
PATTERN = bytes(np.random.default_rng(7).integers(0, 256, KEPT, np.uint8))

Outcomes = Counter[str]


# Four ways to keep a device busy. Each ends by DeviceRemovedError, and has counted every request.


def vectors(ctrl: Controller, ns: Namespace, count: Outcomes) -> None:
    buffer = ctrl.alloc(500 * 4096)
    lbas = np.arange(500) * (4096 // ns.block_size)
    with ctrl.queue_pair(depth=32) as pair:
        while True:
            count["submitted"] += len(lbas)
            try:
                result = pair.read_many(ns, lbas % 256 * 8, 4096 // ns.block_size, buffer)
            except DeviceRemovedError:
                count["removed"] += len(lbas)
                raise
            count["no outcome"] += int((result.status == NO_STATUS).sum())
            count["completed"] += int((result.status == 0).sum())


def submit_and_poll(ctrl: Controller, ns: Namespace, count: Outcomes) -> None:
    buffer = ctrl.alloc(4096)
    outstanding: set[int] = set()
    with ctrl.queue_pair(depth=16) as pair:
        try:
            while True:
                while len(outstanding) < 16:
                    cid = pair.submit_read(ns, 0, 4096 // ns.block_size, buffer)
                    count["submitted"] += 1
                    count["cid twice"] += cid in outstanding
                    outstanding.add(cid)
                for done in pair.poll():
                    outstanding.remove(done.cid)
                    count["completed" if done.status.ok else "failed"] += 1
        except DeviceRemovedError:
            count["removed"] += len(outstanding)
            raise


def reads(ctrl: Controller, ns: Namespace, count: Outcomes) -> None:
    while True:
        count["submitted"] += 1
        try:
            data = bytes(ns.read(0, KEPT // ns.block_size))
        except DeviceRemovedError:
            count["removed"] += 1
            raise
        count["completed" if data == PATTERN else "wrong data"] += 1


def admin(ctrl: Controller, ns: Namespace, count: Outcomes) -> None:
    while True:
        count["submitted"] += 1
        try:
            ctrl.identify_page(1)
        except DeviceRemovedError:
            count["removed"] += 1
            raise
        count["completed"] += 1
        time.sleep(0.002)


WAYS = (vectors, submit_and_poll, reads, admin)


class Worker(threading.Thread):
    """One way, and how it ended: ``error`` is what it raised."""

    def __init__(
        self, way: Callable[[Controller, Namespace, Outcomes], None], ctrl: Controller
    ) -> None:
        super().__init__(name=way.__name__, daemon=True)
        self.outcomes: Outcomes = Counter()
        self.error = "none"
        self._way = way
        self._ctrl = ctrl

    def run(self) -> None:
        try:
            self._way(self._ctrl, self._ctrl.namespaces[1], self.outcomes)
        except DeviceRemovedError as error:
            self.error = type(error).__name__
        except BaseException:
            self.error = traceback.format_exc()


# What is left behind


def descriptors() -> list[str]:
    """What this process has open; sockets and pipes without their numbers."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(path).partition("[")[0])
    return sorted(found)


def left() -> dict[str, object]:
    status = Path("/proc/self/status").read_text()
    free = re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert free is not None
    return {
        "descriptors": descriptors(),
        "threads": threading.active_count(),
        "locked": sum(int(size) for size in re.findall(r"Vm(?:Lck|Pin):\s+(\d+)", status)),
        "hugepages": int(free[1]),
    }


# The device's coming and going


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE:g} s for {what}")
        time.sleep(0.01)


def wait_back(cycle: int, address: str) -> None:
    """Say that the controller is gone, and wait until the kernel's nvme driver has it again."""
    events = watch_devices(DEADLINE)
    print(f"gone {cycle}", flush=True)
    for event in events:
        if event.address == address and event.action == "bind":
            return
    raise TimeoutError(f"{address} did not come back")


def use(device: str, cycle: int) -> dict[str, object]:
    """Keep the device busy until it is gone; tell how each way ended."""
    start = time.monotonic()
    ctrl = nvme.open(device)
    opened = time.monotonic() - start
    ns = ctrl.namespaces[1]
    if cycle == 0:
        ns.write(0, PATTERN)
        ns.flush()
    verified = bytes(ns.read(0, KEPT // ns.block_size)) == PATTERN
    workers = [Worker(way, ctrl) for way in WAYS]
    for worker in workers:
        worker.start()
    wait_until(lambda: all(w.outcomes["completed"] for w in workers), "the first completions")
    print(f"in use {cycle}", flush=True)
    deadline = time.monotonic() + DEADLINE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    hung = [worker.name for worker in workers if worker.is_alive()]
    start = time.monotonic()
    ctrl.close()
    return {
        "verified": verified,
        "hung": hung,
        "errors": {worker.name: worker.error for worker in workers},
        "outcomes": {worker.name: worker.outcomes for worker in workers},
        "open_seconds": round(opened, 2),
        "close_seconds": round(time.monotonic() - start, 2),
    }


def main(driver: str, cycles: str, *devices: str) -> None:
    warnings.simplefilter("ignore", UnsafeAccessWarning)
    address = devices[0].partition(":")[2].partition("?")[0]
    path = Path("/sys/bus/pci/devices", address)
    for cycle, device in zip(range(int(cycles)), itertools.cycle(devices), strict=False):
        bind(address, driver)
        facts = use(device, cycle)
        wait_until(lambda: not path.exists(), "the device's end")
        print(json.dumps({"cycle": cycle, "device": device, **facts, "left": left()}), flush=True)
        wait_back(cycle, address)


if __name__ == "__main__":
    main(*sys.argv[1:])
