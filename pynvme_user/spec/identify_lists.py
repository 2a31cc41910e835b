"""The lists that Identify returns, and what it says of controllers that share resources.

NVMe Base 2.1: 4.6 (lists), 5.1.13.2 to 5.1.13.4. Most are a header and elements: `StructList`.
"""

from enum import IntEnum
from typing import Any
from uuid import UUID

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
    Utf8,
    Uuid,
)
from .lists import NoHeader, StructList


class NamespaceList(StructList[NoHeader, int], element=4, until_zero=True):
    """Namespace List (CNS 02h, 07h, 10h, 1Ah; 4.6.2).

    Up to 1024 namespace ids, ascending. A full list may go on: the next is asked for with its
    last id as NSID.
    """


class NamespaceDescriptorHeader(Struct, size=4):
    """The first bytes of a Namespace Identification Descriptor."""

    nidt = U8(0, "Namespace Identifier Type")
    nidl = U8(1, "Namespace Identifier Length")
    _rsvd2 = ReservedBytes(2, 2)


class NamespaceDescriptor(
    StructList[NamespaceDescriptorHeader, int],
    header=NamespaceDescriptorHeader,
    element=1,
    count="nidl",
):
    """Namespace Identification Descriptor (5.1.13.2.3): its elements are the identifier's bytes."""


class NamespaceDescriptorList(
    StructList[NoHeader, NamespaceDescriptor], element=NamespaceDescriptor, until_zero=True
):
    """Namespace Identification Descriptor list (CNS 03h; 5.1.13.2.3), byte for byte.

    `NamespaceIdentifiers` is the same page by what it tells.
    """


class ControllerListHeader(Struct, size=2):
    """The first bytes of a Controller List."""

    numids = U16(0, "Number of Identifiers")


class ControllerList(
    StructList[ControllerListHeader, int],
    header=ControllerListHeader,
    element=2,
    count="numids",
):
    """Controller List (CNS 12h, 13h; 4.6.1): up to 2047 controller ids, ascending."""


class NvmSetListHeader(Struct, size=128):
    """The first bytes of an NVM Set List."""

    numids = U8(0, "Number of Identifiers")
    _rsvd1 = ReservedBytes(1, 127)


class NvmSetAttributes(Struct, size=128):
    """NVM Set Attributes Entry (5.1.13.2.4)."""

    nsetid = U16(0, "NVM Set Identifier")
    endgid = U16(2, "Endurance Group Identifier")
    _rsvd4 = ReservedBytes(4, 4)
    rr4kt = U32(8, "Random 4 KiB Read Typical (100 ns units)")
    ows = U32(12, "Optimal Write Size (bytes)")
    tnvmsetcap = U128(16, "Total NVM Set Capacity (bytes)")
    unvmsetcap = U128(32, "Unallocated NVM Set Capacity (bytes)")
    _rsvd48 = ReservedBytes(48, 80)


class NvmSetList(
    StructList[NvmSetListHeader, NvmSetAttributes],
    header=NvmSetListHeader,
    element=NvmSetAttributes,
    count="numids",
):
    """NVM Set List (CNS 04h; 5.1.13.2.4): up to 31 sets, from the one asked for on."""


class GranularityAttributes(Register, width=32):
    """Namespace Granularity Attributes."""

    gdv = Bit(0, "Granularity Descriptors Correspond to the LBA Formats")
    _r31_1 = Reserved(31, 1)


class NamespaceGranularityHeader(Struct, size=32):
    """The first bytes of a Namespace Granularity List."""

    nga = U32(0, "Namespace Granularity Attributes", bits=GranularityAttributes)
    nod = U8(4, "Number of Descriptors (zero-based)")
    _rsvd5 = ReservedBytes(5, 27)


class NamespaceGranularity(Struct, size=16):
    """Namespace Granularity Descriptor (5.1.13.2.13)."""

    nszegran = U64(0, "Namespace Size Granularity (bytes)")
    ncapgran = U64(8, "Namespace Capacity Granularity (bytes)")


_MOST_GRANULARITIES = 16  # what lies behind them in the page is reserved


class NamespaceGranularityList(
    StructList[NamespaceGranularityHeader, NamespaceGranularity],
    header=NamespaceGranularityHeader,
    element=NamespaceGranularity,
    count=lambda header: min(header.nod + 1, _MOST_GRANULARITIES),
):
    """Namespace Granularity List (CNS 16h; 5.1.13.2.13): up to 16 descriptors."""


class IdentifierAssociation(IntEnum):
    """What a UUID of the list belongs to."""

    NONE = 0
    VENDOR = 1
    SUBSYSTEM_VENDOR = 2


class UuidEntryHeader(Register, width=8):
    """UUID Lists Entry Header."""

    idassoc = Bits(1, 0, "Identifier Association", IdentifierAssociation)
    _r7_2 = Reserved(7, 2)


class UuidListHeader(Struct, size=32):
    """The first bytes of a UUID List: index 0, which stands for no UUID."""

    _rsvd0 = ReservedBytes(0, 32)


class UuidEntry(Struct, size=32):
    """UUID List Entry (5.1.13.2.14)."""

    hdr = U8(0, "UUID Lists Entry Header", bits=UuidEntryHeader)
    _rsvd1 = ReservedBytes(1, 15)
    uuid = Uuid(16, "Universally Unique Identifier")


class UuidList(
    StructList[UuidListHeader, UuidEntry],
    header=UuidListHeader,
    element=UuidEntry,
    until_zero=True,
):
    """UUID List (CNS 17h; 5.1.13.2.14): up to 127; the UUID Index of the first is 1."""


class DomainListHeader(Struct, size=128):
    """The first bytes of a Domain List."""

    ndent = U8(0, "Number of Domain Entries")
    _rsvd1 = ReservedBytes(1, 127)


class DomainAttributes(Struct, size=128):
    """Domain Attributes Entry (5.1.13.2.15)."""

    domid = U16(0, "Domain Identifier")
    _rsvd2 = ReservedBytes(2, 14)
    tdc = U128(16, "Total Domain Capacity (bytes)")
    udc = U128(32, "Unallocated Domain Capacity (bytes)")
    megdc = U128(48, "Max Endurance Group Domain Capacity (bytes)")
    _rsvd64 = ReservedBytes(64, 64)


class DomainList(
    StructList[DomainListHeader, DomainAttributes],
    header=DomainListHeader,
    element=DomainAttributes,
    count="ndent",
):
    """Domain List (CNS 18h; 5.1.13.2.15): up to 31 domains, from the one asked for on."""


class EnduranceGroupListHeader(Struct, size=2):
    """The first bytes of an Endurance Group List."""

    negids = U16(0, "Number of Endurance Group Identifiers")


class EnduranceGroupList(
    StructList[EnduranceGroupListHeader, int],
    header=EnduranceGroupListHeader,
    element=2,
    count="negids",
):
    """Endurance Group List (CNS 19h; 5.1.13.2.16): up to 2047 ids, ascending."""


class IOCSV(Register, width=64):
    """I/O Command Set Vector."""

    nvmcs = Bit(0, "NVM Command Set")
    kvcs = Bit(1, "Key Value Command Set")
    zncs = Bit(2, "Zoned Namespace Command Set")
    slmcs = Bit(3, "Subsystem Local Memory Command Set")
    cpncs = Bit(4, "Computational Programs Command Set")
    _r63_5 = Reserved(63, 5)


class IoCommandSetCombination(Struct, size=8):
    """I/O Command Set Combination (5.1.13.2.19)."""

    iocsc = U64(0, "I/O Command Sets That May Be Used Together", bits=IOCSV)


class IoCommandSets(
    StructList[NoHeader, IoCommandSetCombination],
    element=IoCommandSetCombination,
    until_zero=True,
):
    """Identify I/O Command Set (CNS 1Ch; 5.1.13.2.19).

    The index of a combination is the value of the I/O Command Set Profile feature.
    """


class CRT(Register, width=8):
    """Controller Resource Types."""

    vqrs = Bit(0, "VQ Resources Supported")
    virs = Bit(1, "VI Resources Supported")
    _r7_2 = Reserved(7, 2)


class PrimaryControllerCapabilities(Struct, size=4096):
    """Primary Controller Capabilities (CNS 14h; 5.1.13.3.1).

    VQ resources are queue pairs, VI resources interrupt vectors.
    """

    cntlid = U16(0, "Controller Identifier")
    portid = U16(2, "Port Identifier")
    crt = U8(4, "Controller Resource Types", bits=CRT)
    _rsvd5 = ReservedBytes(5, 27)
    vqfrt = U32(32, "VQ Resources Flexible Total")
    vqrfa = U32(36, "VQ Resources Flexible Assigned")
    vqrfap = U16(40, "VQ Resources Flexible Allocated to Primary")
    vqprt = U16(42, "VQ Resources Private Total")
    vqfrsm = U16(44, "VQ Resources Flexible Secondary Maximum")
    vqgran = U16(46, "VQ Flexible Resource Preferred Granularity")
    _rsvd48 = ReservedBytes(48, 16)
    vifrt = U32(64, "VI Resources Flexible Total")
    virfa = U32(68, "VI Resources Flexible Assigned")
    virfap = U16(72, "VI Resources Flexible Allocated to Primary")
    viprt = U16(74, "VI Resources Private Total")
    vifrsm = U16(76, "VI Resources Flexible Secondary Maximum")
    vigran = U16(78, "VI Flexible Resource Preferred Granularity")
    _rsvd80 = ReservedBytes(80, 4016)


class SCS(Register, width=8):
    """Secondary Controller State."""

    onl = Bit(0, "Online")
    _r7_1 = Reserved(7, 1)


class SecondaryController(Struct, size=32):
    """Secondary Controller Entry (5.1.13.3.2)."""

    scid = U16(0, "Secondary Controller Identifier")
    pcid = U16(2, "Primary Controller Identifier")
    scs = U8(4, "Secondary Controller State", bits=SCS)
    _rsvd5 = ReservedBytes(5, 3)
    vfn = U16(8, "Virtual Function Number (0: not a virtual function)")
    nvq = U16(10, "Number of VQ Flexible Resources Assigned")
    nvi = U16(12, "Number of VI Flexible Resources Assigned")
    _rsvd14 = ReservedBytes(14, 18)


class SecondaryControllerListHeader(Struct, size=32):
    """The first bytes of a Secondary Controller List."""

    numids = U8(0, "Number of Identifiers")
    _rsvd1 = ReservedBytes(1, 31)


class SecondaryControllerList(
    StructList[SecondaryControllerListHeader, SecondaryController],
    header=SecondaryControllerListHeader,
    element=SecondaryController,
    count="numids",
):
    """Secondary Controller List (CNS 15h; 5.1.13.3.2): up to 127, from the id asked for on."""


class ResourceListHeader(Struct, size=16):
    """The first bytes of an Underlying Namespace List and of a Ports List."""

    genctr = U64(0, "Generation Counter")
    nument = U64(8, "Number of Entries")


class UnderlyingNamespace(Struct, size=320):
    """Underlying Namespace Entry (5.1.13.4.1)."""

    unsnqn = Utf8(0, 256, "NQN of the Underlying NVM Subsystem")
    nsid = U32(256, "Namespace Identifier")
    cntlid = U16(260, "Controller Identifier")
    _rsvd262 = ReservedBytes(262, 58)


class UnderlyingNamespaceList(
    StructList[ResourceListHeader, UnderlyingNamespace],
    header=ResourceListHeader,
    element=UnderlyingNamespace,
    count="nument",
):
    """Underlying Namespace List (CNS 1Dh; 5.1.13.4.1): namespaces that may be exported."""


class UnderlyingPort(Struct, size=576):
    """Underlying Fabrics Transport Entry (5.1.13.4.2)."""

    traddr = Utf8(0, 256, "Transport Address")
    tsas = Utf8(256, 256, "Transport Specific Address Subtype")
    pidup = U16(512, "Port ID of the Underlying Port")
    trtype = U8(514, "Transport Type")
    adrfam = U8(515, "Transport Address Family")
    treq = U8(516, "Transport Requirements")
    _rsvd517 = ReservedBytes(517, 59)


class PortsList(
    StructList[ResourceListHeader, UnderlyingPort],
    header=ResourceListHeader,
    element=UnderlyingPort,
    count="nument",
):
    """Ports List (CNS 1Eh; 5.1.13.4.2): ports over which namespaces may be exported."""


class ControllerStateFormatsHeader(Struct, size=2):
    """The first bytes of the Supported Controller State Formats."""

    nv = U8(0, "Number of Versions")
    nuuid = U8(1, "Number of UUIDs")


class ControllerStateVersion(Struct, size=2):
    """A version of the NVMe Controller State that is supported."""

    csver = U16(0, "NVMe Controller State Version")


class ControllerStateUuid(Struct, size=16):
    """A vendor's format of the controller state that is supported."""

    csuuid = Uuid(0, "Vendor Specific Controller State UUID")


class ControllerStateFormats(
    StructList[ControllerStateFormatsHeader, "ControllerStateVersion | ControllerStateUuid"],
    header=ControllerStateFormatsHeader,
    element=ControllerStateUuid,
    count=lambda header: header.nv + header.nuuid,
):
    """Supported Controller State Formats (CNS 20h; 5.1.13.2.21): versions, then UUIDs.

    An index that Migration Send and Receive take is the place in `versions` or in `uuids`, from
    1 on.
    """

    @classmethod
    def _entry(cls, raw: memoryview, at: int) -> Any:
        versions = raw[0] * ControllerStateVersion.size
        is_version = at < cls.header_type.size + versions
        kind = ControllerStateVersion if is_version else ControllerStateUuid
        return kind.from_bytes(raw, at) if at + kind.size <= len(raw) else None

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of NVMe's own format."""
        return tuple(e.csver for e in self.entries if isinstance(e, ControllerStateVersion))

    @property
    def uuids(self) -> tuple[UUID, ...]:
        """The vendor's formats."""
        return tuple(e.csuuid for e in self.entries if isinstance(e, ControllerStateUuid))
