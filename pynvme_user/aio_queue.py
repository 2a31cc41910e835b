"""The queue pair of an event loop: what waits for room, and what waits for its outcome.

What tasks ask for in one turn of the event loop reaches the device with one doorbell. While
commands are outstanding, completions are looked for in each turn for a short while; then a thread
waits for the next one in C, without the GIL, asleep where the queue pair has an interrupt.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from threading import get_ident
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pynvme_user.driver.completion import check
from pynvme_user.driver.controller import Controller
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.namespace import Namespace
from pynvme_user.driver.transfer import describe
from pynvme_user.errors import ControllerFatalError, NvmeError
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.status import Status

#: Turns are made for so long without a completion before the thread waits for one.
_SPIN_SECONDS = 50e-6
#: How often the device's health and deadlines are looked at while nothing completes.
_HEALTH_SECONDS = 0.1
_TAGS = 1 << 31
#: For how long C waits at once: what close() may have to wait for.
_SLICE_SECONDS = 0.01

#: A namespace, and whether a command of it has FUA: the same object for all that go in one batch.
Of: TypeAlias = tuple[Namespace, bool]
#: Opcode, first LBA, blocks and memory; what it is of.
_Command: TypeAlias = tuple[NvmOpcode, int, int, npt.NDArray[Any] | None, Of]


class Request(asyncio.Future[None]):
    """A command: done once it has its outcome, so that its buffer is the caller's again.

    A task that is cancelled meanwhile gets CancelledError after that. Before the command was
    submitted there is nothing to wait for.
    """

    __slots__ = ("command", "submitted")

    command: _Command
    submitted: bool

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, unless the device may have its buffer; return whether it was."""
        return not self.submitted and super().cancel(msg)

    def fail(self, status: int, timed_out: bool) -> None:
        """End it with a status that is no success."""
        opcode, lba, blocks, _, (ns, _) = self.command
        what = describe(opcode, lba, blocks, ns.nsid)
        try:
            check(Status(status), what, timed_out)
        except NvmeError as error:
            self.set_exception(error)


class Watcher:
    """A thread that waits for the next completion of a queue pair and calls in the event loop."""

    def __init__(self, pair: QueuePair, call: Callable[[], None]) -> None:
        self._pair = pair
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._watch, name="nvme-watcher", daemon=True)
        self._thread.start()

    def watch(self) -> None:
        """Call once a completion is there, or after a while."""
        self._wanted.release()

    def _watch(self) -> None:
        while True:
            self._wanted.acquire()
            end = time.monotonic() + _HEALTH_SECONDS
            while not self._ended and not self._pair.await_completion(_SLICE_SECONDS):
                if time.monotonic() >= end:
                    break
            if self._ended:
                return
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._call)

    def close(self) -> None:
        """End it."""
        self._ended = True
        self._wanted.release()
        self._thread.join()


class LoopQueue:
    """The queue pair of one event loop: what waits for room, and what waits for its outcome."""

    def __init__(self, ctrl: Controller, depth: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.pair = pair = ctrl.queue_pair(depth)
        self._waiting: deque[Request] = deque()
        self._outstanding: dict[int, Request] = {}  # by its tag
        self._next_tag = 0
        self._idle = asyncio.Event()
        self._turn_is_due = False
        self._watching = False
        self._last = 0.0  # when a completion came
        self._watcher = Watcher(pair, self._woken)

    def post(
        self,
        of: Of,
        opcode: NvmOpcode,
        lba: int,
        blocks: int,
        buffer: npt.NDArray[Any] | None,
    ) -> asyncio.Future[None]:
        """Let a command be submitted at the end of this turn, or once there is room.

        Raises RuntimeError in another thread, and so in its event loop.
        """
        if get_ident() != self._thread:  # to ask which loop runs here takes a system call
            raise RuntimeError(
                "the device belongs to another event loop: call from there "
                "(asyncio.run_coroutine_threadsafe), or open it in this one by aopen()"
            )
        request = Request(loop=self._loop)
        request.command = (opcode, lba, blocks, buffer, of)
        request.submitted = False
        self._waiting.append(request)
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)
        return request

    def _woken(self) -> None:
        self._watching = False
        if not self._turn_is_due:
            self._turn()

    def _turn(self) -> None:
        """Submit what there is room for, look for completions, and see to the next turn."""
        self._turn_is_due = False
        if self._waiting:
            self._submit()
        if self._outstanding:
            self._reap()
        if not self._outstanding and not self._waiting:
            self._idle.set()
            return
        if time.monotonic() - self._last < _SPIN_SECONDS or self._waiting:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)
        elif not self._watching:
            self._watching = True
            self._watcher.watch()

    def _submit(self) -> None:
        if not self._outstanding:
            self._last = time.monotonic()
        while batch := self._batch():
            count = self._submit_all(batch)
            for _ in range(count):
                self._waiting.popleft()
            if not count:
                return  # there is no room

    def _batch(self) -> list[Request]:
        """Those that wait first, as far as there may be room, and go in one batch: of one
        namespace, with or without FUA.
        """
        waiting = self._waiting
        while waiting and waiting[0].done():  # cancelled before
            waiting.popleft()
        batch = [*islice(waiting, self.pair.depth - len(self._outstanding))]
        of = batch[0].command[4] if batch else None
        for number, request in enumerate(batch):
            if request.command[4] is not of or request.done():
                return batch[:number]
        return batch

    def _submit_all(self, batch: list[Request]) -> int:
        """Submit as many of a batch as there is room for; return how many, with those refused."""
        first = self._next_tag
        tags = range(first, first + len(batch))
        try:
            opcodes, lbas, blocks, buffers, of = zip(
                *[request.command for request in batch], strict=True
            )
            ns, fua = of[0]
            count = self.pair.submit_many(
                ns,
                _column(opcodes),
                np.array(lbas),
                _column(blocks),
                buffers,
                tags=np.arange(first, first + len(batch)),
                fua=fua,
            )
        except Exception as error:
            if len(batch) == 1:
                batch[0].set_exception(error)
                return 1
            # None was submitted: find out which is not right.
            return self._submit_all(batch[:1])
        self._next_tag = (first + count) % _TAGS
        submitted = batch[:count]
        for request in submitted:
            request.submitted = True
        self._outstanding.update(zip(tags, submitted, strict=False))
        return count

    def _reap(self) -> None:
        try:
            reaped = self.pair.reap()
        except ControllerFatalError:
            return  # it was reset: the next turn finds what became of each
        except NvmeError as error:
            self._fail(error)
            return
        if not len(reaped.tags):
            return
        self._last = time.monotonic()
        take = self._outstanding.pop
        requests = map(take, reaped.tags.tolist())
        if not reaped.status.any():
            for request in requests:
                request.set_result(None)
            return
        for request, status in zip(requests, reaped.status.tolist(), strict=True):
            if status:
                request.fail(status, reaped.timed_out)
            else:
                request.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Give all the same end: the device, or the queue pair, is gone."""
        requests = [*self._outstanding.values(), *self._waiting]
        self._outstanding.clear()
        self._waiting.clear()
        for request in requests:
            if not request.done():
                request.set_exception(error)

    async def close(self) -> None:
        """Wait for what is outstanding, give the queue pair back."""
        while self._outstanding or self._waiting:
            self._idle.clear()
            await self._idle.wait()
        try:
            await asyncio.to_thread(self._watcher.close)
        finally:
            self.pair.close()


def _column(values: tuple[int, ...]) -> int | npt.NDArray[np.int64]:
    """Give one number for all where it will do: quicker than an array of them."""
    return values[0] if values.count(values[0]) == len(values) else np.array(values, np.int64)
