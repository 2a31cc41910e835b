"""Tests of time judge only what the machine did not disturb."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import disturbance
import pytest


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What share of each attempt threads waited for CPUs, one after the other."""
    shares: list[float] = []
    clock = waited = 0.0

    def tick() -> Iterator[float]:
        nonlocal clock, waited
        while True:
            yield waited
            clock, waited = clock + 1, waited + shares.pop(0)
            yield waited

    ticks = tick()
    monkeypatch.setattr(disturbance, "_waited", lambda: next(ticks))
    # Not the module's function, which guests that run meanwhile ask, too.
    monkeypatch.setattr(disturbance, "time", SimpleNamespace(monotonic=lambda: clock))
    return shares


def test_what_was_not_disturbed_is_judged(waits: list[float]) -> None:
    waits += [0.5, 0.0, 0.3, 0.0]
    with pytest.raises(
        pytest.fail.Exception, match=r"wrong; in 4 attempts, .* for 50%, 0%, 30%, 0%"
    ):
        disturbance.until_right(lambda: "wrong", undisturbed=2)


def test_a_right_one_ends_it(waits: list[float]) -> None:
    said = iter(["wrong", ""])
    waits += [0.5]
    disturbance.until_right(lambda: next(said))


def test_a_machine_that_is_busy_all_the_time(waits: list[float]) -> None:
    waits += [0.4] * disturbance.MOST
    with pytest.raises(pytest.skip.Exception, match="for 40% of the time at least"):
        disturbance.until_right(lambda: "wrong")


def test_a_kernel_that_does_not_tell(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbance, "_PRESSURE", disturbance.Path("/nonexistent"))
    waits += [1.0] * disturbance.MOST
    with pytest.raises(pytest.fail.Exception, match="in 40 attempts"):
        disturbance.until_right(lambda: "wrong")
