"""NBD exports in turns: nbdkit's memory plugin, qemu-nbd on a file, and devices of this driver.

    python benchmarks/nbd.py

fio's nbd engine reads and writes; each turn runs all servers one after the other, and what counts
is the ratio to nbdkit's memory of the same turn: the median, the least and the greatest. Needs fio,
nbdkit and its Python plugin, qemu-nbd (./bootstrap nbd bench).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

SIZE = "256M"
NVME_USER = Path(sys.executable).with_name("nvme-user")
JOBS = {"4 KiB reads": ("randread", "4k"), "4 KiB writes": ("randwrite", "4k")}
JOBS |= {"256 KiB reads": ("read", "256k"), "256 KiB writes": ("write", "256k")}


def servers(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Name what is compared: its socket, and the command that serves there."""
    image = folder / "disk.img"
    image.touch()
    image.open("r+b").truncate(256 << 20)
    commands: dict[str, Callable[[str], list[str]]] = {
        "nbdkit memory": lambda path: ["nbdkit", "-f", "-U", path, "memory", SIZE],
        "qemu-nbd": lambda path: [
            *("qemu-nbd", "-f", "raw", "--persistent", "--shared=0", "-k", path),
            *("--cache=writeback", str(image)),
        ],
    }
    for device in ("soft:?inline=1&", "soft:?", "qemu:?"):

        def ours(path: str, device: str = device) -> list[str]:
            options = ["--force", "--socket", path]
            return [str(NVME_USER), "serve", "nbd", f"{device}size={SIZE}", *options]

        commands[device.rstrip("?&")] = ours
    sockets = {name: folder / f"{number}.sock" for number, name in enumerate(commands)}
    return {name: (sockets[name], make(str(sockets[name]))) for name, make in commands.items()}


def serving(command: list[str], socket: Path) -> subprocess.Popen[bytes]:
    """Start a server, and wait for its socket; ours has the device open once it prints a line."""
    ours = command[0] == str(NVME_USER)
    process = subprocess.Popen(command, stdout=subprocess.PIPE if ours else subprocess.DEVNULL)
    if process.stdout is not None:
        process.stdout.readline()
    while not socket.exists():
        if process.poll() is not None:
            sys.exit(f"{command[0]} ended: see above")
        time.sleep(0.05)
    return process


def rate(socket: Path, rw: str, block: str, seconds: float) -> float:
    """Run fio for a turn; return its IOPS."""
    done = subprocess.run(
        [
            *("fio", "--name=turn", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={socket}"),
            *(f"--rw={rw}", f"--bs={block}", f"--size={SIZE}", "--iodepth=16", "--time_based"),
            *(f"--runtime={seconds * 1000:.0f}ms", "--output-format=terse", "--terse-version=3"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("3;"))
    return float(line.split(";")[7 if "read" in rw else 48])


def main() -> None:
    """Run the turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of one job on one server")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        there = servers(Path(name))
        for socket, command in there.values():
            process = serving(command, socket)
            running.callback(process.wait)
            running.callback(process.terminate)
        for _ in range(given.turns):
            for job, (rw, block) in JOBS.items():
                for server, (socket, _) in there.items():
                    made = rate(socket, rw, block, given.seconds)
                    found.setdefault((job, server), []).append(made)
    print("| job | server | IOPS | of nbdkit's memory |\n|---|---|--:|--:|")
    for (job, server), rates in found.items():
        beside = found[job, "nbdkit memory"]
        ratios = [mine / other for mine, other in zip(rates, beside, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        median = statistics.median(ratios)
        print(f"| {job} | {server} | {statistics.median(rates):,.0f} | {median:.2f} ({spread}) |")


if __name__ == "__main__":
    main()
