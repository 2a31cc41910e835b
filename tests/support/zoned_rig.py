"""A zoned namespace, and jobs on it one after another."""

from __future__ import annotations

from bench_rig import job

from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine

#: Sixteen zones of 1 MiB, of which four may be open. QEMU forgets their state when it ends.
DEVICE = "qemu:?size=16M&zoned=on&zoned.zone_size=1M&zoned.max_open=4&zoned.max_active=4"
KIB = 1024


def run_in_turn(*jobs: dict[str, object]) -> list[JobResult]:
    """Run jobs one after another on one device, with a log of their I/Os."""
    made = [
        job(DEVICE, group=group, **{"zonemode": "zbd", "bs": "64k", **options})
        for group, options in enumerate(jobs)
    ]
    return engine.run(made, io_log=True).jobs
