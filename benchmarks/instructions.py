"""Count what the C core costs: instructions and cache lines for each read, exact to the last one.

    python benchmarks/instructions.py [--quick] [--json FILE]

A small C program (instructions/count.c) runs the core against a null controller in its own process
under valgrind: callgrind counts instructions, lackey traces memory. The core is compiled as the
extension is. Only the core's instructions count; what it does once is not among them, since the
difference of a run and one of twice as many reads is what is looked at. `submit` has all up to the
doorbell, `complete` the rest; code that was inlined is told apart by the debug information. CFLAGS
in the environment are added to the compiler's flags, to see what they bring.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from page import console
from rich.table import Table

import pynvme_user
from pynvme_user._ring_build import FLAGS, SOURCES
from pynvme_user.units import format_size

CORE = Path(pynvme_user.__file__).parent
PROGRAM = Path(__file__).parent / "instructions" / "count.c"
TOOLS = ("valgrind", "addr2line", "nm", "objdump")
READS = 3200
LINE = 64

WAYS = {
    "plain": "nvme_qpair_submit, _doorbell, _poll",
    "vector": "nvme_vector_run",
    "workload": "nvme_bench_run, uniform random, three histograms",
    "transfer": "nvme_qpair_transfer",
}

#: Functions that only submission calls, whole or inlined.
SUBMITS = re.compile(
    r"(nvme_)?(sq|sqe|data)_|(vector|bench)_(write|fill|submit|next|generate)"
    r"|nvme_qpair_(submit|doorbell)|submit_|nvme_(generator|random|cycle)_|tracker_(re)?take"
)


class MissingToolError(Exception):
    """A program that this needs is not installed."""


@dataclass(frozen=True, slots=True)
class Case:
    """Reads of ``size`` bytes, ``depth`` at a time."""

    way: str
    depth: int
    size: int


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions for each read."""

    case: Case
    submit: float
    complete: float


@dataclass(frozen=True, slots=True)
class Touched:
    """What each read touches of one structure: cache lines, each once a turn, and accesses."""

    case: Case
    structure: str
    lines: float
    accesses: float


def cases(*, quick: bool) -> list[Case]:
    """List what is counted."""
    sizes = (4096,) if quick else (512, 4096, 128 << 10)
    return [
        Case(way, depth, size)
        for way in WAYS
        for depth in ((1,) if way == "transfer" else (1, 32))
        for size in sizes
    ]


def touch_cases(*, quick: bool) -> list[Case]:
    """List what memory is traced for."""
    ways = ("vector",) if quick else ("plain", "vector", "workload")
    return [Case(way, 32, 4096) for way in ways]


class Instrument:
    """The program, built in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        missing = [tool for tool in TOOLS if not shutil.which(tool)]
        if missing:
            raise MissingToolError(
                f"{' and '.join(missing)} not found: run `sudo apt-get install valgrind binutils`"
            )
        self.folder = folder
        self.library = folder / "libcore.so"
        self.program = folder / "count"
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        flags = shlex.split(sysconfig.get_config_var("CFLAGS") or "")
        flags += shlex.split(sysconfig.get_config_var("CCSHARED") or "-fPIC")
        sources = [str(CORE / name) for name in SOURCES]
        flags += [*FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
        include = ["-g", "-std=c11", "-I", str(CORE)]
        link = ["-L", str(folder), "-lcore", f"-Wl,-rpath,{folder}"]
        for command in (
            [*compiler, *flags, *include, "-shared", "-o", str(self.library), *sources],
            [*compiler, "-O2", *include, "-o", str(self.program), str(PROGRAM), *link],
        ):
            subprocess.run(command, check=True)

    def _run(self, tool: str, options: list[str], case: Case, reads: int) -> str:
        """Run the program under a tool; return what it prints."""
        command = ["valgrind", f"--tool={tool}", *options, str(self.program)]
        command += [case.way, str(case.depth), str(case.size), str(reads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed: {done.stderr[-2000:]}")
        return done.stdout

    # --- instructions -------------------------------------------------------------------------

    def count(self, case: Case) -> Count:
        """Count instructions for each read."""
        reads = READS // case.depth * case.depth
        costs = self._executed(case, 2 * reads)
        costs.subtract(self._executed(case, reads))
        submit = complete = 0
        for address, executed in costs.items():
            frames = self._frames[address]
            if "nvme_tick_rate" in frames:  # takes as long as its clock says
                continue
            if any(SUBMITS.match(name) for name in frames):
                submit += executed
            else:
                complete += executed
        return Count(case, submit / reads, complete / reads)

    def _executed(self, case: Case, reads: int) -> Counter[int]:
        """How often each of the core's instructions was executed, by its address in the library."""
        out = self.folder / "callgrind.out"
        self._run("callgrind", ["--dump-instr=yes", f"--callgrind-out-file={out}"], case, reads)
        executed: Counter[int] = Counter()
        objects: dict[str, str] = {}
        ours = called = False
        address = 0
        for line in out.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key in ("ob", "cob"):
                number, _, name = value.partition(" ")
                objects.setdefault(number, name)
                if key == "ob":
                    ours = objects[number] == str(self.library)
            elif key == "calls":
                called = True  # the next line has the cost of what was called
            elif line[:1] in ("0", "+", "-", "*") and not line.startswith("0 "):
                at, _, cost = line.split()
                if at.startswith("0x"):
                    address = int(at, 16)
                elif at != "*":
                    address += int(at, 0)
                if ours and not called:
                    executed[address] += int(cost)
                called = False
        return executed

    @functools.cached_property
    def _frames(self) -> dict[int, list[str]]:
        """The function that each instruction is of, after those that were inlined into it."""
        listing = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(self.library)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        addresses = re.findall(r"^\s+([0-9a-f]+):", listing, re.MULTILINE)
        told = subprocess.run(
            ["addr2line", "-afi", "-e", str(self.library)],
            input="\n".join(addresses),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        frames: dict[int, list[str]] = {}
        lines = iter(told)
        for line in lines:
            if line.startswith("0x"):
                names = frames.setdefault(int(line, 16), [])
            else:
                names.append(line)
                next(lines)  # the place in the source
        return frames

    # --- memory -------------------------------------------------------------------------------

    def touched(self, case: Case) -> list[Touched]:
        """Tell what the core touches of each structure, in the second half of a run."""
        reads = 20 * case.depth
        trace = self.folder / "lackey.out"
        printed = self._run("lackey", ["--trace-mem=yes", f"--log-file={trace}"], case, reads)
        regions = {}
        for name, start, length in re.findall(r"region (\w+) (\w+) (\d+)", printed):
            regions[name] = range(int(start, 16), int(start, 16) + int(length))
        doorbell, init = regions.pop("doorbell").start, regions.pop("init").start
        symbols = subprocess.run(
            ["nm", "--defined-only", str(self.library)], capture_output=True, text=True, check=True
        ).stdout
        offsets = {name: int(at, 16) for at, name in re.findall(r"(\w+) [tT] (\w+)", symbols)}
        base = init - offsets["nvme_qpair_init"]
        core = range(base + min(offsets.values()), base + max(offsets.values()) + 4096)
        lines: Counter[str] = Counter()
        accesses: Counter[str] = Counter()
        turns = list(_turns(trace, core, doorbell))
        counted = turns[len(turns) // 2 : -1]  # the last has no full queue
        for turn in counted:
            for name, region in regions.items():
                at = [address for address in turn if address in region]
                lines[name] += len({address // LINE for address in at})
                accesses[name] += len(at)
        # A doorbell of the loops announces half a queue: see struct nvme_qpair, `turn`.
        per = len(counted) * (case.depth if case.way == "plain" else (case.depth + 1) // 2)
        return [
            Touched(case, name, lines[name] / per, accesses[name] / per)
            for name in regions
            if accesses[name]
        ]


def _turns(trace: Path, core: range, doorbell: int) -> Iterator[list[int]]:
    """Split the addresses that the core reads and writes at the submission doorbells."""
    turn: list[int] = []
    inside = False
    with trace.open(encoding="utf-8") as lines:
        for line in lines:
            kind = line[:2].strip()
            if kind not in ("I", "S", "L", "M") or "," not in line:
                continue
            address = int(line[2:].partition(",")[0], 16)
            if kind == "I":
                inside = address in core
                if address == doorbell:
                    yield turn
                    turn = []
            elif inside:
                turn.append(address)


# --- results ------------------------------------------------------------------------------------


def measure(*, quick: bool, step: Callable[[], object] = lambda: None) -> dict[str, object]:
    """Count everything; ``step`` is called after each of :func:`steps`. Raises MissingToolError."""
    with tempfile.TemporaryDirectory() as folder:
        counter = Instrument(Path(folder))
        counts, touched = [], []
        for case in cases(quick=quick):
            counts.append(counter.count(case))
            step()
        for case in touch_cases(quick=quick):
            touched += counter.touched(case)
            step()
    return {
        "counts": [
            asdict(count.case) | {"submit": count.submit, "complete": count.complete}
            for count in counts
        ],
        "touched": [
            asdict(one.case)
            | {"structure": one.structure, "lines": one.lines, "accesses": one.accesses}
            for one in touched
        ],
    }


def steps(*, quick: bool) -> int:
    """How many there are."""
    return len(cases(quick=quick)) + len(touch_cases(quick=quick))


def tables(result: dict) -> list[Table]:
    """Lay the results out for people."""
    counts = Table("way", "depth", "size", title="Instructions for each read")
    for column in ("submit", "complete", "together"):
        counts.add_column(column, justify="right", no_wrap=True)
    for row in result["counts"]:
        counts.add_row(
            row["way"],
            str(row["depth"]),
            format_size(row["size"]),
            f"{row['submit']:.1f}",
            f"{row['complete']:.1f}",
            f"{row['submit'] + row['complete']:.1f}",
        )
    touched = Table("way", "depth", "structure", title="Memory touched for each 4 KiB read")
    for column in ("cache lines", "accesses"):
        touched.add_column(column, justify="right", no_wrap=True)
    for row in result["touched"]:
        touched.add_row(
            row["way"],
            str(row["depth"]),
            row["structure"],
            f"{row['lines']:.2f}",
            f"{row['accesses']:.1f}",
        )
    return [counts, touched]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 KiB only")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    try:
        result = measure(quick=options.quick)
    except MissingToolError as error:
        sys.exit(str(error))
    for table in tables(result):
        console().print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
