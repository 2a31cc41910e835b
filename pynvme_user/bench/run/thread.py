"""The thread of one worker, or of several that share it: it runs what their steps ask for."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from pynvme_user.bench.run.drive import RunLoop
from pynvme_user.driver.queue_pair_group import GroupRun, QueuePairGroup, run_together
from pynvme_user.workload.group import WorkloadGroup

#: What a worker asks for: to run its loop, a pause in seconds, or None: to wait for the others.
Request = RunLoop | float | None
#: A worker's steps. They are sent whether its loop has ended.
Steps = Generator[Request, bool, None]
_NS = 1_000_000_000
#: Loops whose times end within so long of each other run until the last: each run has its cost.
_SLACK_NS = 1_000_000
_NOT_SET_UP: Any = object()


class Stepping(Protocol):
    """A worker, as its thread sees it."""

    ended: threading.Event

    def steps(self) -> Steps:
        """Set up, ask for None, run, ask for None once more, and close. Raises nothing."""


def run_workers(workers: Sequence[Stepping], ready: threading.Barrier) -> None:
    """Set up, meet other threads at the barrier, run all to their ends. Raises nothing."""
    steps = [worker.steps() for worker in workers]
    try:
        if any(next(one, _NOT_SET_UP) is _NOT_SET_UP for one in steps):
            ready.abort()
        ready.wait()
        answers: dict[Steps, bool | Exception] = dict.fromkeys(steps, False)
        while answers:
            asked = {one: _resume(one, answer) for one, answer in answers.items()}
            answers = _serve(
                {one: request for one, request in asked.items() if request is not None}
            )
        for one in steps:
            next(one, None)  # its queue pairs are deleted, which no I/O had to wait for
    except threading.BrokenBarrierError:
        pass  # a worker could not be set up, and says why
    finally:
        for one in steps:
            one.close()
        for worker in workers:
            worker.ended.set()


def _resume(steps: Steps, answer: bool | Exception) -> Request:
    """Let one go on; return what it asks for next, None at its end."""
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration:
        return None
    finally:
        del answer  # an error has this frame


def _serve(requests: Mapping[Steps, RunLoop | float]) -> dict[Steps, bool | Exception]:
    """Do what is asked for, for as long as the shortest of it takes; tell how that ended."""
    if len(requests) == 1:
        ((one, request),) = requests.items()
        return {one: _serve_one(request)}
    answers: dict[Steps, bool | Exception] = dict.fromkeys(requests, False)
    spans = [
        int(request * _NS) if isinstance(request, float) else request.timeout_ns
        for request in requests.values()
    ]
    first = min(spans, default=0)
    span = max((span for span in spans if span - first <= _SLACK_NS), default=0)
    runs = {one: _group_run(of) for one, of in requests.items() if isinstance(of, RunLoop)}
    if runs:
        answers |= zip(runs, run_together([*runs.values()], span), strict=True)
    else:
        time.sleep(span / _NS)
    return answers


def _group_run(request: RunLoop) -> GroupRun:
    assert isinstance(request.pair, QueuePairGroup), "of those that share a thread, even of one"
    assert isinstance(request.workload, WorkloadGroup)
    return GroupRun(request.pair, request.workload, request.geometry, request.buffer)


def _serve_one(request: RunLoop | float) -> bool | Exception:
    if isinstance(request, float):
        time.sleep(request)
        return False
    try:
        # A group for several queues, a workload for one.
        loop: Any = request.workload
        return request.pair.run_loop(
            loop, request.timeout_ns, geometry=request.geometry, owner=request.buffer
        )
    except Exception as error:
        return error
