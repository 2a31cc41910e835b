"""What is on a namespace: partition tables and file systems, known by their signatures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynvme_user import Namespace

_SECTOR = 512
#: The furthest signature, that of btrfs, lies just behind 64 KiB.
_SPAN = 68 << 10

#: What it is called, where its signature is, and the signature.
_MAGIC = (
    ("an XFS file system", 0, b"XFSB"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 54, b"FAT"),
    ("a FAT file system", 82, b"FAT32   "),
    ("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("a Linux RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a btrfs file system", 0x10040, b"_BHRfS_M"),
)


def find(ns: Namespace) -> str | None:
    """Read a namespace's first blocks and say what they hold; None if nothing is known.

    Raises as :meth:`Namespace.read`.
    """
    # Whole blocks that have all of the span in them, and those of a GPT.
    blocks = min(ns.block_count, max(2, -(-_SPAN // ns.block_size)))
    if not blocks:
        return None
    read = partial(_read_without_metadata, ns) if ns.metadata_size else partial(ns.read, 0)
    return identify(bytes(read(blocks)), ns.block_size)


def _read_without_metadata(ns: Namespace, blocks: int) -> bytes:
    """Read the first blocks of a namespace whose blocks have metadata, which is left out."""
    from pynvme_user.driver.completion import check
    from pynvme_user.spec.commands import SQE, NvmOpcode

    extended = ns.identify.flbas.mtelba
    data = ns.controller.alloc(ns.block_size + ns.metadata_size * extended)
    metadata = ns.controller.alloc(ns.metadata_size)
    found = b""
    with ns.controller.queue_pair(1) as pair:
        for lba in range(blocks):
            command = SQE.build(opc=NvmOpcode.READ, nsid=ns.nsid, mptr=metadata.iova, cdw10=lba)
            pair.submit(command, data)
            (done,) = pair.drain()
            check(done.status, f"Read of block {lba} (namespace {ns.nsid})")
            found += bytes(data[: ns.block_size])
    return found


def identify(head: bytes, block_size: int) -> str | None:
    """Say what begins with these bytes. A signature of two bytes alone proves nothing."""
    # A copy of a disk with blocks of another length may be here, too.
    if any(head[at : at + 8] == b"EFI PART" for at in (512, 4096, block_size)):
        return "a GPT partition table"
    for name, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    if any(head[at : at + 8] == b"LABELONE" for at in range(0, 4 * _SECTOR, _SECTOR)):
        return "an LVM physical volume"
    # The block size that follows from s_log_block_size is 64 KiB at most.
    if head[0x438:0x43A] == b"\x53\xef" and int.from_bytes(head[0x418:0x41C], "little") <= 6:
        return "an ext2, ext3 or ext4 file system"
    entries = [head[at : at + 16] for at in range(446, 510, 16)]
    if head[510:512] == b"\x55\xaa" and all(entry[0] in (0, 0x80) for entry in entries):
        return "an MBR partition table"
    return None
