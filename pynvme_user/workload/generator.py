"""The sequence of I/Os of a benchmark job: :class:`Generator`, over ``_generator.c``.

Names and meanings are fio's. What is computed in floating point, the distributions of the random
distributions, is computed here, once, into tables of integers; C only draws from them.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pynvme_user.native import dtype_of, ffi, lib
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.records import IO_DTYPE

U64Array = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]

WITHOUT_END = 2**64 - 1
MAX_BLOCKS = 2**62  # so that a prime above it, and a loop that goes beyond it, stay below 2**63

#: One column of an alias table.
BIN_DTYPE = dtype_of("struct nvme_bin")

#: Below this rank each has a bin of its own; above, a bin is as wide as its rank over this, so that
#: the probability of one block is within theta / 2048 of the law's, and that of the bin exact.
RESOLUTION = 1024

READ, WRITE, TRIM = Direction

#: fio's ``rw``: whether the order is random, and the directions.
RW: dict[str, tuple[bool, tuple[int, ...]]] = {
    "read": (False, (READ,)),
    "write": (False, (WRITE,)),
    "trim": (False, (TRIM,)),
    "rw": (False, (READ, WRITE)),
    "trimwrite": (False, (TRIM, WRITE)),
    "zone-append": (False, (WRITE,)),
    "randread": (True, (READ,)),
    "randwrite": (True, (WRITE,)),
    "randtrim": (True, (TRIM,)),
    "randrw": (True, (READ, WRITE)),
    "randtrimwrite": (True, (TRIM, WRITE)),
}


class BlockSizes(Protocol):
    """The sizes of one direction's I/Os, in bytes, as a job has them."""

    @property
    def low(self) -> int:
        """Smallest size; those of a range are its multiples."""

    @property
    def high(self) -> int:
        """Largest size; equal to ``low`` where there is one size."""

    @property
    def split(self) -> tuple[tuple[int, int], ...]:
        """(bytes, per cent) of each part, or nothing; then ``low`` and ``high`` do not count."""

    @property
    def align(self) -> int:
        """What random offsets are multiples of; 0: the smallest size."""


class Zones(Protocol):
    """fio's ``zonemode=strided``, in bytes."""

    @property
    def size(self) -> int:
        """What is moved in a zone before the next one."""

    @property
    def range(self) -> int:
        """The length of a zone."""

    @property
    def skip(self) -> int:
        """What is left out between two zones."""


class Distribution(Protocol):
    """A ``random_distribution``, as a job has it."""

    @property
    def kind(self) -> str:
        """``random``, ``zipf``, ``pareto``, ``normal``, ``zoned`` or ``zoned_abs``."""

    @property
    def theta(self) -> float:
        """Zipf's exponent, Pareto's h, or the normal deviation in per cent of the region."""

    @property
    def center(self) -> float | None:
        """Where the hottest block lies, from 0 to 1 of the region; None: fio's default."""

    @property
    def zones(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """(per cent of accesses, size in per cent or, for ``zoned_abs``, bytes) of each zone.

        Of reads, writes and trims; nothing for the other kinds.
        """


# --- primes -------------------------------------------------------------------------------------


def _is_prime(n: int) -> bool:
    """Miller and Rabin's test, which with these bases is no guess below 3.3e24."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    for base in bases:
        if n % base == 0:
            return n == base
    twos = (n - 1 & 1 - n).bit_length() - 1
    for base in bases:
        x = pow(base, n - 1 >> twos, n)
        if x != 1 and n - 1 not in (pow(x, 1 << i, n) for i in range(twos)):
            return False
    return n > 1


@functools.lru_cache
def permutation(count: int) -> tuple[int, int]:
    """Find a prime above ``count`` and a primitive root of it.

    The prime is 2 q + 1 for a prime q: then each number but 1 and -1 that is no square is a
    primitive root, and the next such prime is so near that few powers are above ``count``. The root
    is near the golden section, as of a hash.
    """
    half = next(
        q for q in itertools.count(max(2, (count + 1) // 2)) if _is_prime(q) and _is_safe(q)
    )
    prime = 2 * half + 1
    golden = int(prime * 0.6180339887498949)
    root = next(g for g in range(golden, prime - 1) if pow(g, half, prime) == prime - 1)
    return prime, root


def _is_safe(half: int) -> bool:
    return _is_prime(2 * half + 1)


# --- distributions ------------------------------------------------------------------------


def _rank_edges(ranks: int) -> U64Array:
    """Edges of bins of which each is as narrow as RESOLUTION has it, from 0 to ``ranks``."""
    steps = max(0, math.ceil(math.log(ranks / RESOLUTION) * RESOLUTION))
    tail = RESOLUTION * np.exp(np.arange(1, steps) / RESOLUTION)
    edges = np.concatenate([np.arange(min(ranks, RESOLUTION + 1)), tail.astype(np.uint64)])
    return np.append(np.unique(edges[edges < ranks]), ranks).astype(np.uint64)


def _zipf(ranks: int, theta: float) -> tuple[U64Array, FloatArray]:
    """Give rank r, from 1, a weight of r ** -theta."""
    edges = _rank_edges(ranks)
    # A bin's sum as the integral between the halves around it: for bins of one rank there is the
    # term itself, and from RESOLUTION on the difference is below a millionth.
    borders = edges.astype(np.float64) + 0.5
    low = borders[:-1]
    power = 1 - theta
    ratio = np.diff(np.log(borders))
    weights: FloatArray = ratio
    if power:
        weights = low**power * np.expm1(power * ratio) / power
    single = min(ranks, RESOLUTION)
    weights[:single] = np.arange(1.0, single + 1) ** -theta
    return edges, weights


def _pareto(ranks: int, h: float) -> tuple[U64Array, FloatArray]:
    """Give a share of h of the ranks 1 - h of the accesses, and so on within these."""
    edges = _rank_edges(ranks)
    return edges, np.diff((edges / ranks) ** (math.log(1 - h) / math.log(h)))


def _normal(ranks: int, deviation: float, center: float) -> tuple[U64Array, FloatArray]:
    """Cut the bell curve at the region's ends; ``deviation`` is in per cent of that."""
    sigma = max(ranks * deviation / 100, 1e-9)  # a narrower one hits the same blocks
    mean = ranks * center
    low = max(0, math.floor(mean - 8.5 * sigma))
    high = min(ranks, math.ceil(mean + 8.5 * sigma) + 1)
    width = max(1, int(sigma / RESOLUTION))
    edges = np.append(np.arange(low, high, width, dtype=np.uint64), np.uint64(high))
    scaled = (edges - mean) / (sigma * math.sqrt(2))
    return edges, np.diff([math.erf(x) for x in scaled])


def _zoned(
    ranks: int, zones: tuple[tuple[int, int], ...], absolute: bool, unit_bytes: int
) -> tuple[U64Array, FloatArray]:
    """Lay zones from the region's start on, uniform in each; what is after them has no access."""
    sizes = itertools.accumulate(size for _, size in zones)
    ends = [size // unit_bytes if absolute else ranks * size // 100 for size in sizes]
    if ends[-1] > ranks:
        raise ValueError(
            "the zones are larger than the region: make them smaller or give more size"
        )
    if any(start == end for start, end in itertools.pairwise([0, *ends])):
        raise ValueError("a zone is smaller than one block: give it, or the region, more size")
    return np.array([0, *ends], np.uint64), np.array([float(access) for access, _ in zones])


def _alias_table(weights: FloatArray) -> npt.NDArray[np.void]:
    """Walker's table, by Vose's method: columns of equal height out of unequal weights."""
    count = len(weights)
    heights = (weights * (count / weights.sum())).tolist()
    table = np.zeros(count, BIN_DTYPE)
    table["threshold"] = 2**32 - 1
    table["alias"] = np.arange(count)
    short = [i for i, height in enumerate(heights) if height < 1]
    tall = [i for i, height in enumerate(heights) if height >= 1]
    while short and tall:
        low, high = short.pop(), tall[-1]
        table[low] = min(round(heights[low] * 2**32), 2**32 - 1), high
        heights[high] -= 1 - heights[low]
        if heights[high] < 1:
            short.append(tall.pop())
    return table


@functools.lru_cache(maxsize=16)
def bins_of(
    kind: str,
    theta: float,
    center: float | None,
    zones: tuple[tuple[int, int], ...],
    ranks: int,
    unit_bytes: int,
) -> tuple[U64Array, npt.NDArray[np.void], FloatArray]:
    """Compute the tables of a distribution over ``ranks`` blocks of ``unit_bytes``.

    Returns the bins' edges (one more than bins), the alias table, and the bins' probabilities.
    Raises ValueError for a parameter outside what the distribution allows.
    """
    match kind:
        case "zipf":
            if not theta > 0:
                raise ValueError(f"zipf's theta is {theta}: give one above 0")
            edges, weights = _zipf(ranks, theta)
        case "pareto":
            if not 0 < theta < 1:
                raise ValueError(f"pareto's h is {theta}: give one between 0 and 1")
            edges, weights = _pareto(ranks, theta)
        case "normal":
            if not 0 <= theta < 100:
                raise ValueError(f"the normal deviation is {theta} %: give 0 to below 100")
            # Without a deviation fio's curve has a twelfth of the region.
            edges, weights = _normal(ranks, theta or 100 / 12, 0.5 if center is None else center)
        case "zoned" | "zoned_abs":
            if not zones or sum(access for access, _ in zones) != 100:
                raise ValueError("the zones' accesses do not add up to 100 %")
            edges, weights = _zoned(ranks, zones, kind == "zoned_abs", unit_bytes)
        case _:
            raise ValueError(f"there is no random distribution {kind!r}")
    table = _alias_table(weights)
    for shared in (edges, table):
        shared.flags.writeable = False
    return edges, table, weights / weights.sum()


# --- the generator ------------------------------------------------------------------------------


class Generator:
    """The I/Os of one job, or of one of its clones, in a region of one namespace.

    ``block_size`` is the namespace's; ``offset`` and ``size`` give the region in bytes, the first a
    multiple of the block size, the second cut to one. ``block_sizes`` are those of reads, writes
    and trims. It ends after ``loops`` times ``io_size`` bytes (by default ``size``) or
    ``number_ios`` I/Os, with ``time_based`` never. As in fio, an ``io_size`` above ``size`` ends it
    earlier: after ``loops`` times through the region, or as many more as move ``io_size``. A trim
    and its write count once. At the region's end, or when each block was used once, the I/O begins
    there anew while there is room for one of any of its sizes. As fio, random I/O without
    ``norandommap`` covers each block once, unless a distribution or an alignment is given; where
    sizes vary, the last free blocks are taken in smaller pieces.
    ``percentage_random`` is for all directions, or for each; what is not random uses up no block.
    Sequential I/O of one size may go beyond the region with its last I/O, up to ``room`` bytes from
    ``offset`` on, which are those of the region by default.

    ``skip`` bytes are left out after each sequential I/O (negative: backwards). With it, and with
    an ``io_size`` above ``size``, a loop ends where the region does for one of the directions.
    Random I/O draws an offset for each ``run`` I/Os, which follow each other or are
    ``run_identical``. With ``zones`` the I/O stays in one until its size is moved; after the last
    one comes the first. Neither covers each block once.

    The sequence depends on the arguments alone, ``seed`` and ``clone`` among them; a ``seed`` of
    None is drawn from the system. It is not fio's own sequence for the same seed.

    Raises ValueError for arguments that make no sequence, saying what to change.
    """

    def __init__(
        self,
        *,
        rw: str,
        block_sizes: Sequence[BlockSizes],
        block_size: int,
        size: int,
        offset: int = 0,
        io_size: int | None = None,
        number_ios: int | None = None,
        loops: int = 1,
        time_based: bool = False,
        rwmixread: int = 50,
        norandommap: bool = False,
        percentage_random: int | Sequence[int] = 100,
        distribution: Distribution | None = None,
        seed: int | None = 0,
        clone: int = 0,
        skip: int = 0,
        run: int = 1,
        run_identical: bool = False,
        zones: Zones | None = None,
        room: int | None = None,
    ) -> None:
        if rw not in RW:
            raise ValueError(f"there is no rw={rw}: give one of {', '.join(RW)}")
        is_random, self._directions = RW[rw]
        self._block_size = block_size
        #: What the sequence was made from, also where it was drawn.
        self.seed = int.from_bytes(os.urandom(8), "little") if seed is None else seed % 2**64
        # The structure's first part is the quick path's: on a cache line of its own.
        self._memory = ffi.new("char[]", ffi.sizeof("struct nvme_generator") + 63)
        address = int(ffi.cast("uintptr_t", self._memory))
        aligned = ffi.cast("char *", address + -address % 64)
        #: The ``struct nvme_generator *`` for C; valid as long as this object is.
        self.pointer: Any = ffi.cast("struct nvme_generator *", aligned)
        # cffi keeps a pointer's memory alive only through the object it came from.
        self._alive: list[Any] = []
        self._map = np.zeros(0, np.uint64)
        self._workload = w = self.pointer.workload
        w.base = self._blocks(offset, "the offset")
        w.region = size // block_size
        blocks = -(-(size if io_size is None else io_size) // block_size)
        if not 0 < w.region <= MAX_BLOCKS or not 0 < blocks <= MAX_BLOCKS:
            raise ValueError(f"a region of {size} bytes cannot be used: give 1 block to 2**62")
        w.ios = WITHOUT_END if number_ios is None else number_ios * loops
        w.seed = self.seed
        w.clone = clone
        w.mixed = self._directions == (READ, WRITE)
        w.rwmixread = _percent(rwmixread, "rwmixread")
        w.trimwrite = self._directions == (TRIM, WRITE)
        w.direction = self._directions[0]
        if isinstance(percentage_random, int):
            percentage_random = (percentage_random,) * 3
        for direction, (sizes, percent) in enumerate(
            zip(block_sizes, percentage_random, strict=True)
        ):
            w.sizes[direction].percentage_random = _percent(percent, "percentage_random")
            self._set_sizes(w.sizes[direction], sizes, is_random)
        used = self._used
        if not is_random and zones is None:
            self._set_beyond((size if room is None else room) // block_size)
        self._set_steps(is_random, skip, run, run_identical, zones)
        w.blocks = MAX_BLOCKS if time_based else min(blocks * loops, MAX_BLOCKS)
        if zones is None and (w.skip or (blocks > w.region and not time_based)):
            w.loops = WITHOUT_END if time_based else loops
            w.enough = 0 if io_size is None else blocks
        if any(w.region < sizes.low for sizes in used):
            raise ValueError(f"a region of {size} bytes holds no block of bs: give more size")
        if not is_random:
            w.order = lib.NVME_ORDER_SEQUENTIAL
        elif distribution is not None and distribution.kind != "random":
            self._set_law(distribution)
        elif norandommap or run > 1 or zones or any(sizes.align != sizes.low for sizes in used):
            w.order = lib.NVME_ORDER_UNIFORM
        elif len({size for sizes in used for size in (sizes.low, sizes.high)}) == 1 and all(
            # As in fio, what follows the others is not drawn, and its blocks are not used up.
            sizes.percentage_random == 100
            for sizes in used
        ):
            w.order = lib.NVME_ORDER_PERMUTATION
            w.prime, w.factor = permutation(w.region // used[0].low)
        else:
            self._set_map()
        self.reset()

    @property
    def _used(self) -> list[Any]:
        """The sizes that count; a trimwrite's write has its trim's."""
        directions = self._directions[:1] if self._workload.trimwrite else self._directions
        return [self._workload.sizes[direction] for direction in directions]

    def _blocks(self, length: int, what: str) -> int:
        if length < 0 or length % self._block_size:
            raise ValueError(
                f"{what} of {length} bytes is not a whole number of blocks: "
                f"give a multiple of {self._block_size}"
            )
        return length // self._block_size

    def _set_sizes(self, target: Any, sizes: BlockSizes, is_random: bool) -> None:
        parts = sorted((self._blocks(size, "bs"), percent) for size, percent in sizes.split)
        parts = [(size, percent) for size, percent in parts if percent]
        if parts:
            if sum(percent for _, percent in parts) != 100:
                raise ValueError("the percentages of bssplit do not add up to 100")
            until = itertools.accumulate(percent for _, percent in parts)
            split = [(size, end) for (size, _), end in zip(parts, until, strict=True)]
            target.split = table = ffi.new("struct nvme_split[]", split)
            self._alive.append(table)
            target.parts = len(parts)
            low, high = parts[0][0], parts[-1][0]
        else:
            low, high = self._blocks(sizes.low, "bs"), self._blocks(sizes.high, "bs")
        if not 0 < low <= high < 2**32:
            raise ValueError(
                f"bs from {low} to {high} blocks is no range: "
                "give 1 to 2**32 - 1 blocks, the smaller size first"
            )
        target.low, target.high = low, high
        target.align = (is_random and self._blocks(sizes.align, "blockalign")) or target.low

    def _set_beyond(self, room: int) -> None:
        """Let the last sequential I/O of one size begin in the region and end beyond it, as fio."""
        for sizes in self._used:
            if sizes.low == sizes.high:
                sizes.beyond = max(0, min(room - self._workload.region, sizes.low - 1))

    def _set_steps(
        self,
        is_random: bool,
        skip: int,
        run: int,
        run_identical: bool,
        zones: Zones | None,
    ) -> None:
        """Set what makes an I/O start elsewhere than after the last, or at random."""
        w = self._workload
        if is_random:
            w.run, w.run_identical = run, run_identical
        elif skip:
            blocks = self._blocks(abs(skip), "what rw= leaves out")
            w.skip = blocks if skip > 0 else -blocks
        if zones is not None:
            w.zone_move = self._blocks(zones.size, "zonesize")
            w.zone_range = self._blocks(zones.range, "zonerange")
            w.zone_stride = w.zone_range + self._blocks(zones.skip, "zoneskip")
            if not w.zone_move or w.zone_range < self.largest or w.region < self.largest:
                raise ValueError(
                    "a zone is smaller than a block of bs: give more zonesize, zonerange"
                )

    def _set_map(self) -> None:
        w = self._workload
        w.order = lib.NVME_ORDER_MAP
        # Each size is made of granules: a range's are multiples of its smallest.
        w.granule = math.gcd(
            *(
                blocks
                for sizes in self._used
                for blocks in (sizes.low, *(sizes.split[i].blocks for i in range(sizes.parts)))
            )
        )
        w.region -= w.region % w.granule
        self._map = np.zeros(lib.nvme_map_words(w.region // w.granule), np.uint64)
        w.map = ffi.from_buffer("uint64_t[]", self._map, require_writable=True)

    def _set_law(self, distribution: Distribution) -> None:
        w = self._workload
        kind, center = distribution.kind, distribution.center
        if center is not None and not 0 <= center <= 1:
            raise ValueError(f"the distribution's center is {center}: give one from 0 to 1")
        w.order = lib.NVME_ORDER_LAW
        w.unit = min(sizes.align for sizes in self._used)
        w.ranks = max(1, w.region // w.unit)
        for direction, zones in enumerate(distribution.zones or ((),) * 3):
            unit_bytes = w.unit * self._block_size
            edges, bins, _ = bins_of(kind, distribution.theta, center, zones, w.ranks, unit_bytes)
            w.distributions[direction].count = len(bins)
            w.distributions[direction].bins = ffi.from_buffer("struct nvme_bin[]", bins)
            w.distributions[direction].starts = ffi.from_buffer("uint64_t[]", edges)
            self._alive += [bins, edges]
        # The hot blocks of these are spread over the region; the others' law is one of place.
        if kind in ("zipf", "pareto"):
            w.prime, w.factor = permutation(w.ranks)
            w.center = WITHOUT_END if center is None else min(int(center * w.ranks), w.ranks - 1)

    def reset(self) -> None:
        """Begin the sequence again."""
        lib.nvme_generator_init(self.pointer)

    def take(self, count: int) -> npt.NDArray[np.void]:
        """Make the next ``count`` I/Os, fewer only at the sequence's end, as IO_DTYPE."""
        ios = np.zeros(count, IO_DTYPE)
        made = lib.nvme_generator_fill(
            self.pointer, ffi.from_buffer("struct nvme_io[]", ios, require_writable=True), count
        )
        return ios[:made]

    def follow(self, directions: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
        """Make the next I/Os of a mix as :meth:`take` does, but of these directions."""
        ios = np.zeros(len(directions), IO_DTYPE)
        made = lib.nvme_generator_fill_of(
            self.pointer,
            ffi.from_buffer("uint8_t[]", np.ascontiguousarray(directions, np.uint8)),
            ffi.from_buffer("struct nvme_io[]", ios, require_writable=True),
            len(directions),
        )
        return ios[:made]

    @property
    def is_mixed(self) -> bool:
        """Whether there are reads and writes, by chance."""
        return bool(self._workload.mixed) and 0 < self._workload.rwmixread < 100

    @property
    def largest(self) -> int:
        """Blocks of the largest I/O that can come."""
        return max(int(sizes.high) for sizes in self._used)

    @property
    def map_bytes(self) -> int:
        """Memory of the random map; 0 where there is none, or it needs none."""
        return int(self._map.nbytes)


def _percent(value: int, name: str) -> int:
    if not 0 <= value <= 100:
        raise ValueError(f"{name} is {value}: give 0 to 100")
    return value
