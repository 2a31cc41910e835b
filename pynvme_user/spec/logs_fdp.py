"""Log pages of Flexible Data Placement: each of one Endurance Group, which LSI names.

Sections and names are those of NVMe Base 2.1, where TP4146 was taken in.
"""

from enum import IntEnum

from .fields import (
    U8,
    U16,
    U32,
    U64,
    U128,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)
from .lists import StructList
from .logs_events import EventTimestamp


class ReclaimUnitHandleType(IntEnum):
    """RUHT, what becomes of data that the controller moves."""

    INITIALLY_ISOLATED = 1
    PERSISTENTLY_ISOLATED = 2


class FDPA(Register, width=8):
    """FDP Attributes."""

    rgif = Bits(3, 0, "Reclaim Group Identifier Format, in bits of a Placement Identifier")
    fdpvwc = Bit(4, "FDP Volatile Write Cache")
    _r6_5 = Reserved(6, 5)
    fdpcv = Bit(7, "FDP Configuration Valid")


class ReclaimUnitHandle(Struct, size=4):
    """Reclaim Unit Handle Descriptor (5.1.12.1.28)."""

    ruht = U8(0, "Reclaim Unit Handle Type", names=ReclaimUnitHandleType)
    _rsvd1 = ReservedBytes(1, 3)


class FdpConfigurationHeader(Struct, size=64):
    """FDP Configuration Descriptor, before the Reclaim Unit Handles."""

    dsze = U16(0, "Descriptor Size, in bytes")
    fdpa = U8(2, "FDP Attributes", bits=FDPA)
    vss = U8(3, "Vendor Specific Size, in bytes")
    nrg = U32(4, "Number of Reclaim Groups")
    nruh = U16(8, "Number of Reclaim Unit Handles")
    maxpids = U16(10, "Max Placement Identifiers (zero-based)")
    nnss = U32(12, "Number of Namespaces Supported")
    runs = U64(16, "Reclaim Unit Nominal Size, in bytes")
    erutl = U32(24, "Estimated Reclaim Unit Time Limit, in seconds; 0: not reported")
    _rsvd28 = ReservedBytes(28, 36)


class FdpConfiguration(
    StructList[FdpConfigurationHeader, ReclaimUnitHandle],
    header=FdpConfigurationHeader,
    element=ReclaimUnitHandle,
    count="nruh",
    length=lambda header: header.dsze,
):
    """FDP Configuration Descriptor (5.1.12.1.28): its Reclaim Unit Handles, by identifier."""

    @property
    def vs(self) -> bytes:
        """What the vendor put behind the handles."""
        at = ReclaimUnitHandle.size * self.header.nruh
        return self.data[at : at + self.header.vss]


class FdpConfigurationsHeader(Struct, size=16):
    """FDP Configurations, before them."""

    numfdpc = U16(0, "Number of FDP Configurations (zero-based)")
    ver = U8(2, "Version")
    _rsvd3 = ReservedBytes(3, 1)
    sze = U32(4, "Size of the page, in bytes")
    _rsvd8 = ReservedBytes(8, 8)


class FdpConfigurationsLog(
    StructList[FdpConfigurationsHeader, FdpConfiguration],
    header=FdpConfigurationsHeader,
    element=FdpConfiguration,
    count=lambda header: header.numfdpc + 1,
):
    """FDP Configurations (log identifier 20h, 5.1.12.1.28)."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.sze


class ReclaimUnitHandleAttributes(IntEnum):
    """RUHA, who uses a Reclaim Unit Handle."""

    UNUSED = 0
    HOST_SPECIFIED = 1
    CONTROLLER_SPECIFIED = 2


class ReclaimUnitHandleUsage(Struct, size=8):
    """Reclaim Unit Handle Usage Descriptor (5.1.12.1.29)."""

    ruha = U8(0, "Reclaim Unit Handle Attributes", names=ReclaimUnitHandleAttributes)
    _rsvd1 = ReservedBytes(1, 7)


class ReclaimUnitHandleUsageHeader(Struct, size=8):
    """Reclaim Unit Handle Usage, before the handles."""

    nruh = U16(0, "Number of Reclaim Unit Handles")
    _rsvd2 = ReservedBytes(2, 6)


class ReclaimUnitHandleUsageLog(
    StructList[ReclaimUnitHandleUsageHeader, ReclaimUnitHandleUsage],
    header=ReclaimUnitHandleUsageHeader,
    element=ReclaimUnitHandleUsage,
    count="nruh",
):
    """Reclaim Unit Handle Usage (log identifier 21h, 5.1.12.1.29): by handle."""


class FdpStatisticsLog(Struct, size=64):
    """FDP Statistics (log identifier 22h, 5.1.12.1.30)."""

    hbmw = U128(0, "Host Bytes with Metadata Written")
    mbmw = U128(16, "Media Bytes with Metadata Written")
    mbe = U128(32, "Media Bytes Erased")
    _rsvd48 = ReservedBytes(48, 16)


class FdpEventType(IntEnum):
    """ETYP, below 80h of the host, from 80h on of the controller."""

    RECLAIM_UNIT_NOT_FULLY_WRITTEN = 0
    RECLAIM_UNIT_TIME_LIMIT_EXCEEDED = 1
    RESET_MODIFIED_RECLAIM_UNIT_HANDLES = 2
    INVALID_PLACEMENT_IDENTIFIER = 3
    MEDIA_REALLOCATED = 0x80
    IMPLICITLY_MODIFIED_RECLAIM_UNIT_HANDLE = 0x81


class FdpEventsLsp(Register, width=7):
    """Log Specific Parameter of FDP Events."""

    fdpet = Bit(0, "FDP Event Type (0: of the controller, 1: of the host)")
    _r6_1 = Reserved(6, 1)


class FDPEF(Register, width=8):
    """FDP Event Flags."""

    piv = Bit(0, "Placement Identifier Valid")
    nsidv = Bit(1, "NSID Valid")
    lv = Bit(2, "Location Valid")
    _r7_3 = Reserved(7, 3)


class SEF(Register, width=8):
    """Specific Event Flags of Media Reallocated."""

    lbav = Bit(0, "LBA Valid")
    _r7_1 = Reserved(7, 1)


class MediaReallocated(Struct, size=16):
    """Media Reallocated, what an FDP event of this type tells (NVM Command Set 1.1, 4.1.4.7)."""

    sef = U8(0, "Specific Event Flags", bits=SEF)
    _rsvd1 = ReservedBytes(1, 1)
    nlbam = U16(2, "Number of LBAs Moved; 0: not reported, FFFFh: that or more")
    lba = U64(4, "Logical Block Address, one of those moved")
    _rsvd12 = ReservedBytes(12, 4)


class FdpEvent(Struct, size=64):
    """FDP Event (5.1.12.1.31)."""

    etyp = U8(0, "Event Type", names=FdpEventType)
    fdpef = U8(1, "FDP Event Flags", bits=FDPEF)
    pid = U16(2, "Placement Identifier")
    etmsp = U64(4, "Event Timestamp", bits=EventTimestamp)
    nsid = U32(12, "Namespace Identifier")
    etsp = Raw(16, 16, "Event Type Specific")
    rgid = U16(32, "Reclaim Group Identifier")
    ruhid = U16(34, "Reclaim Unit Handle Identifier")
    _rsvd36 = ReservedBytes(36, 4)
    vs = Raw(40, 24, "Vendor Specific")

    @property
    def media_reallocated(self) -> MediaReallocated | None:
        """`etsp` of an event of this type; None for another."""
        if self.etyp != FdpEventType.MEDIA_REALLOCATED:
            return None
        return MediaReallocated.from_bytes(self.etsp)


class FdpEventsHeader(Struct, size=64):
    """FDP Events, before them."""

    numfdpe = U32(0, "Number of FDP Events")
    _rsvd4 = ReservedBytes(4, 60)


class FdpEventsLog(
    StructList[FdpEventsHeader, FdpEvent],
    header=FdpEventsHeader,
    element=FdpEvent,
    count="numfdpe",
):
    """FDP Events (log identifier 23h, 5.1.12.1.31): the oldest first."""
