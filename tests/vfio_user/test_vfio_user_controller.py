"""The driver over vfio-user, on the repository's own controller: what is special to the two."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from disturbance import until_right
from software_controller import served

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.access.base import RegionIndex
from pynvme_user.errors import DeviceBusyError, DeviceRemovedError, NvmeStatusError
from pynvme_user.spec.commands import SQE, NvmOpcode

PATTERN = np.random.default_rng(7).integers(0, 256, 4 << 20, np.uint8)


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    with served() as (name, _):
        yield name


@pytest.fixture(scope="module")
def ctrl(name: str) -> Iterator[Controller]:
    with nvme.open(name) as ctrl:
        yield ctrl


@pytest.mark.parametrize(
    "query",
    [
        "block-size=4096",
        "mdts=1&size=16M",
        "mdts=0&block-size=4096",
        "mqes=1&queues=1",
        "delay=200&queues=2",
    ],
)
def test_controllers_of_other_properties(query: str) -> None:
    with served(query) as (name, _), nvme.open(name) as ctrl:
        ns = ctrl.namespaces[1]
        data = PATTERN[: 1 << 18] if "delay" in query or "mqes=1&" in query else PATTERN
        lba = (ns.block_count - (len(data) >> ns.block_shift)) // 2
        ns.write(lba, data)
        assert np.array_equal(
            np.frombuffer(ns.read(lba, len(data) >> ns.block_shift), np.uint8), data
        )
        ns.compare(lba, data)
        ns.write_zeroes(lba, 1)
        with pytest.raises(NvmeStatusError, match="Compare Failure"):
            ns.compare(lba, data)


def test_a_delay_is_kept_and_overlaps() -> None:
    with served("null&delay=2000") as (name, _), nvme.open(name) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(32 * 4096)
        with ctrl.queue_pair(32) as qp:

            def attempt() -> str:
                start = time.monotonic()
                done = qp.read_many(ns, np.arange(64), 8, buffer, recycle=True)
                took = time.monotonic() - start
                done.check()
                assert done.latency_ns.min() >= 2_000_000
                return "" if took < 64 * 0.002 else f"64 of 2 ms took {took} s"

            until_right(attempt)


def test_every_queue_pair(ctrl: Controller) -> None:
    """128 of them at once, each with its own data in flight."""
    ns = ctrl.namespaces[1]
    assert ctrl.max_queue_pairs == 128
    pairs = [ctrl.queue_pair(3) for _ in range(128 - len(ctrl._queue_pairs))]
    buffers = [ctrl.alloc(4096) for _ in pairs]
    for round_ in range(2):
        for number, (pair, buffer) in enumerate(zip(pairs, buffers, strict=True)):
            if round_ == 0:
                buffer[:] = number
                pair.submit_write(ns, number * 8, 8, buffer)
            else:
                buffer[:] = 0xFF
                pair.submit_read(ns, number * 8, 8, buffer)
            pair.ring()
        for pair in pairs:
            assert [done.status.ok for done in pair.drain()] == [True]
    for number, buffer in enumerate(buffers):
        assert (buffer == number).all()
    for pair in pairs:
        pair.close()


def test_the_deepest_queue(ctrl: Controller) -> None:
    """As many commands as CAP.MQES allows, all outstanding before the doorbell is rung."""
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    with ctrl.queue_pair(ctrl.cap.mqes) as qp:
        for lba in range(qp.depth):
            qp.submit_read(ns, lba, 1, buffer)
        assert qp.outstanding == qp.depth == 0xFFFF
        assert sum(done.status.ok for done in qp.drain()) == qp.depth


def test_small_buffers_share_mappings(ctrl: Controller) -> None:
    """Servers take 64 mappings: 1 GiB in pieces of 1 MiB has to be fewer."""
    kept = [ctrl.alloc(1 << 20) for _ in range(512)]
    assert len({id(buffer._allocation._owner) for buffer in kept if buffer._allocation}) < 12


# The function


def test_the_command_register() -> None:
    with served() as (name, _):
        ctrl = nvme.open(name)
        config = ctrl.transport.access.region(RegionIndex.CONFIG)
        assert config.read(4, 2) == 0x406  # memory, bus master, INTx disabled
        assert config.read(0x42, 2) & 0xC000 == 0  # MSI-X off
        ctrl.transport.access.reset()
        assert config.read(4, 2) == 0x406
        ctrl.close()


@pytest.mark.parametrize("spin", [0.0, 0.0001])
def test_interrupts(spin: float) -> None:
    with served() as (name, _), nvme.open(name, spin=spin) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
        with ctrl.queue_pair(8) as qp:
            assert qp.sleeps
            # MSI-X is enabled, and not masked
            assert ctrl.transport.access.region(RegionIndex.CONFIG).read(0x42, 2) & 0xC000 == 0x8000
            for lba in range(200):
                qp.submit_read(ns, lba, 1, buffer[:512])
                (done,) = qp.drain()
                assert done.status.ok
        ctrl.reset()
        ctrl.transport.access.reset()
        ctrl.reset()  # the vectors are passed anew with each reset of the function
        with ctrl.queue_pair(8) as qp:
            qp.read_many(ns, np.arange(1000), 1, ctrl.alloc(8 * 512), recycle=True).check()


def test_a_queue_that_sleeps_uses_no_time() -> None:
    """Two hundred commands of 2 ms each: one that spun would burn all of it."""
    with served("null&delay=2000") as (name, _), nvme.open(name, spin=0) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
        with ctrl.queue_pair(8) as qp:
            before = time.thread_time()
            for _ in range(100):
                qp.submit_read(ns, 0, 8, buffer)
                qp.drain()
            assert time.thread_time() - before < 0.1


def test_a_reset_of_the_function_under_load() -> None:
    with served("null&delay=200000") as (name, _), nvme.open(name) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
        with ctrl.queue_pair(8) as qp:
            for _ in range(8):
                qp.submit_read(ns, 0, 8, buffer)
            qp.ring()
            ctrl.transport.access.reset()
            ctrl.reset()
            assert {done.status.ok for done in qp.drain()} == {False}
            qp.submit_read(ns, 0, 8, buffer)
            assert [done.status.ok for done in qp.drain()] == [True]


# One client


def test_a_second_client_is_told_of_the_first(name: str, ctrl: Controller) -> None:
    with pytest.raises(DeviceBusyError, match="in use by process") as caught:
        nvme.open(name)
    assert caught.value.holder == os.getpid()


def test_the_next_client_finds_a_controller_that_was_reset() -> None:
    with served() as (name, _):
        for value in range(20):
            with nvme.open(name) as ctrl:
                assert ctrl.registers.cc.en
                ns = ctrl.namespaces[1]
                assert ns.read(0, 1)[0] == value
                ns.write(0, bytes([value + 1]) * ns.block_size)


def test_a_client_that_is_killed_leaves_the_device_usable() -> None:
    with served() as (name, _):
        ready, started = os.pipe()
        if not (child := os.fork()):
            ctrl = nvme.open(name)
            ctrl.namespaces[1].write(0, bytes(512))
            os.write(started, b"x")
            signal.pause()
        assert os.read(ready, 1) == b"x"
        with pytest.raises(DeviceBusyError) as caught:
            nvme.open(name)
        assert caught.value.holder == child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for end in (ready, started):
            os.close(end)
        with nvme.open(name) as ctrl:
            ctrl.namespaces[1].read(0, 8)


# A server that dies


@pytest.mark.alone
def test_a_server_that_is_killed_is_a_removed_device() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with served("null&delay=10000000") as (name, server):
        ctrl = nvme.open(name)
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(4096)
        qp = ctrl.queue_pair(8)
        for _ in range(8):
            qp.submit_read(ns, 0, 8, buffer)
        qp.ring()
        assert ctrl.transport.access.alive()
        timer = threading.Timer(0.2, server.kill)
        timer.start()
        start = time.monotonic()
        with pytest.raises(DeviceRemovedError):
            qp.drain()
        assert time.monotonic() - start < 5
        assert not ctrl.transport.access.alive()
        with pytest.raises(DeviceRemovedError):
            ctrl.alloc(64 << 20)
        with pytest.raises(DeviceRemovedError):
            ns.read(0, 1)
        timer.join()
        ctrl.close()
        ctrl.close()
    del ctrl, ns, buffer, qp
    assert len(os.listdir("/proc/self/fd")) == descriptors


# The controller's own data pointers, beyond those that the driver makes


@pytest.fixture(scope="module")
def ns(ctrl: Controller) -> Namespace:
    ns = ctrl.namespaces[1]
    ns.write(0, PATTERN)
    return ns


def read_with(ctrl: Controller, blocks: int, *, flags: int = 0, prp1: int, prp2: int) -> int:
    """Read from LBA 0 with this data pointer; return the status' type and code."""
    command = SQE.build(
        opc=NvmOpcode.READ, nsid=1, prp1=prp1, prp2=prp2, cdw12=blocks - 1, flags=flags << 6
    )
    with ctrl.queue_pair(2) as qp:
        qp.submit(command)
        (done,) = qp.drain()
    return int(done.status) & 0x7FF


def descriptors_of(pieces: list[tuple[int, int, int]]) -> bytes:
    return b"".join(
        address.to_bytes(8, "little") + length.to_bytes(4, "little") + bytes([0, 0, 0, kind << 4])
        for address, length, kind in pieces
    )


def test_prp_lists_are_chained(ctrl: Controller, ns: Namespace) -> None:
    """The last entry of a list's page is the address of the next page, if more are needed."""
    data, lists = ctrl.alloc(32 * 4096), ctrl.alloc(3 * 4096)
    entries = lists.view(np.uint64)
    pages = [data.iova + number * 4096 for number in range(1, 32)]
    entries[508:511], entries[511] = pages[:3], lists.iova + 4096
    entries[512 : 512 + 28] = pages[3:]
    first = lists.iova + 508 * 8
    assert read_with(ctrl, 256, prp1=data.iova, prp2=first) == 0
    assert np.array_equal(data, PATTERN[: len(data)])
    # Exactly what is left of a page is no chain.
    data.fill(0)
    entries[511] = pages[3]
    assert read_with(ctrl, 5 * 8, prp1=data.iova, prp2=first) == 0
    assert np.array_equal(data[: 5 * 4096], PATTERN[: 5 * 4096])


def test_sgl_segments(ctrl: Controller, ns: Namespace) -> None:
    data, segments = ctrl.alloc(4096), ctrl.alloc(4096)
    block, segment, last = 0, 2, 3
    first = descriptors_of(
        [
            (data.iova + 4, 100, block),
            (data.iova + 1000, 0, block),
            (segments.iova + 1024, 32, last),
        ]
    )
    second = descriptors_of([(data.iova + 2000, 400, block), (data.iova + 3000, 12, block)])
    segments[: len(first)] = np.frombuffer(first, np.uint8)
    segments[1024:][: len(second)] = np.frombuffer(second, np.uint8)
    data.fill(0xC5)
    length = int.from_bytes(descriptors_of([(0, len(first), segment)])[8:], "little")
    assert read_with(ctrl, 1, flags=1, prp1=segments.iova, prp2=length) == 0
    want = np.full(4096, 0xC5, np.uint8)
    want[4:104], want[2000:2400], want[3000:3012] = (
        PATTERN[:100],
        PATTERN[100:500],
        PATTERN[500:512],
    )
    assert np.array_equal(data, want)


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([(0, 511, 0)], 0x0F),  # less than the transfer
        ([(0, 513, 0)], 0x0F),  # more
        ([(0, 512, 1)], 0x11),  # a bit bucket
        ([(0, 512, 0xF)], 0x11),
        ([(0, 24, 2)], 0x0D),  # a segment of one and a half descriptors
        ([(0, 0, 3)], 0x0D),
        ([(1 << 46, 512, 0)], 0x04),  # not mapped
        ([(1 << 46, 16, 2)], 0x04),
    ],
)
def test_sgls_that_are_refused(
    ctrl: Controller, ns: Namespace, pieces: list[tuple[int, int, int]], code: int
) -> None:
    data = ctrl.alloc(4096)
    ((address, length, kind),) = pieces
    second = int.from_bytes(descriptors_of([(0, length, kind)])[8:], "little")
    assert read_with(ctrl, 1, flags=1, prp1=address or data.iova, prp2=second) == code


@pytest.mark.parametrize(
    ("prp1", "prp2", "blocks", "code"),
    [
        (2, 0, 1, 0x13),  # no dword
        (0, 8, 16, 0x13),  # the second of two pages, not at its start
        (0, 4, 24, 0x13),  # a list that is not qword-aligned
        (1 << 46, 0, 1, 0x04),
        (0, 1 << 46, 24, 0x04),
        (0, 0, 257, 0x02),  # more than MDTS
    ],
)
def test_prps_that_are_refused(
    ctrl: Controller, ns: Namespace, prp1: int, prp2: int, blocks: int, code: int
) -> None:
    data = ctrl.alloc(1 << 18)
    base = 0 if prp1 >> 46 else data.iova
    assert (
        read_with(ctrl, blocks, prp1=prp1 + base, prp2=prp2 + (0 if prp2 >> 46 else base)) == code
    )


@pytest.mark.parametrize("opcode", [0x04, 0x0C, 0x0D, 0x19, 0x7F, 0xFF])
def test_commands_that_it_has_not(ctrl: Controller, opcode: int) -> None:
    with pytest.raises(NvmeStatusError) as caught:
        ctrl.io(opcode, nsid=1)
    assert (caught.value.sct, caught.value.sc) == (0, 1)


def test_data_and_queues_in_the_controller_memory_buffer() -> None:
    with served("cmb=4M&size=16M") as (name, _):
        for turn in range(2):  # the next client finds none of it
            with nvme.open(name) as ctrl:
                ns, buffer = ctrl.namespaces[1], ctrl.cmb.alloc(1 << 20)
                assert int(ctrl.registers.cmbmsc.cba) << 12 == ctrl.cmb.iova
                buffer[:] = PATTERN[turn : turn + len(buffer)]
                with ctrl.queue_pair(8, cmb=("sqs", "cqs", "lists")) as qp:
                    qp.write_many(ns, np.arange(16) * 128, 128, buffer).check()
                    ctrl.reset()
                    buffer[:] = 0
                    qp.read_many(ns, np.arange(16) * 128, 128, buffer).check()
                assert np.array_equal(buffer, PATTERN[turn : turn + len(buffer)])
                assert ns.read(0, 2048) == bytes(buffer)
            assert np.array_equal(buffer[:10], np.zeros(10))  # which is not the device's any more
