"""How a job reads and writes a namespace with metadata, as fio has it.

By pi_act=1 the controller inserts and strips protection information; where the metadata is nothing
else, none of it is moved then. Else protection information is generated and checked here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.metadata import MetadataOptions, metadata_command
from pynvme_user.protection import Protection
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.protection import PRINFO, ProtectionType
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.metadata import Metadata

#: Data and metadata of an I/O begin at pages, each.
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Carried:
    """What a job's I/O on one namespace carries."""

    geometry: Geometry
    metadata: Metadata
    options: MetadataOptions  # of its commands
    metadata_piece: int  # bytes of an I/O's memory that metadata of its own takes

    @property
    def block_bytes(self) -> int:
        """Bytes of a block as the job counts them: with metadata that follows the data."""
        return self.metadata.block_bytes

    @property
    def command_blocks(self) -> int:
        """Blocks that one command carries at most."""
        most = self.geometry.max_blocks
        # The next command's data and metadata begin at dwords.
        if (self.metadata.block_bytes | self.metadata.metadata_bytes) & 3 and most > 4:
            most -= most % 4
        return most

    def command(self, opcode: NvmOpcode, *, fua: bool) -> bytes:
        """Make a command, without what each I/O adds."""
        made = metadata_command(
            self.geometry, opcode, 0, fua=fua, pract=False, options=self.options
        )
        return bytes(made.template)

    def placed(self, data_piece: int) -> Metadata:
        """Tell C where metadata of its own lies: behind so many bytes of data."""
        return replace(self.metadata, offset=data_piece if self.metadata_piece else 0)


def carried(job: Job, geometry: Geometry, device: str) -> Carried | None:
    """Tell what the job's I/O carries on a namespace; None where that is data alone.

    Raises JobError.
    """
    if not geometry.metadata_size:
        return None
    protection = geometry.protection
    options: MetadataOptions = {}
    if protection is not None:
        prinfo = PRINFO.build(
            pract=job.pi_act,
            grdchk="GUARD" in job.pi_chk,
            atchk="APPTAG" in job.pi_chk,
            rtchk="REFTAG" in job.pi_chk,
        )
        options = {"prinfo": prinfo, "app_tag": job.apptag, "app_tag_mask": job.apptag_mask}
    made = metadata_command(geometry, NvmOpcode.READ, 0, fua=False, pract=False, options=options)
    size = 1 << geometry.block_shift
    moves = job.directions - {Direction.TRIM}
    if made.block_bytes != size and job.verify is not None:
        raise JobError(
            f"job {job.name!r}: on {device} {geometry.metadata_size} bytes of metadata follow the "
            "data of each block, where verify has its own: leave verify out, or format it with "
            "metadata apart"
        )
    return Carried(
        geometry,
        _told(job, made.block_bytes, made.metadata_bytes, made.ref_tag_bits, protection),
        options,
        _metadata_piece(job, size, made.metadata_bytes, device) if moves else 0,
    )


def _told(
    job: Job,
    block_bytes: int,
    metadata_bytes: int,
    ref_tag_bits: int,
    protection: Protection | None,
) -> Metadata:
    made = Metadata(
        block_bytes=block_bytes, metadata_bytes=metadata_bytes, ref_tag_bits=ref_tag_bits
    )
    if protection is None or job.pi_act:
        return made
    return replace(
        made,
        protection=protection,
        guard="GUARD" in job.pi_chk,
        ref_tag="REFTAG" in job.pi_chk and protection.type is not ProtectionType.TYPE3,
        app_tag=job.apptag,
        app_tag_mask=job.apptag_mask if "APPTAG" in job.pi_chk else 0,
    )


def _metadata_piece(job: Job, size: int, each: int, device: str) -> int:
    """Tell how many bytes an I/O's metadata takes, where it lies apart."""
    moved = job.directions - {Direction.TRIM}
    needed = max(job.block_sizes[way].largest for way in moved) // size * each
    if job.md_per_io_size and job.md_per_io_size < needed:
        raise JobError(
            f"job {job.name!r}: {device} has {each} bytes of metadata for each block, and an I/O "
            f"has up to {needed}: md_per_io_size is at least {needed}, or left out"
        )
    return -(-max(needed, job.md_per_io_size if each else 0) // _PAGE) * _PAGE
