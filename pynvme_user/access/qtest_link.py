"""Messages over QEMU's qtest socket, and what of the machine is reached by them."""

from __future__ import annotations

from pynvme_user import owned
from pynvme_user.access.base import make_foreign
from pynvme_user.errors import ClosedError, ForkedError, NvmeError
from pynvme_user.native import fail, ffi, lib


class QtestLink:
    """QEMU's qtest socket: device registers by lines of text, doorbells as posted writes."""

    def __init__(self, name: str, fd: int, timeout_ms: int) -> None:
        self._name = name
        self._link = ffi.gc(lib.qtest_link_new(fd, timeout_ms), lib.qtest_link_free)
        self.closed = False
        self._owner = 0  # in a forked child: the process that opened the device
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Send nothing any more, in a child of process ``owner``: another file may have the
        socket's number by now, and a thread that is not here the link's mutex.
        """
        self._owner = owner

    def close(self) -> None:
        """End the link, before its socket is closed: every later call raises ClosedError."""
        self.closed = True
        lib.qtest_link_end(self._link)

    @property
    def doorbell_target(self) -> tuple[int, int]:
        """The C function that posts a doorbell, and its context, as addresses."""
        post = ffi.addressof(lib, "qtest_link_post")
        return int(ffi.cast("uintptr_t", post)), int(ffi.cast("uintptr_t", self._link))

    def call(self, line: str) -> int:
        """Send one command and wait; return the value that it answers with, or 0.

        Raises DeviceRemovedError when QEMU is gone or does not answer in time, ClosedError.
        """
        data = line.encode() + b"\n"
        length, reply = len(data), ffi.new("char[]", 256)
        # With no call in between, in which a signal's handler could fork.
        if self._owner:
            raise ForkedError(self._name, self._owner)
        if self.closed:
            raise ClosedError("the device is closed and its QEMU ended: open it again")
        got = lib.qtest_link_call(self._link, data, length, reply, 256)
        if got < 0:
            fail(got)
        answer = ffi.string(reply).decode()
        word, _, value = answer.partition(" ")
        if word != "OK":
            raise NvmeError(f"QEMU refused {line!r}: {answer}")
        return int(value, 16) if value else 0


class QtestRegion:
    """A window of the machine's physical address space."""

    def __init__(self, name: str, link: QtestLink, base: int, size: int) -> None:
        self.name = name
        self._link = link
        self._base = base
        self.size = size
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``."""
        make_foreign(self, owner)

    def read(self, offset: int, width: int) -> int:
        """Read a register of 1, 2, 4 or 8 bytes."""
        return self._link.call(f"read{_LETTER[width]} {self._base + offset:#x}")

    def write(self, offset: int, width: int, value: int) -> None:
        """Write a register of 1, 2, 4 or 8 bytes."""
        self._link.call(f"write{_LETTER[width]} {self._base + offset:#x} {value:#x}")


_LETTER = {1: "b", 2: "w", 4: "l", 8: "q"}
