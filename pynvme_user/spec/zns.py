"""The Zoned Namespace Command Set (ZNS 1.1): its commands' dwords and the pages they bring."""

from enum import IntEnum

from .fields import U8, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct


class ZoneSendAction(IntEnum):
    """What Zone Management Send does with a zone (figure 35)."""

    CLOSE = 1
    FINISH = 2
    OPEN = 3
    RESET = 4
    OFFLINE = 5


class ZoneSendCdw13(Register, width=32):
    """Zone Management Send, dword 13 (figure 35)."""

    zsa = Bits(7, 0, "Zone Send Action")
    select_all = Bit(8, "Select All")
    zrwaa = Bit(9, "Zone Random Write Area Allocation")
    _r31_10 = Reserved(31, 10)


class ZoneReceiveCdw13(Register, width=32):
    """Zone Management Receive, dword 13 (figure 29)."""

    zra = Bits(7, 0, "Zone Receive Action")
    zrasf = Bits(15, 8, "Zone Receive Action Specific")
    partial = Bit(16, "Partial Report")
    _r31_17 = Reserved(31, 17)


class ZoneState(IntEnum):
    """Of a zone descriptor, bits 7:4 of its second byte (figure 37)."""

    EMPTY = 1
    IMPLICITLY_OPENED = 2
    EXPLICITLY_OPENED = 3
    CLOSED = 4
    READ_ONLY = 0xD
    FULL = 0xE
    OFFLINE = 0xF


class ZoneReport(Struct, size=64):
    """What Report Zones brings first (figure 31); the descriptors follow."""

    nzones = U64(0, "Number of Zones")
    _r = ReservedBytes(8, 56)


class ZoneDescriptor(Struct, size=64):
    """One zone of a report (figure 37)."""

    zt = U8(0, "Zone Type")
    zs = U8(1, "Zone State, in the upper four bits")
    za = U8(2, "Zone Attributes")
    zai = U8(3, "Zone Attributes Information")
    _r7_4 = ReservedBytes(4, 4)
    zcap = U64(8, "Zone Capacity")
    zslba = U64(16, "Zone Start Logical Block Address")
    wp = U64(24, "Write Pointer")
    _r63_32 = ReservedBytes(32, 32)
