"""The thread of one worker, or of several that share it: each has its turns of I/O and pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from pynvme_user.bench.run.drive import Io
from pynvme_user.driver.io_queue_pair import QueuePairGroup, Turn, run_together
from pynvme_user.workload.group import WorkloadGroup

#: What a worker wants next: I/O, a pause in seconds, or None, to go on once the others are as far.
Wish = Io | float | None
#: The steps of one. An answer is whether its I/O is at its end.
Steps = Generator[Wish, bool, None]
_NS = 1_000_000_000
#: What is due within so long of each other is so at the same time: turns have their cost.
_SLACK_NS = 1_000_000
_NOT_SET_UP: Any = object()


class Stepping(Protocol):
    """A worker, as its thread sees it."""

    ended: threading.Event

    def steps(self) -> Steps:
        """Set up, wish None, run, wish None once more, and close. Raises nothing."""


def run_workers(workers: Sequence[Stepping], ready: threading.Barrier) -> None:
    """Set up, meet other threads at the barrier, run all to their ends. Raises nothing."""
    steps = [worker.steps() for worker in workers]
    try:
        if any(next(one, _NOT_SET_UP) is _NOT_SET_UP for one in steps):
            ready.abort()
        ready.wait()
        answers: dict[Steps, bool | Exception] = dict.fromkeys(steps, False)
        while answers:
            found = {one: _wish(one, answer) for one, answer in answers.items()}
            answers = _fulfil({one: wish for one, wish in found.items() if wish is not None})
        for one in steps:
            next(one, None)  # its queue pairs are deleted, which no I/O had to wait for
    except threading.BrokenBarrierError:
        pass  # a worker could not be set up, and says why
    finally:
        for one in steps:
            one.close()
        for worker in workers:
            worker.ended.set()


def _wish(steps: Steps, answer: bool | Exception) -> Wish:
    """Let one go on; tell what it wants next, None at its end."""
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration:
        return None
    finally:
        del answer  # an error has this frame


def _fulfil(wishes: Mapping[Steps, Io | float]) -> dict[Steps, bool | Exception]:
    """Do what is wanted, for as long as the first wants it; tell how that ended."""
    if len(wishes) == 1:
        ((one, wish),) = wishes.items()
        return {one: _do(wish)}
    answers: dict[Steps, bool | Exception] = dict.fromkeys(wishes, False)
    spans = [int(of * _NS) if isinstance(of, float) else of.timeout_ns for of in wishes.values()]
    first = min(spans, default=0)
    span = max((span for span in spans if span - first <= _SLACK_NS), default=0)
    turns = {one: _turn(wish) for one, wish in wishes.items() if isinstance(wish, Io)}
    if turns:
        answers |= zip(turns, run_together([*turns.values()], span), strict=True)
    else:
        time.sleep(span / _NS)
    return answers


def _turn(wish: Io) -> Turn:
    assert isinstance(wish.pair, QueuePairGroup), "of those that share a thread, even of one"
    assert isinstance(wish.workload, WorkloadGroup)
    return Turn(wish.pair, wish.workload, wish.geometry, wish.buffer)


def _do(wish: Io | float) -> bool | Exception:
    if isinstance(wish, float):
        time.sleep(wish)
        return False
    try:
        # A group for several queues, a workload for one.
        loop: Any = wish.workload
        return wish.pair.run_loop(loop, wish.timeout_ns, geometry=wish.geometry, owner=wish.buffer)
    except Exception as error:
        return error
