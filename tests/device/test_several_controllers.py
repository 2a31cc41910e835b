"""Several controllers of one QEMU in one subsystem: what they share, and what each has alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pynvme_user as nvme
from pynvme_user import (
    Controller,
    DeviceAccessError,
    DeviceBusyError,
    ForkedError,
    NamespaceChangedError,
    NvmeStatusError,
)
from pynvme_user.driver.events import Event, Events
from pynvme_user.spec.logs_namespaces import ChangedNamespaceList

#: Namespace 1 is shared; 2 is the second controller's alone, 3 the first's.
NAME = (
    "qemu:?controllers=2&size=16M"
    "&ns2.size=16M&ns2.shared=off&ns2.controller=1&ns3.size=16M&ns3.shared=off"
)
SECONDS = 60
OLD, NEW = b"\x0f" * 4096, b"\xf0" * 4096
LARGE = 4096

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.fixture
def first() -> Iterator[Controller]:
    with nvme.open(NAME, timeout=SECONDS) as ctrl:
        yield ctrl


@pytest.fixture
def second(first: Controller) -> Iterator[Controller]:
    with first.sibling() as ctrl:
        yield ctrl


def blocks(ctrl: Controller) -> int:
    return len(OLD) // ctrl.namespaces[1].block_size


def read(ctrl: Controller) -> bytes:
    return bytes(ctrl.namespaces[1].read(0, blocks(ctrl)))


def changed(events: Events) -> Event:
    event = events.wait(SECONDS)
    assert event is not None
    assert event.changes_namespaces
    assert isinstance(event.log, ChangedNamespaceList)
    assert list(event.log) == [1]
    return event


def attach(first: Controller, second: Controller) -> None:
    """Attach namespace 1 to the first one again, under the second, which has it."""
    # QEMU 10 refuses what the controller that asks has itself, whichever it is asked for.
    second.detach_namespace(1)
    second.attach_namespace(1, [first.identify.cntlid, second.identify.cntlid])


# --- namespaces -----------------------------------------------------------------------------------


def test_one_subsystem(first: Controller, second: Controller) -> None:
    assert first.identify.cntlid != second.identify.cntlid
    assert first.identify.subnqn == second.identify.subnqn
    assert first.identify.cmic.mctrs
    assert second.timeout == first.timeout == SECONDS


def test_shared_and_private_namespaces(first: Controller, second: Controller) -> None:
    assert list(first.namespaces) == [1, 3]
    assert list(second.namespaces) == [1, 2]
    assert [first.namespaces[nsid].identify.nmic.shrns for nsid in (1, 3)] == [1, 0]
    first.namespaces[1].write(0, OLD)
    assert read(second) == OLD
    second.namespaces[1].write(0, NEW)
    assert read(first) == NEW
    second.namespaces[2].write(0, OLD)
    first.namespaces[3].write(0, NEW)
    assert second.namespaces[2].read(0, blocks(second)) == OLD


def test_detached_and_attached_under_the_other(first: Controller, second: Controller) -> None:
    """The event arrives at the one whose namespace it is; its next read uses what is true."""
    ns, other = first.namespaces[1], second.namespaces[1]
    ns.write(0, OLD)
    assert ns.block_size < LARGE
    with first.events() as events:
        second.detach_namespace(1, [first.identify.cntlid])
        changed(events)
        assert list(first.namespaces) == [3]
        with pytest.raises(KeyError):
            first.namespaces[1]
        assert read(second) == OLD

        formats = other.identify.lbafs[: other.identify.nlbaf + 1]
        wanted = next(i for i, lbaf in enumerate(formats) if (1 << lbaf.ds, lbaf.ms) == (LARGE, 0))
        second.format(1, wanted)
        second.namespaces[1].write(0, NEW)
        attach(first, second)
        changed(events)
        with pytest.raises(
            NamespaceChangedError, match="block size changed from 512 bytes to 4096"
        ):
            ns.read(0, 1)
        assert list(first.namespaces) == [1, 3]
        assert first.namespaces[1].block_size == LARGE
        assert read(first) == NEW


def test_detached_in_the_middle_of_io(first: Controller, second: Controller) -> None:
    """Where nobody listens each command has its status: the data, or that there is no such."""
    ns = first.namespaces[1]
    ns.write(0, OLD)
    buffer = first.alloc(4 * len(OLD))
    parts = [buffer[at : at + len(OLD)] for at in range(0, buffer.nbytes, len(OLD))]
    with first.queue_pair(depth=8) as pair:
        submitted = {pair.submit_read(ns, 0, blocks(first), part): part for part in parts}
        second.detach_namespace(1, [first.identify.cntlid])
        for done in pair.drain():
            part = submitted.pop(done.cid)
            assert not done.status.ok or bytes(part) == OLD
        assert not submitted
        with pytest.raises(NvmeStatusError, match="Invalid"):
            ns.read(0, 1)
        attach(first, second)
        assert read(first) == OLD


# --- open and closed ------------------------------------------------------------------------------


def test_there_is_no_other(first: Controller) -> None:
    for number in (-1, 2, 1 << 70):
        with pytest.raises(DeviceAccessError, match=f"has no controller {number}, but 0 to 1"):
            first.sibling(number)
    with pytest.raises(TypeError, match="the number of a controller is a whole number"):
        first.sibling("1")  # type: ignore[arg-type]


@pytest.mark.usefixtures("second")
def test_one_has_a_controller_at_a_time(first: Controller) -> None:
    for number in (0, 1):
        with pytest.raises(DeviceBusyError, match=f"controller {number} of .* is open already"):
            first.sibling(number)
    assert read(first)


def test_it_opens_again(first: Controller) -> None:
    """In other memory than what somebody still looks at."""
    with first.sibling() as second:
        kept = second.alloc(3 << 20)
        kept.fill(0xAA)
    for _ in range(3):
        with first.sibling() as second:
            buffer = second.alloc(8 << 20)
            buffer.fill(0x55)
            second.namespaces[1].read_into(0, buffer)
            del buffer
    assert (kept == 0xAA).all()


def alive(ctrl: Controller) -> int:
    """The process id of its QEMU, which runs."""
    pid: int = ctrl.transport.access._machine._emulator.pid  # type: ignore[attr-defined]
    assert Path(f"/proc/{pid}").exists()
    return pid


def test_qemu_ends_with_the_last_one() -> None:
    first = nvme.open(NAME)
    second = first.sibling()
    pid = alive(first)
    first.namespaces[1].write(0, OLD)
    first.close()
    first.close()
    assert alive(second) == pid
    assert read(second) == OLD
    with second.sibling(0) as first:
        assert read(first) == OLD
    assert alive(second) == pid
    second.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(nvme.ClosedError):
        second.sibling(0)


def test_a_reset_is_of_one_alone(first: Controller, second: Controller) -> None:
    first.namespaces[1].write(0, OLD)
    second.reset()
    second.transport.reset()
    second.reset()
    assert (first.resets, second.resets) == (0, 2)
    assert read(first) == read(second) == OLD


def test_a_forked_child_has_neither(first: Controller, second: Controller) -> None:
    first.namespaces[1].write(0, OLD)
    pid = os.fork()
    if not pid:
        refused = 0
        for ctrl in (first, second):
            for use in (ctrl.sibling, ctrl.reset):
                try:
                    use()
                except ForkedError:
                    refused += 1
            ctrl.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert read(first) == read(second) == OLD


def test_other_devices_have_none() -> None:
    with nvme.open("soft:?size=1M") as ctrl, pytest.raises(DeviceAccessError, match="own name"):
        ctrl.sibling()
