"""Tests of time on a machine that has other work: what it disturbed is repeated."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

#: Of the time of an attempt in which nothing was disturbed, threads waited for a CPU for less.
LITTLE = 0.01
#: As often at most is an attempt repeated.
MOST = 40


_PRESSURE = Path("/proc/pressure/cpu")


def _waited() -> float:
    """Seconds in which a thread was ready and had no CPU, or a CPU was the hypervisor's.

    Of all threads, since those of a test's own have ended when it is asked. A kernel that does not
    tell leaves everything disturbed.
    """
    ticks = int(Path("/proc/stat").read_text().split()[8])  # steal, of all CPUs
    try:
        some = _PRESSURE.read_text().partition("total=")[2].split()[0]
    except OSError:
        return time.monotonic()
    return int(some) / 1e6 + ticks / os.sysconf("SC_CLK_TCK")


def until_right(attempt: Callable[[], str], *, undisturbed: int = 1) -> None:
    """Repeat an attempt, which returns what was wrong, while the machine disturbs it.

    Fails once so many attempts were wrong that nothing ``undisturbed``. Where each of MOST was
    disturbed nothing can be said of what is tested, and the test is skipped.
    """
    wrong, shares = "", []
    for _ in range(MOST):
        begin, waited = time.monotonic(), _waited()
        wrong = attempt()
        if not wrong:
            return
        shares.append((_waited() - waited) / (time.monotonic() - begin))
        if sum(share < LITTLE for share in shares) == undisturbed:
            break
    if min(shares) >= LITTLE and _PRESSURE.exists():
        pytest.skip(
            f"the machine has too much other work: in each of {MOST} attempts threads waited for "
            f"CPUs, for {min(shares):.0%} of the time at least"
        )
    waits = ", ".join(f"{share:.0%}" for share in shares)
    pytest.fail(f"{wrong}; in {len(shares)} attempts, of which threads waited for CPUs for {waits}")
