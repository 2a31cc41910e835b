"""Security Send and Receive (NVMe Base 2.1, 5.1.23, 5.1.24), and RPMB frames (8.1.21).

What a security protocol other than NVMe's own transfers is SPC's and the TCG's affair.
"""

from enum import IntEnum

from .fields import (
    BE16,
    U8,
    U16,
    U32,
    Bit,
    Bits,
    Raw,
    Register,
    Reserved,
    ReservedBytes,
    Struct,
)
from .lists import StructList

RPMB_SPSP = 1  # SP Specific of RPMB, security protocol NVME
RPMB_SECTOR = 512  # the bytes of a sector of an RPMB target
RPMB_SIGNED_FROM = 223  # the first byte of a frame that the MAC is of; it goes to the data's end


class SecurityProtocol(IntEnum):
    """SECP, a security protocol (SPC-5)."""

    INFORMATION = 0x00
    TCG_1 = 0x01
    TCG_2 = 0x02
    TCG_3 = 0x03
    TCG_4 = 0x04
    TCG_5 = 0x05
    TCG_6 = 0x06
    NVME = 0xEA
    ATA_SECURITY = 0xEF


class SecurityCdw10(Register, width=32):
    """Security Send and Receive, dword 10 (5.1.23, 5.1.24)."""

    nssf = Bits(7, 0, "NVMe Security Specific Field (with NVME: the RPMB target)")
    spsp0 = Bits(15, 8, "SP Specific 0")
    spsp1 = Bits(23, 16, "SP Specific 1")
    secp = Bits(31, 24, "Security Protocol", SecurityProtocol)

    @property
    def spsp(self) -> int:
        """SP Specific, both halves."""
        return self.spsp1 << 8 | self.spsp0


class SecuritySendCdw11(Register, width=32):
    """Security Send, dword 11 (5.1.24)."""

    tl = Bits(31, 0, "Transfer Length (bytes)")


class SecurityReceiveCdw11(Register, width=32):
    """Security Receive, dword 11 (5.1.23)."""

    al = Bits(31, 0, "Allocation Length (bytes)")


class SupportedProtocolsHeader(Struct, size=8):
    """The first bytes of the list of security protocols."""

    _r0 = ReservedBytes(0, 6)
    length = BE16(6, "Supported Security Protocol List Length (bytes)")


class SupportedProtocols(
    StructList[SupportedProtocolsHeader, int],
    header=SupportedProtocolsHeader,
    element=1,
    count="length",
):
    """Supported Security Protocols: INFORMATION with SP Specific 0 (SPC-5)."""


class RpmbMessage(IntEnum):
    """The request of an RPMB frame; its response is 100h times it."""

    AUTHENTICATION_KEY_PROGRAM = 0x0001
    READ_WRITE_COUNTER = 0x0002
    AUTHENTICATED_DATA_WRITE = 0x0003
    AUTHENTICATED_DATA_READ = 0x0004
    READ_RESULT = 0x0005
    DEVICE_CONFIGURATION_BLOCK_WRITE = 0x0006
    DEVICE_CONFIGURATION_BLOCK_READ = 0x0007


class RpmbOperationStatus(IntEnum):
    """What became of an RPMB operation."""

    SUCCESSFUL = 0
    GENERAL_FAILURE = 1
    AUTHENTICATION_FAILURE = 2
    COUNTER_FAILURE = 3
    ADDRESS_FAILURE = 4
    WRITE_FAILURE = 5
    READ_FAILURE = 6
    KEY_NOT_PROGRAMMED = 7
    INVALID_DEVICE_CONFIGURATION_BLOCK = 8


#: In the specification's words.
RPMB_STATUS_TEXT: dict[int, str] = {
    RpmbOperationStatus.SUCCESSFUL: "Operation successful",
    RpmbOperationStatus.GENERAL_FAILURE: "General failure",
    RpmbOperationStatus.AUTHENTICATION_FAILURE: (
        "Authentication failure (MAC comparison not matching, MAC calculation failure)"
    ),
    RpmbOperationStatus.COUNTER_FAILURE: (
        "Counter failure (counters not matching in comparison, counter incrementing failure)"
    ),
    RpmbOperationStatus.ADDRESS_FAILURE: (
        "Address failure (address out of range, wrong address alignment)"
    ),
    RpmbOperationStatus.WRITE_FAILURE: "Write failure (data/counter/result write failure)",
    RpmbOperationStatus.READ_FAILURE: "Read failure (data/counter/result read failure)",
    RpmbOperationStatus.KEY_NOT_PROGRAMMED: "Authentication Key not yet programmed",
    RpmbOperationStatus.INVALID_DEVICE_CONFIGURATION_BLOCK: (
        "Invalid RPMB Device Configuration Block"
    ),
}


class RpmbResult(Register, width=16):
    """The result of an RPMB frame (8.1.21)."""

    status = Bits(6, 0, "Operation Status", RpmbOperationStatus)
    wce = Bit(7, "Write Counter has Expired")
    _r15_8 = Reserved(15, 8)


class RpmbFrameHeader(Struct, size=256):
    """The first bytes of an RPMB frame (8.1.21)."""

    _stuff = ReservedBytes(0, 191)
    mac = Raw(191, 32, "Authentication Key or Message Authentication Code")
    target = U8(223, "RPMB Target")
    nonce = Raw(224, 16, "Nonce")
    wcount = U32(240, "Write Counter")
    addr = U32(244, "Address (sectors)")
    scount = U32(248, "Sector Count")
    result = U16(252, "Result", bits=RpmbResult)
    message = U16(254, "Request or Response Message", names=RpmbMessage)


class RpmbFrame(StructList[RpmbFrameHeader, int], header=RpmbFrameHeader, element=bytes):
    """RPMB Data Frame (8.1.21): a header, and the data of as many sectors as were transferred."""


class BootPartitionProtectionEnable(Register, width=8):
    """Byte 0 of the RPMB Device Configuration Block."""

    bppe = Bit(0, "Boot Partition Write Protection Enabled (for good)")
    _r7_1 = Reserved(7, 1)


class BootPartitionLock(Register, width=8):
    """Byte 1 of the RPMB Device Configuration Block."""

    bp0l = Bit(0, "Boot Partition 0 Write Locked")
    bp1l = Bit(1, "Boot Partition 1 Write Locked")
    _r7_2 = Reserved(7, 2)


class RpmbDeviceConfigurationBlock(Struct, size=512):
    """RPMB Device Configuration Block (8.1.21)."""

    bppe = U8(0, "Boot Partition Protection Enable", bits=BootPartitionProtectionEnable)
    bpl = U8(1, "Boot Partition Lock", bits=BootPartitionLock)
    _r2 = ReservedBytes(2, 510)
