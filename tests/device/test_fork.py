"""What a forked child may do with its parent's devices: nothing, whenever and however it forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import software_controller

import pynvme_user as nvme

FORKING = Path(__file__).parents[1] / "support" / "forking.py"


@pytest.fixture(autouse=True)
def _qemu(qemu: None) -> None:
    return


def script(code: str, *arguments: str) -> str:
    """Run a script, in which a warning is an error and a process that hangs is ended."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=["qemu", "vfio-user", "soft", "soft inline"])
def devices(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The parent's device, which keeps its data, and a child's own."""
    if request.param == "qemu":
        image = tmp_path / "disk.img"
        image.touch()
        os.truncate(image, 16 << 20)
        yield f"qemu:{image}", "qemu:?size=16M"
    elif request.param.startswith("soft"):
        inline = int("inline" in request.param)
        with nvme.open(f"soft:{tmp_path}/disk.img?size=16M"):
            pass
        yield f"soft:{tmp_path}/disk.img?inline={inline}", f"soft:?inline={inline}&size=16M"
    else:
        with software_controller.served() as (one, _), software_controller.served() as (two, _):
            yield one, two


@pytest.mark.parametrize("start", ["os.fork", "fork", "spawn", "forkserver"])
def test_children_of_each_kind_while_the_device_is_in_use(
    devices: tuple[str, str], start: str
) -> None:
    """forking.py says what is looked at. By hand: the same with 100 rounds, or any number."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FORKING), *devices, start, "2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["rounds"] == 2
    assert result["turns"] > 0
    assert result["alive"]


#: A child keeps no descriptor of the parent's device, not even of one that is being opened. Files
#: of Python's own and of sysfs, which are read meanwhile, are no device's.
DESCRIPTORS = """
# An import of selectors makes an epoll object, one of concurrent.futures.thread changes what is
# done at a fork: neither is to come in the middle of one.
import concurrent.futures.thread, selectors
import os, signal, sys, threading
import pynvme_user as nvme

def is_of_device(link):
    kinds = "socket:", "/memfd:", "anon_inode:", "pipe:", "/dev/"
    return (
        link.startswith(kinds) or sys.argv[1].endswith(link)
    ) and "bar-all-ones" not in link  # one page for all mapped BARs, of nobody's

def descriptors():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            pass  # listdir's own
    return found

def child(before):
    signal.alarm(30)
    new = [pair for pair in descriptors().items() - before.items() if is_of_device(pair[1])]
    assert not new, new
    os._exit(0)

before = descriptors()
ended = threading.Event()

def keep_opening():
    with nvme.open(sys.argv[1], spin=float(sys.argv[2])) as ctrl, ctrl.queue_pair(4):
        pass
    ended.set()

thread = threading.Thread(target=keep_opening)
thread.start()
forks = 0
while not ended.wait(0.005):
    if not (pid := os.fork()):
        child(before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    forks += 1
thread.join()
assert forks, "too quick to be forked in between"
"""


@pytest.mark.parametrize("spin", ["inf", "0"])
def test_a_child_has_no_descriptor_of_the_device(devices: tuple[str, str], spin: str) -> None:
    if devices[0].startswith("qemu:") and spin == "0":
        pytest.skip("QEMU's qtest has no interrupts here: vfio-user shows it")
    script(DESCRIPTORS, devices[0], spin)


#: Nothing that another thread holds at the fork is waited for, whatever it is.
LOCKS = """
import gc, os, signal, sys, threading
sys.path.insert(0, sys.argv[3])
from forking import uses, what_became
import pynvme_user as nvme
from pynvme_user import ForkedError

ctrl = nvme.open(sys.argv[1])
pair, buffer = ctrl.queue_pair(4), ctrl.alloc(1 << 20)
ctrl.namespaces[1].read(0, 1)
kinds = type(threading.Lock()), type(threading.RLock())
found = {id(o): o for o in gc.get_objects() if isinstance(o, threading.Condition)}
for thing in (ctrl, pair, ctrl._admin, *ctrl._queue_pairs, ctrl._device, ctrl.registers, ctrl.dma,
              ctrl.pool, ctrl.transport.access, *vars(ctrl.transport.access).values()):
    for value in getattr(thing, "__dict__", {}).values():
        if isinstance(value, kinds):
            found[id(value)] = value
locks = [o for o in found.values() if isinstance(o, kinds)]
assert len(locks) >= 6, locks
held, over = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    over.wait()
    for lock in reversed(locks):
        lock.release()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
if not (pid := os.fork()):
    signal.alarm(30)
    for name, use in uses(ctrl, pair, buffer).items():
        error = what_became(use)
        assert type(error) is ForkedError, (name, error)
    del buffer
    gc.collect()
    pair.close()
    ctrl.close()
    with nvme.open(sys.argv[2]) as own:
        own.namespaces[1].read(0, 1)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
over.set()
holder.join()
ctrl.namespaces[1].read(0, 1)
ctrl.close()
"""


def test_locks_that_another_thread_holds(devices: tuple[str, str]) -> None:
    script(LOCKS, *devices, str(FORKING.parent))


#: A child of a child: each device says who opened it, and ends with that process.
NESTED = """
import os, sys
import pynvme_user as nvme
from pynvme_user import ForkedError

def owner(use):
    try:
        use()
    except ForkedError as error:
        return error.owner

def wait(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

first = os.getpid()
a = nvme.open(sys.argv[1])
if not (pid := os.fork()):
    second = os.getpid()
    b = nvme.open(sys.argv[2])
    if not (pid := os.fork()):
        assert owner(lambda: a.namespaces[1].flush()) == first
        assert owner(b.reset) == second
        assert repr(b) == f"<Controller {b.name}, opened by process {second}>"
        sys.exit(0)
    wait(pid)
    assert owner(a.reset) == first
    b.namespaces[1].flush()
    b.close()
    sys.exit(0)
wait(pid)
a.namespaces[1].flush()
a.close()
"""


def test_children_of_children(devices: tuple[str, str]) -> None:
    script(NESTED, *devices)


#: A signal handler that forks, in the middle of whatever the device is doing: the child goes on
#: with the call that was interrupted.
IN_A_HANDLER = """
import os, signal, sys
import numpy as np
import pynvme_user as nvme
from pynvme_user import ForkedError, QueueFullError

ctrl = nvme.open(sys.argv[1])
ns = ctrl.namespaces[1]
size = ns.block_size
for lba in range(64):
    ns.write(lba, bytes([lba]) * size)
pair, buffer = ctrl.queue_pair(8), ctrl.alloc(64 * size)
blocks = buffer.reshape(64, size)
children, me, CHILDREN = [], os.getpid(), 8

busy = False

def fork(*_):
    global busy
    if busy or os.getpid() != me or len(children) == CHILDREN:
        return
    busy = True  # or signals that come meanwhile would fork without end
    pid = os.fork()
    if pid:
        children.append(pid)
        busy = False
    else:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)

def check(good):
    # A child looks at its parent's memory, to which that may have read other blocks by now.
    assert good or os.getpid() != me

def one(lba):
    ns.read_into(lba, blocks[0])
    check((blocks[0] == lba).all())

def vector(_):
    pair.read_many(ns, range(64), 1, buffer).check()
    check((blocks[:, 0] == np.arange(64)).all())

def submit(lba):
    pair.submit_read(ns, lba, 1, blocks[lba])
    pair.submit_flush(ns)
    pair.wait()
    assert all(done.status.ok for done in pair.drain())
    check((blocks[lba] == lba).all())

signal.signal(signal.SIGALRM, fork)
try:
    for step in (one, vector, submit):
        children.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0017)
        turn = 0
        while len(children) < CHILDREN:
            step(turn % 64)
            turn += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        step(5)
        for pid in children:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
except (ForkedError, QueueFullError) as error:
    # The latter where the fork came between a look at the controller and the submission.
    assert os.getpid() != me and getattr(error, "owner", me) == me
    ctrl.close()
    sys.exit(0)
assert os.getpid() == me
ctrl.close()
"""


def test_a_fork_in_the_middle_of_a_call(devices: tuple[str, str]) -> None:
    script(IN_A_HANDLER, devices[0])


#: A child may live for long; its parent's device is free when the parent closes it, or dies.
OUTLIVING = """
import os, sys, time
import pynvme_user as nvme
ctrl = nvme.open(sys.argv[1])
ctrl.namespaces[1].write(0, b"kept".ljust(ctrl.namespaces[1].block_size))
there, here = os.pipe()
if not (pid := os.fork()):
    os.write(here, b".")
    time.sleep(100)
os.read(there, 1)  # it has run, and so has closed what it does not own
print(pid, flush=True)
sys.stdin.read()
if sys.argv[2] == "close":
    ctrl.close()
    sys.stdin = open("/dev/null")
    print("closed", flush=True)
os.kill(os.getpid(), 19 if sys.argv[2] == "close" else 9)
"""


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_child_that_lives_on_keeps_no_claim(devices: tuple[str, str], end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVING, devices[0], end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.stdin.close()
            if end == "close":
                assert parent.stdout.readline() == "closed\n"
            else:
                parent.wait()
            assert (
                not (Path("/proc") / str(child) / "stat").read_text().split(")")[1].startswith(" Z")
            )
            with nvme.open(devices[0]) as ctrl:
                assert bytes(ctrl.namespaces[1].read(0, 1))[:4] == b"kept"
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


#: What is bound for a `with` is given back by the process that bound it alone, and a state file of
#: verification is free once its run has ended, whatever child was forked meanwhile.
STATE_FILE = """
import os, sys, time
from pynvme_user.workload.verification import VerifyTable
from pynvme_user.workload.verify_state import NamespaceIdentity, Region
identity = NamespaceIdentity(device="d", serial="s", nguid="", eui64="", nsid=1)
region = Region(block_size=512, first_lba=0, blocks=64, interval_blocks=8)
table = VerifyTable.create_state(sys.argv[1], region, 1, identity)
there, here = os.pipe()
if not (pid := os.fork()):
    table.close()  # not the child's to unlock
    os.read(there, 1)
    assert table.words.sum() == 0
    sys.exit(0)
time.sleep(0.2)
try:
    VerifyTable.open_state(sys.argv[1], identity)
except Exception as error:
    assert "in use by another run" in str(error), error
else:
    raise AssertionError("the child has unlocked it")
table.close()
VerifyTable.open_state(sys.argv[1], identity).close()
os.write(here, b"x")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def test_a_state_file_is_its_runs_alone(tmp_path: Path) -> None:
    script(STATE_FILE, str(tmp_path / "run.state"))


#: The last moment before a request is sent in which a signal's handler could fork: the child's own
#: file has the socket's number by then.
BEFORE_A_REQUEST = """
import os, sys
import pynvme_user as nvme
from pynvme_user.access import qtest_link

class Forking:
    pid = None

    def __getattr__(self, name):
        return getattr(real, name)

    def new(self, *arguments):
        made = real.new(*arguments)
        if self.pid is None:
            self.pid = os.fork()
            if not self.pid:
                while os.dup(2) < 64:
                    pass
        return made

ctrl = nvme.open(sys.argv[1])
real, qtest_link.ffi = qtest_link.ffi, Forking()
try:
    assert ctrl.registers.csts.rdy
except nvme.ForkedError:
    assert not qtest_link.ffi.pid
    os._exit(0)
assert qtest_link.ffi.pid
assert os.waitstatus_to_exitcode(os.waitpid(qtest_link.ffi.pid, 0)[1]) == 0
ctrl.close()
"""


def test_a_fork_before_a_request_is_sent() -> None:
    script(BEFORE_A_REQUEST, "qemu:?size=16M")
