"""Standard output and error: written whole, and a reader that has gone away is no error."""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Forgiving(io.FileIO):
    """A descriptor to which everything can be written once its reader has gone away.

    ``gone`` are the errors that say so: of a terminal that hung up it is EIO.
    """

    gone: tuple[int, ...] = (errno.EPIPE,)

    def write(self, data: ReadableBuffer) -> int:
        """Write some of the data; all of it where nobody reads it."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self.gone:
                raise
            return memoryview(data).nbytes


def set_up() -> None:
    """Let ``sys.stdout`` and ``sys.stderr`` forgive, and escape what their encodings do not have.

    ``nvme-user id-ctrl DEVICE | head -1`` is done when head has its line.
    """
    sys.stdout, sys.stderr = _forgiving(sys.stdout), _forgiving(sys.stderr)


def _forgiving(stream: TextIO) -> TextIO:
    file = _Forgiving(stream.fileno(), "wb", closefd=False)
    if stream.isatty():
        file.gone = (errno.EPIPE, errno.EIO)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.isatty() or stream is sys.stderr,
    )
