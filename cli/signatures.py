"""What a namespace carries: partition tables, file systems, RAID and other volumes, by libblkid.

There is no block device that libblkid could open. It probes a sparse file in memory which has the
namespace's size, and its first and last MiB where they belong.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pynvme_user import owned
from pynvme_user.spec.text import printable

if TYPE_CHECKING:
    from pynvme_user import Namespace

_LIBRARY = "libblkid.so.1"
_SPAN = 1 << 20
#: A file has no more; of a namespace beyond that, which Linux could not use, the end is left out.
_LARGEST = (1 << 63) - 1

# blkid.h: what of a superblock is reported; one with a wrong checksum may be somebody's data, too.
_LABEL, _TYPE, _USAGE, _BADCSUM = 1 << 1, 1 << 5, 1 << 7, 1 << 10
_FORCE_GPT = 1 << 1  # also without the MBR that protects it
_KINDS = {
    "filesystem": "a file system",
    "raid": "a member of a RAID or volume group",
    "crypto": "an encrypted volume",
}


def find(ns: Namespace) -> str | None:
    """Read a namespace's first and last MiB and say what they tell of; None if nothing is known.

    Raises as :meth:`Namespace.read`, and OSError where there is no libblkid.
    """
    from pynvme_user import MetadataNamespace

    # A GPT has its header in block 1 and its entries from block 2 on, however large they are.
    most = max(3, -(-_SPAN // ns.block_size))
    head = min(ns.block_count, most)
    if not head:
        return None
    # Whatever protection information says: data that is damaged is somebody's, too.
    read = partial(ns.read, prinfo=0) if isinstance(ns, MetadataNamespace) else ns.read
    parts: dict[int, bytes | bytearray] = {0: read(0, head)}
    if tail := min(ns.block_count - head, most):
        first = ns.block_count - tail
        parts[first * ns.block_size] = read(first, tail)
    return identify(parts, ns.block_count * ns.block_size, ns.block_size)


def identify(parts: dict[int, bytes | bytearray], size: int, block_size: int) -> str | None:
    """Say what a device of that size tells of by these parts, given by where they begin.

    Raises OSError where it cannot be probed.
    """
    blkid = _blkid()
    fd = owned.descriptor(os.memfd_create, "signatures")
    try:
        os.truncate(fd, min(size, _LARGEST))
        for at, data in parts.items():
            if at + len(data) <= _LARGEST:
                os.pwrite(fd, data, at)
        # A copy of a disk with blocks of another length may be here, with its GPT elsewhere.
        found = [one for length in (block_size, 512, 4096) for one in _probe(blkid, fd, length)]
    finally:
        owned.close(fd)
    return printable(" and ".join(dict.fromkeys(found))) or None


def _probe(blkid: ctypes.CDLL, fd: int, block_size: int) -> Iterator[str]:
    """Say what a file with the content of a disk has in it."""
    probe = ctypes.c_void_p(blkid.blkid_new_probe())
    try:
        _done(blkid.blkid_probe_set_device(probe, fd, ctypes.c_int64(0), ctypes.c_int64(0)))
        _done(blkid.blkid_probe_set_sectorsize(probe, block_size))
        _done(blkid.blkid_probe_enable_superblocks(probe, 1))
        wanted = _LABEL | _TYPE | _USAGE | _BADCSUM
        _done(blkid.blkid_probe_set_superblocks_flags(probe, wanted))
        _done(blkid.blkid_probe_enable_partitions(probe, 1))
        _done(blkid.blkid_probe_set_partitions_flags(probe, _FORCE_GPT))
        # One after the other, where blkid_do_safeprobe has no answer to two of them.
        while _done(blkid.blkid_do_probe(probe)) == 0:
            yield _described(partial(_value, blkid, probe))
    finally:
        blkid.blkid_free_probe(probe)


def _described(value: Callable[[str], str]) -> str:
    if table := value("PTTYPE"):
        return f"a partition table ({table})"
    label = value("LABEL")
    kind = _KINDS.get(value("USAGE"), "data")
    return f"{kind} ({value('TYPE')}{label and f', labelled {label}'})"


def _value(blkid: ctypes.CDLL, probe: ctypes.c_void_p, name: str) -> str:
    data = ctypes.c_char_p()
    blkid.blkid_probe_lookup_value(probe, name.encode(), ctypes.byref(data), None)
    return (data.value or b"").decode(errors="surrogateescape")


def _blkid() -> ctypes.CDLL:
    try:
        blkid = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise OSError(f"{_LIBRARY} is not there: install Debian's package libblkid1") from None
    blkid.blkid_new_probe.restype = ctypes.c_void_p
    return blkid


def _done(result: Any) -> Any:
    if result < 0:
        raise OSError("libblkid cannot probe it")
    return result
