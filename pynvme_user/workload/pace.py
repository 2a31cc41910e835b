"""When a workload's I/Os arrive, and what else it does besides keeping its queue full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pynvme_user.native import ffi, tick_rate

_MEMBERS = dict(ffi.typeof("struct nvme_bench").fields)


def limit(member: str) -> int:
    """Tell the greatest value that a member of struct nvme_bench has room for."""
    return (1 << 8 * int(ffi.sizeof(_MEMBERS[member].type))) - 1


def for_c(value: int | float) -> int:
    """Give a value as C has it: a float is a time in seconds, which C counts in ticks."""
    return int(value * tick_rate()) if isinstance(value, float) else int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often the I/Os of one direction arrive; 0 for as often as it goes."""

    ios: float = 0  # per second
    blocks: float = 0  # per second

    @property
    def is_set(self) -> bool:
        """Whether it holds anything back."""
        return bool(self.ios or self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a workload does besides keeping its queue full; see struct nvme_bench."""

    #: Members of the struct that are as the options say: see :func:`for_c`.
    members: Mapping[str, int | float] = field(default_factory=dict)
    think_ios: int = 0  # I/Os between two pauses
    zone_blocks: int = 0  # writes are Zone Appends to zones of so many blocks
    zone_trims: bool = False  # trims are Zone Management Sends
    rates: tuple[Rate, Rate, Rate] = (Rate(), Rate(), Rate())  # by direction
    poisson: bool = False  # arrivals by chance, instead of evenly
    seed: int = 0  # of arrivals
