"""What is known of a namespace's blocks, by which its I/O is checked and lengths are computed."""

from __future__ import annotations

from dataclasses import dataclass

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
    #: False, for good, once the namespace may have changed.
    current: bool = True

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise ValueError if the blocks are not all in the namespace, or it has metadata."""
        if type(lba) is not int or type(blocks) is not int:
            lba, blocks = whole_number(lba, "an LBA"), whole_number(blocks, "a number of blocks")
        if blocks < 1 or lba < 0 or lba + blocks > self.block_count:
            raise ValueError(
                f"blocks {lba} to {lba + blocks - 1} are not all in namespace {self.nsid}, "
                f"which has blocks 0 to {self.block_count - 1}"
            )
        if self.metadata_size:
            raise ValueError(
                f"namespace {self.nsid} has {self.metadata_size} bytes of metadata in each block, "
                "which reads and writes do not carry here: use Controller.io() with a buffer for it"
            )
