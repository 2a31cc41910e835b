"""The pages that Identify returns for namespaces and command sets (NVMe Base 2.0, 5.17.2).

`IdentifyController`, the largest, has `identify_controller` to itself; lists are in
`identify_lists`, what one command set alone has in `identify_nvm` and `identify_zns`, and
`identify_pages` says which CNS brings which. The Identify Namespace page is the NVM Command Set's
(NVM Command Set 1.0, 4.1.5.1). The names of bits, which these versions only number, are Base
2.1's, and so are the fields that came with it.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .fields import (
    U8,
    U16,
    U32,
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
    copy_bytes,
)
from .identify_controller import IdentifyController, PowerState
from .identify_nvm import IdentifyControllerNvm, IdentifyNamespaceNvm

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "IdentifyController",
    "IdentifyControllerNvm",
    "IdentifyNamespace",
    "IdentifyNamespaceIndependent",
    "IdentifyNamespaceNvm",
    "LbaFormat",
    "NamespaceIdentifiers",
    "PowerState",
    "decode_namespace_list",
]

IDENTIFY_SIZE = 4096  # every Identify page, in bytes
NAMESPACE_LIST_SIZE = 1024  # ids in a Namespace List


class RelativePerformance(IntEnum):
    """RP, an LBA format's performance against the others'."""

    BEST = 0
    BETTER = 1
    GOOD = 2
    DEGRADED = 3


class DeallocatedRead(IntEnum):
    """DLFEAT bits 2:0: what a deallocated block reads as."""

    NOT_REPORTED = 0
    ZEROES = 1
    ONES = 2


class NSFEAT(Register, width=8):
    """Namespace Features."""

    thinp = Bit(0, "Thin Provisioning")
    nsabp = Bit(1, "Namespace Supported Atomic Boundary and Power")
    dae = Bit(2, "Deallocated or Unwritten Logical Block Error Supported")
    uidreuse = Bit(3, "NGUID and EUI64 Are Never Reused")
    optperf = Bits(5, 4, "Optimal Write Performance Fields Defined")
    mam = Bit(6, "Multiple Atomicity Mode")
    optrperf = Bit(7, "Optimal Read Performance Fields Defined")


class FLBAS(Register, width=8):
    """Formatted LBA Size."""

    fidxl = Bits(3, 0, "Format Index, lower 4 bits")
    mtelba = Bit(4, "Metadata at the End of the LBA (extended)")
    fidxu = Bits(6, 5, "Format Index, upper 2 bits")
    _r7 = Reserved(7, 7)


class MC(Register, width=8):
    """Metadata Capabilities."""

    mtelbas = Bit(0, "Metadata as Part of an Extended LBA Supported")
    mptrs = Bit(1, "Metadata in a Separate Buffer Supported")
    _r7_2 = Reserved(7, 2)


class DPC(Register, width=8):
    """End-to-end Data Protection Capabilities."""

    pit1s = Bit(0, "Protection Information Type 1 Supported")
    pit2s = Bit(1, "Protection Information Type 2 Supported")
    pit3s = Bit(2, "Protection Information Type 3 Supported")
    piifb = Bit(3, "Protection Information in the First Bytes Supported")
    piilb = Bit(4, "Protection Information in the Last Bytes Supported")
    _r7_5 = Reserved(7, 5)


class DPS(Register, width=8):
    """End-to-end Data Protection Type Settings."""

    pit = Bits(2, 0, "Protection Information Type (0: disabled)")
    pip = Bit(3, "Protection Information Position (1: first bytes)")
    _r7_4 = Reserved(7, 4)


class NMIC(Register, width=8):
    """Namespace Multi-path I/O and Namespace Sharing Capabilities."""

    shrns = Bit(0, "Shared Namespace")
    disns = Bit(1, "Dispersed Namespace")
    _r7_2 = Reserved(7, 2)


class RESCAP(Register, width=8):
    """Reservation Capabilities."""

    ptpls = Bit(0, "Persist Through Power Loss Support")
    wes = Bit(1, "Write Exclusive Support")
    eas = Bit(2, "Exclusive Access Support")
    weros = Bit(3, "Write Exclusive, Registrants Only Support")
    earos = Bit(4, "Exclusive Access, Registrants Only Support")
    wears = Bit(5, "Write Exclusive, All Registrants Support")
    eaars = Bit(6, "Exclusive Access, All Registrants Support")
    iekey = Bit(7, "Ignore Existing Key as in Version 1.3 or Later")


class FPI(Register, width=8):
    """Format Progress Indicator."""

    fpr = Bits(6, 0, "Percentage Remaining to Be Formatted")
    fpis = Bit(7, "Format Progress Indicator Supported")


class DLFEAT(Register, width=8):
    """Deallocate Logical Block Features."""

    drb = Bits(2, 0, "Deallocation Read Behavior", DeallocatedRead)
    wzds = Bit(3, "Write Zeroes Deallocation Supported")
    gds = Bit(4, "Guard of Deallocated Blocks Is Their CRC")
    _r7_5 = Reserved(7, 5)


class NSATTR(Register, width=8):
    """Namespace Attributes."""

    cwp = Bit(0, "Currently Write Protected")
    _r7_1 = Reserved(7, 1)


class KPIOS(Register, width=8):
    """Key Per I/O Status."""

    kpioens = Bit(0, "Key Per I/O Enabled in the Namespace")
    kpiosns = Bit(1, "Key Per I/O Supported in the Namespace")
    _r7_2 = Reserved(7, 2)


class RP(Register, width=8):
    """Relative Performance of an LBA format."""

    rp = Bits(1, 0, "Relative Performance", RelativePerformance)
    _r7_2 = Reserved(7, 2)


class LbaFormat(Struct, size=4):
    """LBA Format (NVM Command Set 1.0, 4.1.5.1)."""

    ms = U16(0, "Metadata Size (bytes)")
    ds = U8(2, "LBA Data Size (2 ^ n bytes, 0: not available)")
    rp = U8(3, "Relative Performance", bits=RP)


class IdentifyNamespace(Struct, size=4096):
    """Identify Namespace, NVM Command Set (CNS 00h; NVM Command Set 1.0, 4.1.5.1)."""

    nsze = U64(0, "Namespace Size (blocks)")
    ncap = U64(8, "Namespace Capacity (blocks)")
    nuse = U64(16, "Namespace Utilization (blocks)")
    nsfeat = U8(24, "Namespace Features", bits=NSFEAT)
    nlbaf = U8(25, "Number of LBA Formats (zero-based)")
    flbas = U8(26, "Formatted LBA Size", bits=FLBAS)
    mc = U8(27, "Metadata Capabilities", bits=MC)
    dpc = U8(28, "End-to-end Data Protection Capabilities", bits=DPC)
    dps = U8(29, "End-to-end Data Protection Type Settings", bits=DPS)
    nmic = U8(30, "Multi-path I/O and Namespace Sharing Capabilities", bits=NMIC)
    rescap = U8(31, "Reservation Capabilities", bits=RESCAP)
    fpi = U8(32, "Format Progress Indicator", bits=FPI)
    dlfeat = U8(33, "Deallocate Logical Block Features", bits=DLFEAT)
    nawun = U16(34, "Namespace Atomic Write Unit Normal (blocks, zero-based)")
    nawupf = U16(36, "Namespace Atomic Write Unit Power Fail (blocks, zero-based)")
    nacwu = U16(38, "Namespace Atomic Compare and Write Unit (blocks, zero-based)")
    nabsn = U16(40, "Namespace Atomic Boundary Size Normal (blocks, zero-based)")
    nabo = U16(42, "Namespace Atomic Boundary Offset (LBA)")
    nabspf = U16(44, "Namespace Atomic Boundary Size Power Fail (blocks, zero-based)")
    noiob = U16(46, "Namespace Optimal I/O Boundary (blocks)")
    nvmcap = U128(48, "NVM Capacity (bytes)")
    npwg = U16(64, "Namespace Preferred Write Granularity (blocks, zero-based)")
    npwa = U16(66, "Namespace Preferred Write Alignment (blocks, zero-based)")
    npdg = U16(68, "Namespace Preferred Deallocate Granularity (blocks, zero-based)")
    npda = U16(70, "Namespace Preferred Deallocate Alignment (blocks, zero-based)")
    nows = U16(72, "Namespace Optimal Write Size (blocks, zero-based)")
    mssrl = U16(74, "Maximum Single Source Range Length (blocks)")
    mcl = U32(76, "Maximum Copy Length (blocks)")
    msrc = U8(80, "Maximum Source Range Count (zero-based)")
    kpios = U8(81, "Key Per I/O Status", bits=KPIOS)
    nulbaf = U8(82, "Number of Unique Capability LBA Formats")
    _rsvd83 = ReservedBytes(83, 1)
    kpiodaag = U32(84, "Key Per I/O Data Access Alignment and Granularity (blocks)")
    _rsvd88 = ReservedBytes(88, 4)
    anagrpid = U32(92, "ANA Group Identifier")
    _rsvd96 = ReservedBytes(96, 3)
    nsattr = U8(99, "Namespace Attributes", bits=NSATTR)
    nvmsetid = U16(100, "NVM Set Identifier")
    endgid = U16(102, "Endurance Group Identifier")
    nguid = Raw(104, 16, "Namespace Globally Unique Identifier")
    eui64 = Raw(120, 8, "IEEE Extended Unique Identifier")
    lbafs = Array(128, 64, LbaFormat, "LBA Formats")
    vs = Raw(384, 3712, "Vendor Specific")

    @property
    def format_index(self) -> int:
        """The index in `lbafs` of the format in use.

        FIDXU counts only where there are more than 16 formats, as the specification tells hosts.
        """
        if self.nlbaf + self.nulbaf < 16:
            return self.flbas.fidxl
        return self.flbas.fidxu << 4 | self.flbas.fidxl

    @property
    def lbaf(self) -> LbaFormat:
        """The LBA format in use: its block size is 2 ^ `ds` bytes."""
        return self.lbafs[self.format_index]


class IndependentNSFEAT(Register, width=8):
    """Common Namespace Features."""

    _r2_0 = Reserved(2, 0)
    uidreuse = Bit(3, "NGUID and EUI64 Are Never Reused")
    rmedia = Bit(4, "Rotational Media")
    vwcnp = Bit(5, "Volatile Write Cache Not Present")
    _r7_6 = Reserved(7, 6)


class NSTAT(Register, width=8):
    """Namespace Status."""

    nrdy = Bit(0, "Namespace Ready")
    ioi = Bits(2, 1, "I/O Impacted")
    _r7_3 = Reserved(7, 3)


class IdentifyNamespaceIndependent(Struct, size=4096):
    """I/O Command Set Independent Identify Namespace (CNS 08h, 1Fh; 5.17.2.8)."""

    nsfeat = U8(0, "Common Namespace Features", bits=IndependentNSFEAT)
    nmic = U8(1, "Multi-path I/O and Namespace Sharing Capabilities", bits=NMIC)
    rescap = U8(2, "Reservation Capabilities", bits=RESCAP)
    fpi = U8(3, "Format Progress Indicator", bits=FPI)
    anagrpid = U32(4, "ANA Group Identifier")
    nsattr = U8(8, "Namespace Attributes", bits=NSATTR)
    _rsvd9 = ReservedBytes(9, 1)
    nvmsetid = U16(10, "NVM Set Identifier")
    endgid = U16(12, "Endurance Group Identifier")
    nstat = U8(14, "Namespace Status", bits=NSTAT)
    kpios = U8(15, "Key Per I/O Status", bits=KPIOS)
    maxkt = U16(16, "Maximum Key Tag")
    _rsvd18 = ReservedBytes(18, 2)
    rgrpid = U32(20, "Reachability Group Identifier")
    _rsvd24 = ReservedBytes(24, 4072)


def decode_namespace_list(buffer: "ReadableBuffer") -> list[int]:
    """Return the namespace ids of a Namespace List (CNS 02h, 07h, 10h, 1Ah; 4.4.2).

    The page holds up to 1024, ascending, and zeros after the last: a list that comes back full
    may go on, and the next is asked for with its last id as NSID. ValueError if the buffer is
    shorter than a page.
    """
    page = copy_bytes(buffer, 0, IDENTIFY_SIZE, "a namespace list")
    ids = [int.from_bytes(page[at : at + 4], "little") for at in range(0, IDENTIFY_SIZE, 4)]
    return ids[: ids.index(0)] if 0 in ids else ids


class IdentifierType(IntEnum):
    """NIDT, the kind of a namespace identification descriptor."""

    EUI64 = 1
    NGUID = 2
    UUID = 3
    CSI = 4


_IDENTIFIER_SIZES: dict[int, int] = {
    IdentifierType.EUI64: 8,
    IdentifierType.NGUID: 16,
    IdentifierType.UUID: 16,
    IdentifierType.CSI: 1,
}


@dataclass(frozen=True)
class NamespaceIdentifiers:
    """The Namespace Identification Descriptor list (CNS 03h; 5.17.2.3): None for one not given.

    `eui64` is 8 bytes and `nguid` 16, most significant first; `csi` is the I/O command set.
    `fault` says what is wrong with the list, if anything is.
    """

    eui64: bytes | None = None
    nguid: bytes | None = None
    uuid: UUID | None = None
    csi: int | None = None
    fault: str | None = None

    @classmethod
    def from_bytes(cls, buffer: "ReadableBuffer") -> "NamespaceIdentifiers":
        """Decode the page; descriptors of a type unknown here are passed over.

        So is one whose length is not its type's, and one that runs past the page: of these the
        first is the `fault`. ValueError for a buffer shorter than a page.
        """
        page = copy_bytes(buffer, 0, IDENTIFY_SIZE, "a namespace descriptor list")
        found: dict[int, bytes] = {}
        fault = None
        at = 0
        while at + 4 <= len(page) and page[at + 1] != 0:
            nidt, nidl = page[at], page[at + 1]
            nid = page[at + 4 : at + 4 + nidl]
            expected = _IDENTIFIER_SIZES.get(nidt, nidl)
            if nidl == expected == len(nid):
                found[nidt] = nid
            elif fault is None:
                wrong = "which runs past the page" if nidl == expected else f"not {expected}"
                fault = (
                    f"the namespace descriptor at byte {at} (type {nidt}) has a length of {nidl}, "
                    f"{wrong}"
                )
            at += 4 + nidl
        nid_uuid, csi = found.get(IdentifierType.UUID), found.get(IdentifierType.CSI)
        return cls(
            eui64=found.get(IdentifierType.EUI64),
            nguid=found.get(IdentifierType.NGUID),
            uuid=None if nid_uuid is None else UUID(bytes=nid_uuid),
            csi=None if csi is None else csi[0],
            fault=fault,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the identifiers there are in JSON's types, by name: hex digits, csi a number."""
        plain = {
            "eui64": self.eui64.hex() if self.eui64 is not None else None,
            "nguid": self.nguid.hex() if self.nguid is not None else None,
            "uuid": str(self.uuid) if self.uuid is not None else None,
            "csi": self.csi,
        }
        return {name: value for name, value in plain.items() if value is not None}
