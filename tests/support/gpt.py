"""Makes GUID Partition Tables, right ones and others."""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import Any

TYPE = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")  # Linux filesystem data
ID = uuid.UUID("6f1d4c2e-0000-4000-8000-000000000001")
ENTRIES = 128


def entry(name: str | bytes, first: int, last: int, entry_size: int = 128) -> bytes:
    """An entry; of bytes the name is as it is."""
    raw = name if isinstance(name, bytes) else name.encode("utf-16-le")
    fixed = struct.pack("<16s16s3Q72s", TYPE.bytes_le, ID.bytes_le, first, last, 0, raw)
    return fixed.ljust(entry_size, b"\0")


def header(block_size: int, /, **fields: Any) -> bytes:
    """A block with a header whose checksum is right; ``fields`` are other than usual."""
    values = {
        "signature": b"EFI PART",
        "revision": 0x10000,
        "size": 92,
        "crc": 0,
        "reserved": 0,
        "own": 1,
        "alternate": 1,
        "first_usable": 40,
        "last_usable": 1000,
        "disk": bytes(16),
        "entries": 2,
        "count": ENTRIES,
        "entry_size": 128,
        "entries_crc": 0,
    } | fields
    block = struct.pack("<8s4I4Q16sQ3I", *values.values()).ljust(block_size, b"\0")
    covered = block[: min(max(values["size"], 92), block_size)]
    crc = zlib.crc32(covered) if "crc" not in fields else fields["crc"]
    return block[:16] + struct.pack("<I", crc) + block[20:]


def write(
    disk: bytearray, block_size: int, made: list[bytes], /, *, count: int = ENTRIES, **fields: Any
) -> None:
    """Write a protective MBR, the table and its backup onto a disk."""
    each = fields.get("entry_size", 128)
    table = b"".join(made).ljust(min(count * each, 1 << 16), b"\0")
    blocks = len(disk) // block_size
    array = -(-len(table) // block_size)
    fields = {
        "first_usable": 2 + array,
        "last_usable": blocks - 2 - array,
        "count": count,
        "entries_crc": zlib.crc32(table),
    } | fields
    disk[:512] = protective_mbr()
    for own, where in ((1, 2), (blocks - 1, blocks - 1 - array)):
        there = {"own": own, "entries": where} | fields
        disk[own * block_size : (own + 1) * block_size] = header(block_size, **there)
        disk[where * block_size : where * block_size + len(table)] = table


def protective_mbr() -> bytes:
    """The first 512 bytes of a disk with a table."""
    mbr = bytearray(512)
    mbr[450] = 0xEE
    mbr[510:] = b"\x55\xaa"
    return bytes(mbr)
