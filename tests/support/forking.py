"""Forks again and again while a device is in use, and says what went wrong.

    forking.py DEVICE CHILD_DEVICE START ROUNDS

START is ``os.fork`` or one of multiprocessing's start methods. In each round a child is started
while threads of this process read, write and do all else with DEVICE. A forked child tries to use
what it inherited, sends the error back, closes it and lets it go; every child then uses
CHILD_DEVICE, a device of its own, and ends normally. After the last round a child lives on while
this process closes DEVICE, and opens that. Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import pynvme_user as nvme
from pynvme_user import Controller, ForkedError
from pynvme_user.access.base import RegionIndex
from pynvme_user.errors import UnsafeAccessWarning

BLOCKS = 256
#: A child that hangs is ended by SIGALRM, which its exit code tells.
CHILD_SECONDS = 60


def content(lba: int, turn: int) -> bytes:
    """What is written to a block: two blocks, or one block at two times, differ everywhere."""
    return np.full(64, lba << 32 | turn, np.uint64).tobytes()


class Parent:
    """A device in use by threads, each of which sees to its own part of it."""

    def __init__(self, ctrl: Controller) -> None:
        self.ctrl = ctrl
        self.ns = ctrl.namespaces[1]
        self.size = self.ns.block_size
        self.pair = ctrl.queue_pair(8)
        self.buffer = ctrl.alloc(BLOCKS * self.size)
        self.faults: list[str] = []
        self.turns = 0
        self._ends = threading.Event()
        for lba in range(BLOCKS):
            self.ns.write(lba, self.block(lba, 0))
        steps = [self.read, self.read_many, self.write_and_read, self.do_all_else]
        self._threads = [threading.Thread(target=self._loop, args=[step]) for step in steps]
        for thread in self._threads:
            thread.start()

    def block(self, lba: int, turn: int) -> bytes:
        return content(lba, turn) * (self.size // 512)

    def _loop(self, step: Callable[[], None]) -> None:
        try:
            while not self._ends.is_set():
                step()
                self.turns += 1
                time.sleep(0.0005)  # for the others, and who else uses this machine
        except BaseException:
            self.faults.append(traceback.format_exc())

    def _check(self, what: str, got: bytes, expected: bytes) -> None:
        if got != expected:
            self.faults.append(f"wrong data: {what}")

    def read(self) -> None:
        lba = random.randrange(BLOCKS // 2)
        self._check("read", self.ns.read(lba, 1), self.block(lba, 0))

    def read_many(self) -> None:
        lbas = np.random.permutation(BLOCKS // 2)[:16]
        self.buffer[:] = 0
        self.pair.read_many(self.ns, lbas, 1, self.buffer).check()
        for index, lba in enumerate(lbas.tolist()):
            got = bytes(self.buffer[index * self.size : (index + 1) * self.size])
            self._check("read_many", got, self.block(lba, 0))

    def write_and_read(self) -> None:
        lba = random.randrange(BLOCKS // 2, BLOCKS)
        turn = self.turns & 0xFFFF_FFFF
        self.ns.write(lba, self.block(lba, turn))
        self._check("write and read", self.ns.read(lba, 1), self.block(lba, turn))

    def do_all_else(self) -> None:
        self.ctrl.identify_page(1)
        assert self.ctrl.registers.csts.rdy
        self.ctrl.alloc(4 << 20)[:] = 1
        with self.ctrl.queue_pair(2) as pair:
            pair.submit_flush(self.ns)
            assert all(done.status.ok for done in pair.drain())

    def close(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        self.pair.close()
        self.ctrl.close()


def uses(ctrl: Controller, pair: Any, buffer: Any) -> dict[str, Callable[[], object]]:
    """All ways to use a controller, one by one."""
    ns = ctrl.namespaces[1]
    block = buffer[: ns.block_size]
    return {
        "read": lambda: ns.read(0, 1),
        "read_into a new buffer": lambda: ns.read_into(0, bytearray(ns.block_size)),
        "read_into": lambda: ns.read_into(0, block),
        "write": lambda: ns.write(0, bytes(ns.block_size)),
        "long read": lambda: ns.read_into(0, buffer),
        "flush": ns.flush,
        "deallocate": lambda: ns.deallocate([(0, 1)]),
        "submit_read": lambda: pair.submit_read(ns, 0, 1, block),
        "ring": pair.ring,
        "poll": pair.poll,
        "wait": pair.wait,
        "drain": pair.drain,
        "read_many": lambda: pair.read_many(ns, [0], 1, buffer),
        "with a queue pair": pair.__enter__,
        "queue_pair": lambda: ctrl.queue_pair(4),
        "alloc": lambda: ctrl.alloc(4096),
        "admin": lambda: ctrl.admin(6, cdw10=1, buffer=bytearray(4096)),
        "admin without data": lambda: ctrl.admin(0x0C),
        "io": lambda: ctrl.io(0, nsid=1),
        "abort": lambda: ctrl.abort(1, 1),
        "identify": lambda: ctrl.identify_page(1),
        "registers": lambda: ctrl.registers.cap,
        "reset": ctrl.reset,
        "shutdown": ctrl.shutdown,
        "check_alive": ctrl.check_alive,
        "region": lambda: ctrl.transport.access.region(RegionIndex.CONFIG),
        "bus reset": ctrl.transport.access.reset,
        "with a controller": ctrl.__enter__,
    }


def what_became(use: Callable[[], object]) -> BaseException | None:
    try:
        use()
    except BaseException as error:
        return error
    return None


def use_inherited(parent: Parent, connection: Connection) -> None:
    """Try all that the parent opened, then close it; send the errors to the parent."""
    parent.buffer[:8].tobytes()  # its memory may be looked at, though it is not the child's
    errors = {
        name: what_became(use)
        for name, use in uses(parent.ctrl, parent.pair, parent.buffer).items()
    }
    connection.send(errors)
    parent.pair.close()
    parent.ctrl.close()
    parent.ctrl.__exit__(None, None, None)
    gc.collect()


def use_own(device: str) -> None:
    """Use a device of the child's own."""
    with nvme.open(device) as ctrl, ctrl.queue_pair(4) as pair:
        ns = ctrl.namespaces[1]
        data = os.urandom(64 * ns.block_size)
        ns.write(BLOCKS, data)
        assert ns.read(BLOCKS, 64) == data
        buffer = ctrl.alloc(len(data))
        pair.read_many(ns, np.arange(BLOCKS, BLOCKS + 64), 1, buffer).check()
        assert bytes(buffer) == data


def child(parent: Parent | None, device: str, connection: Connection) -> None:
    signal.alarm(CHILD_SECONDS)
    if parent is not None:
        use_inherited(parent, connection)
    use_own(device)
    connection.send("done")


def wait_and_open(device: str, connection: Connection) -> None:
    """Live on until told, then open what the parent had and has closed; send what it reads."""
    connection.send("alive")
    connection.recv()
    with nvme.open(device) as ctrl:
        connection.send(bytes(ctrl.namespaces[1].read(0, 1)))


class OsFork:
    """os.fork() with the face of multiprocessing's Process; the child ends as any script does."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._target, self._arguments = target, args
        self.exitcode: int | None = None

    def start(self) -> None:
        self._pid = os.fork()
        if not self._pid:
            self._target(*self._arguments)
            sys.exit(0)

    def join(self) -> None:
        self.exitcode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def process_of(start: str) -> Callable[..., Any]:
    if start == "os.fork":
        return OsFork
    return multiprocessing.get_context(start).Process  # type: ignore[attr-defined, no-any-return]


def one_round(parent: Parent, start: str, device: str, faults: list[str]) -> None:
    ours, theirs = multiprocessing.Pipe()
    inherited = parent if start in ("os.fork", "fork") else None
    process = process_of(start)(target=child, args=(inherited, device, theirs))
    process.start()
    theirs.close()
    try:
        if inherited is not None:
            text = f"{parent.ctrl.name} was opened by process {os.getpid()}: open it here"
            for name, error in ours.recv().items():
                # A region's name has the device's in front.
                told = str(error).replace(" CONFIG", "").replace(" BAR0", "")
                if type(error) is not ForkedError or told != text or error.owner != os.getpid():
                    faults.append(f"{name}: {error!r}")
                elif str(pickle.loads(pickle.dumps(error))) != str(error):
                    faults.append(f"{name}: pickled {error!r}")
        if ours.recv() != "done":
            faults.append("the child's own device")
    except EOFError:
        faults.append("the child said nothing")
    process.join()
    if process.exitcode:
        faults.append(f"the child ended with {process.exitcode}")


def main(device: str, child_device: str, start: str, rounds: str) -> None:
    warnings.simplefilter("ignore", UnsafeAccessWarning)
    faults: list[str] = []
    done = 0
    ctrl = nvme.open(device)
    parent = Parent(ctrl)
    try:
        for _ in range(int(rounds)):
            one_round(parent, start, child_device, faults)
            done += 1
        alive = ctrl.transport.access.alive()
        ours, theirs = multiprocessing.Pipe()
        last = process_of(start)(target=wait_and_open, args=(device, theirs))
        last.start()
        theirs.close()  # so that one that fails ends the wait for what it says
        ours.recv()
    finally:
        parent.close()
    ours.send("closed")
    expected = parent.block(0, 0)
    kept = not device.endswith("=16M")  # a temporary disk is a new one each time it is opened
    if ours.recv() != (expected if kept else bytes(len(expected))):
        faults.append("what a child read after its parent had closed the device")
    last.join()
    if last.exitcode:
        faults.append(f"the last child ended with {last.exitcode}")
    result = {
        "rounds": done,
        "turns": parent.turns,
        "faults": faults + parent.faults,
        "alive": alive,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
