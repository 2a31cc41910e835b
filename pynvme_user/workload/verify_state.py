"""The file that keeps a verification table: its first page, and who may use it.

Behind the page lies the table, which :mod:`pynvme_user.workload.verification` maps.
docs/verification.md has the layout.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pynvme_user.errors import NvmeError

#: Where the table begins.
TABLE_OFFSET = 4096

_HEADER = struct.Struct("<8sIIQQQQII20s32s16sI1024s")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"NVMEVRFY"
_VERSION = 1
#: Runs number their commands by the clock, in nanoseconds: this is two centuries off.
_MOST_SEQUENCE = 1 << 63


class StateFileError(NvmeError):
    """A state file is not one, belongs to another namespace, or is in use; the message says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The blocks that a table covers. Sizes in bytes, the rest in logical blocks."""

    block_size: int
    blocks: int
    first_lba: int = 0
    interval_blocks: int = 1

    @property
    def intervals(self) -> int:
        """Whole verify intervals; blocks behind the last one are not covered."""
        return self.blocks // self.interval_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceIdentity:
    """Which namespace a state file is about: NGUID, else EUI64, else serial number and NSID.

    ``nguid`` (32 digits) and ``eui64`` (16 digits) are hexadecimal and empty where all zeroes.
    """

    device: str
    nsid: int
    serial: str = ""
    nguid: str = ""
    eui64: str = ""

    def is_same(self, other: NamespaceIdentity) -> bool:
        """Tell whether two are one namespace. The device's name may have changed."""
        if self.nguid or other.nguid:
            return self.nguid == other.nguid
        if self.eui64 or other.eui64:
            return self.eui64 == other.eui64
        return (self.serial, self.nsid) == (other.serial, other.nsid)


@dataclass(frozen=True, slots=True)
class StateHeader:
    """What the first page says. ``sequence`` is what the last run's commands are numbered above."""

    region: Region
    seed: int
    sequence: int
    identity: NamespaceIdentity


def lock_state(fd: int, path: str | Path) -> None:
    """Keep other runs off until the file is unlocked or the process ends."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateFileError(f"{path} is in use by another run: wait for its end") from None


def write_header(fd: int, header: StateHeader) -> None:
    """Write the first page, in one system call, which a kill does not divide."""
    region, owner = header.region, header.identity
    page = _HEADER.pack(
        _MAGIC,
        _VERSION,
        region.block_size,
        region.first_lba,
        region.blocks,
        header.seed,
        header.sequence,
        region.interval_blocks,
        owner.nsid,
        owner.serial.encode("latin-1", "replace")[:20],  # as the device has it
        owner.nguid.encode(),
        owner.eui64.encode(),
        0,
        owner.device.encode(errors="surrogateescape")[:1024],
    )
    os.pwrite(fd, page + _CHECKSUM.pack(zlib.crc32(page)), 0)


def _is_possible(region: Region) -> bool:
    size = region.block_size
    return (
        512 <= size <= 1 << 27
        and size & (size - 1) == 0
        and 1 <= region.interval_blocks <= region.blocks
        and region.interval_blocks * size <= 0xFFFFFFFF
        and region.first_lba + region.blocks <= 1 << 64
    )


def read_header(fd: int, path: str | Path) -> StateHeader:
    """Read the first page. Raises StateFileError for what is no state file, or not all of one."""
    page = os.pread(fd, _HEADER.size + _CHECKSUM.size, 0)
    header, checksum = page[: _HEADER.size], page[_HEADER.size :]
    if header[:8] != _MAGIC or checksum != _CHECKSUM.pack(zlib.crc32(header)):
        raise StateFileError(f"{path} is not a state file, or is damaged: give another file")
    _, version, block_size, first_lba, blocks, seed, sequence, interval_blocks, nsid, *texts = (
        _HEADER.unpack(header)
    )
    if version != _VERSION:
        raise StateFileError(f"{path} has format version {version}, not {_VERSION}: make a new one")
    region = Region(
        block_size=block_size, blocks=blocks, first_lba=first_lba, interval_blocks=interval_blocks
    )
    if not _is_possible(region) or sequence >= _MOST_SEQUENCE:
        raise StateFileError(f"{path} has numbers that no run writes: give another file")
    if os.fstat(fd).st_size != TABLE_OFFSET + 8 * region.intervals:
        raise StateFileError(f"{path} was cut short: give another file")
    serial, nguid, eui64, _, device = texts
    identity = NamespaceIdentity(
        device=device.rstrip(b"\0").decode(errors="surrogateescape"),
        nsid=nsid,
        serial=serial.rstrip(b"\0").decode("latin-1"),
        nguid=nguid.rstrip(b"\0").decode("latin-1"),
        eui64=eui64.rstrip(b"\0").decode("latin-1"),
    )
    return StateHeader(region, seed, sequence, identity)
