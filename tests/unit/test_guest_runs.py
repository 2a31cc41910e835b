"""The guests that run ahead of their tests: how many at once, in what order, what comes of them."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections import defaultdict
from pathlib import Path

import guest_runs
import pytest
from guest_runs import Pool, Run, wanted


class Runs:
    """Runs that say when they begin, and end when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, int]) -> None:
        self.began: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.end: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        made = {name: Run(self._function(name), took) for name, took in seconds.items()}
        monkeypatch.setattr(guest_runs, "RUNS", made)
        monkeypatch.setattr(guest_runs, "TOOK", {})
        monkeypatch.setattr(guest_runs, "AT_ONCE", 2)

    def _function(self, name: str) -> object:
        def run(folder: Path, *parameter: str) -> tuple[str, ...]:
            self.began.put(name)
            assert self.end[name].wait(60)
            if name == "broken":
                raise RuntimeError("lost")
            return (folder.name, *parameter)

        return run

    def none_begins(self) -> bool:
        try:
            self.began.get(timeout=0.1)
        except queue.Empty:
            return True
        return False


def test_two_at_once_and_the_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, {"short": 1, "long": 3, "medium": 2})
    pool = Pool([("short", None), ("long", None), ("medium", "x"), ("short", None)], Path)
    assert {runs.began.get(timeout=60) for _ in range(2)} == {"long", "medium"}
    assert runs.none_begins()
    runs.end["medium"].set()
    assert pool.result(("medium", "x")) == ("medium", "x")
    assert runs.began.get(timeout=60) == "short"
    runs.end["long"].set()
    runs.end["short"].set()
    assert pool.result(("long", None)) == ("long",)
    assert pool.result(("short", None)) == ("short",)
    assert runs.none_begins()
    assert set(guest_runs.TOOK) == {("long", None), ("medium", "x"), ("short", None)}


def test_guests_give_way_to_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    def nice() -> int:
        return int(subprocess.check_output(["nice"]))

    monkeypatch.setattr(guest_runs, "RUNS", {"one": Run(lambda _: nice(), 1)})
    monkeypatch.setattr(guest_runs, "TOOK", {})
    here = nice()
    assert Pool([("one", None)], Path).result(("one", None)) == max(here, guest_runs.NICE)
    assert nice() == here


def test_what_went_wrong_is_told_to_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, {"broken": 1})
    runs.end["broken"].set()
    pool = Pool([("broken", None)], Path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="lost"):
            pool.result(("broken", None))


@pytest.mark.parametrize("page", [b"not a chapter"])
def test_only_tests_of_guests_want_any(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, page: bytes
) -> None:
    monkeypatch.setattr(guest_runs, "RUNS", {"page": Run(lambda *_: None, 1)})
    assert wanted(request.node) == []
    request.node.add_marker(pytest.mark.guest)
    assert wanted(request.node) == [("page", page)]
