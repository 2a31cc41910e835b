"""A column store: each column lies on the device as an array, a query scans it with numpy.

    python examples/column_store.py [DEVICE]    # overwrites what is on DEVICE

It printed, on a busy machine with 2 CPUs:

    2,000,000 rows scanned, 22 of 38 MiB read
    447 MB/s, 0.52 of the page cache's; the sum is numpy's

The query reads two columns of three, a chunk at a time, the next chunks read ahead into DMA memory
that numpy computes in. The ratio is to the same columns in a file in memory (memfd), read by
os.preadv. `soft:` is memory, too: it compares the software alone.
"""

import json
import os
import sys
import time

import numpy as np
from page_cache import CachedFile

import pynvme_user as nvme

ROWS, CHUNK = 2_000_000, 1 << 17
ALIGN = 4096  # columns begin at its multiples; the first such bytes say which there are


class Table:
    """Columns of one length on a namespace, which :meth:`create` writes."""

    def __init__(self, ns):
        head = bytes(ns.read(0, ALIGN // ns.block_size)).rstrip(b"\0")
        try:
            self.rows, places = json.loads(head)
        except (ValueError, TypeError):
            raise ValueError("there is no table on this namespace: create() one") from None
        self.columns = {
            name: ns.as_array(dtype, self.rows, offset) for name, (dtype, offset) in places.items()
        }

    @classmethod
    def create(cls, ns, columns):
        """Write columns, durably: the head last, so that a table is there whole or not at all."""
        (rows,) = {len(column) for column in columns.values()}
        ns.write_zeroes(0, ALIGN // ns.block_size)
        ns.flush()
        at, places = ALIGN, {}
        for name, column in columns.items():
            places[name] = column.dtype.str, at
            ns.as_array(column.dtype, rows, at).write(0, column)
            at += -(-column.nbytes // ALIGN) * ALIGN
        ns.flush()
        head = json.dumps([rows, places]).encode()
        if len(head) > ALIGN:
            raise ValueError(f"the names of the columns need more than {ALIGN} bytes")
        ns.write(0, head.ljust(ALIGN, b"\0"))
        ns.flush()
        return cls(ns)

    def scan(self, *names):
        """Give the columns a chunk of rows at a time; the arrays are valid until the next."""
        return zip(*(self.columns[name].stream(CHUNK) for name in names), strict=True)


def query(chunks):
    """Sum the amounts of those whose price is more than 50."""
    return sum(float(amount[price > 50].sum()) for price, amount in chunks)


def main(device):
    """Make a table, query it, compare with numpy in memory."""
    rng = np.random.default_rng(1)
    columns = {
        "id": np.arange(ROWS),
        "price": rng.integers(0, 100, ROWS, np.int32),
        "amount": rng.integers(0, 1000, ROWS).astype(np.float64),
    }
    with nvme.open(device) as ctrl:
        table = Table.create(ctrl.namespaces[1], columns)
        start = time.perf_counter()
        found = query(table.scan("price", "amount"))
        seconds = time.perf_counter() - start
    if found != query([(columns["price"], columns["amount"])]):
        sys.exit("FAILED: the device gave another sum than numpy in memory")
    read = columns["price"].nbytes + columns["amount"].nbytes
    print(f"{ROWS:,} rows scanned, {read >> 20} of {read + columns['id'].nbytes >> 20} MiB read")
    ratio = cached(columns) / seconds
    print(f"{read / seconds / 1e6:,.0f} MB/s, {ratio:.2f} of the page cache's; the sum is numpy's")


def cached(columns):
    """Return the seconds that the query takes on a file, through the page cache."""
    file, at, places = CachedFile(64 << 20), 0, {}
    for name, column in columns.items():
        os.pwrite(file.fd, column, at)
        places[name] = at
        at += column.nbytes

    def stream(name):
        buffer = np.empty(CHUNK, columns[name].dtype)
        for first in range(0, ROWS, CHUNK):
            part = buffer[: min(CHUNK, ROWS - first)]
            os.preadv(file.fd, [part], places[name] + first * part.itemsize)
            yield part

    start = time.perf_counter()
    query(zip(stream("price"), stream("amount"), strict=True))
    seconds = time.perf_counter() - start
    file.close()
    return seconds


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "soft:?size=64M&inline=1")
