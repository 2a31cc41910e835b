"""What an I/O does."""

from __future__ import annotations

from enum import IntEnum


class Direction(IntEnum):
    """What one I/O does; the order is fio's, and that of every per-direction tuple.

    The numbers are those of ``enum nvme_direction`` in C.
    """

    READ = 0
    WRITE = 1
    TRIM = 2
