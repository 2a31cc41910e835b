"""A device that does not start, or whose start is interrupted, leaves nothing behind."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import pytest

import pynvme_user as nvme
from pynvme_user.driver.controller import _open_controllers

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("qemu")]


def descriptors() -> set[str]:
    """Our descriptors, and what they are."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def until(done: Callable[[], bool]) -> None:
    """Wait for it: a process that was killed has to end."""
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done()


@contextmanager
def nothing_left() -> Iterator[None]:
    gc.collect()  # an earlier test's devices
    before = descriptors(), children()
    yield
    gc.collect()  # an exception's traceback holds what failed
    # What others left may end meanwhile.
    until(lambda: descriptors() <= before[0] and children() <= before[1])


def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without setpriv, what was made for QEMU is given back: 50 starts, no descriptor more."""
    program = shutil.which("qemu-system-x86_64")
    assert program is not None
    (tmp_path / "qemu-system-x86_64").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    with nothing_left():
        for _ in range(50):
            with pytest.raises(nvme.DeviceAccessError, match="setpriv is in the package"):
                nvme.open("qemu:?size=1M&ns2.size=1M")


def test_options_that_qemu_refuses(tmp_path: Path) -> None:
    with nothing_left():
        for _ in range(3):
            with pytest.raises(nvme.DeviceAccessError, match=r"'nvme\.nonsense' not found"):
                nvme.open(f"qemu:{tmp_path}/new.img?size=1M&nonsense=1")
    assert not list(tmp_path.iterdir())


def test_too_few_descriptors() -> None:
    """Each descriptor on the way to an open device is once the one that there is not."""
    used = {int(number) for number in os.listdir("/proc/self/fd")}
    first = next(number for number in range(1000) if number not in used)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    try:
        for limit in range(first, first + 100):
            with nothing_left():
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                try:
                    nvme.open("qemu:?size=1M&ns2.size=1M").close()
                    break
                except (OSError, nvme.NvmeError):
                    failed += 1
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 5 < failed < 100


class Interrupted(BaseException):
    pass


class Interrupt:
    """Raise Interrupted at the step ``at`` of a start: a line of what opens, or its return."""

    def __init__(self, at: int, *also: str) -> None:
        self.at = at
        self.steps = 0
        self._functions = OPENING_FUNCTIONS | set(also)

    def __enter__(self) -> Interrupt:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, _: object) -> Trace | None:
        code = frame.f_code
        if Path(code.co_filename).name not in OPENING or code.co_name not in self._functions:
            return None
        return self._step(frame, event, None)

    def _step(self, frame: FrameType, event: str, _: object) -> Trace:
        self.steps += 1
        if self.steps == self.at:
            sys.settrace(None)
            raise Interrupted
        return self._step


Trace: TypeAlias = Callable[[FrameType, str, object], object]
OPENING = {
    "emulator.py",
    "qtest.py",
    "qtest_machine.py",
    "names.py",
    "controller.py",
    "device.py",
    "storage.py",
}
OPENING_FUNCTIONS = {
    "__init__",
    "_start",
    "start",
    "_open",
    "open_access",
    "open_transport",
    "open",
}


@pytest.mark.parametrize("name", ["qemu:?size=1M", "soft:?size=1M"])
def test_an_interrupted_start(name: str) -> None:
    """At each step up to the open device: neither QEMU nor a descriptor stays."""
    with Interrupt(0) as whole:
        nvme.open(name).close()
    assert whole.steps > 50
    with nothing_left():
        others = children()
        for step in range(1, whole.steps):
            with suppress(Interrupted), Interrupt(step):
                nvme.open(name)
            # Who could not take the controller any more finds it closed at the exit.
            for ctrl in list(_open_controllers):
                assert step > whole.steps - 5
                ctrl.close()
            assert children() <= others


def test_an_interrupted_start_of_a_sibling() -> None:
    """At each step: its QEMU goes on with the other, and the next start of it finds it free."""
    with nvme.open("qemu:?size=1M&controllers=2") as ctrl:
        functions = ("sibling", "join", "share", "_enumerate")
        with Interrupt(0, *functions) as whole:
            ctrl.sibling().close()
        assert whole.steps > 50
        for step in range(1, whole.steps, 3):
            with suppress(Interrupted), Interrupt(step, *functions):
                ctrl.sibling()
            for other in list(_open_controllers - {ctrl}):
                assert step > whole.steps - 8
                other.close()
        with ctrl.sibling() as other:
            assert other.namespaces[1].read(0, 1) == ctrl.namespaces[1].read(0, 1)
