"""Log pages of discovery controllers, and the addresses of a subsystem's management.

Sections and names are those of NVMe Base 2.1.
"""

from enum import IntEnum

from .fields import (
    U8,
    U16,
    U32,
    U64,
    Array,
    Ascii,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
    Utf8,
)
from .lists import StructList


class TransportType(IntEnum):
    """TRTYPE."""

    NOT_INDICATED = 0
    RDMA = 1
    FC = 2
    TCP = 3
    INTRA_HOST = 254


class AddressFamily(IntEnum):
    """ADRFAM."""

    NOT_INDICATED = 0
    IPV4 = 1
    IPV6 = 2
    INFINIBAND = 3
    FC = 4
    INTRA_HOST = 254


class SubsystemType(IntEnum):
    """SUBTYPE."""

    REFERRAL = 1
    NVM_SUBSYSTEM = 2
    CURRENT_DISCOVERY_SUBSYSTEM = 3


class SecureChannel(IntEnum):
    """Transport Secure Channel."""

    NOT_SPECIFIED = 0
    REQUIRED = 1
    NOT_REQUIRED = 2


class ChannelAuthentication(IntEnum):
    """Transport Authentication and Secure Channel."""

    NOT_SPECIFIED = 0
    AUTHENTICATION = 1
    AUTHENTICATION_AND_SECURE_CHANNEL = 2


class TREQ(Register, width=8):
    """Transport Requirements."""

    tsc = Bits(1, 0, "Transport Secure Channel", SecureChannel)
    sqfcd = Bit(2, "SQ Flow Control Disable")
    zhids = Bit(3, "Zero Host ID Support")
    tasc = Bits(5, 4, "Transport Authentication and Secure Channel", ChannelAuthentication)
    _r7_6 = Reserved(7, 6)


class EFLAGS(Register, width=16):
    """Entry Flags."""

    dupretinfo = Bit(0, "Duplicate Returned Information")
    epcsd = Bit(1, "Explicit Persistent Connection Support for Discovery")
    ncc = Bit(2, "No CDC Connectivity")
    _r15_3 = Reserved(15, 3)


class RdmaQueuePairType(IntEnum):
    """RDMA_QPTYPE."""

    RELIABLE_CONNECTED = 1
    RELIABLE_DATAGRAM = 2


class RdmaProviderType(IntEnum):
    """RDMA_PRTYPE."""

    NOT_SPECIFIED = 1
    INFINIBAND = 2
    ROCE = 3
    ROCE_V2 = 4
    IWARP = 5


class RdmaConnectionManagement(IntEnum):
    """RDMA_CMS."""

    RDMA_CM = 1


class TcpSecurity(IntEnum):
    """SECTYPE."""

    NONE = 0
    TLS_1_2 = 1
    TLS_1_3 = 2


class RdmaAddress(Struct, size=256):
    """Transport Specific Address Subtype of RDMA."""

    qptype = U8(0, "RDMA QP Service Type", names=RdmaQueuePairType)
    prtype = U8(1, "RDMA Provider Type", names=RdmaProviderType)
    cms = U8(2, "RDMA Connection Management Service", names=RdmaConnectionManagement)
    _rsvd3 = ReservedBytes(3, 5)
    pkey = U16(8, "RDMA Partition Key, for InfiniBand")
    _rsvd10 = ReservedBytes(10, 246)


class TcpAddress(Struct, size=256):
    """Transport Specific Address Subtype of TCP."""

    sectype = U8(0, "Security Type", names=TcpSecurity)
    _rsvd1 = ReservedBytes(1, 255)


def transport_address(trtype: int, tsas: bytes) -> RdmaAddress | TcpAddress | None:
    """Decode a Transport Specific Address Subtype; None for a transport that has none."""
    if trtype == TransportType.RDMA:
        return RdmaAddress.from_bytes(tsas)
    return TcpAddress.from_bytes(tsas) if trtype == TransportType.TCP else None


class DiscoveryEntry(Struct, size=1024):
    """Discovery Log Page Entry (5.1.12.3.1)."""

    trtype = U8(0, "Transport Type", names=TransportType)
    adrfam = U8(1, "Address Family", names=AddressFamily)
    subtype = U8(2, "Subsystem Type", names=SubsystemType)
    treq = U8(3, "Transport Requirements", bits=TREQ)
    portid = U16(4, "Port ID")
    cntlid = U16(6, "Controller ID; FFFFh: dynamic, FFFEh: static, any")
    asqsz = U16(8, "Admin Max SQ Size, in entries")
    eflags = U16(10, "Entry Flags", bits=EFLAGS)
    _rsvd12 = ReservedBytes(12, 20)
    trsvcid = Ascii(32, 32, "Transport Service Identifier")
    _rsvd64 = ReservedBytes(64, 192)
    subnqn = Utf8(256, 256, "NVM Subsystem Qualified Name")
    traddr = Ascii(512, 256, "Transport Address")
    tsas = Raw(768, 256, "Transport Specific Address Subtype")

    @property
    def address(self) -> RdmaAddress | TcpAddress | None:
        """`tsas`, decoded for the transport; None for one that has none."""
        return transport_address(self.trtype, self.tsas)


class DiscoveryLsp(Register, width=7):
    """Log Specific Parameter of Discovery."""

    extdlpe = Bit(0, "Extended Discovery Log Page Entries")
    pleo = Bit(1, "Port Local Entries Only")
    allsube = Bit(2, "All NVM Subsystem Entries")
    _r6_3 = Reserved(6, 3)


class DLPF(Register, width=8):
    """Discovery Log Page Flags."""

    extend = Bit(0, "Extended: of Extended Discovery Log Page Entries")
    portlcl = Bit(1, "Port Local")
    allsub = Bit(2, "All NVM Subsystems")
    _r7_3 = Reserved(7, 3)


class DiscoveryHeader(Struct, size=1024):
    """Discovery, before the entries."""

    genctr = U64(0, "Generation Counter")
    numrec = U64(8, "Number of Records")
    recfmt = U16(16, "Record Format")
    dlpf = U8(18, "Discovery Log Page Flags", bits=DLPF)
    _rsvd19 = ReservedBytes(19, 1)
    tdlpl = U32(20, "Total Discovery Log Page Length, in bytes, of extended entries")
    _rsvd24 = ReservedBytes(24, 1000)


class DiscoveryLog(
    StructList[DiscoveryHeader, DiscoveryEntry],
    header=DiscoveryHeader,
    element=DiscoveryEntry,
    count="numrec",
):
    """Discovery (log identifier 70h, 5.1.12.3.1)."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.size + self.header.numrec * DiscoveryEntry.size


class ExtendedAttributeType(IntEnum):
    """EXATTYPE."""

    HOST_IDENTIFIER = 1
    ADMIN_LABEL_ASCII = 2
    ADMIN_LABEL_UTF8 = 3


class ExtendedAttributeHeader(Struct, size=4):
    """Extended Attribute, before its value."""

    exattype = U16(0, "Extended Attribute Type", names=ExtendedAttributeType)
    exatlen = U16(2, "Extended Attribute Length, in bytes")


class ExtendedAttribute(
    StructList[ExtendedAttributeHeader, int],
    header=ExtendedAttributeHeader,
    element=bytes,
    count="exatlen",
):
    """Extended Attribute of a discovery entry (5.1.12.3.1)."""


class ExtendedDiscoveryEntryHeader(Struct, size=1032):
    """Extended Discovery Log Page Entry, before the attributes."""

    trtype = U8(0, "Transport Type", names=TransportType)
    adrfam = U8(1, "Address Family", names=AddressFamily)
    subtype = U8(2, "Subsystem Type", names=SubsystemType)
    treq = U8(3, "Transport Requirements", bits=TREQ)
    portid = U16(4, "Port ID")
    cntlid = U16(6, "Controller ID; FFFFh: dynamic, FFFEh: static, any")
    asqsz = U16(8, "Admin Max SQ Size, in entries")
    eflags = U16(10, "Entry Flags", bits=EFLAGS)
    _rsvd12 = ReservedBytes(12, 20)
    trsvcid = Ascii(32, 32, "Transport Service Identifier")
    _rsvd64 = ReservedBytes(64, 192)
    subnqn = Utf8(256, 256, "NVM Subsystem Qualified Name")
    traddr = Ascii(512, 256, "Transport Address")
    tsas = Raw(768, 256, "Transport Specific Address Subtype")
    tel = U32(1024, "Total Entry Length, in bytes")
    numexat = U16(1028, "Number of Extended Attributes")
    _rsvd1030 = ReservedBytes(1030, 2)


class ExtendedDiscoveryEntry(
    StructList[ExtendedDiscoveryEntryHeader, ExtendedAttribute],
    header=ExtendedDiscoveryEntryHeader,
    element=ExtendedAttribute,
    count="numexat",
    length=lambda header: header.tel,
):
    """Extended Discovery Log Page Entry (5.1.12.3.1)."""

    @property
    def address(self) -> RdmaAddress | TcpAddress | None:
        """`tsas`, decoded for the transport; None for one that has none."""
        return transport_address(self.header.trtype, self.header.tsas)


class ExtendedDiscoveryLog(
    StructList[DiscoveryHeader, ExtendedDiscoveryEntry],
    header=DiscoveryHeader,
    element=ExtendedDiscoveryEntry,
    count="numrec",
):
    """Discovery with extended entries (log identifier 70h, 5.1.12.3.1), asked for by EXTDLPE.

    One whose header has EXTEND clear is a `DiscoveryLog`.
    """

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.tdlpl


class HostDiscoveryLsp(Register, width=7):
    """Log Specific Parameter of Host Discovery."""

    allhoste = Bit(0, "All Host Entries")
    _r6_1 = Reserved(6, 1)


class HDLPF(Register, width=8):
    """Host Discovery Log Page Flags."""

    allhost = Bit(0, "All Hosts")
    _r7_1 = Reserved(7, 1)


class HostDiscoveryEntryHeader(Struct, size=1032):
    """Host Extended Discovery Log Page Entry, before the attributes."""

    trtype = U8(0, "Transport Type", names=TransportType)
    adrfam = U8(1, "Address Family", names=AddressFamily)
    _rsvd2 = ReservedBytes(2, 8)
    eflags = U16(10, "Entry Flags", bits=EFLAGS)
    _rsvd12 = ReservedBytes(12, 244)
    hostnqn = Utf8(256, 256, "Host NVMe Qualified Name")
    traddr = Ascii(512, 256, "Transport Address")
    tsas = Raw(768, 256, "Transport Specific Address Subtype")
    tel = U32(1024, "Total Entry Length, in bytes")
    numexat = U16(1028, "Number of Extended Attributes")
    _rsvd1030 = ReservedBytes(1030, 2)


class HostDiscoveryEntry(
    StructList[HostDiscoveryEntryHeader, ExtendedAttribute],
    header=HostDiscoveryEntryHeader,
    element=ExtendedAttribute,
    count="numexat",
    length=lambda header: header.tel,
):
    """Host Extended Discovery Log Page Entry (5.1.12.3.2)."""


class HostDiscoveryHeader(Struct, size=1024):
    """Host Discovery, before the entries."""

    genctr = U64(0, "Generation Counter")
    numrec = U64(8, "Number of Records")
    recfmt = U16(16, "Record Format")
    hdlpf = U8(18, "Host Discovery Log Page Flags", bits=HDLPF)
    _rsvd19 = ReservedBytes(19, 1)
    thdlpl = U32(20, "Total Host Discovery Log Page Length, in bytes")
    _rsvd24 = ReservedBytes(24, 1000)


class HostDiscoveryLog(
    StructList[HostDiscoveryHeader, HostDiscoveryEntry],
    header=HostDiscoveryHeader,
    element=HostDiscoveryEntry,
    count="numrec",
):
    """Host Discovery (log identifier 71h, 5.1.12.3.2)."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.thdlpl


class AveTransportRecord(Struct, size=20):
    """AVE Transport Record (5.1.12.3.3)."""

    aveadrfam = U8(0, "AVE Address Family", names=AddressFamily)
    _rsvd1 = ReservedBytes(1, 1)
    avetrsvcid = U16(2, "AVE Transport Service Identifier")
    avetraddr = Raw(4, 16, "AVE Transport Address")


class AveDiscoveryEntryHeader(Struct, size=232):
    """AVE Discovery Log Page Entry, before the transport records."""

    tel = U32(0, "Total Entry Length, in bytes")
    avenqn = Utf8(4, 224, "AVE NQN")
    numatr = U8(228, "Number of AVE Transport Records")
    _rsvd229 = ReservedBytes(229, 3)


class AveDiscoveryEntry(
    StructList[AveDiscoveryEntryHeader, AveTransportRecord],
    header=AveDiscoveryEntryHeader,
    element=AveTransportRecord,
    count="numatr",
    length=lambda header: header.tel,
):
    """AVE Discovery Log Page Entry (5.1.12.3.3)."""


class AveDiscoveryHeader(Struct, size=1024):
    """AVE Discovery, before the entries."""

    genctr = U64(0, "Generation Counter")
    numrec = U64(8, "Number of Records")
    recfmt = U16(16, "Record Format")
    _rsvd18 = ReservedBytes(18, 2)
    tadlpl = U32(20, "Total AVE Discovery Log Page Length, in bytes")
    _rsvd24 = ReservedBytes(24, 1000)


class AveDiscoveryLog(
    StructList[AveDiscoveryHeader, AveDiscoveryEntry],
    header=AveDiscoveryHeader,
    element=AveDiscoveryEntry,
    count="numrec",
):
    """AVE Discovery (log identifier 72h, 5.1.12.3.3)."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.tadlpl


class PullModelDdcRequestHeader(Struct, size=8):
    """Pull Model DDC Request, before the parameters."""

    ori = U8(0, "Operation Request Identifier")
    _rsvd1 = ReservedBytes(1, 3)
    tpdrpl = U32(4, "Total Pull Model DDC Request Log Page Length, in bytes")


class PullModelDdcRequestLog(
    StructList[PullModelDdcRequestHeader, int],
    header=PullModelDdcRequestHeader,
    element=bytes,
    count=lambda header: max(0, header.tpdrpl - PullModelDdcRequestHeader.size),
):
    """Pull Model DDC Request (log identifier 73h, 5.1.12.3.4): the operation's parameters."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.tpdrpl


class ManagementAddressType(IntEnum):
    """MAT."""

    NVM_SUBSYSTEM_MANAGEMENT_AGENT = 1
    FABRIC_INTERFACE_MANAGER = 2
    END_OF_LIST = 0xFF


class ManagementAddress(Struct, size=512):
    """Management Address Descriptor (5.1.12.1.24)."""

    mat = U8(0, "Management Address Type", names=ManagementAddressType)
    _rsvd1 = ReservedBytes(1, 3)
    madrs = Utf8(4, 508, "Management Address, a URI")


class ManagementAddressLog(Struct, size=4096):
    """Management Address List (log identifier 18h, 5.1.12.1.24): to the first of type FFh."""

    mads = Array(0, 8, ManagementAddress, "Management Address Descriptors")
