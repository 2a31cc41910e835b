"""How C rings a doorbell and waits for an interrupt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class DoorbellTarget:
    """Where one doorbell lies: see struct nvme_doorbell for the members."""

    mmio: int = 0
    post: int = 0
    context: int = 0
    address: int = 0


@dataclass(frozen=True, slots=True)
class Interrupt:
    """How an interrupt is waited for: see struct nvme_interrupt.

    ``event_fd`` does not block and becomes readable when it fires. One that the kernel masks
    when it fires is armed again by writing ``rearm`` (up to 8 bytes) to ``rearm_fd``, at
    ``rearm_offset`` unless that is negative; ``masked`` says whether that is still to be done.
    ``shared`` says that several queue pairs wait for it.
    """

    event_fd: int
    event_size: int = 8
    rearm_fd: int = -1
    rearm_offset: int = -1
    rearm: bytes = b""
    shared: bool = False
    masked: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(1, np.uint32))
