"""Rates that are asked for and what comes of them: each direction's IOPS and latency.

    python benchmarks/rates.py [DEVICE] [--seconds 5] [--turns 3] [--markdown FILE]

Mixed jobs with a rate, on the real clock. Without a device, which a run overwrites, on the
repository's controller with a set time for each command: 100 us, any number at a time; or one at a
time, so that it does 10,000 a second, for jobs above that.
`tests/unit/workload/test_arrivals.py` has the same on a model's clock, to the nanosecond. The last
column is the CPU time that the loop, which polls, had of its run time: with much less than 100 %
the machine was busy: it says nothing then.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from device import cpus
from page import console, markdown_table
from rich.table import Table

from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine
from pynvme_user.testing.process import served
from pynvme_user.workload.direction import Direction

_DELAY_US = 100
#: What all jobs have.
_COMMON = {"rw": "randrw", "bs": "4k", "iodepth": "8"}


@dataclass(frozen=True, slots=True)
class Case:
    """A job, and the IOPS that reads and writes of it should have; None: what is left.

    Below 1 they are shares of what the device does, which another job without rates shows.
    """

    options: str
    reads: float | None
    writes: float | None
    in_turn: bool = False


CASES = (
    Case("rate_iops=800,100", 800, 100),
    Case("rate=4m,1m", 1024, 256),
    Case("rate_iops=700,300 rwmixread=70", 700, 300),
    Case("rate_iops=90,10 rwmixread=90 rate_process=poisson", 90, 10),
    Case("rate_iops=5000,5000 rate_process=poisson", 5000, 5000),
    Case("rate_iops=,100 rwmixread=90", None, 100),
    Case("rate_iops=6000,1500 rwmixread=10", 6000, 1500, in_turn=True),
    Case("rate_iops=16000,4000", 0.8, 0.2, in_turn=True),
    Case("rate_iops=4000,16000 rate_process=poisson", 0.2, 0.8, in_turn=True),
    Case("rate_iops=,16000", 0.5, 0.5, in_turn=True),
)


@contextlib.contextmanager
def _device(name: str | None, *, in_turn: bool) -> Iterator[str]:
    if name is not None:
        yield name
        return
    split = cpus()
    arguments = ["--delay", str(_DELAY_US), "--cpu", str(split.server)]
    arguments += ["--in-turn"] * in_turn + ["--spin"] * (split.server not in split.clients)
    with served(arguments) as (made, _):
        yield made


def run(case: Case, device: str | None, seconds: float) -> JobResult:
    """Run one job. Raises what the engine raises."""
    options = _COMMON | dict(option.split("=", 1) for option in case.options.split())
    clients = ",".join(map(str, cpus().clients))
    options |= {"runtime": f"{seconds}", "cpus_allowed": clients}
    with _device(device, in_turn=case.in_turn) as name:
        given = [*options.items(), ("time_based", None), ("filename", name)]
        job, _ = JobBuilder(given).job("rates", group=0)
        (result,) = engine.run([job]).jobs
    return result


def cpu_share(result: JobResult) -> float:
    """Tell the CPU time that the loop had, of its run time."""
    return (result.cpu.user_ns + result.cpu.system_ns) / result.runtime_ns


def best(case: Case, device: str | None, seconds: float, turns: int) -> JobResult:
    """Run a job so often; tell the turn in which the loop had most of its CPU."""
    return max((run(case, device, seconds) for _ in range(turns)), key=cpu_share)


def table(device: str | None, seconds: float, turns: int) -> Table:
    """Run all jobs; of the turns of each, the one that had most of its CPU is shown."""
    shown = Table("job", "", title="Mixed jobs at rates")
    for column in ("wanted, IOPS", "IOPS", "off, %", "clat, us", "lat, us", "CPU, %"):
        shown.add_column(column, justify="right", no_wrap=True)
    whole = best(Case("", None, None, in_turn=True), device, seconds, turns)
    most = sum(result.iops for result in whole.directions)
    for case in CASES:
        if device is not None and case.in_turn:
            continue  # what its saturation is, is not known
        result = best(case, device, seconds, turns)
        for direction, wanted in ((Direction.READ, case.reads), (Direction.WRITE, case.writes)):
            got = result.directions[direction]
            if wanted is not None and wanted < 1:
                wanted *= most
            off = "" if wanted is None else f"{100 * (got.iops / wanted - 1):+.1f}"
            shown.add_row(
                f"`{case.options}`{', one at a time' * case.in_turn}",
                direction.name.lower(),
                "what is left" if wanted is None else f"{wanted:,.0f}",
                f"{got.iops:,.0f}",
                off,
                f"{got.clat.mean / 1e3:,.0f}",
                f"{got.lat.mean / 1e3:,.0f}",
                f"{100 * cpu_share(result):.0f}",
            )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", nargs="?", help="its data is lost")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each job (5)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    made = table(options.device, options.seconds, options.turns)
    console().print(made)
    if options.markdown:
        options.markdown.write_text(markdown_table(made), encoding="utf-8")


if __name__ == "__main__":
    main()
