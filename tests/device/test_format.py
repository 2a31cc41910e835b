"""Format NVM under an open namespace, on the device itself: no length of before is used after."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bench_rig import job

import pynvme_user as nvme
from pynvme_user import Controller, NamespaceChangedError
from pynvme_user.bench.run import engine
from pynvme_user.bench.run.target import Targets
from pynvme_user.spec.commands import AdminOpcode

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.fixture
def ctrl() -> Iterator[Controller]:
    with nvme.open("qemu:?size=64M") as ctrl:
        yield ctrl


def format_nvm(ctrl: Controller, block_size: int) -> None:
    """Format namespace 1 with blocks of so many bytes, without metadata."""
    page = ctrl.namespaces[1].identify
    index = next(
        n for n, lbaf in enumerate(page.lbafs) if 1 << lbaf.ds == block_size and not lbaf.ms
    )
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=index)


def guarded(ctrl: Controller, length: int) -> tuple[nvme.DmaBuffer, nvme.DmaBuffer]:
    """Memory with a buffer in it, all of one byte."""
    memory = ctrl.alloc(16 << 10)
    memory.fill(0xC5)
    return memory, memory[4096:][:length]


@pytest.mark.parametrize("also", ["nothing", "reset"])
def test_no_byte_behind_the_buffer(ctrl: Controller, also: str) -> None:
    ns = ctrl.namespaces[1]
    memory, buffer = guarded(ctrl, 512)
    ns.read_into(0, buffer)
    buffer.fill(0xC5)
    format_nvm(ctrl, 4096)
    if also == "reset":
        ctrl.reset()
    for call in (ns.read_into, ns.write_from, ns.compare):
        with pytest.raises(NamespaceChangedError, match="changed from 512 bytes to 4096"):
            call(0, buffer)
    with ctrl.queue_pair(4) as pair, pytest.raises(NamespaceChangedError):
        pair.submit_read(ns, 0, 1, buffer)
    assert (memory == 0xC5).all()
    again = ctrl.namespaces[1]
    assert (again.block_size, again.block_count) == (4096, ns.block_count // 8)
    again.write(0, bytes(range(256)) * 16)
    whole = memory[4096:][:4096]
    again.read_into(0, whole)
    assert bytes(whole) == bytes(range(256)) * 16
    assert (memory[:4096] == 0xC5).all()
    assert (memory[8192:] == 0xC5).all()


def test_smaller_blocks_again(ctrl: Controller) -> None:
    for size in (4096, 512, 512, 4096):
        before = ctrl.namespaces[1]
        format_nvm(ctrl, size)
        if before.block_size == size:
            assert not any(before.read(0, 16))
        after = ctrl.namespaces[1]
        after.write(1, b"\x5a" * size)
        assert after.read(0, 2) == bytes(size) + b"\x5a" * size


def test_metadata_appears(ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    index = next(n for n, lbaf in enumerate(ns.identify.lbafs) if lbaf.ms)
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=index)
    with pytest.raises(NamespaceChangedError, match="its metadata changed from 0 bytes to"):
        ns.read(0, 1)
    after = ctrl.namespaces[1]
    assert isinstance(after, nvme.MetadataNamespace)
    assert after.metadata_size == after.identify.lbafs[index].ms
    after.write(0, b"\x5a" * after.block_size, metadata=b"\xa5" * after.metadata_size)
    metadata = bytearray(after.metadata_size)
    assert after.read(0, 1, metadata=metadata) == b"\x5a" * after.block_size
    assert metadata == b"\xa5" * after.metadata_size


def test_protection_information_appears(ctrl: Controller) -> None:
    """With the same metadata: by another DPS alone the namespace is another."""
    page = ctrl.namespaces[1].identify
    index = next(n for n, lbaf in enumerate(page.lbafs) if lbaf.ms == 8)
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=index)
    before = ctrl.namespaces[1]
    assert before.protection is None
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=index | 1 << 5)
    for call in (lambda: before.read(0, 1), lambda: before.write(0, bytes(before.block_size))):
        with pytest.raises(NamespaceChangedError, match="protection information is another"):
            call()
    after = ctrl.namespaces[1]
    assert after.protection is not None
    after.write(0, bytes(after.block_size))
    assert after.read(0, 1) == bytes(after.block_size)


def test_a_vector_across_a_format(ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    formatted: list[float] = []

    def work() -> None:
        time.sleep(0.1)
        format_nvm(ctrl, 4096)
        formatted.append(time.monotonic())

    thread = threading.Thread(target=work)
    with ctrl.queue_pair(8) as pair:
        memory = ctrl.alloc(9 * 4096)
        memory.fill(0xC5)
        buffer = memory[: 8 * 512]
        lbas = np.arange(20_000_000) % 1000
        thread.start()
        with pytest.raises(NamespaceChangedError, match="may have changed while I/O ran on it"):
            pair.read_many(ns, lbas, 1, buffer, recycle=True)
        thread.join()
        assert formatted
        assert (memory[buffer.nbytes :] == 0xC5).all()
        pair.read_many(ctrl.namespaces[1], range(8), 1, memory[: 8 * 4096]).check()


def test_formats_beside_threads(ctrl: Controller) -> None:
    """Whatever size it has by turns, nobody's neighbour is overwritten."""
    stop = threading.Event()
    wrong: list[object] = []
    done = [0, 0, 0]

    def work(index: int) -> None:
        try:
            with ctrl.queue_pair(4) as pair:
                while not stop.is_set():
                    ns = ctrl.namespaces[1]
                    memory, buffer = guarded(ctrl, ns.block_size)
                    try:
                        for _ in range(20):
                            if index == 0:
                                ns.read_into(0, buffer)
                            elif index == 1:
                                pair.submit_read(ns, 0, 1, buffer)
                                pair.drain()
                            else:
                                pair.read_many(ns, [0], 1, buffer).check()
                            done[index] += 1
                    except NamespaceChangedError:
                        pair.drain()
                    if not ((memory[:4096] == 0xC5).all() and (memory[8192:] == 0xC5).all()):
                        wrong.append("overwritten")
                    if ns.block_size == 512 and not (memory[4608:] == 0xC5).all():
                        wrong.append("a block of 512 bytes brought more")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    formats = 0
    while formats < 20 or not (all(done) or wrong):
        format_nvm(ctrl, (4096, 512)[formats % 2])
        formats += 1
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


# --- the benchmark ------------------------------------------------------------------------------


def test_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job ends with an error that says why, and what it did until then counts."""
    device = "qemu:?size=64M"
    controllers: list[Controller] = []
    get = Targets.get

    def look(targets: Targets, name: str, nsid: int | None) -> object:
        target = get(targets, name, nsid)
        controllers.append(target.controller)
        return target

    monkeypatch.setattr(Targets, "get", look)

    def watch(progress: engine.Progress) -> None:
        if progress.elapsed > 0.3 and len(controllers) and not formatted:
            formatted.append(1)
            format_nvm(controllers[0], 4096)

    formatted: list[int] = []
    jobs = [job(device, rw="randrw", bs=4096, iodepth=8, runtime=20, time_based=True)]
    result = engine.run(jobs, watch=watch)
    assert formatted
    assert result.elapsed_ns < 15e9
    (one,) = result.jobs
    assert "namespace 1 may have changed while I/O ran on it" in one.failure
    assert one.directions[0].ios > 0
