"""fio's aggregate bandwidth logs (--bandwidth-log): what all jobs of a run moved together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pynvme_user.bench.results.result import RunResult
from pynvme_user.bench.results.timeseries import AVERAGE_MS, NS_PER_MS
from pynvme_user.workload.direction import Direction


def write_aggregate_logs(run: RunResult, folder: Path = Path()) -> list[Path]:
    """Write ``agg-read_bw.log`` and those of writes and trims into a folder; return their paths.

    A line for each half second of the run: its end in milliseconds, KiB/s, the direction, and as
    in fio two zeros. Raises OSError, which names the file.
    """
    interval = AVERAGE_MS * NS_PER_MS
    ends = [
        job.start_ns + int(way.samples["end_ns"][-1])
        for job in run.jobs
        for way in job.directions
        if way.samples.size
    ]
    count = -(-max(ends, default=0) // interval)
    paths = []
    for direction in Direction:
        moved = np.zeros(count)
        for job in run.jobs:
            samples = job.directions[direction].samples
            # A sample that ends a little late stays with its interval, by its middle.
            middles = samples["end_ns"] - np.diff(samples["end_ns"], prepend=np.uint64(0)) // 2
            places = (middles.astype(np.int64) + job.start_ns) // interval
            np.add.at(moved, places, samples["bytes"].astype(np.float64))
        paths.append(path := folder / f"agg-{direction.name.lower()}_bw.log")
        rates = np.rint(moved / 1024 / (AVERAGE_MS / 1000)).astype(np.int64).tolist()
        lines = (
            f"{(n + 1) * AVERAGE_MS}, {rate}, {direction:d}, 0, 0\n" for n, rate in enumerate(rates)
        )
        try:
            path.write_text("".join(lines), encoding="ascii")
        except OSError as error:
            error.filename = str(path)
            raise
    return paths
