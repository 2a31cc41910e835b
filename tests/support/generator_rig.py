"""Generators of small jobs, and the chi-squared test of what they make."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynvme_user.workload.generator import Generator

BLOCK = 512
K = 1024
DRAWS = 300_000
Ios = npt.NDArray[np.void]


@dataclass(frozen=True)
class Sizes:
    low: int = 4 * K
    high: int = 4 * K
    split: tuple[tuple[int, int], ...] = ()
    align: int = 0


@dataclass(frozen=True)
class Law:
    kind: str
    theta: float = 0.0
    center: float | None = None
    zones: tuple[tuple[tuple[int, int], ...], ...] = ()


ONE_BLOCK = Sizes(BLOCK, BLOCK)


def generator(rw: str = "randread", sizes: Sizes = ONE_BLOCK, **options: object) -> Generator:
    given_options: dict[str, object] = {
        "rw": rw,
        "block_sizes": [sizes] * 3,
        "block_size": BLOCK,
        "size": 1000 * BLOCK,
        **options,
    }
    return Generator(**given_options)  # type: ignore[arg-type]


def endless(rw: str = "randread", sizes: Sizes = ONE_BLOCK, **options: object) -> Generator:
    return generator(rw, sizes, **{"time_based": True, "norandommap": True, **options})


def p_value(observed: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Chi-squared test of counts; rare outcomes are put together (Wilson and Hilferty's cube)."""
    counts, shares = np.asarray(observed, float), np.asarray(probabilities, float)
    order = np.argsort(shares)
    counts, shares = counts[order], shares[order] / shares.sum()
    groups = np.floor(np.cumsum(shares) * counts.sum() / 10 - 1e-9).astype(int)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts, expected = (
        np.add.reduceat(counts, starts),
        np.add.reduceat(shares, starts) * counts.sum(),
    )
    assert expected.min() > 5
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    variance = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - variance)) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2)) / 2


def follows(observed: npt.ArrayLike, probabilities: npt.ArrayLike) -> bool:
    """Neither too far from the law nor too near for chance; the seeds are fixed."""
    return 1e-3 < p_value(observed, probabilities) < 1 - 1e-3


def positions(ios: Ios, count: int) -> npt.NDArray[np.int64]:
    return np.bincount(ios["lba"].astype(np.int64), minlength=count)
