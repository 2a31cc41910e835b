"""What is known of a namespace's blocks, by which its I/O is checked and lengths are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pynvme_user.driver.device import Device
from pynvme_user.protection import Protection
from pynvme_user.spec.identify_nvm import IdentifyControllerNvm
from pynvme_user.units import whole_number


@dataclass(slots=True, eq=False)
class Geometry:
    """A namespace's format and size, as it was identified; see :meth:`Namespace.current`.

    Whoever computes a length from one looks at ``current`` once more while nothing can change that:
    under the lock of the queue pair that is submitted to.
    """

    nsid: int
    block_shift: int  # log2 of the block size in bytes
    block_count: int
    metadata_size: int  # bytes in each block
    max_blocks: int  # that one read or write carries
    boundary: int = 0  # NOIOB: blocks between two places that no command should cross
    granularity: int = 1  # NPWG, NPWA: blocks whose multiples the device likes to write
    extended: bool = False  # the metadata follows the data of each block (FLBAS bit 4)
    protection: Protection | None = None  # how the metadata protects the data, if it does
    #: False, for good, once the namespace may have changed.
    current: bool = True

    def run(self, lba: int, blocks: int, *, reads: bool) -> tuple[int, int]:
        """Say how a transfer begins: with so many blocks, in commands of so many each but the last.

        What is left is the next run. No command crosses the boundary; where there is none, writes
        are cut at multiples of the granularity (NVM 1.0, section 5.8.2).
        """
        most = self.max_blocks
        if self.boundary > most and self.boundary % most:
            return min(blocks, self.boundary - lba % self.boundary), most
        if self.boundary:
            step = min(self.boundary, most)
        elif blocks > most and not reads and 1 < self.granularity <= most:
            step = most - most % self.granularity
        else:
            return blocks, most
        past = lba % step
        return min(blocks, step - past) if past else blocks, step

    def cut(self, lba: int, blocks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cut a read into commands, run by run: the LBA and the blocks of each."""
        places, end = [], lba + blocks
        while lba < end:
            run, step = self.run(lba, end - lba, reads=True)
            places.append(np.arange(lba, lba + run, step, dtype=np.int64))
            lba += run
        lbas = places[0] if len(places) == 1 else np.concatenate(places)
        return lbas, np.diff(lbas, append=end)

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise ValueError if the blocks are not all in the namespace."""
        if type(lba) is not int or type(blocks) is not int:
            lba, blocks = whole_number(lba, "an LBA"), whole_number(blocks, "a number of blocks")
        if blocks < 1 or lba < 0 or lba + blocks > self.block_count:
            there = f"blocks 0 to {self.block_count - 1}" if self.block_count else "no blocks"
            wanted = f"blocks {lba} to {lba + blocks - 1}" if blocks > 0 else f"{blocks} blocks"
            raise ValueError(f"{wanted} are not all in namespace {self.nsid}, which has {there}")

    def check_transfer(self, lba: int, blocks: int) -> None:
        """Raise ValueError for blocks that I/O without metadata does not carry, or not there."""
        if (
            type(lba) is type(blocks) is int
            and 0 < blocks <= self.block_count - lba
            and lba >= 0
            and self.max_blocks
            and not self.metadata_size
        ):
            return
        self.check_blocks(lba, blocks)
        if self.metadata_size:
            raise ValueError(
                f"namespace {self.nsid} has {self.metadata_size} bytes of metadata in each block, "
                "which this does not carry: use Namespace.read and write, or format it without"
            )

    def check_metadata(self) -> None:
        """Raise ValueError, for who gives metadata, where the namespace has none."""
        if not self.metadata_size:
            raise ValueError(f"namespace {self.nsid} has no metadata: leave out metadata")

    def check_blocks(self, lba: int, blocks: int) -> None:
        """Raise ValueError if no command carries such blocks, or they are not there."""
        self.check_range(lba, blocks)
        if not self.max_blocks:
            size = (1 << self.block_shift) + (self.metadata_size if self.extended else 0)
            raise ValueError(
                f"a block of namespace {self.nsid} has {size} bytes, more than one command of "
                "this controller carries: format it with smaller blocks"
            )


class Blocks(Protocol):
    """What a queue pair has to know of a namespace: see :class:`Namespace`."""

    device: Device
    nsid: int
    geometry: Geometry

    @property
    def block_size(self) -> int:
        """Bytes of data in a block."""

    def current(self) -> Geometry:
        """Return its geometry, identified again if it may have changed since."""


class LimitedBlocks(Blocks, Protocol):
    """What a queue pair has to know of a namespace to deallocate on it."""

    @property
    def limits(self) -> IdentifyControllerNvm:
        """How much one command may name that moves no data."""


class AppendLimit(Protocol):
    """What a queue pair has to know of zones: see :class:`Zones`."""

    def check_append(self, blocks: int) -> None:
        """Raise ValueError if one append does not carry so many blocks."""


class ZonedBlocks(Blocks, Protocol):
    """What a queue pair has to know of a namespace to append to its zones."""

    @property
    def zones(self) -> AppendLimit:
        """Its zones. Raises NotSupportedError where it has none."""
