"""What Identify says of the Zoned Namespace Command Set (ZNS 1.2, 4.1.5)."""

from .fields import U8, U16, U32, U64, Array, Bit, Raw, Register, Reserved, ReservedBytes, Struct

ZDE_UNIT = 64  # bytes that ZDES counts


class ZOC(Register, width=16):
    """Zone Operation Characteristics."""

    vzcap = Bit(0, "Variable Zone Capacity")
    zae = Bit(1, "Zone Active Excursions")
    _r15_2 = Reserved(15, 2)


class OZCS(Register, width=16):
    """Optional Zoned Command Support."""

    razb = Bit(0, "Read Across Zone Boundaries")
    zrwasup = Bit(1, "Zone Random Write Area Support")
    _r15_2 = Reserved(15, 2)


class ZRWACAP(Register, width=8):
    """Zone Random Write Area Capability."""

    expflushsup = Bit(0, "Explicit ZRWA Flush Support")
    _r7_1 = Reserved(7, 1)


class LbaFormatExtension(Struct, size=16):
    """LBA Format Extension (4.1.5.1): of the LBA format of the same index."""

    zsze = U64(0, "Zone Size (blocks)")
    zdes = U8(8, "Zone Descriptor Extension Size (64 B units)")
    _rsvd9 = ReservedBytes(9, 7)

    @property
    def extension_size(self) -> int:
        """Bytes of a zone descriptor extension; 0 if there is none."""
        return self.zdes * ZDE_UNIT


class IdentifyNamespaceZns(Struct, size=4096):
    """ZNS Identify Namespace (CNS 05h, CSI 02h; 4.1.5.1).

    A limit of active or open resources is FFFFFFFFh where there is none.
    """

    zoc = U16(0, "Zone Operation Characteristics", bits=ZOC)
    ozcs = U16(2, "Optional Zoned Command Support", bits=OZCS)
    mar = U32(4, "Maximum Active Resources (zero-based)")
    mor = U32(8, "Maximum Open Resources (zero-based)")
    rrl = U32(12, "Reset Recommended Limit (s)")
    frl = U32(16, "Finish Recommended Limit (s)")
    rrl1 = U32(20, "Reset Recommended Limit 1 (s)")
    rrl2 = U32(24, "Reset Recommended Limit 2 (s)")
    rrl3 = U32(28, "Reset Recommended Limit 3 (s)")
    frl1 = U32(32, "Finish Recommended Limit 1 (s)")
    frl2 = U32(36, "Finish Recommended Limit 2 (s)")
    frl3 = U32(40, "Finish Recommended Limit 3 (s)")
    numzrwa = U32(44, "Number of ZRWA Resources (zero-based)")
    zrwafg = U16(48, "ZRWA Flush Granularity (blocks)")
    zrwasz = U16(50, "ZRWA Size (blocks)")
    zrwacap = U8(52, "ZRWA Capability", bits=ZRWACAP)
    _rsvd53 = ReservedBytes(53, 2763)
    lbafes = Array(2816, 64, LbaFormatExtension, "LBA Format Extensions")
    vs = Raw(3840, 256, "Vendor Specific")


class IdentifyControllerZns(Struct, size=4096):
    """ZNS Identify Controller (CNS 06h, CSI 02h; 4.1.5.2)."""

    zasl = U8(0, "Zone Append Size Limit (2 ^ n CAP.MPSMIN pages, 0: MDTS)")
    _rsvd1 = ReservedBytes(1, 4095)
