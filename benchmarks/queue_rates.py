"""Many queue pairs at a rate each, on few CPUs: what is asked for, and what comes of it.

    python benchmarks/queue_rates.py [IOPS...] [--seconds 5] [--turns 2] [--markdown FILE]

Random reads of 4 KiB at depth 1 on the repository's controllers, which have the last of the CPUs;
the benchmark's threads share the others. A job with `queues=` has one thread for all of its queue
pairs, on one device or several; a job for each device has one for each. lat counts from when an I/O
is due, clat from its doorbell. The last column is the CPU time of the threads together, which poll,
of the run time: with much less than 100 % of each CPU that they have, the machine was busy.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device import cpus
from page import console, markdown_table
from rich.table import Table

from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.results.aggregate import combine
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine
from pynvme_user.testing.process import served
from pynvme_user.workload.direction import Direction


@dataclass(frozen=True, slots=True)
class Case:
    """What there is of everything, and the IOPS of each queue pair."""

    devices: int
    threads: int  # all on each device, or as many as devices, each on its own
    queues: int  # of each thread on each of its devices
    rate: int

    @property
    def apart(self) -> bool:
        """Whether each thread has a device of its own."""
        return self.threads == self.devices > 1

    @property
    def queues_each(self) -> int:
        """Queue pairs of each device."""
        return self.queues if self.apart else self.queues * self.threads

    @property
    def pairs(self) -> int:
        """Queue pairs in all."""
        return self.devices * self.queues_each

    @property
    def wanted(self) -> int:
        """IOPS of all together."""
        return self.pairs * self.rate


#: Devices, threads, and queues of each thread on each of its devices.
SHAPES = ((1, 1, 500), (1, 2, 250), (4, 1, 125), (4, 4, 125))
#: IOPS of each queue pair.
RATES = (10, 100)


@contextlib.contextmanager
def _devices(case: Case) -> Iterator[list[str]]:
    """Serve a controller for each; give their names."""
    split = cpus()
    alone = case.devices == 1 and split.server not in split.clients
    arguments = ["--queues", str(case.queues_each), "--cpu", str(split.server)]
    arguments += ["--spin"] * alone
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(served(arguments))[0] for _ in range(case.devices)]


def run(case: Case, seconds: float) -> JobResult:
    """Run it; what its threads came to is put together. Raises what the engine raises."""
    with _devices(case) as names:
        clones = 1 if case.apart else case.threads
        files = names if case.apart else [":".join(names)]
        options = {
            "rw": "randread",
            "bs": "4k",
            "numjobs": f"{clones}",
            "queues": f"{case.queues}",
            "rate_iops": f"{case.wanted // case.threads}",
            "ramp_time": f"{min(1.0, seconds)}",
            "runtime": f"{seconds}",
            "cpus_allowed": ",".join(map(str, cpus().clients)),
        }
        given = [*options.items(), ("time_based", None)]
        jobs = [JobBuilder([*given, ("filename", of)]).job("rates", group=0)[0] for of in files]
        return combine(engine.run(jobs).jobs)


def cpu_share(result: JobResult) -> float:
    """Tell the CPU time that the threads had together, of the run time."""
    return (result.cpu.user_ns + result.cpu.system_ns) / result.runtime_ns


def table(rates: Sequence[int], seconds: float, turns: int) -> Table:
    """Run all jobs; of the turns of each, the one whose threads had most of their CPU is shown."""
    shown = Table(title="Queue pairs at a rate each")
    columns = (
        "queue pairs",
        "devices",
        "threads",
        "IOPS of each",
        "wanted, IOPS",
        "IOPS",
        "off, %",
    )
    for column in (*columns, "clat p50, us", "lat p50, us", "lat p99, us", "CPU, %"):
        shown.add_column(column, justify="right", no_wrap=True)
    for case in (Case(*shape, rate) for rate in rates for shape in SHAPES):
        result = max((run(case, seconds) for _ in range(turns)), key=cpu_share)
        got = result.directions[Direction.READ]
        shown.add_row(
            f"{case.pairs}",
            f"{case.devices}",
            f"{case.threads}",
            f"{case.rate}",
            f"{case.wanted:,}",
            f"{got.iops:,.0f}",
            f"{100 * (got.iops / case.wanted - 1):+.2f}",
            f"{got.clat.percentile(50) / 1e3:,.0f}",
            f"{got.lat.percentile(50) / 1e3:,.0f}",
            f"{got.lat.percentile(99) / 1e3:,.0f}",
            f"{100 * cpu_share(result):.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rates", nargs="*", type=int, default=RATES, help="of each, IOPS")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each job (5)")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    made = table(options.rates, options.seconds, options.turns)
    console().print(made)
    if options.markdown:
        options.markdown.write_text(markdown_table(made), encoding="utf-8")


if __name__ == "__main__":
    main()
