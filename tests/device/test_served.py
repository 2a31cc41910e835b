"""A controller that a server goes on serving, whatever becomes of its clients; over vfio-user."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import pynvme_user as nvme

#: Opens a device, says so, and keeps reads outstanding until it is killed.
READER = """
import sys
import numpy as np
import pynvme_user as nvme
with nvme.open(sys.argv[1]) as ctrl, ctrl.queue_pair(32) as qp:
    buffer = ctrl.alloc(32 * 4096)
    print("open", flush=True)
    while True:
        qp.read_many(ctrl.namespaces[1], np.zeros(1 << 16, int), 1, buffer, recycle=True)
"""


@pytest.fixture
def name(device_name: str) -> str:
    if not device_name.startswith("vfio-user:"):
        pytest.skip(f"needs a server that outlives its clients; --device is {device_name}")
    return device_name


def test_clients_that_are_killed(name: str) -> None:
    """The next one finds a controller with queues and commands that nobody waits for."""
    for turn in range(5):
        with subprocess.Popen([sys.executable, "-c", READER, name], stdout=subprocess.PIPE) as one:
            assert one.stdout is not None
            assert one.stdout.readline() == b"open\n"
            one.kill()
        with nvme.open(name) as ctrl:
            ns = ctrl.namespaces[1]
            data = bytes([turn]) * (8 * ns.block_size)
            ns.write(0, data)
            assert ns.read(0, 8) == data


@pytest.mark.parametrize("spin", [0.0, 50e-6])
def test_interrupts(name: str, spin: float) -> None:
    """From vectors of their own, after a reset too."""
    with nvme.open(name, spin=spin) as ctrl:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(32 * ns.block_size)
        pairs = [ctrl.queue_pair(min(depth, ctrl.cap.mqes)) for depth in (1, 4, 32)]
        for _ in range(2):
            for qp in pairs:
                assert qp.sleeps
                qp.read_many(ns, np.arange(500), 1, buffer, recycle=True).check()
                for _ in range(20):
                    qp.submit_read(ns, 0, 1, buffer[: ns.block_size])
                    assert [done.status.ok for done in qp.wait()] == [True]
            ctrl.reset()


def test_polling_after_interrupts(name: str) -> None:
    """The next client is not interrupted by what the last one asked for."""
    for spin in (0.0, None):
        with nvme.open(name, spin=spin) as ctrl, ctrl.queue_pair(4) as qp:
            assert qp.sleeps is (spin is not None)
            qp.submit_flush(ctrl.namespaces[1])
            assert [done.status.ok for done in qp.drain()] == [True]
