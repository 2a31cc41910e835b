"""Log pages about namespaces: which changed, and how a controller reaches them.

The changed lists, Asymmetric Namespace Access, LBA Status, Dispersed Namespaces, the reachability
pages, Reservation Notification and the Changed Zone List. Sections and names are those of NVMe
Base 2.1, NVM Command Set 1.1 and ZNS 1.1.
"""

from enum import IntEnum

from .fields import U8, U16, U32, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct, Utf8
from .lists import StructList

ALL_CHANGED = 0xFFFFFFFF  # alone in a list: more changed than it holds


class ChangedNamespaceList(StructList[Struct, int], element=4, until_zero=True):
    """Changed Attached Namespace List (log identifier 04h, 5.1.12.1.5): up to 1024 ids.

    FFFFFFFFh alone where more changed.
    """


class ChangedAllocatedNamespaceList(StructList[Struct, int], element=4, until_zero=True):
    """Changed Allocated Namespace List (log identifier 1Ch, 5.1.12.1.27): up to 1024 ids.

    FFFFFFFFh alone where more changed.
    """


class AnaState(IntEnum):
    """Asymmetric Namespace Access State."""

    OPTIMIZED = 1
    NON_OPTIMIZED = 2
    INACCESSIBLE = 3
    PERSISTENT_LOSS = 4
    CHANGE = 0xF


class AnaLsp(Register, width=7):
    """Log Specific Parameter of Asymmetric Namespace Access."""

    rgo = Bit(0, "Return Groups Only")
    _r6_1 = Reserved(6, 1)


class ANASA(Register, width=8):
    """Asymmetric Namespace Access State and Attributes."""

    anas = Bits(3, 0, "Asymmetric Namespace Access State", AnaState)
    _r7_4 = Reserved(7, 4)


class AnaGroupHeader(Struct, size=32):
    """ANA Group Descriptor, before the namespace ids."""

    agid = U32(0, "ANA Group ID")
    nnv = U32(4, "Number of NSID Values")
    chgc = U64(8, "Change Count")
    anasa = U8(16, "Asymmetric Namespace Access State", bits=ANASA)
    _rsvd17 = ReservedBytes(17, 15)


class AnaGroup(StructList[AnaGroupHeader, int], header=AnaGroupHeader, element=4, count="nnv"):
    """ANA Group Descriptor (5.1.12.1.13): the namespaces of a group, by id."""


class AnaHeader(Struct, size=16):
    """Asymmetric Namespace Access, before the groups."""

    chgc = U64(0, "Change Count")
    nagd = U16(8, "Number of ANA Group Descriptors")
    _rsvd10 = ReservedBytes(10, 6)


class AnaLog(StructList[AnaHeader, AnaGroup], header=AnaHeader, element=AnaGroup, count="nagd"):
    """Asymmetric Namespace Access (log identifier 0Ch, 5.1.12.1.13)."""


class LbaStatusAction(IntEnum):
    """ATYPE of the Get LBA Status command."""

    ALLOCATED = 0x02
    SCAN_UNTRACKED = 0x10
    TRACKED = 0x11


class LbaStatusRange(Struct, size=16):
    """LBA Range Descriptor (NVM Command Set 1.1, 4.1.4.5)."""

    rslba = U64(0, "Range Starting LBA")
    rnlb = U32(8, "Range Number of Logical Blocks (zero-based)")
    _rsvd12 = ReservedBytes(12, 4)


class LbaStatusNamespaceHeader(Struct, size=16):
    """LBA Status Log Namespace Element, before the ranges."""

    neid = U32(0, "Namespace Element Identifier, an NSID")
    nlrd = U32(4, "Number of LBA Range Descriptors; FFFFFFFFh: none, examine all LBAs")
    ratype = U8(8, "Recommended Action Type", names=LbaStatusAction)
    _rsvd9 = ReservedBytes(9, 7)


class LbaStatusNamespace(
    StructList[LbaStatusNamespaceHeader, LbaStatusRange],
    header=LbaStatusNamespaceHeader,
    element=LbaStatusRange,
    count=lambda header: 0 if header.nlrd == 0xFFFFFFFF else header.nlrd,
):
    """LBA Status Log Namespace Element (NVM Command Set 1.1, 4.1.4.5)."""


class LbaStatusHeader(Struct, size=16):
    """LBA Status Information, before the elements."""

    lslplen = U32(0, "LBA Status Log Page Length, in bytes")
    nlslne = U32(4, "Number of LBA Status Log Namespace Elements")
    estulb = U32(8, "Estimate of Unrecoverable Logical Blocks; FFFFFFFFh: not known")
    _rsvd12 = ReservedBytes(12, 2)
    lsgc = U16(14, "LBA Status Generation Counter")


class LbaStatusLog(
    StructList[LbaStatusHeader, LbaStatusNamespace],
    header=LbaStatusHeader,
    element=LbaStatusNamespace,
    count="nlslne",
):
    """LBA Status Information (log identifier 0Eh, NVM Command Set 1.1, 4.1.4.5)."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.lslplen


class DispersedNamespaceHeader(Struct, size=256):
    """Dispersed Namespace Participating NVM Subsystems, before the entries."""

    genctr = U64(0, "Generation Counter")
    numpsub = U64(8, "Number of Participating NVM Subsystems")
    _rsvd16 = ReservedBytes(16, 240)


class ParticipatingSubsystem(Struct, size=256):
    """Participating NVM Subsystem Entry (5.1.12.1.23)."""

    subnqn = Utf8(0, 256, "NVM Subsystem NVMe Qualified Name")


class DispersedNamespaceLog(
    StructList[DispersedNamespaceHeader, ParticipatingSubsystem],
    header=DispersedNamespaceHeader,
    element=ParticipatingSubsystem,
    count="numpsub",
):
    """Dispersed Namespace Participating NVM Subsystems (log identifier 17h, 5.1.12.1.23)."""


class ReachabilityGroupsLsp(Register, width=7):
    """Log Specific Parameter of Reachability Groups."""

    rgo = Bit(0, "Return Groups Only")
    _r6_1 = Reserved(6, 1)


class ReachabilityGroupHeader(Struct, size=32):
    """Reachability Group Descriptor, before the namespace ids."""

    rgid = U32(0, "Reachability Group ID")
    nnid = U32(4, "Number of NSID Values")
    chngc = U64(8, "Change Count")
    _rsvd16 = ReservedBytes(16, 16)


class ReachabilityGroup(
    StructList[ReachabilityGroupHeader, int],
    header=ReachabilityGroupHeader,
    element=4,
    count="nnid",
):
    """Reachability Group Descriptor (5.1.12.1.25): the namespaces of a group, by id."""


class ReachabilityGroupsHeader(Struct, size=16):
    """Reachability Groups, before the groups."""

    chngc = U64(0, "Change Count")
    nrgd = U16(8, "Number of Reachability Group Descriptors")
    _rsvd10 = ReservedBytes(10, 6)


class ReachabilityGroupsLog(
    StructList[ReachabilityGroupsHeader, ReachabilityGroup],
    header=ReachabilityGroupsHeader,
    element=ReachabilityGroup,
    count="nrgd",
):
    """Reachability Groups (log identifier 1Ah, 5.1.12.1.25)."""


class ReachabilityAssociationsLsp(Register, width=7):
    """Log Specific Parameter of Reachability Associations."""

    rao = Bit(0, "Return Associations Only")
    _r6_1 = Reserved(6, 1)


class ReachabilityCharacteristics(IntEnum):
    """RAC, how the groups of an association reach each other."""

    NOT_INDICATED = 1
    FAST_COPY = 2


class ReachabilityAssociationHeader(Struct, size=32):
    """Reachability Association Descriptor, before the group ids."""

    rasid = U32(0, "Reachability Association ID")
    nrid = U32(4, "Number of RGID Values")
    chngc = U64(8, "Change Count")
    rac = U8(16, "Reachability Association Characteristics", names=ReachabilityCharacteristics)
    _rsvd17 = ReservedBytes(17, 15)


class ReachabilityAssociation(
    StructList[ReachabilityAssociationHeader, int],
    header=ReachabilityAssociationHeader,
    element=4,
    count="nrid",
):
    """Reachability Association Descriptor (5.1.12.1.26): its Reachability Groups, by id."""


class ReachabilityAssociationsHeader(Struct, size=16):
    """Reachability Associations, before the associations."""

    chngc = U64(0, "Change Count")
    nrad = U16(8, "Number of Reachability Association Descriptors")
    _rsvd10 = ReservedBytes(10, 6)


class ReachabilityAssociationsLog(
    StructList[ReachabilityAssociationsHeader, ReachabilityAssociation],
    header=ReachabilityAssociationsHeader,
    element=ReachabilityAssociation,
    count="nrad",
):
    """Reachability Associations (log identifier 1Bh, 5.1.12.1.26)."""


class ReservationNotificationType(IntEnum):
    """What happened to a reservation."""

    EMPTY = 0
    REGISTRATION_PREEMPTED = 1
    RESERVATION_RELEASED = 2
    RESERVATION_PREEMPTED = 3


class ReservationNotificationLog(Struct, size=64):
    """Reservation Notification (log identifier 80h, 5.1.12.1.32): the oldest one."""

    lpc = U64(0, "Log Page Count; 0: none is there")
    rnlpt = U8(8, "Reservation Notification Log Page Type", names=ReservationNotificationType)
    nalp = U8(9, "Number of Available Log Pages after this one; up to 255")
    _rsvd10 = ReservedBytes(10, 2)
    nsid = U32(12, "Namespace ID")
    _rsvd16 = ReservedBytes(16, 48)


class ChangedZonesHeader(Struct, size=8):
    """Changed Zone List, before the zones."""

    nrzid = U16(0, "Number of Zone Identifiers; FFFFh: more than the list holds")
    _rsvd2 = ReservedBytes(2, 6)


class ChangedZonesLog(
    StructList[ChangedZonesHeader, int],
    header=ChangedZonesHeader,
    element=8,
    count=lambda header: 0 if header.nrzid == 0xFFFF else header.nrzid,
    length=lambda header: 4096,
):
    """Changed Zone List (log identifier BFh, ZNS 1.1): up to 511 zones by ZSLBA."""
