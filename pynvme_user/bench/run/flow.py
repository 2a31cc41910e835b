"""fio's flow: keeps the I/O of several jobs in a proportion."""

from __future__ import annotations

import threading


class Flow:
    """The parts with one flow_id. Each has as much I/O as its weight is of all weights.

    A part asks after every slice of its I/O whether it is ahead of the others, and waits while it
    is; the proportion is thus kept to a slice. For threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[int, list[float]] = {}  # by number: weight, I/Os, those before it came

    def join(self, number: int, weight: int, done: int) -> None:
        """Take a part in that has done so much; it begins level with those that are here."""
        with self._lock:
            level = self._level()
            self._members[number] = [weight, level * weight, done - level * weight]

    def leave(self, number: int) -> None:
        """Let a part go: nobody waits for it any more. Safe to call twice."""
        with self._lock:
            self._members.pop(number, None)

    def is_ahead(self, number: int, done: int) -> bool:
        """Whether a part with so many I/Os has more than its weight's share."""
        with self._lock:
            member = self._members[number]
            member[1] = done - member[2]
            return member[1] / member[0] > self._level()

    def _level(self) -> float:
        weights = sum(weight for weight, *_ in self._members.values())
        return sum(ios for _, ios, _ in self._members.values()) / weights if weights else 0.0
