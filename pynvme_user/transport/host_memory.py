"""The Host Memory Buffer: memory that a drive without its own asks the host for (Base 2.1, 8.2.3).

It is the device's alone from when it is given until the controller is disabled. A reset takes it
away, and the same memory, with what the device wrote to it, is given back after that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pynvme_user.dma import PAGE, DmaBuffer, DmaPool
from pynvme_user.errors import DmaError, NvmeStatusError
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.feature_data import HostMemoryDescriptor
from pynvme_user.spec.feature_dwords import HostMemoryBufferCdw11
from pynvme_user.spec.features import FeatureId, SetFeaturesCdw10
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.transport.base import RunAdmin
from pynvme_user.units import format_size

#: What is given at most where the user does not say, in bytes.
DEFAULT = 64 << 20
#: What Identify counts in.
_UNIT = 4096
#: Descriptors in the one page that the list has here.
_MOST_PIECES = PAGE // HostMemoryDescriptor.size


class HostMemory:
    """The memory that one device has of us; ``most`` bytes at most."""

    def __init__(self, memory: DmaPool, most: int = DEFAULT) -> None:
        self._memory = memory
        self.most = most
        self._pieces: list[DmaBuffer] = []
        self._list: DmaBuffer | None = None

    def give(
        self, identify: IdentifyController, run: RunAdmin, warn: Callable[[str], None]
    ) -> None:
        """Give the device what it prefers, or as much as may be; for each enable.

        Nothing where it asks for none. A warning says where it gets less than it needs at least.
        """
        if not identify.hmpre:
            return
        returned = bool(self._pieces)
        if not returned and not self._allocate(identify, warn):
            return
        assert self._list is not None
        size = sum(piece.nbytes for piece in self._pieces)
        try:
            run(
                SQE.build(
                    opc=AdminOpcode.SET_FEATURES,
                    cdw10=SetFeaturesCdw10.build(fid=FeatureId.HOST_MEMORY_BUFFER),
                    cdw11=HostMemoryBufferCdw11.build(ehm=1, mr=returned),
                    cdw12=size // PAGE,
                    cdw13=self._list.iova & 0xFFFFFFFF,
                    cdw14=self._list.iova >> 32,
                    cdw15=len(self._pieces),
                )
            )
        except NvmeStatusError as error:
            self._pieces, self._list = [], None
            warn(f"it works without the host's memory that it asked for, since {error}")

    def _allocate(self, identify: IdentifyController, warn: Callable[[str], None]) -> bool:
        """Take the memory, in one piece or, where there is no such piece, in smaller ones."""
        wanted = min(identify.hmpre * _UNIT, self.most // PAGE * PAGE)
        least = identify.hmmin * _UNIT
        smallest = max(identify.hmminds * _UNIT, PAGE)
        most_pieces = min(identify.hmmaxd or _MOST_PIECES, _MOST_PIECES)
        pieces: list[DmaBuffer] = []
        left = piece = wanted
        while left >= smallest and len(pieces) < most_pieces:
            piece = min(piece, left)
            try:
                pieces.append(self._memory.alloc(piece))
                left -= piece
            except DmaError:
                piece = piece // 2 // PAGE * PAGE
                if piece < smallest:
                    break
        given = wanted - left
        if not given or given < least:
            warn(
                f"it needs {format_size(least)} of the host's memory and gets none, since "
                f"{format_size(given)} is all that may be given: open it with host_memory={least}"
            )
            return False
        self._pieces = pieces
        entries = b"".join(
            bytes(HostMemoryDescriptor.build(badd=one.iova, bsize=one.nbytes // PAGE))
            for one in pieces
        )
        self._list = self._memory.alloc(PAGE)
        self._list[: len(entries)] = np.frombuffer(entries, np.uint8)
        return True
