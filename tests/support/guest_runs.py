"""Guests that run ahead of the tests, which look at what came of them.

A guest without KVM keeps one CPU busy, so that as many run at once as there are CPUs, the longest
first. They begin with the first test of all, and have the CPUs where the tests leave them some.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Two at least, of which one waits now and then; and no more than memory has room for.
AT_ONCE = min(max(2, len(os.sched_getaffinity(0))), 4)
#: A little below the tests, of which some take the time; not so far that others' work starves them.
NICE = 2


@dataclass(frozen=True)
class Run:
    """``function`` runs a guest in a folder that it may share, ``seconds`` is about how long."""

    function: Callable[..., Any]
    seconds: int


RUNS: dict[str, Run] = {}

#: The fixture's name, and its parameter if it has any.
Key = tuple[str, str | None]
#: What each run took, in seconds.
TOOK: dict[Key, float] = {}


def guest_run(*, seconds: int, params: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Make a fixture of a function that runs a guest: it gives what the function returned.

    The function is called with a folder, and with one of ``params`` where there are any, from
    another thread and before the tests that ask for it.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        name = function.__name__
        RUNS[name] = Run(function, seconds)

        @pytest.fixture(scope="session", name=name, params=params)
        def result(request: pytest.FixtureRequest, guest_pool: Pool) -> Any:
            return guest_pool.result((name, getattr(request, "param", None)))

        return result

    return decorate


def wanted(item: pytest.Item) -> list[Key]:
    """The runs whose outcomes a test looks at, if it is one of guests."""
    if not item.get_closest_marker("guest"):
        return []  # what it has of that name is another thing
    names = getattr(item, "fixturenames", ())
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return [(name, parameters.get(name)) for name in names if name in RUNS]


class Pool:
    """The runs that the chosen tests want: begun when it is made, in daemon threads.

    With the process that runs the tests the guests end, too.
    """

    def __init__(self, keys: list[Key], folder: Callable[[str], Path]) -> None:
        self._changed = threading.Condition()
        self._outcomes: dict[Key, Any] = {}
        keys = sorted(dict.fromkeys(keys), key=lambda key: -RUNS[key[0]].seconds)
        self._todo = deque((key, folder(key[0])) for key in keys)
        for _ in range(min(AT_ONCE, len(keys))):
            threading.Thread(target=self._work, daemon=True).start()

    def result(self, key: Key) -> Any:
        """Wait for a run's end."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._outcomes)
        outcome = self._outcomes[key]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _work(self) -> None:
        # Of this thread alone, and of what it starts.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        with suppress(IndexError):
            while True:
                self._run(*self._todo.popleft())

    def _run(self, key: Key, folder: Path) -> None:
        name, parameter = key
        arguments = (folder,) if parameter is None else (folder, parameter)
        start = time.monotonic()
        try:
            outcome = RUNS[name].function(*arguments)
        except BaseException as error:
            outcome = error
        with self._changed:
            TOOK[key] = time.monotonic() - start
            self._outcomes[key] = outcome
            self._changed.notify_all()
