"""Processes forked while a device is in use, and one that lives on when its parent is killed.

    forks.py ROUNDS DEVICE CHILD_DEVICE START...

Prints one JSON object for each START, that of forking.py, then one of the device after the kill.
"""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

import forking

import pynvme_user as nvme
from pynvme_user.errors import UnsafeAccessWarning

KEPT = b"kept".ljust(4096)


def child_of_the_killed(device: str) -> int:
    """Kill a process that has the device open; return the id of its child, which lives on."""
    there, here = os.pipe()
    parent = os.fork()
    if not parent:
        ctrl = nvme.open(device)
        ctrl.namespaces[1].write(0, KEPT)
        if not os.fork():
            os.write(here, str(os.getpid()).encode())
            time.sleep(100)
            os._exit(0)
        signal.pause()
    os.close(here)
    child = int(os.read(there, 20))  # it has run, and so has closed what it does not own
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return child


def main(rounds: str, device: str, child_device: str, *starts: str) -> None:
    warnings.simplefilter("ignore", UnsafeAccessWarning)
    for start in starts:
        forking.main(device, child_device, start, rounds)
    child = child_of_the_killed(device)
    try:
        with nvme.open(device) as ctrl:
            data = ctrl.namespaces[1].read(0, len(KEPT) // ctrl.namespaces[1].block_size)
        os.kill(child, 0)  # raises ProcessLookupError if it does not live
    finally:
        os.kill(child, signal.SIGKILL)
    print(json.dumps({"kept": bytes(data) == KEPT}))


if __name__ == "__main__":
    main(*sys.argv[1:])
