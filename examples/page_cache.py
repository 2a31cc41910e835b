"""What the examples are measured against: the same calls on a file, through the page cache.

    python examples/page_cache.py [DEVICE]    # 4 KiB at a time; overwrites what is on DEVICE

It printed, on a busy machine with 2 CPUs:

    writes: 24,897 a second, 0.22 of the page cache's
    reads: 60,067 a second, 0.84 of the page cache's

The file is in memory (memfd), as `soft:` is: the ratio is of the software alone. On a device, it
says how far the device is from memory.
"""

import os
import sys
import time

import pynvme_user as nvme


class CachedFile:
    """A file that has the calls of a namespace; a write is durable, as far as it goes, by fsync."""

    block_size = 512

    def __init__(self, size):
        self.fd = os.memfd_create("page-cache")
        os.ftruncate(self.fd, size)
        self.block_count = size // self.block_size

    def read(self, lba, blocks):
        """Read blocks."""
        return os.pread(self.fd, blocks * self.block_size, lba * self.block_size)

    def read_into(self, lba, buffer):
        """Fill a buffer."""
        os.preadv(self.fd, [buffer], lba * self.block_size)

    def write(self, lba, data):
        """Write blocks."""
        os.pwrite(self.fd, data, lba * self.block_size)

    def flush(self):
        """Make them durable."""
        os.fsync(self.fd)

    def close(self):
        """Give the memory back."""
        os.close(self.fd)


def compare(measure, device="soft:?size=256M&inline=1"):
    """Run what a function yields, (what, how many, call), on the device and on the file; print."""
    device = sys.argv[1] if len(sys.argv) > 1 else device
    file = CachedFile(256 << 20)
    with nvme.open(device) as ctrl:
        rates = [timed(measure(ns)) for ns in (ctrl.namespaces[1], file)]
    file.close()
    for what, rate in rates[0].items():
        ratio = rate / rates[1][what]
        print(f"{what}: {rate:,.0f} a second, {ratio:.2f} of the page cache's")


def timed(steps):
    """Return how many of each a second."""
    rates = {}
    for what, count, call in steps:
        start = time.perf_counter()
        call()
        rates[what] = count / (time.perf_counter() - start)
    return rates


def measure(ns):
    """Write and read 4 KiB at a time, one after the other, by plain calls."""
    blocks = 4096 // ns.block_size
    lbas = range(0, 10_000 * blocks, blocks)
    page = bytes(4096)
    yield "writes", len(lbas), lambda: [ns.write(lba, page) for lba in lbas]
    yield "reads", len(lbas), lambda: [ns.read(lba, blocks) for lba in lbas]


if __name__ == "__main__":
    compare(measure)
