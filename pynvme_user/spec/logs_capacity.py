"""Log pages about Endurance Groups, NVM Sets and media units: latency, events, capacity.

Sections and names are those of NVMe Base 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, Self

from .fields import U8, U16, U64, U128, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .lists import StructList


class PredictableLatencyWindow(IntEnum):
    """Status of Predictable Latency Mode for an NVM Set."""

    NOT_USED = 0
    DETERMINISTIC = 1
    NON_DETERMINISTIC = 2


class PredictableLatencyStatus(Register, width=8):
    """Status of Predictable Latency Mode."""

    wstat = Bits(2, 0, "Window Status", PredictableLatencyWindow)
    _r7_3 = Reserved(7, 3)


class PredictableLatencyEvents(Register, width=16):
    """Event Type of Predictable Latency Per NVM Set."""

    dtwinrw = Bit(0, "DTWIN Reads Warning")
    dtwinww = Bit(1, "DTWIN Writes Warning")
    dtwintw = Bit(2, "DTWIN Time Warning")
    _r13_3 = Reserved(13, 3)
    atdtve = Bit(14, "Autonomous transition to NDWIN: a typical or maximum value was exceeded")
    atdtde = Bit(15, "Autonomous transition to NDWIN: Deterministic Excursion")


class PredictableLatencyLog(Struct, size=512):
    """Predictable Latency Per NVM Set (log identifier 0Ah, 5.1.12.1.11)."""

    stat = U8(0, "Status", bits=PredictableLatencyStatus)
    _rsvd1 = ReservedBytes(1, 1)
    et = U16(2, "Event Type", bits=PredictableLatencyEvents)
    _rsvd4 = ReservedBytes(4, 28)
    dtwinrt = U64(32, "DTWIN Reads Typical, in 4 KiB blocks")
    dtwinwt = U64(40, "DTWIN Writes Typical, in optimal write size units")
    dtwintm = U64(48, "DTWIN Time Maximum, in milliseconds")
    ndwintmh = U64(56, "NDWIN Time Minimum High, in milliseconds")
    ndwintml = U64(64, "NDWIN Time Minimum Low, in milliseconds")
    _rsvd72 = ReservedBytes(72, 56)
    dtwinre = U64(128, "DTWIN Reads Estimate, in 4 KiB blocks")
    dtwinwe = U64(136, "DTWIN Writes Estimate, in optimal write size units")
    dtwinte = U64(144, "DTWIN Time Estimate, in milliseconds")
    _rsvd152 = ReservedBytes(152, 360)


class AggregateHeader(Struct, size=8):
    """An event aggregate, before the identifiers."""

    ne = U64(0, "Number of Entries")


class PredictableLatencyAggregateLog(
    StructList[AggregateHeader, int], header=AggregateHeader, element=2, count="ne"
):
    """Predictable Latency Event Aggregate (log identifier 0Bh, 5.1.12.1.12): NVM Sets by id."""


class EnduranceGroupAggregateLog(
    StructList[AggregateHeader, int], header=AggregateHeader, element=2, count="ne"
):
    """Endurance Group Event Aggregate (log identifier 0Fh, 5.1.12.1.15): groups by id."""


class MediaUnitStatusHeader(Struct, size=14):
    """Media Unit Status Descriptor, before the channels."""

    muid = U16(0, "Media Unit Identifier")
    did = U16(2, "Domain Identifier; 0: not reported")
    endgid = U16(4, "Endurance Group Identifier; 0: of none")
    nvmsetid = U16(6, "NVM Set Identifier")
    caf = U16(8, "Capacity Adjustment Factor; 0: not reported")
    avsp = U8(10, "Available Spare, in percent")
    pused = U8(11, "Percentage Used; up to 255")
    mucs = U8(12, "Number of Channels")
    cio = U8(13, "Channel Identifiers Offset, in bytes")


class MediaUnitStatus(
    StructList[MediaUnitStatusHeader, int],
    header=MediaUnitStatusHeader,
    element=2,
    count="mucs",
    start=lambda header: header.cio,
):
    """Media Unit Status Descriptor (5.1.12.1.16): its channels, by id."""


class MediaUnitStatusLogHeader(Struct, size=16):
    """Media Unit Status, before the media units."""

    nmu = U16(0, "Number of Media Unit Status Descriptors")
    cchans = U16(2, "Number of Channels; 0: not reported")
    selc = U16(4, "Selected Configuration; 0: none")
    _rsvd6 = ReservedBytes(6, 10)


class MediaUnitStatusLog(
    StructList[MediaUnitStatusLogHeader, MediaUnitStatus],
    header=MediaUnitStatusLogHeader,
    element=MediaUnitStatus,
    count="nmu",
):
    """Media Unit Status (log identifier 10h, 5.1.12.1.16)."""


class MediaUnitConfigurationHeader(Struct, size=8):
    """Media Unit Configuration Descriptor, before what may follow."""

    muid = U16(0, "Media Unit Identifier")
    _rsvd2 = ReservedBytes(2, 4)
    mudl = U16(6, "Media Unit Descriptor Length, in bytes")


class MediaUnitConfiguration(
    StructList[MediaUnitConfigurationHeader, int],
    header=MediaUnitConfigurationHeader,
    element=bytes,
    count="mudl",
):
    """Media Unit Configuration Descriptor (5.1.12.1.17); nothing follows it in Base 2.1."""


class ChannelConfigurationHeader(Struct, size=4):
    """Channel Configuration Descriptor, before the media units."""

    chid = U16(0, "Channel Identifier; FFFFh: not specified")
    chmus = U16(2, "Number of Channel Media Units")


class ChannelConfiguration(
    StructList[ChannelConfigurationHeader, MediaUnitConfiguration],
    header=ChannelConfigurationHeader,
    element=MediaUnitConfiguration,
    count="chmus",
):
    """Channel Configuration Descriptor (5.1.12.1.17)."""


class ChannelsHeader(Struct, size=2):
    """The channels of an Endurance Group, before them."""

    egchans = U16(0, "Number of Channels")


class Channels(
    StructList[ChannelsHeader, ChannelConfiguration],
    header=ChannelsHeader,
    element=ChannelConfiguration,
    count="egchans",
):
    """Channel Configuration Descriptor List of an Endurance Group (5.1.12.1.17)."""


class EnduranceGroupConfigurationHeader(Struct, size=82):
    """Endurance Group Configuration Descriptor, before the NVM Sets."""

    endgid = U16(0, "Endurance Group Identifier")
    cadjf = U16(2, "Capacity Adjustment Factor; 0: not reported")
    _rsvd4 = ReservedBytes(4, 12)
    tegcap = U128(16, "Total Endurance Group Capacity, in bytes")
    segcap = U128(32, "Spare Endurance Group Capacity, in bytes")
    ee = U128(48, "Endurance Estimate, in billions of bytes")
    _rsvd64 = ReservedBytes(64, 16)
    egsets = U16(80, "Number of NVM Sets")


class EnduranceGroupConfiguration(
    StructList[EnduranceGroupConfigurationHeader, int],
    header=EnduranceGroupConfigurationHeader,
    element=2,
    count="egsets",
):
    """Endurance Group Configuration Descriptor (5.1.12.1.17): NVM Sets by id, then `channels`."""

    __slots__ = ("channels",)

    #: What lies behind the NVM Sets.
    channels: Channels

    @classmethod
    def _decode(cls, raw: memoryview, stride: int = 0) -> Self:
        made = super()._decode(raw, stride)
        rest = raw[made.size :]
        short = made.incomplete or len(rest) < ChannelsHeader.size
        channels = Channels._decode(memoryview(bytes(ChannelsHeader.size)) if short else rest)
        for name, value in (
            ("_raw", bytes(made) if short else bytes(made) + bytes(channels)),
            ("channels", channels),
            ("incomplete", short or channels.incomplete),
        ):
            object.__setattr__(made, name, value)
        return made

    @classmethod
    def build(
        cls,
        entries: Iterable[Any] = (),
        stride: int = 0,
        *,
        channels: Channels | None = None,
        **fields: Any,
    ) -> Self:
        """Make the descriptor with these NVM Sets and channels; errors as for `StructList`."""
        given = list(entries)
        sets = b"".join(number.to_bytes(2, "little").ljust(stride, b"\0") for number in given)
        behind = Channels.build(egchans=0) if channels is None else channels
        made = cls.from_bytes(
            bytes(cls.header_type.build(**fields)) + sets + bytes(behind), stride=stride
        )
        if len(made.entries) != len(given) or made.incomplete:
            raise ValueError(
                f"{cls.__name__}: the header tells of other than {len(given)} elements"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the header's fields by name, ``entries`` and ``channels``, in JSON's types."""
        return super().to_dict() | {"channels": self.channels.to_dict()}

    def _element_lines(self) -> Iterator[str]:
        yield from super()._element_lines()
        yield from self.channels.dump()


class CapacityConfigurationHeader(Struct, size=32):
    """Capacity Configuration Descriptor, before the Endurance Groups."""

    ccid = U16(0, "Capacity Configuration Identifier")
    did = U16(2, "Domain Identifier; 0: not reported")
    egcn = U16(4, "Number of Endurance Group Configuration Descriptors")
    _rsvd6 = ReservedBytes(6, 26)


class CapacityConfiguration(
    StructList[CapacityConfigurationHeader, EnduranceGroupConfiguration],
    header=CapacityConfigurationHeader,
    element=EnduranceGroupConfiguration,
    count="egcn",
):
    """Capacity Configuration Descriptor (5.1.12.1.17)."""


class CapacityConfigurationListHeader(Struct, size=16):
    """Supported Capacity Configuration List, before the configurations."""

    sccn = U8(0, "Number of Supported Capacity Configurations")
    _rsvd1 = ReservedBytes(1, 15)


class CapacityConfigurationList(
    StructList[CapacityConfigurationListHeader, CapacityConfiguration],
    header=CapacityConfigurationListHeader,
    element=CapacityConfiguration,
    count="sccn",
):
    """Supported Capacity Configuration List (log identifier 11h, 5.1.12.1.17)."""
