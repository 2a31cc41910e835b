"""Reservations: the dwords and data of their four commands (NVMe Base 2.1, 7.5 to 7.8, 8.1.22)."""

from enum import IntEnum

from .fields import U8, U16, U32, U64, Bit, Bits, Raw, Register, Reserved, ReservedBytes, Struct
from .lists import StructList


class ReservationType(IntEnum):
    """RTYPE, what a reservation keeps from the other hosts."""

    NONE = 0  # in a report: there is no holder
    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 2
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 3
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 4
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 5
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 6


class RegisterAction(IntEnum):
    """RREGA, what Reservation Register does with the host's key."""

    REGISTER = 0
    UNREGISTER = 1
    REPLACE = 2


class ChangePtpl(IntEnum):
    """CPTPL, what becomes of registrations and reservations when the power is lost."""

    NO_CHANGE = 0
    RELEASE = 2
    PERSIST = 3


class AcquireAction(IntEnum):
    """RACQA, how Reservation Acquire takes the reservation."""

    ACQUIRE = 0
    PREEMPT = 1
    PREEMPT_AND_ABORT = 2


class ReleaseAction(IntEnum):
    """RRELA, what Reservation Release gives up."""

    RELEASE = 0
    CLEAR = 1


class ReservationRegisterCdw10(Register, width=32):
    """Reservation Register, dword 10 (7.6)."""

    rrega = Bits(2, 0, "Reservation Register Action", RegisterAction)
    iekey = Bit(3, "Ignore Existing Key")
    disnsrs = Bit(4, "Dispersed Namespace Reservation Support")
    _r29_5 = Reserved(29, 5)
    cptpl = Bits(31, 30, "Change Persist Through Power Loss State", ChangePtpl)


class ReservationRegisterKeys(Struct, size=16):
    """The data of Reservation Register (7.6)."""

    crkey = U64(0, "Current Reservation Key")
    nrkey = U64(8, "New Reservation Key")


class ReservationAcquireCdw10(Register, width=32):
    """Reservation Acquire, dword 10 (7.5)."""

    racqa = Bits(2, 0, "Reservation Acquire Action", AcquireAction)
    iekey = Bit(3, "Ignore Existing Key")
    disnsrs = Bit(4, "Dispersed Namespace Reservation Support")
    _r7_5 = Reserved(7, 5)
    rtype = Bits(15, 8, "Reservation Type", ReservationType)
    _r31_16 = Reserved(31, 16)


class ReservationAcquireKeys(Struct, size=16):
    """The data of Reservation Acquire (7.5)."""

    crkey = U64(0, "Current Reservation Key")
    prkey = U64(8, "Preempt Reservation Key")


class ReservationReleaseCdw10(Register, width=32):
    """Reservation Release, dword 10 (7.7)."""

    rrela = Bits(2, 0, "Reservation Release Action", ReleaseAction)
    iekey = Bit(3, "Ignore Existing Key")
    disnsrs = Bit(4, "Dispersed Namespace Reservation Support")
    _r7_5 = Reserved(7, 5)
    rtype = Bits(15, 8, "Reservation Type", ReservationType)
    _r31_16 = Reserved(31, 16)


class ReservationReleaseKeys(Struct, size=8):
    """The data of Reservation Release (7.7)."""

    crkey = U64(0, "Current Reservation Key")


class ReservationReportCdw11(Register, width=32):
    """Reservation Report, dword 11 (7.8); dword 10 is the number of dwords, zero-based."""

    eds = Bit(0, "Extended Data Structure (needed where host identifiers have 128 bits)")
    disnsrs = Bit(1, "Dispersed Namespace Reservation Support")
    _r31_2 = Reserved(31, 2)


class RCSTS(Register, width=8):
    """Reservation Status of a registrant."""

    hhr = Bit(0, "Host Holds the Reservation")
    _r7_1 = Reserved(7, 1)


class ReservationStatusHeader(Struct, size=24):
    """The first bytes of Reservation Status."""

    gen = U32(0, "Generation")
    rtype = U8(4, "Reservation Type", names=ReservationType)
    regstrnt = U16(5, "Number of Registrants")
    _rsvd7 = ReservedBytes(7, 2)
    ptpls = U8(9, "Persist Through Power Loss State")
    _rsvd10 = ReservedBytes(10, 14)


class Registrant(Struct, size=24):
    """Registrant (7.8): a host with a 64-bit identifier."""

    cntlid = U16(0, "Controller ID (FFFFh: of another domain or not known)")
    rcsts = U8(2, "Reservation Status", bits=RCSTS)
    _rsvd3 = ReservedBytes(3, 5)
    hostid = U64(8, "Host Identifier")
    rkey = U64(16, "Reservation Key")


class ReservationStatus(
    StructList[ReservationStatusHeader, Registrant],
    header=ReservationStatusHeader,
    element=Registrant,
    count="regstrnt",
):
    """Reservation Status (7.8): what Reservation Report brings without EDS."""


class ExtendedReservationStatusHeader(Struct, size=64):
    """The first bytes of Reservation Status, Extended."""

    gen = U32(0, "Generation")
    rtype = U8(4, "Reservation Type", names=ReservationType)
    regstrnt = U16(5, "Number of Registrants")
    _rsvd7 = ReservedBytes(7, 2)
    ptpls = U8(9, "Persist Through Power Loss State")
    _rsvd10 = ReservedBytes(10, 54)


class ExtendedRegistrant(Struct, size=64):
    """Registrant, Extended (7.8): a host with a 128-bit identifier."""

    cntlid = U16(0, "Controller ID (FFFFh: of another domain or not known)")
    rcsts = U8(2, "Reservation Status", bits=RCSTS)
    _rsvd3 = ReservedBytes(3, 5)
    rkey = U64(8, "Reservation Key")
    hostid = Raw(16, 16, "Host Identifier")
    _rsvd32 = ReservedBytes(32, 32)


class ExtendedReservationStatus(
    StructList[ExtendedReservationStatusHeader, ExtendedRegistrant],
    header=ExtendedReservationStatusHeader,
    element=ExtendedRegistrant,
    count="regstrnt",
):
    """Reservation Status, Extended (7.8): what Reservation Report brings with EDS."""
