"""Data verification, seen from Python.

:class:`VerifyTable` is what is known of each verify interval: which of its generations were issued,
acknowledged and seen; in memory, or in a state file that outlives a killed process.
:class:`Verifier` is one thread's end of it: what fills and checks buffers. :class:`Fault` is what a
check found, in one sentence. docs/verification.md has the layouts and the definitions.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pynvme_user import owned
from pynvme_user.native import ffi, lib
from pynvme_user.spec.text import printable
from pynvme_user.workload.verify_state import (
    TABLE_OFFSET,
    NamespaceIdentity,
    Region,
    StateFileError,
    StateHeader,
    lock_state,
    read_header,
    write_header,
)

U64Array = npt.NDArray[np.uint64]

#: Words that are looked at in one step: 8 MiB.
_CHUNK = 1 << 20
#: A run's writes are numbered from here above the run before, even if the clock was set back.
_SEQUENCE_STEP = 1 << 40
_NEVER: int = lib.NVME_VERIFY_NEVER


class Method(IntEnum):
    """How intervals are filled and checked; the names are fio's (``verify=``)."""

    CRC32C = lib.NVME_VERIFY_CRC32C
    XXHASH = lib.NVME_VERIFY_XXHASH
    PATTERN = lib.NVME_VERIFY_PATTERN
    PATTERN_HDR = lib.NVME_VERIFY_PATTERN_HDR
    META = lib.NVME_VERIFY_META


class Unknown(IntEnum):
    """What is asked of an interval of which the table knows nothing."""

    SKIP = lib.NVME_VERIFY_SKIP
    SAME_SEED = lib.NVME_VERIFY_SAME_SEED
    ANY_SEED = lib.NVME_VERIFY_ANY_SEED


class Deallocated(IntEnum):
    """What a deallocated block reads as: DLFEAT bits 2:0 (NVM Command Set 1.0, figure 97)."""

    ANY = lib.NVME_VERIFY_READS_ANY
    ZEROES = lib.NVME_VERIFY_READS_ZEROES
    ONES = lib.NVME_VERIFY_READS_ONES


class Trim(IntEnum):
    """The command that takes data away."""

    DEALLOCATE = lib.NVME_VERIFY_DEALLOCATE
    WRITE_ZEROES = lib.NVME_VERIFY_WRITE_ZEROES


class FaultKind(Enum):
    """The faults that are told apart, by their names."""

    BIT_FLIP = "bit flip"
    TORN_WRITE = "torn write"
    LOST_WRITE = "lost write"
    MISDIRECTED_WRITE = "misdirected write"
    STALE_DATA = "stale data"
    FOREIGN_DATA = "foreign data"


_KINDS = {
    lib.NVME_VERIFY_BIT_FLIP: FaultKind.BIT_FLIP,
    lib.NVME_VERIFY_TORN_WRITE: FaultKind.TORN_WRITE,
    lib.NVME_VERIFY_LOST_WRITE: FaultKind.LOST_WRITE,
    lib.NVME_VERIFY_MISDIRECTED_WRITE: FaultKind.MISDIRECTED_WRITE,
    lib.NVME_VERIFY_STALE_DATA: FaultKind.STALE_DATA,
    lib.NVME_VERIFY_FOREIGN_DATA: FaultKind.FOREIGN_DATA,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """The first fault of a read: which, at which logical block, and one sentence on it."""

    kind: FaultKind
    lba: int
    message: str

    def __str__(self) -> str:
        return self.message

    @classmethod
    def from_c(cls, fault: Any) -> Fault:
        """Name the fault in a ``struct nvme_verify_fault``."""
        kind = _KINDS[fault.kind]
        details = {
            FaultKind.BIT_FLIP: _bit_flip,
            FaultKind.TORN_WRITE: _torn,
            FaultKind.STALE_DATA: _stale,
        }.get(kind, _expected_and_found)
        return cls(kind, fault.lba, f"{kind.value} at LBA {fault.lba}: {details(fault)}")


def _expected(fault: Any) -> str:
    if not fault.known:
        return "expected data of ours"
    if not fault.has_acknowledged:
        return f"expected generation {fault.issued} or older"
    if fault.acknowledged == fault.issued:
        return f"expected generation {fault.issued}, which was acknowledged"
    return f"expected a generation from {fault.acknowledged} (acknowledged) to {fault.issued}"


def _found(fault: Any) -> str:
    generation = f"generation {fault.found_generation}"
    match fault.found:
        case lib.NVME_VERIFY_FOUND_ZEROES:
            return "found only zeroes"
        case lib.NVME_VERIFY_FOUND_ONES:
            return "found only ones"
        case lib.NVME_VERIFY_FOUND_FORMAT:
            method = fault.found_method
            name = Method(method).name.lower() if method in list(Method) else str(method)
            return (
                f"found data of verify={name} in intervals of {fault.found_length} bytes: "
                "verify it with these"
            )
        case lib.NVME_VERIFY_FOUND_EARLIER:
            return f"found {generation} of another run (seed {fault.found_seed:#x})"
        case lib.NVME_VERIFY_FOUND_OURS if fault.found_lba != fault.lba:
            return f"found {generation} of LBA {fault.found_lba}"
        case lib.NVME_VERIFY_FOUND_OURS:
            return f"found {generation}"
    if fault.kind == lib.NVME_VERIFY_MISDIRECTED_WRITE:
        return f"found the pattern of LBA {fault.found_lba}"
    return "found no data of ours"


def _expected_and_found(fault: Any) -> str:
    return f"{_expected(fault)}, {_found(fault)}"


def _bit_flip(fault: Any) -> str:
    if not fault.wrong_bytes:
        return "several bits wrong in its header or stamp, whose checksum does not fit"
    bits = f"{fault.wrong_bits} bit{'s' * (fault.wrong_bits > 1)}"
    others = f" in {fault.wrong_bytes} bytes, the first" if fault.wrong_bytes > 1 else ""
    return (
        f"{bits} wrong{others} in byte {fault.first_byte} of the block, "
        f"expected {fault.expected_byte:#04x}, found {fault.found_byte:#04x}"
    )


def _torn(fault: Any) -> str:
    newer = f"generation {fault.newer_generation}"
    if fault.newer_in_block:
        return f"{_expected(fault)}, found parts of {newer} and generation {fault.found_generation}"
    last = fault.command_lba + fault.command_blocks - 1
    return (
        f"{_expected_and_found(fault)}, while LBA {fault.newer_lba} has its part ({newer}) "
        f"of a newer write of LBA {fault.command_lba} to {last}"
    )


def _stale(fault: Any) -> str:
    text = _expected_and_found(fault)
    if fault.has_seen:
        return f"{text}, though generation {fault.seen} had been read back before"
    if fault.found == lib.NVME_VERIFY_FOUND_OURS:
        return f"{text}, which this run never issued: an earlier run had the same seed"
    return text


@dataclass(frozen=True, slots=True)
class Promise:
    """What the table says of one interval: a generation from ``oldest`` to ``issued`` is there.

    ``acknowledged`` and ``seen`` are None where there is none (or it is too long ago); with
    neither, anything older is allowed too. ``zeroed`` and ``deallocated`` allow what Write Zeroes
    and Dataset Management leave behind.
    """

    issued: int
    acknowledged: int | None
    seen: int | None
    zeroed: bool
    deallocated: bool
    outstanding: bool


@dataclass(frozen=True, slots=True)
class TableSummary:
    """How many intervals a table knows, and of how many the last write was not acknowledged."""

    known: int
    in_doubt: int


class VerifyTable:
    """What was issued, acknowledged and seen of each verify interval.

    The memory is 8 bytes for each interval, zero pages until they are used. Threads that work on
    different intervals may share a table.
    """

    def __init__(self, region: Region, seed: int, *, memory: mmap.mmap | None = None) -> None:
        """Make an empty table in memory; ``memory`` is for the functions below."""
        if region.intervals < 1:
            raise ValueError("the region is smaller than one verify interval")
        self.region = region
        self.seed = seed
        #: Number that the first write command of this run is above.
        self.sequence = time.time_ns()
        memory = memory or mmap.mmap(-1, 8 * region.intervals)
        header = len(memory) - 8 * region.intervals
        #: One word for each interval; struct nvme_verify has its parts.
        self.words: U64Array = np.frombuffer(memory, np.uint64, offset=header)
        self._memory = memory
        self._fd = -1
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Leave the state file to process ``owner``, in a child of it."""
        self._fd = -1

    @classmethod
    def create_state(
        cls, path: str | Path, region: Region, seed: int, identity: NamespaceIdentity
    ) -> Self:
        """Make a state file, which is sparse, and its table. Raises StateFileError if it exists."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = owned.descriptor(os.open, path, flags, 0o666)
        except FileExistsError:
            raise StateFileError(
                f"{path} exists already: verify what it promises, or remove it for a new run"
            ) from None
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            lock_state(fd, path)
            os.ftruncate(fd, TABLE_OFFSET + 8 * region.intervals)
            table = cls._on(fd, region, seed)
            write_header(fd, StateHeader(region, seed, table.sequence, identity))
        except OSError as error:
            owned.close(fd)
            raise _unusable(path, error) from None
        except BaseException:
            owned.close(fd)
            raise
        return table

    @classmethod
    def open_state(cls, path: str | Path, identity: NamespaceIdentity) -> Self:
        """Take up a state file where a run left it, killed or not; region and seed are the file's.

        Writes that were outstanding stay issued and unacknowledged. Raises StateFileError for a
        file that is no state file, that is about another namespace, or that is in use.
        """
        try:
            fd = owned.descriptor(os.open, path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StateFileError(f"{path} does not exist: give the state file of a run") from None
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            lock_state(fd, path)
            header = read_header(fd, path)
            owner = header.identity
            if not owner.is_same(identity):
                raise StateFileError(
                    f"{path} is about namespace {owner.nsid} of {printable(owner.device)} "
                    f"(serial number {printable(owner.serial)}), not about this one: give that "
                    "device, or another file"
                )
            table = cls._on(fd, header.region, header.seed)
            table.sequence = max(table.sequence, header.sequence + _SEQUENCE_STEP)
            write_header(fd, StateHeader(header.region, header.seed, table.sequence, identity))
            for words in table._data():
                lib.nvme_verify_release(ffi.from_buffer("uint64_t[]", words), len(words))
        except OSError as error:
            owned.close(fd)
            raise _unusable(path, error) from None
        except BaseException:
            owned.close(fd)
            raise
        return table

    @classmethod
    def _on(cls, fd: int, region: Region, seed: int) -> Self:
        # Opened once more: what is mapped stays open as long as that, in a forked child too, and
        # so would its lock.
        unlocked = owned.descriptor(os.open, f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            memory = mmap.mmap(unlocked, TABLE_OFFSET + 8 * region.intervals)
        finally:
            owned.close(unlocked)
        table = cls(region, seed, memory=memory)
        table._fd = fd
        return table

    def _data(self) -> Iterator[U64Array]:
        """Yield the words in order, in parts, without those that no write ever touched."""
        end = len(self.words)
        start = 0
        while start < end:
            stop = min(end, start + _CHUNK)
            if self._fd >= 0:
                try:
                    offset = os.lseek(self._fd, TABLE_OFFSET + 8 * start, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:  # a hole up to the end
                        return
                    raise
                start = max(start, (offset - TABLE_OFFSET) // 8)
                hole = os.lseek(self._fd, TABLE_OFFSET + 8 * start, os.SEEK_HOLE)
                stop = min(end, start + _CHUNK, (hole - TABLE_OFFSET + 7) // 8)
            yield self.words[start:stop]
            start = stop

    def known(self, max_blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of what the table knows, in parts of at most ``max_blocks``.

        ``max_blocks`` is at least an interval. What a crash test has to read back.
        """
        base = self.words.ctypes.data
        per_part = max_blocks // self.region.interval_blocks
        if per_part < 1:
            raise ValueError("a part is smaller than one verify interval")
        for words in self._data():
            first = (words.ctypes.data - base) // 8
            edges = np.flatnonzero(np.diff(words != 0, prepend=False, append=False))
            for start, end in edges.reshape(-1, 2).tolist():
                for index in range(start, end, per_part):
                    lba = self.region.first_lba + (first + index) * self.region.interval_blocks
                    yield lba, min(per_part, end - index) * self.region.interval_blocks

    def summary(self) -> TableSummary:
        """Count the intervals that are known and those that are in doubt."""
        known = in_doubt = 0
        for words in self._data():
            known += int(np.count_nonzero(words))
            in_doubt += int(np.count_nonzero(words >> np.uint64(32) & np.uint64(_NEVER)))
        return TableSummary(known, in_doubt)

    def promise(self, lba: int) -> Promise | None:
        """Return what the table says of the interval with ``lba``; None if it knows nothing."""
        index = (lba - self.region.first_lba) // self.region.interval_blocks
        if not 0 <= index < len(self.words):
            raise ValueError(f"LBA {lba} is outside of the table")
        word = int(self.words[index])
        if not word:
            return None
        issued = word & 0xFFFFFFFF
        behind = word >> 32 & _NEVER, word >> 42 & _NEVER
        acknowledged, seen = (
            None if step == _NEVER else (issued - step) & 0xFFFFFFFF for step in behind
        )
        return Promise(
            issued,
            acknowledged,
            seen,
            bool(word >> 53 & 1),
            bool(word >> 54 & 1),
            word >> 56 != 0,
        )

    def close(self) -> None:
        """Write a state file's pages back, and let others have it. The table stays readable."""
        if self._fd >= 0:
            self._memory.flush()
            owned.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _unusable(path: str | Path, error: OSError) -> StateFileError:
    return StateFileError(f"{path} cannot be used as a state file: {error.strerror}")


class Verifier:
    """One thread's end of a table: fills what it writes and checks what it reads.

    Buffers are contiguous and hold the whole range. LBAs and counts are those of whole intervals;
    everything raises ValueError for others. ``struct`` is the ``struct nvme_verify *`` for C.
    """

    def __init__(
        self,
        table: VerifyTable,
        method: Method,
        *,
        job: int = 0,
        pattern: bytes = b"",
        offsets: tuple[int, ...] = (),
        unknown: Unknown = Unknown.SKIP,
        deallocated: Deallocated = Deallocated.ANY,
        trim_kind: Trim = Trim.DEALLOCATE,
    ) -> None:
        """See struct nvme_verify; ``offsets`` are the places of ``%o`` in the pattern."""
        region = table.region
        self.table = table
        self._scratch = np.zeros(2 * region.block_size, np.uint8)
        self._pattern = ffi.new("uint8_t[]", pattern or b"\0")
        self._offsets = ffi.new("uint32_t[]", offsets or (0,))
        self.struct = ffi.new(
            "struct nvme_verify *",
            {
                "table": ffi.from_buffer("uint64_t[]", table.words),
                "first_lba": region.first_lba,
                "intervals": region.intervals,
                "seed": table.seed,
                "sequence": table.sequence,
                "scratch": ffi.from_buffer("uint8_t[]", self._scratch),
                "pattern": self._pattern,
                "offsets": self._offsets,
                "pattern_length": len(pattern),
                "offsets_count": len(offsets),
                "block_size": region.block_size,
                "interval_blocks": region.interval_blocks,
                "method": method,
                "unknown_rule": unknown,
                "deallocated": deallocated,
                "job": job,
                "trim_kind": trim_kind,
            },
        )
        if lib.nvme_verify_init(self.struct):
            raise ValueError("the verification cannot be set up so: see struct nvme_verify")
        self._fault = ffi.new("struct nvme_verify_fault *")

    @property
    def checked(self) -> int:
        """Intervals that held what they must."""
        return int(self.struct.checked)

    @property
    def unknown(self) -> int:
        """Intervals that were read, and that the table knew nothing of."""
        return int(self.struct.unknown)

    def begin_write(self, lba: int, blocks: int, buffer: Any) -> bool:
        """Fill ``buffer`` for a write. False: an I/O of one of the blocks is outstanding."""
        memory = self._memory(buffer, blocks, writable=True)
        return _allowed(lib.nvme_verify_begin_write(self.struct, lba, blocks, memory))

    def end_write(self, lba: int, blocks: int, *, ok: bool) -> None:
        """End a write; ``ok`` only if it completed with success."""
        lib.nvme_verify_end_write(self.struct, lba, blocks, ok)

    def begin_trim(self, lba: int, blocks: int, kind: Trim) -> bool:
        """Announce that data is taken away. False: an I/O of one of the blocks is outstanding."""
        return _allowed(lib.nvme_verify_begin_trim(self.struct, lba, blocks, kind))

    def end_trim(self, lba: int, blocks: int, kind: Trim, *, ok: bool) -> None:
        """End it; ``ok`` only if it completed with success."""
        lib.nvme_verify_end_trim(self.struct, lba, blocks, kind, ok)

    def begin_read(self, lba: int, blocks: int) -> bool:
        """Keep writes off until end_read. False: a write of one of the blocks is outstanding."""
        return _allowed(lib.nvme_verify_begin_read(self.struct, lba, blocks))

    def end_read(self, lba: int, blocks: int) -> None:
        """End a read that begin_read allowed."""
        lib.nvme_verify_end_read(self.struct, lba, blocks)

    def check(self, lba: int, blocks: int, buffer: Any) -> Fault | None:
        """Judge what a successful read brought; call it between begin_read and end_read."""
        memory = self._memory(buffer, blocks, writable=False)
        if _allowed(lib.nvme_verify_check(self.struct, lba, blocks, memory, self._fault)):
            return None
        return Fault.from_c(self._fault)

    def _memory(self, buffer: Any, blocks: int, *, writable: bool) -> Any:
        memory = ffi.from_buffer("uint8_t[]", buffer, require_writable=writable)
        if len(memory) < blocks * self.table.region.block_size:
            raise ValueError(f"the buffer has {len(memory)} bytes, too few for {blocks} blocks")
        return memory


def _allowed(result: int) -> bool:
    """Return True for 0, False for busy or a fault."""
    if result == -errno.EINVAL:
        raise ValueError("the range is not of whole verify intervals of the table")
    return result == 0


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of ``data`` behind bytes with the CRC-32C ``crc``."""
    return int(lib.checksum_crc32c(crc, data, len(data)))


def crc32c_table(data: bytes, crc: int = 0) -> int:
    """As :func:`crc32c`, without the CPU's instructions for it."""
    return int(lib.checksum_crc32c_table(crc, data, len(data)))


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 of ``data``."""
    return int(lib.checksum_xxh64(data, len(data), seed))
