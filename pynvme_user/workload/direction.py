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


#: As fio has them, in files and for people.
DIRECTION_NAMES = tuple(way.name.lower() for way in Direction)
