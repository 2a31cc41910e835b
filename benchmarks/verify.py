"""Write and read random extents at speed, and check every byte that is read.

    python benchmarks/verify.py --device NAME [--total 100G] [--area 256M] [--threads 2] [--seed 0]

What is on the device is lost. Each thread has an area of its own and a queue pair. A block holds
words that depend on its LBA, on how often it was written and on their place, so that data that is
stale, misplaced, torn or of another block is seen. Extents are of any length and begin at any
block and at any dword of memory; in turns, one goes alone, in pieces where it is longer than a
command carries, and many of one size go together, up to the queue's depth in flight.
"""

from __future__ import annotations

import argparse
import threading
import time

import numpy as np
import numpy.typing as npt
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

import pynvme_user as nvme
from pynvme_user.units import format_size, parse_size

DEPTH = 32
#: Longer than what most controllers take in one command, so that extents are split.
LONGEST = 1 << 20
BATCH = 1 << 20

U64 = npt.NDArray[np.uint64]


class Area:
    """Blocks of a namespace that one thread writes, and how often each was written."""

    def __init__(self, ns: nvme.Namespace, first: int, blocks: int, seed: int) -> None:
        self.ns = ns
        self.first = first
        self.blocks = blocks
        self.moved = 0
        self.error: BaseException | None = None
        self.stop = False
        self.rng = np.random.default_rng(seed)
        self._written = np.zeros(blocks, np.uint64)
        self._words = np.arange(ns.block_size // 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._memory = ns.controller.alloc(BATCH + 4096)

    def content(self, lbas: U64) -> U64:
        """Tell what these blocks, counted from the area's first, must hold: a row for each."""
        keys = lbas * np.uint64(0xD1B54A32D192ED03) ^ self._written[lbas] << np.uint64(40)
        return keys[:, None] + self._words[None, :]

    def run(self) -> None:
        """Write all of it once, then go on until told to stop."""
        try:
            with self.ns.controller.queue_pair(DEPTH) as pair:
                step = LONGEST >> self.ns.block_shift
                for lba in range(0, self.blocks, step):
                    self._alone(lba, min(step, self.blocks - lba), write=True)
                while not self.stop:
                    write = bool(self.rng.integers(2))
                    if self.rng.integers(2):
                        self._alone(*self._extent(LONGEST >> self.ns.block_shift), write=write)
                    else:
                        self._together(pair, write=write)
        except BaseException as error:
            self.error = error

    def _extent(self, most: int) -> tuple[int, int]:
        """Choose one; short ones are as likely as long ones."""
        blocks = int(min(most, self.blocks) ** self.rng.random())
        return int(self.rng.integers(self.blocks - blocks + 1)), blocks

    def _buffer(self, length: int) -> nvme.DmaBuffer:
        offset = 4 * int(self.rng.integers(1024))
        return self._memory[offset : offset + length]

    def _alone(self, lba: int, blocks: int, *, write: bool) -> None:
        buffer = self._buffer(blocks << self.ns.block_shift)
        lbas = np.arange(lba, lba + blocks, dtype=np.uint64)
        if write:
            self._fill(buffer, lbas)
            self.ns.write_from(self.first + lba, buffer)
        else:
            self.ns.read_into(self.first + lba, buffer)
            self._check(buffer, lbas)

    def _together(self, pair: nvme.QueuePair, *, write: bool) -> None:
        """Many extents of one length, which do not overlap, in any order."""
        most = pair.controller.max_transfer >> self.ns.block_shift
        _, blocks = self._extent(most)
        count = min(BATCH >> self.ns.block_shift, self.blocks) // blocks
        places = self.rng.choice(self.blocks // blocks, count, replace=False)
        starts = places.astype(np.uint64) * np.uint64(blocks)
        lbas = (starts[:, None] + np.arange(blocks, dtype=np.uint64)[None, :]).reshape(-1)
        buffer = self._buffer(len(lbas) << self.ns.block_shift)
        if write:
            self._fill(buffer, lbas)
            pair.write_many(self.ns, starts + np.uint64(self.first), blocks, buffer).check()
        else:
            pair.read_many(self.ns, starts + np.uint64(self.first), blocks, buffer).check()
            self._check(buffer, lbas)

    def _fill(self, buffer: nvme.DmaBuffer, lbas: U64) -> None:
        self._written[lbas] += np.uint64(1)
        buffer.array[:] = self.content(lbas).view(np.uint8).reshape(-1)
        self.moved += buffer.nbytes

    def _check(self, buffer: nvme.DmaBuffer, lbas: U64) -> None:
        want = self.content(lbas).view(np.uint8).reshape(-1)
        wrong = np.flatnonzero(buffer.array != want)
        if wrong.size:
            lba = self.first + int(lbas[wrong[0] >> self.ns.block_shift])
            raise SystemExit(f"{wrong.size} bytes are wrong, the first of them in block {lba}")
        self.moved += buffer.nbytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--total", type=parse_size, default="100G", help="bytes to move (100G)")
    parser.add_argument("--area", type=parse_size, default="256M", help="of each thread (256M)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with nvme.open(options.device) as ctrl:
        ns = ctrl.namespaces[min(ctrl.namespaces)]
        blocks = min(options.area >> ns.block_shift, ns.block_count // options.threads)
        areas = [
            Area(ns, number * blocks, blocks, options.seed + number)
            for number in range(options.threads)
        ]
        threads = [threading.Thread(target=area.run) for area in areas]
        for thread in threads:
            thread.start()
        columns = (
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as progress:
            task = progress.add_task("", total=options.total)
            try:
                while sum(area.moved for area in areas) < options.total:
                    progress.update(task, completed=sum(area.moved for area in areas))
                    if any(area.error for area in areas):
                        break
                    time.sleep(0.1)
            finally:
                for area in areas:
                    area.stop = True
                for thread in threads:
                    thread.join()
        for area in areas:
            if area.error:
                raise area.error
    moved, seconds = sum(area.moved for area in areas), time.monotonic() - start
    print(f"{format_size(moved)} moved and no byte wrong, {format_size(moved / seconds)}/s")


if __name__ == "__main__":
    main()
