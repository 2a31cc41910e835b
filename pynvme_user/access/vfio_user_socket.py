"""A vfio-user connection: requests, replies, descriptors, and the server's own requests.

A thread of its own reads all that comes, so that a request that is interrupted (ctrl-C) leaves
the stream whole, a server that goes away is noticed at once, and one that reaches our memory by
messages is answered while nobody waits for anything else. It sleeps otherwise: I/O does not pass
here.

The server is not trusted. Whatever breaks the protocol ends the connection: a stream that has
lost its bounds has no next message.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import json
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeVar

from pynvme_user import owned
from pynvme_user.access.vfio_user_messages import (
    DEFAULT_MAX_DATA_XFER_SIZE,
    DEFAULT_MAX_MSG_FDS,
    FLAGS_COMMAND,
    FLAGS_ERROR,
    FLAGS_NO_REPLY,
    FLAGS_REPLY,
    FLAGS_TYPE,
    HEADER_SIZE,
    MAJOR,
    MINOR,
    Command,
    Header,
    Version,
)
from pynvme_user.errors import (
    ClosedError,
    ControllerFatalError,
    DeviceAccessError,
    DeviceRemovedError,
    ForkedError,
    NvmeError,
    NvmeTimeoutError,
)

#: How long a server may take for one reply. SPDK's looks at its socket once in a millisecond.
REPLY_SECONDS = 10.0
_MAX_MESSAGE = HEADER_SIZE + 64 + DEFAULT_MAX_DATA_XFER_SIZE
_MAX_DESCRIPTORS = 8  # in a message to us, as we tell the server; more come cut off
_MAX_ERRNO = 4095

StructT = TypeVar("StructT", bound=ctypes.Structure)

#: Answers a request of the server's: (command, payload) -> payload of the reply. Raises OSError.
Answer = Callable[[int, bytes], bytes]


class RefusedError(DeviceAccessError):
    """The server answered a request with an error; ``errno`` is its number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


class Message:
    """One received message and the descriptors that came with it, which it owns."""

    def __init__(self, header: Header, payload: bytes, descriptors: list[int]) -> None:
        self.header = header
        self.payload = payload
        self.descriptors = descriptors

    def close(self) -> None:
        """Close the descriptors."""
        _close_all(self.descriptors)


class Connection:
    """A connected socket and its thread. Any thread may make requests; one is served at a time.

    ``answer`` serves the requests that the server makes, on this object's thread. The socket is
    owned from now on. :meth:`negotiate` comes first.
    """

    def __init__(
        self, sock: socket.socket, name: str, answer: Answer, *, timeout: float = REPLY_SECONDS
    ) -> None:
        self.max_descriptors = DEFAULT_MAX_MSG_FDS
        self._name = name
        self._answer = answer
        self._timeout = timeout
        self._socket = sock
        sock.setblocking(True)  # the thread's; sending never blocks for longer than its deadline
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._replies: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._last_id = 0
        self._expected: int | None = None
        self._interrupted: set[int] = set()  # ids whose reply nobody waits for any more
        self._failure: NvmeError | None = None
        owned.register(self)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the server closed the connection or broke the protocol."""
        return self._failure is None

    def negotiate(self) -> None:
        """Agree on version and capabilities.

        Raises DeviceAccessError for a server of another major version, and as :meth:`request`.
        """
        offer = {
            "capabilities": {
                "max_msg_fds": _MAX_DESCRIPTORS,
                "max_data_xfer_size": DEFAULT_MAX_DATA_XFER_SIZE,
            }
        }
        payload = bytes(Version(MAJOR, MINOR)) + json.dumps(offer).encode() + b"\0"
        reply = self.request(Command.VERSION, payload, "the protocol's version")
        version = self.parse(Version, reply, "a version")
        if version.major != MAJOR:
            raise DeviceAccessError(
                f"{self._name} speaks vfio-user {version.major}.{version.minor}, and this driver "
                f"{MAJOR}.{MINOR}: use a server that does"
            )
        self.max_descriptors = self._max_descriptors(reply[ctypes.sizeof(Version) :])

    def _max_descriptors(self, text: bytes) -> int:
        """Read the one capability that limits what we send."""
        if not text.rstrip(b"\0"):
            return DEFAULT_MAX_MSG_FDS
        try:
            capabilities: Any = json.loads(text.rstrip(b"\0")).get("capabilities", {})
            most = capabilities.get("max_msg_fds", DEFAULT_MAX_MSG_FDS)
        except (ValueError, AttributeError, RecursionError) as error:
            raise self.violation(
                f"its capabilities are not the JSON of an object ({error})"
            ) from None
        if type(most) is not int or most < 1:
            raise self.violation(f"it takes {ascii(most)[:80]} descriptors in a message")
        return most

    # Requests

    def request(
        self, command: Command, payload: bytes, what: str, *, descriptors: Sequence[int] = ()
    ) -> bytes:
        """Send a request and wait; return the reply's payload.

        ``what`` names it in an error. Raises RefusedError for an error reply, NvmeTimeoutError
        once it took too long, ControllerFatalError for a reply that breaks the protocol,
        DeviceRemovedError when the connection has ended, by one of these or by the server.
        """
        reply = self._exchange(command, payload, what, descriptors)
        reply.close()
        return reply.payload

    def request_descriptors(
        self, command: Command, payload: bytes, what: str
    ) -> tuple[bytes, list[int]]:
        """As :meth:`request`, for a reply with descriptors: the caller closes them."""
        reply = self._exchange(command, payload, what, ())
        return reply.payload, reply.descriptors

    def _exchange(
        self, command: Command, payload: bytes, what: str, descriptors: Sequence[int]
    ) -> Message:
        deadline = time.monotonic() + self._timeout
        lock = self._lock  # this one is given back, whatever forked() makes of it
        if not lock.acquire(timeout=self._timeout):
            raise self._late(what)
        try:
            self._discard_replies()
            self._check(what)
            self._last_id = identity = (self._last_id + 1) & 0xFFFF
            self._expected = identity
            try:
                header = Header(id=identity, command=command, flags=FLAGS_COMMAND)
                self._send(header, payload, descriptors, deadline, what)
                reply = self._wait(deadline, what)
            except BaseException:
                self._interrupted.add(identity)
                raise
            finally:
                self._expected = None
        finally:
            lock.release()
        try:
            self._check_reply(reply.header, command, what)
        except BaseException:
            reply.close()
            raise
        return reply

    def _wait(self, deadline: float, what: str) -> Message:
        try:
            reply = self._replies.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self._late(what) from None
        if reply is None:
            failure = self._failure
            raise copy(failure) if isinstance(failure, ControllerFatalError) else self._gone(what)
        return reply

    def _check_reply(self, header: Header, command: Command, what: str) -> None:
        if header.command != command:
            raise self.violation(f"the reply to {what} names the command {header.command}")
        if header.flags & FLAGS_ERROR:
            number = header.error if header.error <= _MAX_ERRNO else 0
            said = os.strerror(number) if number else f"error {header.error:#x}"
            raise RefusedError(f"{self._name}: the server refused {what} ({said})", number)

    def _check(self, what: str) -> None:
        if self._failure is not None:
            raise self._gone(what)

    def parse(self, kind: type[StructT], payload: bytes, what: str) -> StructT:
        """Read a structure from the start of a payload. Raises ControllerFatalError."""
        if len(payload) < ctypes.sizeof(kind):
            raise self.violation(f"{what} has {len(payload)} bytes of {ctypes.sizeof(kind)}")
        return kind.from_buffer_copy(payload)

    # Ends

    def violation(self, how: str) -> ControllerFatalError:
        """End the connection, for a server that broke the protocol; return the error to raise."""
        error = ControllerFatalError(
            f"{self._name} broke the vfio-user protocol: {how}: restart the server"
        )
        self._end(error)
        return error

    def _late(self, what: str) -> NvmeTimeoutError:
        # A late reply would find the next request waiting: the connection goes.
        error = NvmeTimeoutError(
            f"{self._name} did not answer {what} within {self._timeout:g} s: see whether its "
            "server hangs or serves another client"
        )
        self._end(error)
        return error

    def _gone(self, what: str) -> NvmeError:
        if isinstance(self._failure, ClosedError | ForkedError):
            return copy(self._failure)
        return DeviceRemovedError(f"{self._name} is gone, at {what}: {self._failure}")

    def _end(self, error: NvmeError) -> None:
        if self._failure is None:
            # Not the one that is raised: its traceback keeps the frames that it went through.
            self._failure = copy(error)
        with contextlib.suppress(OSError):  # the server may have been quicker
            self._socket.shutdown(socket.SHUT_RDWR)
        self._replies.put(None)

    def forked(self, owner: int) -> None:
        """Refuse every request, and the one that the fork came across, in a child of ``owner``."""
        self._lock, self._send_lock = threading.Lock(), threading.Lock()
        self._failure = ForkedError(self._name, owner)
        self._replies.put(None)

    def close(self) -> None:
        """Close the connection. Requests raise ClosedError from now on."""
        self._end(ClosedError(f"{self._name} is closed: open it again"))
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._discard_replies()
        self._socket.close()

    def _discard_replies(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                reply = self._replies.get_nowait()
                if reply is not None:
                    reply.close()

    # Sending

    def _send(
        self,
        header: Header,
        payload: bytes,
        descriptors: Sequence[int],
        deadline: float,
        what: str,
    ) -> None:
        """Send a message, in one piece if the socket takes it: servers reject a short read."""
        header.size = HEADER_SIZE + len(payload)
        left = bytes(header) + payload
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        with self._send_lock:
            while left:
                try:
                    sent = self._socket.sendmsg([left], beside if descriptors else [], flags)
                except BlockingIOError:
                    self._wait_writable(deadline, what)
                except OSError as error:
                    self._end(self._hung_up(error))
                    raise self._gone(what) from None
                else:
                    left, descriptors = left[sent:], ()

    def _wait_writable(self, deadline: float, what: str) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1e3):
            raise self._late(what)

    def _hung_up(self, error: OSError | None = None) -> DeviceRemovedError:
        how = f" ({error.strerror})" if error and error.strerror else ""
        return DeviceRemovedError(f"the server closed the connection{how}: start it again")

    # The thread

    def _run(self) -> None:
        while self._failure is None:
            message = self._receive()
            if message is None:
                break
            if message.header.flags & FLAGS_TYPE == FLAGS_REPLY:
                self._take_reply(message)
            elif message.header.flags & FLAGS_TYPE == FLAGS_COMMAND:
                message.close()
                self._serve(message)
            else:
                message.close()
                self.violation(f"a message of type {message.header.flags & FLAGS_TYPE}")

    def _take_reply(self, message: Message) -> None:
        if message.header.id == self._expected:
            self._replies.put(message)
            return
        message.close()
        if message.header.id in self._interrupted:
            self._interrupted.discard(message.header.id)
        else:
            self.violation(f"a reply to message {message.header.id}, which awaits none")

    def _serve(self, message: Message) -> None:
        """Answer a request of the server's."""
        header = message.header
        flags, error, payload = FLAGS_REPLY, 0, b""
        try:
            payload = self._answer(header.command, message.payload)
        except OSError as failure:
            flags, error = FLAGS_REPLY | FLAGS_ERROR, failure.errno or errno.EIO
        if header.flags & FLAGS_NO_REPLY:
            return
        reply = Header(id=header.id, command=header.command, flags=flags, error=error)
        deadline = time.monotonic() + self._timeout
        with contextlib.suppress(NvmeError):  # it has ended the connection, which says it all
            self._send(reply, payload, (), deadline, f"the answer to command {header.command}")

    def _receive(self) -> Message | None:
        """Read one message; None once the connection has ended."""
        descriptors: list[int] = []
        data = self._read(HEADER_SIZE, descriptors)
        if data is not None:
            header = Header.from_buffer_copy(data)
            if not HEADER_SIZE <= header.size <= _MAX_MESSAGE:
                self.violation(f"a message of {header.size} bytes")
            else:
                payload = self._read(header.size - HEADER_SIZE, descriptors)
                if payload is not None:
                    return Message(header, payload, descriptors)
        _close_all(descriptors)
        return None

    def _read(self, length: int, descriptors: list[int]) -> bytes | None:
        """Read exactly so many bytes, and what descriptors come with them; None at the end."""
        data = bytearray()
        room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
        while len(data) < length:
            try:
                part, beside, flags, _ = self._socket.recvmsg(
                    length - len(data), room, socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                self._end(self._hung_up(error))
                return None
            for level, kind, content in beside:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got = array.array("i")
                    got.frombytes(content[: len(content) // got.itemsize * got.itemsize])
                    descriptors += map(owned.adopt, got)
            if flags & socket.MSG_CTRUNC:
                self.violation("more descriptors came than were agreed on, or may be open")
                return None
            if not part:
                self._end(self._hung_up())
                return None
            data += part
        return bytes(data)


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        owned.close(descriptors.pop())
