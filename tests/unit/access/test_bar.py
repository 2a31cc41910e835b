"""A BAR whose device goes away: here a mapped file that is truncated, which faults the same way."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys

from pynvme_user.access.regions import guard_bar, unguard_bar


def mapped_file(pages: int) -> tuple[int, mmap.mmap, int]:
    fd = os.memfd_create("bar")
    os.ftruncate(fd, pages * mmap.PAGESIZE)
    memory = mmap.mmap(fd, pages * mmap.PAGESIZE)
    return fd, memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_a_guarded_bar_reads_all_ones_once_its_device_is_gone() -> None:
    fd, memory, address = mapped_file(2)
    word = memoryview(memory).cast("I")
    word[0] = 0x1234
    guard_bar(address, len(memory))
    assert word[0] == 0x1234
    os.ftruncate(fd, 0)
    last = len(word) - 1
    assert word[0] == 0xFFFF_FFFF
    word[last] = 7  # lost on a bus; here it stays in a private page
    assert word[1] == 0xFFFF_FFFF
    assert word[last - 1] == 0xFFFF_FFFF
    unguard_bar(address)


FAULT = """
import mmap, os, sys
sys.path[:0] = {path!r}
sys.path.insert(0, {tests!r})
from test_bar import mapped_file
from pynvme_user.access.regions import guard_bar, unguard_bar
_, guarded, address = mapped_file(1)
guard_bar(address, len(guarded))
if {unguard}:
    unguard_bar(address)
    os.ftruncate(_, 0)
    guarded[0]
fd, other, _ = mapped_file(1)
os.ftruncate(fd, 0)
other[0]
"""


def test_a_fault_elsewhere_still_ends_the_process() -> None:
    for unguard in (False, True):
        script = FAULT.format(path=sys.path, tests=os.path.dirname(__file__), unguard=unguard)
        done = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
        assert done.returncode == -signal.SIGBUS
