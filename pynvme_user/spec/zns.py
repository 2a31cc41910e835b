"""The Zoned Namespace Command Set (ZNS 1.2): its commands' dwords and the pages they bring.

In each command dwords 10 and 11 are an LBA, lower half first: the zone's first (ZSLBA), or of a
ZRWA flush the last to be flushed. The I/O commands of the NVM Command Set are there as well. A
completed Zone Append says in its dwords 0 and 1 at which LBA the data lies.
"""

from enum import IntEnum

from .fields import U8, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .lists import StructList


class ZoneSendAction(IntEnum):
    """ZSA, what Zone Management Send does with a zone (3.4.3)."""

    CLOSE = 1
    FINISH = 2
    OPEN = 3
    RESET = 4
    OFFLINE = 5
    SET_DESCRIPTOR_EXTENSION = 0x10  # the data is the extension
    FLUSH = 0x11  # of the zone random write area


class ZoneSendCdw13(Register, width=32):
    """Zone Management Send, dword 13 (3.4.3)."""

    zsa = Bits(7, 0, "Zone Send Action", ZoneSendAction)
    select_all = Bit(8, "Select All")
    zrwaa = Bit(9, "Zone Random Write Area Allocation (Open)")
    _r31_10 = Reserved(31, 10)


class ZoneSendResult(Register, width=32):
    """Zone Management Send, dword 0 of its completion (3.4.3)."""

    zcapc = Bit(0, "Zone Capacity Changed (Reset)")
    _r31_1 = Reserved(31, 1)


class ZoneReceiveAction(IntEnum):
    """ZRA, what Zone Management Receive brings (3.4.2)."""

    REPORT = 0
    EXTENDED_REPORT = 1


class ReportedZones(IntEnum):
    """ZRASF, which zones a report lists (3.4.2.2)."""

    ALL = 0
    EMPTY = 1
    IMPLICITLY_OPENED = 2
    EXPLICITLY_OPENED = 3
    CLOSED = 4
    FULL = 5
    READ_ONLY = 6
    OFFLINE = 7


class ZoneReceiveCdw13(Register, width=32):
    """Zone Management Receive, dword 13 (3.4.2); dword 12 is the number of dwords, zero-based."""

    zra = Bits(7, 0, "Zone Receive Action", ZoneReceiveAction)
    zrasf = Bits(15, 8, "Zone Receive Action Specific Field", ReportedZones)
    partial = Bit(16, "Partial Report (NZONES is the number of zones in the buffer)")
    _r31_17 = Reserved(31, 17)


class ZoneAppendCdw12(Register, width=32):
    """Zone Append, dword 12 (3.4.1); dwords 2, 3 and 13 to 15 are those of Write."""

    nlb = Bits(15, 0, "Number of Logical Blocks (zero-based)")
    cetype = Bits(19, 16, "Command Extension Type")
    dtype = Bits(23, 20, "Directive Type")
    stc = Bit(24, "Storage Tag Check")
    piremap = Bit(25, "Protection Information Remap")
    prinfo = Bits(29, 26, "Protection Information Field")
    fua = Bit(30, "Force Unit Access")
    lr = Bit(31, "Limited Retry")


class ZoneType(IntEnum):
    """ZT, what kind a zone is of."""

    SEQUENTIAL_WRITE_REQUIRED = 2


class ZoneState(IntEnum):
    """ZS, the state of a zone (2.1.1.3)."""

    EMPTY = 1
    IMPLICITLY_OPENED = 2
    EXPLICITLY_OPENED = 3
    CLOSED = 4
    READ_ONLY = 0xD
    FULL = 0xE
    OFFLINE = 0xF


class ZT(Register, width=8):
    """Zone Type, of a zone descriptor."""

    zt = Bits(3, 0, "Zone Type", ZoneType)
    _r7_4 = Reserved(7, 4)


class ZS(Register, width=8):
    """Zone State, of a zone descriptor."""

    _r3_0 = Reserved(3, 0)
    zs = Bits(7, 4, "Zone State", ZoneState)


class ZA(Register, width=8):
    """Zone Attributes."""

    zfc = Bit(0, "Zone Finished by Controller")
    fzr = Bit(1, "Finish Zone Recommended")
    rzr = Bit(2, "Reset Zone Recommended")
    zrwav = Bit(3, "Zone Random Write Area Valid")
    _r6_4 = Reserved(6, 4)
    zdev = Bit(7, "Zone Descriptor Extension Valid")


class ZAI(Register, width=8):
    """Zone Attributes Information: which limits of Identify Namespace the recommendations have."""

    fzrtl = Bits(1, 0, "Finish Zone Recommended Time Limit (0: FRL, n: FRLn)")
    rzrtl = Bits(3, 2, "Reset Zone Recommended Time Limit (0: RRL, n: RRLn)")
    _r7_4 = Reserved(7, 4)


class ZoneReport(Struct, size=64):
    """What Report Zones brings first (3.4.2.2.1); the descriptors follow."""

    nzones = U64(0, "Number of Zones")
    _r = ReservedBytes(8, 56)


class ZoneDescriptor(Struct, size=64):
    """One zone of a report (3.4.2.2.3)."""

    zt = U8(0, "Zone Type", bits=ZT)
    zs = U8(1, "Zone State", bits=ZS)
    za = U8(2, "Zone Attributes", bits=ZA)
    zai = U8(3, "Zone Attributes Information", bits=ZAI)
    _r7_4 = ReservedBytes(4, 4)
    zcap = U64(8, "Zone Capacity (blocks)")
    zslba = U64(16, "Zone Start Logical Block Address")
    wp = U64(24, "Write Pointer (LBA)")
    _r63_32 = ReservedBytes(32, 32)


class ZoneList(
    StructList[ZoneReport, ZoneDescriptor],
    header=ZoneReport,
    element=ZoneDescriptor,
    count="nzones",
):
    """Report Zones (3.4.2.2.1).

    An extended report (3.4.2.2.2) has an extension behind each descriptor: its `stride` is
    ``ZoneDescriptor.size + lbafe.extension_size``, and `extensions` are the extensions, which
    count where ZA.ZDEV says so. Without a partial report NZONES goes past the buffer: then it is
    `incomplete`.
    """
