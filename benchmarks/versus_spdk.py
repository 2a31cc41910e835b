"""Compare this driver with SPDK's, in turns on SPDK's own target over vfio-user.

    python benchmarks/versus_spdk.py --perf build/bin/spdk_nvme_perf --target DIR
        [--rpc /var/tmp/spdk.sock] [--overhead test/nvme/overhead/overhead]
        [--depths 1,32,128,256] [--turns 7] [--seconds 1] [--write] [--json FILE]

DIR is the traddr of a listener of an nvmf_tgt that has a core of its own; both clients run on
another. 4 KiB random reads or writes: spdk_nvme_perf, the C core's workload loop with all its
latency accounting, read_many or write_many from Python, and at depth 1 ns.read_into. Beside them
doorbells and completions alone, of commands that were in the queue before: what they are over SPDK
is about what any driver can be on this target and processor. With --overhead, the time of each
submission and completion as well.

Machines are noisy: what counts are the ratios of turns that stood side by side. A turn counts only
if target and client had their cores to themselves, neither having waited for its CPU nor lost it to
another guest for 2 % of the time; others are run again. And the target must have counted exactly
the I/Os that we did.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bare import Bare
from device import first_namespace, machine_facts
from gate import Gate, waited
from load import IO_SIZE, CLoop, Spread, Turn, ratios, sync_calls, take_turns, vectors
from page import console, write_json
from rich.progress import Progress
from rich.table import Table

import pynvme_user as nvme

_RPC_SECONDS = 10.0
TIMES = ("submit", "complete")


class Target:
    """SPDK's target: its process, and what it says of itself over JSON-RPC."""

    def __init__(self, rpc: str) -> None:
        self._rpc = rpc
        with self._connect() as peer:
            credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid: int = struct.unpack("3i", credentials)[0]

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(_RPC_SECONDS)
        try:
            peer.connect(self._rpc)
        except OSError as error:
            peer.close()
            sys.exit(f"{self._rpc}: {error.strerror}: give the target's RPC socket by --rpc")
        return peer

    def _call(self, method: str) -> Any:
        """Call a method without parameters; return its result."""
        with self._connect() as peer:
            peer.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode())
            answer = b""
            while True:
                part = peer.recv(1 << 16)
                answer += part
                try:
                    return json.loads(answer)["result"]
                except ValueError:  # as long as it is not whole
                    if not part:
                        sys.exit(f"{self._rpc} ended in the middle of an answer: see its log")

    def ios(self) -> dict[str, int]:
        """Count the reads and writes of all its block devices so far."""
        devices = self._call("bdev_get_iostat")["bdevs"]
        return {
            "randread": sum(device["num_read_ops"] for device in devices),
            "randwrite": sum(device["num_write_ops"] for device in devices),
        }

    def subsystem(self, traddr: Path) -> str:
        """Find the name of the subsystem that listens there."""
        for subsystem in self._call("nvmf_get_subsystems"):
            for listener in subsystem["listen_addresses"]:
                if Path(listener["traddr"]) == traddr:
                    return str(subsystem["nqn"])
        sys.exit(f"no subsystem listens at {traddr}: give the listener's traddr by --target")


# --- clients ------------------------------------------------------------------------------------


class Spdk:
    """SPDK's programs, as clients of the target."""

    def __init__(self, options: argparse.Namespace, target: Target, gate: Gate) -> None:
        self._options, self._gate = options, gate
        nqn = target.subsystem(options.target)
        self._transport = f"trtype:VFIOUSER traddr:{options.target} subnqn:{nqn}"

    def _run(self, command: list[str]) -> str:
        """Run one; tell the gate how long it waited for its CPU."""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self._gate.child_waited = waited(process.pid)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{output[-2000:]}")
        return output

    def perf(self, depth: int, rw: str) -> Turn:
        """Take one turn of spdk_nvme_perf."""
        seconds = max(1, round(self._options.seconds))
        command = [str(self._options.perf), "-c", hex(1 << self._options.cpu), "-s", "512", "-g"]
        command += ["-q", str(depth), "-o", str(IO_SIZE), "-w", rw, "-t", str(seconds)]
        output = self._run([*command, "-r", self._transport])
        # IOPS, MiB/s, average, min and max latency in us
        total = re.search(r"^Total\s*:\s*([\d.]+)\s+[\d.]+\s+([\d.]+)", output, re.MULTILINE)
        if total is None:
            sys.exit(f"spdk_nvme_perf printed no total:\n{output[-2000:]}")
        return Turn(round(float(total[1]) * seconds), seconds, float(total[2]) / 1e6)

    def overhead(self, what: str) -> Turn:
        """Take one turn of the overhead program; the mean time of each submission or completion."""
        seconds = max(1, round(self._options.seconds))
        command = [str(self._options.overhead), "-d", "256", "-g", "-o", str(IO_SIZE)]
        output = self._run([*command, "-t", str(seconds), "-r", self._transport])
        mean = re.search(rf"^{what}\s.*?=\s*([\d.]+)", output, re.MULTILINE)
        if mean is None:
            sys.exit(f"the overhead program printed no {what} time:\n{output[-2000:]}")
        return Turn(1, float(mean[1]) / 1e9)


class Ours:
    """Our driver; a turn opens the device, since the target serves one client at a time."""

    def __init__(self, options: argparse.Namespace, target: Target) -> None:
        self._options, self._target = options, target

    @contextmanager
    def _opened(
        self, depth: int
    ) -> Iterator[tuple[nvme.QueuePair, nvme.Namespace, nvme.DmaBuffer]]:
        with nvme.open(f"vfio-user:{self._options.target}") as ctrl:
            depth = min(depth, ctrl.cap.mqes)
            with ctrl.queue_pair(depth, spin=float("inf")) as pair:
                yield pair, first_namespace(ctrl), ctrl.alloc(depth * IO_SIZE)

    def turn(self, way: str, depth: int, rw: str) -> Turn:
        """Take one; the target's count must be ours."""
        seconds = self._options.seconds
        before = self._target.ios()
        with self._opened(depth) as (pair, ns, buffer):
            match way:
                case "C loop":
                    turn = CLoop(pair, ns, buffer, rw=rw).run(seconds)
                case "vector":
                    turn = vectors(pair, ns, buffer, seconds, rw=rw)
                case "doorbells":
                    turn = Bare("doorbells", pair, ns, buffer, rw=rw).run_for(seconds)
                case _:
                    turn = sync_calls(ns, buffer, seconds)
        counted = self._target.ios()[rw] - before[rw]
        if counted != turn.ios:
            sys.exit(f"the target counted {counted} I/Os and we {turn.ios}: one of them is wrong")
        return turn

    def overhead(self, what: str) -> Turn:
        """Take one; the mean time of each submission or completion at depth 1."""
        with self._opened(1) as (pair, ns, buffer):
            times = CLoop(pair, ns, buffer).overhead(self._options.seconds)
        return Turn(1, times[what])


# --- the run ------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, progress: Progress) -> dict[str, object]:
    """Run everything; rates per second, times in seconds."""
    rw = "randwrite" if options.write else "randread"
    target = Target(options.rpc)
    gate = Gate({options.cpu} | os.sched_getaffinity(target.pid), target.pid)
    spdk, ours = Spdk(options, target, gate), Ours(options, target)
    task = progress.add_task("", total=None)
    rows: list[dict[str, object]] = []
    for depth in options.depths:
        ways: dict[str, Callable[[], Turn]] = {
            "SPDK": partial(spdk.perf, depth, rw),
            "C loop": partial(ours.turn, "C loop", depth, rw),
            "vector": partial(ours.turn, "vector", depth, rw),
            "doorbells": partial(ours.turn, "doorbells", depth, rw),
        }
        if depth == 1 and not options.write:
            ways["read_into"] = partial(ours.turn, "read_into", depth, rw)
        progress.update(task, description=f"depth {depth}")
        rows += _rows({"depth": depth, "rw": rw}, ways, options.turns, gate)
    for what in TIMES if options.overhead else ():
        ways = {"SPDK": partial(spdk.overhead, what), "C loop": partial(ours.overhead, what)}
        progress.update(task, description=what)
        rows += _rows({"depth": 1, "rw": what}, ways, options.turns, gate)
    return {"rows": rows, "rejected_turns": gate.rejected}


def _rows(
    point: dict[str, object],
    ways: dict[str, Callable[[], Turn]],
    turns: int,
    gate: Gate,
) -> list[dict[str, object]]:
    """Let the ways take turns; a row for each, its ratios to the turns that stood beside it."""
    done = take_turns({way: partial(gate.pass_through, ways[way]) for way in ways}, turns)
    timed = point["rw"] in TIMES
    return [
        point
        | {
            "way": way,
            "iops": Spread.of([turn.iops for turn in figures]).as_dict(),
            "latency": Spread.of([turn.latency for turn in figures]).as_dict(),
            "seconds_per_io": Spread.of([turn.seconds / turn.ios for turn in figures]).as_dict(),
            # Of times, less is better; of rates, more.
            "over_spdk": (
                ratios(done["SPDK"], figures) if timed else ratios(figures, done["SPDK"])
            ).as_dict(),
            "over_c_loop": None if timed else ratios(figures, done["C loop"]).as_dict(),
        }
        for way, figures in done.items()
    ]


def table(result: dict) -> Table:
    """Lay the rows out for people."""
    shown = Table(
        "what",
        "depth",
        "way",
        title=f"Medians (lowest to highest); {result['rejected_turns']} disturbed turns run again",
    )
    for column in ("million IOPS", "ns", "over SPDK", "over the C loop"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in result["rows"]:
        timed = row["rw"] in TIMES
        times = Spread(**row["seconds_per_io" if timed else "latency"])
        shown.add_row(
            row["rw"],
            str(row["depth"]),
            row["way"],
            "" if timed else Spread(**row["iops"]).text(1e6),
            times.text(1e-9, 0) if times.median else "",
            Spread(**row["over_spdk"]).text(),
            "" if timed else Spread(**row["over_c_loop"]).text(),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perf", type=Path, required=True, help="SPDK's spdk_nvme_perf")
    parser.add_argument("--target", type=Path, required=True, help="the listener's traddr")
    parser.add_argument("--rpc", default="/var/tmp/spdk.sock", help="the target's RPC socket")
    parser.add_argument("--overhead", type=Path, help="SPDK's test/nvme/overhead program")
    parser.add_argument("--cpu", type=int, default=0, help="of both clients (0)")
    parser.add_argument(
        "--depths", type=lambda text: list(map(int, text.split(","))), default=[1, 32, 128, 256]
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn (1)")
    parser.add_argument("--write", action="store_true", help="random writes instead of reads")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    with Progress(transient=True) as progress:
        result = measure(options, progress)
    console().print(table(result))
    if options.json:
        write_json(options.json, machine_facts(), {"versus_spdk": result})


if __name__ == "__main__":
    main()
