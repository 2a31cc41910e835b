"""Queue entries, opcodes and the admin commands' dwords; `nvm` has the I/O commands'.

NVMe Base 2.0: 3.3.3 (queue entries), 4.1 (PRP and SGL), 5 (admin commands). Counts that the
specification calls "0's based" say zero-based.
"""

from enum import IntEnum

from .fields import U8, U16, U32, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .status import Status

NSID_ALL = 0xFFFFFFFF  # the broadcast namespace identifier


class AdminOpcode(IntEnum):
    """Opcodes of the admin command set (5, figure 138)."""

    DELETE_IO_SQ = 0x00
    CREATE_IO_SQ = 0x01
    GET_LOG_PAGE = 0x02
    DELETE_IO_CQ = 0x04
    CREATE_IO_CQ = 0x05
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNC_EVENT_REQUEST = 0x0C
    NAMESPACE_MANAGEMENT = 0x0D
    FIRMWARE_COMMIT = 0x10
    FIRMWARE_DOWNLOAD = 0x11
    DEVICE_SELF_TEST = 0x14
    NAMESPACE_ATTACHMENT = 0x15
    KEEP_ALIVE = 0x18
    DIRECTIVE_SEND = 0x19
    DIRECTIVE_RECEIVE = 0x1A
    VIRTUALIZATION_MANAGEMENT = 0x1C
    NVME_MI_SEND = 0x1D
    NVME_MI_RECEIVE = 0x1E
    CAPACITY_MANAGEMENT = 0x20
    LOCKDOWN = 0x24
    DOORBELL_BUFFER_CONFIG = 0x7C
    FABRICS = 0x7F
    FORMAT_NVM = 0x80
    SECURITY_SEND = 0x81
    SECURITY_RECEIVE = 0x82
    SANITIZE = 0x84
    GET_LBA_STATUS = 0x86


class NvmOpcode(IntEnum):
    """I/O opcodes of the NVM and the Zoned Namespace command sets."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    WRITE_UNCORRECTABLE = 0x04
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09
    VERIFY = 0x0C
    RESERVATION_REGISTER = 0x0D
    RESERVATION_REPORT = 0x0E
    RESERVATION_ACQUIRE = 0x11
    IO_MANAGEMENT_RECEIVE = 0x12
    RESERVATION_RELEASE = 0x15
    COPY = 0x19
    IO_MANAGEMENT_SEND = 0x1D
    ZONE_MANAGEMENT_SEND = 0x79
    ZONE_MANAGEMENT_RECEIVE = 0x7A
    ZONE_APPEND = 0x7D
    FABRICS = 0x7F


class DataTransfer(IntEnum):
    """Which way a command's data goes: bits 1:0 of every opcode but Fabrics'."""

    NONE = 0
    HOST_TO_CONTROLLER = 1
    CONTROLLER_TO_HOST = 2
    BIDIRECTIONAL = 3

    @classmethod
    def of(cls, opcode: int) -> "DataTransfer":
        """Return the direction of `opcode`, vendor-specific ones included."""
        return cls(opcode & 3)


class CommandSetId(IntEnum):
    """CSI, the I/O Command Set Identifier."""

    NVM = 0
    KEY_VALUE = 1
    ZONED = 2


# Queue entries


class Psdt(IntEnum):
    """PSDT, how DPTR and MPTR describe memory."""

    PRP = 0
    SGL_MPTR_CONTIGUOUS = 1
    SGL_MPTR_SGL = 2


class Fuse(IntEnum):
    """FUSE, the place in a fused operation."""

    NORMAL = 0
    FIRST = 1
    SECOND = 2


class CommandFlags(Register, width=8):
    """Byte 1 of a command (3.3.3.1)."""

    fuse = Bits(1, 0, "Fused Operation", Fuse)
    _r5_2 = Reserved(5, 2)
    psdt = Bits(7, 6, "PRP or SGL for Data Transfer", Psdt)


class SglType(IntEnum):
    """SGL Descriptor Type (4.1.2.1)."""

    DATA_BLOCK = 0
    BIT_BUCKET = 1
    SEGMENT = 2
    LAST_SEGMENT = 3
    KEYED_DATA_BLOCK = 4
    TRANSPORT_DATA_BLOCK = 5
    VENDOR_SPECIFIC = 15


class SglSubType(IntEnum):
    """SGL Descriptor Sub Type (4.1.2.1)."""

    ADDRESS = 0
    OFFSET = 1
    TRANSPORT = 10


class SglIdentifier(Register, width=8):
    """SGL Identifier (4.1.2.1)."""

    subtype = Bits(3, 0, "SGL Descriptor Sub Type", SglSubType)
    type = Bits(7, 4, "SGL Descriptor Type", SglType)


class SglDescriptor(Struct, size=16):
    """SGL Descriptor (4.1.2.1).

    As a data block: `length` bytes at bus address `addr`. As a segment: `length` bytes of further
    descriptors at `addr`.
    """

    addr = U64(0, "Address")
    length = U32(8, "Length (bytes)")
    _rsvd12 = ReservedBytes(12, 3)
    id = U8(15, "SGL Identifier", bits=SglIdentifier)


class SQE(Struct, size=64):
    """Submission Queue Entry (3.3.3.1).

    `prp1` and `prp2` are the two halves of DPTR; with an SGL they are its one descriptor, which
    `with_sgl` puts there and `sgl1` reads.
    """

    opc = U8(0, "Opcode")
    flags = U8(1, "Fused Operation, PRP or SGL", bits=CommandFlags)
    cid = U16(2, "Command Identifier")
    nsid = U32(4, "Namespace Identifier")
    cdw2 = U32(8, "Command Dword 2")
    cdw3 = U32(12, "Command Dword 3")
    mptr = U64(16, "Metadata Pointer")
    prp1 = U64(24, "PRP Entry 1")
    prp2 = U64(32, "PRP Entry 2")
    cdw10 = U32(40, "Command Dword 10")
    cdw11 = U32(44, "Command Dword 11")
    cdw12 = U32(48, "Command Dword 12")
    cdw13 = U32(52, "Command Dword 13")
    cdw14 = U32(56, "Command Dword 14")
    cdw15 = U32(60, "Command Dword 15")

    @property
    def sgl1(self) -> SglDescriptor:
        """DPTR as an SGL descriptor; it is one only if PSDT says so."""
        return SglDescriptor.from_bytes(bytes(self), SQE.prp1.offset)

    def with_sgl(self, descriptor: SglDescriptor) -> "SQE":
        """Return a copy whose data is described by one SGL descriptor instead of PRPs."""
        raw = bytes(descriptor)
        return self.replace(
            flags=self.flags.replace(psdt=Psdt.SGL_MPTR_CONTIGUOUS),
            prp1=int.from_bytes(raw[:8], "little"),
            prp2=int.from_bytes(raw[8:], "little"),
        )


class PhaseStatus(Register, width=16):
    """Phase Tag and Status Field, the upper half of a completion's dword 3."""

    p = Bit(0, "Phase Tag")
    sf = Bits(15, 1, "Status Field")


class CQE(Struct, size=16):
    """Completion Queue Entry (3.3.3.2)."""

    dw0 = U32(0, "Command Specific Result")
    dw1 = U32(4, "Command Specific Result, upper dword")
    sqhd = U16(8, "SQ Head Pointer")
    sqid = U16(10, "SQ Identifier")
    cid = U16(12, "Command Identifier")
    phase_status = U16(14, "Phase Tag and Status Field", bits=PhaseStatus)

    @property
    def p(self) -> int:
        """The Phase Tag."""
        return self.phase_status.p

    @property
    def status(self) -> Status:
        """The Status Field, without the Phase Tag."""
        return Status(self.phase_status.sf)


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
    """CNS, what Identify returns (5.17, figure 273)."""

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


class FeatureId(IntEnum):
    """FID, a feature (5.27, figure 316)."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    LBA_RANGE_TYPE = 0x03
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIG = 0x09
    WRITE_ATOMICITY = 0x0A
    ASYNC_EVENT_CONFIG = 0x0B
    AUTONOMOUS_POWER_STATE_TRANSITION = 0x0C
    HOST_MEMORY_BUFFER = 0x0D
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F
    HOST_CONTROLLED_THERMAL_MANAGEMENT = 0x10
    NON_OPERATIONAL_POWER_STATE_CONFIG = 0x11
    READ_RECOVERY_LEVEL_CONFIG = 0x12
    PREDICTABLE_LATENCY_MODE_CONFIG = 0x13
    PREDICTABLE_LATENCY_MODE_WINDOW = 0x14
    LBA_STATUS_INFORMATION_REPORT_INTERVAL = 0x15
    HOST_BEHAVIOR_SUPPORT = 0x16
    SANITIZE_CONFIG = 0x17
    ENDURANCE_GROUP_EVENT_CONFIG = 0x18
    IO_COMMAND_SET_PROFILE = 0x19
    SPINUP_CONTROL = 0x1A
    FLEXIBLE_DATA_PLACEMENT = 0x1D
    FLEXIBLE_DATA_PLACEMENT_EVENTS = 0x1E
    ENHANCED_CONTROLLER_METADATA = 0x7D
    CONTROLLER_METADATA = 0x7E
    NAMESPACE_METADATA = 0x7F
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83
    NAMESPACE_WRITE_PROTECTION_CONFIG = 0x84


class FeatureSelect(IntEnum):
    """SEL, which value of a feature Get Features returns."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED = 3


class SetFeaturesCdw10(Register, width=32):
    """Set Features, dword 10 (5.27)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    _r30_8 = Reserved(30, 8)
    sv = Bit(31, "Save")


class GetFeaturesCdw10(Register, width=32):
    """Get Features, dword 10 (5.15)."""

    fid = Bits(7, 0, "Feature Identifier", FeatureId)
    sel = Bits(10, 8, "Select", FeatureSelect)
    _r31_11 = Reserved(31, 11)


class NumberOfQueuesCdw11(Register, width=32):
    """Number of Queues, as requested in dword 11 (5.27.1.5)."""

    nsqr = Bits(15, 0, "Number of I/O Submission Queues Requested (zero-based)")
    ncqr = Bits(31, 16, "Number of I/O Completion Queues Requested (zero-based)")


class NumberOfQueuesResult(Register, width=32):
    """Number of Queues, as granted in the completion's dword 0 (5.27.1.5)."""

    nsqa = Bits(15, 0, "Number of I/O Submission Queues Allocated (zero-based)")
    ncqa = Bits(31, 16, "Number of I/O Completion Queues Allocated (zero-based)")


class AbortCdw10(Register, width=32):
    """Abort, dword 10 (5.1)."""

    sqid = Bits(15, 0, "Submission Queue Identifier")
    cid = Bits(31, 16, "Command Identifier")


class AbortResult(Register, width=32):
    """Abort, the completion's dword 0 (5.1): the bit is 0 if the command *was* aborted."""

    ianp = Bit(0, "Immediate Abort Not Performed")
    _r31_1 = Reserved(31, 1)


class AsyncEventType(IntEnum):
    """The type of an asynchronous event (5.2)."""

    ERROR = 0
    SMART_HEALTH = 1
    NOTICE = 2
    IO_COMMAND_SPECIFIC = 6
    VENDOR_SPECIFIC = 7


class AsyncEventResult(Register, width=32):
    """Asynchronous Event Request, the completion's dword 0 (5.2)."""

    aet = Bits(2, 0, "Asynchronous Event Type", AsyncEventType)
    _r7_3 = Reserved(7, 3)
    aei = Bits(15, 8, "Asynchronous Event Information")
    lid = Bits(23, 16, "Log Page Identifier")
    _r31_24 = Reserved(31, 24)


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


class SanitizeCdw10(Register, width=32):
    """Sanitize, dword 10 (5.24); dword 11 is the overwrite pattern."""

    sanact = Bits(2, 0, "Sanitize Action", SanitizeAction)
    ause = Bit(3, "Allow Unrestricted Sanitize Exit")
    owpass = Bits(7, 4, "Overwrite Pass Count (0: 16)")
    oipbp = Bit(8, "Overwrite Invert Pattern Between Passes")
    ndas = Bit(9, "No-Deallocate After Sanitize")
    _r31_10 = Reserved(31, 10)
