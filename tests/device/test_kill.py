"""What is left after kill -9, of this process or of QEMU, and who may have an image."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import (
    Controller,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DeviceRemovedError,
)
from pynvme_user.qemu import program

pytestmark = pytest.mark.kills

#: Opens a device, says the process id of its QEMU, and writes until it is killed.
WRITER = """
import sys
import pynvme_user as nvme
ctrl = nvme.open(sys.argv[1])
ns = ctrl.namespaces[1]
print(ctrl.transport.access._machine._emulator.pid, flush=True)
data = bytes(range(256)) * (8 << 12)
while True:
    ns.write(0, data)
"""
SLOW = "qemu:?driver=null-co&driver.latency-ns=30000000000&size=1G"
#: Whoever notices that QEMU is gone does not wait for what it would have answered.
PROMPT = 10


@pytest.fixture(autouse=True)
def _qemu(qemu: None) -> None:
    return


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def for_ever(step: Callable[[], object]) -> None:
    while True:
        step()


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody reaps has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def names() -> dict[str, set[str]]:
    return {place: set(os.listdir(place)) for place in ("/dev/shm", "/tmp", "/run")}


def start(device: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, device], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with nvme.open(f"qemu:{path}?size=64M") as ctrl:
        assert ctrl.namespaces[1].block_count == 131072
    return path


# --- kill -9 of the Python process --------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.2])
def test_killed_in_the_middle_of_a_write(image: Path, moment: float) -> None:
    before = names()
    process, qemu_pid = start(f"qemu:{image}")
    assert Path(f"/proc/{qemu_pid}/comm").read_text().startswith("qemu")
    time.sleep(moment)
    process.kill()
    process.wait()
    # The image is free again at once, and the next controller is whole.
    with nvme.open(f"qemu:{image}") as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(1, b"b" * 512)
        assert ns.read(1, 1) == b"b" * 512
    assert wait_for(lambda: gone(qemu_pid))
    process.stdout.close()  # type: ignore[union-attr]
    for place, now in names().items():
        new = {name for name in now - before[place] if "qemu" in name or "nvme" in name}
        new = {name for name in new if not name.endswith(".whl")}  # of an installation beside it
        assert not new, f"left behind in {place}"
    assert sorted(path.name for path in image.parent.iterdir()) == ["disk.img"]


def test_terminated(image: Path) -> None:
    """SIGTERM kills Python without cleaning up, too."""
    process, qemu_pid = start(f"qemu:{image}")
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    assert wait_for(lambda: gone(qemu_pid))
    process.stdout.close()  # type: ignore[union-attr]


def test_interrupted_like_ctrl_c(image: Path) -> None:
    process, qemu_pid = start(f"qemu:{image}")
    process.stderr = None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert gone(qemu_pid)
    process.stdout.close()  # type: ignore[union-attr]


# --- kill -9 of QEMU ----------------------------------------------------------------------------


@pytest.fixture
def doomed() -> Iterator[tuple[Controller, Callable[[], None]]]:
    """A controller whose commands take long, and the end of its QEMU in a moment."""
    ctrl = nvme.open(SLOW)
    timers = []

    def kill_soon() -> None:
        timer = threading.Timer(
            0.1, os.kill, (ctrl.transport.access._machine._emulator.pid, signal.SIGKILL)
        )
        timer.start()
        timers.append(timer)

    yield ctrl, kill_soon
    for timer in timers:
        timer.join()
    assert ctrl.removed
    begin = time.monotonic()
    ctrl.close()
    assert time.monotonic() - begin < PROMPT


Doomed = tuple[Controller, Callable[[], None]]


@pytest.mark.parametrize("what", ["read", "write", "long read", "flush", "admin"])
def test_qemu_killed_under_a_call(doomed: Doomed, what: str) -> None:
    ctrl, kill_soon = doomed
    ns = ctrl.namespaces[1]
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: ns.read(0, 1),
        "write": lambda: ns.write(0, bytes(4096)),
        "long read": lambda: ns.read_into(0, bytearray(32 << 20)),
        "flush": ns.flush,
        "admin": lambda: ctrl.admin(0x0C),
    }
    kill_soon()
    begin = time.monotonic()
    call = calls[what]
    with pytest.raises(DeviceRemovedError, match=r"gone"):
        for_ever(call)
    assert time.monotonic() - begin < PROMPT
    for call in (*calls.values(), lambda: ctrl.queue_pair(4), ctrl.reset):
        with pytest.raises(DeviceRemovedError, match="gone"):
            call()


@pytest.mark.parametrize("how", ["poll", "wait", "drain", "submit and ring"])
def test_qemu_killed_under_polling(doomed: Doomed, how: str) -> None:
    """And nothing outstanding is touched: its memory is still there to look at."""
    ctrl, kill_soon = doomed
    ns = ctrl.namespaces[1]
    qp = ctrl.queue_pair(8)
    buffers = [ctrl.alloc(512) for _ in range(8)]
    for n in range(7):
        qp.submit_read(ns, n, 1, buffers[n])
    kill_soon()
    begin = time.monotonic()

    def ring() -> None:
        qp.ring()
        ctrl.check_alive()

    step = ring if how == "submit and ring" else getattr(qp, how)
    with pytest.raises(DeviceRemovedError, match="gone"):
        for_ever(step)
    assert time.monotonic() - begin < PROMPT
    if how == "submit and ring":
        ctrl._recovery.mark_removed()
    for call in (qp.poll, qp.wait, qp.drain, lambda: qp.submit_read(ns, 0, 1, buffers[7])):
        with pytest.raises(DeviceRemovedError, match="gone"):
            call()
    assert all(not buffer.any() for buffer in buffers)


def test_qemu_killed_under_a_vector(doomed: Doomed) -> None:
    ctrl, kill_soon = doomed
    buffer = ctrl.alloc(100 * 512)
    qp = ctrl.queue_pair(16)
    kill_soon()
    begin = time.monotonic()
    with pytest.raises(DeviceRemovedError, match="gone"):
        qp.read_many(ctrl.namespaces[1], range(100), 1, buffer)
    assert time.monotonic() - begin < PROMPT
    buffer[:] = 1


def test_qemu_killed_under_many_threads() -> None:
    """Each gets the error; none hangs."""
    ctrl = nvme.open("qemu:?driver=null-co")
    ns = ctrl.namespaces[1]
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                ns.read_into(0, bytearray(1 << 20))
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    os.kill(ctrl.transport.access._machine._emulator.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in ended] == [DeviceRemovedError] * 4
    ctrl.close()


# --- one process per image ----------------------------------------------------------------------


def test_two_processes_on_one_image(image: Path) -> None:
    process, _ = start(f"qemu:{image}")
    try:
        with pytest.raises(DeviceBusyError, match=f"in use by process {process.pid}") as caught:
            nvme.open(f"qemu:{image}")
        assert caught.value.holder == process.pid
        with pytest.raises(DeviceBusyError, match=f"in use by process {process.pid}"):
            nvme.open(f"qemu:?size=16M&ns2={image}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    nvme.open(f"qemu:{image}").close()


def test_the_same_process_twice(image: Path) -> None:
    link = image.with_name("link.img")
    link.symlink_to(image)
    with nvme.open(f"qemu:{image}") as ctrl:
        for name in (f"qemu:{image}", f"qemu:{link}"):
            with pytest.raises(DeviceBusyError) as caught:
                nvme.open(name)
            assert caught.value.holder == os.getpid()
        ctrl.namespaces[1].write(0, bytes(512))
    nvme.open(f"qemu:{link}").close()


def test_another_qemu_has_the_image(image: Path) -> None:
    """One that is not ours: QEMU's own lock says so, after a moment's patience."""
    other = subprocess.Popen(
        [
            *(program.find(), "-m", "16M", "-display", "none", "-S", "-nodefaults"),
            *("-drive", f"file={image},format=raw,if=none,id=d"),
            *("-device", "nvme,drive=d,serial=other"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        inode = f":{image.stat().st_ino} "
        # The third is the one to write, which it takes last.
        assert wait_for(lambda: Path("/proc/locks").read_text().count(inode) >= 3)
        with pytest.raises(DeviceBusyError, match="in use by another QEMU"):
            nvme.open(f"qemu:{image}")
    finally:
        other.kill()
        other.wait()
    nvme.open(f"qemu:{image}").close()


# --- images that cannot be had ------------------------------------------------------------------


def test_missing_image(tmp_path: Path) -> None:
    path = tmp_path / "none.img"
    with pytest.raises(
        DeviceAccessError, match=r"does not exist: name a size to create a raw image"
    ):
        nvme.open(f"qemu:{path}")
    with pytest.raises(DeviceAccessError, match="cannot be opened: No such file or directory"):
        nvme.open(f"qemu:{tmp_path}/no/such/dir.img?size=1M")
    with pytest.raises(DeviceAccessError, match="cannot be opened: Is a directory"):
        nvme.open(f"qemu:{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_size(image: Path) -> None:
    with pytest.raises(DeviceAccessError, match="has 67108864 bytes, not the 1048576"):
        nvme.open(f"qemu:{image}?size=1M")
    assert image.stat().st_size == 64 << 20


@pytest.mark.parametrize(
    "option", ["nonsense=1", "mdts=x", "driver=nonsense", "logical_block_size=513"]
)
def test_what_qemu_refuses(tmp_path: Path, option: str) -> None:
    """Its words are part of the error, and an image that was made for it is taken away."""
    path = tmp_path / "new.img"
    name = option.partition("=")[0]
    value = option.partition("=")[2]
    with pytest.raises(DeviceAccessError, match=f"QEMU did not start .*({name}|{value})"):
        nvme.open(f"qemu:{path}?size=1M&{option}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_format(image: Path) -> None:
    with pytest.raises(DeviceAccessError, match="not in qcow2 format"):
        nvme.open(f"qemu:{image}?format=qcow2")
    with pytest.raises(DeviceAccessError, match="does not exist"):
        nvme.open(f"qemu:{image}.qcow2?format=qcow2&size=1M")


def test_no_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NVME_USER_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "new.img"
    with pytest.raises(DeviceAccessError, match=r"not installed.*apt-get install qemu-system-x86"):
        nvme.open(f"qemu:{path}?size=1M")
    assert list(tmp_path.iterdir()) == []


def test_the_qemu_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "my-own"
    found = program.find()
    assert found is not None
    named.symlink_to(found)
    monkeypatch.setenv("NVME_USER_QEMU", str(named))
    with nvme.open("qemu:?size=1M") as ctrl:
        pid = ctrl.transport.access._machine._emulator.pid
        assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == bytes(named)
    with pytest.raises(
        DeviceAccessError, match=r"did not start for .*nvme.nonsense'.*leave nonsense out"
    ):
        nvme.open("qemu:?size=1M&nonsense=1")
    with pytest.raises(
        DeviceAccessError, match=r"leave szie out \(or is it size\?\); `qemu-.*help`"
    ):
        nvme.open("qemu:?szie=1M")
    named.unlink()
    with pytest.raises(DeviceAccessError, match=r"NVME_USER_QEMU is .*my-own', which is no"):
        nvme.open("qemu:?size=1M")


@pytest.mark.parametrize("name", ["", "nonsense:", "qemu:x?size", "qemu:?size=1Q"])
def test_names_that_do_not_parse(name: str) -> None:
    with pytest.raises(DeviceNameError):
        nvme.open(name)


def test_data_of_a_killed_writer_is_whole_blocks(image: Path) -> None:
    """What was written is old or new, block by block."""
    with nvme.open(f"qemu:{image}") as ctrl:
        ctrl.namespaces[1].write(0, bytes(8 << 20))
    process, _ = start(f"qemu:{image}")
    time.sleep(0.03)
    process.kill()
    process.wait()
    process.stdout.close()  # type: ignore[union-attr]
    with nvme.open(f"qemu:{image}") as ctrl:
        data = np.frombuffer(ctrl.namespaces[1].read(0, 16384), np.uint8).reshape(-1, 512)
    new = np.tile(np.arange(256, dtype=np.uint8), 2)
    assert ((data == new).all(1) | (data == 0).all(1)).all()
