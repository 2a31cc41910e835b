"""Completion status: every code of every type, and the Status Field (NVMe Base 2.0, 3.3.3.2).

Each code is declared once, with the specification's name as a symbol and as text. The number of
a code means nothing without its type: 80h is "LBA Out of Range" as a generic status, "Write
Fault" as a media error.
"""

from enum import IntEnum
from typing import ClassVar, Self

from .fields import Bit, Bits, Register


class StatusCodeType(IntEnum):
    """SCT, which table a status code belongs to."""

    GENERIC = 0
    COMMAND_SPECIFIC = 1
    MEDIA = 2
    PATH = 3
    VENDOR_SPECIFIC = 7


class StatusCode(IntEnum):
    """Base of the tables: a code with its `text`, the specification's words."""

    text: str

    def __new__(cls, code: int, text: str) -> Self:
        """Make a member that is the number `code` and carries `text`."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member


class GenericStatus(StatusCode):
    """SCT 0, Generic Command Status (3.3.3.2.1); 80h on is the NVM and Key Value command sets'."""

    SUCCESS = 0x00, "Successful Completion"
    INVALID_OPCODE = 0x01, "Invalid Command Opcode"
    INVALID_FIELD = 0x02, "Invalid Field in Command"
    COMMAND_ID_CONFLICT = 0x03, "Command ID Conflict"
    DATA_TRANSFER_ERROR = 0x04, "Data Transfer Error"
    ABORTED_POWER_LOSS = 0x05, "Commands Aborted due to Power Loss Notification"
    INTERNAL_ERROR = 0x06, "Internal Error"
    ABORTED_BY_REQUEST = 0x07, "Command Abort Requested"
    ABORTED_SQ_DELETION = 0x08, "Command Aborted due to SQ Deletion"
    ABORTED_FAILED_FUSED = 0x09, "Command Aborted due to Failed Fused Command"
    ABORTED_MISSING_FUSED = 0x0A, "Command Aborted due to Missing Fused Command"
    INVALID_NAMESPACE_OR_FORMAT = 0x0B, "Invalid Namespace or Format"
    COMMAND_SEQUENCE_ERROR = 0x0C, "Command Sequence Error"
    INVALID_SGL_SEGMENT_DESCRIPTOR = 0x0D, "Invalid SGL Segment Descriptor"
    INVALID_NUMBER_OF_SGL_DESCRIPTORS = 0x0E, "Invalid Number of SGL Descriptors"
    DATA_SGL_LENGTH_INVALID = 0x0F, "Data SGL Length Invalid"
    METADATA_SGL_LENGTH_INVALID = 0x10, "Metadata SGL Length Invalid"
    SGL_DESCRIPTOR_TYPE_INVALID = 0x11, "SGL Descriptor Type Invalid"
    INVALID_USE_OF_CMB = 0x12, "Invalid Use of Controller Memory Buffer"
    PRP_OFFSET_INVALID = 0x13, "PRP Offset Invalid"
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x14, "Atomic Write Unit Exceeded"
    OPERATION_DENIED = 0x15, "Operation Denied"
    SGL_OFFSET_INVALID = 0x16, "SGL Offset Invalid"
    HOST_ID_INCONSISTENT_FORMAT = 0x18, "Host Identifier Inconsistent Format"
    KEEP_ALIVE_TIMER_EXPIRED = 0x19, "Keep Alive Timer Expired"
    KEEP_ALIVE_TIMEOUT_INVALID = 0x1A, "Keep Alive Timeout Invalid"
    ABORTED_PREEMPT_AND_ABORT = 0x1B, "Command Aborted due to Preempt and Abort"
    SANITIZE_FAILED = 0x1C, "Sanitize Failed"
    SANITIZE_IN_PROGRESS = 0x1D, "Sanitize In Progress"
    SGL_DATA_BLOCK_GRANULARITY_INVALID = 0x1E, "SGL Data Block Granularity Invalid"
    COMMAND_NOT_SUPPORTED_IN_CMB = 0x1F, "Command Not Supported for Queue in CMB"
    NAMESPACE_WRITE_PROTECTED = 0x20, "Namespace is Write Protected"
    COMMAND_INTERRUPTED = 0x21, "Command Interrupted"
    TRANSIENT_TRANSPORT_ERROR = 0x22, "Transient Transport Error"
    PROHIBITED_BY_LOCKDOWN = 0x23, "Command Prohibited by Command and Feature Lockdown"
    ADMIN_COMMAND_MEDIA_NOT_READY = 0x24, "Admin Command Media Not Ready"
    INVALID_KEY_TAG = 0x25, "Invalid Key Tag"
    DISPERSED_NAMESPACES_NOT_ENABLED = 0x26, "Host Dispersed Namespace Support Not Enabled"
    HOST_ID_NOT_INITIALIZED = 0x27, "Host Identifier Not Initialized"
    INCORRECT_KEY = 0x28, "Incorrect Key"
    FDP_DISABLED = 0x29, "FDP Disabled"
    INVALID_PLACEMENT_HANDLE_LIST = 0x2A, "Invalid Placement Handle List"
    LBA_OUT_OF_RANGE = 0x80, "LBA Out of Range"
    CAPACITY_EXCEEDED = 0x81, "Capacity Exceeded"
    NAMESPACE_NOT_READY = 0x82, "Namespace Not Ready"
    RESERVATION_CONFLICT = 0x83, "Reservation Conflict"
    FORMAT_IN_PROGRESS = 0x84, "Format In Progress"
    INVALID_VALUE_SIZE = 0x85, "Invalid Value Size"
    INVALID_KEY_SIZE = 0x86, "Invalid Key Size"
    KEY_DOES_NOT_EXIST = 0x87, "KV Key Does Not Exist"
    UNRECOVERED_ERROR = 0x88, "Unrecovered Error"
    KEY_EXISTS = 0x89, "Key Exists"


class CommandSpecificStatus(StatusCode):
    """SCT 1, Command Specific Status (3.3.3.2.2); 80h on is the NVM and Zoned command sets'."""

    COMPLETION_QUEUE_INVALID = 0x00, "Completion Queue Invalid"
    INVALID_QUEUE_IDENTIFIER = 0x01, "Invalid Queue Identifier"
    INVALID_QUEUE_SIZE = 0x02, "Invalid Queue Size"
    ABORT_COMMAND_LIMIT_EXCEEDED = 0x03, "Abort Command Limit Exceeded"
    ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED = 0x05, "Asynchronous Event Request Limit Exceeded"
    INVALID_FIRMWARE_SLOT = 0x06, "Invalid Firmware Slot"
    INVALID_FIRMWARE_IMAGE = 0x07, "Invalid Firmware Image"
    INVALID_INTERRUPT_VECTOR = 0x08, "Invalid Interrupt Vector"
    INVALID_LOG_PAGE = 0x09, "Invalid Log Page"
    INVALID_FORMAT = 0x0A, "Invalid Format"
    FIRMWARE_NEEDS_CONVENTIONAL_RESET = (
        0x0B,
        "Firmware Activation Requires Conventional Reset",
    )
    INVALID_QUEUE_DELETION = 0x0C, "Invalid Queue Deletion"
    FEATURE_NOT_SAVEABLE = 0x0D, "Feature Identifier Not Saveable"
    FEATURE_NOT_CHANGEABLE = 0x0E, "Feature Not Changeable"
    FEATURE_NOT_NAMESPACE_SPECIFIC = 0x0F, "Feature Not Namespace Specific"
    FIRMWARE_NEEDS_SUBSYSTEM_RESET = 0x10, "Firmware Activation Requires NVM Subsystem Reset"
    FIRMWARE_NEEDS_CONTROLLER_RESET = 0x11, "Firmware Activation Requires Controller Level Reset"
    FIRMWARE_NEEDS_MAX_TIME_VIOLATION = (
        0x12,
        "Firmware Activation Requires Maximum Time Violation",
    )
    FIRMWARE_ACTIVATION_PROHIBITED = 0x13, "Firmware Activation Prohibited"
    OVERLAPPING_RANGE = 0x14, "Overlapping Range"
    NAMESPACE_INSUFFICIENT_CAPACITY = 0x15, "Namespace Insufficient Capacity"
    NAMESPACE_ID_UNAVAILABLE = 0x16, "Namespace Identifier Unavailable"
    NAMESPACE_ALREADY_ATTACHED = 0x18, "Namespace Already Attached"
    NAMESPACE_IS_PRIVATE = 0x19, "Namespace Is Private"
    NAMESPACE_NOT_ATTACHED = 0x1A, "Namespace Not Attached"
    THIN_PROVISIONING_NOT_SUPPORTED = 0x1B, "Thin Provisioning Not Supported"
    CONTROLLER_LIST_INVALID = 0x1C, "Controller List Invalid"
    SELF_TEST_IN_PROGRESS = 0x1D, "Device Self-test In Progress"
    BOOT_PARTITION_WRITE_PROHIBITED = 0x1E, "Boot Partition Write Prohibited"
    INVALID_CONTROLLER_ID = 0x1F, "Invalid Controller Identifier"
    INVALID_SECONDARY_CONTROLLER_STATE = 0x20, "Invalid Secondary Controller State"
    INVALID_NUMBER_OF_CONTROLLER_RESOURCES = 0x21, "Invalid Number of Controller Resources"
    INVALID_RESOURCE_ID = 0x22, "Invalid Resource Identifier"
    SANITIZE_PROHIBITED_PMR_ENABLED = (
        0x23,
        "Sanitize Prohibited While Persistent Memory Region is Enabled",
    )
    ANA_GROUP_ID_INVALID = 0x24, "ANA Group Identifier Invalid"
    ANA_ATTACH_FAILED = 0x25, "ANA Attach Failed"
    INSUFFICIENT_CAPACITY = 0x26, "Insufficient Capacity"
    NAMESPACE_ATTACHMENT_LIMIT_EXCEEDED = 0x27, "Namespace Attachment Limit Exceeded"
    PROHIBITION_NOT_SUPPORTED = 0x28, "Prohibition of Command Execution Not Supported"
    IOCS_NOT_SUPPORTED = 0x29, "I/O Command Set Not Supported"
    IOCS_NOT_ENABLED = 0x2A, "I/O Command Set Not Enabled"
    IOCS_COMBINATION_REJECTED = 0x2B, "I/O Command Set Combination Rejected"
    INVALID_IOCS = 0x2C, "Invalid I/O Command Set"
    IDENTIFIER_UNAVAILABLE = 0x2D, "Identifier Unavailable"
    INVALID_CONTROLLER_DATA_QUEUE = 0x37, "Invalid Controller Data Queue"
    NOT_ENOUGH_RESOURCES = 0x38, "Not Enough Resources"
    CONTROLLER_SUSPENDED = 0x39, "Controller Suspended"
    CONTROLLER_NOT_SUSPENDED = 0x3A, "Controller Not Suspended"
    CONTROLLER_DATA_QUEUE_FULL = 0x3B, "Controller Data Queue Full"
    STREAM_RESOURCE_ALLOCATION_FAILED = 0x7F, "Stream Resource Allocation Failed"
    CONFLICTING_ATTRIBUTES = 0x80, "Conflicting Attributes"
    INVALID_PROTECTION_INFO = 0x81, "Invalid Protection Information"
    WRITE_TO_READ_ONLY_RANGE = 0x82, "Attempted Write to Read Only Range"
    COMMAND_SIZE_LIMIT_EXCEEDED = 0x83, "Command Size Limit Exceeded"
    INVALID_COMMAND_ID = 0x84, "Invalid Command ID"
    INCOMPATIBLE_NAMESPACE_OR_FORMAT = 0x85, "Incompatible Namespace or Format"
    FAST_COPY_NOT_POSSIBLE = 0x86, "Fast Copy Not Possible"
    OVERLAPPING_IO_RANGE = 0x87, "Overlapping I/O Range"
    INSUFFICIENT_RESOURCES = 0x89, "Insufficient Resources"
    ZNS_INVALID_ZONE_OPERATION_REQUEST = 0xB6, "Invalid Zone Operation Request"
    ZNS_ZRWA_RESOURCES_UNAVAILABLE = 0xB7, "ZRWA Resources Unavailable"
    ZNS_BOUNDARY_ERROR = 0xB8, "Zone Boundary Error"
    ZNS_ZONE_IS_FULL = 0xB9, "Zone Is Full"
    ZNS_ZONE_IS_READ_ONLY = 0xBA, "Zone Is Read Only"
    ZNS_ZONE_IS_OFFLINE = 0xBB, "Zone Is Offline"
    ZNS_ZONE_INVALID_WRITE = 0xBC, "Zone Invalid Write"
    ZNS_TOO_MANY_ACTIVE_ZONES = 0xBD, "Too Many Active Zones"
    ZNS_TOO_MANY_OPEN_ZONES = 0xBE, "Too Many Open Zones"
    ZNS_INVALID_ZONE_STATE_TRANSITION = 0xBF, "Invalid Zone State Transition"


class FabricsStatus(StatusCode):
    """SCT 1 from 80h on as the completion of a Fabrics command (opcode 7Fh)."""

    CONNECT_INCOMPATIBLE_FORMAT = 0x80, "Connect Incompatible Format"
    CONNECT_CONTROLLER_BUSY = 0x81, "Connect Controller Busy"
    CONNECT_INVALID_PARAMETERS = 0x82, "Connect Invalid Parameters"
    CONNECT_RESTART_DISCOVERY = 0x83, "Connect Restart Discovery"
    CONNECT_INVALID_HOST = 0x84, "Connect Invalid Host"
    INVALID_QUEUE_TYPE = 0x85, "Invalid Queue Type"
    DISCOVER_RESTART = 0x90, "Discover Restart"
    AUTHENTICATION_REQUIRED = 0x91, "Authentication Required"


class MediaStatus(StatusCode):
    """SCT 2, Media and Data Integrity Errors (3.3.3.2.3)."""

    WRITE_FAULT = 0x80, "Write Fault"
    UNRECOVERED_READ_ERROR = 0x81, "Unrecovered Read Error"
    GUARD_CHECK_ERROR = 0x82, "End-to-end Guard Check Error"
    APPLICATION_TAG_CHECK_ERROR = 0x83, "End-to-end Application Tag Check Error"
    REFERENCE_TAG_CHECK_ERROR = 0x84, "End-to-end Reference Tag Check Error"
    COMPARE_FAILURE = 0x85, "Compare Failure"
    ACCESS_DENIED = 0x86, "Access Denied"
    DEALLOCATED_OR_UNWRITTEN_BLOCK = 0x87, "Deallocated or Unwritten Logical Block"
    STORAGE_TAG_CHECK_ERROR = 0x88, "End-to-End Storage Tag Check Error"


class PathStatus(StatusCode):
    """SCT 3, Path Related Status (3.3.3.2.4)."""

    INTERNAL_PATH_ERROR = 0x00, "Internal Path Error"
    ANA_PERSISTENT_LOSS = 0x01, "Asymmetric Access Persistent Loss"
    ANA_INACCESSIBLE = 0x02, "Asymmetric Access Inaccessible"
    ANA_TRANSITION = 0x03, "Asymmetric Access Transition"
    CONTROLLER_PATHING_ERROR = 0x60, "Controller Pathing Error"
    HOST_PATHING_ERROR = 0x70, "Host Pathing Error"
    ABORTED_BY_HOST = 0x71, "Command Aborted By Host"


_TABLES: dict[StatusCodeType, type[StatusCode]] = {
    StatusCodeType.GENERIC: GenericStatus,
    StatusCodeType.COMMAND_SPECIFIC: CommandSpecificStatus,
    StatusCodeType.MEDIA: MediaStatus,
    StatusCodeType.PATH: PathStatus,
}
#: By type and code, as they lie in the status field.
_CODES: dict[int, StatusCode] = {
    sct << 8 | code: code for sct, table in _TABLES.items() for code in table
}
_FABRICS_CODES: dict[int, StatusCode] = {int(code): code for code in FabricsStatus}


class Status(Register, width=15):
    """Status Field of a completion queue entry (3.3.3.2.1).

    The 15 bits above the Phase Tag, as the kernel's and nvme-cli's status values have them: the
    phase tells when an entry is new, nothing about its command, so two equal outcomes are equal
    numbers. `from_dw3` takes a completion's dword 3 apart.

    Command specific codes from 80h on mean something else to each I/O command set. The ranges of
    the NVM (80h to 89h) and the Zoned Namespace Command Set (B6h to BFh) don't meet, so `name`
    and `text` cover both; those of Fabrics commands do, and `code(fabrics=True)` reads them.
    """

    sc = Bits(7, 0, "Status Code")
    sct = Bits(10, 8, "Status Code Type", StatusCodeType)
    crd = Bits(12, 11, "Command Retry Delay (0: none, else CRDT1 to CRDT3)")
    m = Bit(13, "More (the Error Information log has an entry)")
    dnr = Bit(14, "Do Not Retry")
    _type_and_code: ClassVar[int] = sct.mask | sc.mask

    @classmethod
    def from_dw3(cls, dw3: int) -> Self:
        """Take the status out of a completion's dword 3 (bits 31:17; bit 16 is the phase)."""
        return cls(dw3 >> 17)

    @classmethod
    def of(cls, code: StatusCode, *, dnr: int = 0, m: int = 0, crd: int = 0) -> Self:
        """Make the status of a code; the table that it is in gives SCT."""
        sct = next((t for t, table in _TABLES.items() if isinstance(code, table)), None)
        if sct is None:
            sct = StatusCodeType.COMMAND_SPECIFIC  # the one table left, FabricsStatus
        return cls.build(sct=sct, sc=code, dnr=dnr, m=m, crd=crd)

    @property
    def ok(self) -> bool:
        """True for success: type and code are 0, both whole. CRD, M and DNR don't matter."""
        return not self & self._type_and_code

    def code(self, *, fabrics: bool = False) -> StatusCode | None:
        """Look the code up, None if it has no entry; `fabrics` for a completed Fabrics command."""
        if fabrics and self.sct == StatusCodeType.COMMAND_SPECIFIC and self.sc in _FABRICS_CODES:
            return _FABRICS_CODES[self.sc]
        return _CODES.get(self & self._type_and_code)

    @property
    def name(self) -> str:
        """The symbol, as LBA_OUT_OF_RANGE; for a code without one its type and number."""
        code = self.code()
        if code is not None:
            return str(code.name)
        kind = "VENDOR_SPECIFIC" if self.is_vendor_specific else f"SCT_{self.sct}"
        return f"{kind}_SC_{self.sc:#04x}"

    @property
    def text(self) -> str:
        """The specification's words, as "LBA Out of Range"; type and number if it has none."""
        code = self.code()
        if code is not None:
            return code.text
        kind = "Vendor Specific" if self.is_vendor_specific else f"Reserved, type {self.sct}"
        return f"{kind}, code {self.sc:#04x}"

    @property
    def is_vendor_specific(self) -> bool:
        """True for type 7, and for code C0h on of every type."""
        return self.sct == StatusCodeType.VENDOR_SPECIFIC or self.sc >= 0xC0

    def __str__(self) -> str:
        return f"{self.text} (SCT {self.sct:#x}, SC {self.sc:#04x})"
