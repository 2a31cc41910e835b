"""The device name ``soft:``: its options and errors, its storage, its thread, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import ClosedError, DeviceAccessError, DeviceBusyError, DeviceNameError, DmaError
from pynvme_user.access.base import RegionIndex
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.registers import CAP, CSTS
from pynvme_user.testing import SoftDevice, faults

# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("soft:?nonsense=1", "nonsense is not an option: size, driver,"),
        ("soft:?size", "write options as"),
        ("soft:?size=0", "size is a size, for example 256M"),
        ("soft:?size=much", "not 'much'"),
        ("soft:?logical_block_size=513", "512, 1024, 2048 or 4096, not '513'"),
        ("soft:?mdts=17", "0, which is no limit, to 16"),
        ("soft:?mqes=0", "1 to 65535"),
        ("soft:?max_ioqpairs=512", "1 to 511"),
        ("soft:?msix_qsize=0", "1 to 256"),
        ("soft:?dstrd=11", "0 to 10"),
        ("soft:?delay=-1", "us that each I/O command takes"),
        ("soft:?slow=5", "US:N"),
        ("soft:?fault=nonsense:1", "KIND:N"),
        ("soft:?fault=torn:0", "KIND:N"),
        ("soft:?inline=yes", "0 or 1"),
        ("soft:?interrupts=msi", "msix"),
        ("soft:?inline=1&spin=1", "leave out one"),
        ("soft:some.img?driver=null-co", "leave out the file"),
        ("soft:?size=100", "less than one block"),
        ("soft:?shadow=1&dstrd=1", "goes with neither dstrd nor commands=all: leave out one"),
        ("soft:?shadow=1&commands=all", "goes with neither dstrd nor commands=all: leave out one"),
        ("soft:?commands=some", "plain, or all"),
        ("soft:?commands=all&driver=null-co", "leave out driver=null-co"),
        ("soft:?capacity=1G", "go with commands=all: add it"),
        ("soft:?zoned.zone_size=1M", "go with commands=all: add it"),
        ("soft:?commands=all&size=1M&zoned.zone_size=100k", "give another zoned.zone_size"),
        ("soft:?commands=all&capacity=much", "what namespaces can be made of"),
    ],
)
def test_a_name_that_is_none(name: str, text: str) -> None:
    with pytest.raises(DeviceNameError, match=text):
        nvme.open(name)


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ("", (512, 1 << 30, 512 << 10, 64, 65535, 0)),
        (
            "size=64M&logical_block_size=4096&mdts=2&max_ioqpairs=3&mqes=7&dstrd=2",
            (4096, 64 << 20, 16 << 10, 3, 7, 2),
        ),
        ("driver=null-co&mdts=0&size=1T", (512, 1 << 40, 2 << 20, 64, 65535, 0)),
    ],
)
@pytest.mark.parametrize("inline", [0, 1])
def test_what_a_name_asks_for(
    options: str, limits: tuple[int, int, int, int, int, int], inline: int
) -> None:
    with nvme.open(f"soft:?{options}&inline={inline}".replace("?&", "?")) as ctrl:
        ns = ctrl.namespaces[1]
        cap = ctrl.registers.read(CAP)
        assert limits == (
            ns.block_size,
            ns.block_count * ns.block_size,
            ctrl.max_transfer,
            ctrl.max_queue_pairs,
            cap.mqes,
            cap.dstrd,
        )
        ns.read(0, 1)


def test_a_transfer_of_many_pages() -> None:
    data = np.random.default_rng(3).integers(0, 256, 3 << 20, np.uint8)
    for name in ("soft:?size=8M", "soft:?size=8M&mdts=0&inline=1&logical_block_size=4096"):
        with nvme.open(name) as ctrl:
            ns = ctrl.namespaces[1]
            ns.write(8, data)
            blocks = len(data) >> ns.block_shift
            assert np.array_equal(np.frombuffer(ns.read(8, blocks), np.uint8), data)
            ns.deallocate([(8, blocks)])
            assert not any(ns.read(8, blocks))


# --- shadow doorbells -----------------------------------------------------------------------------


def shadow_of(qp: QueuePair) -> list[list[int]]:
    """The shadow doorbells of a queue pair, submission and completion, and their event indices."""
    assert qp.queue.shadow is not None
    at = slice(2 * qp.qid, 2 * qp.qid + 2)
    return [page.view(np.uint32)[at].tolist() for page in qp.queue.shadow]


def test_shadow_doorbells_are_left_out_unless_they_are_asked_for() -> None:
    with nvme.open("soft:?size=1M") as ctrl:
        assert not ctrl.identify.oacs.dbcs
        assert ctrl.transport.shadow is None
        with pytest.raises(nvme.NvmeStatusError, match="Invalid Command Opcode"):
            ctrl.admin(AdminOpcode.DOORBELL_BUFFER_CONFIG)


def test_without_a_thread_each_shadow_doorbell_is_asked_for() -> None:
    with nvme.open("soft:?size=1M&shadow=1&inline=1") as ctrl:
        assert ctrl.identify.oacs.dbcs
        ns = ctrl.namespaces[1]
        with ctrl.queue_pair(8) as qp:
            for count in range(1, 31):
                qp.submit_flush(ns)
                qp.ring()
                (tail, head), event_index = shadow_of(qp)
                # Only this one of the two moves while nothing is reaped.
                assert tail == event_index[0] == count % (qp.queue.sq_entries)
                assert qp.doorbell_writes - qp.cq_doorbell_writes == count
                assert head == event_index[1]
                assert [done.status.ok for done in qp.drain()] == [True]


def test_a_thread_that_never_sleeps_asks_for_no_shadow_doorbell() -> None:
    with nvme.open("soft:?size=1M&shadow=1&spin=1") as ctrl, ctrl.queue_pair(8) as qp:
        ns = ctrl.namespaces[1]
        rounds, entries = 5, qp.queue.sq_entries
        for _ in range(rounds * entries):
            qp.submit_flush(ns)
            qp.drain()
        # It says where it began, and the doorbell comes by there once in a round.
        assert qp.doorbell_writes - qp.cq_doorbell_writes == rounds
        assert shadow_of(qp)[1][0] == 0


@pytest.mark.parametrize("interrupts", ["", "&interrupts=msix"])
def test_data_by_shadow_doorbells(interrupts: str) -> None:
    """Its thread sleeps and wakes in between: none of the doorbells that wake it may be missed."""
    with nvme.open(f"soft:?size=1M&shadow=1{interrupts}") as ctrl:
        ns = ctrl.namespaces[1]
        for count in range(300):
            ns.write(count, bytes([count % 256]) * 512)
            if not count % 10:
                with ctrl.queue_pair(4) as qp:  # and its event indices are those of nobody before
                    qp.submit_flush(ns)
                    qp.drain()
        assert bytes(ns.read(0, 300)) == b"".join(bytes([n % 256]) * 512 for n in range(300))
        before = ctrl.transport.shadow
        ctrl.reset()
        assert ctrl.transport.shadow is before
        assert not any(ns.read(300, 8))


def test_a_kept_command_does_not_hide_the_next() -> None:
    device = SoftDevice("?size=1M&shadow=1")
    with nvme.open(device, timeout=600) as ctrl, ctrl.queue_pair(8) as qp:
        ns = ctrl.namespaces[1]
        with device.order(faults.keep(), times=1):
            kept = qp.submit_flush(ns)
            qp.ring()
            for _ in range(50):
                qp.submit_flush(ns)
                (done,) = qp.wait()
                assert done.status.ok
        assert [(cid, sqe.opc) for cid, sqe in device.kept] == [(qp.qid, NvmOpcode.FLUSH)]
        device.release()
        assert [done.cid for done in qp.drain()] == [kept]


# --- a file ---------------------------------------------------------------------------------------


def test_a_file_is_made_kept_and_claimed(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with pytest.raises(DeviceAccessError, match=r"name a size to create a raw image.*\?size=1G"):
        nvme.open(f"soft:{image}")
    assert not image.exists()
    with nvme.open(f"soft:{image}?size=16M") as ctrl:
        ctrl.namespaces[1].write(7, b"7" * 512)
        with pytest.raises(DeviceBusyError, match=f"in use by process {os.getpid()}"):
            nvme.open(f"soft:{image}")
        assert image.read_bytes()[7 * 512 : 8 * 512] == b"7" * 512
    with pytest.raises(DeviceAccessError, match="has 16777216 bytes, not the 1024 asked for"):
        nvme.open(f"soft:{image}?size=1k")
    with nvme.open(f"soft:{image}") as ctrl:
        assert ctrl.namespaces[1].read(7, 1) == b"7" * 512


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DeviceAccessError, match="cannot be opened"):
        nvme.open(f"soft:{tmp_path}?size=1M")
    with pytest.raises(DeviceAccessError, match="cannot be opened"):
        nvme.open(f"soft:{tmp_path}/missing/disk.img?size=1M")
    empty = tmp_path / "empty.img"
    empty.touch()
    with pytest.raises(DeviceAccessError, match="has no bytes"):
        nvme.open(f"soft:{empty}")
    with pytest.raises(DeviceAccessError, match="cannot be made"):
        nvme.open(f"soft:{tmp_path}/huge.img?size=60T")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.img"]


#: Writes until it is killed.
WRITER = """
import sys
import pynvme_user as nvme
ctrl = nvme.open(sys.argv[1])
print("open", flush=True)
while True:
    ctrl.namespaces[1].write(0, bytes(range(256)) * 512)
"""


def test_nothing_is_left_of_a_process_that_is_killed(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    before = os.listdir("/dev/shm")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, f"soft:{image}?size=16M"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DeviceBusyError, match=f"process {process.pid} "):
            nvme.open(f"soft:{image}")
        process.kill()
    with nvme.open(f"soft:{image}") as ctrl:
        assert ctrl.namespaces[1].block_count == 32768
    assert os.listdir("/dev/shm") == before
    assert [path.name for path in tmp_path.iterdir()] == ["disk.img"]


# --- its thread, its end --------------------------------------------------------------------------


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.mark.alone  # it looks for new threads; those of others may end meanwhile
def test_the_thread_goes_with_the_device() -> None:
    before = threads()
    with nvme.open("soft:?size=1M") as ctrl:
        assert len(threads() - before) == 1
        ctrl.namespaces[1].read(0, 1)
    assert not threads() - before
    with nvme.open("soft:?size=1M&inline=1"):
        assert not threads() - before
    device = SoftDevice("?size=1M")
    assert len(threads() - before) == 1
    del device
    assert not threads() - before


def test_an_idle_device_costs_no_time() -> None:
    """Its thread sleeps until a doorbell is rung."""
    with nvme.open("soft:?size=1M") as ctrl:
        ctrl.namespaces[1].read(0, 1)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
        ctrl.namespaces[1].read(0, 1)


def test_every_doorbell_wakes_a_thread_that_falls_asleep() -> None:
    """Between two reads it is about to sleep, asleep, or awake: no read waits for ever."""
    with nvme.open("soft:?size=1M", timeout=5) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
        for turn in range(5000):
            for _ in range(turn % 97):
                pass
            ns.read_into(turn % 8, buffer)
        assert ctrl.resets == 0


ONE_CPU = """
import os, time
import pynvme_user as nvme
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
with nvme.open("soft:?size=1M") as ctrl:
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    started = time.monotonic()
    for lba in range(300):
        ns.read_into(lba, buffer)
    print(time.monotonic() - started)
"""


def test_one_cpu_is_enough() -> None:
    """Host and controller take turns: neither spins until the other's time slice ends."""
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", ONE_CPU], timeout=60))
        for _ in range(3)
    ]
    assert min(seconds) < 0.3  # a millisecond each, where spinning costs several


def test_closed_twice_and_used_afterwards() -> None:
    device = SoftDevice("?size=1M")
    device.close()
    device.close()
    for use in (
        lambda: device.registers.read(0, 8),
        lambda: device.registers.write(0x14, 4, 0),
        lambda: device.region(RegionIndex.CONFIG).read(4, 2),
        device.reset,
        lambda: device.kept,
        device.counts,
    ):
        with pytest.raises(ClosedError, match="make another"):
            use()


def test_the_end_of_a_program_that_closes_nothing() -> None:
    code = """if True:
        import pynvme_user as nvme
        from pynvme_user.testing import SoftDevice, faults
        lone = SoftDevice("?size=1M")
        region = lone.allocate_dma(1 << 20)
        ctrl = nvme.open("soft:?size=1M&delay=20000")
        qp = ctrl.queue_pair(4)
        qp.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
        qp.ring()
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_registers_are_four_bytes_or_eight() -> None:
    device = SoftDevice("?size=1M")
    registers = device.registers
    whole = registers.read(0, 8)
    assert whole == registers.read(0, 4) | registers.read(4, 4) << 32
    assert registers.read(0, 2) == whole & 0xFFFF
    assert registers.read(2, 2) == whole >> 16 & 0xFFFF
    registers.write(0x14, 1, 1)  # too narrow: lost
    assert not CSTS(registers.read(CSTS.offset or 0, 4)).rdy
    assert registers.read(0x1000, 4) == 0
    with pytest.raises(ValueError, match="which has 0x2000"):
        registers.read(0x2000, 4)
    device.close()


def test_memory_is_reached_while_it_is_mapped() -> None:
    device = SoftDevice("?size=1M")
    region = device.allocate_dma(10_000)
    assert region.length % 4096 == 0
    assert region.iova != region.address
    device.release_dma(region)
    with pytest.raises(DmaError, match="released twice"):
        device.release_dma(region)
    with pytest.raises(DmaError, match="whole pages"):
        device.map_dma(region.address + 1, 4096)
    device.close()


def test_many_regions() -> None:
    """Each is found among hundreds, and data goes where it belongs."""
    with nvme.open("soft:?size=1M") as ctrl:
        ns = ctrl.namespaces[1]
        rng = np.random.default_rng(9)
        mine = [np.zeros(8192, np.uint8) for _ in range(300)]
        aligned = [m[-m.ctypes.data % 4096 :][:4096] for m in mine]
        buffers = [ctrl.map(memory) for memory in aligned]
        for n in rng.permutation(300):
            ns.write(int(n), bytes([n % 256]) * 512)
            ns.read_into(int(n), buffers[n][:512])
        assert all((memory[:512] == n % 256).all() for n, memory in enumerate(aligned))
        del buffers[::2]
        ns.read_into(1, buffers[-1][:512])


def test_signals_are_for_the_program(tmp_path: Path) -> None:
    """Ctrl-C reaches Python's main thread, whatever the controller's does."""
    with nvme.open("soft:?size=1M&delay=1000000") as ctrl:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            ctrl.namespaces[1].read(0, 1)
        timer.join()


# --- interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [0, 1])
def test_waits_that_sleep(inline: int) -> None:
    with nvme.open(f"soft:?size=1M&interrupts=msix&inline={inline}&msix_qsize=3") as ctrl:
        assert ctrl._device.spin == 0
        ns = ctrl.namespaces[1]
        for lba in range(200):
            ns.write(lba, bytes([lba]) * 512)
            assert ns.read(lba, 1) == bytes([lba]) * 512
        pairs = [ctrl.queue_pair(4) for _ in range(5)]  # more than there are vectors
        buffer = ctrl.alloc(512 * 64)
        for pair in pairs:
            pair.read_many(ns, range(64), 1, buffer).check()


def test_a_wait_that_sleeps_costs_no_time() -> None:
    with nvme.open("soft:?size=1M&interrupts=msix&delay=300000") as ctrl:
        ns = ctrl.namespaces[1]
        ns.read(0, 1)
        before = time.process_time()
        ns.read(0, 1)
        assert time.process_time() - before < 0.15


# --- in the doorbell ------------------------------------------------------------------------------


def test_inline_completes_in_the_doorbell() -> None:
    device = SoftDevice("?size=1M&inline=1")
    with nvme.open(device) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(512 * 8)
        with ctrl.queue_pair(8) as qp:
            for lba in range(8):
                qp.submit_read(ns, lba, 1, buffer[:512])
            assert device.counts().reads == 0
            qp.ring()
            assert device.counts().reads == 8
            assert len(qp.poll()) == 8


def test_counts_are_exact_in_the_doorbell() -> None:
    device = SoftDevice("?size=1M&inline=1")
    with nvme.open(device) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.alloc(512 * 100)
        before = device.counts()
        with ctrl.queue_pair(32) as qp:
            qp.read_many(ns, range(100), 1, buffer).check()
            qp.write_many(ns, range(50), 1, buffer[: 512 * 50], fua=True).check()
        ns.flush()
        ns.deallocate([(0, 1)])
        counts = device.counts()
        assert counts.reads - before.reads == 100
        assert counts.writes - before.writes == counts.fua_writes == 50
        assert (counts.flushes, counts.trims, counts.planted) == (1, 1, 0)


def test_many_threads_ring_at_once() -> None:
    with nvme.open("soft:?size=1M&inline=1") as ctrl:
        ns = ctrl.namespaces[1]
        wrong: list[object] = []

        def work(number: int) -> None:
            for turn in range(200):
                data = bytes([number, turn]) * 256
                ns.write(number, data)
                if ns.read(number, 1) != data:
                    wrong.append((number, turn))

        workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong
