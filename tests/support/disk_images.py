"""What disks carry, made by hand: each is a dict of bytes by where they lie, of a disk's size."""

from __future__ import annotations

import struct
import zlib

Parts = dict[int, bytes]


def gpt(size: int, block: int, *, backup: bool) -> Parts:
    """A GUID partition table of one partition, the one at the beginning or its copy at the end."""
    entry = struct.pack("<16s16sQQ", b"type".ljust(16), b"one".ljust(16), 40, 50)
    entries = entry.ljust(128 * 128, b"\0")
    blocks, room = size // block, -(-len(entries) // block)
    here, there, at = (blocks - 1, 1, blocks - 1 - room) if backup else (1, blocks - 1, 2)
    usable = (2 + room, blocks - 2 - room)
    header = bytearray(
        struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, 0, 0, here, there, *usable, b"disk".ljust(16), at),
            *(128, 128, zlib.crc32(entries)),
        )
    )
    header[16:20] = struct.pack("<I", zlib.crc32(header))
    return {here * block: bytes(header), at * block: entries}


def mbr() -> Parts:
    """A partition table of one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\x20\x21\0", 0x83, b"\xfe\xff\xff", 8, 8)
    return {446: entry.ljust(64, b"\0") + b"\x55\xaa"}


def luks() -> Parts:
    return {0: b"LUKS\xba\xbe\0\1"}


def btrfs(label: bytes = b"") -> Parts:
    """A btrfs superblock, at 64 KiB, with a wrong checksum."""
    return {0x10040: b"_BHRfS_M", 0x1012B: label}


def swap(label: bytes = b"") -> Parts:
    """A swap area of pages of 4 KiB: version, last page, label, and the signature."""
    head = struct.pack("<II", 1, 3).ljust(28, b"\0") + label
    return {1024: head, 4086: b"SWAPSPACE2"}


def raid(size: int) -> Parts:
    """A superblock of Linux RAID, version 1.0, which lies at the end."""
    sector = (size // 512 - 16) & ~7
    head = struct.pack("<IIII16s32s", 0xA92B4EFC, 1, 0, 0, b"set".ljust(16), b"host:0".ljust(32))
    return {sector * 512: head.ljust(144, b"\0") + struct.pack("<Q", sector)}


def zfs(size: int) -> Parts:
    """The last label of a ZFS pool member: the ring of uberblocks in its second half."""
    label = (size & -(256 << 10)) - (256 << 10)
    ring = struct.pack("<QQQ", 0x00BAB10C, 5000, 7).ljust(1024, b"\0") * 128
    return {label + (128 << 10): ring}


def lvm() -> Parts:
    """The label of an LVM physical volume in sector 1, with its checksum."""
    rest = struct.pack("<I8s32s", 32, b"LVM2 001", b"a" * 32).ljust(512 - 20, b"\0")
    return {512: struct.pack("<8sQI", b"LABELONE", 1, _lvm_crc(rest)) + rest}


def _lvm_crc(data: bytes) -> int:
    """CRC-32 with LVM's own start and without the last inversion."""
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
