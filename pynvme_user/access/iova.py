"""IOVA space: which addresses the device sees are in use, and which the IOMMU can translate."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from pynvme_user.errors import DmaError

#: Writes here are interrupts on x86, whatever the IOMMU maps (Intel SDM volume 3, section 11.11).
#: Kernels that report their ranges leave it out by themselves.
MSI_WINDOW = (0xFEE00000, 0xFEEFFFFF)
#: Never given out, so that no valid buffer has address 0.
FIRST_PAGE = (0, 0xFFF)


class IovaSpace:
    """The free ranges of an address space; first fit, lowest address first.

    ``ranges`` are those that the IOMMU translates, as (first, last) addresses, ``last`` included.
    ``reserved`` ranges are taken out of them.
    """

    def __init__(
        self,
        ranges: Iterable[tuple[int, int]],
        reserved: Iterable[tuple[int, int]] = (FIRST_PAGE, MSI_WINDOW),
    ) -> None:
        # Sorted, disjoint and not adjacent; ends are exclusive from here on.
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in sorted(ranges):
            self._give(first, last + 1)
        for first, last in reserved:
            self._remove(first, last + 1)

    @property
    def free(self) -> int:
        """Bytes not in use."""
        return sum(self._ends) - sum(self._starts)

    def allocate(self, length: int, alignment: int) -> int:
        """Take ``length`` bytes at a multiple of ``alignment`` (a power of two); return where.

        Raises DmaError when no free range is long enough.
        """
        for start, end in zip(self._starts, self._ends, strict=True):
            iova = (start + alignment - 1) & -alignment
            if iova + length <= end:
                self._remove(iova, iova + length)
                return iova
        raise DmaError(
            f"no {length} contiguous bytes are free among the device's DMA addresses: "
            "release buffers first"
        )

    def release(self, iova: int, length: int) -> None:
        """Give back what :meth:`allocate` gave. Raises ValueError if any of it is free."""
        self._give(iova, iova + length)

    def _give(self, start: int, end: int) -> None:
        index = bisect_left(self._starts, start)
        before = self._ends[index - 1] if index else -1
        after = self._starts[index] if index < len(self._starts) else 1 << 64
        if before > start or after < end:
            raise ValueError(f"{start:#x} to {end:#x} overlaps what is free")
        low, high = index, index
        if before == start:
            low, start = index - 1, self._starts[index - 1]
        if after == end:
            high, end = index + 1, self._ends[index]
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def _remove(self, start: int, end: int) -> None:
        low = bisect_right(self._ends, start)
        high = bisect_left(self._starts, end)
        if low >= high:
            return
        pieces = [(self._starts[low], start), (end, self._ends[high - 1])]
        pieces = [piece for piece in pieces if piece[0] < piece[1]]
        self._starts[low:high] = [piece[0] for piece in pieces]
        self._ends[low:high] = [piece[1] for piece in pieces]
