"""What the software controller's namespace keeps: memory, or a file that others may look at."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os

from pynvme_user import owned
from pynvme_user.access.memory import (
    PAGE_SIZE,
    discard,
    keep_from_children,
    map_shared,
    memory_file,
    unmap,
)
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host.image import open_image
from pynvme_user.spec.text import printable

DEFAULT_SIZE = 1 << 30
_DISCARDED = 1 << 20


class Storage:
    """``size`` bytes mapped at ``address``, until :meth:`close`.

    Without a path it is memory, of which pages come to be when they are written. A file is claimed
    for this process; one that is missing is made where a size is given, sparse. Raises
    DeviceAccessError, DeviceBusyError. ``shared`` memory has a file, too: its descriptor is ``fd``.
    """

    def __init__(self, path: str = "", size: int | None = None, *, shared: bool = False) -> None:
        with owned.Undo() as undo:
            flags, fd = 0, -1
            if path:
                fd, size = _open(path, size, undo)
            elif shared:
                size = size or DEFAULT_SIZE
                fd = memory_file(size, PAGE_SIZE)
                undo.callback(owned.close, fd)
            else:
                flags, size = mmap.MAP_ANONYMOUS, size or DEFAULT_SIZE
            try:
                self.address = map_shared(fd, size, flags=flags)
            except OSError as error:
                what = printable(path) or "memory"
                raise DeviceAccessError(
                    f"{what} of {size} bytes cannot be mapped ({error.strerror}): give a smaller "
                    "size"
                ) from None
            undo.callback(unmap, self.address, size)
            # A child's mapping would hold the claim.
            keep_from_children(self.address, size)
            self.size = size
            self.fd = fd
            self._undo = undo.pop_all()

    def zero(self, offset: int, length: int) -> None:
        """Set bytes to zero; whole pages of many are given back."""
        start, end = offset, offset + length
        if length >= _DISCARDED:
            first, last = -(-start // PAGE_SIZE) * PAGE_SIZE, end // PAGE_SIZE * PAGE_SIZE
            with contextlib.suppress(OSError):
                discard(self.address + first, last - first)
                ctypes.memset(self.address + start, 0, first - start)
                start = last
        ctypes.memset(self.address + start, 0, end - start)

    def close(self) -> None:
        """Give it back. Nobody looks at it any more. Safe to call twice."""
        self._undo.close()


def _open(path: str, size: int | None, undo: owned.Undo) -> tuple[int, int]:
    """Open and claim a file, or make it; return the descriptor, which ``undo`` closes, and size."""
    made: list[bytes] = []
    try:
        fd, length = open_image(path, size, "soft", made)
        undo.callback(owned.close, fd)
        if not length:
            raise DeviceAccessError(f"{printable(path)} has no bytes: remove it, and name a size")
    except BaseException:
        for raw in made:
            os.unlink(raw)
        raise
    return fd, length
