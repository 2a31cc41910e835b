"""No system call and no allocation for an I/O: a million cost exactly what ten thousand do.

Against the software controller, over vfio-user and in the doorbell of this process, whatever
--device is: with QEMU's qtest socket each doorbell is a message.

C returns to Python every 100 ms, to let signals through. Such a slice costs some 20 objects of
Python, and if nothing completed in it a look at the device's health; how many there are is a matter
of time, not of I/Os. So the run is one slice here, and the counts are equal to the last one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import software_controller

FEW, MANY = 10_000, 1_000_000

DRIVER = """
import ctypes, sys
import numpy as np
import pynvme_user as nvme
from pynvme_user.driver import vector_queue_pair as queue
from pynvme_user.bench.jobs.job import BlockSizes
from pynvme_user.workload.generator import Generator
from pynvme_user.spec.commands import SQE
from pynvme_user.workload.loop import Workload

queue.SLICE_NS = int(sys.argv[4])
device, way = sys.argv[1:3]
libc = ctypes.CDLL(None)
try:
    allocations = libc.allocations
except AttributeError:
    allocations = lambda: 0
with nvme.open(device) as ctrl, ctrl.queue_pair(32, spin=float("inf")) as pair:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(32 * 4096)
    blocks = 4096 // ns.block_size
    for ios in (FEW, int(sys.argv[3])):  # the first time for what is made once
        lbas = np.arange(ios) % 1000 * blocks
        generator = Generator(rw="randread", block_sizes=[BlockSizes()] * 3, number_ios=ios,
                              block_size=ns.block_size, size=ns.block_count * ns.block_size,
                              time_based=False, io_size=ios * 4096, norandommap=True)
        load = Workload(generator, commands={0: bytes(SQE.build(opc=2, nsid=1))}, buffer=buffer,
                        queue_depth=32, block_shift=ns.block_shift)
        slices, before = 0, allocations()
        libc.write(-1, b"begin", 5)
        if way == "read_many":
            result = pair.read_many(ns, lbas, blocks, buffer, recycle=True)
        else:
            while not pair.run_loop(load, queue.SLICE_NS, geometry=ns.current(),
                                   owner=buffer):
                slices += 1
        libc.write(-1, b"end", 3)
        count = allocations() - before
        done = len(result.check().status) if way == "read_many" else int(load.results[0]["ios"])
print("done", done, "slices", slices + 1, "allocations", count)
""".replace("FEW", str(FEW))

COUNTER = """
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static long count;

int allocations(void) { return (int)__atomic_load_n(&count, __ATOMIC_RELAXED); }
static void counted(void) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

void *malloc(size_t size) { counted(); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { counted(); return __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { counted(); return __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size)
{
	counted();
	return __libc_memalign(alignment, size);
}
"""


@pytest.fixture(scope="module", params=["served", "in the doorbell"])
def device(qemu: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A device of its own, so that it need not run again on every other access."""
    if request.param == "in the doorbell":
        yield "soft:?driver=null-co&inline=1"
        return
    with software_controller.served("null") as (name, _):
        yield name


#: Arrays of any size from memory that the C library has already: how it gets more is not ours.
HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "NUMPY_MADVISE_HUGEPAGE": "0",
}
HOUR_NS = 3600 * 10**9


def run(
    command: list[str],
    device: str,
    way: str,
    ios: int,
    *,
    slice_ns: int = HOUR_NS,
    **environment: str,
) -> tuple[int, int]:
    """Run the driver; tell its slices and allocations, once it has done all I/Os."""
    command = [*command, sys.executable, "-c", DRIVER, device, way, str(ios), str(slice_ns)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | HEAP | environment,
    )
    match = re.fullmatch(r"done (\d+) slices (\d+) allocations (\d+)\n", done.stdout)
    assert match is not None, done.stdout
    assert int(match[1]) == ios
    return int(match[2]), int(match[3])


WAYS = ("read_many", "workload")


def traced(trace: Path, device: str, way: str, ios: int) -> list[str]:
    """The names of the system calls, of all threads, that so many I/Os make."""
    run(["strace", "-f", "-o", str(trace)], device, way, ios)
    text = trace.read_text()
    assert text.count("\n") > 100, "strace saw nothing"
    measured = text.rpartition('write(-1, "begin"')[2].partition("write(-1, ")[0]
    return re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)", measured, re.MULTILINE)


@pytest.mark.parametrize("way", WAYS)
def test_no_system_call_for_an_io(device: str, way: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: ./bootstrap bench")
    assert traced(tmp_path / "few", device, way, FEW) == []
    assert traced(tmp_path / "many", device, way, MANY) == []


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What has to be in the environment so that allocations are counted."""
    folder = tmp_path_factory.mktemp("counter")
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, source], check=True)
    # Python's own objects come from malloc as well, so that each of them counts.
    return {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}


@pytest.mark.parametrize("way", WAYS)
def test_no_allocation_for_an_io(device: str, way: str, counter: dict[str, str]) -> None:
    few, many = (run([], device, way, ios, **counter) for ios in (FEW, MANY))
    assert few[1] > 0, "the counter saw nothing"
    assert few == many


def test_allocations_of_a_slice(device: str, counter: dict[str, str]) -> None:
    """Some 20, or 190 with a look at the device's health, however many I/Os are done in it."""
    _, alone = run([], device, "workload", MANY, **counter)
    slices, allocations = run([], device, "workload", MANY, slice_ns=10**6, **counter)
    assert slices > 10
    assert allocations - alone <= 230 * slices
