"""Log pages that carry data: telemetry, a boot partition, receiver eyes.

Sections and names are those of NVMe Base 2.1 and NVMe over PCIe 1.1.
"""

from enum import IntEnum
from typing import Any

from .fields import (
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

TELEMETRY_BLOCK = 512  # bytes; the header is block 0
BOOT_PARTITION_UNIT = 128 * 1024  # bytes of BPSZ


class TelemetryScope(IntEnum):
    """Whose state a telemetry page has."""

    NOT_REPORTED = 0
    CONTROLLER = 1
    NVM_SUBSYSTEM = 2


class TelemetryHostLsp(Register, width=7):
    """Log Specific Parameter of Telemetry Host-Initiated."""

    cthid = Bit(0, "Create Telemetry Host-Initiated Data")
    mcda = Bits(3, 1, "Maximum Created Data Area (0: the controller decides)")
    _r6_4 = Reserved(6, 4)


class TelemetryHostHeader(Struct, size=512):
    """Telemetry Host-Initiated, before the data blocks; each area begins at block 1."""

    lid = U8(0, "Log Page Identifier")
    _rsvd1 = ReservedBytes(1, 4)
    ieee = Raw(5, 3, "IEEE OUI Identifier, least significant byte first")
    da1lb = U16(8, "Data Area 1 Last Block; 0: no data")
    da2lb = U16(10, "Data Area 2 Last Block")
    da3lb = U16(12, "Data Area 3 Last Block")
    _rsvd14 = ReservedBytes(14, 2)
    da4lb = U32(16, "Data Area 4 Last Block")
    _rsvd20 = ReservedBytes(20, 360)
    ths = U8(380, "Telemetry Host-Initiated Scope", names=TelemetryScope)
    thdgn = U8(381, "Telemetry Host-Initiated Data Generation Number")
    tcda = U8(382, "Telemetry Controller-Initiated Data Available")
    tcdgn = U8(383, "Telemetry Controller-Initiated Data Generation Number")
    rid = Raw(384, 128, "Reason Identifier")


class TelemetryControllerHeader(Struct, size=512):
    """Telemetry Controller-Initiated, before the data blocks; each area begins at block 1."""

    lid = U8(0, "Log Page Identifier")
    _rsvd1 = ReservedBytes(1, 4)
    ieee = Raw(5, 3, "IEEE OUI Identifier, least significant byte first")
    da1lb = U16(8, "Data Area 1 Last Block; 0: no data")
    da2lb = U16(10, "Data Area 2 Last Block")
    da3lb = U16(12, "Data Area 3 Last Block")
    _rsvd14 = ReservedBytes(14, 2)
    da4lb = U32(16, "Data Area 4 Last Block")
    _rsvd20 = ReservedBytes(20, 361)
    tcs = U8(381, "Telemetry Controller-Initiated Scope", names=TelemetryScope)
    tcda = U8(382, "Telemetry Controller-Initiated Data Available")
    tcdgn = U8(383, "Telemetry Controller-Initiated Data Generation Number")
    rid = Raw(384, 128, "Reason Identifier")


def telemetry_length(header: TelemetryHostHeader | TelemetryControllerHeader, area: int = 4) -> int:
    """Return the bytes from the page's begin to the end of a data area, 1 to 4.

    Of the largest area up to `area`, as one without data has 0 for its last block. ValueError for
    another area.
    """
    if not 1 <= area <= 4:
        raise ValueError(f"telemetry has the data areas 1 to 4, not {area}")
    last = max((header.da1lb, header.da2lb, header.da3lb, header.da4lb)[:area])
    return (last + 1) * TELEMETRY_BLOCK


class TelemetryHostLog(
    StructList[TelemetryHostHeader, int], header=TelemetryHostHeader, element=bytes
):
    """Telemetry Host-Initiated (log identifier 07h, 5.1.12.1.8): data in blocks of 512 bytes."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page, with all four data areas."""
        return telemetry_length(self.header)


class TelemetryControllerLog(
    StructList[TelemetryControllerHeader, int], header=TelemetryControllerHeader, element=bytes
):
    """Telemetry Controller-Initiated (log identifier 08h, 5.1.12.1.9): blocks of 512 bytes."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page, with all four data areas."""
        return telemetry_length(self.header)


class BootPartitionLsp(Register, width=7):
    """Log Specific Parameter of Boot Partition."""

    bpid = Bit(0, "Boot Partition Identifier")
    _r6_1 = Reserved(6, 1)


class BootPartitionInfo(Register, width=32):
    """Boot Partition Information."""

    bpsz = Bits(14, 0, "Boot Partition Size, in 128 KiB")
    _r30_15 = Reserved(30, 15)
    abpid = Bit(31, "Active Boot Partition ID")


class BootPartitionHeader(Struct, size=16):
    """Boot Partition, before the data."""

    lid = U8(0, "Log Page Identifier")
    _rsvd1 = ReservedBytes(1, 3)
    bpinfo = U32(4, "Boot Partition Information", bits=BootPartitionInfo)
    _rsvd8 = ReservedBytes(8, 8)


class BootPartitionLog(
    StructList[BootPartitionHeader, int], header=BootPartitionHeader, element=bytes
):
    """Boot Partition (log identifier 15h, 5.1.12.1.21): what the partition holds."""

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.size + self.header.bpinfo.bpsz * BOOT_PARTITION_UNIT


class EomAction(IntEnum):
    """What a command for the receiver eyes has the controller do."""

    READ = 0
    START_AND_READ = 1
    ABORT_AND_CLEAR = 2


class EomQuality(IntEnum):
    """Quality of a measurement."""

    GOOD = 0
    BETTER = 1
    BEST = 2


class EomLsp(Register, width=7):
    """Log Specific Parameter of Physical Interface Receiver Eye Opening Measurement."""

    mqual = Bits(1, 0, "Measurement Quality", EomQuality)
    act = Bits(3, 2, "Action", EomAction)
    _r6_4 = Reserved(6, 4)


class EomProgress(IntEnum):
    """How far a measurement is."""

    NOT_STARTED = 0
    IN_PROGRESS = 1
    COMPLETED = 2


class ODP(Register, width=8):
    """Optional Data Present."""

    pefp = Bit(0, "Printable Eye Field Present")
    edfp = Bit(1, "Eye Data Field Present")
    _r7_2 = Reserved(7, 2)


class LINFO(Register, width=8):
    """Link Information."""

    mls = Bits(3, 0, "Measurement Link Speed")
    _r7_4 = Reserved(7, 4)


class MSTAT(Register, width=8):
    """Measurement Status."""

    mscs = Bit(0, "Measurement Successful")
    _r7_1 = Reserved(7, 1)


class EomHeader(Struct, size=64):
    """Physical Interface Receiver Eye Opening Measurement, before the lanes."""

    lid = U8(0, "Log Identifier")
    eomip = U8(1, "EOM In Progress", names=EomProgress)
    hsize = U16(2, "Header Size, in bytes")
    rsz = U32(4, "Result Size, in bytes")
    edgn = U8(8, "EOM Data Generation Number")
    lrev = U8(9, "Log Revision")
    odp = U8(10, "Optional Data Present", bits=ODP)
    lns = U8(11, "Lanes")
    epl = U8(12, "Eyes Per Lane")
    lspfc = U8(13, "Log Specific Parameter Field Copy")
    linfo = U8(14, "Link Information", bits=LINFO)
    _rsvd15 = ReservedBytes(15, 3)
    lsic = U16(18, "Log Specific Identifier Copy, a controller's")
    ds = U32(20, "Descriptor Size, in bytes")
    nd = U16(24, "Number of Descriptors")
    maxtb = U16(26, "Maximum Top Bottom, in rows")
    maxlr = U16(28, "Maximum Left Right, in columns")
    etgood = U16(30, "Estimated Time for Good Quality, in seconds")
    etbetter = U16(32, "Estimated Time for Better Quality, in seconds")
    etbest = U16(34, "Estimated Time for Best Quality, in seconds")
    _rsvd36 = ReservedBytes(36, 28)


class EomLaneHeader(Struct, size=32):
    """EOM Lane Descriptor, before the eye."""

    _rsvd0 = ReservedBytes(0, 1)
    mstat = U8(1, "Measurement Status", bits=MSTAT)
    ln = U8(2, "Lane")
    eye = U8(3, "Eye; 0: that at the lowest voltage")
    top = U16(4, "Top, in rows from the center")
    btm = U16(6, "Bottom, in rows from the center")
    lft = U16(8, "Left, in columns from the center")
    rgt = U16(10, "Right, in columns from the center")
    nrows = U16(12, "Number of Rows")
    ncols = U16(14, "Number of Columns")
    edlen = U32(16, "Eye Data Length, in bytes")
    _rsvd20 = ReservedBytes(20, 12)


class EomLane(
    StructList[EomLaneHeader, int],
    header=EomLaneHeader,
    element=bytes,
    count=lambda header: header.nrows * header.ncols + header.edlen,
):
    """EOM Lane Descriptor (NVMe over PCIe 1.1): one eye."""

    @property
    def printable_eye(self) -> list[str]:
        """The eye's rows: ``0`` is on or inside it, ``1`` outside."""
        columns, picture = self.header.ncols, self.data[: self._picture_size]
        rows = (picture[at : at + columns] for at in range(0, len(picture), columns or 1))
        return [row.decode("latin-1") for row in rows]

    @property
    def eye_data(self) -> bytes:
        """What the vendor measured."""
        return self.data[self._picture_size :]

    @property
    def _picture_size(self) -> int:
        return self.header.nrows * self.header.ncols

    def to_dict(self) -> dict[str, Any]:
        """Return the header's fields by name, ``printable_eye`` and ``eye_data`` in hex digits."""
        plain = self.header.to_dict()
        return plain | {"printable_eye": self.printable_eye, "eye_data": self.eye_data.hex()}


class EomLog(
    StructList[EomHeader, EomLane],
    header=EomHeader,
    element=EomLane,
    count="nd",
    start=lambda header: header.hsize,
    stride=lambda header: header.ds,
):
    """Physical Interface Receiver Eye Opening Measurement (log identifier 19h; NVMe over PCIe 1.1).

    LSI is the id of the controller whose port is measured.
    """

    @property
    def total_length(self) -> int:
        """Bytes of the whole page."""
        return self.header.rsz
