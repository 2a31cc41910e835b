"""Opening and closing, use after closing, and the interpreter's end."""

from __future__ import annotations

import gc
import json
import mmap
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from workload import Model, pattern

import pynvme_user as nvme
from pynvme_user import ClosedError, DmaError
from pynvme_user.access.base import RegionIndex
from pynvme_user.spec.registers import CC, CSTS, ShutdownStatus


def test_open_and_close_many_times(device_name: str) -> None:
    for n in range(8):
        with nvme.open(device_name) as ctrl:
            ns = ctrl.namespaces[min(ctrl.namespaces)]
            data = pattern(n, ns.block_size).tobytes()
            ns.write(n, data)
            assert ns.read(n, 1) == data


@pytest.mark.alone
def test_no_descriptor_and_no_thread_is_left(device_name: str) -> None:
    def left() -> tuple[int, set[threading.Thread]]:
        return len(os.listdir("/proc/self/fd")), set(threading.enumerate())

    def more() -> bool:
        descriptors, threads = left()
        return descriptors > before[0] or bool(threads - before[1])

    with nvme.open(device_name):
        pass
    gc.collect()
    before = left()
    for _ in range(3):
        with nvme.open(device_name) as ctrl:
            ctrl.namespaces[min(ctrl.namespaces)].read(0, 1)
    deadline = time.monotonic() + 60
    del ctrl
    gc.collect()  # a controller and its queue pairs know each other
    while more() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not more()


def test_close_shuts_the_controller_down(device_name: str) -> None:
    """CC.SHN normal, SHST complete, then disabled: seen by the one who watches the registers."""
    with nvme.open(device_name) as ctrl:
        seen = []
        write = ctrl.registers.write

        def watched(register: CC) -> None:
            seen.append((register, ctrl.registers.read(CSTS)))
            write(register)

        ctrl.registers.write = watched  # type: ignore[method-assign]
    orders = [(r.en, r.shn) for r, _ in seen if isinstance(r, CC)]
    assert orders == [(1, 1), (0, 0)]
    assert seen[-1][1].shst == ShutdownStatus.COMPLETE


def test_close_twice_and_use_after_close(device_name: str) -> None:
    ctrl = nvme.open(device_name)
    ns = ctrl.namespaces[min(ctrl.namespaces)]
    qp = ctrl.queue_pair(1)
    buffer = ctrl.alloc(4096)
    buffer[:] = 7
    assert not ctrl.closed
    assert not qp.closed
    ctrl.close()
    ctrl.close()
    assert ctrl.closed
    assert qp.closed
    assert qp.outstanding == 0
    qp.close()
    for call in (
        lambda: ns.read(0, 1),
        lambda: ns.write(0, bytes(ns.block_size)),
        ns.flush,
        lambda: ns.write_zeroes(0, 1),
        lambda: ns.read_into(0, buffer),
        lambda: ctrl.admin(6, cdw10=1, buffer=bytearray(4096)),
        lambda: ctrl.admin(0x18),
        lambda: ctrl.io(0, nsid=1),
        lambda: ctrl.queue_pair(1),
        lambda: qp.submit_flush(ns),
        qp.poll,
        lambda: qp.read_many(ns, [0], 1, buffer),
        ctrl.reset,
        ctrl.shutdown,
        lambda: ctrl.alloc(1),
        lambda: ctrl.map(bytes(4096)),
        lambda: ctrl.identify_page(1),
        lambda: ctrl.registers.cap,
        lambda: ctrl.transport.access.region(RegionIndex.CONFIG).read(0, 2),
        ctrl.__enter__,
        qp.__enter__,
    ):
        with pytest.raises(ClosedError, match="closed"):
            call()
    # What the user still looks at is memory, no longer the device's.
    assert (buffer == 7).all()
    buffer[:] = 8
    assert (buffer.array == 8).all()


def test_closing_with_commands_outstanding(device_name: str) -> None:
    """They are waited for; what they wrote is there the next time (or was never promised)."""
    with nvme.open(device_name) as ctrl:
        ns = ctrl.namespaces[min(ctrl.namespaces)]
        qp = ctrl.queue_pair(4)
        for n in range(4):
            buffer = ctrl.alloc(ns.block_size)
            buffer[:] = n
            qp.submit_write(ns, n, 1, buffer)
            if n == 1:
                qp.ring()
    assert qp.outstanding == 0
    if device_name.partition("?")[0] not in ("qemu:", "soft:"):  # another disk each time
        with nvme.open(device_name) as ctrl:
            ns = ctrl.namespaces[min(ctrl.namespaces)]
            for n in range(4):
                assert ns.read(n, 1) == bytes([n]) * ns.block_size


def test_memory_goes_back_with_the_last_view(device_name: str) -> None:
    """Buffers, slices, plain arrays and memoryviews each keep the machine's memory mapped."""
    ctrl = nvme.open(device_name)
    buffer = ctrl.alloc(1 << 16)
    buffer[:] = np.resize(np.arange(256, dtype=np.uint8), 1 << 16)
    views = [buffer[100:200], buffer.array, memoryview(buffer), buffer.view(np.uint32)]
    gone = weakref.ref(buffer._allocation)
    del buffer
    ctrl.close()
    del ctrl
    gc.collect()
    assert bytes(views[2][300:310]) == bytes(range(44, 54))
    assert views[0][0] == 100
    while views:
        assert gone() is not None
        views.pop()
    gc.collect()
    assert gone() is None


def test_an_error_while_opening_closes_all(device_name: str) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        nvme.open(device_name, timeout=0)
    with nvme.open(device_name) as ctrl:
        assert ctrl.namespaces


# --- the interpreter's end ----------------------------------------------------------------------

#: For each ending that it reads (a line, JSON) it forks, and tells the exit code: the start of an
#: interpreter takes seconds in a guest. The child opens the device, says the process id of QEMU, if
#: there is one, leaves commands outstanding, and ends so.
UNCLOSED = """
import json, os, signal, sys
import pynvme_user as nvme
nvme.open
for line in sys.stdin:
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
signal.alarm(60)
for descriptor in (1, 2):
    os.dup2(os.open(sys.argv[1 + descriptor], os.O_WRONLY), descriptor)
ctrl = nvme.open(sys.argv[1])
ns = ctrl.namespaces[min(ctrl.namespaces)]
qp = ctrl.queue_pair(8)
for lba in range(8):
    qp.submit_read(ns, lba, 1, ctrl.alloc(ns.block_size))
    if lba == 4:
        qp.ring()
emulator = getattr(ctrl.transport.access, "_emulator", None)
print(emulator.pid if emulator else 0, flush=True)
exec(json.loads(line))
"""


@dataclass(frozen=True)
class Unclosed:
    """The process that runs UNCLOSED, and what a child of it has said."""

    process: subprocess.Popen[str]
    out: Path
    err: Path

    def end(self, last: str) -> int:
        """Let a child end so; return its exit code."""
        self.out.write_text("")
        self.err.write_text("")
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(last), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def unclosed(device_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unclosed]:
    out, err = (tmp_path_factory.mktemp("unclosed") / name for name in ("out", "err"))
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", UNCLOSED]
    with subprocess.Popen(
        [*command, device_name, out, err],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Unclosed(process, out, err)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("", 0),
        ("del ctrl, ns, qp", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('mine')", 1),
        ("import gc; del ctrl, ns, qp; gc.collect()", 0),
    ],
)
def test_the_interpreter_ends_without_close(
    unclosed: Unclosed, device_name: str, last: str, code: int
) -> None:
    assert unclosed.end(last) == code, unclosed.err.read_text()
    said = unclosed.err.read_text()
    assert "mine" in said or not said
    pid = int(unclosed.out.read_text())
    assert not pid or not Path(f"/proc/{pid}").exists()
    with nvme.open(device_name) as ctrl:
        Model(ctrl.namespaces[min(ctrl.namespaces)], 1 << 16).check()


# --- memory that the user brings -----------------------------------------------------------------


def test_memory_of_the_users_own(device_name: str) -> None:
    memory = mmap.mmap(-1, 16 * mmap.PAGESIZE)
    with nvme.open(device_name) as ctrl:
        ns = ctrl.namespaces[min(ctrl.namespaces)]
        if not device_name.startswith(("vfio:", "0000:", "soft:")):
            with pytest.raises(DmaError, match="use a buffer from alloc"):
                ctrl.map(memory)
            return
        data = pattern(5, len(memory))
        buffer = ctrl.map(memory)
        buffer[:] = data
        ns.write_from(0, buffer)
        assert bytes(memory) == data.tobytes()
        memory[:] = bytes(len(memory))
        ns.read_into(0, buffer)
        assert bytes(memory) == data.tobytes()
        # A part of a page would show the device what else is on it.
        with pytest.raises(DmaError, match="whole pages"):
            ctrl.map(memoryview(memory)[: mmap.PAGESIZE + 512])
        last = weakref.ref(buffer._allocation)
        del buffer
        gc.collect()
        assert last() is None
        assert ctrl.map(memory).iova
    assert bytes(memory) == data.tobytes()


# --- the interpreter's end beside threads ---------------------------------------------------------

DAEMONS = """
import sys, threading, time
import pynvme_user as nvme

ctrl = nvme.open(sys.argv[1])
ns = ctrl.namespaces[min(ctrl.namespaces)]
seen = []

def work(n):
    try:
        buffer = ctrl.alloc(ns.block_size)
        while True:
            ns.read_into(n, buffer) if n % 2 else ns.flush()
            seen.append(n)
    except nvme.ClosedError:
        pass

for n in range(16):
    threading.Thread(target=work, args=(n,), daemon=True).start()
while len(seen) < 100:
    time.sleep(0.001)
"""


def test_the_interpreter_ends_beside_daemon_threads(device_name: str) -> None:
    """Their calls end with ClosedError; that nobody closed the controller is a ResourceWarning."""
    done = subprocess.run(
        [sys.executable, "-W", "default::ResourceWarning", "-c", DAEMONS, device_name],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert "was not closed: call close(), or use `with`" in done.stderr
    assert "Traceback" not in done.stderr
    with nvme.open(device_name) as ctrl:
        ctrl.namespaces[min(ctrl.namespaces)].read(0, 1)
