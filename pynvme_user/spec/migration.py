"""Migration of a controller: Controller Data Queue, Track and Migration Send and Receive.

NVMe Base 2.1, 5.1.4, 5.1.16, 5.1.17, 5.1.26, 5.1.27. Counts that the specification calls
"0's based" say zero-based. The data of Track Send and Receive for memory changes is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from .fields import (
    U8,
    U16,
    U32,
    U64,
    U128,
    Bit,
    Bits,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Controller Data Queue


class DataQueueSelect(IntEnum):
    """SEL of Controller Data Queue."""

    CREATE = 0
    DELETE = 1


class DataQueueType(IntEnum):
    """QT, what a controller data queue is for."""

    USER_DATA_MIGRATION = 0


class ControllerDataQueueCdw10(Register, width=32):
    """Controller Data Queue, dword 10 (5.1.4); MOS of CREATE is the Queue Type."""

    sel = Bits(7, 0, "Select", DataQueueSelect)
    _r15_8 = Reserved(15, 8)
    qt = Bits(23, 16, "Queue Type", DataQueueType)
    _r31_24 = Reserved(31, 24)


class CreateDataQueueCdw11(Register, width=32):
    """Create Controller Data Queue, dword 11 (5.1.4.1.1); dword 12 is its size in dwords."""

    pc = Bit(0, "Physically Contiguous")
    _r15_1 = Reserved(15, 1)
    cntlid = Bits(31, 16, "Controller Identifier: Create Queue Specific of its one type")


class DeleteDataQueueCdw11(Register, width=32):
    """Delete Controller Data Queue, dword 11 (5.1.4.1.2)."""

    cdqid = Bits(15, 0, "Controller Data Queue Identifier")
    _r31_16 = Reserved(31, 16)


class CreateDataQueueResult(Register, width=32):
    """Create Controller Data Queue, the completion's dword 0 (5.1.4.2)."""

    cdqid = Bits(15, 0, "Controller Data Queue Identifier")
    _r31_16 = Reserved(31, 16)


# Track Send and Receive


class TrackSendSelect(IntEnum):
    """SEL of Track Send."""

    LOG_USER_DATA_CHANGES = 0
    TRACK_MEMORY_CHANGES = 1


class LoggingAction(IntEnum):
    """LACT, what LOG_USER_DATA_CHANGES does."""

    STOP = 0
    START = 1


class TrackSendCdw10(Register, width=32):
    """Track Send, dword 10 (5.1.27)."""

    sel = Bits(7, 0, "Select", TrackSendSelect)
    _r15_8 = Reserved(15, 8)
    mos = Bits(31, 16, "Management Operation Specific")


class LogUserDataChangesMos(Register, width=16):
    """MOS of Track Send, LOG_USER_DATA_CHANGES (5.1.27.1.1)."""

    lact = Bits(3, 0, "Logging Action", LoggingAction)
    _r15_4 = Reserved(15, 4)


class TrackMemoryChangesMos(Register, width=16):
    """MOS of Track Send, TRACK_MEMORY_CHANGES (5.1.27.1.2)."""

    tact = Bit(0, "Tracking Action (1: start)")
    _r15_1 = Reserved(15, 1)


class LogUserDataChangesCdw11(Register, width=32):
    """Track Send, LOG_USER_DATA_CHANGES, dword 11 (5.1.27.1.1)."""

    cdqid = Bits(15, 0, "Controller Data Queue Identifier")
    _r31_16 = Reserved(31, 16)


class TrackMemoryChangesCdw11(Register, width=32):
    """Track Send, TRACK_MEMORY_CHANGES, and Track Receive, dword 11 (5.1.26.1.1, 5.1.27.1.2)."""

    cntlid = Bits(15, 0, "Controller Identifier")
    _r31_16 = Reserved(31, 16)


class TrackReceiveSelect(IntEnum):
    """SEL of Track Receive."""

    TRACKED_MEMORY_CHANGES = 0


class TrackReceiveCdw10(Register, width=32):
    """Track Receive, dword 10 (5.1.26); dword 12 is the number of dwords, zero-based."""

    sel = Bits(7, 0, "Select", TrackReceiveSelect)
    _r31_8 = Reserved(31, 8)


# Migration Send and Receive


class MigrationSendSelect(IntEnum):
    """SEL of Migration Send."""

    SUSPEND = 0
    RESUME = 1
    SET_CONTROLLER_STATE = 2


class SequenceIndicator(IntEnum):
    """SEQIND, the place of a command among those that bring a controller's state."""

    MIDDLE = 0
    FIRST = 1
    LAST = 2
    ONLY = 3


class MigrationSendCdw10(Register, width=32):
    """Migration Send, dword 10 (5.1.17); MOS of SET_CONTROLLER_STATE is the Sequence Indicator."""

    sel = Bits(7, 0, "Select", MigrationSendSelect)
    _r15_8 = Reserved(15, 8)
    seqind = Bits(17, 16, "Sequence Indicator", SequenceIndicator)
    _r31_18 = Reserved(31, 18)


class SuspendType(IntEnum):
    """STYPE, how SUSPEND goes about it."""

    NOTIFICATION = 0
    SUSPEND = 1


class SuspendCdw11(Register, width=32):
    """Migration Send, SUSPEND, dword 11 (5.1.17.1.1)."""

    cntlid = Bits(15, 0, "Controller Identifier")
    stype = Bits(23, 16, "Suspend Type", SuspendType)
    _r30_24 = Reserved(30, 24)
    dudmq = Bit(31, "Delete User Data Migration Queue")


class ResumeCdw11(Register, width=32):
    """Migration Send, RESUME, dword 11 (5.1.17.1.2)."""

    cntlid = Bits(15, 0, "Controller Identifier")
    _r31_16 = Reserved(31, 16)


class SetControllerStateCdw11(Register, width=32):
    """Migration Send, SET_CONTROLLER_STATE, dword 11 (5.1.17.1.3).

    Dwords 12 and 13 are the offset, lower half first, dword 15 the number of dwords.
    """

    cntlid = Bits(15, 0, "Controller Identifier")
    csvi = Bits(23, 16, "Controller State Version Index")
    csuuidi = Bits(31, 24, "Controller State UUID Index")


class MigrationCdw14(Register, width=32):
    """Migration Send and Receive, dword 14 (5.1.16, 5.1.17)."""

    uidx = Bits(6, 0, "UUID Index (0: none)")
    _r31_7 = Reserved(31, 7)


class MigrationReceiveSelect(IntEnum):
    """SEL of Migration Receive."""

    GET_CONTROLLER_STATE = 0


class MigrationReceiveCdw10(Register, width=32):
    """Migration Receive, dword 10 (5.1.16); MOS is the Controller State Version Index."""

    sel = Bits(7, 0, "Select", MigrationReceiveSelect)
    _r15_8 = Reserved(15, 8)
    csvi = Bits(23, 16, "Controller State Version Index (0: no controller state)")
    _r31_24 = Reserved(31, 24)


class GetControllerStateCdw11(Register, width=32):
    """Migration Receive, GET_CONTROLLER_STATE, dword 11 (5.1.16.1.1).

    Dwords 12 and 13 are the offset, lower half first, dword 15 the number of dwords, zero-based.
    """

    cntlid = Bits(15, 0, "Controller Identifier")
    csuuidi = Bits(23, 16, "Controller State UUID Index (0: nothing vendor specific)")
    csuidxp = Bits(31, 24, "Controller State UUID Index Parameter")


class GetControllerStateResult(Register, width=32):
    """Migration Receive, GET_CONTROLLER_STATE, the completion's dword 0 (5.1.16.1.1)."""

    csup = Bit(0, "Controller Suspended")
    _r31_1 = Reserved(31, 1)


# A controller's state


class ControllerStateAttributes(Register, width=8):
    """Controller State Attributes (figure 358)."""

    csup = Bit(0, "Controller Suspended")
    _r7_1 = Reserved(7, 1)


class ControllerStateHeader(Struct, size=48):
    """The first bytes of a controller's state (figure 358)."""

    ver = U16(0, "Version")
    csattr = U8(2, "Controller State Attributes", bits=ControllerStateAttributes)
    _r3 = ReservedBytes(3, 13)
    nvmecss = U128(16, "NVMe Controller State Size (dwords)")
    vss = U128(32, "Vendor Specific Size (dwords)")


class NvmeControllerStateHeader(Struct, size=8):
    """The first bytes of the NVMe Controller State (figure 359)."""

    ver = U16(0, "Version")
    niosq = U16(2, "Number of I/O Submission Queues")
    niocq = U16(4, "Number of I/O Completion Queues")
    _r6 = ReservedBytes(6, 2)


class SubmissionQueueAttributes(Register, width=16):
    """I/O Submission Queue Attributes (figure 360)."""

    iosqpc = Bit(0, "Physically Contiguous")
    iosqprio = Bits(2, 1, "Queue Priority")
    _r15_3 = Reserved(15, 3)


class SubmissionQueueState(Struct, size=24):
    """I/O Submission Queue State (figure 360)."""

    iosqprp1 = U64(0, "PRP Entry 1")
    iosqqsize = U16(8, "Queue Size (zero-based)")
    iosqqid = U16(10, "Queue Identifier")
    iosqcqid = U16(12, "Completion Queue Identifier")
    iosqa = U16(14, "Attributes", bits=SubmissionQueueAttributes)
    iosqhp = U16(16, "Head Pointer")
    iosqtp = U16(18, "Tail Pointer")
    _r20 = ReservedBytes(20, 4)


class CompletionQueueAttributes(Register, width=32):
    """I/O Completion Queue Attributes (figure 361)."""

    iocqpc = Bit(0, "Physically Contiguous")
    iocqien = Bit(1, "Interrupts Enabled")
    s0pt = Bit(2, "Slot 0 Phase Tag")
    _r15_3 = Reserved(15, 3)
    iocqiv = Bits(31, 16, "Interrupt Vector")


class CompletionQueueState(Struct, size=24):
    """I/O Completion Queue State (figure 361)."""

    iocqprp1 = U64(0, "PRP Entry 1")
    iocqqsize = U16(8, "Queue Size (zero-based)")
    iocqqid = U16(10, "Queue Identifier")
    iocqhp = U16(12, "Head Pointer")
    iocqtp = U16(14, "Tail Pointer")
    iocqa = U32(16, "Attributes", bits=CompletionQueueAttributes)
    _r20 = ReservedBytes(20, 4)


@dataclass(frozen=True)
class ControllerState:
    """A controller's state, as Migration Receive brings it (figure 358).

    What its headers say is held against the bytes that there are: queues that are not there
    whole are left out, and `incomplete` says so.
    """

    header: ControllerStateHeader
    #: None where the header has none.
    nvme: NvmeControllerStateHeader | None
    submission_queues: tuple[SubmissionQueueState, ...]
    completion_queues: tuple[CompletionQueueState, ...]
    vendor: bytes
    incomplete: bool

    @classmethod
    def from_bytes(cls, buffer: ReadableBuffer) -> ControllerState:
        """Decode what `buffer` holds; ValueError if it is too short for the header."""
        raw = bytes(buffer)
        header = ControllerStateHeader.from_bytes(raw)
        begin = ControllerStateHeader.size
        state = raw[begin : begin + 4 * header.nvmecss]
        vendor_at = begin + 4 * header.nvmecss
        vendor = raw[vendor_at : vendor_at + 4 * header.vss]
        missing = len(vendor) < 4 * header.vss
        if len(state) < NvmeControllerStateHeader.size:
            return cls(header, None, (), (), vendor, missing or len(state) < 4 * header.nvmecss)
        nvme = NvmeControllerStateHeader.from_bytes(state)
        step = SubmissionQueueState.size
        places = range(NvmeControllerStateHeader.size, len(state) - step + 1, step)
        middle = nvme.niosq
        submission = tuple(SubmissionQueueState.from_bytes(state, at) for at in places[:middle])
        completion = tuple(
            CompletionQueueState.from_bytes(state, at)
            for at in places[middle : middle + nvme.niocq]
        )
        wanted = nvme.niosq + nvme.niocq
        missing = missing or len(submission) + len(completion) < wanted
        return cls(header, nvme, submission, completion, vendor, missing)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON's types."""
        return {
            **self.header.to_dict(),
            "nvme": None if self.nvme is None else self.nvme.to_dict(),
            "submission_queues": [queue.to_dict() for queue in self.submission_queues],
            "completion_queues": [queue.to_dict() for queue in self.completion_queues],
            "vendor": self.vendor.hex(),
        }

    def dump(self) -> list[str]:
        """Return the headers' lines, then each queue's below its name, indented."""
        lines = self.header.dump()
        if self.nvme is not None:
            lines += self.nvme.dump()
        queues: tuple[tuple[str, tuple[Struct, ...]], ...] = (
            ("I/O submission queue", self.submission_queues),
            ("I/O completion queue", self.completion_queues),
        )
        for name, states in queues:
            for index, queue in enumerate(states):
                lines += [f"{name} [{index}]", *("  " + line for line in queue.dump())]
        return lines
