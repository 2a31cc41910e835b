"""When a workload's I/Os arrive, and what else it does besides keeping its queue full."""

from __future__ import annotations

from dataclasses import dataclass


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

    submit_max: int = 0  # commands per doorbell; 0: as many as there are
    reap_max: int = 0  # completions between two submissions at most; 0: as many as there are
    reap_min: int = 0  # completions to wait for before more is submitted
    depth_low: int = 0  # once full, drain to this before submitting more
    flush_every: int = 0  # a Flush after so many writes
    think_ios: int = 0  # after so many I/Os ...
    think_every: float = 0.0  # or after so many seconds of I/O; 0: only after I/Os ...
    think: float = 0.0  # ... pause for so many seconds
    rates_pause: bool = False  # nothing arrives meanwhile
    zone_blocks: int = 0  # writes are Zone Appends to zones of so many blocks
    zone_trims: bool = False  # trims are Zone Management Sends
    rates: tuple[Rate, Rate, Rate] = (Rate(), Rate(), Rate())  # by direction
    poisson: bool = False  # arrivals by chance, instead of evenly
    seed: int = 0  # of arrivals
