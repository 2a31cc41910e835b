"""The Persistent Event log, and what each type of its events tells.

Sections and names are those of NVMe Base 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from .fields import (
    U8,
    U16,
    U32,
    U64,
    U128,
    Ascii,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
    Utf8,
    hex_line,
)
from .lists import StructList
from .logs_data import TelemetryControllerHeader, TelemetryHostHeader
from .logs_health import SSTAT, SmartLog


class TimestampOrigin(IntEnum):
    """Where a timestamp began."""

    CLEARED_BY_RESET = 0
    SET_BY_HOST = 1


class EventTimestamp(Register, width=64):
    """Timestamp (5.1.25.1.7)."""

    ts = Bits(47, 0, "Milliseconds since 1970-01-01, or since the reset")
    synch = Bit(48, "Synch: may have stopped counting")
    to = Bits(51, 49, "Timestamp Origin", TimestampOrigin)
    _r63_52 = Reserved(63, 52)


class PersistentEventType(IntEnum):
    """Event Type (5.1.12.1.14.2)."""

    SMART_HEALTH_SNAPSHOT = 0x01
    FIRMWARE_COMMIT = 0x02
    TIMESTAMP_CHANGE = 0x03
    POWER_ON_OR_RESET = 0x04
    NVM_SUBSYSTEM_HARDWARE_ERROR = 0x05
    CHANGE_NAMESPACE = 0x06
    FORMAT_NVM_START = 0x07
    FORMAT_NVM_COMPLETION = 0x08
    SANITIZE_START = 0x09
    SANITIZE_COMPLETION = 0x0A
    SET_FEATURE = 0x0B
    TELEMETRY_LOG_CREATED = 0x0C
    THERMAL_EXCURSION = 0x0D
    SANITIZE_MEDIA_VERIFICATION = 0x0E
    VENDOR_SPECIFIC = 0xDE
    TCG_DEFINED = 0xDF


class FirmwareCommitEvent(Struct, size=22):
    """Firmware Commit Event (event type 02h, 5.1.12.1.14.2.2)."""

    ofr = Ascii(0, 8, "Old Firmware Revision")
    nfr = Ascii(8, 8, "New Firmware Revision")
    fca = U8(16, "Firmware Commit Action")
    fslt = U8(17, "Firmware Slot")
    stctfcc = U8(18, "Status Code Type for Firmware Commit Command")
    srfcc = U8(19, "Status Returned for Firmware Commit Command")
    vafcrc = U16(20, "Vendor Assigned Firmware Commit Result Code")


class TimestampChangeEvent(Struct, size=16):
    """Timestamp Change Event (event type 03h, 5.1.12.1.14.2.3)."""

    ptstp = U64(0, "Previous Timestamp", bits=EventTimestamp)
    msr = U64(8, "Milliseconds Since Reset")


class ControllerReset(Struct, size=36):
    """Controller Reset Information (5.1.12.1.14.2.4)."""

    cntlid = U16(0, "Controller ID")
    fa = U8(2, "Firmware Activation")
    oip = U8(3, "Operation in Progress")
    _rsvd4 = ReservedBytes(4, 12)
    cpwrc = U32(16, "Controller Power Cycle")
    pom = U64(20, "Power on Milliseconds")
    ctstp = U64(28, "Controller Timestamp", bits=EventTimestamp)


class PowerOnOrResetHeader(Struct, size=8):
    """Power-on or Reset Event, before the controllers."""

    frev = Ascii(0, 8, "Firmware Revision")


class PowerOnOrResetEvent(
    StructList[PowerOnOrResetHeader, ControllerReset],
    header=PowerOnOrResetHeader,
    element=ControllerReset,
):
    """Power-on or Reset Event (event type 04h, 5.1.12.1.14.2.4): what each controller did."""


class HardwareError(IntEnum):
    """NVM Subsystem Hardware Error Event Code."""

    PCIE_CORRECTABLE = 0x01
    PCIE_UNCORRECTABLE_NON_FATAL = 0x02
    PCIE_UNCORRECTABLE_FATAL = 0x03
    PCIE_LINK_STATUS_CHANGE = 0x04
    PCIE_LINK_NOT_ACTIVE = 0x05
    CRITICAL_WARNING = 0x06
    ENDURANCE_GROUP_CRITICAL_WARNING = 0x07
    UNEXPECTED_POWER_LOSS = 0x08
    CONTROLLER_FATAL_STATUS = 0x09
    MEDIA_AND_DATA_INTEGRITY = 0x0A
    CONTROLLER_READY_TIMEOUT_EXCEEDED = 0x0B


class HardwareErrorHeader(Struct, size=4):
    """NVM Subsystem Hardware Error Event, before its information."""

    nsheec = U16(0, "NVM Subsystem Hardware Error Event Code", names=HardwareError)
    _rsvd2 = ReservedBytes(2, 2)


class HardwareErrorEvent(
    StructList[HardwareErrorHeader, int], header=HardwareErrorHeader, element=bytes
):
    """NVM Subsystem Hardware Error Event (event type 05h, 5.1.12.1.14.2.5): code, information."""


class ChangeNamespaceEvent(Struct, size=48):
    """Change Namespace Event (event type 06h, 5.1.12.1.14.2.6)."""

    nmcdw10 = U32(0, "Namespace Management CDW10")
    _rsvd4 = ReservedBytes(4, 4)
    nsze = U64(8, "Namespace Size, in blocks")
    _rsvd16 = ReservedBytes(16, 8)
    ncap = U64(24, "Namespace Capacity, in blocks")
    flbas = U8(32, "Formatted LBA Size")
    dps = U8(33, "End-to-end Data Protection Type Settings")
    nmic = U8(34, "Namespace Multi-path I/O and Namespace Sharing Capabilities")
    _rsvd35 = ReservedBytes(35, 1)
    anagrpid = U32(36, "ANA Group Identifier")
    nvmsetid = U16(40, "NVM Set Identifier")
    endgid = U16(42, "Endurance Group Identifier")
    nsid = U32(44, "Namespace ID; FFFFFFFFh: all were deleted")


class FormatStartEvent(Struct, size=12):
    """Format NVM Start Event (event type 07h, 5.1.12.1.14.2.7)."""

    nsid = U32(0, "Namespace Identifier")
    fna = U8(4, "Format NVM Attributes")
    _rsvd5 = ReservedBytes(5, 3)
    fcdw10 = U32(8, "Format NVM CDW10")


class FormatCompletionEvent(Struct, size=12):
    """Format NVM Completion Event (event type 08h, 5.1.12.1.14.2.8)."""

    nsid = U32(0, "Namespace Identifier")
    sfpi = U8(4, "Smallest Format Progress Indicator")
    fnvms = U8(5, "Format NVM Status")
    cinfo = U16(6, "Completion Information")
    info = U16(8, "Status Info: the completion's phase and status")
    _rsvd10 = ReservedBytes(10, 2)


class SanitizeStartEvent(Struct, size=12):
    """Sanitize Start Event (event type 09h, 5.1.12.1.14.2.9)."""

    sanicap = U32(0, "Sanitize Capabilities")
    scdw10 = U32(4, "Sanitize CDW10")
    scdw11 = U32(8, "Sanitize CDW11")


class SanitizeCompletionEvent(Struct, size=8):
    """Sanitize Completion Event (event type 0Ah, 5.1.12.1.14.2.10)."""

    sprog = U16(0, "Sanitize Progress, of 65,536")
    sstat = U16(2, "Sanitize Status", bits=SSTAT)
    cinfo = U16(4, "Completion Information")
    _rsvd6 = ReservedBytes(6, 2)


class SFEL(Register, width=32):
    """Set Feature Event Layout."""

    dwc = Bits(2, 0, "Dword Count")
    lccdw0 = Bit(3, "Logged Command Completion Dword 0")
    _r15_4 = Reserved(15, 4)
    mbc = Bits(31, 16, "Memory Buffer Count, in bytes")


class SetFeatureHeader(Struct, size=4):
    """Set Feature Event, before what its layout tells of."""

    sfel = U32(0, "Set Feature Event Layout", bits=SFEL)


class SetFeatureEvent(
    StructList[SetFeatureHeader, int],
    header=SetFeatureHeader,
    element=bytes,
    count=lambda header: 4 * (header.sfel.dwc + header.sfel.lccdw0) + header.sfel.mbc,
):
    """Set Feature Event (event type 0Bh, 5.1.12.1.14.2.11)."""

    @property
    def cdws(self) -> tuple[int, ...]:
        """The command's dwords from 10 on."""
        end = min(4 * self.header.sfel.dwc, len(self.data) & ~3)
        return tuple(int.from_bytes(self.data[at : at + 4], "little") for at in range(0, end, 4))

    @property
    def mbuf(self) -> bytes:
        """The command's data."""
        at = 4 * self.header.sfel.dwc
        return self.data[at : at + self.header.sfel.mbc]

    @property
    def ccdw0(self) -> int | None:
        """Dword 0 of the completion; None if it was not logged."""
        raw = self.data[4 * self.header.sfel.dwc + self.header.sfel.mbc :]
        logged = self.header.sfel.lccdw0 and len(raw) == 4
        return int.from_bytes(raw, "little") if logged else None

    def to_dict(self) -> dict[str, Any]:
        """Return the layout, ``cdws``, ``mbuf`` in hex digits, and ``ccdw0``."""
        return self.header.to_dict() | {
            "cdws": list(self.cdws),
            "mbuf": self.mbuf.hex(),
            "ccdw0": self.ccdw0,
        }


class ThermalThreshold(IntEnum):
    """What the Composite Temperature crossed."""

    WCTEMP = 0x01
    CCTEMP = 0x02
    TMT1 = 0x03
    TMT2 = 0x04
    SELF_THROTTLING = 0x05
    BACK_TO_NORMAL = 0x88
    THROTTLING_STOPPED = 0x89
    UNDER_TEMPERATURE = 0xB0


class ThermalExcursionEvent(Struct, size=2):
    """Thermal Excursion Event (event type 0Dh, 5.1.12.1.14.2.13)."""

    otmp = U8(0, "Over Temperature, in kelvins from the threshold")
    thresh = U8(1, "Threshold", names=ThermalThreshold)


class VendorEventDataType(IntEnum):
    """Vendor Specific Event Data Type."""

    EVENT_NAME = 1
    ASCII = 2
    BINARY = 3
    SIGNED_INTEGER = 4


class VendorEventHeader(Struct, size=6):
    """Vendor Specific Event Descriptor, before the data."""

    vsec = U16(0, "Vendor Specific Event Code")
    vsedt = U8(2, "Vendor Specific Event Data Type", names=VendorEventDataType)
    uidx = U8(3, "UUID Index")
    vsedl = U16(4, "Vendor Specific Event Data Length, in bytes")


class VendorEventDescriptor(
    StructList[VendorEventHeader, int], header=VendorEventHeader, element=bytes, count="vsedl"
):
    """Vendor Specific Event Descriptor (5.1.12.1.14.2.15)."""


class VendorEvent(StructList[Struct, VendorEventDescriptor], element=VendorEventDescriptor):
    """Vendor Specific Event (event type DEh, 5.1.12.1.14.2.15)."""


#: What an event of a type tells; the first 512 bytes of the page for telemetry.
EVENT_DATA: dict[int, type[Struct] | type[StructList[Any, Any]]] = {
    PersistentEventType.SMART_HEALTH_SNAPSHOT: SmartLog,
    PersistentEventType.FIRMWARE_COMMIT: FirmwareCommitEvent,
    PersistentEventType.TIMESTAMP_CHANGE: TimestampChangeEvent,
    PersistentEventType.POWER_ON_OR_RESET: PowerOnOrResetEvent,
    PersistentEventType.NVM_SUBSYSTEM_HARDWARE_ERROR: HardwareErrorEvent,
    PersistentEventType.CHANGE_NAMESPACE: ChangeNamespaceEvent,
    PersistentEventType.FORMAT_NVM_START: FormatStartEvent,
    PersistentEventType.FORMAT_NVM_COMPLETION: FormatCompletionEvent,
    PersistentEventType.SANITIZE_START: SanitizeStartEvent,
    PersistentEventType.SANITIZE_COMPLETION: SanitizeCompletionEvent,
    PersistentEventType.SET_FEATURE: SetFeatureEvent,
    PersistentEventType.TELEMETRY_LOG_CREATED: TelemetryHostHeader,
    PersistentEventType.THERMAL_EXCURSION: ThermalExcursionEvent,
    PersistentEventType.VENDOR_SPECIFIC: VendorEvent,
}


class EventPortType(IntEnum):
    """Port Identifier Type of an event."""

    NOT_REPORTED = 0
    NVM_SUBSYSTEM_PORT = 1
    MANAGEMENT_PORT = 2
    NOT_ASSOCIATED = 3


class EHAI(Register, width=8):
    """Event Header Additional Info."""

    pit = Bits(1, 0, "Port Identifier Type", EventPortType)
    _r7_2 = Reserved(7, 2)


class PersistentEventHeader(Struct, size=24):
    """Persistent Event, before the vendor's information and the event's data."""

    et = U8(0, "Event Type", names=PersistentEventType)
    etr = U8(1, "Event Type Revision")
    ehl = U8(2, "Event Header Length, in bytes after this field")
    ehai = U8(3, "Event Header Additional Info", bits=EHAI)
    cntlid = U16(4, "Controller Identifier")
    etstmp = U64(6, "Event Timestamp", bits=EventTimestamp)
    pelpid = U16(14, "Port Identifier")
    _rsvd16 = ReservedBytes(16, 4)
    vsil = U16(20, "Vendor Specific Information Length, in bytes")
    el = U16(22, "Event Length, in bytes after the header")


class PersistentEvent(
    StructList[PersistentEventHeader, int],
    header=PersistentEventHeader,
    element=bytes,
    start=lambda header: header.ehl + 3,
    count="el",
):
    """Persistent Event (5.1.12.1.14): a header, the vendor's information, data of its type."""

    @property
    def vsi(self) -> bytes:
        """The vendor's information."""
        return bytes(self.entries[: self.header.vsil])

    @property
    def event(self) -> Struct | StructList[Any, Any] | bytes:
        """The data, decoded if the type is known and there is enough of it."""
        raw = bytes(self.entries[self.header.vsil :])
        kind = EVENT_DATA.get(self.header.et)
        if kind is TelemetryHostHeader and raw[:1] == b"\x08":  # its log identifier
            kind = TelemetryControllerHeader
        try:
            return raw if kind is None else kind.from_bytes(raw)
        except ValueError:
            return raw

    def to_dict(self) -> dict[str, Any]:
        """Return the header's fields, ``vsi`` in hex digits, and ``event``: decoded or in hex."""
        event = self.event
        plain = event.hex() if isinstance(event, bytes) else event.to_dict()
        return self.header.to_dict() | {"vsi": self.vsi.hex(), "event": plain}

    def _element_lines(self) -> Iterator[str]:
        if self.vsi:
            yield f"vsi       : {hex_line(self.vsi)}"
        event = self.event
        if not isinstance(event, bytes):
            yield from ("  " + line for line in event.dump())
        elif event:
            yield f"event     : {hex_line(event)}"


class PersistentEventAction(IntEnum):
    """What a command for the Persistent Event log has the controller do."""

    READ = 0
    ESTABLISH_CONTEXT_AND_READ = 1
    RELEASE_CONTEXT = 2
    ESTABLISH_CONTEXT_AND_READ_HEADER = 3


class PersistentEventLsp(Register, width=7):
    """Log Specific Parameter of the Persistent Event log."""

    act = Bits(1, 0, "Action", PersistentEventAction)
    _r6_2 = Reserved(6, 2)


class ReportingPortType(IntEnum):
    """Reporting Context Port Identifier Type."""

    NO_CONTEXT = 0
    NVM_SUBSYSTEM_PORT = 1
    MANAGEMENT_ENDPOINT = 2


class RCI(Register, width=32):
    """Reporting Context Information."""

    rcpid = Bits(15, 0, "Reporting Context Port Identifier")
    rcpit = Bits(17, 16, "Reporting Context Port Identifier Type", ReportingPortType)
    rce = Bit(18, "Reporting Context Exists, before this command")
    _r31_19 = Reserved(31, 19)


class PersistentEventLogHeader(Struct, size=512):
    """Persistent Event log, before the events."""

    lid = U8(0, "Log Identifier")
    _rsvd1 = ReservedBytes(1, 3)
    tnev = U32(4, "Total Number of Events")
    tll = U64(8, "Total Log Length, in bytes")
    lrev = U8(16, "Log Revision")
    _rsvd17 = ReservedBytes(17, 1)
    lhl = U16(18, "Log Header Length, in bytes after this field")
    tstmp = U64(20, "Timestamp", bits=EventTimestamp)
    poh = U128(28, "Power on Hours")
    pwrcc = U64(44, "Power Cycle Count")
    vid = U16(52, "PCI Vendor ID")
    ssvid = U16(54, "PCI Subsystem Vendor ID")
    sn = Ascii(56, 20, "Serial Number")
    mn = Ascii(76, 40, "Model Number")
    subnqn = Utf8(116, 256, "NVM Subsystem NVMe Qualified Name")
    gnum = U16(372, "Generation Number")
    rci = U32(374, "Reporting Context Information", bits=RCI)
    _rsvd378 = ReservedBytes(378, 102)
    seb = Raw(480, 32, "Supported Events Bitmap")

    @property
    def supported_events(self) -> list[int]:
        """The event types in `seb`."""
        bits = int.from_bytes(self.seb, "little")
        return [number for number in range(256) if bits >> number & 1]


class PersistentEventLog(
    StructList[PersistentEventLogHeader, PersistentEvent],
    header=PersistentEventLogHeader,
    element=PersistentEvent,
    count="tnev",
):
    """Persistent Event (log identifier 0Dh, 5.1.12.1.14): the newest event first."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.tll
