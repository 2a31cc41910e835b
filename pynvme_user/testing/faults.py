"""What the software controller can be told to do wrong: a fault, and the commands it is for.

    soft = SoftDevice("")
    with nvme.open(soft) as ctrl:
        soft.order(faults.status(GenericStatus.INTERNAL_ERROR), opc=NvmOpcode.READ, nth=3)

Of the rules that match a command, the first does with it what it says. Faults of data, such as
:func:`torn_write`, act beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from pynvme_user.spec.commands import SQE
from pynvme_user.spec.status import Status, StatusCode
from pynvme_user.testing.core import Core, ffi, lib


class Outcome(Enum):
    """What a rule's function may say of a command instead of its status."""

    EXECUTE = lib.CONTROLLER_ANSWER_EXECUTE  #: as if there were no rule
    KEEP = lib.CONTROLLER_ANSWER_KEEP  #: no completion before it is aborted or released
    LOSE = lib.CONTROLLER_ANSWER_LOSE  #: no completion ever, and no Abort finds it
    FATAL = lib.CONTROLLER_ANSWER_FATAL  #: the controller reports a fatal error
    GONE = lib.CONTROLLER_ANSWER_GONE  #: the controller is gone


class Command:
    """A command that a rule's function is asked about, for as long as that lasts."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.sqe = SQE.from_bytes(ffi.buffer(call.sqe, 64)[:])
        self.qid = int(call.qid)

    @property
    def dw0(self) -> int:
        """Dword 0 of its completion, where it is not executed."""
        return int(self._call.dw0)

    @dw0.setter
    def dw0(self, value: int) -> None:
        self._call.dw0 = value

    @property
    def dw1(self) -> int:
        """Dword 1 of its completion."""
        return int(self._call.dw1)

    @dw1.setter
    def dw1(self, value: int) -> None:
        self._call.dw1 = value

    @property
    def next(self) -> SQE | None:
        """The command that was announced with it, right behind it; None if there is none."""
        after = self._call.next
        return SQE.from_bytes(ffi.buffer(after, 64)[:]) if after else None

    def fill_at(self, iova: int, data: bytes) -> Status:
        """Move data to memory of the host that another field of the command names."""
        memory = ffi.from_buffer("uint8_t[]", data)
        return Status(lib.controller_call_move_at(self._call, 1, iova, memory, len(data)))

    def data_at(self, iova: int, length: int) -> bytes:
        """Return bytes of such memory. Raises ValueError for memory that is not mapped."""
        memory = ffi.new("uint8_t[]", length)
        status = Status(lib.controller_call_move_at(self._call, 0, iova, memory, length))
        if not status.ok:
            raise ValueError(f"the command's pointer does not do: {status.text}")
        return bytes(ffi.buffer(memory))

    def fill(self, data: bytes) -> Status:
        """Move data to its memory in the host. Returns what the controller would complete with."""
        return Status(
            lib.controller_call_move(self._call, 1, ffi.from_buffer("uint8_t[]", data), len(data))
        )

    def data(self, length: int) -> bytes:
        """Return that many bytes of its memory in the host. Raises ValueError for a bad pointer."""
        memory = ffi.new("uint8_t[]", length)
        status = Status(lib.controller_call_move(self._call, 0, memory, length))
        if not status.ok:
            raise ValueError(f"the command's data pointer does not do: {status.text}")
        return bytes(ffi.buffer(memory))

    def post(self, cid: int, status: Status | StatusCode | int = 0) -> None:
        """Post a completion beside the one that it gets, under whatever CID. Raises ValueError."""
        if lib.controller_post(self._call.controller, self.qid, cid, status_number(status), 0):
            raise ValueError("the completion queue has no room")


@dataclass(frozen=True)
class Fault:
    """What a rule does with its commands. Made by the functions below."""

    action: int
    value: int = 0
    answer: Callable[[Any], int] | None = None


def status_number(status: Status | StatusCode | int) -> int:
    """Return the 15 bits of a status, of a code's, or the number itself."""
    return int(Status.of(status)) if isinstance(status, StatusCode) else int(status)


def none() -> Fault:
    """Do nothing wrong: for a rule that only counts, or delays."""
    return Fault(lib.CONTROLLER_EXECUTE)


def status(status: Status | StatusCode | int) -> Fault:
    """Do not execute it: it ends with that status."""
    return Fault(lib.CONTROLLER_STATUS, status_number(status))


def keep() -> Fault:
    """Do not execute it, nor complete it until it is aborted or released."""
    return Fault(lib.CONTROLLER_KEEP)


def lose() -> Fault:
    """Do not execute it, nor ever complete it; no Abort finds it."""
    return Fault(lib.CONTROLLER_LOSE)


def twice() -> Fault:
    """Complete it twice."""
    return Fault(lib.CONTROLLER_TWICE)


def wrong_cid(mask: int = 1) -> Fault:
    """Complete it under its CID with these bits inverted."""
    return Fault(lib.CONTROLLER_WRONG_CID, mask)


def wrong_sqid(mask: int = 1) -> Fault:
    """Complete it for the queue whose id has these bits inverted."""
    return Fault(lib.CONTROLLER_WRONG_SQID, mask)


def wrong_phase() -> Fault:
    """Complete it with the phase tag of what was there before, so that nobody sees it."""
    return Fault(lib.CONTROLLER_WRONG_PHASE)


def fatal() -> Fault:
    """Report a fatal error (CSTS.CFS), and do nothing more until a reset."""
    return Fault(lib.CONTROLLER_FATAL)


def gone() -> Fault:
    """Be gone: registers read all ones."""
    return Fault(lib.CONTROLLER_GONE)


def read_flip(bit: int = 0) -> Fault:
    """Get that bit of what a read brings wrong."""
    return Fault(lib.CONTROLLER_READ_FLIP, bit)


def write_flip(bit: int = 0) -> Fault:
    """Get that bit of what a write stores wrong."""
    return Fault(lib.CONTROLLER_WRITE_FLIP, bit)


def torn_write(blocks: int = 1) -> Fault:
    """Store only so many blocks, the first, of a longer write."""
    return Fault(lib.CONTROLLER_TORN_WRITE, blocks)


def lost_write() -> Fault:
    """Store nothing of a write."""
    return Fault(lib.CONTROLLER_LOST_WRITE)


def misdirected_write(blocks: int = 8) -> Fault:
    """Store a write so many blocks away."""
    return Fault(lib.CONTROLLER_MISDIRECTED, blocks)


def stale_read() -> Fault:
    """Read what was there before the last write, where the new data was read before."""
    return Fault(lib.CONTROLLER_STALE_READ)


def kept_trim() -> Fault:
    """Let what is deallocated stay, as the specification allows."""
    return Fault(lib.CONTROLLER_KEPT_TRIM)


def answer(function: Callable[[Command], Status | StatusCode | int | Outcome]) -> Fault:
    """Ask a function what becomes of it: a status, with which it ends, or an Outcome.

    It runs in the controller's thread, calls nothing of its device and its driver, and what it
    raises goes to sys.unraisablehook; the command ends with Internal Error then.
    """

    def ask(call: Any) -> int:
        said = function(Command(call))
        return int(said.value) if isinstance(said, Outcome) else status_number(said)

    return Fault(lib.CONTROLLER_ANSWER, answer=ask)


class Rule:
    """A fault that was ordered; with ``with`` it is removed at the block's end."""

    def __init__(self, core: Core, number: int) -> None:
        self._core = core
        self._number = number

    @property
    def seen(self) -> int:
        """How many commands matched."""
        return self._core.counts(self._number)[0]

    @property
    def acted(self) -> int:
        """In how many of them it acted."""
        return self._core.counts(self._number)[1]

    def remove(self) -> None:
        """Let commands alone from now on. Safe to call twice."""
        self._core.remove_rule(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
