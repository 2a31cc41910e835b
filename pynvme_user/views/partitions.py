"""The partitions of a namespace: its GUID Partition Table (UEFI 2.10, section 5.3), read only.

The table is whoever's wrote the device: nothing in it is believed before it is checked.
"""

from __future__ import annotations

import itertools
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pynvme_user.errors import PartitionTableError
from pynvme_user.views.storage import Storage

_SIGNATURE = b"EFI PART"
_HEADER = struct.Struct("<8s4I4Q16sQ3I")
_ENTRY = struct.Struct("<16s16s3Q72s")
#: Of the protective MBR: where the types of its four partitions are, and which one it has.
_MBR_TYPES = range(450, 514, 16)
_MBR_PROTECTIVE = 0xEE
#: Bytes of entries at most, for memory's sake; 16 KiB are usual.
_MOST = 4 << 20


@dataclass(frozen=True)
class Partition:
    """A partition: ``offset`` and ``size`` are in bytes, ``number`` is its entry's, from 1 on."""

    number: int
    name: str
    offset: int
    size: int
    type: uuid.UUID
    id: uuid.UUID


class _Header(NamedTuple):
    signature: bytes
    revision: int
    size: int
    crc: int
    reserved: int
    own: int
    alternate: int
    first_usable: int
    last_usable: int
    disk: bytes
    entries: int
    entry_count: int
    entry_size: int
    entries_crc: int


def read_partitions(ns: Storage) -> list[Partition]:
    """Read the partition table. Where no protective MBR announces one there are no partitions.

    The backup in the last block takes the table's place where that is damaged. Raises
    PartitionTableError where both are damaged, or for partitions that cannot be.
    """
    if ns.block_count < 3 or not _is_protective(_read(ns, 0, 1)):
        return []
    try:
        return _partitions(ns, 1)
    except _DamageError as first:
        try:
            return _partitions(ns, ns.block_count - 1)
        except _DamageError as second:
            raise PartitionTableError(
                f"the partition table is damaged ({first}), and so is its backup ({second}): "
                "write it anew, or use the namespace as a whole"
            ) from None


class _DamageError(Exception):
    """A copy of the table is not to be used; the text says why."""


def _is_protective(mbr: bytes) -> bool:
    return mbr[510:512] == b"\x55\xaa" and any(mbr[at] == _MBR_PROTECTIVE for at in _MBR_TYPES)


def _partitions(ns: Storage, lba: int) -> list[Partition]:
    header = _header(ns, lba)
    size = header.entry_count * header.entry_size
    table = _read(ns, header.entries, -(-size // ns.block_size))[:size]
    if zlib.crc32(table) != header.entries_crc:
        raise _DamageError("the checksum of its entries is wrong")
    found = []
    for number in range(1, header.entry_count + 1):
        kind, own, first, last, _, name = _ENTRY.unpack_from(
            table, (number - 1) * header.entry_size
        )
        if not any(kind):
            continue
        if not header.first_usable <= first <= last <= header.last_usable:
            raise PartitionTableError(
                f"partition {number} goes from block {first} to {last}, of which the table has "
                f"{header.first_usable} to {header.last_usable}: correct the table"
            )
        found.append(
            Partition(
                number,
                name.decode("utf-16-le", "replace").partition("\0")[0],
                first * ns.block_size,
                (last - first + 1) * ns.block_size,
                uuid.UUID(bytes_le=kind),
                uuid.UUID(bytes_le=own),
            )
        )
    _check_apart(found)
    return found


def _header(ns: Storage, lba: int) -> _Header:
    """Read the header in a block. Raises _DamageError."""
    block = _read(ns, lba, 1)
    header = _Header._make(_HEADER.unpack_from(block))
    if header.signature != _SIGNATURE:
        raise _DamageError(f"block {lba} has none")
    if not _HEADER.size <= header.size <= ns.block_size:
        raise _DamageError(f"its header cannot have {header.size} bytes")
    if zlib.crc32(block[:16] + bytes(4) + block[20 : header.size]) != header.crc:
        raise _DamageError("the checksum of its header is wrong")
    if header.own != lba:
        raise _DamageError(f"the one in block {lba} is that of block {header.own}")
    if header.entry_size < _ENTRY.size or header.entry_size % 8:
        raise _DamageError(f"an entry cannot have {header.entry_size} bytes")
    size = header.entry_count * header.entry_size
    if size > _MOST:
        raise _DamageError(f"{header.entry_count} entries are more than there can be")
    blocks = -(-size // ns.block_size)
    if not 2 <= header.entries <= ns.block_count - blocks:
        raise _DamageError(f"its entries cannot be in block {header.entries}")
    if header.first_usable < 2 or header.last_usable >= ns.block_count:
        raise _DamageError(
            f"it has blocks {header.first_usable} to {header.last_usable} of {ns.block_count}"
        )
    return header


def _check_apart(partitions: list[Partition]) -> None:
    """Raise PartitionTableError for two with a block in common."""
    inorder = sorted(partitions, key=lambda one: one.offset)
    for one, other in itertools.pairwise(inorder):
        if one.offset + one.size > other.offset:
            raise PartitionTableError(
                f"partitions {one.number} and {other.number} have blocks in common: correct the "
                "table"
            )


def _read(ns: Storage, lba: int, blocks: int) -> bytes:
    array = np.empty(blocks * ns.block_size, np.uint8)
    if blocks:
        ns.read_into(lba, array)
    return array.tobytes()
