"""Queue entries, opcodes and SGL descriptors; `admin` and `nvm` have the commands' dwords.

NVMe Base 2.0: 3.3.3 (queue entries), 4.1 (PRP and SGL).
"""

from enum import IntEnum

from .fields import U8, U16, U32, U64, Bit, Bits, Register, Reserved, ReservedBytes, Struct
from .status import Status

NSID_ALL = 0xFFFFFFFF  # the broadcast namespace identifier


class AdminOpcode(IntEnum):
    """Opcodes of the admin command set (5; Base 2.2, figure 28; Cross-Controller Reset: 2.3)."""

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
    DISCOVERY_INFORMATION_MANAGEMENT = 0x21
    FABRIC_ZONING_RECEIVE = 0x22
    LOCKDOWN = 0x24
    FABRIC_ZONING_LOOKUP = 0x25
    CLEAR_EXPORTED_NVM_RESOURCE_CONFIGURATION = 0x28
    FABRIC_ZONING_SEND = 0x29
    CREATE_EXPORTED_NVM_SUBSYSTEM = 0x2A
    MANAGE_EXPORTED_NVM_SUBSYSTEM = 0x2D
    MANAGE_EXPORTED_NAMESPACE = 0x31
    MANAGE_EXPORTED_PORT = 0x35
    CROSS_CONTROLLER_RESET = 0x38
    SEND_DISCOVERY_LOG_PAGE = 0x39
    TRACK_SEND = 0x3D
    TRACK_RECEIVE = 0x3E
    MIGRATION_SEND = 0x41
    MIGRATION_RECEIVE = 0x42
    CONTROLLER_DATA_QUEUE = 0x45
    DOORBELL_BUFFER_CONFIG = 0x7C
    FABRICS = 0x7F
    FORMAT_NVM = 0x80
    SECURITY_SEND = 0x81
    SECURITY_RECEIVE = 0x82
    SANITIZE = 0x84
    LOAD_PROGRAM = 0x85
    GET_LBA_STATUS = 0x86
    PROGRAM_ACTIVATION_MANAGEMENT = 0x88
    MEMORY_RANGE_SET_MANAGEMENT = 0x89


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
    CANCEL = 0x18
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
