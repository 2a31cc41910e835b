"""One part of a run: one clone of a job on one namespace, with its thread and queue pair."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from pynvme_user.bench.data import fill
from pynvme_user.bench.job import Job, JobError
from pynvme_user.bench.limits import Limits
from pynvme_user.bench.result import (
    SAMPLE,
    Costs,
    CpuUsage,
    Depths,
    DirectionResult,
    Histogram,
    IntervalHistogram,
    JobResult,
    VerifyFault,
    VerifyResult,
)
from pynvme_user.bench.target import SPIN, Target
from pynvme_user.bench.verify import Verification
from pynvme_user.completion import HOST_ABORTED
from pynvme_user.errors import NvmeError
from pynvme_user.generator import Generator
from pynvme_user.queue import QueuePair
from pynvme_user.ring import tick_rate
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import DatasetManagementCdw11, WriteCdw12
from pynvme_user.spec.status import Status
from pynvme_user.workload import FLUSH, Pace, Rate, Workload

#: Samples are taken so often; divides the 500 ms that fio averages over.
SAMPLE_SECONDS = 0.1
#: Histograms for the report and the HdrHistogram log are cut so often.
HISTOGRAM_SECONDS = 1.0
_NS = 1_000_000_000
_LOG_ENTRIES = 1 << 16
#: Sleeping is good to a fraction of this; the rest of a pause is spun away.
_SLEEP_SLACK = 0.002


@dataclass(slots=True)
class Signals:
    """What the parts of a run tell each other."""

    interrupted: threading.Event = field(default_factory=threading.Event)
    stopped: set[int] = field(default_factory=set)  # numbers of the parts that are to end

    def stop(self, parts: Sequence[Part]) -> None:
        """Let these parts end, with what they have done so far."""
        self.stopped.update(part.job.number for part in parts)


class Part:
    """Runs in its own thread; what it came to is read once that has ended."""

    def __init__(
        self, job: Job, target: Target, signals: Signals, *, histograms: bool, io_log: bool
    ) -> None:
        self.job = job
        self.target = target
        self.phase = "ramp" if job.ramp_time else "run"
        self.error: Exception | None = None
        self.failed = False  # by an error or a limit: for exitall_on_error
        self.notes: list[str] = []
        self.ended = threading.Event()
        self._signals = signals
        self._histograms = histograms or job.write_hist_log is not None
        self._io_log = io_log
        self._limits = Limits(job)
        self._samples: tuple[list[tuple[int, ...]], ...] = ([], [], [])
        self._intervals: tuple[list[IntervalHistogram], ...] = ([], [], [])
        self._records: list[np.ndarray] = []
        self._began = self._finished = 0.0
        self._cpu = CpuUsage()
        self._size()

    def _size(self) -> None:
        """Resolve the job's sizes, which only now can be: raises JobError."""
        job, ns = self.job, self.target.ns
        self.offset, self.length = job.region(self.target.capacity, self._zone_bytes)
        for value, what in ((self.offset, "offset"), (job.smallest_block, "bs")):
            if value % ns.block_size:
                raise JobError(
                    f"job {job.name!r}: {what}={value} is not whole blocks of {ns.block_size} "
                    f"bytes, which {self.target.device.name} has"
                )
        largest = job.largest_block
        if largest > self.target.controller.max_transfer and Direction_is_data(job):
            raise JobError(
                f"job {job.name!r}: {self.target.device.name} takes up to "
                f"{self.target.controller.max_transfer} bytes in one command, not {largest}: "
                "use a smaller bs"
            )
        if job.rw == "zone-append" and not self.target.zone_blocks:
            raise JobError(f"job {job.name!r}: {self.target.device.name} is not zoned")
