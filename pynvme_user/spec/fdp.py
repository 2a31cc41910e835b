"""I/O Management Receive and Send, for Flexible Data Placement (NVMe Base 2.1, 7.3, 7.4).

A placement identifier is what DSPEC of a write names, with DTYPE 2 (Data Placement): a
reclaim group and a placement handle.
"""

from enum import IntEnum

from .fields import U16, U32, U64, Bits, Register, Reserved, ReservedBytes, Struct
from .lists import NoHeader, StructList

MOST_PLACEMENT_IDS = 1 << 16  # that one Reclaim Unit Handle Update may name


class ManagementReceive(IntEnum):
    """MO of I/O Management Receive."""

    NO_ACTION = 0
    RECLAIM_UNIT_HANDLE_STATUS = 1
    VENDOR_SPECIFIC = 0xFF


class ManagementSend(IntEnum):
    """MO of I/O Management Send."""

    NO_ACTION = 0
    RECLAIM_UNIT_HANDLE_UPDATE = 1
    VENDOR_SPECIFIC = 0xFF


class ManagementReceiveCdw10(Register, width=32):
    """I/O Management Receive, dword 10 (7.3); dword 11 is the number of dwords, zero-based."""

    mo = Bits(7, 0, "Management Operation", ManagementReceive)
    _r15_8 = Reserved(15, 8)
    mos = Bits(31, 16, "Management Operation Specific")


class ManagementSendCdw10(Register, width=32):
    """I/O Management Send, dword 10 (7.4)."""

    mo = Bits(7, 0, "Management Operation", ManagementSend)
    _r15_8 = Reserved(15, 8)
    mos = Bits(
        31, 16, "Management Operation Specific: for an update the number of ids (zero-based)"
    )


class ReclaimUnitHandleStatusHeader(Struct, size=16):
    """The first bytes of the Reclaim Unit Handle Status."""

    _rsvd0 = ReservedBytes(0, 14)
    nruhsd = U16(14, "Number of Reclaim Unit Handle Status Descriptors")


class ReclaimUnitHandleDescriptor(Struct, size=32):
    """Reclaim Unit Handle Status Descriptor (7.3.1.1)."""

    pid = U16(0, "Placement Identifier")
    ruhid = U16(2, "Reclaim Unit Handle Identifier")
    earutr = U32(4, "Estimated Active Reclaim Unit Time Remaining (s)")
    ruamw = U64(8, "Reclaim Unit Available Media Writes (blocks)")
    _rsvd16 = ReservedBytes(16, 16)


class ReclaimUnitHandleStatus(
    StructList[ReclaimUnitHandleStatusHeader, ReclaimUnitHandleDescriptor],
    header=ReclaimUnitHandleStatusHeader,
    element=ReclaimUnitHandleDescriptor,
    count="nruhsd",
):
    """Reclaim Unit Handle Status (7.3.1.1): one descriptor for each placement id there is."""


class PlacementIdList(StructList[NoHeader, int], element=2):
    """Placement Identifier List (7.4.1.1): the data of a Reclaim Unit Handle Update."""
