"""What a command says besides blocks and memory: its hints, metadata and protection information."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from pynvme_user.dma import BytesLike
from pynvme_user.driver.geometry import Geometry
from pynvme_user.protection import fitting
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.directives import DirectiveType
from pynvme_user.spec.nvm import ProtectionCdw15, ReadWriteCdw13, WriteCdw12
from pynvme_user.spec.protection import PRINFO, ProtectionType
from pynvme_user.spec.zns import ZoneAppendCdw12


class TransferOptions(TypedDict, total=False):
    """Keywords of reads, writes and compares (NVM Command Set 1.1, sections 3.3.4 and 3.3.6).

    What is None is as what is left out.

    ``limited_retry`` lets the device not try long to get at the data (LR).

    ``dsm`` says how the data is used: dataset management bits, the lower 8 of
    :class:`~pynvme_user.spec.nvm.ReadWriteCdw13`. Not of a compare.

    ``stream`` is the identifier of a write's stream (Streams directive, Base 2.1, section 8.1.8.3).
    ``placement`` is its placement identifier (Data Placement directive, section 8.1.8.4; FDP).
    """

    limited_retry: bool
    dsm: int
    stream: int | None
    placement: int | None


class MetadataOptions(TransferOptions, total=False):
    """Keywords of I/O on namespaces with metadata (NVM Command Set 1.1, section 5.3).

    What is None is as what is left out. All but ``metadata`` are about protection information; and
    there are those of :class:`TransferOptions`.

    ``metadata`` is the blocks' metadata, one block's behind the other's, with the protection
    information in it; a read fills it.

    ``prinfo`` says what the controller inserts, strips and checks: :class:`PRINFO`. By default it
    checks the guard, with types 1 and 2 the reference tag, and the application tag where
    ``app_tag`` is given; and it inserts and strips (PRACT) where no metadata is given that is
    nothing else.

    ``ref_tag`` is the first block's reference tag; with types 1 and 2 it goes up by one a block. By
    default it is the lower bits of the LBA, with type 3 it is 0.

    ``app_tag`` is the application tag that is written or expected, 0 by default, and
    ``app_tag_mask`` has the bits of it that are checked, by default all 16.

    ``storage_tag`` is the storage tag that is written or expected, 0 by default; it is checked
    (STC) where it is given, or as ``storage_tag_check`` says.
    """

    metadata: BytesLike | None
    prinfo: PRINFO | int | None
    ref_tag: int | None
    app_tag: int | None
    app_tag_mask: int
    storage_tag: int | None
    storage_tag_check: bool | None


class AppendOptions(MetadataOptions, total=False):
    """Keywords of appends to a zone (Zoned Namespace Command Set 1.2, section 3.4.1).

    Those of writes. ``ref_tag`` is by default that of the zone's first block, and counted from it.

    ``piremap`` lets the controller add to the reference tags how far behind the zone's first block
    the data comes to lie; by default with type 1, which demands it.
    """

    piremap: bool | None


@dataclass(frozen=True, slots=True)
class MetadataCommand:
    """A read, write or compare on a namespace with metadata, but for its LBAs and memory."""

    #: With the first block's tags.
    sqe: SQE
    block_bytes: int  # of a block in the data's memory, as the device sees it
    metadata_bytes: int  # of a block's metadata in memory of its own; 0: none is moved there
    #: The controller inserts and strips protection information.
    pract: bool = False
    #: The tags of the first block, and bits of the reference tag if it goes up with the LBA, or 0.
    ref_tag: int = 0
    ref_tag_bits: int = 0
    app_tag: int = 0
    storage_tag: int = 0

    @property
    def template(self) -> SQE:
        """The same without a reference tag that goes up: C adds that of each I/O."""
        if not self.ref_tag_bits:
            return self.sqe
        tags = self.sqe.cdw2 << 64 | self.sqe.cdw3 << 32 | self.sqe.cdw14
        tags = tags >> self.ref_tag_bits << self.ref_tag_bits
        return self.sqe.replace(cdw3=tags >> 32 & 0xFFFFFFFF, cdw14=tags & 0xFFFFFFFF)

    def ref_tag_at(self, blocks: int) -> int:
        """Return the reference tag of a block so many behind the first."""
        if not self.ref_tag_bits:
            return self.ref_tag
        return self.ref_tag + blocks & (1 << self.ref_tag_bits) - 1


def metadata_command(
    geometry: Geometry,
    opcode: NvmOpcode,
    lba: int,
    *,
    fua: bool,
    pract: bool,
    options: Mapping[str, Any],
) -> MetadataCommand:
    """Make the command of an I/O from ``lba`` on.

    ``pract`` says whether the controller shall insert and strip protection information where
    nobody says and it can. Raises ValueError for keywords that the namespace or each other exclude.
    """
    size, extra = 1 << geometry.block_shift, geometry.metadata_size
    known = (AppendOptions if opcode is NvmOpcode.ZONE_APPEND else MetadataOptions).__annotations__
    if unknown := options.keys() - known:
        raise TypeError(
            f"{min(unknown)} is no keyword of a read or write: there are fua and "
            + ", ".join(known)
        )
    fields: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    metadata = fields.pop("metadata", None)
    hints = _hints(opcode, fields)
    protection = geometry.protection
    if protection is None:
        if any(fields.values()):
            what = f"has {extra} bytes of metadata in each block, but" if extra else "has"
            raise ValueError(
                f"namespace {geometry.nsid} {what} no protection information: leave out "
                + ", ".join(fields)
            )
        cdw12, cdw13 = hints
        if fua:
            cdw12 |= WriteCdw12.fua.mask
        sqe = SQE.build(opc=opcode, nsid=geometry.nsid, cdw12=cdw12, cdw13=cdw13)
        inside = extra if geometry.extended else 0
        return MetadataCommand(sqe, size + inside, extra - inside)
    stored = fields.get("storage_tag", 0)
    app_tag = fitting("application tag", fields.get("app_tag", 0), 16)
    mask = fitting("application tag's mask", fields.get("app_tag_mask", 0xFFFF), 16)
    ref_tag = fields.get("ref_tag", protection.ref_tag_of(lba))
    advances = protection.type is not ProtectionType.TYPE3
    if "prinfo" in fields:
        prinfo = PRINFO(fitting("PRINFO", int(fields["prinfo"]), PRINFO.width))
    else:
        prinfo = PRINFO.build(
            grdchk=1,
            rtchk=advances and protection.tags.reference_bits > 0,
            atchk="app_tag" in fields,
            pract=pract
            and metadata is None
            and protection.is_alone
            and opcode is not NvmOpcode.COMPARE,
        )
    remaps = opcode is NvmOpcode.ZONE_APPEND and fields.get(
        "piremap", protection.type is ProtectionType.TYPE1
    )
    stripped = bool(prinfo.pract) and protection.is_alone
    if stripped and metadata is not None:
        raise ValueError(
            "with PRACT the controller inserts and strips this namespace's metadata, which is "
            "nothing but protection information: leave out metadata, or PRACT of prinfo"
        )
    inside = extra if geometry.extended and not stripped else 0
    sqe = SQE.build(
        opc=opcode,
        nsid=geometry.nsid,
        cdw12=hints[0]
        | WriteCdw12.build(
            fua=fua,
            prinfo=prinfo,
            stc=bool(fields.get("storage_tag_check", "storage_tag" in fields))
            and protection.tags.storage_bits > 0,
        )
        | (ZoneAppendCdw12.piremap.mask if remaps else 0),
        cdw13=hints[1],
        cdw15=ProtectionCdw15.build(lbat=app_tag, lbatm=mask),
        **protection.tags.dwords(stored, ref_tag),
    )
    return MetadataCommand(
        sqe,
        block_bytes=size + inside,
        metadata_bytes=0 if inside or stripped else extra,
        ref_tag=ref_tag,
        ref_tag_bits=protection.tags.reference_bits if advances else 0,
        app_tag=app_tag,
        storage_tag=stored,
        pract=bool(prinfo.pract),
    )


def _hints(opcode: NvmOpcode, fields: dict[str, Any]) -> tuple[int, int]:
    """Take what any namespace's commands may have out of keywords: bits of dwords 12 and 13."""
    retry, dsm = bool(fields.pop("limited_retry", False)), fields.pop("dsm", 0)
    stream, placement = fields.pop("stream", None), fields.pop("placement", None)
    if dsm and opcode not in (NvmOpcode.READ, NvmOpcode.WRITE):
        raise ValueError("dataset management bits are of reads and writes: leave out dsm")
    kind, specific = 0, 0
    if stream is not None or placement is not None:
        if opcode not in (NvmOpcode.WRITE, NvmOpcode.ZONE_APPEND):
            raise ValueError("a stream and a placement are of writes: leave them out")
        if stream is not None and placement is not None:
            raise ValueError("a write goes by a stream or by a placement: leave out one of them")
        kind = DirectiveType.DATA_PLACEMENT if stream is None else DirectiveType.STREAMS
        what = "placement identifier" if stream is None else "stream identifier"
        specific = fitting(what, placement if stream is None else stream, 16)
    return (
        WriteCdw12.build(lr=retry, dtype=kind),
        ReadWriteCdw13.build(dspec=specific) | fitting("dataset management field", dsm, 8),
    )
