"""``nvme://`` for fsspec: a namespace is a file, and so is each partition of it, by its name.

A path is ``DEVICE``, which is namespace 1, ``DEVICE#NSID`` or ``DEVICE#NSID/PARTITION``. DEVICE is
any device name, as it is: only the last ``#`` counts, so that an image's path may have slashes and
options have question marks. ``?size=N`` behind it all is the first N bytes only, for a format that
looks for something at a file's end, such as Parquet.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from fsspec.spec import AbstractFileSystem

from pynvme_user.driver.controller import Controller
from pynvme_user.driver.controller import open as open_controller
from pynvme_user.driver.namespace import Namespace
from pynvme_user.errors import DeviceNameError
from pynvme_user.units import parse_size
from pynvme_user.views.file import (
    BUFFERING,
    BufferedNamespaceFile,
    Mode,
    NamespaceFile,
    ThreadsNamespaceFile,
)
from pynvme_user.views.partitions import Partition, read_partitions

_T = TypeVar("_T")
_MODES: dict[str, Mode] = {"rb": "rb", "r+b": "r+b", "rb+": "r+b"}
_BEHIND_DEVICE = re.compile(r"([0-9]{1,10})(?:/([^/#?]+))?(?:\?size=([^/#?]+))?")
#: What would be taken for something else in a path, by us or by fsspec.
_QUOTED = re.compile(r"[%/#?*\[\]:\x00-\x1f\x7f]|^\s|\s$")


class NvmeFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Namespaces and their partitions as files of fixed size; see the module for their paths.

    A device is opened when it is first needed, once for all file systems and files of a process,
    and closed when the last of those that used it is closed or gone. A forked child opens it anew.
    Thread-safe. Raises as :func:`pynvme_user.open`, FileNotFoundError for a namespace or partition
    that is not there, PartitionTableError for a table that cannot be read.

    A file has one position, as any, for one thread at a time: a read where two threads moved it
    raises OSError. With ``thread_positions=True`` each thread that seeks has its own, and the file
    has no buffer: for a program such as DuckDB 2, whose threads share a file. A thread that never
    sought goes on at the only position that there is; with several it raises OSError.
    """

    protocol = "nvme"
    cachable = False  # else fsspec would keep each device open until the process ends
    root_marker = ""

    def __init__(self, *args: Any, thread_positions: bool = False, **storage_options: Any) -> None:
        super().__init__(*args, thread_positions=thread_positions, **storage_options)
        self._thread_positions = thread_positions
        self._leases: dict[str, _Lease] = {}

    def close(self) -> None:
        """Give up its devices; files that are open keep theirs."""
        while self._leases:
            self._leases.popitem()[1].close()

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Tell the size of a file, and of a partition its number, type and id."""
        place = self._place(path)
        return self._info(place, self._namespace(place))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a namespace's partitions; of one without, and of a partition, the file itself."""
        place = self._place(path)
        ns = self._namespace(place)
        found = [] if place.partition or place.size else self._partitions(place, ns)
        infos = found or [self._info(place, ns)]
        return infos if detail else [info["name"] for info in infos]

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Tell whether there is such a namespace or partition. Raises where that cannot be told."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Find partitions by a pattern of ``*`` and ``[...]``; a device's name is none."""
        place = self._place(path)
        found: dict[str, dict[str, Any]] = {}
        if place.partition and re.search(r"[*[]", place.partition):
            for info in self._partitions(place, self._namespace(place)):
                name = info["name"].rpartition("/")[2]
                if fnmatch.fnmatchcase(name, place.partition):
                    found[info["name"]] = info
        elif self.exists(path):
            found[place.path] = self.info(path)
        return found if kwargs.get("detail") else list(found)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``; negative ones count from its end."""
        with self._raw(path, "rb") as file:
            first, past, _ = slice(start, end).indices(file.size)
            file.seek(first)
            return file.read(max(past - first, 0))

    def created(self, path: str) -> Any:
        """Refuse: nobody keeps it."""
        raise NotImplementedError("a namespace does not know when it was made")

    def modified(self, path: str) -> datetime:
        """Return now: nobody keeps it, and what a program cached of it may be old already."""
        return datetime.now(UTC)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> io.BufferedIOBase | NamespaceFile:
        """Open a file, with a buffer of ``block_size`` bytes, by default of 128 KiB."""
        if mode not in _MODES:
            raise ValueError(
                f"{path} is opened with the mode 'rb' or 'r+b', not {mode!r}: it has its size, and "
                "is written in place"
            )
        raw = self._raw(path, _MODES[mode])
        if self._thread_positions:
            return raw
        buffer = block_size if isinstance(block_size, int) and block_size > 0 else BUFFERING
        return (_Writer if raw.writable() else _Reader)(raw, buffer)

    def _raw(self, path: str, mode: Mode) -> NamespaceFile:
        place = self._place(path)
        ns = self._namespace(place)
        lease = _controllers.acquire(place.device)
        try:
            part = ns.byte_range(*self._bytes(place, ns))
            kind = ThreadsNamespaceFile if self._thread_positions else NamespaceFile
            raw = kind(part, mode, place.path)
        except BaseException:
            lease.close()
            raise
        raw.on_close = lease.close
        return raw

    def _place(self, path: str) -> _Place:
        return _Place.parse(self._strip_protocol(path))

    def _namespace(self, place: _Place) -> Namespace:
        lease = self._leases.get(place.device)
        if lease is None or not lease.usable:
            lease = self._leases[place.device] = _controllers.acquire(place.device)
        namespaces = lease.controller.namespaces
        if place.nsid not in namespaces:
            ids = ", ".join(map(str, namespaces))
            raise _not_found(place, f"has no namespace {place.nsid}, but {ids or 'none'}")
        return namespaces[place.nsid]

    def _bytes(self, place: _Place, ns: Namespace) -> tuple[int, int]:
        """Tell where its bytes are: the first, and how many."""
        info = self._info(place, ns)
        return info["offset"], info["size"]

    def _info(self, place: _Place, ns: Namespace) -> dict[str, Any]:
        whole = replace(place, size=None)
        if place.partition is None:
            info = _entry(whole, 0, ns.block_count * ns.block_size)
        else:
            there = {info["name"]: info for info in self._partitions(place, ns)}
            if whole.path not in there:
                names = ", ".join(name.rpartition("/")[2] for name in there)
                raise _not_found(place, f"has the partitions {names}" if there else "has none")
            info = there[whole.path]
        if place.size is not None:
            if place.size > info["size"]:
                raise _not_found(place, f"has {info['size']} bytes")
            info |= {"name": place.path, "size": place.size}
        return info

    def _partitions(self, place: _Place, ns: Namespace) -> list[dict[str, Any]]:
        return [
            _entry(replace(place, partition=name, size=None), partition.offset, partition.size)
            | {
                "partn": partition.number,
                "parttype": str(partition.type),
                "partuuid": str(partition.id),
            }
            for name, partition in _named(read_partitions(ns))
        ]


@dataclass(frozen=True)
class _Place:
    """What a path stands for; ``partition`` is as it is written there."""

    device: str
    nsid: int = 1
    partition: str | None = None
    size: int | None = None

    @classmethod
    def parse(cls, path: str) -> _Place:
        """Read a path. Raises DeviceNameError."""
        device, number, behind = path.rpartition("#")
        if not number:
            device, behind = path, "1"
        found = _BEHIND_DEVICE.fullmatch(behind)
        if not device or not found:
            raise DeviceNameError(
                f"nvme://{path}: write nvme://DEVICE, nvme://DEVICE#NSID or "
                "nvme://DEVICE#NSID/PARTITION, such as nvme://0000:01:00.0#1/data, and ?size=N "
                "behind it for its first N bytes"
            )
        nsid, partition, size = found.groups()
        try:
            length = None if size is None else parse_size(size)
        except ValueError as error:
            raise DeviceNameError(f"nvme://{path}: {error}") from None
        if partition is not None and not re.search(r"[*[]", partition):
            partition = _quote(unquote(partition))  # one way to write it
        return cls(device, int(nsid), partition, length)

    @property
    def path(self) -> str:
        """The path, without a protocol."""
        part = "" if self.partition is None else f"/{self.partition}"
        size = "" if self.size is None else f"?size={self.size}"
        return f"{self.device}#{self.nsid}{part}{size}"


class _OnePosition:
    """Mixin of a buffered file: a thread does not read or write where another thread left off.

    Raises OSError (EBUSY) where another thread used the file between this one's seek and its read
    or write; and where another sought since this one's last read or write, unless the threads hand
    the file on, as they do once one that never sought reads where another was.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._turn = threading.RLock()
        # Of each thread: "sought" is the round of its last seek, 0 once it read or wrote after it;
        # "seen" is how many seeks there had been at its last call.
        self._mine = threading.local()
        self._round = 1
        self._seeks = 0
        self._last: object = None  # the thread of the last call, by its dictionary
        self._handed_on = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        mine = self._mine.__dict__
        with self._turn:
            at: int = super().seek(offset, whence)  # type: ignore[misc]
            self._seeks += 1
            self._last = mine
            asks_size = whence == os.SEEK_END and not offset
            if not asks_size or "seen" in mine:
                mine["seen"] = self._seeks
            mine["sought"] = 0 if asks_size else self._round
            return at

    def read(self, size: int | None = -1) -> bytes:
        return self._move(super().read, size)  # type: ignore[misc, no-any-return]

    def read1(self, size: int = -1) -> bytes:
        return self._move(super().read1, size)  # type: ignore[misc, no-any-return]

    def readline(self, size: int | None = -1) -> bytes:
        return self._move(super().readline, size)  # type: ignore[misc, no-any-return]

    def peek(self, size: int = 0) -> bytes:
        return self._move(super().peek, size)  # type: ignore[misc, no-any-return]

    def readinto(self, buffer: Any) -> int:
        return self._move(super().readinto, buffer)  # type: ignore[misc, no-any-return]

    def readinto1(self, buffer: Any) -> int:
        return self._move(super().readinto1, buffer)  # type: ignore[misc, no-any-return]

    def write(self, data: Any) -> int:
        return self._move(super().write, data)  # type: ignore[misc, no-any-return]

    def _move(self, call: Callable[[Any], _T], argument: Any) -> _T:
        with self._turn:
            self._check_position()
            return call(argument)

    def _check_position(self) -> None:
        mine, last = self._mine.__dict__, self._last
        sought = mine.get("sought") == self._round
        seen = mine.get("seen")
        if last is not None and last is not mine:
            if seen is None:
                self._handed_on = True
            if sought or not (self._handed_on or seen == self._seeks):
                mine["sought"] = 0
                raise OSError(
                    errno.EBUSY,
                    "two threads moved the position of this file: give each thread a file of its "
                    'own, or each a position, by fsspec.filesystem("nvme", thread_positions=True)',
                )
        if not sought:
            self._round += 1  # a hand-over: earlier seeks of other threads no longer count
        mine["sought"] = 0
        mine["seen"] = self._seeks
        self._last = mine


class _Reader(_OnePosition, io.BufferedReader):
    """A NamespaceFile with a buffer, for reading."""

    raw: NamespaceFile

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.raw.size


class _Writer(_OnePosition, BufferedNamespaceFile):
    """A NamespaceFile with a buffer, for reading and writing."""


class _Opened:
    """A controller, and how many hold it."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.holders = 0
        self.pid = os.getpid()


class _Lease:
    """Holds a controller until it is closed or gone."""

    def __init__(self, controllers: _Controllers, opened: _Opened) -> None:
        self._controllers = controllers
        self._opened: _Opened | None = opened

    @property
    def usable(self) -> bool:
        """Whether the controller is open in this process."""
        opened = self._opened
        return opened is not None and opened.pid == os.getpid() and not opened.controller.closed

    @property
    def controller(self) -> Controller:
        assert self._opened is not None
        return self._opened.controller

    def close(self) -> None:
        """Give it up. Safe to call twice."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self._controllers.release(opened)

    def __del__(self) -> None:
        self.close()


class _Controllers:
    """The controllers that this process opened for files, by device name. Thread-safe."""

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        """Have none: what a forked child inherited is its parent's."""
        self._open: dict[str, _Opened] = {}
        # Taken again by a lease that the garbage collector finds.
        self._lock = threading.RLock()

    def acquire(self, device: str) -> _Lease:
        """Open a device, or hold the one that is open. Raises as pynvme_user.open()."""
        with self._lock:
            opened = self._open.get(device)
            if opened is not None:
                opened.holders += 1  # first of all, so that nobody closes it
            if opened is None or opened.controller.closed:
                opened = self._open[device] = _Opened(open_controller(device))
                opened.holders = 1
            return _Lease(self, opened)

    def release(self, opened: _Opened) -> None:
        """Close it if nobody holds it now."""
        if opened.pid != os.getpid():
            return
        with self._lock:
            opened.holders -= 1
            if opened.holders:
                return
            self._open = {name: one for name, one in self._open.items() if one is not opened}
            opened.controller.close()


_controllers = _Controllers()


def _entry(place: _Place, offset: int, size: int) -> dict[str, Any]:
    return {"name": place.path, "size": size, "type": "file", "offset": offset}


def _named(partitions: list[Partition]) -> Iterator[tuple[str, Partition]]:
    """Name each once: pN, as the kernel does, where its own name is none or not its alone."""
    names = Counter(partition.name for partition in partitions)
    for partition in partitions:
        name = partition.name
        if not name or names[name] > 1 or re.fullmatch("p[0-9]+", name):
            name = f"p{partition.number}"
        yield _quote(name), partition


def _quote(name: str) -> str:
    return _QUOTED.sub(lambda found: "".join(f"%{c:02X}" for c in found[0].encode()), name)


def _not_found(place: _Place, what: str) -> FileNotFoundError:
    owner = place.device if place.partition is None else f"{place.device}#{place.nsid}"
    return FileNotFoundError(errno.ENOENT, f"{owner} {what}", f"nvme://{place.path}")
