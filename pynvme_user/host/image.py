"""Disk images: files opened for this process alone."""

from __future__ import annotations

import errno
import os

from pynvme_user import owned
from pynvme_user.errors import DeviceAccessError
from pynvme_user.host.claim import claim
from pynvme_user.spec.text import printable


def open_image(path: str, size: int | None, scheme: str, made: list[bytes]) -> tuple[int, int]:
    """Open and claim an image; return its descriptor, for owned.close(), and its length in bytes.

    One that is missing is made, sparse, where a ``size`` is given, and its path is put into
    ``made``: for the caller to remove, also when this raises. One that is there has that size.
    Raises DeviceAccessError, whose remedies name the device by ``scheme``, and DeviceBusyError.
    """
    raw = path.encode(errors="surrogateescape")  # as QEMU is given it, whatever the locale is
    name, flags = printable(path), os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            descriptor = owned.descriptor(os.open, raw, flags)
        except FileNotFoundError:
            if size is None:
                raise DeviceAccessError(
                    f"{name} does not exist: name a size to create a raw image, for example "
                    f"'{scheme}:{name}?size=1G'"
                ) from None
            descriptor = owned.descriptor(os.open, raw, flags | os.O_CREAT | os.O_EXCL, 0o666)
            made.append(raw)
    except OSError as error:
        raise DeviceAccessError(f"{name} cannot be opened: {error.strerror}") from None
    try:
        claim(descriptor, path)
        try:
            if raw in made:
                os.ftruncate(descriptor, size or 0)
            length = os.fstat(descriptor).st_size
        except OSError as error:
            too_large = error.errno == errno.EFBIG
            why = "the file system has no files of that size" if too_large else error.strerror
            raise DeviceAccessError(f"{name} cannot be made: {why}") from None
        if size not in (None, length):
            raise DeviceAccessError(
                f"{name} has {length} bytes, not the {size} asked for: leave out size"
            )
    except BaseException:
        owned.close(descriptor)
        raise
    return descriptor, length
