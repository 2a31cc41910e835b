"""What the software controller's namespace keeps: memory, or a file that others may look at."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os

from pynvme_user import owned
from pynvme_user.access.memory import keep_from_children, map_shared, unmap
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host.claim import claim
from pynvme_user.spec.text import printable

DEFAULT_SIZE = 1 << 30


class Storage:
    """``size`` bytes mapped at ``address``, until :meth:`close`.

    Without a path it is memory, of which pages come to be when they are written. A file is claimed
    for this process; one that is missing is made where a size is given, sparse. Raises
    DeviceAccessError, DeviceBusyError.
    """

    def __init__(self, path: str = "", size: int | None = None) -> None:
        with contextlib.ExitStack() as undo:
            flags, fd = 0, -1
            if path:
                fd, size = _open(path, size, undo)
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
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Give it back. Nobody looks at it any more. Safe to call twice."""
        self._undo.close()


def _open(path: str, size: int | None, undo: contextlib.ExitStack) -> tuple[int, int]:
    """Open and claim a file, or make it; return the descriptor, which ``undo`` closes, and size."""
    raw = path.encode(errors="surrogateescape")
    name = printable(path)
    flags = os.O_RDWR | os.O_CLOEXEC
    made = False
    try:
        try:
            fd = owned.descriptor(os.open, raw, flags)
        except FileNotFoundError:
            if size is None:
                raise DeviceAccessError(
                    f"{name} does not exist: name a size to create it, for example "
                    f"'soft:{name}?size=1G'"
                ) from None
            fd = owned.descriptor(os.open, raw, flags | os.O_CREAT | os.O_EXCL, 0o666)
            made = True
    except OSError as error:
        raise DeviceAccessError(f"{name} cannot be opened: {error.strerror}") from None
    with contextlib.ExitStack() as wrong:
        undo.callback(owned.close, fd)
        if made:
            wrong.callback(os.unlink, raw)
        claim(fd, name)
        try:
            if made:
                os.ftruncate(fd, size or 0)
            length = os.fstat(fd).st_size
        except OSError as error:
            why = (
                "the file system has no files of that size"
                if error.errno == errno.EFBIG
                else (error.strerror)
            )
            raise DeviceAccessError(f"{name} cannot be made: {why}") from None
        if size not in (None, length):
            raise DeviceAccessError(
                f"{name} has {length} bytes, not the {size} asked for: leave out size"
            )
        if not length:
            raise DeviceAccessError(f"{name} has no bytes: remove it, and name a size")
        wrong.pop_all()
    return fd, length
