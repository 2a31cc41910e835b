"""The dwords of the admin commands, and Identify's CNS (NVMe Base 2.0, 5).

Counts that the specification calls "0's based" say zero-based. Features are in `features`, what
Asynchronous Event Request reports in `events`, firmware, namespaces and the other commands of
management in `management`, `security`, `directives`, `migration`. Keep Alive has no dwords, and
Doorbell Buffer Config two PRPs alone.
"""

from enum import IntEnum

from .commands import CommandSetId
from .fields import Bit, Bits, Register, Reserved


class CreateQueueCdw10(Register, width=32):
    """Create I/O Submission or Completion Queue, dword 10 (5.4, 5.5)."""

    qid = Bits(15, 0, "Queue Identifier")
    qsize = Bits(31, 16, "Queue Size (zero-based)")


class CreateCqCdw11(Register, width=32):
    """Create I/O Completion Queue, dword 11 (5.4)."""

    pc = Bit(0, "Physically Contiguous")
    ien = Bit(1, "Interrupts Enabled")
    _r15_2 = Reserved(15, 2)
    iv = Bits(31, 16, "Interrupt Vector")


class QueuePriority(IntEnum):
    """QPRIO, meaningful with weighted round robin only."""

    URGENT = 0
    HIGH = 1
    MEDIUM = 2
    LOW = 3


class CreateSqCdw11(Register, width=32):
    """Create I/O Submission Queue, dword 11 (5.5)."""

    pc = Bit(0, "Physically Contiguous")
    qprio = Bits(2, 1, "Queue Priority", QueuePriority)
    _r15_3 = Reserved(15, 3)
    cqid = Bits(31, 16, "Completion Queue Identifier")


class CreateSqCdw12(Register, width=32):
    """Create I/O Submission Queue, dword 12 (5.5)."""

    nvmsetid = Bits(15, 0, "NVM Set Identifier")
    _r31_16 = Reserved(31, 16)


class DeleteQueueCdw10(Register, width=32):
    """Delete I/O Submission or Completion Queue, dword 10 (5.6, 5.7)."""

    qid = Bits(15, 0, "Queue Identifier")
    _r31_16 = Reserved(31, 16)


class Cns(IntEnum):
    """CNS, what Identify returns (5.17, figure 273; from 1Dh on Base 2.1, figure 310)."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    NVM_SETS = 0x04
    CSI_NAMESPACE = 0x05
    CSI_CONTROLLER = 0x06
    CSI_ACTIVE_NAMESPACES = 0x07
    INDEPENDENT_NAMESPACE = 0x08
    NAMESPACE_FORMAT = 0x09
    CSI_NAMESPACE_FORMAT = 0x0A
    ALLOCATED_NAMESPACES = 0x10
    ALLOCATED_NAMESPACE = 0x11
    NAMESPACE_CONTROLLERS = 0x12
    CONTROLLERS = 0x13
    PRIMARY_CONTROLLER_CAPABILITIES = 0x14
    SECONDARY_CONTROLLERS = 0x15
    NAMESPACE_GRANULARITIES = 0x16
    UUIDS = 0x17
    DOMAINS = 0x18
    ENDURANCE_GROUPS = 0x19
    CSI_ALLOCATED_NAMESPACES = 0x1A
    CSI_ALLOCATED_NAMESPACE = 0x1B
    IO_COMMAND_SETS = 0x1C
    UNDERLYING_NAMESPACES = 0x1D
    PORTS = 0x1E
    INDEPENDENT_ALLOCATED_NAMESPACE = 0x1F
    CONTROLLER_STATE_FORMATS = 0x20


class IdentifyCdw10(Register, width=32):
    """Identify, dword 10 (5.17)."""

    cns = Bits(7, 0, "Controller or Namespace Structure", Cns)
    _r15_8 = Reserved(15, 8)
    cntid = Bits(31, 16, "Controller Identifier")


class IdentifyCdw11(Register, width=32):
    """Identify, dword 11 (5.17)."""

    cnssid = Bits(15, 0, "CNS Specific Identifier")
    _r23_16 = Reserved(23, 16)
    csi = Bits(31, 24, "Command Set Identifier", CommandSetId)


class IdentifyCdw14(Register, width=32):
    """Identify, dword 14 (5.17)."""

    uidx = Bits(6, 0, "UUID Index (0: none)")
    _r31_7 = Reserved(31, 7)


class GetLogPageCdw10(Register, width=32):
    """Get Log Page, dword 10 (5.16)."""

    lid = Bits(7, 0, "Log Page Identifier")
    lsp = Bits(14, 8, "Log Specific Field")
    rae = Bit(15, "Retain Asynchronous Event")
    numdl = Bits(31, 16, "Number of Dwords Lower (zero-based)")


class GetLogPageCdw11(Register, width=32):
    """Get Log Page, dword 11 (5.16)."""

    numdu = Bits(15, 0, "Number of Dwords Upper")
    lsi = Bits(31, 16, "Log Specific Identifier")


class GetLogPageCdw14(Register, width=32):
    """Get Log Page, dword 14 (5.16)."""

    uidx = Bits(6, 0, "UUID Index")
    _r22_7 = Reserved(22, 7)
    ot = Bit(23, "Offset Type")
    csi = Bits(31, 24, "Command Set Identifier", CommandSetId)


class AbortCdw10(Register, width=32):
    """Abort, dword 10 (5.1)."""

    sqid = Bits(15, 0, "Submission Queue Identifier")
    cid = Bits(31, 16, "Command Identifier")


class AbortResult(Register, width=32):
    """Abort, the completion's dword 0 (5.1): the bit is 0 if the command *was* aborted."""

    ianp = Bit(0, "Immediate Abort Not Performed")
    _r31_1 = Reserved(31, 1)


class SecureErase(IntEnum):
    """SES, what Format NVM erases."""

    NONE = 0
    USER_DATA = 1
    CRYPTOGRAPHIC = 2


class FormatCdw10(Register, width=32):
    """Format NVM, dword 10 (5.14)."""

    lbafl = Bits(3, 0, "LBA Format, lower 4 bits")
    mset = Bit(4, "Metadata Settings (1: at the end of each block)")
    pi = Bits(7, 5, "Protection Information (0: none, else the type)")
    pil = Bit(8, "Protection Information Location (1: first bytes of the metadata)")
    ses = Bits(11, 9, "Secure Erase Settings", SecureErase)
    lbafu = Bits(13, 12, "LBA Format, upper 2 bits")
    _r31_14 = Reserved(31, 14)


class SanitizeAction(IntEnum):
    """SANACT, what Sanitize does."""

    EXIT_FAILURE_MODE = 1
    BLOCK_ERASE = 2
    OVERWRITE = 3
    CRYPTO_ERASE = 4
    EXIT_MEDIA_VERIFICATION = 5


class SanitizeCdw10(Register, width=32):
    """Sanitize, dword 10 (5.24; Base 2.1, 5.1.22); dword 11 is the overwrite pattern."""

    sanact = Bits(2, 0, "Sanitize Action", SanitizeAction)
    ause = Bit(3, "Allow Unrestricted Sanitize Exit")
    owpass = Bits(7, 4, "Overwrite Pass Count (0: 16)")
    oipbp = Bit(8, "Overwrite Invert Pattern Between Passes")
    ndas = Bit(9, "No-Deallocate After Sanitize")
    emvs = Bit(10, "Enter Media Verification State")
    _r31_11 = Reserved(31, 11)


class SelfTestCode(IntEnum):
    """STC, the action of Device Self-test."""

    SHORT = 0x1
    EXTENDED = 0x2
    HOST_INITIATED_REFRESH = 0x3
    VENDOR_SPECIFIC = 0xE
    ABORT = 0xF


class DeviceSelfTestCdw10(Register, width=32):
    """Device Self-test, dword 10 (5.9); dword 15 is a parameter of the vendor's own test."""

    stc = Bits(3, 0, "Self-test Code", SelfTestCode)
    _r31_4 = Reserved(31, 4)
