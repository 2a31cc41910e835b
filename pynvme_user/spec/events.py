"""What Asynchronous Event Request reports (NVMe Base 2.0, 5.2)."""

from enum import IntEnum

from .fields import Bits, Register, Reserved


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
