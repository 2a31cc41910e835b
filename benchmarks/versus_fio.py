"""Hold `nvme-user bench` against fio: the same jobs, side by side.

    python benchmarks/versus_fio.py [--json FILE] [WORD...]

fio runs each job on a file in memory, and nvme-user on the software controller in its own process,
which keeps its data in memory, too, and completes in the doorbell, as fio's file does in its system
call. What is compared is what a job asks for: how many I/Os of each direction there are, and how
many in a second, with which mean latency. Of jobs that go as fast as they can the rate is the
device's, so only their I/Os count. Words choose the jobs whose names have one of them. Exit code 1
where I/Os differ, a rate that was asked for by more than 2 %, or its latency by more than 100 us:
an I/O that waits for another direction's turn waits for milliseconds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import machine_facts
from page import console, write_json
from rich.table import Table

SIZE = 64 << 20
DIRECTIONS = ("read", "write", "trim")
#: A rate may differ by so much from fio's.
RATE = 0.02
#: The latency at a rate by so much.
LATENCY_US = 100


@dataclass(frozen=True, slots=True)
class Case:
    """A job, as fio's options or as a job file, and what about it is the same by its definition."""

    name: str
    options: str
    file: str = ""
    rated: bool = False  # compare rates; I/Os where they are not by time
    by_time: bool = False
    by_chance: float = 0.0  # I/Os may differ by this share
    device: str = ""


MIX = "--rw=randrw --bs=4k --iodepth=8 --time_based --runtime=4"
CASES = (
    Case("rates 800 and 100", f"{MIX} --rate_iops=800,100", rated=True, by_time=True),
    Case("4 MiB/s and 1 MiB/s", f"{MIX} --rate=4m,1m", rated=True, by_time=True),
    Case(
        "rates 700 and 300 of 70 %",
        f"{MIX} --rate_iops=700,300 --rwmixread=70",
        rated=True,
        by_time=True,
    ),
    Case("the same rate for both", f"{MIX} --rate_iops=500,500", rated=True, by_time=True),
    Case(
        "rates with verify",
        "--rw=write --bs=64k --size=8M --verify=crc32c --rate_iops=40,100",
        rated=True,
    ),
    Case("four I/Os", "--rw=read --bs=4k --number_ios=4"),
    Case(
        "name= in [global]",
        "",
        "[global]\nname=all\nrw=read\nbs=4k\nnumber_ios=10\n[one]\n[two]\nnumber_ios=20\n",
    ),
    Case("100 KiB of 1 MiB", "--rw=write --bs=100k --size=1M"),
    Case("100 KiB of 1 MiB, random", "--rw=randwrite --bs=100k --size=1M"),
    Case("300 KiB at random", "--rw=randwrite --bs=300k --size=30M"),
    Case("300 KiB without a map", "--rw=randwrite --bs=300k --size=30M --norandommap"),
    Case("loops of more than the size", "--rw=read --bs=64k --size=4M --io_size=10M --loops=3"),
    Case("backwards from an offset", "--rw=read:-8k --bs=100k --offset=10%"),
    Case("shares of the device", "--rw=read --bs=100k --size=10% --offset=1M"),
    Case("a share of the range", "--rw=randread --bs=4k --size=4M --io_size=33%"),
    Case("half at random", "--rw=randread --bs=4k --size=16M --percentage_random=50 --randseed=1"),
    Case(
        "strided zones",
        "--rw=read --bs=4k --size=8M --zonemode=strided --zonesize=64k --zonerange=64k "
        "--zoneskip=192k",
    ),
    Case(
        "random map of sizes",
        "--rw=randread --bsrange=4k-64k --size=16M --randseed=7",
        by_chance=0.05,
    ),
    Case("bs=1m, device takes 128 KiB", "--rw=randwrite --bs=1m --size=32M", device="&mdts=5"),
    Case(
        "bs=1m and verify",
        "--rw=write --bs=1m --size=16M --verify=crc32c",
        device="&mdts=5",
    ),
)


def run(command: list[str], folder: Path) -> dict[str, Any]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or "{" not in done.stdout:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def both(case: Case, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a case on both; fio's result, then ours."""
    options = [*shlex.split(case.options), "--output-format=json"]
    if case.file:
        (folder / "job.fio").write_text(case.file)
        options.append("job.fio")
    else:
        options.insert(0, "--name=job")
    medium = folder / "medium"
    with medium.open("wb") as file:
        file.truncate(SIZE)
    sized = [] if "--size" in case.options else [f"--size={SIZE}"]
    fio = ["fio", f"--filename={medium}", "--ioengine=libaio", *sized, *options]
    theirs = run(fio, folder)
    medium.unlink()
    ours = Path(sys.executable).with_name("nvme-user")
    device = f"soft:?size={SIZE}&inline=1{case.device}"
    return theirs, run([str(ours), "bench", device, *sized, *options, "--eta=never"], folder)


def rows(case: Case, theirs: dict[str, Any], ours: dict[str, Any]) -> list[dict[str, object]]:
    """Compare them, a row for each job and direction."""
    made: list[dict[str, object]] = []
    if len(theirs["jobs"]) != len(ours["jobs"]):
        sys.exit(f"{case.name}: fio has {len(theirs['jobs'])} jobs and we {len(ours['jobs'])}")
    for one, other in zip(theirs["jobs"], ours["jobs"], strict=True):
        for direction in DIRECTIONS:
            a, b = one[direction], other[direction]
            if not a["total_ios"] and not b["total_ios"]:
                continue
            ios = [int(side["total_ios"]) for side in (a, b)]
            rates = [float(side["iops"]) for side in (a, b)]
            lats = [float(side["lat_ns"]["mean"]) / 1e3 for side in (a, b)]
            same_ios = abs(ios[1] - ios[0]) <= case.by_chance * ios[0]
            asked = case.rated and (direction == "write" or "verify" not in case.options)
            same_rate = not asked or (
                abs(rates[1] / rates[0] - 1) <= RATE and abs(lats[1] - lats[0]) <= LATENCY_US
            )
            made.append(
                {
                    "case": case.name,
                    "job": one["jobname"] if case.file else "",
                    "direction": direction,
                    "ios": ios,
                    "iops": rates if asked else [],
                    "lat_us": lats,
                    "same": (case.by_time or same_ios)
                    and same_rate
                    and one["jobname"] == other["jobname"],
                }
            )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [c for c in CASES if not options.words or any(w in c.name for w in options.words)]
    table = Table("job", "", "I/Os of fio", "ours", "IOPS of fio", "ours", "lat us", "ours", "")
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for case in chosen:
            found += rows(case, *both(case, Path(folder)))
    for row in found:
        numbers = [f"{n:,}" for n in row["ios"]]  # type: ignore[attr-defined]
        rates = [f"{n:,.1f}" for n in row["iops"]] or ["", ""]  # type: ignore[attr-defined]
        lats = [f"{n:,.0f}" for n in row["lat_us"]]  # type: ignore[attr-defined]
        name = f"{row['case']} {row['job']}".strip()
        table.add_row(
            name, str(row["direction"]), *numbers, *rates, *lats, "" if row["same"] else "differ"
        )
    console().print(table)
    if options.json:
        write_json(options.json, machine_facts(), {"cases": found})
    return 0 if all(row["same"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
