"""No system call and no allocation for an I/O: what they cost does not grow with their number.

Over vfio-user against the repository's own controller, whatever --device is: with QEMU's qtest
socket each doorbell is a message.
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
#: What time alone may bring, ten looks at signals and the device's health a second: far below one
#: for each I/O also where a busy machine takes a minute for them.
SLACK = MANY // 100

DRIVER = """
import ctypes, sys
import numpy as np
import pynvme_user as nvme
from pynvme_user.bench.job import BlockSizes
from pynvme_user.generator import Generator
from pynvme_user.spec.commands import SQE
from pynvme_user.workload import Workload

device, way, ios = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    allocations = ctypes.CDLL(None).allocations
except AttributeError:
    allocations = lambda: 0
with nvme.open(device) as ctrl, ctrl.queue_pair(32, spin=float("inf")) as pair:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(32 * 4096)
    blocks = 4096 // ns.block_size
    if way == "read_many":
        lbas = np.arange(ios) % 1000 * blocks
        before = allocations()
        done = len(pair.read_many(ns, lbas, blocks, buffer, recycle=True).check().status)
        done = pair.completed if hasattr(pair, "completed") else ios
    else:
        generator = Generator(rw="randread", block_sizes=[BlockSizes()] * 3, number_ios=ios,
                              block_size=ns.block_size, size=ns.block_count * ns.block_size,
                              time_based=False, io_size=ios * 4096, norandommap=True)
        load = Workload(generator, commands={0: bytes(SQE.build(opc=2, nsid=1))}, buffer=buffer,
                        queue_depth=32, block_shift=ns.block_shift)
        before = allocations()
        while not pair.advance(load, 100_000_000, keep=buffer):
            pass
        done = int(load.results[0]["ios"])
    print("done", done, "allocations", allocations() - before)
"""

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


@pytest.fixture(scope="module")
def device(qemu: None) -> Iterator[str]:
    """A device of its own, so that it need not run again on every other access."""
    with software_controller.served("null") as (name, _):
        yield name


def run(command: list[str], device: str, way: str, ios: int, **environment: str) -> str:
    """Run the driver; return what it printed, once it has done all I/Os."""
    command = [*command, sys.executable, "-c", DRIVER, device, way, str(ios)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | environment,
    )
    assert f"done {ios} " in done.stdout
    return done.stdout


WAYS = ("read_many", "workload")


@pytest.mark.parametrize("way", WAYS)
def test_no_system_call_for_an_io(device: str, way: str, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: ./bootstrap bench")
    counts = {}
    for ios in (FEW, MANY):
        summary = tmp_path / f"{ios}"
        run([strace, "-f", "-c", "-o", str(summary)], device, way, ios)
        total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", summary.read_text(), re.M)
        assert total is not None
        counts[ios] = int(total[1])
    assert counts[FEW] > 100, "strace saw nothing"
    assert abs(counts[MANY] - counts[FEW]) < SLACK, counts


@pytest.mark.parametrize("way", WAYS)
def test_no_allocation_for_an_io(device: str, way: str, tmp_path: Path) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, source], check=True)
    counts = {}
    for ios in (FEW, MANY):
        # Python's own objects come from malloc as well, so that each of them counts.
        printed = run([], device, way, ios, LD_PRELOAD=str(library), PYTHONMALLOC="malloc")
        counts[ios] = int(printed.split()[-1])
    assert counts[FEW] > 0, "the counter saw nothing"
    assert abs(counts[MANY] - counts[FEW]) < SLACK, counts
