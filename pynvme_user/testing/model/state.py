"""What the model is made of: an NVM subsystem, its namespaces and its controllers.

The commands change it, each in a module of its own kind. A subsystem's lock is held while one is
executed; what is set from elsewhere, such as a log page, is one assignment.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pynvme_user.errors import ClosedError
from pynvme_user.spec.commands import NSID_ALL
from pynvme_user.spec.events import AsyncEventResult, AsyncEventType
from pynvme_user.spec.feature_dwords import WriteProtectionState
from pynvme_user.spec.identify import DPS, LbaFormat
from pynvme_user.spec.identify_nvm import ELBAF, GuardFormat
from pynvme_user.spec.logs import ErrorLogEntry, LogId, SanitizeLog, SelfTestResult
from pynvme_user.spec.reservations import ReservationType
from pynvme_user.spec.status import (
    CommandSpecificStatus,
    GenericStatus,
    MediaStatus,
    Status,
    StatusCode,
)
from pynvme_user.testing.core import Core, ffi
from pynvme_user.testing.faults import Command
from pynvme_user.testing.model.reclaim import Configuration, Placement
from pynvme_user.testing.model.rpmb import Rpmb
from pynvme_user.testing.storage import Storage

ENDURANCE_GROUP = NVM_SET = 1
MOST_NAMESPACES = 32
FIRMWARE_SLOTS = 4
SERIAL = "1"
SUBSYSTEM_NAME = "nqn.2014-08.org.nvmexpress:uuid:6e766d65-7573-6572-8000-000000000001"
#: Of Identify Controller, in kelvins.
WARNING_TEMPERATURE, CRITICAL_TEMPERATURE = 343, 353
ERROR_ENTRIES = 64
#: Asynchronous Event Requests that the controller in C keeps.
EVENT_REQUESTS = 4
#: May succeed when it is tried again.
_PASSING = (
    GenericStatus.SANITIZE_IN_PROGRESS,
    GenericStatus.RESERVATION_CONFLICT,
    GenericStatus.ABORTED_BY_REQUEST,
    GenericStatus.COMMAND_INTERRUPTED,
    CommandSpecificStatus.SELF_TEST_IN_PROGRESS,
    MediaStatus.COMPARE_FAILURE,
)


class Refused(Exception):
    """A command ends with that status."""

    def __init__(self, code: StatusCode | Status) -> None:
        super().__init__(code)
        if isinstance(code, Status):
            self.status = code
        else:
            self.status = Status.of(code, dnr=code not in _PASSING)


def require(condition: object, code: StatusCode = GenericStatus.INVALID_FIELD) -> None:
    """End the command with that status unless a condition holds."""
    if not condition:
        raise Refused(code)


def send(command: Command, data: bytes) -> None:
    """Move data to the host."""
    if data:
        status = command.fill(data)
        if not status.ok:
            raise Refused(status)


def receive(command: Command, length: int) -> bytes:
    """Return the host's data."""
    try:
        return command.data(length) if length else b""
    except ValueError:
        raise Refused(GenericStatus.DATA_TRANSFER_ERROR) from None


# --- namespaces -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """An LBA format: log2 of the block size, metadata, and what its guard would be."""

    shift: int
    metadata: int = 0
    guard: GuardFormat = GuardFormat.GUARD_16B
    storage_tag: int = 0

    @property
    def lbaf(self) -> LbaFormat:
        """As Identify Namespace has it."""
        return LbaFormat.build(ds=self.shift, ms=self.metadata)

    @property
    def elbaf(self) -> ELBAF:
        """As the NVM Command Set's page has it."""
        return ELBAF.build(sts=self.storage_tag, pif=self.guard)


def formats(shift: int) -> tuple[Format, ...]:
    """Return all LBA formats; the first is that of the device's name."""
    rest = (
        Format(9),
        Format(12),
        Format(9, 8),
        Format(12, 8),
        Format(12, 64),
        Format(12, 16, GuardFormat.GUARD_32B, 16),
        Format(12, 16, GuardFormat.GUARD_64B),
    )
    return (Format(shift), *(each for each in rest if each != Format(shift)))


@dataclass
class Reservation:
    """Who is registered with a namespace, and who holds it. Hosts are identifiers."""

    keys: dict[bytes, int] = field(default_factory=dict)
    #: The controller that each was registered by.
    controllers: dict[bytes, int] = field(default_factory=dict)
    holder: bytes | None = None
    kind: ReservationType = ReservationType.NONE
    generation: int = 0
    persists: bool = False


class Namespace:
    """A namespace that was created; attached to some of the controllers."""

    def __init__(
        self,
        nsid: int,
        media: memoryview,
        offset: int,
        form: Format,
        index: int,
        blocks: int,
        zero: Callable[[int, int], None],
    ) -> None:
        self.nsid = nsid
        self.media = media
        self.offset = offset  # in the subsystem's memory
        self._zero = zero
        self.shared = False
        self.controllers: set[int] = set()
        self.uuid = uuid.uuid5(uuid.NAMESPACE_OID, f"pynvme_user {nsid} {time.monotonic_ns()}")
        self.blocks = blocks
        self.protection = WriteProtectionState.NONE
        self.reservation = Reservation()
        self.zones: Any = None
        #: Directives that are enabled.
        self.directives: set[int] = set()
        #: Those that are open, the oldest first.
        self.streams: list[int] = []
        self.streams_allocated = 0
        #: Its endurance group.
        self.group = ENDURANCE_GROUP
        #: Reclaim unit handles by placement handle; with data placement there is one at least.
        self.handles: tuple[int, ...] = ()
        self.handles_wanted = False  # the host has named them
        self.format, self.index, self.extended, self.dps = form, index, False, DPS(0)
        self._forget()

    def set_format(self, form: Format, index: int, *, extended: bool, dps: DPS) -> None:
        """Take another format; the size in bytes stays, the data is zeroed."""
        size = self.blocks << self.format.shift
        self.format, self.index, self.extended, self.dps = form, index, extended, dps
        self.blocks = size >> form.shift
        self.erase()

    def erase(self) -> None:
        """Set all of its data to zero."""
        self._zero(self.offset, len(self.media))
        self._forget()

    def _forget(self) -> None:
        self.metadata = np.zeros(self.blocks * self.format.metadata, np.uint8)
        if self.format.metadata and self.dps.pit:
            self.metadata[:] = 0xFF  # application and reference tags that are not checked
        self.uncorrectable: set[int] = set()

    @property
    def block_size(self) -> int:
        """Bytes of data in a block."""
        return 1 << self.format.shift

    @property
    def is_plain(self) -> bool:
        """Whether its I/O needs nothing but what the controller in C does."""
        return not (
            self.format.metadata
            or self.uncorrectable
            or self.protection
            or self.reservation.holder
            or self.zones
            or self.directives
            or self.handles
        )

    def data(self, lba: int, blocks: int) -> memoryview:
        """Return the bytes of blocks, to read and to write."""
        return self.media[lba << self.format.shift : (lba + blocks) << self.format.shift]

    def metadata_of(self, lba: int, blocks: int) -> Any:
        """Return the metadata of blocks, an array to read and to write."""
        size = self.format.metadata
        return self.metadata[lba * size : (lba + blocks) * size]


# --- the subsystem --------------------------------------------------------------------------------


@dataclass
class Firmware:
    """Slots by number, and which is active now and after the next reset."""

    slots: dict[int, str] = field(default_factory=lambda: {1: "1"})
    active: int = 1
    following: int = 0
    image: bytearray = field(default_factory=bytearray)
    ranges: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Times:
    """How long what takes its time takes, in seconds."""

    sanitize: float = 0.05
    short_self_test: float = 0.05
    extended_self_test: float = 0.1


@dataclass
class Operation:
    """Something that takes its time: from when, how long, and what is done at its end."""

    start: float
    length: float
    finish: Callable[[], None]

    @property
    def progress(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.length <= 0:
            return 1.0
        return min(1.0, (time.monotonic() - self.start) / self.length)


class Subsystem:
    """An NVM subsystem: what its controllers share, and the memory that its namespaces consist of.

    The storage is closed when the last controller is gone.
    """

    def __init__(self, storage: Storage, shift: int) -> None:
        self.storage = storage
        memory = ffi.buffer(ffi.cast("char *", storage.address), storage.size)
        self.memory = memoryview(memory)
        self.formats = formats(shift)
        self.lock = threading.Lock()
        self.namespaces: dict[int, Namespace] = {}
        self.controllers: dict[int, Controller] = {}
        self.firmware = Firmware()
        self.times = Times()
        self.sanitizing: Operation | None = None
        self.sanitize_failed = False
        #: Whether the next sanitize operation fails.
        self.fail_next_sanitize = False
        self.sanitize_log = SanitizeLog.build()
        #: Prohibited (scope, opcode or feature), by interface.
        self.prohibited: dict[bool, set[tuple[int, int]]] = {False: set(), True: set()}
        self.events: deque[tuple[int, bytes, int]] = deque(maxlen=512)
        self.started = time.monotonic()
        self.timers: list[tuple[threading.Timer, Controller]] = []
        self.users = 0  # of the storage
        self.made = False  # namespace 1 was
        self.endurance_groups: dict[int, int] = {ENDURANCE_GROUP: len(memory)}
        self.nvm_sets: dict[int, int] = {NVM_SET: ENDURANCE_GROUP}
        #: What data placement is like where it is enabled.
        self.configuration = Configuration()
        self._placements: dict[int, Placement] = {}
        #: Secondary controllers: id to (online, VQ resources, VI resources).
        self.secondary: dict[int, list[int]] = {0x101: [0, 0, 0], 0x102: [0, 0, 0]}
        self.primary_flexible = {0: 0, 1: 0}

    def placement(self, group: int) -> Placement:
        """Return the data placement of an endurance group."""
        return self._placements.setdefault(group, Placement(self.configuration))

    def forget_placement(self, group: int) -> None:
        """Be without an endurance group's."""
        self._placements.pop(group, None)

    @property
    def unallocated(self) -> int:
        """Bytes that are of no namespace."""
        return len(self.memory) - sum(len(ns.media) for ns in self.namespaces.values())

    def room(self, size: int) -> int | None:
        """Find where so many bytes are free; None: nowhere in one piece."""
        at = 0
        for ns in sorted(self.namespaces.values(), key=lambda ns: ns.offset):
            if ns.offset - at >= size:
                return at
            at = ns.offset + len(ns.media)
        return at if len(self.memory) - at >= size else None

    def create(self, blocks: int, index: int = 0) -> Namespace:
        """Make a namespace of the first id that is free, attached to no controller."""
        form = self.formats[index]
        size = blocks << form.shift
        require(size, GenericStatus.INVALID_FIELD)
        offset = self.room(size)
        require(offset is not None, CommandSpecificStatus.NAMESPACE_INSUFFICIENT_CAPACITY)
        assert offset is not None
        free = (nsid for nsid in range(1, MOST_NAMESPACES + 1) if nsid not in self.namespaces)
        nsid = next(free, 0)
        require(nsid, CommandSpecificStatus.NAMESPACE_ID_UNAVAILABLE)
        media = self.memory[offset : offset + size]
        ns = self.namespaces[nsid] = Namespace(
            nsid, media, offset, form, index, blocks, self.storage.zero
        )
        return ns

    def record(self, kind: int, data: bytes, cntlid: int) -> None:
        """Add an event to the Persistent Event log."""
        self.events.appendleft((kind, data, cntlid))

    def wake(self, controller: Controller, delay: float = 0.0) -> None:
        """Have a controller look at what has happened, from a thread of no controller's."""
        self.timers = [each for each in self.timers if each[0].is_alive()]
        timer = threading.Timer(delay, controller.look)
        timer.daemon = True
        timer.start()
        self.timers.append((timer, controller))

    def notify(self, event: AsyncEventResult, chosen: Callable[[Controller], bool]) -> None:
        """Report an event by those of the controllers that have it enabled."""
        for controller in list(self.controllers.values()):
            if chosen(controller):
                if event not in controller.pending:
                    controller.pending.append(event)
                self.wake(controller)

    def leave(self, controller: Controller) -> None:
        """Be without a controller from now on. Safe to call twice."""
        with self.lock:
            gone = [timer for timer, whose in self.timers if whose is controller]
            self.timers = [each for each in self.timers if each[1] is not controller]
            if self.controllers.get(controller.cntlid) is controller:
                del self.controllers[controller.cntlid]
        for timer in gone:
            timer.cancel()
            timer.join()

    def take(self) -> None:
        """Use the storage until :meth:`release`."""
        self.users += 1

    def release(self) -> None:
        """Use it no more: after the last user it is closed."""
        self.users -= 1
        if not self.users:
            # Views of memory that goes.
            self.namespaces.clear()
            self.memory = memoryview(b"")
            self.storage.close()


class Controller:
    """A controller of the model: what it has for itself."""

    def __init__(self, subsystem: Subsystem, core: Core, mdts: int, queues: int) -> None:
        self.subsystem = subsystem
        self.core = core
        self.mdts = mdts
        self.queues = queues
        self.cntlid = max(subsystem.controllers, default=-1) + 1
        self.resets = 0
        subsystem.controllers[self.cntlid] = self
        #: Pages that were set, by log identifier.
        self.pages: dict[int, bytes] = {}
        self.errors: deque[ErrorLogEntry] = deque(maxlen=ERROR_ENTRIES)
        self.error_count = 0
        #: Values of features: (value, data) by feature, namespace and selector.
        self.current: dict[tuple[int, ...], tuple[int, bytes]] = {}
        self.saved: dict[tuple[int, ...], tuple[int, bytes]] = {}
        self.pending: deque[AsyncEventResult] = deque()
        #: Types of events that are not reported again before their log page is read.
        self.masked: dict[int, int] = {}
        self.changed: set[int] = set()
        self.changed_allocated: set[int] = set()
        self.temperature = 300
        self.warned = False
        self.self_test: tuple[Operation, int, int] | None = None
        self.self_tests: deque[SelfTestResult] = deque(maxlen=20)
        self.telemetry = b""
        self.telemetry_number = 0
        self.own_telemetry: tuple[int, bytes] | None = None
        self.event_context: bytes | None = None
        self.notifications: deque[tuple[int, int, int]] = deque(maxlen=255)
        self.notified = 0
        self.host_id = bytes(16)
        self.time_set: tuple[int, float] | None = None  # ms, and when that was
        self.security: dict[int, bytes] = {}
        self.rpmb = Rpmb()
        self.configuration: dict[int, int] = {}  # of NVMe-MI
        self.fused: dict[tuple[int, int], bool] = {}
        self.told: tuple[int, int, int] | None = None  # to C, of namespace 1

    @property
    def max_transfer(self) -> int:
        """Bytes that one command moves at most."""
        return 4096 << self.mdts if self.mdts else 1 << 40

    def namespace(self, nsid: int) -> Namespace:
        """Return an active namespace."""
        ns = self.subsystem.namespaces.get(nsid)
        require(0 < nsid <= MOST_NAMESPACES, GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
        if ns is None or self.cntlid not in ns.controllers:
            raise Refused(GenericStatus.INVALID_FIELD)
        return ns

    def addressed(self, nsid: int) -> list[Namespace]:
        """Return one active namespace, or all for the broadcast id."""
        if nsid == NSID_ALL:
            return [ns for ns in self.subsystem.namespaces.values() if self.is_attached(ns)]
        return [self.namespace(nsid)]

    def is_attached(self, ns: Namespace) -> bool:
        """Tell whether a namespace is active here."""
        return self.cntlid in ns.controllers

    def report(self, kind: AsyncEventType, info: int, lid: LogId) -> None:
        """Report an event when it can be. Whoever holds the lock looks for events afterwards."""
        event = AsyncEventResult.build(aet=kind, aei=info, lid=lid)
        if event not in self.pending:
            self.pending.append(event)

    def seen(self, lid: int) -> None:
        """Take note that a log page was read to its end: its events can come again."""
        self.masked = {kind: page for kind, page in self.masked.items() if page != lid}
        match lid:
            case LogId.CHANGED_NAMESPACES:
                self.changed.clear()
            case LogId.CHANGED_ALLOCATED_NAMESPACES:
                self.changed_allocated.clear()
            case LogId.TELEMETRY_CONTROLLER:
                self.own_telemetry = None
            case LogId.RESERVATION_NOTIFICATION if self.notifications:
                self.notifications.popleft()

    def milliseconds(self) -> int:
        """Return its timestamp: since it was set, or since the subsystem is there."""
        at, since = self.time_set or (0, self.subsystem.started)
        return at + int(1000 * (time.monotonic() - since))

    def counted(self) -> dict[str, int]:
        """Return its counts of I/O commands."""
        log = self.core.log()
        return {name: int(getattr(log, name)) for name in ("reads", "writes", "trims", "flushes")}

    def look(self) -> None:
        """See what has happened: without the lock, and in no other controller's thread."""
        with contextlib.suppress(ClosedError):
            self.core.ask_events()
