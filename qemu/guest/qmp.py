"""QMP, QEMU's control protocol: JSON objects, one a line, over a connected socket."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from .errors import QmpError


class Qmp:
    """The client's end of a QMP connection; belongs to one thread. `sock` becomes ours."""

    def __init__(self, sock: socket.socket, timeout: float = 30.0) -> None:
        self._sock = sock
        self._timeout = timeout
        self._received = b""
        self._events: list[dict[str, Any]] = []
        self._receive(time.monotonic() + timeout)  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """Return QEMU's answer to `command`.

        Events that come meanwhile are kept for `wait_event`. Raises QmpError with QEMU's own
        words when it refuses, when it has ended, and after the timeout.
        """
        request = {"execute": command, "arguments": arguments}
        deadline = time.monotonic() + self._timeout
        try:
            self._sock.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"QEMU has ended: {command} was not sent") from error
        while True:
            message = self._receive(deadline)
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name: str, timeout: float = 30.0, **data: Any) -> dict[str, Any]:
        """Return the data of the first event `name`, past or to come, that hold all of `data`."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                found = event.get("data", {})
                if event["event"] == name and data.items() <= found.items():
                    self._events.remove(event)
                    return dict(found)
            message = self._receive(deadline)
            if "event" in message:
                self._events.append(message)

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._sock.close()

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._sock.recv(65536)
            except TimeoutError as error:
                raise QmpError("QEMU did not answer over QMP in time") from error
            except OSError:
                data = b""
            if not data:
                raise QmpError("QEMU has ended: its QMP connection is closed")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
