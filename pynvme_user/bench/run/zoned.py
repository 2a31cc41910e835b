"""zonemode=zbd: I/O that obeys the zones of a zoned namespace, as fio does it.

A :class:`ZoneMap` knows the zones of a namespace, for all parts that write to it: of each zone
there is one writer at a time. A :class:`ZonedPlan` turns one part's I/Os into ones that a zoned
namespace takes: writes go to a zone's write pointer, reads stay below it, and a zone that is full
is reset before it is written anew.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.driver.namespace import Namespace
from pynvme_user.driver.zns import written_up_to
from pynvme_user.spec.zns import ZoneDescriptor, ZoneState
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.records import IO_DTYPE
from pynvme_user.workload.verification import Trim, Verifier

#: I/Os that are planned at a time.
_CHUNK = 1 << 14
_UNWRITABLE = (ZoneState.READ_ONLY, ZoneState.OFFLINE)

_NOTHING_TO_READ = "no zone of its range holds data to read: write first, or give read_beyond_wp=1"
_NO_ZONE = (
    "all zones of its range are written by other jobs: give more size, fewer jobs, or each a range "
    "of its own by offset_increment"
)

Ios = npt.NDArray[np.void]


@dataclass(slots=True)
class Zone:
    """One zone. Blocks, from the namespace's start; ``written`` is the write pointer."""

    start: int
    end: int  # of its capacity
    written: int
    state: ZoneState
    owner: int | None = None  # number of the part that writes to it

    @property
    def room(self) -> int:
        """Blocks that can be written without a reset."""
        return 0 if self.state in (ZoneState.FULL, *_UNWRITABLE) else self.end - self.written


class ZoneMap:
    """The zones of a namespace of zones of ``blocks`` blocks. For threads."""

    def __init__(self, ns: Namespace, blocks: int) -> None:
        self.ns = ns
        self.blocks = blocks
        self.lock = threading.Lock()
        self.zones: list[Zone] = []

    def refresh(self) -> None:
        """Ask the device for all zones, if no part writes to any."""
        with self.lock:
            if not any(zone.owner for zone in self.zones):
                self.zones = [_zone(found) for found in self.ns.zones.report()]

    def renew(self, zone: Zone) -> None:
        """Ask the device for a zone's write pointer, when not all was written that was planned."""
        now = _zone(self.ns.zones.zone(zone.start))
        zone.written, zone.state = now.written, now.state

    def reset(self, zone: Zone) -> None:
        """Empty a zone. Raises NvmeError."""
        self.ns.zones.reset(zone.start)
        zone.written, zone.state = zone.start, ZoneState.EMPTY

    def finish(self, zone: Zone) -> None:
        """Let a zone be full, whose room is less than a write. Raises NvmeError."""
        self.ns.zones.finish(zone.start)
        zone.state = ZoneState.FULL


def _zone(found: ZoneDescriptor) -> Zone:
    start = found.zslba
    return Zone(start, start + found.zcap, written_up_to(found), ZoneState(found.zs.zs))


class Arrivals:
    """The order in which reads and writes arrive, each at a steady rate: any unit, above 0."""

    def __init__(self, reads: float, writes: float) -> None:
        self._rates = reads, writes
        self._taken = [0, 0]

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """Tell the directions of the next ``count``."""
        numbers = np.arange(count)
        due = [
            (taken + numbers) / rate for taken, rate in zip(self._taken, self._rates, strict=True)
        ]
        order = np.argsort(np.concatenate(due), kind="stable")[:count]
        directions = (order >= count).astype(np.uint8)
        writes = int(directions.sum())
        self._taken = [self._taken[0] + count - writes, self._taken[1] + writes]
        return directions


class ZonedPlan:
    """What one part does with the zones of its range, which begins and ends with a zone.

    ``most_open`` is how many zones it may have begun and not filled. With ``beyond`` reads go where
    they are drawn, written or not. ``fresh`` begins with all zones empty, as fio does before it
    verifies. A trim resets a zone. A piece has no more than ``most_writes`` writes, 0 for any
    number, and ``most_trims`` trims, whose zones are its own meanwhile. Reads and writes of a mix
    come in the order of ``arrivals``, if there are some.
    """

    def __init__(
        self,
        zones: ZoneMap,
        generator: Generator,
        *,
        number: int,
        first_lba: int,
        blocks: int,
        most_open: int,
        random: bool,
        beyond: bool = False,
        fresh: bool = False,
        most_writes: int = 0,
        most_trims: int = 1,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._map = zones
        self._arrivals = arrivals
        self._generator = generator
        self._number = number
        self._first = first_lba // zones.blocks
        self._count = blocks // zones.blocks
        self._most_open = most_open
        self._random = random
        self._beyond = beyond
        self._fresh = fresh
        self._most_writes = most_writes
        self._most_trims = most_trims
        self._trimming: list[Zone] = []  # in the piece that is out
        #: Is told of resets of zones that were written, if there is one.
        self.verifier: Verifier | None = None
        self._open: list[Zone] = []  # those that this part writes to
        self._begun: set[int] = set()  # starts of those of them that it has written to
        self._next = 0  # where it looks for the next one, for sequential writes
        self._found = False  # an I/O that can be done
        self._unread = 0  # I/Os since the last one for which there was something to read
        self._rest: Ios = np.zeros(0, IO_DTYPE)
        #: (LBA, blocks) of what was written since the last reset of its zone, in order.
        self.written: dict[int, list[tuple[int, int]]] = {}
        self._planned: Ios = self._rest

    @property
    def _zones(self) -> list[Zone]:
        return self._map.zones[self._first : self._first + self._count]

    def begin(self) -> None:
        """See what other jobs have left."""
        self._map.refresh()

    def pieces(self) -> Iterator[Ios]:
        """Yield I/Os (IO_DTYPE) to be done to their end before the next ones are asked for.

        Zones are reset and finished in between. Raises NvmeError for that, and JobError where there
        is no zone to write to, or nothing to read.
        """
        if self._fresh:
            self._fresh = False
            for zone in self._zones:
                if zone.state is not ZoneState.EMPTY and zone.state not in _UNWRITABLE:
                    self._map.reset(zone)
        while True:
            if not len(self._rest):
                self._rest = (
                    self._generator.follow(self._arrivals.take(_CHUNK))
                    if self._arrivals
                    else self._generator.take(_CHUNK)
                )
            if not len(self._rest):
                if not self._found:
                    raise JobError(_NOTHING_TO_READ)
                return
            taken = self._plan()
            self._rest = self._rest[taken:]
            if len(self._planned):
                yield self._planned
            if self._all_trimmed:
                return

    def _plan(self) -> int:
        """Plan as much as goes without a zone's reset; tell how much was taken."""
        planned: list[tuple[int, int, int]] = []
        readable = {zone.start: zone.written for zone in self._zones}
        taken = writes = 0
        self._end_trims()
        for lba, blocks, direction in self._rest.tolist():
            if direction == Direction.READ:
                place = lba if self._beyond else self._read_place(lba, blocks, readable)
                if place is not None:
                    planned.append((place, blocks, direction))
            elif direction == Direction.TRIM:
                if len(self._trimming) == self._most_trims:
                    break
                trimmed = self._trim_zone(lba)
                if trimmed is None:
                    if not self._random and not self._trimming:
                        raise JobError(_NO_ZONE)
                    self._all_trimmed = not self._trimming
                    break
                planned.append((trimmed.start, blocks, direction))
            elif self._most_writes and writes == self._most_writes:
                break
            else:
                zone = self._write_zone(lba, blocks, not planned)
                if zone is None:
                    break
                # A reset, before the first I/O, has left less to be read.
                readable[zone.start] = min(readable[zone.start], zone.written)
                planned.append((zone.written, blocks, direction))
                self._note(zone, blocks)
                writes += 1
            taken += 1
        self._planned = np.array(planned, IO_DTYPE)
        self._found = self._found or bool(planned)
        self._unread = 0 if planned else self._unread + taken
        if self._unread > self._count * self._map.blocks:  # it would go on for ever
            raise JobError(_NOTHING_TO_READ)
        return taken

    def _note(self, zone: Zone, blocks: int) -> None:
        self.written.setdefault(zone.start, []).append((zone.written, blocks))
        zone.written += blocks

    # --- reads --------------------------------------------------------------------------------

    def _read_place(self, lba: int, blocks: int, readable: dict[int, int]) -> int | None:
        """Where a read finds written blocks; None: nowhere, or it is left out of a sequence."""
        zones = self._zones
        index = lba // self._map.blocks - self._first
        start = zones[index].start
        if not self._random:
            return lba if lba + blocks <= readable[start] else None
        for step in range(len(zones)):
            start = zones[(index + step) % len(zones)].start
            if places := (readable[start] - start) // blocks:
                return start + lba % self._map.blocks // blocks % places * blocks
        return None

    # --- trims --------------------------------------------------------------------------------

    _all_trimmed = False

    def _trim_zone(self, lba: int) -> Zone | None:
        """Find the zone that a trim resets; None where there is none.

        As in fio, random ones look for one with data, others take one after another.
        """
        zones = self._zones
        index = lba // self._map.blocks - self._first
        with self._map.lock:
            for step in range(len(zones)):
                zone = zones[(index + step) % len(zones)]
                if zone.owner is not None or zone.state in _UNWRITABLE:
                    continue
                if not self._random or zone.written > zone.start:
                    zone.owner = self._number
                    zone.written, zone.state = zone.start, ZoneState.EMPTY
                    self._trimming.append(zone)
                    return zone
        return None

    def _end_trims(self) -> None:
        """Let others have the zones that were reset."""
        with self._map.lock:
            for zone in self._trimming:
                zone.owner = None
            self._trimming.clear()

    # --- writes -------------------------------------------------------------------------------

    def _write_zone(self, lba: int, blocks: int, idle: bool) -> Zone | None:
        """Find the zone that a write goes to; None if one has to be managed and it is not idle."""
        with self._map.lock:
            zone = self._choose(lba)
            if zone.room < blocks and not idle:
                return None
            if zone.room < blocks and zone.start in self._begun:
                self._fill(zone)
                zone = self._choose(lba)
            if zone.room < blocks:
                self._reset(zone)
            self._begun.add(zone.start)
        return zone

    def _reset(self, zone: Zone) -> None:
        """Empty a zone that this part is about to write anew, which verification has to know."""
        kind = Trim.DEALLOCATE
        if self.verifier is not None:
            self.verifier.begin_trim(zone.start, self._map.blocks, kind)
        self._map.reset(zone)
        if self.verifier is not None:
            self.verifier.end_trim(zone.start, self._map.blocks, kind, ok=True)
        self.written.pop(zone.start, None)

    def _fill(self, zone: Zone) -> None:
        """Let go of a zone that has no room for a write, or not enough."""
        if zone.room:
            self._map.finish(zone)
        zone.state = ZoneState.FULL
        zone.owner = None
        self._open.remove(zone)
        self._begun.remove(zone.start)

    def _choose(self, lba: int) -> Zone:
        zones = self._zones
        index = lba // self._map.blocks - self._first
        if not self._random and self._open:
            return self._open[0]
        wanted = zones[index]
        if wanted.owner == self._number:
            return wanted
        if len(self._open) >= self._most_open:
            return self._open[index % len(self._open)]
        if not self._random:
            # After the last one that was filled, which the I/O's own offset need not be in.
            index = self._next
        for step in range(len(zones)):
            zone = zones[(index + step) % len(zones)]
            if zone.owner is None and zone.state not in _UNWRITABLE:
                zone.owner = self._number
                self._open.append(zone)
                self._next = (index + step + 1) % len(zones)
                return zone
        if self._open:
            return self._open[index % len(self._open)]
        raise JobError(_NO_ZONE)

    # --- its end ------------------------------------------------------------------------------

    def cut(self, done: int) -> None:
        """Take back what was planned last but for the first ``done`` I/Os: they are not to come."""
        for lba, _, direction in self._planned[done:].tolist():
            if direction == Direction.WRITE:
                start = lba - lba % self._map.blocks
                written = self.written.get(start, [])
                self.written[start] = [entry for entry in written if entry[0] < lba]
        with self._map.lock:
            for zone in (*self._open, *self._trimming):
                self._map.renew(zone)

    def close(self) -> None:
        """Let others write to its zones."""
        self._end_trims()
        with self._map.lock:
            for zone in self._open:
                zone.owner = None
            self._open.clear()
            self._begun.clear()

    def all_written(self, blocks: int) -> Iterator[Ios]:
        """Yield all below the write pointers, whoever wrote it, as reads of up to ``blocks``."""
        for zone in self._zones:
            starts = np.arange(zone.start, zone.written, blocks, dtype=np.uint64)
            if len(starts):
                ios = np.zeros(len(starts), IO_DTYPE)
                ios["lba"] = starts
                ios["blocks"] = np.minimum(blocks, np.uint64(zone.written) - starts)
                yield ios

    def written_ios(self) -> Iterator[Ios]:
        """Yield all that is there to be read back, as reads."""
        for ranges in self.written.values():
            ios = np.zeros(len(ranges), IO_DTYPE)
            if ranges:
                ios["lba"], ios["blocks"] = zip(*ranges, strict=True)
                yield ios
