"""The features' data structures, which Get and Set Features transfer.

NVMe Base 2.1, 5.1.25; NVM Command Set 1.1, 4.1.3.
"""

from enum import IntEnum
from typing import Any

from .fields import (
    U8,
    U16,
    U32,
    U48,
    U64,
    U128,
    Array,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
    Utf8,
    Uuid,
)
from .lists import StructList
from .logs_capacity import PredictableLatencyEvents
from .logs_events import TimestampOrigin
from .logs_fdp import FdpEventType
from .text import printable


class LbaRangeKind(IntEnum):
    """TYPE of an LBA range; 80h to FFh are the vendor's."""

    GENERAL_PURPOSE = 0
    FILE_SYSTEM = 1
    RAID = 2
    CACHE = 3
    SWAP = 4


class LbaRangeAttributes(Register, width=8):
    """Attributes of an LBA range (feature 03h)."""

    lbaro = Bit(0, "May be overwritten (1), or should not be")
    hlbar = Bit(1, "Should be hidden from the OS, EFI and BIOS")
    _r7_2 = Reserved(7, 2)


class LbaRangeType(Struct, size=64):
    """An LBA range (feature 03h)."""

    type = U8(0, "Type", names=LbaRangeKind)
    attrb = U8(1, "Attributes", bits=LbaRangeAttributes)
    _r2 = ReservedBytes(2, 14)
    slba = U64(16, "Starting LBA")
    nlb = U64(24, "Number of Logical Blocks (zero-based)")
    guid = Raw(32, 16, "Unique Identifier")
    _r48 = ReservedBytes(48, 16)


class LbaRanges(Struct, size=4096):
    """LBA Range Type (feature 03h); how many there are is NUM of the dword."""

    entry = Array(0, 64, LbaRangeType, "LBA ranges")


class PowerStateTransition(Register, width=64):
    """Of a power state: when and to which other it goes by itself (feature 0Ch)."""

    _r2_0 = Reserved(2, 0)
    itps = Bits(7, 3, "Idle Transition Power State")
    itpt = Bits(31, 8, "Idle Time Prior to Transition (ms; 0: no transition)")
    _r63_32 = Reserved(63, 32)


class PowerStateTransitionEntry(Struct, size=8):
    """An entry of Autonomous Power State Transition (feature 0Ch)."""

    transition = U64(0, "Transition", bits=PowerStateTransition)


class AutonomousPowerStateTransitions(Struct, size=256):
    """Autonomous Power State Transition (feature 0Ch): an entry for each power state."""

    entry = Array(0, 32, PowerStateTransitionEntry, "By power state")


class HostMemoryDescriptor(Struct, size=16):
    """An entry of the Host Memory Descriptor List (feature 0Dh)."""

    badd = U64(0, "Buffer Address")
    bsize = U32(8, "Buffer Size (pages of CC.MPS)")
    _r12 = ReservedBytes(12, 4)


class HostMemoryDescriptorList(
    StructList[Struct, HostMemoryDescriptor], element=HostMemoryDescriptor
):
    """Host Memory Descriptor List (feature 0Dh): in host memory, as long as dword 15 says."""


class HostMemoryBufferAttributes(Struct, size=4096):
    """Host Memory Buffer Attributes, the data of Get Features (feature 0Dh)."""

    hsize = U32(0, "Host Memory Buffer Size (pages of CC.MPS)")
    hmdlal = U32(4, "Host Memory Descriptor List Address Lower")
    hmdlau = U32(8, "Host Memory Descriptor List Address Upper")
    hmdlec = U32(12, "Host Memory Descriptor List Entry Count")
    _r16 = ReservedBytes(16, 4080)


class TimestampAttributes(Register, width=8):
    """Attributes of a timestamp (feature 0Eh)."""

    sync = Bit(0, "Synch (1: counting may have paused)")
    to = Bits(3, 1, "Timestamp Origin", TimestampOrigin)
    _r7_4 = Reserved(7, 4)


class Timestamp(Struct, size=8):
    """Timestamp (feature 0Eh); Set Features has the time alone, since 1970, UTC."""

    tstmp = U48(0, "Timestamp (ms)")
    attr = U8(6, "Attributes", bits=TimestampAttributes)
    _r7 = ReservedBytes(7, 1)


class DeterministicThresholdConfig(Struct, size=512):
    """Deterministic Threshold Configuration (feature 13h)."""

    ee = U16(0, "Enable Event", bits=PredictableLatencyEvents)
    _r2 = ReservedBytes(2, 30)
    dtwinrt = U64(32, "DTWIN Reads Threshold (4 KiB random reads)")
    dtwinwt = U64(40, "DTWIN Writes Threshold (optimal write sizes)")
    dtwintt = U64(48, "DTWIN Time Threshold (ms)")
    _r56 = ReservedBytes(56, 456)


class CopyDescriptorFormats(Register, width=16):
    """Copy Descriptor Formats Enable (feature 16h)."""

    _r1_0 = Reserved(1, 0)
    cdf2e = Bit(2, "Copy Descriptor Format 2h Enable")
    cdf3e = Bit(3, "Copy Descriptor Format 3h Enable")
    cdf4e = Bit(4, "Copy Descriptor Format 4h Enable")
    _r15_5 = Reserved(15, 5)


class HostBehaviorSupport(Struct, size=512):
    """Host Behavior Support (feature 16h)."""

    acre = U8(0, "Advanced Command Retry Enable")
    etdas = U8(1, "Extended Telemetry Data Area 4 Supported")
    lbafee = U8(2, "LBA Format Extension Enable")
    hdisns = U8(3, "Host Dispersed Namespace Support")
    cdfe = U16(4, "Copy Descriptor Formats Enable", bits=CopyDescriptorFormats)
    _r6 = ReservedBytes(6, 506)


class StandardPerformanceAttribute(Struct, size=4096):
    """Standard Performance Attribute (feature 1Ch, attribute 00h)."""

    _r0 = ReservedBytes(0, 4)
    r4karl = U8(4, "Random 4 KiB Average Read Latency (1: 100 s or more, ... 23: 1 ns or more)")
    _r5 = ReservedBytes(5, 4091)


class PerformanceAttributeType(IntEnum):
    """ATTRTYP, which values' identifiers are listed."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2


class PerformanceAttributeTypeBits(Register, width=8):
    """The first byte of a Performance Attribute Identifier List."""

    attrtyp = Bits(2, 0, "Attribute Type", PerformanceAttributeType)
    _r7_3 = Reserved(7, 3)


class PerformanceAttributeIdentifier(Struct, size=16):
    """An identifier of the Performance Attribute Identifier List (feature 1Ch)."""

    paid = Uuid(0, "Performance Attribute Identifier")


class PerformanceAttributeIdentifierList(Struct, size=4096):
    """Performance Attribute Identifier List (feature 1Ch, attribute C0h)."""

    attrtyp = U8(0, "Attribute Type", bits=PerformanceAttributeTypeBits)
    msvspa = U8(1, "Maximum Saveable Vendor Specific Performance Attributes")
    usvspa = U8(2, "Unused Saveable Vendor Specific Performance Attributes")
    _r3 = ReservedBytes(3, 13)
    pai = Array(16, 63, PerformanceAttributeIdentifier, "Identifiers of attributes C1h to FFh")
    _r1024 = ReservedBytes(1024, 3072)


class VendorPerformanceAttribute(Struct, size=4096):
    """Vendor Specific Performance Attribute (feature 1Ch, attributes C1h to FFh)."""

    paid = Uuid(0, "Performance Attribute Identifier")
    _r16 = ReservedBytes(16, 14)
    attrl = U16(30, "Attribute Length (bytes)")
    vs = Raw(32, 4064, "Vendor Specific")


class FdpEventAttributes(Register, width=8):
    """Attributes of an FDP event type (feature 1Eh)."""

    fdpee = Bit(0, "FDP Event Enable")
    _r7_1 = Reserved(7, 1)


class SupportedFdpEvent(Struct, size=2):
    """Supported FDP Event Descriptor (feature 1Eh)."""

    fdpet = U8(0, "FDP Event Type", names=FdpEventType)
    fdpeta = U8(1, "FDP Event Type Attributes", bits=FdpEventAttributes)


class SupportedFdpEvents(StructList[Struct, SupportedFdpEvent], element=SupportedFdpEvent):
    """Supported FDP Event Type List, the data of Get Features (feature 1Eh).

    The completion's dword 0 has their number.
    """


class FdpEventTypes(StructList[Struct, int], element=1):
    """FDP Event Type List, the data of Set Features (feature 1Eh); as many as NOET says."""


class NamespaceAdminLabel(Struct, size=256):
    """Namespace Admin Label (feature 1Fh)."""

    nal = Utf8(0, 256, "Namespace Admin Label")


class ControllerDataQueuePointers(Struct, size=512):
    """Controller Data Queue, the data of Get Features (feature 21h)."""

    hp = U32(0, "Head Pointer (slot)")
    tpt = U32(4, "Tail Pointer Trigger (slot)")
    _r8 = ReservedBytes(8, 504)


class EmbeddedManagementControllerAddress(Struct, size=512):
    """Embedded Management Controller Address (feature 78h)."""

    _r0 = ReservedBytes(0, 4)
    emca = Utf8(4, 508, "Embedded Management Controller Address (URI)")


class HostManagementAgentAddress(Struct, size=512):
    """Host Management Agent Address (feature 79h)."""

    _r0 = ReservedBytes(0, 4)
    hmaa = Utf8(4, 508, "Host Management Agent Address (URI)")


class ControllerMetadataElement(IntEnum):
    """ET of (Enhanced) Controller Metadata; 18h to 1Fh are the vendor's."""

    OS_CONTROLLER_NAME = 0x01
    OS_DRIVER_NAME = 0x02
    OS_DRIVER_VERSION = 0x03
    PREBOOT_CONTROLLER_NAME = 0x04
    PREBOOT_DRIVER_NAME = 0x05
    PREBOOT_DRIVER_VERSION = 0x06
    SYSTEM_PROCESSOR_MODEL = 0x07
    CHIPSET_DRIVER_NAME = 0x08
    CHIPSET_DRIVER_VERSION = 0x09
    OS_NAME_AND_BUILD = 0x0A
    SYSTEM_PRODUCT_NAME = 0x0B
    FIRMWARE_VERSION = 0x0C
    OS_DRIVER_FILENAME = 0x0D
    DISPLAY_DRIVER_NAME = 0x0E
    DISPLAY_DRIVER_VERSION = 0x0F
    HOST_DETERMINED_FAILURE_RECORD = 0x10


class NamespaceMetadataElement(IntEnum):
    """ET of Namespace Metadata; 18h to 1Fh are the vendor's."""

    OS_NAMESPACE_NAME = 0x01
    PREBOOT_NAMESPACE_NAME = 0x02
    OS_NAMESPACE_NAME_QUALIFIER_1 = 0x03
    OS_NAMESPACE_NAME_QUALIFIER_2 = 0x04


class MetadataElementBits(Register, width=16):
    """The type and revision of a metadata element (features 7Dh, 7Eh, 7Fh)."""

    et = Bits(5, 0, "Element Type")
    _r7_6 = Reserved(7, 6)
    er = Bits(11, 8, "Element Revision")
    _r15_12 = Reserved(15, 12)


class MetadataElementHeader(Struct, size=4):
    """What precedes the value of a metadata element (features 7Dh, 7Eh, 7Fh)."""

    kind = U16(0, "Element Type and Revision", bits=MetadataElementBits)
    elen = U16(2, "Element Length (bytes of the value)")


class MetadataElement(
    StructList[MetadataElementHeader, int],
    header=MetadataElementHeader,
    element=bytes,
    count="elen",
):
    """Metadata Element Descriptor (features 7Dh, 7Eh, 7Fh)."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """The value, as UTF-8; what is none of it stands as a lone surrogate."""
        return bytes(self.entries).decode("utf-8", "surrogateescape").rstrip("\0")

    def to_dict(self) -> dict[str, Any]:
        """Return the element's fields in JSON's types, and its ``value``."""
        value = self.text.encode(errors="surrogateescape").decode(errors="replace")
        return {"et": self.header.kind.et, "er": self.header.kind.er, "value": value}

    def dump(self) -> list[str]:
        """Return the element on one line: type, revision, value."""
        kind = self.header.kind
        return [f"type {kind.et:#x}, revision {kind.er}: {printable(self.text)}"]

    @classmethod
    def of(cls, et: int, value: str, er: int = 0) -> "MetadataElement":
        """Make the element of type `et` with this value; ValueError if it is too long."""
        raw = value.encode("utf-8", "surrogateescape")
        return cls.build(raw, kind=MetadataElementBits.build(et=et, er=er), elen=len(raw))


class HostMetadataHeader(Struct, size=2):
    """The first bytes of Host Metadata (features 7Dh, 7Eh, 7Fh)."""

    nmed = U8(0, "Number of Metadata Element Descriptors")
    _r1 = ReservedBytes(1, 1)


class HostMetadata(
    StructList[HostMetadataHeader, MetadataElement],
    header=HostMetadataHeader,
    element=MetadataElement,
    count="nmed",
):
    """Host Metadata (features 7Dh, 7Eh, 7Fh); 4096 bytes are transferred."""


class HostIdentifier(Struct, size=8):
    """Host Identifier of 64 bits (feature 81h)."""

    hostid = U64(0, "Host Identifier")


class ExtendedHostIdentifier(Struct, size=16):
    """Host Identifier of 128 bits (feature 81h)."""

    hostid = U128(0, "Host Identifier")
