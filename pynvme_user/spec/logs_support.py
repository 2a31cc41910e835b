"""Log pages about what a controller supports, and what that does or may not do.

Supported Log Pages, the Supported and Effects pages of commands, features and NVMe-MI commands,
and Command and Feature Lockdown. Sections and names are those of NVMe Base 2.1.
"""

from enum import IntEnum

from .fields import U8, U32, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .lists import StructList


class LidSupported(Register, width=32):
    """LID Supported and Effects."""

    lsupp = Bit(0, "LID Supported")
    ios = Bit(1, "Index Offset Supported")
    _r15_2 = Reserved(15, 2)
    lidsp = Bits(31, 16, "LID Specific Parameter")


class SupportedLogPages(Struct, size=1024):
    """Supported Log Pages (log identifier 00h, 5.1.12.1.1): `lids` by log identifier."""

    lids = U32.array(0, 256, "LID Supported and Effects", bits=LidSupported)


class SubmissionAndExecution(IntEnum):
    """CSE: when a command is to be submitted."""

    NO_RESTRICTION = 0
    ALONE_IN_ITS_NAMESPACE = 1
    ALONE_IN_EVERY_NAMESPACE = 2


class CommandEffects(Register, width=32):
    """Commands Supported and Effects."""

    csupp = Bit(0, "Command Supported")
    lbcc = Bit(1, "Logical Block Content Change")
    ncc = Bit(2, "Namespace Capability Change")
    nic = Bit(3, "Namespace Inventory Change")
    ccc = Bit(4, "Controller Capability Change")
    _r13_5 = Reserved(13, 5)
    cser = Bits(15, 14, "Command Submission and Execution Relaxations")
    cse = Bits(18, 16, "Command Submission and Execution", SubmissionAndExecution)
    uss = Bit(19, "UUID Selection Supported")
    nscpe = Bit(20, "Namespace Scope")
    cscpe = Bit(21, "Controller Scope")
    nsetscpe = Bit(22, "NVM Set Scope")
    egscpe = Bit(23, "Endurance Group Scope")
    dscpe = Bit(24, "Domain Scope")
    nsscpe = Bit(25, "NVM Subsystem Scope")
    _r31_26 = Reserved(31, 26)


class CommandEffectsLog(Struct, size=4096):
    """Commands Supported and Effects (log identifier 05h, 5.1.12.1.6): both by opcode.

    `iocs` is that of the I/O command set that the command's CSI names.
    """

    acs = U32.array(0, 256, "Admin Commands Supported", bits=CommandEffects)
    iocs = U32.array(1024, 256, "I/O Commands Supported", bits=CommandEffects)
    _rsvd2048 = ReservedBytes(2048, 2048)


class FeatureEffects(Register, width=32):
    """FID Supported and Effects; one scope at most is set."""

    fsupp = Bit(0, "FID Supported")
    udcc = Bit(1, "User Data Content Change")
    ncc = Bit(2, "Namespace Capability Change")
    nic = Bit(3, "Namespace Inventory Change")
    ccc = Bit(4, "Controller Capability Change")
    _r18_5 = Reserved(18, 5)
    uss = Bit(19, "UUID Selection Supported")
    nscpe = Bit(20, "Namespace Scope")
    cscpe = Bit(21, "Controller Scope")
    nsetscpe = Bit(22, "NVM Set Scope")
    egscpe = Bit(23, "Endurance Group Scope")
    dscpe = Bit(24, "Domain Scope")
    nsscpe = Bit(25, "NVM Subsystem Scope")
    cdqscp = Bit(26, "Controller Data Queue")
    _r31_27 = Reserved(31, 27)


class FeatureEffectsLog(Struct, size=1024):
    """Feature Identifiers Supported and Effects (log identifier 12h, 5.1.12.1.18)."""

    fis = U32.array(0, 256, "Feature Identifiers Supported", bits=FeatureEffects)


class MiCommandEffects(Register, width=32):
    """NVMe-MI Commands Supported and Effects."""

    csupp = Bit(0, "Command Supported")
    udcc = Bit(1, "User Data Content Change")
    ncc = Bit(2, "Namespace Capability Change")
    nic = Bit(3, "Namespace Inventory Change")
    ccc = Bit(4, "Controller Capability Change")
    _r19_5 = Reserved(19, 5)
    nscpe = Bit(20, "Namespace Scope")
    cscpe = Bit(21, "Controller Scope")
    nsetscpe = Bit(22, "NVM Set Scope")
    egscpe = Bit(23, "Endurance Group Scope")
    dscpe = Bit(24, "Domain Scope")
    nsscpe = Bit(25, "NVM Subsystem Scope")
    _r31_26 = Reserved(31, 26)


class MiCommandEffectsLog(Struct, size=4096):
    """NVMe-MI Commands Supported and Effects (log identifier 13h, 5.1.12.1.19)."""

    mics = U32.array(0, 256, "Management Interface Commands Supported", bits=MiCommandEffects)
    _rsvd1024 = ReservedBytes(1024, 3072)


class LockdownScope(IntEnum):
    """What the identifiers of a lockdown list are."""

    ADMIN_COMMANDS = 0
    FEATURES = 2
    MI_COMMANDS = 3
    PCIE_COMMANDS = 4


class LockdownContents(IntEnum):
    """Which identifiers a lockdown list has."""

    CAN_BE_PROHIBITED = 0
    PROHIBITED_ON_THE_ADMIN_QUEUE = 1
    PROHIBITED_OUT_OF_BAND = 2


class LockdownLsp(Register, width=7):
    """Log Specific Parameter of Command and Feature Lockdown."""

    scp = Bits(3, 0, "Scope", LockdownScope)
    cntts = Bits(5, 4, "Contents", LockdownContents)
    _r6 = Reserved(6, 6)


class CFILA(Register, width=8):
    """Command and Feature Identifier List Attributes."""

    ss = Bits(3, 0, "Scope Selected", LockdownScope)
    cs = Bits(5, 4, "Contents Selected", LockdownContents)
    _r7_6 = Reserved(7, 6)


class LockdownHeader(Struct, size=4):
    """Command and Feature Lockdown, before the list."""

    cfila = U8(0, "Command and Feature Identifier List Attributes", bits=CFILA)
    _rsvd1 = ReservedBytes(1, 2)
    lngth = U8(3, "Length of the list, in bytes")


class LockdownLog(
    StructList[LockdownHeader, int],
    header=LockdownHeader,
    element=1,
    count="lngth",
    length=lambda header: 512,
):
    """Command and Feature Lockdown (log identifier 14h, 5.1.12.1.20): opcodes or FIDs."""
