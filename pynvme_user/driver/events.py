"""Asynchronous events: requests that stay outstanding, and what they bring (Base 2.0, 5.2)."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, Self

from pynvme_user.driver.admin import AdminRequest
from pynvme_user.driver.features import Features
from pynvme_user.errors import ClosedError, NvmeError, NvmeStatusError
from pynvme_user.logs import logger
from pynvme_user.spec.bits import named
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.events import (
    AsyncEventResult,
    AsyncEventType,
    IoCommandEvent,
    NoticeEvent,
)
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.logs import LogId, TelemetryControllerHeader, structure_of
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, PathStatus

log = logger(__name__)

#: Who waits for events looks at the admin queue this often.
_PAUSE_SECONDS = 0.01
#: Requests that are kept outstanding, where the controller takes so many (AERL).
_OUTSTANDING = 4
#: Ends of a request that are no event: this side ended it.
_ENDED_HERE = (PathStatus.ABORTED_BY_HOST, GenericStatus.ABORTED_BY_REQUEST)
_LIMIT = CommandSpecificStatus.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED
#: After these a namespace may be another.
_CHANGE_NAMESPACES = {
    (AsyncEventType.NOTICE, NoticeEvent.ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED),
    (AsyncEventType.NOTICE, NoticeEvent.FIRMWARE_ACTIVATION_STARTING),
    (AsyncEventType.IO_COMMAND_SPECIFIC, IoCommandEvent.SANITIZE_COMPLETED),
    (
        AsyncEventType.IO_COMMAND_SPECIFIC,
        IoCommandEvent.SANITIZE_COMPLETED_WITH_UNEXPECTED_DEALLOCATION,
    ),
}
#: Async Event Configuration: the bits of SMART / Health Critical Warnings; above them each bit is
#: where OAES has it.
_HEALTH, _NOTICES = 0x1F, 0xFFFFFF00


class Event(NamedTuple):
    """One asynchronous event."""

    #: Dword 0 of the completion: type, information and log page.
    result: AsyncEventResult
    #: The log page that it names, read so that another event of its kind may come: decoded where
    #: its layout is known; None where there is none, or it could not be read.
    log: Any

    @property
    def type(self) -> int:
        """The kind of event: an :class:`AsyncEventType` where the specification names it."""
        return self.result.aet

    @property
    def changes_namespaces(self) -> bool:
        """Whether a namespace may be another after it, or gone, or new."""
        return (self.result.aet, self.result.aei) in _CHANGE_NAMESPACES

    def __str__(self) -> str:
        kind = named(self.result.aet, AsyncEventType) or f"type {self.result.aet}"
        what = self.result.event or f"information {self.result.aei:02x}h"
        log = f", log page {self.result.lid:02x}h" if self.result.lid else ""
        return f"{kind}: {what}{log}".lower().replace("_", " ")


class Events:
    """The events of a controller, made by :meth:`Controller.events`. A context manager.

    Iterating waits for the next one, for ever; :meth:`wait` for a while. A change of namespaces
    is made known to the driver before the event is given out: the next read identifies them again.
    After a reset the requests are made anew. Thread-safe.
    """

    def __init__(
        self,
        controller: Features,
        forget_namespaces: Callable[[], None],
        *,
        config: int | None,
        callback: Callable[[Event], object] | None,
    ) -> None:
        self._controller = controller
        self._forget_namespaces = forget_namespaces
        self._lock = threading.Lock()
        self._requests: list[AdminRequest] = []
        self._found: deque[Event] = deque()
        self._most = min(_OUTSTANDING, controller.identify.aerl + 1)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._config_before = controller.feature(FeatureId.ASYNC_EVENT_CONFIG).result
        if config is None:
            notices = int(controller.identify.oaes) & _NOTICES
            config = self._config_before | _HEALTH | notices
        controller.set_feature(FeatureId.ASYNC_EVENT_CONFIG, config)
        with self._lock:
            self._refill()
        if callback is not None:
            self._thread = threading.Thread(
                target=self._call, args=(callback,), name="nvme events", daemon=True
            )
            self._thread.start()

    def wait(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None once ``timeout`` seconds have passed without one.

        Raises ClosedError once the events or the controller are closed, DeviceRemovedError,
        NvmeStatusError where the controller takes no such request.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._closed.is_set():
                    raise ClosedError("these events are closed: call Controller.events() again")
                if not self._found:
                    self._look()
                if self._found:
                    return self._found.popleft()
            if time.monotonic() >= until:
                return None
            self._closed.wait(_PAUSE_SECONDS)

    def _look(self) -> None:
        """Look at the requests; make those anew that have ended."""
        ended = [request for request in self._requests if request.wait(0) is not None]
        if not ended:
            return
        self._requests = [request for request in self._requests if request not in ended]
        for request in ended:
            done = request.completion
            assert done is not None
            code = done.status.code()
            if done.status.ok:
                self._found.append(self._event(AsyncEventResult(done.result & 0xFFFFFFFF)))
            elif (
                code is CommandSpecificStatus.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED and self._requests
            ):
                self._most = len(self._requests)  # somebody else has made some, too
            elif code not in _ENDED_HERE:
                request.check()  # raises
        self._refill()

    def _refill(self) -> None:
        while len(self._requests) < self._most:
            self._requests.append(
                self._controller.admin_async(AdminOpcode.ASYNC_EVENT_REQUEST, timeout=math.inf)
            )

    def _event(self, result: AsyncEventResult) -> Event:
        event = Event(result, None)
        log.info("%s: %s", self._controller.name, event)
        if event.changes_namespaces:
            self._forget_namespaces()
        return event._replace(log=self._page(result.lid)) if result.lid else event

    def _page(self, lid: int) -> Any:
        """Read the page of an event, without which no other of its kind comes."""
        # What it tells of may be gone by now; the event itself is no less true.
        with suppress(NvmeStatusError, ValueError):
            if lid == LogId.TELEMETRY_CONTROLLER:  # whose data may be large
                return self._controller.log(TelemetryControllerHeader, lid=lid, force=True)
            structure = structure_of(lid)
            if structure is not None:
                return self._controller.log(structure, force=True)
        return None

    def _call(self, callback: Callable[[Event], object]) -> None:
        """Give each event to the callback, until the end."""
        with suppress(ClosedError):
            for event in self:
                callback(event)

    def __iter__(self) -> Iterator[Event]:
        with suppress(ClosedError):
            while True:
                event = self.wait()
                assert event is not None
                yield event

    def close(self) -> None:
        """Take the requests back. Safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock, suppress(NvmeError):
            self._controller.set_feature(FeatureId.ASYNC_EVENT_CONFIG, self._config_before)
            for request in self._requests:
                request.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
