"""SQLite on a namespace, by apsw: database, rollback journal and write-ahead log are regions of it.

A region is a GPT partition, by its name, or a part of a namespace that has no partitions. There is
no directory: a file that has no region cannot be made. The extra ``sqlite`` installs apsw.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from pynvme_user.driver.namespace import Namespace
from pynvme_user.errors import NvmeError
from pynvme_user.views.partitions import read_partitions
from pynvme_user.views.sized_file import HEAD, SizedFile

try:
    import apsw
except ImportError as error:
    raise ImportError("pynvme_user.sqlite needs apsw: pip install 'pynvme_user[sqlite]'") from error

#: Sizes of SQLITE_IOCAP_ATOMIC512 to SQLITE_IOCAP_ATOMIC64K.
_ATOMIC_SIZES = [512 << shift for shift in range(8)]
#: Regions of what has no partitions begin at a multiple of this, for the largest of these.
_ALIGNED = HEAD
_numbers = itertools.count()


class NamespaceVfs:
    """The files of SQLite on one namespace, for the connections of this process.

    Where the namespace has partitions each is a file, by its name: ``NAME``, ``NAME-journal`` and
    ``NAME-wal`` are a database. Else they have a half of it and a quarter each. ``database`` is
    NAME. What is not these files' own is refused, unless ``erase`` says to begin anew.

    Raises NvmeError for regions with other data, ValueError for what is too small, and as
    :func:`pynvme_user.views.partitions.read_partitions`.
    """

    def __init__(self, ns: Namespace, database: str = "main.db", *, erase: bool = False) -> None:
        self.database = database
        #: What SQLite calls it: ``apsw.Connection("main.db", vfs=vfs.name)``.
        self.name = f"nvme-{os.getpid()}-{next(_numbers)}"
        names = [database, f"{database}-journal", f"{database}-wal"]
        regions = _partitions(ns, names) or _split(ns, names)
        self._files = {
            name: _Shared(ns, SizedFile(ns.byte_range(*regions[name]), name, erase=erase))
            for name in names
        }
        self._connections: WeakSet[apsw.Connection] = WeakSet()
        self._vfs = _Vfs(self.name, self._files)

    def connect(self, *, journal_mode: str = "wal", **options: Any) -> apsw.Connection:
        """Open the database; the keywords are those of apsw.Connection.

        Without shared memory ``wal`` is for one connection at a time, which has the database locked
        from here on. The other modes (``delete``, ``truncate``, ``persist``) allow several, of any
        threads. Raises apsw.Error, such as BusyError where another connection is in the way.
        """
        connection = apsw.Connection(self.database, vfs=self.name, **options)
        try:
            connection.pragma("locking_mode", "exclusive")  # else a database in this mode fails
            got = connection.pragma("journal_mode", journal_mode)
            if got != journal_mode:
                raise ValueError(
                    f"journal_mode is {got}, not {journal_mode!r}: use wal, delete, truncate or "
                    "persist"
                )
            if journal_mode != "wal":
                connection.pragma("locking_mode", "normal")
            # Lets go of the lock, or takes it.
            connection.execute("SELECT count(*) FROM sqlite_schema")
        except BaseException:
            connection.close()
            raise
        self._connections.add(connection)
        return connection

    def close(self) -> None:
        """Close the connections that :meth:`connect` made. Safe to call twice."""
        for connection in list(self._connections):
            connection.close()
        self._vfs.unregister()

    def __enter__(self) -> NamespaceVfs:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Vfs(apsw.VFS):  # type: ignore[misc]
    """What SQLite calls, besides the files; the time, for example, is the default one's."""

    def __init__(self, name: str, files: dict[str, _Shared]) -> None:
        super().__init__(name, "")
        self._files = files

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self._files and self._files[pathname].file.size > 0

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not self.xAccess(filename, 0):
            raise _error(apsw.SQLITE_IOERR_DELETE_NOENT, f"{filename} is not there")
        with _reported(apsw.SQLITE_IOERR_DELETE):
            self._files[filename].file.truncate(0)

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        if name is None:  # temporary, and deleted at its end
            return super().xOpen(name, flags)
        path = name if isinstance(name, str) else name.filename()
        if path not in self._files:
            there = ", ".join(self._files)
            raise apsw.CantOpenError(f"there is no region for {path}, but for {there}")
        shared = self._files[path]
        if not flags[0] & apsw.SQLITE_OPEN_CREATE and not shared.file.size:
            raise apsw.CantOpenError(f"{path} is empty: open it with SQLITE_OPEN_CREATE")
        flags[1] = flags[0]
        return _File(shared)


class _Shared:
    """What all that have a file open share: the file, and who has which lock."""

    def __init__(self, ns: Namespace, file: SizedFile) -> None:
        self.file = file
        self.block_size = ns.block_size
        self.characteristics = _characteristics(ns, file.offset)
        self._levels: dict[_File, int] = {}
        self._lock = threading.Lock()

    def lock(self, who: _File, level: int) -> None:
        """Raise its lock to a level, or raise BusyError (sqlite.org/lockingv3.html)."""
        with self._lock:
            if level <= self._levels.get(who, apsw.SQLITE_LOCK_NONE):
                return
            others = [other for one, other in self._levels.items() if one is not who]
            ends = (
                apsw.SQLITE_LOCK_PENDING
                if level == apsw.SQLITE_LOCK_SHARED
                else apsw.SQLITE_LOCK_RESERVED
            )
            if any(other >= ends for other in others):
                raise apsw.BusyError(f"another connection has {self.file.name} locked")
            if level == apsw.SQLITE_LOCK_EXCLUSIVE and others:
                self._levels[who] = apsw.SQLITE_LOCK_PENDING  # nobody else comes to read
                raise apsw.BusyError(f"others still read {self.file.name}")
            self._levels[who] = level

    def unlock(self, who: _File, level: int) -> None:
        """Lower its lock to a level, none or shared."""
        with self._lock:
            if level == apsw.SQLITE_LOCK_NONE:
                self._levels.pop(who, None)
            else:
                self._levels[who] = level

    def reserved(self) -> bool:
        """Tell whether any connection is about to write."""
        with self._lock:
            return any(one >= apsw.SQLITE_LOCK_RESERVED for one in self._levels.values())


class _File:
    """A file that SQLite has open."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._file = shared.file

    def xRead(self, amount: int, offset: int) -> bytes:
        with _reported(apsw.SQLITE_IOERR_READ):
            return self._file.read(offset, amount)  # of fewer bytes apsw says that it is short

    def xWrite(self, data: Any, offset: int) -> None:
        with _reported(apsw.SQLITE_IOERR_WRITE):
            self._file.write(offset, data)

    def xTruncate(self, newsize: int) -> None:
        with _reported(apsw.SQLITE_IOERR_TRUNCATE):
            self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:
        with _reported(apsw.SQLITE_IOERR_FSYNC):
            self._file.sync()

    def xFileSize(self) -> int:
        return self._file.size

    def xLock(self, level: int) -> None:
        self._shared.lock(self, level)

    def xUnlock(self, level: int) -> None:
        self._shared.unlock(self, level)

    def xCheckReservedLock(self) -> bool:
        return self._shared.reserved()

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return self._shared.block_size

    def xDeviceCharacteristics(self) -> int:
        return self._shared.characteristics

    def xClose(self) -> None:
        self._shared.unlock(self, apsw.SQLITE_LOCK_NONE)


def _partitions(ns: Namespace, names: list[str]) -> dict[str, tuple[int, int]]:
    """Return where the partitions are that have a name; empty if the namespace has none."""
    partitions = read_partitions(ns)
    found = {one.name: (one.offset, one.size) for one in partitions}
    missing = [name for name in names if name not in found]
    if partitions and missing:
        raise ValueError(
            f"no partition has the name {missing[0]!r}, but {', '.join(map(repr, found))}: make "
            f"three, {', '.join(names)}"
        )
    return found


def _split(ns: Namespace, names: list[str]) -> dict[str, tuple[int, int]]:
    """Divide a namespace among a database, which has a half, its journal and its log."""
    quarter = ns.block_count * ns.block_size // 4 // _ALIGNED * _ALIGNED
    places = (0, 2 * quarter), (2 * quarter, quarter), (3 * quarter, quarter)
    return dict(zip(names, places, strict=True))


def _characteristics(ns: Namespace, offset: int) -> int:
    """Tell what the device promises of writes to a file whose data begins at a byte.

    One block is atomic when the power fails, always (NVM 1.0, section 2.1.4): so a part of one that
    is written leaves its other bytes alone. More blocks are where NAWUPF or AWUPF says so, unless
    they cross a boundary (NABSPF), or take several commands. SizedFile appends safely.
    """
    page, geometry = ns.identify, ns.geometry
    unit = ns.controller.identify.awupf + 1
    cuts = [geometry.boundary, geometry.boundary and min(geometry.boundary, ns.max_blocks)]
    if page.nsfeat.nsabp:
        unit = (page.nawupf or unit - 1) + 1
        cuts += [page.nabspf + 1, page.nabo] if page.nabspf else []
    if geometry.metadata_size:
        unit = 1  # how others are divided depends on where the metadata is
    found = (
        apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
        | apsw.SQLITE_IOCAP_SAFE_APPEND
        | apsw.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN
    )
    for number, length in enumerate(_ATOMIC_SIZES):
        blocks, rest = divmod(length, ns.block_size)
        whole = blocks and not rest and blocks <= min(unit, ns.max_blocks)
        if whole and not offset % length and not any(cut % blocks for cut in cuts):
            found |= apsw.SQLITE_IOCAP_ATOMIC512 << number
    return int(found)


@contextmanager
def _reported(code: int) -> Iterator[None]:
    """Let SQLite know by its own code what the device says."""
    try:
        yield
    except (NvmeError, ValueError) as error:
        raise _error(code, str(error)) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise _error(code, str(error)) from error
        raise apsw.FullError(str(error)) from error


def _error(code: int, text: str) -> Any:
    error = apsw.IOError(text)
    error.extendedresult = code
    return error
