"""Sum a column of a Parquet file on each of four devices: by Dask in four processes, and in one.

    python examples/dask_sum.py [DEVICE...]    # overwrites what is on them

It printed:

    4 devices, 4 processes, 2,000,000 rows: sum 1,000,048,463,974

A device has one owner, so each task opens its own, and closes it for the next job. The tasks wait
for each other with their devices open: four processes have four devices at once.
"""

import multiprocessing
import os
import sys
import tempfile

import dask
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 500_000


def store(device, seed):
    """Write a table to a device; return the URL of its file, which says how long it is."""
    values = np.random.default_rng(seed).integers(0, 1_000_000, ROWS)
    table = pa.table({"id": np.arange(ROWS), "value": values})
    with fsspec.open(f"nvme://{device}", "r+b") as file:
        pq.write_table(table, file)
        return f"nvme://{device}#1?size={file.tell()}"


def column_sum(url, together=None):
    """Sum a column of a file; return the sum, and by which process."""
    with fsspec.open(url, "rb") as file:
        if together:
            together.wait(timeout=300)
        return pc.sum(pq.read_table(file, columns=["value"])["value"]).as_py(), os.getpid()


def main(devices):
    """Store the tables, sum them both ways, compare."""
    urls = [store(device, seed) for seed, device in enumerate(devices)]
    with multiprocessing.get_context("spawn").Manager() as manager:
        together = manager.Barrier(len(urls))
        tasks = [dask.delayed(column_sum)(url, together) for url in urls]
        # By default Dask gives a process six tasks at a time.
        parts = dask.compute(*tasks, scheduler="processes", num_workers=len(urls), chunksize=1)
    total = sum(part for part, _ in parts)
    alone = sum(column_sum(url)[0] for url in urls)
    if total != alone:
        sys.exit(f"FAILED: {total:,} by Dask, {alone:,} by one process")
    processes = len({process for _, process in parts})
    print(f"{len(urls)} devices, {processes} processes, {ROWS * len(urls):,} rows: sum {total:,}")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main([f"soft:{folder}/{number}.img?size=16M&inline=1" for number in range(4)])
