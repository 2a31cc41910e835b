"""Directive Send and Receive (NVMe Base 2.1, 5.1.6, 5.1.7), and the directives (8.1.8).

Dword 10 is the number of dwords, zero-based. Data Placement has no operations: it is enabled by
the Identify directive, and `fdp` has its commands.
"""

from enum import IntEnum

from .fields import U8, U16, U32, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .lists import StructList


class DirectiveType(IntEnum):
    """DTYPE, a directive."""

    IDENTIFY = 0x00
    STREAMS = 0x01
    DATA_PLACEMENT = 0x02
    VENDOR_SPECIFIC = 0x0F


class DirectiveCdw11(Register, width=32):
    """Directive Send and Receive, dword 11 (5.1.6, 5.1.7)."""

    doper = Bits(7, 0, "Directive Operation")
    dtype = Bits(15, 8, "Directive Type", DirectiveType)
    dspec = Bits(31, 16, "Directive Specific (with STREAMS: the stream identifier)")


# Identify


class IdentifyReceive(IntEnum):
    """DOPER of Directive Receive with IDENTIFY."""

    RETURN_PARAMETERS = 0x01


class IdentifySend(IntEnum):
    """DOPER of Directive Send with IDENTIFY."""

    ENABLE_DIRECTIVE = 0x01


class EnableDirectiveCdw12(Register, width=32):
    """Enable Directive, dword 12 (8.1.8.2.2)."""

    endir = Bit(0, "Enable Directive (0: disable)")
    _r7_1 = Reserved(7, 1)
    dtype = Bits(15, 8, "Directive Type", DirectiveType)
    _r31_16 = Reserved(31, 16)


class Directives(Register, width=16):
    """A bit for each directive."""

    idir = Bit(0, "Identify Directive")
    sdir = Bit(1, "Streams Directive")
    dpdir = Bit(2, "Data Placement Directive")
    _r14_3 = Reserved(14, 3)
    vsdir = Bit(15, "Vendor Specific Directive")


class DirectiveParameters(Struct, size=4096):
    """Identify Directive: Return Parameters (8.1.8.2.1)."""

    supported = U16(0, "Directives Supported", bits=Directives)
    _r2 = ReservedBytes(2, 30)
    enabled = U16(32, "Directives Enabled", bits=Directives)
    _r34 = ReservedBytes(34, 30)
    persistent = U16(64, "Directive Persistent Across Controller Level Resets", bits=Directives)
    _r66 = ReservedBytes(66, 4030)


# Streams


class StreamsReceive(IntEnum):
    """DOPER of Directive Receive with STREAMS."""

    RETURN_PARAMETERS = 0x01
    GET_STATUS = 0x02
    ALLOCATE_RESOURCES = 0x03


class StreamsSend(IntEnum):
    """DOPER of Directive Send with STREAMS."""

    RELEASE_IDENTIFIER = 0x01
    RELEASE_RESOURCES = 0x02


class StreamCapability(Register, width=8):
    """NVM Subsystem Stream Capability (8.1.8.3.1)."""

    ssid = Bit(0, "Shared Stream Identifiers")
    srnzid = Bit(1, "Streams Require Non-Zero Host Identifier")
    _r7_2 = Reserved(7, 2)


class StreamsParameters(Struct, size=32):
    """Streams Directive: Return Parameters (8.1.8.3.1)."""

    msl = U16(0, "Max Streams Limit")
    nssa = U16(2, "NVM Subsystem Streams Available")
    nsso = U16(4, "NVM Subsystem Streams Open")
    nssc = U8(6, "NVM Subsystem Stream Capability", bits=StreamCapability)
    _r7 = ReservedBytes(7, 9)
    sws = U32(16, "Stream Write Size (logical blocks)")
    sgs = U16(20, "Stream Granularity Size (units of SWS)")
    nsa = U16(22, "Namespace Streams Allocated")
    nso = U16(24, "Namespace Streams Open")
    _r26 = ReservedBytes(26, 6)


class StreamsStatusHeader(Struct, size=2):
    """The first bytes of the streams' status."""

    osc = U16(0, "Open Stream Count")


class StreamsStatus(
    StructList[StreamsStatusHeader, int], header=StreamsStatusHeader, element=2, count="osc"
):
    """Streams Directive: Get Status (8.1.8.3.1): the identifiers of open streams, ascending."""


class AllocateResourcesCdw12(Register, width=32):
    """Allocate Resources, dword 12 (8.1.8.3.1)."""

    nsr = Bits(15, 0, "Namespace Streams Requested")
    _r31_16 = Reserved(31, 16)


class AllocateResourcesResult(Register, width=32):
    """Allocate Resources, the completion's dword 0 (8.1.8.3.1)."""

    nsa = Bits(15, 0, "Namespace Streams Allocated")
    _r31_16 = Reserved(31, 16)


#: What Directive Receive brings, by DTYPE and DOPER; None where it brings no data.
DIRECTIVE_DATA: dict[
    tuple[int, int], type[DirectiveParameters | StreamsParameters | StreamsStatus] | None
] = {
    (DirectiveType.IDENTIFY, IdentifyReceive.RETURN_PARAMETERS): DirectiveParameters,
    (DirectiveType.STREAMS, StreamsReceive.RETURN_PARAMETERS): StreamsParameters,
    (DirectiveType.STREAMS, StreamsReceive.GET_STATUS): StreamsStatus,
    (DirectiveType.STREAMS, StreamsReceive.ALLOCATE_RESOURCES): None,
}
