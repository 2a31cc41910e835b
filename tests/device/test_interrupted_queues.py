"""ctrl-C while queues are created or deleted: none is left behind on the controller.

Once at each line of the driver's way through both, and as a signal at times of its own choosing.
"""

from __future__ import annotations

import contextlib
import linecache
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import pynvme_user
from pynvme_user import Controller, Namespace, NvmeStatusError
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.transport.pcie import NO_SUCH_QUEUE

#: What creation and deletion go through; deeper down there is only data, and C.
FILES = {
    str(Path(pynvme_user.__file__).parent / f"{name}.py")
    for name in (
        "driver/admin",
        "driver/controller",
        "driver/device",
        "driver/pool",
        "driver/queue_pair",
        "driver/queue_pair_base",
        "driver/queue_table",
        "driver/recovery",
        "transport/pcie",
    )
}


class AtLine:
    """Raises KeyboardInterrupt at one line of the driver, the ``number``-th that is come to.

    ``again`` is after how many seconds a signal does so once more; 0: never.
    """

    def __init__(self, number: int, again: float = 0) -> None:
        self.left = number
        self._again = again
        self.where = ""
        #: When it did, as time.perf_counter() has it.
        self.raised = 0.0
        self._entered: set[tuple[int, int]] = set()

    def __call__(self, frame: FrameType, event: str, arg: object) -> object:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and not self._is_way_out(frame):
            self.left -= 1
            if not self.left:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                self.raised = time.perf_counter()
                signal.setitimer(signal.ITIMER_REAL, self._again)
                raise KeyboardInterrupt
        return self

    def _is_way_out(self, frame: FrameType) -> bool:
        """Whether a `with` is being left: its exit is called before a signal is looked for."""
        place = id(frame), frame.f_lineno
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if not source.lstrip().startswith("with "):
            return False
        known = place in self._entered
        self._entered.add(place)
        return known

    def __enter__(self) -> AtLine:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)


@pytest.fixture
def alarm() -> Iterator[None]:
    """A timer's signal is a ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def left_behind(ctrl: Controller, qid: int) -> list[AdminOpcode]:
    """The queues of this id that the controller has, by what deleted them."""
    found = []
    for opcode in (AdminOpcode.DELETE_IO_SQ, AdminOpcode.DELETE_IO_CQ):
        try:
            ctrl.admin(opcode, cdw10=qid)
            found.append(opcode)
        except NvmeStatusError as error:
            if error.status.code() not in NO_SUCH_QUEUE:
                raise
    return found


def works(ctrl: Controller, ns: Namespace, qid: int) -> None:
    with ctrl.queue_pair(4) as pair:
        assert pair.qid == qid
        pair.submit_flush(ns)
        assert [done.status.ok for done in pair.drain()] == [True]


@pytest.fixture
def qid(controller: Controller) -> Iterator[int]:
    """The id that the next queue pair gets; no other is taken or left by the test."""
    with controller.queue_pair(4) as pair:
        qid = pair.qid
    taken = len(controller._queue_pairs)
    yield qid
    assert len(controller._queue_pairs) == taken
    assert not controller._queue_pairs._orphans
    assert controller.registers.csts.rdy


def interrupted_everywhere(attempt: Callable[[AtLine], None]) -> list[str]:
    """Repeat with the interruption a line later each time, until it comes too late."""
    places = []
    while True:
        line = AtLine(len(places) + 1)
        attempt(line)
        if not line.where:
            return places
        places.append(line.where)


def test_creation(controller: Controller, ns: Namespace, qid: int) -> None:
    resets = controller.resets

    def attempt(line: AtLine) -> None:
        pair = None
        with contextlib.suppress(KeyboardInterrupt), line:
            pair = controller.queue_pair(4)
        if pair:
            assert not line.where
            pair.close()
        # Not even before the id is used the next time: what was begun is taken back at once.
        assert left_behind(controller, qid) == [], line.where
        works(controller, ns, qid)

    places = interrupted_everywhere(attempt)
    assert len(places) > 50
    assert any(place.startswith("PcieQueue.connect") for place in places)
    assert controller.resets == resets


def test_deletion(controller: Controller, ns: Namespace, qid: int) -> None:
    resets = controller.resets

    def attempt(line: AtLine) -> None:
        pair = controller.queue_pair(4)
        with contextlib.suppress(KeyboardInterrupt), line:
            pair.close()
        pair.close()  # which does nothing once it has begun
        works(controller, ns, qid)
        assert left_behind(controller, qid) == [], line.where

    places = interrupted_everywhere(attempt)
    assert len(places) > 30
    assert any(place.startswith("PcieQueue.disconnect") for place in places)
    assert controller.resets == resets


# A signal that Python sees in a finalizer is told of, and goes no further.
lost_signals = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def quickest(what: Callable[[], None], tries: int = 10) -> float:
    """The seconds that something takes here when nothing disturbs it."""
    took = []
    for _ in range(tries):
        begin = time.perf_counter()
        what()
        took.append(time.perf_counter() - begin)
    return min(took)


@lost_signals
@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("reset", [False, True])
def test_again_while_it_is_taken_back(
    controller: Controller, ns: Namespace, qid: int, reset: bool
) -> None:
    """What a second ctrl-C leaves goes with the next queue pair, or with a reset."""
    chosen = random.Random(2)
    left = 0
    whole = AtLine(1 << 30)
    with whole:
        pair = controller.queue_pair(4)
    pair.close()
    lines = (1 << 30) - whole.left
    for turn, number in enumerate(range(1, lines, max(1, lines // 100))):
        line = AtLine(number)
        with contextlib.suppress(KeyboardInterrupt), line:
            controller.queue_pair(4).close()
        if not line.where:
            break  # it was quicker this time
        cleaning = time.perf_counter() - line.raised
        pair = None
        # The second comes at any time of the cleaning up, or not before here.
        with contextlib.suppress(KeyboardInterrupt):
            line = AtLine(number, max(chosen.uniform(0, cleaning), 1e-6))
            with contextlib.suppress(KeyboardInterrupt), line:
                pair = controller.queue_pair(4)
            time.sleep(2 * cleaning)
        if pair:
            pair.close()
        pairs = controller._queue_pairs
        left += sum(map(pairs._is_orphan, pairs))
        if reset and turn % 10 == 0:
            controller.reset()
        works(controller, ns, qid)
        assert left_behind(controller, qid) == []
    assert left, "no second interruption came in between"


@lost_signals
@pytest.mark.usefixtures("alarm")
def test_signals_at_any_time(controller: Controller, ns: Namespace, qid: int) -> None:
    """Spread over what making and closing takes here, however quick the machine is."""
    chosen = random.Random(1)
    interrupted = 0
    span = quickest(lambda: controller.queue_pair(4).close())
    for _ in range(300):
        pair = None
        begin = time.perf_counter()
        try:
            signal.setitimer(signal.ITIMER_REAL, max(chosen.uniform(0, span), 1e-6))
            pair = controller.queue_pair(4)
            pair.close()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            span = min(span, time.perf_counter() - begin)
        if pair:
            pair.close()
        works(controller, ns, qid)
        assert left_behind(controller, qid) == []
    assert interrupted > 100
