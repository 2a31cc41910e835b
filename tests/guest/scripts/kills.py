"""Processes killed in the middle of I/O, and the attach after each.

    kills.py COUNT DEVICE...

COUNT children, each in turn with the next of DEVICE, verify what the first one wrote, then keep
three queue pairs busy until SIGKILL. One JSON object a line: of each cycle, then of the whole.
"""

import itertools
import json
import os
import random
import re
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.errors import UnsafeAccessWarning

KEPT = 1 << 20  # bytes at LBA 0 that no later process writes
PATTERN = bytes(np.random.default_rng(7).integers(0, 256, KEPT, np.uint8))


def memory() -> dict[str, int]:
    """Free hugepages, and pages pinned by anybody."""
    Path("/proc/sys/vm/stat_refresh").write_text("1")  # each CPU counts apart, up to a point
    pins = dict(re.findall(r"nr_foll_pin_(\w+) (\d+)", Path("/proc/vmstat").read_text()))
    free = re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert free is not None
    return {
        "hugepages": int(free[1]),
        "pinned": int(pins["acquired"]) - int(pins["released"]),
    }


def vectors(ctrl: Controller, ns: Namespace) -> None:
    first = KEPT // ns.block_size
    buffer = ctrl.alloc(32 * 4096)
    with ctrl.queue_pair(depth=32) as pair:
        while True:
            lbas = first + np.random.randint(0, 1000, 500) * 8
            pair.write_many(ns, lbas, 4096 // ns.block_size, buffer, recycle=True).check()


def submit_and_poll(ctrl: Controller, ns: Namespace) -> None:
    buffer = ctrl.alloc(128 << 10)
    with ctrl.queue_pair(depth=16) as pair:
        while True:
            while pair.outstanding < 8:
                pair.submit_read(ns, 0, buffer.nbytes // ns.block_size, buffer)
            assert all(done.status.ok for done in pair.wait())


def transfers(ctrl: Controller, ns: Namespace) -> None:
    first = (16 << 20) // ns.block_size
    while True:
        ns.write(first, os.urandom(3 << 20))


def child(device: str, ready: int, write: bool) -> None:
    """Attach, verify, say so in a byte, and work until the end comes."""
    start = time.monotonic()
    ctrl = nvme.open(device)
    ns = ctrl.namespaces[1]
    if write:
        ns.write(0, PATTERN)
        ns.flush()
    same = bytes(ns.read(0, KEPT // ns.block_size)) == PATTERN
    for work in (vectors, submit_and_poll, transfers):
        threading.Thread(target=work, args=(ctrl, ns), daemon=True).start()
    report = {"attach_seconds": round(time.monotonic() - start, 2), "verified": same}
    os.write(ready, json.dumps(report).encode())
    time.sleep(60)


def main(count: str, *devices: str) -> None:
    warnings.simplefilter("ignore", UnsafeAccessWarning)
    before = memory()
    random.seed(1)
    for cycle, device in zip(range(int(count)), itertools.cycle(devices), strict=False):
        there, ready = os.pipe()
        pid = os.fork()
        if not pid:
            child(device, ready, write=cycle == 0)
            os._exit(1)
        os.close(ready)
        said = os.read(there, 4096)
        os.close(there)
        time.sleep(random.uniform(0.0, 0.3))
        os.kill(pid, signal.SIGKILL)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        facts = {"cycle": cycle, "device": device, "killed": killed, **json.loads(said or b"{}")}
        print(json.dumps({**facts, **memory()}), flush=True)
    with nvme.open(devices[0]) as ctrl:
        ns = ctrl.namespaces[1]
        verified = bytes(ns.read(0, KEPT // ns.block_size)) == PATTERN
    print(json.dumps({"verified": verified, "before": before, "after": memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
