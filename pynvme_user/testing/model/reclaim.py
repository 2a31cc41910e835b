"""What Flexible Data Placement (Base 2.1, 8.1.10) makes of an endurance group."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: Placement handles of a namespace, and events that fit the log page.
MOST_HANDLES, MOST_EVENTS = 128, 63


@dataclass(frozen=True)
class Configuration:
    """The FDP configuration that every endurance group can have; ``unit`` is in bytes."""

    handles: int = 8
    groups: int = 1
    unit: int = 96 << 20

    @property
    def rgif(self) -> int:
        """How many bits of a placement identifier name the reclaim group."""
        return (self.groups - 1).bit_length()

    def join(self, group: int, handle: int) -> int:
        """Return the placement identifier of a reclaim group and a placement handle."""
        return group << 16 - self.rgif | handle

    def split(self, pid: int) -> tuple[int, int]:
        """Return the reclaim group and the placement handle."""
        shift = 16 - self.rgif
        return pid >> shift, pid & (1 << shift) - 1


@dataclass
class ReclaimUnitHandle:
    """What a handle refers to: bytes that its reclaim unit of each group still takes."""

    left: list[int]
    #: Types of events that are enabled.
    events: set[int] = field(default_factory=set)


class Placement:
    """Of an endurance group; without data placement it is there, and disabled."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.enable(False)

    def enable(self, enabled: bool) -> None:
        """Begin with data placement, or without; what was counted and recorded is gone."""
        self.enabled = enabled
        self.handles = [self._fresh() for _ in range(self.configuration.handles)]
        self.host_bytes = self.media_bytes = 0
        self.host_events: deque[bytes] = deque(maxlen=MOST_EVENTS)
        self.own_events: deque[bytes] = deque(maxlen=MOST_EVENTS)

    def _fresh(self) -> ReclaimUnitHandle:
        return ReclaimUnitHandle([self.configuration.unit] * self.configuration.groups)

    def begin(self, ruhid: int) -> None:
        """Let a handle that nobody used refer to empty reclaim units."""
        self.handles[ruhid] = self._fresh()

    def write(self, ruhid: int, group: int, length: int) -> None:
        """Take room of a reclaim unit; of the next one where it is full."""
        left, unit = self.handles[ruhid].left, self.configuration.unit
        # What is left is never 0: a full unit is replaced at once.
        left[group] = (left[group] - length - 1) % unit + 1

    def replace(self, ruhid: int, group: int) -> bool:
        """Refer to an empty reclaim unit; returns whether the other was written in part."""
        left, unit = self.handles[ruhid].left, self.configuration.unit
        was_written = left[group] < unit
        left[group] = unit
        return was_written
